//! Discord's gateway protocol, version 10, as values without IO.
//!
//! A received payload (one JSON document) is cut by [`envelope`] into `op`, `s`, `t` and the span of `d`; the
//! [`Shard`] machine takes it, keeps session, heartbeats, limits and reconnects, and says what is to be done:
//! open a link, send a [`Command`], ask for an identify permit, close. [`command`] turns commands into JSON and
//! is the one place that spells the token out. [`close_code`] and [`Error::recovery`] are the two tables that
//! decide what follows a fault.
//!
//! What never happens here: reading a clock, a socket or a random source; parsing of event bodies other than
//! READY's; publishing.
//!
//! Obeys Discord's developer documentation: "Gateway", "Opcodes and status codes".

pub mod close_code;
pub mod command;
pub mod envelope;
pub mod error;
pub mod intents;
pub mod opcode;
pub mod ratelimit;
pub mod scan;
pub mod session;
pub mod shard;

pub use close_code::CloseCode;
pub use command::{Command, Refusal};
pub use envelope::{Envelope, EnvelopeError, Span, scan};
pub use error::{Error, Recovery};
pub use opcode::Opcode;
pub use session::Session;
pub use shard::{
    Cause, Dispatch, DispatchKind, Fatal, Input, LossReason, Options, Output, Route, SessionLost, Shard,
    State, Stats, Timeouts,
};
