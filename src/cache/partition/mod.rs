//! What one shard's events have made: a partition, the changes that events make to it, and its answers.
//!
//! Enters: an event's name and its parsed body. Leaves: entities as JSON text. No lock and no clock in here; the
//! partition of a shard is changed by that shard's events alone, except that whoever finds the region full makes room
//! in others, too (`pressure.rs`).
//!
//! ```text
//! events.rs    the table: event -> handler
//! guilds.rs channels.rs threads.rs children.rs members.rs users.rs voice.rs messages.rs reactions.rs   the handlers
//! rows.rs keys.rs   how things lie in the tree
//! sweep.rs pressure.rs   what goes bit by bit, and what goes when memory is short
//! answers.rs   the way out
//! restore.rs   what an earlier process left, if it is sound
//! audit.rs     whether rows agree, for tests
//! ```
//!
//! The policies that the handlers follow are listed in `tests/cache_model/oracle.rs`, by which they are tested.

mod answers;
mod audit;
mod channels;
mod children;
mod events;
mod guilds;
mod keys;
mod members;
mod messages;
mod pressure;
mod reactions;
mod restore;
mod rows;
mod sweep;
mod threads;
mod users;
mod voice;

use std::sync::Arc;

use parking_lot::Mutex;

use super::arena::{Region, Tree};
use super::common::Common;
use super::counts::Counts;
use super::encoding::{Encoder, Parser};
use super::kept::{Position, Record, Saved};
pub use answers::{ANSWER_BYTES_MAX, Answered, directory_rows, guild_of};
pub use events::Event;
use pressure::Cursors;
use rows::Memo;
pub use sweep::ENTRIES_PER_STEP;

/// What one shard's events have made.
pub struct Partition {
    /// Its place among the partitions of the process.
    index: u16,
    tree: Tree,
    /// The bot's own user, since READY.
    me: Option<u64>,
    /// The user that is kept for being the bot's own.
    own_reference: Option<u64>,
    /// The last number given to a guild, its people or a ring.
    last_number: u64,
    counts: Counts,
    /// What the totals of the process know of `counts`.
    told: Counts,
    /// DOOMED rows.
    doomed: u64,
    /// STRIP rows.
    strips: u64,
    cursors: Cursors,
    memo: Memo,
    /// Set while an event is applied: found set by the next one, the last has broken off and nothing is certain.
    changing: bool,
    /// How far the shard's events have been applied.
    position: Position,
    /// Its place in the file, if there is one.
    record: Option<Record>,
}

impl Partition {
    /// An empty partition.
    pub fn new(index: u16, region: &Arc<Region>) -> Partition {
        Partition {
            index,
            tree: Tree::new(region),
            me: None,
            own_reference: None,
            last_number: 0,
            counts: Counts::default(),
            told: Counts::default(),
            doomed: 0,
            strips: 0,
            cursors: Cursors::default(),
            memo: Memo::default(),
            changing: false,
            position: Position::default(),
            record: None,
        }
    }

    /// Keeps it in a file from now on, what it holds already included.
    pub fn keep_in(&mut self, record: Record) {
        record.begin();
        self.record = Some(record);
        self.save();
    }

    /// Forgets everything, but how far it has come.
    fn clear(&mut self, common: &Common) {
        self.tree.clear();
        common.directory.purge(self.index);
        self.start_over(common);
    }

    /// Forgets everything, in a change of its own; nothing has been applied then.
    pub fn forget(&mut self, common: &Common) {
        // A partition that broke off is cleared by this, in another way.
        if self.begin(common) {
            // Entry by entry, as that leaves none behind that were only counted.
            self.each_listed(|row, id| common.directory.remove(row, id, self.index));
            self.tree.clear();
            self.start_over(common);
        }
        self.position = Position::default();
        self.end(common);
    }

    fn start_over(&mut self, common: &Common) {
        let Partition { index, told, changing, position, .. } = *self;
        let record = self.record.take();
        *self = Partition { told, changing, position, record, ..Partition::new(index, &common.region) };
    }

    /// How far the shard's events have been applied.
    pub fn position(&self) -> Position {
        self.position
    }

    /// Notes how far it is, within a change.
    pub fn set_position(&mut self, position: Position) {
        self.position = position;
    }

    /// Tells the directory and the totals of what an earlier process left.
    pub fn enlist(&mut self, common: &Common) {
        const SOME: usize = 1024;
        let mut some = Vec::with_capacity(SOME);
        self.each_listed(|row, id| {
            some.push((row, id));
            if some.len() == SOME {
                common.directory.add_all(&some, self.index);
                some.clear();
            }
        });
        common.directory.add_all(&some, self.index);
        self.tell(common);
    }

    /// Begins a change. False: the last one broke off half way, so everything had to be forgotten.
    pub fn begin(&mut self, common: &Common) -> bool {
        let sound = !std::mem::replace(&mut self.changing, true);
        if let Some(record) = &self.record {
            record.begin();
        }
        if !sound {
            self.clear(common);
        }
        sound
    }

    /// Whether the last change broke off half way.
    pub fn is_broken(&self) -> bool {
        self.changing
    }

    /// Ends a change and tells the totals.
    pub fn end(&mut self, common: &Common) {
        self.tell(common);
        self.save();
        self.changing = false;
    }

    /// Writes to the file what has come of a change.
    #[inline]
    fn save(&self) {
        if let Some(record) = &self.record {
            record.end(&Saved {
                root: self.tree.root(),
                me: self.me,
                own_reference: self.own_reference,
                last_number: self.last_number,
                position: self.position,
            });
        }
    }

    /// Tells the totals what has changed.
    fn tell(&mut self, common: &Common) {
        self.counts.set_waste(self.doomed + self.strips);
        common.totals.change(&mut self.told, &self.counts);
    }

    /// A number that nothing is kept under.
    fn next_number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }
}

/// Buffers for changes and answers, one set for each thread.
#[derive(Default)]
pub struct Tools {
    pub encoder: Encoder,
    /// For texts of our own; the event's stands in another. None while it is lent.
    parser: Option<Parser>,
    /// The value being made.
    value: Vec<u8>,
    /// A stored value of several pieces.
    old: Vec<u8>,
    text: Vec<u8>,
    patch: Vec<u8>,
    ids: Vec<u64>,
}

impl Tools {
    /// The parser, to be given back.
    fn lend_parser(&mut self) -> Parser {
        self.parser.take().unwrap_or_default()
    }
}

/// One event on its way into a partition. A handler answers `None` if the body does not fit, before it has changed
/// anything.
pub struct Step<'a> {
    pub common: &'a Common,
    /// All partitions of the process, for when memory is short. `p` is locked.
    pub all: &'a [Mutex<Partition>],
    pub p: &'a mut Partition,
    pub tools: &'a mut Tools,
    /// The guild that the event is about: not to be evicted for its own sake.
    guild: Option<u64>,
    /// The private channel that is being put: not to be evicted for its recipients' sake.
    channel: Option<u64>,
    /// Whether room is being made.
    relieving: bool,
    /// How often room was made for this event.
    rounds: usize,
}

impl<'a> Step<'a> {
    /// A step in `p`.
    pub fn new(
        common: &'a Common,
        all: &'a [Mutex<Partition>],
        p: &'a mut Partition,
        tools: &'a mut Tools,
    ) -> Step<'a> {
        Step { common, all, p, tools, guild: None, channel: None, relieving: false, rounds: 0 }
    }
}
