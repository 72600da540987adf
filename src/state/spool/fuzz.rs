//! The body of a fuzz target: any bytes as the files of a spool. It has to return, and what must hold is asserted here.

use std::collections::BTreeMap;
use std::io;

use super::format::{Cursor, Head, Mark, RECORDS_MAX, Row, segment_head, segment_name};
use super::{Block, Entry, Error, Files, Next, Options, Record, Spool};

/// Files in memory.
#[derive(Debug, Default)]
struct Memory(BTreeMap<String, Vec<u8>>);

impl Files for Memory {
    type File = String;

    fn list(&mut self) -> io::Result<Vec<(String, u64)>> {
        Ok(self.0.iter().map(|(name, bytes)| (name.clone(), bytes.len() as u64)).collect())
    }

    fn open(&mut self, name: &str) -> io::Result<String> {
        self.0.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(name.to_owned())
    }

    fn create(&mut self, name: &str) -> io::Result<String> {
        match self.0.insert(name.to_owned(), Vec::new()) {
            None => Ok(name.to_owned()),
            Some(_) => Err(io::ErrorKind::AlreadyExists.into()),
        }
    }

    fn write_at(&mut self, file: &String, offset: u64, bytes: &[u8]) -> io::Result<usize> {
        let content = self.0.entry(file.clone()).or_default();
        let offset = offset as usize;
        content.resize(content.len().max(offset + bytes.len()), 0);
        content[offset..offset + bytes.len()].copy_from_slice(bytes);
        Ok(bytes.len())
    }

