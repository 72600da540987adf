//! What one cluster has for its broker: the outbox in memory, and behind it the spool on disk.
//!
//! ```text
//! batches -> outbox ------------------------> wire      while the broker keeps up
//! batches -> outbox -> copied to the spool, then        when the outbox is three quarters full
//! batches -> spool -> (read back) -> outbox -> wire     until nothing is left to read back
//! ```
//!
//! Everything leaves in the order in which it came. What the outbox holds when the spool takes over stays in it, for a
//! broker that is only slow; its copy on disk serves the next process. From then on a shard's events count as safe once
//! they are on disk, so that RESUME goes on behind them, however long the broker stays away. When the disk takes no more,
//! what came last is held and [`Publisher::pauses`] says that nothing may be read.
//!
//! Never here: a clock or a socket; files are behind [`Files`], so that a simulation can fail and crash at each step.

mod overflow;
mod shedding;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use crate::reactor::Turn;
use crate::relay::{Batch, Outbox, Progress};
use crate::state::spool::{Block, Disk, Files, Spool};

use shedding::Shedding;

/// What a publisher is told.
#[derive(Clone, Debug)]
pub struct Options {
    /// The cluster's number, for the log.
    pub cluster: u32,
    /// The cluster's exchange.
    pub exchange: Arc<str>,
    /// Whether what is announced outlives a restart of the broker.
    pub persistent: bool,
    /// Ids of the cluster's shards.
    pub shards: Range<u32>,
    /// The caller's own number of the first of them. The others follow.
    pub first_slot: u32,
    /// Memory of the outbox, in bytes.
    pub outbox_bytes_max: usize,
}

/// Who takes what comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// The outbox; nothing on disk waits to be read.
    Outbox,
    /// The outbox, while what it holds is copied to the disk.
    Copying,
    /// The spool.
    Spool,
}

/// A batch that the disk did not take.
#[derive(Debug)]
struct Held {
    slot: u32,
    batch: Batch,
    promised: usize,
}

/// The broker, as it is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// The largest frame that it takes, in bytes.
    pub frame_max: u32,
    /// Whether it takes publishes, and is to be given what is on disk.
    pub drains: bool,
}

/// The publisher of one cluster.
pub struct Publisher<F: Files = Disk> {
    /// What is written to the broker, for whoever writes. Batches come in by [`Publisher::accept`].
    pub outbox: Outbox,
    options: Options,
    spool: Option<Spool<F>>,
    mode: Mode,
    held: VecDeque<Held>,
    shedding: Shedding,
    block: Block,
    /// The disk refused to be written to, or read from: not tried again before.
    write_at: Option<Instant>,
    read_at: Option<Instant>,
    told_at: Option<Instant>,
    /// Copying goes on with the next turn.
    more: bool,
    /// Times that the spool took over, and that the disk took no more.
    pub overflows: u64,
    /// See [`Publisher::overflows`].
    pub refusals: u64,
}

impl<F: Files> Publisher<F> {
    /// A publisher without a disk.
    pub fn new(options: Options) -> Publisher<F> {
        Publisher {
            outbox: Outbox::new(options.outbox_bytes_max),
            options,
            spool: None,
            mode: Mode::Outbox,
            held: VecDeque::new(),
            shedding: Shedding::default(),
            block: Block::default(),
            write_at: None,
            read_at: None,
            told_at: None,
            more: false,
            overflows: 0,
            refusals: 0,
        }
    }

    /// Gives it a disk, before anything has come in. What an earlier process left there goes out first.
    pub fn attach(&mut self, spool: Spool<F>) {
        if !spool.is_empty() {
            self.mode = Mode::Spool;
        }
        self.spool = Some(spool);
    }

    /// Promises memory to a batch that is about to be filled, see [`Outbox::reserve`]. While the spool takes batches the
    /// outbox may be as full as it likes: it leaves a quarter of its memory to them.
    pub fn reserve(&mut self) -> Option<usize> {
        if self.mode != Mode::Spool {
            return self.outbox.reserve();
        }
        let (promised, share) = self.outbox.promised();
        let room = promised == 0 || promised + share <= self.outbox.memory_bytes_max() / 4;
        room.then(|| self.outbox.promise())
    }

    /// Takes in what a shard's task has framed, for which `promised` bytes were reserved. `report` is told what counts as
    /// safe by that.
    pub fn accept(
        &mut self,
        turn: Turn,
        slot: u32,
        batch: Batch,
        promised: usize,
        report: &mut impl FnMut(Progress),
    ) {
        if batch.records.is_empty() {
            self.outbox.release(promised);
            self.outbox.put_spare(batch);
        } else if self.mode != Mode::Spool {
            self.outbox.release(promised);
            self.outbox.push(slot, batch);
        } else {
            self.held.push_back(Held { slot, batch, promised });
            if self.held.len() == 1 {
                self.spool_held(turn, report);
            }
        }
    }

    /// Whether reading has to stop, or stay stopped when it is `paused`.
    pub fn pauses(&self, paused: bool) -> bool {
        match self.mode {
            Mode::Spool => !self.held.is_empty(),
            _ if paused => !self.outbox.has_room(),
            _ => self.outbox.is_full(),
        }
    }

    /// Whether nothing waits for a confirm but what is on disk.
    pub fn is_settled(&self) -> bool {
        self.outbox.is_empty() && self.held.is_empty()
    }

    /// Publishes that wait in memory, and on disk alone.
    pub fn waiting(&self) -> (u64, u64) {
        let memory = self.outbox.unconfirmed();
        let held: u64 = self.held.iter().map(|held| held.batch.records.len() as u64).sum();
        let disk = self.spool.as_ref().map_or(0, |spool| spool.unread());
        (memory + held, disk)
    }

    /// The spool, if there is one.
    pub fn spool(&self) -> Option<&Spool<F>> {
        self.spool.as_ref()
    }

    /// Whether the spool takes what comes in.
    pub fn is_spooling(&self) -> bool {
        self.mode == Mode::Spool
    }

    /// Whether the next turn has something to do at once.
    pub fn has_more(&self) -> bool {
        self.more
    }

    /// When the disk is to be tried again.
    pub fn deadline(&self) -> Option<Instant> {
        [self.write_at, self.read_at].into_iter().flatten().min()
    }

    fn shard_of(&self, slot: u32) -> u32 {
        self.options.shards.start + slot.wrapping_sub(self.options.first_slot)
    }

    /// The caller's number of a shard. One that another process had is nobody's here.
    fn slot_of(&self, shard: u32) -> u32 {
        match self.options.shards.contains(&shard) {
            true => self.options.first_slot + (shard - self.options.shards.start),
            false => u32::MAX,
        }
    }
}
