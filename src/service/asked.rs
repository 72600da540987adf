//! What a request asks for: whose gate, which shard, and the form of the answer.
//!
//! | form | from | shard | buckets | gate |
//! |---|---|---|---|---|
//! | any method, path, headers, body | twilight-rs/gateway-queue, PluralKit/gateway-queue | `?shard=N` | the service's own | the service's own |
//! | `/k/KEY` | rateway | `?shard=N` | `&max_concurrency=M&total=T` | KEY's |
//! | POST, JSON with `shard_id` and `token_hash` | WelcomerTeam/Sandwich-Daemon | in the body | in the body | the token's |
//!
//! With `feedback=true` the client tells what became of its permit, by requests with the number that the answer gave it:
//! `.../identified?permit=7`, `answered` or `returned`. A client that can ask Discord tells what that said of session
//! starts, too: `&remaining=R&reset_after=MS&age=MS`, with the age of the answer.

use serde::Deserialize;

use crate::http::server::Request;
use crate::queue::{Report, ToldLimit};

/// The longest key: a SHA-256 in hexadecimal digits.
pub const KEY_BYTES_MAX: usize = 64;

/// The form of the answer that a client understands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// The 45 bytes of twilight-rs/gateway-queue.
    Message,
    /// A JSON object with `success`, as Sandwich reads it.
    Success,
}

/// A wish to identify.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// The bot; `None` is the one that the service itself knows.
    pub key: Option<String>,
    /// The shard.
    pub shard_id: u32,
    /// How many buckets the bot has, where the client tells.
    pub max_concurrency: Option<u32>,
    /// How many session starts a day the bot has, where the client tells.
    pub total: Option<u32>,
    /// What Discord said of them, where the client tells.
    pub limit: Option<ToldLimit>,
    /// How it is answered.
    pub form: Form,
    /// Whether the client will tell what became of its permit.
    pub feedback: bool,
    /// What was not understood and has a default: for the log.
    pub warning: Option<&'static str>,
}

/// The body that Sandwich sends; the token that it also has is not even looked at.
#[derive(Deserialize)]
struct Sandwich {
    shard_id: u32,
    token_hash: String,
    max_concurrency: Option<u32>,
}

impl Ask {
    /// Reads a request.
    ///
    /// # Errors
    /// When it asks for something that cannot be given, such as the gate of an impossible key. Whoever sent it is not
    /// answered.
    pub fn read(request: &Request) -> Result<Ask, &'static str> {
        let mut ask = Ask {
            key: key(request.path())?,
            shard_id: 0,
            max_concurrency: None,
            total: None,
            limit: None,
            form: Form::Message,
            feedback: false,
            warning: None,
        };
        if let Some(body) = sandwich(request) {
            if ask.key.is_none() {
                ask.key = Some(checked_key(&body.token_hash)?);
            }
            ask.shard_id = body.shard_id;
            ask.max_concurrency = body.max_concurrency;
            ask.form = Form::Success;
            return Ok(ask);
        }
        let (mut remaining, mut reset_after_ms, mut age_ms) = (None, None, None);
        let mut shard = Err("there is no shard in the query, so it counts as shard 0");
        for (name, value) in pairs(request.query().unwrap_or_default()) {
            match name {
                // The last one counts, as in the original.
                "shard" => {
                    shard = value.parse().map_err(|_| "the shard is no number, so it counts as shard 0")
                }
                "max_concurrency" => ask.max_concurrency = value.parse().ok(),
                "total" => ask.total = value.parse().ok(),
                "remaining" => remaining = value.parse().ok(),
                "reset_after" => reset_after_ms = value.parse().ok(),
                "age" => age_ms = value.parse().ok(),
                "feedback" => ask.feedback = value == "true",
                _ => {}
            }
        }
        if let (Some(total), Some(remaining), Some(reset_after_ms), Some(age_ms)) =
            (ask.total, remaining, reset_after_ms, age_ms)
        {
            ask.limit = Some(ToldLimit { total, remaining, reset_after_ms, age_ms });
        }
        match shard {
            Ok(shard_id) => ask.shard_id = shard_id,
            Err(warning) => ask.warning = Some(warning),
        }
        Ok(ask)
    }
}

/// Reads what became of a permit, and of which. Whatever names a permit is no wish for another.
///
/// # Errors
/// When it names one and says nothing of it.
pub fn report(request: &Request) -> Result<Option<(Report, u64)>, &'static str> {
    let mut pairs = pairs(request.query().unwrap_or_default());
    let Some((_, number)) = pairs.find(|(name, _)| *name == "permit") else { return Ok(None) };
    let report = request.path().rsplit('/').next().and_then(Report::named);
    match (report, number.parse()) {
        (Some(report), Ok(number)) => Ok(Some((report, number))),
        _ => Err("a report names a permit and says identified, answered or returned"),
    }
}

/// The key in `/k/KEY`; `None` for any other path.
fn key(path: &str) -> Result<Option<String>, &'static str> {
    let Some(rest) = path.strip_prefix("/k/") else { return Ok(None) };
    checked_key(rest.strip_suffix('/').unwrap_or(rest)).map(Some)
}

