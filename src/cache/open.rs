//! A cache that outlives its process: opening the file, closing it, and what was kept.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::Mutex;

use super::arena::{Block, PAGE_BYTES, Region, Root, Tree, restore};
use super::common::Common;
use super::directory::Directory;
use super::encoding::Shapes;
use super::kept::{self, Front, Header, OpenError, Position, Saved};
use super::partition::Partition;
use super::{Cache, Options, Sizes};

/// More threads do not read a file faster.
const THREADS_MAX: usize = 8;

/// A shard whose entities have survived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Its number.
    pub shard: u32,
    /// Up to where its events are applied. If the session cannot be resumed from there (or from an earlier event),
    /// [`Cache::forget`] is due.
    pub position: Position,
}

/// What has come of a file.
pub struct Opened {
    /// The cache.
    pub cache: Cache,
    /// Shards that go on where they were, in order; all others have nothing.
    pub kept: Vec<Kept>,
    /// Why the file, or which part of it, was of no use: for the log.
    pub told: Vec<String>,
}

/// Everything that is decided before the file is looked at.
struct Plan<'a> {
    options: &'a Options,
    sizes: Sizes,
    front: Front,
    pages_bytes: usize,
    header: Header,
}

impl Cache {
    /// Opens the cache in the file at `path`, or makes it: of `options.memory_bytes` less what stands outside, for the
    /// bot that `identity` is a hash of. A file that is not exactly of this kind is made anew, and says so in
    /// [`Opened::told`]; a shard whose part is torn or damaged starts empty, alone. The file is locked as long as the
    /// cache lives.
    ///
    /// Whoever cuts the file short meanwhile ends the process (SIGBUS). Its blocks are taken here, so that a disk that
    /// gets full later does not; on file systems that copy on write it still may.
    ///
    /// # Errors
    /// When another process has the file, there is no room for it, or the system refuses.
    pub fn open(options: Options, path: &Path, identity: [u8; 32]) -> Result<Opened, OpenError> {
        let file = kept::Opened::at(path)?;
        let mut told = Vec::new();
        if !file.is_empty() {
            let plan = Plan::new(&options, identity);
            match file.map(&plan.header, plan.front, plan.pages_bytes).and_then(|block| plan.restore(block)) {
                Ok(opened) => return Ok(opened),
                Err(why) => told.push(format!("it starts afresh: {why}")),
            }
        }
        let plan = Plan::new(&options, identity);
        let block = file.make(&plan.header, plan.front, plan.pages_bytes)?;
        let opened = plan.restore(block).map_err(|why| OpenError::Io(io::Error::other(why)))?;
        Ok(Opened { told, ..opened })
    }

    /// Empties a shard's partition: its session is over and cannot be resumed.
    pub fn forget(&self, shard: u32) {
        let Some(partition) = self.partition_of(shard).and_then(|index| self.partitions.get(index)) else {
            return;
        };
        let mut partition = partition.lock();
        if !self.is_closed() {
            partition.forget(&self.common);
        }
    }

    /// Writes all of a file to the disk and notes that it is whole, so that it is of use even after the machine was
    /// started anew. From then on nothing changes any more: events are taken and not applied. May take as long as the
    /// disk does. Without a file it only ends the changes.
    ///
    /// # Errors
    /// The disk's; the file is then of use in this boot of the machine only.
    pub fn close(&self) -> io::Result<()> {
        // Nobody is at work as long as these are held: whoever is, has one and waits for no other.
        let _all: Vec<_> = self.partitions.iter().map(|partition| partition.lock()).collect();
        self.closed.store(true, Ordering::Relaxed);
        let region = &self.common.region;
        region.flush()?;
        Header::set_closed(region.words(), true);
        region.flush()
    }
}

