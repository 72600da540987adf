//! What the threads tell of themselves: plain values, in words and numbers that need no other module to be read.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::base::Histogram;

/// One shard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shard {
    /// Its id.
    pub id: u32,
    /// Its cluster's number.
    pub cluster: u32,
    /// Where it stands, in one word of [`STATES`].
    pub state: &'static str,
    /// When it came to stand there.
    pub changed_at: Option<Instant>,
    /// The last heartbeat's round trip.
    pub heartbeat_rtt: Option<Duration>,
    /// Of its session, the last seq that arrived and the last that is confirmed.
    pub seqs: Option<(u64, Option<u64>)>,
    /// Events published.
    pub events: u64,
    /// Connections lost.
    pub reconnects: u64,
}

/// The states of a shard, each with the letter that stands for it on the page.
pub const STATES: [(&str, char); 10] = [
    (ACTIVE, 'A'),
    ("resuming", 'R'),
    ("identifying", 'I'),
    ("awaiting_permit", 'W'),
    ("awaiting_hello", 'H'),
    ("connecting", 'C'),
    ("disconnected", 'D'),
    ("closing", 'X'),
    ("stopped", 'S'),
    ("fatal", 'F'),
];

/// The state of a shard that is up.
pub const ACTIVE: &str = "active";

impl Shard {
    /// Whether events flow.
    pub fn is_up(&self) -> bool {
        self.state == ACTIVE
    }
}

/// One cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cluster {
    /// Its number, from 1.
    pub number: u32,
    /// Its broker as it may be shown, without a password.
    pub broker: Arc<str>,
    /// Where the link stands, in one word: `publishing`, `blocked`, `opening`, `connecting`, `down` or `closed`.
    pub link: &'static str,
    /// Whether reading from Discord is stopped, as nothing more can be kept.
    pub is_paused: bool,
    /// Whether what comes in goes to the disk.
    pub is_spooling: bool,
    /// Memory of the outbox in use, and at most.
    pub outbox_bytes: u64,
    /// See [`Cluster::outbox_bytes`].
    pub outbox_bytes_max: u64,
    /// Events that wait for a confirm in memory.
    pub unconfirmed: u64,
    /// Events that wait on disk alone.
    pub on_disk: u64,
    /// Events taken into the outbox.
    pub published: u64,
    /// Events confirmed.
    pub confirmed: u64,
    /// Events published again.
    pub repeated: u64,
    /// Events lost to the broker's refusal.
    pub refused: u64,
    /// Events lost to a broken invariant.
    pub unframeable: u64,
    /// Confirms of nothing.
    pub confirms_unknown: u64,
    /// Links to the broker lost.
    pub links_lost: u64,
    /// Times that the disk took over.
    pub overflows: u64,
    /// Times that the disk took no more.
    pub disk_refusals: u64,
    /// Messages of workers that wait.
    pub deliveries: u64,
    /// What the disk has, if there is one.
    pub spool: Option<Spool>,
}

impl Cluster {
    /// Whether the broker takes publishes.
    pub fn takes_publishes(&self) -> bool {
        self.link == PUBLISHING
    }
}

/// The word for a broker that takes publishes.
pub const PUBLISHING: &str = "publishing";

/// A cluster's share of the disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spool {
    /// Bytes in use.
    pub bytes: u64,
    /// Bytes at most.
    pub bytes_max: u64,
    /// Events written.
    pub appended: u64,
    /// Bytes written.
    pub appended_bytes: u64,
    /// Events read back.
    pub drained: u64,
    /// Batches that found no room.
    pub full: u64,
    /// Places that were damaged.
    pub damaged: u64,
    /// Losses told to workers.
    pub losses: u64,
    /// Calls that the system refused.
    pub io_errors: u64,
    /// Events left out, by class.
    pub shed: Vec<(String, u64)>,
}

