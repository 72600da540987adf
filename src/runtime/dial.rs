//! From a host name to a connected socket: resolve, then try each address in turn.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::reactor::{Readiness, Socket};

/// How long one address is tried before the next. A dead IPv6 route must not use up a shard's connect timeout.
pub const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection being made.
#[derive(Debug)]
pub struct Dial {
    token: usize,
    addresses: std::vec::IntoIter<SocketAddr>,
    attempt: Option<Socket>,
    /// When the present attempt is given up.
    pub deadline: Option<Instant>,
    last_error: io::Error,
}

impl Dial {
    /// A dial whose name is being resolved; its sockets are registered with `token`.
    pub fn new(token: usize) -> Dial {
        let last_error = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        Dial { token, addresses: Vec::new().into_iter(), attempt: None, deadline: None, last_error }
    }

    /// The token that readiness and answers of the resolver come with.
    pub fn token(&self) -> usize {
        self.token
    }

    /// The resolver's answer: tries the first address.
    ///
    /// # Errors
    /// When there is none that could even be tried.
    pub fn resolved(
        &mut self,
        registry: &mio::Registry,
        now: Instant,
        addresses: io::Result<Vec<SocketAddr>>,
    ) -> io::Result<()> {
        self.addresses = addresses?.into_iter();
        self.try_next(registry, now)
    }

    /// Gives the present attempt up.
    ///
    /// # Errors
    /// When no address is left.
    pub fn attempt_timed_out(&mut self, registry: &mio::Registry, now: Instant) -> io::Result<()> {
        self.last_error = io::Error::new(io::ErrorKind::TimedOut, "no answer to the connection attempt");
        self.try_next(registry, now)
    }

    /// Remembers what epoll said.
    pub fn note(&mut self, ready: Readiness) {
        if let Some(socket) = &mut self.attempt {
            socket.note(ready);
        }
    }

    /// The socket, once connected.
    ///
    /// # Errors
    /// When the last address has failed.
    pub fn poll(&mut self, registry: &mio::Registry, now: Instant) -> io::Result<Option<Socket>> {
        let Some(socket) = &mut self.attempt else { return Ok(None) };
        match socket.poll_connected() {
            None => Ok(None),
            Some(Ok(())) => Ok(self.attempt.take()),
            Some(Err(error)) => {
                self.last_error = error;
                self.try_next(registry, now).map(|()| None)
            }
        }
    }

    fn try_next(&mut self, registry: &mio::Registry, now: Instant) -> io::Result<()> {
        self.attempt = None;
        self.deadline = None;
        for address in self.addresses.by_ref() {
            match Socket::connect(registry, address, self.token) {
                Ok(socket) => {
                    self.attempt = Some(socket);
                    self.deadline = Some(now + ATTEMPT_TIMEOUT);
                    return Ok(());
                }
                Err(error) => self.last_error = error,
            }
        }
        Err(std::mem::replace(&mut self.last_error, io::Error::from(io::ErrorKind::NotConnected)))
    }
}
