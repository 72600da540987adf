//! What stands in the broker: exactly what workers of the original rely on.

use serde_json::{Value, json};

use crate::support::Setup;

fn sorted(mut rows: Vec<Value>) -> Vec<Value> {
    rows.sort_by_key(Value::to_string);
    rows
}

#[test]
fn exchanges_queues_and_bindings_are_those_of_the_contract() {
    // A worker that declares nothing: what is there is rateway's.
    let stage = Setup::new("topology", 3, 2).without_worker_queues().start();
    let exchanges = stage
        .vhost
        .list("list_exchanges", &["name", "type", "durable", "auto_delete", "internal", "arguments"]);
    let ours =
        exchanges.into_iter().filter(|row| row["name"].as_str().is_some_and(|n| n.starts_with("rateway")));
    let exchange = |name| json!({"name": name, "type": "direct", "durable": true, "auto_delete": false, "internal": false, "arguments": []});
    let ours: Vec<Value> = ours.map(plain_arguments).collect();
    assert_eq!(sorted(ours), sorted(vec![exchange("rateway-1"), exchange("rateway-2")]));

    let queues =
        stage.vhost.list("list_queues", &["name", "durable", "exclusive", "auto_delete", "arguments"]);
    let ours =
        queues.into_iter().filter(|row| row["name"].as_str().is_some_and(|n| n.starts_with("rateway")));
    let queue = |name| json!({"name": name, "durable": false, "exclusive": false, "auto_delete": false, "arguments": []});
    let ours: Vec<Value> = ours.map(plain_arguments).collect();
    assert_eq!(sorted(ours), sorted(vec![queue("rateway-incoming-1"), queue("rateway-incoming-2")]));

    let bindings = stage.vhost.list(
        "list_bindings",
        &["source_name", "destination_name", "destination_kind", "routing_key", "arguments"],
    );
    // Every queue is bound to the default exchange by its name: that is the broker's doing.
    let ours = bindings.into_iter().filter(|row| row["source_name"] != "");
    let binding = |number: u32, key| {
        json!({
            "source_name": format!("rateway-{number}"), "destination_name": format!("rateway-incoming-{number}"),
            "destination_kind": "queue", "routing_key": key, "arguments": []
        })
    };
    let wanted = [(1, "cache"), (1, "gateway"), (2, "cache"), (2, "gateway")];
    let ours: Vec<Value> = ours.map(plain_arguments).collect();
    assert_eq!(sorted(ours), sorted(wanted.map(|(number, key)| binding(number, key)).into()));
}

/// rabbitmqctl prints an empty table as a list or as an object, by version.
fn plain_arguments(mut row: Value) -> Value {
    if row["arguments"] == json!({}) || row["arguments"] == "" {
        row["arguments"] = json!([]);
    }
    row
}

/// Somebody's queue of the same name with other flags is used as it is: commands come through it.
#[test]
fn a_queue_that_exists_with_other_flags_is_used_as_it_is() {
    let mut prepared = Setup::new("flags", 1, 1).prepare();
    prepared.worker.declare("rateway-incoming-1", true, &json!({"x-max-length": 1000}));
    let mut stage = prepared.start();
    stage.wait_up();
    stage.judge();
    let body = br#"{"op":4,"d":{"guild_id":"1","channel_id":null,"flags":"other"}}"#;
    stage.worker.command(1, &json!({"shard_id": ["I", 0]}), body, Some("c"));
    assert_eq!(stage.worker.wait_answer("c").text(), r#"{"ok":true}"#);
    stage.wait_command(0, 4, "other");
    let queues = stage.vhost.list("list_queues", &["name", "durable"]);
    assert!(queues.contains(&json!({"name": "rateway-incoming-1", "durable": true})), "{queues:?}");
}

/// So is an exchange: a topic exchange, say, carries the same keys. It is told, as workers may see the difference.
#[test]
fn an_exchange_of_another_type_is_used_as_it_is_and_reported() {
    let prepared = Setup::new("type", 1, 1).without_worker_queues().prepare();
    crate::support::eval(&format!(
        "rabbit_exchange:declare(rabbit_misc:r(<<\"{}\">>, exchange, <<\"rateway-1\">>), topic, true, false, false, [], \
         <<\"test\">>).",
        prepared.vhost.name
    ));
    let mut stage = prepared.start();
    let line = stage.gateway.wait_line("PRECONDITION_FAILED");
    assert!(line.contains("rateway-1") && line.contains("WARN"), "{line}");
    stage.wait_up();
    let body = br#"{"op":4,"d":{"guild_id":"1","channel_id":null,"by":"topic"}}"#;
    stage.worker.command(1, &json!({"shard_id": ["I", 0]}), body, Some("c"));
    assert_eq!(stage.worker.wait_answer("c").text(), r#"{"ok":true}"#);
    stage.wait_command(0, 4, "topic");
}
