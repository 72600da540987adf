//! Close codes and what each means for the session ("Opcodes and status codes", "Gateway close event codes").
//!
//! The released table says for which codes to reconnect; whether the session survives is from Discord's answers
//! in public threads and from practice. The general rule behind the table: a needless RESUME costs one
//! connection, a needless IDENTIFY costs a session start and every event in between.

use super::error::Recovery;

/// Sent by this client whenever the session is to live on: 1000 and 1001 would end it at once.
pub const CLOSE_RESUMABLE: u16 = 4000;
/// Sent by this client to end the session: the bot goes offline at once.
pub const CLOSE_END_SESSION: u16 = 1000;

/// A close code that Discord documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum CloseCode {
    /// Something went wrong on Discord's side.
    UnknownError = 4000,
    /// Unknown opcode, or a body that does not fit it.
    UnknownOpcode = 4001,
    /// Payload that cannot be decoded, or is too large.
    DecodeError = 4002,
    /// Sent before IDENTIFY, or the session was invalidated.
    NotAuthenticated = 4003,
    /// The token is wrong.
    AuthenticationFailed = 4004,
    /// A second IDENTIFY.
    AlreadyAuthenticated = 4005,
    /// Retired: the session is no longer valid.
    SessionNoLongerValid = 4006,
    /// RESUME with a `seq` that Discord never sent.
    InvalidSeq = 4007,
    /// Too many payloads.
    RateLimited = 4008,
    /// The session timed out.
    SessionTimedOut = 4009,
    /// Shard id or count that cannot be.
    InvalidShard = 4010,
    /// Too many guilds for this shard count.
    ShardingRequired = 4011,
    /// Unknown API version.
    InvalidApiVersion = 4012,
    /// Intents that do not exist.
    InvalidIntents = 4013,
    /// Privileged intents that are not switched on.
    DisallowedIntents = 4014,
}

impl CloseCode {
    /// Every documented code.
    pub const ALL: [CloseCode; 15] = [
        CloseCode::UnknownError,
        CloseCode::UnknownOpcode,
        CloseCode::DecodeError,
        CloseCode::NotAuthenticated,
        CloseCode::AuthenticationFailed,
        CloseCode::AlreadyAuthenticated,
        CloseCode::SessionNoLongerValid,
        CloseCode::InvalidSeq,
        CloseCode::RateLimited,
        CloseCode::SessionTimedOut,
        CloseCode::InvalidShard,
        CloseCode::ShardingRequired,
        CloseCode::InvalidApiVersion,
        CloseCode::InvalidIntents,
        CloseCode::DisallowedIntents,
    ];

    /// The number on the wire.
    pub const fn number(self) -> u16 {
        self as u16
    }

    /// The code of a number; `None` for all that Discord does not document.
    pub fn from_number(number: u16) -> Option<CloseCode> {
        CloseCode::ALL.into_iter().find(|code| code.number() == number)
    }

    /// What to do about it.
    pub const fn recovery(self) -> Recovery {
        match self {
            CloseCode::UnknownError | CloseCode::DecodeError | CloseCode::RateLimited => Recovery::Resume,
            CloseCode::SessionTimedOut => Recovery::ResumeOnce,
            CloseCode::UnknownOpcode
            | CloseCode::NotAuthenticated
            | CloseCode::AlreadyAuthenticated
            | CloseCode::SessionNoLongerValid
            | CloseCode::InvalidSeq => Recovery::Identify,
            CloseCode::AuthenticationFailed
            | CloseCode::InvalidShard
            | CloseCode::ShardingRequired
            | CloseCode::InvalidApiVersion
            | CloseCode::InvalidIntents
            | CloseCode::DisallowedIntents => Recovery::Stop,
        }
    }

    /// Whether Discord closed because of something this side did. A first retry then waits a little, so that a
    /// mistake made at once after each connect cannot become a storm.
    pub const fn is_our_fault(self) -> bool {
        !matches!(self, CloseCode::UnknownError | CloseCode::SessionTimedOut)
    }

