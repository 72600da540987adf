//! The clock, everything that it moves, and what has to hold after each of its steps.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rateway::base::timers::Timers;
use rateway::base::{Rng, Secret};
use rateway::gateway::shard::{self, Input, Shard, State};
use rateway::queue;
use rateway::relay::flow::{self, FlowScratch};
use rateway::relay::gap::Gap;
use rateway::sim::{self, ConnectionId, Discord};
use rateway::state::Kept;

use super::audit::{Audit, Evidence, judge};
use super::clusters::Cluster;
use super::disk::SimDisk;
use super::network::Network;
use super::plan::Plan;
use super::process::{publisher, shard_options};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// About the largest that the stand-in sends.
const MESSAGE_BYTES_MAX: usize = 64 * 1024;

pub const RESUME_HOST: &str = "wss://resume.test";

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    Discord,
    Permits,
    Shard(usize),
    Link(ConnectionId),
    Dial(ConnectionId),
    Cluster(usize),
    Writable(usize),
    /// A disk is to be tried again.
    Disk(usize),
    /// A disk works again.
    Heal(usize),
    /// Sessions are to be written.
    Keep,
    /// A stop has taken too long.
    Stop,
    /// The next process begins.
    Begin,
    Chaos,
    Worker,
    /// A connection that is broken at a time that was fixed before.
    Break(ConnectionId),
}

/// A shard and what stands around it.
pub struct Slot {
    pub shard: Shard,
    pub cluster: usize,
    pub inputs: Vec<Input>,
    pub confirmed: Option<(u64, u64)>,
    pub link: Option<ConnectionId>,
    pub connected: bool,
    pub more: bool,
    /// The session that the present link carries, by READY or RESUME.
    pub session: Option<u64>,
    pub evidence: Evidence,
    /// The shard's state before it was told what it is told now.
    pub before: State,
    pub interval: Option<Duration>,
    pub heartbeat_at: Instant,
    pub forwarded: Option<Vec<u8>>,
    pub stopped: bool,
    /// Events of an earlier session that are lost, until workers are told.
    pub gap: Option<Gap>,
    /// The rest is as in `ShardSlot`.
    pub session_kept: Option<(u64, Kept)>,
    pub confirmed_up_to: Option<(u64, u64)>,
    pub unkept: bool,
    pub inherited: Option<Kept>,
}

impl Slot {
    pub fn new(shard: Shard, cluster: usize, now: Instant) -> Slot {
        Slot {
            shard,
            cluster,
            inputs: Vec::new(),
            confirmed: None,
            link: None,
            connected: false,
            more: false,
            session: None,
            evidence: Evidence::default(),
            before: State::Disconnected { attempt: 0 },
            interval: None,
            heartbeat_at: now,
            forwarded: None,
            stopped: false,
            gap: None,
            session_kept: None,
            confirmed_up_to: None,
            unkept: false,
            inherited: None,
        }
    }
}

pub struct World {
    pub plan: Plan,
    pub now: Instant,
    pub start: Instant,
    pub rng: Rng,
    pub options: Arc<shard::Options>,
    pub timers: Timers<Key>,
    pub discord: Discord,
    pub permits: queue::Machine,
    pub network: Network,
    pub shards: Vec<Slot>,
    pub clusters: Vec<Cluster>,
    pub audit: Audit,
    pub awake: VecDeque<usize>,
    pub scratch: FlowScratch,
    pub stats: flow::Stats,
    pub violations_seen: usize,
    pub tainted: BTreeSet<ConnectionId>,
    pub unseated: BTreeSet<ConnectionId>,
    /// No trouble is made any more.
    pub calm: bool,
    pub steps: u64,
    /// IDENTIFYs that Discord was told to refuse.
    pub refusals: u32,
    pub tracing: bool,
    pub resumed: u64,
    pub heartbeats_paused: u64,
    /// Connections that are being made: where to.
    pub dials: BTreeMap<ConnectionId, String>,
    /// What was sent that is no business of Discord's.
    pub bad_payloads: BTreeSet<Vec<u8>>,
    /// Counts processes. Between two of them nothing runs.
    pub process: u32,
    pub down: bool,
    pub stopping: bool,
    /// The stop waits for as long as it takes.
    pub patient: bool,
    /// The process dies after so many steps.
    pub kill_in: Option<u64>,
    /// The file of sessions, by shard, and whether it is about to be written.
    pub file: Vec<Option<Kept>>,
    pub keeping: bool,
    /// What was last written of the identify queue, and when.
    pub snapshot: Option<(queue::Snapshot, Instant)>,
    pub kills: u64,
    pub stops: u64,
    pub put_away: u64,
    pub overflows: u64,
    pub disk_refusals: u64,
}

