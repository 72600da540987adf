//! The oracle of the cache's model test: what `events.md` says each event does to a cache, in plain maps of JSON.
//!
//! Enters: `(shard, event name, d)`. Leaves: answers to queries (`queries.rs`). Never: speed, bounds on memory,
//! a panic on a value of a wrong type. It is slow on purpose, so that it can be read beside the table of events.
//!
//! # Policies
//! Where the table leaves a choice, what keeps most for workers was chosen. The cache copies this list.
//!
//! Reading
//! 1. An id is an unsigned integer or a string of ASCII digits, 64 bits either way; anything else is no id.
//! 2. A body that lacks an id it needs, holds a malformed one, or has a non-list where a list belongs, is refused
//!    whole: the state stays as it was (`apply` answers false). A null id or list reads as absent. An element of
//!    a list that does not fit is skipped alone. All other values are kept as sent, whatever their type.
//! 3. Partitions: what a shard's events made belongs to that shard, and no other shard's events touch it. The
//!    current user is one for all shards, the last one told wins.
//! 4. A guild is known from READY, GUILD_CREATE or an outage on. What belongs to an unknown guild is not kept (its
//!    GUILD_CREATE brings everything anyway, and nothing would ever remove it); that is no refusal.
//! 5. An id names one entity of its kind in a partition. Arriving under another guild it moves: the old one goes with
//!    its cascade. A channel that turns from thread to channel or back loses its messages and thread members, no
//!    more. An update or delete that names another
//!    guild than the entity's is ignored.
//! 6. `kinds` decides what is held. Guilds are known even if their kind is not held. Users are held if users or
//!    members are (a member's answer has its user inside), and `User` answers only if users are.
//!
//! Guilds
//! 7. Children live apart and are not in the guild's object. `unavailable` is kept as a boolean, always answered.
//! 8. An outage (GUILD_DELETE or GUILD_CREATE with `unavailable` exactly true, READY's list) flags the guild and keeps
//!    its children until the next GUILD_CREATE replaces them. GUILD_CREATE unavailable merges its properties.
//! 9. GUILD_CREATE: children not in the payload go, the others are replaced. Kept: integrations, and messages of
//!    channels and threads that are still there, for the payload never carries them; the `user` of emojis, stickers
//!    and sounds if absent now. Dropped: all thread members, channel `status` and `voice_start_time`.
//! 10. GUILD_UPDATE merges by key (so that undocumented keys of GUILD_CREATE stay) and changes none of the keys that
//!    only GUILD_CREATE has. A set whose list is absent stays.
//! 11. member_count: +1 on GUILD_MEMBER_ADD of a member not cached, -1 on every REMOVE, never below 0, never made up.
//! 12. READY needs `user.id` and `guilds`. Private channels stay, all messages go: nobody says what was edited or deleted
//!     meanwhile. A guild that is not listed goes.
//!
//! Channels
//! 13. A channel is private if no guild is named and its type is 1 or 3; without a guild and of another type it is
//!    ignored unless cached. Types 10, 11, 12 under a guild are threads; every other type is a guild channel.
//! 14. CHANNEL_CREATE and CHANNEL_UPDATE replace and keep `status` and `voice_start_time`; THREAD_* replace and keep
//!    `member`, `newly_created` is not stored. An archived thread is evicted.
//! 15. CHANNEL_DELETE cascades even if the channel itself is unknown. THREAD_DELETE of what is no thread: ignored.
//! 16. THREAD_LIST_SYNC: threads in the payload are replaced (without the old `member`), their messages and members
//!    stay. The bot removed from a private thread: the thread is dropped, whatever the bot may manage.
//! 17. Thread members of an unknown thread are not kept; the guild member and presence inside are.
//! 18. VOICE_CHANNEL_START_TIME_UPDATE without the key writes null.
//!
//! Members and users
//! 19. GUILD_CREATE, GUILD_MEMBER_ADD, GUILD_MEMBERS_CHUNK replace a member, every other source merges (also resolved
//!    members, if cached). `user` is stored apart; `permissions` of an interaction is left out.
//!     With GUILD_MEMBERS, only those three and GUILD_MEMBER_UPDATE change a cached member or, by it, his user.
//! 20. A user is kept while a member, a private channel's `recipients` or the bot itself refers to it. Full objects
//!    (`username` is a string) merge by key: from members, message authors and mentions, recipients, interactions,
//!    READY, USER_UPDATE. Not from webhooks' authors, bans, creators of emojis, stickers, sounds or events.
//!    Within one event members come first, then users, then presences.
//! 21. A presence's user merges present keys into a cached user, if they have their documented type. The presence
//!    keeps `user.id` only. A presence `offline` is deleted. Presences and voice states need no cached member.
//! 22. A voice state's boolean `deaf` and `mute` are copied onto the cached member, also when it leaves. A user is in a
//!     channel once: the same channel under another guild replaces the state there.
//!
//! Messages
//! 23. Keyed by channel and id; the ring drops the smallest id, which is the oldest message. MESSAGE_CREATE of a cached message merges.
//!    MESSAGE_UPDATE of one that is not cached touches users and members only. Ephemeral ones leave no trace.
//! 24. Without `guild_id` the cached channel decides, then `channel_type` 1 or 3, which makes a stub
//!    `{id,type,recipients}`; the bot's own message makes it without recipients, and they are filled in by the
//!    first other author. Otherwise the message is ignored. A cached channel of another guild: ignored.
//! 25. A thread's counters grow unless the message is its starter (same id), cached, or already `last_message_id`;
//!    `message_count` shrinks with each delete named, not below 0. Counters that are no integers are left alone.
//! 26. A reaction entry made by an event has emoji, count, count_details, me, me_burst, burst_colors. Poll votes need
//!    `poll.results`; a vote removed from an unknown answer does nothing. An update's `poll` without results keeps
//!    the old results; `tts` of an update is not copied.
//!
//! The rest
//! 27. Scheduled events keep `user_count` and `creator`, integrations `user`, if absent; status 3 and 4 evict.
//! 28. A role dropped because a list no longer has it stays in members' `roles`; GUILD_ROLE_DELETE removes it there.
//!
//! Answers are described in `queries.rs`.

