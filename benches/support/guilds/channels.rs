//! Channels of a guild and its threads.

use super::names;
use super::objects::{Member, PERMISSIONS};
use super::text::*;

pub const TEXT: u64 = 0;
pub const VOICE: u64 = 2;
pub const CATEGORY: u64 = 4;
pub const NEWS: u64 = 5;
pub const STAGE: u64 = 13;
pub const FORUM: u64 = 15;

#[derive(Clone)]
pub struct Channel {
    pub id: u64,
    pub kind: u64,
    pub name: String,
    pub topic: Option<String>,
    pub position: u64,
    pub last_message: Option<u64>,
    pub version: u64,
    pub slowmode: u64,
    parent: Option<u64>,
    last_pin: Option<u64>,
    nsfw: bool,
    user_limit: u64,
    region: Option<&'static str>,
    bitrate: u64,
    /// Whether it is of a member, whose, what it allows and what it denies.
    overwrites: Vec<(bool, u64, u64, u64)>,
}

impl Channel {
    /// Every ninth is a category, in which the next ones are.
    pub fn new(
        rng: &mut Rng,
        guild: u64,
        position: u64,
        parent: Option<u64>,
        roles: &[u64],
        members: &[Member],
    ) -> Self {
        let kind = match (position % 9, rng.below(100)) {
            (0, _) => CATEGORY,
            (_, 0..66) => TEXT,
            (_, 66..92) => VOICE,
            (_, 92..95) => NEWS,
            (_, 95..96) => STAGE,
            _ => FORUM,
        };
        let made = id_ms(guild);
        let channel = rng.id_between(made, NOW);
        let last_message = rng.chance(90).then(|| rng.id_between(id_ms(channel).max(NOW - 200 * DAY), NOW));
        let mut overwrites = Vec::new();
        if rng.chance(60) {
            overwrites.push((false, guild, 0, rng.pick(&[1024, 2048, 1_049_600, 274_877_908_992])));
            for _ in 0..rng.pick(&[0, 1, 1, 2, 2, 3, 4, 7]) {
                if !members.is_empty() && rng.chance(8) {
                    overwrites.push((true, members[rng.below(members.len())].user.id, 3072, 0));
                } else if roles.len() > 1 {
                    let role = roles[1 + rng.below(roles.len() - 1)];
                    if !overwrites.iter().any(|it| it.1 == role) {
                        overwrites.push((false, role, rng.pick(PERMISSIONS), rng.pick(&[0, 0, 2048, 1024])));
                    }
                }
            }
        }
        Self {
            id: channel,
            kind,
            name: names::channel(rng, kind),
            topic: rng.chance(45).then(|| {
                let count = rng.pick(&[2, 5, 9, 16, 40]);
                names::words(rng, count)
            }),
            position,
            last_message,
            version: rng.range(NOW - 900 * DAY, NOW),
            slowmode: rng.pick(&[0, 0, 0, 0, 0, 0, 0, 5, 10]),
            parent: parent.filter(|_| kind != CATEGORY),
            last_pin: last_message.filter(|_| rng.chance(40)).map(id_ms),
            nsfw: rng.chance(3),
            user_limit: rng.pick(&[0, 0, 0, 2, 5, 10, 25]),
            region: rng.pick(&[None, None, None, Some("rotterdam"), Some("us-east")]),
            bitrate: rng.pick(&[64_000, 64_000, 96_000, 128_000, 384_000]),
            overwrites,
        }
    }

    pub fn is_text(&self) -> bool {
        matches!(self.kind, TEXT | NEWS)
    }

