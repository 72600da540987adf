//! A cache query, held against a plain reading of the contract.

use rateway::cache::Question;
use rateway::relay::query::{Query, QueryError};
use serde::de::IgnoredAny;
use serde_json::Value;

/// Type, ids that it needs, ids that it reads.
const TYPES: [(&str, usize, usize); 22] = [
    ("CurrentUser", 0, 0),
    ("GuildChannel", 1, 1),
    ("Emoji", 1, 1),
    ("Group", 1, 1),
    ("Guild", 1, 1),
    ("Member", 2, 2),
    ("Message", 2, 2),
    ("Presence", 2, 2),
    ("PrivateChannel", 1, 1),
    ("Role", 1, 1),
    ("User", 1, 1),
    ("VoiceChannelStates", 1, 1),
    ("VoiceState", 2, 2),
    ("GuildChannels", 1, 1),
    ("GuildRoles", 1, 1),
    ("GuildEmojis", 1, 1),
    ("GuildMembers", 1, 3),
    ("Thread", 1, 1),
    ("Sticker", 1, 1),
    ("StageInstance", 1, 1),
    ("ScheduledEvent", 1, 1),
    ("Stats", 0, 0),
];

fn id(value: &Value) -> Option<u64> {
    match value {
        Value::String(text) if text.bytes().all(|byte| byte.is_ascii_digit()) => text.parse().ok(),
        other => other.as_u64(),
    }
}

/// What the contract says of a body.
fn plain(body: &Value) -> Option<(Question, &str)> {
    let body = body.as_object()?;
    let (name, needed, read) =
        *TYPES.iter().find(|(name, _, _)| body.get("type").is_some_and(|t| t == name))?;
    let empty = Vec::new();
    let arguments = match body.get("arguments") {
        None => &empty,
        Some(arguments) => arguments.as_array()?,
    };
    let ids: Vec<u64> = arguments.iter().take(read).map(id).collect::<Option<_>>()?;
    let key = body.get("return_routing_key")?.as_str()?;
    if ids.len() < needed || key.len() > 255 {
        return None;
    }
    Some((Question::new(name, &ids).expect("a known type with its ids"), key))
}

/// One run.
pub fn run(bytes: &[u8]) {
    let query = Query::parse(bytes);
    if query.is_ok() {
        assert!(serde_json::from_slice::<IgnoredAny>(bytes).is_ok(), "passed what is not JSON");
    }
    // A key that comes twice is refused here and has its last value there; what only `Value` refuses (depth, odd
    // escapes in what is skipped) is not worth refusing.
    if matches!(&query, Err(QueryError::Json(error)) if error.to_string().contains("duplicate field")) {
        return;
    }
    if let Ok(value) = serde_json::from_slice::<Value>(bytes) {
        let query = query.ok();
        let found = query.as_ref().map(|query| (query.question, &*query.return_routing_key));
        assert_eq!(found, plain(&value));
    }
}
