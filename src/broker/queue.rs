//! A queue: messages in their order, and whose turn it is to get one.
//!
//! ```text
//! ready:  4 5 6 7 ...   positions only rise; what comes back goes where its position says
//! turns:  consumers that may have room, in the order of their turns; one without room leaves the row until it has
//! ```

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use super::arguments::{Overflow, QueueArguments};
use super::slots::Key;

/// A message's place in a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) position: u64,
    pub(super) message: Key,
    pub(super) body_bytes: u32,
    pub(super) redelivered: bool,
    /// When it is too old, in milliseconds since the broker's start; `u64::MAX`: never.
    pub(super) expires_ms: u64,
}

/// A consumer's place in the row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Turn {
    pub(super) consumer: Key,
    pub(super) priority: i32,
}

#[derive(Debug)]
pub(super) struct Queue {
    pub(super) name: Arc<[u8]>,
    pub(super) durable: bool,
    /// The only connection that may use it, and with which it goes.
    pub(super) exclusive_to: Option<Key>,
    pub(super) auto_delete: bool,
    pub(super) arguments: QueueArguments,
    pub(super) ready: VecDeque<Place>,
    pub(super) ready_bytes: u64,
    pub(super) next_position: u64,
    /// Everybody who consumes, in the order in which they came.
    pub(super) consumers: Vec<Key>,
    pub(super) turns: VecDeque<Turn>,
    /// Whether its one consumer wants no other.
    pub(super) is_exclusively_consumed: bool,
    /// Whether it waits to be served in this turn.
    pub(super) is_due: bool,
    /// Whether a message in it may become too old.
    pub(super) expires_messages: bool,
    /// When somebody last did something with it, for x-expires.
    pub(super) last_used: Instant,
}

impl Queue {
    pub(super) fn new(name: Arc<[u8]>, arguments: QueueArguments, now: Instant) -> Queue {
        Queue {
            name,
            durable: false,
            exclusive_to: None,
            auto_delete: false,
            arguments,
            ready: VecDeque::new(),
            ready_bytes: 0,
            next_position: 0,
            consumers: Vec::new(),
            turns: VecDeque::new(),
            is_exclusively_consumed: false,
            is_due: false,
            expires_messages: false,
            last_used: now,
        }
    }

    /// Puts a message at the end.
    pub(super) fn push(&mut self, message: Key, body_bytes: u32, expires_ms: u64) {
        let position = self.next_position;
        self.next_position += 1;
        self.expires_messages |= expires_ms != u64::MAX;
        self.ready_bytes += u64::from(body_bytes);
        self.ready.push_back(Place { position, message, body_bytes, redelivered: false, expires_ms });
    }

    /// Takes the first message.
    pub(super) fn pop(&mut self) -> Option<Place> {
        let place = self.ready.pop_front()?;
        self.ready_bytes -= u64::from(place.body_bytes);
        give_back(&mut self.ready);
        Some(place)
    }

    /// Puts messages back to where they were; `places` are in their order. Returns how many others made room for them.
    pub(super) fn put_back(
        &mut self,
        places: impl DoubleEndedIterator<Item = Place> + ExactSizeIterator,
    ) -> usize {
        let mut places = places.rev();
        let is_one = places.len() == 1;
        let Some(last) = places.next() else { return 0 };
        let before = self.ready.partition_point(|other| other.position < last.position);
        if is_one {
            self.count_back(&last);
            self.ready.insert(before, last);
            return before.min(self.ready.len() - before);
        }
        // The two rows become one, from behind. One by one each would move half of the other row.
        let mut others: Vec<Place> = self.ready.drain(..before).collect();
        for place in std::iter::once(last).chain(places) {
            while let Some(other) = others.pop_if(|other| other.position > place.position) {
                self.ready.push_front(other);
            }
            self.count_back(&place);
            self.ready.push_front(place);
        }
        others.into_iter().rev().for_each(|other| self.ready.push_front(other));
        before
    }

    fn count_back(&mut self, place: &Place) {
        self.ready_bytes += u64::from(place.body_bytes);
        self.expires_messages |= place.expires_ms != u64::MAX;
    }

    /// Whether it holds more than its limits allow.
    pub(super) fn is_over(&self) -> bool {
        self.arguments.length_max.is_some_and(|most| self.ready.len() as u64 > most)
            || self.arguments.length_bytes_max.is_some_and(|most| self.ready_bytes > most)
    }

    /// Whether a message of so many bytes is refused.
    pub(super) fn refuses(&self, body_bytes: u32) -> bool {
        matches!(self.arguments.overflow, Some(Overflow::RejectPublish | Overflow::RejectPublishDlx))
            && (self.arguments.length_max.is_some_and(|most| self.ready.len() as u64 >= most)
                || self
                    .arguments
                    .length_bytes_max
                    .is_some_and(|most| self.ready_bytes + u64::from(body_bytes) > most))
    }

    pub(super) fn has_limit(&self) -> bool {
        self.arguments.length_max.is_some() || self.arguments.length_bytes_max.is_some()
    }

    /// Whose turn it is.
    pub(super) fn turn(&self) -> Option<Turn> {
        self.turns.front().copied()
    }

    /// Whether anybody may have room.
    pub(super) fn has_turns(&self) -> bool {
        !self.turns.is_empty()
    }

    /// Takes the first out of the row.
    pub(super) fn leave(&mut self) -> Option<Turn> {
        self.turns.pop_front()
    }

