//! One handler per row of `events.md`, in the order of its sections. Every `?` stands before the first change.

use super::oracle::{
    CHILD_LISTS, Channel, Guild, Kind, ONLY_IN_GUILD_CREATE, Object, Reference, Said, Step, count, id, id_of,
    list, maybe_id, maybe_list, merge, object, without,
};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Events with an effect; all others are ignored whatever their body is.
pub const HANDLED: [&str; 57] = [
    "READY",
    "USER_UPDATE",
    "GUILD_CREATE",
    "GUILD_UPDATE",
    "GUILD_DELETE",
    "GUILD_EMOJIS_UPDATE",
    "GUILD_STICKERS_UPDATE",
    "INTEGRATION_CREATE",
    "INTEGRATION_UPDATE",
    "INTEGRATION_DELETE",
    "CHANNEL_CREATE",
    "CHANNEL_UPDATE",
    "CHANNEL_DELETE",
    "CHANNEL_INFO",
    "VOICE_CHANNEL_STATUS_UPDATE",
    "VOICE_CHANNEL_START_TIME_UPDATE",
    "CHANNEL_PINS_UPDATE",
    "THREAD_CREATE",
    "THREAD_UPDATE",
    "THREAD_DELETE",
    "THREAD_LIST_SYNC",
    "THREAD_MEMBER_UPDATE",
    "THREAD_MEMBERS_UPDATE",
    "GUILD_MEMBER_ADD",
    "GUILD_MEMBER_UPDATE",
    "GUILD_MEMBER_REMOVE",
    "GUILD_MEMBERS_CHUNK",
    "GUILD_ROLE_CREATE",
    "GUILD_ROLE_UPDATE",
    "GUILD_ROLE_DELETE",
    "PRESENCE_UPDATE",
    "TYPING_START",
    "MESSAGE_CREATE",
    "MESSAGE_UPDATE",
    "MESSAGE_DELETE",
    "MESSAGE_DELETE_BULK",
    "MESSAGE_REACTION_ADD",
    "MESSAGE_REACTION_REMOVE",
    "MESSAGE_REACTION_REMOVE_ALL",
    "MESSAGE_REACTION_REMOVE_EMOJI",
    "MESSAGE_POLL_VOTE_ADD",
    "MESSAGE_POLL_VOTE_REMOVE",
    "VOICE_STATE_UPDATE",
    "STAGE_INSTANCE_CREATE",
    "STAGE_INSTANCE_UPDATE",
    "STAGE_INSTANCE_DELETE",
    "GUILD_SCHEDULED_EVENT_CREATE",
    "GUILD_SCHEDULED_EVENT_UPDATE",
    "GUILD_SCHEDULED_EVENT_DELETE",
    "GUILD_SCHEDULED_EVENT_USER_ADD",
    "GUILD_SCHEDULED_EVENT_USER_REMOVE",
    "GUILD_SOUNDBOARD_SOUND_CREATE",
    "GUILD_SOUNDBOARD_SOUND_UPDATE",
    "GUILD_SOUNDBOARD_SOUND_DELETE",
    "GUILD_SOUNDBOARD_SOUNDS_UPDATE",
    "SOUNDBOARD_SOUNDS",
    "INTERACTION_CREATE",
];

/// Keys that no channel object has.
const EPHEMERAL: [&str; 2] = ["status", "voice_start_time"];

