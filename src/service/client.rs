//! One connection of a client: its socket, its HTTP, and what it waits for.

use std::io::{self, IoSlice};
use std::time::Duration;

use super::asked::Form;
use crate::http::server::{Connection, Limits, Response};
use crate::reactor::{Fill, Socket};

/// From the connection, or the first byte of a request, to the last byte of it. A request has some 200 bytes.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a connection is kept between two requests. Longer than clients keep theirs (reqwest and Go 90 s), since
/// one that asks on a connection that is just being closed takes the end for an error.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(180);

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

    /// When this connection is given up, counted from now; `None` while it waits for a permit.
    pub fn timeout(&self) -> Option<Duration> {
        match self.stage {
            Stage::Waiting { .. } => None,
            Stage::Lingering => Some(LINGER_TIMEOUT),
            Stage::Open | Stage::Told { .. } if self.http.is_idle() => Some(IDLE_TIMEOUT),
            Stage::Open | Stage::Told { .. } => Some(REQUEST_TIMEOUT),
        }
    }
}
