//! Cache queries of workers: what they ask and where the answer goes.

use std::fmt;

use serde::Deserialize;

/// The types of the original rateway, in exact case, with how many ids each takes.
const TYPES: [(&str, usize); 13] = [
    ("CurrentUser", 0),
    ("GuildChannel", 1),
    ("Emoji", 1),
    ("Group", 1),
    ("Guild", 1),
    ("Member", 2),
    ("Message", 2),
    ("Presence", 2),
    ("PrivateChannel", 1),
    ("Role", 1),
    ("User", 1),
    ("VoiceChannelStates", 1),
    ("VoiceState", 2),
];

/// The longest routing key, a short string of AMQP.
const ROUTING_KEY_BYTES_MAX: usize = 255;

/// A query that can be answered.
#[derive(Debug, PartialEq, Eq)]
pub struct Query {
    /// One of the contract's types.
    pub kind: &'static str,
    /// As many ids as the type takes; surplus ones are left out.
    pub arguments: Vec<u64>,
    /// The routing key of the answer, on the exchange that the query came by.
    pub return_routing_key: String,
}

#[derive(Deserialize)]
struct Raw {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    arguments: Vec<Id>,
    return_routing_key: String,
}

/// An id as a JSON integer or a decimal string.
#[derive(Deserialize)]
#[serde(untagged)]
enum Id {
    Number(u64),
    Text(String),
}

/// Why a query is not answered.
#[derive(Debug)]
pub enum QueryError {
    /// Not JSON of the expected shape.
    Json(serde_json::Error),
    /// No such type.
    UnknownType(String),
    /// Too few arguments, or one that is no id.
    Arguments {
        /// The query's type.
        kind: &'static str,
        /// How many ids it takes.
        expected: usize,
    },
    /// The routing key is longer than AMQP allows.
    RoutingKey(usize),
}

impl fmt::Display for QueryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            QueryError::Json(error) => write!(f, "not a query: {error}"),
            QueryError::UnknownType(kind) => write!(f, "unknown type {kind:?}"),
            QueryError::Arguments { kind, expected } => write!(f, "{kind} takes {expected} ids"),
            QueryError::RoutingKey(bytes) => {
                write!(f, "return_routing_key has {bytes} bytes, the most is {ROUTING_KEY_BYTES_MAX}")
            }
        }
    }
}

impl Query {
    /// Reads a query's body.
    ///
    /// # Errors
    /// When it is not one.
    pub fn parse(body: &[u8]) -> Result<Query, QueryError> {
        let raw: Raw = serde_json::from_slice(body).map_err(QueryError::Json)?;
        let Some(&(kind, expected)) = TYPES.iter().find(|(name, _)| *name == raw.kind) else {
            // A type's name is short; what is not one is not worth repeating in full.
            return Err(QueryError::UnknownType(raw.kind.chars().take(40).collect()));
        };
        if raw.return_routing_key.len() > ROUTING_KEY_BYTES_MAX {
            return Err(QueryError::RoutingKey(raw.return_routing_key.len()));
        }
        let arguments: Option<Vec<u64>> = raw
            .arguments
            .into_iter()
            .take(expected)
            .map(|id| match id {
                Id::Number(id) => Some(id),
                Id::Text(text) => text.parse().ok(),
            })
            .collect();
        match arguments {
            Some(arguments) if arguments.len() == expected => {
                Ok(Query { kind, arguments, return_routing_key: raw.return_routing_key })
            }
            _ => Err(QueryError::Arguments { kind, expected }),
        }
    }
}

/// The body of an answer on `reply_to` to a query that cannot be answered.
pub fn error_body(error: &QueryError) -> Vec<u8> {
    serde_json::json!({ "ok": false, "error": error.to_string() }).to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Query, String> {
        Query::parse(text.as_bytes()).map_err(|error| error.to_string())
    }

    #[test]
    fn reads_integers_strings_and_ignores_what_is_too_much() {
        let expected = Query { kind: "Member", arguments: vec![1, u64::MAX], return_routing_key: "k".into() };
        let text = r#"{"type":"Member","arguments":[1,"18446744073709551615",3],"return_routing_key":"k","more":{}}"#;
        assert_eq!(parse(text), Ok(expected));
        let text = r#"{"type":"CurrentUser","return_routing_key":"k"}"#;
        assert_eq!(parse(text).map(|query| query.arguments), Ok(vec![]));
    }

    #[test]
    fn refuses_with_a_reason() {
        let long =
            format!(r#"{{"type":"Guild","arguments":[1],"return_routing_key":"{}"}}"#, "k".repeat(256));
        for (text, reason) in [
            ("", "not a query"),
            (r#"{"type":"guild","arguments":[1],"return_routing_key":"k"}"#, "unknown type \"guild\""),
            (r#"{"type":"Guild","arguments":[],"return_routing_key":"k"}"#, "Guild takes 1 ids"),
            (r#"{"type":"Guild","arguments":["x"],"return_routing_key":"k"}"#, "Guild takes 1 ids"),
            (r#"{"type":"Guild","arguments":[-1],"return_routing_key":"k"}"#, "not a query"),
            (r#"{"type":"Guild","arguments":[1]}"#, "return_routing_key"),
            (&long, "256 bytes"),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}
