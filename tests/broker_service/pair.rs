//! The gateway's side and the broker, both as machines: `amqp::Client` and `relay::Outbox` against `broker::Broker`, with
//! a worker, over a network that delays, splits, and loses connections at any byte. Time and chance come from a seed.
//!
//! What has to hold: every event arrives at the worker, first arrivals in the order of each shard, and whatever comes
//! again says so. `RATEWAY_SEEDS=1000` runs more seeds, `RATEWAY_SEED=7` one of them.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use amq_protocol::frame::{AMQPFrame, parse_frame};
use amq_protocol::protocol::basic::AMQPMethod as Basic;
use amq_protocol::protocol::{AMQPClass, basic, queue};
use amq_protocol::types::{AMQPValue, FieldTable};
use rateway::amqp::client::PUBLISH_CHANNEL;
use rateway::amqp::{self, Client, Event, EventPublish, frame_event};
use rateway::base::{Buf, Rng};
use rateway::broker::{Broker, ConnectionId, Fate, Next, Options};
use rateway::relay::Outbox;
use rateway::relay::outbox::{Batch, Record};

use crate::service::{m, open, open_vhost, start_ok, tune_ok, written};

const SHARDS: u32 = 3;
const EXCHANGE: &str = "rateway-1";
const KEY: &str = "MESSAGE_CREATE";
const QUEUE: &str = "events";
/// What a socket and the network hold for a direction.
const UNDER_WAY: usize = 48 << 10;

/// One connection, as the network has it.
struct Link {
    id: ConnectionId,
    up: VecDeque<(Instant, Vec<u8>)>,
    down: VecDeque<(Instant, Vec<u8>)>,
    /// What came to the broker's side and was not taken.
    window: Buf,
    is_held: bool,
}

fn waiting(pieces: &VecDeque<(Instant, Vec<u8>)>) -> usize {
    pieces.iter().map(|(_, bytes)| bytes.len()).sum()
}

/// Cuts bytes as a network may, each piece later than the one before.
fn put(pieces: &mut VecDeque<(Instant, Vec<u8>)>, now: Instant, rng: &mut Rng, mut bytes: &[u8]) {
    let mut at = pieces.back().map_or(now, |(at, _)| now.max(*at));
    while !bytes.is_empty() {
        at += rng.duration(Duration::ZERO, Duration::from_millis(4));
        let most = if rng.chance(1, 4) { 9 } else { 40_000 };
        let (piece, rest) = bytes.split_at(bytes.len().min(1 + rng.below(most) as usize));
        pieces.push_back((at, piece.to_vec()));
        bytes = rest;
    }
}

fn arrived(pieces: &mut VecDeque<(Instant, Vec<u8>)>, now: Instant) -> Vec<u8> {
    let mut out = Vec::new();
    while let Some((at, _)) = pieces.front()
        && *at <= now
        && let Some((_, bytes)) = pieces.pop_front()
    {
        out.extend(bytes);
    }
    out
}

struct Gateway {
    client: Option<Client>,
    link: Option<Link>,
    input: Buf,
    out: Vec<u8>,
    outbox: Outbox,
    frame_max: u32,
    is_up: bool,
    is_blocked: bool,
    retry_at: Instant,
    published: [u64; SHARDS as usize],
}

/// What a worker has of its connection.
#[derive(Default)]
struct Worker {
    link: Option<Link>,
    input: Vec<u8>,
    out: Vec<u8>,
    /// A delivery that has not come to its end: tag, redelivered; what its header says; and how much is to come.
    begun: Option<(u64, bool)>,
    body: Option<(u64, bool, Vec<u8>, u64)>,
    unacked: Vec<u64>,
}

struct World {
    now: Instant,
    rng: Rng,
    broker: Broker,
    gateway: Gateway,
    worker: Worker,
    worker_from: Instant,
    /// The worker acknowledges nothing before this.
    idle_until: Instant,
    /// The seq that comes next for the first time, by shard.
    next: [u64; SHARDS as usize],
    repeats: u64,
    losses: u64,
    blocks: u64,
    is_calm: bool,
}

fn body(shard: u32, seq: u64, length: usize) -> Vec<u8> {
    let mut body = format!("{{\"shard\":{shard},\"seq\":{seq},\"pad\":\"").into_bytes();
    body.resize(body.len().max(length), b'x');
    body
}

