//! What keeps the service from starting is said plainly, and all at once.

use crate::service::{OWN, Service, begin};
use crate::support::{Gateway, TOKEN};

/// Its last error, after it has ended with `status`.
fn last_error(process: &mut Gateway, status: i32) -> String {
    assert_eq!(process.wait(), status, "{:?}", process.lines());
    let lines = process.lines();
    lines.into_iter().rfind(|line| line.contains("ERROR")).expect("an error line")
}

#[test]
fn a_port_is_for_one_service() {
    let first = Service::start(&[]);
    let port_of = |address: &str| address.rsplit(':').next().expect("a port").to_owned();
    let (queue, admin) = (port_of(&first.queue), port_of(&first.admin));
    for (variable, port, address) in [("PORT", &queue, &first.queue), ("ADMIN_PORT", &admin, &first.admin)] {
        let line = last_error(&mut begin(&[(variable, port)]).0, 1);
        assert!(line.contains("cannot listen on") && line.contains(address.as_str()), "{line}");
    }
    let line = last_error(&mut begin(&[("HOST", "192.0.2.1")]).0, 1);
    assert!(line.contains("cannot listen on 192.0.2.1:0"), "{line}");
    // The one that was there has noticed nothing.
    first.ask("/").answer().assert_permit();
    assert_eq!(first.count("accepted_total"), 1);
}

#[test]
fn every_mistake_at_once() {
    let wrong = [
        ("HOST", "localhost"),
        ("PORT", "http"),
        ("ADDR", "there"),
        ("CONCURRENCY", "none"),
        ("ADMIN_PORT", "-1"),
        ("CONNECTIONS_MAX", "many"),
        ("IDENTIFY_RESERVE", "some"),
        ("IDENTIFY_SLACK_MS", "60001"),
        ("DISCORD_API_URL", "discord.com"),
        ("DISCORD_CA_FILE", "/nowhere/ca.pem"),
        ("LOG_LEVEL", "loud"),
        ("LOG_FORMAT", "xml"),
        ("DISCORD_TOKEN", "a\nb"),
    ];
    let (mut process, _state) = begin(&wrong);
    assert_eq!(process.wait(), 2, "exit status");
    let text = process.lines().join("\n");
    for (name, value) in wrong {
        assert!(text.contains(&format!("{name}: ")), "{name} is missing:\n{text}");
        assert!(name == "DISCORD_TOKEN" || text.contains(value), "{value} is missing:\n{text}");
    }
    assert!(!text.contains("shards ask on"), "nothing was opened:\n{text}");
}

#[test]
fn arguments() {
    for arguments in [&["queue", "a", "b"][..], &["queue", "--nope"], &["queue", "/nowhere/queue.toml"]] {
        let mut process = Gateway::start(&[], arguments);
        assert_eq!(process.wait(), 2, "{arguments:?}");
    }
    let mut help = Gateway::start(&[], &["queue", "--help"]);
    assert_eq!(help.wait(), 0);
    for word in ["PORT", "CONCURRENCY", "STATE_DIR", "ADMIN_PORT", "CONNECTIONS_MAX", "IDENTIFY_SLACK_MS"] {
        assert!(help.count(word) > 0, "{word}");
    }
}

#[test]
fn check_says_what_is_in_effect() {
    let scratch = crate::service::Scratch::new("check");
    std::fs::create_dir_all(&scratch.0).expect("a folder");
    let file = scratch.0.join("queue.toml");
    std::fs::write(&file, "[queue]\nport = 4321\nconcurrency = 7\n").expect("a file");
    let variables = [("DISCORD_TOKEN", TOKEN), ("PORT", "1234")];
    let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let mut process = Gateway::start(&variables, &["queue", "--check", file.to_str().expect("text")]);
    assert_eq!(process.wait(), 0);
    let text = process.lines().join("\n");
    // The variable wins over the file; the token is not shown, as nowhere.
    for word in ["1234", "CONCURRENCY", "7", "DISCORD_TOKEN"] {
        assert!(text.contains(word), "{word} is missing:\n{text}");
    }
    assert!(!text.contains("4321"), "{text}");
}

/// A file alone, as a service manager has it.
#[test]
fn from_a_file() {
    let scratch = crate::service::Scratch::quiet("file");
    let file = scratch.0.join("queue.toml");
    let text = "[queue]\nhost = \"127.0.0.1\"\nport = 0\nadmin_port = 0\nconcurrency = 2\n";
    std::fs::write(&file, text).expect("a file");
    let variables = [("STATE_DIR".to_owned(), scratch.path().to_owned())];
    let process = Gateway::start(&variables, &["queue", "-c", file.to_str().expect("text")]);
    let address =
        |before: &str| process.wait_line(before).split(before).nth(1).expect("found by it").trim().to_owned();
    let (queue, admin) = (address("shards ask on http://"), address("metrics on http://"));
    let service = Service { process, queue, admin, _state: None };
    service.ask("/?shard=1").answer().assert_permit();
    assert_eq!(service.gate(OWN)["max_concurrency"], 2);
}
