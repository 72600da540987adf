//! Keys as the pages have them: 17 bytes, big-endian, so that their order is that of the numbers.

/// What an entry is found by; ordered by `kind`, then `a`, then `b`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// Which sort of thing it is; 0xff is the tree's own.
    pub kind: u8,
    /// An id.
    pub a: u64,
    /// A second id, 0 when one is enough.
    pub b: u64,
}

/// Bytes of a key.
pub(super) const KEY_BYTES: usize = 17;

/// A key in the form that is compared: both ids are one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Raw {
    pub(super) kind: u8,
    pub(super) low: u128,
}

impl From<Key> for Raw {
    #[inline]
    fn from(key: Key) -> Raw {
        Raw { kind: key.kind, low: (u128::from(key.a) << 64) | u128::from(key.b) }
    }
}

impl From<Raw> for Key {
    #[inline]
    fn from(raw: Raw) -> Key {
        Key { kind: raw.kind, a: (raw.low >> 64) as u64, b: raw.low as u64 }
    }
}

impl Raw {
    /// Below every other.
    pub(super) const MIN: Raw = Raw { kind: 0, low: 0 };

    /// Reads the key at `at`, which the caller knows to be inside the page.
    #[inline]
    pub(super) fn read(page: &[u8], at: usize) -> Raw {
        Raw { kind: page[at], low: low_before(page, at + KEY_BYTES) }
    }

    #[inline]
    pub(super) fn bytes(self) -> [u8; KEY_BYTES] {
        let mut out = [self.kind; KEY_BYTES];
        out[1..].copy_from_slice(&self.low.to_be_bytes());
        out
    }

    /// How many leading bytes both have in common.
    #[inline]
    pub(super) fn common(self, other: Raw) -> usize {
        if self.kind != other.kind { 0 } else { 1 + (self.low ^ other.low).leading_zeros() as usize / 8 }
    }
}

/// The 16 bytes that end before `end` as a number.
#[inline]
pub(super) fn low_before(page: &[u8], end: usize) -> u128 {
    let mut raw = [0; 16];
    raw.copy_from_slice(&page[end - 16..end]);
    u128::from_be_bytes(raw)
}

/// The 8 bytes that end before `end` as a number.
#[inline]
pub(super) fn word_before(page: &[u8], end: usize) -> u64 {
    let mut raw = [0; 8];
    raw.copy_from_slice(&page[end - 8..end]);
    u64::from_be_bytes(raw)
}

/// The bits of a key's lowest `suffix` bytes, its kind left out.
#[inline]
pub(super) fn mask(suffix: usize) -> u128 {
    if suffix >= 16 { u128::MAX } else { (1 << (8 * suffix)) - 1 }
}

/// The place of `target` among `count` keys. Eight parts at a time, so that what is compared is fetched together and
/// not one after the other, and without a branch on it.
#[inline(always)]
pub(super) fn lower<T: Ord + Copy>(count: usize, target: T, at: impl Fn(usize) -> T) -> Result<usize, usize> {
    const PARTS: usize = 8;
    if count == 0 {
        return Err(0);
    }
    let (mut base, mut size) = (0, count);
    while size >= 2 * PARTS {
        let part = size / PARTS;
        let passed = (1..PARTS).map(|number| usize::from(at(base + number * part) <= target)).sum::<usize>();
        base += passed * part;
        size = if passed == PARTS - 1 { size - passed * part } else { part };
    }
    while size > 1 {
        let half = size / 2;
        base = if at(base + half) <= target { base + half } else { base };
        size -= half;
    }
    match at(base).cmp(&target) {
        std::cmp::Ordering::Equal => Ok(base),
        std::cmp::Ordering::Less => Err(base + 1),
        std::cmp::Ordering::Greater => Err(base),
    }
}
