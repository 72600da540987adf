//! Payloads of method frames to values and back.
//!
//! Confirms and deliveries, which come by the thousand, are parsed by hand and borrow from the window. The rest
//! goes through `amq-protocol`, but only the methods that a broker may send to a client and that hold no field
//! table: that crate parses nested tables by recursion, and a broker could nest them until the stack ends.
//! connection.start, whose table of server properties is of no use here, is read by hand for the same reason.

use amq_protocol::frame::{AMQPFrame, WriteContext, gen_frame};
use amq_protocol::protocol::{AMQPClass, parse_class};

use super::error::Error;
use super::frame;
use super::reader::Reader;
use super::spec::{self, FRAME_END, FRAME_METHOD, MethodId};

/// A method that came from the broker.
#[derive(Debug, PartialEq)]
pub(super) enum Method<'a> {
    Start(Start<'a>),
    Ack { delivery_tag: u64, multiple: bool },
    Nack { delivery_tag: u64, multiple: bool },
    Deliver { delivery_tag: u64, exchange: &'a [u8], routing_key: &'a [u8] },
    Return,
    Slow(MethodId, AMQPClass),
}

/// What matters of connection.start.
#[derive(Debug, PartialEq)]
pub(super) struct Start<'a> {
    pub(super) version: (u8, u8),
    /// Names separated by spaces.
    pub(super) mechanisms: &'a [u8],
}

impl Method<'_> {
    pub(super) fn id(&self) -> MethodId {
        match self {
            Method::Start(_) => spec::CONNECTION_START,
            Method::Ack { .. } => spec::BASIC_ACK,
            Method::Nack { .. } => spec::BASIC_NACK,
            Method::Deliver { .. } => spec::BASIC_DELIVER,
            Method::Return => spec::BASIC_RETURN,
            Method::Slow(id, _) => *id,
        }
    }
}

/// Reads the payload of a method frame that came on `channel`.
pub(super) fn parse(channel: u16, payload: &[u8]) -> Result<Method<'_>, Error> {
    let mut reader = Reader::new(payload);
    let id = reader.u16().zip(reader.u16()).ok_or(Error::Syntax { what: "a method id" })?;
    let parsed = match id {
        spec::BASIC_ACK => {
            confirm(reader).map(|(delivery_tag, multiple)| Method::Ack { delivery_tag, multiple })
        }
        spec::BASIC_NACK => {
            confirm(reader).map(|(delivery_tag, multiple)| Method::Nack { delivery_tag, multiple })
        }
        spec::BASIC_DELIVER => deliver(reader),
        // Its arguments say why a message came back; nothing is published mandatory, so nobody would read them.
        spec::BASIC_RETURN => Some(Method::Return),
        spec::CONNECTION_START => start(reader),
        spec::CONNECTION_TUNE
        | spec::CONNECTION_OPEN_OK
        | spec::CONNECTION_CLOSE
        | spec::CONNECTION_CLOSE_OK
        | spec::CONNECTION_BLOCKED
        | spec::CONNECTION_UNBLOCKED
        | spec::CHANNEL_OPEN_OK
        | spec::CHANNEL_FLOW
        | spec::CHANNEL_CLOSE
        | spec::CHANNEL_CLOSE_OK
        | spec::EXCHANGE_DECLARE_OK
        | spec::QUEUE_DECLARE_OK
        | spec::QUEUE_BIND_OK
        | spec::BASIC_QOS_OK
        | spec::BASIC_CONSUME_OK
        | spec::BASIC_CANCEL
        | spec::BASIC_CANCEL_OK
        | spec::CONFIRM_SELECT_OK => match parse_class(payload) {
            Ok(([], class)) => Some(Method::Slow(id, class)),
            _ => None,
        },
        _ => return Err(Error::UnexpectedMethod { channel, method: id }),
    };
    parsed.ok_or(Error::Syntax { what: "the arguments of a method" })
}

/// `delivery tag u64 | bits u8`, the first bit is `multiple`.
fn confirm(mut reader: Reader<'_>) -> Option<(u64, bool)> {
    let delivery_tag = reader.u64()?;
    let bits = reader.u8()?;
    reader.is_empty().then_some((delivery_tag, bits & 1 != 0))
}

