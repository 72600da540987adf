//! The machine: what a client sends goes in piece by piece, its requests come out one at a time.

use std::mem;

use super::body::{Incoming, is_token};
use super::request::{self, Request, Version};
use super::response::{self, Response, Terms};
use super::{Error, Limits};

/// Empty lines before a request line; some clients send one after a body (RFC 9112 2.2).
const EMPTY_LINES_MAX: usize = 8;

/// A head on its way.
#[derive(Default)]
struct Gathering {
    bytes: Vec<u8>,
    /// Where the line begins that has no end yet.
    line_start: usize,
    /// Lines with an end; the first is the request line.
    lines: usize,
    /// Empty lines that were skipped.
    empty_lines: usize,
}

enum Phase {
    /// A head is awaited.
    Head(Gathering),
    /// A body is awaited.
    Body(Box<Incoming>),
    /// A request has arrived and was not polled yet.
    Ready(Box<Request>),
    /// A request was polled and is not answered yet.
    Outstanding(Terms),
    /// The last answer was given.
    Over,
    /// The connection cannot go on.
    Failed(Error),
}

/// One connection of a client. [`Connection::receive`] what the socket brought, then [`Connection::transmit`] and
/// [`Connection::poll_request`]; after each [`Connection::respond`], both again.
pub struct Connection {
    limits: Limits,
    phase: Phase,
    // Invariant: empty but in `Ready` and `Outstanding`, and there too where the client sends no further request.
    pipelined: Vec<u8>,
}

impl Connection {
    /// A connection on which nothing has arrived.
    pub fn new(limits: Limits) -> Connection {
        Connection { limits, phase: Phase::Head(Gathering::default()), pipelined: Vec::new() }
    }

    /// Takes what the socket brought. What follows the last request of a connection is dropped.
    ///
    /// # Errors
    /// When the connection cannot go on; from then on, this and [`Connection::poll_request`] say so each time.
    pub fn receive(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let result = self.advance(bytes);
        if let Err(error) = result {
            // Frees what was gathered, too.
            self.pipelined = Vec::new();
            self.phase = Phase::Failed(error);
        }
        self.check_invariants();
        result
    }

    /// The next request, whole. `None` while none has arrived, and while one is not answered.
    ///
    /// # Errors
    /// As [`Connection::receive`], also for what had arrived before the last answer.
    pub fn poll_request(&mut self) -> Result<Option<Request>, Error> {
        let terms = match &self.phase {
            Phase::Ready(request) => Terms {
                is_head: request.is_head(),
                keep_alive: request.keep_alive,
                is_http10: request.version == Version::Http10,
            },
            Phase::Failed(error) => return Err(*error),
            _ => return Ok(None),
        };
        match mem::replace(&mut self.phase, Phase::Outstanding(terms)) {
            Phase::Ready(request) => Ok(Some(*request)),
            // The phase was looked at above.
            _ => Ok(None),
        }
    }

    /// Appends what the machine says by itself: `100 Continue`, once, to a client that waits for it before it sends
    /// a body (RFC 9110 10.1.1). To be called after each [`Connection::receive`] and [`Connection::respond`].
    pub fn transmit(&mut self, out: &mut Vec<u8>) {
        if let Phase::Body(incoming) = &mut self.phase
            && incoming.take_continue()
        {
            out.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
        }
    }

    /// Appends the answer to the outstanding request: head and body, of which HEAD gets only the head. Then the next
    /// request may be polled. Does nothing when none is outstanding. `wall_ms` is the time since 1970, for Date.
    pub fn respond(&mut self, response: &Response, wall_ms: u64, out: &mut Vec<u8>) {
        let Phase::Outstanding(terms) = self.phase else { return };
        if response::write(response, terms, wall_ms, out) {
            self.pipelined = Vec::new();
            self.phase = Phase::Over;
        } else {
            self.phase = Phase::Head(Gathering::default());
            let pipelined = mem::take(&mut self.pipelined);
            // An error is kept for `poll_request`, as this answer is to be sent yet.
            let _ = self.receive(&pipelined);
        }
    }

