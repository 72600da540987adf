//! CPU time of this thread per event that is parsed and applied.

use std::collections::BTreeMap;

use twilight_cache_inmemory::DefaultInMemoryCache;

use crate::guilds::{Guild, MIX, Sizes, Stream, payload};
use crate::parse::Parser;
use crate::{Options, SEED, cache, figure};

struct Bench {
    cache: DefaultInMemoryCache,
    stream: Stream,
    seq: u64,
    /// By name of the event: how many were refused, and why the first was.
    refused: BTreeMap<&'static str, (u64, String)>,
}

/// Nanoseconds per event of each round, by figure.
type Figures = BTreeMap<String, Vec<f64>>;

pub fn measure(options: &Options) {
    let mut bench = load(options);
    // Recent messages, reactions and voice fill up first, and every parser has been through all of it.
    for parser in Parser::ALL {
        let texts = bench.texts(options.events);
        bench.run(parser, &texts);
    }
    let mut figures = Figures::new();
    for _ in 0..options.rounds {
        for parser in Parser::ALL {
            bench.mix(parser, options.events, &mut figures);
            bench.by_name(parser, options.events, &mut figures);
        }
    }
    for (name, mut rounds) in figures {
        rounds.sort_by(f64::total_cmp);
        let unit = if name.starts_with("json") { "bytes" } else { "ns" };
        figure(name, rounds[rounds.len() / 2], unit);
    }
    for parser in bench.refused {
        println!("refused.{} {} events # {}", parser.0, parser.1.0, parser.1.1);
    }
    let kept = bench.cache.stats();
    figure("kept.members", kept.members() as f64, "members");
    figure("kept.presences", kept.presences() as f64, "presences");
    figure("kept.messages", bench.cache.iter().messages().count() as f64, "messages");
}

fn load(options: &Options) -> Bench {
    let cache = cache(options);
    let mut guilds = Vec::new();
    for number in 0..options.guilds as u64 {
        let guild = Guild::new(SEED, number, Sizes::of(options.members));
        let event = Parser::Simd.parse(payload("GUILD_CREATE", number + 1, &guild.create()));
        cache.update(&event.expect("a guild is read"));
        guilds.push(guild);
    }
    let seq = guilds.len() as u64;
    Bench { cache, stream: Stream::new(SEED, guilds), seq, refused: BTreeMap::new() }
}

impl Bench {
    fn texts(&mut self, count: usize) -> Vec<(&'static str, String)> {
        let events = self.stream.by_ref().take(count);
        events
            .map(|(name, d)| {
                self.seq += 1;
                (name, payload(name, self.seq, &d))
            })
            .collect()
    }

    /// Nanoseconds for all of them.
    fn run(&mut self, parser: Parser, texts: &[(&'static str, String)]) -> f64 {
        timed(texts, |name, text| match parser.parse(text) {
            Ok(event) => self.cache.update(&event),
            Err(error) => self.refused.entry(name).or_insert((0, error)).0 += 1,
        })
    }

    /// In the order in which they come; before that the parse alone.
    fn mix(&mut self, parser: Parser, count: usize, figures: &mut Figures) {
        let texts = self.texts(count);
        let bytes: usize = texts.iter().map(|(_, text)| text.len()).sum();
        let parse = timed(&texts, |_, text| drop(std::hint::black_box(parser.parse(text))));
        let all = self.run(parser, &texts);
        let mut put = |name: String, value: f64| figures.entry(name).or_default().push(value / count as f64);
        put("json.mix".into(), bytes as f64);
        put(format!("cpu.{}.mix", parser.name()), all);
        put(format!("cpu.{}.mix.parse_only", parser.name()), parse);
    }

    /// The next events, put together by name. MIX's order would remove before it adds, so what makes goes first.
    fn by_name(&mut self, parser: Parser, count: usize, figures: &mut Figures) {
        let mut groups: BTreeMap<(u8, &'static str), Vec<(&'static str, String)>> = BTreeMap::new();
        for (name, text) in self.texts(count) {
            let rank = match name {
                "MESSAGE_CREATE" | "GUILD_MEMBER_ADD" => 0,
                "MESSAGE_DELETE" | "GUILD_MEMBER_REMOVE" => 2,
                _ => 1,
            };
            groups.entry((rank, name)).or_default().push((name, text));
        }
        assert!(groups.len() == MIX.len(), "too few events to have one of each");
        for ((_, name), texts) in groups {
            let (count, bytes) = (texts.len() as f64, texts.iter().map(|it| it.1.len()).sum::<usize>());
            let spent = self.run(parser, &texts);
            figures.entry(format!("json.{name}")).or_default().push(bytes as f64 / count);
            figures.entry(format!("cpu.{}.{name}", parser.name())).or_default().push(spent / count);
        }
    }
}

/// Nanoseconds for `each` with all of the texts. These are copied in small batches right before, untimed: an event that
/// has just been received and inflated is in the processor's cache.
fn timed(texts: &[(&'static str, String)], mut each: impl FnMut(&'static str, String)) -> f64 {
    let clock = (0..100).map(|_| -cpu_time() + cpu_time()).fold(f64::MAX, f64::min);
    let mut sum = 0.0;
    for batch in texts.chunks(64) {
        let copies = batch.to_vec();
        let start = cpu_time();
        copies.into_iter().for_each(|(name, text)| each(name, text));
        sum += cpu_time() - start - clock;
    }
    sum
}

/// Nanoseconds that this thread has run.
fn cpu_time() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is there to be written.
    let status = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    assert_eq!(status, 0, "the clock cannot be read");
    time.tv_sec as f64 * 1e9 + time.tv_nsec as f64
}