impl World {
    fn new(seed: u64) -> World {
        // A starting point; all else is counted from it.
        let now = Instant::now();
        let mut rng = Rng::new(seed);
        let options = Options { memory_bytes: 400_000, heartbeat_s: 20, ..Options::default() };
        let broker = Broker::new(options, rng.next_u64(), now, 0);
        let gateway = Gateway {
            client: None,
            link: None,
            input: Buf::with_capacity(4096),
            out: Vec::new(),
            outbox: Outbox::new(300_000),
            frame_max: 0,
            is_up: false,
            is_blocked: false,
            retry_at: now,
            published: [0; SHARDS as usize],
        };
        World {
            now,
            rng,
            broker,
            gateway,
            worker: Worker::default(),
            worker_from: now,
            idle_until: now,
            next: [1; SHARDS as usize],
            repeats: 0,
            losses: 0,
            blocks: 0,
            is_calm: false,
        }
    }

    fn connect(&mut self) -> Link {
        let address = ([127, 0, 0, 1], 1).into();
        let id = self.broker.connect(self.now, address).expect("far below the limit");
        let (up, down) = (VecDeque::new(), VecDeque::new());
        Link { id, up, down, window: Buf::default(), is_held: false }
    }

    /// The connection is gone. Of what was under way any part may still arrive.
    fn lose(&mut self, link: Link, input: &mut Vec<u8>) {
        let Link { id, up, down, mut window, is_held } = link;
        let part = |rng: &mut Rng, pieces: VecDeque<(Instant, Vec<u8>)>| {
            let mut bytes: Vec<u8> = pieces.into_iter().flat_map(|(_, bytes)| bytes).collect();
            bytes.truncate(rng.below(bytes.len() as u64 + 1) as usize);
            bytes
        };
        let bytes = part(&mut self.rng, up);
        if !is_held {
            window.extend(&bytes);
            self.broker.receive(self.now, id, &mut window);
        }
        self.broker.disconnected(self.now, id);
        input.extend(part(&mut self.rng, down));
        self.losses += 1;
    }

    /// The broker's half of a turn for a link: reads what came.
    fn broker_reads(&mut self, link: &mut Link) {
        let bytes = arrived(&mut link.up, self.now);
        link.window.extend(&bytes);
        if !link.is_held {
            link.is_held = self.broker.receive(self.now, link.id, &mut link.window) == Next::Resumed;
        }
    }

    /// And writes what it has to say. Returns whether the connection goes on.
    fn broker_writes(&mut self, link: &mut Link) -> bool {
        loop {
            let output = self.broker.output(link.id);
            let room = UNDER_WAY.saturating_sub(waiting(&link.down)).min(output.len());
            if room == 0 {
                break;
            }
            let count = 1 + self.rng.below(room as u64) as usize;
            let bytes = output[..count].to_vec();
            put(&mut link.down, self.now, &mut self.rng, &bytes);
            self.broker.advance(self.now, link.id, count);
        }
        match self.broker.fate(link.id) {
            Fate::Open => true,
            Fate::Ending => !self.broker.output(link.id).is_empty() || !link.down.is_empty(),
            Fate::Gone => false,
        }
    }

    fn step(&mut self) {
        self.now += self.rng.duration(Duration::from_millis(1), Duration::from_millis(15));
        if self.broker.poll_timeout().is_some_and(|at| at <= self.now) {
            self.broker.handle_deadline(self.now);
        }
        if !self.is_calm {
            self.trouble();
        }
        self.gateway_turn();
        self.worker_turn();
        let (mut ours, mut theirs) = (self.gateway.link.take(), self.worker.link.take());
        for link in [&mut ours, &mut theirs].into_iter().flatten() {
            self.broker_reads(link);
        }
        self.broker.finish_turn(self.now);
        let goes_on = ours.as_mut().is_none_or(|link| self.broker_writes(link));
        (self.gateway.link, ours) = if goes_on { (ours, None) } else { (None, ours) };
        if let Some(link) = ours {
            self.gateway_lost(link);
        }
        let goes_on = theirs.as_mut().is_none_or(|link| self.broker_writes(link));
        (self.worker.link, theirs) = if goes_on { (theirs, None) } else { (None, theirs) };
        if let Some(link) = theirs {
            self.worker_lost(link);
        }
        while self.broker.poll_output().is_some() {}
        while let Some(id) = self.broker.poll_resumed() {
            for link in [&mut self.gateway.link, &mut self.worker.link].into_iter().flatten() {
                link.is_held &= link.id != id;
            }
        }
        while self.broker.poll_notice().is_some() {}
    }

