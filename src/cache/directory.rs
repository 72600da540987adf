//! Which shards may know an id: a query by id alone then costs the same with 8 shards as with 1,000.
//!
//! What enters: (kind, id, shard), added and removed as entities come and go. What leaves: the shards to ask, never one
//! too few. What never happens: a lock, growth, moving an entry, a rehash.
//!
//! ```text
//! buckets   16 entries of: fingerprint u16 | shard u16; 0 is free      one cache line; an id has two of them
//! cells     u32: adds that found no room                               one per bucket, several ids share one
//! ```
//!
//! An id that is in very many shards (the bot itself, other bots) would fill its buckets alone, so at most
//! [`CANDIDATES_MAX`] of its entries are held; the others, and those that find both buckets full, are only counted in
//! its cell. As long as a cell is not 0, the answer for its ids is "ask everybody", which is right and slow.
//!
//! Threads need no lock between them if each shard's adds and removals come one after the other (a shard's partition
//! has one owner at a time):
//! - Ids with the same fingerprint that share one bucket share both, as the second follows from the first and the
//!   fingerprint. Such twins of one shard have equal entries, and it does not matter whose is removed.
//! - Readers and removals go through the slots in the same direction, and a removal takes the first that fits. So an
//!   entry that goes on living cannot hide behind a reader by way of a twin that came and went.
//! - An add that was only counted stays counted while it lives, and a removal that finds no entry is what ends the
//!   count. So a reader that looks at the cell after the slots misses nobody.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use super::arena::{block, sip};

/// Shards that an answer names at most, and entries that are held of one id.
pub const CANDIDATES_MAX: usize = 16;

/// Entries of a bucket: one cache line.
const SLOTS: usize = 16;
const BUCKET_BYTES: usize = SLOTS * 4;
const CELL_BYTES: usize = 4;
/// Places that are looked at in advance.
const AHEAD: usize = 32;
/// An odd number with its bits well spread: the golden ratio times 2^64.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// Counters on a cache line of their own, as every thread writes them.
#[derive(Default)]
#[repr(align(64))]
struct Counters {
    used: AtomicUsize,
    overflowed: AtomicUsize,
}

/// The table; see the head of this file.
pub struct Directory {
    seed: [u64; 2],
    /// Invariant: `count` buckets, from `skip` on, where a cache line begins.
    words: Box<[AtomicU32]>,
    skip: usize,
    count: usize,
    cells: Box<[AtomicU32]>,
    counters: Counters,
}

/// How full a directory is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Entries that fit.
    pub slots: usize,
    /// Entries held.
    pub used: usize,
    /// Adds that were only counted: their ids are answered with "everybody".
    pub overflowed: usize,
}

/// Whom to ask for an id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Candidates {
    shards: [u16; CANDIDATES_MAX],
    len: usize,
    /// All other shards may know it too: ask those of [`shards`](Candidates::shards) first, then all.
    pub everybody: bool,
}

impl Candidates {
    /// The shards that are known by name, ascending, each once. One among thousands is there by mistake.
    pub fn shards(&self) -> &[u16] {
        &self.shards[..self.len]
    }

    fn insert(&mut self, shard: u16) {
        let at = self.shards().partition_point(|&known| known < shard);
        if self.shards().get(at) == Some(&shard) {
            return;
        }
        if self.len == CANDIDATES_MAX {
            self.everybody = true;
            return;
        }
        self.shards.copy_within(at..self.len, at + 1);
        self.shards[at] = shard;
        self.len += 1;
    }
}

/// Where the entries of an id are.
struct Place {
    /// The two buckets, ascending; they may be one and the same.
    buckets: [usize; 2],
    /// Never 0, so that no entry is 0.
    fingerprint: u32,
    cell: usize,
}

impl Place {
    fn entry(&self, shard: u16) -> u32 {
        self.fingerprint << 16 | u32::from(shard)
    }
}

/// One of `count`, by the upper half of `hash`.
fn pick(hash: u64, count: usize) -> usize {
    ((u128::from(hash) * count as u128) >> 64) as usize
}

impl Directory {
    /// An empty directory of at most `bytes`, at least one bucket. Its memory is committed as it fills.
    pub fn with_capacity(bytes: usize, seed: [u64; 2]) -> Directory {
        let count = (bytes / (BUCKET_BYTES + CELL_BYTES)).max(1);
        let words = block::zeros((count + 1) * SLOTS);
        let skip = words.as_ptr().align_offset(BUCKET_BYTES).min(SLOTS);
        Directory { seed, words, skip, count, cells: block::zeros(count), counters: Counters::default() }
    }

    /// The slots of a bucket.
    fn bucket(&self, at: usize) -> &[AtomicU32] {
        let from = self.skip + at * SLOTS;
        &self.words[from..from + SLOTS]
    }

