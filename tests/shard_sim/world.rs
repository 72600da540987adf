//! The clock, the shards, and the way of each payload between the stand-in and the brokers. The wiring of
//! `runtime::shards` and `relay::task`, on payloads instead of bytes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rateway::base::timers::Timers;
use rateway::base::{Rng, Secret};
use rateway::gateway::Command;
use rateway::gateway::shard::{self, Cause, Input, Output, Shard, State};
use rateway::queue;
use rateway::relay::flow::{self, FlowScratch};
use rateway::relay::task::BATCH_BYTES_BUDGET;
use rateway::relay::{Batch, Framing, Outbox};
use rateway::sim::{self, ConnectionId, Discord};

use super::audit::{Audit, Evidence, judge};
use super::clusters::Cluster;
use super::network::{Down, Link, Network, Up};
use super::plan::Plan;

const DAY: Duration = Duration::from_secs(24 * 3600);

const RESUME_HOST: &str = "wss://resume.test";

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    Discord,
    Permits,
    Shard(usize),
    Link(ConnectionId),
    Dial(ConnectionId),
    Cluster(usize),
    Writable(usize),
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
    connected: bool,
    more: bool,
    /// The session that the present link carries, by READY or RESUME.
    session: Option<u64>,
    evidence: Evidence,
    /// The shard's state before it was told what it is told now.
    before: State,
    interval: Option<Duration>,
    heartbeat_at: Instant,
    forwarded: Option<Vec<u8>>,
    pub stopped: bool,
}

