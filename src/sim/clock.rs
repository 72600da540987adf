//! The one place of the stand-in that reads the clock.

use std::time::Instant;

/// Now.
#[allow(clippy::disallowed_methods)] // The machine takes the time as an argument; this is where it comes from.
pub(super) fn now() -> Instant {
    Instant::now()
}
