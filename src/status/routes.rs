//! What is asked on the port, and what is answered: requests in, answers out, without a socket.
//!
//! | path | answer |
//! |---|---|
//! | `/` | the page |
//! | `/events` | the state of everything as an event stream, once a second |
//! | `/status` | the same, once |
//! | `/metrics`, `/metrics?shards=1` | Prometheus text |
//! | `/healthz` | 200 while every reactor thread turns |
//! | `/readyz` | 200 when all shards are up and every broker takes publishes |
//! | `/shards`, `/shards/N` | all shards; one |
//! | `POST /shards/N/reconnect` | lets a shard resume on a new connection |

use std::borrow::Cow;
use std::net::IpAddr;

use super::board::Board;
use super::counts::Counts;
use super::history::History;
use super::page::Page;
use super::{json, metrics, process};
use crate::base::Secret;
use crate::http::server::{Request, Version};
use crate::reactor::Turn;

/// What does not change while the process runs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// ADMIN_TOKEN.
    pub admin_token: Option<Secret>,
    /// Whether only this machine reaches the port. Then a page of somebody else's must not, by way of the browser.
    pub is_loopback: bool,
    /// The page.
    pub page: Page,
}

/// What an answer is made of.
pub struct Context<'a> {
    /// See [`Settings`].
    pub settings: &'a Settings,
    /// What the threads have told.
    pub board: &'a Board,
    /// The last two minutes.
    pub history: &'a History,
    /// What this thread has counted.
    pub counts: Counts,
    /// Whether one more may read /events.
    pub may_stream: bool,
    /// The time.
    pub turn: Turn,
}

/// An answer.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer<'a> {
    /// The HTTP status.
    pub status: u16,
    /// The media type.
    pub content_type: &'static str,
    /// Further headers.
    pub headers: Vec<(&'static str, &'a str)>,
    /// The body.
    pub body: Cow<'a, [u8]>,
    /// Whether updates follow.
    pub streams: bool,
}

const JSON: &str = "application/json";

impl<'a> Answer<'a> {
    fn new(status: u16, content_type: &'static str, body: String) -> Answer<'a> {
        Answer { status, content_type, headers: Vec::new(), body: body.into_bytes().into(), streams: false }
    }

    fn json(status: u16, mut body: String) -> Answer<'a> {
        body.push('\n');
        Answer::new(status, JSON, body)
    }

    fn error(status: u16, why: &str) -> Answer<'a> {
        Answer::json(status, json::error(why))
    }

    fn with(mut self, name: &'static str, value: &'a str) -> Answer<'a> {
        self.headers.push((name, value));
        self
    }
}

/// Answers a request.
pub fn answer<'a>(request: &Request, context: &Context<'a>) -> Answer<'a> {
    let mut answer = match refusal(request, context.settings) {
        Some(refusal) => refusal,
        None => route(request, context),
    };
    // What is told is true now, and is of the type that is said.
    answer.headers.extend([("cache-control", "no-store"), ("x-content-type-options", "nosniff")]);
    answer
}

/// A browser can be led here by a name of somebody else's (DNS rebinding); then Host says that name.
fn refusal<'a>(request: &Request, settings: &Settings) -> Option<Answer<'a>> {
    if !settings.is_loopback {
        return None;
    }
    let is_own = match &request.host {
        Some(host) => is_own_name(host),
        // No browser is so old.
        None => request.version == Version::Http10,
    };
    (!is_own).then(|| {
        Answer::error(403, "this port is for this machine alone: ask as localhost, 127.0.0.1 or [::1]")
    })
}

fn is_own_name(host: &str) -> bool {
    let name = match host.rfind(':') {
        Some(colon) if host[colon + 1..].bytes().all(|byte| byte.is_ascii_digit()) => &host[..colon],
        _ => host,
    };
    // No name server has a say in what a number means.
    let number = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(name);
    name.eq_ignore_ascii_case("localhost") || number.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}

fn route<'a>(request: &Request, context: &Context<'a>) -> Answer<'a> {
    let mut parts = request.path().split('/').skip(1);
    let parts = [parts.next(), parts.next(), parts.next(), parts.next()];
    if let [Some("shards"), Some(id), Some("reconnect"), None] = parts {
        return match request.method.as_str() {
            "POST" => reconnect(request, context, id),
            _ => Answer::error(405, "only POST here").with("allow", "POST"),
        };
    }
    let reads = matches!(request.method.as_str(), "GET" | "HEAD");
    match parts {
        [Some("" | "events" | "status" | "metrics" | "healthz" | "readyz" | "shards"), None, ..]
        | [Some("shards"), Some(_), None, _]
            if !reads =>
        {
            Answer::error(405, "only GET here").with("allow", "GET, HEAD")
        }
        [Some(""), None, ..] => page(context),
        [Some("events"), None, ..] => events(request, context),
        [Some("status"), None, ..] => Answer::json(200, status_text(context)),
        [Some("metrics"), None, ..] => metrics(request, context),
        [Some("healthz"), None, ..] => healthz(context),
        [Some("readyz"), None, ..] => readyz(context),
        [Some("shards"), None, ..] => shards(context),
        [Some("shards"), Some(id), None, _] => shard(context, id),
        _ => Answer::error(404, "there is nothing here"),
    }
}

