use super::super::tests::{reference, seed};
use super::*;
use crate::base::Rng;
use amq_protocol::frame::{AMQPContentHeader, AMQPFrame};
use amq_protocol::protocol::BasicProperties;
use amq_protocol::types::{AMQPValue, DecimalValue, FieldArray, FieldTable};

fn header_payload(properties: BasicProperties, body_size: u64) -> Vec<u8> {
    let frame = AMQPFrame::Header(2, AMQPContentHeader { class_id: 60, body_size, properties });
    let bytes = reference(&[frame]);
    bytes[7..bytes.len() - 1].to_vec()
}

fn gather(header: &[u8], pieces: &[&[u8]], max: usize) -> Result<Gathered, Error> {
    let mut content = Content::Idle;
    content.begin_deliver(5, b"gateway");
    let mut last = content.header(2, header, max)?;
    for piece in pieces {
        assert_eq!(last, Gathered::Pending);
        last = content.body(2, piece)?;
    }
    assert!(content.is_idle() || last == Gathered::Pending);
    Ok(last)
}

fn shard_header(value: AMQPValue) -> Option<Header> {
    let mut table = FieldTable::default();
    table.insert("shard_id".into(), value);
    let header = header_payload(BasicProperties::default().with_headers(table), 0);
    match gather(&header, &[], 10).unwrap() {
        Gathered::Delivery(delivery) => delivery.shard_id,
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_integer_type_and_a_string_are_ids() {
    use AMQPValue as V;
    for (value, want) in [
        (V::ShortShortInt(-3), -3),
        (V::ShortShortUInt(200), 200),
        (V::ShortInt(-300), -300),
        (V::ShortUInt(65535), 65535),
        (V::LongInt(i32::MIN), i64::from(i32::MIN)),
        (V::LongUInt(u32::MAX), i64::from(u32::MAX)),
        (V::LongLongInt(i64::MAX), i64::MAX),
    ] {
        assert_eq!(shard_header(value), Some(Header::Integer(want)));
    }
    assert_eq!(shard_header(V::LongString("17".into())), Some(Header::Text("17".into())));
    assert_eq!(shard_header(V::LongString("1".repeat(65).into())), Some(Header::Other));
    assert_eq!(shard_header(V::LongString(vec![0xff].into())), Some(Header::Other));
    for other in [
        V::Boolean(true),
        V::Float(1.0),
        V::Double(1.0),
        V::DecimalValue(DecimalValue { scale: 1, value: 2 }),
        V::FieldArray(FieldArray::from(vec![V::LongInt(1)])),
        V::FieldTable(FieldTable::default()),
        V::Timestamp(3),
        V::ByteArray(vec![1].into()),
        V::Void,
    ] {
        assert_eq!(shard_header(other), Some(Header::Other));
    }
    // Types that the reference does not write: `L` and `U`.
    let mut properties = Properties::default();
    headers(b"\x08shard_idL\0\0\0\0\0\0\x01\x02\x08guild_idU\xff\xfe", &mut properties).unwrap();
    assert_eq!(properties.shard_id, Some(Header::Integer(258)));
    assert_eq!(properties.guild_id, Some(Header::Integer(-2)));
}

#[test]
fn all_properties_are_passed_in_their_order() {
    let mut table = FieldTable::default();
    table.insert("x".into(), AMQPValue::FieldTable(FieldTable::default()));
    table.insert("guild_id".into(), AMQPValue::LongLongInt(81384788765712384));
    let all = BasicProperties::default()
        .with_content_type("a".into())
        .with_content_encoding("b".into())
        .with_headers(table)
        .with_delivery_mode(2)
        .with_priority(3)
        .with_correlation_id("corr".into())
        .with_reply_to("back".into())
        .with_expiration("4".into())
        .with_message_id("m".into())
        .with_timestamp(5)
        .with_type("t".into())
        .with_user_id("u".into())
        .with_app_id("app".into())
        .with_cluster_id("cl".into());
    let header = header_payload(all, 4);
    let Gathered::Delivery(delivery) = gather(&header, &[b"ab", b"", b"cd"], 4).unwrap() else { panic!() };
    let want = Delivery {
        delivery_tag: 5,
        routing_key: "gateway".into(),
        reply_to: Some(b"back".to_vec()),
        correlation_id: Some(b"corr".to_vec()),
        shard_id: None,
        guild_id: Some(Header::Integer(81384788765712384)),
        body: b"abcd".to_vec(),
    };
    assert_eq!(delivery, want);
    // Cut anywhere behind the fixed part, or with an octet too many, it is a bad message and no broken connection.
    let bad = Gathered::Bad { delivery_tag: 5, why: BadDelivery::Properties };
    for n in 12..header.len() {
        assert_eq!(gather(&header[..n], &[b"abcd"], 4).unwrap(), bad, "cut to {n}");
    }
    let mut longer = header.clone();
    longer.push(0);
    assert_eq!(gather(&longer, &[b"abcd"], 4).unwrap(), bad);
    assert_eq!(gather(&header[..11], &[], 4), Err(Error::Syntax { what: "a content header" }));
}

#[test]
fn an_oversize_body_is_read_to_its_end_and_not_kept() {
    let header = header_payload(BasicProperties::default(), 5);
    let why = BadDelivery::Oversize { body_bytes: 5 };
    assert_eq!(gather(&header, &[b"abc", b"de"], 4).unwrap(), Gathered::Bad { delivery_tag: 5, why });
    let huge = header_payload(BasicProperties::default(), u64::MAX);
    assert_eq!(gather(&huge, &[b"abc"], 4).unwrap(), Gathered::Pending);
}

#[test]
fn the_order_of_frames_is_kept() {
    let header = header_payload(BasicProperties::default(), 3);
    assert!(matches!(Content::Idle.header(2, &header, 9), Err(Error::UnexpectedFrame { .. })));
    assert!(matches!(Content::Idle.body(2, b"x"), Err(Error::UnexpectedFrame { .. })));
    assert!(matches!(gather(&header, &[b"abcd"], 9), Err(Error::UnexpectedFrame { .. })));
    let mut content = Content::Idle;
    content.begin_deliver(1, b"k");
    assert!(matches!(content.body(2, b"x"), Err(Error::UnexpectedFrame { .. })));
    let mut content = Content::Idle;
    content.begin_return();
    assert_eq!(content.header(1, &header, 1).unwrap(), Gathered::Pending);
    assert_eq!(content.body(1, b"abc").unwrap(), Gathered::Returned);
}

#[test]
fn mutated_headers_never_panic() {
    let mut table = FieldTable::default();
    table.insert("shard_id".into(), AMQPValue::LongInt(3));
    table.insert("list".into(), AMQPValue::FieldArray(FieldArray::from(vec![AMQPValue::Boolean(true); 4])));
    let properties = BasicProperties::default().with_headers(table).with_reply_to("back".into());
    let header = header_payload(properties, 0);
    let mut rng = Rng::new(seed());
    for _ in 0..20_000 {
        let mut bad = header.clone();
        for _ in 0..=rng.below(4) {
            let at = 12 + rng.below(bad.len() as u64 - 12) as usize;
            bad[at] = rng.next_u64() as u8;
        }
        assert!(matches!(gather(&bad, &[], 9), Ok(Gathered::Delivery(_) | Gathered::Bad { .. })));
    }
}
