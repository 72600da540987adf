//! The client's end of a WebSocket: upgrade, frames, closing handshake. RFC 6455.
//!
//! Enters: plaintext in pieces of any size. Leaves: whole messages, and bytes for the peer. tungstenite supplies
//! the key exchange, the frame header codec and the masks. Messages are put together here rather than by its
//! `WebSocketContext`, for two reasons: a message whose frame lies whole in the piece is lent without a copy, and
//! a connection does not keep the memory of the largest frame it ever saw.
//!
//! ```text
//! Upgrading --101--> Open --close frame from either--> Closing --close frame from the other--> Closed
//! ```
//!
//! Text and binary are both handed on as bytes; whether text is UTF-8 is checked by whoever reads it. Pings are
//! answered, the newest one only if several wait (RFC 6455 5.5.3). Bounds: the answer to the upgrade, a message,
//! and what waits for the peer ([`OUTGOING_BYTES_MAX`]). Nothing is allocated for a message lent from its piece.

use super::error::ErrorKind;
use std::fmt;
use std::io::Cursor;
use tungstenite::handshake::client::generate_key;
use tungstenite::handshake::derive_accept_key;
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{CloseCode, Control, Data, OpCode};

/// How large the head of the answer to the upgrade may be. Discord's, with its proxy's headers, is about 1 KiB.
pub const UPGRADE_BYTES_MAX: usize = 16 * 1024;

/// How many headers that answer may have.
const UPGRADE_HEADERS_MAX: usize = 64;

/// How much may wait for the peer: sixteen of the largest payloads Discord takes.
pub const OUTGOING_BYTES_MAX: usize = 64 * 1024;

/// What a connection keeps for messages that arrive in pieces.
const MESSAGE_BYTES_KEPT: usize = 8 * 1024;

const HEADER_BYTES_MAX: usize = 14;
const CONTROL_BYTES_MAX: usize = 125;

/// Why a WebSocket failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// The server answered the upgrade with another status than 101.
    Refused {
        /// The HTTP status.
        status: u16,
    },
    /// The answer to the upgrade is not what RFC 6455 4.2.2 asks for.
    Upgrade(&'static str),
    /// The answer to the upgrade is larger than [`UPGRADE_BYTES_MAX`].
    UpgradeTooLarge,
    /// A frame breaks RFC 6455.
    Frame(&'static str),
    /// A message is larger than the limit.
    MessageTooLarge {
        /// How large it would be, as far as its frames have said.
        bytes: u64,
        /// The limit.
        bytes_max: usize,
    },
    /// More than [`OUTGOING_BYTES_MAX`] would wait for the peer.
    OutgoingFull,
    /// Sending is over: a close frame has gone out or come in.
    Closed,
    /// Sending before the upgrade is done.
    NotOpen,
}

impl Error {
    /// What sort of failure this is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Refused { .. } => ErrorKind::Refused,
            Error::Upgrade(_) | Error::Frame(_) => ErrorKind::Protocol,
            Error::UpgradeTooLarge | Error::MessageTooLarge { .. } | Error::OutgoingFull => ErrorKind::Limit,
            Error::Closed | Error::NotOpen => ErrorKind::Misuse,
        }
    }
}

impl std::error::Error for Error {}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Refused { status } => {
                write!(f, "the server refused the upgrade with HTTP status {status}")
            }
            Error::Upgrade(why) => write!(f, "the answer to the upgrade is wrong: {why}"),
            Error::UpgradeTooLarge => {
                write!(f, "the answer to the upgrade is larger than {UPGRADE_BYTES_MAX} bytes")
            }
            Error::Frame(why) => write!(f, "the peer broke the protocol: {why}"),
            Error::MessageTooLarge { bytes, bytes_max } => {
                write!(f, "a message of {bytes} bytes is above the limit of {bytes_max}")
            }
            Error::OutgoingFull => {
                write!(f, "more than {OUTGOING_BYTES_MAX} bytes wait for a peer that does not read")
            }
            Error::Closed => f.write_str("the connection is closing"),
            Error::NotOpen => f.write_str("the upgrade is not done"),
        }
    }
}

/// What a piece of plaintext led to.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// The upgrade is done.
    Opened,
    /// A whole message.
    Message(&'a [u8]),
    /// The peer's close frame; see [`WebSocket::close_reason`]. Nothing follows.
    Closed(Option<u16>),
}

enum State {
    /// Gathers the head of the answer.
    Upgrading {
        head: Vec<u8>,
        accept: String,
    },
    Open,
    /// Our close frame has gone out; messages may still come.
    Closing,
    /// The peer's close frame has come in.
    Closed,
}

/// One frame on its way in.
struct Incoming {
    opcode: OpCode,
    is_final: bool,
    left: usize,
}

