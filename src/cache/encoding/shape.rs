//! One shape: an object's text with its small constants in place and a tag where a value varies.
//!
//! Enters: that text. Leaves: its keys and what is behind each, found once, so that readers need not look for them.

use super::constants::{CONSTANTS, constant_named};
use super::{Error, scalars, tag};

/// A shape of the table.
pub(super) struct Shape {
    pub text: Box<[u8]>,
    pub slots: Box<[Slot]>,
    /// No key is escaped and none is there twice, as in all that Discord sends.
    pub plain: bool,
}

/// A key of a shape's text and what is behind it.
#[derive(Clone, Copy)]
pub(super) struct Slot {
    key: u16,
    key_length: u16,
    /// Of the value; [`tag::ANY`]: it stands before the payload.
    pub tag: u8,
    /// Into [`super::constants::CONSTANTS`].
    pub constant: Option<u8>,
}

impl Slot {
    /// Where the value is in the text: behind the key, its quote and the colon.
    #[inline]
    pub fn value(self) -> usize {
        usize::from(self.key) + usize::from(self.key_length) + 2
    }
}

impl Shape {
    /// The shape with that text.
    pub fn new(text: &[u8]) -> Result<Shape, Error> {
        let mut slots = Vec::new();
        let mut keys = Keys(text);
        loop {
            // A bracket or comma, and a quote.
            let at = text.len() - keys.0.len() + 2;
            let Some((key, hole)) = keys.next()? else { break };
            let (tag, constant) = match hole {
                Hole::Tag(tag) => (tag, None),
                Hole::Constant(text) => {
                    let index = constant_named(text).ok_or(Error::Damaged)?;
                    (CONSTANTS[usize::from(index)].tag, Some(index))
                }
            };
            slots.push(Slot { key: at as u16, key_length: key.len() as u16, tag, constant });
        }
        let mut shape = Shape { text: text.into(), slots: slots.into(), plain: false };
        let again = |(at, slot): (usize, &Slot)| {
            shape.slots[..at].iter().any(|other| shape.key(*other) == shape.key(*slot))
        };
        shape.plain = !text.contains(&b'\\') && !shape.slots.iter().enumerate().any(again);
        Ok(shape)
    }

    /// The last slot with that key, which is not escaped.
    #[inline]
    pub fn find(&self, key: &[u8]) -> Option<usize> {
        let is = |slot: &Slot| {
            // What is not escaped and the same has no backslash.
            if self.plain { self.key(*slot) == key } else { scalars::is_escape_of(self.key(*slot), key) }
        };
        self.slots.iter().rposition(is)
    }

    /// The key of one of its slots.
    #[inline]
    pub fn key(&self, slot: Slot) -> &[u8] {
        &self.text[usize::from(slot.key)..][..usize::from(slot.key_length)]
    }

    /// Bytes on the heap.
    pub fn bytes(&self) -> usize {
        self.text.len() + self.slots.len() * size_of::<Slot>()
    }
}

/// What stands behind a key in a shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hole<'a> {
    /// A value with this tag, or any, with its tag in the object.
    Tag(u8),
    /// The text of a constant.
    Constant(&'a [u8]),
}

/// The keys of a shape's text in order, as they stand between the quotes.
pub(super) struct Keys<'a>(pub &'a [u8]);

impl<'a> Keys<'a> {
    /// The next key and what is behind it; `None` at the end.
    pub fn next(&mut self) -> Result<Option<(&'a [u8], Hole<'a>)>, Error> {
        let rest = match self.0 {
            [b'}'] => return Ok(None),
            [b'{' | b',', b'"', rest @ ..] => rest,
            _ => return Err(Error::Damaged),
        };
        let end = key_end(rest).ok_or(Error::Damaged)?;
        let (key, rest) = (&rest[..end], rest[end + 1..].strip_prefix(b":").ok_or(Error::Damaged)?);
        let (hole, length) = match rest {
            [tag @ 0..0x20, ..] => (Hole::Tag(*tag), 1),
            _ => {
                let length = match rest {
                    [b'"', rest @ ..] => key_end(rest).map(|end| end + 2),
                    // Empty ones alone.
                    [b'[' | b'{', ..] => Some(2),
                    _ => rest.iter().position(|byte| matches!(byte, b',' | b'}')),
                };
                let length = length.ok_or(Error::Damaged)?;
                (Hole::Constant(rest.get(..length).ok_or(Error::Damaged)?), length)
            }
        };
        self.0 = &rest[length..];
        Ok(Some((key, hole)))
    }
}

/// The closing quote of a key or a word.
fn key_end(text: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        match text.get(at)? {
            b'"' => return Some(at),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

/// Whether `text` is a shape's: every key a JSON string, every hole a tag.
pub(super) fn check(text: &[u8]) -> Result<(), Error> {
    let mut keys = Keys(text);
    if text.first() != Some(&b'{') {
        return Err(Error::Damaged);
    }
    let mut count = 0;
    while let Some((key, hole)) = keys.next()? {
        let known = match hole {
            Hole::Tag(tag) => (tag::ANY..=tag::LAST).contains(&tag),
            Hole::Constant(text) => constant_named(text).is_some(),
        };
        if !known || !scalars::is_string_text(key) {
            return Err(Error::Damaged);
        }
        count += 1;
    }
    if count == 0 { Err(Error::Damaged) } else { Ok(()) }
}

/// Writes `text` with a hole for any value behind each key.
pub(super) fn generalise(text: &[u8], out: &mut Vec<u8>) {
    let mut keys = Keys(text);
    out.clear();
    while let Ok(Some((key, _))) = keys.next() {
        out.extend_from_slice(if out.is_empty() { b"{\"" } else { b",\"" });
        out.extend_from_slice(key);
        out.extend_from_slice(&[b'"', b':', tag::ANY]);
    }
    out.push(b'}');
}

/// Whether a key is an id: objects that map ids to things would each be a shape of their own.
pub(super) fn keys_are_data(text: &[u8]) -> bool {
    let mut keys = Keys(text);
    while let Ok(Some((key, _))) = keys.next() {
        if key.len() > 5 && key.iter().all(u8::is_ascii_digit) {
            return true;
        }
    }
    false
}
