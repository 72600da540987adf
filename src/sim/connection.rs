//! One socket of the server: TLS or not, first HTTP, perhaps then WebSocket.
//!
//! Bytes in: socket > TLS > HTTP head or tungstenite (which answers pings and closes) > payloads.
//! Bytes out: items > encoder > frames > TLS > socket. Items wait while more than [`OUT_HIGH`] bytes of frames do,
//! so that a slow reader costs references, not copies; past `PENDING_MAX` of them it is dropped, as Discord does.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::sync::Arc;
use std::time::Instant;

use mio::net::TcpStream;
use rustls::ServerConnection;
use tungstenite::protocol::{Role, WebSocketConfig, WebSocketContext};
use zstd_safe::zstd_sys::ZSTD_EndDirective::ZSTD_e_flush;
use zstd_safe::{CCtx, CParameter, InBuffer, OutBuffer};

use super::recording::{Compression, LEVEL, Played, Player, frame_head};
use crate::base::Rng;
use crate::base::deflate::Deflate;

/// Frame bytes up to which a connection's output is filled: a few socket buffers' worth.
pub(super) const OUT_HIGH: usize = 128 * 1024;
/// Payloads that may wait behind a slow reader: a READY with 2,500 GUILD_CREATEs, and the events of minutes.
const PENDING_MAX: usize = 100_000;
/// An HTTP request head; more is refused.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// A client message: above the 4096 bytes that the machine wants to see and refuse.
const MESSAGE_BYTES_MAX: usize = 64 * 1024;

/// What waits to be sent.
pub(super) enum Item {
    Text(Arc<[u8]>),
    Recorded { first: u64, count: u64 },
    Close(u16),
}

/// Turns payloads into the bodies of WebSocket messages.
enum Encoder {
    Plain,
    Zlib(Deflate),
    /// zlib for connections that play recordings: each payload refers to nothing before it, so that one deflate
    /// state serves all of them. The flag: the stream's header has been sent.
    ZlibAlone(bool),
    Zstd(Box<CCtx<'static>>),
}

/// What a thread's connections share.
pub(super) struct Tools {
    pub alone: Deflate,
    scratch: Vec<u8>,
    /// For splitting messages, when that is asked for.
    pub split: Option<Rng>,
}

impl Tools {
    pub fn new() -> io::Result<Tools> {
        Ok(Tools { alone: Deflate::raw(LEVEL)?, scratch: Vec::new(), split: None })
    }
}

enum Protocol {
    Http { head: Vec<u8> },
    WebSocket(Box<WebSocketContext>),
}

/// What arrived.
pub(super) enum Arrival {
    /// A request; [`Connection::respond`] or [`Connection::upgrade`] is due.
    Request {
        method: String,
        path: String,
        authorization: Option<String>,
        websocket_key: Option<String>,
        body: Vec<u8>,
    },
    /// One client payload.
    Payload(Vec<u8>),
    /// The client closed, with a code or without.
    Closed(Option<u16>),
}

pub(super) struct Connection {
    socket: TcpStream,
    tls: Option<Box<ServerConnection>>,
    protocol: Protocol,
    encoder: Encoder,
    pub player: Option<Player>,
    pub pending: VecDeque<Item>,
    out: Vec<u8>,
    out_start: usize,
    pub readable: bool,
    pub writable: bool,
    /// Close once everything is written.
    pub closing: bool,
    /// The peer has sent its close frame: once ours is written, nothing more is to come.
    peer_closed: bool,
    /// When to stop waiting for the peer after a close.
    pub linger_until: Option<Instant>,
    /// Nothing more can be done with it.
    pub dead: bool,
    /// Payloads go out as independent zlib streams (`"compress":true` in IDENTIFY).
    pub compress_payloads: bool,
    pub frames_out: u64,
    pub bytes_out: u64,
}

/// The stream that tungstenite sees: bytes that have arrived, and our output buffer.
struct Pipe<'a, 'b> {
    input: &'b mut &'a [u8],
    out: &'b mut Vec<u8>,
}

impl Read for Pipe<'_, '_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.input.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.input.read(buf)
    }
}

