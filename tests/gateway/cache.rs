//! The cache from outside: what workers are answered, held against the oracle of the model test. The oracle is told
//! what the worker received, which the judge holds against what Discord sent.

#[path = "../cache_model/events.rs"]
#[allow(dead_code, reason = "made for the model test")]
mod events;
#[path = "../cache_model/generator.rs"]
#[allow(dead_code, reason = "made for the model test")]
mod generator;
#[path = "../cache_model/messages.rs"]
mod messages;
#[path = "../cache_model/oracle.rs"]
#[allow(dead_code, reason = "made for the model test")]
mod oracle;
#[path = "../cache_model/queries.rs"]
mod queries;

mod asking;
mod scene;

use std::collections::BTreeSet;

use rateway::relay::topology::shard_of_guild;
use serde_json::{Value, json};

use asking::{Ask, ask_all, every_kind_of_ask};
use oracle::{KINDS, Kind};
use queries::{Answer, TYPES};
use scene::{MESSAGES_PER_CHANNEL, SHARDS, Scene};

/// The types of the questions that fit.
fn types_among(asks: &[Ask], fits: impl Fn(&Ask) -> bool) -> BTreeSet<&'static str> {
    asks.iter().filter(|ask| fits(ask)).map(|ask| ask.kind).collect()
}

#[test]
fn every_type_is_answered_from_another_cluster_by_both_ways() {
    let mut scene = Scene::start("cache", &[]);
    scene.play_corpus();
    scene.play_by_hand();
    scene.play_generated(7, 400);
    let oracle = scene.oracle(&KINDS);
    let asks = every_kind_of_ask(&oracle, scene.clusters(), 11);
    let hit = |ask: &Ask| !oracle.candidates(ask.kind, &ask.arguments).is_empty();
    let all: BTreeSet<&str> = TYPES.iter().map(|(kind, _)| *kind).collect();
    assert_eq!(types_among(&asks, hit), all, "every type has a hit");
    let mut missable = all.clone();
    // There is no question to which these have no answer.
    ["CurrentUser", "Stats"].iter().for_each(|kind| assert!(missable.remove(kind)));
    assert_eq!(types_among(&asks, |ask| !hit(ask)), missable, "every other type has a miss");
    ask_all(&mut scene.stage, &oracle, &asks, "one");
    // Then a shard begins a new session: the guilds it knows are unavailable until they come again.
    scene.lose_session(2);
    let oracle = scene.oracle(&KINDS);
    let asks = every_kind_of_ask(&oracle, scene.clusters(), 12);
    ask_all(&mut scene.stage, &oracle, &asks, "two");
    scene.stage.judge();
}

#[test]
fn members_come_in_pages() {
    let mut scene = Scene::start("pages", &[]);
    let guild = scene.members_guild(2_345);
    let oracle = scene.oracle(&KINDS);
    let mut asks = Vec::new();
    for arguments in [
        json!([guild]),
        json!([guild.to_string(), "0"]),
        json!([guild, 0, 1]),
        json!([guild, 0, 0]),
        json!([guild, "0", "999"]),
        json!([guild, 0, 5000]),
        json!([guild, 0, u64::MAX]),
        json!([guild, u64::MAX]),
        json!([guild, 5, 7, "surplus", {}]),
        json!([guild + 1]),
    ] {
        asks.push(Ask::new("GuildMembers", arguments, 1));
    }
    ask_all(&mut scene.stage, &oracle, &asks, "pages");
    // Page after page, as a worker would.
    for (limit, pages) in [(1000, 3), (500, 5)] {
        let (mut after, mut seen) = (0, Vec::<u64>::new());
        for page in 0..pages + 1 {
            let ask = Ask::new("GuildMembers", json!([guild, after, limit]), page % scene.clusters() + 1);
            let label = format!("walk-{limit}-{page}");
            let answers = ask_all(&mut scene.stage, &oracle, &[ask], &label);
            let members: Vec<Value> = serde_json::from_slice(&answers[0]).expect("a list");
            let users: Vec<u64> =
                members.iter().map(|member| oracle::id_of(&member["user"]["id"]).expect("an id")).collect();
            assert_eq!(users.len(), limit.min(2_345 - seen.len()), "page {page} of {limit}");
            seen.extend(&users);
            after = users.last().copied().unwrap_or(after);
        }
        assert_eq!(seen.len(), 2_345);
        assert!(seen.is_sorted_by(|a, b| a < b), "each member once");
    }
    scene.stage.judge();
}

