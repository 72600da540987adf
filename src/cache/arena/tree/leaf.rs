//! A leaf: entries of neighbouring keys, in order.
//!
//! ```text
//! 0   count u16 | heap u16 | dead u16 | last u16 | streak u8 | prefix length u8 | prefix, zeros up to 17 bytes
//! 27  record ...   the rest of the key | offset u16 of its body        in key order, all of one width
//!     free
//! heap  bodies     see body.rs; in the order in which they came, `dead` bytes of them needed by nobody
//! ```
//!
//! The keys stand together, so that a search reads few cache lines, and cost what they would cost next to their
//! values. `last` and `streak` tell how many insertions in a row came next to the one before: ascending and
//! descending runs are split so that full pages are left behind.

use super::body::Body;
use super::items::Pending;
use super::key::{KEY_BYTES, Raw, low_before, lower, mask, word_before};
use crate::cache::arena::bytes::{put_u16, u16_at};
use crate::cache::arena::region::{PAGE_BYTES, Page};

/// The kind of these pages.
pub(super) const LEAF: u8 = 1;

const COUNT: usize = 0;
const HEAP: usize = 2;
const DEAD: usize = 4;
const LAST: usize = 6;
const STREAK: usize = 8;
const PREFIX: usize = 9;
const BASE: usize = 10;
/// Where records begin.
pub(super) const HEAD: usize = BASE + KEY_BYTES;
const OFFSET_BYTES: usize = 2;
/// Bytes of a record whose key has nothing in common with its neighbours'.
pub(super) const RECORD_MAX: usize = KEY_BYTES + OFFSET_BYTES;
/// More entries than any sound leaf has: distinct keys have suffixes of two bytes as soon as there are 257.
pub(super) const COUNT_MAX: usize = (PAGE_BYTES - HEAD) / 4;
/// So many insertions side by side are no accident.
const STREAK_MIN: u8 = 8;

const _: () = assert!(PAGE_BYTES < 1 << 16 && COUNT_MAX > 256);

/// A leaf's page with its header read and found sound.
#[derive(Clone, Copy)]
pub(super) struct Leaf<'a> {
    page: &'a Page,
    count: usize,
    heap: usize,
    dead: usize,
    suffix: usize,
    /// The prefix, zeros behind it.
    base: Raw,
}

impl<'a> Leaf<'a> {
    #[inline]
    pub(super) fn open(page: &'a Page) -> Option<Leaf<'a>> {
        let count = u16_at(page, COUNT) as usize;
        let heap = u16_at(page, HEAP) as usize;
        let dead = u16_at(page, DEAD) as usize;
        let suffix = KEY_BYTES.checked_sub(page[PREFIX] as usize)?;
        let records = HEAD + count * (suffix + OFFSET_BYTES);
        if count > COUNT_MAX || records > heap || heap > PAGE_BYTES || dead > PAGE_BYTES - heap {
            return None;
        }
        let base = Raw::read(page, BASE);
        Some(Leaf { page, count, heap, dead, suffix, base: Raw { low: base.low & !mask(suffix), ..base } })
    }

    #[inline]
    pub(super) fn count(&self) -> usize {
        self.count
    }

    #[inline]
    fn width(&self) -> usize {
        self.suffix + OFFSET_BYTES
    }

    #[inline]
    fn records_end(&self) -> usize {
        HEAD + self.count * self.width()
    }

    /// Bytes that its entries need.
    #[inline]
    pub(super) fn live(&self) -> usize {
        self.count * self.width() + PAGE_BYTES - self.heap - self.dead
    }

    /// Bytes between records and bodies.
    #[inline]
    fn gap(&self) -> usize {
        self.heap - self.records_end()
    }

    /// Whether the stored prefix is shorter than it could be.
    pub(super) fn is_loose(&self) -> bool {
        self.count > 0 && KEY_BYTES - self.suffix < self.key(0).common(self.key(self.count - 1))
    }

    /// Bytes of the page if it were rebuilt with an entry more (or another in the place of one), with no longer a
    /// prefix.
    pub(super) fn rebuilt_with(&self, pending: &Pending<'_>) -> usize {
        let prefix = self.base.common(pending.key).min(KEY_BYTES - self.suffix);
        let width = RECORD_MAX - prefix;
        let gone = if pending.replaces && pending.at < self.count {
            self.body(pending.at).map_or(0, Body::size)
        } else {
            0
        };
        let records = self.count + usize::from(!pending.replaces);
        let bodies = (PAGE_BYTES - self.heap - self.dead).saturating_sub(gone) + pending.body.size();
        HEAD + records * width + bodies
    }

    /// Bytes of the keys' common prefix.
    pub(super) fn prefix(&self) -> usize {
        KEY_BYTES - self.suffix
    }

    /// The key of entry `at < count`.
    #[inline]
    pub(super) fn key(&self, at: usize) -> Raw {
        let end = HEAD + at * self.width() + self.suffix;
        let kind = if self.suffix == KEY_BYTES { self.page[end - KEY_BYTES] } else { self.base.kind };
        Raw { kind, low: self.base.low | (low_before(self.page, end) & mask(self.suffix)) }
    }

    /// Where the body of entry `at < count` is.
    #[inline]
    fn offset(&self, at: usize) -> usize {
        u16_at(self.page, HEAD + at * self.width() + self.suffix) as usize
    }

    /// What entry `at < count` holds; `None` when it is damaged.
    #[inline]
    pub(super) fn body(&self, at: usize) -> Option<Body<'a>> {
        Body::read(self.page, self.offset(at))
    }

