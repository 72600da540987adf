//! What happens in guilds. The events are of one piece: what is edited or deleted was written before, who leaves
//! was there, and everything shows people as they are by then.

use std::collections::VecDeque;

use super::channels::{FORUM, Thread, VOICE};
use super::messages::{Message, Place};
use super::objects::{Member, PERMISSIONS, Voice};
use super::text::*;
use super::{Guild, kind, names, presence};

/// Of 1,000 events. A guess, not a measurement: a bot with every intent in communities of a thousand members, where
/// presences are half of everything and people type more often than they send.
pub const MIX: [(&str, u32); 14] = [
    ("PRESENCE_UPDATE", 500),
    ("MESSAGE_CREATE", 170),
    ("TYPING_START", 130),
    ("VOICE_STATE_UPDATE", 45),
    ("GUILD_MEMBER_UPDATE", 40),
    ("MESSAGE_UPDATE", 35),
    ("MESSAGE_REACTION_ADD", 30),
    ("MESSAGE_DELETE", 15),
    ("GUILD_MEMBER_ADD", 10),
    ("GUILD_MEMBER_REMOVE", 10),
    ("MESSAGE_REACTION_REMOVE", 5),
    ("CHANNEL_UPDATE", 5),
    ("THREAD_CREATE", 3),
    ("GUILD_ROLE_UPDATE", 2),
];

/// Messages per guild that may still be edited, deleted and reacted to.
const RECENT: usize = 100;

struct Reaction {
    message: u64,
    channel: u64,
    user: u64,
    emoji: String,
}

struct Room {
    guild: Guild,
    /// Indices of the channels.
    texts: Vec<usize>,
    spoken: Vec<usize>,
    parents: Vec<usize>,
    /// Indices of the members in voice.
    speaking: Vec<usize>,
    messages: VecDeque<Message>,
    reactions: VecDeque<Reaction>,
}

/// Events without end. Needs guilds with members and enough channels to have one for text and one for voice.
pub struct Stream {
    rooms: Vec<Room>,
    rng: Rng,
    now: u64,
}

impl Stream {
    pub fn new(seed: u64, guilds: Vec<Guild>) -> Self {
        let room = |guild: Guild| {
            let of = |wanted: &dyn Fn(&super::Channel) -> bool| {
                let channels = guild.channels.iter().enumerate();
                channels.filter(|(_, it)| wanted(it)).map(|(at, _)| at).collect::<Vec<_>>()
            };
            let (texts, spoken) = (of(&|it| it.is_text()), of(&|it| it.kind == VOICE));
            let parents = of(&|it| it.is_text() || it.kind == FORUM);
            assert!(!texts.is_empty() && !spoken.is_empty() && guild.members.len() > 1, "too small a guild");
            let members = guild.members.iter().enumerate();
            let speaking = members.filter(|(_, it)| it.voice.is_some()).map(|(at, _)| at).collect();
            let (messages, reactions) = (VecDeque::new(), VecDeque::new());
            Room { guild, texts, spoken, parents, speaking, messages, reactions }
        };
        let rooms = guilds.into_iter().map(room).collect();
        Self { rooms, rng: Rng::of(seed, 0, kind::EVENTS, 0), now: NOW }
    }

    /// The name and `d` of the next event. Where there is nothing to edit, delete or react to yet, somebody writes.
    pub fn next_event(&mut self) -> (&'static str, String) {
        let mut at = self.rng.below(1000) as u32;
        let mut name = MIX[0].0;
        for (of, share) in MIX {
            name = of;
            if at < share {
                break;
            }
            at -= share;
        }
        self.now += self.rng.range(1, 9);
        let room = self.rng.below(self.rooms.len());
        let mut d = String::with_capacity(1024);
        let name = self.rooms[room].event(&mut self.rng, self.now, name, &mut d);
        (name, d)
    }
}

impl Iterator for Stream {
    type Item = (&'static str, String);

    fn next(&mut self) -> Option<Self::Item> {
        Some(self.next_event())
    }
}

impl Room {
    /// Somebody who is still there; `loud` prefers those who talk much.
    fn somebody(&self, rng: &mut Rng, loud: bool) -> usize {
        loop {
            let end = self.guild.members.len();
            let at = if loud { rng.skewed(end) } else { rng.below(end) };
            if !self.guild.members[at].gone {
                return at;
            }
        }
    }

