//! Settings: lines of `NAME=value`; a value is refused in words or taken, and the secret never shows.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rateway::config::{Config, settings};

const SECRET: &str = "hunter2hunter2";

fuzz_target!(|text: &str| {
    let value = |name: &str| {
        if name == "DISCORD_TOKEN" {
            return Some(SECRET.into());
        }
        let line = text.lines().find_map(|line| line.split_once('=').filter(|(known, _)| *known == name));
        // Files are not for a fuzzer to open.
        line.filter(|(name, _)| !name.ends_with("_FILE")).map(|(_, value)| value.into())
    };
    let told = match Config::load(None, value) {
        Ok(config) => format!("{config:?}"),
        Err(problems) => problems.to_string(),
    };
    assert!(!told.contains(SECRET) && settings::ALL.len() > 10);
});
