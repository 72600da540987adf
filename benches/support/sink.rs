//! A broker that discards: speaks enough AMQP 0-9-1 for a publisher, counts what is published, confirms it and
//! forgets it. So a measurement shows the gateway's cost and not a broker's.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use amq_protocol::frame::{AMQPFrame, WriteContext, gen_frame, parse_frame};
use amq_protocol::protocol::{AMQPClass, basic, channel, confirm, connection, exchange, queue};

/// What reached the sink.
#[derive(Default)]
pub struct Counts {
    /// Publishes, complete or begun.
    pub publishes: AtomicU64,
    /// Bytes of any kind.
    pub bytes: AtomicU64,
}

/// Starts a sink on a free port of the loopback interface. It lives as long as the process.
pub fn start() -> io::Result<(SocketAddr, Arc<Counts>)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let counts = Arc::new(Counts::default());
    let shared = counts.clone();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let counts = shared.clone();
            thread::spawn(move || {
                // A publisher that goes away ends its thread and nothing else.
                let _ = serve(stream, &counts);
            });
        }
    });
    Ok((address, counts))
}

fn serve(mut stream: TcpStream, counts: &Counts) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut header = [0; 8];
    stream.read_exact(&mut header)?;
    let start = connection::Start {
        version_major: 0,
        version_minor: 9,
        server_properties: Default::default(),
        mechanisms: "PLAIN".into(),
        locales: "en_US".into(),
    };
    send(&mut stream, 0, AMQPClass::Connection(connection::AMQPMethod::Start(start)))?;
    let mut window = vec![0; 1 << 20];
    let mut filled = 0;
    let mut confirmed = 0u64;
    loop {
        let count = stream.read(&mut window[filled..])?;
        if count == 0 {
            return Ok(());
        }
        filled += count;
        counts.bytes.fetch_add(count as u64, Ordering::Relaxed);
        let mut at = 0;
        let mut published = 0;
        // type u8 | channel u16 | size u32 | payload | 0xCE
        while let Some(head) = window[at..filled].get(..7) {
            let size = u32::from_be_bytes([head[3], head[4], head[5], head[6]]) as usize;
            let Some(frame) = window[at..filled].get(..size + 8) else { break };
            at += frame.len();
            match frame[0] {
                1 if frame[7..11] == [0, 60, 0, 40] => published += 1,
                1 => answer(&mut stream, frame)?,
                _ => {}
            }
        }
        window.copy_within(at..filled, 0);
        filled -= at;
        if filled == window.len() {
            return Err(io::Error::other("a frame larger than the window"));
        }
        if published > 0 {
            confirmed += published;
            counts.publishes.fetch_add(published, Ordering::Relaxed);
            let ack = basic::Ack { delivery_tag: confirmed, multiple: true };
            send(&mut stream, 1, AMQPClass::Basic(basic::AMQPMethod::Ack(ack)))?;
        }
    }
}

fn answer(stream: &mut TcpStream, frame: &[u8]) -> io::Result<()> {
    let Ok((_, AMQPFrame::Method(number, method))) = parse_frame(frame) else {
        return Err(io::Error::other("a method that cannot be read"));
    };
    let reply = match method {
        AMQPClass::Connection(connection::AMQPMethod::StartOk(_)) => {
            let tune = connection::Tune { channel_max: 16, frame_max: 131_072, heartbeat: 60 };
            AMQPClass::Connection(connection::AMQPMethod::Tune(tune))
        }
        AMQPClass::Connection(connection::AMQPMethod::Open(_)) => {
            AMQPClass::Connection(connection::AMQPMethod::OpenOk(connection::OpenOk {}))
        }
        AMQPClass::Connection(connection::AMQPMethod::Close(_)) => {
            AMQPClass::Connection(connection::AMQPMethod::CloseOk(connection::CloseOk {}))
        }
        AMQPClass::Channel(channel::AMQPMethod::Open(_)) => {
            AMQPClass::Channel(channel::AMQPMethod::OpenOk(channel::OpenOk {}))
        }
        AMQPClass::Exchange(exchange::AMQPMethod::Declare(_)) => {
            AMQPClass::Exchange(exchange::AMQPMethod::DeclareOk(exchange::DeclareOk {}))
        }
        AMQPClass::Queue(queue::AMQPMethod::Declare(declare)) => {
            let ok = queue::DeclareOk { queue: declare.queue, message_count: 0, consumer_count: 0 };
            AMQPClass::Queue(queue::AMQPMethod::DeclareOk(ok))
        }
        AMQPClass::Queue(queue::AMQPMethod::Bind(_)) => {
            AMQPClass::Queue(queue::AMQPMethod::BindOk(queue::BindOk {}))
        }
        AMQPClass::Basic(basic::AMQPMethod::Qos(_)) => {
            AMQPClass::Basic(basic::AMQPMethod::QosOk(basic::QosOk {}))
        }
        AMQPClass::Basic(basic::AMQPMethod::Consume(_)) => {
            AMQPClass::Basic(basic::AMQPMethod::ConsumeOk(basic::ConsumeOk { consumer_tag: "sink".into() }))
        }
        AMQPClass::Confirm(confirm::AMQPMethod::Select(_)) => {
            AMQPClass::Confirm(confirm::AMQPMethod::SelectOk(confirm::SelectOk {}))
        }
        _ => return Ok(()),
    };
    send(stream, number, reply)
}

fn send(stream: &mut TcpStream, channel: u16, method: AMQPClass) -> io::Result<()> {
    let frame = AMQPFrame::Method(channel, method);
    let bytes = gen_frame(&frame)(WriteContext::from(Vec::new()))
        .map_err(|error| io::Error::other(error.to_string()))?;
    stream.write_all(&bytes.into_inner().0)
}
