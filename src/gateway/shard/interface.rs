//! What enters and leaves a shard, and what it counts.

use super::cause::{Cause, Fatal};
use crate::gateway::command::{Command, Refusal};
use std::fmt;
use std::time::Instant;

/// Where a shard stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// No link; waits for its time to open one.
    Disconnected {
        /// Links lost since the shard last ran well.
        attempt: u32,
    },
    /// A link is being opened.
    Connecting,
    /// The link is open; HELLO has not come.
    AwaitingHello,
    /// No session; waits for its turn to identify.
    AwaitingPermit,
    /// IDENTIFY is sent.
    Identifying,
    /// RESUME is sent, or waits to be sent again.
    Resuming,
    /// Events flow, commands are sent.
    Active,
    /// A close frame is sent; what still arrives is taken.
    Closing,
    /// Stopped by its owner.
    Stopped,
    /// Ended by Discord for good.
    Fatal,
}

impl State {
    /// A short name for logs and metrics.
    pub const fn label(self) -> &'static str {
        match self {
            State::Disconnected { .. } => "disconnected",
            State::Connecting => "connecting",
            State::AwaitingHello => "awaiting_hello",
            State::AwaitingPermit => "awaiting_permit",
            State::Identifying => "identifying",
            State::Resuming => "resuming",
            State::Active => "active",
            State::Closing => "closing",
            State::Stopped => "stopped",
            State::Fatal => "fatal",
        }
    }

    /// Whether payloads can be sent.
    pub const fn is_open(self) -> bool {
        matches!(
            self,
            State::AwaitingHello
                | State::AwaitingPermit
                | State::Identifying
                | State::Resuming
                | State::Active
        )
    }

    /// Whether what is read now may have to be published: not before a session was asked for, but also while a
    /// close waits for its answer. While there is no room for events the owner of the link reads nothing in these
    /// states, and goes on reading in the others.
    pub const fn brings_events(self) -> bool {
        matches!(self, State::Identifying | State::Resuming | State::Active | State::Closing)
    }

    /// Whether the owner has a link, open or being opened.
    pub const fn has_link(self) -> bool {
        self.is_open() || matches!(self, State::Connecting | State::Closing)
    }

    /// Whether nothing more will come.
    pub const fn is_final(self) -> bool {
        matches!(self, State::Stopped | State::Fatal)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

/// What a shard is told. What concerns a link is about the one that the last [`Output::Open`] asked for; after
/// [`Output::DropLink`] nothing more is told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// The link is open: the WebSocket upgrade succeeded.
    Opened,
    /// The identify queue lets this shard identify.
    Permit {
        /// From [`Output::WantPermit`]; a permit for another ticket is ignored.
        ticket: u64,
    },
    /// A worker's command. Answered by exactly one [`Output::CommandDone`].
    Command {
        /// The owner's name for it.
        id: u64,
        /// The payload.
        json: Box<[u8]>,
    },
    /// The peer sent a close frame, or answered ours.
    PeerClosed {
        /// Its code.
        code: Option<u16>,
    },
    /// The link ended, or cannot be read on.
    LinkLost {
        /// Why.
        cause: Cause,
    },
    /// Whether reading is paused because there is no room for more events. Stands until it is taken back, over
    /// reconnects too: while it stands, no link is opened, no timeout runs but that of connecting, the zombie
    /// rule rests, and heartbeats go on.
    ReadPaused(bool),
    /// The broker has everything of a session up to a seq.
    Confirmed {
        /// [`Dispatch::session_hash`].
        session: u64,
        /// The highest such seq.
        seq: u64,
    },
    /// Resume on a new link. A shard that is not active is on its way to one already, and does nothing.
    Renew,
    /// Close and come to rest.
    Stop {
        /// Whether Discord shall forget the session (the bot goes offline at once) or keep it for a while.
        end_session: bool,
    },
}