use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// A JSON object.
pub type Object = Map<String, Value>;

/// What can be held or left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    CurrentUser,
    Guild,
    Channel,
    /// With thread members.
    Thread,
    PrivateChannel,
    Role,
    Emoji,
    Sticker,
    Sound,
    Member,
    User,
    Presence,
    VoiceState,
    Message,
    StageInstance,
    ScheduledEvent,
    Integration,
}

/// Every kind.
pub const KINDS: [Kind; 17] = [
    Kind::CurrentUser,
    Kind::Guild,
    Kind::Channel,
    Kind::Thread,
    Kind::PrivateChannel,
    Kind::Role,
    Kind::Emoji,
    Kind::Sticker,
    Kind::Sound,
    Kind::Member,
    Kind::User,
    Kind::Presence,
    Kind::VoiceState,
    Kind::Message,
    Kind::StageInstance,
    Kind::ScheduledEvent,
    Kind::Integration,
];

/// Lists of a guild's object that are stored apart.
pub const CHILD_LISTS: [&str; 11] = [
    "channels",
    "threads",
    "roles",
    "emojis",
    "stickers",
    "members",
    "presences",
    "voice_states",
    "stage_instances",
    "guild_scheduled_events",
    "soundboard_sounds",
];

/// Keys that GUILD_UPDATE never changes, besides the lists.
pub const ONLY_IN_GUILD_CREATE: [&str; 4] = ["joined_at", "large", "unavailable", "member_count"];

/// What the cache is built with.
#[derive(Clone, Debug)]
pub struct Options {
    /// Shards that this process runs.
    pub shards: Vec<u32>,
    /// Shards of the bot; the generator sends a guild's events to `(id >> 22) % shard_count`.
    pub shard_count: u32,
    /// Messages kept per channel; 0 keeps none.
    pub message_cache_size: usize,
    /// What is held.
    pub kinds: BTreeSet<Kind>,
    /// Whether the bot has GUILD_MEMBERS.
    pub members_are_told: bool,
}

impl Options {
    /// One shard, everything held, `message_cache_size` messages per channel.
    pub fn all(message_cache_size: usize) -> Options {
        Options {
            shards: vec![0],
            shard_count: 1,
            message_cache_size,
            kinds: KINDS.into_iter().collect(),
            members_are_told: false,
        }
    }
}