impl World {
    pub fn new(plan: Plan, start: Instant, tracing: bool) -> World {
        let mut rng = Rng::new(plan.seed);
        let tight = plan.is_tight();
        // Either today has begun before this process did, and Discord says when it ends; or it begins with the
        // first IDENTIFY.
        let begun = tight && plan.reset_after < DAY;
        let remaining = plan.session_starts - u32::from(begun);
        let discord = Discord::new(
            sim::Options {
                shards: plan.shards,
                max_concurrency: plan.max_concurrency,
                guilds: plan.guilds,
                members: plan.members,
                rate: plan.rate,
                seed: plan.seed,
                session_starts_total: plan.session_starts,
                session_starts_remaining: remaining,
                reset_after: plan.reset_after,
                heartbeat_interval: plan.heartbeat_interval,
                session_lifetime: plan.session_lifetime,
                replay_buffer: plan.replay_buffer,
                token: Some(Secret::new("the.token")),
                gateway_url: "wss://gateway.test".to_owned(),
                resume_gateway_url: Some(RESUME_HOST.to_owned()),
                ..sim::Options::default()
            },
            start,
        );
        let permits = queue::Options::new(
            plan.max_concurrency,
            plan.session_starts,
            remaining,
            if begun { plan.reset_after } else { Duration::ZERO },
        );
        let options = shard_options(&plan);
        let count = plan.shards as usize;
        let per_cluster = count.div_ceil(plan.clusters as usize);
        let mut clusters = Vec::new();
        for first in (0..count).step_by(per_cluster) {
            let latency = rng.duration(Duration::from_micros(50), Duration::from_millis(30));
            let number = clusters.len() as u32 + 1;
            let shards = first..(first + per_cluster).min(count);
            let disk = plan.spool.then(|| SimDisk::new(rng.next_u64()));
            let publisher = publisher(&plan, number, &shards);
            clusters.push(Cluster::new(number, shards, publisher, disk, start, latency));
        }
        let placeholder = |id| Shard::new(options.clone(), id, 0, start, None);
        let shards =
            (0..plan.shards).map(|id| Slot::new(placeholder(id), id as usize / per_cluster, start)).collect();
        let mut world = World {
            now: start,
            start,
            timers: Timers::default(),
            discord,
            permits: queue::Machine::new(permits, start),
            network: Network::default(),
            shards,
            clusters,
            audit: Audit::new(&plan),
            awake: VecDeque::new(),
            scratch: FlowScratch::default(),
            stats: flow::Stats::default(),
            violations_seen: 0,
            tainted: BTreeSet::new(),
            unseated: BTreeSet::new(),
            calm: false,
            steps: 0,
            refusals: 0,
            tracing,
            resumed: 0,
            heartbeats_paused: 0,
            dials: BTreeMap::new(),
            bad_payloads: BTreeSet::new(),
            process: 0,
            down: false,
            stopping: false,
            patient: false,
            kill_in: None,
            file: vec![None; plan.shards as usize],
            keeping: false,
            snapshot: None,
            kills: 0,
            stops: 0,
            put_away: 0,
            overflows: 0,
            disk_refusals: 0,
            options,
            rng,
            plan,
        };
        world.begin_process();
        world.discord_acted();
        world
    }

    pub fn elapsed(&self) -> Duration {
        self.now - self.start
    }

    pub fn trace(&self, line: impl FnOnce() -> String) {
        if self.tracing {
            println!("{:>12.6} #{} {}", self.elapsed().as_secs_f64(), self.steps, line());
        }
    }

    pub fn wake(&mut self, shard: usize) {
        self.awake.push_back(shard);
    }

    /// Jumps to the next deadline and does what is due. False when it is after `until`: the clock stands
    /// there then.
    pub fn step(&mut self, until: Instant) -> bool {
        self.settle();
        let Some(at) = self.timers.next().filter(|&at| at <= until) else {
            self.now = self.now.max(until);
            return false;
        };
        self.steps += 1;
        self.now = self.now.max(at);
        while let Some(key) = self.timers.pop_due(self.now) {
            self.dies_here();
            self.due(key);
            self.bury();
        }
        self.settle();
        self.stop_turn(false);
        self.keep_soon();
        self.check();
        true
    }

