//! Parsed JSON, whichever tape it is on.
//!
//! Enters: a tape of simd-json's or of [`Plain`]'s. Leaves: values, and their parts; nothing is copied. Asking is
//! cheap: a step to the next field is a few loads.

use simd_json::{Node, StaticNode};

use super::plain::{Plain, Token};
use super::scalars::{self, digits, is_escape_of};

/// A node of either tape.
#[derive(Clone, Copy)]
pub(super) enum View<'a> {
    Null,
    Bool(bool),
    Uint(u64),
    Int(i64),
    Float(f64),
    /// A number as text.
    Number(&'a [u8]),
    String(Text<'a>),
    /// How many elements there are, and how many nodes they take.
    Array {
        len: usize,
        count: usize,
    },
    Object {
        len: usize,
        count: usize,
    },
}

/// A string of a tape.
#[derive(Clone, Copy)]
pub(super) struct Text<'a> {
    pub bytes: &'a [u8],
    /// Whether it stands as JSON wants it between quotes, in the way of `scalars::escape`.
    pub escaped: bool,
}

impl Text<'_> {
    /// Whether `escaped`, as it stands between quotes, says the same.
    #[inline]
    pub fn is_escaped(self, escaped: &[u8]) -> bool {
        if self.escaped { self.bytes == escaped } else { is_escape_of(escaped, self.bytes) }
    }

    /// Whether `plain` says the same.
    #[inline]
    pub fn is(self, plain: &[u8]) -> bool {
        if self.escaped { is_escape_of(self.bytes, plain) } else { self.bytes == plain }
    }

    /// Writes it behind `out` as it stands between quotes.
    #[inline]
    pub fn write(self, out: &mut Vec<u8>) {
        if self.escaped { out.extend_from_slice(self.bytes) } else { scalars::escape(out, self.bytes) }
    }
}

impl View<'_> {
    /// Nodes that this one and what is inside it take.
    #[inline]
    pub fn nodes(self) -> usize {
        match self {
            View::Array { count, .. } | View::Object { count, .. } => 1 + count,
            _ => 1,
        }
    }
}

/// A tape. A place behind its end is null, which no sound tape asks for.
pub(super) trait Source<'a>: Copy {
    fn view(self, at: usize) -> View<'a>;

    /// The string at `at`, as a key is; empty for anything else.
    #[inline]
    fn text(self, at: usize) -> Text<'a> {
        match self.view(at) {
            View::String(text) => text,
            _ => Text { bytes: b"", escaped: true },
        }
    }
}

impl<'a> Source<'a> for &'a [Node<'a>] {
    #[inline]
    fn view(self, at: usize) -> View<'a> {
        match self.get(at) {
            Some(Node::String(text)) => View::String(Text { bytes: text.as_bytes(), escaped: false }),
            Some(&Node::Object { len, count }) => View::Object { len, count },
            Some(&Node::Array { len, count }) => View::Array { len, count },
            Some(Node::Static(StaticNode::Bool(value))) => View::Bool(*value),
            Some(Node::Static(StaticNode::I64(value))) => match u64::try_from(*value) {
                Ok(value) => View::Uint(value),
                Err(_) => View::Int(*value),
            },
            Some(Node::Static(StaticNode::U64(value))) => View::Uint(*value),
            Some(Node::Static(StaticNode::F64(value))) => View::Float(*value),
            Some(Node::Static(StaticNode::Null)) | None => View::Null,
        }
    }
}

impl<'a> Source<'a> for &'a Plain {
    fn view(self, at: usize) -> View<'a> {
        match self.tokens.get(at) {
            Some(&Token::Bool(value)) => View::Bool(value),
            Some(&Token::Number(from, to)) => number(&self.texts[from..to]),
            Some(&Token::String(from, to)) => {
                View::String(Text { bytes: &self.texts[from..to], escaped: true })
            }
            Some(&Token::Array { len, count }) => View::Array { len, count },
            Some(&Token::Object { len, count }) => View::Object { len, count },
            Some(Token::Null) | None => View::Null,
        }
    }
}