/// A guild without its children.
#[derive(Clone, Debug, PartialEq)]
pub struct Guild {
    pub object: Object,
    pub unavailable: bool,
}

/// A guild channel, a thread or (without guild) a private channel.
#[derive(Clone, Debug, PartialEq)]
pub struct Channel {
    pub guild: Option<u64>,
    pub object: Object,
}

impl Channel {
    /// Whether its type is a thread's and it is in a guild.
    pub fn is_thread(&self) -> bool {
        self.guild.is_some() && is_thread_type(self.object.get("type"))
    }

    /// The kind that decides whether it is held.
    pub fn kind(&self) -> Kind {
        match (self.guild, self.is_thread()) {
            (None, _) => Kind::PrivateChannel,
            (_, true) => Kind::Thread,
            _ => Kind::Channel,
        }
    }
}

/// A role, emoji, sticker, sound, stage instance, scheduled event or integration.
#[derive(Clone, Debug, PartialEq)]
pub struct Child {
    pub guild: u64,
    pub object: Object,
}

/// The last messages of a channel, in order of arrival.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Ring {
    pub guild: Option<u64>,
    pub messages: Vec<(u64, Object)>,
}

/// Why a user is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reference {
    Guild(u64),
    PrivateChannel(u64),
    Own,
}

/// What one shard's events made.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Partition {
    pub me: Option<u64>,
    pub guilds: BTreeMap<u64, Guild>,
    pub channels: BTreeMap<u64, Channel>,
    pub children: BTreeMap<(Kind, u64), Child>,
    /// (guild, user)
    pub members: BTreeMap<(u64, u64), Object>,
    pub users: BTreeMap<u64, Object>,
    pub references: BTreeMap<u64, BTreeSet<Reference>>,
    /// (guild, user)
    pub presences: BTreeMap<(u64, u64), Object>,
    /// (guild, user)
    pub voice_states: BTreeMap<(u64, u64), Object>,
    pub rings: BTreeMap<u64, Ring>,
    /// (thread, user)
    pub thread_members: BTreeMap<(u64, u64), Object>,
}

/// The whole model.
#[derive(Clone, Debug)]
pub struct Oracle {
    pub options: Options,
    pub current_user: Option<Object>,
    pub partitions: BTreeMap<u32, Partition>,
}

impl Oracle {
    /// An empty cache that waits for READY.
    pub fn new(options: Options) -> Oracle {
        let partitions = options.shards.iter().map(|shard| (*shard, Partition::default())).collect();
        Oracle { options, current_user: None, partitions }
    }

    /// Applies one dispatch. False: the body did not fit and nothing changed. Unknown events and shards of another
    /// process change nothing and are no misfit.
    pub fn apply(&mut self, shard: u32, event: &str, d: &Value) -> bool {
        let Some(partition) = self.partitions.get_mut(&shard) else { return true };
        let mut step = Step { options: &self.options, current_user: &mut self.current_user, p: partition };
        match event {
            // RESUMED may come without a body, and unknown events with any: they never reach a handler.
            name if !super::events::HANDLED.contains(&name) => true,
            name => d.as_object().and_then(|d| step.dispatch(name, d)).is_some(),
        }
    }
}

/// How much an event says of a member.
#[derive(Clone, Copy, PartialEq)]
pub enum Said {
    Whole,
    News,
    Aside,
}

/// One event on its way into a partition. A handler answers `None` if the body does not fit, before it has changed
/// anything.
pub struct Step<'a> {
    pub options: &'a Options,
    pub current_user: &'a mut Option<Object>,
    pub p: &'a mut Partition,
}

/// Policy 1.
pub fn id_of(value: &Value) -> Option<u64> {
    match value {
        Value::Number(n) => n.as_u64(),
        Value::String(s) if !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit()) => s.parse().ok(),
        _ => None,
    }
}

/// An id that must be there.
pub fn id(d: &Object, key: &str) -> Option<u64> {
    d.get(key).and_then(id_of)
}

/// An id that may be absent or null; the outer `None` is a misfit.
pub fn maybe_id(d: &Object, key: &str) -> Option<Option<u64>> {
    match d.get(key) {
        None | Some(Value::Null) => Some(None),
        Some(value) => id_of(value).map(Some),
    }
}

