//! The bytes under a region: memory of the process' own, or a file that is mapped.
//!
//! What enters: a length, or a file. What leaves: where pages are; the words in front of them.
//! What never happens: a reference to a page's bytes (that is the region's to give), a change of length.
//!
//! ```text
//! heap   | up to 63 bytes to a cache line | page 0 | page 1 | ... |
//! file   | front: words                   | page 0 | page 1 | ... |
//! ```
//!
//! A mapped page whose block on the disk is not there when it is first written ends the process with SIGBUS. So blocks
//! are taken when the file is made ([`reserve`]); what remains is somebody else who cuts the file short, and file systems
//! that copy on write and run out of room. Nobody else may write to the file as long as it is mapped; the lock that its
//! opener holds tells those who ask.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64};

use memmap2::{MmapMut, MmapOptions};

use super::region::{PAGE_BYTES, PAGES_MAX, Page, PageId, ReserveError};

/// What the system's advice is given in, and what a file's front is a multiple of.
pub const SYSTEM_PAGE_BYTES: usize = 4096;
/// Smaller blocks have no room for a large page.
const HUGE_FROM: usize = 8 << 20;
/// Where pages begin inside the process' own memory: a cache line.
const ALIGN: usize = 64;
/// Zeros that are written at a time where the system cannot reserve blocks.
const ZEROS: usize = 1 << 20;

/// The block; see the head of this file.
pub struct Block {
    /// Invariant: `page_count * PAGE_BYTES` initialised bytes follow it inside what is held.
    base: NonNull<u8>,
    page_count: u32,
    /// Words at the start of what is held; 0 on the heap.
    front_words: usize,
    held: Held,
}

enum Held {
    Heap {
        start: NonNull<u8>,
        layout: Layout,
    },
    File {
        map: MmapMut,
        // Open as long as it is mapped: with it goes the opener's lock.
        _file: File,
    },
}

// SAFETY: the pointers are to memory that the block alone has; it gives out none but by an `unsafe` function, and atomics.
unsafe impl Send for Block {}
// SAFETY: as above.
unsafe impl Sync for Block {}

/// Whole pages in so many bytes.
fn whole_pages(bytes: usize) -> Result<usize, ReserveError> {
    match bytes / PAGE_BYTES {
        0 => Err(ReserveError::TooSmall),
        pages if pages > PAGES_MAX => Err(ReserveError::TooLarge),
        pages => Ok(pages),
    }
}

/// Makes a file of `length` zeros whose blocks are all there. What it held is gone.
///
/// # Errors
/// When the disk has not got so much, or does not let it be written; the file is then empty.
pub fn reserve(file: &File, length: u64) -> io::Result<()> {
    file.set_len(0)?;
    let done = reserve_blocks(file, length);
    if done.is_err() {
        // What was taken of a disk that is full is given back.
        let _ = file.set_len(0);
    }
    done
}

fn reserve_blocks(file: &File, length: u64) -> io::Result<()> {
    let too_long = || io::Error::from(io::ErrorKind::FileTooLarge);
    let wanted = libc::off_t::try_from(length).map_err(|_| too_long())?;
    loop {
        // SAFETY: a system call on a descriptor that is open; it touches no memory of ours.
        if unsafe { libc::fallocate(file.as_raw_fd(), 0, 0, wanted) } == 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            Some(libc::EINTR) => {}
            // Not every file system can; zeros take blocks, too.
            Some(libc::EOPNOTSUPP | libc::ENOSYS) => return write_zeros(file, length),
            _ => return Err(error),
        }
    }
}

fn write_zeros(mut file: &File, length: u64) -> io::Result<()> {
    let zeros = vec![0; ZEROS];
    let mut left = length;
    while left > 0 {
        let some = left.min(ZEROS as u64) as usize;
        file.write_all(&zeros[..some])?;
        left -= some as u64;
    }
    // Some only find out here that there is no room.
    file.sync_data()
}

impl Block {
    /// Memory of the process' own, zeroed: `capacity` bytes, rounded down to whole pages.
    ///
    /// # Errors
    /// When that is less than a page, more than [`PAGES_MAX`] pages, or more than the system has.
    pub fn heap(capacity: usize) -> Result<Block, ReserveError> {
        let page_count = whole_pages(capacity)?;
        // An alignment above 16 would make the allocator fill the block with zeros by hand and so commit all of
        // it; with this one it takes fresh memory from the system, and the cache line is found by hand instead.
        let bytes = (page_count * PAGE_BYTES).checked_add(ALIGN).ok_or(ReserveError::TooLarge)?;
        let layout = Layout::from_size_align(bytes, 16).map_err(|_| ReserveError::TooLarge)?;
        // SAFETY: the layout's size is not 0.
        let start = NonNull::new(unsafe { alloc_zeroed(layout) }).ok_or(ReserveError::Refused)?;
        let skip = start.as_ptr().align_offset(ALIGN).min(ALIGN);
        // SAFETY: `skip <= ALIGN`, and the block is `ALIGN` bytes longer than its pages.
        let base = unsafe { start.add(skip) };
        prefer_large_pages(start, layout.size());
        Ok(Block { base, page_count: page_count as u32, front_words: 0, held: Held::Heap { start, layout } })
    }

