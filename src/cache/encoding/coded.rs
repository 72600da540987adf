//! Text in fewer bits per letter: a prefix code that never changes, for the strings that people write.
//!
//! Enters: text of printable ASCII without quotes and backslashes, so that what is read back is always text for between
//! quotes. Leaves: its codes, first bit first, and ones up to the next byte. Names and sentences become a third
//! shorter. The code is Huffman's for the corpus's names, English text, some digits and capitals, no longer than
//! [`BITS_MAX`]; it is part of the layout.

use super::Error;

/// Longest code.
const BITS_MAX: usize = 10;

/// The characters by the length of their codes, from 4 bits on. The last code, all ones, stands for nothing: it is
/// longer than what fills up a byte.
const BY_LENGTH: [&[u8]; BITS_MAX - 3] = [
    b"aest",
    b" dilnor",
    b"./0123456789bcfhkmpu",
    b",-:ERST_gvwxy",
    b"ABCDFGHIJKLMNOPQUWXYq",
    b"();=VZz",
    b"!#$%&'*+<>?@[]^`j{|}~",
];

/// Code and length of each byte; length 0 for those that have none.
static CODES: [(u16, u8); 256] = {
    let mut out = [(0, 0); 256];
    let (mut code, mut group) = (0, 0);
    while group < BY_LENGTH.len() {
        let mut at = 0;
        while at < BY_LENGTH[group].len() {
            out[BY_LENGTH[group][at] as usize] = (code, group as u8 + 4);
            code += 1;
            at += 1;
        }
        code <<= 1;
        group += 1;
    }
    // What is left of the code space is the one that stands for nothing.
    assert!(code == (1 << (BITS_MAX + 1)) - 2);
    out
};

/// The byte that the next [`BITS_MAX`] bits start with, and its length; length 0 for the code of nothing.
static BYTES: [(u8, u8); 1 << BITS_MAX] = {
    let mut out = [(0, 0); 1 << BITS_MAX];
    let mut byte = 0;
    while byte < 256 {
        let (code, length) = CODES[byte];
        if length > 0 {
            let spare = BITS_MAX - length as usize;
            let mut at = (code as usize) << spare;
            while at < (code as usize + 1) << spare {
                out[at] = (byte as u8, length);
                at += 1;
            }
        }
        byte += 1;
    }
    out
};

/// What the code follows from.
pub(super) fn table() -> impl Iterator<Item = &'static [u8]> {
    BY_LENGTH.into_iter()
}

/// Bytes that `text` takes, if all of it has codes.
#[inline]
pub(super) fn coded_length(text: &[u8]) -> Option<usize> {
    let mut bits = 0;
    for &byte in text {
        match CODES[usize::from(byte)].1 {
            0 => return None,
            length => bits += usize::from(length),
        }
    }
    Some(bits.div_ceil(8))
}

/// Writes `text`, all of which has codes.
pub(super) fn put_coded(out: &mut Vec<u8>, text: &[u8]) {
    let (mut bits, mut count) = (0u64, 0);
    for &byte in text {
        let (code, length) = CODES[usize::from(byte)];
        bits = bits << length | u64::from(code);
        count += u32::from(length);
        while count >= 8 {
            count -= 8;
            out.push((bits >> count) as u8);
        }
    }
    if count > 0 {
        let fill = 8 - count;
        out.push((bits << fill | ((1 << fill) - 1)) as u8);
    }
}

/// Writes the text of `coded`.
pub(super) fn write_coded(out: &mut Vec<u8>, coded: &[u8]) -> Result<(), Error> {
    const MASK: u64 = (1 << BITS_MAX) - 1;
    let (mut bits, mut count) = (0u64, 0usize);
    let mut rest = coded.iter();
    loop {
        while count <= 56
            && let Some(&byte) = rest.next()
        {
            bits = bits << 8 | u64::from(byte);
            count += 8;
        }
        // Ones stand for what is behind the end.
        let next = match count.checked_sub(BITS_MAX) {
            Some(spare) => bits >> spare & MASK,
            None => (bits << (BITS_MAX - count) | MASK >> count) & MASK,
        };
        let (byte, length) = BYTES[next as usize];
        let length = usize::from(length);
        if length == 0 || length > count {
            // The end, if only ones that fill up a byte are left.
            let ended =
                count < 8 && rest.as_slice().is_empty() && bits & ((1 << count) - 1) == (1 << count) - 1;
            return if ended { Ok(()) } else { Err(Error::Damaged) };
        }
        out.push(byte);
        count -= length;
    }
}
