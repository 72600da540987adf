//! A connection's life: one request at a time, what is held meanwhile, how it ends.

use super::*;

const GET: &[u8] = b"GET / HTTP/1.1\r\n\r\n";

fn connection() -> Connection {
    Connection::new(Limits::default())
}

fn ok(connection: &mut Connection) -> String {
    let mut out = Vec::new();
    connection.respond(&Response::empty(200), WALL_MS, &mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn one_request_is_outstanding_at_a_time() {
    let mut connection = connection();
    connection.receive(b"GET /a HTTP/1.1\r\n\r\nGET /b HTTP/1.1\r\n\r\n").unwrap();
    assert!(!connection.is_outstanding());
    assert_eq!(connection.poll_request().unwrap().unwrap().path(), "/a");
    assert!(connection.is_outstanding());
    assert_eq!(connection.poll_request(), Ok(None));
    connection.receive(b"GET /c HTTP/1.1\r\n\r\n").unwrap();
    assert_eq!(connection.poll_request(), Ok(None));
    for path in ["/b", "/c"] {
        assert!(ok(&mut connection).starts_with("HTTP/1.1 200 OK\r\n"));
        assert!(!connection.is_outstanding());
        assert_eq!(connection.poll_request().unwrap().unwrap().path(), path);
    }
    ok(&mut connection);
    assert_eq!(connection.poll_request(), Ok(None));
    assert!(connection.is_idle() && !connection.closes());
    // Nothing is outstanding, so there is nothing to answer.
    assert_eq!(ok(&mut connection), "");
}

#[test]
fn idle_is_when_nothing_has_arrived() {
    let mut connection = connection();
    assert!(connection.is_idle());
    connection.receive(b"\r\n").unwrap();
    assert!(connection.is_idle(), "an empty line is no request");
    connection.receive(b"G").unwrap();
    assert!(!connection.is_idle());
    connection.receive(b"ET / HTTP/1.1\r\nContent-Length: 1\r\n\r\n").unwrap();
    assert!(!connection.is_idle());
    connection.receive(b"x").unwrap();
    assert!(!connection.is_idle());
    connection.poll_request().unwrap().unwrap();
    assert!(!connection.is_idle());
    connection.receive(b"GE").unwrap();
    ok(&mut connection);
    assert!(!connection.is_idle());
    connection.receive(b"T / HTTP/1.1\r\n\r\n").unwrap();
    connection.poll_request().unwrap().unwrap();
    ok(&mut connection);
    assert!(connection.is_idle());
}

#[test]
fn the_last_answer_ends_it() {
    for last in ["GET / HTTP/1.1\r\nConnection: close\r\n\r\n", "GET / HTTP/1.0\r\n\r\n"] {
        let mut connection = connection();
        connection.receive(GET).unwrap();
        // Not before: the first answer is not the last one.
        connection.poll_request().unwrap().unwrap();
        connection.receive(last.as_bytes()).unwrap();
        ok(&mut connection);
        assert!(!connection.closes());
        // What follows is not looked at, however much it is.
        connection.receive(GET).unwrap();
        connection.poll_request().unwrap().unwrap();
        connection.receive(&[0; 100_000]).unwrap();
        assert!(!connection.closes());
        assert_eq!(connection.buffered_bytes(), 0);
        assert!(ok(&mut connection).contains("\r\nconnection: close\r\n"));
        assert!(connection.closes() && !connection.is_idle());
        connection.receive(GET).unwrap();
        assert_eq!(connection.poll_request(), Ok(None));
    }
}

#[test]
fn the_server_may_end_it() {
    let mut connection = connection();
    connection.receive(&GET.repeat(2)).unwrap();
    connection.poll_request().unwrap().unwrap();
    let mut out = Vec::new();
    connection.respond(&Response { close: true, ..Response::empty(503) }, WALL_MS, &mut out);
    assert!(connection.closes());
    assert_eq!((connection.poll_request(), connection.buffered_bytes()), (Ok(None), 0));
}

#[test]
fn what_arrives_meanwhile_is_bounded() {
    let limit = Limits::default().pipelined_bytes_max;
    for polled in [false, true] {
        let mut connection = connection();
        connection.receive(GET).unwrap();
        if polled {
            connection.poll_request().unwrap().unwrap();
        }
        connection.receive(&vec![b'x'; limit - 1]).unwrap();
        connection.receive(b"x").unwrap();
        assert_eq!(connection.receive(b"x"), Err(Error::TooMuchPipelined));
        assert!(connection.closes());
        assert_eq!(ok(&mut connection), "");
    }
    // In one piece it is the same: a request and what may follow it.
    let mut whole = GET.to_vec();
    whole.resize(whole.len() + limit, b'x');
    connection().receive(&whole).unwrap();
    whole.push(b'x');
    assert_eq!(connection().receive(&whole), Err(Error::TooMuchPipelined));
}

#[test]
fn an_error_stays() {
    let mut connection = connection();
    let error = connection.receive(b"\0\r\n\r\n").unwrap_err();
    assert_eq!(connection.receive(GET), Err(error));
    assert_eq!(connection.poll_request(), Err(error));
    assert!(connection.closes() && !connection.is_idle());
    assert_eq!(connection.buffered_bytes(), 0);
}

#[test]
fn what_came_before_an_error_is_served() {
    let mut connection = connection();
    connection.receive(&[GET, b"\0\r\n\r\n"].concat()).unwrap();
    connection.poll_request().unwrap().unwrap();
    assert!(ok(&mut connection).starts_with("HTTP/1.1 200 OK\r\n"));
    assert!(connection.closes());
    assert!(matches!(connection.poll_request(), Err(Error::Malformed(_))));
}

#[test]
fn errors_are_lines_for_a_log() {
    for error in [
        Error::HeadTooLong,
        Error::TooManyHeaders,
        Error::BodyTooLong,
        Error::TooMuchPipelined,
        Error::Malformed("a line's end"),
    ] {
        let line = error.to_string();
        assert!(line.len() > 20 && !line.contains('\n'), "{line}");
    }
    assert!(Error::Malformed("a line's end").to_string().ends_with("a line's end"));
}

/// What the machine says by itself after each of these pieces.
fn said(pieces: &[&str]) -> Vec<String> {
    let mut connection = connection();
    let mut said = Vec::new();
    for piece in pieces {
        let _ = connection.receive(piece.as_bytes());
        let mut out = Vec::new();
        connection.transmit(&mut out);
        said.push(String::from_utf8(out).unwrap());
    }
    said
}

#[test]
fn who_waits_for_it_is_told_to_go_on_once() {
    const CONTINUE: &str = "HTTP/1.1 100 Continue\r\n\r\n";
    let head = "POST / HTTP/1.1\r\nExpect: 100-Continue\r\nContent-Length: 2\r\n\r\n";
    assert_eq!(said(&[head, "", "h", "i"]), [CONTINUE, "", "", ""]);
    let chunked = "POST / HTTP/1.1\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(said(&[&chunked[..40], &chunked[40..], "0\r\n"]), ["", CONTINUE, ""]);
    // Who has begun does not wait.
    assert_eq!(said(&[&format!("{head}h"), "i"]), ["", ""]);
    for silent in [
        "POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\n",
        "POST / HTTP/1.1\r\nExpect: 100-continue\r\n\r\n",
        "POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 0\r\n\r\n",
        "POST / HTTP/1.1\r\nExpect: something\r\nContent-Length: 2\r\n\r\n",
        "POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n",
        "POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 99999999\r\n\r\n",
    ] {
        assert_eq!(said(&[silent]), [""], "{silent}");
    }
}

#[test]
fn who_waits_behind_another_request_is_told_after_its_answer() {
    let mut connection = connection();
    let second = b"POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n";
    connection.receive(&[GET, second].concat()).unwrap();
    connection.poll_request().unwrap().unwrap();
    let mut out = Vec::new();
    connection.transmit(&mut out);
    assert!(out.is_empty());
    connection.respond(&Response::empty(204), WALL_MS, &mut out);
    connection.transmit(&mut out);
    assert!(out.starts_with(b"HTTP/1.1 204 ") && out.ends_with(b"\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n"));
    connection.receive(b"hi").unwrap();
    assert_eq!(connection.poll_request().unwrap().unwrap().body, b"hi");
}
