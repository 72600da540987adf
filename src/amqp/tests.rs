//! What the tests of this directory share, and the client against a scripted broker.
#![allow(clippy::disallowed_methods)] // A starting point for arithmetic; nothing depends on its value.

mod channels;
mod handshake;
mod rude;

use std::time::{Duration, Instant};

use amq_protocol::frame::{AMQPContentHeader, AMQPFrame, WriteContext, gen_frame, parse_frame};
use amq_protocol::protocol::{
    AMQPClass, BasicProperties, basic, channel, confirm, connection, exchange, queue,
};
use amq_protocol::types::{AMQPValue, FieldTable};

use super::client::{CONSUME_CHANNEL as C2, PUBLISH_CHANNEL as C1};
use super::{Client, Error, Event, Options};
use crate::base::{Buf, Secret};

pub(super) fn seed() -> u64 {
    let seed = std::env::var("RATEWAY_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(20_260_101);
    println!("RATEWAY_SEED={seed}");
    seed
}

pub(super) fn reference(frames: &[AMQPFrame]) -> Vec<u8> {
    frames
        .iter()
        .flat_map(|frame| gen_frame(frame)(WriteContext::from(Vec::new())).unwrap().into_inner().0)
        .collect()
}

pub(super) fn parse_frames(mut bytes: &[u8]) -> Vec<AMQPFrame> {
    let mut frames = Vec::new();
    while !bytes.is_empty() {
        let (rest, frame) = parse_frame(bytes).expect("the client wrote a frame that can't be parsed");
        frames.push(frame);
        bytes = rest;
    }
    frames
}

const SECOND: Duration = Duration::from_secs(1);

fn options() -> Options {
    Options {
        exchange: "rateway-1".into(),
        queue: "rateway-incoming-1".into(),
        binding_keys: vec!["cache".into(), "gateway".into()],
        prefetch: 10,
        vhost: "v".into(),
        user: "user".into(),
        password: Secret::new("hunter2"),
        heartbeat: Duration::from_secs(60),
        connection_name: "rateway-1 of test".into(),
        delivery_bytes_max: 100,
        ..Options::default()
    }
}

/// A client with a broker that says and expects exact bytes, under a clock that only moves when told.
struct Script {
    client: Client,
    input: Buf,
    now: Instant,
}

impl Script {
    fn new(options: Options) -> Script {
        let now = Instant::now();
        Script { client: Client::new(options, now), input: Buf::with_capacity(64), now }
    }

    /// The broker sends `frames`.
    fn try_say(&mut self, frames: &[AMQPFrame]) -> Result<(), Error> {
        self.input.extend(&reference(frames));
        self.client.receive(self.now, &mut self.input)
    }

    fn say(&mut self, frame: AMQPFrame) {
        self.try_say(&[frame]).expect("the client refused a polite broker");
        assert!(self.input.is_empty());
    }

    /// What the client wrote, as bytes.
    fn written(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        self.client.transmit(&mut out);
        out
    }

    /// The client wrote exactly this.
    #[track_caller]
    fn expect(&mut self, frames: &[AMQPFrame]) {
        let written = self.written();
        assert_eq!(parse_frames(&written), frames);
        assert_eq!(written, reference(frames));
    }

    #[track_caller]
    fn expect_events(&mut self, want: &[Event]) {
        let got: Vec<Event> = std::iter::from_fn(|| self.client.poll_event()).collect();
        assert_eq!(got, want);
    }

    /// Moves the clock to the client's deadline and lets it act.
    fn deadline(&mut self) -> Result<(), Error> {
        let at = self.client.poll_timeout().expect("a deadline");
        self.now = self.now.max(at);
        self.client.handle_deadline(self.now)
    }

    fn pass(&mut self, time: Duration) -> Result<(), Error> {
        self.now += time;
        self.client.handle_deadline(self.now)
    }

    /// Through the handshake until the connection is open and channel 2 is asked for.
    fn connected(options: Options) -> Script {
        let mut script = Script::new(options);
        assert_eq!(script.written(), b"AMQP\x00\x00\x09\x01");
        script.say(start("PLAIN AMQPLAIN"));
        script.written();
        script.say(tune(2047, 131_072, 60));
        script.written();
        script.say(m(0, AMQPClass::Connection(connection::AMQPMethod::OpenOk(connection::OpenOk {}))));
        script.expect(&[open(C2)]);
        script
    }

    /// As [`Script::connected`], then until both channels run.
    fn ready(options: Options) -> Script {
        let mut script = Script::connected(options);
        script.consumer_up();
        script.say(open_ok(C1));
        script.expect(&[declare_exchange(C1, false)]);
        script.say(exchange_ok(C1));
        script.expect(&[select()]);
        script.expect_events(&[]);
        script.say(select_ok());
        script.expect_events(&[Event::PublishReady { frame_max: 131_072 }]);
        script
    }

    /// From channel 2's open to its running.
    fn consumer_up(&mut self) {
        self.say(open_ok(C2));
        self.expect(&[declare_exchange(C2, false)]);
        self.say(exchange_ok(C2));
        self.expect(&[declare_queue(false, false)]);
        self.queue_declared();
    }

    /// From the queue's declare-ok to channel 2's running.
    fn queue_declared(&mut self) {
        self.say(queue_ok());
        self.expect(&[bind("cache")]);
        self.say(bind_ok());
        self.expect(&[bind("gateway")]);
        self.say(bind_ok());
        self.expect(&[qos()]);
        self.say(m(C2, AMQPClass::Basic(basic::AMQPMethod::QosOk(basic::QosOk {}))));
        self.expect(&[consume()]);
        let first = !self.client.ready;
        let ok = basic::ConsumeOk { consumer_tag: "rateway".into() };
        self.say(m(C2, AMQPClass::Basic(basic::AMQPMethod::ConsumeOk(ok))));
        // Once the consumer runs for the first time, channel 1 is opened.
        if first {
            self.expect(&[open(C1)]);
        } else {
            self.expect(&[]);
        }
    }
}

fn m(channel: u16, class: AMQPClass) -> AMQPFrame {
    AMQPFrame::Method(channel, class)
}

fn start(mechanisms: &str) -> AMQPFrame {
    let mut capabilities = FieldTable::default();
    capabilities.insert("publisher_confirms".into(), AMQPValue::Boolean(true));
    let mut server_properties = FieldTable::default();
    server_properties.insert("product".into(), AMQPValue::LongString("RabbitMQ".into()));
    server_properties.insert("capabilities".into(), AMQPValue::FieldTable(capabilities));
    let start = connection::Start {
        version_major: 0,
        version_minor: 9,
        server_properties,
        mechanisms: mechanisms.into(),
        locales: "en_US".into(),
    };
    m(0, AMQPClass::Connection(connection::AMQPMethod::Start(start)))
}

fn tune(channel_max: u16, frame_max: u32, heartbeat: u16) -> AMQPFrame {
    let tune = connection::Tune { channel_max, frame_max, heartbeat };
    m(0, AMQPClass::Connection(connection::AMQPMethod::Tune(tune)))
}

fn close_connection(reply_code: u16, text: &str, (class_id, method_id): (u16, u16)) -> AMQPFrame {
    let close = connection::Close { reply_code, reply_text: text.into(), class_id, method_id };
    m(0, AMQPClass::Connection(connection::AMQPMethod::Close(close)))
}

fn connection_close_ok() -> AMQPFrame {
    m(0, AMQPClass::Connection(connection::AMQPMethod::CloseOk(connection::CloseOk {})))
}

fn open(number: u16) -> AMQPFrame {
    m(number, AMQPClass::Channel(channel::AMQPMethod::Open(channel::Open {})))
}

fn open_ok(number: u16) -> AMQPFrame {
    m(number, AMQPClass::Channel(channel::AMQPMethod::OpenOk(channel::OpenOk {})))
}

fn close_channel(number: u16, reply_code: u16, text: &str) -> AMQPFrame {
    let close = channel::Close { reply_code, reply_text: text.into(), class_id: 0, method_id: 0 };
    m(number, AMQPClass::Channel(channel::AMQPMethod::Close(close)))
}

fn close_ok(number: u16) -> AMQPFrame {
    m(number, AMQPClass::Channel(channel::AMQPMethod::CloseOk(channel::CloseOk {})))
}

fn declare_exchange(number: u16, passive: bool) -> AMQPFrame {
    let declare = exchange::Declare {
        exchange: "rateway-1".into(),
        kind: "direct".into(),
        passive,
        durable: true,
        ..Default::default()
    };
    m(number, AMQPClass::Exchange(exchange::AMQPMethod::Declare(declare)))
}

fn exchange_ok(number: u16) -> AMQPFrame {
    m(number, AMQPClass::Exchange(exchange::AMQPMethod::DeclareOk(exchange::DeclareOk {})))
}

fn declare_queue(passive: bool, durable: bool) -> AMQPFrame {
    let declare =
        queue::Declare { queue: "rateway-incoming-1".into(), passive, durable, ..Default::default() };
    m(C2, AMQPClass::Queue(queue::AMQPMethod::Declare(declare)))
}

fn queue_ok() -> AMQPFrame {
    let ok = queue::DeclareOk { queue: "rateway-incoming-1".into(), message_count: 3, consumer_count: 0 };
    m(C2, AMQPClass::Queue(queue::AMQPMethod::DeclareOk(ok)))
}

fn bind(key: &str) -> AMQPFrame {
    let bind = queue::Bind {
        queue: "rateway-incoming-1".into(),
        exchange: "rateway-1".into(),
        routing_key: key.into(),
        ..Default::default()
    };
    m(C2, AMQPClass::Queue(queue::AMQPMethod::Bind(bind)))
}

fn bind_ok() -> AMQPFrame {
    m(C2, AMQPClass::Queue(queue::AMQPMethod::BindOk(queue::BindOk {})))
}

fn qos() -> AMQPFrame {
    let qos = basic::Qos { prefetch_count: 10, global: false };
    m(C2, AMQPClass::Basic(basic::AMQPMethod::Qos(qos)))
}

fn consume() -> AMQPFrame {
    let consume = basic::Consume {
        queue: "rateway-incoming-1".into(),
        consumer_tag: "rateway".into(),
        ..Default::default()
    };
    m(C2, AMQPClass::Basic(basic::AMQPMethod::Consume(consume)))
}

fn select() -> AMQPFrame {
    m(C1, AMQPClass::Confirm(confirm::AMQPMethod::Select(confirm::Select { nowait: false })))
}

fn select_ok() -> AMQPFrame {
    m(C1, AMQPClass::Confirm(confirm::AMQPMethod::SelectOk(confirm::SelectOk {})))
}

fn ack(number: u16, delivery_tag: u64, multiple: bool) -> AMQPFrame {
    m(number, AMQPClass::Basic(basic::AMQPMethod::Ack(basic::Ack { delivery_tag, multiple })))
}

fn nack(delivery_tag: u64) -> AMQPFrame {
    let nack = basic::Nack { delivery_tag, multiple: false, requeue: false };
    m(C1, AMQPClass::Basic(basic::AMQPMethod::Nack(nack)))
}

fn deliver(delivery_tag: u64, properties: BasicProperties, body: &[u8]) -> Vec<AMQPFrame> {
    let deliver = basic::Deliver {
        consumer_tag: "rateway".into(),
        delivery_tag,
        redelivered: false,
        exchange: "rateway-1".into(),
        routing_key: "gateway".into(),
    };
    let header = AMQPContentHeader { class_id: 60, body_size: body.len() as u64, properties };
    let mut frames =
        vec![m(C2, AMQPClass::Basic(basic::AMQPMethod::Deliver(deliver))), AMQPFrame::Header(C2, header)];
    frames.extend(body.chunks(4088).map(|piece| AMQPFrame::Body(C2, piece.to_vec())));
    frames
}
