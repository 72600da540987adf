//! `rateway cache`: one question, its answer, the end.

use std::io::{self, IsTerminal, Write};

use serde_json::json;

use super::arguments::Cache;
use super::session::Session;
use super::{Failure, output};
use crate::amqp::worker::{Message, Request};
use crate::config::ToolsConfig;
use crate::relay::topology;

/// Where the answer goes besides: the contract wants a key, and nothing is bound to this one.
const UNREAD_KEY: &str = "rateway-cache";

pub(super) fn run(asked: &Cache, config: &ToolsConfig) -> Result<(), Failure> {
    let mut session = Session::connect(config, "cache")?;
    let exchange = topology::exchange(asked.cluster);
    let queue = topology::incoming_queue(asked.cluster);
    require(&mut session, &exchange, &queue)?;
    let replies = own_queue(&mut session)?;
    let query =
        json!({ "type": asked.kind, "arguments": asked.ids, "return_routing_key": UNREAD_KEY }).to_string();
    let request = Request {
        exchange: &exchange,
        routing_key: topology::QUERY_KEY,
        header: None,
        reply_to: &replies,
        correlation_id: "1",
        body: query.as_bytes(),
    };
    let answer = session.ask(&request, asked.timeout)?;
    let blocked = blocked(&session);
    session.close();
    let Some(answer) = answer else {
        let ms = asked.timeout.as_millis();
        return Err(Failure::Failed(format!("no answer from {exchange} within {ms} ms{blocked}")));
    };
    show(asked, &answer)
}

fn show(asked: &Cache, answer: &Message) -> Result<(), Failure> {
    if !answer.has_found {
        let text = String::from_utf8_lossy(&answer.body);
        return Err(Failure::Failed(error_text(&text).unwrap_or_else(|| output::harmless(&text))));
    }
    if answer.body.is_empty() {
        let ids: Vec<String> = asked.ids.iter().map(u64::to_string).collect();
        let what = [asked.kind.clone()].into_iter().chain(ids).collect::<Vec<_>>().join(" ");
        return Err(Failure::NotHeld(format!("{what} is not held, says cluster {}", asked.cluster)));
    }
    let terminal = io::stdout().is_terminal();
    let mut text = if terminal { output::pretty(&answer.body) } else { answer.body.clone() };
    text.push(b'\n');
    // A pipe that is closed early is fine.
    let _ = io::stdout().lock().write_all(&text);
    Ok(())
}

/// The words of `{"ok":false,"error":".."}`.
pub(super) fn error_text(body: &str) -> Option<String> {
    let answer: serde_json::Value = serde_json::from_str(body).ok()?;
    Some(output::harmless(answer.get("error")?.as_str()?))
}

/// Fails unless a rateway reads what is sent to this cluster: better than to wait for nobody.
fn require(session: &mut Session, exchange: &str, queue: &str) -> Result<(), Failure> {
    if !session.has_exchange(exchange)? {
        return Err(Failure::Failed(format!(
            "there is no exchange {exchange}: no rateway with that cluster has used this broker"
        )));
    }
    if session.readers(queue)? == 0 {
        return Err(Failure::Failed(format!("nobody reads {queue}: no rateway runs that cluster now")));
    }
    Ok(())
}

/// A queue for answers, consumed.
pub(super) fn own_queue(session: &mut Session) -> Result<String, Failure> {
    // An answer or two, of 4 MiB at most.
    let queue = session.own_queue(100, 64 << 20)?;
    session.consume(&queue, 10)?;
    Ok(queue)
}

/// Why there may be no answer.
pub(super) fn blocked(session: &Session) -> String {
    session.blocked().map_or(String::new(), |reason| format!("; the broker is blocked: {reason}"))
}
