//! Values to bytes.
//!
//! Enters: values of either tape. Leaves: the bytes that the head of `encoding` draws, behind what is in `out`.
//!
//! One pass: a value's payload is written behind what is there, and an object, whose keys and constants are known
//! only at its end, then gets its shape's number in front. The recursion is bounded by [`DEPTH_MAX`].

use super::constants::{CONSTANTS, constant_of};
use super::decode::put_array_head;
use super::entity::Entity;
use super::merge::PatchKeys;
use super::plain::Plain;
use super::scalars::{Reader, put_float, put_string, put_varint};
use super::shape::Keys;
use super::shapes::Shapes;
use super::value::{Pick, Source, Tape, Value, View};
use super::{Context, DEPTH_MAX, ENTITY_MAX, Error, tag};

/// What an encoder has met.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Entities written.
    pub entities: u64,
    /// Entities refused: too deep or too large, or what they were to be made of is damaged.
    pub refused: u64,
}

/// Writes entities; keeps its scratch memory from one to the next. On an error `out` is as it was.
#[derive(Default)]
pub struct Encoder {
    pub(super) scratch: Scratch,
    pub(super) keys: PatchKeys,
    /// For parts of an entity that is kept under other ids.
    pub(super) plain: Plain,
    pub(super) text: Vec<u8>,
    stats: Stats,
}

impl Encoder {
    /// An encoder; its memory grows with the objects it sees.
    pub fn new() -> Encoder {
        Encoder::default()
    }

    /// What it has met.
    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// Writes `value`: of an object the fields that `pick` takes.
    ///
    /// # Errors
    /// Too large.
    pub fn encode(
        &mut self,
        value: Value<'_>,
        pick: Pick<'_>,
        context: Context,
        shapes: &Shapes,
        out: &mut Vec<u8>,
    ) -> Result<(), Error> {
        self.run(out, |encoder, out| {
            let mut to = To { scratch: &mut encoder.scratch, context, shapes, out };
            match value.tape {
                Tape::Fast(nodes) => to.entity(nodes, value.at, pick),
                Tape::Plain(plain) => to.entity(plain, value.at, pick),
            }
        })
    }

    /// Writes the fields of the object `value` that `pick` takes, and behind them those of `old` that are named in
    /// `kept` and that are not among them.
    ///
    /// # Errors
    /// Either is no object, `old` damaged; too large.
    #[allow(clippy::too_many_arguments)]
    pub fn encode_keeping(
        &mut self,
        value: Value<'_>,
        pick: Pick<'_>,
        old: Entity<'_>,
        kept: &[&str],
        context: Context,
        shapes: &Shapes,
        out: &mut Vec<u8>,
    ) -> Result<(), Error> {
        self.run(out, |encoder, out| encoder.keeping(value, pick, old, kept, context, shapes, out))
    }

    /// Writes `old` with the fields of the object `patch` that `pick` takes in place of its own: fields that `patch`
    /// has not stay, null is a value like others.
    ///
    /// # Errors
    /// Either is no object, `old` damaged; too large.
    pub fn merge(
        &mut self,
        old: Entity<'_>,
        patch: Value<'_>,
        pick: Pick<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), Error> {
        self.run(out, |encoder, out| match patch.tape {
            Tape::Fast(nodes) => encoder.merged(old, nodes, patch.at, pick, out),
            Tape::Plain(plain) => encoder.merged(old, plain, patch.at, pick, out),
        })
    }

    /// Writes `old` without the fields of these names.
    ///
    /// # Errors
    /// It is no object, or damaged.
    pub fn without(&mut self, old: Entity<'_>, keys: &[&str], out: &mut Vec<u8>) -> Result<(), Error> {
        self.run(out, |encoder, out| encoder.lessened(old, keys, out))
    }

    /// Writes `old` with its array `key` without the elements that are this id; says no and writes nothing when there
    /// is none.
    ///
    /// # Errors
    /// It is no object, or damaged.
    pub fn without_element(
        &mut self,
        old: Entity<'_>,
        key: &str,
        id: u64,
        out: &mut Vec<u8>,
    ) -> Result<bool, Error> {
        let mut array = None;
        for field in old.fields()? {
            let field = field?;
            if field.is_named(key) {
                array = Some(field);
            }
        }
        let Some(array) = array.filter(|array| array.elements().any(|it| it.as_id() == Some(id))) else {
            return Ok(false);
        };
        self.run(out, |encoder, out| encoder.with_fewer_elements(old, array, id, out)).map(|()| true)
    }

