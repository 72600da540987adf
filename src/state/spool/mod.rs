//! A queue of framed publishes on disk: what a broker that is away or slow cannot take now, in order, over restarts.
//!
//! ```text
//!  confirmed          handed out           read next                 written
//! | done, removed ... | with the broker ... | waits ............... | free, up to bytes_max
//! ```
//!
//! In at the back: [`Spool::append`], one write for each batch. Out at the front: [`Spool::next`], and once the broker
//! has it [`Spool::confirmed`], which removes segment files that nothing needs any more. What is in the files is in
//! [`format`].
//!
//! - **kill -9 at any instant** loses nothing that `append` returned for: the pages belong to the system from then on. So
//!   the caller may count a shard's events as confirmed once they are here, provided that all earlier events of the shard
//!   are here too or with the broker.
//! - **Power** may take what the system had not yet brought to the disk, half a minute on Linux. There is no fsync, as one
//!   for each batch would cost more than the events (milliseconds each), and Discord holds the end of a session anyway:
//!   [`Recovered::reach`] says from where to RESUME.
//! - **Repeats.** What was handed out and not confirmed when the process ended comes again, in its place, and says
//!   [`Block::maybe_published`]. How far things were handed out is in a file of its own, the cursor, written before each
//!   block leaves: a flag in the block would be written in the middle of 16 MiB that are else only appended to, and
//!   the confirmed position needs a place too. It costs one write of 48 octets in place, which needs no room on the disk.
//! - **Damage** costs the record that it is in, or the block (one batch) where its head or table is hit; the next block
//!   is found by its marker. What was lost is told by [`Spool::next`] in its place of the order, see [`Loss`].
//! - **Memory**: one window of [`WINDOW_BYTES`], one write buffer of up to [`BUFFER_BYTES`] (more only while a larger
//!   message passes), a few dozen octets for each shard and segment; see [`Spool::memory_bytes`].
//!
//! Never here: a clock, a socket, a log line. Errors are values; how often they are told is the caller's matter. The
//! folder has to be locked by the caller, see [`super::Folder`].

mod append;
mod files;
mod format;
#[doc(hidden)]
pub mod fuzz;
mod open;
mod read;
mod types;
mod window;

#[cfg(test)]
pub(crate) mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::io;

pub use files::{Disk, Files};
pub use types::{
    Appended, Block, Entry, Error, Loss, Next, Note, Options, Reach, Record, Recovered, SEGMENT_BYTES, Stats,
};

use files::write_all;
use format::{CURSOR, Cursor, Mark, Row, segment_name};
use window::Window;

/// How much one read takes when draining: past a quarter of a MiB a larger one gains nothing.
pub const WINDOW_BYTES: usize = 512 * 1024;

/// What the write buffer keeps between two batches: two full ones of a shard's task.
pub const BUFFER_BYTES: usize = 512 * 1024;

/// The name of the file that says how far a spool was read.
const CURSOR_NAME: &str = "cursor";

/// Shards that a spool keeps apart at most, as many as a bot may have. A block of one more counts as damaged: no file can
/// make memory grow.
const SHARDS_MAX: usize = 100_000;

/// A file of blocks.
#[derive(Debug)]
struct Segment {
    id: u64,
    /// How far it is good, in bytes.
    len: u64,
    /// How long the file may be: a write that failed may have left something behind `len`.
    disk: u64,
    /// The number after its last record.
    end: u64,
}

/// Where reading stands.
#[derive(Debug)]
struct Reading<H> {
    /// The segment to read from, or the next one behind it, and where in it.
    segment: u64,
    at: u64,
    file: Option<H>,
    window: Window,
    rows: Vec<Row>,
    /// The next record's number, as far as everything before is confirmed, handed out or lost.
    position: u64,
    /// The number after the last block, handed out or not: none may go back.
    passed: u64,
    /// The last record of each shard up to here.
    seen: BTreeMap<u32, Mark>,
    /// Since the spool was last empty something could not be read.
    damaged: bool,
    /// Reads that failed in a row at this place.
    failures: u32,
    /// To be told before anything else is handed out.
    losses: VecDeque<Loss>,
}

/// A spool. `F` is where its files are: the real folder but in tests.
#[derive(Debug)]
pub struct Spool<F: Files = Disk> {
    files: F,
    options: Options,
    /// In the order of their ids. The last one may be written to.
    segments: VecDeque<Segment>,
    /// The last segment's file, as long as it is written to.
    writer: Option<F::File>,
    segment_next: u64,
    /// The number of the next record to be written.
    number_next: u64,
    /// The last record of each shard that was written.
    written: BTreeMap<u32, Mark>,
    buffer: Vec<u8>,
    reading: Reading<F::File>,
    /// Below: done with. The number after the last record that was handed out.
    confirmed: u64,
    handed: u64,
    /// Records below may have been published by an earlier process; where confirms began in this one.
    handed_before: u64,
    confirmed_before: u64,
    cursor: Cursor,
    cursor_file: Option<F::File>,
    /// The file does not say what `cursor` would.
    cursor_dirty: bool,
    /// The file could not be read: what it holds must not come back later as the newer of two.
    cursor_unread: bool,
    disk_bytes: u64,
    stats: Stats,
}

