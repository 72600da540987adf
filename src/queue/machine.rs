//! The queue itself: requests enter, permits leave, at their time.
//!
//! ```text
//! request ---> waiting in the bucket ---> permit granted ---> identified ---> (answered)
//!                   | cancel: gone             | cancel: slot and session start are given back
//! ```
//!
//! First come, first served within a bucket. The 5 s between two permits count from the moment at which the
//! first one's IDENTIFY was sent, where the caller tells (`feedback_wait`), else from the grant.
//!
//! What never happens here: a permit before its time, a permit beyond the daily number, a request that is
//! forgotten. Obeys Discord's "Gateway", "Identifying" and "Session start limit object".

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

/// The window of the daily number.
const DAY: Duration = Duration::from_secs(24 * 3600);
/// How much later than the window its end is taken for true, and around that end each permit counts for both days.
/// Discord's day begins when the first IDENTIFY arrives there, and an IDENTIFY counts for the day in which it
/// arrives; both are later than the permit by a queue, a connection's retransmissions, a stalled network. A
/// minute, since one session start beyond the number costs the token, and a minute a day costs nothing.
pub(super) const DAY_MARGIN: Duration = Duration::from_secs(60);
/// Longest `reset_after` that is believed: twice the documented window.
const RESET_AFTER_MAX: Duration = Duration::from_secs(48 * 3600);
/// Shortest, where the number is used up already.
const RESET_AFTER_MIN: Duration = Duration::from_secs(1);

/// What a queue is set to; most of it comes from `GET /gateway/bot`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// How many buckets there are.
    pub max_concurrency: u32,
    /// Time between two IDENTIFYs in a bucket, as Discord sees them.
    pub spacing: Duration,
    /// Added to it, as the later of two may travel faster. 250 ms: the spread of a healthy path; TCP retransmits
    /// a lost segment after some 200 ms.
    pub slack: Duration,
    /// IDENTIFYs left today.
    pub remaining: u32,
    /// IDENTIFYs per day.
    pub total: u32,
    /// When today ends; zero where none was used yet.
    pub reset_after: Duration,
    /// How long to hold a bucket for word that a permit's IDENTIFY was sent. 10 s: it is sent within
    /// milliseconds, or its shard is in trouble. `None` where nobody tells, as over HTTP.
    pub feedback_wait: Option<Duration>,
    /// How many requests may wait or hold a permit. 20,000: twice the shards of the largest bots.
    pub requests_max: usize,
}

impl Options {
    /// Options with the defaults for all that Discord does not tell.
    pub fn new(max_concurrency: u32, total: u32, remaining: u32, reset_after: Duration) -> Options {
        Options {
            max_concurrency,
            spacing: Duration::from_secs(5),
            slack: Duration::from_millis(250),
            remaining,
            total,
            reset_after,
            feedback_wait: Some(Duration::from_secs(10)),
            requests_max: 20_000,
        }
    }
}

/// Leave to identify.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permit {
    /// Names the request, chosen by who made it.
    pub ticket: u64,
    /// The shard that it was made for.
    pub shard_id: u32,
}

/// As many requests wait as may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl std::fmt::Display for Full {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("too many shards are waiting to identify")
    }
}

impl std::error::Error for Full {}

/// What a queue counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Permits granted.
    pub granted: u64,
    /// Requests taken back while they waited.
    pub abandoned: u64,
    /// Permits given back unused.
    pub returned: u64,
    /// Permits that nobody reported as used in time.
    pub lapsed: u64,
    /// Requests refused because too many waited.
    pub refused: u64,
}

#[derive(Clone, Copy, Debug)]
enum Stage {
    Waiting { order: u64 },
    Granted,
}

#[derive(Debug)]
struct Held {
    ticket: u64,
    since: Instant,
    /// `Bucket::next` before the grant, to go back to when the permit is given back.
    next_before: Instant,
}

