//! Files that are not what a cache left: whatever their bytes, opening them neither panics nor hangs, and what is taken
//! from them agrees with itself and answers.
//!
//! `RATEWAY_SEEDS=n` damages that many places of the pages.

use super::generator::{Event, Generator};
use super::kept::{Scratch, apply, numbered, open};
use super::oracle::{Options, Oracle};
use super::real::{self, Real, questions, real_options};
use rateway::base::rng::Rng;
use rateway::cache::arena::PAGE_BYTES;
use rateway::cache::{Answer, Applied, Cache, Kept, KindSet, OpenError, Opened, Position, Question};
use std::path::Path;

const MEMORY: usize = 512 * 1024;
const PLACES: u64 = 1_500;
const IDENTITY: [u8; 32] = [9; 32];

/// A file that a cache left, and what is in it.
struct Scene {
    options: Options,
    bytes: Vec<u8>,
    /// Where pages begin.
    front: usize,
    questions: Vec<(&'static str, Vec<u64>)>,
    events: Vec<Event>,
}

impl Scene {
    fn new() -> Scene {
        let mut options = Options::all(20);
        (options.shards, options.shard_count) = (vec![0, 1], 2);
        let file = Scratch::new("scene");
        let mut events = Generator::new(5, 2, 0).sequence(400);
        // Some values in several pieces.
        for (at, event) in events.iter_mut().enumerate().filter(|(at, _)| at % 3 == 0) {
            real::pad(&mut event.d, 3_000 + at);
        }
        let mut oracle = Oracle::new(options.clone());
        let (mut real, _, _) = open(&options, MEMORY, &file.0);
        for (seq, event) in numbered(&events) {
            apply(&mut real, 3, seq, event);
            oracle.apply(event.shard, &event.name, &event.d);
        }
        let stats = real.ask("Stats", &[]).expect("always there");
        let pages = stats["memory"]["capacity_bytes"].as_u64().expect("bytes") as usize;
        drop(real);
        let bytes = std::fs::read(&file.0).expect("the file");
        let front = bytes.len() - pages;
        let events = Generator::new(6, 2, 0).sequence(30);
        Scene { options, front, questions: questions(&oracle), bytes, events }
    }

    /// Opens what is at `path`; then questions and events, as a shard that goes on would bring them.
    fn use_file(&self, path: &Path, what: &str) -> (Vec<Kept>, Vec<String>) {
        let (mut real, kept, told) = open(&self.options, MEMORY, path);
        let faults = real.cache.audit();
        assert!(faults.is_empty(), "{what}: {faults:?}");
        self.ask(&mut real);
        for (seq, event) in numbered(&self.events) {
            let applied = apply(&mut real, 4, seq, event);
            assert_ne!(applied, Applied::Broken, "{what}");
        }
        let faults = real.cache.audit();
        assert!(faults.is_empty(), "{what}, after events: {faults:?}");
        (kept, told)
    }

    /// Answers may be wrong in a letter, but are JSON.
    fn ask(&self, real: &mut Real) {
        let mut out = Vec::new();
        for (kind, ids) in self.questions.iter().step_by(7) {
            out.clear();
            let question = Question::new(kind, ids).expect("a question");
            let answer = real.cache.ask(question, &mut real.scratch, &mut out);
            assert_ne!(answer, Answer::Busy);
            let text = String::from_utf8_lossy(&out);
            let read = answer != Answer::Found || serde_json::from_slice::<serde_json::Value>(&out).is_ok();
            assert!(read || text.contains("\\u"), "{kind} {ids:?}: {text}");
        }
    }

