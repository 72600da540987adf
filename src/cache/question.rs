//! What can be asked of the cache: the queries of the contract with their ids.

use std::fmt;

/// Members in one answer at most, and in one without a limit of its own.
pub const MEMBERS_PER_PAGE_MAX: u64 = 1000;

/// Ids that any question reads at most.
pub const ARGUMENTS_MAX: usize = 3;

/// A question. All ids are Discord's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Question {
    /// The bot's own user.
    CurrentUser,
    /// A channel or thread of a guild.
    GuildChannel(u64),
    /// An emoji.
    Emoji(u64),
    /// A group of direct messages.
    Group(u64),
    /// A guild without its children.
    Guild(u64),
    /// A member with its user.
    Member {
        /// The guild.
        guild: u64,
        /// The user.
        user: u64,
    },
    /// A message.
    Message {
        /// The channel, thread or private channel.
        channel: u64,
        /// The message.
        message: u64,
    },
    /// A presence.
    Presence {
        /// The guild.
        guild: u64,
        /// The user.
        user: u64,
    },
    /// A direct message's channel.
    PrivateChannel(u64),
    /// A role.
    Role(u64),
    /// A user.
    User(u64),
    /// Who is in a voice channel.
    VoiceChannelStates(u64),
    /// A user's voice state.
    VoiceState {
        /// The user.
        user: u64,
        /// The guild, or the channel.
        place: u64,
    },
    /// All channels and threads of a guild.
    GuildChannels(u64),
    /// All roles of a guild.
    GuildRoles(u64),
    /// All emojis of a guild.
    GuildEmojis(u64),
    /// A page of a guild's members, by id.
    GuildMembers {
        /// The guild.
        guild: u64,
        /// Only users with larger ids.
        after: u64,
        /// So many at most; never above [`MEMBERS_PER_PAGE_MAX`].
        limit: u64,
    },
    /// A thread.
    Thread(u64),
    /// A sticker.
    Sticker(u64),
    /// A stage instance.
    StageInstance(u64),
    /// A scheduled event.
    ScheduledEvent(u64),
    /// Counts of everything held.
    Stats,
}

/// Why a question cannot be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QuestionError {
    /// There is no such type; its name, cut when long.
    UnknownType(String),
    /// Too few arguments, or one that is no id.
    Arguments {
        /// The question's type.
        kind: &'static str,
        /// How many ids it needs.
        needed: usize,
    },
}

impl fmt::Display for QuestionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            QuestionError::UnknownType(kind) => write!(f, "unknown type {kind:?}"),
            QuestionError::Arguments { kind, needed } => write!(f, "{kind} takes {needed} ids"),
        }
    }
}

impl std::error::Error for QuestionError {}

/// A type: its name, how many ids it needs, how many it reads.
struct Type {
    name: &'static str,
    needed: usize,
    read: usize,
}

const fn takes(name: &'static str, needed: usize) -> Type {
    Type { name, needed, read: needed }
}

/// Every type, those of the original rateway first; names are in exact case.
const TYPES: [Type; 22] = [
    takes("CurrentUser", 0),
    takes("GuildChannel", 1),
    takes("Emoji", 1),
    takes("Group", 1),
    takes("Guild", 1),
    takes("Member", 2),
    takes("Message", 2),
    takes("Presence", 2),
    takes("PrivateChannel", 1),
    takes("Role", 1),
    takes("User", 1),
    takes("VoiceChannelStates", 1),
    takes("VoiceState", 2),
    takes("GuildChannels", 1),
    takes("GuildRoles", 1),
    takes("GuildEmojis", 1),
    Type { name: "GuildMembers", needed: 1, read: 3 },
    takes("Thread", 1),
    takes("Sticker", 1),
    takes("StageInstance", 1),
    takes("ScheduledEvent", 1),
    takes("Stats", 0),
];

