//! The table of events: which handler takes which, in the order of events.md.

use crate::cache::common::Holding;
use crate::cache::encoding::Value;
use crate::cache::kind::Kind;

use super::{Step, keys};

/// Names the events that change the cache; all others pass.
macro_rules! events {
    ($($event:ident $name:literal)*) => {
        /// An event that changes the cache.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(missing_docs)] // Their names are Discord's.
        pub enum Event { $($event),* }

        impl Event {
            /// The event of that name, if it changes the cache.
            pub fn from_name(name: &str) -> Option<Event> {
                match name {
                    $($name => Some(Event::$event),)*
                    _ => None,
                }
            }
        }
    };
}

events! {
    Ready "READY"
    UserUpdate "USER_UPDATE"
    GuildCreate "GUILD_CREATE"
    GuildUpdate "GUILD_UPDATE"
    GuildDelete "GUILD_DELETE"
    GuildEmojisUpdate "GUILD_EMOJIS_UPDATE"
    GuildStickersUpdate "GUILD_STICKERS_UPDATE"
    IntegrationCreate "INTEGRATION_CREATE"
    IntegrationUpdate "INTEGRATION_UPDATE"
    IntegrationDelete "INTEGRATION_DELETE"
    ChannelCreate "CHANNEL_CREATE"
    ChannelUpdate "CHANNEL_UPDATE"
    ChannelDelete "CHANNEL_DELETE"
    ChannelInfo "CHANNEL_INFO"
    VoiceChannelStatusUpdate "VOICE_CHANNEL_STATUS_UPDATE"
    VoiceChannelStartTimeUpdate "VOICE_CHANNEL_START_TIME_UPDATE"
    ChannelPinsUpdate "CHANNEL_PINS_UPDATE"
    ThreadCreate "THREAD_CREATE"
    ThreadUpdate "THREAD_UPDATE"
    ThreadDelete "THREAD_DELETE"
    ThreadListSync "THREAD_LIST_SYNC"
    ThreadMemberUpdate "THREAD_MEMBER_UPDATE"
    ThreadMembersUpdate "THREAD_MEMBERS_UPDATE"
    GuildMemberAdd "GUILD_MEMBER_ADD"
    GuildMemberUpdate "GUILD_MEMBER_UPDATE"
    GuildMemberRemove "GUILD_MEMBER_REMOVE"
    GuildMembersChunk "GUILD_MEMBERS_CHUNK"
    GuildRoleCreate "GUILD_ROLE_CREATE"
    GuildRoleUpdate "GUILD_ROLE_UPDATE"
    GuildRoleDelete "GUILD_ROLE_DELETE"
    PresenceUpdate "PRESENCE_UPDATE"
    TypingStart "TYPING_START"
    MessageCreate "MESSAGE_CREATE"
    MessageUpdate "MESSAGE_UPDATE"
    MessageDelete "MESSAGE_DELETE"
    MessageDeleteBulk "MESSAGE_DELETE_BULK"
    MessageReactionAdd "MESSAGE_REACTION_ADD"
    MessageReactionRemove "MESSAGE_REACTION_REMOVE"
    MessageReactionRemoveAll "MESSAGE_REACTION_REMOVE_ALL"
    MessageReactionRemoveEmoji "MESSAGE_REACTION_REMOVE_EMOJI"
    MessagePollVoteAdd "MESSAGE_POLL_VOTE_ADD"
    MessagePollVoteRemove "MESSAGE_POLL_VOTE_REMOVE"
    VoiceStateUpdate "VOICE_STATE_UPDATE"
    StageInstanceCreate "STAGE_INSTANCE_CREATE"
    StageInstanceUpdate "STAGE_INSTANCE_UPDATE"
    StageInstanceDelete "STAGE_INSTANCE_DELETE"
    GuildScheduledEventCreate "GUILD_SCHEDULED_EVENT_CREATE"
    GuildScheduledEventUpdate "GUILD_SCHEDULED_EVENT_UPDATE"
    GuildScheduledEventDelete "GUILD_SCHEDULED_EVENT_DELETE"
    GuildScheduledEventUserAdd "GUILD_SCHEDULED_EVENT_USER_ADD"
    GuildScheduledEventUserRemove "GUILD_SCHEDULED_EVENT_USER_REMOVE"
    GuildSoundboardSoundCreate "GUILD_SOUNDBOARD_SOUND_CREATE"
    GuildSoundboardSoundUpdate "GUILD_SOUNDBOARD_SOUND_UPDATE"
    GuildSoundboardSoundDelete "GUILD_SOUNDBOARD_SOUND_DELETE"
    GuildSoundboardSoundsUpdate "GUILD_SOUNDBOARD_SOUNDS_UPDATE"
    SoundboardSounds "SOUNDBOARD_SOUNDS"
    InteractionCreate "INTERACTION_CREATE"
}