pub struct World {
    pub plan: Plan,
    pub now: Instant,
    start: Instant,
    pub rng: Rng,
    pub timers: Timers<Key>,
    pub discord: Discord,
    permits: queue::Machine,
    pub network: Network,
    pub shards: Vec<Slot>,
    pub clusters: Vec<Cluster>,
    pub audit: Audit,
    awake: VecDeque<usize>,
    scratch: FlowScratch,
    stats: flow::Stats,
    violations_seen: usize,
    tainted: BTreeSet<ConnectionId>,
    unseated: BTreeSet<ConnectionId>,
    /// No trouble is made any more.
    pub calm: bool,
    pub steps: u64,
    /// IDENTIFYs that Discord was told to refuse.
    pub refusals: u32,
    tracing: bool,
    pub resumed: u64,
    pub heartbeats_paused: u64,
    /// Connections that are being made: where to.
    dials: BTreeMap<ConnectionId, String>,
    /// What was sent that is no business of Discord's.
    pub bad_payloads: BTreeSet<Vec<u8>>,
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
        let options = Arc::new(shard::Options::new(
            Secret::new("the.token"),
            sim::INTENTS_ALL,
            plan.shards,
            "wss://gateway.test",
        ));
        let count = plan.shards as usize;
        let per_cluster = count.div_ceil(plan.clusters as usize);
        let mut clusters = Vec::new();
        for first in (0..count).step_by(per_cluster) {
            let latency = rng.duration(Duration::from_micros(50), Duration::from_millis(30));
            let outbox = Outbox::new(plan.outbox_bytes_max);
            let shards = first..(first + per_cluster).min(count);
            clusters.push(Cluster::new(clusters.len() as u32 + 1, shards, outbox, start, latency));
        }
        let shards = (0..plan.shards)
            .map(|id| Slot {
                shard: Shard::new(options.clone(), id, rng.next_u64(), start, None),
                cluster: id as usize / per_cluster,
                inputs: Vec::new(),
                confirmed: None,
                link: None,
                connected: false,
                more: false,
                session: None,
                evidence: Evidence::default(),
                before: State::Disconnected { attempt: 0 },
                interval: None,
                heartbeat_at: start,
                forwarded: None,
                stopped: false,
            })
            .collect();
        let mut world = World {
            now: start,
            start,
            timers: Timers::default(),
            discord,
            permits: queue::Machine::new(permits, start),
            network: Network::default(),
            shards,
            clusters,
            audit: Audit::new(plan.shards),
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
            rng,
            plan,
        };
        for index in 0..world.clusters.len() {
            world.arm_cluster(index);
        }
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
            self.due(key);
        }
        self.settle();
        self.check();
        true
    }

    /// Lets every shard run that has something to do.
    fn settle(&mut self) {
        while !self.awake.is_empty() {
            // Any of them may be first: threads steal.
            let pick = self.rng.below(self.awake.len() as u64) as usize;
            if let Some(index) = self.awake.swap_remove_back(pick) {
                self.run(index);
            }
        }
    }

    fn due(&mut self, key: Key) {
        match key {
            Key::Discord => {
                self.discord.handle_deadline(self.now);
                self.discord_acted();
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

    // Shards.

    /// As `ShardTask::run`: inputs, deadline, payloads, the end of the link; then home.
    fn run(&mut self, index: usize) {
        let now = self.now;
        let cluster = self.shards[index].cluster;
        if !self.clusters[cluster].started {
            return;
        }
        let may_publish = !self.clusters[cluster].paused;
        let mut batch = self.clusters[cluster].outbox.take_spare();
        if let Some((session, seq)) = self.shards[index].confirmed.take() {
            self.audit.told(session, seq);
            self.tell(index, Input::Confirmed { session, seq });
        }
        for input in std::mem::take(&mut self.shards[index].inputs) {
            self.tell(index, input);
        }
        if self.shards[index].shard.poll_timeout().is_some_and(|at| at <= now) {
            let slot = &mut self.shards[index];
            slot.before = slot.shard.state();
            slot.shard.handle_deadline(now);
            self.drain(index);
        }
        self.pump(index, may_publish, &mut batch);
        if !batch.records.is_empty() {
            assert!(may_publish, "events were read that there is no room for");
            // A little above the limit is a repeat's mark, or a buffer that grew with it.
            let (bytes, limit) = (self.clusters[cluster].outbox.memory_bytes(), self.plan.outbox_bytes_max);
            assert!(
                bytes <= limit + limit / 4 + 4096,
                "{bytes} bytes in an outbox of {limit}, and reading went on"
            );
        }
        self.clusters[cluster].outbox.push(index as u32, batch);
        self.timers.set(Key::Shard(index), self.shards[index].shard.poll_timeout());
        self.pause_or_go_on(cluster);
        self.flush(cluster);
        if self.shards[index].more {
            self.wake(index);
        }
    }

    fn pump(&mut self, index: usize, may_publish: bool, batch: &mut Batch) {
        self.shards[index].more = false;
        let mut payloads = 0;
        while may_publish || !self.shards[index].shard.state().brings_events() {
            if payloads >= self.plan.payloads_per_run || batch.bytes.len() >= BATCH_BYTES_BUDGET {
                self.shards[index].more = true;
                return;
            }
            let Some(id) = self.shards[index].link.filter(|_| self.shards[index].connected) else { return };
            let Some(item) = self.network.links.get_mut(&id).and_then(Link::read) else { return };
            match item {
                Down::Opened => self.tell(index, Input::Opened),
                Down::Text(payload) => {
                    payloads += 1;
                    self.read(index, &payload, batch);
                }
                Down::Closed(code) => {
                    self.trace(|| format!("shard {index}: close {code:?}"));
                    self.shards[index].evidence.closed = code;
                    self.tell(index, Input::PeerClosed { code });
                }
                Down::Ended(cause) => self.tell(index, Input::LinkLost { cause }),
            }
        }
    }

    fn read(&mut self, index: usize, payload: &[u8], batch: &mut Batch) {
        let cluster = &self.clusters[self.shards[index].cluster];
        let framing = Framing {
            exchange: rateway::relay::topology::exchange(cluster.number).into(),
            frame_max: cluster.frame_max,
            ready_secrets: self.plan.ready_secrets,
            persistent: self.plan.seed.is_multiple_of(2),
        };
        self.trace(|| {
            let text = String::from_utf8_lossy(&payload[..payload.len().min(60)]);
            format!("shard {index} reads {text}")
        });
        // The evidence of a lost session has to stand before the shard says so.
        let slot = &mut self.shards[index];
        slot.evidence.invalidated = payload.ends_with(br#""op":9,"d":false}"#);
        let is_bad = self.bad_payloads.contains(payload);
        slot.evidence.bad_ready = is_bad && payload.starts_with(br#"{"t":"READY""#);
        slot.before = slot.shard.state();
        let dispatch = dispatch_of(payload).filter(|_| !is_bad);
        let records = batch.records.len();
        if let Some((seq, session_id)) = dispatch {
            // Said before it is told: what comes out of the shard may depend on it.
            if let Some(session_id) = session_id {
                let session = self.audit.ready(index as u32, session_id);
                self.shards[index].session = Some(session);
            }
            let session = self.shards[index].session.expect("an event on a link without a session");
            if self.audit.delivered(session, seq) {
                self.shards[index].evidence.resumes_stuck = 0;
            }
        }
        let slot = &mut self.shards[index];
        let wall_ms = 1_785_700_000_000 + (self.now - self.start).as_millis() as u64;
        let accepted = flow::accept(
            payload,
            &mut slot.shard,
            self.now,
            wall_ms,
            &framing,
            &mut self.scratch,
            batch,
            &mut self.stats,
        );
        match accepted {
            Ok(()) => {
                let taken = batch.records.len() - records;
                assert!(taken == 0 || dispatch.is_some(), "something was published that is no event");
                if let Some(interval) = interval_of(payload)
                    && slot.before == State::AwaitingHello
                {
                    slot.interval = Some(interval);
                    slot.heartbeat_at = self.now;
                }
                if slot.evidence.invalidated {
                    slot.session = None;
                }
                self.drain(index);
            }
            Err(error) => {
                assert!(dispatch.is_none(), "Discord's own event was refused: {error}");
                self.tell(index, Input::LinkLost { cause: error.cause() });
            }
        }
    }

    fn tell(&mut self, index: usize, input: Input) {
        self.trace(|| format!("shard {index} <- {input:?}"));
        let slot = &mut self.shards[index];
        slot.before = slot.shard.state();
        slot.shard.handle_input(self.now, input);
        self.drain(index);
    }

    fn drain(&mut self, index: usize) {
        while let Some(output) = self.shards[index].shard.poll_output() {
            self.trace(|| format!("shard {index} -> {output:?}"));
            self.carry_out(index, output);
        }
    }

    fn carry_out(&mut self, index: usize, output: Output) {
        let (now, shard_id) = (self.now, index as u32);
        match output {
            Output::Open { url } => self.open(index, url),
            Output::Send(command) => self.send(index, &command),
            Output::Close { code } => self.send_up(index, Up::Close(code)),
            Output::DropLink => {
                self.send_up(index, Up::End);
                let slot = &mut self.shards[index];
                (slot.connected, slot.interval, slot.session) = (false, None, None);
                if let Some(id) = slot.link.take() {
                    self.timers.set(Key::Dial(id), None);
                    self.dials.remove(&id);
                    if let Some(link) = self.network.links.get_mut(&id) {
                        link.client_gone = true;
                        link.down.clear();
                        link.unread.clear();
                        link.unread_bytes = 0;
                    }
                    self.arm_link(id);
                }
            }
            Output::WantPermit { ticket } => {
                assert_eq!(ticket >> 32, u64::from(shard_id));
                self.permits.request(now, ticket, shard_id).expect("room for every shard");
                self.granted();
            }
            Output::CancelPermit { ticket } => {
                self.permits.cancel(now, ticket);
                self.granted();
            }
            Output::PermitUsed { ticket } => {
                self.permits.identified(now, ticket, shard_id);
                self.granted();
            }
            Output::PermitAnswered { ticket } => {
                self.permits.answered(now, ticket, shard_id);
                self.granted();
            }
            Output::CommandDone { id, result } => {
                let sent = self.shards[index].forwarded.take();
                self.audit.command_done(id, result, sent.as_deref());
            }
            Output::Changed { from, to, .. } => {
                if from == State::Resuming && matches!(to, State::Disconnected { .. }) {
                    self.shards[index].evidence.resumes_stuck += 1;
                }
            }
            Output::SessionLost(lost) => {
                let slot = &mut self.shards[index];
                let mut evidence = slot.evidence;
                // The one that just ended.
                evidence.resumes_stuck += 1;
                slot.evidence = Evidence::default();
                self.audit.lost(shard_id, &lost, evidence, slot.before == State::Resuming);
            }
            Output::Fatal(fatal) => panic!("shard {index}: {fatal}"),
            Output::Stopped => self.shards[index].stopped = true,
        }
    }

    fn send(&mut self, index: usize, command: &Command) {
        let mut json = Vec::new();
        self.shards[index].shard.encode(command, &mut json);
        assert!(json.len() <= 4096);
        match command {
            Command::Heartbeat { .. } => {
                let slot = &mut self.shards[index];
                slot.heartbeat_at = self.now;
                self.heartbeats_paused += u64::from(self.clusters[slot.cluster].paused);
            }
            Command::Identify => self.audit.identified(self.now, index as u32, self.plan.max_concurrency),
            Command::Resume { seq } => {
                let body: serde_json::Value = serde_json::from_slice(&json).expect("JSON");
                assert_eq!(body["d"]["seq"], *seq);
                let session_id = body["d"]["session_id"].as_str().expect("a session id");
                self.shards[index].session = Some(self.audit.resumed(index as u32, session_id, *seq));
                self.resumed += 1;
            }
            Command::Forward(json) => self.shards[index].forwarded = Some(json.to_vec()),
        }
        self.send_up(index, Up::Text(json));
    }

    fn granted(&mut self) {
        while let Some(permit) = self.permits.poll_permit() {
            let index = permit.shard_id as usize;
            self.shards[index].inputs.push(Input::Permit { ticket: permit.ticket });
            self.wake(index);
        }
        self.timers.set(Key::Permits, self.permits.poll_timeout());
    }

    // Connections.

    fn open(&mut self, index: usize, url: String) {
        assert!(self.shards[index].link.is_none(), "two links at once");
        let id = self.network.next_id;
        self.network.next_id += 1;
        let latency =
            self.plan.latency + self.rng.duration(Duration::from_micros(500), self.plan.latency_spread);
        let link = Link::new(self.now, index, latency, self.plan.jitter);
        self.network.links.insert(id, link);
        self.shards[index].link = Some(id);
        let mut wait = latency * 3;
        if self.network.slow > 0 {
            self.network.slow -= 1;
            wait = self.rng.duration(Duration::from_secs(1), Duration::from_secs(30));
        }
        self.dials.insert(id, url);
        self.timers.set(Key::Dial(id), Some(self.now + wait));
    }

    fn dialed(&mut self, id: ConnectionId) {
        let Some(url) = self.dials.remove(&id) else { return };
        let (base, query) = url.split_once("/?").expect("a query");
        assert!(matches!(base, "wss://gateway.test" | RESUME_HOST), "{base}");
        let now = self.now;
        let off = |until: Option<Instant>| until.is_some_and(|until| until > now);
        let fails = off(self.network.down_until)
            || (base == RESUME_HOST && off(self.network.resume_host_down_until))
            || self.network.failures > 0;
        self.network.failures = self.network.failures.saturating_sub(1);
        let Some(link) = self.network.links.get_mut(&id) else { return };
        let index = link.shard;
        self.shards[index].connected = true;
        if fails {
            link.server_gone = true;
            link.unread.push_back(Down::Ended(Cause::ConnectFailed));
            return self.wake(index);
        }
        link.send_up(now, &mut self.rng, Duration::ZERO, Up::Accept(query.to_owned()));
        self.arm_link(id);
    }

    fn send_up(&mut self, index: usize, item: Up) {
        let Some(id) = self.shards[index].link else { return };
        if let Some(link) = self.network.links.get_mut(&id) {
            link.send_up(self.now, &mut self.rng, Duration::ZERO, item);
        }
        self.arm_link(id);
    }

    pub fn arm_link(&mut self, id: ConnectionId) {
        let Some(link) = self.network.links.get(&id) else { return };
        if link.is_over() {
            if link.tainted {
                self.tainted.insert(id);
            }
            self.network.links.remove(&id);
            return self.timers.set(Key::Link(id), None);
        }
        self.timers.set(Key::Link(id), link.next());
    }

    fn link_due(&mut self, id: ConnectionId) {
        let now = self.now;
        while let Some(link) = self.network.links.get_mut(&id)
            && let Some((at, _)) = link.up.front()
            && *at <= now
            && let Some((_, item)) = link.up.pop_front()
        {
            match item {
                Up::Accept(query) => {
                    // The answer to the upgrade goes before everything that is said on it.
                    link.send_down(now, &mut self.rng, Down::Opened);
                    self.discord.accept(now, id, &query);
                }
                Up::Text(payload) => self.discord.handle_text(now, id, &payload),
                Up::Close(code) => {
                    self.discord.handle_close(now, id, Some(code));
                    // The peer answers a close frame with its like.
                    link.send_down(now, &mut self.rng, Down::Closed(Some(code)));
                    link.server_gone = true;
                }
                Up::End => {
                    self.discord.handle_close(now, id, None);
                    link.server_gone = true;
                }
            }
            self.discord_acted();
        }
        if let Some(link) = self.network.links.get_mut(&id) {
            let mut arrived = false;
            if link.unread_bytes > self.plan.unread_bytes_max && !link.server_gone {
                // Too slow a reader: Discord's side gives up.
                link.server_gone = true;
                link.break_down(Cause::Ended);
                arrived = true;
                self.trace(|| format!("link {id}: too much unread"));
                self.discord.handle_close(now, id, None);
                self.discord_acted();
            }
            let Some(link) = self.network.links.get_mut(&id) else { return };
            while let Some((at, _)) = link.down.front()
                && *at <= now
                && let Some((_, item)) = link.down.pop_front()
            {
                link.arrive(item);
                arrived = true;
            }
            let (index, breaks) = (link.shard, link.breaks_at.is_some_and(|at| at <= now));
            if arrived && !link.client_gone {
                self.wake(index);
            }
            if breaks {
                self.reset_link(id);
            }
        }
        self.arm_link(id);
    }

    /// Takes what the stand-in does to its connections.
    pub fn discord_acted(&mut self) {
        let now = self.now;
        while let Some(output) = self.discord.poll_output() {
            let (id, item) = match output {
                sim::Output::Text { connection, payload } => (connection, Down::Text(payload)),
                sim::Output::Close { connection, code } => {
                    (connection, code.map_or(Down::Ended(Cause::Ended), |code| Down::Closed(Some(code))))
                }
                sim::Output::Recorded { .. } => unreachable!("nothing is recorded"),
            };
            let Some(link) = self.network.links.get_mut(&id) else { continue };
            link.server_gone |= !matches!(item, Down::Text(_));
            link.send_down(now, &mut self.rng, item);
            self.arm_link(id);
        }
        self.timers.set(Key::Discord, self.discord.poll_timeout());
        self.judge_violations();
    }

    /// The connection breaks; the stand-in learns of it now or later.
    pub fn reset_link(&mut self, id: ConnectionId) {
        let now = self.now;
        let Some(link) = self.network.links.get_mut(&id) else { return };
        link.breaks_at = None;
        if link.server_gone && link.client_gone {
            return self.arm_link(id);
        }
        link.break_down(Cause::Io(std::io::ErrorKind::ConnectionReset));
        link.up.clear();
        link.up_lost = false;
        let late = if self.rng.chance(1, 2) {
            Duration::ZERO
        } else {
            self.rng.duration(Duration::ZERO, Duration::from_secs(40))
        };
        link.send_up(now, &mut self.rng, late, Up::End);
        link.up_lost = true;
        self.tainted.insert(id);
        let index = link.shard;
        self.wake(index);
        self.arm_link(id);
    }

    // What has to hold after each step.

    fn judge_violations(&mut self) {
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

    /// Whether every shard runs on a sound connection and all that Discord has made is confirmed.
    pub fn is_settled(&self) -> bool {
        self.clusters.iter().all(Cluster::is_quiet)
            && self.shards.iter().enumerate().all(|(index, slot)| {
                let shard_id = index as u32;
                slot.shard.state() == State::Active
                    && slot.link.is_some()
                    && self.discord.connection_of(shard_id) == slot.link
                    && self.discord.last_seq(shard_id).is_some_and(|seq| self.audit.has(shard_id, seq))
            })
    }
}

/// `s` of an event as the stand-in writes it, and the session id of a READY.
fn dispatch_of(payload: &[u8]) -> Option<(u64, Option<&str>)> {
    let text = std::str::from_utf8(payload).ok()?;
    let (name, rest) = text.strip_prefix(r#"{"t":""#)?.split_once(r#"","s":"#)?;
    let (seq, d) = rest.split_once(r#","op":0,"d":"#)?;
    let seq = seq.parse().ok()?;
    if name != "READY" {
        return Some((seq, None));
    }
    let (_, id) = d.split_once(r#""session_id":""#)?;
    Some((seq, Some(id.split_once('"')?.0)))
}

fn interval_of(payload: &[u8]) -> Option<Duration> {
    let text = std::str::from_utf8(payload).ok()?;
    let (_, rest) = text.split_once(r#""op":10,"d":{"heartbeat_interval":"#)?;
    let digits = rest.split(|c: char| !c.is_ascii_digit()).next()?;
    Some(Duration::from_millis(digits.parse().ok()?))
}