fn checked_key(key: &str) -> Result<String, &'static str> {
    let is_clean = key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    if key.is_empty() || key.len() > KEY_BYTES_MAX || !is_clean {
        return Err("a key has 1 to 64 letters, digits, - and _");
    }
    // Hashes are written with digits of either case.
    Ok(key.to_ascii_lowercase())
}

fn sandwich(request: &Request) -> Option<Sandwich> {
    let is_json = request.content_type.as_deref().is_some_and(|kind| kind.starts_with("application/json"));
    (request.method == "POST" && is_json).then(|| serde_json::from_slice(&request.body).ok()).flatten()
}

/// The pairs of a query. Numbers and plain words need no decoding, and nothing else is asked for.
fn pairs(query: &str) -> impl Iterator<Item = (&str, &str)> {
    query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::server::{Connection, Limits};

    fn request(text: &str) -> Request {
        let mut connection = Connection::new(Limits::default());
        connection.receive(text.as_bytes()).expect("bytes");
        connection.poll_request().expect("a request").expect("a whole one")
    }

    fn ask(target: &str) -> Result<Ask, &'static str> {
        Ask::read(&request(&format!("GET {target} HTTP/1.1\r\nHost: q\r\n\r\n")))
    }

    #[test]
    fn whatever_is_asked_for_is_a_permit() {
        for target in ["/", "/x/y?z", "http://queue/?a=b", "*"] {
            let ask = ask(target).expect("an ask");
            assert_eq!((ask.key, ask.shard_id, ask.form), (None, 0, Form::Message), "{target}");
            assert!(ask.warning.is_some());
        }
        for (target, shard_id) in [("/?shard=42", 42), ("/q?a=1&shard=3&b", 3), ("/?shard=1&shard=2", 2)] {
            let ask = ask(target).expect("an ask");
            assert_eq!((ask.shard_id, ask.warning), (shard_id, None), "{target}");
        }
        for target in ["/?shard=", "/?shard=-1", "/?shard=x", "/?shard=99999999999", "/?shard"] {
            let ask = ask(target).expect("an ask");
            assert!(ask.shard_id == 0 && ask.warning.is_some(), "{target}");
        }
    }

    #[test]
    fn keys_name_gates() {
        let found = ask("/k/AB12-_?shard=7&max_concurrency=16&total=2000&feedback=true").expect("an ask");
        assert_eq!(found.key.as_deref(), Some("ab12-_"));
        assert_eq!((found.shard_id, found.max_concurrency, found.total), (7, Some(16), Some(2000)));
        assert!(found.feedback && found.limit.is_none());
        let told = "/k/a?shard=7&total=1000&remaining=5&reset_after=60000&age=3";
        let limit = ToldLimit { total: 1000, remaining: 5, reset_after_ms: 60_000, age_ms: 3 };
        assert_eq!(ask(told).expect("an ask").limit, Some(limit));
        assert_eq!(ask(&told.replace("&age=3", "")).expect("an ask").limit, None);
        assert_eq!(ask("/k/x/").expect("an ask").key.as_deref(), Some("x"));
        assert_eq!(ask("/kitten").expect("an ask").key, None);
        let long = format!("/k/{}", "a".repeat(65));
        for target in ["/k/", "/k//", "/k/a/b", "/k/a%20b", "/k/a.b", &long] {
            assert!(ask(target).is_err(), "{target}");
        }
    }

    #[test]
    fn sandwich_is_understood() {
        let post = |kind: &str, body: &str| {
            let length = body.len();
            let text =
                format!("POST / HTTP/1.1\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n{body}");
            Ask::read(&request(&text))
        };
        let body = r#"{"shard_id":5,"shard_count":8,"token":"t","token_hash":"ABC","max_concurrency":2}"#;
        let found = post("application/json", body).expect("an ask");
        assert_eq!((found.key.as_deref(), found.shard_id, found.max_concurrency), (Some("abc"), 5, Some(2)));
        assert_eq!(found.form, Form::Success);
        // Anything else that is posted is no more than a request for a permit.
        for (kind, body) in
            [("text/plain", body), ("application/json", "{\"shard_id\":5}"), ("application/json", "")]
        {
            let found = post(kind, body).expect("an ask");
            assert_eq!((found.key, found.form), (None, Form::Message), "{kind} {body}");
        }
        assert!(post("application/json", &body.replace("ABC", "../x")).is_err());
    }

    #[test]
    fn reports() {
        let report = |target: &str| report(&request(&format!("POST {target} HTTP/1.1\r\n\r\n")));
        assert_eq!(report("/k/x/identified?permit=7"), Ok(Some((Report::Identified, 7))));
        assert_eq!(report("/answered?a=b&permit=8"), Ok(Some((Report::Answered, 8))));
        assert_eq!(report("/k/x/returned?permit=0"), Ok(Some((Report::Returned, 0))));
        // Any path is a wish, also one of these names.
        assert_eq!((report("/k/x"), report("/identified?shard=3")), (Ok(None), Ok(None)));
        for target in ["/?permit=7", "/identified?permit=x", "/identified?permit", "/sold?permit=1"] {
            assert!(report(target).is_err(), "{target}");
        }
    }
}
