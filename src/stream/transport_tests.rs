use super::super::deflate::Encoder;
use super::super::{ErrorKind, tls};
use super::*;
use crate::base::Rng;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection};
use std::io::{Read, Write};

/// A self-signed certificate for `localhost` as PEM, and a server's configuration with it.
fn certificate() -> (String, Arc<ServerConfig>) {
    let signed = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(signed.signing_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![signed.cert.der().clone()], key)
        .unwrap();
    (signed.cert.pem(), Arc::new(config))
}

fn options(compression: Compression, ca: Option<&str>) -> Options {
    Options {
        tls: tls::client_config(ca.map(str::as_bytes)).unwrap(),
        compression,
        limits: Limits { message_bytes_max: 1 << 20, inflated_bytes_max: 1 << 20 },
        user_agent: "DiscordBot (https://example.org, 1)".to_owned(),
    }
}

/// The other end: plain or TLS, the upgrade by hand, frames by hand.
struct Server {
    tls: Option<ServerConnection>,
    encoder: Encoder,
    heard: Vec<u8>,
    opened: bool,
    out: Vec<u8>,
}

impl Server {
    fn new(compression: Compression, tls: Option<Arc<ServerConfig>>) -> Server {
        let tls = tls.map(|config| ServerConnection::new(config).unwrap());
        let encoder = Encoder::new(compression, 3).unwrap();
        Server { tls, encoder, heard: vec![], opened: false, out: vec![] }
    }

    fn hear(&mut self, mut bytes: &[u8]) {
        match &mut self.tls {
            None => self.heard.extend_from_slice(bytes),
            Some(tls) => {
                while !bytes.is_empty() {
                    if tls.read_tls(&mut bytes).unwrap() == 0 {
                        break;
                    }
                    // An alert from the client ends the handshake here; the client's own error is what counts.
                    if tls.process_new_packets().is_err() {
                        return;
                    }
                    let _ = tls.reader().read_to_end(&mut self.heard);
                }
            }
        }
        if !self.opened && self.heard.ends_with(b"\r\n\r\n") {
            self.opened = true;
            let request = String::from_utf8(std::mem::take(&mut self.heard)).unwrap();
            let key = request.split("Sec-WebSocket-Key: ").nth(1).unwrap().split("\r\n").next().unwrap();
            let accept = tungstenite::handshake::derive_accept_key(key.as_bytes());
            self.say(
                format!(
                    "HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                     Sec-WebSocket-Accept: {accept}\r\n\r\n"
                )
                .as_bytes(),
            );
        }
    }

    fn say(&mut self, plaintext: &[u8]) {
        match &mut self.tls {
            None => self.out.extend_from_slice(plaintext),
            Some(tls) => {
                // In steps, since rustls takes only so much before it is read out.
                for part in plaintext.chunks(16 * 1024) {
                    tls.writer().write_all(part).unwrap();
                    while tls.wants_write() {
                        tls.write_tls(&mut self.out).unwrap();
                    }
                }
            }
        }
    }

    fn frame(&mut self, first: u8, payload: &[u8]) {
        let mut frame = vec![first, 127];
        frame.extend((payload.len() as u64).to_be_bytes());
        if payload.len() < 126 {
            frame = vec![first, payload.len() as u8];
        }
        frame.extend_from_slice(payload);
        self.say(&frame);
    }

    fn payload(&mut self, payload: &[u8]) {
        let mut message = vec![];
        self.encoder.encode(payload, &mut message).unwrap();
        self.frame(0x82, &message);
    }

    fn speak(&mut self) -> Vec<u8> {
        if let Some(tls) = &mut self.tls {
            while tls.wants_write() {
                tls.write_tls(&mut self.out).unwrap();
            }
        }
        std::mem::take(&mut self.out)
    }
}

#[derive(Debug, PartialEq)]
enum Seen {
    Opened,
    Payload(Vec<u8>),
    Closed(Option<u16>, String),
}

/// Gives `bytes` to the client in steps and collects what it reports.
fn feed(
    transport: &mut Transport,
    input: &mut Buf,
    scratch: &mut Scratch,
    bytes: &[u8],
    step: usize,
) -> Result<Vec<Seen>, Error> {
    let mut seen = vec![];
    for part in bytes.chunks(step) {
        input.extend(part);
        while let Some(incoming) = transport.next(input, scratch)? {
            seen.push(match incoming {
                Incoming::Opened => Seen::Opened,
                Incoming::Payload(payload) => Seen::Payload(payload.to_vec()),
                Incoming::Closed { code, reason } => Seen::Closed(code, reason),
            });
        }
        assert!(input.is_empty() && !transport.has_pending_input(), "nothing more means nothing left");
    }
    Ok(seen)
}

struct Pair {
    transport: Transport,
    server: Server,
    input: Buf,
    scratch: Scratch,
}

