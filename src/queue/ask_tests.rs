//! Requests and answers, in one piece, byte by byte, and cut anywhere.

use super::*;
use crate::base::Rng;
use crate::queue::ToldLimit;

const WHOM: Whom =
    Whom { shard_id: 3, shard_count: 8, max_concurrency: Some(4), token_hash: None, limit: None };
const OURS: &str = r#"{"message": "You're free to connect now! :)"}"#;

fn ask() -> Ask {
    Ask::new(&Endpoint::parse("http://queue:8080/x").unwrap(), &WHOM).unwrap()
}

/// The answer to `bytes`, the end of the connection included where they do not suffice.
fn answer(bytes: &[u8]) -> Answer {
    let whole = through(ask(), bytes, |_| bytes.len());
    assert_eq!(through(ask(), bytes, |_| 1), whole, "byte by byte: {}", bytes.escape_ascii());
    let mut rng = Rng::new(bytes.len() as u64);
    assert_eq!(through(ask(), bytes, |left| 1 + rng.below(left as u64) as usize), whole);
    whole
}

fn through(mut ask: Ask, mut bytes: &[u8], mut cut: impl FnMut(usize) -> usize) -> Answer {
    while !bytes.is_empty() {
        let (piece, rest) = bytes.split_at(cut(bytes.len()).min(bytes.len()));
        bytes = rest;
        let answer = ask.receive(piece);
        if answer != Answer::Waiting {
            assert_eq!(ask.receive(b"HTTP/1.1 204 x\r\n\r\n"), answer, "it is settled");
            assert_eq!(ask.ended(), answer);
            return answer;
        }
    }
    let answer = ask.ended();
    assert!(matches!(answer, Answer::Refused(_)), "the end is no permit");
    answer
}

fn with_body(status: u16, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status} x\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

#[test]
fn the_request_is_http() {
    let text = String::from_utf8(ask().request().to_vec()).unwrap();
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(
        text,
        format!(
            "GET /x?shard=3&max_concurrency=4 HTTP/1.1\r\nHost: queue:8080\r\nUser-Agent: rateway/{version}\r\n\
             Accept: */*\r\nConnection: close\r\n\r\n"
        )
    );
    let endpoint = Endpoint::parse("http://queue/{token_hash}").unwrap();
    assert_eq!(Ask::new(&endpoint, &WHOM).err(), Some(UrlError::NoValue("token_hash")));
    let secret = Ask::new(&Endpoint::parse("http://queue/?key=hunter2").unwrap(), &WHOM).unwrap();
    assert!(!format!("{secret:?}").contains("hunter2"));
}

