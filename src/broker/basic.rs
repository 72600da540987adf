//! basic.* but publish and deliver: consumers come and go, deliveries are settled. And confirm.select, channel.flow,
//! and what is left behind when a channel or connection ends.

use std::ops::RangeInclusive;
use std::time::Instant;

use super::arguments::QueueArguments;
use super::broker::{Broker, ConnectionId};
use super::channel::{Channel, Consumer, Content, Unacked};
use super::command::Consume;
use super::dead_letter::Reason;
use super::fault::{Fault, Kind, text};
use super::notice::Limit;
use super::publish::REPLY_TO;
use super::queue::{Place, Queue, Turn};
use super::slots::Key;
use super::write::{self, Method};
use crate::amqp::spec;
use crate::amqp::table::{self, Value};

impl Broker {
    pub(super) fn channel(&mut self, id: ConnectionId, number: u16) -> Option<&mut Channel> {
        self.connections.get_mut(id)?.channel(number)
    }

    /// As RabbitMQ reads it: without `global` for each consumer to come, with it for all of the channel together.
    pub(super) fn qos(
        &mut self,
        id: ConnectionId,
        number: u16,
        prefetch_bytes: u32,
        prefetch_count: u16,
        is_global: bool,
    ) -> Result<usize, Fault> {
        if prefetch_bytes != 0 {
            return Err(Fault::NotImplemented("prefetch_size!=0"));
        }
        if let Some(channel) = self.channel(id, number) {
            if is_global {
                channel.prefetch_of_all = prefetch_count;
            } else {
                channel.prefetch_of_new = prefetch_count;
            }
        }
        let work = self.wake_channel(id, number);
        self.say(id, |out| write::bare(out, number, spec::BASIC_QOS_OK));
        Ok(work)
    }

    pub(super) fn flow(&mut self, id: ConnectionId, number: u16, is_active: bool) -> usize {
        if let Some(channel) = self.channel(id, number) {
            channel.is_paused = !is_active;
        }
        let work = self.wake_channel(id, number);
        self.say(id, |out| {
            Method::new(out, number, spec::CHANNEL_FLOW_OK).u8(u8::from(is_active)).end();
        });
        work
    }

    pub(super) fn select_confirms(&mut self, id: ConnectionId, number: u16, no_wait: bool) {
        if let Some(channel) = self.channel(id, number) {
            channel.confirms.get_or_insert_default();
        }
        if !no_wait {
            self.say(id, |out| write::bare(out, number, spec::CONFIRM_SELECT_OK));
        }
    }

    pub(super) fn consume(
        &mut self,
        now: Instant,
        id: ConnectionId,
        number: u16,
        consume: &Consume<'_>,
    ) -> Result<(), Fault> {
        let named = if consume.queue == REPLY_TO {
            None
        } else {
            Some(self.find_queue(id, number, consume.queue)?)
        };
        let tag = match consume.consumer_tag {
            b"" => self.made_up_name("amq.ctag-"),
            tag => tag.to_vec(),
        };
        let Some(channel) = self.channel(id, number) else { return Ok(()) };
        let prefetch = channel.prefetch_of_new;
        if channel.consumers.contains_key(&tag) {
            return Err(Fault::ConsumerTagTaken(text(&tag)));
        }
        if self.consumers.len() >= self.options.consumers_max {
            self.meet(Limit::Consumers);
            return Err(Fault::ConsumerLimit(self.options.consumers_max));
        }
        let key = match named {
            Some(key) => key,
            None => self.make_reply_queue(now, id, number, consume)?,
        };
        let Some(queue) = self.queues.get_mut(key) else { return Ok(()) };
        if queue.is_exclusively_consumed || (consume.exclusive && !queue.consumers.is_empty()) {
            return Err(Fault::ExclusiveUse(text(&queue.name)));
        }
        let priority =
            table::find(consume.arguments, b"x-priority").and_then(Value::integer).unwrap_or_default();
        let priority = priority.clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as i32;
        let consumer = self.consumers.insert(Consumer {
            connection: id,
            channel: number,
            queue: key,
            tag: tag.clone(),
            no_ack: consume.no_ack,
            priority,
            prefetch,
            unacked: 0,
            is_full: false,
            is_waiting: false,
        });
        queue.is_exclusively_consumed = consume.exclusive;
        queue.consumers.push(consumer);
        queue.enter(Turn { consumer, priority });
        queue.last_used = now;
        if let Some(connection) = self.connections.get_mut(id) {
            connection.consumers += 1;
            if let Some(channel) = connection.channel(number) {
                channel.consumers.insert(tag.clone(), consumer);
            }
        }
        if !consume.no_wait {
            self.say(id, |out| Method::new(out, number, spec::BASIC_CONSUME_OK).short(&tag).end());
        }
        self.make_due(key);
        Ok(())
    }

