//! Strings and numbers to bytes and back.
//!
//! Every packed form is taken only when its text comes back byte for byte: no leading zeros, lower-case hex, real
//! dates. Reading back trusts nothing: what no writer would have written is damage.

use super::coded::{coded_length, put_coded, write_coded};
use super::times::{put_time, write_time};
use super::words::{self, WORDS};
use super::{Error, tag};

/// Reads encoded bytes from the front.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    #[inline]
    pub fn byte(&mut self) -> Result<u8, Error> {
        let (&first, rest) = self.0.split_first().ok_or(Error::Damaged)?;
        self.0 = rest;
        Ok(first)
    }

    #[inline]
    pub fn take(&mut self, length: usize) -> Result<&'a [u8], Error> {
        let (head, rest) = self.0.split_at_checked(length).ok_or(Error::Damaged)?;
        self.0 = rest;
        Ok(head)
    }

    #[inline]
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let (head, rest) = self.0.split_first_chunk::<N>().ok_or(Error::Damaged)?;
        self.0 = rest;
        Ok(*head)
    }

    /// `N` little-endian bytes as a number.
    #[inline]
    pub fn uint<const N: usize>(&mut self) -> Result<u64, Error> {
        let mut bytes = [0; 8];
        bytes[..N].copy_from_slice(&self.array::<N>()?);
        Ok(u64::from_le_bytes(bytes))
    }

    #[inline]
    pub fn varint(&mut self) -> Result<u64, Error> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            // The tenth byte has room for one bit.
            if shift == 63 && byte > 1 {
                return Err(Error::Damaged);
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Error::Damaged)
    }

    /// A varint that says how many bytes or elements follow: each takes one byte at least.
    #[inline]
    pub fn count(&mut self) -> Result<usize, Error> {
        let count = self.varint()?;
        if count > self.0.len() as u64 { Err(Error::Damaged) } else { Ok(count as usize) }
    }
}

#[inline]
pub(super) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Writes the payload of `text` in its shortest form; gives back its tag. `escaped` text is JSON's already and
/// is packed only when it holds no escape.
#[inline]
pub(super) fn put_string(out: &mut Vec<u8>, text: &[u8], escaped: bool) -> u8 {
    if let Some(tag) = put_packed(out, text) {
        return tag;
    }
    if escaped || !has_special(text) {
        put_varint(out, text.len() as u64);
        out.extend_from_slice(text);
        return tag::STRING;
    }
    let extra: usize = text.iter().map(|&byte| escape_length(byte) - 1).sum();
    put_varint(out, (text.len() + extra) as u64);
    escape(out, text);
    tag::STRING
}

#[inline]
fn put_packed(out: &mut Vec<u8>, text: &[u8]) -> Option<u8> {
    let &first = text.first()?;
    if first.is_ascii_digit() {
        if let Some(value) = decimal(text) {
            if value >> 56 == 0 {
                put_varint(out, value);
                return Some(tag::DECIMAL);
            }
            out.extend_from_slice(&value.to_le_bytes());
            return Some(tag::ID);
        }
        if let Some(tag) = put_time(out, text) {
            return Some(tag);
        }
    }
    match text.len() {
        32 => {
            if let Some(bytes) = unhex::<16>(text) {
                out.extend_from_slice(&bytes);
                return Some(tag::HASH);
            }
        }
        34 => {
            if let Some(bytes) = text.strip_prefix(b"a_").and_then(unhex::<16>) {
                out.extend_from_slice(&bytes);
                return Some(tag::A_HASH);
            }
        }
        length @ 8..=128 if length % 2 == 0 && text.iter().all(|&byte| nibble(byte) < 16) => {
            out.push((length / 2) as u8);
            out.extend(text.chunks_exact(2).map(|pair| nibble(pair[0]) << 4 | nibble(pair[1])));
            return Some(tag::HEX);
        }
        _ => {}
    }
    if let Some(index) = words::find(text) {
        out.push(index);
        return Some(tag::WORD);
    }
    // Below four characters nothing is saved.
    if !(4..=LETTERS_MAX).contains(&text.len()) {
        return None;
    }
    let six = if text.len() <= 255 && text.iter().all(|&byte| SIX[byte as usize] < 64) {
        (text.len() * 6).div_ceil(8)
    } else {
        text.len()
    };
    if let Some(length) = coded_length(text).filter(|length| *length < six) {
        put_varint(out, length as u64);
        put_coded(out, text);
        return Some(tag::CODED);
    }
    if six < text.len() {
        out.push(text.len() as u8);
        for group in text.chunks(4) {
            let bits = (group.iter().enumerate())
                .fold(0u32, |bits, (at, &byte)| bits | u32::from(SIX[byte as usize]) << (6 * at));
            out.extend_from_slice(&bits.to_le_bytes()[..(group.len() * 6).div_ceil(8)]);
        }
        return Some(tag::TEXT6);
    }
    None
}

