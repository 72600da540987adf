//! Reactions and polls of cached messages.
//!
//! Both are lists deep inside a message and change by one. The list is written as text, with the change, and that text
//! is merged into the message: slower than a change in place, and much less to get wrong.

use std::io::Write;

use crate::cache::encoding::{Pick, Value};

use super::Step;
use super::events::{id, maybe_id, object};
use super::members::Said;
use super::rows::At;

/// What a reaction is found by: its emoji's id if not null, else its name.
enum EmojiKey<'d> {
    Id(u64),
    Name(Value<'d>),
}

impl<'d> EmojiKey<'d> {
    /// `None`: a malformed id, or neither.
    fn of(emoji: Value<'d>) -> Option<EmojiKey<'d>> {
        match maybe_id(emoji, "id")? {
            Some(id) => Some(EmojiKey::Id(id)),
            None => emoji.get("name").filter(|name| name.is_string()).map(EmojiKey::Name),
        }
    }

    /// Whether an entry of a message's list is of this emoji.
    fn is_of(&self, reaction: Value<'_>) -> bool {
        match (self, object(reaction, "emoji").and_then(EmojiKey::of)) {
            (EmojiKey::Id(a), Some(EmojiKey::Id(b))) => *a == b,
            (EmojiKey::Name(a), Some(EmojiKey::Name(b))) => a.is_same_text(b),
            _ => false,
        }
    }
}

/// One reaction more or less.
struct Change<'d> {
    add: bool,
    burst: bool,
    own: bool,
    colors: Option<Value<'d>>,
}

impl Change<'_> {
    fn apply(&self, count: u64) -> u64 {
        if self.add { count.saturating_add(1) } else { count.saturating_sub(1) }
    }

    /// Writes an entry as it is after the change; false, and nothing, when nobody is left.
    fn write(&self, entry: Value<'_>, out: &mut Vec<u8>) -> bool {
        let number = |of: Option<Value<'_>>, key: &str| of.and_then(|of| of.get(key)).and_then(Value::as_u64);
        let count = self.apply(number(Some(entry), "count").unwrap_or(0));
        if count == 0 {
            return false;
        }
        let (counted, mine) = if self.burst { ("burst", "me_burst") } else { ("normal", "me") };
        let mut fields = Fields::begin(out);
        for (key, value) in entry.fields() {
            let changed = key.is("count")
                || key.is("count_details")
                || (self.own && key.is(mine))
                || (self.colors.is_some() && key.is("burst_colors"));
            if !changed {
                fields.copy(key, value);
            }
        }
        fields.number("count", count);
        let details = object(entry, "count_details");
        let mut inner = Fields::begin(fields.name("count_details"));
        for (key, value) in details.into_iter().flat_map(Value::fields).filter(|(key, _)| !key.is(counted)) {
            inner.copy(key, value);
        }
        inner.number(counted, self.apply(number(details, counted).unwrap_or(0)));
        inner.end();
        if self.own {
            fields.name(mine).extend_from_slice(if self.add { b"true" } else { b"false" });
        }
        if let Some(colors) = self.colors {
            colors.write(fields.name("burst_colors"));
        }
        fields.end();
        true
    }
}

/// An object being written.
struct Fields<'o> {
    out: &'o mut Vec<u8>,
    any: bool,
}

impl<'o> Fields<'o> {
    fn begin(out: &'o mut Vec<u8>) -> Fields<'o> {
        out.push(b'{');
        Fields { out, any: false }
    }

    fn comma(&mut self) {
        if std::mem::replace(&mut self.any, true) {
            self.out.push(b',');
        }
    }

    fn copy(&mut self, key: crate::cache::encoding::KeyText<'_>, value: Value<'_>) {
        self.comma();
        key.write(self.out);
        self.out.push(b':');
        value.write(self.out);
    }

    /// Writes a name; its value is to follow.
    fn name(&mut self, name: &str) -> &mut Vec<u8> {
        self.comma();
        // Writing to a vector does not fail.
        let _ = write!(self.out, "\"{name}\":");
        self.out
    }

    fn number(&mut self, name: &str, number: u64) {
        let _ = write!(self.name(name), "{number}");
    }

    fn end(self) {
        self.out.push(b'}');
    }
}

impl Step<'_> {
    /// Where a message is kept that an event names by channel and id.
    fn named_message(&self, d: Value<'_>) -> Option<Option<At>> {
        let (channel, message) = (id(d, "channel_id")?, id(d, "message_id")?);
        Some(self.p.message_at(channel, message))
    }

