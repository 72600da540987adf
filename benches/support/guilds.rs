//! Guilds like those Discord sends, and what happens in them, by seed: the same on every machine. Plain std, so that
//! the programs in `benches/peers` make the same data from the same file.
//!
//! Everything has random numbers of its own (seed, guild, kind, index): a guild with more members has the same first
//! members, channels and roles as one with fewer. Guilds share no users.

#[path = "guilds/channels.rs"]
mod channels;
#[path = "guilds/events.rs"]
mod events;
#[path = "guilds/messages.rs"]
mod messages;
#[path = "guilds/names.rs"]
mod names;
#[path = "guilds/objects.rs"]
mod objects;
#[path = "guilds/presence.rs"]
mod presence;
#[path = "guilds/text.rs"]
mod text;

use channels::{CATEGORY, Channel, FORUM, Thread};
// Not every program needs the events.
#[allow(unused_imports)]
pub use events::{MIX, Stream};
use objects::{Emoji, Member, Role, Voice};
use text::*;

/// How many there are of each. Presences are of the first members and never more than these; threads and voice states
/// need a channel (and a member) to be in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    pub members: usize,
    pub presences: usize,
    pub channels: usize,
    pub threads: usize,
    pub roles: usize,
    pub emojis: usize,
    pub stickers: usize,
    pub voice_states: usize,
}

impl Sizes {
    /// No lists at all.
    pub const NONE: Self = Self {
        members: 0,
        presences: 0,
        channels: 0,
        threads: 0,
        roles: 0,
        emojis: 0,
        stickers: 0,
        voice_states: 0,
    };

    /// A guess at an ordinary community of so many members, of whom a third are online.
    pub const fn of(members: usize) -> Self {
        Self {
            members,
            presences: members / 3,
            channels: 40,
            threads: 6,
            roles: 25,
            emojis: 40,
            stickers: 5,
            voice_states: members / 100,
        }
    }
}

/// Kinds of things, each with its own numbers.
mod kind {
    pub const GUILD: u64 = 1;
    pub const MEMBER: u64 = 2;
    pub const PRESENCE: u64 = 3;
    pub const CHANNEL: u64 = 4;
    pub const THREAD: u64 = 5;
    pub const ROLE: u64 = 6;
    pub const EMOJI: u64 = 7;
    pub const STICKER: u64 = 8;
    pub const VOICE: u64 = 9;
    pub const EVENTS: u64 = 10;
}

pub struct Guild {
    pub id: u64,
    pub sizes: Sizes,
    seed: u64,
    number: u64,
    made: u64,
    members: Vec<Member>,
    channels: Vec<Channel>,
    roles: Vec<Role>,
    emojis: Vec<Emoji>,
}

impl Guild {
    /// The guild of that number; all numbers of a seed are different guilds.
    pub fn new(seed: u64, number: u64, sizes: Sizes) -> Self {
        let rng = |kind, index: usize| Rng::of(seed, number, kind, index as u64);
        let mut own = rng(kind::GUILD, 0);
        let made = NOW - own.range(200, 3500) * DAY;
        let id = own.id(made);
        let role = |at| {
            let mut rng = rng(kind::ROLE, at);
            let role = if at == 0 { id } else { rng.id_between(made, NOW) };
            Role::new(&mut rng, role, at as u64)
        };
        let roles: Vec<Role> = (0..sizes.roles).map(role).collect();
        let role_ids: Vec<u64> = roles.iter().map(|role| role.id).collect();
        let mut members: Vec<Member> =
            (0..sizes.members).map(|at| Member::new(&mut rng(kind::MEMBER, at), made, &role_ids)).collect();
        let (mut channels, mut category) = (Vec::<Channel>::new(), None);
        for at in 0..sizes.channels {
            let mut rng = rng(kind::CHANNEL, at);
            let channel = Channel::new(&mut rng, id, at as u64, category, &role_ids, &members);
            if channel.kind == CATEGORY {
                category = Some(channel.id);
            }
            channels.push(channel);
        }
        let spoken: Vec<u64> =
            channels.iter().filter(|it| it.kind == channels::VOICE).map(|it| it.id).collect();
        if !spoken.is_empty() {
            for (at, member) in members.iter_mut().take(sizes.voice_states).enumerate() {
                let mut rng = rng(kind::VOICE, at);
                let channel = rng.pick(&spoken);
                member.voice = Some(Voice::new(&mut rng, channel));
            }
        }
        let emojis = (0..sizes.emojis).map(|at| Emoji::new(&mut rng(kind::EMOJI, at), made)).collect();
        Self { id, sizes, seed, number, made, members, channels, roles, emojis }
    }

    fn rng(&self, kind: u64, index: usize) -> Rng {
        Rng::of(self.seed, self.number, kind, index as u64)
    }