#[test]
fn kinds_that_are_left_out_are_misses() {
    let held = [Kind::Guild, Kind::Channel, Kind::Role, Kind::Member, Kind::Message];
    let mut scene = Scene::start("kinds", &[("CACHE_KINDS", "guilds,channels,roles,members,messages")]);
    scene.play_corpus();
    scene.play_by_hand();
    // The questions are those of a cache that holds everything.
    let asks = every_kind_of_ask(&scene.oracle(&KINDS), scene.clusters(), 3);
    let oracle = scene.oracle(&held);
    let hit = |ask: &Ask| !oracle.candidates(ask.kind, &ask.arguments).is_empty();
    let expected = ["Guild", "GuildChannel", "GuildChannels", "GuildMembers", "GuildRoles"];
    let expected = expected.into_iter().chain(["Member", "Message", "Role", "Stats"]);
    assert_eq!(types_among(&asks, hit), expected.collect());
    ask_all(&mut scene.stage, &oracle, &asks, "kinds");
    scene.stage.judge();
}

#[test]
fn with_the_cache_switched_off_all_are_misses() {
    let mut scene = Scene::start("off", &[("CACHE_ENABLED", "false")]);
    scene.play_by_hand();
    let mut asks = every_kind_of_ask(&scene.oracle(&KINDS), scene.clusters(), 3);
    // A cache that is off has no counts either.
    asks.iter_mut().for_each(|ask| ask.miss = true);
    let oracle = scene.oracle(&[]);
    ask_all(&mut scene.stage, &oracle, &asks, "off");
    scene.stage.judge();
}

#[test]
fn a_burst_of_queries_while_events_flow_is_answered_in_full() {
    const QUERIES: usize = 4_000;
    let mut scene = Scene::start("burst", &[]);
    let oracle = scene.oracle(&KINDS);
    let guilds: Vec<u64> = oracle.partitions.values().flat_map(|p| p.guilds.keys().copied()).collect();
    assert_eq!(guilds.len(), 2 * SHARDS as usize);
    scene.stage.set_rate(1500.0);
    let clusters = scene.clusters();
    for n in 0..QUERIES {
        let (guild, cluster) = (guilds[n % guilds.len()], n as u32 % clusters + 1);
        // What no generated event changes.
        let kind = if n % 2 == 0 { "GuildRoles" } else { "Role" };
        let query = json!({"type": kind, "arguments": [guild], "return_routing_key": "cache-answer"});
        scene.stage.worker.query(cluster, query.to_string().as_bytes(), Some(&format!("burst-{n}")));
    }
    let answers = asking::answers(&scene.stage, "burst", QUERIES);
    for (n, answer) in answers.iter().enumerate() {
        let kind = if n % 2 == 0 { "GuildRoles" } else { "Role" };
        let expected = oracle.query(kind, &[json!(guilds[n % guilds.len()])]);
        let found = serde_json::from_slice(&answer.reply.body).map_or(Answer::Miss, Answer::Hit);
        assert_eq!(found, expected, "{kind} {n}");
    }
    scene.stage.judge();
    assert_eq!(scene.stage.worker.count(|message| message.key == "cache-answer"), QUERIES, "each once");
}

/// A guild's events are seen by whoever asks after having received them, also on another cluster.
#[test]
fn what_a_worker_has_seen_it_can_ask_for() {
    let mut scene = Scene::start("fresh", &[]);
    let guild = scene.guild_of_shard(0);
    assert_eq!(shard_of_guild(guild, SHARDS), 0);
    for round in 0..50u64 {
        let name = format!("round {round}");
        let d =
            json!({"guild_id": guild.to_string(), "role": {"id": (7_000 + round).to_string(), "name": name}});
        scene.stage.emit(0, "GUILD_ROLE_CREATE", &d.to_string());
        scene.stage.settle();
        let oracle = scene.oracle(&KINDS);
        let ask = Ask::new("Role", json!([7_000 + round]), scene.clusters());
        ask_all(&mut scene.stage, &oracle, &[ask], &format!("fresh-{round}"));
    }
    scene.stage.judge();
}

