//! From queues to consumers, and what time does to queues.

use std::time::{Duration, Instant};

use super::broker::Broker;
use super::channel::Unacked;
use super::dead_letter::Reason;
use super::options::DELIVERIES_PER_TURN;
use super::slots::Key;
use super::write::{self, Deliver, Sent};

impl Broker {
    /// Delivers a queue's messages to consumers that have room, in turns.
    pub(super) fn serve(&mut self, now: Instant, key: Key) {
        if let Some(queue) = self.queues.get_mut(key) {
            queue.is_due = false;
        }
        self.drop_expired(now, key);
        for _ in 0..DELIVERIES_PER_TURN {
            if !self.deliver_one(now, key) {
                self.set_expiry(now, key);
                return;
            }
        }
        self.set_expiry(now, key);
        self.make_due(key);
    }

    /// Returns whether there may be more to do.
    fn deliver_one(&mut self, now: Instant, key: Key) -> bool {
        let (outgoing_max, unacked_max) = (self.outgoing_max, self.options.unacked_max);
        let Some(queue) = self.queues.get_mut(key) else { return false };
        if queue.expires_messages && queue.ready.front().is_some_and(|place| place.expires_ms != u64::MAX) {
            self.drop_expired(now, key);
        }
        let Some(queue) = self.queues.get_mut(key) else { return false };
        if queue.ready.is_empty() {
            return false;
        }
        let Some(turn) = queue.turn() else { return false };
        let Some(consumer) = self.consumers.get_mut(turn.consumer) else {
            queue.leave();
            return true;
        };
        let Some(connection) = self.connections.get_mut(consumer.connection) else {
            queue.leave();
            return true;
        };
        let is_slow = connection.out.len() > outgoing_max;
        let frame_max = connection.frame_max;
        let Some(channel) =
            connection.channels.get_mut(usize::from(consumer.channel)).and_then(Option::as_mut)
        else {
            queue.leave();
            return true;
        };
        let has_room = consumer.has_room()
            && (consumer.no_ack && !channel.is_paused || channel.has_room(unacked_max))
            && !is_slow
            && queue.is_active(turn.consumer);
        if !has_room {
            queue.leave();
            consumer.is_full = true;
            if is_slow && !consumer.is_waiting {
                consumer.is_waiting = true;
                connection.full_consumers.push(turn.consumer);
            }
            return true;
        }
        let Some(place) = queue.pop() else { return false };
        queue.next_turn();
        channel.next_delivery_tag += 1;
        let delivery_tag = channel.next_delivery_tag;
        if let Some(message) = self.store.get(place.message) {
            let deliver =
                Deliver { consumer_tag: &consumer.tag, delivery_tag, redelivered: place.redelivered };
            let (key, channel) = (place.message, consumer.channel);
            let sent = Sent { key, message, channel, frame_max };
            if write::deliver(&mut connection.out, &deliver, sent) {
                self.store.hold(key);
            }
        }
        if consumer.no_ack {
            self.store.release(place.message);
            self.stats.acknowledged += 1;
        } else {
            consumer.unacked += 1;
            channel.unacked.push(Unacked { delivery_tag, queue: key, consumer: turn.consumer, place });
            self.store.wait();
        }
        self.stats.delivered += 1;
        self.stats.redelivered += u64::from(place.redelivered);
        if !connection.is_listed {
            let id = consumer.connection;
            self.list(id);
        }
        true
    }

    /// Drops messages at the head of a queue that are too old. Those behind a younger one wait until they are at the
    /// head, as with RabbitMQ's classic queues.
    pub(super) fn drop_expired(&mut self, now: Instant, key: Key) {
        if self.queues.get(key).is_none_or(|queue| !queue.expires_messages) {
            return;
        }
        let age_ms = self.age_ms(now);
        while let Some(queue) = self.queues.get_mut(key)
            && queue.ready.front().is_some_and(|place| place.expires_ms <= age_ms)
            && let Some(place) = queue.pop()
        {
            self.stats.expired += 1;
            self.let_go(key, place.message, Reason::Expired);
        }
        if let Some(queue) = self.queues.get_mut(key)
            && queue.ready.is_empty()
        {
            queue.expires_messages = false;
        }
    }

    /// Sets the time at which a queue is to be looked at: when its head is too old, or it was unused for too long.
    pub(super) fn set_expiry(&mut self, now: Instant, key: Key) {
        let Some(queue) = self.queues.get(key) else { return };
        if !queue.expires_messages && queue.arguments.expires_ms.is_none() {
            return;
        }
        let head = queue.ready.front().and_then(|place| self.at_ms(place.expires_ms));
        let unused = queue.arguments.expires_ms.map(|expires_ms| {
            let from = if queue.consumers.is_empty() { queue.last_used } else { now };
            from + Duration::from_millis(expires_ms)
        });
        let next = [head, unused].into_iter().flatten().min();
        self.set_queue_timer(key, next);
    }

    pub(super) fn on_queue_deadline(&mut self, now: Instant, key: Key) {
        self.drop_expired(now, key);
        let Some(queue) = self.queues.get(key) else { return };
        if let Some(expires_ms) = queue.arguments.expires_ms
            && queue.consumers.is_empty()
            && now >= queue.last_used + Duration::from_millis(expires_ms)
        {
            self.remove_queue(now, key);
            return;
        }
        self.set_expiry(now, key);
    }
}
