//! The sessions of a cluster's shards in a file: what a later process needs to resume them.
//!
//! ```text
//! file     | record of the first shard | record of the next | ...        1,024 bytes each
//! record   crc32 u32 | version u32 | identity 32 | shard u32 | shard count u32 | seq u64 | uptime u64 | wall u64
//!          | boot: length u8, 63 bytes | id: length u16 | url: length u16 | id | url | zeros         little-endian
//! ```
//!
//! A record is checked as a whole and lies within one page of the system's, so that a process that is killed while it
//! writes leaves the old one or the new; anything else does not pass. The identity is a hash of the bot and one of what a
//! session depends on: another bot's record is none, and one with other settings says so. Records are written together, some milliseconds after the first
//! change at the latest, so what they cost does not depend on how many events there are.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::time::Duration;

use super::{Folder, Stamp};
use crate::base::Secret;

/// Bytes of a record.
const RECORD_BYTES: usize = 1024;

/// Records of another version are not read.
const VERSION: u32 = 1;

const BOOT_AT: usize = 72;
const BOOT_BYTES_MAX: usize = 63;
const ID_LENGTH_AT: usize = BOOT_AT + 1 + BOOT_BYTES_MAX;
const TEXT_AT: usize = ID_LENGTH_AT + 4;

/// The longest session id that is kept; Discord's have 32 characters.
const ID_BYTES_MAX: usize = 256;

/// The longest resume URL that is kept.
const URL_BYTES_MAX: usize = RECORD_BYTES - TEXT_AT - ID_BYTES_MAX;

/// What is kept of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Its id.
    pub id: Secret,
    /// Where to resume it.
    pub resume_url: Option<String>,
    /// The bot's shards when it began.
    pub shard_count: u32,
    /// The last seq up to which the broker had everything; 0 for nothing.
    pub seq: u64,
}

/// Of the identity so many bytes are the bot's, the others those of its settings.
const BOT_BYTES: usize = 16;

/// What an earlier process left of a shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its session.
    pub kept: Kept,
    /// How long ago it was written, at least.
    pub age: Duration,
    /// Whether it was begun with the settings of now.
    pub same_settings: bool,
}

/// The sessions of a cluster.
#[derive(Debug)]
pub struct Sessions {
    file: File,
    identity: [u8; 32],
    first: u32,
    image: Vec<u8>,
    /// Records that differ from the file's, from the first to behind the last of them.
    dirty: Range<usize>,
}

impl Sessions {
    /// Opens the file `name` for `shards`, and reads what an earlier process left: the session of each shard and how
    /// long ago it was written at least, where the wall clock says `wall_ms`.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn open(
        folder: &Folder,
        name: &str,
        shards: Range<u32>,
        identity: [u8; 32],
        wall_ms: u64,
    ) -> io::Result<(Sessions, Vec<Option<Found>>)> {
        let path = folder.path().join(name);
        // With the token a session's id is enough to take it over: nobody else on the machine reads it.
        let file =
            File::options().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        let mut image = vec![0; shards.len() * RECORD_BYTES];
        let mut read = 0;
        while read < image.len() {
            match file.read_at(&mut image[read..], read as u64)? {
                0 => break,
                count => read += count,
            }
        }
        let now = Stamp::read(wall_ms);
        let kept = shards
            .clone()
            .zip(image.chunks_exact(RECORD_BYTES))
            .map(|(shard, record)| {
                let (kept, at) = decode(record, &identity, shard)?;
                let same_settings = record.get(8..40) == Some(&identity[..]);
                Some(Found { kept, age: now.since(&at), same_settings })
            })
            .collect();
        Ok((Sessions { file, identity, first: shards.start, image, dirty: 0..0 }, kept))
    }

    /// Notes the session of `shard`; `None` forgets it. Written with the next [`Sessions::write`].
    pub fn set(&mut self, shard: u32, kept: Option<&Kept>, at: &Stamp) {
        let index = shard.wrapping_sub(self.first) as usize;
        let Some(record) = self.image.get_mut(index * RECORD_BYTES..(index + 1) * RECORD_BYTES) else {
            return;
        };
        match kept {
            Some(kept) => encode(record, kept, &self.identity, shard, at),
            None if record.iter().all(|&byte| byte == 0) => return,
            None => record.fill(0),
        }
        self.dirty = match self.dirty.is_empty() {
            true => index..index + 1,
            false => self.dirty.start.min(index)..self.dirty.end.max(index + 1),
        };
    }

    /// Writes what was noted, in one piece.
    ///
    /// # Errors
    /// When the system refuses; the next call tries again.
    pub fn write(&mut self) -> io::Result<()> {
        if self.dirty.is_empty() {
            return Ok(());
        }
        let bytes = self.dirty.start * RECORD_BYTES..self.dirty.end * RECORD_BYTES;
        self.file.write_all_at(&self.image[bytes.clone()], bytes.start as u64)?;
        self.dirty = 0..0;
        Ok(())
    }
}

