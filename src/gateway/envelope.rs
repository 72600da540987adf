//! The envelope of a gateway payload: `op`, `s`, `t` and where `d` lies.
//!
//! Enters: one payload, the bytes of one message after inflating. Leaves: two numbers and two spans. Nothing is
//! copied, allocated or decoded: `d` goes on as Discord wrote it. Spans, not references, so that the cache may
//! later parse the same bytes in place.
//!
//! ```text
//! {"t":"MESSAGE_CREATE","s":42,"op":0,"d":{...}}
//!       event: Some      seq   op      d: Some
//! ```
//!
//! Nobody promises that order: any order, whitespace, escaped keys and unknown keys are read. Keys match whole
//! and by case, after unescaping. A key that comes twice: the last one wins, for all four alike. A payload is
//! valid UTF-8, one JSON object and nothing more. `op` and `s` are plain digits: `5043.0` and `0e0` are refused
//! rather than guessed. Inside `d` and unknown values only what [`scan`](super::scan) lists is checked.
//! Discord: "Gateway Events, Payload Structure".

use super::scan::{self, Fault, StringEnd};
use std::fmt;

/// A range of bytes of the payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Offset of the first byte.
    pub start: usize,
    /// Offset behind the last byte.
    pub end: usize,
}

impl Span {
    /// The bytes of `payload` that this span covers; empty when `payload` is not the text that was scanned.
    pub fn of(self, payload: &[u8]) -> &[u8] {
        payload.get(self.start..self.end).unwrap_or_default()
    }
}

/// What [`scan`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// The opcode, exact: 4294967306 is not 10.
    pub op: u64,
    /// The sequence number; `None` when null or absent.
    pub seq: Option<u64>,
    /// The event name without its quotes; `None` when null or absent.
    pub event: Option<Span>,
    /// Whether the event name has escapes, see [`Envelope::event_name`].
    pub event_escaped: bool,
    /// The body as it was sent, without whitespace around it; `None` when absent, while `null` is a span.
    pub d: Option<Span>,
}

/// Why a payload is no envelope, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EnvelopeError {
    /// Offset into the payload.
    pub offset: usize,
    /// What is wrong there.
    pub problem: Problem,
}

/// What is wrong with a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// Not UTF-8.
    Utf8,
    /// Something else than what JSON needs here, which is named.
    Expected(&'static str),
    /// A value that does not end as it should.
    Value(Fault),
    /// No `op`.
    OpMissing,
    /// `op` is not an unsigned 64-bit integer.
    Op,
    /// `s` is neither null nor an unsigned 64-bit integer.
    Seq,
    /// `t` is neither null nor a string.
    Event,
}

impl std::error::Error for EnvelopeError {}

impl fmt::Display for EnvelopeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.problem {
            Problem::Utf8 => f.write_str("payload is not UTF-8")?,
            Problem::Expected(what) => write!(f, "payload is not JSON: expected {what}")?,
            Problem::Value(fault) => write!(f, "payload is not JSON: {fault}")?,
            Problem::OpMissing => f.write_str("payload has no op")?,
            Problem::Op => f.write_str("op is not an unsigned integer")?,
            Problem::Seq => f.write_str("s is neither null nor an unsigned integer")?,
            Problem::Event => f.write_str("t is neither null nor a string")?,
        }
        write!(f, " at byte {}", self.offset)
    }
}

/// Reads the envelope of `payload`.
///
/// # Errors
/// When it is not one; nothing of a refused payload may change any state.
#[inline]
pub fn scan(payload: &[u8]) -> Result<Envelope, EnvelopeError> {
    if simdutf8::basic::from_utf8(payload).is_err() {
        return Err(not_utf8(payload));
    }
    match usual(payload) {
        Some(envelope) => Ok(envelope),
        None => Reader { payload, at: 0 }.envelope(),
    }
}

impl Envelope {
    /// The event name, unescaped into `unescaped` where it has to be. A lone surrogate reads as U+FFFD.
    #[inline]
    pub fn event_name<'a>(&self, payload: &'a [u8], unescaped: &'a mut String) -> Option<&'a str> {
        let raw = self.event?.of(payload);
        if self.event_escaped {
            unescape(raw, unescaped);
            return Some(unescaped);
        }
        // The scan has validated the whole payload, so this fails only for another payload than that.
        simdutf8::basic::from_utf8(raw).ok()
    }

    /// The body; `null` when it is absent.
    #[inline]
    pub fn d<'a>(&self, payload: &'a [u8]) -> &'a [u8] {
        self.d.map_or(b"null", |span| span.of(payload))
    }
}

