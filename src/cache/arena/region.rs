//! The region: one block of bytes, reserved at once, and the pool of its free pages.
//!
//! What enters: the capacity, or a file with the pages of an earlier process. What leaves: owners
//! ([`Pages`](super::Pages)), which take and give back pages. What never happens: a second reservation, a lock, two
//! owners of a page.
//!
//! ```text
//! block    page 0 | page 1 | ...   (block.rs)
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

use std::io;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::block::Block;
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

/// One block of bytes in pages, shared by all partitions.
pub struct Region {
    block: Block,
    /// The block's.
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
        Ok(Unshared::new(Block::heap(capacity)?, 0).share().0)
    }

    /// A new owner, without pages yet.
    pub fn owner(self: &Arc<Region>) -> Pages {
        // Ordering: only the number's being unique matters. 56 bits do not run out.
        let number = self.last_owner.fetch_add(1, Ordering::Relaxed) + 1;
        Pages::new(Arc::clone(self), number << 8, 0)
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
        self.block.memory_bytes()
            + self.page_count as usize * (size_of::<AtomicU64>() + size_of::<AtomicU32>())
    }

    /// The words in front of the pages of a mapped file; none otherwise.
    pub fn words(&self) -> &[AtomicU64] {
        self.block.words()
    }

    /// Writes to the disk what has changed in a mapped file, and waits for it.
    ///
    /// # Errors
    /// The disk's.
    pub fn flush(&self) -> io::Result<()> {
        self.block.flush()
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
        // SAFETY: the caller's promise is the same.
        unsafe { self.block.at(page) }
    }
}

/// A region before anybody has it: pages can be read, and are given to those who had them when the file was written.
pub(super) struct Unshared {
    block: Block,
    /// By page: the owner's number << 8 | kind, 0 while nobody claims it.
    marks: Vec<u64>,
    owners: u64,
}

impl Unshared {
    /// For owners 1 to `owners`.
    pub(super) fn new(block: Block, owners: u64) -> Unshared {
        let marks = vec![0; block.page_count() as usize];
        Unshared { block, marks, owners }
    }

    /// The bytes of a page.
    pub(super) fn page(&self, page: PageId) -> Option<&Page> {
        if page >= self.block.page_count() {
            return None;
        }
        // SAFETY: the page exists, its bytes are initialised, and as long as the block is in here nobody writes them.
        Some(unsafe { self.block.at(page).as_ref() })
    }

    /// Gives a page to an owner as `kind`.
    ///
    /// # Errors
    /// The owner that has it already, 0 when there is no such page or owner.
    pub(super) fn claim(&mut self, page: PageId, owner: u64, kind: u8) -> Result<(), u64> {
        if owner == 0 || owner > self.owners {
            return Err(0);
        }
        match self.marks.get_mut(page as usize) {
            Some(mark) if *mark == 0 => *mark = owner << 8 | u64::from(kind),
            Some(mark) => return Err(*mark >> 8),
            None => return Err(0),
        }
        Ok(())
    }

    /// Takes all pages away from those owners.
    pub(super) fn disclaim(&mut self, lost: impl Fn(u64) -> bool) {
        self.marks.iter_mut().filter(|mark| lost(**mark >> 8)).for_each(|mark| *mark = 0);
    }

    /// The region, its owners in order; pages that nobody has claimed are free.
    pub(super) fn share(self) -> (Arc<Region>, Vec<Pages>) {
        let mut owned = vec![0; self.owners as usize];
        let next: Box<[AtomicU32]> = self.marks.iter().map(|_| AtomicU32::new(NO_PAGE)).collect();
        let (mut head, mut used) = (NO_PAGE, 0);
        for (page, mark) in self.marks.iter().enumerate().rev() {
            if *mark == 0 {
                next[page].store(head, Ordering::Relaxed);
                head = page as PageId;
            } else {
                // `claim` takes no other owners.
                owned[(*mark >> 8) as usize - 1] += 1;
                used += 1;
            }
        }
        let region = Arc::new(Region {
            page_count: self.block.page_count(),
            block: self.block,
            owners: self.marks.into_iter().map(AtomicU64::new).collect(),
            next,
            head: AtomicU64::new(head.into()),
            last_owner: AtomicU64::new(self.owners),
            used: AtomicU32::new(used),
            high_water: AtomicU32::new(used),
            refused: AtomicU64::new(0),
        });
        let pages = (1..=self.owners).zip(owned);
        let pages = pages.map(|(owner, owned)| Pages::new(Arc::clone(&region), owner << 8, owned)).collect();
        (region, pages)
    }
}

/// The head with the next tag and `page` on top.
fn tagged(head: u64, page: PageId) -> u64 {
    ((head >> 32).wrapping_add(1) << 32) | u64::from(page)
}
