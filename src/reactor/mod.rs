//! One epoll loop per thread: sockets, deadlines and an inbox that stay at home, tasks that travel.
//!
//! A [`Home`] owns what lives on a thread. Work that needs only CPU goes into boxes ([`Task`]) on the thread's
//! deque, where an idle thread may steal it. Whoever ran a box sends it home. One thread has a box at a time:
//! ownership is the lock, and what a box does keeps its order.
//!
//! ```text
//! home -> deque -> runner (home or thief) -> home inbox -> home
//! ```
//!
//! A turn: let readiness gather ([`coalesce`]); poll; read the clock once; note readiness; empty the inbox; fire deadlines; fill windows; run own
//! tasks, else steal one; flush. A thief never touches a socket. The reactor knows no Discord and no AMQP.

pub mod clock;
pub mod coalesce;
pub mod listener;
pub mod mesh;
pub mod open_files;
pub mod resolve;
pub mod socket;

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crossbeam_deque::Worker;

use crate::base::Timers;
pub use clock::Turn;
pub use coalesce::Coalesce;
pub use listener::Listener;
pub use mesh::Mesh;
use mesh::{Mail, WAKER};
pub use resolve::Resolver;
pub use socket::{Fill, Readiness, Socket};

/// CPU work that any thread may do.
pub trait Task: Send + 'static {
    /// Buffers that a thread lends to each task that it runs.
    type Scratch: Default;

    /// Works within its own budget. Whatever it could not finish waits in the task.
    fn run(&mut self, turn: Turn, scratch: &mut Self::Scratch);

    /// The index of the thread that the task goes back to.
    fn home(&self) -> usize;
}

/// The task of a home that sends none out.
#[derive(Debug)]
pub enum NoTask {}

impl Task for NoTask {
    type Scratch = ();

    fn run(&mut self, _: Turn, (): &mut ()) {
        match *self {}
    }

    fn home(&self) -> usize {
        match *self {}
    }
}

/// How a task came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It ran to its end or to the end of its budget.
    Ran,
    /// It panicked: its state is not to be trusted.
    Panicked,
}

/// What lives on one thread and handles what happens there.
pub trait Home: Sized {
    /// The tasks that this home sends out.
    type Task: Task;
    /// What other threads tell it.
    type Message: Send + 'static;

    /// A socket registered with `token` became ready; remember it, act in [`Home::fill`].
    fn on_ready(&mut self, reactor: &mut Reactor<Self::Task, Self::Message>, token: usize, ready: Readiness);
    /// Another thread says something.
    fn on_message(&mut self, reactor: &mut Reactor<Self::Task, Self::Message>, message: Self::Message);
    /// The deadline of `key` has passed.
    fn on_deadline(&mut self, reactor: &mut Reactor<Self::Task, Self::Message>, key: usize);
    /// Reads from sockets within a budget and spawns tasks. Returns whether readable sockets are left over.
    fn fill(&mut self, reactor: &mut Reactor<Self::Task, Self::Message>) -> bool;
    /// A task is back.
    fn on_task(
        &mut self,
        reactor: &mut Reactor<Self::Task, Self::Message>,
        task: Box<Self::Task>,
        outcome: Outcome,
    );
    /// Whether something was found readable after [`Home::fill`]. Its edge is past: unless the thread looks again by
    /// itself, nothing will tell of it.
    fn has_unread(&self) -> bool;
    /// The turn ends: write what waits, gathered. Returns whether the thread goes on.
    fn flush(&mut self, reactor: &mut Reactor<Self::Task, Self::Message>) -> bool;
}

/// How many own tasks a thread runs before it looks at its sockets again. Small enough that a turn stays in the
/// low milliseconds, large enough that a poll is shared by many.
const TASKS_PER_TURN: usize = 16;

/// How long a thread sleeps at most, so that a lost wake-up would show as a delay and not as a standstill.
const SLEEP_MAX: Duration = Duration::from_secs(1);

/// A thread's half of the reactor, as its [`Home`] sees it.
pub struct Reactor<T: Task, M: Send + 'static> {
    /// This thread's index in the mesh.
    pub thread: usize,
    /// The time of this turn.
    pub turn: Turn,
    /// When the turn before was over: what that one wrote was written by then.
    pub ended: Instant,
    /// Deadlines by the home's own keys.
    pub timers: Timers<usize>,
    /// Whether and for how long readiness may gather.
    pub coalesce: Coalesce,
    poll: mio::Poll,
    deque: Worker<Box<T>>,
    spawned: usize,
    mesh: Arc<Mesh<T, M>>,
}

