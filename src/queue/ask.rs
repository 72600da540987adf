//! One request to a queue service and its answer, as bytes: knows no socket and no clock.
//!
//! What is not clearly a permit is none: an identify without one can cost the bot its token. A proxy's error page,
//! another web server's answer, or one that was cut short does not count.
//!
//! ```text
//! 200, and its body holds `free to connect now! :)`     -> permit (rateway, twilight's gateway-queue, PluralKit's)
//! 1xx                                                   -> skipped
//! anything else                                         -> refused
//! ```

use std::fmt;

use super::endpoint::{Endpoint, UrlError, Whom};

/// The longest head of an answer, in bytes.
pub const HEAD_BYTES_MAX: usize = 8 << 10;
/// How much of a body is looked at, in bytes.
pub const BODY_BYTES_MAX: usize = 4 << 10;
/// The most header lines of an answer.
const HEADERS_MAX: usize = 64;
/// The longest extension of a chunk, in bytes. Nobody sends any.
const EXTENSION_BYTES_MAX: u16 = 1024;

/// What is known of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// There is more to come.
    Waiting,
    /// The shard may identify.
    Permit,
    /// This answer is no permit, and nothing that follows can make it one: ask again, later.
    Refused(Refusal),
}

/// Why an answer is no permit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// A status other than 200.
    Status(u16),
    /// 200, with a body that is not a queue's.
    Body,
    /// Not HTTP/1.
    NotHttp,
    /// A head above [`HEAD_BYTES_MAX`].
    HeadTooLong,
    /// The connection ended before the answer did.
    Ended,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Status(status) => write!(f, "the answer has status {status}"),
            Refusal::Body => f.write_str("the answer is not that of an identify queue"),
            Refusal::NotHttp => f.write_str("the answer is not HTTP"),
            Refusal::HeadTooLong => f.write_str("the answer's head is too long"),
            Refusal::Ended => f.write_str("the connection ended before the answer"),
        }
    }
}

impl std::error::Error for Refusal {}

/// What became of a permit. A service that is told (rateway's, `feedback=true`) need not add the time that an IDENTIFY
/// may travel to its spacing, and gets back what was not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    /// Its IDENTIFY was sent just now.
    Identified,
    /// Discord has answered.
    Answered,
    /// It was not used and will not be.
    Returned,
}

impl Report {
    /// The last part of the path that it is sent to.
    pub fn name(self) -> &'static str {
        match self {
            Report::Identified => "identified",
            Report::Answered => "answered",
            Report::Returned => "returned",
        }
    }

    /// The report with that name.
    pub fn named(name: &str) -> Option<Report> {
        [Report::Identified, Report::Answered, Report::Returned]
            .into_iter()
            .find(|report| report.name() == name)
    }

    /// The request that tells it of the permit with that number ([`Ask::permit_number`]), on its connection.
    ///
    /// # Errors
    /// When the endpoint has a placeholder for which `whom` has no value.
    pub fn request(self, endpoint: &Endpoint, whom: &Whom, permit: u64) -> Result<Vec<u8>, UrlError> {
        let target = endpoint.report_target(whom, self.name())?;
        let Endpoint { authority, .. } = endpoint;
        Ok(format!(
            "POST {target}?permit={permit} HTTP/1.1\r\nHost: {authority}\r\nContent-Length: 0\r\n\r\n"
        )
        .into_bytes())
    }
}

/// The header of an answer by which a service says that it wants to be told what becomes of the permit: its value is
/// the permit's number, which reports carry.
pub const FEEDBACK_HEADER: &str = "rateway-feedback";

/// One request and what was received of its answer.
pub struct Ask {
    permit_number: Option<u64>,
    request: Vec<u8>,
    // Of the head while there is none, then of the decoded body.
    received: Vec<u8>,
    stage: Stage,
}

enum Stage {
    Head,
    Body(Framing),
    Over(Answer),
}

impl Ask {
    /// The request of `whom`.
    ///
    /// # Errors
    /// When the endpoint has a placeholder for which `whom` has no value.
    pub fn new(endpoint: &Endpoint, whom: &Whom) -> Result<Ask, UrlError> {
        Ask::with(endpoint, endpoint.target(whom)?, "Connection: close\r\n")
    }

    /// The request of `whom`, who will report what becomes of the permit if the service wants to know
    /// ([`Ask::permit_number`]). The connection stays open for that.
    ///
    /// # Errors
    /// When the endpoint has a placeholder for which `whom` has no value.
    pub fn with_feedback(endpoint: &Endpoint, whom: &Whom) -> Result<Ask, UrlError> {
        Ask::with(endpoint, endpoint.target_with(whom, true)?, "")
    }

