//! Lives and deaths of the process: what `runtime::home`, `keeping` and `spooling` do at a start and at a stop, and what
//! is left of everything when there was no stop.
//!
//! What outlives a process: the disks of its clusters, the file of sessions as it was last written, and the snapshot of
//! the identify queue. All else is gone, in the middle of whatever it was.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use rateway::gateway::Session;
use rateway::gateway::session::session_hash;
use rateway::gateway::shard::{Input, Shard};
use rateway::publisher::{self, Publisher};
use rateway::queue::{self, SessionStartLimit};
use rateway::reactor::Turn;
use rateway::relay::Progress;
use rateway::relay::gap::Gap;
use rateway::relay::topology::exchange;
use rateway::state::Kept;
use rateway::state::spool::{self, Note, Spool};

use super::audit::Audit;
use super::disk::SimDisk;
use super::network::Up;
use super::plan::Plan;
use super::world::{Key, Slot, World};

/// How long a stop may take.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// As often as this a process may begin in vain; halfway the disk is mended.
const STARTS_MAX: u32 = 1000;

pub fn publisher(plan: &Plan, number: u32, shards: &std::ops::Range<usize>) -> Publisher<SimDisk> {
    Publisher::new(publisher::Options {
        cluster: number,
        exchange: exchange(number).into(),
        persistent: plan.persistent(),
        shards: shards.start as u32..shards.end as u32,
        first_slot: shards.start as u32,
        outbox_bytes_max: plan.outbox_bytes_max,
    })
}

/// As `clusters::note_confirmed`.
pub fn note_confirmed(slots: &mut [Slot], audit: &Audit, progress: Progress) {
    let Some(slot) = slots.get_mut(progress.shard as usize) else { return };
    audit.confirmed(progress.session, progress.seq);
    if !progress.spooled {
        slot.confirmed = Some((progress.session, progress.seq));
    }
    slot.confirmed_up_to = Some((progress.session, progress.seq));
    slot.unkept = true;
}

/// As `clusters::note_spooled`.
pub fn note_spooled(slots: &mut [Slot], audit: &mut Audit, progress: Progress) {
    audit.spooled(progress.session, progress.seq);
    if let Some(slot) = slots.get_mut(progress.shard as usize) {
        slot.confirmed = Some((progress.session, progress.seq));
    }
}

impl Slot {
    /// As `ShardSlot::note_session`.
    pub fn note_session(&mut self, shard_count: u32) {
        let Some(session) = self.shard.session() else { return };
        if self.session_kept.as_ref().is_some_and(|(hash, _)| *hash == session.hash()) {
            return;
        }
        if let Some(seq) = session.confirmed() {
            let hash = session.hash();
            self.confirmed_up_to = self.confirmed_up_to.filter(|(of, _)| *of == hash).or(Some((hash, seq)));
        }
        let kept = Kept {
            id: session.id().clone(),
            resume_url: session.resume_url().map(str::to_owned),
            shard_count,
            seq: session.resume_seq(),
        };
        self.session_kept = Some((session.hash(), kept));
        self.unkept = true;
    }

    /// As `ShardSlot::kept`.
    fn kept(&self) -> Option<Kept> {
        let (hash, kept) = self.session_kept.as_ref()?;
        let seq = self.confirmed_up_to.filter(|(session, _)| session == hash).map_or(0, |(_, seq)| seq);
        Some(Kept { seq, ..kept.clone() })
    }
}

impl World {
    pub fn turn(&self) -> Turn {
        Turn { now: self.now, wall_ms: 1_785_700_000_000 + self.elapsed().as_millis() as u64 }
    }

    // A start.

    /// A process begins, on what the one before has left.
    pub fn begin_process(&mut self) {
        self.process += 1;
        (self.down, self.stopping, self.patient) = (false, false, false);
        self.trace(|| format!("process {} begins", self.process));
        self.permits = self.restore_permits();
        let mut reach = HashMap::new();
        for index in 0..self.clusters.len() {
            let cluster = &self.clusters[index];
            let mut publisher = publisher(&self.plan, cluster.number, &cluster.shards);
            if let Some(disk) = cluster.disk.clone() {
                let (spool, recovered) = self.open_spool(&disk);
                // What the disk hid at the start counts as lost when it is found, although Discord has sent it again.
                if recovered.notes.iter().any(|note| matches!(note, Note::Io { .. } | Note::Damaged { .. })) {
                    assert!(disk.with(|disk| disk.faults) > 0, "{:?}", recovered.notes);
                    self.audit.may_be_hidden = true;
                }
                self.trace(|| format!("cluster {index} finds {recovered:?}"));
                reach.extend(recovered.reach.iter().map(|reach| (reach.session, reach.seq)));
                publisher.attach(spool);
            }
            self.clusters[index].begin(publisher, self.now);
        }
        for shard in 0..self.shards.len() {
            let placeholder = Shard::new(self.options.clone(), shard as u32, 0, self.now, None);
            self.shards[shard] = Slot::new(placeholder, self.shards[shard].cluster, self.now);
            self.recall(shard, &reach);
        }
        for index in 0..self.clusters.len() {
            self.arm_cluster(index);
        }
    }

