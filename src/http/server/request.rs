//! A request, and how its head is read.

use super::{Error, Limits};
use crate::base::Secret;

/// The versions that are spoken (RFC 9112 2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0: one request a connection, unless the client asks to keep it.
    Http10,
    /// HTTP/1.1.
    Http11,
}

/// A request whose head and body have arrived.
#[derive(Clone, PartialEq, Eq)]
pub struct Request {
    /// The method as sent; methods are case-sensitive (RFC 9110 9.1).
    pub method: String,
    /// The request target as sent: see [`Request::path`] and [`Request::query`].
    pub target: String,
    /// The version of the client.
    pub version: Version,
    /// Whether the client wants to send another request on this connection (RFC 9112 9.3).
    pub keep_alive: bool,
    /// The value of Host, for whoever cares; empty where several were sent, which names nobody.
    pub host: Option<String>,
    /// The value of Content-Type.
    pub content_type: Option<String>,
    /// The value of Authorization, scheme included.
    pub authorization: Option<Secret>,
    /// The body, its chunks joined.
    pub body: Vec<u8>,
}

/// Without target and body, as clients put secrets there.
impl std::fmt::Debug for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of {} bytes, {:?}", self.method, self.body.len(), self.version)
    }
}

impl Request {
    /// Whether the answer must have no body (RFC 9110 9.3.2).
    pub fn is_head(&self) -> bool {
        self.method == "HEAD"
    }

    /// The path, percent-encoded as sent: `/x` of `/x?y` and of `http://host/x?y`, `/` where an absolute form has
    /// none, `*` of OPTIONS for the whole server. Empty, which is no path, for CONNECT's `host:port` and for what is
    /// none of the forms of RFC 9112 3.2.
    pub fn path(&self) -> &str {
        let path = self.path_and_query().split('?').next().unwrap_or_default();
        // An absolute form may end after the host, or go on with the query (RFC 9110 4.2.3).
        if path.is_empty() && self.after_authority().is_some() { "/" } else { path }
    }

    /// The query, percent-encoded as sent, without its question mark. `None` where there is no question mark.
    pub fn query(&self) -> Option<&str> {
        self.path_and_query().split_once('?').map(|(_, query)| query)
    }

    fn path_and_query(&self) -> &str {
        match self.after_authority() {
            Some(rest) => rest,
            None if self.target.starts_with('/') || self.target == "*" => &self.target,
            None => "",
        }
    }

    /// What follows the host of an absolute form; `None` for the other forms.
    fn after_authority(&self) -> Option<&str> {
        let (scheme, rest) = self.target.split_once("://")?;
        let mut letters = scheme.bytes();
        let is_scheme = letters.next().is_some_and(|first| first.is_ascii_alphabetic())
            && letters.all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
        if !is_scheme || self.method == "CONNECT" {
            return None;
        }
        Some(&rest[rest.find(['/', '?']).unwrap_or(rest.len())..])
    }

    /// How many bytes of what arrived are in here.
    pub(super) fn len(&self) -> usize {
        self.method.len()
            + self.target.len()
            + self.host.as_ref().map_or(0, String::len)
            + self.content_type.as_ref().map_or(0, String::len)
            + self.authorization.as_ref().map_or(0, |value| value.expose().len())
            + self.body.len()
    }
}

/// How a body ends (RFC 9112 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// After so many bytes, not 0.
    Length(usize),
    /// After the chunk of size 0 and the trailers.
    Chunked,
}

/// A head that was read.
pub(super) struct Head {
    /// The request, its body still empty.
    pub request: Request,
    /// `None`: it has no body.
    pub framing: Option<Framing>,
    /// The client waits for a word before it sends the body, if it has one.
    pub expects_continue: bool,
}

/// Reads a complete head, from the request line to the empty line, with `headers` fields.
///
/// # Errors
/// `Malformed`, and `BodyTooLong` for a length above the limit.
pub(super) fn parse_head(bytes: &[u8], headers: usize, limits: &Limits) -> Result<Head, Error> {
    let mut fields = vec![httparse::EMPTY_HEADER; headers];
    let mut parsed = httparse::Request::new(&mut fields);
    match parsed.parse(bytes) {
        Ok(httparse::Status::Complete(length)) if length == bytes.len() => {}
        // Both would mean that its end was found in another place than httparse finds it.
        Ok(_) => return Err(Error::Malformed("the head has no clear end")),
        Err(error) => return Err(refusal(error)),
    }
    // A complete head has all three.
    let (Some(method), Some(target), Some(version)) = (parsed.method, parsed.path, parsed.version) else {
        return Err(Error::Malformed("the request line is not complete"));
    };
    let version = if version == 0 { Version::Http10 } else { Version::Http11 };
    let mut fields = Fields::default();
    for field in parsed.headers.iter() {
        fields.read(field)?;
    }
    let framing = fields.framing(version, limits)?;
    let (authorization, content_type) = (text(fields.authorization)?, text(fields.content_type)?);
    let request = Request {
        method: method.to_owned(),
        target: target.to_owned(),
        version,
        keep_alive: !fields.close && (version == Version::Http11 || fields.keep_alive),
        host: fields.host.map(|host| String::from_utf8(host.to_vec()).unwrap_or_default()),
        content_type,
        authorization: authorization.map(Secret::new),
        body: Vec::new(),
    };
    // HTTP/1.0 does not know the expectation (RFC 9110 10.1.1).
    let expects_continue = fields.expects_continue && version == Version::Http11;
    Ok(Head { request, framing, expects_continue })
}