    fn event(&mut self, rng: &mut Rng, now: u64, name: &'static str, out: &mut String) -> &'static str {
        let guild = self.guild.id;
        let needs_message = matches!(
            name,
            "MESSAGE_UPDATE" | "MESSAGE_DELETE" | "MESSAGE_REACTION_ADD" | "MESSAGE_REACTION_REMOVE"
        );
        let name = if needs_message && self.messages.is_empty() { "MESSAGE_CREATE" } else { name };
        match name {
            "MESSAGE_CREATE" => self.message(rng, now, out),
            "MESSAGE_UPDATE" => {
                let at = rng.below(self.messages.len());
                self.messages[at].content = names::chat(rng);
                self.messages[at].write(out, Some(now));
            }
            "MESSAGE_DELETE" => {
                let gone = self.messages.remove(rng.below(self.messages.len())).expect("below its length");
                braces(out, |out| {
                    id(out, "id", gone.id);
                    id(out, "channel_id", gone.channel);
                    id(out, "guild_id", guild);
                });
            }
            "PRESENCE_UPDATE" => {
                let user = &self.guild.members[self.somebody(rng, false)].user;
                presence::write(out, rng, user, Some(guild), now);
            }
            "TYPING_START" => {
                let channel = self.guild.channels[self.texts[rng.skewed(self.texts.len())]].id;
                let member = &self.guild.members[self.somebody(rng, true)];
                braces(out, |out| {
                    id(out, "user_id", member.user.id);
                    raw(out, "timestamp", now / 1000);
                    key(out, "member");
                    member.write(out, None);
                    id(out, "guild_id", guild);
                    id(out, "channel_id", channel);
                });
            }
            "GUILD_MEMBER_UPDATE" => self.member_update(rng, now, out),
            "GUILD_MEMBER_ADD" => {
                let member = Member::new(rng, self.guild.made, &[]).just_joined(now);
                member.write(out, Some(guild));
                self.guild.members.push(member);
            }
            "GUILD_MEMBER_REMOVE" => {
                let at = self.somebody(rng, false);
                self.speaking.retain(|it| *it != at);
                self.guild.members[at].gone = true;
                braces(out, |out| {
                    object(out, "user", |out| self.guild.members[at].user.fields(out, None));
                    id(out, "guild_id", guild);
                });
            }
            "VOICE_STATE_UPDATE" => self.voice(rng, out),
            "MESSAGE_REACTION_ADD" => self.reaction_add(rng, out),
            "MESSAGE_REACTION_REMOVE" => self.reaction_remove(rng, out),
            "CHANNEL_UPDATE" => {
                let at = self.texts[rng.below(self.texts.len())];
                let channel = &mut self.guild.channels[at];
                match rng.below(4) {
                    0 => channel.topic = Some(names::words(rng, 8)),
                    1 => channel.name = names::channel(rng, channel.kind),
                    2 => channel.position = rng.range(0, 50),
                    _ => channel.slowmode = rng.pick(&[0, 5, 10, 30]),
                }
                channel.version = now;
                channel.write(out, Some(guild));
            }
            "GUILD_ROLE_UPDATE" => {
                let at = rng.below(self.guild.roles.len());
                let role = &mut self.guild.roles[at];
                match rng.below(3) {
                    _ if at == 0 => role.permissions = rng.pick(PERMISSIONS),
                    0 => role.name = names::role(rng),
                    1 => role.color = rng.range(0, 0xFF_FFFF),
                    _ => role.permissions = rng.pick(PERMISSIONS),
                }
                role.version = now;
                braces(out, |out| {
                    key(out, "role");
                    role.write(out);
                    id(out, "guild_id", guild);
                });
            }
            "THREAD_CREATE" => {
                let owner = self.guild.members[self.somebody(rng, true)].user.id;
                let parent = &self.guild.channels[self.parents[rng.below(self.parents.len())]];
                Thread::new(rng, guild, parent, owner, now).write(out, None, false);
            }
            _ => unreachable!("{name} is not in the mix"),
        }
        name
    }

    fn message(&mut self, rng: &mut Rng, now: u64, out: &mut String) {
        let channel = self.texts[rng.skewed(self.texts.len())];
        let channel = &mut self.guild.channels[channel];
        let id = channel.id;
        let place = Place { guild: self.guild.id, channel: id, now, emojis: &self.guild.emojis };
        let author = self.somebody(rng, true);
        let reply = rng.chance(14);
        let reply_to = self.messages.iter().rev().find(|it| reply && it.channel == id);
        // A reply mentions whom it answers, if that one is still there.
        let members = &self.guild.members;
        let mentioned = match reply_to {
            Some(original) => members.iter().find(|it| it.user.id == original.author),
            None => rng.chance(6).then(|| &members[self.somebody(rng, true)]),
        };
        let message = Message::new(rng, &place, &members[author], reply_to, mentioned);
        message.write(out, None);
        self.guild
            .channels
            .iter_mut()
            .filter(|it| it.id == id)
            .for_each(|it| it.last_message = Some(message.id));
        self.messages.push_back(message);
        if self.messages.len() > RECENT {
            self.messages.pop_front();
        }
    }

    fn member_update(&mut self, rng: &mut Rng, now: u64, out: &mut String) {
        let at = self.somebody(rng, false);
        let roles = &self.guild.roles;
        let member = &mut self.guild.members[at];
        match rng.below(10) {
            0..6 if roles.len() > 1 => {
                let role = roles[1 + rng.skewed(roles.len() - 1)].id;
                match member.roles.iter().position(|it| *it == role) {
                    Some(held) => drop(member.roles.remove(held)),
                    None => member.roles.push(role),
                }
            }
            0..8 => member.nick = rng.chance(80).then(|| names::display(rng)),
            8 => member.timeout_until = rng.chance(50).then(|| now + DAY),
            _ => member.user.avatar = Some(rng.hex(32)),
        }
        member.pending = false;
        member.update(out, self.guild.id);
    }

    /// People come, mute themselves, move and go.
    fn voice(&mut self, rng: &mut Rng, out: &mut String) {
        let channel = self.guild.channels[self.spoken[rng.skewed(self.spoken.len())]].id;
        let inside = !self.speaking.is_empty() && rng.chance(68);
        let (at, what) = if inside {
            (self.speaking[rng.below(self.speaking.len())], rng.below(100))
        } else {
            (self.somebody(rng, true), 100)
        };
        let member = &mut self.guild.members[at];
        let mut voice = match member.voice.take() {
            Some(voice) => voice,
            None => {
                self.speaking.push(at);
                Voice::new(rng, channel)
            }
        };
        let mut to = Some(voice.channel);
        match what {
            0..47 => {
                to = None;
                self.speaking.retain(|it| *it != at);
            }
            47..80 => voice.self_mute = !voice.self_mute,
            _ => {
                voice.channel = channel;
                to = Some(channel);
            }
        }
        let member = &self.guild.members[at];
        voice.write(out, member.user.id, to, Some((self.guild.id, member)));
        self.guild.members[at].voice = to.map(|_| voice);
    }

    fn emoji(&self, rng: &mut Rng) -> String {
        let mut out = String::new();
        braces(&mut out, |out| {
            if !self.guild.emojis.is_empty() && rng.chance(40) {
                let emoji = &self.guild.emojis[rng.skewed(self.guild.emojis.len())];
                text(out, "name", &emoji.name);
                id(out, "id", emoji.id);
            } else {
                text(out, "name", rng.pick(names::EMOJI));
                raw(out, "id", "null");
            }
        });
        out
    }

    fn reaction_add(&mut self, rng: &mut Rng, out: &mut String) {
        let member = &self.guild.members[self.somebody(rng, true)];
        let message = &self.messages[rng.below(self.messages.len())];
        let emoji = self.emoji(rng);
        let reaction =
            Reaction { message: message.id, channel: message.channel, user: member.user.id, emoji };
        braces(out, |out| {
            id(out, "user_id", reaction.user);
            raw(out, "type", 0);
            id(out, "message_id", reaction.message);
            id(out, "message_author_id", message.author);
            key(out, "member");
            member.write(out, None);
            raw(out, "emoji", &reaction.emoji);
            id(out, "channel_id", reaction.channel);
            raw(out, "burst", false);
            id(out, "guild_id", self.guild.id);
        });
        self.reactions.push_back(reaction);
        if self.reactions.len() > RECENT {
            self.reactions.pop_front();
        }
    }

    /// One that was added, or else one from before the stream.
    fn reaction_remove(&mut self, rng: &mut Rng, out: &mut String) {
        let known = self.reactions.remove(rng.below(self.reactions.len().max(1)));
        let reaction = known.unwrap_or_else(|| {
            let (message, user) = (&self.messages[0], &self.guild.members[self.somebody(rng, true)].user);
            Reaction { message: message.id, channel: message.channel, user: user.id, emoji: self.emoji(rng) }
        });
        braces(out, |out| {
            id(out, "user_id", reaction.user);
            raw(out, "type", 0);
            id(out, "message_id", reaction.message);
            raw(out, "emoji", &reaction.emoji);
            id(out, "channel_id", reaction.channel);
            raw(out, "burst", false);
            id(out, "guild_id", self.guild.id);
        });
    }
}
