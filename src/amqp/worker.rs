//! The role of a worker: one connection that finds exchanges, binds a queue of its own, consumes and publishes.
//!
//! Made for the short-lived tools of this program, so it is plainer than [`super::Client`]: requests leave in the
//! order of the calls, their answers come in the same order as [`Event`]s, and any fault ends the connection. What
//! does not is a channel that the broker closes, as it does when an exchange is looked for that is not there.
//! No IO, no clock: bytes enter by [`Worker::receive`] and leave by [`Worker::transmit`].

use std::collections::VecDeque;
use std::fmt;
use std::time::Instant;

use amq_protocol::frame::{AMQPContentHeader, AMQPFrame, WriteContext, gen_frame};
use amq_protocol::protocol::{AMQPClass, BasicProperties, basic, channel, exchange, queue};
use amq_protocol::types::{AMQPValue, FieldTable, ShortString};

use super::connection::{Connection, Phase, Progress};
use super::content::{Header, Properties, properties};
use super::error::{Error, clean};
use super::frame::{self, Cut, Frame, FrameKind};
use super::method::{self, Method};
use super::options::Options;
use super::reader::Reader;
use super::spec::{CLASS_BASIC, FRAME_BODY, FRAME_END};
use crate::base::Buf;

/// A message that is longer ends the connection: the longest event that is taken from Discord has a GiB at most, by
/// default 32 MiB.
const BODY_BYTES_MAX: u64 = 1 << 30;
/// What is set aside for a body at once; more only as it comes.
const BODY_RESERVE_BYTES_MAX: usize = 1 << 20;

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The connection is open; channels may be.
    Opened,
    /// The answer to the oldest request of this channel that has none.
    Done {
        /// The channel.
        channel: u16,
    },
    /// The same, to a queue's declaration.
    Queue {
        /// The channel.
        channel: u16,
        /// Its name.
        name: String,
        /// Messages that wait in it.
        messages: u32,
        /// Who reads it.
        consumers: u32,
    },
    /// The broker closed a channel: what was asked for on it is not to be had.
    ChannelClosed {
        /// The channel.
        channel: u16,
        /// The reply code.
        code: u16,
        /// The broker's words.
        text: String,
    },
    /// A message for a consumer.
    Message(Message),
    /// The queue of a consumer is gone.
    Cancelled,
    /// The broker takes nothing that is published until it says otherwise.
    Blocked {
        /// The broker's words.
        reason: String,
    },
    /// The close that was asked for is complete.
    Closed,
}

/// A message from rateway: an event or an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// What to acknowledge it with.
    pub delivery_tag: u64,
    /// The exchange it came by; empty for an answer.
    pub exchange: String,
    /// The event's name, or the queue of an answer.
    pub routing_key: String,
    /// What a request said.
    pub correlation_id: Option<Vec<u8>>,
    /// `{shard}-{session hash}-{seq}`
    pub message_id: Option<String>,
    /// When it was published, in seconds since 1970.
    pub timestamp_s: Option<u64>,
    /// The header `shard_id`.
    pub shard_id: Option<i64>,
    /// The header `seq`.
    pub seq: Option<i64>,
    /// Whether it may have come before.
    pub repeat: bool,
    /// The body.
    pub body: Vec<u8>,
}

/// What to ask of a queue.
#[derive(Clone, Copy, Debug)]
pub enum Queue<'a> {
    /// One of this connection alone, named by the broker, which forgets the oldest messages above a limit.
    Own {
        /// `x-max-length`: messages.
        length_max: u32,
        /// `x-max-length-bytes`: octets of their bodies.
        bytes_max: u32,
    },
    /// One that has to be there: only asked for.
    Existing(&'a str),
}

/// What to publish.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The exchange.
    pub exchange: &'a str,
    /// The routing key.
    pub routing_key: &'a str,
    /// A header with a text as its value.
    pub header: Option<(&'a str, &'a str)>,
    /// Where the answer is wanted.
    pub reply_to: &'a str,
    /// What the answer repeats.
    pub correlation_id: &'a str,
    /// The body.
    pub body: &'a [u8],
}

/// The message that is being put together.
enum Gathering {
    Idle,
    Header { delivery_tag: u64, exchange: String, routing_key: String },
    Body { message: Message, remaining: u64 },
}

/// The machine. See the module's head.
pub struct Worker {
    options: Options,
    connection: Connection,
    gathering: Gathering,
    out: Vec<u8>,
    events: VecDeque<Event>,
}

impl Worker {
    /// A worker whose transport is up. Of `options` only what concerns the connection counts.
    pub fn new(options: Options, now: Instant) -> Worker {
        let mut out = Vec::new();
        let connection = Connection::new(&options, now, &mut out);
        Worker { options, connection, gathering: Gathering::Idle, out, events: VecDeque::new() }
    }