/// A list that may be absent or null; the outer `None` is a misfit.
pub fn maybe_list<'d>(d: &'d Object, key: &str) -> Option<Option<&'d [Value]>> {
    match d.get(key) {
        None | Some(Value::Null) => Some(None),
        Some(Value::Array(list)) => Some(Some(list)),
        Some(_) => None,
    }
}

/// As above, absent read as empty.
pub fn list<'d>(d: &'d Object, key: &str) -> Option<&'d [Value]> {
    maybe_list(d, key).map(Option::unwrap_or_default)
}

/// The object under `key`, if it is one.
pub fn object<'d>(d: &'d Object, key: &str) -> Option<&'d Object> {
    d.get(key).and_then(Value::as_object)
}

/// The object without some keys.
pub fn without(d: &Object, keys: &[&str]) -> Object {
    d.iter().filter(|(k, _)| !keys.contains(&k.as_str())).map(|(k, v)| (k.clone(), v.clone())).collect()
}

/// Writes every key of `new` over `old`.
pub fn merge(old: &mut Object, new: &Object) {
    old.extend(new.iter().map(|(k, v)| (k.clone(), v.clone())));
}

/// Takes from `old` the named keys that `new` lacks.
pub fn keep(new: &mut Object, old: &Object, keys: &[&str]) {
    for key in keys {
        if let Some(value) = old.get(*key).filter(|_| !new.contains_key(*key)) {
            new.insert((*key).to_owned(), value.clone());
        }
    }
}

/// Adds to a counter that is there and is an unsigned integer; stays within 0 and the largest one.
pub fn count(d: &mut Object, key: &str, by: i64) {
    if let Some(n) = d.get(key).and_then(Value::as_u64) {
        d.insert(key.to_owned(), json!(n.saturating_add_signed(by)));
    }
}

/// Types 10, 11 and 12.
pub fn is_thread_type(kind: Option<&Value>) -> bool {
    kind.and_then(Value::as_u64).is_some_and(|t| (10..=12).contains(&t))
}

fn ids_in(list: Option<&Value>) -> impl Iterator<Item = u64> {
    list.and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_object)
        .filter_map(|u| id(u, "id"))
}

/// The users that a private channel refers to.
pub fn recipients(channel: &Object) -> BTreeSet<u64> {
    ids_in(channel.get("recipients")).collect()
}

