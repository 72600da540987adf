//! The hot path out: an event or an answer becomes the frames of a basic.publish, appended to the caller's bytes.
//!
//! ```text
//! method frame   basic.publish: exchange, routing key, no flags (neither mandatory nor immediate)
//! header frame   class 60 | weight 0 | body size u64 | property flags | properties
//! body frames    the body in pieces that fit frame_max; none for an empty body
//! ```
//!
//! Nothing is allocated but the growth of the output. Whole publishes are appended, so the frames of two messages
//! never interleave on a channel. The same bytes wait in the outbox for their confirm; after a fault
//! [`reframe`] turns them into the same messages with the header `repeat` and cut anew.

use super::error::Error;
use super::frame::{self, Cut, Frame, FrameKind};
use super::method::write_id;
use super::reader::Reader;
use super::spec::{BASIC_PUBLISH, CLASS_BASIC, FRAME_BODY, FRAME_END, FRAME_HEADER, FRAME_METHOD};

/// One event for the workers.
#[derive(Clone, Copy, Debug)]
pub struct EventPublish<'a> {
    /// The exchange of the cluster; at most 255 octets.
    pub exchange: &'a [u8],
    /// The event name; at most 255 octets.
    pub routing_key: &'a [u8],
    /// The same on each repeat of the event; at most 255 octets.
    pub message_id: &'a [u8],
    /// When it was received, in seconds since 1970.
    pub timestamp_s: u64,
    /// The shard that received it.
    pub shard_id: u32,
    /// Its sequence number in the session.
    pub seq: u64,
    /// Whether it may have been published before.
    pub repeat: bool,
    /// Whether it outlives a restart of the broker in a durable queue (delivery mode 2).
    pub persistent: bool,
    /// The octets of `d`.
    pub body: &'a [u8],
}

/// One answer to a worker.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    /// Empty for the default exchange; at most 255 octets.
    pub exchange: &'a [u8],
    /// The queue or key that the worker named; at most 255 octets.
    pub routing_key: &'a [u8],
    /// Taken over from the request; at most 255 octets.
    pub correlation_id: Option<&'a [u8]>,
    /// The header `found` of a cache answer.
    pub found: Option<bool>,
    /// The JSON, or nothing.
    pub body: &'a [u8],
}

// Bits of the property flags (content header of class basic).
pub(super) const CONTENT_TYPE: u16 = 1 << 15;
pub(super) const HEADERS: u16 = 1 << 13;
pub(super) const DELIVERY_MODE: u16 = 1 << 12;
pub(super) const CORRELATION_ID: u16 = 1 << 10;
pub(super) const MESSAGE_ID: u16 = 1 << 7;
pub(super) const TIMESTAMP: u16 = 1 << 6;
pub(super) const APP_ID: u16 = 1 << 3;

const EVENT_FLAGS: u16 = CONTENT_TYPE | HEADERS | MESSAGE_ID | TIMESTAMP | APP_ID;

// Short strings and field names with their length octet in front, field names with the type octet behind.
const JSON: &[u8] = b"\x10application/json";
const RATEWAY: &[u8] = b"\x07rateway";
const REPEAT_TRUE: &[u8] = b"\x06repeatt\x01";
/// How many octets the mark adds to a message.
pub const REPEAT_BYTES: usize = REPEAT_TRUE.len();
/// Delivery mode of a message that goes to disk in a durable queue.
const PERSISTENT: u8 = 2;
const SEQ: &[u8] = b"\x03seql";
const SHARD_ID: &[u8] = b"\x08shard_idI";
const FOUND: &[u8] = b"\x05foundt";

/// Octets of an event's field table without `repeat`.
const EVENT_TABLE_LEN: u32 = (SEQ.len() + 8 + SHARD_ID.len() + 4) as u32;
/// Class, weight, body size and flags at the head of a content header.
const HEADER_FIXED_LEN: u32 = 2 + 2 + 8 + 2;

/// How many octets [`frame_event`] appends for `event`.
pub fn event_len(frame_max: u32, event: &EventPublish<'_>) -> usize {
    const OVERHEAD: usize = super::spec::FRAME_OVERHEAD as usize;
    let method = 9 + event.exchange.len() + event.routing_key.len();
    let header = event_header_len(event) as usize;
    let payload_max = frame::payload_max(frame_max) as usize;
    let bodies = event.body.len().div_ceil(payload_max);
    method + header + event.body.len() + (2 + bodies) * OVERHEAD
}

