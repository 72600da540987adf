use super::super::spec::FRAME_MIN_SIZE;
use super::super::tests::{parse_frames, reference, seed};
use super::*;
use crate::base::Rng;
use amq_protocol::frame::{AMQPContentHeader, AMQPFrame};
use amq_protocol::protocol::{AMQPClass, BasicProperties, basic};
use amq_protocol::types::{AMQPValue, FieldTable};

fn random_bytes(rng: &mut Rng, len: u64) -> Vec<u8> {
    (0..len).map(|_| rng.next_u64() as u8).collect()
}

fn random_key(rng: &mut Rng) -> Vec<u8> {
    let len = if rng.chance(1, 8) { 255 } else { rng.below(40) };
    (0..len).map(|_| b'A' + rng.below(26) as u8).collect()
}

/// The frames that amq-protocol makes of the same message.
fn frames_of(
    channel: u16,
    frame_max: u32,
    exchange: &[u8],
    key: &[u8],
    properties: BasicProperties,
    body: &[u8],
) -> Vec<AMQPFrame> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let publish = basic::Publish {
        exchange: text(exchange).into(),
        routing_key: text(key).into(),
        mandatory: false,
        immediate: false,
    };
    let mut frames = vec![
        AMQPFrame::Method(channel, AMQPClass::Basic(basic::AMQPMethod::Publish(publish))),
        AMQPFrame::Header(
            channel,
            AMQPContentHeader { class_id: 60, body_size: body.len() as u64, properties },
        ),
    ];
    frames.extend(body.chunks(frame_max as usize - 8).map(|piece| AMQPFrame::Body(channel, piece.to_vec())));
    frames
}

fn event_frames(channel: u16, frame_max: u32, event: &EventPublish<'_>) -> Vec<AMQPFrame> {
    let mut headers = FieldTable::default();
    headers.insert("shard_id".into(), AMQPValue::LongInt(event.shard_id as i32));
    headers.insert("seq".into(), AMQPValue::LongLongInt(event.seq as i64));
    if event.repeat {
        headers.insert("repeat".into(), AMQPValue::Boolean(true));
    }
    let mut properties = BasicProperties::default();
    if event.persistent {
        properties = properties.with_delivery_mode(2);
    }
    let properties = properties
        .with_content_type("application/json".into())
        .with_headers(headers)
        .with_message_id(String::from_utf8(event.message_id.to_vec()).unwrap().into())
        .with_timestamp(event.timestamp_s)
        .with_app_id("rateway".into());
    frames_of(channel, frame_max, event.exchange, event.routing_key, properties, event.body)
}

/// One random event, to be lent as [`EventPublish`].
struct Owned {
    exchange: Vec<u8>,
    key: Vec<u8>,
    id: Vec<u8>,
    body: Vec<u8>,
    numbers: [u64; 3],
}

impl Owned {
    fn random(rng: &mut Rng) -> Owned {
        let len = match rng.below(6) {
            0 => 0,
            1 => 4088,
            2 => 4089,
            3 => 2 * 4088,
            _ => rng.below(20_000),
        };
        Owned {
            exchange: random_key(rng),
            key: random_key(rng),
            id: random_key(rng),
            body: random_bytes(rng, len),
            numbers: [rng.next_u64(), rng.below(1 << 31), rng.next_u64()],
        }
    }

    fn event(&self, repeat: bool) -> EventPublish<'_> {
        EventPublish {
            exchange: &self.exchange,
            routing_key: &self.key,
            message_id: &self.id,
            timestamp_s: self.numbers[0],
            shard_id: self.numbers[1] as u32,
            seq: self.numbers[2],
            repeat,
            persistent: self.numbers[1].is_multiple_of(2),
            body: &self.body,
        }
    }
}

fn random_frame_max(rng: &mut Rng) -> u32 {
    match rng.below(4) {
        0 => FRAME_MIN_SIZE,
        1 => 131_072,
        _ => FRAME_MIN_SIZE + rng.below(9000) as u32,
    }
}

#[test]
fn events_equal_the_reference_byte_for_byte() {
    let mut rng = Rng::new(seed());
    for _ in 0..300 {
        let owned = Owned::random(&mut rng);
        let (frame_max, channel, repeat) =
            (random_frame_max(&mut rng), rng.below(3) as u16, rng.chance(1, 2));
        let event = owned.event(repeat);
        let mut out = b"before".to_vec();
        frame_event(&mut out, channel, frame_max, &event).unwrap();
        assert_eq!(out.len() - 6, event_len(frame_max, &event));
        let want = event_frames(channel, frame_max, &event);
        assert_eq!(&out[6..], reference(&want).as_slice());
        assert_eq!(parse_frames(&out[6..]), want);
    }
}

