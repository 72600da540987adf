//! Where a queue service is, as operators write it: `http://host:port/path?query`, with placeholders for the shard.

use std::fmt::{self, Write as _};
use std::net::Ipv6Addr;

/// What is wrong with a URL. Says nothing of what was in it, since there may be secrets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum UrlError {
    /// It does not begin with `http://`.
    Scheme,
    /// It begins with `https://`.
    Https,
    /// A space, a control character, or something outside of ASCII.
    Character,
    /// `user:password@`.
    UserInfo,
    /// `#fragment`.
    Fragment,
    /// No host, or one that cannot be a name or an address.
    Host,
    /// Not a number from 1 to 65535.
    Port,
    /// A brace that belongs to no placeholder, or a placeholder that is not known.
    Placeholder,
    /// A placeholder that is known, but not its value.
    NoValue(&'static str),
}

impl fmt::Display for UrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            UrlError::Scheme => "the URL of a queue begins with http://",
            UrlError::Https => "https is not supported: queues are asked over http, within a network that can be trusted",
            UrlError::Character => "the URL has a character that URLs cannot have",
            UrlError::UserInfo => "user and password in the URL are not supported",
            UrlError::Fragment => "the URL has a fragment (#), which is never sent",
            UrlError::Host => "the URL has no host, or not a valid one",
            UrlError::Port => "the URL's port is not a number from 1 to 65535",
            UrlError::Placeholder => {
                "the URL has a placeholder other than {shard_id}, {shard_count}, {max_concurrency} and {token_hash}"
            }
            UrlError::NoValue(name) => return write!(f, "the URL has {{{name}}}, but its value was not given"),
        })
    }
}

impl std::error::Error for UrlError {}

/// Who asks.
#[derive(Clone, Copy)]
pub struct Whom<'a> {
    /// The shard.
    pub shard_id: u64,
    /// How many shards the bot has.
    pub shard_count: u64,
    /// How many buckets Discord says there are, if known.
    pub max_concurrency: Option<u32>,
    /// What stands for the bot's token where a service serves several bots.
    pub token_hash: Option<&'a str>,
    /// What Discord has said of session starts, for a service that cannot ask it itself; told with feedback only.
    pub limit: Option<ToldLimit>,
}

/// What Discord said of session starts some time ago.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ToldLimit {
    /// IDENTIFYs per day.
    pub total: u32,
    /// IDENTIFYs left then.
    pub remaining: u32,
    /// When the day was to end then, in milliseconds.
    pub reset_after_ms: u64,
    /// How long ago Discord was asked, in milliseconds.
    pub age_ms: u64,
}

impl fmt::Debug for Whom<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Whom { shard_id, shard_count, max_concurrency, .. } = self;
        write!(f, "shard {shard_id} of {shard_count}, max_concurrency {max_concurrency:?}")
    }
}

/// The parsed URL of a queue service.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint {
    host: String,
    port: u16,
    /// As the Host header has it.
    pub(super) authority: String,
    path: String,
    query: Option<String>,
}