#[test]
fn permits_are_known_in_all_their_forms() {
    let chunked = format!(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, Chunked\r\n\r\n5;a=b\r\n{}\r\n28\r\n{}\r\n0\r\n\r\n",
        &OURS[..5],
        &OURS[5..]
    );
    for bytes in [
        with_body(200, OURS),
        with_body(200, "You are free to connect now! :)"),
        chunked.clone().into_bytes(),
        format!("HTTP/1.0 200 OK\r\nServer: x\r\n\r\n{OURS}").into_bytes(),
        format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\n{OURS}").into_bytes(),
        // 1xx may come at any time, as often as the service likes.
        [b"HTTP/1.1 102 Processing\r\n\r\n".repeat(500), with_body(200, OURS)].concat(),
        [b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n".to_vec(), chunked.into_bytes()].concat(),
        // It is there, whatever becomes of the rest.
        format!("HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n{OURS}").into_bytes(),
        format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2d\r\n{OURS}nonsense").into_bytes(),
    ] {
        assert_eq!(answer(&bytes), Answer::Permit, "{}", bytes.escape_ascii());
    }
}

#[test]
fn nothing_else_is_a_permit() {
    let long =
        |length: usize| format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n{OURS}", "y".repeat(length)).into_bytes();
    let chunks =
        |body: &str| format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{body}").into_bytes();
    let late = " ".repeat(BODY_BYTES_MAX - 10) + OURS;
    for (bytes, why) in [
        (b"".to_vec(), Refusal::Ended),
        (b"HTTP/1.1 200 O".to_vec(), Refusal::Ended),
        (b"HTTP/1.1 100 Continue\r\n\r\n".to_vec(), Refusal::Ended),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n".to_vec(), Refusal::Status(101)),
        (with_body(404, OURS), Refusal::Status(404)),
        (with_body(502, "<html>"), Refusal::Status(502)),
        (with_body(201, OURS), Refusal::Status(201)),
        (with_body(301, OURS), Refusal::Status(301)),
        (with_body(200, ""), Refusal::Body),
        (with_body(200, "<html>Welcome to nginx!</html>"), Refusal::Body),
        (with_body(200, r#"{"success":true}"#), Refusal::Body),
        (with_body(200, "Feel free to connect with us"), Refusal::Body),
        (b"HTTP/1.1 204 No Content\r\n\r\n".to_vec(), Refusal::Status(204)),
        (with_body(200, &OURS[..20]), Refusal::Body),
        (with_body(200, &late), Refusal::Body),
        (chunks(&format!("ffffffff\r\n{late}")), Refusal::Body),
        (chunks("0\r\n\r\n"), Refusal::Body),
        (chunks("3\r\nabc\r\n0\r\nTrailer: x\r\n\r\n"), Refusal::Body),
        (chunks("5\r\nabc"), Refusal::Ended),
        (chunks("5"), Refusal::Ended),
        (chunks("\r\n"), Refusal::NotHttp),
        (chunks("g\r\n"), Refusal::NotHttp),
        (chunks("1\nabc"), Refusal::NotHttp),
        (chunks("1\r\nabc"), Refusal::NotHttp),
        (chunks("00000000000000001\r\na\r\n"), Refusal::NotHttp),
        (chunks(&format!("1;{}\r\na\r\n", "x".repeat(2000))), Refusal::NotHttp),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nYou're free".to_vec(), Refusal::Ended),
        (format!("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n{OURS}").into_bytes(), Refusal::Body),
        (format!("HTTP/1.1 200 OK\r\nContent-Length: +45\r\n\r\n{OURS}").into_bytes(), Refusal::NotHttp),
        (
            format!("HTTP/1.1 200 OK\r\nContent-Length: 45\r\nContent-Length: 46\r\n\r\n{OURS}").into_bytes(),
            Refusal::NotHttp,
        ),
        (
            format!("HTTP/1.1 200 OK\r\nContent-Length: {}0\r\n\r\n{OURS}", u64::MAX).into_bytes(),
            Refusal::NotHttp,
        ),
        (b"HTTP/1.1 200 OK\r\n\r\nhello".to_vec(), Refusal::Body),
        (b"SSH-2.0-OpenSSH_9.2\r\n".to_vec(), Refusal::NotHttp),
        (b"HTTP/2 200\r\n\r\n".to_vec(), Refusal::NotHttp),
        (format!("HTTP/1.1 200 OK\r\n{}\r\n{OURS}", "a: b\r\n".repeat(65)).into_bytes(), Refusal::NotHttp),
        (long(HEAD_BYTES_MAX), Refusal::HeadTooLong),
        // The sentence in the head is not in the body.
        (
            b"HTTP/1.1 200 free to connect\r\nX: free to connect\r\nContent-Length: 0\r\n\r\n".to_vec(),
            Refusal::Body,
        ),
    ] {
        assert_eq!(answer(&bytes), Answer::Refused(why), "{}", bytes.escape_ascii());
    }
    assert_eq!(answer(&long(HEAD_BYTES_MAX - 24)), Answer::Permit, "8 KiB to the byte");
    assert_eq!(answer(&long(HEAD_BYTES_MAX - 23)), Answer::Refused(Refusal::HeadTooLong));
}

#[test]
fn any_bytes_do() {
    let parts: &[&[u8]] = &[
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.0 503 ",
        b"Transfer-Encoding: chunked\r\n",
        b"Content-Length: 45\r\n",
        b"\r\n",
        b"5\r\n",
        b"2d\r\n",
        b"ffffffffffffffff\r\n",
        b"0\r\n",
        OURS.as_bytes(),
        b"free to connect",
        b" now! :)",
        b"\xff\x00",
    ];
    for seed in 0..5000 {
        let mut rng = Rng::new(seed);
        let count = rng.below(12);
        let bytes: Vec<u8> =
            (0..count).flat_map(|_| parts[rng.below(parts.len() as u64) as usize]).copied().collect();
        if answer(&bytes) == Answer::Permit {
            assert!(bytes.windows(9).any(|it| it == b"free to c"), "seed {seed}");
        }
    }
}

#[test]
fn a_service_that_wants_feedback_numbers_its_permits() {
    let endpoint = Endpoint::parse("http://q:81/k/{token_hash}?x=1").unwrap();
    let limit = ToldLimit { total: 1000, remaining: 7, reset_after_ms: 60_000, age_ms: 12 };
    let whom = Whom {
        shard_id: 3,
        shard_count: 16,
        max_concurrency: Some(2),
        token_hash: Some("ab"),
        limit: Some(limit),
    };
    let mut ask = Ask::with_feedback(&endpoint, &whom).unwrap();
    let request = String::from_utf8(ask.request().to_vec()).unwrap();
    let target =
        "/k/ab?x=1&shard=3&max_concurrency=2&feedback=true&total=1000&remaining=7&reset_after=60000&age=12";
    assert!(request.starts_with(&format!("GET {target} HTTP/1.1\r\nHost: q:81\r\n")), "{request}");
    assert!(!request.contains("close"));
    let head = "HTTP/1.1 200 OK\r\nRateway-Feedback: 42\r\nContent-Length: 45\r\n\r\n";
    assert_eq!(ask.permit_number(), None);
    assert_eq!(ask.receive(format!("{head}{OURS}").as_bytes()), Answer::Permit);
    assert_eq!(ask.permit_number(), Some(42));
    let report = Report::Identified.request(&endpoint, &whom, 42).unwrap();
    let report = String::from_utf8(report).unwrap();
    assert_eq!(report, "POST /k/ab/identified?permit=42 HTTP/1.1\r\nHost: q:81\r\nContent-Length: 0\r\n\r\n");
    // Others are told nothing of Discord's limits, and get no reports.
    let plain = String::from_utf8(Ask::new(&endpoint, &whom).unwrap().request().to_vec()).unwrap();
    assert!(
        !plain.contains("remaining") && !plain.contains("feedback") && plain.contains("Connection: close")
    );
}
