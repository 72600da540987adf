//! What the operator may ask on the admin port.
//!
//! | path | answer |
//! |---|---|
//! | `/metrics` | Prometheus text |
//! | `/healthz` | 200 as long as the loop turns |
//! | `/gates` | the gates as JSON |
//! | `/` | this list |

use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;

use super::counts::Counts;
use super::gates::{OWN, Status};
use crate::http::server::Request;

/// What the answers are made of.
#[derive(Debug)]
pub struct Facts<'a> {
    /// Every gate.
    pub status: Vec<Status>,
    /// The service's counters.
    pub counts: &'a Counts,
    /// Connections that are open.
    pub connections: usize,
    /// Times that the state could not be written.
    pub save_errors: u64,
    /// Requests for which there was no gate left.
    pub refused_gates: u64,
}

/// An answer.
#[derive(Debug, PartialEq, Eq)]
pub struct Page {
    /// The HTTP status.
    pub status: u16,
    /// The media type.
    pub content_type: &'static str,
    /// Further headers.
    pub headers: &'static [(&'static str, &'static str)],
    /// The body.
    pub body: String,
}

const INDEX: &str = "rateway queue\n\n/metrics  Prometheus metrics\n/healthz  200 while the service works\n/gates    every bot's gate as JSON\n";

/// Answers a request to the admin port.
pub fn answer(request: &Request, facts: &Facts<'_>) -> Page {
    let page = |status, content_type, body| Page { status, content_type, headers: &[], body };
    if !matches!(request.method.as_str(), "GET" | "HEAD") {
        // RFC 9110 15.5.6.
        let headers = &[("allow", "GET, HEAD")];
        return Page { headers, ..page(405, "text/plain", "only GET\n".to_owned()) };
    }
    match request.path() {
        "/" => page(200, "text/plain", INDEX.to_owned()),
        "/healthz" => page(200, "text/plain", "ok\n".to_owned()),
        "/metrics" => page(200, "text/plain; version=0.0.4", metrics(facts)),
        "/gates" => page(200, "application/json", gates(facts)),
        _ => page(404, "text/plain", "there is no such page\n".to_owned()),
    }
}

/// The label of a gate: keys are hashes and hold nothing that Prometheus would have to escape.
fn name(status: &Status) -> &str {
    if status.key == OWN { "default" } else { &status.key }
}

#[derive(Serialize)]
struct Gate<'a> {
    gate: &'a str,
    waiting: usize,
    granted: u64,
    abandoned: u64,
    returned: u64,
    lapsed: u64,
    refused: u64,
    remaining: u32,
    total: u32,
    max_concurrency: u32,
    next_permit_in_ms: Option<u64>,
    reset_in_ms: Option<u64>,
}

fn gates(facts: &Facts<'_>) -> String {
    let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let gates: Vec<Gate<'_>> = facts
        .status
        .iter()
        .map(|status| Gate {
            gate: name(status),
            waiting: status.waiting,
            granted: status.stats.granted,
            abandoned: status.stats.abandoned,
            returned: status.stats.returned,
            lapsed: status.stats.lapsed,
            refused: status.stats.refused,
            remaining: status.remaining,
            total: status.total,
            max_concurrency: status.max_concurrency,
            next_permit_in_ms: status.next_permit_in.map(ms),
            reset_in_ms: status.reset_in.map(ms),
        })
        .collect();
    // Names and numbers: nothing that JSON cannot say.
    serde_json::to_string(&gates).unwrap_or_default() + "\n"
}

type Figure = (&'static str, &'static str, &'static str, fn(&Status) -> Option<f64>);

/// Name, type, help and value of what each gate tells. A value that is not there is left out.
const FIGURES: &[Figure] = &[
    ("waiting", "gauge", "Shards that wait to identify.", |s| Some(s.waiting as f64)),
    ("granted_total", "counter", "Permits granted.", |s| Some(s.stats.granted as f64)),
    ("abandoned_total", "counter", "Requests whose client left before its permit.", |s| {
        Some(s.stats.abandoned as f64)
    }),
    ("returned_total", "counter", "Permits given back unused.", |s| Some(s.stats.returned as f64)),
    ("lapsed_total", "counter", "Permits of which no word came in time.", |s| Some(s.stats.lapsed as f64)),
    ("refused_total", "counter", "Requests for which there was no room.", |s| Some(s.stats.refused as f64)),
    ("remaining", "gauge", "Session starts left today.", |s| Some(f64::from(s.remaining))),
    ("limit", "gauge", "Session starts per day.", |s| Some(f64::from(s.total))),
    ("buckets", "gauge", "Buckets that identify side by side (max_concurrency).", |s| {
        Some(f64::from(s.max_concurrency))
    }),
    ("next_permit_seconds", "gauge", "Time until the next permit; absent when nobody waits.", |s| {
        s.next_permit_in.map(|left| left.as_secs_f64())
    }),
    ("reset_seconds", "gauge", "Time until there are more session starts; absent when all are there.", |s| {
        s.reset_in.map(|left| left.as_secs_f64())
    }),
];

fn metrics(facts: &Facts<'_>) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    for (figure, kind, help, value) in FIGURES {
        let _ = writeln!(out, "# HELP rateway_queue_{figure} {help}\n# TYPE rateway_queue_{figure} {kind}");
        for status in &facts.status {
            if let Some(value) = value(status) {
                let _ = writeln!(out, "rateway_queue_{figure}{{gate=\"{}\"}} {value}", name(status));
            }
        }
    }
    let counts = facts.counts;
    let _ = writeln!(
        out,
        "# HELP rateway_queue_connections Connections that are open.\n# TYPE rateway_queue_connections gauge\n\
         rateway_queue_connections {}",
        facts.connections
    );
    let _ = writeln!(
        out,
        "# HELP rateway_queue_ended_total Connections that ended, by why.\n# TYPE rateway_queue_ended_total counter"
    );
    let ends = [
        ("gone", counts.gone),
        ("idle", counts.idle),
        ("slow", counts.slow),
        ("malformed", counts.malformed),
        ("refused", counts.refused_requests),
    ];
    for (reason, count) in ends {
        let _ = writeln!(out, "rateway_queue_ended_total{{reason=\"{reason}\"}} {count}");
    }
    for (figure, help, count) in [
        ("accepted_total", "Connections taken.", counts.accepted),
        (
            "accept_errors_total",
            "Times that no file descriptor was left for a connection.",
            counts.accept_errors,
        ),
        (
            "connections_refused_total",
            "Connections closed as there were too many.",
            counts.refused_connections,
        ),
        ("requests_total", "Requests read.", counts.requests),
        (
            "requests_without_shard_total",
            "Requests that named no shard, though their bot has several buckets.",
            counts.without_shard,
        ),
        ("gates_refused_total", "Requests of a bot for whom there was no gate left.", facts.refused_gates),
        ("answered_total", "Permits answered.", counts.answered),
        ("state_errors_total", "Times that the state could not be written.", facts.save_errors),
    ] {
        let _ = writeln!(
            out,
            "# HELP rateway_queue_{figure} {help}\n# TYPE rateway_queue_{figure} counter\nrateway_queue_{figure} {count}"
        );
    }
    out
}
