//! Messages, held once and counted: how many queues and channels have one, and what all of them take.
//!
//! A message is one allocation, laid out so that a delivery is three copies:
//!
//! ```text
//! exchange short | routing key short | content header's payload (class, weight, size, properties) | body
//! ```

use super::slots::{Key, Slots};

/// What a message takes besides its octets: its slot, and what the allocator adds.
const MESSAGE_BYTES: usize = 96;
/// What a place in a queue takes: 32 octets, and as much again for the room that rows have ahead.
const PLACE_BYTES: usize = 64;
/// What it takes more among a channel's unacknowledged, with gaps.
const WAIT_BYTES: usize = 96;

/// What a message of `octets` takes in one queue, and among those that wait for an acknowledgement.
pub(super) fn cost_of(octets: usize) -> usize {
    MESSAGE_BYTES + octets + PLACE_BYTES + WAIT_BYTES
}

#[derive(Debug)]
pub(super) struct Message {
    places: u32,
    names_len: u32,
    header_len: u32,
    bytes: Vec<u8>,
}

impl Message {
    /// `bytes` as drawn above. What lies outside of them reads as empty.
    pub(super) fn new(bytes: Vec<u8>, names_len: usize, header_len: usize) -> Message {
        // Both come from a frame, whose size is a u32.
        Message { places: 0, names_len: names_len as u32, header_len: header_len as u32, bytes }
    }

    /// `exchange short | routing key short`
    pub(super) fn names(&self) -> &[u8] {
        self.bytes.get(..self.names_len as usize).unwrap_or_default()
    }

    /// The exchange and the routing key.
    pub(super) fn split_names(&self) -> (&[u8], &[u8]) {
        split_names(self.names())
    }

    /// The payload of the content header.
    pub(super) fn header(&self) -> &[u8] {
        let start = self.names_len as usize;
        self.bytes.get(start..start + self.header_len as usize).unwrap_or_default()
    }

    pub(super) fn body(&self) -> &[u8] {
        self.bytes.get((self.names_len + self.header_len) as usize..).unwrap_or_default()
    }

    fn cost(&self) -> usize {
        MESSAGE_BYTES + self.bytes.capacity()
    }
}

/// Takes `exchange short | routing key short` apart.
pub(super) fn split_names(names: &[u8]) -> (&[u8], &[u8]) {
    let mut reader = crate::amqp::reader::Reader::new(names);
    (reader.short().unwrap_or_default(), reader.short().unwrap_or_default())
}

#[derive(Debug, Default)]
pub(super) struct Store {
    messages: Slots<Message>,
    bytes: usize,
    waiting: usize,
}

impl Store {
    /// What all messages take, and all their places.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn len(&self) -> usize {
        self.messages.len()
    }

    /// Deliveries that wait for an acknowledgement.
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// A delivery waits for its acknowledgement.
    pub(super) fn wait(&mut self) {
        self.waiting += 1;
        self.bytes += WAIT_BYTES;
    }

    /// So many deliveries don't any more.
    pub(super) fn settle(&mut self, count: usize) {
        debug_assert!(self.waiting >= count, "a delivery was settled that did not wait");
        self.waiting = self.waiting.saturating_sub(count);
        self.bytes = self.bytes.saturating_sub(count * WAIT_BYTES);
    }

    /// Whether at most one place has the message.
    pub(super) fn is_single(&self, key: Key) -> bool {
        self.messages.get(key).is_none_or(|message| message.places <= 1)
    }

    /// Takes a message in. It goes when its last place is given up, or with [`Store::sweep`] when it never had one.
    pub(super) fn insert(&mut self, message: Message) -> Key {
        self.bytes += message.cost();
        self.messages.insert(message)
    }

    pub(super) fn get(&self, key: Key) -> Option<&Message> {
        self.messages.get(key)
    }

    /// One more place has the message.
    pub(super) fn hold(&mut self, key: Key) {
        if let Some(message) = self.messages.get_mut(key) {
            message.places += 1;
            self.bytes += PLACE_BYTES;
        }
    }

    /// A place gives the message up.
    pub(super) fn release(&mut self, key: Key) {
        let Some(message) = self.messages.get_mut(key) else { return };
        debug_assert!(message.places > 0, "a place was given up that nobody had");
        message.places = message.places.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(PLACE_BYTES);
        self.sweep(key);
    }

    /// Drops the message if no place has it.
    pub(super) fn sweep(&mut self, key: Key) {
        if self.messages.get(key).is_some_and(|message| message.places == 0)
            && let Some(message) = self.messages.remove(key)
        {
            self.bytes = self.bytes.saturating_sub(message.cost());
        }
    }

    /// What the messages take, counted anew, and how many places there are.
    pub(super) fn audit(&self) -> (usize, u64) {
        let messages = || self.messages.iter().map(|(_, message)| message);
        let places: u64 = messages().map(|message| u64::from(message.places)).sum();
        (
            messages().map(Message::cost).sum::<usize>()
                + places as usize * PLACE_BYTES
                + self.waiting * WAIT_BYTES,
            places,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_counted_once_and_goes_with_its_last_place() {
        let mut store = Store::default();
        let bytes = b"\x01e\x03keyheaderbody".to_vec();
        let key = store.insert(Message::new(bytes, 6, 6));
        let message = store.get(key).expect("just put in");
        assert_eq!(message.split_names(), (b"e".as_slice(), b"key".as_slice()));
        assert_eq!((message.header(), message.body()), (b"header".as_slice(), b"body".as_slice()));
        let alone = store.bytes();
        store.hold(key);
        store.hold(key);
        assert_eq!(store.bytes(), alone + 2 * PLACE_BYTES);
        assert_eq!(store.audit(), (store.bytes(), 2));
        store.release(key);
        assert_eq!(store.len(), 1);
        store.release(key);
        assert_eq!((store.len(), store.bytes()), (0, 0));
    }
}
