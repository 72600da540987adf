//! Cache queries of workers: what they ask and where the answer goes.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{self, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::cache::question::ARGUMENTS_MAX;
use crate::cache::{Question, QuestionError};

/// The longest routing key, a short string of AMQP.
const ROUTING_KEY_BYTES_MAX: usize = 255;

/// A query that can be answered. Borrows from the body unless the key has escapes.
#[derive(Debug, PartialEq, Eq)]
pub struct Query<'a> {
    /// What is asked.
    pub question: Question,
    /// The routing key of the answer, on the exchange that the query came by.
    pub return_routing_key: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Raw<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(default)]
    arguments: Arguments,
    #[serde(borrow)]
    return_routing_key: Cow<'a, str>,
}

/// The first arguments, as many as any question reads; the others are skipped.
#[derive(Default)]
struct Arguments {
    ids: [Option<u64>; ARGUMENTS_MAX],
    len: usize,
}

impl<'de> Deserialize<'de> for Arguments {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Arguments, D::Error> {
        struct List;
        impl<'de> Visitor<'de> for List {
            type Value = Arguments;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of ids")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Arguments, A::Error> {
                let mut arguments = Arguments::default();
                while arguments.len < ARGUMENTS_MAX {
                    let Some(Id(id)) = list.next_element()? else { return Ok(arguments) };
                    arguments.ids[arguments.len] = id;
                    arguments.len += 1;
                }
                while list.next_element::<IgnoredAny>()?.is_some() {}
                Ok(arguments)
            }
        }
        deserializer.deserialize_seq(List)
    }
}

/// An id as a JSON integer or a decimal string; any other value is read as none.
struct Id(Option<u64>);

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Id, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Id;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an id")
            }

            fn visit_u64<E: de::Error>(self, id: u64) -> Result<Id, E> {
                Ok(Id(Some(id)))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Id, E> {
                // `parse` alone would take a sign.
                let digits = text.bytes().all(|byte| byte.is_ascii_digit());
                Ok(Id(text.parse().ok().filter(|_| digits)))
            }

            fn visit_i64<E: de::Error>(self, _: i64) -> Result<Id, E> {
                Ok(Id(None))
            }

            fn visit_f64<E: de::Error>(self, _: f64) -> Result<Id, E> {
                Ok(Id(None))
            }

            fn visit_bool<E: de::Error>(self, _: bool) -> Result<Id, E> {
                Ok(Id(None))
            }

            fn visit_unit<E: de::Error>(self) -> Result<Id, E> {
                Ok(Id(None))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Id, A::Error> {
                while list.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Id(None))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Id, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Id(None))
            }
        }
        deserializer.deserialize_any(Any)
    }
}

/// Why a query is not answered.
#[derive(Debug)]
pub enum QueryError {
    /// Not text.
    Utf8,
    /// Not JSON of the expected shape.
    Json(serde_json::Error),
    /// No such type, or not its arguments.
    Question(QuestionError),
    /// The routing key is longer than AMQP allows.
    RoutingKey(usize),
}

impl fmt::Display for QueryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            QueryError::Utf8 => f.write_str("not a query: not UTF-8"),
            QueryError::Json(error) => write!(f, "not a query: {error}"),
            QueryError::Question(error) => error.fmt(f),
            QueryError::RoutingKey(bytes) => {
                write!(f, "return_routing_key has {bytes} bytes, the most is {ROUTING_KEY_BYTES_MAX}")
            }
        }
    }
}

impl Query<'_> {
    /// Reads a query's body.
    ///
    /// # Errors
    /// When it is not one.
    pub fn parse(body: &[u8]) -> Result<Query<'_>, QueryError> {
        // As a whole, since what is skipped would not be checked.
        let text = simdutf8::basic::from_utf8(body).map_err(|_| QueryError::Utf8)?;
        let raw: Raw<'_> = serde_json::from_str(text).map_err(QueryError::Json)?;
        let arguments = &raw.arguments.ids[..raw.arguments.len];
        let question = Question::read(&raw.kind, arguments).map_err(QueryError::Question)?;
        if raw.return_routing_key.len() > ROUTING_KEY_BYTES_MAX {
            return Err(QueryError::RoutingKey(raw.return_routing_key.len()));
        }
        Ok(Query { question, return_routing_key: raw.return_routing_key })
    }
}

