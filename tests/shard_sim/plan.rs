//! What a seed is like: sizes, tempers, and which kinds of trouble it may make.
//!
//! Swarm style: each seed switches whole kinds off, so that a fault also meets quiet surroundings and rare
//! combinations are not drowned by common ones.

use std::time::Duration;

use rateway::base::Rng;
use rateway::state::spool;

/// What the network does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetworkFault {
    /// A connection breaks at once on this side, on the other sooner or later.
    Reset,
    /// Bytes vanish, in one direction or both, for a while; then the connection breaks, or never.
    HalfOpen,
    /// Nothing moves for some seconds, then everything does.
    Stall,
    /// Connecting fails for a while.
    ConnectFailures,
    /// Connecting takes longer than the shard waits, or nearly.
    SlowConnects,
    /// The host of the resume URL cannot be reached.
    ResumeHostDown,
    /// All connections break and none can be made for a while.
    Outage,
}

impl NetworkFault {
    const ALL: [NetworkFault; 7] = [
        NetworkFault::Reset,
        NetworkFault::HalfOpen,
        NetworkFault::Stall,
        NetworkFault::ConnectFailures,
        NetworkFault::SlowConnects,
        NetworkFault::ResumeHostDown,
        NetworkFault::Outage,
    ];
}

/// What Discord does; most are faults of the stand-in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiscordFault {
    Op7,
    Op9Resumable,
    Op9Final,
    Close,
    Drop,
    StopAcks,
    StopSending,
    StopReading,
    HeartbeatRequests,
    BadPayload,
    BadReady,
    HelloOp7,
    RefuseIdentify,
    Invalidate,
    Duplicate,
    UnknownEvent,
    GuildOutage,
    /// Many events at once, some of them large.
    Burst,
}

impl DiscordFault {
    const ALL: [DiscordFault; 18] = [
        DiscordFault::Op7,
        DiscordFault::Op9Resumable,
        DiscordFault::Op9Final,
        DiscordFault::Close,
        DiscordFault::Drop,
        DiscordFault::StopAcks,
        DiscordFault::StopSending,
        DiscordFault::StopReading,
        DiscordFault::HeartbeatRequests,
        DiscordFault::BadPayload,
        DiscordFault::BadReady,
        DiscordFault::HelloOp7,
        DiscordFault::RefuseIdentify,
        DiscordFault::Invalidate,
        DiscordFault::Duplicate,
        DiscordFault::UnknownEvent,
        DiscordFault::GuildOutage,
        DiscordFault::Burst,
    ];
}

/// What a broker does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BrokerFault {
    /// It dies, forgets what it has not confirmed, and comes back.
    Die,
    /// It closes the publish channel.
    CloseChannel,
    /// It refuses some publishes.
    Nack,
    /// `connection.blocked`, then `connection.unblocked`.
    Block,
    /// It confirms nothing for a while.
    HoldConfirms,
    /// It reads nothing for a while.
    StopReading,
}

impl BrokerFault {
    const ALL: [BrokerFault; 6] = [
        BrokerFault::Die,
        BrokerFault::CloseChannel,
        BrokerFault::Nack,
        BrokerFault::Block,
        BrokerFault::HoldConfirms,
        BrokerFault::StopReading,
    ];
}

/// What happens to the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProcessFault {
    /// It dies between two steps.
    Kill,
    /// It dies within a call to its disk.
    KillInCall,
    /// It is stopped, and begins anew.
    Restart,
}

impl ProcessFault {
    const ALL: [ProcessFault; 3] = [ProcessFault::Kill, ProcessFault::KillInCall, ProcessFault::Restart];
}

/// What a disk does, for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskFault {
    /// Calls fail with EIO.
    Eio,
    /// Writes and reads are short.
    Short,
    /// No more than a little fits on it.
    Full,
}

impl DiskFault {
    const ALL: [DiskFault; 3] = [DiskFault::Eio, DiskFault::Short, DiskFault::Full];
}

