//! A compact, lossless form of one JSON value: a member, a channel, a message.
//!
//! Enters: parts of a parsed text ([`Parser`], [`Value`]). Leaves: bytes, and JSON text again ([`Entity`]) that is equal
//! once parsed: same keys, same values, numbers of any size, lone surrogates too. Order and duplicates stay as they
//! came; readers of single fields take the last of them. Never here: knowledge of what a member is. A field that
//! nobody has heard of costs more bytes and is kept.
//!
//! ```text
//! entity   shape varint | payloads of its slots, for an object that has a shape; else 0 | tag u8 | payload
//! NULL, TRUE, FALSE                 nothing
//! OWN, PARENT                       nothing: the decimal text of an id that the entity is kept under
//! UINT     varint                   NINT   varint of -1 - n
//! F64      8 bytes                  NUMBER length varint | text, when short or beyond the others
//! STRING   length varint | text, escaped as JSON wants it, so that reading back is a copy
//! TEXT6    length u8 | 6 bits per character, for names of A-Z a-z 0-9 _ .
//! CODED    length varint | codes of printable ASCII, see `coded`
//! ID       8 bytes, "761014731138494465"         DECIMAL  varint, "2048"
//! HASH     16 bytes, 32 hex digits               A_HASH   the same after "a_"
//! HEX      count u8 | bytes, other even lengths
//! MICROS   7 bytes, 2026-08-06T18:31:01.123000+00:00     SECONDS    5 bytes, 2026-08-06T18:31:01+00:00
//! MILLIS_Z 6 bytes, 2026-08-06T18:31:01.123Z             SECONDS_Z  5 bytes, 2026-08-06T18:31:01Z
//! WORD     index u8 into WORDS
//! ARRAY    0 if empty; else element tag + 32 * count | payloads, from 8 on element tag | count varint | payloads;
//!          element tag ANY: each element has its tag before it
//! OBJECT   shape varint | payloads of its slots; shape 0: count varint | (length varint | key | tag | payload)*
//! ```
//!
//! A shape ([`Shapes`]) is an object's text with its small constants in place and a tag where a value varies; objects
//! that differ in values alone share it. Integers are little endian; a varint is LEB128 of up to 64 bits. A value has
//! one form per table: encoding it again gives the same bytes.
//!
//! Once shapes and buffers are known nothing here allocates: [`Parser`] keeps the tape and its buffers, [`Encoder`] its
//! scratch; `out` is the caller's. Nested containers recurse, never deeper than [`DEPTH_MAX`].

mod coded;
mod constants;
mod decode;
mod encode;
mod entity;
mod matches;
mod merge;
mod parser;
mod plain;
mod scalars;
mod shape;
mod shapes;
#[cfg(test)]
mod tests;
mod times;
mod value;
mod verify;
mod words;

use std::fmt;

pub use encode::{Encoder, Stats as EncoderStats};
pub use entity::{Entity, Field, Fields, id_payload, overwrite_number};
pub use parser::{Parser, Stats as ParserStats};
pub use shapes::{SHAPES_DEFAULT, Shapes, Stats as ShapeStats, layout};
pub use value::{KeyText, Pick, Value};

/// How many containers may be open at once, the entity's own included; deeper is refused. As in
/// `gateway::scan`: Discord's deepest documented bodies stay below 20.
pub const DEPTH_MAX: usize = 128;
/// Longest JSON text that is parsed; longer is refused. As much as `stream::inflate` lets through.
pub const TEXT_MAX: usize = 64 << 20;
/// Longest form of one entity; longer is refused. Discord's largest (a guild without its children) stay below
/// 100 KiB; the largest valid test payload is 1 MiB.
pub const ENTITY_MAX: usize = 4 << 20;
/// Longest text that an entity is written as; more is refused as damage. What was encoded stays below: text comes back
/// no longer than it was, but for floats such as `1e15`, whose text is three times their encoded form at most.
pub const DECODED_MAX: usize = TEXT_MAX + 4 * ENTITY_MAX;

/// Ids that an entity is kept under: a field that is the decimal text of one of them takes no bytes. Whoever reads the
/// entity gives the same ids.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Context {
    /// The entity's own; 0 for none.
    pub own: u64,
    /// That of what it is part of; 0 for none.
    pub parent: u64,
}

impl Context {
    /// The tag that says `id`.
    #[inline]
    fn tag_of(self, id: u64) -> Option<u8> {
        match id {
            0 => None,
            id if id == self.own => Some(tag::OWN),
            id if id == self.parent => Some(tag::PARENT),
            _ => None,
        }
    }

    /// The id that `tag` says.
    #[inline]
    fn id_of(self, tag: u8) -> Option<u64> {
        let id = match tag {
            tag::OWN => self.own,
            tag::PARENT => self.parent,
            _ => 0,
        };
        (id != 0).then_some(id)
    }
}

/// Why a value was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The text is no JSON; the offset is where that showed.
    Syntax(usize),
    /// More than [`DEPTH_MAX`] containers are open.
    TooDeep,
    /// A text beyond [`TEXT_MAX`], an entity beyond [`ENTITY_MAX`], or one whose text is beyond [`DECODED_MAX`].
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
            Error::TooLarge => f.write_str("a text or an entity beyond its limit"),
            Error::NotAnObject => f.write_str("not an object"),
            Error::Damaged => f.write_str("damaged bytes"),
        }
    }
}

impl std::error::Error for Error {}

/// Tags: below 0x20, so that none is a byte of JSON text and a count fits above one. Their numbers are part of the layout.
mod tag {
    /// In a shape: the payload begins with its tag. In an array: so does each element.
    pub const ANY: u8 = 1;
    pub const NULL: u8 = 2;
    pub const TRUE: u8 = 3;
    pub const FALSE: u8 = 4;
    pub const OWN: u8 = 5;
    pub const PARENT: u8 = 6;
    pub const UINT: u8 = 7;
    pub const NINT: u8 = 8;
    pub const F64: u8 = 9;
    pub const NUMBER: u8 = 10;
    pub const STRING: u8 = 11;
    pub const TEXT6: u8 = 12;
    pub const CODED: u8 = 13;
    pub const ID: u8 = 14;
    pub const DECIMAL: u8 = 15;
    pub const HASH: u8 = 16;
    pub const A_HASH: u8 = 17;
    pub const HEX: u8 = 18;
    pub const MICROS: u8 = 19;
    pub const SECONDS: u8 = 20;
    pub const MILLIS_Z: u8 = 21;
    pub const SECONDS_Z: u8 = 22;
    pub const WORD: u8 = 23;
    pub const ARRAY: u8 = 24;
    pub const OBJECT: u8 = 25;
    pub const LAST: u8 = OBJECT;

    /// Whether an array may have elements with that tag: those of no bytes would let a few bytes stand for millions.
    #[inline]
    pub const fn has_bytes(tag: u8) -> bool {
        tag > PARENT
    }
}