    /// `d` of its GUILD_CREATE. The order of these keys looks scattered because Discord's is.
    pub fn create(&self) -> String {
        let mut rng = self.rng(kind::GUILD, 1);
        let named = names::guild(&mut rng);
        let joined = rng.range(self.made, NOW);
        let texts: Vec<u64> = self.channels.iter().filter(|it| it.is_text()).map(|it| it.id).collect();
        let first = texts.first().copied();
        let community = first.filter(|_| rng.chance(50));
        let boosts = rng.skewed(40);
        let mut out = String::with_capacity(4096 + 600 * self.members.len());
        let out = &mut out;
        out.push('{');
        id_or_null(out, "rules_channel_id", community);
        raw(out, "explicit_content_filter", if community.is_some() { 2 } else { 0 });
        raw(out, "lazy", true);
        raw(out, "default_message_notifications", rng.range(0, 1));
        id(out, "id", self.id);
        let description = community.map(|_| names::words(&mut rng, 12));
        text_or_null(out, "description", description.as_deref());
        raw(out, "hub_type", "null");
        raw(out, "system_channel_flags", rng.pick(&[0, 0, 5, 13]));
        raw(out, "afk_channel_id", "null");
        list(out, "channels", &self.channels, |out, it| it.write(out, None));
        raw(out, "max_video_channel_users", 25);
        let online = self.members.iter().take(self.sizes.presences).enumerate();
        list(out, "presences", online, |out, (at, member)| {
            presence::write(out, &mut self.rng(kind::PRESENCE, at), &member.user, None, NOW);
        });
        id_or_null(out, "public_updates_channel_id", community);
        raw(out, "splash", "null");
        list(out, "stickers", 0..self.sizes.stickers, |out, at| {
            objects::sticker(out, &mut self.rng(kind::STICKER, at), self.id);
        });
        raw(out, "mfa_level", rng.range(0, 1));
        raw(out, "premium_progress_bar_enabled", rng.chance(30));
        raw(out, "widget_channel_id", "null");
        raw(out, "nsfw", false);
        raw(out, "widget_enabled", false);
        list(out, "roles", &self.roles, |out, it| it.write(out));
        raw(out, "activity_instances", "[]");
        text(out, "joined_at", &iso(joined, rng.range(0, 999)));
        list(out, "threads", self.threads(), |out, (thread, messages)| {
            thread.write(out, Some(messages), messages % 5 == 0);
        });
        raw(out, "premium_subscription_count", boosts);
        raw(out, "inventory_settings", "null");
        raw(out, "embedded_activities", "[]");
        raw(out, "stage_instances", "[]");
        raw(out, "incidents_data", "null");
        raw(out, "application_command_counts", r#"{"3":0,"2":1,"1":14}"#);
        list(out, "members", &self.members, |out, it| it.write(out, None));
        raw(out, "nsfw_level", 0);
        raw(out, "premium_tier", (boosts / 7).min(3));
        raw(out, "application_id", "null");
        raw(out, "discovery_splash", "null");
        raw(out, "unavailable", false);
        list(out, "emojis", &self.emojis, |out, it| it.write(out));
        raw(out, "latest_onboarding_question_id", "null");
        id_or_null(out, "system_channel_id", first);
        id_or_null(out, "safety_alerts_channel_id", community);
        let speaking = self.members.iter().filter_map(|it| it.voice.as_ref().map(|voice| (it, voice)));
        list(out, "voice_states", speaking, |out, (member, voice)| {
            voice.write(out, member.user.id, Some(voice.channel), None);
        });
        text(out, "preferred_locale", "en-US");
        raw(out, "soundboard_sounds", "[]");
        raw(out, "verification_level", rng.range(0, 3));
        raw(out, "guild_scheduled_events", "[]");
        raw(out, "large", self.members.len() > 250);
        raw(out, "afk_timeout", 300);
        raw(out, "version", NOW - rng.range(0, 300 * DAY));
        let banner = (boosts > 14).then(|| rng.hex(32));
        text_or_null(out, "banner", banner.as_deref());
        let features: &[&str] = match community {
            Some(_) => &["COMMUNITY", "NEWS", "SOUNDBOARD", "AUTO_MODERATION", "WELCOME_SCREEN_ENABLED"],
            None => &["SOUNDBOARD"],
        };
        list(out, "features", features, |out, it| string(out, it));
        text(out, "name", &named);
        text(out, "region", "deprecated");
        raw(out, "home_header", "null");
        let icon = rng.chance(85).then(|| rng.hex(32));
        text_or_null(out, "icon", icon.as_deref());
        raw(out, "member_count", self.members.len().max(2));
        raw(out, "max_members", 25_000_000);
        raw(out, "vanity_url_code", "null");
        object(out, "guild_hashes", |out| {
            raw(out, "version", 1);
            for part in ["roles", "metadata", "channels"] {
                object(out, part, |out| {
                    raw(out, "omitted", false);
                    text(out, "hash", &rng.hex(6));
                });
            }
        });
        raw(out, "max_presences", "null");
        id(out, "owner_id", self.members.first().map_or(self.id, |it| it.user.id));
        raw(out, "max_stage_video_channel_users", 50);
        out.push('}');
        std::mem::take(out)
    }

    fn threads(&self) -> Vec<(Thread, u64)> {
        let parents: Vec<&Channel> =
            self.channels.iter().filter(|it| it.is_text() || it.kind == FORUM).collect();
        if parents.is_empty() {
            return Vec::new();
        }
        let thread = |at| {
            let mut rng = self.rng(kind::THREAD, at);
            let parent = parents[rng.below(parents.len())];
            let owner = self.members.get(rng.skewed(self.members.len().max(1)));
            let made = rng.range(id_ms(parent.id).max(NOW - 90 * DAY), NOW);
            let owner = owner.map_or(self.id, |it| it.user.id);
            (Thread::new(&mut rng, self.id, parent, owner, made), rng.range(1, 400))
        };
        (0..self.sizes.threads).map(thread).collect()
    }
}

/// The text of a dispatch as it comes from Discord.
pub fn payload(name: &str, seq: u64, d: &str) -> String {
    format!(r#"{{"t":"{name}","s":{seq},"op":0,"d":{d}}}"#)
}
