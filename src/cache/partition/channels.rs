//! Guild channels and private ones.

use crate::cache::encoding::{Pick, Value};
use crate::cache::kind::Kind;

use super::Step;
use super::events::{id, is_true, maybe_id, maybe_list, object, objects};
use super::keys::{self, GuildHead, id_key, key};
use super::rows::{At, Stored};
use super::users::Merge;

/// Fields of a channel that its events never carry.
pub(super) const EPHEMERAL: [&str; 2] = ["status", "voice_start_time"];
/// What is kept when a channel is replaced by an event of its own.
pub(super) const KEPT: [&str; 3] = ["status", "voice_start_time", "member"];

/// Where a channel is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Private,
    Guild { guild: u64, number: u64, thread: bool },
}

impl Place {
    pub fn guild(self) -> Option<u64> {
        match self {
            Place::Private => None,
            Place::Guild { guild, .. } => Some(guild),
        }
    }

    pub fn is_thread(self) -> bool {
        matches!(self, Place::Guild { thread: true, .. })
    }

    /// Where the object of this channel is kept.
    pub fn at(self, channel: u64) -> At {
        match self {
            Place::Private => At::new(keys::PRIVATE, 0, channel, 0),
            Place::Guild { guild, number, thread } => {
                At::new(if thread { keys::THREAD } else { keys::CHANNEL }, number, channel, guild)
            }
        }
    }
}

/// Types 10, 11 and 12 are threads.
fn is_thread_type(d: Value<'_>) -> bool {
    matches!(d.get("type").and_then(Value::as_u64), Some(10..=12))
}