impl<T: Task, M: Send + 'static> Reactor<T, M> {
    /// Where sockets are registered.
    pub fn registry(&self) -> &mio::Registry {
        self.poll.registry()
    }

    /// The threads of this reactor.
    pub fn mesh(&self) -> &Arc<Mesh<T, M>> {
        &self.mesh
    }

    /// Queues a task; this thread or an idle one will run it.
    pub fn spawn(&mut self, task: Box<T>) {
        self.deque.push(task);
        self.spawned += 1;
    }

    /// Lets readiness gather, but no deadline pass. Mail waits as well, as for a thread that is at work.
    fn pause(&mut self) {
        if self.coalesce.is_due() {
            let now = clock::read().now;
            let next = self.timers.next().map_or(SLEEP_MAX, |at| at.saturating_duration_since(now));
            let pause = self.coalesce.pause(now).min(next);
            if !pause.is_zero() {
                std::thread::sleep(pause);
            }
        }
    }

    /// Wakes sleeping threads when there is more to do than this one is about to begin.
    fn share(&mut self) {
        if self.spawned > 0 {
            self.spawned = 0;
            let surplus = self.deque.len().saturating_sub(1);
            self.mesh.wake_sleepers(self.thread, surplus);
        }
    }
}

/// Runs a thread's loop until its home says stop, and gives the home back.
///
/// # Errors
/// When epoll itself fails, which leaves the thread nothing to wait on.
pub fn run<H: Home>(mut reactor: Reactor<H::Task, H::Message>, mut home: H) -> io::Result<H> {
    let mut events = mio::Events::with_capacity(1024);
    let mut mail = Vec::new();
    let mut scratch = <H::Task as Task>::Scratch::default();
    let mut work_left = false;
    loop {
        if !work_left {
            reactor.pause();
        }
        let peer = &reactor.mesh.peers[reactor.thread];
        let mut ended = None;
        // The look at the others comes after the word that this thread sleeps, so that a task spawned in between is
        // either seen here or wakes it.
        let timeout = if work_left || !peer.fall_asleep() || reactor.mesh.has_spoils(reactor.thread) {
            Duration::ZERO
        } else {
            let next = reactor.timers.next();
            let now = clock::read().now;
            ended = Some(now);
            next.map_or(SLEEP_MAX, |at: Instant| at.saturating_duration_since(now)).min(SLEEP_MAX)
        };
        let polled = reactor.poll.poll(&mut events, Some(timeout));
        reactor.mesh.peers[reactor.thread].stay_awake();
        match polled {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        reactor.turn = clock::read();
        reactor.coalesce.woke(reactor.turn.now, events.iter().count());
        reactor.ended = ended.unwrap_or(reactor.turn.now);
        reactor.mesh.turned(reactor.thread, reactor.turn.now);

        for event in &events {
            if event.token().0 != WAKER {
                home.on_ready(&mut reactor, event.token().0, Readiness::from(event));
            }
        }
        read_mail(&mut reactor, &mut home, &mut mail);
        while let Some(key) = reactor.timers.pop_due(reactor.turn.now) {
            home.on_deadline(&mut reactor, key);
        }
        work_left = home.fill(&mut reactor);
        reactor.share();

        let mut ran = 0;
        while ran < TASKS_PER_TURN
            && let Some(task) = reactor.deque.pop()
        {
            let (task, outcome) = run_task(task, reactor.turn, &mut scratch);
            home.on_task(&mut reactor, task, outcome);
            // A thief that has sent its task home looks for the next one: let it find that task again soon.
            read_mail(&mut reactor, &mut home, &mut mail);
            reactor.share();
            ran += 1;
        }
        let mesh = reactor.mesh.clone();
        mesh.peers[reactor.thread].ran.fetch_add(ran as u64, Ordering::Relaxed);
        if ran == 0
            && let Some(task) = mesh.steal(reactor.thread)
        {
            let thread = task.home();
            let (task, outcome) = run_task(task, reactor.turn, &mut scratch);
            mesh.send_home(thread, task, outcome);
            work_left = true;
        }
        work_left |= !reactor.deque.is_empty();
        if !home.flush(&mut reactor) {
            return Ok(home);
        }
        // Flushing may have spawned: a full outbox that drained lets its shards go on. And a task that came back may
        // have left its socket unread.
        work_left |= !reactor.deque.is_empty() || home.has_unread();
    }
}

/// Empties this thread's inbox.
fn read_mail<H: Home>(
    reactor: &mut Reactor<H::Task, H::Message>,
    home: &mut H,
    mail: &mut Vec<Mail<H::Task, H::Message>>,
) {
    reactor.mesh.peers[reactor.thread].take_mail(mail);
    for item in mail.drain(..) {
        match item {
            Mail::Message(message) => home.on_message(reactor, message),
            Mail::Returned(task, outcome) => home.on_task(reactor, task, outcome),
        }
    }
}

/// Runs one task. A panic is our own broken invariant: it costs the task its state, nobody else anything.
fn run_task<T: Task>(mut task: Box<T>, turn: Turn, scratch: &mut T::Scratch) -> (Box<T>, Outcome) {
    let outcome = match catch_unwind(AssertUnwindSafe(|| task.run(turn, scratch))) {
        Ok(()) => Outcome::Ran,
        Err(_) => {
            // What the panic left half-written in the shared buffers must not reach the next task.
            *scratch = T::Scratch::default();
            Outcome::Panicked
        }
    };
    (task, outcome)
}
