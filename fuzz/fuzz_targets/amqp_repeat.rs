//! What the outbox holds, framed anew: anything else is refused, and marking twice is marking once.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let [high, low, rest @ ..] = bytes {
        rateway::amqp::fuzz::repeat(rest, u32::from(u16::from_be_bytes([*high, *low])) + 4096);
    }
});
