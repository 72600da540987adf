//! Values that a shape holds as text instead of leaving a slot: those with few sisters.
//!
//! Enters: a value's tag and payload. Leaves: which constant it is. Their order is part of the layout.

use super::tag;
use super::words::{QUOTED, WORDS};

/// A value that shapes hold.
pub(super) struct Constant {
    /// As JSON.
    pub text: &'static str,
    pub tag: u8,
    pub payload: &'static [u8],
}

const fn constant(text: &'static str, tag: u8, payload: &'static [u8]) -> Constant {
    Constant { text, tag, payload }
}

/// Values that any key may have.
const COMMON: [Constant; 8] = [
    constant("null", tag::NULL, &[]),
    constant("true", tag::TRUE, &[]),
    constant("false", tag::FALSE, &[]),
    constant("0", tag::UINT, &[0]),
    constant("\"\"", tag::STRING, &[0]),
    constant("\"0\"", tag::DECIMAL, &[0]),
    constant("[]", tag::ARRAY, &[0]),
    constant("{}", tag::OBJECT, &[0, 0]),
];

/// Small numbers behind a key that ends in `type`: they say of what kind the object is, not how much of something.
const KINDS: [&str; 15] = ["1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15"];

/// Each byte, to point at.
static BYTES: [[u8; 1]; 256] = {
    let mut out = [[0]; 256];
    let mut at = 0;
    while at < 256 {
        out[at][0] = at as u8;
        at += 1;
    }
    out
};

const FIRST_WORD: usize = COMMON.len();
const FIRST_KIND: usize = FIRST_WORD + WORDS.len();

/// All of them; words are, as they say what something is.
pub(super) static CONSTANTS: [Constant; FIRST_KIND + KINDS.len()] = {
    let mut out = [const { constant("null", tag::NULL, &[]) }; FIRST_KIND + KINDS.len()];
    let mut at = 0;
    while at < out.len() {
        out[at] = if at < FIRST_WORD {
            constant(COMMON[at].text, COMMON[at].tag, COMMON[at].payload)
        } else if at < FIRST_KIND {
            constant(QUOTED[at - FIRST_WORD], tag::WORD, &BYTES[at - FIRST_WORD])
        } else {
            constant(KINDS[at - FIRST_KIND], tag::UINT, &BYTES[at - FIRST_KIND + 1])
        };
        at += 1;
    }
    // Slots have a byte for which one it is.
    assert!(out.len() < 256);
    out
};

/// The constant that a value is, as an index into [`CONSTANTS`]; `before` ends with its key, quote and colon.
#[inline]
pub(super) fn constant_of(tag: u8, payload: &[u8], before: &[u8]) -> Option<u8> {
    Some(match (tag, payload) {
        (tag::NULL, _) => 0,
        (tag::TRUE, _) => 1,
        (tag::FALSE, _) => 2,
        (tag::UINT, [0]) => 3,
        (tag::UINT, [kind @ 1..=15]) if before.ends_with(b"type\":") => FIRST_KIND as u8 + kind - 1,
        (tag::STRING, [0]) => 4,
        (tag::DECIMAL, [0]) => 5,
        (tag::ARRAY, [0]) => 6,
        (tag::OBJECT, [0, 0]) => 7,
        // Damaged bytes may name any.
        (tag::WORD, [word]) if usize::from(*word) < WORDS.len() => FIRST_WORD as u8 + word,
        _ => return None,
    })
}

/// The constant with this text.
pub(super) fn constant_named(text: &[u8]) -> Option<u8> {
    CONSTANTS.iter().position(|constant| constant.text.as_bytes() == text).map(|at| at as u8)
}
