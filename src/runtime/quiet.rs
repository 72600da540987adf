//! Log lines that a worker can cause: a flood of bad messages must not become a flood of lines.

use std::time::{Duration, Instant};

/// How many lines pass at once.
const LINES: u32 = 10;

/// After how long they may again.
const WINDOW: Duration = Duration::from_secs(10);

/// Lets so many lines through per window and counts the others.
#[derive(Debug, Default)]
pub struct Quiet {
    since: Option<Instant>,
    lines: u32,
    suppressed: u64,
}

impl Quiet {
    /// Whether a line may be written at `now`; with it, how many were suppressed since the last one that was.
    pub fn allow(&mut self, now: Instant) -> Option<u64> {
        if self.since.is_none_or(|since| now.saturating_duration_since(since) >= WINDOW) {
            self.since = Some(now);
            self.lines = 0;
        }
        if self.lines == LINES {
            self.suppressed += 1;
            return None;
        }
        self.lines += 1;
        Some(std::mem::take(&mut self.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(clippy::disallowed_methods)] // A starting point for arithmetic.
    fn a_flood_becomes_a_few_lines_and_a_count() {
        let start = Instant::now();
        let mut quiet = Quiet::default();
        assert_eq!((0..100).filter(|_| quiet.allow(start).is_some()).count(), LINES as usize);
        assert_eq!(quiet.allow(start + WINDOW), Some(90));
        assert_eq!(quiet.allow(start + WINDOW), Some(0));
    }
}
