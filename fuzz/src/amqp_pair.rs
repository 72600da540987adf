//! Both roles of AMQP joined: the client of a cluster, the client of a worker, and the broker, with bytes between them that
//! travel in any pieces. Two machines that keep to the protocol never find fault with each other; each confirmed event
//! reaches the worker once and in order, each request reaches the cluster's client, each answer the worker.
//!
//! The input is a list of operations: what u8 | amount u8.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rateway::amqp::client::PUBLISH_CHANNEL;
use rateway::amqp::worker::{self, Message, Queue, Request, Worker};
use rateway::amqp::{Answer, Client, Delivery, Event, EventPublish, frame_event};
use rateway::base::Buf;
use rateway::broker::{Broker, ConnectionId, Fate, Options};

const EXCHANGE: &str = "rateway-1";
const QUEUE: &str = "rateway-incoming-1";
const KEYS: [&str; 2] = ["MESSAGE_CREATE", "TYPING_START"];
/// Less than any deadline of the machines: what is later than this settles first.
const PASSED_MAX: Duration = Duration::from_secs(8);

/// One run.
pub fn run(bytes: &[u8]) {
    let (what, steps) = bytes.split_first().map_or((0, bytes), |(what, steps)| (*what, steps));
    let mut world = World::new(Instant::now(), what);
    for &[what, amount] in steps.as_chunks::<2>().0.iter().take(400) {
        world.step(what, amount);
        world.broker.audit();
    }
    world.end();
}

/// A socket: bytes on their way, and those that have arrived.
struct Link {
    id: ConnectionId,
    to_broker: VecDeque<u8>,
    at_broker: Buf,
    from_broker: VecDeque<u8>,
    here: Buf,
}

impl Link {
    fn new(broker: &mut Broker, now: Instant) -> Link {
        let id = broker.connect(now, SocketAddr::from(([127, 0, 0, 1], 1))).expect("far below the limit");
        Link {
            id,
            to_broker: VecDeque::new(),
            at_broker: Buf::default(),
            from_broker: VecDeque::new(),
            here: Buf::default(),
        }
    }

    fn send(&mut self, broker: &mut Broker, now: Instant, amount: usize) -> bool {
        let bytes: Vec<u8> = self.to_broker.drain(..amount.min(self.to_broker.len())).collect();
        self.at_broker.extend(&bytes);
        let before = self.at_broker.len();
        broker.receive(now, self.id, &mut self.at_broker);
        !bytes.is_empty() || before != self.at_broker.len()
    }

    fn arrive(&mut self, broker: &mut Broker, now: Instant, amount: usize) -> bool {
        let length = broker.output(self.id).len().min(amount);
        self.from_broker.extend(&broker.output(self.id)[..length]);
        broker.advance(now, self.id, length);
        let bytes: Vec<u8> = self.from_broker.drain(..).collect();
        self.here.extend(&bytes);
        length > 0
    }
}

/// What the worker has found so far: one after the other, as its channel is set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Setup {
    Opening,
    Channel,
    Exchange,
    Queue,
    Limit,
    Consume,
    Done,
}

struct World {
    broker: Broker,
    now: Instant,
    passed: Duration,
    prefetch: u16,
    client: Client,
    client_link: Link,
    /// Events by the delivery tag of this channel.
    unconfirmed: BTreeMap<u64, u32>,
    tag: u64,
    is_ready: bool,
    was_ready: bool,
    published: u32,
    confirmed: Vec<u32>,
    deliveries: VecDeque<Delivery>,
    worker: Worker,
    worker_link: Link,
    setup: Setup,
    queue: String,
    /// The first event that was published when the worker's queue was bound.
    bound_from: Option<u32>,
    events: Vec<u32>,
    unacknowledged: Option<u64>,
    /// Requests of this worker and of those before; of those before.
    requested: u32,
    requested_before: u32,
    requested_before_settling: u32,
    requests: Vec<u32>,
    /// Answers that were taken on, and those that came; and whether an end was replaced in between.
    answers: (u32, u32),
    counts_answers: bool,
}

impl World {
    fn new(now: Instant, what: u8) -> World {
        let options = Options {
            memory_bytes: [256 << 20, 150_000, 300_000, 1 << 20][usize::from(what % 4)],
            outgoing_bytes_max: [256 << 10, 4000][usize::from(what / 4 % 2)],
            frame_max: [131_072, 8192][usize::from(what / 8 % 2)],
            ..Options::default()
        };
        let mut broker = Broker::new(options, 7, now, 0);
        let (client_link, worker_link) = (Link::new(&mut broker, now), Link::new(&mut broker, now));
        World {
            now,
            passed: Duration::ZERO,
            prefetch: [64, 1, 3, 1000][usize::from(what / 16 % 4)],
            client: client(now),
            client_link,
            unconfirmed: BTreeMap::new(),
            tag: 0,
            is_ready: false,
            was_ready: false,
            published: 0,
            confirmed: Vec::new(),
            deliveries: VecDeque::new(),
            worker: Worker::new(rateway::amqp::Options::default(), now),
            worker_link,
            setup: Setup::Opening,
            queue: String::new(),
            bound_from: None,
            events: Vec::new(),
            unacknowledged: None,
            requested: 0,
            requested_before: 0,
            requested_before_settling: 0,
            requests: Vec::new(),
            answers: (0, 0),
            counts_answers: true,
            broker,
        }
    }

