//! One service for many bots, and the forms of the programs before it.

use crate::service::{OWN, Scratch, Service};
use crate::shard::Shard;
use crate::support::dead_port;

#[test]
fn gates_know_nothing_of_each_other() {
    let service = Service::start(&[]);
    for key in ["one", "two", "3e23e8160039594a33894f6564e1b1348bbd7a0088d42c4acb73eeaed59c009d"] {
        service.ask(&format!("/k/{key}?shard=0")).answer().assert_permit();
    }
    service.ask("/?shard=0").answer().assert_permit();
    let mut behind = service.ask_and_wait("one", "/k/one?shard=0");
    behind.assert_unanswered(0.2);
    let metrics = service.metrics();
    let of = |gate| {
        ["granted_total", "waiting", "remaining", "buckets"].map(|figure| metrics.of_gate(figure, gate))
    };
    assert_eq!(of("one"), [1, 1, 999, 1]);
    assert_eq!(of("two"), [1, 0, 999, 1]);
    assert_eq!(of(OWN), [1, 0, 999, 1]);
}

/// Hashes are written with digits of either case.
#[test]
fn the_case_of_a_key_means_nothing() {
    let service = Service::start(&[]);
    service.ask("/k/ABCdef?shard=0").answer().assert_permit();
    let mut same = service.ask_and_wait("abcdef", "/k/abcDEF/?shard=0");
    same.assert_unanswered(0.2);
    assert!(service.gate("ABCdef").is_null());
}

#[test]
fn an_impossible_key_is_closed_unanswered() {
    let service = Service::start(&[]);
    let long = format!("/k/{}", "a".repeat(65));
    let targets = ["/k/", "/k//", "/k/a/b", "/k/../x", "/k/a%20b", "/k/\"", "/k/a?shard=0&/../", &long];
    for target in targets.iter().filter(|target| !target.starts_with("/k/a?")) {
        let mut shard = service.ask(target);
        shard.assert_closed();
    }
    // In the query nothing is a key.
    service.ask("/k/a?shard=0&/../").answer().assert_permit();
    service.wait_ended("malformed", targets.len() as u64 - 1);
    assert_eq!(service.count("answered_total"), 1);
    service.process.wait_line("a key has 1 to 64");
}

/// Clients say how many buckets and session starts their bot has; of different words the smaller counts.
#[test]
fn clients_tell_of_their_bots() {
    let service = Service::start(&[]);
    let target =
        |shard: u32, buckets: u32| format!("/k/big?shard={shard}&max_concurrency={buckets}&total=2500");
    for shard in 0..4 {
        service.ask(&target(shard, 16)).answer().assert_permit();
    }
    let gate = service.gate("big");
    assert_eq!(
        (&gate["max_concurrency"], &gate["total"], &gate["remaining"]),
        (&16.into(), &2500.into(), &2496.into())
    );
    // With four buckets, shard 7 and shard 3 share one.
    let mut seventh = service.ask_and_wait("big", &target(7, 4));
    seventh.assert_unanswered(0.2);
    assert_eq!(service.gate("big")["max_concurrency"], 4);
    // A larger number is not believed while anything is under way.
    let _sixth = service.ask_and_wait("big", &target(6, 16));
    assert_eq!(service.gate("big")["max_concurrency"], 4);
}

fn sandwich(shard: &mut Shard, shard_id: u32, key: &str) {
    let body = format!(
        "{{\"shard_id\":{shard_id},\"shard_count\":8,\"token\":\"a.b.c\",\"token_hash\":\"{key}\",\"max_concurrency\":2}}"
    );
    shard.say(format!(
        "POST /api/identify HTTP/1.1\r\nHost: q\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    ));
}

#[test]
fn sandwich_is_answered_as_it_reads() {
    let mut service = Service::start(&[]);
    service.process.secrets.push("a.b.c".to_owned());
    let mut shard = service.connect();
    for shard_id in [0, 1] {
        sandwich(&mut shard, shard_id, "00FF");
        let answer = shard.answer();
        assert_eq!(answer.status_line, "HTTP/1.1 200 OK");
        let body: serde_json::Value = serde_json::from_str(&answer.body).expect("JSON");
        assert_eq!(body["success"], true);
    }
    let gate = service.gate("00ff");
    assert_eq!((&gate["granted"], &gate["max_concurrency"]), (&2.into(), &2.into()), "{gate}");
    // The key in the path and the hash in the body name the same gate.
    let mut third = service.ask_and_wait("00ff", "/k/00ff?shard=2&max_concurrency=2");
    third.assert_unanswered(0.2);
    let mut bad = service.connect();
    sandwich(&mut bad, 0, "../../etc/passwd");
    bad.assert_closed();
}

#[test]
fn pluralkits_variables() {
    let (port, admin) = (dead_port(), dead_port());
    let state = Scratch::quiet("pluralkit");
    let process = crate::support::Gateway::start(
        &[
            ("ADDR".to_owned(), format!("127.0.0.1:{port}")),
            ("CONCURRENCY".to_owned(), "3".to_owned()),
            ("ADMIN_PORT".to_owned(), admin.to_string()),
            ("STATE_DIR".to_owned(), state.path().to_owned()),
        ],
        &["queue"],
    );
    process.wait_line(&format!("shards ask on http://127.0.0.1:{port}"));
    process.wait_line(&format!("metrics on http://127.0.0.1:{admin}"));
    let service = Service {
        process,
        queue: format!("127.0.0.1:{port}"),
        admin: format!("127.0.0.1:{admin}"),
        _state: Some(state),
    };
    for shard in 0..3 {
        service.ask(&format!("/?shard={shard}")).answer().assert_permit();
    }
    let mut fourth = service.ask_and_wait(OWN, "/?shard=3");
    fourth.assert_unanswered(0.2);
    assert_eq!(service.gate(OWN)["max_concurrency"], 3);
}