/// Longest text that is looked at letter by letter; what is longer is no name.
const LETTERS_MAX: usize = 4_096;

/// The characters of TEXT6, by value.
const SIX_TEXT: &[u8; 64] = b"abcdefghijklmnopqrstuvwxyz0123456789._ABCDEFGHIJKLMNOPQRSTUVWXYZ";
/// The value of each byte in TEXT6; 255 for those it does not have.
static SIX: [u8; 256] = {
    let mut out = [255; 256];
    let mut at = 0;
    while at < 64 {
        out[SIX_TEXT[at] as usize] = at as u8;
        at += 1;
    }
    out
};

/// The number that `text` is in decimal, when it is written as u64 would be.
#[inline]
pub(super) fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > 20 || (text[0] == b'0' && text.len() > 1) {
        return None;
    }
    let mut value = 0u64;
    let (head, tail) = text.split_at(text.len().min(19));
    for &byte in head {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value * 10 + u64::from(digit);
    }
    match tail {
        [] => Some(value),
        [last @ b'0'..=b'9', ..] => value.checked_mul(10)?.checked_add(u64::from(last - b'0')),
        _ => None,
    }
}

/// The value of a lower-case hex digit; 16 and more for all else.
#[inline]
fn nibble(byte: u8) -> u8 {
    static VALUES: [u8; 256] = {
        let mut out = [255; 256];
        let mut at = 0;
        while at < 16 {
            out[b"0123456789abcdef"[at] as usize] = at as u8;
            at += 1;
        }
        out
    };
    VALUES[byte as usize]
}

#[inline]
fn unhex<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let mut out = [0; N];
    let mut seen = 0;
    for (to, pair) in out.iter_mut().zip(text.chunks_exact(2)) {
        let (high, low) = (nibble(pair[0]), nibble(pair[1]));
        seen |= high | low;
        *to = high << 4 | low & 15;
    }
    (seen < 16 && text.len() == 2 * N).then_some(out)
}

fn put_hex(out: &mut Vec<u8>, bytes: &[u8]) {
    static PAIRS: [[u8; 2]; 256] = {
        let digits = b"0123456789abcdef";
        let mut out = [[0; 2]; 256];
        let mut at = 0;
        while at < 256 {
            out[at] = [digits[at >> 4], digits[at & 15]];
            at += 1;
        }
        out
    };
    for chunk in bytes.chunks(16) {
        let mut text = [0; 32];
        for (to, &byte) in text.chunks_exact_mut(2).zip(chunk) {
            to.copy_from_slice(&PAIRS[byte as usize]);
        }
        out.extend_from_slice(&text[..2 * chunk.len()]);
    }
}

/// Whether JSON wants `byte` escaped inside a string.
#[inline]
pub(super) fn special(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}

/// Whether any byte of `text` is special; looks at all of them, which takes less time than stopping early.
#[inline]
fn has_special(text: &[u8]) -> bool {
    text.iter().fold(false, |any, &byte| any | special(byte))
}

fn escape_length(byte: u8) -> usize {
    escape_one(byte, &mut [0; 6])
}

/// Writes `text` as it stands between the quotes of a JSON string; there is one way for each character.
pub(super) fn escape(out: &mut Vec<u8>, text: &[u8]) {
    if !has_special(text) {
        out.extend_from_slice(text);
        return;
    }
    let mut from = 0;
    for (at, &byte) in text.iter().enumerate() {
        if !special(byte) {
            continue;
        }
        out.extend_from_slice(&text[from..at]);
        from = at + 1;
        let mut one = [0; 6];
        let length = escape_one(byte, &mut one);
        out.extend_from_slice(&one[..length]);
    }
    out.extend_from_slice(&text[from..]);
}

/// Whether `escaped` is what [`escape`] makes of `text`.
#[inline]
pub(super) fn is_escape_of(escaped: &[u8], text: &[u8]) -> bool {
    if escaped.len() == text.len() {
        // A backslash would say that both are escaped alike, which they are not.
        return escaped == text && !text.contains(&b'\\');
    }
    escaped.len() > text.len() && is_longer_escape_of(escaped, text)
}

