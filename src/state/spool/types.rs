//! What goes into a spool, what comes out, and what is told about it.

use std::fmt;
use std::io;

/// Length of a segment file, in bytes, unless one block alone is longer. Disk space comes back in pieces of this size, so a
/// small one is better; 16 MiB makes 64 files of a spool of 1 GiB, and a file made and removed for 20,000 events.
pub const SEGMENT_BYTES: u64 = 16 << 20;

/// What a spool is told.
#[derive(Clone, Debug)]
pub struct Options {
    /// Bytes on disk at most, all files together.
    pub bytes_max: u64,
    /// Length of a segment file in bytes, see [`SEGMENT_BYTES`].
    pub segment_bytes: u64,
    /// From how full on the classes in `shed` are left out, in percent of `bytes_max`; 100: only when it is too late.
    pub shed_from_percent: u8,
    /// Classes (routing keys) that can be done without.
    pub shed: Vec<String>,
    /// Names the boot of the machine, 0 where nobody knows. Over a power cut the cursor may be older than the truth, so
    /// what another boot wrote counts as maybe published.
    pub boot: u64,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            bytes_max: 1 << 30,
            segment_bytes: SEGMENT_BYTES,
            shed_from_percent: 75,
            shed: vec!["TYPING_START".to_owned(), "PRESENCE_UPDATE".to_owned()],
            boot: 0,
        }
    }
}

/// One publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// Discord's `s`; 0 for a message that has none.
    pub seq: u64,
    /// Hash of the session that the seq belongs to.
    pub session: u64,
    /// Where the publish ends in the bytes.
    pub end: usize,
}

/// Publishes of one shard, to be written.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a, R> {
    /// The shard's id: a number that means the same in the next process.
    pub shard: u32,
    /// The frame_max that the bytes were cut by.
    pub frame_max: u32,
    /// Whether they may have gone out already.
    pub maybe_published: bool,
    /// One record for each publish, in order.
    pub records: R,
    /// The publishes.
    pub bytes: &'a [u8],
}

/// What became of an entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Appended {
    /// Publishes that were written.
    pub records: usize,
    /// Bytes that were written, our own included.
    pub bytes: u64,
    /// Publishes that were left out.
    pub shed: usize,
    /// The number after the last record: when everything up to here is confirmed, the entry is.
    pub end: u64,
}

/// Why nothing was written, or read.
#[derive(Debug)]
pub enum Error {
    /// There is no room within `bytes_max`.
    Full,
    /// The system refuses; a full disk is one of these. Counted.
    Io(io::Error),
    /// The entry is none: the text says why. A mistake of the caller.
    Entry(&'static str),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Full => f.write_str("the spool is full"),
            Error::Io(error) => write!(f, "{error}"),
            Error::Entry(why) => write!(f, "a batch that cannot be spooled: {why}"),
        }
    }
}

impl std::error::Error for Error {}

/// Publishes of one shard that were read. Its memory is used again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Block {
    /// The shard's id.
    pub shard: u32,
    /// The frame_max that the bytes were cut by.
    pub frame_max: u32,
    /// Whether they may have gone out before, so that they have to carry the mark for repeats.
    pub maybe_published: bool,
    /// One record for each publish, in order.
    pub records: Vec<Record>,
    /// The publishes.
    pub bytes: Vec<u8>,
    /// The number after the last record, for [`Spool::confirmed`](super::Spool::confirmed).
    pub end: u64,
}

/// Events of one shard that cannot be read any more.
///
/// Told where they would have come. What was at the very end of a shard's events when a process began is not told: it is
/// not in the shard's [`Reach`] either, so that RESUME asks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loss {
    /// The shard's id.
    pub shard: u32,
    /// The session and seq of the last event before that is known; not lost.
    pub after: Option<(u64, u64)>,
    /// The session and seq of the last one lost. As classes can be shed, not every number between was one in the spool.
    pub last: (u64, u64),
}

/// What [`Spool::next`](super::Spool::next) found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// A block, in the buffer that was lent.
    Block,
    /// Events that are lost, to be announced here.
    Lost(Loss),
    /// Nothing is left to hand out.
    End,
}

/// How far a shard's events are safely in the spool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reach {
    /// The shard's id.
    pub shard: u32,
    /// Hash of the session.
    pub session: u64,
    /// The last seq. RESUME may go on from here.
    pub seq: u64,
}

/// What an earlier process left.
#[derive(Debug, Default)]
pub struct Recovered {
    /// Records that wait, those that cannot be read included.
    pub records: u64,
    /// Bytes on disk.
    pub bytes: u64,
    /// How far each shard's events are safely here, by shard.
    pub reach: Vec<Reach>,
    /// What is to be told, the first [`Recovered::NOTES_MAX`].
    pub notes: Vec<Note>,
    /// Notes beyond those.
    pub notes_left_out: u64,
}

impl Recovered {
    /// Notes that are kept.
    pub const NOTES_MAX: usize = 20;

    pub(super) fn note(&mut self, note: Note) {
        if self.notes.len() < Recovered::NOTES_MAX {
            self.notes.push(note);
        } else {
            self.notes_left_out += 1;
        }
    }
}

/// Something odd about the files, for a log line.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Note {
    /// The last segment ended in the middle of a write, and was cut there. What is missing RESUME brings again.
    TornTail { file: String, at: u64, bytes: u64 },
    /// Bytes that are not what was written.
    Damaged { file: String, at: u64, bytes: u64 },
    /// A segment that another version wrote is left alone, and not drained.
    OtherVersion { file: String, version: u32, bytes: u64 },
    /// A file with a segment's name that holds nothing of one is left alone.
    NoSegment { file: String, bytes: u64 },
    /// The system would not read, cut or remove something.
    Io { file: String, error: String },
    /// It is not known what was published: all counts as maybe published.
    NoCursor,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Note::TornTail { file, at, bytes } => {
                write!(f, "{file} ends in the middle of a write: {bytes} bytes from {at} on are dropped")
            }
            Note::Damaged { file, at, bytes } => {
                write!(f, "{file} is damaged: {bytes} bytes from {at} on cannot be used")
            }
            Note::OtherVersion { file, version, bytes } => {
                write!(
                    f,
                    "{file} is of version {version} and left alone; its {bytes} bytes are not published"
                )
            }
            Note::NoSegment { file, bytes } => {
                write!(f, "{file} ({bytes} bytes) holds nothing that was spooled and is left alone")
            }
            Note::Io { file, error } => write!(f, "{file}: {error}"),
            Note::NoCursor => f.write_str(
                "how far it was published is not known: all of it is published with the mark for repeats",
            ),
        }
    }
}

/// What has happened since the spool was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Records written.
    pub appended: u64,
    /// Bytes written, our own included.
    pub appended_bytes: u64,
    /// Records handed out.
    pub drained: u64,
    /// Of those, the ones that may have been published before.
    pub repeated: u64,
    /// Entries that found no room.
    pub full: u64,
    /// Records left out, by class in the order of [`Options::shed`].
    pub shed: Vec<(String, u64)>,
    /// Places that were not what was written: records, blocks, stretches.
    pub damaged: u64,
    /// Losses told.
    pub losses: u64,
    /// Calls that the system refused.
    pub io_errors: u64,
}
