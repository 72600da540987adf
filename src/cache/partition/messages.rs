//! Messages: the last ones of each channel by id, in a ring of bounded length.

use std::io::Write;

use crate::cache::encoding::{Entity, Pick, Value, id_payload};
use crate::cache::kind::Kind;

use super::channels::Place;
use super::events::{id, maybe_id, maybe_list, object, objects};
use super::keys::{self, RingHead, id_key, key, span};
use super::members::Said;
use super::rows::{At, Stored};
use super::users::Merge;
use super::{Partition, Step};

/// `flags` of a message that only one user sees.
const EPHEMERAL: u64 = 64;

/// Where a message is.
enum Where {
    /// In a guild or, without one, a private channel.
    Known(Option<u64>),
    /// Nothing is known of the place, or it contradicts what is: ignored.
    Nowhere,
}

fn is_ephemeral(d: Value<'_>) -> bool {
    d.get("flags").and_then(Value::as_u64).is_some_and(|flags| flags & EPHEMERAL != 0)
}

/// Whether an id is written as we would write it, so that it is known by its number alone.
fn is_plain_id(value: Value<'_>) -> bool {
    let mut text = [0; 20];
    let mut rest = &mut text[..];
    // Twenty digits hold any number of 64 bits.
    let _ = value.as_id().map(|id| write!(rest, "{id}"));
    let left = rest.len();
    std::str::from_utf8(&text[..20 - left]).is_ok_and(|text| value.is_text(text))
}

fn is_webhook(d: Value<'_>) -> bool {
    d.get("webhook_id").is_some_and(|id| !id.is_null())
}

impl Partition {
    /// Where a cached message's object is kept.
    pub(super) fn message_at(&self, channel: u64, message: u64) -> Option<At> {
        let ring = self.ring(channel)?;
        let at = At::new(keys::MESSAGE, ring.ring, message, channel);
        self.tree.contains(at.key).then_some(at)
    }
}

