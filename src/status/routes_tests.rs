//! Requests against a board that a test has filled.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::*;
use crate::http::server::{Connection, Limits};
use crate::reactor::clock;
use crate::status::board::Source;
use crate::status::figures::{Cache, CacheKind, Cluster, Identify, PUBLISHING, Shard, Spool, Thread};
use crate::status::incidents::Subject;

const TOKEN: &str = "a-token-of-some-length";

struct Fake {
    idle: Vec<Duration>,
    asked: Arc<AtomicU32>,
}

impl Source for Fake {
    fn idle(&self, _: Instant) -> Vec<Duration> {
        self.idle.clone()
    }

    fn trouble(&self) -> (u64, u64) {
        (2, 0)
    }

    fn cache(&self) -> Option<Cache> {
        let kinds = vec![CacheKind { kind: "guilds", held: 5, evicted: 1, refused: 0 }];
        Some(Cache { kinds, capacity_bytes: 1 << 20, used_bytes: 1 << 19, ..Cache::default() })
    }

    fn reconnect(&self, shard: u32) {
        self.asked.store(shard, Ordering::Relaxed);
    }
}

fn thread(states: &[(u32, &'static str)], link: &'static str) -> Thread {
    let shard = |&(id, state): &(u32, &'static str)| Shard {
        id,
        cluster: 1 + id / 2,
        state,
        changed_at: None,
        heartbeat_rtt: Some(Duration::from_micros(41_500)),
        seqs: Some((12, Some(10))),
        events: 12,
        reconnects: 1,
    };
    let shards: Vec<Shard> = states.iter().map(shard).collect();
    let spool = Spool { shed: vec![("TYPING_START".to_owned(), 7)], bytes_max: 1 << 30, ..Spool::default() };
    let cluster = Cluster {
        number: shards[0].cluster,
        broker: "amqp://me:***@broker/".into(),
        link,
        outbox_bytes_max: 1 << 20,
        spool: Some(spool),
        ..Cluster::default()
    };
    let mut thread = Thread { shards, clusters: vec![cluster], losses: vec![("io", 1)], ..Thread::default() };
    thread.timings.heartbeat.note(Duration::from_millis(42), 1);
    thread
}

/// A process with four shards in two clusters on two threads.
struct Scene {
    settings: Settings,
    board: Board,
    asked: Arc<AtomicU32>,
    turn: Turn,
}

impl Scene {
    fn new() -> Scene {
        Scene::with(vec![Duration::ZERO; 2])
    }

    fn with(idle: Vec<Duration>) -> Scene {
        let asked = Arc::new(AtomicU32::new(u32::MAX));
        let turn = Turn { wall_ms: 1_767_225_600_000, ..clock::read() };
        let board = Board::new(turn.now);
        board.begin(Box::new(Fake { idle, asked: asked.clone() }), 2, 4, 2);
        let settings =
            Settings { admin_token: Some(Secret::new(TOKEN)), is_loopback: true, page: Page::new() };
        let scene = Scene { settings, board, asked, turn };
        scene.put(0, thread(&[(0, "active"), (1, "active")], PUBLISHING));
        let identify = Identify { remaining: 900, total: 1000, max_concurrency: 1, ..Identify::default() };
        let other = thread(&[(2, "active"), (3, "active")], PUBLISHING);
        scene.put(1, Thread { identify: Some(identify), ..other });
        scene
    }

    fn put(&self, place: usize, mut thread: Thread) {
        assert!(self.board.put(place, &mut thread));
    }

    fn ask(&self, head: &str) -> (u16, String, Vec<(&'static str, String)>) {
        let mut connection = Connection::new(Limits::default());
        let host = if head.contains("Host:") { "" } else { "Host: localhost:9980\r\n" };
        connection.receive(format!("{head}\r\n{host}\r\n").as_bytes()).expect("a request");
        let request = connection.poll_request().expect("a request").expect("whole");
        let context = Context {
            settings: &self.settings,
            board: &self.board,
            history: &History::default(),
            counts: Counts::default(),
            may_stream: true,
            turn: self.turn,
        };
        let answer = answer(&request, &context);
        let headers = answer.headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        (answer.status, String::from_utf8(answer.body.into_owned()).expect("text"), headers)
    }

    fn get(&self, path: &str) -> (u16, String) {
        let (status, body, _) = self.ask(&format!("GET {path} HTTP/1.1"));
        (status, body)
    }

    fn json(&self, path: &str) -> (u16, Value) {
        let (status, body) = self.get(path);
        assert_eq!(body.matches('\n').count(), 1, "one line: {body}");
        (status, serde_json::from_str(&body).expect("JSON"))
    }
}

#[test]
fn health_is_of_threads() {
    assert_eq!(Scene::new().json("/healthz"), (200, serde_json::json!({"healthy": true})));
    let late = Scene::with(vec![Duration::from_secs(1), Duration::from_secs(9)]);
    let (status, body) = late.json("/healthz");
    assert_eq!((status, &body["missing"][0]), (503, &"reactor-1 has not turned for 9 s".into()));
    assert_eq!(late.json("/readyz").0, 503);
}

#[test]
fn readiness_is_of_shards_and_brokers() {
    let scene = Scene::new();
    assert_eq!(scene.json("/readyz"), (200, serde_json::json!({"ready": true})));
    scene.put(0, thread(&[(0, "active"), (1, "resuming")], "down"));
    let (status, body) = scene.json("/readyz");
    let missing = serde_json::json!([
        "the broker of cluster 1 takes no publishes: down",
        "1 of 4 shards are not up: 1 (resuming)"
    ]);
    assert_eq!((status, &body["missing"]), (503, &missing));
    // Before Discord has said how to start there is nothing to be ready, and nothing to be stuck.
    let early = Scene { board: Board::new(scene.turn.now), ..scene };
    assert_eq!((early.json("/readyz").0, early.json("/healthz").0, early.json("/status").0), (503, 200, 200));
}

#[test]
fn shards_tell_of_themselves() {
    let scene = Scene::new();
    let (status, all) = scene.json("/shards");
    assert_eq!((status, all.as_array().map(Vec::len)), (200, Some(4)));
    let (status, one) = scene.json("/shards/2");
    let wanted = serde_json::json!({
        "id": 2, "cluster": 2, "state": "active", "since_ms": null, "heartbeat_rtt_ms": 41.5,
        "session": {"received_seq": 12, "confirmed_seq": 10}, "events": 12, "reconnects": 1,
    });
    assert_eq!((status, &one, &all[2]), (200, &wanted, &wanted));
    for path in ["/shards/4", "/shards/-1", "/shards/+1", "/shards/x", "/shards/", "/shards/99999999999"] {
        assert_eq!(scene.json(path).0, 404, "{path}");
    }
}

#[test]
fn the_state_of_everything() {
    let scene = Scene::new();
    let text = "</script><script>alert(1)</script>";
    scene.board.incidents.note(scene.turn.wall_ms, "disconnected", Subject::Shard(3), text);
    let (_, status) = scene.json("/status");
    assert_eq!(status["clusters"][1]["states"], "AA");
    assert_eq!(status["clusters"][1]["first_shard"], 2);
    assert_eq!(status["identify"]["remaining"], 900);
    assert_eq!(status["incidents"][0]["text"], text);
    assert_eq!(status["shards"], serde_json::json!({"up": 4, "total": 4}));
}

#[test]
fn updates_are_one_datum() {
    let (status, body, headers) = Scene::new().ask("GET /events HTTP/1.1");
    assert_eq!(status, 200);
    assert!(
        body.starts_with("data: {") && body.ends_with("}\n\n") && body.matches('\n').count() == 2,
        "{body}"
    );
    assert!(headers.contains(&("cache-control", "no-store".to_owned())), "{headers:?}");
}

#[test]
fn a_reconnect_takes_the_token() {
    let scene = Scene::new();
    let ask = |id: &str, credentials: &str| {
        let (status, body, _) =
            scene.ask(&format!("POST /shards/{id}/reconnect HTTP/1.1\r\nAuthorization: {credentials}"));
        assert!(!body.contains(TOKEN), "{body}");
        status
    };
    for wrong in
        ["", "Bearer", "Bearer x", "Basic a-token-of-some-length", TOKEN, "Bearer a-token-of-some-lengtH"]
    {
        assert_eq!(ask("2", wrong), 401, "{wrong}");
    }
    assert_eq!(scene.ask("POST /shards/2/reconnect HTTP/1.1").0, 401);
    assert_eq!(scene.asked.load(Ordering::Relaxed), u32::MAX, "nobody was told");
    let good = format!("bearer {TOKEN}");
    assert_eq!((ask("9", &good), ask("x", &good)), (404, 404));
    assert_eq!(ask("2", &good), 202);
    assert_eq!(scene.asked.load(Ordering::Relaxed), 2);
    scene.put(0, thread(&[(0, "resuming"), (1, "active")], PUBLISHING));
    assert_eq!(ask("0", &good), 503);
    assert_eq!(scene.get("/shards/2/reconnect").0, 405);
    let without =
        Scene { settings: Settings { admin_token: None, ..scene.settings.clone() }, ..Scene::new() };
    let (status, body, _) =
        without.ask(&format!("POST /shards/2/reconnect HTTP/1.1\r\nAuthorization: {good}"));
    assert!(status == 403 && body.contains("ADMIN_TOKEN"), "{status} {body}");
}

#[test]
fn a_name_of_somebody_elses_is_refused() {
    let scene = Scene::new();
    let with = |scene: &Scene, host: &str| scene.ask(&format!("GET /status HTTP/1.1\r\nHost: {host}")).0;
    for own in
        ["localhost", "LOCALHOST:9980", "127.0.0.1", "127.0.0.1:80", "[::1]", "[::1]:9980", "127.0.0.2:9980"]
    {
        assert_eq!(with(&scene, own), 200, "{own}");
    }
    for other in [
        "",
        "evil.example",
        "evil.example:9980",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "x@127.0.0.1",
        "192.0.2.1",
    ] {
        assert_eq!(with(&scene, other), 403, "{other}");
    }
    assert_eq!(with(&scene, "localhost\r\nHost: localhost"), 403, "two names");
    let open = Scene { settings: Settings { is_loopback: false, ..scene.settings.clone() }, ..Scene::new() };
    assert_eq!(with(&open, "gateway.example:9980"), 200);
}

#[test]
fn methods_and_paths() {
    let scene = Scene::new();
    for path in ["/nowhere", "/metrics/", "//", "/status/x", "/shards/1/2", "/shards/1/reconnect/x"] {
        assert_eq!(scene.get(path).0, 404, "{path}");
    }
    for (head, allow) in [
        ("POST /metrics", "GET, HEAD"),
        ("DELETE /shards/1", "GET, HEAD"),
        ("PUT /shards/1/reconnect", "POST"),
    ] {
        let (status, body, headers) = scene.ask(&format!("{head} HTTP/1.1"));
        assert!(status == 405 && body.starts_with("{\"error\":"), "{head}: {status} {body}");
        assert!(headers.contains(&("allow", allow.to_owned())), "{headers:?}");
    }
    assert_eq!(scene.ask("HEAD /events HTTP/1.1").1, "");
}

#[test]
fn metrics_have_few_series() {
    let scene = Scene::new();
    let (_, text) = scene.get("/metrics");
    assert!(!text.contains("shard=\""), "{text}");
    assert!(text.contains("\nrateway_shed_total{cluster=\"1\",event=\"TYPING_START\"} 7\n"), "{text}");
    assert!(text.contains("\nrateway_shards{state=\"active\"} 4\n"), "{text}");
    assert!(text.contains("\nrateway_heartbeat_rtt_seconds_count 2\n"), "{text}");
    let (_, by_shard) = scene.get("/metrics?shards=1");
    assert!(by_shard.contains("\nrateway_shard_up{cluster=\"2\",shard=\"3\"} 1\n"), "{by_shard}");
}

/// docs/metrics.md is what is printed; `RATEWAY_BLESS=1` writes it there.
#[test]
fn the_document_has_every_metric() {
    let scene = Scene::new();
    let overview = scene.board.overview(scene.turn.now);
    let facts = metrics::Facts {
        overview: &overview,
        process: process::read(),
        counts: Counts::default(),
        now: scene.turn.now,
        by_shard: true,
    };
    let (text, families) = metrics::write(&facts);
    for family in &families {
        assert!(family.name.starts_with("rateway_"), "{}", family.name);
        assert_eq!(family.kind == "counter", family.name.ends_with("_total"), "{}", family.name);
        assert_eq!(text.matches(&format!("# TYPE {} ", family.name)).count(), 1, "{}", family.name);
    }
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md");
    let document = std::fs::read_to_string(&path).expect("docs/metrics.md");
    let (begin, end) = ("<!-- metrics: begin -->\n", "<!-- metrics: end -->");
    let (before, rest) = document.split_once(begin).expect("the table's begin");
    let (table, after) = rest.split_once(end).expect("the table's end");
    let current = metrics::markdown_table(&families);
    if std::env::var_os("RATEWAY_BLESS").is_some() {
        std::fs::write(&path, [before, begin, &current, end, after].concat()).expect("docs/ is writable");
    } else {
        assert_eq!(table, current, "run `RATEWAY_BLESS=1 cargo test --lib the_document`");
    }
}
