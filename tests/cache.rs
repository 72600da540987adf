//! What the model test cannot see of the cache: what happens bit by bit, what goes first, and many threads at once.

use std::sync::atomic::{AtomicBool, Ordering};

use rateway::base::rng::Rng;
use rateway::cache::{Answer, Applied, Cache, Holding, Kind, KindSet, Options, Question, Scratch};
use serde_json::{Value, json};

const GUILD: u64 = 41 << 22;
const ROLE: u64 = 77;

struct Held {
    cache: Cache,
    scratch: Scratch,
}

impl Held {
    fn new(memory_bytes: usize, shards: u32, messages: u32) -> Held {
        let options = Options {
            memory_bytes,
            holding: Holding { kinds: KindSet::all(), message_cache_size: messages, members_are_told: false },
            shards: (0..shards).collect(),
            shard_count: shards,
            seed: [8, 9],
        };
        Held { cache: Cache::new(options).expect("memory"), scratch: Scratch::default() }
    }

    fn apply(&mut self, shard: usize, event: &str, d: &Value) {
        let applied = self.cache.apply(shard, event, d.to_string().as_bytes(), &mut self.scratch);
        assert_eq!(applied, Applied::Done, "{event}");
    }

    fn ask(&mut self, question: Question) -> Option<Value> {
        ask(&self.cache, &mut self.scratch, question)
    }

    fn stats(&mut self) -> Value {
        self.ask(Question::Stats).expect("always there")
    }

    fn count(&mut self, path: &str) -> u64 {
        self.stats().pointer(path).and_then(Value::as_u64).expect("a count")
    }
}

fn ask(cache: &Cache, scratch: &mut Scratch, question: Question) -> Option<Value> {
    let mut out = Vec::new();
    match cache.ask(question, scratch, &mut out) {
        Answer::Found => Some(serde_json::from_slice(&out).expect("JSON")),
        Answer::Missing => None,
        other => panic!("{question:?}: {other:?}"),
    }
}

fn member(user: u64) -> Value {
    json!({"user": {"id": user.to_string(), "username": format!("user{user}")}, "roles": [ROLE.to_string(), "5"],
        "joined_at": "2026-08-01T00:00:30.000000+00:00", "nick": null})
}

fn guild(id: u64, channels: std::ops::Range<u64>) -> Value {
    let channels: Vec<Value> =
        channels.map(|id| json!({"id": id.to_string(), "type": 0, "name": "channel"})).collect();
    json!({"id": id.to_string(), "name": "guild", "channels": channels, "members": [],
        "roles": [{"id": ROLE.to_string(), "name": "role"}]})
}

fn chunk(guild: u64, users: std::ops::Range<u64>) -> Value {
    json!({"guild_id": guild.to_string(), "members": users.map(member).collect::<Vec<_>>()})
}

const TYPING: &str = "TYPING_START";

/// An event that changes nothing by itself.
fn nothing() -> Value {
    json!({"channel_id": "1", "user_id": "1", "timestamp": 1})
}

#[test]
fn a_large_guild_goes_at_once_and_is_swept_bit_by_bit() {
    let mut held = Held::new(16 << 20, 1, 0);
    held.apply(0, "GUILD_CREATE", &guild(GUILD, 1..3));
    held.apply(0, "GUILD_MEMBERS_CHUNK", &chunk(GUILD, 1..2_001));
    assert_eq!(held.count("/members"), 2_000);
    held.apply(0, "GUILD_DELETE", &json!({"id": GUILD.to_string()}));
    assert_eq!(held.ask(Question::Member { guild: GUILD, user: 7 }), None, "at once");
    assert_eq!(held.ask(Question::Guild(GUILD)), None);
    let mut left = held.count("/members");
    assert!(left > 1_500, "the event itself did not do it all: {left}");
    let mut events = 0;
    while left > 0 {
        held.apply(0, TYPING, &nothing());
        let now = held.count("/members");
        assert!((1..=64).contains(&(left - now)), "{left} -> {now}");
        (left, events) = (now, events + 1);
    }
    assert!(events > 20);
    assert_eq!(held.count("/users"), 0);
    held.apply(0, TYPING, &nothing());
    assert!(held.count("/memory/used_bytes") <= 8 * 1024, "all pages but the last came back");
}