    fn read_at(&mut self, file: &String, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        let content = self.0.get(file).ok_or(io::ErrorKind::NotFound)?;
        let rest = content.get(offset as usize..).unwrap_or_default();
        let count = rest.len().min(into.len());
        into[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    fn truncate(&mut self, file: &String, len: u64) -> io::Result<()> {
        self.0.entry(file.clone()).or_default().truncate(len as usize);
        Ok(())
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        self.0.remove(name).map(|_| ()).ok_or(io::ErrorKind::NotFound.into())
    }
}

/// `bytes` as the files of a spool: by the first one's lowest bit as they are, or as the fields of heads, tables and a
/// cursor whose checksums hold.
pub fn files(bytes: &[u8]) {
    let Some((&first, rest)) = bytes.split_first() else { return };
    let mut files = Memory::default();
    if first & 1 == 0 {
        let (cursor, segments) = rest.split_at(rest.len().min(if first & 2 == 0 { 128 } else { 0 }));
        if !cursor.is_empty() {
            files.0.insert("cursor".to_owned(), cursor.to_vec());
        }
        for (id, piece) in segments.chunks((segments.len() / 2).max(1)).enumerate() {
            let mut content = if first & 4 == 0 { segment_head().to_vec() } else { Vec::new() };
            content.extend_from_slice(piece);
            files.0.insert(segment_name(id as u64), content);
        }
    } else {
        forge(&mut Fields(rest), &mut files);
    }
    run(files);
}

/// Numbers out of any bytes; zeros when they are used up.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn byte(&mut self) -> u64 {
        let Some((&first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        u64::from(first)
    }

    /// Small ones mostly, and now and then one of the ends of what there is.
    fn number(&mut self) -> u64 {
        match self.byte() {
            255 => u64::MAX,
            254 => super::format::NUMBER_MAX - self.byte(),
            253 => u64::from(u32::MAX),
            252 => self.byte() << 8 | self.byte(),
            small => small,
        }
    }
}

/// Files whose checksums hold, with whatever content.
fn forge(fields: &mut Fields<'_>, files: &mut Memory) {
    if fields.byte() & 1 == 0 {
        let (confirmed, handed) = (fields.number(), fields.number());
        let cursor = Cursor { generation: fields.number(), confirmed, handed, boot: fields.byte() & 1 };
        files.0.insert("cursor".to_owned(), cursor.encode().to_vec());
    }
    let mut id = 0;
    while !fields.0.is_empty() && id < 8 {
        let mut content = segment_head().to_vec();
        while !fields.0.is_empty() {
            let kind = fields.byte();
            if kind & 0x0f == 0 {
                break;
            }
            block(kind, fields, id, &mut content);
        }
        files.0.insert(segment_name(id), content);
        id += 1;
    }
}

fn block(kind: u64, fields: &mut Fields<'_>, id: u64, content: &mut Vec<u8>) {
    let (mut table, mut body) = (Vec::new(), Vec::new());
    let rows = fields.byte() % 5;
    for _ in 0..rows {
        let publish = vec![b'x'; fields.byte() as usize % 40];
        let sound = fields.byte() & 7 != 0;
        let crc = crc32fast::hash(&publish) ^ u32::from(!sound);
        let len = if fields.byte() == 255 { u32::MAX } else { publish.len() as u32 };
        table.extend_from_slice(&Row { session: fields.byte() & 1, seq: fields.number(), len, crc }.encode());
        body.extend_from_slice(&publish);
    }
    let lies = kind & 0xf0 == 0;
    let mark = Mark { number: fields.number(), session: fields.byte() & 1, seq: fields.number() };
    let head = Head {
        shard: fields.number() as u32,
        records: if lies { fields.number() as u32 } else { rows as u32 },
        bytes: if lies { fields.number() as u32 } else { body.len() as u32 },
        frame_max: fields.number() as u32,
        maybe_published: kind & 1 == 0,
        number: fields.number(),
        before: (kind & 2 == 0).then_some(mark),
        table_crc: crc32fast::hash(&table) ^ u32::from(kind & 0x0f == 1),
    };
    let at = content.len() as u64;
    content.extend_from_slice(&head.encode(id, at));
    content.extend_from_slice(&table);
    content.extend_from_slice(&body);
}

fn run(files: Memory) {
    let size: usize = files.0.values().map(Vec::len).sum();
    let options = Options { bytes_max: 1 << 24, segment_bytes: 4096, boot: 1, ..Options::default() };
    let (mut spool, recovered) =
        Spool::open_in(files, options.clone()).expect("nothing in a file is an error");
    assert!(recovered.notes.len() <= super::Recovered::NOTES_MAX && recovered.reach.len() <= size);
    drain(&mut spool, size);
    // It goes on, unless somebody has used up all numbers.
    let records = (1..=3).map(|seq| Record { session: 1, seq, end: seq as usize * 2 });
    let entry = Entry { shard: 1, frame_max: 4096, maybe_published: false, records, bytes: b"a:b:c:" };
    match spool.append(entry, |_| None) {
        Ok(appended) => {
            let mut block = Block::default();
            assert_eq!(spool.next(&mut block).expect("memory"), Next::Block);
            assert_eq!((&block.bytes[..], block.end), (&b"a:b:c:"[..], appended.end));
            // Another process finds the same, and knows that it was handed out.
            let (mut next, _) = Spool::open_in(spool.files, options).expect("nothing in a file is an error");
            assert_eq!(next.next(&mut block).expect("memory"), Next::Block);
            assert!(block.maybe_published && block.bytes == b"a:b:c:" && block.end == appended.end);
            drain(&mut next, size);
        }
        Err(error) => assert!(matches!(error, Error::Entry(_)), "{error}"),
    }
}

fn drain(spool: &mut Spool<Memory>, size: usize) {
    let mut block = Block::default();
    let (mut steps, mut end) = (0, 0);
    loop {
        steps += 1;
        assert!(steps <= 2 * size + 100, "no end");
        match spool.next(&mut block).expect("memory") {
            Next::Block => {
                assert!(!block.records.is_empty() && block.records.len() <= RECORDS_MAX);
                assert_eq!(block.records.last().map(|record| record.end), Some(block.bytes.len()));
                assert!(block.records.is_sorted_by_key(|record| record.end));
                assert!(block.bytes.len() <= size && block.end > end, "{} after {end}", block.end);
                end = block.end;
            }
            Next::Lost(_) => {}
            Next::End => break,
        }
    }
    assert!(spool.memory_bytes() < super::WINDOW_BYTES + super::BUFFER_BYTES + 200 * size);
    spool.confirmed(u64::MAX).expect("memory");
    assert!(spool.is_empty() && spool.waiting() == 0);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Rng;

    #[test]
    fn any_bytes_are_survived() {
        let seeds = match std::env::var("RATEWAY_SEED").ok().and_then(|seed| seed.parse::<u64>().ok()) {
            Some(seed) => seed..seed + 1,
            None => 0..20_000,
        };
        for seed in seeds {
            println!("RATEWAY_SEED={seed}");
            let mut rng = Rng::new(seed);
            let len = rng.below(400);
            // Small numbers too, or forged blocks would hardly ever follow each other.
            let top = 1 + rng.below(256);
            let bytes: Vec<u8> = (0..len).map(|_| rng.below(top) as u8).collect();
            files(&bytes);
        }
    }
}