impl Pair {
    fn new(compression: Compression, tls: bool) -> Pair {
        let (pem, config) = certificate();
        let url = if tls { "wss://localhost/?v=10" } else { "ws://localhost/?v=10" };
        let transport =
            Transport::new(&options(compression, Some(&pem)), &Endpoint::parse(url).unwrap()).unwrap();
        let server = Server::new(compression, tls.then_some(config));
        Pair { transport, server, input: Buf::with_capacity(4096), scratch: Scratch::new() }
    }

    /// Moves bytes both ways until neither side has any.
    fn exchange(&mut self, step: usize) -> Result<Vec<Seen>, Error> {
        let mut seen = vec![];
        loop {
            let mut out = vec![];
            self.transport.transmit(&mut out);
            assert!(!self.transport.wants_transmit());
            self.server.hear(&out);
            let bytes = self.server.speak();
            if out.is_empty() && bytes.is_empty() {
                return Ok(seen);
            }
            seen.extend(feed(&mut self.transport, &mut self.input, &mut self.scratch, &bytes, step)?);
        }
    }
}

fn payloads() -> Vec<Vec<u8>> {
    let mut rng = Rng::new(5);
    let payload = |len: usize| (0..len).map(|_| rng.below(64) as u8 + 32).collect::<Vec<_>>();
    [2, 120, 700, 16 * 1024, 16 * 1024 + 1, 300_000, 5].map(payload).to_vec()
}

#[test]
fn payloads_arrive_over_every_link_and_compression_whatever_the_pieces() {
    for tls in [false, true] {
        for compression in [Compression::None, Compression::Zlib, Compression::Zstd] {
            for step in [1, 100, 5000, 1 << 20] {
                let mut pair = Pair::new(compression, tls);
                assert_eq!(pair.exchange(step).unwrap(), [Seen::Opened]);
                let expected = payloads();
                for payload in &expected {
                    pair.server.payload(payload);
                }
                pair.server.frame(0x89, b"ping");
                pair.server.frame(0x88, b"\x0f\xa0bye");
                let mut seen = pair.exchange(step).unwrap();
                assert_eq!(seen.pop(), Some(Seen::Closed(Some(4000), "bye".to_owned())));
                let expected: Vec<_> = expected.into_iter().map(Seen::Payload).collect();
                assert!(seen == expected, "tls {tls}, {compression}, step {step}");
                assert!(pair.transport.is_closed());
                assert!(pair.transport.peer_ended().is_ok());
            }
        }
    }
}

#[test]
fn text_reaches_the_server_masked_and_whole() {
    for tls in [false, true] {
        let mut pair = Pair::new(Compression::Zlib, tls);
        assert!(pair.transport.send_text(b"early").is_err());
        pair.exchange(1000).unwrap();
        pair.transport.send_text(b"{\"op\":1,\"d\":251}").unwrap();
        pair.transport.close(4900);
        pair.exchange(1000).unwrap();
        let heard = std::mem::take(&mut pair.server.heard);
        assert_eq!(heard[..2], [0x81, 0x80 | 16]);
        let unmask = |bytes: &[u8], mask: &[u8]| -> Vec<u8> {
            bytes.iter().zip(mask.iter().cycle()).map(|(b, m)| b ^ m).collect()
        };
        assert_eq!(unmask(&heard[6..22], &heard[2..6]), b"{\"op\":1,\"d\":251}");
        assert_eq!(heard[22..24], [0x88, 0x82]);
        assert_eq!(unmask(&heard[28..], &heard[24..28]), 4900u16.to_be_bytes());
        assert!(pair.transport.send_text(b"late").is_err());
    }
}

#[test]
fn the_end_of_the_socket_is_told_after_what_came_before() {
    for tls in [false, true] {
        let mut pair = Pair::new(Compression::None, tls);
        pair.exchange(1000).unwrap();
        pair.server.payload(b"last words");
        let seen = pair.exchange(1000).unwrap();
        assert_eq!(seen, [Seen::Payload(b"last words".to_vec())]);
        assert!(matches!(pair.transport.peer_ended(), Err(Error::Ended)));
        assert!(matches!(pair.transport.next(&mut pair.input, &mut pair.scratch), Err(Error::Failed)));
    }
    // The end of TLS without a close frame.
    let mut pair = Pair::new(Compression::None, true);
    pair.exchange(1000).unwrap();
    pair.server.payload(b"last words");
    pair.server.tls.as_mut().unwrap().send_close_notify();
    let bytes = pair.server.speak();
    pair.input.extend(&bytes);
    assert!(matches!(
        pair.transport.next(&mut pair.input, &mut pair.scratch),
        Ok(Some(Incoming::Payload(_)))
    ));
    assert!(matches!(pair.transport.next(&mut pair.input, &mut pair.scratch), Err(Error::Ended)));
}

