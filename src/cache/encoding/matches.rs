//! Whether a patch would change an entity, without making the patched one.
//!
//! Enters: an entity and an object that was parsed. Leaves: yes or no; a no may be wrong (fields in another order
//! inside nested objects), a yes never is. Scalars are compared where they are, strings mostly by their packed form.

use super::coded::{coded_length, put_coded};
use super::constants::CONSTANTS;
use super::decode::{array_head, element_tag, head, skip};
use super::encode::Encoder;
use super::entity::Entity;
use super::scalars::{Reader, decimal, put_float, put_string};
use super::shape::Slot;
use super::shapes::Shapes;
use super::value::{Pick, Source, Tape, Text, Value, View};
use super::words::WORDS;
use super::{Context, DEPTH_MAX, Error, tag};

impl Encoder {
    /// Whether [`Encoder::merge`] of these would give what `old` is already.
    pub fn matches(&mut self, old: Entity<'_>, patch: Value<'_>, pick: Pick<'_>) -> bool {
        let same = match patch.tape {
            Tape::Fast(nodes) => self.same(old, nodes, patch.at, pick),
            Tape::Plain(plain) => self.same(old, plain, patch.at, pick),
        };
        same.unwrap_or(false)
    }

    fn same<'v, S: Source<'v>>(
        &mut self,
        old: Entity<'_>,
        patch: S,
        at: usize,
        pick: Pick<'_>,
    ) -> Result<bool, Error> {
        let mut with = Comparison { context: old.context, shapes: old.shapes, text: &mut self.text };
        if let Some(same) = with.in_step(old.bytes, patch, at, pick)? {
            return Ok(same);
        }
        self.keys.fill(patch, at, pick)?;
        let mut found = 0;
        for field in old.fields()? {
            let field = field?;
            if let Some((node, used)) = self.keys.find(patch, field.key) {
                if !with.value(patch, node + 1, field.tag, &mut Reader(field.payload), 1)? {
                    return Ok(false);
                }
                found += usize::from(!used);
            }
        }
        Ok(found == self.keys.len())
    }
}

struct Comparison<'a> {
    context: Context,
    shapes: &'a Shapes,
    /// Scratch.
    text: &'a mut Vec<u8>,
}

