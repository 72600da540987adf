//! The identify queue: who may identify, and when.
//!
//! Discord allows one IDENTIFY per 5 s in each of `max_concurrency` buckets (a shard's bucket is its id modulo
//! that number), and a number of them per day; going over the second ends every session and resets the token.
//! [`Machine`] hands out permits within both. It does no IO, so that any runtime can drive it.
//!
//! ```text
//! Queue                      what a shard asks: a trait, its futures need no particular runtime
//!   LocalQueue               one bucket, in this process        \  driver: a Machine, its lock, its thread
//!   LargeBotQueue            max_concurrency buckets            /
//!   RemoteQueue              asks a service over HTTP           -  Ask: request and answer as bytes, without IO
//!   NoOpQueue                answers at once
//! ```
//!
//! A bot in one process:
//!
//! ```
//! use rateway::queue::{LocalQueue, Queue};
//! use std::pin::pin;
//! use std::sync::Arc;
//! use std::task::{Context, Poll, Wake};
//! use std::thread::{self, Thread};
//!
//! // Any runtime will do; this is the smallest.
//! struct Unpark(Thread);
//! impl Wake for Unpark {
//!     fn wake(self: Arc<Self>) {
//!         self.0.unpark();
//!     }
//! }
//! fn block_on<T>(future: impl Future<Output = T>) -> T {
//!     let waker = Arc::new(Unpark(thread::current())).into();
//!     let mut future = pin!(future);
//!     loop {
//!         match future.as_mut().poll(&mut Context::from_waker(&waker)) {
//!             Poll::Ready(out) => return out,
//!             Poll::Pending => thread::park(),
//!         }
//!     }
//! }
//!
//! let queue = LocalQueue::new();
//! block_on(async {
//!     queue.request([0, 1]).await;
//!     // Send the IDENTIFY of shard 0 of 1 now.
//! });
//! assert_eq!(queue.status().remaining, 999);
//! ```
//!
//! Shards in several processes ask one service, `rateway queue` or one that answers like it:
//!
//! ```no_run
//! use rateway::queue::{RemoteQueue, wait};
//!
//! let queue = RemoteQueue::new("http://queue.internal:8080/")?;
//! wait(&queue, [7, 16]);
//! // Send the IDENTIFY of shard 7 of 16 now.
//! # Ok::<(), rateway::queue::UrlError>(())
//! ```

pub mod ask;
mod budget;
mod clock;
mod driver;
pub mod endpoint;
mod local;
pub mod machine;
mod refresh;
mod remote;
mod request;
mod snapshot;
#[cfg(test)]
mod tests;

pub use ask::{Answer, Ask, FEEDBACK_HEADER, Refusal, Report};
pub use budget::SessionStartLimit;
pub use driver::Status;
pub use endpoint::{Endpoint, ToldLimit, UrlError, Whom};
pub use local::{LargeBotQueue, LocalQueue};
pub use machine::{Full, Machine, Options, Permit, Stats};
pub use refresh::Refresh;
pub use remote::{RemoteQueue, RemoteQueueBuilder};
pub use request::{NoOpQueue, Queue, wait};
pub use snapshot::Snapshot;
