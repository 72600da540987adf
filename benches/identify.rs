//! How close to 5 s apart the IDENTIFYs of a bucket arrive, and how long 64 shards take: the whole program on real
//! sockets against the stand-in, which writes down when each IDENTIFY arrives.
//!
//!     cargo bench --bench identify -- [--shards 64] [--buckets 16] [--jitter-ms 250]
//!
//! | way | who lets shards identify |
//! |---|---|
//! | own | the process' own queue |
//! | shared | two processes, one `rateway queue` (QUEUE_URL) |
//! | plain | a client that tells nothing of its IDENTIFYs, as those of twilight's gateway-queue |
//!
//! Once without and once with jitter: everything that a shard sends travels up to so long, at random. Without
//! arguments (under `cargo test`, say) nothing runs.

#![allow(clippy::disallowed_methods, reason = "a bench reads the clock")]

#[path = "support/sink.rs"]
mod sink;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rateway::base::Rng;
use rateway::queue::{Queue, RemoteQueue, wait};
use rateway::sim::{Options, Server, ServerOptions};

struct Arguments {
    shards: u32,
    buckets: u32,
    jitter: Duration,
}

fn main() {
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench").peekable();
    if std::env::args().any(|argument| argument == "--test") {
        println!("identify: measured by `cargo bench --bench identify` only");
        return;
    }
    let mut options = Arguments { shards: 64, buckets: 16, jitter: Duration::from_millis(250) };
    while let Some(name) = arguments.next() {
        let value = arguments.next().unwrap_or_default();
        let number = || value.parse::<u32>().unwrap_or_else(|_| panic!("{name} takes a number"));
        match name.as_str() {
            "--shards" => options.shards = number(),
            "--buckets" => options.buckets = number(),
            "--jitter-ms" => options.jitter = Duration::from_millis(number().into()),
            _ => panic!("unknown argument {name}"),
        }
    }
    let rounds = options.shards.div_ceil(options.buckets);
    let allowed = Duration::from_secs(5) * (rounds - 1);
    println!(
        "{} shards in {} buckets: {rounds} rounds, {} s allowed",
        options.shards,
        options.buckets,
        allowed.as_secs()
    );
    println!(
        "{:<8} {:>9}  {:>8} {:>8} {:>8} {:>8}  {:>8}  too early",
        "way", "jitter ms", "min", "p50", "p99", "max", "in all"
    );
    for jitter in [Duration::ZERO, options.jitter] {
        for (name, run) in
            [("own", own as fn(&Arguments, Duration) -> Arrivals), ("shared", shared), ("plain", plain)]
        {
            report(name, jitter, &run(&options, jitter), allowed);
        }
    }
}

/// When IDENTIFYs arrived, and in which bucket.
type Arrivals = Vec<(u32, Instant)>;

fn report(name: &str, jitter: Duration, arrivals: &Arrivals, allowed: Duration) {
    let mut last = BTreeMap::new();
    let mut sorted = arrivals.clone();
    sorted.sort_by_key(|&(_, at)| at);
    let mut gaps: Vec<Duration> =
        sorted.iter().filter_map(|&(bucket, at)| Some(at - last.insert(bucket, at)?)).collect();
    gaps.sort();
    let took = sorted[sorted.len() - 1].1 - sorted[0].1;
    let at = |part: f64| gaps[((gaps.len() - 1) as f64 * part) as usize].as_secs_f64();
    let early = gaps.iter().filter(|gap| **gap < Duration::from_secs(5)).count();
    println!(
        "{name:<8} {:>9}  {:>8.4} {:>8.4} {:>8.4} {:>8.4}  {:>8.3}  {early}  ({:+.2} % of what is allowed)",
        jitter.as_millis(),
        at(0.0),
        at(0.5),
        at(0.99),
        at(1.0),
        took.as_secs_f64(),
        (took.as_secs_f64() / allowed.as_secs_f64() - 1.0) * 100.0
    );
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

/// The stand-in behind a path on which what shards send is late by a random time.
fn discord(options: &Arguments, jitter: Duration) -> Arc<Server> {
    let path = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let mut discord = Options {
        shards: options.shards,
        max_concurrency: options.buckets,
        guilds: options.shards,
        members: 2,
        token: None,
        gateway_url: String::new(),
        ..Options::default()
    };
    if !jitter.is_zero() {
        discord.gateway_url = format!("ws://{}", path.local_addr().expect("an address"));
    }
    let server = Arc::new(
        Server::start(ServerOptions { discord, ..ServerOptions::default() }).expect("the stand-in starts"),
    );
    let to = server.addr();
    thread::spawn(move || {
        for (seed, from) in path.incoming().enumerate() {
            let Ok(from) = from else { return };
            delay(from, to, jitter, seed as u64);
        }
    });
    server
}

/// Copies both ways; what comes from `from` waits up to `jitter` each time.
fn delay(mut from: TcpStream, to: SocketAddr, jitter: Duration, seed: u64) {
    let Ok(mut to) = TcpStream::connect(to) else { return };
    let (mut back_from, mut back_to) =
        (to.try_clone().expect("a socket"), from.try_clone().expect("a socket"));
    thread::spawn(move || {
        let _ = std::io::copy(&mut back_from, &mut back_to);
    });
    thread::spawn(move || {
        let mut rng = Rng::new(seed);
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            thread::sleep(rng.duration(Duration::ZERO, jitter));
            if to.write_all(&buffer[..count]).is_err() {
                return;
            }
        }
    });
}

