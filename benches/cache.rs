//! The cache on the data of `benches/peers`, whose lines have the same names: bytes per entity, CPU time per event, time
//! per query.
//!
//!     cargo bench --bench cache -- memory|cpu|file|query|all [--guilds 100] [--members 1000] [--events 50000] [--rounds 5]
//!                                       [--messages 100] [--told 1]
//!
//! `file` compares a cache in memory with one in a file, both fed in turns, and opens a full file of 256 MiB with 64 shards.
//! `--path` says where it lies, otherwise the system's folder for temporary files.
//!
//! `--told 0` is a bot without the intent GUILD_MEMBERS. Bytes are those of arena pages in use, with what the directory has per entry beside it; sixteen shards.

#![allow(clippy::disallowed_methods, reason = "a bench reads the clock")]

#[allow(dead_code)]
#[path = "support/corpus.rs"]
mod corpus;
#[allow(dead_code)]
#[path = "support/guilds.rs"]
mod guilds;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Instant;

use guilds::{Guild, MIX, Sizes, Stream, payload};
use rateway::cache::{Answer, Applied, Cache, Holding, KindSet, Opened, Position, Question, Scratch};
use rateway::gateway::envelope;
use serde_json::Value;

const CORPUS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus");
const SEED: u64 = 1;
const SHARDS: u64 = 16;
/// Bytes that a directory has per entry when it is as full as it may be.
const DIRECTORY_BYTES: f64 = 4.0 / 0.85;

struct Options {
    guilds: usize,
    members: usize,
    events: usize,
    rounds: usize,
    messages: usize,
    told: bool,
    path: PathBuf,
}

fn main() {
    let mut options = Options {
        guilds: 100,
        members: 1000,
        events: 50_000,
        rounds: 5,
        messages: 100,
        told: true,
        path: std::env::temp_dir().join(format!("rateway-bench-{}.cache", std::process::id())),
    };
    let (mut words, mut arguments) = (Vec::new(), std::env::args().skip(1));
    while let Some(argument) = arguments.next() {
        if argument == "--path" {
            options.path = arguments.next().expect("a path follows").into();
            continue;
        }
        let mut number = || arguments.next().and_then(|it| it.parse().ok()).expect("a number follows");
        match argument.as_str() {
            "--guilds" => options.guilds = number(),
            "--members" => options.members = number(),
            "--events" => options.events = number(),
            "--rounds" => options.rounds = number(),
            "--messages" => options.messages = number(),
            "--told" => options.told = number() > 0,
            "--bench" => {}
            _ => words.push(argument),
        }
    }
    let wanted = |what: &str| words.is_empty() || words.iter().any(|word| word == what || word == "all");
    if wanted("memory") {
        memory(&options);
    }
    if wanted("cpu") {
        cpu(&options);
    }
    if wanted("file") {
        file(&options);
    }
    if wanted("query") {
        query(&options);
    }
}

fn figure(name: impl std::fmt::Display, value: f64, unit: &str) {
    println!("{name} {value:.1} {unit}");
}

/// A cache and what is needed to use it.
struct Held {
    cache: Cache,
    scratch: Scratch,
    /// The last event of each shard, where the cache is in a file.
    seqs: Option<Vec<u64>>,
}

impl Held {
    fn new(options: &Options) -> Held {
        let cache = Cache::new(cache_options(options, 2 << 30, SHARDS)).expect("memory");
        Held { cache, scratch: Scratch::default(), seqs: None }
    }

    fn in_file(options: &Options) -> Held {
        let _ = std::fs::remove_file(&options.path);
        let all = cache_options(options, 2 << 30, SHARDS);
        let Opened { cache, .. } = Cache::open(all, &options.path, [1; 32]).expect("a file");
        Held { cache, scratch: Scratch::default(), seqs: Some(vec![0; SHARDS as usize]) }
    }

