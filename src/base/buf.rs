//! A window of bytes: written at the end, read from the front, compacted rather than grown.
//!
//! ```text
//! | consumed | filled | spare |
//! 0       start      end   capacity
//! ```

use std::fmt;

/// A byte window. Reading it is two calls, [`Buf::spare`] and [`Buf::commit`], so that a socket can write into
/// it without a copy.
#[derive(Default)]
pub struct Buf {
    bytes: Vec<u8>,
    // Invariant: start <= end <= bytes.len().
    start: usize,
    end: usize,
}

impl Buf {
    /// A window that holds `capacity` bytes before it has to grow.
    pub fn with_capacity(capacity: usize) -> Buf {
        Buf { bytes: vec![0; capacity], start: 0, end: 0 }
    }

    /// How many bytes fit without growing, filled ones included.
    pub fn capacity(&self) -> usize {
        self.bytes.len()
    }

    /// The bytes that are filled and not consumed.
    pub fn filled(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// As [`Buf::filled`], to be changed in place.
    pub fn filled_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.end]
    }

    /// How many bytes are filled and not consumed.
    pub fn len(&self) -> usize {
        self.end - self.start
    }

    /// Whether nothing is filled.
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// The free space behind the filled bytes. Moves them to the front first where that makes room.
    pub fn spare(&mut self) -> &mut [u8] {
        if self.start > 0 && self.end == self.bytes.len() {
            self.bytes.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        &mut self.bytes[self.end..]
    }

    /// Counts the first `n` bytes of [`Buf::spare`] as filled.
    ///
    /// # Panics
    /// When `n` is larger than the spare space: the caller wrote past it.
    pub fn commit(&mut self, n: usize) {
        assert!(n <= self.bytes.len() - self.end, "committed past the window");
        self.end += n;
    }

    /// Drops the first `n` filled bytes.
    ///
    /// # Panics
    /// When fewer than `n` are filled.
    pub fn consume(&mut self, n: usize) {
        assert!(n <= self.len(), "consumed past the filled bytes");
        self.start += n;
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
        }
    }

    /// Appends a copy of `bytes`, growing where it must.
    pub fn extend(&mut self, bytes: &[u8]) {
        self.reserve(bytes.len());
        self.bytes[self.end..self.end + bytes.len()].copy_from_slice(bytes);
        self.end += bytes.len();
    }

    /// Makes room for `n` more bytes.
    pub fn reserve(&mut self, n: usize) {
        if self.bytes.len() - self.end >= n {
            return;
        }
        if self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.bytes.len() - self.end < n {
            self.bytes.resize((self.end + n).max(self.bytes.len() * 2), 0);
        }
    }

    /// Empties the window and gives memory above `capacity` back.
    pub fn reset(&mut self, capacity: usize) {
        self.start = 0;
        self.end = 0;
        if self.bytes.len() > capacity {
            self.bytes.truncate(capacity);
            self.bytes.shrink_to_fit();
        }
    }
}

impl fmt::Debug for Buf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buf({} of {} bytes)", self.len(), self.capacity())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compacts_before_it_grows() {
        let mut buf = Buf::with_capacity(8);
        buf.extend(b"abcdefgh");
        buf.consume(5);
        assert_eq!(buf.spare().len(), 5);
        buf.spare()[..2].copy_from_slice(b"ij");
        buf.commit(2);
        assert_eq!(buf.filled(), b"fghij");
        buf.extend(b"klm");
        assert_eq!(buf.capacity(), 8);
        buf.extend(b"n");
        assert_eq!(buf.filled(), b"fghijklmn");
        buf.reset(8);
        assert_eq!(buf.capacity(), 8);
        assert!(buf.is_empty());
    }

    #[test]
    #[should_panic(expected = "consumed past")]
    fn consuming_what_is_not_there_panics() {
        Buf::with_capacity(4).consume(1);
    }
}
