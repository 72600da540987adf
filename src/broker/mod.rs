//! An AMQP 0-9-1 broker as a machine without IO: the server role, for workers when there is no RabbitMQ.
//!
//! Clients' bytes enter through [`Broker::receive`], bytes for them leave through [`Broker::output`]; time enters as an
//! argument, randomness as a seed. No socket, clock or thread is in here, and nothing that a client sends can panic.
//!
//! ```text
//! bytes > frames (whose channel) > command (parse) > connection   channel 0: login, limits, heartbeats, the end
//!                                                    declare      exchanges, queues, bindings
//!                                                    basic        consumers, acknowledgements
//!                                                    publish > exchanges (route) > queue > deliver > bytes
//!                                                                                  dead_letter > publish
//! ```
//!
//! Messages are kept in memory, each once, and do not outlive the process, durable or not. What RabbitMQ does where the
//! specification is silent or broken is done here too; section numbers are those of the AMQP 0-9-1 specification.
//! What a client does wrong is a value (`fault`) that one table maps to a reply code.

mod arguments;
mod audit;
mod basic;
#[allow(clippy::module_inception)] // The machine of this name, among its parts.
mod broker;
mod channel;
mod command;
mod connection;
mod dead_letter;
mod declare;
mod deliver;
mod exchanges;
mod fault;
mod frames;
#[doc(hidden)]
pub mod fuzz;
mod matching;
mod message;
mod names;
mod notice;
mod options;
mod properties;
mod publish;
mod queue;
mod room;
mod sasl;
mod slots;
#[cfg(test)]
mod tests;
mod write;

pub use broker::{Broker, ConnectionId, Fate, Next};
pub use notice::{Limit, Notice, Stats};
pub use options::{Options, User};
