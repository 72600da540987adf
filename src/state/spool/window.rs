//! Reads a file from its front in large pieces and cuts blocks out of them.

use std::io;

use super::files::{Files, read_all};
use super::format::{HEAD, Head, MARKER, Row, SEGMENT_HEAD};

/// A piece of a file in memory.
#[derive(Debug)]
pub(super) struct Window {
    bytes: Vec<u8>,
    start: u64,
    filled: usize,
    read_bytes: usize,
}

/// What is at some place of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// A whole block; nothing but its head was looked at.
    Block(Head),
    /// Nothing of use before `until`, where the next block or the end is.
    Damage {
        /// Where that is.
        until: u64,
    },
    /// The end.
    End,
}

impl Window {
    /// A window that reads `read_bytes` at a time, which has to be the longest table at least. Takes memory when first used.
    pub fn new(read_bytes: usize) -> Window {
        Window { bytes: Vec::new(), start: 0, filled: 0, read_bytes }
    }

    /// Forgets what was read: another file comes.
    pub fn clear(&mut self) {
        self.filled = 0;
    }

    /// Gives the memory back.
    pub fn free(&mut self) {
        self.filled = 0;
        self.bytes = Vec::new();
    }

    pub fn memory_bytes(&self) -> usize {
        self.bytes.capacity()
    }

    /// The `wanted` octets at `at` of a file that is good up to `len`; fewer where it ends before, or where more are
    /// wanted than a window holds.
    pub fn fetch<F: Files>(
        &mut self,
        files: &mut F,
        file: &F::File,
        len: u64,
        at: u64,
        wanted: usize,
    ) -> io::Result<&[u8]> {
        let left = usize::try_from(len.saturating_sub(at)).unwrap_or(usize::MAX);
        let wanted = wanted.min(self.read_bytes).min(left);
        if self.held(at).len() < wanted {
            let count = self.read_bytes.min(left);
            if self.bytes.len() < self.read_bytes {
                self.bytes.resize(self.read_bytes, 0);
            }
            self.filled = 0;
            read_all(files, file, at, &mut self.bytes[..count])?;
            self.start = at;
            self.filled = count;
        }
        Ok(&self.held(at)[..wanted])
    }

    /// Fills `out` with the `wanted` octets at `at`. What the window does not have is read around it.
    pub fn copy<F: Files>(
        &mut self,
        files: &mut F,
        file: &F::File,
        at: u64,
        wanted: usize,
        out: &mut Vec<u8>,
    ) -> io::Result<()> {
        out.clear();
        let held = self.held(at);
        out.extend_from_slice(&held[..held.len().min(wanted)]);
        let have = out.len();
        if have < wanted {
            out.resize(wanted, 0);
            read_all(files, file, at + have as u64, &mut out[have..])?;
        }
        Ok(())
    }

    /// What is held from `at` on.
    fn held(&self, at: u64) -> &[u8] {
        let skip = at.checked_sub(self.start).and_then(|skip| usize::try_from(skip).ok());
        skip.and_then(|skip| self.bytes[..self.filled].get(skip..)).unwrap_or_default()
    }

    /// Looks what is at `at` of segment `id`, which is good up to `len`.
    pub fn find<F: Files>(
        &mut self,
        files: &mut F,
        file: &F::File,
        (id, len): (u64, u64),
        at: u64,
    ) -> io::Result<Found> {
        if at >= len {
            return Ok(Found::End);
        }
        let head = |bytes: &[u8], at: u64| {
            Head::decode(bytes, id, at).filter(|head| head.len() <= len.saturating_sub(at))
        };
        if let Some(head) = head(self.fetch(files, file, len, at, HEAD)?, at) {
            return Ok(Found::Block(head));
        }
        let mut from = at + 1;
        while from < len {
            let held = self.fetch(files, file, len, from, 4096)?;
            let Some(skip) = held.windows(MARKER.len()).position(|four| four == MARKER) else {
                // A marker may begin in the last three octets; at the end of the file no head fits there.
                from += held.len().saturating_sub(MARKER.len() - 1).max(1) as u64;
                continue;
            };
            from += skip as u64;
            if head(self.fetch(files, file, len, from, HEAD)?, from).is_some() {
                return Ok(Found::Damage { until: from });
            }
            from += 1;
        }
        Ok(Found::Damage { until: len })
    }

    /// Reads the table of the block at `at` into `rows`. False: it is damaged.
    pub fn table<F: Files>(
        &mut self,
        files: &mut F,
        file: &F::File,
        len: u64,
        (at, head): (u64, &Head),
        rows: &mut Vec<Row>,
    ) -> io::Result<bool> {
        let table = self.fetch(files, file, len, at + HEAD as u64, head.table_len())?;
        Ok(table.len() == head.table_len() && Row::decode_all(table, head, rows))
    }

    /// The first octets of a segment.
    pub fn segment_head<F: Files>(&mut self, files: &mut F, file: &F::File, len: u64) -> io::Result<&[u8]> {
        self.fetch(files, file, len, 0, SEGMENT_HEAD as usize)
    }
}
