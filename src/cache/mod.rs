//! What rateway remembers of Discord: entities in a fixed amount of memory, kept by events, asked by workers.
//!
//! Enters: bodies of dispatches, questions. Leaves: entities as JSON text. Never here: a socket, a clock, a log line, a
//! name of AMQP.
//!
//! ```text
//! event    -> parse -> partition of the shard (locked by its task) -> tree -> pages of the region
//! question -> guild's shard by formula, or directory: id -> shard -> that partition, if nobody works on it -> JSON
//! ```
//!
//! A partition is what the events of one shard made. Its lock is held while an event is applied or a question is
//! answered, so the task hardly ever finds it taken; all others only try, and come again (`Answer::Busy`). What is
//! shared, apart from the region's pages, is read without a lock: the table of shapes and the directory.

pub mod arena;
mod common;
mod counts;
pub mod directory;
pub mod encoding;
mod kept;
pub mod kind;
mod open;
mod partition;
pub mod question;
mod stats;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use arena::ReserveError;
use common::Common;
pub use common::Holding;
use directory::Directory;
use encoding::{Parser, Shapes};
pub use kept::{OpenError, Position};
pub use kind::{KINDS, Kind, KindSet};
pub use open::{Kept, Opened};
use partition::{Answered, Event, Partition, Step, Tools};
pub use question::{Question, QuestionError};
pub use stats::{Figures, KindFigures};

/// What a cache is made with.
#[derive(Clone, Debug)]
pub struct Options {
    /// All the memory that it may have: pages, directory, shapes.
    pub memory_bytes: usize,
    /// What is held.
    pub holding: Holding,
    /// The shards of this process, in order.
    pub shards: Vec<u32>,
    /// All shards of the bot.
    pub shard_count: u32,
    /// For the directory's hash; unknown to whoever chooses ids.
    pub seed: [u64; 2],
}

/// The part of the memory that the directory has when there is more than one shard: an entry for each 44 bytes of the
/// rest. Guilds without members take 69 bytes for each entity that is found by its own id, those with members 110.
const DIRECTORY_SHARE: usize = 12;
/// How long a question waits for an event that is being applied where the answer is.
const LOCK_WAIT: Duration = Duration::from_micros(100);
/// Memory per shape; large caches get the default number of shapes.
const BYTES_PER_SHAPE: usize = 8 * 1024;
const SHAPES_MIN: usize = 64;

/// Buffers of one thread.
#[derive(Default)]
pub struct Scratch {
    parser: Parser,
    tools: Tools,
}

/// What became of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// It was applied, or changes nothing.
    Done,
    /// It was applied earlier, by its position; nothing was changed.
    Repeat,
    /// Its body is not what Discord documents; nothing was changed.
    Misfit,
    /// A bug in here broke the change off: what the partition holds is forgotten with its next event.
    Broken,
}

/// What became of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The JSON was appended.
    Found,
    /// This process does not hold it.
    Missing,
    /// An event is being applied there: ask again.
    Busy,
    /// The answer would be too long, see [`ANSWER_BYTES_MAX`].
    TooLarge,
}

pub use partition::ANSWER_BYTES_MAX;

/// The cache of this process.
pub struct Cache {
    common: Common,
    /// In the order of `shards`.
    partitions: Box<[Mutex<Partition>]>,
    shards: Vec<u32>,
    shard_count: u32,
    /// Nothing changes any more; read under a partition's lock.
    closed: AtomicBool,
}

/// The parts of a cache's memory.
struct Sizes {
    shapes_max: usize,
    shapes: Shapes,
    directory: Directory,
    region_bytes: usize,
}

impl Cache {
    /// Reserves the memory.
    ///
    /// # Errors
    /// When the system has not got it, or it is less than a page.
    pub fn new(options: Options) -> Result<Cache, ReserveError> {
        let sizes = Sizes::of(&options);
        let region = sizes.region()?;
        let partitions =
            (0..options.shards.len()).map(|index| Mutex::new(Partition::new(index as u16, &region)));
        let partitions = partitions.collect();
        let common = Common::new(options.holding.clone(), region, sizes.shapes, sizes.directory);
        Ok(Cache::with(common, partitions, &options))
    }

