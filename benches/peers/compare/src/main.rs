//! rateway next to what people would write in its place, on real sockets: the same recorded events of the stand-in through
//! each program, in turns.
//!
//!     compare [--rateway ../../target/release/rateway] [--peers FOLDER] [--rabbitmq URI] [--rounds 3] [--seconds 2]
//!             [--only check,full,fixed,half,rabbitmq,memory] [--programs floor,rateway,raw,typed]
//!             [--compression zlib,zstd] [--cache off,on] [--threads 1,2] [--shards 16]
//!             [--quick] [--write]
//!
//! `--quick` is one short round of everything. `--write` puts tables and plot where readers find them: README.md,
//! benches/peers/README.md and docs/peers.svg. Both without the parts that were not run.

mod check;
mod latency;
mod memory;
mod plot;
mod process;
mod programs;
mod report;
#[path = "../../../support/sink.rs"]
mod sink;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::latency::{Arrivals, Percentiles, Sends};
use crate::process::wait_for;
use crate::programs::{Binaries, Compression, Load, Program, Running, Sim, Task, World};

/// Guilds of the stand-in, and members of each, except where memory is measured.
const GUILDS: u32 = 32;
const MEMBERS: u32 = 100;
/// The fixed load: wake-ups and small writes dominate there.
const FIXED_RATE: u64 = 10_000;
/// From when all shards send until it is measured.
const WARM_UP: Duration = Duration::from_millis(500);

struct Options {
    binaries: Binaries,
    rabbitmq: Option<String>,
    rounds: usize,
    seconds: f64,
    only: Vec<String>,
    programs: Vec<Program>,
    compressions: Vec<Compression>,
    caches: Vec<bool>,
    threads: Vec<usize>,
    shards: u32,
    write: bool,
}

impl Options {
    fn runs(&self, part: &str) -> bool {
        self.only.iter().any(|it| it == part)
    }

    fn world(&self, load: Load) -> World {
        World { shards: self.shards, guilds: GUILDS, members: MEMBERS, load, sends: None }
    }

    /// The floor has no cache and publishes to no broker.
    fn has(program: Program, cache: bool, rabbitmq: bool) -> bool {
        program != Program::Floor || !(cache || rabbitmq)
    }
}

/// What a row of the tables is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Full,
    Fixed,
    Half,
}

/// A program under some load.
struct Row {
    kind: Kind,
    task: Task,
    /// Events a second that the stand-in was asked for.
    rate: Option<u64>,
    samples: Vec<Sample>,
}

/// One round.
#[derive(Clone, Copy)]
struct Sample {
    events_per_s: f64,
    cpu_us: f64,
    latency: Option<Percentiles>,
}

impl Row {
    fn median(&self, figure: impl Fn(&Sample) -> f64) -> f64 {
        let mut values: Vec<f64> = self.samples.iter().map(figure).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
    }

    fn cpu_us(&self) -> f64 {
        self.median(|sample| sample.cpu_us)
    }

    fn events_per_s(&self) -> f64 {
        self.median(|sample| sample.events_per_s)
    }

    fn latency(&self) -> Option<Percentiles> {
        let each = |at: usize| self.median(|sample| sample.latency.map_or(f64::NAN, |latency| latency[at]));
        self.samples.first()?.latency?;
        Some([each(0), each(1), each(2)])
    }
}

/// Everything that was found.
#[derive(Default)]
struct Findings {
    checked: u64,
    rows: Vec<Row>,
    memory: Vec<memory::Figure>,
    took: Duration,
}

fn main() {
    if let Err(error) = run() {
        eprintln!("compare: {error}");
        std::process::exit(1);
    }
}

