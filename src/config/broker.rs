//! What the operator of `rateway broker` sets.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::Path;

use super::queue::address;
use super::sources::Sources;
use super::{InEffect, MIB, Problems, parse, settings as s, size};
use crate::base::Secret;
use crate::logging::{Filter, Format};

/// What the embedded broker is told, alone or within the gateway.
#[derive(Clone, Debug)]
pub struct BrokerSettings {
    /// BROKER_ADDR.
    pub address: SocketAddr,
    /// Whether somebody has set it.
    pub is_address_set: bool,
    /// BROKER_MEMORY.
    pub memory_bytes: usize,
    /// BROKER_USERS: names and passwords. At least one.
    pub users: Vec<(String, Secret)>,
    /// Whether guest, who may only come from this machine, is the only one because nobody is set.
    pub is_guest_alone: bool,
}

impl BrokerSettings {
    pub(super) fn read(from: &mut Sources) -> Option<BrokerSettings> {
        let address = from.required(&s::BROKER_ADDR, address);
        let memory_bytes = from.required(&s::BROKER_MEMORY, size(4 * MIB, u64::MAX));
        let set_users = from.optional(&s::BROKER_USERS, users);
        let is_guest_alone = set_users.is_none();
        Some(BrokerSettings {
            address: address?,
            is_address_set: from.is_set(&s::BROKER_ADDR),
            memory_bytes: memory_bytes?,
            users: set_users.unwrap_or_else(|| vec![("guest".to_owned(), Secret::new("guest"))]),
            is_guest_alone,
        })
    }

    pub(super) fn warning(&self) -> Option<String> {
        (self.is_guest_alone && !self.address.ip().is_loopback()).then(|| {
            format!(
                "the broker can be reached on {}, but the only user is guest, who may only come from this machine: set \
                 BROKER_USERS",
                self.address
            )
        })
    }
}

/// The configuration of `rateway broker`, complete and checked.
#[derive(Clone, Debug)]
pub struct BrokerConfig {
    /// The broker's own.
    pub broker: BrokerSettings,
    /// LOG_LEVEL.
    pub log_level: Filter,
    /// LOG_FORMAT.
    pub log_format: Format,
    /// What is not wrong but worth a line in the log at start.
    pub warnings: Vec<String>,
    /// Every setting as it is in effect; for `rateway broker --check`.
    pub in_effect: Vec<InEffect>,
}

impl BrokerConfig {
    /// Reads variables through `env` and settings from the TOML file at `file`.
    ///
    /// # Errors
    /// With everything that is wrong, at once.
    pub fn load(
        file: Option<&Path>,
        env: impl Fn(&str) -> Option<OsString>,
    ) -> Result<BrokerConfig, Problems> {
        let mut from = Sources::open(file, &env);
        let broker = BrokerSettings::read(&mut from);
        let log_level = from.required(&s::LOG_LEVEL, Filter::parse);
        let log_format = from.required(&s::LOG_FORMAT, parse::log_format);
        let (problems, in_effect) = from.finish();
        let complete = || {
            let (broker, log_level, log_format) = (broker?, log_level?, log_format?);
            let warnings = broker.warning().into_iter().collect();
            Some(BrokerConfig { broker, log_level, log_format, warnings, in_effect })
        };
        if problems.0.is_empty() { complete().ok_or(problems) } else { Err(problems) }
    }
}

/// `user:password` pairs with commas between them. What is wrong is told by its place alone: the rest may be a password.
fn users(text: &str) -> Result<Vec<(String, Secret)>, String> {
    let mut users: Vec<(String, Secret)> = Vec::new();
    for (at, pair) in text.split(',').map(str::trim).enumerate().filter(|(_, pair)| !pair.is_empty()) {
        match pair.split_once(':') {
            Some((name, password)) if !name.is_empty() && !password.is_empty() => {
                if name.len() > usize::from(u8::MAX) || users.iter().any(|(other, _)| other == name) {
                    return Err(format!("a list whose pair {} names a user twice or too long", at + 1));
                }
                users.push((name.to_owned(), Secret::new(password)));
            }
            _ => return Err(format!("a list whose pair {} is no `user:password`", at + 1)),
        }
    }
    if users.is_empty() { Err("a list without a user".to_owned()) } else { Ok(users) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(variables: &[(&str, &str)]) -> Result<BrokerConfig, Problems> {
        BrokerConfig::load(None, |name| {
            variables.iter().find(|(other, _)| *other == name).map(|(_, value)| OsString::from(value))
        })
    }

    #[test]
    fn nothing_has_to_be_set() {
        let config = load(&[]).expect("defaults");
        assert_eq!(config.broker.address.to_string(), "127.0.0.1:5672");
        assert_eq!((config.broker.is_address_set, config.broker.memory_bytes), (false, 256 << 20));
        assert_eq!(config.broker.users, [("guest".to_owned(), Secret::new("guest"))]);
        assert!(config.warnings.is_empty());
    }

    #[test]
    fn users_and_a_reachable_address() {
        let config =
            load(&[("BROKER_ADDR", ":5673"), ("BROKER_USERS", "a:b:c, worker:hunter2")]).expect("good");
        assert_eq!(
            (config.broker.address.to_string(), config.broker.is_address_set),
            ("0.0.0.0:5673".to_owned(), true)
        );
        let want = [("a".to_owned(), Secret::new("b:c")), ("worker".to_owned(), Secret::new("hunter2"))];
        assert_eq!(config.broker.users, want);
        assert!(config.warnings.is_empty() && !format!("{config:?}").contains("hunter2"));
        let config = load(&[("BROKER_ADDR", ":5673")]).expect("good");
        assert!(config.warnings[0].contains("BROKER_USERS"));
    }

    #[test]
    fn all_problems_are_told_at_once_and_no_password_with_them() {
        let wrong = [("BROKER_ADDR", "here"), ("BROKER_MEMORY", "1MiB"), ("BROKER_USERS", "a:hunter2,b")];
        let problems = load(&wrong).expect_err("problems").to_string();
        assert!(wrong.iter().all(|(name, _)| problems.contains(&format!("{name}: "))), "{problems}");
        assert!(problems.contains("pair 2") && !problems.contains("hunter2"), "{problems}");
        for users in ["a", ":b", "a:", "a:b,a:c", ","] {
            assert!(load(&[("BROKER_USERS", users)]).is_err(), "{users}");
        }
    }
}
