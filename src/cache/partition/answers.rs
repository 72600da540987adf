//! Entities on their way out, as JSON text in Discord's shape.
//!
//! Every answer of what belongs to a guild has `guild_id`; a member has its user inside. Lists are in order of ids.

use std::io::Write;

use crate::cache::arena::Key;
use crate::cache::common::Common;
use crate::cache::encoding::{Context, Entity};
use crate::cache::kind::Kind;
use crate::cache::question::Question;

use super::channels::Place;
use super::keys::{self, GuildHead, at_row, key, span};
use super::rows::{At, head_len};
use super::{Partition, Tools};

/// The longest answer. The longest list of today's Discord, 500 channels and 1,000 threads, has about 1 MB.
pub const ANSWER_BYTES_MAX: usize = 4 << 20;

/// What became of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answered {
    /// The answer was appended.
    Found,
    /// It is not here.
    Missing,
    /// It would be longer than [`ANSWER_BYTES_MAX`].
    TooLarge,
}

/// A partition being asked.
pub(super) struct Reader<'a> {
    pub p: &'a Partition,
    pub common: &'a Common,
    pub tools: &'a mut Tools,
}

impl Partition {
    /// Appends the answer to `out`, if it is here.
    pub fn answer(
        &self,
        common: &Common,
        tools: &mut Tools,
        question: Question,
        out: &mut Vec<u8>,
    ) -> Answered {
        let start = out.len();
        let found = Reader { p: self, common, tools }.answer(question, out);
        if out.len() - start > ANSWER_BYTES_MAX {
            out.truncate(start);
            return Answered::TooLarge;
        }
        if found.is_none() {
            out.truncate(start);
            return Answered::Missing;
        }
        Answered::Found
    }
}