#[test]
fn bad_queries_are_answered_on_reply_to_only() {
    let mut scene = Scene::start("bad", &[]);
    let guild = scene.guild_of_shard(1);
    let with = |kind: &str, arguments: Value| {
        json!({"type": kind, "arguments": arguments, "return_routing_key": "cache-answer"}).to_string()
    };
    let cases = [
        String::new(),
        "{".to_owned(),
        "[]".to_owned(),
        "null".to_owned(),
        "\u{0}".to_owned(),
        with("guild", json!([guild])),
        with("Planet", json!([guild])),
        with("", json!([guild])),
        with("Guild", json!([])),
        with("Guild", json!([null])),
        with("Guild", json!([[guild]])),
        with("Guild", json!([format!("+{guild}")])),
        with("Guild", json!([format!(" {guild}")])),
        with("Guild", json!([""])),
        with("Guild", json!(["18446744073709551616"])),
        with("Guild", json!([-1])),
        with("Guild", json!([1.5])),
        with("Guild", json!(guild)),
        with("Guild", json!({"0": guild})),
        with("Member", json!([guild])),
        with("Member", json!([guild, "x"])),
        with("GuildMembers", json!([guild, "x"])),
        with("GuildMembers", json!([guild, 0, null])),
        with("Stats", Value::Null),
        json!({"type": "Guild", "arguments": [guild]}).to_string(),
        json!({"type": "Guild", "arguments": [guild], "return_routing_key": 5}).to_string(),
        json!({"type": "Guild", "arguments": [guild], "return_routing_key": "k".repeat(256)}).to_string(),
        json!({"type": 5, "arguments": [guild], "return_routing_key": "cache-answer"}).to_string(),
        json!({"arguments": [guild], "return_routing_key": "cache-answer"}).to_string(),
    ];
    for (n, body) in cases.iter().enumerate() {
        let (id, cluster) = (format!("bad-{n}"), n as u32 % scene.clusters() + 1);
        scene.stage.worker.query(cluster, body.as_bytes(), None);
        scene.stage.worker.query(cluster, body.as_bytes(), Some(&id));
    }
    for (n, body) in cases.iter().enumerate() {
        let answer = scene.stage.worker.wait_answer(&format!("bad-{n}"));
        let told: Value = serde_json::from_str(&answer.text()).expect("JSON");
        assert_eq!(
            (&told["ok"], answer.header("found")),
            (&json!(false), Some(("t", &json!(false)))),
            "{body}"
        );
        assert!(told["error"].as_str().is_some_and(|error| !error.is_empty()), "{body}: {told}");
    }
    // The readers of all clusters are still there, and the only answers by key are those to good queries.
    let oracle = scene.oracle(&KINDS);
    let clusters = scene.clusters();
    let good: Vec<Ask> = (1..=clusters).map(|cluster| Ask::new("Guild", json!([guild]), cluster)).collect();
    ask_all(&mut scene.stage, &oracle, &good, "good");
    assert_eq!(scene.stage.worker.count(|message| message.key == "cache-answer"), good.len());
    scene.stage.judge();
}

#[test]
fn a_channel_remembers_its_last_messages() {
    let mut scene = Scene::start("ring", &[]);
    let guild = scene.guild_of_shard(3);
    let channel = 8_000;
    let place = json!({"id": channel.to_string(), "guild_id": guild.to_string(), "type": 0, "name": "ring"});
    scene.stage.emit(3, "CHANNEL_CREATE", &place.to_string());
    let count = 3 * MESSAGES_PER_CHANNEL as u64;
    for message in 0..count {
        let d = json!({"id": (9_000 + message).to_string(), "channel_id": channel.to_string(),
            "guild_id": guild.to_string(), "author": {"id": "77", "username": "writer"}, "content": "…"});
        scene.stage.emit(3, "MESSAGE_CREATE", &d.to_string());
    }
    let oracle = scene.oracle(&KINDS);
    let asks: Vec<Ask> =
        (0..count).map(|message| Ask::new("Message", json!([channel, 9_000 + message]), 1)).collect();
    let hits = asks.iter().filter(|ask| !oracle.candidates(ask.kind, &ask.arguments).is_empty()).count();
    assert_eq!(hits, MESSAGES_PER_CHANNEL, "by the oracle");
    ask_all(&mut scene.stage, &oracle, &asks, "ring");
    scene.stage.judge();
}

/// Kills in the middle of everything: what the cache holds in the end is what one holds that saw everything once. A shard
/// whose part was torn begins a new session, which the other sees too.
#[test]
fn after_kills_the_cache_is_one_that_saw_everything() {
    let state = std::env::temp_dir().join(format!("rateway-cache-kills-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&state);
    let folder = state.display().to_string();
    let mut scene = Scene::start("cache-kills", &[("STATE_DIR", &folder), ("CACHE_MEMORY", "16MiB")]);
    scene.play_corpus();
    scene.play_by_hand();
    let rounds = std::env::var("RATEWAY_KILLS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(6);
    for round in 0..rounds {
        scene.play_generated(100 + round, 300);
        scene.stage.set_rate(2000.0);
        let sent = scene.stage.sim.ledger().dispatches;
        scene.stage.wait_dispatches(sent + 200 + 171 * (round % 4));
        scene.stage.gateway.signal(libc::SIGKILL);
        scene.stage.restart();
        scene.stage.wait_up();
    }
    scene.stage.set_rate(0.0);
    let lost = scene.stage.sim.ledger().sessions.len() - SHARDS as usize;
    let oracle = scene.oracle_of_arrived(&KINDS);
    let asks = every_kind_of_ask(&oracle, scene.clusters(), 13);
    ask_all(&mut scene.stage, &oracle, &asks, "kills");
    scene.stage.assert_well_behaved_but_for(lost as u64);
    println!("{rounds} kills, {lost} of {SHARDS} sessions lost, {} questions", asks.len());
    let _ = std::fs::remove_dir_all(&state);
}
