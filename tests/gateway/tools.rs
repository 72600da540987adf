//! `rateway tap`, `cache` and `send` as people use them: between a running gateway and a real broker.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::support::{AMQP_PASSWORD, Gateway, Setup, Stage, dead_port, wait_for, wait_until};

/// Starts a tool at the stage's broker, with the gateway's SHARDS_PER_CLUSTER.
fn start(stage: &Stage, arguments: &[&str]) -> Gateway {
    start_at(&stage.vhost.uri(), stage.per_cluster, arguments)
}

fn start_at(uri: &str, per_cluster: u32, arguments: &[&str]) -> Gateway {
    let variables = [("AMQP_URI", uri.to_owned()), ("SHARDS_PER_CLUSTER", per_cluster.to_string())];
    let variables = variables.map(|(name, value)| (name.to_owned(), value));
    Gateway::start(&variables, arguments)
}

/// Runs a tool to its end: exit status and all that it said.
fn run(stage: &Stage, arguments: &[&str]) -> (i32, String) {
    let mut tool = start(stage, arguments);
    let status = tool.wait();
    (status, tool.lines().join("\n"))
}

/// The events that a tap printed.
fn printed(tap: &Gateway) -> Vec<Value> {
    let lines = tap.lines().into_iter().filter(|line| line.starts_with('{'));
    lines.map(|line| serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

fn message(n: usize) -> String {
    format!(r#"{{"id":"{n}","content":"no {n} \u001b[2J é","z":1.50}}"#)
}

#[test]
fn tap_shows_every_event_of_a_shard_in_order() {
    const COUNT: usize = 300;
    let stage = Setup::new("tap", 2, 1).start();
    // The cluster follows from the shard.
    let mut tap = start(&stage, &["tap", "--shard", "1", "--count", &COUNT.to_string()]);
    tap.wait_line("listening to rateway-2");
    let mut sent = Vec::new();
    for n in 0..COUNT {
        stage.emit(0, "MESSAGE_CREATE", "{}");
        let event = if n % 2 == 0 { "MESSAGE_CREATE" } else { "TYPING_START" };
        sent.push((stage.emit(1, event, &message(n)), event, message(n)));
    }
    assert_eq!(tap.wait(), 0, "{:?}", tap.lines());
    let printed = printed(&tap);
    assert_eq!(printed.len(), COUNT);
    for ((seq, event, d), got) in sent.iter().zip(&printed) {
        let d: Value = serde_json::from_str(d).expect("JSON");
        assert_eq!((&got["seq"], &got["event"], &got["d"]), (&json!(seq), &json!(event), &d));
        assert_eq!((&got["cluster"], &got["shard"], &got["repeat"]), (&json!(2), &json!(1), &json!(false)));
        assert!(got["at"].as_u64().is_some_and(|at| at > 1_600_000_000), "{got}");
    }
    // As it came: the digits of a number and the order of keys.
    assert!(
        tap.lines()
            .iter()
            .any(|line| line.contains(r#""d":{"id":"0","content":"no 0 \u001b[2J é","z":1.50}}"#))
    );
    assert_eq!(tap.count("missing"), 0, "{:?}", tap.lines());
    stage.judge();
}

#[test]
fn tap_filters_and_hears_all_clusters() {
    let stage = Setup::new("tapall", 3, 1).start();
    let arguments =
        ["tap", "--cluster", "all", "--event", "message_update,RATEWAY_GAP", "--raw", "--count", "3"];
    let mut tap = start(&stage, &arguments);
    tap.wait_line("listening to rateway-1, rateway-2, rateway-3");
    for shard in 0..3 {
        stage.emit(shard, "MESSAGE_CREATE", r#"{"unwanted":true}"#);
        stage.emit(shard, "MESSAGE_UPDATE", &format!(r#"{{"of":{shard}}}"#));
    }
    assert_eq!(tap.wait(), 0);
    let mut raw: Vec<String> = tap.lines().into_iter().filter(|line| line.starts_with('{')).collect();
    raw.sort();
    assert_eq!(raw, [r#"{"of":0}"#, r#"{"of":1}"#, r#"{"of":2}"#]);
    // Its queue went with it.
    wait_until("the end of its queue", || {
        let queues = stage.vhost.list("list_queues", &["name", "arguments"]);
        !queues.iter().any(|row| row["arguments"].to_string().contains("x-max-length"))
    });
    let (status, text) = run(&stage, &["tap", "--cluster", "4"]);
    assert!(status == 1 && text.contains("there is no exchange rateway-4"), "{status} {text}");
}

#[test]
fn tap_ends_with_its_pipe_and_with_ctrl_c() {
    let stage = Setup::new("tappipe", 1, 1).start();
    let mut child = Command::new(env!("CARGO_BIN_EXE_rateway"))
        .arg("tap")
        .env_clear()
        .env("AMQP_URI", stage.vhost.uri())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut first = [0; 1];
    let mut pipe = child.stdout.take().expect("piped");
    // The tap listens from some moment on: then one event comes.
    std::thread::scope(|scope| {
        let read = scope.spawn(|| pipe.read_exact(&mut first));
        wait_until("an event in the pipe", || {
            stage.emit(0, "MESSAGE_CREATE", "{}");
            read.is_finished()
        });
    });
    drop(pipe);
    let status = wait_for("the end of the tap", || {
        stage.emit(0, "MESSAGE_CREATE", "{}");
        child.try_wait().expect("our own child")
    });
    let mut errors = String::new();
    child.stderr.take().expect("piped").read_to_string(&mut errors).expect("text");
    assert_eq!(status.code(), Some(0), "{errors}");
    assert_eq!(errors.lines().count(), 1, "it went quietly: {errors}");

    let mut tap = start(&stage, &["tap"]);
    tap.wait_line("listening to rateway-1");
    tap.signal(libc::SIGINT);
    assert_eq!(tap.wait(), 0);
}

/// A reader that stops costs the broker a queue of bounded length, and is told how much it has missed.
#[test]
fn a_slow_reader_fills_no_broker() {
    const QUEUE_LENGTH_MAX: u64 = 10_000;
    let stage = Setup::new("tapslow", 1, 1).start();
    let mut child = Command::new(env!("CARGO_BIN_EXE_rateway"))
        .arg("tap")
        .env_clear()
        .env("AMQP_URI", stage.vhost.uri())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut errors = BufReader::new(child.stderr.take().expect("piped"));
    let mut line = String::new();
    errors.read_line(&mut line).expect("a line");
    assert!(line.contains("listening to rateway-1"), "{line}");
    let first = stage.emit(0, "MESSAGE_CREATE", "{}");
    // The pipe and the tap hold some hundreds, the queue the newest of the rest.
    let last = (0..QUEUE_LENGTH_MAX + 3000).fold(0, |_, _| stage.emit(0, "MESSAGE_CREATE", "{}"));
    // Another worker has them all meanwhile, so they have all been at the broker.
    stage.settle();
    wait_until("a full queue", || {
        let queues = stage.vhost.list("list_queues", &["messages_ready", "arguments"]);
        let full = |row: &Value| row["messages_ready"] == QUEUE_LENGTH_MAX;
        queues.iter().any(|row| row["arguments"].to_string().contains("x-max-length") && full(row))
    });
    let mut seqs = Vec::new();
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    while seqs.last() != Some(&last) {
        let line = lines.next().expect("the tap goes on").expect("text");
        let event: Value = serde_json::from_str(&line).expect("JSON");
        seqs.extend(event["seq"].as_u64().filter(|seq| *seq >= first));
    }
    assert!(seqs.is_sorted() && seqs[0] == first, "in order, the first one too");
    let missing = last - first + 1 - seqs.len() as u64;
    assert!((500..=3000).contains(&missing), "{missing} are missing");
    drop(lines);
    let status = wait_for("the end of the tap", || {
        stage.emit(0, "MESSAGE_CREATE", "{}");
        child.try_wait().expect("our own child")
    });
    let mut told = String::new();
    errors.read_to_string(&mut told).expect("text");
    assert!(status.success() && told.contains(&format!("{missing} events are missing so far")), "{told}");
}

#[test]
fn cache_prints_what_is_held() {
    let mut stage = Setup::new("toolcache", 1, 1).start();
    let (_, messages) = stage.settle();
    let guild = messages.iter().find(|message| message.key == "GUILD_CREATE").expect("a guild");
    let guild: Value = serde_json::from_slice(&guild.body).expect("JSON");
    let id = guild["id"].as_str().expect("an id");
    let held: Value = wait_for("the guild in the cache", || {
        let (status, text) = run(&stage, &["cache", "Guild", id]);
        if status == 0 { serde_json::from_str(&text).map_err(|error| error.to_string()) } else { Err(text) }
    });
    assert_eq!((&held["id"], &held["name"]), (&guild["id"], &guild["name"]));
    let (status, text) = run(&stage, &["cache", "CurrentUser", "--cluster", "1"]);
    assert!(status == 0 && text.starts_with('{') && text.lines().count() == 1, "{status} {text}");
    let (status, text) = run(&stage, &["cache", "Member", id, "1"]);
    assert_eq!((status, text), (3, format!("rateway cache: Member {id} 1 is not held, says cluster 1")));
    let (status, text) = run(&stage, &["cache", "gulid", id]);
    assert!(
        status == 2 && text.contains("did you mean Guild?") && text.contains("--help"),
        "{status} {text}"
    );
    let (status, text) = run(&stage, &["cache", "Guild", id, "--cluster", "2"]);
    assert!(status == 1 && text.contains("there is no exchange rateway-2"), "{status} {text}");

    // A list beyond the size of an answer is an error, in the gateway's words.
    let topic = "t".repeat(1500);
    let channels: Vec<Value> = (1..=3500)
        .map(|n| json!({"id": (n + 900_000).to_string(), "type": 0, "name": "c", "topic": topic}))
        .collect();
    let large = json!({"id": "7", "name": "large", "member_count": 1, "channels": channels, "roles": [], "members": []});
    stage.emit(0, "GUILD_CREATE", &large.to_string());
    let text = wait_for("an answer in words", || {
        let (status, text) = run(&stage, &["cache", "GuildChannels", "7"]);
        if status == 1 { Ok(text) } else { Err(text.chars().take(200).collect()) }
    });
    assert!(text.starts_with("rateway cache: ") && !text.contains("no answer"), "{text}");

    // Nobody there any more: said at once.
    assert_eq!(stage.gateway.stop(), 0);
    let (status, text) = run(&stage, &["cache", "Guild", id]);
    assert!(status == 1 && text.contains("nobody reads rateway-incoming-1"), "{status} {text}");
}

#[test]
fn send_brings_a_command_to_its_shard() {
    let stage = Setup::new("toolsend", 3, 1).start();
    let harmless =
        |mark: &str| format!(r#"{{"op":4,"d":{{"guild_id":"1","channel_id":null,"mark":"{mark}"}}}}"#);
    let (status, text) = run(&stage, &["send", "--shard", "2", &harmless("by-number")]);
    assert_eq!((status, text.as_str()), (0, r#"{"ok":true}"#));
    stage.wait_command(2, 4, "by-number");
    // With another SHARDS_PER_CLUSTER than the gateway's the cluster is found by asking.
    let mut search = start_at(&stage.vhost.uri(), 8, &["send", "--shard", "2", &harmless("by-search")]);
    assert_eq!(search.wait(), 0, "{:?}", search.lines());
    stage.wait_command(2, 4, "by-search");
    // Shard of a guild: (id >> 22) % 3 = 1.
    let guild = (1u64 << 22).to_string();
    let (status, text) = run(&stage, &["send", "--guild", &guild, &harmless("by-guild")]);
    assert_eq!((status, text.as_str()), (0, r#"{"ok":true}"#));
    stage.wait_command(1, 4, "by-guild");
    assert_eq!(stage.sim.ledger().commands.get(&4), Some(&3), "each once");

    let long = harmless(&"x".repeat(4096));
    for (arguments, part) in [
        (vec!["send", "--shard", "0", r#"{"op":2,"d":{}}"#], "2"),
        (vec!["send", "--shard", "0", "no json"], "JSON"),
        (vec!["send", "--shard", "0", &long], "4096"),
        (vec!["send", "--shard", "99", &harmless("never")], "not of this cluster"),
        (vec!["send", "--shard", "2", "--cluster", "1", &harmless("never")], "not of this cluster"),
    ] {
        let (status, text) = run(&stage, &arguments);
        let answer: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        assert_eq!((status, &answer["ok"]), (1, &json!(false)), "{text}");
        assert!(answer["error"].as_str().is_some_and(|error| error.contains(part)), "{part}: {text}");
    }
    let (status, text) = run(&stage, &["send", "--shard", "2", "--cluster", "9", "{}"]);
    assert!(status == 1 && text.contains("there is no exchange rateway-9"), "{status} {text}");
    let huge = harmless(&"x".repeat(70_000));
    let (status, text) = run(&stage, &["send", "--shard", "0", &huge]);
    assert!(status == 1 && text.contains("far over the 4096 bytes"), "{status} {text}");
    assert_eq!(run(&stage, &["send", "{}"]).0, 2);

    let mut child = Command::new(env!("CARGO_BIN_EXE_rateway"))
        .args(["send", "--shard", "0", "-"])
        .env_clear()
        .envs([("AMQP_URI", stage.vhost.uri()), ("SHARDS_PER_CLUSTER", "1".to_owned())])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program starts");
    child.stdin.take().expect("piped").write_all(harmless("by-pipe").as_bytes()).expect("it reads");
    let output = child.wait_with_output().expect("its end");
    assert_eq!((output.status.code(), &*output.stdout), (Some(0), &b"{\"ok\":true}\n"[..]));
    stage.wait_command(0, 4, "by-pipe");
    stage.assert_well_behaved();
}

/// No broker, a wrong password, a certificate that nobody vouches for: status 1, in words, without the password.
#[test]
fn without_a_broker_the_tools_say_why() {
    let stage = Setup::new("toolaway", 1, 1).start();
    let dead = format!("amqp://somebody:hunter2@127.0.0.1:{}", dead_port());
    let wrong = stage.vhost.uri().replace(AMQP_PASSWORD, "hunter2");
    let commands: [&[&str]; 3] = [&["tap"], &["cache", "CurrentUser"], &["send", "--shard", "0", "{}"]];
    for arguments in commands {
        for (uri, part) in [
            (dead.clone(), "refused"),
            (wrong.clone(), "the broker refused user and password"),
            (stage.vhost.tls_uri(), "UnknownIssuer"),
            (format!("{dead},{wrong}"), "ACCESS_REFUSED"),
        ] {
            let mut tool = start_at(&uri, 1, arguments);
            tool.secrets.push("hunter2".to_owned());
            assert_eq!(tool.wait(), 1, "{:?}", tool.lines());
            assert!(
                tool.count("no broker could be reached") == 1 && tool.count(part) > 0,
                "{:?}",
                tool.lines()
            );
        }
    }
    // The second broker will do, and so does TLS with the right roots.
    let mut tool = start_at(&format!("{dead},{}", stage.vhost.uri()), 1, &["cache", "CurrentUser"]);
    assert_eq!(tool.wait(), 0, "{:?}", tool.lines());
    let variables = [("AMQP_URI", stage.vhost.tls_uri()), ("AMQP_CA_FILE", crate::support::ca_file())];
    let variables = variables.map(|(name, value)| (name.to_owned(), value));
    let mut tool = Gateway::start(&variables, &["cache", "CurrentUser"]);
    assert_eq!(tool.wait(), 0, "{:?}", tool.lines());
    let mut tool = start_at("amqp://somebody:hunter2@host:port", 1, &["tap"]);
    tool.secrets.push("hunter2".to_owned());
    assert_eq!(tool.wait(), 2, "{:?}", tool.lines());
    assert_eq!(tool.count("AMQP_URI"), 1, "{:?}", tool.lines());
}
