//! The one place of the stand-in that reads the clock.

use std::time::{Instant, SystemTime};

/// Now.
#[allow(clippy::disallowed_methods)] // The machine takes the time as an argument; this is where it comes from.
pub(super) fn now() -> Instant {
    Instant::now()
}

/// Now, in nanoseconds since 1970: what another process on the machine can compare with.
#[allow(clippy::disallowed_methods)] // As above.
pub(super) fn unix_ns() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
