//! A server's side of HTTP/1.1 (RFC 9110, RFC 9112) and 1.0 as a machine without IO: pieces of bytes in, whole
//! requests out; responses in, bytes out.
//!
//! ```text
//! receive > head gathered > parsed (httparse) > body gathered > Request ----+
//!              ^                                                            | poll_request: at most one at a time
//!              |                                                        outstanding; what arrives is held
//!              +--- the next one, from what was held, then from the socket -+ respond
//!                                                                           +--> over: the connection closes
//! ```
//!
//! What never happens here: an answer to a request that could not be read (the error goes to the caller, who drops
//! the connection), a second request before the first is answered, a clock or a socket. A connection that waits for
//! its answer or for a request holds no buffer, since tens of thousands of them may wait for minutes.
//!
//! Framing is read strictly, since rateway may stand behind a proxy and what two parsers read differently is how
//! requests are smuggled past one: one way to say how long a body is, no folded lines, CRLF around chunks. Bare LF
//! ends a line of the head, as RFC 9112 2.2 allows. Nothing here depends on Host; who serves a page does.

mod body;
pub mod connection;
pub mod request;
pub mod response;

#[cfg(test)]
mod tests;

use std::fmt;

pub use connection::Connection;
pub use request::{Request, Version};
pub use response::Response;

/// How much a connection takes. What it keeps never exceeds the sum of the three numbers of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a request line and its fields, line ends included, and of a chunked body's extensions and trailers
    /// with them. 8 KiB: what common servers take; our clients send some 200 bytes.
    pub head_bytes_max: usize,
    /// Fields of a head. 64: a browser behind two proxies sends about 30.
    pub headers_max: usize,
    /// Bytes of a body once its chunks are joined. 64 KiB: no request that rateway serves has a body worth naming.
    pub body_bytes_max: usize,
    /// Bytes that may arrive while a request is being worked on. 8 KiB: dozens of small requests in advance; who
    /// sends more does not read the answers.
    pub pipelined_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            head_bytes_max: 8 * 1024,
            headers_max: 64,
            body_bytes_max: 64 * 1024,
            pipelined_bytes_max: 8 * 1024,
        }
    }
}

/// Why a connection cannot go on. The caller drops it; nothing is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// A head, with the extensions and trailers of a chunked body, is longer than [`Limits::head_bytes_max`].
    HeadTooLong,
    /// A head has more fields than [`Limits::headers_max`].
    TooManyHeaders,
    /// A body is longer than [`Limits::body_bytes_max`], or will be.
    BodyTooLong,
    /// More came ahead of an answer than [`Limits::pipelined_bytes_max`].
    TooMuchPipelined,
    /// What came is not HTTP, or can be read in more than one way. The text says what was wrong.
    Malformed(&'static str),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::HeadTooLong => f.write_str("the request's head is too long"),
            Error::TooManyHeaders => f.write_str("the request has too many headers"),
            Error::BodyTooLong => f.write_str("the request's body is too long"),
            Error::TooMuchPipelined => f.write_str("the client sent too much ahead of an answer"),
            Error::Malformed(what) => write!(f, "not a valid HTTP request: {what}"),
        }
    }
}

impl std::error::Error for Error {}
