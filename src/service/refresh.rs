//! When Discord is asked how many session starts are left.
//!
//! At the start, and then not more often than every few minutes and only when there is something to learn: permits
//! were given since, or nothing may be given any more and somebody waits. `GET /gateway/bot` has a rate limit of its
//! own, and who meets it waits for hours.

use std::time::{Duration, Instant};

use crate::queue::Machine;

/// Between two questions.
const INTERVAL: Duration = Duration::from_secs(5 * 60);

/// After an answer that nothing can be done about.
const INTERVAL_AFTER_REFUSAL: Duration = Duration::from_secs(30 * 60);

/// When to ask, and the one who asks.
pub struct Refresh {
    ask: Box<dyn Fn() + Send>,
    asked_at: Option<Instant>,
    next: Option<Instant>,
    granted_then: u64,
}

impl Refresh {
    /// `ask` sends the question; the answer comes to [`Refresh::told`].
    pub fn new(ask: impl Fn() + Send + 'static) -> Refresh {
        Refresh { ask: Box::new(ask), asked_at: None, next: None, granted_then: 0 }
    }

    /// Whether no answer has come yet.
    pub fn is_first(&self) -> bool {
        self.next.is_none()
    }

    /// Asks, unless a question is under way.
    pub fn ask(&mut self, now: Instant, queue: &Machine) {
        if self.asked_at.is_none() {
            self.asked_at = Some(now);
            self.granted_then = queue.stats().granted;
            (self.ask)();
        }
    }

    /// An answer has come; says when it was asked for.
    pub fn told(&mut self, now: Instant, is_good: bool) -> Instant {
        self.next = Some(now + if is_good { INTERVAL } else { INTERVAL_AFTER_REFUSAL });
        self.asked_at.take().unwrap_or(now)
    }

    /// When to call [`Refresh::ask`] next.
    pub fn due(&self, queue: &Machine) -> Option<Instant> {
        let is_curious =
            queue.stats().granted != self.granted_then || (queue.is_exhausted() && queue.waiting() > 0);
        self.next.filter(|_| self.asked_at.is_none() && is_curious)
    }
}
