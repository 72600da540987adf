//! Waits between attempts: doubling, with jitter, up to a cap.

use std::time::Duration;

use crate::base::Rng;

/// How long to wait before attempt after attempt.
#[derive(Debug)]
pub struct Backoff {
    first: Duration,
    cap: Duration,
    attempt: u32,
    rng: Rng,
}

impl Backoff {
    /// Waits about `first`, then twice as long each time, never above `cap`.
    pub fn new(first: Duration, cap: Duration, seed: u64) -> Backoff {
        Backoff { first, cap, attempt: 0, rng: Rng::new(seed) }
    }

    /// The next wait: between half and all of the present step, so that many who fell at once spread.
    pub fn next_wait(&mut self) -> Duration {
        let step = self.first.saturating_mul(1 << self.attempt.min(20)).min(self.cap);
        self.attempt = self.attempt.saturating_add(1);
        self.rng.duration(step / 2, step)
    }

    /// Begins anew after a success.
    pub fn reset(&mut self) {
        self.attempt = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_up_to_the_cap_and_begins_anew() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1), 3);
        for step_ms in [100, 200, 400, 800, 1000, 1000] {
            let wait = backoff.next_wait();
            assert!(wait >= Duration::from_millis(step_ms / 2) && wait <= Duration::from_millis(step_ms));
        }
        backoff.reset();
        assert!(backoff.next_wait() <= Duration::from_millis(100));
    }
}