    fn damaged(&self, file: &Scratch, at: usize, flip: u8) -> (Vec<Kept>, Vec<String>) {
        let mut bytes = self.bytes.clone();
        bytes[at] ^= flip;
        std::fs::write(&file.0, &bytes).expect("a file");
        self.use_file(&file.0, &format!("byte {at} ^ {flip:#x}"))
    }
}

#[test]
fn the_front_of_a_file_may_have_any_byte_changed() {
    let scene = Scene::new();
    let file = Scratch::new("front");
    // The header, both records; then what is used of the rest, more coarsely.
    let (records, user) = (64 * 8, 64 * 8 + 2 * 16 * 8);
    for at in (0..user).chain((user..scene.front).step_by(61)) {
        let (kept, told) = scene.damaged(&file, at, 1 << (at % 8));
        let (word, was) = (at / 8, told.join("; "));
        // 19 fields, their sum; a record's mark, its ten words, their sum.
        if word < 20 {
            assert!(kept.is_empty() && was.starts_with("it starts afresh: "), "byte {at}: {was}");
        } else if (records..user).contains(&at) && (word - 64) % 16 < 12 {
            let lost = (word - 64) / 16;
            assert!(kept.len() == 1 && kept[0].shard == 1 - lost as u32, "byte {at}: {was}");
            assert!(was.starts_with(&format!("shard {lost} starts empty: ")), "byte {at}: {was}");
        }
    }
}

#[test]
fn pages_may_have_any_byte_changed() {
    let scene = Scene::new();
    let file = Scratch::new("pages");
    let mut rng = Rng::new(8);
    let (mut lost, mut used) = (0, 0);
    let mut pages: Vec<usize> = (scene.front..scene.bytes.len()).step_by(PAGE_BYTES).collect();
    pages.retain(|page| scene.bytes[*page..page + PAGE_BYTES].iter().any(|byte| *byte != 0));
    for _ in 0..real::seeds(PLACES).count() {
        let page = pages[rng.below(pages.len() as u64) as usize];
        // Heads and keys more often than the rest.
        let within = if rng.chance(1, 3) { 300 } else { PAGE_BYTES as u64 };
        let at = page + rng.below(within) as usize;
        let flip = if rng.chance(1, 2) { 1 << rng.below(8) } else { 1 + rng.below(255) as u8 };
        let (kept, told) = scene.damaged(&file, at, flip);
        assert!(kept.len() + told.len() == 2, "{told:?}");
        (lost, used) = (lost + told.len(), used + kept.len());
    }
    eprintln!("of {} pages: {used} partitions were used, {lost} refused", pages.len());
    assert!(lost > 0 && used > lost);
}

#[test]
fn pages_may_be_exchanged_or_full_of_noise() {
    let scene = Scene::new();
    let file = Scratch::new("noise");
    let mut rng = Rng::new(9);
    let count = (scene.bytes.len() - scene.front) / PAGE_BYTES;
    for round in 0..real::seeds(200).count() {
        let mut bytes = scene.bytes.clone();
        let mut page = || scene.front + rng.below(count as u64) as usize * PAGE_BYTES;
        let (one, two) = (page(), page());
        match round % 3 {
            0 => bytes[one..one + PAGE_BYTES].copy_from_slice(&scene.bytes[two..two + PAGE_BYTES]),
            1 => bytes[one..one + PAGE_BYTES].fill(round as u8),
            _ => bytes[scene.front..].iter_mut().for_each(|byte| *byte = rng.below(256) as u8),
        }
        std::fs::write(&file.0, &bytes).expect("a file");
        scene.use_file(&file.0, &format!("round {round}"));
    }
    // One shard's record in another's place would be another shard's data.
    let mut bytes = scene.bytes.clone();
    bytes[64 * 8..96 * 8].rotate_left(16 * 8);
    std::fs::write(&file.0, &bytes).expect("a file");
    let (kept, told) = scene.use_file(&file.0, "records exchanged");
    assert!(kept.is_empty() && told.len() == 2, "{told:?}");
}

#[test]
fn a_file_of_another_length_starts_afresh() {
    let scene = Scene::new();
    let file = Scratch::new("length");
    let whole = scene.bytes.len();
    let short =
        [1, 7, 8, 511, 512, 4_095, 4_096, scene.front, scene.front + 1, whole - PAGE_BYTES, whole - 1];
    for length in short.into_iter().chain((0..whole).step_by(40_009).skip(1)) {
        std::fs::write(&file.0, &scene.bytes[..length]).expect("a file");
        let (kept, told) = scene.use_file(&file.0, &format!("{length} bytes"));
        assert!(kept.is_empty() && told.len() == 1, "{length} bytes: {told:?}");
    }
    std::fs::write(&file.0, [scene.bytes.as_slice(), &[0]].concat()).expect("a file");
    assert_eq!(scene.use_file(&file.0, "a byte more").1.len(), 1);
    // Nothing at all is a new one.
    std::fs::write(&file.0, b"").expect("a file");
    assert_eq!(scene.use_file(&file.0, "empty").1.len(), 0);
}

#[test]
fn a_file_for_something_else_starts_afresh_and_says_why() {
    let scene = Scene::new();
    let file = Scratch::new("other");
    type Change = fn(&mut rateway::cache::Options);
    let changes: [(&str, Change); 6] = [
        ("CACHE_MEMORY", |options| options.memory_bytes *= 2),
        ("other kinds", |options| options.holding.kinds = KindSet::none()),
        ("number of messages", |options| options.holding.message_cache_size += 1),
        ("other intents", |options| options.holding.members_are_told ^= true),
        ("other shards", |options| options.shards = vec![0, 2]),
        ("shards of the bot", |options| options.shard_count += 1),
    ];
    let open = |options, identity| {
        std::fs::write(&file.0, &scene.bytes).expect("a file");
        let Opened { cache, kept, told } = Cache::open(options, &file.0, identity).expect("a cache");
        assert!(cache.audit().is_empty() && cache.held(rateway::cache::Kind::Guild) == 0 || told.is_empty());
        (kept, told)
    };
    for (why, change) in changes {
        let mut options = real_options(&scene.options, MEMORY);
        change(&mut options);
        let (kept, told) = open(options, IDENTITY);
        assert!(kept.is_empty() && told.len() == 1 && told[0].contains(why), "{why}: {told:?}");
    }
    let (kept, told) = open(real_options(&scene.options, MEMORY), [8; 32]);
    assert!(kept.is_empty() && told[0].contains("another bot"), "{told:?}");
    let (kept, told) = open(real_options(&scene.options, MEMORY), IDENTITY);
    assert!(kept.len() == 2 && told.is_empty(), "{told:?}");
}

#[test]
fn a_file_is_for_one_process_and_a_folder_is_none() {
    let scene = Scene::new();
    let file = Scratch::new("taken");
    let again = || Cache::open(real_options(&scene.options, MEMORY), &file.0, IDENTITY);
    let first = again().map_err(|error| error.to_string()).expect("a cache");
    assert!(matches!(again(), Err(OpenError::Taken)));
    drop(first);
    assert!(again().is_ok());
    let options = real_options(&scene.options, MEMORY);
    assert!(matches!(Cache::open(options, &std::env::temp_dir(), IDENTITY), Err(OpenError::NotAFile)));
}

#[test]
fn a_shard_that_is_forgotten_has_nothing_now_nor_after_the_next_start() {
    let scene = Scene::new();
    let file = Scratch::new("forget");
    std::fs::write(&file.0, &scene.bytes).expect("a file");
    let (real, kept, _) = open(&scene.options, MEMORY, &file.0);
    assert_eq!(kept.len(), 2);
    real.cache.forget(1);
    real.cache.forget(99);
    real.audit();
    drop(real);
    let (real, kept, told) = open(&scene.options, MEMORY, &file.0);
    assert_eq!((kept.len(), kept[0].shard, told.len()), (1, 0, 0));
    real.audit();
    real.cache.forget(0);
    assert!((real.cache.held(rateway::cache::Kind::Guild), real.cache.audit().len()) == (0, 0));
}

#[test]
fn what_was_closed_does_not_change_any_more() {
    let scene = Scene::new();
    let file = Scratch::new("closed");
    std::fs::write(&file.0, &scene.bytes).expect("a file");
    let (mut real, kept, _) = open(&scene.options, MEMORY, &file.0);
    real.cache.close().expect("a disk");
    let closed = std::fs::read(&file.0).expect("the file");
    for (seq, event) in numbered(&scene.events) {
        assert_ne!(apply(&mut real, 4, seq, event), Applied::Broken);
    }
    real.cache.forget(0);
    real.cache.settle(&mut real.scratch);
    assert!(std::fs::read(&file.0).expect("the file") == closed);
    drop(real);
    let (mut real, again, told) = open(&scene.options, MEMORY, &file.0);
    assert_eq!((again, told), (kept.clone(), Vec::new()));
    // From then on it is in use, and no longer closed.
    assert!(std::fs::read(&file.0).expect("the file") != closed);
    let (seq, event) = numbered(&scene.events)[0];
    apply(&mut real, 4, seq, event);
    drop(real);
    let (_, after, _) = open(&scene.options, MEMORY, &file.0);
    assert_eq!(after[event.shard as usize].position, Position { session: 4, seq });
}
