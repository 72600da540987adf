//! TLS on both sides, with a CA that nobody else knows.

use std::path::PathBuf;

use crate::support::{Setup, Worker, ca_file, certificate, let_pass};

/// A file that goes with the test.
struct CaFile(PathBuf);

impl CaFile {
    fn new(name: &str, pem: &str) -> CaFile {
        let path =
            PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}.pem", std::process::id()));
        std::fs::write(&path, pem).expect("a writable folder");
        CaFile(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().expect("a plain path")
    }
}

impl Drop for CaFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn events_and_commands_through_tls_on_both_sides() {
    let (ca, cert, key) = certificate();
    let ca = CaFile::new("discord", &ca);
    let mut prepared = Setup::new("tls", 3, 2)
        .sim(|sim| sim.tls = Some((cert, key)))
        .env("DISCORD_CA_FILE", ca.path())
        .env("AMQP_CA_FILE", &ca_file())
        .prepare();
    let uri = prepared.vhost.tls_uri();
    prepared.worker = Worker::start(&uri, Some(&ca_file()), &[1, 2]);
    let mut stage = prepared.env("AMQP_URI", &uri).start();
    stage.wait_up();
    stage.set_rate(2000.0);
    stage.wait_dispatches(3000);
    let large = format!(r#"{{"long":"{}"}}"#, "x".repeat(300_000));
    stage.emit(2, "SOMETHING_NEW_CREATE", &large);
    let body = br#"{"op":4,"d":{"guild_id":"1","channel_id":null,"mark":"through"}}"#;
    stage.worker.command(2, &serde_json::json!({"shard_id": ["I", 2]}), body, Some("c"));
    assert_eq!(stage.worker.wait_answer("c").text(), r#"{"ok":true}"#);
    stage.wait_command(2, 4, "through");
    assert_eq!(stage.judge(), 0);
}

#[test]
fn a_broker_with_an_unknown_ca_is_refused() {
    let prepared = Setup::new("tlsbroker", 1, 1).without_worker_queues().prepare();
    let uri = prepared.vhost.tls_uri();
    let mut stage = prepared.env("AMQP_URI", &uri).start();
    let line = stage.gateway.wait_line("UnknownIssuer");
    assert!(line.contains("TLS") && line.contains("WARN") && line.contains("trying again"), "{line}");
    let_pass(0.5);
    assert!(stage.gateway.is_alive());
    assert_eq!(stage.sim.ledger().connections, 0, "no shard before the exchange stands");
    assert_eq!(stage.gateway.stop(), 0);
}

#[test]
fn a_discord_with_an_unknown_ca_is_refused() {
    let (_, cert, key) = certificate();
    let prepared = Setup::new("tlsdiscord", 1, 1)
        .sim(|sim| sim.tls = Some((cert, key)))
        .without_worker_queues()
        .prepare();
    let mut stage = prepared.start();
    let line = stage.gateway.wait_line("UnknownIssuer");
    assert!(line.contains("WARN") || line.contains("ERROR"), "{line}");
    let_pass(0.5);
    assert_eq!(stage.sim.ledger().rest.len(), 0, "the token was not sent");
    // It tries again, at leisure, as after any failure of the network; a stop is not kept waiting by that.
    assert!(stage.gateway.is_alive());
    assert_eq!(stage.gateway.stop(), 0);
}
