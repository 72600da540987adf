//! What JSON text means, by a reader that shares nothing with the code under test.

use std::collections::BTreeMap;

/// A value; strings as UTF-16, since JSON may hold halves of a pair.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Null,
    Bool(bool),
    /// An integer's digits; any size. `-0` is 0.
    Integer(String),
    /// A float's bits.
    Float(u64),
    String(Vec<u16>),
    Array(Vec<Value>),
    /// The last of equal keys.
    Object(BTreeMap<Vec<u16>, Value>),
}

/// The value of `json`, which must be JSON.
pub fn read(json: &[u8]) -> Value {
    let text: Vec<char> = std::str::from_utf8(json).expect("UTF-8").chars().collect();
    let mut at = 0;
    let value = value(&text, &mut at);
    space(&text, &mut at);
    assert_eq!(at, text.len(), "trailing text");
    value
}

fn space(text: &[char], at: &mut usize) {
    while matches!(text.get(*at), Some(' ' | '\t' | '\r' | '\n')) {
        *at += 1;
    }
}

fn eat(text: &[char], at: &mut usize, word: &str) -> bool {
    let found = word.chars().enumerate().all(|(offset, c)| text.get(*at + offset) == Some(&c));
    *at += if found { word.len() } else { 0 };
    found
}

fn value(text: &[char], at: &mut usize) -> Value {
    space(text, at);
    match text[*at] {
        'n' if eat(text, at, "null") => Value::Null,
        't' if eat(text, at, "true") => Value::Bool(true),
        'f' if eat(text, at, "false") => Value::Bool(false),
        '"' => Value::String(string(text, at)),
        '[' => {
            *at += 1;
            let mut items = Vec::new();
            loop {
                space(text, at);
                if items.is_empty() && eat(text, at, "]") {
                    return Value::Array(items);
                }
                items.push(value(text, at));
                space(text, at);
                if eat(text, at, "]") {
                    return Value::Array(items);
                }
                assert!(eat(text, at, ","));
            }
        }
        '{' => {
            *at += 1;
            let mut items = BTreeMap::new();
            loop {
                space(text, at);
                if items.is_empty() && eat(text, at, "}") {
                    return Value::Object(items);
                }
                let key = string(text, at);
                space(text, at);
                assert!(eat(text, at, ":"));
                items.insert(key, value(text, at));
                space(text, at);
                if eat(text, at, "}") {
                    return Value::Object(items);
                }
                assert!(eat(text, at, ","));
            }
        }
        _ => number(text, at),
    }
}

fn number(text: &[char], at: &mut usize) -> Value {
    let from = *at;
    while matches!(text.get(*at), Some('0'..='9' | '+' | '-' | '.' | 'e' | 'E')) {
        *at += 1;
    }
    let digits: String = text[from..*at].iter().collect();
    assert!(!digits.is_empty(), "no value at {from}");
    if !digits.contains(['.', 'e', 'E']) {
        return Value::Integer(if digits == "-0" { "0".into() } else { digits });
    }
    let float: f64 = digits.parse().unwrap();
    // Beyond a float's range the text itself must stay.
    if float.is_finite() { Value::Float(float.to_bits()) } else { Value::Integer(digits) }
}

fn string(text: &[char], at: &mut usize) -> Vec<u16> {
    assert!(eat(text, at, "\""), "no string at {at}");
    let mut out = Vec::new();
    loop {
        let c = text[*at];
        *at += 1;
        match c {
            '"' => return out,
            '\\' => {
                let escape = text[*at];
                *at += 1;
                out.push(match escape {
                    'b' => 8,
                    'f' => 12,
                    'n' => 10,
                    'r' => 13,
                    't' => 9,
                    'u' => {
                        let digits: String = text[*at..*at + 4].iter().collect();
                        *at += 4;
                        u16::from_str_radix(&digits, 16).unwrap()
                    }
                    '"' | '\\' | '/' => escape as u16,
                    _ => panic!("no escape: {escape}"),
                });
            }
            c => {
                assert!(c >= ' ', "raw control character");
                out.extend_from_slice(c.encode_utf16(&mut [0; 2]));
            }
        }
    }
}
