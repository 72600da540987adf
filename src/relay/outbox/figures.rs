//! What an outbox counts, and how long events take on their way: counted per event, measured per batch.
//!
//! The caller says when a write was over ([`Outbox::written`]) at the beginning of its next turn, when it has read the clock
//! anyway, and what time it is before it hands in confirms ([`Timing::now`]). So nothing here reads a clock.

use std::time::Instant;

use super::Outbox;
use crate::base::Histogram;

/// What has happened, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Publishes taken in.
    pub published: u64,
    /// Publishes that the broker confirmed.
    pub confirmed: u64,
    /// Publishes that went out again.
    pub repeated: u64,
    /// Confirms that named no publish under way.
    pub confirms_unknown: u64,
    /// Publishes that the broker refuses whatever is done; such an event is lost.
    pub refused: u64,
    /// Stored publishes that could not be framed again. A broken invariant of ours: such a publish is lost.
    pub unframeable: u64,
}

/// How long events took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timing {
    /// From the read of the bytes to the first write of the publish; what was on disk in between is not in it.
    pub receive_to_publish: Histogram,
    /// From the last write to the confirm of the whole batch.
    pub publish_to_confirm: Histogram,
    /// The time of the caller's turn.
    pub now: Option<Instant>,
    /// How many of the outbox's first entries have the time of their last write.
    stamped: usize,
}

impl Timing {
    /// A batch of `count` events is confirmed and leaves the front.
    pub(super) fn popped(&mut self, written_at: Option<Instant>, count: usize) {
        let was_stamped = self.stamped > 0;
        self.stamped = self.stamped.saturating_sub(1);
        // What was confirmed before an earlier channel was lost has no write of this one.
        if let (true, Some(now), Some(at)) = (was_stamped, self.now, written_at) {
            self.publish_to_confirm.note(now.saturating_duration_since(at), count as u64);
        }
    }

    /// Everything is to be written again.
    pub(super) fn rewound(&mut self) {
        self.stamped = 0;
    }
}

impl Outbox {
    /// Whether something was written of which [`Outbox::written`] was not told.
    pub fn has_unstamped(&self) -> bool {
        self.timing.stamped < self.wire
    }

    /// All that was written so far was written by `at`.
    pub fn written(&mut self, at: Instant) {
        let stamped = self.timing.stamped.min(self.wire);
        for entry in self.entries.range_mut(stamped..self.wire) {
            if entry.written_at.replace(at).is_none()
                && let Some(received_at) = entry.batch.received_at
            {
                let took = at.saturating_duration_since(received_at);
                self.timing.receive_to_publish.note(took, entry.batch.records.len() as u64);
            }
        }
        self.timing.stamped = self.wire;
    }
}