    /// Whether it waits for a request of which nothing has arrived: the keep-alive timeout counts then.
    pub fn is_idle(&self) -> bool {
        matches!(&self.phase, Phase::Head(head) if head.bytes.is_empty())
    }

    /// Whether a request was polled and is not answered yet: no timeout counts then.
    pub fn is_outstanding(&self) -> bool {
        matches!(self.phase, Phase::Outstanding(_))
    }

    /// Whether the last answer was given or the connection has failed: the caller closes it once everything appended
    /// so far was sent and, after [`Response::stream`], the stream has ended.
    pub fn closes(&self) -> bool {
        matches!(self.phase, Phase::Over | Phase::Failed(_))
    }

    /// How many bytes that arrived are kept here, a request that is polled not counted.
    pub fn buffered_bytes(&self) -> usize {
        let gathered = match &self.phase {
            Phase::Head(head) => head.bytes.len(),
            Phase::Body(incoming) => incoming.len(),
            Phase::Ready(request) => request.len(),
            Phase::Outstanding(_) | Phase::Over | Phase::Failed(_) => 0,
        };
        gathered + self.pipelined.len()
    }

    fn advance(&mut self, mut bytes: &[u8]) -> Result<(), Error> {
        while !bytes.is_empty() {
            let (taken, complete) = match &mut self.phase {
                Phase::Head(head) => head.take(bytes, &self.limits)?,
                Phase::Body(incoming) => incoming.take(bytes)?,
                Phase::Ready(request) if request.keep_alive => return self.hold(bytes),
                Phase::Outstanding(terms) if terms.keep_alive => return self.hold(bytes),
                // RFC 9112 9.6: what follows the last request is not looked at.
                Phase::Ready(_) | Phase::Outstanding(_) | Phase::Over => return Ok(()),
                Phase::Failed(error) => return Err(*error),
            };
            bytes = &bytes[taken..];
            if complete {
                self.phase = match mem::replace(&mut self.phase, Phase::Over) {
                    Phase::Head(head) => head.end(&self.limits)?,
                    Phase::Body(incoming) => Phase::Ready(Box::new(incoming.into_request())),
                    other => other,
                };
            }
        }
        Ok(())
    }

    fn hold(&mut self, bytes: &[u8]) -> Result<(), Error> {
        if bytes.len() > self.limits.pipelined_bytes_max.saturating_sub(self.pipelined.len()) {
            return Err(Error::TooMuchPipelined);
        }
        self.pipelined.extend_from_slice(bytes);
        Ok(())
    }

    fn check_invariants(&self) {
        debug_assert!(
            self.pipelined.is_empty() || matches!(self.phase, Phase::Ready(_) | Phase::Outstanding(_))
        );
        let Limits { head_bytes_max, body_bytes_max, pipelined_bytes_max, .. } = self.limits;
        let most = head_bytes_max.saturating_add(body_bytes_max).saturating_add(pipelined_bytes_max);
        debug_assert!(self.buffered_bytes() <= most);
    }
}

impl Gathering {
    /// Takes bytes up to the end of the head. Says how many were taken, and whether that was the end.
    ///
    /// Only looks for line ends, so that each byte is looked at once however the head is cut.
    fn take(&mut self, bytes: &[u8], limits: &Limits) -> Result<(usize, bool), Error> {
        let mut taken = 0;
        while let Some(at) = bytes[taken..].iter().position(|&byte| byte == b'\n') {
            self.push(&bytes[taken..=taken + at], limits)?;
            taken += at + 1;
            let is_empty = matches!(&self.bytes[self.line_start..], b"\n" | b"\r\n");
            if is_empty && self.lines > 0 {
                return Ok((taken, true));
            }
            if is_empty {
                self.empty_lines += 1;
                if self.empty_lines > EMPTY_LINES_MAX {
                    return Err(Error::Malformed("empty lines where a request should be"));
                }
                self.bytes = Vec::new();
            } else {
                self.lines += 1;
                // The request line is no field.
                if self.lines - 1 > limits.headers_max {
                    return Err(Error::TooManyHeaders);
                }
            }
            self.line_start = self.bytes.len();
        }
        self.push(&bytes[taken..], limits)?;
        Ok((bytes.len(), false))
    }

