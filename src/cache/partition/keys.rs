//! The rows of a partition: which key each thing is kept under, and what stands before its encoded object.
//!
//! ```text
//! GUILD        0, guild          number | people | flags u8 | object
//! GUILD_OF     0, number         guild u64
//! CHANNEL      number, channel   object                       THREAD the same
//! CHANNEL_AT   0, channel        number << 1 | is thread
//! PRIVATE      0, channel        object
//! THREAD_OF    parent, thread    nothing
//! ROLE ...     number, id        object                       one row each for what a guild owns by id
//! ROLE_AT ...  0, id             number
//! MEMBER       people, user      object without its user
//! PRESENCE     people, user      object without its user
//! VOICE        number, user      channel u64 | object without its member
//! VOICE_IN     channel, user     number
//! USER         0, user           references | object, or nothing as long as none was seen whole
//! RING         0, channel        ring | messages | number + 1, 0 in private
//! RING_OF      number, channel   nothing
//! MESSAGE      ring, message     object
//! DOOMED       row, number       nothing: what that row has under the number goes bit by bit
//! STRIP        people, role      user u64: members up to that one have lost the role
//! ```
//!
//! A guild's `number` is short and the partition's own, so that keys share long prefixes. Its `people` change with each
//! GUILD_CREATE: a million members that are stale go by changing one number, and are swept later. Numbers are LEB128.

use crate::cache::arena::Key;

pub const GUILD: u8 = 1;
pub const GUILD_OF: u8 = 2;
pub const CHANNEL: u8 = 3;
pub const THREAD: u8 = 4;
pub const CHANNEL_AT: u8 = 5;
pub const PRIVATE: u8 = 6;
pub const THREAD_OF: u8 = 7;
pub const ROLE: u8 = 8;
pub const EMOJI: u8 = 9;
pub const STICKER: u8 = 10;
pub const SOUND: u8 = 11;
pub const STAGE: u8 = 12;
pub const EVENT: u8 = 13;
pub const INTEGRATION: u8 = 14;
/// What a guild owns by id, by [`at_row`].
pub const AT: u8 = 7;
pub const MEMBER: u8 = 22;
pub const PRESENCE: u8 = 23;
pub const VOICE: u8 = 24;
pub const VOICE_IN: u8 = 25;
pub const USER: u8 = 26;
pub const RING: u8 = 27;
pub const RING_OF: u8 = 28;
pub const MESSAGE: u8 = 29;
pub const DOOMED: u8 = 30;
pub const STRIP: u8 = 31;

/// The row that finds the number for an id of `row` (ROLE to INTEGRATION): 15 to 21.
pub const fn at_row(row: u8) -> u8 {
    row + AT
}

/// A key of two numbers.
#[inline]
pub const fn key(row: u8, a: u64, b: u64) -> Key {
    Key { kind: row, a, b }
}

/// A key of one id.
#[inline]
pub const fn id_key(row: u8, id: u64) -> Key {
    key(row, 0, id)
}

/// The first and the last key of a row under `a`.
pub const fn span(row: u8, a: u64) -> (Key, Key) {
    (key(row, a, 0), key(row, a, u64::MAX))
}

/// Where the bytes of a head go.
pub trait Sink {
    fn push(&mut self, byte: u8);
}

impl Sink for Vec<u8> {
    fn push(&mut self, byte: u8) {
        Vec::push(self, byte);
    }
}

/// A value of nothing but a head, on the stack: three numbers at most.
#[derive(Default)]
pub struct Short {
    bytes: [u8; 32],
    len: usize,
}

impl Short {
    /// A number that is a row's whole value.
    pub fn number(number: u64) -> Short {
        let mut short = Short::default();
        put_number(&mut short, number);
        short
    }

    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl Sink for Short {
    fn push(&mut self, byte: u8) {
        // Three numbers of ten bytes fit.
        self.bytes[self.len] = byte;
        self.len += 1;
    }
}

/// Appends a number of up to 64 bits in 7 bits a byte, low ones first.
pub fn put_number(out: &mut impl Sink, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Takes such a number from the front of `from`; what is no number reads as 0.
pub fn take_number(from: &mut &[u8]) -> u64 {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let Some((&byte, rest)) = from.split_first() else { return 0 };
        *from = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return number;
        }
    }
    number
}

/// A u64 at the front of `from`, which is left behind it; 0 where there is none.
pub fn take_u64(from: &mut &[u8]) -> u64 {
    let Some((bytes, rest)) = from.split_first_chunk() else { return 0 };
    *from = rest;
    u64::from_le_bytes(*bytes)
}

/// What stands before a guild's object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuildHead {
    pub number: u64,
    pub people: u64,
    pub unavailable: bool,
}

impl GuildHead {
    pub fn put(self, out: &mut Vec<u8>) {
        put_number(out, self.number);
        put_number(out, self.people);
        out.push(u8::from(self.unavailable));
    }

    pub fn take(from: &mut &[u8]) -> GuildHead {
        let (number, people) = (take_number(from), take_number(from));
        let unavailable = from.first() == Some(&1);
        *from = from.get(1..).unwrap_or_default();
        GuildHead { number, people, unavailable }
    }
}

/// A channel's messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingHead {
    /// What its messages are kept under.
    pub ring: u64,
    /// How many there are.
    pub messages: u64,
    /// The guild's number, none in private.
    pub number: Option<u64>,
}

impl RingHead {
    pub fn short(self) -> Short {
        let mut out = Short::default();
        put_number(&mut out, self.ring);
        put_number(&mut out, self.messages);
        put_number(&mut out, self.number.map_or(0, |number| number + 1));
        out
    }

    pub fn take(mut from: &[u8]) -> RingHead {
        let (ring, messages) = (take_number(&mut from), take_number(&mut from));
        RingHead { ring, messages, number: take_number(&mut from).checked_sub(1) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back() {
        for number in [0, 1, 127, 128, 16_383, 16_384, u64::from(u32::MAX), u64::MAX] {
            let mut out = Vec::new();
            put_number(&mut out, number);
            out.push(9);
            let mut from = out.as_slice();
            assert_eq!((take_number(&mut from), from), (number, &[9][..]));
        }
    }

    #[test]
    fn heads_come_back() {
        let guild = GuildHead { number: 300, people: 7, unavailable: true };
        let ring = RingHead { ring: 1, messages: 500, number: Some(0) };
        let mut out = Vec::new();
        guild.put(&mut out);
        assert_eq!(GuildHead::take(&mut out.as_slice()), guild);
        for ring in [ring, RingHead { number: None, ..ring }] {
            assert_eq!(RingHead::take(ring.short().as_slice()), ring);
        }
    }

    #[test]
    fn rows_do_not_overlap() {
        assert!(at_row(INTEGRATION) < MEMBER && at_row(ROLE) > INTEGRATION);
    }
}
