//! Bodies of fuzz targets: clients that say anything, to a broker that is audited after each word.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use amq_protocol::frame::parsing::parse_content_header;
use amq_protocol::frame::{AMQPContentHeader, AMQPFrame, WriteContext, gen_frame};
use amq_protocol::protocol::{
    AMQPClass, BasicProperties, basic, channel, confirm, connection, exchange, queue,
};
use amq_protocol::types::{AMQPValue, FieldTable, ShortString};

use super::command::{self, Command};
use super::{Broker, ConnectionId, Fate, Options, matching, properties};
use crate::amqp::frame::FrameKind;
use crate::amqp::fuzz::{REFERENCE_BYTES_MAX, reference_class};
use crate::base::Buf;

const CLIENTS: usize = 4;

struct World {
    broker: Broker,
    now: Instant,
    clients: Vec<(ConnectionId, Buf)>,
}

impl World {
    fn new(now: Instant) -> World {
        let options = Options {
            memory_bytes: 20_000,
            queues_max: 16,
            exchanges_max: 16,
            bindings_max: 32,
            consumers_max: 16,
            channels_max: 7,
            message_bytes_max: 100_000,
            outgoing_bytes_max: 4000,
            content_bytes_max: 150_000,
            unfinished_bytes_max: 0,
            frame_max: 8192,
            unacked_max: 64,
            ..Options::default()
        };
        World { broker: Broker::new(options, 7, now, 0), now, clients: Vec::new() }
    }

    fn connect(&mut self) -> (ConnectionId, Buf) {
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        let id = self.broker.connect(self.now, address).expect("far below the limit");
        (id, Buf::default())
    }

    /// A client that is through the handshake, with channels 1 and 2 open.
    fn open(&mut self) -> (ConnectionId, Buf) {
        let (id, mut window) = self.connect();
        let mut capabilities = FieldTable::default();
        for name in ["consumer_cancel_notify", "connection.blocked", "authentication_failure_close"] {
            capabilities.insert(name.into(), AMQPValue::Boolean(true));
        }
        let mut client_properties = FieldTable::default();
        client_properties.insert("capabilities".into(), AMQPValue::FieldTable(capabilities));
        let start_ok = connection::StartOk {
            client_properties,
            mechanism: "PLAIN".into(),
            response: "\0guest\0guest".into(),
            locale: "".into(),
        };
        let tune_ok = connection::TuneOk { channel_max: 0, frame_max: 0, heartbeat: 30 };
        let open = connection::Open { virtual_host: "/".into() };
        window.extend(b"AMQP\x00\x00\x09\x01");
        for method in [
            connection::AMQPMethod::StartOk(start_ok),
            connection::AMQPMethod::TuneOk(tune_ok),
            connection::AMQPMethod::Open(open),
        ] {
            window.extend(&written(AMQPFrame::Method(0, AMQPClass::Connection(method))));
        }
        for number in [1, 2] {
            window.extend(&written(opened(number)));
        }
        self.broker.receive(self.now, id, &mut window);
        (id, window)
    }

    fn say(&mut self, client: usize, bytes: &[u8]) {
        let Some((id, window)) = self.clients.get_mut(client) else { return };
        window.extend(bytes);
        self.broker.receive(self.now, *id, window);
    }

    /// Ends the turn and lets clients read, each at most so much.
    fn turn(&mut self, octets: usize) {
        self.broker.finish_turn(self.now);
        while let Some(id) = self.broker.poll_output() {
            let length = self.broker.output(id).len().min(octets);
            self.broker.advance(self.now, id, length);
        }
        while let Some(id) = self.broker.poll_resumed() {
            if let Some((_, window)) = self.clients.iter_mut().find(|(other, _)| *other == id) {
                self.broker.receive(self.now, id, window);
            }
        }
        while self.broker.poll_notice().is_some() {}
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.broker.handle_deadline(self.now);
    }

