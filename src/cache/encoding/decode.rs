//! Bytes to JSON.
//!
//! Enters: bytes that are not trusted, and the shapes they name. Leaves: JSON text, or [`Error::Damaged`]. Each
//! element, slot and key takes a byte at least, the recursion stops at [`DEPTH_MAX`] and the text at
//! [`DECODED_MAX`], so that no pattern of bytes costs more than that.

use super::scalars::{Reader, is_string_text, put_varint, skip_scalar, write_scalar, write_uint};
use super::shapes::Shapes;
use super::{Context, DECODED_MAX, DEPTH_MAX, Error, tag};

/// Takes the tag of an entity from its front.
#[inline]
pub(super) fn head(from: &mut Reader<'_>) -> Result<u8, Error> {
    match from.0 {
        // An object's payload starts with its shape.
        [first, ..] if *first != 0 => Ok(tag::OBJECT),
        _ => {
            from.byte()?;
            from.byte()
        }
    }
}

/// Writes values behind what is in `out`.
pub(super) struct Writer<'a> {
    context: Context,
    shapes: &'a Shapes,
    out: &'a mut Vec<u8>,
    /// Length of `out` beyond which it is too much.
    end: usize,
}

impl<'a> Writer<'a> {
    pub fn new(context: Context, shapes: &'a Shapes, out: &'a mut Vec<u8>) -> Writer<'a> {
        let end = out.len().saturating_add(DECODED_MAX);
        Writer { context, shapes, out, end }
    }

    /// Writes the value with that tag at the front of `from`; `depth` containers are open.
    pub fn value(&mut self, tag: u8, from: &mut Reader<'_>, depth: usize) -> Result<(), Error> {
        match tag {
            tag::OBJECT | tag::ARRAY if depth == DEPTH_MAX => Err(Error::TooDeep),
            // What one step adds beyond this is at most a shape's text and a string that is in `from`.
            _ if self.out.len() > self.end => Err(Error::TooLarge),
            tag::OBJECT => self.object(from, depth + 1),
            tag::ARRAY => self.array(from, depth + 1),
            tag::OWN | tag::PARENT => {
                let id = self.context.id_of(tag).ok_or(Error::Damaged)?;
                self.out.push(b'"');
                write_uint(self.out, id);
                self.out.push(b'"');
                Ok(())
            }
            _ => write_scalar(self.out, tag, from),
        }
    }

    fn object(&mut self, from: &mut Reader<'_>, depth: usize) -> Result<(), Error> {
        let id = from.varint()?;
        if id == 0 {
            return self.inline(from, depth);
        }
        let shape = self.shapes.get(id).ok_or(Error::Damaged)?;
        let mut done = 0;
        for slot in &shape.slots {
            if slot.constant.is_some() {
                continue;
            }
            let hole = slot.value();
            self.out.extend_from_slice(&shape.text[done..hole]);
            let tag = if slot.tag == tag::ANY { from.byte()? } else { slot.tag };
            self.value(tag, from, depth)?;
            done = hole + 1;
        }
        self.out.extend_from_slice(&shape.text[done..]);
        Ok(())
    }

    fn inline(&mut self, from: &mut Reader<'_>, depth: usize) -> Result<(), Error> {
        let count = from.count()?;
        self.out.push(b'{');
        for index in 0..count {
            let length = from.count()?;
            let key = from.take(length)?;
            if !is_string_text(key) {
                return Err(Error::Damaged);
            }
            self.out.extend_from_slice(if index == 0 { b"\"" } else { b",\"" });
            self.out.extend_from_slice(key);
            self.out.extend_from_slice(b"\":");
            let tag = from.byte()?;
            self.value(tag, from, depth)?;
        }
        self.out.push(b'}');
        Ok(())
    }

    fn array(&mut self, from: &mut Reader<'_>, depth: usize) -> Result<(), Error> {
        let (count, common) = array_head(from)?;
        self.out.push(b'[');
        for index in 0..count {
            if index > 0 {
                self.out.push(b',');
            }
            let tag = element_tag(common, from)?;
            self.value(tag, from, depth)?;
        }
        self.out.push(b']');
        Ok(())
    }
}

/// How many elements follow, and their common tag.
#[inline]
pub(super) fn array_head(from: &mut Reader<'_>) -> Result<(usize, u8), Error> {
    let first = from.byte()?;
    let (count, common) = (usize::from(first >> 5), first & 31);
    if first == 0 {
        return Ok((0, tag::ANY));
    }
    let count = if count == 0 { from.count()? } else { count };
    // Each takes a byte at least.
    if count <= from.0.len() && (common == tag::ANY || tag::has_bytes(common)) {
        Ok((count, common))
    } else {
        Err(Error::Damaged)
    }
}

/// Writes what [`array_head`] reads.
#[inline]
pub(super) fn put_array_head(out: &mut Vec<u8>, count: usize, common: u8) {
    match count {
        0 => out.push(0),
        1..8 => out.push((count as u8) << 5 | common),
        _ => {
            out.push(common);
            put_varint(out, count as u64);
        }
    }
}

/// The tag of an array's next element.
#[inline]
pub(super) fn element_tag(common: u8, from: &mut Reader<'_>) -> Result<u8, Error> {
    if common == tag::ANY { from.byte() } else { Ok(common) }
}

/// Steps over the value with that tag at the front of `from`.
pub(super) fn skip(tag: u8, from: &mut Reader<'_>, shapes: &Shapes, depth: usize) -> Result<(), Error> {
    match tag {
        tag::OBJECT | tag::ARRAY if depth == DEPTH_MAX => Err(Error::TooDeep),
        tag::OBJECT => {
            let id = from.varint()?;
            if id > 0 {
                let shape = shapes.get(id).ok_or(Error::Damaged)?;
                for slot in shape.slots.iter().filter(|slot| slot.constant.is_none()) {
                    let tag = if slot.tag == tag::ANY { from.byte()? } else { slot.tag };
                    skip(tag, from, shapes, depth + 1)?;
                }
                return Ok(());
            }
            for _ in 0..from.count()? {
                let length = from.count()?;
                from.take(length)?;
                let tag = from.byte()?;
                skip(tag, from, shapes, depth + 1)?;
            }
            Ok(())
        }
        tag::ARRAY => {
            let (count, common) = array_head(from)?;
            for _ in 0..count {
                let tag = element_tag(common, from)?;
                skip(tag, from, shapes, depth + 1)?;
            }
            Ok(())
        }
        tag::OWN | tag::PARENT => Ok(()),
        _ => skip_scalar(tag, from),
    }
}
