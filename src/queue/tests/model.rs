//! A seeded world around the queue: a Discord that counts exactly, shards that ask, crash and are slow, a queue that
//! restarts from its snapshot, a clock that jumps, a network that delays.
//!
//! Whatever happens: never two IDENTIFYs of a bucket within 5 s, never more in a day than the day has, first come
//! first served in a bucket, nobody forgotten.

use std::collections::{BTreeMap, VecDeque};

use super::*;
use crate::base::Rng;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// Discord's side, by the time at which things arrive there.
struct Discord {
    max_concurrency: u32,
    total: u32,
    day: Option<Instant>,
    used: u32,
    last: BTreeMap<u32, Instant>,
    // IDENTIFYs that travel: when they arrive.
    travelling: Vec<(Instant, Permit)>,
    arrived: u64,
}

impl Discord {
    /// Lets arrive what has arrived by `now`, in order.
    fn settle(&mut self, now: Instant) -> Vec<(Instant, Permit)> {
        self.travelling.sort_by_key(|&(at, _)| at);
        let count = self.travelling.partition_point(|&(at, _)| at <= now);
        let arrived: Vec<_> = self.travelling.drain(..count).collect();
        for &(at, permit) in &arrived {
            let bucket = permit.shard_id % self.max_concurrency;
            if let Some(before) = self.last.insert(bucket, at) {
                let apart = at.saturating_duration_since(before);
                assert!(apart >= secs(5), "{apart:?} apart in bucket {bucket}");
            }
            if self.day.is_none_or(|day| at >= day + DAY) {
                (self.day, self.used) = (Some(at), 0);
            }
            self.used += 1;
            assert!(self.used <= self.total, "the token is lost");
            self.arrived += 1;
        }
        arrived
    }

    /// What `GET /gateway/bot` says at `now`.
    fn limit(&self, now: Instant) -> SessionStartLimit {
        let left =
            self.day.map(|day| (day + DAY).saturating_duration_since(now)).filter(|left| !left.is_zero());
        let used = if left.is_some() { self.used } else { 0 };
        told(self.total, self.total - used, left.unwrap_or_default(), self.max_concurrency)
    }
}

struct World {
    rng: Rng,
    now: Instant,
    /// Whether shards live in the process and tell of their IDENTIFYs.
    feedback: bool,
    /// Whether Discord can be asked.
    asks: bool,
    options: Options,
    queue: Machine,
    saved: (Instant, Snapshot),
    discord: Discord,
    // Whose turn is when, by bucket of the queue.
    waiting: BTreeMap<u64, u32>,
    // Granted, and when the IDENTIFY will be sent.
    granted: Vec<(Instant, Permit)>,
    // Arrived, and when the answer comes.
    answers: Vec<(Instant, Permit)>,
    // A question to Discord: when it was asked, when Discord looks, when the answer is here.
    question: Option<(Instant, Instant, Option<SessionStartLimit>, Instant)>,
    next_ticket: u64,
    restarts: u32,
}

impl World {
    fn new(seed: u64) -> World {
        let mut rng = Rng::new(seed);
        let now = start();
        let max_concurrency = [1, 1, 2, 16][rng.below(4) as usize];
        let total = 20 + rng.below(200) as u32;
        let feedback = rng.chance(1, 2);
        let reserve = if rng.chance(1, 3) { rng.below(10) as u32 } else { 0 };
        let options = Options {
            feedback_wait: feedback.then_some(secs(10)),
            reserve,
            ..Options::new(max_concurrency, total, total, Duration::ZERO)
        };
        let queue = Machine::new(options, now);
        let saved = (now, queue.snapshot());
        World {
            asks: rng.chance(1, 2),
            rng,
            now,
            feedback,
            options,
            queue,
            saved,
            discord: Discord {
                max_concurrency,
                total,
                day: None,
                used: 0,
                last: BTreeMap::new(),
                travelling: Vec::new(),
                arrived: 0,
            },
            waiting: BTreeMap::new(),
            granted: Vec::new(),
            answers: Vec::new(),
            question: None,
            next_ticket: 0,
            restarts: 0,
        }
    }

    /// The time that the queue is told: now, or one from before what it was told already.
    fn told_now(&mut self) -> Instant {
        if self.rng.chance(1, 50) {
            self.queue.handle_deadline(self.now);
            self.drain();
            return self.now - secs(1).min(self.now - self.saved.0);
        }
        self.now
    }

