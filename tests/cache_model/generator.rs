//! Random event sequences over a small space of ids, so that everything collides: moves, deletes of what is unknown,
//! doubled and late events, outages, absent keys and nulls, ids as numbers, values of wrong types.
//!
//! A guild's events go to its shard. The ids of what guilds own differ between shards (as Discord's do), users and
//! their order do not. A sequence follows from its seed; `print` writes it as lines that `parse` reads back, and
//! `shrink` drops what a failure does not need.

use rateway::base::rng::Rng;
use serde_json::{Value, json};

/// One dispatch.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    pub shard: u32,
    pub name: String,
    pub d: Value,
}

/// The bot.
pub const ME: u64 = 100;
const USERS: u64 = 8;
const TEXTS: [&str; 7] = ["", "a", "ミディアム ☕", "\u{0}\u{1f}\"\\/", "🏰🦉", "٠١", "Ünï"];

/// Where events come from.
pub struct Generator {
    rng: Rng,
    shard_count: u32,
    /// One event in this many is bent out of shape; 0 for none.
    odd: u64,
}

impl Generator {
    pub fn new(seed: u64, shard_count: u32, odd: u64) -> Generator {
        Generator { rng: Rng::new(seed), shard_count, odd }
    }

    /// READY of every shard, most guilds, then `length` events.
    pub fn sequence(&mut self, length: usize) -> Vec<Event> {
        let mut events: Vec<Event> = (0..self.shard_count).map(|shard| self.ready(shard)).collect();
        for guild in self.guilds() {
            if self.rng.chance(4, 5) {
                events.push(self.guild_create(guild));
            }
        }
        while events.len() < length {
            let mut event = self.event();
            if self.odd > 0 && self.rng.chance(1, self.odd) {
                self.bend(&mut event.d, 0);
            }
            events.push(event.clone());
            // Doubled, or once more after others.
            if self.rng.chance(1, 12) {
                events.push(event);
            } else if self.rng.chance(1, 20) {
                let at = self.rng.below(events.len() as u64) as usize;
                events.push(events[at].clone());
            }
        }
        events
    }

    fn guilds(&self) -> Vec<u64> {
        (1..=4).map(|k| (k << 22) | k).collect()
    }

    fn shard_of(&self, guild: u64) -> u32 {
        ((guild >> 22) % u64::from(self.shard_count)) as u32
    }

    fn guild(&mut self) -> u64 {
        let guilds = self.guilds();
        // Low ones more often, the last one hardly ever exists.
        guilds[self.rng.below(4).min(self.rng.below(4)) as usize]
    }

    // ---- values

    fn id(&mut self, id: u64) -> Value {
        if self.rng.chance(1, 12) { json!(id) } else { json!(id.to_string()) }
    }

    /// An id of a kind (by its base) that belongs to the guild's shard.
    fn own(&mut self, guild: u64, base: u64, many: u64) -> u64 {
        u64::from(self.shard_of(guild)) * 1_000_000 + base + self.rng.below(many)
    }

    fn channel_id(&mut self, guild: u64) -> u64 {
        self.own(guild, 200, 6)
    }

    fn thread_id(&mut self, guild: u64) -> u64 {
        self.own(guild, 300, 5)
    }

    /// A role of the guild; its first is @everyone, with the guild's own id.
    fn role_id(&mut self, guild: u64) -> u64 {
        if self.rng.chance(1, 5) { guild } else { self.own(guild, 400, 4) }
    }

    fn any_channel(&mut self, guild: u64) -> u64 {
        if self.rng.chance(1, 2) { self.channel_id(guild) } else { self.thread_id(guild) }
    }

    fn user_id(&mut self) -> u64 {
        ME + self.rng.below(USERS)
    }

    fn text(&mut self) -> Value {
        json!(TEXTS[self.rng.below(TEXTS.len() as u64) as usize])
    }

    fn flag(&mut self) -> Value {
        json!(self.rng.chance(1, 2))
    }

    fn number(&mut self) -> Value {
        match self.rng.below(8) {
            0 => json!(u64::MAX),
            1 => json!(-1),
            2 => json!(0.5),
            _ => json!(self.rng.below(5)),
        }
    }

