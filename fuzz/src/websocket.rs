//! A WebSocket next to tungstenite's: any frames are read alike, however they are cut; and in a conversation with
//! tungstenite as the server each end gets what the other sent.

use std::collections::VecDeque;
use std::io::{self, Read, Write};

use rateway::stream::websocket::{Error, Event, WebSocket};
use tungstenite::Message;
use tungstenite::handshake::derive_accept_key;
use tungstenite::protocol::frame::Frame;
use tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};
use tungstenite::protocol::{CloseFrame, Role, WebSocketConfig, WebSocketContext};

use super::input::Input;

const MESSAGE_BYTES_MAX: usize = 1000;

/// One run. The lowest bit of the first byte says which; the second one says how bytes are cut.
pub fn run(bytes: &[u8]) {
    let mut input = Input(bytes);
    let (what, cut) = (input.byte(), usize::from(input.byte()));
    if what & 1 == 0 {
        any(cut, input.0);
    } else {
        conversation(cut, input);
    }
}

/// A socket's other end.
#[derive(Default)]
struct Pipe {
    incoming: VecDeque<u8>,
    outgoing: Vec<u8>,
}

impl Read for Pipe {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self.incoming.read(into)? {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            n => Ok(n),
        }
    }
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.outgoing.write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// tungstenite in one of its roles.
struct Other {
    context: WebSocketContext,
    pipe: Pipe,
}

impl Other {
    fn new(role: Role) -> Other {
        let config = WebSocketConfig::default()
            .write_buffer_size(0)
            .max_message_size(Some(MESSAGE_BYTES_MAX))
            .max_frame_size(Some(MESSAGE_BYTES_MAX));
        Other { context: WebSocketContext::new(role, Some(config)), pipe: Pipe::default() }
    }

    /// What it reads, and whether it stops for a fault.
    fn read(&mut self) -> (Vec<Got>, bool) {
        let mut got = Vec::new();
        loop {
            match self.context.read(&mut self.pipe) {
                Ok(Message::Text(text)) => got.push(Got::Message(text.as_bytes().to_vec())),
                Ok(Message::Binary(bytes)) => got.push(Got::Message(bytes.to_vec())),
                Ok(Message::Close(_)) => {
                    got.push(Got::Closed);
                    return (got, false);
                }
                Ok(_) => {}
                Err(tungstenite::Error::Io(_)) => return (got, false),
                Err(_) => return (got, true),
            }
        }
    }

