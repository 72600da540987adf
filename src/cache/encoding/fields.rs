//! The top-level fields of an encoded object, without decoding the rest.
//!
//! Enters: encoded bytes, not trusted. Leaves: keys and values in the order they have; values can be asked for what
//! a cache links by (ids, numbers, truth) or written as JSON.

use super::decode::{self, skip};
use super::scalars::{Reader, escape, special};
use super::shapes::{Hole, Keys, Shapes};
use super::{CONSTANTS, Error, tag};

/// A place in an encoded object, apart from what it reads, so that shapes may be added between two steps.
#[derive(Clone, Copy)]
pub(super) struct Cursor {
    /// 0: the object carries its keys.
    shape: u64,
    /// Into the shape's text, or how many keys are to come.
    left: usize,
    /// Into the bytes.
    at: usize,
}

impl Cursor {
    pub fn new(bytes: &[u8], shapes: &Shapes) -> Result<Cursor, Error> {
        let mut from = Reader(bytes);
        if from.byte()? != tag::OBJECT {
            return Err(Error::NotAnObject);
        }
        let shape = from.varint()?;
        let left = match shape {
            0 => from.count()?,
            _ => shapes.get(shape).map(|shape| shape.text.len()).ok_or(Error::Damaged)?,
        };
        Ok(Cursor { shape, left, at: bytes.len() - from.0.len() })
    }

    /// The next key, as escaped, with its value's tag and payload.
    #[allow(clippy::type_complexity)]
    pub fn next<'b, 'k>(
        &mut self,
        bytes: &'b [u8],
        shapes: &'k Shapes,
    ) -> Result<Option<(&'k [u8], u8, &'b [u8])>, Error>
    where
        'b: 'k,
    {
        let mut from = Reader(bytes.get(self.at..).ok_or(Error::Damaged)?);
        let (key, tag) = if self.shape == 0 {
            if self.left == 0 {
                return Ok(None);
            }
            self.left -= 1;
            let length = from.count()?;
            (from.take(length)?, from.byte()?)
        } else {
            let text = shapes.get(self.shape).ok_or(Error::Damaged)?.text;
            let from_end = text.len().checked_sub(self.left).ok_or(Error::Damaged)?;
            let mut keys = Keys(&text[from_end..]);
            let Some((key, hole)) = keys.next()? else { return Ok(None) };
            self.left = keys.0.len();
            match hole {
                Hole::Constant(index) => {
                    let (_, tag, payload) = CONSTANTS[index];
                    return Ok(Some((key, tag, payload)));
                }
                Hole::Tag(tag::ANY) => (key, from.byte()?),
                Hole::Tag(tag) => (key, tag),
            }
        };
        let start = bytes.len() - from.0.len();
        skip(tag, &mut from, shapes, 1)?;
        self.at = bytes.len() - from.0.len();
        Ok(Some((key, tag, &bytes[start..self.at])))
    }
}

/// One field of an object.
#[derive(Clone, Copy, Debug)]
pub struct Field<'a> {
    key: &'a [u8],
    tag: u8,
    payload: &'a [u8],
}

impl<'a> Field<'a> {
    /// The key as it stands between the quotes of JSON text.
    pub fn key(&self) -> &'a [u8] {
        self.key
    }

    /// Whether the value is null.
    pub fn is_null(&self) -> bool {
        self.tag == tag::NULL
    }

    /// The value if it is true or false.
    pub fn as_bool(&self) -> Option<bool> {
        match self.tag {
            tag::TRUE => Some(true),
            tag::FALSE => Some(false),
            _ => None,
        }
    }

    /// The value if it is a number from 0 to 2^64 - 1, or a string that is one: Discord sends ids both ways.
    pub fn as_u64(&self) -> Option<u64> {
        match self.tag {
            tag::UINT | tag::DECIMAL => Reader(self.payload).varint().ok(),
            tag::ID => self.payload.try_into().ok().map(u64::from_le_bytes),
            _ => None,
        }
    }

    /// Writes the value as JSON text behind what is in `out`.
    ///
    /// # Errors
    /// Damage; `out` is then as before.
    pub fn write(&self, shapes: &Shapes, out: &mut Vec<u8>) -> Result<(), Error> {
        let length = out.len();
        let done = decode::write(self.tag, &mut Reader(self.payload), shapes, out, 1);
        if done.is_err() {
            out.truncate(length);
        }
        done
    }
}

/// The fields of an object, in order; ends after an error.
pub struct Fields<'a> {
    bytes: &'a [u8],
    shapes: &'a Shapes,
    cursor: Option<Cursor>,
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<Field<'a>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.cursor.as_mut()?.next(self.bytes, self.shapes);
        if !matches!(next, Ok(Some(_))) {
            self.cursor = None;
        }
        next.map(|found| found.map(|(key, tag, payload)| Field { key, tag, payload })).transpose()
    }
}

/// The fields of the object in `bytes`.
///
/// # Errors
/// It is no object, or damaged at its head.
pub fn fields<'a>(bytes: &'a [u8], shapes: &'a Shapes) -> Result<Fields<'a>, Error> {
    Ok(Fields { bytes, shapes, cursor: Some(Cursor::new(bytes, shapes)?) })
}

/// The last field of that name.
///
/// # Errors
/// As [`fields`], and damage on the way.
pub fn field<'a>(bytes: &'a [u8], shapes: &'a Shapes, key: &str) -> Result<Option<Field<'a>>, Error> {
    let mut escaped = Vec::new();
    let wanted = if key.bytes().any(special) {
        escape(&mut escaped, key.as_bytes());
        escaped.as_slice()
    } else {
        key.as_bytes()
    };
    let mut found = None;
    for field in fields(bytes, shapes)? {
        let field = field?;
        if field.key == wanted {
            found = Some(field);
        }
    }
    Ok(found)
}