impl Event {
    /// Whether the event can change anything that is held: if not, its body need not be read.
    pub fn matters(self, holding: &Holding) -> bool {
        let any = |kinds: &[Kind]| kinds.iter().any(|kind| holding.kinds.contains(*kind));
        let messages = holding.message_cache_size > 0 && any(&[Kind::Message]);
        match self {
            Event::PresenceUpdate => any(&[Kind::Presence, Kind::User, Kind::Member]),
            Event::TypingStart | Event::InteractionCreate => any(&[Kind::Member, Kind::User]),
            Event::VoiceStateUpdate => any(&[Kind::VoiceState, Kind::Member, Kind::User]),
            Event::MessageCreate => {
                let channels = [Kind::Channel, Kind::Thread, Kind::PrivateChannel];
                messages || any(&channels) || any(&[Kind::Member, Kind::User])
            }
            Event::MessageUpdate | Event::MessageReactionAdd => messages || any(&[Kind::Member, Kind::User]),
            Event::MessageDelete | Event::MessageDeleteBulk => messages || any(&[Kind::Thread]),
            Event::MessageReactionRemove
            | Event::MessageReactionRemoveAll
            | Event::MessageReactionRemoveEmoji
            | Event::MessagePollVoteAdd
            | Event::MessagePollVoteRemove => messages,
            _ => true,
        }
    }
}

