//! The identify queue: who may identify, and when.
//!
//! Discord allows one IDENTIFY per 5 s in each of `max_concurrency` buckets (a shard's bucket is its id modulo
//! that number), and a number of them per day; going over the second ends every session and resets the token.
//! [`Machine`] hands out permits within both. It does no IO, so that any runtime can drive it.

mod budget;
pub mod machine;
mod snapshot;
#[cfg(test)]
mod tests;

pub use budget::SessionStartLimit;
pub use machine::{Full, Machine, Options, Permit, Stats};
pub use snapshot::Snapshot;
