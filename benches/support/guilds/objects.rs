//! The things in a guild, each with its JSON. Keys and their order are those of the corpus, that is of the wire:
//! reverse alphabetical. How often something is set is a guess at ordinary communities.

use super::names;
use super::text::*;

#[derive(Clone)]
pub struct User {
    pub id: u64,
    pub username: String,
    pub global_name: Option<String>,
    pub avatar: Option<String>,
    pub bot: bool,
    discriminator: u64,
    public_flags: u64,
    /// JSON each: whole objects, or null for most.
    decoration: String,
    collectibles: String,
    primary_guild: String,
}

fn avatar(rng: &mut Rng) -> String {
    if rng.chance(12) { format!("a_{}", rng.hex(32)) } else { rng.hex(32) }
}

impl User {
    pub fn new(rng: &mut Rng, bot: bool) -> Self {
        let null = || "null".to_owned();
        let mut user = Self {
            id: rng.id_between(NOW - 3800 * DAY, NOW - 30 * DAY),
            username: if bot { names::bot(rng) } else { names::username(rng) },
            global_name: (!bot && rng.chance(75)).then(|| names::display(rng)),
            avatar: rng.chance(82).then(|| avatar(rng)),
            bot,
            discriminator: if bot { rng.range(1, 9999) } else { 0 },
            public_flags: rng.pick(&[0, 0, 0, 0, 0, 0, 64, 128, 256, 4_194_304]),
            decoration: null(),
            collectibles: null(),
            primary_guild: null(),
        };
        if bot {
            return user;
        }
        if rng.chance(6) {
            user.decoration = format!(
                r#"{{"sku_id":"{}","asset":"a_{}"}}"#,
                rng.range(1_144_058_844_004_233_369, 1_400_000_000_000_000_000),
                rng.hex(32)
            );
        }
        if rng.chance(4) {
            user.collectibles = format!(
                r#"{{"nameplate":{{"sku_id":"{}","palette":"{}","label":"","asset":"nameplates/nameplates/made_up/"}}}}"#,
                rng.range(1_144_058_844_004_233_369, 1_400_000_000_000_000_000),
                rng.pick(&["cobalt", "crimson", "forest", "violet"])
            );
        }
        user.primary_guild = match rng.below(100) {
            0..10 => format!(
                r#"{{"tag":"{}","identity_guild_id":"{}","identity_enabled":true,"badge":"{}"}}"#,
                rng.pick(&["FAUX", "GG", "OWL", "猫猫", "N00B", "DEV"]),
                rng.id_between(NOW - 3000 * DAY, NOW - 100 * DAY),
                rng.hex(32)
            ),
            10..15 => r#"{"tag":null,"identity_guild_id":null,"identity_enabled":false,"badge":null}"#.into(),
            _ => null(),
        };
        user
    }

    /// The fields without braces: a mention has a member among them.
    pub fn fields(&self, out: &mut String, member: Option<&Member>) {
        text(out, "username", &self.username);
        raw(out, "public_flags", self.public_flags);
        raw(out, "primary_guild", &self.primary_guild);
        if let Some(member) = member {
            object(out, "member", |out| member.fields(out, None));
        }
        id(out, "id", self.id);
        text_or_null(out, "global_name", self.global_name.as_deref());
        let discriminator =
            if self.bot { format!("{:04}", self.discriminator) } else { self.discriminator.to_string() };
        text(out, "discriminator", &discriminator);
        raw(out, "collectibles", &self.collectibles);
        raw(out, "bot", self.bot);
        raw(out, "avatar_decoration_data", &self.decoration);
        text_or_null(out, "avatar", self.avatar.as_deref());
    }
}

#[derive(Clone)]
pub struct Member {
    pub user: User,
    pub nick: Option<String>,
    pub roles: Vec<u64>,
    pub pending: bool,
    pub timeout_until: Option<u64>,
    /// Gone from the guild; the place in the list stays, so that indices do.
    pub gone: bool,
    pub voice: Option<Voice>,
    premium_since: Option<u64>,
    avatar: Option<String>,
    banner: Option<String>,
    flags: u64,
    joined: u64,
    micros: u64,
}

