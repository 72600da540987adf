//! Generated dispatches: a mix like that of a bot with many intents, about 770 bytes of JSON each.

use std::fmt::Write;

use super::world::{CHANNELS, DISCORD_EPOCH_MS, World, iso};
use crate::base::Rng;

pub(super) const GUILD_MEMBERS: u64 = 1 << 1;
pub(super) const GUILD_PRESENCES: u64 = 1 << 8;
pub(super) const MESSAGE_CONTENT: u64 = 1 << 15;
const GUILDS: u64 = 1;
const GUILD_VOICE_STATES: u64 = 1 << 7;
const GUILD_MESSAGES: u64 = 1 << 9;
const GUILD_MESSAGE_REACTIONS: u64 = 1 << 10;
const GUILD_MESSAGE_TYPING: u64 = 1 << 11;
const DIRECT_MESSAGES: u64 = 1 << 12;

/// A dispatch before it has a number.
#[derive(Clone, Debug)]
pub(super) struct Event {
    pub name: &'static str,
    /// Sessions get it if they have one of these; 0 means always.
    pub intents: u64,
    /// `None`: no guild, so shard 0.
    pub guild: Option<u32>,
    pub d: String,
    /// `d` for sessions without MESSAGE_CONTENT, where that differs.
    pub d_bare: Option<String>,
}

impl Event {
    /// The body that a session with `intents` gets; `None` when it gets nothing.
    pub fn body(&self, intents: u64) -> Option<&str> {
        if self.intents != 0 && self.intents & intents == 0 {
            return None;
        }
        match &self.d_bare {
            Some(bare) if intents & MESSAGE_CONTENT == 0 => Some(bare),
            _ => Some(&self.d),
        }
    }
}

const WORDS: [&str; 40] = [
    "the",
    "raid",
    "starts",
    "at",
    "eight",
    "who",
    "has",
    "keys",
    "for",
    "vault",
    "lol",
    "check",
    "pinned",
    "rules",
    "first",
    "please",
    "こんにちは",
    "👋",
    "gg",
    "wp",
    "anyone",
    "up",
    "voice",
    "chat",
    "tonight",
    "maybe",
    "later",
    "nope",
    "sure",
    "ok",
    "that",
    "was",
    "close",
    "did",
    "you",
    "see",
    "it",
    "été",
    "🔥",
    "done",
];

/// Writes events for the guilds of `world`.
#[derive(Clone, Debug)]
pub(super) struct Generator {
    rng: Rng,
    serial: u64,
}

impl Generator {
    pub fn new(seed: u64) -> Generator {
        Generator { rng: Rng::new(seed ^ 0x6576_656e_7473), serial: 0 }
    }

    pub fn rng(&mut self) -> &mut Rng {
        &mut self.rng
    }

    /// The next event, in any guild of the bot.
    pub fn next(&mut self, world: &World, now_ms: u64) -> Option<Event> {
        if world.guilds == 0 || self.rng.chance(1, 100) {
            return Some(self.direct_message(world, now_ms));
        }
        let guild = self.rng.below(world.guilds.into()) as u32;
        Some(self.in_guild(world, guild, now_ms))
    }

