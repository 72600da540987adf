//! The reactor with tasks that only compute: nothing is lost, order within a task holds, idle threads steal, a
//! panic costs one task its state and nobody else anything.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use rateway::reactor::{self, Home, Mesh, Outcome, Reactor, Readiness, Task, Turn};

/// Counts its runs; every run checks that it follows the last one.
struct Counting {
    home: usize,
    id: usize,
    runs: u64,
    runs_max: u64,
    panics_at: Option<u64>,
    threads: HashSet<std::thread::ThreadId>,
    running: Arc<AtomicU64>,
}

impl Task for Counting {
    type Scratch = Vec<u64>;

    fn run(&mut self, _: Turn, scratch: &mut Vec<u64>) {
        // One thread has the box at a time, so nobody else can be between these two lines for this task.
        assert_eq!(self.running.fetch_add(1, Ordering::SeqCst), 0, "two threads ran one task");
        scratch.clear();
        // Some CPU work that cannot be left out.
        let mut x = self.runs + 1;
        for _ in 0..20_000 {
            x = x.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(5);
        }
        scratch.push(x);
        self.threads.insert(std::thread::current().id());
        self.runs += 1;
        self.running.fetch_sub(1, Ordering::SeqCst);
        if self.panics_at == Some(self.runs) {
            self.panics_at = None;
            panic!("on purpose");
        }
    }

    fn home(&self) -> usize {
        self.home
    }
}

struct Yard {
    left: usize,
    others_wait: bool,
    done: mpsc::Sender<Box<Counting>>,
    panics: Arc<AtomicU64>,
}

impl Home for Yard {
    type Task = Counting;
    type Message = Option<Box<Counting>>;

    fn on_ready(&mut self, _: &mut Reactor<Counting, Self::Message>, _: usize, _: Readiness) {}

    fn on_message(&mut self, reactor: &mut Reactor<Counting, Self::Message>, message: Self::Message) {
        match message {
            Some(task) => {
                self.left += 1;
                reactor.spawn(task);
            }
            None => self.others_wait = false,
        }
    }

    fn on_deadline(&mut self, _: &mut Reactor<Counting, Self::Message>, _: usize) {}

    fn fill(&mut self, _: &mut Reactor<Counting, Self::Message>) -> bool {
        false
    }

    fn has_unread(&self) -> bool {
        false
    }

    fn on_task(
        &mut self,
        reactor: &mut Reactor<Counting, Self::Message>,
        task: Box<Counting>,
        outcome: Outcome,
    ) {
        assert_eq!(task.home, reactor.thread, "a task came back to a stranger");
        if outcome == Outcome::Panicked {
            self.panics.fetch_add(1, Ordering::SeqCst);
        }
        if task.runs < task.runs_max {
            reactor.spawn(task);
        } else {
            self.left -= 1;
            self.done.send(task).expect("the test listens");
        }
    }

    fn flush(&mut self, _: &mut Reactor<Counting, Self::Message>) -> bool {
        self.others_wait || self.left > 0
    }
}

#[test]
fn tasks_of_one_home_are_run_by_all_threads_and_all_come_home() {
    const THREADS: usize = 3;
    const TASKS: usize = 40;
    const RUNS: u64 = 100;
    let reactors = Mesh::<Counting, Option<Box<Counting>>>::with_threads(THREADS).expect("epoll");
    let mesh = reactors[0].mesh().clone();
    let (done, finished) = mpsc::channel();
    let panics = Arc::new(AtomicU64::new(0));
    let threads: Vec<_> = reactors
        .into_iter()
        .map(|reactor| {
            let home = Yard { left: 0, others_wait: true, done: done.clone(), panics: panics.clone() };
            std::thread::spawn(move || reactor::run(reactor, home).expect("epoll works"))
        })
        .collect();
    // All tasks have their home on thread 0: the others have nothing to do but to steal.
    for id in 0..TASKS {
        let task = Counting {
            home: 0,
            id,
            runs: 0,
            runs_max: RUNS,
            panics_at: (id == 7).then_some(RUNS / 2),
            threads: HashSet::new(),
            running: Arc::default(),
        };
        mesh.post(0, Some(Box::new(task)));
    }
    let mut ids = HashSet::new();
    let mut runners = HashSet::new();
    for _ in 0..TASKS {
        let task = finished.recv_timeout(Duration::from_secs(60)).expect("every task comes home");
        assert_eq!(task.runs, RUNS);
        assert!(ids.insert(task.id), "a task came home twice");
        runners.extend(task.threads);
    }
    for thread in 0..THREADS {
        mesh.post(thread, None);
    }
    for thread in threads {
        thread.join().expect("no thread was harmed by a task's panic");
    }
    assert_eq!(panics.load(Ordering::SeqCst), 1);
    assert!(runners.len() > 1, "nothing was stolen");
    let runs = mesh.runs();
    let total: u64 = runs.iter().map(|(own, stolen)| own + stolen).sum();
    assert_eq!(total, TASKS as u64 * RUNS);
    assert_eq!(runs[0].1, 0, "thread 0 had nobody to steal from");
    assert!(runs[1].1 + runs[2].1 > 0, "no steals counted");
}
