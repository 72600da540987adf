//! What the page and scripts are told, as JSON: `/status` (and each update of `/events`), `/shards`, `/readyz`.

use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::{Value, json};

use super::board::{Board, Overview};
use super::figures::{STATES, Shard};
use super::history::History;
use super::process::Process;
use crate::base::Histogram;

/// A shard, as `/shards` tells it.
#[derive(Serialize)]
struct ShardTold {
    id: u32,
    cluster: u32,
    state: &'static str,
    since_ms: Option<u64>,
    heartbeat_rtt_ms: Option<f64>,
    session: Option<SessionTold>,
    events: u64,
    reconnects: u64,
}

/// A session, without what would be enough to take it over.
#[derive(Serialize)]
struct SessionTold {
    received_seq: u64,
    confirmed_seq: Option<u64>,
}

fn told(shard: &Shard, now: Instant) -> ShardTold {
    ShardTold {
        id: shard.id,
        cluster: shard.cluster,
        state: shard.state,
        since_ms: shard.changed_at.map(|at| ms(now.saturating_duration_since(at))),
        heartbeat_rtt_ms: shard.heartbeat_rtt.map(|rtt| rtt.as_micros() as f64 / 1000.0),
        session: shard.seqs.map(|(received_seq, confirmed_seq)| SessionTold { received_seq, confirmed_seq }),
        events: shard.events,
        reconnects: shard.reconnects,
    }
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn text(value: &impl Serialize) -> String {
    // Names and numbers: nothing that JSON cannot say.
    serde_json::to_string(value).unwrap_or_default()
}

/// All shards.
pub fn shards(overview: &Overview, now: Instant) -> String {
    text(&overview.shards.iter().map(|shard| told(shard, now)).collect::<Vec<_>>())
}

/// One shard, if it is of this process.
pub fn shard(overview: &Overview, id: u32, now: Instant) -> Option<String> {
    overview.shards.iter().find(|shard| shard.id == id).map(|shard| text(&told(shard, now)))
}

/// Whether all is well, and what is not.
pub fn verdict(word: &str, missing: &[String]) -> String {
    if missing.is_empty() {
        return text(&json!({ word: true }));
    }
    text(&json!({ word: false, "missing": missing }))
}

/// An error, on one line.
pub fn error(why: &str) -> String {
    text(&json!({ "error": why }))
}

/// The state of everything, for people's eyes.
pub fn status(
    board: &Board,
    overview: &Overview,
    history: &History,
    process: &Process,
    now: Instant,
    wall_ms: u64,
) -> String {
    let missing = overview.missing();
    let recent = history.recent(&overview.timings);
    let value = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "now_ms": wall_ms,
        "uptime_ms": ms(overview.uptime),
        "ready": missing.is_empty(),
        "missing": missing,
        "events": {
            "total": overview.totals.events,
            "per_second": history.rates().last(),
            "history": history.rates().collect::<Vec<_>>(),
        },
        "latency": {
            "receive_to_publish": latency(&recent.receive_to_publish),
            "publish_to_confirm": latency(&recent.publish_to_confirm),
            "heartbeat": latency(&recent.heartbeat),
        },
        "shards": { "up": overview.up(), "total": overview.shards_planned },
        "clusters": clusters(overview),
        "cache": overview.cache.as_ref().map(|cache| json!({
            "used_bytes": cache.used_bytes,
            "capacity_bytes": cache.capacity_bytes,
            "kinds": cache.kinds.iter().map(|kind| json!({
                "kind": kind.kind, "held": kind.held, "evicted": kind.evicted,
            })).collect::<Vec<_>>(),
        })),
        "identify": overview.identify.as_ref().map(|queue| json!({
            "remaining": queue.remaining,
            "total": queue.total,
            "waiting": queue.waiting,
            "max_concurrency": queue.max_concurrency,
            "reset_in_ms": queue.reset_at.map(|at| ms(at.saturating_duration_since(now))),
            "elsewhere": queue.is_remote,
        })),
        "workers": {
            "commands_forwarded": overview.totals.commands_forwarded,
            "commands_refused": overview.totals.commands_refused,
            "ignored": overview.totals.messages_ignored,
            "query_hits": overview.totals.query_hits,
            "query_misses": overview.totals.query_misses,
        },
        "process": {
            "resident_bytes": process.resident_bytes,
            "cpu_seconds": process.cpu_seconds,
            "open_fds": process.open_fds,
            "pauses": overview.pauses,
            "panics": overview.panics,
        },
        "incidents": board.incidents.latest_first().iter().map(|incident| json!({
            "first_ms": incident.first_ms,
            "last_ms": incident.last_ms,
            "kind": incident.kind,
            "subject": incident.subject.to_string(),
            "text": incident.text,
            "times": incident.times,
        })).collect::<Vec<_>>(),
    });
    text(&value)
}

fn latency(histogram: &Histogram) -> Value {
    json!({
        "count": histogram.count(),
        "p50_us": histogram.quantile_us(0.5),
        "p99_us": histogram.quantile_us(0.99),
    })
}

/// Clusters with their shards: a letter for the state of each, so that ten thousand shards are ten kilobytes.
fn clusters(overview: &Overview) -> Vec<Value> {
    let letter = |shard: &Shard| {
        STATES.iter().find(|(state, _)| *state == shard.state).map_or('?', |(_, letter)| *letter)
    };
    // Shards are in the order of their ids, and so are those of one cluster after the other.
    let mut rest = &overview.shards[..];
    let mut out = Vec::with_capacity(overview.clusters.len());
    for cluster in &overview.clusters {
        let before = rest.iter().position(|shard| shard.cluster == cluster.number).unwrap_or(rest.len());
        let own = &rest[before..];
        let end = own.iter().position(|shard| shard.cluster != cluster.number).unwrap_or(own.len());
        rest = &own[end..];
        let own = &own[..end];
        out.push(json!({
            "number": cluster.number,
            "broker": *cluster.broker,
            "link": cluster.link,
            "first_shard": own.first().map(|shard| shard.id),
            "states": own.iter().map(letter).collect::<String>(),
            "events": own.iter().map(|shard| shard.events).sum::<u64>(),
            "outbox_bytes": cluster.outbox_bytes,
            "outbox_bytes_max": cluster.outbox_bytes_max,
            "unconfirmed": cluster.unconfirmed,
            "on_disk": cluster.on_disk,
            "spool_bytes": cluster.spool.as_ref().map(|spool| spool.bytes),
            "spool_bytes_max": cluster.spool.as_ref().map(|spool| spool.bytes_max),
            "spooling": cluster.is_spooling,
            "paused": cluster.is_paused,
            "links_lost": cluster.links_lost,
        }));
    }
    out
}
