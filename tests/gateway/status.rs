//! The status page's port: what it tells, whom it lets do what, and what rude clients cost.

#![allow(clippy::disallowed_methods, reason = "these tests wait, in real time")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::prometheus::Metrics;
use crate::support::{
    AMQP_PASSWORD, Forward, Gateway, PATIENCE, Setup, Stage, TOKEN, dead_port, let_pass, wait_for, wait_until,
};

const ADMIN_TOKEN: &str = "admin-token-never-to-be-shown";

/// Where the page is.
pub fn address(gateway: &Gateway) -> String {
    let line = gateway.wait_line("status page on http://");
    let rest = line.split("status page on http://").nth(1).expect("found by these words");
    rest.split([' ', '"']).next().expect("an address").to_owned()
}

fn connect(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).expect("the port is open");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream
}

/// Sends a request with these lines; says status, head and body.
fn ask(address: &str, lines: &str) -> (u16, String, String) {
    let mut stream = connect(address);
    write!(stream, "{lines}\r\nConnection: close\r\n\r\n").expect("it takes it");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer");
    let (head, body) = text.split_once("\r\n\r\n").expect("a head and a body");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    (status, head.to_owned(), body.to_owned())
}

pub fn get(address: &str, path: &str) -> (u16, String) {
    let (status, _, body) = ask(address, &format!("GET {path} HTTP/1.1\r\nHost: {address}"));
    (status, body)
}

fn json(address: &str, path: &str) -> (u16, Value) {
    let (status, body) = get(address, path);
    (status, serde_json::from_str(&body).unwrap_or_else(|error| panic!("{path}: {error}: {body}")))
}

fn metrics(address: &str) -> Metrics {
    let (status, text) = get(address, "/metrics");
    assert_eq!(status, 200);
    Metrics::parse(&text).unwrap_or_else(|fault| panic!("{fault} in\n{text}"))
}

fn wait_status(address: &str, path: &str, wanted: u16) -> Value {
    wait_for(&format!("{path} to be {wanted}"), || {
        let (status, body) = json(address, path);
        if status == wanted { Ok(body) } else { Err(format!("(it is {status}: {body})")) }
    })
}

/// Everything that is counted adds up with what was sent.
#[test]
fn figures_are_true() {
    let stage = Setup::new("figures", 3, 2).start();
    let address = address(&stage.gateway);
    wait_status(&address, "/readyz", 200);
    stage.set_rate(2000.0);
    stage.wait_dispatches(3000);
    stage.judge();
    let sent = stage.sim.ledger().dispatches;
    let found = wait_for("the figures of all that was sent", || {
        let metrics = metrics(&address);
        let confirmed =
            ["1", "2"].map(|n| metrics.get(&format!("rateway_confirmed_total{{cluster=\"{n}\"}}")));
        let confirmed: u64 = confirmed.iter().sum();
        if confirmed == sent { Ok(metrics) } else { Err(format!("({confirmed} of {sent})")) }
    });
    assert_eq!(found.get("rateway_events_total"), sent);
    // Every event went from Discord's socket to the broker's, and was confirmed, in some time.
    for name in ["receive_to_publish", "publish_to_confirm"] {
        assert_eq!(found.get(&format!("rateway_{name}_seconds_count")), sent, "{name}");
        let sum = found.find(&format!("rateway_{name}_seconds_sum")).expect("a sum");
        assert!(sum > 0.0 && sum / (sent as f64) < 10.0, "{name}: {sum} s in all");
    }
    assert_eq!(found.get("rateway_shards{state=\"active\"}"), 3);
    assert_eq!(found.get("rateway_shards_planned"), 3);
    assert_eq!(found.get("rateway_identifies_total"), 3);
    assert!(found.get("rateway_cache_entities{kind=\"guilds\"}") >= 6);
    assert!(found.get("rateway_process_resident_memory_bytes") > 1 << 20);
    assert!(found.get("rateway_process_open_fds") > 10);
    assert!(found.find("rateway_session_starts_remaining").is_some());
    let (_, shards) = json(&address, "/shards");
    let events: u64 = shards.as_array().expect("a list").iter().filter_map(|s| s["events"].as_u64()).sum();
    assert_eq!(events, sent);
    for shard in shards.as_array().expect("a list") {
        assert_eq!(
            (shard["state"].as_str(), shard["reconnects"].as_u64()),
            (Some("active"), Some(0)),
            "{shard}"
        );
        assert_eq!(shard["session"]["received_seq"], shard["session"]["confirmed_seq"], "{shard}");
    }
    let (status, text) = get(&address, "/metrics?shards=1");
    assert!(status == 200 && text.contains("rateway_shard_up{cluster=\"2\",shard=\"2\"} 1"));
    assert_eq!(json(&address, "/healthz"), (200, serde_json::json!({"healthy": true})));
    // Secrets are in no answer. The page shows the broker with its user and without its password.
    for path in ["/", "/status", "/metrics?shards=1", "/shards", "/readyz"] {
        let (_, body) = get(&address, path);
        assert!(
            !body.contains(TOKEN) && !body.contains(&format!(":{AMQP_PASSWORD}@")),
            "{path} tells a secret"
        );
        for session in stage.sim.ledger().sessions.values() {
            assert!(!body.contains(&*session.session_id), "{path} tells a session id");
        }
    }
}

