//! What has to hold: the simulation's own books, kept beside the machines and without asking them.
//!
//! Delivered is what a shard has read of Discord without complaint; arrived is what a broker has read of the
//! gateway; promised is what a broker has confirmed, whether or not the confirm got through.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use rateway::gateway::command::Refusal;
use rateway::gateway::session::session_hash;
use rateway::gateway::shard::{LossReason, SessionLost};
use rateway::sim::{Ledger, SessionEnd, ViolationKind};

use super::broker::Message;
use super::plan::Plan;

/// One event of a session, by seq.
#[derive(Clone, Debug, Default)]
struct Event {
    arrived: Option<(String, u64)>,
    promised: bool,
    /// The gateway has read that it is confirmed.
    heard: bool,
    last_life: u64,
}

/// A session as far as the simulation has seen it.
#[derive(Debug)]
struct Session {
    shard: u32,
    /// Delivered without a gap up to here.
    delivered: u64,
    /// Promised without a gap up to here.
    promised: u64,
    events: Vec<Event>,
    lost: Option<LossReason>,
}

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
    commands: Vec<Command>,
    commands_done: usize,
    /// Per identify bucket when the last IDENTIFY was sent.
    identified: BTreeMap<u32, Instant>,
    pub losses: u64,
    pub repeats: u64,
    pub refused: u64,
}

impl Audit {
    pub fn new(shards: u32) -> Audit {
        Audit {
            sessions: BTreeMap::new(),
            expected: vec![VecDeque::new(); shards as usize],
            current: vec![None; shards as usize],
            commands: Vec::new(),
            commands_done: 0,
            identified: BTreeMap::new(),
            losses: 0,
            repeats: 0,
            refused: 0,
        }
    }

    // Discord to shard.

    /// READY was read.
    pub fn ready(&mut self, shard: u32, session_id: &str) -> u64 {
        let hash = session_hash(session_id);
        let known = self.current[shard as usize];
        assert!(known.is_none() || known == Some(hash), "READY while a session is known");
        self.current[shard as usize] = Some(hash);
        self.sessions.entry(hash).or_insert_with(|| Session {
            shard,
            delivered: 0,
            promised: 0,
            events: vec![Event::default()],
            lost: None,
        });
        hash
    }

    /// An event was read. Says whether it is new.
    pub fn delivered(&mut self, session: u64, seq: u64) -> bool {
        let books = self.sessions.get_mut(&session).expect("READY came first");
        if seq <= books.delivered {
            return false;
        }
        assert_eq!(seq, books.delivered + 1, "the stand-in left events out: RESUME asked from too far ahead");
        books.delivered = seq;
        books.events.push(Event::default());
        self.expected[books.shard as usize].push_back((session, seq));
        true
    }

