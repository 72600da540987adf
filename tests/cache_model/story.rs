//! The corpus' story against the oracle: its counts after every step; and what reads corpus files.

use super::oracle::{Options, Oracle};
use serde_json::{Value, json};
use std::path::PathBuf;

/// Counts where a policy differs from `reference_cache.py`'s: (from step, count, difference, reason).
///
/// Its other differences show in no count: outages keep their children (in the story they have none), thread
/// members of unknown threads, counters of threads, keys of members and presences.
const DIFFERENCES: &[(u64, &str, i64, &str)] = &[];

pub fn path_of(file: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(file)
}

pub fn corpus(file: &str) -> Value {
    let bytes = std::fs::read(path_of(file)).unwrap_or_else(|e| panic!("{file}: {e}"));
    serde_json::from_slice(&bytes).unwrap_or_else(|e| panic!("{file}: {e}"))
}

/// The names of a folder's payloads, without their ending.
pub fn files(folder: &str) -> Vec<String> {
    let entries = std::fs::read_dir(path_of(folder)).expect("the corpus is part of the repository");
    let names = entries.map(|entry| entry.expect("readable").file_name().into_string().expect("ASCII"));
    let mut names: Vec<String> = names.filter_map(|n| n.strip_suffix(".json").map(str::to_owned)).collect();
    names.sort();
    names
}

pub fn apply(oracle: &mut Oracle, file: &str) -> bool {
    let payload = corpus(file);
    oracle.apply(0, payload["t"].as_str().expect("a name"), &payload["d"])
}

pub fn told(files: &[&str]) -> Oracle {
    let mut oracle = Oracle::new(Options::all(100));
    files.iter().for_each(|file| assert!(apply(&mut oracle, file), "{file}"));
    oracle
}

/// READY and the small guild.
pub fn small() -> Oracle {
    told(&["READY.json", "GUILD_CREATE.small.json"])
}

pub fn ask(oracle: &Oracle, kind: &str, ids: &[&str]) -> Option<Value> {
    oracle.query(kind, &ids.iter().map(|id| json!(id)).collect::<Vec<_>>()).hit()
}

#[test]
fn the_story_has_the_expected_counts_after_every_step() {
    let expected = corpus("story_expected.json");
    let mut oracle = Oracle::new(Options::all(1000));
    let mut counts = serde_json::Map::new();
    for step in expected["steps"].as_array().expect("steps") {
        let file = step["file"].as_str().expect("a file");
        assert!(apply(&mut oracle, file), "{file} was refused");
        counts.extend(step["changed"].as_object().expect("counts").clone());
        let stats = oracle.stats();
        for (key, count) in &counts {
            let s = step["s"].as_u64().expect("a number");
            let difference: i64 =
                DIFFERENCES.iter().filter(|d| d.0 <= s && d.1 == key).map(|(_, _, by, _)| by).sum();
            assert_eq!(stats[key].as_i64(), count.as_i64().map(|c| c + difference), "{key} after {s} {file}");
        }
        super::invariants::check(&oracle);
    }
    for (guild, count) in expected["member_counts"].as_object().expect("counts") {
        let found = ask(&oracle, "Guild", &[guild]).expect("a guild");
        assert_eq!(found.get("member_count").unwrap_or(&Value::Null), count, "{guild}");
        assert_eq!(found.get("name").unwrap_or(&Value::Null), &expected["guild_names"][guild], "{guild}");
    }
    let rings = oracle.partitions[&0].rings.values();
    let mut messages: Vec<u64> = rings.flat_map(|ring| ring.messages.iter().map(|(id, _)| *id)).collect();
    messages.sort_unstable();
    let messages: Vec<String> = messages.iter().map(u64::to_string).collect();
    assert_eq!(json!(messages), expected["message_ids"]);
    assert_eq!(oracle.query("CurrentUser", &[]).hit().expect("a user")["username"], expected["current_user"]);
}
