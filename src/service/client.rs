//! One connection of a client: its socket, its HTTP, and what it waits for.

use std::io::{self, IoSlice};
use std::time::Duration;

use super::asked::Form;
use crate::http::server::{Connection, Error, Limits, Request, Response};
use crate::reactor::{Fill, Socket};

/// From the first byte of a request to the last one. A request has some 200 bytes.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a connection is kept between two requests, and before the first. Longer than clients keep theirs (reqwest and Go 90 s), since
/// one that asks on a connection that is just being closed takes the end for an error.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(180);

/// How long word of a permit's IDENTIFY is waited for, where the client has said that it will tell. It is sent within
/// milliseconds, or its shard is in trouble.
pub const REPORT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a connection whose last answer is given may stay until its peer has taken notice.
pub const LINGER_TIMEOUT: Duration = Duration::from_secs(2);

/// The 45 bytes of twilight-rs/gateway-queue. Clients take any answer for a permit, so there is no other.
pub const MESSAGE: &[u8] = br#"{"message": "You're free to connect now! :)"}"#;

/// The same for Sandwich, which reads `success`.
pub const SUCCESS: &[u8] = br#"{"success":true,"message":"You're free to connect now! :)"}"#;

/// What a connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// A request.
    Open,
    /// Its permit.
    Waiting {
        /// The request's name at the gates.
        ticket: u64,
        /// How it is answered.
        form: Form,
        /// Whether the client will tell what became of the permit.
        feedback: bool,
    },
    /// Word of the client about its permit, or its next request.
    Told {
        /// The permit's name at the gates.
        ticket: u64,
        /// Whether its IDENTIFY was reported.
        identified: bool,
    },
    /// The end of its last answer's journey.
    Lingering,
}

/// What a connection is given time for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Timed {
    Idle,
    Request,
    Permit,
    Report,
    Farewell,
}

/// What reading brought.
#[derive(Debug, PartialEq, Eq)]
pub enum Heard {
    /// Perhaps a request; more may be left to read.
    Bytes,
    /// Nothing more now.
    Nothing,
    /// The client is gone, or what it sends cannot be read; the text says which, `None` for a plain end.
    End(Option<&'static str>),
}

/// A client's connection.
pub struct Client {
    pub(super) socket: Socket,
    pub(super) http: Connection,
    pub(super) stage: Stage,
    /// Whether it came to the admin port.
    pub(super) is_admin: bool,
    /// What its deadline is for; `None` when a new one has to be set.
    timed: Option<Timed>,
    out: Vec<u8>,
    written: usize,
}

impl Client {
    /// A connection on which nothing was said.
    pub fn new(socket: Socket, is_admin: bool) -> Client {
        Client {
            socket,
            http: Connection::new(Limits::default()),
            stage: Stage::Open,
            is_admin,
            timed: None,
            out: Vec::new(),
            written: 0,
        }
    }

    /// Reads once, through `buffer`.
    pub fn read(&mut self, buffer: &mut [u8]) -> Heard {
        let count = match self.socket.fill(buffer) {
            Ok(Fill::Bytes(count)) => count,
            Ok(Fill::Blocked) => return Heard::Nothing,
            Ok(Fill::Ended) => return Heard::End(None),
            Err(_) => return Heard::End(Some("the connection broke")),
        };
        if self.stage == Stage::Lingering {
            return Heard::Bytes;
        }
        if self.http.receive(&buffer[..count]).is_err() {
            return Heard::End(Some("it sent what is no request"));
        }
        self.http.transmit(&mut self.out);
        Heard::Bytes
    }

    /// Answers the outstanding request; the bytes leave with [`Client::write`].
    pub fn respond(&mut self, response: &Response<'_>, wall_ms: u64) {
        self.http.respond(response, wall_ms, &mut self.out);
        self.http.transmit(&mut self.out);
    }

    /// Whether there is something to write.
    pub fn wants_to_write(&self) -> bool {
        self.written < self.out.len()
    }

    /// Writes what the socket takes. Returns whether all is written.
    ///
    /// # Errors
    /// When the connection is broken.
    pub fn write(&mut self) -> io::Result<bool> {
        while self.written < self.out.len() {
            let count = self.socket.write(&[IoSlice::new(&self.out[self.written..])])?;
            if count == 0 {
                return Ok(false);
            }
            self.written += count;
        }
        // A connection that waits for minutes keeps no buffer.
        self.out = Vec::new();
        self.written = 0;
        Ok(true)
    }

