//! The cache in a file: what a process leaves that ends in whatever way, and what the next one makes of it.
//!
//! `RATEWAY_SEEDS=n` kills that many processes, `RATEWAY_SEED=n` one.

use super::generator::{Event, Generator};
use super::oracle::{KINDS, Options, Oracle};
use super::real::{self, Real, compare, judge, questions, real_options};
use rateway::base::rng::Rng;
use rateway::cache::{Applied, Cache, Kept, Opened, Position};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Processes that are killed, unless told otherwise.
const KILLS: u64 = 12;
const SEEDS: u64 = 60;
const MEMORY: usize = 4 << 20;
const SESSION: u64 = 7;

/// A file of its own, which is gone at the end.
pub struct Scratch(pub PathBuf);

impl Scratch {
    pub fn new(name: &str) -> Scratch {
        static LAST: AtomicU64 = AtomicU64::new(0);
        let number = LAST.fetch_add(1, Ordering::Relaxed);
        let name = format!("rateway-kept-{}-{number}-{name}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let _ = std::fs::remove_file(&path);
        Scratch(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

pub fn open(options: &Options, memory: usize, path: &Path) -> (Real, Vec<Kept>, Vec<String>) {
    let Opened { cache, kept, told } =
        Cache::open(real_options(options, memory), path, [9; 32]).expect("a cache in a file");
    (Real::with(cache, options), kept, told)
}

/// Each event with its place in its shard's session.
pub fn numbered(events: &[Event]) -> Vec<(u64, &Event)> {
    let mut last: BTreeMap<u32, u64> = BTreeMap::new();
    let mut number = |event: &Event| {
        let seq = last.entry(event.shard).or_default();
        *seq += 1;
        *seq
    };
    events.iter().map(|event| (number(event), event)).collect()
}

pub fn apply(real: &mut Real, session: u64, seq: u64, event: &Event) -> Applied {
    let partition = real.cache.partition_of(event.shard).expect("a shard of this process");
    let position = Position { session, seq };
    real.cache.apply_at(partition, position, &event.name, event.d.to_string().as_bytes(), &mut real.scratch)
}

/// Whatever was applied is there after the next start, and only once.
fn run(seed: u64, events: &[Event]) {
    let options = real::options(seed);
    let (file, copy) = (Scratch::new(&format!("run{seed}")), Scratch::new(&format!("copy{seed}")));
    let mut oracle = Oracle::new(options.clone());
    let (mut real, _, _) = open(&options, MEMORY, &file.0);
    for (at, (seq, event)) in numbered(events).into_iter().enumerate() {
        oracle.apply(event.shard, &event.name, &event.d);
        apply(&mut real, SESSION, seq, event);
        if at % 3 > 0 {
            continue;
        }
        // What a killed process leaves is what the file says at that moment.
        std::fs::copy(&file.0, &copy.0).expect("a copy");
        let (mut next, kept, told) = open(&options, MEMORY, &copy.0);
        assert_eq!(told, Vec::<String>::new(), "after {}", event.name);
        let own = kept.iter().find(|kept| kept.shard == event.shard).expect("it was kept");
        assert_eq!(own.position, Position { session: SESSION, seq });
        next.audit();
        assert_eq!(apply(&mut next, SESSION, seq, event), Applied::Repeat);
        compare(&oracle, &mut next);
    }
}

#[test]
fn what_was_applied_is_there_after_the_next_start() {
    for seed in real::seeds(SEEDS) {
        let events = Generator::new(seed, real::options(seed).shard_count, (seed % 2) * 6).sequence(60);
        judge(seed, events, |events| run(seed, events));
    }
}

/// The same where most is evicted, also out of other shards' partitions.
#[test]
fn a_cache_that_evicts_is_kept_as_well() {
    for seed in real::seeds(SEEDS / 2) {
        let options = Options { kinds: KINDS.into_iter().collect(), ..real::options(seed) };
        let mut events = Generator::new(seed, options.shard_count, 0).sequence(120);
        events.iter_mut().enumerate().for_each(|(n, event)| real::pad(&mut event.d, n * 131 % 900));
        let (file, copy) = (Scratch::new(&format!("few{seed}")), Scratch::new(&format!("few-copy{seed}")));
        let memory = memory_of_pages(&options, 1 + options.shards.len() + (seed % 5) as usize);
        let (mut real, _, _) = open(&options, memory, &file.0);
        for (at, (seq, event)) in numbered(&events).into_iter().enumerate() {
            apply(&mut real, SESSION, seq, event);
            if at % 5 == 0 {
                std::fs::copy(&file.0, &copy.0).expect("a copy");
                let (next, _, told) = open(&options, memory, &copy.0);
                assert_eq!(told, Vec::<String>::new(), "seed {seed}, after {}", event.name);
                next.audit();
            }
        }
        let stats = real.ask("Stats", &[]).expect("always there");
        let (mut next, _, told) = {
            drop(real);
            open(&options, memory, &file.0)
        };
        assert_eq!(told, Vec::<String>::new());
        let again = next.ask("Stats", &[]).expect("always there");
        for kind in ["guilds", "members", "users", "messages", "roles", "presences", "unavailable_guilds"] {
            assert_eq!(again[kind], stats[kind], "{kind}");
        }
    }
}

/// Memory that leaves the region a few pages.
fn memory_of_pages(options: &Options, pages: usize) -> usize {
    let probe = Scratch::new("probe");
    let memory = 512 * 1024;
    let (mut real, _, _) = open(options, memory, &probe.0);
    let stats = real.ask("Stats", &[]).expect("always there");
    let capacity = stats["memory"]["capacity_bytes"].as_u64().expect("bytes") as usize;
    let page = rateway::cache::arena::PAGE_BYTES;
    // The directory's part grows with the memory.
    memory - capacity + (pages + 1) * page
}

// ---- kill -9

const CHILD: &str = "RATEWAY_KEPT_CHILD";
const SHARDS: u32 = 4;

fn killed_options(pressed: bool) -> (Options, usize) {
    let mut options = Options::all(20);
    options.shards = (0..SHARDS).collect();
    options.shard_count = SHARDS;
    let memory = if pressed { memory_of_pages(&options, 12) } else { MEMORY };
    (options, memory)
}

fn killed_events(seed: u64, pressed: bool) -> Vec<Event> {
    let mut events = Generator::new(seed, SHARDS, 0).sequence(4_000);
    if pressed {
        events.iter_mut().enumerate().for_each(|(n, event)| real::pad(&mut event.d, n * 131 % 900));
    }
    events
}

/// The process that is killed; does nothing when it is not told what.
#[test]
fn child_that_is_killed() {
    let Ok(told) = std::env::var(CHILD) else { return };
    let (seed, path) = told.split_once(' ').expect("a seed and a path");
    let seed: u64 = seed.parse().expect("a seed");
    let pressed = seed % 2 == 1;
    let (options, memory) = killed_options(pressed);
    let events = killed_events(seed, pressed);
    let texts: Vec<(u32, u64, String, Vec<u8>)> = (numbered(&events).into_iter())
        .map(|(seq, event)| (event.shard, seq, event.name.clone(), event.d.to_string().into_bytes()))
        .collect();
    let (Real { cache, .. }, _, _) = open(&options, memory, Path::new(path));
    eprintln!("\ngo");
    std::thread::scope(|scope| {
        for half in 0..2 {
            let (texts, cache) = (&texts, &cache);
            scope.spawn(move || {
                let mut scratch = rateway::cache::Scratch::default();
                for (shard, seq, name, d) in texts.iter().filter(|text| text.0 % 2 == half) {
                    let position = Position { session: SESSION, seq: *seq };
                    cache.apply_at(*shard as usize, position, name, d, &mut scratch);
                }
            });
        }
    });
    std::thread::sleep(Duration::from_secs(60));
}

/// Lets a process apply the events of `seed` and kills it after so long.
fn kill(seed: u64, after: Duration, path: &Path) {
    let mut child = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "kept::child_that_is_killed", "--nocapture"])
        .env(CHILD, format!("{seed} {}", path.display()))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("a child");
    let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
    assert!(lines.any(|line| line.is_ok_and(|line| line == "go")), "the child did not start");
    std::thread::sleep(after);
    child.kill().expect("SIGKILL");
    child.wait().expect("it ends");
}

#[test]
fn a_process_that_is_killed_leaves_what_was_applied() {
    let (mut torn, mut survived, mut partly) = (0, 0, 0);
    for seed in real::seeds(KILLS) {
        let pressed = seed % 2 == 1;
        let file = Scratch::new(&format!("kill{seed}"));
        let after = Duration::from_micros(Rng::new(seed ^ 0xdead).below(120_000));
        kill(seed, after, &file.0);
        let (options, memory) = killed_options(pressed);
        let (mut real, kept, told) = open(&options, memory, &file.0);
        assert!(told.iter().all(|line| line.contains("a change of it broke off")), "{told:?}");
        real.audit();
        let events = killed_events(seed, pressed);
        let events = numbered(&events);
        let applied: BTreeMap<u32, u64> = kept.iter().map(|kept| (kept.shard, kept.position.seq)).collect();
        torn += told.len();
        survived += kept.len();
        let mut oracle = Oracle::new(options.clone());
        for (seq, event) in &events {
            if applied.get(&event.shard).is_some_and(|applied| seq <= applied) {
                oracle.apply(event.shard, &event.name, &event.d);
            } else {
                partly += usize::from(applied.contains_key(&event.shard));
            }
        }
        check(&mut oracle, &mut real, pressed);
        // A few events come once more, then those that were not applied; lost shards have a new session.
        for (seq, event) in &events {
            let applied = applied.get(&event.shard).copied();
            let session = if applied.is_some() { SESSION } else { SESSION + 1 };
            let applied = applied.unwrap_or(0);
            if *seq + 20 <= applied {
                continue;
            }
            let outcome = apply(&mut real, session, *seq, event);
            assert_eq!(outcome == Applied::Repeat, *seq <= applied, "{seq} after {applied}");
            if *seq > applied {
                oracle.apply(event.shard, &event.name, &event.d);
            }
        }
        real.audit();
        check(&mut oracle, &mut real, pressed);
    }
    eprintln!("{survived} partitions survived, {torn} were torn, {partly} events were left to apply");
}

fn check(oracle: &mut Oracle, real: &mut Real, pressed: bool) {
    // Two threads told of the bot's own user in an order that nobody knows.
    oracle.current_user = real.ask("CurrentUser", &[]).and_then(|user| user.as_object().cloned());
    if !pressed {
        return compare(oracle, real);
    }
    for (kind, ids) in questions(oracle) {
        if let Some(answer) = real.ask(kind, &ids) {
            assert!(answer.is_object() || answer.is_array(), "{kind} {ids:?}: {answer}");
        }
    }
}
