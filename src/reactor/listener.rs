//! A listening TCP socket under edge-triggered epoll.

use std::io;
use std::net::SocketAddr;

use mio::net::TcpListener;
use mio::{Interest, Registry, Token};
use socket2::SockRef;

use super::Socket;

/// What [`Listener::accept`] brought.
#[derive(Debug)]
pub enum Accepted {
    /// A connection, and from where it comes.
    Socket(Socket, SocketAddr),
    /// Nobody waits any more; epoll will tell.
    Nobody,
    /// The process or the system has no descriptor left. Connections wait; nothing tells when there is room again,
    /// so try again after a while.
    Exhausted(io::Error),
}

/// How many connections may wait to be accepted. As many as the system allows (net.core.somaxconn, 4096 by default),
/// since what is beyond it is tried again by the peer's system only after 1 s, then 2, then 4, and thousands come at once
/// when what they spoke to before was restarted. mio asks for 128.
const BACKLOG: i32 = 65_535;

/// A listening socket, its token and whether somebody may wait.
#[derive(Debug)]
pub struct Listener {
    listener: TcpListener,
    ready: bool,
}

impl Listener {
    /// Listens on `address` and registers with `token`. The address may be in use by connections of an earlier
    /// process, not by another listener.
    ///
    /// # Errors
    /// When the address is taken, not this machine's, or not allowed.
    pub fn bind(registry: &Registry, address: SocketAddr, token: usize) -> io::Result<Listener> {
        let mut listener = TcpListener::bind(address)?;
        // Said again to a socket that listens, it changes the number.
        SockRef::from(&listener).listen(BACKLOG)?;
        registry.register(&mut listener, Token(token), Interest::READABLE)?;
        Ok(Listener { listener, ready: true })
    }

    /// The address listened on, with the port that the system chose for port 0.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Remembers that epoll told of somebody.
    pub fn note(&mut self) {
        self.ready = true;
    }

    /// Whether somebody may wait.
    pub fn is_ready(&self) -> bool {
        self.ready
    }

    /// Takes the next connection and registers it with `token`.
    pub fn accept(&mut self, registry: &Registry, token: usize) -> Accepted {
        loop {
            match self.listener.accept() {
                Ok((stream, peer)) => match Socket::accepted(registry, stream, token) {
                    Ok(socket) => return Accepted::Socket(socket, peer),
                    // It was gone before it was looked at, or epoll is full: that one is closed.
                    Err(_) => continue,
                },
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => {
                        self.ready = false;
                        return Accepted::Nobody;
                    }
                    // Whoever it was has gone.
                    io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted => {}
                    _ => return Accepted::Exhausted(error),
                },
            }
        }
    }
}