/// One seed's choices.
#[derive(Clone, Debug)]
pub struct Plan {
    pub seed: u64,
    pub shards: u32,
    pub clusters: u32,
    pub max_concurrency: u32,
    pub guilds: u32,
    pub members: u32,
    /// Generated events per second over all shards.
    pub rate: f64,
    pub heartbeat_interval: Duration,
    pub session_lifetime: Duration,
    pub replay_buffer: usize,
    pub session_starts: u32,
    pub reset_after: Duration,
    /// How long faults are made.
    pub trouble: Duration,
    pub fault_gap: Duration,
    pub network: Vec<NetworkFault>,
    pub discord: Vec<DiscordFault>,
    pub brokers: Vec<BrokerFault>,
    pub process: Vec<ProcessFault>,
    pub disk: Vec<DiskFault>,
    /// Whether clusters have a disk, and how much goes on it; which classes are shed, and from how full on in percent.
    pub spool: bool,
    pub spool_bytes_max: u64,
    pub shed: &'static [&'static str],
    pub shed_from_percent: u8,
    /// A process may die while it opens its disks.
    pub dies_at_start: bool,
    /// How late the file of sessions is.
    pub keep_wait: Duration,
    /// One way, for the fastest connection; how much the slowest adds to it; and what changes with each payload.
    pub latency: Duration,
    pub latency_spread: Duration,
    pub jitter: Duration,
    pub outbox_bytes_max: usize,
    pub frame_max: u32,
    /// Payloads that a run takes, as the budget of a task does.
    pub payloads_per_run: u32,
    /// How much may be unread before Discord's side gives a connection up.
    pub unread_bytes_max: usize,
    /// Bytes that a broker's socket takes at once.
    pub write_bytes_max: usize,
    pub confirm_wait_max: Duration,
    pub ready_secrets: bool,
    pub commands: bool,
    pub floods: bool,
    /// Stop in the middle of the trouble.
    pub stop_early: bool,
}

fn some_of<T: Copy>(rng: &mut Rng, all: &[T]) -> Vec<T> {
    // One seed in four knows no trouble of this sort.
    if rng.chance(1, 4) {
        return Vec::new();
    }
    let (numerator, denominator) = if rng.chance(1, 3) { (1, 6) } else { (1, 2) };
    all.iter().copied().filter(|_| rng.chance(numerator, denominator)).collect()
}

fn pick<T: Copy>(rng: &mut Rng, from: &[T]) -> T {
    from[rng.below(from.len() as u64) as usize]
}