    fn push(&mut self, bytes: &[u8], limits: &Limits) -> Result<(), Error> {
        // A TLS handshake or other noise may never have a line's end: who speaks it is told now, not when time is up.
        // Before the length is looked at, or it would depend on how the bytes are cut.
        if self.bytes.is_empty()
            && bytes.first().is_some_and(|&byte| !is_token(byte) && !b"\r\n".contains(&byte))
        {
            return Err(Error::Malformed("the request line"));
        }
        if bytes.len() > limits.head_bytes_max.saturating_sub(self.bytes.len()) {
            return Err(Error::HeadTooLong);
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    /// Reads the head, once its end was seen.
    fn end(self, limits: &Limits) -> Result<Phase, Error> {
        let head = request::parse_head(&self.bytes, self.lines - 1, limits)?;
        Ok(match head.framing {
            None => Phase::Ready(Box::new(head.request)),
            Some(framing) => Phase::Body(Box::new(Incoming::new(head, framing, self.bytes.len(), limits))),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_waiting_connection_costs_little() {
        assert!(size_of::<Connection>() <= 160, "{} bytes", size_of::<Connection>());
        let mut connection = Connection::new(Limits::default());
        let no_buffer = |connection: &Connection| {
            connection.pipelined.capacity() == 0
                && match &connection.phase {
                    Phase::Head(head) => head.bytes.capacity() == 0,
                    phase => matches!(phase, Phase::Outstanding(_)),
                }
        };
        for _ in 0..2 {
            // New, or between two requests, and after an empty line too.
            assert!(no_buffer(&connection));
            connection.receive(b"\r\n").unwrap();
            assert!(no_buffer(&connection));
            connection.receive(b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello").unwrap();
            let request = connection.poll_request().unwrap().unwrap();
            assert_eq!(request.body.capacity(), 5);
            assert!(no_buffer(&connection));
            connection.respond(&Response::empty(200), 0, &mut Vec::new());
        }
        // What was held for the next request is let go of, too.
        connection.receive(&b"GET / HTTP/1.1\r\n\r\n".repeat(2)).unwrap();
        for _ in 0..2 {
            connection.poll_request().unwrap().unwrap();
            connection.respond(&Response::empty(200), 0, &mut Vec::new());
        }
        assert!(no_buffer(&connection));
    }

    #[test]
    fn what_is_kept_is_counted() {
        let mut connection = Connection::new(Limits::default());
        let mut kept = Vec::new();
        for piece in [
            "GET",
            " /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "5;",
            "x\r\nhello",
            "\r\n0\r\n\r\n",
            "1234",
        ] {
            connection.receive(piece.as_bytes()).unwrap();
            kept.push(connection.buffered_bytes());
        }
        // Of the head, GET and /x are left; then the line `5;` is, then the body.
        assert_eq!(kept, [3, 5, 7, 10, 10, 14]);
        connection.poll_request().unwrap().unwrap();
        assert_eq!(connection.buffered_bytes(), 4);
    }

    #[test]
    fn a_head_sent_byte_by_byte_is_read_once() {
        // The parser is called at the end alone, and each byte is looked at once: a line is never searched again.
        let mut head = Gathering::default();
        let bytes = b"GET / HTTP/1.1\r\nA: b\r\n\r\n";
        for (at, byte) in bytes.iter().enumerate() {
            let (taken, complete) = head.take(&[*byte], &Limits::default()).unwrap();
            assert_eq!((taken, complete), (1, at + 1 == bytes.len()));
        }
        assert_eq!((head.lines, head.line_start), (2, bytes.len() - 2));
    }
}