    /// Takes the broker's bytes: whole frames are consumed, a partial one stays.
    ///
    /// # Errors
    /// What ended the connection.
    pub fn receive(&mut self, now: Instant, input: &mut Buf) -> Result<(), Error> {
        self.connection.note_received(now);
        self.receive_frames(now, input).inspect_err(|error| {
            self.connection.fail(error.consequence().tell, error, &mut self.out);
        })
    }

    /// The next thing that happened.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When [`Worker::handle_deadline`] wants to be called.
    pub fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        self.connection.poll_timeout(now)
    }

    /// Sends heartbeats and gives up on a broker that is silent.
    ///
    /// # Errors
    /// When it is.
    pub fn handle_deadline(&mut self, now: Instant) -> Result<(), Error> {
        self.connection.handle_deadline(now, &mut self.out)
    }

    /// Moves the bytes that wait behind those of `out`.
    pub fn transmit(&mut self, out: &mut Vec<u8>) {
        out.append(&mut self.out);
    }

    /// What the end of the transport means at this point: some brokers just hang up on a wrong password.
    pub fn link_lost(&self) -> Error {
        match self.connection.phase() {
            Phase::AwaitTune => Error::AccessRefused { text: String::new() },
            _ => Error::LinkLost,
        }
    }

    /// Opens a channel, 1 or 2. Also again after it was closed.
    pub fn open_channel(&mut self, channel: u16) {
        self.method(channel, AMQPClass::Channel(channel::AMQPMethod::Open(channel::Open {})));
    }

    /// Asks whether an exchange is there.
    ///
    /// # Errors
    /// A name over 255 octets.
    pub fn find_exchange(&mut self, channel: u16, name: &str) -> Result<(), Error> {
        let declare = exchange::Declare {
            exchange: short(name, "the exchange")?,
            kind: ShortString::from("direct"),
            passive: true,
            durable: true,
            auto_delete: false,
            internal: false,
            nowait: false,
            arguments: FieldTable::default(),
        };
        self.method(channel, AMQPClass::Exchange(exchange::AMQPMethod::Declare(declare)));
        Ok(())
    }

    /// Declares a queue; [`Event::Queue`] answers.
    ///
    /// # Errors
    /// A name over 255 octets.
    pub fn declare_queue(&mut self, channel: u16, queue: Queue<'_>) -> Result<(), Error> {
        let mut arguments = FieldTable::default();
        let (name, own) = match queue {
            Queue::Own { length_max, bytes_max } => {
                for (name, limit) in [("x-max-length", length_max), ("x-max-length-bytes", bytes_max)] {
                    arguments.insert(name.into(), AMQPValue::LongLongInt(i64::from(limit)));
                }
                // The broker's default, said aloud: the newest is what a reader wants to see.
                arguments.insert("x-overflow".into(), AMQPValue::LongString("drop-head".into()));
                ("", true)
            }
            Queue::Existing(name) => (name, false),
        };
        let declare = queue::Declare {
            queue: short(name, "the queue")?,
            passive: !own,
            durable: false,
            exclusive: own,
            auto_delete: own,
            nowait: false,
            arguments,
        };
        self.method(channel, AMQPClass::Queue(queue::AMQPMethod::Declare(declare)));
        Ok(())
    }

    /// Binds a queue. There is no answer: a refusal closes the channel.
    ///
    /// # Errors
    /// A name over 255 octets.
    pub fn bind(&mut self, channel: u16, queue: &str, exchange: &str, key: &str) -> Result<(), Error> {
        let bind = queue::Bind {
            queue: short(queue, "the queue")?,
            exchange: short(exchange, "the exchange")?,
            routing_key: short(key, "the routing key")?,
            nowait: true,
            arguments: FieldTable::default(),
        };
        self.method(channel, AMQPClass::Queue(queue::AMQPMethod::Bind(bind)));
        Ok(())
    }

    /// Lets at most `prefetch` messages wait for their acknowledgement.
    pub fn limit(&mut self, channel: u16, prefetch: u16) {
        let qos = basic::Qos { prefetch_count: prefetch, global: false };
        self.method(channel, AMQPClass::Basic(basic::AMQPMethod::Qos(qos)));
    }

    /// Consumes a queue.
    ///
    /// # Errors
    /// A name over 255 octets.
    pub fn consume(&mut self, channel: u16, queue: &str) -> Result<(), Error> {
        let consume = basic::Consume {
            queue: short(queue, "the queue")?,
            consumer_tag: ShortString::default(),
            no_local: false,
            no_ack: false,
            exclusive: true,
            nowait: false,
            arguments: FieldTable::default(),
        };
        self.method(channel, AMQPClass::Basic(basic::AMQPMethod::Consume(consume)));
        Ok(())
    }

    /// Acknowledges all messages of a channel up to this one.
    pub fn ack_through(&mut self, channel: u16, delivery_tag: u64) {
        let ack = basic::Ack { delivery_tag, multiple: true };
        self.method(channel, AMQPClass::Basic(basic::AMQPMethod::Ack(ack)));
    }

    /// Publishes a request.
    ///
    /// # Errors
    /// A name over 255 octets.
    pub fn publish(&mut self, channel: u16, request: &Request<'_>) -> Result<(), Error> {
        let publish = basic::Publish {
            exchange: short(request.exchange, "the exchange")?,
            routing_key: short(request.routing_key, "the routing key")?,
            mandatory: false,
            immediate: false,
        };
        let mut properties = BasicProperties::default()
            .with_content_type("application/json".into())
            .with_reply_to(short(request.reply_to, "the queue of the answer")?)
            .with_correlation_id(short(request.correlation_id, "the correlation id")?)
            .with_app_id("rateway".into());
        if let Some((name, value)) = request.header {
            let mut headers = FieldTable::default();
            headers.insert(short(name, "a header")?, AMQPValue::LongString(value.into()));
            properties = properties.with_headers(headers);
        }
        self.method(channel, AMQPClass::Basic(basic::AMQPMethod::Publish(publish)));
        let body_size = request.body.len() as u64;
        let header = AMQPContentHeader { class_id: CLASS_BASIC, body_size, properties };
        match gen_frame(&AMQPFrame::Header(channel, header))(WriteContext::from(Vec::new())) {
            Ok(context) => self.out.extend_from_slice(&context.into_inner().0),
            // Writing to a vector does not fail.
            Err(_) => debug_assert!(false, "a header could not be written to memory"),
        }
        for piece in request.body.chunks(frame::payload_max(self.connection.frame_max()) as usize) {
            // A piece fits a frame, whose size is a u32.
            self.out.extend_from_slice(&frame::head(FRAME_BODY, channel, piece.len() as u32));
            self.out.extend_from_slice(piece);
            self.out.push(FRAME_END);
        }
        Ok(())
    }

    /// Begins a polite close.
    pub fn close(&mut self) {
        if self.connection.phase() != Phase::Over && !self.connection.close(&mut self.out) {
            self.events.push_back(Event::Closed);
        }
    }

    fn method(&mut self, channel: u16, class: AMQPClass) {
        method::write(&mut self.out, channel, class);
    }

    fn receive_frames(&mut self, now: Instant, input: &mut Buf) -> Result<(), Error> {
        while self.connection.phase() != Phase::Over {
            let bytes = input.filled();
            if self.connection.phase() == Phase::AwaitStart && bytes.first() == Some(&b'A') {
                // A broker that does not speak 0-9-1 answers with the header of what it speaks (section 4.2.2).
                let Some(header) = bytes.first_chunk::<8>() else { return Ok(()) };
                return Err(Error::Version { header: *header });
            }
            match frame::cut(bytes, self.connection.frame_max())? {
                Cut::Frame(frame) => {
                    let wire_len = frame.wire_len();
                    let result = self.handle_frame(now, frame);
                    input.consume(wire_len);
                    result?;
                }
                Cut::Missing(missing) => {
                    input.reserve(missing);
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn handle_frame(&mut self, now: Instant, frame: Frame<'_>) -> Result<(), Error> {
        let channel = frame.channel;
        match (frame.kind, channel) {
            (FrameKind::Heartbeat, _) => Ok(()),
            (FrameKind::Method, 0) => {
                let method = method::parse(0, frame.payload)?;
                match self.connection.handle_method(now, method, &self.options, &mut self.out)? {
                    Progress::Nothing | Progress::Unblocked => {}
                    Progress::Opened => self.events.push_back(Event::Opened),
                    Progress::Blocked(reason) => self.events.push_back(Event::Blocked { reason }),
                    Progress::Closed => self.events.push_back(Event::Closed),
                }
                Ok(())
            }
            _ if self.connection.phase() == Phase::AwaitCloseOk => Ok(()),
            (_, 0) => Err(Error::UnexpectedFrame { channel, what: "content came" }),
            _ if self.connection.phase() != Phase::Open => Err(Error::UnknownChannel { channel }),
            (FrameKind::Method, _) => self.handle_method(channel, frame.payload),
            (FrameKind::Header, _) => self.header(channel, frame.payload),
            (FrameKind::Body, _) => self.body(channel, frame.payload),
        }
    }

    fn handle_method(&mut self, channel: u16, payload: &[u8]) -> Result<(), Error> {
        if !matches!(self.gathering, Gathering::Idle) {
            return Err(Error::UnexpectedFrame { channel, what: "a method came amid content" });
        }
        let method = method::parse(channel, payload)?;
        let id = method.id();
        match method {
            Method::Deliver { delivery_tag, exchange, routing_key } => {
                let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
                let (exchange, routing_key) = (text(exchange), text(routing_key));
                self.gathering = Gathering::Header { delivery_tag, exchange, routing_key };
            }
            Method::Slow(_, AMQPClass::Channel(channel::AMQPMethod::Close(close))) => {
                self.method(channel, AMQPClass::Channel(channel::AMQPMethod::CloseOk(channel::CloseOk {})));
                let text = clean(close.reply_text.as_str());
                self.events.push_back(Event::ChannelClosed { channel, code: close.reply_code, text });
            }
            Method::Slow(_, AMQPClass::Queue(queue::AMQPMethod::DeclareOk(ok))) => {
                self.events.push_back(Event::Queue {
                    channel,
                    name: ok.queue.as_str().to_owned(),
                    messages: ok.message_count,
                    consumers: ok.consumer_count,
                });
            }
            Method::Slow(_, AMQPClass::Basic(basic::AMQPMethod::Cancel(_))) => {
                self.events.push_back(Event::Cancelled);
            }
            Method::Slow(
                _,
                AMQPClass::Channel(channel::AMQPMethod::OpenOk(_))
                | AMQPClass::Exchange(exchange::AMQPMethod::DeclareOk(_))
                | AMQPClass::Basic(basic::AMQPMethod::QosOk(_) | basic::AMQPMethod::ConsumeOk(_)),
            ) => self.events.push_back(Event::Done { channel }),
            _ => return Err(Error::UnexpectedMethod { channel, method: id }),
        }
        Ok(())
    }

    fn header(&mut self, channel: u16, payload: &[u8]) -> Result<(), Error> {
        let Gathering::Header { delivery_tag, exchange, routing_key } =
            std::mem::replace(&mut self.gathering, Gathering::Idle)
        else {
            return Err(Error::UnexpectedFrame { channel, what: "a content header came without a method" });
        };
        let mut reader = Reader::new(payload);
        let fixed = (reader.u16(), reader.u16(), reader.u64());
        let (Some(CLASS_BASIC), Some(_weight), Some(remaining)) = fixed else {
            return Err(Error::Syntax { what: "a content header" });
        };
        if remaining > BODY_BYTES_MAX {
            return Err(Error::Syntax { what: "a message of more than a GiB" });
        }
        // Anybody may publish to the exchange: what cannot be read has no properties.
        let Properties { correlation_id, message_id, timestamp_s, shard_id, seq, repeat, .. } =
            properties(reader).unwrap_or_default();
        let message = Message {
            delivery_tag,
            exchange,
            routing_key,
            correlation_id: correlation_id.map(<[u8]>::to_vec),
            message_id: message_id.map(|id| String::from_utf8_lossy(id).into_owned()),
            timestamp_s,
            shard_id: shard_id.and_then(integer),
            seq: seq.and_then(integer),
            repeat: repeat.is_some(),
            // Not above BODY_BYTES_MAX, which fits a usize.
            body: Vec::with_capacity((remaining as usize).min(BODY_RESERVE_BYTES_MAX)),
        };
        self.wait(message, remaining);
        Ok(())
    }

    fn body(&mut self, channel: u16, payload: &[u8]) -> Result<(), Error> {
        let Gathering::Body { mut message, remaining } =
            std::mem::replace(&mut self.gathering, Gathering::Idle)
        else {
            return Err(Error::UnexpectedFrame { channel, what: "a content body came without a header" });
        };
        let Some(remaining) = remaining.checked_sub(payload.len() as u64) else {
            let what = "a content body came longer than its header said";
            return Err(Error::UnexpectedFrame { channel, what });
        };
        message.body.extend_from_slice(payload);
        self.wait(message, remaining);
        Ok(())
    }

    fn wait(&mut self, message: Message, remaining: u64) {
        if remaining > 0 {
            self.gathering = Gathering::Body { message, remaining };
        } else {
            self.events.push_back(Event::Message(message));
        }
    }
}

// By hand: the bytes that wait to be sent hold the password for a moment.
impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker").field("phase", &self.connection.phase()).finish_non_exhaustive()
    }
}

fn short(text: &str, name: &'static str) -> Result<ShortString, Error> {
    ShortString::try_new(text).map_err(|_| Error::ShortString { name })
}

fn integer(header: Header) -> Option<i64> {
    match header {
        Header::Integer(value) => Some(value),
        Header::Text(_) | Header::Other => None,
    }
}

#[cfg(test)]
#[path = "tests/worker.rs"]
mod tests;
