//! Where the threads put up what they tell, and whoever looks reads it.
//!
//! Each thread has a place of its own, behind a lock that is held for one copy: the thread only tries it, so a reader
//! never makes it wait. How often it puts something up depends on whether somebody looks.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::figures::{Cache, Cluster, Identify, Shard, Thread, Timings, Totals};
use super::incidents::Incidents;

/// How often a thread tells while somebody looks. Four times a second looks live.
pub const INTERVAL_WATCHED: Duration = Duration::from_millis(250);

/// How often it does otherwise: whoever comes finds figures of this second, for some microseconds of work.
pub const INTERVAL: Duration = Duration::from_secs(1);

/// How long after a look somebody counts as looking.
const WATCHED_FOR: Duration = Duration::from_secs(3);

/// A thread that has not begun a turn for so long is stuck: one that has nothing to do begins one a second.
pub const STUCK_AFTER: Duration = Duration::from_secs(5);

/// What the page asks of the process, from a thread of its own.
pub trait Source: Send + Sync {
    /// How long ago each thread began its last turn.
    fn idle(&self, now: Instant) -> Vec<Duration>;
    /// How often reading was stopped, and how many tasks panicked.
    fn trouble(&self) -> (u64, u64);
    /// What the cache holds, if there is one.
    fn cache(&self) -> Option<Cache>;
    /// Lets a shard resume on a new connection.
    fn reconnect(&self, shard: u32);
}

struct Running {
    source: Box<dyn Source>,
    threads: Box<[Mutex<Thread>]>,
    /// Shards and clusters of this process, as planned.
    shards: usize,
    clusters: usize,
}

/// The board of one process.
pub struct Board {
    started_at: Instant,
    /// When somebody last looked, in milliseconds since the start.
    looked_ms: AtomicU64,
    /// Set once the process knows what it runs.
    running: OnceLock<Running>,
    /// What went wrong lately.
    pub incidents: Incidents,
}

impl Board {
    /// An empty board of a process that started at `now`.
    pub fn new(now: Instant) -> Board {
        Board {
            started_at: now,
            // As if somebody had looked at the start: the first seconds are the ones that people wait for.
            looked_ms: AtomicU64::new(0),
            running: OnceLock::new(),
            incidents: Incidents::default(),
        }
    }

    /// The process knows what it runs: so many threads, shards and clusters.
    pub fn begin(&self, source: Box<dyn Source>, threads: usize, shards: usize, clusters: usize) {
        let threads = (0..threads).map(|_| Mutex::default()).collect();
        // A second word changes nothing.
        let _ = self.running.set(Running { source, threads, shards, clusters });
    }

    /// Puts up what a thread tells; it gets what it told before, to use its memory again. Nothing happens while somebody
    /// reads: the next turn tries again.
    pub fn put(&self, thread: usize, told: &mut Thread) -> bool {
        let place = self.running.get().and_then(|running| running.threads.get(thread));
        let Some(mut place) = place.and_then(|place| place.try_lock()) else { return false };
        std::mem::swap(&mut *place, told);
        true
    }

    /// How long a thread waits before it tells again.
    pub fn interval(&self, now: Instant) -> Duration {
        // Ordering: nothing else hangs on it.
        let looked_at = self.started_at + Duration::from_millis(self.looked_ms.load(Ordering::Relaxed));
        let is_watched = now.saturating_duration_since(looked_at) < WATCHED_FOR;
        if is_watched { INTERVAL_WATCHED } else { INTERVAL }
    }

    /// Somebody looks.
    pub fn look(&self, now: Instant) {
        let ms = now.saturating_duration_since(self.started_at).as_millis() as u64;
        self.looked_ms.store(ms, Ordering::Relaxed);
    }

