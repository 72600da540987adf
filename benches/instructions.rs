//! A fixed amount of work by name, so that `contrib/instructions.sh` can count its instructions: unlike times they are
//! the same in every run, and a change that makes an event dearer shows at once.
//!
//!     cargo bench --bench instructions -- JOB TIMES
//!
//! Whoever counts takes the difference of two runs, which leaves out what comes before the work. Each time is
//! [`EVENTS`] events. Without arguments (under `cargo test`, say) nothing runs.

#[path = "support/feed.rs"]
mod feed;
#[allow(dead_code)]
#[path = "support/guilds.rs"]
mod guilds;
#[path = "support/trace.rs"]
mod trace;

use std::hint::black_box;

use guilds::{Guild, Sizes, Stream, payload};
use rateway::amqp::{EventPublish, frame_event};
use rateway::cache::{Applied, Cache, Holding, KindSet, Options, Scratch};
use rateway::gateway::envelope;
use rateway::relay::{Outbox, task};
use rateway::stream::Compression;
use trace::Trace;

/// How many events a job has each time.
const EVENTS: usize = 5000;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    let [job, times] = words.as_slice() else {
        println!("instructions: counted by contrib/instructions.sh only");
        return;
    };
    let times: usize = times.parse().expect("how many times");
    match job.as_str() {
        "envelope" => scan(times),
        "publish" => publish(times),
        "task-none" => task(times, Compression::None),
        "task-zlib" => task(times, Compression::Zlib),
        "task-zstd" => task(times, Compression::Zstd),
        "cache" => cache(times),
        _ => panic!("no job is called {job}"),
    }
}

/// The events of a generated bot, as a shard receives them.
fn stream(count: usize) -> (Vec<Guild>, Vec<(&'static str, String)>) {
    let guilds = || (0..10).map(|number| Guild::new(1, number, Sizes::of(200))).collect::<Vec<_>>();
    let events = Stream::new(1, guilds()).take(count);
    (guilds(), events.map(|(name, d)| (name, payload(name, 1, &d))).collect())
}

fn scan(times: usize) {
    let (_, events) = stream(EVENTS);
    for _ in 0..times {
        for (_, text) in &events {
            black_box(envelope::scan(black_box(text.as_bytes())).expect("a payload"));
        }
    }
}

fn publish(times: usize) {
    let body = vec![b'x'; 800];
    let event = EventPublish {
        exchange: b"rateway-1",
        routing_key: b"MESSAGE_CREATE",
        message_id: b"17-3f2a9c01-123456",
        timestamp_s: 1_767_225_600,
        shard_id: 17,
        seq: 123_456,
        repeat: false,
        persistent: true,
        body: &body,
    };
    let mut out = Vec::with_capacity(1 << 20);
    for _ in 0..times * EVENTS {
        if out.len() > 512 << 10 {
            out.clear();
        }
        frame_event(&mut out, 1, 131_072, black_box(&event)).expect("short names");
    }
}

/// From the socket's bytes to confirmed publishes.
fn task(times: usize, compression: Compression) {
    let trace = Trace::record(EVENTS as u64, compression);
    let start = trace::start_of_time();
    let mut scratch = task::Scratch::default();
    let mut outbox = Outbox::new(64 << 20);
    for _ in 0..times {
        let mut task = trace::connect(&trace, 0, 0, 0, trace::turn(start, 0), &mut scratch);
        let mut at = 0;
        while at < trace.events.len() {
            at +=
                feed::feed(&mut task, &trace.events[at..], trace::turn(start, 1), &mut scratch, &mut outbox);
        }
    }
    assert_eq!(outbox.stats.confirmed, (times * EVENTS) as u64);
}

/// The events of a bot, applied to a cache that has its guilds.
fn cache(times: usize) {
    // Later events follow from earlier ones, so each time has new ones, which are made before the work in both runs.
    const TIMES_MAX: usize = 3;
    let (guilds, events) = stream(TIMES_MAX * EVENTS);
    let options = Options {
        memory_bytes: 64 << 20,
        holding: Holding { kinds: KindSet::all(), message_cache_size: 0, members_are_told: true },
        shards: vec![0],
        shard_count: 1,
        seed: [5, 6],
    };
    let cache = Cache::new(options).expect("memory");
    let mut scratch = Scratch::default();
    let creates = guilds.iter().map(|guild| ("GUILD_CREATE", payload("GUILD_CREATE", 1, &guild.create())));
    for (name, text) in creates.chain(events.into_iter().take(times.min(TIMES_MAX) * EVENTS)) {
        let envelope = envelope::scan(text.as_bytes()).expect("a payload");
        let applied = cache.apply(0, name, envelope.d(text.as_bytes()), &mut scratch);
        assert_eq!(applied, Applied::Done, "{name}");
    }
}
