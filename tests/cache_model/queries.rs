//! What a worker gets for each query, as JSON.
//!
//! - Every answer of a guild's child has `guild_id`, a decimal string written from the owner, in whatever form (or not
//!   at all) it came: who asks for a role by its id learns the guild. Private channels and their messages have none.
//! - Member: `user` inside, from the users store; `{"id":".."}` if no full user object was ever seen.
//! - Presence: `user` is `{"id":".."}`. Message: as sent, with its own author, member and mentions.
//! - Guild: its properties and `unavailable`, without the lists of children, as the original answered (its cached
//!   guild had none): children change alone, a full list of members has no bound, and each list has a query.
//!   `GUILD_CARRIES` is the one place to change that.
//! - GuildChannel answers threads too; Thread only threads. PrivateChannel: type 1; Group: type 3.
//! - VoiceChannelStates: an array by user; `[]` for a cached guild channel, a miss for an unknown one.
//! - VoiceState (user, guild); if the second is no guild known here, it is a channel.
//! - Lists: by id, ascending; `[]` for a known guild with none, a miss for an unknown guild. GuildChannels includes
//!   threads (nothing else lists them). GuildMembers (guild, after = 0, limit = 1000): users with larger ids; the
//!   limit is cut to 1000; 0 gives `[]`.
//! - Stats: counts of everything held. Kinds not held: a miss.
//! - An unknown type, a missing or malformed argument: refused. Surplus arguments are ignored.
//! - More than one shard may hold a user: all say the same as of their last event; the lowest shard answers, and
//!   `candidates` tells all answers that are right.

use super::oracle::{Kind, Object, Oracle, Partition, id, id_of};
use serde_json::{Value, json};

/// Child lists that a Guild answer brings along, from `roles`, `emojis`, `stickers`.
pub const GUILD_CARRIES: &[(&str, Kind)] = &[];

/// Members in one answer.
pub const MEMBERS_PER_PAGE_MAX: u64 = 1000;

/// Every query type, with the number of arguments it needs.
pub const TYPES: [(&str, usize); 22] = [
    ("CurrentUser", 0),
    ("GuildChannel", 1),
    ("Emoji", 1),
    ("Group", 1),
    ("Guild", 1),
    ("Member", 2),
    ("Message", 2),
    ("Presence", 2),
    ("PrivateChannel", 1),
    ("Role", 1),
    ("User", 1),
    ("VoiceChannelStates", 1),
    ("VoiceState", 2),
    ("GuildChannels", 1),
    ("GuildRoles", 1),
    ("GuildEmojis", 1),
    ("GuildMembers", 1),
    ("Thread", 1),
    ("Sticker", 1),
    ("StageInstance", 1),
    ("ScheduledEvent", 1),
    ("Stats", 0),
];

/// An answer before it is put into a message.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    Hit(Value),
    /// A body of zero bytes.
    Miss,
    /// A log line, no answer.
    Refused,
}

impl Answer {
    /// The JSON of a hit.
    pub fn hit(self) -> Option<Value> {
        match self {
            Answer::Hit(value) => Some(value),
            _ => None,
        }
    }
}

impl Oracle {
    /// The answer of the lowest shard that has one.
    pub fn query(&self, kind: &str, arguments: &[Value]) -> Answer {
        self.candidates(kind, arguments).into_iter().next().unwrap_or(Answer::Miss)
    }

    /// Every right answer; none for a miss.
    pub fn candidates(&self, kind: &str, arguments: &[Value]) -> Vec<Answer> {
        let Some((_, needed)) = TYPES.iter().find(|(name, _)| *name == kind) else {
            return vec![Answer::Refused];
        };
        let read = if kind == "GuildMembers" { 3 } else { *needed };
        let ids: Option<Vec<u64>> = arguments.iter().take(read).map(id_of).collect();
        let Some(ids) = ids.filter(|ids| ids.len() >= *needed) else { return vec![Answer::Refused] };
        let hits: Vec<Value> = match kind {
            "CurrentUser" if !self.holds(Kind::CurrentUser) => vec![],
            "CurrentUser" => self.current_user.clone().map(Value::Object).into_iter().collect(),
            "Stats" => vec![self.stats()],
            _ => self.partitions.values().filter_map(|p| self.lookup(p, kind, &ids)).collect(),
        };
        hits.into_iter().map(Answer::Hit).collect()
    }

