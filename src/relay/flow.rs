//! The way of one payload: envelope, shard machine, framed publish; what was published goes on to the cache.
//!
//! The body of an event is copied once, from the inflated payload into the AMQP buffer, and nothing is allocated
//! but the growth of that buffer. READY is the exception: its secrets are blanked in a copy.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use crate::amqp::publish::{EventPublish, frame_event};
use crate::gateway;
use crate::gateway::envelope::{self, EnvelopeError};
use crate::gateway::session::redact_ready;
use crate::gateway::shard::{Cause, DispatchKind, Route, Shard};

use super::filter::EventFilter;
use super::outbox::{Batch, Record};

/// The channel that carries publishes, on every connection of every cluster.
pub const PUBLISH_CHANNEL: u16 = 1;

/// The longest routing key of AMQP, a short string (AMQP 0-9-1 section 4.2.5.3).
const ROUTING_KEY_BYTES_MAX: usize = 255;

/// What a publish needs to know of its connection and cluster.
#[derive(Clone, Debug)]
pub struct Framing {
    /// The cluster's exchange.
    pub exchange: Arc<str>,
    /// The largest frame that the broker takes, in bytes.
    pub frame_max: u32,
    /// Whether READY keeps its session id and resume URL.
    pub ready_secrets: bool,
    /// Whether events outlive a broker restart in durable queues.
    pub persistent: bool,
    /// Which events are published.
    pub events: EventFilter,
}

/// Buffers that a thread lends to the flow.
#[derive(Default)]
pub struct FlowScratch {
    name: String,
    body: Vec<u8>,
}

/// What has happened to payloads, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Payloads of any kind.
    pub payloads: u64,
    /// Events framed for the broker.
    pub published: u64,
    /// Events replayed by Discord that the outbox still holds or the broker has: left out.
    pub replayed: u64,
    /// Events without a name, which have no routing key.
    pub nameless: u64,
    /// Events that EVENTS and EVENTS_EXCLUDE leave out.
    pub filtered: u64,
    /// Event names above 255 bytes, cut to fit a routing key.
    pub names_cut: u64,
}

/// Why a payload ends the connection.
#[derive(Debug)]
pub enum Error {
    /// It is not a gateway message.
    Envelope(EnvelopeError),
    /// It is one, but the shard cannot go on after it.
    Shard(gateway::Error),
    /// An event could not be framed for the broker.
    Framing(crate::amqp::Error),
}

impl Error {
    /// What it means to the shard.
    pub fn cause(&self) -> Cause {
        match self {
            Error::Envelope(_) => Cause::Payload(gateway::Error::Envelope),
            Error::Shard(error) => Cause::Payload(*error),
            // No name of ours is too long for AMQP, so this is a bug; a new connection shows it again.
            Error::Framing(_) => Cause::Stream,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Envelope(error) => write!(f, "{error}"),
            Error::Shard(error) => write!(f, "{error}"),
            Error::Framing(error) => write!(f, "{error}"),
        }
    }
}

/// An event that is new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted<'a> {
    /// `READY`, say.
    pub name: &'a str,
    /// Its body as Discord sent it, secrets and all.
    pub d: &'a [u8],
    /// Hash of its session.
    pub session_hash: u64,
    /// Its sequence number; 0 where it has none.
    pub seq: u64,
}

