//! Request lines and fields.

use super::*;

#[test]
fn a_request_has_what_was_sent() {
    let request = one("GET /?shard=5 HTTP/1.1\r\nHost: q\r\nAuthorization: Bearer abc\r\n\
                       content-type:  text/plain; charset=utf-8 \r\n\r\n");
    assert_eq!((&*request.method, &*request.target, request.version), ("GET", "/?shard=5", Version::Http11));
    assert_eq!(request.authorization.as_ref().unwrap().expose(), "Bearer abc");
    assert_eq!(request.content_type.as_deref(), Some("text/plain; charset=utf-8"));
    assert!(request.body.is_empty() && request.keep_alive && !request.is_head());
    assert!(!format!("{request:?}").contains("abc"), "the secret shows");
}

#[test]
fn a_request_without_fields_is_one() {
    let request = one("GET / HTTP/1.1\r\n\r\n");
    assert_eq!((request.authorization, request.content_type), (None, None));
}

#[test]
fn any_token_is_a_method() {
    for method in ["GET", "POST", "get", "PROPFIND", "M-SEARCH", "x!#$%&'*+-.^_`|~9"] {
        assert_eq!(one(format!("{method} / HTTP/1.1\r\n\r\n")).method, method);
    }
    assert!(one("HEAD / HTTP/1.1\r\n\r\n").is_head());
    assert!(!one("head / HTTP/1.1\r\n\r\n").is_head(), "methods are case-sensitive");
    for method in ["", "G(T", "GET\t", "\x16\x03\x01"] {
        malformed(format!("{method} / HTTP/1.1\r\n\r\n"));
    }
}

#[test]
fn what_begins_no_method_is_refused_at_once() {
    for byte in 0..=255u8 {
        let begins = byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~\r\n".contains(&byte);
        for before in ["", "\r\n"] {
            let mut connection = Connection::new(Limits::default());
            connection.receive(before.as_bytes()).unwrap();
            assert_eq!(connection.receive(&[byte]).is_ok(), begins, "{byte:#x}");
        }
    }
}

#[test]
fn paths_and_queries_of_all_forms() {
    for (method, target, path, query) in [
        ("GET", "/", "/", None),
        ("GET", "/x/y%20z?a=1&b=?2", "/x/y%20z", Some("a=1&b=?2")),
        ("GET", "/?", "/", Some("")),
        ("GET", "//x", "//x", None),
        ("GET", "/to?url=http://host/x", "/to", Some("url=http://host/x")),
        ("GET", "/http://host/x", "/http://host/x", None),
        ("GET", "http://host/x?y", "/x", Some("y")),
        ("GET", "HTTPS://user@host:8080/x/", "/x/", None),
        ("GET", "http://host", "/", None),
        ("GET", "http://host?y=/z", "/", Some("y=/z")),
        ("GET", "http://[::1]:80/x", "/x", None),
        ("OPTIONS", "*", "*", None),
        ("CONNECT", "host:443", "", None),
        ("CONNECT", "http://host/x?y", "", None),
        ("GET", "host:443", "", None),
        ("GET", "x?y", "", None),
        ("GET", "?y", "", None),
        ("GET", "1http://host/x", "", None),
        ("GET", "://host/x", "", None),
        ("GET", "ht tp://host/x", "", None),
    ] {
        let bytes = format!("{method} {target} HTTP/1.1\r\n\r\n");
        if target.contains(' ') {
            malformed(bytes);
            continue;
        }
        let request = one(bytes);
        assert_eq!((request.path(), request.query(), &*request.target), (path, query, target), "{target}");
    }
}

