//! What the stand-in has seen and done: everything that a test asserts on and a person reads.
//!
//! Lists are bounded, since a client could grow them for ever; past a bound the oldest stay and `overflow` counts.

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use super::{ConnectionId, SessionIndex};

/// Entries that a list of the ledger keeps: far above what a test makes, a few MiB at most.
pub const LEDGER_ENTRIES_MAX: usize = 65_536;
/// Client commands kept word for word for `GET /_sim/commands`.
pub const RECENT_COMMANDS_MAX: usize = 256;

/// One IDENTIFY as it arrived.
#[derive(Clone, Debug)]
pub struct Identify {
    /// When it arrived.
    pub at: Instant,
    /// On which connection.
    pub connection: ConnectionId,
    /// The shard that identified.
    pub shard_id: u32,
    /// Of how many.
    pub shard_count: u32,
    /// Its rate limit key: `shard_id % max_concurrency`.
    pub bucket: u32,
    /// Whether READY was the answer.
    pub accepted: bool,
}

/// What a client must never do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ViolationKind {
    /// IDENTIFY sooner than the bucket allows.
    IdentifyTooEarly {
        /// The bucket.
        bucket: u32,
        /// How much too soon.
        early_us: u64,
    },
    /// A payload beyond 120 in 60 s.
    TooManyPayloads,
    /// A payload above 4096 bytes.
    PayloadTooLarge {
        /// Its size.
        bytes: usize,
    },
    /// IDENTIFY although the daily budget is used up.
    SessionStartBeyondBudget,
    /// No heartbeat within the tolerance.
    HeartbeatMissing,
    /// A heartbeat whose `d` is above the last `s` of its session.
    HeartbeatSeqAhead {
        /// What the client sent.
        sent: u64,
        /// The session's last.
        last: u64,
    },
    /// Any other close by rule: the code and the reason.
    Closed {
        /// The close code.
        code: u16,
        /// Why.
        reason: &'static str,
    },
    /// More than five presence updates in 20 s.
    TooManyPresenceUpdates,
}

/// A [`ViolationKind`] and who did it when.
#[derive(Clone, Debug)]
pub struct Violation {
    /// When.
    pub at: Instant,
    /// On which connection.
    pub connection: ConnectionId,
    /// By which shard, when that is known.
    pub shard_id: Option<u32>,
    /// What.
    pub kind: ViolationKind,
}

/// One dispatch as it entered a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dispatch {
    /// The session, in order of their starts.
    pub session: SessionIndex,
    /// Its shard.
    pub shard_id: u32,
    /// `s`.
    pub seq: u64,
    /// `t`.
    pub event: Box<str>,
    /// [`hash`] of the bytes of `d`.
    pub d_hash: u64,
}

/// Hashes the bytes of a `d`, to compare what arrived somewhere with what [`Dispatch`] says was sent (FNV-1a).
pub fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |h, &b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3))
}

/// Why a session is no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionEnd {
    /// The client closed with 1000 or 1001.
    ClosedByClient,
    /// Too long without a connection.
    Expired,
    /// A fault or a rule invalidated it.
    Invalidated,
    /// RESUME asked for more than the replay buffer holds.
    Overrun,
}

/// The life of one session.
#[derive(Clone, Debug)]
pub struct SessionRecord {
    /// `session_id`.
    pub session_id: Box<str>,
    /// Its shard.
    pub shard_id: u32,
    /// Of how many.
    pub shard_count: u32,
    /// The last `s` given out: 1 to this were sent, without gaps.
    pub last_seq: u64,
    /// How often it was resumed.
    pub resumes: u64,
    /// Why it ended; `None` while it lives.
    pub end: Option<SessionEnd>,
}

/// A client command, without its secrets.
#[derive(Clone, Debug)]
pub struct Command {
    /// When it came.
    pub at: Instant,
    /// On which connection.
    pub connection: ConnectionId,
    /// By which shard, when known.
    pub shard_id: Option<u32>,
    /// `op`.
    pub op: u64,
    /// `d` as JSON; for IDENTIFY and RESUME without token and session id.
    pub d: String,
}

/// All counters and lists.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    /// Connections accepted.
    pub connections: u64,
    /// READYs sent.
    pub readies: u64,
    /// RESUMEs answered with RESUMED.
    pub resumes: u64,
    /// RESUMEs refused, by op 9 or close.
    pub resumes_refused: u64,
    /// Op 9 sent, for whatever cause.
    pub invalid_sessions: u64,
    /// Heartbeat acks sent.
    pub acks: u64,
    /// Dispatches that entered sessions, sent or buffered.
    pub dispatches: u64,
    /// Dispatches sent again after RESUME.
    pub replayed: u64,
    /// IDENTIFYs for a shard that had a session which RESUME would have continued.
    pub identifies_on_live_session: u64,
    /// Most payloads that any connection sent within 60 s.
    pub payloads_in_60_s_max: usize,
    /// Client payloads by op.
    pub commands: BTreeMap<u64, u64>,
    /// Closes by the stand-in, by code; `None` is a drop without a close frame.
    pub closes: BTreeMap<Option<u16>, u64>,
    /// Closes by clients, by code.
    pub client_closes: BTreeMap<Option<u16>, u64>,
    /// REST answers by status.
    pub rest: BTreeMap<u16, u64>,
    /// Every IDENTIFY.
    pub identifies: Vec<Identify>,
    /// Everything a client must not do.
    pub violations: Vec<Violation>,
    /// Every session ever started.
    pub sessions: BTreeMap<SessionIndex, SessionRecord>,
    /// Every dispatch, up to `Options::ledger_dispatches_max`.
    pub dispatch_log: Vec<Dispatch>,
    /// The last commands.
    pub recent: VecDeque<Command>,
    /// Entries that a full list did not take.
    pub overflow: u64,
}

impl Ledger {
    pub(super) fn violate(&mut self, violation: Violation) {
        if self.violations.len() < LEDGER_ENTRIES_MAX {
            self.violations.push(violation);
        } else {
            self.overflow += 1;
        }
    }

    pub(super) fn identify(&mut self, identify: Identify) {
        if self.identifies.len() < LEDGER_ENTRIES_MAX {
            self.identifies.push(identify);
        } else {
            self.overflow += 1;
        }
    }

    pub(super) fn command(&mut self, command: Command) {
        if self.recent.len() >= RECENT_COMMANDS_MAX {
            self.recent.pop_front();
        }
        self.recent.push_back(command);
    }

    /// Adds a session; when the list is full the oldest that has ended makes room.
    pub(super) fn session(&mut self, index: SessionIndex, record: SessionRecord) {
        if self.sessions.len() >= LEDGER_ENTRIES_MAX
            && let Some(old) = self.sessions.iter().find(|(_, s)| s.end.is_some()).map(|(&i, _)| i)
        {
            self.sessions.remove(&old);
            self.overflow += 1;
        }
        self.sessions.insert(index, record);
    }

    /// When `bucket` was asked for an identify, in order.
    pub fn identify_times(&self, bucket: u32) -> Vec<Instant> {
        self.identifies.iter().filter(|i| i.bucket == bucket).map(|i| i.at).collect()
    }

    /// The dispatches of one shard in the order in which they were made.
    pub fn dispatches_of(&self, shard_id: u32) -> impl Iterator<Item = &Dispatch> {
        self.dispatch_log.iter().filter(move |d| d.shard_id == shard_id)
    }
}