/// Not ready while the broker is away, and it says so; ready again when it is back.
#[test]
fn readiness_follows_the_broker() {
    let port = dead_port();
    let prepared = Setup::new("readiness", 2, 2).prepare();
    let forward = Forward::start(port, &prepared.vhost.address());
    let uri = prepared.vhost.uri_at(port);
    let stage = prepared.env("AMQP_URI", &uri).start();
    let address = address(&stage.gateway);
    stage.wait_up();
    wait_status(&address, "/readyz", 200);
    forward.leave();
    let told = wait_status(&address, "/readyz", 503);
    assert!(told["missing"][0].as_str().is_some_and(|why| why.contains("cluster 1")), "{told}");
    assert_eq!(metrics(&address).get("rateway_broker_up{cluster=\"1\"}"), 0);
    // The process is well, all the same.
    assert_eq!(json(&address, "/healthz").0, 200);
    stage.set_rate(200.0);
    let_pass(1.0);
    forward.come_back();
    wait_status(&address, "/readyz", 200);
    stage.judge();
    let (_, status) = json(&address, "/status");
    let kinds: Vec<&str> =
        status["incidents"].as_array().expect("a list").iter().filter_map(|i| i["kind"].as_str()).collect();
    assert!(kinds.contains(&"broker lost"), "{kinds:?}");
    assert!(metrics(&address).get("rateway_broker_links_lost_total{cluster=\"1\"}") >= 1);
}

/// A reconnect by the operator: the session is resumed under load, and nothing is lost or said twice.
#[test]
fn a_reconnect_resumes() {
    let mut stage = Setup::new("reconnect", 2, 2).env("ADMIN_TOKEN", ADMIN_TOKEN).start();
    stage.gateway.secrets.push(ADMIN_TOKEN.to_owned());
    let address = address(&stage.gateway);
    wait_status(&address, "/readyz", 200);
    stage.set_rate(1000.0);
    stage.wait_dispatches(500);
    let post = |path: &str, header: &str| {
        ask(&address, &format!("POST {path} HTTP/1.1\r\nHost: {address}\r\nContent-Length: 0{header}")).0
    };
    let good = format!("\r\nAuthorization: Bearer {ADMIN_TOKEN}");
    assert_eq!(post("/shards/1/reconnect", ""), 401);
    assert_eq!(post("/shards/1/reconnect", "\r\nAuthorization: Bearer wrong"), 401);
    assert_eq!(post("/shards/2/reconnect", &good), 404);
    assert_eq!(stage.sim.ledger().connections, 2, "nothing has happened so far");
    assert_eq!(post("/shards/1/reconnect", &good), 202);
    wait_until("the new connection", || stage.sim.ledger().connections == 3);
    wait_status(&address, "/readyz", 200);
    stage.wait_dispatches(stage.sim.ledger().dispatches + 500);
    stage.judge();
    let ledger = stage.sim.ledger();
    assert_eq!(ledger.client_closes.get(&Some(4000)), Some(&1), "{:?}", ledger.client_closes);
    assert_eq!((ledger.sessions.len(), ledger.identifies.len()), (2, 2), "resumed, not identified");
    let (_, shard) = json(&address, "/shards/1");
    assert_eq!((&shard["reconnects"], &shard["state"]), (&1.into(), &"active".into()));
    assert_eq!(metrics(&address).get("rateway_shard_links_lost_total{cause=\"asked\"}"), 1);
}

