//! `rateway send`: a gateway command to the cluster that has the shard, and what is answered.
//!
//! Which cluster that is follows from SHARDS_PER_CLUSTER. Should the operator's be another than the gateway's, or a
//! guild be named, the others are asked in turn: a cluster refuses what is not its own, and does nothing with it.

use std::io::{self, Read, Write};

use super::arguments::{Send, Target};
use super::cache::{blocked, error_text, own_queue};
use super::session::Session;
use super::{Failure, output};
use crate::amqp::worker::{Message, Request};
use crate::config::ToolsConfig;
use crate::relay::topology;

/// rateway refuses what is longer than Discord takes (4096) in words; above this it would not even look.
const PAYLOAD_BYTES_MAX: usize = 64 * 1024;
/// How a refusal by the wrong cluster ends.
const NOT_MINE: &str = "is not of this cluster";

pub(super) fn run(asked: &Send, config: &ToolsConfig) -> Result<(), Failure> {
    let payload = payload(asked)?;
    let mut session = Session::connect(config, "send")?;
    let replies = own_queue(&mut session)?;
    let answer = match asked.cluster {
        Some(cluster) => match send(&mut session, asked, &payload, &replies, cluster)? {
            Sent::Answer(answer) => Ok(answer),
            Sent::NoCluster(why) => Err(why),
        },
        None => search(&mut session, asked, &payload, &replies, config.shards_per_cluster)?,
    };
    session.close();
    let answer = answer.map_err(Failure::Failed)?;
    show(&answer)
}

/// What became of a command.
enum Sent {
    Answer(Message),
    /// There is no such cluster, or nobody runs it.
    NoCluster(String),
}

/// Asks the cluster that should have the shard, then all others, until one does not say that it is not its own.
fn search(
    session: &mut Session,
    asked: &Send,
    payload: &[u8],
    replies: &str,
    per_cluster: u32,
) -> Result<Result<Message, String>, Failure> {
    let likely = match asked.target {
        Target::Shard(shard) => (shard / per_cluster.max(1)).checked_add(1),
        Target::Guild(_) => None,
    };
    let mut refusal = None;
    let mut absent = None;
    if let Some(cluster) = likely {
        match send(session, asked, payload, replies, cluster)? {
            Sent::Answer(answer) if is_other(&answer) => refusal = Some(answer),
            Sent::Answer(answer) => return Ok(Ok(answer)),
            Sent::NoCluster(why) => absent = Some(why),
        }
    }
    for cluster in (1..).take_while(|cluster| *cluster < u32::MAX) {
        // Clusters are numbered without holes, so the first exchange that is missing is the end.
        if !session.has_exchange(&topology::exchange(cluster))? {
            break;
        }
        if Some(cluster) == likely {
            continue;
        }
        match send(session, asked, payload, replies, cluster)? {
            Sent::Answer(answer) if is_other(&answer) => refusal = Some(answer),
            Sent::Answer(answer) => return Ok(Ok(answer)),
            Sent::NoCluster(why) => absent = absent.or(Some(why)),
        }
    }
    // A refusal of the wrong cluster would mislead where the right one does not run.
    Ok(match (absent, refusal) {
        (Some(why), None) => Err(why),
        (_, Some(refusal)) => Ok(refusal),
        (None, None) => Err("there is no exchange rateway-1: no rateway has used this broker".to_owned()),
    })
}

fn send(
    session: &mut Session,
    asked: &Send,
    payload: &[u8],
    replies: &str,
    cluster: u32,
) -> Result<Sent, Failure> {
    let exchange = topology::exchange(cluster);
    let queue = topology::incoming_queue(cluster);
    if !session.has_exchange(&exchange)? {
        return Ok(Sent::NoCluster(format!("there is no exchange {exchange}: there is no such cluster")));
    }
    if session.readers(&queue)? == 0 {
        return Ok(Sent::NoCluster(format!("nobody reads {queue}: no rateway runs that cluster now")));
    }
    let (name, value) = match asked.target {
        Target::Shard(shard) => ("shard_id", shard.to_string()),
        Target::Guild(guild) => ("guild_id", guild.to_string()),
    };
    let request = Request {
        exchange: &exchange,
        routing_key: topology::COMMAND_KEY,
        header: Some((name, &value)),
        reply_to: replies,
        correlation_id: &exchange,
        body: payload,
    };
    let answer = session.ask(&request, asked.timeout)?;
    answer.map(Sent::Answer).ok_or_else(|| {
        let (ms, blocked) = (asked.timeout.as_millis(), blocked(session));
        Failure::Failed(format!("no answer from {exchange} within {ms} ms{blocked}; it may still be sent"))
    })
}

fn is_other(answer: &Message) -> bool {
    error_text(&answer.body).is_some_and(|error| error.contains(NOT_MINE))
}

fn show(answer: &Message) -> Result<(), Failure> {
    let text = String::from_utf8_lossy(&answer.body);
    let mut line = output::harmless(&text);
    line.push('\n');
    // A pipe that is closed early is fine.
    let _ = io::stdout().lock().write_all(line.as_bytes());
    let ok = serde_json::from_str::<serde_json::Value>(&text).is_ok_and(|answer| answer["ok"] == true);
    if ok { Ok(()) } else { Err(Failure::Told) }
}

fn payload(asked: &Send) -> Result<Vec<u8>, Failure> {
    let bytes = match &asked.payload {
        Some(text) => text.clone().into_bytes(),
        None => {
            let mut bytes = Vec::new();
            let limit = PAYLOAD_BYTES_MAX as u64 + 1;
            io::stdin()
                .lock()
                .take(limit)
                .read_to_end(&mut bytes)
                .map_err(|error| Failure::Failed(format!("standard input cannot be read: {error}")))?;
            bytes
        }
    };
    if bytes.len() > PAYLOAD_BYTES_MAX {
        return Err(Failure::Failed("the payload is far over the 4096 bytes that Discord takes".to_owned()));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::NOT_MINE;

    /// The words by which the wrong cluster is known are those of the gateway.
    #[test]
    fn the_refusal_of_a_wrong_cluster_is_known() {
        let error = crate::relay::command::CommandError::OtherCluster { shard_id: 9, shards: 0..8 };
        assert!(error.to_string().contains(NOT_MINE));
    }
}
