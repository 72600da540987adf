//! What happens at Discord before the questions: the corpus' story, events by hand, random ones.

use std::collections::HashSet;

use rateway::gateway::session::session_hash;
use rateway::relay::topology::shard_of_guild;
use rateway::sim::Fault;
use serde_json::{Value, json};

use super::events::HANDLED;
use super::generator::Generator;
use super::oracle::{Kind, Options, Oracle, id_of};
use crate::support::{KEYS, Message, Setup, Stage, wait_until};

pub const SHARDS: u32 = 6;
pub const PER_CLUSTER: u32 = 2;
pub const MESSAGES_PER_CHANNEL: usize = 12;

/// Names of events that the corpus has and the cache does not care for.
const OTHERS: [&str; 20] = [
    "APPLICATION_COMMAND_PERMISSIONS_UPDATE",
    "AUTO_MODERATION_ACTION_EXECUTION",
    "AUTO_MODERATION_RULE_CREATE",
    "AUTO_MODERATION_RULE_DELETE",
    "AUTO_MODERATION_RULE_UPDATE",
    "ENTITLEMENT_CREATE",
    "ENTITLEMENT_DELETE",
    "ENTITLEMENT_UPDATE",
    "GUILD_AUDIT_LOG_ENTRY_CREATE",
    "GUILD_BAN_ADD",
    "GUILD_BAN_REMOVE",
    "GUILD_INTEGRATIONS_UPDATE",
    "INVITE_CREATE",
    "INVITE_DELETE",
    "RATE_LIMITED",
    "SUBSCRIPTION_CREATE",
    "SUBSCRIPTION_DELETE",
    "SUBSCRIPTION_UPDATE",
    "VOICE_CHANNEL_EFFECT_SEND",
    "WEBHOOKS_UPDATE",
];

fn oracle(messages: &[Message], kinds: &[Kind]) -> Oracle {
    let mut oracle = Oracle::new(Options {
        shards: (0..SHARDS).collect(),
        shard_count: SHARDS,
        message_cache_size: MESSAGES_PER_CHANNEL,
        kinds: kinds.iter().copied().collect(),
        // The stage asks for every intent.
        members_are_told: true,
    });
    for message in messages.iter().filter(|message| message.is_event()) {
        let d: Value = serde_json::from_slice(&message.body).expect("Discord sends JSON");
        oracle.apply(message.shard_id(), &message.key, &d);
    }
    oracle
}

/// A stage whose worker hears every event.
pub struct Scene {
    pub stage: Stage,
}

impl Scene {
    /// Starts with these variables of rateway's; the stand-in's own guilds have arrived.
    pub fn start(label: &'static str, variables: &[(&str, &str)]) -> Scene {
        let keys: Vec<&str> =
            HANDLED.iter().chain(&OTHERS).copied().filter(|key| !KEYS.contains(key)).collect();
        let size = MESSAGES_PER_CHANNEL.to_string();
        let mut setup = Setup::new(label, SHARDS, PER_CLUSTER).keys(&keys).env("MESSAGE_CACHE_SIZE", &size);
        for (name, value) in variables {
            setup = setup.env(name, value);
        }
        let stage = setup.start();
        stage.settle();
        Scene { stage }
    }

    pub fn clusters(&self) -> u32 {
        SHARDS.div_ceil(PER_CLUSTER)
    }

    /// An oracle that holds `kinds` and was told all that the worker received, which is all that was sent.
    pub fn oracle(&self, kinds: &[Kind]) -> Oracle {
        let (_, messages) = self.stage.settle();
        oracle(&messages, kinds)
    }

