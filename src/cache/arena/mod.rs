//! Fixed-capacity memory for the cache: one region, pages of it, and two structures that live in pages.
//!
//! ```text
//! Region   one block of CACHE_MEMORY bytes, cut in pages of 16 KiB; a lock-free pool of free pages
//!   Pages  one owner's pages: the only way to their bytes
//!     Heap   blobs of 1 byte to 16 MiB behind handles that stay valid until the blob is freed
//!     Index  (kind u8, u64, u64) -> u64
//! ```
//!
//! What enters: a capacity, once; then bytes and keys. What leaves: handles, bytes, values, or "full".
//! What never happens here: growth beyond the capacity, an allocation after the start, a lock, a clock, a random
//! source, a pointer inside a page (everything there is offsets and plain little-endian bytes, so that the region
//! can become a mapped file), a decision about what to evict.
//!
//! When no page is free, an operation that needs one says so and changes nothing; the owner evicts and tries again.

pub mod heap;
pub mod index;
pub mod pages;
pub mod region;

mod bytes;
mod data;
mod links;
mod lists;
pub(crate) mod sip;
mod slots;
mod strip;

pub use heap::{Handle, Heap};
pub use index::{Index, Key};
pub use links::{LINK_BYTES, List};
pub use pages::Pages;
pub use region::{PAGE_BYTES, PageId, Region};

/// No page was free: nothing was changed; free something and try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl std::fmt::Display for Full {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("no page of the cache's memory is free")
    }
}

impl std::error::Error for Full {}

#[cfg(test)]
mod tests;
