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

use super::Snapshot;
use super::budget::{Budget, SessionStartLimit};

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
    /// IDENTIFYs of the day that are never spent: for what starts sessions without asking this queue. 0: as many as
    /// Discord allows.
    pub reserve: u32,
    /// How long to hold a bucket for word that a permit's IDENTIFY was sent. 10 s: it is sent within
    /// milliseconds, or its shard is in trouble. `None` where nobody tells, as over HTTP.
    pub feedback_wait: Option<Duration>,
    /// How many requests may wait or hold a permit. 20,000: twice the shards of the largest bots.
    pub requests_max: usize,
}

/// The longest spacing, slack and wait: what is above means "for ever" and would leave the clock's range.
const DURATION_MAX: Duration = Duration::from_secs(24 * 3600);

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
            reserve: 0,
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

impl Bucket {
    fn free_from(next: Instant) -> Bucket {
        Bucket { waiting: BTreeMap::new(), next, held: None, identified: None }
    }
}

/// An identify queue.
#[derive(Debug)]
pub struct Machine {
    options: Options,
    // `options` is where they came from; what counts is here.
    budget: Budget,
    // A number of buckets that waits until no permit is out.
    regroup_to: Option<u32>,
    // No permit at all before this: what was granted before a restart keeps its distance.
    not_before: Instant,
    // Nothing is granted: it is not known yet what may be.
    closed: bool,
    // Only buckets with something in them, so their number is bounded by the requests, not by what Discord says.
    buckets: BTreeMap<u32, Bucket>,
    requests: BTreeMap<u64, (u32, Stage)>,
    orders: u64,
    permits: VecDeque<Permit>,
    now: Instant,
    stats: Stats,
}

impl Machine {
    /// A queue in which nobody waits.
    pub fn new(options: Options, now: Instant) -> Machine {
        let options = Options {
            spacing: options.spacing.min(DURATION_MAX),
            slack: options.slack.min(DURATION_MAX),
            feedback_wait: options.feedback_wait.map(|wait| wait.min(DURATION_MAX)),
            ..options
        };
        let Options { total, remaining, reset_after, reserve, max_concurrency, .. } = options;
        let limit = SessionStartLimit { total, remaining, reset_after, max_concurrency };
        Machine {
            options: Options { max_concurrency: options.max_concurrency.max(1), ..options },
            budget: Budget::new(now, &limit, reserve),
            regroup_to: None,
            not_before: now,
            closed: false,
            buckets: BTreeMap::new(),
            requests: BTreeMap::new(),
            orders: 0,
            permits: VecDeque::new(),
            now,
            stats: Stats::default(),
        }
    }

    /// A queue as it was when `snapshot` was taken, at least `elapsed` ago. `options` counts for all that the
    /// snapshot does not tell.
    pub fn restore(options: Options, snapshot: &Snapshot, elapsed: Duration, now: Instant) -> Machine {
        let max_concurrency = snapshot.max_concurrency.max(1);
        let mut machine = Machine::new(Options { max_concurrency, ..options }, now);
        let then = now.checked_sub(elapsed).unwrap_or(now);
        machine.budget = Budget::restored(then, snapshot, options.reserve);
        if snapshot.busy {
            // Not even `elapsed` is trusted here: one spacing is a small price.
            machine.keep_distance(now);
        }
        machine
    }

    /// Somebody may have been granted a permit just now by a queue that this one knows nothing of: every bucket waits
    /// one spacing.
    pub fn keep_distance(&mut self, now: Instant) {
        let now = self.advance(now);
        self.not_before = self.not_before.max(now + self.options.spacing + self.options.slack);
        for bucket in self.buckets.values_mut() {
            bucket.next = bucket.next.max(self.not_before);
        }
    }

    /// Closes the queue, where it is not known yet what may be granted, or opens it. Whoever asks meanwhile waits.
    pub fn set_closed(&mut self, now: Instant, closed: bool) {
        let now = self.advance(now);
        self.closed = closed;
        self.grant(now);
        self.check_invariants();
    }