impl Step<'_> {
    /// Puts a channel, thread or private channel in place of the one with the same id, with `kept` fields of the old.
    pub(super) fn put_channel(&mut self, guild: Option<u64>, d: Value<'_>, kept: &[&str]) {
        let Some(channel) = id(d, "id") else { return };
        let new = match guild {
            None => Place::Private,
            Some(guild) => {
                let Some(head) = self.p.guild(guild) else { return };
                Place::Guild { guild, number: head.number, thread: is_thread_type(d) }
            }
        };
        let mut kept = kept;
        match self.p.place(channel) {
            Some(old) if old.guild() != guild => {
                self.drop_channel(old.guild(), channel);
                kept = &[];
            }
            Some(old) if old != new => {
                self.drop_thread(channel);
                kept = &[];
            }
            _ => {}
        }
        self.drop_ring_of_others(channel, guild);
        let archived = object(d, "thread_metadata").is_some_and(|metadata| is_true(metadata, "archived"));
        let kind = match new {
            Place::Private => Kind::PrivateChannel,
            Place::Guild { thread: true, .. } => Kind::Thread,
            Place::Guild { .. } => Kind::Channel,
        };
        if new.is_thread() && archived {
            self.drop_thread(channel);
        } else if self.holds(kind) {
            self.store_channel(new, channel, d, kept);
        }
    }

    fn store_channel(&mut self, place: Place, channel: u64, d: Value<'_>, kept: &[&str]) {
        let at = place.at(channel);
        self.channel = Some(channel);
        let before = if place == Place::Private { self.recipients(channel) } else { Vec::new() };
        let parent = if place.is_thread() { self.id_of(at, "parent_id") } else { None };
        let stored = self.put_object(at, |_| {}, d, Pick::Without(&["guild_id", "newly_created"]), kept);
        if stored == Stored::Refused {
            return self.drop_thread(channel);
        }
        match place {
            Place::Private => {
                if stored == Stored::New {
                    self.common.directory.add(keys::CHANNEL_AT, channel, self.p.index);
                }
                self.refer_to_recipients(channel, d, &before);
            }
            Place::Guild { number, thread, .. } => {
                if stored == Stored::New {
                    self.put_place(keys::CHANNEL_AT, channel, number << 1 | u64::from(thread), at);
                }
                let now = if thread { self.id_of(at, "parent_id") } else { None };
                if now != parent {
                    if let Some(parent) = parent {
                        self.erase(key(keys::THREAD_OF, parent, channel));
                    }
                    if let Some(now) = now
                        && self.put(key(keys::THREAD_OF, now, channel), &[]) == Stored::Refused
                    {
                        self.drop_thread(channel);
                    }
                }
            }
        }
    }

    /// The users that a private channel refers to, each once and in order.
    fn recipients(&self, channel: u64) -> Vec<u64> {
        let at = Place::Private.at(channel);
        let read = self.p.field_of(self.common, at, "recipients", |field| {
            let ids = field.elements().filter_map(|user| user.get("id").ok()??.as_id());
            let mut ids: Vec<u64> = ids.collect();
            ids.sort_unstable();
            ids.dedup();
            ids
        });
        read.unwrap_or_default()
    }

    /// Refers to the users that a private channel has now and releases those `before`, which are in order.
    pub(super) fn refer_to_recipients(&mut self, channel: u64, d: Value<'_>, before: &[u64]) {
        let after = self.recipients(channel);
        let new = || after.iter().filter(|user| before.binary_search(user).is_err());
        let taken = new().take_while(|user| self.refer(**user) != Stored::Refused).count();
        let refused = taken < new().count();
        if refused {
            self.common.totals.refuse(Kind::PrivateChannel);
            // Without all its recipients the channel goes, with the references that it had.
            self.erase(id_key(keys::PRIVATE, channel));
            self.common.directory.remove(keys::CHANNEL_AT, channel, self.p.index);
            new().take(taken).for_each(|user| self.release(*user));
        }
        for user in before.iter().filter(|user| refused || after.binary_search(user).is_err()) {
            self.release(*user);
        }
        if refused {
            return;
        }
        let users = d.get("recipients").filter(|users| users.is_array());
        objects(users).for_each(|user| self.put_user(user, Merge::Full));
    }

    /// CHANNEL_DELETE's cascade, within one guild or the private channels.
    pub(super) fn drop_channel(&mut self, guild: Option<u64>, channel: u64) {
        let head = guild.map(|guild| self.p.guild(guild));
        if head == Some(None) {
            return;
        }
        let number = head.flatten().map(|head| head.number);
        self.each_id(keys::THREAD_OF, channel, |step, thread| {
            let place = step.p.place(thread);
            if thread != channel && place.is_some_and(|place| place.guild() == guild) {
                step.drop_thread(thread);
            }
        });
        if self.p.ring(channel).is_some_and(|ring| ring.number == number) {
            self.drop_ring(channel);
        }
        if let (Some(guild), Some(number)) = (guild, number) {
            self.drop_voice_states_in(channel, number);
            self.drop_placed(keys::STAGE, guild, number, channel);
            self.drop_placed(keys::EVENT, guild, number, channel);
        }
        if self.p.place(channel).is_some_and(|place| place.guild() == guild) {
            self.drop_thread(channel);
        }
    }

    /// Drops what of a guild is in a channel.
    fn drop_placed(&mut self, row: u8, guild: u64, number: u64, channel: u64) {
        self.each_id(row, number, |step, child| {
            if step.id_of(At::new(row, number, child, guild), "channel_id") == Some(channel) {
                step.forget_child(row, number, child);
            }
        });
    }

    /// A channel of any sort with its messages, and no more.
    pub(super) fn drop_thread(&mut self, channel: u64) {
        self.drop_ring(channel);
        match self.p.place(channel) {
            None => {}
            Some(Place::Private) => {
                let recipients = self.recipients(channel);
                self.erase(id_key(keys::PRIVATE, channel));
                self.common.directory.remove(keys::CHANNEL_AT, channel, self.p.index);
                recipients.into_iter().for_each(|user| self.release(user));
            }
            Some(place) => {
                let at = place.at(channel);
                if place.is_thread()
                    && let Some(parent) = self.id_of(at, "parent_id")
                {
                    self.erase(key(keys::THREAD_OF, parent, channel));
                }
                self.erase(at.key);
                self.erase(id_key(keys::CHANNEL_AT, channel));
                self.common.directory.remove(keys::CHANNEL_AT, channel, self.p.index);
            }
        }
    }

    /// GUILD_CREATE's lists in place of what there is: messages of channels that stay are kept.
    pub(super) fn replace_channels(
        &mut self,
        guild: u64,
        head: GuildHead,
        channels: Option<Value<'_>>,
        threads: Option<Value<'_>>,
    ) {
        let both = || objects(channels).chain(objects(threads));
        let listed = self.listed(both(), "id");
        // Rings of channels that were never seen go, too.
        for row in [keys::CHANNEL, keys::THREAD, keys::RING_OF] {
            self.each_id(row, head.number, |step, channel| {
                if listed.binary_search(&channel).is_ok() {
                    return;
                }
                if row == keys::RING_OF {
                    step.drop_ring(channel);
                } else {
                    step.drop_channel(Some(guild), channel);
                }
            });
        }
        self.tools.ids = listed;
        both().for_each(|channel| self.put_channel(Some(guild), channel, &[]));
    }

    /// All channels of a guild that goes.
    pub(super) fn drop_channels(&mut self, guild: u64, number: u64) {
        for row in [keys::CHANNEL, keys::THREAD, keys::RING_OF] {
            self.each_id(row, number, |step, channel| {
                if row == keys::RING_OF {
                    step.drop_ring(channel);
                } else {
                    step.drop_channel(Some(guild), channel);
                }
            });
        }
    }

    // ---- events

    /// The guild that a channel event is about: the named one or the cached channel's. Inner `None`: ignore it.
    #[allow(clippy::option_option)] // A misfit, nothing to do, a private channel, a guild.
    pub(super) fn place_of(&self, d: Value<'_>, channel: u64) -> Option<Option<Option<u64>>> {
        let named = maybe_id(d, "guild_id")?;
        Some(match (named, self.p.place(channel)) {
            (Some(guild), _) => Some(Some(guild)),
            (None, Some(place)) => Some(place.guild()),
            (None, None) => matches!(d.get("type").and_then(Value::as_u64), Some(1 | 3)).then_some(None),
        })
    }

    pub(super) fn channel_upsert(&mut self, d: Value<'_>) -> Option<()> {
        let channel = id(d, "id")?;
        if let Some(guild) = self.place_of(d, channel)? {
            self.guild = guild;
            self.put_channel(guild, d, &KEPT);
        }
        Some(())
    }

    pub(super) fn channel_delete(&mut self, d: Value<'_>) -> Option<()> {
        let channel = id(d, "id")?;
        if let Some(guild) = self.place_of(d, channel)? {
            self.guild = guild;
            self.drop_channel(guild, channel);
        }
        Some(())
    }

    /// A cached channel, unless the event names another guild. The outer `None` is a misfit.
    #[allow(clippy::option_option)]
    fn cached_channel(&self, d: Value<'_>, channel: u64) -> Option<Option<At>> {
        let named = maybe_id(d, "guild_id")?;
        let place = self.p.place(channel);
        let place = place.filter(|place| named.is_none() || place.guild() == named);
        Some(place.map(|place| place.at(channel)))
    }

    pub(super) fn channel_info(&mut self, d: Value<'_>) -> Option<()> {
        let channels = maybe_list(d, "channels")?;
        self.guild = Some(id(d, "guild_id")?);
        for info in objects(channels) {
            if let Some(channel) = id(info, "id")
                && let Some(at) = self.cached_channel(d, channel)?
            {
                self.merge(at, info, Pick::Only(&EPHEMERAL));
            }
        }
        Some(())
    }

    /// Sets fields of the channel that an event names under `name`; with `clears` an absent one is null.
    pub(super) fn channel_fields(
        &mut self,
        d: Value<'_>,
        name: &str,
        fields: &[&str; 1],
        clears: bool,
    ) -> Option<()> {
        let channel = id(d, name)?;
        let Some(at) = self.cached_channel(d, channel)? else { return Some(()) };
        if clears && d.get(fields[0]).is_none() {
            let text = format!("{{\"{}\":null}}", fields[0]);
            self.merge_text(at, text.as_bytes());
        } else {
            self.merge(at, d, Pick::Only(fields));
        }
        Some(())
    }
}
