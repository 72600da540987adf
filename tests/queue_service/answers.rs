//! Whatever is asked, the answer is the same, to the byte: clients of two other programs read it.

use std::io::Write;
use std::process::{Command, Stdio};

use crate::service::{OWN, Service};
use crate::shard::PERMIT;
use crate::support::PATIENCE;

/// A service of its own for each: what is sent names no shard, so all of it is for the one bucket, and only the first
/// permit comes at once.
fn is_answered(request: &str) {
    let service = Service::start(&[]);
    let mut shard = service.connect();
    shard.say(request);
    shard.answer().assert_permit();
    assert_eq!(service.count("answered_total"), 1, "{request:?}");
}

#[test]
fn the_bytes() {
    let service = Service::start(&[]);
    let answer = service.ask("/").answer();
    answer.assert_permit();
    assert_eq!(PERMIT.len(), 45);
    assert_eq!(answer.header("content-length"), Some("45"));
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert!(answer.header("date").is_some_and(|date| date.ends_with(" GMT")), "{answer:?}");
    let mut names: Vec<&str> = answer.headers.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["content-length", "content-type", "date"]);
}

#[test]
fn any_method() {
    for method in ["PUT", "DELETE", "PATCH", "TRACE", "get", "M-SEARCH", "!#$%&'*+-.^_`|~0aZ"] {
        is_answered(&format!("{method} / HTTP/1.1\r\nHost: q\r\n\r\n"));
    }
    is_answered("POST / HTTP/1.1\r\nHost: q\r\nContent-Length: 9\r\n\r\nwhat ever");
    is_answered("OPTIONS * HTTP/1.1\r\nHost: q\r\n\r\n");
    // A tunnel is not made; the request waits its turn as any other.
    is_answered("CONNECT gateway.discord.gg:443 HTTP/1.1\r\nHost: gateway.discord.gg:443\r\n\r\n");
}

#[test]
fn head_has_no_body() {
    let service = Service::start(&[("CONCURRENCY", "2")]);
    let mut shard = service.connect();
    shard.say("HEAD /?shard=0 HTTP/1.1\r\nHost: q\r\n\r\n");
    let answer = shard.head();
    assert_eq!(
        (answer.status_line.as_str(), answer.header("content-length")),
        ("HTTP/1.1 200 OK", Some("45"))
    );
    // What follows the head is the next answer.
    shard.ask("/?shard=1");
    shard.answer().assert_permit();
}

#[test]
fn any_path_header_and_body() {
    let long = "x".repeat(7000);
    let body = "{\"shard_id\":".repeat(5000);
    let targets = [
        "/a/b/c?shard=0",
        "/%20%00%ff?shard=1",
        "//?shard=2",
        "http://queue.internal:8080/?shard=3",
        "/healthz?shard=4",
        "/metrics?shard=5",
        "/favicon.ico?shard=&shard=6&&=&x=%",
        &format!("/{long}?shard=7"),
    ];
    let service = Service::start(&[("CONCURRENCY", "1000")]);
    for target in targets {
        service.ask(target).answer().assert_permit();
    }
    let headers = [
        "Host: a\r\nHost: b",
        "Accept: text/html\r\nIf-None-Match: *\r\nRange: bytes=0-3",
        "Authorization: Bot no\r\nCookie: a=b",
        "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Content-Type: application/json",
        &format!("X: {long}"),
    ];
    for (number, headers) in headers.iter().enumerate() {
        let mut shard = service.connect();
        let length = body.len();
        let head = format!("POST /?shard={} HTTP/1.1\r\n{headers}\r\n", 100 + number);
        shard.say(format!("{head}Content-Length: {length}\r\n\r\n{body}"));
        shard.answer().assert_permit();
    }
    assert_eq!(service.count("answered_total"), (targets.len() + headers.len()) as u64);
}

#[test]
fn http_1_0() {
    let service = Service::start(&[("CONCURRENCY", "10")]);
    let mut old = service.connect();
    old.say("GET /?shard=0 HTTP/1.0\r\n\r\n");
    let answer = old.answer();
    answer.assert_permit();
    assert_eq!(answer.header("connection"), Some("close"));
    old.assert_closed();

    let mut kept = service.connect();
    for shard in 1..3 {
        kept.say(format!("GET /?shard={shard} HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"));
        let answer = kept.answer();
        answer.assert_permit();
        assert_eq!(answer.header("connection"), Some("keep-alive"));
    }

    let mut closing = service.connect();
    closing.say("GET /?shard=3 HTTP/1.1\r\nHost: q\r\nConnection: close\r\n\r\n");
    closing.answer().assert_permit();
    closing.assert_closed();
    // Neither end waits for the other longer than it has to.
    drop((old, closing));
    service.wait_ended("gone", 2);
}

