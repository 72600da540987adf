//! What has to hold: the simulation's own books, kept beside the machines and without asking them.
//!
//! Delivered is what a shard has read of Discord without complaint; arrived is what a broker has read of the
//! gateway; promised is what a broker has confirmed, whether or not the confirm got through; safe is what the gateway says
//! of itself that it is on disk. Held is what it has to bring to a broker: after the death of a process only what was safe,
//! and what comes before the place from which a session is resumed.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use rateway::gateway::command::Refusal;
use rateway::gateway::session::session_hash;
use rateway::gateway::shard::{LossReason, SessionLost};
use rateway::relay::gap::{self, Gap};
use rateway::sim::{Ledger, SessionEnd, ViolationKind};

use super::broker::Message;
use super::plan::Plan;

/// One event of a session, by seq.
#[derive(Clone, Debug, Default)]
struct Event {
    name: Box<str>,
    arrived: Option<u64>,
    promised: bool,
    held: bool,
    /// Something behind it arrived first: it was shed, or its process died.
    passed: bool,
    /// The process in which the gateway has read that it is confirmed.
    heard: u32,
    last_life: u64,
}

/// A session as far as the simulation has seen it.
#[derive(Debug)]
struct Session {
    shard: u32,
    /// Delivered to this process, or to one before it, without a gap up to here.
    delivered: u64,
    /// Promised without a gap up to here, but for what was shed.
    promised: u64,
    /// On disk, as the gateway says.
    safe: u64,
    events: Vec<Event>,
    lost: Option<LossReason>,
}

/// What a gap says of itself: shard, session, last seq.
type GapId = (u32, u64, u64);

/// What a shard was told last, to judge why it gives a session up.
#[derive(Clone, Copy, Debug, Default)]
pub struct Evidence {
    /// INVALID SESSION without the right to resume.
    pub invalidated: bool,
    /// The last close code.
    pub closed: Option<u16>,
    /// A READY that cannot be read.
    pub bad_ready: bool,
    /// Resumes that ended without an event.
    pub resumes_stuck: u32,
}

#[derive(Debug)]
struct Command {
    json: Vec<u8>,
    valid: bool,
    done: bool,
}

/// The books.
#[derive(Debug)]
pub struct Audit {
    sessions: BTreeMap<u64, Session>,
    /// Per shard what was delivered and has not arrived, in order.
    expected: Vec<VecDeque<(u64, u64)>>,
    /// Per shard the session that it knows.
    current: Vec<Option<u64>>,
    /// Gaps that a living process has to tell of.
    gaps_owed: BTreeSet<GapId>,
    /// Gaps whose process died before they arrived.
    gaps_orphaned: BTreeSet<GapId>,
    /// Of these, the ones that have to.
    gaps_on_disk: BTreeSet<GapId>,
    gaps_told: BTreeSet<GapId>,
    /// Per shard the session that it was last given.
    latest: Vec<Option<u64>>,
    commands: Vec<Command>,
    commands_done: usize,
    /// Per identify bucket when the last IDENTIFY was sent.
    identified: BTreeMap<u32, Instant>,
    process: u32,
    was_stopped: bool,
    /// Classes that can be shed, and how many events were.
    shed_classes: Vec<String>,
    pub shed: u64,
    /// A disk was unreadable at a start: it may tell later that something is lost which Discord has sent again.
    pub may_be_hidden: bool,
    pub losses: u64,
    pub repeats: u64,
    pub refused: u64,
    pub gaps: u64,
    /// Gaps that nobody was told of, see [`Audit::begins`].
    pub untold: u64,
    pub inherited: u64,
}