    fn with(common: Common, partitions: Box<[Mutex<Partition>]>, options: &Options) -> Cache {
        Cache {
            common,
            partitions,
            shards: options.shards.clone(),
            shard_count: options.shard_count.max(1),
            closed: AtomicBool::new(false),
        }
    }

    /// The place of a shard of this process, for [`Cache::apply`].
    pub fn partition_of(&self, shard: u32) -> Option<usize> {
        self.shards.binary_search(&shard).ok()
    }

    /// Applies an event of the shard whose partition it is, whatever was applied before. What a partition holds then is
    /// not kept in a file, as nobody knows where its events would go on.
    pub fn apply(&self, partition: usize, event: &str, d: &[u8], scratch: &mut Scratch) -> Applied {
        self.apply_at(partition, Position::default(), event, d, scratch)
    }

    /// Applies an event of the shard whose partition it is, unless that was done already: RESUME brings events again.
    /// `position` is noted with the change, also of events that change nothing; one without session is as for
    /// [`Cache::apply`]. Waits, if need be, for one answer to be written.
    pub fn apply_at(
        &self,
        partition: usize,
        position: Position,
        event: &str,
        d: &[u8],
        scratch: &mut Scratch,
    ) -> Applied {
        let Some(partition) = self.partitions.get(partition) else { return Applied::Done };
        let Some(event) = Event::from_name(event).filter(|event| event.matters(&self.common.options)) else {
            return self.note(partition, position);
        };
        let applied =
            catch_unwind(AssertUnwindSafe(|| self.apply_to(partition, position, event, d, scratch)));
        applied.unwrap_or_else(|_| {
            *scratch = Scratch::default();
            Applied::Broken
        })
    }

    /// Notes how far a shard is, after an event that changes nothing that is held. Only a file asks for that.
    fn note(&self, partition: &Mutex<Partition>, position: Position) -> Applied {
        if position.session == 0 || !self.common.is_kept() {
            return Applied::Done;
        }
        let mut partition = partition.lock();
        if partition.position().includes(position) {
            return Applied::Repeat;
        }
        if !partition.is_broken() && !self.is_closed() {
            partition.begin(&self.common);
            partition.set_position(position);
            partition.end(&self.common);
        }
        Applied::Done
    }

    fn apply_to(
        &self,
        partition: &Mutex<Partition>,
        position: Position,
        event: Event,
        d: &[u8],
        scratch: &mut Scratch,
    ) -> Applied {
        let Scratch { parser, tools } = scratch;
        let applied = parser.read(d, |d| {
            let mut partition = partition.lock();
            if partition.position().includes(position) {
                return Applied::Repeat;
            }
            if self.is_closed() {
                return Applied::Done;
            }
            if !partition.begin(&self.common) {
                self.common.totals.broken.fetch_add(1, Ordering::Relaxed);
            }
            let mut step = Step::new(&self.common, &self.partitions, &mut partition, tools);
            let fits = step.dispatch(event, d);
            step.sweep(partition::ENTRIES_PER_STEP);
            partition.set_position(position);
            partition.end(&self.common);
            if fits.is_some() { Applied::Done } else { Applied::Misfit }
        });
        let applied = applied.unwrap_or_else(|_| {
            self.note(partition, position);
            Applied::Misfit
        });
        if applied == Applied::Misfit {
            self.common.totals.misfits.fetch_add(1, Ordering::Relaxed);
        }
        applied
    }

    fn is_closed(&self) -> bool {
        // Ordering: set and read under a partition's lock.
        self.closed.load(Ordering::Relaxed)
    }

