//! The cache beside the oracle: the same events, and after every step an equal answer to every question.
//!
//! Everything that the oracle holds is asked for, and counts are equal, so that nothing else is there. With memory so
//! small that it evicts, an answer may be missing or have fewer fields, and is never another entity's.
//!
//! `RATEWAY_SEEDS=n` runs that many seeds, `RATEWAY_SEED=n` one.

use super::generator::{Event, Generator, print, shrink};
use super::oracle::{KINDS, Kind, Options, Oracle};
use super::queries::{Answer as Expected, TYPES};
use rateway::base::rng::Rng;
use rateway::cache::arena::PAGE_BYTES;
use rateway::cache::kind::{self, KindSet};
use rateway::cache::question::Question;
use rateway::cache::{Answer, Applied, Cache, Holding, Scratch};
use serde_json::{Value, json};
use std::panic::{AssertUnwindSafe, catch_unwind};

const SEEDS: u64 = 2_000;
const LENGTH: usize = 60;

/// A cache and what is needed to ask it.
pub struct Real {
    pub cache: Cache,
    pub scratch: Scratch,
    options: Options,
}

impl Real {
    pub fn new(options: &Options, memory_bytes: usize) -> Real {
        Real::with(Cache::new(real_options(options, memory_bytes)).expect("memory"), options)
    }

    pub fn with(cache: Cache, options: &Options) -> Real {
        Real { cache, scratch: Scratch::default(), options: options.clone() }
    }

    /// One whose region has a few pages.
    fn with_pages(options: &Options, pages: usize) -> Real {
        let probe = 256 * 1024;
        let stats = Real::new(options, probe).ask("Stats", &[]).expect("always there");
        let beside = probe - stats["memory"]["capacity_bytes"].as_u64().expect("bytes") as usize;
        Real::new(options, beside + pages * PAGE_BYTES)
    }

    pub fn audit(&self) {
        let faults = self.cache.audit();
        assert!(faults.is_empty(), "{}", faults.join("; "));
    }

    pub fn apply(&mut self, shard: u32, event: &str, d: &Value) -> bool {
        self.apply_text(shard, event, d.to_string().as_bytes())
    }

    pub fn apply_text(&mut self, shard: u32, event: &str, d: &[u8]) -> bool {
        let partition = self.cache.partition_of(shard).expect("a shard of this process");
        self.cache.apply(partition, event, d, &mut self.scratch) == Applied::Done
    }

    pub fn ask(&mut self, kind: &str, ids: &[u64]) -> Option<Value> {
        let question = Question::new(kind, ids).expect("a question");
        let mut out = b"before".to_vec();
        let answer = self.cache.ask(question, &mut self.scratch, &mut out);
        assert!(out.starts_with(b"before"));
        match answer {
            Answer::Found => {
                let text = &out[b"before".len()..];
                let value = serde_json::from_slice(text);
                Some(value.unwrap_or_else(|e| panic!("{kind}: {e}: {}", String::from_utf8_lossy(text))))
            }
            Answer::Missing => {
                assert_eq!(out, b"before", "a miss writes nothing");
                None
            }
            other => panic!("{kind} {ids:?}: {other:?}"),
        }
    }
}

/// The oracle's options as the cache has them.
pub fn real_options(options: &Options, memory_bytes: usize) -> rateway::cache::Options {
    let mut kinds = KindSet::none();
    for (of_oracle, kind) in KINDS.into_iter().zip(kind::KINDS) {
        assert_eq!(format!("{of_oracle:?}"), format!("{kind:?}"), "both lists are in one order");
        if options.kinds.contains(&of_oracle) {
            kinds.insert(kind);
        }
    }
    rateway::cache::Options {
        memory_bytes,
        holding: Holding {
            kinds,
            message_cache_size: options.message_cache_size as u32,
            members_are_told: options.members_are_told,
        },
        shards: options.shards.clone(),
        shard_count: options.shard_count,
        seed: [1, 2],
    }
}