fn encode(record: &mut [u8], kept: &Kept, identity: &[u8; 32], shard: u32, at: &Stamp) {
    record.fill(0);
    let (id, url) = (kept.id.expose(), kept.resume_url.as_deref().unwrap_or_default());
    // What does not fit cannot be resumed later, which costs an IDENTIFY. Discord's have 32 and some 40 characters.
    if id.is_empty() || id.len() > ID_BYTES_MAX || url.len() > URL_BYTES_MAX {
        return;
    }
    let boot = &at.boot.as_bytes()[..at.boot.len().min(BOOT_BYTES_MAX)];
    let mut put = |at: usize, bytes: &[u8]| record[at..at + bytes.len()].copy_from_slice(bytes);
    put(4, &VERSION.to_le_bytes());
    put(8, identity);
    put(40, &shard.to_le_bytes());
    put(44, &kept.shard_count.to_le_bytes());
    put(48, &kept.seq.to_le_bytes());
    put(56, &at.uptime_ms.to_le_bytes());
    put(64, &at.wall_ms.to_le_bytes());
    put(BOOT_AT, &[boot.len() as u8]);
    put(BOOT_AT + 1, boot);
    put(ID_LENGTH_AT, &(id.len() as u16).to_le_bytes());
    put(ID_LENGTH_AT + 2, &(url.len() as u16).to_le_bytes());
    put(TEXT_AT, id.as_bytes());
    put(TEXT_AT + id.len(), url.as_bytes());
    let check = crc32fast::hash(&record[4..]);
    record[..4].copy_from_slice(&check.to_le_bytes());
}

fn decode(record: &[u8], identity: &[u8; 32], shard: u32) -> Option<(Kept, Stamp)> {
    let u32_at = |at: usize| record.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes);
    let u64_at = |at: usize| record.get(at..at + 8)?.try_into().ok().map(u64::from_le_bytes);
    let u16_at = |at: usize| {
        record.get(at..at + 2)?.try_into().ok().map(|bytes| usize::from(u16::from_le_bytes(bytes)))
    };
    let text = |at: usize, length: usize| {
        let bytes = record.get(at..at.checked_add(length)?)?;
        std::str::from_utf8(bytes).ok().map(str::to_owned)
    };
    let is_ours = u32_at(0)? == crc32fast::hash(record.get(4..)?)
        && u32_at(4)? == VERSION
        && record.get(8..8 + BOT_BYTES)? == &identity[..BOT_BYTES]
        && u32_at(40)? == shard;
    if !is_ours {
        return None;
    }
    let boot_length = usize::from(*record.get(BOOT_AT)?).min(BOOT_BYTES_MAX);
    let (id_length, url_length) = (u16_at(ID_LENGTH_AT)?, u16_at(ID_LENGTH_AT + 2)?);
    let url = text(TEXT_AT + id_length, url_length)?;
    let kept = Kept {
        id: Secret::new(text(TEXT_AT, id_length).filter(|id| !id.is_empty())?),
        resume_url: Some(url).filter(|url| !url.is_empty()),
        shard_count: u32_at(44)?,
        seq: u64_at(48)?,
    };
    let at = Stamp { boot: text(BOOT_AT + 1, boot_length)?, uptime_ms: u64_at(56)?, wall_ms: u64_at(64)? };
    Some((kept, at))
}

