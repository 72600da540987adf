//! When to ask Discord how many session starts are left.
//!
//! At the start, and then not more often than every few minutes and only when there is something to learn: permits
//! were given since, or nothing may be given any more and somebody waits. `GET /gateway/bot` has a rate limit of its
//! own, and who meets it waits for hours.

use std::time::{Duration, Instant};

use super::Machine;

/// Between two questions.
const INTERVAL: Duration = Duration::from_secs(5 * 60);

/// After an answer that nothing can be done about.
const INTERVAL_AFTER_REFUSAL: Duration = Duration::from_secs(30 * 60);

/// When to ask.
#[derive(Clone, Copy, Debug, Default)]
pub struct Refresh {
    asked_at: Option<Instant>,
    next: Option<Instant>,
    granted_then: u64,
}

impl Refresh {
    /// Whether no answer has come yet.
    pub fn is_first(&self) -> bool {
        self.next.is_none()
    }

    /// A question is sent now, after `granted` permits since the start.
    pub fn asked(&mut self, now: Instant, granted: u64) {
        if self.asked_at.is_none() {
            self.asked_at = Some(now);
            self.granted_then = granted;
        }
    }

    /// An answer has come, one to go by or not; says when it was asked for, for [`Machine::refresh`].
    pub fn told(&mut self, now: Instant, is_good: bool) -> Instant {
        self.next = Some(now + if is_good { INTERVAL } else { INTERVAL_AFTER_REFUSAL });
        self.asked_at.take().unwrap_or(now)
    }

    /// When to ask next; `None` while a question is under way, or as long as there is nothing to learn.
    ///
    /// `granted` counts the permits since the start, `is_stuck` says that somebody waits and nothing is left.
    pub fn due(&self, granted: u64, is_stuck: bool) -> Option<Instant> {
        self.next.filter(|_| self.asked_at.is_none() && (granted != self.granted_then || is_stuck))
    }

    /// As [`Refresh::due`], for a queue in this process.
    pub fn due_for(&self, queue: &Machine) -> Option<Instant> {
        self.due(queue.stats().granted, queue.is_exhausted() && queue.waiting() > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::{Options, SessionStartLimit};

    #[test]
    #[allow(clippy::disallowed_methods)] // A starting point for arithmetic; nothing depends on its value.
    fn discord_is_asked_when_there_is_something_to_learn() {
        let t = Instant::now();
        let after = |seconds| t + Duration::from_secs(seconds);
        let mut queue = Machine::new(Options::new(1, 1000, 1, Duration::from_secs(3600)), t);
        let mut refresh = Refresh::default();
        assert!(refresh.is_first() && refresh.due_for(&queue).is_none());
        refresh.asked(t, queue.stats().granted);
        assert_eq!(refresh.told(after(1), true), t);
        assert!(!refresh.is_first() && refresh.due_for(&queue).is_none());
        // A permit was given.
        queue.request(after(2), 1, 0).unwrap();
        assert_eq!(refresh.due_for(&queue), Some(after(301)));
        // One question at a time.
        refresh.asked(after(301), queue.stats().granted);
        refresh.asked(after(400), queue.stats().granted);
        assert_eq!(refresh.due_for(&queue), None);
        assert_eq!(refresh.told(after(500), true), after(301));
        // Nothing is left, which matters to those who wait only.
        assert_eq!(refresh.due_for(&queue), None);
        queue.request(after(501), 2, 0).unwrap();
        assert!(queue.is_exhausted());
        assert_eq!(refresh.due_for(&queue), Some(after(800)));
        // An answer of no use is not asked for again soon.
        refresh.asked(after(800), queue.stats().granted);
        assert_eq!(refresh.told(after(801), false), after(800));
        assert_eq!(refresh.due_for(&queue), Some(after(801 + 1800)));
        let limit = SessionStartLimit {
            total: 1000,
            remaining: 1000,
            reset_after: Duration::ZERO,
            max_concurrency: 1,
        };
        queue.refresh(after(900), after(899), &limit);
        assert_eq!(queue.stats().granted, 2);
    }
}
