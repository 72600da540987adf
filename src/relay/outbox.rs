//! Publishes of one cluster that the broker has not confirmed, in the order in which they go out.
//!
//! In: batches of framed publishes, one batch per run of a shard's task. Out: slices for a gathered write, and per
//! shard the seq up to which everything is confirmed. After the publish channel was lost, what was on the wire
//! is framed anew with the mark `repeat` and goes out again in its old place, so that order holds.
//!
//! ```text
//!  front                      wire (offset)                 back
//! | sent, not confirmed ... | being written | not yet written |
//! ```
//!
//! Never here: a socket, a clock, a connection's state. Bounded by bytes, see [`Outbox::is_full`].

mod batch;
mod figures;

use std::collections::VecDeque;
use std::time::Instant;

use crate::amqp::publish::{REPEAT_BYTES, reframe};
pub use batch::{Batch, Record};
pub use figures::{Stats, Timing};

/// A shard's progress: everything up to `seq` of `session` is confirmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The shard, by the caller's own number.
    pub shard: u32,
    /// Hash of the session.
    pub session: u64,
    /// The highest seq without an unconfirmed one before it.
    pub seq: u64,
    /// Whether the publish is on disk too, so that the shard was told when it went there.
    pub spooled: bool,
}

/// The first batch that is in memory alone, without what is confirmed at its beginning.
#[derive(Clone, Copy, Debug)]
pub struct Uncopied<'a> {
    /// The shard, by the caller's own number.
    pub shard: u32,
    /// The frame_max that the bytes were cut by.
    pub frame_max: u32,
    /// Whether bytes of it may have reached the broker.
    pub maybe_published: bool,
    /// Its records, whose ends count from `start`.
    pub records: &'a [Record],
    /// Where the first of them begins, in the numbers of the records' ends.
    pub start: usize,
    /// The publishes.
    pub bytes: &'a [u8],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wire {
    /// No byte of it was ever written.
    Fresh,
    /// Its delivery tags begin here, in the present life of the channel.
    Tagged(u64),
    /// Written in an earlier life of the channel: may have arrived, must go out again with the mark.
    Stale,
}

#[derive(Debug)]
struct Entry {
    shard: u32,
    wire: Wire,
    batch: Batch,
    /// How many leading records are confirmed and reported.
    done: usize,
    /// Whether it is on disk too, and the spool's number behind it. Such entries come before all others.
    copied: bool,
    spool_end: u64,
    /// When its last byte was handed to the system, the last time.
    written_at: Option<Instant>,
}

/// The outbox of one cluster.
#[derive(Debug)]
pub struct Outbox {
    entries: VecDeque<Entry>,
    /// Index of the first entry that is not written to its end, and how much of it is.
    wire: usize,
    offset: usize,
    next_tag: u64,
    memory_bytes: usize,
    /// Promised to batches that are being filled.
    reserved_bytes: usize,
    memory_bytes_max: usize,
    /// How many publishes still go out one at a time, until the one is found that the broker refuses.
    suspects: u64,
    /// The spool's number behind the last entry that was confirmed.
    spool_confirmed: u64,
    spare: Vec<Batch>,
    spare_bytes: usize,
    /// How long events took.
    pub timing: Timing,
    /// What has happened.
    pub stats: Stats,
}

/// The smallest promise to a batch: a few dozen ordinary events.
const BATCH_BYTES_MIN: usize = 16 * 1024;

/// The largest: about 300 events or half a millisecond of work, so that no shard holds a thread for long.
pub const BATCH_BYTES_MAX: usize = 256 * 1024;

impl Outbox {
    /// An outbox that calls itself full at `memory_bytes_max`.
    pub fn new(memory_bytes_max: usize) -> Outbox {
        Outbox {
            entries: VecDeque::new(),
            wire: 0,
            offset: 0,
            next_tag: 1,
            memory_bytes: 0,
            reserved_bytes: 0,
            memory_bytes_max,
            suspects: 0,
            spool_confirmed: 0,
            spare: Vec::new(),
            spare_bytes: 0,
            timing: Timing::default(),
            stats: Stats::default(),
        }
    }

    /// Whether readers must stop: not even the smallest batch would fit.
    pub fn is_full(&self) -> bool {
        !self.entries.is_empty() && self.memory_bytes + self.share() > self.memory_bytes_max
    }

