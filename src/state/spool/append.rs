//! In at the back: one batch becomes one block, by one write.

use std::io;
use std::ops::Range;

use super::files::{Files, write_all};
use super::format::{
    BLOCK_BYTES_MAX, CURSOR, HEAD, Head, Mark, NUMBER_MAX, RECORDS_MAX, Row, SEGMENT_HEAD, segment_head,
    segment_name,
};
use super::{Appended, BUFFER_BYTES, Entry, Error, Record, SHARDS_MAX, Segment, Spool};

/// What is kept of an entry.
#[derive(Default)]
struct Kept {
    records: usize,
    bytes: usize,
    table: Vec<u8>,
    /// Of the entry's bytes; neighbours are one range.
    ranges: Vec<Range<usize>>,
    last: Option<Record>,
    /// The session and seq of the last record that has a seq.
    reached: Option<(u64, u64)>,
    /// Records left out, by class.
    shed: Vec<u64>,
}

impl<F: Files> Spool<F> {
    /// Writes an entry at the back. `class` gives a publish's class (its routing key) and is asked only while the spool is
    /// so full that classes are left out.
    ///
    /// What `Ok` was returned for survives the end of the process at any instant. The whole of it: after a crash an entry
    /// is there or not.
    ///
    /// # Errors
    /// When there is no room, the system refuses (a full disk) or the entry is malformed. Nothing is written or counted as
    /// shed then, and the spool can be used as before.
    pub fn append<R>(
        &mut self,
        entry: Entry<'_, R>,
        class: impl Fn(&[u8]) -> Option<&[u8]>,
    ) -> Result<Appended, Error>
    where
        R: Iterator<Item = Record>,
    {
        let kept = self.keep(entry.bytes, entry.records, class)?;
        let mut appended = Appended {
            records: 0,
            bytes: 0,
            shed: kept.shed.iter().sum::<u64>() as usize,
            end: self.number_next,
        };
        if kept.records > 0 {
            let known = self.written.contains_key(&entry.shard);
            if !known && self.written.len() >= SHARDS_MAX {
                return Err(Error::Entry("too many shards"));
            }
            // Out of reach but for a forged file: a million events a second use them up in 146,000 years.
            if self.number_next > NUMBER_MAX - RECORDS_MAX as u64 {
                return Err(Error::Entry("no numbers are left"));
            }
            let head = Head {
                shard: entry.shard,
                // Both are within bounds that a u32 holds.
                records: kept.records as u32,
                bytes: kept.bytes as u32,
                frame_max: entry.frame_max,
                maybe_published: entry.maybe_published,
                number: self.number_next,
                before: self.written.get(&entry.shard).copied(),
                table_crc: crc32fast::hash(&kept.table),
            };
            appended.bytes = self.write(&head, &kept, entry.bytes)?;
            self.number_next = head.end();
            let (session, seq) =
                kept.reached.or(head.before.map(|mark| (mark.session, mark.seq))).unwrap_or_default();
            self.written.insert(entry.shard, Mark { number: head.end() - 1, session, seq });
            appended.records = kept.records;
            appended.end = self.number_next;
            self.stats.appended += kept.records as u64;
            self.stats.appended_bytes += appended.bytes;
        }
        for (class, count) in self.stats.shed.iter_mut().zip(&kept.shed) {
            class.1 += count;
        }
        Ok(appended)
    }

    /// Whether so much is on disk that classes are left out.
    pub fn is_shedding(&self) -> bool {
        let from =
            u128::from(self.options.bytes_max) * u128::from(self.options.shed_from_percent.min(100)) / 100;
        !self.options.shed.is_empty() && u128::from(self.bytes()) >= from
    }

