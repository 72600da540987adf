//! Times as Discord writes them, to seconds and back.
//!
//! Enters: text, or a count of seconds. Leaves: the same in the other form. Only dates that exist are taken, so that
//! text comes back byte for byte.

use super::{Error, tag};

/// The first second that is not packed: 4000-01-01.
const SECONDS_END: u64 = days_from_civil(4000, 1, 1) * 86_400;

/// Days from 1970-01-01; `year` is 1970 or later. Howard Hinnant, "chrono-compatible low-level date algorithms".
const fn days_from_civil(year: u64, month: u64, day: u64) -> u64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year / 400, year % 400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// The inverse of [`days_from_civil`].
fn civil_from_days(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (era * 400 + year + u64::from(month <= 2), month, of_year - (153 * shifted + 2) / 5 + 1)
}

/// Writes the payload of a time in one of four forms; gives back its tag.
#[inline]
pub(super) fn put_time(out: &mut Vec<u8>, text: &[u8]) -> Option<u8> {
    let (tag, fraction) = match text.len() {
        32 => (tag::MICROS, 6),
        25 => (tag::SECONDS, 0),
        24 => (tag::MILLIS_Z, 3),
        20 => (tag::SECONDS_Z, 0),
        _ => return None,
    };
    let number = |from: usize, length: usize| {
        text[from..from + length]
            .iter()
            .try_fold(0u64, |value, &byte| byte.is_ascii_digit().then(|| value * 10 + u64::from(byte - b'0')))
    };
    let marks = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    if marks.iter().any(|&(at, mark)| text[at] != mark) {
        return None;
    }
    let zone: &[u8] = if matches!(tag, tag::MICROS | tag::SECONDS) { b"+00:00" } else { b"Z" };
    if !text.ends_with(zone) || (fraction > 0 && text[19] != b'.') {
        return None;
    }
    let (year, month, day) = (number(0, 4)?, number(5, 2)?, number(8, 2)?);
    let (hour, minute, second) = (number(11, 2)?, number(14, 2)?, number(17, 2)?);
    if !(1970..4000).contains(&year) || !(1..=12).contains(&month) || hour > 23 || minute > 59 || second > 59
    {
        return None;
    }
    let days = days_from_civil(year, month, day);
    // Only a real date comes back as itself.
    if civil_from_days(days) != (year, month, day) {
        return None;
    }
    let seconds = days * 86_400 + hour * 3_600 + minute * 60 + second;
    let (value, width) = match tag {
        tag::MICROS => (seconds * 1_000_000 + number(20, 6)?, 7),
        tag::MILLIS_Z => (seconds * 1_000 + number(20, 3)?, 6),
        _ => (seconds, 5),
    };
    out.extend_from_slice(&value.to_le_bytes()[..width]);
    Some(tag)
}

/// Whether [`write_time`] takes so many seconds.
pub(super) fn is_time(seconds: u64) -> bool {
    seconds < SECONDS_END
}

/// Writes a time as JSON text; `fraction` is a value and its digits, `zone` what is behind, the quote included.
pub(super) fn write_time(
    out: &mut Vec<u8>,
    seconds: u64,
    fraction: Option<(u64, usize)>,
    zone: &[u8],
) -> Result<(), Error> {
    if !is_time(seconds) {
        return Err(Error::Damaged);
    }
    let mut text = *b"\"0000-00-00T00:00:00.000000";
    let mut put = |from: usize, width: usize, mut value: u64| {
        for at in (from..from + width).rev() {
            text[at] = b'0' + (value % 10) as u8;
            value /= 10;
        }
    };
    let (year, month, day) = civil_from_days(seconds / 86_400);
    let of_day = seconds % 86_400;
    put(1, 4, year);
    put(6, 2, month);
    put(9, 2, day);
    put(12, 2, of_day / 3_600);
    put(15, 2, of_day / 60 % 60);
    put(18, 2, of_day % 60);
    let mut length = 20;
    if let Some((value, digits)) = fraction {
        put(21, digits, value);
        length = 21 + digits;
    }
    out.extend_from_slice(&text[..length]);
    out.extend_from_slice(zone);
    Ok(())
}
