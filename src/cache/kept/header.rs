//! The first words of the file: whose it is and how it is laid out.

use std::sync::atomic::AtomicU64;

use crate::cache::Options;
use crate::cache::arena::PAGE_BYTES;
use crate::cache::arena::words::{WORD, in_order, put_word, sum, word};
use crate::cache::encoding;

/// Words of the header.
pub const WORDS: usize = 64;
const MAGIC: u64 = u64::from_le_bytes(*b"rateway\x01");
/// Raised with any change of what lies where: rows and their heads, pages, records. What encoded objects refer to is
/// summed up by itself.
const VERSION: u64 = 1;

/// Words that have to be as expected, each with what it means that they are not.
const FIELDS: [&str; 19] = [
    "it is no cache of this program, or was not made to the end",
    "it is of another version",
    "its entities are encoded in another way",
    "its pages have another size",
    "it has another size than CACHE_MEMORY says",
    "its front has another size",
    "it has another number of shards",
    "it is for another number of shards of the bot",
    "it holds other kinds",
    "it holds another number of messages",
    "it was filled with other intents",
    "it is for other shards",
    "it has room for another number of shapes",
    "it is another bot's",
    "it is another bot's",
    "it is another bot's",
    "it is another bot's",
    "it was not closed before the machine was started anew",
    "it was not closed before the machine was started anew",
];
const BOOT: usize = 17;
/// Behind the fields: their sum.
const SUM: usize = FIELDS.len();
/// Apart from them: whether the file was flushed and not used since, which then stands for any boot.
const CLOSED: usize = 32;

/// What a header should say.
#[derive(Clone, Copy, Debug)]
pub struct Header {
    fields: [u64; FIELDS.len()],
}

/// A sum of the name that the machine gives to its current boot; `None` where it does not tell.
fn boot() -> Option<[u64; 2]> {
    let text = std::fs::read("/proc/sys/kernel/random/boot_id").ok()?;
    let bytes = text.iter().map(|byte| u64::from(*byte));
    (!text.is_empty()).then(|| [sum(bytes.clone()), sum(bytes.chain([1]))])
}

impl Header {
    /// For a cache with these options: `shapes` at most, `page_count` pages, the bot's `identity`.
    pub fn new(
        options: &Options,
        shapes: usize,
        front_bytes: usize,
        page_count: usize,
        identity: [u8; 32],
    ) -> Header {
        let holding = &options.holding;
        let mut fields = [0; FIELDS.len()];
        let mut at = 0;
        let mut push = |value: u64| {
            fields[at] = value;
            at += 1;
        };
        push(MAGIC);
        push(VERSION);
        push(encoding::layout());
        push(PAGE_BYTES as u64);
        push(page_count as u64);
        push(front_bytes as u64);
        push(options.shards.len() as u64);
        push(options.shard_count.into());
        push(holding.kinds.iter().fold(0, |bits, kind| bits | 1 << kind as u8));
        push(holding.message_cache_size.into());
        push(holding.members_are_told.into());
        push(sum(options.shards.iter().map(|shard| u64::from(*shard))));
        push(shapes as u64);
        identity.as_chunks::<WORD>().0.iter().for_each(|part| push(u64::from_le_bytes(*part)));
        // Where the machine does not tell, no boot is the one before.
        boot().unwrap_or([0, 0]).into_iter().for_each(push);
        Header { fields }
    }

    /// The same in another boot.
    #[cfg(test)]
    pub fn with_boot(&self, boot: [u64; 2]) -> Header {
        let mut fields = self.fields;
        fields[BOOT..].copy_from_slice(&boot);
        Header { fields }
    }

    /// Holds the first bytes of a file to it.
    ///
    /// # Errors
    /// What is different.
    pub fn compare(&self, bytes: &[u8]) -> Result<(), String> {
        let at = |at: usize| {
            let bytes = bytes.get(at * WORD..(at + 1) * WORD)?;
            Some(u64::from_ne_bytes(bytes.try_into().ok()?))
        };
        let found: Option<Vec<u64>> = (0..=CLOSED).map(at).collect();
        let found = found.ok_or("it is too short")?;
        for (index, (wanted, what)) in self.fields.iter().zip(FIELDS).enumerate().take(BOOT) {
            if found[index] != *wanted {
                return Err(what.to_owned());
            }
        }
        if found[SUM] != sum(found[..SUM].iter().copied()) {
            return Err("its header is damaged".to_owned());
        }
        let boot = &found[BOOT..SUM];
        let same_boot = *boot == self.fields[BOOT..] && *boot != [0, 0];
        if !same_boot && found[CLOSED] != 1 {
            return Err(FIELDS[BOOT].to_owned());
        }
        Ok(())
    }

    /// Writes it for a file that is in use, its magic last.
    pub fn write(&self, words: &[AtomicU64]) {
        put_word(words, 0, 0);
        put_word(words, CLOSED, 0);
        in_order();
        for (at, value) in self.fields.iter().enumerate().skip(1) {
            put_word(words, at, *value);
        }
        put_word(words, SUM, sum(self.fields));
        in_order();
        put_word(words, 0, MAGIC);
    }

    /// Whether the file was closed.
    pub fn is_closed(words: &[AtomicU64]) -> bool {
        word(words, CLOSED) != 0
    }

    /// Notes that it is (not) closed.
    pub fn set_closed(words: &[AtomicU64], closed: bool) {
        put_word(words, CLOSED, closed.into());
    }
}

const _: () = assert!(SUM < CLOSED && CLOSED < WORDS);