    /// Writes a patch from one field of a message (none if it has not got it) and merges it.
    fn patch(&mut self, at: At, name: &str, write: impl FnOnce(Option<Value<'_>>, &mut Vec<u8>) -> bool) {
        let mut old = std::mem::take(&mut self.tools.text);
        old.clear();
        let found = self.p.field_of(self.common, at, name, |field| field.write(&mut old).is_ok());
        let mut patch = std::mem::take(&mut self.tools.patch);
        patch.clear();
        let changed = if found == Some(true) {
            let mut parser = self.tools.lend_parser();
            let changed = parser.read(&old, |value| write(Some(value), &mut patch));
            self.tools.parser = Some(parser);
            changed == Ok(true)
        } else {
            write(None, &mut patch)
        };
        if changed {
            self.merge_text(at, &patch);
        }
        self.tools.text = old;
        self.tools.patch = patch;
    }

    pub(super) fn reaction(&mut self, d: Value<'_>, add: bool) -> Option<()> {
        let user = id(d, "user_id")?;
        id(d, "channel_id")?;
        id(d, "message_id")?;
        let emoji = object(d, "emoji")?;
        let key = EmojiKey::of(emoji)?;
        let guild = maybe_id(d, "guild_id")?;
        self.guild = guild;
        if let (true, Some(guild), Some(member)) = (add, guild, object(d, "member")) {
            self.put_member(guild, member, None, Said::Aside, &[]);
        }
        let Some(at) = self.named_message(d)? else { return Some(()) };
        let burst = match d.get("burst").and_then(Value::as_bool) {
            Some(burst) => burst,
            None => d.get("type").and_then(Value::as_u64) == Some(1),
        };
        let colors = d.get("burst_colors").filter(|colors| add && burst && colors.is_array());
        let change = Change { add, burst, own: self.p.me == Some(user), colors };
        self.patch(at, "reactions", |reactions, out| {
            let reactions = reactions.filter(|reactions| reactions.is_array());
            if reactions.is_none() && !add {
                return false;
            }
            out.extend_from_slice(b"{\"reactions\":[");
            let start = out.len();
            let mut found = false;
            for reaction in reactions.into_iter().flat_map(Value::elements) {
                let before = out.len();
                if before > start {
                    out.push(b',');
                }
                if !found && reaction.is_object() && key.is_of(reaction) {
                    found = true;
                    if !change.write(reaction, out) {
                        out.truncate(before);
                    }
                } else {
                    reaction.write(out);
                }
            }
            if !found && add {
                if out.len() > start {
                    out.push(b',');
                }
                write_new(emoji, &change, out);
            }
            out.extend_from_slice(b"]}");
            found || add
        });
        Some(())
    }

    pub(super) fn reactions_clear(&mut self, d: Value<'_>) -> Option<()> {
        if let Some(at) = self.named_message(d)? {
            self.merge_text(at, b"{\"reactions\":[]}");
        }
        Some(())
    }

    pub(super) fn reactions_of_emoji(&mut self, d: Value<'_>) -> Option<()> {
        id(d, "channel_id")?;
        id(d, "message_id")?;
        let key = EmojiKey::of(object(d, "emoji")?)?;
        let Some(at) = self.named_message(d)? else { return Some(()) };
        self.patch(at, "reactions", |reactions, out| {
            let Some(reactions) = reactions.filter(|reactions| reactions.is_array()) else { return false };
            out.extend_from_slice(b"{\"reactions\":[");
            let start = out.len();
            for reaction in reactions.elements().filter(|reaction| !key.is_of(*reaction)) {
                if out.len() > start {
                    out.push(b',');
                }
                reaction.write(out);
            }
            out.extend_from_slice(b"]}");
            true
        });
        Some(())
    }

    pub(super) fn vote(&mut self, d: Value<'_>, add: bool) -> Option<()> {
        let user = id(d, "user_id")?;
        id(d, "channel_id")?;
        id(d, "message_id")?;
        let answer = id(d, "answer_id")?;
        let written = d.get("answer_id")?;
        let Some(at) = self.named_message(d)? else { return Some(()) };
        let own = self.p.me == Some(user);
        self.patch(at, "poll", |poll, out| {
            let Some(poll) = poll.filter(|poll| poll.is_object()) else { return false };
            let Some(results) = object(poll, "results") else { return false };
            let counts = results.get("answer_counts").filter(|counts| counts.is_array());
            let is_it = |entry: Value<'_>| entry.is_object() && id(entry, "id") == Some(answer);
            let known = counts.into_iter().flat_map(Value::elements).any(is_it);
            if !add && !known {
                return false;
            }
            let mut patch = Fields::begin(out);
            let mut outer = Fields::begin(patch.name("poll"));
            for (key, value) in poll.fields().filter(|(key, _)| !key.is("results")) {
                outer.copy(key, value);
            }
            let mut inner = Fields::begin(outer.name("results"));
            for (key, value) in results.fields().filter(|(key, _)| !key.is("answer_counts")) {
                inner.copy(key, value);
            }
            let list = inner.name("answer_counts");
            list.push(b'[');
            let start = list.len();
            let mut found = false;
            for entry in counts.into_iter().flat_map(Value::elements) {
                if list.len() > start {
                    list.push(b',');
                }
                if !found && is_it(entry) {
                    found = true;
                    write_votes(entry, add, own, list);
                } else {
                    entry.write(list);
                }
            }
            if !found {
                if list.len() > start {
                    list.push(b',');
                }
                let mut entry = Fields::begin(list);
                written.write(entry.name("id"));
                entry.number("count", 1);
                entry.name("me_voted").extend_from_slice(if own { b"true" } else { b"false" });
                entry.end();
            }
            list.push(b']');
            inner.end();
            outer.end();
            patch.end();
            true
        });
        Some(())
    }

    /// MESSAGE_UPDATE over a cached message: `tts` is not to be believed, and a poll without results keeps the old.
    pub(super) fn merge_update(&mut self, at: At, d: Value<'_>) {
        let pick = Pick::Without(&["guild_id", "tts"]);
        let poll = object(d, "poll").filter(|poll| poll.get("results").is_none());
        let Some(poll) = poll else {
            self.merge(at, d, pick);
            return;
        };
        // First what is kept of the old poll, then the rest: both before anybody can look.
        self.patch(at, "poll", |old, out| {
            let results = old.and_then(|old| old.get("results"));
            let mut patch = Fields::begin(out);
            let mut fields = Fields::begin(patch.name("poll"));
            for (key, value) in poll.fields() {
                fields.copy(key, value);
            }
            if let Some(results) = results {
                results.write(fields.name("results"));
            }
            fields.end();
            patch.end();
            true
        });
        self.merge(at, d, Pick::Without(&["guild_id", "tts", "poll"]));
    }
}

/// An entry that a message gets with the first reaction of an emoji.
fn write_new(emoji: Value<'_>, change: &Change<'_>, out: &mut Vec<u8>) {
    let mut fields = Fields::begin(out);
    emoji.write(fields.name("emoji"));
    fields.number("count", 1);
    let mut details = Fields::begin(fields.name("count_details"));
    details.number("normal", u64::from(!change.burst));
    details.number("burst", u64::from(change.burst));
    details.end();
    let flag = |set| if set { &b"true"[..] } else { b"false" };
    fields.name("me").extend_from_slice(flag(change.own && !change.burst));
    fields.name("me_burst").extend_from_slice(flag(change.own && change.burst));
    match change.colors {
        Some(colors) => colors.write(fields.name("burst_colors")),
        None => fields.name("burst_colors").extend_from_slice(b"[]"),
    }
    fields.end();
}

/// An answer's entry with one vote more or less.
fn write_votes(entry: Value<'_>, add: bool, own: bool, out: &mut Vec<u8>) {
    let count = entry.get("count").and_then(Value::as_u64).unwrap_or(0);
    let count = if add { count.saturating_add(1) } else { count.saturating_sub(1) };
    let mut fields = Fields::begin(out);
    for (key, value) in entry.fields() {
        if !(key.is("count") || own && key.is("me_voted")) {
            fields.copy(key, value);
        }
    }
    fields.number("count", count);
    if own {
        fields.name("me_voted").extend_from_slice(if add { b"true" } else { b"false" });
    }
    fields.end();
}