    /// The next event of one guild.
    pub fn in_guild(&mut self, world: &World, guild: u32, now_ms: u64) -> Event {
        self.serial += 1;
        let member = 1.min(world.members - 1)
            + self.rng.below(u64::from(world.members.saturating_sub(1).max(1))) as u32;
        let member = member.min(world.members - 1);
        let channel = 1 + self.rng.below(u64::from(CHANNELS) - 2) as u32;
        let guild_id = world.guild_id(guild);
        let channel_id = world.channel_id(guild, channel);
        let user_id = world.user_id(guild, member);
        let mut d = String::with_capacity(1024);
        let (name, intents) = match self.rng.below(100) {
            0..30 => {
                let bare = self.message(world, guild, member, channel, now_ms, false);
                let full = self.message(world, guild, member, channel, now_ms, true);
                let (d, d_bare) = (full, Some(bare));
                return Event {
                    name: "MESSAGE_CREATE",
                    intents: GUILD_MESSAGES,
                    guild: Some(guild),
                    d,
                    d_bare,
                };
            }
            30..35 => {
                let bare = self.message(world, guild, member, channel, now_ms, false);
                let full = self.message(world, guild, member, channel, now_ms, true);
                return Event {
                    name: "MESSAGE_UPDATE",
                    intents: GUILD_MESSAGES,
                    guild: Some(guild),
                    d: full,
                    d_bare: Some(bare),
                };
            }
            35..39 => {
                let id = self.message_id(now_ms);
                let _ = write!(
                    d,
                    "{{\"id\":\"{id}\",\"channel_id\":\"{channel_id}\",\"guild_id\":\"{guild_id}\"}}"
                );
                ("MESSAGE_DELETE", GUILD_MESSAGES)
            }
            39..53 => {
                let _ = write!(d, "{{\"user_id\":\"{user_id}\",\"timestamp\":{},\"member\":", now_ms / 1000);
                world.member(&mut d, guild, member);
                let _ = write!(d, ",\"guild_id\":\"{guild_id}\",\"channel_id\":\"{channel_id}\"}}");
                ("TYPING_START", GUILD_MESSAGE_TYPING)
            }
            53..73 => {
                self.presence(&mut d, world, guild, member, now_ms);
                ("PRESENCE_UPDATE", GUILD_PRESENCES)
            }
            73..81 => {
                d.push_str("{\"user\":");
                world.user(&mut d, guild, member);
                d.push_str(",\"unusual_dm_activity_until\":null,");
                world.member_fields(&mut d, guild, member, false);
                let _ = write!(d, ",\"guild_id\":\"{guild_id}\"}}");
                ("GUILD_MEMBER_UPDATE", GUILD_MEMBERS)
            }
            81..88 => {
                d.push('{');
                let channel = self.rng.chance(1, 2).then_some(CHANNELS - 1);
                world.voice_state(&mut d, guild, member, channel);
                d.push_str(",\"member\":");
                world.member(&mut d, guild, member);
                let _ = write!(d, ",\"guild_id\":\"{guild_id}\"}}");
                ("VOICE_STATE_UPDATE", GUILD_VOICE_STATES)
            }
            n @ 88..98 => {
                let add = n < 96;
                let _ = write!(
                    d,
                    "{{\"user_id\":\"{user_id}\",\"type\":0,\"message_id\":\"{}\",",
                    self.message_id(now_ms)
                );
                if add {
                    d.push_str("\"message_author_id\":\"");
                    let _ = write!(d, "{}\",\"member\":", world.user_id(guild, 0));
                    world.member(&mut d, guild, member);
                    d.push(',');
                }
                let _ = write!(
                    d,
                    "\"emoji\":{{\"name\":\"🔥\",\"id\":null}},\"channel_id\":\"{channel_id}\",\"burst\":false,\"guild_id\":\"{guild_id}\"}}"
                );
                (
                    if add { "MESSAGE_REACTION_ADD" } else { "MESSAGE_REACTION_REMOVE" },
                    GUILD_MESSAGE_REACTIONS,
                )
            }
            98 => {
                let _ = write!(
                    d,
                    "{{\"version\":{now_ms},\"type\":0,\"topic\":\"{}\",\"rate_limit_per_user\":0,\"position\":{channel},\
                     \"permission_overwrites\":[],\"parent_id\":\"{}\",\"nsfw\":false,\"name\":\"channel-{channel} ☕\",\
                     \"last_message_id\":null,\"id\":\"{channel_id}\",\"guild_id\":\"{guild_id}\",\"flags\":0}}",
                    self.words(6),
                    world.channel_id(guild, 0)
                );
                ("CHANNEL_UPDATE", GUILDS)
            }
            _ => {
                let _ =
                    write!(d, "{{\"name\":\"something new {}\",\"guild_id\":\"{guild_id}\"}}", self.serial);
                ("GUILD_NOVELTY_UPDATE", GUILDS) // In no table: clients must carry on.
            }
        };
        Event { name, intents, guild: Some(guild), d, d_bare: None }
    }

    fn message_id(&mut self, now_ms: u64) -> u64 {
        now_ms.saturating_sub(DISCORD_EPOCH_MS) << 22 | self.serial & 0x3f_ffff
    }

    fn words(&mut self, count: u64) -> String {
        let mut out = String::new();
        for n in 0..count {
            out.push_str(if n > 0 { " " } else { "" });
            out.push_str(WORDS[self.rng.below(WORDS.len() as u64) as usize]);
        }
        out
    }

    fn message(
        &mut self,
        world: &World,
        guild: u32,
        member: u32,
        channel: u32,
        now_ms: u64,
        content: bool,
    ) -> String {
        let mut d = String::with_capacity(1400);
        let id = self.message_id(now_ms);
        let count = 2 + self.rng.below(20);
        let mut text = self.words(count);
        if self.rng.chance(1, 50) {
            text.push_str(
                " ```json\\n{\\\"op\\\":7,\\\"s\\\":999,\\\"t\\\":\\\"RESUMED\\\",\\\"d\\\":{}}\\n```",
            );
        }
        let _ = write!(
            d,
            "{{\"type\":0,\"tts\":false,\"timestamp\":\"{}\",\"pinned\":false,\"nonce\":\"{}\",\"mentions\":[],\
             \"mention_roles\":[],\"mention_everyone\":false,\"member\":{{",
            iso(now_ms * 1000),
            id ^ 0x155
        );
        world.member_fields(&mut d, guild, member, true);
        let _ = write!(
            d,
            "}},\"id\":\"{id}\",\"flags\":0,\"embeds\":[],\"edited_timestamp\":null,\"content\":\"{}\",\"components\":[],\
             \"channel_type\":0,\"channel_id\":\"{}\",\"author\":",
            if content { &text } else { "" },
            world.channel_id(guild, channel)
        );
        world.user(&mut d, guild, member);
        let _ = write!(d, ",\"attachments\":[");
        if content && self.rng.chance(1, 12) {
            let _ = write!(
                d,
                "{{\"width\":1920,\"url\":\"https://cdn.example.invalid/a/{id}.png?ex=66&is=65\",\"size\":482213,\
                 \"proxy_url\":\"https://media.example.invalid/a/{id}.png\",\"id\":\"{id}\",\"height\":1080,\
                 \"filename\":\"Résumé_{id}.png\",\"content_type\":\"image/png\"}}"
            );
        }
        let _ = write!(d, "],\"guild_id\":\"{}\"}}", world.guild_id(guild));
        d
    }

