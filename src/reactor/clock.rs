//! The one place that reads a clock. Everything else is handed the time.
#![allow(clippy::disallowed_methods)]

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// The time of a turn: monotonic for deadlines, wall-clock for what people and workers read.
#[derive(Clone, Copy, Debug)]
pub struct Turn {
    /// Monotonic time.
    pub now: Instant,
    /// Milliseconds since the Unix epoch; may jump.
    pub wall_ms: u64,
}

/// Reads both clocks.
pub fn read() -> Turn {
    let wall_ms = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis().min(u64::MAX.into()) as u64);
    Turn { now: Instant::now(), wall_ms }
}
