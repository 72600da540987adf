//! Out at the front: blocks in order, checked, with what is lost told in its place.

use std::io;

use super::files::Files;
use super::format::{Head, Mark, SEGMENT_HEAD};
use super::open::{last_mark, opened};
use super::window::Found;
use super::{Block, Error, Loss, Next, Record, SHARDS_MAX, Spool};

/// How often a place is read that the system will not read, before the rest of its segment is given up. The caller waits
/// a second or more after each, so this is a minute.
pub(super) const READ_TRIES_MAX: u32 = 60;

/// What one step of reading came to.
enum Step {
    /// A block is in the caller's buffer.
    Block,
    /// Something was passed over, or a loss is to be told.
    Again,
    /// Nothing is left.
    End,
}

impl<F: Files> Spool<F> {
    /// Hands out the next block, in the caller's buffer, or tells of events that are lost here. Newer ones may be appended
    /// meanwhile. What is handed out and not confirmed when the process ends is handed out again by the next one.
    ///
    /// # Errors
    /// When the system will not read. To be tried again a second later: a place that stays unreadable for
    /// 60 tries in a row is lost, as far as its segment goes.
    pub fn next(&mut self, block: &mut Block) -> Result<Next, Error> {
        loop {
            if let Some(loss) = self.reading.losses.pop_front() {
                self.stats.losses += 1;
                return Ok(Next::Lost(loss));
            }
            match self.step(block) {
                Ok(Step::Block) => {
                    self.reading.failures = 0;
                    return Ok(Next::Block);
                }
                Ok(Step::Again) => self.reading.failures = 0,
                Ok(Step::End) if self.reading.losses.is_empty() => return Ok(Next::End),
                Ok(Step::End) => {}
                Err(error) => {
                    self.stats.io_errors += 1;
                    self.reading.failures += 1;
                    // A file that is gone does not come back.
                    let gone = error.kind() == io::ErrorKind::NotFound;
                    if !gone && self.reading.failures < READ_TRIES_MAX {
                        return Err(Error::Io(error));
                    }
                    self.damaged();
                    self.leave_segment();
                }
            }
        }
    }

    /// Counts everything as handed out: the caller has in memory what was appended since nothing was left to hand out, and
    /// publishes it from there.
    pub fn hand_out_unread(&mut self) {
        debug_assert!(self.reading.losses.is_empty() && !self.reading.damaged);
        let Some(last) = self.segments.back() else { return };
        let (id, len) = (last.id, last.len);
        self.reading.leave(id);
        self.reading.at = len;
        self.reading.position = self.number_next;
        self.reading.passed = self.number_next;
        self.reading.seen.clone_from(&self.written);
        self.handed = self.number_next;
        // As for a block that is handed out.
        let _ = self.keep_cursor();
    }

    fn step(&mut self, block: &mut Block) -> io::Result<Step> {
        let from = self.reading.segment;
        let place = self.segments.partition_point(|segment| segment.id < from);
        let Some(segment) = self.segments.get(place) else { return Ok(self.at_end()) };
        let (id, len) = (segment.id, segment.len);
        if id > from {
            self.reading.leave(id);
        }
        let file = match self.reading.file.take() {
            Some(file) => file,
            None => opened(&mut self.files, id)?,
        };
        let step = self.step_in(&file, (id, len), block);
        // Unless reading has gone on to another one.
        if self.reading.segment == id {
            self.reading.file = Some(file);
        }
        step
    }

    fn step_in(&mut self, file: &F::File, segment: (u64, u64), block: &mut Block) -> io::Result<Step> {
        let at = self.reading.at.max(SEGMENT_HEAD);
        let head = match self.reading.window.find(&mut self.files, file, segment, at)? {
            Found::Block(head) => head,
            Found::Damage { until } => {
                self.damaged();
                self.reading.at = until;
                return Ok(Step::Again);
            }
            Found::End => {
                if self.segments.back().is_some_and(|last| last.id == segment.0) {
                    return Ok(self.at_end());
                }
                self.leave_segment();
                return Ok(Step::Again);
            }
        };
        let reading = &mut self.reading;
        let sound = reading.window.table(&mut self.files, file, segment.1, (at, &head), &mut reading.rows)?;
        // Numbers only grow.
        let fits = head.number >= reading.passed
            && head.end() <= self.number_next
            && (reading.seen.len() < SHARDS_MAX || reading.seen.contains_key(&head.shard));
        if !sound || !fits {
            self.damaged();
            self.reading.at = at + head.len();
            self.pass(&head, fits);
            return Ok(Step::Again);
        }
        if let Some(loss) = self.chain_loss(&head) {
            self.reading.losses.push_back(loss);
            return Ok(Step::Again);
        }
        if head.end() <= self.confirmed_before {
            self.reading.seen.insert(head.shard, last_mark(&head, &self.reading.rows));
            self.reading.at = at + head.len();
            self.pass(&head, true);
            return Ok(Step::Again);
        }
        let from = at + (head.len() - u64::from(head.bytes));
        self.reading.window.copy(&mut self.files, file, from, head.bytes as usize, &mut block.bytes)?;
        let skip = usize::try_from(self.confirmed_before.saturating_sub(head.number)).unwrap_or(usize::MAX);
        self.check(&head, skip, block);
        self.reading.seen.insert(head.shard, last_mark(&head, &self.reading.rows));
        self.reading.at = at + head.len();
        self.pass(&head, true);
        if block.records.is_empty() {
            return Ok(Step::Again);
        }
        block.shard = head.shard;
        block.frame_max = head.frame_max;
        block.end = head.end();
        block.maybe_published = head.maybe_published || head.number < self.handed_before;
        self.handed = head.end();
        // Before it leaves. If the system refuses, a crash may lead to a repeat without the mark; not to publish at all
        // would be worse. It is counted and tried again with the next.
        let _ = self.keep_cursor();
        self.stats.drained += block.records.len() as u64;
        if block.maybe_published {
            self.stats.repeated += block.records.len() as u64;
        }
        Ok(Step::Block)
    }