/// Several requests at once on one connection: each is answered in its turn, in the form that it asked for.
#[test]
fn pipelined() {
    let service = Service::start(&[("CONCURRENCY", "10")]);
    let mut shard = service.connect();
    let body = r#"{"shard_id":1,"token_hash":"abc","max_concurrency":4}"#;
    let post = format!(
        "POST / HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    shard.say(format!(
        "HEAD /?shard=0 HTTP/1.1\r\n\r\n{post}GET /?shard=2 HTTP/1.1\r\n\r\n\
         POST /?shard=3 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nxy\r\n0\r\n\r\n\
         GET /?shard=4 HTTP/1.0\r\n\r\nGET /?shard=5 HTTP/1.1\r\n\r\n"
    ));
    assert_eq!(shard.head().header("content-length"), Some("45"));
    let answer = shard.answer();
    // Not the body of the one before.
    assert_eq!(answer.status_line, "HTTP/1.1 200 OK");
    assert!(answer.body.contains("\"success\":true"), "{answer:?}");
    for _ in 0..3 {
        shard.answer().assert_permit();
    }
    // HTTP/1.0 was the last word: what came after it is not looked at.
    shard.assert_closed();
    assert_eq!(service.gate(OWN)["granted"], 4);
}

/// A request in advance waits behind the one before it, not beside it: it has no place in any bucket yet.
#[test]
fn pipelined_behind_one_that_waits() {
    let service = Service::start(&[("CONCURRENCY", "10")]);
    service.ask("/?shard=0").answer().assert_permit();
    let mut shard = service.connect();
    shard.say("GET /?shard=10 HTTP/1.1\r\n\r\nGET /?shard=1 HTTP/1.1\r\n\r\n");
    service.wait_waiting(OWN, 1);
    service.ask("/?shard=1").answer().assert_permit();
    shard.assert_unanswered(0.3);
    assert_eq!(service.gate(OWN)["granted"], 2);
}

/// Runs curl; says what it printed, headers among it.
fn curl(arguments: &[&str], input: &[u8]) -> String {
    let seconds = PATIENCE.as_secs().to_string();
    let mut child = Command::new("curl")
        .args(["-q", "-sS", "-i", "--noproxy", "*", "--max-time", &seconds])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("curl; `make test` installs it");
    // Dropped at once: curl reads to the end.
    child.stdin.take().expect("piped").write_all(input).expect("curl reads it");
    let output = child.wait_with_output().expect("our own child");
    assert!(output.status.success(), "curl {arguments:?}: {}", output.status);
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn curl_as_it_comes() {
    let service = Service::start(&[("CONCURRENCY", "10")]);
    let url = |shard: u32| format!("http://{}/any/path?shard={shard}", service.queue);
    let is_permit = |text: &str| text.starts_with("HTTP/1.1 200 OK\r\n") && text.ends_with(PERMIT);
    let plain = curl(&[&url(0)], b"");
    assert!(is_permit(&plain), "{plain}");
    let old = curl(&["--http1.0", &url(1)], b"");
    assert!(is_permit(&old), "{old}");
    let form = curl(&["-X", "DELETE", "-F", "a=b", &url(2)], b"");
    assert!(is_permit(&form), "{form}");
    // Asked to speak HTTP/2, it is content with less.
    let upgrade = curl(&["--http2", &url(3)], b"");
    assert!(is_permit(&upgrade), "{upgrade}");
}

#[test]
fn curl_uploads() {
    let service = Service::start(&[("CONCURRENCY", "10")]);
    let url = |shard: u32| format!("http://{}/?shard={shard}", service.queue);
    let body = vec![b'x'; 60_000];
    let chunked = curl(&["-T", "-", &url(0)], &body);
    assert!(chunked.ends_with(PERMIT), "{chunked}");
    // It waits for the word to go on, so long that the test would fail if none came.
    let wait = PATIENCE.as_secs().to_string();
    let expect = ["-H", "Expect: 100-continue", "--expect100-timeout", &wait, "--data-binary", "@-"];
    let continued = curl(&[&expect[..], &[&url(1)]].concat(), &body);
    assert!(continued.starts_with("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n"), "{continued}");
    assert!(continued.ends_with(PERMIT), "{continued}");
    // The word to go on is said to those alone who wait for a word; to all others it might look like a permit.
    let impatient = curl(&["-H", "Expect:", "--data-binary", "@-", &url(2)], &body);
    assert!(impatient.starts_with("HTTP/1.1 200 OK\r\n"), "{impatient}");
}