    /// Whether it is closed.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// What has to outlive the process. Save it after permits were granted and before they are handed out, and when
    /// [`Machine::is_quiet`] changes.
    pub fn snapshot(&self) -> Snapshot {
        let max_concurrency = self.regroup_to.unwrap_or(self.options.max_concurrency);
        self.budget.save(self.now, max_concurrency, !self.is_quiet())
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
        let first = now.max(self.not_before);
        let bucket = self.buckets.entry(number).or_insert_with(|| Bucket::free_from(first));
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
                    self.budget.give_back(ticket);
                    if let Some(held) = bucket.held.take_if(|held| held.ticket == ticket) {
                        bucket.next = held.next_before;
                    }
                }
            }
        }
        self.grant(now);
        self.check_invariants();
    }

    /// Takes back a permit of which somebody says that it was not used. The session start is given back, but not the
    /// time: it may have been used all the same, by a program that does not know what it says.
    pub fn returned(&mut self, now: Instant, ticket: u64) {
        let now = self.advance(now);
        if !self.holds(ticket) {
            return;
        }
        let Some((number, _)) = self.requests.remove(&ticket) else { return };
        if let Some(bucket) = self.buckets.get_mut(&number) {
            bucket.held = None;
            bucket.next = now + self.options.spacing + self.options.slack;
        }
        self.permits.retain(|permit| permit.ticket != ticket);
        self.budget.give_back(ticket);
        self.stats.returned += 1;
        self.grant(now);
        self.check_invariants();
    }

    /// Tells that the IDENTIFY of a permit was just sent: the next one of its bucket counts from here.
    pub fn identified(&mut self, now: Instant, ticket: u64, shard_id: u32) {
        let now = self.advance(now);
        if let Some((number, Stage::Waiting { order })) = self.requests.remove(&ticket)
            && let Some(bucket) = self.buckets.get_mut(&number)
        {
            bucket.waiting.remove(&order);
        }
        let number = shard_id % self.options.max_concurrency;
        let next = now + self.options.spacing + self.options.slack;
        // A report that comes after its bucket was cleared still keeps the next permit away.
        let bucket = self.buckets.entry(number).or_insert_with(|| Bucket::free_from(next));
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
        self.budget.arrived(now, ticket);
        if let Some(bucket) = self.buckets.get_mut(&(shard_id % self.options.max_concurrency))
            && bucket.identified == Some(ticket)
        {
            bucket.identified = None;
            bucket.next = bucket.next.min(now + spacing);
        }
        self.grant(now);
        self.check_invariants();
    }

    /// Takes over what `GET /gateway/bot` said when it was asked at `asked_at`. Permits whose IDENTIFY may not have
    /// arrived there by then are counted on top.
    pub fn refresh(&mut self, now: Instant, asked_at: Instant, limit: &SessionStartLimit) {
        let now = self.advance(now);
        self.budget.refresh(now, asked_at, limit);
        self.set_max_concurrency(now, limit.max_concurrency);
    }

    /// Changes how many IDENTIFYs a day has, where somebody else than Discord tells it.
    pub fn set_total(&mut self, now: Instant, total: u32) {
        let now = self.advance(now);
        self.budget.set_total(total);
        self.grant(now);
        self.check_invariants();
    }

    /// Changes the number of buckets. Who waits is put where it belongs now, in the same order; permits that are out
    /// are waited for first.
    pub fn set_max_concurrency(&mut self, now: Instant, max_concurrency: u32) {
        let now = self.advance(now);
        let max_concurrency = max_concurrency.max(1);
        self.regroup_to = (max_concurrency != self.options.max_concurrency).then_some(max_concurrency);
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
        // While nothing can be granted, only what is out has a time.
        let is_held_up = self.closed || self.regroup_to.is_some();
        let day = self.budget.blocked_until();
        let buckets = self
            .buckets
            .values()
            .filter(|bucket| bucket.held.is_some() || !is_held_up)
            .filter_map(|bucket| self.bucket_deadline(bucket));
        // Also with no bucket, as the queue becomes quiet then.
        let calm = Some(self.not_before).filter(|&at| at > self.now);
        match (buckets.chain(calm).min(), self.waiting()) {
            // The day's end matters to those who wait for it.
            (at, 1..) if self.budget.spendable() == 0 && !is_held_up => {
                at.map_or(day, |at| Some(day.map_or(at, |day| day.min(at))))
            }
            (at, _) => at,
        }
    }

    /// How many requests wait.
    pub fn waiting(&self) -> usize {
        self.buckets.values().map(|bucket| bucket.waiting.len()).sum()
    }

    /// How many permits are left today, the reserve among them.
    pub fn remaining(&self) -> u32 {
        self.budget.remaining()
    }

    /// How many a day has.
    pub fn total(&self) -> u32 {
        self.budget.total()
    }

    /// When there will be more permits; `None` where all are there.
    pub fn reset_at(&self) -> Option<Instant> {
        self.budget.reset_at()
    }

    /// Whether nothing may be granted before the day ends.
    pub fn is_exhausted(&self) -> bool {
        self.budget.spendable() == 0
    }

    /// How many buckets there are, or will be once no permit is out.
    pub fn max_concurrency(&self) -> u32 {
        self.regroup_to.unwrap_or(self.options.max_concurrency)
    }

    /// Whether nobody waits and no permit is so young that another may not follow it.
    pub fn is_quiet(&self) -> bool {
        self.buckets.is_empty() && self.now >= self.not_before
    }

    /// When the next permit can be granted; `None` when nobody waits, or the time depends on a report.
    pub fn next_permit_at(&self) -> Option<Instant> {
        let waiting = self.buckets.values().filter(|bucket| !bucket.waiting.is_empty());
        let next = waiting.filter(|bucket| bucket.held.is_none()).map(|bucket| bucket.next).min()?;
        if self.closed {
            return None;
        }
        let day = self.budget.blocked_until();
        if day.is_none() && self.is_exhausted() {
            // Nothing is spent, and there is nothing to spend: time changes nothing.
            return None;
        }
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

    /// Whether permits are out whose IDENTIFY was not reported.
    fn any_held(&self) -> bool {
        self.buckets.values().any(|bucket| bucket.held.is_some())
    }

    fn bucket_deadline(&self, bucket: &Bucket) -> Option<Instant> {
        match (&bucket.held, self.options.feedback_wait) {
            (Some(held), Some(wait)) => Some(held.since + wait),
            // With nobody waiting, the bucket is cleared away at its time.
            _ if bucket.waiting.is_empty() || self.budget.spendable() > 0 => Some(bucket.next),
            _ => None,
        }
    }

    /// Hands out every permit whose time has come, the oldest request first.
    fn grant(&mut self, now: Instant) {
        self.budget.turn_over(now);
        if let Some(wait) = self.options.feedback_wait {
            for bucket in self.buckets.values_mut() {
                if let Some(held) = bucket.held.take_if(|held| held.since + wait <= now) {
                    // Whether it was used is not known: it stays spent.
                    self.requests.remove(&held.ticket);
                    self.stats.lapsed += 1;
                }
            }
        }
        self.regroup(now);
        if self.closed || self.regroup_to.is_some() {
            return;
        }
        let mut ready: Vec<(u64, u32)> = self
            .buckets
            .iter()
            .filter(|(_, bucket)| bucket.held.is_none() && bucket.next <= now)
            .filter_map(|(&number, bucket)| Some((*bucket.waiting.first_key_value()?.0, number)))
            .collect();
        // Buckets in their order, as Discord wants them; where not all can be served, who has waited longest.
        if ready.len() > self.budget.spendable() as usize {
            ready.sort_unstable();
        }
        for (_, number) in ready {
            if self.budget.spendable() == 0 {
                break;
            }
            // `ready` was taken from the buckets just now, and each is visited once.
            let Some(bucket) = self.buckets.get_mut(&number) else { continue };
            let Some((_, permit)) = bucket.waiting.pop_first() else { continue };
            self.budget.spend(now, permit.ticket);
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

    /// Puts everybody into the buckets of a new number of them, once no permit is out. A bucket's distance is kept by
    /// all, as nothing says which of the new ones Discord counts it for.
    fn regroup(&mut self, now: Instant) {
        if self.any_held() {
            return;
        }
        let Some(max_concurrency) = self.regroup_to.take() else { return };
        self.options.max_concurrency = max_concurrency;
        let old = std::mem::take(&mut self.buckets);
        self.not_before = old.values().map(|bucket| bucket.next).fold(self.not_before, Instant::max);
        let first = now.max(self.not_before);
        for (order, permit) in old.into_values().flat_map(|bucket| bucket.waiting) {
            let number = permit.shard_id % max_concurrency;
            self.requests.insert(permit.ticket, (number, Stage::Waiting { order }));
            let bucket = self.buckets.entry(number).or_insert_with(|| Bucket::free_from(first));
            bucket.waiting.insert(order, permit);
        }
    }

    /// Panics in debug builds when the machine contradicts itself.
    fn check_invariants(&self) {
        if !cfg!(debug_assertions) {
            return;
        }
        let held = self.buckets.values().filter(|bucket| bucket.held.is_some()).count();
        assert_eq!(self.requests.len(), self.waiting() + held);
        assert!(self.requests.len() <= self.options.requests_max);
        assert!(self.budget.remaining() <= self.budget.total());
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