impl Step<'_> {
    /// Applies an event. `None`: the body does not fit, nothing changed.
    pub fn dispatch(&mut self, event: Event, d: Value<'_>) -> Option<()> {
        if !d.is_object() {
            return None;
        }
        match event {
            Event::Ready => self.ready(d),
            Event::UserUpdate => self.user_update(d),
            Event::GuildCreate => self.guild_create(d),
            Event::GuildUpdate => self.guild_update(d),
            Event::GuildDelete => self.guild_delete(d),
            Event::GuildEmojisUpdate => self.replace_set(keys::EMOJI, d, "emojis"),
            Event::GuildStickersUpdate => self.replace_set(keys::STICKER, d, "stickers"),
            Event::SoundboardSounds => self.replace_set(keys::SOUND, d, "soundboard_sounds"),
            Event::IntegrationCreate | Event::IntegrationUpdate => self.upsert_child(keys::INTEGRATION, d, d),
            Event::IntegrationDelete => self.delete_child(keys::INTEGRATION, d),
            Event::ChannelCreate | Event::ChannelUpdate => self.channel_upsert(d),
            Event::ChannelDelete => self.channel_delete(d),
            Event::ChannelInfo => self.channel_info(d),
            Event::VoiceChannelStatusUpdate => self.channel_fields(d, "id", &["status"], false),
            Event::VoiceChannelStartTimeUpdate => self.channel_fields(d, "id", &["voice_start_time"], true),
            Event::ChannelPinsUpdate => self.channel_fields(d, "channel_id", &["last_pin_timestamp"], false),
            Event::ThreadCreate => self.thread_create(d),
            Event::ThreadUpdate => self.thread_upsert(d).map(drop),
            Event::ThreadDelete => self.thread_delete(d),
            Event::ThreadListSync => self.thread_list_sync(d),
            Event::ThreadMemberUpdate => self.thread_member_update(d),
            Event::ThreadMembersUpdate => self.thread_members_update(d),
            Event::GuildMemberAdd => self.member_add(d),
            Event::GuildMemberUpdate => self.member_update(d),
            Event::GuildMemberRemove => self.member_remove(d),
            Event::GuildMembersChunk => self.members_chunk(d),
            Event::GuildRoleCreate | Event::GuildRoleUpdate => {
                let role = d.get("role").filter(|role| role.is_object())?;
                self.upsert_child(keys::ROLE, d, role)
            }
            Event::GuildRoleDelete => self.role_delete(d),
            Event::PresenceUpdate => self.presence_update(d),
            Event::TypingStart => self.typing_start(d),
            Event::MessageCreate => self.message_create(d),
            Event::MessageUpdate => self.message_update(d),
            Event::MessageDelete => self.message_delete(d),
            Event::MessageDeleteBulk => self.message_delete_bulk(d),
            Event::MessageReactionAdd => self.reaction(d, true),
            Event::MessageReactionRemove => self.reaction(d, false),
            Event::MessageReactionRemoveAll => self.reactions_clear(d),
            Event::MessageReactionRemoveEmoji => self.reactions_of_emoji(d),
            Event::MessagePollVoteAdd => self.vote(d, true),
            Event::MessagePollVoteRemove => self.vote(d, false),
            Event::VoiceStateUpdate => self.voice_state_update(d),
            Event::StageInstanceCreate | Event::StageInstanceUpdate => self.upsert_child(keys::STAGE, d, d),
            Event::StageInstanceDelete => self.delete_child(keys::STAGE, d),
            Event::GuildScheduledEventCreate | Event::GuildScheduledEventUpdate => {
                self.upsert_child(keys::EVENT, d, d)
            }
            Event::GuildScheduledEventDelete => self.delete_child(keys::EVENT, d),
            Event::GuildScheduledEventUserAdd => self.event_users(d, 1),
            Event::GuildScheduledEventUserRemove => self.event_users(d, -1),
            Event::GuildSoundboardSoundCreate | Event::GuildSoundboardSoundUpdate => {
                self.upsert_child(keys::SOUND, d, d)
            }
            Event::GuildSoundboardSoundDelete => self.delete_child(keys::SOUND, d),
            Event::GuildSoundboardSoundsUpdate => self.upsert_sounds(d),
            Event::InteractionCreate => self.interaction(d),
        }
    }
}

// ---- Reading bodies. A null id or list reads as absent; one that is malformed makes the body a misfit (`None`).

/// An id that must be there.
pub(super) fn id(d: Value<'_>, key: &str) -> Option<u64> {
    d.get(key).and_then(Value::as_id)
}

/// An id that may be absent or null.
pub(super) fn maybe_id(d: Value<'_>, key: &str) -> Option<Option<u64>> {
    match d.get(key).filter(|value| !value.is_null()) {
        None => Some(None),
        Some(value) => value.as_id().map(Some),
    }
}

/// A list that may be absent or null.
pub(super) fn maybe_list<'d>(d: Value<'d>, key: &str) -> Option<Option<Value<'d>>> {
    match d.get(key).filter(|value| !value.is_null()) {
        None => Some(None),
        Some(value) => value.is_array().then_some(Some(value)),
    }
}

/// The objects of a list that [`maybe_list`] read.
pub(super) fn objects<'d>(list: Option<Value<'d>>) -> impl Iterator<Item = Value<'d>> {
    list.into_iter().flat_map(Value::elements).filter(|element| element.is_object())
}

/// The object under `key`, if it is one.
pub(super) fn object<'d>(d: Value<'d>, key: &str) -> Option<Value<'d>> {
    d.get(key).filter(|value| value.is_object())
}

/// Whether a flag is exactly true.
pub(super) fn is_true(d: Value<'_>, key: &str) -> bool {
    d.get(key).and_then(Value::as_bool) == Some(true)
}
