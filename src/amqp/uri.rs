//! Broker addresses: `amqp://user:password@host:port/vhost?heartbeat=30`, one or several separated by commas.
//!
//! After RabbitMQ's URI specification, with one difference: an empty vhost (`amqp://host/`) stands for `/`, which
//! is what those who write it mean. Written by hand because errors must never repeat any part of the URI that
//! could hold the password, and because IPv6 hosts have to work. Unknown query keys are ignored.

use std::fmt;
use std::time::Duration;

use crate::base::Secret;

/// How many brokers one setting may name. A cluster has a handful of nodes.
pub const URIS_MAX: usize = 64;

/// Where a broker is and how to log in there.
#[derive(Clone, PartialEq, Eq)]
pub struct Uri {
    /// Whether the scheme was `amqps`.
    pub tls: bool,
    /// A name or address; an IPv6 address without its brackets.
    pub host: String,
    /// The port; 5672, or 5671 with TLS.
    pub port: u16,
    /// The user; `guest`.
    pub user: String,
    /// The password; `guest`.
    pub password: Secret,
    /// The virtual host; `/`.
    pub vhost: String,
    /// `heartbeat`, in seconds.
    pub heartbeat: Option<Duration>,
    /// `connection_timeout`, in milliseconds.
    pub connection_timeout: Option<Duration>,
    /// `frame_max`, in octets.
    pub frame_max: Option<u32>,
    /// `channel_max`.
    pub channel_max: Option<u16>,
}

/// Why a broker address can't be used. Holds no part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UriError {
    /// Nothing was given.
    Empty,
    /// More than [`URIS_MAX`] were given.
    TooMany,
    /// It begins with neither `amqp://` nor `amqps://`.
    Scheme,
    /// The host is no name or address.
    Host,
    /// The port is no number from 1 to 65535.
    Port,
    /// A percent sign is not followed by two hexadecimal digits, or they give no UTF-8.
    Escape(&'static str),
    /// The vhost is longer than 255 octets.
    VhostTooLong,
    /// A query value is no number in its range.
    Query(&'static str),
}

impl fmt::Display for UriError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            UriError::Empty => f.write_str("no broker address is given, expected amqp://user:password@host/vhost"),
            UriError::TooMany => write!(f, "more than {URIS_MAX} broker addresses are given"),
            UriError::Scheme => f.write_str("a broker address has to begin with amqp:// or amqps://"),
            UriError::Host => f.write_str(
                "the host is no name or address (a user or password with one of @ / ? # has to be percent-encoded)",
            ),
            UriError::Port => f.write_str("the port is no number from 1 to 65535"),
            UriError::Escape(part) => write!(f, "the {part} has a wrong percent-encoding"),
            UriError::VhostTooLong => f.write_str("the vhost is longer than 255 octets"),
            UriError::Query(key) => write!(f, "the value of {key} is no number in its range"),
        }
    }
}

impl std::error::Error for UriError {}

impl Uri {
    /// Reads a list of addresses separated by commas; blanks around them are allowed. A comma within a password
    /// does no harm, as only one before a scheme separates.
    ///
    /// # Errors
    /// What is wrong with the first that can't be read.
    pub fn parse_list(text: &str) -> Result<Vec<Uri>, UriError> {
        let mut uris = Vec::new();
        let mut rest = text.trim();
        if rest.is_empty() {
            return Err(UriError::Empty);
        }
        while !rest.is_empty() {
            let end = rest
                .match_indices(',')
                .map(|(at, _)| at)
                .find(|&at| {
                    rest.get(at + 1..).is_some_and(|next| next.trim_start().is_empty() || has_scheme(next))
                })
                .unwrap_or(rest.len());
            if uris.len() == URIS_MAX {
                return Err(UriError::TooMany);
            }
            let (uri, tail) = rest.split_at(end);
            uris.push(Uri::parse(uri.trim())?);
            rest = tail.strip_prefix(',').unwrap_or(tail).trim();
        }
        Ok(uris)
    }