    /// Whether it takes `message`.
    fn write(&mut self, message: Message) -> bool {
        self.context.write(&mut self.pipe, message).is_ok() && self.context.flush(&mut self.pipe).is_ok()
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Got {
    Message(Vec<u8>),
    Closed,
}

/// One whose upgrade is done.
fn open() -> WebSocket {
    let mut client = WebSocket::new("gateway", "/?v=10", "fuzz", MESSAGE_BYTES_MAX);
    let request = String::from_utf8(client.outgoing().to_vec()).expect("an HTTP request");
    client.sent(usize::MAX);
    let key = request.split("Key: ").nth(1).and_then(|rest| rest.split("\r\n").next()).expect("a key");
    let accept = derive_accept_key(key.as_bytes());
    let answer = format!(
        "HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
    );
    assert_eq!(client.receive(answer.as_bytes()), Ok((answer.len(), Some(Event::Opened))));
    client
}

fn feed(client: &mut WebSocket, mut bytes: &[u8], got: &mut Vec<Got>) -> Result<(), Error> {
    while !bytes.is_empty() {
        let (taken, event) = client.receive(bytes)?;
        match event {
            None => assert_eq!(taken, bytes.len()),
            Some(Event::Opened) => unreachable!("it was open before"),
            Some(Event::Message(message)) => {
                assert!(message.len() <= MESSAGE_BYTES_MAX);
                got.push(Got::Message(message.to_vec()));
            }
            Some(Event::Closed(_)) => got.push(Got::Closed),
        }
        bytes = &bytes[taken..];
    }
    Ok(())
}

/// Any frames of a server.
fn any(cut: usize, bytes: &[u8]) {
    let (mut whole, mut pieces) = ((open(), Vec::new()), (open(), Vec::new()));
    let end = feed(&mut whole.0, bytes, &mut whole.1);
    let mut end_of_pieces = Ok(());
    for piece in bytes.chunks(cut.max(1)) {
        if end_of_pieces.is_ok() {
            end_of_pieces = feed(&mut pieces.0, piece, &mut pieces.1);
        }
    }
    assert_eq!((&pieces.1, &end_of_pieces), (&whole.1, &end), "pieces are read differently");
    assert_eq!(pieces.0.close_reason(), whole.0.close_reason());
    if end.is_ok() {
        assert_eq!(pieces.0.is_inside_message(), whole.0.is_inside_message());
    }

    let mut other = Other::new(Role::Client);
    other.pipe.incoming.extend(bytes);
    let (mut got, mut is_fault) = other.read();
    if end.is_err() && !is_fault {
        // It looks at a frame when all of it is there.
        other.pipe.incoming.extend([0; MESSAGE_BYTES_MAX + 1]);
        let (more, is_fault_now) = other.read();
        assert!(is_fault_now, "{end:?}, and no fault for tungstenite");
        got.extend(more);
        is_fault = true;
    }
    if is_fault {
        // It also looks whether texts are UTF-8 and whether a close code is one.
        assert!(whole.1.starts_with(&got), "{:?} instead of {got:?}", whole.1);
    } else {
        assert_eq!((whole.1, end), (got, Ok(())));
    }

    // What goes out, pongs and the answer to a close, is what a server takes.
    let mut server = Other::new(Role::Server);
    server.pipe.incoming.extend(whole.0.outgoing());
    assert!(!server.read().1, "it sent what is not a frame");
}

/// Both ends send what they may, and read what has come so far.
fn conversation(cut: usize, mut input: Input<'_>) {
    let (mut client, mut server) = (open(), Other::new(Role::Server));
    let (mut from_server, mut from_client) = (Vec::new(), Vec::new());
    let (mut at_client, mut at_server) = (Vec::new(), Vec::new());
    // Whether a fragmented message of the server waits for its end.
    let mut parts: Option<Vec<u8>> = None;
    while !input.is_empty() {
        let (what, amount) = (input.byte(), usize::from(input.byte()));
        match what % 9 {
            0 | 1 if parts.is_none() => {
                let payload = vec![b'a' + what % 26; amount * 4 % (MESSAGE_BYTES_MAX + 1)];
                let message = match what & 16 {
                    0 => Message::text(String::from_utf8(payload.clone()).expect("letters")),
                    _ => Message::binary(payload.clone()),
                };
                if server.write(message) {
                    from_server.push(Got::Message(payload));
                }
            }
            2 => {
                let _ = server.write(Message::Ping(vec![what; amount % 126].into()));
            }
            3 => {
                let piece = vec![what; amount % 100];
                let is_first = parts.is_none();
                let mut all = parts.take().unwrap_or_default();
                let is_final = what & 64 != 0 || all.len() + piece.len() + 100 > MESSAGE_BYTES_MAX;
                let opcode = OpCode::Data(if is_first { Data::Binary } else { Data::Continue });
                all.extend_from_slice(&piece);
                if server.write(Message::Frame(Frame::message(piece, opcode, is_final))) {
                    match is_final {
                        true => from_server.push(Got::Message(all)),
                        false => parts = Some(all),
                    }
                }
            }
            4 => {
                let payload = vec![b'z'; amount * 4 % (MESSAGE_BYTES_MAX + 1)];
                if client.send_text(&payload).is_ok() {
                    from_client.push(Got::Message(payload));
                }
            }
            5 if amount < 8 => client.close(4000),
            5 if amount > 247 => {
                let frame = CloseFrame { code: CloseCode::from(4000), reason: "x".into() };
                let _ = server.context.close(&mut server.pipe, Some(frame));
            }
            6 | 7 => {
                let bytes: Vec<u8> =
                    server.pipe.outgoing.drain(..amount.min(server.pipe.outgoing.len())).collect();
                for piece in bytes.chunks(cut.max(1)) {
                    feed(&mut client, piece, &mut at_client).expect("sound frames");
                }
            }
            _ => {
                let length = client.outgoing().len().min(amount);
                server.pipe.incoming.extend(&client.outgoing()[..length]);
                client.sent(length);
                at_server.extend(server.read().0);
            }
        }
    }
    // To the end: what one says in answer may need an answer.
    for _ in 0..4 {
        let bytes = std::mem::take(&mut server.pipe.outgoing);
        feed(&mut client, &bytes, &mut at_client).expect("sound frames");
        server.pipe.incoming.extend(client.outgoing());
        client.sent(usize::MAX);
        at_server.extend(server.read().0);
    }
    let messages = |got: Vec<Got>| got.into_iter().filter(|got| *got != Got::Closed).collect::<Vec<_>>();
    assert_eq!(messages(at_client), from_server);
    assert_eq!(messages(at_server), from_client);
}