    /// The same where sessions may have been lost: waits until what each shard was sent last has arrived, and tells each
    /// event once.
    pub fn oracle_of_arrived(&self, kinds: &[Kind]) -> Oracle {
        let last_ids: Vec<String> = {
            let ledger = self.stage.sim.ledger();
            let last = |shard| ledger.dispatches_of(shard).last().expect("each has some");
            let id = |shard| {
                let last = last(shard);
                let hash = session_hash(&ledger.sessions[&last.session].session_id);
                format!("{shard}-{hash:016x}-{}", last.seq)
            };
            (0..SHARDS).map(id).collect()
        };
        wait_until("the last event of each shard", || {
            last_ids.iter().all(|id| self.stage.worker.count(|message| message.message_id() == id) > 0)
        });
        let mut seen = HashSet::new();
        let mut messages = self.stage.worker.messages();
        messages.retain(|message| message.is_event() && seen.insert(message.message_id().to_owned()));
        oracle(&messages, kinds)
    }

    /// One of the stand-in's guilds.
    pub fn guild_of_shard(&self, shard: u32) -> u64 {
        let created = self.stage.worker.find(|m| m.key == "GUILD_CREATE" && m.shard_id() == shard);
        let d: Value = serde_json::from_slice(&created[0].body).expect("JSON");
        id_of(&d["id"]).expect("an id")
    }

    /// The bot's id.
    fn bot(&self) -> Value {
        let ready = self.stage.worker.find(|message| message.key == "READY");
        serde_json::from_slice::<Value>(&ready[0].body).expect("JSON")["user"]["id"].take()
    }

    /// Sends `d` to the shard of its guild; what has none goes to the first, as Discord does it.
    fn emit(&self, event: &str, d: &Value) {
        let key =
            if ["GUILD_CREATE", "GUILD_UPDATE", "GUILD_DELETE"].contains(&event) { "id" } else { "guild_id" };
        let shard = d.get(key).and_then(id_of).map_or(0, |guild| shard_of_guild(guild, SHARDS));
        self.stage.emit(shard, event, &d.to_string());
    }

    /// The corpus' story, without what belongs to its connection.
    pub fn play_corpus(&self) {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus");
        let story = std::fs::read_to_string(format!("{folder}/STORY")).expect("the corpus' story");
        for file in story.lines().filter_map(|line| line.split_whitespace().nth(1)) {
            let bytes = std::fs::read(format!("{folder}/{file}")).expect("a file of the corpus");
            let payload: Value = serde_json::from_slice(&bytes).expect("JSON");
            let event = payload["t"].as_str().expect("a name");
            if !["READY", "RESUMED"].contains(&event) {
                self.emit(event, &payload["d"]);
            }
        }
    }