impl Question {
    /// The names of all types.
    pub fn types() -> impl Iterator<Item = &'static str> {
        TYPES.iter().map(|known| known.name)
    }

    /// The question of a type's name and its ids; surplus ids are ignored.
    ///
    /// # Errors
    /// When there is no such type, or too few ids.
    pub fn new(kind: &str, arguments: &[u64]) -> Result<Question, QuestionError> {
        let mut ids = [None; ARGUMENTS_MAX];
        ids.iter_mut().zip(arguments).for_each(|(place, id)| *place = Some(*id));
        Question::read(kind, &ids[..arguments.len().min(ARGUMENTS_MAX)])
    }

    /// As above from arguments of which some may be no ids; those beyond the ones that the type reads do not matter.
    ///
    /// # Errors
    /// When there is no such type, too few arguments, or one of those that it reads is no id.
    pub fn read(kind: &str, arguments: &[Option<u64>]) -> Result<Question, QuestionError> {
        let Some(Type { name, needed, read }) = TYPES.iter().find(|known| known.name == kind) else {
            // A type's name is short; what is not one is not worth repeating in full.
            return Err(QuestionError::UnknownType(kind.chars().take(40).collect()));
        };
        let arguments = &arguments[..arguments.len().min(*read)];
        if arguments.len() < *needed || arguments.contains(&None) {
            return Err(QuestionError::Arguments { kind: name, needed: *needed });
        }
        // Those that are needed are there.
        let id = |at: usize| arguments.get(at).copied().flatten();
        let (first, second) = (id(0).unwrap_or_default(), id(1).unwrap_or_default());
        Ok(match *name {
            "CurrentUser" => Question::CurrentUser,
            "GuildChannel" => Question::GuildChannel(first),
            "Emoji" => Question::Emoji(first),
            "Group" => Question::Group(first),
            "Guild" => Question::Guild(first),
            "Member" => Question::Member { guild: first, user: second },
            "Message" => Question::Message { channel: first, message: second },
            "Presence" => Question::Presence { guild: first, user: second },
            "PrivateChannel" => Question::PrivateChannel(first),
            "Role" => Question::Role(first),
            "User" => Question::User(first),
            "VoiceChannelStates" => Question::VoiceChannelStates(first),
            "VoiceState" => Question::VoiceState { user: first, place: second },
            "GuildChannels" => Question::GuildChannels(first),
            "GuildRoles" => Question::GuildRoles(first),
            "GuildEmojis" => Question::GuildEmojis(first),
            "GuildMembers" => {
                let limit = id(2).unwrap_or(MEMBERS_PER_PAGE_MAX).min(MEMBERS_PER_PAGE_MAX);
                Question::GuildMembers { guild: first, after: second, limit }
            }
            "Thread" => Question::Thread(first),
            "Sticker" => Question::Sticker(first),
            "StageInstance" => Question::StageInstance(first),
            "ScheduledEvent" => Question::ScheduledEvent(first),
            _ => Question::Stats,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_is_a_question_of_its_own_and_needs_its_ids() {
        let mut seen = Vec::new();
        for Type { name, needed, .. } in TYPES {
            let question = Question::new(name, &[1, 2, 3, 4]).expect(name);
            let printed = format!("{question:?}");
            let printed = printed.split(['(', ' ']).next().unwrap_or_default();
            assert_eq!(printed, name, "the table and the questions have the same names");
            assert!(!seen.contains(&question));
            seen.push(question);
            Question::new(name, &[1, 2][..needed]).expect(name);
            if needed > 0 {
                let few = Question::new(name, &[1, 2][..needed - 1]);
                assert_eq!(few, Err(QuestionError::Arguments { kind: name, needed }));
            }
        }
    }

    #[test]
    fn members_come_in_pages() {
        let page = |ids: &[u64]| Question::new("GuildMembers", ids);
        let expected = |after, limit| Ok(Question::GuildMembers { guild: 7, after, limit });
        assert_eq!(page(&[7]), expected(0, 1000));
        assert_eq!(page(&[7, 8]), expected(8, 1000));
        assert_eq!(page(&[7, 8, 0]), expected(8, 0));
        assert_eq!(page(&[7, 8, 1001, 9]), expected(8, 1000));
        let bad = |ids: &[Option<u64>]| Question::read("GuildMembers", ids).is_err();
        assert!(bad(&[Some(7), None]) && bad(&[Some(7), Some(8), None]) && bad(&[]));
    }

    #[test]
    fn only_what_is_read_must_be_an_id() {
        assert_eq!(Question::read("Guild", &[Some(1), None]), Ok(Question::Guild(1)));
        assert_eq!(Question::read("Stats", &[None]), Ok(Question::Stats));
        assert!(Question::read("Member", &[Some(1), None]).is_err());
        let unknown = QuestionError::UnknownType("x".repeat(40));
        assert_eq!(Question::new(&"x".repeat(1000), &[]), Err(unknown));
        assert!(Question::new("guild", &[1]).is_err());
    }
}
