//! Finds where a JSON string or container ends, 64 bytes at a time.
//!
//! Enters: a payload that is known to be UTF-8, and the offset where a value starts. Leaves: the offset where
//! it ends, or what is wrong and where. Nothing is copied, decoded or allocated, and there is no recursion:
//! the open brackets are the bits of one 128-bit word.
//!
//! ```text
//! bytes        {"a\"b":[1]}
//! quotes       .1....1.....     escaped ones taken out
//! in a string  .11111......     prefix xor of quotes, carried from block to block
//! brackets     1.......1.11     those outside strings, walked bit by bit
//! ```
//!
//! The masks of a block come from AVX2 where the processor has it, else from SSE2 (always there on x86-64),
//! else from a loop over bytes. All three answer alike: tests compare them with the plain automaton
//! [`plain`], which also finds the exact place once a mask has said that something is wrong.
//!
//! Checked: brackets match by kind, strings end, no raw control character and no bad escape in a string, no
//! control character other than JSON's whitespace outside. Not checked: commas, colons, literals and numbers
//! inside the container; whoever decodes the body finds those. Grammar: RFC 8259.

use std::fmt;

/// How many containers may be open at once inside one value of the envelope, that value included.
/// Discord's deepest documented bodies stay below 20 and serde_json stops at 127, so no reader is cut short.
pub const MAX_DEPTH: u32 = 128;

const BLOCK: usize = 64;

/// Why a value was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The text ends inside the value.
    Truncated,
    /// A closing bracket of the wrong kind.
    Mismatched,
    /// More than [`MAX_DEPTH`] containers are open.
    TooDeep,
    /// A raw control character.
    ControlCharacter,
    /// A backslash that starts no escape of JSON.
    BadEscape,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Truncated => f.write_str("the text ends inside a value"),
            Fault::Mismatched => f.write_str("a closing bracket of the wrong kind"),
            Fault::TooDeep => write!(f, "nesting deeper than {MAX_DEPTH}"),
            Fault::ControlCharacter => f.write_str("a raw control character"),
            Fault::BadEscape => f.write_str("a bad escape in a string"),
        }
    }
}

/// Where a string ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StringEnd {
    /// Offset of the closing quote.
    pub quote: usize,
    /// Whether there is an escape inside.
    pub escaped: bool,
}

/// Finds the closing quote of the string whose first byte after the opening quote is at `start`.
///
/// # Errors
/// The offset and the fault, when the string does not end or holds what JSON forbids.
#[inline]
pub fn string_end(bytes: &[u8], start: usize) -> Result<StringEnd, (usize, Fault)> {
    let mut at = start;
    let mut escaped = false;
    loop {
        at = plain_run_end(bytes, at);
        match bytes.get(at) {
            None => return Err((bytes.len(), Fault::Truncated)),
            Some(b'"') => return Ok(StringEnd { quote: at, escaped }),
            Some(b'\\') => {
                escaped = true;
                at = escape_end(bytes, at)?;
            }
            Some(0..0x20) => return Err((at, Fault::ControlCharacter)),
            Some(_) => at += 1,
        }
    }
}

/// Finds the end (exclusive) of the object or array that opens at `start`.
///
/// # Errors
/// The offset and the fault.
#[inline]
pub fn container_end(bytes: &[u8], start: usize) -> Result<usize, (usize, Fault)> {
    match masked(bytes, start) {
        Some(end) => Ok(end),
        // The masks say that something is wrong; the automaton says what and where.
        None => plain(bytes, start),
    }
}

#[cfg(target_arch = "x86_64")]
#[inline]
fn masked(bytes: &[u8], start: usize) -> Option<usize> {
    if is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("pclmulqdq")
        && is_x86_feature_detected!("bmi1")
        && is_x86_feature_detected!("popcnt")
    {
        // SAFETY: the processor has every feature that the function is compiled for; just asked.
        unsafe { x86::walk_avx2(bytes, start) }
    } else {
        walk::<x86::Sse2>(bytes, start)
    }
}