    /// RabbitMQ's direct reply-to: a queue of the channel's own that goes with its consumer, and whose name stands in
    /// for amq.rabbitmq.reply-to in what the channel publishes.
    fn make_reply_queue(
        &mut self,
        now: Instant,
        id: ConnectionId,
        number: u16,
        consume: &Consume<'_>,
    ) -> Result<Key, Fault> {
        if !consume.no_ack {
            return Err(Fault::ReplyConsumerAck);
        }
        let count_max = self.options.queues_max;
        if self.queues.len() >= count_max {
            self.meet(Limit::Queues);
            return Err(Fault::EntityLimit { kind: Kind::Queue, name: text(consume.queue), count_max });
        }
        let name = self.made_up_name("amq.rabbitmq.reply-to.");
        // Whoever is asked learns the name, and may do nothing with it but publish.
        let queue = Queue {
            auto_delete: true,
            exclusive_to: Some(id),
            ..Queue::new(name.as_slice().into(), QueueArguments::default(), now)
        };
        let shared = queue.name.clone();
        let key = self.queues.insert(queue);
        self.queue_names.insert(shared, key);
        if let Some(connection) = self.connections.get_mut(id) {
            connection.exclusive_queues.push(key);
            if let Some(channel) = connection.channel(number) {
                channel.reply_queue = Some(name);
            }
        }
        Ok(key)
    }

    /// Returns the units of work that it took, as the next one.
    pub(super) fn cancel(
        &mut self,
        now: Instant,
        id: ConnectionId,
        number: u16,
        tag: &[u8],
        no_wait: bool,
    ) -> usize {
        let found = self.channel(id, number).and_then(|channel| channel.consumers.get(tag).copied());
        // A tag that is not known counts as cancelled (basic.cancel in the reference).
        let work = found.map(|consumer| self.drop_consumers(now, &[consumer], false));
        if !no_wait {
            self.say(id, |out| Method::new(out, number, spec::BASIC_CANCEL_OK).short(tag).end());
        }
        work.unwrap_or_default()
    }

    /// Removes consumers; their deliveries stay with their channels. `notify`: their queue is gone, so tell the clients
    /// that understand. Many at a time, since each queue has them in a row.
    pub(super) fn drop_consumers(&mut self, now: Instant, keys: &[Key], notify: bool) -> usize {
        let mut queues = Vec::new();
        let mut waited = Vec::new();
        for key in keys {
            let Some(consumer) = self.consumers.remove(*key) else { continue };
            let (id, number) = (consumer.connection, consumer.channel);
            queues.push(consumer.queue);
            let Some(connection) = self.connections.get_mut(id) else { continue };
            connection.consumers = connection.consumers.saturating_sub(1);
            if consumer.is_waiting {
                waited.push(id);
            }
            let understands = connection.capabilities.consumer_cancel_notify;
            if let Some(channel) = connection.channel(number) {
                channel.consumers.remove(&consumer.tag);
            }
            if notify && understands {
                self.say(id, |out| {
                    // The second argument is no-wait: nobody needs the answer.
                    Method::new(out, number, spec::BASIC_CANCEL).short(&consumer.tag).u8(1).end();
                });
            }
        }
        let mut work = keys.len();
        waited.sort_unstable();
        waited.dedup();
        for id in waited {
            if let Some(connection) = self.connections.get_mut(id) {
                work += connection.full_consumers.len() / 64;
                connection.full_consumers.retain(|key| self.consumers.get(*key).is_some());
            }
        }
        queues.sort_unstable();
        queues.dedup();
        for key in queues {
            let Some(queue) = self.queues.get_mut(key) else { continue };
            queue.last_used = now;
            work += queue.consumers.len() / 64;
            if queue.keep_consumers(|key| self.consumers.get(key).is_some()) && queue.auto_delete {
                work += self.remove_queue(now, key);
                continue;
            }
            // With a single active consumer it is the next one's turn.
            if let Some(next) =
                queue.consumers.first().copied().filter(|_| queue.arguments.single_active_consumer)
            {
                self.wake_consumer(next);
            }
        }
        work
    }

