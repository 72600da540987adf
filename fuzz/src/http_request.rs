//! A client that says anything, in one piece and in many. The first byte seeds how the rest is cut and how late
//! requests are answered.

use rateway::base::Rng;
use rateway::http::server::{Connection, Error, Limits, Request, Response};

const DEFAULT: Limits =
    Limits { head_bytes_max: 8192, headers_max: 64, body_bytes_max: 65_536, pipelined_bytes_max: 8192 };
/// Limits that short inputs reach.
const TINY: Limits =
    Limits { head_bytes_max: 60, headers_max: 2, body_bytes_max: 9, pipelined_bytes_max: 30 };

/// Takes out and answers what has arrived; the error that ends it, if there is one.
fn drain(connection: &mut Connection, limits: &Limits, requests: &mut Vec<Request>) -> Option<Error> {
    loop {
        let request = match connection.poll_request() {
            Ok(Some(request)) => request,
            Ok(None) => return None,
            Err(error) => return Some(error),
        };
        assert!(connection.is_outstanding() && connection.poll_request() == Ok(None), "two at a time");
        assert!(request.body.len() <= limits.body_bytes_max, "a body above the limit");
        assert!(request.path().len() + request.query().map_or(0, str::len) <= request.target.len() + 1);
        let mut out = Vec::new();
        connection.respond(&Response::new(200, "text/plain", b"ok"), 0, &mut out);
        assert_eq!(out.ends_with(b"\r\n\r\nok"), !request.is_head());
        assert_eq!(request.keep_alive, !out.windows(17).any(|bytes| bytes == b"connection: close"));
        connection.transmit(&mut out);
        requests.push(request);
    }
}

fn in_pieces(limits: Limits, seed: u8, mut bytes: &[u8]) -> (Vec<Request>, Option<Error>) {
    let mut rng = Rng::new(seed.into());
    let (most, late) = ([1, 2, 7, 40, 500, 9000][usize::from(seed % 6)], u64::from(seed / 6 % 4));
    let mut connection = Connection::new(limits);
    let mut requests = Vec::new();
    while !bytes.is_empty() {
        let (piece, rest) = bytes.split_at((rng.below(most) as usize + 1).min(bytes.len()));
        let result = connection.receive(piece);
        bytes = rest;
        assert!(
            connection.buffered_bytes()
                <= limits.head_bytes_max + limits.body_bytes_max + limits.pipelined_bytes_max,
            "more is kept than may be"
        );
        connection.transmit(&mut Vec::new());
        if !rng.chance(late, 4) {
            let error = drain(&mut connection, &limits, &mut requests);
            assert!(result.is_ok() || result.err() == error, "an error did not stay");
        }
    }
    let error = drain(&mut connection, &limits, &mut requests);
    (requests, error)
}

/// One run.
pub fn run(bytes: &[u8]) {
    let [seed, rest @ ..] = bytes else { return };
    for limits in [DEFAULT, TINY] {
        in_pieces(limits, *seed, rest);
        // How much may be sent ahead depends on how it is cut; nothing else does.
        let limits = Limits { pipelined_bytes_max: usize::MAX / 4, ..limits };
        let mut connection = Connection::new(limits);
        let mut requests = Vec::new();
        let _ = connection.receive(rest);
        let error = drain(&mut connection, &limits, &mut requests);
        assert_eq!(in_pieces(limits, *seed, rest), (requests, error), "pieces are read differently");
    }
}
