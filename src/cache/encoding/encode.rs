//! JSON to bytes.
//!
//! Enters: text, or nodes of a tape that somebody parsed. Leaves: the bytes that the head of `encoding` draws. Text
//! goes through simd-json over a copy, so that the caller's bytes stay as they are; what that refuses is asked of
//! [`Plain`], which also has the last word on what is no JSON.
//!
//! One pass: a value's payload is written behind what is there, and an object, whose keys and constants are known
//! only at its end, then gets its shape's number in front. The recursion is bounded by [`DEPTH_MAX`].

use simd_json::{Buffers, INPUT_PADDING, Node, StaticNode, Tape};

use super::fields::Cursor;
use super::plain::{Plain, Token};
use super::scalars::{escape, put_float, put_string, put_varint};
use super::shapes::{Keys, Shapes};
use super::{CONSTANTS, DEPTH_MAX, ENTITY_MAX, Error, constant_of, tag};

/// A node of either tape.
#[derive(Clone, Copy)]
enum View<'a> {
    Null,
    Bool(bool),
    Uint(u64),
    Int(i64),
    Float(f64),
    /// A number as text.
    Number(&'a [u8]),
    /// A string, and whether it is escaped already.
    String(&'a [u8], bool),
    Array {
        len: usize,
        count: usize,
    },
    Object {
        len: usize,
        count: usize,
    },
}

impl View<'_> {
    /// Nodes that this one and what is inside it take.
    #[inline]
    fn nodes(self) -> usize {
        match self {
            View::Array { count, .. } | View::Object { count, .. } => 1 + count,
            _ => 1,
        }
    }
}

/// A tape. A place behind its end is null, which no sound tape asks for.
trait Source {
    fn view(&self, at: usize) -> View<'_>;
}

impl Source for &[Node<'_>] {
    #[inline]
    fn view(&self, at: usize) -> View<'_> {
        match self.get(at) {
            Some(Node::String(text)) => View::String(text.as_bytes(), false),
            Some(&Node::Object { len, count }) => View::Object { len, count },
            Some(&Node::Array { len, count }) => View::Array { len, count },
            Some(Node::Static(StaticNode::Bool(value))) => View::Bool(*value),
            Some(Node::Static(StaticNode::I64(value))) => View::Int(*value),
            Some(Node::Static(StaticNode::U64(value))) => View::Uint(*value),
            Some(Node::Static(StaticNode::F64(value))) => View::Float(*value),
            Some(Node::Static(StaticNode::Null)) | None => View::Null,
        }
    }
}

impl Source for Plain {
    fn view(&self, at: usize) -> View<'_> {
        match self.tokens.get(at) {
            Some(&Token::Bool(value)) => View::Bool(value),
            Some(&Token::Number(from, to)) => {
                let text = &self.texts[from..to];
                let whole = std::str::from_utf8(text).ok();
                // Minus nothing is a float to most readers; as text it stays what it is.
                match whole.filter(|text| *text != "-0").and_then(|text| text.parse::<i128>().ok()) {
                    Some(value) if u64::try_from(value).is_ok() => View::Uint(value as u64),
                    Some(value) if i64::try_from(value).is_ok() => View::Int(value as i64),
                    _ => View::Number(text),
                }
            }
            Some(&Token::String(from, to)) => View::String(&self.texts[from..to], true),
            Some(&Token::Array { len, count }) => View::Array { len, count },
            Some(&Token::Object { len, count }) => View::Object { len, count },
            Some(Token::Null) | None => View::Null,
        }
    }
}

/// What an encoder has met.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Values written.
    pub values: u64,
    /// Texts that simd-json refused and [`Plain`] took: huge numbers, lone surrogates.
    pub plain: u64,
    /// Values refused: no JSON, too deep or too large.
    pub refused: u64,
}

/// Writes values; keeps its scratch memory from one to the next.
pub struct Encoder {
    buffers: Buffers,
    /// Empty between calls.
    tape: Tape<'static>,
    padded: Vec<u8>,
    plain: Plain,
    scratch: Scratch,
    stats: Stats,
}

impl Default for Encoder {
    fn default() -> Encoder {
        Encoder::new()
    }
}