fn gateway(server: &Server, sink: SocketAddr, more: &[(&str, String)]) -> Process {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rateway"));
    command.env_clear().envs([
        ("DISCORD_TOKEN", "bench".to_owned()),
        ("INTENTS", "1".to_owned()),
        ("DISCORD_API_URL", server.api_url()),
        ("AMQP_URI", format!("amqp://{sink}")),
        ("CACHE_ENABLED", "false".to_owned()),
        ("LOG_LEVEL", "error".to_owned()),
    ]);
    command.envs(more.iter().map(|(name, value)| (name, value)));
    Process(command.stdout(Stdio::null()).spawn().expect("rateway starts"))
}

fn arrivals(server: &Server, count: usize) -> Arrivals {
    loop {
        let identifies = server.ledger().identifies;
        if identifies.len() >= count {
            assert!(identifies.iter().all(|identify| identify.accepted), "Discord refused an IDENTIFY");
            return identifies.iter().map(|identify| (identify.bucket, identify.at)).collect();
        }
        thread::sleep(Duration::from_millis(50));
    }
}

fn own(options: &Arguments, jitter: Duration) -> Arrivals {
    let server = discord(options, jitter);
    let (sink, _) = sink::start().expect("a free port");
    let _gateway = gateway(&server, sink, &[("SHARD_COUNT", options.shards.to_string())]);
    arrivals(&server, options.shards as usize)
}

fn service(options: &Arguments) -> (Process, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rateway"));
    command.arg("queue").env_clear();
    command.envs([("PORT", "0"), ("HOST", "127.0.0.1"), ("ADMIN_PORT", "none"), ("STATE_DIR", "none")]);
    command.env("CONCURRENCY", options.buckets.to_string());
    let mut service = Process(command.stderr(Stdio::piped()).spawn().expect("the service starts"));
    let lines = BufReader::new(service.0.stderr.take().expect("a pipe")).lines();
    let mut lines = lines.map_while(Result::ok);
    let url =
        lines.find_map(|line| Some(line.split_once("shards ask on ")?.1.to_owned())).expect("an address");
    thread::spawn(move || lines.for_each(drop));
    (service, url)
}

fn shared(options: &Arguments, jitter: Duration) -> Arrivals {
    let server = discord(options, jitter);
    let (sink, _) = sink::start().expect("a free port");
    let (_service, url) = service(options);
    let half = options.shards.div_ceil(2);
    let _gateways: Vec<Process> = ["1", "2"]
        .map(|cluster| {
            let more = [
                ("SHARD_COUNT", options.shards.to_string()),
                ("SHARDS_PER_CLUSTER", half.to_string()),
                ("CLUSTERS", cluster.to_owned()),
                ("QUEUE_URL", url.clone()),
            ];
            gateway(&server, sink, &more)
        })
        .into();
    arrivals(&server, options.shards as usize)
}

fn plain(options: &Arguments, jitter: Duration) -> Arrivals {
    let (_service, url) = service(options);
    let queue: Arc<dyn Queue> = Arc::new(RemoteQueue::new(&url).expect("a URL"));
    let arrivals = Arc::new(Mutex::new(Vec::new()));
    let threads: Vec<_> = (0..options.shards)
        .map(|shard| {
            let (queue, arrivals) = (queue.clone(), arrivals.clone());
            let (shards, bucket) = (options.shards, shard % options.buckets);
            let thread = thread::spawn(move || {
                wait(&queue, [shard.into(), shards.into()]);
                thread::sleep(Rng::new(shard.into()).duration(Duration::ZERO, jitter));
                arrivals.lock().expect("nobody panics").push((bucket, Instant::now()));
            });
            // In their order, as a program that starts its shards one after another.
            thread::sleep(Duration::from_millis(2));
            thread
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().expect("nobody panics"));
    Arc::try_unwrap(arrivals).expect("the threads are over").into_inner().expect("nobody panics")
}
