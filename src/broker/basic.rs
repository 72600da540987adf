//! basic.* but publish and deliver: consumers come and go, deliveries are settled. And confirm.select, channel.flow,
//! and what is left behind when a channel or connection ends.

use std::time::Instant;

use super::arguments::QueueArguments;
use super::broker::{Broker, ConnectionId};
use super::channel::{Channel, Consumer, Content, Unacked};
use super::command::Consume;
use super::dead_letter::Reason;
use super::fault::{Fault, text};
use super::publish::REPLY_TO;
use super::queue::{Queue, Turn};
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
    ) -> Result<(), Fault> {
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
        self.wake_channel(id, number);
        self.say(id, |out| write::bare(out, number, spec::BASIC_QOS_OK));
        Ok(())
    }

    pub(super) fn flow(&mut self, id: ConnectionId, number: u16, is_active: bool) {
        if let Some(channel) = self.channel(id, number) {
            channel.is_paused = !is_active;
        }
        self.wake_channel(id, number);
        self.say(id, |out| {
            Method::new(out, number, spec::CHANNEL_FLOW_OK).u8(u8::from(is_active)).end();
        });
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
        let key = if consume.queue == REPLY_TO {
            self.make_reply_queue(now, id, number, consume)?
        } else {
            self.find_queue(id, number, consume.queue)?
        };
        let tag = match consume.consumer_tag {
            b"" => self.made_up_name("amq.ctag-"),
            tag => tag.to_vec(),
        };
        let is_taken = |broker: &Broker, consumer: Key| {
            broker.consumers.get(consumer).is_some_and(|consumer| consumer.tag == tag)
        };
        let Some(channel) = self.channel(id, number) else { return Ok(()) };
        let (prefetch, consumers) = (channel.prefetch_of_new, channel.consumers.clone());
        if consumers.into_iter().any(|consumer| is_taken(self, consumer)) {
            return Err(Fault::ConsumerTagTaken(text(&tag)));
        }
        if self.consumers.len() >= self.options.consumers_max {
            self.refuse_by_limit("consumers");
            return Err(Fault::ConsumerLimit(self.options.consumers_max));
        }
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
        });
        queue.is_exclusively_consumed = consume.exclusive;
        queue.consumers.push(consumer);
        queue.enter(Turn { consumer, priority });
        queue.last_used = now;
        if let Some(connection) = self.connections.get_mut(id) {
            connection.consumers += 1;
            if let Some(channel) = connection.channel(number) {
                channel.consumers.push(consumer);
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
        let name = self.made_up_name("amq.rabbitmq.reply-to.");
        let queue =
            Queue { auto_delete: true, ..Queue::new(name.as_slice().into(), QueueArguments::default(), now) };
        let shared = queue.name.clone();
        let key = self.queues.insert(queue);
        self.queue_names.insert(shared, key);
        if let Some(channel) = self.channel(id, number) {
            channel.reply_queue = Some(name);
        }
        Ok(key)
    }

    pub(super) fn cancel(&mut self, now: Instant, id: ConnectionId, number: u16, tag: &[u8], no_wait: bool) {
        let consumers = self.channel(id, number).map(|channel| channel.consumers.clone()).unwrap_or_default();
        let found = consumers
            .into_iter()
            .find(|consumer| self.consumers.get(*consumer).is_some_and(|consumer| consumer.tag == tag));
        // A tag that is not known counts as cancelled (basic.cancel in the reference).
        if let Some(consumer) = found {
            self.drop_consumer(now, consumer, false);
        }
        if !no_wait {
            self.say(id, |out| Method::new(out, number, spec::BASIC_CANCEL_OK).short(tag).end());
        }
    }

    /// Removes a consumer; its deliveries stay with its channel. `notify`: its queue is gone, so tell the client if
    /// it understands.
    pub(super) fn drop_consumer(&mut self, now: Instant, key: Key, notify: bool) {
        let Some(consumer) = self.consumers.remove(key) else { return };
        let (id, number) = (consumer.connection, consumer.channel);
        let mut understands = false;
        if let Some(connection) = self.connections.get_mut(id) {
            connection.consumers = connection.consumers.saturating_sub(1);
            understands = connection.capabilities.consumer_cancel_notify;
            if let Some(channel) = connection.channel(number) {
                channel.consumers.retain(|other| *other != key);
            }
        }
        if notify && understands {
            self.say(id, |out| {
                // The second argument is no-wait: nobody needs the answer.
                Method::new(out, number, spec::BASIC_CANCEL).short(&consumer.tag).u8(1).end();
            });
        }
        let Some(queue) = self.queues.get_mut(consumer.queue) else { return };
        queue.last_used = now;
        if queue.forget_consumer(key) && queue.auto_delete {
            self.remove_queue(now, consumer.queue);
            return;
        }
        // With a single active consumer it is the next one's turn.
        if let Some(next) =
            queue.consumers.first().copied().filter(|_| queue.arguments.single_active_consumer)
        {
            self.wake_consumer(next);
        }
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
        }
        if let Some(message) = self.store.get(place.message) {
            let tag = (delivery_tag, place.redelivered);
            write::get_ok(connection.out.bytes(), frame_max, number, tag, left, message);
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
        let unacked_max = self.options.unacked_max;
        if !settled.is_empty()
            && self.channel(id, number).is_some_and(|channel| {
                channel.prefetch_of_all > 0 || channel.unacked.len() + settled.len() >= unacked_max
            })
        {
            self.wake_channel(id, number);
        }
        let count = settled.len();
        self.settled = settled;
        // A burst's room is given back.
        self.settled.shrink_to(4096);
        count
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
        let settled = self.settle(id, number, delivery_tag, multiple)?;
        if requeue {
            self.requeue(&settled);
        } else {
            for unacked in &settled {
                self.stats.discarded += 1;
                self.let_go(unacked.queue, unacked.place.message, Reason::Rejected);
            }
        }
        Ok(self.after_settling(id, number, settled))
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
        let settled = self.settle(id, number, 0, true)?;
        self.requeue(&settled);
        if !is_async {
            self.say(id, |out| write::bare(out, number, spec::BASIC_RECOVER_OK));
        }
        Ok(self.after_settling(id, number, settled))
    }

    /// Puts messages back to where they were. From the last to the first, since then each goes to the front.
    fn requeue(&mut self, settled: &[Unacked]) {
        for unacked in settled.iter().rev() {
            let Some(queue) = self.queues.get_mut(unacked.queue) else {
                // The queue is gone, and its messages with it.
                self.store.release(unacked.place.message);
                continue;
            };
            queue.put_back(super::queue::Place { redelivered: true, ..unacked.place });
            self.make_due(unacked.queue);
        }
    }

    /// Takes everything back that a channel has: deliveries go to their queues, consumers go.
    pub(super) fn release_channel(&mut self, now: Instant, id: ConnectionId, number: u16) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let Some(channel) = connection.channel(number) else { return };
        if let Content::Body { incoming, remaining } = std::mem::take(&mut channel.content) {
            let had = (incoming.bytes.len() - incoming.names_len - incoming.header_len) as u64;
            connection.content_bytes = connection.content_bytes.saturating_sub((had + remaining) as usize);
        }
        let Some(channel) = connection.channel(number) else { return };
        let consumers = std::mem::take(&mut channel.consumers);
        let mut settled = Vec::new();
        channel.unacked.take_until(0, &mut settled);
        // First the messages, so that an auto-delete queue goes with all of them.
        self.requeue(&settled);
        for consumer in consumers {
            self.drop_consumer(now, consumer, false);
        }
        // What was taken from publishers is confirmed also on a channel that ends; it is in its queues.
        self.tell_confirms(id, number);
    }

    /// Takes everything back that a connection has.
    pub(super) fn release(&mut self, now: Instant, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let numbers = connection.channels.len() as u16;
        for number in 0..numbers {
            self.release_channel(now, id, number);
        }
        if let Some(connection) = self.connections.get_mut(id) {
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

    fn wake_channel(&mut self, id: ConnectionId, number: u16) {
        let consumers = self.channel(id, number).map(|channel| channel.consumers.clone()).unwrap_or_default();
        for consumer in consumers {
            self.wake_consumer(consumer);
        }
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
