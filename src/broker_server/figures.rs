//! What a broker has counted, left where any thread may look: for the status page of whoever runs it.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::broker::Stats;

/// The latest figures of a broker; a clone sees the same ones. They are at most a second old while it runs.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    latest: Arc<Mutex<Stats>>,
}

impl Figures {
    /// A copy of them.
    pub fn read(&self) -> Stats {
        *self.latest.lock()
    }

    pub(super) fn leave(&self, stats: Stats) {
        *self.latest.lock() = stats;
    }
}