    fn step(&mut self, what: u8, amount: u8) {
        let octets = usize::from(amount) * if what & 0x80 == 0 { 1 } else { 64 };
        match what % 16 {
            0 | 1 => self.publish(usize::from(what >> 4) + 1, usize::from(amount) * 40),
            2 => self.request(amount),
            3 | 4 => drop(self.client_link.send(&mut self.broker, self.now, octets)),
            5 | 6 => {
                self.client_link.arrive(&mut self.broker, self.now, octets);
                self.client_reads();
            }
            7 => drop(self.worker_link.send(&mut self.broker, self.now, octets)),
            8 => {
                self.worker_link.arrive(&mut self.broker, self.now, octets);
                self.worker_reads();
            }
            9 => drop(self.turn()),
            10 => self.acknowledge(),
            11 => self.answer(),
            12 => self.pass(Duration::from_millis(u64::from(amount) * 20)),
            13 if amount < 16 => {
                self.client.reopen_publish_channel();
                // Confirms of the channel that was closed do not come.
                self.is_ready = false;
                self.transmit();
            }
            14 if amount < 8 => self.replace_client(),
            14 if amount > 247 => self.replace_worker(),
            15 if amount.is_multiple_of(4) => self.settle(),
            _ => {}
        }
    }

    /// Frames events, as a shard's task does, behind what waits already.
    fn publish(&mut self, count: usize, length: usize) {
        for _ in 0..count {
            if !self.is_ready {
                return;
            }
            self.published += 1;
            self.tag += 1;
            let mut body = vec![b'x'; length.max(4)];
            body[..4].copy_from_slice(&self.published.to_be_bytes());
            let event = EventPublish {
                exchange: EXCHANGE.as_bytes(),
                routing_key: KEYS[self.published as usize % 2].as_bytes(),
                message_id: b"0-aa-1",
                timestamp_s: 1,
                shard_id: 0,
                seq: u64::from(self.published),
                repeat: false,
                persistent: false,
                body: &body,
            };
            self.transmit();
            let mut out = Vec::new();
            frame_event(&mut out, PUBLISH_CHANNEL, self.client.frame_max(), &event).expect("short names");
            self.client_link.to_broker.extend(out);
            self.unconfirmed.insert(self.tag, self.published);
        }
    }

    fn request(&mut self, amount: u8) {
        // Before it was ready the queue of requests may not be there yet. While memory is short a worker may publish
        // a little more and no longer, as its acknowledgements would wait behind that.
        let is_enough = self.requested - self.requested_before_settling >= 8;
        if self.setup != Setup::Done || !self.was_ready || is_enough {
            return;
        }
        self.requested += 1;
        let mut body = vec![b'r'; usize::from(amount).max(4)];
        body[..4].copy_from_slice(&self.requested.to_be_bytes());
        let id = self.requested.to_string();
        let request = Request {
            exchange: EXCHANGE,
            routing_key: "gateway",
            header: Some(("shard_id", "0")),
            reply_to: &self.queue,
            correlation_id: &id,
            body: &body,
        };
        self.worker.publish(1, &request).expect("short names");
        self.transmit();
    }

    fn answer(&mut self) {
        let Some(delivery) = self.deliveries.pop_front() else { return };
        let reply_to = delivery.reply_to.as_deref().expect("each request has one");
        if reply_to == self.queue.as_bytes() {
            let id = delivery.correlation_id.as_deref();
            let answer = Answer {
                exchange: b"",
                routing_key: reply_to,
                correlation_id: id,
                found: Some(true),
                body: b"{}",
            };
            self.answers.0 += u32::from(self.client.answer(&answer));
        }
        self.client.ack(delivery.delivery_tag);
        self.transmit();
    }

    fn acknowledge(&mut self) {
        if let Some(tag) = self.unacknowledged.take() {
            self.worker.ack_through(1, tag);
            self.transmit();
        }
    }

    fn transmit(&mut self) {
        let mut out = Vec::new();
        self.client.transmit(&mut out);
        self.client_link.to_broker.extend(out.drain(..));
        self.worker.transmit(&mut out);
        self.worker_link.to_broker.extend(out);
    }