/// What the text of a number is; one that neither integers nor floats write in this way stays text.
fn number(text: &[u8]) -> View<'_> {
    let Ok(digits) = std::str::from_utf8(text) else { return View::Number(text) };
    if let Ok(value) = digits.parse() {
        return View::Uint(value);
    }
    match (digits.parse::<i64>(), digits.parse::<f64>()) {
        // Minus nothing is a float to most readers; as text it stays what it is.
        (Ok(value), _) if value < 0 => View::Int(value),
        (_, Ok(value)) if value.is_finite() && digits.contains(['.', 'e', 'E']) => View::Float(value),
        _ => View::Number(text),
    }
}

/// Either tape.
#[derive(Clone, Copy)]
pub(super) enum Tape<'a> {
    Fast(&'a [Node<'a>]),
    Plain(&'a Plain),
}

impl<'a> Source<'a> for Tape<'a> {
    #[inline]
    fn view(self, at: usize) -> View<'a> {
        match self {
            Tape::Fast(nodes) => nodes.view(at),
            Tape::Plain(plain) => plain.view(at),
        }
    }
}

/// One value of a parsed text.
#[derive(Clone, Copy)]
pub struct Value<'a> {
    pub(super) tape: Tape<'a>,
    pub(super) at: usize,
}

/// The key of a field.
#[derive(Clone, Copy)]
pub struct KeyText<'a>(Text<'a>);

impl<'a> KeyText<'a> {
    #[inline]
    pub(super) fn text(self) -> Text<'a> {
        self.0
    }

    /// Whether it is `key`.
    #[inline]
    pub fn is(self, key: &str) -> bool {
        self.0.is(key.as_bytes())
    }

    /// Writes the key in quotes behind what is in `out`.
    pub fn write(self, out: &mut Vec<u8>) {
        out.push(b'"');
        self.0.write(out);
        out.push(b'"');
    }

    /// The key as an id, as in objects that map ids to things; as [`Value::as_id`].
    pub fn as_id(self) -> Option<u64> {
        digits(self.0.bytes)
    }
}

/// Which fields of an object are meant; of its own fields, not those further inside. Names are plain ASCII.
#[derive(Clone, Copy, Debug)]
pub enum Pick<'a> {
    /// All.
    All,
    /// All but these.
    Without(&'a [&'a str]),
    /// These alone.
    Only(&'a [&'a str]),
}

impl Pick<'_> {
    /// Whether the field with this key is meant.
    #[inline]
    pub(super) fn takes(self, key: &[u8]) -> bool {
        match self {
            Pick::All => true,
            Pick::Without(names) => !names.iter().any(|name| name.as_bytes() == key),
            Pick::Only(names) => names.iter().any(|name| name.as_bytes() == key),
        }
    }
}

