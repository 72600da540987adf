//! Pages of blobs, packed one after the other.
//!
//! ```text
//! page    tail u16 | live u16 | 0 u32 | prev u32 | next u32 | blob ...      nothing stands from `tail` on;
//!                                                                          `live`: bytes that its blobs need
//! blob    place 40 | room 12 | len 12 | `room` bytes, `len` of them used    (place: its slot, see slots.rs)
//! ```
//!
//! A blob that is freed, moved or shrunk leaves a gap; the blobs of a page are pushed together when the page is
//! chosen for a new one and its end has no room. So no byte is lost to size classes, and a page costs at most one
//! pass over 16 KiB before it takes at least [`COMFORT_BYTES`] of new blobs (or, when no page is free, one).
//!
//! Bound: a page is taken from the pool only when no page has `COMFORT_BYTES` (or what the blob needs, up to
//! 2,048 + 127) free; so at that moment each is more than 86 % full. What deletions leave is gathered by
//! [`Data::compact`], which ends with at most one page less than 7/8 full besides those being filled and emptied.

use super::bytes::{put_u16, put_u32, put_u64, u16_at, u64_at};
use super::lists::Lists;
use super::pages::Pages;
use super::region::{NO_PAGE, PAGE_BYTES, Page, PageId};
use super::slots;

/// The kind of these pages.
pub(super) const DATA: u8 = 2;

const TAIL: usize = 0;
const LIVE: usize = 2;
const FIRST: usize = 16;
/// Bytes in front of a blob.
pub(super) const HEADER: usize = 8;
/// Bytes of a page for blobs and their headers.
pub(super) const AREA: usize = PAGE_BYTES - FIRST;
/// The longest blob: eight fill a page, so that blobs of one length leave less than an eighth of a page unused.
pub(super) const BLOB_MAX: usize = AREA / 8 - HEADER;

const LISTS: usize = 128;
const PER_LIST: usize = PAGE_BYTES / LISTS;
/// Room that a page should have to be chosen for new blobs, so that pushing its blobs together is worth it.
const COMFORT_BYTES: usize = PAGE_BYTES / 16;
/// A page with this much room is worth emptying into another such page; any blob fits into it.
const SPARSE_BYTES: usize = PAGE_BYTES / 8;

const PLACE_MASK: u64 = (1 << 40) - 1;
const DEAD: u64 = PLACE_MASK;

const _: () = assert!(BLOB_MAX < 1 << 12, "lengths have 12 bits");
const _: () = assert!(BLOB_MAX + HEADER <= SPARSE_BYTES);

/// A blob's header, taken apart.
#[derive(Clone, Copy)]
pub(super) struct Head {
    pub(super) place: u64,
    pub(super) room: usize,
    pub(super) len: usize,
}

impl Head {
    #[inline]
    fn read(page: &Page, offset: usize) -> Head {
        let raw = u64_at(page, offset);
        Head { place: raw & PLACE_MASK, room: (raw >> 40 & 0xfff) as usize, len: (raw >> 52) as usize }
    }

    fn write(self, page: &mut Page, offset: usize) {
        put_u64(page, offset, self.place | ((self.room as u64) << 40) | ((self.len as u64) << 52));
    }
}

/// The pages of a heap's blobs.
pub(super) struct Data {
    lists: Lists<LISTS>,
    /// The page that new blobs go to while its end has room.
    open: PageId,
    /// The page that is being emptied, in no list, and how far that has come.
    victim: PageId,
    cursor: usize,
    /// Bytes that live blobs need, headers included.
    pub(super) live_bytes: u64,
    pub(super) page_count: u32,
    /// Blobs moved to another page.
    pub(super) moves: u64,
}

impl Data {
    pub(super) fn new() -> Data {
        Data {
            lists: Lists::new(DATA),
            open: NO_PAGE,
            victim: NO_PAGE,
            cursor: FIRST,
            live_bytes: 0,
            page_count: 0,
            moves: 0,
        }
    }

    /// Room for `len` bytes, with its header written; its bytes are whatever stood there. The caller tells the slot.
    pub(super) fn place(&mut self, pages: &mut Pages, place: u64, len: usize) -> Option<(PageId, usize)> {
        let page = self.page_for(pages, len, true)?;
        self.append(pages, page, place, len)
    }

