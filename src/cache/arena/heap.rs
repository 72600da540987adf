//! Blobs behind stable handles, on pages of one owner.
//!
//! What enters: bytes. What leaves: a [`Handle`] that stays valid while the blob lives, however often it is resized,
//! replaced or moved; the bytes. What never happens: a stale handle reads another blob; an allocation; work that
//! grows with the number of blobs.
//!
//! ```text
//! handle --> slot (slots.rs) --> blob (data.rs)                   up to 2,038 bytes: one piece, read in place
//!                           \--> next u64 | total u32 | bytes     longer: a chain of pieces of 2,038 bytes,
//!                                 \--> next u64 | bytes           read by copying, or piece by piece
//! ```
//!
//! Cost per blob: 8 bytes of slot and 8 in front of the bytes; 12 more for a long one, and 24 for each further piece
//! of it (1.2 %). Lengths are not rounded.
//!
//! Limits: a blob has at most [`BLOB_BYTES_MAX`] bytes (an event's payload is smaller; more is answered as [`Full`]).
//! Every operation on a short blob is O(1), with at most one pass over one page; on a long one O(its length).

use std::num::NonZeroU64;
use std::sync::Arc;

use super::data::{self, BLOB_MAX, Data};
use super::pages::Pages;
use super::region::Region;
use super::slots::{self, Location, Slots};
use super::{Full, PAGE_BYTES};

/// The longest blob that is one piece, and so can be borrowed as one slice.
pub const PIECE_BYTES_MAX: usize = BLOB_MAX;

/// The longest blob.
pub const BLOB_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Bytes that a blob costs besides its own while it is one piece.
pub const BLOB_OVERHEAD_BYTES: usize = 16;

/// In front of the bytes of a long blob's first piece: next u64 | total u32.
const FIRST_HEAD: usize = 12;
/// In front of those of a further piece: next u64.
const NEXT_HEAD: usize = 8;
/// Bytes that the first piece of a long blob has.
pub const HEAD_BYTES: usize = BLOB_MAX - FIRST_HEAD;
const NEXT_BYTES: usize = BLOB_MAX - NEXT_HEAD;

/// Names a blob until it is freed. Never 0 as a number, so that 0 can stand for "none" in links.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Handle(NonZeroU64);

impl Handle {
    /// As a number, to keep in an index or a link.
    pub fn to_bits(self) -> u64 {
        self.0.get()
    }

    /// From such a number; any number is safe to ask with.
    pub fn from_bits(bits: u64) -> Option<Handle> {
        NonZeroU64::new(bits).map(Handle)
    }
}

/// What a heap holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeapUsage {
    /// Blobs.
    pub blobs: u64,
    /// Bytes of them, as given.
    pub blob_bytes: u64,
    /// Pages of blobs.
    pub data_pages: u32,
    /// Pages of slots.
    pub slot_pages: u32,
    /// Bytes of those pages that live blobs need, their headers and chains included.
    pub data_bytes: u64,
    /// Blobs (or pieces) that compaction has moved.
    pub moves: u64,
}

impl HeapUsage {
    /// Bytes of its pages.
    pub fn page_bytes(&self) -> u64 {
        (u64::from(self.data_pages) + u64::from(self.slot_pages)) * PAGE_BYTES as u64
    }
}

/// Blobs on pages of its own; see the head of this file.
pub struct Heap {
    pages: Pages,
    slots: Slots,
    data: Data,
    blobs: u64,
    blob_bytes: u64,
}

impl Heap {
    /// A heap without pages yet.
    pub fn new(region: &Arc<Region>) -> Heap {
        Heap { pages: region.owner(), slots: Slots::new(), data: Data::new(), blobs: 0, blob_bytes: 0 }
    }

    /// Keeps a copy of `bytes`.
    ///
    /// # Errors
    /// [`Full`] when no page is free, or when it is longer than [`BLOB_BYTES_MAX`].
    pub fn insert(&mut self, bytes: &[u8]) -> Result<Handle, Full> {
        self.store(bytes.len(), Some(bytes))
    }

