//! What one event costs between the envelope and the socket: framing, and framing again after a fault; and what a
//! broker's confirms cost on their way in.
//!
//! The bodies are as long as Discord's: a typing start, a message, a large guild. A hash of the framed bytes is
//! printed first, so that two runs are known to have measured the same work.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::hint::black_box;

use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use rateway::amqp::{EventPublish, event_len, frame::Cut, frame::cut, frame_event, reframe};

const FRAME_MAX: u32 = 131_072;
const BODIES: [usize; 4] = [0, 200, 1_500, 400_000];
/// As many events as one turn of the loop may gather.
const EVENTS: usize = 64;

fn main() {
    let mut hasher = DefaultHasher::new();
    for size in BODIES {
        framed(size).hash(&mut hasher);
    }
    println!("framed bytes hash to {:016x}", hasher.finish());
    divan::main();
}

fn event(body: &[u8]) -> EventPublish<'_> {
    EventPublish {
        exchange: b"rateway-1",
        routing_key: b"MESSAGE_CREATE",
        message_id: b"17-3f2a9c01-123456",
        timestamp_s: 1_767_225_600,
        shard_id: 17,
        seq: 123_456,
        repeat: false,
        persistent: true,
        body,
    }
}

fn framed(size: usize) -> Vec<u8> {
    let body = vec![b'x'; size];
    let mut out = Vec::new();
    for _ in 0..EVENTS {
        frame_event(&mut out, 1, FRAME_MAX, &event(&body)).expect("short names");
    }
    out
}

/// Frames a turn's events into a buffer that has the room, as the relay does.
#[divan::bench(args = BODIES)]
fn publish(bencher: Bencher, size: usize) {
    let body = vec![b'x'; size];
    let mut out = Vec::with_capacity(EVENTS * event_len(FRAME_MAX, &event(&body)));
    bencher.counter(ItemsCount::new(EVENTS)).counter(BytesCount::new(EVENTS * size)).bench_local(|| {
        out.clear();
        for _ in 0..EVENTS {
            frame_event(&mut out, 1, FRAME_MAX, black_box(&event(&body))).expect("short names");
        }
        out.len()
    });
}

/// The floor for [`publish`]: copying as many bytes.
#[divan::bench(args = BODIES)]
fn copy_only(bencher: Bencher, size: usize) {
    let one = vec![b'x'; event_len(FRAME_MAX, &event(&vec![b'x'; size]))];
    let mut out = Vec::with_capacity(EVENTS * one.len());
    bencher.counter(ItemsCount::new(EVENTS)).counter(BytesCount::new(EVENTS * size)).bench_local(|| {
        out.clear();
        for _ in 0..EVENTS {
            out.extend_from_slice(black_box(&one));
        }
        out.len()
    });
}

/// Marks a turn's events as repeats.
#[divan::bench(args = BODIES)]
fn repeat(bencher: Bencher, size: usize) {
    let events = framed(size);
    let mut out = Vec::with_capacity(events.len() * 2);
    bencher.counter(ItemsCount::new(EVENTS)).bench_local(|| {
        out.clear();
        reframe(black_box(&events), FRAME_MAX, true, &mut out).expect("whole publishes")
    });
}

/// Cuts a window of confirms into frames.
#[divan::bench]
fn cut_confirms(bencher: Bencher) {
    let ack = [1, 0, 1, 0, 0, 0, 13, 0, 60, 0, 80, 0, 0, 0, 0, 0, 0, 0, 9, 1, 0xCE];
    let window = ack.repeat(EVENTS);
    bencher.counter(ItemsCount::new(EVENTS)).bench_local(|| {
        let mut rest = black_box(window.as_slice());
        let mut octets = 0;
        while let Ok(Cut::Frame(frame)) = cut(rest, FRAME_MAX) {
            octets += frame.payload.len();
            rest = &rest[frame.wire_len()..];
        }
        octets
    });
}
