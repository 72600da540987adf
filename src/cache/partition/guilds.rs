//! Guilds: READY, GUILD_CREATE, GUILD_UPDATE, GUILD_DELETE and the cascade of a guild that goes.

use crate::cache::encoding::{Pick, Value};

use super::Step;
use super::events::{id, is_true, maybe_list, object, objects};
use super::keys::{self, GuildHead, id_key};
use super::members::Said;
use super::rows::{At, Stored};
use super::users::Merge;

/// What an update never changes of a guild's object: first the fields that are kept apart.
const NOT_IN_UPDATE: [&str; 15] = [
    "channels",
    "threads",
    "roles",
    "emojis",
    "stickers",
    "members",
    "presences",
    "voice_states",
    "stage_instances",
    "guild_scheduled_events",
    "soundboard_sounds",
    "unavailable",
    "joined_at",
    "large",
    "member_count",
];

/// Lists that have rows of their own, and `unavailable`, which stands in the head.
fn apart() -> Pick<'static> {
    Pick::Without(&NOT_IN_UPDATE[..12])
}

/// Rows of what a guild owns by id.
const CHILDREN: [u8; 7] =
    [keys::ROLE, keys::EMOJI, keys::STICKER, keys::SOUND, keys::STAGE, keys::EVENT, keys::INTEGRATION];

