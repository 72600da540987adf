//! A machine that runs by itself: futures ask it, and a thread that sleeps until its next deadline wakes them.
//!
//! A permit is held until its future was polled to the end, since nothing else tells of the IDENTIFY. One that is not
//! polled in time lapses, and the late poll asks again: by then the next one is about to identify.

use std::collections::HashMap;
use std::fmt;
use std::mem;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use super::budget::SessionStartLimit;
use super::clock;
use super::machine::{Machine, Options, Stats};

/// How long a permit waits for its future to be polled, where `Options` does not say.
const FEEDBACK_WAIT: Duration = Duration::from_secs(10);

/// What a queue can tell of itself at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// Requests that wait.
    pub waiting: usize,
    /// Permits left today.
    pub remaining: u32,
    /// How long until the next permit; `None` when nobody waits, or all who do wait for a permit that is out.
    pub next_permit_in: Option<Duration>,
    /// What was counted since the queue was made: permits granted, requests abandoned and so on.
    pub counts: Stats,
}

/// Belongs to all clones of a queue: with the last of them the thread ends.
pub(super) struct Driver {
    pub(super) shared: Arc<Shared>,
}

pub(super) struct Shared {
    state: Mutex<State>,
    // The thread sleeps on it; others ring when its deadline may have moved.
    changed: Condvar,
}

struct State {
    machine: Machine,
    waiters: HashMap<u64, Waiter>,
    tickets: u64,
    // Whose turn it is; to be woken without the lock.
    woken: Vec<Waker>,
    over: bool,
}

/// A future that was polled and is not done.
#[derive(Default)]
struct Waiter {
    granted: bool,
    waker: Option<Waker>,
}

impl Driver {
    /// A machine and its thread. Of `options`, `requests_max` has no meaning here: every request is a future that
    /// somebody keeps.
    pub(super) fn new(options: Options) -> Driver {
        let feedback_wait = options.feedback_wait.or(Some(FEEDBACK_WAIT));
        let options = Options { feedback_wait, requests_max: usize::MAX, ..options };
        let machine = Machine::new(options, clock::now());
        let state = State { machine, waiters: HashMap::new(), tickets: 0, woken: Vec::new(), over: false };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
        let of_thread = shared.clone();
        thread::Builder::new()
            .name("identify-queue".into())
            .spawn(move || of_thread.run())
            .expect("the system can start a thread, as std::thread::spawn expects too");
        Driver { shared }
    }

    pub(super) fn request(&self, [id, _]: [u64; 2]) -> Turn<'_> {
        // Discord's ids are far below; the others would share a bucket.
        Turn { shared: &self.shared, shard_id: u32::try_from(id).unwrap_or(u32::MAX), ticket: None }
    }

    pub(super) fn update(&self, limit: &SessionStartLimit) {
        // When Discord was asked is not told: what was granted a moment ago counts on top.
        self.shared.with(|state, now| state.machine.refresh(now, now, limit));
    }

    pub(super) fn status(&self) -> Status {
        self.shared.with(|State { machine, .. }, now| {
            machine.handle_deadline(now);
            Status {
                waiting: machine.waiting(),
                remaining: machine.remaining(),
                next_permit_in: machine.next_permit_at().map(|at| at.saturating_duration_since(now)),
                counts: machine.stats(),
            }
        })
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // Not joined: this may be the thread itself, in a waker that dropped the last clone.
        self.shared.with(|state, _| state.over = true);
    }
}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.status().fmt(f)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // What panics under the lock are the machine's own checks, in debug builds: going on is what release builds do.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does `act` under the lock, and all that follows from it. Wakers are anybody's code and may come back here, so
    /// they are woken without the lock, and `act` gives those that it takes out to its caller, who drops them.
    fn with<T>(&self, act: impl FnOnce(&mut State, Instant) -> T) -> T {
        let mut state = self.lock();
        let out = act(&mut state, clock::now());
        state.hand_out();
        let woken = mem::take(&mut state.woken);
        drop(state);
        self.changed.notify_one();
        woken.into_iter().for_each(Waker::wake);
        out
    }

    fn run(&self) {
        let mut state = self.lock();
        while !state.over {
            let now = clock::now();
            state.machine.handle_deadline(now);
            state.hand_out();
            let woken = mem::take(&mut state.woken);
            if !woken.is_empty() {
                drop(state);
                woken.into_iter().for_each(Waker::wake);
                state = self.lock();
                continue;
            }
            state = match state.machine.poll_timeout() {
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(at) => {
                    let left = at.saturating_duration_since(now);
                    self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }
}

impl State {
    /// Marks whose turn it is.
    fn hand_out(&mut self) {
        while let Some(permit) = self.machine.poll_permit() {
            if let Some(waiter) = self.waiters.get_mut(&permit.ticket) {
                waiter.granted = true;
                self.woken.extend(waiter.waker.take());
            }
        }
    }

    /// One poll of a future; with the answer comes a waker that is not needed any more.
    fn poll(
        &mut self,
        now: Instant,
        ticket: &mut Option<u64>,
        shard_id: u32,
        waker: Waker,
    ) -> (Poll<()>, Option<Waker>) {
        self.machine.handle_deadline(now);
        loop {
            let held = *ticket.get_or_insert_with(|| {
                self.tickets += 1;
                self.waiters.insert(self.tickets, Waiter::default());
                // Never full: requests_max is usize::MAX.
                let admitted = self.machine.request(now, self.tickets, shard_id);
                debug_assert!(admitted.is_ok());
                self.tickets
            });
            self.hand_out();
            if let Some(waiter) = self.waiters.get_mut(&held)
                && !waiter.granted
            {
                return (Poll::Pending, waiter.waker.replace(waker));
            }
            self.waiters.remove(&held);
            *ticket = None;
            if self.machine.holds(held) {
                self.machine.identified(now, held, shard_id);
                return (Poll::Ready(()), Some(waker));
            }
        }
    }
}

/// A request of a shard.
pub(super) struct Turn<'a> {
    shared: &'a Shared,
    shard_id: u32,
    // Not before the first poll, and not after the last.
    ticket: Option<u64>,
}

impl Future for Turn<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let Turn { shared, shard_id, ticket } = &mut *self;
        let waker = context.waker().clone();
        let (answer, unused) = shared.with(|state, now| state.poll(now, ticket, *shard_id, waker));
        drop(unused);
        answer
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let Some(ticket) = self.ticket else { return };
        let gone = self.shared.with(|state, now| {
            state.machine.cancel(now, ticket);
            state.waiters.remove(&ticket)
        });
        drop(gone);
    }
}