impl Plan {
    /// The choices that follow from `seed`.
    pub fn new(seed: u64) -> Plan {
        let mut rng = Rng::new(seed ^ 0x706c_616e);
        let rng = &mut rng;
        let secs = Duration::from_secs;
        let millis = Duration::from_millis;
        let shards = if rng.chance(1, 3) { 1 } else { 1 + rng.below(12) as u32 };
        let tight = rng.chance(1, 10);
        let trouble = secs(30 + rng.below(300));
        let spool = rng.chance(2, 3);
        let mut process = if rng.chance(1, 3) { Vec::new() } else { some_of(rng, &ProcessFault::ALL) };
        let mut disk = if rng.chance(1, 2) { Vec::new() } else { some_of(rng, &DiskFault::ALL) };
        if !spool {
            process.retain(|fault| *fault != ProcessFault::KillInCall);
            disk.clear();
        }
        Plan {
            seed,
            shards,
            clusters: if shards > 1 && rng.chance(1, 3) { 2 } else { 1 },
            max_concurrency: 1 + rng.below(4) as u32,
            guilds: rng.below(u64::from(shards) * 2 + 1) as u32,
            members: 1 + rng.below(4) as u32,
            rate: pick(rng, &[0.0, 0.3, 1.0, 1.0, 3.0]),
            heartbeat_interval: pick(rng, &[millis(41_250), millis(41_250), secs(15), secs(90)]),
            session_lifetime: secs(pick(rng, &[30, 120, 120, 300])),
            replay_buffer: pick(rng, &[50, 10_000, 10_000]),
            // A budget that is used up now and then, or one that never is.
            session_starts: if tight { shards + 1 + rng.below(6) as u32 } else { 1000 },
            reset_after: if tight && rng.chance(3, 4) { secs(60 + rng.below(600)) } else { secs(24 * 3600) },
            trouble,
            fault_gap: millis(pick(rng, &[300, 1500, 5000, 5000, 20_000])),
            network: some_of(rng, &NetworkFault::ALL),
            discord: some_of(rng, &DiscordFault::ALL),
            brokers: some_of(rng, &BrokerFault::ALL),
            spool,
            spool_bytes_max: pick(rng, &[80 << 10, 300 << 10, 16 << 20, 16 << 20]),
            shed: pick(rng, &[&["TYPING_START", "PRESENCE_UPDATE"][..], &["MESSAGE_CREATE"], &[]]),
            shed_from_percent: pick(rng, &[30, 75, 100]),
            dies_at_start: process.contains(&ProcessFault::KillInCall) && rng.chance(1, 2),
            keep_wait: millis(pick(rng, &[0, 5, 5, 1000])),
            process,
            disk,
            latency: millis(pick(rng, &[0, 20, 150, 400])),
            // Two one-way times differ by less than the 250 ms of slack that the identify queue has.
            latency_spread: millis(pick(rng, &[1, 20, 150])),
            jitter: millis(pick(rng, &[0, 1, 20, 80])),
            outbox_bytes_max: pick(rng, &[2 * 1024, 16 * 1024, 64 * 1024, 4 * 1024 * 1024]),
            frame_max: pick(rng, &[4096, 131_072, 131_072]),
            payloads_per_run: pick(rng, &[1, 3, 20, 1024]),
            unread_bytes_max: pick(rng, &[8 * 1024, 64 * 1024, 1024 * 1024]),
            write_bytes_max: pick(rng, &[700, 9000, usize::MAX, usize::MAX]),
            confirm_wait_max: millis(pick(rng, &[1, 50, 2000, 15_000])),
            ready_secrets: rng.chance(1, 2),
            commands: rng.chance(1, 2),
            floods: rng.chance(1, 3),
            // What is on disk then waits for another process, see `ProcessFault::Restart`.
            stop_early: rng.chance(1, 8) && !spool,
        }
    }

    /// No trouble at all: a start of many shards.
    pub fn start_up(shards: u32, max_concurrency: u32) -> Plan {
        Plan {
            shards,
            clusters: 8,
            max_concurrency,
            guilds: shards,
            members: 1,
            rate: 0.0,
            heartbeat_interval: Duration::from_millis(41_250),
            session_lifetime: Duration::from_secs(120),
            session_starts: 1000,
            reset_after: Duration::from_secs(24 * 3600),
            network: Vec::new(),
            discord: Vec::new(),
            brokers: Vec::new(),
            process: Vec::new(),
            disk: Vec::new(),
            spool: false,
            latency: Duration::from_millis(20),
            latency_spread: Duration::from_millis(60),
            jitter: Duration::from_millis(20),
            outbox_bytes_max: 8 * 1024 * 1024,
            frame_max: 131_072,
            payloads_per_run: 1024,
            unread_bytes_max: 1024 * 1024,
            write_bytes_max: usize::MAX,
            confirm_wait_max: Duration::from_millis(50),
            commands: false,
            floods: false,
            stop_early: false,
            ..Plan::new(0)
        }
    }

    pub fn persistent(&self) -> bool {
        self.seed.is_multiple_of(2)
    }

    pub fn spool_options(&self) -> spool::Options {
        spool::Options {
            bytes_max: self.spool_bytes_max,
            segment_bytes: 16 << 10,
            shed: self.shed.iter().map(|class| (*class).to_owned()).collect(),
            shed_from_percent: self.shed_from_percent,
            boot: 1,
        }
    }

    /// Whether the session starts of a day may be used up.
    pub fn is_tight(&self) -> bool {
        self.session_starts < 1000
    }

    /// Whether two payloads may be so far apart on their way that the client cannot know what Discord counts.
    pub fn stalls(&self) -> bool {
        self.network.contains(&NetworkFault::Stall)
    }
}
