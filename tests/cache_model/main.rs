//! The cache's model test: an oracle in plain maps, checked by itself; later the real cache runs beside it.

#![allow(missing_docs, reason = "test support")]
#![allow(dead_code, reason = "some of it waits for the cache")]

mod damage;
mod events;
mod generator;
mod invariants;
mod kept;
mod messages;
mod oracle;
mod queries;
mod real;
mod seeds;
mod semantics;
mod story;
