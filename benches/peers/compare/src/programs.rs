//! The four programs and the stand-in, each as a process, and where their events go.

use std::fmt;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::process::{Process, last_number, wait_for};
use crate::sink::{self, Message, Observer};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Program {
    Floor,
    Rateway,
    /// twilight and lapin, `d` as it came.
    Raw,
    /// The same, parsed and written out again.
    Typed,
}

impl Program {
    pub const ALL: [Program; 4] = [Program::Floor, Program::Rateway, Program::Raw, Program::Typed];

    pub const fn name(self) -> &'static str {
        match self {
            Program::Floor => "floor",
            Program::Rateway => "rateway",
            Program::Raw => "twilight, raw",
            Program::Typed => "twilight, typed",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Compression {
    Zlib,
    Zstd,
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Compression::Zlib => "zlib",
            Compression::Zstd => "zstd",
        })
    }
}

/// Where the binaries are.
pub struct Binaries {
    pub rateway: PathBuf,
    /// The folder with `floor`, `forward-zlib` and `forward-zstd`.
    pub peers: PathBuf,
}

/// What a program is to do.
#[derive(Clone, Debug)]
pub struct Task {
    pub program: Program,
    pub compression: Compression,
    pub cache: bool,
    pub threads: usize,
    pub shards: u32,
    /// An idle program's memory is looked at: mimalloc is to give back what is free, at once.
    pub gives_back: bool,
    /// A RabbitMQ instead of the broker that discards.
    pub rabbitmq: Option<String>,
}

/// The stand-in for Discord.
pub struct Sim {
    process: Process,
    pub address: String,
}

/// What the stand-in is like.
#[derive(Clone, Debug)]
pub struct World {
    pub shards: u32,
    pub guilds: u32,
    pub members: u32,
    pub load: Load,
    pub sends: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Load {
    /// Nothing after the guilds.
    Idle,
    Rate(u64),
    Full,
}

impl Sim {
    pub fn start(binary: &Path, world: &World) -> Result<Sim, String> {
        let port = free_port()?;
        let address = format!("127.0.0.1:{port}");
        let mut command = Command::new(binary);
        command.args(["sim", "--max-concurrency", "1000", "--session-starts", "1000000", "--addr", &address]);
        // One program comes after the other, each with the same shards.
        command.args(["--identify-spacing-ms", "0"]);
        command.args(["--shards", &world.shards.to_string(), "--guilds", &world.guilds.to_string()]);
        command.args(["--members", &world.members.to_string()]);
        match world.load {
            Load::Idle => command.args(["--rate", "0"]),
            Load::Rate(rate) => command.args(["--full-speed", "--rate", &rate.to_string()]),
            Load::Full => command.arg("--full-speed"),
        };
        if let Some(path) = &world.sends {
            command.arg("--sends").arg(path);
        }
        let process = Process::start(command.stdout(Stdio::null()))?;
        wait_for("the stand-in listens", 20, || TcpStream::connect(&address).is_ok())?;
        Ok(Sim { process, address })
    }

    /// The file of sends is whole after that.
    pub fn stop(self) {
        self.process.stop();
    }
}

fn free_port() -> Result<u16, String> {
    let socket = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr());
    Ok(socket.map_err(|error| format!("no free port: {error}"))?.port())
}

/// How many events have come out of a program.
enum Counter {
    /// Counted where they arrive.
    Sink(Arc<sink::Counts>),
    Drain(Arc<AtomicU64>),
    /// What the program prints, ten times a second.
    Printed(Arc<AtomicU64>),
    /// What rateway tells Prometheus, which is up to a second old.
    Metrics(SocketAddr),
}

/// A program at work.
pub struct Running {
    pub process: Process,
    counter: Counter,
}

impl Running {
    pub fn start(
        binaries: &Binaries,
        task: &Task,
        sim: &str,
        observer: Option<Observer>,
    ) -> Result<Running, String> {
        if task.program == Program::Floor {
            return Running::floor(binaries, task, sim, observer);
        }
        let sink = match &task.rabbitmq {
            Some(_) => None,
            None => Some(sink::start_observed(observer).map_err(|error| format!("the sink: {error}"))?),
        };
        let uri = match (&task.rabbitmq, &sink) {
            (Some(uri), _) => uri.clone(),
            (None, Some((address, _))) => format!("amqp://{address}"),
            (None, None) => unreachable!("one of both is there"),
        };
        let http = SocketAddr::from(([127, 0, 0, 1], free_port()?));
        let mut command;
        if task.program == Program::Rateway {
            command = Command::new(&binaries.rateway);
            command.env_clear().envs([
                ("DISCORD_TOKEN", "bench".to_owned()),
                ("INTENTS", "53608447".to_owned()),
                ("DISCORD_API_URL", format!("http://{sim}/api/v10")),
                ("AMQP_URI", uri),
                ("THREADS", task.threads.to_string()),
                ("SHARD_COUNT", task.shards.to_string()),
                ("COMPRESSION", task.compression.to_string()),
                ("CACHE_ENABLED", task.cache.to_string()),
                ("HTTP_ADDR", http.to_string()),
                ("STATE_DIR", "none".to_owned()),
                ("LOG_LEVEL", "error".to_owned()),
            ]);
        } else {
            command = Command::new(binaries.peers.join(format!("forward-{}", task.compression)));
            command.args(["--sim", sim, "--amqp", &uri]);
            command.args(["--shards", &task.shards.to_string(), "--threads", &task.threads.to_string()]);
            command.args(["--cache", &task.cache.to_string()]);
            if task.gives_back {
                command.env("MIMALLOC_PURGE_DELAY", "0");
                // A hundred guilds on their way to the broker are not what is measured either.
                command.args(["--window", "1"]);
            }
            command.args(["--typed", &(task.program == Program::Typed).to_string()]);
        }
        let mut process = Process::start(command.stdout(Stdio::piped()))?;
        let printed = last_number(process.stdout().ok_or("no pipe")?);
        let counter = match (sink, task.program) {
            (Some((_, counts)), _) => Counter::Sink(counts),
            (None, Program::Rateway) => Counter::Metrics(http),
            (None, _) => Counter::Printed(printed),
        };
        Ok(Running { process, counter })
    }

