//! The admin routes below `/_sim`, for a person or a test in another process.
//!
//! `GET /_sim/stats`, `GET /_sim/commands`, `POST /_sim/fault?fault=close:4000&shard=3` (for `payload` the request
//! body is the payload), `POST /_sim/rate?rate=500`, `POST /_sim/emit?shard=0&event=NAME` (body: `d`).

use std::sync::atomic::Ordering;

use serde_json::{Map, Value, json};

use super::clock::now;
use super::server::Shared;
use super::{Fault, FaultSpec, Response, Target};

/// Entries of a list that `stats` shows, the newest.
const SHOWN: usize = 200;

fn failure(status: u16, text: &str) -> Response {
    Response::json(status, json!({ "error": text }).to_string())
}

/// Undoes percent-encoding.
fn decoded(text: &str) -> String {
    let mut out = Vec::new();
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let digit = |b: Option<u8>| b.and_then(|b| char::from(b).to_digit(16));
        match byte {
            b'%' => match (digit(bytes.next()), digit(bytes.next())) {
                (Some(high), Some(low)) => out.push((high * 16 + low) as u8),
                _ => out.push(b'?'),
            },
            b'+' => out.push(b' '),
            other => out.push(other),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Answers a request whose path, after `/_sim`, is `path`.
pub(super) fn answer(shared: &Shared, method: &str, path: &str, body: &[u8]) -> Response {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let parameter = |name: &str| {
        let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.filter(|&(key, _)| key == name).map(|(_, value)| decoded(value)).next_back()
    };
    match (method, path) {
        ("GET", "/stats") => Response::json(200, stats(shared).to_string()),
        ("GET", "/commands") => Response::json(200, commands(shared).to_string()),
        ("POST", "/fault") => {
            let Some(text) = parameter("fault") else {
                return failure(400, "which fault? ?fault=op7&shard=3");
            };
            if let "split" | "split:off" = text.as_str() {
                shared.split.store(text == "split", Ordering::Relaxed);
                return Response::json(200, r#"{"hit":1}"#);
            }
            let mut spec = match FaultSpec::parse(&text) {
                Ok(spec) => spec,
                Err(e) => return failure(400, &e),
            };
            match parameter("shard").as_deref().map(|s| (s, s.parse())) {
                None | Some(("any", _)) => {}
                Some(("all", _)) => spec.target = Target::All,
                Some((_, Ok(shard))) => spec.target = Target::Shard(shard),
                Some(_) => return failure(400, "shard is a number, `all` or `any`"),
            }
            if let Fault::Payload { bytes, .. } = &mut spec.fault
                && bytes.is_empty()
            {
                *bytes = body.to_vec();
            }
            let hit = shared.act(None, |discord, now| discord.inject_spec(now, &spec));
            Response::json(200, json!({ "hit": hit }).to_string())
        }
        ("POST", "/rate") => match parameter("rate").and_then(|r| r.parse().ok()) {
            Some(rate) => {
                shared.act(None, |discord, now| discord.set_rate(now, rate));
                Response::json(200, json!({ "rate": rate }).to_string())
            }
            None => failure(400, "rate is a number of events per second"),
        },
        ("POST", "/emit") => {
            let (Some(shard), Some(event)) =
                (parameter("shard").and_then(|s| s.parse().ok()), parameter("event"))
            else {
                return failure(400, "shard and event are needed; the body is d");
            };
            let Ok(d) = std::str::from_utf8(body) else { return failure(400, "d is no text") };
            if serde_json::from_str::<Value>(d).is_err()
                || !event.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
            {
                return failure(400, "d is JSON, event is a name");
            }
            let seq = shared.act(None, |discord, now| discord.emit(now, shard, &event, d));
            Response::json(200, json!({ "seq": seq }).to_string())
        }
        (_, "/stats" | "/commands" | "/fault" | "/rate" | "/emit") => failure(405, "another method"),
        _ => failure(404, "stats, commands, fault, rate, emit"),
    }
}

fn codes(map: &std::collections::BTreeMap<Option<u16>, u64>) -> Value {
    let name = |code: &Option<u16>| code.map_or("none".to_owned(), |code| code.to_string());
    map.iter().map(|(code, count)| (name(code), json!(count))).collect::<Map<_, _>>().into()
}

fn stats(shared: &Shared) -> Value {
    let discord = shared.discord.lock();
    let ledger = discord.ledger();
    let ms = |at: std::time::Instant| at.saturating_duration_since(shared.started).as_millis() as u64;
    let newest = |len: usize| len.saturating_sub(SHOWN);
    let violations = ledger.violations.iter().skip(newest(ledger.violations.len()));
    let identifies = ledger.identifies.iter().skip(newest(ledger.identifies.len()));
    let sessions = ledger.sessions.iter().skip(newest(ledger.sessions.len()));
    json!({
        "uptime_ms": ms(now()),
        "connections_open": discord.connection_count(),
        "sessions_alive": discord.session_count(),
        "connected_shards": discord.connected_shards().len(),
        "playing": shared.playing.load(Ordering::Relaxed),
        "connections": ledger.connections,
        "readies": ledger.readies,
        "resumes": ledger.resumes,
        "resumes_refused": ledger.resumes_refused,
        "invalid_sessions": ledger.invalid_sessions,
        "acks": ledger.acks,
        "dispatches": ledger.dispatches,
        "replayed": ledger.replayed,
        "frames_out": shared.frames_out.load(Ordering::Relaxed),
        "bytes_out": shared.bytes_out.load(Ordering::Relaxed),
        "identifies_on_live_session": ledger.identifies_on_live_session,
        "payloads_in_60_s_max": ledger.payloads_in_60_s_max,
        "commands": ledger.commands.iter().map(|(op, n)| (op.to_string(), json!(n))).collect::<Map<_, _>>(),
        "closes": codes(&ledger.closes),
        "client_closes": codes(&ledger.client_closes),
        "rest": ledger.rest.iter().map(|(status, n)| (status.to_string(), json!(n))).collect::<Map<_, _>>(),
        "violations": violations.map(|v| json!({
            "at_ms": ms(v.at), "connection": v.connection, "shard_id": v.shard_id, "kind": format!("{:?}", v.kind),
        })).collect::<Vec<_>>(),
        "identifies": identifies.map(|i| json!({
            "at_ms": ms(i.at), "shard": [i.shard_id, i.shard_count], "bucket": i.bucket, "accepted": i.accepted,
        })).collect::<Vec<_>>(),
        "sessions": sessions.map(|(index, s)| json!({
            "session": index, "shard": [s.shard_id, s.shard_count], "last_seq": s.last_seq, "resumes": s.resumes,
            "end": s.end.map(|end| format!("{end:?}")),
        })).collect::<Vec<_>>(),
        "overflow": ledger.overflow,
    })
}

fn commands(shared: &Shared) -> Value {
    let discord = shared.discord.lock();
    let list = discord.ledger().recent.iter().map(|c| {
        json!({
            "at_ms": c.at.saturating_duration_since(shared.started).as_millis() as u64,
            "connection": c.connection,
            "shard_id": c.shard_id,
            "op": c.op,
            "d": serde_json::from_str::<Value>(&c.d).unwrap_or(Value::Null),
        })
    });
    list.collect::<Vec<_>>().into()
}
