//! What all threads of the process read, and the few things that they tell its main thread.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::amqp::uri::Uri;
use crate::cache::{Cache, Position};
use crate::gateway::shard;
use crate::relay::EventFilter;
use crate::relay::task::TaskOptions;
use crate::state::spool;
use crate::status::Board;

use super::keeping::State;

/// One cluster as planned: its number and its shards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterPlan {
    /// From 1.
    pub number: u32,
    /// Ids of its shards.
    pub shards: Range<u32>,
}

/// Settings and plans, the same for every thread.
pub struct Shared {
    /// The clusters of this process.
    pub clusters: Vec<ClusterPlan>,
    /// How many threads they are spread over.
    pub threads: usize,
    /// All shards of the bot, in whatever process.
    pub shard_count: u32,
    /// Discord's identify buckets.
    pub max_concurrency: u32,
    /// How far apart two identifies of a bucket are.
    pub identify_spacing: Duration,
    /// Brokers, tried in turn.
    pub uris: Arc<[Uri]>,
    /// TLS for brokers.
    pub amqp_tls: Arc<rustls::ClientConfig>,
    /// For every shard's machine.
    pub shard_options: Arc<shard::Options>,
    /// For every shard's task.
    pub task_options: Arc<TaskOptions>,
    /// What is remembered of Discord, if anything.
    pub cache: Option<Arc<Cache>>,
    /// What outlives the process, if anything, and what its files have to be of.
    pub state: State,
    /// Up to where the shards are whose entities an earlier process left in the cache.
    pub cached: HashMap<u32, Position>,
    /// See [`super::keeping::identity`].
    pub identity: [u8; 32],
    /// READY keeps its secrets.
    pub ready_secrets: bool,
    /// Which events are published.
    pub events: EventFilter,
    /// Events outlive a broker restart in durable queues.
    pub persistent: bool,
    /// Memory of all outboxes.
    pub outbox_memory_bytes: usize,
    /// The spools, all clusters together.
    pub spool: Option<spool::Options>,
    /// Tells the spools of one bot from another's.
    pub bot: String,
    /// How long unconfirmed publishes are waited for at the end.
    pub stop_timeout: Duration,
    /// Where the threads tell what the status page shows.
    pub board: Arc<Board>,
    /// Ends the process with an error.
    pub on_failure: Box<dyn Fn() + Send + Sync>,
    /// Why.
    pub failure: Mutex<Option<String>>,
    /// How often reading was stopped because an outbox was full.
    pub pauses: AtomicU64,
    /// How many tasks panicked.
    pub panics: AtomicU64,
}

/// How many rounds of identifies ahead of its turn a shard connects. One round would leave a bucket idle for as
/// long as a connection takes; more would hold connections that Discord sees waiting.
const ROUNDS_AHEAD: u32 = 2;

/// How far apart the rounds that connect at once begin, so that shards ask for their permits in the order in which
/// Discord wants buckets to go, although clusters live on several threads.
const ROUND_STAGGER: Duration = Duration::from_millis(300);

/// In how many files a small spool is at least: room comes back a file at a time.
const SEGMENTS_MIN: u64 = 16;

impl Shared {
    /// The clusters whose sockets live on `thread`.
    pub fn clusters_of(&self, thread: usize) -> impl Iterator<Item = (usize, &ClusterPlan)> {
        let threads = self.threads;
        self.clusters.iter().enumerate().filter(move |(index, _)| index % threads == thread)
    }

    /// The thread that has a shard.
    pub fn thread_of(&self, shard_id: u32) -> Option<usize> {
        let index = self.clusters.iter().position(|cluster| cluster.shards.contains(&shard_id))?;
        Some(index % self.threads)
    }

    /// How much of the outbox memory one cluster has. Shares are fixed, so that a cluster whose broker is away
    /// cannot stop the others.
    pub fn outbox_bytes_max(&self) -> usize {
        self.outbox_memory_bytes / self.clusters.len().max(1)
    }

    /// What one cluster's spool is told. Fixed shares, for the same reason.
    pub fn spool_options(&self) -> Option<spool::Options> {
        let mut options = self.spool.clone()?;
        options.bytes_max /= self.clusters.len().max(1) as u64;
        options.segment_bytes = (options.bytes_max / SEGMENTS_MIN).min(spool::SEGMENT_BYTES);
        Some(options)
    }

    /// How long after the start a shard connects: so that it is there when its permit is due and not much before.
    pub fn start_delay(&self, shard_id: u32) -> Duration {
        let before: u32 = self
            .clusters
            .iter()
            .map(|cluster| (cluster.shards.end.min(shard_id)).saturating_sub(cluster.shards.start))
            .sum();
        let round = before / self.max_concurrency.max(1);
        self.identify_spacing * round.saturating_sub(ROUNDS_AHEAD) + ROUND_STAGGER * round.min(ROUNDS_AHEAD)
    }

    /// Ends the process with an error; the first one is told.
    pub fn fail(&self, why: String) {
        self.failure.lock().get_or_insert(why);
        (self.on_failure)();
    }

    /// Counts a stop of reading.
    pub fn pauses(&self, paused: bool) {
        self.pauses.fetch_add(u64::from(paused), Ordering::Relaxed);
    }

    /// How often reading was stopped and how many tasks panicked, in the whole process.
    pub fn trouble(&self) -> (u64, u64) {
        (self.pauses.load(Ordering::Relaxed), self.panics.load(Ordering::Relaxed))
    }

    /// Counts a panic.
    pub fn panicked(&self) {
        self.panics.fetch_add(1, Ordering::Relaxed);
    }
}