    fn with(endpoint: &Endpoint, target: String, connection: &str) -> Result<Ask, UrlError> {
        let request = format!(
            "GET {target} HTTP/1.1\r\nHost: {}\r\nUser-Agent: rateway/{}\r\nAccept: */*\r\n{connection}\r\n",
            endpoint.authority,
            env!("CARGO_PKG_VERSION"),
        );
        Ok(Ask {
            permit_number: None,
            request: request.into_bytes(),
            received: Vec::new(),
            stage: Stage::Head,
        })
    }

    /// The number of the permit, where the service that gave it wants to be told what becomes of it.
    pub fn permit_number(&self) -> Option<u64> {
        self.permit_number
    }

    /// The bytes to send, once.
    pub fn request(&self) -> &[u8] {
        &self.request
    }

    /// Takes the next bytes of the answer. What follows a permit or a refusal changes nothing.
    pub fn receive(&mut self, bytes: &[u8]) -> Answer {
        let answer = match &self.stage {
            Stage::Over(answer) => return *answer,
            Stage::Head => self.head(bytes),
            Stage::Body(_) => self.body(bytes),
        };
        self.settle(answer)
    }

    /// Takes the end of the connection.
    pub fn ended(&mut self) -> Answer {
        let answer = match &self.stage {
            Stage::Over(answer) => return *answer,
            // Then the body ends here too, without a permit in it.
            Stage::Body(Framing::UntilClose) => Answer::Refused(Refusal::Body),
            Stage::Head | Stage::Body(_) => Answer::Refused(Refusal::Ended),
        };
        self.settle(answer)
    }

    fn settle(&mut self, answer: Answer) -> Answer {
        if answer != Answer::Waiting {
            self.received = Vec::new();
            self.stage = Stage::Over(answer);
        }
        answer
    }

    fn head(&mut self, mut bytes: &[u8]) -> Answer {
        loop {
            let (now, later) = bytes.split_at(bytes.len().min(HEAD_BYTES_MAX - self.received.len()));
            self.received.extend_from_slice(now);
            bytes = later;
            let head = match Head::parse(&self.received) {
                Err(NotHttp) => return Answer::Refused(Refusal::NotHttp),
                Ok(None) if self.received.len() == HEAD_BYTES_MAX => {
                    return Answer::Refused(Refusal::HeadTooLong);
                }
                Ok(None) => return Answer::Waiting,
                Ok(Some(head)) => head,
            };
            let rest = self.received.split_off(head.length);
            self.permit_number = head.permit_number;
            match head.status {
                // 101 ends HTTP on this connection; nobody asked for it.
                100 | 102..=199 => self.received = rest,
                200 => {
                    self.received.clear();
                    self.stage = Stage::Body(head.framing);
                    return match self.body(&rest) {
                        Answer::Waiting => self.body(bytes),
                        answer => answer,
                    };
                }
                status => return Answer::Refused(Refusal::Status(status)),
            }
        }
    }

    fn body(&mut self, bytes: &[u8]) -> Answer {
        let Stage::Body(framing) = &mut self.stage else { return Answer::Waiting };
        let progress = framing.decode(bytes, &mut self.received);
        // Before all else: the result must not depend on how the bytes were cut.
        if is_permit(&self.received) {
            return Answer::Permit;
        }
        match progress {
            Err(NotHttp) => Answer::Refused(Refusal::NotHttp),
            Ok(Progress::Complete) => Answer::Refused(Refusal::Body),
            Ok(Progress::More) if self.received.len() == BODY_BYTES_MAX => Answer::Refused(Refusal::Body),
            Ok(Progress::More) => Answer::Waiting,
        }
    }
}

/// Without the request, as there may be a secret in it.
impl fmt::Debug for Ask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.stage {
            Stage::Head => "Ask(head)",
            Stage::Body(_) => "Ask(body)",
            Stage::Over(_) => "Ask(over)",
        })
    }
}

fn is_permit(body: &[u8]) -> bool {
    // With its smile, as other pages may tell their readers to feel free to connect.
    const SENTENCE: &[u8] = b"free to connect now! :)";
    body.windows(SENTENCE.len()).any(|window| window == SENTENCE)
}

struct NotHttp;

/// The head of an answer.
struct Head {
    length: usize,
    status: u16,
    permit_number: Option<u64>,
    framing: Framing,
}

impl Head {
    /// `None` while it is not complete.
    fn parse(bytes: &[u8]) -> Result<Option<Head>, NotHttp> {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut response = httparse::Response::new(&mut headers);
        let length = match response.parse(bytes) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(_) => return Err(NotHttp),
        };
        let status = response.code.ok_or(NotHttp)?;
        let permit_number = response
            .headers
            .iter()
            .find(|header| header.name.eq_ignore_ascii_case(FEEDBACK_HEADER))
            .and_then(|header| std::str::from_utf8(header.value).ok()?.trim().parse().ok());
        Ok(Some(Head { length, status, permit_number, framing: Framing::of(response.headers)? }))
    }
}

