//! Threads. Of thread members only the bot's own is kept, in the thread's object: no question asks for others.

use crate::cache::encoding::{Pick, Value};

use super::channels::{KEPT, Place};
use super::events::{id, is_true, maybe_id, maybe_list, object, objects};
use super::keys;
use super::members::Said;
use super::{Partition, Step};

/// A channel whose threads are posts: forum, media.
const POSTS: [u64; 2] = [15, 16];
/// A private thread.
const PRIVATE_THREAD: u64 = 12;

impl Partition {
    /// A cached thread of a guild.
    fn thread(&self, guild: u64, thread: u64) -> Option<Place> {
        self.place(thread).filter(|place| place.is_thread() && place.guild() == Some(guild))
    }
}

impl Step<'_> {
    /// The guild, if the thread belongs to one.
    pub(super) fn thread_upsert(&mut self, d: Value<'_>) -> Option<Option<u64>> {
        let thread = id(d, "id")?;
        let Some(Some(guild)) = self.place_of(d, thread)? else { return Some(None) };
        self.guild = Some(guild);
        self.put_channel(Some(guild), d, &KEPT);
        Some(Some(guild))
    }

    pub(super) fn thread_create(&mut self, d: Value<'_>) -> Option<()> {
        let parent = maybe_id(d, "parent_id")?;
        let Some(guild) = self.thread_upsert(d)? else { return Some(()) };
        let Some(parent) = parent else { return Some(()) };
        let Some(place) = self.p.place(parent).filter(|place| place.guild() == Some(guild)) else {
            return Some(());
        };
        let at = place.at(parent);
        let posts = self.u64_of(at, "type").is_some_and(|kind| POSTS.contains(&kind));
        if posts && is_true(d, "newly_created") {
            self.set_last_message(at, d);
        }
        Some(())
    }

    pub(super) fn thread_delete(&mut self, d: Value<'_>) -> Option<()> {
        let thread = id(d, "id")?;
        let guild = maybe_id(d, "guild_id")?;
        match self.p.place(thread) {
            Some(found) => {
                if found.is_thread() && (guild.is_none() || guild == found.guild()) {
                    self.drop_thread(thread);
                }
            }
            None => {
                let number = guild.and_then(|guild| self.p.guild(guild)).map(|head| head.number);
                let ring = self.p.ring(thread);
                if number.is_some() && ring.is_some_and(|ring| ring.number == number) {
                    self.drop_ring(thread);
                }
            }
        }
        Some(())
    }

    pub(super) fn thread_list_sync(&mut self, d: Value<'_>) -> Option<()> {
        let guild = id(d, "guild_id")?;
        let (threads, members) = (maybe_list(d, "threads")?, maybe_list(d, "members")?);
        let parents = maybe_list(d, "channel_ids")?;
        self.guild = Some(guild);
        let Some(head) = self.p.guild(guild) else { return Some(()) };
        let parents: Option<Vec<u64>> = parents.map(|ids| ids.elements().filter_map(Value::as_id).collect());
        let synced = self.listed(objects(threads), "id");
        self.each_id(keys::THREAD, head.number, |step, thread| {
            let under = |parents: &Vec<u64>| {
                let place = Place::Guild { guild, number: head.number, thread: true };
                let parent = step.id_of(place.at(thread), "parent_id");
                parent.is_some_and(|parent| parents.contains(&parent))
            };
            if synced.binary_search(&thread).is_err() && parents.as_ref().is_none_or(under) {
                step.drop_thread(thread);
            }
        });
        self.tools.ids = synced;
        objects(threads).for_each(|thread| self.put_channel(Some(guild), thread, &[]));
        for member in objects(members) {
            if let Some(thread) = id(member, "id") {
                self.set_own_member(guild, thread, member, None);
            }
        }
        Some(())
    }

    /// Keeps the bot's own membership in the thread's object; `thread_id` stands in for the member's own.
    fn set_own_member(&mut self, guild: u64, thread: u64, member: Value<'_>, thread_id: Option<Value<'_>>) {
        let Some(place) = self.p.thread(guild, thread) else { return };
        let mut text = std::mem::take(&mut self.tools.text);
        text.clear();
        text.extend_from_slice(b"{\"member\":{");
        let start = text.len();
        for (key, value) in member.fields() {
            let not_kept = ["guild_id", "member", "presence"].iter().any(|name| key.is(name));
            if not_kept || (thread_id.is_some() && key.is("id")) {
                continue;
            }
            if text.len() > start {
                text.push(b',');
            }
            key.write(&mut text);
            text.push(b':');
            value.write(&mut text);
        }
        if let Some(id) = thread_id {
            if text.len() > start {
                text.push(b',');
            }
            text.extend_from_slice(b"\"id\":");
            id.write(&mut text);
        }
        text.extend_from_slice(b"}}");
        self.merge_text(place.at(thread), &text);
        self.tools.text = text;
    }

    pub(super) fn thread_member_update(&mut self, d: Value<'_>) -> Option<()> {
        let thread = id(d, "id")?;
        let guild = id(d, "guild_id")?;
        self.guild = Some(guild);
        self.set_own_member(guild, thread, d, None);
        Some(())
    }

    pub(super) fn thread_members_update(&mut self, d: Value<'_>) -> Option<()> {
        let (thread, guild) = (id(d, "id")?, id(d, "guild_id")?);
        let (added, removed) = (maybe_list(d, "added_members")?, maybe_list(d, "removed_member_ids")?);
        self.guild = Some(guild);
        if let Some(place) = self.p.thread(guild, thread) {
            self.merge(place.at(thread), d, Pick::Only(&["member_count"]));
        }
        for member in objects(added) {
            let Some(user) = id(member, "user_id") else { continue };
            if self.p.me == Some(user) {
                self.set_own_member(guild, thread, member, d.get("id"));
            }
            if let Some(member) = object(member, "member") {
                self.put_member(guild, member, None, Said::Aside, &[]);
            }
        }
        // After all members, so that what a presence says of a user does not depend on the order of the list.
        if self.p.knows(guild) {
            for presence in objects(added).filter_map(|member| object(member, "presence")) {
                self.put_presence(guild, presence);
            }
        }
        for user in removed.into_iter().flat_map(Value::elements).filter_map(Value::as_id) {
            let Some(place) = self.p.thread(guild, thread) else { break };
            if self.p.me == Some(user) {
                let at = place.at(thread);
                self.remove_fields(at, &["member"]);
                if self.u64_of(at, "type") == Some(PRIVATE_THREAD) {
                    self.drop_thread(thread);
                }
            }
        }
        Some(())
    }
}