impl Reader<'_> {
    fn holds(&self, kind: Kind) -> bool {
        self.common.options.kinds.contains(kind)
    }

    fn answer(&mut self, question: Question, out: &mut Vec<u8>) -> Option<()> {
        match question {
            Question::Guild(guild) => self.guild(guild, out),
            Question::GuildChannel(channel) => {
                let place = self.p.place(channel).filter(|place| place.guild().is_some())?;
                self.object(place.at(channel), place.guild(), out)
            }
            Question::Thread(channel) => {
                let place = self.p.place(channel).filter(|place| place.is_thread())?;
                self.object(place.at(channel), place.guild(), out)
            }
            Question::PrivateChannel(channel) => self.private(channel, 1, out),
            Question::Group(channel) => self.private(channel, 3, out),
            Question::Role(id) => self.child(keys::ROLE, id, out),
            Question::Emoji(id) => self.child(keys::EMOJI, id, out),
            Question::Sticker(id) => self.child(keys::STICKER, id, out),
            Question::StageInstance(id) => self.child(keys::STAGE, id, out),
            Question::ScheduledEvent(id) => self.child(keys::EVENT, id, out),
            Question::User(user) => {
                let user = self.p.user(self.common, user, &mut self.tools.old)?;
                if !self.common.options.kinds.contains(Kind::User) {
                    return None;
                }
                user.write(out).ok()
            }
            Question::Member { guild, user } => {
                let head = self.p.guild(guild)?;
                self.member(guild, head, user, out)
            }
            Question::Presence { guild, user } => {
                let head = self.p.guild(guild)?;
                let at = At::new(keys::PRESENCE, head.people, user, guild);
                self.object(at, Some(guild), out)?;
                reopen(out);
                let _ = write!(out, "\"user\":{{\"id\":\"{user}\"}}}}");
                Some(())
            }
            Question::Message { channel, message } => {
                let ring = self.p.ring(channel)?;
                let guild = match ring.number {
                    Some(number) => Some(self.p.guild_of(number)?),
                    None => None,
                };
                self.object(At::new(keys::MESSAGE, ring.ring, message, channel), guild, out)
            }
            Question::VoiceState { user, place } => self.voice_state(user, place, out),
            Question::VoiceChannelStates(channel) => self.voice_channel_states(channel, out),
            Question::GuildChannels(guild) => {
                let head = self.p.guild(guild)?;
                if !self.holds(Kind::Channel) && !self.holds(Kind::Thread) {
                    return None;
                }
                self.channels(guild, head, out)
            }
            Question::GuildRoles(guild) => self.children(keys::ROLE, Kind::Role, guild, out),
            Question::GuildEmojis(guild) => self.children(keys::EMOJI, Kind::Emoji, guild, out),
            Question::GuildMembers { guild, after, limit } => self.members(guild, after, limit, out),
            // These two are of all partitions.
            Question::CurrentUser | Question::Stats => None,
        }
    }

    /// An object with `guild_id`.
    fn object(&mut self, at: At, guild: Option<u64>, out: &mut Vec<u8>) -> Option<()> {
        let value = self.p.tree.get(at.key, &mut self.tools.old)?;
        let bytes = value.get(head_len(at.key.kind, value)..)?;
        Entity { bytes, context: at.context(), shapes: &self.common.shapes }.write(out).ok()?;
        if let Some(guild) = guild {
            stamp(out, guild);
        }
        Some(())
    }

    fn guild(&mut self, guild: u64, out: &mut Vec<u8>) -> Option<()> {
        if !self.holds(Kind::Guild) {
            return None;
        }
        let head = self.p.guild(guild)?;
        self.object(At::new(keys::GUILD, 0, guild, 0), None, out)?;
        reopen(out);
        let _ = write!(out, "\"unavailable\":{}}}", head.unavailable);
        Some(())
    }

    fn private(&mut self, channel: u64, kind: u64, out: &mut Vec<u8>) -> Option<()> {
        let at = Place::Private.at(channel);
        let found = self.p.field_of(self.common, at, "type", |field| field.as_u64())?;
        (found == Some(kind)).then(|| self.object(at, None, out))?
    }

    fn child(&mut self, row: u8, id: u64, out: &mut Vec<u8>) -> Option<()> {
        let (number, guild) = self.p.child_place(row, id)?;
        self.object(At::new(row, number, id, guild), Some(guild), out)
    }

    fn member(&mut self, guild: u64, head: GuildHead, user: u64, out: &mut Vec<u8>) -> Option<()> {
        let at = self.p.member_at(head, guild, user);
        let bytes = self.p.tree.get(at.key, &mut self.tools.old)?;
        let entity = Entity { bytes, context: at.context(), shapes: &self.common.shapes };
        if self.p.is_being_deleted(head.people, entity) {
            let mut value = bytes.to_vec();
            for role in self.p.deleted_roles(head.people) {
                let entity = Entity { bytes: &value, ..entity };
                let mut without = Vec::new();
                if self.tools.encoder.without_element(entity, "roles", role, &mut without) == Ok(true) {
                    value = without;
                }
            }
            Entity { bytes: &value, ..entity }.write(out).ok()?;
        } else {
            entity.write(out).ok()?;
        }
        stamp(out, guild);
        reopen(out);
        out.extend_from_slice(b"\"user\":");
        match self.p.user(self.common, user, &mut self.tools.old) {
            Some(user) => user.write(out).ok()?,
            None => drop(write!(out, "{{\"id\":\"{user}\"}}")),
        }
        out.push(b'}');
        Some(())
    }

    fn voice_state(&mut self, user: u64, place: u64, out: &mut Vec<u8>) -> Option<()> {
        let (guild, number) = match self.p.guild(place) {
            Some(head) => (place, head.number),
            None => {
                let number = self.p.number(key(keys::VOICE_IN, place, user))?;
                (self.p.guild_of(number)?, number)
            }
        };
        self.object(At::new(keys::VOICE, number, user, guild), Some(guild), out)
    }

    /// By guild and user; none for a guild channel that is known, a miss for one that is not.
    fn voice_channel_states(&mut self, channel: u64, out: &mut Vec<u8>) -> Option<()> {
        if !self.holds(Kind::VoiceState) {
            return None;
        }
        let place = self.p.place(channel);
        let mut known = matches!(place, Some(Place::Guild { thread: false, .. }));
        let (from, to) = span(keys::VOICE_IN, channel);
        let mut list = List::begin(out);
        let mut next = Some(from);
        while let Some(found) = next.and_then(|from| self.p.tree.first(from, to)) {
            next = after(found);
            let Some(number) = self.p.number(found) else { continue };
            let Some(guild) = self.p.guild_of(number) else { continue };
            known = true;
            list.next()?;
            self.object(At::new(keys::VOICE, number, found.b, guild), Some(guild), list.out)?;
        }
        list.end();
        known.then_some(())
    }

    fn channels(&mut self, guild: u64, head: GuildHead, out: &mut Vec<u8>) -> Option<()> {
        let mut list = List::begin(out);
        let next = |p: &Partition, row, from: u64| {
            let (_, to) = span(row, head.number);
            p.tree.first(key(row, head.number, from), to)
        };
        let mut channel = next(self.p, keys::CHANNEL, 0);
        let mut thread = next(self.p, keys::THREAD, 0);
        // Both rows are in order; what is first of both comes first.
        loop {
            let first = match (channel, thread) {
                (Some(a), Some(b)) => {
                    if a.b < b.b {
                        a
                    } else {
                        b
                    }
                }
                (Some(one), None) | (None, Some(one)) => one,
                (None, None) => break,
            };
            list.next()?;
            self.object(At { key: first, parent: guild }, Some(guild), list.out)?;
            let following = first.b.checked_add(1).and_then(|from| next(self.p, first.kind, from));
            if first.kind == keys::CHANNEL {
                channel = following;
            } else {
                thread = following;
            }
        }
        list.end();
        Some(())
    }

    fn children(&mut self, row: u8, kind: Kind, guild: u64, out: &mut Vec<u8>) -> Option<()> {
        let head = self.p.guild(guild).filter(|_| self.holds(kind))?;
        let (from, to) = span(row, head.number);
        let mut list = List::begin(out);
        for (key, value) in self.p.tree.range(from, to) {
            list.next()?;
            self.tools.old.clear();
            value.read_into(&mut self.tools.old);
            let context = Context { own: key.b, parent: guild };
            let bytes = self.tools.old.as_slice();
            Entity { bytes, context, shapes: &self.common.shapes }.write(list.out).ok()?;
            stamp(list.out, guild);
        }
        list.end();
        Some(())
    }

    /// A page of members: fewer than `limit` when the answer is long enough.
    fn members(&mut self, guild: u64, after: u64, limit: u64, out: &mut Vec<u8>) -> Option<()> {
        let head = self.p.guild(guild).filter(|_| self.holds(Kind::Member))?;
        let (_, to) = span(keys::MEMBER, head.people);
        let start = out.len();
        let mut list = List::begin(out);
        let mut from = after.checked_add(1);
        for _ in 0..limit {
            let next = from.and_then(|from| self.p.tree.first(key(keys::MEMBER, head.people, from), to));
            let Some(next) = next else { break };
            let before = list.out.len();
            list.next()?;
            self.member(guild, head, next.b, list.out)?;
            if list.out.len() - start >= ANSWER_BYTES_MAX {
                list.out.truncate(before);
                break;
            }
            from = next.b.checked_add(1);
        }
        list.end();
        Some(())
    }
}