    /// Takes the place of a client that is over, or is to go.
    fn replace(&mut self, client: usize, is_open: bool) {
        let Some((id, _)) = self.clients.get(client) else { return };
        self.broker.disconnected(self.now, *id);
        let new = if is_open { self.open() } else { self.connect() };
        if let Some(place) = self.clients.get_mut(client) {
            *place = new;
        }
    }

    /// Everybody leaves: only what is in queues that nobody owns may be left.
    fn end(mut self) {
        for (id, _) in std::mem::take(&mut self.clients) {
            self.broker.disconnected(self.now, id);
        }
        for _ in 0..64 {
            self.broker.finish_turn(self.now);
        }
        self.broker.audit();
        let stats = self.broker.stats();
        assert_eq!((stats.connections, stats.consumers), (0, 0));
        assert!(stats.queues > 0 || self.broker.has_work() || stats.message_bytes == 0);
    }
}

fn written(frame: AMQPFrame) -> Vec<u8> {
    gen_frame(&frame)(WriteContext::from(Vec::new()))
        .map(|context| context.into_inner().0)
        .unwrap_or_default()
}

fn opened(number: u16) -> AMQPFrame {
    AMQPFrame::Method(number, AMQPClass::Channel(channel::AMQPMethod::Open(channel::Open {})))
}

/// Pieces of bytes from several clients, some of whom are through the handshake.
pub fn bytes(now: Instant, bytes: &[u8]) {
    let mut world = World::new(now);
    for client in 0..CLIENTS {
        let new = if client % 2 == 0 { world.open() } else { world.connect() };
        world.clients.push(new);
    }
    let mut rest = bytes;
    while let [head, length, tail @ ..] = rest {
        let (client, action) = (usize::from(head % 4), head >> 2);
        let (piece, tail) = tail.split_at(tail.len().min(usize::from(*length)));
        rest = tail;
        match action {
            0 => world.pass(Duration::from_millis(u64::from(*length) * 100)),
            1 => world.replace(client, length % 2 == 0),
            _ => world.say(client, piece),
        }
        world.turn(if action % 2 == 0 { usize::MAX } else { 500 });
        world.broker.audit();
    }
    world.end();
}

/// Well-formed methods of several clients: what must hold whatever their order.
pub fn operations(now: Instant, bytes: &[u8]) {
    let mut world = World::new(now);
    for _ in 0..CLIENTS {
        let new = world.open();
        world.clients.push(new);
    }
    for step in bytes.chunks_exact(4) {
        let [who, what, a, b] = *step else { continue };
        let client = usize::from(who % CLIENTS as u8);
        let number = u16::from(who >> 4 & 1) + 1;
        match what % 24 {
            22 => world.pass(Duration::from_millis(u64::from(a) << (b % 12))),
            23 => world.replace(client, true),
            what => {
                for frame in frames(what, number, a, b) {
                    world.say(client, &written(frame));
                }
            }
        }
        if who & 0x20 != 0 {
            world.turn(if who & 0x40 != 0 { 300 } else { usize::MAX });
        }
        world.broker.audit();
        if let Some((id, _)) = world.clients.get(client)
            && world.broker.fate(*id) != Fate::Open
        {
            world.replace(client, true);
        }
    }
    world.end();
}

/// A client's frames: what is read of methods and content headers is what amq-protocol reads, and a change to a header
/// changes nothing else of it.
pub fn codec(bytes: &[u8], frame_max: u32) {
    for frame in crate::amqp::fuzz::frames(bytes, frame_max) {
        match frame.kind {
            FrameKind::Method => compare_command(frame.payload),
            FrameKind::Header => compare_properties(frame.payload),
            FrameKind::Body | FrameKind::Heartbeat => {}
        }
    }
}

