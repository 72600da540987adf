//! What the operator asks, on a port where no shard does.

use crate::service::{OWN, Service};

#[test]
fn metrics_are_prometheus_text() {
    let service = Service::start(&[("CONCURRENCY", "2")]);
    service.ask("/?shard=0").answer().assert_permit();
    service.ask("/k/abc-_9?shard=0").answer().assert_permit();
    let _waiting = service.ask_and_wait(OWN, "/?shard=2");
    let (_, head, _) = service.admin("GET", "/metrics");
    assert!(head.to_ascii_lowercase().contains("content-type: text/plain; version=0.0.4"), "{head}");
    // Reading is strict: see `prometheus`.
    let metrics = service.metrics();
    assert!(metrics.kinds().keys().all(|name| name.starts_with("rateway_queue_")), "{metrics:?}");
    for (gate, waiting) in [(OWN, 1), ("abc-_9", 0)] {
        assert_eq!((metrics.of_gate("granted_total", gate), metrics.of_gate("waiting", gate)), (1, waiting));
        let next = metrics.find(&format!("rateway_queue_next_permit_seconds{{gate=\"{gate}\"}}"));
        assert_eq!(next.is_some(), waiting > 0, "{next:?}");
        assert!(next.is_none_or(|seconds| seconds <= 5.25), "{next:?}");
    }
    assert_eq!(metrics.kinds()["rateway_queue_waiting"], "gauge");
    assert_eq!(metrics.kinds()["rateway_queue_granted_total"], "counter");
}

/// A gate's own numbers change with time alone; who watches changes none, or every scrape would look like a shard.
#[test]
fn watching_is_not_counted() {
    let service = Service::start(&[]);
    let (_, _, before) = service.admin("GET", "/metrics");
    for path in ["/", "/healthz", "/gates", "/nowhere", "/metrics"] {
        service.admin("GET", path);
    }
    // Another one is open, and one has sent what is no request.
    let _open = std::net::TcpStream::connect(&service.admin).expect("the admin port");
    let mut bad = crate::shard::Shard::connect(&service.admin);
    bad.say("nonsense\r\n\r\n");
    bad.assert_closed();
    assert_eq!(service.admin("GET", "/metrics").2, before);
    let metrics = service.metrics();
    for name in ["accepted_total", "requests_total", "connections"] {
        assert_eq!(metrics.get(&format!("rateway_queue_{name}")), 0, "{name}");
    }
}

#[test]
fn pages() {
    let service = Service::start(&[]);
    let (status, _, body) = service.admin("GET", "/healthz");
    assert_eq!((status, body.as_str()), (200, "ok\n"));
    let (status, _, body) = service.admin("GET", "/");
    assert!(
        status == 200 && ["/metrics", "/healthz", "/gates"].iter().all(|path| body.contains(path)),
        "{body}"
    );
    let (status, head, body) = service.admin("HEAD", "/healthz?x");
    assert_eq!((status, body.as_str()), (200, ""), "{head}");
    for path in ["/nowhere", "/metrics/", "/k/abc", "*"] {
        assert_eq!(service.admin("GET", path).0, 404, "{path}");
    }
    for method in ["POST", "DELETE", "OPTIONS"] {
        let (status, head, _) = service.admin(method, "/metrics");
        // RFC 9110 15.5.6: which ones are allowed has to be said.
        assert!(status == 405 && head.to_ascii_lowercase().contains("\r\nallow: get, head\r\n"), "{head}");
    }
    assert_eq!(service.gate(OWN)["granted"], 0, "nothing here is a permit");
}

#[test]
fn gates_are_json() {
    let service = Service::start(&[("CONCURRENCY", "3")]);
    let (status, head, text) = service.admin("GET", "/gates");
    assert!(status == 200 && head.to_ascii_lowercase().contains("content-type: application/json"), "{head}");
    let gates: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let wanted = serde_json::json!([{
        "gate": "default", "waiting": 0, "granted": 0, "abandoned": 0, "returned": 0, "lapsed": 0, "refused": 0,
        "remaining": 2000, "total": 2000, "max_concurrency": 3, "next_permit_in_ms": null, "reset_in_ms": null,
    }]);
    assert_eq!(gates, wanted);
}

/// The admin port stays open to its own when shards have taken all their connections, and the other way round.
#[test]
fn neither_port_takes_the_others_room() {
    let service = Service::start(&[("CONNECTIONS_MAX", "1"), ("CONCURRENCY", "10")]);
    let _shard = service.connect();
    service.wait_connections(1);
    assert_eq!(service.admin("GET", "/healthz").0, 200);
    drop(_shard);
    service.wait_connections(0);
    let _admins: Vec<_> =
        (0..63).map(|_| std::net::TcpStream::connect(&service.admin).expect("the admin port")).collect();
    service.ask("/?shard=0").answer().assert_permit();
}
