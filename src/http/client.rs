//! Discord's REST API, of which rateway needs one call: `GET /gateway/bot`.
//!
//! Options go in, a [`GatewayBot`] comes out, however long that takes: waits of hours are waited out, and a stop flag
//! ends each of them within a moment. What an answer means is decided by [`gateway_bot`], without IO; here are only the
//! request (ureq, blocking, its own connection) and the wait. Redirects are not followed and no proxy is taken from the
//! environment, so that the token goes where DISCORD_API_URL says and nowhere else.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ureq::Agent;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};

use super::gateway_bot::{self, GatewayBot, Outcome, Reply};
use crate::base::{Rng, Secret};

/// `DiscordBot (url, version)` is the form that Discord asks for; anything else may be blocked.
pub const USER_AGENT: &str = concat!("DiscordBot (rateway, ", env!("CARGO_PKG_VERSION"), ")");
/// One request, from name resolution to the last byte of the body.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a wait looks at the stop flag.
const STOP_POLL: Duration = Duration::from_millis(50);
/// The first waits are lines at level warn; a wait this long is said again every time it has passed.
const REMIND: Duration = Duration::from_secs(600);

/// What the client has to know.
#[derive(Clone, Debug)]
pub struct Options {
    /// The base of the API, without a slash at the end.
    pub api_url: String,
    /// The bot token.
    pub token: Secret,
    /// Certificates in PEM form that are trusted besides the bundled roots.
    pub ca_pem: Option<Vec<u8>>,
}

/// Why there is no [`GatewayBot`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// Asking again would not help; the text is for the operator.
    Fatal(String),
    /// The stop flag was raised.
    Stopped,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Fatal(text) => f.write_str(text),
            Error::Stopped => f.write_str("stopped while waiting for Discord"),
        }
    }
}

impl std::error::Error for Error {}

/// Asks for `/gateway/bot` until there is an answer to go on with. Blocks; `seed` is for the jitter of the waits.
///
/// # Errors
/// When Discord's answer would stay the same however often it is asked, or when `stop` was raised.
pub fn fetch_gateway_bot(options: &Options, seed: u64, stop: &AtomicBool) -> Result<GatewayBot, Error> {
    // Ordering: the flag guards no other data.
    fetch_until(options, seed, &|| stop.load(Ordering::Relaxed))
}

/// As [`fetch_gateway_bot`], for who has more than one reason to stop. `stopped` is asked every 50 ms.
pub(super) fn fetch_until(
    options: &Options,
    seed: u64,
    stopped: &dyn Fn() -> bool,
) -> Result<GatewayBot, Error> {
    fetch(|| request(options), |wait| sleep(wait, stopped), seed, stopped)
}

/// The loop of [`fetch_until`] with its two effects as arguments. `sleep` says whether it slept to the end.
fn fetch(
    mut request: impl FnMut() -> Result<Reply, String>,
    mut sleep: impl FnMut(Duration) -> bool,
    seed: u64,
    stopped: &dyn Fn() -> bool,
) -> Result<GatewayBot, Error> {
    let mut rng = Rng::new(seed);
    for attempt in 0u32.. {
        if stopped() {
            return Err(Error::Stopped);
        }
        let outcome = match request() {
            Ok(reply) => gateway_bot::decide(&reply, attempt, &mut rng),
            Err(why) => gateway_bot::no_reply(&why, attempt, &mut rng),
        };
        match outcome {
            Outcome::Ok(gateway_bot) => return Ok(gateway_bot),
            Outcome::Fatal(text) => return Err(Error::Fatal(text)),
            Outcome::WaitThenRetry { wait, why } => {
                log::warn!(attempt = attempt + 1, wait_s = wait.as_secs(); "{why}; asking again in {}", spoken(wait));
                if !sleep(wait) {
                    return Err(Error::Stopped);
                }
            }
        }
    }
    // Four thousand million attempts, 5 s apart at least, take 680 years.
    Err(Error::Stopped)
}

/// Sleeps in short naps. Each nap lasts at least its time, so the sum is never short; being late is harmless here.
fn sleep(wait: Duration, stopped: &dyn Fn() -> bool) -> bool {
    let (mut left, mut quiet) = (wait, Duration::ZERO);
    while !left.is_zero() {
        if stopped() {
            return false;
        }
        let nap = left.min(STOP_POLL);
        std::thread::sleep(nap);
        left -= nap;
        quiet += nap;
        if quiet >= REMIND {
            quiet = Duration::ZERO;
            log::info!(wait_s = left.as_secs(); "still waiting to ask Discord again, {} left", spoken(left));
        }
    }
    !stopped()
}

/// `3 h 20 min`, `2 min 5 s`, `7 s`.
fn spoken(wait: Duration) -> String {
    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds} s"),
        (0, minutes, seconds) => format!("{minutes} min {seconds} s"),
        (hours, minutes, _) => format!("{hours} h {minutes} min"),
    }
}

/// One request. The `Err` is a text for the log.
fn request(options: &Options) -> Result<Reply, String> {
    let own = match &options.ca_pem {
        Some(pem) => Some(certificates(pem).map_err(|()| "DISCORD_CA_FILE can't be read".to_owned())?),
        None => None,
    };
    if let Some(own) = own {
        match request_with(options, RootCerts::new_with_certs(&own)) {
            // ureq takes one set of roots. A handshake that fails has sent nothing yet, so asking with the other set
            // trusts the union of both.
            Err(error) if is_tls(&error) => {}
            result => return result.map_err(|error| error.to_string()),
        }
    }
    request_with(options, RootCerts::WebPki).map_err(|error| error.to_string())
}

fn request_with(options: &Options, roots: RootCerts) -> Result<Reply, ureq::Error> {
    let agent: Agent = Agent::config_builder()
        .tls_config(TlsConfig::builder().root_certs(roots).build())
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .max_idle_connections(0)
        .proxy(None)
        .timeout_global(Some(REQUEST_TIMEOUT))
        .user_agent(USER_AGENT)
        .build()
        .into();
    let mut response = agent
        .get(format!("{}/gateway/bot", options.api_url))
        .header("Authorization", format!("Bot {}", options.token.expose()))
        .call()?;
    let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
    let retry_after = header("retry-after").map(str::to_owned);
    let via = response.headers().contains_key("via");
    let status = response.status().as_u16();
    let body = match response.body_mut().with_config().limit(gateway_bot::BODY_BYTES_MAX).read_to_vec() {
        Ok(body) => body,
        // Too long to be Discord's: the status and headers still say what to do.
        Err(ureq::Error::BodyExceedsLimit(_)) => Vec::new(),
        Err(error) => return Err(error),
    };
    Ok(Reply { status, retry_after, via, body })
}

fn is_tls(error: &ureq::Error) -> bool {
    match error {
        ureq::Error::Tls(_) | ureq::Error::Rustls(_) => true,
        ureq::Error::Io(error) => error.kind() == std::io::ErrorKind::InvalidData,
        _ => false,
    }
}

fn certificates(pem: &[u8]) -> Result<Vec<Certificate<'static>>, ()> {
    let mut out = Vec::new();
    for item in parse_pem(pem) {
        if let PemItem::Certificate(certificate) = item.map_err(|_| ())? {
            out.push(certificate);
        }
    }
    Ok(out)
}

/// How many certificates `pem` holds; `None` when part of it is damaged.
pub fn count_certificates(pem: &[u8]) -> Option<usize> {
    certificates(pem).ok().map(|certificates| certificates.len())
}

#[cfg(test)]
mod tests;