    /// As a shard's task does it: envelope, then the event.
    fn apply(&mut self, payload: &[u8], guild: u64) {
        let envelope = envelope::scan(payload).expect("a payload");
        let mut name = String::new();
        let name = envelope.event_name(payload, &mut name).expect("a name");
        let shard = (guild >> 22) % SHARDS;
        let shard = shard as usize;
        let applied = match &mut self.seqs {
            None => self.cache.apply(shard, name, envelope.d(payload), &mut self.scratch),
            Some(seqs) => {
                seqs[shard] += 1;
                let position = Position { session: 1, seq: seqs[shard] };
                self.cache.apply_at(shard, position, name, envelope.d(payload), &mut self.scratch)
            }
        };
        assert_eq!(applied, Applied::Done, "{name}");
    }

    fn create(&mut self, d: &str) {
        self.apply(payload("GUILD_CREATE", 1, d).as_bytes(), guild_of(d, "id"));
    }

    fn ask(&mut self, question: Question, out: &mut Vec<u8>) {
        assert_eq!(self.cache.ask(question, &mut self.scratch, out), Answer::Found, "{question:?}");
    }

    fn stats(&mut self) -> Value {
        let mut out = Vec::new();
        self.cache.settle(&mut self.scratch);
        self.ask(Question::Stats, &mut out);
        serde_json::from_slice(&out).expect("JSON")
    }

    /// Bytes of pages, and of pages with the directory.
    fn bytes(&mut self) -> (f64, f64) {
        let stats = self.stats();
        let number = |value: &Value| value.as_f64().expect("a number");
        let pages = number(&stats["memory"]["used_bytes"]);
        (pages, pages + number(&stats["directory"]["used"]) * DIRECTORY_BYTES)
    }
}

fn cache_options(options: &Options, memory_bytes: usize, shards: u64) -> rateway::cache::Options {
    rateway::cache::Options {
        memory_bytes,
        holding: Holding {
            kinds: KindSet::all(),
            message_cache_size: options.messages as u32,
            members_are_told: options.told,
        },
        shards: (0..shards as u32).collect(),
        shard_count: shards as u32,
        seed: [5, 6],
    }
}

/// The id that stands under `key`, found without a parse: the bench's own texts have it once or first.
fn guild_of(d: &str, key: &str) -> u64 {
    let value: BTreeMap<String, &serde_json::value::RawValue> = serde_json::from_str(d).expect("an object");
    value[key].get().trim_matches('"').parse().expect("an id")
}

// ---- memory

fn memory(options: &Options) {
    for kind in ["member", "presence", "role", "channel", "emoji"] {
        let (base, count) = match kind {
            "member" => (Sizes::NONE, 1000),
            "presence" => (Sizes { members: 1000, ..Sizes::NONE }, 1000),
            _ => (Sizes::NONE, 200),
        };
        let base = Sizes { roles: 25, ..base };
        let with = match kind {
            "member" => Sizes { members: count, ..base },
            "presence" => Sizes { presences: count, ..base },
            "role" => Sizes { roles: base.roles + count, ..base },
            "channel" => Sizes { channels: count, ..base },
            _ => Sizes { emojis: count, ..base },
        };
        let text = |sizes| move |number| Guild::new(SEED, number, sizes).create();
        things(&format!("memory.generated.{kind}"), options, &format!("{kind}s"), &text(with), &text(base));
        let guild = corpus::guild(CORPUS, "large");
        let without = corpus::without(&guild, &[&format!("{kind}s")]);
        let (with, without) =
            (|number| corpus::copy(&guild, number), |number| corpus::copy(&without, number));
        things(&format!("memory.corpus_large.{kind}"), options, &format!("{kind}s"), &with, &without);
    }
    for (name, sizes) in [("guild_bare", Sizes::NONE), ("guild_without_members", Sizes::of(0))] {
        let text = |number| Guild::new(SEED, number, sizes).create();
        let json: usize = (0..options.guilds as u64).map(|number| text(number).len()).sum();
        let held = loaded(options, &text);
        print_bytes(&format!("memory.generated.{name}"), options.guilds as f64, json as f64, held);
    }
}

