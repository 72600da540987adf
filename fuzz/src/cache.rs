//! Payloads, divided by bytes 0xff, into a small cache that knows a guild: whatever they are, memory stays within its
//! bound, counts add up, and every answer is JSON.

use rateway::cache::question::Question;
use rateway::cache::{Answer, Cache, Holding, KindSet, Options, Scratch};
use rateway::gateway::envelope::scan;
use serde_json::Value;

const READY: &[u8] = include_bytes!("../../tests/corpus/READY.json");
const GUILD: &[u8] = include_bytes!("../../tests/corpus/GUILD_CREATE.small.json");

/// Every question of one id and of two.
const ONE: [&str; 16] = [
    "GuildChannel",
    "Emoji",
    "Group",
    "Guild",
    "PrivateChannel",
    "Role",
    "User",
    "VoiceChannelStates",
    "GuildChannels",
    "GuildRoles",
    "GuildEmojis",
    "GuildMembers",
    "Thread",
    "Sticker",
    "StageInstance",
    "ScheduledEvent",
];
const TWO: [&str; 4] = ["Member", "Message", "Presence", "VoiceState"];

fn apply(cache: &Cache, scratch: &mut Scratch, payload: &[u8]) {
    let Ok(envelope) = scan(payload) else { return };
    let mut name = String::new();
    if let Some(name) = envelope.event_name(payload, &mut name) {
        cache.apply(0, name, envelope.d(payload), scratch);
    }
}

fn ask(cache: &Cache, scratch: &mut Scratch, kind: &str, ids: &[u64], readable: bool) -> Option<Value> {
    let mut out = Vec::new();
    let question = Question::new(kind, ids).expect("a question");
    match cache.ask(question, scratch, &mut out) {
        Answer::Found => match serde_json::from_slice(&out) {
            Ok(value) => Some(value),
            // serde_json takes neither lone surrogates nor numbers beyond its types.
            Err(error) => {
                assert!(!readable, "{kind} {ids:?}: {error}: {}", String::from_utf8_lossy(&out));
                None
            }
        },
        Answer::Missing => {
            assert!(out.is_empty());
            None
        }
        Answer::Busy => panic!("nobody else is here"),
        Answer::TooLarge => None,
    }
}

/// One run.
pub fn run(bytes: &[u8]) {
    let options = Options {
        memory_bytes: 512 * 1024,
        holding: Holding { kinds: KindSet::all(), message_cache_size: 3, members_are_told: false },
        shards: vec![0],
        shard_count: 1,
        seed: [3, 4],
    };
    let (cache, mut scratch) = (Cache::new(options).expect("memory"), Scratch::default());
    apply(&cache, &mut scratch, READY);
    apply(&cache, &mut scratch, GUILD);
    let mut readable = true;
    for payload in bytes.split(|byte| *byte == 0xff) {
        readable &= serde_json::from_slice::<Value>(payload).is_ok();
        apply(&cache, &mut scratch, payload);
    }
    assert_eq!(cache.audit(), Vec::<String>::new());
    cache.settle(&mut scratch);
    let text = String::from_utf8_lossy(bytes);
    let numbers = text.split(|c: char| !c.is_ascii_digit()).filter_map(|digits| digits.parse::<u64>().ok());
    let mut ids: Vec<u64> = numbers.take(24).collect();
    ids.sort_unstable();
    ids.dedup();
    for first in &ids {
        ONE.iter().for_each(|kind| drop(ask(&cache, &mut scratch, kind, &[*first], readable)));
        for second in ids.iter().take(8) {
            TWO.iter().for_each(|kind| drop(ask(&cache, &mut scratch, kind, &[*first, *second], readable)));
        }
    }
    let stats = ask(&cache, &mut scratch, "Stats", &[], true).expect("always there");
    let count = |of: &Value| of.as_u64().expect("a count");
    assert!(count(&stats["memory"]["peak_bytes"]) <= count(&stats["memory"]["capacity_bytes"]));
    assert_eq!(count(&stats["broken"]), 0);
    assert!(count(&stats["unavailable_guilds"]) <= count(&stats["guilds"]));
    // A count that had gone below 0 would be a very large one.
    assert!(
        stats.as_object().into_iter().flatten().all(|(_, count)| count.as_u64().is_none_or(|n| n < 1 << 40))
    );
}
