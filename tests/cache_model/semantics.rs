//! Each `sem_*` row of the corpus README, and the `body_*` files.

use super::story::{apply, ask, corpus, files, small, told};
use serde_json::{Value, json};

const SMALL: &str = "761014731138494465";
const TOMASZ: &str = "471395763373703169";
const GENERAL: &str = "761014876600635395";
const MESSAGE: &str = "1532900900000000001";

/// Whether a step changes nothing that a worker can see.
fn changes_nothing(file: &str) {
    let mut oracle = small();
    let before = oracle.clone();
    apply(&mut oracle, file);
    assert_eq!(oracle.partitions, before.partitions, "{file}");
    assert_eq!(oracle.current_user, before.current_user, "{file}");
}

fn after(file: &str) -> super::oracle::Oracle {
    let mut oracle = small();
    assert!(apply(&mut oracle, file), "{file}");
    super::invariants::check(&oracle);
    oracle
}

#[test]
fn guild_delete_with_unavailable_false_is_a_removal() {
    let mut oracle = told(&["READY.json", "edge/sem_guild_create_unavailable_geo.json"]);
    assert!(ask(&oracle, "Guild", &["1"]).is_some());
    apply(&mut oracle, "edge/sem_guild_delete_unavailable_false.json");
    assert_eq!(ask(&oracle, "Guild", &["1"]), None);
}

#[test]
fn guild_delete_of_an_unknown_guild_does_nothing() {
    changes_nothing("edge/sem_guild_delete_unknown_guild.json");
}

#[test]
fn guild_create_unavailable_stays_unavailable_with_other_fields() {
    let oracle = after("edge/sem_guild_create_unavailable_geo.json");
    let guild = ask(&oracle, "Guild", &["1"]).unwrap();
    assert_eq!(
        guild,
        json!({"id": "1", "unavailable": true, "geo_restricted": true, "name": "n", "icon": null})
    );
}

#[test]
fn a_member_listed_twice_is_one_and_the_rest_of_the_guild_is_replaced() {
    let mut oracle = small();
    oracle.apply(0, "GUILD_ROLE_CREATE", &json!({"guild_id": SMALL, "role": {"id": "5"}}));
    oracle.apply(0, "CHANNEL_CREATE", &json!({"guild_id": SMALL, "id": "6", "type": 0}));
    oracle.apply(0, "GUILD_MEMBER_ADD", &json!({"guild_id": SMALL, "user": {"id": "7", "username": "x"}}));
    apply(&mut oracle, "edge/sem_guild_create_duplicate_members.json");
    let d = &corpus("edge/sem_guild_create_duplicate_members.json")["d"];
    let mut users: Vec<&str> =
        d["members"].as_array().unwrap().iter().map(|m| m["user"]["id"].as_str().unwrap()).collect();
    let listed = users.len();
    users.sort_unstable();
    users.dedup();
    assert!(users.len() < listed, "the file lists one twice");
    assert_eq!(ask(&oracle, "GuildMembers", &[SMALL]).unwrap().as_array().unwrap().len(), users.len());
    assert_eq!(oracle.partitions[&0].references[&471395763373703169].len(), 1);
    for (kind, id) in [("Role", "5"), ("GuildChannel", "6"), ("User", "7")] {
        assert_eq!(ask(&oracle, kind, &[id]), None, "{kind}");
    }
}

#[test]
fn null_role_tags_are_kept_as_present() {
    let oracle = after("edge/sem_role_tags_null_is_true.json");
    let tags = ask(&oracle, "Role", &["5"]).unwrap()["tags"].clone();
    for key in ["premium_subscriber", "guild_connections", "available_for_purchase"] {
        assert_eq!(tags.get(key), Some(&Value::Null), "{key}");
    }
}

#[test]
fn a_minimal_member_update_merges() {
    let before = ask(&small(), "Member", &[SMALL, TOMASZ]).unwrap();
    let found = ask(&after("edge/sem_member_update_minimal.json"), "Member", &[SMALL, TOMASZ]).unwrap();
    assert_eq!(found["roles"], json!([]));
    for key in ["nick", "joined_at", "deaf", "mute", "flags", "pending", "premium_since"] {
        assert_eq!(found.get(key), before.get(key), "{key}");
        assert!(found.get(key).is_some(), "{key}");
    }
    assert_eq!(found["user"]["avatar"], Value::Null);
}

