//! The names that workers rely on, each formed in one place (contract of the original rateway).

/// Routing key of gateway commands, and the queue's first binding.
pub const COMMAND_KEY: &str = "gateway";

/// Routing key of cache queries, and the queue's second binding.
pub const QUERY_KEY: &str = "cache";

/// The exchange of cluster `number` (from 1): its events go out on it, commands and queries come in by it.
pub fn exchange(number: u32) -> String {
    format!("rateway-{number}")
}

/// The queue that rateway reads for cluster `number`.
pub fn incoming_queue(number: u32) -> String {
    format!("rateway-incoming-{number}")
}

/// The shard of a guild: Discord's routing rule, `(guild_id >> 22) % shard_count`.
pub fn shard_of_guild(guild_id: u64, shard_count: u32) -> u32 {
    // The remainder of a division by a u32 fits a u32.
    ((guild_id >> 22) % u64::from(shard_count.max(1))) as u32
}