impl Comparison<'_> {
    /// As [`Encoder::matches`] when the fields of both are in one order, as they mostly are; else `None`.
    fn in_step<'v, S: Source<'v>>(
        &mut self,
        old: &[u8],
        patch: S,
        at: usize,
        pick: Pick<'_>,
    ) -> Result<Option<bool>, Error> {
        let mut from = Reader(old);
        let (tag::OBJECT, View::Object { len, .. }) = (head(&mut from)?, patch.view(at)) else {
            return Ok(None);
        };
        // With two of one name the first would be taken for the last.
        let Some(shape) = self.shapes.get(from.varint()?).filter(|shape| shape.plain) else {
            return Ok(None);
        };
        let mut slots = shape.slots.iter();
        let mut node = at + 1;
        for _ in 0..len {
            let key = patch.text(node).bytes;
            if pick.takes(key) {
                loop {
                    let Some(slot) = slots.next() else { return Ok(None) };
                    let is = shape.key(*slot) == key;
                    if !is && slot.constant.is_some() {
                        continue;
                    }
                    if is && !self.slot(patch, node + 1, *slot, &mut from, 1)? {
                        return Ok(Some(false));
                    }
                    if is {
                        break;
                    }
                    let tag = if slot.tag == tag::ANY { from.byte()? } else { slot.tag };
                    skip(tag, &mut from, self.shapes, 1)?;
                }
            }
            node += 1 + patch.view(node + 1).nodes();
        }
        Ok(Some(true))
    }

    /// Whether the value at `at` is what this slot of a shape has.
    #[inline]
    fn slot<'v, S: Source<'v>>(
        &mut self,
        patch: S,
        at: usize,
        slot: Slot,
        from: &mut Reader<'_>,
        depth: usize,
    ) -> Result<bool, Error> {
        match slot.constant {
            Some(index) => {
                let constant = &CONSTANTS[usize::from(index)];
                self.value(patch, at, constant.tag, &mut Reader(constant.payload), depth)
            }
            None => {
                let tag = if slot.tag == tag::ANY { from.byte()? } else { slot.tag };
                self.value(patch, at, tag, from, depth)
            }
        }
    }

    /// Whether the value at `at` is what stands at the front of `from`, which is behind it if so.
    fn value<'v, S: Source<'v>>(
        &mut self,
        patch: S,
        at: usize,
        tag: u8,
        from: &mut Reader<'_>,
        depth: usize,
    ) -> Result<bool, Error> {
        Ok(match (patch.view(at), tag) {
            (View::Null, tag::NULL) | (View::Bool(true), tag::TRUE) | (View::Bool(false), tag::FALSE) => true,
            (View::Uint(value), tag::UINT) => from.varint()? == value,
            (View::Int(value), tag::NINT) => from.varint()? == !value as u64,
            (View::Float(value), tag::F64 | tag::NUMBER) => {
                self.text.clear();
                let same = put_float(self.text, value) == tag;
                same && self.is_next(from)?
            }
            (View::Number(text), tag::NUMBER) => {
                let length = from.count()?;
                from.take(length)? == text
            }
            (View::String(text), _) => self.string(text, tag, from)?,
            (View::Array { .. } | View::Object { .. }, _) if depth == DEPTH_MAX => {
                return Err(Error::TooDeep);
            }
            (View::Array { len, .. }, tag::ARRAY) => {
                let (count, common) = array_head(from)?;
                let mut node = at + 1;
                if count != len {
                    return Ok(false);
                }
                for _ in 0..len {
                    let tag = element_tag(common, from)?;
                    if !self.value(patch, node, tag, from, depth + 1)? {
                        return Ok(false);
                    }
                    node += patch.view(node).nodes();
                }
                true
            }
            (View::Object { len, .. }, tag::OBJECT) => self.object(patch, at, len, from, depth + 1)?,
            _ => false,
        })
    }

    /// Whether the scratch is at the front of `from`.
    fn is_next(&self, from: &mut Reader<'_>) -> Result<bool, Error> {
        Ok(from.take(self.text.len())? == self.text.as_slice())
    }

    fn string(&mut self, text: Text<'_>, tag: u8, from: &mut Reader<'_>) -> Result<bool, Error> {
        match tag {
            tag::OWN | tag::PARENT => {
                Ok(self.context.id_of(tag).is_some_and(|id| decimal(text.bytes) == Some(id)))
            }
            tag::ID => {
                let id = u64::from_le_bytes(from.array()?);
                Ok(decimal(text.bytes) == Some(id))
            }
            tag::DECIMAL => {
                let value = from.varint()?;
                Ok(decimal(text.bytes) == Some(value))
            }
            tag::STRING => {
                let length = from.count()?;
                let own = from.take(length)?;
                Ok(text.is_escaped(own))
            }
            // Each text has one code.
            tag::CODED => {
                let length = from.count()?;
                let own = from.take(length)?;
                if text.bytes.len() > 2 * own.len() || coded_length(text.bytes) != Some(length) {
                    return Ok(false);
                }
                self.text.clear();
                put_coded(self.text, text.bytes);
                Ok(self.text.as_slice() == own)
            }
            tag::WORD => {
                let word = WORDS.get(usize::from(from.byte()?)).ok_or(Error::Damaged)?;
                Ok(word.as_bytes() == text.bytes)
            }
            tag::TEXT6..=tag::SECONDS_Z => {
                self.text.clear();
                let same = put_string(self.text, text.bytes, text.escaped) == tag;
                Ok(same && self.is_next(from)?)
            }
            _ => Ok(false),
        }
    }

    /// Fields in the same order alone.
    fn object<'v, S: Source<'v>>(
        &mut self,
        patch: S,
        at: usize,
        len: usize,
        from: &mut Reader<'_>,
        depth: usize,
    ) -> Result<bool, Error> {
        let mut node = at + 1;
        let id = from.varint()?;
        if id == 0 {
            if from.count()? != len {
                return Ok(false);
            }
            for _ in 0..len {
                let length = from.count()?;
                let key = from.take(length)?;
                let tag = from.byte()?;
                if !patch.text(node).is_escaped(key) || !self.value(patch, node + 1, tag, from, depth)? {
                    return Ok(false);
                }
                node += 1 + patch.view(node + 1).nodes();
            }
            return Ok(true);
        }
        let shape = self.shapes.get(id).ok_or(Error::Damaged)?;
        if shape.slots.len() != len {
            return Ok(false);
        }
        for slot in &shape.slots {
            let (name, key) = (patch.text(node), shape.key(*slot));
            if !(if shape.plain { name.bytes == key } else { name.is_escaped(key) }) {
                return Ok(false);
            }
            if !self.slot(patch, node + 1, *slot, from, depth)? {
                return Ok(false);
            }
            node += 1 + patch.view(node + 1).nodes();
        }
        Ok(true)
    }
}
