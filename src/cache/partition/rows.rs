//! Reading and writing rows: one way in and one way out for each, with what hangs on it.

use std::cell::Cell;

use crate::cache::arena::{Key, VALUE_BYTES_MAX};
use crate::cache::common::Common;
use crate::cache::encoding::{Context, Entity, Field, Pick, Value};
use crate::cache::kind::Kind;

use super::channels::Place;
use super::keys::{self, GuildHead, RingHead, span};
use super::{Partition, Step};

/// Ids taken out of a row at a time.
const SOME: usize = 64;

/// The part of the region that one entity may have at most; a larger one is not kept, as it would drive out all else.
const ENTITY_SHARE: usize = 8;

/// What became of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stored {
    /// There was none under its key.
    New,
    /// It took the place of another.
    Replaced,
    /// There is no memory for it, and nothing was changed.
    Refused,
}

/// A row's key and the second id that its object may repeat: of the guild, or of a message's channel.
#[derive(Clone, Copy, Debug)]
pub(super) struct At {
    pub key: Key,
    pub parent: u64,
}

impl At {
    pub fn new(row: u8, a: u64, b: u64, parent: u64) -> At {
        At { key: keys::key(row, a, b), parent }
    }

    pub fn context(self) -> Context {
        Context { own: self.key.b, parent: self.parent }
    }
}

/// What was last looked up: an event asks for its guild and its channel again and again. Forgotten with each change of a
/// row that it is read from.
#[derive(Clone, Debug, Default)]
pub(super) struct Memo {
    guild: Cell<Option<(u64, Option<GuildHead>)>>,
    place: Cell<Option<(u64, Option<Place>)>>,
    ring: Cell<Option<(u64, Option<RingHead>)>>,
}

impl Memo {
    fn forget(&self, row: u8) {
        match row {
            keys::GUILD => self.guild.set(None),
            keys::GUILD_OF | keys::CHANNEL_AT | keys::PRIVATE => self.place.set(None),
            keys::RING => self.ring.set(None),
            _ => {}
        }
    }
}

/// What is remembered of `id`, or else found and remembered.
fn remembered<T: Copy>(memo: &Cell<Option<(u64, T)>>, id: u64, find: impl FnOnce() -> T) -> T {
    match memo.get() {
        Some((of, value)) if of == id => value,
        _ => {
            let value = find();
            memo.set(Some((id, value)));
            value
        }
    }
}

/// The kind that a row counts as. USER is counted where its object comes and goes.
pub(super) fn kind_of(row: u8) -> Option<Kind> {
    Some(match row {
        keys::GUILD => Kind::Guild,
        keys::CHANNEL => Kind::Channel,
        keys::THREAD => Kind::Thread,
        keys::PRIVATE => Kind::PrivateChannel,
        keys::ROLE => Kind::Role,
        keys::EMOJI => Kind::Emoji,
        keys::STICKER => Kind::Sticker,
        keys::SOUND => Kind::Sound,
        keys::STAGE => Kind::StageInstance,
        keys::EVENT => Kind::ScheduledEvent,
        keys::INTEGRATION => Kind::Integration,
        keys::MEMBER => Kind::Member,
        keys::PRESENCE => Kind::Presence,
        keys::VOICE => Kind::VoiceState,
        keys::MESSAGE => Kind::Message,
        _ => return None,
    })
}

/// How many bytes of a row's value stand before its object.
pub(super) fn head_len(row: u8, value: &[u8]) -> usize {
    let mut rest = value;
    match row {
        keys::GUILD => drop(GuildHead::take(&mut rest)),
        keys::VOICE => drop(keys::take_u64(&mut rest)),
        keys::USER => drop(keys::take_number(&mut rest)),
        _ => {}
    }
    value.len() - rest.len()
}

impl Partition {
    /// A number that is a row's whole value.
    pub(super) fn number(&self, key: Key) -> Option<u64> {
        let mut scratch = Vec::new();
        self.tree.get(key, &mut scratch).map(|mut value| keys::take_number(&mut value))
    }

