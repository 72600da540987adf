//! A response, and how its head is written.

use std::time::{Duration, SystemTime};

/// The last millisecond that the form of a date has digits for, 31 December 9999.
const WALL_MS_MAX: u64 = 253_402_300_799_999;

/// What is answered to one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Response<'a> {
    /// The status code of a final response, 200 to 999.
    pub status: u16,
    /// Content-Type.
    pub content_type: Option<&'a str>,
    /// Further fields, such as Allow or Retry-After; not those that are written by themselves, which are
    /// Content-Length, Content-Type, Date, Connection. Names and values without control characters.
    pub headers: &'a [(&'a str, &'a str)],
    /// The body, or with `streams` its first piece. Statuses 204 and 304 have none.
    pub body: &'a [u8],
    /// The connection is to be closed after this response, though the client would keep it.
    pub close: bool,
    /// The rest of the body follows in pieces, which the caller sends as they are, and ends by closing.
    pub streams: bool,
}

impl<'a> Response<'a> {
    /// A response with this whole body.
    pub fn new(status: u16, content_type: &'a str, body: &'a [u8]) -> Response<'a> {
        Response { content_type: Some(content_type), body, ..Response::empty(status) }
    }

    /// A response without a body.
    pub fn empty(status: u16) -> Response<'a> {
        Response { status, content_type: None, headers: &[], body: &[], close: false, streams: false }
    }

    /// A response whose body follows in pieces and ends with the connection (RFC 9112 6.3).
    pub fn stream(status: u16, content_type: &'a str) -> Response<'a> {
        Response { content_type: Some(content_type), streams: true, ..Response::empty(status) }
    }
}

/// What the request says of how its response is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Terms {
    /// No body (RFC 9110 9.3.2).
    pub is_head: bool,
    /// The client wants to send another request.
    pub keep_alive: bool,
    /// The client has to be told that it may, as in HTTP/1.0 it may not of itself.
    pub is_http10: bool,
}

/// Appends head and body. Says whether the connection closes after it.
pub(super) fn write(response: &Response, terms: Terms, wall_ms: u64, out: &mut Vec<u8>) -> bool {
    debug_assert!((200..=999).contains(&response.status), "{} is no final status", response.status);
    let is_clean = |text: &str| !text.bytes().any(|byte| byte.is_ascii_control());
    debug_assert!(response.headers.iter().all(|(name, value)| is_clean(name) && is_clean(value)));
    debug_assert!(response.content_type.is_none_or(is_clean));
    let closes = response.close || response.streams || !terms.keep_alive;
    // RFC 9110 8.6 and 15.4.5: such a response ends with its head, and a length would only mislead.
    let has_body = !matches!(response.status, 204 | 304);

    let mut line = |parts: [&str; 3]| {
        parts.iter().for_each(|part| out.extend_from_slice(part.as_bytes()));
        out.extend_from_slice(b"\r\n");
    };
    // The version is the server's own, whatever the client's is (RFC 9110 2.5).
    line(["HTTP/1.1 ", &format!("{} ", response.status), reason(response.status)]);
    if has_body && !response.streams {
        line(["content-length", ": ", &response.body.len().to_string()]);
    }
    if let Some(content_type) = response.content_type {
        line(["content-type", ": ", content_type]);
    }
    for (name, value) in response.headers {
        line([name, ": ", value]);
    }
    line(["date", ": ", &date(wall_ms)]);
    if closes {
        line(["connection", ": ", "close"]);
    } else if terms.is_http10 {
        line(["connection", ": ", "keep-alive"]);
    }
    line(["", "", ""]);
    if has_body && !terms.is_head {
        out.extend_from_slice(response.body);
    }
    closes
}

/// An IMF-fixdate (RFC 9110 5.6.7).
fn date(wall_ms: u64) -> String {
    // httpdate panics past the year 9999, and a clock may say anything.
    httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + Duration::from_millis(wall_ms.min(WALL_MS_MAX)))
}

/// The phrases of RFC 9110 15 and RFC 6585 for what rateway may answer; a status without one is valid too
/// (RFC 9112 4).
fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        202 => "Accepted",
        204 => "No Content",
        301 => "Moved Permanently",
        302 => "Found",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        408 => "Request Timeout",
        413 => "Content Too Large",
        415 => "Unsupported Media Type",
        422 => "Unprocessable Content",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => "",
    }
}
