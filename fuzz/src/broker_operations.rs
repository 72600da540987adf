//! Well-formed methods of several clients, in any order, to the embedded broker.

use std::time::Instant;

/// One run.
pub fn run(bytes: &[u8]) {
    rateway::broker::fuzz::operations(Instant::now(), bytes);
}
