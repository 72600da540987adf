//! Gates in a seeded world: several bots at one service, clients that tell and clients that do not, that crash at
//! any moment, and a service that is killed and starts again from what it had saved.
//!
//! Whatever happens: no bot's IDENTIFYs come too early or too often at Discord, nobody who waits is passed over or
//! forgotten, and no bot disturbs another.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::asked::{Ask, Form};
use super::gates::{Gates, Refusal, Settings};
use crate::base::Rng;
use crate::queue::{Machine, Report, SessionStartLimit, Snapshot, ToldLimit};

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

#[allow(clippy::disallowed_methods)] // A starting point for arithmetic; nothing depends on its value.
fn start() -> Instant {
    Instant::now()
}

const SETTINGS: Settings = Settings {
    slack: Duration::from_millis(250),
    reserve: 0,
    requests_max: 100,
    gates_max: 3,
    is_kept: false,
};

fn gates(now: Instant) -> Gates {
    Gates::new(
        SETTINGS,
        Machine::new(Gates::options(&SETTINGS, Some(2), None), now),
        Some("own".into()),
        false,
        now,
    )
}

fn ask(key: Option<&str>, shard_id: u32, max_concurrency: u32) -> Ask {
    Ask {
        key: key.map(str::to_owned),
        shard_id,
        max_concurrency: Some(max_concurrency),
        total: None,
        limit: None,
        form: Form::Message,
        feedback: false,
        warning: None,
    }
}

fn granted(gates: &mut Gates) -> Vec<u64> {
    std::iter::from_fn(|| gates.poll_granted()).collect()
}

#[test]
fn bots_do_not_wait_for_each_other_and_the_own_one_has_two_names() {
    let mut gates = gates(start());
    // What was granted before the start is not known, so the first permits of all keep their distance from it.
    let t = start() + secs(6);
    for (ticket, key) in [(1, Some("a")), (2, Some("b")), (3, None), (4, Some("own")), (5, Some("a"))] {
        gates.request(t, ticket, &ask(key, 0, 1)).unwrap();
    }
    assert_eq!(granted(&mut gates), [1, 2, 3]);
    assert_eq!(gates.waiting(), 2);
    assert!(gates.knows("own") && gates.knows("a") && !gates.knows("c"));
    // Another bucket of the own bot, which has two whatever the client claims.
    gates.request(t, 6, &ask(Some("own"), 1, 1)).unwrap();
    assert_eq!(granted(&mut gates), [6]);
}

#[test]
fn gates_are_bounded_and_blank_ones_make_room() {
    let mut gates = gates(start());
    let t = start() + secs(6);
    for (ticket, key) in [(1, "a"), (2, "b"), (3, "c")] {
        gates.request(t, ticket, &ask(Some(key), 0, 1)).unwrap();
        gates.used(t, ticket);
    }
    assert_eq!(gates.request(t, 4, &ask(Some("d"), 0, 1)), Err(Refusal::TooManyGates));
    assert_eq!(gates.refused_gates, 1);
    // Who waits or has spent something today is kept; one who has only looked is not.
    gates.cancel(t, 1);
    let later = t + secs(100);
    gates.handle_deadline(later);
    assert_eq!(gates.request(later, 4, &ask(Some("d"), 0, 1)), Err(Refusal::TooManyGates));
    let tomorrow = t + secs(25 * 3600);
    gates.handle_deadline(tomorrow);
    assert_eq!(gates.request(tomorrow, 4, &ask(Some("d"), 0, 1)), Ok(()));
}