    /// A file of `front` bytes (a multiple of [`SYSTEM_PAGE_BYTES`]) and then pages, `bytes` of them.
    ///
    /// # Errors
    /// When the file has another length, or the system does not map it.
    pub fn file(file: &File, front: usize, bytes: usize) -> io::Result<Block> {
        let invalid = |what: &str| io::Error::new(io::ErrorKind::InvalidInput, what.to_owned());
        let pages = whole_pages(bytes).map_err(|error| invalid(&error.to_string()))?;
        let length = (pages * PAGE_BYTES).checked_add(front).ok_or_else(|| invalid("it is too long"))?;
        if !front.is_multiple_of(SYSTEM_PAGE_BYTES) || file.metadata()?.len() != length as u64 {
            return Err(invalid("it has not the length that was expected"));
        }
        // SAFETY: the file has this length, and nobody else changes it or what is in it: the opener holds its lock, and
        // the head of this file says what happens to those who do not ask.
        let mut map = unsafe { MmapOptions::new().len(length).map_mut(file)? };
        let start = NonNull::new(map.as_mut_ptr()).ok_or_else(|| invalid("it was mapped nowhere"))?;
        prefer_large_pages(start, length);
        // SAFETY: the map is `front` bytes longer than its pages.
        let base = unsafe { start.add(front) };
        let front_words = front / size_of::<AtomicU64>();
        Ok(Block {
            base,
            page_count: pages as u32,
            front_words,
            held: Held::File { map, _file: file.try_clone()? },
        })
    }

    /// Whole pages in it.
    pub fn page_count(&self) -> u32 {
        self.page_count
    }

    /// The words in front of the pages; none on the heap.
    pub fn words(&self) -> &[AtomicU64] {
        match &self.held {
            Held::Heap { .. } => &[],
            // SAFETY: the map is aligned to the system's pages and begins with so many words; they are reached by this
            // function alone, so as atomics alone, and any bytes are such words.
            Held::File { map, .. } => unsafe {
                std::slice::from_raw_parts(map.as_ptr().cast(), self.front_words)
            },
        }
    }

    /// Bytes of the process' memory that it takes.
    pub fn memory_bytes(&self) -> usize {
        match &self.held {
            Held::Heap { layout, .. } => layout.size(),
            Held::File { map, .. } => map.len(),
        }
    }

    /// Writes to the disk what has changed, and waits for it.
    ///
    /// # Errors
    /// The disk's. Nothing is known then of what is on it.
    pub fn flush(&self) -> io::Result<()> {
        match &self.held {
            Held::Heap { .. } => Ok(()),
            Held::File { map, .. } => map.flush(),
        }
    }

    /// Where a page's bytes are.
    ///
    /// # Safety
    /// `page < page_count`.
    #[inline]
    pub unsafe fn at(&self, page: PageId) -> NonNull<Page> {
        // SAFETY: the caller's promise keeps it inside the block.
        unsafe { self.base.add(page as usize * PAGE_BYTES) }.cast()
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        if let Held::Heap { start, layout } = self.held {
            // SAFETY: allocated with this layout; whoever has a page has the block.
            unsafe { dealloc(start.as_ptr(), layout) }
        }
    }
}

/// So many zeros, in memory that the system gives as it is written to.
pub fn zeros(count: usize) -> Box<[AtomicU32]> {
    // By way of u32, for which the allocator takes fresh memory from the system and writes nothing.
    let words = Box::into_raw(vec![0_u32; count].into_boxed_slice());
    // SAFETY: an AtomicU32 has the size, the alignment and the valid bits of a u32, and nobody else has the box.
    unsafe { Box::from_raw(words as *mut [AtomicU32]) }
}

/// Every lookup goes to another page: with large pages of the system's most of them find their translation at hand.
/// Where it has none, nothing changes.
fn prefer_large_pages(start: NonNull<u8>, length: usize) {
    if cfg!(miri) {
        return; // It does not know the call.
    }
    let from = start.as_ptr().align_offset(SYSTEM_PAGE_BYTES);
    if let Some(length) = length.checked_sub(from).filter(|length| *length >= HUGE_FROM) {
        // SAFETY: the range lies in memory of ours, and the advice does not change what is read from it.
        unsafe { libc::madvise(start.as_ptr().add(from).cast(), length, libc::MADV_HUGEPAGE) };
    }
}
