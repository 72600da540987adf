//! The service's doors: where shards ask, and where the operator does.

use std::net::SocketAddr;
use std::time::Duration;

use super::client::Client;
use super::home::{ADMIN_LISTENER, Home, QUEUE_LISTENER, Reactor, TIMER_ACCEPT};
use crate::reactor::Listener;
use crate::reactor::listener::Accepted;

/// How many connections are accepted in a turn, so that those that are there are served meanwhile.
const ACCEPTS_PER_TURN: usize = 256;

/// How long accepting rests when there is no descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How many connections the admin port has. 64: a scraper, a probe, some people.
const ADMIN_CONNECTIONS_MAX: usize = 64;

/// The listening sockets.
#[derive(Debug)]
pub struct Listeners {
    pub(super) queue: Listener,
    pub(super) admin: Option<Listener>,
}

impl Listeners {
    /// Where shards ask.
    pub fn bind_queue(registry: &mio::Registry, address: SocketAddr) -> std::io::Result<Listener> {
        Listener::bind(registry, address, QUEUE_LISTENER)
    }

    /// Where the operator asks.
    pub fn bind_admin(registry: &mio::Registry, address: SocketAddr) -> std::io::Result<Listener> {
        Listener::bind(registry, address, ADMIN_LISTENER)
    }

    /// Both.
    pub fn new(queue: Listener, admin: Option<Listener>) -> Listeners {
        Listeners { queue, admin }
    }
}

impl Home {
    /// Takes new connections. Returns whether there may be more.
    pub(super) fn accept(&mut self, reactor: &mut Reactor, is_admin: bool) -> bool {
        for _ in 0..ACCEPTS_PER_TURN {
            let token = self.next_token;
            let listener = match (is_admin, &mut self.listeners) {
                (false, listeners) => &mut listeners.queue,
                (true, Listeners { admin: Some(admin), .. }) => admin,
                (true, _) => return false,
            };
            match listener.accept(reactor.registry(), token) {
                Accepted::Nobody => return false,
                Accepted::Exhausted(error) => {
                    self.counts.accept_errors += 1;
                    if self.counts.accept_errors.is_power_of_two() {
                        log::warn!("cannot accept a connection: {error}; clients wait");
                    }
                    reactor.timers.set(TIMER_ACCEPT, Some(reactor.turn.now + ACCEPT_PAUSE));
                    return false;
                }
                Accepted::Socket(socket, _) => {
                    // What is counted is what shards do, not how often somebody looks at it.
                    self.counts.accepted += u64::from(!is_admin);
                    let is_full = match is_admin {
                        true => self.admins >= ADMIN_CONNECTIONS_MAX,
                        false => self.clients.len() - self.admins >= self.clients_max,
                    };
                    // Dropping it closes it: an answer of any kind would be taken for a permit.
                    if is_full && is_admin {
                        continue;
                    }
                    if is_full {
                        self.counts.refused_connections += 1;
                        if self.counts.refused_connections.is_power_of_two() {
                            log::warn!(connections = self.clients.len(); "as many connections as may be: a new one is closed");
                        }
                        continue;
                    }
                    // A client that is gone without a word gives its place up too.
                    let _ = socket.keep_alive();
                    self.next_token += 1;
                    self.admins += usize::from(is_admin);
                    let client = Client::new(socket, is_admin);
                    self.clients.insert(token, client);
                    self.set_timeout(reactor, token);
                }
            }
        }
        true
    }
}