#[test]
fn where_gates_are_kept_the_one_that_was_asked_for_longest_ago_goes() {
    let t = start();
    let machine = Machine::new(Gates::options(&SETTINGS, None, None), t);
    let mut gates = Gates::new(Settings { is_kept: true, ..SETTINGS }, machine, None, false, t);
    let t = t + secs(6);
    for (ticket, key) in [(1, "b"), (2, "a"), (3, "c")] {
        let at = t + secs(ticket);
        gates.request(at, ticket, &ask(Some(key), 0, 1)).unwrap();
        assert_eq!(granted(&mut gates), [ticket]);
        gates.used(at, ticket);
    }
    // As long as a permit is young, or what it left is not written, none may go.
    assert_eq!(gates.request(t + secs(4), 4, &ask(Some("d"), 0, 1)), Err(Refusal::TooManyGates));
    let later = t + secs(60);
    gates.handle_deadline(later);
    assert_eq!(gates.request(later, 4, &ask(Some("d"), 0, 1)), Err(Refusal::TooManyGates));
    let saved: BTreeMap<String, Snapshot> = std::iter::from_fn(|| gates.poll_unsaved()).collect();
    assert_eq!(gates.request(later, 4, &ask(Some("d"), 0, 1)), Ok(()));
    assert!(!gates.knows("b") && gates.knows("a") && gates.poll_forgotten().is_none());
    // It comes back as it was, and another goes.
    gates.poll_unsaved();
    assert!(gates.restore(later, "b", &saved["b"], secs(60)));
    assert!(!gates.knows("a"));
    let status = gates.status(later);
    assert_eq!(status.iter().find(|gate| gate.key == "b").unwrap().remaining, 999);
    // One that has nothing to remember goes first, and takes its file with it.
    let tomorrow = later + secs(26 * 3600);
    assert_eq!(gates.request(tomorrow, 5, &ask(Some("e"), 0, 1)), Ok(()));
    assert!(gates.poll_forgotten().is_some());
}

#[test]
fn clients_tell_what_discord_said_where_the_service_cannot_ask() {
    let mut gates = gates(start());
    let t = start() + secs(6);
    let told = |remaining, age_ms| Ask {
        limit: Some(ToldLimit { total: 1000, remaining, reset_after_ms: 3_600_000, age_ms }),
        ..ask(Some("a"), 0, 16)
    };
    let remaining = |gates: &mut Gates| gates.status(t)[1].remaining;
    gates.request(t, 1, &told(5, 10)).unwrap();
    assert_eq!((granted(&mut gates), remaining(&mut gates)), (vec![1], 4));
    // An older word of another process changes nothing; a newer one does, with what is on its way on top.
    gates.request(t, 2, &told(900, 20)).unwrap();
    assert_eq!(remaining(&mut gates), 4);
    gates.request(t, 3, &told(700, 0)).unwrap();
    assert_eq!(remaining(&mut gates), 699);
    // Nothing left is nothing granted, whatever is claimed besides.
    let none = Ask { shard_id: 1, ..told(0, 0) };
    gates.request(t + secs(1), 4, &none).unwrap();
    gates.request(t + secs(1), 5, &Ask { total: Some(5000), shard_id: 2, ..ask(Some("a"), 2, 16) }).unwrap();
    assert!(granted(&mut gates).is_empty());
    // A number of session starts that cannot be is not believed.
    gates.request(t, 6, &Ask { total: Some(2), ..ask(Some("b"), 0, 1) }).unwrap();
    gates.request(t, 7, &Ask { total: Some(2), ..ask(Some("b"), 0, 1) }).unwrap();
    gates.handle_deadline(t + secs(6));
    granted(&mut gates).into_iter().for_each(|ticket| gates.used(t + secs(6), ticket));
    gates.request(t + secs(7), 8, &Ask { total: Some(1), ..ask(Some("b"), 0, 1) }).unwrap();
    assert_eq!(gates.status(t + secs(7))[2].total, 2);
    gates.request(t + secs(7), 9, &Ask { total: Some(50), ..ask(Some("b"), 0, 1) }).unwrap();
    assert_eq!(gates.status(t + secs(7))[2].total, 50);
}

