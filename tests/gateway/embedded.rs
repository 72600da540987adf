//! Without RabbitMQ: the broker within the process, and `rateway broker` as a process of its own.

use crate::support::{Gateway, KEYS, Setup, Worker, dead_port, let_pass, wait_until};

#[test]
fn without_an_amqp_uri_workers_come_to_rateway_itself() {
    let address = format!("127.0.0.1:{}", dead_port());
    let mut prepared = Setup::new("embedded", 4, 2).without_worker_queues().prepare();
    prepared.unset("AMQP_URI");
    let mut stage = prepared.env("BROKER_ADDR", &address).start();
    let line = stage.gateway.wait_line("the broker of this process listens");
    assert!(line.contains(&address), "{line}");
    stage.wait_up();
    let uri = format!("amqp://guest:guest@{address}/");
    stage.worker = Worker::start_for(&uri, None, &[1, 2], KEYS);
    // What was published before there was a queue is nobody's.
    let before: Vec<u64> = {
        let ledger = stage.sim.ledger();
        (0..4).map(|shard| ledger.dispatches_of(shard).count() as u64).collect()
    };
    stage.set_rate(3000.0);
    let sent = stage.sim.ledger().dispatches;
    stage.wait_dispatches(sent + 5000);
    stage.set_rate(0.0);
    let wanted = stage.sim.ledger().dispatches - before.iter().sum::<u64>();
    wait_until("all events", || stage.worker.unique_events() as u64 == wanted);
    let messages = stage.worker.find(|message| message.is_event());
    assert_eq!(messages.len() as u64, wanted, "nothing came twice");
    for shard in 0..4 {
        let seqs = messages.iter().filter(|message| message.shard_id() == shard).map(|message| message.seq());
        assert!(seqs.is_sorted(), "the order of shard {shard}");
    }
    // The way back.
    let body = br#"{"op":3,"d":{"since":null,"activities":[],"status":"idle","afk":false}}"#;
    stage.worker.command(1, &serde_json::json!({"shard_id": ["I", 0]}), body, Some("idle"));
    assert_eq!(stage.worker.wait_answer("idle").text(), r#"{"ok":true}"#);
    let query = br#"{"type":"Stats","arguments":[],"return_routing_key":"cache-answer"}"#;
    stage.worker.query(2, query, Some("stats"));
    assert!(stage.worker.wait_answer("stats").text().contains("guilds"));
    assert_eq!(stage.gateway.stop(), 0);
}

/// The broker is a process of its own, and is restarted under load: its messages are gone with it, those that the gateway
/// had no confirm for are not.
#[test]
fn a_broker_of_its_own_carries_everything_and_may_restart() {
    let address = format!("127.0.0.1:{}", dead_port());
    let variables = [("BROKER_ADDR", address.as_str()), ("BROKER_USERS", "worker:hush-hush")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
    let mut broker = Gateway::start(&variables, &["broker"]);
    broker.secrets.push("hush-hush".to_owned());
    broker.wait_line("the broker listens");
    let uri = format!("amqp://worker:hush-hush@{address}/");
    let mut prepared = Setup::new("broker", 4, 2).without_worker_queues().prepare();
    prepared.worker = Worker::start_for(&uri, None, &[1, 2], KEYS);
    let stage = prepared.env("AMQP_URI", &uri).start();
    stage.wait_up();
    stage.set_rate(5000.0);
    let sent = stage.sim.ledger().dispatches;
    stage.wait_dispatches(sent + 20_000);
    assert_eq!(stage.judge(), 0, "repeats without a fault");
    // Nothing is in its queues now.
    assert_eq!(broker.stop(), 0);
    stage.set_rate(500.0);
    let_pass(0.5);
    let broker = Gateway::start(&variables, &["broker"]);
    broker.wait_line("the broker listens");
    stage.worker.wait_ready(2);
    stage.wait_dispatches(sent + 21_000);
    assert!(stage.worker.unique_events() > 20_000);
}