impl Member {
    pub fn new(rng: &mut Rng, guild_made: u64, roles: &[u64]) -> Self {
        let bot = rng.chance(2);
        let user = User::new(rng, bot);
        let joined = rng.range(guild_made.max(id_ms(user.id)), NOW);
        // The first role is @everyone, which is never listed.
        let mut some = Vec::new();
        if roles.len() > 1 {
            for _ in 0..rng.pick(&[0, 1, 1, 1, 2, 2, 3, 3, 4, 5, 6, 9]) {
                let role = roles[1 + rng.skewed(roles.len() - 1)];
                if !some.contains(&role) {
                    some.push(role);
                }
            }
        }
        Self {
            nick: rng.chance(22).then(|| names::display(rng)),
            roles: some,
            joined,
            pending: rng.chance(2),
            timeout_until: None,
            gone: false,
            voice: None,
            premium_since: rng.chance(3).then(|| rng.range(joined, NOW)),
            avatar: rng.chance(4).then(|| avatar(rng)),
            banner: rng.chance(1).then(|| avatar(rng)),
            flags: rng.pick(&[0, 0, 0, 0, 0, 0, 0, 2, 10, 1]),
            micros: rng.range(0, 999),
            user,
        }
    }

    pub fn just_joined(self, now: u64) -> Self {
        Self { joined: now, premium_since: None, pending: true, ..self }
    }

    /// Without the user; `guild` in GUILD_MEMBER_ADD only.
    pub fn fields(&self, out: &mut String, guild: Option<u64>) {
        self.head(out);
        raw(out, "mute", false);
        text(out, "joined_at", &iso(self.joined, self.micros));
        if let Some(guild) = guild {
            id(out, "guild_id", guild);
        }
        raw(out, "flags", self.flags);
        raw(out, "deaf", false);
        self.tail(out);
    }

    fn head(&self, out: &mut String) {
        ids(out, "roles", &self.roles);
        text_or_null(out, "premium_since", self.premium_since.map(|ms| iso(ms, 0)).as_deref());
        raw(out, "pending", self.pending);
        text_or_null(out, "nick", self.nick.as_deref());
    }

    fn tail(&self, out: &mut String) {
        let until = self.timeout_until.map(|ms| iso(ms, 0));
        text_or_null(out, "communication_disabled_until", until.as_deref());
        text_or_null(out, "banner", self.banner.as_deref());
        text_or_null(out, "avatar", self.avatar.as_deref());
    }

    /// The whole member with its user, in braces.
    pub fn write(&self, out: &mut String, guild: Option<u64>) {
        braces(out, |out| {
            object(out, "user", |out| self.user.fields(out, None));
            self.fields(out, guild);
        });
    }

    /// As in GUILD_MEMBER_UPDATE, which has no `deaf` and `mute`.
    pub fn update(&self, out: &mut String, guild: u64) {
        braces(out, |out| {
            object(out, "user", |out| self.user.fields(out, None));
            raw(out, "unusual_dm_activity_until", "null");
            self.head(out);
            text(out, "joined_at", &iso(self.joined, self.micros));
            id(out, "guild_id", guild);
            raw(out, "flags", self.flags);
            let until = self.timeout_until.map(|ms| iso(ms, 0));
            text_or_null(out, "communication_disabled_until", until.as_deref());
            raw(out, "collectibles", "null");
            text_or_null(out, "banner", self.banner.as_deref());
            raw(out, "avatar_decoration_data", "null");
            text_or_null(out, "avatar", self.avatar.as_deref());
        });
    }
}

#[derive(Clone)]
pub struct Voice {
    pub channel: u64,
    pub self_mute: bool,
    self_deaf: bool,
    self_video: bool,
    self_stream: bool,
    session: String,
}

impl Voice {
    pub fn new(rng: &mut Rng, channel: u64) -> Self {
        Self {
            channel,
            self_mute: rng.chance(40),
            self_deaf: rng.chance(20),
            self_video: rng.chance(6),
            self_stream: rng.chance(6),
            session: rng.hex(32),
        }
    }

    /// In a GUILD_CREATE, or with a guild and the member in VOICE_STATE_UPDATE; `channel` None on leaving.
    pub fn write(&self, out: &mut String, user: u64, channel: Option<u64>, update: Option<(u64, &Member)>) {
        braces(out, |out| {
            id(out, "user_id", user);
            raw(out, "suppress", false);
            text(out, "session_id", &self.session);
            raw(out, "self_video", self.self_video);
            raw(out, "self_stream", self.self_stream);
            raw(out, "self_mute", self.self_mute);
            raw(out, "self_deaf", self.self_deaf);
            raw(out, "request_to_speak_timestamp", "null");
            raw(out, "mute", false);
            if let Some((guild, member)) = update {
                key(out, "member");
                member.write(out, None);
                id(out, "guild_id", guild);
            }
            raw(out, "deaf", false);
            id_or_null(out, "channel_id", channel);
        });
    }
}

