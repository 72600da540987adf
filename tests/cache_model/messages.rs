//! Section 7: messages, reactions, poll votes.

use super::oracle::{
    Kind, Object, Ring, Said, Step, count, id, id_of, keep, list, maybe_id, merge, object, without,
};
use serde_json::{Value, json};

/// `flags` of a message that only one user sees.
const EPHEMERAL: u64 = 64;

/// Where a message is.
enum Place {
    /// In a guild (`Some`) or a private channel.
    Known(Option<u64>),
    /// Policy 24 ignores it.
    Nowhere,
}

impl Step<'_> {
    fn place_of_message(&self, d: &Object, channel: u64) -> Option<Place> {
        let named = maybe_id(d, "guild_id")?;
        let cached = self.p.channels.get(&channel).map(|c| c.guild);
        Some(match (named, cached) {
            (Some(guild), _) if !self.knows(guild) => Place::Nowhere,
            (Some(guild), Some(place)) if place != Some(guild) => Place::Nowhere,
            (Some(guild), _) => Place::Known(Some(guild)),
            (None, Some(place)) => Place::Known(place),
            (None, None) => match d.get("channel_type").and_then(Value::as_u64) {
                Some(1 | 3) => Place::Known(None),
                _ => Place::Nowhere,
            },
        })
    }

    /// Users and members that a message brings along.
    fn people_of(&mut self, guild: Option<u64>, d: &Object) {
        let webhook = d.get("webhook_id").is_some_and(|id| !id.is_null());
        if let Some(author) = object(d, "author").filter(|_| !webhook) {
            match (guild, object(d, "member")) {
                (Some(guild), Some(member)) => self.put_member(guild, member, Some(author), Said::Aside),
                _ => self.put_user(author),
            }
        }
        for mention in list(d, "mentions").unwrap_or_default().iter().filter_map(Value::as_object) {
            match (guild, object(mention, "member")) {
                (Some(guild), Some(member)) => self.put_member(guild, member, Some(mention), Said::Aside),
                _ => self.put_user(mention),
            }
        }
    }

    fn private_stub(&mut self, channel: u64, d: &Object) {
        let webhook = d.get("webhook_id").is_some_and(|id| !id.is_null());
        let author = object(d, "author").filter(|a| !webhook && id(a, "id") != self.p.me).cloned();
        let recipients: Vec<Value> =
            author.filter(|a| id(a, "id").is_some()).map(Value::Object).into_iter().collect();
        match self.p.channels.get(&channel) {
            None => {
                let stub =
                    json!({"id": d["channel_id"], "type": d["channel_type"], "recipients": recipients});
                self.put_channel(None, stub.as_object().expect("made so"), &[]);
            }
            Some(known) => {
                let empty = known.object.get("recipients") == Some(&json!([]));
                if known.object.get("type") == Some(&json!(1)) && empty && !recipients.is_empty() {
                    let mut filled = known.object.clone();
                    filled.insert("recipients".to_owned(), Value::Array(recipients));
                    self.put_channel(None, &filled, &[]);
                }
            }
        }
    }

    pub fn message_create(&mut self, d: &Object) -> Option<()> {
        let (message, channel) = (id(d, "id")?, id(d, "channel_id")?);
        list(d, "mentions")?;
        if d.get("flags").and_then(Value::as_u64).is_some_and(|flags| flags & EPHEMERAL != 0) {
            maybe_id(d, "guild_id")?;
            return Some(());
        }
        let Place::Known(guild) = self.place_of_message(d, channel)? else { return Some(()) };
        if guild.is_none() {
            self.private_stub(channel, d);
        }
        self.people_of(guild, d);
        let cached = self.message(channel, message).is_some();
        if let Some(found) = self.p.channels.get_mut(&channel) {
            let seen = cached || id(&found.object, "last_message_id") == Some(message);
            if found.is_thread() && !seen && message != channel {
                count(&mut found.object, "message_count", 1);
                count(&mut found.object, "total_message_sent", 1);
            }
            found.object.insert("last_message_id".to_owned(), d["id"].clone());
        }
        if !self.holds(Kind::Message) || self.options.message_cache_size == 0 {
            return Some(());
        }
        if self.p.rings.get(&channel).is_some_and(|ring| ring.guild != guild) {
            self.p.rings.remove(&channel);
        }
        let new = without(d, &["guild_id"]);
        if let Some(known) = self.message(channel, message) {
            merge(known, &new);
            return Some(());
        }
        let ring = self.p.rings.entry(channel).or_insert(Ring { guild, messages: vec![] });
        ring.messages.push((message, new));
        if ring.messages.len() > self.options.message_cache_size {
            let oldest = ring.messages.iter().map(|(message, _)| *message).min();
            ring.messages.retain(|(message, _)| Some(*message) != oldest);
        }
        Some(())
    }

    pub fn message_update(&mut self, d: &Object) -> Option<()> {
        let (message, channel) = (id(d, "id")?, id(d, "channel_id")?);
        list(d, "mentions")?;
        if d.get("flags").and_then(Value::as_u64).is_some_and(|flags| flags & EPHEMERAL != 0) {
            maybe_id(d, "guild_id")?;
            return Some(());
        }
        let Place::Known(guild) = self.place_of_message(d, channel)? else { return Some(()) };
        self.people_of(guild, d);
        let Some(known) = self.message(channel, message) else { return Some(()) };
        let mut new = without(d, &["guild_id", "tts"]);
        if let (Some(old), Some(Value::Object(poll))) = (object(known, "poll"), new.get_mut("poll")) {
            keep(poll, old, &["results"]);
        }
        merge(known, &new);
        Some(())
    }

    pub fn messages_delete(&mut self, d: &Object, ids: &[u64]) -> Option<()> {
        let channel = id(d, "channel_id")?;
        let named = maybe_id(d, "guild_id")?;
        if let Some(found) = self.p.channels.get_mut(&channel) {
            if named.is_some() && named != found.guild {
                return Some(());
            }
            if found.is_thread() {
                let counted = ids.iter().filter(|message| **message != channel).count();
                count(&mut found.object, "message_count", -(counted as i64));
            }
        }
        if let Some(ring) = self.p.rings.get_mut(&channel) {
            ring.messages.retain(|(message, _)| !ids.contains(message));
            if ring.messages.is_empty() {
                self.p.rings.remove(&channel);
            }
        }
        Some(())
    }

    fn message(&mut self, channel: u64, message: u64) -> Option<&mut Object> {
        let ring = self.p.rings.get_mut(&channel)?;
        ring.messages.iter_mut().find(|(id, _)| *id == message).map(|(_, object)| object)
    }

    pub fn reaction(&mut self, d: &Object, add: bool) -> Option<()> {
        let (user, channel, message) = (id(d, "user_id")?, id(d, "channel_id")?, id(d, "message_id")?);
        let emoji = object(d, "emoji")?;
        let key = emoji_key(emoji)?;
        let guild = maybe_id(d, "guild_id")?;
        if let (true, Some(guild), Some(member)) = (add, guild, object(d, "member")) {
            self.put_member(guild, member, None, Said::Aside);
        }
        let own = self.p.me == Some(user);
        let burst = match d.get("burst") {
            Some(Value::Bool(burst)) => *burst,
            _ => d.get("type") == Some(&json!(1)),
        };
        let Some(found) = self.message(channel, message) else { return Some(()) };
        let reactions = match found.get_mut("reactions") {
            Some(Value::Array(reactions)) => reactions,
            _ if !add => return Some(()),
            _ => {
                found.insert("reactions".to_owned(), json!([]));
                found["reactions"].as_array_mut()?
            }
        };
        let position = reactions.iter().position(|r| reaction_key(r).as_ref() == Some(&key));
        let position = match position {
            Some(position) => position,
            None if !add => return Some(()),
            None => {
                reactions
                    .push(json!({"emoji": emoji, "count": 0, "count_details": {"normal": 0, "burst": 0},
                    "me": false, "me_burst": false, "burst_colors": []}));
                reactions.len() - 1
            }
        };
        let entry = reactions[position].as_object_mut()?;
        let by = if add { 1 } else { -1 };
        force_count(entry, "count", by);
        if !entry.get("count_details").is_some_and(Value::is_object) {
            entry.insert("count_details".to_owned(), json!({}));
        }
        force_count(entry["count_details"].as_object_mut()?, if burst { "burst" } else { "normal" }, by);
        if own {
            entry.insert(if burst { "me_burst" } else { "me" }.to_owned(), json!(add));
        }
        if let (true, true, Some(colors @ Value::Array(_))) = (add, burst, d.get("burst_colors")) {
            entry.insert("burst_colors".to_owned(), colors.clone());
        }
        if entry["count"] == json!(0) {
            reactions.remove(position);
        }
        Some(())
    }

    pub fn reactions_clear(&mut self, d: &Object) -> Option<()> {
        let (channel, message) = (id(d, "channel_id")?, id(d, "message_id")?);
        if let Some(found) = self.message(channel, message) {
            found.insert("reactions".to_owned(), json!([]));
        }
        Some(())
    }

    pub fn reactions_of_emoji(&mut self, d: &Object) -> Option<()> {
        let (channel, message) = (id(d, "channel_id")?, id(d, "message_id")?);
        let key = emoji_key(object(d, "emoji")?)?;
        if let Some(Value::Array(reactions)) =
            self.message(channel, message).and_then(|m| m.get_mut("reactions"))
        {
            reactions.retain(|r| reaction_key(r).as_ref() != Some(&key));
        }
        Some(())
    }

    pub fn vote(&mut self, d: &Object, by: i64) -> Option<()> {
        let (user, channel, message) = (id(d, "user_id")?, id(d, "channel_id")?, id(d, "message_id")?);
        let answer = id(d, "answer_id")?;
        let own = self.p.me == Some(user);
        let poll = self.message(channel, message).and_then(|m| m.get_mut("poll"));
        let Some(results) = poll.and_then(|p| p.get_mut("results")).and_then(Value::as_object_mut) else {
            return Some(());
        };
        if !results.get("answer_counts").is_some_and(Value::is_array) {
            if by < 0 {
                return Some(());
            }
            results.insert("answer_counts".to_owned(), json!([]));
        }
        let counts = results["answer_counts"].as_array_mut()?;
        let position = counts.iter().position(|a| a.get("id").and_then(id_of) == Some(answer));
        let position = match position {
            Some(position) => position,
            None if by < 0 => return Some(()),
            None => {
                counts.push(json!({"id": d["answer_id"], "count": 0, "me_voted": false}));
                counts.len() - 1
            }
        };
        let entry = counts[position].as_object_mut()?;
        force_count(entry, "count", by);
        if own {
            entry.insert("me_voted".to_owned(), json!(by > 0));
        }
        Some(())
    }
}

/// A counter that becomes one if it was none.
fn force_count(d: &mut Object, key: &str, by: i64) {
    let old = d.get(key).and_then(Value::as_u64).unwrap_or(0);
    d.insert(key.to_owned(), json!(old.saturating_add_signed(by)));
}

/// What a reaction is found by: id if not null, else name. `None`: a malformed id, or neither.
#[derive(PartialEq)]
enum EmojiKey {
    Id(u64),
    Name(String),
}

fn emoji_key(emoji: &Object) -> Option<EmojiKey> {
    match maybe_id(emoji, "id")? {
        Some(id) => Some(EmojiKey::Id(id)),
        None => emoji.get("name").and_then(Value::as_str).map(|name| EmojiKey::Name(name.to_owned())),
    }
}

fn reaction_key(reaction: &Value) -> Option<EmojiKey> {
    reaction.as_object().and_then(|r| object(r, "emoji")).and_then(emoji_key)
}
