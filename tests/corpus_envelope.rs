//! The envelope reader against the corpus: every event, every odd but valid payload, every bad one.

use rateway::gateway::envelope::{self, Envelope};
use std::collections::BTreeSet;
use std::path::PathBuf;

/// Bad payloads that pass the envelope because their fault lies inside `d` (in its commas, literals or numbers), or
/// is about what `d` means. Their readers refuse them: the shard machine for control payloads, the cache for bodies.
const PASS_BY_DESIGN: &[&str] = &[
    "body_guild_create_members_object",
    "body_id_float",
    "body_id_missing",
    "body_id_negative",
    "body_id_not_number",
    "body_id_over_u64",
    "body_message_create_string",
    "envelope_hello_d_null",
    "envelope_hello_interval_negative",
    "envelope_hello_interval_string",
    "envelope_hello_interval_zero",
    "envelope_hello_no_d",
    "envelope_hello_no_interval",
    "envelope_invalid_session_d_string",
    "envelope_ready_d_array",
    "envelope_ready_no_session_id",
    "envelope_ready_resume_url_number",
    "envelope_ready_session_id_null",
    "syntax_trailing_comma_array",
];

fn files(folder: &str) -> Vec<(String, Vec<u8>)> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(folder);
    let mut files = vec![];
    for entry in std::fs::read_dir(root).expect("the corpus is part of the repository") {
        let path = entry.expect("a readable folder").path();
        let name = path.file_name().and_then(|n| n.to_str()).expect("an ASCII name");
        if let Some(stem) = name.strip_suffix(".json") {
            files.push((stem.to_owned(), std::fs::read(&path).expect("a readable file")));
        }
    }
    files.sort();
    files
}

fn read(name: &str, payload: &[u8]) -> (Envelope, Option<String>) {
    let envelope = envelope::scan(payload).unwrap_or_else(|e| panic!("{name}: {e}"));
    let mut unescaped = String::new();
    let event = envelope.event_name(payload, &mut unescaped).map(str::to_owned);
    (envelope, event)
}

fn edge(name: &str) -> (Envelope, Option<String>, Vec<u8>) {
    let path = format!("{}/tests/corpus/edge/{name}.json", env!("CARGO_MANIFEST_DIR"));
    let payload = std::fs::read(path).expect(name);
    let (envelope, event) = read(name, &payload);
    (envelope, event, payload)
}

#[test]
fn every_event_of_the_story_reads_as_its_file_says() {
    let story = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus/STORY");
    let story = std::fs::read_to_string(story).expect("the story");
    let mut seen = 0;
    for line in story.lines().filter(|line| !line.trim().is_empty()) {
        let (seq, file) = line.split_once(' ').expect("a number and a file");
        let path = format!("{}/tests/corpus/{file}", env!("CARGO_MANIFEST_DIR"));
        let payload = std::fs::read(path).expect(file);
        let (envelope, event) = read(file, &payload);
        assert_eq!(envelope.op, 0, "{file}");
        assert_eq!(envelope.seq, seq.parse().ok(), "{file}");
        assert_eq!(event.as_deref(), file.split('.').next(), "{file}");
        let d = envelope.d(&payload);
        let parsed: serde_json::Value = serde_json::from_slice(d).expect(file);
        let whole: serde_json::Value = serde_json::from_slice(&payload).expect(file);
        assert_eq!(parsed, whole["d"], "{file}");
        seen += 1;
    }
    assert_eq!(seen, 109);
}

#[test]
fn control_payloads_read_in_both_forms() {
    for (name, payload) in files("control") {
        let (envelope, event) = read(&name, &payload);
        assert!(matches!(envelope.op, 1 | 7 | 9 | 10 | 11), "{name}");
        assert_eq!((envelope.seq, event), (None, None), "{name}");
    }
}

#[test]
fn odd_but_valid_payloads_are_read_like_a_full_parse_reads_them() {
    // Forms of numbers that may be refused, and are.
    let refused = ["s_written_as_float", "op_written_as_exponent"];
    for (name, payload) in files("edge") {
        if refused.contains(&name.as_str()) {
            assert!(envelope::scan(&payload).is_err(), "{name}");
            continue;
        }
        let (envelope, event) = read(&name, &payload);
        // serde_json refuses lone surrogates and numbers beyond a double, which are valid text.
        let Ok(whole) = serde_json::from_slice::<serde_json::Value>(&payload) else {
            assert!(["lone_surrogates", "number_forms"].contains(&name.as_str()), "{name}");
            continue;
        };
        assert_eq!(Some(envelope.op), whole["op"].as_u64(), "{name}");
        assert_eq!(envelope.seq, whole["s"].as_u64(), "{name}");
        assert_eq!(event.as_deref(), whole["t"].as_str(), "{name}");
        let d: serde_json::Value = serde_json::from_slice(envelope.d(&payload)).expect(&name);
        assert_eq!(d, whole["d"], "{name}");
    }
}

#[test]
fn the_values_that_the_corpus_promises() {
    let cases = [
        ("escaped_keys", 0, Some(5008)),
        ("escaped_event_name", 0, Some(5009)),
        ("envelope_inside_content", 0, Some(5011)),
        ("envelope_inside_content_d_first", 0, Some(5010)),
        ("envelope_keys_nested_before_real", 0, Some(5012)),
        ("s_2p53_plus_1", 0, Some((1 << 53) + 1)),
        ("s_i64_max", 0, Some(i64::MAX as u64)),
        ("s_u64_max", 0, Some(u64::MAX)),
        ("s_zero", 0, Some(0)),
        ("unknown_opcode_256", 256, None),
        ("unknown_opcode_2p32", (1 << 32) + 10, None),
        ("dispatch_t_null", 0, Some(5053)),
        ("duplicate_s", 0, Some(5060)),
    ];
    for (name, op, seq) in cases {
        let (envelope, ..) = edge(name);
        assert_eq!((envelope.op, seq.or(envelope.seq)), (op, envelope.seq), "{name}");
    }
    assert_eq!(edge("duplicate_op").0.op, 0);
    assert_eq!(edge("duplicate_t_escaped").1.as_deref(), Some("MESSAGE_CREATE"));
    assert_eq!(edge("escaped_event_name").1.as_deref(), Some("MESSAGE_CREATE"));
    let (envelope, _, payload) = edge("duplicate_d");
    assert!(String::from_utf8_lossy(envelope.d(&payload)).contains("second d"));
    assert_eq!(edge("dispatch_d_missing").0.d, None);
    assert!(edge("dispatch_d_null").0.d.is_some());
    assert_eq!(edge("unknown_event_empty_name").1.as_deref(), Some(""));
}

#[test]
fn bad_payloads_are_refused_save_those_listed() {
    let listed: BTreeSet<_> = PASS_BY_DESIGN.iter().copied().collect();
    assert_eq!(listed.len(), PASS_BY_DESIGN.len(), "a name is listed twice");
    let mut passed = BTreeSet::new();
    let bad = files("bad");
    assert_eq!(bad.len(), 107);
    for (name, payload) in &bad {
        if envelope::scan(payload).is_ok() {
            passed.insert(name.as_str());
        }
    }
    assert_eq!(passed, listed);
}
