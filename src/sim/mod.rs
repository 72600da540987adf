//! A stand-in for Discord.
//!
//! [`Discord`] is a machine without IO: payloads of clients, REST requests and the time go in; payloads, closes and
//! a deadline come out. It follows Discord's rules (identify gate, sessions with replay, limits, close codes,
//! intents, sharding) and breaks them only when a [`Fault`] is injected. Equal inputs and an equal seed give equal
//! outputs. The [`Ledger`] says what clients did, so that a test can judge them.
//!
//! [`Server`] puts the machine behind real sockets (REST and WebSocket on one port, TLS, both transport
//! compressions), and [`run`] is the command `rateway sim`. Nothing here is used by the gateway itself.
//!
//! ```text
//! options   what it is like            world, events   guilds, members, generated dispatches
//! discord   connections, time          commands        what a client may send
//! session   numbered dispatches        faults          misbehaviour on demand
//! rest      /gateway, /gateway/bot     ledger          what was seen
//! ```
//!
//! Spec: Discord developer documentation, "Gateway", "Gateway Events", "Opcodes and Status Codes", "Rate Limits".

mod admin;
mod cli;
mod clock;
mod commands;
mod connection;
mod discord;
mod event_loop;
mod events;
mod faults;
mod ledger;
mod options;
mod recording;
mod rest;
mod sends;
mod server;
mod session;
mod world;

#[cfg(test)]
mod server_tests;
#[cfg(test)]
mod tests;

pub use cli::run;
pub use discord::{Discord, Output};
pub use faults::{Fault, FaultSpec, Target, When};
pub use ledger::{
    Command, Dispatch, Identify, Ledger, SessionEnd, SessionRecord, Violation, ViolationKind, hash,
};
pub use options::{INTENTS_ALL, INTENTS_PRIVILEGED, Options};
pub use recording::Compression;
pub use rest::Response;
pub use server::{Server, ServerOptions};

/// Names a connection; chosen by whoever accepts it.
pub type ConnectionId = u64;
/// Names a session, counted from 1 in the order of their starts.
pub type SessionIndex = u64;
