//! Well-formed methods of several clients, in any order, to the embedded broker.
#![no_main]

use std::time::Instant;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| rateway::broker::fuzz::operations(Instant::now(), bytes));
