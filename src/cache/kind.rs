//! What the cache can hold or leave out.

/// A kind of entity. The numbers are in the order of [`KINDS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Kind {
    /// The bot's own user.
    CurrentUser,
    /// Guilds' own properties. That a guild is there is known even if this kind is not held.
    Guild,
    /// Channels of guilds.
    Channel,
    /// Threads with their members.
    Thread,
    /// Direct messages' channels and groups.
    PrivateChannel,
    /// Roles.
    Role,
    /// Emojis.
    Emoji,
    /// Stickers.
    Sticker,
    /// Sounds of the soundboard.
    Sound,
    /// Members; their users are held along with them.
    Member,
    /// Users.
    User,
    /// Presences.
    Presence,
    /// Voice states.
    VoiceState,
    /// The last messages of each channel.
    Message,
    /// Stage instances.
    StageInstance,
    /// Scheduled events.
    ScheduledEvent,
    /// Integrations.
    Integration,
}

/// Every kind.
pub const KINDS: [Kind; 17] = [
    Kind::CurrentUser,
    Kind::Guild,
    Kind::Channel,
    Kind::Thread,
    Kind::PrivateChannel,
    Kind::Role,
    Kind::Emoji,
    Kind::Sticker,
    Kind::Sound,
    Kind::Member,
    Kind::User,
    Kind::Presence,
    Kind::VoiceState,
    Kind::Message,
    Kind::StageInstance,
    Kind::ScheduledEvent,
    Kind::Integration,
];

impl Kind {
    /// What operators call it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::CurrentUser => "current_user",
            Kind::Guild => "guilds",
            Kind::Channel => "channels",
            Kind::Thread => "threads",
            Kind::PrivateChannel => "private_channels",
            Kind::Role => "roles",
            Kind::Emoji => "emojis",
            Kind::Sticker => "stickers",
            Kind::Sound => "sounds",
            Kind::Member => "members",
            Kind::User => "users",
            Kind::Presence => "presences",
            Kind::VoiceState => "voice_states",
            Kind::Message => "messages",
            Kind::StageInstance => "stage_instances",
            Kind::ScheduledEvent => "scheduled_events",
            Kind::Integration => "integrations",
        }
    }

    /// The kind of that name, in any case.
    pub fn parse(name: &str) -> Option<Kind> {
        KINDS.into_iter().find(|kind| kind.name().eq_ignore_ascii_case(name))
    }
}

/// A set of kinds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct KindSet(u32);

impl KindSet {
    /// Every kind.
    pub fn all() -> KindSet {
        KINDS.into_iter().collect()
    }

    /// No kind.
    pub fn none() -> KindSet {
        KindSet(0)
    }

    /// Whether `kind` is in it.
    pub fn contains(self, kind: Kind) -> bool {
        self.0 & (1 << kind as u8) != 0
    }

    /// Puts `kind` in.
    pub fn insert(&mut self, kind: Kind) {
        self.0 |= 1 << kind as u8;
    }

    /// Its kinds, in the order of [`KINDS`].
    pub fn iter(self) -> impl Iterator<Item = Kind> {
        KINDS.into_iter().filter(move |kind| self.contains(*kind))
    }
}

impl FromIterator<Kind> for KindSet {
    fn from_iter<I: IntoIterator<Item = Kind>>(kinds: I) -> KindSet {
        let mut set = KindSet::none();
        kinds.into_iter().for_each(|kind| set.insert(kind));
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back_and_numbers_are_places() {
        for (place, kind) in KINDS.into_iter().enumerate() {
            assert_eq!(kind as usize, place);
            assert_eq!(Kind::parse(kind.name()), Some(kind));
            assert_eq!(Kind::parse(&kind.name().to_uppercase()), Some(kind));
        }
        assert_eq!((Kind::parse("guild"), Kind::parse("")), (None, None));
    }

    #[test]
    fn a_set_has_what_was_put_in() {
        assert_eq!(KindSet::all().iter().collect::<Vec<_>>(), KINDS);
        assert_eq!(KindSet::none().iter().count(), 0);
        let mut set = KindSet::none();
        set.insert(Kind::User);
        set.insert(Kind::Guild);
        set.insert(Kind::User);
        assert_eq!(set.iter().collect::<Vec<_>>(), [Kind::Guild, Kind::User]);
        assert!(set.contains(Kind::Guild) && !set.contains(Kind::CurrentUser));
    }
}