    /// The next request.
    ///
    /// # Errors
    /// When what it sends cannot be read.
    pub fn poll_request(&mut self) -> Result<Option<Request>, Error> {
        let request = self.http.poll_request()?;
        if request.is_some() {
            // The next one has its own time.
            self.timed = None;
        }
        Ok(request)
    }

    /// When this connection is given up, counted from now, if that is to be set anew: `Some(None)` while it waits for
    /// a permit. What trickles in gives a request no more time.
    pub fn poll_timeout(&mut self) -> Option<Option<Duration>> {
        let timed = match self.stage {
            Stage::Waiting { .. } => Timed::Permit,
            Stage::Lingering => Timed::Farewell,
            Stage::Told { identified: false, .. } => Timed::Report,
            Stage::Open | Stage::Told { .. } if self.http.is_idle() => Timed::Idle,
            Stage::Open | Stage::Told { .. } => Timed::Request,
        };
        (self.timed.replace(timed) != Some(timed)).then_some(match timed {
            Timed::Permit => None,
            Timed::Farewell => Some(LINGER_TIMEOUT),
            Timed::Report => Some(REPORT_TIMEOUT),
            Timed::Idle => Some(IDLE_TIMEOUT),
            Timed::Request => Some(REQUEST_TIMEOUT),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;
    use std::net::{TcpListener, TcpStream};

    /// A client, and the other end of its connection.
    fn connected(poll: &mio::Poll) -> (Client, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let peer = TcpStream::connect(listener.local_addr().expect("bound")).expect("a connection");
        let (stream, _) = listener.accept().expect("a connection");
        stream.set_nonblocking(true).expect("a socket");
        let socket = Socket::accepted(poll.registry(), mio::net::TcpStream::from_std(stream), 0);
        (Client::new(socket.expect("epoll takes it"), false), peer)
    }

    /// Lets `text` arrive. A socket of this machine has it by the time that writing returns.
    fn arrive(client: &mut Client, peer: &mut TcpStream, text: &str) {
        peer.write_all(text.as_bytes()).expect("a connection");
        assert_eq!(client.read(&mut [0; 1024]), Heard::Bytes);
    }

    #[test]
    fn what_trickles_in_gets_no_more_time() {
        let poll = mio::Poll::new().expect("epoll");
        let (mut client, mut peer) = connected(&poll);
        assert_eq!(client.poll_timeout(), Some(Some(IDLE_TIMEOUT)));
        // An empty line is the beginning of nothing.
        arrive(&mut client, &mut peer, "\r\n");
        assert_eq!(client.poll_timeout(), None);
        arrive(&mut client, &mut peer, "POST / HTTP/1.1\r\n");
        assert_eq!(client.poll_timeout(), Some(Some(REQUEST_TIMEOUT)));
        for piece in ["A: b\r\n", "Content-Length: 2\r\n", "\r\n", "x"] {
            arrive(&mut client, &mut peer, piece);
            assert!(client.poll_request().is_ok_and(|request| request.is_none()));
            assert_eq!(client.poll_timeout(), None, "{piece:?}");
        }
        // The end of one, and the beginning of the next, which has a time of its own.
        arrive(&mut client, &mut peer, "yGET ");
        assert!(client.poll_request().is_ok_and(|request| request.is_some()));
        client.stage = Stage::Waiting { ticket: 1, form: Form::Message, feedback: false };
        assert_eq!(client.poll_timeout(), Some(None));
        client.respond(&Response::empty(204), 0);
        client.stage = Stage::Open;
        assert_eq!(client.poll_timeout(), Some(Some(REQUEST_TIMEOUT)));
        // Answered without a wait, one after the other: each has its time.
        for _ in 0..2 {
            arrive(&mut client, &mut peer, "/ HTTP/1.1\r\n\r\nGET ");
            assert!(client.poll_request().is_ok_and(|request| request.is_some()));
            client.respond(&Response::empty(204), 0);
            assert_eq!(client.poll_timeout(), Some(Some(REQUEST_TIMEOUT)));
        }
        client.stage = Stage::Lingering;
        assert_eq!((client.poll_timeout(), client.poll_timeout()), (Some(Some(LINGER_TIMEOUT)), None));
    }
}