    /// Adds some of `keys`, absent otherwise, null sometimes.
    fn some(&mut self, d: &mut Value, keys: &[(&str, Value)]) {
        for (key, value) in keys {
            match self.rng.below(8) {
                0..=3 => d[*key] = value.clone(),
                4 => d[*key] = Value::Null,
                _ => {}
            }
        }
        if self.rng.chance(1, 6) {
            d["_new_key"] = json!({"deep": [1, {"x": null}], "n": self.number()});
        }
    }

    fn many(&mut self, up_to: u64, mut make: impl FnMut(&mut Generator) -> Value) -> Value {
        let length = if self.rng.chance(1, 40) { up_to * 6 } else { self.rng.below(up_to + 1) };
        (0..length).map(|_| make(self)).collect()
    }

    // ---- objects

    fn user(&mut self, user: u64) -> Value {
        let mut d = json!({"id": self.id(user), "username": self.text()});
        let keys = [("avatar", self.text()), ("global_name", self.text()), ("bot", self.flag())];
        self.some(&mut d, &keys);
        d
    }

    fn member(&mut self, guild: u64, user: Option<u64>) -> Value {
        let mut d = json!({"roles": self.many(2, |g| { let role = g.role_id(guild); g.id(role) })});
        let keys = [
            ("nick", self.text()),
            ("deaf", self.flag()),
            ("mute", self.flag()),
            ("joined_at", json!("2026-08-01T00:00:30+00:00")),
            ("pending", self.flag()),
        ];
        self.some(&mut d, &keys);
        if let Some(user) = user {
            d["user"] = if self.rng.chance(1, 15) { json!({"id": self.id(user)}) } else { self.user(user) };
        }
        d
    }

    fn presence(&mut self) -> Value {
        let user = self.user_id();
        let status = ["online", "idle", "dnd", "offline", "flying"][self.rng.below(5) as usize];
        let mut d =
            json!({"user": {"id": self.id(user)}, "status": status, "activities": [], "client_status": {}});
        let keys = [("username", self.text()), ("avatar", json!(false)), ("global_name", self.text())];
        if self.rng.chance(1, 4) {
            self.some(&mut d["user"], &keys);
        }
        let keys = [("game", self.text())];
        self.some(&mut d, &keys);
        d
    }

    fn voice_state(&mut self, guild: u64) -> Value {
        let user = self.user_id();
        let channel = self.channel_id(guild);
        let channel = if self.rng.chance(1, 4) { Value::Null } else { self.id(channel) };
        let mut d = json!({"user_id": self.id(user), "channel_id": channel, "session_id": self.text()});
        let keys = [("deaf", self.flag()), ("mute", self.flag()), ("member", self.member(guild, Some(user)))];
        self.some(&mut d, &keys);
        d
    }

    fn channel(&mut self, guild: u64) -> Value {
        let id = if self.rng.chance(1, 20) { self.thread_id(guild) } else { self.channel_id(guild) };
        let kind = [0, 2, 4, 5, 13, 15, 16, 77][self.rng.below(8) as usize];
        let parent = self.channel_id(guild);
        let mut d = json!({"id": self.id(id), "type": kind, "name": self.text()});
        let keys =
            [("parent_id", self.id(parent)), ("topic", self.text()), ("permission_overwrites", json!([]))];
        self.some(&mut d, &keys);
        d
    }

    fn thread(&mut self, guild: u64) -> Value {
        let id = if self.rng.chance(1, 20) { self.channel_id(guild) } else { self.thread_id(guild) };
        let parent = self.channel_id(guild);
        let archived = self.rng.chance(1, 6);
        let mut d = json!({"id": self.id(id), "type": 10 + self.rng.below(3), "name": self.text(),
            "parent_id": self.id(parent), "thread_metadata": {"archived": archived}});
        let keys = [
            ("message_count", self.number()),
            ("total_message_sent", self.number()),
            ("member", json!({"flags": 1, "join_timestamp": "2026-08-01T00:00:30+00:00"})),
        ];
        self.some(&mut d, &keys);
        d
    }

