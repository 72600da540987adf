//! The guilds that the bot is in, as a function of the seed: nothing is stored, every object is written when asked for.
//!
//! Ids are snowflakes whose upper bits count up from a stem, so that an id leads back to its guild or member, and
//! guilds spread evenly over shards: `shard_id = (guild_id >> 22) % num_shards`. Objects have Discord's keys in
//! Discord's order.

use std::fmt::Write;

const GUILD_STEM: u64 = 181_000_000_000;
const CHANNEL_STEM: u64 = 190_000_000_000;
const ROLE_STEM: u64 = 210_000_000_000;
const USER_STEM: u64 = 100_000_000_000;
/// The snowflake epoch in Unix milliseconds.
pub(super) const DISCORD_EPOCH_MS: u64 = 1_420_070_400_000;
pub(super) const CHANNELS: u32 = 6;
const ROLES: u32 = 4;

/// Spreads its arguments over 64 bits.
pub(super) fn mix(a: u64, b: u64, c: u64) -> u64 {
    let mut z =
        a ^ b.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ c.wrapping_mul(0xc2b2_ae3d_27d4_eb4f).rotate_left(31);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// An ISO 8601 time as Discord writes it, from Unix microseconds.
pub(super) fn iso(unix_us: u64) -> String {
    let (days, us) = (unix_us / 86_400_000_000, unix_us % 86_400_000_000);
    // Days to civil date, as in Howard Hinnant's `civil_from_days`, for dates after 1970.
    let z = days + 719_468;
    let (era, doe) = (z / 146_097, z % 146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let (day, month) = (doy - (153 * mp + 2) / 5 + 1, if mp < 10 { mp + 3 } else { mp - 9 });
    let year = yoe + era * 400 + u64::from(month <= 2);
    let s = us / 1_000_000;
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:06}+00:00",
        s / 3600,
        s / 60 % 60,
        s % 60,
        us % 1_000_000
    )
}

const FIRST: [&str; 16] = [
    "mira", "tomasz", "wren", "ines", "佐藤", "oluwa", "björn", "kaja", "linh", "pavel", "noor", "sol",
    "ada", "farid", "zuri", "emil",
];
const LAST: [&str; 16] = [
    "vale",
    "rook",
    "fen",
    "castellan",
    "hollow",
    "marsh",
    "quill",
    "ember",
    "stone",
    "brook",
    "frost",
    "lark",
    "moss",
    "reed",
    "sable",
    "thorn",
];

/// The bot's surroundings.
#[derive(Clone, Debug)]
pub(super) struct World {
    pub seed: u64,
    pub guilds: u32,
    pub members: u32,
    pub bot_id: u64,
}

impl World {
    pub fn new(seed: u64, guilds: u32, members: u32) -> World {
        let bot_id = (USER_STEM - 1) << 22 | mix(seed, 0, 0) & 0x3f_ffff;
        World { seed, guilds, members: members.max(1), bot_id }
    }

    pub fn guild_id(&self, guild: u32) -> u64 {
        (GUILD_STEM + u64::from(guild)) << 22 | mix(self.seed, 1, guild.into()) & 0x3f_ffff
    }

    pub fn guild_of(&self, id: u64) -> Option<u32> {
        let guild = u32::try_from((id >> 22).checked_sub(GUILD_STEM)?).ok()?;
        (guild < self.guilds && self.guild_id(guild) == id).then_some(guild)
    }

    pub fn shard_of(&self, guild: u32, shard_count: u32) -> u32 {
        ((GUILD_STEM + u64::from(guild)) % u64::from(shard_count.max(1))) as u32
    }

    /// The guilds of a shard, ascending.
    pub fn guilds_of(&self, shard_id: u32, shard_count: u32) -> impl Iterator<Item = u32> + use<> {
        let count = shard_count.max(1);
        let stem = (GUILD_STEM % u64::from(count)) as u32;
        let first = (u64::from(shard_id) + u64::from(count) - u64::from(stem)) % u64::from(count);
        (first as u32..self.guilds).step_by(count as usize)
    }

    pub fn channel_id(&self, guild: u32, channel: u32) -> u64 {
        let n = u64::from(guild) * u64::from(CHANNELS) + u64::from(channel);
        (CHANNEL_STEM + n) << 22 | mix(self.seed, 2, n) & 0x3f_ffff
    }

