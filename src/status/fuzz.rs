//! The body of a fuzz target: any request to the port of the page. What must hold is asserted here.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use super::board::{Board, Source};
use super::counts::Counts;
use super::figures::{Cache, Shard, Thread};
use super::history::History;
use super::page::Page;
use super::routes::{Context, Settings, answer};
use crate::base::Secret;
use crate::http::server::Request;
use crate::reactor::Turn;

const TOKEN: &str = "a-token-of-some-length";

struct Nothing;

impl Source for Nothing {
    fn idle(&self, _: Instant) -> Vec<Duration> {
        Vec::new()
    }
    fn trouble(&self) -> (u64, u64) {
        (0, 0)
    }
    fn cache(&self) -> Option<Cache> {
        None
    }
    fn reconnect(&self, _: u32) {}
}

/// Two shards, one of which is up.
fn board(now: Instant) -> &'static Board {
    static BOARD: OnceLock<Board> = OnceLock::new();
    BOARD.get_or_init(|| {
        let board = Board::new(now);
        board.begin(Box::new(Nothing), 1, 2, 1);
        let shard = |id, state| Shard {
            id,
            cluster: 1,
            state,
            changed_at: None,
            heartbeat_rtt: None,
            seqs: Some((12, Some(10))),
            events: 12,
            reconnects: 1,
        };
        board.put(
            0,
            &mut Thread { shards: vec![shard(0, "active"), shard(1, "waiting")], ..Thread::default() },
        );
        board
    })
}

/// Answers `request` on a port for this machine alone and on one for others.
pub fn request(request: &Request, turn: Turn) {
    static PAGE: OnceLock<Page> = OnceLock::new();
    for is_loopback in [true, false] {
        let settings = Settings {
            admin_token: Some(Secret::new(TOKEN)),
            is_loopback,
            page: PAGE.get_or_init(Page::new).clone(),
        };
        let context = Context {
            settings: &settings,
            board: board(turn.now),
            history: &History::default(),
            counts: Counts::default(),
            may_stream: request.keep_alive,
            turn,
        };
        let answer = answer(request, &context);
        assert!(matches!(answer.status, 200 | 202 | 401 | 403 | 404 | 405 | 503), "{}", answer.status);
        if answer.status < 300 && !matches!(request.method.as_str(), "GET" | "HEAD") {
            let sent = request.authorization.as_ref().map_or("", |value| value.expose());
            assert!(
                answer.status == 202 && request.method == "POST" && sent.ends_with(TOKEN),
                "who was that?"
            );
        }
        let body = std::str::from_utf8(&answer.body).expect("text");
        assert!(!body.contains(TOKEN) || request.target.contains(TOKEN), "the token shows");
        if answer.content_type == "application/json" {
            assert!(serde_json::from_str::<serde_json::Value>(body).is_ok(), "{body}");
        }
        assert!(answer.headers.contains(&("x-content-type-options", "nosniff")));
    }
}
