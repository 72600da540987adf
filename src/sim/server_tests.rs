//! The server over real loopback sockets, with tungstenite as the client.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::{Value, json};
use tungstenite::{Message, WebSocket};
use zstd_safe::{DCtx, InBuffer, OutBuffer};

use super::recording::Compression;
use super::*;
use crate::base::deflate::Inflate;

trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

enum Decoder {
    None,
    Zlib(Inflate, Vec<u8>),
    Zstd(DCtx<'static>),
}

struct Client {
    socket: WebSocket<Box<dyn Stream>>,
    decoder: Decoder,
    messages: u64,
}

fn connect_over(stream: Box<dyn Stream>, compression: Compression) -> Client {
    let (query, decoder) = match compression {
        Compression::None => ("", Decoder::None),
        Compression::Zlib => ("&compress=zlib-stream", Decoder::Zlib(Inflate::new(), Vec::new())),
        Compression::Zstd => ("&compress=zstd-stream", Decoder::Zstd(DCtx::create())),
    };
    let url = format!("ws://localhost/?v=10&encoding=json{query}");
    let (socket, _) = tungstenite::client(url, stream).unwrap_or_else(|_| panic!("handshake"));
    Client { socket, decoder, messages: 0 }
}

fn connect(server: &Server, compression: Compression) -> Client {
    let stream = TcpStream::connect(server.addr()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    connect_over(Box::new(stream), compression)
}

impl Client {
    /// The next payload, or the close code.
    fn next(&mut self) -> Result<Value, Option<u16>> {
        loop {
            let message = match self.socket.read() {
                Ok(message) => message,
                Err(e) => panic!("{e}"),
            };
            self.messages += 1;
            let bytes = match message {
                Message::Text(text) => text.as_bytes().to_vec(),
                Message::Binary(bytes) => bytes.to_vec(),
                Message::Close(frame) => return Err(frame.map(|f| f.code.into())),
                _ => continue,
            };
            let text = match &mut self.decoder {
                Decoder::None => bytes,
                Decoder::Zlib(inflate, buffer) => {
                    buffer.extend_from_slice(&bytes);
                    if !buffer.ends_with(&[0, 0, 0xff, 0xff]) {
                        continue;
                    }
                    inflate.inflate(&std::mem::take(buffer)).unwrap()
                }
                Decoder::Zstd(context) => {
                    let (mut input, mut text) = (InBuffer::around(&bytes), Vec::new());
                    let mut chunk = vec![0; 1 << 16];
                    loop {
                        let mut output = OutBuffer::around(chunk.as_mut_slice());
                        context.decompress_stream(&mut output, &mut input).unwrap();
                        let count = output.pos();
                        text.extend_from_slice(&chunk[..count]);
                        if count < chunk.len() && input.pos() == bytes.len() {
                            break text;
                        }
                    }
                }
            };
            return Ok(serde_json::from_slice(&text)
                .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&text))));
        }
    }

    fn send(&mut self, payload: Value) {
        self.socket.send(Message::text(payload.to_string())).unwrap();
    }

    fn identify(&mut self, shard: u32, count: u32) -> Value {
        assert_eq!(self.next().unwrap()["op"], 10);
        self.send(
            json!({"op":2,"d":{"token":"t","intents":INTENTS_ALL,"properties":{},"shard":[shard,count]}}),
        );
        let ready = self.next().unwrap();
        assert_eq!(ready["t"], "READY");
        ready
    }
}

fn server(discord: Options) -> Server {
    let discord = Options { gateway_url: String::new(), ..discord };
    Server::start(ServerOptions { discord, threads: 2, ..ServerOptions::default() }).unwrap()
}

fn http(server: &Server, request: &str) -> (u16, Value) {
    let mut stream = TcpStream::connect(server.addr()).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut text = String::new();
    let mut byte = [0; 4096];
    loop {
        let count = stream.read(&mut byte).unwrap();
        text.push_str(std::str::from_utf8(&byte[..count]).unwrap());
        if let Some((head, body)) = text.split_once("\r\n\r\n")
            && let Ok(value) = serde_json::from_str(body)
        {
            return (head.split(' ').nth(1).unwrap().parse().unwrap(), value);
        }
        assert!(count > 0, "{text}");
    }
}

#[test]
fn sessions_over_sockets_with_each_compression() {
    let server =
        server(Options { guilds: 20, rate: 2000.0, identify_spacing: Duration::ZERO, ..Options::default() });
    server.set_split(true);
    for compression in [Compression::None, Compression::Zlib, Compression::Zstd] {
        let mut client = connect(&server, compression);
        let ready = client.identify(0, 1);
        client.send(json!({"op":1,"d":1}));
        let (mut seq, mut acked) = (1, false);
        while seq < 300 || !acked {
            let payload = client.next().unwrap();
            if payload["op"] == 11 {
                acked = true;
                continue;
            }
            seq += 1;
            assert_eq!(payload["s"], seq, "{compression:?}");
        }
        if compression == Compression::Zlib {
            assert!(client.messages > 600, "zlib messages are split: {} for 300", client.messages);
        }
        assert!(server.inject(Fault::Close { shard: 0, code: 4000 }));
        let code = loop {
            if let Err(code) = client.next() {
                break code;
            }
        };
        assert_eq!(code, Some(4000));
        let mut client = connect(&server, compression);
        assert_eq!(client.next().unwrap()["op"], 10);
        let session_id = ready["d"]["session_id"].clone();
        client.send(json!({"op":6,"d":{"token":"t","session_id":session_id,"seq":seq - 50}}));
        for n in seq - 49..seq + 10 {
            assert_eq!(client.next().unwrap()["s"], n, "{compression:?}");
        }
        client.socket.close(None).unwrap();
    }
    assert_eq!(server.ledger().resumes, 3);
    server.stop();
}