    /// RESUME was sent.
    pub fn resumed(&mut self, shard: u32, session_id: &str, seq: u64) -> u64 {
        let hash = session_hash(session_id);
        assert_eq!(self.current[shard as usize], Some(hash), "RESUME of a session that the shard has lost");
        let promised = self.sessions[&hash].promised;
        // READY itself is not sent again; before it is confirmed it waits in the outbox.
        assert!(seq <= promised.max(1), "RESUME from {seq}, the broker has promised {promised}");
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
        let books = self.sessions.get_mut(&lost.session_hash).expect("a session that was known");
        assert_eq!(lost.received, books.delivered, "the shard's count of what it has read");
        assert!(lost.confirmed.unwrap_or(0) <= books.promised);
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

    /// A broker has read an event, in the given life of its channel.
    pub fn arrived(&mut self, life: u64, exchange: &str, message: &Message, ready_secrets: bool) {
        let (shard, session, seq) = parse_id(&message.message_id);
        assert_eq!((i64::from(shard), seq as i64), (message.shard_id, message.seq), "headers and message id");
        assert_eq!(message.exchange, exchange);
        let books = self.sessions.get_mut(&session).expect("an event of no session");
        assert_eq!(books.shard, shard);
        assert!(seq > 0 && seq <= books.delivered, "an event that was never delivered");
        let event = &mut books.events[seq as usize];
        assert!(event.last_life < life, "{} twice on one channel", message.message_id);
        event.last_life = life;
        let content = (message.routing_key.clone(), message.body_hash);
        match &event.arrived {
            Some(before) => {
                assert!(message.repeat, "{} arrived again without the mark", message.message_id);
                assert!(!event.heard, "{} was confirmed and came again", message.message_id);
                assert_eq!(*before, content, "{} has changed", message.message_id);
                self.repeats += 1;
            }
            None => {
                let next = self.expected[shard as usize].pop_front();
                assert_eq!(next, Some((session, seq)), "out of order, or with a gap");
                event.arrived = Some(content);
            }
        }
        assert!(life > 1 || !message.repeat, "{} is marked without a cause", message.message_id);
        if message.routing_key == "READY" && !ready_secrets {
            let body: serde_json::Value = serde_json::from_slice(&message.body).expect("JSON");
            assert_eq!((&body["session_id"], &body["resume_gateway_url"]), (&"".into(), &"".into()));
        }
    }

    /// A broker has confirmed an event. That the confirm is read is another matter.
    pub fn promised(&mut self, message_id: &str) {
        let (_, session, seq) = parse_id(message_id);
        let books = self.sessions.get_mut(&session).expect("an event of a session");
        books.events[seq as usize].promised = true;
        while books.events.get(books.promised as usize + 1).is_some_and(|event| event.promised) {
            books.promised += 1;
        }
    }

    /// The gateway has read the confirm of an event.
    pub fn heard(&mut self, message_id: &str) {
        let (_, session, seq) = parse_id(message_id);
        self.sessions.get_mut(&session).expect("an event of a session").events[seq as usize].heard = true;
    }

    /// The shard is told that everything up to `seq` is confirmed.
    pub fn told(&self, session: u64, seq: u64) {
        let promised = self.sessions[&session].promised;
        assert!(seq <= promised, "told {seq}, the broker has promised {promised}");
    }

    /// Whether a shard's present session has arrived up to `seq`, promised.
    pub fn has(&self, shard: u32, seq: u64) -> bool {
        self.current[shard as usize].is_some_and(|session| self.sessions[&session].promised == seq)
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

    /// Whether everything that was delivered is promised by a broker.
    pub fn is_complete(&self) -> bool {
        self.expected.iter().all(VecDeque::is_empty)
            && self.sessions.values().all(|session| session.promised == session.delivered)
    }

    /// Compares the books with the stand-in's, when every shard has stopped.
    pub fn close(&self, plan: &Plan, ledger: &Ledger) {
        assert_eq!(ledger.overflow, 0);
        assert!(self.is_complete(), "something that was delivered never reached a broker");
        let by_index: BTreeMap<u64, u64> = ledger
            .sessions
            .iter()
            .map(|(&index, record)| (index, session_hash(&record.session_id)))
            .collect();
        for dispatch in &ledger.dispatch_log {
            let Some(session) = self.sessions.get(&by_index[&dispatch.session]) else { continue };
            let Some(event) = session.events.get(dispatch.seq as usize) else { continue };
            let (name, body_hash) = event.arrived.as_ref().expect("complete");
            assert_eq!(**name, *dispatch.event);
            let redacted = name == "READY" && !plan.ready_secrets;
            assert!(redacted || *body_hash == dispatch.d_hash, "the body of a {name} is not Discord's");
        }
        for record in ledger.sessions.values() {
            let Some(session) = self.sessions.get(&session_hash(&record.session_id)) else { continue };
            assert!(session.delivered <= record.last_seq);
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
        // A command, or the heartbeat's neighbour, crossed the word that the session is gone.
        ViolationKind::Closed { code: 4003, .. } if unseated => Ok(()),
        _ => Err("a limit or a rule of Discord was broken"),
    }
}