#[test]
fn a_guild_that_comes_back_while_it_is_swept_keeps_who_is_in_it() {
    let mut held = Held::new(16 << 20, 1, 0);
    held.apply(0, "GUILD_CREATE", &guild(GUILD, 1..3));
    held.apply(0, "GUILD_MEMBERS_CHUNK", &chunk(GUILD, 1..2_001));
    held.apply(0, "GUILD_CREATE", &guild(GUILD, 1..3));
    held.apply(0, "GUILD_MEMBERS_CHUNK", &chunk(GUILD, 1..1_001));
    held.cache.settle(&mut held.scratch);
    assert_eq!((held.count("/members"), held.count("/users")), (1_000, 1_000));
    let seven = held.ask(Question::Member { guild: GUILD, user: 7 }).expect("a member");
    assert_eq!(seven["user"]["username"], "user7");
}

#[test]
fn a_deleted_role_is_in_no_answer_while_members_still_have_it() {
    let mut held = Held::new(16 << 20, 1, 0);
    held.apply(0, "GUILD_CREATE", &guild(GUILD, 1..3));
    held.apply(0, "GUILD_MEMBERS_CHUNK", &chunk(GUILD, 1..1_001));
    held.apply(0, "GUILD_ROLE_DELETE", &json!({"guild_id": GUILD.to_string(), "role_id": ROLE.to_string()}));
    let roles = |held: &mut Held, user| {
        held.ask(Question::Member { guild: GUILD, user }).map(|member| member["roles"].clone())
    };
    for user in [1, 500, 1_000] {
        assert_eq!(roles(&mut held, user), Some(json!(["5"])));
    }
    let page = held.ask(Question::GuildMembers { guild: GUILD, after: 0, limit: 1_000 }).expect("a page");
    assert!(page.as_array().expect("a list").iter().all(|member| member["roles"] == json!(["5"])));
    // A member that is written over in between loses it for good, one that gets a role of that id has it.
    let update = json!({"guild_id": GUILD.to_string(), "user": {"id": "900"}, "nick": "new"});
    held.apply(0, "GUILD_MEMBER_UPDATE", &update);
    assert_eq!(roles(&mut held, 900), Some(json!(["5"])));
    let role = json!({"guild_id": GUILD.to_string(), "role": {"id": ROLE.to_string(), "name": "again"}});
    held.apply(0, "GUILD_ROLE_CREATE", &role);
    held.apply(0, "GUILD_MEMBER_ADD", &{
        let mut back = member(1_000);
        back["guild_id"] = json!(GUILD.to_string());
        back
    });
    assert_eq!(roles(&mut held, 1_000), Some(json!([ROLE.to_string(), "5"])));
    assert_eq!(roles(&mut held, 999), Some(json!(["5"])));
}

fn message(channel: u64, id: u64) -> Value {
    json!({"id": id.to_string(), "channel_id": channel.to_string(), "guild_id": GUILD.to_string(),
        "author": {"id": "1", "username": "user1"}, "content": "words ".repeat(40), "mentions": []})
}

/// Messages go first, then presences, then members; the channels stay.
#[test]
fn what_is_worth_least_goes_first() {
    let mut held = Held::new(1 << 20, 2, 100);
    let shard = (GUILD >> 22) as usize % 2;
    held.apply(shard, "GUILD_CREATE", &guild(GUILD, 1..50));
    for id in 1..1_000 {
        held.apply(shard, "MESSAGE_CREATE", &message(1 + id % 49, 10_000 + id));
    }
    let mut user = 0;
    let mut went = Vec::new();
    while held.count("/evicted/members") == 0 {
        user += 1;
        let mut add = member(user);
        add["guild_id"] = json!(GUILD.to_string());
        held.apply(shard, "GUILD_MEMBER_ADD", &add);
        let presence = json!({"guild_id": GUILD.to_string(), "user": {"id": user.to_string()}, "status": "dnd",
            "activities": [{"name": "a game", "type": 0, "state": format!("level {user}")}]});
        held.apply(shard, "PRESENCE_UPDATE", &presence);
        let stats = held.stats();
        for kind in ["messages", "presences", "members", "guilds"] {
            if stats["evicted"][kind] != 0 && !went.contains(&kind) {
                assert!(kind != "presences" || stats["messages"] == 0, "messages first");
                went.push(kind);
            }
        }
        assert!(user < 100_000, "it never got full");
    }
    assert_eq!(went[0], "messages");
    assert!(went.contains(&"presences"), "{went:?}");
    assert_eq!(held.count("/evicted/guilds"), 0);
    assert_eq!(
        held.ask(Question::GuildChannels(GUILD)).map(|list| list.as_array().map(Vec::len)),
        Some(Some(49))
    );
    assert_eq!(held.cache.take_sizing_warning(), None);
}

