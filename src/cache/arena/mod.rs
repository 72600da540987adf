//! Fixed-capacity memory for the cache: one region, pages of it, and the ordered map that lives in pages.
//!
//! ```text
//! Block    the bytes: memory of the process' own, or a mapped file
//!   Region  the block cut in pages; a lock-free pool of free pages
//!   Pages  one owner's pages: the only way to their bytes
//!     Tree (kind u8, a u64, b u64) -> bytes, in order
//! ```
//!
//! What enters: a capacity, once; then keys and bytes. What leaves: bytes, keys in order, or "full".
//! What never happens here: growth beyond the capacity, an allocation after the start, a lock, a clock, a random
//! source, a pointer inside a page (everything there is offsets, page numbers and plain bytes, so that the region
//! can become a mapped file), a decision about what to evict.
//!
//! When no page is free, an operation that needs one says so and changes nothing; the owner evicts and tries again.

pub mod block;
pub mod pages;
pub mod region;
pub mod tree;
pub mod words;

mod bytes;
pub(crate) mod sip;

pub use block::Block;
pub use pages::Pages;
pub use region::{PAGE_BYTES, PageId, Region, ReserveError};
pub use tree::{Damage, Key, RESERVED_KIND, Range, Root, Tree, TreeUsage, VALUE_BYTES_MAX, Value, restore};

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