    /// Bytes of all bodies, if each lies where bodies are, is written as [`Body::write`] does and has its bytes to itself.
    pub(super) fn verify_bodies(&self) -> Option<usize> {
        const WORD: usize = u64::BITS as usize;
        let (mut taken, mut sum) = ([0u64; PAGE_BYTES / WORD], 0);
        for at in 0..self.count {
            let (start, body) = (self.offset(at), self.body(at)?);
            let end = start + body.size();
            // A short value is written with one byte before it: with two it would end elsewhere.
            let short = matches!(body, Body::Inline(value) if value.len() < 0x80);
            if start < self.heap || end > PAGE_BYTES || short != (self.page[start] < 0x80) {
                return None;
            }
            let mut from = start;
            while from < end {
                let (word, bit) = (from / WORD, from % WORD);
                let count = (end - from).min(WORD - bit);
                let bits = (u64::MAX >> (WORD - count)) << bit;
                if taken[word] & bits != 0 {
                    return None;
                }
                taken[word] |= bits;
                from += count;
            }
            sum += end - start;
        }
        Some(sum)
    }

    /// The entry of `key`, or where it would stand.
    #[inline]
    pub(super) fn search(&self, key: Raw) -> Result<usize, usize> {
        if self.suffix < KEY_BYTES {
            let head = Raw { kind: key.kind, low: key.low & !mask(self.suffix) };
            if head != self.base {
                return Err(if head < self.base { 0 } else { self.count });
            }
        }
        let (first, width) = (HEAD + self.suffix, self.width());
        if self.suffix <= 8 {
            let bits = mask(self.suffix) as u64;
            lower(self.count, key.low as u64 & bits, |at| word_before(self.page, first + at * width) & bits)
        } else if self.suffix < KEY_BYTES {
            let bits = mask(self.suffix);
            lower(self.count, key.low & bits, |at| low_before(self.page, first + at * width) & bits)
        } else {
            lower(self.count, key, |at| Raw::read(self.page, HEAD + at * width))
        }
    }

    /// Whether an insertion at `at` goes on with a run of neighbours.
    pub(super) fn in_run(&self, at: usize) -> bool {
        self.page[STREAK] >= STREAK_MIN && continues(self.page, at)
    }

    /// Whether the page has the key's prefix.
    #[inline]
    fn takes(&self, key: Raw) -> bool {
        self.suffix == KEY_BYTES || Raw { kind: key.kind, low: key.low & !mask(self.suffix) } == self.base
    }
}

#[inline]
fn continues(page: &Page, at: usize) -> bool {
    let last = u16_at(page, LAST) as usize;
    at == last || at == last + 1
}

/// Makes a leaf without entries, for keys that share their first bytes with `key`.
pub(super) fn create(page: &mut Page, prefix: usize, key: Raw) {
    let suffix = KEY_BYTES - prefix;
    put_u16(page, COUNT, 0);
    put_u16(page, HEAP, PAGE_BYTES as u16);
    put_u16(page, DEAD, 0);
    page[PREFIX] = prefix as u8;
    let kind = if prefix == 0 { 0 } else { key.kind };
    page[BASE..HEAD].copy_from_slice(&Raw { kind, low: key.low & !mask(suffix) }.bytes());
    set_run(page, 0, 0);
}

/// Remembers that the last entry came to `at`, after a run of `streak`.
pub(super) fn set_run(page: &mut Page, at: usize, streak: u8) {
    put_u16(page, LAST, at as u16);
    page[STREAK] = streak;
}

