//! The embedded broker on sockets: `rateway broker`, or a thread of another process.
//!
//! One reactor thread with a listener, the clients' sockets and one [`Broker`]. A turn reads from each client that has
//! something, within a budget; lets the broker do what that gathered; and writes to each client once.
//!
//! ```text
//! home     sockets and the broker         words     what is logged         figures     what others may know
//! ```

mod figures;
mod home;
mod words;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::broker::{self, Broker, User};
use crate::config::{BrokerConfig, BrokerSettings};
use crate::reactor::{self, Listener, Mesh, NoTask, clock, open_files};
pub use figures::Figures;
use home::{Home, LISTENER, Message};

/// What a server needs to know.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where it listens.
    pub address: SocketAddr,
    /// Whether it may take one of the next ports where that one is taken. Not for an address that somebody chose:
    /// clients would look for it there.
    pub may_move: bool,
    /// The broker's own.
    pub broker: broker::Options,
}

impl From<&BrokerSettings> for Options {
    fn from(settings: &BrokerSettings) -> Options {
        let users = settings
            .users
            .iter()
            .map(|(name, password)| User { name: name.clone(), password: password.clone() })
            .collect();
        let memory_bytes = settings.memory_bytes;
        let broker = broker::Options { users, memory_bytes, ..broker::Options::default() };
        Options { address: settings.address, may_move: !settings.is_address_set, broker }
    }
}

/// Why a server ends with an error.
#[derive(Debug)]
pub enum Error {
    /// It cannot listen there.
    Listen(SocketAddr, io::Error),
    /// The system refused something that it cannot do without.
    Io(&'static str, io::Error),
}

impl std::error::Error for Error {}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Listen(address, error) => write!(f, "cannot listen on {address}: {error}"),
            Error::Io(what, error) => write!(f, "{what}: {error}"),
        }
    }
}

/// A broker that listens and does not run yet.
pub struct Server {
    reactor: reactor::Reactor<NoTask, Message>,
    listener: Listener,
    broker: Broker,
    figures: Figures,
    address: SocketAddr,
}

/// Stops a [`Server`], from any thread.
#[derive(Clone)]
pub struct Stopper {
    mesh: Arc<Mesh<NoTask, Message>>,
}

impl Stopper {
    /// Tells every client that the broker stops, and lets [`Server::run`] return once they know or have had their time.
    pub fn stop(&self) {
        self.mesh.post(0, Message::Stop);
    }
}

impl Server {
    /// Begins to listen. Clients wait from here on; they are served once [`Server::run`] runs.
    ///
    /// # Errors
    /// When the address cannot be had or the system refuses something.
    pub fn bind(options: Options) -> Result<Server, Error> {
        let reactors = Mesh::<NoTask, Message>::with_threads(1).map_err(|error| Error::Io("epoll", error))?;
        let Some(reactor) = reactors.into_iter().next() else {
            return Err(Error::Io("epoll", io::Error::other("no reactor")));
        };
        let Options { address, may_move, mut broker } = options;
        let listener =
            listen(reactor.registry(), address, may_move).map_err(|error| Error::Listen(address, error))?;
        let bound = listener.local_addr().map_err(|error| Error::Listen(address, error))?;
        if bound.port() != address.port() && address.port() != 0 {
            log::warn!(
                "port {} is taken by another program: taking {} instead",
                address.port(),
                bound.port()
            );
        }
        broker.connections_max = connections_max(broker.connections_max);
        let mut seed = [0; 8];
        getrandom::fill(&mut seed).map_err(|error| Error::Io("randomness", io::Error::other(error)))?;
        let turn = clock::read();
        let broker = Broker::new(broker, u64::from_le_bytes(seed), turn.now, turn.wall_ms / 1000);
        Ok(Server { reactor, listener, broker, figures: Figures::default(), address: bound })
    }

    /// Where it listens, with the port that was taken in the end.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What can be known of it from any thread, while it runs and afterwards.
    pub fn figures(&self) -> Figures {
        self.figures.clone()
    }

    /// What stops it.
    pub fn stopper(&self) -> Stopper {
        Stopper { mesh: self.reactor.mesh().clone() }
    }

    /// Serves clients on this thread until it is stopped.
    ///
    /// # Errors
    /// When epoll itself fails.
    pub fn run(self) -> Result<(), Error> {
        let Server { mut reactor, listener, broker, figures, .. } = self;
        let mut home = Home::new(listener, broker, figures);
        home.start(&mut reactor);
        reactor::run(reactor, home).map_err(|error| Error::Io("epoll", error))?;
        Ok(())
    }
}

/// How many further ports are tried when one is taken.
const FURTHER_PORTS: u16 = 10;

/// Listens on `address`, or on one of the ports behind it if that is taken and `may_move`.
fn listen(registry: &mio::Registry, address: SocketAddr, may_move: bool) -> io::Result<Listener> {
    let first = match Listener::bind(registry, address, LISTENER) {
        Err(error) if may_move && error.kind() == io::ErrorKind::AddrInUse => error,
        other => return other,
    };
    let further = (1..=FURTHER_PORTS).filter_map(|further| address.port().checked_add(further));
    for port in further {
        match Listener::bind(registry, SocketAddr::new(address.ip(), port), LISTENER) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            other => return other,
        }
    }
    Err(first)
}

/// How many clients may be connected: as many as are meant, if the system lets the process open so many files.
fn connections_max(wanted: usize) -> usize {
    match open_files::raise_limit(wanted as u64) {
        Ok(None) => wanted,
        Ok(Some(advice)) => {
            let room = open_files::room().unwrap_or(wanted).min(wanted);
            log::warn!("{room} clients can be connected at a time: {advice}");
            room
        }
        Err(error) => {
            log::warn!("cannot tell how many files may be open: {error}");
            wanted
        }
    }
}

/// Runs the broker alone until a signal.
///
/// # Errors
/// When it could not start.
pub fn run(config: &BrokerConfig) -> Result<(), Error> {
    let server = Server::bind(Options::from(&config.broker))?;
    let stopper = server.stopper();
    let is_stopping = AtomicBool::new(false);
    let mut signals = Signals::new([SIGINT, SIGTERM]).map_err(|error| Error::Io("signals", error))?;
    let watch = move || {
        for _ in &mut signals {
            if is_stopping.swap(true, Ordering::SeqCst) {
                std::process::exit(1);
            }
            stopper.stop();
        }
    };
    thread::Builder::new()
        .name("signals".into())
        .spawn(watch)
        .map_err(|error| Error::Io("threads", error))?;
    log::info!("the broker listens on amqp://{}", server.address());
    log::info!(
        "messages take {} MiB at most and are kept in memory: none outlives the broker, whatever is durable",
        config.broker.memory_bytes >> 20
    );
    server.run()
}
