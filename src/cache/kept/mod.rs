//! The file that a cache lives in: what stands in front of its pages, and who may use it.
//!
//! Enters: a path, what the cache is to be. Leaves: a mapped block and what an earlier process left in it, or why that
//! is of no use. Never here: trust in what the file says; a system call once it is open, but to flush it at the end.
//!
//! ```text
//! header    64 words    whose, how large, of what layout; a sum; whether it was closed
//! records   16 words    for each partition: its tree's root and what no walk finds; a sum; `changing`
//! user      2 slots     the bot's own user, by turns
//! shapes                append only
//! ----                  up to a multiple of 4 KiB
//! pages
//! ```
//!
//! **The end of the process at any instruction.** What was stored stays, in order. A partition's record is marked before
//! the first change and unmarked after the last, with the root and the position in between; so a partition is either
//! as its record says or marked, and then it starts empty. A page that one partition gave back and another took lies
//! between the marks of both. A shape is there before it has a number. All this is stores to memory.
//!
//! **The end of the machine.** The system writes pages to the disk in any order, so after a crash or a loss of power the
//! file may be of many moments, and no check finds all of that. The file therefore names the boot of the machine, and is
//! of use in another one only if it was [closed](super::Cache::close), which flushes it.

mod header;
mod record;
mod user;

use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use super::arena::block::{self, SYSTEM_PAGE_BYTES};
use super::arena::words::{WORD, Words};
use super::arena::{Block, PAGE_BYTES, Region, ReserveError};
pub use header::Header;
pub use record::{Position, Record, Saved};
pub use user::User;

/// Why a cache cannot live in a file. It can still live in memory.
#[derive(Debug)]
pub enum OpenError {
    /// Another process has the file.
    Taken,
    /// What is there is no file.
    NotAFile,
    /// The disk has no room for it.
    DiskFull {
        /// How much it takes.
        bytes: u64,
    },
    /// The memory that was asked for cannot be had.
    Memory(ReserveError),
    /// The system refuses.
    Io(io::Error),
}

impl std::fmt::Display for OpenError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            OpenError::Taken => f.write_str("another process has it"),
            OpenError::NotAFile => f.write_str("it is no regular file"),
            OpenError::DiskFull { bytes } => {
                write!(f, "the disk has no room for its {} MiB", bytes.div_ceil(1 << 20))
            }
            OpenError::Memory(error) => error.fmt(f),
            OpenError::Io(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for OpenError {}

impl From<io::Error> for OpenError {
    fn from(error: io::Error) -> OpenError {
        OpenError::Io(error)
    }
}

/// Where everything is in front of the pages, in words.
#[derive(Clone, Copy, Debug)]
pub struct Front {
    partitions: usize,
    shapes_words: usize,
}

impl Front {
    /// For so many partitions, and shapes that take so many words.
    pub fn new(partitions: usize, shapes_words: usize) -> Front {
        Front { partitions, shapes_words }
    }

    fn records(&self) -> usize {
        header::WORDS
    }

    fn user(&self) -> usize {
        self.records() + self.partitions * record::WORDS
    }

    fn shapes(&self) -> usize {
        self.user() + user::WORDS
    }

    /// All of it.
    pub fn bytes(&self) -> usize {
        ((self.shapes() + self.shapes_words) * WORD).next_multiple_of(SYSTEM_PAGE_BYTES)
    }

    /// The record of a partition.
    pub fn record(&self, region: &Arc<Region>, index: usize) -> Record {
        let from = self.records() + index * record::WORDS;
        Record::new(Words::new(region, from..from + record::WORDS), index)
    }

    /// What a record says, before anybody has the block.
    ///
    /// # Errors
    /// When it is damaged, or the partition was being changed.
    pub fn saved(&self, block: &Block, index: usize) -> Result<Saved, &'static str> {
        let from = self.records() + index * record::WORDS;
        record::read(block.words().get(from..from + record::WORDS).unwrap_or_default(), index)
    }

    /// The bot's own user.
    pub fn user_words(&self, region: &Arc<Region>) -> User {
        User::new(Words::new(region, self.user()..self.user() + user::WORDS))
    }

    /// Where shapes are.
    pub fn shapes_words(&self, region: &Arc<Region>) -> Words {
        Words::new(region, self.shapes()..self.shapes() + self.shapes_words)
    }
}

/// The file, locked for this process.
pub struct Opened {
    file: File,
    /// Its length in bytes.
    length: u64,
}

impl Opened {
    /// Opens or makes the file and locks it. Only its owner may read it.
    ///
    /// # Errors
    /// When another process has it, or the system refuses.
    pub fn at(path: &Path) -> Result<Opened, OpenError> {
        let open = File::options().read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
        // Not everything that has a name can be opened for both, a folder for one.
        let file = open.map_err(|error| match path.metadata() {
            Ok(metadata) if !metadata.is_file() => OpenError::NotAFile,
            _ => error.into(),
        })?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(OpenError::NotAFile);
        }
        match file.try_lock() {
            Ok(()) => Ok(Opened { length: file.metadata()?.len(), file }),
            Err(TryLockError::WouldBlock) => Err(OpenError::Taken),
            Err(TryLockError::Error(error)) => Err(error.into()),
        }
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Maps what is there, if it is what `header` and `front` say.
    ///
    /// # Errors
    /// Why it is not.
    pub fn map(&self, header: &Header, front: Front, pages_bytes: usize) -> Result<Block, String> {
        let mut bytes = [0; header::WORDS * WORD];
        let length = self.length.min(bytes.len() as u64) as usize;
        self.file.read_exact_at(&mut bytes[..length], 0).map_err(|error| error.to_string())?;
        header.compare(&bytes[..length])?;
        let wanted = (front.bytes() + pages_bytes) as u64;
        if self.length != wanted {
            return Err(format!("it has {} bytes and should have {wanted}", self.length));
        }
        Block::file(&self.file, front.bytes(), pages_bytes).map_err(|error| error.to_string())
    }

    /// Makes the file anew and maps it. The header is written last, so that a file that was not made to the end is none.
    ///
    /// # Errors
    /// When there is no room on the disk, or the system refuses.
    pub fn make(&self, header: &Header, front: Front, pages_bytes: usize) -> Result<Block, OpenError> {
        let bytes = (front.bytes() + pages_bytes) as u64;
        block::reserve(&self.file, bytes).map_err(|error| match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                OpenError::DiskFull { bytes }
            }
            _ => error.into(),
        })?;
        let block = Block::file(&self.file, front.bytes(), pages_bytes)?;
        header.write(block.words());
        Ok(block)
    }
}

const _: () = assert!(PAGE_BYTES.is_multiple_of(SYSTEM_PAGE_BYTES));

#[cfg(test)]
mod tests;
