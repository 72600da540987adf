//! Settings of every command, as lines of `NAME=value` or as a file: refused in words or taken, and the secret never shows.

use std::path::PathBuf;

use rateway::config::{BrokerConfig, Config, QueueConfig, ToolsConfig};

const SECRET: &str = "hunter2hunter2";

/// One run. What begins with `[` or `#` is a file.
pub fn run(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let is_file = text.starts_with(['[', '#']);
    let file = is_file.then(|| {
        // Memory rather than a disk, where there is such a folder.
        let folder = PathBuf::from("/dev/shm");
        let folder = if folder.is_dir() { folder } else { std::env::temp_dir() };
        folder.join(format!("rateway-fuzz-{}.toml", std::process::id()))
    });
    if let Some(path) = &file {
        // Files that it names are not for a fuzzer to open.
        std::fs::write(path, text.replace("_file", "")).expect("a file");
    }
    let value = |name: &str| {
        if name == "DISCORD_TOKEN" {
            return Some(SECRET.into());
        }
        let line = text.lines().find_map(|line| line.split_once('=').filter(|(known, _)| *known == name));
        line.filter(|(name, _)| !is_file && !name.ends_with("_FILE")).map(|(_, value)| value.into())
    };
    let file = file.as_deref();
    for told in [
        told(Config::load(file, value)),
        told(QueueConfig::load(file, value)),
        told(BrokerConfig::load(file, value)),
        told(ToolsConfig::load(file, value)),
    ] {
        assert!(!told.contains(SECRET), "the secret shows");
    }
}

fn told(loaded: Result<impl std::fmt::Debug, impl std::fmt::Display>) -> String {
    match loaded {
        Ok(config) => format!("{config:?}"),
        Err(problems) => problems.to_string(),
    }
}
