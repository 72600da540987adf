//! The flow of events through one shard's task, from the socket's bytes to confirmed publishes, in memory: inflate,
//! envelope, shard machine, framing, outbox. Next to it only the inflating of the same bytes.

#[path = "support/feed.rs"]
mod feed;
#[path = "support/trace.rs"]
mod trace;

use divan::Bencher;
use divan::counter::ItemsCount;
use rateway::relay::Outbox;
use rateway::relay::task::Scratch;
use rateway::stream::inflate::{Decoder, Output};
use rateway::stream::{Compression, Limits};
use trace::Trace;

const EVENTS: u64 = 20_000;

fn main() {
    let trace = Trace::record(2000, Compression::Zlib);
    println!("a trace has {} bytes of JSON an event on average", trace.json_bytes / trace.count);
    divan::main();
}

#[divan::bench(args = ["none", "zlib", "zstd"], sample_count = 20)]
fn task(bencher: Bencher, compression: &str) {
    let trace = Trace::record(EVENTS, compression.parse().expect("a compression"));
    let start = trace::start_of_time();
    bencher
        .counter(ItemsCount::new(EVENTS))
        .with_inputs(|| {
            let mut scratch = Scratch::default();
            let turn = trace::turn(start, 0);
            (trace::connect(&trace, 0, 0, 0, turn, &mut scratch), scratch, Outbox::new(64 << 20))
        })
        .bench_local_values(|(mut task, mut scratch, mut outbox)| {
            let mut at = 0;
            while at < trace.events.len() {
                let turn = trace::turn(start, 1);
                at += feed::feed(&mut task, &trace.events[at..], turn, &mut scratch, &mut outbox);
            }
            assert_eq!(outbox.stats.confirmed, EVENTS);
            (task, scratch, outbox)
        });
}

#[divan::bench(args = ["zlib", "zstd"], sample_count = 20)]
fn inflate_only(bencher: Bencher, compression: &str) {
    let compression: Compression = compression.parse().expect("a compression");
    let trace = Trace::record(EVENTS, compression);
    let frames: Vec<Vec<u8>> =
        frames(&trace.hello).chain(frames(&trace.events)).map(<[u8]>::to_vec).collect();
    bencher.counter(ItemsCount::new(EVENTS)).bench_local(|| {
        let mut decoder = Decoder::new(compression).expect("memory");
        let mut output = Output::default();
        let mut bytes = 0;
        for frame in &frames {
            assert!(decoder.decode(frame, &Limits::default(), &mut output).expect("good bytes"));
            bytes += output.payload().len();
        }
        bytes
    });
}

/// The payloads of unmasked WebSocket frames.
fn frames(mut bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (head, length) = match *bytes.get(1)? {
            126 => (4, u64::from(u16::from_be_bytes(bytes[2..4].try_into().ok()?))),
            127 => (10, u64::from_be_bytes(bytes[2..10].try_into().ok()?)),
            length => (2, u64::from(length)),
        };
        let end = head + length as usize;
        let frame = &bytes[head..end];
        bytes = &bytes[end..];
        Some(frame)
    })
}