impl Audit {
    pub fn new(plan: &Plan) -> Audit {
        Audit {
            sessions: BTreeMap::new(),
            expected: vec![VecDeque::new(); plan.shards as usize],
            current: vec![None; plan.shards as usize],
            gaps_owed: BTreeSet::new(),
            gaps_orphaned: BTreeSet::new(),
            gaps_on_disk: BTreeSet::new(),
            gaps_told: BTreeSet::new(),
            latest: vec![None; plan.shards as usize],
            commands: Vec::new(),
            commands_done: 0,
            identified: BTreeMap::new(),
            process: 1,
            was_stopped: false,
            shed_classes: plan.spool_options().shed,
            shed: 0,
            may_be_hidden: false,
            losses: 0,
            repeats: 0,
            refused: 0,
            gaps: 0,
            untold: 0,
            inherited: 0,
        }
    }

    fn may_be_shed(&self, event: &Event) -> bool {
        self.shed_classes.iter().any(|class| **class == *event.name)
    }

    // Processes.

    /// The process is gone: it holds what is safe.
    pub fn process_ends(&mut self, was_stopped: bool) {
        self.was_stopped = was_stopped;
        self.process += 1;
        for session in self.sessions.values_mut() {
            let first = session.promised.max(session.safe) as usize + 1;
            for event in session.events.iter_mut().skip(first) {
                event.held &= event.promised;
            }
        }
        self.gaps_orphaned.append(&mut self.gaps_owed);
        for command in &mut self.commands {
            // Whoever asked for it gets no answer.
            self.commands_done += usize::from(!std::mem::replace(&mut command.done, true));
        }
    }

    /// A shard of a new process begins, with a session to be resumed from a seq on if there is one.
    ///
    /// `known` is what the file says of its session and what became of that: hash and seq, 0 for one that is not resumed.
    pub fn begins(&mut self, shard: u32, known: Option<(u64, u64)>) {
        let inherited = known.filter(|(_, seq)| *seq > 0);
        let tells = known.is_some() && inherited.is_none();
        if let Some((session, seq)) =
            known.filter(|(session, _)| self.latest[shard as usize] == Some(*session))
            && !self.may_be_hidden
        {
            // What is on disk alone is found there, and nobody asks Discord for it, nor for a new session.
            let books = &self.sessions[&session];
            let mut on_disk = books.events.iter().take(books.safe as usize + 1);
            let reach = on_disk.rposition(|event| !event.promised && !self.may_be_shed(event)).unwrap_or(0);
            assert!(seq >= reach as u64, "shard {shard} goes on from {seq}, {reach} is on disk");
        }
        self.current[shard as usize] = inherited.map(|(session, _)| session);
        for gap in std::mem::take(&mut self.gaps_orphaned) {
            if gap.0 != shard {
                self.gaps_orphaned.insert(gap);
                continue;
            }
            // Whatever the judgement, it may still come.
            self.gaps_told.insert(gap);
            match inherited {
                // It was not lost after all: the file knew it for longer than its process.
                Some((session, _)) if session == gap.1 => {}
                // Its READY is with the broker or on disk, and what came behind the gap too.
                Some((_, 2..)) if !self.was_stopped => drop(self.gaps_on_disk.insert(gap)),
                // The broker may have READY and not the gap behind it. A stop comes in between where READY is read while
                // the connection closes: the gap is told at its end then.
                Some(_) => self.untold += 1,
                None => self.untold += u64::from(!tells),
            }
        }
        let Some((session, seq)) = inherited else { return };
        self.inherited += 1;
        let books = self.sessions.get_mut(&session).expect("a session that was known");
        assert!(seq < books.events.len() as u64, "resumes from {seq}, which was never delivered");
        books.delivered = seq;
        books.safe = books.safe.max(seq);
        books.lost = None;
        books.events[..=seq as usize].iter_mut().for_each(|event| event.held = true);
    }

    /// A shard has to tell of a gap.
    pub fn gap_begins(&mut self, shard: u32, gap: &Gap) {
        self.gaps_owed.insert((shard, gap.session_hash, gap.last_seq));
    }