#[derive(Debug)]
struct Bucket {
    waiting: BTreeMap<u64, Permit>,
    /// No permit before this.
    next: Instant,
    /// The permit whose IDENTIFY was not reported yet.
    held: Option<Held>,
    /// The last one that was.
    identified: Option<u64>,
}

/// An identify queue.
#[derive(Debug)]
pub struct Machine {
    options: Options,
    remaining: u32,
    // `None`: today starts with the next permit.
    reset_at: Option<Instant>,
    // Only buckets with something in them, so their number is bounded by the requests, not by what Discord says.
    buckets: BTreeMap<u32, Bucket>,
    requests: BTreeMap<u64, (u32, Stage)>,
    orders: u64,
    permits: VecDeque<Permit>,
    // When permits were granted within the last two `DAY_MARGIN`s: as many as the buckets allow in that time.
    recent: VecDeque<Instant>,
    now: Instant,
    stats: Stats,
}

impl Machine {
    /// A queue in which nobody waits.
    pub fn new(options: Options, now: Instant) -> Machine {
        let mut machine = Machine {
            options: Options { max_concurrency: options.max_concurrency.max(1), ..options },
            remaining: 0,
            reset_at: None,
            buckets: BTreeMap::new(),
            requests: BTreeMap::new(),
            orders: 0,
            permits: VecDeque::new(),
            recent: VecDeque::new(),
            now,
            stats: Stats::default(),
        };
        machine.set_budget(now, options.remaining, options.reset_after);
        machine
    }

    /// Asks for a permit. Asking again with the same ticket changes nothing.
    ///
    /// # Errors
    /// When too many requests wait.
    pub fn request(&mut self, now: Instant, ticket: u64, shard_id: u32) -> Result<(), Full> {
        let now = self.advance(now);
        if self.requests.contains_key(&ticket) {
            return Ok(());
        }
        if self.requests.len() >= self.options.requests_max {
            self.stats.refused += 1;
            return Err(Full);
        }
        let number = shard_id % self.options.max_concurrency;
        self.orders += 1;
        let order = self.orders;
        self.requests.insert(ticket, (number, Stage::Waiting { order }));
        let bucket = self.buckets.entry(number).or_insert_with(|| Bucket {
            waiting: BTreeMap::new(),
            next: now,
            held: None,
            identified: None,
        });
        bucket.waiting.insert(order, Permit { ticket, shard_id });
        self.grant(now);
        self.check_invariants();
        Ok(())
    }

    /// Takes a request back. While it waits, or before its IDENTIFY was reported, this costs nothing; later it
    /// does nothing.
    pub fn cancel(&mut self, now: Instant, ticket: u64) {
        let now = self.advance(now);
        let Some((number, stage)) = self.requests.remove(&ticket) else { return };
        if let Some(bucket) = self.buckets.get_mut(&number) {
            match stage {
                Stage::Waiting { order } => {
                    bucket.waiting.remove(&order);
                    self.stats.abandoned += 1;
                }
                Stage::Granted => {
                    self.permits.retain(|permit| permit.ticket != ticket);
                    self.stats.returned += 1;
                    self.remaining = self.remaining.saturating_add(1).min(self.options.total);
                    if let Some(held) = bucket.held.take_if(|held| held.ticket == ticket) {
                        bucket.next = held.next_before;
                    }
                }
            }
        }
        self.grant(now);
        self.check_invariants();
    }

    /// Tells that the IDENTIFY of a permit was just sent: the next one of its bucket counts from here.
    pub fn identified(&mut self, now: Instant, ticket: u64, shard_id: u32) {
        let now = self.advance(now);
        self.requests.remove(&ticket);
        let number = shard_id % self.options.max_concurrency;
        let next = now + self.options.spacing + self.options.slack;
        // A report that comes after its bucket was cleared still keeps the next permit away.
        let bucket = self.buckets.entry(number).or_insert_with(|| Bucket {
            waiting: BTreeMap::new(),
            next,
            held: None,
            identified: None,
        });
        if bucket.held.take_if(|held| held.ticket == ticket).is_some() {
            bucket.next = next;
        } else {
            // Too late: the permit had lapsed, and another may be out.
            bucket.next = bucket.next.max(next);
            if let Some(held) = &mut bucket.held {
                held.next_before = held.next_before.max(next);
            }
        }
        bucket.identified = Some(ticket);
        self.grant(now);
        self.check_invariants();
    }

