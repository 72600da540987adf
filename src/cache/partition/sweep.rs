//! What goes bit by bit: the people of guilds that were left or replaced, messages of channels that are gone, and a
//! deleted role in a million members.
//!
//! An event only notes what has to go (DOOMED, STRIP); the steps after it take [`ENTRIES_PER_STEP`] each. What is doomed
//! cannot be reached any more, except that a user known by nothing else is answered until he is swept; a deleted role
//! is left out of answers until it is out of the members.

use crate::cache::encoding::{Entity, Value};

use super::events::id;
use super::keys::{self, GuildHead, key, span, take_u64};
use super::rows::{At, Stored};
use super::{Partition, Step};

/// Roles that one member may lose at a time; Discord has 250 in a guild.
const STRIPPED_MAX: usize = 256;

/// Entries swept with each event: more than an event brings, so that what waits gets less, and some 50 us of work.
pub const ENTRIES_PER_STEP: usize = 64;

impl Partition {
    /// Whether something waits to be swept.
    pub fn has_waste(&self) -> bool {
        self.doomed + self.strips > 0
    }

    /// Whether a member has a role that was deleted.
    pub(super) fn is_being_deleted(&self, people: u64, member: Entity<'_>) -> bool {
        if self.strips == 0 {
            return false;
        }
        let Ok(Some(roles)) = member.field("roles") else { return false };
        let mut ids = roles.elements().filter_map(|role| role.as_id());
        ids.any(|role| self.tree.contains(key(keys::STRIP, people, role)))
    }

    /// Roles that were deleted, but are not yet out of all members of these people.
    pub(super) fn deleted_roles(&self, people: u64) -> impl Iterator<Item = u64> {
        let (from, to) = span(keys::STRIP, people);
        // Hardly ever is there one.
        let roles = (self.strips > 0).then(|| self.tree.range(from, to).map(|(key, _)| key.b));
        roles.into_iter().flatten()
    }
}

