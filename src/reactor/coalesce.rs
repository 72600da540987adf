//! When a thread lets readiness gather before it polls again.
//!
//! A wake-up costs several times what an event does. While a thread is woken often by little, it pauses between polls, so
//! that one wake-up serves what would have been several, and their publishes leave in one write. Nothing waits longer
//! than the bound for that, and a thread that is woken seldom or has work left does not pause at all.

use std::time::{Duration, Instant};

/// Wake-ups within the bound that make pausing worth while: an event alone causes two, its own and its confirm's.
const WAKES_MIN: u32 = 3;

/// Ready sockets after a pause below which the next poll blocks again: this one saved nothing.
const FOUND_MIN: usize = 2;

/// Takes when a thread woke and what it found; says how long to pause.
#[derive(Clone, Debug)]
pub struct Coalesce {
    bound: Duration,
    woke_at: Instant,
    /// Where the counting of `wakes` began.
    since: Instant,
    wakes: u32,
    paused: bool,
    /// How often a pause was made.
    pauses: u64,
}

impl Coalesce {
    /// Nothing waits for longer than `bound`; zero never pauses.
    pub fn new(bound: Duration, now: Instant) -> Coalesce {
        Coalesce { bound, woke_at: now, since: now, wakes: 0, paused: false, pauses: 0 }
    }

    /// The poll returned at `now` with so many ready sockets.
    pub fn woke(&mut self, now: Instant, found: usize) {
        self.woke_at = now;
        let saved_nothing = std::mem::take(&mut self.paused) && found < FOUND_MIN;
        if saved_nothing || now.saturating_duration_since(self.since) > self.bound && self.wakes < WAKES_MIN {
            self.since = now;
            self.wakes = 0;
        }
        self.wakes = self.wakes.saturating_add(1);
    }

    /// Whether to ask for a pause at all: spares a thread that never pauses a look at the clock.
    pub fn is_due(&self) -> bool {
        !self.bound.is_zero() && self.wakes >= WAKES_MIN
    }

    /// How long to pause before the next poll, asked at `now` with nothing left to do; zero for a poll at once.
    pub fn pause(&mut self, now: Instant) -> Duration {
        if !self.is_due() {
            return Duration::ZERO;
        }
        // What came right after the last poll has waited since then.
        let pause = (self.woke_at + self.bound).saturating_duration_since(now);
        self.paused = !pause.is_zero();
        self.pauses += u64::from(self.paused);
        pause
    }

    /// How often it paused.
    pub fn pauses(&self) -> u64 {
        self.pauses
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)] // A test needs some point in time to begin with.
mod tests {
    use super::*;

    const BOUND: Duration = Duration::from_micros(500);

    fn at(start: Instant, us: u64) -> Instant {
        start + Duration::from_micros(us)
    }

    #[test]
    fn a_thread_that_is_woken_seldom_polls_at_once() {
        let start = Instant::now();
        let mut coalesce = Coalesce::new(BOUND, start);
        for n in 0..100 {
            // An event, and what the broker says of it.
            coalesce.woke(at(start, n * 2000), 1);
            assert_eq!(coalesce.pause(at(start, n * 2000 + 20)), Duration::ZERO);
            coalesce.woke(at(start, n * 2000 + 90), 1);
            assert_eq!(coalesce.pause(at(start, n * 2000 + 100)), Duration::ZERO);
        }
    }

    #[test]
    fn a_thread_that_is_woken_often_pauses_until_the_bound() {
        let start = Instant::now();
        let mut coalesce = Coalesce::new(BOUND, start);
        for us in [0, 100, 200] {
            assert_eq!(coalesce.pause(at(start, us)), Duration::ZERO);
            coalesce.woke(at(start, us), 1);
        }
        // Since the last wake-up, so that no event waits longer than the bound.
        assert_eq!(coalesce.pause(at(start, 230)), BOUND - Duration::from_micros(30));
        coalesce.woke(at(start, 700), 4);
        assert_eq!(coalesce.pause(at(start, 800)), BOUND - Duration::from_micros(100));
        assert_eq!(coalesce.pauses(), 2);
    }

    #[test]
    fn a_pause_that_gathers_nothing_is_the_last() {
        let start = Instant::now();
        let mut coalesce = Coalesce::new(BOUND, start);
        for us in [0, 100, 200] {
            coalesce.woke(at(start, us), 1);
        }
        assert!(!coalesce.pause(at(start, 230)).is_zero());
        coalesce.woke(at(start, 700), 1);
        assert_eq!(coalesce.pause(at(start, 710)), Duration::ZERO);
    }

    #[test]
    fn a_turn_as_long_as_the_bound_is_followed_by_a_poll() {
        let start = Instant::now();
        let mut coalesce = Coalesce::new(BOUND, start);
        for us in [0, 100, 200] {
            coalesce.woke(at(start, us), 9);
        }
        assert_eq!(coalesce.pause(at(start, 700)), Duration::ZERO);
    }

    #[test]
    fn without_a_bound_nothing_pauses() {
        let start = Instant::now();
        let mut coalesce = Coalesce::new(Duration::ZERO, start);
        for us in 0..100 {
            coalesce.woke(at(start, us), 9);
            assert_eq!(coalesce.pause(at(start, us)), Duration::ZERO);
        }
    }
}