    /// Everything up to here is on disk, the publisher says.
    pub fn spooled(&mut self, session: u64, seq: u64) {
        let books = self.sessions.get_mut(&session).expect("a session that was known");
        assert!(seq < books.events.len() as u64);
        books.safe = books.safe.max(seq);
    }

    /// Everything of a shard that the broker has not promised is on disk, the publisher says.
    pub fn put_away(&self, shard: u32) {
        for session in self.sessions.values().filter(|session| session.shard == shard) {
            let rest = session.events.iter().skip(session.safe as usize + 1);
            for event in rest.filter(|event| event.held && !event.promised) {
                assert!(self.may_be_shed(event), "shard {shard} stops without {event:?}");
            }
        }
    }

    /// Everything up to here is with the broker, the outbox says.
    pub fn confirmed(&self, session: u64, seq: u64) {
        self.must_reach(session, seq, 0);
    }

    /// Everything up to `seq` has to be promised, or up to `safe` to be on disk, but for what may have been shed, perhaps
    /// after an earlier process had sent it to a broker that did not promise it.
    fn must_reach(&self, session: u64, seq: u64, safe: u64) {
        let books = &self.sessions[&session];
        let settled = books.promised.max(safe);
        for event in books.events.iter().take(seq as usize + 1).skip(settled as usize + 1) {
            assert!(
                event.promised || self.may_be_shed(event),
                "up to {seq} is taken for done, {} is promised, {safe} is on disk: {event:?}",
                books.promised
            );
        }
    }

    // Discord to shard.

    /// READY was read.
    pub fn ready(&mut self, shard: u32, session_id: &str) -> u64 {
        let hash = session_hash(session_id);
        let known = self.current[shard as usize];
        assert!(known.is_none() || known == Some(hash), "READY while a session is known");
        self.current[shard as usize] = Some(hash);
        self.latest[shard as usize] = Some(hash);
        self.sessions.entry(hash).or_insert_with(|| Session {
            shard,
            delivered: 0,
            promised: 0,
            safe: 0,
            events: vec![Event { held: true, promised: true, ..Event::default() }],
            lost: None,
        });
        hash
    }

    /// An event was read. Says whether it is new.
    pub fn delivered(&mut self, session: u64, seq: u64, name: &str) -> bool {
        let books = self.sessions.get_mut(&session).expect("READY came first");
        if seq <= books.delivered {
            return false;
        }
        assert_eq!(seq, books.delivered + 1, "the stand-in left events out: RESUME asked from too far ahead");
        books.delivered = seq;
        match books.events.get_mut(seq as usize) {
            // Again, as the process that had read it is no more.
            Some(event) => {
                event.held = true;
            }
            None => {
                books.events.push(Event { name: name.into(), held: true, ..Event::default() });
                self.expected[books.shard as usize].push_back((session, seq));
            }
        }
        true
    }

    /// RESUME was sent.
    pub fn resumed(&mut self, shard: u32, session_id: &str, seq: u64) -> u64 {
        let hash = session_hash(session_id);
        assert_eq!(self.current[shard as usize], Some(hash), "RESUME of a session that the shard has lost");
        // READY itself is not sent again; before it is confirmed it waits in the outbox.
        self.must_reach(hash, seq, self.sessions[&hash].safe.max(1));
        hash
    }

    /// IDENTIFY was sent.
    pub fn identified(&mut self, now: Instant, shard: u32, max_concurrency: u32) {
        assert_eq!(self.current[shard as usize], None, "IDENTIFY although a session is known");
        if let Some(before) = self.identified.insert(shard % max_concurrency, now) {
            let gap = now - before;
            assert!(gap >= Duration::from_secs(5), "IDENTIFY {gap:?} after the one before in its bucket");
        }
    }

