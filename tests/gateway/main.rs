//! End to end: the real binary between the stand-in for Discord and a real RabbitMQ, with a worker in Python.
//!
//! `make test` starts the broker and says where it is. Tests that stop or block the broker are in `broker_trouble.rs`,
//! a binary of its own, as they would disturb these.

#[path = "../support/mod.rs"]
mod support;

mod bad_input;
mod brokers;
mod cache;
mod commands;
mod embedded;
mod events;
mod examples;
mod outages;
mod queries;
mod refusals;
mod restarts;
mod shared_queue;
mod stops;
mod tls;
mod tools;
mod topology;
