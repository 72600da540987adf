//! Encoded entities and their fields, without decoding the rest.
//!
//! Enters: encoded bytes, not trusted, and what they were encoded with. Leaves: keys and values in the order they have;
//! values can be asked for what a cache links by (ids, numbers, truth) or written as JSON.

use std::ops::Range;

use super::constants::CONSTANTS;
use super::decode::{Writer, array_head, element_tag, head, skip};
use super::scalars::{Reader, decimal, digits, is_escape_of, is_string_text, write_scalar};
use super::shape::{Shape, Slot};
use super::shapes::Shapes;
use super::{Context, Error, tag};

/// Encoded bytes with what is needed to read them.
#[derive(Clone, Copy)]
pub struct Entity<'a> {
    /// What an encoder wrote.
    pub bytes: &'a [u8],
    /// The ids it was given.
    pub context: Context,
    /// The table it used.
    pub shapes: &'a Shapes,
}

/// The payload that says the string `id`, if that is one of 8 bytes: it may then be written over another one.
pub fn id_payload(id: u64) -> Option<[u8; 8]> {
    (id >> 56 != 0).then(|| id.to_le_bytes())
}

/// Writes an unsigned number over another one in its place; false, and nothing written, when it takes more or fewer bytes.
pub fn overwrite_number(place: &mut [u8], value: u64) -> bool {
    let bytes = (u64::BITS - value.leading_zeros()).div_ceil(7).max(1) as usize;
    let fits = bytes == place.len();
    if fits {
        for (at, byte) in place.iter_mut().enumerate() {
            let more = if at + 1 < bytes { 0x80 } else { 0 };
            *byte = (value >> (7 * at)) as u8 & 0x7f | more;
        }
    }
    fits
}

impl<'a> Entity<'a> {
    /// Writes it as JSON text behind what is in `out`.
    ///
    /// # Errors
    /// Damage; `out` is then as before.
    pub fn write(self, out: &mut Vec<u8>) -> Result<(), Error> {
        let length = out.len();
        let mut from = Reader(self.bytes);
        let done = head(&mut from)
            .and_then(|tag| Writer::new(self.context, self.shapes, out).value(tag, &mut from, 0));
        let done = done.and(if from.0.is_empty() { Ok(()) } else { Err(Error::Damaged) });
        if done.is_err() {
            out.truncate(length);
        }
        done
    }

    /// The fields of an object.
    ///
    /// # Errors
    /// It is no object, or damaged at its head.
    pub fn fields(self) -> Result<Fields<'a>, Error> {
        let mut from = Reader(self.bytes);
        match head(&mut from)? {
            tag::OBJECT => Fields::new(from, self.context, self.shapes, 1),
            _ => Err(Error::NotAnObject),
        }
    }

    /// The last field of that name.
    ///
    /// # Errors
    /// As [`Entity::fields`], and damage on the way.
    pub fn field(self, key: &str) -> Result<Option<Field<'a>>, Error> {
        self.fields()?.seek(key)
    }

    /// Where the 8 bytes of the string `key` are, if it is an id that takes them; [`id_payload`] gives what may be
    /// written there instead. An id that the context says, before or after, has no such place.
    pub fn id_place(self, key: &str) -> Option<Range<usize>> {
        let mut fields = self.fields().ok()?;
        let field = fields.seek(key).ok()??;
        let end = self.bytes.len() - fields.from.0.len();
        (field.tag == tag::ID).then(|| end - 8..end)
    }

    /// Where the bytes of the unsigned number `key` are, if it has any of its own; [`overwrite_number`] writes another.
    pub fn number_place(self, key: &str) -> Option<Range<usize>> {
        let field = self.field(key).ok()??;
        // A number that the shape has as a constant lies elsewhere.
        let own = field.tag == tag::UINT && self.bytes.as_ptr_range().contains(&field.payload.as_ptr());
        let start = field.payload.as_ptr().addr().wrapping_sub(self.bytes.as_ptr().addr());
        own.then(|| start..start + field.payload.len())
    }
}

