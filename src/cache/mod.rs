//! What rateway remembers of Discord: entities in a fixed amount of memory.
//!
//! Will enter: bodies of dispatches. Will leave: entities as JSON text. No IO, no clock, no locks: a part of the cache
//! belongs to one shard's task. So far there are its two foundations, which nothing uses yet: [`arena`], memory of a
//! fixed size with an ordered map in it, and [`encoding`], JSON in few bytes and back without loss.

pub mod arena;
pub mod encoding;
