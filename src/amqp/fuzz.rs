//! Bodies of fuzz targets: each takes any bytes and has to return. What must hold besides is asserted here.

use std::time::Instant;

use amq_protocol::frame::AMQPFrameType;
use amq_protocol::frame::parsing::{parse_content_header, parse_frame_type, parse_raw_frame};
use amq_protocol::protocol::{AMQPClass, basic, connection, parse_class};

use super::content::properties;
use super::frame::{Cut, Frame, FrameKind, cut};
use super::method::{self, Method};
use super::publish::routing_key;
use super::reader::Reader;
use super::worker::{self, Worker};
use super::{Client, Error, Event, EventPublish, Options, event_len, frame_event, reframe};
use crate::base::Buf;

/// amq-protocol reads nested tables by recursion: it is asked about no more than this.
pub(crate) const REFERENCE_BYTES_MAX: usize = 2000;

/// A broker that says `bytes` in pieces of `piece` octets, to a client that acknowledges and reopens.
pub fn client(now: Instant, bytes: &[u8], piece: usize) {
    let mut client =
        Client::new(Options { binding_keys: vec!["gateway".to_owned()], ..Options::default() }, now);
    let mut input = Buf::with_capacity(1024);
    let mut out = Vec::new();
    for piece in bytes.chunks(piece.max(1)) {
        input.extend(piece);
        let received = client.receive(now, &mut input);
        while let Some(event) = client.poll_event() {
            match event {
                Event::Delivery(delivery) => client.ack(delivery.delivery_tag),
                Event::Nack { .. } => client.reopen_publish_channel(),
                _ => {}
            }
        }
        client.transmit(&mut out);
        if received.is_err() {
            assert!(client.poll_timeout().is_none(), "a client that is over has nothing to wait for");
            return;
        }
    }
}

/// An outbox that holds `bytes`: what is read as publishes, and marked, is read and marked again to the same.
pub fn repeat(bytes: &[u8], frame_max: u32) {
    let mut once = Vec::new();
    if let Ok(count) = reframe(bytes, frame_max, true, &mut once) {
        let mut twice = Vec::new();
        assert_eq!(reframe(&once, frame_max, true, &mut twice), Ok(count));
        assert_eq!(once, twice);
    } else {
        assert!(once.is_empty());
    }
}

/// A broker that says `bytes` in pieces of `piece` octets, to a worker that asks for what there is to ask for.
pub fn worker(now: Instant, bytes: &[u8], piece: usize) {
    let mut worker = Worker::new(Options::default(), now);
    let mut input = Buf::with_capacity(1024);
    let mut out = Vec::new();
    for piece in bytes.chunks(piece.max(1)) {
        input.extend(piece);
        let received = worker.receive(now, &mut input);
        while let Some(event) = worker.poll_event() {
            match event {
                worker::Event::Opened => worker.open_channel(1),
                worker::Event::Message(message) => {
                    assert!(message.body.len() <= bytes.len(), "more than was sent");
                    worker.ack_through(1, message.delivery_tag);
                }
                worker::Event::ChannelClosed { channel, text, .. } => {
                    assert!(!text.contains(char::is_control), "a broker's words go to a terminal");
                    worker.open_channel(channel);
                }
                _ => {}
            }
        }
        worker.transmit(&mut out);
        if received.is_err() {
            assert!(worker.poll_timeout(now).is_none(), "a worker that is over has nothing to wait for");
            return;
        }
    }
}

/// The frames at the front of `bytes`: cut where amq-protocol cuts them, and at no place before.
pub(crate) fn frames(bytes: &[u8], frame_max: u32) -> Vec<Frame<'_>> {
    let (mut frames, mut rest) = (Vec::new(), bytes);
    loop {
        match cut(rest, frame_max) {
            Ok(Cut::Frame(frame)) => {
                let length = frame.wire_len();
                assert!(length <= rest.len() && length <= frame_max.max(8) as usize);
                for part in [1, 6, 7, length - 1] {
                    let missing = cut(&rest[..part.min(length - 1)], frame_max);
                    assert!(
                        matches!(missing, Ok(Cut::Missing(n)) if n >= 1 && part.min(length - 1) + n <= length)
                    );
                }
                let (after, kind) = parse_frame_type(rest).expect("a type that is known");
                let (after, raw) = parse_raw_frame(kind)(after).expect("a frame");
                assert_eq!((raw.channel_id, raw.payload), (frame.channel, frame.payload));
                assert_eq!(after.len(), rest.len() - length);
                let is_same = match frame.kind {
                    FrameKind::Method => kind == AMQPFrameType::Method,
                    FrameKind::Header => kind == AMQPFrameType::Header,
                    FrameKind::Body => kind == AMQPFrameType::Body,
                    FrameKind::Heartbeat => kind == AMQPFrameType::Heartbeat,
                };
                assert!(is_same);
                rest = &rest[length..];
                frames.push(frame);
            }
            Ok(Cut::Missing(missing)) => {
                assert!(missing >= 1);
                return frames;
            }
            Err(_) => return frames,
        }
    }
}

/// What amq-protocol reads in a method's payload.
pub(crate) fn reference_class(payload: &[u8]) -> Option<AMQPClass> {
    let asked = payload.len() <= REFERENCE_BYTES_MAX;
    asked
        .then(|| parse_class(payload).ok())
        .flatten()
        .and_then(|(rest, class)| rest.is_empty().then_some(class))
}

/// A broker's frames: what is read of methods and content headers is what amq-protocol reads, and what is written
/// again is read again to the same.
pub fn codec(bytes: &[u8], frame_max: u32) {
    for frame in frames(bytes, frame_max) {
        match frame.kind {
            FrameKind::Method => compare_method(frame.payload),
            FrameKind::Header => compare_properties(frame.payload),
            FrameKind::Body | FrameKind::Heartbeat => {}
        }
    }
}

