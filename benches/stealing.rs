//! One hot set of shards, all homed on thread 0: how much faster are two threads than one? Bytes come from memory,
//! so that the whole of both cores is the gateway's. Prints runs and steals of each thread.
//!
//!     cargo bench --bench stealing -- [--events 100000] [--shards 8] [--rounds 5]

#[path = "support/trace.rs"]
mod trace;

use std::sync::{Arc, mpsc};
use std::time::Instant;

use rateway::base::Buf;
use rateway::reactor::{self, Home, Mesh, Outcome, Reactor, Readiness};
use rateway::relay::task::Scratch;
use rateway::relay::{Outbox, ShardTask};
use rateway::stream::Compression;
use trace::{Trace, WINDOW_BYTES};

/// Thread 0 feeds its shards from the trace as windows come back; the others have nothing of their own.
struct Feeder {
    trace: Arc<Trace>,
    tasks: Vec<Option<Box<ShardTask>>>,
    fed: Vec<usize>,
    outbox: Outbox,
    left: u64,
    done: Option<mpsc::Sender<()>>,
}

enum Message {
    Begin,
    Stop,
}

impl Feeder {
    /// Fills the window of a task and sends it out; false when its trace is at its end.
    fn send(&mut self, reactor: &mut Reactor<ShardTask, Message>, mut task: Box<ShardTask>) -> bool {
        let slot = task.slot;
        if !task.more {
            let rest = &self.trace.events[self.fed[slot]..];
            if rest.is_empty() {
                self.tasks[slot] = Some(task);
                return false;
            }
            if task.window.capacity() == 0 {
                task.window = Buf::with_capacity(WINDOW_BYTES);
            }
            let count = rest.len().min(task.window.spare().len());
            task.window.spare()[..count].copy_from_slice(&rest[..count]);
            task.window.commit(count);
            self.fed[slot] += count;
        }
        if task.batch.bytes.capacity() == 0 {
            task.batch = self.outbox.take_spare();
        }
        reactor.spawn(task);
        true
    }
}

impl Home for Feeder {
    type Task = ShardTask;
    type Message = Message;

    fn on_ready(&mut self, _: &mut Reactor<ShardTask, Message>, _: usize, _: Readiness) {}

    fn on_message(&mut self, reactor: &mut Reactor<ShardTask, Message>, message: Message) {
        match message {
            Message::Begin => {
                for slot in 0..self.tasks.len() {
                    let task = self.tasks[slot].take().expect("a task at home");
                    self.send(reactor, task);
                }
            }
            Message::Stop => self.left = 0,
        }
    }

    fn on_deadline(&mut self, _: &mut Reactor<ShardTask, Message>, _: usize) {}

    fn fill(&mut self, _: &mut Reactor<ShardTask, Message>) -> bool {
        false
    }

    fn has_unread(&self) -> bool {
        false
    }

    fn on_task(
        &mut self,
        reactor: &mut Reactor<ShardTask, Message>,
        mut task: Box<ShardTask>,
        outcome: Outcome,
    ) {
        assert_eq!(outcome, Outcome::Ran);
        trace::settle(&mut task, &mut self.outbox);
        if !self.send(reactor, task) {
            self.left -= 1;
            if self.left == 0
                && let Some(done) = self.done.take()
            {
                done.send(()).expect("the bench listens");
            }
        }
    }

    fn flush(&mut self, _: &mut Reactor<ShardTask, Message>) -> bool {
        self.left > 0
    }
}

/// Events per second with so many threads.
fn measure(trace: &Arc<Trace>, shards: usize, threads: usize) -> f64 {
    let reactors = Mesh::<ShardTask, Message>::with_threads(threads).expect("epoll");
    let mesh = reactors[0].mesh().clone();
    let (done, finished) = mpsc::channel();
    let start = trace::start_of_time();
    let handles: Vec<_> = reactors
        .into_iter()
        .enumerate()
        .map(|(index, reactor)| {
            let mut scratch = Scratch::default();
            let count = if index == 0 { shards } else { 0 };
            let connect = |slot| {
                let turn = trace::turn(start, 0);
                Some(Box::new(trace::connect(trace, 0, slot, slot as u32, turn, &mut scratch)))
            };
            let home = Feeder {
                trace: trace.clone(),
                tasks: (0..count).map(connect).collect(),
                fed: vec![0; count],
                outbox: Outbox::new(256 << 20),
                // Threads without shards wait to be stopped.
                left: count.max(1) as u64,
                done: (index == 0).then(|| done.clone()),
            };
            std::thread::spawn(move || reactor::run(reactor, home).expect("epoll works"))
        })
        .collect();
    // After `start`: the machines' time is the reactor's from here on.
    let began = now();
    mesh.post(0, Message::Begin);
    finished.recv().expect("thread 0 finishes");
    let seconds = now().duration_since(began).as_secs_f64();
    for thread in 1..threads {
        mesh.post(thread, Message::Stop);
    }
    for handle in handles {
        handle.join().expect("no thread panicked");
    }
    let runs = mesh.runs();
    let rate = trace.count as f64 * shards as f64 / seconds;
    println!("{threads} thread(s): {rate:10.0} events/s   (own, stolen) runs by thread: {runs:?}");
    rate
}

#[allow(clippy::disallowed_methods)] // A bench measures time.
fn now() -> Instant {
    Instant::now()
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let test = arguments.iter().any(|argument| argument == "--test");
    let number = |name: &str, default: u64| {
        let place = arguments.iter().position(|argument| argument == name);
        place.and_then(|at| arguments.get(at + 1)?.parse().ok()).unwrap_or(default)
    };
    let events = number("--events", if test { 2000 } else { 100_000 });
    let shards = number("--shards", 8) as usize;
    let rounds = number("--rounds", if test { 1 } else { 5 });
    let trace = Arc::new(Trace::record(events, Compression::Zlib));
    println!(
        "{shards} shards, {events} events each, {} bytes of JSON an event",
        trace.json_bytes / trace.count
    );
    let mut ratios: Vec<f64> = (0..rounds)
        .map(|_| {
            let one = measure(&trace, shards, 1);
            measure(&trace, shards, 2) / one
        })
        .collect();
    ratios.sort_by(f64::total_cmp);
    println!("two threads do {:.2} times the work of one (median of {rounds})", ratios[ratios.len() / 2]);
}