#[test]
fn the_smaller_claim_counts_until_the_gate_is_quiet() {
    let t = start();
    let mut gates = gates(t);
    let buckets = |gates: &mut Gates, now| gates.status(now)[1].max_concurrency;
    gates.request(t, 1, &ask(Some("a"), 0, 16)).unwrap();
    gates.used(t, 1);
    assert_eq!(buckets(&mut gates, t), 16);
    gates.request(t, 2, &ask(Some("a"), 1, 2)).unwrap();
    assert_eq!(buckets(&mut gates, t), 2);
    gates.request(t, 3, &ask(Some("a"), 3, 16)).unwrap();
    assert_eq!(buckets(&mut gates, t), 2);
    let later = t + secs(30);
    for _ in 0..3 {
        gates.handle_deadline(later);
        granted(&mut gates).into_iter().for_each(|ticket| gates.used(later, ticket));
    }
    gates.handle_deadline(later + secs(6));
    granted(&mut gates).into_iter().for_each(|ticket| gates.used(later + secs(6), ticket));
    gates.handle_deadline(later + secs(12));
    gates.request(later + secs(12), 4, &ask(Some("a"), 3, 16)).unwrap();
    assert_eq!(buckets(&mut gates, later), 16);
    // Absurd claims are cut.
    gates.request(later + secs(12), 5, &ask(Some("b"), 3, u32::MAX)).unwrap();
    assert_eq!(gates.status(later)[2].max_concurrency, 1000);
}

/// What happens to a client next.
#[derive(Clone, Copy, Debug)]
enum Event {
    /// Its IDENTIFY leaves.
    Identify,
    /// A report of it arrives at the service.
    Report(Report),
    /// The service sees its connection end.
    Close,
}

#[derive(Clone, Debug)]
struct Client {
    bot: usize,
    shard_id: u32,
    feedback: bool,
}

struct World {
    rng: Rng,
    now: Instant,
    gates: Gates,
    saved: BTreeMap<String, (Instant, Snapshot)>,
    max_concurrency: [u32; 3],
    total: u32,
    clients: BTreeMap<u64, Client>,
    waiting: BTreeMap<u64, (usize, u32)>,
    events: Vec<(Instant, u64, Event)>,
    arrivals: Vec<(Instant, usize, u32)>,
    last: BTreeMap<(usize, u32), Instant>,
    days: [(Option<Instant>, u32); 3],
    next_ticket: u64,
    identified: u64,
}

const KEYS: [&str; 3] = ["a", "b", "c"];

impl World {
    fn new(seed: u64) -> World {
        let mut rng = Rng::new(seed);
        let now = start();
        let max_concurrency = [1, [1, 2, 16][rng.below(3) as usize], [2, 16][rng.below(2) as usize]];
        World {
            total: 15 + rng.below(60) as u32,
            rng,
            now,
            gates: gates(now),
            saved: BTreeMap::new(),
            max_concurrency,
            clients: BTreeMap::new(),
            waiting: BTreeMap::new(),
            events: Vec::new(),
            arrivals: Vec::new(),
            last: BTreeMap::new(),
            days: [(None, 0); 3],
            next_ticket: 0,
            identified: 0,
        }
    }

    fn ask(&mut self) {
        let bot = self.rng.below(3) as usize;
        let shard_id = self.rng.below(32) as u32;
        let feedback = self.rng.chance(1, 2);
        self.next_ticket += 1;
        let ticket = self.next_ticket;
        self.clients.insert(ticket, Client { bot, shard_id, feedback });
        self.waiting.insert(ticket, (bot, shard_id));
        let ask = Ask {
            total: Some(self.total),
            feedback,
            // A program that has not heard yet that its bot has more buckets.
            ..ask(
                Some(KEYS[bot]),
                shard_id,
                if self.rng.chance(1, 10) { 1 } else { self.max_concurrency[bot] },
            )
        };
        self.recall(bot);
        self.gates.request(self.now, ticket, &ask).unwrap();
        self.drain();
    }

    /// What the service does for a key that it does not know: looks whether it did before.
    fn recall(&mut self, bot: usize) {
        if !self.gates.knows(KEYS[bot])
            && let Some((at, snapshot)) = self.saved.get(KEYS[bot])
        {
            let elapsed = (self.now - *at).mul_f64([0.0, 1.0][self.rng.below(2) as usize]);
            self.gates.restore(self.now, KEYS[bot], snapshot, elapsed);
        }
    }