impl Step<'_> {
    /// `None`: the body does not fit, nothing changed.
    pub fn dispatch(&mut self, event: &str, d: &Object) -> Option<()> {
        match event {
            "READY" => self.ready(d),
            "USER_UPDATE" => self.user_update(d),
            "GUILD_CREATE" => self.guild_create(d),
            "GUILD_UPDATE" => self.guild_update(d),
            "GUILD_DELETE" => self.guild_delete(d),
            "GUILD_EMOJIS_UPDATE" => self.replace_set(Kind::Emoji, d, "emojis"),
            "GUILD_STICKERS_UPDATE" => self.replace_set(Kind::Sticker, d, "stickers"),
            "SOUNDBOARD_SOUNDS" => self.replace_set(Kind::Sound, d, "soundboard_sounds"),
            "INTEGRATION_CREATE" | "INTEGRATION_UPDATE" => self.upsert_child(Kind::Integration, d, d, "id"),
            "INTEGRATION_DELETE" => self.delete_child(Kind::Integration, d, "id"),
            "CHANNEL_CREATE" | "CHANNEL_UPDATE" => self.channel_upsert(d),
            "CHANNEL_DELETE" => self.channel_delete(d),
            "CHANNEL_INFO" => self.channel_info(d),
            "VOICE_CHANNEL_STATUS_UPDATE" => self.channel_key(d, "id", "status", d.get("status")),
            "VOICE_CHANNEL_START_TIME_UPDATE" => {
                let time = d.get("voice_start_time").unwrap_or(&Value::Null);
                self.channel_key(d, "id", "voice_start_time", Some(time))
            }
            "CHANNEL_PINS_UPDATE" => {
                self.channel_key(d, "channel_id", "last_pin_timestamp", d.get("last_pin_timestamp"))
            }
            "THREAD_CREATE" => self.thread_create(d),
            "THREAD_UPDATE" => self.thread_upsert(d).map(drop),
            "THREAD_DELETE" => self.thread_delete(d),
            "THREAD_LIST_SYNC" => self.thread_list_sync(d),
            "THREAD_MEMBER_UPDATE" => self.thread_member_update(d),
            "THREAD_MEMBERS_UPDATE" => self.thread_members_update(d),
            "GUILD_MEMBER_ADD" => self.member_add(d),
            "GUILD_MEMBER_UPDATE" => self.member_update(d),
            "GUILD_MEMBER_REMOVE" => self.member_remove(d),
            "GUILD_MEMBERS_CHUNK" => self.members_chunk(d),
            "GUILD_ROLE_CREATE" | "GUILD_ROLE_UPDATE" => {
                self.upsert_child(Kind::Role, d, object(d, "role")?, "id")
            }
            "GUILD_ROLE_DELETE" => self.role_delete(d),
            "PRESENCE_UPDATE" => self.presence_update(d),
            "TYPING_START" => self.typing_start(d),
            "MESSAGE_CREATE" => self.message_create(d),
            "MESSAGE_UPDATE" => self.message_update(d),
            "MESSAGE_DELETE" => self.messages_delete(d, &[id(d, "id")?]),
            "MESSAGE_DELETE_BULK" => {
                let ids: Vec<u64> = list(d, "ids")?.iter().filter_map(id_of).collect();
                self.messages_delete(d, &ids)
            }
            "MESSAGE_REACTION_ADD" => self.reaction(d, true),
            "MESSAGE_REACTION_REMOVE" => self.reaction(d, false),
            "MESSAGE_REACTION_REMOVE_ALL" => self.reactions_clear(d),
            "MESSAGE_REACTION_REMOVE_EMOJI" => self.reactions_of_emoji(d),
            "MESSAGE_POLL_VOTE_ADD" => self.vote(d, 1),
            "MESSAGE_POLL_VOTE_REMOVE" => self.vote(d, -1),
            "VOICE_STATE_UPDATE" => match maybe_id(d, "guild_id")? {
                Some(guild) => self.put_voice_state(guild, d),
                None => Some(()),
            },
            "STAGE_INSTANCE_CREATE" | "STAGE_INSTANCE_UPDATE" => {
                self.upsert_child(Kind::StageInstance, d, d, "id")
            }
            "STAGE_INSTANCE_DELETE" => self.delete_child(Kind::StageInstance, d, "id"),
            "GUILD_SCHEDULED_EVENT_CREATE" | "GUILD_SCHEDULED_EVENT_UPDATE" => {
                self.upsert_child(Kind::ScheduledEvent, d, d, "id")
            }
            "GUILD_SCHEDULED_EVENT_DELETE" => self.delete_child(Kind::ScheduledEvent, d, "id"),
            "GUILD_SCHEDULED_EVENT_USER_ADD" => self.event_users(d, 1),
            "GUILD_SCHEDULED_EVENT_USER_REMOVE" => self.event_users(d, -1),
            "GUILD_SOUNDBOARD_SOUND_CREATE" | "GUILD_SOUNDBOARD_SOUND_UPDATE" => {
                self.upsert_child(Kind::Sound, d, d, "sound_id")
            }
            "GUILD_SOUNDBOARD_SOUND_DELETE" => self.delete_child(Kind::Sound, d, "sound_id"),
            "GUILD_SOUNDBOARD_SOUNDS_UPDATE" => {
                let (guild, sounds) = (id(d, "guild_id")?, list(d, "soundboard_sounds")?);
                sounds
                    .iter()
                    .filter_map(Value::as_object)
                    .for_each(|s| self.put_child(Kind::Sound, guild, s));
                Some(())
            }
            "INTERACTION_CREATE" => self.interaction(d),
            _ => Some(()),
        }
    }

    // ---- section 3

    fn ready(&mut self, d: &Object) -> Option<()> {
        let user = object(d, "user")?;
        let me = id(user, "id")?;
        let guilds = d.get("guilds")?.as_array()?;
        let listed: BTreeSet<u64> =
            guilds.iter().filter_map(Value::as_object).filter_map(|g| id(g, "id")).collect();
        let stale: Vec<u64> = self.p.guilds.keys().copied().filter(|guild| !listed.contains(guild)).collect();
        stale.into_iter().for_each(|guild| self.drop_guild(guild));
        listed.into_iter().for_each(|guild| self.mark_unavailable(guild));
        self.p.rings.clear();
        self.refer(me, Reference::Own);
        if let Some(old) = self.p.me.replace(me).filter(|old| *old != me) {
            self.release(old, Reference::Own);
        }
        self.put_user(user);
        *self.current_user = Some(user.clone());
        Some(())
    }

    fn user_update(&mut self, d: &Object) -> Option<()> {
        let user = id(d, "id")?;
        match self.current_user {
            Some(me) if id(me, "id") != Some(user) => return Some(()),
            Some(me) => merge(me, d),
            None => *self.current_user = Some(d.clone()),
        }
        if let Some(known) = self.p.users.get_mut(&user) {
            merge(known, d);
        } else {
            self.put_user(d);
        }
        Some(())
    }

    // ---- section 4

    fn mark_unavailable(&mut self, guild: u64) {
        let mut object = Object::new();
        object.insert("id".to_owned(), json!(guild.to_string()));
        self.p.guilds.entry(guild).or_insert(Guild { object, unavailable: true }).unavailable = true;
    }

    fn guild_create(&mut self, d: &Object) -> Option<()> {
        let guild = id(d, "id")?;
        let lists = CHILD_LISTS.map(|key| list(d, key));
        if lists.iter().any(Option::is_none) {
            return None;
        }
        let [channels, threads, roles, emojis, stickers, members, presences, voice, stages, events, sounds] =
            lists.map(Option::unwrap_or_default);
        let unavailable = d.get("unavailable") == Some(&Value::Bool(true));
        let properties = without(d, &[&CHILD_LISTS[..], &["unavailable"]].concat());
        if unavailable {
            self.mark_unavailable(guild);
            merge(&mut self.p.guilds.get_mut(&guild)?.object, &properties);
            return Some(());
        }
        self.p.guilds.insert(guild, Guild { object: properties, unavailable: false });

        let listed: BTreeSet<u64> = [channels, threads].concat().iter().filter_map(object_id).collect();
        let cached: Vec<u64> = self.channels_of(guild, |_| true);
        for channel in cached {
            if !listed.contains(&channel) {
                self.drop_channel(Some(guild), channel);
            }
        }
        // Rings of channels that were never seen go too; those of listed channels stay.
        self.p.rings.retain(|channel, ring| ring.guild != Some(guild) || listed.contains(channel));
        let gone = &self.p.channels;
        self.p.thread_members.retain(|(thread, _), _| gone.get(thread).and_then(|t| t.guild) != Some(guild));
        self.p.voice_states.retain(|(g, _), _| *g != guild);
        self.p.presences.retain(|(g, _), _| *g != guild);

        for channel in channels.iter().chain(threads).filter_map(Value::as_object) {
            self.put_channel(Some(guild), channel, &[]);
        }
        self.replace_children(Kind::Role, guild, roles);
        self.replace_children(Kind::Emoji, guild, emojis);
        self.replace_children(Kind::Sticker, guild, stickers);
        self.replace_children(Kind::Sound, guild, sounds);
        self.replace_children(Kind::StageInstance, guild, stages);
        self.replace_children(Kind::ScheduledEvent, guild, events);

        // Users of members that are not there any more are let go at the end: what the payload says otherwise of one
        // (in a voice state) is said of a known user.
        let cached: Vec<u64> =
            self.p.members.keys().filter(|(g, _)| *g == guild).map(|(_, user)| *user).collect();
        self.p.members.retain(|(g, _), _| *g != guild);
        for member in members.iter().filter_map(Value::as_object) {
            self.put_member(guild, member, None, Said::Whole);
        }
        for state in voice.iter().filter_map(Value::as_object) {
            let _ = self.put_voice_state(guild, state);
        }
        for presence in presences.iter().filter_map(Value::as_object) {
            self.put_presence(guild, presence);
        }
        for user in cached {
            if !self.p.members.contains_key(&(guild, user)) {
                self.release(user, Reference::Guild(guild));
            }
        }
        Some(())
    }

    fn guild_update(&mut self, d: &Object) -> Option<()> {
        let guild = id(d, "id")?;
        let sets = [("roles", Kind::Role), ("emojis", Kind::Emoji), ("stickers", Kind::Sticker)];
        let sets = sets.map(|(key, kind)| (maybe_list(d, key), kind));
        if sets.iter().any(|(list, _)| list.is_none()) {
            return None;
        }
        let Some(known) = self.p.guilds.get_mut(&guild) else { return Some(()) };
        merge(&mut known.object, &without(d, &[&CHILD_LISTS[..], &ONLY_IN_GUILD_CREATE[..]].concat()));
        for (list, kind) in sets {
            if let Some(list) = list.flatten() {
                self.replace_children(kind, guild, list);
            }
        }
        Some(())
    }

    fn guild_delete(&mut self, d: &Object) -> Option<()> {
        let guild = id(d, "id")?;
        match d.get("unavailable") {
            Some(Value::Bool(true)) => self.mark_unavailable(guild),
            _ => self.drop_guild(guild),
        }
        Some(())
    }

    /// Section 13, first row.
    fn drop_guild(&mut self, guild: u64) {
        for channel in self.channels_of(guild, |_| true) {
            self.drop_channel(Some(guild), channel);
        }
        self.p.rings.retain(|_, ring| ring.guild != Some(guild));
        self.p.children.retain(|_, child| child.guild != guild);
        self.p.presences.retain(|(g, _), _| *g != guild);
        self.p.voice_states.retain(|(g, _), _| *g != guild);
        let users: Vec<u64> = self.p.members.keys().filter(|(g, _)| *g == guild).map(|(_, u)| *u).collect();
        users.into_iter().for_each(|user| self.drop_member(guild, user));
        self.p.guilds.remove(&guild);
    }

    fn channels_of(&self, guild: u64, which: impl Fn(&Channel) -> bool) -> Vec<u64> {
        let of_guild = self.p.channels.iter().filter(|(_, c)| c.guild == Some(guild) && which(c));
        of_guild.map(|(channel, _)| *channel).collect()
    }

    fn replace_set(&mut self, kind: Kind, d: &Object, key: &str) -> Option<()> {
        let (guild, list) = (id(d, "guild_id")?, d.get(key)?.as_array()?);
        self.replace_children(kind, guild, list);
        Some(())
    }

    fn upsert_child(&mut self, kind: Kind, d: &Object, child: &Object, key: &str) -> Option<()> {
        let guild = id(d, "guild_id")?;
        id(child, key)?;
        self.put_child(kind, guild, child);
        Some(())
    }

    fn delete_child(&mut self, kind: Kind, d: &Object, key: &str) -> Option<()> {
        let (guild, child) = (id(d, "guild_id")?, id(d, key)?);
        self.drop_child(kind, guild, child);
        Some(())
    }

    // ---- section 5

    /// The guild that a channel event is about: the named one or the cached channel's. Inner `None`: ignore it.
    #[allow(clippy::option_option)]
    fn place_of(&self, d: &Object, channel: u64) -> Option<Option<Option<u64>>> {
        let named = maybe_id(d, "guild_id")?;
        let cached = self.p.channels.get(&channel).map(|c| c.guild);
        Some(match (named, cached) {
            (Some(guild), _) => Some(Some(guild)),
            (None, Some(guild)) => Some(guild),
            (None, None) => matches!(d.get("type").and_then(Value::as_u64), Some(1 | 3)).then_some(None),
        })
    }

    fn channel_upsert(&mut self, d: &Object) -> Option<()> {
        let channel = id(d, "id")?;
        if let Some(guild) = self.place_of(d, channel)? {
            self.put_channel(guild, d, &["status", "voice_start_time", "member"]);
        }
        Some(())
    }

    fn channel_delete(&mut self, d: &Object) -> Option<()> {
        let channel = id(d, "id")?;
        if let Some(guild) = self.place_of(d, channel)? {
            self.drop_channel(guild, channel);
        }
        Some(())
    }

    /// A cached channel, unless the event names another guild. The outer `None` is a misfit.
    fn cached_channel(&mut self, d: &Object, channel: u64) -> Option<Option<&mut Channel>> {
        let named = maybe_id(d, "guild_id")?;
        let found = self.p.channels.get_mut(&channel);
        Some(found.filter(|c| named.is_none() || c.guild == named))
    }

    fn channel_info(&mut self, d: &Object) -> Option<()> {
        let channels = list(d, "channels")?;
        id(d, "guild_id")?;
        for info in channels.iter().filter_map(Value::as_object) {
            let Some(channel) = id(info, "id") else { continue };
            if let Some(found) = self.cached_channel(d, channel)? {
                let info: Object =
                    info.iter().filter(|(k, _)| EPHEMERAL.contains(&k.as_str())).map(pair).collect();
                merge(&mut found.object, &info);
            }
        }
        Some(())
    }

    fn channel_key(&mut self, d: &Object, id_key: &str, key: &str, value: Option<&Value>) -> Option<()> {
        let channel = id(d, id_key)?;
        if let (Some(found), Some(value)) = (self.cached_channel(d, channel)?, value) {
            found.object.insert(key.to_owned(), value.clone());
        }
        Some(())
    }

    /// The guild, if the thread belongs to one.
    fn thread_upsert(&mut self, d: &Object) -> Option<Option<u64>> {
        let thread = id(d, "id")?;
        let Some(Some(guild)) = self.place_of(d, thread)? else { return Some(None) };
        self.put_channel(Some(guild), d, &["status", "voice_start_time", "member"]);
        Some(Some(guild))
    }

    fn thread_create(&mut self, d: &Object) -> Option<()> {
        let parent = maybe_id(d, "parent_id")?;
        let Some(guild) = self.thread_upsert(d)? else { return Some(()) };
        let Some(parent) = parent.and_then(|parent| self.p.channels.get_mut(&parent)) else {
            return Some(());
        };
        let posts = matches!(parent.object.get("type").and_then(Value::as_u64), Some(15 | 16));
        let new = d.get("newly_created") == Some(&Value::Bool(true));
        if posts && new && parent.guild == Some(guild) {
            parent.object.insert("last_message_id".to_owned(), d["id"].clone());
        }
        Some(())
    }

    fn thread_delete(&mut self, d: &Object) -> Option<()> {
        let thread = id(d, "id")?;
        let guild = maybe_id(d, "guild_id")?;
        match self.p.channels.get(&thread) {
            Some(found) if found.is_thread() && (guild.is_none() || guild == found.guild) => {
                self.drop_thread(thread);
            }
            Some(_) => {}
            None if self
                .p
                .rings
                .get(&thread)
                .is_some_and(|ring| ring.guild.is_some() && ring.guild == guild) =>
            {
                self.p.rings.remove(&thread);
            }
            None => {}
        }
        Some(())
    }

    fn thread_list_sync(&mut self, d: &Object) -> Option<()> {
        let guild = id(d, "guild_id")?;
        let (threads, members) = (list(d, "threads")?, list(d, "members")?);
        let parents: Option<BTreeSet<u64>> =
            maybe_list(d, "channel_ids")?.map(|ids| ids.iter().filter_map(id_of).collect());
        let synced: BTreeSet<u64> = threads.iter().filter_map(object_id).collect();
        let stale = self.channels_of(guild, |c| {
            let under =
                |parents: &BTreeSet<u64>| id(&c.object, "parent_id").is_some_and(|p| parents.contains(&p));
            c.is_thread() && parents.as_ref().is_none_or(under)
        });
        for thread in stale.into_iter().filter(|thread| !synced.contains(thread)) {
            self.drop_thread(thread);
        }
        for thread in threads.iter().filter_map(Value::as_object) {
            self.put_channel(Some(guild), thread, &[]);
        }
        for member in members.iter().filter_map(Value::as_object) {
            self.set_own_thread_member(guild, member);
        }
        Some(())
    }

    fn set_own_thread_member(&mut self, guild: u64, member: &Object) {
        let Some(thread) = id(member, "id").and_then(|thread| self.p.channels.get_mut(&thread)) else {
            return;
        };
        if thread.is_thread() && thread.guild == Some(guild) {
            let member = without(member, &["guild_id", "member", "presence"]);
            thread.object.insert("member".to_owned(), Value::Object(member));
        }
    }

    fn thread_member_update(&mut self, d: &Object) -> Option<()> {
        id(d, "id")?;
        let guild = id(d, "guild_id")?;
        self.set_own_thread_member(guild, d);
        Some(())
    }

    fn thread_members_update(&mut self, d: &Object) -> Option<()> {
        let (thread, guild) = (id(d, "id")?, id(d, "guild_id")?);
        let (added, removed) = (list(d, "added_members")?, list(d, "removed_member_ids")?);
        let known = self.p.channels.get(&thread).is_some_and(|t| t.is_thread() && t.guild == Some(guild));
        if let (true, Some(count)) = (known, d.get("member_count")) {
            self.p.channels.get_mut(&thread)?.object.insert("member_count".to_owned(), count.clone());
        }
        for member in added.iter().filter_map(Value::as_object) {
            let Some(user) = id(member, "user_id") else { continue };
            if known {
                let stored = without(member, &["member", "presence"]);
                self.p.thread_members.insert((thread, user), stored);
            }
            if known && self.p.me == Some(user) {
                let mut own = member.clone();
                own.insert("id".to_owned(), d["id"].clone());
                self.set_own_thread_member(guild, &own);
            }
            if let Some(member) = object(member, "member") {
                self.put_member(guild, member, None, Said::Aside);
            }
        }
        // After all members, so that what a presence says of a user does not depend on the order of the list.
        for presence in added.iter().filter_map(|member| object(member.as_object()?, "presence")) {
            if self.knows(guild) {
                self.put_presence(guild, presence);
            }
        }
        for user in removed.iter().filter_map(id_of) {
            if !known || !self.p.channels.contains_key(&thread) {
                continue;
            }
            self.p.thread_members.remove(&(thread, user));
            if self.p.me == Some(user) {
                let channel = self.p.channels.get_mut(&thread)?;
                channel.object.remove("member");
                if channel.object.get("type") == Some(&json!(12)) {
                    self.drop_thread(thread);
                }
            }
        }
        Some(())
    }

    // ---- section 6

    fn count_members(&mut self, guild: u64, by: i64) {
        if let Some(guild) = self.p.guilds.get_mut(&guild) {
            count(&mut guild.object, "member_count", by);
        }
    }

    fn member_add(&mut self, d: &Object) -> Option<()> {
        let (guild, user) = (id(d, "guild_id")?, id(object(d, "user")?, "id")?);
        if !self.p.members.contains_key(&(guild, user)) {
            self.count_members(guild, 1);
        }
        self.put_member(guild, d, None, Said::Whole);
        Some(())
    }

    fn member_update(&mut self, d: &Object) -> Option<()> {
        let guild = id(d, "guild_id")?;
        id(object(d, "user")?, "id")?;
        self.put_member(guild, d, None, Said::News);
        Some(())
    }

    fn member_remove(&mut self, d: &Object) -> Option<()> {
        let (guild, user) = (id(d, "guild_id")?, id(object(d, "user")?, "id")?);
        self.count_members(guild, -1);
        self.drop_member(guild, user);
        Some(())
    }

    fn members_chunk(&mut self, d: &Object) -> Option<()> {
        let guild = id(d, "guild_id")?;
        let (members, presences) = (list(d, "members")?, list(d, "presences")?);
        for member in members.iter().filter_map(Value::as_object) {
            self.put_member(guild, member, None, Said::Whole);
        }
        let known = self.knows(guild);
        for presence in presences.iter().filter_map(Value::as_object).filter(|_| known) {
            self.put_presence(guild, presence);
        }
        Some(())
    }

    fn role_delete(&mut self, d: &Object) -> Option<()> {
        let (guild, role) = (id(d, "guild_id")?, id(d, "role_id")?);
        self.drop_child(Kind::Role, guild, role);
        let members = self.p.members.iter_mut().filter(|((g, _), _)| *g == guild).map(|(_, member)| member);
        let emojis =
            self.p.children.iter_mut().filter(|((kind, _), e)| *kind == Kind::Emoji && e.guild == guild);
        for object in members.chain(emojis.map(|(_, emoji)| &mut emoji.object)) {
            if let Some(Value::Array(roles)) = object.get_mut("roles") {
                roles.retain(|r| id_of(r) != Some(role));
            }
        }
        Some(())
    }

    fn presence_update(&mut self, d: &Object) -> Option<()> {
        let guild = maybe_id(d, "guild_id")?;
        id(object(d, "user")?, "id")?;
        if let Some(guild) = guild.filter(|guild| self.knows(*guild)) {
            self.put_presence(guild, d);
        }
        Some(())
    }

    fn typing_start(&mut self, d: &Object) -> Option<()> {
        if let (Some(guild), Some(member)) = (maybe_id(d, "guild_id")?, object(d, "member")) {
            self.put_member(guild, member, None, Said::Aside);
        }
        Some(())
    }

    // ---- section 9

    fn event_users(&mut self, d: &Object, by: i64) -> Option<()> {
        let (guild, event) = (id(d, "guild_id")?, id(d, "guild_scheduled_event_id")?);
        let found = self.p.children.get_mut(&(Kind::ScheduledEvent, event));
        if let Some(event) = found.filter(|event| event.guild == guild) {
            count(&mut event.object, "user_count", by);
        }
        Some(())
    }

    // ---- section 11

    fn interaction(&mut self, d: &Object) -> Option<()> {
        let guild = maybe_id(d, "guild_id")?;
        if let (Some(guild), Some(member)) = (guild, object(d, "member")) {
            self.put_member(guild, &without(member, &["permissions"]), None, Said::Aside);
        }
        if let Some(user) = object(d, "user") {
            self.put_user(user);
        }
        let resolved = object(d, "data").and_then(|data| object(data, "resolved"));
        let each = |key: &str| resolved.and_then(|r| object(r, key)).into_iter().flatten();
        for user in each("users").filter_map(|(_, user)| user.as_object()) {
            self.put_user(user);
        }
        if self.options.members_are_told {
            return Some(());
        }
        for (user, member) in each("members") {
            let user = id_of(&Value::String(user.clone()));
            let (Some(guild), Some(user), Some(member)) = (guild, user, member.as_object()) else { continue };
            if let Some(known) = self.p.members.get_mut(&(guild, user)) {
                merge(known, &without(member, &["permissions", "user", "guild_id"]));
            }
        }
        Some(())
    }
}

fn object_id(value: &Value) -> Option<u64> {
    value.as_object().and_then(|object| id(object, "id"))
}

fn pair((key, value): (&String, &Value)) -> (String, Value) {
    (key.clone(), value.clone())
}
