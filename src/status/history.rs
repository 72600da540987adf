//! The last two minutes, a value a second.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::board::Board;
use super::figures::Timings;

/// How many seconds are kept.
pub const SECONDS: usize = 120;

/// Over how many of them latencies are told: what is true now, and not since the start.
const WINDOW: usize = 60;

/// What was counted, second by second.
#[derive(Debug, Default)]
pub struct History {
    last: Option<(Instant, u64)>,
    rates: VecDeque<u64>,
    timings: VecDeque<Timings>,
}

impl History {
    /// Takes a look, once a second.
    pub fn sample(&mut self, now: Instant, board: &Board) {
        let (events, timings) = board.pulse();
        if let Some((at, before)) = self.last {
            let passed = now.saturating_duration_since(at).max(Duration::from_millis(1));
            let rate = events.saturating_sub(before) as f64 / passed.as_secs_f64();
            if self.rates.len() == SECONDS {
                self.rates.pop_front();
            }
            self.rates.push_back(rate.round() as u64);
        }
        self.last = Some((now, events));
        if self.timings.len() == WINDOW {
            self.timings.pop_front();
        }
        self.timings.push_back(timings);
    }

    /// Events per second, the latest last.
    pub fn rates(&self) -> impl Iterator<Item = u64> + '_ {
        self.rates.iter().copied()
    }

    /// What was measured in the last minute, with `now` as the state of things.
    pub fn recent(&self, now: &Timings) -> Timings {
        let before = self.timings.front().copied().unwrap_or_default();
        Timings {
            receive_to_publish: now.receive_to_publish.since(&before.receive_to_publish),
            publish_to_confirm: now.publish_to_confirm.since(&before.publish_to_confirm),
            heartbeat: now.heartbeat.since(&before.heartbeat),
        }
    }
}