fn compare_command(payload: &[u8]) {
    let Some(theirs) = reference_class(payload) else { return };
    // Of methods that only a server sends, and of transactions, there is nothing to compare.
    let Ok(ours) = command::parse(payload) else { return };
    let again = written(AMQPFrame::Method(1, theirs));
    let again =
        command::parse(&again[7..again.len() - 1]).expect("a command is one when it is written again");
    assert_eq!(without_table(again), without_table(ours));
}

/// What of a command amq-protocol writes as it was: it sorts tables.
fn without_table(mut command: Command<'_>) -> Command<'_> {
    match &mut command {
        Command::StartOk { properties: table, .. }
        | Command::ExchangeDeclare(command::ExchangeDeclare { arguments: table, .. })
        | Command::QueueDeclare(command::QueueDeclare { arguments: table, .. })
        | Command::ExchangeBind(command::Bind { arguments: table, .. })
        | Command::ExchangeUnbind(command::Bind { arguments: table, .. })
        | Command::QueueBind(command::Bind { arguments: table, .. })
        | Command::QueueUnbind(command::Bind { arguments: table, .. })
        | Command::Consume(command::Consume { arguments: table, .. }) => *table = b"",
        // It leaves this field out.
        Command::Qos { prefetch_bytes, .. } => *prefetch_bytes = 0,
        _ => {}
    }
    command
}

fn compare_properties(payload: &[u8]) {
    let Some(ours) = properties::parse(payload) else { return };
    if payload.len() <= REFERENCE_BYTES_MAX
        && let Ok(([], theirs)) = parse_content_header(payload)
    {
        let text = |text: &Option<ShortString>| text.as_ref().map(|text| text.as_str().as_bytes().to_vec());
        let theirs = theirs.properties;
        assert_eq!(ours.reply_to.map(<[u8]>::to_vec), text(theirs.reply_to()));
        assert_eq!(ours.expiration.map(<[u8]>::to_vec), text(theirs.expiration()));
        assert_eq!(ours.user_id.map(<[u8]>::to_vec), text(theirs.user_id()));
        assert_eq!(ours.headers.is_some(), theirs.headers().is_some());
    }
    let changed = properties::with_reply_to(payload, &ours, b"there");
    let read = properties::parse(&changed).expect("a header is one after a change");
    assert_eq!(read.reply_to, Some(b"there".as_slice()));
    assert_eq!((read.headers, read.expiration, read.user_id), (ours.headers, ours.expiration, ours.user_id));
    if let Some(reply_to) = ours.reply_to {
        assert_eq!(properties::with_reply_to(&changed, &read, reply_to), payload);
    }
    let table = b"\x01bt\x01";
    let dead = properties::dead_lettered(payload, &ours, table);
    let read = properties::parse(&dead).expect("a header is one after a change");
    assert_eq!((read.headers, read.expiration), (Some(table.as_slice()), None));
    assert_eq!((read.reply_to, read.user_id), (ours.reply_to, ours.user_id));
}

/// A topic exchange's pattern and a key, out of few words, next to a matcher that tries everything.
pub fn pattern(bytes: &[u8]) {
    let Some((first, rest)) = bytes.split_first() else { return };
    let rest = &rest[..rest.len().min(60)];
    let (pattern, key) = rest.split_at(usize::from(*first).min(rest.len()));
    let text = |bytes: &[u8], words: [&'static str; 8]| {
        bytes.iter().map(|byte| words[usize::from(byte % 8)]).collect::<Vec<_>>().join(".")
    };
    let pattern = text(pattern, ["#", "*", "a", "b", "", "#", "aa", "*a"]);
    let key = text(key, ["a", "b", "a", "b", "", "#", "aa", "*"]);
    let (pattern, key) = (matching::words(pattern.as_bytes()), matching::words(key.as_bytes()));
    // What is at [i][j]: whether the first i words of the pattern take the first j of the key.
    let mut takes = vec![vec![false; key.len() + 1]; pattern.len() + 1];
    takes[0][0] = true;
    for (i, word) in pattern.iter().enumerate() {
        for j in 0..=key.len() {
            takes[i + 1][j] = match *word {
                b"#" => takes[i][j] || j > 0 && takes[i + 1][j - 1],
                b"*" => j > 0 && takes[i][j - 1],
                word => j > 0 && takes[i][j - 1] && key[j - 1] == word,
            };
        }
    }
    assert_eq!(matching::topic(&pattern, &key), takes[pattern.len()][key.len()], "{pattern:?} {key:?}");
}

fn queue_name(n: u8) -> String {
    if n % 8 == 7 { String::new() } else { format!("q{}", n % 8) }
}

fn exchange_name(n: u8) -> String {
    match n % 8 {
        0 => String::new(),
        1 => "amq.direct".to_owned(),
        2 => "amq.fanout".to_owned(),
        3 => "amq.topic".to_owned(),
        4 => "amq.headers".to_owned(),
        n => format!("e{n}"),
    }
}

fn key(n: u8) -> &'static str {
    ["", "a", "a.b", "a.*", "#", "q0", "q1", "#.b"].get(usize::from(n % 8)).copied().unwrap_or_default()
}