impl<'a> Value<'a> {
    #[inline]
    fn view(self) -> View<'a> {
        self.tape.view(self.at)
    }

    /// The field of that name, the last one of several; `None` too when this is no object. `key` is plain ASCII.
    pub fn get(self, key: &str) -> Option<Value<'a>> {
        let Tape::Fast(nodes) = self.tape else {
            return self
                .fields()
                .filter(|(name, _)| name.0.bytes == key.as_bytes())
                .last()
                .map(|(_, value)| value);
        };
        // The same in a loop that looks at nothing else: every event is asked for a dozen fields.
        let Some(&Node::Object { len, .. }) = nodes.get(self.at) else { return None };
        let (mut at, mut found) = (self.at + 1, None);
        for _ in 0..len {
            let [name, value, ..] = nodes.get(at..)? else { break };
            if let Node::String(name) = name
                && name.as_bytes() == key.as_bytes()
            {
                found = Some(at + 1);
            }
            at += match value {
                Node::Object { count, .. } | Node::Array { count, .. } => 2 + count,
                _ => 2,
            };
        }
        found.map(|at| Value { tape: self.tape, at })
    }

    /// The fields of an object, in order; nothing if it is none.
    pub fn fields(self) -> impl Iterator<Item = (KeyText<'a>, Value<'a>)> + use<'a> {
        let (tape, mut at) = (self.tape, self.at + 1);
        let len = if let View::Object { len, .. } = self.view() { len } else { 0 };
        (0..len).map(move |_| {
            let field = (KeyText(tape.text(at)), Value { tape, at: at + 1 });
            at += 1 + tape.view(at + 1).nodes();
            field
        })
    }

    /// The elements of an array, in order; nothing if it is none.
    pub fn elements(self) -> impl Iterator<Item = Value<'a>> + use<'a> {
        let (tape, mut at) = (self.tape, self.at + 1);
        let len = if let View::Array { len, .. } = self.view() { len } else { 0 };
        (0..len).map(move |_| {
            let element = Value { tape, at };
            at += tape.view(at).nodes();
            element
        })
    }

    /// Whether it is an object.
    pub fn is_object(self) -> bool {
        matches!(self.view(), View::Object { .. })
    }

    /// Whether it is an array.
    pub fn is_array(self) -> bool {
        matches!(self.view(), View::Array { .. })
    }

    /// Whether it is null.
    pub fn is_null(self) -> bool {
        matches!(self.view(), View::Null)
    }

    /// Whether it is a string.
    pub fn is_string(self) -> bool {
        matches!(self.view(), View::String(_))
    }

    /// The value if it is true or false.
    pub fn as_bool(self) -> Option<bool> {
        if let View::Bool(value) = self.view() { Some(value) } else { None }
    }

    /// The value if it is a whole number from 0 to 2^64 - 1.
    pub fn as_u64(self) -> Option<u64> {
        if let View::Uint(value) = self.view() { Some(value) } else { None }
    }

    /// As [`Value::as_u64`], and the value of a string of digits: Discord sends ids both ways.
    pub fn as_id(self) -> Option<u64> {
        match self.view() {
            View::Uint(value) => Some(value),
            View::String(text) => digits(text.bytes),
            _ => None,
        }
    }

    /// Whether it is this string.
    pub fn is_text(self, text: &str) -> bool {
        if let View::String(own) = self.view() { own.is(text.as_bytes()) } else { false }
    }

    /// Whether both are strings and say the same.
    pub fn is_same_text(self, other: Value<'_>) -> bool {
        match (self.view(), other.view()) {
            (View::String(one), View::String(two)) if two.escaped => one.is_escaped(two.bytes),
            (View::String(one), View::String(two)) => one.is(two.bytes),
            _ => false,
        }
    }

    /// How many elements or fields it has.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(self) -> usize {
        match self.view() {
            View::Array { len, .. } | View::Object { len, .. } => len,
            _ => 0,
        }
    }

    /// Writes it as JSON text behind what is in `out`.
    pub fn write(self, out: &mut Vec<u8>) {
        write(self.tape, self.at, out);
    }
}

/// Writes the value at `at`; a tape is never deeper than [`super::DEPTH_MAX`]. Gives back where the next one is.
fn write(tape: Tape<'_>, mut at: usize, out: &mut Vec<u8>) -> usize {
    use std::io::Write;
    let (len, object) = match tape.view(at) {
        View::Array { len, .. } => (len, false),
        View::Object { len, .. } => (len, true),
        scalar => {
            match scalar {
                View::Bool(value) => out.extend_from_slice(if value { b"true" } else { b"false" }),
                View::Uint(value) => scalars::write_uint(out, value),
                // Writing to a Vec cannot fail.
                View::Int(value) => drop(write!(out, "{value}")),
                View::Float(value) => drop(write!(out, "{value:?}")),
                View::Number(text) => out.extend_from_slice(text),
                View::String(text) => write_text(text, out),
                _ => out.extend_from_slice(b"null"),
            }
            return at + 1;
        }
    };
    out.push(if object { b'{' } else { b'[' });
    at += 1;
    for index in 0..len {
        if index > 0 {
            out.push(b',');
        }
        if object {
            write_text(tape.text(at), out);
            out.push(b':');
            at += 1;
        }
        at = write(tape, at, out);
    }
    out.push(if object { b'}' } else { b']' });
    at
}

fn write_text(text: Text<'_>, out: &mut Vec<u8>) {
    out.push(b'"');
    text.write(out);
    out.push(b'"');
}