#[test]
fn recorded_dispatches_arrive_in_order_and_can_be_resumed() {
    for compression in [Compression::None, Compression::Zlib, Compression::Zstd] {
        let server = server(Options {
            guilds: 8,
            recorded: true,
            replay_buffer: usize::MAX / 2,
            identify_spacing: Duration::ZERO,
            ..Options::default()
        });
        let mut client = connect(&server, compression);
        let ready = client.identify(1, 2);
        let mut bodies = Vec::new();
        let mut seq = 1;
        let mut acks = 0;
        while seq < 10_000 || acks == 0 {
            if seq % 1000 == 0 {
                client.send(json!({"op":1,"d":seq}));
            }
            let payload = client.next().unwrap();
            if payload["op"] == 11 {
                acks += 1;
                continue;
            }
            seq += 1;
            assert_eq!(payload["s"], seq);
            if let Some(guild) = payload["d"]["guild_id"].as_str() {
                assert_eq!((guild.parse::<u64>().unwrap() >> 22) % 2, 1, "guilds of the shard alone");
            }
            bodies.push(payload["d"].clone());
        }
        drop(client);
        let mut client = connect(&server, compression);
        assert_eq!(client.next().unwrap()["op"], 10);
        client.send(json!({"op":6,"d":{"token":"t","session_id":ready["d"]["session_id"],"seq":5000}}));
        for n in 5001..=10_000u64 {
            let payload = client.next().unwrap();
            assert_eq!(
                (&payload["s"], &payload["d"]),
                (&json!(n), &bodies[n as usize - 2]),
                "{compression:?}"
            );
        }
        server.stop();
    }
}

#[test]
fn recordings_at_a_rate() {
    let server = server(Options { recorded: true, rate: 500.0, ..Options::default() });
    let mut client = connect(&server, Compression::Zlib);
    client.identify(0, 1);
    for n in 2..200u64 {
        assert_eq!(client.next().unwrap()["s"], n);
    }
}

