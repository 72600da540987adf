//! How fast payloads are inflated, in bytes of payload per second, out of one context per connection as Discord
//! sends them: the ordinary events of the story once (told twice, the second telling would be one long match), and a
//! large guild.

use rateway::stream::deflate::Encoder;
use rateway::stream::inflate::{Compression, Decoder, Limits, Output};

fn main() {
    divan::main();
}

const CASES: [(Compression, &str); 4] = [
    (Compression::Zlib, "story"),
    (Compression::Zlib, "GUILD_CREATE.large.json"),
    (Compression::Zstd, "story"),
    (Compression::Zstd, "GUILD_CREATE.large.json"),
];

fn payloads(name: &str) -> Vec<Vec<u8>> {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus");
    let read = |name: &str| std::fs::read(format!("{root}/{name}")).expect("the corpus");
    if name != "story" {
        return vec![read(name)];
    }
    let story = String::from_utf8(read("STORY")).expect("text");
    let files = story.lines().filter_map(|line| line.split_once(' '));
    // Without the large guilds, which would hide the ordinary events.
    files.map(|(_, file)| read(file)).filter(|payload| payload.len() < 10_000).collect()
}

#[divan::bench(args = CASES)]
fn decode(bencher: divan::Bencher, (compression, name): (Compression, &str)) {
    let payloads = payloads(name);
    let mut encoder = Encoder::new(compression, 6).expect("memory");
    let mut messages = vec![];
    let mut bytes = 0;
    for payload in &payloads {
        let mut message = vec![];
        encoder.encode(payload, &mut message).expect("memory");
        messages.push(message);
        bytes += payload.len();
    }
    let limits = Limits::default();
    let mut output = Output::default();
    bencher
        .counter(divan::counter::BytesCount::new(bytes))
        .with_inputs(|| Decoder::new(compression).expect("memory"))
        .bench_local_values(|mut decoder| {
            for message in &messages {
                assert!(decoder.decode(message, &limits, &mut output).expect("good messages"));
            }
            decoder
        });
}
