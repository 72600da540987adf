//! Text -> typed values, one function per kind of setting.
//!
//! An `Err` says what is wrong with what was found, in words that may follow it in brackets. Nothing here quotes its
//! input: the caller shows it, unless it is a secret.

use std::net::SocketAddr;
use std::ops::RangeInclusive;

use super::Compression;
use crate::amqp::Uri;
use crate::base::Secret;
use crate::cache::{Kind, KindSet};
use crate::logging::Format;

type Parsed<T> = Result<T, String>;

/// A whole number within `range`.
pub(super) fn whole(text: &str, range: RangeInclusive<u64>) -> Parsed<u64> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err("not a whole number".to_owned());
    }
    match text.parse() {
        Ok(number) if range.contains(&number) => Ok(number),
        Ok(number) if number < *range.start() => Err("too small".to_owned()),
        // The digits were checked, so a failure to parse is an overflow.
        Ok(_) | Err(_) => Err("too large".to_owned()),
    }
}

/// A whole number within `range`, which fits 32 bits.
pub(super) fn whole_u32(text: &str, range: RangeInclusive<u32>) -> Parsed<u32> {
    let number = whole(text, u64::from(*range.start())..=u64::from(*range.end()))?;
    u32::try_from(number).map_err(|_| "too large".to_owned())
}

/// `true` or `false`; also `1`, `0`, `yes`, `no`, `on`, `off` in any case.
pub(super) fn boolean(text: &str) -> Parsed<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Ok(true),
        "false" | "0" | "no" | "off" => Ok(false),
        _ => Err("neither true nor false".to_owned()),
    }
}

/// Bytes: a bare number, or one with `KiB`, `MiB`, `GiB` (powers of 1024) or `KB`, `MB`, `GB` (powers of 1000).
pub(super) fn size_bytes(text: &str, range: RangeInclusive<u64>) -> Parsed<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| {
        if digits == 0 { "does not start with a whole number" } else { "too large" }.to_owned()
    })?;
    let factor = match unit.trim_start().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        _ => return Err("unknown unit; KiB, MiB, GiB, KB, MB, GB are known".to_owned()),
    };
    match number.checked_mul(factor) {
        Some(bytes) if bytes < *range.start() => Err("too small".to_owned()),
        Some(bytes) if range.contains(&bytes) => Ok(bytes),
        _ => Err("too large".to_owned()),
    }
}

/// `3`, `3..7` or `3..=7`: cluster numbers from 1, both ends included.
pub(super) fn clusters(text: &str) -> Parsed<RangeInclusive<u32>> {
    let number = |part: &str| match part.trim().parse::<u32>() {
        Ok(0) => Err("the first cluster is 1".to_owned()),
        Ok(number) => Ok(number),
        Err(_) => Err("not a cluster number".to_owned()),
    };
    let Some((first, last)) = text.split_once("..") else {
        let only = number(text)?;
        return Ok(only..=only);
    };
    let (first, last) = (number(first)?, number(last.strip_prefix('=').unwrap_or(last))?);
    if first > last {
        return Err("the range ends before it starts".to_owned());
    }
    Ok(first..=last)
}

/// A bot token: one word of visible ASCII. A leading `Bot ` is dropped, as the original's library did.
pub(super) fn token(text: &str) -> Parsed<Secret> {
    let text = text.strip_prefix("Bot ").unwrap_or(text).trim();
    if text.is_empty() {
        return Err("nothing".to_owned());
    }
    // It ends in an HTTP header, where a line break would start another one.
    if let Some(at) = text.bytes().position(|b| !b.is_ascii_graphic()) {
        return Err(format!("a value whose character {} can't be part of a token", at + 1));
    }
    Ok(Secret::new(text))
}

/// One URI or more. The value holds a password: what is wrong is told without its text.
pub(super) fn amqp_uris(text: &str) -> Parsed<Vec<Uri>> {
    Uri::parse_list(text).map_err(|error| format!("a value that cannot be used: {error}"))
}

enum HostFault {
    Empty,
    Port,
}

/// Checks `host`, `host:port`, `[v6]` or `[v6]:port`.
fn host_port(text: &str) -> Result<(), HostFault> {
    let (host, port) = match text.strip_prefix('[') {
        Some(v6) => match v6.split_once(']') {
            Some((host, "")) => (host, None),
            Some((host, port)) => (host, Some(port.strip_prefix(':').ok_or(HostFault::Port)?)),
            None => return Err(HostFault::Empty),
        },
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    if host.is_empty() {
        return Err(HostFault::Empty);
    }
    match port {
        Some(port) if !matches!(port.parse::<u16>(), Ok(1..)) => Err(HostFault::Port),
        _ => Ok(()),
    }
}

/// The base of Discord's REST API, without a slash at the end.
pub(super) fn api_url(text: &str) -> Parsed<String> {
    let Some(rest) = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")) else {
        return Err("starts with neither https:// nor http://".to_owned());
    };
    if text.bytes().any(|b| !b.is_ascii_graphic()) {
        return Err("has spaces, control or non-ASCII characters".to_owned());
    }
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    if authority.contains('@') {
        return Err("carries a user or password".to_owned());
    }
    if authority.contains(['?', '#']) || path.contains(['?', '#']) {
        return Err("carries a query or fragment".to_owned());
    }
    host_port(authority).map_err(|fault| match fault {
        HostFault::Empty => "has no host".to_owned(),
        HostFault::Port => "has a port that is not a number from 1 to 65535".to_owned(),
    })?;
    Ok(text.trim_end_matches('/').to_owned())
}