    /// A role, emoji, sticker, sound, ...: something with an id and a few keys.
    fn thing(&mut self, guild: u64, base: u64) -> Value {
        let id = if base == 400 { self.role_id(guild) } else { self.own(guild, base, 4) };
        let (user, role, channel) = (self.user_id(), self.role_id(guild), self.channel_id(guild));
        let key = if base == 700 { "sound_id" } else { "id" };
        let mut d = json!({"name": self.text()});
        d[key] = self.id(id);
        let keys = match base {
            500 => [("user", self.user(user)), ("roles", json!([self.id(role)])), ("animated", self.flag())],
            800 | 900 => [
                ("channel_id", self.id(channel)),
                ("user_count", self.number()),
                ("creator", self.user(user)),
            ],
            _ => [
                ("user", self.user(user)),
                ("tags", json!({"premium_subscriber": null})),
                ("x", self.number()),
            ],
        };
        self.some(&mut d, &keys);
        if base == 900 {
            d["status"] = json!(1 + self.rng.below(4));
        }
        d
    }

    fn things(&mut self, guild: u64, base: u64, up_to: u64) -> Value {
        self.many(up_to, |g| g.thing(guild, base))
    }

    fn emoji(&mut self) -> Value {
        match self.rng.below(3) {
            0 => json!({"id": null, "name": if self.rng.chance(1, 2) { "👍" } else { "🦆" }}),
            1 => json!({"id": (500 + self.rng.below(2)).to_string(), "name": null}),
            _ => json!({"id": self.id(500), "name": self.text(), "animated": true}),
        }
    }

    // ---- events

    fn make(&mut self, guild: u64, name: &str, mut d: Value) -> Event {
        if self.rng.chance(39, 40) {
            d["guild_id"] = self.id(guild);
        }
        Event { shard: self.shard_of(guild), name: name.to_owned(), d }
    }

    fn ready(&mut self, shard: u32) -> Event {
        let own: Vec<u64> =
            self.guilds().into_iter().filter(|guild| self.shard_of(*guild) == shard).collect();
        let mut guilds = vec![];
        for guild in own {
            if self.rng.chance(5, 6) {
                guilds.push(json!({"id": self.id(guild), "unavailable": true}));
            }
        }
        let d = json!({"v": 10, "user": self.user(ME), "guilds": guilds, "session_id": "s"});
        Event { shard, name: "READY".to_owned(), d }
    }

    fn guild_create(&mut self, guild: u64) -> Event {
        let mut d = json!({"id": self.id(guild), "name": self.text(), "lazy": true,
            "roles": self.things(guild, 400, 4), "emojis": self.things(guild, 500, 3),
            "channels": self.many(5, |g| g.channel(guild)), "threads": self.many(3, |g| g.thread(guild)),
            "members": self.many(6, |g| { let user = g.user_id(); g.member(guild, Some(user)) })});
        let keys = [
            ("member_count", json!(self.rng.below(9))),
            ("unavailable", json!(false)),
            ("stickers", self.things(guild, 600, 2)),
            ("soundboard_sounds", self.things(guild, 700, 2)),
            ("stage_instances", self.things(guild, 800, 2)),
            ("guild_scheduled_events", self.things(guild, 900, 2)),
            ("presences", self.many(4, |g| g.presence())),
            ("voice_states", self.many(4, |g| g.voice_state(guild))),
        ];
        self.some(&mut d, &keys);
        Event { shard: self.shard_of(guild), name: "GUILD_CREATE".to_owned(), d }
    }

