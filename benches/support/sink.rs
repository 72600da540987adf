//! A broker that discards: speaks enough AMQP 0-9-1 for a publisher, counts what is published, confirms it and
//! forgets it. So a measurement shows the gateway's cost and not a broker's. Whoever wants to know more than how many
//! there were gives it an observer.
#![allow(dead_code)] // Each of those that include this uses a part of it.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use amq_protocol::frame::{AMQPFrame, WriteContext, gen_frame, parse_frame};
use amq_protocol::protocol::{AMQPClass, basic, channel, confirm, connection, exchange, queue};

/// What reached the sink.
#[derive(Default)]
pub struct Counts {
    /// Publishes, complete or begun.
    pub publishes: AtomicU64,
    /// Bytes of any kind.
    pub bytes: AtomicU64,
    /// Set from outside: the sink stops reading, as a broker in trouble does.
    pub stalled: AtomicBool,
}

/// A message that has arrived, with the headers `shard_id` and `seq`; 0 without them.
pub struct Message<'a> {
    pub shard_id: u32,
    pub seq: u64,
    pub routing_key: &'a [u8],
    pub body: &'a [u8],
    /// When its last byte was read, in nanoseconds since 1970.
    pub unix_ns: u64,
}

/// Is called with every message, in the order of its channel.
pub type Observer = Arc<dyn Fn(&Message<'_>) + Send + Sync>;

/// Starts a sink on a free port of the loopback interface. It lives as long as the process.
#[allow(dead_code)] // Not everyone who has a sink starts it so.
pub fn start() -> io::Result<(SocketAddr, Arc<Counts>)> {
    start_observed(None)
}

/// The same, and every message is shown to the observer. That costs the sink, not the publisher.
pub fn start_observed(observer: Option<Observer>) -> io::Result<(SocketAddr, Arc<Counts>)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let counts = Arc::new(Counts::default());
    let shared = counts.clone();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (counts, observer) = (shared.clone(), observer.clone());
            thread::spawn(move || {
                // A publisher that goes away ends its thread and nothing else.
                let _ = serve(stream, &counts, observer.as_ref());
            });
        }
    });
    Ok((address, counts))
}

/// A channel of a publisher.
#[derive(Default)]
struct Channel {
    published: u64,
    confirmed: u64,
    /// What is being published, for an observer: its routing key, header frame and body so far.
    routing_key: Vec<u8>,
    shard_id: u32,
    seq: u64,
    body: Vec<u8>,
    missing: u64,
}

fn serve(mut stream: TcpStream, counts: &Counts, observer: Option<&Observer>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut header = [0; 8];
    stream.read_exact(&mut header)?;
    let start = connection::Start {
        version_major: 0,
        version_minor: 9,
        server_properties: Default::default(),
        mechanisms: "PLAIN".into(),
        locales: "en_US".into(),
    };
    send(&mut stream, 0, AMQPClass::Connection(connection::AMQPMethod::Start(start)))?;
    let mut window = vec![0; 1 << 20];
    let mut filled = 0;
    let mut channels: Vec<Channel> = Vec::new();
    loop {
        while counts.stalled.load(Ordering::Relaxed) {
            thread::sleep(Duration::from_millis(5));
        }
        let count = stream.read(&mut window[filled..])?;
        if count == 0 {
            return Ok(());
        }
        filled += count;
        counts.bytes.fetch_add(count as u64, Ordering::Relaxed);
        let mut at = 0;
        let now = if observer.is_some() { unix_ns() } else { 0 };
        let mut published = 0;
        // type u8 | channel u16 | size u32 | payload | 0xCE
        while let Some(head) = window[at..filled].get(..7) {
            let size = u32::from_be_bytes([head[3], head[4], head[5], head[6]]) as usize;
            let Some(frame) = window[at..filled].get(..size + 8) else { break };
            at += frame.len();
            let number = usize::from(u16::from_be_bytes([frame[1], frame[2]]));
            if channels.len() <= number {
                channels.resize_with(number + 1, Channel::default);
            }
            let channel = &mut channels[number];
            match frame[0] {
                1 if frame[7..11] == [0, 60, 0, 40] => {
                    published += 1;
                    channel.published += 1;
                    if observer.is_some() {
                        channel.begin(&frame[13..]);
                    }
                }
                1 => answer(&mut stream, frame)?,
                2 | 3 => {
                    if let Some(observer) = observer {
                        channel.go_on(frame, now, observer);
                    }
                }
                _ => {}
            }
        }
        window.copy_within(at..filled, 0);
        filled -= at;
        if filled == window.len() {
            return Err(io::Error::other("a frame larger than the window"));
        }
        if published > 0 {
            counts.publishes.fetch_add(published, Ordering::Relaxed);
            for (number, channel) in channels.iter_mut().enumerate() {
                if channel.published > channel.confirmed {
                    channel.confirmed = channel.published;
                    let ack = basic::Ack { delivery_tag: channel.confirmed, multiple: true };
                    send(&mut stream, number as u16, AMQPClass::Basic(basic::AMQPMethod::Ack(ack)))?;
                }
            }
        }
    }
}

