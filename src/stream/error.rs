//! What can go wrong on the way from a socket to a payload, summed over the modules of `stream`.

use super::{inflate, tls, transport, websocket};
use std::fmt;

/// Any failure of a [`Transport`](super::Transport). The connection is of no use afterwards.
#[derive(Debug)]
pub enum Error {
    /// TLS failed.
    Tls(tls::Error),
    /// The upgrade or a WebSocket frame was wrong.
    WebSocket(websocket::Error),
    /// A message could not be decompressed.
    Inflate(inflate::Error),
    /// The URL to connect to is not usable.
    Endpoint(transport::EndpointError),
    /// The peer ended the connection without a close frame.
    Ended,
    /// The transport had failed before and was used again.
    Failed,
}

/// Failures by what an operator or a counter cares about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// Certificates, handshake or records of TLS.
    Tls,
    /// The server answered the upgrade with something else than 101.
    Refused,
    /// The peer broke a protocol.
    Protocol,
    /// A limit of ours was reached.
    Limit,
    /// Compressed data could not be read.
    Decode,
    /// The connection ended early.
    Ended,
    /// Our own configuration or use is wrong.
    Misuse,
}

impl ErrorKind {
    /// The name for logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            ErrorKind::Tls => "tls",
            ErrorKind::Refused => "refused",
            ErrorKind::Protocol => "protocol",
            ErrorKind::Limit => "limit",
            ErrorKind::Decode => "decode",
            ErrorKind::Ended => "ended",
            ErrorKind::Misuse => "misuse",
        }
    }
}

impl Error {
    /// What sort of failure this is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Tls(e) => e.kind(),
            Error::WebSocket(e) => e.kind(),
            Error::Inflate(e) => e.kind(),
            Error::Endpoint(_) | Error::Failed => ErrorKind::Misuse,
            Error::Ended => ErrorKind::Ended,
        }
    }
}

impl std::error::Error for Error {}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Tls(e) => write!(f, "TLS: {e}"),
            Error::WebSocket(e) => write!(f, "WebSocket: {e}"),
            Error::Inflate(e) => write!(f, "decompression: {e}"),
            Error::Endpoint(e) => write!(f, "URL: {e}"),
            Error::Ended => f.write_str("the peer ended the connection without a close frame"),
            Error::Failed => f.write_str("the connection had failed before"),
        }
    }
}

impl From<tls::Error> for Error {
    fn from(e: tls::Error) -> Error {
        Error::Tls(e)
    }
}

impl From<websocket::Error> for Error {
    fn from(e: websocket::Error) -> Error {
        Error::WebSocket(e)
    }
}

impl From<inflate::Error> for Error {
    fn from(e: inflate::Error) -> Error {
        Error::Inflate(e)
    }
}

impl From<transport::EndpointError> for Error {
    fn from(e: transport::EndpointError) -> Error {
        Error::Endpoint(e)
    }
}
