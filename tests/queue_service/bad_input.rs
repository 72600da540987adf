//! What is no request is never answered: any answer would send a shard off to identify.

use std::process::{Command, Stdio};

use crate::service::{OWN, Service};

/// The start of a TLS handshake, without the byte that ends a line anywhere in it.
const CLIENT_HELLO: &[u8] = b"\x16\x03\x01\x00\x35\x01\x00\x00\x31\x03\x03\
    \xab\xcd\xef\xab\xcd\xef\xab\xcd\xef\xab\xcd\xef\xab\xcd\xef\xab\xcd\xef\xab\xcd\xef\xab\xcd\xef\xab\xcd\xef\xab\xcd\xef\xab\xcd\
    \x00\x00\x02\x13\x01\x01\x00\x00\x06\x00\x2b\x00\x02\x03\x04";

/// Texts that are wrong in one way each.
fn malformed() -> Vec<Vec<u8>> {
    let get = |rest: &str| format!("GET / HTTP/1.1\r\nHost: q\r\n{rest}").into_bytes();
    let post = |rest: &str| format!("POST / HTTP/1.1\r\nHost: q\r\n{rest}").into_bytes();
    let mut out: Vec<Vec<u8>> = [
        "GET /\r\n\r\n",
        "GET / HTTP/1.1 x\r\n\r\n",
        "GET / HTTP/2.0\r\n\r\n",
        "GET / HTTP/0.9\r\n\r\n",
        "GET / http/1.1\r\n\r\n",
        "GET /a b HTTP/1.1\r\n\r\n",
        "G@T / HTTP/1.1\r\n\r\n",
        " GET / HTTP/1.1\r\n\r\n",
        "HTTP/1.1 200 OK\r\n\r\n",
        "hello\r\n\r\n",
        "\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\nGET / HTTP/1.1\r\n\r\n",
        // HTTP/2 with prior knowledge; a WebSocket frame; what a Redis or SSH client says first.
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
        "*1\r\n$4\r\nPING\r\n\r\n",
        "SSH-2.0-OpenSSH_9.2\r\n\r\n",
    ]
    .map(|text| text.as_bytes().to_vec())
    .into();
    out.extend(
        ["No colon\r\n\r\n", "Na me: x\r\n\r\n", ": x\r\n\r\n", "A: b\r\n folded\r\n\r\n", "A: \0\r\n\r\n"]
            .map(get),
    );
    out.extend(
        [
            "Content-Length: x\r\n\r\n",
            "Content-Length: -1\r\n\r\n",
            "Content-Length: 1\r\nContent-Length: 2\r\n\r\n",
            "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "Transfer-Encoding: gzip\r\n\r\n",
            "Transfer-Encoding: chunked\r\n\r\nz\r\n",
            "Transfer-Encoding: chunked\r\n\r\n1\r\nxx\r\n",
        ]
        .map(post),
    );
    // Too large, in each way in which it can be.
    let long = "x".repeat(9 * 1024);
    out.push(format!("GET /{long} HTTP/1.1\r\n\r\n").into_bytes());
    // Without any end, too.
    out.push(format!("GET /{long}").into_bytes());
    out.push(get(&format!("A: {long}\r\n\r\n")));
    out.push(get(&"A: b\r\n".repeat(100)));
    out.push(post("Content-Length: 65537\r\n\r\n"));
    out.push(post("Content-Length: 99999999999999999999\r\n\r\n"));
    out.push(post("Transfer-Encoding: chunked\r\n\r\n10001\r\n"));
    out.push(post(&format!("Transfer-Encoding: chunked\r\n\r\n1;{long}\r\n")));
    out.push(get(&format!("\r\n{}", "GET / HTTP/1.1\r\n\r\n".repeat(1000))));
    // Not text at all.
    out.push(CLIENT_HELLO.to_vec());
    out.push(b"\0".to_vec());
    out.push(b"\xff\xfe\xfd".to_vec());
    out.push(b"GET / HTTP/1.1\r\n\x80\xff: \x01\r\n\r\n".to_vec());
    out
}

#[test]
fn nothing_but_a_permit_is_ever_answered() {
    let service = Service::start(&[]);
    // Somebody who waits, and somebody in the midst of asking: neither may notice.
    let mut first = service.connect();
    first.say("GET / HTTP/1.1\r\nHo");
    let texts = malformed();
    for text in &texts {
        let mut shard = service.connect();
        shard.say(text);
        shard.assert_closed();
    }
    service.wait_ended("malformed", texts.len() as u64);
    assert_eq!((service.count("connections"), service.count("answered_total")), (1, 0));
    first.say("st: q\r\n\r\n");
    first.answer().assert_permit();
    // One that waits and then sends too much ahead gives its place up.
    let mut flood = service.ask_and_wait(OWN, "/");
    flood.say(vec![b'x'; 20_000]);
    flood.assert_closed();
    service.wait_ended("malformed", texts.len() as u64 + 1);
    let gate = service.gate(OWN);
    assert_eq!((&gate["granted"], &gate["abandoned"], &gate["waiting"]), (&1.into(), &1.into(), &0.into()));
}

