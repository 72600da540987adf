//! Text to a tape.
//!
//! Enters: JSON text. Leaves: its [`Value`], for as long as a closure looks at it. Text goes through simd-json over a
//! copy, so that the caller's bytes stay as they are; what that refuses is asked of [`Plain`], which also has the last
//! word on what is no JSON.

use simd_json::{Buffers, INPUT_PADDING, Node};

use super::plain::Plain;
use super::value::{Tape, Value};
use super::{DEPTH_MAX, Error, TEXT_MAX};

/// Bytes of text that memory is kept for from one text to the next; what a larger one took is given back.
const KEPT_BYTES: usize = 2 << 20;
/// The same for nodes, of 24 bytes each.
const KEPT_NODES: usize = 1 << 18;

/// Texts from here on may not have more values than [`BYTES_PER_VALUE`] allows.
const DENSE_FROM: usize = 1 << 20;
/// Discord's bodies have twelve bytes a value and more. With four, the memory for a text stays below ten times its
/// length; without a limit `[0,0,0,...` would take forty times.
const BYTES_PER_VALUE: usize = 4;

/// Whether a large text has so many values that reading it would take many times its memory.
fn is_too_dense(json: &[u8]) -> bool {
    json.len() >= DENSE_FROM
        && json.iter().filter(|byte| matches!(byte, b',' | b':' | b'[' | b'{')).count()
            > json.len() / BYTES_PER_VALUE
}

/// What a parser has met.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Texts read.
    pub texts: u64,
    /// Those of them that simd-json refused though they are JSON: huge numbers, lone surrogates.
    pub plain: u64,
    /// Texts refused: no JSON, too deep or too large.
    pub refused: u64,
}

/// Reads texts; keeps its memory from one to the next.
pub struct Parser {
    buffers: Buffers,
    /// Empty between calls.
    tape: simd_json::Tape<'static>,
    padded: Vec<u8>,
    plain: Plain,
    stats: Stats,
}

impl Default for Parser {
    fn default() -> Parser {
        Parser::new()
    }
}

impl Parser {
    /// A parser; its memory grows with the texts it sees, ten bytes per byte at worst (forty below 1 MiB).
    pub fn new() -> Parser {
        Parser {
            buffers: Buffers::with_max_depth(0, DEPTH_MAX),
            tape: simd_json::Tape(Vec::new()),
            padded: Vec::new(),
            plain: Plain::default(),
            stats: Stats::default(),
        }
    }

    /// What it has met.
    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// Shows `f` the value that `json` is.
    ///
    /// # Errors
    /// No JSON, too deep, too large; `f` is then not called.
    pub fn read<R>(&mut self, json: &[u8], f: impl FnOnce(Value<'_>) -> R) -> Result<R, Error> {
        if json.len() > TEXT_MAX || is_too_dense(json) {
            self.stats.refused += 1;
            return Err(Error::TooLarge);
        }
        self.padded.clear();
        self.padded.extend_from_slice(json);
        self.padded.resize(json.len() + INPUT_PADDING, b' ');
        let mut tape = std::mem::replace(&mut self.tape, simd_json::Tape(Vec::new())).reset();
        let done =
            match simd_json::fill_tape_padded(&mut self.padded, json.len(), &mut self.buffers, &mut tape) {
                Ok(()) => {
                    let nodes: &[Node<'_>] = &tape.0;
                    Ok(f(Value { tape: Tape::Fast(nodes), at: 0 }))
                }
                Err(_) => self.plain.parse(json).map(|()| {
                    self.stats.plain += 1;
                    f(Value { tape: Tape::Plain(&self.plain), at: 0 })
                }),
            };
        self.tape = tape.reset();
        match done {
            Ok(_) => self.stats.texts += 1,
            Err(_) => self.stats.refused += 1,
        }
        if self.tape.0.capacity() > KEPT_NODES || self.padded.capacity() > KEPT_BYTES {
            self.forget();
        }
        done
    }

    /// Gives back the memory that an unusual text took.
    #[cold]
    fn forget(&mut self) {
        *self = Parser { stats: self.stats, ..Parser::new() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_text_of_tiny_values_is_refused_before_it_takes_memory() {
        let mut parser = Parser::new();
        let dense = format!("[{}0]", "0,".repeat(DENSE_FROM));
        assert_eq!(parser.read(dense.as_bytes(), |_| ()), Err(Error::TooLarge));
        let usual = format!("[{}0]", "\"761014731138494465\",".repeat(DENSE_FROM / 16));
        assert_eq!(parser.read(usual.as_bytes(), |value| value.len()), Ok(DENSE_FROM / 16 + 1));
        let small = format!("[{}0]", "0,".repeat(1_000));
        assert_eq!(parser.read(small.as_bytes(), |value| value.len()), Ok(1_001));
    }
}
