//! What the tests of this directory share: clients that speak frames of amq-protocol to a broker in memory.
#![allow(clippy::disallowed_methods)] // A starting point for arithmetic; nothing depends on its value.

mod attacks;
mod consuming;
mod lives;
mod model;
mod rude;
mod topology;

use std::time::{Duration, Instant};

use amq_protocol::frame::{AMQPContentHeader, AMQPFrame, WriteContext, gen_frame, parse_frame};
use amq_protocol::protocol::{
    AMQPClass, BasicProperties, basic, channel, confirm, connection, exchange, queue,
};
use amq_protocol::types::{AMQPValue, FieldTable};

use super::{Broker, ConnectionId, Fate, Next, Options};
use crate::base::Buf;

pub(super) const SECOND: Duration = Duration::from_secs(1);
pub(super) const HERE: &str = "127.0.0.1:40000";
pub(super) const ELSEWHERE: &str = "192.0.2.7:40000";

pub(super) struct World {
    pub(super) broker: Broker,
    pub(super) now: Instant,
}

/// A client's end of a connection.
pub(super) struct Peer {
    pub(super) id: ConnectionId,
    pub(super) window: Buf,
}

impl World {
    pub(super) fn new(options: Options) -> World {
        let now = Instant::now();
        World { broker: Broker::new(options, 1, now, 1_700_000_000), now }
    }

    pub(super) fn connect_from(&mut self, address: &str) -> Peer {
        let id = self.broker.connect(self.now, address.parse().expect("an address")).expect("room");
        Peer { id, window: Buf::with_capacity(64) }
    }

    /// A client that is through the handshake and understands everything.
    pub(super) fn client(&mut self) -> Peer {
        let mut peer = self.connect_from(HERE);
        self.send_bytes(&mut peer, b"AMQP\x00\x00\x09\x01");
        self.send(&mut peer, [start_ok("PLAIN", "\0guest\0guest")]);
        self.send(&mut peer, [tune_ok(2047, 131_072, 0), open_vhost("/")]);
        let got = self.read(&peer);
        assert_eq!(got.len(), 3, "{got:?}");
        peer
    }

    /// A client with channel 1 open.
    pub(super) fn worker(&mut self) -> Peer {
        let mut peer = self.client();
        self.ask(&mut peer, open(1));
        peer
    }

    pub(super) fn send_bytes(&mut self, peer: &mut Peer, bytes: &[u8]) -> Next {
        peer.window.extend(bytes);
        let next = self.broker.receive(self.now, peer.id, &mut peer.window);
        self.broker.audit();
        next
    }

    pub(super) fn send<const N: usize>(&mut self, peer: &mut Peer, frames: [AMQPFrame; N]) -> Next {
        self.send_bytes(peer, &bytes(&frames))
    }

    /// Ends turns until nothing is left to do.
    pub(super) fn turn(&mut self) {
        for _ in 0..1000 {
            if !self.broker.finish_turn(self.now) {
                self.broker.audit();
                return;
            }
        }
        panic!("the broker finds no end");
    }

    /// What a client was sent, all of it.
    pub(super) fn read(&mut self, peer: &Peer) -> Vec<AMQPFrame> {
        let mut frames = Vec::new();
        loop {
            self.turn();
            let waiting = self.broker.output(peer.id).to_vec();
            if waiting.is_empty() {
                return frames;
            }
            self.broker.advance(self.now, peer.id, waiting.len());
            frames.extend(parsed(&waiting));
        }
    }

    /// Sends one frame and reads the one answer.
    pub(super) fn ask(&mut self, peer: &mut Peer, frame: AMQPFrame) -> AMQPFrame {
        self.send(peer, [frame]);
        let mut answer = self.read(peer);
        assert_eq!(answer.len(), 1, "{answer:?}");
        answer.remove(0)
    }

    /// Sends frames that end the channel, and answers its close.
    pub(super) fn ask_wrong(&mut self, peer: &mut Peer, frames: &[AMQPFrame]) -> (u16, String) {
        self.send_bytes(peer, &bytes(frames));
        let answer = self.read(peer);
        let Some(AMQPFrame::Method(number, AMQPClass::Channel(channel::AMQPMethod::Close(close)))) =
            answer.last()
        else {
            panic!("no channel.close: {answer:?}")
        };
        self.send(peer, [close_ok(*number)]);
        self.ask(peer, open(*number));
        (close.reply_code, close.reply_text.to_string())
    }

    pub(super) fn declare(&mut self, peer: &mut Peer, name: &str) {
        self.ask(peer, declare(1, name, Declare::default()));
    }