/// Reads a record with any content, as it is and with a checksum that holds, and writes again what it says: that has to
/// read back the same.
#[doc(hidden)]
pub fn fuzz(bytes: &[u8]) {
    let mut record = [0; RECORD_BYTES];
    let length = bytes.len().min(RECORD_BYTES);
    record[..length].copy_from_slice(&bytes[..length]);
    let mut identity = [0; 32];
    identity.copy_from_slice(&record[8..40]);
    let shard = u32::from_le_bytes([record[40], record[41], record[42], record[43]]);
    for sound in [false, true] {
        if sound {
            record[4..8].copy_from_slice(&VERSION.to_le_bytes());
            let check = crc32fast::hash(&record[4..]);
            record[..4].copy_from_slice(&check.to_le_bytes());
        }
        let Some((kept, at)) = decode(&record, &identity, shard) else { continue };
        let mut again = [0; RECORD_BYTES];
        encode(&mut again, &kept, &identity, shard, &at);
        // Longer texts than are ever written may stand there; they are read, and not kept on.
        if let Some(read) = decode(&again, &identity, shard) {
            assert!(read == (kept, at));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;

    struct Scratch(PathBuf);

    impl Scratch {
        fn folder(name: &str) -> (Scratch, Folder) {
            let path = std::env::temp_dir().join(format!("rateway-sessions-{}-{name}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            let folder = Folder::open(&path, "test").expect("a folder");
            (Scratch(path), folder)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn kept(id: &str, seq: u64) -> Kept {
        let resume_url = Some("wss://gateway.example".to_owned());
        Kept { id: Secret::new(id), resume_url, shard_count: 16, seq }
    }

    fn found(folder: &Folder, shards: Range<u32>, identity: [u8; 32]) -> Vec<Option<Kept>> {
        let (_, kept) = Sessions::open(folder, "s", shards, identity, 0).expect("a file");
        kept.into_iter().map(|found| found.map(|found| found.kept)).collect()
    }

    #[test]
    fn what_is_written_is_found_by_the_same_bot() {
        let (scratch, folder) = Scratch::folder("found");
        let (mut sessions, none) = Sessions::open(&folder, "s", 8..12, [7; 32], 0).expect("a file");
        assert_eq!(none, vec![None; 4]);
        let mode = fs::metadata(scratch.0.join("s")).expect("the file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "ids of sessions are secrets");
        let at = Stamp::read(0);
        sessions.set(9, Some(&kept("a", 5)), &at);
        sessions.set(11, Some(&Kept { resume_url: None, ..kept("b", 6) }), &at);
        sessions.set(12, Some(&kept("not of this cluster", 1)), &at);
        sessions.set(7, Some(&kept("nor this", 1)), &at);
        assert_eq!(found(&folder, 8..12, [7; 32]), vec![None; 4], "nothing is written yet");
        sessions.write().expect("a write");
        sessions.set(11, Some(&kept("b", 7)), &at);
        sessions.set(11, None, &at);
        sessions.set(8, None, &at);
        let expected = vec![None, Some(kept("a", 5)), None, Some(Kept { resume_url: None, ..kept("b", 6) })];
        assert_eq!(found(&folder, 8..12, [7; 32]), expected);
        sessions.write().expect("a write");
        assert_eq!(found(&folder, 8..12, [7; 32]), vec![None, Some(kept("a", 5)), None, None]);
        // The same bot with other settings, another bot, other shards in its place.
        let mut other = [7; 32];
        other[31] = 8;
        let (_, left) = Sessions::open(&folder, "s", 8..12, other, 0).expect("a file");
        assert_eq!(
            left[1].as_ref().map(|found| (&found.kept, found.same_settings)),
            Some((&kept("a", 5), false))
        );
        assert_eq!(found(&folder, 8..12, [8; 32]), vec![None; 4]);
        assert_eq!(found(&folder, 0..4, [7; 32]), vec![None; 4]);
    }

    #[test]
    fn what_cannot_be_kept_is_not() {
        let (_scratch, folder) = Scratch::folder("long");
        let (mut sessions, _) = Sessions::open(&folder, "s", 0..3, [0; 32], 0).expect("a file");
        let at = Stamp { boot: "b".repeat(100), ..Stamp::default() };
        let url = Some("u".repeat(URL_BYTES_MAX));
        let longest = Kept { resume_url: url, ..kept(&"i".repeat(ID_BYTES_MAX), 1) };
        sessions.set(0, Some(&longest), &at);
        sessions.set(1, Some(&kept(&"i".repeat(ID_BYTES_MAX + 1), 1)), &at);
        sessions.set(2, Some(&Kept { resume_url: Some("u".repeat(1000)), ..kept("a", 1) }), &at);
        sessions.write().expect("a write");
        assert_eq!(found(&folder, 0..3, [0; 32]), vec![Some(longest), None, None]);
    }

    #[test]
    fn no_damage_makes_another_session() {
        let (scratch, folder) = Scratch::folder("damage");
        let (mut sessions, _) = Sessions::open(&folder, "s", 0..2, [1; 32], 0).expect("a file");
        let at = Stamp::read(0);
        for shard in 0..2 {
            sessions.set(shard, Some(&kept("session", 77)), &at);
        }
        sessions.write().expect("a write");
        let good = fs::read(scratch.0.join("s")).expect("the file");
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1 << (at % 8);
            fs::write(scratch.0.join("s"), &bad).expect("a write");
            let found = found(&folder, 0..2, [1; 32]);
            assert_eq!(found[at / RECORD_BYTES], None, "byte {at}");
            assert!(found[1 - at / RECORD_BYTES].is_some());
        }
        for length in (0..good.len()).step_by(7) {
            fs::write(scratch.0.join("s"), &good[..length]).expect("a write");
            let found = found(&folder, 0..2, [1; 32]);
            // Zeros at the end of a record are zeros without them.
            assert!(found[0].as_ref().is_none_or(|found| *found == kept("session", 77)), "length {length}");
            assert!(found[0].is_some() || length < RECORD_BYTES);
            assert!(found[1].is_none() || length > RECORD_BYTES);
        }
    }
}