    pub(super) fn get(
        &mut self,
        now: Instant,
        id: ConnectionId,
        number: u16,
        queue: &[u8],
        no_ack: bool,
    ) -> Result<(), Fault> {
        let key = self.find_queue(id, number, queue)?;
        self.drop_expired(now, key);
        let unacked_max = self.options.unacked_max;
        let Some(queue) = self.queues.get_mut(key) else { return Ok(()) };
        queue.last_used = now;
        let Some(connection) = self.connections.get_mut(id) else { return Ok(()) };
        let frame_max = connection.frame_max;
        let is_full = connection.channel(number).is_none_or(|channel| channel.unacked.len() >= unacked_max);
        let place = if is_full && !no_ack { None } else { queue.pop() };
        let Some(place) = place else {
            self.say(id, |out| Method::new(out, number, spec::BASIC_GET_EMPTY).short(b"").end());
            return Ok(());
        };
        let left = queue.ready.len() as u32;
        let Some(channel) = connection.channel(number) else { return Ok(()) };
        channel.next_delivery_tag += 1;
        let delivery_tag = channel.next_delivery_tag;
        if !no_ack {
            channel.unacked.push(Unacked { delivery_tag, queue: key, consumer: Key::NONE, place });
            self.store.wait();
        }
        if let Some(message) = self.store.get(place.message) {
            let tag = (delivery_tag, place.redelivered);
            let sent = write::Sent { key: place.message, message, channel: number, frame_max };
            if write::get_ok(&mut connection.out, tag, left, sent) {
                self.store.hold(place.message);
            }
        }
        self.stats.delivered += 1;
        self.stats.redelivered += u64::from(place.redelivered);
        if no_ack {
            self.store.release(place.message);
            self.stats.acknowledged += 1;
        }
        self.list(id);
        self.set_expiry(now, key);
        Ok(())
    }

    /// Takes deliveries from those that wait for an acknowledgement, into `self.settled`.
    fn settle(
        &mut self,
        id: ConnectionId,
        number: u16,
        delivery_tag: u64,
        multiple: bool,
    ) -> Result<Vec<Unacked>, Fault> {
        let mut settled = std::mem::take(&mut self.settled);
        settled.clear();
        let Some(channel) = self.channel(id, number) else { return Ok(settled) };
        let is_known = if multiple {
            channel.unacked.take_until(delivery_tag, &mut settled)
        } else {
            let taken = channel.unacked.take(delivery_tag);
            settled.extend(taken);
            taken.is_some()
        };
        self.store.settle(settled.len());
        if is_known { Ok(settled) } else { Err(Fault::UnknownDeliveryTag(delivery_tag)) }
    }

    /// After deliveries were settled: those who had no room for more may have some.
    fn after_settling(&mut self, id: ConnectionId, number: u16, settled: Vec<Unacked>) -> usize {
        for unacked in &settled {
            if let Some(consumer) = self.consumers.get_mut(unacked.consumer) {
                consumer.unacked = consumer.unacked.saturating_sub(1);
                if consumer.is_full {
                    self.wake_consumer(unacked.consumer);
                }
            }
        }
        let mut work = settled.len();
        let unacked_max = self.options.unacked_max;
        if !settled.is_empty()
            && self.channel(id, number).is_some_and(|channel| {
                channel.prefetch_of_all > 0 || channel.unacked.len() + settled.len() >= unacked_max
            })
        {
            work += self.wake_channel(id, number);
        }
        self.settled = settled;
        // A burst's room is given back.
        self.settled.shrink_to(4096);
        work
    }

    pub(super) fn ack(
        &mut self,
        id: ConnectionId,
        number: u16,
        delivery_tag: u64,
        multiple: bool,
    ) -> Result<usize, Fault> {
        let settled = self.settle(id, number, delivery_tag, multiple)?;
        for unacked in &settled {
            self.store.release(unacked.place.message);
        }
        self.stats.acknowledged += settled.len() as u64;
        Ok(self.after_settling(id, number, settled))
    }

    /// basic.nack and basic.reject.
    pub(super) fn nack(
        &mut self,
        id: ConnectionId,
        number: u16,
        delivery_tag: u64,
        multiple: bool,
        requeue: bool,
    ) -> Result<usize, Fault> {
        let mut settled = self.settle(id, number, delivery_tag, multiple)?;
        let mut work = 0;
        if requeue {
            work = self.requeue(&mut settled);
        } else {
            for unacked in &settled {
                self.stats.discarded += 1;
                self.let_go(unacked.queue, unacked.place.message, Reason::Rejected);
            }
        }
        Ok(work + self.after_settling(id, number, settled))
    }

