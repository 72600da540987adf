//! The identify queue on its thread: wishes in, permits out.

use std::time::Instant;

use crate::queue::Machine;

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

/// The shard of a ticket, which carries it in its upper half.
pub fn shard_of(ticket: u64) -> u32 {
    (ticket >> 32) as u32
}

/// Wraps the queue's machine for the thread that has it.
#[derive(Debug)]
pub struct Permits {
    machine: Machine,
}

impl Permits {
    /// The queue of this process.
    pub fn new(machine: Machine) -> Permits {
        Permits { machine }
    }

    /// Passes a shard's wish on.
    pub fn handle(&mut self, now: Instant, wish: Wish) {
        match wish {
            Wish::Want(ticket) => {
                if self.machine.request(now, ticket, shard_of(ticket)).is_err() {
                    // One wish per shard, and the queue has room for every shard of the process.
                    log::error!(shard = shard_of(ticket); "the identify queue is full: this shard will not identify");
                }
            }
            Wish::Cancel(ticket) => self.machine.cancel(now, ticket),
            Wish::Used(ticket) => self.machine.identified(now, ticket, shard_of(ticket)),
            Wish::Answered(ticket) => self.machine.answered(now, ticket, shard_of(ticket)),
        }
    }

    /// The next ticket that is let through.
    pub fn poll_permit(&mut self) -> Option<u64> {
        self.machine.poll_permit().map(|permit| permit.ticket)
    }

    /// When to call [`Permits::handle_deadline`].
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.machine.poll_timeout()
    }

    /// Time has passed.
    pub fn handle_deadline(&mut self, now: Instant) {
        self.machine.handle_deadline(now);
    }
}