impl Endpoint {
    /// Reads `http://host[:port][/path][?query]`. The port is 80 if there is none. Path and query may hold
    /// `{shard_id}`, `{shard_count}`, `{max_concurrency}` and `{token_hash}`.
    ///
    /// # Errors
    /// On everything else.
    pub fn parse(url: &str) -> Result<Endpoint, UrlError> {
        let (scheme, rest) = url.split_once("://").ok_or(UrlError::Scheme)?;
        if scheme.eq_ignore_ascii_case("https") {
            return Err(UrlError::Https);
        }
        if !scheme.eq_ignore_ascii_case("http") {
            return Err(UrlError::Scheme);
        }
        if !rest.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(UrlError::Character);
        }
        if rest.contains('#') {
            return Err(UrlError::Fragment);
        }
        let (authority, rest) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        if authority.contains('@') {
            return Err(UrlError::UserInfo);
        }
        let (host, port) = host_and_port(authority)?;
        let (path, query) = match rest.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (rest, None),
        };
        let path = if path.is_empty() { "/" } else { path };
        for text in [path, query.unwrap_or_default()] {
            // Whether each placeholder has a value is seen when there are values.
            expand(text, |_| Ok(String::new()), &mut String::new())?;
        }
        Ok(Endpoint {
            host: host.to_owned(),
            port,
            authority: authority.to_owned(),
            path: path.to_owned(),
            query: query.map(str::to_owned),
        })
    }

    /// The name or address to connect to, IPv6 without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port to connect to.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Path and query for `whom`: placeholders are replaced, and `shard` and `max_concurrency` are added where the
    /// URL does not have them.
    ///
    /// # Errors
    /// When there is a placeholder without a value.
    pub fn target(&self, whom: &Whom) -> Result<String, UrlError> {
        self.target_with(whom, false)
    }

    /// Where a report of `whom` goes: the path with `name` as its last part.
    ///
    /// # Errors
    /// When there is a placeholder without a value.
    pub(super) fn report_target(&self, whom: &Whom, name: &str) -> Result<String, UrlError> {
        let mut out = String::new();
        expand(&self.path, |name| whom.value(name), &mut out)?;
        if !out.ends_with('/') {
            out.push('/');
        }
        out.push_str(name);
        Ok(out)
    }

    /// The target, with the word that the caller will report where `feedback` says so.
    pub(super) fn target_with(&self, whom: &Whom, feedback: bool) -> Result<String, UrlError> {
        let value = |name| whom.value(name);
        let mut out = String::new();
        expand(&self.path, value, &mut out)?;
        let query = self.query.as_deref().unwrap_or_default();
        let has = |key| query.split('&').any(|pair| pair.split('=').next() == Some(key));
        let mut join = '?';
        if !query.is_empty() {
            out.push('?');
            expand(query, value, &mut out)?;
            join = '&';
        }
        if !has("shard") {
            let _ = write!(out, "{join}shard={}", whom.shard_id);
            join = '&';
        }
        if let Some(number) = whom.max_concurrency
            && !has("max_concurrency")
        {
            let _ = write!(out, "{join}max_concurrency={number}");
            join = '&';
        }
        if feedback && !has("feedback") {
            let _ = write!(out, "{join}feedback=true");
            if let Some(ToldLimit { total, remaining, reset_after_ms, age_ms }) = whom.limit {
                let _ = write!(
                    out,
                    "&total={total}&remaining={remaining}&reset_after={reset_after_ms}&age={age_ms}"
                );
            }
        }
        Ok(out)
    }
}

/// Without the query, as there may be a secret in it.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}{}", self.authority, self.path)
    }
}

/// As it is displayed.
impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Whom<'_> {
    fn value(&self, name: Placeholder) -> Result<String, UrlError> {
        match name {
            Placeholder::ShardId => Ok(self.shard_id.to_string()),
            Placeholder::ShardCount => Ok(self.shard_count.to_string()),
            Placeholder::MaxConcurrency => {
                self.max_concurrency.map(|it| it.to_string()).ok_or(UrlError::NoValue("max_concurrency"))
            }
            Placeholder::TokenHash => self.token_hash.map(escaped).ok_or(UrlError::NoValue("token_hash")),
        }
    }
}

#[derive(Clone, Copy)]
enum Placeholder {
    ShardId,
    ShardCount,
    MaxConcurrency,
    TokenHash,
}

/// Appends `text` to `out` with its placeholders replaced.
fn expand(
    text: &str,
    value: impl Fn(Placeholder) -> Result<String, UrlError>,
    out: &mut String,
) -> Result<(), UrlError> {
    let mut pieces = text.split('{');
    let mut plain = pieces.next().unwrap_or_default();
    loop {
        if plain.contains('}') {
            return Err(UrlError::Placeholder);
        }
        out.push_str(plain);
        let Some(piece) = pieces.next() else { return Ok(()) };
        let (name, after) = piece.split_once('}').ok_or(UrlError::Placeholder)?;
        out.push_str(&value(match name {
            "shard_id" => Placeholder::ShardId,
            "shard_count" => Placeholder::ShardCount,
            "max_concurrency" => Placeholder::MaxConcurrency,
            "token_hash" => Placeholder::TokenHash,
            _ => return Err(UrlError::Placeholder),
        })?);
        plain = after;
    }
}

/// `text` with all but RFC 3986's unreserved characters percent-encoded.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            _ => {
                let _ = write!(out, "%{byte:02X}");
            }
        }
    }
    out
}