    /// What one batch is promised: a quarter, so that some shards of a cluster can be under way together, and each for as
    /// long as its window lasts: what a shard needs is out of the processor's cache when its next turn comes.
    fn share(&self) -> usize {
        (self.memory_bytes_max / 4).clamp(BATCH_BYTES_MIN, BATCH_BYTES_MAX)
    }

    /// Promises memory to a batch that is about to be filled. `None`: other batches that are being filled have it;
    /// try again when one of them is back or something is confirmed. A single message may be larger than what was
    /// promised: only by that, for each batch under way, can the limit be passed.
    pub fn reserve(&mut self) -> Option<usize> {
        let (used, share) = (self.memory_bytes + self.reserved_bytes, self.share());
        if used > 0 && used + share > self.memory_bytes_max {
            return None;
        }
        self.reserved_bytes += share;
        Some(share)
    }

    /// Takes a promise back: the batch is here, or was not needed.
    pub fn release(&mut self, bytes: usize) {
        self.reserved_bytes = self.reserved_bytes.saturating_sub(bytes);
    }

    /// What is promised to batches that are being filled, and what one more would be, in bytes.
    pub fn promised(&self) -> (usize, usize) {
        (self.reserved_bytes, self.share())
    }

    /// Promises one more share, whatever is in use.
    pub fn promise(&mut self) -> usize {
        let share = self.share();
        self.reserved_bytes += share;
        share
    }

    /// What this outbox may hold, in bytes.
    pub fn memory_bytes_max(&self) -> usize {
        self.memory_bytes_max
    }

    /// Whether there is room again for readers that were stopped: some below the limit, so that they do not start
    /// and stop with every confirm. Never while [`Outbox::is_full`].
    pub fn has_room(&self) -> bool {
        self.entries.is_empty() || self.memory_bytes + self.share() <= self.memory_bytes_max / 4 * 3
    }

    /// Whether everything is confirmed.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Memory in use, in bytes.
    pub fn memory_bytes(&self) -> usize {
        self.memory_bytes
    }

    /// Publishes that wait for their confirm.
    pub fn unconfirmed(&self) -> u64 {
        self.stats.published - self.stats.confirmed
    }

    /// An empty batch, with the memory of an earlier one if there is one.
    pub fn take_spare(&mut self) -> Batch {
        let Some(batch) = self.spare.pop() else {
            return Batch { bytes: Vec::with_capacity(BATCH_BYTES_MIN), ..Batch::default() };
        };
        self.spare_bytes -= batch.bytes.capacity();
        batch
    }

    /// Whether it has memory of earlier batches.
    pub fn has_spare(&self) -> bool {
        !self.spare.is_empty()
    }

    /// Gives an unused batch back.
    pub fn put_spare(&mut self, mut batch: Batch) {
        // Spares are not part of the limit, so all of them together are kept below a quarter of it.
        let bytes = batch.bytes.capacity();
        // One that was made as small as can be would only have to grow again.
        if bytes >= BATCH_BYTES_MIN
            && bytes <= 2 * self.share()
            && self.spare_bytes + bytes <= self.memory_bytes_max / 4
        {
            batch.clear();
            self.spare_bytes += bytes;
            self.spare.push(batch);
        }
    }

    /// Takes a batch of `shard` in.
    pub fn push(&mut self, shard: u32, batch: Batch) {
        self.push_entry(Entry {
            shard,
            wire: Wire::Fresh,
            batch,
            done: 0,
            copied: false,
            spool_end: 0,
            written_at: None,
        });
    }

    /// Takes a batch in that comes from the disk: with `repeat` it may have been published before. `spool_end` is told
    /// by [`Outbox::spool_confirmed`] once it is confirmed; 0 for one that has no place there.
    pub fn push_spooled(&mut self, shard: u32, batch: Batch, repeat: bool, spool_end: u64) {
        let wire = if repeat { Wire::Stale } else { Wire::Fresh };
        self.push_entry(Entry { shard, wire, batch, done: 0, copied: true, spool_end, written_at: None });
    }