/// The body of an answer on `reply_to` to a query that cannot be answered.
pub fn error_body(error: &QueryError) -> Vec<u8> {
    serde_json::json!({ "ok": false, "error": error.to_string() }).to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Query<'_>, String> {
        Query::parse(text.as_bytes()).map_err(|error| error.to_string())
    }

    #[test]
    fn reads_integers_strings_and_ignores_what_is_too_much() {
        let question = Question::Member { guild: 1, user: u64::MAX };
        let text = r#"{"type":"Member","arguments":[1,"18446744073709551615",3],"return_routing_key":"k","more":{}}"#;
        assert_eq!(parse(text), Ok(Query { question, return_routing_key: "k".into() }));
        let text = r#"{"type":"CurrentUser","return_routing_key":"k"}"#;
        assert_eq!(parse(text).map(|query| query.question), Ok(Question::CurrentUser));
    }

    #[test]
    fn surplus_arguments_may_be_anything() {
        for surplus in [
            "null",
            "true",
            "-1",
            "1.5",
            "1e300",
            "18446744073709551616",
            "\"x\"",
            "\"\\u0041\"",
            "{}",
            "{\"a\":[{}]}",
            "[[],2]",
            "1,2,3,null,\"x\",{},[]",
        ] {
            let text = format!(r#"{{"type":"Guild","arguments":["5",{surplus}],"return_routing_key":"k"}}"#);
            assert_eq!(parse(&text).map(|query| query.question), Ok(Question::Guild(5)), "{surplus}");
            let text = format!(r#"{{"type":"Stats","arguments":[{surplus}],"return_routing_key":"k"}}"#);
            assert_eq!(parse(&text).map(|query| query.question), Ok(Question::Stats), "{surplus}");
        }
        // Depth costs neither stack nor time.
        let deep = "[".repeat(10_000) + &"]".repeat(10_000);
        let text = format!(r#"{{"type":"Stats","arguments":[{deep}],"return_routing_key":"k","x":{deep}}}"#);
        assert_eq!(parse(&text).map(|query| query.question), Ok(Question::Stats));
    }

    #[test]
    fn ids_are_digits_and_nothing_else() {
        let with = |id: &str| {
            let text = format!(r#"{{"type":"Role","arguments":[{id}],"return_routing_key":"k"}}"#);
            parse(&text).ok().map(|query| query.question)
        };
        for (id, number) in [
            ("7", 7),
            ("\"7\"", 7),
            ("\"007\"", 7),
            ("\"\\u0037\"", 7),
            ("0", 0),
            ("18446744073709551615", u64::MAX),
            ("\"18446744073709551615\"", u64::MAX),
        ] {
            assert_eq!(with(id), Some(Question::Role(number)), "{id}");
        }
        for id in [
            "\"+5\"",
            "\"-5\"",
            "\"\"",
            "\" 5\"",
            "\"5 \"",
            "\"5.0\"",
            "\"0x5\"",
            "\"٥\"",
            "-0",
            "-5",
            "5.0",
            "5e0",
            "18446744073709551616",
            "\"18446744073709551616\"",
            "null",
            "true",
            "[5]",
            "{\"id\":5}",
        ] {
            assert_eq!(with(id), None, "{id}");
        }
    }

    #[test]
    fn a_key_with_escapes_is_read_too() {
        let query = parse(r#"{"return_routing_key":"a\u00e9\n","type":"\u0053tats"}"#);
        assert_eq!(query, Ok(Query { question: Question::Stats, return_routing_key: "aé\n".into() }));
        let plain = parse(r#"{"return_routing_key":"","type":"Stats"}"#).expect("an empty key is a key");
        assert!(matches!(plain.return_routing_key, Cow::Borrowed("")), "no copy");
    }

    #[test]
    fn refuses_with_a_reason() {
        let long =
            format!(r#"{{"type":"Guild","arguments":[1],"return_routing_key":"{}"}}"#, "k".repeat(256));
        for (text, reason) in [
            ("", "not a query"),
            ("[]", "not a query"),
            (r#"{"type":"guild","arguments":[1],"return_routing_key":"k"}"#, "unknown type \"guild\""),
            (r#"{"type":"Guild","arguments":[],"return_routing_key":"k"}"#, "Guild takes 1 ids"),
            (r#"{"type":"Guild","arguments":["x"],"return_routing_key":"k"}"#, "Guild takes 1 ids"),
            (r#"{"type":"Guild","arguments":[-1],"return_routing_key":"k"}"#, "Guild takes 1 ids"),
            (r#"{"type":"GuildMembers","arguments":[1,"x"],"return_routing_key":"k"}"#, "GuildMembers takes"),
            (r#"{"type":"Stats","arguments":null,"return_routing_key":"k"}"#, "a list of ids"),
            (r#"{"type":"Stats","arguments":{},"return_routing_key":"k"}"#, "a list of ids"),
            (r#"{"type":1,"return_routing_key":"k"}"#, "not a query"),
            (r#"{"type":"Stats","type":"Stats","return_routing_key":"k"}"#, "duplicate"),
            (r#"{"type":"Stats","return_routing_key":null}"#, "not a query"),
            (r#"{"type":"Stats","return_routing_key":"k"} x"#, "trailing"),
            (r#"{"type":"Guild","arguments":[1]}"#, "return_routing_key"),
            (&long, "256 bytes"),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.contains(reason), "{text}: {error}");
        }
        let error = Query::parse(b"{\"type\":\"Stats\",\"return_routing_key\":\"k\",\"x\":\"\xff\"}");
        assert!(matches!(error, Err(QueryError::Utf8)));
    }
}