fn host_and_port(authority: &str) -> Result<(&str, u16), UrlError> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']').ok_or(UrlError::Host)?;
            host.parse::<Ipv6Addr>().map_err(|_| UrlError::Host)?;
            (host, port)
        }
        None => {
            let (host, port) = authority.split_at(authority.find(':').unwrap_or(authority.len()));
            let valid = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
            if host.is_empty() || !host.bytes().all(valid) {
                return Err(UrlError::Host);
            }
            (host, port)
        }
    };
    match port.strip_prefix(':') {
        None if port.is_empty() => Ok((host, 80)),
        None => Err(UrlError::Host),
        // `parse` would take a sign.
        Some(digits) if !digits.bytes().all(|byte| byte.is_ascii_digit()) => Err(UrlError::Port),
        Some(digits) => match digits.parse() {
            Ok(port @ 1..) => Ok((host, port)),
            _ => Err(UrlError::Port),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOM: Whom =
        Whom { shard_id: 5, shard_count: 16, max_concurrency: None, token_hash: None, limit: None };

    #[test]
    fn urls_are_read() {
        for (url, host, port, target) in [
            ("http://queue", "queue", 80, "/?shard=5"),
            ("HTTP://127.0.0.1:8080/", "127.0.0.1", 8080, "/?shard=5"),
            ("http://[::1]:81", "::1", 81, "/?shard=5"),
            ("http://identify_queue.local?a=b", "identify_queue.local", 80, "/?a=b&shard=5"),
            ("http://q/a/b?", "q", 80, "/a/b?shard=5"),
            ("http://q/?shard=7", "q", 80, "/?shard=7"),
            ("http://q/?x&shard={shard_id}&of={shard_count}", "q", 80, "/?x&shard=5&of=16"),
            ("http://q/?shard_id={shard_id}", "q", 80, "/?shard_id=5&shard=5"),
            ("http://q/shards/{shard_id}/of/{shard_count}/?", "q", 80, "/shards/5/of/16/?shard=5"),
        ] {
            let endpoint = Endpoint::parse(url).unwrap_or_else(|error| panic!("{url}: {error}"));
            assert_eq!((endpoint.host(), endpoint.port()), (host, port), "{url}");
            assert_eq!(endpoint.target(&WHOM).as_deref(), Ok(target), "{url}");
        }
    }

    #[test]
    fn what_cannot_be_asked_is_an_error() {
        for (url, error) in [
            ("", UrlError::Scheme),
            ("queue:8080", UrlError::Scheme),
            ("ftp://queue", UrlError::Scheme),
            ("https://queue", UrlError::Https),
            ("http://", UrlError::Host),
            ("http:///path", UrlError::Host),
            ("http://a b/", UrlError::Character),
            ("http://a/\r\nHost: b", UrlError::Character),
            ("http://\u{e4}/", UrlError::Character),
            ("http://user:pw@queue/", UrlError::UserInfo),
            ("http://queue/#top", UrlError::Fragment),
            ("http://qu,eue/", UrlError::Host),
            ("http://{shard_id}/", UrlError::Host),
            ("http://[::1/", UrlError::Host),
            ("http://[::1]8/", UrlError::Host),
            ("http://[queue]/", UrlError::Host),
            ("http://queue:/", UrlError::Port),
            ("http://queue:0/", UrlError::Port),
            ("http://queue:+8/", UrlError::Port),
            ("http://queue:65536/", UrlError::Port),
            ("http://queue/{token}", UrlError::Placeholder),
            ("http://queue/{shard_id", UrlError::Placeholder),
            ("http://queue/shard_id}", UrlError::Placeholder),
            ("http://queue/?{{shard_id}}", UrlError::Placeholder),
        ] {
            assert_eq!(Endpoint::parse(url), Err(error), "{url}");
        }
    }

    #[test]
    fn placeholders_need_their_values() {
        let endpoint = Endpoint::parse("http://q/{token_hash}?m={max_concurrency}").unwrap();
        assert_eq!(endpoint.target(&WHOM), Err(UrlError::NoValue("token_hash")));
        let whom = Whom { token_hash: Some("a/b \u{fc}"), ..WHOM };
        assert_eq!(endpoint.target(&whom), Err(UrlError::NoValue("max_concurrency")));
        let whom = Whom { max_concurrency: Some(16), ..whom };
        let target = "/a%2Fb%20%C3%BC?m=16&shard=5&max_concurrency=16";
        assert_eq!(endpoint.target(&whom).as_deref(), Ok(target));
        let endpoint = Endpoint::parse("http://q/?max_concurrency={max_concurrency}").unwrap();
        assert_eq!(endpoint.target(&whom).as_deref(), Ok("/?max_concurrency=16&shard=5"));
    }

    #[test]
    fn secrets_are_not_printed() {
        let endpoint = Endpoint::parse("http://q:81/a?key=hunter2").unwrap();
        let whom = Whom { token_hash: Some("hunter2"), ..WHOM };
        assert_eq!(endpoint.to_string(), "http://q:81/a");
        assert!(!format!("{endpoint:?} {whom:?}").contains("hunter2"));
    }
}
