//! How small entities become, and how long that takes: the parts of the corpus's guilds, each as the cache keeps it.
//!
//! The table of sizes comes first: bytes per entity as JSON and encoded, and the shapes that stand for all of them.

use std::collections::BTreeMap;

use rateway::cache::encoding::{Context, Encoder, Entity, Parser, Pick, Shapes};
use serde_json::value::RawValue;

const GUILDS: [&str; 3] = ["small", "medium", "large"];
const LISTS: [&str; 6] = ["members", "roles", "channels", "presences", "emojis", "voice_states"];
const KINDS: [&str; 7] = ["member", "user", "role", "channel", "presence", "emoji", "voice_state"];

fn main() {
    sizes();
    divan::main();
}

/// An entity as the cache is given it.
struct Kept {
    json: Vec<u8>,
    context: Context,
    /// Fields that are kept elsewhere.
    without: &'static [&'static str],
}

/// The members, roles and so on of a guild.
fn entities(guild: &str) -> BTreeMap<&'static str, Vec<Kept>> {
    let path = format!("{}/tests/corpus/GUILD_CREATE.{guild}.json", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read(path).expect("the corpus is part of the repository");
    let payload: BTreeMap<String, &RawValue> = serde_json::from_slice(&text).unwrap();
    let mut guild: BTreeMap<String, &RawValue> = serde_json::from_str(payload["d"].get()).unwrap();
    let id_of = |text: &RawValue| serde_json::from_str::<String>(text.get()).unwrap().parse().unwrap();
    let guild_id: u64 = id_of(guild["id"]);
    let mut out: BTreeMap<&str, Vec<Kept>> = BTreeMap::new();
    for (list, kind) in
        LISTS.into_iter().zip(["member", "role", "channel", "presence", "emoji", "voice_state"])
    {
        let values: Vec<&RawValue> = serde_json::from_str(guild[list].get()).unwrap();
        for value in values {
            let fields: BTreeMap<String, &RawValue> = serde_json::from_str(value.get()).unwrap();
            let user: Option<&RawValue> = fields.get("user").copied();
            let user_id = user.map(|user| {
                let user: BTreeMap<String, &RawValue> = serde_json::from_str(user.get()).unwrap();
                id_of(user["id"])
            });
            let own = match kind {
                "member" | "presence" => user_id.unwrap_or(0),
                "voice_state" => id_of(fields["user_id"]),
                _ => id_of(fields["id"]),
            };
            let without: &[&str] = match kind {
                "member" => &["user", "guild_id"],
                "presence" | "voice_state" => &["guild_id"],
                _ => &[],
            };
            let mut put = |kind, value: &RawValue, parent, without| {
                let json = value.get().as_bytes().to_vec();
                out.entry(kind).or_default().push(Kept { json, context: Context { own, parent }, without });
            };
            put(kind, value, guild_id, without);
            if let ("member", Some(user)) = (kind, user) {
                put("user", user, 0, &[]);
            }
        }
    }
    // What is left is the guild's own object.
    const ELSEWHERE: [&str; 5] =
        ["threads", "stickers", "stage_instances", "guild_scheduled_events", "soundboard_sounds"];
    guild.retain(|key, _| !LISTS.contains(&key.as_str()) && !ELSEWHERE.contains(&key.as_str()));
    let json = serde_json::to_vec(&guild).unwrap();
    out.insert("guild", vec![Kept { json, context: Context { own: guild_id, parent: 0 }, without: &[] }]);
    out
}

/// What is measured with.
struct Desk {
    parser: Parser,
    encoder: Encoder,
    shapes: Shapes,
    out: Vec<u8>,
}

impl Desk {
    fn new() -> Desk {
        Desk { parser: Parser::new(), encoder: Encoder::new(), shapes: Shapes::default(), out: Vec::new() }
    }

    fn encode(&mut self, kept: &Kept) {
        let Desk { parser, encoder, shapes, out } = self;
        out.clear();
        parser
            .read(&kept.json, |value| {
                encoder.encode(value, Pick::Without(kept.without), kept.context, shapes, out)
            })
            .unwrap()
            .unwrap();
    }
}

/// The JSON of what is kept: without the fields that are elsewhere.
fn json_length(kept: &Kept) -> usize {
    let mut fields: BTreeMap<String, &RawValue> = serde_json::from_slice(&kept.json).unwrap();
    fields.retain(|key, _| !kept.without.contains(&key.as_str()));
    serde_json::to_vec(&fields).unwrap().len()
}

