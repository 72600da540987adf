//! Events: all of them, byte for byte, in order, each on its cluster's exchange.

use rateway::sim::{Fault, Ledger};
use serde_json::{Value, json};

use crate::support::{Message, Setup, Stage, judge, let_pass, wait_until};

/// Shards that an event of the test's own tells apart, and enough generated ones to fill frames and batches.
fn play(stage: &Stage) {
    stage.set_rate(2000.0);
    stage.wait_dispatches(1000);
    for shard in 0..stage.shards {
        assert!(stage.sim.inject(Fault::UnknownEvent { shard }));
        // Bytes that anybody who parses and prints again would change: order, spacing, escapes, a lone surrogate, a
        // number that is no double; and a body beyond one AMQP frame (131072 bytes).
        let d = format!(
            r#"{{ "b" : 1.10, "a":"\u00e9\/\ud83d", "n":123456789012345678901234567890, "long":"{}" }}"#,
            "ä".repeat(100_000)
        );
        stage.emit(shard, "SOMETHING_NEW_CREATE", &d);
    }
    stage.wait_dispatches(3000);
}

fn arrive_whole(setup: Setup) -> (Ledger, Vec<Message>) {
    let stage = setup.start();
    play(&stage);
    assert_eq!(stage.judge(), 0, "repeats without a fault");
    let (ledger, messages) = stage.settle();
    assert!(messages.iter().all(|message| message.header("repeat").is_none()), "`repeat` without a fault");
    assert_eq!(
        (ledger.connections, ledger.resumes),
        (u64::from(stage.shards), 0),
        "one connection per shard"
    );
    (ledger, messages)
}

#[test]
fn zlib_stream_five_shards_in_three_clusters() {
    let (ledger, messages) = arrive_whole(Setup::new("zlib", 5, 2));
    let names = ["READY", "GUILD_CREATE", "MESSAGE_CREATE", "SOMETHING_NEW_CREATE", "GUILD_NOVELTY_UPDATE"];
    for name in names {
        assert!(messages.iter().any(|message| message.key == name), "no {name} among what was judged");
    }
    assert!(ledger.dispatches >= 3000);
}

#[test]
fn zlib_messages_in_several_pieces() {
    arrive_whole(Setup::new("split", 2, 8).sim(|sim| sim.split = true).env("COMPRESSION", "zlib"));
}

#[test]
fn zstd_stream() {
    arrive_whole(Setup::new("zstd", 3, 2).env("COMPRESSION", "zstd"));
}

#[test]
fn no_compression_and_one_thread() {
    arrive_whole(Setup::new("plain", 3, 2).env("COMPRESSION", "none").env("THREADS", "1"));
}

#[test]
fn ready_comes_whole_when_asked_for() {
    let stage = Setup::new("ready", 2, 2).env("READY_SECRETS", "true").start();
    let (ledger, messages) = stage.settle();
    assert_eq!(judge(&ledger, &messages, 2, None), 0);
    let ready = messages.iter().find(|message| message.key == "READY").expect("a READY");
    assert!(ready.text().contains(&*ledger.sessions[&1].session_id) || ready.shard_id() != 0);
}

/// Whatever ends a connection: the session goes on, and nothing is lost, doubled or out of order.
#[test]
fn resumed_sessions_lose_nothing() {
    let stage = Setup::new("resume", 6, 3).start();
    stage.set_rate(1500.0);
    stage.wait_dispatches(500);
    let faults = [
        Fault::Op7 { shard: 0 },
        Fault::Op9 { shard: 1, resumable: true },
        Fault::Close { shard: 2, code: 4000 },
        Fault::Drop { shard: 3 },
        Fault::Close { shard: 4, code: 1001 },
    ];
    for fault in faults {
        assert!(stage.sim.inject(fault.clone()), "{fault:?}");
    }
    wait_until("five resumes", || stage.sim.act(|discord, _| discord.ledger().resumes) == 5);
    let now = stage.sim.act(|discord, _| discord.ledger().dispatches);
    stage.wait_dispatches(now + 1000);
    stage.judge();
    let sessions = stage.sim.ledger().sessions;
    assert_eq!(sessions.len(), 6, "no shard identified again");
    let untouched = sessions.values().find(|session| session.shard_id == 5).expect("shard 5");
    assert_eq!(untouched.resumes, 0);
}

