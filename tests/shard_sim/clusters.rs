//! The links to the brokers: what `runtime::cluster` and `runtime::clusters` do, with a queue for a socket.
//!
//! ```text
//! Down -- retry --> Opening -- channel open --> Up -- nack, channel closed --> Opening
//!   ^------------------------- the connection breaks ----------------------------+
//! ```

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use rateway::gateway::shard::Input;
use rateway::publisher::{Link, Publisher};

use super::broker::{Broker, Word};
use super::disk::SimDisk;
use super::process::note_confirmed;
use super::world::{Key, World};

/// As in production: how many batches a write gathers.
const SLICES_MAX: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// No connection before this.
    Down { retry_at: Instant },
    /// Waits for the channel to be opened.
    Opening,
    /// Publishes go out.
    Up,
}

/// From the gateway to the broker, in order.
#[derive(Debug)]
enum Up {
    Bytes(Vec<u8>),
    /// Open the channel; the old one, if there is one, is closed first.
    Open,
}

/// From the broker to the gateway, in order.
#[derive(Debug)]
enum Down {
    Ready,
    /// The broker closed the channel.
    ChannelLost,
    Said(Word, Vec<String>),
    Blocked(bool),
    Broken,
}

pub struct Cluster {
    pub number: u32,
    pub shards: std::ops::Range<usize>,
    pub publisher: Publisher<SimDisk>,
    /// Its folder, which outlives the process.
    pub disk: Option<SimDisk>,
    pub state: State,
    pub blocked: bool,
    pub paused: bool,
    pub started: bool,
    pub frame_max: u32,
    pub broker: Broker,
    /// When it lives again.
    pub dead_until: Option<Instant>,
    /// It reads nothing before this.
    pub deaf_until: Option<Instant>,
    /// It confirms nothing before this.
    pub silent_until: Option<Instant>,
    pub unblock_at: Option<Instant>,
    confirm_at: Option<Instant>,
    /// The connection is gone, and the gateway has not noticed.
    broken: bool,
    /// The word to open a channel waits for the end of a publish.
    open_waits: bool,
    up: VecDeque<(Instant, Up)>,
    down: VecDeque<(Instant, Down)>,
    latency: Duration,
    pub paused_times: u64,
    /// Shards that wait for memory of the outbox.
    pub deferred: Vec<usize>,
}

impl Cluster {
    pub fn new(
        number: u32,
        shards: std::ops::Range<usize>,
        publisher: Publisher<SimDisk>,
        disk: Option<SimDisk>,
        now: Instant,
        latency: Duration,
    ) -> Cluster {
        Cluster {
            number,
            shards,
            publisher,
            disk,
            deferred: Vec::new(),
            state: State::Down { retry_at: now },
            blocked: false,
            paused: false,
            started: false,
            frame_max: 131_072,
            broker: Broker::default(),
            dead_until: None,
            deaf_until: None,
            silent_until: None,
            unblock_at: None,
            confirm_at: None,
            broken: false,
            open_waits: false,
            up: VecDeque::new(),
            down: VecDeque::new(),
            latency,
            paused_times: 0,
        }
    }

    /// Another process takes over; the broker is what it was.
    pub fn begin(&mut self, publisher: Publisher<SimDisk>, now: Instant) {
        self.publisher = publisher;
        self.state = State::Down { retry_at: now };
        (self.blocked, self.paused, self.started) = (false, false, false);
        self.frame_max = 131_072;
    }

    /// The process is gone, and with it the connection.
    pub fn break_off(&mut self) {
        self.broker.disconnect();
        self.up.clear();
        self.down.clear();
        self.deferred.clear();
        (self.broken, self.open_waits, self.unblock_at, self.confirm_at) = (false, false, None, None);
    }

    /// Whether its disk was what the process died of.
    pub fn is_dead(&self) -> bool {
        self.disk.as_ref().is_some_and(SimDisk::is_dead)
    }

