//! Discord's gateway protocol: envelope, commands, sessions, the shard machine.

pub mod envelope;
pub mod scan;