    /// As [`place`](Data::place) for a blob that is being replaced and whose bytes are no longer needed: uses the
    /// room of the old one when there is no other. Then the old one is gone.
    pub(super) fn place_over(
        &mut self,
        pages: &mut Pages,
        place: u64,
        old: (PageId, usize),
        len: usize,
    ) -> Option<(PageId, usize)> {
        let (page, offset) = old;
        let bytes = pages.get(page, DATA)?;
        let head = Head::read(bytes, offset);
        let free = AREA - usize::from(u16_at(bytes, LIVE)) + HEADER + head.len;
        if free < HEADER + len {
            return None;
        }
        self.bury(pages, page, offset);
        self.squeeze(pages, page);
        if page == self.victim {
            self.cursor = FIRST;
        }
        self.append(pages, page, place, len)
    }

    fn append(&mut self, pages: &mut Pages, page: PageId, place: u64, len: usize) -> Option<(PageId, usize)> {
        let bytes = pages.get_mut(page, DATA)?;
        let offset = usize::from(u16_at(bytes, TAIL));
        Head { place, room: len, len }.write(bytes, offset);
        put_u16(bytes, TAIL, (offset + HEADER + len) as u16);
        self.count(pages, page, (HEADER + len) as isize);
        Some((page, offset))
    }

    /// A page whose end has room for a blob of `len` bytes.
    fn page_for(&mut self, pages: &mut Pages, len: usize, grow: bool) -> Option<PageId> {
        let need = HEADER + len;
        if pages.get(self.open, DATA).is_some_and(|bytes| room_at_end(bytes) >= need) {
            return Some(self.open);
        }
        let list = need.div_ceil(PER_LIST);
        let page = match self.lists.at_least(list.max(COMFORT_BYTES / PER_LIST)) {
            Some(page) => page,
            None => match grow.then(|| self.fresh(pages)).flatten() {
                Some(page) => page,
                None => self.lists.at_least(list)?,
            },
        };
        if room_at_end(pages.get(page, DATA)?) < need {
            self.squeeze(pages, page);
        }
        self.open = page;
        Some(page)
    }

    fn fresh(&mut self, pages: &mut Pages) -> Option<PageId> {
        let page = pages.acquire(DATA)?;
        let bytes = pages.get_mut(page, DATA)?;
        put_u16(bytes, TAIL, FIRST as u16);
        put_u16(bytes, LIVE, 0);
        put_u32(bytes, 4, 0);
        self.lists.push(pages, list_of(0), page);
        self.page_count += 1;
        Some(page)
    }

    /// Ends the blob at `offset`; returns the page when it was the last.
    pub(super) fn free(&mut self, pages: &mut Pages, page: PageId, offset: usize) {
        self.bury(pages, page, offset);
        if pages.get(page, DATA).is_some_and(|bytes| u16_at(bytes, LIVE) == 0) {
            if page == self.victim {
                self.victim = NO_PAGE;
            } else {
                self.lists.remove(pages, list_of(0), page);
            }
            self.open = if page == self.open { NO_PAGE } else { self.open };
            self.page_count -= 1;
            pages.release(page);
        }
    }

    /// Marks the blob at `offset` dead and counts its bytes as free.
    fn bury(&mut self, pages: &mut Pages, page: PageId, offset: usize) {
        let Some(bytes) = pages.get_mut(page, DATA) else { return };
        let head = Head::read(bytes, offset);
        Head { place: DEAD, room: head.room, len: 0 }.write(bytes, offset);
        if usize::from(u16_at(bytes, TAIL)) == offset + HEADER + head.room {
            put_u16(bytes, TAIL, offset as u16);
        }
        self.count(pages, page, -((HEADER + head.len) as isize));
    }

    /// Changes the length of a blob in its place; false when it has no room there.
    pub(super) fn resize(&mut self, pages: &mut Pages, page: PageId, offset: usize, len: usize) -> bool {
        let Some(bytes) = pages.get_mut(page, DATA) else { return false };
        let head = Head::read(bytes, offset);
        if len > head.room {
            return false;
        }
        if len != head.len {
            Head { len, ..head }.write(bytes, offset);
            self.count(pages, page, len as isize - head.len as isize);
        }
        true
    }

    /// Moves a page to the list that fits after its live bytes changed.
    fn count(&mut self, pages: &mut Pages, page: PageId, change: isize) {
        let Some(bytes) = pages.get_mut(page, DATA) else { return };
        let before = usize::from(u16_at(bytes, LIVE));
        let now = before.wrapping_add_signed(change);
        put_u16(bytes, LIVE, now as u16);
        self.live_bytes = self.live_bytes.wrapping_add_signed(change as i64);
        if page != self.victim && list_of(before) != list_of(now) {
            self.lists.remove(pages, list_of(before), page);
            self.lists.push(pages, list_of(now), page);
        }
    }

