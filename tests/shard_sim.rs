//! The gateway without sockets: shard machines, identify queue, flow and publisher against the Discord stand-in over a
//! seeded network that fails, and against brokers and disks that fail, in virtual time. The process itself dies between
//! any two steps and within calls to its disks, or is stopped, and another one goes on with what it left.
//!
//! ```text
//! sim::Discord <-- network --> Shard, flow::accept --> Publisher <-- wire --> broker (amq-protocol reads)
//!                                 queue::Machine           |
//!                                       |             spool on a disk      file of sessions
//!                                    snapshot
//! ```
//!
//! A seed rules everything: sizes, limits, which kinds of trouble there are, when they come, and the order in which
//! shards run. Left out: the cache and its file, a folder that stays closed to a process that goes on without it, and
//! power cuts that take what the system has not brought to the disk. Kept books (`audit`) say what has to hold. The layers below payloads (TLS, WebSocket, inflate, AMQP's
//! connection machine) have tests of their own.
//!
//! `cargo test --test shard_sim` runs the seeds from 0 on. `RATEWAY_SEEDS=20000` runs more, `RATEWAY_SEEDS=5000..9000`
//! others, `RATEWAY_SEED=7` one, `RATEWAY_TRACE=1` with it tells its story.

#[path = "shard_sim/audit.rs"]
mod audit;
#[path = "shard_sim/broker.rs"]
mod broker;
#[path = "shard_sim/chaos.rs"]
mod chaos;
#[path = "shard_sim/clusters.rs"]
mod clusters;
#[path = "shard_sim/connections.rs"]
mod connections;
#[path = "shard_sim/disk.rs"]
mod disk;
#[path = "shard_sim/network.rs"]
mod network;
#[path = "shard_sim/plan.rs"]
mod plan;
#[path = "shard_sim/process.rs"]
mod process;
#[path = "shard_sim/shards.rs"]
mod shards;
#[path = "shard_sim/world.rs"]
mod world;

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rateway::gateway::shard::State;

use plan::Plan;
use world::World;

/// How many seeds run by default: some 20 s of CPU.
const SEEDS: u64 = 4000;

/// After so many failed seeds no further one is begun.
const FAILURES_MAX: usize = 10;

/// The longest that may pass from the end of the trouble to rest: days for session starts that are used
/// up, and the longest waits of a shard that failed all the time.
const REST_WITHIN: Duration = Duration::from_secs(80 * 3600);

/// And a day for each process that came after the first, as each may have used up the session starts.
const DAY: Duration = Duration::from_secs(25 * 3600);

#[allow(clippy::disallowed_methods)] // A starting point for arithmetic; nothing depends on its value.
fn start() -> Instant {
    Instant::now()
}

fn seeds() -> Range<u64> {
    let number = |text: &str| text.parse::<u64>().unwrap_or_else(|_| panic!("{text} is no number"));
    if let Ok(seed) = std::env::var("RATEWAY_SEED") {
        let seed = number(&seed);
        return seed..seed + 1;
    }
    match std::env::var("RATEWAY_SEEDS") {
        Err(_) => 0..SEEDS,
        Ok(text) => match text.split_once("..") {
            Some((from, to)) => number(from)..number(to),
            None => 0..number(&text),
        },
    }
}

/// What a run has met, so that a simulation that meets nothing does not pass for a good one.
#[derive(Debug, Default)]
struct Met {
    events: AtomicU64,
    repeats: AtomicU64,
    refused: AtomicU64,
    losses: AtomicU64,
    resumes: AtomicU64,
    pauses: AtomicU64,
    heartbeats_paused: AtomicU64,
    commands: AtomicU64,
    kills: AtomicU64,
    stops: AtomicU64,
    put_away: AtomicU64,
    inherited: AtomicU64,
    overflows: AtomicU64,
    disk_refusals: AtomicU64,
    shed: AtomicU64,
    gaps: AtomicU64,
    untold: AtomicU64,
    steps: AtomicU64,
}

