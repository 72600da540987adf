//! Every bad payload of the corpus, each on a shard of its own: that shard resumes, the others notice nothing.

use std::path::PathBuf;

use rateway::sim::Fault;

use crate::support::{Setup, wait_for};

/// Passes by design: its fault lies inside `d`, which is the worker's to read. See `tests/corpus_envelope.rs`.
const PASSES: &str = "syntax_trailing_comma_array";

fn corpus() -> Vec<(String, Vec<u8>)> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/bad");
    let mut files = Vec::new();
    for entry in std::fs::read_dir(root).expect("the corpus is part of the repository") {
        let path = entry.expect("a readable folder").path();
        let name = path.file_stem().and_then(|stem| stem.to_str()).expect("an ASCII name").to_owned();
        files.push((name, std::fs::read(&path).expect("a readable file")));
    }
    files.sort();
    assert_eq!(files.len(), 107);
    files
}

fn each_bad_payload_costs_its_shard_one_connection(label: &'static str, compression: &str) {
    let files = corpus();
    // Beside the victims, some that only watch.
    let shards = u32::try_from(files.len()).expect("few") + 5;
    let stage = Setup::new(label, shards, 40).env("COMPRESSION", compression).start();
    stage.settle();
    let mut victims = Vec::new();
    for (shard, (name, payload)) in (0..).zip(&files) {
        if name.starts_with("body_") || name == PASSES {
            // A good envelope: it is an event like others, numbered, and comes as it is.
            let text = std::str::from_utf8(payload).expect("text");
            let event = text.split('"').nth(3).expect("the event's name");
            let event = if event == "X" { "SOMETHING_NEW_CREATE" } else { event };
            let d = text.split_once(r#""d":"#).expect("a d").1.trim_end();
            stage.emit(shard, event, &d[..d.len() - 1]);
            continue;
        }
        assert!(stage.sim.inject(Fault::Payload { shard, bytes: payload.clone() }), "{name}");
        // A HELLO out of place says nothing that a connection in use needs. Nothing, compressed, is no message.
        if name.starts_with("envelope_hello") || (compression != "none" && payload.is_empty()) {
            continue;
        }
        victims.push((shard, name));
    }
    wait_for("the victims' return", || {
        let sessions = stage.sim.ledger().sessions;
        let back = |shard| sessions.values().any(|s| s.shard_id == shard && s.resumes > 0);
        let missing: Vec<_> =
            victims.iter().filter(|&&(shard, _)| !back(shard)).map(|(_, name)| name).collect();
        if missing.is_empty() { Ok(()) } else { Err(format!("{missing:?}")) }
    });
    for shard in 0..shards {
        stage.emit(shard, "MESSAGE_CREATE", &format!(r#"{{"content":"afterwards {shard}"}}"#));
    }
    // All that the stand-in numbered has arrived, once: nothing of a bad payload took the place of an event.
    let repeats = stage.judge();
    assert_eq!(repeats, 0);
    let ledger = stage.sim.ledger();
    assert_eq!(
        ledger.connections,
        u64::from(shards) + victims.len() as u64,
        "each victim connected once more, nobody else"
    );
    assert_eq!(ledger.sessions.len(), shards as usize, "every session went on");
    assert_eq!(ledger.resumes, victims.len() as u64);
    for session in ledger.sessions.values().filter(|session| session.shard_id >= shards - 5) {
        assert_eq!((session.resumes, session.end), (0, None), "a watcher was touched");
    }
    // Never with a code that ends the session.
    assert_eq!(ledger.client_closes.get(&Some(1000)), None);
    assert_eq!(ledger.client_closes.get(&Some(1001)), None);
}

#[test]
fn bad_payloads_in_a_zlib_stream() {
    each_bad_payload_costs_its_shard_one_connection("badzlib", "zlib");
}

#[test]
fn bad_payloads_as_plain_text() {
    each_bad_payload_costs_its_shard_one_connection("badplain", "none");
}