/// One field of an object, or one element of an array.
#[derive(Clone, Copy)]
pub struct Field<'a> {
    pub(super) key: &'a [u8],
    pub(super) tag: u8,
    pub(super) payload: &'a [u8],
    context: Context,
    shapes: &'a Shapes,
    depth: usize,
}

impl<'a> Field<'a> {
    /// The key as it stands between the quotes of JSON text; empty for an element.
    pub fn key(&self) -> &'a [u8] {
        self.key
    }

    /// Whether it has that key.
    #[inline]
    pub(super) fn is_named(&self, key: &str) -> bool {
        is_escape_of(self.key, key.as_bytes())
    }

    /// Whether the value is null.
    pub fn is_null(&self) -> bool {
        self.tag == tag::NULL
    }

    /// Whether the value is a list of nothing.
    pub fn is_empty_array(&self) -> bool {
        self.tag == tag::ARRAY && self.elements().next().is_none()
    }

    /// The value if it is true or false.
    pub fn as_bool(&self) -> Option<bool> {
        match self.tag {
            tag::TRUE => Some(true),
            tag::FALSE => Some(false),
            _ => None,
        }
    }

    /// The value if it is a whole number from 0 to 2^64 - 1.
    pub fn as_u64(&self) -> Option<u64> {
        if self.tag == tag::UINT { Reader(self.payload).varint().ok() } else { None }
    }

    /// As [`Field::as_u64`], and the value of a string of digits: Discord sends ids both ways.
    pub fn as_id(&self) -> Option<u64> {
        match self.tag {
            tag::UINT | tag::DECIMAL => Reader(self.payload).varint().ok(),
            tag::ID => self.payload.try_into().ok().map(u64::from_le_bytes),
            tag::OWN | tag::PARENT => self.context.id_of(self.tag),
            tag::STRING | tag::TEXT6 | tag::CODED | tag::HASH | tag::HEX => {
                // Not how ids are written: with zeros in front.
                let mut text = Vec::new();
                write_scalar(&mut text, self.tag, &mut Reader(self.payload)).ok()?;
                digits(&text[1..text.len() - 1])
            }
            _ => None,
        }
    }

    /// Whether it is this string.
    pub fn is_text(&self, text: &str) -> bool {
        match self.tag {
            tag::ID | tag::DECIMAL | tag::OWN | tag::PARENT => {
                self.as_id().is_some_and(|id| decimal(text.as_bytes()) == Some(id))
            }
            tag::STRING => {
                let mut from = Reader(self.payload);
                let escaped = from.count().and_then(|length| from.take(length));
                escaped.is_ok_and(|escaped| is_escape_of(escaped, text.as_bytes()))
            }
            tag::TEXT6..=tag::WORD => {
                let mut own = Vec::new();
                write_scalar(&mut own, self.tag, &mut Reader(self.payload)).is_ok()
                    && own[1..own.len() - 1] == *text.as_bytes()
            }
            _ => false,
        }
    }

    /// The last field of that name, if the value is an object.
    ///
    /// # Errors
    /// Damage.
    pub fn get(&self, key: &str) -> Result<Option<Field<'a>>, Error> {
        if self.tag != tag::OBJECT {
            return Ok(None);
        }
        Fields::new(Reader(self.payload), self.context, self.shapes, self.depth + 1)?.seek(key)
    }

    /// The elements, if the value is an array; ends where it is damaged.
    pub fn elements(&self) -> impl Iterator<Item = Field<'a>> + use<'a> {
        let Field { context, shapes, depth, .. } = *self;
        let mut from = Reader(self.payload);
        let head = if self.tag == tag::ARRAY { array_head(&mut from) } else { Ok((0, tag::ANY)) };
        let (count, common) = head.unwrap_or((0, tag::ANY));
        (0..count).map_while(move |_| {
            let tag = element_tag(common, &mut from).ok()?;
            let payload = payload(tag, &mut from, shapes, depth + 1).ok()?;
            Some(Field { key: b"", tag, payload, context, shapes, depth: depth + 1 })
        })
    }

    /// Writes the value as JSON text behind what is in `out`.
    ///
    /// # Errors
    /// Damage; `out` is then as before.
    pub fn write(&self, out: &mut Vec<u8>) -> Result<(), Error> {
        let length = out.len();
        let mut to = Writer::new(self.context, self.shapes, out);
        let done = to.value(self.tag, &mut Reader(self.payload), self.depth);
        if done.is_err() {
            out.truncate(length);
        }
        done
    }
}