    /// Counts, and puts things back after an error.
    fn run(
        &mut self,
        out: &mut Vec<u8>,
        write: impl FnOnce(&mut Encoder, &mut Vec<u8>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let start = out.len();
        let done = match write(self, out) {
            Ok(()) if out.len() - start > ENTITY_MAX => Err(Error::TooLarge),
            done => done,
        };
        match done {
            Ok(()) => self.stats.entities += 1,
            Err(_) => {
                self.stats.refused += 1;
                self.scratch.shape.clear();
                self.scratch.entries.clear();
                out.truncate(start);
            }
        }
        done
    }
}

/// A value of an object that is being written.
#[derive(Clone, Copy)]
struct Entry {
    tag: u8,
    /// Into [`CONSTANTS`]; its payload is then not in the output.
    constant: Option<u8>,
    /// Range of the payload in the output.
    from: usize,
    to: usize,
}

/// What is known of the objects that are open, innermost last.
#[derive(Default)]
pub(super) struct Scratch {
    shape: Vec<u8>,
    entries: Vec<Entry>,
    /// A general shape's text.
    general: Vec<u8>,
}

/// Where an open object's parts start.
#[derive(Clone, Copy)]
pub(super) struct Open {
    shape: usize,
    entry: usize,
    start: usize,
}

/// Where values go.
pub(super) struct To<'a> {
    pub scratch: &'a mut Scratch,
    pub context: Context,
    pub shapes: &'a Shapes,
    pub out: &'a mut Vec<u8>,
}

