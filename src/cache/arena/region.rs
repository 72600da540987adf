//! The region: one block of bytes, reserved at once, and the pool of its free pages.
//!
//! What enters: the capacity. What leaves: owners ([`Pages`](super::Pages)), which take and give back pages.
//! What never happens: a second reservation, a lock, two owners of a page.
//!
//! ```text
//! block    | up to 63 bytes to a cache line | page 0 | page 1 | ... |
//! owners   u64 per page: owner << 8 | kind, 0 while free      who may touch the page, and what it holds
//! next     u32 per page: the free page below it               the free list, a stack
//! head     tag u32 << 32 | page u32                           its top; the tag counts, so that a page that left
//!                                                             and came back is seen (ABA)
//! ```
//!
//! Both tables stand outside the block, 12 bytes per page (0.15 %), so that a free page is never touched and the
//! system commits memory only for pages that were used.
//!
//! Page size: 8 KiB, by `cargo bench --bench arena`: an entry of 80 bytes costs 99 bytes after random insertion (101
//! with 16 KiB, about 105 with 4 KiB), one of 100 bytes in guilds of 200 members 128 (131, about 133), and searches take about
//! the same time. A partition's least is one page.
//!
//! Soundness: the bytes of page `p` are reached through a `Pages` only, whose number stands in `owners[p]`. Numbers
//! are given once, a `Pages` cannot be cloned, only it writes its number in and out, and it hands out references
//! under its own borrow. A page number is therefore no secret and no proof: a wrong one reads `None`.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::pages::Pages;

/// Bytes of a page.
pub const PAGE_BYTES: usize = 8 * 1024;

/// The number of a page in its region.
pub type PageId = u32;

/// The bytes of a page.
pub type Page = [u8; PAGE_BYTES];

/// Stands for "no page"; 24 bits name a page.
pub const NO_PAGE: PageId = 0x00ff_ffff;

/// The most pages a region may have: what 24 bits can name (128 GiB).
pub const PAGES_MAX: usize = NO_PAGE as usize;

/// What the system's advice is given in.
const SYSTEM_PAGE_BYTES: usize = 4096;
/// Smaller blocks have no room for a large page.
const HUGE_FROM: usize = 8 << 20;

/// Where pages begin inside the block: a cache line.
const ALIGN: usize = 64;

/// One block of bytes in pages, shared by all partitions.
pub struct Region {
    /// Invariant: `page_count * PAGE_BYTES` zeroed or written bytes follow it inside `block`.
    base: NonNull<u8>,
    block: NonNull<u8>,
    layout: Layout,
    page_count: u32,
    /// Invariant: `owners[p]` holds an owner's number exactly while that owner has `p`.
    owners: Box<[AtomicU64]>,
    next: Box<[AtomicU32]>,
    head: AtomicU64,
    last_owner: AtomicU64,
    used: AtomicU32,
    high_water: AtomicU32,
    refused: AtomicU64,
}

// SAFETY: the pointers are to memory that the region alone has; its pages are handed out to one owner at a time
// (see the head of this file), and everything else in it is atomic.
unsafe impl Send for Region {}
// SAFETY: as above; `&Region` gives no access to the bytes of a page.
unsafe impl Sync for Region {}

/// Why a region could not be reserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReserveError {
    /// Less than a page.
    TooSmall,
    /// More than [`PAGES_MAX`] pages.
    TooLarge,
    /// The system has no such block.
    Refused,
}

impl std::fmt::Display for ReserveError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ReserveError::TooSmall => write!(f, "smaller than a page of {PAGE_BYTES} bytes"),
            ReserveError::TooLarge => write!(f, "larger than {PAGES_MAX} pages of {PAGE_BYTES} bytes"),
            ReserveError::Refused => f.write_str("the system refuses to reserve it"),
        }
    }
}

impl std::error::Error for ReserveError {}

/// How full a region is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Pages in all.
    pub pages: u32,
    /// Pages that somebody has.
    pub used: u32,
    /// The most that were had at once.
    pub high_water: u32,
    /// How often a page was asked for and none was free.
    pub refused: u64,
}

impl Region {
    /// Reserves `capacity` bytes, rounded down to whole pages.
    ///
    /// # Errors
    /// When that is less than a page, more than [`PAGES_MAX`] pages, or more than the system has.
    pub fn with_capacity(capacity: usize) -> Result<Arc<Region>, ReserveError> {
        let page_count = capacity / PAGE_BYTES;
        if page_count == 0 {
            return Err(ReserveError::TooSmall);
        }
        if page_count > PAGES_MAX {
            return Err(ReserveError::TooLarge);
        }
        // An alignment above 16 would make the allocator fill the block with zeros by hand and so commit all of
        // it; with this one it takes fresh memory from the system, and the cache line is found by hand instead.
        let bytes = (page_count * PAGE_BYTES).checked_add(ALIGN).ok_or(ReserveError::TooLarge)?;
        let layout = Layout::from_size_align(bytes, 16).map_err(|_| ReserveError::TooLarge)?;
        // SAFETY: the layout's size is not 0.
        let block = NonNull::new(unsafe { alloc_zeroed(layout) }).ok_or(ReserveError::Refused)?;
        let skip = block.as_ptr().align_offset(ALIGN).min(ALIGN);
        // SAFETY: `skip <= ALIGN`, and the block is `ALIGN` bytes longer than its pages.
        let base = unsafe { block.add(skip) };
        // Every lookup goes to another page: with large pages of the system's most of them find their translation at
        // hand. Where it has none, nothing changes.
        let from = block.as_ptr().align_offset(SYSTEM_PAGE_BYTES);
        if let Some(length) = layout.size().checked_sub(from).filter(|length| *length >= HUGE_FROM) {
            // SAFETY: the range lies in our block, and the advice does not change what is read from it.
            unsafe { libc::madvise(block.as_ptr().add(from).cast(), length, libc::MADV_HUGEPAGE) };
        }
        let page_count = page_count as u32;
        let below = |page: u32| if page + 1 < page_count { page + 1 } else { NO_PAGE };
        Ok(Arc::new(Region {
            base,
            block,
            layout,
            page_count,
            owners: (0..page_count).map(|_| AtomicU64::new(0)).collect(),
            next: (0..page_count).map(|page| AtomicU32::new(below(page))).collect(),
            head: AtomicU64::new(0),
            last_owner: AtomicU64::new(0),
            used: AtomicU32::new(0),
            high_water: AtomicU32::new(0),
            refused: AtomicU64::new(0),
        }))
    }

