//! What cannot go well is said once, plainly, and ends the program; nothing of it is tried in a loop.

use rateway::base::Secret;
use rateway::sim::{Fault, Server, ServerOptions};

use crate::support::{Gateway, Setup, TOKEN, let_pass, wait_until};

/// Starts a scene that has to end with status 1 and a plain word.
fn ends_with(setup: Setup, words: &[&str]) -> rateway::sim::Ledger {
    let mut stage = setup.without_worker_queues().prepare().start();
    assert_eq!(stage.gateway.wait(), 1, "exit status");
    said(&stage.gateway, words);
    stage.sim.ledger()
}

/// The last line is the reason, as an error.
fn said(gateway: &Gateway, words: &[&str]) {
    let lines = gateway.lines();
    let last = lines.iter().rfind(|line| line.contains("ERROR")).expect("an error line");
    for word in words {
        assert!(last.contains(word), "{word:?} is missing: {last}");
    }
}

#[test]
fn a_wrong_token_ends_at_rest() {
    let setup = Setup::new("token", 1, 1).discord(|d| d.token = Some(Secret::new("another")));
    let ledger = ends_with(setup, &["token", "401"]);
    assert_eq!(ledger.rest.get(&401), Some(&1), "asked once: {:?}", ledger.rest);
    assert_eq!(ledger.connections, 0);
}

#[test]
fn a_token_that_was_reset_ends_at_once() {
    let mut stage = Setup::new("4004", 3, 1).start();
    assert!(stage.sim.inject(Fault::Close { shard: 1, code: 4004 }));
    assert_eq!(stage.gateway.wait(), 1);
    said(&stage.gateway, &["4004", "token"]);
    assert_eq!(stage.sim.ledger().connections, 3, "nobody tried again");
    // The others were left in order: their sessions live on.
    assert_eq!(stage.sim.ledger().client_closes.get(&Some(4000)), Some(&2));
}

#[test]
fn intents_that_were_not_granted() {
    let setup = Setup::new("4014", 1, 1).discord(|d| d.privileged_intents = 0);
    let ledger = ends_with(setup, &["4014", "INTENTS"]);
    assert_eq!(ledger.connections, 1);
}

#[test]
fn intents_that_do_not_exist() {
    let setup = Setup::new("4013", 1, 1).env("INTENTS", "1099511627776");
    let mut stage = setup.without_worker_queues().prepare().start();
    // Refused by rateway itself, or by Discord: in no case tried in a loop.
    let status = stage.gateway.wait();
    assert!(matches!(status, 1 | 2), "exit status {status}");
    assert!(stage.gateway.lines().iter().any(|line| line.contains("INTENTS") || line.contains("4013")));
    assert!(stage.sim.ledger().connections <= 1);
}

#[test]
fn a_shard_count_that_discord_refuses() {
    let setup = Setup::new("4010", 2, 2).discord(|d| d.shard_count_multiple = Some(3));
    ends_with(setup, &["4010", "SHARD_COUNT"]);
}

#[test]
fn too_few_shards() {
    let setup = Setup::new("4011", 1, 1).discord(|d| (d.guilds_per_shard_max, d.guilds) = (2, 3));
    ends_with(setup, &["4011"]);
}

#[test]
fn an_api_version_that_is_gone() {
    let mut stage = Setup::new("4012", 1, 1).start();
    assert!(stage.sim.inject(Fault::Close { shard: 0, code: 4012 }));
    assert_eq!(stage.gateway.wait(), 1);
    said(&stage.gateway, &["4012"]);
}

/// REST that fails for a while is asked again, as slowly as it wants.
#[test]
fn rest_troubles_are_waited_out() {
    let prepared = Setup::new("rest", 1, 1).prepare();
    let fault = |status, retry_after, count| Fault::RestStatus { status, retry_after, global: false, count };
    prepared.sim.inject(fault(429, Some(1.5), 1));
    prepared.sim.inject(fault(503, None, 1));
    let stage = prepared.start();
    stage.wait_up();
    let rest = stage.sim.ledger().rest;
    assert_eq!((rest.get(&429), rest.get(&503), rest.get(&200)), (Some(&1), Some(&1), Some(&1)));
    assert!(stage.gateway.count("429") > 0 && stage.gateway.count("503") > 0, "both were told");
    stage.judge();
}

/// One session start is left for two shards: the second waits for tomorrow, and the token lives.
#[test]
fn a_spent_budget_is_waited_out() {
    let stage = Setup::new("budget", 2, 2).discord(|d| d.session_starts_remaining = 1).prepare().start();
    wait_until("one session", || stage.sim.ledger().sessions.len() == 1);
    let_pass(7.0);
    let ledger = stage.sim.ledger();
    assert_eq!((ledger.identifies.len(), ledger.sessions.len()), (1, 1));
    stage.assert_well_behaved();
    assert!(stage.gateway.lines().iter().any(|line| line.contains("session start")), "it was told why");
}

#[test]
fn every_problem_of_the_configuration_at_once() {
    let sim = Server::start(ServerOptions::default()).expect("the stand-in starts");
    let variables = [
        ("INTENTS", "GUILDS,GILDS"),
        ("AMQP_URI", "http://user:a-password-never-to-be-shown@broker"),
        ("SHARDS_PER_CLUSTER", "0"),
        ("COMPRESSION", "brotli"),
        ("LARGE_THRESHOLD", "1000"),
        ("OUTBOX_MEMORY", "1 parsec"),
        ("AMQP_CA_FILE", "/nowhere/ca.pem"),
        ("DISCORD_API_URL", &sim.api_url()),
    ];
    let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
    for arguments in [&[][..], &["check"]] {
        let mut gateway = Gateway::start(&variables, arguments);
        assert_eq!(gateway.wait(), 2, "exit status");
        let text = gateway.lines().join("\n");
        // What is missing, and each that is wrong with what was found.
        let wanted = [
            "DISCORD_TOKEN",
            "INTENTS",
            "GILDS",
            "AMQP_URI",
            "SHARDS_PER_CLUSTER",
            "COMPRESSION",
            "brotli",
            "LARGE_THRESHOLD",
            "1000",
            "OUTBOX_MEMORY",
            "parsec",
            "AMQP_CA_FILE",
            "/nowhere/ca.pem",
        ];
        for word in wanted {
            assert!(text.contains(word), "{word} is missing:\n{text}");
        }
    }
    let ledger = sim.ledger();
    assert_eq!((ledger.rest.len(), ledger.connections), (0, 0), "nothing was connected to");
}

#[test]
fn check_says_what_is_in_effect() {
    let variables = [
        ("DISCORD_TOKEN", TOKEN),
        ("INTENTS", "GUILDS"),
        ("AMQP_URI", "amqp://user:a-password-never-to-be-shown@broker/vhost"),
    ];
    let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let mut gateway = Gateway::start(&variables, &["check"]);
    assert_eq!(gateway.wait(), 0);
    let text = gateway.lines().join("\n");
    assert!(text.contains("SHARDS_PER_CLUSTER") && text.contains("GUILDS"), "{text}");
}
