//! Gateway opcodes ("Opcodes and status codes", "Gateway opcodes").

/// What a payload is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Opcode {
    /// An event; the only one with `s` and `t`.
    Dispatch,
    /// Sign of life, in both directions.
    Heartbeat,
    /// Starts a session.
    Identify,
    /// Sets the bot's presence.
    PresenceUpdate,
    /// Joins, moves within or leaves voice.
    VoiceStateUpdate,
    /// Takes a session up again.
    Resume,
    /// Discord asks for a new connection.
    Reconnect,
    /// Asks for members of a guild.
    RequestGuildMembers,
    /// The session is not valid, or could not be started.
    InvalidSession,
    /// First payload of a connection; carries the heartbeat interval.
    Hello,
    /// Answer to a heartbeat.
    HeartbeatAck,
    /// Asks for the soundboard sounds of guilds.
    RequestSoundboardSounds,
    /// Asks for ephemeral channel data of a guild.
    RequestChannelInfo,
}

/// Who may send a payload of an opcode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    /// Discord only.
    Discord,
    /// The shard itself, on its own account.
    Shard,
    /// Workers, through the shard.
    Worker,
}

impl Opcode {
    /// Every opcode that a bot meets.
    pub const ALL: [Opcode; 13] = [
        Opcode::Dispatch,
        Opcode::Heartbeat,
        Opcode::Identify,
        Opcode::PresenceUpdate,
        Opcode::VoiceStateUpdate,
        Opcode::Resume,
        Opcode::Reconnect,
        Opcode::RequestGuildMembers,
        Opcode::InvalidSession,
        Opcode::Hello,
        Opcode::HeartbeatAck,
        Opcode::RequestSoundboardSounds,
        Opcode::RequestChannelInfo,
    ];

    /// The number on the wire.
    pub const fn number(self) -> u64 {
        match self {
            Opcode::Dispatch => 0,
            Opcode::Heartbeat => 1,
            Opcode::Identify => 2,
            Opcode::PresenceUpdate => 3,
            Opcode::VoiceStateUpdate => 4,
            Opcode::Resume => 6,
            Opcode::Reconnect => 7,
            Opcode::RequestGuildMembers => 8,
            Opcode::InvalidSession => 9,
            Opcode::Hello => 10,
            Opcode::HeartbeatAck => 11,
            Opcode::RequestSoundboardSounds => 31,
            Opcode::RequestChannelInfo => 43,
        }
    }

    /// The opcode of a number; `None` for one that this build does not know, which is no fault.
    pub const fn from_number(number: u64) -> Option<Opcode> {
        Some(match number {
            0 => Opcode::Dispatch,
            1 => Opcode::Heartbeat,
            2 => Opcode::Identify,
            3 => Opcode::PresenceUpdate,
            4 => Opcode::VoiceStateUpdate,
            6 => Opcode::Resume,
            7 => Opcode::Reconnect,
            8 => Opcode::RequestGuildMembers,
            9 => Opcode::InvalidSession,
            10 => Opcode::Hello,
            11 => Opcode::HeartbeatAck,
            31 => Opcode::RequestSoundboardSounds,
            43 => Opcode::RequestChannelInfo,
            _ => return None,
        })
    }

    /// Who sends it.
    pub const fn sender(self) -> Sender {
        match self {
            Opcode::Heartbeat | Opcode::Identify | Opcode::Resume => Sender::Shard,
            Opcode::PresenceUpdate
            | Opcode::VoiceStateUpdate
            | Opcode::RequestGuildMembers
            | Opcode::RequestSoundboardSounds
            | Opcode::RequestChannelInfo => Sender::Worker,
            Opcode::Dispatch
            | Opcode::Reconnect
            | Opcode::InvalidSession
            | Opcode::Hello
            | Opcode::HeartbeatAck => Sender::Discord,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_go_both_ways() {
        for opcode in Opcode::ALL {
            assert_eq!(Opcode::from_number(opcode.number()), Some(opcode));
        }
        let known: Vec<u64> = (0..1000).filter(|&n| Opcode::from_number(n).is_some()).collect();
        assert_eq!(known, [0, 1, 2, 3, 4, 6, 7, 8, 9, 10, 11, 31, 43]);
        assert_eq!(Opcode::from_number(u64::MAX), None);
    }
}
