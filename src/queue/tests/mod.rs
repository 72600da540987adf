//! The queue's rules one by one, and a seeded model of Discord that counts against it.

use super::budget::DAY_MARGIN;
use super::*;

mod model;
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

fn told(total: u32, remaining: u32, reset_after: Duration, max_concurrency: u32) -> SessionStartLimit {
    SessionStartLimit { total, remaining, reset_after, max_concurrency }
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
    // Discord's second day began with one of the two, and the last one counts for it still.
    assert_eq!(queue.remaining(), 1);
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
fn an_identify_that_nobody_allowed_still_keeps_the_next_one_away() {
    let t = start();
    let mut queue = Machine::new(options(1), t);
    for ticket in 1..=3 {
        queue.request(t, ticket, 0).unwrap();
    }
    assert_eq!(permits(&mut queue), [1]);
    queue.identified(t, 1, 0);
    queue.identified(t + secs(3), 2, 0);
    assert_eq!((queue.waiting(), queue.poll_timeout()), (1, Some(t + ms(8250))));
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
    queue.answered(day + ms(90), 2, 2);
    queue.refresh(day + secs(1), day + ms(500), &told(1000, 0, secs(10), 16));
    queue.request(day + secs(2), 3, 3).unwrap();
    assert_eq!(queue.poll_timeout(), Some(day + ms(5090)));
    queue.handle_deadline(day + secs(11) + DAY_MARGIN);
    assert_eq!(permits(&mut queue), [3]);
    // One permit is out and Discord does not know of it yet.
    let now = day + secs(12) + DAY_MARGIN;
    queue.refresh(now, now, &told(1000, 5, secs(10), 16));
    assert_eq!(queue.remaining(), 4);
}

#[test]
fn the_reserve_is_never_spent() {
    let t = start();
    let mut queue = Machine::new(Options { reserve: 2, ..Options::new(16, 1000, 3, secs(3600)) }, t);
    queue.request(t, 1, 1).unwrap();
    queue.request(t, 2, 2).unwrap();
    assert_eq!(permits(&mut queue), [1]);
    assert_eq!((queue.remaining(), queue.is_exhausted()), (2, true));
    queue.identified(t, 1, 1);
    assert_eq!(queue.next_permit_at(), Some(t + secs(3600) + DAY_MARGIN));
    // Discord says that more is left: the other one goes at once.
    queue.answered(t + ms(50), 1, 1);
    queue.refresh(t + secs(300), t + secs(299), &told(1000, 3, secs(3300), 16));
    assert_eq!(permits(&mut queue), [2]);
}

#[test]
fn what_discord_cannot_know_yet_is_counted_on_top() {
    let t = start();
    let mut queue = Machine::new(options(4), t);
    for shard_id in 0..4 {
        queue.request(t, u64::from(shard_id), shard_id).unwrap();
        queue.identified(t, u64::from(shard_id), shard_id);
    }
    // Two have arrived for sure when Discord is asked, one is answered while Discord answers, one is out.
    queue.answered(t + ms(100), 0, 0);
    queue.answered(t + ms(100), 1, 1);
    queue.answered(t + ms(300), 2, 2);
    queue.refresh(t + ms(400), t + ms(200), &told(1000, 998, secs(1000), 4));
    assert_eq!(queue.remaining(), 996);
    // Whatever was granted a minute ago has arrived or never will.
    queue.refresh(t + secs(62), t + secs(61), &told(1000, 996, secs(1000), 4));
    assert_eq!(queue.remaining(), 996);
}

#[test]
fn buckets_go_in_their_order_and_who_waits_longest_first_when_not_all_can() {
    let t = start();
    let ask = |remaining| {
        let mut queue = Machine::new(Options::new(4, 1000, remaining, secs(3600)), t);
        queue.request(t, 9, 3).unwrap();
        assert_eq!(permits(&mut queue), [9]);
        queue.identified(t, 9, 3);
        queue.set_max_concurrency(t, 3);
        // Nothing goes out in the first spacing, so these are ready together.
        for shard_id in [2, 0, 1] {
            queue.request(t, u64::from(shard_id), shard_id).unwrap();
        }
        queue.handle_deadline(t + ms(5250));
        permits(&mut queue)
    };
    assert_eq!(ask(1000), [0, 1, 2]);
    assert_eq!(ask(3), [2, 0]);
}

#[test]
fn another_number_of_buckets_keeps_order_and_distance() {
    let t = start();
    let mut queue = Machine::new(options(1), t);
    for shard_id in 0..5 {
        queue.request(t, u64::from(shard_id), shard_id).unwrap();
    }
    assert_eq!(permits(&mut queue), [0]);
    // Not while a permit is out.
    queue.set_max_concurrency(t + secs(1), 2);
    assert_eq!((queue.max_concurrency(), queue.snapshot().max_concurrency), (2, 2));
    // And nobody is woken for what has to wait for it.
    assert_eq!(queue.poll_timeout(), Some(t + secs(10)));
    queue.identified(t + secs(2), 0, 0);
    queue.handle_deadline(t + ms(7249));
    assert!(permits(&mut queue).is_empty());
    queue.handle_deadline(t + ms(7250));
    assert_eq!(permits(&mut queue), [2, 1]);
    queue.identified(t + ms(7250), 2, 2);
    queue.identified(t + ms(7250), 1, 1);
    // One who goes away is found in the new bucket.
    queue.cancel(t + secs(8), 3);
    queue.handle_deadline(t + ms(12_500));
    assert_eq!(permits(&mut queue), [4]);
    // And back: all wait for the latest, also a bucket that nobody had used.
    queue.identified(t + ms(12_500), 4, 4);
    queue.set_max_concurrency(t + ms(12_500), 1);
    queue.request(t + secs(13), 7, 7).unwrap();
    assert_eq!(queue.next_permit_at(), Some(t + ms(17_750)));
}

#[test]
fn a_queue_goes_on_where_it_was() {
    let t = start();
    let mut queue = Machine::new(Options { reserve: 1, ..options(2) }, t);
    assert!(queue.is_quiet());
    for ticket in 0..3 {
        queue.request(t, ticket, 0).unwrap();
    }
    queue.identified(t, 0, 0);
    let snapshot = queue.snapshot();
    let expected = Snapshot {
        max_concurrency: 2,
        total: 1000,
        told: None,
        spent: vec![(Duration::ZERO, 1)],
        busy: true,
    };
    assert_eq!(snapshot, expected);
    // However long ago that was, the first permit keeps its distance from one that nobody may have seen.
    let later = t + secs(3600);
    let again = Options { reserve: 1, ..options(1) };
    let mut queue = Machine::restore(again, &snapshot, secs(3600), later);
    assert_eq!((queue.max_concurrency(), queue.remaining(), queue.is_quiet()), (2, 999, false));
    assert_eq!(queue.reset_at(), Some(t + secs(24 * 3600) + DAY_MARGIN));
    assert_eq!(queue.poll_timeout(), Some(later + ms(5250)));
    queue.request(later, 0, 1).unwrap();
    assert!(permits(&mut queue).is_empty());
    queue.handle_deadline(later + ms(5250));
    assert_eq!(permits(&mut queue), [0]);
    queue.identified(later + ms(5250), 0, 1);
    queue.handle_deadline(later + secs(20));
    assert!(queue.is_quiet());
    // One that was quiet needs no pause, and permits count for 24 h each.
    let snapshot = queue.snapshot();
    assert_eq!(snapshot.spent, [(secs(3620), 1), (ms(14_750), 1)]);
    let mut queue = Machine::restore(again, &snapshot, secs(23 * 3600 + 120), later);
    queue.request(later, 0, 1).unwrap();
    assert_eq!(permits(&mut queue), [0]);
    assert_eq!(queue.remaining(), 998);
}

#[test]
fn what_discord_told_outlives_a_restart() {
    let t = start();
    let mut queue = Machine::new(Options::new(1, 1000, 400, secs(7200)), t);
    queue.request(t, 1, 1).unwrap();
    let snapshot = queue.snapshot();
    assert_eq!(snapshot.told, Some((600, secs(7200) + DAY_MARGIN)));
    let mut queue = Machine::restore(options(1), &snapshot, secs(7199), t + secs(9000));
    assert_eq!(queue.remaining(), 399);
    queue.handle_deadline(t + secs(9001) + DAY_MARGIN);
    assert_eq!(queue.remaining(), 1000);
}

#[test]
fn what_discord_told_ends_when_it_said_and_late_permits_count_on() {
    let t = start();
    let mut queue = Machine::new(Options::new(1, 2, 1, secs(3600)), t);
    let end = t + secs(3600) + DAY_MARGIN;
    queue.request(t + secs(3590), 1, 0).unwrap();
    queue.identified(t + secs(3590), 1, 0);
    queue.handle_deadline(end - secs(1));
    assert_eq!(queue.remaining(), 0);
    // It may have arrived after Discord's day had ended, as the first of the next.
    queue.handle_deadline(end);
    assert_eq!(queue.remaining(), 1);
    // Where nothing was used no day has begun: the first permit begins it, not what `reset_after` counts from.
    let mut queue = Machine::new(Options::new(1, 2, 2, secs(3600)), t);
    queue.request(t + secs(10), 1, 0).unwrap();
    queue.identified(t + secs(10), 1, 0);
    queue.handle_deadline(end + secs(600));
    assert_eq!(queue.remaining(), 1);
}

#[test]
fn permits_of_ten_minutes_are_told_together() {
    let t = start();
    let mut queue = Machine::new(Options { feedback_wait: None, ..Options::new(16, 1000, 1000, secs(0)) }, t);
    let mut now = t;
    for ticket in 0..500 {
        queue.request(now, ticket, ticket as u32).unwrap();
        now = queue.poll_timeout().unwrap().max(now);
        queue.handle_deadline(now);
    }
    let snapshot = queue.snapshot();
    let count: u32 = snapshot.spent.iter().map(|&(_, count)| count).sum();
    assert_eq!((count, queue.remaining()), (500, 500));
    assert!(snapshot.spent.len() < 8, "{:?}", snapshot.spent);
}

#[test]
fn a_damaged_snapshot_does_no_harm() {
    let t = start();
    let wild = Snapshot {
        max_concurrency: 0,
        total: 5,
        told: Some((u32::MAX, Duration::MAX)),
        spent: vec![(Duration::MAX, u32::MAX), (Duration::ZERO, u32::MAX)],
        busy: true,
    };
    let mut queue = Machine::restore(options(1), &wild, Duration::MAX, t);
    assert_eq!(queue.remaining(), 0);
    queue.request(t, 1, 1).unwrap();
    queue.handle_deadline(t + secs(6));
    assert!(permits(&mut queue).is_empty());
    queue.handle_deadline(t + secs(60 * 3600));
    assert_eq!(permits(&mut queue), [1]);
}

#[test]
fn a_closed_queue_waits_and_wakes_nobody() {
    let t = start();
    let mut queue = Machine::new(options(2), t);
    queue.set_closed(t, true);
    queue.request(t, 1, 1).unwrap();
    assert!(permits(&mut queue).is_empty());
    assert_eq!((queue.poll_timeout(), queue.next_permit_at()), (None, None));
    queue.set_closed(t + secs(3), false);
    assert_eq!(permits(&mut queue), [1]);
    // Somebody else may have granted one: all buckets wait, those of which nothing is known too.
    queue.request(t + secs(4), 2, 0).unwrap();
    assert_eq!(permits(&mut queue), [2]);
    queue.identified(t + secs(4), 2, 0);
    queue.keep_distance(t + secs(20));
    queue.request(t + secs(20), 3, 0).unwrap();
    assert_eq!((permits(&mut queue).len(), queue.poll_timeout()), (0, Some(t + ms(25_250))));
}

#[test]
fn what_is_said_to_be_unused_keeps_its_time() {
    let t = start();
    let mut queue = Machine::new(options(1), t);
    for ticket in 1..=3 {
        queue.request(t, ticket, 0).unwrap();
    }
    assert_eq!(permits(&mut queue), [1]);
    queue.returned(t + secs(1), 1);
    queue.returned(t + secs(1), 1);
    queue.returned(t + secs(1), 2);
    assert_eq!((queue.remaining(), queue.stats().returned, queue.waiting()), (1000, 1, 2));
    assert_eq!(queue.poll_timeout(), Some(t + ms(6250)));
}

#[test]
fn a_reserve_of_everything_is_told_as_no_time() {
    let t = start();
    let mut queue = Machine::new(Options { reserve: 1000, ..options(1) }, t);
    queue.request(t, 1, 0).unwrap();
    assert_eq!((queue.next_permit_at(), queue.poll_timeout()), (None, None));
}

#[test]
fn absurd_settings_do_no_harm() {
    let t = start();
    let huge = Options::new(u32::MAX, u32::MAX, u32::MAX, Duration::MAX);
    let endless =
        Options { spacing: Duration::MAX, slack: Duration::MAX, feedback_wait: Some(Duration::MAX), ..huge };
    for options in [Options::new(0, 0, 0, Duration::ZERO), huge, endless] {
        let mut queue = Machine::new(options, t);
        for shard_id in [0, 1, u32::MAX] {
            queue.request(t, u64::from(shard_id), shard_id).unwrap();
        }
        queue.refresh(t, t, &told(u32::MAX, u32::MAX, Duration::MAX, u32::MAX));
        queue.handle_deadline(t + secs(100));
        queue.cancel(t, u64::MAX);
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