    /// Lets every shard run that has something to do.
    fn settle(&mut self) {
        while !self.awake.is_empty() {
            // Any of them may be first: threads steal.
            let pick = self.rng.below(self.awake.len() as u64) as usize;
            if let Some(index) = self.awake.swap_remove_back(pick) {
                self.dies_here();
                self.run(index);
                self.bury();
            }
        }
    }

    fn due(&mut self, key: Key) {
        match key {
            Key::Discord => {
                self.discord.handle_deadline(self.now);
                self.discord_acted();
            }
            Key::Permits | Key::Keep | Key::Stop | Key::Disk(_) if self.down => {}
            Key::Disk(index) => self.flush(index),
            Key::Keep => self.keep(),
            Key::Stop => self.stop_turn(true),
            Key::Begin => self.begin_process(),
            Key::Heal(index) => {
                if let Some(disk) = &self.clusters[index].disk {
                    disk.heal();
                }
            }
            Key::Permits => {
                self.permits.handle_deadline(self.now);
                self.granted();
            }
            Key::Shard(index) => self.wake(index),
            Key::Link(id) => self.link_due(id),
            Key::Dial(id) => self.dialed(id),
            Key::Cluster(index) => self.cluster_due(index),
            Key::Writable(index) => self.flush(index),
            Key::Chaos => self.make_trouble(),
            Key::Worker => self.worker(),
            Key::Break(id) => self.reset_link(id),
        }
    }

    // What has to hold after each step.

    pub fn judge_violations(&mut self) {
        let violations = &self.discord.ledger().violations;
        for violation in &violations[self.violations_seen..] {
            let link = self.network.links.get(&violation.connection);
            let tainted = self.tainted.contains(&violation.connection) || link.is_some_and(|l| l.tainted);
            let unseated = self.unseated.contains(&violation.connection);
            if let Err(why) = judge(&self.plan, &violation.kind, tainted, unseated) {
                panic!("{why}: {violation:?}");
            }
        }
        self.violations_seen = violations.len();
    }

    fn check(&mut self) {
        for cluster in &self.clusters {
            // A share or a message beyond it for whoever was reading when it filled up, in a buffer that has grown.
            let (bytes, limit) = (cluster.publisher.outbox.memory_bytes(), self.plan.outbox_bytes_max);
            let (promised, share) = cluster.publisher.outbox.promised();
            let most = limit + limit / 4 + 2 * (share + MESSAGE_BYTES_MAX);
            assert!(bytes <= most, "{bytes} bytes in an outbox of {limit}");
            assert!(promised <= limit / 4 + share, "{promised} bytes are promised in an outbox of {limit}");
        }
        for (index, slot) in self.shards.iter().enumerate() {
            assert!(slot.shard.commands_waiting() <= 256);
            // Heartbeats go on whatever else is going on, reading or not. A flood of requests may delay them.
            if let Some(interval) = slot.interval
                && slot.shard.state().is_open()
            {
                let gap = self.now - slot.heartbeat_at;
                assert!(gap <= interval, "shard {index} has sent no heartbeat for {gap:?}");
            }
        }
    }

    pub fn taint(&mut self, id: ConnectionId) {
        self.tainted.insert(id);
    }

    pub fn unseat(&mut self, id: ConnectionId) {
        self.unseated.insert(id);
    }

    /// What there is to do yet, in words.
    pub fn unrest(&self) -> String {
        let shards = self.shards.iter().map(|slot| (slot.shard.state(), slot.stopped));
        let clusters = self.clusters.iter().map(|cluster| {
            let publisher = &cluster.publisher;
            (cluster.state, publisher.waiting(), publisher.outbox.memory_bytes(), &cluster.deferred)
        });
        format!(
            "down {}, stopping {}, {:?}, {:?}",
            self.down,
            self.stopping,
            shards.collect::<Vec<_>>(),
            clusters.collect::<Vec<_>>()
        )
    }

    /// Whether every shard runs on a sound connection and all that Discord has made is confirmed.
    pub fn is_settled(&self) -> bool {
        !self.down
            && !self.stopping
            && self.clusters.iter().all(Cluster::is_quiet)
            && self.shards.iter().enumerate().all(|(index, slot)| {
                let shard_id = index as u32;
                slot.shard.state() == State::Active
                    && slot.link.is_some()
                    && self.discord.connection_of(shard_id) == slot.link
                    && self.discord.last_seq(shard_id).is_some_and(|seq| self.audit.has(shard_id, seq))
            })
    }
}