impl Write for Pipe<'_, '_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.out.extend_from_slice(buf);
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Connection {
    pub fn new(socket: TcpStream, tls: Option<ServerConnection>) -> Connection {
        Connection {
            socket,
            tls: tls.map(Box::new),
            protocol: Protocol::Http { head: Vec::new() },
            encoder: Encoder::Plain,
            player: None,
            pending: VecDeque::new(),
            out: Vec::new(),
            out_start: 0,
            readable: true,
            writable: true,
            closing: false,
            peer_closed: false,
            linger_until: None,
            dead: false,
            compress_payloads: false,
            frames_out: 0,
            bytes_out: 0,
        }
    }

    pub fn socket(&mut self) -> &mut TcpStream {
        &mut self.socket
    }

    pub fn is_websocket(&self) -> bool {
        matches!(self.protocol, Protocol::WebSocket(_))
    }

    /// Frame bytes that wait for the socket.
    pub fn backlog(&self) -> usize {
        self.out.len() - self.out_start
    }

    /// Whether there is anything to write.
    pub fn wants_to_write(&self) -> bool {
        !self.dead
            && (self.backlog() > 0
                || !self.pending.is_empty()
                || self.tls.as_ref().is_some_and(|t| t.wants_write()))
    }

    /// Reads what there is and appends what it means to `arrivals`.
    pub fn read(&mut self, buffer: &mut [u8], arrivals: &mut Vec<Arrival>) {
        // Bounded per turn, for the sake of the other connections; `readable` stays set.
        for _ in 0..16 {
            if self.dead || !self.readable {
                return;
            }
            let count = match self.read_some(buffer) {
                Ok(0) => {
                    self.dead = true;
                    if self.is_websocket() && !self.closing {
                        arrivals.push(Arrival::Closed(None));
                    }
                    return;
                }
                Ok(count) => count,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    self.readable = false;
                    return;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => {
                    self.dead = true;
                    arrivals.push(Arrival::Closed(None));
                    return;
                }
            };
            if let Some(bytes) = buffer.get(..count) {
                self.take(bytes, arrivals);
            }
        }
    }

    fn read_some(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(tls) = &mut self.tls else { return self.socket.read(buffer) };
        loop {
            match tls.reader().read(buffer) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                other => return other,
            }
            if tls.read_tls(&mut self.socket)? == 0 {
                return Ok(0);
            }
            tls.process_new_packets().map_err(io::Error::other)?;
        }
    }

    fn take(&mut self, bytes: &[u8], arrivals: &mut Vec<Arrival>) {
        match &mut self.protocol {
            Protocol::Http { head } => {
                head.extend_from_slice(bytes);
                self.take_requests(arrivals);
            }
            Protocol::WebSocket(context) => {
                let mut input = bytes;
                loop {
                    let mut pipe = Pipe { input: &mut input, out: &mut self.out };
                    match context.read(&mut pipe) {
                        Ok(tungstenite::Message::Text(text)) => {
                            arrivals.push(Arrival::Payload(text.as_bytes().to_vec()))
                        }
                        Ok(tungstenite::Message::Binary(bytes)) => {
                            arrivals.push(Arrival::Payload(bytes.to_vec()))
                        }
                        Ok(tungstenite::Message::Close(frame)) => {
                            if !self.closing {
                                arrivals.push(Arrival::Closed(frame.map(|f| f.code.into())));
                            }
                            self.closing = true;
                            self.peer_closed = true;
                        }
                        Ok(_) => {}
                        Err(tungstenite::Error::Io(e)) if e.kind() == io::ErrorKind::WouldBlock => return,
                        Err(_) => {
                            if !self.closing {
                                arrivals.push(Arrival::Closed(None));
                            }
                            self.closing = true;
                            return;
                        }
                    }
                }
            }
        }
    }

    fn take_requests(&mut self, arrivals: &mut Vec<Arrival>) {
        let Protocol::Http { head } = &mut self.protocol else { return };
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut request = httparse::Request::new(&mut headers);
        let head_bytes = match request.parse(head) {
            Ok(httparse::Status::Complete(bytes)) => bytes,
            Ok(httparse::Status::Partial) if head.len() <= HEAD_BYTES_MAX => return,
            _ => {
                self.dead = true;
                return;
            }
        };
        let header = |name: &str| {
            let found = request.headers.iter().find(|h| h.name.eq_ignore_ascii_case(name));
            found.and_then(|h| std::str::from_utf8(h.value).ok()).map(str::to_owned)
        };
        let length = header("content-length").and_then(|v| v.parse::<usize>().ok()).unwrap_or(0);
        if length > 1 << 20 {
            self.dead = true;
            return;
        }
        let Some(body) = head.get(head_bytes..head_bytes + length) else { return };
        let upgrade = header("upgrade").is_some_and(|v| v.eq_ignore_ascii_case("websocket"));
        arrivals.push(Arrival::Request {
            method: request.method.unwrap_or_default().to_owned(),
            path: request.path.unwrap_or_default().to_owned(),
            authorization: header("authorization"),
            websocket_key: header("sec-websocket-key").filter(|_| upgrade),
            body: body.to_vec(),
        });
        head.drain(..head_bytes + length);
    }

    /// Answers a request; the connection stays open for more.
    pub fn respond(&mut self, response: &super::Response, arrivals: &mut Vec<Arrival>) {
        let _ =
            write!(self.out, "HTTP/1.1 {} X\r\ncontent-length: {}\r\n", response.status, response.body.len());
        for (name, value) in &response.headers {
            let _ = write!(self.out, "{name}: {value}\r\n");
        }
        self.out.extend_from_slice(b"\r\n");
        self.out.extend_from_slice(&response.body);
        self.take_requests(arrivals);
    }

    /// Turns the connection into a WebSocket. `plays`: recordings will be played on it.
    pub fn upgrade(&mut self, key: &str, compression: Compression, plays: bool) -> io::Result<()> {
        let accept = tungstenite::handshake::derive_accept_key(key.as_bytes());
        let _ = write!(
            self.out,
            "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: {accept}\r\n\r\n"
        );
        let early = match &mut self.protocol {
            Protocol::Http { head } => std::mem::take(head),
            Protocol::WebSocket(_) => Vec::new(),
        };
        let config = WebSocketConfig::default()
            .read_buffer_size(4096)
            .write_buffer_size(0)
            .max_message_size(Some(MESSAGE_BYTES_MAX))
            .max_frame_size(Some(MESSAGE_BYTES_MAX));
        let context = WebSocketContext::from_partially_read(early, Role::Server, Some(config));
        self.protocol = Protocol::WebSocket(Box::new(context));
        self.encoder = match compression {
            Compression::None => Encoder::Plain,
            Compression::Zlib if plays => Encoder::ZlibAlone(false),
            Compression::Zlib => Encoder::Zlib(Deflate::zlib(LEVEL)?),
            Compression::Zstd => {
                let mut context = CCtx::create();
                // Small tables when much is to be compressed; else a window as Discord's.
                let (level, window_log) = if plays { (1, 17) } else { (3, 18) };
                for parameter in [CParameter::CompressionLevel(level), CParameter::WindowLog(window_log)] {
                    context.set_parameter(parameter).map_err(zstd_error)?;
                }
                Encoder::Zstd(Box::new(context))
            }
        };
        Ok(())
    }

    /// Takes what the client sent right behind its handshake.
    pub fn take_early(&mut self, arrivals: &mut Vec<Arrival>) {
        self.take(&[], arrivals);
    }

    /// Queues something to send.
    pub fn push(&mut self, item: Item) {
        if self.pending.len() >= PENDING_MAX {
            self.dead = true; // Too slow a reader.
            return;
        }
        self.pending.push_back(item);
    }

    /// Turns waiting items into frames, up to [`OUT_HIGH`] bytes of them.
    pub fn fill(&mut self, tools: &mut Tools) {
        while self.backlog() < OUT_HIGH && !self.dead {
            match self.pending.front_mut() {
                None => return,
                Some(Item::Text(payload)) => {
                    let payload = payload.clone();
                    self.pending.pop_front();
                    if let Some(player) = &mut self.player {
                        player.interrupt();
                    }
                    self.encode(&payload, tools);
                }
                Some(Item::Recorded { first, count }) => {
                    let seq = *first;
                    *first += 1;
                    *count = count.saturating_sub(1);
                    if *count == 0 {
                        self.pending.pop_front();
                    }
                    self.play(seq, tools);
                }
                Some(Item::Close(code)) => {
                    let code = *code;
                    self.pending.clear();
                    frame_head(8, 2, &mut self.out);
                    self.out.extend_from_slice(&code.to_be_bytes());
                    self.closing = true;
                }
            }
        }
    }

    /// Sends dispatch `seq` of the recording.
    pub fn play(&mut self, seq: u64, tools: &mut Tools) {
        let Some(player) = &mut self.player else { return };
        match player.play(seq, &mut self.out) {
            Played::Framed => self.frames_out += 1,
            Played::Alone => {
                let text = player.recording().text(seq);
                self.encode(text.as_bytes(), tools);
            }
        }
    }

    fn encode(&mut self, payload: &[u8], tools: &mut Tools) {
        self.frames_out += 1;
        tools.scratch.clear();
        match &mut self.encoder {
            Encoder::Plain => {
                if self.compress_payloads
                    && payload.len() > 1024
                    && let Ok(mut deflate) = Deflate::zlib(LEVEL)
                {
                    deflate.compress(payload, &mut tools.scratch);
                    frame_head(2, tools.scratch.len(), &mut self.out);
                    self.out.extend_from_slice(&tools.scratch);
                    return;
                }
                frame_head(1, payload.len(), &mut self.out);
                self.out.extend_from_slice(payload);
                return;
            }
            Encoder::Zlib(deflate) => deflate.compress(payload, &mut tools.scratch),
            Encoder::ZlibAlone(begun) => {
                if !std::mem::replace(begun, true) {
                    tools.scratch.extend_from_slice(&[0x78, 0x9c]);
                }
                tools.alone.reset();
                tools.alone.compress(payload, &mut tools.scratch);
            }
            Encoder::Zstd(context) => {
                if zstd(context, payload, &mut tools.scratch).is_err() {
                    self.dead = true;
                    return;
                }
            }
        }
        let mut rest = tools.scratch.as_slice();
        if let (Some(rng), Encoder::Zlib(_) | Encoder::ZlibAlone(_)) = (&mut tools.split, &self.encoder)
            // An empty payload may compress to nothing, which has no pieces.
            && rest.len() > 4
        {
            // Somewhere, and then within the last four bytes.
            let early = rng.below(rest.len() as u64) as usize;
            let late = rest.len() - 1 - rng.below(3) as usize;
            for cut in [early.min(late), late - early.min(late)] {
                let (part, tail) = rest.split_at(cut);
                if !part.is_empty() {
                    frame_head(2, part.len(), &mut self.out);
                    self.out.extend_from_slice(part);
                }
                rest = tail;
            }
        }
        frame_head(2, rest.len(), &mut self.out);
        self.out.extend_from_slice(rest);
    }

    /// Writes as much as the socket takes.
    pub fn flush(&mut self) {
        while self.writable && !self.dead {
            let bytes = self.out.get(self.out_start..).unwrap_or_default();
            let result = match &mut self.tls {
                None if bytes.is_empty() => break,
                None => self.socket.write(bytes),
                Some(tls) if tls.wants_write() => match tls.write_tls(&mut self.socket) {
                    Ok(_) => continue,
                    Err(e) => Err(e),
                },
                Some(_) if bytes.is_empty() => break,
                Some(tls) => tls.writer().write(bytes),
            };
            match result {
                Ok(count) => {
                    self.out_start += count;
                    self.bytes_out += count as u64;
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => self.writable = false,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => self.dead = true,
            }
        }
        if self.peer_closed && self.backlog() == 0 {
            self.dead = true;
        }
        if self.out_start == self.out.len() {
            self.out.clear();
            self.out_start = 0;
            if self.out.capacity() > 4 * OUT_HIGH {
                self.out = Vec::new();
            }
        } else if self.out_start > OUT_HIGH {
            self.out.drain(..self.out_start);
            self.out_start = 0;
        }
    }
}

fn zstd_error(code: usize) -> io::Error {
    io::Error::other(zstd_safe::get_error_name(code))
}

/// Compresses one message and flushes the block; the frame goes on.
fn zstd(context: &mut CCtx<'static>, payload: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    let mut input = InBuffer::around(payload);
    loop {
        let at = out.len();
        out.resize(at + zstd_safe::compress_bound(payload.len() - input.pos()) + 64, 0);
        let mut output = OutBuffer::around_pos(out.as_mut_slice(), at);
        let left = context.compress_stream2(&mut output, &mut input, ZSTD_e_flush).map_err(zstd_error)?;
        let end = output.pos();
        out.truncate(end);
        if left == 0 && input.pos() == payload.len() {
            return Ok(());
        }
    }
}
