//! The shard machine: one gateway connection after another, and the session that outlives them.
//!
//! Told ([`Shard::handle_input`], [`Shard::handle_payload`], [`Shard::handle_deadline`]) it changes; then
//! [`Shard::poll_output`] is drained, then [`Shard::poll_timeout`] says when it wants to be told of the time
//! again. It does no IO, and its jitter follows from its seed.
//!
//! ```text
//!               backoff over            opened               HELLO, session
//! Disconnected ------------> Connecting ------> AwaitingHello -------------> Resuming ---- RESUMED
//!      ^                                          | HELLO, no session         | op 9 false    |
//!      |                                          v                           v               v
//!      |                                      AwaitingPermit <--- op 9 --- Identifying -----> Active
//!      |                                          |       permit              ^      READY
//!      |                                          +---------------------------+
//!      +--- any link's end, at once or by way of Closing --- op 7, stop
//!
//! Stopped: as asked.   Fatal: close codes 4004 and 4010 to 4014.
//! ```
//!
//! What never happens here: an IDENTIFY without a permit, a 121st payload in 60 s, a close with 1000 or 1001
//! unless the session is to end. Obeys "Gateway" of Discord's developer documentation.

mod cause;
mod interface;
mod link;
mod options;
mod payload;
mod sending;
#[cfg(test)]
mod tests;
mod waiting;

pub use cause::{Cause, Fatal};
pub use interface::{Dispatch, DispatchKind, Input, LossReason, Output, Route, SessionLost, State, Stats};
pub use options::{Options, Timeouts};

use self::waiting::Waiting;
use super::close_code::CLOSE_RESUMABLE;
use super::command::{self, Command, Refusal};
use super::opcode::Opcode;
use super::ratelimit::Budget;
use super::session::Session;
use crate::base::Rng;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What a deadline is for. At most one of each stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Timer {
    /// Disconnected: the time to open a link.
    Backoff,
    /// Connecting: it took too long.
    Connect,
    /// AwaitingHello: it took too long.
    Hello,
    /// Identifying, Resuming: it took too long.
    Ready,
    /// AwaitingPermit, Resuming: the wait after INVALID SESSION is over.
    Renew,
    /// Closing: the peer does not answer.
    Close,
    /// A heartbeat is due.
    Heartbeat,
    /// There is room to send what waits.
    SendBudget,
}

impl Timer {
    const ALL: [Timer; 8] = [
        Timer::Backoff,
        Timer::Connect,
        Timer::Hello,
        Timer::Ready,
        Timer::Renew,
        Timer::Close,
        Timer::Heartbeat,
        Timer::SendBudget,
    ];
}

/// A heartbeat that waits to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum HeartbeatDue {
    No,
    Requested,
    Scheduled,
}

/// What belongs to one connection and dies with it.
#[derive(Debug)]
struct Link {
    budget: Budget,
    interval: Option<Duration>,
    heartbeat_due: HeartbeatDue,
    /// When the oldest heartbeat was sent that has no answer.
    unanswered_since: Option<Instant>,
    /// Whether a scheduled heartbeat was sent.
    heartbeat_sent: bool,
    /// Whether any payload came since.
    alive: bool,
    /// Whether the next zombie check is left out.
    excused: bool,
    identify_due: bool,
    resume_due: bool,
}

impl Link {
    fn new() -> Link {
        Link {
            budget: Budget::default(),
            interval: None,
            heartbeat_due: HeartbeatDue::No,
            unanswered_since: None,
            heartbeat_sent: false,
            alive: false,
            excused: false,
            identify_due: false,
            resume_due: false,
        }
    }

    fn reset(&mut self) {
        let mut budget = std::mem::take(&mut self.budget);
        budget.reset();
        *self = Link { budget, ..Link::new() };
    }
}

/// One shard.
#[derive(Debug)]
pub struct Shard {
    options: Arc<Options>,
    shard_id: u32,
    rng: Rng,
    now: Instant,
    state: State,
    timers: [Option<Instant>; Timer::ALL.len()],
    outputs: VecDeque<Output>,
    session: Option<Session>,
    link: Link,
    // Links lost since the shard last ran well.
    attempt: u32,
    // IDENTIFYs sent since the shard last ran well.
    identifies_unsettled: u32,
    // Links lost while resuming, without a new event among them.
    resumes_stuck: u32,
    resumes_stuck_at: u64,
    active_since: Option<Instant>,
    last_payload_at: Instant,
    read_paused: bool,
    // The permit that is asked for, or held while IDENTIFY waits for room.
    permit: Option<u64>,
    tickets: u32,
    // The permit of the IDENTIFY that is not answered.
    identify_ticket: Option<u64>,
    waiting: Waiting,
    // Discord closed over an opcode that it does not know: only those that this build knows are passed on.
    unknown_opcodes_refused: bool,
    closing: Option<Cause>,
    // Set by Stop: whether to end the session.
    stop: Option<bool>,
    latency: Option<Duration>,
    stats: Stats,
}