    pub fn role_id(&self, guild: u32, role: u32) -> u64 {
        if role == 0 {
            return self.guild_id(guild); // @everyone
        }
        let n = u64::from(guild) * u64::from(ROLES) + u64::from(role);
        (ROLE_STEM + n) << 22 | mix(self.seed, 3, n) & 0x3f_ffff
    }

    /// Member 0 is the bot.
    pub fn user_id(&self, guild: u32, member: u32) -> u64 {
        if member == 0 {
            return self.bot_id;
        }
        let n = u64::from(guild) * u64::from(self.members) + u64::from(member);
        (USER_STEM + n) << 22 | mix(self.seed, 4, n) & 0x3f_ffff
    }

    pub fn member_of(&self, guild: u32, user_id: u64) -> Option<u32> {
        if user_id == self.bot_id {
            return Some(0);
        }
        let n = (user_id >> 22).checked_sub(USER_STEM)?;
        let member = u32::try_from(n.checked_sub(u64::from(guild) * u64::from(self.members))?).ok()?;
        (member > 0 && member < self.members && self.user_id(guild, member) == user_id).then_some(member)
    }

    pub fn username(&self, guild: u32, member: u32) -> String {
        if member == 0 {
            return "stand-in-bot".to_owned();
        }
        let h = mix(self.seed, 5, self.user_id(guild, member));
        format!("{}_{}{}", FIRST[(h & 15) as usize], LAST[(h >> 4 & 15) as usize], h >> 8 & 0xfff)
    }

    fn hex(&self, salt: u64) -> String {
        format!("{:016x}{:016x}", mix(self.seed, 6, salt), mix(self.seed, 7, salt))
    }

    /// A user object.
    pub fn user(&self, out: &mut String, guild: u32, member: u32) {
        let id = self.user_id(guild, member);
        let h = mix(self.seed, 8, id);
        let avatar = if h & 3 == 0 { "null".to_owned() } else { format!("\"{}\"", self.hex(id)) };
        let global = match h >> 2 & 3 {
            0 => "null".to_owned(),
            1 => format!("\"{} ✨\"", FIRST[(h >> 4 & 15) as usize]),
            _ => format!("\"{} {}\"", FIRST[(h >> 4 & 15) as usize], LAST[(h >> 8 & 15) as usize]),
        };
        let _ = write!(
            out,
            "{{\"username\":\"{}\",\"public_flags\":{},\"primary_guild\":null,\"id\":\"{id}\",\"global_name\":{global},\
             \"discriminator\":\"0\",\"collectibles\":null,\"bot\":{},\"avatar_decoration_data\":null,\"avatar\":{avatar}}}",
            self.username(guild, member),
            if h >> 12 & 7 == 0 { 64 } else { 0 },
            member == 0,
        );
    }

    /// The fields of a member after `user`, without braces; `voice_flags` adds `deaf` and `mute`.
    pub fn member_fields(&self, out: &mut String, guild: u32, member: u32, voice_flags: bool) {
        let h = mix(self.seed, 9, self.user_id(guild, member));
        out.push_str("\"roles\":[");
        for (n, role) in (1..ROLES).filter(|r| h >> r & 1 == 1).enumerate() {
            let _ = write!(out, "{}\"{}\"", if n > 0 { "," } else { "" }, self.role_id(guild, role));
        }
        let nick = if h >> 8 & 3 == 0 {
            format!("\"{} „x\\\"\"", FIRST[(h >> 10 & 15) as usize])
        } else {
            "null".into()
        };
        let _ = write!(out, "],\"premium_since\":null,\"pending\":false,\"nick\":{nick},");
        if voice_flags {
            out.push_str("\"mute\":false,");
        }
        let _ = write!(
            out,
            "\"joined_at\":\"{}\",\"flags\":0,",
            iso(1_600_000_000_000_000 + h % 100_000_000_000_000)
        );
        if voice_flags {
            out.push_str("\"deaf\":false,");
        }
        out.push_str("\"communication_disabled_until\":null,\"banner\":null,\"avatar\":null");
    }

    /// A member object with its user.
    pub fn member(&self, out: &mut String, guild: u32, member: u32) {
        out.push_str("{\"user\":");
        self.user(out, guild, member);
        out.push(',');
        self.member_fields(out, guild, member, true);
        out.push('}');
    }

