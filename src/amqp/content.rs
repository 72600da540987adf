//! Gathers a message of a worker: basic.deliver, then its header, then its body (section 4.2.6).
//!
//! ```text
//! Idle --deliver--> Header --header--> Body --last piece--> Idle
//! ```
//!
//! What breaks this order ends the connection, since the framing is lost. What is merely bad inside, such as a
//! field table that can't be read or a body over the limit, is the fault of one worker: the message is read to
//! its end, not kept, and reported.

use super::error::Error;
use super::publish;
use super::reader::Reader;
use super::spec::CLASS_BASIC;

/// A text header longer than this is no number that anyone meant: 20 digits and a sign fit with room.
const TEXT_HEADER_LEN_MAX: usize = 64;

/// A message of a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// What to acknowledge it with; see [`super::Client::ack`].
    pub delivery_tag: u64,
    /// `gateway` or `cache`, as it was published.
    pub routing_key: String,
    /// Where an answer is wanted.
    pub reply_to: Option<Vec<u8>>,
    /// What the answer repeats.
    pub correlation_id: Option<Vec<u8>>,
    /// The header `shard_id`.
    pub shard_id: Option<Header>,
    /// The header `guild_id`.
    pub guild_id: Option<Header>,
    /// The body.
    pub body: Vec<u8>,
}

/// The value of a header that should be an id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Header {
    /// Any of the integer types `b B s u I i l L`, and `U`.
    Integer(i64),
    /// A long string, at most 64 octets of UTF-8.
    Text(String),
    /// Anything else.
    Other,
}

/// Why a message of a worker was not passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadDelivery {
    /// Its body is over `Options::delivery_bytes_max`.
    Oversize {
        /// The size of its body.
        body_bytes: u64,
    },
    /// Its properties or headers can't be read.
    Properties,
}

impl std::fmt::Display for BadDelivery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            BadDelivery::Oversize { body_bytes } => write!(f, "its body of {body_bytes} bytes is too large"),
            BadDelivery::Properties => f.write_str("its properties or headers cannot be read"),
        }
    }
}

/// What became of a frame of content.
#[derive(Debug, PartialEq)]
pub(super) enum Gathered {
    /// More frames have to come.
    Pending,
    Delivery(Delivery),
    Bad {
        delivery_tag: u64,
        why: BadDelivery,
    },
    /// A message that came back to us, gone.
    Returned,
}

#[derive(Debug, Default)]
pub(super) enum Content {
    #[default]
    Idle,
    Header(Head),
    Body {
        message: Message,
        remaining: u64,
    },
}

#[derive(Debug)]
pub(super) enum Head {
    Deliver { delivery_tag: u64, routing_key: String },
    Return,
}

#[derive(Debug)]
pub(super) enum Message {
    Keep(Delivery),
    Skip { delivery_tag: u64, why: BadDelivery },
    Return,
}

impl Content {
    pub(super) fn is_idle(&self) -> bool {
        matches!(self, Content::Idle)
    }

    pub(super) fn begin_deliver(&mut self, delivery_tag: u64, routing_key: &[u8]) {
        let routing_key = String::from_utf8_lossy(routing_key).into_owned();
        *self = Content::Header(Head::Deliver { delivery_tag, routing_key });
    }

    pub(super) fn begin_return(&mut self) {
        *self = Content::Header(Head::Return);
    }

    /// Takes the payload of a header frame.
    pub(super) fn header(
        &mut self,
        channel: u16,
        payload: &[u8],
        body_bytes_max: usize,
    ) -> Result<Gathered, Error> {
        let Content::Header(head) = std::mem::take(self) else {
            return Err(Error::UnexpectedFrame { channel, what: "a content header came without a method" });
        };
        let mut reader = Reader::new(payload);
        let fixed = (reader.u16(), reader.u16(), reader.u64());
        let (Some(CLASS_BASIC), Some(_weight), Some(body_size)) = fixed else {
            return Err(Error::Syntax { what: "a content header" });
        };
        let message = match head {
            Head::Return => Message::Return,
            Head::Deliver { delivery_tag, routing_key } => match properties(reader) {
                None => Message::Skip { delivery_tag, why: BadDelivery::Properties },
                Some(_) if body_size > body_bytes_max as u64 => {
                    Message::Skip { delivery_tag, why: BadDelivery::Oversize { body_bytes: body_size } }
                }
                Some(Properties { reply_to, correlation_id, shard_id, guild_id, .. }) => {
                    Message::Keep(Delivery {
                        delivery_tag,
                        routing_key,
                        reply_to: reply_to.map(<[u8]>::to_vec),
                        correlation_id: correlation_id.map(<[u8]>::to_vec),
                        shard_id,
                        guild_id,
                        // Not above body_bytes_max, which is a usize.
                        body: Vec::with_capacity(body_size as usize),
                    })
                }
            },
        };
        Ok(self.wait(message, body_size))
    }

    /// Takes the payload of a body frame.
    pub(super) fn body(&mut self, channel: u16, payload: &[u8]) -> Result<Gathered, Error> {
        let Content::Body { mut message, remaining } = std::mem::take(self) else {
            return Err(Error::UnexpectedFrame { channel, what: "a content body came without a header" });
        };
        let Some(remaining) = remaining.checked_sub(payload.len() as u64) else {
            return Err(Error::UnexpectedFrame {
                channel,
                what: "a content body came longer than its header said",
            });
        };
        if let Message::Keep(delivery) = &mut message {
            delivery.body.extend_from_slice(payload);
        }
        Ok(self.wait(message, remaining))
    }

