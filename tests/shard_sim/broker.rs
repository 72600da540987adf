//! A broker that reads the bytes of publishes with another library than the one under test, and confirms as it
//! likes: late, one by one, many at once, out of order, not at all.

use std::collections::BTreeMap;

use amq_protocol::frame::{AMQPFrame, parse_frame};
use amq_protocol::protocol::{AMQPClass, basic};
use amq_protocol::types::AMQPValue;
use rateway::base::Rng;
use rateway::relay::gap;
use rateway::sim::hash;

/// One event as the broker read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub exchange: String,
    pub routing_key: String,
    pub message_id: String,
    pub shard_id: i64,
    pub seq: i64,
    pub repeat: bool,
    pub body_hash: u64,
    pub body_bytes: usize,
    /// Of READY, which must not tell its secrets, and of a gap.
    pub body: Vec<u8>,
}

/// What the broker says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    Confirm { tag: u64, multiple: bool },
    Nack { tag: u64 },
}

#[derive(Debug, Default)]
enum Phase {
    #[default]
    Method,
    Header(String, String),
    Body(Box<Message>, u64),
}

/// One broker, over all its lives.
#[derive(Debug, Default)]
pub struct Broker {
    buffer: Vec<u8>,
    phase: Phase,
    frame_max: u32,
    /// Whether publishes are taken: the channel is open on this side.
    pub open: bool,
    /// Counts the times that the channel was opened.
    pub life: u64,
    next_tag: u64,
    /// Taken, neither confirmed nor refused: message ids by tag.
    pub unconfirmed: BTreeMap<u64, String>,
    /// How many of the next publishes are refused, and whether everything after them too.
    pub nacks: u32,
}

/// What came of some bytes.
#[derive(Debug, Default)]
pub struct Taken {
    /// Every event that was read, in order, refused ones among them.
    pub messages: Vec<Message>,
    pub nacks: Vec<u64>,
}

impl Broker {
    /// A channel is opened; tags begin at 1.
    pub fn open(&mut self, frame_max: u32) {
        self.close();
        (self.open, self.frame_max, self.next_tag) = (true, frame_max, 1);
        self.life += 1;
    }

    /// The channel is gone, and what was not confirmed is not promised.
    pub fn close(&mut self) {
        self.open = false;
        self.unconfirmed.clear();
    }

    /// The connection is gone, a frame that was not read to its end with it.
    pub fn disconnect(&mut self) {
        self.close();
        self.buffer.clear();
        self.phase = Phase::Method;
    }

    /// Whether it is between two events: only here may something else than an event come.
    pub fn is_between(&self) -> bool {
        self.buffer.is_empty() && matches!(self.phase, Phase::Method)
    }

    /// Reads bytes of the publish channel. On a channel that is not open they are read and dropped, as
    /// the other side may not know yet.
    pub fn read(&mut self, bytes: &[u8]) -> Taken {
        self.buffer.extend_from_slice(bytes);
        let buffer = std::mem::take(&mut self.buffer);
        let mut rest = &buffer[..];
        let mut taken = Taken::default();
        while let Ok((after, frame)) = parse_frame(rest) {
            let frame_bytes = rest.len() - after.len();
            // A publish that waited over a change of frame_max is cut anew; a dropped one may be of any size.
            assert!(!self.open || frame_bytes <= self.frame_max as usize, "a frame of {frame_bytes} bytes");
            rest = after;
            self.frame(frame, &mut taken);
        }
        self.buffer = rest.to_vec();
        taken
    }

    fn frame(&mut self, frame: AMQPFrame, taken: &mut Taken) {
        self.phase = match (std::mem::take(&mut self.phase), frame) {
            (Phase::Method, AMQPFrame::Method(1, AMQPClass::Basic(basic::AMQPMethod::Publish(publish)))) => {
                Phase::Header(publish.exchange.to_string(), publish.routing_key.to_string())
            }
            (Phase::Header(exchange, routing_key), AMQPFrame::Header(1, header)) => {
                let properties = &header.properties;
                assert_eq!(
                    properties.content_type().as_ref().map(|text| text.as_str()),
                    Some("application/json")
                );
                assert_eq!(properties.app_id().as_ref().map(|text| text.as_str()), Some("rateway"));
                assert!(properties.timestamp().is_some());
                let headers = properties.headers().as_ref().expect("headers").inner();
                let number = |name: &str| match headers.get(name) {
                    Some(AMQPValue::LongLongInt(value)) => *value,
                    Some(AMQPValue::LongInt(value)) => i64::from(*value),
                    other => panic!("header {name} is {other:?}"),
                };
                let message = Message {
                    exchange,
                    routing_key,
                    message_id: properties.message_id().as_ref().expect("a message id").to_string(),
                    shard_id: number("shard_id"),
                    seq: number("seq"),
                    repeat: headers.get("repeat") == Some(&AMQPValue::Boolean(true)),
                    body_hash: 0,
                    body_bytes: 0,
                    body: Vec::with_capacity(header.body_size as usize),
                };
                self.ended(Box::new(message), header.body_size, taken)
            }
            (Phase::Body(mut message, size), AMQPFrame::Body(1, body)) => {
                message.body.extend_from_slice(&body);
                self.ended(message, size, taken)
            }
            (phase, frame) => panic!("{frame:?} in {phase:?}"),
        };
    }

    fn ended(&mut self, mut message: Box<Message>, size: u64, taken: &mut Taken) -> Phase {
        assert!(message.body.len() as u64 <= size, "more body than announced");
        if (message.body.len() as u64) < size {
            return Phase::Body(message, size);
        }
        if !self.open {
            return Phase::Method;
        }
        message.body_hash = hash(&message.body);
        message.body_bytes = message.body.len();
        if !matches!(&*message.routing_key, "READY" | gap::ROUTING_KEY) {
            message.body = Vec::new();
        }
        let tag = self.next_tag;
        self.next_tag += 1;
        if self.nacks > 0 {
            self.nacks -= 1;
            taken.nacks.push(tag);
        } else {
            self.unconfirmed.insert(tag, message.message_id.clone());
        }
        taken.messages.push(*message);
        Phase::Method
    }

    /// Confirms something, in one of the forms that the protocol has; says what it promised by that.
    pub fn confirm(&mut self, rng: &mut Rng, all: bool) -> Option<(Word, Vec<String>)> {
        let count = self.unconfirmed.len() as u64;
        let (&last, _) = self.unconfirmed.last_key_value()?;
        let any = *self.unconfirmed.keys().nth(rng.below(count) as usize)?;
        let (tag, multiple) = match rng.below(if all { 1 } else { 4 }) {
            0 => (last, true),
            1 => (any, true),
            2 => (any, false),
            _ => (*self.unconfirmed.first_key_value()?.0, false),
        };
        let promised = if multiple {
            let after = self.unconfirmed.split_off(&(tag + 1));
            std::mem::replace(&mut self.unconfirmed, after).into_values().collect()
        } else {
            self.unconfirmed.remove(&tag).into_iter().collect()
        };
        Some((Word::Confirm { tag, multiple }, promised))
    }
}
