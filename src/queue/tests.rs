//! The queue's rules one by one, and a seeded model of Discord that counts against it.

use super::machine::DAY_MARGIN;
use super::*;
use crate::base::Rng;
use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

#[allow(clippy::disallowed_methods)] // A starting point for arithmetic; nothing depends on its value.
fn start() -> Instant {
    Instant::now()
}

fn options(max_concurrency: u32) -> Options {
    Options::new(max_concurrency, 1000, 1000, Duration::ZERO)
}

fn permits(machine: &mut Machine) -> Vec<u64> {
    std::iter::from_fn(|| machine.poll_permit()).map(|permit| permit.ticket).collect()
}

#[test]
fn a_day_ends_no_sooner_here_than_at_discord() {
    let (t, day) = (start(), secs(24 * 3600));
    let mut queue = Machine::new(Options::new(1, 2, 2, Duration::ZERO), t);
    let mut grant = |at: Instant, ticket: u64| {
        assert_eq!(queue.request(at, ticket, 0), Ok(()));
        queue.handle_deadline(at);
        let granted = permits(&mut queue) == [ticket];
        if granted {
            queue.identified(at, ticket, 0);
            queue.answered(at, ticket, 0);
        }
        granted
    };
    // The first arrives at t + 0.3 s, so Discord's day ends that much after t + 24 h. A third one by then would
    // be one too many.
    assert!(grant(t, 0));
    assert!(grant(t + secs(10), 1));
    assert!(!grant(t + day, 2));
    assert_eq!(queue.poll_timeout(), Some(t + day + DAY_MARGIN));
    queue.handle_deadline(t + day + DAY_MARGIN);
    assert_eq!(permits(&mut queue), [2]);
}

#[test]
fn a_permit_near_the_end_of_a_day_counts_for_both_days() {
    let (t, day) = (start(), secs(24 * 3600));
    let mut queue = Machine::new(Options::new(1, 2, 2, Duration::ZERO), t);
    let next = |queue: &mut Machine, at: Instant, ticket: u64| {
        queue.request(at, ticket, 0).unwrap();
        queue.handle_deadline(at);
        let granted = permits(queue) == [ticket];
        queue.identified(at, ticket, 0);
        granted
    };
    assert!(next(&mut queue, t, 0));
    // This one may arrive after Discord's day has ended, and be the first of the next.
    assert!(next(&mut queue, t + day - secs(1), 1));
    queue.handle_deadline(t + day + secs(60));
    assert_eq!(queue.remaining(), 1);
    assert!(next(&mut queue, t + day + secs(60), 2));
    assert_eq!(queue.remaining(), 0);
    queue.handle_deadline(t + day * 2 + secs(60));
    assert_eq!(queue.remaining(), 0, "Discord's second day began at the end of the first at the earliest");
    queue.handle_deadline(t + day * 2 + secs(120));
    assert_eq!(queue.remaining(), 2);
}

#[test]
fn without_word_permits_are_spaced_from_grant_to_grant() {
    let t = start();
    let mut queue = Machine::new(Options { feedback_wait: None, ..options(1) }, t);
    for ticket in 0..3 {
        assert_eq!(queue.request(t, ticket, 0), Ok(()));
    }
    assert_eq!(permits(&mut queue), [0]);
    assert_eq!(queue.poll_timeout(), Some(t + ms(5250)));
    assert_eq!(queue.next_permit_at(), Some(t + ms(5250)));
    queue.handle_deadline(t + ms(5249));
    assert!(permits(&mut queue).is_empty());
    queue.handle_deadline(t + ms(5250));
    assert_eq!(permits(&mut queue), [1]);
    // The slot of one who went away goes to the next.
    queue.cancel(t + ms(6000), 2);
    assert_eq!((queue.waiting(), queue.stats().abandoned, queue.remaining()), (0, 1, 998));
    queue.handle_deadline(t + secs(20));
    assert_eq!(queue.poll_timeout(), None);
}

