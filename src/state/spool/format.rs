//! What is in a spool's files. All numbers are big endian.
//!
//! ```text
//! segment   "rtwspool" | version u32 | crc u32 of these 12 | blocks
//! block     head, 64 octets | table, 24 octets a record | the publishes, as they go to the broker
//! head      marker | shard u32 | records u32 | octets of publishes u32 | frame_max u32 | flags u32 | number u64
//!           | the shard's record before: number u64, session u64, seq u64 | crc u32 of the table | crc u32
//! row       session u64 | seq u64 | octets u32 | crc u32 of them
//! cursor    two slots of 48 octets at 0 and 64, written in turn:
//!           version u32 | 0 u32 | generation u64 | confirmed u64 | handed out u64 | boot u64 | 0 u32 | crc u32
//! ```
//!
//! Records are numbered through the life of a spool. A head's checksum covers the segment's number and the place too, so
//! that a head is only one where it was written. After damage the next head is looked for by its marker, whose first
//! two octets are in no UTF-8 text: nobody's message can look like one.
//!
//! Each head names the last record of its shard before it. So whatever is damaged or missing, the next block that can be
//! read says how far its shard's loss goes.

/// Files of another version are left alone.
pub(super) const VERSION: u32 = 1;

/// Octets before the first block of a segment.
pub(super) const SEGMENT_HEAD: u64 = 16;
/// Octets of a block's head.
pub(super) const HEAD: usize = 64;
/// Octets of a row of the table.
pub(super) const ROW: usize = 24;
/// Octets of the cursor file, and of a slot in it.
pub(super) const CURSOR: usize = 128;
pub(super) const SLOT: usize = 48;

/// Records of a block at most: sixteen times what a shard's task makes in one run.
pub(super) const RECORDS_MAX: usize = 16 * 1024;
/// Octets of a block's publishes at most. The largest message that is read from Discord is 32 MiB by default.
pub(super) const BLOCK_BYTES_MAX: usize = 128 << 20;
/// No record has a higher number, so that adding to one cannot overflow.
pub(super) const NUMBER_MAX: u64 = 1 << 62;

const MAGIC: &[u8; 8] = b"rtwspool";
pub(super) const MARKER: [u8; 4] = [0xf5, 0xff, b'R', b'B'];
/// Flag: the publishes may have gone out before they were spooled.
const MAYBE_PUBLISHED: u32 = 1;
/// A number that no record has.
const NONE: u64 = u64::MAX;

/// The file name of a segment.
pub(super) fn segment_name(id: u64) -> String {
    format!("{id:016x}.spool")
}

/// The number in a segment's file name; `None`: it is the name of something else.
pub(super) fn segment_id(name: &str) -> Option<u64> {
    let id = u64::from_str_radix(name.strip_suffix(".spool")?, 16).ok()?;
    // The last number is none, so that there is always a next one.
    (id < NONE && segment_name(id) == name).then_some(id)
}

/// The last record of a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    /// Its number in the spool.
    pub number: u64,
    /// The highest event up to there: session and seq; 0 and 0 when there was none with a seq.
    pub session: u64,
    pub seq: u64,
}

/// What a block's head says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub shard: u32,
    pub records: u32,
    pub bytes: u32,
    pub frame_max: u32,
    pub maybe_published: bool,
    /// Of the first record.
    pub number: u64,
    /// The shard's last record before; `None`: there was none in the spool.
    pub before: Option<Mark>,
    pub table_crc: u32,
}

impl Head {
    /// Octets of the table.
    pub fn table_len(&self) -> usize {
        self.records as usize * ROW
    }

    /// Octets of the whole block.
    pub fn len(&self) -> u64 {
        (HEAD + self.table_len()) as u64 + u64::from(self.bytes)
    }

    /// The number after its last record.
    pub fn end(&self) -> u64 {
        self.number + u64::from(self.records)
    }

