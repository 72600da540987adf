//! twilight-cache-inmemory on the data of rateway's benches: resident memory and CPU time.
//!
//!     cargo run --release -- memory all|member|presence|role|channel|emoji|guild [--guilds 100]
//!     cargo run --release -- cpu [--guilds 100] [--members 1000] [--events 50000] [--rounds 5]
//!
//! Both take `--messages 100`, how many messages a channel keeps. One line per figure: name, value, unit.

#[allow(dead_code)]
#[path = "../../support/corpus.rs"]
mod corpus;
mod cpu;
#[allow(dead_code)]
#[path = "../../support/guilds.rs"]
mod guilds;
mod heap;
mod memory;
mod parse;
#[cfg(test)]
mod shapes;
#[cfg(test)]
mod stand_in;

use twilight_cache_inmemory::{DefaultInMemoryCache, ResourceType};

pub const CORPUS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/corpus");
pub const SEED: u64 = 1;

pub struct Options {
    pub guilds: usize,
    pub members: usize,
    pub events: usize,
    pub rounds: usize,
    pub messages: usize,
}

fn main() {
    let mut options = Options { guilds: 100, members: 1000, events: 50_000, rounds: 5, messages: 100 };
    let (mut words, mut arguments) = (Vec::new(), std::env::args().skip(1));
    while let Some(argument) = arguments.next() {
        let mut number = || arguments.next().and_then(|it| it.parse().ok()).expect("a number follows");
        match argument.as_str() {
            "--guilds" => options.guilds = number(),
            "--members" => options.members = number(),
            "--events" => options.events = number(),
            "--rounds" => options.rounds = number(),
            "--messages" => options.messages = number(),
            _ => words.push(argument),
        }
    }
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["memory", kind] => memory::measure(kind, &options),
        ["hold"] => memory::hold(&options),
        ["cpu"] => cpu::measure(&options),
        _ => panic!("memory KIND, or cpu"),
    }
}

/// Everything that can be kept, and so many messages per channel.
pub fn cache(options: &Options) -> DefaultInMemoryCache {
    DefaultInMemoryCache::builder()
        .resource_types(ResourceType::all())
        .message_cache_size(options.messages)
        .build()
}

pub fn figure(name: impl std::fmt::Display, value: f64, unit: &str) {
    println!("{name} {value:.1} {unit}");
}