    /// Pushes a page's blobs together.
    fn squeeze(&mut self, pages: &mut Pages, page: PageId) {
        let Some(bytes) = pages.get(page, DATA) else { return };
        let tail = usize::from(u16_at(bytes, TAIL));
        let (mut from, mut to) = (FIRST, FIRST);
        while from < tail {
            let Some(bytes) = pages.get_mut(page, DATA) else { return };
            let head = Head::read(bytes, from);
            if head.place != DEAD {
                if from != to {
                    bytes.copy_within(from + HEADER..from + HEADER + head.len, to + HEADER);
                }
                Head { room: head.len, ..head }.write(bytes, to);
                if from != to {
                    slots::moved(pages, head.place, page, to);
                }
                to += HEADER + head.len;
            }
            from += HEADER + head.room;
        }
        if let Some(bytes) = pages.get_mut(page, DATA) {
            put_u16(bytes, TAIL, to as u16);
        }
    }

    /// Empties sparse pages into others, for about `budget` bytes of work (one blob more at most); gives back how
    /// many were spent, 0 when nothing is left to do.
    pub(super) fn compact(&mut self, pages: &mut Pages, budget: usize) -> usize {
        let mut spent = 0;
        while spent < budget {
            if self.victim == NO_PAGE && !self.choose(pages) {
                break;
            }
            let victim = self.victim;
            let Some(bytes) = pages.get(victim, DATA) else { break };
            if self.cursor >= usize::from(u16_at(bytes, TAIL)) {
                // Only what was freed meanwhile can leave a page here that still has blobs: none is skipped.
                debug_assert_eq!(u16_at(bytes, LIVE), 0);
                self.put_back(pages);
                break;
            }
            let offset = self.cursor;
            let head = Head::read(bytes, offset);
            spent += HEADER;
            if head.place == DEAD {
                self.cursor += HEADER + head.room;
                continue;
            }
            let target = self.page_for(pages, head.len, false);
            let placed = target.and_then(|page| self.append(pages, page, head.place, head.len));
            let Some((page, to)) = placed else {
                self.put_back(pages);
                break;
            };
            if let Some((source, target)) = pages.pair(victim, page, DATA) {
                target[to + HEADER..to + HEADER + head.len]
                    .copy_from_slice(&source[offset + HEADER..offset + HEADER + head.len]);
            }
            slots::moved(pages, head.place, page, to);
            self.cursor += HEADER + head.room;
            self.moves += 1;
            spent += head.len;
            self.free(pages, victim, offset);
        }
        spent
    }

    /// Takes the emptiest page out of its list, when another one has room for what it holds.
    fn choose(&mut self, pages: &mut Pages) -> bool {
        let Some((list, page)) = self.lists.last() else { return false };
        if list < SPARSE_BYTES / PER_LIST {
            return false;
        }
        self.lists.remove(pages, list, page);
        if self.lists.last().is_none_or(|(next, _)| next < SPARSE_BYTES / PER_LIST) {
            self.lists.push(pages, list, page);
            return false;
        }
        self.open = if page == self.open { NO_PAGE } else { self.open };
        self.victim = page;
        self.cursor = FIRST;
        true
    }

    fn put_back(&mut self, pages: &mut Pages) {
        let victim = std::mem::replace(&mut self.victim, NO_PAGE);
        if let Some(bytes) = pages.get(victim, DATA) {
            let live = usize::from(u16_at(bytes, LIVE));
            self.lists.push(pages, list_of(live), victim);
        }
    }
}

/// The header and the bytes of the blob at `offset`, if it is the one of `place`.
#[inline]
pub(super) fn read(pages: &Pages, page: PageId, offset: usize, place: u64) -> Option<(Head, &[u8])> {
    let bytes = pages.get(page, DATA)?;
    if offset < FIRST || offset + HEADER > PAGE_BYTES {
        return None;
    }
    let head = Head::read(bytes, offset);
    if head.place != place {
        return None;
    }
    Some((head, bytes.get(offset + HEADER..offset + HEADER + head.len)?))
}

/// The bytes of a blob that was found with [`read`].
pub(super) fn write(pages: &mut Pages, page: PageId, offset: usize) -> Option<&mut [u8]> {
    let bytes = pages.get_mut(page, DATA)?;
    let head = Head::read(bytes, offset);
    bytes.get_mut(offset + HEADER..offset + HEADER + head.len)
}

fn room_at_end(page: &Page) -> usize {
    PAGE_BYTES - usize::from(u16_at(page, TAIL))
}

fn list_of(live: usize) -> usize {
    ((AREA - live) / PER_LIST).min(LISTS - 1)
}