fn page<'a>(context: &Context<'a>) -> Answer<'a> {
    let page = &context.settings.page;
    Answer {
        status: 200,
        content_type: "text/html; charset=utf-8",
        headers: vec![("content-security-policy", &page.policy), ("referrer-policy", "no-referrer")],
        body: page.html.into(),
        streams: false,
    }
}

/// One update of `/events`.
pub fn update(context: &Context<'_>) -> Vec<u8> {
    let mut out = b"data: ".to_vec();
    // JSON on one line, as a line's end ends the datum.
    out.extend_from_slice(status_text(context).as_bytes());
    out.extend_from_slice(b"\n\n");
    out
}

fn status_text(context: &Context<'_>) -> String {
    let Context { board, history, turn, .. } = context;
    let overview = board.overview(turn.now);
    json::status(board, &overview, history, &process::read(), turn.now, turn.wall_ms)
}

fn events<'a>(request: &Request, context: &Context<'a>) -> Answer<'a> {
    if !context.may_stream {
        return Answer::error(503, "as many read /events as may");
    }
    // HEAD has no body that could stream.
    let streams = !request.is_head();
    let body = if streams { update(context).into() } else { Cow::default() };
    Answer { status: 200, content_type: "text/event-stream", headers: Vec::new(), body, streams }
}

fn metrics<'a>(request: &Request, context: &Context<'a>) -> Answer<'a> {
    let overview = context.board.overview(context.turn.now);
    let facts = metrics::Facts {
        overview: &overview,
        process: process::read(),
        counts: context.counts,
        now: context.turn.now,
        by_shard: request.query().is_some_and(|query| query.split('&').any(|part| part == "shards=1")),
    };
    Answer::new(200, "text/plain; version=0.0.4; charset=utf-8", metrics::write(&facts).0)
}

fn healthz<'a>(context: &Context<'a>) -> Answer<'a> {
    let stuck = context.board.stuck(context.turn.now);
    Answer::json(if stuck.is_empty() { 200 } else { 503 }, json::verdict("healthy", &stuck))
}

fn readyz<'a>(context: &Context<'a>) -> Answer<'a> {
    let missing = context.board.overview(context.turn.now).missing();
    Answer::json(if missing.is_empty() { 200 } else { 503 }, json::verdict("ready", &missing))
}

fn shards<'a>(context: &Context<'a>) -> Answer<'a> {
    let now = context.turn.now;
    Answer::json(200, json::shards(&context.board.overview(now), now))
}

fn shard<'a>(context: &Context<'a>, id: &str) -> Answer<'a> {
    let now = context.turn.now;
    match number(id).and_then(|id| json::shard(&context.board.overview(now), id, now)) {
        Some(text) => Answer::json(200, text),
        None => no_such_shard(),
    }
}

fn no_such_shard<'a>() -> Answer<'a> {
    Answer::error(404, "this process has no such shard")
}

/// A shard's id as it is written: digits alone.
fn number(text: &str) -> Option<u32> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

fn reconnect<'a>(request: &Request, context: &Context<'a>, id: &str) -> Answer<'a> {
    let Some(token) = &context.settings.admin_token else {
        return Answer::error(403, "ADMIN_TOKEN is not set, so nothing can be changed here");
    };
    let sent = request.authorization.as_ref().and_then(|value| value.expose().split_once(' '));
    let is_admin = sent.is_some_and(|(scheme, credentials)| {
        scheme.eq_ignore_ascii_case("bearer") && token.matches(credentials.trim_start())
    });
    if !is_admin {
        return Answer::error(401, "Authorization: Bearer ADMIN_TOKEN is needed")
            .with("www-authenticate", "Bearer");
    }
    let overview = context.board.overview(context.turn.now);
    let shard = number(id).and_then(|id| overview.shards.iter().find(|shard| shard.id == id));
    match shard {
        None if !overview.is_running => Answer::error(503, "Discord has not said yet how to start"),
        None => no_such_shard(),
        Some(shard) if !shard.is_up() => {
            let why = format!("shard {} is {} and has nothing to give up", shard.id, shard.state);
            Answer::error(503, &why)
        }
        Some(shard) => {
            context.board.reconnect(shard.id);
            Answer::json(202, format!("{{\"reconnecting\":{}}}", shard.id))
        }
    }
}

#[cfg(test)]
#[path = "routes_tests.rs"]
mod tests;
