//! Asks a queue service over HTTP. A thread per request, as a waiting request is a waiting connection anyway.

use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::{BuildHasher, Hasher};
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream, ToSocketAddrs};
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{SockRef, TcpKeepalive};

use super::ask::{Answer, Ask, Refusal};
use super::clock;
use super::endpoint::{Endpoint, UrlError, Whom};
use super::request::Queue;
use crate::base::{Rng, loopback};

/// A few times what resolving a name, reading 1 KiB at a time and writing a log line take.
const STACK_BYTES: usize = 128 << 10;
/// For all addresses of the service together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A waiting connection is silent for hours. Probes tell a service that vanished from one that is busy, and keep
/// routers' tables alive: given up 30 s + 4 x 10 s after the last sign of life.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_PROBES: u32 = 4;
/// Failures are logged once in this time.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

#[derive(Clone, Copy)]
struct Times {
    /// The wait after a failed attempt; it doubles with each further one.
    wait: Duration,
    wait_max: Duration,
    /// A permit that was not taken by then is as old as the next one of its bucket, and using it now would be too early
    /// for that one.
    permit_life: Duration,
}

const TIMES: Times = Times {
    wait: Duration::from_secs(1),
    wait_max: Duration::from_secs(30),
    permit_life: Duration::from_secs(5),
};

/// The queue of a bot whose shards run in several processes: asks `rateway queue`, or a service that answers like it,
/// and resolves with its permit and never without one. What goes wrong is logged as a warning, once a minute, and asked
/// again after 1 s, doubling to 30 s.
///
/// Each waiting request has a connection and a thread with a stack of 128 KiB; it needs no runtime. There is no limit to
/// the wait. Dropping a future closes its connection, so that the service gives the place to the next one at once; a
/// permit that was on its way then is lost, and so is one whose future is not polled within 5 s (the late poll asks
/// again). Clones are the same queue.
#[derive(Clone)]
pub struct RemoteQueue {
    shared: Arc<Shared>,
}

/// Makes a [`RemoteQueue`]; see [`RemoteQueue::builder`].
#[derive(Clone)]
#[must_use]
pub struct RemoteQueueBuilder {
    url: String,
    max_concurrency: Option<u32>,
    token_hash: Option<String>,
    times: Times,
}

struct Shared {
    endpoint: Endpoint,
    max_concurrency: Option<u32>,
    token_hash: Option<String>,
    times: Times,
    complaints: Mutex<Complaints>,
}

/// What was not logged because it was said before.
#[derive(Default)]
struct Complaints {
    last: Option<Instant>,
    left_out: u64,
}

impl RemoteQueue {
    /// A queue behind `http://host[:port][/path][?query]`. For each request the query gets `shard=` with the shard's
    /// id, unless it has that key; `{shard_id}` and `{shard_count}` in path and query are replaced.
    ///
    /// # Errors
    /// When the URL is not of this form or has other placeholders.
    pub fn new(url: &str) -> Result<RemoteQueue, UrlError> {
        RemoteQueue::builder(url).build()
    }

    /// A queue that tells the service more.
    pub fn builder(url: &str) -> RemoteQueueBuilder {
        RemoteQueueBuilder { url: url.to_owned(), max_concurrency: None, token_hash: None, times: TIMES }
    }
}

impl RemoteQueueBuilder {
    /// How many buckets Discord says there are: added to the query as `max_concurrency=`, and for `{max_concurrency}`.
    pub fn max_concurrency(mut self, number: u32) -> RemoteQueueBuilder {
        self.max_concurrency = Some(number);
        self
    }

    /// What stands for the bot's token where the service serves several bots: for `{token_hash}`. It is sent as it is.
    pub fn token_hash(mut self, hash: impl Into<String>) -> RemoteQueueBuilder {
        self.token_hash = Some(hash.into());
        self
    }

    /// The queue.
    ///
    /// # Errors
    /// When the URL is not of the form that [`RemoteQueue::new`] takes, or has a placeholder without a value.
    pub fn build(self) -> Result<RemoteQueue, UrlError> {
        let RemoteQueueBuilder { url, max_concurrency, token_hash, times } = self;
        let endpoint = Endpoint::parse(&url)?;
        let complaints = Mutex::default();
        let shared = Shared { endpoint, max_concurrency, token_hash, times, complaints };
        // Whether there are all values does not depend on the shard.
        shared.ask([0, 1])?;
        Ok(RemoteQueue { shared: Arc::new(shared) })
    }
}