    fn push_entry(&mut self, mut entry: Entry) {
        let batch = &mut entry.batch;
        if batch.records.is_empty() {
            return self.put_spare(entry.batch);
        }
        debug_assert_eq!(batch.records.last().map(|record| record.end), Some(batch.bytes.len()));
        // While the broker keeps up a batch lives for milliseconds and its slack does not matter. In an outage
        // the slack of thousands would fill the outbox with nothing.
        let crowded = self.memory_bytes > self.memory_bytes_max / 8 || batch.bytes.capacity() > self.share();
        if crowded && batch.bytes.capacity() > batch.bytes.len() * 2 {
            let exact = batch.to_exact();
            let roomy = std::mem::replace(batch, exact);
            self.put_spare(roomy);
        }
        let batch = &entry.batch;
        self.stats.published += batch.records.len() as u64;
        self.memory_bytes += batch.memory_bytes();
        self.entries.push_back(entry);
    }

    /// The first entry that is in memory alone.
    pub fn uncopied(&self) -> Option<Uncopied<'_>> {
        let entry = self.entries.get(self.first_uncopied())?;
        let start = entry.done.checked_sub(1).map_or(0, |last| entry.batch.records[last].end);
        Some(Uncopied {
            shard: entry.shard,
            frame_max: entry.batch.frame_max,
            maybe_published: entry.wire != Wire::Fresh,
            records: &entry.batch.records[entry.done..],
            start,
            bytes: &entry.batch.bytes[start..],
        })
    }

    /// The entry of [`Outbox::uncopied`] is on disk too, up to the spool's number `spool_end`.
    pub fn copied(&mut self, spool_end: u64) {
        let first = self.first_uncopied();
        if let Some(entry) = self.entries.get_mut(first) {
            (entry.copied, entry.spool_end) = (true, spool_end);
        }
    }

    fn first_uncopied(&self) -> usize {
        self.entries.partition_point(|entry| entry.copied)
    }

    /// The spool's number up to which everything that is on disk too is confirmed, as far as it was here.
    pub fn spool_confirmed(&self) -> u64 {
        self.spool_confirmed
    }

    /// Makes up to `entries_max` entries ready to be written on a channel that is open: numbers their delivery
    /// tags and frames anew what an earlier channel may have carried.
    pub fn prepare(&mut self, frame_max: u32, mut entries_max: usize) {
        if self.suspects > 0 {
            if self.wire > 0
                || self.entries.front().is_some_and(|entry| matches!(entry.wire, Wire::Tagged(_)))
            {
                return;
            }
            self.split_first();
            entries_max = 1;
        }
        let end = (self.wire + entries_max).min(self.entries.len());
        for index in self.wire..end {
            let entry = &mut self.entries[index];
            match entry.wire {
                Wire::Tagged(_) => continue,
                Wire::Fresh if entry.batch.frame_max <= frame_max => {}
                Wire::Fresh | Wire::Stale => {
                    let repeat = entry.wire == Wire::Stale;
                    self.memory_bytes -= entry.batch.memory_bytes();
                    let (framed, failed) = entry.frame_again(frame_max, repeat);
                    self.memory_bytes += entry.batch.memory_bytes();
                    self.stats.repeated += if repeat { framed } else { 0 };
                    self.stats.unframeable += failed;
                    self.stats.confirmed += failed;
                }
            }
            entry.wire = Wire::Tagged(self.next_tag);
            self.next_tag += entry.batch.records.len() as u64;
        }
    }

    /// The bytes to write next, in order: what [`Outbox::prepare`] has made ready.
    pub fn slices(&self) -> impl Iterator<Item = &[u8]> {
        self.entries
            .range(self.wire..)
            .take_while(|entry| matches!(entry.wire, Wire::Tagged(_)))
            .enumerate()
            .map(
                |(place, entry)| {
                    if place == 0 { &entry.batch.bytes[self.offset..] } else { &entry.batch.bytes[..] }
                },
            )
    }

    /// Lets go of everything: it is on disk, and this process ends.
    pub fn forget(&mut self) {
        self.entries.clear();
        (self.wire, self.offset, self.memory_bytes) = (0, 0, 0);
        self.timing.rewound();
    }

    /// Whether bytes wait to be written.
    pub fn has_unwritten(&self) -> bool {
        self.wire < self.entries.len()
    }

    /// Whether a publish is written in part, so that nothing else may be written before its rest.
    pub fn is_mid_batch(&self) -> bool {
        self.offset > 0
    }

    /// Counts `count` bytes of [`Outbox::slices`] as written.
    ///
    /// # Panics
    /// When more is counted than was ready.
    pub fn advance(&mut self, mut count: usize, report: impl FnMut(Progress)) {
        while let Some(entry) = self.entries.get(self.wire)
            && matches!(entry.wire, Wire::Tagged(_))
        {
            let left = entry.batch.bytes.len() - self.offset;
            if count < left {
                self.offset += count;
                count = 0;
                break;
            }
            count -= left;
            self.offset = 0;
            self.wire += 1;
        }
        assert_eq!(count, 0, "wrote more than was ready");
        self.pop(report);
    }

    /// The broker confirmed `tag`, or with `multiple` everything up to it.
    pub fn confirm(&mut self, tag: u64, multiple: bool, report: impl FnMut(Progress)) {
        let mut known = 0;
        if multiple {
            for entry in &mut self.entries {
                let Wire::Tagged(first) = entry.wire else { break };
                if first > tag {
                    break;
                }
                let count =
                    usize::try_from(tag - first + 1).unwrap_or(usize::MAX).min(entry.batch.records.len());
                for record in &mut entry.batch.records[..count] {
                    known += u64::from(!record.confirmed);
                    record.confirmed = true;
                }
            }
        } else {
            let after = self
                .entries
                .partition_point(|entry| matches!(entry.wire, Wire::Tagged(first) if first <= tag));
            // Entries without records (all confirmed before a repeat) share their first tag with the next one;
            // the last entry that begins at or before the tag is the one that holds it.
            if let Some(entry) = after.checked_sub(1).and_then(|index| self.entries.get_mut(index))
                && let Wire::Tagged(first) = entry.wire
                && let Some(record) =
                    usize::try_from(tag - first).ok().and_then(|place| entry.batch.records.get_mut(place))
                && !record.confirmed
            {
                record.confirmed = true;
                known = 1;
            }
        }
        if known == 0 {
            self.stats.confirms_unknown += 1;
        }
        self.stats.confirmed += known;
        self.pop(report);
    }

    /// The publish channel is gone: everything that was on the wire has to go out again, in its old order.
    pub fn rewind(&mut self) {
        for (index, entry) in self.entries.iter_mut().enumerate() {
            let touched = index < self.wire || (index == self.wire && self.offset > 0);
            if let Wire::Tagged(_) = entry.wire {
                entry.wire = if touched { Wire::Stale } else { Wire::Fresh };
            }
        }
        self.wire = 0;
        self.offset = 0;
        self.timing.rewound();
        self.next_tag = 1;
    }

    /// The broker closed the publish channel over what a publish says or how large it is, not over a fault of its
    /// own, so the same would happen again. The first time makes what was under way go out one publish at a time.
    /// When that finds the one that is refused, it is dropped, so that it does not stand in the way of all others
    /// for ever: the answer is its shard and record. To be called before [`Outbox::rewind`].
    pub fn refused(&mut self) -> Option<(u32, Record)> {
        let under_way =
            self.entries.range(..(self.wire + usize::from(self.offset > 0)).min(self.entries.len()));
        let suspects: u64 = under_way
            .map(|entry| entry.batch.records.iter().filter(|record| !record.confirmed).count() as u64)
            .sum();
        if self.suspects == 0 || suspects != 1 {
            self.suspects = suspects;
            return None;
        }
        self.suspects = 0;
        let entry = self.entries.front_mut()?;
        let record = entry.batch.records.iter_mut().find(|record| !record.confirmed)?;
        record.confirmed = true;
        self.stats.refused += 1;
        self.stats.confirmed += 1;
        Some((entry.shard, *record))
    }

    /// Gives the first unconfirmed publish an entry of its own at the front.
    fn split_first(&mut self) {
        // Confirmed as a whole, and reported: there are no bytes of it that a write could get past.
        while self
            .entries
            .front()
            .is_some_and(|entry| entry.batch.records.iter().all(|record| record.confirmed))
        {
            let Some(entry) = self.entries.pop_front() else { break };
            self.memory_bytes -= entry.batch.memory_bytes();
            self.spool_confirmed = self.spool_confirmed.max(entry.spool_end);
            self.put_spare(entry.batch);
        }
        let Some(entry) = self.entries.front_mut() else { return };
        let Some(at) = entry.batch.records.iter().position(|record| !record.confirmed) else { return };
        if entry.batch.records.len() == 1 {
            return;
        }
        let record = entry.batch.records[at];
        let start = at.checked_sub(1).map_or(0, |before| entry.batch.records[before].end);
        let bytes = entry.batch.bytes.get(start..record.end).unwrap_or_default().to_vec();
        let frame_max = entry.batch.frame_max;
        let alone = Record { end: bytes.len(), ..record };
        self.memory_bytes -= entry.batch.memory_bytes();
        // What is confirmed before it was reported; only order within the rest matters now.
        entry.batch.bytes.drain(..record.end);
        entry.batch.records.drain(..=at);
        entry.batch.records.iter_mut().for_each(|rest| rest.end -= record.end);
        entry.done = 0;
        let (shard, wire, copied) = (entry.shard, entry.wire, entry.copied);
        let mut spool_end = 0;
        self.memory_bytes += entry.batch.memory_bytes();
        if entry.batch.records.is_empty() {
            self.memory_bytes -= entry.batch.memory_bytes();
            spool_end = entry.spool_end;
            self.entries.pop_front();
        }
        let batch = Batch { bytes, records: vec![alone], frame_max, skipped: None, received_at: None };
        self.memory_bytes += batch.memory_bytes();
        self.entries.push_front(Entry { shard, wire, batch, done: 0, copied, spool_end, written_at: None });
    }

    /// Drops the confirmed head of the queue and reports how far each shard has come.
    fn pop(&mut self, mut report: impl FnMut(Progress)) {
        while let Some(entry) = self.entries.front_mut() {
            let records = &entry.batch.records;
            let before = entry.done;
            // What has no seq tells of a gap, and would not be told again: the one before it counts only with it.
            let is_held = |at: usize| records.get(at).is_some_and(|next| next.seq == 0 && !next.confirmed);
            while records.get(entry.done).is_some_and(|record| record.confirmed) && !is_held(entry.done + 1) {
                entry.done += 1;
            }
            // The highest seq, as a record without one says nothing. Sessions change within a batch only
            // forwards, so the last record of the run names the right one.
            let reached = records[before..entry.done].iter().rev().find(|record| record.seq > 0);
            if let Some(record) = reached {
                report(Progress {
                    shard: entry.shard,
                    session: record.session,
                    seq: record.seq,
                    spooled: entry.copied,
                });
            }
            if entry.done < records.len() || self.wire == 0 {
                return;
            }
            self.memory_bytes -= entry.batch.memory_bytes();
            self.wire -= 1;
            self.timing.popped(entry.written_at, entry.batch.records.len());
            self.suspects = self.suspects.saturating_sub(entry.batch.records.len() as u64);
            if let Some(entry) = self.entries.pop_front() {
                self.spool_confirmed = self.spool_confirmed.max(entry.spool_end);
                self.put_spare(entry.batch);
            }
        }
    }
}

