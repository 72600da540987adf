//! What of a queue outlives its process.

use std::time::Duration;

/// The state of a queue, without those who wait: they come again. All times are counted from the snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// How many buckets there are.
    pub max_concurrency: u32,
    /// IDENTIFYs per day.
    pub total: u32,
    /// How many of them Discord had counted when it was last asked, and when its day ends.
    pub told: Option<(u32, Duration)>,
    /// Permits that this does not include: how long ago, how many. The oldest first.
    pub spent: Vec<(Duration, u32)>,
    /// A permit may be younger than the spacing.
    pub busy: bool,
}
