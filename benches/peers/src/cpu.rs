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
    for parser in Parser::ALL.into_iter().cycle().take(8) {
        let texts = bench.texts(options.events);
        bench.run(parser, &texts, &texts.spans);
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
    for (name, (count, error)) in bench.refused {
        println!("refused.{name} {count} events # {error}");
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

/// An event's name, and where its text begins and ends.
type Span = (&'static str, usize, usize);

/// Events' texts in one piece of memory. One allocation each, freed at the end, would lie among the cache's own, and what
/// is measured next would pay for sorting them into the allocator's bins.
struct Texts {
    all: String,
    spans: Vec<Span>,
}

impl Bench {
    fn texts(&mut self, count: usize) -> Texts {
        let mut texts = Texts { all: String::with_capacity(count * 1024), spans: Vec::with_capacity(count) };
        for (name, d) in self.stream.by_ref().take(count) {
            self.seq += 1;
            let start = texts.all.len();
            texts.all.push_str(&payload(name, self.seq, &d));
            texts.spans.push((name, start, texts.all.len()));
        }
        texts
    }

    /// Nanoseconds for all of them.
    fn run(&mut self, parser: Parser, texts: &Texts, spans: &[Span]) -> f64 {
        timed(texts, spans, |name, text| match parser.parse(text) {
            Ok(event) => self.cache.update(&event),
            Err(error) => self.refused.entry(name).or_insert((0, error)).0 += 1,
        })
    }

    /// In the order in which they come; before that the parse alone.
    fn mix(&mut self, parser: Parser, count: usize, figures: &mut Figures) {
        let texts = self.texts(count);
        let parse_only = |texts: &Texts, spans: &_| {
            timed(texts, spans, |_, text| drop(std::hint::black_box(parser.parse(text))))
        };
        parse_only(&texts, &texts.spans[..count / 10]);
        let parse = parse_only(&texts, &texts.spans);
        let all = self.run(parser, &texts, &texts.spans);
        let mut put = |name: String, value: f64| figures.entry(name).or_default().push(value / count as f64);
        put("json.mix".into(), texts.all.len() as f64);
        put(format!("cpu.{}.mix", parser.name()), all);
        put(format!("cpu.{}.mix.parse_only", parser.name()), parse);
    }

    /// The next events, put together by name. What makes goes before what changes that, and what removes comes last.
    fn by_name(&mut self, parser: Parser, count: usize, figures: &mut Figures) {
        let texts = self.texts(count);
        let mut groups: BTreeMap<(u8, &'static str), Vec<Span>> = BTreeMap::new();
        for &span in &texts.spans {
            let rank = match span.0 {
                "MESSAGE_CREATE" | "GUILD_MEMBER_ADD" => 0,
                "MESSAGE_DELETE" | "GUILD_MEMBER_REMOVE" => 2,
                _ => 1,
            };
            groups.entry((rank, span.0)).or_default().push(span);
        }
        assert!(groups.len() == MIX.len(), "too few events to have one of each");
        for ((_, name), spans) in groups {
            // The first ones only make the code and the allocator warm.
            let (first, rest) = spans.split_at(spans.len() / 5);
            self.run(parser, &texts, first);
            let spent = self.run(parser, &texts, rest);
            let (count, bytes) = (rest.len() as f64, rest.iter().map(|it| it.2 - it.1).sum::<usize>());
            figures.entry(format!("json.{name}")).or_default().push(bytes as f64 / count);
            figures.entry(format!("cpu.{}.{name}", parser.name())).or_default().push(spent / count);
        }
    }
}

/// Nanoseconds for `each` with all of the spans. These are copied in small batches right before, untimed: an event that
/// has just been received and inflated is in the processor's cache.
fn timed(texts: &Texts, spans: &[Span], mut each: impl FnMut(&'static str, String)) -> f64 {
    let clock = (0..100).map(|_| -cpu_time() + cpu_time()).fold(f64::MAX, f64::min);
    let mut sum = 0.0;
    for batch in spans.chunks(64) {
        let copies: Vec<_> = batch.iter().map(|&(name, a, b)| (name, texts.all[a..b].to_owned())).collect();
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