#[cfg(not(target_arch = "x86_64"))]
#[inline]
fn masked(bytes: &[u8], start: usize) -> Option<usize> {
    walk::<Bytewise>(bytes, start)
}

/// What every block is asked for; one bit per byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
struct Masks {
    quotes: u64,
    /// `{`, `[`, `}` and `]`.
    brackets: u64,
    /// Whether there is any backslash or byte below 0x20, which most blocks have not.
    rare: bool,
}

/// What a block with something rare in it is asked for, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
struct RareMasks {
    backslashes: u64,
    /// Bytes below 0x20.
    controls: u64,
}

/// A way to get the masks of a block.
trait Classify {
    fn masks(block: &[u8; BLOCK]) -> Masks;
    fn rare_masks(block: &[u8; BLOCK]) -> RareMasks;
    fn prefix_xor(bits: u64) -> u64;
}

/// The portable way; on x86-64 it only serves tests.
#[cfg_attr(target_arch = "x86_64", allow(dead_code))]
struct Bytewise;

impl Classify for Bytewise {
    fn masks(block: &[u8; BLOCK]) -> Masks {
        let mut masks = Masks::default();
        for (i, &byte) in block.iter().enumerate() {
            masks.quotes |= u64::from(byte == b'"') << i;
            masks.brackets |= u64::from(matches!(byte, b'{' | b'[' | b'}' | b']')) << i;
            masks.rare |= byte == b'\\' || byte < 0x20;
        }
        masks
    }

    fn rare_masks(block: &[u8; BLOCK]) -> RareMasks {
        let mut masks = RareMasks::default();
        for (i, &byte) in block.iter().enumerate() {
            masks.backslashes |= u64::from(byte == b'\\') << i;
            masks.controls |= u64::from(byte < 0x20) << i;
        }
        masks
    }

    fn prefix_xor(bits: u64) -> u64 {
        prefix_xor_by_shifts(bits)
    }
}

#[inline(always)]
fn prefix_xor_by_shifts(mut bits: u64) -> u64 {
    bits ^= bits << 1;
    bits ^= bits << 2;
    bits ^= bits << 4;
    bits ^= bits << 8;
    bits ^= bits << 16;
    bits ^ bits << 32
}

/// Which bytes have an odd run of backslashes before them, by carrying an addition through each run: a run
/// that starts on an odd bit flips the parity of the bits behind it.
#[inline(always)]
fn escaped_bytes(backslashes: u64, carry: &mut u64) -> u64 {
    const EVEN: u64 = 0x5555_5555_5555_5555;
    let backslashes = backslashes & !*carry;
    let follows = backslashes << 1 | *carry;
    let odd_starts = backslashes & !EVEN & !follows;
    let (even_runs, overflow) = odd_starts.overflowing_add(backslashes);
    *carry = u64::from(overflow);
    (EVEN ^ (even_runs << 1)) & follows
}