/// What a shard asks for or reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Open a link. Each is followed by one [`Output::DropLink`] in the end, before the next.
    Open {
        /// Where.
        url: String,
    },
    /// Send a payload as a text frame; see [`Shard::encode`](super::Shard::encode).
    Send(Command),
    /// Ask the identify queue for a permit.
    WantPermit {
        /// Names the request: shard id in the upper half, a running number in the lower.
        ticket: u64,
    },
    /// The permit is not needed any more, granted or not. Costs no session start.
    CancelPermit {
        /// From [`Output::WantPermit`].
        ticket: u64,
    },
    /// IDENTIFY was handed out to be sent; the slot is used.
    PermitUsed {
        /// From [`Output::WantPermit`].
        ticket: u64,
    },
    /// Discord answered that IDENTIFY, so it has certainly arrived.
    PermitAnswered {
        /// From [`Output::WantPermit`].
        ticket: u64,
    },
    /// Send a close frame and read on.
    Close {
        /// Its code.
        code: u16,
    },
    /// Flush what can be flushed without waiting, then drop the link, if there still is one.
    DropLink,
    /// The state changed.
    Changed {
        /// Before.
        from: State,
        /// After.
        to: State,
        /// What ended the link, where one ended.
        cause: Option<Cause>,
    },
    /// A command was handed out to be sent, or will never be.
    CommandDone {
        /// From [`Input::Command`].
        id: u64,
        /// Why not.
        result: Result<(), Refusal>,
    },
    /// A session is gone; what Discord held for it is lost.
    SessionLost(SessionLost),
    /// Nothing more will come of this shard, and its owner should not start another like it.
    Fatal(Fatal),
    /// The shard came to rest as asked.
    Stopped,
}

/// The gap that a lost session leaves: events after `received` up to the READY of the next session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionLost {
    /// Which session.
    pub session_hash: u64,
    /// The highest seq that arrived. Events up to it are in the owner's hands.
    pub received: u64,
    /// The highest seq that the broker has confirmed.
    pub confirmed: Option<u64>,
    /// When the last payload of it came.
    pub since: Instant,
    /// Why.
    pub reason: LossReason,
}

/// Why a session is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LossReason {
    /// Discord said so (op 9).
    Invalidated,
    /// Discord closed with a code that ends it.
    Closed(u16),
    /// RESUME failed too often without any progress.
    ResumeFailed,
    /// Discord sent READY for another one.
    Replaced,
    /// It was started with another shard count.
    OtherShardCount,
}

impl fmt::Display for LossReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LossReason::Invalidated => f.write_str("Discord invalidated the session"),
            LossReason::Closed(code) => write!(f, "Discord closed with code {code}"),
            LossReason::ResumeFailed => f.write_str("resuming failed too often"),
            LossReason::Replaced => f.write_str("Discord started another session"),
            LossReason::OtherShardCount => f.write_str("the session was started with another shard count"),
        }
    }
}

/// What to do with a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// Publish it.
    Dispatch(Dispatch),
    /// The shard dealt with it.
    Control,
    /// Nothing: unknown, or of no session.
    Ignored,
}

/// What a shard knows of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dispatch {
    /// Its sequence number.
    pub seq: Option<u64>,
    /// The session that it belongs to, see [`session_hash`](crate::gateway::session::session_hash).
    pub session_hash: u64,
    /// Whether it means something to the shard.
    pub kind: DispatchKind,
    /// Whether it was routed before: a replay after RESUME of what the outbox still holds or the broker has, or a
    /// duplicate.
    pub seen: bool,
    /// Whether an earlier process may have published it.
    pub repeat: bool,
}

/// Whether an event means something to the shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DispatchKind {
    /// READY: see [`redact_ready`](crate::gateway::session::redact_ready).
    Ready,
    /// RESUMED.
    Resumed,
    /// Any other.
    Other,
}

/// What a shard counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Links asked for.
    pub connects: u64,
    /// Links that ended, by [`Cause::index`].
    pub links_lost: [u64; Cause::COUNT],
    /// Heartbeats sent.
    pub heartbeats: u64,
    /// Of these, those that Discord asked for.
    pub heartbeats_requested: u64,
    /// IDENTIFYs sent.
    pub identifies: u64,
    /// READYs received.
    pub readies: u64,
    /// RESUMEs sent.
    pub resumes: u64,
    /// RESUMEDs received in answer.
    pub resumes_succeeded: u64,
    /// RESUMEs that ended otherwise.
    pub resumes_failed: u64,
    /// INVALID SESSIONs received.
    pub sessions_invalidated: u64,
    /// Sessions given up or taken away.
    pub sessions_lost: u64,
    /// Events routed.
    pub dispatches: u64,
    /// Of these, those that had been routed before.
    pub dispatches_seen: u64,
    /// Times that a seq was skipped.
    pub seq_jumps: u64,
    /// Payloads that were ignored.
    pub payloads_ignored: u64,
    /// Payloads that broke the protocol.
    pub payloads_broken: u64,
    /// Commands sent.
    pub commands_sent: u64,
    /// Commands refused.
    pub commands_refused: u64,
}