#[test]
fn without_a_token_nothing_is_changed() {
    let stage = Setup::new("notoken", 1, 1).start();
    let address = address(&stage.gateway);
    let (status, _, body) = ask(
        &address,
        &format!(
            "POST /shards/0/reconnect HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer x\r\nContent-Length: 0"
        ),
    );
    assert!(status == 403 && body.contains("ADMIN_TOKEN"), "{status} {body}");
    let (status, _, _) = ask(&address, "GET /status HTTP/1.1\r\nHost: rebound.example");
    assert_eq!(status, 403);
    let (status, head, _) =
        ask(&address, &format!("POST /status HTTP/1.1\r\nHost: {address}\r\nContent-Length: 0"));
    assert!(status == 405 && head.to_ascii_lowercase().contains("allow: get, head"), "{head}");
}

/// A taken port is an error where somebody has said which, and said before anybody else is bothered.
#[test]
fn a_taken_port() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = taken.local_addr().expect("bound").port();
    let prepared = Setup::new("taken", 1, 1).without_worker_queues().prepare();
    let mut stage = prepared.env("HTTP_ADDR", &format!("127.0.0.1:{port}")).start();
    assert_eq!(stage.gateway.wait(), 1);
    stage.gateway.wait_line("HTTP_ADDR 127.0.0.1");
    assert!(stage.sim.ledger().rest.is_empty(), "Discord was not asked");
    // `none` is no port at all.
    stage.restart_with("HTTP_ADDR", "none");
    stage.wait_up();
    assert_eq!(stage.gateway.count("status page on"), 0);
}

/// A process that waits for Discord can be looked at.
#[test]
fn the_page_is_there_before_discord() {
    let prepared = Setup::new("before", 1, 1).without_worker_queues().prepare();
    let stage = prepared.env("DISCORD_API_URL", &format!("http://127.0.0.1:{}/api/v10", dead_port())).start();
    let address = address(&stage.gateway);
    assert_eq!((json(&address, "/healthz").0, json(&address, "/readyz").0), (200, 503));
    assert_eq!(json(&address, "/shards").1, serde_json::json!([]));
    metrics(&address);
}

fn rss_kib(stage: &Stage) -> u64 {
    stage.gateway.resident_kib()
}

