//! Entities from entities: fields replaced, kept or left out.
//!
//! Enters: an entity, and for some an object that was parsed. Leaves: another entity with the same ids and table. What
//! stays is copied as it is.

use super::decode::put_array_head;
use super::encode::{Encoder, To};
use super::entity::{Entity, Field};
use super::shapes::Shapes;
use super::value::{Pick, Source, Tape, Text, Value, View};
use super::{Context, Error, tag};

/// The fields of a patch that are meant: of several with one name the last. Keeps its memory.
#[derive(Default)]
pub(super) struct PatchKeys {
    keys: Vec<PatchKey>,
    /// A bit for each [`mark`] that a key has.
    marks: [u64; 4],
    /// Where the next key is expected: an object's keys mostly come in the same order.
    next: usize,
}

#[derive(Clone, Copy)]
pub(super) struct PatchKey {
    /// The key's node; the value's is behind it.
    pub node: usize,
    mark: u8,
    /// A field of this name was there.
    pub used: bool,
}

/// Fields that a patch may have: they are looked through for each of the old ones. Discord's largest, a guild, has 60.
const PATCH_FIELDS_MAX: usize = 1_000;

/// What keys are told apart by at first; the same for a key that is escaped if that changes nothing.
#[inline]
fn mark(key: &[u8]) -> u8 {
    let (first, last) = (key.first().copied().unwrap_or(0), key.last().copied().unwrap_or(0));
    (key.len() as u8).wrapping_mul(37) ^ first.wrapping_mul(11) ^ last.wrapping_mul(5)
}

impl PatchKeys {
    /// Takes the fields of the object at `at` that `pick` takes.
    pub fn fill<'v, S: Source<'v>>(&mut self, from: S, at: usize, pick: Pick<'_>) -> Result<(), Error> {
        let View::Object { len, .. } = from.view(at) else { return Err(Error::NotAnObject) };
        if len > PATCH_FIELDS_MAX {
            return Err(Error::TooLarge);
        }
        self.keys.clear();
        self.marks = [0; 4];
        self.next = 0;
        let mut node = at + 1;
        for _ in 0..len {
            let key = from.text(node);
            if pick.takes(key.bytes) {
                let mark = mark(key.bytes);
                if self.is_marked(mark) {
                    let same = |old: &PatchKey| old.mark == mark && from.text(old.node).bytes == key.bytes;
                    if let Some(place) = self.keys.iter().position(same) {
                        self.keys.remove(place);
                    }
                }
                self.marks[usize::from(mark >> 6)] |= 1 << (mark & 63);
                self.keys.push(PatchKey { node, mark, used: false });
            }
            node += 1 + from.view(node + 1).nodes();
        }
        Ok(())
    }

    #[inline]
    fn is_marked(&self, mark: u8) -> bool {
        self.marks[usize::from(mark >> 6)] >> (mark & 63) & 1 == 1
    }

    /// The field with this key, which is escaped; its node is given back, and whether it was asked for before.
    #[inline]
    pub fn find<'v, S: Source<'v>>(&mut self, from: S, key: &[u8]) -> Option<(usize, bool)> {
        let is = |it: &PatchKey| from.text(it.node).is_escaped(key);
        let expected = self.keys.get(self.next).is_some_and(is);
        let place = if expected {
            self.next
        } else if key.contains(&b'\\') {
            self.keys.iter().position(is)?
        } else {
            let mark = mark(key);
            if !self.is_marked(mark) {
                return None;
            }
            self.keys.iter().position(|it| it.mark == mark && is(it))?
        };
        self.next = place + 1;
        let key = &mut self.keys[place];
        let used = std::mem::replace(&mut key.used, true);
        Some((key.node, used))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.keys.len()
    }
}