/// The end of the container, or `None` when anything is wrong with it.
#[inline(always)]
fn walk<C: Classify>(bytes: &[u8], start: usize) -> Option<usize> {
    let mut stack: u128 = 0;
    let mut depth: u32 = 0;
    let mut escape_carry: u64 = 0;
    // All ones while a string is open at the border of two blocks.
    let mut string_carry: u64 = 0;
    let mut base = start;
    let mut padded = [b' '; BLOCK];
    loop {
        let rest = bytes.get(base..)?;
        let block: &[u8; BLOCK] = match rest.first_chunk() {
            Some(block) => block,
            None if rest.is_empty() => return None,
            None => {
                padded[..rest.len()].copy_from_slice(rest);
                &padded
            }
        };
        let masks = C::masks(block);
        let mut quotes = masks.quotes;
        let mut rare = RareMasks::default();
        let mut escaped = 0;
        if masks.rare || escape_carry != 0 {
            rare = C::rare_masks(block);
            escaped = escaped_bytes(rare.backslashes, &mut escape_carry);
            quotes &= !escaped;
        }
        let in_string = C::prefix_xor(quotes) ^ string_carry;
        string_carry = ((in_string as i64) >> 63) as u64;

        let mut brackets = masks.brackets & !in_string;
        // The bits behind the container's end are not ours to judge.
        let mut ours = u64::MAX;
        let mut end = None;
        while brackets != 0 {
            let bit = brackets & brackets.wrapping_neg();
            brackets ^= bit;
            let at = bit.trailing_zeros() as usize;
            let byte = block[at];
            // Bit 1 is set in `{` and `[` only, bit 5 in `{` and `}` only.
            let brace = u128::from(byte >> 5 & 1);
            if byte & 2 != 0 {
                if depth == MAX_DEPTH {
                    return None;
                }
                depth += 1;
                stack = stack << 1 | brace;
            } else {
                if depth == 0 || stack & 1 != brace {
                    return None;
                }
                depth -= 1;
                stack >>= 1;
                if depth == 0 {
                    ours = bit | (bit - 1);
                    end = Some(base + at + 1);
                    break;
                }
            }
        }

        if (rare.backslashes | rare.controls | escaped) & ours != 0
            && !rare_bytes_are_good(bytes, base, block, rare, escaped, in_string, ours)
        {
            return None;
        }
        if end.is_some() {
            return end;
        }
        base += BLOCK;
    }
}

/// Whether backslashes stand in strings and begin escapes, and control characters are whitespace outside.
fn rare_bytes_are_good(
    bytes: &[u8],
    base: usize,
    block: &[u8; BLOCK],
    rare: RareMasks,
    escaped: u64,
    in_string: u64,
    ours: u64,
) -> bool {
    let controls = rare.controls & ours;
    rare.backslashes & !in_string & ours == 0
        && (controls == 0 || controls_are_whitespace(block, controls, in_string))
        && escapes_are_good(bytes, base, escaped & ours)
}

fn controls_are_whitespace(block: &[u8; BLOCK], mut controls: u64, in_string: u64) -> bool {
    if controls & in_string != 0 {
        return false;
    }
    while controls != 0 {
        if !matches!(block[controls.trailing_zeros() as usize], b'\t' | b'\n' | b'\r') {
            return false;
        }
        controls &= controls - 1;
    }
    true
}

fn escapes_are_good(bytes: &[u8], base: usize, mut escaped: u64) -> bool {
    while escaped != 0 {
        let at = base + escaped.trailing_zeros() as usize;
        // The backslash is the byte before, which lies inside the container: `at` is never 0.
        if escape_end(bytes, at - 1).is_err() {
            return false;
        }
        escaped &= escaped - 1;
    }
    true
}

/// The offset behind the escape whose backslash is at `at`.
fn escape_end(bytes: &[u8], at: usize) -> Result<usize, (usize, Fault)> {
    match bytes.get(at + 1) {
        None => Err((bytes.len(), Fault::Truncated)),
        Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => Ok(at + 2),
        Some(b'u') => match bytes.get(at + 2..at + 6) {
            Some(digits) if digits.iter().all(u8::is_ascii_hexdigit) => Ok(at + 6),
            _ => Err((at, Fault::BadEscape)),
        },
        Some(_) => Err((at, Fault::BadEscape)),
    }
}

