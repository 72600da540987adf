//! The files of a spool with any content.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| rateway::state::spool::fuzz::files(bytes));
