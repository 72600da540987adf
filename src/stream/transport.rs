//! TLS, WebSocket and inflate joined: one connection to the gateway.
//!
//! ```text
//! input (Buf) > [tls] > websocket > inflate > Scratch > Incoming
//! send_text, close    > websocket > [tls]   > out (Vec)
//! ```
//!
//! Enters: bytes of a socket that has just been connected, and text to send. Leaves: one [`Incoming`] at a time,
//! and bytes for the socket. The payload lies in a [`Scratch`] that a thread shares among all its connections,
//! so an idle connection holds none. Steady state allocates nothing here; with TLS rustls allocates one vector
//! per record. After an error the transport yields nothing more.

use super::error::Error;
use super::inflate::{Compression, Decoder, Limits, Output};
use super::tls::TlsSession;
use super::websocket::{Event, WebSocket};
use crate::base::Buf;
use std::fmt;
use std::sync::Arc;

/// What the caller asks of all connections.
#[derive(Clone)]
pub struct Options {
    /// See [`client_config`](super::tls::client_config). Not used for `ws://`.
    pub tls: Arc<rustls::ClientConfig>,
    /// How payloads are compressed. The URL must ask for the same, see [`Compression::query_value`].
    pub compression: Compression,
    /// How large messages may be.
    pub limits: Limits,
    /// The User-Agent header of the upgrade.
    pub user_agent: String,
}

/// Why a URL cannot be connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndpointError {
    /// Neither `ws://` nor `wss://`.
    Scheme,
    /// A user or password in the URL.
    UserInfo,
    /// No host, or one with characters that no host has.
    Host,
    /// Not a port between 1 and 65535.
    Port,
    /// Spaces, control or non-ASCII characters, or a fragment, in the path or query.
    Path,
}

impl std::error::Error for EndpointError {}

impl fmt::Display for EndpointError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            EndpointError::Scheme => "it must start with ws:// or wss://",
            EndpointError::UserInfo => "it must have no user or password",
            EndpointError::Host => "its host is missing or malformed",
            EndpointError::Port => "its port is not between 1 and 65535",
            EndpointError::Path => "its path or query has characters that a URL cannot have",
        })
    }
}

/// Where to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Whether the scheme is `wss`.
    pub tls: bool,
    /// A name or an address; an IPv6 address is without its brackets.
    pub host: String,
    /// The port; 443 or 80 where the URL names none.
    pub port: u16,
    /// From the first slash on, at least that slash.
    pub path_and_query: String,
}

impl Endpoint {
    /// Reads a `ws://` or `wss://` URL.
    ///
    /// # Errors
    /// Which part is unusable.
    pub fn parse(url: &str) -> Result<Endpoint, EndpointError> {
        let (scheme, rest) = url.split_once("://").ok_or(EndpointError::Scheme)?;
        let tls = match scheme {
            s if s.eq_ignore_ascii_case("wss") => true,
            s if s.eq_ignore_ascii_case("ws") => false,
            _ => return Err(EndpointError::Scheme),
        };
        let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        if authority.contains('@') {
            return Err(EndpointError::UserInfo);
        }
        let (host, port) = if let Some(bracketed) = authority.strip_prefix('[') {
            let (host, after) = bracketed.split_once(']').ok_or(EndpointError::Host)?;
            host.parse::<std::net::Ipv6Addr>().map_err(|_| EndpointError::Host)?;
            match after {
                "" => (host, None),
                _ => (host, Some(after.strip_prefix(':').ok_or(EndpointError::Host)?)),
            }
        } else {
            let (host, port) = match authority.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (authority, None),
            };
            let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
            if host.is_empty() || host.len() > 253 || !host.bytes().all(good) {
                return Err(EndpointError::Host);
            }
            (host, port)
        };
        let port = match port {
            None if tls => 443,
            None => 80,
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                digits.parse().ok().filter(|port| *port > 0).ok_or(EndpointError::Port)?
            }
            Some(_) => return Err(EndpointError::Port),
        };
        if path.contains('#') || !path.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(EndpointError::Path);
        }
        let slash = if path.starts_with('/') { "" } else { "/" };
        Ok(Endpoint { tls, host: host.to_owned(), port, path_and_query: format!("{slash}{path}") })
    }

    /// The value of the Host header: with brackets and port where they are needed.
    pub fn host_header(&self) -> String {
        let usual = if self.tls { 443 } else { 80 };
        match (self.host.contains(':'), self.port == usual) {
            (false, true) => self.host.clone(),
            (false, false) => format!("{}:{}", self.host, self.port),
            (true, true) => format!("[{}]", self.host),
            (true, false) => format!("[{}]:{}", self.host, self.port),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "wss" } else { "ws" };
        write!(f, "{scheme}://{}{}", self.host_header(), self.path_and_query)
    }
}