    /// A presence without `guild_id`.
    pub fn presence(&self, out: &mut String, guild: u32, member: u32) {
        let id = self.user_id(guild, member);
        let status = ["online", "idle", "dnd"][(mix(self.seed, 10, id) % 3) as usize];
        let _ = write!(
            out,
            "{{\"user\":{{\"id\":\"{id}\"}},\"status\":\"{status}\",\"client_status\":{{\"desktop\":\"{status}\"}},\"activities\":[]}}"
        );
    }

    pub fn online(&self, guild: u32, member: u32) -> bool {
        mix(self.seed, 11, self.user_id(guild, member)).is_multiple_of(3)
    }

    /// The member who sits in the guild's voice channel.
    pub fn in_voice(&self) -> u32 {
        1.min(self.members - 1)
    }

    pub fn voice_state(&self, out: &mut String, guild: u32, member: u32, channel: Option<u32>) {
        let id = self.user_id(guild, member);
        let channel = channel.map_or("null".to_owned(), |c| format!("\"{}\"", self.channel_id(guild, c)));
        let _ = write!(
            out,
            "\"user_id\":\"{id}\",\"suppress\":false,\"session_id\":\"{}\",\"self_video\":false,\"self_stream\":false,\
             \"self_mute\":{},\"self_deaf\":false,\"request_to_speak_timestamp\":null,\"mute\":false,\"deaf\":false,\
             \"channel_id\":{channel}",
            self.hex(id ^ 1),
            id & 1 == 0,
        );
    }

    /// `d` of GUILD_CREATE as sent after READY.
    pub fn guild_create(&self, guild: u32, presences: bool, large_threshold: u32) -> String {
        let id = self.guild_id(guild);
        let mut out = String::with_capacity(4096);
        let _ = write!(
            out,
            "{{\"rules_channel_id\":null,\"explicit_content_filter\":2,\"lazy\":true,\"default_message_notifications\":1,\
             \"id\":\"{id}\",\"description\":null,\"hub_type\":null,\"system_channel_flags\":0,\"afk_channel_id\":null,\"channels\":["
        );
        for channel in 0..CHANNELS {
            let kind = if channel == 0 {
                4
            } else if channel + 1 == CHANNELS {
                2
            } else {
                0
            };
            let _ = write!(
                out,
                "{}{{\"version\":{},\"type\":{kind},",
                if channel > 0 { "," } else { "" },
                id >> 22
            );
            if kind != 4 {
                let _ = write!(
                    out,
                    "\"topic\":null,\"rate_limit_per_user\":0,\"parent_id\":\"{}\",",
                    self.channel_id(guild, 0)
                );
            }
            let _ = write!(
                out,
                "\"position\":{channel},\"permission_overwrites\":[],\"nsfw\":false,\"name\":\"channel-{channel} ☕\",\
                 \"last_message_id\":null,\"id\":\"{}\",\"flags\":0}}",
                self.channel_id(guild, channel)
            );
        }
        out.push_str("],\"presences\":[");
        let all = presences && self.members <= large_threshold;
        let shown = |m: u32| m == 0 || m == self.in_voice() || all || (presences && self.online(guild, m));
        if presences {
            for (n, m) in (1..self.members).filter(|&m| self.online(guild, m)).enumerate() {
                out.push_str(if n > 0 { "," } else { "" });
                self.presence(&mut out, guild, m);
            }
        }
        out.push_str("],\"splash\":null,\"stickers\":[],\"mfa_level\":0,\"widget_enabled\":false,\"nsfw\":false,\"roles\":[");
        for role in 0..ROLES {
            let name = if role == 0 { "@everyone".to_owned() } else { format!("role {role} 🛡") };
            let _ = write!(
                out,
                "{}{{\"version\":0,\"unicode_emoji\":null,\"tags\":{{}},\"position\":{role},\"permissions\":\"2248473465835073\",\
                 \"name\":\"{name}\",\"mentionable\":false,\"managed\":false,\"id\":\"{}\",\"icon\":null,\"hoist\":false,\"flags\":0,\
                 \"colors\":{{\"tertiary_color\":null,\"secondary_color\":null,\"primary_color\":0}},\"color\":0}}",
                if role > 0 { "," } else { "" },
                self.role_id(guild, role)
            );
        }
        let _ = write!(
            out,
            "],\"joined_at\":\"{}\",\"threads\":[],\"premium_subscription_count\":0,\"embedded_activities\":[],\
             \"stage_instances\":[],\"application_command_counts\":{{\"1\":14}},\"members\":[",
            iso(1_609_372_850_873_783)
        );
        for (n, m) in (0..self.members).filter(|&m| shown(m)).enumerate() {
            out.push_str(if n > 0 { "," } else { "" });
            self.member(&mut out, guild, m);
        }
        out.push_str("],\"nsfw_level\":0,\"premium_tier\":0,\"application_id\":null,\"unavailable\":false,\"emojis\":[],");
        let _ = write!(out, "\"system_channel_id\":\"{}\",\"voice_states\":[{{", self.channel_id(guild, 1));
        self.voice_state(&mut out, guild, self.in_voice(), Some(CHANNELS - 1));
        let _ = write!(
            out,
            "}}],\"premium_progress_bar_enabled\":false,\"preferred_locale\":\"en-US\",\"soundboard_sounds\":[],\"verification_level\":1,\"guild_scheduled_events\":[],\
             \"large\":{},\"afk_timeout\":300,\"banner\":null,\"features\":[\"COMMUNITY\"],\"name\":\"Guild {guild} ☕\",\
             \"region\":\"deprecated\",\"icon\":\"{}\",\"member_count\":{},\"max_members\":500000,\"vanity_url_code\":null,\
             \"owner_id\":\"{}\"}}",
            self.members > large_threshold,
            self.hex(id),
            self.members,
            self.user_id(guild, self.members - 1),
        );
        out
    }