    /// Publishes to the default exchange.
    pub(super) fn publish(&mut self, peer: &mut Peer, name: &str, body: &str) {
        self.send_bytes(peer, &bytes(&publish(1, "", name, false, BasicProperties::default(), body)));
    }

    /// Bodies and redelivered marks of what a client was delivered.
    pub(super) fn delivered(&mut self, peer: &Peer) -> Vec<(u64, bool, String)> {
        deliveries(&self.read(peer))
    }

    pub(super) fn pass(&mut self, time: Duration) {
        self.now += time;
        self.broker.handle_deadline(self.now);
        self.turn();
    }

    pub(super) fn is_open(&self, peer: &Peer) -> bool {
        self.broker.fate(peer.id) == Fate::Open
    }

    pub(super) fn hang_up(&mut self, peer: Peer) {
        self.broker.disconnected(self.now, peer.id);
        self.turn();
    }

    /// The reply code of the connection.close that a client got last.
    pub(super) fn closed(&mut self, peer: &Peer) -> (u16, String) {
        match self.read(peer).pop() {
            Some(AMQPFrame::Method(0, AMQPClass::Connection(connection::AMQPMethod::Close(close)))) => {
                (close.reply_code, close.reply_text.to_string())
            }
            other => panic!("no connection.close: {other:?}"),
        }
    }
}

pub(super) fn bytes(frames: &[AMQPFrame]) -> Vec<u8> {
    frames
        .iter()
        .flat_map(|frame| gen_frame(frame)(WriteContext::from(Vec::new())).expect("memory").into_inner().0)
        .collect()
}

pub(super) fn parsed(mut bytes: &[u8]) -> Vec<AMQPFrame> {
    let mut frames = Vec::new();
    while !bytes.is_empty() {
        let (rest, frame) = parse_frame(bytes).expect("the broker wrote a frame that can't be parsed");
        frames.push(frame);
        bytes = rest;
    }
    frames
}

/// Delivery tag, redelivered mark and body of each basic.deliver.
pub(super) fn deliveries(frames: &[AMQPFrame]) -> Vec<(u64, bool, String)> {
    let mut out: Vec<(u64, bool, String)> = Vec::new();
    let mut is_deliver = false;
    for frame in frames {
        match frame {
            AMQPFrame::Method(_, AMQPClass::Basic(basic::AMQPMethod::Deliver(deliver))) => {
                out.push((deliver.delivery_tag, deliver.redelivered, String::new()));
                is_deliver = true;
            }
            AMQPFrame::Method(..) => is_deliver = false,
            AMQPFrame::Body(_, body) if is_deliver => {
                let text = std::str::from_utf8(body).expect("text");
                out.last_mut().expect("a delivery").2.push_str(text);
            }
            _ => {}
        }
    }
    out
}

pub(super) fn m(channel: u16, class: AMQPClass) -> AMQPFrame {
    AMQPFrame::Method(channel, class)
}

pub(super) fn start_ok(mechanism: &str, response: &str) -> AMQPFrame {
    let mut capabilities = FieldTable::default();
    for name in ["consumer_cancel_notify", "connection.blocked", "authentication_failure_close"] {
        capabilities.insert(name.into(), AMQPValue::Boolean(true));
    }
    let mut client_properties = FieldTable::default();
    client_properties.insert("capabilities".into(), AMQPValue::FieldTable(capabilities));
    m(
        0,
        AMQPClass::Connection(connection::AMQPMethod::StartOk(connection::StartOk {
            client_properties,
            mechanism: mechanism.into(),
            response: response.into(),
            locale: "en_US".into(),
        })),
    )
}

pub(super) fn tune_ok(channel_max: u16, frame_max: u32, heartbeat: u16) -> AMQPFrame {
    let tune_ok = connection::TuneOk { channel_max, frame_max, heartbeat };
    m(0, AMQPClass::Connection(connection::AMQPMethod::TuneOk(tune_ok)))
}

pub(super) fn open_vhost(name: &str) -> AMQPFrame {
    let open = connection::Open { virtual_host: name.into() };
    m(0, AMQPClass::Connection(connection::AMQPMethod::Open(open)))
}

pub(super) fn open(number: u16) -> AMQPFrame {
    m(number, AMQPClass::Channel(channel::AMQPMethod::Open(channel::Open {})))
}

pub(super) fn close_ok(number: u16) -> AMQPFrame {
    m(number, AMQPClass::Channel(channel::AMQPMethod::CloseOk(channel::CloseOk {})))
}

#[derive(Default)]
pub(super) struct Declare {
    pub(super) passive: bool,
    pub(super) durable: bool,
    pub(super) exclusive: bool,
    pub(super) auto_delete: bool,
    pub(super) arguments: FieldTable,
}

