//! Doubly linked lists of pages, sorted by how full they are.
//!
//! A listed page keeps `prev u32 | next u32` at offset 8. What never happens: a search; the list that has what is
//! wanted is found by its bit.

use super::bytes::{put_u32, u32_at};
use super::pages::Pages;
use super::region::{NO_PAGE, PageId};

const PREV: usize = 8;
const NEXT: usize = 12;

/// `N` lists (128 at most) of pages of one kind.
pub(super) struct Lists<const N: usize> {
    kind: u8,
    heads: [PageId; N],
    /// Invariant: bit `i` is set exactly when `heads[i]` is a page.
    filled: u128,
}

impl<const N: usize> Lists<N> {
    pub(super) fn new(kind: u8) -> Lists<N> {
        const { assert!(N <= 128) };
        Lists { kind, heads: [NO_PAGE; N], filled: 0 }
    }

    pub(super) fn push(&mut self, pages: &mut Pages, list: usize, page: PageId) {
        let head = self.heads[list];
        if let Some(bytes) = pages.get_mut(page, self.kind) {
            put_u32(bytes, PREV, NO_PAGE);
            put_u32(bytes, NEXT, head);
        }
        if let Some(bytes) = pages.get_mut(head, self.kind) {
            put_u32(bytes, PREV, page);
        }
        self.heads[list] = page;
        self.filled |= 1 << list;
    }

    pub(super) fn remove(&mut self, pages: &mut Pages, list: usize, page: PageId) {
        let Some(bytes) = pages.get(page, self.kind) else { return };
        let (prev, next) = (u32_at(bytes, PREV), u32_at(bytes, NEXT));
        if let Some(bytes) = pages.get_mut(next, self.kind) {
            put_u32(bytes, PREV, prev);
        }
        match pages.get_mut(prev, self.kind) {
            Some(bytes) => put_u32(bytes, NEXT, next),
            None => {
                debug_assert_eq!(self.heads[list], page);
                self.heads[list] = next;
                if next == NO_PAGE {
                    self.filled &= !(1 << list);
                }
            }
        }
    }

    /// A page of the first list from `list` on that has one.
    pub(super) fn at_least(&self, list: usize) -> Option<PageId> {
        let found = if list < N { self.filled & (!0 << list) } else { 0 };
        (found != 0).then(|| self.heads[found.trailing_zeros() as usize])
    }

    /// The last list that has a page, and a page of it.
    pub(super) fn last(&self) -> Option<(usize, PageId)> {
        let list = self.filled.checked_ilog2()? as usize;
        Some((list, self.heads[list]))
    }
}