    /// The shard says that a session is gone.
    pub fn lost(&mut self, shard: u32, lost: &SessionLost, evidence: Evidence, resuming: bool) {
        self.losses += 1;
        let current = self.current[shard as usize].take();
        assert_eq!(current, Some(lost.session_hash), "lost a session that it did not have");
        let safe = self.sessions[&lost.session_hash].safe;
        self.must_reach(lost.session_hash, lost.confirmed.unwrap_or(0), safe);
        let books = self.sessions.get_mut(&lost.session_hash).expect("a session that was known");
        assert_eq!(lost.received, books.delivered, "the shard's count of what it has read");
        assert!(books.lost.replace(lost.reason).is_none(), "lost twice");
        let just = match lost.reason {
            LossReason::Invalidated => evidence.invalidated,
            LossReason::Closed(code @ (4001 | 4003 | 4005..=4007)) => evidence.closed == Some(code),
            LossReason::Closed(code @ (1000 | 4009)) => resuming && evidence.closed == Some(code),
            LossReason::ResumeFailed => evidence.bad_ready || evidence.resumes_stuck >= 8,
            LossReason::Closed(_) | LossReason::Replaced | LossReason::OtherShardCount => false,
        };
        assert!(just, "shard {shard} gave a session up without need: {lost:?}, {evidence:?}");
    }

    // Gateway to broker.

    /// A broker has read an event, in the given life of its channel. `marks_hold`: no process of the cluster has lived on
    /// after it could not write down how far it had handed out what was on disk. After that a death may lead to an event
    /// that comes again without the mark; not to publish at all would be worse.
    pub fn arrived(
        &mut self,
        life: u64,
        exchange: &str,
        message: &Message,
        ready_secrets: bool,
        marks_hold: bool,
    ) {
        assert_eq!(message.exchange, exchange);
        if message.routing_key == gap::ROUTING_KEY {
            return self.gap_arrived(message);
        }
        let (shard, session, seq) = parse_id(&message.message_id);
        assert_eq!((i64::from(shard), seq as i64), (message.shard_id, message.seq), "headers and message id");
        let books = self.sessions.get_mut(&session).expect("an event of no session");
        assert_eq!(books.shard, shard);
        assert!(seq > 0 && seq < books.events.len() as u64, "an event that was never delivered");
        let event = &mut books.events[seq as usize];
        assert_eq!(*event.name, *message.routing_key);
        let twice = event.last_life >= life && !self.may_be_hidden;
        assert!(!twice, "{} twice on one channel", message.message_id);
        event.last_life = life;
        match event.arrived {
            Some(before) => {
                assert!(
                    message.repeat || !marks_hold,
                    "{} arrived again without the mark",
                    message.message_id
                );
                let again = event.heard == self.process && !self.may_be_hidden;
                assert!(!again, "{} was confirmed and came again", message.message_id);
                assert_eq!(before, message.body_hash, "{} has changed", message.message_id);
                self.repeats += 1;
            }
            None => {
                event.arrived = Some(message.body_hash);
                let passed = event.passed;
                self.pass(shard, session, seq, passed);
            }
        }
        let cause = life > 1 || self.process > 1;
        assert!(cause || !message.repeat, "{} is marked without a cause", message.message_id);
        if message.routing_key == "READY" && !ready_secrets {
            let body: serde_json::Value = serde_json::from_slice(&message.body).expect("JSON");
            assert_eq!((&body["session_id"], &body["resume_gateway_url"]), (&"".into(), &"".into()));
        }
    }

    /// An event arrived for the first time: all before it did, but for what was shed or went with a process.
    fn pass(&mut self, shard: u32, session: u64, seq: u64, passed: bool) {
        if passed {
            // Left out by one process; the next one asked for it again.
            let event = &self.sessions[&session].events[seq as usize];
            assert!(self.may_be_shed(event), "{shard} {seq} is out of order");
            return;
        }
        while let Some(next) = self.expected[shard as usize].pop_front() {
            if next == (session, seq) {
                return;
            }
            let event = &self.sessions[&next.0].events[next.1 as usize];
            let may_be_missing = !event.held || self.may_be_shed(event);
            assert!(may_be_missing, "{seq} of shard {shard} came before {} {}", next.1, event.name);
            let books = self.sessions.get_mut(&next.0).expect("known");
            books.events[next.1 as usize].passed = true;
            self.advance(next.0);
        }
        panic!("{seq} of shard {shard} came out of order");
    }