    fn trouble(&mut self) {
        if self.rng.chance(1, 150)
            && let Some(link) = self.gateway.link.take()
        {
            self.gateway_lost(link);
        }
        if self.rng.chance(1, 200)
            && let Some(link) = self.worker.link.take()
        {
            self.worker_lost(link);
        }
        if self.rng.chance(1, 400) {
            self.idle_until = self.now + self.rng.duration(Duration::ZERO, Duration::from_secs(6));
        }
        // A channel is broken by the broker: somebody has deleted what it publishes to.
        if self.rng.chance(1, 2000)
            && let Some(client) = &mut self.gateway.client
        {
            client.reopen_publish_channel();
            self.gateway.is_up = false;
        }
    }

    fn gateway_lost(&mut self, link: Link) {
        let mut bytes = Vec::new();
        self.lose(link, &mut bytes);
        self.gateway.input.extend(&bytes);
        self.gateway_hears();
        let gateway = &mut self.gateway;
        gateway.client = None;
        gateway.input.reset(4096);
        gateway.out.clear();
        (gateway.is_up, gateway.is_blocked) = (false, false);
        gateway.outbox.rewind();
        gateway.retry_at = self.now + self.rng.duration(Duration::ZERO, Duration::from_secs(1));
    }

    fn gateway_hears(&mut self) {
        let gateway = &mut self.gateway;
        let Some(client) = &mut gateway.client else { return };
        // What is asked for wrongly shows as a channel or connection that never comes up.
        let result = client.receive(self.now, &mut gateway.input);
        assert_eq!(result, Ok(()), "the broker broke a rule, or was told that the gateway did");
        while let Some(event) = client.poll_event() {
            match event {
                Event::PublishReady { frame_max } => {
                    gateway.outbox.rewind();
                    (gateway.is_up, gateway.frame_max) = (true, frame_max);
                }
                Event::Confirm { delivery_tag, multiple } if gateway.is_up => {
                    gateway.outbox.confirm(delivery_tag, multiple, |_| {});
                }
                Event::Confirm { .. } => {}
                Event::Blocked { .. } => {
                    gateway.is_blocked = true;
                    self.blocks += 1;
                }
                Event::Unblocked => gateway.is_blocked = false,
                other => panic!("{other:?}"),
            }
        }
    }

    fn gateway_turn(&mut self) {
        if self.gateway.link.is_none() && self.gateway.retry_at <= self.now {
            self.gateway.link = Some(self.connect());
            let options = amqp::Options {
                exchange: EXCHANGE.into(),
                queue: "rateway-incoming-1".into(),
                binding_keys: vec!["cache".into(), "gateway".into()],
                ..amqp::Options::default()
            };
            self.gateway.client = Some(Client::new(options, self.now));
        }
        if let Some(link) = &mut self.gateway.link {
            let bytes = arrived(&mut link.down, self.now);
            self.gateway.input.extend(&bytes);
        }
        self.gateway_hears();
        let gateway = &mut self.gateway;
        if !self.is_calm && self.rng.chance(1, 2) && !gateway.outbox.is_full() {
            let shard = self.rng.below(u64::from(SHARDS)) as u32;
            let mut batch = gateway.outbox.take_spare();
            batch.frame_max = if gateway.frame_max == 0 { 131_072 } else { gateway.frame_max };
            for _ in 0..=self.rng.below(3) {
                let seq = &mut gateway.published[shard as usize];
                *seq += 1;
                let length =
                    [0, 300, 900, 9000, 200_000][self.rng.below(25).min(4).min(self.rng.below(6)) as usize];
                add(&mut batch, shard, *seq, &body(shard, *seq, length));
            }
            gateway.outbox.push(shard, batch);
        }
        let (Some(client), Some(link)) = (&mut gateway.client, &mut gateway.link) else { return };
        if client.poll_timeout().is_some_and(|at| at <= self.now) {
            match client.handle_deadline(self.now) {
                Ok(()) => {}
                // A broker that waits for memory does not read what is asked behind a publish.
                Err(amqp::Error::Timeout { .. }) if gateway.is_blocked => {
                    gateway.client = None;
                    let link = gateway.link.take().expect("just looked at");
                    return self.gateway_lost(link);
                }
                Err(error) => panic!("{error}"),
            }
        }
        client.transmit(&mut gateway.out);
        if gateway.is_up && !gateway.is_blocked && gateway.out.len() < UNDER_WAY {
            gateway.outbox.prepare(gateway.frame_max, 8);
            let before = gateway.out.len();
            gateway.outbox.slices().take(8).for_each(|slice| gateway.out.extend_from_slice(slice));
            gateway.outbox.advance(gateway.out.len() - before, |_| {});
        }
        let room = UNDER_WAY.saturating_sub(waiting(&link.up)).min(gateway.out.len());
        put(&mut link.up, self.now, &mut self.rng, &gateway.out[..room]);
        gateway.out.drain(..room);
    }