#[test]
fn answers_equal_the_reference_byte_for_byte() {
    let mut rng = Rng::new(seed());
    for round in 0..200 {
        let owned = Owned::random(&mut rng);
        let correlation_id = rng.chance(1, 2).then_some(owned.id.as_slice());
        let found = [None, Some(true), Some(false)][rng.below(3) as usize];
        let exchange: &[u8] = if round % 2 == 0 { b"" } else { &owned.exchange };
        let answer = Answer { exchange, routing_key: &owned.key, correlation_id, found, body: &owned.body };
        let mut properties = BasicProperties::default()
            .with_content_type("application/json".into())
            .with_app_id("rateway".into());
        if let Some(id) = correlation_id {
            properties = properties.with_correlation_id(String::from_utf8(id.to_vec()).unwrap().into());
        }
        if let Some(found) = found {
            let mut headers = FieldTable::default();
            headers.insert("found".into(), AMQPValue::Boolean(found));
            properties = properties.with_headers(headers);
        }
        let frame_max = random_frame_max(&mut rng);
        let mut out = Vec::new();
        frame_answer(&mut out, 2, frame_max, &answer).unwrap();
        let want = frames_of(2, frame_max, exchange, &owned.key, properties, &owned.body);
        assert_eq!(out, reference(&want));
    }
}

#[test]
fn names_over_255_octets_are_refused_and_leave_nothing() {
    let long = [b'A'; 256];
    let base = Owned::random(&mut Rng::new(1));
    let mut out = Vec::new();
    for (n, name) in ["the exchange", "the routing key", "the message id"].into_iter().enumerate() {
        let mut event = base.event(false);
        match n {
            0 => event.exchange = &long,
            1 => event.routing_key = &long,
            _ => event.message_id = &long,
        }
        assert_eq!(frame_event(&mut out, 1, 4096, &event), Err(Error::ShortString { name }));
    }
    let answer = Answer { exchange: b"", routing_key: &long, correlation_id: None, found: None, body: b"" };
    assert!(frame_answer(&mut out, 2, 4096, &answer).is_err());
    assert!(out.is_empty());
}

#[test]
fn repeats_are_the_same_messages_marked_and_cut_anew() {
    let mut rng = Rng::new(seed());
    for _ in 0..100 {
        let owned: Vec<Owned> = (0..rng.below(5)).map(|_| Owned::random(&mut rng)).collect();
        let (old_max, new_max) = (random_frame_max(&mut rng), random_frame_max(&mut rng));
        let (mut first, mut want) = (Vec::new(), Vec::new());
        for one in &owned {
            frame_event(&mut first, 1, old_max, &one.event(rng.chance(1, 3))).unwrap();
            frame_event(&mut want, 1, new_max, &one.event(true)).unwrap();
        }
        let mut again = b"kept".to_vec();
        assert_eq!(reframe(&first, new_max, true, &mut again), Ok(owned.len() as u32));
        assert_eq!(&again[4..], want.as_slice());
        // Marking what is marked changes nothing.
        let mut thrice = Vec::new();
        assert_eq!(reframe(&again[4..], new_max, true, &mut thrice), Ok(owned.len() as u32));
        assert_eq!(thrice, want);
    }
}

#[test]
fn what_is_no_publish_is_refused_whole() {
    let owned = Owned { body: vec![7; 9000], ..Owned::random(&mut Rng::new(3)) };
    let mut one = Vec::new();
    frame_event(&mut one, 1, 4096, &owned.event(false)).unwrap();
    let mut two = one.clone();
    two.extend_from_slice(&one);
    let mut out = b"kept".to_vec();
    for n in 1..one.len() {
        let result = reframe(&two[..one.len() + n], 8192, true, &mut out);
        assert_eq!(result, Err(Error::NotPublishes { offset: one.len() }), "cut to {n}");
        assert_eq!(out, b"kept");
    }
    // Any mutation is refused or read; neither panics nor makes much more than was there.
    let mut rng = Rng::new(seed());
    for _ in 0..2000 {
        let mut bad = two.clone();
        for _ in 0..=rng.below(3) {
            let at = rng.below(bad.len() as u64) as usize;
            bad[at] = rng.next_u64() as u8;
        }
        let mut out = Vec::new();
        let result = reframe(&bad, 4096, true, &mut out);
        assert_eq!(out.is_empty(), result.is_err());
        assert!(out.len() <= bad.len() * 2);
    }
}

#[test]
fn the_routing_key_of_a_publish_is_found() {
    let mut rng = Rng::new(seed());
    for _ in 0..1000 {
        let owned = Owned::random(&mut rng);
        let mut bytes = Vec::new();
        let event = owned.event(false);
        frame_event(&mut bytes, 1, FRAME_MIN_SIZE, &event).unwrap();
        assert_eq!(routing_key(&bytes), Some(event.routing_key));
        let method = 7 + 9 + event.exchange.len() + event.routing_key.len() + 1;
        assert_eq!(routing_key(&bytes[..rng.below(method as u64) as usize]), None);
        assert_eq!(routing_key(&bytes[method..]), None);
    }
}

#[test]
fn framing_grows_nothing_that_has_room() {
    let owned = Owned { body: vec![7; 300_000], ..Owned::random(&mut Rng::new(3)) };
    let mut out = Vec::with_capacity(event_len(4096, &owned.event(true)));
    let before = out.as_ptr();
    frame_event(&mut out, 1, 4096, &owned.event(true)).unwrap();
    assert_eq!(out.as_ptr(), before);
    assert_eq!(out.len(), out.capacity());
}