    /// Leaves those records in `block`, whose bytes are there, that are sound, but for the first `skip`. The others are
    /// told as lost.
    fn check(&mut self, head: &Head, skip: usize, block: &mut Block) {
        block.records.clear();
        let before = self.reading.seen.get(&head.shard).copied().or(head.before);
        let mut after = before.filter(|mark| mark.seq > 0).map(|mark| (mark.session, mark.seq));
        let mut lost: Option<Loss> = None;
        let (mut start, mut kept) = (0, 0);
        for (place, row) in self.reading.rows.iter().enumerate() {
            // The lengths add up to the bytes: the table's checksum and sum were looked at.
            let end = (start + row.len as usize).min(block.bytes.len());
            let range = start.min(end)..end;
            start = end;
            let event = (row.session, row.seq);
            if place >= skip && crc32fast::hash(&block.bytes[range.clone()]) != row.crc {
                self.stats.damaged += 1;
                let loss = lost.get_or_insert(Loss { shard: head.shard, after, last: event });
                // A record without a seq says nothing of how far a loss goes.
                if row.seq > 0 {
                    loss.last = event;
                }
                continue;
            }
            self.reading.losses.extend(lost.take());
            if row.seq > 0 {
                after = Some(event);
            }
            if place >= skip {
                let len = range.len();
                if range.start != kept {
                    block.bytes.copy_within(range, kept);
                }
                kept += len;
                block.records.push(Record { session: row.session, seq: row.seq, end: kept });
            }
        }
        self.reading.losses.extend(lost);
        block.bytes.truncate(kept);
    }

    /// The shard's events before this block that were not seen, if there are any. Told once.
    fn chain_loss(&mut self, head: &Head) -> Option<Loss> {
        let before = head.before?;
        let seen = self.reading.seen.get(&head.shard).copied();
        let missing = match seen {
            Some(seen) => seen.number != before.number,
            // Not seen by this process, since it was confirmed in an earlier one?
            None => before.number >= self.confirmed_before,
        };
        if !missing {
            return None;
        }
        self.reading.seen.insert(head.shard, before);
        self.reading.damaged = true;
        Some(loss(head.shard, seen, before))
    }

    /// Everything before the end of this block is handed out or lost, if its numbers can be trusted.
    fn pass(&mut self, head: &Head, trusted: bool) {
        if trusted {
            self.reading.passed = head.end();
            self.reading.position = self.reading.position.max(head.end());
        }
    }

    fn damaged(&mut self) {
        self.stats.damaged += 1;
        self.reading.damaged = true;
    }

    /// Goes on to the segment behind the one that is read.
    fn leave_segment(&mut self) {
        let id = self.reading.segment;
        if let Some(segment) = self.segments.iter().find(|segment| segment.id == id) {
            self.reading.position = self.reading.position.max(segment.end);
        }
        self.reading.leave(id.saturating_add(1));
        if self.segments.back().is_some_and(|last| last.id == id) {
            // It was being written to: what comes now goes to another one.
            self.writer = None;
        }
    }

    /// Nothing is left to read.
    fn at_end(&mut self) -> Step {
        self.reading.position = self.number_next;
        if self.reading.damaged {
            // What no later block told of.
            for (&shard, &written) in &self.written {
                let seen = self.reading.seen.get(&shard).copied();
                let missing = match seen {
                    Some(seen) => seen.number != written.number,
                    None => written.number >= self.confirmed_before,
                };
                if missing {
                    self.reading.losses.push_back(loss(shard, seen, written));
                }
            }
            self.reading.seen.clone_from(&self.written);
            self.reading.damaged = false;
        }
        // Counted where it fails, and tried again with the next call.
        let _ = self.settle();
        Step::End
    }
}

fn loss(shard: u32, seen: Option<Mark>, last: Mark) -> Loss {
    let after = seen.filter(|mark| mark.seq > 0).map(|mark| (mark.session, mark.seq));
    Loss { shard, after, last: (last.session, last.seq) }
}