    /// Tells that Discord answered the IDENTIFY of a permit: it has arrived by now, so the next one that leaves
    /// `spacing` from here cannot come too early, and needs no slack.
    pub fn answered(&mut self, now: Instant, ticket: u64, shard_id: u32) {
        let now = self.advance(now);
        let spacing = self.options.spacing;
        if let Some(bucket) = self.buckets.get_mut(&(shard_id % self.options.max_concurrency))
            && bucket.identified == Some(ticket)
        {
            bucket.identified = None;
            bucket.next = bucket.next.min(now + spacing);
        }
        self.grant(now);
        self.check_invariants();
    }

    /// Takes over what `GET /gateway/bot` says now. Permits whose IDENTIFY has not arrived there yet are counted
    /// on top.
    pub fn refresh(&mut self, now: Instant, remaining: u32, reset_after: Duration) {
        let now = self.advance(now);
        self.set_budget(now, remaining, reset_after);
        self.remaining = self.remaining.saturating_sub(self.held());
        self.grant(now);
        self.check_invariants();
    }

    /// Tells that a deadline may have passed.
    pub fn handle_deadline(&mut self, now: Instant) {
        let now = self.advance(now);
        self.grant(now);
        self.check_invariants();
    }

    /// The next permit to hand out. Drain it after every call that tells the queue something.
    pub fn poll_permit(&mut self) -> Option<Permit> {
        self.permits.pop_front()
    }

    /// Whether this ticket's permit is out, and neither reported as used nor given back nor lapsed.
    pub fn holds(&self, ticket: u64) -> bool {
        matches!(self.requests.get(&ticket), Some((_, Stage::Granted)))
    }

