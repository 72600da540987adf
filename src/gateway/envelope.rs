//! The outside of a payload: opcode, sequence number, event name and where the body lies.

use serde::Deserialize;
use serde_json::value::RawValue;
use std::ops::Range;

/// A range of bytes of a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// First byte.
    pub start: usize,
    /// One past the last byte.
    pub end: usize,
}

impl Span {
    fn range(self) -> Range<usize> {
        self.start..self.end
    }
}

/// The outside of one payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// Opcode.
    pub op: u64,
    /// Sequence number.
    pub seq: Option<u64>,
    /// Event name, without its quotes.
    pub event: Option<Span>,
    /// Whether the event name holds escapes.
    pub event_escaped: bool,
    /// The body.
    pub d: Option<Span>,
}

/// Why a payload has no readable outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EnvelopeError;

#[derive(Deserialize)]
struct Raw<'a> {
    op: u64,
    #[serde(default)]
    s: Option<u64>,
    #[serde(default, borrow)]
    t: Option<&'a RawValue>,
    #[serde(default, borrow)]
    d: Option<&'a RawValue>,
}

/// Reads the outside of `payload`.
///
/// # Errors
/// When it is not a JSON object with an integer `op`.
pub fn scan(payload: &[u8]) -> Result<Envelope, EnvelopeError> {
    let raw: Raw<'_> = serde_json::from_slice(payload).map_err(|_| EnvelopeError)?;
    let span = |raw: &RawValue| {
        let start = raw.get().as_ptr() as usize - payload.as_ptr() as usize;
        Span { start, end: start + raw.get().len() }
    };
    let event = match raw.t {
        Some(t) if t.get().starts_with('"') => {
            let span = span(t);
            Some(Span { start: span.start + 1, end: span.end - 1 })
        }
        _ => None,
    };
    let event_escaped = raw.t.is_some_and(|t| t.get().contains('\\'));
    Ok(Envelope { op: raw.op, seq: raw.s, event, event_escaped, d: raw.d.map(span) })
}

impl Envelope {
    /// The event name.
    pub fn event_name<'a>(&self, payload: &'a [u8], unescaped: &'a mut String) -> Option<&'a str> {
        let span = self.event?;
        if !self.event_escaped {
            return std::str::from_utf8(payload.get(span.range())?).ok();
        }
        *unescaped = serde_json::from_slice(payload.get(span.start - 1..span.end + 1)?).ok()?;
        Some(unescaped)
    }

    /// The body; `null` when there is none.
    pub fn d<'a>(&self, payload: &'a [u8]) -> &'a [u8] {
        self.d.and_then(|span| payload.get(span.range())).unwrap_or(b"null")
    }
}
