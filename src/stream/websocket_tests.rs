use super::*;
use std::io::{self, Read, Write};
use tungstenite::Message;
use tungstenite::protocol::{CloseFrame, Role, WebSocketConfig, WebSocketContext};

/// tungstenite as the server, over memory: the outside judge of our frames.
struct Server {
    context: WebSocketContext,
    pipe: Pipe,
}

#[derive(Default)]
struct Pipe {
    to_server: Vec<u8>,
    to_client: Vec<u8>,
}

impl Read for Pipe {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.to_server.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let n = buf.len().min(self.to_server.len());
        buf[..n].copy_from_slice(&self.to_server[..n]);
        self.to_server.drain(..n);
        Ok(n)
    }
}

impl Write for Pipe {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.to_client.extend_from_slice(buf);
        Ok(buf.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Server {
    fn new() -> Server {
        let config = WebSocketConfig::default().write_buffer_size(0);
        Server { context: WebSocketContext::new(Role::Server, Some(config)), pipe: Pipe::default() }
    }

    fn write(&mut self, message: Message) -> Vec<u8> {
        self.context.write(&mut self.pipe, message).unwrap();
        self.context.flush(&mut self.pipe).unwrap();
        std::mem::take(&mut self.pipe.to_client)
    }

    fn read(&mut self, client: &mut WebSocket) -> Vec<Message> {
        self.pipe.to_server.extend_from_slice(client.outgoing());
        client.sent(usize::MAX);
        std::iter::from_fn(|| self.context.read(&mut self.pipe).ok()).collect()
    }
}

fn answer(client: &mut WebSocket, change: impl Fn(String) -> String) -> Vec<u8> {
    let request = String::from_utf8(client.outgoing().to_vec()).unwrap();
    client.sent(usize::MAX);
    let key = request.split("Sec-WebSocket-Key: ").nth(1).unwrap().split("\r\n").next().unwrap();
    let accept = derive_accept_key(key.as_bytes());
    change(format!(
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: WebSocket\r\nConnection: keep-alive, Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    ))
    .into_bytes()
}

fn client() -> WebSocket {
    WebSocket::new("gateway.discord.gg", "/?v=10&encoding=json", "DiscordBot (x, 1)", 1000)
}

fn open() -> WebSocket {
    let mut client = client();
    let answer = answer(&mut client, |a| a);
    assert_eq!(client.receive(&answer), Ok((answer.len(), Some(Event::Opened))));
    client
}

/// What came out, owned.
#[derive(Debug, PartialEq)]
enum Out {
    Opened,
    Message(Vec<u8>),
    Closed(Option<u16>),
}

fn feed(client: &mut WebSocket, mut bytes: &[u8], step: usize) -> Result<Vec<Out>, Error> {
    let mut out = vec![];
    while !bytes.is_empty() {
        let (taken, event) = client.receive(&bytes[..step.min(bytes.len())])?;
        match event {
            None => assert!(taken > 0),
            Some(Event::Opened) => out.push(Out::Opened),
            Some(Event::Message(message)) => out.push(Out::Message(message.to_vec())),
            Some(Event::Closed(code)) => out.push(Out::Closed(code)),
        }
        bytes = &bytes[taken..];
    }
    Ok(out)
}

fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        len @ 0..126 => frame.push(len as u8),
        len => {
            frame.push(126);
            frame.extend((len as u16).to_be_bytes());
        }
    }
    frame.extend_from_slice(payload);
    frame
}

#[test]
fn the_request_is_what_rfc_6455_asks_for() {
    let mut client = WebSocket::new("host:8080", "/?v=10", "Bot\r\nEvil: 1", 10);
    let request = String::from_utf8(client.outgoing().to_vec()).unwrap();
    let mut headers = [httparse::EMPTY_HEADER; 16];
    let mut parsed = httparse::Request::new(&mut headers);
    assert!(parsed.parse(request.as_bytes()).unwrap().is_complete());
    assert_eq!((parsed.method, parsed.path), (Some("GET"), Some("/?v=10")));
    let header = |name: &str| headers.iter().find(|h| h.name == name).map(|h| h.value);
    assert_eq!(header("Host"), Some(&b"host:8080"[..]));
    assert_eq!(header("Sec-WebSocket-Version"), Some(&b"13"[..]));
    assert_eq!(header("User-Agent"), Some(&b"BotEvil: 1"[..]));
    assert_eq!(client.send_text(b"x"), Err(Error::NotOpen));
}