fn compare_method(payload: &[u8]) {
    let ours = method::parse(1, payload);
    let Some(theirs) = reference_class(payload) else {
        // It refuses names that are not UTF-8, and tables that nobody here looks into.
        assert!(!matches!(ours, Ok(Method::Slow(..) | Method::Ack { .. } | Method::Nack { .. })), "{ours:?}");
        return;
    };
    match (&ours, &theirs) {
        (Ok(Method::Ack { delivery_tag, multiple }), AMQPClass::Basic(basic::AMQPMethod::Ack(ack))) => {
            assert_eq!((*delivery_tag, *multiple), (ack.delivery_tag, ack.multiple));
        }
        (Ok(Method::Nack { delivery_tag, multiple }), AMQPClass::Basic(basic::AMQPMethod::Nack(nack))) => {
            assert_eq!((*delivery_tag, *multiple), (nack.delivery_tag, nack.multiple));
        }
        (
            Ok(Method::Deliver { delivery_tag, exchange, routing_key }),
            AMQPClass::Basic(basic::AMQPMethod::Deliver(deliver)),
        ) => {
            assert_eq!(*delivery_tag, deliver.delivery_tag);
            assert_eq!(*exchange, deliver.exchange.as_str().as_bytes());
            assert_eq!(*routing_key, deliver.routing_key.as_str().as_bytes());
        }
        (Ok(Method::Start(ours)), AMQPClass::Connection(connection::AMQPMethod::Start(start))) => {
            assert_eq!(ours.version, (start.version_major, start.version_minor));
            assert_eq!(ours.mechanisms, start.mechanisms.as_bytes());
        }
        (Ok(Method::Return), AMQPClass::Basic(basic::AMQPMethod::Return(_))) => {}
        (Ok(Method::Slow(id, class)), theirs) => {
            assert_eq!(class, theirs);
            let mut out = Vec::new();
            method::write(&mut out, 3, class.clone());
            let Ok(Cut::Frame(frame)) = cut(&out, u32::MAX) else { panic!("what is written is a frame") };
            assert_eq!((frame.channel, frame.wire_len()), (3, out.len()));
            assert_eq!(method::parse(3, frame.payload), Ok(Method::Slow(*id, class.clone())));
        }
        (Err(Error::UnexpectedMethod { .. }), _) => {}
        (ours, theirs) => panic!("{ours:?}, {theirs:?}"),
    }
}

fn compare_properties(payload: &[u8]) {
    let mut reader = Reader::new(payload);
    if reader.bytes(12).is_none() || payload.len() > REFERENCE_BYTES_MAX {
        return;
    }
    let (Some(ours), Ok(([], theirs))) = (properties(reader), parse_content_header(payload)) else { return };
    let theirs = theirs.properties;
    let text = |text: Option<&[u8]>| text.map(|text| String::from_utf8_lossy(text).into_owned());
    let other =
        |text: &Option<amq_protocol::types::ShortString>| text.as_ref().map(|text| text.as_str().to_owned());
    assert_eq!(text(ours.reply_to), other(theirs.reply_to()));
    assert_eq!(text(ours.correlation_id), other(theirs.correlation_id()));
    assert_eq!(text(ours.message_id), other(theirs.message_id()));
    assert_eq!(ours.timestamp_s, *theirs.timestamp());
    let header = theirs.headers().as_ref().and_then(|headers| headers.inner().get("shard_id"));
    assert_eq!(ours.shard_id.is_some(), header.is_some());
    if let Some(number) = header.and_then(amq_protocol::types::AMQPValue::as_long_long_int) {
        assert_eq!(ours.shard_id, Some(super::Header::Integer(number)));
    }
}

/// An event framed, read by amq-protocol, and framed anew: it stays the same message.
pub fn publish(event: &EventPublish<'_>, frame_max: u32, frame_max_later: u32) {
    let mut out = Vec::new();
    if frame_event(&mut out, 1, frame_max, event).is_err() {
        assert!(out.is_empty());
        return;
    }
    assert_eq!(out.len(), event_len(frame_max, event));
    assert_eq!(routing_key(&out), Some(event.routing_key));
    assert_eq!(message(&out, frame_max), (event.repeat, event.body.to_vec()));
    for repeat in [false, true] {
        let mut again = Vec::new();
        assert_eq!(reframe(&out, frame_max_later, repeat, &mut again), Ok(1));
        assert_eq!(message(&again, frame_max_later), (event.repeat || repeat, event.body.to_vec()));
        // The frames are those that the event would have had.
        let mut direct = Vec::new();
        let event = EventPublish { repeat: event.repeat || repeat, ..*event };
        assert_eq!(frame_event(&mut direct, 1, frame_max_later, &event), Ok(()));
        assert_eq!(again, direct);
    }
}

/// The mark and the body of a message.
fn message(bytes: &[u8], frame_max: u32) -> (bool, Vec<u8>) {
    let frames = frames(bytes, frame_max.max(super::spec::FRAME_MIN_SIZE));
    let [method, header, bodies @ ..] = frames.as_slice() else {
        panic!("a message has two frames at least")
    };
    assert!(method.kind == FrameKind::Method && header.kind == FrameKind::Header);
    let read = properties(Reader::new(&header.payload[12..])).expect("properties");
    let body: Vec<u8> = bodies.iter().flat_map(|frame| frame.payload).copied().collect();
    assert_eq!(header.payload[4..12], (body.len() as u64).to_be_bytes());
    assert_eq!(frames.iter().map(Frame::wire_len).sum::<usize>(), bytes.len());
    (read.repeat.is_some(), body)
}