    /// As the head of a guild's row.
    pub(super) fn guild(&self, guild: u64) -> Option<GuildHead> {
        remembered(&self.memo.guild, guild, || {
            let mut scratch = Vec::new();
            let mut value = self.tree.get(keys::id_key(keys::GUILD, guild), &mut scratch)?;
            Some(GuildHead::take(&mut value))
        })
    }

    /// Where a cached channel is.
    pub(super) fn place(&self, channel: u64) -> Option<Place> {
        remembered(&self.memo.place, channel, || match self.number(keys::id_key(keys::CHANNEL_AT, channel)) {
            Some(at) => {
                let number = at >> 1;
                Some(Place::Guild { guild: self.guild_of(number)?, number, thread: at & 1 == 1 })
            }
            None => self.tree.contains(keys::id_key(keys::PRIVATE, channel)).then_some(Place::Private),
        })
    }

    /// A channel's messages.
    pub(super) fn ring(&self, channel: u64) -> Option<RingHead> {
        remembered(&self.memo.ring, channel, || {
            let mut scratch = Vec::new();
            self.tree.get(keys::id_key(keys::RING, channel), &mut scratch).map(RingHead::take)
        })
    }

    /// The guild with that number.
    pub(super) fn guild_of(&self, number: u64) -> Option<u64> {
        if let Some((guild, Some(head))) = self.memo.guild.get()
            && head.number == number
        {
            return Some(guild);
        }
        let mut scratch = Vec::new();
        let value = self.tree.get(keys::id_key(keys::GUILD_OF, number), &mut scratch);
        value.map(|mut value| keys::take_u64(&mut value))
    }

    pub(super) fn knows(&self, guild: u64) -> bool {
        self.guild(guild).is_some()
    }

    /// The ids of a row under `a`, from `from` on, at most as many as `ids` has room for.
    pub(super) fn some_ids<'b>(&self, row: u8, a: u64, from: u64, ids: &'b mut [u64]) -> &'b [u64] {
        let (_, to) = span(row, a);
        let mut count = 0;
        for ((key, _), id) in self.tree.range(keys::key(row, a, from), to).zip(ids.iter_mut()) {
            *id = key.b;
            count += 1;
        }
        &ids[..count]
    }

    /// Reads a field of a stored object.
    pub(super) fn field_of<R>(
        &self,
        common: &Common,
        at: At,
        name: &str,
        read: impl FnOnce(Field<'_>) -> R,
    ) -> Option<R> {
        let mut scratch = Vec::new();
        let value = self.tree.get(at.key, &mut scratch)?;
        let bytes = value.get(head_len(at.key.kind, value)..)?;
        let entity = Entity { bytes, context: at.context(), shapes: &common.shapes };
        entity.field(name).ok()?.map(read)
    }
}