    /// Events that were left out in this process.
    pub fn shed(&self) -> u64 {
        let spool = self.publisher.spool();
        spool.map_or(0, |spool| spool.stats().shed.iter().map(|(_, count)| count).sum())
    }

    /// As `runtime::cluster::Cluster::wire`.
    pub fn wire(&self) -> Link {
        Link { frame_max: self.frame_max, drains: self.state == State::Up && !self.blocked }
    }

    fn say(&mut self, now: Instant, word: Down) {
        self.down.push_back((now + self.latency, word));
    }

    fn put(&mut self, now: Instant, item: Up) {
        if !self.broken {
            self.up.push_back((now + self.latency, item));
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let retry = match self.state {
            State::Down { retry_at } => Some(retry_at),
            _ => None,
        };
        let up = self.up.front().map(|(at, _)| self.deaf_until.map_or(*at, |deaf| deaf.max(*at)));
        let confirm = if self.broker.unconfirmed.is_empty() { None } else { self.confirm_at };
        let confirm = confirm.map(|at| self.silent_until.map_or(at, |silent| silent.max(at)));
        retry
            .into_iter()
            .chain(up)
            .chain(confirm)
            .chain(self.down.front().map(|(at, _)| *at))
            .chain(self.unblock_at)
            .min()
    }

    /// Nothing is under way between the two.
    pub fn is_quiet(&self) -> bool {
        let spool_is_empty = self.publisher.spool().is_none_or(|spool| spool.is_empty());
        self.state == State::Up
            && self.publisher.is_settled()
            && spool_is_empty
            && self.broker.unconfirmed.is_empty()
    }

    /// The broker ends the connection, or is gone.
    pub fn break_link(&mut self, now: Instant) {
        self.broker.disconnect();
        self.up.clear();
        if !matches!(self.state, State::Down { .. }) && !std::mem::replace(&mut self.broken, true) {
            self.say(now, Down::Broken);
        }
    }

    /// The broker closes the channel; the gateway may publish on for a while.
    pub fn close_channel(&mut self, now: Instant) {
        if self.broker.open {
            self.broker.close();
            self.say(now, Down::ChannelLost);
        }
    }

    pub fn block(&mut self, now: Instant, until: Instant) {
        if self.broker.open && self.unblock_at.is_none() {
            self.say(now, Down::Blocked(true));
            self.unblock_at = Some(until);
        }
    }
}

impl World {
    pub fn arm_cluster(&mut self, index: usize) {
        let deadline = self.clusters[index].deadline().filter(|_| !self.down);
        self.timers.set(Key::Cluster(index), deadline);
    }

    pub fn cluster_due(&mut self, index: usize) {
        let now = self.now;
        if self.down {
            return;
        }
        self.dial(index);
        if self.clusters[index].unblock_at.is_some_and(|at| at <= now) {
            self.clusters[index].unblock_at = None;
            self.clusters[index].say(now, Down::Blocked(false));
        }
        self.broker_reads(index);
        self.broker_confirms(index);
        while let Some((at, _)) = self.clusters[index].down.front()
            && *at <= now
            && let Some((_, word)) = self.clusters[index].down.pop_front()
        {
            self.broker_said(index, word);
        }
        self.pause_or_go_on(index);
        self.flush(index);
    }

    fn dial(&mut self, index: usize) {
        let now = self.now;
        let cluster = &mut self.clusters[index];
        let State::Down { retry_at } = cluster.state else { return };
        if retry_at > now {
            return;
        }
        if cluster.dead_until.is_some_and(|until| until > now) {
            let wait = self.rng.duration(Duration::from_millis(125), Duration::from_secs(15));
            cluster.state = State::Down { retry_at: now + wait };
            return;
        }
        cluster.state = State::Opening;
        cluster.up.push_back((now + cluster.latency * 4, Up::Open));
    }

