//! Queues on their real thread. What is looked at is order, counts and the machine's state, never how long it took.

use super::*;
use crate::queue::{NoOpQueue, wait};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{LazyLock, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;

type Turn<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// Says which future was woken.
struct Told(usize, Mutex<Sender<usize>>);

impl Wake for Told {
    fn wake(self: Arc<Self>) {
        let _ = self.1.lock().unwrap().send(self.0);
    }
}

fn bell() -> (impl Fn(usize) -> Waker, Receiver<usize>) {
    let (sender, receiver) = mpsc::channel();
    (move |name| Arc::new(Told(name, Mutex::new(sender.clone()))).into(), receiver)
}

fn poll(turn: &mut Turn<'_>, waker: &Waker) -> Poll<()> {
    turn.as_mut().poll(&mut Context::from_waker(waker))
}

fn poll_once(turn: &mut Turn<'_>) -> Poll<()> {
    poll(turn, Waker::noop())
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

const HOUR: Duration = Duration::from_secs(3600);

/// Permits each 2 ms. A busy machine makes none lapse.
fn quick() -> Options {
    let options = Options::new(1, TOTAL, TOTAL, Duration::ZERO);
    Options { spacing: ms(2), slack: Duration::ZERO, feedback_wait: Some(HOUR), ..options }
}

/// So far apart that there is one in a test.
fn slow() -> Options {
    Options { spacing: HOUR, ..quick() }
}

/// Until it is so. A test that fails here would wait for ever otherwise.
fn until(what: &str, mut look: impl FnMut() -> bool) {
    for _ in 0..60_000 {
        if look() {
            return;
        }
        thread::sleep(ms(1));
    }
    panic!("not within a minute: {what}");
}

#[test]
fn the_types_are_what_they_should_be() {
    fn is<T: Queue + Clone + 'static>() {}
    is::<LocalQueue>();
    is::<LargeBotQueue>();
    is::<NoOpQueue>();
    is::<Arc<dyn Queue>>();
    let boxed: Box<dyn Queue> = Box::new(Arc::new(NoOpQueue));
    wait(&boxed, [0, 1]);
    wait(&&NoOpQueue, [0, 1]);
    assert!(format!("{:?}", LocalQueue::default()).contains("remaining: 1000"));
}

#[test]
fn the_first_comes_at_once_and_the_second_does_not() {
    let queue = LocalQueue::with_options(slow());
    let clone = queue.clone();
    let (mut first, mut second) = (queue.request([0, 2]), clone.request([1, 2]));
    assert_eq!(queue.status().counts.granted, 0, "a place is taken by the first poll");
    assert_eq!(poll_once(&mut first), Poll::Ready(()));
    assert_eq!(poll_once(&mut second), Poll::Pending);
    assert_eq!(poll_once(&mut second), Poll::Pending);
    let status = queue.status();
    assert_eq!((status.waiting, status.remaining, status.counts.granted), (1, 999, 1));
    assert!(status.next_permit_in.is_some_and(|left| left <= HOUR && left > HOUR / 2));
    drop((first, second));
    let status = queue.status();
    assert_eq!((status.waiting, status.remaining, status.counts.abandoned), (0, 999, 1));
    assert_eq!(status.next_permit_in, None);
}

#[test]
fn buckets_are_independent_and_the_day_has_an_end() {
    let queue = LargeBotQueue::with_options(Options { max_concurrency: 4, remaining: 6, ..slow() });
    for id in 0..4 {
        assert_eq!(poll_once(&mut queue.request([id, 8])), Poll::Ready(()), "shard {id}");
    }
    assert_eq!(poll_once(&mut queue.request([4, 8])), Poll::Pending);
    assert_eq!(queue.status().remaining, 2);
    let queue = LargeBotQueue::new(16, 1, HOUR, 1000);
    let mut turns: Vec<Turn<'_>> = (0..2).map(|id| queue.request([id, 2])).collect();
    assert_eq!(poll_once(&mut turns[0]), Poll::Ready(()));
    assert_eq!(poll_once(&mut turns[1]), Poll::Pending);
    queue.update(16, 5, HOUR, 1000);
    assert_eq!(poll_once(&mut turns[1]), Poll::Ready(()));
    // Whether Discord had counted the first permit is the machine's affair.
    assert!((3..=4).contains(&queue.status().remaining));
    // An id beyond u32 does no harm.
    assert!(poll_once(&mut queue.request([u64::MAX, u64::MAX])).is_ready());
}

#[test]
fn futures_are_woken_in_the_order_of_their_first_polls() {
    let queue = LocalQueue::with_options(quick());
    let (waker, woken) = bell();
    let mut turns: Vec<Turn<'_>> = (0..30).map(|id| queue.request([id, 30])).collect();
    assert!(poll_once(&mut turns[0]).is_ready());
    // As they are polled, not as they were made. The wakers of later polls count.
    let order: Vec<usize> = (1..30).rev().collect();
    let mut done = Vec::new();
    for round in [1000, 0] {
        for &at in &order {
            if !done.contains(&at) && poll(&mut turns[at], &waker(round + at)).is_ready() {
                done.push(at);
            }
        }
    }
    while done.len() < order.len() {
        let at = woken.recv().unwrap();
        if at < 1000 && !done.contains(&at) {
            assert!(poll(&mut turns[at], &waker(at)).is_ready());
            done.push(at);
        }
    }
    assert_eq!(done, order);
    let status = queue.status();
    assert_eq!((status.counts.granted, status.remaining, status.waiting), (30, 970, 0));
    assert_eq!(status.counts.lapsed, 0);
}

#[test]
fn a_permit_whose_future_is_dropped_costs_nothing() {
    let queue = LocalQueue::with_options(quick());
    let (waker, woken) = bell();
    assert!(poll_once(&mut queue.request([0, 3])).is_ready());
    let mut second = queue.request([1, 3]);
    if poll(&mut second, &waker(1)).is_pending() {
        assert_eq!(woken.recv(), Ok(1));
        assert_eq!(queue.status().remaining, 998, "it is out");
        drop(second);
        let status = queue.status();
        assert_eq!((status.remaining, status.counts.returned), (999, 1));
    }
    wait(&queue, [2, 3]);
    assert_eq!(queue.status().counts.lapsed, 0);
}

#[test]
fn a_permit_that_is_not_taken_in_time_is_asked_for_again() {
    let queue = LocalQueue::with_options(Options { feedback_wait: Some(ms(2)), ..quick() });
    let (waker, woken) = bell();
    assert!(poll_once(&mut queue.request([0, 2])).is_ready());
    let mut late = queue.request([1, 2]);
    if poll(&mut late, &waker(1)).is_pending() {
        let mut polled = Poll::Pending;
        while polled.is_pending() {
            assert_eq!(woken.recv(), Ok(1));
            let lapsed = queue.status().counts.lapsed;
            if lapsed == 0 {
                until("it lapses", || queue.status().counts.lapsed == 1);
            }
            polled = poll(&mut late, &waker(1));
        }
        let counts = queue.status().counts;
        assert!(counts.lapsed >= 1);
        // One for each shard, and those that nobody took.
        assert_eq!(counts.granted, 2 + counts.lapsed);
    }
}

#[test]
fn many_threads_get_one_permit_each() {
    let queue = LargeBotQueue::with_options(Options { max_concurrency: 3, ..quick() });
    thread::scope(|scope| {
        for id in 0..40 {
            let queue = &queue;
            scope.spawn(move || {
                if id % 4 == 3 {
                    let _ = poll_once(&mut queue.request([id, 40]));
                } else {
                    wait(queue, [id, 40]);
                }
            });
        }
    });
    let status = queue.status();
    let used = status.counts.granted - status.counts.returned;
    assert!((30..=40).contains(&used) && status.counts.lapsed == 0, "{status:?}");
    assert_eq!((status.waiting, u64::from(status.remaining)), (0, 1000 - used));
}

#[test]
fn a_waker_may_do_anything() {
    /// Drops the last future and the last clone of the queue, on the queue's own thread.
    #[derive(Default)]
    struct Drops(Mutex<Option<(Turn<'static>, Arc<LocalQueue>)>>);
    impl Wake for Drops {
        fn wake(self: Arc<Self>) {
            let taken = self.0.lock().unwrap().take();
            drop(taken);
        }
    }
    static QUEUE: LazyLock<LocalQueue> = LazyLock::new(|| LocalQueue::with_options(quick()));
    let queue = &*QUEUE;
    assert!(poll_once(&mut queue.request([0, 3])).is_ready());
    let drops = Arc::new(Drops::default());
    let (mut first, mut other) = (queue.request([1, 3]), queue.request([2, 3]));
    // The waker comes to wait for this lock, if its time comes that early.
    let mut slot = drops.0.lock().unwrap();
    let pending = poll(&mut first, &drops.clone().into()).is_pending();
    let _ = poll_once(&mut other);
    *slot = Some((other, Arc::new(queue.clone())));
    drop(slot);
    if pending {
        until("the waker has run", || drops.0.lock().unwrap().is_none());
        assert!(poll_once(&mut first).is_ready());
    }
    wait(queue, [0, 3]);
}

#[test]
fn the_thread_ends_with_the_last_clone() {
    let queue = LocalQueue::new();
    let shared = Arc::downgrade(&queue.0.shared);
    let clone = queue.clone();
    drop(queue);
    wait(&clone, [0, 1]);
    assert!(shared.upgrade().is_some());
    drop(clone);
    until("the thread ends", || shared.upgrade().is_none());
}