/// What the oracle holds, as questions.
pub fn questions(oracle: &Oracle) -> Vec<(&'static str, Vec<u64>)> {
    let mut all = vec![("CurrentUser", vec![])];
    for p in oracle.partitions.values() {
        for guild in p.guilds.keys() {
            for kind in ["Guild", "GuildChannels", "GuildRoles", "GuildEmojis", "GuildMembers"] {
                all.push((kind, vec![*guild]));
            }
        }
        for (id, channel) in &p.channels {
            let kinds: &[&str] = match channel.kind() {
                Kind::Thread => &["GuildChannel", "Thread"],
                Kind::PrivateChannel => &["PrivateChannel", "Group"],
                _ => &["GuildChannel", "VoiceChannelStates"],
            };
            all.extend(kinds.iter().map(|kind| (*kind, vec![*id])));
        }
        for (kind, id) in p.children.keys() {
            let kind = match kind {
                Kind::Role => "Role",
                Kind::Emoji => "Emoji",
                Kind::Sticker => "Sticker",
                Kind::StageInstance => "StageInstance",
                Kind::ScheduledEvent => "ScheduledEvent",
                _ => continue,
            };
            all.push((kind, vec![*id]));
        }
        all.extend(p.members.keys().map(|(guild, user)| ("Member", vec![*guild, *user])));
        all.extend(p.users.keys().map(|user| ("User", vec![*user])));
        all.extend(p.presences.keys().map(|(guild, user)| ("Presence", vec![*guild, *user])));
        for ((guild, user), state) in &p.voice_states {
            all.push(("VoiceState", vec![*user, *guild]));
            let channel = super::oracle::id(state, "channel_id").expect("a channel");
            all.push(("VoiceState", vec![*user, channel]));
            all.push(("VoiceChannelStates", vec![channel]));
        }
        for (channel, ring) in &p.rings {
            all.extend(ring.messages.iter().map(|(message, _)| ("Message", vec![*channel, *message])));
        }
    }
    all
}

fn expected(oracle: &Oracle, kind: &str, ids: &[u64]) -> Vec<Value> {
    let ids: Vec<Value> = ids.iter().map(|id| json!(id)).collect();
    oracle.candidates(kind, &ids).into_iter().filter_map(Expected::hit).collect()
}

fn check(oracle: &Oracle, real: &mut Real, kind: &str, ids: &[u64]) {
    if is_astray(oracle, kind, ids) {
        return;
    }
    let right = expected(oracle, kind, ids);
    match real.ask(kind, ids) {
        None => assert!(right.is_empty(), "{kind} {ids:?} is missing: {}", json!(right)),
        Some(answer) => {
            assert!(right.contains(&answer), "{kind} {ids:?}: {answer}, expected {}", json!(right));
        }
    }
}

/// Whether a question is about a guild whose events came by another shard than Discord's formula says (bent ids do
/// that): the cache looks where the formula says.
fn is_astray(oracle: &Oracle, kind: &str, ids: &[u64]) -> bool {
    let guild = match kind {
        "Guild" | "GuildChannels" | "GuildRoles" | "GuildEmojis" | "GuildMembers" | "Member" | "Presence" => {
            ids[0]
        }
        "VoiceState" => ids[1],
        _ => return false,
    };
    let shard = ((guild >> 22) % u64::from(oracle.options.shard_count)) as u32;
    oracle.partitions.iter().any(|(other, p)| *other != shard && p.guilds.contains_key(&guild))
}

/// Members of threads are in no answer; the cache keeps the bot's own alone, in the thread.
fn is_held(count: &str) -> bool {
    count != "thread_members"
}

/// Everything that the oracle has is there, and by the counts nothing else.
pub fn compare(oracle: &Oracle, real: &mut Real) {
    real.cache.settle(&mut real.scratch);
    let stats = real.ask("Stats", &[]).expect("always there");
    for (key, count) in oracle.stats().as_object().expect("counts").iter().filter(|(key, _)| is_held(key)) {
        assert_eq!(&stats[key], count, "{key}");
    }
    for (kind, ids) in questions(oracle) {
        check(oracle, real, kind, &ids);
    }
}

/// Every question for every id of the generator's small space, misses above all.
fn compare_all(oracle: &Oracle, real: &mut Real) {
    let bases =
        (100..108).chain(200..206).chain(300..305).chain(400..404).chain((1..=4).map(|k| (k << 22) | k));
    let ids: Vec<u64> = bases.chain((1_000_200..1_000_206).chain(2_000_300..2_000_305)).collect();
    for (kind, arguments) in TYPES.into_iter().filter(|(kind, _)| *kind != "Stats") {
        let seconds: &[u64] = if arguments == 2 { &ids } else { &[0] };
        for first in &ids {
            for second in seconds {
                check(oracle, real, kind, &[*first, *second][..arguments.max(1)]);
            }
        }
    }
}

