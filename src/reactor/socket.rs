//! A TCP socket under edge-triggered epoll. An edge comes once, so readiness is remembered until a call meets
//! `WouldBlock`.

use std::io::{self, IoSlice, Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use socket2::{SockRef, TcpKeepalive};

/// What an epoll event said.
#[derive(Clone, Copy, Debug)]
pub struct Readiness {
    /// Bytes, an end or an error may be read.
    pub readable: bool,
    /// Bytes may be written, or a connection attempt has ended.
    pub writable: bool,
    /// The peer will send no more, or the connection is broken.
    pub ending: bool,
}

impl From<&mio::event::Event> for Readiness {
    fn from(event: &mio::event::Event) -> Readiness {
        let ending = event.is_read_closed() || event.is_error();
        Readiness { readable: event.is_readable() || ending, writable: event.is_writable(), ending }
    }
}

/// What a read brought.
#[derive(Debug)]
pub enum Fill {
    /// So many bytes.
    Bytes(usize),
    /// Nothing now; epoll will tell.
    Blocked,
    /// The peer has ended its side.
    Ended,
}

/// A socket, its token and what is known of its readiness.
#[derive(Debug)]
pub struct Socket {
    stream: TcpStream,
    connected: bool,
    readable: bool,
    writable: bool,
    ending: bool,
}

impl Socket {
    /// Begins to connect to `address` and registers with `token`.
    ///
    /// # Errors
    /// When no socket is to be had or the address cannot be reached at all.
    pub fn connect(registry: &Registry, address: SocketAddr, token: usize) -> io::Result<Socket> {
        let mut stream = TcpStream::connect(address)?;
        registry.register(&mut stream, Token(token), Interest::READABLE | Interest::WRITABLE)?;
        // Small frames must not wait for an acknowledgement; what can be gathered is gathered before writing.
        stream.set_nodelay(true)?;
        Ok(Socket { stream, connected: false, readable: false, writable: false, ending: false })
    }

    /// Takes over a connection that was accepted and registers it with `token`.
    ///
    /// # Errors
    /// When epoll does not take it.
    pub fn accepted(registry: &Registry, mut stream: TcpStream, token: usize) -> io::Result<Socket> {
        registry.register(&mut stream, Token(token), Interest::READABLE | Interest::WRITABLE)?;
        stream.set_nodelay(true)?;
        Ok(Socket { stream, connected: true, readable: false, writable: true, ending: false })
    }

    /// Lets the system find out whether a peer that says nothing is still there: after `IDLE` without a byte it asks
    /// every `INTERVAL`, and after `PROBES` without an answer the connection is broken. For connections on which
    /// silence of hours is normal.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn keep_alive(&self) -> io::Result<()> {
        const IDLE: Duration = Duration::from_secs(30);
        const INTERVAL: Duration = Duration::from_secs(10);
        const PROBES: u32 = 4;
        let settings = TcpKeepalive::new().with_time(IDLE).with_interval(INTERVAL).with_retries(PROBES);
        SockRef::from(&self.stream).set_tcp_keepalive(&settings)
    }

    /// Lets the system give the connection up once something that was written has waited for so long without the peer's
    /// system saying that it arrived. By itself it tries for some 15 minutes.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn give_up_after(&self, time: Duration) -> io::Result<()> {
        SockRef::from(&self.stream).set_tcp_user_timeout(Some(time))
    }

    /// Remembers what epoll said.
    pub fn note(&mut self, ready: Readiness) {
        self.readable |= ready.readable;
        self.writable |= ready.writable;
        self.ending |= ready.ending;
    }

    /// Whether the connection attempt has succeeded; `None` while it goes on.
    pub fn poll_connected(&mut self) -> Option<io::Result<()>> {
        if self.connected {
            return Some(Ok(()));
        }
        if !self.writable && !self.ending {
            return None;
        }
        if let Some(error) = self.stream.take_error().transpose() {
            return Some(Err(error.unwrap_or_else(|error| error)));
        }
        match self.stream.peer_addr() {
            Ok(_) => {
                self.connected = true;
                Some(Ok(()))
            }
            Err(error) if error.kind() == io::ErrorKind::NotConnected && !self.ending => None,
            Err(error) => Some(Err(error)),
        }
    }

    /// Whether a read may bring something.
    pub fn is_readable(&self) -> bool {
        self.connected && self.readable
    }

    /// Whether a write may be taken.
    pub fn is_writable(&self) -> bool {
        self.connected && self.writable
    }

    /// Reads once into `spare`.
    ///
    /// # Errors
    /// Whatever broke the connection.
    pub fn fill(&mut self, spare: &mut [u8]) -> io::Result<Fill> {
        loop {
            match self.stream.read(spare) {
                Ok(0) => {
                    self.readable = false;
                    return Ok(Fill::Ended);
                }
                Ok(count) => {
                    // epoll(7): after a short read on a stream the next edge is sure to come; only an end that
                    // was already announced has to be read now.
                    self.readable = count == spare.len() || self.ending;
                    return Ok(Fill::Bytes(count));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.readable = false;
                    return Ok(Fill::Blocked);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Writes `slices` gathered, as far as the socket takes them; returns how many bytes it took.
    ///
    /// # Errors
    /// Whatever broke the connection.
    pub fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        loop {
            match self.stream.write_vectored(slices) {
                Ok(count) => return Ok(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.writable = false;
                    return Ok(0);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Says that nothing more will be written; what the peer still sends can be read. Closing a socket with something
    /// unread in it would take back what was written and not yet read by the peer.
    pub fn end_writing(&mut self) {
        // Fails where the peer is gone already, which the next read tells.
        let _ = self.stream.shutdown(std::net::Shutdown::Write);
    }

    /// Takes the socket off epoll. Dropping it afterwards closes it.
    pub fn deregister(&mut self, registry: &Registry) {
        // Closing the descriptor removes it from epoll as well; a failure here changes nothing.
        let _ = registry.deregister(&mut self.stream);
    }
}