    /// Looks through an entry.
    fn keep(
        &self,
        bytes: &[u8],
        records: impl Iterator<Item = Record>,
        class: impl Fn(&[u8]) -> Option<&[u8]>,
    ) -> Result<Kept, Error> {
        let shedding = self.is_shedding();
        let mut kept = Kept { shed: vec![0; self.options.shed.len()], ..Kept::default() };
        let mut start = 0;
        for record in records {
            let Some(publish) = bytes.get(start..record.end) else {
                return Err(Error::Entry("a record ends outside of the bytes"));
            };
            let range = start..record.end;
            start = record.end;
            if shedding
                && let Some(class) = class(publish)
                && let Some(place) = self.options.shed.iter().position(|shed| shed.as_bytes() == class)
            {
                kept.shed[place] += 1;
                continue;
            }
            let row = Row {
                session: record.session,
                seq: record.seq,
                len: u32::try_from(publish.len()).unwrap_or(u32::MAX),
                crc: crc32fast::hash(publish),
            };
            kept.table.extend_from_slice(&row.encode());
            kept.records += 1;
            kept.bytes += publish.len();
            kept.last = Some(record);
            if record.seq > 0 {
                kept.reached = Some((record.session, record.seq));
            }
            match kept.ranges.last_mut() {
                Some(last) if last.end == range.start => last.end = range.end,
                _ => kept.ranges.push(range),
            }
        }
        if start != bytes.len() {
            return Err(Error::Entry("bytes behind the last record"));
        }
        if kept.records > RECORDS_MAX || kept.bytes > BLOCK_BYTES_MAX {
            return Err(Error::Entry("more than a block takes"));
        }
        Ok(kept)
    }

    /// Writes a block. Returns how many bytes that took.
    fn write(&mut self, head: &Head, kept: &Kept, bytes: &[u8]) -> Result<u64, Error> {
        let fresh = match self.segments.back() {
            Some(last) if self.writer.is_some() => {
                last.len > SEGMENT_HEAD && last.len + head.len() > self.options.segment_bytes
            }
            _ => true,
        };
        // A segment without a byte in it, after a write that failed, still needs its head.
        let (len, disk) = match self.segments.back() {
            Some(last) if !fresh => (last.len, last.disk),
            _ => (0, 0),
        };
        let needed = head.len() + if len == 0 { SEGMENT_HEAD } else { 0 };
        let grown = (len + needed).saturating_sub(disk);
        if self.disk_bytes + CURSOR as u64 + grown > self.options.bytes_max {
            self.stats.full += 1;
            return Err(Error::Full);
        }
        if fresh {
            self.begin_segment().map_err(|error| self.count(error))?;
        }
        // begin_segment has made one where there was none.
        let (Some(segment), Some(file)) = (self.segments.back_mut(), &self.writer) else {
            return Err(Error::Entry("no segment to write to"));
        };
        self.buffer.clear();
        self.buffer.reserve(needed as usize);
        if len == 0 {
            self.buffer.extend_from_slice(&segment_head());
        }
        let at = len + self.buffer.len() as u64;
        self.buffer.extend_from_slice(&head.encode(segment.id, at));
        debug_assert_eq!(self.buffer.len() as u64 + len, at + HEAD as u64);
        self.buffer.extend_from_slice(&kept.table);
        for range in &kept.ranges {
            self.buffer.extend_from_slice(&bytes[range.clone()]);
        }
        let result = write_all(&mut self.files, file, len, &self.buffer);
        self.buffer.clear();
        self.buffer.shrink_to(BUFFER_BYTES);
        if let Err(error) = result {
            // What came through has to give its room back. Where even that is refused nothing is written over it, as two
            // halves could make a whole that nobody appended: the next block begins another segment.
            if self.files.truncate(file, len).is_ok() {
                segment.disk = len;
            } else {
                segment.disk = segment.disk.max(len + needed);
                self.writer = None;
            }
            self.disk_bytes = self.segments.iter().map(|segment| segment.disk).sum();
            return Err(self.count(error));
        }
        segment.len = len + needed;
        segment.disk = segment.disk.max(segment.len);
        segment.end = head.end();
        self.disk_bytes += grown;
        Ok(needed)
    }

    fn begin_segment(&mut self) -> io::Result<()> {
        let id = self.segment_next;
        // Whether or not it can be made: a file that is in the way is not tried again.
        self.segment_next += 1;
        self.writer = Some(self.files.create(&segment_name(id))?);
        self.segments.push_back(Segment { id, len: 0, disk: 0, end: self.number_next });
        Ok(())
    }

    fn count(&mut self, error: io::Error) -> Error {
        self.stats.io_errors += 1;
        Error::Io(error)
    }
}
