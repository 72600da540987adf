//! Members and presences, under the people of their guild.

use crate::cache::encoding::{Pick, Value};
use crate::cache::kind::Kind;

use super::events::{id, maybe_id, maybe_list, object, objects};
use super::keys::{self, GuildHead, key};
use super::rows::{At, Stored};
use super::users::Merge;
use super::{Partition, Step};

/// What a member's object has not: its user is kept apart, its guild is known.
const APART: [&str; 2] = ["user", "guild_id"];
/// The same for an interaction's member, whose permissions are of one channel.
const APART_IN_INTERACTION: [&str; 3] = ["user", "guild_id", "permissions"];

/// How much an event says of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// All there is: it takes the place of what is held.
    Whole,
    /// What has changed: it is written over what is held.
    News,
    /// What it is at the moment, beside something else: news only if nobody tells of changes.
    Aside,
}

impl Partition {
    /// Where a member's object is kept.
    pub(super) fn member_at(&self, head: GuildHead, guild: u64, user: u64) -> At {
        At::new(keys::MEMBER, head.people, user, guild)
    }
}

impl Step<'_> {
    /// Replaces a member, or writes what is said over what is known. `user` stands in for a member's own.
    pub(super) fn put_member(
        &mut self,
        guild: u64,
        member: Value<'_>,
        user: Option<Value<'_>>,
        said: Said,
        left_out: &[&str],
    ) {
        let Some(user) = object(member, "user").or(user) else { return };
        let Some(user_id) = id(user, "id") else { return };
        if self.holds(Kind::Member)
            && let Some(head) = self.p.guild(guild)
        {
            let at = self.p.member_at(head, guild, user_id);
            let pick = Pick::Without(if left_out.is_empty() { &APART } else { left_out });
            if said == Said::Aside && self.common.options.members_are_told && self.p.tree.contains(at.key) {
                // His user neither: an update comes for that as well.
                return;
            }
            if said == Said::Whole || !self.merge(at, member, pick) {
                self.store_member(at, user_id, member, pick);
            }
            self.strip_member(head, guild, user_id);
        }
        self.put_user(user, Merge::Full);
    }

    fn store_member(&mut self, at: At, user: u64, member: Value<'_>, pick: Pick<'_>) {
        let known = self.p.tree.contains(at.key);
        // First the reference: a member that is there has one, also when it goes to make room.
        if !known && self.refer(user) == Stored::Refused {
            return;
        }
        match (self.put_object(at, |_| {}, member, pick, &[]), known) {
            (Stored::Replaced, _) | (Stored::New, false) => {}
            // It went to make room for itself, and its reference with it.
            (Stored::New, true) => drop(self.erase(at.key)),
            (Stored::Refused, true) => self.forget_member(at.key.a, user),
            (Stored::Refused, false) => self.release(user),
        }
    }

    /// Takes a member out, and his user if nothing else refers to him.
    pub(super) fn forget_member(&mut self, people: u64, user: u64) {
        if self.erase(key(keys::MEMBER, people, user)) {
            self.release(user);
        }
    }

    /// The member with all that a GUILD_MEMBER_REMOVE takes along.
    fn drop_member(&mut self, guild: u64, user: u64) {
        let Some(head) = self.p.guild(guild) else { return };
        self.erase(key(keys::PRESENCE, head.people, user));
        self.drop_voice_state(head.number, user);
        self.forget_member(head.people, user);
    }

    pub(super) fn put_presence(&mut self, guild: u64, presence: Value<'_>) {
        let Some(user) = object(presence, "user") else { return };
        let Some(user_id) = id(user, "id") else { return };
        self.put_user(user, Merge::Presence);
        let Some(head) = self.p.guild(guild) else { return };
        let at = At::new(keys::PRESENCE, head.people, user_id, guild);
        if presence.get("status").is_some_and(|status| status.is_text("offline")) {
            self.erase(at.key);
        } else if self.holds(Kind::Presence) {
            let stored = self.put_object(at, |_| {}, presence, Pick::Without(&APART), &[]);
            if stored == Stored::Refused {
                self.erase(at.key);
            }
        }
    }

    // ---- events

    pub(super) fn member_add(&mut self, d: Value<'_>) -> Option<()> {
        let (guild, user) = (id(d, "guild_id")?, id(object(d, "user")?, "id")?);
        self.guild = Some(guild);
        if let Some(head) = self.p.guild(guild)
            && !self.p.tree.contains(self.p.member_at(head, guild, user).key)
        {
            self.count_members(guild, 1);
        }
        self.put_member(guild, d, None, Said::Whole, &[]);
        Some(())
    }

    pub(super) fn member_update(&mut self, d: Value<'_>) -> Option<()> {
        let guild = id(d, "guild_id")?;
        id(object(d, "user")?, "id")?;
        self.guild = Some(guild);
        self.put_member(guild, d, None, Said::News, &[]);
        Some(())
    }

    pub(super) fn member_remove(&mut self, d: Value<'_>) -> Option<()> {
        let (guild, user) = (id(d, "guild_id")?, id(object(d, "user")?, "id")?);
        self.guild = Some(guild);
        self.count_members(guild, -1);
        self.drop_member(guild, user);
        Some(())
    }

    pub(super) fn members_chunk(&mut self, d: Value<'_>) -> Option<()> {
        let guild = id(d, "guild_id")?;
        let (members, presences) = (maybe_list(d, "members")?, maybe_list(d, "presences")?);
        self.guild = Some(guild);
        objects(members).for_each(|member| self.put_member(guild, member, None, Said::Whole, &[]));
        if self.p.knows(guild) {
            objects(presences).for_each(|presence| self.put_presence(guild, presence));
        }
        Some(())
    }

    pub(super) fn presence_update(&mut self, d: Value<'_>) -> Option<()> {
        let guild = maybe_id(d, "guild_id")?;
        id(object(d, "user")?, "id")?;
        if let Some(guild) = guild.filter(|guild| self.p.knows(*guild)) {
            self.guild = Some(guild);
            self.put_presence(guild, d);
        }
        Some(())
    }

    pub(super) fn typing_start(&mut self, d: Value<'_>) -> Option<()> {
        if let (Some(guild), Some(member)) = (maybe_id(d, "guild_id")?, object(d, "member")) {
            self.guild = Some(guild);
            self.put_member(guild, member, None, Said::Aside, &[]);
        }
        Some(())
    }

    pub(super) fn interaction(&mut self, d: Value<'_>) -> Option<()> {
        let guild = maybe_id(d, "guild_id")?;
        self.guild = guild;
        if let (Some(guild), Some(member)) = (guild, object(d, "member")) {
            self.put_member(guild, member, None, Said::Aside, &APART_IN_INTERACTION);
        }
        if let Some(user) = object(d, "user") {
            self.put_user(user, Merge::Full);
        }
        let resolved = object(d, "data").and_then(|data| object(data, "resolved"));
        let each =
            |name| resolved.and_then(|resolved| object(resolved, name)).into_iter().flat_map(Value::fields);
        for (_, user) in each("users").filter(|(_, user)| user.is_object()) {
            self.put_user(user, Merge::Full);
        }
        if self.common.options.members_are_told {
            return Some(());
        }
        let Some((guild, head)) = guild.and_then(|guild| Some((guild, self.p.guild(guild)?))) else {
            return Some(());
        };
        for (user, member) in each("members").filter(|(_, member)| member.is_object()) {
            let Some(user) = user.as_id() else { continue };
            self.merge(self.p.member_at(head, guild, user), member, Pick::Without(&APART_IN_INTERACTION));
            self.strip_member(head, guild, user);
        }
        Some(())
    }
}
