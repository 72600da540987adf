//! A broker that says anything, in pieces whose size the first byte chooses, to the machine of the tools.

use std::time::Instant;

/// One run.
pub fn run(bytes: &[u8]) {
    if let [piece, rest @ ..] = bytes {
        rateway::amqp::fuzz::worker(Instant::now(), rest, usize::from(*piece));
    }
}