    /// A folder that cannot be opened leaves a process without a disk; here that process ends at once, and another one
    /// begins.
    fn open_spool(&mut self, disk: &SimDisk) -> (Spool<SimDisk>, spool::Recovered) {
        for tries in 0..STARTS_MAX {
            disk.restart();
            if tries > STARTS_MAX / 2 {
                disk.heal();
            }
            if self.plan.dies_at_start && tries < STARTS_MAX / 2 && self.rng.chance(1, 4) {
                let calls = self.rng.below(20);
                disk.with(|disk| disk.calls_left = Some(calls));
            }
            let opened = Spool::open_in(disk.clone(), self.plan.spool_options());
            if !disk.is_dead()
                && let Ok(opened) = opened
            {
                disk.with(|disk| disk.calls_left = None);
                return opened;
            }
        }
        panic!("the spool cannot be opened");
    }

    /// As `permits::own::Own::new`.
    fn restore_permits(&mut self) -> queue::Machine {
        let response = self.discord.rest(self.now, "GET", "/gateway/bot", Some("Bot the.token"));
        let body: serde_json::Value = serde_json::from_slice(&response.body).expect("JSON");
        let number = |name: &str| body["session_start_limit"][name].as_u64().expect("a number");
        let limit = SessionStartLimit {
            total: number("total") as u32,
            remaining: number("remaining") as u32,
            reset_after: Duration::from_millis(number("reset_after")),
            max_concurrency: number("max_concurrency") as u32,
        };
        let options =
            queue::Options::new(limit.max_concurrency, limit.total, limit.remaining, limit.reset_after);
        let mut machine = match &self.snapshot {
            Some((snapshot, at)) => queue::Machine::restore(options, snapshot, self.now - *at, self.now),
            None => {
                let mut machine = queue::Machine::new(options, self.now);
                if limit.remaining < limit.total && self.process > 1 {
                    machine.keep_distance(self.now);
                }
                machine
            }
        };
        machine.refresh(self.now, self.now, &limit);
        machine
    }

    /// As `Home::recall_session`.
    fn recall(&mut self, index: usize, reach: &HashMap<u64, u64>) {
        let (shard_id, wall_ms) = (index as u32, self.turn().wall_ms);
        let slot = &mut self.shards[index];
        let Some(mut kept) = self.file[index].clone() else {
            return self.audit.begins(shard_id, None);
        };
        let hash = session_hash(kept.id.expose());
        slot.confirmed_up_to = (kept.seq > 0).then_some((hash, kept.seq));
        kept.seq = kept.seq.max(reach.get(&hash).copied().unwrap_or(0));
        self.audit.begins(shard_id, Some((hash, kept.seq)));
        if kept.seq == 0 {
            let reason = "restarted, and nothing of it had reached the broker".to_owned();
            let gap = Gap { session_hash: hash, last_seq: 0, from_ms: wall_ms, reason };
            self.audit.gap_begins(shard_id, &gap);
            slot.gap = Some(gap);
        } else {
            slot.inherited = Some(kept);
        }
    }

    /// As `Home::start_shards`.
    pub fn start_shards(&mut self, index: usize) {
        if std::mem::replace(&mut self.clusters[index].started, true) {
            return;
        }
        for shard in self.clusters[index].shards.clone() {
            let seed = self.rng.next_u64();
            let slot = &mut self.shards[shard];
            let session = slot
                .inherited
                .take()
                .map(|kept| Session::inherit(kept.id, kept.resume_url, kept.shard_count, kept.seq));
            slot.shard = Shard::new(self.options.clone(), shard as u32, seed, self.now, session);
            self.wake(shard);
        }
    }

    // While it lives.

    /// What changed of the sessions is written, soon.
    pub fn keep_soon(&mut self) {
        if self.down || self.keeping || !self.shards.iter().any(|slot| slot.unkept) {
            return;
        }
        if self.plan.keep_wait.is_zero() {
            return self.keep();
        }
        self.keeping = true;
        self.timers.set(Key::Keep, Some(self.now + self.plan.keep_wait));
    }

    /// As `Home::keep_sessions`.
    pub fn keep(&mut self) {
        self.keeping = false;
        for (slot, record) in self.shards.iter_mut().zip(&mut self.file) {
            if std::mem::take(&mut slot.unkept) {
                *record = slot.kept();
            }
        }
    }

    /// Lets a cluster's publisher move what has to be moved. False when the process died of it.
    pub fn turn_publisher(&mut self, index: usize) -> bool {
        let (turn, stopping) = (self.turn(), self.stopping && !self.patient);
        let cluster = &mut self.clusters[index];
        let mut link = cluster.wire();
        link.drains &= !stopping;
        let (slots, audit) = (&mut self.shards, &mut self.audit);
        cluster.publisher.turn(turn, link, &mut |progress| note_spooled(slots, audit, progress));
        let retry = cluster.publisher.deadline();
        let more = cluster.publisher.has_more().then_some(self.now + Duration::from_millis(1));
        self.timers.set(Key::Disk(index), retry.into_iter().chain(more).min());
        !self.clusters[index].is_dead()
    }