#[derive(Clone)]
pub struct Role {
    pub id: u64,
    pub name: String,
    pub color: u64,
    pub permissions: u64,
    pub version: u64,
    position: u64,
    hoist: bool,
    managed: bool,
    mentionable: bool,
    secondary: Option<u64>,
    icon: Option<String>,
    unicode_emoji: Option<&'static str>,
    tags: String,
}

/// Sets as people click them together, and two of everything but administration.
pub const PERMISSIONS: &[u64] = &[
    0,
    0,
    0,
    0,
    104_324_673,
    2_248_473_465_835_073,
    1_071_698_660_929,
    8,
    137_411_140_505_153,
    6_546_771_521,
    559_623_605_575_360,
    1024,
    66_560,
    4_398_046_511_103,
    8_192,
    3_072,
    1_634_835_975_616,
];

impl Role {
    pub fn new(rng: &mut Rng, role: u64, position: u64) -> Self {
        if position == 0 {
            return Self {
                name: "@everyone".into(),
                permissions: 2_248_473_465_835_073,
                ..Self::plain(role)
            };
        }
        let color = if rng.chance(40) { 0 } else { rng.range(1, 0xFF_FFFF) };
        let tags = match rng.below(100) {
            0..6 => format!(r#"{{"bot_id":"{}"}}"#, rng.id_between(NOW - 3000 * DAY, NOW)),
            6..8 => r#"{"premium_subscriber":null}"#.into(),
            _ => "{}".to_owned(),
        };
        Self {
            name: names::role(rng),
            color,
            permissions: rng.pick(PERMISSIONS),
            position,
            hoist: rng.chance(25),
            managed: tags.len() > 2,
            mentionable: rng.chance(20),
            secondary: (color > 0 && rng.chance(3)).then(|| rng.range(1, 0xFF_FFFF)),
            icon: rng.chance(4).then(|| rng.hex(32)),
            unicode_emoji: rng.chance(2).then(|| rng.pick(names::EMOJI)),
            tags,
            ..Self::plain(role)
        }
    }

    fn plain(id: u64) -> Self {
        Self {
            id,
            name: String::new(),
            color: 0,
            permissions: 0,
            version: 0,
            position: 0,
            hoist: false,
            managed: false,
            mentionable: false,
            secondary: None,
            icon: None,
            unicode_emoji: None,
            tags: "{}".into(),
        }
    }

    pub fn write(&self, out: &mut String) {
        braces(out, |out| {
            raw(out, "version", self.version);
            text_or_null(out, "unicode_emoji", self.unicode_emoji);
            raw(out, "tags", &self.tags);
            raw(out, "position", self.position);
            id(out, "permissions", self.permissions);
            text(out, "name", &self.name);
            raw(out, "mentionable", self.mentionable);
            raw(out, "managed", self.managed);
            id(out, "id", self.id);
            text_or_null(out, "icon", self.icon.as_deref());
            raw(out, "hoist", self.hoist);
            raw(out, "flags", 0);
            object(out, "colors", |out| {
                raw(out, "tertiary_color", "null");
                match self.secondary {
                    Some(color) => raw(out, "secondary_color", color),
                    None => raw(out, "secondary_color", "null"),
                }
                raw(out, "primary_color", self.color);
            });
            raw(out, "color", self.color);
        });
    }
}

#[derive(Clone)]
pub struct Emoji {
    pub id: u64,
    pub name: String,
    animated: bool,
}

impl Emoji {
    pub fn new(rng: &mut Rng, guild_made: u64) -> Self {
        Self { id: rng.id_between(guild_made, NOW), name: names::emoji(rng), animated: rng.chance(25) }
    }

    pub fn write(&self, out: &mut String) {
        braces(out, |out| {
            raw(out, "version", 0);
            ids(out, "roles", &[]);
            raw(out, "require_colons", true);
            text(out, "name", &self.name);
            raw(out, "managed", false);
            id(out, "id", self.id);
            raw(out, "available", true);
            raw(out, "animated", self.animated);
        });
    }
}

pub fn sticker(out: &mut String, rng: &mut Rng, guild: u64) {
    braces(out, |out| {
        raw(out, "version", 1);
        raw(out, "type", 2);
        text(out, "tags", rng.pick(names::EMOJI));
        text(out, "name", &names::emoji(rng));
        id(out, "id", rng.id_between(id_ms(guild), NOW));
        id(out, "guild_id", guild);
        raw(out, "format_type", rng.pick(&[1, 2, 4]));
        text_or_null(out, "description", rng.pick(&[Some(""), None, Some("a made-up sticker")]));
        raw(out, "available", true);
        text(out, "asset", "");
    });
}
