//! What a run of a shard's task has framed: the bytes, and for each publish where it ends and what it confirms.

use std::time::Instant;

/// One publish of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// Discord's `s`; 0 for a message that has none.
    pub seq: u64,
    /// Hash of the session that the seq belongs to.
    pub session: u64,
    /// Where the publish ends in the batch's bytes.
    pub end: usize,
    pub(super) confirmed: bool,
}

impl Record {
    /// A record of a publish that ends at `end`.
    pub fn new(session: u64, seq: u64, end: usize) -> Record {
        Record { seq, session, end, confirmed: false }
    }
}

/// Framed publishes of one shard, in order.
#[derive(Debug, Default)]
pub struct Batch {
    /// Whole AMQP frames: method, header and body of each publish in turn.
    pub bytes: Vec<u8>,
    /// One record per publish.
    pub records: Vec<Record>,
    /// The frame_max that the bytes were cut by.
    pub frame_max: u32,
    /// The last event behind the records that nobody wants published: session hash and seq.
    pub skipped: Option<(u64, u64)>,
    /// When the bytes that it was made of were read, where that is known.
    pub received_at: Option<Instant>,
}

impl Batch {
    /// Empties the batch and keeps its memory.
    pub fn clear(&mut self) {
        self.received_at = None;
        self.bytes.clear();
        self.records.clear();
        self.skipped = None;
    }

    /// The same in as little memory as it needs.
    pub(super) fn to_exact(&self) -> Batch {
        Batch { bytes: self.bytes.clone(), records: self.records.clone(), ..*self }
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.bytes.capacity() + self.records.capacity() * size_of::<Record>() + size_of::<super::Entry>()
    }
}
