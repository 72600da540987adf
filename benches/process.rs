//! The whole process on real sockets: CPU time per event of rateway next to that of a program which only inflates
//! the same bytes and writes them out (the floor). Both read the same recorded stream of the stand-in, one shared
//! zlib window per connection as Discord sends it; rateway publishes to a broker that discards.
//!
//!     cargo bench --bench process -- [--seconds 5] [--rounds 3] [--shards 8] [--rate EVENTS_PER_SECOND]
//!                                    [--compression zlib] [--threads 1] [--cache false] [--state false]
//!                                    [--without-floor true] [--binary PATH]...
//!
//!     cargo bench --bench process -- --outage 10 [--shards 8] [--cache true]
//!
//! With `--outage` a broker stops reading for so many seconds while the stand-in sends at full speed, then the stand-in ends
//! and what is on disk drains: how fast, next to the rate before.
//!
//! Rounds of both are interleaved. With `--state true` a third one is rateway that keeps its state in a folder. Each
//! `--binary` is another build of rateway that has its turn in every round, such as the static one. Without arguments (under
//! `cargo test`, say) nothing runs.

#[path = "support/floor.rs"]
mod floor;
#[path = "support/sink.rs"]
mod sink;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::Ordering;
use std::time::Duration;

/// The stand-in is always of this build, whatever is measured.
const OWN_BINARY: &str = env!("CARGO_BIN_EXE_rateway");

struct Arguments {
    seconds: u64,
    rounds: usize,
    shards: usize,
    rate: Option<u64>,
    compression: String,
    threads: usize,
    cache: bool,
    state: bool,
    outage: Option<u64>,
    binaries: Vec<String>,
    floor: bool,
}

fn main() {
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench").peekable();
    if arguments.peek().map(String::as_str) == Some("--floor") {
        return floor::run(&arguments.skip(1).collect::<Vec<_>>());
    }
    let mut options = Arguments {
        seconds: 5,
        rounds: 3,
        shards: 8,
        rate: None,
        compression: "zlib".into(),
        threads: 1,
        cache: false,
        state: false,
        outage: None,
        binaries: Vec::new(),
        floor: true,
    };
    if std::env::args().any(|argument| argument == "--test") {
        println!("process: measured by `cargo bench --bench process` only");
        return;
    }
    while let Some(name) = arguments.next() {
        let value = arguments.next().unwrap_or_default();
        let number = || value.parse().unwrap_or_else(|_| panic!("{name} takes a number"));
        match name.as_str() {
            "--seconds" => options.seconds = number(),
            "--rounds" => options.rounds = number() as usize,
            "--shards" => options.shards = number() as usize,
            "--rate" => options.rate = Some(number()),
            "--threads" => options.threads = number() as usize,
            "--compression" => options.compression = value,
            "--cache" => options.cache = value == "true",
            "--state" => options.state = value == "true",
            "--without-floor" => options.floor = value != "true",
            "--outage" => options.outage = Some(number()),
            "--binary" => options.binaries.push(value),
            _ => panic!("unknown argument {name}"),
        }
    }
    match options.outage {
        Some(seconds) => measure_outage(&options, seconds),
        None => measure(&options),
    }
}

/// A child that is killed when it goes out of scope.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Process {
    /// CPU seconds used so far by its threads, user and system: their schedstat has nanoseconds, where `stat` has ticks of 10 ms.
    fn cpu_s(&self) -> f64 {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.0.id())).expect("the process lives");
        let nanoseconds = tasks.flatten().filter_map(|task| {
            let text = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
            text.split_whitespace().next()?.parse::<u64>().ok()
        });
        nanoseconds.sum::<u64>() as f64 / 1e9
    }

    fn resident_kib(&self) -> u64 {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.0.id())).expect("the process lives");
        let line = status.lines().find(|line| line.starts_with("VmRSS")).expect("VmRSS");
        line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("KiB")
    }
}

fn start_sim(options: &Arguments) -> (Process, String) {
    let port =
        TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a free port").port();
    let mut command = Command::new(OWN_BINARY);
    // Every shard has as many guilds, however many shards there are: the mix of events is the same.
    let guilds = (4 * options.shards).to_string();
    command.args([
        "sim",
        "--full-speed",
        "--max-concurrency",
        "1000",
        "--guilds",
        &guilds,
        "--members",
        "100",
    ]);
    command.args(["--shards", &options.shards.to_string(), "--addr", &format!("127.0.0.1:{port}")]);
    command.args(["--session-starts", "1000000"]);
    if let Some(rate) = options.rate {
        command.args(["--rate", &rate.to_string()]);
    }
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the stand-in starts");
    let address = format!("127.0.0.1:{port}");
    wait_for(|| TcpStream::connect(&address).is_ok());
    (Process(child), address)
}

