//! Gateway commands of workers: to which shard a message goes, and what its sender is told.

use std::fmt;
use std::ops::Range;

use crate::amqp::{Delivery, Header};
use crate::gateway::command::{Refusal, check_worker_command};

use super::topology::shard_of_guild;

/// Why a message of a worker reaches no shard.
#[derive(Debug, PartialEq)]
pub enum CommandError {
    /// Neither `shard_id` nor `guild_id` is among the headers.
    NoShard,
    /// The header is not a number of the kind that it names.
    BadHeader(&'static str),
    /// The shard belongs to another cluster, or to none.
    OtherCluster {
        /// What was asked for.
        shard_id: u64,
        /// What this cluster holds.
        shards: Range<u32>,
    },
    /// The body may not go to Discord.
    Body(Refusal),
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CommandError::NoShard => f.write_str("neither a shard_id nor a guild_id header"),
            CommandError::BadHeader(name) => write!(f, "the header {name} is not a whole number from 0 up"),
            CommandError::OtherCluster { shard_id, shards } => {
                write!(
                    f,
                    "shard {shard_id} is not of this cluster, which has {} to {}",
                    shards.start,
                    shards.end - 1
                )
            }
            CommandError::Body(refusal) => write!(f, "{refusal}"),
        }
    }
}

/// Finds the shard that `delivery` is for and checks its body.
///
/// # Errors
/// When it names no shard of this cluster or its body may not be forwarded.
pub fn route(delivery: &Delivery, shards: &Range<u32>, shard_count: u32) -> Result<u32, CommandError> {
    let shard_id = match (&delivery.shard_id, &delivery.guild_id) {
        (Some(header), _) => number(header).ok_or(CommandError::BadHeader("shard_id"))?,
        (None, Some(header)) => {
            let guild_id = number(header).ok_or(CommandError::BadHeader("guild_id"))?;
            u64::from(shard_of_guild(guild_id, shard_count))
        }
        (None, None) => return Err(CommandError::NoShard),
    };
    let shard_id = u32::try_from(shard_id)
        .ok()
        .filter(|id| shards.contains(id))
        .ok_or_else(|| CommandError::OtherCluster { shard_id, shards: shards.clone() })?;
    check_worker_command(&delivery.body).map_err(CommandError::Body)?;
    Ok(shard_id)
}

fn number(header: &Header) -> Option<u64> {
    match header {
        Header::Integer(value) => u64::try_from(*value).ok(),
        Header::Text(text) if text.bytes().all(|byte| byte.is_ascii_digit()) => text.parse().ok(),
        Header::Text(_) | Header::Other => None,
    }
}

/// The body of an answer on `reply_to`: `{"ok":true}` or `{"ok":false,"error":".."}`.
pub fn answer_body(result: Result<(), &dyn fmt::Display>) -> Vec<u8> {
    match result {
        Ok(()) => br#"{"ok":true}"#.to_vec(),
        Err(error) => serde_json::json!({ "ok": false, "error": error.to_string() }).to_string().into_bytes(),
    }
}