    /// Waits for the rest of the body, or gives the message out when nothing remains.
    fn wait(&mut self, message: Message, remaining: u64) -> Gathered {
        if remaining > 0 {
            *self = Content::Body { message, remaining };
            return Gathered::Pending;
        }
        match message {
            Message::Keep(delivery) => Gathered::Delivery(delivery),
            Message::Skip { delivery_tag, why } => Gathered::Bad { delivery_tag, why },
            Message::Return => Gathered::Returned,
        }
    }
}

/// The properties and headers that either side of rateway's messages reads.
#[derive(Default)]
pub(super) struct Properties<'a> {
    pub(super) reply_to: Option<&'a [u8]>,
    pub(super) correlation_id: Option<&'a [u8]>,
    pub(super) message_id: Option<&'a [u8]>,
    pub(super) timestamp_s: Option<u64>,
    pub(super) shard_id: Option<Header>,
    pub(super) guild_id: Option<Header>,
    pub(super) seq: Option<Header>,
    pub(super) repeat: Option<Header>,
}

/// Reads the property flags and properties of class basic, in the order of their bits. `None` when they are
/// malformed.
pub(super) fn properties(mut reader: Reader<'_>) -> Option<Properties<'_>> {
    const CONTENT_ENCODING: u16 = 1 << 14;
    const DELIVERY_MODE: u16 = 1 << 12;
    const PRIORITY: u16 = 1 << 11;
    const REPLY_TO: u16 = 1 << 9;
    const EXPIRATION: u16 = 1 << 8;
    const TYPE: u16 = 1 << 5;
    const USER_ID: u16 = 1 << 4;
    const CLUSTER_ID: u16 = 1 << 2;
    const UNASSIGNED: u16 = 0b11;

    let flags = reader.u16()?;
    let mut properties = Properties::default();
    if flags & UNASSIGNED != 0 {
        return None;
    }
    if flags & publish::CONTENT_TYPE != 0 {
        reader.short()?;
    }
    if flags & CONTENT_ENCODING != 0 {
        reader.short()?;
    }
    if flags & publish::HEADERS != 0 {
        headers(reader.long()?, &mut properties)?;
    }
    if flags & DELIVERY_MODE != 0 {
        reader.u8()?;
    }
    if flags & PRIORITY != 0 {
        reader.u8()?;
    }
    if flags & publish::CORRELATION_ID != 0 {
        properties.correlation_id = Some(reader.short()?);
    }
    if flags & REPLY_TO != 0 {
        properties.reply_to = Some(reader.short()?);
    }
    if flags & EXPIRATION != 0 {
        reader.short()?;
    }
    if flags & publish::MESSAGE_ID != 0 {
        properties.message_id = Some(reader.short()?);
    }
    if flags & publish::TIMESTAMP != 0 {
        properties.timestamp_s = Some(reader.u64()?);
    }
    for short in [TYPE, USER_ID, publish::APP_ID, CLUSTER_ID] {
        if flags & short != 0 {
            reader.short()?;
        }
    }
    reader.is_empty().then_some(properties)
}

/// Walks a field table, `name short | type u8 | value` each, and picks the headers that matter. Nested tables
/// and arrays are passed over by their length, so depth costs nothing.
fn headers(table: &[u8], properties: &mut Properties<'_>) -> Option<()> {
    let mut reader = Reader::new(table);
    while !reader.is_empty() {
        let name = reader.short()?;
        let value = value(&mut reader)?;
        match name {
            b"shard_id" => properties.shard_id = Some(value),
            b"guild_id" => properties.guild_id = Some(value),
            b"seq" => properties.seq = Some(value),
            b"repeat" => properties.repeat = Some(value),
            _ => {}
        }
    }
    Some(())
}

/// Reads one value. The types are RabbitMQ's: `s` is a signed short integer there, where section 4.2.1 has a short
/// string, and both `l` and `L` are signed.
fn value(reader: &mut Reader<'_>) -> Option<Header> {
    let integer = match reader.u8()? {
        b'b' => i64::from(i8::from_be_bytes(reader.array()?)),
        b'B' => i64::from(reader.u8()?),
        b's' | b'U' => i64::from(i16::from_be_bytes(reader.array()?)),
        b'u' => i64::from(reader.u16()?),
        b'I' => i64::from(i32::from_be_bytes(reader.array()?)),
        b'i' => i64::from(reader.u32()?),
        b'l' | b'L' => i64::from_be_bytes(reader.array()?),
        b'S' => {
            let text = reader.long()?;
            return Some(match std::str::from_utf8(text) {
                Ok(text) if text.len() <= TEXT_HEADER_LEN_MAX => Header::Text(text.to_owned()),
                _ => Header::Other,
            });
        }
        other => {
            match other {
                b't' => reader.bytes(1)?,
                b'f' => reader.bytes(4)?,
                b'D' => reader.bytes(5)?,
                b'd' | b'T' => reader.bytes(8)?,
                b'x' | b'A' | b'F' => reader.long()?,
                b'V' => b"",
                _ => return None,
            };
            return Some(Header::Other);
        }
    };
    Some(Header::Integer(integer))
}

#[cfg(test)]
#[path = "content_tests.rs"]
mod tests;
