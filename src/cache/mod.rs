//! What the gateway remembers of Discord: entities in a fixed amount of memory.
//!
//! Enters: bodies of dispatches. Leaves: entities as JSON text. No IO, no clock, no locks: a part of the cache
//! belongs to one shard's task.

pub mod encoding;
