//! How small entities become, and how long that takes: the parts of the corpus's guilds, each an entity.
//!
//! The table of sizes comes first: bytes per entity as JSON and encoded, and the shapes that stand for all of them.

use std::collections::BTreeMap;

use rateway::cache::encoding::{Encoder, Shapes, decode, field};
use serde_json::value::RawValue;

const GUILDS: [&str; 3] = ["small", "medium", "large"];
const KINDS: [&str; 6] = ["members", "roles", "channels", "presences", "emojis", "voice_states"];

fn main() {
    sizes();
    divan::main();
}

/// The members, roles and so on of a guild, as text; `users` are the members' users.
fn entities(guild: &str) -> BTreeMap<String, Vec<Vec<u8>>> {
    let path = format!("{}/tests/corpus/GUILD_CREATE.{guild}.json", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read(path).expect("the corpus is part of the repository");
    let payload: BTreeMap<String, &RawValue> = serde_json::from_slice(&text).unwrap();
    let mut guild: BTreeMap<String, &RawValue> = serde_json::from_str(payload["d"].get()).unwrap();
    let mut out: BTreeMap<String, Vec<Vec<u8>>> = BTreeMap::new();
    for kind in KINDS {
        let list: Vec<&RawValue> = serde_json::from_str(guild[kind].get()).unwrap();
        out.insert(kind.to_owned(), list.iter().map(|it| it.get().as_bytes().to_vec()).collect());
    }
    let users = |member: &Vec<u8>| {
        let member: BTreeMap<String, &RawValue> = serde_json::from_slice(member).unwrap();
        member["user"].get().as_bytes().to_vec()
    };
    out.insert("users".into(), out["members"].iter().map(users).collect());
    // What is left is the guild's own object.
    const LISTS: [&str; 5] =
        ["threads", "stickers", "stage_instances", "guild_scheduled_events", "soundboard_sounds"];
    guild.retain(|key, _| !KINDS.contains(&key.as_str()) && !LISTS.contains(&key.as_str()));
    out.insert("guild".into(), vec![serde_json::to_vec(&guild).unwrap()]);
    out
}

fn sizes() {
    println!("{:<8}{:<14}{:>6}{:>10}{:>10}{:>8}", "guild", "kind", "count", "json", "encoded", "share");
    let (mut encoder, mut shapes, mut out) = (Encoder::new(), Shapes::default(), Vec::new());
    for guild in GUILDS {
        for (kind, list) in entities(guild) {
            let raw: usize = list.iter().map(Vec::len).sum();
            let mut encoded = 0;
            for entity in &list {
                encoder.encode(entity, &mut shapes, &mut out).unwrap();
                encoded += out.len();
            }
            let count = list.len().max(1) as f64;
            println!(
                "{guild:<8}{kind:<14}{:>6}{:>10.1}{:>10.1}{:>8.3}",
                list.len(),
                raw as f64 / count,
                encoded as f64 / count,
                encoded as f64 / raw.max(1) as f64
            );
        }
        println!("{guild:<8}{:?}", shapes.stats());
    }
}

/// An entity in the middle of its list.
fn sample(kind: &str) -> Vec<u8> {
    let list = &entities("large")[kind];
    list[list.len() / 2].clone()
}

#[divan::bench(args = KINDS)]
fn encode_text(bencher: divan::Bencher, kind: &str) {
    let json = sample(kind);
    let (mut encoder, mut shapes, mut out) = (Encoder::new(), Shapes::default(), Vec::new());
    bencher
        .counter(divan::counter::BytesCount::new(json.len()))
        .bench_local(|| encoder.encode(divan::black_box(&json), &mut shapes, &mut out));
}

/// Without the parse, as for the parts of a payload that was parsed whole.
#[divan::bench(args = KINDS)]
fn encode_nodes(bencher: divan::Bencher, kind: &str) {
    let mut json = sample(kind);
    let (mut encoder, mut shapes, mut out) = (Encoder::new(), Shapes::default(), Vec::new());
    let length = json.len();
    let tape = simd_json::to_tape(&mut json).unwrap();
    bencher
        .counter(divan::counter::BytesCount::new(length))
        .bench_local(|| encoder.encode_nodes(divan::black_box(&tape.0), &mut shapes, &mut out));
}

#[divan::bench(args = KINDS)]
fn decode_to_text(bencher: divan::Bencher, kind: &str) {
    let json = sample(kind);
    let (mut encoder, mut shapes, mut bytes) = (Encoder::new(), Shapes::default(), Vec::new());
    encoder.encode(&json, &mut shapes, &mut bytes).unwrap();
    let mut out = Vec::new();
    bencher
        .counter(divan::counter::BytesCount::new(json.len()))
        .bench_local(|| decode(divan::black_box(&bytes), &shapes, &mut out));
}

#[divan::bench(args = ["joined_at", "banner"])]
fn one_field_of_a_member(bencher: divan::Bencher, key: &str) {
    let (mut encoder, mut shapes, mut bytes) = (Encoder::new(), Shapes::default(), Vec::new());
    encoder.encode(&sample("members"), &mut shapes, &mut bytes).unwrap();
    bencher.bench_local(|| field(divan::black_box(&bytes), &shapes, key).unwrap().is_some());
}

#[divan::bench]
fn merge_a_nick_into_a_member(bencher: divan::Bencher) {
    let (mut encoder, mut shapes, mut bytes) = (Encoder::new(), Shapes::default(), Vec::new());
    encoder.encode(&sample("members"), &mut shapes, &mut bytes).unwrap();
    let mut out = Vec::new();
    let patch = br#"{"nick":"Otter","roles":["289911139412385799"],"mute":true}"#;
    bencher.bench_local(|| encoder.merge(&bytes, divan::black_box(patch), &mut shapes, &mut out));
}
