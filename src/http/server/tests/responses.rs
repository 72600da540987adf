//! What is written for a response.

use super::*;

/// Head and body of the answer to `request`, and whether the connection closes after it.
fn answer_at(wall_ms: u64, request: &str, response: &Response) -> (String, bool) {
    let mut connection = Connection::new(Limits::default());
    connection.receive(request.as_bytes()).unwrap();
    connection.poll_request().unwrap().unwrap();
    let mut out = b"before|".to_vec();
    connection.respond(response, wall_ms, &mut out);
    let out = String::from_utf8(out).unwrap();
    (out.strip_prefix("before|").expect("it is appended").to_owned(), connection.closes())
}

fn answer(request: &str, response: &Response) -> (String, bool) {
    answer_at(WALL_MS, request, response)
}

const GET: &str = "GET / HTTP/1.1\r\n\r\n";

#[test]
fn a_response_is_written() {
    let response = Response::new(200, "text/plain", b"hello");
    let text = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-type: text/plain\r\n\
                date: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\nhello";
    assert_eq!(answer(GET, &response), (text.to_owned(), false));
}

#[test]
fn a_response_without_a_body_says_so() {
    let (text, _) = answer(GET, &Response::empty(404));
    assert_eq!(
        text,
        "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\ndate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\n"
    );
}

#[test]
fn further_headers_and_unknown_statuses_are_written() {
    let headers = [("allow", "GET, HEAD"), ("retry-after", "5")];
    let (text, _) = answer(GET, &Response { headers: &headers, ..Response::empty(499) });
    assert!(text.starts_with("HTTP/1.1 499 \r\n"), "{text}");
    assert!(text.contains("\r\nallow: GET, HEAD\r\nretry-after: 5\r\n"), "{text}");
}

#[test]
fn head_gets_the_same_head_and_no_body() {
    let response = Response::new(200, "text/plain", b"hello");
    let (whole, _) = answer(GET, &response);
    let (text, closes) = answer("HEAD / HTTP/1.1\r\n\r\n", &response);
    assert_eq!(format!("{text}hello"), whole);
    assert!(!closes);
}

#[test]
fn statuses_without_a_body_have_neither_body_nor_length() {
    for status in [204, 304] {
        let (text, _) = answer(GET, &Response { body: b"hello", ..Response::empty(status) });
        assert!(text.ends_with("GMT\r\n\r\n") && !text.contains("content-length"), "{text}");
    }
}

#[test]
fn the_connection_header_says_what_happens() {
    let empty = Response::empty(200);
    let closing = Response { close: true, ..empty };
    for (request, response, header, closes) in [
        (GET, &empty, None, false),
        (GET, &closing, Some("close"), true),
        ("GET / HTTP/1.1\r\nConnection: close\r\n\r\n", &empty, Some("close"), true),
        ("GET / HTTP/1.1\r\nConnection: keep-alive\r\n\r\n", &empty, None, false),
        ("GET / HTTP/1.0\r\n\r\n", &empty, Some("close"), true),
        ("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", &empty, Some("keep-alive"), false),
        ("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", &closing, Some("close"), true),
    ] {
        let (text, found) = answer(request, response);
        let found_header = text.lines().find_map(|line| line.strip_prefix("connection: "));
        assert_eq!((found_header, found), (header, closes), "{request}");
        assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "the version is the server's");
    }
}

#[test]
fn a_stream_ends_with_the_connection() {
    let stream = Response { body: b"first;", ..Response::stream(200, "text/event-stream") };
    let text = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\
                date: Sun, 06 Nov 1994 08:49:37 GMT\r\nconnection: close\r\n\r\n";
    assert_eq!(answer(GET, &stream), (format!("{text}first;"), true));
    assert_eq!(answer("HEAD / HTTP/1.1\r\n\r\n", &stream), (text.to_owned(), true));
}

#[test]
fn a_clock_may_say_anything() {
    for (wall_ms, date) in [
        (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
        (951_827_696_789, "Tue, 29 Feb 2000 12:34:56 GMT"),
        (u64::MAX, "Fri, 31 Dec 9999 23:59:59 GMT"),
    ] {
        let (text, _) = answer_at(wall_ms, GET, &Response::empty(200));
        assert!(text.contains(&format!("\r\ndate: {date}\r\n")), "{text}");
    }
}
