//! The announcement of events that are lost in spite of everything: what Discord held for a session that is gone.
//!
//! Workers get one message with the routing key [`ROUTING_KEY`] on the cluster's exchange, in the shard's own
//! order, right behind the READY that ends the gap (or when the shard ends without one):
//!
//! ```json
//! {"shard_id":3,"last_seq":1042,"from_ms":1767225600000,"until_ms":1767225612345,"reason":"..."}
//! ```
//!
//! `last_seq` is the last event of the old session that arrived; everything up to it is published. Times are Unix
//! milliseconds: the last sign of the old session, and the READY.

use crate::amqp;
use crate::amqp::publish::{EventPublish, frame_event};

use super::flow::{Framing, PUBLISH_CHANNEL};
use super::outbox::{Batch, Record};

/// Where workers that care for gaps listen.
pub const ROUTING_KEY: &str = "RATEWAY_GAP";

/// A gap that has begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// Hash of the session that is gone.
    pub session_hash: u64,
    /// The last seq that arrived of it.
    pub last_seq: u64,
    /// When the last sign of it came, in Unix milliseconds.
    pub from_ms: u64,
    /// Why it is gone.
    pub reason: String,
}

impl Gap {
    /// Appends the announcement of a gap that ends at `until_ms` to `batch`.
    ///
    /// # Errors
    /// When it cannot be framed, which no name of ours is long enough for.
    pub fn publish(
        &self,
        shard_id: u32,
        until_ms: u64,
        framing: &Framing,
        batch: &mut Batch,
    ) -> Result<(), amqp::Error> {
        let body = serde_json::json!({
            "shard_id": shard_id,
            "last_seq": self.last_seq,
            "from_ms": self.from_ms,
            "until_ms": until_ms,
            "reason": self.reason,
        });
        let event = EventPublish {
            exchange: framing.exchange.as_bytes(),
            routing_key: ROUTING_KEY.as_bytes(),
            message_id: &format!("{shard_id}-{:016x}-{}-gap", self.session_hash, self.last_seq).into_bytes(),
            timestamp_s: until_ms / 1000,
            shard_id,
            seq: self.last_seq,
            repeat: false,
            persistent: framing.persistent,
            body: &body.to_string().into_bytes(),
        };
        frame_event(&mut batch.bytes, PUBLISH_CHANNEL, framing.frame_max, &event)?;
        batch.frame_max = framing.frame_max;
        // No seq of its own: it must not count as progress of a session.
        batch.records.push(Record::new(self.session_hash, 0, batch.bytes.len()));
        Ok(())
    }
}