/// A session that Discord gave up is begun anew; what came before and after is all there.
#[test]
fn an_invalid_session_is_begun_anew() {
    let stage = Setup::new("renew", 2, 2).start();
    stage.set_rate(200.0);
    stage.wait_dispatches(100);
    // The worker has everything so far; what Discord makes for a session that it forgot is lost by Discord.
    stage.settle();
    assert!(stage.sim.inject(Fault::Op9 { shard: 1, resumable: false }));
    wait_until("a new session", || stage.sim.ledger().sessions.len() == 3);
    stage.set_rate(200.0);
    let now = stage.sim.act(|discord, _| discord.ledger().dispatches);
    stage.wait_dispatches(now + 50);
    stage.judge();
    // The loss was told: to the operator, and to the workers of that cluster.
    stage.gateway.wait_line("starts a new session");
    let ledger = stage.sim.ledger();
    let lost = ledger.sessions.values().find(|session| session.end.is_some()).expect("an ended session");
    let gap = stage.worker.find(|message| message.key == "RATEWAY_GAP").pop().expect("judged");
    let told: Value = serde_json::from_slice(&gap.body).expect("JSON");
    assert_eq!((&told["shard_id"], &told["last_seq"]), (&json!(1), &json!(lost.last_seq)));
    let (from, until) =
        (told["from_ms"].as_u64().expect("a time"), told["until_ms"].as_u64().expect("a time"));
    assert!(from < until && until - from < 60_000, "{told}");
    assert!(told["reason"].as_str().is_some_and(|reason| reason.contains("invalidated")), "{told}");
}

/// Heartbeats go on and are answered while nothing else happens; the connection is not taken for dead.
#[test]
fn quiet_shards_stay_up() {
    let stage = Setup::new("quiet", 2, 2)
        .discord(|discord| discord.heartbeat_interval = std::time::Duration::from_secs(1))
        .start();
    wait_until("heartbeats", || stage.acks() >= 8);
    stage.judge();
    assert_eq!(stage.sim.ledger().connections, 2);
}

/// A peer that no longer answers is left, and the session taken up on a new connection.
#[test]
fn a_silent_connection_is_replaced() {
    let stage = Setup::new("zombie", 2, 2)
        .discord(|discord| discord.heartbeat_interval = std::time::Duration::from_secs(1))
        .start();
    wait_until("heartbeats", || stage.acks() >= 2);
    assert!(stage.sim.inject(Fault::StopSending { shard: 0 }));
    stage.emit(0, "MESSAGE_CREATE", r#"{"content":"into the silence"}"#);
    wait_until("a resume", || stage.sim.act(|discord, _| discord.ledger().resumes) == 1);
    let (ledger, messages) = stage.settle();
    judge(&ledger, &messages, 2, Some(&stage.gateway_url()));
    let_pass(0.5);
    assert_eq!(stage.sim.ledger().sessions.len(), 2, "nobody identified again");
}

/// What nobody wants is not published, is cached all the same, and does not hold the session back: the next process
/// resumes behind it.
#[test]
fn only_the_events_that_are_wanted() {
    let state = std::env::temp_dir().join(format!("rateway-filter-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&state);
    let mut stage = Setup::new("filter", 2, 2)
        .env("STATE_DIR", &state.display().to_string())
        .env("CACHE_MEMORY", "8MiB")
        .env("EVENTS", "READY,MESSAGE_CREATE,PRESENCE_UPDATE")
        .env("EVENTS_EXCLUDE", "PRESENCE_UPDATE")
        .start();
    stage.set_rate(2000.0);
    stage.wait_dispatches(2000);
    // The last thing that happens is of no interest to anybody.
    stage.set_rate(0.0);
    for shard in 0..2 {
        let guild = (u64::from(shard) + 2) << 22;
        stage.emit(shard, "GUILD_CREATE", &format!(r#"{{"id":"{guild}","name":"cached"}}"#));
    }
    let of_interest = |ledger: &Ledger| {
        let wanted = |event: &str| ["READY", "MESSAGE_CREATE"].contains(&event);
        ledger.dispatch_log.iter().filter(|dispatch| wanted(&dispatch.event)).count()
    };
    wait_until("what is wanted", || stage.worker.unique_events() >= of_interest(&stage.sim.ledger()));
    let query = br#"{"type":"Guild","arguments":["8388608"],"return_routing_key":"cache-answer"}"#;
    wait_until("the cache", || {
        let mark = format!("cached-{}", stage.worker.count(|_| true));
        stage.worker.query(1, query, Some(&mark));
        stage.worker.wait_answer(&mark).text().contains("cached")
    });
    assert_eq!(stage.gateway.stop(), 0);
    stage.restart();
    stage.wait_up();
    wait_until("both are resumed", || stage.sim.ledger().resumes == 2);
    let_pass(0.3);
    let ledger = stage.sim.ledger();
    assert_eq!((ledger.replayed, ledger.identifies.len()), (0, 2), "events came again that nobody wants");
    let arrived = stage.worker.find(Message::is_event);
    assert_eq!(arrived.len(), of_interest(&ledger));
    assert!(arrived.iter().all(|message| ["READY", "MESSAGE_CREATE"].contains(&message.key.as_str())));
    let _ = std::fs::remove_dir_all(&state);
}
