//! The one place of the queue that reads the clock: for queues that run on their own threads, without a reactor.

use std::time::Instant;

/// Now.
#[allow(clippy::disallowed_methods)] // The machine takes the time as an argument; this is where it comes from.
pub(super) fn now() -> Instant {
    Instant::now()
}