fn run(plan: Plan, met: &Met, tracing: bool) {
    let start = start();
    let trouble_ends = start + plan.trouble;
    let stop_early = plan.stop_early;
    let mut world = World::new(plan, start, tracing);
    world.begin_trouble();
    let stop_at =
        if stop_early { start + world.plan.trouble.mul_f64(world.rng.unit()) } else { trouble_ends };
    while world.step(stop_at) {}
    if stop_early {
        world.begin_stop(true);
        while world.step(trouble_ends) {}
    }
    world.calm_down();
    let deadline = world.now + REST_WITHIN + DAY * (world.process - 1);
    if !stop_early {
        for round in 0..2 {
            while !world.is_settled() {
                let goes_on = world.step(deadline);
                assert!(goes_on, "no rest: {}", world.unrest());
            }
            if round == 0 {
                // One more event for each: they are not only connected, they work.
                for shard in 0..world.plan.shards {
                    let seq = world.discord.emit(
                        world.now,
                        shard,
                        "MESSAGE_CREATE",
                        r#"{"content":"still there?"}"#,
                    );
                    assert!(seq.is_some());
                }
                world.discord_acted();
            }
        }
        world.begin_stop(true);
    }
    let deadline = world.now + Duration::from_secs(600);
    let rests = |world: &World| {
        world.shards.iter().all(|slot| slot.stopped)
            && world.clusters.iter().all(|cluster| cluster.publisher.is_settled())
    };
    while !rests(&world) {
        // Where the one that was told is no more.
        world.begin_stop(true);
        let goes_on = world.step(deadline) || rests(&world);
        assert!(goes_on, "shards that do not stop, or events that nobody takes: {}", world.unrest());
    }
    world.audit.shed += world.clusters.iter().map(|cluster| cluster.shed()).sum::<u64>();
    let ledger = world.discord.ledger();
    world.audit.close(&world.plan, ledger);
    assert!(
        !ledger.client_closes.contains_key(&Some(1000)) && !ledger.client_closes.contains_key(&Some(1001))
    );
    if !stop_early {
        // Each has a session to hand over, confirmed to its end.
        let handed_over = |slot: &world::Slot| {
            slot.shard.session().is_some_and(|session| session.confirmed() == Some(session.received()))
        };
        assert!(world.shards.iter().all(handed_over));
    }
    let add = |counter: &AtomicU64, count: u64| {
        // Ordering: figures for a person, read after the threads have been joined.
        counter.fetch_add(count, Ordering::Relaxed);
    };
    add(&met.events, world.audit.events());
    add(&met.repeats, world.audit.repeats);
    add(&met.refused, world.audit.refused);
    add(&met.losses, world.audit.losses);
    add(&met.resumes, world.resumed);
    add(&met.pauses, world.clusters.iter().map(|cluster| cluster.paused_times).sum());
    add(&met.heartbeats_paused, world.heartbeats_paused);
    add(&met.commands, world.audit.commands() as u64);
    let publishers = || world.clusters.iter().map(|cluster| &cluster.publisher);
    add(&met.kills, world.kills);
    add(&met.stops, world.stops);
    add(&met.put_away, world.put_away);
    add(&met.inherited, world.audit.inherited);
    add(&met.overflows, world.overflows + publishers().map(|publisher| publisher.overflows).sum::<u64>());
    add(
        &met.disk_refusals,
        world.disk_refusals + publishers().map(|publisher| publisher.refusals).sum::<u64>(),
    );
    add(&met.shed, world.audit.shed);
    add(&met.gaps, world.audit.gaps);
    add(&met.untold, world.audit.untold);
    add(&met.steps, world.steps);
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let (seed, steps) = (self.plan.seed, self.steps);
            let elapsed = self.elapsed();
            eprintln!(
                "seed {seed} failed at step {steps}, {elapsed:?} after its start; \
                 see it with RATEWAY_SEED={seed} RATEWAY_TRACE=1"
            );
        }
    }
}

#[test]
fn whatever_happens_nothing_is_lost_and_no_limit_is_broken() {
    let (seeds, tracing) = (seeds(), std::env::var_os("RATEWAY_TRACE").is_some());
    let met = Met::default();
    let failed = Mutex::new(Vec::new());
    let next = AtomicU64::new(seeds.start);
    let threads = std::thread::available_parallelism().map_or(1, |count| count.get());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    // Ordering: each seed is taken once; nothing else hangs on it.
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end
                        || failed.lock().expect("no panic while locked").len() >= FAILURES_MAX
                    {
                        return;
                    }
                    // One failure may hide another: the rest is told too.
                    let outcome = catch_unwind(AssertUnwindSafe(|| run(Plan::new(seed), &met, tracing)));
                    if outcome.is_err() {
                        failed.lock().expect("no panic while locked").push(seed);
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().expect("no panic while locked");
    assert!(failed.is_empty(), "seeds that failed: {failed:?}");
    println!("{met:?}");
    if seeds.end - seeds.start >= 500 {
        let all = [
            &met.events,
            &met.repeats,
            &met.refused,
            &met.losses,
            &met.resumes,
            &met.pauses,
            &met.heartbeats_paused,
            &met.commands,
            &met.kills,
            &met.stops,
            &met.put_away,
            &met.inherited,
            &met.overflows,
            &met.disk_refusals,
            &met.shed,
            &met.gaps,
        ];
        assert!(all.iter().all(|counter| counter.load(Ordering::Relaxed) > 100), "{met:?}");
    }
}

#[test]
fn five_hundred_shards_start_as_fast_as_the_limit_allows() {
    const SHARDS: u32 = 500;
    const MAX_CONCURRENCY: u32 = 16;
    let start = start();
    let mut world = World::new(Plan::start_up(SHARDS, MAX_CONCURRENCY), start, false);
    let limit = Duration::from_secs(5) * (SHARDS.div_ceil(MAX_CONCURRENCY) - 1);
    let deadline = start + limit.mul_f64(1.05);
    let active =
        |world: &World| world.shards.iter().filter(|slot| slot.shard.state() == State::Active).count() as u32;
    while active(&world) < SHARDS {
        assert!(world.step(deadline), "{} of {SHARDS} after {:?}", active(&world), world.elapsed());
    }
    println!("{SHARDS} shards after {:?}, the limit alone takes {limit:?}", world.elapsed());
    assert!(world.discord.ledger().violations.is_empty());
    assert_eq!(world.discord.ledger().readies, u64::from(SHARDS));
    assert!(world.elapsed() >= limit, "faster than allowed");
}