    fn client_reads(&mut self) {
        let received = self.client.receive(self.now, &mut self.client_link.here);
        assert_eq!(received, Ok(()), "the client finds fault with the broker");
        self.client_events();
    }

    fn client_events(&mut self) {
        while let Some(event) = self.client.poll_event() {
            match event {
                Event::PublishReady { .. } => {
                    self.unconfirmed.clear();
                    self.tag = 0;
                    (self.is_ready, self.was_ready) = (true, true);
                }
                Event::Confirm { delivery_tag, multiple } => {
                    let rest = self.unconfirmed.split_off(&(delivery_tag + 1));
                    let mut upto = std::mem::replace(&mut self.unconfirmed, rest);
                    let last = upto.pop_last();
                    assert_eq!(last.map(|(tag, _)| tag), Some(delivery_tag), "a confirm of nothing");
                    match multiple {
                        true => self.confirmed.extend(upto.into_values()),
                        false => self.unconfirmed.append(&mut upto),
                    }
                    self.confirmed.extend(last.map(|(_, event)| event));
                }
                Event::Delivery(delivery) => {
                    let number = number(&delivery.body);
                    // What an earlier client did not acknowledge comes again.
                    let is_repeat = self.requests.contains(&number);
                    assert!(is_repeat || self.requests.last().is_none_or(|last| *last < number));
                    self.requests.push(number);
                    self.deliveries.push_back(delivery);
                }
                Event::Blocked { .. } | Event::Unblocked => {}
                other => panic!("nobody gave a reason for {other:?}"),
            }
        }
        self.transmit();
    }

    fn worker_reads(&mut self) {
        let received = self.worker.receive(self.now, &mut self.worker_link.here);
        assert_eq!(received, Ok(()), "the worker finds fault with the broker");
        while let Some(event) = self.worker.poll_event() {
            self.setup = match (self.setup, event) {
                (Setup::Opening, worker::Event::Opened) => {
                    self.worker.open_channel(1);
                    Setup::Channel
                }
                (Setup::Channel, worker::Event::Done { channel: 1 }) => {
                    self.worker.find_exchange(1, EXCHANGE).expect("a short name");
                    Setup::Exchange
                }
                // The exchange is not there as long as the client has not declared it.
                (Setup::Exchange, worker::Event::ChannelClosed { channel: 1, code: 404, .. }) => {
                    self.worker.open_channel(1);
                    Setup::Channel
                }
                (Setup::Exchange, worker::Event::Done { channel: 1 }) => {
                    let queue = Queue::Own { length_max: 1_000_000, bytes_max: 1 << 30 };
                    self.worker.declare_queue(1, queue).expect("a short name");
                    Setup::Queue
                }
                (Setup::Queue, worker::Event::Queue { channel: 1, name, .. }) => {
                    for key in KEYS {
                        self.worker.bind(1, &name, EXCHANGE, key).expect("short names");
                    }
                    self.worker.limit(1, self.prefetch);
                    self.queue = name;
                    Setup::Limit
                }
                (Setup::Limit, worker::Event::Done { channel: 1 }) => {
                    self.bound_from = Some(self.published + 1);
                    self.worker.consume(1, &self.queue).expect("a short name");
                    Setup::Consume
                }
                (Setup::Consume, worker::Event::Done { channel: 1 }) => Setup::Done,
                (setup @ (Setup::Done | Setup::Consume), worker::Event::Message(message)) => {
                    self.message(&message);
                    setup
                }
                (setup, worker::Event::Blocked { .. }) => setup,
                other => panic!("nobody gave a reason for {other:?}"),
            };
        }
        self.transmit();
    }

    fn message(&mut self, message: &Message) {
        self.unacknowledged = Some(message.delivery_tag);
        if message.exchange.is_empty() {
            assert_eq!(message.body, b"{}");
            self.answers.1 += 1;
            return;
        }
        let number = number(&message.body);
        assert_eq!(
            (message.seq, message.routing_key.as_str()),
            (Some(i64::from(number)), KEYS[number as usize % 2])
        );
        assert!(self.events.last().is_none_or(|last| *last < number), "events out of their order");
        self.events.push(number);
    }

    /// A turn of the broker; whether there is more to do.
    fn turn(&mut self) -> bool {
        let more = self.broker.finish_turn(self.now);
        while self.broker.poll_output().is_some() {}
        while let Some(id) = self.broker.poll_resumed() {
            for link in [&mut self.client_link, &mut self.worker_link] {
                if link.id == id {
                    self.broker.receive(self.now, id, &mut link.at_broker);
                }
            }
        }
        while self.broker.poll_notice().is_some() {}
        for link in [&self.client_link, &self.worker_link] {
            assert_eq!(self.broker.fate(link.id), Fate::Open, "the broker finds fault with a client");
        }
        more
    }