#[test]
fn with_word_the_spacing_counts_from_the_identify() {
    let t = start();
    let mut queue = Machine::new(options(1), t);
    queue.request(t, 1, 0).unwrap();
    queue.request(t, 2, 0).unwrap();
    assert_eq!(permits(&mut queue), [1]);
    // Held until the word comes.
    queue.handle_deadline(t + secs(6));
    assert!(permits(&mut queue).is_empty());
    queue.identified(t + secs(6), 1, 0);
    assert_eq!(queue.poll_timeout(), Some(t + ms(11_250)));
    // An answer takes the slack away, never more.
    queue.answered(t + ms(6100), 1, 0);
    assert_eq!(queue.poll_timeout(), Some(t + ms(11_100)));
    queue.answered(t + ms(6100), 1, 0);
    queue.handle_deadline(t + ms(11_100));
    assert_eq!(permits(&mut queue), [2]);
    // An answer that takes long moves nothing.
    queue.request(t + secs(12), 3, 0).unwrap();
    queue.identified(t + secs(12), 2, 0);
    queue.answered(t + secs(14), 2, 0);
    assert_eq!(queue.poll_timeout(), Some(t + ms(17_250)));
}

#[test]
fn a_permit_that_nobody_reports_lapses() {
    let t = start();
    let mut queue = Machine::new(options(1), t);
    queue.request(t, 1, 0).unwrap();
    queue.request(t, 2, 0).unwrap();
    queue.request(t, 3, 0).unwrap();
    assert_eq!(permits(&mut queue), [1]);
    assert_eq!(queue.poll_timeout(), Some(t + secs(10)));
    queue.handle_deadline(t + secs(10));
    assert_eq!(permits(&mut queue), [2]);
    assert_eq!(queue.stats().lapsed, 1);
    // It was only late: the next one keeps its distance, even when the permit in between is given back.
    queue.identified(t + secs(11), 1, 0);
    queue.cancel(t + secs(12), 2);
    assert_eq!(queue.poll_timeout(), Some(t + ms(16_250)));
}

#[test]
fn a_permit_is_held_until_it_is_reported_given_back_or_lapsed() {
    let t = start();
    let mut queue = Machine::new(options(4), t);
    for ticket in 0..4 {
        queue.request(t, ticket, ticket as u32).unwrap();
    }
    queue.request(t, 4, 0).unwrap();
    assert_eq!(permits(&mut queue), [0, 1, 2, 3]);
    assert!((0..4).all(|ticket| queue.holds(ticket)));
    assert!(!queue.holds(4) && !queue.holds(99), "who waits, or is unknown, holds nothing");
    queue.identified(t, 1, 1);
    queue.cancel(t, 2);
    assert_eq!((0..4).map(|ticket| queue.holds(ticket)).collect::<Vec<_>>(), [true, false, false, true]);
    queue.handle_deadline(t + secs(10));
    assert!(!queue.holds(0) && !queue.holds(3) && queue.holds(4));
}

#[test]
fn a_permit_that_is_given_back_costs_nothing() {
    let t = start();
    let mut queue = Machine::new(options(1), t);
    queue.request(t, 1, 0).unwrap();
    assert_eq!(permits(&mut queue), [1]);
    assert_eq!(queue.remaining(), 999);
    queue.cancel(t + secs(1), 1);
    queue.cancel(t + secs(1), 1);
    assert_eq!((queue.remaining(), queue.stats().returned), (1000, 1));
    queue.request(t + secs(1), 2, 0).unwrap();
    // Before it was even handed out.
    queue.cancel(t + secs(1), 2);
    queue.request(t + secs(1), 3, 0).unwrap();
    assert_eq!(permits(&mut queue), [3]);
    queue.identified(t + secs(1), 3, 0);
    // After the IDENTIFY there is nothing to give back.
    queue.cancel(t + secs(1), 3);
    assert_eq!(queue.remaining(), 999);
}

#[test]
fn buckets_do_not_wait_for_each_other_and_keep_their_order() {
    let t = start();
    let mut queue = Machine::new(Options { feedback_wait: None, ..options(4) }, t);
    for shard_id in 0..12 {
        queue.request(t, u64::from(shard_id), shard_id).unwrap();
    }
    assert_eq!(permits(&mut queue), [0, 1, 2, 3]);
    queue.handle_deadline(t + ms(5250));
    assert_eq!(permits(&mut queue), [4, 5, 6, 7]);
    queue.handle_deadline(t + ms(10_500));
    assert_eq!(permits(&mut queue), [8, 9, 10, 11]);
}