fn things(
    name: &str,
    options: &Options,
    list: &str,
    with: &dyn Fn(u64) -> String,
    without: &dyn Fn(u64) -> String,
) {
    let (mut count, mut json) = (0, 0);
    for (text, sign) in [(with, 1), (without, -1)] {
        for number in 0..options.guilds as u64 {
            let elements = corpus::elements(&text(number), list);
            count += sign * elements.len() as i64;
            json += sign * elements.iter().map(|it| it.len() as i64).sum::<i64>();
        }
    }
    let (more, less) = (loaded(options, with), loaded(options, without));
    print_bytes(name, count as f64, json as f64, (more.0 - less.0, more.1 - less.1));
}

fn loaded(options: &Options, text: &dyn Fn(u64) -> String) -> (f64, f64) {
    let mut held = Held::new(options);
    (0..options.guilds as u64).for_each(|number| held.create(&text(number)));
    held.bytes()
}

fn print_bytes(name: &str, count: f64, json: f64, (pages, all): (f64, f64)) {
    figure(format_args!("{name}.json"), json / count, "bytes");
    figure(format_args!("{name}.arena"), pages / count, "bytes");
    figure(format_args!("{name}.with_directory"), all / count, "bytes");
    println!("{name}.share {:.3} of the JSON", all / json);
}

// ---- CPU

struct Bench {
    held: Held,
    stream: Stream,
    seq: u64,
}

