//! Doubly linked lists whose links are bytes of the blobs themselves: the channels of a guild, say.
//!
//! ```text
//! owner    ... first u64 ...                 at `first_at` of its head bytes
//! member   ... prev u64 | next u64 ...       at `link_at` of its head bytes; prev is 0 for the first
//! ```
//!
//! Handles stay when blobs are resized or moved, so links do too. Joining, leaving and a step of a cascade
//! ([`List::pop`]) are O(1). What never happens: a list is changed when a handle of it is not alive or too short.
//! Whoever frees a member takes it out of its lists first.

use super::heap::{Handle, Heap};

/// Where lists of one sort keep their links.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct List {
    /// Where in the owner's head bytes the first member stands.
    pub first_at: usize,
    /// Where in a member's head bytes its two links stand.
    pub link_at: usize,
}

/// Bytes of a member's links.
pub const LINK_BYTES: usize = 16;

impl List {
    /// Puts `member`, which is in no list of this sort, in front. `None` when one of both is not alive or too short.
    pub fn push(self, heap: &mut Heap, owner: Handle, member: Handle) -> Option<()> {
        let first = number(heap, owner, self.first_at)?;
        number(heap, member, self.link_at + 8)?;
        put(heap, member, self.link_at, 0)?;
        put(heap, member, self.link_at + 8, first)?;
        put(heap, owner, self.first_at, member.to_bits())?;
        if let Some(first) = Handle::from_bits(first) {
            put(heap, first, self.link_at, member.to_bits())?;
        }
        Some(())
    }

    /// Takes `member` out of the list of `owner`, in which it is.
    pub fn remove(self, heap: &mut Heap, owner: Handle, member: Handle) -> Option<()> {
        let prev = number(heap, member, self.link_at)?;
        let next = number(heap, member, self.link_at + 8)?;
        match Handle::from_bits(prev) {
            Some(prev) => put(heap, prev, self.link_at + 8, next)?,
            None if self.first(heap, owner) == Some(member) => put(heap, owner, self.first_at, next)?,
            // The first of another owner's list, or in none.
            None => return None,
        }
        if let Some(next) = Handle::from_bits(next) {
            put(heap, next, self.link_at, prev)?;
        }
        put(heap, member, self.link_at, 0)?;
        put(heap, member, self.link_at + 8, 0)
    }

    /// The first member.
    pub fn first(self, heap: &Heap, owner: Handle) -> Option<Handle> {
        Handle::from_bits(number(heap, owner, self.first_at)?)
    }

    /// The member after `member`.
    pub fn next(self, heap: &Heap, member: Handle) -> Option<Handle> {
        Handle::from_bits(number(heap, member, self.link_at + 8)?)
    }

    /// Takes the first member out: one step of a cascade.
    pub fn pop(self, heap: &mut Heap, owner: Handle) -> Option<Handle> {
        let first = self.first(heap, owner)?;
        self.remove(heap, owner, first)?;
        Some(first)
    }
}

fn number(heap: &Heap, of: Handle, at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*heap.head(of)?.get(at..)?.first_chunk()?))
}

fn put(heap: &mut Heap, of: Handle, at: usize, value: u64) -> Option<()> {
    *heap.head_mut(of)?.get_mut(at..)?.first_chunk_mut()? = value.to_le_bytes();
    Some(())
}