/// Discord's usual order without whitespace, `{"t":..,"s":..,"op":..,"d":..}`. Anything else: `None`, and the
/// reader of any order has its say.
#[inline]
fn usual(payload: &[u8]) -> Option<Envelope> {
    let mut at = after(payload, 0, b"{\"t\":")?;
    let mut event = None;
    if let Some(start) = after(payload, at, b"\"") {
        let StringEnd { quote, escaped } = scan::string_end(payload, start).ok()?;
        if escaped {
            return None;
        }
        event = Some(Span { start, end: quote });
        at = quote + 1;
    } else {
        at = after(payload, at, b"null")?;
    }
    at = after(payload, at, b",\"s\":")?;
    let mut seq = None;
    if let Some(end) = after(payload, at, b"null") {
        at = end;
    } else {
        let (number, end) = digits(payload, at)?;
        seq = Some(number);
        at = end;
    }
    at = after(payload, at, b",\"op\":")?;
    let (op, end) = digits(payload, at)?;
    let start = after(payload, end, b",\"d\":")?;
    let end = match payload.get(start)? {
        b'{' | b'[' => scan::container_end(payload, start).ok()?,
        _ => after(payload, start, b"null")?,
    };
    if payload.get(end..)? != b"}" {
        return None;
    }
    Some(Envelope { op, seq, event, event_escaped: false, d: Some(Span { start, end }) })
}

#[inline(always)]
fn after(payload: &[u8], at: usize, text: &[u8]) -> Option<usize> {
    payload.get(at..)?.starts_with(text).then_some(at + text.len())
}

/// An unsigned integer as JSON writes it, without fraction or exponent, and the offset behind it.
#[inline]
fn digits(payload: &[u8], start: usize) -> Option<(u64, usize)> {
    let mut at = start;
    let mut number: u64 = 0;
    while let Some(digit @ b'0'..=b'9') = payload.get(at) {
        number = number.checked_mul(10)?.checked_add(u64::from(digit - b'0'))?;
        at += 1;
    }
    let leading_zero = payload.get(start) == Some(&b'0') && at > start + 1;
    let goes_on = matches!(payload.get(at), Some(b'.' | b'e' | b'E'));
    (at > start && !leading_zero && !goes_on).then_some((number, at))
}

enum Key {
    Op,
    Seq,
    Event,
    D,
    Unknown,
}

/// Reads an envelope whatever its order.
struct Reader<'a> {
    payload: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn envelope(mut self) -> Result<Envelope, EnvelopeError> {
        let mut op = None;
        let mut seq = None;
        let mut event = None;
        let mut event_escaped = false;
        let mut d = None;
        self.whitespace();
        self.expect(b'{', "an object")?;
        self.whitespace();
        if self.peek() == Some(b'}') {
            self.at += 1;
        } else {
            loop {
                self.expect(b'"', "a key")?;
                let key = self.key()?;
                self.whitespace();
                self.expect(b':', "a colon")?;
                self.whitespace();
                match key {
                    Key::Op => op = Some(self.number(Problem::Op)?),
                    Key::Seq => seq = if self.null() { None } else { Some(self.number(Problem::Seq)?) },
                    Key::Event => (event, event_escaped) = self.event()?,
                    Key::D => d = Some(self.value()?),
                    Key::Unknown => {
                        self.value()?;
                    }
                }
                self.whitespace();
                match self.peek() {
                    Some(b',') => self.at += 1,
                    Some(b'}') => {
                        self.at += 1;
                        break;
                    }
                    _ => return Err(self.error(Problem::Expected("a comma or the end of the object"))),
                }
                self.whitespace();
            }
        }
        self.whitespace();
        if self.at < self.payload.len() {
            return Err(self.error(Problem::Expected("the end of the payload")));
        }
        let op = op.ok_or(EnvelopeError { offset: self.at, problem: Problem::OpMissing })?;
        Ok(Envelope { op, seq, event, event_escaped, d })
    }

    fn peek(&self) -> Option<u8> {
        self.payload.get(self.at).copied()
    }

    fn error(&self, problem: Problem) -> EnvelopeError {
        EnvelopeError { offset: self.at, problem }
    }

    fn whitespace(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    fn expect(&mut self, byte: u8, what: &'static str) -> Result<(), EnvelopeError> {
        if self.peek() != Some(byte) {
            return Err(self.error(Problem::Expected(what)));
        }
        self.at += 1;
        Ok(())
    }

    /// Ends a string whose opening quote has been read.
    fn string(&mut self) -> Result<(Span, bool), EnvelopeError> {
        let start = self.at;
        let StringEnd { quote, escaped } = scan::string_end(self.payload, start).map_err(value_error)?;
        self.at = quote + 1;
        Ok((Span { start, end: quote }, escaped))
    }

    fn key(&mut self) -> Result<Key, EnvelopeError> {
        let (span, escaped) = self.string()?;
        let raw = span.of(self.payload);
        let mut plain = [0; 2];
        let key = if escaped { short_key(raw, &mut plain) } else { raw };
        Ok(match key {
            b"op" => Key::Op,
            b"s" => Key::Seq,
            b"t" => Key::Event,
            b"d" => Key::D,
            _ => Key::Unknown,
        })
    }

    fn event(&mut self) -> Result<(Option<Span>, bool), EnvelopeError> {
        if self.null() {
            return Ok((None, false));
        }
        if self.peek() != Some(b'"') {
            return Err(self.error(Problem::Event));
        }
        self.at += 1;
        let (span, escaped) = self.string()?;
        Ok((Some(span), escaped))
    }

    fn null(&mut self) -> bool {
        match after(self.payload, self.at, b"null") {
            Some(at) => {
                self.at = at;
                true
            }
            None => false,
        }
    }

    fn number(&mut self, problem: Problem) -> Result<u64, EnvelopeError> {
        let (number, end) = digits(self.payload, self.at).ok_or(self.error(problem))?;
        self.at = end;
        Ok(number)
    }

    /// Skips a value of any type.
    fn value(&mut self) -> Result<Span, EnvelopeError> {
        let start = self.at;
        match self.peek() {
            Some(b'{' | b'[') => self.at = scan::container_end(self.payload, start).map_err(value_error)?,
            Some(b'"') => {
                self.at += 1;
                self.string()?;
            }
            Some(b'-' | b'0'..=b'9') => self.skip_number()?,
            _ => {
                let literals: [&[u8]; 3] = [b"null", b"true", b"false"];
                let end = literals.iter().find_map(|literal| after(self.payload, start, literal));
                self.at = end.ok_or(self.error(Problem::Expected("a value")))?;
            }
        }
        Ok(Span { start, end: self.at })
    }

    fn skip_number(&mut self) -> Result<(), EnvelopeError> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.peek() == Some(b'0') {
            self.at += 1;
        } else {
            self.skip_digits()?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.skip_digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.skip_digits()?;
        }
        Ok(())
    }

    fn skip_digits(&mut self) -> Result<(), EnvelopeError> {
        let start = self.at;
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
        if self.at == start { Err(self.error(Problem::Expected("a digit"))) } else { Ok(()) }
    }
}