    /// `d` of READY.
    pub fn ready(&self, version: u32, session_id: &str, url: &str, shard: Option<(u32, u32)>) -> String {
        let mut out = format!(
            "{{\"v\":{version},\"user_settings\":{{}},\"user\":{{\"verified\":true,\"username\":\"{}\",",
            self.username(0, 0)
        );
        let _ = write!(
            out,
            "\"public_flags\":0,\"primary_guild\":null,\"mfa_enabled\":true,\"id\":\"{}\",\"global_name\":null,\"flags\":0,\
             \"email\":null,\"discriminator\":\"7009\",\"bot\":true,\"avatar\":null}},",
            self.bot_id
        );
        if let Some((id, count)) = shard {
            let _ = write!(out, "\"shard\":[{id},{count}],");
        }
        let _ = write!(
            out,
            "\"session_type\":\"normal\",\"session_id\":\"{session_id}\",\"resume_gateway_url\":\"{url}\",\"relationships\":[],\
             \"private_channels\":[],\"presences\":[],\"guilds\":["
        );
        let (id, count) = shard.unwrap_or((0, 1));
        for (n, guild) in self.guilds_of(id, count).enumerate() {
            let _ = write!(
                out,
                "{}{{\"unavailable\":true,\"id\":\"{}\"}}",
                if n > 0 { "," } else { "" },
                self.guild_id(guild)
            );
        }
        let _ = write!(
            out,
            "],\"guild_join_requests\":[],\"geo_ordered_rtc_regions\":[\"rotterdam\"],\"auth\":{{}},\
             \"application\":{{\"id\":\"{}\",\"flags\":565248}},\"_trace\":[\"[\\\"gateway-stand-in\\\",{{\\\"micros\\\":1}}]\"]}}",
            self.bot_id
        );
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_lead_back_and_guilds_spread_over_shards() {
        let world = World::new(7, 100, 10);
        for guild in 0..100 {
            let id = world.guild_id(guild);
            assert_eq!(world.guild_of(id), Some(guild));
            assert_eq!(world.guild_of(id ^ 1), None);
            for count in [1, 3, 16] {
                let shard = ((id >> 22) % u64::from(count)) as u32;
                assert_eq!(world.shard_of(guild, count), shard);
                assert!(world.guilds_of(shard, count).any(|g| g == guild));
            }
            assert_eq!(world.member_of(guild, world.user_id(guild, 9)), Some(9));
        }
        let all: usize = (0..16).map(|s| world.guilds_of(s, 16).count()).sum();
        assert_eq!(all, 100);
        assert_eq!(world.member_of(0, world.user_id(1, 3)), None);
    }

    #[test]
    fn times_are_civil() {
        assert_eq!(iso(1_786_041_063_123_000), "2026-08-06T18:31:03.123000+00:00");
        assert_eq!(iso(951_782_400_000_000), "2000-02-29T00:00:00.000000+00:00");
    }

    #[test]
    fn objects_are_json() {
        let world = World::new(7, 3, 10);
        for text in [
            world.guild_create(1, true, 50),
            world.guild_create(2, false, 50),
            world.ready(10, "a", "b", None),
        ] {
            serde_json::from_str::<serde_json::Value>(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
        }
    }
}