/// Where payloads are put. One per thread serves all its connections; it gives memory of large payloads back.
#[derive(Default)]
pub struct Scratch {
    output: Output,
}

impl Scratch {
    /// An empty one.
    pub fn new() -> Scratch {
        Scratch::default()
    }

    /// How much memory it holds.
    pub fn capacity(&self) -> usize {
        self.output.capacity()
    }
}

/// What came in.
#[derive(Debug, PartialEq, Eq)]
pub enum Incoming<'a> {
    /// The upgrade is done: text may be sent.
    Opened,
    /// One gateway payload, inflated. May be changed in place.
    Payload(&'a mut [u8]),
    /// The peer's close frame. Nothing follows.
    Closed {
        /// Its code, if it has one.
        code: Option<u16>,
        /// Its text, cut to what is UTF-8; at most 123 bytes, written by the peer.
        reason: String,
    },
}

enum Step {
    More,
    Opened,
    Payload,
    Closed(Option<u16>),
}

/// One connection to the gateway.
pub struct Transport {
    tls: Option<TlsSession>,
    websocket: WebSocket,
    decoder: Decoder,
    limits: Limits,
    failed: bool,
}

impl Transport {
    /// Starts on a TCP connection to `endpoint` that has just been made. What it has to say waits to be
    /// transmitted.
    ///
    /// # Errors
    /// When the host is no name for TLS, or there is no memory for a decompressor.
    pub fn new(options: &Options, endpoint: &Endpoint) -> Result<Transport, Error> {
        let tls = match endpoint.tls {
            true => Some(TlsSession::new(&options.tls, &endpoint.host)?),
            false => None,
        };
        let websocket = WebSocket::new(
            &endpoint.host_header(),
            &endpoint.path_and_query,
            &options.user_agent,
            options.limits.message_bytes_max,
        );
        let decoder = Decoder::new(options.compression)?;
        Ok(Transport { tls, websocket, decoder, limits: options.limits, failed: false })
    }