    /// When [`Machine::handle_deadline`] is to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let day = self.reset_at.filter(|_| self.remaining == 0);
        let buckets = self.buckets.values().filter_map(|bucket| self.bucket_deadline(bucket));
        match (buckets.min(), self.waiting()) {
            // The day's end matters to those who wait for it.
            (at, 1..) if self.remaining == 0 => at.map_or(day, |at| Some(day.map_or(at, |day| day.min(at)))),
            (at, _) => at,
        }
    }

    /// How many requests wait.
    pub fn waiting(&self) -> usize {
        self.buckets.values().map(|bucket| bucket.waiting.len()).sum()
    }

    /// How many permits are left today.
    pub fn remaining(&self) -> u32 {
        self.remaining
    }

    /// When the next permit can be granted; `None` when nobody waits, or the time depends on a report.
    pub fn next_permit_at(&self) -> Option<Instant> {
        let waiting = self.buckets.values().filter(|bucket| !bucket.waiting.is_empty());
        let next = waiting.filter(|bucket| bucket.held.is_none()).map(|bucket| bucket.next).min()?;
        let day = self.reset_at.filter(|_| self.remaining == 0);
        Some(day.map_or(next, |day| day.max(next)))
    }

    /// What was counted.
    pub fn stats(&self) -> Stats {
        self.stats
    }

    fn advance(&mut self, now: Instant) -> Instant {
        self.now = self.now.max(now);
        self.now
    }

    fn set_budget(&mut self, now: Instant, remaining: u32, reset_after: Duration) {
        self.remaining = remaining.min(self.options.total);
        self.reset_at = if reset_after.is_zero() && remaining > 0 && remaining >= self.options.total {
            None
        } else {
            Some(now + reset_after.clamp(RESET_AFTER_MIN, RESET_AFTER_MAX) + DAY_MARGIN)
        };
    }

    /// Permits that are out and whose IDENTIFY was not reported.
    fn held(&self) -> u32 {
        let held = self.buckets.values().filter(|bucket| bucket.held.is_some()).count();
        u32::try_from(held).unwrap_or(u32::MAX)
    }

    fn bucket_deadline(&self, bucket: &Bucket) -> Option<Instant> {
        match (&bucket.held, self.options.feedback_wait) {
            (Some(held), Some(wait)) => Some(held.since + wait),
            // With nobody waiting, the bucket is cleared away at its time.
            _ if bucket.waiting.is_empty() || self.remaining > 0 => Some(bucket.next),
            _ => None,
        }
    }

    /// Hands out every permit whose time has come, the oldest request first.
    fn grant(&mut self, now: Instant) {
        while self.recent.front().is_some_and(|&at| at + DAY_MARGIN * 2 < now) {
            self.recent.pop_front();
        }
        if self.reset_at.is_some_and(|at| at <= now) {
            // A late permit of yesterday may count today. One that is held still is late, or older than any day.
            let late = u32::try_from(self.recent.len()).unwrap_or(u32::MAX).max(self.held());
            self.remaining = self.options.total.saturating_sub(late);
            self.reset_at = (late > 0).then_some(now + DAY + DAY_MARGIN);
        }
        if let Some(wait) = self.options.feedback_wait {
            for bucket in self.buckets.values_mut() {
                if let Some(held) = bucket.held.take_if(|held| held.since + wait <= now) {
                    // Whether it was used is not known: it stays spent.
                    self.requests.remove(&held.ticket);
                    self.stats.lapsed += 1;
                }
            }
        }
        let mut ready: Vec<(u64, u32)> = self
            .buckets
            .iter()
            .filter(|(_, bucket)| bucket.held.is_none() && bucket.next <= now)
            .filter_map(|(&number, bucket)| Some((*bucket.waiting.first_key_value()?.0, number)))
            .collect();
        ready.sort_unstable();
        for (_, number) in ready {
            if self.remaining == 0 {
                break;
            }
            // `ready` was taken from the buckets just now, and each is visited once.
            let Some(bucket) = self.buckets.get_mut(&number) else { continue };
            let Some((_, permit)) = bucket.waiting.pop_first() else { continue };
            self.remaining -= 1;
            self.reset_at.get_or_insert(now + DAY + DAY_MARGIN);
            self.recent.push_back(now);
            self.stats.granted += 1;
            let next_before = bucket.next;
            bucket.next = now + self.options.spacing + self.options.slack;
            bucket.identified = None;
            if self.options.feedback_wait.is_some() {
                bucket.held = Some(Held { ticket: permit.ticket, since: now, next_before });
                self.requests.insert(permit.ticket, (number, Stage::Granted));
            } else {
                self.requests.remove(&permit.ticket);
            }
            self.permits.push_back(permit);
        }
        self.buckets
            .retain(|_, bucket| !bucket.waiting.is_empty() || bucket.held.is_some() || bucket.next > now);
    }

    /// Panics in debug builds when the machine contradicts itself.
    fn check_invariants(&self) {
        if !cfg!(debug_assertions) {
            return;
        }
        let held = self.buckets.values().filter(|bucket| bucket.held.is_some()).count();
        assert_eq!(self.requests.len(), self.waiting() + held);
        assert!(self.requests.len() <= self.options.requests_max);
        assert!(self.remaining <= self.options.total);
        for (ticket, (number, stage)) in &self.requests {
            let bucket = self.buckets.get(number);
            let known = match stage {
                Stage::Waiting { order } => bucket.and_then(|b| b.waiting.get(order)).map(|p| p.ticket),
                Stage::Granted => bucket.and_then(|b| b.held.as_ref()).map(|held| held.ticket),
            };
            assert_eq!(known, Some(*ticket));
        }
    }
}
