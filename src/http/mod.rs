//! Discord's REST API, as far as rateway needs it: [`client`] asks, [`gateway_bot`] says what the answers mean.

pub mod client;
pub mod gateway_bot;

pub use client::{Error, Options, USER_AGENT, count_certificates, fetch_gateway_bot};
pub use gateway_bot::{GatewayBot, Outcome, Reply, SessionStartLimit};
