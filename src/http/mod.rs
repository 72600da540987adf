//! HTTP in both roles: the one call to Discord's REST API, and a server's side of a connection.
//!
//! ```text
//! client   Options -> GatewayBot          blocking, with a socket of its own; asker gives it a thread
//! server   bytes -> Request               a machine without IO
//!          Response -> bytes
//! ```
//!
//! What Discord's answers mean is decided by [`gateway_bot`], without IO. Which paths rateway serves and what it
//! answers there is not known here.

pub mod asker;
pub mod client;
pub mod gateway_bot;
pub mod server;

pub use asker::Asker;
pub use client::{Error, Options, USER_AGENT, count_certificates, fetch_gateway_bot};
pub use gateway_bot::{GatewayBot, Outcome, Reply, SessionStartLimit};
