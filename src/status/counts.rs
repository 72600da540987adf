//! What the page's own thread counts.

/// Counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Connections that are open.
    pub connections: u64,
    /// Of those, the ones that read /events.
    pub streams: u64,
    /// Requests answered.
    pub requests: u64,
    /// Connections closed by this side before their end.
    pub closed: u64,
    /// Updates of /events that were left out, as the one before was not read.
    pub updates_dropped: u64,
}