    fn gap_arrived(&mut self, message: &Message) {
        let (shard, session, seq) = parse_id(message.message_id.strip_suffix("-gap").expect("a gap's id"));
        assert_eq!((i64::from(shard), seq as i64), (message.shard_id, message.seq), "headers and message id");
        let body: serde_json::Value = serde_json::from_slice(&message.body).expect("JSON");
        assert_eq!((&body["shard_id"], &body["last_seq"]), (&shard.into(), &seq.into()));
        let id = (shard, session, seq);
        let reason = body["reason"].as_str().expect("a reason");
        let is_caused = self.gaps_owed.remove(&id)
            || self.gaps_told.contains(&id)
            || (reason.contains("were left out") && !self.shed_classes.is_empty())
            || (reason.contains("cannot be read") && self.may_be_hidden);
        assert!(is_caused, "nothing is missing where a gap says so: {body}");
        self.gaps_on_disk.remove(&id);
        self.gaps_told.insert(id);
        self.gaps += 1;
    }

    /// A broker has confirmed an event. That the confirm is read is another matter.
    pub fn promised(&mut self, message_id: &str) {
        if message_id.ends_with("-gap") {
            return;
        }
        let (_, session, seq) = parse_id(message_id);
        let books = self.sessions.get_mut(&session).expect("an event of a session");
        books.events[seq as usize].promised = true;
        self.advance(session);
    }

    fn advance(&mut self, session: u64) {
        let books = self.sessions.get_mut(&session).expect("known");
        while let Some(event) = books.events.get(books.promised as usize + 1)
            && (event.promised || (event.passed && event.held))
        {
            books.promised += 1;
        }
    }

    /// The gateway has read the confirm of an event.
    pub fn heard(&mut self, message_id: &str) {
        if message_id.ends_with("-gap") {
            return;
        }
        let (_, session, seq) = parse_id(message_id);
        let books = self.sessions.get_mut(&session).expect("an event of a session");
        books.events[seq as usize].heard = self.process;
    }

    /// The shard is told that everything up to `seq` is confirmed, or as good as that.
    pub fn told(&self, session: u64, seq: u64) {
        self.must_reach(session, seq, self.sessions[&session].safe);
    }

    /// Whether a shard's present session has arrived up to `seq`, promised or shed.
    pub fn has(&self, shard: u32, seq: u64) -> bool {
        let Some(session) = self.current[shard as usize] else { return false };
        let books = &self.sessions[&session];
        let rest = &books.events[(books.promised as usize + 1).min(books.events.len())..];
        books.delivered == seq && rest.iter().all(|event| event.promised || self.may_be_shed(event))
    }

    // Workers.

    /// A worker asks for something; says under which id.
    pub fn command(&mut self, json: &[u8], valid: bool) -> u64 {
        self.commands.push(Command { json: json.to_vec(), valid, done: false });
        self.commands.len() as u64 - 1
    }

    pub fn command_done(&mut self, id: u64, result: Result<(), Refusal>, sent: Option<&[u8]>) {
        let command = &mut self.commands[id as usize];
        assert!(!std::mem::replace(&mut command.done, true), "command {id} was answered twice");
        self.commands_done += 1;
        match result {
            Ok(()) => {
                assert!(command.valid);
                assert_eq!(sent, Some(&command.json[..]), "command {id} was not what was sent");
            }
            Err(Refusal::Full | Refusal::Stopped) => {}
            Err(other) => assert!(!command.valid, "command {id}: {other}"),
        }
    }

    // The end.

