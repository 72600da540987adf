//! A strip: pages in a row that grow and shrink at the end, found by their number in the row.
//!
//! The first 32 are named in the strip itself; then by directory pages of 4,096 names each, which are taken when
//! needed. Limit: 131,104 pages in a row (2 GiB), answered as a full region.

use super::bytes::{put_u32, u32_at};
use super::pages::Pages;
use super::region::{NO_PAGE, PAGE_BYTES, PageId};

const DIRECT: usize = 32;
const DIRECTORIES: usize = 32;
const PER_DIRECTORY: usize = PAGE_BYTES / 4;

/// The kind of directory pages.
const DIRECTORY: u8 = 5;

/// A row of pages of one kind.
pub(super) struct Strip {
    kind: u8,
    len: usize,
    direct: [PageId; DIRECT],
    directories: [PageId; DIRECTORIES],
}

impl Strip {
    pub(super) fn new(kind: u8) -> Strip {
        Strip { kind, len: 0, direct: [NO_PAGE; DIRECT], directories: [NO_PAGE; DIRECTORIES] }
    }

    /// The page at `index`; one that does not exist when there is none.
    #[inline]
    pub(super) fn page(&self, pages: &Pages, index: usize) -> PageId {
        if let Some(&page) = self.direct.get(index) {
            return page;
        }
        let (directory, slot) = split(index);
        let page = self.directories.get(directory).and_then(|&page| pages.get(page, DIRECTORY));
        page.map_or(NO_PAGE, |names| u32_at(names, slot))
    }

    /// Adds a page at the end; false when no page is free, or the row is full.
    pub(super) fn push(&mut self, pages: &mut Pages) -> bool {
        if self.len < DIRECT {
            let Some(page) = pages.acquire(self.kind) else { return false };
            self.direct[self.len] = page;
            self.len += 1;
            return true;
        }
        let (directory, slot) = split(self.len);
        if directory >= DIRECTORIES {
            return false;
        }
        let Some(page) = pages.acquire(self.kind) else { return false };
        if slot == 0 {
            match pages.acquire(DIRECTORY) {
                Some(names) => self.directories[directory] = names,
                None => {
                    pages.release(page);
                    return false;
                }
            }
        }
        if let Some(names) = pages.get_mut(self.directories[directory], DIRECTORY) {
            put_u32(names, slot, page);
        }
        self.len += 1;
        true
    }

    /// Gives the last page back.
    pub(super) fn pop(&mut self, pages: &mut Pages) {
        let Some(last) = self.len.checked_sub(1) else { return };
        pages.release(self.page(pages, last));
        self.len = last;
        if last < DIRECT {
            self.direct[last] = NO_PAGE;
            return;
        }
        let (directory, slot) = split(last);
        if slot == 0 {
            pages.release(self.directories[directory]);
            self.directories[directory] = NO_PAGE;
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }
}

/// Which directory names the page, and at which offset.
fn split(index: usize) -> (usize, usize) {
    let beyond = index - DIRECT;
    (beyond / PER_DIRECTORY, beyond % PER_DIRECTORY * 4)
}
