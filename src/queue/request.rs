//! What a shard asks of a queue, and how a thread without a runtime does.

use std::fmt::Debug;
use std::future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Wake};
use std::thread::{self, Thread};

/// Tells shards when they may identify.
///
/// The signature is that of `twilight_gateway_queue::Queue` up to 0.15: what was written for that trait implements and
/// calls this one.
///
/// ```
/// use rateway::queue::{LocalQueue, Queue};
/// use std::pin::Pin;
///
/// /// Counts in its log who asks.
/// #[derive(Debug)]
/// struct Logged(LocalQueue);
///
/// impl Queue for Logged {
///     fn request<'a>(&'a self, shard_id: [u64; 2]) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
///         Box::pin(async move {
///             let [id, total] = shard_id;
///             println!("shard {id} of {total} waits");
///             self.0.request(shard_id).await;
///             println!("shard {id} of {total} identifies");
///         })
///     }
/// }
///
/// let queue: Box<dyn Queue> = Box::new(Logged(LocalQueue::new()));
/// rateway::queue::wait(&queue, [0, 1]);
/// ```
pub trait Queue: Debug + Send + Sync {
    /// Asks for the shard `[id, total]`: the future resolves when it may identify, and it must then do so at once,
    /// since the next one's 5 seconds are running.
    ///
    /// A shard has its place from the first poll on. Dropping the future before it has resolved gives the place up and
    /// costs nothing.
    fn request<'a>(&'a self, shard_id: [u64; 2]) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>>;
}

impl<Q: Queue + ?Sized> Queue for &Q {
    fn request<'a>(&'a self, shard_id: [u64; 2]) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        (**self).request(shard_id)
    }
}

impl<Q: Queue + ?Sized> Queue for Arc<Q> {
    fn request<'a>(&'a self, shard_id: [u64; 2]) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        (**self).request(shard_id)
    }
}

impl<Q: Queue + ?Sized> Queue for Box<Q> {
    fn request<'a>(&'a self, shard_id: [u64; 2]) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        (**self).request(shard_id)
    }
}

/// Lets every shard identify at once: for a bot behind a proxy that queues by itself. At Discord's own gateway this
/// costs session starts.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoOpQueue;

impl Queue for NoOpQueue {
    fn request<'a>(&'a self, _: [u64; 2]) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        Box::pin(future::ready(()))
    }
}

/// Blocks this thread until the shard `[id, total]` may identify: [`Queue::request`] for programs without a runtime.
pub fn wait<Q: Queue + ?Sized>(queue: &Q, shard_id: [u64; 2]) {
    let signal = Arc::new(Signal { thread: thread::current(), woken: AtomicBool::new(false) });
    let waker = signal.clone().into();
    let mut turn = queue.request(shard_id);
    while turn.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() {
        while !signal.woken.swap(false, Ordering::Acquire) {
            thread::park();
        }
    }
}

/// Wakes a parked thread. The flag is there since a queue may park and unpark on its own account.
struct Signal {
    thread: Thread,
    woken: AtomicBool,
}

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        self.woken.store(true, Ordering::Release);
        self.thread.unpark();
    }
}
