//! A broker that says anything, in pieces whose size the first byte chooses.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::time::Instant;

fuzz_target!(|bytes: &[u8]| {
    if let [piece, rest @ ..] = bytes {
        rateway::amqp::fuzz::client(Instant::now(), rest, usize::from(*piece));
    }
});