    fn confirm_wait_max(&self) -> Duration {
        // A broker that takes seconds for each event of a tiny outbox is trouble too.
        if self.calm {
            self.plan.confirm_wait_max.min(Duration::from_millis(50))
        } else {
            self.plan.confirm_wait_max
        }
    }

    fn broker_reads(&mut self, index: usize) {
        let now = self.now;
        if self.clusters[index].deaf_until.is_some_and(|until| until > now) {
            return;
        }
        while let Some((at, _)) = self.clusters[index].up.front()
            && *at <= now
            && let Some((_, item)) = self.clusters[index].up.pop_front()
        {
            self.broker_gets(index, item);
        }
    }

    fn broker_gets(&mut self, index: usize, item: Up) {
        let (now, confirm_wait_max) = (self.now, self.confirm_wait_max());
        let cluster = &mut self.clusters[index];
        match item {
            Up::Open => {
                assert!(cluster.broker.is_between(), "another method within a publish");
                cluster.broker.open(self.plan.frame_max);
                cluster.say(now, Down::Ready);
            }
            Up::Bytes(bytes) => {
                let taken = cluster.broker.read(&bytes);
                let exchange = rateway::relay::topology::exchange(cluster.number);
                let life = cluster.broker.life;
                let marks_hold =
                    !cluster.disk.as_ref().is_some_and(|disk| disk.with(|disk| disk.cursor_failed));
                for message in &taken.messages {
                    self.audit.arrived(life, &exchange, message, self.plan.ready_secrets, marks_hold);
                }
                for tag in taken.nacks {
                    self.audit.refused += 1;
                    cluster.say(now, Down::Said(Word::Nack { tag }, Vec::new()));
                }
                if cluster.confirm_at.is_none() && !cluster.broker.unconfirmed.is_empty() {
                    let wait = self.rng.duration(Duration::ZERO, confirm_wait_max);
                    cluster.confirm_at = Some(now + wait);
                }
            }
        }
    }

    /// What is under way to the broker arrives, although the process is no more.
    pub fn broker_gets_the_rest(&mut self, index: usize) {
        while let Some((_, item)) = self.clusters[index].up.pop_front() {
            self.broker_gets(index, item);
        }
    }

    fn broker_confirms(&mut self, index: usize) {
        let (now, confirm_wait_max) = (self.now, self.confirm_wait_max());
        let cluster = &mut self.clusters[index];
        if cluster.confirm_at.is_none_or(|at| at > now) || cluster.silent_until.is_some_and(|at| at > now) {
            return;
        }
        cluster.confirm_at = None;
        // Enough words to keep up with what comes in, whatever their form.
        for round in 0..1 + cluster.broker.unconfirmed.len() / 4 {
            let all = round > 8 || self.calm;
            let Some((word, ids)) = cluster.broker.confirm(&mut self.rng, all) else { break };
            for id in &ids {
                self.audit.promised(id);
            }
            cluster.say(now, Down::Said(word, ids));
        }
        if !cluster.broker.unconfirmed.is_empty() {
            cluster.confirm_at = Some(now + self.rng.duration(Duration::ZERO, confirm_wait_max));
        }
    }