impl fmt::Debug for RemoteQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RemoteQueue({})", self.shared.endpoint)
    }
}

/// Without the URL: whether there is a secret in it is not known yet.
impl fmt::Debug for RemoteQueueBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RemoteQueueBuilder")
    }
}

impl Queue for RemoteQueue {
    fn request<'a>(&'a self, shard_id: [u64; 2]) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        Box::pin(Turn { shared: self.shared.clone(), shard_id, call: None })
    }
}

/// A request of a shard.
struct Turn {
    shared: Arc<Shared>,
    shard_id: [u64; 2],
    // From the first poll on.
    call: Option<Arc<Call>>,
}

impl Future for Turn {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let waker = context.waker().clone();
        if let Some(call) = &self.call {
            let Some(since) = call.permit_or(waker.clone()) else { return Poll::Pending };
            self.call = None;
            if clock::now().saturating_duration_since(since) < self.shared.times.permit_life {
                return Poll::Ready(());
            }
            // The permit came, but not the poll. Ask again.
        }
        let call = Arc::new(Call::default());
        call.permit_or(waker.clone());
        let (shared, of_thread, shard_id) = (self.shared.clone(), call.clone(), self.shard_id);
        let started = thread::Builder::new()
            .name("identify-ask".into())
            .stack_size(STACK_BYTES)
            .spawn(move || shared.ask_until_permitted(&of_thread, shard_id));
        match started {
            Ok(_) => self.call = Some(call),
            Err(error) => {
                // There is no thread that could wait, so this one does, a little.
                self.shared.complain(self.shard_id, &Failure::Io("starting a thread", error));
                thread::sleep(Duration::from_millis(100));
                waker.wake();
            }
        }
        Poll::Pending
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(call) = &self.call {
            call.give_up();
        }
    }
}

/// Where a future and its thread meet.
#[derive(Default)]
struct Call {
    state: Mutex<CallState>,
    // Ends a wait between two attempts.
    given_up: Condvar,
}

#[derive(Default)]
struct CallState {
    permit: Option<Instant>,
    given_up: bool,
    waker: Option<Waker>,
    // The connection that waits, to be shut down from outside.
    stream: Option<Arc<TcpStream>>,
}

impl Call {
    fn lock(&self) -> MutexGuard<'_, CallState> {
        // Nothing panics under this lock; each change is complete by itself.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When the permit came; else `waker` is kept for that.
    fn permit_or(&self, waker: Waker) -> Option<Instant> {
        let mut state = self.lock();
        let before = if state.permit.is_none() { state.waker.replace(waker) } else { None };
        let permit = state.permit;
        // What a waker does when it is dropped is its own affair: not under the lock.
        drop(state);
        drop(before);
        permit
    }

    fn permit(&self) {
        let mut state = self.lock();
        state.permit = Some(clock::now());
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn give_up(&self) {
        let mut state = self.lock();
        state.given_up = true;
        let (stream, waker) = (state.stream.take(), state.waker.take());
        drop(state);
        if let Some(stream) = stream {
            // An error means that there is no connection any more.
            let _ = stream.shutdown(Shutdown::Both);
        }
        self.given_up.notify_one();
        drop(waker);
    }

    /// Whether the wait ended because nobody is interested any more.
    fn sleep(&self, wait: Duration) -> bool {
        let waited = self.given_up.wait_timeout_while(self.lock(), wait, |state| !state.given_up);
        waited.unwrap_or_else(PoisonError::into_inner).0.given_up
    }

    /// Leaves a connection to [`Call::give_up`]; false when that was called already.
    fn attach(&self, stream: Option<&Arc<TcpStream>>) -> bool {
        let mut state = self.lock();
        state.stream = stream.filter(|_| !state.given_up).cloned();
        !state.given_up
    }
}

enum Failure {
    Io(&'static str, io::Error),
    Refused(Refusal),
    /// The future was dropped.
    GivenUp,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Io(what, error) => write!(f, "{what}: {error}"),
            Failure::Refused(why) => why.fmt(f),
            Failure::GivenUp => f.write_str("given up"),
        }
    }
}

