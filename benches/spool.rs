//! How fast a spool fills and drains: events of 770 octets of JSON as they go to the broker, in batches as a shard's task
//! makes them and in small ones, through files in a folder of the working directory's disk (or `--folder`).
//!
//! ```text
//! cargo bench --bench spool -- [--mib 1024] [--folder PATH]
//! ```
//!
//! CPU is that of the process, in user and system mode; wall time besides. The disk's own work happens later, in the system.

use std::path::PathBuf;
use std::time::Instant;

use rateway::amqp::{EventPublish, frame_event, publish};
use rateway::state::spool::{Block, Entry, Next, Options, Record, Spool};

const BODY_BYTES: usize = 770;
const FRAME_MAX: u32 = 131_072;
const BATCHES: [usize; 3] = [300, 16, 1];

fn main() {
    let mut mib = 1024;
    let mut folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--mib" => mib = arguments.next().and_then(|text| text.parse().ok()).expect("--mib NUMBER"),
            "--folder" => folder = arguments.next().expect("--folder PATH").into(),
            // `cargo bench` adds one of its own.
            _ => {}
        }
    }
    println!(
        "{:>8} {:>8} {:>10} {:>8} {:>8} {:>8} {:>8}",
        "batch", "what", "events", "M/s", "MB/s", "us wall", "us CPU"
    );
    for batch in BATCHES {
        run(&folder.join(format!("spool-{}", std::process::id())), mib << 20, batch);
    }
}

fn run(folder: &PathBuf, bytes_max: u64, batch: usize) {
    let _ = std::fs::remove_dir_all(folder);
    let options = Options { bytes_max, ..Options::default() };
    let (mut spool, _) = Spool::open(folder, options.clone()).expect("a folder");
    let (bytes, ends) = framed(batch);

    let start = Start::now();
    let (mut events, mut seq) = (0, 0);
    loop {
        let records = ends.iter().map(|&end| {
            seq += 1;
            Record { session: 7, seq, end }
        });
        let shard = (events / batch % 8) as u32;
        let entry = Entry { shard, frame_max: FRAME_MAX, maybe_published: false, records, bytes: &bytes };
        match spool.append(entry, publish::routing_key) {
            Ok(appended) => events += appended.records,
            Err(_) => break,
        }
    }
    start.tell(batch, "append", events, spool.bytes());
    let on_disk = spool.bytes();

    let start = Start::now();
    drop(spool);
    let (mut spool, recovered) = Spool::open(folder, options).expect("a folder");
    assert_eq!((recovered.records, recovered.notes.len()), (events as u64, 0));
    start.tell(batch, "open", events, on_disk);

    let start = Start::now();
    let mut block = Block::default();
    let mut drained = 0;
    let mut blocks = 0;
    while spool.next(&mut block).expect("a read") == Next::Block {
        drained += block.records.len();
        blocks += 1;
        // As often as a turn of the loop, which writes that many batches at once, hears from the broker.
        if blocks % 64 == 0 {
            spool.confirmed(block.end).expect("a write");
        }
    }
    spool.confirmed(block.end).expect("a write");
    start.tell(batch, "drain", drained, on_disk);
    assert_eq!(drained, events);
    assert!(spool.is_empty());
    drop(spool);
    let _ = std::fs::remove_dir_all(folder);
}

/// A batch's bytes, and where each publish ends.
fn framed(events: usize) -> (Vec<u8>, Vec<usize>) {
    let body = vec![b'x'; BODY_BYTES];
    let (mut bytes, mut ends) = (Vec::new(), Vec::new());
    for seq in 0..events as u64 {
        let event = EventPublish {
            exchange: b"rateway-1",
            routing_key: b"MESSAGE_CREATE",
            message_id: b"17-3f2a9c01-123456",
            timestamp_s: 1_767_225_600,
            shard_id: 17,
            seq,
            repeat: false,
            persistent: true,
            body: &body,
        };
        frame_event(&mut bytes, 1, FRAME_MAX, &event).expect("short names");
        ends.push(bytes.len());
    }
    (bytes, ends)
}

struct Start {
    wall: Instant,
    cpu_s: f64,
}

impl Start {
    #[allow(clippy::disallowed_methods)] // A bench measures time.
    fn now() -> Start {
        Start { wall: Instant::now(), cpu_s: cpu_s() }
    }

    fn tell(&self, batch: usize, what: &str, events: usize, bytes: u64) {
        let (wall_s, cpu_s) = (self.wall.elapsed().as_secs_f64(), cpu_s() - self.cpu_s);
        println!(
            "{batch:>8} {what:>8} {events:>10} {:>8.2} {:>8.0} {:>8.2} {:>8.2}",
            events as f64 / wall_s / 1e6,
            bytes as f64 / wall_s / 1e6,
            wall_s / events as f64 * 1e6,
            cpu_s / events as f64 * 1e6
        );
    }
}

/// CPU seconds of this process, from /proc: ticks of 10 ms.
fn cpu_s() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name, in brackets, may hold anything; utime and stime are the 12th and 13th fields behind it.
    let fields: Vec<f64> = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .map(|field| field.parse().unwrap_or(0.0))
        .collect();
    fields.get(11..13).map_or(0.0, |ticks| ticks.iter().sum::<f64>() / 100.0)
}
