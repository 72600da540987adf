//! How long things took, in fixed memory.
//!
//! One counter per bucket, not cumulative; whoever shows it adds them up. Taking a note is a search in twenty numbers.

use std::time::Duration;

/// Upper bounds of the buckets, in microseconds: 50 us, as below nobody cares, to 60 s, after which somebody has called.
pub const BOUNDS_US: [u64; 20] = [
    50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    2_500_000, 5_000_000, 10_000_000, 20_000_000, 30_000_000, 60_000_000,
];

/// A histogram of durations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    /// How many fell into each bucket; the last one is for what took longer than all bounds.
    pub buckets: [u64; BOUNDS_US.len() + 1],
    /// All durations together, in microseconds.
    pub sum_us: u64,
}

impl Histogram {
    /// Notes that `count` things took `duration` each.
    pub fn note(&mut self, duration: Duration, count: u64) {
        let us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS_US.partition_point(|&bound| bound < us);
        self.buckets[bucket] += count;
        self.sum_us = self.sum_us.saturating_add(us.saturating_mul(count));
    }

    /// How many were noted.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// Adds what another one has.
    pub fn add(&mut self, other: &Histogram) {
        for (own, others) in self.buckets.iter_mut().zip(&other.buckets) {
            *own += others;
        }
        self.sum_us = self.sum_us.saturating_add(other.sum_us);
    }

    /// What was noted since `earlier`, a former state of this one.
    pub fn since(&self, earlier: &Histogram) -> Histogram {
        let mut out = *self;
        for (own, before) in out.buckets.iter_mut().zip(&earlier.buckets) {
            *own = own.saturating_sub(*before);
        }
        out.sum_us = out.sum_us.saturating_sub(earlier.sum_us);
        out
    }

    /// The duration, in microseconds, that the fraction `q` did not exceed: taken as spread evenly within its bucket.
    /// `None` when nothing was noted.
    pub fn quantile_us(&self, q: f64) -> Option<u64> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        let wanted = (count as f64 * q).max(1.0);
        let mut below = 0.0;
        for (place, &here) in self.buckets.iter().enumerate() {
            let here = here as f64;
            if below + here >= wanted {
                let low = place.checked_sub(1).map_or(0, |before| BOUNDS_US[before]) as f64;
                let high = BOUNDS_US.get(place).copied().unwrap_or(BOUNDS_US[BOUNDS_US.len() - 1]) as f64;
                return Some((low + (high - low).max(0.0) * (wanted - below) / here) as u64);
            }
            below += here;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_belong_to_their_bucket() {
        let mut histogram = Histogram::default();
        for us in [0, 50, 51, 60_000_000, 60_000_001] {
            histogram.note(Duration::from_micros(us), 1);
        }
        let at = |place: usize| histogram.buckets[place];
        assert_eq!((at(0), at(1), at(19), at(20)), (2, 1, 1, 1));
        assert_eq!((histogram.count(), histogram.sum_us), (5, 120_000_102));
        histogram.note(Duration::MAX, u64::MAX - 10);
        assert_eq!(histogram.sum_us, u64::MAX);
    }

    #[test]
    fn parts_make_the_whole() {
        let (mut a, mut b) = (Histogram::default(), Histogram::default());
        a.note(Duration::from_millis(3), 4);
        b.note(Duration::from_millis(30), 2);
        let before = a;
        a.add(&b);
        assert_eq!((a.count(), a.sum_us, a.since(&before)), (6, 72_000, b));
    }

    #[test]
    fn quantiles_lie_in_their_bucket() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile_us(0.5), None);
        histogram.note(Duration::from_micros(700), 98);
        histogram.note(Duration::from_millis(200), 1);
        histogram.note(Duration::from_secs(100), 1);
        let within = |q, low, high| {
            let found = histogram.quantile_us(q).expect("something was noted");
            assert!((low..=high).contains(&found), "{q}: {found}");
        };
        within(0.0, 500, 1_000);
        within(0.5, 500, 1_000);
        within(0.99, 100_000, 250_000);
        within(1.0, 60_000_000, 60_000_000);
    }
}