pub(super) fn table(entries: &[(&str, AMQPValue)]) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in entries {
        table.insert((*name).into(), value.clone());
    }
    table
}

pub(super) fn declare(number: u16, name: &str, declare: Declare) -> AMQPFrame {
    let Declare { passive, durable, exclusive, auto_delete, arguments } = declare;
    m(
        number,
        AMQPClass::Queue(queue::AMQPMethod::Declare(queue::Declare {
            queue: name.into(),
            passive,
            durable,
            exclusive,
            auto_delete,
            nowait: false,
            arguments,
        })),
    )
}

pub(super) fn declare_ok(name: &str, message_count: u32, consumer_count: u32) -> AMQPFrame {
    let ok = queue::DeclareOk { queue: name.into(), message_count, consumer_count };
    m(1, AMQPClass::Queue(queue::AMQPMethod::DeclareOk(ok)))
}

pub(super) fn declare_exchange(
    name: &str,
    kind: &str,
    auto_delete: bool,
    arguments: FieldTable,
) -> AMQPFrame {
    let declare = exchange::Declare {
        exchange: name.into(),
        kind: kind.into(),
        auto_delete,
        arguments,
        ..exchange::Declare::default()
    };
    m(1, AMQPClass::Exchange(exchange::AMQPMethod::Declare(declare)))
}

pub(super) fn bind(name: &str, exchange: &str, routing_key: &str, arguments: FieldTable) -> AMQPFrame {
    let bind = queue::Bind {
        queue: name.into(),
        exchange: exchange.into(),
        routing_key: routing_key.into(),
        nowait: false,
        arguments,
    };
    m(1, AMQPClass::Queue(queue::AMQPMethod::Bind(bind)))
}

pub(super) fn bind_exchange(destination: &str, source: &str, routing_key: &str) -> AMQPFrame {
    let bind = exchange::Bind {
        destination: destination.into(),
        source: source.into(),
        routing_key: routing_key.into(),
        ..exchange::Bind::default()
    };
    m(1, AMQPClass::Exchange(exchange::AMQPMethod::Bind(bind)))
}

pub(super) fn publish(
    number: u16,
    exchange: &str,
    routing_key: &str,
    mandatory: bool,
    properties: BasicProperties,
    body: &str,
) -> Vec<AMQPFrame> {
    let publish = basic::Publish {
        exchange: exchange.into(),
        routing_key: routing_key.into(),
        mandatory,
        immediate: false,
    };
    let header = AMQPContentHeader { class_id: 60, body_size: body.len() as u64, properties };
    let mut frames = vec![
        m(number, AMQPClass::Basic(basic::AMQPMethod::Publish(publish))),
        AMQPFrame::Header(number, header),
    ];
    frames.extend(body.as_bytes().chunks(4088).map(|piece| AMQPFrame::Body(number, piece.to_vec())));
    frames
}

pub(super) fn consume(number: u16, name: &str, tag: &str, no_ack: bool) -> AMQPFrame {
    consume_with(number, name, tag, no_ack, false, FieldTable::default())
}

pub(super) fn consume_with(
    number: u16,
    name: &str,
    tag: &str,
    no_ack: bool,
    exclusive: bool,
    arguments: FieldTable,
) -> AMQPFrame {
    let consume = basic::Consume {
        queue: name.into(),
        consumer_tag: tag.into(),
        no_ack,
        exclusive,
        arguments,
        ..basic::Consume::default()
    };
    m(number, AMQPClass::Basic(basic::AMQPMethod::Consume(consume)))
}

pub(super) fn ack(number: u16, delivery_tag: u64, multiple: bool) -> AMQPFrame {
    m(number, AMQPClass::Basic(basic::AMQPMethod::Ack(basic::Ack { delivery_tag, multiple })))
}

pub(super) fn nack(number: u16, delivery_tag: u64, multiple: bool, requeue: bool) -> AMQPFrame {
    let nack = basic::Nack { delivery_tag, multiple, requeue };
    m(number, AMQPClass::Basic(basic::AMQPMethod::Nack(nack)))
}

pub(super) fn qos(number: u16, prefetch_count: u16, global: bool) -> AMQPFrame {
    m(number, AMQPClass::Basic(basic::AMQPMethod::Qos(basic::Qos { prefetch_count, global })))
}

pub(super) fn get(name: &str, no_ack: bool) -> AMQPFrame {
    m(1, AMQPClass::Basic(basic::AMQPMethod::Get(basic::Get { queue: name.into(), no_ack })))
}

pub(super) fn select() -> AMQPFrame {
    m(1, AMQPClass::Confirm(confirm::AMQPMethod::Select(confirm::Select { nowait: false })))
}
