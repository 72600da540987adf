//! A peer that says anything: upgrade, WebSocket frames, compressed messages. The first byte chooses the compression
//! and whether the upgrade was good, the second how the bytes are cut.

use rateway::base::Buf;
use rateway::stream::{Compression, Endpoint, Incoming, Limits, Options, Scratch, Transport, tls};
use std::sync::{Arc, OnceLock};

const INFLATED_BYTES_MAX: usize = 1 << 20;

fn options(compression: Compression) -> Options {
    // Made once: parsing the bundled roots takes longer than a run.
    static TLS: OnceLock<Arc<rustls::ClientConfig>> = OnceLock::new();
    Options {
        tls: TLS.get_or_init(|| tls::client_config(None).expect("bundled roots")).clone(),
        compression,
        limits: Limits { message_bytes_max: 1 << 20, inflated_bytes_max: INFLATED_BYTES_MAX },
        user_agent: "fuzz".into(),
    }
}

/// One run.
pub fn run(bytes: &[u8]) {
    let [first, second, rest @ ..] = bytes else { return };
    let compression = [Compression::None, Compression::Zlib, Compression::Zstd][usize::from(first % 3)];
    let endpoint = Endpoint::parse("ws://localhost/").expect("a URL");
    let mut transport = Transport::new(&options(compression), &endpoint).expect("a transport");
    let mut out = Vec::new();
    transport.transmit(&mut out);
    let (mut input, mut scratch) = (Buf::with_capacity(4096), Scratch::new());
    if first & 0x80 == 0 {
        let request = String::from_utf8(out.clone()).expect("an HTTP request");
        let key = request.split("Key: ").nth(1).and_then(|rest| rest.split("\r\n").next()).expect("a key");
        let accept = tungstenite::handshake::derive_accept_key(key.as_bytes());
        input.extend(format!("HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n").as_bytes());
    }
    for piece in rest.chunks(usize::from(*second).max(1)) {
        input.extend(piece);
        loop {
            match transport.next(&mut input, &mut scratch) {
                Ok(Some(Incoming::Payload(payload))) => assert!(payload.len() <= INFLATED_BYTES_MAX),
                Ok(Some(Incoming::Closed { .. })) => {}
                Ok(Some(Incoming::Opened)) => {
                    let _ = transport.send_text(b"{}");
                }
                Ok(None) => break,
                Err(_) => {
                    transport.transmit(&mut out);
                    return;
                }
            }
        }
        transport.transmit(&mut out);
        assert!(input.len() < 1 << 20, "input is not used up");
        out.clear();
    }
}