impl<'a> Plan<'a> {
    fn new(options: &'a Options, identity: [u8; 32]) -> Plan<'a> {
        let sizes = Sizes::of(options);
        let front = Front::new(options.shards.len(), sizes.shapes.kept_words());
        let pages = (sizes.region_bytes.saturating_sub(front.bytes()) / PAGE_BYTES).max(1);
        let header = Header::new(options, sizes.shapes_max, front.bytes(), pages, identity);
        Plan { options, sizes, front, pages_bytes: pages * PAGE_BYTES, header }
    }

    /// The cache in a block that is of this plan.
    fn restore(self, block: Block) -> Result<Opened, String> {
        let Plan { options, sizes, front, header, .. } = self;
        let mut told = Vec::new();
        let mut saved = Vec::with_capacity(options.shards.len());
        for (index, shard) in options.shards.iter().enumerate() {
            saved.push(match front.saved(&block, index) {
                // Nobody could bring it up to date.
                Ok(saved) if saved.position.session == 0 => Saved::EMPTY,
                Ok(saved) => saved,
                Err(why) => {
                    told.push(starts_empty(*shard, why));
                    Saved::EMPTY
                }
            });
        }
        let roots: Vec<Root> = saved.iter().map(|saved| saved.root).collect();
        let (region, trees) = restore(block, &roots);
        let mut shapes = sizes.shapes;
        shapes
            .keep_in(front.shapes_words(&region))
            .map_err(|_| "its table of shapes is damaged".to_owned())?;
        let mut common = Common::new(options.holding.clone(), Arc::clone(&region), shapes, sizes.directory);
        if !common.keep_user_in(front.user_words(&region)) {
            told.push("the bot's own user is damaged and forgotten".to_owned());
        }
        let left: Vec<Left> = (trees.into_iter().zip(&saved).zip(&options.shards).enumerate())
            .map(|(index, ((tree, saved), shard))| Left {
                index: index as u16,
                shard: *shard,
                saved: *saved,
                tree: tree.map_err(|damage| damage.0),
            })
            .collect();
        let (partitions, faults) = restore_all(left, &common);
        told.extend(faults);
        let mut kept = Vec::new();
        let partitions: Box<[Mutex<Partition>]> = (partitions.into_iter().zip(&options.shards).enumerate())
            .map(|(index, (mut partition, shard))| {
                partition.keep_in(front.record(&region, index));
                if partition.position().session != 0 {
                    kept.push(Kept { shard: *shard, position: partition.position() });
                }
                Mutex::new(partition)
            })
            .collect();
        let was_closed = Header::is_closed(region.words());
        header.write(region.words());
        if was_closed {
            // Before the first change is on the disk.
            region.flush().map_err(|error| error.to_string())?;
        }
        let cache = Cache::with(common, partitions, options);
        Ok(Opened { cache, kept, told })
    }
}

fn starts_empty(shard: u32, why: &str) -> String {
    format!("shard {shard} starts empty: {why}")
}

/// What is left of a partition.
struct Left {
    index: u16,
    shard: u32,
    saved: Saved,
    tree: Result<Tree, &'static str>,
}

/// All partitions, on a few threads, in their order; and what was wrong with some.
fn restore_all(left: Vec<Left>, common: &Common) -> (Vec<Partition>, Vec<String>) {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX);
    let count = left.len();
    let waiting = Mutex::new(left.into_iter());
    let done = Mutex::new(Vec::with_capacity(count));
    let work = || {
        loop {
            let Some(left) = waiting.lock().next() else { return };
            let (index, shard) = (left.index, left.shard);
            let restored = restore_one(left, common);
            done.lock().push((index, shard, restored));
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads.min(count) {
            // A thread that cannot be had is not needed.
            let _ = std::thread::Builder::new().spawn_scoped(scope, work);
        }
        work();
    });
    let mut done = done.into_inner();
    done.sort_unstable_by_key(|(index, ..)| *index);
    let mut faults = Vec::new();
    let partitions = done.into_iter().map(|(index, shard, restored)| {
        restored.unwrap_or_else(|why| {
            faults.push(starts_empty(shard, why));
            Partition::new(index, &common.region)
        })
    });
    (partitions.collect(), faults)
}

fn restore_one(left: Left, common: &Common) -> Result<Partition, &'static str> {
    let tree = left.tree?;
    // Damage is found without a panic; if not, it is one shard's.
    let restored = catch_unwind(AssertUnwindSafe(|| {
        Partition::restore(left.index, tree, &left.saved, common).map_err(|(damage, mut tree)| {
            tree.clear();
            damage.0
        })
    }));
    let mut partition = restored.unwrap_or(Err("reading it broke off"))?;
    partition.enlist(common);
    Ok(partition)
}

impl Sizes {
    /// What the parts of a cache take of its memory.
    pub(super) fn of(options: &Options) -> Sizes {
        let memory = options.memory_bytes;
        let shapes_max =
            (memory / super::BYTES_PER_SHAPE).clamp(super::SHAPES_MIN, super::encoding::SHAPES_DEFAULT);
        let shapes = Shapes::with_capacity(shapes_max);
        let directory_bytes = if options.shards.len() > 1 { memory / super::DIRECTORY_SHARE } else { 0 };
        let directory = Directory::with_capacity(directory_bytes, options.seed);
        let beside = directory.memory_bytes() + shapes.memory_bytes_max();
        Sizes { shapes_max, shapes, directory, region_bytes: memory.saturating_sub(beside).max(PAGE_BYTES) }
    }

    /// The region in memory of the process' own.
    pub(super) fn region(&self) -> Result<Arc<Region>, super::ReserveError> {
        Region::with_capacity(self.region_bytes)
    }
}
