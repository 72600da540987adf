//! What an answer to `GET /gateway/bot` means, and how long to wait before asking again: a function of the answer and
//! the number of attempts, without IO.
//!
//! ```text
//! 200, sensible            -> Ok
//! 401, 400, 403, 404, 3xx  -> Fatal: asking again would get the same answer, and 10,000 of them get the IP banned
//! 429 from Discord         -> wait the larger of `retry_after` and Retry-After; hours have been seen
//! 429 from Cloudflare      -> wait long: no Via header or no JSON, and it grows worse with every request
//! 5xx, 200 without sense, no answer at all -> wait with backoff and jitter
//! ```
//!
//! No wait is ever below [`WAIT_MIN`], so that no answer whatsoever makes this a loop.

use std::time::Duration;

use serde::Deserialize;

use crate::base::Rng;

/// The body of `GET /gateway/bot`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayBot {
    /// Where shards connect, as Discord wrote it.
    pub url: String,
    /// The recommended count of shards, 1 to [`SHARDS_MAX`].
    pub shards: u32,
    /// How many sessions may still be started.
    pub session_start_limit: SessionStartLimit,
}

/// `session_start_limit` of `GET /gateway/bot`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionStartLimit {
    /// Session starts allowed in 24 h.
    pub total: u32,
    /// Session starts left.
    pub remaining: u32,
    /// When `remaining` is `total` again, in milliseconds from now.
    pub reset_after_ms: u64,
    /// How many identify buckets there are, at least 1.
    pub max_concurrency: u32,
}

/// What came back.
#[derive(Clone, Debug, Default)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// The Retry-After header.
    pub retry_after: Option<String>,
    /// Whether there was a Via header: Discord's own answers carry one.
    pub via: bool,
    /// The body, at most [`BODY_BYTES_MAX`] of it.
    pub body: Vec<u8>,
}

/// What to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Go on with this.
    Ok(GatewayBot),
    /// Give up; the text says what the operator can do.
    Fatal(String),
    /// Ask again after the time, and not before.
    WaitThenRetry {
        /// How long.
        wait: Duration,
        /// Why, for the log.
        why: String,
    },
}

/// The longest body read. The real one has 200 bytes; error pages of proxies are longer, and their end says nothing.
pub const BODY_BYTES_MAX: u64 = 64 << 10;
/// The largest recommended count that is believed.
pub const SHARDS_MAX: u32 = 100_000;
/// Never ask again sooner, whatever the answer says.
pub const WAIT_MIN: Duration = Duration::from_secs(5);
/// Where backoff stops growing.
pub const BACKOFF_MAX: Duration = Duration::from_secs(5 * 60);
/// The wait after a block by Cloudflare that names no time. Its bans last from minutes to an hour.
pub const BLOCKED_WAIT: Duration = Duration::from_secs(15 * 60);
/// The wait after a 429 that names no time.
const LIMITED_WAIT: Duration = Duration::from_secs(60);
/// The longest wait believed; 23 hours have been seen. It keeps nonsense from overflowing.
const WAIT_MAX: Duration = Duration::from_secs(7 * 86_400);

/// What `reply` to the attempt number `attempt` (from 0) means.
pub fn decide(reply: &Reply, attempt: u32, rng: &mut Rng) -> Outcome {
    match reply.status {
        200 => match parse(&reply.body) {
            Ok(gateway_bot) => Outcome::Ok(gateway_bot),
            Err(fault) => {
                let why = format!("Discord's answer to GET /gateway/bot makes no sense: {fault}");
                Outcome::WaitThenRetry { wait: backoff(attempt, rng), why }
            }
        },
        401 => Outcome::Fatal(
            "Discord refuses the token (401 Unauthorized). Check DISCORD_TOKEN; resetting it in the developer portal \
             makes a new one"
                .to_owned(),
        ),
        429 => limited(reply, attempt, rng),
        403 if !is_json(&reply.body) => Outcome::WaitThenRetry {
            wait: at_least(BLOCKED_WAIT, asked_for(reply)),
            why: "this machine's address is blocked before Discord is reached (403 that is not Discord's)".to_owned(),
        },
        404 => Outcome::Fatal(
            "there is no /gateway/bot under DISCORD_API_URL (404 Not Found). It ends in /api/v10".to_owned(),
        ),
        status @ 300..=399 => Outcome::Fatal(format!(
            "the address in DISCORD_API_URL redirects elsewhere ({status}). The token is not sent after it; set the \
             final address"
        )),
        status @ (400 | 403 | 405..=407 | 409..=424 | 426..=428 | 431..=499) => Outcome::Fatal(format!(
            "Discord refuses GET /gateway/bot ({status}): {}",
            message(&reply.body)
        )),
        status => Outcome::WaitThenRetry {
            wait: at_least(backoff(attempt, rng), asked_for(reply)),
            why: format!("GET /gateway/bot was answered with status {status}"),
        },
    }
}

