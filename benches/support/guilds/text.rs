//! Numbers by seed, and JSON written by hand: the keys' order on the wire has to be kept, which a map would lose.

use std::fmt::{Display, Write};

/// Milliseconds from 1970 to the first of January 2015, where Discord's ids begin.
const DISCORD_EPOCH: u64 = 1_420_070_400_000;
/// The moment at which all guilds are as their GUILD_CREATE says: the first of August 2026.
pub const NOW: u64 = 1_785_542_400_000;
pub const DAY: u64 = 86_400_000;

/// splitmix64
#[derive(Clone)]
pub struct Rng(u64);

impl Rng {
    /// One thing's own numbers, so that nothing depends on how many other things there are.
    pub fn of(seed: u64, guild: u64, kind: u64, index: u64) -> Self {
        let mut rng = Self(seed);
        for part in [guild, kind, index] {
            rng.0 = rng.next() ^ part.wrapping_mul(0xA076_1D64_78BD_642F);
        }
        rng
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, end: usize) -> usize {
        ((u128::from(self.next()) * end as u128) >> 64) as usize
    }

    /// Both ends included.
    pub fn range(&mut self, first: u64, last: u64) -> u64 {
        first + self.below((last - first + 1) as usize) as u64
    }

    pub fn chance(&mut self, percent: u32) -> bool {
        self.below(100) < percent as usize
    }

    pub fn pick<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())]
    }

    /// An index below `end`, the low ones far more often: some channels and people are louder than others.
    pub fn skewed(&mut self, end: usize) -> usize {
        let share = self.below(1 << 20) as f64 / f64::from(1 << 20);
        (share * share * end as f64) as usize
    }

    pub fn hex(&mut self, digits: usize) -> String {
        let mut out = String::with_capacity(digits + 16);
        while out.len() < digits {
            let _ = write!(out, "{:016x}", self.next());
        }
        out.truncate(digits);
        out
    }

    /// An id made at that time.
    pub fn id(&mut self, ms: u64) -> u64 {
        (ms - DISCORD_EPOCH) << 22 | self.next() & 0x3F_FFFF
    }

    /// An id made between two times.
    pub fn id_between(&mut self, first: u64, last: u64) -> u64 {
        let ms = self.range(first, last.max(first));
        self.id(ms)
    }
}

/// When an id was made.
pub fn id_ms(id: u64) -> u64 {
    (id >> 22) + DISCORD_EPOCH
}

/// The time as Discord writes it, `2026-08-01T00:00:00.000000+00:00`.
pub fn iso(ms: u64, micros: u64) -> String {
    // Howard Hinnant's civil_from_days.
    let z = ms / DAY + 719_468;
    let (era, doe) = (z / 146_097, z % 146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    let year = yoe + era * 400 + u64::from(month <= 2);
    let (day, rest) = (doy - (153 * mp + 2) / 5 + 1, ms % DAY);
    let (hours, minutes, seconds) = (rest / 3_600_000, rest / 60_000 % 60, rest / 1000 % 60);
    let micros = rest % 1000 * 1000 + micros % 1000;
    format!("{year:04}-{month:02}-{day:02}T{hours:02}:{minutes:02}:{seconds:02}.{micros:06}+00:00")
}

fn comma(out: &mut String) {
    if !out.is_empty() && !out.ends_with(['{', '[', ':', ',']) {
        out.push(',');
    }
}

pub fn key(out: &mut String, key: &str) {
    comma(out);
    out.push('"');
    out.push_str(key);
    out.push_str("\":");
}

/// A number, a boolean, `null` or text that is JSON already.
pub fn raw(out: &mut String, name: &str, value: impl Display) {
    key(out, name);
    let _ = write!(out, "{value}");
}

pub fn string(out: &mut String, value: &str) {
    out.push('"');
    for c in value.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            _ => out.push(c),
        }
    }
    out.push('"');
}

pub fn text(out: &mut String, name: &str, value: &str) {
    key(out, name);
    string(out, value);
}

pub fn text_or_null(out: &mut String, name: &str, value: Option<&str>) {
    match value {
        Some(value) => text(out, name, value),
        None => raw(out, name, "null"),
    }
}

/// A number in quotes: an id, or permissions.
pub fn id(out: &mut String, name: &str, value: u64) {
    key(out, name);
    let _ = write!(out, "\"{value}\"");
}

pub fn id_or_null(out: &mut String, name: &str, value: Option<u64>) {
    match value {
        Some(value) => id(out, name, value),
        None => raw(out, name, "null"),
    }
}

pub fn ids(out: &mut String, name: &str, values: &[u64]) {
    list(out, name, values, |out, value| {
        let _ = write!(out, "\"{value}\"");
    });
}

pub fn object(out: &mut String, name: &str, inside: impl FnOnce(&mut String)) {
    key(out, name);
    braces(out, inside);
}

pub fn braces(out: &mut String, inside: impl FnOnce(&mut String)) {
    out.push('{');
    inside(out);
    out.push('}');
}

pub fn list<T>(
    out: &mut String,
    name: &str,
    items: impl IntoIterator<Item = T>,
    mut one: impl FnMut(&mut String, T),
) {
    key(out, name);
    out.push('[');
    for item in items {
        comma(out);
        one(out, item);
    }
    out.push(']');
}
