//! JSON that is hard to keep, from a seed.

use crate::base::Rng;

/// The seed of this run: `RATEWAY_SEED`, else a fixed one; printed.
pub fn seed() -> u64 {
    let seed = std::env::var("RATEWAY_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    println!("RATEWAY_SEED={seed}");
    seed
}

const NUMBERS: [&str; 28] = [
    "0",
    "-0",
    "1",
    "-1",
    "127",
    "128",
    "-128",
    "16384",
    "4294967296",
    "9007199254740993",
    "9223372036854775807",
    "-9223372036854775808",
    "-9223372036854775809",
    "18446744073709551615",
    "18446744073709551616",
    "123456789012345678901234567890123456789012345678901234567890",
    "0.0",
    "-0.0",
    "1.0",
    "1E2",
    "1e-2",
    "0.1",
    "2.2250738585072011e-308",
    "5e-324",
    "1.7976931348623157e308",
    "1e400",
    "-1e400",
    "3.141592653589793238462643",
];

const STRINGS: [&str; 30] = [
    "",
    "0",
    "00",
    "1",
    "2048",
    "761014731138494465",
    "18446744073709551615",
    "18446744073709551616",
    "99999999999999999999",
    "6d868833d8c2796f789d183c59c6b2a5",
    "a_6d868833d8c2796f789d183c59c6b2a5",
    "6D868833d8c2796f789d183c59c6b2a5",
    "deadbeef01",
    "deadbeef0",
    "2020-01-06T22:18:42.451647+00:00",
    "2020-01-06T22:18:42+00:00",
    "2020-01-06T22:18:42.451Z",
    "2020-13-06T22:18:42Z",
    "2020-01-06T22:18:42+01:00",
    "online",
    "Custom Status",
    "tomasz.rook",
    "abcd",
    "abcde",
    "abcdef",
    "abcdefg",
    "Привет",
    "龍の谷",
    "👨‍👩‍👧‍👦",
    "Say hi — be kind",
];

const ESCAPES: [&str; 16] = [
    "\\\"",
    "\\\\",
    "\\/",
    "\\b",
    "\\f",
    "\\n",
    "\\r",
    "\\t",
    "\\u0000",
    "\\u001f",
    "\\u0041",
    "\\u00e9",
    "\\ud83d\\ude00",
    "\\ud800",
    "\\uDC00",
    "\\uffff",
];

const KEYS: [&str; 15] = [
    "type",
    "id",
    "name",
    "user",
    "roles",
    "permissions",
    "nick",
    "flags",
    "a",
    "",
    "k\\u0065y",
    "key",
    "q\\\"",
    "\\ud800",
    "ключ",
];

/// A source of values.
pub struct Nasty {
    rng: Rng,
}

impl Nasty {
    pub fn new(seed: u64) -> Nasty {
        Nasty { rng: Rng::new(seed) }
    }

    fn pick(&mut self, from: &[&'static str]) -> &'static str {
        from[self.rng.below(from.len() as u64) as usize]
    }

    /// Any value.
    pub fn value(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        match self.rng.below(12) {
            0 => {
                // Deep.
                let depth = 1 + self.rng.below(120) as usize;
                let mut closing = Vec::new();
                for _ in 0..depth {
                    if self.rng.chance(1, 2) {
                        out.extend_from_slice(b"[1,");
                        closing.push("]");
                    } else {
                        out.extend_from_slice(format!("{{\"{}\":", self.pick(&KEYS)).as_bytes());
                        closing.push("}");
                    }
                }
                self.put_scalar(&mut out);
                closing.iter().rev().for_each(|close| out.extend_from_slice(close.as_bytes()));
            }
            1 => {
                // Wide.
                out.push(b'{');
                for at in 0..self.rng.below(600) {
                    let comma = if at > 0 { "," } else { "" };
                    out.extend_from_slice(format!("{comma}\"wide{at}\":").as_bytes());
                    self.put_scalar(&mut out);
                }
                out.push(b'}');
            }
            2 => self.put_scalar(&mut out),
            _ => self.put(&mut out, 5),
        }
        out
    }

    /// Any object, `depth` deep at most.
    pub fn object(&mut self, depth: u64) -> Vec<u8> {
        let mut out = Vec::new();
        self.put_object(&mut out, depth);
        out
    }

    fn space(&mut self, out: &mut Vec<u8>) {
        if self.rng.chance(1, 12) {
            out.extend_from_slice(self.pick(&[" ", "\n", "\t\r "]).as_bytes());
        }
    }

    fn put_object(&mut self, out: &mut Vec<u8>, depth: u64) {
        out.push(b'{');
        for at in 0..self.rng.below(7) {
            if at > 0 {
                out.push(b',');
            }
            self.space(out);
            out.extend_from_slice(format!("\"{}\"", self.pick(&KEYS)).as_bytes());
            self.space(out);
            out.push(b':');
            self.put(out, depth - 1);
            self.space(out);
        }
        out.push(b'}');
    }

    fn put(&mut self, out: &mut Vec<u8>, depth: u64) {
        self.space(out);
        match self.rng.below(if depth == 0 { 1 } else { 5 }) {
            3 => self.put_object(out, depth),
            4 => {
                out.push(b'[');
                let alike = self.rng.chance(1, 2);
                let text = self.pick(&STRINGS);
                for at in 0..self.rng.below(6) {
                    if at > 0 {
                        out.push(b',');
                    }
                    if alike {
                        out.extend_from_slice(format!("\"{text}\"").as_bytes());
                    } else {
                        self.put(out, depth - 1);
                    }
                    self.space(out);
                }
                out.push(b']');
            }
            _ => self.put_scalar(out),
        }
    }

    fn put_scalar(&mut self, out: &mut Vec<u8>) {
        match self.rng.below(8) {
            0 => out.extend_from_slice(self.pick(&["null", "true", "false"]).as_bytes()),
            1 => out.extend_from_slice(self.pick(&NUMBERS).as_bytes()),
            2 => {
                let float = f64::from_bits(self.rng.next_u64());
                let text = if float.is_finite() { format!("{float:?}") } else { "0".into() };
                out.extend_from_slice(text.as_bytes());
            }
            3 => {
                let shift = self.rng.below(64);
                out.extend_from_slice(format!("{}", (self.rng.next_u64() as i64) >> shift).as_bytes());
            }
            4 => {
                // Escapes among text.
                out.push(b'"');
                for _ in 0..self.rng.below(8) {
                    let piece = if self.rng.chance(1, 2) { self.pick(&ESCAPES) } else { self.pick(&STRINGS) };
                    out.extend_from_slice(piece.as_bytes());
                }
                out.push(b'"');
            }
            5 => {
                let shift = self.rng.below(64);
                out.extend_from_slice(format!("\"{}\"", self.rng.next_u64() >> shift).as_bytes());
            }
            _ => out.extend_from_slice(format!("\"{}\"", self.pick(&STRINGS)).as_bytes()),
        }
    }
}
