//! Frames, methods and content headers next to amq-protocol: what is read, in both roles, and what is written.

use rateway::amqp::EventPublish;

use super::input::Input;

/// One run. The first byte says which role; an event to be framed is of fields with their lengths in front.
pub fn run(bytes: &[u8]) {
    let mut input = Input(bytes);
    let (what, frame_max) = (input.byte(), 4096 + input.short() as u32);
    match what % 3 {
        0 => rateway::amqp::fuzz::codec(input.0, frame_max),
        1 => rateway::broker::fuzz::codec(input.0, frame_max),
        _ => {
            let frame_max_later = 4096 + input.short() as u32;
            let number =
                |input: &mut Input<'_>| input.take(8).iter().fold(0, |n, byte| n << 8 | u64::from(*byte));
            let event = EventPublish {
                exchange: input.text(),
                routing_key: input.text(),
                message_id: input.text(),
                timestamp_s: number(&mut input),
                shard_id: number(&mut input) as u32,
                seq: number(&mut input),
                repeat: what & 16 != 0,
                persistent: what & 32 != 0,
                body: input.0,
            };
            rateway::amqp::fuzz::publish(&event, frame_max, frame_max_later);
        }
    }
}