impl Shared {
    fn ask(&self, [shard_id, shard_count]: [u64; 2]) -> Result<Ask, UrlError> {
        let token_hash = self.token_hash.as_deref();
        Ask::new(
            &self.endpoint,
            &Whom { shard_id, shard_count, max_concurrency: self.max_concurrency, token_hash, limit: None },
        )
    }

    fn ask_until_permitted(&self, call: &Call, shard_id: [u64; 2]) {
        let mut rng = Rng::new(RandomState::new().build_hasher().finish());
        let Times { wait, wait_max, .. } = self.times;
        let mut step = wait;
        loop {
            let began = clock::now();
            let failure = match self.attempt(call, shard_id) {
                Ok(()) => return call.permit(),
                Err(Failure::GivenUp) => return,
                Err(failure) => failure,
            };
            self.complain(shard_id, &failure);
            if clock::now().saturating_duration_since(began) > wait_max {
                // It waited in the line, until the service was restarted perhaps.
                step = wait;
            }
            // Jitter: all shards have failed at the same moment.
            if call.sleep(rng.duration(step / 2, step)) {
                return;
            }
            step = (step * 2).min(wait_max);
        }
    }

    fn attempt(&self, call: &Call, shard_id: [u64; 2]) -> Result<(), Failure> {
        // `build` has seen that there is a value for every placeholder.
        let Ok(mut ask) = self.ask(shard_id) else { return Err(Failure::GivenUp) };
        let stream = Arc::new(self.connect()?);
        if !call.attach(Some(&stream)) {
            return Err(Failure::GivenUp);
        }
        let outcome = converse(&stream, &mut ask);
        if call.attach(None) { outcome } else { Err(Failure::GivenUp) }
    }

    /// Tries all addresses, each with its share of the time.
    fn connect(&self) -> Result<TcpStream, Failure> {
        let (host, port) = (self.endpoint.host(), self.endpoint.port());
        let resolving = |error| Failure::Io("resolving its name", error);
        let addresses = match loopback::addresses(host, port) {
            Some(addresses) => addresses.to_vec(),
            None => (host, port).to_socket_addrs().map_err(resolving)?.collect(),
        };
        let mut last = io::Error::new(io::ErrorKind::NotFound, "its name has no address");
        let deadline = clock::now() + CONNECT_TIMEOUT;
        for (at, address) in addresses.iter().enumerate() {
            let left = deadline.saturating_duration_since(clock::now());
            // At least one address is left here. Zero is no timeout that could be given.
            let share = (left / (addresses.len() - at) as u32).max(Duration::from_millis(1));
            match TcpStream::connect_timeout(address, share) {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error,
            }
        }
        Err(Failure::Io("connecting", last))
    }

    fn complain(&self, [id, total]: [u64; 2], failure: &Failure) {
        let now = clock::now();
        let mut complaints = self.complaints.lock().unwrap_or_else(PoisonError::into_inner);
        if complaints.last.is_some_and(|last| now.saturating_duration_since(last) < LOG_INTERVAL) {
            complaints.left_out += 1;
            return;
        }
        complaints.last = Some(now);
        let left_out = std::mem::take(&mut complaints.left_out);
        // A logger is anybody's code.
        drop(complaints);
        let endpoint = &self.endpoint;
        match left_out {
            0 => log::warn!("no permit for shard {id} of {total} from {endpoint}: {failure}; asking again"),
            _ => log::warn!(
                "no permit for shard {id} of {total} from {endpoint}: {failure}; asking again ({left_out} more such \
                 failures since the last line)"
            ),
        }
    }
}

/// Sends the request and reads until there is an answer.
fn converse(mut stream: &TcpStream, ask: &mut Ask) -> Result<(), Failure> {
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_IDLE)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_PROBES);
    SockRef::from(stream)
        .set_tcp_keepalive(&keepalive)
        .map_err(|error| Failure::Io("setting keepalive", error))?;
    stream.write_all(ask.request()).map_err(|error| Failure::Io("sending", error))?;
    let mut buffer = [0; 1024];
    loop {
        let answer = match stream.read(&mut buffer) {
            Ok(0) => ask.ended(),
            Ok(count) => ask.receive(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(Failure::Io("waiting", error)),
        };
        match answer {
            Answer::Waiting => {}
            Answer::Permit => return Ok(()),
            Answer::Refused(why) => return Err(Failure::Refused(why)),
        }
    }
}

#[cfg(test)]
#[path = "remote_tests.rs"]
mod tests;
