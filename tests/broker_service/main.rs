//! End to end: `rateway broker` as a process, used by clients that others wrote (pika, aio-pika, amqplib, lapin) and by
//! sockets that do what no such client would. And as a machine, against the gateway's own.
//!
//! Nothing is held against the clock: there is only the tests' patience.

#![allow(clippy::disallowed_methods, reason = "these tests wait for processes, in real time")]

#[path = "../support/mod.rs"]
mod support;

mod clients;
mod pair;
mod rude;
mod server;
mod service;
mod start;