    fn direct_message(&mut self, world: &World, now_ms: u64) -> Event {
        self.serial += 1;
        let id = self.message_id(now_ms);
        let mut d = String::with_capacity(700);
        let _ = write!(
            d,
            "{{\"type\":0,\"tts\":false,\"timestamp\":\"{}\",\"pinned\":false,\"mentions\":[],\"mention_roles\":[],\
             \"mention_everyone\":false,\"id\":\"{id}\",\"flags\":0,\"embeds\":[],\"edited_timestamp\":null,\"content\":\"{}\",\
             \"components\":[],\"channel_type\":1,\"channel_id\":\"{}\",\"author\":",
            iso(now_ms * 1000),
            self.words(5),
            world.channel_id(0, 0) ^ 1
        );
        world.user(&mut d, 0, world.members - 1);
        d.push_str(",\"attachments\":[]}");
        Event { name: "MESSAGE_CREATE", intents: DIRECT_MESSAGES, guild: None, d, d_bare: None }
    }

    fn presence(&mut self, d: &mut String, world: &World, guild: u32, member: u32, now_ms: u64) {
        let status = ["online", "idle", "dnd", "offline"][self.rng.below(4) as usize];
        let _ =
            write!(d, "{{\"user\":{{\"id\":\"{}\"}},\"status\":\"{status}\",", world.user_id(guild, member));
        let _ = write!(d, "\"guild_id\":\"{}\",\"client_status\":{{", world.guild_id(guild));
        if status != "offline" {
            let _ = write!(d, "\"desktop\":\"{status}\"");
        }
        d.push_str("},\"activities\":[");
        if status != "offline" {
            let start = now_ms - self.rng.below(10_000_000);
            let _ = write!(
                d,
                "{{\"type\":4,\"state\":\"{}\",\"name\":\"Custom Status\",\"id\":\"custom\",\"emoji\":{{\"name\":\"❤️\"}},\"created_at\":{start}}},",
                self.words(3)
            );
            let _ = write!(
                d,
                "{{\"type\":0,\"timestamps\":{{\"start\":{start}}},\"state\":\"In a match\",\"session_id\":\"{:016x}{:016x}\",\
                 \"party\":{{\"size\":[2,4],\"id\":\"{:024x}\"}},\"name\":\"Blob Racer\",\"id\":\"{:016x}\",\"flags\":1,\
                 \"details\":\"Ranked: {}-{}\",\"created_at\":{start},\"buttons\":[\"Join\",\"Profile\"],\
                 \"assets\":{{\"large_text\":\"The Hall\",\"large_image\":\"mp:external/{:016x}/https/example.invalid/a.png\"}},\
                 \"application_id\":\"359897420126602771\"}}",
                self.rng.next_u64(),
                self.rng.next_u64(),
                self.rng.next_u64(),
                self.rng.next_u64(),
                self.rng.below(9),
                self.rng.below(9),
                self.rng.next_u64(),
            );
        }
        d.push_str("]}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_json_and_about_770_bytes() {
        let world = World::new(3, 20, 50);
        let mut generator = Generator::new(3);
        let mut bytes = 0;
        for n in 0..4000 {
            let event = generator.next(&world, 1_785_700_000_000 + n).unwrap();
            for d in [Some(&event.d), event.d_bare.as_ref()].into_iter().flatten() {
                serde_json::from_str::<serde_json::Value>(d).unwrap_or_else(|e| panic!("{e}: {d}"));
            }
            bytes += event.d.len() + 40;
        }
        assert!((650..900).contains(&(bytes / 4000)), "{} bytes on average", bytes / 4000);
    }

    #[test]
    fn without_the_intent_no_content() {
        let world = World::new(3, 1, 5);
        let mut generator = Generator::new(3);
        let event = std::iter::repeat_with(|| generator.in_guild(&world, 0, 1_785_700_000_000))
            .find(|e| e.name == "MESSAGE_CREATE")
            .unwrap();
        assert!(event.body(GUILD_MESSAGES).unwrap().contains("\"content\":\"\""));
        assert!(!event.body(GUILD_MESSAGES | MESSAGE_CONTENT).unwrap().contains("\"content\":\"\""));
        assert_eq!(event.body(GUILDS), None);
    }
}
