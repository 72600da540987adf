//! The identify queue for shards in other programs: `rateway queue`.
//!
//! An HTTP service on one reactor thread. A request waits until its shard may identify and is then answered; any
//! answer is a permit to the clients there are, so whatever goes wrong ends in silence: a wait or a closed connection.
//!
//! ```text
//! asked      what a request asks for            gates      a queue::Machine per bot
//! client     a connection                       memory     the gates' state in files
//! home       sockets, clients and gates         listeners  new connections
//! admin      metrics and health                 counts     what is counted
//! ```

mod admin;
pub mod asked;
mod client;
mod counts;
pub mod gates;
mod home;
mod listeners;
mod memory;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::config::QueueConfig;
use crate::http::{self, Asker};
use crate::queue::{Machine, Refresh, Snapshot};
use crate::reactor::{self, Mesh, NoTask, clock, open_files};
use crate::state::{Folder, OpenError};
use gates::{Gates, OWN, Settings};
use home::{Home, Message};
use listeners::Listeners;
use memory::Memory;

/// How many gates there may be besides the service's own.
const GATES_MAX: usize = 1000;

/// Why the service ends with an error.
#[derive(Debug)]
pub enum Error {
    /// It cannot listen there.
    Listen(SocketAddr, io::Error),
    /// The system refused something that it cannot do without.
    Io(&'static str, io::Error),
    /// Another process has the folder with the state.
    StateTaken(String),
    /// Discord refused the token.
    Fatal(String),
}

impl std::error::Error for Error {}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Listen(address, error) => write!(f, "cannot listen on {address}: {error}"),
            Error::Io(what, error) => write!(f, "{what}: {error}"),
            Error::StateTaken(path) => {
                write!(f, "another identify queue keeps its state in {path}: give each its own STATE_DIR")
            }
            Error::Fatal(why) => f.write_str(why),
        }
    }
}

/// Runs the service until a signal.
///
/// # Errors
/// When it could not start, or Discord refuses the token.
pub fn run(config: QueueConfig) -> Result<(), Error> {
    let stop = Arc::new(AtomicBool::new(false));
    let reactors = Mesh::<NoTask, Message>::with_threads(1).map_err(|error| Error::Io("epoll", error))?;
    // One was asked for.
    let Some(mut reactor) = reactors.into_iter().next() else { return Ok(()) };
    let mesh = reactor.mesh().clone();

    let clients_max = clients_max(config.connections_max);
    let listen = |address, bind: fn(&mio::Registry, SocketAddr) -> io::Result<_>| {
        bind(reactor.registry(), address).map_err(|error| Error::Listen(address, error))
    };
    let queue = listen(config.address, Listeners::bind_queue)?;
    let admin = match config.admin {
        None => None,
        Some((address, is_asked_for)) => match listen(address, Listeners::bind_admin) {
            Ok(listener) => Some(listener),
            Err(error) if is_asked_for => return Err(error),
            Err(error) => {
                log::warn!("there are no metrics: {error}");
                None
            }
        },
    };
    for (what, listener) in [("shards ask", Some(&queue)), ("metrics", admin.as_ref())] {
        if let Some(Ok(address)) = listener.map(reactor::Listener::local_addr) {
            log::info!("{what} on http://{address}");
        }
    }

    let own_hash = config.token.as_ref().map(|token| crate::base::sha256_hex(token.expose()));
    let memory = Memory::new(folder(&config)?, own_hash.clone(), clock::read().wall_ms);
    let settings = Settings {
        slack: config.identify_slack,
        reserve: config.identify_reserve,
        requests_max: clients_max,
        gates_max: GATES_MAX,
        is_kept: memory.keeps(),
    };
    let (machine, remembers) = own_machine(&config, &settings, &memory);
    let gates = Gates::new(settings, machine, own_hash, remembers, clock::read().now);
    let discord = match &config.token {
        None => None,
        Some(token) => {
            let options = http::Options {
                api_url: config.discord_api_url.clone(),
                token: token.clone(),
                ca_pem: config.discord_ca.as_ref().map(|file| file.pem.clone()),
            };
            let replies = mesh.clone();
            let mut seed = [0; 8];
            getrandom::fill(&mut seed).map_err(|error| Error::Io("randomness", io::Error::other(error)))?;
            let reply = move |told| replies.post(0, Message::Told(told));
            let asker = Asker::start(options, u64::from_le_bytes(seed), stop.clone(), reply)
                .map_err(|error| Error::Io("threads", error))?;
            Some((Refresh::default(), asker))
        }
    };

    let mut signals = Signals::new([SIGINT, SIGTERM]).map_err(|error| Error::Io("signals", error))?;
    let target = mesh.clone();
    let watch = move || {
        for _ in &mut signals {
            if stop.swap(true, Ordering::SeqCst) {
                std::process::exit(1);
            }
            target.post(0, Message::Stop);
        }
    };
    thread::Builder::new()
        .name("signals".into())
        .spawn(watch)
        .map_err(|error| Error::Io("threads", error))?;

    let mut home = Home::new(Listeners::new(queue, admin), gates, memory, discord, clients_max, remembers);
    home.start(&mut reactor);
    let home = reactor::run(reactor, home).map_err(|error| Error::Io("epoll", error))?;
    match home.failure() {
        Some(why) => Err(Error::Fatal(why)),
        None => Ok(()),
    }
}

