//! How fast an envelope is read: the big payloads in bytes per second, an ordinary event in nanoseconds.

use rateway::gateway::envelope;

fn main() {
    divan::main();
}

const FILES: [&str; 5] =
    ["GUILD_CREATE.large", "GUILD_CREATE.medium", "GUILD_CREATE.small", "MESSAGE_CREATE", "TYPING_START"];

fn payload(name: &str) -> Vec<u8> {
    let path = format!("{}/tests/corpus/{name}.json", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(path).expect("the corpus is part of the repository")
}

#[divan::bench(args = FILES)]
fn scan(bencher: divan::Bencher, name: &str) {
    let payload = payload(name);
    bencher
        .counter(divan::counter::BytesCount::new(payload.len()))
        .bench_local(|| envelope::scan(divan::black_box(&payload)));
}

/// The share of the scan that is validation of UTF-8, to compare.
#[divan::bench(args = FILES)]
fn utf8_alone(bencher: divan::Bencher, name: &str) {
    let payload = payload(name);
    bencher
        .counter(divan::counter::BytesCount::new(payload.len()))
        .bench_local(|| simdutf8::basic::from_utf8(divan::black_box(&payload)).is_ok());
}