impl Encoder {
    /// An encoder; its memory grows with the largest text it sees, 40 bytes per byte at worst, and is kept.
    pub fn new() -> Encoder {
        Encoder {
            buffers: Buffers::with_max_depth(0, DEPTH_MAX),
            tape: Tape(Vec::new()),
            padded: Vec::new(),
            plain: Plain::default(),
            scratch: Scratch::default(),
            stats: Stats::default(),
        }
    }

    /// What it has met.
    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// Writes the value that `json` is; `out` is cleared first.
    ///
    /// # Errors
    /// No JSON, too deep, too large; `out` is then empty.
    pub fn encode(&mut self, json: &[u8], shapes: &mut Shapes, out: &mut Vec<u8>) -> Result<(), Error> {
        self.run(json, None, shapes, out)
    }

    /// Writes the value whose node is first in `nodes`, a tape or the rest of one; `out` is cleared first.
    ///
    /// # Errors
    /// Too deep; `out` is then empty.
    pub fn encode_nodes(
        &mut self,
        nodes: &[Node<'_>],
        shapes: &mut Shapes,
        out: &mut Vec<u8>,
    ) -> Result<(), Error> {
        out.clear();
        let done = self.scratch.entity(&nodes, None, shapes, out);
        self.finish(done, out)
    }

    /// Writes `old` with the keys of the object `patch` in place of its own: keys that `patch` has not stay, null
    /// is a value like others. `out` is cleared first.
    ///
    /// # Errors
    /// Either is no object, `patch` no JSON, `old` damaged; `out` is then empty.
    pub fn merge(
        &mut self,
        old: &[u8],
        patch: &[u8],
        shapes: &mut Shapes,
        out: &mut Vec<u8>,
    ) -> Result<(), Error> {
        self.run(patch, Some(old), shapes, out)
    }

    /// As [`Encoder::merge`] with the object whose node is first in `nodes`.
    ///
    /// # Errors
    /// As there.
    pub fn merge_nodes(
        &mut self,
        old: &[u8],
        nodes: &[Node<'_>],
        shapes: &mut Shapes,
        out: &mut Vec<u8>,
    ) -> Result<(), Error> {
        out.clear();
        let done = self.scratch.entity(&nodes, Some(old), shapes, out);
        self.finish(done, out)
    }

    /// Parses `json` and writes it, onto `old` if there is one.
    fn run(
        &mut self,
        json: &[u8],
        old: Option<&[u8]>,
        shapes: &mut Shapes,
        out: &mut Vec<u8>,
    ) -> Result<(), Error> {
        out.clear();
        let done = if json.len() > ENTITY_MAX {
            Err(Error::TooLarge)
        } else {
            self.padded.clear();
            self.padded.extend_from_slice(json);
            self.padded.resize(json.len() + INPUT_PADDING, b' ');
            let mut tape = std::mem::replace(&mut self.tape, Tape(Vec::new())).reset();
            let parsed =
                simd_json::fill_tape_padded(&mut self.padded, json.len(), &mut self.buffers, &mut tape);
            let done = match parsed {
                Ok(()) => self.scratch.entity(&tape.0.as_slice(), old, shapes, out),
                Err(_) => self.plain.parse(json).and_then(|()| {
                    self.stats.plain += 1;
                    self.scratch.entity(&self.plain, old, shapes, out)
                }),
            };
            self.tape = tape.reset();
            done
        };
        self.finish(done, out)
    }

    fn finish(&mut self, done: Result<(), Error>, out: &mut Vec<u8>) -> Result<(), Error> {
        match done {
            Ok(()) => self.stats.values += 1,
            Err(_) => {
                self.stats.refused += 1;
                self.scratch.clear();
                out.clear();
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

/// A key of a patch.
struct PatchKey {
    /// Range in the escaped text of all keys.
    from: usize,
    to: usize,
    /// The value's node.
    node: usize,
    used: bool,
}

/// What is known of the objects that are open, innermost last.
#[derive(Default)]
struct Scratch {
    shape: Vec<u8>,
    entries: Vec<Entry>,
    keys: Vec<PatchKey>,
    key_text: Vec<u8>,
}

impl Scratch {
    fn clear(&mut self) {
        self.shape.clear();
        self.entries.clear();
        self.keys.clear();
        self.key_text.clear();
    }

    fn entity<S: Source>(
        &mut self,
        from: &S,
        old: Option<&[u8]>,
        shapes: &mut Shapes,
        out: &mut Vec<u8>,
    ) -> Result<(), Error> {
        if let Some(old) = old {
            return self.merge(old, from, shapes, out);
        }
        out.push(0);
        out[0] = self.value(from, 0, 0, shapes, out)?;
        Ok(())
    }

    /// Writes the payload of the value at `at`; gives back its tag. `depth` containers are open.
    fn value<S: Source>(
        &mut self,
        from: &S,
        at: usize,
        depth: usize,
        shapes: &mut Shapes,
        out: &mut Vec<u8>,
    ) -> Result<u8, Error> {
        Ok(match from.view(at) {
            View::Null => tag::NULL,
            View::Bool(true) => tag::TRUE,
            View::Bool(false) => tag::FALSE,
            View::Uint(value) => {
                put_varint(out, value);
                tag::UINT
            }
            View::Int(value @ 0..) => {
                put_varint(out, value as u64);
                tag::UINT
            }
            View::Int(value) => {
                put_varint(out, !value as u64);
                tag::NINT
            }
            View::Float(value) => put_float(out, value),
            View::Number(text) => {
                put_varint(out, text.len() as u64);
                out.extend_from_slice(text);
                tag::NUMBER
            }
            View::String(text, escaped) => put_string(out, text, escaped),
            View::Array { .. } | View::Object { .. } if depth == DEPTH_MAX => return Err(Error::TooDeep),
            View::Array { len, .. } => {
                self.array(from, at, len, depth + 1, shapes, out)?;
                tag::ARRAY
            }
            View::Object { len: 0, .. } => {
                out.extend_from_slice(&[0, 0]);
                tag::OBJECT
            }
            View::Object { len, .. } => {
                self.object(from, at, len, depth + 1, shapes, out)?;
                tag::OBJECT
            }
        })
    }

    fn array<S: Source>(
        &mut self,
        from: &S,
        at: usize,
        len: usize,
        depth: usize,
        shapes: &mut Shapes,
        out: &mut Vec<u8>,
    ) -> Result<(), Error> {
        put_varint(out, len as u64);
        if len == 0 {
            return Ok(());
        }
        let start = out.len();
        out.push(tag::ANY_IN_ARRAY);
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
            for index in 0..len {
                let tag = self.value(from, node, depth, shapes, out)?;
                // An element of no bytes would let a few bytes stand for millions of them.
                if tag <= tag::FALSE || (index > 0 && tag != out[start]) {
                    alike = false;
                    break;
                }
                out[start] = tag;
                node += from.view(node).nodes();
            }
        }
        if !alike {
            // Only scalars have been written in vain: containers are alike as soon as they are of one kind.
            out.truncate(start + 1);
            out[start] = tag::ANY_IN_ARRAY;
            let mut node = at + 1;
            for _ in 0..len {
                let place = out.len();
                out.push(0);
                out[place] = self.value(from, node, depth, shapes, out)?;
                node += from.view(node).nodes();
            }
        }
        Ok(())
    }

    fn object<S: Source>(
        &mut self,
        from: &S,
        at: usize,
        len: usize,
        depth: usize,
        shapes: &mut Shapes,
        out: &mut Vec<u8>,
    ) -> Result<(), Error> {
        let open = self.open(out);
        let mut node = at + 1;
        for _ in 0..len {
            self.shape.extend_from_slice(b",\"");
            if let View::String(key, escaped) = from.view(node) {
                if escaped { self.shape.extend_from_slice(key) } else { escape(&mut self.shape, key) }
            }
            self.shape.extend_from_slice(b"\":");
            let payload = out.len();
            let tag = self.value(from, node + 1, depth, shapes, out)?;
            self.entry(tag, payload, out);
            node += 1 + from.view(node + 1).nodes();
        }
        self.close(open, shapes, out)
    }

    /// Begins an object: a byte for its shape's number, and where its part of the scratch starts.
    #[inline]
    fn open(&mut self, out: &mut Vec<u8>) -> Open {
        out.push(0);
        Open { shape: self.shape.len(), entry: self.entries.len(), start: out.len() - 1 }
    }

    /// Takes the value that was just written, whose key stands at the end of the shape.
    #[inline]
    fn entry(&mut self, tag: u8, from: usize, out: &mut Vec<u8>) {
        let constant = constant_of(tag, &out[from..]);
        match constant {
            Some(index) => {
                out.truncate(from);
                self.shape.extend_from_slice(CONSTANTS[index].0.as_bytes());
            }
            None => self.shape.push(tag),
        }
        self.entries.push(Entry { tag, constant: constant.map(|at| at as u8), from, to: out.len() });
    }

    /// Ends an object: gives it a shape, or rewrites it for the lack of one.
    fn close(&mut self, open: Open, shapes: &mut Shapes, out: &mut Vec<u8>) -> Result<(), Error> {
        self.shape[open.shape] = b'{';
        self.shape.push(b'}');
        let text = &self.shape[open.shape..];
        let entries = &self.entries[open.entry..];
        let id = match shapes.intern(text, entries.len()) {
            Some((id, false)) => {
                if id < 0x80 {
                    out[open.start] = id as u8;
                } else {
                    let mut number = [0; 5];
                    let mut length = 0;
                    let mut left = id;
                    while left >= 0x80 {
                        number[length] = left as u8 | 0x80;
                        left >>= 7;
                        length += 1;
                    }
                    number[length] = left as u8;
                    out.splice(open.start..=open.start, number[..=length].iter().copied());
                }
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
                    Some(index) => out.extend_from_slice(CONSTANTS[usize::from(index)].2),
                    None => out.extend_from_within(entry.from..entry.to),
                }
            }
            let length = out.len() - end;
            out.copy_within(end.., open.start);
            out.truncate(open.start + length);
        }
        self.shape.truncate(open.shape);
        self.entries.truncate(open.entry);
        Ok(())
    }

    fn merge<S: Source>(
        &mut self,
        old: &[u8],
        patch: &S,
        shapes: &mut Shapes,
        out: &mut Vec<u8>,
    ) -> Result<(), Error> {
        self.clear();
        let View::Object { len, .. } = patch.view(0) else { return Err(Error::NotAnObject) };
        let mut node = 1;
        for _ in 0..len {
            let from = self.key_text.len();
            if let View::String(key, escaped) = patch.view(node) {
                if escaped { self.key_text.extend_from_slice(key) } else { escape(&mut self.key_text, key) }
            }
            self.keys.push(PatchKey { from, to: self.key_text.len(), node: node + 1, used: false });
            node += 1 + patch.view(node + 1).nodes();
        }
        out.push(tag::OBJECT);
        let open = self.open(out);
        // The old object is read through its own shapes while new ones are added: step by step.
        let mut cursor = Cursor::new(old, shapes)?;
        while let Some((key, tag, payload)) = cursor.next(old, shapes)? {
            self.shape.extend_from_slice(b",\"");
            self.shape.extend_from_slice(key);
            self.shape.extend_from_slice(b"\":");
            let found = self.keys.iter_mut().rev().find(|it| self.key_text[it.from..it.to] == *key);
            let from = out.len();
            let tag = match found {
                Some(key) => {
                    key.used = true;
                    let node = key.node;
                    self.value(patch, node, 1, shapes, out)?
                }
                None => {
                    out.extend_from_slice(payload);
                    tag
                }
            };
            self.entry(tag, from, out);
        }
        for index in 0..self.keys.len() {
            let PatchKey { from, to, node, used } = self.keys[index];
            // A later one of the same name stands for all.
            let text = &self.key_text[from..to];
            let shadowed = || self.keys[index + 1..].iter().any(|it| self.key_text[it.from..it.to] == *text);
            if used || shadowed() {
                continue;
            }
            self.shape.extend_from_slice(b",\"");
            self.shape.extend_from_slice(text);
            self.shape.extend_from_slice(b"\":");
            let payload = out.len();
            let tag = self.value(patch, node, 1, shapes, out)?;
            self.entry(tag, payload, out);
        }
        if self.entries.is_empty() {
            // `{}` has a form of its own.
            out.clear();
            out.extend_from_slice(&[tag::OBJECT, 0, 0]);
            return Ok(());
        }
        self.close(open, shapes, out)
    }
}

/// Where an open object's parts start.
#[derive(Clone, Copy)]
struct Open {
    shape: usize,
    entry: usize,
    start: usize,
}