impl Step<'_> {
    /// The start of a new session: every guild is a stub until its GUILD_CREATE, those not listed are gone.
    pub(super) fn ready(&mut self, d: Value<'_>) -> Option<()> {
        let user = object(d, "user")?;
        let me = id(user, "id")?;
        let guilds = d.get("guilds").filter(|guilds| guilds.is_array())?;
        let listed = self.listed(objects(Some(guilds)), "id");
        self.each_id(keys::GUILD, 0, |step, guild| {
            if listed.binary_search(&guild).is_err() {
                step.drop_guild(guild);
            }
        });
        for guild in &listed {
            self.mark_unavailable(*guild);
        }
        self.tools.ids = listed;
        // Nobody will say what was edited and deleted in the meantime.
        self.drop_rings();
        self.p.me = Some(me);
        if self.p.own_reference != Some(me) {
            let before = self.p.own_reference.take();
            if self.refer(me) != Stored::Refused {
                self.p.own_reference = Some(me);
            }
            if let Some(before) = before {
                self.release(before);
            }
        }
        self.put_user(user, Merge::Full);
        self.common.set_current_user(me, user, self.tools);
        Some(())
    }

    /// Flags a guild, as a stub if it is new.
    fn mark_unavailable(&mut self, guild: u64) {
        self.guild = Some(guild);
        match self.p.guild(guild) {
            Some(head) => self.set_unavailable(guild, head, true),
            None => {
                let mut parser = self.tools.lend_parser();
                let text = format!("{{\"id\":\"{guild}\"}}");
                // This is JSON.
                let _ = parser.read(text.as_bytes(), |stub| self.new_guild(guild, true, stub));
                self.tools.parser = Some(parser);
            }
        }
    }

    /// Changes the flag of a guild's head, which has a fixed place in it.
    fn set_unavailable(&mut self, guild: u64, head: GuildHead, unavailable: bool) {
        if head.unavailable != unavailable {
            self.rewrite_head(guild, GuildHead { unavailable, ..head });
        }
    }

    /// Gives a guild's row another head.
    fn rewrite_head(&mut self, guild: u64, head: GuildHead) {
        let key = id_key(keys::GUILD, guild);
        let mut value = std::mem::take(&mut self.tools.value);
        value.clear();
        head.put(&mut value);
        let Some(old) = self.p.tree.get(key, &mut self.tools.old) else { return };
        let mut rest = old;
        let before = GuildHead::take(&mut rest);
        value.extend_from_slice(rest);
        match self.put(key, &value) {
            Stored::Replaced => self.p.counts.flag_unavailable(before.unavailable, head.unavailable),
            Stored::Refused => self.drop_guild(guild),
            // It went while room was made.
            Stored::New => drop(self.erase(key)),
        }
        self.tools.value = value;
    }

    /// Makes a guild.
    fn new_guild(&mut self, guild: u64, unavailable: bool, object: Value<'_>) -> Option<GuildHead> {
        let head = GuildHead { number: self.p.next_number(), people: self.p.next_number(), unavailable };
        let of = self.put(id_key(keys::GUILD_OF, head.number), &guild.to_le_bytes());
        if of == Stored::Refused {
            return None;
        }
        let at = At::new(keys::GUILD, 0, guild, 0);
        if self.put_object(at, |out| head.put(out), object, apart(), &[]) == Stored::Refused {
            self.erase(id_key(keys::GUILD_OF, head.number));
            return None;
        }
        self.p.counts.flag_unavailable(false, unavailable);
        Some(head)
    }

    pub(super) fn guild_create(&mut self, d: Value<'_>) -> Option<()> {
        let guild = id(d, "id")?;
        let channels = maybe_list(d, "channels")?;
        let threads = maybe_list(d, "threads")?;
        let members = maybe_list(d, "members")?;
        let presences = maybe_list(d, "presences")?;
        let voice_states = maybe_list(d, "voice_states")?;
        let lists = [
            (keys::ROLE, maybe_list(d, "roles")?),
            (keys::EMOJI, maybe_list(d, "emojis")?),
            (keys::STICKER, maybe_list(d, "stickers")?),
            (keys::SOUND, maybe_list(d, "soundboard_sounds")?),
            (keys::STAGE, maybe_list(d, "stage_instances")?),
            (keys::EVENT, maybe_list(d, "guild_scheduled_events")?),
        ];
        self.guild = Some(guild);
        if is_true(d, "unavailable") {
            self.mark_unavailable(guild);
            self.merge(At::new(keys::GUILD, 0, guild, 0), d, apart());
            return Some(());
        }
        // Without room for a guild there is none for what is in it.
        let Some(head) = self.replace_guild(guild, d) else { return Some(()) };
        self.replace_channels(guild, head, channels, threads);
        for (row, list) in lists {
            self.replace_children(row, guild, list);
        }
        objects(members).for_each(|member| self.put_member(guild, member, None, Said::Whole, &[]));
        for state in objects(voice_states) {
            let _ = self.put_voice_state(guild, state);
        }
        objects(presences).for_each(|presence| self.put_presence(guild, presence));
        Some(())
    }

    /// Puts a guild's object in place of the old one and gives the guild new people: the old ones are doomed.
    fn replace_guild(&mut self, guild: u64, d: Value<'_>) -> Option<GuildHead> {
        let Some(old) = self.p.guild(guild) else { return self.new_guild(guild, false, d) };
        let head = GuildHead { number: old.number, people: self.p.next_number(), unavailable: false };
        self.drop_voice_states(old.number);
        let at = At::new(keys::GUILD, 0, guild, 0);
        if self.put_object(at, |out| head.put(out), d, apart(), &[]) != Stored::Replaced {
            self.drop_guild(guild);
            return None;
        }
        self.p.counts.flag_unavailable(old.unavailable, false);
        self.doom_people(old.people);
        Some(head)
    }

    pub(super) fn guild_update(&mut self, d: Value<'_>) -> Option<()> {
        let guild = id(d, "id")?;
        let lists = [
            (keys::ROLE, maybe_list(d, "roles")?),
            (keys::EMOJI, maybe_list(d, "emojis")?),
            (keys::STICKER, maybe_list(d, "stickers")?),
        ];
        self.guild = Some(guild);
        if !self.p.knows(guild) {
            return Some(());
        }
        self.merge(At::new(keys::GUILD, 0, guild, 0), d, Pick::Without(&NOT_IN_UPDATE));
        for (row, list) in lists {
            if list.is_some() {
                self.replace_children(row, guild, list);
            }
        }
        Some(())
    }

    pub(super) fn guild_delete(&mut self, d: Value<'_>) -> Option<()> {
        let guild = id(d, "id")?;
        if is_true(d, "unavailable") {
            self.mark_unavailable(guild);
        } else {
            self.drop_guild(guild);
        }
        Some(())
    }

    /// The first row of section 13 of events.md.
    pub(super) fn drop_guild(&mut self, guild: u64) {
        let Some(head) = self.p.guild(guild) else { return };
        self.drop_channels(guild, head.number);
        for row in CHILDREN {
            self.drop_children(row, head.number);
        }
        self.drop_voice_states(head.number);
        self.doom_people(head.people);
        self.p.counts.flag_unavailable(head.unavailable, false);
        self.erase(id_key(keys::GUILD_OF, head.number));
        self.erase(id_key(keys::GUILD, guild));
    }

    /// Adds to a guild's own count of members, if it has one.
    pub(super) fn count_members(&mut self, guild: u64, by: i64) {
        self.count(At::new(keys::GUILD, 0, guild, 0), &[("member_count", by)]);
    }
}