fn sizes() {
    println!("{:<8}{:<14}{:>6}{:>10}{:>10}{:>8}", "guild", "kind", "count", "json", "encoded", "share");
    let mut desk = Desk::new();
    for guild in GUILDS {
        for (kind, list) in entities(guild) {
            let raw: usize = list.iter().map(json_length).sum();
            let mut encoded = 0;
            for kept in &list {
                desk.encode(kept);
                encoded += desk.out.len();
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
        println!("{guild:<8}{:?}, {} bytes in all", desk.shapes.stats(), desk.shapes.memory_bytes());
    }
}

/// An entity in the middle of its list.
fn sample(kind: &str) -> Kept {
    let mut list = entities("large").remove(kind).unwrap();
    list.swap_remove(list.len() / 2)
}

#[divan::bench(args = KINDS)]
fn parse(bencher: divan::Bencher, kind: &str) {
    let kept = sample(kind);
    let mut parser = Parser::new();
    bencher.bench_local(|| parser.read(divan::black_box(&kept.json), |value| value.len()));
}

/// From a text that was parsed, as for the parts of an event.
#[divan::bench(args = KINDS)]
fn encode(bencher: divan::Bencher, kind: &str) {
    let kept = sample(kind);
    let Desk { mut parser, mut encoder, shapes, mut out } = Desk::new();
    parser
        .read(&kept.json, |value| {
            bencher.bench_local(|| {
                out.clear();
                encoder.encode(
                    divan::black_box(value),
                    Pick::Without(kept.without),
                    kept.context,
                    &shapes,
                    &mut out,
                )
            });
        })
        .unwrap();
}

/// The whole of it again, as for the author of each message.
#[divan::bench(args = KINDS)]
fn matches(bencher: divan::Bencher, kind: &str) {
    let kept = sample(kind);
    let mut desk = Desk::new();
    desk.encode(&kept);
    let Desk { mut parser, mut encoder, shapes, out } = desk;
    let old = Entity { bytes: &out, context: kept.context, shapes: &shapes };
    parser
        .read(&kept.json, |value| {
            bencher.bench_local(|| {
                assert!(encoder.matches(old, divan::black_box(value), Pick::Without(kept.without)));
            });
        })
        .unwrap();
}

#[divan::bench(args = KINDS)]
fn merge_the_same(bencher: divan::Bencher, kind: &str) {
    let kept = sample(kind);
    let mut desk = Desk::new();
    desk.encode(&kept);
    let Desk { mut parser, mut encoder, shapes, out } = desk;
    let old = Entity { bytes: &out, context: kept.context, shapes: &shapes };
    let mut new = Vec::new();
    parser
        .read(&kept.json, |value| {
            bencher.bench_local(|| {
                new.clear();
                encoder.merge(old, divan::black_box(value), Pick::Without(kept.without), &mut new)
            });
        })
        .unwrap();
}

#[divan::bench]
fn merge_three_fields_into_a_member(bencher: divan::Bencher) {
    let kept = sample("member");
    let mut desk = Desk::new();
    desk.encode(&kept);
    let Desk { mut parser, mut encoder, shapes, out } = desk;
    let old = Entity { bytes: &out, context: kept.context, shapes: &shapes };
    let mut new = Vec::new();
    parser
        .read(br#"{"nick":"Otter","roles":["289911139412385799"],"mute":true}"#, |value| {
            bencher.bench_local(|| {
                new.clear();
                encoder.merge(old, divan::black_box(value), Pick::All, &mut new)
            });
        })
        .unwrap();
}

#[divan::bench(args = KINDS)]
fn write(bencher: divan::Bencher, kind: &str) {
    let kept = sample(kind);
    let mut desk = Desk::new();
    desk.encode(&kept);
    let entity = Entity { bytes: &desk.out, context: kept.context, shapes: &desk.shapes };
    let mut text = Vec::new();
    bencher.bench_local(|| {
        text.clear();
        divan::black_box(entity).write(&mut text)
    });
}

#[divan::bench(args = [("member", "roles"), ("member", "avatar"), ("channel", "parent_id"), ("role", "id")])]
fn field(bencher: divan::Bencher, (kind, key): (&str, &str)) {
    let kept = sample(kind);
    let mut desk = Desk::new();
    desk.encode(&kept);
    let entity = Entity { bytes: &desk.out, context: kept.context, shapes: &desk.shapes };
    bencher.bench_local(|| divan::black_box(entity).field(key).unwrap().is_some());
}
