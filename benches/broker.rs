//! What an event costs in the embedded broker: published with confirms, routed by a direct exchange to one queue,
//! delivered to one consumer, acknowledged one by one.
//!
//! In the machine it is time around its calls, copying into its window included; over sockets it is the CPU time of
//! `rateway broker`, as the system counts it, with this process on the other end. Events have 900 bytes, as Discord's have
//! on average. Under `cargo test` it runs with few events.

use std::fs;
use std::hint::black_box;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Instant;

use amq_protocol::frame::{AMQPFrame, WriteContext, gen_frame};
use amq_protocol::protocol::{AMQPClass, basic, channel, confirm, connection, exchange, queue};
use amq_protocol::types::FieldTable;
use rateway::amqp::frame::{Cut, cut};
use rateway::amqp::{EventPublish, frame_event};
use rateway::base::Buf;
use rateway::broker::{Broker, ConnectionId, Next, Options};

const BODY_BYTES: usize = 900;
const FRAME_MAX: u32 = 131_072;

#[allow(clippy::disallowed_methods, reason = "a bench measures time")]
fn now() -> Instant {
    Instant::now()
}

fn main() {
    let is_bench = std::env::args().any(|argument| argument == "--bench");
    let (rounds, events) = if is_bench { (7, 192_000) } else { (1, 1920) };
    for batch in [1, 8, 64] {
        let best = (0..rounds).map(|_| machine(events, batch)).fold(f64::INFINITY, f64::min);
        println!("machine, {batch:>3} events a turn: {best:.3} us an event");
    }
    for in_flight in [1, 64, 1024] {
        let events = if in_flight == 1 { events / 10 } else { events * 2 };
        let (cpu_us, wall_us) = sockets(events, in_flight);
        println!(
            "sockets, {in_flight:>4} unconfirmed: {cpu_us:.3} us of CPU in the broker an event, {:.0} events/s",
            1e6 / wall_us
        );
    }
}

fn written(frames: &[AMQPFrame]) -> Vec<u8> {
    let bytes = |frame| gen_frame(frame)(WriteContext::from(Vec::new())).expect("memory").into_inner().0;
    frames.iter().flat_map(bytes).collect()
}

fn m(number: u16, class: AMQPClass) -> AMQPFrame {
    AMQPFrame::Method(number, class)
}

/// All that a client says until it is at work.
fn hello(setup: &[AMQPFrame]) -> Vec<u8> {
    let start_ok = connection::StartOk {
        client_properties: FieldTable::default(),
        mechanism: "PLAIN".into(),
        response: "\0guest\0guest".into(),
        locale: "en_US".into(),
    };
    let tune_ok = connection::TuneOk { channel_max: 0, frame_max: FRAME_MAX, heartbeat: 0 };
    let open = connection::Open { virtual_host: "/".into() };
    let mut bytes = b"AMQP\x00\x00\x09\x01".to_vec();
    bytes.extend(written(&[
        m(0, AMQPClass::Connection(connection::AMQPMethod::StartOk(start_ok))),
        m(0, AMQPClass::Connection(connection::AMQPMethod::TuneOk(tune_ok))),
        m(0, AMQPClass::Connection(connection::AMQPMethod::Open(open))),
        m(1, AMQPClass::Channel(channel::AMQPMethod::Open(channel::Open {}))),
    ]));
    bytes.extend(written(setup));
    bytes
}

fn publisher() -> Vec<u8> {
    let declare = exchange::Declare {
        exchange: "rateway-1".into(),
        kind: "direct".into(),
        durable: true,
        ..exchange::Declare::default()
    };
    hello(&[
        m(1, AMQPClass::Exchange(exchange::AMQPMethod::Declare(declare))),
        m(1, AMQPClass::Confirm(confirm::AMQPMethod::Select(confirm::Select { nowait: false }))),
    ])
}

fn consumer() -> Vec<u8> {
    let declare = queue::Declare { queue: "worker".into(), ..queue::Declare::default() };
    let bind = queue::Bind {
        queue: "worker".into(),
        exchange: "rateway-1".into(),
        routing_key: "MESSAGE_CREATE".into(),
        ..queue::Bind::default()
    };
    let consume =
        basic::Consume { queue: "worker".into(), consumer_tag: "worker".into(), ..basic::Consume::default() };
    let qos = basic::Qos { prefetch_count: 1000, global: false };
    hello(&[
        m(1, AMQPClass::Queue(queue::AMQPMethod::Declare(declare))),
        m(1, AMQPClass::Queue(queue::AMQPMethod::Bind(bind))),
        m(1, AMQPClass::Basic(basic::AMQPMethod::Qos(qos))),
        m(1, AMQPClass::Basic(basic::AMQPMethod::Consume(consume))),
    ])
}

fn events(count: usize) -> Vec<u8> {
    let body = vec![b'x'; BODY_BYTES];
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
    let mut out = Vec::new();
    for _ in 0..count {
        frame_event(&mut out, 1, FRAME_MAX, &event).expect("short names");
    }
    out
}

/// What came of a client's bytes: deliveries, and the highest confirm.
#[derive(Default)]
struct Heard {
    deliveries: u64,
    confirmed: u64,
}