    pub fn encode(&self, segment: u64, at: u64) -> [u8; HEAD] {
        let before = self.before.unwrap_or(Mark { number: NONE, session: 0, seq: 0 });
        let mut out = Writer { bytes: [0; HEAD], at: 0 };
        out.put(&MARKER);
        for field in [self.shard, self.records, self.bytes, self.frame_max, u32::from(self.maybe_published)] {
            out.put(&field.to_be_bytes());
        }
        for field in [self.number, before.number, before.session, before.seq] {
            out.put(&field.to_be_bytes());
        }
        out.put(&self.table_crc.to_be_bytes());
        let crc = head_crc(&out.bytes[..HEAD - 4], segment, at);
        out.put(&crc.to_be_bytes());
        out.bytes
    }

    /// Reads a head at `at` of `segment`; `None`: there is none.
    pub fn decode(bytes: &[u8], segment: u64, at: u64) -> Option<Head> {
        if !bytes.starts_with(&MARKER) || bytes.len() != HEAD {
            return None;
        }
        if head_crc(&bytes[..HEAD - 4], segment, at) != u32_at(bytes, HEAD - 4) {
            return None;
        }
        let number = u64_at(bytes, 32);
        let head = Head {
            shard: u32_at(bytes, 4),
            records: u32_at(bytes, 8),
            bytes: u32_at(bytes, 12),
            frame_max: u32_at(bytes, 16),
            maybe_published: u32_at(bytes, 20) & MAYBE_PUBLISHED != 0,
            number: u64_at(bytes, 24),
            before: (number != NONE).then(|| Mark {
                number,
                session: u64_at(bytes, 40),
                seq: u64_at(bytes, 48),
            }),
            table_crc: u32_at(bytes, 56),
        };
        let sane = (1..=RECORDS_MAX).contains(&(head.records as usize))
            && head.bytes as usize <= BLOCK_BYTES_MAX
            && head.number <= NUMBER_MAX;
        sane.then_some(head)
    }
}

fn head_crc(bytes: &[u8], segment: u64, at: u64) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&segment.to_be_bytes());
    hasher.update(&at.to_be_bytes());
    hasher.update(bytes);
    hasher.finalize()
}

/// What the table says of one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub session: u64,
    pub seq: u64,
    pub len: u32,
    pub crc: u32,
}

impl Row {
    pub fn encode(&self) -> [u8; ROW] {
        let mut out = Writer { bytes: [0; ROW], at: 0 };
        out.put(&self.session.to_be_bytes());
        out.put(&self.seq.to_be_bytes());
        out.put(&self.len.to_be_bytes());
        out.put(&self.crc.to_be_bytes());
        out.bytes
    }

    /// Reads the table of a block into `rows`; false: it is not what was written.
    pub fn decode_all(table: &[u8], head: &Head, rows: &mut Vec<Row>) -> bool {
        rows.clear();
        if crc32fast::hash(table) != head.table_crc {
            return false;
        }
        rows.extend(table.chunks_exact(ROW).map(|row| Row {
            session: u64_at(row, 0),
            seq: u64_at(row, 8),
            len: u32_at(row, 16),
            crc: u32_at(row, 20),
        }));
        rows.iter().map(|row| u64::from(row.len)).sum::<u64>() == u64::from(head.bytes)
    }
}

/// What a segment begins with.
pub(super) fn segment_head() -> [u8; SEGMENT_HEAD as usize] {
    let mut out = Writer { bytes: [0; SEGMENT_HEAD as usize], at: 0 };
    out.put(MAGIC);
    out.put(&VERSION.to_be_bytes());
    let crc = crc32fast::hash(&out.bytes[..12]);
    out.put(&crc.to_be_bytes());
    out.bytes
}

/// The version that a segment says it is of; `None`: its first octets are not those of a segment.
pub(super) fn segment_version(bytes: &[u8]) -> Option<u32> {
    let sound = bytes.len() as u64 == SEGMENT_HEAD
        && bytes.starts_with(MAGIC)
        && crc32fast::hash(&bytes[..12]) == u32_at(bytes, 12);
    sound.then(|| u32_at(bytes, 8))
}

/// How far a spool has been read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Cursor {
    /// Counts the writes.
    pub generation: u64,
    /// Records below are done with.
    pub confirmed: u64,
    /// Records below were handed out at some time.
    pub handed: u64,
    /// The boot of the machine in which this was written.
    pub boot: u64,
}

