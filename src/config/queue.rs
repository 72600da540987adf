//! What the operator of `rateway queue` sets. Takes the variables of twilight-rs/gateway-queue (HOST, PORT,
//! DISCORD_TOKEN) and of PluralKit/gateway-queue (ADDR, CONCURRENCY); where both say the same thing, the first win.

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::sources::Sources;
use super::{CaFile, InEffect, Problems, ca_file, duration_ms, parse, settings as s};
use crate::base::Secret;
use crate::logging::{Filter, Format};

/// The configuration of the identify queue as a service, complete and checked.
#[derive(Clone, Debug)]
pub struct QueueConfig {
    /// DISCORD_TOKEN, if Discord is to be asked for session starts.
    pub token: Option<Secret>,
    /// HOST and PORT, or ADDR.
    pub address: SocketAddr,
    /// ADMIN_PORT, and whether somebody has set it.
    pub admin: Option<(SocketAddr, bool)>,
    /// CONCURRENCY.
    pub concurrency: Option<u32>,
    /// CONNECTIONS_MAX.
    pub connections_max: usize,
    /// IDENTIFY_RESERVE.
    pub identify_reserve: u32,
    /// IDENTIFY_SLACK_MS.
    pub identify_slack: Duration,
    /// STATE_DIR, or what stands for it; `None` keeps nothing.
    pub state_dir: Option<PathBuf>,
    /// DISCORD_API_URL, without a slash at the end.
    pub discord_api_url: String,
    /// DISCORD_CA_FILE.
    pub discord_ca: Option<CaFile>,
    /// LOG_LEVEL.
    pub log_level: Filter,
    /// LOG_FORMAT.
    pub log_format: Format,
    /// What is not wrong but worth a line in the log at start.
    pub warnings: Vec<String>,
    /// Every setting as it is in effect; for `rateway queue --check`.
    pub in_effect: Vec<InEffect>,
}

impl QueueConfig {
    /// Reads variables through `env` and settings from the TOML file at `file`.
    ///
    /// # Errors
    /// With everything that is wrong, at once.
    pub fn load(
        file: Option<&Path>,
        env: impl Fn(&str) -> Option<OsString>,
    ) -> Result<QueueConfig, Problems> {
        let mut from = Sources::open(file, &env);
        let token = from.optional(&s::DISCORD_TOKEN, parse::token);
        let addr = from.optional(&s::ADDR, address);
        let host = from
            .required(&s::HOST, |text| text.parse::<IpAddr>().map_err(|_| "not an IP address".to_owned()));
        let port = from.required(&s::PORT, port);
        let concurrency = from.optional(&s::CONCURRENCY, |text| parse::whole_u32(text, 1..=1000));
        let admin = from.required(&s::ADMIN_PORT, admin_address);
        let connections_max =
            from.required(&s::CONNECTIONS_MAX, |text| parse::whole_u32(text, 1..=1_000_000));
        let identify_reserve =
            from.required(&s::IDENTIFY_RESERVE, |text| parse::whole_u32(text, 0..=1_000_000));
        let identify_slack = from.required(&s::IDENTIFY_SLACK_MS, duration_ms(60_000));
        let state_dir = from.state_dir();
        let discord_api_url = from.required(&s::DISCORD_API_URL, parse::api_url);
        let discord_ca = from.optional(&s::DISCORD_CA_FILE, ca_file);
        let log_level = from.required(&s::LOG_LEVEL, Filter::parse);
        let log_format = from.required(&s::LOG_FORMAT, parse::log_format);
        let is_set = |setting| from.is_set(setting);
        let (host_set, port_set, admin_set) = (is_set(&s::HOST), is_set(&s::PORT), is_set(&s::ADMIN_PORT));
        let (problems, in_effect) = from.finish();

        let complete = || {
            let (host, port, discord_api_url) = (host?, port?, discord_api_url?);
            let (addr_ip, addr_port) = match addr {
                Some(addr) => (addr.ip(), addr.port()),
                None => (host, port),
            };
            let address = SocketAddr::new(
                if host_set { host } else { addr_ip },
                if port_set { port } else { addr_port },
            );
            let mut warnings = Vec::new();
            if addr.is_some() && (host_set || port_set) {
                warnings.push(format!("HOST and PORT win over ADDR: shards ask on {address}"));
            }
            if token.is_some() && concurrency.is_some() {
                warnings.push(
                    "CONCURRENCY counts only until Discord, asked with DISCORD_TOKEN, has said its own number"
                        .to_owned(),
                );
            }
            if token.is_some() && parse::leaks_token(&discord_api_url) {
                warnings.push(super::TOKEN_LEAKS.to_owned());
            }
            Some(QueueConfig {
                token,
                address,
                admin: admin?.map(|address| (address, admin_set)),
                concurrency,
                connections_max: connections_max? as usize,
                identify_reserve: identify_reserve?,
                identify_slack: identify_slack?,
                state_dir,
                discord_api_url,
                discord_ca,
                log_level: log_level?,
                log_format: log_format?,
                warnings,
                in_effect,
            })
        };
        if problems.0.is_empty() { complete().ok_or(problems) } else { Err(problems) }
    }
}

