//! Slots: where a blob is, behind a handle that does not change when it moves.
//!
//! ```text
//! page    free u16 | live u16 | fresh u16 | 0 u16 | prev u32 | next u32 | slot u64 ...
//!         first freed slot; slots in use; slots from this one on were never used; the list (lists.rs)
//! slot    page 24 | offset 15 | large 1 | stamp 24      (from the low bits) of a blob
//!         next 24 | FREE            | 0                 of a freed slot
//! handle  page 24 | slot 16         | stamp 24          page and slot alone: the "place" of a handle
//! ```
//!
//! The stamp counts allocations of this heap, never 0: a handle that was freed reads `None` unless its slot is given
//! out again exactly a multiple of 16,777,215 allocations later. It is not kept in the page, so that it also holds
//! when the page was returned and came back.
//!
//! A page of slots is never moved: handles name it. New handles go to the fullest page that has room, so that the
//! others empty and are returned. The worst case is 8 bytes for each blob of the most there ever were at once.

use super::bytes::{put_u16, put_u64, u16_at, u64_at};
use super::lists::Lists;
use super::pages::Pages;
use super::region::{NO_PAGE, PAGE_BYTES, PageId};

/// The kind of these pages.
pub(super) const SLOTS: u8 = 1;

const FREE_HEAD: usize = 0;
const LIVE: usize = 2;
const FRESH: usize = 4;
const FIRST: usize = 16;
/// Slots in a page.
pub(super) const PER_PAGE: usize = (PAGE_BYTES - FIRST) / 8;
const LISTS: usize = 8;
const PER_LIST: usize = PER_PAGE.div_ceil(LISTS);

const OFFSET_MASK: u64 = 0x7fff;
const FREE: u64 = OFFSET_MASK;
const LARGE: u64 = 1 << 39;
const PLACE_MASK: u64 = (1 << 40) - 1;
const NO_SLOT: u16 = u16::MAX;

const _: () = assert!(PAGE_BYTES <= FREE as usize, "offsets have 15 bits");

/// Where a blob stands.
#[derive(Clone, Copy)]
pub(super) struct Location {
    pub(super) page: PageId,
    pub(super) offset: usize,
    /// Whether it goes on in further blobs.
    pub(super) large: bool,
}

/// The slots of a heap.
pub(super) struct Slots {
    lists: Lists<LISTS>,
    stamp: u32,
}

impl Slots {
    pub(super) fn new() -> Slots {
        Slots { lists: Lists::new(SLOTS), stamp: 0 }
    }

    /// A handle without a blob yet: [`set`](Slots::set) follows, or [`give`](Slots::give).
    pub(super) fn take(&mut self, pages: &mut Pages) -> Option<u64> {
        let page = match self.lists.last() {
            Some((_, page)) => page,
            None => {
                let page = pages.acquire(SLOTS)?;
                let bytes = pages.get_mut(page, SLOTS)?;
                // Stamps of 0, which no handle has: what a dropped heap left here must not look alive.
                bytes.fill(0);
                put_u16(bytes, FREE_HEAD, NO_SLOT);
                self.lists.push(pages, 0, page);
                page
            }
        };
        let bytes = pages.get_mut(page, SLOTS)?;
        let (freed, live, fresh) = (u16_at(bytes, FREE_HEAD), u16_at(bytes, LIVE), u16_at(bytes, FRESH));
        let slot = if freed == NO_SLOT {
            put_u16(bytes, FRESH, fresh + 1);
            fresh
        } else {
            put_u16(bytes, FREE_HEAD, u64_at(bytes, at(freed)) as u16);
            freed
        };
        put_u16(bytes, LIVE, live + 1);
        self.stamp = if self.stamp == 0x00ff_ffff { 1 } else { self.stamp + 1 };
        put_u64(bytes, at(slot), u64::from(NO_PAGE) | (u64::from(self.stamp) << 40));
        self.relist(pages, page, usize::from(live), usize::from(live) + 1);
        Some(u64::from(page) | (u64::from(slot) << 24) | (u64::from(self.stamp) << 40))
    }

    /// Ends a handle that lives.
    pub(super) fn give(&mut self, pages: &mut Pages, handle: u64) {
        let (page, slot) = split(handle);
        let Some(bytes) = pages.get_mut(page, SLOTS) else { return };
        let (freed, live) = (u16_at(bytes, FREE_HEAD), u16_at(bytes, LIVE));
        put_u64(bytes, at(slot), u64::from(freed) | (FREE << 24));
        put_u16(bytes, FREE_HEAD, slot);
        put_u16(bytes, LIVE, live - 1);
        self.relist(pages, page, usize::from(live), usize::from(live) - 1);
    }

    fn relist(&mut self, pages: &mut Pages, page: PageId, before: usize, now: usize) {
        let full = |live: usize| live == PER_PAGE;
        if now == 0 {
            self.lists.remove(pages, before / PER_LIST, page);
            pages.release(page);
        } else if before / PER_LIST != now / PER_LIST || full(before) != full(now) {
            if !full(before) {
                self.lists.remove(pages, before / PER_LIST, page);
            }
            if !full(now) {
                self.lists.push(pages, now / PER_LIST, page);
            }
        }
    }
}

/// Where the blob of `handle` is, when the handle lives.
#[inline]
pub(super) fn find(pages: &Pages, handle: u64) -> Option<Location> {
    let (page, slot) = split(handle);
    if usize::from(slot) >= PER_PAGE {
        return None;
    }
    let entry = u64_at(pages.get(page, SLOTS)?, at(slot));
    // A slot that is free or was never used has stamp 0, which no handle has; a forged one meets FREE here or no
    // page in `data::read`.
    let offset = entry >> 24 & OFFSET_MASK;
    if entry >> 40 != handle >> 40 || offset == FREE {
        return None;
    }
    Some(Location { page: entry as u32 & NO_PAGE, offset: offset as usize, large: entry & LARGE != 0 })
}

/// Writes where the blob of a place (or handle) is.
pub(super) fn set(pages: &mut Pages, place: u64, location: Location) {
    let (page, slot) = split(place);
    let Some(bytes) = pages.get_mut(page, SLOTS) else { return };
    let stamp = u64_at(bytes, at(slot)) & !PLACE_MASK;
    let large = if location.large { LARGE } else { 0 };
    put_u64(bytes, at(slot), u64::from(location.page) | ((location.offset as u64) << 24) | large | stamp);
}

/// Writes that the blob of a place now stands elsewhere; what else is known of it stays.
pub(super) fn moved(pages: &mut Pages, place: u64, page: PageId, offset: usize) {
    let (at_page, slot) = split(place);
    let Some(bytes) = pages.get(at_page, SLOTS) else { return };
    let large = u64_at(bytes, at(slot)) & LARGE != 0;
    set(pages, place, Location { page, offset, large });
}

/// A handle without its stamp.
pub(super) fn place_of(handle: u64) -> u64 {
    handle & PLACE_MASK
}

fn split(handle: u64) -> (PageId, u16) {
    (handle as u32 & NO_PAGE, (handle >> 24) as u16)
}

fn at(slot: u16) -> usize {
    FIRST + usize::from(slot) * 8
}