/// Takes one payload: tells the shard and appends what is to be published to `batch`. Events that are new are given
/// back for the cache; one that Discord replays and the broker has was in the cache before.
///
/// # Errors
/// When the payload is not to be trusted; the shard has taken nothing from it, its `s` included.
#[allow(clippy::too_many_arguments)] // Each is one thing of its own; a struct of them would be built per payload.
pub fn accept<'a>(
    payload: &'a [u8],
    shard: &mut Shard,
    now: Instant,
    wall_ms: u64,
    framing: &Framing,
    scratch: &'a mut FlowScratch,
    batch: &mut Batch,
    stats: &mut Stats,
) -> Result<Option<Accepted<'a>>, Error> {
    stats.payloads += 1;
    let envelope = envelope::scan(payload).map_err(Error::Envelope)?;
    let dispatch = match shard.handle_payload(now, &envelope, payload).map_err(Error::Shard)? {
        Route::Dispatch(dispatch) => dispatch,
        Route::Control | Route::Ignored => return Ok(None),
    };
    if dispatch.seen {
        stats.replayed += 1;
        return Ok(None);
    }
    let Some(name) = envelope.event_name(payload, &mut scratch.name) else {
        stats.nameless += 1;
        batch.skipped = dispatch.seq.map(|seq| (dispatch.session_hash, seq));
        return Ok(None);
    };
    let seq = dispatch.seq.unwrap_or(0);
    let d = envelope.d(payload);
    if !framing.events.passes(name) {
        stats.filtered += 1;
        batch.skipped = Some((dispatch.session_hash, seq));
        return Ok(Some(Accepted { name, d, session_hash: dispatch.session_hash, seq }));
    }
    let routing_key = routing_key(name);
    stats.names_cut += u64::from(routing_key.len() < name.len());
    let mut body = d;
    if dispatch.kind == DispatchKind::Ready && !framing.ready_secrets {
        scratch.body.clear();
        // `d` of a READY that the shard took is an object.
        redact_ready(body, &mut scratch.body).map_err(|_| Error::Shard(gateway::Error::Ready))?;
        body = &scratch.body;
    }
    let shard_id = shard.shard_id();
    let mut message_id = MessageId::new();
    let event = EventPublish {
        exchange: framing.exchange.as_bytes(),
        routing_key: routing_key.as_bytes(),
        message_id: message_id.format(shard_id, dispatch.session_hash, seq),
        timestamp_s: wall_ms / 1000,
        shard_id,
        seq,
        repeat: dispatch.repeat,
        persistent: framing.persistent,
        body,
    };
    frame_event(&mut batch.bytes, PUBLISH_CHANNEL, framing.frame_max, &event).map_err(Error::Framing)?;
    batch.frame_max = framing.frame_max;
    batch.records.push(Record::new(dispatch.session_hash, seq, batch.bytes.len()));
    batch.skipped = None;
    stats.published += 1;
    Ok(Some(Accepted { name, d, session_hash: dispatch.session_hash, seq }))
}

/// The part of an event's name that fits a routing key.
fn routing_key(name: &str) -> &str {
    let mut end = name.len().min(ROUTING_KEY_BYTES_MAX);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    &name[..end]
}

/// `{shard}-{session hash}-{seq}`, on the stack: 10 + 1 + 16 + 1 + 20 digits at most.
///
/// Written by hand from its end: the standard library's formatting took a tenth of all instructions of an event.
struct MessageId {
    bytes: [u8; MESSAGE_ID_BYTES_MAX],
    start: usize,
}

const MESSAGE_ID_BYTES_MAX: usize = 48;

impl MessageId {
    fn new() -> MessageId {
        MessageId { bytes: [0; MESSAGE_ID_BYTES_MAX], start: MESSAGE_ID_BYTES_MAX }
    }

    fn format(&mut self, shard_id: u32, session_hash: u64, seq: u64) -> &[u8] {
        self.start = MESSAGE_ID_BYTES_MAX;
        self.decimal(seq);
        self.prepend(b'-');
        for digit in 0..16 {
            self.prepend(b"0123456789abcdef"[(session_hash >> (4 * digit)) as usize & 15]);
        }
        self.prepend(b'-');
        self.decimal(shard_id.into());
        &self.bytes[self.start..]
    }

    fn decimal(&mut self, mut number: u64) {
        loop {
            self.prepend(b'0' + (number % 10) as u8);
            number /= 10;
            if number == 0 {
                return;
            }
        }
    }

    fn prepend(&mut self, byte: u8) {
        // The longest form is 48 bytes, so there is always room.
        self.start -= 1;
        self.bytes[self.start] = byte;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_ids_have_room_for_the_largest_numbers() {
        let mut id = MessageId::new();
        let text = format!("{}-{:016x}-{}", u32::MAX, u64::MAX, u64::MAX);
        assert_eq!(id.format(u32::MAX, u64::MAX, u64::MAX), text.as_bytes());
        assert_eq!(MessageId::new().format(7, 0xab, 42), b"7-00000000000000ab-42");
    }

    #[test]
    fn routing_keys_are_cut_at_a_character() {
        let name = "é".repeat(200);
        assert_eq!(routing_key(&name).len(), 254);
        assert_eq!(routing_key("MESSAGE_CREATE"), "MESSAGE_CREATE");
    }
}
