//! How bodies are delimited and joined.

use super::*;

fn with_length(fields: &str, body: &str) -> String {
    format!("POST / HTTP/1.1\r\n{fields}\r\n\r\n{body}")
}

fn chunked(body: &str) -> String {
    with_length("Transfer-Encoding: chunked", body)
}

#[test]
fn a_length_delimits_a_body() {
    assert_eq!(one(with_length("Content-Length: 5", "hello")).body, b"hello");
    assert_eq!(one(with_length("content-length:0005", "he\r\n\n")).body, b"he\r\n\n");
    assert!(one(with_length("Content-Length: 0", "")).body.is_empty());
    assert!(incomplete(with_length("Content-Length: 5", "hell")));
    // A method that has no use for one may still have a body.
    assert_eq!(one("GET / HTTP/1.0\r\nContent-Length: 2\r\n\r\nhi").body, b"hi");
}

#[test]
fn without_a_length_there_is_no_body() {
    let (requests, error) = read("POST /a HTTP/1.1\r\n\r\nPOST /b HTTP/1.1\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(requests.iter().map(Request::path).collect::<Vec<_>>(), ["/a", "/b"]);
    assert_eq!(error, None);
}

#[test]
fn a_length_may_be_said_twice_but_not_differ() {
    for fields in ["Content-Length: 2\r\nContent-Length: 2", "Content-Length: 2, 2", "Content-Length: 2 ,02"]
    {
        assert_eq!(one(with_length(fields, "hi")).body, b"hi");
    }
    for fields in [
        "Content-Length: 2\r\nContent-Length: 3",
        "Content-Length: 2, 3",
        "Content-Length: 2\r\nX: y\r\nContent-Length: 0",
    ] {
        assert!(malformed(with_length(fields, "hi!")).contains("different"));
    }
}

#[test]
fn a_length_is_digits() {
    for length in [
        "",
        "-1",
        "+2",
        "2 2",
        "0x2",
        "2.0",
        "2,",
        ",2",
        "two",
        "18446744073709551616",
        "99999999999999999999999",
        "184467440737095516160",
    ] {
        malformed(with_length(&format!("Content-Length: {length}"), "hi"));
    }
    malformed(b"POST / HTTP/1.1\r\nContent-Length: \xd9\xa2\r\n\r\nhi");
}

#[test]
fn a_body_may_have_so_many_bytes() {
    let limit = Limits::default().body_bytes_max;
    let body = "x".repeat(limit);
    assert_eq!(one(with_length(&format!("Content-Length: {limit}"), &body)).body.len(), limit);
    // Known from the head.
    assert_eq!(refused(with_length(&format!("Content-Length: {}", limit + 1), "")), Error::BodyTooLong);
    assert_eq!(refused(with_length("Content-Length: 18446744073709551615", "")), Error::BodyTooLong);
    assert_eq!(one(chunked(&format!("{limit:x}\r\n{body}\r\n0\r\n\r\n"))).body.len(), limit);
    assert_eq!(refused(chunked(&format!("{:x}\r\n", limit + 1))), Error::BodyTooLong);
    // Or from the sum of the chunks.
    assert_eq!(refused(chunked(&format!("{limit:x}\r\n{body}\r\n1\r\n"))), Error::BodyTooLong);
    assert_eq!(refused(chunked("1\r\nx\r\nffffffffffffffff\r\n")), Error::BodyTooLong);
}

#[test]
fn chunks_are_joined() {
    let (requests, error) = read(chunked(
        "5\r\nhello\r\n00000001\r\n \r\nA;name=\"v;al\"\r\n0123456789\r\n2 ; x\r\n\r\n\r\n0\r\n\r\nGET /b HTTP/1.1\r\n\r\n",
    ));
    assert_eq!(error, None);
    assert_eq!((&*requests[0].body, requests[1].path()), (&b"hello 0123456789\r\n"[..], "/b"));
    assert!(one(chunked("0\r\n\r\n")).body.is_empty());
    assert!(incomplete(chunked("0\r\n")));
    assert_eq!(one(with_length("transfer-encoding: CHUNKED", "a\r\n0123456789\r\n0\r\n\r\n")).body.len(), 10);
}

#[test]
fn trailers_are_skipped() {
    let request = one(chunked("2\r\nhi\r\n0;x\r\nAuthorization: late\r\nX:\r\n\r\n"));
    assert_eq!((&*request.body, request.authorization), (&b"hi"[..], None));
    for trailer in ["nocolon", ": x", " folded: x", "a b: c", "a: b\rc", "a: \0"] {
        assert_eq!(malformed(chunked(&format!("0\r\n{trailer}\r\n\r\n"))), "a trailer");
    }
}

#[test]
fn chunks_are_read_strictly() {
    for body in [
        "\r\n",   // no size
        ";x\r\n", // no size but an extension
        "-1\r\n",
        "+1\r\n",
        "0x1\r\n",
        "g\r\n",
        "1 \r\n", // blanks without an extension
        "1 2\r\n",
        "00000000000000001\r\n", // more than 64 bits
        "2\nhi\r\n",             // bare LF, where parsers differ
        "2;x\nhi\r\n",
        "2;a\rb\r\nhi\r\n",
        "2;\0\r\nhi\r\n",
        "2\r\nhix\r\n", // longer than it said
        "2\r\nhi\n0\r\n\r\n",
        "3\r\nhi\r\n0\r\n\r\n", // shorter
        "0\n\r\n",
        "0\r\n\n",
        "0\r\na: b\n\r\n",
    ] {
        malformed(chunked(body));
    }
}

#[test]
fn extensions_and_trailers_count_with_the_head() {
    let limit = Limits::default().head_bytes_max;
    let head = chunked("").len();
    let extension = |bytes: usize| chunked(&format!("1;{}\r\nx\r\n0\r\n\r\n", "x".repeat(bytes - 1)));
    one(extension(limit - head));
    assert_eq!(refused(extension(limit - head + 1)), Error::HeadTooLong);
    let trailer = |bytes: usize| chunked(&format!("0\r\nX:{}\r\n\r\n", "x".repeat(bytes - 4)));
    one(trailer(limit - head));
    assert_eq!(refused(trailer(limit - head + 1)), Error::HeadTooLong);
    // In sum, and though no line ends.
    assert_eq!(refused(chunked(&"1;xxxxxxxx\r\nx\r\n".repeat(1000))), Error::HeadTooLong);
    assert_eq!(refused(chunked(&("1;".to_owned() + &"x".repeat(limit)))), Error::HeadTooLong);
    // Sizes alone do not count: they are bounded by the body.
    let small = "1\r\nx\r\n".repeat(60_000);
    assert_eq!(one(chunked(&(small + "0\r\n\r\n"))).body.len(), 60_000);
}

#[test]
fn a_body_is_delimited_in_one_way() {
    for fields in [
        "Transfer-Encoding: chunked\r\nContent-Length: 5",
        "Content-Length: 0\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: gzip",
        "Transfer-Encoding: identity",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: chunked;q=1",
        "Transfer-Encoding:",
        "Transfer-Encoding: \x0bchunked",
    ] {
        malformed(with_length(fields, "0\r\n\r\n"));
    }
    malformed("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
}