/// Appends one event, framed for `channel` and cut by `frame_max`.
///
/// # Errors
/// An exchange, routing key or message id over 255 octets; nothing is appended then.
#[inline]
pub fn frame_event(
    out: &mut Vec<u8>,
    channel: u16,
    frame_max: u32,
    event: &EventPublish<'_>,
) -> Result<(), Error> {
    let exchange_len = short_len(event.exchange, "the exchange")?;
    let routing_key_len = short_len(event.routing_key, "the routing key")?;
    let message_id_len = short_len(event.message_id, "the message id")?;
    out.reserve(event_len(frame_max, event));

    write_publish(out, channel, (exchange_len, event.exchange), (routing_key_len, event.routing_key));
    let flags = if event.persistent { EVENT_FLAGS | DELIVERY_MODE } else { EVENT_FLAGS };
    write_header_head(out, channel, event_header_len(event), event.body.len() as u64, flags);
    out.extend_from_slice(JSON);
    // A field table has no order of its own; by name is how other libraries write one.
    let repeat = if event.repeat { REPEAT_TRUE } else { b"" };
    out.extend_from_slice(&(EVENT_TABLE_LEN + repeat.len() as u32).to_be_bytes());
    out.extend_from_slice(repeat);
    out.extend_from_slice(SEQ);
    out.extend_from_slice(&event.seq.to_be_bytes());
    out.extend_from_slice(SHARD_ID);
    out.extend_from_slice(&event.shard_id.to_be_bytes());
    if event.persistent {
        out.push(PERSISTENT);
    }
    out.push(message_id_len);
    out.extend_from_slice(event.message_id);
    out.extend_from_slice(&event.timestamp_s.to_be_bytes());
    out.extend_from_slice(RATEWAY);
    out.push(FRAME_END);
    write_body(out, channel, frame_max, event.body);
    Ok(())
}

/// Appends one answer, framed for `channel` and cut by `frame_max`.
///
/// # Errors
/// An exchange, routing key or correlation id over 255 octets; nothing is appended then.
pub fn frame_answer(
    out: &mut Vec<u8>,
    channel: u16,
    frame_max: u32,
    answer: &Answer<'_>,
) -> Result<(), Error> {
    let exchange_len = short_len(answer.exchange, "the exchange")?;
    let routing_key_len = short_len(answer.routing_key, "the routing key")?;
    let correlation_id = answer.correlation_id.unwrap_or_default();
    let correlation_id_len = short_len(correlation_id, "the correlation id")?;

    let mut flags = CONTENT_TYPE | APP_ID;
    let mut len = HEADER_FIXED_LEN + (JSON.len() + RATEWAY.len()) as u32;
    if answer.found.is_some() {
        flags |= HEADERS;
        len += 4 + FOUND.len() as u32 + 1;
    }
    if answer.correlation_id.is_some() {
        flags |= CORRELATION_ID;
        len += 1 + u32::from(correlation_id_len);
    }
    write_publish(out, channel, (exchange_len, answer.exchange), (routing_key_len, answer.routing_key));
    write_header_head(out, channel, len, answer.body.len() as u64, flags);
    out.extend_from_slice(JSON);
    if let Some(found) = answer.found {
        out.extend_from_slice(&(FOUND.len() as u32 + 1).to_be_bytes());
        out.extend_from_slice(FOUND);
        out.push(u8::from(found));
    }
    if answer.correlation_id.is_some() {
        out.push(correlation_id_len);
        out.extend_from_slice(correlation_id);
    }
    out.extend_from_slice(RATEWAY);
    out.push(FRAME_END);
    write_body(out, channel, frame_max, answer.body);
    Ok(())
}

/// Appends the messages of `events`, whole publishes made by [`frame_event`], once more, with bodies cut by the
/// `frame_max` of now and, if `repeat` says so, each with the header `repeat`. A message that has the header keeps
/// it. Returns how many messages there were.
///
/// # Errors
/// When `events` is anything else; nothing is appended then.
pub fn reframe(events: &[u8], frame_max: u32, repeat: bool, out: &mut Vec<u8>) -> Result<u32, Error> {
    let before = out.len();
    out.reserve(events.len());
    let mut rest = events;
    let mut count = 0u32;
    while !rest.is_empty() {
        let offset = events.len() - rest.len();
        if reframe_one(&mut rest, frame_max, repeat, out).is_none() {
            out.truncate(before);
            return Err(Error::NotPublishes { offset });
        }
        count = count.saturating_add(1);
    }
    Ok(count)
}

/// The routing key of a publish, or of the first of several; `None`: `publish` begins with something else.
pub fn routing_key(publish: &[u8]) -> Option<&[u8]> {
    let (method, _) = next(&mut &*publish, FrameKind::Method)?;
    let mut reader = Reader::new(method.payload);
    if (reader.u16()?, reader.u16()?) != BASIC_PUBLISH {
        return None;
    }
    let (_ticket, _exchange) = (reader.u16()?, reader.short()?);
    reader.short()
}

