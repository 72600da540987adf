//! From memory to the disk and back.

use std::fmt;
use std::time::{Duration, Instant};

use crate::amqp::publish::routing_key;
use crate::reactor::Turn;
use crate::relay::gap::Gap;
use crate::relay::outbox::Record;
use crate::relay::{Batch, Framing, Progress};
use crate::state::spool::{self, Entry, Error, Files, Loss, Next};

use super::{Held, Link, Mode, Publisher};

/// How much is copied to the disk in one turn: some milliseconds, after which sockets have theirs.
const COPY_BYTES_PER_TURN: usize = 4 * 1024 * 1024;

/// How much is read back in one turn: its share of the thread, so that shards are read and answered meanwhile.
const DRAIN_BYTES_PER_TURN: usize = 1024 * 1024;

/// How long a disk that refuses is left alone.
const RETRY_WAIT: Duration = Duration::from_secs(1);

/// How often a disk that goes on refusing is mentioned.
const TELL_INTERVAL: Duration = Duration::from_secs(60);

impl<F: Files> Publisher<F> {
    /// Moves what has to be moved between memory and disk. To be called whenever something came in or was confirmed, before
    /// the outbox is written. `report` is told what counts as safe by that.
    pub fn turn(&mut self, turn: Turn, link: Link, report: &mut impl FnMut(Progress)) {
        self.more = false;
        if self.spool.is_none() || (self.mode == Mode::Outbox && self.is_quiet()) {
            (self.write_at, self.read_at) = (None, None);
            return;
        }
        self.settle_spool();
        self.write_at.take_if(|at| *at <= turn.now);
        self.read_at.take_if(|at| *at <= turn.now);
        if self.mode == Mode::Outbox && !self.outbox.has_room() {
            self.mode = Mode::Copying;
        }
        if self.mode == Mode::Copying {
            // The broker may have made room meanwhile.
            let half = self.outbox.memory_bytes_max() / 2;
            if self.outbox.has_room() && self.outbox.memory_bytes() <= half {
                self.mode = Mode::Outbox;
            } else if self.write_at.is_none() {
                self.copy(turn, COPY_BYTES_PER_TURN, report);
            }
        }
        if self.mode == Mode::Spool {
            self.spool_held(turn, report);
            if link.drains && self.read_at.is_none() {
                self.drain(turn, link);
            }
        }
        self.announce_shed(turn, link.frame_max, report);
    }

    /// The process ends and the broker has not confirmed everything: puts all of it on disk, for the next one. Whether that
    /// went well.
    pub fn put_away(&mut self, turn: Turn, frame_max: u32, report: &mut impl FnMut(Progress)) -> bool {
        if self.spool.is_none() {
            return false;
        }
        self.settle_spool();
        self.write_at = None;
        if self.mode != Mode::Spool {
            self.mode = Mode::Copying;
            self.copy(turn, usize::MAX, report);
        }
        if self.mode == Mode::Spool {
            self.spool_held(turn, report);
            self.shedding.ends();
            self.announce_shed(turn, frame_max, report);
        }
        self.mode == Mode::Spool && self.held.is_empty()
    }

    /// Whether the disk has nothing to do with anything.
    fn is_quiet(&self) -> bool {
        self.outbox.has_room() && self.spool.as_ref().is_none_or(|spool| spool.is_empty())
    }

    /// Tells the spool what the broker has.
    fn settle_spool(&mut self) {
        if let Some(spool) = &mut self.spool {
            // A refusal is counted there and tried again by itself; what it leaves is at worst published twice.
            let _ = spool.confirmed(self.outbox.spool_confirmed());
        }
    }

