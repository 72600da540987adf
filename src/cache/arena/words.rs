//! A part of the words in front of a mapped file's pages.
//!
//! What a process has stored here when it is ended is in the file, in the order in which one thread stored it: the
//! process ends between two instructions, and the system keeps what they wrote. So all that is needed is that the
//! compiler keeps the order, which [`in_order`] sees to. (The loss of power is another matter; see `kept/mod.rs`.)

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering, compiler_fence};

use super::region::Region;

/// Bytes of a word.
pub const WORD: usize = size_of::<u64>();

/// The words.
#[derive(Clone)]
pub struct Words {
    region: Arc<Region>,
    from: usize,
    count: usize,
}

/// What is written before stays before what is written after, as the file sees it.
#[inline]
pub fn in_order() {
    compiler_fence(Ordering::SeqCst);
}

impl Words {
    /// Those words of a region's front, as far as it has them.
    pub fn new(region: &Arc<Region>, range: Range<usize>) -> Words {
        let end = range.end.min(region.words().len());
        let from = range.start.min(end);
        Words { region: Arc::clone(region), from, count: end - from }
    }

    /// All of them.
    #[inline]
    pub fn all(&self) -> &[AtomicU64] {
        &self.region.words()[self.from..self.from + self.count]
    }
}

/// Reads a word; 0 behind the end.
// Ordering: who writes and who reads have a lock between them, or are one process after the other.
#[inline]
pub fn word(words: &[AtomicU64], at: usize) -> u64 {
    words.get(at).map_or(0, |word| word.load(Ordering::Relaxed))
}

/// Writes a word; nothing behind the end.
#[inline]
pub fn put_word(words: &[AtomicU64], at: usize, value: u64) {
    if let Some(word) = words.get(at) {
        word.store(value, Ordering::Relaxed);
    }
}

/// Reads bytes from byte `from` on, as far as there are any.
pub fn read_bytes(words: &[AtomicU64], from: usize, length: usize) -> Vec<u8> {
    let end = from.saturating_add(length).min(words.len() * WORD);
    let bytes = words.iter().skip(from / WORD).flat_map(|word| word.load(Ordering::Relaxed).to_le_bytes());
    bytes.skip(from % WORD).take(end.saturating_sub(from)).collect()
}

/// Writes bytes from byte `from` on; false, and nothing written, when there is no room.
pub fn put_bytes(words: &[AtomicU64], from: usize, bytes: &[u8]) -> bool {
    if from.checked_add(bytes.len()).is_none_or(|end| end > words.len() * WORD) {
        return false;
    }
    let mut left = bytes;
    let (mut at, mut skip) = (from / WORD, from % WORD);
    while !left.is_empty() {
        let count = left.len().min(WORD - skip);
        let mut raw = word(words, at).to_le_bytes();
        raw[skip..skip + count].copy_from_slice(&left[..count]);
        put_word(words, at, u64::from_le_bytes(raw));
        (left, at, skip) = (&left[count..], at + 1, 0);
    }
    true
}

/// A sum that tells damage, not enemies.
#[inline]
pub fn sum(words: impl IntoIterator<Item = u64>) -> u64 {
    const K: u64 = 0x9e37_79b9_7f4a_7c15;
    let fold = |sum: u64, word: u64| (sum.rotate_left(23) ^ word).wrapping_mul(K);
    let sum = words.into_iter().fold(K, fold);
    sum ^ (sum >> 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_back_from_any_place() {
        let words: Vec<AtomicU64> = (0..5).map(|_| AtomicU64::new(u64::MAX)).collect();
        for from in 0..40 {
            for length in 0..=40 - from {
                let bytes: Vec<u8> = (0..length as u8).collect();
                assert!(put_bytes(&words, from, &bytes));
                assert_eq!(read_bytes(&words, from, length), bytes);
                if from > 0 {
                    assert_eq!(read_bytes(&words, from - 1, 1), [0xff], "what is beside it stays");
                }
                assert!(put_bytes(&words, 0, &[0xff; 40]));
            }
            assert!(!put_bytes(&words, from, &vec![0; 41 - from]));
        }
        assert_eq!(read_bytes(&words, 38, 9).len(), 2);
        assert!(read_bytes(&words, 100, 9).is_empty());
    }
}
