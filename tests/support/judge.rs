//! What arrived, held against what the stand-in says that it sent.

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rateway::gateway::session::session_hash;
use rateway::sim::{Ledger, hash};
use serde_json::json;

use super::Message;

/// Fails unless the messages are the ledger's dispatches: all of them, byte for byte, per shard in the order in which
/// Discord sent them, each once. A second arrival is allowed where it says so, by the header `repeat` or the broker's own
/// `redelivered`. Returns how many arrived a second time.
///
/// `blanked_url` is the resume URL of every READY where rateway is to blank READY's secrets; else READY comes whole.
pub fn judge(ledger: &Ledger, messages: &[Message], per_cluster: u32, blanked_url: Option<&str>) -> usize {
    let mut arrived: BTreeMap<u32, Vec<&Message>> = BTreeMap::new();
    let mut ids = HashSet::new();
    let mut repeats = 0;
    for message in messages.iter().filter(|message| message.is_event()) {
        check_properties(message);
        let shard = message.shard_id();
        assert_eq!(message.cluster, shard / per_cluster + 1, "on another cluster's exchange: {message:?}");
        if ids.insert(message.message_id()) {
            arrived.entry(shard).or_default().push(message);
        } else {
            let again = message.header("repeat").is_some() || message.json["redelivered"] == true;
            assert!(again, "came twice without a word about it: {message:?}");
            repeats += 1;
        }
    }
    let mut shards: Vec<u32> = ledger.dispatch_log.iter().map(|dispatch| dispatch.shard_id).collect();
    shards.sort_unstable();
    shards.dedup();
    assert_eq!(arrived.keys().copied().collect::<Vec<_>>(), shards, "the shards whose events arrived");
    for shard in shards {
        let sent: Vec<_> = ledger.dispatches_of(shard).collect();
        let got = &arrived[&shard];
        for (place, (sent, got)) in sent.iter().zip(got).enumerate() {
            let session = &ledger.sessions[&sent.session];
            let id = format!("{shard}-{:016x}-{}", session_hash(&session.session_id), sent.seq);
            assert_eq!(got.message_id(), id, "shard {shard}, place {place}");
            assert_eq!(
                (got.key.as_str(), got.seq()),
                (&*sent.event, sent.seq),
                "shard {shard}, place {place}"
            );
            let body = match blanked_url {
                Some(url) if &*sent.event == "READY" => with_secrets(got, &session.session_id, url),
                _ => got.body.clone(),
            };
            assert_eq!(hash(&body), sent.d_hash, "{id} is not what was sent: {}", got.text());
        }
        assert_eq!(got.len(), sent.len(), "events of shard {shard}");
    }
    repeats
}

/// Puts the blanked secrets of a READY back, so that the rest can be compared byte for byte.
fn with_secrets(ready: &Message, session_id: &str, url: &str) -> Vec<u8> {
    let text = ready.text();
    assert!(!text.contains(session_id), "READY shows its session id");
    let parts =
        (text.matches(r#""session_id":"""#).count(), text.matches(r#""resume_gateway_url":"""#).count());
    assert_eq!(parts, (1, 1), "READY's secrets are blanked: {text}");
    text.replace(r#""session_id":"""#, &format!(r#""session_id":"{session_id}""#))
        .replace(r#""resume_gateway_url":"""#, &format!(r#""resume_gateway_url":"{url}""#))
        .into_bytes()
}

fn check_properties(message: &Message) {
    assert_eq!(message.json["content_type"], "application/json", "{message:?}");
    assert_eq!(message.json["app_id"], "rateway", "{message:?}");
    assert_eq!(message.json["delivery_mode"], 2, "{message:?}");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    let at = message.json["timestamp"].as_u64().expect("a timestamp");
    assert!(at <= now && now - at < Duration::from_secs(3600).as_secs(), "timestamp {at}, now {now}");
    let kinds: Vec<_> = ["shard_id", "seq"].iter().map(|name| message.header(name).map(|(k, _)| k)).collect();
    assert_eq!(kinds, [Some("I"), Some("l")], "types of shard_id and seq: {message:?}");
    match message.header("repeat") {
        None => {}
        Some(repeat) => assert_eq!(repeat, ("t", &json!(true)), "{message:?}"),
    }
    let known = ["shard_id", "seq", "repeat"];
    let headers = message.json["headers"].as_object().expect("headers");
    assert!(headers.keys().all(|name| known.contains(&name.as_str())), "{message:?}");
}
