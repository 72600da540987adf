//! The loop with invented effects, and one request against a socket.

use super::*;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;

const GOOD: &[u8] = br#"{"url":"wss://gateway.discord.gg","shards":9,"session_start_limit":{"total":1000,"remaining":999,"reset_after":14400000,"max_concurrency":1}}"#;

fn reply(status: u16, body: &[u8]) -> Reply {
    Reply { status, retry_after: None, via: true, body: body.to_vec() }
}

#[test]
fn asks_until_there_is_an_answer() {
    let mut replies = vec![
        Err("connection refused".to_owned()),
        Ok(reply(502, b"<html>")),
        Ok(reply(429, br#"{"message":"limited","retry_after":43200.5,"global":false}"#)),
        Ok(reply(200, GOOD)),
    ]
    .into_iter();
    let mut slept = Vec::new();
    let bot = fetch(
        || replies.next().unwrap(),
        |wait| {
            slept.push(wait);
            true
        },
        7,
        &|| false,
    )
    .unwrap();
    assert_eq!(bot.shards, 9);
    assert_eq!(slept.len(), 3);
    assert!(slept.iter().all(|wait| *wait >= gateway_bot::WAIT_MIN));
    assert!(slept[2] >= Duration::from_secs(43_200));
}

#[test]
fn a_refused_token_is_asked_about_once() {
    let mut asked = 0;
    let result = fetch(
        || {
            asked += 1;
            Ok(reply(401, b"{}"))
        },
        |_| true,
        7,
        &|| false,
    );
    assert!(matches!(result, Err(Error::Fatal(_))));
    assert_eq!(asked, 1);
}

#[test]
fn a_stop_ends_the_wait() {
    let stop = AtomicBool::new(false);
    let stopped = || stop.load(Ordering::Relaxed);
    let result = fetch(
        || {
            stop.store(true, Ordering::Relaxed);
            Ok(reply(429, br#"{"retry_after":86400}"#))
        },
        |wait| sleep(wait, &stopped),
        7,
        &stopped,
    );
    assert_eq!(result, Err(Error::Stopped));
    assert_eq!(fetch(|| unreachable!(), |_| true, 7, &stopped), Err(Error::Stopped));
}

#[test]
fn waits_are_spoken_in_a_persons_units() {
    for (millis, text) in [(4_200, "5 s"), (65_000, "1 min 5 s"), (82_800_000, "23 h 0 min")] {
        assert_eq!(spoken(Duration::from_millis(millis)), text);
    }
}

/// Answers one request with `answer` and gives back what was asked.
fn serve_once(answer: Vec<u8>) -> (String, std::thread::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/api/v10", listener.local_addr().unwrap());
    let server = std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        let (mut asked, mut chunk) = (Vec::new(), [0; 1024]);
        while !asked.windows(4).any(|bytes| bytes == b"\r\n\r\n") {
            let n = socket.read(&mut chunk).unwrap();
            assert_ne!(n, 0);
            asked.extend_from_slice(&chunk[..n]);
        }
        // The client may hang up before it has read everything.
        let _ = socket.write_all(&answer);
        String::from_utf8(asked).unwrap()
    });
    (url, server)
}

fn options(api_url: String) -> Options {
    Options { api_url, token: Secret::new("abc.def"), ca_pem: None }
}

#[test]
fn the_request_is_as_discord_wants_it() {
    let mut answer = format!(
        "HTTP/1.1 200 OK\r\nVia: 1.1 google\r\nRetry-After: 3\r\nContent-Length: {}\r\n\r\n",
        GOOD.len()
    )
    .into_bytes();
    answer.extend_from_slice(GOOD);
    let (url, server) = serve_once(answer);
    let bot = fetch_gateway_bot(&options(url), 7, &AtomicBool::new(false)).unwrap();
    assert_eq!(bot.session_start_limit.remaining, 999);
    let asked = server.join().unwrap().to_ascii_lowercase();
    assert!(asked.starts_with("get /api/v10/gateway/bot http/1.1\r\n"), "{asked}");
    assert!(asked.contains("authorization: bot abc.def\r\n"), "{asked}");
    assert!(asked.contains("user-agent: discordbot (rateway, "), "{asked}");
}

#[test]
fn headers_of_a_429_are_read() {
    let answer =
        b"HTTP/1.1 429 Too Many Requests\r\nretry-after: 120\r\nContent-Length: 2\r\n\r\n{}".to_vec();
    let (url, server) = serve_once(answer);
    let reply = request(&options(url)).unwrap();
    server.join().unwrap();
    assert_eq!((reply.status, reply.retry_after.as_deref(), reply.via), (429, Some("120"), false));
}

#[test]
fn redirects_are_not_followed() {
    let answer = b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n".to_vec();
    let (url, server) = serve_once(answer);
    assert_eq!(request(&options(url)).unwrap().status, 302);
    server.join().unwrap();
}

#[test]
fn endless_bodies_end() {
    let mut answer = b"HTTP/1.1 503 Unavailable\r\nContent-Length: 100000000\r\n\r\n".to_vec();
    answer.resize(answer.len() + (1 << 20), b'x');
    let (url, server) = serve_once(answer);
    let reply = request(&options(url)).unwrap();
    assert_eq!((reply.status, reply.body.len()), (503, 0));
    server.join().unwrap();
}

#[test]
fn nobody_there_is_a_text_without_the_token() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/api/v10", listener.local_addr().unwrap());
    drop(listener);
    let why = request(&options(url)).unwrap_err();
    assert!(!why.is_empty() && !why.contains("abc.def"), "{why}");
}

#[test]
fn an_own_root_is_trusted_besides_the_bundled_ones() {
    use std::sync::Arc;
    let signed = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let pem = signed.cert.pem();
    let key = rustls::pki_types::PrivateKeyDer::try_from(signed.signing_key.serialize_der()).unwrap();
    let server_config =
        rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![signed.cert.der().clone()], key)
            .unwrap();
    let server_config = Arc::new(server_config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://localhost:{}/api/v10", listener.local_addr().unwrap().port());
    let server = std::thread::spawn(move || {
        // First a client that does not know the root and gives up, then one that does.
        for _ in 0..2 {
            let (mut socket, _) = listener.accept().unwrap();
            let mut tls = rustls::ServerConnection::new(server_config.clone()).unwrap();
            let mut stream = rustls::Stream::new(&mut tls, &mut socket);
            let mut chunk = [0; 4096];
            if stream.read(&mut chunk).is_ok() {
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", GOOD.len());
                stream.write_all(head.as_bytes()).unwrap();
                stream.write_all(GOOD).unwrap();
                stream.flush().unwrap();
            }
        }
    });
    assert!(request(&options(url.clone())).unwrap_err().to_lowercase().contains("cert"));
    let trusting = Options { ca_pem: Some(pem.into_bytes()), ..options(url) };
    assert_eq!(request(&trusting).unwrap().status, 200);
    server.join().unwrap();
}
