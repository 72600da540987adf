//! Events and objects as text: JSON lines for programs, short lines with colours for people.
//!
//! What Discord's users write must not speak to a terminal: control characters are escaped or left out wherever the
//! output may be one.

use std::fmt::Write as _;

use serde_json::Value;
use serde_json::value::RawValue;

use crate::amqp::worker::Message;

/// The longest gist of an event on a terminal.
const GIST_CHARS_MAX: usize = 100;

/// One line: an event with where it came from. `d` is the event's own bytes, whatever their size of numbers or order of
/// keys; a body that is no JSON, which is no event of Discord's, becomes a string.
pub(super) fn json_line(out: &mut Vec<u8>, cluster: Option<u32>, message: &Message) {
    let mut head = String::from("{\"cluster\":");
    push_number(&mut head, cluster);
    head.push_str(",\"shard\":");
    push_number(&mut head, message.shard_id);
    head.push_str(",\"seq\":");
    push_number(&mut head, message.seq);
    let event = Value::from(message.routing_key.as_str());
    // Writing to a String cannot fail.
    let _ = write!(head, ",\"event\":{event},\"repeat\":{},\"at\":", message.repeat);
    push_number(&mut head, message.timestamp_s);
    head.push_str(",\"d\":");
    out.extend_from_slice(head.as_bytes());
    raw(out, &message.body);
    out.extend_from_slice(b"}\n");
}

/// One line: the event's `d` alone.
pub(super) fn raw_line(out: &mut Vec<u8>, message: &Message) {
    raw(out, &message.body);
    out.push(b'\n');
}

fn push_number(out: &mut String, number: Option<impl std::fmt::Display>) {
    match number {
        Some(number) => _ = write!(out, "{number}"),
        None => out.push_str("null"),
    }
}

fn raw(out: &mut Vec<u8>, body: &[u8]) {
    if serde_json::from_slice::<&RawValue>(body).is_ok() {
        // Outside of strings JSON may be broken into lines, inside it is not.
        out.extend(body.iter().map(|&byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { byte }));
    } else {
        let text = String::from_utf8_lossy(body);
        out.extend_from_slice(Value::from(&*text).to_string().as_bytes());
    }
}

/// One short line for a person: time of day (UTC), cluster/shard, name, seq, and what the event is about.
pub(super) fn short_line(out: &mut Vec<u8>, cluster: Option<u32>, message: &Message, colours: bool) {
    let (colour, dim, plain) =
        if colours { (colour_of(&message.routing_key), "\x1b[2m", "\x1b[0m") } else { ("", "", "") };
    let second = message.timestamp_s.unwrap_or(0) % 86_400;
    let (h, m, s) = (second / 3600, second / 60 % 60, second % 60);
    let mut place = String::new();
    push_place(&mut place, cluster);
    place.push('/');
    push_place(&mut place, message.shard_id);
    let name = harmless(&message.routing_key);
    let mut line = format!("{dim}{h:02}:{m:02}:{s:02}{plain} {place:>6} {colour}{name:<24}{plain} {dim}");
    push_place(&mut line, message.seq);
    line.push_str(plain);
    if message.repeat {
        line.push_str(" repeat");
    }
    let gist = gist(&message.body);
    if !gist.is_empty() {
        line.push(' ');
        line.push_str(&gist);
    }
    line.push('\n');
    out.extend_from_slice(line.as_bytes());
}

fn push_place(out: &mut String, number: Option<impl std::fmt::Display>) {
    match number {
        Some(number) => _ = write!(out, "{number}"),
        None => out.push('-'),
    }
}

fn colour_of(event: &str) -> &'static str {
    match event {
        "RATEWAY_GAP" => "\x1b[1;35m",
        _ if event.ends_with("_CREATE") || event.ends_with("_ADD") => "\x1b[32m",
        _ if event.ends_with("_DELETE") || event.contains("_REMOVE") => "\x1b[31m",
        _ if event.ends_with("_UPDATE") => "\x1b[33m",
        _ => "\x1b[36m",
    }
}

/// What an event is about, in the words of its fields.
fn gist(body: &[u8]) -> String {
    const FIELDS: &[&str] =
        &["name", "status", "unavailable", "last_seq", "reason", "guild_id", "channel_id", "id", "user_id"];
    let Ok(Value::Object(d)) = serde_json::from_slice::<Value>(body) else { return String::new() };
    let mut out = String::new();
    // What people read first; ids are long, and the line may end before the last.
    let user = ["author", "user"].iter().find_map(|key| d.get(*key)?.get("username")?.as_str());
    if let Some(user) = user {
        let _ = write!(out, "@{} ", harmless(user));
    }
    if let Some(text) = d.get("content").and_then(Value::as_str).filter(|text| !text.is_empty()) {
        let short: String = text.chars().take(GIST_CHARS_MAX / 2).collect();
        let _ = write!(out, "{:?} ", harmless(&short));
    }
    for field in FIELDS {
        let value = match d.get(*field) {
            Some(Value::String(text)) => harmless(text),
            Some(value @ (Value::Number(_) | Value::Bool(true))) => value.to_string(),
            _ => continue,
        };
        let _ = write!(out, "{field}={value} ");
    }
    let short: String = out.trim_end().chars().take(GIST_CHARS_MAX).collect();
    if short.len() < out.trim_end().len() { short + "..." } else { short }
}

