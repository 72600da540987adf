//! When recorded dispatches were handed to the system, in a file, for whoever measures how long they take from there on.
//! Written only if asked for, a record for each run of dispatches that went to a connection in one piece:
//!
//! ```text
//! shard_id u32 | count u32 | first s u64 | Unix time in nanoseconds u64      little-endian
//! ```
//!
//! The file is whole once the server has stopped. It grows with what is sent: 24 bytes a run.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use parking_lot::Mutex;

/// What is written down, by all threads.
pub(super) struct Sends(Mutex<Option<BufWriter<File>>>);

impl Sends {
    pub fn create(path: &Path) -> io::Result<Sends> {
        Ok(Sends(Mutex::new(Some(BufWriter::with_capacity(1 << 16, File::create(path)?)))))
    }

    /// `count` dispatches from `first` on are about to be written to the socket of `shard_id`.
    pub fn note(&self, shard_id: u32, count: u64, first: u64, unix_ns: u64) {
        let mut record = [0; 24];
        record[..4].copy_from_slice(&shard_id.to_le_bytes());
        record[4..8].copy_from_slice(&u32::try_from(count).unwrap_or(u32::MAX).to_le_bytes());
        record[8..16].copy_from_slice(&first.to_le_bytes());
        record[16..].copy_from_slice(&unix_ns.to_le_bytes());
        self.write(|file| file.write_all(&record));
    }

    pub fn flush(&self) {
        self.write(BufWriter::flush);
    }

    /// A file that cannot be written is told of once and left.
    fn write(&self, write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>) {
        let mut file = self.0.lock();
        if let Some(writer) = &mut *file
            && let Err(e) = write(writer)
        {
            log::error!("the times of sends cannot be written: {e}");
            *file = None;
        }
    }
}