    fn holds(&self, kind: Kind) -> bool {
        self.options.kinds.contains(&kind)
    }

    fn lookup(&self, p: &Partition, kind: &str, ids: &[u64]) -> Option<Value> {
        let first = ids[0];
        match kind {
            "Guild" => self.guild(p, first),
            "GuildChannel" => channel(p, first).filter(|_| p.channels[&first].guild.is_some()),
            "Thread" => channel(p, first).filter(|_| p.channels[&first].is_thread()),
            "PrivateChannel" => private(p, first, 1),
            "Group" => private(p, first, 3),
            "Role" => child(p, Kind::Role, first),
            "Emoji" => child(p, Kind::Emoji, first),
            "Sticker" => child(p, Kind::Sticker, first),
            "StageInstance" => child(p, Kind::StageInstance, first),
            "ScheduledEvent" => child(p, Kind::ScheduledEvent, first),
            "User" => p.users.get(&first).filter(|_| self.holds(Kind::User)).cloned().map(Value::Object),
            "Member" => member(p, first, ids[1]),
            "Presence" => {
                let presence = p.presences.get(&(first, ids[1]))?;
                let mut answer = stamped(presence, Some(first));
                answer["user"] = json!({ "id": ids[1].to_string() });
                Some(answer)
            }
            "Message" => {
                let ring = p.rings.get(&first)?;
                let (_, message) = ring.messages.iter().find(|(message, _)| *message == ids[1])?;
                Some(stamped(message, ring.guild))
            }
            "VoiceState" => voice_state(p, first, ids[1]),
            "VoiceChannelStates" => voice_channel_states(self, p, first),
            "GuildChannels" => self.list(p, first, Kind::Channel),
            "GuildRoles" => self.list(p, first, Kind::Role),
            "GuildEmojis" => self.list(p, first, Kind::Emoji),
            "GuildMembers" => {
                let after = ids.get(1).copied().unwrap_or(0);
                let limit = ids.get(2).copied().unwrap_or(MEMBERS_PER_PAGE_MAX).min(MEMBERS_PER_PAGE_MAX);
                p.guilds.get(&first).filter(|_| self.holds(Kind::Member))?;
                let keys = p.members.keys().filter(|(guild, user)| *guild == first && *user > after);
                Some(keys.take(limit as usize).filter_map(|(_, user)| member(p, first, *user)).collect())
            }
            _ => unreachable!("every type of the table is above"),
        }
    }

    fn guild(&self, p: &Partition, guild: u64) -> Option<Value> {
        let found = p.guilds.get(&guild).filter(|_| self.holds(Kind::Guild))?;
        let mut answer = Value::Object(found.object.clone());
        answer["unavailable"] = json!(found.unavailable);
        for (key, kind) in GUILD_CARRIES {
            answer[*key] = self.list(p, guild, *kind).unwrap_or(json!([]));
        }
        Some(answer)
    }

    /// Channels with threads, or children of one kind.
    fn list(&self, p: &Partition, guild: u64, kind: Kind) -> Option<Value> {
        p.guilds.get(&guild)?;
        if kind == Kind::Channel {
            let held = self.holds(Kind::Channel) || self.holds(Kind::Thread);
            let of_guild = p.channels.iter().filter(|(_, c)| c.guild == Some(guild));
            return held.then(|| of_guild.map(|(_, c)| stamped(&c.object, c.guild)).collect());
        }
        let of_guild = p.children.iter().filter(|((k, _), c)| *k == kind && c.guild == guild);
        self.holds(kind).then(|| of_guild.map(|(_, c)| stamped(&c.object, Some(guild))).collect())
    }

