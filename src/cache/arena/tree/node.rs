//! An inner node: which child has the keys from where on.
//!
//! ```text
//! 0  count u16
//! 2  separator 17 | child u32  ...     in order; the first separator counts as below everything
//! ```
//!
//! A child holds keys from its separator (included) to the next one's. Records are not compressed, so a separator can
//! be replaced by any other without a page more.

use super::key::{KEY_BYTES, Raw, lower};
use crate::cache::arena::bytes::{put_u16, put_u32, u16_at, u32_at};
use crate::cache::arena::region::{PAGE_BYTES, Page, PageId};

/// The kind of these pages.
pub(super) const NODE: u8 = 2;

const HEAD: usize = 2;
pub(super) const RECORD: usize = KEY_BYTES + 4;
/// The most children that a node has.
pub(super) const CHILDREN_MAX: usize = (PAGE_BYTES - HEAD) / RECORD;

/// A node's page with its header read and found sound.
#[derive(Clone, Copy)]
pub(super) struct Node<'a> {
    page: &'a Page,
    count: usize,
}

impl<'a> Node<'a> {
    #[inline]
    pub(super) fn open(page: &'a Page) -> Option<Node<'a>> {
        let count = u16_at(page, 0) as usize;
        (count <= CHILDREN_MAX).then_some(Node { page, count })
    }

    #[inline]
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// The separator of child `at < count`.
    #[inline]
    pub(super) fn key(&self, at: usize) -> Raw {
        Raw::read(self.page, HEAD + at * RECORD)
    }

    /// The page of child `at`.
    #[inline]
    pub(super) fn child(&self, at: usize) -> Option<PageId> {
        (at < self.count).then(|| u32_at(self.page, HEAD + at * RECORD + KEY_BYTES))
    }

    /// Which child has `key`.
    #[inline]
    pub(super) fn find(&self, key: Raw) -> usize {
        match lower(self.count, key, |at| self.key(at)) {
            Ok(at) => at,
            Err(at) => at.saturating_sub(1),
        }
    }

    /// All records as bytes.
    pub(super) fn records(&self) -> &'a [u8] {
        &self.page[HEAD..HEAD + self.count * RECORD]
    }
}

/// Fills a node with records.
pub(super) fn fill(page: &mut Page, records: &[u8]) {
    put_u16(page, 0, (records.len() / RECORD) as u16);
    page[HEAD..HEAD + records.len()].copy_from_slice(records);
}

/// One record as bytes.
pub(super) fn record(key: Raw, child: PageId) -> [u8; RECORD] {
    let mut out = [0; RECORD];
    out[..KEY_BYTES].copy_from_slice(&key.bytes());
    out[KEY_BYTES..].copy_from_slice(&child.to_le_bytes());
    out
}

/// Replaces the separator of child `at`.
pub(super) fn set_key(page: &mut Page, at: usize, key: Raw) {
    if at < CHILDREN_MAX {
        page[HEAD + at * RECORD..][..KEY_BYTES].copy_from_slice(&key.bytes());
    }
}

/// Puts a child at `at`; false when the node is full.
pub(super) fn insert(page: &mut Page, at: usize, key: Raw, child: PageId) -> bool {
    let Some(count) = Node::open(page).map(|node| node.count) else { return false };
    if count == CHILDREN_MAX || at > count {
        return false;
    }
    let (start, end) = (HEAD + at * RECORD, HEAD + count * RECORD);
    page.copy_within(start..end, start + RECORD);
    page[start..start + KEY_BYTES].copy_from_slice(&key.bytes());
    put_u32(page, start + KEY_BYTES, child);
    put_u16(page, 0, count as u16 + 1);
    true
}

/// Takes `gone` children out, from `at` on.
pub(super) fn remove(page: &mut Page, at: usize, gone: usize) {
    let Some(count) = Node::open(page).map(|node| node.count) else { return };
    if at + gone <= count {
        page.copy_within(HEAD + (at + gone) * RECORD..HEAD + count * RECORD, HEAD + at * RECORD);
        put_u16(page, 0, (count - gone) as u16);
    }
}