    /// Copies what is in the outbox. When all of it is on disk, the spool takes over.
    fn copy(&mut self, turn: Turn, bytes_max: usize, report: &mut impl FnMut(Progress)) {
        let Some(spool) = &mut self.spool else { return };
        let (shards, first_slot) = (&self.options.shards, self.options.first_slot);
        let mut bytes = 0;
        let mut failed = None;
        while let Some(next) = self.outbox.uncopied() {
            if bytes >= bytes_max {
                self.more = true;
                break;
            }
            bytes += next.bytes.len();
            let start = next.start;
            let entry = Entry {
                shard: shards.start + next.shard.wrapping_sub(first_slot),
                frame_max: next.frame_max,
                maybe_published: next.maybe_published,
                records: next.records.iter().map(|record| spooled(record, start)),
                bytes: next.bytes,
            };
            match spool.append(entry, routing_key) {
                Ok(appended) => {
                    // What was left out is in memory and goes out from there.
                    let safe = progress(next.shard, next.records);
                    self.outbox.copied(appended.end);
                    safe.into_iter().for_each(&mut *report);
                }
                Err(error) => {
                    failed = Some(error);
                    break;
                }
            }
        }
        spool.hand_out_unread();
        if let Some(error) = failed {
            self.write_refused(turn.now, &error);
        } else if !self.more {
            self.mode = Mode::Spool;
            self.overflows += 1;
            log::info!(
                cluster = self.options.cluster;
                "the outbox is full: events go to the disk until the broker has taken what waits"
            );
        }
    }

    /// Puts on disk what came in, as far as it takes it.
    pub(super) fn spool_held(&mut self, turn: Turn, report: &mut impl FnMut(Progress)) {
        let Some(spool) = self.spool.as_mut().filter(|_| self.write_at.is_none()) else { return };
        while let Some(held) = self.held.front() {
            let (slot, batch) = (held.slot, &held.batch);
            let entry = Entry {
                shard: self.options.shards.start + slot.wrapping_sub(self.options.first_slot),
                frame_max: batch.frame_max,
                maybe_published: false,
                records: batch.records.iter().map(|record| spooled(record, 0)),
                bytes: &batch.bytes,
            };
            match spool.append(entry, routing_key) {
                Ok(appended) => {
                    self.shedding.note(turn.wall_ms, slot, &batch.records, &appended);
                    progress(slot, &batch.records).into_iter().for_each(&mut *report);
                    if let Some(Held { batch, promised, .. }) = self.held.pop_front() {
                        self.outbox.release(promised);
                        self.outbox.put_spare(batch);
                    }
                }
                Err(error) => return self.write_refused(turn.now, &error),
            }
        }
    }

    /// Reads back what the broker can take now. When nothing is left, the outbox takes over.
    fn drain(&mut self, turn: Turn, link: Link) {
        let mut bytes = 0;
        // A quarter: enough under way for a broker that confirms late, and room for what is read from Discord.
        while bytes < DRAIN_BYTES_PER_TURN
            && (self.outbox.is_empty() || self.outbox.memory_bytes() < self.outbox.memory_bytes_max() / 4)
        {
            let Some(spool) = &mut self.spool else { return };
            match spool.next(&mut self.block) {
                Ok(Next::Block) => {
                    bytes += self.block.bytes.len();
                    self.push_block();
                }
                Ok(Next::Lost(loss)) => self.announce_loss(turn, link.frame_max, &loss),
                Ok(Next::End) => {
                    // What the disk did not take follows from memory.
                    self.mode = Mode::Outbox;
                    for Held { slot, batch, promised } in std::mem::take(&mut self.held) {
                        self.outbox.release(promised);
                        self.outbox.push(slot, batch);
                    }
                    self.shedding.ends();
                    log::info!(cluster = self.options.cluster; "everything on disk is on its way to the broker");
                    return;
                }
                Err(error) => {
                    self.read_at = Some(turn.now + RETRY_WAIT);
                    return self
                        .tell_refusal(turn.now, format_args!("cannot be read back from STATE_DIR: {error}"));
                }
            }
        }
    }