/// The plain automaton: byte by byte, with exact places. The oracle of the masks and their voice for errors.
#[cold]
fn plain(bytes: &[u8], start: usize) -> Result<usize, (usize, Fault)> {
    let mut stack: u128 = 0;
    let mut depth = 0;
    let mut at = start;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'"' => {
                let mut inside = at + 1;
                loop {
                    match bytes.get(inside) {
                        None => return Err((bytes.len(), Fault::Truncated)),
                        Some(b'"') => break,
                        Some(b'\\') => inside = escape_end(bytes, inside)?,
                        Some(0..0x20) => return Err((inside, Fault::ControlCharacter)),
                        Some(_) => inside += 1,
                    }
                }
                at = inside;
            }
            b'{' | b'[' => {
                if depth == MAX_DEPTH {
                    return Err((at, Fault::TooDeep));
                }
                depth += 1;
                stack = stack << 1 | u128::from(byte == b'{');
            }
            b'}' | b']' => {
                if depth == 0 || stack & 1 != u128::from(byte == b'}') {
                    return Err((at, Fault::Mismatched));
                }
                depth -= 1;
                stack >>= 1;
                if depth == 0 {
                    return Ok(at + 1);
                }
            }
            b'\\' => return Err((at, Fault::BadEscape)),
            b'\t' | b'\n' | b'\r' => {}
            0..0x20 => return Err((at, Fault::ControlCharacter)),
            _ => {}
        }
        at += 1;
    }
    Err((bytes.len(), Fault::Truncated))
}

/// Skips bytes that mean nothing inside a string, as far as whole vectors go.
#[cfg(target_arch = "x86_64")]
#[inline]
fn plain_run_end(bytes: &[u8], mut at: usize) -> usize {
    while let Some(chunk) = bytes.get(at..).and_then(<[u8]>::first_chunk::<16>) {
        let special = x86::special_in_string(chunk);
        if special != 0 {
            return at + special.trailing_zeros() as usize;
        }
        at += 16;
    }
    at
}

