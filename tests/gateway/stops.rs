//! Signals, and a broker that comes late.

use rateway::sim::SessionEnd;
use serde_json::Value;

use crate::support::{Forward, Setup, dead_port, let_pass, wait_until};

#[test]
fn sigterm_keeps_the_sessions_and_loses_nothing() {
    let mut stage = Setup::new("sigterm", 3, 2).env("LOG_FORMAT", "json").start();
    stage.set_rate(3000.0);
    stage.wait_dispatches(2000);
    assert_eq!(stage.gateway.stop(), 0, "exit status");
    stage.set_rate(0.0);
    let ledger = stage.sim.ledger();
    assert_eq!(ledger.client_closes.get(&Some(4000)), Some(&3), "{:?}", ledger.client_closes);
    assert!(ledger.sessions.values().all(|session| session.end.is_none()), "the sessions live");
    // What was read before the close is with the worker, without a hole; what came after waits for a resume.
    wait_until("the tail", || {
        let before = stage.worker.unique_events();
        let_pass(0.3);
        stage.worker.unique_events() == before
    });
    for shard in 0..3 {
        let seqs: Vec<u64> = stage
            .worker
            .find(|message| message.is_event() && message.shard_id() == shard)
            .iter()
            .map(crate::support::Message::seq)
            .collect();
        assert!(seqs.len() > 100, "shard {shard}: {} events", seqs.len());
        assert!(seqs.iter().copied().eq(1..=seqs.len() as u64), "shard {shard} has a hole or a repeat");
    }
    assert_eq!(stage.gateway.count("that the broker did not confirm"), 0);
    for line in stage.gateway.lines() {
        let line: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
        for key in ["time", "level", "target", "message"] {
            assert!(line[key].is_string(), "{line}");
        }
    }
}

#[test]
fn end_sessions_ends_them() {
    let mut stage = Setup::new("end", 2, 2).arg("--end-sessions").start();
    stage.settle();
    stage.gateway.signal(libc::SIGINT);
    assert_eq!(stage.gateway.wait(), 0);
    let ledger = stage.sim.ledger();
    assert_eq!(ledger.client_closes.get(&Some(1000)), Some(&2), "{:?}", ledger.client_closes);
    let ends: Vec<_> = ledger.sessions.values().map(|session| session.end).collect();
    assert_eq!(ends, [Some(SessionEnd::ClosedByClient); 2]);
    stage.judge();
}

/// A stop waits for the broker; a second signal does not.
#[test]
fn a_second_signal_ends_at_once() {
    let port = dead_port();
    let prepared = Setup::new("second", 1, 1).env("STOP_TIMEOUT_MS", "600000").prepare();
    let forward = Forward::start(port, &prepared.vhost.address());
    let uri = prepared.vhost.uri_at(port);
    let mut stage = prepared.env("AMQP_URI", &uri).start();
    stage.wait_up();
    stage.settle();
    // From here on the broker takes nothing, so that confirms are missing for ever.
    forward.freeze();
    stage.emit(0, "MESSAGE_CREATE", r#"{"content":"without a confirm"}"#);
    let_pass(0.5);
    stage.gateway.signal(libc::SIGTERM);
    stage.gateway.wait_line("stopping; a second signal stops at once");
    let_pass(0.5);
    assert!(stage.gateway.is_alive(), "it waits for the confirm");
    stage.gateway.signal(libc::SIGTERM);
    assert_eq!(stage.gateway.wait(), 1);
}

/// Shards connect when their exchange stands, not before: an event without an exchange would be lost.
#[test]
fn shards_wait_for_the_broker() {
    let port = dead_port();
    let prepared = Setup::new("late", 2, 2).prepare();
    let uri = prepared.vhost.uri_at(port);
    let address = prepared.vhost.address();
    let stage = prepared.env("AMQP_URI", &uri).start();
    stage.gateway.wait_line("trying again in");
    let_pass(1.0);
    assert_eq!(stage.sim.ledger().connections, 0, "no shard before the broker");
    assert_eq!(stage.sim.ledger().rest.get(&200), Some(&1));
    let _forward = Forward::start(port, &address);
    stage.wait_up();
    stage.judge();
}

/// A signal while nothing is up yet: the end comes at once and nobody was bothered.
#[test]
fn a_stop_before_anything_is_up() {
    let prepared = Setup::new("early", 2, 2).prepare();
    let uri = prepared.vhost.uri_at(dead_port());
    let mut stage = prepared.env("AMQP_URI", &uri).start();
    stage.gateway.wait_line("trying again in");
    assert_eq!(stage.gateway.stop(), 0);
    assert_eq!(stage.sim.ledger().connections, 0);
}