fn arguments(n: u8) -> FieldTable {
    let mut table = FieldTable::default();
    let text = |text: &str| AMQPValue::LongString(text.into());
    for (bit, name, value) in [
        (1, "x-max-length", AMQPValue::LongInt(i32::from(n >> 6))),
        (2, "x-message-ttl", AMQPValue::LongInt(50)),
        (4, "x-dead-letter-exchange", text("amq.fanout")),
        (8, "x-overflow", text("reject-publish-dlx")),
        (16, "x-expires", AMQPValue::LongInt(1000)),
        (32, "x-single-active-consumer", AMQPValue::Boolean(true)),
    ] {
        if n & bit != 0 {
            table.insert(name.into(), value);
        }
    }
    table
}

fn frames(what: u8, number: u16, a: u8, b: u8) -> Vec<AMQPFrame> {
    let bit = |mask: u8| b & mask != 0;
    let class = match what {
        0 => AMQPClass::Channel(channel::AMQPMethod::Open(channel::Open {})),
        1 => AMQPClass::Channel(channel::AMQPMethod::Close(channel::Close::default())),
        2 => AMQPClass::Channel(channel::AMQPMethod::CloseOk(channel::CloseOk {})),
        3 => AMQPClass::Queue(queue::AMQPMethod::Declare(queue::Declare {
            queue: queue_name(a).into(),
            exclusive: bit(1),
            auto_delete: bit(2),
            passive: bit(4),
            arguments: if bit(8) { arguments(a.rotate_left(3) ^ b) } else { FieldTable::default() },
            ..queue::Declare::default()
        })),
        4 => AMQPClass::Queue(queue::AMQPMethod::Delete(queue::Delete {
            queue: queue_name(a).into(),
            if_unused: bit(1),
            if_empty: bit(2),
            nowait: bit(4),
        })),
        5 => AMQPClass::Queue(queue::AMQPMethod::Bind(queue::Bind {
            queue: queue_name(a).into(),
            exchange: exchange_name(b).into(),
            routing_key: key(a >> 3).into(),
            ..queue::Bind::default()
        })),
        6 => AMQPClass::Queue(queue::AMQPMethod::Unbind(queue::Unbind {
            queue: queue_name(a).into(),
            exchange: exchange_name(b).into(),
            routing_key: key(a >> 3).into(),
            arguments: FieldTable::default(),
        })),
        7 => AMQPClass::Queue(queue::AMQPMethod::Purge(queue::Purge {
            queue: queue_name(a).into(),
            nowait: bit(1),
        })),
        8 => AMQPClass::Exchange(exchange::AMQPMethod::Declare(exchange::Declare {
            exchange: exchange_name(a).into(),
            kind: ["direct", "fanout", "topic", "headers"][usize::from(b % 4)].into(),
            auto_delete: bit(16),
            internal: bit(32),
            ..exchange::Declare::default()
        })),
        9 => AMQPClass::Exchange(exchange::AMQPMethod::Delete(exchange::Delete {
            exchange: exchange_name(a).into(),
            if_unused: bit(1),
            nowait: bit(2),
        })),
        10 => AMQPClass::Exchange(exchange::AMQPMethod::Bind(exchange::Bind {
            destination: exchange_name(a).into(),
            source: exchange_name(b).into(),
            routing_key: key(a >> 3).into(),
            ..exchange::Bind::default()
        })),
        11 | 12 => AMQPClass::Basic(basic::AMQPMethod::Consume(basic::Consume {
            queue: if bit(64) { "amq.rabbitmq.reply-to".into() } else { queue_name(a).into() },
            consumer_tag: if bit(1) { format!("t{}", a >> 5).into() } else { "".into() },
            no_ack: bit(2),
            exclusive: bit(4) && bit(8),
            ..basic::Consume::default()
        })),
        13 => AMQPClass::Basic(basic::AMQPMethod::Cancel(basic::Cancel {
            consumer_tag: format!("t{}", a >> 5).into(),
            nowait: bit(1),
        })),
        14 => AMQPClass::Basic(basic::AMQPMethod::Get(basic::Get {
            queue: queue_name(a).into(),
            no_ack: bit(1),
        })),
        15 => AMQPClass::Basic(basic::AMQPMethod::Ack(basic::Ack {
            delivery_tag: u64::from(a % 16),
            multiple: bit(1),
        })),
        16 => AMQPClass::Basic(basic::AMQPMethod::Nack(basic::Nack {
            delivery_tag: u64::from(a % 16),
            multiple: bit(1),
            requeue: bit(2),
        })),
        17 => AMQPClass::Basic(basic::AMQPMethod::Qos(basic::Qos {
            prefetch_count: u16::from(a % 8),
            global: bit(1),
        })),
        18 => AMQPClass::Confirm(confirm::AMQPMethod::Select(confirm::Select { nowait: bit(1) })),
        19 => AMQPClass::Basic(basic::AMQPMethod::Recover(basic::Recover { requeue: true })),
        _ => {
            let mut properties = BasicProperties::default();
            if bit(2) {
                properties = properties.with_expiration(format!("{}", a % 64).into());
            }
            if bit(4) {
                properties = properties.with_reply_to("amq.rabbitmq.reply-to".into());
            }
            let is_unfinished = what == 21 && bit(8);
            let length = if is_unfinished { 90_000 } else { usize::from(b) * usize::from(b >> 5) * 8 };
            let body = vec![a; length];
            let publish = basic::Publish {
                exchange: exchange_name(a).into(),
                routing_key: key(a >> 3).into(),
                mandatory: bit(1),
                immediate: false,
            };
            let header = AMQPContentHeader { class_id: 60, body_size: body.len() as u64, properties };
            let mut frames = vec![
                AMQPFrame::Method(number, AMQPClass::Basic(basic::AMQPMethod::Publish(publish))),
                AMQPFrame::Header(number, header),
            ];
            frames.extend(body.chunks(4000).map(|piece| AMQPFrame::Body(number, piece.to_vec())));
            if is_unfinished && bit(128) {
                frames.truncate(2 + usize::from(a) % 23);
            }
            return frames;
        }
    };
    vec![AMQPFrame::Method(number, class)]
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)] // A starting point for arithmetic; nothing depends on its value.
mod tests {
    use super::*;
    use crate::base::Rng;

    #[test]
    fn random_words_do_not_hurt() {
        let now = Instant::now();
        for seed in 0..200 {
            let mut rng = Rng::new(seed);
            let any: Vec<u8> = (0..1200).map(|_| rng.next_u64() as u8).collect();
            operations(now, &any);
            bytes(now, &any);
        }
    }
}