    fn broker_said(&mut self, index: usize, word: Down) {
        self.trace(|| format!("cluster {index}: {word:?}"));
        let now = self.now;
        let cluster = &mut self.clusters[index];
        match word {
            Down::Ready if cluster.state == State::Opening => {
                cluster.publisher.outbox.rewind();
                cluster.frame_max = self.plan.frame_max;
                cluster.state = State::Up;
                self.start_shards(index);
            }
            Down::Said(Word::Confirm { tag, multiple }, ids) if cluster.state == State::Up => {
                for id in &ids {
                    self.audit.heard(id);
                }
                let (slots, audit) = (&mut self.shards, &self.audit);
                let report = |progress| note_confirmed(slots, audit, progress);
                cluster.publisher.outbox.confirm(tag, multiple, report);
                for shard in cluster.shards.clone() {
                    self.wake(shard);
                }
            }
            // Only a new life of the channel keeps the order.
            Down::Said(Word::Nack { .. }, _) | Down::ChannelLost if cluster.state == State::Up => {
                cluster.state = State::Opening;
                cluster.open_waits = true;
            }
            Down::Blocked(blocked) => cluster.blocked = blocked,
            Down::Broken => {
                let wait = self.rng.duration(Duration::from_millis(125), Duration::from_secs(15));
                cluster.state = State::Down { retry_at: now + wait };
                (cluster.blocked, cluster.open_waits, cluster.unblock_at) = (false, false, None);
                cluster.broken = false;
                cluster.down.clear();
                cluster.publisher.outbox.rewind();
            }
            // Words about a channel that is given up already.
            Down::Ready | Down::Said(..) | Down::ChannelLost => {}
        }
    }

    /// As `Home::flush` for one cluster: the publisher's turn, then what there is to write.
    pub fn flush(&mut self, index: usize) {
        if self.down || !self.turn_publisher(index) {
            return;
        }
        if !matches!(self.clusters[index].state, State::Down { .. }) {
            self.write(index);
        }
        self.pause_or_go_on(index);
        for shard in std::mem::take(&mut self.clusters[index].deferred) {
            self.wake(shard);
        }
        self.arm_cluster(index);
    }

    /// As `Cluster::flush`: control between publishes, never within one; a publish that was begun is finished.
    fn write(&mut self, index: usize) {
        let now = self.now;
        let plan_max = self.plan.write_bytes_max;
        let cluster = &mut self.clusters[index];
        let mut room =
            if plan_max == usize::MAX { plan_max } else { self.rng.below(plan_max as u64) as usize };
        if cluster.deaf_until.is_some_and(|until| until > now) && cluster.up.len() > 3 {
            room = 0;
        }
        loop {
            let publishing = cluster.state == State::Up && !cluster.blocked;
            if publishing {
                cluster.publisher.outbox.prepare(cluster.frame_max, SLICES_MAX);
            }
            let mut bytes = Vec::new();
            let (mut wanted, mid_batch) = (0, cluster.publisher.outbox.is_mid_batch());
            let slices = cluster.publisher.outbox.slices();
            for slice in slices.take(if publishing { SLICES_MAX } else { usize::from(mid_batch) }) {
                wanted += slice.len();
                bytes.extend_from_slice(&slice[..slice.len().min(room - bytes.len())]);
            }
            let count = bytes.len();
            room -= count;
            if count > 0 {
                cluster.put(now, Up::Bytes(bytes));
                let (slots, audit) = (&mut self.shards, &self.audit);
                let report = |progress| note_confirmed(slots, audit, progress);
                cluster.publisher.outbox.advance(count, report);
            }
            if cluster.open_waits && !cluster.publisher.outbox.is_mid_batch() {
                cluster.open_waits = false;
                cluster.put(now, Up::Open);
            }
            if count < wanted {
                let wait = self.rng.duration(Duration::from_millis(1), Duration::from_millis(50));
                self.timers.set(Key::Writable(index), Some(now + wait));
                break;
            }
            if wanted == 0 {
                break;
            }
        }
    }

    /// As `Home::pause_or_go_on`.
    pub fn pause_or_go_on(&mut self, index: usize) {
        let cluster = &mut self.clusters[index];
        let paused = cluster.publisher.pauses(cluster.paused);
        if paused == cluster.paused {
            return;
        }
        cluster.paused = paused;
        cluster.paused_times += u64::from(paused);
        for shard in cluster.shards.clone() {
            self.shards[shard].inputs.push(Input::ReadPaused(paused));
            self.wake(shard);
        }
        self.trace(|| format!("cluster {index}: reading {}", if paused { "stops" } else { "goes on" }));
    }
}