    /// What happened and what an operator can do about it, in one line.
    pub const fn advice(self) -> &'static str {
        match self {
            CloseCode::UnknownError => "Discord had an internal error (4000)",
            CloseCode::UnknownOpcode => {
                "Discord did not know an opcode or its body (4001): a worker sent a gateway command that is not valid"
            }
            CloseCode::DecodeError => {
                "Discord could not decode a payload (4002): a worker sent a command it refuses"
            }
            CloseCode::NotAuthenticated => "Discord regards the session as not authenticated (4003)",
            CloseCode::AuthenticationFailed => {
                "Discord refused the token (4004): it was mistyped or reset; set DISCORD_TOKEN to the one shown under \
                 Bot in the developer portal"
            }
            CloseCode::AlreadyAuthenticated => "Discord saw a second IDENTIFY on one connection (4005)",
            CloseCode::SessionNoLongerValid => "the session is no longer valid (4006)",
            CloseCode::InvalidSeq => "Discord never sent the seq that RESUME asked from (4007)",
            CloseCode::RateLimited => "too many payloads were sent (4008)",
            CloseCode::SessionTimedOut => "the session timed out (4009)",
            CloseCode::InvalidShard => {
                "Discord refused this shard id and count (4010): a large bot's shard count must be a multiple of the \
                 number Discord assigned to it; remove EXTRA_SHARDS and SHARD_COUNT to use the recommended count"
            }
            CloseCode::ShardingRequired => {
                "the bot is in too many guilds for this shard count (4011): raise or remove SHARD_COUNT, each shard \
                 may hold 2500 guilds"
            }
            CloseCode::InvalidApiVersion => {
                "Discord no longer serves API version 10 (4012): a newer rateway is needed"
            }
            CloseCode::InvalidIntents => {
                "Discord refused INTENTS (4013): it holds a bit that is no documented intent; check the number or \
                 give names"
            }
            CloseCode::DisallowedIntents => {
                "Discord refused INTENTS (4014): GUILD_MEMBERS, GUILD_PRESENCES or MESSAGE_CONTENT is asked for but \
                 not switched on under Bot, Privileged Gateway Intents in the developer portal"
            }
        }
    }
}

/// What to do when Discord closes with `code`; `None` is a close frame without one, or no close frame at all.
pub fn recovery(code: Option<u16>) -> Recovery {
    match code {
        // Seen around missed heartbeats; a RESUME after it has been seen to work and to be refused.
        Some(1000) => Recovery::ResumeOnce,
        Some(number) => match CloseCode::from_number(number) {
            Some(code) => code.recovery(),
            // 1001 (proxy restart), 1005, 1006 and whatever else: no documented reason to give the session up.
            None => Recovery::Resume,
        },
        None => Recovery::Resume,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_of_the_table() {
        use Recovery::*;
        let rows = [
            (None, Resume),
            (Some(1000), ResumeOnce),
            (Some(1001), Resume),
            (Some(1005), Resume),
            (Some(1006), Resume),
            (Some(1011), Resume),
            (Some(4000), Resume),
            (Some(4001), Identify),
            (Some(4002), Resume),
            (Some(4003), Identify),
            (Some(4004), Stop),
            (Some(4005), Identify),
            (Some(4006), Identify),
            (Some(4007), Identify),
            (Some(4008), Resume),
            (Some(4009), ResumeOnce),
            (Some(4010), Stop),
            (Some(4011), Stop),
            (Some(4012), Stop),
            (Some(4013), Stop),
            (Some(4014), Stop),
            (Some(4015), Resume),
            (Some(4016), Resume),
            (Some(0), Resume),
            (Some(u16::MAX), Resume),
        ];
        for (code, expected) in rows {
            assert_eq!(recovery(code), expected, "{code:?}");
        }
    }

    #[test]
    fn a_fatal_code_names_itself_and_what_to_do() {
        for code in CloseCode::ALL {
            assert!(code.advice().contains(&code.number().to_string()), "{code:?}");
        }
    }
}
