//! Whether a binding takes a message: routing patterns of topic exchanges (section 3.1.3.3) and tables of headers
//! exchanges (section 3.1.3.4, with RabbitMQ's `-with-x`).

use crate::amqp::table::{self, Value};

/// The words of a routing key. An empty key has none.
pub(super) fn words(key: &[u8]) -> Vec<&[u8]> {
    if key.is_empty() { Vec::new() } else { key.split(|&octet| octet == b'.').collect() }
}

/// The same into room that is there.
pub(super) fn words_into<'a>(key: &'a [u8], words: &mut Vec<&'a [u8]>) {
    words.clear();
    if !key.is_empty() {
        words.extend(key.split(|&octet| octet == b'.'));
    }
}

/// Whether `key` fits `pattern`: `*` is one word, `#` any number. What stands before the first `#` and behind the last
/// one has its place; what is between two is looked for from the front, at each place once.
pub(super) fn topic(pattern: &[&[u8]], key: &[&[u8]]) -> bool {
    let is_any = |word: &&[u8]| *word == b"#";
    let is_same = |(word, found): (&&[u8], &&[u8])| *word == b"*" || word == found;
    let (Some(first), Some(last)) = (pattern.iter().position(is_any), pattern.iter().rposition(is_any))
    else {
        return pattern.len() == key.len() && pattern.iter().zip(key).all(is_same);
    };
    let (before, behind) = (pattern.get(..first), pattern.get(last + 1..));
    let (before, behind) = (before.unwrap_or_default(), behind.unwrap_or_default());
    let Some(between) =
        key.len().checked_sub(behind.len()).filter(|end| *end >= before.len()).map(|end| before.len()..end)
    else {
        return false;
    };
    let tail = key.get(between.end..).unwrap_or_default();
    before.iter().zip(key).all(is_same)
        && behind.iter().zip(tail).all(is_same)
        && (first == last
            || between_two(
                pattern.get(first..last).unwrap_or_default(),
                key.get(between).unwrap_or_default(),
            ))
}

/// As [`topic`] for a pattern that begins with `#` and has one behind it.
fn between_two(pattern: &[&[u8]], key: &[&[u8]]) -> bool {
    let mut rest = key;
    for part in pattern.split(|word| *word == b"#").filter(|part| !part.is_empty()) {
        let is_here = |found: &[&[u8]]| part.iter().zip(found).all(|(word, it)| *word == b"*" || word == it);
        let Some(at) = rest.windows(part.len()).position(is_here) else { return false };
        rest = rest.get(at + part.len()..).unwrap_or_default();
    }
    true
}

/// A message's headers, to be asked for by many bindings.
pub(super) struct Headers<'a> {
    // Invariant: sorted by name; of equal names the first counts.
    entries: Vec<(&'a [u8], Value<'a>)>,
}

impl<'a> Headers<'a> {
    pub(super) fn new(table: &'a [u8]) -> Headers<'a> {
        let mut entries: Vec<_> = table::entries(table).collect();
        entries.sort_by_key(|(name, _)| *name);
        entries.dedup_by_key(|(name, _)| *name);
        Headers { entries }
    }

    fn find(&self, name: &[u8]) -> Option<Value<'a>> {
        let at = self.entries.binary_search_by_key(&name, |(found, _)| *found).ok()?;
        self.entries.get(at).map(|(_, value)| *value)
    }
}

/// Whether a message's headers fit the arguments of a binding.
pub(super) fn headers(arguments: &[u8], headers: &Headers<'_>) -> bool {
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
        headers.find(name).is_some_and(|found| wanted.kind == b'V' || equal(wanted, found))
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
            ("a.#.b.c", vec!["a.b.c", "a.x.b.c", "a.b.c.b.c"], vec!["a.c", "b.c", "a.b.c.d"]),
            ("a.#.a", vec!["a.a", "a.x.a"], vec!["a"]),
            ("#.*.b.#", vec!["a.b", "x.a.b.y", "b.b"], vec!["b", "b.a"]),
            ("a.#.b.#.c", vec!["a.b.c", "a.x.b.y.c"], vec!["a.c", "a.b", "a.c.b"]),
            ("#.*.#", vec!["a", "a.b"], vec![""]),
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
        let message = Headers::new(&message);
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
        let long = b"\x01nl\x00\x00\x00\x00\x00\x00\x00\x01";
        assert!(headers(b"\x01nb\x01", &Headers::new(long)));
        assert!(!headers(b"\x01nb\x01", &Headers::new(b"\x01nS\x00\x00\x00\x011")));
        // Of equal names the first counts.
        assert!(headers(b"\x01nb\x01", &Headers::new(b"\x01nb\x01\x01nb\x02")));
    }
}
