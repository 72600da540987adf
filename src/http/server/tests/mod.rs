//! Rule by rule, then any stream cut anywhere. Seeded tests print their seed and replay with RATEWAY_SEED.

mod bodies;
mod connections;
mod heads;
mod random;
mod responses;

use super::*;

/// Sunday, 6 November 1994, 08:49:37 GMT: the example of RFC 9110 5.6.7.
const WALL_MS: u64 = 784_111_777_000;

/// Takes out and answers what has arrived.
fn drain(connection: &mut Connection, requests: &mut Vec<Request>) -> Option<Error> {
    loop {
        match connection.poll_request() {
            Ok(Some(request)) => requests.push(request),
            Ok(None) => return None,
            Err(error) => return Some(error),
        }
        connection.respond(&Response::empty(200), WALL_MS, &mut Vec::new());
    }
}

/// The requests in `bytes`, and the error that ends them.
fn read_with(bytes: &[u8], limits: Limits) -> (Vec<Request>, Option<Error>) {
    let mut connection = Connection::new(limits);
    let mut requests = Vec::new();
    let result = connection.receive(bytes);
    let error = drain(&mut connection, &mut requests);
    assert!(result.is_ok() || result.err() == error);
    (requests, error)
}

fn read(bytes: impl AsRef<[u8]>) -> (Vec<Request>, Option<Error>) {
    read_with(bytes.as_ref(), Limits::default())
}

/// The only request in `bytes`.
fn one(bytes: impl AsRef<[u8]>) -> Request {
    let (mut requests, error) = read(&bytes);
    let text = String::from_utf8_lossy(bytes.as_ref());
    assert_eq!((requests.len(), error), (1, None), "{text:?}");
    requests.remove(0)
}

/// Why `bytes` are refused, with no request among them.
fn refused(bytes: impl AsRef<[u8]>) -> Error {
    let (requests, error) = read(&bytes);
    let text = String::from_utf8_lossy(bytes.as_ref());
    assert!(requests.is_empty(), "{text:?}");
    error.unwrap_or_else(|| panic!("{text:?} was not refused"))
}

/// As [`refused`], for what is malformed.
fn malformed(bytes: impl AsRef<[u8]>) -> &'static str {
    match refused(bytes) {
        Error::Malformed(what) => what,
        error => panic!("{error:?}"),
    }
}

/// `bytes` begin well, and more is awaited.
fn incomplete(bytes: impl AsRef<[u8]>) -> bool {
    let (requests, error) = read(bytes);
    requests.is_empty() && error.is_none()
}