#[test]
fn a_guest_without_joined_at_is_a_member() {
    let found =
        ask(&after("edge/sem_member_update_guest.json"), "Member", &[SMALL, "547722165037318145"]).unwrap();
    assert_eq!(found["joined_at"], Value::Null);
    assert_eq!(found.get("deaf"), None, "unknown, not false");
    assert_eq!(found["user"]["username"], "wren__fen");
}

#[test]
fn a_presence_of_wrong_types_is_kept_and_renames_nobody() {
    let before = ask(&small(), "User", &[TOMASZ]).unwrap();
    let oracle = after("edge/sem_presence_wrong_types.json");
    assert_eq!(ask(&oracle, "User", &[TOMASZ]).unwrap(), before);
    let found = ask(&oracle, "Presence", &[SMALL, TOMASZ]).unwrap();
    assert_eq!(found["status"], "flying");
    assert_eq!(found["user"], json!({ "id": TOMASZ }));
    assert_eq!(found["activities"].as_array().unwrap().len(), 3);
}

#[test]
fn ignored_events_change_nothing() {
    for file in [
        "sem_presence_no_guild",
        "sem_voice_state_private_call",
        "sem_message_ephemeral",
        "sem_soundboard_default_ids",
        "sem_message_update_call",
        "sem_message_update_partial",
        "sem_pins_absent_timestamp",
    ] {
        changes_nothing(&format!("edge/{file}.json"));
    }
}

#[test]
fn a_partial_message_update_merges() {
    let mut oracle = after("edge/sem_message_referenced_null.json");
    let before = ask(&oracle, "Message", &[GENERAL, MESSAGE]).unwrap();
    assert_eq!(before.get("referenced_message"), Some(&Value::Null), "deleted, not absent");
    oracle.apply(
        0,
        "MESSAGE_UPDATE",
        &json!({"id": MESSAGE, "channel_id": GENERAL, "guild_id": SMALL, "embeds": [1], "tts": true}),
    );
    let embedded = ask(&oracle, "Message", &[GENERAL, MESSAGE]).unwrap();
    assert_eq!((&embedded["embeds"], &embedded["tts"]), (&json!([1]), &json!(false)));
    apply(&mut oracle, "edge/sem_message_update_partial.json");
    assert_eq!(ask(&oracle, "Message", &[GENERAL, MESSAGE]).unwrap(), before);
}

#[test]
fn a_call_update_merges_into_its_message() {
    let mut oracle = small();
    let (channel, id) = ("1410000000000000000", "1090080106447384668");
    let message = json!({"id": id, "channel_id": channel, "channel_type": 1, "type": 3,
        "author": {"id": "9", "username": "caller"}, "timestamp": "2026-01-01T00:00:00+00:00"});
    oracle.apply(0, "MESSAGE_CREATE", &message);
    apply(&mut oracle, "edge/sem_message_update_call.json");
    let found = ask(&oracle, "Message", &[channel, id]).unwrap();
    assert_eq!(found["call"]["participants"], json!([TOMASZ]));
    assert_eq!((&found["author"], &found["timestamp"]), (&message["author"], &message["timestamp"]));
    assert_eq!(ask(&oracle, "PrivateChannel", &[channel]).unwrap()["recipients"], json!([message["author"]]));
}

#[test]
fn a_webhook_is_no_user() {
    let oracle = after("edge/sem_message_webhook_author.json");
    assert_eq!(ask(&oracle, "User", &["77"]), None);
    assert_eq!(oracle.partitions[&0].users, small().partitions[&0].users);
    assert!(ask(&oracle, "Message", &[GENERAL, MESSAGE]).is_some());
}

#[test]
fn unknown_numbers_are_kept() {
    let found = ask(&after("edge/sem_message_unknown_type.json"), "Message", &[GENERAL, MESSAGE]).unwrap();
    assert_eq!(found, corpus("edge/sem_message_unknown_type.json")["d"]);
}