    /// A new owner, without pages yet.
    pub fn owner(self: &Arc<Region>) -> Pages {
        // Ordering: only the number's being unique matters. 56 bits do not run out.
        let number = self.last_owner.fetch_add(1, Ordering::Relaxed) + 1;
        Pages::new(Arc::clone(self), number << 8)
    }

    /// How full it is. The numbers are read one after the other while others work.
    pub fn usage(&self) -> Usage {
        // Ordering: these are figures for people.
        Usage {
            pages: self.page_count,
            used: self.used.load(Ordering::Relaxed),
            high_water: self.high_water.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
        }
    }

    /// Pages that nobody has, while others work.
    pub fn free_pages(&self) -> u32 {
        self.page_count.saturating_sub(self.used.load(Ordering::Relaxed))
    }

    /// Whole pages in it.
    pub fn page_count(&self) -> u32 {
        self.page_count
    }

    /// Bytes that it holds of the system: the block and both tables.
    pub fn memory_bytes(&self) -> usize {
        self.layout.size() + self.page_count as usize * (size_of::<AtomicU64>() + size_of::<AtomicU32>())
    }

    /// Takes a page out of the pool for `mark` (owner << 8 | kind, never 0).
    pub(super) fn take(&self, mark: u64) -> Option<PageId> {
        // Ordering: Acquire pairs with the Release in `give`: what the last owner wrote lies before what we do.
        let mut head = self.head.load(Ordering::Acquire);
        let page = loop {
            let page = head as u32;
            if page == NO_PAGE {
                self.refused.fetch_add(1, Ordering::Relaxed);
                return None;
            }
            // Ordering: may be stale when another thread took the page meanwhile; then the tag differs and the
            // exchange fails.
            let next = self.next[page as usize].load(Ordering::Relaxed);
            let new = tagged(head, next);
            match self.head.compare_exchange_weak(head, new, Ordering::Acquire, Ordering::Acquire) {
                Ok(_) => break page,
                Err(now) => head = now,
            }
        };
        // Ordering: read by this owner only in a way that matters; others compare it with their own number.
        self.owners[page as usize].store(mark, Ordering::Relaxed);
        let used = self.used.fetch_add(1, Ordering::Relaxed) + 1;
        self.high_water.fetch_max(used, Ordering::Relaxed);
        Some(page)
    }

    /// Puts a page back that the caller has.
    pub(super) fn give(&self, page: PageId) {
        self.owners[page as usize].store(0, Ordering::Relaxed);
        // Before the page can be taken again, so that `used` never passes the number of pages.
        self.used.fetch_sub(1, Ordering::Relaxed);
        let mut head = self.head.load(Ordering::Relaxed);
        loop {
            self.next[page as usize].store(head as u32, Ordering::Relaxed);
            // Ordering: Release: our last writes to the page (and `next`, `owners`) lie before the next owner's.
            match self.head.compare_exchange_weak(
                head,
                tagged(head, page),
                Ordering::Release,
                Ordering::Relaxed,
            ) {
                Ok(_) => return,
                Err(now) => head = now,
            }
        }
    }

    /// Who has the page and as what; 0 when nobody, or when there is no such page.
    #[inline]
    pub(super) fn mark(&self, page: PageId) -> u64 {
        // Ordering: an owner compares this with its own number, which it alone writes; Relaxed keeps its own order.
        self.owners.get(page as usize).map_or(0, |mark| mark.load(Ordering::Relaxed))
    }

    /// Where a page's bytes are.
    ///
    /// # Safety
    /// `page < page_count`.
    #[inline]
    pub(super) unsafe fn at(&self, page: PageId) -> NonNull<Page> {
        // SAFETY: the caller's promise keeps it inside the block.
        unsafe { self.base.add(page as usize * PAGE_BYTES) }.cast()
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout; every `Pages` holds an `Arc` of this region, so none is left.
        unsafe { dealloc(self.block.as_ptr(), self.layout) }
    }
}

/// The head with the next tag and `page` on top.
fn tagged(head: u64, page: PageId) -> u64 {
    ((head >> 32).wrapping_add(1) << 32) | u64::from(page)
}