impl Step<'_> {
    fn place_of_message(&self, d: Value<'_>, channel: u64) -> Option<(Where, Option<Place>)> {
        let named = maybe_id(d, "guild_id")?;
        let place = self.p.place(channel);
        let found = match (named, place) {
            (Some(guild), _) if !self.p.knows(guild) => Where::Nowhere,
            (Some(guild), Some(place)) if place.guild() != Some(guild) => Where::Nowhere,
            (Some(guild), _) => Where::Known(Some(guild)),
            (None, Some(place)) => Where::Known(place.guild()),
            (None, None) => match d.get("channel_type").and_then(Value::as_u64) {
                Some(1 | 3) => Where::Known(None),
                _ => Where::Nowhere,
            },
        };
        Some((found, place))
    }

    /// Users and members that a message brings along.
    fn put_people(&mut self, guild: Option<u64>, d: Value<'_>, mentions: Option<Value<'_>>) {
        if let Some(author) = object(d, "author").filter(|_| !is_webhook(d)) {
            self.put_person(guild, object(d, "member"), author);
        }
        for mention in objects(mentions) {
            self.put_person(guild, object(mention, "member"), mention);
        }
    }

    fn put_person(&mut self, guild: Option<u64>, member: Option<Value<'_>>, user: Value<'_>) {
        match (guild, member) {
            (Some(guild), Some(member)) => self.put_member(guild, member, Some(user), Said::Aside, &[]),
            _ => self.put_user(user, Merge::Full),
        }
    }

    /// A message may be the first sign of a private channel, and the first of who is in it.
    fn put_private_stub(&mut self, channel: u64, d: Value<'_>, known: bool) {
        let other = |author: &Value<'_>| {
            let author = id(*author, "id");
            author.is_some() && author != self.p.me && !is_webhook(d)
        };
        let author = object(d, "author").filter(other);
        let at = Place::Private.at(channel);
        if known {
            let empty = self.p.field_of(self.common, at, "recipients", |list| list.is_empty_array());
            if author.is_none() || empty != Some(true) || self.u64_of(at, "type") != Some(1) {
                return;
            }
        }
        let mut text = std::mem::take(&mut self.tools.text);
        text.clear();
        text.push(b'{');
        if !known {
            text.extend_from_slice(b"\"id\":");
            d.get("channel_id").into_iter().for_each(|id| id.write(&mut text));
            text.extend_from_slice(b",\"type\":");
            d.get("channel_type").into_iter().for_each(|kind| kind.write(&mut text));
            text.push(b',');
        }
        text.extend_from_slice(b"\"recipients\":[");
        author.into_iter().for_each(|author| author.write(&mut text));
        text.extend_from_slice(b"]}");
        let mut parser = self.tools.lend_parser();
        // What is written here is JSON.
        let _ = parser.read(&text, |stub| {
            if known {
                self.merge(at, stub, Pick::All);
                self.refer_to_recipients(channel, stub, &[]);
            } else {
                self.put_channel(None, stub, &[]);
            }
        });
        self.tools.parser = Some(parser);
        self.tools.text = text;
    }

    pub(super) fn message_create(&mut self, d: Value<'_>) -> Option<()> {
        let (message, channel) = (id(d, "id")?, id(d, "channel_id")?);
        let mentions = maybe_list(d, "mentions")?;
        if is_ephemeral(d) {
            maybe_id(d, "guild_id")?;
            return Some(());
        }
        let (Where::Known(guild), place) = self.place_of_message(d, channel)? else { return Some(()) };
        self.guild = guild;
        if guild.is_none() {
            self.put_private_stub(channel, d, place.is_some());
        }
        self.put_people(guild, d, mentions);
        if let Some(place) = self.p.place(channel) {
            self.count_message(place, channel, message, d);
        }
        if self.holds(Kind::Message) && self.common.options.message_cache_size > 0 {
            self.drop_ring_of_others(channel, guild);
            match self.p.message_at(channel, message) {
                Some(at) => drop(self.merge(at, d, Pick::Without(&["guild_id"]))),
                None => self.push_message(guild, channel, message, d),
            }
        }
        Some(())
    }

    /// What a new message changes in its channel.
    fn count_message(&mut self, place: Place, channel: u64, message: u64, d: Value<'_>) {
        let at = place.at(channel);
        if place.is_thread() && message != channel {
            let seen = self.p.message_at(channel, message).is_some()
                || self.id_of(at, "last_message_id") == Some(message);
            if !seen {
                self.count(at, &[("message_count", 1), ("total_message_sent", 1)]);
            }
        }
        self.set_last_message(at, d);
    }

    /// Makes `d`'s id the channel's last message, mostly by writing over eight bytes.
    pub(super) fn set_last_message(&mut self, at: At, d: Value<'_>) {
        let Some(message) = d.get("id") else { return };
        if let Some(payload) = message.as_id().filter(|_| message.is_string()).and_then(id_payload)
            && let Some(bytes) = self.p.tree.get_mut(at.key)
        {
            let (context, shapes) = (at.context(), &self.common.shapes);
            let place = Entity { bytes, context, shapes }.id_place("last_message_id");
            if let Some(place) = place.filter(|_| is_plain_id(message)) {
                bytes[place].copy_from_slice(&payload);
                return;
            }
        }
        let mut text = std::mem::take(&mut self.tools.text);
        text.clear();
        text.extend_from_slice(b"{\"last_message_id\":");
        message.write(&mut text);
        text.push(b'}');
        self.merge_text(at, &text);
        self.tools.text = text;
    }

    /// Puts a message that is not there into its channel's ring.
    fn push_message(&mut self, guild: Option<u64>, channel: u64, message: u64, d: Value<'_>) {
        let number = match guild.map(|guild| self.p.guild(guild)) {
            Some(None) => return,
            Some(Some(head)) => Some(head.number),
            None => None,
        };
        let Some(ring) = self.ring_or_new(channel, number) else { return };
        let at = At::new(keys::MESSAGE, ring, message, channel);
        if self.put_object(at, |_| {}, d, Pick::Without(&["guild_id"]), &[]) != Stored::New {
            return self.drop_ring_if_empty(channel);
        }
        // Making room may have taken from this ring, too, or all of it.
        loop {
            match self.p.ring(channel).filter(|head| head.ring == ring) {
                None => drop(self.erase(at.key)),
                // A full ring has as many after as before.
                Some(head) if head.messages >= u64::from(self.common.options.message_cache_size) => {
                    let (from, to) = span(keys::MESSAGE, ring);
                    if let Some(oldest) = self.p.tree.first(from, to) {
                        self.erase(oldest);
                    }
                }
                Some(head) => {
                    let more = RingHead { messages: head.messages + 1, ..head };
                    if self.put_ring(channel, more).is_none() {
                        continue;
                    }
                }
            }
            return;
        }
    }

    fn ring_or_new(&mut self, channel: u64, number: Option<u64>) -> Option<u64> {
        if let Some(head) = self.p.ring(channel) {
            return Some(head.ring);
        }
        let head = RingHead { ring: self.p.next_number(), messages: 0, number };
        if let Some(number) = number
            && self.put(key(keys::RING_OF, number, channel), &[]) == Stored::Refused
        {
            return None;
        }
        let mut stored = None;
        while stored.is_none() {
            stored = self.put_ring(channel, head);
        }
        if stored == Some(Stored::Refused) {
            if let Some(number) = number {
                self.erase(key(keys::RING_OF, number, channel));
            }
            return None;
        }
        self.common.directory.add(keys::RING, channel, self.p.index);
        Some(head.ring)
    }

    /// Without room for it the ring goes. `None`: room was made, look again.
    fn put_ring(&mut self, channel: u64, head: RingHead) -> Option<Stored> {
        let stored = self.try_put(id_key(keys::RING, channel), head.short().as_slice());
        if stored == Some(Stored::Refused) {
            self.drop_ring(channel);
        }
        stored
    }

    /// Drops up to `count` of a channel's messages with the smallest ids; how many they were.
    pub(super) fn drop_oldest(&mut self, channel: u64, count: u64) -> u64 {
        let Some(head) = self.p.ring(channel) else { return 0 };
        let (from, to) = span(keys::MESSAGE, head.ring);
        let mut dropped = 0;
        while dropped < count
            && let Some(oldest) = self.p.tree.first(from, to)
        {
            self.erase(oldest);
            dropped += 1;
        }
        let messages = head.messages.saturating_sub(dropped);
        if messages == 0 || dropped < count {
            self.drop_ring(channel);
        } else {
            while self.put_ring(channel, RingHead { messages, ..head }).is_none() {}
        }
        dropped
    }

    fn drop_ring_if_empty(&mut self, channel: u64) {
        if self.p.ring(channel).is_some_and(|head| head.messages == 0) {
            self.drop_ring(channel);
        }
    }

    /// A channel that has moved leaves its messages behind.
    pub(super) fn drop_ring_of_others(&mut self, channel: u64, guild: Option<u64>) {
        if let Some(ring) = self.p.ring(channel) {
            let number = guild.and_then(|guild| self.p.guild(guild)).map(|head| head.number);
            if ring.number != number {
                self.drop_ring(channel);
            }
        }
    }

    /// Forgets a channel's messages; they are swept later.
    pub(super) fn drop_ring(&mut self, channel: u64) {
        let Some(head) = self.p.ring(channel) else { return };
        self.erase(id_key(keys::RING, channel));
        self.common.directory.remove(keys::RING, channel, self.p.index);
        if let Some(number) = head.number {
            self.erase(key(keys::RING_OF, number, channel));
        }
        self.doom(keys::MESSAGE, head.ring);
    }

    /// Forgets all messages.
    pub(super) fn drop_rings(&mut self) {
        self.each_id(keys::RING, 0, Step::drop_ring);
    }

    /// Takes one message out.
    pub(super) fn drop_message(&mut self, channel: u64, message: u64) {
        let Some(head) = self.p.ring(channel) else { return };
        if self.erase(key(keys::MESSAGE, head.ring, message)) {
            if head.messages <= 1 {
                self.drop_ring(channel);
            } else {
                while self.put_ring(channel, RingHead { messages: head.messages - 1, ..head }).is_none() {}
            }
        }
    }

    pub(super) fn message_update(&mut self, d: Value<'_>) -> Option<()> {
        let (message, channel) = (id(d, "id")?, id(d, "channel_id")?);
        let mentions = maybe_list(d, "mentions")?;
        if is_ephemeral(d) {
            maybe_id(d, "guild_id")?;
            return Some(());
        }
        let (Where::Known(guild), _) = self.place_of_message(d, channel)? else { return Some(()) };
        self.guild = guild;
        self.put_people(guild, d, mentions);
        if let Some(at) = self.p.message_at(channel, message) {
            self.merge_update(at, d);
        }
        Some(())
    }

    pub(super) fn message_delete(&mut self, d: Value<'_>) -> Option<()> {
        let message = id(d, "id")?;
        self.messages_delete(d, &[message])
    }

    pub(super) fn message_delete_bulk(&mut self, d: Value<'_>) -> Option<()> {
        let ids = maybe_list(d, "ids")?;
        let mut messages = std::mem::take(&mut self.tools.ids);
        messages.clear();
        messages.extend(ids.into_iter().flat_map(Value::elements).filter_map(Value::as_id));
        let fits = self.messages_delete(d, &messages);
        self.tools.ids = messages;
        fits
    }

    fn messages_delete(&mut self, d: Value<'_>, messages: &[u64]) -> Option<()> {
        let channel = id(d, "channel_id")?;
        let named = maybe_id(d, "guild_id")?;
        if let Some(place) = self.p.place(channel) {
            if named.is_some() && named != place.guild() {
                return Some(());
            }
            if place.is_thread() {
                let counted = messages.iter().filter(|message| **message != channel).count();
                self.count(place.at(channel), &[("message_count", -(counted as i64))]);
            }
        }
        messages.iter().for_each(|message| self.drop_message(channel, *message));
        Some(())
    }
}
