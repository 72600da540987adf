//! The identify queue of this process: the machine, what of it outlives the process, and Discord's word.

use std::sync::Arc;
use std::time::Instant;

use super::{Wish, shard_of};
use crate::http::Asker;
use crate::queue::{Machine, Options, Refresh, SessionStartLimit};
use crate::reactor::clock;
use crate::state::Folder;
use crate::status::figures::Identify;

/// The file in STATE_DIR.
const FILE: &str = "identify.json";

/// The process' own queue.
pub struct Own {
    machine: Machine,
    folder: Option<Arc<Folder>>,
    saved_busy: bool,
    errors: u64,
    refresh: Refresh,
    asker: Asker,
}

impl Own {
    /// A queue that goes on from what `folder` holds and from what Discord said when it was asked at `asked_at`.
    /// `options` say the rest.
    pub fn new(
        options: Options,
        folder: Option<Arc<Folder>>,
        limit: &SessionStartLimit,
        asked_at: Instant,
        asker: Asker,
    ) -> Own {
        let turn = clock::read();
        let remembered = folder.as_ref().and_then(|folder| folder.read_identify(FILE, turn.wall_ms));
        let mut machine = match remembered {
            Some((snapshot, elapsed)) => Machine::restore(options, &snapshot, elapsed, turn.now),
            None => {
                let mut machine = Machine::new(options, turn.now);
                if limit.remaining < limit.total {
                    // Some session was started today, and nobody knows how long ago.
                    machine.keep_distance(turn.now);
                }
                machine
            }
        };
        machine.refresh(turn.now, asked_at, limit);
        let mut refresh = Refresh::default();
        refresh.asked(asked_at, 0);
        refresh.told(turn.now, true);
        Own { machine, folder, saved_busy: false, errors: 0, refresh, asker }
    }

    /// Passes a shard's wish on.
    pub fn handle(&mut self, wish: Wish) {
        // Not when the turn began: what is told has happened before now.
        let now = clock::read().now;
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

    /// The next ticket that is let through; written down before anybody hears of it.
    pub fn poll_permit(&mut self) -> Option<u64> {
        let permit = self.machine.poll_permit();
        if permit.is_some() || self.machine.is_quiet() == self.saved_busy {
            self.save();
        }
        permit.map(|permit| permit.ticket)
    }

    fn save(&mut self) {
        let snapshot = self.machine.snapshot();
        self.saved_busy = snapshot.busy;
        let Some(folder) = &self.folder else { return };
        if let Err(error) = folder.write_identify(FILE, &snapshot, clock::read().wall_ms) {
            // The next look at it tries again.
            self.saved_busy = !snapshot.busy;
            self.errors += 1;
            if self.errors.is_power_of_two() {
                log::error!("session starts cannot be written to {}: {error}", folder.path().display());
            }
        }
    }

    /// What is shown of it.
    pub fn figures(&self) -> Identify {
        let machine = &self.machine;
        Identify {
            remaining: machine.remaining(),
            total: machine.total(),
            max_concurrency: machine.max_concurrency(),
            waiting: machine.waiting() as u64,
            granted: machine.stats().granted,
            reset_at: machine.reset_at(),
            is_remote: false,
        }
    }

    /// When to call [`Own::handle_deadline`].
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.machine.poll_timeout().into_iter().chain(self.refresh.due_for(&self.machine)).min()
    }

    /// Time has passed.
    pub fn handle_deadline(&mut self, now: Instant) {
        self.machine.handle_deadline(now);
        if self.refresh.due_for(&self.machine).is_some_and(|at| at <= now) {
            self.refresh.asked(now, self.machine.stats().granted);
            self.asker.ask();
        }
    }

    /// Discord has said again how many session starts are left.
    pub fn told(&mut self, now: Instant, limit: Option<SessionStartLimit>) {
        let asked_at = self.refresh.told(now, limit.is_some());
        if let Some(limit) = limit {
            self.machine.refresh(now, asked_at, &limit);
        }
    }
}