    /// Takes the permits out, after every call that tells the queue something, and keeps its state as the program
    /// does: after they were granted and before anybody hears of them.
    fn drain(&mut self) {
        let permits: Vec<Permit> = std::iter::from_fn(|| self.queue.poll_permit()).collect();
        if !permits.is_empty() || self.queue.is_quiet() == self.saved.1.busy {
            self.saved = (self.now, self.queue.snapshot());
        }
        for permit in permits {
            let buckets = self.queue.max_concurrency();
            let bucket = permit.shard_id % buckets;
            let first = self.waiting.iter().find(|(_, shard)| *shard % buckets == bucket);
            assert_eq!(first.map(|(&ticket, _)| ticket), Some(permit.ticket), "out of turn");
            self.waiting.remove(&permit.ticket);
            let delay =
                if self.feedback { self.rng.duration(Duration::ZERO, secs(3)) } else { Duration::ZERO };
            self.granted.push((self.now + delay, permit));
        }
        assert_eq!(self.queue.waiting(), self.waiting.len());
    }

    fn ask(&mut self, shard_id: u32) {
        self.next_ticket += 1;
        let now = self.told_now();
        self.waiting.insert(self.next_ticket, shard_id);
        self.queue.request(now, self.next_ticket, shard_id).unwrap();
        self.drain();
    }

    fn leave(&mut self) {
        let count = self.waiting.len() as u64;
        if count > 0 {
            let (&gone, _) = self.waiting.iter().nth(self.rng.below(count) as usize).unwrap();
            self.waiting.remove(&gone);
            self.queue.cancel(self.now, gone);
            self.drain();
        }
    }

    /// A shard that gives its permit back.
    fn give_back(&mut self) {
        if self.feedback && !self.granted.is_empty() {
            let at = self.rng.below(self.granted.len() as u64) as usize;
            let (_, gone) = self.granted.swap_remove(at);
            self.queue.cancel(self.now, gone.ticket);
            self.drain();
        }
    }

    /// IDENTIFYs leave, arrive and are answered.
    fn travel(&mut self) {
        let now = self.now;
        let (sent, kept) = self.granted.drain(..).partition(|&(at, _)| at <= now);
        self.granted = kept;
        let sent: Vec<(Instant, Permit)> = sent;
        for (_, permit) in sent {
            let travel = self.rng.duration(Duration::ZERO, ms(249));
            self.discord.travelling.push((now + travel, permit));
            if self.feedback {
                self.queue.identified(now, permit.ticket, permit.shard_id);
                self.drain();
            }
        }
        for (at, permit) in self.discord.settle(now) {
            self.answers.push((at + self.rng.duration(Duration::ZERO, secs(2)), permit));
        }
        let (back, kept) = self.answers.drain(..).partition(|&(at, _)| at <= now);
        self.answers = kept;
        let back: Vec<(Instant, Permit)> = back;
        for (_, permit) in back {
            if self.feedback {
                self.queue.answered(now, permit.ticket, permit.shard_id);
                self.drain();
            }
        }
    }

    fn talk_to_discord(&mut self) {
        if self.asks && self.question.is_none() && self.rng.chance(1, 30) {
            let looks = self.now + self.rng.duration(Duration::ZERO, secs(1));
            let back = looks + self.rng.duration(Duration::ZERO, secs(10));
            self.question = Some((self.now, looks, None, back));
        }
        if let Some((asked_at, looks, seen, back)) = &mut self.question {
            if *looks <= self.now && seen.is_none() {
                // A raised number of buckets; the queue hears of it later, and its own divides it.
                if self.rng.chance(1, 20) && self.discord.max_concurrency < 16 {
                    let before = self.discord.max_concurrency;
                    self.discord.max_concurrency *= 2;
                    // The shards of an old bucket are in two new ones.
                    let old = std::mem::take(&mut self.discord.last);
                    self.discord.last = old
                        .into_iter()
                        .flat_map(|(bucket, at)| [(bucket, at), (bucket + before, at)])
                        .collect();
                }
                *seen = Some(self.discord.limit(self.now));
            }
            if let (Some(limit), true) = (*seen, *back <= self.now) {
                let asked_at = *asked_at;
                self.question = None;
                self.queue.refresh(self.now, asked_at, &limit);
                self.drain();
            }
        }
    }

    /// kill -9: what was saved is all that is left. Over HTTP, who has a permit uses it; in the process, shards die.
    fn restart(&mut self) {
        self.restarts += 1;
        let down_max = secs(if self.rng.chance(1, 10) { 40_000 } else { 3 });
        let down = self.rng.duration(Duration::ZERO, down_max);
        let until = self.now + down;
        if self.feedback {
            self.granted.clear();
        }
        while self.now < until {
            self.travel_while_down(until);
        }
        let shards: Vec<u32> = std::mem::take(&mut self.waiting).into_values().collect();
        self.question = None;
        self.answers.clear();
        // How long it was is known to be no more than it was.
        let (at, snapshot) = self.saved.clone();
        let elapsed = (self.now - at).mul_f64([0.0, 0.9, 1.0][self.rng.below(3) as usize]);
        self.queue = Machine::restore(self.options, &snapshot, elapsed, self.now);
        self.saved = (self.now, self.queue.snapshot());
        if self.asks {
            let limit = self.discord.limit(self.now);
            self.queue.refresh(self.now, self.now, &limit);
            self.drain();
        }
        for shard_id in shards {
            self.ask(shard_id);
        }
    }