/// One WebSocket, client side.
pub struct WebSocket {
    state: State,
    message_bytes_max: usize,
    // A header that came in pieces.
    header: [u8; HEADER_BYTES_MAX],
    header_len: usize,
    frame: Option<Incoming>,
    // Whether a fragmented message waits for its next frame.
    fragmented: bool,
    // A message that came in pieces, or whose last event lent it out (then `message_done`).
    message: Vec<u8>,
    message_done: bool,
    control: [u8; CONTROL_BYTES_MAX],
    control_len: usize,
    // The newest ping that is not answered yet.
    pong: Option<(u8, [u8; CONTROL_BYTES_MAX])>,
    out: Vec<u8>,
}

impl WebSocket {
    /// Starts the upgrade. `host` is the value of the Host header; both texts must be free of control characters,
    /// which [`Endpoint::parse`](super::Endpoint::parse) sees to.
    pub fn new(host: &str, path_and_query: &str, user_agent: &str, message_bytes_max: usize) -> WebSocket {
        let key = generate_key();
        // A user agent comes from configuration; what cannot be in a header is left out.
        let user_agent: String = user_agent.chars().filter(|c| !c.is_control()).collect();
        let mut out = Vec::with_capacity(512);
        for part in [
            "GET ",
            path_and_query,
            " HTTP/1.1\r\nHost: ",
            host,
            "\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ",
            &key,
            "\r\nUser-Agent: ",
            &user_agent,
            "\r\n\r\n",
        ] {
            out.extend_from_slice(part.as_bytes());
        }
        WebSocket {
            state: State::Upgrading { head: Vec::new(), accept: derive_accept_key(key.as_bytes()) },
            message_bytes_max,
            header: [0; HEADER_BYTES_MAX],
            header_len: 0,
            frame: None,
            fragmented: false,
            message: Vec::new(),
            message_done: false,
            control: [0; CONTROL_BYTES_MAX],
            control_len: 0,
            pong: None,
            out,
        }
    }