/// Whether a URL that passed [`api_url`] sends the token in the clear to another machine.
pub(super) fn leaks_token(api_url: &str) -> bool {
    let Some(rest) = api_url.strip_prefix("http://") else { return false };
    let authority = rest.split('/').next().unwrap_or_default();
    let own = ["localhost", "127.", "[::1]"];
    !own.iter().any(|host| authority.starts_with(host))
}

/// `zlib`, `zstd` or `none`.
pub(super) fn compression(text: &str) -> Parsed<Compression> {
    match text.to_ascii_lowercase().as_str() {
        "zlib" | "zlib-stream" => Ok(Compression::Zlib),
        "zstd" | "zstd-stream" => Ok(Compression::Zstd),
        "none" => Ok(Compression::None),
        _ => Err("unknown".to_owned()),
    }
}

/// `text` or `json`.
pub(super) fn log_format(text: &str) -> Parsed<Format> {
    match text.to_ascii_lowercase().as_str() {
        "text" => Ok(Format::Text),
        "json" => Ok(Format::Json),
        _ => Err("unknown".to_owned()),
    }
}

/// The longest presence taken: Identify as a whole may not exceed Discord's 4096 bytes.
const PRESENCE_BYTES_MAX: usize = 3000;

/// A presence: a JSON object with a known status, written back without whitespace around it.
pub(super) fn presence(text: &str) -> Parsed<String> {
    let value: serde_json::Value =
        serde_json::from_str(text).map_err(|error| format!("not JSON: {error}"))?;
    let object = value.as_object().ok_or("JSON, but not an object")?;
    if let Some(status) = object.get("status") {
        let known = ["online", "dnd", "idle", "invisible", "offline"];
        if !status.as_str().is_some_and(|status| known.contains(&status)) {
            return Err(format!("`status` is none of {}", known.join(", ")));
        }
    }
    if object.get("activities").is_some_and(|activities| !activities.is_array()) {
        return Err("`activities` is not an array".to_owned());
    }
    if object.get("afk").is_some_and(|afk| !afk.is_boolean()) {
        return Err("`afk` is neither true nor false".to_owned());
    }
    if object.get("since").is_some_and(|since| !since.is_null() && !since.is_u64()) {
        return Err("`since` is neither null nor a time in milliseconds".to_owned());
    }
    let compact = value.to_string();
    if compact.len() > PRESENCE_BYTES_MAX {
        return Err(format!("{} bytes; at most {PRESENCE_BYTES_MAX} fit into Identify", compact.len()));
    }
    Ok(compact)
}

/// `all` or names of kinds.
pub(super) fn kinds(text: &str) -> Parsed<KindSet> {
    if text.eq_ignore_ascii_case("all") {
        return Ok(KindSet::all());
    }
    let mut names = text.split([',', '|', ' ']).filter(|name| !name.is_empty()).peekable();
    if names.peek().is_none() {
        return Err("nothing; CACHE_ENABLED=false is for that".to_owned());
    }
    // The name itself is shown by the caller, who knows how to cut and escape it.
    names
        .enumerate()
        .map(|(at, name)| Kind::parse(name).ok_or_else(|| format!("name {} is unknown", at + 1)))
        .collect()
}

/// `none`, or names of events as Discord writes them.
pub(super) fn event_names(text: &str) -> Parsed<Vec<String>> {
    if text.eq_ignore_ascii_case("none") {
        return Ok(Vec::new());
    }
    let is_name =
        |name: &str| name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_');
    let names = text.split([',', '|', ' ']).filter(|name| !name.is_empty());
    names
        .enumerate()
        .map(|(at, name)| match is_name(name) {
            true => Ok(name.to_owned()),
            false => Err(format!("name {} is not written as Discord writes events: `TYPING_START`", at + 1)),
        })
        .collect()
}

/// Where the status page is; `None` for nowhere.
pub(super) fn http_address(text: &str) -> Parsed<Option<SocketAddr>> {
    if text == "none" {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| "not an address with a port".to_owned())
}

/// Shorter ones can be guessed by trying.
const ADMIN_TOKEN_CHARS_MIN: usize = 16;

/// Fit to stand in a header.
pub(super) fn admin_token(text: &str) -> Parsed<Secret> {
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("something with blanks or special characters in it".to_owned());
    }
    if text.len() < ADMIN_TOKEN_CHARS_MIN {
        return Err(format!("something shorter than {ADMIN_TOKEN_CHARS_MIN} characters"));
    }
    Ok(Secret::new(text))
}

/// The intent whose absence leaves message contents empty.
pub(super) const MESSAGE_CONTENT: u64 = 1 << 15;
/// The intent that brings messages of guilds; those in direct messages always come with their content.
pub(super) const GUILD_MESSAGES: u64 = 1 << 9;

/// A number or names; see [`intents::parse`](crate::gateway::intents::parse).
pub(super) fn intents(text: &str) -> Parsed<u64> {
    // The setting may come as a TOML array, or separated by spaces or `|` as people write flags.
    let joined = text.split([',', '|', ' ']).filter(|name| !name.is_empty()).collect::<Vec<_>>().join(",");
    crate::gateway::intents::parse(&joined).map_err(|error| error.to_string())
}