    /// Events that are held and not promised, and how many of them are of no class that can be shed.
    fn missing(&self) -> (u64, u64) {
        let events = self.sessions.values().flat_map(|session| &session.events);
        let missing = events.filter(|event| event.held && !event.promised);
        let (mut all, mut unshed) = (0, 0);
        for event in missing {
            all += 1;
            unshed += u64::from(!self.may_be_shed(event));
        }
        (all, unshed)
    }

    /// Compares the books with the stand-in's, when every shard has stopped.
    pub fn close(&self, plan: &Plan, ledger: &Ledger) {
        assert_eq!(ledger.overflow, 0);
        let (missing, unshed) = self.missing();
        assert_eq!(unshed, 0, "something that was delivered never reached a broker");
        assert!(missing <= self.shed, "{missing} events are missing, {} were left out", self.shed);
        assert!(self.gaps_owed.is_empty(), "workers were never told of {:?}", self.gaps_owed);
        assert!(
            self.gaps_on_disk.is_empty(),
            "workers were never told of {:?}, which READY is with the broker",
            self.gaps_on_disk
        );
        let by_index: BTreeMap<u64, u64> = ledger
            .sessions
            .iter()
            .map(|(&index, record)| (index, session_hash(&record.session_id)))
            .collect();
        for dispatch in &ledger.dispatch_log {
            let Some(session) = self.sessions.get(&by_index[&dispatch.session]) else { continue };
            let Some(event) = session.events.get(dispatch.seq as usize) else { continue };
            let (name, Some(body_hash)) = (&*event.name, event.arrived) else { continue };
            assert_eq!(*name, *dispatch.event);
            let redacted = name == "READY" && !plan.ready_secrets;
            assert!(redacted || body_hash == dispatch.d_hash, "the body of a {name} is not Discord's");
        }
        for record in ledger.sessions.values() {
            let Some(session) = self.sessions.get(&session_hash(&record.session_id)) else { continue };
            assert!(session.events.len() as u64 <= record.last_seq + 1);
            assert_ne!(record.end, Some(SessionEnd::ClosedByClient), "a session was thrown away");
        }
        assert_eq!(self.commands_done, self.commands.len(), "commands without an answer");
    }

    /// Counts events that brokers have.
    pub fn events(&self) -> u64 {
        self.sessions.values().map(|session| session.promised).sum()
    }

    pub fn commands(&self) -> usize {
        self.commands.len()
    }
}

/// `{shard}-{session hash}-{seq}`.
fn parse_id(message_id: &str) -> (u32, u64, u64) {
    let mut parts = message_id.split('-');
    let mut part = || parts.next().expect("three parts");
    let (shard, session, seq) = (part(), part(), part());
    assert_eq!(session.len(), 16);
    (
        shard.parse().expect("a shard"),
        u64::from_str_radix(session, 16).expect("a hash"),
        seq.parse().expect("a seq"),
    )
}

/// Whether a client may be blamed for nothing in what the stand-in saw. `tainted` and `unseated` say which
/// connections were disturbed.
pub fn judge(plan: &Plan, kind: &ViolationKind, tainted: bool, unseated: bool) -> Result<(), &'static str> {
    match kind {
        ViolationKind::HeartbeatMissing if tainted => Ok(()),
        ViolationKind::HeartbeatMissing => Err("no heartbeats on a sound connection"),
        // What leaves at the right time may arrive at the wrong one.
        ViolationKind::IdentifyTooEarly { .. }
        | ViolationKind::TooManyPayloads
        | ViolationKind::TooManyPresenceUpdates
            if plan.stalls() =>
        {
            Ok(())
        }
        // A command, or the heartbeat's neighbour, crossed the word that the session is gone, or was still under way on the
        // connection that a RESUME elsewhere was meant to replace.
        ViolationKind::Closed { code: 4003, .. } if unseated || tainted => Ok(()),
        _ => Err("a limit or a rule of Discord was broken"),
    }
}
