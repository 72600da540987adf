//! Reads, inflates, writes: what no gateway can do without. One thread, or several with their own shards; edge-triggered
//! epoll, gathered writes. What is measured next to a gateway is this as a process of its own.
//!
//! What is written, for whoever wants to know what came when: `shard u32 | size u32 | payload`, little-endian.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rateway::base::Buf;
use rateway::stream::transport::{Endpoint, Incoming, Options, Scratch, Transport};
use rateway::stream::{Compression, Limits, tls};

/// Runs until the stand-in or the drain ends; prints how many payloads there were ten times a second. `arguments`: the
/// stand-in's address, the drain's, how many shards, the compression, and how many threads (1).
pub fn run(arguments: &[String]) {
    let sim: SocketAddr = arguments[0].parse().expect("the stand-in's address");
    let shards: u32 = arguments[2].parse().expect("a number of shards");
    let compression: Compression = arguments[3].parse().expect("a compression");
    let threads: u32 = arguments.get(4).map_or(1, |threads| threads.parse().expect("a number of threads"));
    let count = AtomicU64::new(0);
    std::thread::scope(|scope| {
        let parts: Vec<_> = (0..threads)
            .map(|thread| {
                let part = shards * thread / threads..shards * (thread + 1) / threads;
                let out = TcpStream::connect(&arguments[1]).expect("the drain listens");
                let count = &count;
                scope.spawn(move || carry(sim, out, part, shards, compression, count))
            })
            .collect();
        while !parts.iter().any(|part| part.is_finished()) {
            std::thread::sleep(Duration::from_millis(100));
            println!("{}", count.load(Ordering::Relaxed));
        }
        // The others have nothing left to do without it.
        std::process::exit(0);
    });
}

fn carry(
    sim: SocketAddr,
    mut out: TcpStream,
    part: Range<u32>,
    shards: u32,
    compression: Compression,
    count: &AtomicU64,
) {
    let options = Options {
        tls: tls::client_config(None).expect("TLS options"),
        compression,
        limits: Limits::default(),
        user_agent: "floor".into(),
    };
    let query = compression.query_value().map(|value| format!("&compress={value}")).unwrap_or_default();
    let endpoint = Endpoint::parse(&format!("ws://{sim}/?v=10&encoding=json{query}")).expect("a URL");
    let mut poll = mio::Poll::new().expect("epoll");
    let mut events = mio::Events::with_capacity(1024);
    let mut connections: Vec<_> = part
        .enumerate()
        .map(|(at, shard)| {
            let socket = TcpStream::connect(sim).expect("the stand-in listens");
            socket.set_nonblocking(true).expect("a socket");
            let mut socket = mio::net::TcpStream::from_std(socket);
            poll.registry()
                .register(&mut socket, mio::Token(at), mio::Interest::READABLE)
                .expect("epoll takes it");
            let mut transport = Transport::new(&options, &endpoint).expect("a transport");
            let mut hello = Vec::new();
            transport.transmit(&mut hello);
            socket.write_all(&hello).expect("an empty socket takes it");
            (socket, transport, shard, false)
        })
        .collect();
    let mut window = Buf::with_capacity(64 * 1024);
    let mut scratch = Scratch::new();
    let mut batch = Vec::new();
    let mut ready: Vec<usize> = Vec::new();
    loop {
        // An edge comes once: a socket that filled a window is read again in the next turn.
        let timeout = if ready.is_empty() { Duration::from_millis(20) } else { Duration::ZERO };
        poll.poll(&mut events, Some(timeout)).expect("epoll");
        ready.extend(events.iter().map(|event| event.token().0));
        ready.sort_unstable();
        ready.dedup();
        let mut payloads = 0;
        for at in std::mem::take(&mut ready) {
            let (socket, transport, shard, identified) = &mut connections[at];
            let read = match socket.read(window.spare()) {
                Ok(0) => return,
                Ok(read) => read,
                Err(_) => continue,
            };
            if read == window.spare().len() {
                ready.push(at);
            }
            window.commit(read);
            while let Some(incoming) = transport.next(&mut window, &mut scratch).expect("a good stream") {
                match incoming {
                    Incoming::Payload(payload) => {
                        if !*identified && payload.windows(8).take(40).any(|part| part == b"\"op\":10,") {
                            *identified = true;
                            let identify = format!(
                                r#"{{"op":2,"d":{{"token":"t","intents":53608447,"large_threshold":250,"shard":[{shard},{shards}],"properties":{{"os":"linux","browser":"floor","device":"floor"}}}}}}"#
                            );
                            transport.send_text(identify.as_bytes()).expect("an open connection");
                        }
                        payloads += 1;
                        batch.extend_from_slice(&shard.to_le_bytes());
                        batch.extend_from_slice(&(payload.len() as u32).to_le_bytes());
                        batch.extend_from_slice(payload);
                    }
                    Incoming::Opened => {}
                    Incoming::Closed { code, .. } => panic!("closed with {code:?}"),
                }
            }
            if transport.wants_transmit() {
                let mut bytes = Vec::new();
                transport.transmit(&mut bytes);
                socket.write_all(&bytes).expect("an empty socket takes it");
            }
            if batch.len() > 256 * 1024 {
                out.write_all(&batch).expect("the drain reads");
                batch.clear();
            }
        }
        out.write_all(&batch).expect("the drain reads");
        batch.clear();
        count.fetch_add(payloads, Ordering::Relaxed);
    }
}