    fn worker_lost(&mut self, link: Link) {
        let mut bytes = Vec::new();
        self.lose(link, &mut bytes);
        self.worker.input.extend(bytes);
        self.worker_hears();
        self.worker = Worker::default();
        self.worker_from = self.now + self.rng.duration(Duration::ZERO, Duration::from_secs(1));
    }

    fn worker_turn(&mut self) {
        // It comes once there is something to bind to.
        let is_there = self.broker.stats().exchanges > 5;
        if self.worker.link.is_none() && is_there && self.worker_from <= self.now {
            self.worker.link = Some(self.connect());
            let declare = queue::Declare { queue: QUEUE.into(), durable: true, ..queue::Declare::default() };
            let bind = queue::Bind {
                queue: QUEUE.into(),
                exchange: EXCHANGE.into(),
                routing_key: KEY.into(),
                nowait: false,
                arguments: FieldTable::default(),
            };
            let consume = basic::Consume { queue: QUEUE.into(), ..basic::Consume::default() };
            let prefetch_count = self.rng.below(60) as u16;
            self.worker.out.extend_from_slice(b"AMQP\x00\x00\x09\x01");
            for frame in [
                start_ok("\0guest\0guest"),
                tune_ok(0, if self.rng.chance(1, 2) { 4096 } else { 0 }),
                open_vhost(),
                open(1),
                m(1, AMQPClass::Queue(queue::AMQPMethod::Declare(declare))),
                m(1, AMQPClass::Queue(queue::AMQPMethod::Bind(bind))),
                m(1, AMQPClass::Basic(Basic::Qos(basic::Qos { prefetch_count, global: false }))),
                m(1, AMQPClass::Basic(Basic::Consume(consume))),
            ] {
                self.worker.out.extend(written(&frame));
            }
        }
        if let Some(link) = &mut self.worker.link {
            let bytes = arrived(&mut link.down, self.now);
            self.worker.input.extend(bytes);
        }
        self.worker_hears();
        let worker = &mut self.worker;
        while !worker.unacked.is_empty()
            && self.idle_until <= self.now
            && (self.is_calm || self.rng.chance(2, 3))
        {
            let at = self.rng.below(worker.unacked.len() as u64) as usize;
            let (delivery_tag, multiple) = (worker.unacked[at], self.rng.chance(1, 2));
            worker.unacked.retain(|tag| *tag > delivery_tag || !multiple && *tag != delivery_tag);
            let ack = if self.rng.chance(1, 20) {
                Basic::Nack(basic::Nack { delivery_tag, multiple, requeue: true })
            } else {
                Basic::Ack(basic::Ack { delivery_tag, multiple })
            };
            worker.out.extend(written(&m(1, AMQPClass::Basic(ack))));
        }
        let Some(link) = &mut worker.link else { return };
        let room = UNDER_WAY.saturating_sub(waiting(&link.up)).min(worker.out.len());
        put(&mut link.up, self.now, &mut self.rng, &worker.out[..room]);
        worker.out.drain(..room);
    }