#[cfg(not(target_arch = "x86_64"))]
#[inline]
fn plain_run_end(_bytes: &[u8], at: usize) -> usize {
    at
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{BLOCK, Classify, Masks, RareMasks, prefix_xor_by_shifts, walk};
    use std::arch::x86_64::*;

    pub(super) struct Sse2;
    pub(super) struct Avx2;

    /// [`walk`] with every block classified by AVX2.
    #[target_feature(enable = "avx2,pclmulqdq,bmi1,popcnt")]
    pub(super) fn walk_avx2(bytes: &[u8], start: usize) -> Option<usize> {
        walk::<Avx2>(bytes, start)
    }

    /// Quotes, backslashes and control characters among 16 bytes.
    #[inline(always)]
    pub(super) fn special_in_string(chunk: &[u8; 16]) -> u32 {
        // SAFETY: 16 bytes are readable, the load needs no alignment, and SSE2 is part of x86-64.
        unsafe {
            let bytes = _mm_loadu_si128(chunk.as_ptr().cast());
            let quotes = _mm_cmpeq_epi8(bytes, _mm_set1_epi8(b'"' as i8));
            let backslashes = _mm_cmpeq_epi8(bytes, _mm_set1_epi8(b'\\' as i8));
            let controls = _mm_cmpeq_epi8(_mm_min_epu8(bytes, _mm_set1_epi8(0x1f)), bytes);
            _mm_movemask_epi8(_mm_or_si128(_mm_or_si128(quotes, backslashes), controls)) as u32
        }
    }

    impl Classify for Sse2 {
        #[inline(always)]
        fn masks(block: &[u8; BLOCK]) -> Masks {
            let mut masks = Masks::default();
            // SAFETY: `part * 16 + 16 <= 64`, the load needs no alignment, and SSE2 is part of x86-64.
            unsafe {
                let mut rare = _mm_setzero_si128();
                for part in 0..4 {
                    let bytes = _mm_loadu_si128(block.as_ptr().add(part * 16).cast());
                    let bits = |vector| u64::from(_mm_movemask_epi8(vector) as u32) << (part * 16);
                    let equal = |vector, byte: u8| _mm_cmpeq_epi8(vector, _mm_set1_epi8(byte as i8));
                    let folded = _mm_or_si128(bytes, _mm_set1_epi8(0x20));
                    masks.quotes |= bits(equal(bytes, b'"'));
                    masks.brackets |= bits(_mm_or_si128(equal(folded, b'{'), equal(folded, b'}')));
                    let control = _mm_cmpeq_epi8(_mm_min_epu8(bytes, _mm_set1_epi8(0x1f)), bytes);
                    rare = _mm_or_si128(rare, _mm_or_si128(control, equal(bytes, b'\\')));
                }
                masks.rare = _mm_movemask_epi8(rare) != 0;
            }
            masks
        }

        #[inline(always)]
        fn rare_masks(block: &[u8; BLOCK]) -> RareMasks {
            let mut masks = RareMasks::default();
            for part in 0..4 {
                // SAFETY: as above.
                unsafe {
                    let bytes = _mm_loadu_si128(block.as_ptr().add(part * 16).cast());
                    let bits = |vector| u64::from(_mm_movemask_epi8(vector) as u32) << (part * 16);
                    masks.backslashes |= bits(_mm_cmpeq_epi8(bytes, _mm_set1_epi8(b'\\' as i8)));
                    masks.controls |= bits(_mm_cmpeq_epi8(_mm_min_epu8(bytes, _mm_set1_epi8(0x1f)), bytes));
                }
            }
            masks
        }

        #[inline(always)]
        fn prefix_xor(bits: u64) -> u64 {
            prefix_xor_by_shifts(bits)
        }
    }

    impl Classify for Avx2 {
        #[inline(always)]
        fn masks(block: &[u8; BLOCK]) -> Masks {
            let mut masks = Masks::default();
            // SAFETY: `part * 32 + 32 <= 64`, the load needs no alignment, and this type is only named by
            // `walk_avx2` and by tests, which have asked the processor for AVX2.
            unsafe {
                let mut rare = _mm256_setzero_si256();
                for part in 0..2 {
                    let bytes = _mm256_loadu_si256(block.as_ptr().add(part * 32).cast());
                    let bits = |vector| u64::from(_mm256_movemask_epi8(vector) as u32) << (part * 32);
                    let equal = |vector, byte: u8| _mm256_cmpeq_epi8(vector, _mm256_set1_epi8(byte as i8));
                    let folded = _mm256_or_si256(bytes, _mm256_set1_epi8(0x20));
                    masks.quotes |= bits(equal(bytes, b'"'));
                    masks.brackets |= bits(_mm256_or_si256(equal(folded, b'{'), equal(folded, b'}')));
                    let control = _mm256_cmpeq_epi8(_mm256_min_epu8(bytes, _mm256_set1_epi8(0x1f)), bytes);
                    rare = _mm256_or_si256(rare, _mm256_or_si256(control, equal(bytes, b'\\')));
                }
                masks.rare = _mm256_movemask_epi8(rare) != 0;
            }
            masks
        }

        #[inline(always)]
        fn rare_masks(block: &[u8; BLOCK]) -> RareMasks {
            let mut masks = RareMasks::default();
            for part in 0..2 {
                // SAFETY: as above.
                unsafe {
                    let bytes = _mm256_loadu_si256(block.as_ptr().add(part * 32).cast());
                    let bits = |vector| u64::from(_mm256_movemask_epi8(vector) as u32) << (part * 32);
                    masks.backslashes |= bits(_mm256_cmpeq_epi8(bytes, _mm256_set1_epi8(b'\\' as i8)));
                    masks.controls |=
                        bits(_mm256_cmpeq_epi8(_mm256_min_epu8(bytes, _mm256_set1_epi8(0x1f)), bytes));
                }
            }
            masks
        }

        #[inline(always)]
        fn prefix_xor(bits: u64) -> u64 {
            // SAFETY: as above; PCLMULQDQ is among the features asked for. Multiplying by all ones without
            // carries is the prefix xor.
            unsafe {
                let product = _mm_clmulepi64_si128::<0>(_mm_set_epi64x(0, bits as i64), _mm_set1_epi8(-1));
                _mm_cvtsi128_si64(product) as u64
            }
        }
    }
}

#[cfg(test)]
#[path = "scan_tests.rs"]
mod tests;
