//! A publisher against a broker that comes and goes, a disk that fails and fills up, and processes that end between any
//! two calls and within a write. RATEWAY_SEED runs one seed again, RATEWAY_SEEDS says how many there are.
#![allow(clippy::disallowed_methods)] // A starting point for arithmetic; nothing depends on its value.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use amq_protocol::frame::{AMQPFrame, parse_frame};
use amq_protocol::protocol::{AMQPClass, basic};
use amq_protocol::types::AMQPValue;

use super::{Link, Options, Publisher};
use crate::amqp::publish::{EventPublish, frame_event};
use crate::base::Rng;
use crate::reactor::Turn;
use crate::relay::outbox::Record;
use crate::relay::{Batch, Progress};
use crate::state::spool::tests::sim::Sim;
use crate::state::spool::{self, Note, Spool};

const SEEDS: u64 = 1500;
const SHARDS: u32 = 3;
const FIRST_SHARD: u32 = 5;
const FIRST_SLOT: u32 = 2;
const FRAME_MAX: u32 = 4096;

/// What the broker has, over all its lives and all processes.
#[derive(Default)]
struct Broker {
    stream: Vec<u8>,
    key: String,
    open: Option<Message>,
    tag: u64,
    unconfirmed: VecDeque<u64>,
    log: Vec<Message>,
}

#[derive(Clone, Debug)]
struct Message {
    key: String,
    shard: u32,
    seq: u64,
    repeat: bool,
    left: u64,
}

impl Broker {
    fn disconnect(&mut self) {
        self.stream.clear();
        self.open = None;
        self.tag = 0;
        self.unconfirmed.clear();
    }

    fn read(&mut self, bytes: &[u8]) {
        self.stream.extend_from_slice(bytes);
        let stream = std::mem::take(&mut self.stream);
        let mut rest = &stream[..];
        while let Ok((after, frame)) = parse_frame(rest) {
            rest = after;
            match frame {
                AMQPFrame::Method(1, AMQPClass::Basic(basic::AMQPMethod::Publish(publish))) => {
                    self.key = publish.routing_key.to_string();
                }
                AMQPFrame::Header(1, header) => {
                    let headers = header.properties.headers().as_ref().expect("headers").inner();
                    let number = |name: &str| match headers.get(name) {
                        Some(AMQPValue::LongLongInt(value)) => *value as u64,
                        Some(AMQPValue::LongInt(value)) => *value as u64,
                        other => panic!("header {name} is {other:?}"),
                    };
                    self.open = Some(Message {
                        key: self.key.clone(),
                        shard: number("shard_id") as u32,
                        seq: number("seq"),
                        repeat: headers.get("repeat") == Some(&AMQPValue::Boolean(true)),
                        left: header.body_size,
                    });
                }
                AMQPFrame::Body(1, body) => {
                    self.open.as_mut().expect("a body within a message").left -= body.len() as u64;
                }
                other => panic!("unexpected {other:?}"),
            }
            if let Some(message) = self.open.take_if(|message| message.left == 0) {
                self.tag += 1;
                self.unconfirmed.push_back(self.tag);
                self.log.push(message);
            }
        }
        self.stream = rest.to_vec();
    }
}

/// What Discord and the session file know of a shard.
#[derive(Clone, Debug, Default)]
struct Shard {
    /// The last seq that Discord sent, to any process.
    sent: u64,
    /// Where this process goes on; below `sent` Discord replays.
    next: u64,
    /// The last seq that counts as safe in this process, and that the broker is known to have confirmed.
    safe: u64,
    confirmed: u64,
    /// What the file may say instead: it lags.
    file: u64,
}

struct World {
    rng: Rng,
    sim: Sim,
    broker: Broker,
    shards: Vec<Shard>,
    publisher: Publisher<Sim>,
    options: spool::Options,
    now: Instant,
    paused: bool,
    up: bool,
    /// Disk errors may leave a repeat without its mark.
    marks_hold: bool,
    hidden: bool,
    shed: u64,
    crashes: u64,
    overflows: u64,
}

