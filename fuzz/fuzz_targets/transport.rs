#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| rateway_fuzz::transport::run(bytes));