/// Reads whole frames off `bytes`, appends an ack for each delivery to `acks`; returns how much was read.
fn hear(bytes: &[u8], heard: &mut Heard, acks: &mut Vec<u8>) -> usize {
    let mut rest = bytes;
    while let Ok(Cut::Frame(frame)) = cut(rest, FRAME_MAX) {
        match frame.payload {
            [0, 60, 0, 60, tag_len, tail @ ..] => {
                heard.deliveries += 1;
                let tag = &tail[usize::from(*tag_len)..][..8];
                acks.extend_from_slice(&[1, 0, 1, 0, 0, 0, 13, 0, 60, 0, 80]);
                acks.extend_from_slice(tag);
                acks.extend_from_slice(&[0, 0xCE]);
            }
            [0, 60, 0, 80, tail @ ..] => {
                heard.confirmed = u64::from_be_bytes(tail[..8].try_into().expect("eight octets"));
            }
            _ => {}
        }
        rest = &rest[frame.wire_len()..];
    }
    bytes.len() - rest.len()
}

fn machine(count: usize, batch: usize) -> f64 {
    let start = now();
    let mut broker = Broker::new(Options::default(), 1, start, 0);
    let mut connect = |hello: Vec<u8>| -> (ConnectionId, Buf) {
        let id = broker.connect(start, ([127, 0, 0, 1], 1).into()).expect("room");
        let mut window = Buf::with_capacity(256 << 10);
        window.extend(&hello);
        assert_eq!(broker.receive(start, id, &mut window), Next::Bytes);
        broker.finish_turn(start);
        let length = broker.output(id).len();
        broker.advance(start, id, length);
        (id, window)
    };
    let (publisher, mut publishes) = connect(publisher());
    let (consumer, mut acknowledges) = connect(consumer());
    let events = events(batch);
    let (mut heard, mut acks) = (Heard::default(), Vec::new());
    let began = now();
    for _ in 0..count / batch {
        publishes.extend(black_box(&events));
        broker.receive(start, publisher, &mut publishes);
        broker.finish_turn(start);
        while let Some(id) = broker.poll_output() {
            let output = broker.output(id);
            let length = output.len();
            hear(output, &mut heard, &mut acks);
            broker.advance(start, id, length);
        }
        acknowledges.extend(&acks);
        acks.clear();
        broker.receive(start, consumer, &mut acknowledges);
        broker.finish_turn(start);
    }
    let took = began.elapsed();
    let stats = broker.stats();
    let done = (count / batch * batch) as u64;
    assert_eq!((heard.deliveries, heard.confirmed, stats.messages), (done, done, 0));
    took.as_secs_f64() * 1e6 / done as f64
}

struct Process(Child);

impl Process {
    /// User and system time, in seconds.
    fn cpu_s(&self) -> f64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0.id())).expect("Linux");
        let (_, rest) = stat.rsplit_once(')').expect("proc(5)");
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let ticks: f64 =
            [fields[11], fields[12]].iter().map(|field| field.parse::<f64>().expect("ticks")).sum();
        // USER_HZ is 100 wherever Linux runs.
        ticks / 100.0
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Microseconds of the broker's CPU time and of time an event.
fn sockets(count: usize, in_flight: usize) -> (f64, f64) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_rateway"))
        .arg("broker")
        .env("BROKER_ADDR", "127.0.0.1:0")
        .env("LOG_LEVEL", "info")
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let out = child.stderr.take().expect("piped");
    let process = Process(child);
    let mut lines = BufReader::new(out).lines();
    let address = lines
        .find_map(|line| line.ok()?.split_once("amqp://").map(|(_, address)| address.trim().to_owned()))
        .expect("an address");
    let connect = |hello: Vec<u8>| {
        let mut stream = TcpStream::connect(&address).expect("the broker listens");
        stream.set_nodelay(true).expect("a socket");
        stream.write_all(&hello).expect("a connection");
        stream
    };
    let mut publishing = connect(publisher());
    // The exchange has to be there before the queue is bound to it: its publisher has had an answer to its last method.
    let mut window = vec![0; 1 << 20];
    let mut said = Vec::new();
    while !said.ends_with(&[0, 85, 0, 11, 0xCE]) {
        let n = publishing.read(&mut window).expect("a connection");
        said.extend_from_slice(&window[..n]);
    }
    let mut consuming = connect(consumer());
    while !said.ends_with(b"\x06worker\xCE") {
        let n = consuming.read(&mut window).expect("a connection");
        said.extend_from_slice(&window[..n]);
    }
    let before = process.cpu_s();
    let began = now();
    let worker = thread::spawn(move || {
        let (mut heard, mut acks, mut buffer) = (Heard::default(), Vec::new(), Buf::with_capacity(1 << 20));
        while heard.deliveries < count as u64 {
            let n = consuming.read(buffer.spare()).expect("a connection");
            buffer.commit(n);
            let taken = hear(buffer.filled(), &mut heard, &mut acks);
            buffer.consume(taken);
            consuming.write_all(&acks).expect("a connection");
            acks.clear();
        }
        consuming
    });
    let portion = events(64.min(in_flight));
    let per_portion = 64.min(in_flight) as u64;
    let (mut heard, mut acks, mut buffer) = (Heard::default(), Vec::new(), Buf::with_capacity(1 << 16));
    let (mut sent, all) = (0, count as u64 / per_portion * per_portion);
    let all = if all == count as u64 { all } else { panic!("{count} events in portions of {per_portion}") };
    while heard.confirmed < all {
        while sent < all && sent + per_portion <= heard.confirmed + in_flight as u64 {
            publishing.write_all(&portion).expect("a connection");
            sent += per_portion;
        }
        let n = publishing.read(buffer.spare()).expect("a connection");
        buffer.commit(n);
        let taken = hear(buffer.filled(), &mut heard, &mut acks);
        buffer.consume(taken);
    }
    let consuming = worker.join().expect("the worker is well");
    let wall = began.elapsed();
    let cpu = process.cpu_s() - before;
    drop((publishing, consuming));
    (cpu * 1e6 / all as f64, wall.as_secs_f64() * 1e6 / all as f64)
}