    /// A blob of `len` zeros.
    ///
    /// # Errors
    /// [`Full`], as for [`insert`](Heap::insert).
    pub fn alloc(&mut self, len: usize) -> Result<Handle, Full> {
        self.store(len, None)
    }

    /// The bytes of a blob that is one piece; `None` for a long one or a handle that is not alive.
    #[inline]
    pub fn get(&self, handle: Handle) -> Option<&[u8]> {
        let (location, bytes) = self.piece(handle.to_bits())?;
        if location.large { None } else { Some(bytes) }
    }

    /// As [`get`](Heap::get), to write.
    pub fn get_mut(&mut self, handle: Handle) -> Option<&mut [u8]> {
        let (location, _) = self.piece(handle.to_bits())?;
        if location.large { None } else { data::write(&mut self.pages, location.page, location.offset) }
    }

    /// The first bytes of a blob: all of a short one, [`HEAD_BYTES`] of a long one. Links belong here.
    pub fn head(&self, handle: Handle) -> Option<&[u8]> {
        let (location, bytes) = self.piece(handle.to_bits())?;
        bytes.get(if location.large { FIRST_HEAD } else { 0 }..)
    }

    /// As [`head`](Heap::head), to write.
    pub fn head_mut(&mut self, handle: Handle) -> Option<&mut [u8]> {
        let (location, _) = self.piece(handle.to_bits())?;
        let bytes = data::write(&mut self.pages, location.page, location.offset)?;
        bytes.get_mut(if location.large { FIRST_HEAD } else { 0 }..)
    }

    /// Whether the handle is alive.
    pub fn contains(&self, handle: Handle) -> bool {
        self.piece(handle.to_bits()).is_some()
    }

    /// How long the blob is.
    pub fn len(&self, handle: Handle) -> Option<usize> {
        let (location, bytes) = self.piece(handle.to_bits())?;
        Some(if location.large { total_of(bytes) } else { bytes.len() })
    }

