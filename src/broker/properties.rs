//! What a broker has to know of a message's properties, and the two changes that it makes to them (section 2.3.5.2).
//!
//! `class u16 | weight u16 | body size u64 | flags u16 | a value for each flag that is set, highest first`

use crate::amqp::reader::Reader;
use crate::amqp::spec::CLASS_BASIC;
use crate::amqp::table;

const CONTENT_TYPE: u16 = 1 << 15;
const CONTENT_ENCODING: u16 = 1 << 14;
const HEADERS: u16 = 1 << 13;
const DELIVERY_MODE: u16 = 1 << 12;
const PRIORITY: u16 = 1 << 11;
const CORRELATION_ID: u16 = 1 << 10;
const REPLY_TO: u16 = 1 << 9;
const EXPIRATION: u16 = 1 << 8;
const MESSAGE_ID: u16 = 1 << 7;
const TIMESTAMP: u16 = 1 << 6;
const TYPE: u16 = 1 << 5;
const USER_ID: u16 = 1 << 4;
const APP_ID: u16 = 1 << 3;
const CLUSTER_ID: u16 = 1 << 2;
/// Where the flags stand.
const FLAGS_AT: usize = 12;
const VALUES_AT: usize = FLAGS_AT + 2;

/// What of a content header matters here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Properties<'a> {
    pub(super) headers: Option<&'a [u8]>,
    pub(super) reply_to: Option<&'a [u8]>,
    pub(super) expiration: Option<&'a [u8]>,
    pub(super) user_id: Option<&'a [u8]>,
    /// Where the value of `headers` is, or would be, with its length in front.
    headers_span: (usize, usize),
    reply_to_span: (usize, usize),
    expiration_span: (usize, usize),
}

/// Reads the size of the body off the payload of a content header.
pub(super) fn body_size(payload: &[u8]) -> Option<u64> {
    let mut reader = Reader::new(payload);
    if reader.u16()? != CLASS_BASIC {
        return None;
    }
    reader.u16()?;
    reader.u64()
}

/// Reads the payload of a content header; `None` when it can't be read to its last octet.
pub(super) fn parse(payload: &[u8]) -> Option<Properties<'_>> {
    let mut reader = Reader::new(payload.get(FLAGS_AT..)?);
    let flags = reader.u16()?;
    let mut found = Properties::default();
    for short in [CONTENT_TYPE, CONTENT_ENCODING] {
        if flags & short != 0 {
            reader.short()?;
        }
    }
    // A flag that promises further flags; no class has so many properties.
    if flags & 1 != 0 {
        return None;
    }
    let at = |reader: &Reader<'_>| payload.len() - reader.rest().len();
    let start = at(&reader);
    if flags & HEADERS != 0 {
        found.headers = Some(reader.long().filter(|bytes| table::check(bytes))?);
    }
    found.headers_span = (start, at(&reader));
    for octet in [DELIVERY_MODE, PRIORITY] {
        if flags & octet != 0 {
            reader.u8()?;
        }
    }
    if flags & CORRELATION_ID != 0 {
        reader.short()?;
    }
    let start = at(&reader);
    if flags & REPLY_TO != 0 {
        found.reply_to = Some(reader.short()?);
    }
    found.reply_to_span = (start, at(&reader));
    let start = at(&reader);
    if flags & EXPIRATION != 0 {
        found.expiration = Some(reader.short()?);
    }
    found.expiration_span = (start, at(&reader));
    if flags & MESSAGE_ID != 0 {
        reader.short()?;
    }
    if flags & TIMESTAMP != 0 {
        reader.u64()?;
    }
    if flags & TYPE != 0 {
        reader.short()?;
    }
    if flags & USER_ID != 0 {
        found.user_id = Some(reader.short()?);
    }
    for short in [APP_ID, CLUSTER_ID] {
        if flags & short != 0 {
            reader.short()?;
        }
    }
    reader.is_empty().then_some(found)
}

/// Milliseconds, as the property `expiration` writes them.
pub(super) fn expiration_ms(text: &[u8]) -> Option<u64> {
    let number: u64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    // u32::MAX is where RabbitMQ's timers end too.
    (number <= u64::from(u32::MAX)).then_some(number)
}

/// The payload with another reply_to.
pub(super) fn with_reply_to(payload: &[u8], properties: &Properties<'_>, reply_to: &[u8]) -> Vec<u8> {
    let mut value = vec![u8::try_from(reply_to.len()).unwrap_or(u8::MAX)];
    value.extend(reply_to.iter().take(usize::from(u8::MAX)));
    replaced(payload, properties.reply_to_span, REPLY_TO, Some(&value))
}