    pub(super) fn recover(
        &mut self,
        id: ConnectionId,
        number: u16,
        requeue: bool,
        is_async: bool,
    ) -> Result<usize, Fault> {
        if !requeue {
            return Err(Fault::NotImplemented("recover with requeue=false"));
        }
        let mut settled = self.settle(id, number, 0, true)?;
        let work = self.requeue(&mut settled);
        if !is_async {
            self.say(id, |out| write::bare(out, number, spec::BASIC_RECOVER_OK));
        }
        Ok(work + self.after_settling(id, number, settled))
    }

    /// Puts messages back to where they were. Returns the units of work that it took.
    fn requeue(&mut self, settled: &mut [Unacked]) -> usize {
        settled.sort_unstable_by_key(|unacked| (unacked.queue, unacked.place.position));
        let mut work = 0;
        for of_queue in settled.chunk_by(|a, b| a.queue == b.queue) {
            let Some(key) = of_queue.first().map(|unacked| unacked.queue) else { continue };
            let Some(queue) = self.queues.get_mut(key) else {
                // The queue is gone, and its messages with it.
                of_queue.iter().for_each(|unacked| self.store.release(unacked.place.message));
                continue;
            };
            let places = of_queue.iter().map(|unacked| Place { redelivered: true, ..unacked.place });
            work += queue.put_back(places) / 64;
            self.make_due(key);
        }
        work
    }

    /// Takes everything back that channels have: deliveries go to their queues, consumers go.
    pub(super) fn release_channels(&mut self, now: Instant, id: ConnectionId, numbers: RangeInclusive<u16>) {
        let (mut consumers, mut settled) = (Vec::new(), Vec::new());
        for number in numbers.clone() {
            let Some(channel) = self.channel(id, number) else { continue };
            consumers.extend(std::mem::take(&mut channel.consumers).into_values());
            channel.unacked.take_until(0, &mut settled);
            if let Content::Body { incoming, .. } = std::mem::take(&mut channel.content) {
                self.let_out(id, &incoming);
            }
        }
        self.store.settle(settled.len());
        // First the messages, so that an auto-delete queue goes with all of them.
        self.turn_work += self.requeue(&mut settled);
        self.turn_work += self.drop_consumers(now, &consumers, false);
        for number in numbers {
            // What was taken from publishers is confirmed also on a channel that ends; it is in its queues.
            self.tell_confirms(id, number);
        }
    }

    /// Takes everything back that a connection has.
    pub(super) fn release(&mut self, now: Instant, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let last = connection.channels.len().saturating_sub(1) as u16;
        self.release_channels(now, id, 0..=last);
        self.leave_room(id);
        if let Some(connection) = self.connections.get_mut(id) {
            self.channels -= connection.channels.iter().flatten().count();
            connection.channels = Vec::new();
            connection.full_consumers = Vec::new();
            for queue in std::mem::take(&mut connection.exclusive_queues) {
                self.remove_queue(now, queue);
            }
        }
        debug_assert!(
            self.queues.iter().all(|(_, queue)| queue.exclusive_to != Some(id)),
            "an exclusive queue outlived its connection"
        );
    }

    /// A queue is to be served in this turn.
    pub(super) fn make_due(&mut self, key: Key) {
        if let Some(queue) = self.queues.get_mut(key)
            && !queue.is_due
            && queue.has_turns()
            && !queue.ready.is_empty()
        {
            queue.is_due = true;
            self.due_queues.push_back(key);
        }
    }

    /// A consumer that left its queue's row for want of room goes back.
    pub(super) fn wake_consumer(&mut self, key: Key) {
        let Some(consumer) = self.consumers.get_mut(key) else { return };
        if !std::mem::take(&mut consumer.is_full) {
            return;
        }
        let (queue, priority) = (consumer.queue, consumer.priority);
        if let Some(queue) = self.queues.get_mut(queue) {
            queue.enter(Turn { consumer: key, priority });
        }
        self.make_due(queue);
    }

    /// Returns the units of work that it took.
    fn wake_channel(&mut self, id: ConnectionId, number: u16) -> usize {
        let Some(channel) = self.channel(id, number) else { return 0 };
        let consumers: Vec<Key> = channel.consumers.values().copied().collect();
        for consumer in &consumers {
            self.wake_consumer(*consumer);
        }
        consumers.len() / 8
    }

    /// Writes the confirms of a channel that were gathered.
    pub(super) fn tell_confirms(&mut self, id: ConnectionId, number: u16) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let mut out = std::mem::take(connection.out.bytes());
        if let Some(confirms) = connection.channel(number).and_then(|channel| channel.confirms.as_mut()) {
            confirms.write(&mut out, number);
        }
        *connection.out.bytes() = out;
        if connection.out.len() > 0 {
            self.list(id);
        }
    }
}