    fn event(&mut self) -> Event {
        let g = self.guild();
        let (channel, thread, user, role) =
            (self.channel_id(g), self.thread_id(g), self.user_id(), self.role_id(g));
        let suffix = ["CREATE", "UPDATE", "DELETE"][self.rng.below(3) as usize];
        match self.rng.below(38) {
            0 => self.guild_create(g),
            1 => {
                let mut d = json!({"id": self.id(g)});
                let keys = [("unavailable", json!(true)), ("name", self.text())];
                self.some(&mut d, &keys);
                let name = if self.rng.chance(2, 3) { "GUILD_DELETE" } else { "GUILD_CREATE" };
                Event { shard: self.shard_of(g), name: name.to_owned(), d }
            }
            2 => {
                let mut d = json!({"id": self.id(g), "name": self.text(), "member_count": 5});
                let keys = [
                    ("roles", self.things(g, 400, 4)),
                    ("emojis", self.things(g, 500, 3)),
                    ("stickers", self.things(g, 600, 3)),
                ];
                self.some(&mut d, &keys);
                Event { shard: self.shard_of(g), name: "GUILD_UPDATE".to_owned(), d }
            }
            3 if self.rng.chance(1, 3) => {
                let shard = self.shard_of(g);
                self.ready(shard)
            }
            3 => {
                let d = self.user(ME);
                Event { shard: self.shard_of(g), name: "USER_UPDATE".to_owned(), d }
            }
            4 => self.list_event(g, "GUILD_EMOJIS_UPDATE", "emojis", 500),
            5 => self.list_event(g, "GUILD_STICKERS_UPDATE", "stickers", 600),
            6 if self.rng.chance(1, 2) => self.list_event(g, "SOUNDBOARD_SOUNDS", "soundboard_sounds", 700),
            6 => self.list_event(g, "GUILD_SOUNDBOARD_SOUNDS_UPDATE", "soundboard_sounds", 700),
            7 => self.thing_event(g, &format!("INTEGRATION_{suffix}"), 1000),
            8 => self.thing_event(g, &format!("GUILD_SOUNDBOARD_SOUND_{suffix}"), 700),
            9 => self.thing_event(g, &format!("STAGE_INSTANCE_{suffix}"), 800),
            10 => self.thing_event(g, &format!("GUILD_SCHEDULED_EVENT_{suffix}"), 900),
            11 => {
                let name =
                    format!("GUILD_SCHEDULED_EVENT_USER_{}", ["ADD", "REMOVE"][self.rng.below(2) as usize]);
                let event = self.own(g, 900, 4);
                let d = json!({"guild_scheduled_event_id": self.id(event), "user_id": self.id(user)});
                self.make(g, &name, d)
            }
            12..=14 => {
                let d = self.channel(g);
                self.make(g, &format!("CHANNEL_{suffix}"), d)
            }
            15 => {
                let mut info = json!({"id": self.id(channel)});
                let keys = [("status", self.text()), ("voice_start_time", self.number())];
                self.some(&mut info, &keys);
                self.make(g, "CHANNEL_INFO", json!({"channels": [info]}))
            }
            16 => {
                let mut d = json!({"id": self.id(channel), "channel_id": self.id(channel)});
                let keys = [
                    ("status", self.text()),
                    ("voice_start_time", self.number()),
                    ("last_pin_timestamp", self.text()),
                ];
                self.some(&mut d, &keys);
                let names =
                    ["VOICE_CHANNEL_STATUS_UPDATE", "VOICE_CHANNEL_START_TIME_UPDATE", "CHANNEL_PINS_UPDATE"];
                let name = names[self.rng.below(3) as usize];
                self.make(g, name, d)
            }
            17 | 18 => {
                let mut d = self.thread(g);
                let keys = [("newly_created", json!(true))];
                self.some(&mut d, &keys);
                self.make(g, &format!("THREAD_{suffix}"), d)
            }
            19 => {
                let member = json!({"id": self.id(thread), "user_id": self.id(ME), "flags": 1});
                let mut d = json!({"threads": self.many(3, |s| s.thread(g)), "members": [member]});
                if self.rng.chance(2, 3) {
                    d["channel_ids"] = json!([self.id(channel)]);
                }
                self.make(g, "THREAD_LIST_SYNC", d)
            }
            20 => {
                let d = json!({"id": self.id(thread), "user_id": self.id(ME), "flags": self.number()});
                self.make(g, "THREAD_MEMBER_UPDATE", d)
            }
            21 | 22 => {
                let added = self.many(2, |s| {
                    let user = s.user_id();
                    json!({"id": s.id(thread), "user_id": s.id(user), "member": s.member(g, Some(user)),
                        "presence": if s.rng.chance(1, 2) { Value::Null } else { s.presence() }})
                });
                let removed = self.many(1, |s| {
                    let user = s.user_id();
                    s.id(user)
                });
                let mut d = json!({"id": self.id(thread), "member_count": self.number()});
                let keys = [("added_members", added), ("removed_member_ids", removed)];
                self.some(&mut d, &keys);
                self.make(g, "THREAD_MEMBERS_UPDATE", d)
            }
            23 | 24 => {
                let d = self.member(g, Some(user));
                let name = ["GUILD_MEMBER_ADD", "GUILD_MEMBER_UPDATE"][self.rng.below(2) as usize];
                self.make(g, name, d)
            }
            25 => {
                let d = json!({"user": self.user(user)});
                self.make(g, "GUILD_MEMBER_REMOVE", d)
            }
            26 => {
                let mut d =
                    json!({"members": self.many(5, |s| { let u = s.user_id(); s.member(g, Some(u)) })});
                let keys = [("presences", self.many(3, |s| s.presence())), ("not_found", json!([1, "x"]))];
                self.some(&mut d, &keys);
                self.make(g, "GUILD_MEMBERS_CHUNK", d)
            }
            27 if self.rng.chance(1, 2) => {
                let d = json!({"role_id": self.id(role)});
                self.make(g, "GUILD_ROLE_DELETE", d)
            }
            27 => {
                let d = json!({"role": self.thing(g, 400)});
                let name = ["GUILD_ROLE_CREATE", "GUILD_ROLE_UPDATE"][self.rng.below(2) as usize];
                self.make(g, name, d)
            }
            28 => {
                let d = self.presence();
                self.make(g, "PRESENCE_UPDATE", d)
            }
            29 => {
                let mut d = self.voice_state(g);
                if self.rng.chance(1, 20) {
                    d["guild_id"] = Value::Null;
                    return Event { shard: self.shard_of(g), name: "VOICE_STATE_UPDATE".to_owned(), d };
                }
                self.make(g, "VOICE_STATE_UPDATE", d)
            }
            30 => {
                let member = self.member(g, Some(user));
                let name = ["TYPING_START", "INTERACTION_CREATE"][self.rng.below(2) as usize];
                let other = self.user_id().to_string();
                let resolved = json!({"members": {other.as_str(): self.member(g, None)}, "users": {}});
                self.make(g, name, json!({"member": member, "data": {"resolved": resolved}}))
            }
            _ => self.message_event(g),
        }
    }

