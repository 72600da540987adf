//! One connection to the page's port: its socket, its HTTP, what waits to be written, and how long it may take.

use std::io::{self, IoSlice};
use std::time::Duration;

use crate::http::server::{Connection, Error, Limits, Request, Response};
use crate::reactor::{Fill, Socket};

/// From the first byte of a request to the last one. A request has some 500 bytes.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a connection is kept between two requests. Scrapers come once in 15 to 60 s.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(90);

/// How long an answer may wait without the client taking a byte of it.
pub const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a connection whose last answer is given may stay until its peer has taken notice.
pub const LINGER_TIMEOUT: Duration = Duration::from_secs(2);

/// No request here has a body worth naming.
const LIMITS: Limits =
    Limits { head_bytes_max: 8 * 1024, headers_max: 64, body_bytes_max: 1024, pipelined_bytes_max: 4 * 1024 };

/// What reading brought.
#[derive(Debug, PartialEq, Eq)]
pub enum Heard {
    /// Perhaps a request; more may be left to read.
    Bytes,
    /// Nothing more now.
    Nothing,
    /// The client has ended its side.
    End,
    /// It sent what is no request.
    Fault,
}

/// What a connection is given time for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timed {
    /// Its next request.
    Idle,
    /// The rest of a request.
    Request,
    /// The client to take some of an answer; the number is how much it has taken so far.
    Writing(u64),
    /// The end.
    Lingering,
    /// Nothing: it reads updates and has read all.
    Streaming,
}

/// A connection.
pub struct Client {
    pub(super) socket: Socket,
    pub(super) http: Connection,
    /// It reads /events.
    pub(super) streams: bool,
    /// The last answer is given.
    pub(super) lingers: bool,
    /// It will say nothing more, and reads on.
    pub(super) ended: bool,
    timed: Option<Timed>,
    out: Vec<u8>,
    written: usize,
    taken: u64,
}

impl Client {
    /// A connection on which nothing was said.
    pub fn new(socket: Socket) -> Client {
        Client {
            socket,
            http: Connection::new(LIMITS),
            streams: false,
            lingers: false,
            ended: false,
            timed: None,
            out: Vec::new(),
            written: 0,
            taken: 0,
        }
    }

    /// Reads once, through `buffer`.
    pub fn read(&mut self, buffer: &mut [u8]) -> Heard {
        let count = match self.socket.fill(buffer) {
            Ok(Fill::Bytes(count)) => count,
            Ok(Fill::Blocked) => return Heard::Nothing,
            Ok(Fill::Ended) => return Heard::End,
            // Writing finds out, if anything is left to be written.
            Err(_) => return Heard::End,
        };
        // What comes after the last request is not looked at.
        if self.lingers || self.streams {
            return Heard::Bytes;
        }
        if self.http.receive(&buffer[..count]).is_err() {
            return Heard::Fault;
        }
        self.http.transmit(&mut self.out);
        Heard::Bytes
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

    /// Answers the outstanding request; the bytes leave with [`Client::write`].
    pub fn respond(&mut self, response: &Response<'_>, wall_ms: u64) {
        self.http.respond(response, wall_ms, &mut self.out);
        self.http.transmit(&mut self.out);
    }

    /// Adds an update, unless the one before waits still. Says whether it was added.
    pub fn update(&mut self, update: &[u8]) -> bool {
        if self.wants_to_write() {
            return false;
        }
        self.out.extend_from_slice(update);
        true
    }

    /// Whether there is something to write.
    pub fn wants_to_write(&self) -> bool {
        self.written < self.out.len()
    }

    /// How many bytes wait to be written.
    pub fn waiting_bytes(&self) -> usize {
        self.out.len() - self.written
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
            self.taken += count as u64;
        }
        self.out = Vec::new();
        self.written = 0;
        Ok(true)
    }

    /// What it is given time for now.
    pub fn waits_for(&self) -> Timed {
        match () {
            () if self.lingers => Timed::Lingering,
            () if self.wants_to_write() => Timed::Writing(self.taken),
            () if self.streams => Timed::Streaming,
            () if self.http.is_idle() => Timed::Idle,
            () => Timed::Request,
        }
    }

    /// When this connection is given up, counted from now, if that is to be set anew. What trickles in gives a request no
    /// more time.
    pub fn poll_timeout(&mut self) -> Option<Option<Duration>> {
        let timed = self.waits_for();
        (self.timed.replace(timed) != Some(timed)).then_some(match timed {
            Timed::Idle => Some(IDLE_TIMEOUT),
            Timed::Request => Some(REQUEST_TIMEOUT),
            Timed::Writing(_) => Some(WRITE_TIMEOUT),
            Timed::Lingering => Some(LINGER_TIMEOUT),
            Timed::Streaming => None,
        })
    }
}
