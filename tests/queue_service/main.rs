//! End to end: `rateway queue` as a process, asked by clients that others wrote (curl, Python, ureq, wrk) and by sockets
//! that send what no such client would.
//!
//! Time is only ever held against one bound: that nothing comes earlier than Discord allows. [`shard::Seen`] is made so
//! that a busy machine cannot break that bound. For everything else there is the tests' patience.

#![allow(clippy::disallowed_methods, reason = "these tests measure what a client sees, in real time")]

#[path = "../support/mod.rs"]
mod support;

mod prometheus;
mod service;
mod shard;

mod admin;
mod answers;
mod bad_input;
mod discord;
mod feedback;
mod keep_alive;
mod keys;
mod leaving;
mod load;
mod order;
mod start;
mod state;
mod stop;
