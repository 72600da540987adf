//! A moment that can be compared by a later process.
//!
//! Within one boot of the machine the time since the boot tells how long ago something was, whatever is done to the
//! wall clock. Across boots there is only the wall clock.

use std::fs;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// When something was written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// The boot of the machine, as Linux names it; empty where it does not.
    pub boot: String,
    /// Time since that boot, in milliseconds, suspended time included.
    pub uptime_ms: u64,
    /// Milliseconds since the Unix epoch.
    pub wall_ms: u64,
}

impl Stamp {
    /// Now, where the wall clock says `wall_ms`.
    pub fn read(wall_ms: u64) -> Stamp {
        let boot =
            fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned();
        match uptime_ms() {
            Some(uptime_ms) => Stamp { boot, uptime_ms, wall_ms },
            None => Stamp { boot: String::new(), uptime_ms: 0, wall_ms },
        }
    }

    /// How long before `self` the moment `earlier` was: not more than it was within one boot, else as much as the wall
    /// clock says, nothing when it went back.
    pub fn since(&self, earlier: &Stamp) -> Duration {
        let (now, then) = if !self.boot.is_empty() && self.boot == earlier.boot {
            (self.uptime_ms, earlier.uptime_ms)
        } else {
            (self.wall_ms, earlier.wall_ms)
        };
        Duration::from_millis(now.saturating_sub(then))
    }
}

/// The boot of a stamp as a number; 0 where it is not known.
pub fn boot_number(stamp: &Stamp) -> u64 {
    // A UUID: 122 of its bits are random.
    let digits: String = stamp.boot.chars().filter(|c| *c != '-').take(16).collect();
    u64::from_str_radix(&digits, 16).unwrap_or(0)
}

/// Reads the first number of `/proc/uptime`, seconds with two decimals; proc(5).
fn uptime_ms() -> Option<u64> {
    let text = fs::read_to_string("/proc/uptime").ok()?;
    let seconds: f64 = text.split_whitespace().next()?.parse().ok()?;
    Some((seconds * 1000.0) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(boot: &str, uptime_ms: u64, wall_ms: u64) -> Stamp {
        Stamp { boot: boot.into(), uptime_ms, wall_ms }
    }

    #[test]
    fn the_wall_clock_counts_only_across_boots() {
        let then = stamp("a", 5000, 100_000);
        assert_eq!(stamp("a", 7000, 999_999_999).since(&then), Duration::from_secs(2));
        assert_eq!(stamp("a", 7000, 0).since(&then), Duration::from_secs(2));
        assert_eq!(stamp("b", 7000, 103_000).since(&then), Duration::from_secs(3));
        assert_eq!(stamp("b", 7000, 1000).since(&then), Duration::ZERO);
        // Where the machine does not tell its boot, two unknown ones are not the same.
        assert_eq!(stamp("", 7000, 103_000).since(&stamp("", 0, 100_000)), Duration::from_secs(3));
    }

    #[test]
    fn linux_tells_its_boot() {
        let stamp = Stamp::read(7);
        assert!(stamp.boot.len() == 36 && stamp.uptime_ms > 0 && stamp.wall_ms == 7, "{stamp:?}");
    }
}