/// The payload of a dead letter: other headers, and no expiration, which has had its effect.
pub(super) fn dead_lettered(payload: &[u8], properties: &Properties<'_>, headers: &[u8]) -> Vec<u8> {
    // The later one first, so that the earlier one's place stays what it was.
    let once = replaced(payload, properties.expiration_span, EXPIRATION, None);
    let mut value = (headers.len() as u32).to_be_bytes().to_vec();
    value.extend_from_slice(headers);
    replaced(&once, properties.headers_span, HEADERS, Some(&value))
}

/// Puts `value` where the property of `flag` is or would be, or takes it away.
fn replaced(payload: &[u8], (start, end): (usize, usize), flag: u16, value: Option<&[u8]>) -> Vec<u8> {
    let part = |range: std::ops::Range<usize>| payload.get(range).unwrap_or_default();
    let flags =
        payload.get(FLAGS_AT..VALUES_AT).and_then(|bytes| bytes.try_into().ok()).map(u16::from_be_bytes);
    let flags = flags.unwrap_or_default();
    let flags = if value.is_some() { flags | flag } else { flags & !flag };
    let value = value.unwrap_or_default();
    let mut out = Vec::with_capacity(payload.len() + value.len());
    out.extend_from_slice(part(0..FLAGS_AT));
    out.extend_from_slice(&flags.to_be_bytes());
    out.extend_from_slice(part(VALUES_AT..start));
    out.extend_from_slice(value);
    out.extend_from_slice(part(end..payload.len()));
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use amq_protocol::frame::{AMQPContentHeader, AMQPFrame, WriteContext, gen_frame};
    use amq_protocol::protocol::BasicProperties;
    use amq_protocol::types::{AMQPValue, FieldTable};

    fn payload(properties: BasicProperties) -> Vec<u8> {
        let header = AMQPContentHeader { class_id: 60, body_size: 7, properties };
        let frame = gen_frame(&AMQPFrame::Header(1, header))(WriteContext::from(Vec::new()));
        let bytes = frame.expect("memory").into_inner().0;
        bytes[7..bytes.len() - 1].to_vec()
    }

    fn full() -> BasicProperties {
        let mut headers = FieldTable::default();
        headers.insert("a".into(), AMQPValue::LongInt(1));
        BasicProperties::default()
            .with_content_type("application/json".into())
            .with_headers(headers)
            .with_delivery_mode(2)
            .with_correlation_id("c".into())
            .with_reply_to("amq.rabbitmq.reply-to".into())
            .with_expiration("250".into())
            .with_message_id("m".into())
            .with_timestamp(9)
            .with_user_id("guest".into())
            .with_app_id("x".into())
    }

    #[test]
    fn reads_what_the_reference_writes() {
        let bytes = payload(full());
        let found = parse(&bytes).expect("properties");
        assert_eq!(body_size(&bytes), Some(7));
        assert_eq!(found.reply_to, Some(b"amq.rabbitmq.reply-to".as_slice()));
        assert_eq!(found.expiration.and_then(expiration_ms), Some(250));
        assert_eq!(found.user_id, Some(b"guest".as_slice()));
        let a = found.headers.and_then(|headers| table::find(headers, b"a"));
        assert_eq!(a.and_then(table::Value::integer), Some(1));
        assert!((VALUES_AT..bytes.len()).all(|n| parse(&bytes[..n]).is_none()));
        assert_eq!(parse(&payload(BasicProperties::default())).and_then(|found| found.headers), None);
    }

    #[test]
    fn changes_leave_the_rest_alone() {
        let bytes = payload(full());
        let found = parse(&bytes).expect("properties");
        let changed = with_reply_to(&bytes, &found, b"there");
        assert_eq!(changed, payload(full().with_reply_to("there".into())));
        let mut headers = FieldTable::default();
        headers.insert("b".into(), AMQPValue::Boolean(true));
        let table = [1, b'b', b't', 1];
        let without = |properties: BasicProperties| {
            BasicProperties::default()
                .with_content_type("application/json".into())
                .with_headers(headers.clone())
                .with_delivery_mode(properties.delivery_mode().unwrap_or(2))
        };
        let short = BasicProperties::default()
            .with_content_type("application/json".into())
            .with_delivery_mode(2)
            .with_expiration("1".into());
        let bytes = payload(short.clone());
        let found = parse(&bytes).expect("properties");
        assert_eq!(dead_lettered(&bytes, &found, &table), payload(without(short)));
    }

    #[test]
    fn expirations_are_whole_milliseconds() {
        assert_eq!(expiration_ms(b"0"), Some(0));
        for wrong in [b"".as_slice(), b"-1", b"1.5", b"1s", b"99999999999"] {
            assert_eq!(expiration_ms(wrong), None);
        }
    }
}