    /// A guild on each shard that has everything, private channels on the first.
    pub fn play_by_hand(&self) {
        for shard in 0..u64::from(SHARDS) {
            // Far from the ids of the stand-in, the corpus and the generator.
            let guild = ((60_000 + shard) << 22) | 9;
            let at = |n: u64| (guild + n).to_string();
            let user =
                |n: u64| json!({"id": at(100 + n), "username": format!("user {n}"), "global_name": null});
            self.emit(
                "GUILD_CREATE",
                &json!({
                    "id": guild.to_string(), "name": "By hand ☕", "unavailable": false, "member_count": 3, "large": false,
                    "odd": [1.5, -1, 1e300, "\u{0}\"\\", {"": null}, 18_446_744_073_709_551_615_u64],
                    "roles": [{"id": guild.to_string(), "name": "@everyone"}, {"id": at(1), "name": "r", "tags": {}}],
                    "emojis": [{"id": at(2), "name": "duck", "roles": [at(1)], "user": user(1)}],
                    "stickers": [{"id": at(3), "name": "s", "format_type": 1}],
                    "channels": [
                        {"id": at(10), "type": 0, "name": "text", "topic": null},
                        {"id": at(11), "type": 2, "name": "voice", "bitrate": 64000},
                        {"id": at(12), "type": 13, "name": "stage"}
                    ],
                    "threads": [{"id": at(13), "type": 11, "name": "thread", "parent_id": at(10),
                        "thread_metadata": {"archived": false}, "message_count": 2}],
                    "members": (1..=3).map(|n| json!({"user": user(n), "roles": [at(1)], "nick": null, "deaf": false}))
                        .collect::<Vec<_>>(),
                    "presences": [{"user": {"id": at(101)}, "status": "idle", "activities": [], "client_status": {}}],
                    "voice_states": [{"user_id": at(101), "channel_id": at(11), "session_id": "v", "mute": false}],
                    "stage_instances": [{"id": at(20), "guild_id": guild.to_string(), "channel_id": at(12), "topic": "t"}],
                    "guild_scheduled_events": [{"id": at(21), "guild_id": guild.to_string(), "channel_id": at(12),
                        "name": "e", "status": 1, "user_count": 4}],
                    "soundboard_sounds": [{"sound_id": at(22), "name": "quack", "volume": 0.5}],
                }),
            );
            for n in 0..3 {
                self.emit(
                    "MESSAGE_CREATE",
                    &json!({"id": at(30 + n), "channel_id": at(10 + n % 2 * 3), "guild_id": guild.to_string(),
                        "author": user(2), "member": {"roles": [], "nick": "n"}, "content": "hello \u{1f44b}",
                        "mentions": [], "timestamp": "2026-08-01T00:00:30.123000+00:00", "type": 0, "tts": false}),
                );
            }
            let reaction = json!({"user_id": at(103), "channel_id": at(10), "message_id": at(30),
                "guild_id": guild.to_string(), "emoji": {"id": null, "name": "🔥"}, "burst": false, "type": 0});
            self.emit("MESSAGE_REACTION_ADD", &reaction);
            // One user in guilds of all shards.
            let everywhere = json!({"guild_id": guild.to_string(), "roles": [], "joined_at": "2026-01-01T00:00:00+00:00",
                "user": {"id": "4242", "username": "everywhere", "avatar": null}});
            self.emit("GUILD_MEMBER_ADD", &everywhere);
            let update = json!({"id": self.bot(), "username": "renamed", "verified": true});
            self.stage.emit(shard as u32, "USER_UPDATE", &update.to_string());
        }
        let recipient = json!({"id": "555", "username": "friend"});
        let private = json!({"id": "700", "type": 1, "recipients": [recipient], "last_message_id": null});
        self.emit("CHANNEL_CREATE", &private);
        self.emit(
            "CHANNEL_CREATE",
            &json!({"id": "701", "type": 3, "recipients": [recipient], "name": "group"}),
        );
        let message = json!({"id": "702", "channel_id": "700", "channel_type": 1, "author": recipient, "content": "hi"});
        self.emit("MESSAGE_CREATE", &message);
    }

    /// A random sequence, wrong values included, without READY.
    pub fn play_generated(&self, seed: u64, length: usize) {
        let events = Generator::new(seed, SHARDS, 6).sequence(length);
        for event in events.iter().filter(|event| event.name != "READY") {
            self.stage.emit(event.shard, &event.name, &event.d.to_string());
        }
    }

    /// A guild of `count` members that came in chunks; says its id.
    pub fn members_guild(&self, count: u64) -> u64 {
        let guild = (70_001 << 22) | 5;
        self.emit("GUILD_CREATE", &json!({"id": guild.to_string(), "name": "Many", "member_count": count}));
        // Not in the order of their ids, which are of different lengths.
        let users: Vec<u64> = (0..count).map(|n| (n * 1_237 % count + 1) * 40_503).collect();
        for chunk in users.chunks(1000) {
            let members: Vec<Value> = chunk
                .iter()
                .map(|user| json!({"user": {"id": user.to_string(), "username": format!("m{user}")}, "roles": []}))
                .collect();
            self.emit("GUILD_MEMBERS_CHUNK", &json!({"guild_id": guild.to_string(), "members": members}));
        }
        guild
    }

    /// Discord forgets the session of a shard, which begins a new one.
    pub fn lose_session(&self, shard: u32) {
        self.stage.settle();
        let sessions = || self.stage.sim.ledger().sessions.len();
        let before = sessions();
        assert!(self.stage.sim.inject(Fault::Op9 { shard, resumable: false }));
        wait_until("a new session", || sessions() == before + 1);
        self.stage.wait_up();
        self.stage.settle();
    }
}
