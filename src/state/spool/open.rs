//! What an earlier process left: which segments there are, where the last one ends, how far each shard's events reach.
//!
//! Heads and tables alone are looked at, and of the last segment everything: a power cut may have left its end without
//! content. Damage elsewhere is told when draining comes to it.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::Path;

use super::files::Files;
use super::format::{
    BLOCK_BYTES_MAX, CURSOR, Cursor, HEAD, Head, Mark, NUMBER_MAX, RECORDS_MAX, ROW, Row, SEGMENT_HEAD,
    VERSION, segment_id, segment_name, segment_version,
};
use super::window::{Found, Window};
use super::{
    CURSOR_NAME, Disk, Note, Options, Reach, Reading, Recovered, SEGMENT_BYTES, SHARDS_MAX, Segment, Spool,
    Stats, WINDOW_BYTES,
};

impl Spool<Disk> {
    /// Opens the spool in the folder at `path`, which is made where it does not exist and has to be locked by the caller.
    ///
    /// # Errors
    /// When the folder cannot be made or read, or a file in it not be opened. Whatever is in the files is no error.
    pub fn open(path: &Path, options: Options) -> io::Result<(Spool, Recovered)> {
        Spool::open_in(Disk::open(path)?, options)
    }
}

/// What the scan of one segment gave.
struct Scanned {
    blocks: u64,
    /// The number of its first record, and the one after its last, as far as they are known.
    first: Option<u64>,
    end: u64,
    /// The system would not read on.
    unread: bool,
}

impl<F: Files> Spool<F> {
    /// Opens the spool in a folder that stands behind `files`.
    ///
    /// # Errors
    /// As [`Spool::open`].
    pub fn open_in(mut files: F, options: Options) -> io::Result<(Spool<F>, Recovered)> {
        let mut recovered = Recovered::default();
        let mut names = files.list()?;
        names.retain(|(name, _)| segment_id(name).is_some());
        names.sort();
        let cursor_file = match files.open(CURSOR_NAME) {
            Ok(file) => Some(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let cursor = cursor_file.as_ref().and_then(|file| read_cursor(&mut files, file));

        let mut scan = Scan {
            files: &mut files,
            recovered: &mut recovered,
            window: Window::new(WINDOW_BYTES),
            rows: Vec::new(),
            body: Vec::new(),
            segments: VecDeque::new(),
            scanned: Vec::new(),
            written: BTreeMap::new(),
            end: 0,
            first: None,
            len_max: options.segment_bytes.max(SEGMENT_BYTES)
                + (BLOCK_BYTES_MAX + HEAD + RECORDS_MAX * ROW) as u64,
        };
        let last = names.len().saturating_sub(1);
        for (place, (name, len)) in names.iter().enumerate() {
            scan.segment(name, *len, place == last)?;
        }
        scan.bound_unread();
        let first = scan.first_at_least();
        let Scan { segments, written, end, .. } = scan;
        // Whatever the name belongs to, ours come after it.
        let segment_next =
            names.last().and_then(|(name, _)| segment_id(name)).map_or(0, |id| id.saturating_add(1));

        let confirmed = cursor.map_or(first, |cursor| cursor.confirmed);
        // A cursor that is ahead of the segments (their end went with the power) keeps its numbers: else a new record
        // would be one that was handed out.
        let number_next = cursor.map_or(end, |cursor| end.max(cursor.handed).max(cursor.confirmed));
        let handed_before = match cursor {
            Some(cursor) if cursor.boot == options.boot => cursor.handed,
            _ => number_next,
        };
        if cursor.is_none() && !segments.is_empty() {
            recovered.note(Note::NoCursor);
        }
        let reading_from = segments
            .iter()
            .find(|segment| segment.end > confirmed)
            .map_or(segment_next, |segment| segment.id);
        let disk_bytes = segments.iter().map(|segment: &Segment| segment.disk).sum();
        let shed = options.shed.iter().map(|class| (class.clone(), 0)).collect();
        let mut spool = Spool {
            files,
            segments,
            writer: None,
            segment_next,
            number_next,
            written,
            buffer: Vec::new(),
            reading: Reading {
                segment: reading_from,
                at: SEGMENT_HEAD,
                file: None,
                window: Window::new(WINDOW_BYTES),
                rows: Vec::new(),
                position: confirmed,
                passed: 0,
                seen: BTreeMap::new(),
                damaged: false,
                failures: 0,
                losses: VecDeque::new(),
            },
            confirmed,
            handed: confirmed,
            handed_before,
            confirmed_before: confirmed,
            cursor: Cursor { boot: options.boot, ..cursor.unwrap_or_default() },
            cursor_unread: cursor.is_none() && cursor_file.is_some(),
            cursor_file,
            // Written anew: both its boot and its room on the disk are wanted from now on.
            cursor_dirty: true,
            disk_bytes,
            stats: Stats { shed, ..Stats::default() },
            options,
        };
        // Segments that were done with, when the process ended before they were removed.
        if let Err(error) = spool.settle() {
            recovered.note(Note::Io { file: CURSOR_NAME.to_owned(), error: error.to_string() });
        }
        recovered.records = spool.waiting();
        recovered.bytes = spool.bytes();
        recovered.reach = spool
            .written
            .iter()
            .filter(|(_, mark)| mark.seq > 0)
            .map(|(&shard, mark)| Reach { shard, session: mark.session, seq: mark.seq })
            .collect();
        Ok((spool, recovered))
    }
}

fn read_cursor<F: Files>(files: &mut F, file: &F::File) -> Option<Cursor> {
    let mut bytes = [0; CURSOR];
    // The second slot may not have been written yet, and ends before the file's nominal length.
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match files.read_at(file, filled as u64, rest) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
    }
    Cursor::read(&bytes)
}

struct Scan<'a, F> {
    files: &'a mut F,
    recovered: &'a mut Recovered,
    window: Window,
    rows: Vec<Row>,
    body: Vec<u8>,
    segments: VecDeque<Segment>,
    /// Of each of these what was found, in the same order.
    scanned: Vec<Scanned>,
    written: BTreeMap<u32, Mark>,
    /// The number after the last record, and the first one.
    end: u64,
    first: Option<u64>,
    /// No segment of ours is longer: a file that claims terabytes is not read to its end.
    len_max: u64,
}