fn publisher(outbox_bytes_max: usize) -> Publisher<Sim> {
    Publisher::new(Options {
        cluster: 1,
        exchange: Arc::from("rateway-1"),
        persistent: true,
        shards: FIRST_SHARD..FIRST_SHARD + SHARDS,
        first_slot: FIRST_SLOT,
        outbox_bytes_max,
    })
}

const OUTBOX_BYTES_MAX: usize = 128 * 1024;

impl World {
    #[allow(clippy::disallowed_methods)] // A starting point for arithmetic; nothing depends on its value.
    fn new(seed: u64) -> World {
        let mut rng = Rng::new(seed);
        let sim = Sim::new(rng.next_u64());
        let faulty = rng.chance(1, 3);
        let options = spool::Options {
            bytes_max: [64 << 10, 1 << 20, 16 << 20][rng.below(3) as usize],
            segment_bytes: 16 << 10,
            shed_from_percent: 50,
            ..spool::Options::default()
        };
        let mut world = World {
            sim,
            broker: Broker::default(),
            shards: vec![Shard { next: 1, ..Shard::default() }; SHARDS as usize],
            publisher: publisher(OUTBOX_BYTES_MAX),
            options,
            now: Instant::now(),
            paused: false,
            up: true,
            marks_hold: !faulty,
            hidden: false,
            shed: 0,
            crashes: 0,
            overflows: 0,
            rng,
        };
        if faulty {
            let mut faults = world.sim.faults.borrow_mut();
            (faults.eio_in, faults.short_in) = (20 + world.rng.below(180), world.rng.below(10));
            if world.rng.chance(1, 2) {
                faults.disk_max = 200 << 10;
            }
        }
        world.begin();
        world
    }

    fn turn(&self) -> Turn {
        Turn { now: self.now, wall_ms: 1 }
    }

    fn link(&self) -> Link {
        Link { frame_max: FRAME_MAX, drains: self.up }
    }

    /// A process begins: opens what is there and resumes each shard.
    fn begin(&mut self) {
        self.sim.restart();
        let opened = loop {
            // A folder that cannot be opened leaves a process without a disk; here it is tried again, as another
            // process would.
            if let Ok(opened) = Spool::open_in(self.sim.clone(), self.options.clone()) {
                break opened;
            }
        };
        let (spool, recovered) = opened;
        // What a fault hid at the start counts as lost when it is found, although Discord sent it again.
        let hidden =
            recovered.notes.iter().any(|note| matches!(note, Note::Io { .. } | Note::Damaged { .. }));
        self.hidden |= hidden && !self.marks_hold;
        self.publisher = publisher(OUTBOX_BYTES_MAX);
        for (index, shard) in self.shards.iter_mut().enumerate() {
            let id = FIRST_SHARD + index as u32;
            let reach = recovered.reach.iter().find(|reach| reach.shard == id).map_or(0, |reach| reach.seq);
            shard.safe = shard.file.max(reach);
            shard.next = shard.safe + 1;
        }
        self.publisher.attach(spool);
        self.broker.disconnect();
        self.paused = false;
        self.up = self.rng.chance(1, 2);
    }

    fn die(&mut self) {
        self.crashes += 1;
        self.overflows += self.publisher.overflows;
        for shard in &mut self.shards {
            // Written every few milliseconds, by the broker's word alone.
            shard.file = if self.rng.chance(1, 2) { shard.confirmed } else { shard.file };
        }
        self.shed += shed(&self.publisher);
        self.begin();
    }

