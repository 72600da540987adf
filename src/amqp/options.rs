//! What the owner of a client decides: names, credentials, limits. Each limit has its default and its reason here.

use std::time::Duration;

use super::error::Error;
use crate::base::Secret;

/// What a client needs to know.
#[derive(Clone, Debug)]
pub struct Options {
    /// The cluster's exchange: `rateway-1`.
    pub exchange: String,
    /// The cluster's queue: `rateway-incoming-1`.
    pub queue: String,
    /// The keys that bind the queue to the exchange: `cache` and `gateway`.
    pub binding_keys: Vec<String>,
    /// Declare the queue durable at once, as after [`Error::TransientQueueRefused`].
    pub queue_durable: bool,
    /// How many messages of workers may be unacknowledged. It bounds what the broker sends ahead.
    pub prefetch: u16,
    /// The virtual host.
    pub vhost: String,
    /// The user.
    pub user: String,
    /// The user's password.
    pub password: Secret,
    /// Our heartbeat, in whole seconds. The lower of ours and the broker's that is not zero counts.
    pub heartbeat: Duration,
    /// The largest frame we ask for; 0 stands for 131072, RabbitMQ's own default. Below 8192 is lifted to it.
    pub frame_max: u32,
    /// What the broker shows for this connection.
    pub connection_name: String,
    /// A message of a worker with a longer body is dropped, acknowledged and reported. 64 KiB: a command has at
    /// most 4096 octets and a cache query far fewer.
    pub delivery_bytes_max: usize,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            exchange: String::new(),
            queue: String::new(),
            binding_keys: Vec::new(),
            queue_durable: false,
            prefetch: 64,
            vhost: "/".to_owned(),
            user: "guest".to_owned(),
            password: Secret::new("guest"),
            heartbeat: Duration::from_secs(30),
            frame_max: Options::FRAME_MAX_DEFAULT,
            connection_name: "rateway".to_owned(),
            delivery_bytes_max: 64 * 1024,
        }
    }
}

impl Options {
    const FRAME_MAX_DEFAULT: u32 = 131_072;
    /// RabbitMQ 4.1 and later refuse a client that asks for less, though the specification allows 4096.
    const FRAME_MAX_LOWEST: u32 = 8192;

    pub(super) fn frame_max_wanted(&self) -> u32 {
        match self.frame_max {
            0 => Options::FRAME_MAX_DEFAULT,
            n => n.max(Options::FRAME_MAX_LOWEST),
        }
    }

    /// The first option that no broker can be told.
    pub(super) fn check(&self) -> Option<Error> {
        let keys = self.binding_keys.iter().map(|key| ("binding_keys", key));
        [("exchange", &self.exchange), ("queue", &self.queue), ("vhost", &self.vhost)]
            .into_iter()
            .chain(keys)
            .find(|(_, value)| value.len() > usize::from(u8::MAX))
            .map(|(name, _)| Error::Options { name })
    }
}