    /// Reads one address.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Uri, UriError> {
        let (scheme, rest) = text.split_once("://").ok_or(UriError::Scheme)?;
        let tls = match scheme.to_ascii_lowercase().as_str() {
            "amqp" => false,
            "amqps" => true,
            _ => return Err(UriError::Scheme),
        };
        let rest = rest.split_once('#').map_or(rest, |(before, _)| before);
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, vhost) = rest.split_once('/').unwrap_or((rest, ""));
        let (userinfo, address) = match authority.rsplit_once('@') {
            Some((userinfo, address)) => (Some(userinfo), address),
            None => (None, authority),
        };
        let (user, password) = match userinfo {
            None => ("guest".to_owned(), "guest".to_owned()),
            Some(userinfo) => {
                let (user, password) = userinfo.split_once(':').unwrap_or((userinfo, "guest"));
                (percent_decode(user, "user")?, percent_decode(password, "password")?)
            }
        };
        let (host, port) = split_address(address)?;
        let vhost = match percent_decode(vhost, "vhost")? {
            vhost if vhost.is_empty() => "/".to_owned(),
            vhost if vhost.len() > usize::from(u8::MAX) => return Err(UriError::VhostTooLong),
            vhost => vhost,
        };
        let mut uri = Uri {
            tls,
            host,
            port: port.unwrap_or(if tls { 5671 } else { 5672 }),
            user: if user.is_empty() { "guest".to_owned() } else { user },
            password: Secret::new(password),
            vhost,
            heartbeat: None,
            connection_timeout: None,
            frame_max: None,
            channel_max: None,
        };
        for pair in query.split('&') {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            match key {
                "heartbeat" => {
                    let seconds: u16 = number(value, "heartbeat")?;
                    uri.heartbeat = Some(Duration::from_secs(u64::from(seconds)));
                }
                "connection_timeout" => {
                    let ms: u32 = number(value, "connection_timeout")?;
                    uri.connection_timeout = Some(Duration::from_millis(u64::from(ms)));
                }
                "frame_max" => uri.frame_max = Some(number(value, "frame_max")?),
                "channel_max" => uri.channel_max = Some(number(value, "channel_max")?),
                _ => {}
            }
        }
        Ok(uri)
    }
}

/// As an address that can be shown: the password is `***`, and the query is left out.
impl fmt::Display for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "amqps" } else { "amqp" };
        let (open, close) = if self.host.contains(':') { ("[", "]") } else { ("", "") };
        write!(f, "{scheme}://{}:***@{open}{}{close}:{}", Encoded(&self.user), self.host, self.port)?;
        write!(f, "/{}", Encoded(&self.vhost))
    }
}

impl fmt::Debug for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Uri({self})")
    }
}

fn has_scheme(text: &str) -> bool {
    let starts =
        |scheme: &str| text.trim_start().get(..scheme.len()).is_some_and(|s| s.eq_ignore_ascii_case(scheme));
    starts("amqp://") || starts("amqps://")
}

/// Splits `host`, `host:port`, `[v6]` or `[v6]:port`. An empty host stands for `localhost`.
fn split_address(address: &str) -> Result<(String, Option<u16>), UriError> {
    let (host, port) = if let Some(rest) = address.strip_prefix('[') {
        let (host, after) = rest.split_once(']').ok_or(UriError::Host)?;
        host.parse::<std::net::Ipv6Addr>().map_err(|_| UriError::Host)?;
        let port = match after {
            "" => None,
            _ => Some(after.strip_prefix(':').ok_or(UriError::Host)?),
        };
        (host.to_owned(), port)
    } else {
        let (host, port) = match address.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (address, None),
        };
        let host = percent_decode(host, "host")?;
        if !host.bytes().all(|octet| octet.is_ascii_alphanumeric() || matches!(octet, b'.' | b'-' | b'_')) {
            return Err(UriError::Host);
        }
        (if host.is_empty() { "localhost".to_owned() } else { host }, port)
    };
    let port = match port {
        None | Some("") => None,
        Some(port) => match number::<u16>(port, "port") {
            Ok(port) if port > 0 => Some(port),
            _ => return Err(UriError::Port),
        },
    };
    Ok((host, port))
}

fn number<T: std::str::FromStr>(text: &str, key: &'static str) -> Result<T, UriError> {
    // FromStr would accept a plus sign.
    if !text.bytes().all(|octet| octet.is_ascii_digit()) {
        return Err(UriError::Query(key));
    }
    text.parse().map_err(|_| UriError::Query(key))
}

fn percent_decode(text: &str, part: &'static str) -> Result<String, UriError> {
    let mut out = Vec::with_capacity(text.len());
    let mut octets = text.bytes();
    while let Some(octet) = octets.next() {
        if octet != b'%' {
            out.push(octet);
            continue;
        }
        let mut digit = || octets.next().and_then(|octet| char::from(octet).to_digit(16));
        let (Some(high), Some(low)) = (digit(), digit()) else { return Err(UriError::Escape(part)) };
        // Two hexadecimal digits are at most 255.
        out.push((high << 4 | low) as u8);
    }
    String::from_utf8(out).map_err(|_| UriError::Escape(part))
}

struct Encoded<'a>(&'a str);