/// An event: its name, its guild, its payload.
type Text = (&'static str, u64, String);

fn cpu(options: &Options) {
    let mut bench = load(options);
    let texts = bench.texts(options.events);
    bench.run(&texts);
    let mut figures: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for _ in 0..options.rounds {
        let texts = bench.texts(options.events);
        let spent = bench.run(&texts) / texts.len() as f64;
        figures.entry("cpu.mix".into()).or_default().push(spent);
        for (name, texts) in bench.groups(options.events) {
            let spent = bench.run(&texts) / texts.len() as f64;
            figures.entry(format!("cpu.{name}")).or_default().push(spent);
        }
    }
    for (name, mut rounds) in figures {
        rounds.sort_by(f64::total_cmp);
        figure(name, rounds[rounds.len() / 2], "ns");
    }
    let stats = bench.held.stats();
    for kind in ["members", "presences", "messages"] {
        figure(format_args!("kept.{kind}"), stats[kind].as_f64().expect("a number"), kind);
    }
}

fn load(options: &Options) -> Bench {
    load_into(options, Held::new(options))
}

fn load_into(options: &Options, mut held: Held) -> Bench {
    let make = |number| Guild::new(SEED, number, Sizes::of(options.members));
    let guilds: Vec<Guild> = (0..options.guilds as u64).map(make).collect();
    guilds.iter().for_each(|guild| held.create(&guild.create()));
    Bench { held, stream: Stream::new(SEED, guilds), seq: 0 }
}

impl Bench {
    fn texts(&mut self, count: usize) -> Vec<Text> {
        let events = self.stream.by_ref().take(count);
        events
            .map(|(name, d)| {
                self.seq += 1;
                (name, guild_of(&d, "guild_id"), payload(name, self.seq, &d))
            })
            .collect()
    }

    /// The next events, put together by name; what makes goes first, what removes last.
    fn groups(&mut self, count: usize) -> Vec<(&'static str, Vec<Text>)> {
        let mut groups: BTreeMap<(u8, &'static str), Vec<Text>> = BTreeMap::new();
        for text in self.texts(count) {
            let rank = match text.0 {
                "MESSAGE_CREATE" | "GUILD_MEMBER_ADD" => 0,
                "MESSAGE_DELETE" | "GUILD_MEMBER_REMOVE" => 2,
                _ => 1,
            };
            groups.entry((rank, text.0)).or_default().push(text);
        }
        assert_eq!(groups.len(), MIX.len(), "too few events to have one of each");
        groups.into_iter().map(|((_, name), texts)| (name, texts)).collect()
    }

    /// Nanoseconds for all of them, in small batches copied right before: an event that has just been received and
    /// inflated is in the processor's cache.
    fn run(&mut self, texts: &[Text]) -> f64 {
        let mut sum = 0.0;
        for batch in texts.chunks(64) {
            let copies = batch.to_vec();
            let start = cpu_time();
            for (_, guild, text) in &copies {
                self.held.apply(text.as_bytes(), *guild);
            }
            sum += cpu_time() - start;
        }
        sum
    }
}

/// Nanoseconds that this thread has run.
fn cpu_time() -> f64 {
    cpu_time_of(libc::CLOCK_THREAD_CPUTIME_ID)
}

fn cpu_time_of(clock: libc::clockid_t) -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is there to be written.
    let status = unsafe { libc::clock_gettime(clock, &mut time) };
    assert_eq!(status, 0, "the clock cannot be read");
    time.tv_sec as f64 * 1e9 + time.tv_nsec as f64
}

// ---- in a file

/// The same events through a cache in memory and one in a file, a batch each in turns; then a full file is opened.
fn file(options: &Options) {
    let mut benches = [load(options), load_into(options, Held::in_file(options))];
    let mut rounds = Vec::new();
    for round in 0..=options.rounds {
        let texts: Vec<Vec<Text>> = benches.iter_mut().map(|bench| bench.texts(options.events)).collect();
        let (mut spent, mut turn) = ([0.0, 0.0], 0);
        for (one, two) in texts[0].chunks(2_000).zip(texts[1].chunks(2_000)) {
            // Whoever comes second may find the processor's caches warmer, or colder.
            for which in if turn % 2 == 0 { [0, 1] } else { [1, 0] } {
                spent[which] += benches[which].run(if which == 0 { one } else { two });
            }
            turn += 1;
        }
        let each = spent.map(|spent| spent / options.events as f64);
        if round > 0 {
            rounds.push((each[1] / each[0] * 100.0 - 100.0, each[0], each[1]));
        }
    }
    rounds.sort_by(|one, other| one.0.total_cmp(&other.0));
    let (difference, memory, file) = rounds[rounds.len() / 2];
    figure("file.cpu.memory", memory, "ns");
    figure("file.cpu.file", file, "ns");
    figure("file.cpu.difference", difference, "percent");
    figure("file.cpu.least_difference", rounds[0].0, "percent");
    figure("file.cpu.greatest_difference", rounds[rounds.len() - 1].0, "percent");
    drop(benches);
    open_full(options);
    let _ = std::fs::remove_file(&options.path);
}

/// Milliseconds, of the wall clock unless it says otherwise: to make a file, and to open it when it is full.
fn open_full(options: &Options) {
    const MEMORY: usize = 256 << 20;
    const ALL: u64 = 64;
    let _ = std::fs::remove_file(&options.path);
    let open = || {
        let cpu = cpu_time_of(libc::CLOCK_PROCESS_CPUTIME_ID);
        let start = Instant::now();
        let opened = Cache::open(cache_options(options, MEMORY, ALL), &options.path, [1; 32]);
        let opened = opened.expect("a file");
        let ms = start.elapsed().as_secs_f64() * 1e3;
        (opened, ms, (cpu_time_of(libc::CLOCK_PROCESS_CPUTIME_ID) - cpu) / 1e6)
    };
    let (Opened { cache, .. }, ms, _) = open();
    figure("file.make", ms, "ms");
    let mut scratch = Scratch::default();
    let used = |cache: &Cache, scratch: &mut Scratch| {
        let mut out = Vec::new();
        cache.ask(Question::Stats, scratch, &mut out);
        let stats: Value = serde_json::from_slice(&out).expect("JSON");
        let number = |name: &str| stats["memory"][name].as_f64().expect("a number");
        (number("used_bytes") / number("capacity_bytes"), stats)
    };
    let mut shards = std::collections::BTreeSet::new();
    for number in 0.. {
        let guild = Guild::new(SEED, number, Sizes::of(options.members));
        let text = guild.create();
        let shard = (guild.id >> 22) % ALL;
        shards.insert(shard);
        let position = Position { session: 1, seq: number + 1 };
        cache.apply_at(shard as usize, position, "GUILD_CREATE", text.as_bytes(), &mut scratch);
        if number % 16 == 0 && used(&cache, &mut scratch).0 > 0.95 {
            break;
        }
    }
    let before = used(&cache, &mut scratch).1;
    drop(cache);
    let mut times = Vec::new();
    for _ in 0..options.rounds {
        let (Opened { cache, kept, told }, ms, cpu) = open();
        assert!(kept.len() == shards.len() && told.is_empty(), "{told:?}");
        assert_eq!(used(&cache, &mut scratch).1["members"], before["members"]);
        times.push((ms, cpu));
    }
    times.sort_by(|one, other| one.0.total_cmp(&other.0));
    let (ms, cpu) = times[times.len() / 2];
    figure("file.open_full", ms, "ms");
    figure("file.open_full.cpu_of_all_threads", cpu, "ms");
    let sum: f64 = ["members", "users", "presences", "roles", "guild_channels"]
        .iter()
        .map(|kind| before[*kind].as_f64().expect("a count"))
        .sum();
    figure("file.open_full.entities", sum, "entities");
    let (Opened { cache, .. }, ..) = open();
    let start = Instant::now();
    (0..ALL as u32).for_each(|shard| cache.forget(shard));
    figure("file.forget_all", start.elapsed().as_secs_f64() * 1e3, "ms");
    assert_eq!(cache.held(rateway::cache::Kind::Member), 0);
    let start = Instant::now();
    cache.close().expect("a disk");
    figure("file.close", start.elapsed().as_secs_f64() * 1e3, "ms");
}

// ---- queries

fn query(options: &Options) {
    let Bench { mut held, .. } = load(options);
    let mut questions: BTreeMap<&str, Vec<Question>> = BTreeMap::new();
    let mut out = Vec::new();
    for number in 0..options.guilds as u64 {
        let guild = Guild::new(SEED, number, Sizes::of(options.members)).id;
        out.clear();
        held.ask(Question::GuildMembers { guild, after: 0, limit: 1000 }, &mut out);
        let members: Vec<Value> = serde_json::from_slice(&out).expect("JSON");
        for member in &members {
            let user = member["user"]["id"].as_str().and_then(|id| id.parse().ok()).expect("an id");
            questions.entry("member").or_default().push(Question::Member { guild, user });
            questions.entry("user").or_default().push(Question::User(user));
        }
        out.clear();
        held.ask(Question::GuildRoles(guild), &mut out);
        let roles: Vec<Value> = serde_json::from_slice(&out).expect("JSON");
        let ids = roles.iter().filter_map(|role| role["id"].as_str()?.parse().ok());
        questions.entry("role").or_default().extend(ids.map(Question::Role));
        questions.entry("guild").or_default().push(Question::Guild(guild));
        let page = Question::GuildMembers { guild, after: 0, limit: 1000 };
        questions.entry("page_of_1000_members").or_default().push(page);
    }
    for (name, mut questions) in questions {
        // Spread over everything, so that the processor's caches help no more than in production.
        let mut rng = rateway::base::Rng::new(7);
        for at in (1..questions.len()).rev() {
            questions.swap(at, rng.below(at as u64 + 1) as usize);
        }
        let mut rounds: Vec<f64> = (0..options.rounds)
            .map(|_| {
                let start = cpu_time();
                for question in &questions {
                    out.clear();
                    held.ask(*question, &mut out);
                }
                (cpu_time() - start) / questions.len() as f64
            })
            .collect();
        rounds.sort_by(f64::total_cmp);
        figure(format_args!("query.{name}"), rounds[rounds.len() / 2], "ns");
    }
}
