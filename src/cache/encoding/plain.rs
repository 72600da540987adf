//! A plain reader of JSON for what simd-json refuses though it is JSON: numbers beyond 64 bits and lone surrogates.
//!
//! Enters: text. Leaves: a tape of [`Token`]s over a buffer of texts, or where the text is no JSON. Strings and keys
//! come out escaped in the one way that `scalars::escape` has, so that equal keys are equal bytes. Iterative: the
//! open containers are a list. Slower than simd-json, and only asked after it. Grammar: RFC 8259.

use std::io::Write;

use super::{DEPTH_MAX, Error, scalars};

/// A node of the tape: containers count the nodes inside them.
#[derive(Clone, Copy, Debug)]
pub(super) enum Token {
    Null,
    Bool(bool),
    /// Range of the text.
    Number(usize, usize),
    /// Range of the escaped text.
    String(usize, usize),
    Array {
        len: usize,
        count: usize,
    },
    Object {
        len: usize,
        count: usize,
    },
}

/// The tape and its texts, for use again and again.
#[derive(Default)]
pub(super) struct Plain {
    pub tokens: Vec<Token>,
    pub texts: Vec<u8>,
    /// The containers that are open, as places on the tape.
    open: Vec<usize>,
}

impl Plain {
    /// Reads `json` onto the tape.
    pub fn parse(&mut self, json: &[u8]) -> Result<(), Error> {
        self.tokens.clear();
        self.texts.clear();
        self.open.clear();
        if let Err(error) = std::str::from_utf8(json) {
            return Err(Error::Syntax(error.valid_up_to()));
        }
        let mut at = 0;
        loop {
            at = self.value(json, space(json, at))?;
            // Behind a value: close what ends, and stop before the next value.
            loop {
                at = space(json, at);
                let Some(&container) = self.open.last() else {
                    return if at == json.len() { Ok(()) } else { Err(Error::Syntax(at)) };
                };
                let inside = self.tokens.len() - container - 1;
                let (object, len, count) = match &mut self.tokens[container] {
                    Token::Object { len, count } => (true, len, count),
                    Token::Array { len, count } => (false, len, count),
                    _ => return Err(Error::Syntax(at)),
                };
                match json.get(at) {
                    // Right behind the opening bracket: the first element comes, or none.
                    Some(b']') if !object && (inside == 0) == (*len == 0) => {}
                    Some(b'}') if object && (inside == 0) == (*len == 0) => {}
                    Some(b',') if inside > 0 => {
                        *len += 1;
                        at = self.key(json, space(json, at + 1), object)?;
                        break;
                    }
                    Some(_) if inside == 0 => {
                        *len = 1;
                        at = self.key(json, at, object)?;
                        break;
                    }
                    _ => return Err(Error::Syntax(at)),
                }
                *count = inside;
                self.open.pop();
                at += 1;
            }
        }
    }

    /// The key at `at` and its colon, in an object.
    fn key(&mut self, json: &[u8], at: usize, object: bool) -> Result<usize, Error> {
        if !object {
            return Ok(at);
        }
        if json.get(at) != Some(&b'"') {
            return Err(Error::Syntax(at));
        }
        let colon = space(json, self.string(json, at + 1)?);
        if json.get(colon) == Some(&b':') { Ok(colon + 1) } else { Err(Error::Syntax(colon)) }
    }

    /// A scalar, or an opening bracket.
    fn value(&mut self, json: &[u8], at: usize) -> Result<usize, Error> {
        let rest = &json[at..];
        let words: [(&[u8], Token); 3] =
            [(b"null", Token::Null), (b"true", Token::Bool(true)), (b"false", Token::Bool(false))];
        match rest.first() {
            Some(b'{' | b'[') => {
                if self.open.len() == DEPTH_MAX {
                    return Err(Error::TooDeep);
                }
                self.open.push(self.tokens.len());
                self.tokens.push(if rest[0] == b'{' {
                    Token::Object { len: 0, count: 0 }
                } else {
                    Token::Array { len: 0, count: 0 }
                });
                Ok(at + 1)
            }
            Some(b'"') => self.string(json, at + 1),
            Some(b'-' | b'0'..=b'9') => {
                let length = rest
                    .iter()
                    .take_while(|byte| matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9'))
                    .count();
                if !scalars::is_number_text(&rest[..length]) {
                    return Err(Error::Syntax(at));
                }
                let from = self.texts.len();
                self.texts.extend_from_slice(&rest[..length]);
                self.tokens.push(Token::Number(from, self.texts.len()));
                Ok(at + length)
            }
            _ => {
                let (word, token) =
                    words.iter().find(|(word, _)| rest.starts_with(word)).ok_or(Error::Syntax(at))?;
                self.tokens.push(*token);
                Ok(at + word.len())
            }
        }
    }

    /// The string whose first byte after the quote is at `at`.
    fn string(&mut self, json: &[u8], mut at: usize) -> Result<usize, Error> {
        let from = self.texts.len();
        loop {
            let rest = &json[at..];
            let run =
                rest.iter().position(|&byte| scalars::special(byte)).ok_or(Error::Syntax(json.len()))?;
            self.texts.extend_from_slice(&rest[..run]);
            at += run;
            match json[at..] {
                [b'"', ..] => {
                    self.tokens.push(Token::String(from, self.texts.len()));
                    return Ok(at + 1);
                }
                [b'\\', b'u', ..] => {
                    let unit = unit(json, at)?;
                    at += 6;
                    let second = if (0xd800..0xdc00).contains(&unit) { unit_of_pair(json, at) } else { None };
                    let code = match second {
                        Some(second) => {
                            at += 6;
                            0x1_0000 + ((unit - 0xd800) << 10) + (second - 0xdc00)
                        }
                        None => unit,
                    };
                    match char::from_u32(code) {
                        Some(char) => {
                            scalars::escape(&mut self.texts, char.encode_utf8(&mut [0; 4]).as_bytes());
                        }
                        // A surrogate alone has no UTF-8; it stays an escape.
                        // Writing to a Vec cannot fail.
                        None => drop(write!(self.texts, "\\u{code:04x}")),
                    }
                }
                [b'\\', letter, ..] => {
                    let byte = match letter {
                        b'"' | b'\\' | b'/' => letter,
                        b'b' => 0x08,
                        b'f' => 0x0c,
                        b'n' => b'\n',
                        b'r' => b'\r',
                        b't' => b'\t',
                        _ => return Err(Error::Syntax(at)),
                    };
                    scalars::escape(&mut self.texts, &[byte]);
                    at += 2;
                }
                _ => return Err(Error::Syntax(at)),
            }
        }
    }
}

fn space(json: &[u8], at: usize) -> usize {
    at + json[at..].iter().take_while(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r')).count()
}

/// The code unit of the `\uXXXX` at `at`.
fn unit(json: &[u8], at: usize) -> Result<u32, Error> {
    let digits = json.get(at + 2..at + 6).ok_or(Error::Syntax(at))?;
    digits.iter().try_fold(0, |unit, &digit| {
        char::from(digit).to_digit(16).map(|value| unit << 4 | value).ok_or(Error::Syntax(at))
    })
}

/// The code unit of the escape at `at`, when it is the second half of a pair.
fn unit_of_pair(json: &[u8], at: usize) -> Option<u32> {
    json[at..]
        .starts_with(b"\\u")
        .then(|| unit(json, at).ok())
        .flatten()
        .filter(|u| (0xdc00..0xe000).contains(u))
}