    /// Takes bytes of the socket from `input` up to the next thing to report. `None`: `input` is used up.
    ///
    /// # Errors
    /// Each one is final. What waits to be transmitted (an alert, say) may still be.
    pub fn next<'a>(
        &mut self,
        input: &mut Buf,
        scratch: &'a mut Scratch,
    ) -> Result<Option<Incoming<'a>>, Error> {
        if self.failed {
            return Err(Error::Failed);
        }
        match self.step(input, &mut scratch.output) {
            Ok(Step::More) => Ok(None),
            Ok(Step::Opened) => Ok(Some(Incoming::Opened)),
            Ok(Step::Payload) => Ok(Some(Incoming::Payload(scratch.output.payload()))),
            Ok(Step::Closed(code)) => {
                let reason = self.websocket.close_reason().to_owned();
                Ok(Some(Incoming::Closed { code, reason }))
            }
            Err(e) => {
                self.failed = true;
                Err(e)
            }
        }
    }

    fn step(&mut self, input: &mut Buf, output: &mut Output) -> Result<Step, Error> {
        loop {
            let Transport { tls, websocket, decoder, limits, .. } = self;
            let (taken, step) = match tls {
                None => digest(input.filled(), websocket, decoder, limits, output)?,
                Some(tls) => {
                    tls.receive(input)?;
                    let piece = digest(tls.plaintext(), websocket, decoder, limits, output)?;
                    tls.consume(piece.0);
                    if tls.pending_bytes() == 0 && tls.peer_closed() && matches!(piece.1, Step::More) {
                        // Everything the peer ever sent has been read.
                        return if websocket.is_closed() { Ok(Step::More) } else { Err(Error::Ended) };
                    }
                    piece
                }
            };
            if tls.is_none() {
                input.consume(taken);
            }
            if !matches!(step, Step::More) {
                return Ok(step);
            }
            if input.is_empty() && !self.has_pending_input() {
                return Ok(Step::More);
            }
        }
    }

    /// Whether [`Transport::next`] may have something to report although the socket gave nothing new and `input`
    /// is empty. Bytes left in `input` are for the caller to see.
    pub fn has_pending_input(&self) -> bool {
        !self.failed && self.tls.as_ref().is_some_and(|tls| tls.pending_bytes() > 0)
    }

    /// The socket has come to its end. To be called when [`Transport::next`] has nothing more to report.
    ///
    /// # Errors
    /// When no close frame came before.
    pub fn peer_ended(&mut self) -> Result<(), Error> {
        if self.failed {
            return Err(Error::Failed);
        }
        if self.websocket.is_closed() {
            return Ok(());
        }
        self.failed = true;
        Err(Error::Ended)
    }

    /// Queues a text message.
    ///
    /// # Errors
    /// When the upgrade is not done, the connection is closing, or too much waits for a peer that does not read.
    /// Nothing is queued then, and the connection is as it was.
    pub fn send_text(&mut self, text: &[u8]) -> Result<(), Error> {
        Ok(self.websocket.send_text(text)?)
    }

    /// Queues a close frame, once. Discord ends the session on 1000 and 1001 and keeps it on any other code. Go on
    /// reading until the peer's close frame, with a deadline.
    pub fn close(&mut self, code: u16) {
        self.websocket.close(code);
    }

    /// Whether both close frames have been exchanged; once all is transmitted the socket may be closed.
    pub fn is_closed(&self) -> bool {
        self.websocket.is_closed()
    }

    /// Appends the bytes that wait for the socket to `out`.
    pub fn transmit(&mut self, out: &mut Vec<u8>) {
        let Some(tls) = &mut self.tls else {
            out.extend_from_slice(self.websocket.outgoing());
            self.websocket.sent(usize::MAX);
            return;
        };
        loop {
            let waiting = self.websocket.outgoing();
            let taken = if waiting.is_empty() { 0 } else { tls.send(waiting) };
            self.websocket.sent(taken);
            if self.websocket.is_closed() && !self.websocket.wants_transmit() {
                tls.close();
            }
            tls.transmit(out);
            if taken == 0 {
                return;
            }
        }
    }

    /// Whether [`Transport::transmit`] would append something.
    pub fn wants_transmit(&self) -> bool {
        match &self.tls {
            None => self.websocket.wants_transmit(),
            Some(tls) => tls.wants_transmit() || (self.websocket.wants_transmit() && !tls.is_handshaking()),
        }
    }
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport")
            .field("tls", &self.tls)
            .field("websocket", &self.websocket)
            .field("failed", &self.failed)
            .finish_non_exhaustive()
    }
}

/// Reads plaintext up to the next thing to report, and says how much it took.
fn digest(
    plaintext: &[u8],
    websocket: &mut WebSocket,
    decoder: &mut Decoder,
    limits: &Limits,
    output: &mut Output,
) -> Result<(usize, Step), Error> {
    let mut at = 0;
    loop {
        let (taken, event) = websocket.receive(plaintext.get(at..).unwrap_or_default())?;
        at += taken;
        let step = match event {
            None => return Ok((at, Step::More)),
            Some(Event::Opened) => Step::Opened,
            Some(Event::Closed(code)) => Step::Closed(code),
            Some(Event::Message(message)) => match decoder.decode(message, limits, output)? {
                true => Step::Payload,
                // The payload goes on in the next message.
                false => continue,
            },
        };
        return Ok((at, step));
    }
}

#[cfg(test)]
#[path = "transport_tests.rs"]
mod tests;