    /// Some events of one shard come in.
    fn batch(&mut self) {
        if self.paused {
            return;
        }
        let Some(promised) = self.publisher.reserve() else { return };
        let index = self.rng.below(u64::from(SHARDS)) as usize;
        let mut batch = Batch { frame_max: FRAME_MAX, ..Batch::default() };
        for _ in 0..self.rng.below(12) {
            let shard = &mut self.shards[index];
            let seq = shard.next;
            let repeat = seq <= shard.sent;
            (shard.next, shard.sent) = (seq + 1, shard.sent.max(seq));
            let body = vec![b' '; 100 + (seq * 7919 % 3000) as usize];
            let event = EventPublish {
                exchange: b"rateway-1",
                routing_key: if is_typing(seq) { b"TYPING_START" } else { b"MESSAGE_CREATE" },
                message_id: b"id",
                timestamp_s: 1,
                shard_id: FIRST_SHARD + index as u32,
                seq,
                repeat,
                persistent: true,
                body: &body,
            };
            frame_event(&mut batch.bytes, 1, FRAME_MAX, &event).expect("short names");
            batch.records.push(Record::new(7, seq, batch.bytes.len()));
        }
        let (turn, shards) = (self.turn(), &mut self.shards);
        let report = &mut |progress| note_spooled(shards, progress);
        self.publisher.accept(turn, FIRST_SLOT + index as u32, batch, promised, report);
    }

    fn step_publisher(&mut self) {
        let (turn, link, shards) = (self.turn(), self.link(), &mut self.shards);
        self.publisher.turn(turn, link, &mut |progress| note_spooled(shards, progress));
        if self.sim.is_dead() {
            return;
        }
        self.paused = self.publisher.pauses(self.paused);
        // A batch may be under way for each reservation; a dozen events are above none.
        let limit = OUTBOX_BYTES_MAX + 64 * 1024;
        assert!(self.publisher.outbox.memory_bytes() <= limit, "the outbox has no ceiling");
    }

    fn write(&mut self) {
        if !self.up {
            return;
        }
        self.publisher.outbox.prepare(FRAME_MAX, 8);
        let waiting: Vec<u8> = self.publisher.outbox.slices().flatten().copied().collect();
        let count = self.rng.below(waiting.len() as u64 + 1) as usize;
        self.broker.read(&waiting[..count]);
        let shards = &mut self.shards;
        self.publisher.outbox.advance(count, |progress| note_confirmed(shards, progress));
    }

    fn confirm(&mut self) {
        if let Some(&last) = self.broker.unconfirmed.back() {
            let first = self.broker.unconfirmed[0];
            let tag = first + self.rng.below(last - first + 1);
            self.broker.unconfirmed.retain(|other| *other > tag);
            let shards = &mut self.shards;
            self.publisher.outbox.confirm(tag, true, |progress| note_confirmed(shards, progress));
        }
    }

    fn lose_link(&mut self) {
        self.up = !self.up;
        self.publisher.outbox.rewind();
        self.broker.disconnect();
    }

    fn put_away(&mut self) {
        let (turn, shards) = (self.turn(), &mut self.shards);
        let report = &mut |progress| note_spooled(shards, progress);
        self.publisher.put_away(turn, FRAME_MAX, report);
        self.die();
    }

    fn step(&mut self) {
        match self.rng.below(100) {
            0..40 => self.batch(),
            40..75 => {
                self.step_publisher();
                if !self.sim.is_dead() {
                    self.write();
                }
            }
            75..90 => self.confirm(),
            90..93 => self.lose_link(),
            93 => self.put_away(),
            94 => self.die(),
            95 => {
                let calls = self.rng.below(30);
                self.sim.faults.borrow_mut().calls_left = Some(calls);
            }
            _ => self.now += Duration::from_millis(self.rng.below(1500)),
        }
        if self.sim.is_dead() {
            self.die();
        }
    }

    /// Nothing goes wrong any more: everything has to arrive.
    fn settle(&mut self) {
        {
            let mut faults = self.sim.faults.borrow_mut();
            (faults.eio_in, faults.short_in, faults.disk_max, faults.calls_left) = (0, 0, u64::MAX, None);
        }
        if !self.up {
            self.lose_link();
        }
        for _ in 0..20_000 {
            self.now += Duration::from_millis(100);
            self.step_publisher();
            self.write();
            self.confirm();
            let replayed = self.shards.iter().all(|shard| shard.next > shard.sent);
            let (memory, disk) = self.publisher.waiting();
            if memory + disk == 0 && replayed && self.publisher.spool().is_some_and(|spool| spool.is_empty())
            {
                return;
            }
            if !replayed {
                self.batch();
            }
        }
        panic!("what waits does not get through: {:?}", self.publisher.waiting());
    }