impl Step<'_> {
    pub(super) fn holds(&self, kind: Kind) -> bool {
        self.common.options.kinds.contains(kind)
    }

    /// Calls `each` for the ids of a row under `a`, in order; it may take out what it likes.
    pub(super) fn each_id(&mut self, row: u8, a: u64, mut each: impl FnMut(&mut Self, u64)) {
        let (mut some, mut from) = ([0; SOME], Some(0));
        while let Some(next) = from {
            let found = self.p.some_ids(row, a, next, &mut some);
            let count = found.len();
            from = found.last().and_then(|last| last.checked_add(1));
            some[..count].iter().for_each(|id| each(self, *id));
        }
    }

    /// Puts a value under its key, after making room if need be.
    pub(super) fn put(&mut self, key: Key, value: &[u8]) -> Stored {
        loop {
            if let Some(stored) = self.try_put(key, value) {
                return stored;
            }
        }
    }

    /// The same, but `None` when room was made: that may have changed what the value was made from, so it is to be
    /// made again. For rows that count what comes and goes elsewhere: a user's references, a ring's messages.
    pub(super) fn try_put(&mut self, key: Key, value: &[u8]) -> Option<Stored> {
        let most = (self.common.region_bytes() / ENTITY_SHARE).min(VALUE_BYTES_MAX);
        if value.len() <= most && self.is_short(key.kind) && !self.relieving {
            if self.relieve(key.kind) {
                return None;
            }
        } else if value.len() <= most {
            match self.p.tree.put(key, value) {
                Ok(replaced) => {
                    self.p.memo.forget(key.kind);
                    self.rounds = 0;
                    if !replaced && let Some(kind) = kind_of(key.kind) {
                        self.p.counts.add(kind, 1);
                    }
                    return Some(if replaced { Stored::Replaced } else { Stored::New });
                }
                Err(_) if self.relieve(key.kind) => return None,
                Err(_) => {}
            }
        }
        Some(self.refuse(key))
    }

    /// Counts what is not kept.
    pub(super) fn refuse(&self, key: Key) -> Stored {
        let kind = match key.kind {
            keys::USER => Some(Kind::User),
            keys::RING | keys::RING_OF => Some(Kind::Message),
            row => kind_of(row),
        };
        if let Some(kind) = kind {
            self.common.totals.refuse(kind);
        }
        Stored::Refused
    }

    /// Takes a row out.
    pub(super) fn erase(&mut self, key: Key) -> bool {
        self.p.memo.forget(key.kind);
        let gone = self.p.tree.remove(key);
        if gone && let Some(kind) = kind_of(key.kind) {
            self.p.counts.add(kind, -1);
        }
        gone
    }

    /// Encodes an object and puts it under its key, behind what `head` writes, with those fields of the old object that
    /// are named in `kept` and that it lacks. What does not fit is not kept, nor is the old one then.
    pub(super) fn put_object(
        &mut self,
        at: At,
        head: impl FnOnce(&mut Vec<u8>),
        object: Value<'_>,
        pick: Pick<'_>,
        kept: &[&str],
    ) -> Stored {
        let mut value = std::mem::take(&mut self.tools.value);
        let encoded = self.encode_object(at, head, object, pick, kept, &mut value);
        let stored = if encoded { self.put(at.key, &value) } else { self.refuse(at.key) };
        self.tools.value = value;
        stored
    }

    /// What [`Step::put_object`] puts, into `value`; false if it cannot be encoded.
    pub(super) fn encode_object(
        &mut self,
        at: At,
        head: impl FnOnce(&mut Vec<u8>),
        object: Value<'_>,
        pick: Pick<'_>,
        kept: &[&str],
        value: &mut Vec<u8>,
    ) -> bool {
        value.clear();
        head(value);
        let (tools, shapes) = (&mut *self.tools, &self.common.shapes);
        let old = if kept.is_empty() { None } else { self.p.tree.get(at.key, &mut tools.old) };
        let encoded = match old {
            Some(old) => {
                let bytes = &old[head_len(at.key.kind, old)..];
                let old = Entity { bytes, context: at.context(), shapes };
                tools.encoder.encode_keeping(object, pick, old, kept, at.context(), shapes, value)
            }
            None => tools.encoder.encode(object, pick, at.context(), shapes, value),
        };
        encoded.is_ok()
    }

    /// Writes the picked fields of `patch` over the object under a key; false, and nothing made, when there is none.
    /// What grows and does not fit goes.
    pub(super) fn merge(&mut self, at: At, patch: Value<'_>, pick: Pick<'_>) -> bool {
        loop {
            if let Some(merged) = self.try_merge(at, patch, pick) {
                return merged;
            }
        }
    }

    /// `None`: room was made, look again.
    fn try_merge(&mut self, at: At, patch: Value<'_>, pick: Pick<'_>) -> Option<bool> {
        let (tools, shapes) = (&mut *self.tools, &self.common.shapes);
        let Some(old) = self.p.tree.get(at.key, &mut tools.old) else { return Some(false) };
        let (head, bytes) = old.split_at(head_len(at.key.kind, old));
        if bytes.is_empty() {
            return Some(false);
        }
        let entity = Entity { bytes, context: at.context(), shapes };
        if tools.encoder.matches(entity, patch, pick) {
            return Some(true);
        }
        let mut value = std::mem::take(&mut tools.value);
        value.clear();
        value.extend_from_slice(head);
        let merged = tools.encoder.merge(entity, patch, pick, &mut value);
        let replaced = self.replace(at, &value, merged.is_ok());
        self.tools.value = value;
        replaced.then_some(true)
    }

    /// As [`Step::merge`], with the text of an object that was written here.
    pub(super) fn merge_text(&mut self, at: At, text: &[u8]) {
        let mut parser = self.tools.lend_parser();
        // What is written here is JSON; if it were not, nothing would change.
        let _ = parser.read(text, |patch| self.merge(at, patch, Pick::All));
        self.tools.parser = Some(parser);
    }

    /// Takes fields away from the object under a key.
    pub(super) fn remove_fields(&mut self, at: At, names: &[&str]) {
        let (tools, shapes) = (&mut *self.tools, &self.common.shapes);
        let Some(old) = self.p.tree.get(at.key, &mut tools.old) else { return };
        let (head, bytes) = old.split_at(head_len(at.key.kind, old));
        let mut value = std::mem::take(&mut tools.value);
        value.clear();
        value.extend_from_slice(head);
        let entity = Entity { bytes, context: at.context(), shapes };
        let done = tools.encoder.without(entity, names, &mut value);
        let replaced = self.replace(at, &value, done.is_ok());
        self.tools.value = value;
        if !replaced {
            self.remove_fields(at, names);
        }
    }

    /// Takes the elements that are this id out of the object's list; whether there were any.
    pub(super) fn remove_element(&mut self, at: At, name: &str, id: u64) -> bool {
        let (tools, shapes) = (&mut *self.tools, &self.common.shapes);
        let Some(old) = self.p.tree.get(at.key, &mut tools.old) else { return false };
        let (head, bytes) = old.split_at(head_len(at.key.kind, old));
        let mut value = std::mem::take(&mut tools.value);
        value.clear();
        value.extend_from_slice(head);
        let entity = Entity { bytes, context: at.context(), shapes };
        let changed = tools.encoder.without_element(entity, name, id, &mut value) == Ok(true);
        let replaced = !changed || self.replace(at, &value, true);
        self.tools.value = value;
        if replaced { changed } else { self.remove_element(at, name, id) }
    }

    /// Puts a changed value in place of an old one; false when room was made, and the value is to be made again. Where
    /// there is no memory for it the entity goes: what is out of date is worse than what is not there.
    fn replace(&mut self, at: At, value: &[u8], sound: bool) -> bool {
        // If not sound: the old value cannot be read, or the new one is too large for an entity.
        let stored = if sound { self.try_put(at.key, value) } else { Some(self.refuse(at.key)) };
        match stored {
            None => return false,
            Some(Stored::Replaced | Stored::New) => {}
            // A guild out of date is better than no guild.
            Some(Stored::Refused) if at.key.kind == keys::GUILD => {}
            Some(Stored::Refused) => self.drop_row(at),
        }
        true
    }

    /// Takes a row out with all that hangs on it.
    pub(super) fn drop_row(&mut self, at: At) {
        let key = at.key;
        match key.kind {
            keys::MEMBER => self.forget_member(key.a, key.b),
            keys::USER => self.forget_object(key.b),
            keys::VOICE => self.drop_voice_state(key.a, key.b),
            keys::CHANNEL | keys::THREAD | keys::PRIVATE => self.drop_thread(key.b),
            keys::ROLE..=keys::INTEGRATION => self.forget_child(key.kind, key.a, key.b),
            keys::GUILD => self.drop_guild(key.b),
            keys::MESSAGE => self.drop_message(at.parent, key.b),
            _ => drop(self.erase(key)),
        }
    }

    /// The number that a field of a stored object is.
    pub(super) fn u64_of(&self, at: At, name: &str) -> Option<u64> {
        self.p.field_of(self.common, at, name, |field| field.as_u64()).flatten()
    }

    /// The id that a field of a stored object is.
    pub(super) fn id_of(&self, at: At, name: &str) -> Option<u64> {
        self.p.field_of(self.common, at, name, |field| field.as_id()).flatten()
    }
}
