//! Bytes of several clients, in pieces and turns, to the embedded broker.

use std::time::Instant;

/// One run.
pub fn run(bytes: &[u8]) {
    rateway::broker::fuzz::bytes(Instant::now(), bytes);
}
