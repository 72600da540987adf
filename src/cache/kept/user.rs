//! The bot's own user, in two slots by turns: a write that is broken off leaves the other.

use crate::cache::arena::words::{WORD, Words, in_order, put_bytes, put_word, read_bytes, sum, word};

/// Words of a slot. A user's object takes some 200 bytes; a larger one than this is not kept.
const SLOT: usize = 1024;
/// Words of both.
pub const WORDS: usize = 2 * SLOT;

const TURN: usize = 0;
const ID: usize = 1;
const LENGTH: usize = 2;
const SUM: usize = 3;
const BYTES: usize = 4;

/// The place in the file.
pub struct User(Words);

fn sum_of(turn: u64, id: u64, bytes: &[u8]) -> u64 {
    sum([turn, id, bytes.len() as u64].into_iter().chain(bytes.iter().map(|byte| u64::from(*byte))))
}

impl User {
    pub fn new(words: Words) -> User {
        User(words)
    }

    /// The user that was written last: its turn, its id and its encoded object.
    fn last(&self) -> Option<(u64, u64, Vec<u8>)> {
        let slot = |slot: &[_]| {
            let (turn, id) = (word(slot, TURN), word(slot, ID));
            let length = usize::try_from(word(slot, LENGTH)).ok().filter(|length| *length <= SLOT * WORD)?;
            let bytes = read_bytes(slot, BYTES * WORD, length);
            (turn > 0 && word(slot, SUM) == sum_of(turn, id, &bytes)).then_some((turn, id, bytes))
        };
        self.0.all().chunks(SLOT).filter_map(slot).max_by_key(|(turn, ..)| *turn)
    }

    /// The same without the turn.
    pub fn read(&self) -> Option<(u64, Vec<u8>)> {
        self.last().map(|(_, id, bytes)| (id, bytes))
    }

    /// Writes it. One at a time: the caller has a lock.
    pub fn write(&self, id: u64, bytes: &[u8]) {
        let turn = self.last().map_or(0, |(turn, ..)| turn).wrapping_add(1);
        let Some(slot) = self.0.all().chunks(SLOT).nth((turn % 2) as usize) else { return };
        put_word(slot, TURN, 0);
        in_order();
        put_word(slot, ID, id);
        put_word(slot, LENGTH, bytes.len() as u64);
        if put_bytes(slot, BYTES * WORD, bytes) {
            put_word(slot, SUM, sum_of(turn, id, bytes));
            in_order();
            put_word(slot, TURN, turn);
        }
    }

    /// Forgets it.
    pub fn clear(&self) {
        self.0.all().chunks(SLOT).for_each(|slot| put_word(slot, TURN, 0));
    }
}
