//! A broker that says anything, in pieces whose size the first byte chooses.

use std::time::Instant;

/// One run.
pub fn run(bytes: &[u8]) {
    if let [piece, rest @ ..] = bytes {
        rateway::amqp::fuzz::client(Instant::now(), rest, usize::from(*piece));
    }
}
