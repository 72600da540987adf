//! Frames to a client: methods by hand, messages in three copies.

use std::collections::VecDeque;
use std::mem;

use super::message::{Message, Store};
use super::options::OUTGOING_BYTES_KEPT;
use super::slots::Key;
use crate::amqp::frame;
use crate::amqp::spec::{self, FRAME_BODY, FRAME_END, FRAME_HEADER, FRAME_METHOD, MethodId};

/// Octets of a frame's head: type, channel, size.
const HEAD_LEN: usize = 7;

/// Bodies above this stay where they are until a client's socket takes them; so much is framed at a time.
const LARGE_BODY: usize = 128 << 10;

/// Bytes that wait for a client's socket.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    bytes: Vec<u8>,
    // Invariant: written <= bytes.len().
    written: usize,
    /// What comes after `bytes`. Each of these has its message.
    bodies: VecDeque<LargeBody>,
}

/// A body that is framed piece by piece.
#[derive(Debug)]
struct LargeBody {
    message: Key,
    channel: u16,
    frame_max: u32,
    at: usize,
    len: usize,
    /// What was said after it.
    behind: Vec<u8>,
}

impl Outgoing {
    pub(super) fn len(&self) -> usize {
        let behind = |body: &LargeBody| body.len - body.at + body.behind.len();
        self.bytes.len() - self.written + self.bodies.iter().map(behind).sum::<usize>()
    }

    pub(super) fn waiting(&self) -> &[u8] {
        self.bytes.get(self.written..).unwrap_or_default()
    }

    /// Where to write more.
    pub(super) fn bytes(&mut self) -> &mut Vec<u8> {
        match self.bodies.back_mut() {
            Some(body) => &mut body.behind,
            None => &mut self.bytes,
        }
    }

    /// The messages whose bodies are still to be framed.
    pub(super) fn messages(&self) -> impl Iterator<Item = Key> {
        self.bodies.iter().map(|body| body.message)
    }

    /// Frames more of what waits, once all that was framed is written. Returns a message that has come to its end.
    pub(super) fn frame_more(&mut self, store: &Store) -> Option<Key> {
        if self.written < self.bytes.len() {
            return None;
        }
        let body = self.bodies.front_mut()?;
        let rest = store.get(body.message).and_then(|message| message.body().get(body.at..));
        let rest = rest.unwrap_or_default();
        debug_assert_eq!(body.at + rest.len(), body.len, "a body is gone before it was sent");
        let portion = rest.get(..LARGE_BODY).unwrap_or(rest);
        frames(&mut self.bytes, body.channel, body.frame_max, portion);
        body.at += portion.len();
        if portion.len() < rest.len() {
            return None;
        }
        self.bytes.append(&mut body.behind);
        self.bodies.pop_front().map(|body| body.message)
    }

    /// The socket took the first `n`.
    pub(super) fn advance(&mut self, n: usize) {
        self.written = (self.written + n).min(self.bytes.len());
        if self.written == self.bytes.len() {
            self.written = 0;
            self.bytes.clear();
            if self.bytes.capacity() > OUTGOING_BYTES_KEPT {
                self.bytes = Vec::new();
            }
        } else if self.written >= OUTGOING_BYTES_KEPT && self.written >= self.bytes.len() / 2 {
            // Each octet is moved once at most for one that was written.
            self.bytes.drain(..self.written);
            self.written = 0;
        }
    }
}

/// A method frame on its way into `out`; its size is put in place at [`Method::end`].
pub(super) struct Method<'a> {
    out: &'a mut Vec<u8>,
    start: usize,
}