// What the handlers are made of: one way in and one way out for each kind.
impl Step<'_> {
    pub fn holds(&self, kind: Kind) -> bool {
        self.options.kinds.contains(&kind)
    }

    pub fn knows(&self, guild: u64) -> bool {
        self.p.guilds.contains_key(&guild)
    }

    // ---- users

    pub fn refer(&mut self, user: u64, reference: Reference) {
        self.p.references.entry(user).or_default().insert(reference);
    }

    pub fn release(&mut self, user: u64, reference: Reference) {
        let Some(references) = self.p.references.get_mut(&user) else { return };
        references.remove(&reference);
        if references.is_empty() {
            self.p.references.remove(&user);
            self.p.users.remove(&user);
        }
    }

    /// Policy 20: merges a full user object if somebody refers to the user.
    pub fn put_user(&mut self, user: &Object) {
        let held = self.holds(Kind::User) || self.holds(Kind::Member);
        let full = user.get("username").is_some_and(Value::is_string);
        let Some(id) = id(user, "id").filter(|_| held && full) else { return };
        if self.p.references.contains_key(&id) {
            merge(self.p.users.entry(id).or_default(), &without(user, &["member"]));
        }
    }

    // ---- members

    /// Policy 19. `user` stands in for a member's own `user`.
    pub fn put_member(&mut self, guild: u64, member: &Object, user: Option<&Object>, said: Said) {
        let Some(user) = object(member, "user").or(user) else { return };
        let Some(user_id) = id(user, "id") else { return };
        let known = self.p.members.contains_key(&(guild, user_id));
        if said == Said::Aside && self.options.members_are_told && known {
            return;
        }
        if self.knows(guild) && self.holds(Kind::Member) {
            let stored = self.p.members.entry((guild, user_id)).or_default();
            if said == Said::Whole {
                stored.clear();
            }
            merge(stored, &without(member, &["user", "guild_id"]));
            self.refer(user_id, Reference::Guild(guild));
        }
        self.put_user(user);
    }

    /// The member with all that a GUILD_MEMBER_REMOVE takes along.
    pub fn drop_member(&mut self, guild: u64, user: u64) {
        self.p.presences.remove(&(guild, user));
        self.p.voice_states.remove(&(guild, user));
        let channels = &self.p.channels;
        self.p.thread_members.retain(|(thread, member), _| {
            *member != user || channels.get(thread).and_then(|t| t.guild) != Some(guild)
        });
        if self.p.members.remove(&(guild, user)).is_some() {
            self.release(user, Reference::Guild(guild));
        }
    }

    /// Policy 21.
    pub fn put_presence(&mut self, guild: u64, presence: &Object) {
        let Some(user) = object(presence, "user") else { return };
        let Some(user_id) = id(user, "id") else { return };
        if let Some(known) = self.p.users.get_mut(&user_id) {
            for (key, value) in user.iter().filter(|(key, _)| *key != "id") {
                let fits = match key.as_str() {
                    "username" | "discriminator" => value.is_string(),
                    "global_name" | "avatar" | "banner" => value.is_string() || value.is_null(),
                    "bot" | "system" => value.is_boolean(),
                    "public_flags" | "flags" => value.is_u64(),
                    _ => true,
                };
                if fits {
                    known.insert(key.clone(), value.clone());
                }
            }
        }
        if presence.get("status").is_some_and(|status| status == "offline") {
            self.p.presences.remove(&(guild, user_id));
        } else if self.knows(guild) && self.holds(Kind::Presence) {
            self.p.presences.insert((guild, user_id), without(presence, &["user", "guild_id"]));
        }
    }

    /// Policy 22. A state without `channel_id` does not fit, one with null leaves.
    pub fn put_voice_state(&mut self, guild: u64, state: &Object) -> Option<()> {
        let user = id(state, "user_id")?;
        let channel = state.get("channel_id")?;
        if !channel.is_null() {
            id_of(channel)?;
        }
        if !self.knows(guild) {
            return Some(());
        }
        if let Some(member) = object(state, "member") {
            // The state's own user_id is what counts; a member of somebody else is not taken.
            if object(member, "user").and_then(|u| id(u, "id")) == Some(user) {
                self.put_member(guild, member, None, Said::Aside);
            }
        }
        if let Some(member) = self.p.members.get_mut(&(guild, user)) {
            for key in ["deaf", "mute"] {
                if let Some(value) = state.get(key).filter(|value| value.is_boolean()) {
                    member.insert(key.to_owned(), value.clone());
                }
            }
        }
        if channel.is_null() {
            self.p.voice_states.remove(&(guild, user));
        } else if self.holds(Kind::VoiceState) {
            let place = id_of(channel);
            self.p
                .voice_states
                .retain(|(g, u), old| *u != user || *g == guild || id(old, "channel_id") != place);
            self.p.voice_states.insert((guild, user), without(state, &["member", "guild_id"]));
        }
        Some(())
    }

    // ---- channels

    /// Puts a channel in place of the one with the same id, with `kept` keys of the old one.
    pub fn put_channel(&mut self, guild: Option<u64>, d: &Object, kept: &[&str]) {
        let Some(channel_id) = id(d, "id") else { return };
        let mut new = Channel { guild, object: without(d, &["guild_id", "newly_created"]) };
        if guild.is_some_and(|guild| !self.knows(guild)) {
            return;
        }
        if let Some(old) = self.p.channels.get(&channel_id) {
            if old.guild != new.guild {
                self.drop_channel(old.guild, channel_id);
            } else if old.is_thread() != new.is_thread() {
                self.drop_thread(channel_id);
            } else {
                keep(&mut new.object, &old.object, kept);
            }
        }
        if self.p.rings.get(&channel_id).is_some_and(|ring| ring.guild != guild) {
            self.p.rings.remove(&channel_id);
        }
        let archived = object(&new.object, "thread_metadata").and_then(|m| m.get("archived"));
        if new.is_thread() && archived == Some(&Value::Bool(true)) {
            self.drop_thread(channel_id);
        } else if self.holds(new.kind()) {
            self.refer_to_recipients(channel_id, &new);
            self.p.channels.insert(channel_id, new);
        }
    }

    fn refer_to_recipients(&mut self, channel_id: u64, new: &Channel) {
        let of = |channel: &Channel| match channel.guild {
            None => recipients(&channel.object),
            Some(_) => BTreeSet::new(),
        };
        let before = self.p.channels.get(&channel_id).map(of).unwrap_or_default();
        let after = of(new);
        for user in &after {
            self.refer(*user, Reference::PrivateChannel(channel_id));
        }
        for user in before.difference(&after) {
            self.release(*user, Reference::PrivateChannel(channel_id));
        }
        if new.guild.is_none() {
            let users = new.object.get("recipients").and_then(Value::as_array).into_iter().flatten();
            for user in users.filter_map(Value::as_object) {
                self.put_user(user);
            }
        }
    }

    /// CHANNEL_DELETE's cascade, within one guild (or the private channels).
    pub fn drop_channel(&mut self, guild: Option<u64>, channel: u64) {
        let threads: Vec<u64> = self
            .p
            .channels
            .iter()
            .filter(|(_, t)| t.guild == guild && t.is_thread() && id(&t.object, "parent_id") == Some(channel))
            .map(|(thread, _)| *thread)
            .filter(|thread| *thread != channel)
            .collect();
        for thread in threads {
            self.drop_thread(thread);
        }
        if self.p.rings.get(&channel).is_some_and(|ring| ring.guild == guild) {
            self.p.rings.remove(&channel);
        }
        if let Some(guild) = guild {
            let here = |d: &Object| id(d, "channel_id") == Some(channel);
            self.p.voice_states.retain(|(g, _), state| *g != guild || !here(state));
            self.p.children.retain(|(kind, _), child| {
                let placed = matches!(kind, Kind::StageInstance | Kind::ScheduledEvent);
                child.guild != guild || !placed || !here(&child.object)
            });
        }
        if self.p.channels.get(&channel).is_some_and(|c| c.guild == guild) {
            self.drop_thread(channel);
        }
    }

    /// A channel entity with its messages and thread members, and no more.
    pub fn drop_thread(&mut self, thread: u64) {
        self.p.rings.remove(&thread);
        self.p.thread_members.retain(|(t, _), _| *t != thread);
        if let Some(gone) = self.p.channels.remove(&thread).filter(|gone| gone.guild.is_none()) {
            for user in recipients(&gone.object) {
                self.release(user, Reference::PrivateChannel(thread));
            }
        }
    }

    // ---- what a guild owns by id

    /// Puts a role, emoji, ... in place of the one with the same id, with `kept` keys of the old one.
    pub fn put_child(&mut self, kind: Kind, guild: u64, d: &Object) {
        let (id_key, kept): (_, &[&str]) = match kind {
            Kind::Sound => ("sound_id", &["user"]),
            Kind::Emoji | Kind::Sticker | Kind::Integration => ("id", &["user"]),
            Kind::ScheduledEvent => ("id", &["user_count", "creator"]),
            _ => ("id", &[]),
        };
        let Some(child_id) = id(d, id_key) else { return };
        if !self.knows(guild) || !self.holds(kind) {
            return;
        }
        let over = d.get("status").and_then(Value::as_u64).is_some_and(|status| status == 3 || status == 4);
        if kind == Kind::ScheduledEvent && over {
            return self.drop_child(kind, guild, child_id);
        }
        let mut object = without(d, &["guild_id"]);
        if let Some(old) = self.p.children.get(&(kind, child_id)).filter(|old| old.guild == guild) {
            keep(&mut object, &old.object, kept);
        }
        self.p.children.insert((kind, child_id), Child { guild, object });
    }

    pub fn drop_child(&mut self, kind: Kind, guild: u64, child: u64) {
        if self.p.children.get(&(kind, child)).is_some_and(|old| old.guild == guild) {
            self.p.children.remove(&(kind, child));
        }
    }

    /// A complete list: what it lacks goes.
    pub fn replace_children(&mut self, kind: Kind, guild: u64, list: &[Value]) {
        let id_key = if kind == Kind::Sound { "sound_id" } else { "id" };
        let listed: BTreeSet<u64> =
            list.iter().filter_map(Value::as_object).filter_map(|d| id(d, id_key)).collect();
        self.p.children.retain(|(k, id), old| *k != kind || old.guild != guild || listed.contains(id));
        for child in list.iter().filter_map(Value::as_object) {
            self.put_child(kind, guild, child);
        }
    }
}