    fn list_event(&mut self, guild: u64, name: &str, key: &str, base: u64) -> Event {
        let mut d = json!({});
        d[key] = self.things(guild, base, 4);
        self.make(guild, name, d)
    }

    fn thing_event(&mut self, guild: u64, name: &str, base: u64) -> Event {
        let d = self.thing(guild, base);
        self.make(guild, name, d)
    }

    fn message_event(&mut self, g: u64) -> Event {
        let private = self.rng.chance(1, 6);
        let channel = if private { 150 + self.rng.below(2) } else { self.any_channel(g) };
        let message = if self.rng.chance(1, 8) { channel } else { 2000 + self.rng.below(8) };
        let user = self.user_id();
        let (name, mut d) = match self.rng.below(8) {
            kind @ 0..=3 => {
                let mut d = json!({"id": self.id(message), "author": self.user(user), "content": self.text(),
                    "flags": if self.rng.chance(1, 10) { 64 } else { 0 }, "tts": self.flag()});
                let poll = json!({"question": {}, "results": {"answer_counts": []}});
                let mention = self.user_id();
                let keys = [
                    ("member", self.member(g, None)),
                    ("mentions", json!([self.user(mention)])),
                    ("embeds", json!([{"type": "hologram"}])),
                    ("poll", if self.rng.chance(1, 2) { poll } else { json!({"question": 1}) }),
                    ("reactions", json!([{"emoji": self.emoji(), "count": self.number()}, 5])),
                ];
                self.some(&mut d, &keys);
                if self.rng.chance(1, 12) {
                    d["webhook_id"] = d["author"]["id"].clone();
                }
                (if kind < 3 { "MESSAGE_CREATE" } else { "MESSAGE_UPDATE" }, d)
            }
            4 => ("MESSAGE_DELETE", json!({ "id": self.id(message) })),
            5 if self.rng.chance(1, 2) => ("MESSAGE_DELETE_BULK", json!({"ids": [self.id(message), "2001"]})),
            5 => {
                let name = ["MESSAGE_POLL_VOTE_ADD", "MESSAGE_POLL_VOTE_REMOVE"][self.rng.below(2) as usize];
                (name, json!({"answer_id": 1 + self.rng.below(2)}))
            }
            _ => {
                let suffix = ["ADD", "ADD", "ADD", "REMOVE", "REMOVE", "REMOVE_ALL", "REMOVE_EMOJI"];
                let suffix = suffix[self.rng.below(7) as usize];
                let mut d = json!({"emoji": self.emoji(), "burst": self.flag()});
                let keys = [("member", self.member(g, Some(user))), ("burst_colors", json!(["#ff5500"]))];
                self.some(&mut d, &keys);
                return self.placed(
                    g,
                    private,
                    channel,
                    message,
                    user,
                    &format!("MESSAGE_REACTION_{suffix}"),
                    d,
                );
            }
        };
        if private || self.rng.chance(1, 10) {
            d["channel_type"] = json!(if private { 1 + 2 * self.rng.below(2) } else { 0 });
        }
        self.placed(g, private, channel, message, user, name, d)
    }

