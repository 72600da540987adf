//! The bytes of a socket and Discord's payloads, in memory only: TLS, WebSocket, inflate, and the three joined.
//!
//! Bytes come in from a [`Buf`](crate::base::Buf) that somebody else fills and leave into a `Vec` that somebody
//! else writes out. Nothing here opens a socket, waits, or knows what a payload means. [`tls`] stands by itself
//! and serves AMQP too. Randomness for TLS and for WebSocket masks is drawn from the system: this is the one
//! layer that a seed does not rule.

pub mod deflate;
pub mod error;
pub mod inflate;
pub mod tls;
pub mod transport;
pub mod websocket;

pub use error::{Error, ErrorKind};
pub use inflate::{Compression, Limits};
pub use transport::{Endpoint, Incoming, Options, Scratch, Transport};