    // A stop.

    /// SIGTERM. `patient`: it waits for the brokers for as long as it takes.
    pub fn begin_stop(&mut self, patient: bool) {
        if self.down || self.stopping {
            return;
        }
        self.trace(|| "the process is told to stop".to_owned());
        (self.stopping, self.patient) = (true, patient);
        for cluster in &mut self.clusters {
            cluster.started = true;
        }
        for index in 0..self.shards.len() {
            self.shards[index].inputs.push(Input::Stop { end_session: false });
            self.wake(index);
        }
        if !patient {
            self.timers.set(Key::Stop, Some(self.now + STOP_TIMEOUT));
        }
    }

    /// As the end of `Home::flush`, and at the end of its patience (`at_last`) as the stop timer.
    pub fn stop_turn(&mut self, at_last: bool) {
        if self.down || !self.stopping || self.patient {
            return;
        }
        let stopped = self.shards.iter().all(|slot| slot.stopped);
        if at_last || stopped {
            let turn = self.turn();
            for cluster in &mut self.clusters {
                let link = cluster.wire();
                if cluster.publisher.is_settled() || (link.drains && !at_last) {
                    continue;
                }
                let (slots, audit) = (&mut self.shards, &mut self.audit);
                let report = &mut |progress| note_spooled(slots, audit, progress);
                let done = cluster.publisher.put_away(turn, link.frame_max, report);
                if cluster.is_dead() {
                    return self.die();
                }
                if done {
                    self.put_away += 1;
                    cluster.shards.clone().for_each(|shard| audit.put_away(shard as u32));
                    cluster.publisher.outbox.forget();
                }
            }
        }
        if at_last || (stopped && self.clusters.iter().all(|cluster| cluster.publisher.is_settled())) {
            self.keep();
            self.stops += 1;
            self.end_process("has stopped");
        }
    }

    // Death.

    /// kill -9, or the end of the machine.
    pub fn die(&mut self) {
        if !self.down {
            self.kills += 1;
            self.end_process("is killed");
        }
    }

    /// Whether the process dies before the next thing that it does.
    pub fn dies_here(&mut self) {
        match &mut self.kill_in {
            Some(0) => {
                self.kill_in = None;
                self.die();
            }
            Some(steps) => *steps -= 1,
            None => {}
        }
    }

    /// Whether one of its disks was what it died of.
    pub fn bury(&mut self) {
        if !self.down && self.clusters.iter().any(|cluster| cluster.is_dead()) {
            self.die();
        }
    }

    fn end_process(&mut self, how: &str) {
        self.trace(|| format!("process {} {how}", self.process));
        let now = self.now;
        let was_stopping = self.stopping;
        (self.down, self.stopping, self.keeping) = (true, false, false);
        self.kill_in = None;
        self.awake.clear();
        for key in [Key::Permits, Key::Keep, Key::Stop] {
            self.timers.set(key, None);
        }
        for index in 0..self.shards.len() {
            self.timers.set(Key::Shard(index), None);
            self.shards[index].interval = None;
            self.lose_socket(index);
        }
        for index in 0..self.clusters.len() {
            for key in [Key::Cluster(index), Key::Writable(index), Key::Disk(index)] {
                self.timers.set(key, None);
            }
            // What the system had taken may still arrive; nobody hears the answer.
            if self.rng.chance(1, 2) {
                self.broker_gets_the_rest(index);
            }
            self.clusters[index].break_off();
            self.overflows += self.clusters[index].publisher.overflows;
            self.disk_refusals += self.clusters[index].publisher.refusals;
            self.audit.shed += self.clusters[index].shed();
        }
        self.audit.process_ends(was_stopping);
        let most = if self.rng.chance(1, 4) { 60_000 } else { 3000 };
        let wait = self.rng.duration(Duration::ZERO, Duration::from_millis(most));
        self.timers.set(Key::Begin, Some(now + wait));
    }

    /// The peer of a dead process is told at once, or finds out by itself.
    fn lose_socket(&mut self, index: usize) {
        self.shards[index].connected = false;
        let Some(id) = self.shards[index].link.take() else { return };
        self.timers.set(Key::Dial(id), None);
        let dialing = self.dials.remove(&id).is_some();
        let silent = !dialing && self.rng.chance(1, 4);
        self.taint(id);
        let Some(link) = self.network.links.get_mut(&id) else { return };
        if !silent {
            link.send_up(self.now, &mut self.rng, Duration::ZERO, Up::End);
        }
        link.client_gone = true;
        link.down.clear();
        link.unread.clear();
        link.unread_bytes = 0;
        link.up_lost = true;
        link.breaks_at = None;
        link.tainted = true;
        self.arm_link(id);
    }
}

/// What the shards of all processes are told.
pub fn shard_options(plan: &Plan) -> Arc<rateway::gateway::shard::Options> {
    Arc::new(rateway::gateway::shard::Options::new(
        rateway::base::Secret::new("the.token"),
        rateway::sim::INTENTS_ALL,
        plan.shards,
        "wss://gateway.test",
    ))
}