fn value_error((offset, fault): (usize, Fault)) -> EnvelopeError {
    EnvelopeError { offset, problem: Problem::Value(fault) }
}

#[cold]
fn not_utf8(payload: &[u8]) -> EnvelopeError {
    let offset = simdutf8::compat::from_utf8(payload).err().map_or(0, |e| e.valid_up_to());
    EnvelopeError { offset, problem: Problem::Utf8 }
}

/// Unescapes a key of one or two ASCII characters into `plain`; empty for any other key, as none of those is
/// known. The escapes have been checked.
fn short_key<'b>(raw: &[u8], plain: &'b mut [u8; 2]) -> &'b [u8] {
    let mut len = 0;
    let mut rest = raw;
    while let Some(&first) = rest.first() {
        let (byte, used) = match (first, rest.get(1)) {
            (b'\\', Some(b'u')) => match hex(rest.get(2..6)) {
                Some(unit @ 0..0x80) => (unit as u8, 6),
                _ => return &[],
            },
            (b'\\', _) => return &[],
            _ => (first, 1),
        };
        let Some(slot) = plain.get_mut(len) else { return &[] };
        *slot = byte;
        len += 1;
        rest = rest.get(used..).unwrap_or_default();
    }
    plain.get(..len).unwrap_or_default()
}

fn hex(digits: Option<&[u8]>) -> Option<u32> {
    u32::from_str_radix(std::str::from_utf8(digits?).ok()?, 16).ok()
}

/// Unescapes the inside of a string whose escapes have been checked.
fn unescape(raw: &[u8], out: &mut String) {
    out.clear();
    let text = String::from_utf8_lossy(raw);
    let mut rest = text.as_ref();
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let mut chars = rest.chars();
        let Some(kind) = chars.next() else { return };
        let mut used = kind.len_utf8();
        match kind {
            'b' => out.push('\u{8}'),
            'f' => out.push('\u{c}'),
            'n' => out.push('\n'),
            'r' => out.push('\r'),
            't' => out.push('\t'),
            'u' => {
                let high = hex(rest.as_bytes().get(1..5)).unwrap_or(0xfffd);
                used = 5;
                let low = rest.as_bytes().get(5..7).filter(|next| *next == b"\\u");
                let low = low.and_then(|_| hex(rest.as_bytes().get(7..11)));
                match (high, low) {
                    (0xd800..0xdc00, Some(low @ 0xdc00..0xe000)) => {
                        let scalar = 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00);
                        out.push(char::from_u32(scalar).unwrap_or(char::REPLACEMENT_CHARACTER));
                        used = 11;
                    }
                    // A surrogate alone is no character: `from_u32` refuses it.
                    _ => out.push(char::from_u32(high).unwrap_or(char::REPLACEMENT_CHARACTER)),
                }
            }
            other => out.push(other),
        }
        rest = rest.get(used..).unwrap_or_default();
    }
    out.push_str(rest);
}

#[cfg(test)]
#[path = "envelope_tests.rs"]
mod tests;