    /// Permits that were out go on their way without the queue.
    fn travel_while_down(&mut self, until: Instant) {
        let next = self.granted.iter().map(|&(at, _)| at).filter(|&at| at > self.now).min();
        let now = self.now;
        for (_, permit) in self.granted.extract_if(.., |(at, _)| *at <= now) {
            self.discord.travelling.push((now + self.rng.duration(Duration::ZERO, ms(249)), permit));
        }
        self.now = next.unwrap_or(until).min(until);
        self.discord.settle(self.now);
    }

    /// Runs a few days; returns how many IDENTIFYs arrived.
    fn run(&mut self) -> u64 {
        let end = self.now + secs(1 + self.rng.below(3) * 24 * 3600) + secs(600);
        let mut asking = 30 + self.rng.below(u64::from(self.discord.total) * 2);
        let restarts_max = self.rng.below(6) as u32;
        while self.now < end || !self.waiting.is_empty() {
            if asking > 0 && self.rng.chance(1, 2) {
                asking -= 1;
                let shard_id = self.rng.below(64) as u32;
                self.ask(shard_id);
            }
            if self.rng.chance(1, 20) {
                self.leave();
            }
            if self.rng.chance(1, 10) {
                self.give_back();
            }
            if self.restarts < restarts_max && self.rng.chance(1, 60) {
                self.restart();
            }
            self.travel();
            self.talk_to_discord();
            let now = self.told_now();
            self.queue.handle_deadline(now);
            self.drain();
            // To the next moment.
            let sending = self.granted.iter().chain(&self.answers).map(|&(at, _)| at);
            let due = self.queue.poll_timeout().into_iter().chain(sending).chain(
                self.question.iter().map(|&(_, looks, seen, back)| if seen.is_some() { back } else { looks }),
            );
            let due = due.min();
            assert!(due.is_some() || self.waiting.is_empty(), "somebody waits for nothing");
            let pause = self.rng.duration(ms(1), secs(if asking > 0 { 4 } else { 4000 }));
            let step = self.now + pause;
            self.now = due.map_or(step, |at| at.min(step)).max(self.now + ms(1));
        }
        self.discord.settle(self.now + secs(1));
        self.discord.arrived
    }
}

#[test]
fn a_few_days_at_discord() {
    let read = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let seeds = match read("RATEWAY_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..read("RATEWAY_SEEDS").unwrap_or(2000),
    };
    let mut arrived = 0;
    for seed in seeds.clone() {
        match std::panic::catch_unwind(|| World::new(seed).run()) {
            Ok(count) => arrived += count,
            Err(panic) => {
                eprintln!("replay with RATEWAY_SEED={seed}");
                std::panic::resume_unwind(panic);
            }
        }
    }
    assert!(arrived > 5 * (seeds.end - seeds.start), "a world in which nothing happens shows nothing");
}

#[test]
fn a_large_bot_starts_in_the_time_that_the_limit_allows() {
    // 10,000 shards in 16 buckets: 625 rounds of 5 s. Connections take as long as to a far data centre.
    let t = start();
    let mut rng = Rng::new(7);
    let mut queue = Machine::new(Options::new(16, 20_000, 20_000, Duration::ZERO), t);
    let mut discord = Discord {
        max_concurrency: 16,
        total: 20_000,
        day: None,
        used: 0,
        last: BTreeMap::new(),
        travelling: Vec::new(),
        arrived: 0,
    };
    for shard_id in 0..10_000 {
        queue.request(t, u64::from(shard_id), shard_id).unwrap();
    }
    let mut now = t;
    let mut answers: VecDeque<(Instant, Permit)> = VecDeque::new();
    let mut last = t;
    while discord.arrived < 10_000 {
        while let Some(permit) = queue.poll_permit() {
            queue.identified(now, permit.ticket, permit.shard_id);
            let there = now + rng.duration(ms(10), ms(60));
            discord.travelling.push((there, permit));
            last = last.max(there);
            answers.push_back((there + rng.duration(ms(10), ms(60)), permit));
        }
        let next = queue.poll_timeout().into_iter().chain(answers.iter().map(|&(at, _)| at)).min();
        now = next.map_or(now + secs(1), |at| at.max(now));
        discord.settle(now);
        answers.retain(|&(at, permit)| {
            if at <= now {
                queue.answered(now, permit.ticket, permit.shard_id);
            }
            at > now
        });
        queue.handle_deadline(now);
    }
    let allowed = secs(5) * 624;
    let took = last - t;
    assert!(took < allowed.mul_f64(1.02), "{took:?} where {allowed:?} were allowed");
}