/// Another shard's messages go before one's own members.
#[test]
fn shards_share_the_memory() {
    let mut held = Held::new(1 << 20, 2, 1_000);
    let (mine, other) = (GUILD, GUILD + (1 << 22));
    let shard = |guild: u64| (guild >> 22) as usize % 2;
    held.apply(shard(mine), "GUILD_CREATE", &guild(mine, 1..10));
    held.apply(shard(other), "GUILD_CREATE", &guild(other, 101..110));
    let mut id = 0;
    while held.count("/evicted/messages") == 0 {
        id += 1;
        let mut said = message(101 + id % 9, id);
        said["guild_id"] = json!(other.to_string());
        held.apply(shard(other), "MESSAGE_CREATE", &said);
    }
    let before = held.count("/messages");
    let mut user = 1;
    while held.count("/messages") == before {
        held.apply(shard(mine), "GUILD_MEMBERS_CHUNK", &chunk(mine, user..user + 100));
        user += 100;
    }
    assert_eq!((held.count("/members"), held.count("/evicted/members")), (user - 1, 0));
}

#[test]
fn guilds_go_only_when_nothing_else_is_left_and_the_operator_is_told_once() {
    let mut held = Held::new(1 << 20, 1, 10);
    held.apply(0, "READY", &json!({"user": {"id": "1", "username": "bot"}, "guilds": []}));
    held.apply(0, "GUILD_CREATE", &guild(GUILD, 1..10));
    held.apply(0, "GUILD_MEMBERS_CHUNK", &chunk(GUILD, 1..200));
    let mut count = 1;
    while held.count("/evicted/guilds") == 0 {
        let id = GUILD + (count << 22);
        held.apply(0, "GUILD_CREATE", &guild(id, id + 1..id + 100));
        count += 1;
        assert!(count < 10_000, "it never got full");
    }
    assert!(held.count("/members") <= 1, "members first, but the bot itself");
    let warning = held.cache.take_sizing_warning().expect("a warning");
    assert!(warning.contains("CACHE_MEMORY=") && warning.contains("MiB"), "{warning}");
    assert_eq!(held.cache.take_sizing_warning(), None, "once");
    let usage = held.stats()["memory"].clone();
    assert!(usage["peak_bytes"].as_u64() <= usage["capacity_bytes"].as_u64());
}

/// An entity so large that it would drive out everything else is not kept, and nothing goes for it.
#[test]
fn one_entity_does_not_drive_out_the_rest() {
    let mut held = Held::new(1 << 20, 1, 10);
    held.apply(0, "GUILD_CREATE", &guild(GUILD, 1..10));
    held.apply(0, "GUILD_MEMBERS_CHUNK", &chunk(GUILD, 1..200));
    let large = json!({"id": "3", "guild_id": GUILD.to_string(), "type": 0, "topic": "x".repeat(900_000)});
    held.apply(0, "CHANNEL_UPDATE", &large);
    assert_eq!(held.ask(Question::GuildChannel(3)), None, "neither the new one nor what it was");
    assert_eq!((held.count("/members"), held.count("/refused/guild_channels")), (199, 1));
    held.apply(0, "CHANNEL_UPDATE", &json!({"id": "3", "guild_id": GUILD.to_string(), "type": 0}));
    assert!(held.ask(Question::GuildChannel(3)).is_some());
}

#[test]
fn kinds_that_are_not_held_cost_nothing() {
    let mut options = Options {
        memory_bytes: 1 << 20,
        holding: Holding { kinds: KindSet::none(), message_cache_size: 10, members_are_told: false },
        shards: vec![0],
        shard_count: 1,
        seed: [1, 1],
    };
    options.holding.kinds.insert(Kind::Role);
    let mut held = Held { cache: Cache::new(options).expect("memory"), scratch: Scratch::default() };
    held.apply(0, "GUILD_CREATE", &guild(GUILD, 1..10));
    held.apply(0, "GUILD_MEMBERS_CHUNK", &chunk(GUILD, 1..200));
    held.apply(0, "MESSAGE_CREATE", &message(1, 5));
    for key in ["guild_channels", "members", "users", "messages", "presences"] {
        assert_eq!(held.count(&format!("/{key}")), 0, "{key}");
    }
    assert_eq!(held.count("/roles"), 1);
}