impl<'a> Method<'a> {
    pub(super) fn new(out: &'a mut Vec<u8>, channel: u16, (class, method): MethodId) -> Method<'a> {
        let start = out.len();
        out.extend_from_slice(&frame::head(FRAME_METHOD, channel, 0));
        Method { out, start }.u16(class).u16(method)
    }

    pub(super) fn u8(self, value: u8) -> Self {
        self.out.push(value);
        self
    }

    pub(super) fn u16(self, value: u16) -> Self {
        self.out.extend_from_slice(&value.to_be_bytes());
        self
    }

    pub(super) fn u32(self, value: u32) -> Self {
        self.out.extend_from_slice(&value.to_be_bytes());
        self
    }

    pub(super) fn u64(self, value: u64) -> Self {
        self.out.extend_from_slice(&value.to_be_bytes());
        self
    }

    /// A short string, cut at 255 octets, and there between two characters.
    pub(super) fn short(self, value: &[u8]) -> Self {
        short(self.out, value);
        self
    }

    pub(super) fn long(self, value: &[u8]) -> Self {
        let this = self.u32(value.len() as u32);
        this.out.extend_from_slice(value);
        this
    }

    pub(super) fn raw(self, value: &[u8]) -> Self {
        self.out.extend_from_slice(value);
        self
    }

    pub(super) fn end(self) {
        let size = (self.out.len() - self.start - HEAD_LEN) as u32;
        if let Some(place) = self.out.get_mut(self.start + 3..self.start + HEAD_LEN) {
            place.copy_from_slice(&size.to_be_bytes());
        }
        self.out.push(FRAME_END);
    }
}

/// Appends a short string, cut at 255 octets, and there between two characters of UTF-8.
pub(super) fn short(out: &mut Vec<u8>, value: &[u8]) {
    let mut end = value.len().min(usize::from(u8::MAX));
    while end < value.len() && value.get(end).is_some_and(|octet| octet & 0xC0 == 0x80) {
        end -= 1;
    }
    out.push(end as u8);
    out.extend_from_slice(value.get(..end).unwrap_or_default());
}

/// Appends an entry of a field table: a name and a long string.
pub(super) fn text_entry(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    short(out, name.as_bytes());
    out.push(b'S');
    out.extend_from_slice(&(value.len() as u32).to_be_bytes());
    out.extend_from_slice(value);
}

/// A method without arguments.
pub(super) fn bare(out: &mut Vec<u8>, channel: u16, id: MethodId) {
    Method::new(out, channel, id).end();
}

/// What is delivered, besides the message.
pub(super) struct Deliver<'a> {
    pub(super) consumer_tag: &'a [u8],
    pub(super) delivery_tag: u64,
    pub(super) redelivered: bool,
}

/// A message, with its name, and how to frame it.
#[derive(Clone, Copy)]
pub(super) struct Sent<'a> {
    pub(super) key: Key,
    pub(super) message: &'a Message,
    pub(super) channel: u16,
    pub(super) frame_max: u32,
}

/// `consumer tag short | delivery tag u64 | redelivered u8 | exchange short | routing key short`, then the content.
/// Returns whether the message has to stay until its body is framed.
pub(super) fn deliver(outgoing: &mut Outgoing, deliver: &Deliver<'_>, sent: Sent<'_>) -> bool {
    let Deliver { consumer_tag, delivery_tag, redelivered } = *deliver;
    let Sent { message, channel, .. } = sent;
    let names = message.names();
    let out = outgoing.bytes();
    // Tags come from a short string.
    let size = 4 + 1 + consumer_tag.len() + 9 + names.len();
    out.reserve(size + message.header().len() + message.body().len().min(LARGE_BODY) + 64);
    out.extend_from_slice(&frame::head(FRAME_METHOD, channel, size as u32));
    out.extend_from_slice(&[0, 60, 0, 60, consumer_tag.len() as u8]);
    out.extend_from_slice(consumer_tag);
    out.extend_from_slice(&delivery_tag.to_be_bytes());
    out.push(u8::from(redelivered));
    out.extend_from_slice(names);
    out.push(FRAME_END);
    content(outgoing, sent)
}

/// `delivery tag u64 | redelivered u8 | exchange short | routing key short | messages left u32`, then the content.
pub(super) fn get_ok(
    outgoing: &mut Outgoing,
    (delivery_tag, redelivered): (u64, bool),
    left: u32,
    sent: Sent<'_>,
) -> bool {
    Method::new(outgoing.bytes(), sent.channel, spec::BASIC_GET_OK)
        .u64(delivery_tag)
        .u8(u8::from(redelivered))
        .raw(sent.message.names())
        .u32(left)
        .end();
    content(outgoing, sent)
}

/// `reply code u16 | reply text short | exchange short | routing key short`, then the content.
pub(super) fn no_route(outgoing: &mut Outgoing, sent: Sent<'_>) -> bool {
    Method::new(outgoing.bytes(), sent.channel, spec::BASIC_RETURN)
        .u16(spec::ChannelReplyCode::NoRoute.code())
        .short(b"NO_ROUTE")
        .raw(sent.message.names())
        .end();
    content(outgoing, sent)
}

fn content(outgoing: &mut Outgoing, sent: Sent<'_>) -> bool {
    let Sent { key, message, channel, frame_max } = sent;
    let (header, body) = (message.header(), message.body());
    let out = outgoing.bytes();
    out.extend_from_slice(&frame::head(FRAME_HEADER, channel, header.len() as u32));
    out.extend_from_slice(header);
    out.push(FRAME_END);
    if body.len() > LARGE_BODY {
        let (at, len, behind) = (0, body.len(), Vec::new());
        outgoing.bodies.push_back(LargeBody { message: key, channel, frame_max, at, len, behind });
        return true;
    }
    frames(out, channel, frame_max, body);
    false
}

fn frames(out: &mut Vec<u8>, channel: u16, frame_max: u32, body: &[u8]) {
    for piece in body.chunks(frame::payload_max(frame_max) as usize) {
        out.extend_from_slice(&frame::head(FRAME_BODY, channel, piece.len() as u32));
        out.extend_from_slice(piece);
        out.push(FRAME_END);
    }
}