#[test]
fn the_answer_may_come_byte_by_byte_with_frames_behind_it() {
    for step in [1, 2, 7, 1000] {
        let mut client = client();
        let mut bytes = answer(&mut client, |a| a);
        bytes.extend(frame(0x81, b"hello"));
        let out = feed(&mut client, &bytes, step).unwrap();
        assert_eq!(out, [Out::Opened, Out::Message(b"hello".to_vec())]);
    }
}

#[test]
fn wrong_answers_are_refused() {
    type Change = fn(String) -> String;
    let cases: [(Change, Error); 8] = [
        (|a| a.replace("101 Switching Protocols", "429 Too Many"), Error::Refused { status: 429 }),
        (|a| a.replace("101 Switching", "200 OK"), Error::Refused { status: 200 }),
        (|a| a.replace("WebSocket\r", "h2c\r"), Error::Upgrade("no Upgrade: websocket")),
        (|a| a.replace(", Upgrade", ""), Error::Upgrade("no Connection: Upgrade")),
        (
            |a| a.replace("Accept: ", "Accept: A"),
            Error::Upgrade("its Sec-WebSocket-Accept does not match the key"),
        ),
        (
            |a| a.replace("\r\n\r\n", "\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n"),
            Error::Upgrade("it chose an extension that was not offered"),
        ),
        (|_| "SSH-2.0-x\r\n\r\n".to_owned(), Error::Upgrade("it is not HTTP")),
        (|a| a.replace("\r\n\r\n", &"\r\nx: y".repeat(5000)), Error::UpgradeTooLarge),
    ];
    for (change, expected) in cases {
        for step in [1, 100_000] {
            let mut client = client();
            let bytes = answer(&mut client, change);
            assert_eq!(feed(&mut client, &bytes, step), Err(expected.clone()));
        }
    }
    assert_eq!(Error::Refused { status: 429 }.kind(), ErrorKind::Refused);
}

#[test]
fn messages_pass_both_ways_with_an_outside_judge() {
    for step in [1, 3, 64, 100_000] {
        let (mut client, mut server) = (open(), Server::new());
        let mut bytes = vec![];
        for len in [0, 1, 125, 126, 900] {
            bytes.extend(server.write(Message::Binary(vec![7; len].into())));
            bytes.extend(server.write(Message::Ping(vec![len as u8].into())));
        }
        bytes.extend(server.write(Message::Text("täxt".into())));
        let out = feed(&mut client, &bytes, step).unwrap();
        let lens: Vec<_> =
            out.iter().map(|out| if let Out::Message(m) = out { m.len() } else { 9999 }).collect();
        assert_eq!(lens, [0, 1, 125, 126, 900, 5]);
        client.send_text("{\"op\":1,\"d\":null}".as_bytes()).unwrap();
        client.send_text(&[b'x'; 4096]).unwrap();
        let heard = server.read(&mut client);
        assert_eq!(heard[0], Message::Text("{\"op\":1,\"d\":null}".into()));
        assert_eq!(heard[1], Message::Text("x".repeat(4096).into()));
        // Only the newest ping is answered.
        assert_eq!(heard[2..], [Message::Pong(vec![900u16 as u8].into())]);
    }
}

#[test]
fn fragments_are_joined_around_control_frames() {
    for step in 1..20 {
        let mut client = open();
        let mut bytes = vec![];
        for part in [frame(0x02, b"ab"), frame(0x89, b"p"), frame(0x00, b""), frame(0x80, b"cd")] {
            bytes.extend(part);
        }
        bytes.extend(frame(0x82, b"next"));
        let expected = [Out::Message(b"abcd".to_vec()), Out::Message(b"next".to_vec())];
        assert_eq!(feed(&mut client, &bytes, step).unwrap(), expected);
        assert!(!client.is_inside_message());
    }
}

#[test]
fn broken_frames_are_refused() {
    let cases: [(Vec<u8>, &str); 9] = [
        (frame(0xc1, b"x"), "a reserved bit is set"),
        (frame(0x83, b"x"), "a reserved opcode"),
        (frame(0x8b, b"x"), "a reserved opcode"),
        (frame(0x80, b"x"), "a continuation of nothing"),
        ([frame(0x01, b"x"), frame(0x81, b"y")].concat(), "a new message inside a fragmented one"),
        (frame(0x09, b"x"), "a control frame is fragmented"),
        (frame(0x89, &[0; 126]), "a control frame is larger than 125 bytes"),
        (frame(0x88, b"x"), "a close frame of one byte"),
        (vec![0x81, 0x81, 1, 2, 3, 4, 5], "a frame from the server is masked"),
    ];
    for (bytes, why) in cases {
        for step in [1, 1000] {
            assert_eq!(feed(&mut open(), &bytes, step), Err(Error::Frame(why)), "{bytes:?}");
        }
    }
}

