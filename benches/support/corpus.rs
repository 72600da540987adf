//! The corpus' guilds many times over: every copy has ids of its own, and a list can be left out.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

/// `d` of `GUILD_CREATE.{size}.json`; `corpus` is the folder.
pub fn guild(corpus: &str, size: &str) -> String {
    let path = format!("{corpus}/GUILD_CREATE.{size}.json");
    let text = std::fs::read_to_string(path).expect("the corpus is part of the repository");
    let payload: BTreeMap<String, &RawValue> = serde_json::from_str(&text).unwrap();
    payload["d"].get().to_owned()
}

/// The elements of a list of the guild, as text.
pub fn elements(guild: &str, list: &str) -> Vec<String> {
    let guild: BTreeMap<String, &RawValue> = serde_json::from_str(guild).unwrap();
    let elements: Vec<&RawValue> = serde_json::from_str(guild[list].get()).unwrap();
    elements.iter().map(|it| it.get().to_owned()).collect()
}

/// The same text with these lists empty.
pub fn without(guild: &str, lists: &[&str]) -> String {
    let mut out = guild.to_owned();
    for list in lists {
        let keys: BTreeMap<String, &RawValue> = serde_json::from_str(guild).unwrap();
        out = out.replacen(keys[*list].get(), "[]", 1);
    }
    out
}

/// The same text with other ids: every string of 17 to 20 digits is one, and grows by `copy` milliseconds' worth.
/// (Permissions in the corpus have at most 16 digits.)
pub fn copy(guild: &str, copy: u64) -> String {
    let mut out = String::with_capacity(guild.len());
    let mut parts = guild.split('"');
    out.push_str(parts.next().unwrap_or_default());
    for part in parts {
        out.push('"');
        let digits = (17..=20).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit());
        match part.parse::<u64>() {
            Ok(id) if digits => out.push_str(&(id + (copy << 22)).to_string()),
            _ => out.push_str(part),
        }
    }
    out
}
