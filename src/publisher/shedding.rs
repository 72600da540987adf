//! Which shards lost events because the spool was nearly full, until their workers are told.

use std::collections::BTreeMap;

use crate::relay::gap::Gap;
use crate::relay::outbox::Record;
use crate::state::spool::Appended;

/// Events of one shard that were left out.
#[derive(Debug)]
struct Shed {
    session: u64,
    /// Everything up to here is published.
    last_seq: u64,
    count: u64,
    from_ms: u64,
}

/// By shard, in the caller's numbers: as many as it has.
#[derive(Debug, Default)]
pub(super) struct Shedding {
    shards: BTreeMap<u32, Shed>,
    is_over: bool,
}

impl Shedding {
    /// Of these records of a shard some may have been left out.
    pub(super) fn note(&mut self, wall_ms: u64, slot: u32, records: &[Record], appended: &Appended) {
        if appended.shed == 0 {
            return;
        }
        self.is_over = false;
        let first = records.iter().find(|record| record.seq > 0);
        let (session, seq) = first.map_or((0, 0), |record| (record.session, record.seq));
        let shed = self.shards.entry(slot).or_insert(Shed {
            session,
            last_seq: seq.saturating_sub(1),
            count: 0,
            from_ms: wall_ms,
        });
        shed.count += appended.shed as u64;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.shards.is_empty()
    }

    /// Nothing more is left out for now.
    pub(super) fn ends(&mut self) {
        self.is_over = true;
    }

    /// What is to be told of the next shard, once it is over.
    pub(super) fn pop_over(&mut self) -> Option<(u32, Gap)> {
        if !self.is_over {
            return None;
        }
        let (slot, shed) = self.shards.pop_first()?;
        let reason =
            format!("{} events of the classes in SHED were left out as the disk was nearly full", shed.count);
        Some((
            slot,
            Gap { session_hash: shed.session, last_seq: shed.last_seq, from_ms: shed.from_ms, reason },
        ))
    }
}