    fn worker_hears(&mut self) {
        let input = std::mem::take(&mut self.worker.input);
        let mut rest = &input[..];
        while let Ok((after, frame)) = parse_frame(rest) {
            rest = after;
            let worker = &mut self.worker;
            match frame {
                AMQPFrame::Method(1, AMQPClass::Basic(Basic::Deliver(deliver))) => {
                    worker.begun = Some((deliver.delivery_tag, deliver.redelivered));
                }
                AMQPFrame::Header(1, header) => {
                    let (tag, redelivered) = worker.begun.take().expect("a method before its header");
                    let headers = header.properties.headers().clone().expect("headers of an event");
                    let is_repeat = headers.inner().get("repeat") == Some(&AMQPValue::Boolean(true));
                    worker.body = Some((tag, redelivered || is_repeat, Vec::new(), header.body_size));
                }
                AMQPFrame::Body(1, piece) => {
                    let (tag, is_marked, mut body, size) =
                        worker.body.take().expect("a header before its body");
                    body.extend_from_slice(&piece);
                    if (body.len() as u64) < size {
                        worker.body = Some((tag, is_marked, body, size));
                        continue;
                    }
                    worker.unacked.push(tag);
                    self.arrived(is_marked, &body);
                }
                AMQPFrame::Method(_, AMQPClass::Channel(method)) => {
                    assert!(format!("{method:?}").contains("OpenOk"), "{method:?}");
                }
                AMQPFrame::Method(0, AMQPClass::Connection(method)) => {
                    assert!(!format!("{method:?}").contains("Close"), "{method:?}");
                }
                _ => {}
            }
        }
        self.worker.input = rest.to_vec();
    }

    fn arrived(&mut self, is_marked: bool, body: &[u8]) {
        let text = std::str::from_utf8(body).expect("text");
        let number = |name: &str| -> u64 {
            let at = text.find(name).expect("a field") + name.len();
            text[at..].split(',').next().and_then(|digits| digits.parse().ok()).expect("a number")
        };
        let (shard, seq) = (number("\"shard\":"), number("\"seq\":"));
        let next = &mut self.next[shard as usize];
        if seq == *next {
            *next += 1;
        } else {
            assert!(seq < *next, "shard {shard}: {seq} came before {next}");
            assert!(is_marked, "shard {shard}: {seq} came again and does not say so");
            self.repeats += 1;
        }
    }
}

fn add(batch: &mut Batch, shard: u32, seq: u64, body: &[u8]) {
    let message_id = format!("{shard}-s-{seq}");
    let event = EventPublish {
        exchange: EXCHANGE.as_bytes(),
        routing_key: KEY.as_bytes(),
        message_id: message_id.as_bytes(),
        timestamp_s: 1,
        shard_id: shard,
        seq,
        repeat: false,
        persistent: true,
        body,
    };
    frame_event(&mut batch.bytes, PUBLISH_CHANNEL, batch.frame_max, &event).expect("short names");
    batch.records.push(Record::new(1, seq, batch.bytes.len()));
}

/// Returns what happened: losses of connections, repeats, blocks.
fn run(seed: u64) -> [u64; 3] {
    let mut world = World::new(seed);
    // Nothing is published before there is a queue to keep it, or it would be lost as it should.
    world.is_calm = true;
    while world.worker.link.is_none() || world.broker.stats().consumers == 0 {
        world.step();
    }
    world.is_calm = false;
    for step in 0..3000 {
        world.step();
        if step % 64 == 0 {
            world.broker.audit();
        }
    }
    world.is_calm = true;
    world.idle_until = world.now;
    let mut steps = 0;
    let is_done = |world: &World| world.gateway.outbox.is_empty() && world.broker.stats().messages == 0;
    while !is_done(&world) {
        world.step();
        steps += 1;
        assert!(steps < 50_000, "it finds no end: {:?}", world.broker.stats());
    }
    world.broker.audit();
    let arrived: BTreeMap<usize, u64> = world.next.iter().map(|next| next - 1).enumerate().collect();
    let published: BTreeMap<usize, u64> = world.gateway.published.into_iter().enumerate().collect();
    assert_eq!(arrived, published, "something was lost");
    [world.losses, world.repeats, world.blocks]
}

#[test]
fn no_event_is_lost_between_the_gateway_and_a_worker() {
    if let Some(seed) = std::env::var("RATEWAY_SEED").ok().and_then(|text| text.parse().ok()) {
        run(seed);
        return;
    }
    let seeds: u64 = std::env::var("RATEWAY_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(120);
    let mut sums = [0; 3];
    for seed in 0..seeds {
        match std::panic::catch_unwind(|| run(seed)) {
            Ok(happened) => sums.iter_mut().zip(happened).for_each(|(sum, count)| *sum += count),
            Err(panic) => {
                eprintln!("RATEWAY_SEED={seed}");
                std::panic::resume_unwind(panic);
            }
        }
    }
    assert!(sums.into_iter().all(|sum| sum > 0), "nothing went wrong: {sums:?}");
}