impl<F: Files> Scan<'_, F> {
    fn segment(&mut self, name: &str, disk: u64, is_last: bool) -> io::Result<()> {
        // The name is one of ours, the caller has looked.
        let Some(id) = segment_id(name) else { return Ok(()) };
        if disk < SEGMENT_HEAD {
            // The process ended between the file's making and the first write.
            if let Err(error) = self.files.remove(name) {
                self.note_io(name, &error);
            }
            return Ok(());
        }
        let file = self.files.open(name)?;
        self.window.clear();
        let known = match self.window.segment_head(self.files, &file, disk).map(segment_version) {
            Ok(Some(version)) if version != VERSION => {
                self.recovered.note(Note::OtherVersion { file: name.to_owned(), version, bytes: disk });
                return Ok(());
            }
            Ok(version) => version.is_some(),
            Err(error) => {
                self.note_io(name, &error);
                true
            }
        };
        let mut len = disk.min(self.len_max);
        if is_last {
            len = self.sound_end(name, &file, (id, len));
        } else if len < disk {
            self.note_damage(name, len, disk - len);
        }
        let told = self.recovered.notes.len();
        let scanned = self.blocks(name, &file, (id, len));
        if !known && scanned.blocks == 0 {
            // Somebody else's content is no damage.
            self.recovered.notes.truncate(told);
            self.recovered.note(Note::NoSegment { file: name.to_owned(), bytes: disk });
            return Ok(());
        }
        if !known {
            self.recovered.note(Note::Damaged { file: name.to_owned(), at: 0, bytes: SEGMENT_HEAD });
        }
        let mut kept = disk;
        if is_last && len < disk {
            self.recovered.note(Note::TornTail { file: name.to_owned(), at: len, bytes: disk - len });
            match self.files.truncate(&file, len) {
                Ok(()) => kept = len,
                Err(error) => self.note_io(name, &error),
            }
        }
        self.end = scanned.end;
        self.segments.push_back(Segment { id, len, disk: kept, end: scanned.end });
        self.scanned.push(scanned);
        Ok(())
    }

    /// A segment that could not be read may be readable in a minute: it is not to be taken for one that is done with, nor
    /// are its numbers to be given to others.
    fn bound_unread(&mut self) {
        let mut bound = None;
        for (segment, scanned) in self.segments.iter_mut().zip(&self.scanned).rev() {
            if scanned.unread {
                // Behind it nothing is known: it holds fewer records than octets.
                segment.end = bound.unwrap_or(segment.end + segment.len);
                self.end = self.end.max(segment.end);
            }
            bound = scanned.first.or(bound);
        }
    }

    /// The number of the first record, or one before it where that could not be read: without a cursor everything below
    /// counts as done with.
    fn first_at_least(&self) -> u64 {
        let scanned = self.segments.iter().zip(&self.scanned);
        let unknown = scanned.take_while(|(_, scanned)| scanned.first.is_none());
        let most: u64 = unknown.filter(|(_, scanned)| scanned.unread).map(|(segment, _)| segment.len).sum();
        self.first.unwrap_or(self.end).saturating_sub(most)
    }

    /// Where the last block of a segment ends that is whole in every octet.
    fn sound_end(&mut self, name: &str, file: &F::File, (id, len): (u64, u64)) -> u64 {
        let (mut at, mut sound) = (SEGMENT_HEAD, SEGMENT_HEAD);
        loop {
            match self.window.find(self.files, file, (id, len), at) {
                Ok(Found::Block(head)) => {
                    let from = at + (head.len() - u64::from(head.bytes));
                    let table = self.window.table(self.files, file, len, (at, &head), &mut self.rows);
                    let body = self.window.copy(self.files, file, from, head.bytes as usize, &mut self.body);
                    let whole = match (table, body) {
                        (Ok(table), Ok(())) => table && self.body_is_sound(),
                        (Err(error), _) | (_, Err(error)) => {
                            self.note_io(name, &error);
                            return len;
                        }
                    };
                    at += head.len();
                    if whole {
                        sound = at;
                    }
                }
                Ok(Found::Damage { until }) => at = until,
                Ok(Found::End) => break,
                Err(error) => {
                    // What cannot be read now is not cut either.
                    self.note_io(name, &error);
                    return len;
                }
            }
        }
        self.body = Vec::new();
        sound
    }

    fn body_is_sound(&self) -> bool {
        let mut start = 0;
        self.rows.iter().all(|row| {
            let end = start + row.len as usize;
            let sound = self.body.get(start..end).is_some_and(|body| crc32fast::hash(body) == row.crc);
            start = end;
            sound
        })
    }

    /// Goes through a segment's heads and tables.
    fn blocks(&mut self, name: &str, file: &F::File, (id, len): (u64, u64)) -> Scanned {
        let mut scanned = Scanned { blocks: 0, first: None, end: self.end, unread: false };
        let mut at = SEGMENT_HEAD;
        loop {
            let found = self.window.find(self.files, file, (id, len), at);
            let head = match found {
                Ok(Found::Block(head)) => head,
                Ok(Found::Damage { until }) => {
                    self.note_damage(name, at, until - at);
                    at = until;
                    continue;
                }
                Ok(Found::End) => return scanned,
                Err(error) => {
                    self.note_io(name, &error);
                    return Scanned { unread: true, ..scanned };
                }
            };
            let place = (at, &head);
            let table = match self.window.table(self.files, file, len, place, &mut self.rows) {
                Ok(sound) => sound,
                Err(error) => {
                    self.note_io(name, &error);
                    return Scanned { unread: true, ..scanned };
                }
            };
            let fits = head.number >= scanned.end
                && head.end() <= NUMBER_MAX
                && (self.written.len() < SHARDS_MAX || self.written.contains_key(&head.shard));
            if fits {
                scanned.blocks += 1;
                scanned.first.get_or_insert(head.number);
                scanned.end = head.end();
                self.first.get_or_insert(head.number);
            }
            if fits && table {
                self.written.insert(head.shard, last_mark(&head, &self.rows));
            } else {
                self.note_damage(name, at, head.len());
            }
            at += head.len();
        }
    }

    fn note_damage(&mut self, name: &str, at: u64, bytes: u64) {
        self.recovered.note(Note::Damaged { file: name.to_owned(), at, bytes });
    }

    fn note_io(&mut self, name: &str, error: &io::Error) {
        self.recovered.note(Note::Io { file: name.to_owned(), error: error.to_string() });
    }
}

/// Where a shard stands after a block.
pub(super) fn last_mark(head: &Head, rows: &[Row]) -> Mark {
    let reached = rows.iter().rev().find(|row| row.seq > 0).map(|row| (row.session, row.seq));
    let (session, seq) = reached.or(head.before.map(|mark| (mark.session, mark.seq))).unwrap_or_default();
    Mark { number: head.end() - 1, session, seq }
}

/// The file of a segment, for what is told of it.
pub(super) fn opened<F: Files>(files: &mut F, id: u64) -> io::Result<F::File> {
    files.open(&segment_name(id))
}
