//! What the operator sees: a page, metrics, health, on one port and a thread of its own.
//!
//! ```text
//! reactor threads: figures --put--> board <--overview-- routes <-- home (HTTP thread) <-- browser, scraper, probe
//!                  incidents ------^   |
//! one shard <----------- Source <------+ reconnect
//! ```
//!
//! What never happens here: waiting for a reactor thread, or making one wait; a secret in an answer; a piece of memory
//! that grows with what clients do. Nobody has to log in to look, so the port is this machine's alone unless the operator
//! says otherwise; to change something takes ADMIN_TOKEN.

pub mod board;
mod client;
mod counts;
mod exposition;
pub mod figures;
#[doc(hidden)]
pub mod fuzz;
mod history;
mod home;
pub mod incidents;
mod json;
pub mod metrics;
mod page;
mod process;
mod routes;

use std::io;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;

use crate::base::Secret;
use crate::reactor::{self, Listener, Mesh, NoTask};
pub use board::{Board, Source};
use home::Home;
pub use home::{CONNECTIONS_MAX, STREAMS_MAX};
pub use incidents::Subject;

/// How many ports are tried in turn where nobody has said which.
const PORTS_TRIED: u16 = 10;

/// Where the page is, and who may do what.
#[derive(Clone, Debug)]
pub struct Options {
    /// HTTP_ADDR.
    pub address: SocketAddr,
    /// Whether somebody has said so: then another port will not do.
    pub is_asked_for: bool,
    /// ADMIN_TOKEN.
    pub admin_token: Option<Secret>,
}

/// Starts the page's thread, which ends with the process.
///
/// # Errors
/// When it cannot listen where it was told to.
pub fn start(options: Options, board: Arc<Board>) -> io::Result<()> {
    let reactors = Mesh::<NoTask, ()>::with_threads(1)?;
    // One was asked for.
    let Some(mut reactor) = reactors.into_iter().next() else { return Ok(()) };
    let listener = match listen(&reactor, &options) {
        Ok(listener) => listener,
        Err(error) if options.is_asked_for => return Err(error),
        Err(error) => {
            log::warn!("there is no status page: {}: {error}", options.address);
            return Ok(());
        }
    };
    let address = listener.local_addr()?;
    log::info!("status page on http://{address}");
    let is_loopback = address.ip().is_loopback();
    if !is_loopback {
        log::warn!(
            "HTTP_ADDR {address} is not this machine's alone: the status page has no login, and whoever reaches it can \
             read it"
        );
    }
    let settings =
        routes::Settings { admin_token: options.admin_token, is_loopback, page: page::Page::new() };
    let body = move || {
        let ran = catch_unwind(AssertUnwindSafe(|| {
            let mut home = Home::new(listener, settings, board);
            home.start(&mut reactor);
            reactor::run(reactor, home).map(|_| ())
        }));
        match ran {
            Ok(Ok(())) => {}
            Ok(Err(error)) => log::error!("the status page has ended: epoll: {error}"),
            // Events flow on without it; a probe of /healthz notices.
            Err(_) => log::error!("the status page has ended by a bug in rateway"),
        }
    };
    thread::Builder::new().name("http".into()).spawn(body)?;
    Ok(())
}

/// Listens where it was said, or on the next free port of ten where nobody has said.
fn listen(reactor: &reactor::Reactor<NoTask, ()>, options: &Options) -> io::Result<Listener> {
    let first = options.address;
    let tried = if options.is_asked_for { 1 } else { PORTS_TRIED };
    let mut result = Err(io::Error::from(io::ErrorKind::AddrInUse));
    for step in 0..tried {
        let mut address = first;
        address.set_port(first.port().saturating_add(step));
        result = Listener::bind(reactor.registry(), address, home::LISTENER);
        match &result {
            Ok(_) if step > 0 => {
                log::info!("port {} is taken: the status page is on {}", first.port(), address.port());
                break;
            }
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            _ => break,
        }
    }
    result
}
