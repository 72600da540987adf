//! The broker as a process, and a bare socket to it.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use amq_protocol::frame::{AMQPFrame, WriteContext, gen_frame, parse_frame};
use amq_protocol::protocol::{AMQPClass, basic, channel, connection, queue};
use amq_protocol::types::FieldTable;

use crate::support::{Gateway, PATIENCE};

/// A running broker.
pub struct Service {
    pub process: Gateway,
    /// `address:port`.
    pub address: String,
}

impl Service {
    /// Starts it on a free port. The last one of several variables of a name counts.
    pub fn start(variables: &[(&str, &str)]) -> Service {
        let usual = [("BROKER_ADDR", "127.0.0.1:0"), ("LOG_LEVEL", "trace")];
        let owned = |&(name, value): &(&str, &str)| (name.to_owned(), value.to_owned());
        let variables: Vec<_> = usual.iter().chain(variables).map(owned).collect();
        let process = Gateway::start(&variables, &["broker"]);
        let line = process.wait_line("listens on amqp://");
        let address = line.split("amqp://").nth(1).expect("an address").trim().to_owned();
        Service { process, address }
    }

    pub fn uri(&self) -> String {
        format!("amqp://guest:guest@{}/%2f", self.address)
    }

    /// A socket on which nothing was said.
    pub fn socket(&self) -> Peer {
        socket(&self.address)
    }

    /// A client that is through the handshake, with channel 1 open.
    pub fn client(&self) -> Peer {
        client(&self.address)
    }

    /// That the broker serves a polite client: through a queue and back.
    pub fn assert_serves(&self) {
        let mut peer = self.client();
        peer.say(declare("", true));
        let Some(AMQPFrame::Method(1, AMQPClass::Queue(queue::AMQPMethod::DeclareOk(ok)))) = peer.read()
        else {
            panic!("no queue.declare-ok")
        };
        for frame in publish(ok.queue.as_str(), b"polite") {
            peer.say(frame);
        }
        let get = basic::Get { queue: ok.queue, no_ack: true };
        peer.say(m(1, AMQPClass::Basic(basic::AMQPMethod::Get(get))));
        assert!(matches!(
            peer.read(),
            Some(AMQPFrame::Method(1, AMQPClass::Basic(basic::AMQPMethod::GetOk(_))))
        ));
        assert!(matches!(peer.read(), Some(AMQPFrame::Header(1, _))));
        assert_eq!(peer.read(), Some(AMQPFrame::Body(1, b"polite".to_vec())));
    }
}

/// A client's socket, with no client behind it.
pub struct Peer {
    pub stream: TcpStream,
    buffer: Vec<u8>,
}

impl Peer {
    pub fn send(&mut self, bytes: &[u8]) {
        // The broker may hang up in the middle, which is what some tests are about.
        let _ = self.stream.write_all(bytes);
    }

    pub fn say(&mut self, frame: AMQPFrame) {
        self.send(&written(&frame));
    }

    /// The next frame that is no heartbeat; `None` at the end.
    pub fn read(&mut self) -> Option<AMQPFrame> {
        loop {
            if let Ok((rest, frame)) = parse_frame(&self.buffer[..]) {
                let taken = self.buffer.len() - rest.len();
                self.buffer.drain(..taken);
                if !matches!(frame, AMQPFrame::Heartbeat) {
                    return Some(frame);
                }
                continue;
            }
            let mut more = [0; 65_536];
            match self.stream.read(&mut more) {
                Ok(0) => return None,
                Ok(count) => self.buffer.extend_from_slice(&more[..count]),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("nothing came: {error}"),
            }
        }
    }

    /// Reads until the connection or a channel is closed, and says with which code.
    pub fn closed(&mut self) -> u16 {
        loop {
            match self.read() {
                Some(AMQPFrame::Method(0, AMQPClass::Connection(connection::AMQPMethod::Close(close)))) => {
                    return close.reply_code;
                }
                Some(AMQPFrame::Method(_, AMQPClass::Channel(channel::AMQPMethod::Close(close)))) => {
                    return close.reply_code;
                }
                Some(_) => {}
                None => panic!("the connection ended without a word"),
            }
        }
    }
}

fn socket(address: &str) -> Peer {
    let stream = TcpStream::connect(address).expect("the broker listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    stream.set_write_timeout(Some(Duration::from_millis(500))).expect("a socket");
    Peer { stream, buffer: Vec::new() }
}

/// A client of whatever listens there, through the handshake, with channel 1 open.
pub fn client(address: &str) -> Peer {
    let mut peer = socket(address);
    peer.send(b"AMQP\x00\x00\x09\x01");
    peer.read().expect("connection.start");
    peer.say(start_ok("\0guest\0guest"));
    peer.read().expect("connection.tune");
    peer.say(tune_ok(0, 0));
    peer.say(open_vhost());
    peer.read().expect("connection.open-ok");
    peer.say(open(1));
    peer.read().expect("channel.open-ok");
    peer
}

pub fn written(frame: &AMQPFrame) -> Vec<u8> {
    gen_frame(frame)(WriteContext::from(Vec::new())).expect("memory").into_inner().0
}

pub fn m(number: u16, class: AMQPClass) -> AMQPFrame {
    AMQPFrame::Method(number, class)
}

pub fn start_ok(response: &str) -> AMQPFrame {
    let start_ok = connection::StartOk {
        client_properties: FieldTable::default(),
        mechanism: "PLAIN".into(),
        response: response.into(),
        locale: "en_US".into(),
    };
    m(0, AMQPClass::Connection(connection::AMQPMethod::StartOk(start_ok)))
}

pub fn tune_ok(channel_max: u16, frame_max: u32) -> AMQPFrame {
    let tune_ok = connection::TuneOk { channel_max, frame_max, heartbeat: 0 };
    m(0, AMQPClass::Connection(connection::AMQPMethod::TuneOk(tune_ok)))
}

pub fn open_vhost() -> AMQPFrame {
    let open = connection::Open { virtual_host: "/".into() };
    m(0, AMQPClass::Connection(connection::AMQPMethod::Open(open)))
}

pub fn open(number: u16) -> AMQPFrame {
    m(number, AMQPClass::Channel(channel::AMQPMethod::Open(channel::Open {})))
}

pub fn declare(name: &str, exclusive: bool) -> AMQPFrame {
    let declare = queue::Declare { queue: name.into(), exclusive, ..queue::Declare::default() };
    m(1, AMQPClass::Queue(queue::AMQPMethod::Declare(declare)))
}

pub fn consume(name: &str) -> AMQPFrame {
    let consume = basic::Consume { queue: name.into(), no_ack: true, ..basic::Consume::default() };
    m(1, AMQPClass::Basic(basic::AMQPMethod::Consume(consume)))
}

pub fn publish(name: &str, body: &[u8]) -> [AMQPFrame; 3] {
    let publish = basic::Publish { routing_key: name.into(), ..basic::Publish::default() };
    let properties = basic::AMQPProperties::default();
    let header =
        amq_protocol::frame::AMQPContentHeader { class_id: 60, body_size: body.len() as u64, properties };
    [
        m(1, AMQPClass::Basic(basic::AMQPMethod::Publish(publish))),
        AMQPFrame::Header(1, header),
        AMQPFrame::Body(1, body.to_vec()),
    ]
}