#[test]
fn the_times_of_sends_are_written_down() {
    let path = std::env::temp_dir().join(format!("rateway-sends-{}", std::process::id()));
    let discord = Options {
        recorded: true,
        rate: 20_000.0,
        gateway_url: String::new(),
        identify_spacing: Duration::ZERO,
        ..Options::default()
    };
    let options =
        ServerOptions { discord, threads: 2, sends: Some(path.clone()), ..ServerOptions::default() };
    let server = Server::start(options).unwrap();
    let mut clients = [connect(&server, Compression::Zlib), connect(&server, Compression::Zlib)];
    let mut last = [0; 2];
    for (shard, client) in clients.iter_mut().enumerate() {
        client.identify(shard as u32, 2);
    }
    for (client, last) in clients.iter_mut().zip(&mut last) {
        while *last < 2000 {
            *last = client.next().unwrap()["s"].as_u64().unwrap();
        }
    }
    server.stop();
    let bytes = std::fs::read(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    assert_eq!(bytes.len() % 24, 0);
    // The next `s` of each shard.
    let mut next = [None; 2];
    for record in bytes.chunks(24) {
        let number =
            |from, to| record[from..to].iter().rev().fold(0, |sum, &byte| sum << 8 | u64::from(byte));
        let (shard, count, first, at) = (number(0, 4), number(4, 8), number(8, 16), number(16, 24));
        let expected = &mut next[shard as usize];
        assert_eq!(first, expected.unwrap_or(first), "runs follow each other");
        assert!(count > 0 && at > 0, "{count} at {at}");
        *expected = Some(first + count);
    }
    for (shard, last) in last.into_iter().enumerate() {
        assert!(
            next[shard].is_some_and(|next| next > last),
            "shard {shard}: {last} was sent, {next:?} is known"
        );
    }
}

#[test]
fn rest_and_admin_routes() {
    let server = server(Options { shards: 3, ..Options::default() });
    let (status, body) = http(&server, "GET /api/v10/gateway/bot HTTP/1.1\r\nAuthorization: Bot x\r\n\r\n");
    assert_eq!((status, &body["shards"]), (200, &json!(3)));
    assert_eq!(body["url"], json!(format!("ws://{}", server.addr())));
    assert_eq!(http(&server, "GET /api/v10/gateway/bot HTTP/1.1\r\n\r\n").0, 401);
    let mut client = connect(&server, Compression::None);
    client.identify(0, 1);
    let (_, body) = http(&server, "POST /_sim/fault?fault=heartbeat&shard=0 HTTP/1.1\r\n\r\n");
    assert_eq!(body["hit"], 1);
    while client.next().unwrap()["op"] != 1 {}
    let (_, body) =
        http(&server, "POST /_sim/emit?shard=0&event=HI HTTP/1.1\r\ncontent-length: 7\r\n\r\n{\"a\":1}");
    let payload = client.next().unwrap();
    assert_eq!((&payload["t"], &payload["s"], &payload["d"]), (&json!("HI"), &body["seq"], &json!({"a":1})));
    client.send(json!({"op":1,"d":1}));
    assert_eq!(client.next().unwrap()["op"], 11);
    let (_, stats) = http(&server, "GET /_sim/stats HTTP/1.1\r\n\r\n");
    assert_eq!((&stats["readies"], &stats["commands"]["1"]), (&json!(1), &json!(1)));
    let (_, commands) = http(&server, "GET /_sim/commands HTTP/1.1\r\n\r\n");
    assert_eq!(commands[0]["op"], 2);
    assert!(!commands.to_string().contains("token"));
    assert_eq!(http(&server, "POST /_sim/fault?fault=nonsense HTTP/1.1\r\n\r\n").0, 400);
    client.socket.close(None).unwrap();
    while server.ledger().client_closes.is_empty() {
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn tls() {
    let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (cert, key) = (certified.cert.pem().into_bytes(), certified.signing_key.serialize_pem().into_bytes());
    let server = Server::start(ServerOptions { tls: Some((cert, key)), ..ServerOptions::default() }).unwrap();
    assert!(server.api_url().starts_with("https://"));
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certified.cert.der().clone()).unwrap();
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let tls =
        rustls::ClientConnection::new(std::sync::Arc::new(config), "localhost".try_into().unwrap()).unwrap();
    let stream = rustls::StreamOwned::new(tls, TcpStream::connect(server.addr()).unwrap());
    let mut client = connect_over(Box::new(stream), Compression::Zlib);
    client.identify(0, 1);
    server.inject(Fault::Op7 { shard: 0 });
    while client.next().unwrap()["op"] != 7 {}
}

/// CPU time of the server's thread per event while readers take all they get. Prints; asserts nothing.
#[test]
#[ignore = "a measurement: cargo test --release --lib sim::server_tests::load -- --ignored --nocapture"]
fn load() {
    let cpu_ticks = || {
        let tasks = std::fs::read_dir("/proc/self/task").unwrap().map(|t| t.unwrap().path());
        let stats = tasks.filter_map(|t| std::fs::read_to_string(t.join("stat")).ok());
        let of_sim = stats.filter(|s| s.contains("(sim-"));
        let ticks = of_sim.map(|s| {
            s.rsplit_once(") ")
                .unwrap()
                .1
                .split(' ')
                .skip(11)
                .take(2)
                .map(|t| t.parse::<u64>().unwrap())
                .sum::<u64>()
        });
        ticks.sum::<u64>()
    };
    for compression in [Compression::None, Compression::Zlib, Compression::Zstd] {
        let discord = Options {
            recorded: true,
            guilds: 100,
            members: 200,
            max_concurrency: 64,
            ledger_dispatches_max: 0,
            gateway_url: String::new(),
            ..Options::default()
        };
        let server = Server::start(ServerOptions { discord, ..ServerOptions::default() }).unwrap();
        let query = ["", "&compress=zlib-stream", "&compress=zstd-stream"][compression as usize];
        let readers: Vec<_> = (0..4)
            .map(|shard| {
                let stream = TcpStream::connect(server.addr()).unwrap();
                let mut raw = stream.try_clone().unwrap();
                let url = format!("ws://localhost/?v=10&encoding=json{query}");
                let (mut socket, _) = tungstenite::client(url, stream).unwrap();
                let identify =
                    json!({"op":2,"d":{"token":"t","intents":INTENTS_ALL,"properties":{},"shard":[shard,4]}});
                socket.send(Message::text(identify.to_string())).unwrap();
                std::thread::spawn(move || {
                    let mut buffer = vec![0; 1 << 18];
                    while raw.read(&mut buffer).is_ok_and(|count| count > 0) {}
                })
            })
            .collect();
        std::thread::sleep(Duration::from_secs(2));
        let (ticks, (frames, bytes)) = (cpu_ticks(), server.sent());
        std::thread::sleep(Duration::from_secs(4));
        let (ticks, after) = (cpu_ticks() - ticks, server.sent());
        let frames = after.0 - frames;
        println!(
            "{compression:?}: {} events/s, {} bytes each, {:.3} us of CPU each",
            frames / 4,
            (after.1 - bytes) / frames.max(1),
            ticks as f64 * 10_000.0 / frames as f64
        );
        server.stop();
        readers.into_iter().for_each(|r| r.join().unwrap());
    }
}
