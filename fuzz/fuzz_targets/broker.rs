//! Bytes of several clients, in pieces and turns, to the embedded broker.
#![no_main]

use std::time::Instant;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| rateway::broker::fuzz::bytes(Instant::now(), bytes));