    fn floor(
        binaries: &Binaries,
        task: &Task,
        sim: &str,
        observer: Option<Observer>,
    ) -> Result<Running, String> {
        let (drain, counts) = drain(observer)?;
        let mut command = Command::new(binaries.peers.join("floor"));
        command.args([sim, &drain.to_string(), &task.shards.to_string(), &task.compression.to_string()]);
        command.arg(task.threads.to_string());
        let process = Process::start(command.stdout(Stdio::null()))?;
        Ok(Running { process, counter: Counter::Drain(counts) })
    }

    pub fn events(&self) -> u64 {
        match &self.counter {
            Counter::Sink(counts) => counts.publishes.load(Ordering::Relaxed),
            Counter::Drain(count) | Counter::Printed(count) => count.load(Ordering::Acquire),
            Counter::Metrics(address) => confirmed(*address).unwrap_or(0),
        }
    }

    /// How many events, and how much CPU time at the same moment.
    pub fn sample(&self) -> (u64, u64) {
        if matches!(self.counter, Counter::Printed(_) | Counter::Metrics(_)) {
            // Right after a new number has come, the number is of now.
            let before = self.events();
            for _ in 0..40 {
                if self.events() != before {
                    break;
                }
                std::thread::sleep(Duration::from_millis(50));
            }
        }
        (self.events(), self.process.cpu_ns())
    }
}

/// The sum of `rateway_confirmed_total`.
fn confirmed(address: SocketAddr) -> Option<u64> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let lines = text.lines().filter(|line| line.starts_with("rateway_confirmed_total"));
    let values: Option<Vec<f64>> = lines.map(|line| line.rsplit(' ').next()?.parse().ok()).collect();
    values.map(|values| values.iter().sum::<f64>() as u64)
}

/// Takes what floors write, shows dispatches to the observer and counts payloads.
fn drain(observer: Option<Observer>) -> Result<(SocketAddr, Arc<AtomicU64>), String> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(|error| format!("the drain: {error}"))?;
    let address = listener.local_addr().map_err(|error| format!("the drain: {error}"))?;
    let counts = Arc::new(AtomicU64::new(0));
    let shared = counts.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (counts, observer) = (shared.clone(), observer.clone());
            std::thread::spawn(move || swallow(stream, &counts, observer.as_ref()));
        }
    });
    Ok((address, counts))
}

fn swallow(mut stream: TcpStream, counts: &AtomicU64, observer: Option<&Observer>) {
    let mut window = vec![0; 16 << 20];
    let mut filled = 0;
    while let Ok(count @ 1..) = stream.read(&mut window[filled..]) {
        filled += count;
        let unix_ns = if observer.is_some() { sink::unix_ns() } else { 0 };
        let (mut at, mut payloads) = (0, 0);
        // shard u32 | size u32 | payload
        while let Some((head, rest)) = window[at..filled].split_first_chunk::<8>() {
            let size = u32::from_le_bytes([head[4], head[5], head[6], head[7]]) as usize;
            let Some(payload) = rest.get(..size) else { break };
            at += 8 + size;
            payloads += 1;
            if let Some(observer) = observer
                && let Some((routing_key, seq)) = dispatch(payload)
            {
                let shard_id = u32::from_le_bytes([head[0], head[1], head[2], head[3]]);
                observer(&Message { shard_id, seq, routing_key, body: payload, unix_ns });
            }
        }
        counts.fetch_add(payloads, Ordering::Release);
        window.copy_within(at..filled, 0);
        filled -= at;
    }
}

/// Name and number, by the order in which the stand-in writes them: `{"t":"NAME","s":  12,"op":0,`.
fn dispatch(payload: &[u8]) -> Option<(&[u8], u64)> {
    let rest = payload.strip_prefix(b"{\"t\":\"")?;
    let name = &rest[..rest.iter().position(|&byte| byte == b'"')?];
    let rest = rest[name.len()..].strip_prefix(b"\",\"s\":")?;
    let digits = rest[..rest.iter().position(|&byte| byte == b',')?].trim_ascii();
    Some((name, std::str::from_utf8(digits).ok()?.parse().ok()?))
}
