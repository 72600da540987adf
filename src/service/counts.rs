//! What the service counts besides what its gates count.

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The client went.
    Gone,
    /// Nothing was asked on it for long.
    Idle,
    /// A request took too long to arrive.
    Slow,
    /// What was sent is no request, or too large a one.
    Malformed,
    /// There was no room for the request.
    Refused,
}

/// Counters since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Connections taken.
    pub accepted: u64,
    /// Times that no connection could be taken for want of a descriptor.
    pub accept_errors: u64,
    /// Connections closed at once, as there were as many as there may be.
    pub refused_connections: u64,
    /// Requests read.
    pub requests: u64,
    /// Requests for which there was no room.
    pub refused_requests: u64,
    /// Requests that did not name their shard.
    pub without_shard: u64,
    /// Requests for something that cannot be given, such as an impossible key.
    pub senseless: u64,
    /// Permits answered.
    pub answered: u64,
    /// Connections that ended, by why.
    pub gone: u64,
    /// See [`End::Idle`].
    pub idle: u64,
    /// See [`End::Slow`].
    pub slow: u64,
    /// See [`End::Malformed`].
    pub malformed: u64,
}

impl Counts {
    /// A connection has ended.
    pub fn end(&mut self, end: End) {
        match end {
            End::Gone => self.gone += 1,
            End::Idle => self.idle += 1,
            End::Slow => self.slow += 1,
            End::Malformed => self.malformed += 1,
            // Counted with the request.
            End::Refused => {}
        }
    }
}