fn is_longer_escape_of(escaped: &[u8], text: &[u8]) -> bool {
    let mut rest = escaped;
    for &byte in text {
        let mut one = [byte, 0, 0, 0, 0, 0];
        let length = escape_one(byte, &mut one);
        match rest.strip_prefix(&one[..length]) {
            Some(after) => rest = after,
            None => return false,
        }
    }
    rest.is_empty()
}

/// Puts `byte` as it stands in a JSON string at the front of `to`; gives back its length.
fn escape_one(byte: u8, to: &mut [u8; 6]) -> usize {
    let letter = match byte {
        b'"' | b'\\' => byte,
        0x08 => b'b',
        0x09 => b't',
        0x0a => b'n',
        0x0c => b'f',
        0x0d => b'r',
        0..0x20 => {
            let digits = b"0123456789abcdef";
            *to = [b'\\', b'u', b'0', b'0', digits[usize::from(byte >> 4)], digits[usize::from(byte & 15)]];
            return 6;
        }
        _ => {
            to[0] = byte;
            return 1;
        }
    };
    to[..2].copy_from_slice(&[b'\\', letter]);
    2
}

/// The value of a text of digits, leading zeros allowed, if it fits.
pub(super) fn digits(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0u64, |value, &byte| {
        if !byte.is_ascii_digit() {
            return None;
        }
        value.checked_mul(10)?.checked_add(u64::from(byte - b'0'))
    })
}

/// Whether `text` may stand between the quotes of a JSON string.
#[inline]
pub(super) fn is_string_text(text: &[u8]) -> bool {
    if text.iter().all(|&byte| byte < 0x80 && !special(byte)) {
        return true;
    }
    is_escaped_text(text)
}