/// `text` without what a terminal would obey.
pub(super) fn harmless(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// JSON set in lines, for a terminal. Keys keep their order and numbers their digits; control characters, which are
/// only within strings, become escapes that mean the same.
pub(super) fn pretty(json: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(json);
    let mut out = String::with_capacity(text.len() * 2);
    let (mut depth, mut in_string, mut escaped) = (0usize, false, false);
    let mut rest = text.chars().peekable();
    let line = |out: &mut String, depth: usize| {
        out.push('\n');
        out.extend(std::iter::repeat_n("  ", depth));
    };
    while let Some(c) = rest.next() {
        match c {
            c if in_string => {
                in_string = escaped || c != '"';
                escaped = !escaped && c == '\\';
                if c.is_control() {
                    let _ = write!(out, "\\u{:04x}", u32::from(c));
                } else {
                    out.push(c);
                }
            }
            '"' => {
                in_string = true;
                out.push('"');
            }
            '{' | '[' => {
                out.push(c);
                while rest.next_if(|next| next.is_ascii_whitespace()).is_some() {}
                if let Some(end) = rest.next_if(|next| matches!(next, '}' | ']')) {
                    out.push(end);
                } else {
                    depth += 1;
                    line(&mut out, depth);
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                line(&mut out, depth);
                out.push(c);
            }
            ',' => {
                out.push(',');
                line(&mut out, depth);
            }
            ':' => out.push_str(": "),
            c if c.is_whitespace() || c.is_control() => {}
            c => out.push(c),
        }
    }
    out.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(event: &str, body: &str) -> Message {
        Message {
            delivery_tag: 1,
            exchange: "rateway-2".into(),
            routing_key: event.into(),
            correlation_id: None,
            message_id: None,
            timestamp_s: Some(1_700_000_000),
            shard_id: Some(9),
            seq: Some(12),
            repeat: false,
            body: body.as_bytes().to_vec(),
        }
    }

    fn json(message: &Message) -> String {
        let mut out = Vec::new();
        json_line(&mut out, Some(2), message);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_json_line_keeps_the_bytes_of_d() {
        assert_eq!(
            json(&message("READY", r#"{"z":1.50,"a":18446744073709551615}"#)),
            "{\"cluster\":2,\"shard\":9,\"seq\":12,\"event\":\"READY\",\"repeat\":false,\"at\":1700000000,\
             \"d\":{\"z\":1.50,\"a\":18446744073709551615}}\n"
        );
    }

    #[test]
    fn what_is_no_event_is_one_line_of_json_all_the_same() {
        let mut odd = message("A\"B\n", "{\n \"a\":\r\n1}");
        (odd.shard_id, odd.seq, odd.timestamp_s, odd.repeat) = (None, None, None, true);
        for body in ["{\n \"a\":\r\n1}", "no json\n\x1b[2J", "", "{\"cut\":"] {
            odd.body = body.as_bytes().to_vec();
            let line = json(&odd);
            assert_eq!(line.matches('\n').count(), 1, "{line}");
            let value: Value = serde_json::from_str(&line).unwrap();
            assert_eq!((&value["shard"], &value["repeat"]), (&Value::Null, &Value::Bool(true)));
            assert_eq!(value["event"], "A\"B\n");
        }
        odd.body = vec![0xff, 0xfe];
        assert!(serde_json::from_str::<Value>(&json(&odd)).is_ok());
        let mut out = Vec::new();
        raw_line(&mut out, &message("READY", "{\n}"));
        assert_eq!(out, b"{ }\n");
    }

    #[test]
    fn a_short_line_says_where_and_what_and_obeys_nobody() {
        let body =
            r#"{"id":"7","channel_id":"5","author":{"username":"eve\u001b[2J"},"content":"hi\nthere\u009b"}"#;
        let mut out = Vec::new();
        short_line(&mut out, Some(2), &message("MESSAGE_CREATE", body), false);
        let line = String::from_utf8(out).unwrap();
        assert!(line.starts_with("22:13:20    2/9 MESSAGE_CREATE"), "{line}");
        assert!(line.contains("@eve [2J \"hi there \" channel_id=5 id=7"), "{line}");
        assert_eq!(line.chars().filter(|c| c.is_control()).count(), 1, "the line's end alone: {line:?}");
        let mut out = Vec::new();
        short_line(&mut out, None, &message("X", &format!("{{\"name\":\"{}\"}}", "é".repeat(500))), true);
        assert!(out.len() < 400 && out.ends_with(b"...\n"));
    }

    #[test]
    fn pretty_means_the_same() {
        let json = "{\"a\":[],\"b\":[1.50,{\"c\":\"x,\\\"{}:\\\\\"}],\"d\":{ },\"e\":\"\u{9b}\"}";
        let pretty = String::from_utf8(pretty(json.as_bytes())).unwrap();
        assert_eq!(
            pretty,
            "{\n  \"a\": [],\n  \"b\": [\n    1.50,\n    {\n      \"c\": \"x,\\\"{}:\\\\\"\n    }\n  ],\n  \"d\": {},\n  \
             \"e\": \"\\u009b\"\n}"
        );
        let value = |text: &str| serde_json::from_str::<Value>(text).unwrap();
        assert_eq!(value(&pretty), value(json));
    }
}