impl Encoder {
    pub(super) fn merged<'v, S: Source<'v>>(
        &mut self,
        old: Entity<'_>,
        patch: S,
        at: usize,
        pick: Pick<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), Error> {
        self.keys.fill(patch, at, pick)?;
        let mut to = To { scratch: &mut self.scratch, context: old.context, shapes: old.shapes, out };
        let open = to.open();
        for field in old.fields()? {
            let field = field?;
            match self.keys.find(patch, field.key) {
                Some((node, _)) => to.field(patch, node, 1)?,
                None => to.ready(field.key, field.tag, field.payload)?,
            }
        }
        for key in self.keys.keys.iter().filter(|key| !key.used) {
            to.field(patch, key.node, 1)?;
        }
        to.close_entity(open)
    }

    #[allow(clippy::too_many_arguments)]
    pub(super) fn keeping(
        &mut self,
        value: Value<'_>,
        pick: Pick<'_>,
        old: Entity<'_>,
        kept: &[&str],
        context: Context,
        shapes: &Shapes,
        out: &mut Vec<u8>,
    ) -> Result<(), Error> {
        let same = old.context == context && std::ptr::eq(old.shapes, shapes);
        let mut to = To { scratch: &mut self.scratch, context, shapes, out };
        let open = to.open();
        match value.tape {
            Tape::Fast(nodes) => to.fields(nodes, value.at, pick, 1)?,
            Tape::Plain(plain) => to.fields(plain, value.at, pick, 1)?,
        }
        for field in old.fields()? {
            let field = field?;
            let is_kept = kept.iter().any(|key| field.is_named(key));
            let lacks = || {
                let is_there = |text: Text<'_>| text.is_escaped(field.key) && pick.takes(text.bytes);
                !value.fields().any(|(key, _)| is_there(key.text()))
            };
            if !is_kept || !lacks() {
                continue;
            }
            if same {
                to.ready(field.key, field.tag, field.payload)?;
                continue;
            }
            // Other ids or shapes: by way of text.
            self.text.clear();
            self.text.extend_from_slice(b"{\"");
            self.text.extend_from_slice(field.key);
            self.text.extend_from_slice(b"\":");
            field.write(&mut self.text)?;
            self.text.push(b'}');
            self.plain.parse(&self.text)?;
            to.field(&self.plain, 1, 1)?;
        }
        to.close_entity(open)
    }

    pub(super) fn lessened(
        &mut self,
        old: Entity<'_>,
        keys: &[&str],
        out: &mut Vec<u8>,
    ) -> Result<(), Error> {
        let mut to = To { scratch: &mut self.scratch, context: old.context, shapes: old.shapes, out };
        let open = to.open();
        for field in old.fields()? {
            let field = field?;
            if !keys.iter().any(|key| field.is_named(key)) {
                to.ready(field.key, field.tag, field.payload)?;
            }
        }
        to.close_entity(open)
    }

    /// `array` is one of `old`'s fields.
    pub(super) fn with_fewer_elements(
        &mut self,
        old: Entity<'_>,
        array: Field<'_>,
        id: u64,
        out: &mut Vec<u8>,
    ) -> Result<(), Error> {
        let left = || array.elements().filter(|element| element.as_id() != Some(id));
        self.text.clear();
        let first = left().next().map(|element| element.tag);
        // As the array would be encoded.
        let common = first.filter(|&first| tag::has_bytes(first) && left().all(|it| it.tag == first));
        put_array_head(&mut self.text, left().count(), common.unwrap_or(tag::ANY));
        for element in left() {
            if common.is_none() {
                self.text.push(element.tag);
            }
            self.text.extend_from_slice(element.payload);
        }
        let mut to = To { scratch: &mut self.scratch, context: old.context, shapes: old.shapes, out };
        let open = to.open();
        for field in old.fields()? {
            let field = field?;
            let is_array = std::ptr::eq(field.payload, array.payload) && field.key == array.key;
            to.ready(field.key, field.tag, if is_array { &self.text } else { field.payload })?;
        }
        to.close_entity(open)
    }
}