impl Cursor {
    /// Where in the file this one goes: never over the one before.
    pub fn offset(&self) -> u64 {
        (self.generation % 2) * (CURSOR as u64 / 2)
    }

    pub fn encode(&self) -> [u8; SLOT] {
        let mut out = Writer { bytes: [0; SLOT], at: 0 };
        out.put(&VERSION.to_be_bytes());
        out.put(&[0; 4]);
        for field in [self.generation, self.confirmed, self.handed, self.boot] {
            out.put(&field.to_be_bytes());
        }
        out.put(&[0; 4]);
        let crc = crc32fast::hash(&out.bytes[..SLOT - 4]);
        out.put(&crc.to_be_bytes());
        out.bytes
    }

    fn decode(slot: &[u8]) -> Option<Cursor> {
        let cursor = Cursor {
            generation: u64_at(slot, 8),
            confirmed: u64_at(slot, 16),
            handed: u64_at(slot, 24),
            boot: u64_at(slot, 32),
        };
        let sound = crc32fast::hash(&slot[..SLOT - 4]) == u32_at(slot, SLOT - 4)
            && u32_at(slot, 0) == VERSION
            && cursor.confirmed <= NUMBER_MAX
            && cursor.handed <= NUMBER_MAX
            && cursor.generation < NONE;
        sound.then_some(cursor)
    }

    /// The newer of the two slots that a file holds, as far as they are sound.
    pub fn read(file: &[u8]) -> Option<Cursor> {
        let slots = [file.get(..SLOT), file.get(CURSOR / 2..CURSOR / 2 + SLOT)];
        slots.into_iter().flatten().filter_map(Cursor::decode).max_by_key(|cursor| cursor.generation)
    }
}

/// Fills an array from its front. What does not fit is a mistake in this file, which every test would meet.
struct Writer<const N: usize> {
    bytes: [u8; N],
    at: usize,
}

impl<const N: usize> Writer<N> {
    fn put(&mut self, field: &[u8]) {
        self.bytes[self.at..self.at + field.len()].copy_from_slice(field);
        self.at += field.len();
    }
}

/// The callers' slices have a fixed length above `at + 4`.
fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut field = [0; 4];
    field.copy_from_slice(&bytes[at..at + 4]);
    u32::from_be_bytes(field)
}

/// The callers' slices have a fixed length above `at + 8`.
fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut field = [0; 8];
    field.copy_from_slice(&bytes[at..at + 8]);
    u64::from_be_bytes(field)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_exact() {
        assert_eq!(segment_id(&segment_name(0x1f)), Some(0x1f));
        for other in ["1f.spool", "000000000000001F.spool", "000000000000001f.spool.old", "cursor", ".spool"]
        {
            assert_eq!(segment_id(other), None, "{other}");
        }
        assert_eq!(segment_id("ffffffffffffffff.spool"), None);
    }

    #[test]
    fn a_head_holds_only_in_its_place() {
        let before = Some(Mark { number: 4, session: 0xabc, seq: 17 });
        for before in [None, before] {
            let head = Head {
                shard: 3,
                records: 2,
                bytes: 900,
                frame_max: 131_072,
                maybe_published: true,
                number: 9,
                before,
                table_crc: 0x1234_5678,
            };
            let bytes = head.encode(5, 16);
            assert_eq!(Head::decode(&bytes, 5, 16), Some(head));
            assert_eq!(Head::decode(&bytes, 6, 16), None);
            assert_eq!(Head::decode(&bytes, 5, 17), None);
        }
    }

    #[test]
    fn the_newer_sound_slot_counts() {
        let mut file = [0; CURSOR];
        assert_eq!(Cursor::read(&file), None);
        for generation in 1..6 {
            let cursor = Cursor { generation, confirmed: generation * 2, handed: generation * 3, boot: 7 };
            let at = cursor.offset() as usize;
            file[at..at + SLOT].copy_from_slice(&cursor.encode());
            assert_eq!(Cursor::read(&file), Some(cursor));
        }
        // Generation 5 is damaged, 4 is still there.
        file[CURSOR / 2 + 10] ^= 1;
        assert_eq!(Cursor::read(&file).map(|cursor| cursor.generation), Some(4));
    }
}
