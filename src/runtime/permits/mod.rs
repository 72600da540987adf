//! Who lets this process' shards identify: a queue of its own, or the one that several processes share.
//!
//! Wishes in, permits out, on one thread of the process.

mod own;
mod remote;

pub use own::Own;
pub use remote::{Remote, RemoteOptions};

use std::time::{Duration, Instant};

use crate::http::{self, GatewayBot};
use crate::queue::{Report, SessionStartLimit};
use crate::status::figures::Identify;

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

/// Discord's session start limit in the queue's words.
pub fn limit_of(bot: &GatewayBot) -> SessionStartLimit {
    let limit = &bot.session_start_limit;
    SessionStartLimit {
        total: limit.total,
        remaining: limit.remaining,
        reset_after: Duration::from_millis(limit.reset_after_ms),
        max_concurrency: limit.max_concurrency,
    }
}

/// Where permits come from.
pub enum Permits {
    /// The process' own queue.
    Own(Box<Own>),
    /// A service that other processes ask too (QUEUE_URL).
    Remote(Box<Remote>),
}

impl Permits {
    /// Discord has said again how many session starts are left, or nothing that helps.
    pub fn told(&mut self, now: Instant, told: &Result<GatewayBot, http::Error>) {
        let limit = match told {
            Ok(bot) => Some(limit_of(bot)),
            Err(http::Error::Stopped) => None,
            // Shards hear from Discord themselves what that means for them.
            Err(http::Error::Fatal(why)) => {
                log::warn!("session starts are counted without Discord from here on: {why}");
                None
            }
        };
        match self {
            Permits::Own(own) => own.told(now, limit),
            Permits::Remote(remote) => remote.told(now, limit),
        }
    }

    /// What is shown of it.
    pub fn figures(&self) -> Identify {
        match self {
            Permits::Own(own) => own.figures(),
            Permits::Remote(remote) => remote.figures(),
        }
    }

    /// When to call [`Permits::handle_deadline`].
    pub fn poll_timeout(&self) -> Option<Instant> {
        match self {
            Permits::Own(own) => own.poll_timeout(),
            Permits::Remote(remote) => remote.poll_timeout(),
        }
    }

    /// Time has passed.
    pub fn handle_deadline(&mut self, now: Instant) {
        match self {
            Permits::Own(own) => own.handle_deadline(now),
            Permits::Remote(remote) => remote.ask_discord(now),
        }
    }

    /// The next ticket that is let through.
    pub fn poll_permit(&mut self) -> Option<u64> {
        match self {
            Permits::Own(own) => own.poll_permit(),
            Permits::Remote(remote) => remote.poll_permit(),
        }
    }
}
