//! What is kept of a partition beside its pages.

use std::sync::atomic::AtomicU64;

use crate::cache::arena::Root;
use crate::cache::arena::pages::instant;
use crate::cache::arena::words::{Words, in_order, put_word, sum, word};

/// Words of a record: two cache lines, so that no two partitions write to one.
pub const WORDS: usize = 16;

const CHANGING: usize = 0;
const FIRST: usize = 1;
/// Words that a [`Saved`] is written as.
const SAVED: usize = 10;
const INDEX: usize = SAVED - 1;
const SUM: usize = FIRST + SAVED;

const HAS_ME: u64 = 1;
const HAS_REFERENCE: u64 = 2;

/// How far a shard's events have been applied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// A hash of the session's id; 0 for none.
    pub session: u64,
    /// The `s` of the last event of it that was applied.
    pub seq: u64,
}

impl Position {
    /// Whether an event at `event` was applied already.
    #[inline]
    pub fn includes(self, event: Position) -> bool {
        self.session != 0 && self.session == event.session && event.seq <= self.seq
    }
}

/// What no walk through the tree finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Saved {
    pub root: Root,
    pub me: Option<u64>,
    pub own_reference: Option<u64>,
    pub last_number: u64,
    pub position: Position,
}

/// The place in the file.
pub struct Record {
    words: Words,
    /// The partition's, so that no record is taken for another's.
    index: u64,
}

impl Record {
    pub fn new(words: Words, index: usize) -> Record {
        Record { words, index: index as u64 }
    }

    /// Marks the partition, before its first change.
    #[inline]
    pub fn begin(&self) {
        instant();
        put_word(self.words.all(), CHANGING, 1);
        in_order();
    }

    /// Writes what has come out of the change, and takes the mark away.
    #[inline]
    pub fn end(&self, saved: &Saved) {
        let words = self.words.all();
        let raw = saved.raw(self.index);
        in_order();
        for (at, value) in raw.into_iter().enumerate() {
            instant();
            put_word(words, FIRST + at, value);
        }
        put_word(words, SUM, sum(raw));
        in_order();
        instant();
        put_word(words, CHANGING, 0);
        instant();
    }
}

/// Reads the record of partition `index`; one of zeros is an empty partition's.
pub fn read(words: &[AtomicU64], index: usize) -> Result<Saved, &'static str> {
    if word(words, CHANGING) != 0 {
        return Err("a change of it broke off");
    }
    let raw: [u64; SAVED] = std::array::from_fn(|at| word(words, FIRST + at));
    let total = word(words, SUM);
    if total == 0 && raw == [0; SAVED] {
        return Ok(Saved::EMPTY);
    }
    if total == sum(raw) && raw[INDEX] == index as u64 {
        Saved::from_raw(raw).ok_or(DAMAGED)
    } else {
        Err(DAMAGED)
    }
}

const DAMAGED: &str = "its record is damaged";

impl Saved {
    /// Of a partition without entries.
    pub const EMPTY: Saved = Saved {
        root: Root::EMPTY,
        me: None,
        own_reference: None,
        last_number: 0,
        position: Position { session: 0, seq: 0 },
    };

    #[inline]
    fn raw(&self, index: u64) -> [u64; SAVED] {
        let has = |what: Option<u64>, bit| if what.is_some() { bit } else { 0 };
        [
            self.root.page.into(),
            self.root.levels as u64,
            self.root.serial,
            has(self.me, HAS_ME) | has(self.own_reference, HAS_REFERENCE),
            self.me.unwrap_or(0),
            self.own_reference.unwrap_or(0),
            self.last_number,
            self.position.session,
            self.position.seq,
            index,
        ]
    }

    fn from_raw(raw: [u64; SAVED]) -> Option<Saved> {
        let [page, levels, serial, has, me, reference, last_number, session, seq, _] = raw;
        Some(Saved {
            root: Root { page: page.try_into().ok()?, levels: levels.try_into().ok()?, serial },
            me: (has & HAS_ME != 0).then_some(me),
            own_reference: (has & HAS_REFERENCE != 0).then_some(reference),
            last_number,
            position: Position { session, seq },
        })
    }
}

const _: () = assert!(SUM < WORDS);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_comes_back_unless_a_bit_of_it_changed() {
        let saved = Saved {
            root: Root { page: 7, levels: 2, serial: 9 },
            me: Some(1),
            own_reference: None,
            last_number: 5,
            position: Position { session: 11, seq: 12 },
        };
        let words: Vec<AtomicU64> = (0..WORDS).map(|_| AtomicU64::new(0)).collect();
        assert_eq!(read(&words, 3), Ok(Saved::EMPTY));
        for (at, value) in saved.raw(3).into_iter().enumerate() {
            put_word(&words, FIRST + at, value);
        }
        assert!(read(&words, 3).is_err());
        put_word(&words, SUM, sum(saved.raw(3)));
        assert_eq!(read(&words, 3), Ok(saved));
        assert!(read(&words, 4).is_err());
        for at in 0..=SUM {
            for bit in 0..64 {
                let before = word(&words, at);
                put_word(&words, at, before ^ 1 << bit);
                assert!(read(&words, 3).is_err(), "bit {bit} of word {at}");
                put_word(&words, at, before);
            }
        }
    }
}