#[test]
fn a_certificate_that_nobody_vouches_for_is_refused_with_an_alert() {
    let (_, config) = certificate();
    let (other, _) = certificate();
    for (ca, url) in [(None, "wss://localhost"), (Some(other.as_str()), "wss://localhost")] {
        let endpoint = Endpoint::parse(url).unwrap();
        let transport = Transport::new(&options(Compression::None, ca), &endpoint).unwrap();
        let server = Server::new(Compression::None, Some(config.clone()));
        let mut pair = Pair { transport, server, input: Buf::default(), scratch: Scratch::new() };
        let error = pair.exchange(1000).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Tls);
        assert!(error.to_string().contains("certificate"), "{error}");
        assert!(pair.transport.wants_transmit(), "the alert");
    }
    // The right root, the wrong name.
    let (pem, config) = certificate();
    let endpoint = Endpoint::parse("wss://example.org").unwrap();
    let transport = Transport::new(&options(Compression::None, Some(&pem)), &endpoint).unwrap();
    let server = Server::new(Compression::None, Some(config));
    let mut pair = Pair { transport, server, input: Buf::default(), scratch: Scratch::new() };
    assert_eq!(pair.exchange(1000).unwrap_err().kind(), ErrorKind::Tls);
}

#[test]
fn roots_that_are_none_are_refused() {
    for pem in ["", "no pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        let error = tls::client_config(Some(pem.as_bytes())).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Misuse, "{pem}");
    }
}

#[test]
fn garbage_from_the_peer_is_an_error_and_no_panic() {
    let mut rng = Rng::new(77);
    for round in 0..300 {
        for tls in [false, true] {
            let mut pair = Pair::new(Compression::Zlib, tls && round < 20);
            if round % 2 == 0 {
                pair.exchange(1000).unwrap();
            }
            let mut garbage: Vec<u8> = (0..rng.below(3000)).map(|_| rng.below(256) as u8).collect();
            garbage.extend([0x82, 5, 1, 0, 0, 0xff, 0xff]);
            let step = 1 + rng.below(500) as usize;
            let _ = feed(&mut pair.transport, &mut pair.input, &mut pair.scratch, &garbage, step);
        }
    }
}

#[test]
fn bombs_and_bad_streams_end_the_connection_by_their_kind() {
    let mut pair = Pair::new(Compression::Zlib, false);
    pair.exchange(1000).unwrap();
    pair.server.payload(&vec![b' '; 2 << 20]);
    assert_eq!(pair.exchange(1000).unwrap_err().kind(), ErrorKind::Limit);
    let mut pair = Pair::new(Compression::Zstd, false);
    pair.exchange(1000).unwrap();
    pair.server.frame(0x82, b"not zstd at all");
    assert_eq!(pair.exchange(1000).unwrap_err().kind(), ErrorKind::Decode);
}

#[test]
fn endpoints_parse() {
    let endpoint =
        |url: &str| Endpoint::parse(url).map(|e| (e.tls, e.host.clone(), e.port, e.path_and_query));
    let ok = |tls, host: &str, port, path: &str| Ok((tls, host.to_owned(), port, path.to_owned()));
    assert_eq!(endpoint("wss://gateway.discord.gg"), ok(true, "gateway.discord.gg", 443, "/"));
    assert_eq!(endpoint("wss://gateway.discord.gg/?v=10"), ok(true, "gateway.discord.gg", 443, "/?v=10"));
    assert_eq!(endpoint("WS://a:8080?v=10"), ok(false, "a", 8080, "/?v=10"));
    assert_eq!(endpoint("ws://[::1]:9/x"), ok(false, "::1", 9, "/x"));
    assert_eq!(endpoint("ws://127.0.0.1"), ok(false, "127.0.0.1", 80, "/"));
    let cases = [
        ("https://a", EndpointError::Scheme),
        ("gateway.discord.gg", EndpointError::Scheme),
        ("wss://u:p@a", EndpointError::UserInfo),
        ("wss://", EndpointError::Host),
        ("wss:///x", EndpointError::Host),
        ("wss://a b", EndpointError::Host),
        ("wss://a\r\nx: y", EndpointError::Host),
        ("wss://[::1", EndpointError::Host),
        ("wss://[::1]x", EndpointError::Host),
        ("wss://[zz]", EndpointError::Host),
        ("wss://a:0", EndpointError::Port),
        ("wss://a:65536", EndpointError::Port),
        ("wss://a:+1", EndpointError::Port),
        ("wss://a:", EndpointError::Port),
        ("wss://a/x y", EndpointError::Path),
        ("wss://a/\r\nx: y", EndpointError::Path),
        ("wss://a/#b", EndpointError::Path),
    ];
    for (url, error) in cases {
        assert_eq!(Endpoint::parse(url), Err(error), "{url:?}");
    }
    for url in ["wss://a/?v=10", "ws://a:81/", "wss://[::1]:8443/x"] {
        assert_eq!(Endpoint::parse(url).unwrap().to_string(), url);
    }
}
