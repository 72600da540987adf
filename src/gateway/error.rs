//! What a payload can be wrong in, and what follows: the table that ends every such fault.

use super::envelope::EnvelopeError;
use std::fmt;

/// What is done about a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recovery {
    /// Keep the session, connect again, RESUME.
    Resume,
    /// As [`Recovery::Resume`], but when it happens to a RESUME that is not yet answered, give the session up.
    ResumeOnce,
    /// Forget the session, connect again, IDENTIFY.
    Identify,
    /// Trying again would fail again: stop and say why.
    Stop,
}

/// A payload that breaks the protocol. The owner of the shard logs it and hands it back as
/// [`Input::LinkLost`](super::Input::LinkLost) with [`Cause::Payload`](super::Cause::Payload).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// No JSON object, or one without an integer `op`.
    Envelope,
    /// HELLO without a whole positive `heartbeat_interval`.
    Hello,
    /// HELLO asks for heartbeats more often than the send limit could carry.
    HelloInterval {
        /// The interval asked for.
        interval_ms: u64,
    },
    /// INVALID SESSION whose `d` is no bool.
    InvalidSession,
    /// READY that is no object, or lacks `session_id` or `resume_gateway_url`.
    Ready,
    /// The same in a session that lives.
    ReadyAgain,
}

impl Error {
    /// Every kind, for tests and metrics.
    pub const ALL: [Error; 6] = [
        Error::Envelope,
        Error::Hello,
        Error::HelloInterval { interval_ms: 0 },
        Error::InvalidSession,
        Error::Ready,
        Error::ReadyAgain,
    ];

    /// What to do. The stream behind a broken payload is not read on, so the link ends in every case.
    pub const fn recovery(self) -> Recovery {
        match self {
            // What was lost or garbled is sent again after RESUME.
            Error::Envelope
            | Error::Hello
            | Error::HelloInterval { .. }
            | Error::InvalidSession
            | Error::ReadyAgain => Recovery::Resume,
            // There is a session on Discord's side, but its id was not told: nothing to resume.
            Error::Ready => Recovery::Identify,
        }
    }

    /// A short name for metrics.
    pub const fn label(self) -> &'static str {
        match self {
            Error::Envelope => "envelope",
            Error::Hello => "hello",
            Error::HelloInterval { .. } => "hello_interval",
            Error::InvalidSession => "invalid_session",
            Error::Ready => "ready",
            Error::ReadyAgain => "ready_again",
        }
    }
}

impl From<EnvelopeError> for Error {
    fn from(_: EnvelopeError) -> Error {
        Error::Envelope
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Envelope => f.write_str("payload is no JSON object with an integer \"op\""),
            Error::Hello => f.write_str("HELLO has no whole positive heartbeat_interval"),
            Error::HelloInterval { interval_ms } => {
                write!(
                    f,
                    "HELLO asks for a heartbeat every {interval_ms} ms, more often than the send limit allows"
                )
            }
            Error::InvalidSession => f.write_str("INVALID SESSION whose \"d\" is neither true nor false"),
            Error::Ready => f.write_str("READY without session_id or resume_gateway_url"),
            Error::ReadyAgain => f.write_str("a second READY, without session_id or resume_gateway_url"),
        }
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_payload_never_stops_a_shard() {
        let table: Vec<_> = Error::ALL.iter().map(|error| (error.label(), error.recovery())).collect();
        assert_eq!(
            table,
            [
                ("envelope", Recovery::Resume),
                ("hello", Recovery::Resume),
                ("hello_interval", Recovery::Resume),
                ("invalid_session", Recovery::Resume),
                ("ready", Recovery::Identify),
                ("ready_again", Recovery::Resume),
            ]
        );
    }
}