    /// Appends the answer to `out`.
    pub fn ask(&self, question: Question, scratch: &mut Scratch, out: &mut Vec<u8>) -> Answer {
        match question {
            Question::CurrentUser => {
                return if self.common.write_current_user(out) { Answer::Found } else { Answer::Missing };
            }
            Question::Stats => {
                stats::write(&self.common, out);
                return Answer::Found;
            }
            _ => {}
        }
        if let Some(guild) = partition::guild_of(question) {
            let found = match self.partition_of_guild(guild) {
                Some(partition) => self.ask_one(partition, question, scratch, out),
                None => Answer::Missing,
            };
            // The place of a voice state may be a channel as well.
            if found != Answer::Missing || !matches!(question, Question::VoiceState { .. }) {
                return found;
            }
        }
        self.ask_by_id(question, scratch, out)
    }

    /// Where a guild is (Discord's formula), if it is here.
    fn partition_of_guild(&self, guild: u64) -> Option<usize> {
        self.partition_of(((guild >> 22) % u64::from(self.shard_count)) as u32)
    }

    fn ask_one(
        &self,
        partition: usize,
        question: Question,
        scratch: &mut Scratch,
        out: &mut Vec<u8>,
    ) -> Answer {
        let Some(partition) = self.partitions.get(partition) else { return Answer::Missing };
        // Nearly every event is applied in less than that; the thread that asks has others to serve.
        let Some(partition) = partition.try_lock_for(LOCK_WAIT) else { return Answer::Busy };
        if partition.is_broken() {
            return Answer::Missing;
        }
        match partition.answer(&self.common, &mut scratch.tools, question, out) {
            Answered::Found => Answer::Found,
            Answered::Missing => Answer::Missing,
            Answered::TooLarge => Answer::TooLarge,
        }
    }

    /// Asks those partitions that may know; the first of several answers. Shard 0 comes last: of users it may know just
    /// what private messages say.
    fn ask_by_id(&self, question: Question, scratch: &mut Scratch, out: &mut Vec<u8>) -> Answer {
        if self.partitions.len() == 1 {
            return self.ask_one(0, question, scratch, out);
        }
        let mut answered = Answer::Missing;
        for (row, id) in partition::directory_rows(question) {
            let candidates = self.common.directory.candidates(row, id);
            let all = if candidates.everybody { self.partitions.len() } else { 0 };
            for partition in candidates.shards().iter().rev().copied().map(usize::from).chain((0..all).rev())
            {
                match self.ask_one(partition, question, scratch, out) {
                    Answer::Missing => {}
                    // Another one may know it as well.
                    Answer::Busy => answered = Answer::Busy,
                    answer => return answer,
                }
            }
        }
        answered
    }

    /// A warning for the operator, if guilds had to go: how much memory would have been enough, as far as one can
    /// tell. Once.
    pub fn take_sizing_warning(&self) -> Option<String> {
        stats::sizing_warning(&self.common)
    }

    /// What does not agree within the cache, in words; slow, for tests. Nothing may be applied meanwhile.
    pub fn audit(&self) -> Vec<String> {
        let (mut faults, mut listed) = (Vec::new(), 0);
        for (index, partition) in self.partitions.iter().enumerate() {
            let (found, count) = partition.lock().audit(&self.common);
            faults.extend(found.into_iter().map(|fault| format!("partition {index}: {fault}")));
            listed += count;
        }
        let usage = self.common.directory.usage();
        if usage.used + usage.overflowed != listed {
            faults.push(format!("the directory has {usage:?}, and there are {listed}"));
        }
        faults
    }

    /// What is held and what had to go, for whoever watches.
    pub fn figures(&self) -> Figures {
        stats::figures(&self.common)
    }

    /// Entities held.
    pub fn held(&self, kind: Kind) -> u64 {
        self.common.totals.held(kind)
    }

    /// Sweeps what waits in all partitions to the end: for tests that look at the whole.
    pub fn settle(&self, scratch: &mut Scratch) {
        for partition in &self.partitions {
            let mut partition = partition.lock();
            if self.is_closed() {
                return;
            }
            partition.begin(&self.common);
            Step::new(&self.common, &self.partitions, &mut partition, &mut scratch.tools).settle();
            partition.end(&self.common);
        }
    }
}