    #[allow(clippy::too_many_arguments, reason = "one caller's locals")]
    fn placed(
        &mut self,
        g: u64,
        private: bool,
        channel: u64,
        message: u64,
        user: u64,
        name: &str,
        d: Value,
    ) -> Event {
        let mut d = d;
        d["channel_id"] = self.id(channel);
        d["message_id"] = self.id(message);
        d["user_id"] = self.id(user);
        if private {
            return Event { shard: 0, name: name.to_owned(), d };
        }
        self.make(g, name, d)
    }

    /// Changes one place into something that should not be there.
    fn bend(&mut self, d: &mut Value, depth: u32) {
        let inner = match d {
            Value::Object(map) if !map.is_empty() => {
                let at = self.rng.below(map.len() as u64) as usize;
                if depth == 0 && self.rng.chance(1, 3) {
                    let key = map.keys().nth(at).cloned().unwrap_or_default();
                    map.remove(&key);
                    return;
                }
                map.values_mut().nth(at)
            }
            Value::Array(list) if !list.is_empty() => {
                let at = self.rng.below(list.len() as u64) as usize;
                list.get_mut(at)
            }
            _ => None,
        };
        match inner {
            Some(inner) if depth < 4 && !self.rng.chance(1, 3) => self.bend(inner, depth + 1),
            Some(inner) => *inner = self.nonsense(),
            None => *d = self.nonsense(),
        }
    }

    fn nonsense(&mut self) -> Value {
        let odd = [
            json!(null),
            json!(1.5),
            json!("-1"),
            json!("abc"),
            json!("18446744073709551616"),
            json!(""),
            json!([]),
            json!({}),
            json!([[], 1, null]),
            json!(true),
            json!(u64::MAX),
            json!("007"),
        ];
        odd[self.rng.below(odd.len() as u64) as usize].clone()
    }
}

/// One line per event: shard, name, body.
pub fn print(events: &[Event]) -> String {
    events.iter().map(|e| format!("{} {} {}\n", e.shard, e.name, e.d)).collect()
}

/// Reads what `print` wrote.
pub fn parse(text: &str) -> Vec<Event> {
    let line = |line: &str| {
        let mut parts = line.splitn(3, ' ');
        let mut part = || parts.next().expect("shard, name, body");
        let (shard, name, d) = (part().parse().expect("a shard"), part().to_owned(), part());
        Event { shard, name, d: serde_json::from_str(d).expect("a body") }
    };
    text.lines().map(line).collect()
}

/// The shortest sequence found by dropping events, halves first, for which `fails` still holds.
pub fn shrink(mut events: Vec<Event>, fails: impl Fn(&[Event]) -> bool) -> Vec<Event> {
    let mut chunk = events.len().div_ceil(2).max(1);
    loop {
        let mut at = 0;
        while at < events.len() {
            let mut fewer = events.clone();
            fewer.drain(at..(at + chunk).min(events.len()));
            if fails(&fewer) {
                events = fewer;
            } else {
                at += chunk;
            }
        }
        if chunk == 1 {
            return events;
        }
        chunk = chunk.div_ceil(2);
    }
}
