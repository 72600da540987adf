//! How much is held, and what had to go: of one partition, and of the process.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use super::kind::{KINDS, Kind};

/// What a partition holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    held: [u64; KINDS.len()],
    unavailable: u64,
    waste: u64,
}

impl Counts {
    /// Counts entities that came (or, below 0, went).
    pub fn add(&mut self, kind: Kind, by: i64) {
        let held = &mut self.held[kind as usize];
        *held = held.saturating_add_signed(by);
    }

    /// How many are held.
    pub fn get(&self, kind: Kind) -> u64 {
        self.held[kind as usize]
    }

    /// How many rows wait to be swept, or stand for many that do.
    pub fn set_waste(&mut self, waste: u64) {
        self.waste = waste;
    }

    /// Guilds that are flagged.
    pub fn unavailable(&self) -> u64 {
        self.unavailable
    }

    /// A guild's flag changed.
    pub fn flag_unavailable(&mut self, before: bool, after: bool) {
        self.unavailable = self.unavailable + u64::from(after) - u64::from(before);
    }
}

/// What all partitions hold, kept up after each event, so that nobody has to ask them.
#[derive(Debug, Default)]
pub struct Totals {
    held: [AtomicI64; KINDS.len()],
    unavailable: AtomicI64,
    waste: AtomicI64,
    evicted: [AtomicU64; KINDS.len()],
    refused: [AtomicU64; KINDS.len()],
    /// Events whose body did not fit.
    pub misfits: AtomicU64,
    /// Partitions that were forgotten because a change of them broke off.
    pub broken: AtomicU64,
}

// Ordering: all of these are figures for people; nothing else is read because of them.
impl Totals {
    /// Brings what the totals know of a partition up to date.
    pub fn change(&self, told: &mut Counts, now: &Counts) {
        if told == now {
            return;
        }
        for (index, held) in self.held.iter().enumerate() {
            let by = now.held[index].wrapping_sub(told.held[index]) as i64;
            if by != 0 {
                held.fetch_add(by, Ordering::Relaxed);
            }
        }
        let difference = |now: u64, told: u64| now.wrapping_sub(told) as i64;
        self.unavailable.fetch_add(difference(now.unavailable, told.unavailable), Ordering::Relaxed);
        self.waste.fetch_add(difference(now.waste, told.waste), Ordering::Relaxed);
        *told = *now;
    }

    /// Entities held.
    pub fn held(&self, kind: Kind) -> u64 {
        self.held[kind as usize].load(Ordering::Relaxed).max(0) as u64
    }

    /// Whether any partition has something to be swept.
    pub fn has_waste(&self) -> bool {
        self.waste.load(Ordering::Relaxed) > 0
    }

    /// Guilds that are flagged.
    pub fn unavailable(&self) -> u64 {
        self.unavailable.load(Ordering::Relaxed).max(0) as u64
    }

    /// Counts entities that went because memory was short.
    pub fn evict(&self, kind: Kind, count: u64) {
        self.evicted[kind as usize].fetch_add(count, Ordering::Relaxed);
    }

    /// Entities that went because memory was short.
    pub fn evicted(&self, kind: Kind) -> u64 {
        self.evicted[kind as usize].load(Ordering::Relaxed)
    }

    /// Counts an entity that was not kept because memory was short, or because it is too large for an entity.
    pub fn refuse(&self, kind: Kind) {
        self.refused[kind as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Entities that were not kept.
    pub fn refused(&self, kind: Kind) -> u64 {
        self.refused[kind as usize].load(Ordering::Relaxed)
    }
}