/// The key after this one, within its row.
fn after(found: Key) -> Option<Key> {
    found.b.checked_add(1).map(|b| Key { b, ..found })
}

/// Makes a written object take one more field.
fn reopen(out: &mut Vec<u8>) {
    // An object ends with its brace.
    out.pop();
    if out.last() != Some(&b'{') {
        out.push(b',');
    }
}

/// Adds `guild_id`, which no stored object has.
fn stamp(out: &mut Vec<u8>, guild: u64) {
    reopen(out);
    // Writing to a vector does not fail.
    let _ = write!(out, "\"guild_id\":\"{guild}\"}}");
}

/// A list being written.
struct List<'o> {
    out: &'o mut Vec<u8>,
    start: usize,
}

impl<'o> List<'o> {
    fn begin(out: &'o mut Vec<u8>) -> List<'o> {
        out.push(b'[');
        let start = out.len();
        List { out, start }
    }

    /// Begins an element; none when the list is too long already, which is seen by its length.
    fn next(&mut self) -> Option<()> {
        if self.out.len() - self.start > ANSWER_BYTES_MAX {
            return None;
        }
        if self.out.len() > self.start {
            self.out.push(b',');
        }
        Some(())
    }

    fn end(self) {
        self.out.push(b']');
    }
}

/// The guild whose shard knows the answer.
pub fn guild_of(question: Question) -> Option<u64> {
    match question {
        Question::Guild(guild)
        | Question::Member { guild, .. }
        | Question::Presence { guild, .. }
        | Question::VoiceState { place: guild, .. }
        | Question::GuildChannels(guild)
        | Question::GuildRoles(guild)
        | Question::GuildEmojis(guild)
        | Question::GuildMembers { guild, .. } => Some(guild),
        _ => None,
    }
}

/// Where the directory is to be asked for what is known by its own id. Voice states are found by a channel that is
/// known itself or not.
pub fn directory_rows(question: Question) -> impl Iterator<Item = (u8, u64)> {
    let one = |row, id| [Some((row, id)), None];
    let rows = match question {
        Question::GuildChannel(id)
        | Question::Thread(id)
        | Question::PrivateChannel(id)
        | Question::Group(id) => one(keys::CHANNEL_AT, id),
        Question::VoiceChannelStates(id) => [Some((keys::VOICE_IN, id)), Some((keys::CHANNEL_AT, id))],
        Question::Role(id) => one(at_row(keys::ROLE), id),
        Question::Emoji(id) => one(at_row(keys::EMOJI), id),
        Question::Sticker(id) => one(at_row(keys::STICKER), id),
        Question::StageInstance(id) => one(at_row(keys::STAGE), id),
        Question::ScheduledEvent(id) => one(at_row(keys::EVENT), id),
        Question::User(id) => one(keys::USER, id),
        Question::Message { channel, .. } => one(keys::RING, channel),
        Question::VoiceState { place, .. } => one(keys::VOICE_IN, place),
        _ => [None, None],
    };
    rows.into_iter().flatten()
}