impl Channel {
    /// `arguments` of basic.publish after its first two bytes: exchange, routing key.
    fn begin(&mut self, arguments: &[u8]) {
        let key = &arguments[1 + usize::from(arguments[0])..];
        self.routing_key.clear();
        self.routing_key.extend_from_slice(&key[1..][..usize::from(key[0])]);
    }

    /// A frame with the message's header or a piece of its body.
    fn go_on(&mut self, frame: &[u8], unix_ns: u64, observer: &Observer) {
        let payload = &frame[7..frame.len() - 1];
        if frame[0] == 2 {
            // class u16 | weight u16 | body size u64 | property flags and properties
            self.missing = u64::from_be_bytes(payload[4..12].try_into().expect("eight bytes"));
            self.shard_id = integer(payload, b"\x08shard_idI", 4) as u32;
            self.seq = integer(payload, b"\x03seql", 8);
            self.body.clear();
        } else {
            self.body.extend_from_slice(payload);
            self.missing = self.missing.saturating_sub(payload.len() as u64);
        }
        if self.missing == 0 {
            let (routing_key, body) = (&self.routing_key, &self.body);
            let (shard_id, seq) = (self.shard_id, self.seq);
            observer(&Message { shard_id, seq, routing_key, body, unix_ns });
        }
    }
}

/// The integer of so many bytes behind `name`, a table's key with its length and type.
fn integer(header: &[u8], name: &[u8], bytes: usize) -> u64 {
    let at = header.windows(name.len()).position(|part| part == name);
    let value = at.and_then(|at| header.get(at + name.len()..)?.get(..bytes));
    value.map_or(0, |value| value.iter().fold(0, |sum, &byte| sum << 8 | u64::from(byte)))
}

/// Now, in nanoseconds since 1970.
#[allow(clippy::disallowed_methods)] // Not rateway's clock: what arrives here was sent by another process.
pub fn unix_ns() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_nanos() as u64)
}

fn answer(stream: &mut TcpStream, frame: &[u8]) -> io::Result<()> {
    let Ok((_, AMQPFrame::Method(number, method))) = parse_frame(frame) else {
        return Err(io::Error::other("a method that cannot be read"));
    };
    let reply = match method {
        AMQPClass::Connection(connection::AMQPMethod::StartOk(_)) => {
            let tune = connection::Tune { channel_max: 2047, frame_max: 131_072, heartbeat: 60 };
            AMQPClass::Connection(connection::AMQPMethod::Tune(tune))
        }
        AMQPClass::Connection(connection::AMQPMethod::Open(_)) => {
            AMQPClass::Connection(connection::AMQPMethod::OpenOk(connection::OpenOk {}))
        }
        AMQPClass::Connection(connection::AMQPMethod::Close(_)) => {
            AMQPClass::Connection(connection::AMQPMethod::CloseOk(connection::CloseOk {}))
        }
        AMQPClass::Channel(channel::AMQPMethod::Open(_)) => {
            AMQPClass::Channel(channel::AMQPMethod::OpenOk(channel::OpenOk {}))
        }
        AMQPClass::Exchange(exchange::AMQPMethod::Declare(_)) => {
            AMQPClass::Exchange(exchange::AMQPMethod::DeclareOk(exchange::DeclareOk {}))
        }
        AMQPClass::Queue(queue::AMQPMethod::Declare(declare)) => {
            let ok = queue::DeclareOk { queue: declare.queue, message_count: 0, consumer_count: 0 };
            AMQPClass::Queue(queue::AMQPMethod::DeclareOk(ok))
        }
        AMQPClass::Queue(queue::AMQPMethod::Bind(_)) => {
            AMQPClass::Queue(queue::AMQPMethod::BindOk(queue::BindOk {}))
        }
        AMQPClass::Basic(basic::AMQPMethod::Qos(_)) => {
            AMQPClass::Basic(basic::AMQPMethod::QosOk(basic::QosOk {}))
        }
        AMQPClass::Basic(basic::AMQPMethod::Consume(_)) => {
            AMQPClass::Basic(basic::AMQPMethod::ConsumeOk(basic::ConsumeOk { consumer_tag: "sink".into() }))
        }
        AMQPClass::Confirm(confirm::AMQPMethod::Select(_)) => {
            AMQPClass::Confirm(confirm::AMQPMethod::SelectOk(confirm::SelectOk {}))
        }
        _ => return Ok(()),
    };
    send(stream, number, reply)
}

fn send(stream: &mut TcpStream, channel: u16, method: AMQPClass) -> io::Result<()> {
    let frame = AMQPFrame::Method(channel, method);
    let bytes = gen_frame(&frame)(WriteContext::from(Vec::new()))
        .map_err(|error| io::Error::other(error.to_string()))?;
    stream.write_all(&bytes.into_inner().0)
}