    /// `guild` in CHANNEL_UPDATE only.
    pub fn write(&self, out: &mut String, guild: Option<u64>) {
        let forum = self.kind == FORUM;
        let spoken = matches!(self.kind, VOICE | STAGE);
        let category = self.kind == CATEGORY;
        braces(out, |out| {
            raw(out, "version", self.version);
            if spoken {
                raw(out, "user_limit", self.user_limit);
            }
            raw(out, "type", self.kind);
            if !spoken && !category {
                text_or_null(out, "topic", self.topic.as_deref());
            }
            if forum {
                text(out, "template", "");
            }
            if spoken {
                text_or_null(out, "rtc_region", self.region);
            }
            if !category {
                raw(out, "rate_limit_per_user", if spoken { 0 } else { self.slowmode });
            }
            raw(out, "position", self.position);
            list(out, "permission_overwrites", &self.overwrites, |out, &(of_member, whose, allow, deny)| {
                braces(out, |out| {
                    raw(out, "type", u8::from(of_member));
                    id(out, "id", whose);
                    id(out, "deny", deny);
                    id(out, "allow", allow);
                });
            });
            if !category {
                id_or_null(out, "parent_id", self.parent);
                raw(out, "nsfw", self.nsfw);
            }
            text(out, "name", &self.name);
            if self.is_text() {
                text_or_null(out, "last_pin_timestamp", self.last_pin.map(|ms| iso(ms, 0)).as_deref());
            }
            if !category {
                id_or_null(out, "last_message_id", self.last_message.filter(|_| !spoken));
            }
            id(out, "id", self.id);
            if let Some(guild) = guild {
                id(out, "guild_id", guild);
            }
            raw(out, "flags", 0);
            if forum {
                self.forum(out);
            }
            if spoken {
                raw(out, "bitrate", self.bitrate);
            }
        });
    }

    fn forum(&self, out: &mut String) {
        raw(out, "default_thread_rate_limit_per_user", 0);
        raw(out, "default_sort_order", "null");
        object(out, "default_reaction_emoji", |out| {
            text(out, "emoji_name", "👍");
            raw(out, "emoji_id", "null");
        });
        raw(out, "default_forum_layout", 0);
        let tags =
            [("solved ✅", false, Some("✅")), ("help wanted", true, None), ("bug", false, Some("🐛"))];
        list(out, "available_tags", tags.iter().zip(1..), |out, (&(name, moderated, emoji), offset)| {
            braces(out, |out| {
                text(out, "name", name);
                raw(out, "moderated", moderated);
                id(out, "id", self.id + offset);
                text_or_null(out, "emoji_name", emoji);
                raw(out, "emoji_id", "null");
            });
        });
    }
}

pub struct Thread {
    pub guild: u64,
    pub id: u64,
    pub parent: u64,
    pub in_forum: bool,
    pub owner: u64,
    pub name: String,
}

impl Thread {
    pub fn new(rng: &mut Rng, guild: u64, parent: &Channel, owner: u64, ms: u64) -> Self {
        let count = rng.range(1, 8);
        let mut name = names::words(rng, count);
        if rng.chance(20) {
            name.push('?');
        }
        let in_forum = parent.kind == FORUM;
        Self { guild, id: rng.id(ms), parent: parent.id, in_forum, owner, name }
    }

    /// With so many messages, and for a few the bot's own membership; a new one has none.
    pub fn write(&self, out: &mut String, messages: Option<u64>, joined: bool) {
        let made = iso(id_ms(self.id), 0);
        braces(out, |out| {
            raw(out, "type", 11);
            raw(out, "total_message_sent", messages.unwrap_or(0) + 1);
            object(out, "thread_metadata", |out| {
                raw(out, "locked", false);
                text(out, "create_timestamp", &made);
                raw(out, "auto_archive_duration", 4320);
                raw(out, "archived", false);
                text(out, "archive_timestamp", &made);
            });
            raw(out, "rate_limit_per_user", 0);
            id(out, "parent_id", self.parent);
            id(out, "owner_id", self.owner);
            if messages.is_none() {
                raw(out, "newly_created", true);
            }
            text(out, "name", &self.name);
            raw(out, "message_count", messages.unwrap_or(0));
            raw(out, "member_count", 1 + messages.unwrap_or(0).min(98) / 2);
            if joined {
                object(out, "member", |out| {
                    text(out, "join_timestamp", &made);
                    raw(out, "flags", 1);
                });
            }
            id_or_null(out, "last_message_id", messages.map(|_| self.id + (900 << 22)));
            id(out, "id", self.id);
            id(out, "guild_id", self.guild);
            raw(out, "flags", 0);
            if self.in_forum {
                ids(out, "applied_tags", &[self.parent + 1]);
            }
        });
    }
}