/// Sixteen shards on four threads, asked all the time by a fifth: every answer is whole, and nobody waits for ever.
#[test]
fn many_threads_at_once() {
    const SHARDS: u32 = 16;
    let held = Held::new(2 << 20, SHARDS, 5);
    let (cache, done) = (&held.cache, AtomicBool::new(false));
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..4u64)
            .map(|thread| {
                scope.spawn(move || {
                    let (mut rng, mut scratch) = (Rng::new(thread), Scratch::default());
                    for round in 0..600 {
                        let shard = rng.below(u64::from(SHARDS) / 4) * 4 + thread;
                        let id = (shard + u64::from(SHARDS) * rng.below(3)) << 22;
                        let (event, d) = match rng.below(6) {
                            0 => ("GUILD_CREATE", guild(id, id + 1..id + 20)),
                            1 => ("GUILD_DELETE", json!({"id": id.to_string()})),
                            2 | 3 => ("GUILD_MEMBERS_CHUNK", chunk(id, 1..rng.below(300))),
                            _ => {
                                let mut said = message(id + 1 + rng.below(20), round);
                                said["guild_id"] = json!(id.to_string());
                                ("MESSAGE_CREATE", said)
                            }
                        };
                        let d = d.to_string();
                        let applied = cache.apply(shard as usize, event, d.as_bytes(), &mut scratch);
                        assert_eq!(applied, Applied::Done);
                    }
                })
            })
            .collect();
        let asker = scope.spawn(|| {
            let (mut rng, mut scratch, mut out) = (Rng::new(99), Scratch::default(), Vec::new());
            let mut found = 0;
            while !done.load(Ordering::Relaxed) {
                let guild = rng.below(48) << 22;
                let user = 1 + rng.below(300);
                for question in [
                    Question::User(user),
                    Question::Member { guild, user },
                    Question::GuildChannel(guild + user % 20),
                    Question::GuildMembers { guild, after: 0, limit: 50 },
                    Question::Message { channel: guild + user % 20, message: user },
                ] {
                    out.clear();
                    if cache.ask(question, &mut scratch, &mut out) == Answer::Found {
                        let value: Value = serde_json::from_slice(&out).expect("JSON");
                        if let Question::User(user) = question {
                            assert_eq!(value["id"], user.to_string());
                        }
                        found += 1;
                    }
                }
            }
            found
        });
        workers.into_iter().for_each(|worker| worker.join().expect("no panic"));
        done.store(true, Ordering::Relaxed);
        assert!(asker.join().expect("no panic") > 0, "nothing was ever found");
    });
    let mut held = held;
    assert_eq!(held.cache.audit(), Vec::<String>::new());
    assert_eq!(held.count("/broken"), 0);
    let usage = held.stats()["memory"].clone();
    assert!(usage["peak_bytes"].as_u64() <= usage["capacity_bytes"].as_u64());
    // Leaving everything gives everything back.
    for id in 0..48u64 {
        held.apply((id % u64::from(SHARDS)) as usize, "GUILD_DELETE", &json!({"id": (id << 22).to_string()}));
    }
    held.cache.settle(&mut held.scratch);
    let stats = held.stats();
    for key in ["guilds", "guild_channels", "members", "users", "messages", "roles"] {
        assert_eq!(stats[key], 0, "{key}");
    }
    assert_eq!((&stats["directory"]["used"], &stats["memory"]["used_bytes"]), (&json!(0), &json!(0)));
}

/// Whoever writes to the bot in private makes a channel that nothing ever says the end of.
#[test]
fn private_channels_do_not_drive_out_guilds() {
    let mut held = Held::new(1 << 20, 1, 10);
    held.apply(0, "READY", &json!({"user": {"id": "1", "username": "bot"}, "guilds": []}));
    held.apply(0, "GUILD_CREATE", &guild(GUILD, 1..30));
    let mut n = 0;
    while held.count("/evicted/private_channels") == 0 || n % 5_000 != 0 {
        n += 1;
        let said = json!({"id": (9_000_000 + n).to_string(), "channel_id": (5_000_000 + n).to_string(),
            "channel_type": 1, "mentions": [], "content": "hi",
            "author": {"id": (1_000_000 + n).to_string(), "username": format!("user{n}")}});
        held.apply(0, "MESSAGE_CREATE", &said);
        assert!(n < 200_000, "it never got full");
    }
    assert_eq!(held.count("/evicted/guilds"), 0);
    held.apply(0, "GUILD_CREATE", &guild(GUILD + (1 << 22), 101..130));
    assert_eq!((held.count("/guilds"), held.count("/guild_channels")), (2, 58));
    assert_eq!(held.cache.audit(), Vec::<String>::new());
}