#[test]
fn asking_twice_is_asking_once_and_the_list_has_an_end() {
    let t = start();
    let mut queue = Machine::new(Options { requests_max: 2, ..options(1) }, t);
    assert_eq!(queue.request(t, 1, 0), Ok(()));
    assert_eq!(queue.request(t, 1, 0), Ok(()));
    assert_eq!(queue.request(t, 2, 0), Ok(()));
    assert_eq!(queue.request(t, 3, 0), Err(Full));
    assert_eq!(queue.request(t, 2, 0), Ok(()));
    assert_eq!((queue.stats().refused, queue.waiting()), (1, 1));
}

#[test]
fn the_daily_number_is_kept() {
    let t = start();
    let mut queue = Machine::new(Options::new(16, 1000, 1, secs(3600)), t);
    queue.request(t, 1, 1).unwrap();
    queue.request(t, 2, 2).unwrap();
    assert_eq!(permits(&mut queue), [1]);
    queue.identified(t, 1, 1);
    let day = t + secs(3600) + DAY_MARGIN;
    queue.handle_deadline(day - secs(1));
    assert!(permits(&mut queue).is_empty());
    assert_eq!(queue.poll_timeout(), Some(day));
    assert_eq!(queue.next_permit_at(), Some(day));
    queue.handle_deadline(day);
    assert_eq!(permits(&mut queue), [2]);
    assert_eq!(queue.remaining(), 999);
    // A new day begins with its first permit.
    queue.identified(day, 2, 2);
    queue.refresh(day + secs(1), 0, secs(10));
    queue.request(day + secs(2), 3, 3).unwrap();
    assert_eq!(queue.poll_timeout(), Some(day + ms(5250)));
    queue.handle_deadline(day + secs(11) + DAY_MARGIN);
    assert_eq!(permits(&mut queue), [3]);
    // One permit is out and Discord does not know of it yet.
    queue.refresh(day + secs(12) + DAY_MARGIN, 5, secs(10));
    assert_eq!(queue.remaining(), 4);
}

#[test]
fn absurd_settings_do_no_harm() {
    let t = start();
    let huge = Options::new(u32::MAX, u32::MAX, u32::MAX, Duration::MAX);
    for options in [Options::new(0, 0, 0, Duration::ZERO), huge] {
        let mut queue = Machine::new(options, t);
        for shard_id in [0, 1, u32::MAX] {
            queue.request(t, u64::from(shard_id), shard_id).unwrap();
        }
        queue.refresh(t, u32::MAX, Duration::MAX);
        queue.handle_deadline(t + secs(100));
        queue.cancel(t, u64::MAX);
    }
}

