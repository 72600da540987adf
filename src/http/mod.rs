//! Discord's REST API, as far as rateway needs it: [`client`] asks, [`asker`] gives it a thread of
//! its own, [`gateway_bot`] says what the answers mean.

pub mod asker;
pub mod client;
pub mod gateway_bot;

pub use asker::Asker;
pub use client::{Error, Options, USER_AGENT, count_certificates, fetch_gateway_bot};
pub use gateway_bot::{GatewayBot, Outcome, Reply, SessionStartLimit};
