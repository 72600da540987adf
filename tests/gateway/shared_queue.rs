//! Several processes of one bot behind one identify queue.

use std::time::Duration;

use rateway::sim::Ledger;

use crate::support::{Gateway, PATIENCE, Setup, dead_port, let_pass, wait_until};

/// `rateway queue` as a process of its own; gives its URL.
fn queue(port: &str, variables: &[(&str, &str)]) -> (Gateway, String) {
    let mut all = vec![("PORT", port), ("HOST", "127.0.0.1"), ("ADMIN_PORT", "none"), ("LOG_LEVEL", "debug")];
    all.extend(variables);
    let all: Vec<(String, String)> =
        all.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let queue = Gateway::start(&all, &["queue"]);
    let line = queue.wait_line("shards ask on ");
    let url = line.rsplit(' ').next().expect("an address at the end").to_owned();
    (queue, url)
}

/// How far apart the IDENTIFYs of each bucket were, as Discord saw them, the closest first.
fn gaps(ledger: &Ledger) -> Vec<Duration> {
    let mut gaps: Vec<Duration> = ledger
        .identifies
        .iter()
        .enumerate()
        .filter_map(|(at, identify)| {
            let before =
                ledger.identifies[..at].iter().rev().find(|other| other.bucket == identify.bucket)?;
            Some(identify.at - before.at)
        })
        .collect();
    gaps.sort();
    gaps
}

#[test]
fn two_processes_share_the_limit_of_their_bot() {
    let (_queue, url) = queue("0", &[]);
    let url = format!("{url}/k/{{token_hash}}");
    let prepared = Setup::new("shared", 6, 3)
        .discord(|discord| discord.max_concurrency = 2)
        .env("QUEUE_URL", &url)
        .env("SHARD_COUNT", "6")
        .env("CLUSTERS", "1")
        .prepare();
    let other = prepared.variables_with("CLUSTERS", "2");
    let other = Gateway::start(&other, &[]);
    let stage = prepared.start();
    stage.wait_up();
    assert_eq!(stage.gateway.count("shards ask the identify queue"), 1);
    assert_eq!(other.count("no permit from"), 0);
    stage.assert_well_behaved();
    let ledger = stage.sim.ledger();
    assert_eq!(ledger.identifies.len(), 6, "no session start was wasted");
    let gaps = gaps(&ledger);
    println!("IDENTIFYs of a bucket were apart: {gaps:?}");
    assert!(gaps.iter().all(|gap| *gap >= Duration::from_secs(5)), "{gaps:?}");
    stage.judge();
}

#[test]
fn without_the_queue_nobody_identifies() {
    let port = dead_port();
    let stage =
        Setup::new("lonely", 2, 2).env("QUEUE_URL", &format!("http://127.0.0.1:{port}/")).prepare().start();
    stage.gateway.wait_line("no permit from the identify queue");
    let_pass(2.0);
    assert_eq!(stage.sim.ledger().identifies.len(), 0, "an IDENTIFY without a permit");
    // It comes, and a service that knows nothing of the bot's token has one bucket.
    let (mut first, url) = queue(&port.to_string(), &[]);
    assert!(url.ends_with(&port.to_string()), "{url}");
    wait_until("one shard is up", || stage.sim.ledger().identifies.len() == 1);
    // And goes again with one shard waiting, which asks the next one.
    assert_eq!(first.stop(), 0);
    let_pass(6.0);
    assert_eq!(stage.sim.ledger().identifies.len(), 1, "an IDENTIFY without a permit");
    let (_second, _) = queue(&port.to_string(), &[]);
    stage.wait_up();
    stage.judge();
}

/// What is no queue gives no permit, however friendly it answers.
#[test]
fn another_web_server_is_no_queue() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        use std::io::{Read, Write};
        for socket in listener.incoming() {
            let mut socket = socket.expect("a connection");
            let mut buffer = [0; 1024];
            let _ = socket.read(&mut buffer);
            let _ = socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nwelcome!");
        }
    });
    let stage =
        Setup::new("stranger", 1, 1).env("QUEUE_URL", &format!("http://{address}/")).prepare().start();
    stage.gateway.wait_line("not that of an identify queue");
    let_pass(1.5);
    assert_eq!(stage.sim.ledger().identifies.len(), 0, "an IDENTIFY without a permit");
}

/// The process' own queue keeps its distance over a restart.
#[test]
fn a_restart_keeps_the_distance() {
    let folder = std::env::temp_dir().join(format!("rateway-identify-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    let mut stage = Setup::new("distance", 1, 1)
        .discord(|discord| discord.max_concurrency = 2)
        .env("STATE_DIR", &folder.display().to_string())
        .arg("--end-sessions")
        .start();
    assert_eq!(stage.gateway.stop(), 0);
    stage.restart();
    stage.wait_up();
    let ledger = stage.sim.ledger();
    assert!(ledger.violations.is_empty(), "{:?}", ledger.violations);
    let gaps = gaps(&ledger);
    println!("IDENTIFYs around a restart were apart: {gaps:?}");
    assert!(gaps.len() == 1 && gaps[0] >= Duration::from_secs(5) && gaps[0] < PATIENCE, "{gaps:?}");
    let _ = std::fs::remove_dir_all(&folder);
}
