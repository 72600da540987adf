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
    if let Some(error) = error_text(&answer.body) {
        return Err(Failure::Failed(error));
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

/// The words of `{"ok":false,"error":".."}`, which no object of Discord's looks like.
pub(super) fn error_text(answer: &[u8]) -> Option<String> {
    // Objects may have megabytes: they are not parsed to see that they are none.
    const ERROR_BYTES_MAX: usize = 64 * 1024;
    if answer.len() > ERROR_BYTES_MAX {
        return None;
    }
    let answer: serde_json::Value = serde_json::from_slice(answer).ok()?;
    if answer.get("ok")? != false {
        return None;
    }
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

#[cfg(test)]
mod tests {
    use super::error_text;

    #[test]
    fn errors_are_told_from_objects() {
        assert_eq!(error_text(br#"{"error":"no\u001b","ok":false}"#).as_deref(), Some("no "));
        for body in
            [&b""[..], b"[]", b"{\"ok\":true}", b"{\"id\":\"1\",\"error\":\"x\"}", b"\xff", b"{\"ok\":false}"]
        {
            assert_eq!(error_text(body), None, "{body:?}");
        }
    }
}
