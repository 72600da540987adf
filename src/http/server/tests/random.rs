//! Any stream of requests, cut anywhere, is the requests that were written; and what is damaged is damaged alike.

use super::*;
use crate::base::{Rng, Secret};

/// As the defaults, but one piece may hold a whole stream.
const LIMITS: Limits =
    Limits { head_bytes_max: 8192, headers_max: 64, body_bytes_max: 65_536, pipelined_bytes_max: 1 << 20 };

fn each_seed(test: impl Fn(&mut Rng)) {
    let replayed = std::env::var("RATEWAY_SEED").ok().and_then(|seed| seed.parse().ok());
    let seeds = replayed.map_or(0..400, |seed: u64| seed..seed + 1);
    for seed in seeds {
        println!("RATEWAY_SEED={seed}");
        test(&mut Rng::new(seed));
    }
}

fn pick<'a>(rng: &mut Rng, from: &[&'a str]) -> &'a str {
    from[rng.below(from.len() as u64) as usize]
}

fn text(rng: &mut Rng, letters: &[u8], most: u64) -> String {
    let length = rng.below(most + 1);
    (0..length).map(|_| char::from(letters[rng.below(letters.len() as u64) as usize])).collect()
}

/// A request in one of the ways in which it may be written.
fn write(rng: &mut Rng, keep_alive: bool, out: &mut Vec<u8>) -> Request {
    const TOKEN: &[u8] = b"abcXYZ019!#$%&'*+-.^_`|~";
    const VALUE: &[u8] = b"abc XYZ\t019:;,=\"/()";
    for _ in 0..rng.below(3) {
        out.extend_from_slice(pick(rng, &["\r\n", "\n"]).as_bytes());
    }
    let (version, number) = if rng.chance(1, 3) { (Version::Http10, "0") } else { (Version::Http11, "1") };
    let mut request = Request {
        method: pick(rng, &["GET", "POST", "HEAD", "OPTIONS", "CONNECT", "x-!"]).to_owned(),
        target: pick(rng, &["/", "/x?shard=5", "http://host/x?y", "http://host", "*", "host:80"]).to_owned(),
        version,
        keep_alive,
        host: rng.chance(1, 2).then(|| "host:80".to_owned()),
        content_type: rng.chance(1, 2).then(|| "a".to_owned() + text(rng, VALUE, 40).trim()),
        authorization: rng.chance(1, 2).then(|| Secret::new("b".to_owned() + text(rng, VALUE, 40).trim())),
        body: Vec::new(),
    };
    let mut fields = Vec::new();
    for _ in 0..rng.below(6) {
        fields.push((format!("x{}", text(rng, TOKEN, 12)), text(rng, VALUE, 60)));
    }
    if let Some(value) = &request.host {
        fields.push(("Host".to_owned(), value.clone()));
    }
    if let Some(value) = &request.content_type {
        fields.push(("Content-Type".to_owned(), value.clone()));
    }
    if let Some(value) = &request.authorization {
        fields.push(("authorization".to_owned(), value.expose().to_owned()));
    }
    match (version, keep_alive) {
        (Version::Http10, true) => fields.push(("connection".to_owned(), "Keep-Alive".to_owned())),
        (Version::Http11, false) => fields.push(("Connection".to_owned(), "x, close".to_owned())),
        _ if rng.chance(1, 4) => fields.push(("Connection".to_owned(), "upgrade".to_owned())),
        _ => {}
    }
    let mut body = Vec::new();
    if rng.chance(1, 2) {
        let length = [1, 5, 300, 5000][rng.below(4) as usize];
        request.body = (0..rng.below(length) + 1).map(|_| rng.next_u64() as u8).collect();
    }
    if version == Version::Http11 && rng.chance(1, 2) {
        fields.push(("Transfer-Encoding".to_owned(), "chunked".to_owned()));
        body = chunks(rng, &request.body);
    } else if !request.body.is_empty() || rng.chance(1, 2) {
        for _ in 0..rng.below(2) + 1 {
            fields.push(("Content-Length".to_owned(), request.body.len().to_string()));
        }
        body = request.body.clone();
    }
    out.extend_from_slice(format!("{} {} HTTP/1.{number}", request.method, request.target).as_bytes());
    while !fields.is_empty() {
        let (name, value) = fields.swap_remove(rng.below(fields.len() as u64) as usize);
        let (before, after) = (pick(rng, &["", " ", "\t "]), pick(rng, &["", " "]));
        out.extend_from_slice(pick(rng, &["\r\n", "\r\n", "\n"]).as_bytes());
        out.extend_from_slice(format!("{name}:{before}{value}{after}").as_bytes());
    }
    out.extend_from_slice(pick(rng, &["\r\n\r\n", "\r\n\r\n", "\n\n", "\n\r\n"]).as_bytes());
    out.extend_from_slice(&body);
    request
}