#[test]
fn only_versions_1_0_and_1_1_are_spoken() {
    assert_eq!(one("GET / HTTP/1.0\r\n\r\n").version, Version::Http10);
    for version in ["HTTP/1.2", "HTTP/2.0", "HTTP/0.9", "http/1.1", "HTTP/1.1x", "HTTP/1", "", "HTTP/1.1 "] {
        malformed(format!("GET / {version}\r\n\r\n"));
    }
    // The preface of HTTP/2 (RFC 9113 3.4), and HTTP/0.9.
    malformed("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    malformed("GET /\r\n\r\n");
}

#[test]
fn a_bare_lf_ends_a_line() {
    let request = one("POST / HTTP/1.1\nContent-Type: a\r\nContent-Length: 2\n\nhi");
    assert_eq!((request.content_type.as_deref(), &*request.body), (Some("a"), &b"hi"[..]));
    assert_eq!(one("GET / HTTP/1.1\nHost: q\n\r\n").target, "/");
    malformed("GET / HTTP/1.1\rHost: q\r\n\r\n");
    malformed("GET / HTTP/1.1\r\r\n\r\n");
    malformed("GET / HTTP/1.1\r\nHost: q\rX: y\r\n\r\n");
}

#[test]
fn empty_lines_before_a_request_are_skipped_up_to_a_bound() {
    assert_eq!(one("\r\n\nGET /x HTTP/1.1\r\n\r\n").target, "/x");
    assert_eq!(one("\r\n".repeat(8) + "GET /x HTTP/1.1\r\n\r\n").target, "/x");
    assert!(incomplete("\r\n".repeat(8)));
    malformed("\r\n".repeat(9));
    malformed("\rGET / HTTP/1.1\r\n\r\n");
    // Counted anew for each request.
    let (requests, error) = read(("\r\n".repeat(8) + "GET / HTTP/1.1\r\n\r\n").repeat(3));
    assert_eq!((requests.len(), error), (3, None));
}

#[test]
fn fields_are_read_strictly() {
    for field in [
        "Host: q\r\n folded", // obsolete line folding
        " Host: q",           // the same of the request line
        "Host : q",           // a blank before the colon (RFC 9112 5.1)
        "Host",               // no colon
        ": q",                // no name
        "Ho st: q",           // no token
        "Host: a\0b",         // NUL
        "Host: a\x7fb",       // DEL
        "Authorization: caf\u{e9}\r\nAuthorization: x",
        "Content-Type: a\r\nContent-Type: a",
        "Authorization: a\r\nauthorization: b",
    ] {
        malformed(format!("GET / HTTP/1.1\r\n{field}\r\n\r\n"));
    }
    malformed(b"GET / HTTP/1.1\r\nAuthorization: caf\xe9\r\n\r\n");
    malformed(b"GET /\xe9 HTTP/1.1\r\n\r\n");
    // Odd bytes in what is not kept harm nobody, and UTF-8 is kept.
    one(b"GET / HTTP/1.1\r\nX-Name: caf\xe9\t\r\n\r\n");
    let request = one("GET / HTTP/1.1\r\nAuthorization: caf\u{e9}\r\n\r\n");
    assert_eq!(request.authorization.unwrap().expose(), "caf\u{e9}");
}

#[test]
fn connections_are_kept_as_the_client_asks() {
    for (version, connection, keep_alive) in [
        ("1.1", "", true),
        ("1.1", "Connection: close\r\n", false),
        ("1.1", "Connection: keep-alive\r\n", true),
        ("1.1", "connection: Upgrade , CLOSE\r\n", false),
        ("1.1", "Connection: x\r\nConnection: close\r\n", false),
        ("1.1", "Connection: close, keep-alive\r\n", false),
        ("1.1", "Connection: closed\r\n", true),
        ("1.1", "Connection: upgrade\r\nUpgrade: websocket\r\n", true),
        ("1.1", "X-Connection: close\r\n", true),
        ("1.0", "", false),
        ("1.0", "Connection: Keep-Alive\r\n", true),
        ("1.0", "Connection: x,keep-alive\r\n", true),
        ("1.0", "Connection: keep-alive, close\r\n", false),
    ] {
        let request = one(format!("GET / HTTP/{version}\r\n{connection}\r\n"));
        assert_eq!(request.keep_alive, keep_alive, "{version} {connection}");
    }
}

#[test]
fn an_upgrade_is_ignored() {
    let request = one("GET /x HTTP/1.1\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\
                       HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n");
    assert_eq!(request.target, "/x");
}

#[test]
fn a_head_may_have_so_many_bytes() {
    let limit = Limits::default().head_bytes_max;
    let of = |bytes: usize| format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(bytes - 18));
    assert_eq!(of(limit).len(), limit);
    one(of(limit));
    assert_eq!(refused(of(limit + 1)), Error::HeadTooLong);
    // Known before it ends, whether or not a line does.
    assert!(incomplete("x".repeat(limit)));
    assert_eq!(refused("x".repeat(limit + 1)), Error::HeadTooLong);
    let endless = "GET / HTTP/1.1\r\n".to_owned() + &"X: y\r\n".repeat(60) + "Z: ";
    assert_eq!(refused(endless + &"z".repeat(limit)), Error::HeadTooLong);
    // Each of two heads has the whole limit.
    let (requests, error) = read(of(limit) + &of(limit));
    assert_eq!((requests.len(), error), (2, None));
}

#[test]
fn a_head_may_have_so_many_fields() {
    let of = |fields: usize| "GET / HTTP/1.1\r\n".to_owned() + &"X: y\r\n".repeat(fields);
    one(of(64) + "\r\n");
    assert_eq!(refused(of(65) + "\r\n"), Error::TooManyHeaders);
    assert_eq!(refused(of(65)), Error::TooManyHeaders);
    let none = Limits { headers_max: 0, ..Limits::default() };
    assert_eq!(read_with(of(0).as_bytes(), none).1, None);
    assert_eq!(read_with(of(1).as_bytes(), none).1, Some(Error::TooManyHeaders));
}

#[test]
fn long_noise_is_noise_however_it_is_cut() {
    let noise = "\u{16}\u{3}".to_owned() + &"x".repeat(Limits::default().head_bytes_max + 1);
    assert_eq!(refused(&noise), Error::Malformed("the request line"));
    let mut connection = Connection::new(Limits::default());
    for octet in noise.bytes() {
        assert_eq!(connection.receive(&[octet]), Err(Error::Malformed("the request line")));
    }
}
