//! Thousands of generated sequences through the oracle alone: invariants after each step, refused bodies change
//! nothing, idempotent events told twice change nothing more, and each answer is well formed.
//!
//! `RATEWAY_SEED=n` runs one seed.

use super::generator::{Event, Generator, parse, print, shrink};
use super::oracle::{KINDS, Options, Oracle};
use super::queries::{Answer, TYPES};
use super::{events, invariants};
use rateway::base::rng::Rng;
use serde_json::{Value, json};
use std::panic::{AssertUnwindSafe, catch_unwind};

const SEEDS: u64 = 2000;
const LENGTH: usize = 60;

/// Events that count: told twice they count twice.
const COUNTING: [&str; 9] = [
    "MESSAGE_REACTION_ADD",
    "MESSAGE_REACTION_REMOVE",
    "MESSAGE_POLL_VOTE_ADD",
    "MESSAGE_POLL_VOTE_REMOVE",
    "GUILD_SCHEDULED_EVENT_USER_ADD",
    "GUILD_SCHEDULED_EVENT_USER_REMOVE",
    "GUILD_MEMBER_REMOVE",
    "MESSAGE_DELETE",
    "MESSAGE_DELETE_BULK",
];

/// Shards, ring size and (in one of four) fewer kinds, from the seed.
fn options(seed: u64) -> Options {
    let mut rng = Rng::new(seed ^ 0x0b7a);
    let shard_count = 1 + rng.below(3) as u32;
    let mut options = Options::all([0, 1, 3, 50][rng.below(4) as usize]);
    options.shards = (0..shard_count).collect();
    options.shard_count = shard_count;
    if rng.chance(1, 4) {
        options.kinds = KINDS.into_iter().filter(|_| rng.chance(2, 3)).collect();
    }
    options
}

fn sequence(seed: u64) -> Vec<Event> {
    // Half of the seeds are well formed, so that states grow.
    Generator::new(seed, options(seed).shard_count, (seed % 2) * 6).sequence(LENGTH)
}

fn run(seed: u64, events: &[Event]) -> u64 {
    let mut oracle = Oracle::new(options(seed));
    let whole = oracle.options.kinds.len() == KINDS.len();
    let mut taken = 0;
    for event in events {
        let before = oracle.clone();
        if !oracle.apply(event.shard, &event.name, &event.d) {
            assert_eq!(oracle.partitions, before.partitions, "a refused {} changed something", event.name);
            assert_eq!(oracle.current_user, before.current_user, "a refused {} changed the user", event.name);
            continue;
        }
        taken += 1;
        invariants::check(&oracle);
        // Without members every ADD looks like a new one. In bent bodies one list may contradict itself, and then its
        // order decides differently the second time.
        let plain = whole && seed.is_multiple_of(2) && !lists_a_channel_twice(&event.d);
        if plain && !COUNTING.contains(&event.name.as_str()) {
            let once = oracle.partitions.clone();
            oracle.apply(event.shard, &event.name, &event.d);
            assert_eq!(oracle.partitions, once, "{} told twice", event.name);
        }
    }
    check_answers(&oracle);
    taken
}

/// Whether channels and threads of a body have an id in common: as a thread turns into a channel and back, its
/// cascade takes what the same list has put in before.
fn lists_a_channel_twice(d: &Value) -> bool {
    let listed = ["channels", "threads"].into_iter().filter_map(|key| d.get(key)?.as_array()).flatten();
    let ids: Vec<u64> = listed.filter_map(|c| super::oracle::id(c.as_object()?, "id")).collect();
    ids.iter().collect::<std::collections::BTreeSet<_>>().len() < ids.len()
}

/// Every type answers for every id of the small space with what it promises.
fn check_answers(oracle: &Oracle) {
    let ids =
        (100..108).chain(200..206).chain(300..305).chain(400..404).chain((1..=4).map(|k| (k << 22) | k));
    let ids: Vec<u64> = ids.collect();
    for (kind, arguments) in TYPES {
        let seconds: &[u64] = if arguments == 2 { &ids } else { &[0] };
        for (first, second) in ids.iter().flat_map(|first| seconds.iter().map(move |second| (first, second)))
        {
            let answer = oracle.query(kind, &[json!(first), json!(second.to_string())]);
            assert_ne!(answer, Answer::Refused, "{kind}");
            let Some(answer) = answer.hit() else { continue };
            let member = match &answer {
                Value::Array(list) => list.first().cloned().unwrap_or(json!({"user": 1})),
                object => object.clone(),
            };
            assert!(answer.is_array() || answer.is_object(), "{kind}");
            if kind.ends_with("Member") || kind == "GuildMembers" || kind == "Presence" {
                assert!(member.get("user").is_some(), "{kind} without user");
            }
        }
    }
}

fn failure(seed: u64, events: &[Event]) -> Option<String> {
    let result = catch_unwind(AssertUnwindSafe(|| run(seed, events)));
    result.err().map(|panic| match panic.downcast::<String>() {
        Ok(text) => *text,
        Err(panic) => panic.downcast_ref::<&str>().unwrap_or(&"a panic").to_string(),
    })
}

#[test]
fn generated_sequences_keep_every_invariant() {
    let seeds = match std::env::var("RATEWAY_SEED").ok().and_then(|seed| seed.parse().ok()) {
        Some(seed) => seed..seed + 1,
        None => 0..SEEDS,
    };
    let mut names = std::collections::BTreeSet::new();
    let whole = seeds.clone().count() > 1;
    for seed in seeds {
        let events = sequence(seed);
        names.extend(events.iter().map(|event| event.name.clone()));
        if let Some(text) = failure(seed, &events) {
            let short = shrink(events, |fewer| failure(seed, fewer).is_some());
            let text_short = failure(seed, &short).unwrap_or_default();
            panic!("RATEWAY_SEED={seed}: {text}\nshrunk to {}: {text_short}\n{}", short.len(), print(&short));
        }
    }
    if whole {
        let missing: Vec<_> = events::HANDLED.iter().filter(|name| !names.contains(**name)).collect();
        assert!(missing.is_empty(), "never generated: {missing:?}");
    }
}

#[test]
fn sequences_follow_from_their_seed_and_survive_printing() {
    let events = sequence(7);
    assert_eq!(events, sequence(7));
    assert_ne!(events, sequence(8));
    assert_eq!(parse(&print(&events)), events);
}

#[test]
fn shrinking_finds_the_one_event() {
    let events = sequence(11);
    let short = shrink(events.clone(), |fewer| fewer.contains(&events[40]));
    assert_eq!(short, [events[40].clone()]);
}

#[test]
fn most_events_are_taken_and_most_kinds_get_filled() {
    let mut totals = std::collections::BTreeMap::<String, u64>::new();
    for seed in (0..200).step_by(2) {
        let mut oracle = Oracle::new(Options { kinds: KINDS.into_iter().collect(), ..options(seed) });
        for event in sequence(seed) {
            oracle.apply(event.shard, &event.name, &event.d);
        }
        for (key, count) in oracle.stats().as_object().expect("counts") {
            *totals.entry(key.clone()).or_default() += count.as_u64().expect("a count");
        }
    }
    let rare: Vec<_> = totals.iter().filter(|(_, count)| **count <= 5).collect();
    assert!(rare.is_empty(), "{rare:?} of {totals:?}");
}
