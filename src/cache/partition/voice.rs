//! Voice states, by guild and user and by channel.

use crate::cache::encoding::{Pick, Value};
use crate::cache::kind::Kind;

use super::events::{id, maybe_id, object};
use super::keys::{self, GuildHead, Short, key, span, take_u64};
use super::members::Said;
use super::rows::{At, Stored};
use super::{Partition, Step};

impl Partition {
    /// The channel that a user of a guild is in.
    pub(super) fn voice_channel(&self, number: u64, user: u64) -> Option<u64> {
        let mut scratch = Vec::new();
        let value = self.tree.get(key(keys::VOICE, number, user), &mut scratch);
        value.map(|mut value| take_u64(&mut value))
    }

    fn is_alone_in_voice(&self, channel: u64) -> bool {
        let (from, to) = span(keys::VOICE_IN, channel);
        self.tree.range(from, to).nth(1).is_none()
    }

    fn has_voice(&self, channel: u64) -> bool {
        let (from, to) = span(keys::VOICE_IN, channel);
        self.tree.first(from, to).is_some()
    }
}

impl Step<'_> {
    pub(super) fn voice_state_update(&mut self, d: Value<'_>) -> Option<()> {
        match maybe_id(d, "guild_id")? {
            Some(guild) => self.put_voice_state(guild, d),
            None => Some(()),
        }
    }

    /// A state without `channel_id` does not fit, one with null leaves.
    pub(super) fn put_voice_state(&mut self, guild: u64, state: Value<'_>) -> Option<()> {
        let user = id(state, "user_id")?;
        let channel = state.get("channel_id")?;
        let channel = if channel.is_null() { None } else { Some(channel.as_id()?) };
        self.guild = Some(guild);
        let Some(head) = self.p.guild(guild) else { return Some(()) };
        if let Some(member) = object(state, "member")
            && object(member, "user").and_then(|user| id(user, "id")) == Some(user)
        {
            // The state's own user_id is what counts; a member of somebody else is not taken.
            self.put_member(guild, member, None, Said::Aside, &[]);
        }
        self.copy_to_member(guild, head, user, state);
        match channel {
            None => self.drop_voice_state(head.number, user),
            Some(channel) if self.holds(Kind::VoiceState) => {
                self.store_voice_state(guild, head.number, user, channel, state);
            }
            Some(_) => {}
        }
        Some(())
    }

    /// `deaf` and `mute` are the member's, too.
    fn copy_to_member(&mut self, guild: u64, head: GuildHead, user: u64, state: Value<'_>) {
        let is = |name: &'static str| state.get(name).and_then(Value::as_bool).is_some().then_some(name);
        let names: &[&str] = match (is("deaf"), is("mute")) {
            (Some(_), Some(_)) => &["deaf", "mute"],
            (Some(_), None) => &["deaf"],
            (None, Some(_)) => &["mute"],
            (None, None) => return,
        };
        self.merge(self.p.member_at(head, guild, user), state, Pick::Only(names));
    }

    fn store_voice_state(&mut self, guild: u64, number: u64, user: u64, channel: u64, state: Value<'_>) {
        let before = self.p.voice_channel(number, user);
        let at = At::new(keys::VOICE, number, user, guild);
        let pick = Pick::Without(&["member", "guild_id"]);
        let head = |out: &mut Vec<u8>| out.extend_from_slice(&channel.to_le_bytes());
        if self.put_object(at, head, state, pick, &[]) == Stored::Refused {
            return self.drop_voice_state(number, user);
        }
        if let Some(before) = before.filter(|before| *before != channel) {
            self.leave(before, user);
        }
        let elsewhere = self.p.number(key(keys::VOICE_IN, channel, user)).filter(|other| *other != number);
        if let Some(elsewhere) = elsewhere {
            // A user is in a channel once.
            self.drop_voice_state(elsewhere, user);
        }
        match self.put(key(keys::VOICE_IN, channel, user), Short::number(number).as_slice()) {
            Stored::New if self.p.is_alone_in_voice(channel) => {
                self.common.directory.add(keys::VOICE_IN, channel, self.p.index);
            }
            Stored::New | Stored::Replaced => {}
            Stored::Refused => drop(self.erase(at.key)),
        }
    }

    /// A user is in a channel no more.
    fn leave(&mut self, channel: u64, user: u64) {
        if self.erase(key(keys::VOICE_IN, channel, user)) && !self.p.has_voice(channel) {
            self.common.directory.remove(keys::VOICE_IN, channel, self.p.index);
        }
    }

    pub(super) fn drop_voice_state(&mut self, number: u64, user: u64) {
        if let Some(channel) = self.p.voice_channel(number, user) {
            self.erase(key(keys::VOICE, number, user));
            self.leave(channel, user);
        }
    }

    /// All voice states of a guild.
    pub(super) fn drop_voice_states(&mut self, number: u64) {
        self.each_id(keys::VOICE, number, |step, user| step.drop_voice_state(number, user));
    }

    /// Those of a guild that are in a channel.
    pub(super) fn drop_voice_states_in(&mut self, channel: u64, number: u64) {
        self.each_id(keys::VOICE_IN, channel, |step, user| {
            if step.p.number(key(keys::VOICE_IN, channel, user)) == Some(number) {
                step.drop_voice_state(number, user);
            }
        });
    }
}
