//! A worker as a value: hears every event of some clusters, and asks.

use std::time::Instant;

use super::events::EVENTS;
use super::session::{CHANNEL, Session};
use crate::amqp::worker::{Event, Message, Request};
use crate::config::ToolsConfig;
use crate::relay::topology;

/// Messages that the broker sends ahead of their acknowledgement, and how many are acknowledged together.
const PREFETCH: u16 = 500;
const ACK_EVERY: u64 = 100;
/// What waits in the broker for a listener that does not keep up; the oldest go first.
const QUEUE_LENGTH_MAX: u32 = 50_000;
const QUEUE_BYTES_MAX: u32 = 64 << 20;

/// A connection with a queue of its own, bound to every event that Discord documents.
pub struct Listener {
    session: Session,
    queue: String,
    received: u64,
    acked: u64,
}

impl Listener {
    /// Connects, and binds the queue to the exchanges of the clusters 1 to `clusters`, which have to be there.
    ///
    /// # Errors
    /// What went wrong, in words.
    pub fn connect(config: &ToolsConfig, clusters: u32, name: &str) -> Result<Listener, String> {
        let mut session = Session::connect(config, name).map_err(|error| error.to_string())?;
        let queue =
            session.own_queue(QUEUE_LENGTH_MAX, QUEUE_BYTES_MAX).map_err(|error| error.to_string())?;
        for exchange in (1..=clusters).map(topology::exchange) {
            if !session.has_exchange(&exchange).map_err(|error| error.to_string())? {
                return Err(format!("there is no exchange {exchange} yet"));
            }
            for event in EVENTS {
                let bound = session.worker().bind(CHANNEL, &queue, &exchange, event);
                bound.map_err(|error| error.to_string())?;
            }
        }
        session.consume(&queue, PREFETCH).map_err(|error| error.to_string())?;
        Ok(Listener { session, queue, received: 0, acked: 0 })
    }

    /// The next event or answer; `None` when there is none until then. An answer comes by no exchange.
    ///
    /// # Errors
    /// Why there is nothing more to hear, in words.
    pub fn next(&mut self, until: Instant) -> Result<Option<Message>, String> {
        loop {
            if self.received >= self.acked + ACK_EVERY {
                self.acknowledge();
            }
            match self.session.next(until).map_err(|error| error.to_string())? {
                None => {
                    self.acknowledge();
                    return Ok(None);
                }
                Some(Event::Message(message)) => {
                    self.received = message.delivery_tag;
                    return Ok(Some(message));
                }
                Some(event) => self.session.must_go_on(event).map_err(|error| error.to_string())?,
            }
        }
    }

    /// Sends a cluster a command or a query; the answer comes with `correlation_id`.
    ///
    /// # Errors
    /// When it cannot be framed.
    pub fn send(
        &mut self,
        cluster: u32,
        routing_key: &str,
        header: Option<(&str, &str)>,
        correlation_id: &str,
        body: &[u8],
    ) -> Result<(), String> {
        let exchange = topology::exchange(cluster);
        let request =
            Request { exchange: &exchange, routing_key, header, reply_to: &self.queue, correlation_id, body };
        self.session.worker().publish(CHANNEL, &request).map_err(|error| error.to_string())
    }

    fn acknowledge(&mut self) {
        if self.received > self.acked {
            self.session.worker().ack_through(CHANNEL, self.received);
            self.acked = self.received;
        }
    }
}