impl Shard {
    /// A shard that opens its first link at `start_at`. `session` is one of an earlier process, to be resumed.
    pub fn new(
        options: Arc<Options>,
        shard_id: u32,
        seed: u64,
        start_at: Instant,
        session: Option<Session>,
    ) -> Shard {
        let mut shard = Shard {
            rng: Rng::new(seed),
            shard_id,
            now: start_at,
            state: State::Disconnected { attempt: 0 },
            timers: [None; Timer::ALL.len()],
            outputs: VecDeque::new(),
            session,
            link: Link::new(),
            attempt: 0,
            identifies_unsettled: 0,
            resumes_stuck: 0,
            resumes_stuck_at: 0,
            active_since: None,
            last_payload_at: start_at,
            read_paused: false,
            permit: None,
            tickets: 0,
            identify_ticket: None,
            waiting: Waiting::new(),
            unknown_opcodes_refused: false,
            closing: None,
            stop: None,
            latency: None,
            stats: Stats::default(),
            options,
        };
        if shard.session.as_ref().is_some_and(|s| s.shard_count() != shard.options.shard_count) {
            shard.lose_session(LossReason::OtherShardCount);
        }
        shard.set(Timer::Backoff, Some(start_at));
        shard.check_invariants();
        shard
    }

    /// Tells the shard what happened.
    pub fn handle_input(&mut self, now: Instant, input: Input) {
        let now = self.advance(now);
        match input {
            Input::Opened => self.opened(now),
            Input::Permit { ticket } => {
                if self.permit == Some(ticket) && self.state == State::AwaitingPermit {
                    self.link.identify_due = true;
                    self.pump(now);
                }
            }
            Input::Command { id, json } => self.command(now, id, json),
            Input::PeerClosed { code } => self.peer_closed(now, code),
            Input::LinkLost { cause } => {
                if self.state.has_link() {
                    // A close that was under way has its reason already.
                    let cause = self.closing.unwrap_or(cause);
                    self.lose_link(now, cause, cause.recovery());
                }
            }
            Input::ReadPaused(paused) => self.read_paused(now, paused),
            Input::Confirmed { session, seq } => {
                if let Some(own) = self.session.as_mut().filter(|own| own.hash() == session) {
                    own.confirm(seq);
                }
            }
            Input::Renew => {
                if self.state == State::Active {
                    self.begin_close(now, CLOSE_RESUMABLE, Cause::Asked);
                }
            }
            Input::Stop { end_session } => self.stop(now, end_session),
        }
        self.check_invariants();
    }

    /// Tells the shard that a deadline may have passed.
    pub fn handle_deadline(&mut self, now: Instant) {
        let now = self.advance(now);
        for timer in Timer::ALL {
            let Some(due) = self.timer(timer).filter(|&due| due <= now) else { continue };
            self.set(timer, None);
            match timer {
                Timer::Backoff => self.open(now),
                Timer::Connect => {
                    self.lose_link(now, Cause::ConnectTimeout, Cause::ConnectTimeout.recovery())
                }
                Timer::Hello => self.step_timed_out(now, timer, Cause::HelloTimeout),
                Timer::Ready => self.step_timed_out(now, timer, Cause::ReadyTimeout),
                Timer::Renew => self.renew(now),
                Timer::Close => {
                    let cause = self.closing.unwrap_or(Cause::Ended);
                    self.lose_link(now, cause, cause.recovery());
                }
                Timer::Heartbeat => self.heartbeat_tick(now, due),
                Timer::SendBudget => self.pump(now),
            }
        }
        self.check_invariants();
    }

