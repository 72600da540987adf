use std::time::Duration;

use amq_protocol::protocol::connection;

use super::*;
use crate::base::Rng;

#[expect(clippy::disallowed_methods, reason = "a starting point")]
fn now() -> Instant {
    Instant::now()
}

fn methods(classes: Vec<(u16, AMQPClass)>) -> Vec<u8> {
    let mut out = Vec::new();
    classes.into_iter().for_each(|(channel, class)| method::write(&mut out, channel, class));
    out
}

/// What a broker says until the connection is open.
fn greeting() -> Vec<u8> {
    use connection::AMQPMethod as Method;
    let start = connection::Start {
        version_major: 0,
        version_minor: 9,
        server_properties: FieldTable::default(),
        mechanisms: "PLAIN".into(),
        locales: "en_US".into(),
    };
    let tune = connection::Tune { channel_max: 2047, frame_max: 8192, heartbeat: 60 };
    [Method::Start(start), Method::Tune(tune), Method::OpenOk(connection::OpenOk {})]
        .into_iter()
        .flat_map(|method| methods(vec![(0, AMQPClass::Connection(method))]))
        .collect()
}

fn message(properties: BasicProperties, body: &[u8]) -> Vec<u8> {
    let deliver = basic::Deliver {
        consumer_tag: "c".into(),
        delivery_tag: 7,
        redelivered: false,
        exchange: "rateway-3".into(),
        routing_key: "MESSAGE_CREATE".into(),
    };
    let mut out = methods(vec![(1, AMQPClass::Basic(basic::AMQPMethod::Deliver(deliver)))]);
    let header = AMQPContentHeader { class_id: 60, body_size: body.len() as u64, properties };
    let mut frames = vec![AMQPFrame::Header(1, header)];
    frames.extend(body.chunks(3).map(|piece| AMQPFrame::Body(1, piece.to_vec())));
    for frame in frames {
        out.extend(gen_frame(&frame)(WriteContext::from(Vec::new())).unwrap().into_inner().0);
    }
    out
}

fn event() -> Vec<u8> {
    let mut headers = FieldTable::default();
    headers.insert("shard_id".into(), AMQPValue::LongInt(17));
    headers.insert("seq".into(), AMQPValue::LongLongInt(812));
    headers.insert("repeat".into(), AMQPValue::Boolean(true));
    let properties = BasicProperties::default()
        .with_headers(headers)
        .with_message_id("17-00ff-812".into())
        .with_timestamp(1_700_000_000);
    message(properties, b"{\"id\":\"1\"}")
}

fn feed(worker: &mut Worker, bytes: &[u8], piece: usize) -> Result<Vec<Event>, Error> {
    let (now, mut input, mut events) = (now(), Buf::with_capacity(64), Vec::new());
    for piece in bytes.chunks(piece) {
        input.extend(piece);
        worker.receive(now, &mut input)?;
        events.extend(std::iter::from_fn(|| worker.poll_event()));
    }
    Ok(events)
}

#[test]
fn an_event_comes_whole_however_it_is_cut() {
    for piece in [1, 2, 7, 4096] {
        let mut worker = Worker::new(Options::default(), now());
        let events = feed(&mut worker, &[greeting(), event()].concat(), piece).unwrap();
        let [Event::Opened, Event::Message(message)] = &events[..] else { panic!("{events:?}") };
        let want = Message {
            delivery_tag: 7,
            exchange: "rateway-3".into(),
            routing_key: "MESSAGE_CREATE".into(),
            correlation_id: None,
            message_id: Some("17-00ff-812".into()),
            timestamp_s: Some(1_700_000_000),
            shard_id: Some(17),
            seq: Some(812),
            repeat: true,
            body: b"{\"id\":\"1\"}".to_vec(),
        };
        assert_eq!(message, &want);
    }
}

#[test]
fn a_request_is_what_the_reference_reads() {
    let mut worker = Worker::new(Options::default(), now());
    feed(&mut worker, &greeting(), 4096).unwrap();
    worker.transmit(&mut Vec::new());
    let body = vec![b'x'; 20_000];
    let request = Request {
        exchange: "rateway-1",
        routing_key: "gateway",
        header: Some(("shard_id", "5")),
        reply_to: "back",
        correlation_id: "1",
        body: &body,
    };
    worker.publish(1, &request).unwrap();
    let mut out = Vec::new();
    worker.transmit(&mut out);
    let (mut rest, mut seen) = (&out[..], Vec::new());
    while !rest.is_empty() {
        let (after, frame) = amq_protocol::frame::parse_frame(rest).unwrap();
        rest = after;
        match frame {
            AMQPFrame::Body(1, piece) => seen.extend(piece),
            AMQPFrame::Header(1, header) => {
                assert_eq!(header.body_size, 20_000);
                assert_eq!(header.properties.reply_to().as_ref().unwrap().as_str(), "back");
                let headers = header.properties.headers().as_ref().unwrap();
                let shard = &headers.inner()[&ShortString::from("shard_id")];
                assert_eq!(*shard, AMQPValue::LongString("5".into()));
            }
            AMQPFrame::Method(1, AMQPClass::Basic(basic::AMQPMethod::Publish(_))) => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(seen, body, "cut by the negotiated frame_max, and whole again");
    let long = "k".repeat(256);
    let error = worker.publish(1, &Request { routing_key: &long, ..request });
    assert_eq!(error, Err(Error::ShortString { name: "the routing key" }));
}

#[test]
fn a_missing_exchange_costs_its_channel_alone() {
    let close = channel::Close {
        reply_code: 404,
        reply_text: "NOT_FOUND\nno exchange".into(),
        class_id: 40,
        method_id: 10,
    };
    let mut worker = Worker::new(Options::default(), now());
    let bytes = methods(vec![(2, AMQPClass::Channel(channel::AMQPMethod::Close(close)))]);
    let events = feed(&mut worker, &[greeting(), bytes, event()].concat(), 9).unwrap();
    let text = "NOT_FOUND no exchange".to_owned();
    assert_eq!(events[1], Event::ChannelClosed { channel: 2, code: 404, text });
    assert!(matches!(events[2], Event::Message(_)));
}

/// Damaged bytes, huge sizes and other protocols end the connection, and never the program.
#[test]
fn rude_brokers_are_errors() {
    let good = [greeting(), event(), event()].concat();
    let mut rng = Rng::new(7);
    for _ in 0..2000 {
        let mut bytes = good.clone();
        for _ in 0..=rng.below(3) {
            let at = rng.below(bytes.len() as u64) as usize;
            bytes[at] = rng.below(256) as u8;
        }
        let mut worker = Worker::new(Options::default(), now());
        let _ = feed(&mut worker, &bytes, 64);
    }
    let mut worker = Worker::new(Options::default(), now());
    assert!(matches!(feed(&mut worker, b"AMQP\0\x01\0\0", 3), Err(Error::Version { .. })));
    let mut worker = Worker::new(Options::default(), now());
    assert!(matches!(feed(&mut worker, b"HTTP/1.1 400", 3), Err(Error::FrameType { .. })));
    let mut worker = Worker::new(Options::default(), now());
    feed(&mut worker, &greeting(), 99).unwrap();
    let silent = now() + Duration::from_secs(3600);
    assert_eq!(worker.handle_deadline(silent), Err(Error::HeartbeatMissed));
}