fn reframe_one(rest: &mut &[u8], frame_max: u32, repeat: bool, out: &mut Vec<u8>) -> Option<()> {
    let (method, method_bytes) = next(rest, FrameKind::Method)?;
    let mut reader = Reader::new(method.payload);
    if (reader.u16()?, reader.u16()?) != BASIC_PUBLISH {
        return None;
    }
    out.extend_from_slice(method_bytes);

    let (header, header_bytes) = next(rest, FrameKind::Header)?;
    let mut reader = Reader::new(header.payload);
    let (class, _weight) = (reader.u16()?, reader.u16()?);
    let body_size = reader.u64()?;
    let flags = reader.u16()?;
    if class != CLASS_BASIC || flags & !DELIVERY_MODE != EVENT_FLAGS || reader.bytes(JSON.len())? != JSON {
        return None;
    }
    let table = reader.long()?;
    if !repeat || table.starts_with(REPEAT_TRUE) {
        out.extend_from_slice(header_bytes);
    } else {
        let added = REPEAT_TRUE.len() as u32;
        let len = u32::try_from(header.payload.len()).ok()?.checked_add(added)?;
        write_header_head(out, method.channel, len, body_size, flags);
        out.extend_from_slice(JSON);
        out.extend_from_slice(&u32::try_from(table.len()).ok()?.checked_add(added)?.to_be_bytes());
        out.extend_from_slice(REPEAT_TRUE);
        out.extend_from_slice(table);
        out.extend_from_slice(reader.rest());
        out.push(FRAME_END);
    }

    // Pieces of the old cut flow into frames of the new one. `room` is what the frame being filled still takes.
    let payload_max = u64::from(frame::payload_max(frame_max));
    let (mut remaining, mut room) = (body_size, 0u64);
    while remaining > 0 {
        let (body, _) = next(rest, FrameKind::Body)?;
        let mut piece = body.payload;
        while !piece.is_empty() {
            if room == 0 {
                room = remaining.min(payload_max);
                // At most payload_max, which is a u32.
                out.extend_from_slice(&frame::head(FRAME_BODY, method.channel, room as u32));
            }
            if room == 0 {
                return None; // More octets than the header announced.
            }
            let (taken, left) = piece.split_at(piece.len().min(usize::try_from(room).ok()?));
            out.extend_from_slice(taken);
            room -= taken.len() as u64;
            remaining -= taken.len() as u64;
            if room == 0 {
                out.push(FRAME_END);
            }
            piece = left;
        }
    }
    Some(())
}

/// Takes the next frame and its octets off `rest`; it has to be of `kind`.
fn next<'a>(rest: &mut &'a [u8], kind: FrameKind) -> Option<(Frame<'a>, &'a [u8])> {
    let bytes = *rest;
    match frame::cut(bytes, u32::MAX) {
        Ok(Cut::Frame(frame)) if frame.kind == kind => {
            let (head, tail) = bytes.split_at_checked(frame.wire_len())?;
            *rest = tail;
            Some((frame, head))
        }
        _ => None,
    }
}

fn short_len(bytes: &[u8], name: &'static str) -> Result<u8, Error> {
    u8::try_from(bytes.len()).map_err(|_| Error::ShortString { name })
}

fn event_header_len(event: &EventPublish<'_>) -> u32 {
    let repeat = if event.repeat { REPEAT_TRUE.len() as u32 } else { 0 };
    let strings = (JSON.len() + 1 + event.message_id.len() + RATEWAY.len()) as u32;
    HEADER_FIXED_LEN + strings + 4 + EVENT_TABLE_LEN + repeat + u32::from(event.persistent) + 8
}

/// `60, 40 | ticket u16, unused | exchange short | routing key short | bits u8`
fn write_publish(out: &mut Vec<u8>, channel: u16, exchange: (u8, &[u8]), routing_key: (u8, &[u8])) {
    let len = 9 + u32::from(exchange.0) + u32::from(routing_key.0);
    out.extend_from_slice(&frame::head(FRAME_METHOD, channel, len));
    write_id(out, BASIC_PUBLISH);
    out.extend_from_slice(&[0, 0, exchange.0]);
    out.extend_from_slice(exchange.1);
    out.push(routing_key.0);
    out.extend_from_slice(routing_key.1);
    out.extend_from_slice(&[0, FRAME_END]);
}

fn write_header_head(out: &mut Vec<u8>, channel: u16, len: u32, body_size: u64, flags: u16) {
    out.extend_from_slice(&frame::head(FRAME_HEADER, channel, len));
    out.extend_from_slice(&CLASS_BASIC.to_be_bytes());
    out.extend_from_slice(&[0, 0]);
    out.extend_from_slice(&body_size.to_be_bytes());
    out.extend_from_slice(&flags.to_be_bytes());
}

fn write_body(out: &mut Vec<u8>, channel: u16, frame_max: u32, body: &[u8]) {
    for piece in body.chunks(frame::payload_max(frame_max) as usize) {
        out.extend_from_slice(&frame::head(FRAME_BODY, channel, piece.len() as u32));
        out.extend_from_slice(piece);
        out.push(FRAME_END);
    }
}

#[cfg(test)]
#[path = "publish_tests.rs"]
mod tests;