    /// The next thing to do, in order. Drain it after every call that tells the shard something.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Shard::handle_deadline`] is to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timers.iter().flatten().min().copied()
    }

    /// Appends a command of [`Output::Send`] as JSON to `out`.
    pub fn encode(&self, command: &Command, out: &mut Vec<u8>) {
        command::encode(command, &self.options, self.shard_id, self.session.as_ref(), out);
    }

    /// Its id.
    pub fn shard_id(&self) -> u32 {
        self.shard_id
    }

    /// Where it stands.
    pub fn state(&self) -> State {
        self.state
    }

    /// The session, if there is one; after [`Output::Stopped`] the one that can be handed over.
    pub fn session(&self) -> Option<&Session> {
        self.session.as_ref()
    }

    /// The ticket that it wants to identify with, waiting or granted, until the IDENTIFY goes out.
    pub fn permit(&self) -> Option<u64> {
        self.permit
    }

    /// What was counted.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// How long the answer to the last answered heartbeat took.
    pub fn latency(&self) -> Option<Duration> {
        self.latency
    }

    /// How many commands wait.
    pub fn commands_waiting(&self) -> usize {
        self.waiting.len()
    }

    // Time never runs backwards for the machine, whatever the caller says.
    fn advance(&mut self, now: Instant) -> Instant {
        self.now = self.now.max(now);
        self.now
    }

    fn timer(&self, timer: Timer) -> Option<Instant> {
        self.timers[timer as usize]
    }

    fn set(&mut self, timer: Timer, deadline: Option<Instant>) {
        self.timers[timer as usize] = deadline;
    }

    fn enter(&mut self, to: State, cause: Option<Cause>) {
        let from = std::mem::replace(&mut self.state, to);
        if from != to {
            self.outputs.push_back(Output::Changed { from, to, cause });
        }
    }

    fn command(&mut self, now: Instant, id: u64, json: Box<[u8]>) {
        let refusal = match command::check_worker_command(&json) {
            Err(refusal) => refusal,
            Ok(_) if self.state.is_final() || self.stop.is_some() => Refusal::Stopped,
            Ok(op) if self.unknown_opcodes_refused && Opcode::from_number(op).is_none() => {
                Refusal::UnknownOpcode { op }
            }
            Ok(op) => {
                let is_presence = op == Opcode::PresenceUpdate.number();
                match self.waiting.push(&self.options, id, json, is_presence) {
                    Ok(()) => return self.pump(now),
                    Err(_) => Refusal::Full,
                }
            }
        };
        self.refuse(id, refusal);
    }

    fn refuse(&mut self, id: u64, refusal: Refusal) {
        self.stats.commands_refused += 1;
        self.outputs.push_back(Output::CommandDone { id, result: Err(refusal) });
    }

    fn refuse_waiting(&mut self) {
        while let Some((id, _)) = self.waiting.pop(false).or_else(|| self.waiting.pop(true)) {
            self.refuse(id, Refusal::Stopped);
        }
    }

    fn read_paused(&mut self, now: Instant, paused: bool) {
        if std::mem::replace(&mut self.read_paused, paused) == paused || paused {
            return;
        }
        // What piled up is about to be read: one full interval and full timeouts before anything is judged.
        self.link.excused = true;
        for (timer, timeout) in
            [(Timer::Hello, self.options.timeouts.hello), (Timer::Ready, self.ready_timeout())]
        {
            if self.timer(timer).is_some() {
                self.set(timer, Some(now + timeout));
            }
        }
        if matches!(self.state, State::Disconnected { .. }) && self.timer(Timer::Backoff).is_none() {
            self.open(now);
        }
    }

    /// Panics in debug builds when the machine contradicts itself.
    fn check_invariants(&self) {
        if !cfg!(debug_assertions) {
            return;
        }
        let has = |timer| self.timer(timer).is_some();
        match self.state {
            State::Disconnected { .. } => assert!(has(Timer::Backoff) || self.read_paused),
            State::Connecting => assert!(has(Timer::Connect)),
            State::AwaitingHello => assert!(has(Timer::Hello)),
            State::AwaitingPermit => assert!(has(Timer::Renew) || self.permit.is_some()),
            State::Identifying => assert!(has(Timer::Ready)),
            State::Resuming => assert!(has(Timer::Ready) || has(Timer::Renew) || self.link.resume_due),
            State::Active => assert!(self.active_since.is_some()),
            State::Closing => assert!(has(Timer::Close)),
            State::Stopped | State::Fatal => {
                assert!(self.timers.iter().all(Option::is_none));
                assert_eq!(self.waiting.len(), 0);
            }
        }
        assert!(self.permit.is_none() || self.state == State::AwaitingPermit);
        assert!(!self.link.identify_due || self.permit.is_some());
        assert!(!matches!(self.state, State::Resuming | State::Active) || self.session.is_some());
        assert!(self.session.as_ref().is_none_or(|s| s.confirmed().is_none_or(|c| c <= s.received())));
        assert!(self.closing.is_none() || self.state == State::Closing);
        assert!(self.state.is_open() || !(has(Timer::Heartbeat) || has(Timer::SendBudget)));
        self.waiting.check_invariants(&self.options);
    }
}
