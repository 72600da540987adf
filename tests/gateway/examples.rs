//! The workers of `examples/`, run as they are: each with a client library that others wrote.
//!
//! A worker hears events in order, has a command answered, asks the cache, drops repeats, hears of a gap, and comes
//! back after its connection was closed. What it says on standard output is judged, and the stand-in's ledger.

use std::path::{Path, PathBuf};
use std::process::Command;

use rateway::sim::Fault;
use serde_json::json;

use crate::support::{Gateway, Setup, rabbitmqctl, wait_until};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// What `contrib/install.sh workers` has put below `target/examples`.
fn installed(path: &str) -> PathBuf {
    let path = root().join("target/examples").join(path);
    assert!(path.exists(), "{} is missing: `contrib/install.sh workers` installs it", path.display());
    path
}

#[test]
fn aio_pika() {
    let mut command = Command::new(installed("python/bin/python"));
    command.arg(root().join("examples/worker_aio.py"));
    judge("worker-aio", command);
}

#[test]
fn amqplib() {
    let mut command = Command::new("node");
    command.arg(root().join("examples/node/worker.js")).env("NODE_PATH", installed("node/node_modules"));
    judge("worker-node", command);
}

#[test]
fn lapin() {
    judge("worker-lapin", Command::new(installed("lapin/debug/rateway-worker")));
}

/// The lines `shard N seq S NAME` of a shard, in order.
fn heard(worker: &Gateway, shard: u32, event: &str) -> Vec<u64> {
    let prefix = format!("shard {shard} seq ");
    let lines = worker.lines();
    let of_shard = lines.iter().filter_map(|line| line.strip_prefix(&prefix)?.split_once(' '));
    of_shard.filter(|(_, name)| *name == event).map(|(seq, _)| seq.parse().expect("a seq")).collect()
}

fn judge(label: &'static str, mut command: Command) {
    const COUNT: usize = 40;
    let prepared = Setup::new(label, 2, 2).prepare();
    // First there, so that it hears of the guilds too; what it declares is what rateway declares.
    command.env("AMQP_URI", prepared.vhost.uri());
    let worker = Gateway::watch(command);
    worker.wait_line("worker: listening to rateway-1");
    let mut stage = prepared.start();
    stage.wait_up();
    // A command with its answer, and the cache asked.
    let answer = worker.wait_line("worker: answer to the command: ");
    assert!(answer.replace(' ', "").ends_with(r#"{"ok":true}"#), "{answer}");
    wait_until("the presence at Discord", || {
        [0, 1].iter().any(|&shard| stage.commands(shard, 3).iter().any(|d| d.contains("idle")))
    });
    let held = worker.wait_line("worker: the cache has guild ");
    let (_, messages) = stage.settle();
    let named = |message: &crate::support::Message| {
        let guild: serde_json::Value = serde_json::from_slice(&message.body).expect("JSON");
        let (id, name) =
            (guild["id"].as_str().unwrap_or_default(), guild["name"].as_str().unwrap_or_default());
        message.key == "GUILD_CREATE" && held.ends_with(&format!("guild {id}: {name}"))
    };
    assert!(messages.iter().any(named), "{held}");

    // Events, in the order of their shard.
    let mut sent = [Vec::new(), Vec::new()];
    for _ in 0..COUNT {
        for shard in [0, 1] {
            sent[shard as usize].push(stage.emit(shard, "MESSAGE_CREATE", r#"{"content":"hello"}"#));
        }
    }
    for (shard, sent) in [0, 1].into_iter().zip(&sent) {
        wait_until("the messages at the worker", || heard(&worker, shard, "MESSAGE_CREATE").len() >= COUNT);
        assert_eq!(&heard(&worker, shard, "MESSAGE_CREATE"), sent, "shard {shard}");
    }

    // A repeat is dropped; one that never came is handled.
    let (_, messages) = stage.settle();
    let again = messages.iter().rfind(|message| message.key == "MESSAGE_CREATE").expect("there are some");
    stage.worker.publish_again(again);
    worker.wait_line(&format!("worker: dropped the repeat {}", again.message_id()));
    let mut unheard = again.clone();
    unheard.json["message_id"] = json!("1-0123456789abcdef-999");
    unheard.json["headers"]["seq"] = json!(["l", 999]);
    stage.worker.publish_again(&unheard);
    worker.wait_line(" seq 999 MESSAGE_CREATE");

    // A gap is told.
    assert!(stage.sim.inject(Fault::Op9 { shard: 1, resumable: false }));
    worker.wait_line("worker: shard 1 lost events after seq ");

    // It comes back.
    rabbitmqctl(&["close_all_connections", "--vhost", &stage.vhost.name, "by the test"]);
    wait_until("its return", || worker.count("worker: listening to rateway-1") >= 2);
    let seq = stage.emit(0, "MESSAGE_CREATE", r#"{"content":"and again"}"#);
    wait_until("an event after that", || heard(&worker, 0, "MESSAGE_CREATE").contains(&seq));
    stage.assert_well_behaved();
}

/// The guide shows nothing that is not run here: every snippet stands in an example, word for word.
#[test]
fn the_guide_quotes_the_examples() {
    let read = |path: &str| std::fs::read_to_string(root().join(path)).expect(path);
    let plain = |text: &str| {
        text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("\n")
    };
    let source = |language: &str| match language {
        "python" => Some(plain(&read("examples/worker_aio.py"))),
        "js" => Some(plain(&read("examples/node/worker.js"))),
        "rust" => Some(plain(&read("examples/lapin/src/main.rs"))),
        _ => None,
    };
    let mut snippets = 0;
    for name in ["docs/guide.md", "docs/migrate.md"] {
        let text = read(name);
        // Fences come in pairs, so every second part is a snippet.
        for snippet in text.split("```").skip(1).step_by(2) {
            let (language, code) = snippet.split_once('\n').expect("a snippet has lines");
            let Some(source) = source(language) else { continue };
            snippets += 1;
            assert!(source.contains(&plain(code)), "{name}: no example has:\n{code}");
        }
    }
    assert!(snippets > 8, "{snippets} snippets");
}