/// Discord, counting; shards that ask, go away, are slow; a network that delays.
fn run(seed: u64) {
    let mut rng = Rng::new(seed);
    let t = start();
    let max_concurrency = [1, 1, 2, 16][rng.below(4) as usize];
    let total = 20 + rng.below(200) as u32;
    let feedback = rng.chance(2, 3);
    let options = Options {
        feedback_wait: feedback.then_some(secs(10)),
        ..Options::new(max_concurrency, total, total, Duration::ZERO)
    };
    let mut queue = Machine::new(options, t);
    let mut now = t;
    let mut next_ticket = 0;
    let mut waiting: BTreeMap<u32, VecDeque<u64>> = BTreeMap::new();
    // Granted, and when the IDENTIFY will be sent; sent, and when the answer will come.
    let mut granted: Vec<(Instant, Permit)> = Vec::new();
    let mut sent: Vec<(Instant, Permit)> = Vec::new();
    let mut arrivals: BTreeMap<u32, Instant> = BTreeMap::new();
    let mut today: VecDeque<Instant> = VecDeque::new();
    let end = now + secs(1 + rng.below(3) * 24 * 3600) + secs(600);
    let mut asking = 30 + rng.below(u64::from(total) * 2);
    // What is handed out is looked at after every call, as the machine asks for.
    macro_rules! drain {
        () => {
            while let Some(permit) = queue.poll_permit() {
                // First come, first served.
                let first =
                    waiting.get_mut(&(permit.shard_id % max_concurrency)).and_then(VecDeque::pop_front);
                assert_eq!(first, Some(permit.ticket), "out of turn");
                let delay = if feedback { rng.duration(Duration::ZERO, secs(3)) } else { Duration::ZERO };
                granted.push((now + delay, permit));
            }
        };
    }
    while now < end || !waiting.values().all(VecDeque::is_empty) {
        // What happens at this moment.
        if asking > 0 && rng.chance(1, 2) {
            asking -= 1;
            next_ticket += 1;
            let shard_id = rng.below(64) as u32;
            waiting.entry(shard_id % max_concurrency).or_default().push_back(next_ticket);
            queue.request(now, next_ticket, shard_id).unwrap();
            drain!();
        }
        if rng.chance(1, 20) {
            let number = rng.below(u64::from(max_concurrency)) as u32;
            let bucket = waiting.entry(number).or_default();
            if !bucket.is_empty() {
                let gone = bucket.remove(rng.below(bucket.len() as u64) as usize).unwrap();
                queue.cancel(now, gone);
                drain!();
            }
        }
        if feedback && rng.chance(1, 10) && !granted.is_empty() {
            let (_, gone) = granted.swap_remove(rng.below(granted.len() as u64) as usize);
            queue.cancel(now, gone.ticket);
            drain!();
        }
        granted.retain(|&(at, permit)| {
            if at > now {
                return true;
            }
            let number = permit.shard_id % max_concurrency;
            let travel = rng.duration(Duration::ZERO, ms(249));
            let arrival = now + travel;
            if let Some(before) = arrivals.insert(number, arrival) {
                assert!(arrival.saturating_duration_since(before) >= secs(5), "too early in bucket {number}");
            }
            today.push_back(arrival);
            while today.front().is_some_and(|&at| arrival.saturating_duration_since(at) >= secs(23 * 3600)) {
                today.pop_front();
            }
            if feedback {
                queue.identified(now, permit.ticket, permit.shard_id);
                sent.push((arrival + rng.duration(Duration::ZERO, secs(2)), permit));
            }
            false
        });
        sent.retain(|&(at, permit)| {
            if at <= now {
                queue.answered(now, permit.ticket, permit.shard_id);
            }
            at > now
        });
        queue.handle_deadline(now);
        drain!();
        assert!(today.len() <= total as usize * 2, "more than two days' worth in a day");
        assert_eq!(queue.waiting(), waiting.values().map(VecDeque::len).sum::<usize>());
        // To the next moment.
        let due = queue.poll_timeout().into_iter();
        let due = due.chain(granted.iter().chain(&sent).map(|&(at, _)| at)).min();
        assert!(due.is_some() || queue.waiting() == 0, "somebody waits for nothing");
        let step = now + rng.duration(ms(1), secs(if asking > 0 { 4 } else { 4000 }));
        now = due.map_or(step, |at| at.min(step)).max(now + ms(1));
    }
    assert!(queue.stats().granted > 0);
}

#[test]
fn a_day_at_discord() {
    let seeds = match std::env::var("RATEWAY_SEED").ok().and_then(|seed| seed.parse::<u64>().ok()) {
        Some(seed) => seed..seed + 1,
        None => 0..2000,
    };
    for seed in seeds {
        if let Err(panic) = std::panic::catch_unwind(|| run(seed)) {
            eprintln!("replay with RATEWAY_SEED={seed}");
            std::panic::resume_unwind(panic);
        }
    }
}

#[test]
fn a_bucket_is_kept_busy() {
    // With word of each IDENTIFY and its answer, permits come close to 5 s apart.
    let t = start();
    let mut queue = Machine::new(options(1), t);
    let mut now = t;
    for ticket in 0..100 {
        queue.request(t, ticket, 0).unwrap();
    }
    for ticket in 0..100 {
        queue.handle_deadline(now);
        assert_eq!(permits(&mut queue), [ticket]);
        queue.identified(now + ms(1), ticket, 0);
        queue.answered(now + ms(90), ticket, 0);
        now = queue.poll_timeout().unwrap();
    }
    assert_eq!(now - t, ms(5090) * 100);
}