impl Entry {
    /// Frames what is not confirmed anew, with the mark if it may have gone out before. Returns how many publishes
    /// those are, and how many could not be framed.
    fn frame_again(&mut self, frame_max: u32, repeat: bool) -> (u64, u64) {
        let old = std::mem::take(&mut self.batch);
        self.batch.frame_max = frame_max;
        self.batch.received_at = old.received_at;
        let mut start = 0;
        let mut failed = 0;
        // Room for the marks too: a buffer that has to grow doubles, and a full outbox with it.
        self.batch.bytes.reserve_exact(old.bytes.len() + old.records.len() * REPEAT_BYTES);
        self.batch.records.reserve_exact(old.records.len());
        for record in &old.records {
            let message = old.bytes.get(start..record.end).unwrap_or_default();
            start = record.end;
            if record.confirmed {
                continue;
            }
            let length = self.batch.bytes.len();
            if reframe(message, frame_max, repeat, &mut self.batch.bytes).is_err() {
                self.batch.bytes.truncate(length);
                failed += 1;
                continue;
            }
            self.batch.records.push(Record { end: self.batch.bytes.len(), ..*record });
        }
        self.done = 0;
        (self.batch.records.len() as u64, failed)
    }
}

#[cfg(test)]
#[path = "outbox_tests.rs"]
mod tests;
