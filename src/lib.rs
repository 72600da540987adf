//! rateway holds the WebSocket shards of a Discord bot and hands every event to workers over AMQP 0-9-1.
//!
//! Data flows one way, and a module knows only those before it in this list:
//!
//! ```text
//! base                          windows, slots, timers, seeded randomness, secrets
//!   stream                      TLS, WebSocket, inflate: bytes of a socket <-> Discord payloads
//!   gateway                     envelope, commands, sessions, the shard machine
//!   amqp                        framing, connection machine, client role
//!   queue                       who may identify, and when
//!   cache                       entities in a fixed amount of memory
//!   reactor                     epoll, deadlines, threads, stealing; knows no Discord and no AMQP
//!   state                       what outlives the process, in files
//!     relay                     a shard's task and a cluster's outbox: where the siblings meet
//!       runtime                 sockets and threads: which machine lives where
//! sim                           a Discord stand-in, as a machine and as a server
//! config, http, logging         what the operator sets and reads; config knows whose values it parses
//! ```
//!
//! Everything above `reactor` that holds protocol state is a value without IO: it takes (now, input), yields
//! outputs and a deadline, and never reads a clock, a socket or a random source.

pub mod amqp;
pub mod base;
pub mod cache;
pub mod config;
pub mod gateway;
pub mod http;
pub mod logging;
pub mod queue;
pub mod reactor;
pub mod relay;
pub mod runtime;
pub mod sim;
pub mod state;
pub mod stream;
