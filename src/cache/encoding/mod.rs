//! A compact, lossless form of one JSON value: a member, a channel, a message.
//!
//! Enters: JSON text or a part of a parsed tape. Leaves: bytes, and JSON text again that is equal once parsed: same
//! keys, same values, numbers of any size, lone surrogates too. Order and duplicates stay as they came; readers of
//! single fields take the last of them. Never here: knowledge of what a member is. A field that nobody has heard of
//! costs more bytes and is kept.
//!
//! ```text
//! entity   tag u8 | payload
//! NULL, TRUE, FALSE                 nothing
//! UINT     varint                   NINT   varint of -1 - n
//! F64      8 bytes                  NUMBER length varint | text, when short or beyond the others
//! STRING   length varint | text, escaped as JSON wants it, so that reading back is a copy
//! TEXT6    length u8 | 6 bits per character, for names of A-Z a-z 0-9 _ .
//! ID       8 bytes, "761014731138494465"         DECIMAL  varint, "2048"
//! HASH     16 bytes, 32 hex digits               A_HASH   the same after "a_"
//! HEX      count u8 | bytes, other even lengths
//! MICROS   7 bytes, 2026-08-06T18:31:01.123000+00:00     SECONDS    5 bytes, 2026-08-06T18:31:01+00:00
//! MILLIS_Z 6 bytes, 2026-08-06T18:31:01.123Z             SECONDS_Z  5 bytes, 2026-08-06T18:31:01Z
//! WORD     index u8 into WORDS
//! ARRAY    count varint | element tag u8 | payloads; element tag 0: each element has its tag before it
//! OBJECT   shape varint | payloads of its slots; shape 0: count varint | (length varint | key | tag | payload)*
//! ```
//!
//! A shape ([`Shapes`]) is an object's text with its small constants in place and a tag where a value varies; objects
//! that differ in values alone share it. Integers are little endian; a varint is LEB128 of up to 64 bits.
//!
//! Encoding an object whose shape is known allocates nothing: [`Encoder`] keeps the tape, the parser's buffers and its
//! scratch; `out` is the caller's. An object without a shape of its own (more than 32 keys, a full table) still
//! allocates for the attempt to find one. Nested containers recurse, never deeper than [`DEPTH_MAX`].

mod decode;
mod encode;
mod fields;
mod plain;
mod scalars;
mod shapes;
#[cfg(test)]
mod tests;
mod words;

use std::fmt;

pub use decode::decode;
pub use encode::{Encoder, Stats as EncoderStats};
pub use fields::{Field, Fields, field, fields};
pub use shapes::{Shapes, Stats as ShapeStats};

/// How many containers may be open at once, the entity's own included; deeper is refused. As in
/// `gateway::scan`: Discord's deepest documented bodies stay below 20.
pub const DEPTH_MAX: usize = 128;
/// Longest JSON text of one entity; longer is refused. Discord's largest (a guild without its children) stay
/// below 100 KiB; the largest valid test payload is 1 MiB.
pub const ENTITY_MAX: usize = 4 << 20;
/// Longest text that [`decode`] writes; more is refused as damage. Four times [`ENTITY_MAX`]: numbers such as
/// `9e9` come back as `9000000000.0`, and nothing else grows.
pub const DECODED_MAX: usize = 4 * ENTITY_MAX;

/// Why a value was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The text is no JSON; the offset is where that showed.
    Syntax(usize),
    /// More than [`DEPTH_MAX`] containers are open.
    TooDeep,
    /// The text is longer than [`ENTITY_MAX`], or would come back longer than [`DECODED_MAX`].
    TooLarge,
    /// Fields were asked of something that has none.
    NotAnObject,
    /// Encoded bytes or a table of shapes that this build did not write.
    Damaged,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Syntax(at) => write!(f, "no JSON at byte {at}"),
            Error::TooDeep => write!(f, "nesting deeper than {DEPTH_MAX}"),
            Error::TooLarge => write!(f, "an entity of more than {ENTITY_MAX} bytes"),
            Error::NotAnObject => f.write_str("not an object"),
            Error::Damaged => f.write_str("damaged bytes"),
        }
    }
}

impl std::error::Error for Error {}

/// Tags: below 0x20, so that none is a byte of JSON text. Their numbers are part of the layout.
mod tag {
    /// In a shape: the payload begins with its tag. In an array: so does each element.
    pub const ANY_IN_ARRAY: u8 = 0;
    pub const ANY: u8 = 1;
    pub const NULL: u8 = 2;
    pub const TRUE: u8 = 3;
    pub const FALSE: u8 = 4;
    pub const UINT: u8 = 5;
    pub const NINT: u8 = 6;
    pub const F64: u8 = 7;
    pub const NUMBER: u8 = 8;
    pub const STRING: u8 = 9;
    pub const TEXT6: u8 = 10;
    pub const ID: u8 = 11;
    pub const DECIMAL: u8 = 12;
    pub const HASH: u8 = 13;
    pub const A_HASH: u8 = 14;
    pub const HEX: u8 = 15;
    pub const MICROS: u8 = 16;
    pub const SECONDS: u8 = 17;
    pub const MILLIS_Z: u8 = 18;
    pub const SECONDS_Z: u8 = 19;
    pub const WORD: u8 = 20;
    pub const ARRAY: u8 = 21;
    pub const OBJECT: u8 = 22;
    pub const LAST: u8 = OBJECT;
}

/// Values that a shape holds as text instead of leaving a slot: text, tag, payload.
const CONSTANTS: [(&str, u8, &[u8]); 8] = [
    ("null", tag::NULL, &[]),
    ("true", tag::TRUE, &[]),
    ("false", tag::FALSE, &[]),
    ("0", tag::UINT, &[0]),
    ("\"\"", tag::STRING, &[0]),
    ("\"0\"", tag::DECIMAL, &[0]),
    ("[]", tag::ARRAY, &[0]),
    ("{}", tag::OBJECT, &[0, 0]),
];

/// The constant that a value is, as an index into [`CONSTANTS`].
#[inline]
fn constant_of(tag: u8, payload: &[u8]) -> Option<usize> {
    match tag {
        tag::NULL => Some(0),
        tag::TRUE => Some(1),
        tag::FALSE => Some(2),
        tag::UINT if payload == [0] => Some(3),
        tag::STRING if payload == [0] => Some(4),
        tag::DECIMAL if payload == [0] => Some(5),
        tag::ARRAY if payload == [0] => Some(6),
        tag::OBJECT if payload == [0, 0] => Some(7),
        _ => None,
    }
}
