//! What a guild owns by id: roles, emojis, stickers, sounds, stage instances, scheduled events, integrations.

use crate::cache::encoding::{Entity, Pick, Value, overwrite_number};

use super::events::{id, maybe_list, objects};
use super::keys::{self, Short, at_row, id_key, key};
use super::rows::{At, Stored, head_len, kind_of};
use super::{Partition, Step};

/// `status` of a scheduled event that is over: completed, canceled.
const OVER: [u64; 2] = [3, 4];

/// The key of an object's own id.
fn id_name(row: u8) -> &'static str {
    if row == keys::SOUND { "sound_id" } else { "id" }
}

/// Fields that an update may lack and that are kept then.
fn kept(row: u8) -> &'static [&'static str] {
    match row {
        keys::EMOJI | keys::STICKER | keys::SOUND | keys::INTEGRATION => &["user"],
        keys::EVENT => &["user_count", "creator"],
        _ => &[],
    }
}

impl Partition {
    /// The guild's number and id for an id of `row`.
    pub(super) fn child_place(&self, row: u8, child: u64) -> Option<(u64, u64)> {
        let number = self.number(id_key(at_row(row), child))?;
        Some((number, self.guild_of(number)?))
    }
}

impl Step<'_> {
    /// Puts a role, emoji, ... in place of the one with the same id.
    pub(super) fn put_child(&mut self, row: u8, guild: u64, d: Value<'_>) {
        let (Some(child), Some(head)) = (id(d, id_name(row)), self.p.guild(guild)) else { return };
        if !kind_of(row).is_some_and(|kind| self.holds(kind)) {
            return;
        }
        let over = d.get("status").and_then(Value::as_u64).is_some_and(|status| OVER.contains(&status));
        if row == keys::EVENT && over {
            return self.drop_child(row, guild, child);
        }
        let old = self.p.number(id_key(at_row(row), child));
        if let Some(old) = old.filter(|old| *old != head.number) {
            self.forget_child(row, old, child);
        }
        let at = At::new(row, head.number, child, guild);
        match self.put_object(at, |_| {}, d, Pick::Without(&["guild_id"]), kept(row)) {
            Stored::Replaced => {}
            Stored::Refused => self.forget_child(row, head.number, child),
            Stored::New => self.put_place(at_row(row), child, head.number, at),
        }
    }

    /// Says under which number an id is found. Without room for that what it finds goes again.
    pub(super) fn put_place(&mut self, row: u8, id: u64, number: u64, of: At) {
        match self.put(id_key(row, id), Short::number(number).as_slice()) {
            Stored::New => self.common.directory.add(row, id, self.p.index),
            Stored::Replaced => {}
            Stored::Refused => drop(self.erase(of.key)),
        }
    }

    pub(super) fn drop_child(&mut self, row: u8, guild: u64, child: u64) {
        let place = self.p.number(id_key(at_row(row), child));
        if let Some(head) = self.p.guild(guild)
            && place == Some(head.number)
        {
            self.forget_child(row, head.number, child);
        }
    }

    /// Takes a child out of the guild with that number.
    pub(super) fn forget_child(&mut self, row: u8, number: u64, child: u64) {
        self.erase(key(row, number, child));
        if self.p.number(id_key(at_row(row), child)) == Some(number) {
            self.erase(id_key(at_row(row), child));
            self.common.directory.remove(at_row(row), child, self.p.index);
        }
    }

    /// Takes out all of a row.
    pub(super) fn drop_children(&mut self, row: u8, number: u64) {
        self.each_id(row, number, |step, child| step.forget_child(row, number, child));
    }

    /// A complete list: what it lacks goes.
    pub(super) fn replace_children(&mut self, row: u8, guild: u64, list: Option<Value<'_>>) {
        let Some(head) = self.p.guild(guild) else { return };
        let listed = self.listed(objects(list), id_name(row));
        self.each_id(row, head.number, |step, child| {
            if listed.binary_search(&child).is_err() {
                step.forget_child(row, head.number, child);
            }
        });
        self.tools.ids = listed;
        objects(list).for_each(|child| self.put_child(row, guild, child));
    }

    /// The ids of a list in order, in the buffer for ids, which is to be given back.
    pub(super) fn listed<'d>(&mut self, objects: impl Iterator<Item = Value<'d>>, name: &str) -> Vec<u64> {
        let mut ids = std::mem::take(&mut self.tools.ids);
        ids.clear();
        ids.extend(objects.filter_map(|object| id(object, name)));
        ids.sort_unstable();
        ids
    }

    // ---- events

    pub(super) fn replace_set(&mut self, row: u8, d: Value<'_>, name: &str) -> Option<()> {
        let guild = id(d, "guild_id")?;
        let list = d.get(name).filter(|list| list.is_array())?;
        self.guild = Some(guild);
        self.replace_children(row, guild, Some(list));
        Some(())
    }

    pub(super) fn upsert_child(&mut self, row: u8, d: Value<'_>, child: Value<'_>) -> Option<()> {
        let guild = id(d, "guild_id")?;
        id(child, id_name(row))?;
        self.guild = Some(guild);
        if row == keys::ROLE
            && let Some(role) = id(child, "id")
        {
            // A role that comes back must not meet a deletion that is still under way.
            self.finish_strip(guild, role);
        }
        self.put_child(row, guild, child);
        Some(())
    }

    pub(super) fn delete_child(&mut self, row: u8, d: Value<'_>) -> Option<()> {
        let (guild, child) = (id(d, "guild_id")?, id(d, id_name(row))?);
        self.drop_child(row, guild, child);
        Some(())
    }

    pub(super) fn upsert_sounds(&mut self, d: Value<'_>) -> Option<()> {
        let (guild, sounds) = (id(d, "guild_id")?, maybe_list(d, "soundboard_sounds")?);
        self.guild = Some(guild);
        objects(sounds).for_each(|sound| self.put_child(keys::SOUND, guild, sound));
        Some(())
    }

    /// A user says that he comes to a scheduled event, or no more.
    pub(super) fn event_users(&mut self, d: Value<'_>, by: i64) -> Option<()> {
        let (guild, event) = (id(d, "guild_id")?, id(d, "guild_scheduled_event_id")?);
        if let Some((number, owner)) = self.p.child_place(keys::EVENT, event)
            && owner == guild
        {
            self.count(At::new(keys::EVENT, number, event, guild), &[("user_count", by)]);
        }
        Some(())
    }

    /// The same for one counter by writing over it; false, and nothing done, when that cannot be.
    fn count_in_place(&mut self, at: At, (name, by): (&str, i64)) -> bool {
        let Some(old) = self.u64_of(at, name) else { return false };
        let Some(value) = self.p.tree.get_mut(at.key) else { return false };
        let (_, bytes) = value.split_at_mut(head_len(at.key.kind, value));
        let (context, shapes) = (at.context(), &self.common.shapes);
        let place = Entity { bytes, context, shapes }.number_place(name);
        place.is_some_and(|place| overwrite_number(&mut bytes[place], old.saturating_add_signed(by)))
    }

    /// Adds to counters of an object that are unsigned integers; they stay between 0 and the largest one.
    pub(super) fn count(&mut self, at: At, counters: &[(&str, i64)]) {
        let mut text = std::mem::take(&mut self.tools.text);
        text.clear();
        text.push(b'{');
        for (name, by) in counters {
            if self.count_in_place(at, (name, *by)) {
                continue;
            }
            if let Some(old) = self.u64_of(at, name) {
                use std::io::Write;
                let comma = if text.len() > 1 { "," } else { "" };
                // Writing to a vector does not fail.
                let _ = write!(text, "{comma}\"{name}\":{}", old.saturating_add_signed(*by));
            }
        }
        text.push(b'}');
        if text.len() > 2 {
            self.merge_text(at, &text);
        }
        self.tools.text = text;
    }
}