    fn push_block(&mut self) {
        let slot = self.slot_of(self.block.shard);
        let mut batch = self.outbox.take_spare();
        std::mem::swap(&mut batch.bytes, &mut self.block.bytes);
        batch.frame_max = self.block.frame_max;
        batch.records.extend(
            self.block.records.iter().map(|record| Record::new(record.session, record.seq, record.end)),
        );
        self.outbox.push_spooled(slot, batch, self.block.maybe_published, self.block.end);
    }

    fn announce_loss(&mut self, turn: Turn, frame_max: u32, loss: &Loss) {
        let after = loss.after.filter(|(session, _)| *session == loss.last.0).map_or(0, |(_, seq)| seq);
        log::error!(
            cluster = self.options.cluster, shard = loss.shard;
            "events up to {} are lost: they cannot be read back from STATE_DIR", loss.last.1
        );
        let gap = Gap {
            session_hash: loss.last.0,
            last_seq: after,
            from_ms: turn.wall_ms,
            reason: format!("events up to seq {} were on disk and cannot be read any more", loss.last.1),
        };
        let mut batch = Batch::default();
        let framing = self.framing(frame_max);
        // No name of ours is too long to be framed.
        if gap.publish(loss.shard, turn.wall_ms, &framing, &mut batch).is_ok() {
            self.outbox.push_spooled(self.slot_of(loss.shard), batch, false, 0);
        }
    }

    /// Tells the workers of shards of which events were left out, once that is over.
    fn announce_shed(&mut self, turn: Turn, frame_max: u32, report: &mut impl FnMut(Progress)) {
        if self.shedding.is_empty() {
            return;
        }
        if self.spool.as_ref().is_none_or(|spool| !spool.is_shedding()) {
            self.shedding.ends();
        }
        while let Some((slot, gap)) = self.shedding.pop_over() {
            let mut batch = self.outbox.take_spare();
            let (shard, framing) = (self.shard_of(slot), self.framing(frame_max));
            if gap.publish(shard, turn.wall_ms, &framing, &mut batch).is_ok() {
                log::warn!(cluster = self.options.cluster, shard; "{}", gap.reason);
                self.accept(turn, slot, batch, 0, report);
            }
        }
    }

    fn framing(&self, frame_max: u32) -> Framing {
        Framing {
            exchange: self.options.exchange.clone(),
            frame_max,
            ready_secrets: false,
            persistent: self.options.persistent,
            events: Default::default(),
        }
    }

    /// The disk takes nothing for now.
    fn write_refused(&mut self, now: Instant, error: &Error) {
        // Room within SPOOL_SIZE comes with confirms, each of which leads here again.
        if !matches!(error, Error::Full) {
            self.write_at = Some(now + RETRY_WAIT);
        }
        let advice = match error {
            Error::Full => " (SPOOL_SIZE, a share of it for each cluster)",
            Error::Io(_) | Error::Entry(_) => "",
        };
        self.tell_refusal(
            now,
            format_args!("cannot go to STATE_DIR: {error}; Discord waits until there is room{advice}"),
        );
    }

    fn tell_refusal(&mut self, now: Instant, what: fmt::Arguments<'_>) {
        self.refusals += 1;
        if self.told_at.is_none_or(|at| now.saturating_duration_since(at) >= TELL_INTERVAL) {
            self.told_at = Some(now);
            log::error!(cluster = self.options.cluster; "events that wait for the broker {what}");
        }
    }
}

/// A record as the spool takes it, with its end counted from `start`.
fn spooled(record: &Record, start: usize) -> spool::Record {
    spool::Record { seq: record.seq, session: record.session, end: record.end - start }
}

/// What counts as safe when these are on disk.
fn progress(slot: u32, records: &[Record]) -> Option<Progress> {
    let last = records.iter().rev().find(|record| record.seq > 0)?;
    Some(Progress { shard: slot, session: last.session, seq: last.seq, spooled: true })
}
