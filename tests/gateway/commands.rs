//! Gateway commands of workers, by every way that a header can name a shard, and their limits.

use rateway::sim::hash;
use serde_json::{Value, json};

use crate::support::{Setup, Stage, let_pass, wait_until};

const OK: &str = r#"{"ok":true}"#;

/// A command that Discord takes without a word: leaving the voice channel of a guild that is not there.
fn harmless(mark: &str) -> Vec<u8> {
    format!(r#"{{"op":4,"d":{{"guild_id":"1","channel_id":null,"mark":"{mark}"}}}}"#).into_bytes()
}

fn refused(stage: &Stage, id: &str, reason: &str) {
    let answer: Value = serde_json::from_str(&stage.worker.wait_answer(id).text()).expect("JSON");
    assert_eq!(answer["ok"], false, "{id}: {answer}");
    let error = answer["error"].as_str().expect("an error in words");
    assert!(error.contains(reason), "{id}: {error}");
}

#[test]
fn every_integer_type_names_a_shard() {
    let mut stage = Setup::new("integers", 4, 2).start();
    for (kind, shard) in
        ["b", "B", "s", "u", "I", "i", "l", "L"].into_iter().zip([0, 1, 2, 3].into_iter().cycle())
    {
        let cluster = shard / 2 + 1;
        stage.worker.command(cluster, &json!({"shard_id": [kind, shard]}), &harmless(kind), Some(kind));
        assert_eq!(stage.worker.wait_answer(kind).text(), OK, "type {kind}");
        stage.wait_command(shard, 4, &format!(r#""mark":"{kind}""#));
    }
    stage.worker.command(2, &json!({"shard_id": ["S", "3"]}), &harmless("text"), Some("text"));
    assert_eq!(stage.worker.wait_answer("text").text(), OK);
    stage.wait_command(3, 4, "text");
    stage.judge();
}

#[test]
fn a_guild_names_its_shard() {
    let mut stage = Setup::new("guilds", 4, 2).start();
    let (_, messages) = stage.settle();
    for shard in 0..4 {
        let guild =
            messages.iter().find(|message| message.key == "GUILD_CREATE" && message.shard_id() == shard);
        let guild: Value = serde_json::from_slice(&guild.expect("a guild per shard").body).expect("JSON");
        let id = guild["id"].as_str().expect("an id");
        let (text, number) = (format!("text-{shard}"), format!("number-{shard}"));
        let cluster = shard / 2 + 1;
        stage.worker.command(cluster, &json!({"guild_id": ["S", id]}), &harmless(&text), Some(&text));
        let integer: i64 = id.parse().expect("a number");
        stage.worker.command(
            cluster,
            &json!({"guild_id": ["l", integer]}),
            &harmless(&number),
            Some(&number),
        );
        for id in [&text, &number] {
            assert_eq!(stage.worker.wait_answer(id).text(), OK);
            stage.wait_command(shard, 4, id);
        }
    }
    // To the cluster that does not have the guild's shard.
    let guild = messages.iter().find(|message| message.key == "GUILD_CREATE" && message.shard_id() == 3);
    let guild: Value = serde_json::from_slice(&guild.expect("a guild").body).expect("JSON");
    stage.worker.command(1, &json!({"guild_id": ["S", guild["id"]]}), &harmless("astray"), Some("astray"));
    refused(&stage, "astray", "not of this cluster");
    // What Discord answers to a command comes as events.
    let body = format!(r#"{{"op":8,"d":{{"guild_id":{},"query":"","limit":0}}}}"#, guild["id"]);
    stage.worker.command(2, &json!({"shard_id": ["I", 3]}), body.as_bytes(), None);
    wait_until("the chunk", || !stage.worker.find(|message| message.key == "GUILD_MEMBERS_CHUNK").is_empty());
    stage.judge();
}

/// Forwarded as it is: not one byte is changed on the way.
#[test]
fn the_payload_goes_out_as_it_came() {
    let mut stage = Setup::new("asis", 1, 1).start();
    let d = r#"{ "channel_id" :null,"guild_id":"1","z":1.50,"a":"\u00e9/\/" }"#;
    let body = format!(" {{\"d\":{d},\n\"op\": 4 }}");
    stage.worker.command(1, &json!({"shard_id": ["I", 0]}), body.as_bytes(), Some("c"));
    assert_eq!(stage.worker.wait_answer("c").text(), OK);
    // The ledger prints `d` anew from its parse, so that is what can be compared.
    let printed = serde_json::from_str::<Value>(d).expect("JSON").to_string();
    let seen = stage.wait_command(0, 4, "1.5");
    assert_eq!(hash(seen.as_bytes()), hash(printed.as_bytes()));
}

#[test]
fn what_cannot_be_done_is_refused_in_words_and_ends_nothing() {
    let mut stage = Setup::new("refused", 4, 2).start();
    let good = harmless("never");
    let large = format!(r#"{{"op":4,"d":{{"guild_id":"1","channel_id":null,"x":"{}"}}}}"#, "x".repeat(4096));
    let shard = json!({"shard_id": ["I", 0]});
    let cases: Vec<(&str, Value, &[u8], &str)> = vec![
        ("other", json!({"shard_id": ["I", 2]}), &good, "not of this cluster"),
        ("none", json!({}), &good, "neither a shard_id nor a guild_id"),
        ("minus", json!({"shard_id": ["I", -1]}), &good, "whole number from 0 up"),
        ("minus-long", json!({"shard_id": ["l", i64::MIN]}), &good, "whole number from 0 up"),
        ("words", json!({"shard_id": ["S", "first"]}), &good, "whole number from 0 up"),
        ("fraction", json!({"shard_id": ["S", "1.0"]}), &good, "whole number from 0 up"),
        ("bool", json!({"shard_id": ["t", true]}), &good, "whole number from 0 up"),
        ("table", json!({"shard_id": ["F", {}]}), &good, "whole number from 0 up"),
        ("beyond", json!({"shard_id": ["I", 4]}), &good, "not of this cluster"),
        ("far", json!({"shard_id": ["l", i64::MAX]}), &good, "not of this cluster"),
        ("guild", json!({"guild_id": ["S", ""]}), &good, "guild_id"),
        ("large", shard.clone(), large.as_bytes(), "4096"),
        ("empty", shard.clone(), b"", "JSON"),
        ("garbage", shard.clone(), b"\xff\xfe\x00", "JSON"),
        ("cut", shard.clone(), br#"{"op":4,"d":{"#, "JSON"),
        ("array", shard.clone(), b"[4]", "JSON"),
        ("opless", shard.clone(), br#"{"d":{}}"#, "op"),
        ("heartbeat", shard.clone(), br#"{"op":1,"d":1}"#, "1"),
        ("identify", shard.clone(), br#"{"op":2,"d":{"token":"x"}}"#, "2"),
        ("resume", shard.clone(), br#"{"op":6,"d":{}}"#, "6"),
        ("two-ops", shard.clone(), br#"{"op":4,"d":{},"op":2}"#, "op"),
    ];
    for (id, headers, body, reason) in &cases {
        stage.worker.command(1, headers, body, Some(id));
        refused(&stage, id, reason);
        // Without reply_to there is nobody to tell, and that ends nothing either.
        stage.worker.command(1, headers, body, None);
    }
    // A key that is bound to nothing of rateway's meaning cannot arrive; the queue itself can be written to.
    stage.worker.publish("", "rateway-incoming-1", &shard, &good, None);
    stage.worker.command(1, &shard, &harmless("last"), Some("last"));
    assert_eq!(stage.worker.wait_answer("last").text(), OK);
    stage.wait_command(0, 4, "last");
    let commands = stage.sim.ledger().commands;
    assert_eq!(commands.get(&4), Some(&1), "only the last one reached Discord: {commands:?}");
    assert_eq!((commands.get(&2), commands.get(&6)), (Some(&4), None), "{commands:?}");
    stage.judge();
    let line = stage.gateway.wait_line("ignored a gateway command: shard 2 is not of this cluster");
    assert!(line.contains("cluster=1"), "{line}");
}

/// 300 commands at once on one shard: Discord's limit holds over more than a minute, what is above waits and goes out
/// later, and neither another shard of the cluster nor a query waits with them.
#[test]
fn a_flood_on_one_shard_delays_nobody_else() {
    const FLOOD: usize = 300;
    // Room for heartbeats is kept: let there be some.
    let mut stage = Setup::new("flood", 2, 2)
        .discord(|discord| discord.heartbeat_interval = std::time::Duration::from_secs(10))
        .start();
    for n in 0..FLOOD {
        let id = format!("f{n}");
        stage.worker.command(1, &json!({"shard_id": ["I", 0]}), &harmless(&id), Some(&id));
    }
    stage.worker.command(1, &json!({"shard_id": ["I", 1]}), &harmless("beside"), Some("beside"));
    let query = br#"{"type":"CurrentUser","arguments":[],"return_routing_key":"cache-answer"}"#;
    stage.worker.query(1, query, Some("query"));
    assert_eq!(stage.worker.wait_answer("beside").text(), OK);
    stage.worker.wait_answer("query");
    stage.wait_command(1, 4, "beside");
    let answered = |stage: &Stage| {
        let text = |message: &crate::support::Message| message.text() == OK;
        stage.worker.find(|message| message.cluster == 0 && text(message)).len()
    };
    // The other shard had its answer while most of the flood was still waiting.
    let early = stage.sim.act(|discord, _| discord.ledger().commands.get(&4).copied().unwrap_or(0));
    assert!(early <= 121, "{early} commands within the first minute");
    wait_until("the first minute's worth", || answered(&stage) > 100);
    let_pass(1.0);
    let first = stage.sim.act(|discord, _| discord.ledger().commands[&4]);
    assert!((101..=121).contains(&first), "{first} commands in the first minute");
    wait_until("the second minute's worth", || {
        stage.sim.act(|discord, _| discord.ledger().commands[&4]) > first + 100
    });
    let_pass(1.0);
    stage.assert_well_behaved();
    let refusals = stage.worker.find(|message| message.text().contains(r#""ok":false"#));
    assert!(refusals.is_empty(), "300 commands fit the list: {refusals:?}");
    assert_eq!(stage.sim.ledger().connections, 2, "nobody was thrown out");
}

/// The waiting list has an end: beyond it the newest are refused at once, in words.
#[test]
fn a_full_waiting_list_refuses_the_newest() {
    let mut stage = Setup::new("full", 1, 1).start();
    for n in 0..450 {
        let id = format!("f{n}");
        stage.worker.command(1, &json!({"shard_id": ["I", 0]}), &harmless(&id), Some(&id));
    }
    refused(&stage, "f449", "wait");
    let told = stage.worker.wait_answer("f0");
    assert_eq!(told.text(), OK);
    let refusals = stage.worker.find(|message| message.text().contains(r#""ok":false"#)).len();
    assert!((60..=100).contains(&refusals), "{refusals} refusals: 110 go out, 256 wait, 84 are too many");
    // At the end those who wait are told that it did not come to it.
    assert_eq!(stage.gateway.stop(), 0);
    stage.assert_well_behaved();
}