    /// Counts over all shards. A user that two shards know counts twice: that is what memory holds.
    pub fn stats(&self) -> Value {
        let sum = |of: &dyn Fn(&Partition) -> usize| self.partitions.values().map(of).sum::<usize>();
        let children = |kind: Kind| sum(&|p| p.children.keys().filter(|(k, _)| *k == kind).count());
        let channels = |kind: Kind| sum(&|p| p.channels.values().filter(|c| c.kind() == kind).count());
        json!({
            "guilds": sum(&|p| p.guilds.len()),
            "unavailable_guilds": sum(&|p| p.guilds.values().filter(|g| g.unavailable).count()),
            "guild_channels": channels(Kind::Channel),
            "threads": channels(Kind::Thread),
            "private_channels": channels(Kind::PrivateChannel),
            "roles": children(Kind::Role),
            "emojis": children(Kind::Emoji),
            "stickers": children(Kind::Sticker),
            "soundboard_sounds": children(Kind::Sound),
            "members": sum(&|p| p.members.len()),
            "users": sum(&|p| p.users.len()),
            "presences": sum(&|p| p.presences.len()),
            "voice_states": sum(&|p| p.voice_states.len()),
            "messages": sum(&|p| p.rings.values().map(|ring| ring.messages.len()).sum()),
            "stage_instances": children(Kind::StageInstance),
            "scheduled_events": children(Kind::ScheduledEvent),
            "integrations": children(Kind::Integration),
            "thread_members": sum(&|p| p.thread_members.len()),
        })
    }
}

fn stamped(object: &Object, guild: Option<u64>) -> Value {
    let mut answer = object.clone();
    if let Some(guild) = guild {
        answer.insert("guild_id".to_owned(), json!(guild.to_string()));
    }
    Value::Object(answer)
}

fn channel(p: &Partition, id: u64) -> Option<Value> {
    p.channels.get(&id).map(|c| stamped(&c.object, c.guild))
}

fn private(p: &Partition, id: u64, kind: u64) -> Option<Value> {
    let found = p.channels.get(&id).filter(|c| c.guild.is_none())?;
    (found.object.get("type").and_then(Value::as_u64) == Some(kind)).then(|| stamped(&found.object, None))
}

fn child(p: &Partition, kind: Kind, id: u64) -> Option<Value> {
    p.children.get(&(kind, id)).map(|c| stamped(&c.object, Some(c.guild)))
}

fn member(p: &Partition, guild: u64, user: u64) -> Option<Value> {
    let mut answer = stamped(p.members.get(&(guild, user))?, Some(guild));
    answer["user"] =
        p.users.get(&user).map_or_else(|| json!({ "id": user.to_string() }), |u| Value::Object(u.clone()));
    Some(answer)
}

fn voice_state(p: &Partition, user: u64, place: u64) -> Option<Value> {
    if p.guilds.contains_key(&place) {
        return p.voice_states.get(&(place, user)).map(|state| stamped(state, Some(place)));
    }
    let in_channel =
        |((_, u), state): &(&(u64, u64), &Object)| *u == user && id(state, "channel_id") == Some(place);
    p.voice_states.iter().find(in_channel).map(|((guild, _), state)| stamped(state, Some(*guild)))
}

fn voice_channel_states(oracle: &Oracle, p: &Partition, channel: u64) -> Option<Value> {
    let here = p.voice_states.iter().filter(|(_, state)| id(state, "channel_id") == Some(channel));
    let mut here: Vec<_> = here.collect();
    here.sort_by_key(|((_, user), _)| *user);
    let states: Vec<Value> =
        here.into_iter().map(|((guild, _), state)| stamped(state, Some(*guild))).collect();
    let known = p.channels.get(&channel).is_some_and(|c| c.kind() == Kind::Channel);
    (oracle.holds(Kind::VoiceState) && (known || !states.is_empty())).then_some(Value::Array(states))
}