/// How many connections may be open: as many as set, if the system lets the process open so many files.
fn clients_max(wanted: usize) -> usize {
    match open_files::raise_limit(wanted as u64) {
        Ok(None) => wanted,
        Ok(Some(advice)) => {
            let room = open_files::room().unwrap_or(wanted).min(wanted);
            log::info!("{room} shards can wait at a time: {advice}");
            room
        }
        Err(error) => {
            log::warn!("cannot tell how many files may be open: {error}");
            wanted
        }
    }
}

/// The folder with the state, locked. One that cannot be used is told of, and the service does without.
fn folder(config: &QueueConfig) -> Result<Option<Folder>, Error> {
    let Some(path) = &config.state_dir else {
        log::warn!(
            "session starts are not kept over a restart (STATE_DIR): what is left of today is counted anew then"
        );
        return Ok(None);
    };
    match Folder::open(path, "queue") {
        Ok(folder) => Ok(Some(folder)),
        Err(OpenError::Taken) => Err(Error::StateTaken(path.display().to_string())),
        Err(OpenError::Io(error)) => {
            log::warn!("session starts are not kept over a restart: STATE_DIR {}: {error}", path.display());
            Ok(None)
        }
    }
}

/// The queue of the service's own bot, and whether it remembers what it may give. With a token it is closed until
/// Discord has said that; without a memory, nobody knows what was granted just before the start.
fn own_machine(config: &QueueConfig, settings: &Settings, memory: &Memory) -> (Machine, bool) {
    let turn = clock::read();
    let options = Gates::options(settings, config.concurrency, None);
    let remembered = memory.read(turn.wall_ms, OWN);
    let remembers = remembered.is_some();
    let mut machine = match remembered {
        Some((snapshot, elapsed)) if config.token.is_some() => {
            Machine::restore(options, &snapshot, elapsed, turn.now)
        }
        Some((snapshot, elapsed)) => {
            // What is set now counts, not what was set then.
            let snapshot = Snapshot { total: options.total, ..snapshot };
            let mut machine = Machine::restore(options, &snapshot, elapsed, turn.now);
            machine.set_max_concurrency(turn.now, options.max_concurrency);
            machine
        }
        None => {
            let mut machine = Machine::new(options, turn.now);
            if config.token.is_none() {
                machine.keep_distance(turn.now);
            }
            machine
        }
    };
    machine.set_closed(turn.now, config.token.is_some());
    (machine, remembers)
}