fn chunks(rng: &mut Rng, mut body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    while !body.is_empty() {
        let (chunk, rest) = body.split_at((rng.below(700) as usize + 1).min(body.len()));
        let size = format!("{:x}", chunk.len());
        let extension = pick(rng, &["", "", ";x", " ;x=\"y\""]);
        out.extend_from_slice(format!("{size}{extension}\r\n").as_bytes());
        out.extend_from_slice(chunk);
        out.extend_from_slice(b"\r\n");
        body = rest;
    }
    out.extend_from_slice(pick(rng, &["0\r\n", "000;x\r\n"]).as_bytes());
    out.extend_from_slice(pick(rng, &["\r\n", "Authorization: x\r\nb:\r\n\r\n"]).as_bytes());
    out
}

/// Several requests, and their bytes. Now and then the last one is the client's last.
fn stream(rng: &mut Rng) -> (Vec<Request>, Vec<u8>) {
    let mut bytes = Vec::new();
    let count = rng.below(6) + 1;
    let mut requests = Vec::new();
    for at in 1..=count {
        let keep_alive = at < count || rng.chance(1, 2);
        requests.push(write(rng, keep_alive, &mut bytes));
    }
    (requests, bytes)
}

/// As [`read_with`], but cut at random, and answered sooner or later.
fn read_cut(rng: &mut Rng, mut bytes: &[u8]) -> (Vec<Request>, Option<Error>) {
    let mut connection = Connection::new(LIMITS);
    let (most, slow) = ([1, 3, 40, 3000][rng.below(4) as usize], rng.below(4));
    let mut requests = Vec::new();
    while !bytes.is_empty() {
        let (piece, rest) = bytes.split_at((rng.below(most) as usize + 1).min(bytes.len()));
        // The error comes again from `poll_request`.
        let _ = connection.receive(piece);
        bytes = rest;
        if !rng.chance(slow, 4) {
            drain(&mut connection, &mut requests);
        }
    }
    let error = drain(&mut connection, &mut requests);
    (requests, error)
}

#[test]
fn a_stream_cut_anywhere_is_the_same_requests() {
    each_seed(|rng| {
        let (requests, bytes) = stream(rng);
        assert_eq!(read_with(&bytes, LIMITS), (requests.clone(), None));
        for _ in 0..4 {
            assert_eq!(read_cut(rng, &bytes), (requests.clone(), None));
        }
    });
}

#[test]
fn a_damaged_stream_cut_anywhere_is_damaged_alike() {
    each_seed(|rng| {
        let (_, mut bytes) = stream(rng);
        for _ in 0..rng.below(4) + 1 {
            let at = rng.below(bytes.len() as u64) as usize;
            match rng.below(3) {
                0 => bytes[at] = rng.next_u64() as u8,
                1 => bytes[at] = b"\r\n:; 0,"[rng.below(7) as usize],
                _ => drop(bytes.remove(at)),
            }
            if bytes.is_empty() {
                return;
            }
        }
        let whole = read_with(&bytes, LIMITS);
        for _ in 0..4 {
            assert_eq!(read_cut(rng, &bytes), whole);
        }
    });
}

#[test]
fn heads_are_what_httparse_reads_in_the_whole() {
    each_seed(|rng| {
        let (requests, bytes) = stream(rng);
        let mut fields = [httparse::EMPTY_HEADER; 64];
        let mut parsed = httparse::Request::new(&mut fields);
        assert!(parsed.parse(&bytes).expect("it is valid").is_complete());
        let value = |name: &str| {
            let field = parsed.headers.iter().find(|field| field.name.eq_ignore_ascii_case(name))?;
            Some(std::str::from_utf8(field.value).expect("it is ASCII"))
        };
        let (cut, _) = read_cut(rng, &bytes);
        assert_eq!(cut.len(), requests.len());
        let first = &cut[0];
        assert_eq!((Some(&*first.method), Some(&*first.target)), (parsed.method, parsed.path));
        assert_eq!(first.version == Version::Http11, parsed.version == Some(1));
        assert_eq!(first.host.as_deref(), value("host"));
        assert_eq!(first.content_type.as_deref(), value("content-type"));
        assert_eq!(first.authorization.as_ref().map(Secret::expose), value("authorization"));
    });
}
