//! What rateway remembers of Discord, inside a fixed amount of memory.

pub mod arena;