fn refusal(error: httparse::Error) -> Error {
    match error {
        httparse::Error::HeaderName => Error::Malformed("a header's name"),
        httparse::Error::HeaderValue => Error::Malformed("a header's value"),
        httparse::Error::NewLine => Error::Malformed("a line's end"),
        httparse::Error::Version => Error::Malformed("a version other than HTTP/1.0 and 1.1"),
        httparse::Error::TooManyHeaders => Error::TooManyHeaders,
        // Status is of responses.
        httparse::Error::Token | httparse::Error::Status => Error::Malformed("the request line"),
    }
}

/// What is kept of a head's fields.
#[derive(Default)]
struct Fields<'a> {
    content_length: Option<u64>,
    transfer_encoding: Option<&'a [u8]>,
    host: Option<&'a [u8]>,
    content_type: Option<&'a [u8]>,
    authorization: Option<&'a [u8]>,
    close: bool,
    keep_alive: bool,
    expects_continue: bool,
}

impl<'a> Fields<'a> {
    fn read(&mut self, field: &httparse::Header<'a>) -> Result<(), Error> {
        let is = |name: &str| field.name.eq_ignore_ascii_case(name);
        if is("content-length") {
            for item in items(field.value) {
                let length = number(item)?;
                // The same length said twice is what some proxies make of one (RFC 9112 6.3).
                if self.content_length.is_some_and(|before| before != length) {
                    return Err(Error::Malformed("different values of Content-Length"));
                }
                self.content_length = Some(length);
            }
        } else if is("transfer-encoding") {
            once(&mut self.transfer_encoding, field.value, "Transfer-Encoding twice")?;
        } else if is("content-type") {
            once(&mut self.content_type, field.value, "Content-Type twice")?;
        } else if is("authorization") {
            once(&mut self.authorization, field.value, "Authorization twice")?;
        } else if is("host") {
            // RFC 9112 3.2 asks for a refusal of two; those who wait for a permit need not suffer for it.
            self.host = Some(if self.host.is_some() { b"" } else { field.value });
        } else if is("connection") {
            for option in items(field.value) {
                self.close |= option.eq_ignore_ascii_case(b"close");
                self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
            }
        } else if is("expect") {
            self.expects_continue |= field.value.eq_ignore_ascii_case(b"100-continue");
        }
        Ok(())
    }

    fn framing(&self, version: Version, limits: &Limits) -> Result<Option<Framing>, Error> {
        match (self.transfer_encoding, self.content_length) {
            (None, None | Some(0)) => Ok(None),
            (None, Some(length)) => match usize::try_from(length) {
                Ok(length) if length <= limits.body_bytes_max => Ok(Some(Framing::Length(length))),
                _ => Err(Error::BodyTooLong),
            },
            (Some(_), Some(_)) => Err(Error::Malformed("both Transfer-Encoding and Content-Length")),
            // RFC 9112 6.1: such a message's framing is faulty, as 1.0 knows no codings.
            (Some(_), None) if version == Version::Http10 => {
                Err(Error::Malformed("Transfer-Encoding in HTTP/1.0"))
            }
            (Some(coding), None) if coding.eq_ignore_ascii_case(b"chunked") => Ok(Some(Framing::Chunked)),
            (Some(_), None) => Err(Error::Malformed("a transfer coding other than chunked")),
        }
    }
}

/// The members of a comma-separated list (RFC 9110 5.6.1), blanks around them removed.
fn items(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii)
}

/// Keeps the value of a field that may come once: of two, others may believe the other one.
fn once<'a>(slot: &mut Option<&'a [u8]>, value: &'a [u8], twice: &'static str) -> Result<(), Error> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(Error::Malformed(twice)),
    }
}

/// Digits and nothing else: no sign, no blank, not empty (RFC 9110 8.6).
fn number(digits: &[u8]) -> Result<u64, Error> {
    const BAD: Error = Error::Malformed("Content-Length is no length");
    if digits.is_empty() {
        return Err(BAD);
    }
    digits.iter().try_fold(0u64, |sum, byte| match byte {
        b'0'..=b'9' => sum.checked_mul(10).and_then(|sum| sum.checked_add((byte - b'0').into())).ok_or(BAD),
        _ => Err(BAD),
    })
}

/// A value that is kept. Other encodings than UTF-8 would not keep their length.
fn text(value: Option<&[u8]>) -> Result<Option<String>, Error> {
    match value.map(std::str::from_utf8) {
        None => Ok(None),
        Some(Ok(value)) => Ok(Some(value.to_owned())),
        Some(Err(_)) => Err(Error::Malformed("a header's value is not UTF-8")),
    }
}