    fn pass(&mut self, time: Duration) {
        if self.passed + time > PASSED_MAX {
            self.settle();
        }
        self.passed += time;
        self.wait_until(self.now + time);
    }

    fn wait_until(&mut self, at: Instant) {
        self.now = self.now.max(at);
        self.broker.handle_deadline(self.now);
        if self.client.poll_timeout().is_some_and(|at| at <= self.now) {
            assert_eq!(self.client.handle_deadline(self.now), Ok(()));
        }
        if self.worker.poll_timeout(self.now).is_some_and(|at| at <= self.now) {
            assert_eq!(self.worker.handle_deadline(self.now), Ok(()));
        }
        self.client_events();
    }

    fn replace_client(&mut self) {
        // What has left the client is lost, or not: the events that are in the worker's queue come.
        self.broker.disconnected(self.now, self.client_link.id);
        self.client = client(self.now);
        self.client_link = Link::new(&mut self.broker, self.now);
        self.is_ready = false;
        self.unconfirmed.clear();
        self.deliveries.clear();
        // Answers that were under way may be lost.
        self.counts_answers = false;
    }

    fn replace_worker(&mut self) {
        self.broker.disconnected(self.now, self.worker_link.id);
        self.worker = Worker::new(rateway::amqp::Options::default(), self.now);
        self.worker_link = Link::new(&mut self.broker, self.now);
        (self.setup, self.bound_from, self.unacknowledged) = (Setup::Opening, None, None);
        self.queue.clear();
        self.events.clear();
        // Requests that had not arrived are gone; which ones, nobody can say.
        (self.counts_answers, self.requested_before) = (false, self.requested);
        self.confirmed.clear();
    }

    /// Lets everything arrive, and everybody answer, until nothing moves.
    fn settle(&mut self) {
        for round in 0.. {
            assert!(round < 20_000, "it never ends");
            self.transmit();
            let mut moves = self.client_link.send(&mut self.broker, self.now, usize::MAX);
            moves |= self.worker_link.send(&mut self.broker, self.now, usize::MAX);
            moves |= self.turn();
            moves |= self.client_link.arrive(&mut self.broker, self.now, usize::MAX);
            self.client_reads();
            moves |= self.worker_link.arrive(&mut self.broker, self.now, usize::MAX);
            self.worker_reads();
            moves |= self.unacknowledged.is_some() || !self.deliveries.is_empty();
            self.acknowledge();
            self.answer();
            moves |= !self.client_link.to_broker.is_empty() || !self.worker_link.to_broker.is_empty();
            if moves {
                continue;
            }
            // A channel that was closed is opened again after a while.
            match self.client.poll_timeout() {
                Some(at) if !self.is_ready && at < self.now + PASSED_MAX => self.wait_until(at),
                _ => break,
            }
        }
        self.passed = Duration::ZERO;
        assert!(self.is_ready && self.client.is_publish_ready(), "the client does not get ready");
        assert_eq!(self.setup, Setup::Done, "the worker does not get ready");
        assert!(self.unconfirmed.is_empty(), "{} events are never confirmed", self.unconfirmed.len());
        let bound_from = self.bound_from.expect("it is done");
        for event in self.confirmed.drain(..).filter(|event| *event >= bound_from) {
            assert!(self.events.binary_search(&event).is_ok(), "event {event} is confirmed and never came");
        }
        assert!(!self.counts_answers || self.answers.0 == self.answers.1, "answers are lost");
        (self.answers, self.counts_answers) = ((0, 0), true);
        for request in self.requested_before + 1..=self.requested {
            assert!(self.requests.contains(&request), "request {request} never came");
        }
        (self.requested_before, self.requested_before_settling) = (self.requested, self.requested);
        self.requests.clear();
    }

    fn end(mut self) {
        self.settle();
        self.settle();
        for id in [self.client_link.id, self.worker_link.id] {
            self.broker.disconnected(self.now, id);
        }
        for _ in 0..64 {
            self.broker.finish_turn(self.now);
        }
        self.broker.audit();
        let stats = self.broker.stats();
        assert_eq!((stats.connections, stats.consumers, stats.messages), (0, 0, 0));
    }
}

fn client(now: Instant) -> Client {
    let options = rateway::amqp::Options {
        exchange: EXCHANGE.to_owned(),
        queue: QUEUE.to_owned(),
        binding_keys: vec!["cache".to_owned(), "gateway".to_owned()],
        ..rateway::amqp::Options::default()
    };
    Client::new(options, now)
}

fn number(body: &[u8]) -> u32 {
    u32::from_be_bytes(*body.first_chunk().expect("four octets at least"))
}