impl fmt::Display for Encoded<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for octet in self.0.bytes() {
            if octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'.' | b'_' | b'~') {
                write!(f, "{}", char::from(octet))?;
            } else {
                write!(f, "%{octet:02X}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_rabbitmq_specifies() {
        let uri = Uri::parse("amqp://user%61:%61pass@ho%61st:10000/v%2fhost").unwrap();
        assert_eq!((uri.user.as_str(), uri.password.expose()), ("usera", "apass"));
        assert_eq!(
            (uri.host.as_str(), uri.port, uri.vhost.as_str(), uri.tls),
            ("hoast", 10000, "v/host", false)
        );
        let uri = Uri::parse("amqps://[2001:db8::1]").unwrap();
        assert_eq!(
            (uri.host.as_str(), uri.port, uri.vhost.as_str(), uri.tls),
            ("2001:db8::1", 5671, "/", true)
        );
        assert_eq!(Uri::parse("amqp://[::1]:99/").unwrap().port, 99);
        let uri = Uri::parse("amqp://").unwrap();
        assert_eq!(
            (uri.host.as_str(), uri.port, uri.user.as_str(), uri.password.expose()),
            ("localhost", 5672, "guest", "guest")
        );
        let uri = Uri::parse(
            "AMQP://h/%2f?heartbeat=0&connection_timeout=30000&frame_max=4096&channel_max=7&verify=x",
        )
        .unwrap();
        assert_eq!(uri.heartbeat, Some(Duration::ZERO));
        assert_eq!(uri.connection_timeout, Some(Duration::from_secs(30)));
        assert_eq!((uri.frame_max, uri.channel_max, uri.vhost.as_str()), (Some(4096), Some(7), "/"));
        assert_eq!(Uri::parse("amqp://u:p@ss:w@h/v").unwrap().password.expose(), "p@ss:w");
        assert_eq!(Uri::parse("amqp://127.0.0.1/").unwrap().host, "127.0.0.1");
    }

    #[test]
    fn agrees_with_the_reference_where_that_is_right() {
        use amq_protocol::uri::AMQPUri;
        for text in
            ["amqp://a:b@c:1/d", "amqps://h/%2f", "amqp://u%40x:p%2F@h/v%20w?heartbeat=9&frame_max=8192"]
        {
            let (ours, theirs) = (Uri::parse(text).unwrap(), text.parse::<AMQPUri>().unwrap());
            assert_eq!(ours.user, theirs.authority.userinfo.username);
            assert_eq!(ours.password.expose(), theirs.authority.userinfo.password);
            assert_eq!((ours.host, ours.port), (theirs.authority.host, theirs.authority.port));
            assert_eq!(ours.vhost, theirs.vhost);
            assert_eq!(ours.heartbeat.map(|h| h.as_secs()), theirs.query.heartbeat.map(u64::from));
            assert_eq!(ours.frame_max, theirs.query.frame_max);
        }
    }

    #[test]
    fn several_are_separated_by_commas_before_a_scheme() {
        let uris = Uri::parse_list(" amqp://a:x,y@h1/ , amqps://h2,amqp://[::1]/v, ").unwrap();
        assert_eq!(uris.iter().map(|uri| uri.host.as_str()).collect::<Vec<_>>(), ["h1", "h2", "::1"]);
        assert_eq!(uris[0].password.expose(), "x,y");
        assert_eq!(Uri::parse_list("  "), Err(UriError::Empty));
        assert_eq!(Uri::parse_list(&"amqp://h,".repeat(65)), Err(UriError::TooMany));
    }

    #[test]
    fn what_is_wrong_is_named_and_the_password_never_shown() {
        let cases = [
            ("hunter2", UriError::Scheme),
            ("http://u:hunter2@h/", UriError::Scheme),
            ("amqp://u:hunter2/@h/", UriError::Port),
            ("amqp://u:hunter2@h:0/", UriError::Port),
            ("amqp://u:hunter2@h:65536/", UriError::Port),
            ("amqp://u:hunter2@h:+1/", UriError::Port),
            ("amqp://u:hunter2@a b/", UriError::Host),
            ("amqp://u:hunter2@[::1/", UriError::Host),
            ("amqp://u:hunter2@[::1]x/", UriError::Host),
            ("amqp://u:hunter2%4@h/", UriError::Escape("password")),
            ("amqp://u:hunter2@h/%ff", UriError::Escape("vhost")),
            ("amqp://u:hunter2@h/?heartbeat=hunter2", UriError::Query("heartbeat")),
            ("amqp://u:hunter2@h/?frame_max=4294967296", UriError::Query("frame_max")),
        ];
        for (text, want) in cases {
            let got = Uri::parse(text).unwrap_err();
            assert_eq!(got, want, "{text}");
            assert!(!format!("{got} {got:?}").contains("hunter2"));
        }
        let uri = Uri::parse("amqps://us er:hunter2@[::1]/a/b?heartbeat=3").unwrap();
        assert_eq!(uri.to_string(), "amqps://us%20er:***@[::1]:5671/a%2Fb");
        assert!(!format!("{uri:?} {uri:#?}").contains("hunter2"));
        assert_eq!(uri.vhost, "a/b");
    }
}