#[test]
fn a_reaction_with_a_null_name_is_found_by_id() {
    let mut oracle = after("edge/sem_message_referenced_null.json");
    let emoji = json!({"id": "761015032446496773", "name": "duck"});
    let d = json!({"user_id": TOMASZ, "channel_id": GENERAL, "message_id": MESSAGE, "guild_id": SMALL,
        "emoji": emoji, "burst": false, "type": 0});
    oracle.apply(0, "MESSAGE_REACTION_ADD", &d);
    let reactions = ask(&oracle, "Message", &[GENERAL, MESSAGE]).unwrap()["reactions"].clone();
    assert_eq!(reactions[0]["count_details"], json!({"normal": 1, "burst": 0}));
    apply(&mut oracle, "edge/sem_reaction_emoji_name_null.json");
    assert_eq!(ask(&oracle, "Message", &[GENERAL, MESSAGE]).unwrap()["reactions"], json!([]));
}

#[test]
fn a_voice_state_without_channel_goes() {
    let mut oracle = small();
    let state = json!({"user_id": TOMASZ, "guild_id": SMALL, "channel_id": "761014932451221508"});
    oracle.apply(0, "VOICE_STATE_UPDATE", &state);
    assert!(ask(&oracle, "VoiceState", &[TOMASZ, SMALL]).is_some());
    assert!(ask(&oracle, "VoiceState", &[TOMASZ, "761014932451221508"]).is_some());
    apply(&mut oracle, "edge/sem_voice_state_no_member.json");
    assert_eq!(ask(&oracle, "VoiceState", &[TOMASZ, SMALL]), None);
}

#[test]
fn a_sync_of_the_whole_guild_drops_its_threads() {
    let mut oracle = after("edge/sem_thread_unknown_parent.json");
    let thread = ask(&oracle, "Thread", &["9"]).expect("stored without its parent");
    assert_eq!((&thread["name"], &thread["guild_id"]), (&json!("orphan"), &json!(SMALL)));
    apply(&mut oracle, "edge/sem_thread_list_sync_whole_guild.json");
    assert_eq!(ask(&oracle, "Thread", &["9"]), None);
}

#[test]
fn odd_channels_are_stored() {
    for (file, id) in [("sem_channel_obfuscated", "761014932451221508"), ("sem_channel_unknown_type", "10")] {
        let file = format!("edge/{file}.json");
        assert_eq!(ask(&after(&file), "GuildChannel", &[id]).unwrap(), corpus(&file)["d"], "{file}");
    }
}

#[test]
fn a_minimal_ready_is_enough() {
    let oracle = after("edge/sem_ready_minimal.json");
    assert_eq!(oracle.query("CurrentUser", &[]).hit().unwrap()["username"], "b");
    assert_eq!(ask(&oracle, "Guild", &[SMALL]), None, "not listed, so left");
    assert_eq!(oracle.partitions[&0].users.keys().copied().collect::<Vec<_>>(), [1]);
}

#[test]
fn pins_are_kept_as_written() {
    let mut oracle = after("edge/sem_timestamps_forms.json");
    let pin = |oracle: &_| ask(oracle, "GuildChannel", &[GENERAL]).unwrap()["last_pin_timestamp"].clone();
    assert_eq!(pin(&oracle), "2026-08-01T00:00:30+00:00");
    apply(&mut oracle, "edge/sem_pins_absent_timestamp.json");
    assert_eq!(pin(&oracle), "2026-08-01T00:00:30+00:00");
}

#[test]
fn every_sem_file_is_named_in_this_one() {
    let text = include_str!("semantics.rs");
    for name in files("edge").into_iter().filter(|name| name.starts_with("sem_")) {
        assert!(text.contains(&name), "{name} has no assertion");
    }
}

#[test]
fn bodies_that_do_not_fit_change_nothing() {
    let bodies: Vec<String> = files("bad").into_iter().filter(|name| name.starts_with("body_")).collect();
    assert_eq!(bodies.len(), 7);
    for name in bodies {
        let file = format!("bad/{name}.json");
        changes_nothing(&file);
        assert!(!apply(&mut small(), &file), "{name} was taken");
    }
}

#[test]
fn odd_but_valid_payloads_never_panic() {
    for name in files("edge") {
        let file = format!("edge/{name}.json");
        let bytes = std::fs::read(super::story::path_of(&file)).unwrap();
        // Some are no JSON for serde (depth, lone surrogates): their readers' tests have them.
        let Ok(payload) = serde_json::from_slice::<Value>(&bytes) else { continue };
        let mut oracle = small();
        oracle.apply(0, payload["t"].as_str().unwrap_or(""), payload.get("d").unwrap_or(&Value::Null));
        super::invariants::check(&oracle);
    }
}
