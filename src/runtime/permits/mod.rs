//! Who lets this process' shards identify: a queue of its own, or the one that several processes share.
//!
//! Wishes in, permits out, on one thread of the process.

mod asking;
mod own;

pub use asking::{Service, ServiceOptions};
pub use own::Own;

use crate::queue::Report;

/// What a shard says about its wish to identify, by the ticket of its machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// It wants to.
    Want(u64),
    /// It does not any more.
    Cancel(u64),
    /// Its IDENTIFY has gone out.
    Used(u64),
    /// Discord has answered, so the IDENTIFY has arrived.
    Answered(u64),
}

impl Wish {
    /// The ticket, and what became of its permit if it has one.
    fn report(self) -> Option<(u64, Report)> {
        match self {
            Wish::Want(_) => None,
            Wish::Cancel(ticket) => Some((ticket, Report::Returned)),
            Wish::Used(ticket) => Some((ticket, Report::Identified)),
            Wish::Answered(ticket) => Some((ticket, Report::Answered)),
        }
    }
}

/// The shard of a ticket, which carries it in its upper half.
pub fn shard_of(ticket: u64) -> u32 {
    (ticket >> 32) as u32
}

/// Where permits come from.
pub enum Permits {
    /// The process' own queue.
    Own(Box<Own>),
    /// A service that other processes ask too (QUEUE_URL).
    Service(Box<Service>),
}

impl Permits {
    /// The next ticket that is let through.
    pub fn poll_permit(&mut self) -> Option<u64> {
        match self {
            Permits::Own(own) => own.poll_permit(),
            Permits::Service(service) => service.poll_permit(),
        }
    }
}
