//! End to end: the real binary between the stand-in for Discord and a real RabbitMQ, with a worker in Python.
//!
//! `make test` starts the broker and says where it is. Tests that stop or block the broker are in `broker_trouble.rs`,
//! a binary of its own, as they would disturb these.

#[path = "../queue_service/prometheus.rs"]
#[allow(dead_code, reason = "made for the queue, used here in part")]
mod prometheus;
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
mod status;
mod status_page;
mod stops;
mod tls;
mod tools;
mod topology;