pub fn options(seed: u64) -> Options {
    let mut rng = Rng::new(seed ^ 0xcac4e);
    let shard_count = 1 + rng.below(3) as u32;
    let mut options = Options::all([0, 1, 3, 50][rng.below(4) as usize]);
    options.shards = (0..shard_count).collect();
    options.shard_count = shard_count;
    options.members_are_told = rng.chance(1, 2);
    if rng.chance(1, 4) {
        options.kinds = KINDS.into_iter().filter(|_| rng.chance(2, 3)).collect();
    }
    options
}

fn run(seed: u64, events: &[Event]) {
    let options = options(seed);
    let (mut oracle, mut real) = (Oracle::new(options.clone()), Real::new(&options, 4 << 20));
    for event in events {
        let right = oracle.apply(event.shard, &event.name, &event.d);
        let taken = real.apply(event.shard, &event.name, &event.d);
        // What can change nothing of what is held is not read, and so not refused.
        let read = options.message_cache_size > 0 && options.kinds.len() == KINDS.len();
        assert!(taken == right || (taken && !read), "{}: {taken}, expected {right}", event.name);
        compare(&oracle, &mut real);
    }
    real.audit();
    if seed.is_multiple_of(16) {
        compare_all(&oracle, &mut real);
    }
}

/// Fields that depend on what else is cached.
const COUNTED: [&str; 9] = [
    "member_count",
    "message_count",
    "total_message_sent",
    "user_count",
    "reactions",
    "poll",
    "recipients",
    "roles",
    "member",
];

fn user_of(user: &Value) -> Option<u64> {
    user.get("id").and_then(super::oracle::id_of)
}

/// An answer of a cache that had to evict has nothing that the oracle's has not.
fn check_part(kind: &str, answer: &Value, right: &[Value]) {
    let fits = |right: &Value| {
        let (Some(answer), Some(right)) = (answer.as_object(), right.as_object()) else { return false };
        answer.iter().all(|(key, value)| {
            COUNTED.contains(&key.as_str())
                || right.get(key) == Some(value)
                || (key == "user" && user_of(value) == right.get(key).and_then(user_of))
        })
    };
    assert!(right.iter().any(fits), "{kind}: {answer} is no part of {}", json!(right));
}

/// Makes everything that has an id large.
pub fn pad(d: &mut Value, length: usize) {
    match d {
        Value::Object(object) => {
            object.values_mut().for_each(|value| pad(value, length * 7 % 1_000 + 100));
            if object.contains_key("id") || object.contains_key("user_id") || object.contains_key("roles") {
                object.insert("_pad".to_owned(), json!("é".repeat(length / 2)));
            }
        }
        Value::Array(list) => list.iter_mut().for_each(|value| pad(value, length)),
        _ => {}
    }
}

/// Whether a private channel had to go: it comes back as the next message says it.
fn private_went(stats: &Value) -> bool {
    ["evicted", "refused"].iter().any(|what| stats[*what]["private_channels"] != json!(0))
}