/// The identify queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Identify {
    /// Session starts left today.
    pub remaining: u32,
    /// Session starts per day.
    pub total: u32,
    /// Buckets that identify side by side.
    pub max_concurrency: u32,
    /// Shards that wait for a permit.
    pub waiting: u64,
    /// Permits granted.
    pub granted: u64,
    /// When there are more session starts; `None` where all are there, or nobody has said.
    pub reset_at: Option<Instant>,
    /// Whether another process has the queue.
    pub is_remote: bool,
}

macro_rules! totals {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What a thread has counted over all its shards.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Totals {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Totals {
            /// Adds what another thread has counted.
            pub fn add(&mut self, other: &Totals) {
                $(self.$name += other.$name;)*
            }
        }
    };
}

totals! {
    /// Payloads of any kind received.
    payloads,
    /// Events framed for the broker.
    events,
    /// Events replayed by Discord that were published before: left out.
    replayed,
    /// Events without a name: left out.
    nameless,
    /// Events that EVENTS and EVENTS_EXCLUDE leave out.
    filtered,
    /// Names of events cut to a routing key's length.
    names_cut,
    /// Payloads that broke the protocol.
    payloads_broken,
    /// Times that a seq was skipped.
    seq_jumps,
    /// Heartbeats sent.
    heartbeats,
    /// IDENTIFYs sent.
    identifies,
    /// RESUMEs sent.
    resumes,
    /// RESUMEs that succeeded.
    resumes_succeeded,
    /// RESUMEs that did not.
    resumes_failed,
    /// Sessions invalidated by Discord.
    sessions_invalidated,
    /// Sessions lost, each with a gap.
    sessions_lost,
    /// Commands that wait for room in the send limit.
    commands_waiting,
    /// Commands forwarded.
    commands_forwarded,
    /// Commands refused.
    commands_refused,
    /// Messages of workers that could not be understood.
    messages_ignored,
    /// Queries that found what they asked for.
    query_hits,
    /// Queries that did not.
    query_misses,
    /// Times that sessions could not be written to disk.
    keep_errors,
}

/// What one thread tells.
#[derive(Clone, Debug, Default)]
pub struct Thread {
    /// Its shards.
    pub shards: Vec<Shard>,
    /// Its clusters.
    pub clusters: Vec<Cluster>,
    /// The identify queue, on the thread that has it.
    pub identify: Option<Identify>,
    /// Counters.
    pub totals: Totals,
    /// Connections lost, by cause.
    pub losses: Vec<(&'static str, u64)>,
    /// How long events and heartbeats took.
    pub timings: Timings,
}

/// How long things took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timings {
    /// From Discord's socket to the broker's.
    pub receive_to_publish: Histogram,
    /// From the broker's socket to its confirm.
    pub publish_to_confirm: Histogram,
    /// From a heartbeat to its answer.
    pub heartbeat: Histogram,
}

impl Timings {
    /// Adds what another thread has measured.
    pub fn add(&mut self, other: &Timings) {
        self.receive_to_publish.add(&other.receive_to_publish);
        self.publish_to_confirm.add(&other.publish_to_confirm);
        self.heartbeat.add(&other.heartbeat);
    }
}

/// The cache's part of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheKind {
    /// What it is called.
    pub kind: &'static str,
    /// Entities held.
    pub held: u64,
    /// Entities that went as memory was short.
    pub evicted: u64,
    /// Entities that were not kept.
    pub refused: u64,
}

/// The cache.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cache {
    /// By kind.
    pub kinds: Vec<CacheKind>,
    /// Guilds that Discord calls unavailable.
    pub unavailable_guilds: u64,
    /// Events that were not what Discord documents.
    pub misfits: u64,
    /// Partitions forgotten as they were found broken.
    pub broken: u64,
    /// Memory for entities.
    pub capacity_bytes: u64,
    /// Of it in use.
    pub used_bytes: u64,
    /// The most that was.
    pub peak_bytes: u64,
}