fn run() -> Result<(), String> {
    let options = parse(std::env::args().skip(1))?;
    let start = Instant::now();
    let mut findings = Findings::default();
    if options.runs("check") {
        let world = options.world(Load::Idle);
        findings.checked = check::check(&options.binaries, &options.programs, &options.compressions, &world)?;
        println!("every program delivered the same {} events", findings.checked);
    }
    if options.runs("full") {
        findings.rows.extend(group(&options, Kind::Full, None, tasks(&options, &options.threads))?);
    }
    if options.runs("fixed") {
        let tasks = tasks(&options, &[1]);
        findings.rows.extend(group(&options, Kind::Fixed, Some(FIXED_RATE), tasks)?);
    }
    if options.runs("half") {
        for (compression, cache) in settings(&options) {
            let Some(rate) = half_load(&findings, compression, cache) else {
                println!(
                    "half load, {compression}, cache {cache}: left out, it takes full of raw on 1 thread"
                );
                continue;
            };
            let mut tasks = tasks(&options, &[1]);
            tasks.retain(|task| task.compression == compression && task.cache == cache);
            findings.rows.extend(group(&options, Kind::Half, Some(rate), tasks)?);
        }
    }
    if options.runs("rabbitmq") {
        match &options.rabbitmq {
            Some(uri) => {
                let mut tasks = tasks(&options, &[1]);
                // What a broker takes does not depend on how events came.
                let first = options.compressions.first().copied();
                tasks.retain(|task| {
                    Options::has(task.program, task.cache, true) && Some(task.compression) == first
                });
                tasks.iter_mut().for_each(|task| task.rabbitmq = Some(uri.clone()));
                findings.rows.extend(group(&options, Kind::Full, None, tasks.clone())?);
                findings.rows.extend(group(&options, Kind::Fixed, Some(FIXED_RATE), tasks)?);
            }
            None => println!("to RabbitMQ: left out, --rabbitmq URI is missing"),
        }
    }
    if options.runs("memory") {
        findings.memory = memory::measure(&options)?;
    }
    findings.took = start.elapsed();
    report::report(&options, &findings)
}

/// Compression and cache.
fn settings(options: &Options) -> Vec<(Compression, bool)> {
    let each = |&compression| options.caches.iter().map(move |&cache| (compression, cache));
    options.compressions.iter().flat_map(each).collect()
}

fn tasks(options: &Options, threads: &[usize]) -> Vec<Task> {
    let mut tasks = Vec::new();
    for &threads in threads {
        for (compression, cache) in settings(options) {
            for &program in &options.programs {
                if Options::has(program, cache, false) {
                    let shards = options.shards;
                    let (gives_back, rabbitmq) = (false, None);
                    tasks.push(Task { program, compression, cache, threads, shards, gives_back, rabbitmq });
                }
            }
        }
    }
    tasks
}

/// Half of what the raw forwarder takes on one thread, so that every program sees the same.
fn half_load(findings: &Findings, compression: Compression, cache: bool) -> Option<u64> {
    let row = findings.rows.iter().find(|row| {
        let task = &row.task;
        row.kind == Kind::Full
            && (task.program, task.compression, task.cache) == (Program::Raw, compression, cache)
            && task.threads == 1
            && task.rabbitmq.is_none()
    })?;
    Some((row.events_per_s() / 2.0) as u64)
}