    /// Takes plaintext up to the next event and says how much that was. `None` means that all of it was taken.
    ///
    /// # Errors
    /// Each one is final.
    pub fn receive<'a>(&'a mut self, input: &'a [u8]) -> Result<(usize, Option<Event<'a>>), Error> {
        if self.message_done {
            self.message_done = false;
            self.message.clear();
            self.message.shrink_to(MESSAGE_BYTES_KEPT);
        }
        match self.state {
            State::Upgrading { .. } => self.upgrade(input),
            State::Open | State::Closing => self.frames(input),
            State::Closed => Ok((input.len(), None)),
        }
    }

    fn upgrade<'a>(&mut self, input: &[u8]) -> Result<(usize, Option<Event<'a>>), Error> {
        let State::Upgrading { head, accept } = &mut self.state else { return Ok((0, None)) };
        let before = head.len();
        // Look for the blank line where it can be new, so that bytes that come singly cost linear time.
        let room = UPGRADE_BYTES_MAX - before.min(UPGRADE_BYTES_MAX);
        head.extend_from_slice(input.get(..room).unwrap_or(input));
        let from = before.saturating_sub(3);
        let blank = head.get(from..).and_then(|new| new.windows(4).position(|four| four == b"\r\n\r\n"));
        let Some(blank) = blank else {
            return if head.len() >= UPGRADE_BYTES_MAX {
                Err(Error::UpgradeTooLarge)
            } else {
                Ok((input.len(), None))
            };
        };
        let end = from + blank + 4;
        check_answer(head.get(..end).unwrap_or_default(), accept)?;
        self.state = State::Open;
        Ok((end - before, Some(Event::Opened)))
    }

    fn frames<'a>(&'a mut self, input: &'a [u8]) -> Result<(usize, Option<Event<'a>>), Error> {
        let mut at = 0;
        loop {
            let rest = input.get(at..).unwrap_or_default();
            let Some(frame) = &mut self.frame else {
                if rest.is_empty() {
                    return Ok((at, None));
                }
                at += self.take_header(rest)?;
                continue;
            };
            let taken = rest.len().min(frame.left);
            let (bytes, whole) = (rest.get(..taken).unwrap_or_default(), taken == frame.left);
            let (opcode, is_final) = (frame.opcode, frame.is_final);
            at += taken;
            frame.left -= taken;
            if whole {
                self.frame = None;
            }
            if let OpCode::Control(control) = opcode {
                let end = self.control_len + taken;
                // `take_header` has refused control frames that do not fit.
                if let Some(slot) = self.control.get_mut(self.control_len..end) {
                    slot.copy_from_slice(bytes);
                }
                self.control_len = end;
                if whole && let Some(event) = self.control_frame(control)? {
                    return Ok((at, Some(event)));
                }
            } else {
                if whole && is_final && self.message.is_empty() {
                    return Ok((at, Some(Event::Message(bytes))));
                }
                self.message.extend_from_slice(bytes);
                if whole && is_final {
                    self.message_done = true;
                    return Ok((at, Some(Event::Message(&self.message))));
                }
            }
            if !whole {
                return Ok((at, None));
            }
        }
    }

    /// Takes bytes of a frame header; when it is complete the frame begins.
    fn take_header(&mut self, input: &[u8]) -> Result<usize, Error> {
        let before = self.header_len;
        let room = self.header.get_mut(before..).unwrap_or_default();
        let taken = room.len().min(input.len());
        for (slot, byte) in room.iter_mut().zip(input) {
            *slot = *byte;
        }
        let mut cursor = Cursor::new(self.header.get(..before + taken).unwrap_or_default());
        let parsed = FrameHeader::parse(&mut cursor).map_err(|_| Error::Frame("a reserved opcode"))?;
        let Some((header, length)) = parsed else {
            self.header_len = before + taken;
            return Ok(taken);
        };
        let used = cursor.position() as usize;
        self.header_len = 0;
        if header.rsv1 || header.rsv2 || header.rsv3 {
            return Err(Error::Frame("a reserved bit is set"));
        }
        if header.mask.is_some() {
            return Err(Error::Frame("a frame from the server is masked"));
        }
        match header.opcode {
            OpCode::Control(_) => {
                if !header.is_final {
                    return Err(Error::Frame("a control frame is fragmented"));
                }
                if length > CONTROL_BYTES_MAX as u64 {
                    return Err(Error::Frame("a control frame is larger than 125 bytes"));
                }
                self.control_len = 0;
            }
            OpCode::Data(data) => {
                match (data, self.fragmented) {
                    (Data::Continue, false) => return Err(Error::Frame("a continuation of nothing")),
                    (Data::Text | Data::Binary, true) => {
                        return Err(Error::Frame("a new message inside a fragmented one"));
                    }
                    (Data::Reserved(_), _) => return Err(Error::Frame("a reserved opcode")),
                    (Data::Continue, true) | (Data::Text | Data::Binary, false) => {}
                }
                self.fragmented = !header.is_final;
                let bytes = length.saturating_add(self.message.len() as u64);
                if bytes > self.message_bytes_max as u64 {
                    return Err(Error::MessageTooLarge { bytes, bytes_max: self.message_bytes_max });
                }
            }
        }
        // At most `message_bytes_max`, which is a usize.
        let left = length as usize;
        self.frame = Some(Incoming { opcode: header.opcode, is_final: header.is_final, left });
        // The header in pieces began in an earlier input: only what this input gave counts.
        Ok(used - before)
    }

    fn control_frame<'a>(&mut self, control: Control) -> Result<Option<Event<'a>>, Error> {
        let payload = self.control.get(..self.control_len).unwrap_or_default();
        match control {
            Control::Ping => {
                if matches!(self.state, State::Open) {
                    self.pong = Some((payload.len() as u8, self.control));
                }
                Ok(None)
            }
            Control::Pong => Ok(None),
            Control::Close => {
                let code = match payload {
                    [] => None,
                    [_] => return Err(Error::Frame("a close frame of one byte")),
                    [high, low, ..] => Some(u16::from_be_bytes([*high, *low])),
                };
                if matches!(self.state, State::Open) {
                    // The same code goes back, unless it is one that must not be on the wire (RFC 6455 7.4).
                    let allowed = code.is_none_or(|code| CloseCode::from(code).is_allowed());
                    let reply = if allowed { code } else { Some(u16::from(CloseCode::Protocol)) };
                    self.queue_close(reply);
                }
                self.state = State::Closed;
                Ok(Some(Event::Closed(code)))
            }
            Control::Reserved(_) => Err(Error::Frame("a reserved opcode")),
        }
    }

    /// The text of the peer's close frame, as far as it is UTF-8. Empty before that frame.
    pub fn close_reason(&self) -> &str {
        if !matches!(self.state, State::Closed) {
            return "";
        }
        let reason = self.control.get(2..self.control_len).unwrap_or_default();
        match std::str::from_utf8(reason) {
            Ok(reason) => reason,
            Err(e) => reason.get(..e.valid_up_to()).and_then(|r| std::str::from_utf8(r).ok()).unwrap_or(""),
        }
    }

    /// Queues a text message.
    ///
    /// # Errors
    /// When the upgrade is not done, a close frame has gone out or come in, or too much waits already.
    pub fn send_text(&mut self, text: &[u8]) -> Result<(), Error> {
        match self.state {
            State::Upgrading { .. } => return Err(Error::NotOpen),
            State::Closing | State::Closed => return Err(Error::Closed),
            State::Open => {}
        }
        if self.out.len().saturating_add(text.len()).saturating_add(HEADER_BYTES_MAX) > OUTGOING_BYTES_MAX {
            return Err(Error::OutgoingFull);
        }
        self.queue(OpCode::Data(Data::Text), text);
        Ok(())
    }

    /// Queues a close frame, once. Before the upgrade is done there is nobody to read it, and nothing is queued.
    pub fn close(&mut self, code: u16) {
        if matches!(self.state, State::Open) {
            self.queue_pong();
            self.queue_close(Some(code));
            self.state = State::Closing;
        }
    }

    /// Whether the peer's close frame has come in; ours has gone out then, too.
    pub fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed)
    }

    /// Whether a message has begun and not ended.
    pub fn is_inside_message(&self) -> bool {
        self.frame.is_some() || self.fragmented || self.header_len > 0
    }

    /// What waits for the peer.
    pub fn outgoing(&mut self) -> &[u8] {
        self.queue_pong();
        &self.out
    }

    /// Drops the first `n` bytes of [`WebSocket::outgoing`].
    pub fn sent(&mut self, n: usize) {
        self.out.drain(..n.min(self.out.len()));
        if self.out.is_empty() {
            self.out.shrink_to(1024);
        }
    }

    /// Whether something waits for the peer.
    pub fn wants_transmit(&self) -> bool {
        !self.out.is_empty() || self.pong.is_some()
    }

    fn queue_pong(&mut self) {
        if let Some((len, payload)) = self.pong.take()
            && matches!(self.state, State::Open)
        {
            self.queue(OpCode::Control(Control::Pong), payload.get(..usize::from(len)).unwrap_or_default());
        }
    }

    fn queue_close(&mut self, code: Option<u16>) {
        match code {
            Some(code) => self.queue(OpCode::Control(Control::Close), &code.to_be_bytes()),
            None => self.queue(OpCode::Control(Control::Close), &[]),
        }
    }

    fn queue(&mut self, opcode: OpCode, payload: &[u8]) {
        let mask = new_mask();
        let header = FrameHeader { opcode, mask: Some(mask), ..FrameHeader::default() };
        // Writing to a vector does not fail.
        let _ = header.format(payload.len() as u64, &mut self.out);
        self.out.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    }
}