fn is_escaped_text(text: &[u8]) -> bool {
    let mut rest = text;
    while let Some(at) = rest.iter().position(|&byte| special(byte)) {
        let skip = match &rest[at..] {
            [b'\\', b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', ..] => 2,
            [b'\\', b'u', a, b, c, d, ..] if [a, b, c, d].iter().all(|digit| digit.is_ascii_hexdigit()) => 6,
            _ => return false,
        };
        rest = &rest[at + skip..];
    }
    simdutf8::basic::from_utf8(text).is_ok()
}

/// Whether `text` is a number as JSON writes them.
pub(super) fn is_number_text(text: &[u8]) -> bool {
    let digits = |text: &[u8]| text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let mut rest = text.strip_prefix(b"-").unwrap_or(text);
    let whole = digits(rest);
    if whole == 0 || (whole > 1 && rest[0] == b'0') {
        return false;
    }
    rest = &rest[whole..];
    if let [b'.', after @ ..] = rest {
        let fraction = digits(after);
        if fraction == 0 {
            return false;
        }
        rest = &after[fraction..];
    }
    if let [b'e' | b'E', after @ ..] = rest {
        let after = after.strip_prefix(b"+").or_else(|| after.strip_prefix(b"-")).unwrap_or(after);
        let exponent = digits(after);
        if exponent == 0 {
            return false;
        }
        rest = &after[exponent..];
    }
    rest.is_empty()
}

/// Writes the shorter of both forms of a float; gives back its tag.
pub(super) fn put_float(out: &mut Vec<u8>, value: f64) -> u8 {
    use std::io::Write;
    let start = out.len();
    out.push(0);
    // Shortest digits that parse back to the same float; writing to a Vec cannot fail.
    let _ = write!(out, "{value:?}");
    let length = out.len() - start - 1;
    if length < 8 {
        out[start] = length as u8;
        return tag::NUMBER;
    }
    out.truncate(start);
    out.extend_from_slice(&value.to_bits().to_le_bytes());
    tag::F64
}

#[inline]
pub(super) fn write_uint(out: &mut Vec<u8>, mut value: u64) {
    let mut text = [0; 20];
    let mut at = 20;
    while value >= 100 {
        let pair = (value % 100) as u8;
        value /= 100;
        at -= 2;
        text[at] = b'0' + pair / 10;
        text[at + 1] = b'0' + pair % 10;
    }
    at -= 1;
    text[at] = b'0' + (value % 10) as u8;
    if value >= 10 {
        at -= 1;
        text[at] = b'0' + (value / 10) as u8;
    }
    out.extend_from_slice(&text[at..]);
}

/// Writes the JSON text of a scalar.
#[inline]
pub(super) fn write_scalar(out: &mut Vec<u8>, tag: u8, from: &mut Reader<'_>) -> Result<(), Error> {
    match tag {
        tag::NULL => out.extend_from_slice(b"null"),
        tag::TRUE => out.extend_from_slice(b"true"),
        tag::FALSE => out.extend_from_slice(b"false"),
        tag::UINT => write_uint(out, from.varint()?),
        tag::NINT => {
            let below = from.varint()?;
            if below > i64::MAX as u64 {
                return Err(Error::Damaged);
            }
            out.push(b'-');
            write_uint(out, below + 1);
        }
        tag::F64 => {
            use std::io::Write;
            let value = f64::from_bits(from.uint::<8>()?);
            if !value.is_finite() {
                return Err(Error::Damaged);
            }
            // Writing to a Vec cannot fail.
            let _ = write!(out, "{value:?}");
        }
        tag::NUMBER => {
            let length = from.count()?;
            let text = from.take(length)?;
            if !is_number_text(text) {
                return Err(Error::Damaged);
            }
            out.extend_from_slice(text);
        }
        tag::STRING => {
            let length = from.count()?;
            let text = from.take(length)?;
            if !is_string_text(text) {
                return Err(Error::Damaged);
            }
            out.push(b'"');
            out.extend_from_slice(text);
            out.push(b'"');
        }
        tag::TEXT6 => {
            let length = usize::from(from.byte()?);
            out.push(b'"');
            let mut left = from.take((length * 6).div_ceil(8))?;
            let end = out.len() + length;
            while let Some((&[a, b, c], rest)) = left.split_first_chunk::<3>() {
                let bits = u32::from_le_bytes([a, b, c, 0]);
                out.extend_from_slice(&[0, 6, 12, 18].map(|shift| SIX_TEXT[(bits >> shift & 63) as usize]));
                left = rest;
            }
            // A last group of three characters fills three bytes as well.
            out.truncate(end);
            let bits = left.iter().rev().fold(0u32, |bits, &byte| bits << 8 | u32::from(byte));
            for at in 0..end.saturating_sub(out.len()) {
                out.push(SIX_TEXT[(bits >> (6 * at) & 63) as usize]);
            }
            out.push(b'"');
        }
        tag::CODED => {
            let length = from.count()?;
            out.push(b'"');
            write_coded(out, from.take(length)?)?;
            out.push(b'"');
        }
        tag::ID | tag::DECIMAL => {
            let value = if tag == tag::ID { from.uint::<8>()? } else { from.varint()? };
            out.push(b'"');
            write_uint(out, value);
            out.push(b'"');
        }
        tag::HASH | tag::A_HASH => {
            out.extend_from_slice(if tag == tag::HASH { b"\"" } else { b"\"a_" });
            put_hex(out, &from.array::<16>()?);
            out.push(b'"');
        }
        tag::HEX => {
            let count = usize::from(from.byte()?);
            out.push(b'"');
            put_hex(out, from.take(count)?);
            out.push(b'"');
        }
        tag::MICROS => {
            let value = from.uint::<7>()?;
            write_time(out, value / 1_000_000, Some((value % 1_000_000, 6)), b"+00:00\"")?;
        }
        tag::SECONDS => write_time(out, from.uint::<5>()?, None, b"+00:00\"")?,
        tag::MILLIS_Z => {
            let value = from.uint::<6>()?;
            write_time(out, value / 1_000, Some((value % 1_000, 3)), b"Z\"")?;
        }
        tag::SECONDS_Z => write_time(out, from.uint::<5>()?, None, b"Z\"")?,
        tag::WORD => {
            let word = WORDS.get(usize::from(from.byte()?)).ok_or(Error::Damaged)?;
            out.push(b'"');
            out.extend_from_slice(word.as_bytes());
            out.push(b'"');
        }
        _ => return Err(Error::Damaged),
    }
    Ok(())
}

/// Steps over the payload of a scalar.
pub(super) fn skip_scalar(tag: u8, from: &mut Reader<'_>) -> Result<(), Error> {
    let length = match tag {
        tag::NULL | tag::TRUE | tag::FALSE => 0,
        tag::UINT | tag::NINT | tag::DECIMAL => {
            from.varint()?;
            0
        }
        tag::F64 | tag::ID => 8,
        tag::NUMBER | tag::STRING | tag::CODED => from.count()?,
        tag::TEXT6 => (usize::from(from.byte()?) * 6).div_ceil(8),
        tag::HASH | tag::A_HASH => 16,
        tag::HEX => usize::from(from.byte()?),
        tag::MICROS => 7,
        tag::SECONDS | tag::SECONDS_Z => 5,
        tag::MILLIS_Z => 6,
        tag::WORD => 1,
        _ => return Err(Error::Damaged),
    };
    from.take(length).map(drop)
}