/// Runs the tasks in turns under the same load of the same stand-in.
fn group(options: &Options, kind: Kind, rate: Option<u64>, tasks: Vec<Task>) -> Result<Vec<Row>, String> {
    let load = rate.map_or(Load::Full, Load::Rate);
    let mut world = options.world(load);
    let observed = kind != Kind::Full && tasks.iter().all(|task| task.rabbitmq.is_none());
    if observed {
        world.sends = Some(std::env::temp_dir().join(format!("rateway-peers-{}.sends", std::process::id())));
    }
    let sim = Sim::start(&options.binaries.rateway, &world)?;
    let mut rows: Vec<Row> =
        tasks.into_iter().map(|task| Row { kind, task, rate, samples: Vec::new() }).collect();
    let mut watched = Vec::new();
    for round in 0..options.rounds {
        for (at, row) in rows.iter_mut().enumerate() {
            let arrivals = observed.then(Arrivals::default);
            let running = Running::start(
                &options.binaries,
                &row.task,
                &sim.address,
                arrivals.as_ref().map(Arrivals::observer),
            )?;
            let what = format!("{} forwards events", row.task.program.name());
            wait_for(&what, 30, || running.events() > 100 * u64::from(row.task.shards))?;
            std::thread::sleep(WARM_UP);
            let (events_before, cpu_before) = running.sample();
            let (from_ns, started) = (sink::unix_ns(), Instant::now());
            std::thread::sleep(Duration::from_secs_f64(options.seconds));
            let (events, cpu_ns) = running.sample();
            let seconds = started.elapsed().as_secs_f64();
            let until_ns = sink::unix_ns();
            let events = (events - events_before) as f64;
            let sample = Sample {
                events_per_s: events / seconds,
                cpu_us: (cpu_ns - cpu_before) as f64 / 1e3 / events,
                latency: None,
            };
            println!(
                "{:<5} {} {:<15} {:<4} cache {:<5} {} thread(s) {:<8} {:7.2} us CPU/event {:9.0} events/s",
                format!("{kind:?}").to_lowercase(),
                round + 1,
                row.task.program.name(),
                row.task.compression.to_string(),
                row.task.cache,
                row.task.threads,
                if row.task.rabbitmq.is_some() { "RabbitMQ" } else { "discards" },
                sample.cpu_us,
                sample.events_per_s,
            );
            row.samples.push(sample);
            if let Some(arrivals) = arrivals {
                watched.push((at, round, arrivals, from_ns, until_ns));
            }
        }
    }
    sim.stop();
    if let Some(path) = &world.sends {
        let sends = Sends::read(path)?;
        for (at, round, arrivals, from_ns, until_ns) in watched {
            match sends.latencies(&arrivals, from_ns, until_ns) {
                Ok(latency) => rows[at].samples[round].latency = Some(latency),
                Err(error) => println!("{}: {error}", rows[at].task.program.name()),
            }
        }
        std::fs::remove_file(path).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(rows)
}

fn parse(arguments: impl Iterator<Item = String>) -> Result<Options, String> {
    let program = std::env::current_exe().map_err(|error| format!("where am I: {error}"))?;
    let peers = program.parent().map(PathBuf::from).unwrap_or_default();
    let rateway = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../target/release/rateway"));
    let list = |text: &str| text.split(',').map(str::to_owned).collect::<Vec<_>>();
    let mut options = Options {
        binaries: Binaries { rateway, peers },
        rabbitmq: None,
        rounds: 3,
        seconds: 2.0,
        only: list("check,full,fixed,half,rabbitmq,memory"),
        programs: Program::ALL.to_vec(),
        compressions: vec![Compression::Zlib, Compression::Zstd],
        caches: vec![false, true],
        threads: vec![1, 2],
        shards: 16,
        write: false,
    };
    let mut arguments = arguments.peekable();
    while let Some(name) = arguments.next() {
        match name.as_str() {
            "--quick" => (options.rounds, options.seconds) = (1, 0.5),
            "--write" => options.write = true,
            _ => {
                let value = arguments.next().ok_or_else(|| format!("{name} takes a value"))?;
                let wrong = || format!("{name}: what is {value}?");
                let number = || value.parse::<f64>().map_err(|_| wrong());
                match name.as_str() {
                    "--rateway" => options.binaries.rateway = value.into(),
                    "--peers" => options.binaries.peers = value.into(),
                    "--rabbitmq" => options.rabbitmq = Some(value),
                    "--rounds" => options.rounds = number()? as usize,
                    "--seconds" => options.seconds = number()?,
                    "--shards" => options.shards = number()? as u32,
                    "--only" => options.only = list(&value),
                    "--programs" => {
                        let named = |name: &String| match name.as_str() {
                            "floor" => Ok(Program::Floor),
                            "rateway" => Ok(Program::Rateway),
                            "raw" => Ok(Program::Raw),
                            "typed" => Ok(Program::Typed),
                            _ => Err(wrong()),
                        };
                        options.programs = list(&value).iter().map(named).collect::<Result<_, _>>()?;
                    }
                    "--compression" => {
                        let named = |name: &String| match name.as_str() {
                            "zlib" => Ok(Compression::Zlib),
                            "zstd" => Ok(Compression::Zstd),
                            _ => Err(wrong()),
                        };
                        options.compressions = list(&value).iter().map(named).collect::<Result<_, _>>()?;
                    }
                    "--cache" => {
                        let named = |name: &String| match name.as_str() {
                            "off" => Ok(false),
                            "on" => Ok(true),
                            _ => Err(wrong()),
                        };
                        options.caches = list(&value).iter().map(named).collect::<Result<_, _>>()?;
                    }
                    "--threads" => {
                        let numbers = list(&value).into_iter().map(|it| it.parse().map_err(|_| wrong()));
                        options.threads = numbers.collect::<Result<_, _>>()?;
                    }
                    _ => return Err(format!("unknown argument {name}")),
                }
            }
        }
    }
    Ok(options)
}