/// What to do when there was no answer, for the reason `why`.
pub fn no_reply(why: &str, attempt: u32, rng: &mut Rng) -> Outcome {
    let why = format!("no answer to GET /gateway/bot: {why}");
    Outcome::WaitThenRetry { wait: backoff(attempt, rng), why }
}

fn limited(reply: &Reply, attempt: u32, rng: &mut Rng) -> Outcome {
    let asked = asked_for(reply);
    if !reply.via || !is_json(&reply.body) {
        return Outcome::WaitThenRetry {
            wait: at_least(BLOCKED_WAIT, asked).max(backoff(attempt, rng)),
            why: "this machine's address is rate limited by Cloudflare, before Discord is reached (429 that is not \
                  Discord's)"
                .to_owned(),
        };
    }
    // Everybody who was told the same time would come back at the same time.
    let jitter = rng.duration(Duration::ZERO, Duration::from_secs(1));
    Outcome::WaitThenRetry {
        wait: (asked.unwrap_or(LIMITED_WAIT) + jitter).max(WAIT_MIN),
        why: "Discord rate limits GET /gateway/bot (429)".to_owned(),
    }
}

/// The larger of the body's `retry_after` and the header, of those that are there and make sense.
fn asked_for(reply: &Reply) -> Option<Duration> {
    #[derive(Deserialize)]
    struct Limited {
        retry_after: f64,
    }
    let body = serde_json::from_slice::<Limited>(&reply.body).ok().map(|limited| limited.retry_after);
    let header = reply.retry_after.as_deref().and_then(|text| text.trim().parse::<f64>().ok());
    body.into_iter()
        .chain(header)
        .filter(|seconds| seconds.is_finite() && *seconds >= 0.0)
        .map(|seconds| Duration::from_secs_f64(seconds.min(WAIT_MAX.as_secs_f64())))
        .max()
}

fn at_least(floor: Duration, asked: Option<Duration>) -> Duration {
    asked.map_or(floor, |asked| asked.max(floor))
}

/// 5 s, 10 s, 20 s ... up to [`BACKOFF_MAX`], of which up to half is added or not by chance.
fn backoff(attempt: u32, rng: &mut Rng) -> Duration {
    let whole = WAIT_MIN.saturating_mul(1 << attempt.min(10)).min(BACKOFF_MAX);
    whole + rng.duration(Duration::ZERO, whole / 2)
}

fn is_json(body: &[u8]) -> bool {
    serde_json::from_slice::<serde::de::IgnoredAny>(body).is_ok()
}

/// `message` of Discord's error body, fit for a log line.
fn message(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Refusal {
        message: String,
    }
    match serde_json::from_slice::<Refusal>(body) {
        Ok(refusal) => refusal.message.chars().take(200).collect(),
        Err(_) => "without a reason".to_owned(),
    }
}