    /// How long the process runs.
    pub fn uptime(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.started_at)
    }

    /// Events published and how long things took, for whoever keeps a history.
    pub fn pulse(&self) -> (u64, Timings) {
        let (mut events, mut timings) = (0, Timings::default());
        for thread in self.running.get().iter().flat_map(|running| running.threads.iter()) {
            let thread = thread.lock();
            events += thread.totals.events;
            timings.add(&thread.timings);
        }
        (events, timings)
    }

    /// All that was put up.
    pub fn overview(&self, now: Instant) -> Overview {
        let mut all = Overview { uptime: self.uptime(now), ..Overview::default() };
        let Some(running) = self.running.get() else { return all };
        all.is_running = true;
        (all.shards_planned, all.clusters_planned) = (running.shards, running.clusters);
        for thread in &running.threads {
            let Thread { shards, clusters, identify, totals, losses, timings } = thread.lock().clone();
            all.shards.extend(shards);
            all.clusters.extend(clusters);
            all.identify = all.identify.or(identify);
            all.totals.add(&totals);
            all.timings.add(&timings);
            for (cause, count) in losses {
                match all.losses.iter_mut().find(|(other, _)| *other == cause) {
                    Some((_, sum)) => *sum += count,
                    None => all.losses.push((cause, count)),
                }
            }
        }
        all.shards.sort_unstable_by_key(|shard| shard.id);
        all.clusters.sort_unstable_by_key(|cluster| cluster.number);
        all.idle = running.source.idle(now);
        (all.pauses, all.panics) = running.source.trouble();
        all.cache = running.source.cache();
        all
    }

    /// What keeps the process from being healthy: nothing, if it is.
    pub fn stuck(&self, now: Instant) -> Vec<String> {
        let idle = self.running.get().map(|running| running.source.idle(now)).unwrap_or_default();
        stuck(&idle)
    }

    /// Lets a shard resume on a new connection.
    pub fn reconnect(&self, shard: u32) {
        if let Some(running) = self.running.get() {
            running.source.reconnect(shard);
        }
    }
}

fn stuck(idle: &[Duration]) -> Vec<String> {
    let late = idle.iter().enumerate().filter(|(_, idle)| **idle > STUCK_AFTER);
    late.map(|(thread, idle)| format!("reactor-{thread} has not turned for {} s", idle.as_secs())).collect()
}

/// What all threads have told, together.
#[derive(Clone, Debug, Default)]
pub struct Overview {
    /// Whether the process knows what it runs.
    pub is_running: bool,
    /// How long the process runs.
    pub uptime: Duration,
    /// Shards of this process.
    pub shards_planned: usize,
    /// Clusters of this process.
    pub clusters_planned: usize,
    /// By id.
    pub shards: Vec<Shard>,
    /// By number.
    pub clusters: Vec<Cluster>,
    /// The identify queue.
    pub identify: Option<Identify>,
    /// Counters of all threads.
    pub totals: Totals,
    /// Connections lost, by cause.
    pub losses: Vec<(&'static str, u64)>,
    /// How long things took.
    pub timings: Timings,
    /// How long ago each thread began its last turn.
    pub idle: Vec<Duration>,
    /// How often reading was stopped.
    pub pauses: u64,
    /// How many tasks panicked.
    pub panics: u64,
    /// What the cache holds, if there is one.
    pub cache: Option<Cache>,
}

impl Overview {
    /// Shards that are up.
    pub fn up(&self) -> usize {
        self.shards.iter().filter(|shard| shard.is_up()).count()
    }

    /// What keeps the process from being ready: nothing, if it is.
    pub fn missing(&self) -> Vec<String> {
        if !self.is_running {
            return vec!["Discord has not said yet how to start".to_owned()];
        }
        let mut out = stuck(&self.idle);
        for cluster in self.clusters.iter().filter(|cluster| !cluster.takes_publishes()) {
            out.push(format!(
                "the broker of cluster {} takes no publishes: {}",
                cluster.number, cluster.link
            ));
        }
        let unknown = self.clusters_planned.saturating_sub(self.clusters.len());
        if unknown > 0 {
            out.push(format!("{unknown} clusters have not begun"));
        }
        let down = self.shards_planned.saturating_sub(self.up());
        if down > 0 {
            let named = self.shards.iter().filter(|shard| !shard.is_up()).take(NAMED_MAX);
            let named: Vec<String> = named.map(|shard| format!("{} ({})", shard.id, shard.state)).collect();
            let more = if down > named.len() && !named.is_empty() { ", ..." } else { "" };
            out.push(format!(
                "{down} of {} shards are not up: {}{more}",
                self.shards_planned,
                named.join(", ")
            ));
        }
        out
    }
}

/// How many shards are named that are not up.
const NAMED_MAX: usize = 20;
