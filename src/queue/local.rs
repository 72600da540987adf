//! Queues of one process.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use super::budget::SessionStartLimit;
use super::driver::{Driver, Status};
use super::machine::Options;
use super::request::Queue;

/// Session starts per 24 h of a bot in the usual number of guilds.
const TOTAL: u32 = 1000;

/// The queue of a bot whose shards run in this process and share one bucket: one permit each 5.25 s and 1,000 per 24 h
/// from the first on, which is what Discord grants to bots with a `max_concurrency` of 1. What other processes have
/// spent it does not know; [`LargeBotQueue::new`] takes what Discord says.
///
/// Clones are the same queue. It has one thread, which ends with the last clone, and needs no runtime.
///
/// A future that resolves is taken for an IDENTIFY that is sent at once. One that is not polled within 10 s of its turn
/// loses it (the session start stays spent) and asks again when it is polled.
#[derive(Clone, Debug)]
pub struct LocalQueue(Arc<Driver>);

impl LocalQueue {
    /// A queue in which nobody waits.
    ///
    /// # Panics
    /// When the system cannot start a thread.
    pub fn new() -> LocalQueue {
        LocalQueue::with_options(Options::new(1, TOTAL, TOTAL, Duration::ZERO))
    }

    /// A queue with other spacing or numbers. There is one bucket whatever `options` say, no limit to the requests, and
    /// without a `feedback_wait` it is 10 s.
    ///
    /// # Panics
    /// When the system cannot start a thread.
    pub fn with_options(options: Options) -> LocalQueue {
        LocalQueue(Arc::new(Driver::new(Options { max_concurrency: 1, ..options })))
    }

    /// What the queue can tell of itself now, for metrics.
    pub fn status(&self) -> Status {
        self.0.status()
    }
}

impl Default for LocalQueue {
    fn default() -> LocalQueue {
        LocalQueue::new()
    }
}

impl Queue for LocalQueue {
    fn request<'a>(&'a self, shard_id: [u64; 2]) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        Box::pin(self.0.request(shard_id))
    }
}

/// The queue of a bot whose shards run in this process and identify in `max_concurrency` buckets at a time, within what
/// `GET /gateway/bot` says is left today. Otherwise like [`LocalQueue`].
#[derive(Clone, Debug)]
pub struct LargeBotQueue(Arc<Driver>);

impl LargeBotQueue {
    /// A queue in which nobody waits. The arguments are the fields of Discord's `session_start_limit`: how many
    /// buckets there are, how many session starts are left, when there are `total` again, and how many a day has.
    /// A `max_concurrency` of 0 is taken for 1.
    ///
    /// # Panics
    /// When the system cannot start a thread.
    pub fn new(max_concurrency: u32, remaining: u32, reset_after: Duration, total: u32) -> LargeBotQueue {
        LargeBotQueue::with_options(Options::new(max_concurrency, total, remaining, reset_after))
    }

    /// A queue with another spacing too. There is no limit to the requests, and without a `feedback_wait` it is 10 s.
    ///
    /// # Panics
    /// When the system cannot start a thread.
    pub fn with_options(options: Options) -> LargeBotQueue {
        LargeBotQueue(Arc::new(Driver::new(options)))
    }

    /// Takes over what `GET /gateway/bot` says now; the arguments are those of [`LargeBotQueue::new`]. Permits that
    /// Discord may not have counted yet are counted on top. To be called when the answer has just come.
    pub fn update(&self, max_concurrency: u32, remaining: u32, reset_after: Duration, total: u32) {
        self.0.update(&SessionStartLimit { total, remaining, reset_after, max_concurrency });
    }

    /// What the queue can tell of itself now, for metrics.
    pub fn status(&self) -> Status {
        self.0.status()
    }
}

impl Queue for LargeBotQueue {
    fn request<'a>(&'a self, shard_id: [u64; 2]) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        Box::pin(self.0.request(shard_id))
    }
}

#[cfg(test)]
#[path = "local_tests.rs"]
mod tests;
