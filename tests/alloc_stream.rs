//! Counts allocations on the way from a socket's bytes to an envelope: none per event once a connection is warm.
//! Plain WebSocket only: with TLS, rustls allocates one vector per record.

use rateway::base::Buf;
use rateway::gateway::envelope;
use rateway::stream::deflate::Encoder;
use rateway::stream::inflate::Limits;
use rateway::stream::{Compression, Endpoint, Incoming, Options, Scratch, Transport, tls};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

struct Counting;

thread_local! {
    // Per thread, so that the test harness and other tests do not disturb the count.
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
    static BYTES: Cell<i64> = const { Cell::new(0) };
}

fn count(bytes: i64) {
    let _ = BYTES.try_with(|cell| cell.set(cell.get() + bytes));
    if bytes > 0 {
        let _ = ALLOCATIONS.try_with(|cell| cell.set(cell.get() + 1));
    }
}

// SAFETY: every call is handed to the system's allocator unchanged; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as i64);
        // SAFETY: the caller's promise is the same.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as i64));
        // SAFETY: the caller's promise is the same.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn options(compression: Compression) -> Options {
    Options {
        tls: tls::client_config(None).expect("roots"),
        compression,
        limits: Limits::default(),
        user_agent: "DiscordBot (https://example.org, 1)".to_owned(),
    }
}

fn frame(payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x82, 126];
    frame.extend((payload.len() as u16).to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// An opened plain connection.
fn open(compression: Compression) -> (Transport, Buf, Scratch) {
    let endpoint = Endpoint::parse("ws://localhost/?v=10").expect("a URL");
    let mut transport = Transport::new(&options(compression), &endpoint).expect("a transport");
    let mut request = vec![];
    transport.transmit(&mut request);
    let request = String::from_utf8(request).expect("text");
    let key = request.split("Key: ").nth(1).and_then(|rest| rest.split("\r\n").next()).expect("a key");
    let accept = tungstenite::handshake::derive_accept_key(key.as_bytes());
    let mut input = Buf::with_capacity(64 * 1024);
    input.extend(b"HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ");
    input.extend(accept.as_bytes());
    input.extend(b"\r\n\r\n");
    let mut scratch = Scratch::new();
    assert_eq!(transport.next(&mut input, &mut scratch).expect("good"), Some(Incoming::Opened));
    (transport, input, scratch)
}

#[test]
fn a_warm_connection_allocates_nothing_per_event() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus");
    let event = std::fs::read(format!("{root}/MESSAGE_CREATE.json")).expect("the corpus");
    for compression in [Compression::None, Compression::Zlib, Compression::Zstd] {
        let mut encoder = Encoder::new(compression, 6).expect("memory");
        let mut wire = vec![];
        for _ in 0..2000 {
            let mut message = vec![];
            encoder.encode(&event, &mut message).expect("memory");
            wire.extend(frame(&message));
        }
        let (mut transport, mut input, mut scratch) = open(compression);
        let mut out = Vec::with_capacity(1024);
        let mut events = 0;
        let mut before = 0;
        // Pieces that do not fall together with frames, as a socket gives them.
        for (round, piece) in wire.chunks(1999).enumerate() {
            if round == 4 {
                before = ALLOCATIONS.get();
            }
            input.extend(piece);
            while let Some(incoming) = transport.next(&mut input, &mut scratch).expect("good") {
                let Incoming::Payload(payload) = incoming else { panic!("only payloads come") };
                let envelope = envelope::scan(payload).expect("an envelope");
                assert!(envelope.seq.is_some() && envelope.d(payload).len() > 100);
                events += 1;
            }
            transport.transmit(&mut out);
        }
        assert_eq!(events, 2000);
        assert_eq!(ALLOCATIONS.get() - before, 0, "{compression}");
    }
}

#[test]
fn an_idle_connection_is_small() {
    // What C allocates is not seen here: zlib-ng holds about 48 KiB, zstd its window and more once a frame began.
    for compression in [Compression::None, Compression::Zlib, Compression::Zstd] {
        let options = options(compression);
        let endpoint = Endpoint::parse("ws://localhost/?v=10").expect("a URL");
        let before = BYTES.get();
        let transport = Transport::new(&options, &endpoint).expect("a transport");
        let bytes = BYTES.get() - before + size_of_val(&transport) as i64;
        println!("{compression}: {bytes} bytes");
        assert!(bytes < 4096, "{compression}: {bytes}");
    }
    let endpoint = Endpoint::parse("wss://localhost/?v=10").expect("a URL");
    let options = options(Compression::Zlib);
    let before = BYTES.get();
    let transport = Transport::new(&options, &endpoint).expect("a transport");
    println!("before the TLS handshake: {} bytes", BYTES.get() - before + size_of_val(&transport) as i64);
}