impl fmt::Debug for WebSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            State::Upgrading { .. } => "Upgrading",
            State::Open => "Open",
            State::Closing => "Closing",
            State::Closed => "Closed",
        };
        f.debug_struct("WebSocket").field("state", &state).finish_non_exhaustive()
    }
}

/// A mask that the payload's author cannot foresee (RFC 6455 10.3).
fn new_mask() -> [u8; 4] {
    let mut mask = [0; 4];
    match getrandom::fill(&mut mask) {
        Ok(()) => mask,
        // Masks protect proxies between, not secrets: a system without randomness is better served by a
        // frame with a known mask than by no heartbeat.
        Err(_) => [0x5a, 0xa5, 0x3c, 0xc3],
    }
}

/// Checks the answer to the upgrade by RFC 6455 4.1.
fn check_answer(head: &[u8], accept: &str) -> Result<(), Error> {
    let mut headers = [httparse::EMPTY_HEADER; UPGRADE_HEADERS_MAX];
    let mut response = httparse::Response::new(&mut headers);
    match response.parse(head) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) => return Err(Error::Upgrade("its head is not complete")),
        Err(httparse::Error::TooManyHeaders) => return Err(Error::UpgradeTooLarge),
        Err(_) => return Err(Error::Upgrade("it is not HTTP")),
    }
    match response.code {
        Some(101) => {}
        Some(status) => return Err(Error::Refused { status }),
        None => return Err(Error::Upgrade("it has no status")),
    }
    let values = |name: &'static str| {
        let headers = response.headers.iter();
        headers.filter(move |h| h.name.eq_ignore_ascii_case(name)).map(|h| h.value.trim_ascii())
    };
    if !values("upgrade").any(|value| value.eq_ignore_ascii_case(b"websocket")) {
        return Err(Error::Upgrade("no Upgrade: websocket"));
    }
    let mut tokens = values("connection").flat_map(|value| value.split(|byte| *byte == b','));
    if !tokens.any(|token| token.trim_ascii().eq_ignore_ascii_case(b"upgrade")) {
        return Err(Error::Upgrade("no Connection: Upgrade"));
    }
    if !values("sec-websocket-accept").eq([accept.as_bytes()]) {
        return Err(Error::Upgrade("its Sec-WebSocket-Accept does not match the key"));
    }
    if values("sec-websocket-extensions").any(|value| !value.is_empty()) {
        return Err(Error::Upgrade("it chose an extension that was not offered"));
    }
    if values("sec-websocket-protocol").any(|value| !value.is_empty()) {
        return Err(Error::Upgrade("it chose a subprotocol that was not offered"));
    }
    Ok(())
}

#[cfg(test)]
#[path = "websocket_tests.rs"]
mod tests;