impl To<'_> {
    pub fn entity<'v, S: Source<'v>>(&mut self, from: S, at: usize, pick: Pick<'_>) -> Result<(), Error> {
        if let View::Object { .. } = from.view(at) {
            let open = self.open();
            self.fields(from, at, pick, 1)?;
            return self.close_entity(open);
        }
        self.out.extend_from_slice(&[0, 0]);
        let place = self.out.len() - 1;
        self.out[place] = self.value(from, at, 0)?;
        Ok(())
    }

    /// Writes the payload of the value at `at`; gives back its tag. `depth` containers are open.
    pub fn value<'v, S: Source<'v>>(&mut self, from: S, at: usize, depth: usize) -> Result<u8, Error> {
        Ok(match from.view(at) {
            View::Null => tag::NULL,
            View::Bool(true) => tag::TRUE,
            View::Bool(false) => tag::FALSE,
            View::Uint(value) => {
                put_varint(self.out, value);
                tag::UINT
            }
            // The tape has those from 0 on as above.
            View::Int(value) => {
                put_varint(self.out, !value as u64);
                tag::NINT
            }
            View::Float(value) => put_float(self.out, value),
            View::Number(text) => {
                put_varint(self.out, text.len() as u64);
                self.out.extend_from_slice(text);
                tag::NUMBER
            }
            View::String(text) => put_string(self.out, text.bytes, text.escaped),
            View::Array { .. } | View::Object { .. } if depth == DEPTH_MAX => return Err(Error::TooDeep),
            View::Array { len, .. } => {
                self.array(from, at, len, depth + 1)?;
                tag::ARRAY
            }
            View::Object { .. } => {
                let open = self.open();
                self.fields(from, at, Pick::All, depth + 1)?;
                self.close(open)?;
                tag::OBJECT
            }
        })
    }

    fn array<'v, S: Source<'v>>(
        &mut self,
        from: S,
        at: usize,
        len: usize,
        depth: usize,
    ) -> Result<(), Error> {
        let start = self.out.len();
        put_array_head(self.out, len, tag::ANY);
        if len == 0 {
            return Ok(());
        }
        let elements = self.out.len();
        let first = from.view(at + 1);
        let is_kind = |view: View<'_>| match first {
            View::Object { .. } => matches!(view, View::Object { .. }),
            View::Array { .. } => matches!(view, View::Array { .. }),
            _ => !matches!(view, View::Object { .. } | View::Array { .. }),
        };
        let mut node = at + 1;
        let mut alike = true;
        for _ in 0..len {
            let view = from.view(node);
            alike &= is_kind(view);
            node += view.nodes();
        }
        if alike {
            let mut node = at + 1;
            let mut common = tag::ANY;
            for index in 0..len {
                let tag = self.value(from, node, depth)?;
                if !tag::has_bytes(tag) || (index > 0 && tag != common) {
                    alike = false;
                    break;
                }
                common = tag;
                node += from.view(node).nodes();
            }
            if alike {
                // The tag's bits.
                self.out[start] ^= tag::ANY ^ common;
                return Ok(());
            }
        }
        // Only scalars have been written in vain: containers are alike as soon as they are of one kind.
        self.out.truncate(elements);
        let mut node = at + 1;
        for _ in 0..len {
            let place = self.out.len();
            self.out.push(0);
            self.out[place] = self.value(from, node, depth)?;
            node += from.view(node).nodes();
        }
        Ok(())
    }

    /// Writes those fields of the object at `at` that `pick` takes.
    pub fn fields<'v, S: Source<'v>>(
        &mut self,
        from: S,
        at: usize,
        pick: Pick<'_>,
        depth: usize,
    ) -> Result<(), Error> {
        let View::Object { len, .. } = from.view(at) else { return Err(Error::NotAnObject) };
        let mut node = at + 1;
        for _ in 0..len {
            if pick.takes(from.text(node).bytes) {
                self.field(from, node, depth)?;
            }
            node += 1 + from.view(node + 1).nodes();
        }
        Ok(())
    }

    /// Writes the field whose key is at `at`.
    #[inline]
    pub fn field<'v, S: Source<'v>>(&mut self, from: S, at: usize, depth: usize) -> Result<(), Error> {
        self.scratch.shape.extend_from_slice(b",\"");
        from.text(at).write(&mut self.scratch.shape);
        self.scratch.shape.extend_from_slice(b"\":");
        let payload = self.out.len();
        let tag = self.value(from, at + 1, depth)?;
        self.entry(tag, payload)
    }

    /// Writes a field that is encoded already, for the same context and table.
    #[inline]
    pub fn ready(&mut self, key: &[u8], tag: u8, payload: &[u8]) -> Result<(), Error> {
        self.scratch.shape.extend_from_slice(b",\"");
        self.scratch.shape.extend_from_slice(key);
        self.scratch.shape.extend_from_slice(b"\":");
        let from = self.out.len();
        self.out.extend_from_slice(payload);
        self.entry(tag, from)
    }

    /// Begins an object: a byte for its shape's number, and where its part of the scratch starts.
    #[inline]
    pub fn open(&mut self) -> Open {
        self.out.push(0);
        let scratch = &self.scratch;
        Open { shape: scratch.shape.len(), entry: scratch.entries.len(), start: self.out.len() - 1 }
    }

    /// Takes the value that was just written, whose key stands at the end of the shape.
    #[inline]
    fn entry(&mut self, mut tag: u8, from: usize) -> Result<(), Error> {
        if let tag::ID | tag::DECIMAL = tag {
            let mut payload = Reader(&self.out[from..]);
            let id = if tag == tag::ID { u64::from_le_bytes(payload.array()?) } else { payload.varint()? };
            if let Some(found) = self.context.tag_of(id) {
                self.out.truncate(from);
                tag = found;
            }
        }
        let constant = constant_of(tag, &self.out[from..], &self.scratch.shape);
        match constant {
            Some(index) => {
                self.out.truncate(from);
                self.scratch.shape.extend_from_slice(CONSTANTS[usize::from(index)].text.as_bytes());
            }
            None => self.scratch.shape.push(tag),
        }
        let entry = Entry { tag, constant, from, to: self.out.len() };
        self.scratch.entries.push(entry);
        Ok(())
    }

    /// As [`To::close`], for the object that is the entity.
    pub fn close_entity(&mut self, open: Open) -> Result<(), Error> {
        self.close(open)?;
        if self.out[open.start] == 0 {
            // An object without a shape says what it is.
            self.out.extend_from_slice(&[0, tag::OBJECT]);
            self.out[open.start..].rotate_right(2);
        }
        Ok(())
    }

    /// Ends an object: gives it a shape, or rewrites it for the lack of one.
    pub fn close(&mut self, open: Open) -> Result<(), Error> {
        let To { scratch: Scratch { shape, entries: all, general }, shapes, out, .. } = self;
        let entries = &all[open.entry..];
        if entries.is_empty() {
            out.push(0);
            return Ok(());
        }
        shape[open.shape] = b'{';
        shape.push(b'}');
        let text = &shape[open.shape..];
        let id = match shapes.intern(text, entries.len(), general) {
            Some((id, false)) => {
                put_number(out, open.start, id);
                None
            }
            Some((id, true)) => Some(id),
            None => Some(0),
        };
        if let Some(id) = id {
            let end = out.len();
            put_varint(out, id.into());
            let mut keys = Keys(text);
            if id == 0 {
                put_varint(out, entries.len() as u64);
            }
            for entry in entries {
                if id == 0
                    && let Some((key, _)) = keys.next()?
                {
                    put_varint(out, key.len() as u64);
                    out.extend_from_slice(key);
                }
                out.push(entry.tag);
                match entry.constant {
                    Some(index) => out.extend_from_slice(CONSTANTS[usize::from(index)].payload),
                    None => out.extend_from_within(entry.from..entry.to),
                }
            }
            let length = out.len() - end;
            out.copy_within(end.., open.start);
            out.truncate(open.start + length);
        }
        shape.truncate(open.shape);
        all.truncate(open.entry);
        Ok(())
    }
}

/// Puts a shape's number where a byte was left for it.
#[inline]
fn put_number(out: &mut Vec<u8>, at: usize, id: u32) {
    if id < 0x80 {
        out[at] = id as u8;
        return;
    }
    let end = out.len();
    put_varint(out, id.into());
    let length = out.len() - end;
    let mut number = [0; 5];
    number[..length].copy_from_slice(&out[end..]);
    out.copy_within(at + 1..end, at + length);
    out[at..at + length].copy_from_slice(&number[..length]);
    out.truncate(end + length - 1);
}
