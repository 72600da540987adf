//! What has to be true between two calls, counted anew from the ground. For tests, simulation and fuzzing: it looks at
//! everything there is.

use std::collections::BTreeMap;

use super::broker::Broker;
use super::channel::Content;
use super::slots::Key;

impl Broker {
    /// Panics if the broker disagrees with itself.
    ///
    /// # Panics
    /// When a count is wrong, a place is lost, or something outlived what it belongs to.
    #[doc(hidden)]
    pub fn audit(&self) {
        let mut places: BTreeMap<Key, u64> = BTreeMap::new();
        for (key, queue) in self.queues.iter() {
            assert_eq!(self.queue_names.get(&queue.name), Some(key), "a queue is not found by its name");
            let positions: Vec<u64> = queue.ready.iter().map(|place| place.position).collect();
            assert!(positions.is_sorted_by(|a, b| a < b), "a queue is out of order");
            let bytes: u64 = queue.ready.iter().map(|place| u64::from(place.body_bytes)).sum();
            assert_eq!(bytes, queue.ready_bytes, "a queue's bytes are miscounted");
            for place in &queue.ready {
                *places.entry(place.message).or_default() += 1;
            }
            for consumer in &queue.consumers {
                let consumer = self.consumers.get(*consumer).expect("a queue's consumer");
                assert_eq!(consumer.queue, key);
            }
            if let Some(owner) = queue.exclusive_to {
                assert!(self.connections.get(owner).is_some(), "an exclusive queue outlived its owner");
            }
        }
        for letter in &self.dead_letters {
            *places.entry(letter.message()).or_default() += 1;
        }
        let mut unacked: BTreeMap<Key, u32> = BTreeMap::new();
        let mut consumers = 0;
        let (mut channels, mut unfinished, mut waits) = (0, 0, 0);
        for (id, connection) in self.connections.iter() {
            let mut of_connection = 0;
            let (mut content_bytes, mut reserved_bytes) = (0, 0);
            for channel in connection.channels.iter().flatten() {
                of_connection += channel.consumers.len();
                let mut count = 0;
                for waiting in channel.unacked.iter() {
                    count += 1;
                    *places.entry(waiting.place.message).or_default() += 1;
                    *unacked.entry(waiting.consumer).or_default() += 1;
                }
                waits += count;
                assert_eq!(channel.unacked.len(), count, "unacknowledged deliveries are miscounted");
                for consumer in channel.consumers.values() {
                    assert_eq!(self.consumers.get(*consumer).expect("a channel's consumer").connection, id);
                }
                channels += 1;
                let (size, reserved) = match &channel.content {
                    Content::Body { incoming, .. } => (incoming.size, incoming.reserved),
                    _ => (0, 0),
                };
                (content_bytes, reserved_bytes) = (content_bytes + size, reserved_bytes + reserved);
            }
            assert_eq!(connection.content_bytes, content_bytes, "unfinished messages are miscounted");
            assert_eq!(connection.reserved_bytes, reserved_bytes, "a connection's room is miscounted");
            unfinished += reserved_bytes;
            for message in connection.out.messages() {
                *places.entry(message).or_default() += 1;
            }
            for key in &connection.full_consumers {
                assert!(self.consumers.get(*key).is_some_and(|consumer| consumer.is_waiting));
            }
            assert_eq!(connection.consumers, of_connection, "a connection's consumers are miscounted");
            consumers += of_connection;
        }
        assert_eq!(self.consumers.len(), consumers, "a consumer outlived its channel");
        for (key, consumer) in self.consumers.iter() {
            assert_eq!(consumer.unacked, unacked.get(&key).copied().unwrap_or_default());
            let queue = self.queues.get(consumer.queue).expect("a consumer's queue");
            let turns = queue.turns.iter().filter(|turn| turn.consumer == key).count();
            assert_eq!(turns, usize::from(!consumer.is_full), "a consumer has the wrong number of turns");
        }
        self.exchanges.audit();
        assert_eq!(self.store.waiting(), waits, "deliveries that wait are miscounted");
        assert_eq!((self.channels, self.room.taken()), (channels, unfinished));
        let waiting = self.room.waiting();
        for id in waiting {
            assert!(self.connections.get(*id).is_some(), "who waits for room is gone");
        }
        let (bytes, count) = self.store.audit();
        assert_eq!(bytes, self.store.bytes(), "memory is miscounted");
        assert_eq!(count, places.values().sum::<u64>(), "a message has the wrong number of places");
        assert_eq!(self.store.len(), places.len(), "a message outlived its last place");
    }
}
