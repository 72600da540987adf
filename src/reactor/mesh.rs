//! The threads of a reactor as they see each other: inboxes, wakers and the stealing ends of their deques.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crossbeam_deque::{Steal, Stealer, Worker};
use parking_lot::Mutex;

use super::clock;
use super::{Coalesce, Outcome, Reactor, Task};
use crate::base::Timers;

/// The token of a thread's waker; homes never use it.
pub(super) const WAKER: usize = usize::MAX;

/// What lands in a thread's inbox.
pub(super) enum Mail<T, M> {
    Message(M),
    Returned(Box<T>, Outcome),
}

/// One thread, as the others see it.
pub struct Peer<T, M> {
    inbox: Mutex<Vec<Mail<T, M>>>,
    waker: mio::Waker,
    sleeping: AtomicBool,
    stealer: Stealer<Box<T>>,
    pub(super) ran: AtomicU64,
    stole: AtomicU64,
    turned_ms: AtomicU64,
}

impl<T, M> Peer<T, M> {
    /// Says that the thread is about to wait. False when mail came meanwhile.
    pub(super) fn fall_asleep(&self) -> bool {
        // Ordering: SeqCst pairs with `post`: either the poster sees `sleeping` and wakes us, or we see its mail.
        self.sleeping.store(true, Ordering::SeqCst);
        self.inbox.lock().is_empty()
    }

    pub(super) fn stay_awake(&self) {
        self.sleeping.store(false, Ordering::SeqCst);
    }

    pub(super) fn take_mail(&self, into: &mut Vec<Mail<T, M>>) {
        std::mem::swap(&mut *self.inbox.lock(), into);
    }

    fn post(&self, mail: Mail<T, M>) {
        self.inbox.lock().push(mail);
        self.wake();
    }

    fn wake(&self) -> bool {
        // A thread that is awake looks into its inbox before it sleeps; only a sleeping one costs more than a load.
        if !self.sleeping.load(Ordering::SeqCst) {
            return false;
        }
        // Ordering: SeqCst, see `fall_asleep`. The swap lets one of several posters pay for the system call.
        if !self.sleeping.swap(false, Ordering::SeqCst) {
            return false;
        }
        // A waker fails only when its eventfd is gone, that is when the thread has ended.
        let _ = self.waker.wake();
        true
    }
}

/// All threads of a reactor.
pub struct Mesh<T, M> {
    pub(super) peers: Vec<Peer<T, M>>,
    /// What `turned_ms` counts from.
    origin: Instant,
}

impl<T: Task, M: Send + 'static> Mesh<T, M> {
    /// Makes a reactor of `threads` threads; each half is to be moved to its thread and given to [`super::run`].
    ///
    /// # Errors
    /// When epoll or eventfd are not to be had.
    pub fn with_threads(threads: usize) -> io::Result<Vec<Reactor<T, M>>> {
        let mut peers = Vec::with_capacity(threads);
        let mut halves = Vec::with_capacity(threads);
        for _ in 0..threads {
            let poll = mio::Poll::new()?;
            let deque = Worker::new_fifo();
            peers.push(Peer {
                inbox: Mutex::new(Vec::new()),
                waker: mio::Waker::new(poll.registry(), mio::Token(WAKER))?,
                sleeping: AtomicBool::new(false),
                stealer: deque.stealer(),
                ran: AtomicU64::new(0),
                stole: AtomicU64::new(0),
                turned_ms: AtomicU64::new(0),
            });
            halves.push((poll, deque));
        }
        let turn = clock::read();
        let mesh = Arc::new(Mesh { peers, origin: turn.now });
        let reactors = halves.into_iter().enumerate().map(|(thread, (poll, deque))| Reactor {
            thread,
            turn,
            ended: turn.now,
            timers: Timers::default(),
            coalesce: Coalesce::new(Duration::ZERO, turn.now),
            poll,
            deque,
            spawned: 0,
            mesh: mesh.clone(),
        });
        Ok(reactors.collect())
    }

    /// How many threads there are.
    pub fn threads(&self) -> usize {
        self.peers.len()
    }

    /// Notes that `thread` begins a turn.
    pub(super) fn turned(&self, thread: usize, now: Instant) {
        let ms = now.saturating_duration_since(self.origin).as_millis() as u64;
        // Ordering: a figure for health checks, read by nobody who needs more than its value.
        self.peers[thread].turned_ms.store(ms, Ordering::Relaxed);
    }

    /// How long ago each thread began its last turn. One that has nothing to do begins one a second.
    pub fn idle(&self, now: Instant) -> Vec<Duration> {
        let since = |peer: &Peer<T, M>| {
            let turned = self.origin + Duration::from_millis(peer.turned_ms.load(Ordering::Relaxed));
            now.saturating_duration_since(turned)
        };
        self.peers.iter().map(since).collect()
    }

    /// Leaves a message in the inbox of `thread` and wakes it.
    pub fn post(&self, thread: usize, message: M) {
        self.peers[thread].post(Mail::Message(message));
    }

    /// Tasks that each thread ran of its own, and that it stole.
    pub fn runs(&self) -> Vec<(u64, u64)> {
        let read = |peer: &Peer<T, M>| (peer.ran.load(Ordering::Relaxed), peer.stole.load(Ordering::Relaxed));
        self.peers.iter().map(read).collect()
    }

    pub(super) fn send_home(&self, thread: usize, task: Box<T>, outcome: Outcome) {
        self.peers[thread].post(Mail::Returned(task, outcome));
    }

    /// Wakes up to `count` sleeping threads other than `thread`.
    pub(super) fn wake_sleepers(&self, thread: usize, count: usize) {
        let others = self.peers.iter().enumerate().filter(|&(index, _)| index != thread);
        let mut left = count;
        for (_, peer) in others {
            if left == 0 {
                return;
            }
            if peer.wake() {
                left -= 1;
            }
        }
    }

    /// Whether another thread has a task to steal.
    pub(super) fn has_spoils(&self, thread: usize) -> bool {
        self.peers.iter().enumerate().any(|(index, peer)| index != thread && !peer.stealer.is_empty())
    }

    /// Takes one task from another thread's deque, beginning with the next thread so that thieves spread.
    pub(super) fn steal(&self, thread: usize) -> Option<Box<T>> {
        let threads = self.peers.len();
        for step in 1..threads {
            let victim = &self.peers[(thread + step) % threads];
            loop {
                match victim.stealer.steal() {
                    Steal::Success(task) => {
                        self.peers[thread].stole.fetch_add(1, Ordering::Relaxed);
                        return Some(task);
                    }
                    Steal::Empty => break,
                    Steal::Retry => {}
                }
            }
        }
        None
    }
}