/// The body, checked: what makes no sense here would make shards that make no sense.
fn parse(body: &[u8]) -> Result<GatewayBot, String> {
    #[derive(Deserialize)]
    struct Body {
        url: String,
        shards: u32,
        session_start_limit: Limit,
    }
    #[derive(Deserialize)]
    struct Limit {
        total: u32,
        remaining: u32,
        reset_after: u64,
        max_concurrency: u32,
    }
    let body: Body = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    let limit = body.session_start_limit;
    if !(1..=SHARDS_MAX).contains(&body.shards) {
        return Err(format!("{} shards", body.shards));
    }
    if !(1..=10_000).contains(&limit.max_concurrency) {
        return Err(format!("max_concurrency {}", limit.max_concurrency));
    }
    let host = body.url.strip_prefix("wss://").or_else(|| body.url.strip_prefix("ws://"));
    if host.is_none_or(|host| host.trim_end_matches('/').is_empty())
        || body.url.len() > 512
        || body.url.bytes().any(|b| !b.is_ascii_graphic())
    {
        return Err("its url is no WebSocket address".to_owned());
    }
    Ok(GatewayBot {
        url: body.url,
        shards: body.shards,
        session_start_limit: SessionStartLimit {
            total: limit.total,
            remaining: limit.remaining,
            reset_after_ms: limit.reset_after,
            max_concurrency: limit.max_concurrency,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(status: u16, body: &[u8]) -> Reply {
        Reply { status, retry_after: None, via: true, body: body.to_vec() }
    }

    fn corpus(name: &str) -> Vec<u8> {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/http").join(name);
        std::fs::read(path).unwrap()
    }

    fn wait(reply: &Reply, attempt: u32) -> Duration {
        match decide(reply, attempt, &mut Rng::new(1)) {
            Outcome::WaitThenRetry { wait, .. } => wait,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_answers_of_discord_are_understood() {
        let mut rng = Rng::new(1);
        for (name, shards, max_concurrency, remaining, reset_after_ms) in [
            ("gateway_bot.200.json", 9, 1, 999, 14_400_000),
            ("gateway_bot.200.fresh.json", 1, 1, 1000, 0),
            ("gateway_bot.200.large.json", 192, 16, 12, 86_399_999),
        ] {
            let Outcome::Ok(bot) = decide(&reply(200, &corpus(name)), 0, &mut rng) else { panic!("{name}") };
            let limit = bot.session_start_limit;
            assert_eq!(bot.shards, shards);
            assert_eq!(
                (limit.max_concurrency, limit.remaining, limit.reset_after_ms),
                (max_concurrency, remaining, reset_after_ms)
            );
            assert!(bot.url.starts_with("wss://gateway.discord.gg"));
        }
    }

    #[test]
    fn a_refused_token_is_fatal_at_once() {
        let outcome = decide(&reply(401, &corpus("gateway_bot.401.json")), 0, &mut Rng::new(1));
        assert!(matches!(outcome, Outcome::Fatal(text) if text.contains("DISCORD_TOKEN")));
        for status in [301, 302, 308, 400, 403, 404, 405, 410, 451] {
            let outcome = decide(&reply(status, b"{\"message\":\"no\",\"code\":0}"), 0, &mut Rng::new(1));
            assert!(matches!(outcome, Outcome::Fatal(_)), "{status}: {outcome:?}");
        }
    }

    #[test]
    fn a_429_waits_the_larger_of_body_and_header() {
        let within = |wait: Duration, seconds: f64| {
            let over = wait.as_secs_f64() - seconds;
            assert!((0.0..1.0).contains(&over), "{wait:?} for {seconds}");
        };
        let mut user = reply(429, &corpus("429.user.json"));
        within(wait(&user, 0), 64.57);
        user.retry_after = Some("65".into());
        within(wait(&user, 0), 65.0);
        user.retry_after = Some("30".into());
        within(wait(&user, 0), 64.57);
        // 23 hours, seen in August 2026, are waited out.
        user.retry_after = Some("82800".into());
        within(wait(&user, 0), 82_800.0);
        within(wait(&reply(429, &corpus("429.shared.json")), 0), 1336.57);
    }

    #[test]
    fn no_answer_makes_a_loop() {
        assert!(wait(&reply(429, &corpus("429.global.json")), 0) >= WAIT_MIN);
        assert!(wait(&reply(429, &corpus("429.code.json")), 0) >= WAIT_MIN);
        for seed in 0..200 {
            let mut rng = Rng::new(seed);
            for status in (100..=600).filter(|status| *status != 200) {
                for body in [&b""[..], b"{}", b"{\"retry_after\":0}", b"{\"retry_after\":-5}", b"<html>"] {
                    match decide(&reply(status, body), seed as u32 * 7, &mut rng) {
                        Outcome::WaitThenRetry { wait, .. } => {
                            assert!((WAIT_MIN..=WAIT_MAX + BACKOFF_MAX).contains(&wait), "{status} {wait:?}");
                        }
                        Outcome::Fatal(_) => {}
                        Outcome::Ok(_) => panic!("{status}"),
                    }
                }
            }
        }
    }

    #[test]
    fn times_without_sense_are_bounded_or_ignored() {
        for text in ["1e300", "inf", "NaN", "-1", "Wed, 21 Oct 2026 07:28:00 GMT", ""] {
            let limited = Reply { retry_after: Some(text.into()), ..reply(429, b"{}") };
            assert!((WAIT_MIN..=WAIT_MAX + Duration::from_secs(1)).contains(&wait(&limited, 0)), "{text}");
        }
        assert!(wait(&reply(429, b"{\"retry_after\":1e308}"), 0) <= WAIT_MAX + Duration::from_secs(1));
        assert!(wait(&reply(429, b"{\"retry_after\":\"soon\"}"), 0) >= LIMITED_WAIT);
    }

    #[test]
    fn cloudflare_is_given_a_long_rest() {
        let no_via = Reply { via: false, ..reply(429, &corpus("429.user.json")) };
        assert!(wait(&no_via, 0) >= BLOCKED_WAIT);
        assert!(wait(&reply(429, b"error code: 1015"), 0) >= BLOCKED_WAIT);
        assert!(wait(&reply(403, b"<html>Access denied</html>"), 0) >= BLOCKED_WAIT);
        let long = Reply { retry_after: Some("3600".into()), ..reply(429, b"error code: 1015") };
        assert!(wait(&long, 0) >= Duration::from_secs(3600));
    }

    #[test]
    fn backoff_grows_to_its_cap_and_differs_by_seed() {
        let at = |attempt, seed| match no_reply("refused", attempt, &mut Rng::new(seed)) {
            Outcome::WaitThenRetry { wait, why } => {
                assert!(why.contains("refused"));
                wait
            }
            other => panic!("{other:?}"),
        };
        assert!(at(0, 1) >= WAIT_MIN && at(0, 1) < WAIT_MIN * 2);
        assert!(at(3, 1) >= WAIT_MIN * 8);
        for attempt in [6, 30, u32::MAX] {
            assert!(at(attempt, 1) >= BACKOFF_MAX && at(attempt, 1) <= BACKOFF_MAX * 3 / 2);
        }
        assert_ne!(at(0, 1), at(0, 2));
    }

    #[test]
    fn bodies_without_sense_are_asked_for_again() {
        let good = String::from_utf8(corpus("gateway_bot.200.json")).unwrap();
        for (from, to) in [
            ("\"shards\":9", "\"shards\":0"),
            ("\"shards\":9", "\"shards\":-9"),
            ("\"shards\":9", "\"shards\":4000000000"),
            ("\"shards\":9", "\"shards\":\"9\""),
            ("\"max_concurrency\":1", "\"max_concurrency\":0"),
            ("wss://gateway.discord.gg", "https://gateway.discord.gg"),
            ("wss://gateway.discord.gg", "wss://"),
            ("wss://gateway.discord.gg", "wss://gateway discord"),
            ("{", "<html>{"),
        ] {
            let body = good.replacen(from, to, 1);
            assert_ne!(body, good);
            assert!(wait(&reply(200, body.as_bytes()), 0) >= WAIT_MIN, "{body}");
        }
        assert!(wait(&reply(200, &corpus("gateway.200.json")), 0) >= WAIT_MIN);
    }
}
