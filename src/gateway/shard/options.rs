//! What a shard is set to.

use crate::base::Secret;
use std::time::Duration;

/// How long each step may take. All of them stand still while nothing is read, see
/// [`Input::ReadPaused`](super::Input::ReadPaused).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Name lookup, TCP, TLS and upgrade. 20 s: three lost SYNs and a slow handshake still pass.
    pub connect: Duration,
    /// Upgrade to HELLO, which Discord sends at once. 20 s, as above.
    pub hello: Duration,
    /// IDENTIFY to READY. 300 s: during an outage Discord asks to wait on the open connection, a dead one is found
    /// by its heartbeats, and each new try would cost a session start.
    pub ready: Duration,
    /// RESUME, or the last event replayed, to RESUMED. 60 s: another try is free.
    pub resumed: Duration,
    /// Close frame to the peer's. 5 s: what arrives meanwhile is still read, but a stop or a reconnect that Discord
    /// asked for should not take long.
    pub close: Duration,
}

impl Default for Timeouts {
    fn default() -> Timeouts {
        Timeouts {
            connect: Duration::from_secs(20),
            hello: Duration::from_secs(20),
            ready: Duration::from_secs(300),
            resumed: Duration::from_secs(60),
            close: Duration::from_secs(5),
        }
    }
}

/// What the shards of one bot have in common.
#[derive(Clone, Debug)]
pub struct Options {
    /// The bot's token.
    pub token: Secret,
    /// Intents by bit.
    pub intents: u64,
    /// How many shards there are in all.
    pub shard_count: u32,
    /// Member count above which GUILD_CREATE leaves offline members out (50..=250).
    pub large_threshold: Option<u8>,
    /// Initial presence: op 3's `d` as JSON, judged by the configuration. With the rest of IDENTIFY it has to fit
    /// into 4096 bytes.
    pub presence: Option<String>,
    /// IDENTIFY's `capabilities`.
    pub capabilities: Option<u64>,
    /// Where to connect, from `GET /gateway/bot`.
    pub gateway_url: String,
    /// The query of every connection, such as `v=10&encoding=json&compress=zlib-stream`.
    pub query: String,
    /// Whether a `ws://` resume URL is followed: only where the configured API is plain HTTP itself.
    pub allow_plain: bool,
    /// How long each step may take.
    pub timeouts: Timeouts,
    /// Commands that may wait per shard; the newest is refused when they do. 256: a little over two minutes' worth
    /// of what Discord takes.
    pub commands_waiting_max: usize,
    /// Bytes of waiting commands per shard, with the same answer. 256 KiB: 256 commands of 1 KiB, so that
    /// 1,000 shards whose workers all run wild hold 250 MiB at the very most.
    pub command_bytes_waiting_max: usize,
}

impl Options {
    /// Options with the defaults for all that has one.
    pub fn new(token: Secret, intents: u64, shard_count: u32, gateway_url: impl Into<String>) -> Options {
        Options {
            token,
            intents,
            shard_count,
            large_threshold: None,
            presence: None,
            capabilities: None,
            gateway_url: gateway_url.into(),
            query: "v=10&encoding=json".to_owned(),
            allow_plain: false,
            timeouts: Timeouts::default(),
            commands_waiting_max: 256,
            command_bytes_waiting_max: 256 * 1024,
        }
    }
}