#[test]
fn oversize_messages_are_refused_before_they_arrive() {
    let too_large = |bytes| Err(Error::MessageTooLarge { bytes, bytes_max: 1000 });
    assert!(feed(&mut open(), &frame(0x82, &[0; 1000]), 9999).is_ok());
    assert_eq!(feed(&mut open(), &frame(0x82, &[0; 1001])[..4], 1), too_large(1001));
    let parts = [frame(0x02, &[0; 600]), frame(0x80, &[0; 401])].concat();
    assert_eq!(feed(&mut open(), &parts[..parts.len() - 401], 50), too_large(1001));
    let huge = [0x82, 127, 255, 255, 255, 255, 255, 255, 255, 255];
    assert_eq!(feed(&mut open(), &huge, 1), too_large(u64::MAX));
}

#[test]
fn close_codes_come_through_and_are_answered() {
    for code in [1000u16, 1001, 4000, 4004, 4014] {
        let (mut client, mut server) = (open(), Server::new());
        let reason = CloseFrame { code: code.into(), reason: "Authentication failed.".into() };
        let bytes = server.write(Message::Close(Some(reason)));
        assert_eq!(feed(&mut client, &bytes, 3).unwrap(), [Out::Closed(Some(code))]);
        assert_eq!(client.close_reason(), "Authentication failed.");
        assert_eq!(client.send_text(b"x"), Err(Error::Closed));
        let echo = server.read(&mut client);
        assert!(matches!(&echo[..], [Message::Close(Some(frame))] if u16::from(frame.code) == code));
        assert_eq!(client.receive(b"anything after"), Ok((14, None)));
    }
    let mut client = open();
    assert_eq!(feed(&mut client, &frame(0x88, b""), 1).unwrap(), [Out::Closed(None)]);
    // 1006 must not be on the wire; it is reported, and answered as a protocol error.
    let mut client = open();
    let bytes = frame(0x88, &[3, 0xee, b'a', 0xff]);
    assert_eq!(feed(&mut client, &bytes, 1).unwrap(), [Out::Closed(Some(1006))]);
    assert_eq!(client.close_reason(), "a");
    let heard = Server::new().read(&mut client);
    assert!(matches!(&heard[..], [Message::Close(Some(frame))] if u16::from(frame.code) == 1002));
}

#[test]
fn our_close_goes_out_once_and_messages_still_come_until_the_answer() {
    let (mut client, mut server) = (open(), Server::new());
    client.close(4000);
    client.close(1000);
    let late = server.write(Message::Text("late".into()));
    assert_eq!(feed(&mut client, &late, 100).unwrap(), [Out::Message(b"late".to_vec())]);
    let heard = server.read(&mut client);
    assert!(matches!(&heard[..], [Message::Close(Some(frame))] if u16::from(frame.code) == 4000));
    assert!(!client.is_closed());
    let answer = std::mem::take(&mut server.pipe.to_client);
    assert_eq!(feed(&mut client, &answer, 1).unwrap(), [Out::Closed(Some(4000))]);
    assert!(client.is_closed() && !client.wants_transmit());
}

#[test]
fn a_peer_that_does_not_read_fills_the_queue_and_no_more() {
    let mut client = open();
    let mut queued = 0;
    while client.send_text(&[0; 4000]).is_ok() {
        queued += 1;
    }
    assert_eq!(queued, 16);
    assert_eq!(client.send_text(&[0; 4000]), Err(Error::OutgoingFull));
    let pings = frame(0x89, &[1; 125]).repeat(10_000);
    feed(&mut client, &pings, 1 << 20).unwrap();
    assert!(client.outgoing().len() <= OUTGOING_BYTES_MAX + 200);
    client.sent(usize::MAX);
    assert!(client.send_text(&[0; 4000]).is_ok());
}

#[test]
fn a_large_message_does_not_keep_its_memory() {
    let mut client = WebSocket::new("h", "/", "a", 1 << 20);
    let bytes = answer(&mut client, |a| a);
    feed(&mut client, &bytes, 1000).unwrap();
    feed(&mut client, &frame(0x82, &[7; 60_000]), 1000).unwrap();
    feed(&mut client, &frame(0x82, b"x"), 1000).unwrap();
    assert!(client.message.capacity() <= MESSAGE_BYTES_KEPT);
}
