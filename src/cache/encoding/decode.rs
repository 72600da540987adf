//! Bytes to JSON.
//!
//! Enters: bytes that are not trusted, and the shapes they name. Leaves: JSON text, or [`Error::Damaged`]. Each
//! element, slot and key takes a byte at least, the recursion stops at [`DEPTH_MAX`] and the text at
//! [`DECODED_MAX`], so that no pattern of bytes costs more than that.

use super::scalars::{Reader, is_string_text, skip_scalar, write_scalar};
use super::shapes::Shapes;
use super::{DECODED_MAX, DEPTH_MAX, Error, tag};

/// Writes the JSON text of what [`super::Encoder`] wrote into `bytes`; `out` is cleared first.
///
/// # Errors
/// Damage; `out` is then empty.
pub fn decode(bytes: &[u8], shapes: &Shapes, out: &mut Vec<u8>) -> Result<(), Error> {
    out.clear();
    let mut from = Reader(bytes);
    let done = from.byte().and_then(|tag| write(tag, &mut from, shapes, out, 0));
    let done = done.and(if from.0.is_empty() { Ok(()) } else { Err(Error::Damaged) });
    if done.is_err() {
        out.clear();
    }
    done
}

/// Writes the value with that tag at the front of `from`; `depth` containers are open.
pub(super) fn write(
    tag: u8,
    from: &mut Reader<'_>,
    shapes: &Shapes,
    out: &mut Vec<u8>,
    depth: usize,
) -> Result<(), Error> {
    match tag {
        tag::OBJECT | tag::ARRAY if depth == DEPTH_MAX => Err(Error::TooDeep),
        // What one step adds beyond this is at most a shape's text and a string that is in `from`.
        _ if out.len() > DECODED_MAX => Err(Error::TooLarge),
        tag::OBJECT => write_object(from, shapes, out, depth + 1),
        tag::ARRAY => write_array(from, shapes, out, depth + 1),
        _ => write_scalar(out, tag, from),
    }
}

fn write_object(
    from: &mut Reader<'_>,
    shapes: &Shapes,
    out: &mut Vec<u8>,
    depth: usize,
) -> Result<(), Error> {
    let id = from.varint()?;
    if id == 0 {
        return write_inline(from, shapes, out, depth);
    }
    let shape = shapes.get(id).ok_or(Error::Damaged)?;
    let mut done = 0;
    for hole in shape.holes() {
        out.extend_from_slice(&shape.text[done..hole]);
        let tag = match shape.text[hole] {
            tag::ANY => from.byte()?,
            tag => tag,
        };
        write(tag, from, shapes, out, depth)?;
        done = hole + 1;
    }
    out.extend_from_slice(&shape.text[done..]);
    Ok(())
}

fn write_inline(
    from: &mut Reader<'_>,
    shapes: &Shapes,
    out: &mut Vec<u8>,
    depth: usize,
) -> Result<(), Error> {
    let count = from.count()?;
    out.push(b'{');
    for index in 0..count {
        let length = from.count()?;
        let key = from.take(length)?;
        if !is_string_text(key) {
            return Err(Error::Damaged);
        }
        out.extend_from_slice(if index == 0 { b"\"" } else { b",\"" });
        out.extend_from_slice(key);
        out.extend_from_slice(b"\":");
        let tag = from.byte()?;
        write(tag, from, shapes, out, depth)?;
    }
    out.push(b'}');
    Ok(())
}

fn write_array(from: &mut Reader<'_>, shapes: &Shapes, out: &mut Vec<u8>, depth: usize) -> Result<(), Error> {
    let count = from.count()?;
    out.push(b'[');
    if count > 0 {
        let common = element_tag(from)?;
        for index in 0..count {
            if index > 0 {
                out.push(b',');
            }
            let tag = if common == tag::ANY_IN_ARRAY { from.byte()? } else { common };
            write(tag, from, shapes, out, depth)?;
        }
    }
    out.push(b']');
    Ok(())
}

/// The tag of an array's elements; one whose payload is empty would let a byte stand for millions of elements.
fn element_tag(from: &mut Reader<'_>) -> Result<u8, Error> {
    match from.byte()? {
        tag::ANY..=tag::FALSE => Err(Error::Damaged),
        tag => Ok(tag),
    }
}

/// Steps over the value with that tag at the front of `from`.
pub(super) fn skip(tag: u8, from: &mut Reader<'_>, shapes: &Shapes, depth: usize) -> Result<(), Error> {
    match tag {
        tag::OBJECT | tag::ARRAY if depth == DEPTH_MAX => Err(Error::TooDeep),
        tag::OBJECT => {
            let id = from.varint()?;
            if id > 0 {
                let shape = shapes.get(id).ok_or(Error::Damaged)?;
                for hole in shape.holes() {
                    let tag = match shape.text[hole] {
                        tag::ANY => from.byte()?,
                        tag => tag,
                    };
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
            let count = from.count()?;
            if count == 0 {
                return Ok(());
            }
            let common = element_tag(from)?;
            for _ in 0..count {
                let tag = if common == tag::ANY_IN_ARRAY { from.byte()? } else { common };
                skip(tag, from, shapes, depth + 1)?;
            }
            Ok(())
        }
        _ => skip_scalar(tag, from),
    }
}
