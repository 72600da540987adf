//! An AMQP 0-9-1 client as machines without IO.
//!
//! Bytes of a broker enter through [`Client::receive`], bytes for it leave through [`Client::transmit`] (control)
//! and [`publish::frame_event`] (events, framed by whoever has them); time enters as an argument. No socket, clock
//! or thread is in here, and nothing that a broker or a worker sends can panic.
//!
//! ```text
//! bytes > frame (cut) > method (parse) > connection (channel 0), client and topology (channels 1 and 2) > Event
//!                                                                 content (deliveries, header tables)
//! Event to the broker: publish (frame_event, reframe, Answer)
//! ```
//!
//! [`worker`] is the other end of it all: the role of a worker, for the tools.
//!
//! One connection serves one cluster. Channel 1 publishes with confirms, channel 2 consumes and answers, so that
//! the fault of a worker's message never touches the events. Publish, deliver, confirm and heartbeat are framed
//! and parsed by hand and compared byte for byte with `amq-protocol` in tests; the slow methods go through that
//! crate. What both roles need (`frame`, `reader`, `spec`, `table`) serves `crate::broker` too, which holds the server
//! role. Section numbers in comments are those of the AMQP 0-9-1 specification; where RabbitMQ differs, its
//! dialect counts.

mod channel;
pub mod client;
mod connection;
mod content;
pub mod error;
pub mod frame;
#[doc(hidden)]
pub mod fuzz;
mod method;
pub mod options;
pub mod publish;
pub(crate) mod reader;
pub mod spec;
pub(crate) mod table;
mod topology;
pub mod uri;
pub mod worker;

#[cfg(test)]
mod tests;

pub use client::{Client, Event, Stats};
pub use content::{BadDelivery, Delivery, Header};
pub use error::{Consequence, Error, Recovery};
pub use options::Options;
pub use publish::{Answer, EventPublish, event_len, frame_event, reframe};
pub use uri::Uri;