/// The same with so little memory that most goes again.
fn run_pressed(seed: u64, events: &[Event]) -> u64 {
    let mut options = options(seed);
    options.kinds = KINDS.into_iter().collect();
    options.message_cache_size = options.message_cache_size.max(3);
    // Of a member that was evicted anything is news.
    options.members_are_told = false;
    let mut oracle = Oracle::new(options.clone());
    let mut real = Real::with_pages(&options, 1 + options.shards.len() + (seed % 5) as usize);
    for event in events {
        oracle.apply(event.shard, &event.name, &event.d);
        real.apply(event.shard, &event.name, &event.d);
        // A user whom nobody refers to any more is answered until he is swept.
        real.audit();
        real.cache.settle(&mut real.scratch);
        real.audit();
        let stats = real.ask("Stats", &[]).expect("always there");
        let memory = &stats["memory"];
        // Once a whole guild or a private channel has gone, what its events said of users and of ids that move between guilds is missing:
        // then answers are only well formed and about what was asked for.
        let guilds_went = stats["evicted"]["guilds"] != json!(0) || private_went(&stats);
        for (kind, ids) in questions(&oracle) {
            let Some(answer) = real.ask(kind, &ids) else { continue };
            if guilds_went {
                let own = answer.get("id").and_then(super::oracle::id_of);
                let asked = if kind == "Message" { ids[1] } else { ids.first().copied().unwrap_or_default() };
                assert!(
                    own.is_none_or(|own| kind == "CurrentUser" || own == asked),
                    "{kind} {ids:?}: {answer}"
                );
            } else if answer.is_object() {
                check_part(kind, &answer, &expected(&oracle, kind, &ids));
            }
        }
        assert!(memory["peak_bytes"].as_u64() <= memory["capacity_bytes"].as_u64(), "{memory}");
    }
    let stats = real.ask("Stats", &[]).expect("always there");
    let sum =
        |what: &str| stats[what].as_object().expect("counts").values().filter_map(Value::as_u64).sum::<u64>();
    let gone = sum("evicted") + sum("refused");
    // What has lost all that it hung on must be gone, whatever was evicted on the way.
    for guild in (1..=4).map(|k| (k << 22) | k) {
        let shard = ((guild >> 22) % u64::from(options.shard_count)) as u32;
        let d = json!({"id": guild.to_string()});
        oracle.apply(shard, "GUILD_DELETE", &d);
        real.apply(shard, "GUILD_DELETE", &d);
    }
    real.cache.settle(&mut real.scratch);
    let stats = real.ask("Stats", &[]).expect("always there");
    for (key, count) in oracle.stats().as_object().expect("counts").iter().filter(|(key, _)| is_held(key)) {
        // A private channel that is evicted comes back with other recipients.
        if key == "users" && private_went(&stats) {
            continue;
        }
        assert!(stats[key].as_u64() <= count.as_u64(), "{key}: {} are left, {count} should be", stats[key]);
    }
    gone
}

pub fn seeds(default: u64) -> std::ops::Range<u64> {
    let variable = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    match variable("RATEWAY_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..variable("RATEWAY_SEEDS").unwrap_or(default),
    }
}

fn failure(result: std::thread::Result<()>) -> Option<String> {
    result.err().map(|panic| match panic.downcast::<String>() {
        Ok(text) => *text,
        Err(panic) => panic.downcast_ref::<&str>().unwrap_or(&"a panic").to_string(),
    })
}

pub fn judge(seed: u64, events: Vec<Event>, run: impl Fn(&[Event])) {
    let fails = |events: &[Event]| failure(catch_unwind(AssertUnwindSafe(|| run(events))));
    if let Some(text) = fails(&events) {
        let short = shrink(events, |fewer| fails(fewer).is_some());
        let text_short = fails(&short).unwrap_or_default();
        panic!("RATEWAY_SEED={seed}: {text}\nshrunk to {}: {text_short}\n{}", short.len(), print(&short));
    }
}

#[test]
fn the_cache_answers_as_the_oracle_does() {
    for seed in seeds(SEEDS) {
        let events = Generator::new(seed, options(seed).shard_count, (seed % 2) * 6).sequence(LENGTH);
        judge(seed, events, |events| run(seed, events));
    }
}

#[test]
fn a_cache_that_evicts_answers_nothing_wrong() {
    let mut gone = 0;
    for seed in seeds(SEEDS / 4) {
        let mut events = Generator::new(seed, options(seed).shard_count, 0).sequence(2 * LENGTH);
        events.iter_mut().enumerate().for_each(|(n, event)| pad(&mut event.d, n * 131 % 900));
        let count = std::cell::Cell::new(0);
        judge(seed, events, |events| count.set(run_pressed(seed, events)));
        gone += count.get();
    }
    assert!(gone > 0, "nothing was evicted: the memory is too large for this test");
    eprintln!("{gone} entities were evicted or not kept");
}

/// The corpus' story, its files as they are.
#[test]
fn the_story_leaves_what_it_leaves_in_the_oracle() {
    let expected = super::story::corpus("story_expected.json");
    let options = Options::all(1000);
    let (mut oracle, mut real) = (Oracle::new(options.clone()), Real::new(&options, 8 << 20));
    for step in expected["steps"].as_array().expect("steps") {
        let file = step["file"].as_str().expect("a file");
        let payload = super::story::corpus(file);
        let name = payload["t"].as_str().expect("a name");
        assert!(oracle.apply(0, name, &payload["d"]) && real.apply(0, name, &payload["d"]), "{file}");
        compare(&oracle, &mut real);
    }
    compare_all(&oracle, &mut real);
}