impl<F: Files> Spool<F> {
    /// Everything before `up_to`, a [`Block::end`] or a number between the ones handed out, is with the broker. Segments
    /// that are done with are removed. Meant to be called once a turn of the caller's loop, as it writes the cursor.
    ///
    /// # Errors
    /// When the position could not be kept or a file not be removed. Both are tried again with the next call of anything;
    /// what a process that ends meanwhile leaves is read again. Counted in [`Stats::io_errors`].
    pub fn confirmed(&mut self, up_to: u64) -> io::Result<()> {
        self.confirmed = self.confirmed.max(up_to.min(self.handed));
        self.settle()
    }

    /// Whether nothing waits: everything that was written is confirmed, or lost and told.
    pub fn is_empty(&self) -> bool {
        self.confirmed == self.number_next && self.reading.losses.is_empty()
    }

    /// Records that wait for the broker, those that are handed out included.
    pub fn waiting(&self) -> u64 {
        self.number_next - self.confirmed
    }

    /// Of those, the ones that are not handed out.
    pub fn unread(&self) -> u64 {
        self.number_next - self.handed.max(self.confirmed)
    }

    /// Bytes on disk.
    pub fn bytes(&self) -> u64 {
        self.disk_bytes + CURSOR as u64
    }

    /// Memory in use, in bytes.
    pub fn memory_bytes(&self) -> usize {
        // A map of this kind takes some one and a half times its entries.
        let marks = (self.written.len() + self.reading.seen.len()) * size_of::<(u32, Mark)>() * 3 / 2;
        self.reading.window.memory_bytes()
            + self.buffer.capacity()
            + self.reading.rows.capacity() * size_of::<Row>()
            + self.reading.losses.capacity() * size_of::<Loss>()
            + self.segments.capacity() * size_of::<Segment>()
            + marks
    }

    /// What has happened.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// Moves the confirmed position over what was lost behind it, keeps the position and removes what is done with.
    fn settle(&mut self) -> io::Result<()> {
        if self.confirmed >= self.handed {
            // All that was handed out is with the broker; up to the reading position there is only what was lost.
            self.confirmed = self.confirmed.max(self.reading.position);
            self.handed = self.confirmed;
        }
        self.keep_cursor()?;
        self.remove_done()
    }

    /// Writes the cursor if it says something new.
    fn keep_cursor(&mut self) -> io::Result<()> {
        let handed = self.handed.max(self.handed_before);
        let known = (self.cursor.confirmed, self.cursor.handed);
        if !self.cursor_dirty && known == (self.confirmed, handed) {
            return Ok(());
        }
        self.cursor_dirty = true;
        let next = Cursor {
            generation: self.cursor.generation + 1,
            confirmed: self.confirmed,
            handed,
            ..self.cursor
        };
        let mut both = [0; CURSOR];
        let at = next.offset() as usize;
        both[at..at + format::SLOT].copy_from_slice(&next.encode());
        let result = match &self.cursor_file {
            Some(file) if self.cursor_unread => write_all(&mut self.files, file, 0, &both),
            Some(file) => write_all(&mut self.files, file, next.offset(), &next.encode()),
            None => self.files.create(CURSOR_NAME).and_then(|file| {
                // With room for both slots, which is then there when the disk is full.
                let result = write_all(&mut self.files, &file, 0, &both);
                self.cursor_file = Some(file);
                result
            }),
        };
        match result {
            Ok(()) => {
                self.cursor = next;
                self.cursor_dirty = false;
                self.cursor_unread = false;
                Ok(())
            }
            Err(error) => {
                self.stats.io_errors += 1;
                Err(error)
            }
        }
    }

    /// Removes segments of which everything is confirmed. Never before the cursor says so: a segment that is missing would
    /// be a loss.
    fn remove_done(&mut self) -> io::Result<()> {
        let all = self.confirmed == self.number_next;
        while let Some(segment) = self.segments.front() {
            let left = self.reading.segment > segment.id;
            if segment.end > self.confirmed || !(left || all) {
                break;
            }
            match self.files.remove(&segment_name(segment.id)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    self.stats.io_errors += 1;
                    return Err(error);
                }
                _ => {}
            }
            self.disk_bytes -= segment.disk;
            self.segments.pop_front();
            if self.segments.is_empty() {
                self.writer = None;
            }
        }
        if all && self.segments.is_empty() {
            // The next record of each shard begins a new chain.
            self.written.clear();
            self.reading.seen.clear();
            self.reading.leave(self.segment_next);
            self.reading.window.free();
            self.reading.position = self.number_next;
            self.reading.damaged = false;
        }
        Ok(())
    }
}

impl<H> Reading<H> {
    /// Goes on at the beginning of `segment`.
    fn leave(&mut self, segment: u64) {
        self.segment = segment;
        self.at = format::SEGMENT_HEAD;
        self.file = None;
        self.failures = 0;
        self.window.clear();
    }
}