    fn drain(&mut self) {
        let granted = granted(&mut self.gates);
        while let Some((key, snapshot)) = self.gates.poll_unsaved() {
            self.saved.insert(key, (self.now, snapshot));
        }
        for ticket in granted {
            let (bot, shard_id) = self.waiting[&ticket];
            // First come, first served, by whatever number of buckets counts at the moment.
            let key = KEYS[bot];
            let buckets =
                self.gates.status(self.now).iter().find(|gate| gate.key == key).unwrap().max_concurrency;
            let same = |&(other, shard): &(usize, u32)| other == bot && shard % buckets == shard_id % buckets;
            let first = self.waiting.iter().find(|(_, who)| same(who)).map(|(&ticket, _)| ticket);
            assert_eq!(first, Some(ticket), "out of turn");
            self.waiting.remove(&ticket);
            self.serve(ticket);
        }
    }

    /// The client has its permit.
    fn serve(&mut self, ticket: u64) {
        let client = self.clients[&ticket].clone();
        if !client.feedback {
            self.gates.used(self.now, ticket);
            self.clients.remove(&ticket);
            // It may have died just then, and nobody knows.
            if self.rng.chance(9, 10) {
                self.travel(self.now, &client);
            }
            return;
        }
        let sent = self.now + self.rng.duration(Duration::ZERO, secs(3));
        let heard = sent + self.rng.duration(Duration::ZERO, secs(1));
        match self.rng.below(10) {
            0 => self.events.push((heard, ticket, Event::Report(Report::Returned))),
            1 => self.events.push((heard, ticket, Event::Close)),
            // Sent, and dead before it could tell; or told, and dead before the answer.
            2 => self.events.extend([(sent, ticket, Event::Identify), (heard, ticket, Event::Close)]),
            _ => {
                let identified = Event::Report(Report::Identified);
                self.events.extend([(sent, ticket, Event::Identify), (heard, ticket, identified)]);
                let close = heard + self.rng.duration(Duration::ZERO, secs(2));
                self.events.push((close, ticket, Event::Close));
            }
        }
    }

    fn travel(&mut self, sent: Instant, client: &Client) -> Instant {
        let arrival = sent + self.rng.duration(Duration::ZERO, ms(249));
        self.arrivals.push((arrival, client.bot, client.shard_id));
        arrival
    }

    fn happen(&mut self) {
        self.events.sort_by_key(|&(at, ..)| at);
        while let Some(&(at, ticket, event)) = self.events.first().filter(|(at, ..)| *at <= self.now) {
            self.events.remove(0);
            let Some(client) = self.clients.get(&ticket).cloned() else { continue };
            match event {
                Event::Identify => {
                    let arrival = self.travel(at, &client);
                    let told = arrival + self.rng.duration(Duration::ZERO, secs(1));
                    self.events.push((told, ticket, Event::Report(Report::Answered)));
                    self.events.sort_by_key(|&(at, ..)| at);
                }
                Event::Report(report) => self.gates.report(self.now, ticket, report),
                Event::Close => {
                    self.clients.remove(&ticket);
                    // As the service does: not told to be used means used.
                    if self.gates.holds(ticket) {
                        self.gates.used(self.now, ticket);
                    } else {
                        self.gates.forget(ticket);
                    }
                }
            }
            self.drain();
        }
    }

    /// What arrives at Discord is judged in its order.
    fn settle(&mut self) {
        self.arrivals.sort();
        let count = self.arrivals.partition_point(|&(at, ..)| at <= self.now);
        for (at, bot, shard_id) in self.arrivals.drain(..count) {
            let bucket = shard_id % self.max_concurrency[bot];
            if let Some(before) = self.last.insert((bot, bucket), at) {
                let apart = at - before;
                assert!(apart >= secs(5), "{apart:?} apart in bucket {bucket} of bot {bot}");
            }
            let (day, used) = &mut self.days[bot];
            if day.is_none_or(|day| at >= day + secs(24 * 3600)) {
                (*day, *used) = (Some(at), 0);
            }
            *used += 1;
            assert!(*used <= self.total, "the token of bot {bot} is lost");
            self.identified += 1;
        }
    }