    /// Puts a consumer at the end of the row, that is, of those with its priority.
    pub(super) fn enter(&mut self, turn: Turn) {
        match self.turns.back() {
            Some(last) if last.priority < turn.priority => {
                let at = self.turns.partition_point(|other| other.priority >= turn.priority);
                self.turns.insert(at, turn);
            }
            _ => self.turns.push_back(turn),
        }
    }

    /// The first has had its turn.
    pub(super) fn next_turn(&mut self) {
        if self.turns.len() > 1
            && let Some(turn) = self.leave()
        {
            self.enter(turn);
        }
    }

    /// Removes consumers from all rows. Returns whether the last one was among them.
    pub(super) fn keep_consumers(&mut self, is_there: impl Fn(Key) -> bool) -> bool {
        let before = self.consumers.len();
        self.consumers.retain(|other| is_there(*other));
        self.turns.retain(|turn| is_there(turn.consumer));
        if self.consumers.is_empty() {
            self.is_exclusively_consumed = false;
        }
        before > 0 && self.consumers.is_empty()
    }

    /// Whether `consumer` may get messages at all.
    pub(super) fn is_active(&self, consumer: Key) -> bool {
        !self.arguments.single_active_consumer || self.consumers.first() == Some(&consumer)
    }
}

/// Gives a burst's memory back once it is over; what is kept is enough for the next small one. A row that was this
/// long has to shrink by as much again before it is moved again.
pub(super) fn give_back<T>(row: &mut VecDeque<T>) {
    if row.capacity() > 4096 && row.len() < row.capacity() / 4 {
        row.shrink_to(row.capacity() / 2);
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)] // A starting point for arithmetic; nothing depends on its value.
mod tests {
    use super::super::slots::Slots;
    use super::*;

    fn queue() -> Queue {
        Queue::new(b"q".as_slice().into(), QueueArguments::default(), Instant::now())
    }

    #[test]
    fn what_comes_back_goes_where_it_was() {
        let mut queue = queue();
        (0..6).for_each(|n| queue.push(Key::NONE, n, u64::MAX));
        let taken: Vec<Place> = std::iter::from_fn(|| queue.pop()).take(4).collect();
        for at in [2, 0, 3, 1] {
            queue.put_back([Place { redelivered: true, ..taken[at] }].into_iter());
        }
        let positions: Vec<u64> = queue.ready.iter().map(|place| place.position).collect();
        assert_eq!((positions, queue.ready_bytes), ((0..6).collect(), 15));
    }

    #[test]
    fn two_rows_become_one_in_one_go() {
        const COUNT: u32 = 200_000;
        let mut queue = queue();
        (0..COUNT).for_each(|n| queue.push(Key::NONE, n, u64::MAX));
        let taken: Vec<Place> = std::iter::from_fn(|| queue.pop()).take(COUNT as usize / 2).collect();
        let (even, odd): (Vec<Place>, Vec<Place>) = taken.iter().partition(|place| place.position % 2 == 0);
        assert_eq!(queue.put_back(even.iter().copied()), 0);
        assert_eq!(queue.put_back(odd.iter().copied()), even.len());
        assert!(queue.ready.iter().map(|place| place.position).eq(0..u64::from(COUNT)));
        assert_eq!(queue.ready_bytes, u64::from(COUNT) * u64::from(COUNT - 1) / 2);
        assert_eq!(queue.put_back(std::iter::empty()), 0);
    }

    #[test]
    fn a_bursts_room_is_given_back_also_by_a_queue_that_is_never_empty() {
        let mut queue = queue();
        (0..100_000).for_each(|n| queue.push(Key::NONE, n, u64::MAX));
        while queue.ready.len() > 1 {
            queue.pop();
        }
        assert!(queue.ready.capacity() <= 4096 * 2, "{}", queue.ready.capacity());
    }

    #[test]
    fn turns_go_round_within_a_priority() {
        let mut slots = Slots::default();
        let [a, b, c] = std::array::from_fn(|_| slots.insert(()));
        let mut queue = queue();
        for (consumer, priority) in [(a, 0), (b, 5), (c, 0)] {
            queue.consumers.push(consumer);
            queue.enter(Turn { consumer, priority });
        }
        let turn = |queue: &mut Queue| {
            let turn = queue.turn().expect("a turn").consumer;
            queue.next_turn();
            turn
        };
        assert_eq!([turn(&mut queue), turn(&mut queue)], [b, b]);
        queue.leave();
        assert_eq!([turn(&mut queue), turn(&mut queue), turn(&mut queue)], [a, c, a]);
        queue.enter(Turn { consumer: b, priority: 5 });
        assert_eq!(turn(&mut queue), b);
        assert!(!queue.keep_consumers(|other| other != b) && !queue.keep_consumers(|other| other == c));
        assert!(queue.keep_consumers(|other| other != c));
        assert!(!queue.has_turns());
    }

    #[test]
    fn limits() {
        let arguments = QueueArguments { length_max: Some(2), ..QueueArguments::default() };
        let mut queue = Queue { arguments, ..queue() };
        (0..3).for_each(|_| queue.push(Key::NONE, 1, u64::MAX));
        assert!(queue.is_over() && !queue.refuses(1));
        queue.pop();
        queue.arguments.overflow = Some(Overflow::RejectPublish);
        assert!(!queue.is_over() && queue.refuses(1));
    }
}
