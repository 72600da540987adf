//! How a body is gathered: by its length, or chunk by chunk (RFC 9112 7.1).
//!
//! ```text
//! size in hex | ;extensions | CRLF | data | CRLF | ... | 0 | CRLF | trailers, each with CRLF | CRLF
//! ```
//!
//! Extensions and trailers are skipped. Lines end in CRLF here: bare LF inside an extension is read in two ways by
//! parsers in the wild.

use super::request::{Framing, Head, Request};
use super::{Error, Limits};

/// Digits of a chunk's size: 64 bits, leading zeros included.
const SIZE_DIGITS_MAX: usize = 16;
/// What a size line has besides extensions.
const SIZE_LINE_BYTES_MAX: usize = SIZE_DIGITS_MAX + 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// So many bytes are left of a body with a length.
    Length(usize),
    /// In a chunk's size line.
    Size,
    /// So many bytes are left of a chunk.
    Data(usize),
    /// The CRLF after a chunk.
    DataEnd,
    /// After the last chunk.
    Trailers,
}

/// A request whose body is on its way.
pub(super) struct Incoming {
    request: Request,
    step: Step,
    /// The line of the chunked coding that is being gathered.
    line: Vec<u8>,
    /// What extensions and trailers may still have.
    extra_bytes_left: usize,
    body_bytes_max: usize,
    /// The client waits for 100 Continue.
    continue_due: bool,
}

impl Incoming {
    /// For a head of `head_bytes`.
    pub fn new(head: Head, framing: Framing, head_bytes: usize, limits: &Limits) -> Incoming {
        let step = match framing {
            Framing::Length(length) => Step::Length(length),
            Framing::Chunked => Step::Size,
        };
        Incoming {
            request: head.request,
            step,
            line: Vec::new(),
            extra_bytes_left: limits.head_bytes_max.saturating_sub(head_bytes),
            body_bytes_max: limits.body_bytes_max,
            continue_due: head.expects_continue,
        }
    }

    /// Whether the client is to be told to go on; true once, and never after it has begun by itself
    /// (RFC 9110 10.1.1).
    pub fn take_continue(&mut self) -> bool {
        std::mem::take(&mut self.continue_due)
    }

    /// Takes bytes up to the end of the body. Says how many were taken, and whether that was the end.
    pub fn take(&mut self, bytes: &[u8]) -> Result<(usize, bool), Error> {
        self.continue_due = false;
        let mut taken = 0;
        while taken < bytes.len() {
            let rest = &bytes[taken..];
            match self.step {
                Step::Length(left) | Step::Data(left) => {
                    let n = left.min(rest.len());
                    // Grows with what arrives: a length is easily promised.
                    self.request.body.extend_from_slice(&rest[..n]);
                    taken += n;
                    self.step = match self.step {
                        Step::Length(_) if left == n => return Ok((taken, true)),
                        Step::Length(_) => Step::Length(left - n),
                        _ if left == n => Step::DataEnd,
                        _ => Step::Data(left - n),
                    };
                }
                Step::Size | Step::DataEnd | Step::Trailers => {
                    let (n, complete) = self.gather_line(rest)?;
                    taken += n;
                    if complete && self.end_line()? {
                        return Ok((taken, true));
                    }
                }
            }
        }
        Ok((taken, false))
    }

    /// Adds to `line` up to a LF. Says how many bytes, and whether the LF was among them.
    fn gather_line(&mut self, bytes: &[u8]) -> Result<(usize, bool), Error> {
        let end = bytes.iter().position(|&byte| byte == b'\n').map(|at| at + 1);
        let n = end.unwrap_or(bytes.len());
        if self.line.len() + n > self.extra_bytes_left.saturating_add(SIZE_LINE_BYTES_MAX) {
            return Err(Error::HeadTooLong);
        }
        self.line.extend_from_slice(&bytes[..n]);
        Ok((n, end.is_some()))
    }

    /// Reads the line that was gathered. Says whether the body ends with it.
    fn end_line(&mut self) -> Result<bool, Error> {
        let Some(line) = self.line.strip_suffix(b"\r\n") else {
            return Err(Error::Malformed("a line of a chunked body does not end in CRLF"));
        };
        let (mut step, mut extra, mut is_end) = (Step::Size, 0, false);
        match self.step {
            Step::DataEnd if line.is_empty() => {}
            Step::DataEnd => return Err(Error::Malformed("a chunk is longer than it said")),
            Step::Trailers if line.is_empty() => is_end = true,
            Step::Trailers => {
                check_trailer(line)?;
                (step, extra) = (Step::Trailers, self.line.len());
            }
            _ => {
                let (size, digits) = chunk_size(line)?;
                extra = line.len() - digits;
                let room = self.body_bytes_max - self.request.body.len();
                step = match usize::try_from(size) {
                    Ok(0) => Step::Trailers,
                    Ok(size) if size <= room => Step::Data(size),
                    _ => return Err(Error::BodyTooLong),
                };
            }
        }
        self.extra_bytes_left = self.extra_bytes_left.checked_sub(extra).ok_or(Error::HeadTooLong)?;
        self.step = step;
        self.line.clear();
        Ok(is_end)
    }

    /// The request, once the end was seen.
    pub fn into_request(mut self) -> Request {
        // It may be kept for minutes.
        self.request.body.shrink_to_fit();
        self.request
    }

    /// How many bytes of what arrived are in here.
    pub fn len(&self) -> usize {
        self.request.len() + self.line.len()
    }
}

/// The size at the start of `line`, and how many digits it has. The rest is extensions, or blanks before them.
fn chunk_size(line: &[u8]) -> Result<(u64, usize), Error> {
    const BAD: Error = Error::Malformed("a chunk's size");
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    if digits == 0 || digits > SIZE_DIGITS_MAX {
        return Err(BAD);
    }
    let rest = &line[digits..];
    let extensions = rest.trim_ascii_start();
    if rest.iter().any(|&byte| is_control(byte)) || !(rest.is_empty() || extensions.starts_with(b";")) {
        return Err(BAD);
    }
    let size = line[..digits].iter().fold(0, |size, &digit| {
        // Sixteen of four bits each fit; `is_ascii_hexdigit` is what `to_digit` takes.
        size << 4 | u64::from(char::from(digit).to_digit(16).unwrap_or(0))
    });
    Ok((size, digits))
}

/// A trailer is skipped, but it must be a field line, so that nothing else passes for one (RFC 9112 5).
fn check_trailer(line: &[u8]) -> Result<(), Error> {
    let name = line.iter().take_while(|&&byte| is_token(byte)).count();
    if name == 0 || line.get(name) != Some(&b':') || line.iter().any(|&byte| is_control(byte)) {
        return Err(Error::Malformed("a trailer"));
    }
    Ok(())
}

/// Octets that no field value may have (RFC 9110 5.5).
fn is_control(byte: u8) -> bool {
    byte.is_ascii_control() && byte != b'\t'
}

/// RFC 9110 5.6.2.
pub(super) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