    /// Notes that `shard` has learnt of an id. Adding again counts again: as many removals undo it.
    pub fn add(&self, kind: u8, id: u64, shard: u16) {
        if self.add_at(&self.place(kind, id), shard) {
            self.counters.used.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The same for many: where they go is looked at in advance, so that the waits for memory fall together.
    pub fn add_all(&self, ids: &[(u8, u64)], shard: u16) {
        for some in ids.chunks(AHEAD) {
            let places: [Option<Place>; AHEAD] =
                std::array::from_fn(|at| some.get(at).map(|(kind, id)| self.place(*kind, *id)));
            let looks = places.iter().flatten().flat_map(|place| place.buckets);
            let seen = looks.fold(0, |seen, at| seen ^ self.bucket(at)[0].load(Ordering::Relaxed));
            std::hint::black_box(seen);
            let used = places.iter().flatten().filter(|place| self.add_at(place, shard)).count();
            self.counters.used.fetch_add(used, Ordering::Relaxed);
        }
    }

    /// False if it was only counted.
    fn add_at(&self, place: &Place, shard: u16) -> bool {
        // Somebody may take the slot that was seen free; then another is looked for.
        while let Some(slot) = self.free_slot(place) {
            if slot.compare_exchange(0, place.entry(shard), Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                return true;
            }
        }
        self.cells[place.cell].fetch_add(1, Ordering::AcqRel);
        self.counters.overflowed.fetch_add(1, Ordering::Relaxed);
        false
    }

    /// Undoes one earlier [`add`](Directory::add). Removing what was never added makes later answers wrong.
    pub fn remove(&self, kind: u8, id: u64, shard: u16) {
        let place = self.place(kind, id);
        let entry = place.entry(shard);
        for slot in self.slots(&place) {
            if slot.load(Ordering::Acquire) == entry
                && slot.compare_exchange(entry, 0, Ordering::AcqRel, Ordering::Relaxed).is_ok()
            {
                self.counters.used.fetch_sub(1, Ordering::Relaxed);
                return;
            }
        }
        let less = |count: u32| count.checked_sub(1);
        let counted = self.cells[place.cell].fetch_update(Ordering::AcqRel, Ordering::Relaxed, less);
        debug_assert!(counted.is_ok(), "removed what was never added: {kind} {id} of shard {shard}");
        if counted.is_ok() {
            self.counters.overflowed.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// The shards to ask for an id.
    pub fn candidates(&self, kind: u8, id: u64) -> Candidates {
        self.look(kind, id, || {})
    }

    /// As above; `meanwhile` is called between any two looks, so that a test can let others act there.
    fn look(&self, kind: u8, id: u64, mut meanwhile: impl FnMut()) -> Candidates {
        let place = self.place(kind, id);
        let mut found = Candidates::default();
        for slot in self.slots(&place) {
            let entry = slot.load(Ordering::Acquire);
            if entry >> 16 == place.fingerprint {
                found.insert(entry as u16);
            }
            meanwhile();
        }
        // Last, see the head of this file.
        found.everybody |= self.cells[place.cell].load(Ordering::Acquire) > 0;
        found
    }

    /// Forgets all entries of a shard whose partition was cleared as a whole, at the cost of one pass over the table.
    /// Adds that were only counted cannot be told apart and stay counted: their few ids go on being asked everywhere.
    pub fn purge(&self, shard: u16) {
        for slot in &self.words[self.skip..self.skip + self.count * SLOTS] {
            let entry = slot.load(Ordering::Acquire);
            if entry != 0
                && entry as u16 == shard
                && slot.compare_exchange(entry, 0, Ordering::AcqRel, Ordering::Relaxed).is_ok()
            {
                self.counters.used.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }

    /// What its hash is made with.
    pub fn seed(&self) -> [u64; 2] {
        self.seed
    }

    /// How full it is.
    pub fn usage(&self) -> Usage {
        Usage {
            slots: self.count * SLOTS,
            used: self.counters.used.load(Ordering::Relaxed),
            overflowed: self.counters.overflowed.load(Ordering::Relaxed),
        }
    }

    /// Bytes of buckets and cells.
    pub fn memory_bytes(&self) -> usize {
        self.count * (BUCKET_BYTES + CELL_BYTES)
    }

    fn place(&self, kind: u8, id: u64) -> Place {
        let hash = sip::hash(self.seed, kind, id, 0);
        // The lowest bits, while `pick` goes by the highest: the two have nothing to do with each other.
        let fingerprint = (hash & 0xffff).max(1);
        let count = self.count;
        let first = pick(hash, count);
        // first + second = turn (mod count), from either side.
        let turn = pick(fingerprint.wrapping_mul(SPREAD), count);
        let second = if turn >= first { turn - first } else { turn + count - first };
        let buckets = [first.min(second), first.max(second)];
        let cell = pick((((buckets[0] as u64) << 16) | fingerprint).wrapping_mul(SPREAD), count);
        Place { buckets, fingerprint: fingerprint as u32, cell }
    }

    /// The buckets of a place, ascending, each once.
    fn buckets(&self, place: &Place) -> impl Iterator<Item = &[AtomicU32]> {
        let [low, high] = place.buckets;
        let other = (low != high).then(|| self.bucket(high));
        std::iter::once(self.bucket(low)).chain(other)
    }

    /// The slots of a place, always in the same order.
    fn slots(&self, place: &Place) -> impl Iterator<Item = &AtomicU32> {
        self.buckets(place).flatten()
    }

    /// A free slot in the emptier bucket; none if both are full or enough entries of this id are held.
    fn free_slot(&self, place: &Place) -> Option<&AtomicU32> {
        let (mut best, mut best_free, mut held) = (None, 0, 0);
        for bucket in self.buckets(place) {
            let (mut slot_found, mut free) = (None, 0);
            for slot in bucket {
                match slot.load(Ordering::Relaxed) {
                    0 => (slot_found, free) = (Some(slot), free + 1),
                    entry => held += usize::from(entry >> 16 == place.fingerprint),
                }
            }
            if free > best_free {
                (best, best_free) = (slot_found, free);
            }
        }
        best.filter(|_| held < CANDIDATES_MAX)
    }
}

#[cfg(test)]
mod tests;
