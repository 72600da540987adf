//! rateway holds the WebSocket shards of a Discord bot and hands every event to workers over AMQP 0-9-1.
//!
//! Data flows one way, and a module knows only those before it in this list:
//!
//! ```text
//! base                          windows, slots, timers, seeded randomness, secrets
//!   stream                      TLS, WebSocket, inflate: bytes of a socket <-> Discord payloads
//!   gateway                     envelope, commands, sessions, the shard machine
//!   amqp                        framing, connection machine, client role
//!   broker                      the server role: an AMQP broker in memory
//!   queue                       who may identify, and when
//!   cache                       entities in a fixed amount of memory
//!   reactor                     epoll, deadlines, threads, stealing; knows no Discord and no AMQP
//!   state                       what outlives the process, in files
//!   status                      a page, metrics and health, on a thread of its own
//!     relay                     a shard's task and a cluster's outbox: where the siblings meet
//!       runtime                 sockets and threads: which machine lives where
//! service                       the identify queue for other programs, over HTTP
//! broker_server                 the broker on sockets, for `rateway broker` and for other threads
//! tools                         tap, cache, send: a worker's side, for people at a shell
//! sim                           a Discord stand-in, as a machine and as a server
//! config, http, logging         what the operator sets and reads; config knows whose values it parses
//! ```
//!
//! Everything above `reactor` that holds protocol state is a value without IO: it takes (now, input), yields
//! outputs and a deadline, and never reads a clock, a socket or a random source.
//!
//! Everything but [`base`] and [`queue`] is behind the feature `program`, which is on by default. A bot that only wants
//! the identify queue takes rateway with `default-features = false`.

pub mod base;
pub mod queue;

#[cfg(feature = "program")]
pub mod amqp;
#[cfg(feature = "program")]
pub mod broker;
#[cfg(feature = "program")]
pub mod broker_server;
#[cfg(feature = "program")]
pub mod cache;
#[cfg(feature = "program")]
pub mod config;
#[cfg(feature = "program")]
pub mod demo;
#[cfg(feature = "program")]
pub mod gateway;
#[cfg(feature = "program")]
pub mod http;
#[cfg(feature = "program")]
pub mod logging;
#[cfg(feature = "program")]
pub mod publisher;
#[cfg(feature = "program")]
pub mod reactor;
#[cfg(feature = "program")]
pub mod relay;
#[cfg(feature = "program")]
pub mod runtime;
#[cfg(feature = "program")]
pub mod service;
#[cfg(feature = "program")]
pub mod sim;
#[cfg(feature = "program")]
pub mod state;
#[cfg(feature = "program")]
pub mod status;
#[cfg(feature = "program")]
pub mod stream;
#[cfg(feature = "program")]
pub mod tools;