/// A shard that is at work has members to give, but cannot be asked: no guild goes for that.
#[test]
fn a_shard_at_work_does_not_cost_others_their_guilds() {
    let mut held = Held::new(4 << 20, 2, 0);
    for number in 1..40u64 {
        let id = (2 * number + 1) << 22;
        held.apply(1, "GUILD_CREATE", &guild(id, id + 1..id + 60));
    }
    let large = 2u64 << 22;
    held.apply(0, "GUILD_CREATE", &guild(large, large + 1..large + 3));
    let mut user = 1;
    while held.count("/evicted/members") == 0 {
        held.apply(0, "GUILD_MEMBERS_CHUNK", &chunk(large, user..user + 500));
        user += 500;
    }
    let (cache, done) = (&held.cache, AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut scratch = Scratch::default();
            while !done.load(Ordering::Relaxed) {
                let d = chunk(large, user..user + 500).to_string();
                cache.apply(0, "GUILD_MEMBERS_CHUNK", d.as_bytes(), &mut scratch);
                user += 500;
            }
        });
        let mut scratch = Scratch::default();
        for number in 0..3_000u64 {
            let channel = json!({"id": ((3 << 22) + 1_000 + number).to_string(), "guild_id": (3u64 << 22).to_string(),
                "type": 0, "topic": "x".repeat(100)});
            cache.apply(1, "CHANNEL_CREATE", channel.to_string().as_bytes(), &mut scratch);
        }
        done.store(true, Ordering::Relaxed);
    });
    assert_eq!((held.count("/evicted/guilds"), held.count("/guilds")), (0, 40));
    assert_eq!(held.cache.audit(), Vec::<String>::new());
}

/// Shard 0 has every private channel, and of its users perhaps nothing but what an old message said.
#[test]
fn a_user_is_answered_as_his_guild_knows_him() {
    let mut held = Held::new(1 << 20, 2, 0);
    let said =
        json!({"id": "9", "channel_id": "5", "channel_type": 1, "author": {"id": "7", "username": "old"}});
    held.apply(0, "MESSAGE_CREATE", &said);
    assert_eq!(held.ask(Question::User(7)).expect("a user")["username"], "old");
    let shard = (GUILD >> 22) as usize % 2;
    assert_eq!(shard, 1);
    held.apply(shard, "GUILD_CREATE", &guild(GUILD, 1..3));
    let add = json!({"guild_id": GUILD.to_string(), "user": {"id": "7", "username": "new"}, "roles": []});
    held.apply(shard, "GUILD_MEMBER_ADD", &add);
    assert_eq!(held.ask(Question::User(7)).expect("a user")["username"], "new");
}

/// Nobody says what was edited or deleted between two sessions.
#[test]
fn messages_do_not_outlive_a_session() {
    let mut held = Held::new(1 << 20, 1, 10);
    held.apply(0, "GUILD_CREATE", &guild(GUILD, 1..3));
    held.apply(0, "MESSAGE_CREATE", &message(1, 5));
    let seen = Question::Message { channel: 1, message: 5 };
    assert!(held.ask(seen).is_some());
    held.apply(
        0,
        "READY",
        &json!({"user": {"id": "1"}, "guilds": [{"id": GUILD.to_string(), "unavailable": true}]}),
    );
    assert_eq!(held.ask(seen), None);
    assert!(held.ask(Question::GuildChannel(1)).is_some(), "its channel waits for the guild's GUILD_CREATE");
}

/// A body with a million keys, whatever it is about, takes no longer than its length says.
#[test]
fn a_patch_with_very_many_keys_is_not_merged() {
    let mut held = Held::new(16 << 20, 1, 0);
    held.apply(0, "GUILD_CREATE", &guild(GUILD, 1..3));
    let keys: Vec<String> = (0..200_000).map(|n| format!("\"a{n:07}z\":1")).collect();
    let d = format!("{{\"id\":\"{GUILD}\",\"name\":\"new\",{}}}", keys.join(","));
    held.cache.apply(0, "GUILD_UPDATE", d.as_bytes(), &mut held.scratch);
    assert_eq!(held.ask(Question::Guild(GUILD)).expect("the guild stays")["name"], "guild");
    assert_eq!(held.count("/refused/guilds"), 1);
}
