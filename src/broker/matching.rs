//! Whether a binding takes a message: routing patterns of topic exchanges (section 3.1.3.3) and tables of headers
//! exchanges (section 3.1.3.4, with RabbitMQ's `-with-x`).

use crate::amqp::table::{self, Value};

/// The words of a routing key. An empty key has none.
pub(super) fn words(key: &[u8]) -> Vec<&[u8]> {
    if key.is_empty() { Vec::new() } else { key.split(|&octet| octet == b'.').collect() }
}

/// Whether `key` fits `pattern`: `*` is one word, `#` any number. At most one try for each pair of words, since the
/// last `#` met is the only one that is worth trying again.
pub(super) fn topic(pattern: &[&[u8]], key: &[&[u8]]) -> bool {
    let (mut p, mut k) = (0, 0);
    // Where to go on when what follows the last `#` does not fit: behind it, with one word more given to it.
    let mut again: Option<(usize, usize)> = None;
    while k < key.len() {
        match pattern.get(p) {
            Some(&b"#") => {
                again = Some((p + 1, k));
                p += 1;
            }
            Some(word) if *word == b"*" || Some(word) == key.get(k) => {
                p += 1;
                k += 1;
            }
            _ => match &mut again {
                Some((behind, taken)) => {
                    *taken += 1;
                    (p, k) = (*behind, *taken);
                }
                None => return false,
            },
        }
    }
    pattern.iter().skip(p).all(|word| *word == b"#")
}

/// Whether a message's headers fit the arguments of a binding.
pub(super) fn headers(arguments: &[u8], headers: &[u8]) -> bool {
    let mode = table::find(arguments, b"x-match").and_then(Value::text).unwrap_or(b"all");
    let (needs_all, with_x) = match mode {
        b"any" => (false, false),
        b"any-with-x" => (false, true),
        b"all-with-x" => (true, true),
        _ => (true, false),
    };
    let mut wanted = table::entries(arguments)
        .filter(|(name, _)| *name != b"x-match" && (with_x || !name.starts_with(b"x-")));
    let fits = |(name, wanted): (&[u8], Value<'_>)| {
        table::find(headers, name).is_some_and(|found| wanted.kind == b'V' || equal(wanted, found))
    };
    if needs_all { wanted.all(fits) } else { wanted.any(fits) }
}

/// Whether `x-match` is one that is known.
pub(super) fn is_known_mode(arguments: &[u8]) -> bool {
    table::find(arguments, b"x-match").is_none_or(|mode| {
        mode.text().is_some_and(|mode| matches!(mode, b"all" | b"any" | b"all-with-x" | b"any-with-x"))
    })
}

/// Integers of any width are equal when their values are.
pub(super) fn equal(a: Value<'_>, b: Value<'_>) -> bool {
    match (a.integer(), b.integer()) {
        (Some(a), Some(b)) => a == b,
        (None, None) => a == b,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::write::text_entry;

    #[test]
    fn topics() {
        let fits = |pattern: &str, key: &str| topic(&words(pattern.as_bytes()), &words(key.as_bytes()));
        for (pattern, yes, no) in [
            ("a.b", vec!["a.b"], vec!["a", "a.b.c", "", "a.bb", "a."]),
            ("*", vec!["a", "bb"], vec!["", "a.b"]),
            ("#", vec!["", "a", "a.b.c"], vec![]),
            ("a.*.c", vec!["a.b.c", "a..c"], vec!["a.c", "a.b.b.c"]),
            ("a.#", vec!["a", "a.b", "a.b.c"], vec!["", "b.a"]),
            ("#.z", vec!["z", "a.z", "a.z.z"], vec!["a.z.b", ""]),
            ("a.#.z", vec!["a.z", "a.b.z", "a.z.b.z"], vec!["a", "a.z.b"]),
            ("#.a.#.b", vec!["a.b", "x.a.y.b", "a.a.b.b"], vec!["b.a", "a.b.c"]),
            ("#.#", vec!["", "a", "a.b"], vec![]),
            ("*.#", vec!["a", "a.b"], vec![""]),
            ("", vec![""], vec!["a"]),
        ] {
            yes.iter().for_each(|key| assert!(fits(pattern, key), "{pattern} takes {key}"));
            no.iter().for_each(|key| assert!(!fits(pattern, key), "{pattern} refuses {key}"));
        }
        // Exponential in a naive matcher.
        assert!(!fits(&"#.a.".repeat(20), &("a.".repeat(100) + "b")));
    }

    #[test]
    fn header_tables() {
        let table = |entries: &[(&str, &str)]| {
            let mut out = Vec::new();
            entries.iter().for_each(|(name, value)| text_entry(&mut out, name, value.as_bytes()));
            out
        };
        let message = table(&[("a", "1"), ("b", "2"), ("x-c", "3")]);
        let fits = |arguments: &[(&str, &str)]| headers(&table(arguments), &message);
        assert!(fits(&[]) && fits(&[("a", "1")]) && fits(&[("x-match", "all"), ("a", "1"), ("b", "2")]));
        assert!(!fits(&[("a", "1"), ("b", "3")]) && !fits(&[("d", "1")]));
        assert!(fits(&[("x-match", "any"), ("a", "0"), ("b", "2")]));
        assert!(!fits(&[("x-match", "any")]) && !fits(&[("x-match", "any"), ("a", "0")]));
        assert!(fits(&[("x-c", "9")]) && !fits(&[("x-match", "all-with-x"), ("x-c", "9")]));
        assert!(fits(&[("x-match", "any-with-x"), ("x-c", "3")]));
        // A value of no type asks only whether the header is there.
        assert!(headers(b"\x01aV", &message) && !headers(b"\x01zV", &message));
        // 1 as an octet and as a long.
        assert!(headers(b"\x01nb\x01", b"\x01nl\x00\x00\x00\x00\x00\x00\x00\x01"));
        assert!(!headers(b"\x01nb\x01", b"\x01nS\x00\x00\x00\x011"));
    }
}