/// Nonsense right behind a request: that one is answered, and nothing else.
#[test]
fn nonsense_behind_a_request() {
    let service = Service::start(&[("CONCURRENCY", "10")]);
    for (number, nonsense) in ["GET / HTTP/9.9\r\n\r\n", "\0", "hello\n\n"].iter().enumerate() {
        let mut shard = service.connect();
        shard.say(format!("GET /?shard={number} HTTP/1.1\r\n\r\n{nonsense}"));
        shard.answer().assert_permit();
        shard.assert_closed();
    }
    service.wait_ended("malformed", 3);
    assert_eq!(service.count("answered_total"), 3);
}

/// Bytes without any order, and requests of which some bytes were changed.
#[test]
fn noise() {
    let service = Service::start(&[("CONCURRENCY", "1000")]);
    let mut rng = rateway::base::Rng::new(7);
    for round in 0..200 {
        let bytes: Vec<u8> = if round % 2 == 0 {
            // A control byte no request begins with, so that none of it waits for more to come.
            let noise = (0..rng.below(2000)).map(|_| rng.next_u64() as u8);
            [b'\x01'].into_iter().chain(noise).collect()
        } else {
            let mut text =
                b"POST /k/x HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: x\r\n\r\nabc\r\n\r\n"
                    .to_vec();
            let at = rng.below(20) as usize;
            text[at] = rng.next_u64() as u8;
            text
        };
        let mut shard = service.connect();
        shard.say(bytes);
        shard.end_writing();
        shard.assert_closed();
    }
    service.wait_connections(0);
    assert_eq!(
        (service.ended("malformed") + service.ended("gone"), service.count("answered_total")),
        (200, 0)
    );
    service.ask("/").answer().assert_permit();
}

/// `https` where there is none fails at once, and does not hang.
#[test]
fn curl_with_tls() {
    let service = Service::start(&[]);
    for _ in 0..5 {
        let mut child = Command::new("curl")
            .args(["-q", "-sS", "-k", "--noproxy", "*", &format!("https://{}/", service.queue)])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("curl; `make test` installs it");
        let status = child.wait().expect("our own child");
        // 35: the handshake failed.
        assert_eq!(status.code(), Some(35));
    }
    service.wait_ended("malformed", 5);
    assert_eq!(service.count("answered_total"), 0);
}

/// A sender that takes its time is neither answered nor, before the time for a request is over, closed. That this time
/// ends is for a test by the code: it is half a minute.
#[test]
fn a_slow_sender() {
    let service = Service::start(&[]);
    let mut slow = service.connect();
    let mut silent = service.connect();
    for piece in ["GET ", "/ HTTP", "/1.1\r", "\nA: b\r\n"] {
        slow.say(piece);
        slow.assert_unanswered(0.5);
    }
    silent.assert_unanswered(0.1);
    // Others do not wait for it.
    service.ask("/").answer().assert_permit();
    drop((slow, silent));
    // The one with the permit has left as well.
    service.wait_ended("gone", 3);
    assert_eq!(service.gate(OWN)["granted"], 1);
}

#[test]
fn as_many_connections_as_may_be() {
    let service = Service::start(&[("CONNECTIONS_MAX", "2"), ("CONCURRENCY", "10")]);
    let mut waiting = service.ask("/?shard=0");
    waiting.answer().assert_permit();
    waiting.ask("/?shard=0");
    service.wait_waiting(OWN, 1);
    let open = service.connect();
    service.wait_connections(2);
    for count in 1..4 {
        let mut surplus = service.ask("/?shard=1");
        surplus.assert_closed();
        assert_eq!(service.count("connections_refused_total"), count);
    }
    service.process.wait_line("as many connections as may be");
    waiting.assert_unanswered(0.1);
    drop(open);
    service.wait_connections(1);
    service.ask("/?shard=1").answer().assert_permit();
    let gate = service.gate(OWN);
    assert_eq!((&gate["granted"], &gate["waiting"]), (&2.into(), &1.into()), "{gate}");
}

/// A person with netcat, who ends lines as Unix does.
#[test]
fn bare_line_feeds_are_a_request() {
    let service = Service::start(&[]);
    let mut shard = service.connect();
    shard.say("\n\r\nGET / HTTP/1.1\nA: b\n\n");
    shard.answer().assert_permit();
}