/// What is no request, or too much of one, ends its connection and nothing else.
#[test]
fn rude_requests() {
    let stage = Setup::new("rude", 1, 1).start();
    let address = address(&stage.gateway);
    let mut rude: Vec<Vec<u8>> = vec![
        b"nonsense\r\n\r\n".to_vec(),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
        b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999\r\n\r\n".to_vec(),
        b"GET / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\nabc"
            .to_vec(),
        b"GET / HTTP/9.9\r\n\r\n".to_vec(),
        vec![0; 100_000],
        b"\r\n".repeat(1000),
    ];
    let mut giant = b"GET / HTTP/1.1\r\nX: ".to_vec();
    giant.resize(1 << 20, b'a');
    rude.push(giant);
    rude.push([b"GET / HTTP/1.1\r\n".to_vec(), b"A: b\r\n".repeat(10_000)].concat());
    for bytes in &rude {
        let mut stream = connect(&address);
        // It may be closed before all is said.
        let _ = stream.write_all(bytes);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert!(answer.is_empty(), "{}", String::from_utf8_lossy(&answer));
    }
    assert!(metrics(&address).get("rateway_http_connections_closed_total") >= rude.len() as u64);
    // Many requests at once on one connection are answered one after the other, as far as they are read.
    let mut stream = connect(&address);
    let request = format!("GET /healthz HTTP/1.1\r\nHost: {address}\r\n\r\n");
    stream.write_all(request.repeat(50).as_bytes()).expect("it takes them");
    let mut text = String::new();
    while text.matches("\"healthy\":true").count() < 50 {
        let mut piece = [0; 4096];
        let count = stream.read(&mut piece).expect("answers");
        assert!(count > 0, "closed after {text}");
        text.push_str(&String::from_utf8_lossy(&piece[..count]));
    }
}

/// Connections that are opened and say nothing, or little by little, keep no probe out and take no memory.
#[test]
fn slow_clients_keep_nobody_out() {
    let stage = Setup::new("slow", 1, 1).start();
    let address = address(&stage.gateway);
    get(&address, "/status");
    let before = rss_kib(&stage);
    let mut slow: Vec<TcpStream> = (0..200).map(|_| connect(&address)).collect();
    for round in 0..5 {
        for stream in &mut slow {
            let _ = stream.write_all(if round == 0 { b"GET / HTTP/1.1\r\n" } else { b"X: y\r\n" });
        }
        let begin = Instant::now();
        assert_eq!(get(&address, "/healthz").0, 200);
        assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
        let_pass(0.1);
    }
    let metrics = metrics(&address);
    assert!(metrics.get("rateway_http_connections") <= 64);
    assert!(metrics.get("rateway_http_connections_closed_total") >= 200 - 64);
    // A request has ten seconds.
    wait_until("the slow ones to be closed", || self::metrics(&address).get("rateway_http_connections") <= 1);
    assert!(rss_kib(&stage) < before + 4096, "{} KiB, {before} before", rss_kib(&stage));
}

/// A reader of /events gets one a second; one that does not read gets fewer, and others are served meanwhile.
#[test]
fn streams_are_bounded() {
    let stage = Setup::new("streams", 2, 2).start();
    let address = address(&stage.gateway);
    let open = || {
        let mut stream = connect(&address);
        write!(stream, "GET /events HTTP/1.1\r\nHost: {address}\r\n\r\n").expect("it takes it");
        stream
    };
    let mut reader = open();
    let mut text = String::new();
    let begin = Instant::now();
    while text.matches("data: {").count() < 4 {
        let mut piece = [0; 4096];
        let count = reader.read(&mut piece).expect("updates");
        assert!(count > 0, "closed after {text}");
        text.push_str(&String::from_utf8_lossy(&piece[..count]));
    }
    assert!(begin.elapsed() > Duration::from_secs(2), "one a second: {:?}", begin.elapsed());
    assert!(text.contains("content-type: text/event-stream"), "{text}");
    // Fifteen more, who read nothing, with little room in between; then there is no place left.
    let idle: Vec<TcpStream> = (0..15)
        .map(|_| {
            let stream = open();
            socket2::SockRef::from(&stream).set_recv_buffer_size(2048).expect("a socket");
            stream
        })
        .collect();
    wait_until("all to be counted", || metrics(&address).get("rateway_http_streams") == 16);
    let (status, _) = get(&address, "/events");
    assert_eq!(status, 503);
    let before = rss_kib(&stage);
    let_pass(5.0);
    assert_eq!(get(&address, "/healthz").0, 200);
    assert!(rss_kib(&stage) < before + 8192, "{} KiB, {before} before", rss_kib(&stage));
    drop(idle);
    wait_until("their places to be free", || metrics(&address).get("rateway_http_streams") == 1);
}