/// Takes the payload of the value with that tag from the front of `from`.
#[inline]
fn payload<'a>(tag: u8, from: &mut Reader<'a>, shapes: &Shapes, depth: usize) -> Result<&'a [u8], Error> {
    let start = from.0;
    skip(tag, from, shapes, depth)?;
    Ok(&start[..start.len() - from.0.len()])
}

/// The keys of an object that are to come.
#[derive(Clone, Copy)]
enum Left<'a> {
    /// In its shape.
    Shape(&'a Shape, &'a [Slot]),
    /// In the object, so many.
    Inline(usize),
}

/// The fields of an object, in order; ends after an error.
pub struct Fields<'a> {
    from: Reader<'a>,
    left: Left<'a>,
    context: Context,
    shapes: &'a Shapes,
    /// How many containers are open.
    depth: usize,
}

impl<'a> Fields<'a> {
    /// The fields of the object whose payload is at the front of `from`.
    fn new(
        mut from: Reader<'a>,
        context: Context,
        shapes: &'a Shapes,
        depth: usize,
    ) -> Result<Fields<'a>, Error> {
        let left = match from.varint()? {
            0 => Left::Inline(from.count()?),
            id => {
                let shape = shapes.get(id).ok_or(Error::Damaged)?;
                Left::Shape(shape, &shape.slots)
            }
        };
        Ok(Fields { from, left, context, shapes, depth })
    }

    /// Goes on to behind the last field of that name.
    fn seek(&mut self, key: &str) -> Result<Option<Field<'a>>, Error> {
        let Left::Shape(shape, slots) = self.left else {
            let mut found = None;
            while let Some(field) = self.step()? {
                if field.is_named(key) {
                    found = Some((field, self.from));
                }
            }
            return Ok(found.map(|(field, behind)| {
                self.from = behind;
                field
            }));
        };
        let Some(index) = shape.find(key.as_bytes()) else { return Ok(None) };
        for slot in slots[..index].iter().filter(|slot| slot.constant.is_none()) {
            let tag = if slot.tag == tag::ANY { self.from.byte()? } else { slot.tag };
            skip(tag, &mut self.from, self.shapes, self.depth)?;
        }
        self.left = Left::Shape(shape, &slots[index..]);
        self.step()
    }

    fn step(&mut self) -> Result<Option<Field<'a>>, Error> {
        let (key, tag) = match &mut self.left {
            Left::Inline(0) => return Ok(None),
            Left::Inline(count) => {
                *count -= 1;
                let length = self.from.count()?;
                let key = self.from.take(length)?;
                if !is_string_text(key) {
                    return Err(Error::Damaged);
                }
                (key, self.from.byte()?)
            }
            Left::Shape(shape, slots) => {
                let Some((slot, rest)) = slots.split_first() else { return Ok(None) };
                *slots = rest;
                let key = shape.key(*slot);
                if let Some(index) = slot.constant {
                    let payload = CONSTANTS[usize::from(index)].payload;
                    return Ok(Some(self.field(key, slot.tag, payload)));
                }
                (key, if slot.tag == tag::ANY { self.from.byte()? } else { slot.tag })
            }
        };
        let payload = payload(tag, &mut self.from, self.shapes, self.depth)?;
        Ok(Some(self.field(key, tag, payload)))
    }

    #[inline]
    fn field(&self, key: &'a [u8], tag: u8, payload: &'a [u8]) -> Field<'a> {
        Field { key, tag, payload, context: self.context, shapes: self.shapes, depth: self.depth }
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<Field<'a>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.step();
        if next.is_err() {
            self.left = Left::Inline(0);
        }
        next.transpose()
    }
}