fn port(text: &str) -> Result<u16, String> {
    text.parse().map_err(|_| "not a port".to_owned())
}

/// `address:port`, or `:port` for every address, as Go's listeners take it.
pub(super) fn address(text: &str) -> Result<SocketAddr, String> {
    match text.strip_prefix(':') {
        Some(text) => Ok(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port(text)?)),
        None => text.parse().map_err(|_| "not an address with a port".to_owned()),
    }
}

/// Where the operator asks: a port alone is this machine's.
fn admin_address(text: &str) -> Result<Option<SocketAddr>, String> {
    if text == "none" {
        return Ok(None);
    }
    match text.parse() {
        Ok(port) => Ok(Some(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port))),
        Err(_) => address(text).map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(variables: &[(&str, &str)]) -> Result<QueueConfig, Problems> {
        QueueConfig::load(None, |name| {
            variables.iter().find(|(other, _)| *other == name).map(|(_, value)| OsString::from(value))
        })
    }

    fn good(variables: &[(&str, &str)]) -> QueueConfig {
        load(variables).expect("a configuration")
    }

    #[test]
    fn nothing_has_to_be_set() {
        let config = good(&[]);
        assert_eq!(config.address.to_string(), "0.0.0.0:80");
        assert_eq!(
            config.admin.map(|(at, set)| (at.to_string(), set)),
            Some(("127.0.0.1:9980".into(), false))
        );
        assert_eq!((config.token, config.concurrency, config.state_dir), (None, None, None));
        assert!(config.warnings.is_empty());
    }

    #[test]
    fn both_originals_are_understood_and_the_first_wins() {
        let at = |variables: &[(&str, &str)]| good(variables).address.to_string();
        assert_eq!(at(&[("HOST", "127.0.0.1"), ("PORT", "5000")]), "127.0.0.1:5000");
        assert_eq!(at(&[("HOST", "::1")]), "[::1]:80");
        assert_eq!(at(&[("ADDR", ":8080")]), "0.0.0.0:8080");
        assert_eq!(at(&[("ADDR", "[::1]:8080")]), "[::1]:8080");
        let both = good(&[("ADDR", "127.0.0.1:8080"), ("PORT", "5000"), ("CONCURRENCY", "16")]);
        assert_eq!((both.address.to_string(), both.concurrency), ("127.0.0.1:5000".into(), Some(16)));
        assert!(both.warnings[0].contains("ADDR"), "{:?}", both.warnings);
    }

    #[test]
    fn the_admin_port_is_this_machines_unless_said_otherwise() {
        let admin = |text: &str| good(&[("ADMIN_PORT", text)]).admin.map(|(at, _)| at.to_string());
        assert_eq!(admin("9000").as_deref(), Some("127.0.0.1:9000"));
        assert_eq!(admin("0.0.0.0:9000").as_deref(), Some("0.0.0.0:9000"));
        assert_eq!(admin("none"), None);
    }

    #[test]
    fn the_state_has_a_place_by_convention() {
        let dir = |variables: &[(&str, &str)]| good(variables).state_dir;
        let home = ("HOME", "/h");
        assert_eq!(dir(&[home]), Some("/h/.local/state/rateway".into()));
        assert_eq!(dir(&[home, ("XDG_STATE_HOME", "/x")]), Some("/x/rateway".into()));
        assert_eq!(dir(&[home, ("STATE_DIRECTORY", "/var/lib/q:/other")]), Some("/var/lib/q".into()));
        assert_eq!(dir(&[home, ("STATE_DIR", "here")]), Some("here".into()));
        assert_eq!(dir(&[home, ("STATE_DIR", "none")]), None);
    }

    #[test]
    fn all_problems_are_told_at_once() {
        let wrong = [
            ("HOST", "localhost"),
            ("PORT", "65536"),
            ("ADDR", "here"),
            ("CONCURRENCY", "0"),
            ("ADMIN_PORT", "x"),
            ("CONNECTIONS_MAX", "0"),
            ("IDENTIFY_RESERVE", "-1"),
        ];
        let problems = load(&wrong).expect_err("problems").to_string();
        for (name, _) in wrong {
            assert!(problems.contains(&format!("{name}: ")), "{name}: {problems}");
        }
    }
}