/// A publisher's confirms since the last turn, written as few frames.
#[derive(Debug, Default)]
pub(super) struct Confirms {
    /// The last publish counted, from 1.
    last: u64,
    /// What was told of.
    told: u64,
    /// Those after `told` that were refused.
    refused: Vec<u64>,
}

impl Confirms {
    /// Counts a publish; returns whether it is the first to be told of.
    pub(super) fn count(&mut self, is_taken: bool) -> bool {
        let is_first = self.last == self.told;
        self.last += 1;
        if !is_taken {
            self.refused.push(self.last);
        }
        is_first
    }

    /// Writes acks, several in one where no refused one is between them, and nacks.
    pub(super) fn write(&mut self, out: &mut Vec<u8>, channel: u16) {
        for tag in mem::take(&mut self.refused) {
            self.ack_until(out, channel, tag - 1);
            Method::new(out, channel, spec::BASIC_NACK).u64(tag).u8(0).end();
            self.told = tag;
        }
        self.ack_until(out, channel, self.last);
    }

    fn ack_until(&mut self, out: &mut Vec<u8>, channel: u16, tag: u64) {
        let count = tag.saturating_sub(self.told);
        if count > 0 {
            Method::new(out, channel, spec::BASIC_ACK).u64(tag).u8(u8::from(count > 1)).end();
            self.told = tag;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use amq_protocol::frame::{AMQPFrame, WriteContext, gen_frame, parse_frame};
    use amq_protocol::protocol::{AMQPClass, basic};

    #[test]
    fn a_delivery_is_written_as_the_reference_writes_it() {
        let mut bytes = b"\x09rateway-1\x07gateway".to_vec();
        let names_len = bytes.len();
        let header = [0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 19, 136, 0, 0];
        bytes.extend_from_slice(&header);
        bytes.extend_from_slice(&[b'x'; 5000]);
        let message = Message::new(bytes, names_len, header.len());
        let mut outgoing = Outgoing::default();
        let head = Deliver { consumer_tag: b"tag", delivery_tag: 77, redelivered: true };
        let sent = Sent { key: Key::NONE, message: &message, channel: 3, frame_max: 4096 };
        assert!(!deliver(&mut outgoing, &head, sent));
        let out = outgoing.waiting().to_vec();
        let class = AMQPClass::Basic(basic::AMQPMethod::Deliver(basic::Deliver {
            consumer_tag: "tag".into(),
            delivery_tag: 77,
            redelivered: true,
            exchange: "rateway-1".into(),
            routing_key: "gateway".into(),
        }));
        let method = gen_frame(&AMQPFrame::Method(3, class))(WriteContext::from(Vec::new()));
        let method = method.expect("memory").into_inner().0;
        assert_eq!(out[..method.len()], method);
        let mut rest = &out[method.len()..];
        let mut kinds = Vec::new();
        while !rest.is_empty() {
            let (after, frame) = parse_frame(rest).expect("a frame");
            kinds.push(match frame {
                AMQPFrame::Header(3, header) => header.body_size as usize,
                AMQPFrame::Body(3, body) => body.len(),
                other => panic!("{other}"),
            });
            rest = after;
        }
        assert_eq!(kinds, [5000, 4088, 912]);
    }

    #[test]
    fn confirms_are_told_together_where_they_can() {
        let mut confirms = Confirms::default();
        let taken = [true, true, false, true, false, false, true, true];
        let firsts: Vec<bool> = taken.into_iter().map(|taken| confirms.count(taken)).collect();
        assert_eq!(firsts, [true, false, false, false, false, false, false, false]);
        let mut out = Vec::new();
        confirms.write(&mut out, 1);
        let mut rest = out.as_slice();
        let mut told = Vec::new();
        while !rest.is_empty() {
            let (after, frame) = parse_frame(rest).expect("a frame");
            told.push(match frame {
                AMQPFrame::Method(1, AMQPClass::Basic(basic::AMQPMethod::Ack(ack))) => {
                    (true, ack.delivery_tag, ack.multiple)
                }
                AMQPFrame::Method(1, AMQPClass::Basic(basic::AMQPMethod::Nack(nack))) => {
                    (false, nack.delivery_tag, nack.multiple)
                }
                other => panic!("{other}"),
            });
            rest = after;
        }
        let want =
            [(true, 2, true), (false, 3, false), (true, 4, false), (false, 5, false), (false, 6, false)];
        assert_eq!(told, [want.as_slice(), &[(true, 8, true)]].concat());
        out.clear();
        confirms.write(&mut out, 1);
        assert!(out.is_empty() && confirms.count(true));
    }

    #[test]
    fn short_strings_are_cut_between_characters() {
        let mut out = Vec::new();
        short(&mut out, "é".repeat(128).as_bytes());
        assert_eq!((out[0], out.len()), (254, 255));
    }
}