    /// The blob piece by piece, in order; nothing for a handle that is not alive.
    pub fn pieces(&self, handle: Handle) -> Pieces<'_> {
        Pieces { heap: self, next: handle.to_bits(), first: true }
    }

    /// Puts the whole blob at the end of `out`; false when the handle is not alive.
    pub fn read_into(&self, handle: Handle, out: &mut Vec<u8>) -> bool {
        let Some(len) = self.len(handle) else { return false };
        out.reserve(len);
        self.pieces(handle).for_each(|piece| out.extend_from_slice(piece));
        true
    }

    /// The whole blob, borrowed when it is one piece and otherwise copied to `scratch`, whose contents go.
    pub fn view<'a>(&'a self, handle: Handle, scratch: &'a mut Vec<u8>) -> Option<&'a [u8]> {
        if let Some(bytes) = self.get(handle) {
            return Some(bytes);
        }
        scratch.clear();
        self.read_into(handle, scratch).then_some(scratch)
    }

    /// Puts `bytes` in the place of what the blob was; its handle stays. False when it is not alive.
    ///
    /// # Errors
    /// [`Full`], as for [`insert`](Heap::insert); then the blob is as before.
    pub fn replace(&mut self, handle: Handle, bytes: &[u8]) -> Result<bool, Full> {
        let handle = handle.to_bits();
        let Some((_, old)) = self.piece_owned(handle) else { return Ok(false) };
        let first = self.chain(bytes.len(), Some(bytes))?;
        let Some(location) = self.rehouse(handle, first.piece_len) else {
            self.end_chain(first.next);
            return Err(Full);
        };
        self.fill_first(handle, location, &first, Some(bytes));
        self.end_chain(old.next);
        self.blob_bytes = self.blob_bytes - old.total as u64 + bytes.len() as u64;
        Ok(true)
    }

    /// Cuts the blob or adds zeros; its handle stays. `scratch` is used when it does not fit where it is. False when
    /// the handle is not alive.
    ///
    /// # Errors
    /// [`Full`], as for [`insert`](Heap::insert); then the blob is as before.
    pub fn resize(&mut self, handle: Handle, len: usize, scratch: &mut Vec<u8>) -> Result<bool, Full> {
        if len > BLOB_BYTES_MAX {
            return Err(Full);
        }
        let Some((location, old)) = self.piece_owned(handle.to_bits()) else { return Ok(false) };
        let short = !location.large && len <= BLOB_MAX;
        if short && self.data.resize(&mut self.pages, location.page, location.offset, len) {
            if let Some(bytes) = data::write(&mut self.pages, location.page, location.offset) {
                bytes[old.total.min(len)..].fill(0);
            }
            self.blob_bytes = self.blob_bytes - old.total as u64 + len as u64;
            return Ok(true);
        }
        scratch.clear();
        self.read_into(handle, scratch);
        scratch.resize(len, 0);
        self.replace(handle, scratch)
    }

    /// Ends a blob; false when the handle is not alive.
    pub fn free(&mut self, handle: Handle) -> bool {
        let handle = handle.to_bits();
        let Some((location, old)) = self.piece_owned(handle) else { return false };
        self.end_chain(old.next);
        self.data.free(&mut self.pages, location.page, location.offset);
        self.slots.give(&mut self.pages, handle);
        self.blobs -= 1;
        self.blob_bytes -= old.total as u64;
        true
    }

    /// Gathers sparse pages for about `budget_bytes` of copying and gives pages back; 0 when there was nothing to do.
    /// Handles stay. A few kilobytes per event keep [`usage`](Heap::usage) within the bound of data.rs.
    pub fn compact(&mut self, budget_bytes: usize) -> usize {
        self.data.compact(&mut self.pages, budget_bytes)
    }

    /// The region that its pages are of.
    pub fn region(&self) -> &Arc<Region> {
        self.pages.region()
    }

    /// What it holds.
    pub fn usage(&self) -> HeapUsage {
        HeapUsage {
            blobs: self.blobs,
            blob_bytes: self.blob_bytes,
            data_pages: self.data.page_count,
            slot_pages: self.pages.owned() - self.data.page_count,
            data_bytes: self.data.live_bytes,
            moves: self.data.moves,
        }
    }

    /// The first piece's location and bytes.
    #[inline]
    fn piece(&self, handle: u64) -> Option<(Location, &[u8])> {
        let location = slots::find(&self.pages, handle)?;
        let place = slots::place_of(handle);
        let (_, bytes) = data::read(&self.pages, location.page, location.offset, place)?;
        Some((location, bytes))
    }

    /// The first piece's location, and what there is to know of the blob.
    fn piece_owned(&self, handle: u64) -> Option<(Location, Old)> {
        let (location, bytes) = self.piece(handle)?;
        let old = if location.large {
            Old { total: total_of(bytes), next: next_of(bytes) }
        } else {
            Old { total: bytes.len(), next: 0 }
        };
        Some((location, old))
    }

    fn store(&mut self, len: usize, bytes: Option<&[u8]>) -> Result<Handle, Full> {
        let first = self.chain(len, bytes)?;
        let Some((handle, location)) = self.house(first.piece_len) else {
            self.end_chain(first.next);
            return Err(Full);
        };
        self.fill_first(handle, location, &first, bytes);
        self.blobs += 1;
        self.blob_bytes += len as u64;
        NonZeroU64::new(handle).map(Handle).ok_or(Full)
    }

    /// A new slot with room for a piece.
    fn house(&mut self, len: usize) -> Option<(u64, Location)> {
        let handle = self.slots.take(&mut self.pages)?;
        let Some((page, offset)) = self.data.place(&mut self.pages, slots::place_of(handle), len) else {
            self.slots.give(&mut self.pages, handle);
            return None;
        };
        let location = Location { page, offset, large: false };
        slots::set(&mut self.pages, handle, location);
        Some((handle, location))
    }

    /// Room for `len` bytes in the place of a blob's first piece, whose bytes are lost. Nothing changes on `None`.
    fn rehouse(&mut self, handle: u64, len: usize) -> Option<Location> {
        let old = slots::find(&self.pages, handle)?;
        if self.data.resize(&mut self.pages, old.page, old.offset, len) {
            return Some(old);
        }
        let place = slots::place_of(handle);
        let new = match self.data.place(&mut self.pages, place, len) {
            Some(new) => {
                // The old one may have moved within its page to make room: ask again.
                let old = slots::find(&self.pages, handle)?;
                self.data.free(&mut self.pages, old.page, old.offset);
                new
            }
            None => self.data.place_over(&mut self.pages, place, (old.page, old.offset), len)?,
        };
        let location = Location { page: new.0, offset: new.1, large: false };
        slots::set(&mut self.pages, handle, location);
        Some(location)
    }

    /// Writes the first piece into the room that was made for it.
    fn fill_first(&mut self, handle: u64, location: Location, first: &First, bytes: Option<&[u8]>) {
        if location.large != first.large {
            slots::set(&mut self.pages, handle, Location { large: first.large, ..location });
        }
        let Some(room) = data::write(&mut self.pages, location.page, location.offset) else { return };
        let room = if first.large {
            room[..8].copy_from_slice(&first.next.to_le_bytes());
            room[8..FIRST_HEAD].copy_from_slice(&(first.total as u32).to_le_bytes());
            &mut room[FIRST_HEAD..]
        } else {
            room
        };
        match bytes {
            Some(bytes) => room.copy_from_slice(&bytes[..room.len()]),
            None => room.fill(0),
        }
    }

    /// Writes all pieces of a blob but the first, from the last on.
    fn chain(&mut self, len: usize, bytes: Option<&[u8]>) -> Result<First, Full> {
        if len <= BLOB_MAX {
            return Ok(First { piece_len: len, large: false, total: len, next: 0 });
        }
        if len > BLOB_BYTES_MAX {
            return Err(Full);
        }
        let rest = len - HEAD_BYTES;
        let mut next = 0;
        for index in (0..rest.div_ceil(NEXT_BYTES)).rev() {
            let start = HEAD_BYTES + index * NEXT_BYTES;
            let end = len.min(start + NEXT_BYTES);
            let Some((handle, location)) = self.house(NEXT_HEAD + end - start) else {
                self.end_chain(next);
                return Err(Full);
            };
            if let Some(room) = data::write(&mut self.pages, location.page, location.offset) {
                room[..NEXT_HEAD].copy_from_slice(&u64::to_le_bytes(next));
                match bytes {
                    Some(bytes) => room[NEXT_HEAD..].copy_from_slice(&bytes[start..end]),
                    None => room[NEXT_HEAD..].fill(0),
                }
            }
            next = handle;
        }
        Ok(First { piece_len: BLOB_MAX, large: true, total: len, next })
    }

    /// Ends the pieces from `next` on.
    fn end_chain(&mut self, mut next: u64) {
        while next != 0 {
            let handle = next;
            let Some((location, bytes)) = self.piece(handle) else { return };
            next = next_of(bytes);
            self.data.free(&mut self.pages, location.page, location.offset);
            self.slots.give(&mut self.pages, handle);
        }
    }
}

/// What a blob was before a change.
struct Old {
    total: usize,
    /// Its second piece, 0 for none.
    next: u64,
}

/// How the first piece of a blob will look.
struct First {
    piece_len: usize,
    large: bool,
    total: usize,
    next: u64,
}

/// The pieces of a blob, in order.
pub struct Pieces<'a> {
    heap: &'a Heap,
    next: u64,
    first: bool,
}

impl<'a> Iterator for Pieces<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if self.next == 0 {
            return None;
        }
        let (location, bytes) = self.heap.piece(self.next)?;
        let first = std::mem::replace(&mut self.first, false);
        if first && !location.large {
            self.next = 0;
            return Some(bytes);
        }
        self.next = next_of(bytes);
        bytes.get(if first { FIRST_HEAD } else { NEXT_HEAD }..)
    }
}

fn next_of(piece: &[u8]) -> u64 {
    piece.first_chunk().map_or(0, |raw| u64::from_le_bytes(*raw))
}

fn total_of(piece: &[u8]) -> usize {
    piece.get(8..12).and_then(|raw| raw.first_chunk()).map_or(0, |raw| u32::from_le_bytes(*raw) as usize)
}
