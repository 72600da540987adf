//! What a broker does to its clients: it restarts, throws everybody out, takes no publishes for a while. These tests stop
//! or block the whole broker, so they are a binary of their own, and one at a time.

mod support;

use parking_lot::{Mutex, MutexGuard};
use rateway::sim::Fault;

use support::{Message, Setup, Stage, eval, let_pass, rabbitmqctl, wait_for, wait_until};

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Leaves the broker as it was, also when a test fails.
struct Whole(#[expect(dead_code, reason = "held")] MutexGuard<'static, ()>);

impl Whole {
    fn new() -> Whole {
        Whole(ONE_AT_A_TIME.lock())
    }
}

impl Drop for Whole {
    fn drop(&mut self) {
        if std::thread::panicking() {
            rabbitmqctl(&["start_app"]);
            rabbitmqctl(&["set_vm_memory_high_watermark", "0.4"]);
        }
        set_message_size(MESSAGE_SIZE_DEFAULT);
    }
}

/// RabbitMQ's own.
const MESSAGE_SIZE_DEFAULT: u32 = 128 << 20;

/// The largest message that channels take which are opened from now on.
fn set_message_size(bytes: u32) {
    eval(&format!("application:set_env(rabbit, max_message_size, {bytes})."));
}

fn dispatches(stage: &Stage) -> u64 {
    stage.sim.act(|discord, _| discord.ledger().dispatches)
}

/// The broker restarts under load: every event reaches the worker's durable queue, in order, and one that comes twice
/// says so. Shards that lose their connection meanwhile, or begin anew, change nothing about that.
#[test]
fn a_restart_under_load_loses_nothing() {
    let _whole = Whole::new();
    let mut stage = Setup::new("restart", 4, 2)
        .discord(|discord| discord.heartbeat_interval = std::time::Duration::from_secs(2))
        .start();
    stage.set_rate(1500.0);
    stage.wait_dispatches(1500);
    rabbitmqctl(&["stop_app"]);
    // Both at once: a connection that ends while the broker is away resumes from what was confirmed.
    assert!(stage.sim.inject(Fault::Close { shard: 1, code: 4000 }));
    assert!(stage.sim.inject(Fault::Drop { shard: 2 }));
    let (now, acks) = (dispatches(&stage), stage.acks());
    stage.wait_dispatches(now + 4000);
    wait_until("heartbeats while the broker is away", || stage.acks() > acks);
    rabbitmqctl(&["start_app"]);
    stage.worker.wait_ready(2);
    let now = dispatches(&stage);
    stage.wait_dispatches(now + 1500);
    let repeats = stage.judge();
    let ledger = stage.sim.ledger();
    assert_eq!((ledger.sessions.len(), ledger.resumes), (4, 2), "only what was broken resumed");
    eprintln!("{} events, {repeats} of them twice", ledger.dispatches);
    assert!(stage.gateway.is_alive());
    // The incoming queue does not outlive a restart, as the contract has it: it stands again.
    let body = br#"{"op":4,"d":{"guild_id":"1","channel_id":null,"mark":"after"}}"#;
    stage.worker.command(2, &serde_json::json!({"shard_id": ["I", 3]}), body, Some("after"));
    assert_eq!(stage.worker.wait_answer("after").text(), r#"{"ok":true}"#);
}

/// The broker closes every connection: rateway comes back by itself and repeats what was not confirmed.
#[test]
fn closed_connections_are_made_anew() {
    let _whole = Whole::new();
    let stage = Setup::new("thrown", 3, 1).start();
    stage.set_rate(2000.0);
    for round in 1..=2 {
        stage.wait_dispatches(2000 * round);
        let before = stage.gateway.count("publishing to");
        rabbitmqctl(&["close_all_connections", "-p", &stage.vhost.name, "thrown out by a test"]);
        wait_until("all three clusters' return", || stage.gateway.count("publishing to") >= before + 3);
    }
    stage.judge();
    assert_eq!(stage.sim.ledger().connections, 3, "the shards did not notice");
    assert!(stage.gateway.count("thrown out by a test") > 0, "the broker's reason was told");
}

/// The broker takes no publishes (its memory alarm). rateway keeps what its outbox holds, then no longer reads; heartbeats
/// go on, memory stays where it is, and when the broker is well again everything arrives in order.
#[test]
fn a_blocked_broker_stops_reading_not_heartbeats() {
    let _whole = Whole::new();
    let mut stage = Setup::new("blocked", 4, 2)
        .env("OUTBOX_MEMORY", "1MiB")
        // What the kernel's buffers hold is bytes: as they are, some megabytes per shard fill them.
        .env("COMPRESSION", "none")
        .discord(|discord| discord.heartbeat_interval = std::time::Duration::from_secs(1))
        .start();
    stage.set_rate(500.0);
    stage.wait_dispatches(500);
    rabbitmqctl(&["set_vm_memory_high_watermark", "0"]);
    // Broad events, so that socket buffers and outbox fill soon.
    stage.set_rate(4000.0);
    stage.gateway.wait_line("the broker takes no publishes");
    wait_until("both clusters to stop reading", || stage.gateway.count("reading is stopped") >= 2);
    // From here on the stand-in's bytes pile up with it: fill what the sockets hold, then watch.
    let long = format!(r#"{{"long":"{}"}}"#, "x".repeat(500_000));
    for _ in 0..30 {
        for shard in 0..4 {
            stage.emit(shard, "SOMETHING_NEW_CREATE", &long);
        }
    }
    let_pass(2.0);
    let (frames, resident, acks) = (stage.sim.sent().0, stage.gateway.resident_kib(), stage.acks());
    let made = dispatches(&stage);
    wait_until("heartbeats of four shards, while nothing is read", || stage.acks() >= acks + 4 * 5);
    assert!(dispatches(&stage) > made, "events go on being made");
    let (frames_after, resident_after) = (stage.sim.sent().0, stage.gateway.resident_kib());
    assert!(
        frames_after - frames < (dispatches(&stage) - made) / 10,
        "events are still read: {} of {}",
        frames_after - frames,
        dispatches(&stage) - made
    );
    assert!(resident_after < resident + 8 * 1024, "memory grew from {resident} to {resident_after} KiB");
    assert!(resident_after < 128 * 1024, "{resident_after} KiB resident");
    rabbitmqctl(&["set_vm_memory_high_watermark", "0.4"]);
    stage.gateway.wait_line("the broker takes publishes again");
    assert_eq!(stage.judge(), 0, "nothing had to be repeated");
    let ledger = stage.sim.ledger();
    assert_eq!((ledger.connections, ledger.sessions.len()), (4, 4), "no shard was lost");
    assert!(stage.gateway.is_alive());
}

/// A message that the broker will never take: it alone is lost, which is told; everything around it arrives, in order.
#[test]
fn an_event_above_the_brokers_limit_stops_nothing_but_itself() {
    let _whole = Whole::new();
    set_message_size(100_000);
    let stage = Setup::new("large", 2, 2).start();
    stage.set_rate(1000.0);
    stage.wait_dispatches(500);
    let large = format!(r#"{{"long":"{}"}}"#, "x".repeat(150_000));
    let lost = stage.emit(1, "SOMETHING_NEW_CREATE", &large);
    let now = dispatches(&stage);
    stage.wait_dispatches(now + 1000);
    stage.set_rate(0.0);
    let all = dispatches(&stage);
    wait_for("all events but one", || {
        let arrived = stage.worker.unique_events() as u64;
        if arrived == all - 1 { Ok(()) } else { Err(format!("{arrived} of {all}")) }
    });
    for shard in 0..2 {
        let events = stage.worker.find(|message| message.is_event() && message.shard_id() == shard);
        let mut seqs: Vec<u64> = events.iter().map(Message::seq).collect();
        let mut seen = std::collections::HashSet::new();
        seqs.retain(|&seq| seen.insert(seq));
        let last = *seqs.last().expect("events");
        let wanted = (1..=last).filter(|&seq| shard != 1 || seq != lost);
        assert!(seqs.iter().copied().eq(wanted), "shard {shard}: a hole or a disorder");
    }
    let gap =
        wait_for("the announcement", || stage.worker.find(|message| message.key == "RATEWAY_GAP").pop());
    let gap: serde_json::Value = serde_json::from_slice(&gap.body).expect("JSON");
    assert_eq!(gap["shard_id"], 1, "{gap}");
    assert!(gap["reason"].as_str().is_some_and(|reason| reason.contains(&lost.to_string())), "{gap}");
    stage.assert_well_behaved();
    assert_eq!(stage.sim.ledger().connections, 2, "the shards did not notice");
}
