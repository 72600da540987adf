//! Why a link ends, and what ends a shard for good.

use crate::gateway::close_code::{self, CloseCode};
use crate::gateway::error::{Error, Recovery};
use std::fmt;
use std::io::ErrorKind;

/// Why a link ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Name lookup, TCP, TLS or the upgrade failed.
    ConnectFailed,
    /// They took too long.
    ConnectTimeout,
    /// No HELLO in time.
    HelloTimeout,
    /// No READY, or no RESUMED and no replay, in time.
    ReadyTimeout,
    /// The peer ended the connection without a close frame.
    Ended,
    /// The socket failed.
    Io(ErrorKind),
    /// TLS, WebSocket or compression broke: what follows cannot be read.
    Stream,
    /// A payload broke the protocol.
    Payload(Error),
    /// Nothing came back for a whole heartbeat interval.
    Zombie,
    /// Discord asked for a new connection (op 7).
    Reconnect,
    /// A close frame.
    PeerClosed {
        /// Its code.
        code: Option<u16>,
    },
    /// The owner asked to stop.
    Stop,
    /// The operator asked for a new connection.
    Asked,
}

impl Cause {
    /// How many kinds there are; [`Cause::index`] is below it.
    pub const COUNT: usize = 13;

    /// Names of the kinds by index, for metrics.
    pub const LABELS: [&'static str; Cause::COUNT] = [
        "connect_failed",
        "connect_timeout",
        "hello_timeout",
        "ready_timeout",
        "ended",
        "io",
        "stream",
        "payload",
        "zombie",
        "reconnect",
        "peer_closed",
        "stop",
        "asked",
    ];

    /// The number of its kind.
    pub const fn index(self) -> usize {
        match self {
            Cause::ConnectFailed => 0,
            Cause::ConnectTimeout => 1,
            Cause::HelloTimeout => 2,
            Cause::ReadyTimeout => 3,
            Cause::Ended => 4,
            Cause::Io(_) => 5,
            Cause::Stream => 6,
            Cause::Payload(_) => 7,
            Cause::Zombie => 8,
            Cause::Reconnect => 9,
            Cause::PeerClosed { .. } => 10,
            Cause::Stop => 11,
            Cause::Asked => 12,
        }
    }

    /// What it means for the session.
    pub fn recovery(self) -> Recovery {
        match self {
            Cause::PeerClosed { code } => close_code::recovery(code),
            Cause::Payload(error) => error.recovery(),
            Cause::ConnectFailed
            | Cause::ConnectTimeout
            | Cause::HelloTimeout
            | Cause::ReadyTimeout
            | Cause::Ended
            | Cause::Io(_)
            | Cause::Stream
            | Cause::Zombie
            | Cause::Reconnect
            | Cause::Stop
            | Cause::Asked => Recovery::Resume,
        }
    }

    /// Whether a shard that ran well so far connects again without delay. Not after what this side may have
    /// caused, and not after bytes that may come again.
    pub(super) fn is_prompt(self) -> bool {
        match self {
            Cause::Ended | Cause::Io(_) | Cause::Zombie | Cause::Reconnect | Cause::Stop | Cause::Asked => {
                true
            }
            Cause::PeerClosed { code } => {
                !code.and_then(CloseCode::from_number).is_some_and(CloseCode::is_our_fault)
            }
            Cause::ConnectFailed
            | Cause::ConnectTimeout
            | Cause::HelloTimeout
            | Cause::ReadyTimeout
            | Cause::Stream
            | Cause::Payload(_) => false,
        }
    }

    /// Whether the link may still carry a close frame: this side ends it, not the peer or the network.
    pub(super) fn may_send_close(self) -> bool {
        match self {
            Cause::HelloTimeout | Cause::ReadyTimeout | Cause::Stream | Cause::Payload(_) | Cause::Zombie => {
                true
            }
            Cause::ConnectFailed
            | Cause::ConnectTimeout
            | Cause::Ended
            | Cause::Io(_)
            | Cause::Reconnect
            | Cause::PeerClosed { .. }
            | Cause::Stop
            | Cause::Asked => false,
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::ConnectFailed => f.write_str("connecting failed"),
            Cause::ConnectTimeout => f.write_str("connecting took too long"),
            Cause::HelloTimeout => f.write_str("Discord sent no HELLO in time"),
            Cause::ReadyTimeout => f.write_str("Discord sent neither READY nor RESUMED in time"),
            Cause::Ended => f.write_str("the connection ended without a close frame"),
            Cause::Io(kind) => write!(f, "the connection failed: {kind}"),
            Cause::Stream => f.write_str("the received bytes cannot be decoded"),
            Cause::Payload(error) => write!(f, "{error}"),
            Cause::Zombie => f.write_str("nothing came back for a whole heartbeat interval"),
            Cause::Reconnect => f.write_str("Discord asked for a new connection (op 7)"),
            Cause::PeerClosed { code: None } => f.write_str("Discord closed without a code"),
            Cause::PeerClosed { code: Some(code) } => match CloseCode::from_number(*code) {
                Some(code) => f.write_str(code.advice()),
                None => write!(f, "Discord closed with code {code}"),
            },
            Cause::Stop => f.write_str("stopping"),
            Cause::Asked => f.write_str("a new connection was asked for on the status page's port"),
        }
    }
}

/// What ends a shard for good. Its text says what happened and what to change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fatal {
    /// The close code that Discord sent.
    pub code: CloseCode,
}

impl fmt::Display for Fatal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code.advice())
    }
}

impl std::error::Error for Fatal {}