    /// Killed, and started again a moment later. Who waited asks again; who had a permit uses it.
    fn restart(&mut self) {
        self.now += self.rng.duration(Duration::ZERO, secs(3));
        // Nobody is there to be told.
        self.events.retain(|(.., event)| matches!(event, Event::Identify));
        let late: Vec<(Instant, u64, Event)> = std::mem::take(&mut self.events);
        for (at, ticket, _) in late {
            let client = self.clients[&ticket].clone();
            // A permit that is old by now is not used: its connection is gone.
            if at <= self.now {
                self.travel(at, &client);
            }
        }
        self.settle();
        self.gates = gates(self.now);
        let waiting = std::mem::take(&mut self.waiting);
        let clients = std::mem::take(&mut self.clients);
        for ticket in waiting.into_keys() {
            let client = &clients[&ticket];
            self.recall(client.bot);
            self.clients.insert(ticket, client.clone());
            self.waiting.insert(ticket, (client.bot, client.shard_id));
            let ask = Ask {
                total: Some(self.total),
                feedback: client.feedback,
                ..ask(Some(KEYS[client.bot]), client.shard_id, self.max_concurrency[client.bot])
            };
            self.gates.request(self.now, ticket, &ask).unwrap();
        }
        self.drain();
    }

    fn run(&mut self) -> u64 {
        let mut asking = 20 + self.rng.below(60);
        let mut restarts = self.rng.below(4);
        let end = self.now + secs(600 + self.rng.below(2) * 30 * 3600);
        while self.now < end || !self.waiting.is_empty() {
            if asking > 0 && self.rng.chance(2, 3) {
                asking -= 1;
                self.ask();
            }
            if self.rng.chance(1, 15) && !self.waiting.is_empty() {
                let at = self.rng.below(self.waiting.len() as u64) as usize;
                let gone = *self.waiting.keys().nth(at).unwrap();
                self.waiting.remove(&gone);
                self.clients.remove(&gone);
                self.gates.cancel(self.now, gone);
                self.drain();
            }
            if restarts > 0 && self.rng.chance(1, 40) {
                restarts -= 1;
                self.restart();
            }
            self.happen();
            self.settle();
            self.gates.handle_deadline(self.now);
            self.drain();
            assert_eq!(self.gates.waiting(), self.waiting.len());
            let due =
                self.gates.poll_timeout().into_iter().chain(self.events.iter().map(|&(at, ..)| at)).min();
            assert!(due.is_some() || self.waiting.is_empty(), "somebody waits for nothing");
            let pause = self.rng.duration(ms(1), secs(if asking > 0 { 4 } else { 4000 }));
            let step = self.now + pause;
            self.now = due.map_or(step, |at| at.min(step)).max(self.now + ms(1));
        }
        self.now += secs(1);
        self.settle();
        self.identified
    }
}

#[test]
fn bots_at_one_service() {
    let read = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let seeds = match read("RATEWAY_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..read("RATEWAY_SEEDS").unwrap_or(2000),
    };
    let mut identified = 0;
    for seed in seeds.clone() {
        match std::panic::catch_unwind(|| World::new(seed).run()) {
            Ok(count) => identified += count,
            Err(panic) => {
                eprintln!("replay with RATEWAY_SEED={seed}");
                std::panic::resume_unwind(panic);
            }
        }
    }
    assert!(identified > 10 * (seeds.end - seeds.start), "a world in which nothing happens shows nothing");
}

#[test]
fn discord_opens_the_own_gate() {
    let t = start();
    let mut machine = Machine::new(Gates::options(&SETTINGS, None, None), t);
    machine.set_closed(t, true);
    let mut gates = Gates::new(SETTINGS, machine, None, true, t);
    gates.request(t, 1, &ask(None, 17, 1)).unwrap();
    assert!(granted(&mut gates).is_empty() && gates.poll_timeout().is_none());
    let limit = SessionStartLimit { total: 1000, remaining: 5, reset_after: secs(60), max_concurrency: 16 };
    gates.refresh(t + secs(1), t, &limit);
    assert_eq!((granted(&mut gates), gates.own().max_concurrency()), (vec![1], 16));
}
