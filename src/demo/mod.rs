//! Everything in one process, for a look: a Discord stand-in, rateway with its broker, and a worker.
//!
//! ```text
//! sim::Server <--WebSocket--> runtime (gateway, broker, page) <--AMQP--> worker
//!                                   board --> table
//! ```
//!
//! Nothing is special about the parts: they are those of `rateway sim`, `rateway` and a program of yours, and talk over
//! sockets as these would.

mod options;
mod table;
mod worker;

use std::ffi::OsString;
use std::io::IsTerminal;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, SystemTime};

use crate::config::{Config, ToolsConfig};
use crate::reactor::clock;
use crate::runtime::{self, Flags};
use crate::sim::{INTENTS_ALL, Server, ServerOptions};
use crate::status::Board;
use crate::{logging, sim};
use options::{Asked, Options};
use worker::Seen;

/// Where its broker and its page are, if these ports are free; else one of the next.
const BROKER_PORT: u16 = 5672;
const HTTP_PORT: u16 = 9980;
const PORTS_TRIED: u16 = 100;

const TOKEN: &str = "demo";
const SHARDS_PER_CLUSTER: u32 = 2;

/// How often the table is drawn, and a line printed where there is no terminal.
const TABLE_INTERVAL: Duration = Duration::from_secs(1);
const LINE_INTERVAL: Duration = Duration::from_secs(5);

/// Runs the demo with the arguments behind `rateway demo`.
pub fn run(arguments: impl Iterator<Item = OsString>, wall_clock: fn() -> SystemTime) -> ExitCode {
    match options::parse(arguments) {
        Ok(Asked::Help) => {
            print!("{}", options::HELP);
            ExitCode::SUCCESS
        }
        Ok(Asked::Run(options)) => match play(&options, wall_clock) {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::FAILURE,
            Err(why) => {
                eprintln!("rateway demo: {why}");
                ExitCode::FAILURE
            }
        },
        Err(error) => {
            eprintln!("rateway demo: {error}\n`rateway demo --help` shows how it is called");
            ExitCode::from(2)
        }
    }
}

/// Plays until a signal, or until everything was seen once. Whether it was.
fn play(options: &Options, wall_clock: fn() -> SystemTime) -> Result<bool, String> {
    let discord = sim::Options {
        shards: options.shards,
        // All may identify at once: a newcomer is not to wait 5 s for each shard.
        max_concurrency: options.shards.max(16),
        guilds: options.guilds,
        members: 20,
        rate: options.rate,
        gateway_url: String::new(),
        ..sim::Options::default()
    };
    let sim = Server::start(ServerOptions { discord, ..ServerOptions::default() })
        .map_err(|error| format!("the stand-in for Discord cannot start: {error}"))?;
    let broker = free_address(BROKER_PORT).ok_or("no port is free for the broker")?;
    let page = free_address(HTTP_PORT).ok_or("no port is free for the page")?;
    let is_terminal = std::io::stdout().is_terminal();
    let config = config(&sim, options, broker, page, is_terminal)?;
    logging::start(logging::Options {
        filter: config.log_level.clone(),
        format: config.log_format,
        now: wall_clock,
    });

    let board = Arc::new(Board::new(clock::read().now));
    let seen = Arc::new(Seen::default());
    let ends = Arc::new(AtomicBool::new(false));
    let clusters = options.shards.div_ceil(SHARDS_PER_CLUSTER);
    let uri = format!("amqp://guest:guest@{broker}");
    let tools = ToolsConfig::load(None, |name| (name == "AMQP_URI").then(|| OsString::from(&uri)))
        .map_err(|problems| problems.to_string())?;
    let worker = {
        let (seen, ends, shards) = (seen.clone(), ends.clone(), options.shards);
        let body = move || worker::run(&tools, clusters, shards, &seen, &ends);
        thread::Builder::new().name("worker".into()).spawn(body)
    };
    let worker = worker.map_err(|error| format!("threads: {error}"))?;
    let table = {
        let (board, seen, ends) = (board.clone(), seen.clone(), ends.clone());
        let (shards, once) = (options.shards, options.once);
        let places = format!("page http://{page}  broker {uri}");
        let body = move || show(&board, &seen, &ends, &places, shards, once, is_terminal);
        thread::Builder::new().name("table".into()).spawn(body)
    };
    let table = table.map_err(|error| format!("threads: {error}"))?;

    let ran = runtime::run_with(config, Flags::default(), board);
    // Ordering: a flag alone, which both threads look at again soon.
    ends.store(true, Ordering::Relaxed);
    // What they had to say they have said.
    let _ = table.join();
    let _ = worker.join();
    let sent = sim.ledger().dispatches;
    sim.stop();
    ran.map_err(|error| error.to_string())?;
    println!("demo: Discord sent {sent} events, the worker heard {}", seen.words());
    Ok(seen.saw_everything(options.shards) || !options.once)
}

/// An address of this machine where nobody listens.
fn free_address(first: u16) -> Option<SocketAddr> {
    (first..first.saturating_add(PORTS_TRIED))
        .map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
        .find(|address| TcpListener::bind(address).is_ok())
}

/// The gateway's configuration: that of the demo, and what else stands in the environment.
fn config(
    sim: &Server,
    options: &Options,
    broker: SocketAddr,
    page: SocketAddr,
    is_terminal: bool,
) -> Result<Config, String> {
    let own = [
        ("DISCORD_TOKEN", TOKEN.to_owned()),
        ("DISCORD_API_URL", sim.api_url()),
        ("INTENTS", INTENTS_ALL.to_string()),
        ("SHARD_COUNT", options.shards.to_string()),
        ("SHARDS_PER_CLUSTER", SHARDS_PER_CLUSTER.to_string()),
        ("BROKER_ADDR", broker.to_string()),
        ("HTTP_ADDR", page.to_string()),
        // Each stand-in is a Discord of its own: what was kept of the last one is of no use to this one.
        ("STATE_DIR", "none".to_owned()),
    ];
    let presets = [("LOG_LEVEL", if is_terminal { "warn" } else { "info" }), ("CACHE_MEMORY", "64MiB")];
    let taken_away = ["AMQP_URI", "CLUSTERS", "QUEUE_URL", "BROKER_USERS", "EXTRA_SHARDS"];
    let variable = |name: &str| {
        if let Some((_, value)) = own.iter().find(|(known, _)| *known == name) {
            return Some(OsString::from(value));
        }
        let base = name.strip_suffix("_FILE").unwrap_or(name);
        if taken_away.contains(&base) || own.iter().any(|(known, _)| *known == base) {
            return None;
        }
        let preset = presets.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value));
        std::env::var_os(name).or(preset)
    };
    Config::load(None, variable).map_err(|problems| problems.to_string())
}

fn show(
    board: &Board,
    seen: &Seen,
    ends: &AtomicBool,
    places: &str,
    shards: u32,
    once: bool,
    is_terminal: bool,
) {
    let mut table = table::Table::new(places, is_terminal);
    let interval = if is_terminal { TABLE_INTERVAL } else { LINE_INTERVAL };
    let mut next = clock::read().now;
    while !ends.load(Ordering::Relaxed) {
        let now = clock::read().now;
        board.look(now);
        if once && seen.saw_everything(shards) {
            // The gateway's own way to stop, as by Ctrl-C.
            let _ = signal_hook::low_level::raise(signal_hook::consts::SIGTERM);
            return;
        }
        if now >= next {
            next = now + interval;
            table.draw(now, &board.overview(now), seen);
        }
        thread::sleep(Duration::from_millis(50));
    }
}
