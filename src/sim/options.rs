//! What the stand-in is like: sizes, limits and tempers of the Discord that a test or a person wants.

use std::time::Duration;

use crate::base::Secret;

/// All documented intents (Discord: Gateway, "List of Intents").
pub const INTENTS_ALL: u64 = 53_608_447;
/// The intents that an application must be granted: members, presences, message content.
pub const INTENTS_PRIVILEGED: u64 = 33_026;

/// The shape of a [`super::Discord`]. [`Options::default`] is a small bot with Discord's own limits.
#[derive(Clone, Debug)]
pub struct Options {
    /// The shard count that `GET /gateway/bot` recommends.
    pub shards: u32,
    /// How many shards may identify within one `identify_spacing`.
    pub max_concurrency: u32,
    /// How many guilds the bot is in, over all shards.
    pub guilds: u32,
    /// How many members each guild has.
    pub members: u32,
    /// Generated dispatches per second over the whole bot; 0 for none.
    pub rate: f64,
    /// From what every generated value follows.
    pub seed: u64,
    /// `session_start_limit.total`.
    pub session_starts_total: u32,
    /// `session_start_limit.remaining` at the start.
    pub session_starts_remaining: u32,
    /// How long after the first session start the count is whole again.
    pub reset_after: Duration,
    /// What HELLO asks for.
    pub heartbeat_interval: Duration,
    /// After how many intervals without a heartbeat a connection is closed with 4009.
    pub heartbeat_tolerance: f64,
    /// How long a session without a connection can be resumed. Discord: "a few minutes"; about 90 s was seen.
    pub session_lifetime: Duration,
    /// How many dispatches of a session can be sent again.
    pub replay_buffer: usize,
    /// The time between two identifies of one bucket.
    pub identify_spacing: Duration,
    /// The one token that is accepted; `None` accepts any.
    pub token: Option<Secret>,
    /// The privileged intents that the application has been granted.
    pub privileged_intents: u64,
    /// `url` of `GET /gateway` and `GET /gateway/bot`.
    pub gateway_url: String,
    /// `resume_gateway_url` of READY; `None` repeats `gateway_url`.
    pub resume_gateway_url: Option<String>,
    /// Client payloads that a connection may send within 60 s.
    pub payloads_per_minute: usize,
    /// The largest payload that a client may send.
    pub payload_bytes_max: usize,
    /// Guilds that one shard may have before IDENTIFY ends in 4011.
    pub guilds_per_shard_max: u32,
    /// The number that a shard count must be a multiple of, as for large bots; else 4010. `None` accepts all.
    pub shard_count_multiple: Option<u32>,
    /// How long after op 7 the server closes the connection by itself.
    pub reconnect_grace: Duration,
    /// The time of day at which the machine starts, in Unix milliseconds: only timestamps in events show it.
    pub epoch_ms: u64,
    /// Dispatches are played by the shell from a recording; see [`super::Discord::play`].
    pub recorded: bool,
    /// How many dispatches the ledger remembers one by one. Past it they are only counted.
    pub ledger_dispatches_max: usize,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            shards: 1,
            max_concurrency: 1,
            guilds: 4,
            members: 20,
            rate: 0.0,
            seed: 1,
            session_starts_total: 1000,
            session_starts_remaining: 1000,
            reset_after: Duration::from_secs(24 * 3600),
            heartbeat_interval: Duration::from_millis(41_250),
            heartbeat_tolerance: 1.5,
            session_lifetime: Duration::from_secs(120),
            replay_buffer: 10_000,
            identify_spacing: Duration::from_secs(5),
            token: None,
            privileged_intents: INTENTS_PRIVILEGED,
            gateway_url: "ws://127.0.0.1:7443".to_owned(),
            resume_gateway_url: None,
            payloads_per_minute: 120,
            payload_bytes_max: 4096,
            guilds_per_shard_max: 2500,
            shard_count_multiple: None,
            reconnect_grace: Duration::from_secs(5),
            epoch_ms: 1_785_700_000_000,
            recorded: false,
            ledger_dispatches_max: 1 << 20,
        }
    }
}
