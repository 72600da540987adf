//! What the broker's notices and counts read like in a log, and how many of them there may be.

use std::time::{Duration, Instant};

use crate::broker::{Notice, Stats};

/// Lines about what clients did, in each period. A client in a loop of mistakes must not fill a disk.
const LINES_PER_PERIOD: u32 = 30;
const PERIOD: Duration = Duration::from_secs(60);
/// Lines about memory in each period, beyond those: they concern whoever runs the broker, but clients can bring them about.
const MEMORY_LINES_PER_PERIOD: u32 = 10;

/// What was said lately.
#[derive(Debug, Default)]
pub(super) struct Words {
    period_began: Option<Instant>,
    lines: u32,
    memory_lines: u32,
    last: Stats,
}

impl Words {
    pub(super) fn log(&mut self, now: Instant, notice: &Notice) {
        if self.period_began.is_none_or(|began| now >= began + PERIOD) {
            self.period_began = Some(now);
            (self.lines, self.memory_lines) = (0, 0);
        }
        if matches!(notice, Notice::MemoryShort { .. } | Notice::MemoryFree) {
            self.memory_lines += 1;
            if self.memory_lines > MEMORY_LINES_PER_PERIOD {
                return;
            }
        }
        match notice {
            Notice::MemoryShort { bytes, bytes_max } => {
                return log::warn!(
                    "messages take {} of {} MiB: publishers wait until consumers have taken some (BROKER_MEMORY)",
                    bytes >> 20,
                    bytes_max >> 20
                );
            }
            Notice::MemoryFree => return log::info!("publishers go on"),
            _ => {}
        }
        self.lines += 1;
        if self.lines == LINES_PER_PERIOD {
            log::warn!("more is said about clients than can be of use: the rest of this minute is left out");
        }
        if self.lines >= LINES_PER_PERIOD {
            return;
        }
        match notice {
            Notice::Opened { user } => log::debug!("a client has logged in as {user}"),
            Notice::LoginRefused { user, not_from_here: true } => {
                log::warn!(
                    "{user} may only come from this machine, since everybody knows the password: set BROKER_USERS"
                );
            }
            Notice::LoginRefused { user, .. } => {
                log::warn!("a login as {user} was refused: wrong user or password")
            }
            Notice::ChannelFault(what) => log::info!("a client's channel was closed: {what}"),
            Notice::ConnectionFault(what) => log::info!("a client's connection was closed: {what}"),
            Notice::SlowHandshake => log::info!("a client did not finish its handshake in time"),
            Notice::Silent => log::info!("a client is dropped: nothing came for two heartbeats"),
            Notice::Stalled => log::warn!("a client is dropped: it does not read what it is sent"),
            Notice::NoEffect { queue, what } => log::info!("queue {queue}: {what}"),
            Notice::Limit { what, count } => log::warn!("a limit was met ({}), {count} in all", what.name()),
            Notice::MemoryShort { .. } | Notice::MemoryFree => {}
        }
    }

    /// A line now and then, when something has happened since the last one.
    pub(super) fn status(&mut self, stats: &Stats) {
        if (stats.published, stats.delivered) != (self.last.published, self.last.delivered) {
            log::info!(
                "{} messages came and {} went in the last minute; {} are here in {} KiB, {} clients, {} queues",
                stats.published - self.last.published,
                stats.delivered - self.last.delivered,
                stats.messages,
                stats.message_bytes >> 10,
                stats.connections,
                stats.queues
            );
        }
        self.last = *stats;
    }
}
