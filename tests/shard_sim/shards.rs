//! A shard's run and what comes of it: the wiring of `relay::task` and `runtime::shards`, on payloads instead of
//! bytes.

use std::time::Duration;

use rateway::gateway::Command;
use rateway::gateway::shard::{Input, Output, State};
use rateway::relay::flow;
use rateway::relay::gap::Gap;
use rateway::relay::topology::exchange;
use rateway::relay::{Batch, Framing};

use super::audit::Evidence;
use super::network::{Down, Link, Up};
use super::process::note_spooled;
use super::world::{Key, World};

impl World {
    /// As `Home::spawn`, `ShardTask::run` and `Home::task_returned`: inputs, deadline, payloads, the end of the link; then
    /// home.
    pub fn run(&mut self, index: usize) {
        let now = self.now;
        let cluster = self.shards[index].cluster;
        if self.down || !self.clusters[cluster].started {
            return;
        }
        let may_publish = !self.clusters[cluster].paused;
        // While paused nothing is promised, and what may be read then publishes nothing.
        let promised = match may_publish.then(|| self.clusters[cluster].publisher.reserve()) {
            None => 0,
            Some(Some(promised)) => promised,
            Some(None) => return self.clusters[cluster].deferred.push(index),
        };
        let mut batch = self.clusters[cluster].publisher.outbox.take_spare();
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
        self.pump(index, may_publish, promised.max(1), &mut batch);
        if self.shards[index].stopped {
            // No READY will end it.
            self.publish_gap(index, &mut batch);
        }
        if batch.records.iter().any(|record| record.seq > 0) {
            self.check_room(cluster, may_publish);
        }
        self.shards[index].note_session(self.plan.shards);
        let turn = self.turn();
        let (slots, audit) = (&mut self.shards, &mut self.audit);
        let report = &mut |progress| note_spooled(slots, audit, progress);
        self.clusters[cluster].publisher.accept(turn, index as u32, batch, promised, report);
        if self.clusters[cluster].is_dead() {
            return;
        }
        self.timers.set(Key::Shard(index), self.shards[index].shard.poll_timeout());
        self.pause_or_go_on(cluster);
        self.flush(cluster);
        if self.shards[index].more {
            self.wake(index);
        }
    }

    /// Whether there was room for what was read.
    fn check_room(&self, cluster: usize, may_publish: bool) {
        assert!(may_publish, "events were read that there is no room for");
        let publisher = &self.clusters[cluster].publisher;
        let held = publisher.waiting().0 - publisher.outbox.unconfirmed();
        assert_eq!(held, 0, "events were read although the disk takes none");
        if !publisher.is_spooling() {
            // A little above the limit is a repeat's mark, or a buffer that grew with it.
            let (bytes, limit) = (publisher.outbox.memory_bytes(), self.plan.outbox_bytes_max);
            assert!(
                bytes <= limit + limit / 4 + 4096,
                "{bytes} bytes in an outbox of {limit}, and reading went on"
            );
        }
    }

    fn framing(&self, index: usize) -> Framing {
        let cluster = &self.clusters[self.shards[index].cluster];
        Framing {
            exchange: exchange(cluster.number).into(),
            frame_max: cluster.frame_max,
            ready_secrets: self.plan.ready_secrets,
            persistent: self.plan.persistent(),
            events: Default::default(),
        }
    }

    /// As `ShardTask::publish_gap`.
    fn publish_gap(&mut self, index: usize, batch: &mut Batch) {
        if let Some(gap) = self.shards[index].gap.take() {
            let framing = self.framing(index);
            gap.publish(index as u32, self.turn().wall_ms, &framing, batch).expect("short names");
        }
    }

    fn pump(&mut self, index: usize, may_publish: bool, batch_bytes_max: usize, batch: &mut Batch) {
        self.shards[index].more = false;
        let mut payloads = 0;
        while may_publish || !self.shards[index].shard.state().brings_events() {
            if payloads >= self.plan.payloads_per_run || batch.bytes.len() >= batch_bytes_max {
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
        let framing = self.framing(index);
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
            if self.audit.delivered(session, seq, event_name(payload)) {
                self.shards[index].evidence.resumes_stuck = 0;
            }
        }
        let wall_ms = self.turn().wall_ms;
        let slot = &mut self.shards[index];
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
            Ok(_) => {
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
                if self.shards[index].shard.state() == State::Active {
                    self.publish_gap(index, batch);
                }
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
                let resuming = slot.before == State::Resuming;
                if slot.gap.is_none() {
                    // As `ShardTask::begin_gap`.
                    let gap = Gap {
                        session_hash: lost.session_hash,
                        last_seq: lost.received,
                        from_ms: 0,
                        reason: lost.reason.to_string(),
                    };
                    self.audit.gap_begins(shard_id, &gap);
                    slot.gap = Some(gap);
                }
                self.audit.lost(shard_id, &lost, evidence, resuming);
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

    /// As `permits::own::Own`: a permit is written down before anybody hears of it.
    pub fn granted(&mut self) {
        loop {
            let permit = self.permits.poll_permit();
            let saved_busy = self.snapshot.as_ref().is_some_and(|(snapshot, _)| snapshot.busy);
            if permit.is_some() || self.permits.is_quiet() == saved_busy {
                self.snapshot = Some((self.permits.snapshot(), self.now));
            }
            let Some(permit) = permit else { break };
            let index = permit.shard_id as usize;
            self.shards[index].inputs.push(Input::Permit { ticket: permit.ticket });
            self.wake(index);
        }
        self.timers.set(Key::Permits, self.permits.poll_timeout());
    }
}

/// `t` of an event as the stand-in writes it.
fn event_name(payload: &[u8]) -> &str {
    let name = payload.strip_prefix(br#"{"t":""#).and_then(|rest| rest.split(|&byte| byte == b'"').next());
    name.and_then(|name| std::str::from_utf8(name).ok()).unwrap_or_default()
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
