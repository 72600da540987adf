//! HTTP requests to those who answer them: the page's port and the identify queue's service.

use std::time::Instant;

use rateway::http::server::{Connection, Limits, Response};
use rateway::queue::{Endpoint, Report, Whom};
use rateway::reactor::Turn;
use rateway::service::asked;

/// One run.
pub fn run(bytes: &[u8]) {
    let mut connection = Connection::new(Limits::default());
    let _ = connection.receive(bytes);
    let turn = Turn { now: Instant::now(), wall_ms: 1_700_000_000_000 };
    for _ in 0..4 {
        let Ok(Some(request)) = connection.poll_request() else { break };
        rateway::status::fuzz::request(&request, turn);
        let _ = asked::report(&request);
        if let Ok(ask) = asked::Ask::read(&request) {
            let is_clean = |key: &String| {
                !key.is_empty()
                    && key.len() <= asked::KEY_BYTES_MAX
                    && key.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_".contains(&b))
            };
            // It names a file.
            assert!(ask.key.as_ref().is_none_or(is_clean));
            again(&ask);
        }
        let mut out = Vec::new();
        connection.respond(&Response::new(200, "text/plain", b""), 0, &mut out);
    }
}

/// What rateway's own client asks is read as it was meant.
fn again(ask: &asked::Ask) {
    let url =
        ask.key.as_ref().map_or_else(|| "http://queue/".to_owned(), |key| format!("http://queue/k/{key}"));
    let endpoint = Endpoint::parse(&url).expect("a URL");
    let whom = Whom {
        shard_id: ask.shard_id.into(),
        shard_count: 1,
        max_concurrency: ask.max_concurrency,
        token_hash: None,
        limit: ask.limit,
    };
    let read = |bytes: &[u8]| {
        let mut connection = Connection::new(Limits::default());
        connection.receive(bytes).expect("a request");
        connection.poll_request().expect("a request").expect("whole")
    };
    let request = rateway::queue::Ask::with_feedback(&endpoint, &whom).expect("no placeholders");
    let read_ask = asked::Ask::read(&read(request.request())).expect("a wish");
    assert_eq!((read_ask.shard_id, &read_ask.key, read_ask.feedback), (ask.shard_id, &ask.key, true));
    assert_eq!(asked::report(&read(request.request())), Ok(None));
    for report in [Report::Identified, Report::Answered, Report::Returned] {
        let bytes = report.request(&endpoint, &whom, 7).expect("no placeholders");
        let told =
            asked::report(&read(&bytes)).expect("a report").map(|(report, permit)| (report.name(), permit));
        assert_eq!(told, Some((report.name(), 7)));
    }
}