/// `consumer tag short | delivery tag u64 | bits u8 | exchange short | routing key short`
fn deliver(mut reader: Reader<'_>) -> Option<Method<'_>> {
    let _consumer_tag = reader.short()?;
    let delivery_tag = reader.u64()?;
    let _redelivered = reader.u8()?;
    let exchange = reader.short()?;
    let routing_key = reader.short()?;
    reader.is_empty().then_some(Method::Deliver { delivery_tag, exchange, routing_key })
}

/// `major u8 | minor u8 | server properties table | mechanisms long | locales long`
fn start(mut reader: Reader<'_>) -> Option<Method<'_>> {
    let version = (reader.u8()?, reader.u8()?);
    let _server_properties = reader.long()?;
    let mechanisms = reader.long()?;
    let _locales = reader.long()?;
    reader.is_empty().then_some(Method::Start(Start { version, mechanisms }))
}

/// Appends a method frame. For the slow paths: it allocates.
pub(super) fn write(out: &mut Vec<u8>, channel: u16, class: AMQPClass) {
    let frame = AMQPFrame::Method(channel, class);
    match gen_frame(&frame)(WriteContext::from(Vec::new())) {
        Ok(context) => out.extend_from_slice(&context.into_inner().0),
        // Writing to a vector does not fail.
        Err(_) => debug_assert!(false, "a method could not be written to memory"),
    }
}

/// Appends basic.ack for one delivery.
pub(super) fn write_ack(out: &mut Vec<u8>, channel: u16, delivery_tag: u64) {
    out.extend_from_slice(&frame::head(FRAME_METHOD, channel, 13));
    write_id(out, spec::BASIC_ACK);
    out.extend_from_slice(&delivery_tag.to_be_bytes());
    out.extend_from_slice(&[0, FRAME_END]);
}

pub(super) fn write_id(out: &mut Vec<u8>, (class, method): MethodId) {
    out.extend_from_slice(&class.to_be_bytes());
    out.extend_from_slice(&method.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::super::frame::{Cut, cut};
    use super::*;
    use amq_protocol::protocol::{basic, connection};
    use amq_protocol::types::{AMQPValue, FieldTable};

    fn payload(class: AMQPClass) -> Vec<u8> {
        let mut out = Vec::new();
        write(&mut out, 1, class);
        let Ok(Cut::Frame(frame)) = cut(&out, u32::MAX) else { panic!("not a frame") };
        frame.payload.to_vec()
    }

    #[test]
    fn the_hot_methods_are_read_as_the_reference_writes_them() {
        for (tag, multiple) in [(1, false), (u64::MAX, true), (0x0102_0304_0506_0708, false)] {
            let ack = basic::Ack { delivery_tag: tag, multiple };
            let bytes = payload(AMQPClass::Basic(basic::AMQPMethod::Ack(ack)));
            assert_eq!(parse(1, &bytes), Ok(Method::Ack { delivery_tag: tag, multiple }));
            let nack = basic::Nack { delivery_tag: tag, multiple, requeue: !multiple };
            let bytes = payload(AMQPClass::Basic(basic::AMQPMethod::Nack(nack)));
            assert_eq!(parse(1, &bytes), Ok(Method::Nack { delivery_tag: tag, multiple }));
        }
        let deliver = basic::Deliver {
            consumer_tag: "rateway".into(),
            delivery_tag: 77,
            redelivered: true,
            exchange: "rateway-1".into(),
            routing_key: "gateway".into(),
        };
        let bytes = payload(AMQPClass::Basic(basic::AMQPMethod::Deliver(deliver)));
        let want = Method::Deliver { delivery_tag: 77, exchange: b"rateway-1", routing_key: b"gateway" };
        assert_eq!(parse(2, &bytes), Ok(want));
        for n in 4..bytes.len() {
            assert!(parse(2, &bytes[..n]).is_err(), "cut to {n}");
        }
        let mut surplus = bytes;
        surplus.push(0);
        assert!(parse(2, &surplus).is_err());
    }

    #[test]
    fn start_is_read_as_the_reference_writes_it() {
        let mut properties = FieldTable::default();
        properties.insert("product".into(), AMQPValue::LongString("RabbitMQ".into()));
        let start = connection::Start {
            version_major: 0,
            version_minor: 9,
            server_properties: properties,
            mechanisms: "PLAIN AMQPLAIN".into(),
            locales: "en_US".into(),
        };
        let bytes = payload(AMQPClass::Connection(connection::AMQPMethod::Start(start)));
        let want = Start { version: (0, 9), mechanisms: b"PLAIN AMQPLAIN" };
        assert_eq!(parse(0, &bytes), Ok(Method::Start(want)));
    }

    #[test]
    fn an_ack_is_written_as_the_reference_writes_it() {
        for delivery_tag in [0, 1, u64::MAX - 3] {
            let (mut ours, mut theirs) = (Vec::new(), Vec::new());
            write_ack(&mut ours, 2, delivery_tag);
            let ack = basic::Ack { delivery_tag, multiple: false };
            write(&mut theirs, 2, AMQPClass::Basic(basic::AMQPMethod::Ack(ack)));
            assert_eq!(ours, theirs);
        }
    }

    #[test]
    fn nested_tables_never_reach_the_recursive_parser() {
        // 25,000 arrays within arrays, as the arguments of a method that only a server receives, and in start.
        let mut nested: Vec<u8> = Vec::new();
        for inner in (0..25_000u32).rev() {
            nested.push(b'A');
            nested.extend_from_slice(&(inner * 5).to_be_bytes());
        }
        let mut bytes = vec![0, 50, 0, 10, 0, 0, 1, b'q', 0];
        bytes.extend_from_slice(&(nested.len() as u32).to_be_bytes());
        bytes.extend_from_slice(&nested);
        assert!(matches!(parse(1, &bytes), Err(Error::UnexpectedMethod { method: (50, 10), .. })));
        let mut bytes = vec![0, 10, 0, 10, 0, 9];
        bytes.extend_from_slice(&(nested.len() as u32).to_be_bytes());
        bytes.extend_from_slice(&nested);
        bytes.extend_from_slice(&[0, 0, 0, 5]);
        bytes.extend_from_slice(b"PLAIN\0\0\0\0");
        assert!(matches!(parse(0, &bytes), Ok(Method::Start(_))));
    }
}