/// Where a body ends.
enum Framing {
    /// After so many bytes more.
    Length(u64),
    Chunked(Chunk),
    UntilClose,
}

enum Progress {
    More,
    Complete,
}

impl Framing {
    /// RFC 9112, section 6.3.
    fn of(headers: &[httparse::Header]) -> Result<Framing, NotHttp> {
        let values =
            |name| headers.iter().filter(move |it| it.name.eq_ignore_ascii_case(name)).map(|it| it.value);
        if let Some(coding) = values("transfer-encoding").next_back() {
            let last = coding.rsplit(|&byte| byte == b',').next().unwrap_or_default().trim_ascii();
            let chunked = last.eq_ignore_ascii_case(b"chunked");
            return Ok(if chunked { Framing::Chunked(Chunk::START) } else { Framing::UntilClose });
        }
        let mut length = None;
        for value in values("content-length") {
            let digits = std::str::from_utf8(value).map_err(|_| NotHttp)?.trim();
            let found = digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse::<u64>());
            let Some(Ok(found)) = found else { return Err(NotHttp) };
            if length.is_some_and(|before| before != found) {
                return Err(NotHttp);
            }
            length = Some(found);
        }
        Ok(length.map_or(Framing::UntilClose, Framing::Length))
    }

    /// Appends what `bytes` hold of the body, up to [`BODY_BYTES_MAX`].
    fn decode(&mut self, mut bytes: &[u8], body: &mut Vec<u8>) -> Result<Progress, NotHttp> {
        let complete = match self {
            Framing::UntilClose => {
                copy(&mut bytes, u64::MAX, body);
                false
            }
            Framing::Length(left) => {
                *left -= copy(&mut bytes, *left, body);
                *left == 0
            }
            Framing::Chunked(chunk) => {
                while !matches!(chunk, Chunk::Last) && !bytes.is_empty() && body.len() < BODY_BYTES_MAX {
                    chunk.step(&mut bytes, body)?;
                }
                matches!(chunk, Chunk::Last)
            }
        };
        Ok(if complete { Progress::Complete } else { Progress::More })
    }
}

/// Moves at most `most` bytes to `body`, as far as it has room; gives back how many.
fn copy(bytes: &mut &[u8], most: u64, body: &mut Vec<u8>) -> u64 {
    let room = BODY_BYTES_MAX - body.len();
    let count = bytes.len().min(room).min(usize::try_from(most).unwrap_or(usize::MAX));
    let (now, later) = bytes.split_at(count);
    body.extend_from_slice(now);
    *bytes = later;
    count as u64
}

/// What is expected next of a chunked body. After the last chunk nothing is of interest.
enum Chunk {
    Size { size: u64, digits: u8 },
    Extension { size: u64, length: u16 },
    SizeEnd { size: u64 },
    Data { left: u64 },
    DataCr,
    DataLf,
    Last,
}

impl Chunk {
    const START: Chunk = Chunk::Size { size: 0, digits: 0 };

    /// Takes one byte, or as many as there are of a chunk's data. `bytes` are not empty.
    fn step(&mut self, bytes: &mut &[u8], body: &mut Vec<u8>) -> Result<(), NotHttp> {
        if let Chunk::Data { left } = self {
            *left -= copy(bytes, *left, body);
            if *left == 0 {
                *self = Chunk::DataCr;
            }
            return Ok(());
        }
        let Some((&byte, rest)) = bytes.split_first() else { return Ok(()) };
        *bytes = rest;
        let hex = || char::from(byte).to_digit(16).map_or(0, u64::from);
        *self = match (&*self, byte) {
            (&Chunk::Size { size, digits: digits @ 0..16 }, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                Chunk::Size { size: size << 4 | hex(), digits: digits + 1 }
            }
            (&(Chunk::Size { size, digits: 1.. } | Chunk::Extension { size, .. }), b'\r') => {
                Chunk::SizeEnd { size }
            }
            (&Chunk::Size { size, digits: 1.. }, b';' | b' ' | b'\t') => Chunk::Extension { size, length: 0 },
            (&Chunk::Extension { size, length: length @ ..EXTENSION_BYTES_MAX }, 0x20.. | b'\t') => {
                Chunk::Extension { size, length: length + 1 }
            }
            (Chunk::SizeEnd { size: 0 }, b'\n') => Chunk::Last,
            (&Chunk::SizeEnd { size }, b'\n') => Chunk::Data { left: size },
            (Chunk::DataCr, b'\r') => Chunk::DataLf,
            (Chunk::DataLf, b'\n') => Chunk::START,
            _ => return Err(NotHttp),
        };
        Ok(())
    }
}

#[cfg(test)]
#[path = "ask_tests.rs"]
mod tests;
