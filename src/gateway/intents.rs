//! Gateway intents: which events Discord sends ("Gateway", "Gateway Intents").

use std::fmt;

/// Names by bit, as documented.
pub const NAMES: [(u64, &str); 21] = [
    (1, "GUILDS"),
    (1 << 1, "GUILD_MEMBERS"),
    (1 << 2, "GUILD_MODERATION"),
    (1 << 3, "GUILD_EXPRESSIONS"),
    (1 << 4, "GUILD_INTEGRATIONS"),
    (1 << 5, "GUILD_WEBHOOKS"),
    (1 << 6, "GUILD_INVITES"),
    (1 << 7, "GUILD_VOICE_STATES"),
    (1 << 8, "GUILD_PRESENCES"),
    (1 << 9, "GUILD_MESSAGES"),
    (1 << 10, "GUILD_MESSAGE_REACTIONS"),
    (1 << 11, "GUILD_MESSAGE_TYPING"),
    (1 << 12, "DIRECT_MESSAGES"),
    (1 << 13, "DIRECT_MESSAGE_REACTIONS"),
    (1 << 14, "DIRECT_MESSAGE_TYPING"),
    (1 << 15, "MESSAGE_CONTENT"),
    (1 << 16, "GUILD_SCHEDULED_EVENTS"),
    (1 << 20, "AUTO_MODERATION_CONFIGURATION"),
    (1 << 21, "AUTO_MODERATION_EXECUTION"),
    (1 << 24, "GUILD_MESSAGE_POLLS"),
    (1 << 25, "DIRECT_MESSAGE_POLLS"),
];

/// Names that these intents had before.
const FORMER_NAMES: [(u64, &str); 3] =
    [(1 << 2, "GUILD_BANS"), (1 << 3, "GUILD_EMOJIS"), (1 << 3, "GUILD_EMOJIS_AND_STICKERS")];

/// GUILDS: without it a shard learns of no guild.
pub const GUILDS: u64 = 1;
/// GUILD_MEMBERS: Discord tells when members join, change and leave.
pub const GUILD_MEMBERS: u64 = 1 << 1;
/// MESSAGE_CONTENT: without it messages arrive empty.
pub const MESSAGE_CONTENT: u64 = 1 << 15;
/// Those that have to be switched on in the developer portal.
pub const PRIVILEGED: u64 = GUILD_MEMBERS | 1 << 8 | MESSAGE_CONTENT;
/// All that are documented. Discord answers any other bit with 4013.
pub const DOCUMENTED: u64 = 53_608_447;

/// A piece of an intents setting that is neither a number nor a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownIntent(pub String);

impl fmt::Display for UnknownIntent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is neither a number nor the name of an intent", self.0)
    }
}

impl std::error::Error for UnknownIntent {}

/// Reads a number, or names separated by commas, in any case. Former names are understood.
///
/// # Errors
/// The first piece that is neither.
pub fn parse(text: &str) -> Result<u64, UnknownIntent> {
    text.split(',').try_fold(0, |bits, piece| {
        let piece = piece.trim();
        if piece.bytes().all(|byte| byte.is_ascii_digit())
            && let Ok(number) = piece.parse::<u64>()
        {
            return Ok(bits | number);
        }
        let named = NAMES.iter().chain(&FORMER_NAMES).find(|(_, name)| name.eq_ignore_ascii_case(piece));
        named.map(|(bit, _)| bits | bit).ok_or_else(|| UnknownIntent(piece.to_owned()))
    })
}

/// Prints intents by their names; bits without one as a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Intents(pub u64);

impl fmt::Display for Intents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut comma = "";
        for (bit, name) in NAMES {
            if self.0 & bit != 0 {
                write!(f, "{comma}{name}")?;
                comma = ",";
            }
        }
        let nameless = self.0 & !DOCUMENTED;
        if nameless != 0 || self.0 == 0 {
            write!(f, "{comma}{nameless}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_the_documented_one() {
        assert_eq!(NAMES.iter().fold(0, |bits, (bit, _)| bits | bit), DOCUMENTED);
        assert_eq!(DOCUMENTED & !PRIVILEGED, 53_575_421);
        assert_eq!(PRIVILEGED, 33_026);
    }

    #[test]
    fn numbers_and_names_and_both() {
        assert_eq!(parse("513"), Ok(513));
        assert_eq!(parse(" GUILDS , guild_messages "), Ok(513));
        assert_eq!(parse("1,GUILD_MESSAGES"), Ok(513));
        assert_eq!(parse("GUILD_BANS,GUILD_EMOJIS_AND_STICKERS"), Ok(12));
        for (bit, name) in NAMES {
            assert_eq!(parse(name), Ok(bit));
        }
    }

    #[test]
    fn what_is_neither_is_named() {
        for (text, piece) in [
            ("", ""),
            ("GUILDS,", ""),
            ("-1", "-1"),
            ("+1", "+1"),
            ("1.5", "1.5"),
            ("GUILDS|GUILD_MESSAGES", "GUILDS|GUILD_MESSAGES"),
            ("99999999999999999999", "99999999999999999999"),
            ("GUILDS,GILDS", "GILDS"),
        ] {
            assert_eq!(parse(text), Err(UnknownIntent(piece.to_owned())), "{text:?}");
        }
    }

    #[test]
    fn prints_names_that_parse_again() {
        for bits in [513, DOCUMENTED, PRIVILEGED, 1 << 17, 0, 1 | 1 << 40] {
            assert_eq!(parse(&Intents(bits).to_string()), Ok(bits));
        }
        assert_eq!(Intents(513).to_string(), "GUILDS,GUILD_MESSAGES");
    }
}
