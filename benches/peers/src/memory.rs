//! What one member, presence, role, channel, emoji or guild takes, by two processes that hold guilds which differ in
//! nothing else. A process gets the events' texts through a pipe, so that making them leaves nothing in its memory.

use std::io::{BufRead, BufWriter, Write};
use std::process::{Command, Stdio};

use crate::guilds::{Guild, Sizes, payload};
use crate::parse::Parser;
use crate::{CORPUS, Options, SEED, cache, corpus, figure, heap};

/// The lists that go with members.
const OF_MEMBERS: [&str; 3] = ["members", "presences", "voice_states"];
const LISTS: [&str; 11] = [
    "members",
    "presences",
    "voice_states",
    "channels",
    "threads",
    "roles",
    "emojis",
    "stickers",
    "soundboard_sounds",
    "stage_instances",
    "guild_scheduled_events",
];

pub fn measure(kind: &str, options: &Options) {
    let kinds = ["member", "presence", "role", "channel", "emoji", "guild"];
    for each in kinds.into_iter().filter(|it| kind == "all" || kind == *it) {
        generated(each, options);
        from_corpus(each, options);
    }
}

fn generated(kind: &str, options: &Options) {
    // What the things need around them, so many of them, and the list that they are in.
    let (base, count, list) = match kind {
        "member" => (Sizes::NONE, 1000, "members"),
        "presence" => (Sizes { members: 1000, ..Sizes::NONE }, 1000, "presences"),
        "role" => (Sizes::NONE, 200, "roles"),
        "channel" => (Sizes::NONE, 200, "channels"),
        "emoji" => (Sizes::NONE, 200, "emojis"),
        _ => {
            for (name, sizes) in [("guild_bare", Sizes::NONE), ("guild_without_members", Sizes::of(0))] {
                let text = |number| Guild::new(SEED, number, sizes).create();
                guilds(&format!("memory.generated.{name}"), options, &text);
            }
            return;
        }
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
    things(&format!("memory.generated.{kind}"), options, list, &text(with), &text(base));
}

fn from_corpus(kind: &str, options: &Options) {
    if kind == "guild" {
        for size in ["small", "medium", "large"] {
            let guild = corpus::guild(CORPUS, size);
            for (name, lists) in [("guild_bare", &LISTS[..]), ("guild_without_members", &OF_MEMBERS)] {
                let guild = corpus::without(&guild, lists);
                let name = format!("memory.corpus_{size}.{name}");
                guilds(&name, options, &|number| corpus::copy(&guild, number));
            }
        }
        return;
    }
    let list = format!("{kind}s");
    let guild = corpus::guild(CORPUS, "large");
    let without = corpus::without(&guild, &[&list]);
    let (with, without) = (|number| corpus::copy(&guild, number), |number| corpus::copy(&without, number));
    things(&format!("memory.corpus_large.{kind}"), options, &list, &with, &without);
}

/// Per element of a list, by guilds with it and without.
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
    let more = child(options, options.guilds, with);
    let less = child(options, options.guilds, without);
    difference(name, count as f64, json as f64, &more, &less);
}

/// Per guild, by many guilds and a tenth of these.
fn guilds(name: &str, options: &Options, text: &dyn Fn(u64) -> String) {
    let (many, few) = (10 * options.guilds, options.guilds);
    let json: usize = (few..many).map(|number| text(number as u64).len()).sum();
    let (more, less) = (child(options, many, text), child(options, few, text));
    difference(name, (many - few) as f64, json as f64, &more, &less);
}

fn difference(name: &str, count: f64, json: f64, more: &[f64], less: &[f64]) {
    figure(format_args!("{name}.json"), json / count, "bytes");
    for (at, (what, unit)) in
        [("resident", "bytes"), ("resident_untrimmed", "bytes"), ("heap", "bytes"), ("blocks", "blocks")]
            .into_iter()
            .enumerate()
    {
        figure(format_args!("{name}.{what}"), (more[at] - less[at]) / count, unit);
    }
}

/// What `hold` says about so many guilds.
fn child(options: &Options, count: usize, text: &dyn Fn(u64) -> String) -> Vec<f64> {
    let program = std::env::current_exe().expect("the program knows where it is");
    let mut child = Command::new(program)
        .args(["hold", "--messages", &options.messages.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program can be started again");
    let mut input = BufWriter::new(child.stdin.take().expect("it is piped"));
    for number in 0..count as u64 {
        writeln!(input, "{}", payload("GUILD_CREATE", number + 1, &text(number))).unwrap();
    }
    drop(input);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "the holding process failed");
    String::from_utf8(output.stdout).unwrap().split_whitespace().map(|it| it.parse().unwrap()).collect()
}

/// Applies the events on standard input, one a line, and prints by how much this process grew: resident bytes with free
/// memory given back and before that, bytes in allocations, and how many allocations.
pub fn hold(options: &Options) {
    let cache = cache(options);
    let mut input = std::io::stdin().lock();
    let mut line = Vec::with_capacity(8 << 20);
    let (resident_before, heap_before) = (resident(), heap::live());
    loop {
        line.clear();
        if input.read_until(b'\n', &mut line).unwrap() == 0 {
            break;
        }
        let text = String::from_utf8(line.trim_ascii_end().to_vec()).unwrap();
        let event = Parser::Simd.parse(text).unwrap_or_else(|error| panic!("GUILD_CREATE: {error}"));
        cache.update(&event);
    }
    let (untrimmed, heap) = (resident(), heap::live());
    // SAFETY: it touches nothing of ours.
    unsafe { libc::malloc_trim(0) };
    let trimmed = resident();
    let grew = |after: usize, before: usize| after as i64 - before as i64;
    println!(
        "{} {} {} {}",
        grew(trimmed, resident_before),
        grew(untrimmed, resident_before),
        grew(heap.0, heap_before.0),
        grew(heap.1, heap_before.1)
    );
    // Held until here.
    drop(cache);
}

fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux has it");
    let pages: usize = statm.split(' ').nth(1).and_then(|it| it.parse().ok()).expect("its second number");
    // SAFETY: a plain question.
    pages * unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as usize
}
