//! What holds after every step, whatever came.

use super::oracle::{Kind, Oracle, Partition, Reference, id, recipients};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Panics with the rule that is broken.
pub fn check(oracle: &Oracle) {
    for partition in oracle.partitions.values() {
        check_partition(partition, oracle.options.message_cache_size);
    }
    check_sums(oracle);
}

fn check_partition(p: &Partition, ring_size: usize) {
    let known = |guild: &u64| p.guilds.contains_key(guild);
    for (channel, c) in &p.channels {
        assert!(c.guild.as_ref().is_none_or(known), "channel {channel} without its guild");
        let archived = c.object.get("thread_metadata").and_then(|m| m.get("archived"));
        assert!(!c.is_thread() || archived != Some(&json!(true)), "archived thread {channel}");
        assert_eq!(id(&c.object, "id"), Some(*channel), "a channel under a foreign key");
    }
    for ((kind, child), c) in &p.children {
        assert!(known(&c.guild), "{kind:?} {child} without its guild");
        let over = matches!(c.object.get("status").and_then(Value::as_u64), Some(3 | 4));
        assert!(*kind != Kind::ScheduledEvent || !over, "event {child} is over");
    }
    for (guild, user) in p.members.keys().chain(p.presences.keys()).chain(p.voice_states.keys()) {
        assert!(known(guild), "{user} outlived guild {guild}");
    }
    for presence in p.presences.values() {
        assert_ne!(presence.get("status"), Some(&json!("offline")), "an offline presence");
    }
    for ((guild, user), state) in &p.voice_states {
        assert!(id(state, "channel_id").is_some(), "voice state ({guild}, {user}) without channel");
    }
    for (thread, user) in p.thread_members.keys() {
        let found = p.channels.get(thread);
        assert!(found.is_some_and(|t| t.is_thread()), "{user} is a member of {thread}, which is no thread");
    }
    for (channel, ring) in &p.rings {
        assert!(ring.guild.as_ref().is_none_or(known), "messages of {channel} without their guild");
        assert!((1..=ring_size).contains(&ring.messages.len()), "the ring of {channel}");
        let ids: BTreeSet<u64> = ring.messages.iter().map(|(message, _)| *message).collect();
        assert_eq!(ids.len(), ring.messages.len(), "a message twice in {channel}");
        let place = p.channels.get(channel).map(|c| c.guild);
        assert!(place.is_none_or(|place| place == ring.guild), "the ring of {channel} is another guild's");
    }
    check_references(p);
}

/// The reference sets are exactly what members, private channels and the bot say.
fn check_references(p: &Partition) {
    let mut expected: BTreeMap<u64, BTreeSet<Reference>> = BTreeMap::new();
    for (guild, user) in p.members.keys() {
        expected.entry(*user).or_default().insert(Reference::Guild(*guild));
    }
    for (channel, c) in p.channels.iter().filter(|(_, c)| c.guild.is_none()) {
        for user in recipients(&c.object) {
            expected.entry(user).or_default().insert(Reference::PrivateChannel(*channel));
        }
    }
    if let Some(me) = p.me {
        expected.entry(me).or_default().insert(Reference::Own);
    }
    assert_eq!(p.references, expected, "reference sets");
    for user in p.users.keys() {
        assert!(expected.contains_key(user), "user {user} is nobody's");
    }
}

/// Counts are the sums of what lists and lookups answer.
fn check_sums(oracle: &Oracle) {
    let stats = oracle.stats();
    let mut sums: BTreeMap<&str, u64> = BTreeMap::new();
    let mut direct = 0;
    for p in oracle.partitions.values() {
        for guild in p.guilds.keys() {
            for (query, key) in
                [("GuildRoles", "roles"), ("GuildEmojis", "emojis"), ("GuildMembers", "members")]
            {
                // A list of more than one page is checked elsewhere.
                if p.members.len() <= 1000
                    && let Some(Value::Array(list)) = oracle.query(query, &[json!(guild)]).hit()
                {
                    *sums.entry(key).or_default() += list.len() as u64;
                }
            }
        }
        direct += p.channels.len() as u64;
    }
    for (key, sum) in sums {
        assert_eq!(stats[key], json!(sum), "{key}");
    }
    let channels = ["guild_channels", "threads", "private_channels"];
    assert_eq!(channels.map(|key| stats[key].as_u64().unwrap_or(0)).iter().sum::<u64>(), direct);
}
