//! The bodies of the fuzz targets: each takes any bytes and has to return; what must hold besides is asserted there.
//!
//! No file here knows libFuzzer, so that `tests/fuzz_inputs.rs` of the crate runs the same bodies over the inputs that are
//! kept.
#![allow(clippy::disallowed_methods)] // A starting point for arithmetic; nothing depends on its value.

pub mod amqp_client;
pub mod amqp_codec;
pub mod amqp_pair;
pub mod amqp_repeat;
pub mod amqp_worker;
pub mod broker;
pub mod broker_operations;
pub mod cache;
pub mod cache_file;
pub mod configuration;
pub mod envelope;
pub mod http_request;
pub mod inflate;
pub mod input;
pub mod query;
pub mod queue;
pub mod queue_answer;
pub mod requests;
pub mod routing_pattern;
pub mod shard;
pub mod spool_segment;
pub mod state_records;
pub mod transport;
pub mod websocket;
pub mod worker_message;

/// A target's name, which its folders of inputs have too, and its body.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: [Target; 24] = [
    ("amqp_client", amqp_client::run),
    ("amqp_codec", amqp_codec::run),
    ("amqp_pair", amqp_pair::run),
    ("amqp_repeat", amqp_repeat::run),
    ("amqp_worker", amqp_worker::run),
    ("broker", broker::run),
    ("broker_operations", broker_operations::run),
    ("cache", cache::run),
    ("cache_file", cache_file::run),
    ("configuration", configuration::run),
    ("envelope", envelope::run),
    ("http_request", http_request::run),
    ("inflate", inflate::run),
    ("query", query::run),
    ("queue", queue::run),
    ("queue_answer", queue_answer::run),
    ("requests", requests::run),
    ("routing_pattern", routing_pattern::run),
    ("shard", shard::run),
    ("spool_segment", spool_segment::run),
    ("state_records", state_records::run),
    ("transport", transport::run),
    ("websocket", websocket::run),
    ("worker_message", worker_message::run),
];