    fn audit(&mut self) {
        self.shed += shed(&self.publisher);
        let mut arrived: BTreeMap<(u32, u64), u64> = BTreeMap::new();
        let mut last: BTreeMap<u32, u64> = BTreeMap::new();
        let mut missing = 0;
        for message in &self.broker.log {
            if message.key == "RATEWAY_GAP" {
                assert!(self.shed > 0 || self.hidden, "a gap where nothing was left out: {message:?}");
                continue;
            }
            let times = arrived.entry((message.shard, message.seq)).or_default();
            *times += 1;
            let repeated = *times > 1;
            assert!(!self.marks_hold || !repeated || message.repeat, "{message:?} again without the mark");
            let last = last.entry(message.shard).or_default();
            if !repeated && message.seq > *last {
                // Of what is passed over everything was left out.
                assert!((*last + 1..message.seq).all(is_typing), "{} follows {last}", message.seq);
                missing += message.seq - *last - 1;
                *last = message.seq;
            } else if !repeated {
                // Left out in one process, not in the next, which asked for it again.
                assert!(is_typing(message.seq), "{} comes after {last}", message.seq);
                missing -= 1;
            }
        }
        for (index, shard) in self.shards.iter().enumerate() {
            let last = last.get(&(FIRST_SHARD + index as u32)).copied().unwrap_or(0);
            assert!((last + 1..=shard.sent).all(is_typing), "up to {} of {} arrived", last, shard.sent);
            missing += shard.sent - last;
        }
        assert!(missing <= self.shed, "{missing} are missing, {} were left out", self.shed);
    }
}

/// One in four can be done without.
fn is_typing(seq: u64) -> bool {
    seq % 4 == 3
}

fn shed(publisher: &Publisher<Sim>) -> u64 {
    publisher.spool().map_or(0, |spool| spool.stats().shed.iter().map(|(_, count)| count).sum())
}

fn note_spooled(shards: &mut [Shard], progress: Progress) {
    assert!(progress.spooled);
    let shard = &mut shards[(progress.shard - FIRST_SLOT) as usize];
    assert!(progress.seq >= shard.safe, "what is safe goes back: {progress:?}, {shard:?}");
    shard.safe = progress.seq;
}

fn note_confirmed(shards: &mut [Shard], progress: Progress) {
    let shard = &mut shards[(progress.shard - FIRST_SLOT) as usize];
    if !progress.spooled {
        assert!(progress.seq >= shard.safe, "what is safe goes back: {progress:?}, {shard:?}");
        shard.safe = progress.seq;
    }
    shard.confirmed = shard.confirmed.max(progress.seq);
}

/// Says which seed it was.
struct Tell(u64);

impl Drop for Tell {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("RATEWAY_SEED={}", self.0);
        }
    }
}

#[test]
fn nothing_is_lost_between_memory_and_disk() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seeds = match number("RATEWAY_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("RATEWAY_SEEDS").unwrap_or(SEEDS),
    };
    let (mut crashes, mut overflows, mut left_out, mut count) = (0, 0, 0, 0);
    for seed in seeds {
        let _tell = Tell(seed);
        let mut world = World::new(seed);
        for _ in 0..50 + world.rng.below(550) {
            world.step();
        }
        world.settle();
        world.overflows += world.publisher.overflows;
        world.audit();
        (crashes, overflows) = (crashes + world.crashes, overflows + world.overflows);
        (left_out, count) = (left_out + world.shed, count + 1);
    }
    println!("{count} seeds: {crashes} ends, {overflows} overflows, {left_out} events left out");
    if count >= 100 {
        assert!(crashes > count && overflows > count && left_out > count, "a quiet world shows nothing");
    }
}
