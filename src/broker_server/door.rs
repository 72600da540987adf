//! Where clients come in: a listening socket that also tells from where they come, since not every user may come from
//! everywhere.

use std::io;
use std::net::SocketAddr;

use mio::net::TcpListener;
use mio::{Interest, Registry, Token};

use crate::reactor::Socket;

/// The token of the listening socket.
pub(super) const TOKEN: usize = 0;

/// How many further ports are tried when one is taken.
const FURTHER_PORTS: u16 = 10;

/// What [`Door::accept`] brought.
pub(super) enum Accepted {
    /// A client, and from where.
    Client(Socket, SocketAddr),
    /// Nobody waits any more; epoll will tell.
    Nobody,
    /// There is no descriptor left. Clients wait; nothing tells when there is room again.
    Exhausted(io::Error),
}

/// The listening socket, and whether somebody may wait.
pub(super) struct Door {
    listener: TcpListener,
    is_ready: bool,
}

impl Door {
    /// Listens on `address`, or on one of the ports behind it if that is taken and `may_move`.
    pub(super) fn bind(registry: &Registry, address: SocketAddr, may_move: bool) -> io::Result<Door> {
        let mut listener = listen(address, may_move)?;
        registry.register(&mut listener, Token(TOKEN), Interest::READABLE)?;
        Ok(Door { listener, is_ready: true })
    }

    pub(super) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Remembers that epoll told of somebody.
    pub(super) fn note(&mut self) {
        self.is_ready = true;
    }

    pub(super) fn is_ready(&self) -> bool {
        self.is_ready
    }

    /// Takes the next client and registers it with `token`.
    pub(super) fn accept(&mut self, registry: &Registry, token: usize) -> Accepted {
        loop {
            match self.listener.accept() {
                Ok((stream, peer)) => match Socket::accepted(registry, stream, token) {
                    Ok(socket) => return Accepted::Client(socket, peer),
                    // It was gone before it was looked at, or epoll is full: that one is closed.
                    Err(_) => continue,
                },
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => {
                        self.is_ready = false;
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

fn listen(address: SocketAddr, may_move: bool) -> io::Result<TcpListener> {
    let first = match TcpListener::bind(address) {
        Err(error) if may_move && error.kind() == io::ErrorKind::AddrInUse => error,
        other => return other,
    };
    let further = (1..=FURTHER_PORTS).filter_map(|further| address.port().checked_add(further));
    for port in further {
        match TcpListener::bind(SocketAddr::new(address.ip(), port)) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            other => return other,
        }
    }
    Err(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_passed_by_only_where_it_may_be() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = taken.local_addr().expect("bound");
        let refused = listen(address, false).expect_err("it is taken");
        assert_eq!(refused.kind(), io::ErrorKind::AddrInUse);
        // With the last ports of all there is nowhere to go.
        if address.port() < u16::MAX - FURTHER_PORTS {
            let moved = listen(address, true).expect("one of ten ports");
            assert!(moved.local_addr().expect("bound").port() > address.port());
        }
    }
}