impl Step<'_> {
    /// Lets go of all that `row` has under `number`.
    pub(super) fn doom(&mut self, row: u8, number: u64) {
        let (from, to) = span(row, number);
        if self.p.tree.first(from, to).is_none() {
            return;
        }
        match self.put(key(keys::DOOMED, row.into(), number), &[]) {
            Stored::New => self.p.doomed += 1,
            Stored::Replaced => {}
            // Without room for a note it is done at once.
            Stored::Refused => while self.sweep_row(row, number, ENTRIES_PER_STEP) > 0 {},
        }
    }

    pub(super) fn doom_people(&mut self, people: u64) {
        self.doom(keys::PRESENCE, people);
        self.doom(keys::MEMBER, people);
        loop {
            let role = self.p.deleted_roles(people).next();
            let Some(role) = role else { return };
            self.end_strip(people, role);
        }
    }

    /// Takes about `budget` entries of what is doomed; how many they were.
    pub fn sweep(&mut self, budget: usize) -> usize {
        let mut swept = 0;
        while swept < budget && self.p.doomed > 0 {
            let (from, to) = (key(keys::DOOMED, 0, 0), key(keys::DOOMED, u64::MAX, u64::MAX));
            let Some(doomed) = self.p.tree.first(from, to) else {
                self.p.doomed = 0;
                break;
            };
            let count = self.sweep_row(doomed.a as u8, doomed.b, budget - swept);
            if count == 0 {
                self.erase(doomed);
                self.p.doomed -= 1;
                swept += 1;
            }
            swept += count;
        }
        while swept < budget && self.p.strips > 0 {
            swept += self.strip(budget - swept);
        }
        swept
    }

    fn sweep_row(&mut self, row: u8, number: u64, budget: usize) -> usize {
        let mut some = [0; ENTRIES_PER_STEP];
        let most = budget.min(some.len());
        let count = self.p.some_ids(row, number, 0, &mut some[..most]).len();
        for id in &some[..count] {
            match row {
                keys::MEMBER => self.forget_member(number, *id),
                _ => drop(self.erase(key(row, number, *id))),
            }
        }
        count
    }

    // ---- roles

    pub(super) fn role_delete(&mut self, d: Value<'_>) -> Option<()> {
        let (guild, role) = (id(d, "guild_id")?, id(d, "role_id")?);
        self.guild = Some(guild);
        self.drop_child(keys::ROLE, guild, role);
        let Some(head) = self.p.guild(guild) else { return Some(()) };
        self.remove_from_emojis(guild, head.number, role);
        let (from, to) = span(keys::MEMBER, head.people);
        if self.p.tree.first(from, to).is_none() {
            return Some(());
        }
        let mut note = [0; 16];
        note[8..].copy_from_slice(&guild.to_le_bytes());
        match self.put(key(keys::STRIP, head.people, role), &note) {
            Stored::New => self.p.strips += 1,
            Stored::Replaced => {}
            Stored::Refused => {
                let mut from = Some(0);
                while let Some(next) = from {
                    (_, from) = self.strip_some(head.people, guild, role, next, ENTRIES_PER_STEP);
                }
            }
        }
        Some(())
    }

    fn remove_from_emojis(&mut self, guild: u64, number: u64, role: u64) {
        self.each_id(keys::EMOJI, number, |step, emoji| {
            step.remove_element(At::new(keys::EMOJI, number, emoji, guild), "roles", role);
        });
    }

    /// Goes on with the first STRIP; how many members were looked at.
    fn strip(&mut self, budget: usize) -> usize {
        let (from, to) = (key(keys::STRIP, 0, 0), key(keys::STRIP, u64::MAX, u64::MAX));
        let Some(first) = self.p.tree.first(from, to) else {
            self.p.strips = 0;
            return 0;
        };
        let (people, role) = (first.a, first.b);
        let Some((next, guild)) = self.read_strip(people, role) else { return 0 };
        let (looked, next) = self.strip_some(people, guild, role, next, budget);
        match next {
            None => self.end_strip(people, role),
            Some(next) => {
                if let Some(note) = self.p.tree.get_mut(first) {
                    note[..8].copy_from_slice(&next.to_le_bytes());
                }
            }
        }
        looked + 1
    }

    /// Where a STRIP goes on, and its guild.
    fn read_strip(&self, people: u64, role: u64) -> Option<(u64, u64)> {
        let mut scratch = Vec::new();
        let mut note = self.p.tree.get(key(keys::STRIP, people, role), &mut scratch)?;
        Some((take_u64(&mut note), take_u64(&mut note)))
    }

    fn end_strip(&mut self, people: u64, role: u64) {
        if self.erase(key(keys::STRIP, people, role)) {
            self.p.strips -= 1;
        }
    }

    /// Takes the role out of members from `from` on; how many were looked at, and where to go on.
    fn strip_some(
        &mut self,
        people: u64,
        guild: u64,
        role: u64,
        from: u64,
        budget: usize,
    ) -> (usize, Option<u64>) {
        let mut some = [0; ENTRIES_PER_STEP];
        let most = budget.clamp(1, some.len());
        let count = self.p.some_ids(keys::MEMBER, people, from, &mut some[..most]).len();
        for user in &some[..count] {
            self.remove_element(At::new(keys::MEMBER, people, *user, guild), "roles", role);
        }
        let next = if count == most { some[count - 1].checked_add(1) } else { None };
        (count, next)
    }

    /// Does all that is left of a deletion of this role in a guild, as the role is to come back.
    pub(super) fn finish_strip(&mut self, guild: u64, role: u64) {
        if self.p.strips == 0 {
            return;
        }
        let Some(GuildHead { people, .. }) = self.p.guild(guild) else { return };
        let Some((next, _)) = self.read_strip(people, role) else { return };
        let mut from = Some(next);
        while let Some(next) = from {
            (_, from) = self.strip_some(people, guild, role, next, ENTRIES_PER_STEP);
        }
        self.end_strip(people, role);
    }

    /// After a member was written: what it was or is said to have of roles that are being deleted goes, as the sweep may
    /// have passed it already.
    pub(super) fn strip_member(&mut self, head: GuildHead, guild: u64, user: u64) {
        if self.p.strips == 0 {
            return;
        }
        let at = self.p.member_at(head, guild, user);
        for _ in 0..STRIPPED_MAX {
            let deleted = self.p.field_of(self.common, at, "roles", |roles| {
                let mut ids = roles.elements().filter_map(|role| role.as_id());
                ids.find(|role| self.p.tree.contains(key(keys::STRIP, head.people, *role)))
            });
            let Some(Some(role)) = deleted else { return };
            self.remove_element(at, "roles", role);
        }
    }

    /// Sweeps to the end: for tests and before a partition is looked at as a whole.
    pub fn settle(&mut self) {
        while self.p.has_waste() {
            self.sweep(usize::MAX);
        }
    }
}