/// The length of the run of insertions with one more.
pub(super) fn streak_with(page: &Page, pending: &Pending<'_>) -> u8 {
    if !pending.replaces && continues(page, pending.at) { page[STREAK].saturating_add(1) } else { 0 }
}

/// Puts an entry behind all others of a leaf that has room and whose prefix the key has. For building a page.
#[inline]
pub(super) fn push(
    page: &mut Page,
    at: usize,
    heap: usize,
    prefix: usize,
    key: Raw,
    body: Body<'_>,
) -> Option<usize> {
    let width = RECORD_MAX - prefix;
    let record = HEAD + at * width;
    let start = heap.checked_sub(body.size()).filter(|&start| start >= record + width)?;
    body.write(&mut page[start..heap]);
    page[record..record + width - OFFSET_BYTES].copy_from_slice(&key.bytes()[prefix..]);
    put_u16(page, record + width - OFFSET_BYTES, start as u16);
    Some(start)
}

/// Ends what [`push`] began.
pub(super) fn finish(page: &mut Page, count: usize, heap: usize) {
    put_u16(page, COUNT, count as u16);
    put_u16(page, HEAP, heap as u16);
}

/// Puts an entry at `at`; false when the prefix is not the key's, or there is no room without rebuilding.
#[inline]
pub(super) fn insert(page: &mut Page, at: usize, key: Raw, body: Body<'_>) -> bool {
    let Some(leaf) = Leaf::open(page) else { return false };
    let (count, width, suffix, size) = (leaf.count, leaf.width(), leaf.suffix, body.size());
    if leaf.gap() < width + size || at > count || count == COUNT_MAX || !leaf.takes(key) {
        return false;
    }
    let (start, end, heap) = (HEAD + at * width, leaf.records_end(), leaf.heap - size);
    let streak = if continues(page, at) { page[STREAK].saturating_add(1) } else { 0 };
    set_run(page, at, streak);
    page.copy_within(start..end, start + width);
    page[start..start + suffix].copy_from_slice(&key.bytes()[KEY_BYTES - suffix..]);
    put_u16(page, start + suffix, heap as u16);
    body.write(&mut page[heap..heap + size]);
    finish(page, count + 1, heap);
    true
}

/// Puts another body in the place of entry `at`'s; false when there is no room without rebuilding.
#[inline]
pub(super) fn replace(page: &mut Page, at: usize, body: Body<'_>) -> bool {
    let Some(leaf) = Leaf::open(page) else { return false };
    let Some(old) = leaf.body(at).map(Body::size) else { return false };
    let (offset, record, size) = (leaf.offset(at), HEAD + at * leaf.width() + leaf.suffix, body.size());
    let (heap, dead, gap) = (leaf.heap, leaf.dead, leaf.gap());
    if size <= old {
        body.write(&mut page[offset..offset + size]);
        put_u16(page, DEAD, (dead + old - size).min(PAGE_BYTES - heap) as u16);
    } else if size <= gap {
        let heap = heap - size;
        body.write(&mut page[heap..heap + size]);
        put_u16(page, record, heap as u16);
        put_u16(page, HEAP, heap as u16);
        put_u16(page, DEAD, (dead + old).min(PAGE_BYTES - heap) as u16);
    } else {
        return false;
    }
    true
}

/// Takes entry `at` out.
#[inline]
pub(super) fn remove(page: &mut Page, at: usize) {
    let Some(leaf) = Leaf::open(page).filter(|leaf| at < leaf.count) else { return };
    let size = leaf.body(at).map_or(0, Body::size);
    let (mut heap, mut dead, offset) = (leaf.heap, leaf.dead, leaf.offset(at));
    let (width, end, count) = (leaf.width(), leaf.records_end(), leaf.count);
    if offset == heap {
        heap += size;
    } else {
        dead += size;
    }
    let start = HEAD + at * width;
    page.copy_within(start + width..end, start);
    put_u16(page, DEAD, dead.min(PAGE_BYTES - heap) as u16);
    finish(page, count - 1, heap);
}

/// Where the bytes of entry `at`'s value are, when it is one piece.
pub(super) fn value_mut(page: &mut Page, at: usize) -> Option<&mut [u8]> {
    let leaf = Leaf::open(page)?;
    let Body::Inline(value) = leaf.body(at)? else { return None };
    let (len, end) = (value.len(), leaf.offset(at) + leaf.body(at)?.size());
    page.get_mut(end - len..end)
}