fn wait_for(mut condition: impl FnMut() -> bool) {
    for _ in 0..3000 {
        if condition() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("waited for 30 s in vain");
}

/// Waits until every shard is sent its recording. Making them takes the stand-in seconds when there are many.
fn wait_until_all_play(options: &Arguments, sim: &str) {
    let playing = format!("\"playing\":{}", options.shards);
    wait_for(|| {
        let mut stream = TcpStream::connect(sim).expect("the stand-in listens");
        let request = format!("GET /_sim/stats HTTP/1.1\r\nHost: {sim}\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("the stand-in reads");
        let mut answer = Vec::new();
        // The connection stays open behind the answer, so this ends with the timeout.
        stream.set_read_timeout(Some(Duration::from_millis(200))).expect("a timeout");
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).split([',', '}']).any(|part| part == playing)
    });
}

/// Events and CPU seconds within the measured time.
struct Sample {
    events: u64,
    cpu_s: f64,
    resident_kib: u64,
}

fn measure(options: &Arguments) {
    let folder = std::env::temp_dir().join(format!("rateway-bench-{}", std::process::id()));
    let state = folder.display().to_string();
    let mut contestants: Vec<(&str, Vec<f64>)> = Vec::new();
    contestants.extend(options.floor.then(|| ("floor", Vec::new())));
    contestants.push(("rateway", Vec::new()));
    contestants.extend(options.state.then(|| ("state", Vec::new())));
    contestants.extend(options.binaries.iter().map(|binary| (binary.as_str(), Vec::new())));
    println!(
        "{} shards, {}, {} s a round, {} thread(s), {}",
        options.shards,
        options.compression,
        options.seconds,
        options.threads,
        options.rate.map_or("full speed".into(), |rate| format!("{rate} events/s")),
    );
    for round in 1..=options.rounds {
        for (name, all) in &mut contestants {
            let _ = std::fs::remove_dir_all(&folder);
            let (_sim, address) = start_sim(options);
            let sample = match *name {
                "floor" => run_floor(options, &address),
                "rateway" => run_rateway(OWN_BINARY, options, &address, "none"),
                "state" => run_rateway(OWN_BINARY, options, &address, &state),
                binary => run_rateway(binary, options, &address, "none"),
            };
            let us = sample.cpu_s * 1e6 / sample.events as f64;
            println!(
                "round {round}  {name:<8} {us:7.3} us CPU/event  {:9.0} events/s  {:6} KiB resident",
                sample.events as f64 / options.seconds as f64,
                sample.resident_kib
            );
            all.push(us);
        }
    }
    let median = |values: &mut Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let least = contestants[0].0;
    let first = median(&mut contestants[0].1);
    for (name, all) in &mut contestants[1..] {
        let us = median(all);
        println!("median   {least} {first:.3} us, {name} {us:.3} us: {:.2} times the {least}", us / first);
    }
    let _ = std::fs::remove_dir_all(&folder);
}

fn run_rateway(binary: &str, options: &Arguments, sim: &str, state: &str) -> Sample {
    let (process, counts) = start_rateway(binary, options, sim, state);
    let (events, cpu_s) = (counts.publishes.load(Ordering::Relaxed), process.cpu_s());
    std::thread::sleep(Duration::from_secs(options.seconds));
    let (events, cpu_s) = (counts.publishes.load(Ordering::Relaxed) - events, process.cpu_s() - cpu_s);
    Sample { events, cpu_s, resident_kib: process.resident_kib() }
}

/// The full rate, then the rate at which the disk is read back.
fn measure_outage(options: &Arguments, seconds: u64) {
    let folder = std::env::temp_dir().join(format!("rateway-bench-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    let (sim, address) = start_sim(options);
    let (process, counts) = start_rateway(OWN_BINARY, options, &address, &folder.display().to_string());
    let published = || counts.publishes.load(Ordering::Relaxed);
    let rate = |what: &str, seconds: f64| {
        let (events, cpu_s) = (published(), process.cpu_s());
        std::thread::sleep(Duration::from_secs_f64(seconds));
        let (events, cpu_s) = ((published() - events) as f64, process.cpu_s() - cpu_s);
        println!(
            "{what:<22} {:9.0} events/s  {:6.3} us CPU/event  {:6} KiB resident",
            events / seconds,
            cpu_s * 1e6 / events,
            process.resident_kib()
        );
    };
    rate("full rate", options.seconds as f64);
    counts.stalled.store(true, Ordering::Relaxed);
    std::thread::sleep(Duration::from_secs(seconds));
    drop(sim);
    std::thread::sleep(Duration::from_millis(200));
    let on_disk = disk_bytes(&folder);
    println!("on disk after {seconds} s    {:9} MiB", on_disk >> 20);
    counts.stalled.store(false, Ordering::Relaxed);
    // The first tenths are what was in memory and in sockets.
    std::thread::sleep(Duration::from_millis(100));
    rate("draining", 1.0);
    let before = published();
    wait_for(|| disk_bytes(&folder) < 1 << 20);
    println!("{} more events until the disk was free", published() - before);
    let _ = std::fs::remove_dir_all(&folder);
}

fn disk_bytes(folder: &std::path::Path) -> u64 {
    let spools = std::fs::read_dir(folder).expect("the state").flatten();
    let spools = spools.filter(|entry| entry.file_name().to_string_lossy().starts_with("spool-"));
    let files = spools.flat_map(|spool| std::fs::read_dir(spool.path()).expect("a spool").flatten());
    files.filter_map(|file| file.metadata().ok()).map(|metadata| metadata.len()).sum()
}

fn start_rateway(
    binary: &str,
    options: &Arguments,
    sim: &str,
    state: &str,
) -> (Process, std::sync::Arc<sink::Counts>) {
    let (sink, counts) = sink::start().expect("a free port");
    let mut command = Command::new(binary);
    command.env_clear();
    command.envs([
        ("DISCORD_TOKEN", "bench".to_owned()),
        ("INTENTS", "53608447".to_owned()),
        ("DISCORD_API_URL", format!("http://{sim}/api/v10")),
        ("AMQP_URI", format!("amqp://{sink}")),
        ("THREADS", options.threads.to_string()),
        ("SHARD_COUNT", options.shards.to_string()),
        ("COMPRESSION", options.compression.clone()),
        ("CACHE_ENABLED", options.cache.to_string()),
        ("STATE_DIR", state.to_owned()),
        ("LOG_LEVEL", "error".to_owned()),
    ]);
    let process = Process(command.stdout(Stdio::null()).spawn().expect("rateway starts"));
    wait_until_all_play(options, sim);
    std::thread::sleep(Duration::from_millis(500));
    (process, counts)
}

#[allow(clippy::disallowed_methods)] // A bench has a clock.
fn run_floor(options: &Arguments, sim: &str) -> Sample {
    let drain = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let to = drain.local_addr().expect("an address");
    std::thread::spawn(move || {
        let (mut stream, _) = drain.accept().expect("the floor connects");
        let mut bytes = vec![0; 1 << 20];
        while std::io::Read::read(&mut stream, &mut bytes).is_ok_and(|count| count > 0) {}
    });
    let own = std::env::current_exe().expect("this program");
    let child = Command::new(own)
        .args(["--floor", sim, &to.to_string(), &options.shards.to_string(), &options.compression])
        .stdout(Stdio::piped())
        .spawn()
        .expect("the floor starts");
    let mut process = Process(child);
    let counted = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
    let (lines, newest) = (BufReader::new(process.0.stdout.take().expect("a pipe")).lines(), counted.clone());
    // The floor prints its count ten times a second.
    std::thread::spawn(move || {
        for line in lines.map_while(Result::ok) {
            newest.store(line.parse().expect("a count"), Ordering::Relaxed);
        }
    });
    wait_until_all_play(options, sim);
    std::thread::sleep(Duration::from_millis(500));
    let (events, cpu_s) = (counted.load(Ordering::Relaxed), process.cpu_s());
    std::thread::sleep(Duration::from_secs(options.seconds));
    let (events, cpu_s) = (counted.load(Ordering::Relaxed) - events, process.cpu_s() - cpu_s);
    Sample { events, cpu_s, resident_kib: process.resident_kib() }
}
