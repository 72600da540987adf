//! What the outbox holds, framed anew: anything else is refused, and marking twice is marking once.

/// One run.
pub fn run(bytes: &[u8]) {
    if let [high, low, rest @ ..] = bytes {
        rateway::amqp::fuzz::repeat(rest, u32::from(u16::from_be_bytes([*high, *low])) + 4096);
    }
}
