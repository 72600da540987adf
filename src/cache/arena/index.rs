//! A map from (kind, id, id) to a number, in pages, that never stops to rehash.
//!
//! What enters: keys, values, a seed for the hash. What leaves: values. What never happens: tombstones; work that
//! grows with the number of entries; a random source.
//!
//! ```text
//! heads    u32 per chain: its first cell                              linear hashing: chains are split and joined
//! cells    a u64 | b u64 | value u64 | next u32 | kind u8             one at a time, at the end of the row
//! ```
//!
//! Cells are dense: the last one moves into the gap that a deletion leaves, so both rows shrink by pages. There are
//! as many chains as entries; an insertion splits two chains at most, a deletion joins two at most, and a chain has
//! one or two cells (a dozen is a matter of one in 10^9, and whoever chooses ids does not know the seed). When no
//! page is free for a new chain, chains grow longer instead.
//!
//! Cost per entry: 29 bytes of cell and 4 to 5 of head.

use std::sync::Arc;

use super::Full;
use super::bytes::{put_u32, put_u64, u32_at, u64_at};
use super::pages::Pages;
use super::region::{PAGE_BYTES, Page, Region};
use super::sip;
use super::strip::Strip;

const HEADS: u8 = 3;
const CELLS: u8 = 4;
const HEADS_PER_PAGE: usize = PAGE_BYTES / 4;
/// Bytes of an entry without its share of heads.
pub const CELL_BYTES: usize = 29;
const CELLS_PER_PAGE: usize = PAGE_BYTES / CELL_BYTES;
const VALUE: usize = 16;
const NEXT: usize = 24;
const KIND: usize = 28;
const NONE: u32 = u32::MAX;
/// Chains that are kept even when there are fewer entries.
const CHAINS_MIN: u32 = 16;

/// What an entry is found by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// Which sort of thing it is.
    pub kind: u8,
    /// An id.
    pub a: u64,
    /// A second id, 0 when one is enough.
    pub b: u64,
}

/// The map; see the head of this file.
pub struct Index {
    pages: Pages,
    seed: [u64; 2],
    heads: Strip,
    cells: Strip,
    /// Chains there are. Invariant: each has its head in `heads`.
    chains: u32,
    /// Entries, and cells.
    count: u32,
}

/// A cell and the one before it in its chain.
struct Found {
    cell: u32,
    before: u32,
    chain: u32,
}

impl Index {
    /// An empty map without pages yet. The seed should be unknown to those who choose ids.
    pub fn new(region: &Arc<Region>, seed: [u64; 2]) -> Index {
        Index {
            pages: region.owner(),
            seed,
            heads: Strip::new(HEADS),
            cells: Strip::new(CELLS),
            chains: 0,
            count: 0,
        }
    }

    /// The value of `key`.
    pub fn get(&self, key: &Key) -> Option<u64> {
        let mut at = self.head(self.chain_of(sip::hash(self.seed, key.kind, key.a, key.b))?);
        while at != NONE {
            let (page, offset) = self.cell(at)?;
            if holds(page, offset, key) {
                return Some(u64_at(page, offset + VALUE));
            }
            at = u32_at(page, offset + NEXT);
        }
        None
    }

    /// Gives `key` a value and says which it had.
    ///
    /// # Errors
    /// [`Full`] when it is new and no page is free.
    pub fn insert(&mut self, key: &Key, value: u64) -> Result<Option<u64>, Full> {
        if let Some(found) = self.find(key) {
            let (page, offset) = self.cell_mut(found.cell).ok_or(Full)?;
            let old = u64_at(page, offset + VALUE);
            put_u64(page, offset + VALUE, value);
            return Ok(Some(old));
        }
        if self.chains == 0 && !self.split() {
            return Err(Full);
        }
        let cell = self.count;
        let no_room = cell as usize == self.cells.len() * CELLS_PER_PAGE;
        if cell == NONE || (no_room && !self.cells.push(&mut self.pages)) {
            if self.count == 0 {
                self.clear();
            }
            return Err(Full);
        }
        self.count += 1;
        let chain = self.chain_of(sip::hash(self.seed, key.kind, key.a, key.b)).ok_or(Full)?;
        let next = self.head(chain);
        let (page, offset) = self.cell_mut(cell).ok_or(Full)?;
        put_u64(page, offset, key.a);
        put_u64(page, offset + 8, key.b);
        put_u64(page, offset + VALUE, value);
        put_u32(page, offset + NEXT, next);
        page[offset + KIND] = key.kind;
        self.set_head(chain, cell);
        for _ in 0..2 {
            if self.chains < self.count.max(CHAINS_MIN) && !self.split() {
                break;
            }
        }
        Ok(None)
    }

    /// Takes `key` out and says which value it had.
    pub fn remove(&mut self, key: &Key) -> Option<u64> {
        let found = self.find(key)?;
        let (page, offset) = self.cell(found.cell)?;
        let (value, next) = (u64_at(page, offset + VALUE), u32_at(page, offset + NEXT));
        self.link(found.chain, found.before, next);
        let last = self.count - 1;
        if found.cell != last {
            let (page, offset) = self.cell(last)?;
            let mut cell = [0; CELL_BYTES];
            cell.copy_from_slice(&page[offset..offset + CELL_BYTES]);
            let moved = self.find(&key_at(page, offset))?;
            let (page, offset) = self.cell_mut(found.cell)?;
            page[offset..offset + CELL_BYTES].copy_from_slice(&cell);
            self.link(moved.chain, moved.before, found.cell);
        }
        self.count = last;
        if last as usize == (self.cells.len() - 1) * CELLS_PER_PAGE {
            self.cells.pop(&mut self.pages);
        }
        for _ in 0..2 {
            // Some way below the point where a chain is split, so that a change to and fro costs nothing.
            if self.chains > CHAINS_MIN && self.chains > self.count + self.count / 8 {
                self.join();
            }
        }
        if self.count == 0 {
            self.clear();
        }
        Some(value)
    }

    /// Entries.
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Pages that it has.
    pub fn page_count(&self) -> u32 {
        self.pages.owned()
    }

    fn clear(&mut self) {
        while self.heads.len() > 0 {
            self.heads.pop(&mut self.pages);
        }
        self.chains = 0;
    }

    fn find(&self, key: &Key) -> Option<Found> {
        let chain = self.chain_of(sip::hash(self.seed, key.kind, key.a, key.b))?;
        let (mut before, mut cell) = (NONE, self.head(chain));
        while cell != NONE {
            let (page, offset) = self.cell(cell)?;
            if holds(page, offset, key) {
                return Some(Found { cell, before, chain });
            }
            (before, cell) = (cell, u32_at(page, offset + NEXT));
        }
        None
    }

    /// Adds a chain and moves to it what belongs there of the one it splits; false when no page is free.
    fn split(&mut self) -> bool {
        let new = self.chains;
        if new as usize == self.heads.len() * HEADS_PER_PAGE && !self.heads.push(&mut self.pages) {
            return false;
        }
        self.chains += 1;
        self.set_head(new, NONE);
        let Some(from) = parent(new) else { return true };
        let (mut before, mut cell) = (NONE, self.head(from));
        while cell != NONE {
            let Some((page, offset)) = self.cell(cell) else { break };
            let next = u32_at(page, offset + NEXT);
            let Key { kind, a, b } = key_at(page, offset);
            let hash = sip::hash(self.seed, kind, a, b);
            if self.chain_of(hash) == Some(new) {
                self.link(from, before, next);
                let head = self.head(new);
                self.set_next(cell, head);
                self.set_head(new, cell);
            } else {
                before = cell;
            }
            cell = next;
        }
        true
    }

    /// Takes the last chain away and puts its cells before those of the one that it was split from.
    fn join(&mut self) {
        let last = self.chains - 1;
        let Some(to) = parent(last) else { return };
        let first = self.head(last);
        let mut end = first;
        while end != NONE {
            let Some((page, offset)) = self.cell(end) else { break };
            let next = u32_at(page, offset + NEXT);
            if next == NONE {
                let head = self.head(to);
                self.set_next(end, head);
                self.set_head(to, first);
            }
            end = next;
        }
        self.chains = last;
        if last as usize == (self.heads.len() - 1) * HEADS_PER_PAGE {
            self.heads.pop(&mut self.pages);
        }
    }

    /// Linear hashing: by the low bits that all chains together have begun to use, less one for those to come.
    #[inline]
    fn chain_of(&self, hash: u64) -> Option<u32> {
        if self.chains == 0 {
            return None;
        }
        let mask = self.chains.checked_next_power_of_two().map_or(NONE, |chains| chains - 1);
        let chain = hash as u32 & mask;
        Some(if chain < self.chains { chain } else { chain & (mask >> 1) })
    }

    #[inline]
    fn head(&self, chain: u32) -> u32 {
        let chain = chain as usize;
        let page = self.heads.page(&self.pages, chain / HEADS_PER_PAGE);
        self.pages.get(page, HEADS).map_or(NONE, |page| u32_at(page, chain % HEADS_PER_PAGE * 4))
    }

    fn set_head(&mut self, chain: u32, cell: u32) {
        let chain = chain as usize;
        let page = self.heads.page(&self.pages, chain / HEADS_PER_PAGE);
        if let Some(page) = self.pages.get_mut(page, HEADS) {
            put_u32(page, chain % HEADS_PER_PAGE * 4, cell);
        }
    }

    #[inline]
    fn cell(&self, cell: u32) -> Option<(&Page, usize)> {
        let cell = cell as usize;
        let page = self.cells.page(&self.pages, cell / CELLS_PER_PAGE);
        Some((self.pages.get(page, CELLS)?, cell % CELLS_PER_PAGE * CELL_BYTES))
    }

    fn cell_mut(&mut self, cell: u32) -> Option<(&mut Page, usize)> {
        let cell = cell as usize;
        let page = self.cells.page(&self.pages, cell / CELLS_PER_PAGE);
        Some((self.pages.get_mut(page, CELLS)?, cell % CELLS_PER_PAGE * CELL_BYTES))
    }

    fn set_next(&mut self, cell: u32, next: u32) {
        if let Some((page, offset)) = self.cell_mut(cell) {
            put_u32(page, offset + NEXT, next);
        }
    }

    /// Makes `to` follow `before` in a chain, or begin it.
    fn link(&mut self, chain: u32, before: u32, to: u32) {
        if before == NONE {
            self.set_head(chain, to);
        } else {
            self.set_next(before, to);
        }
    }

    /// The longest chain, by a walk over all: for tests.
    #[cfg(test)]
    pub(super) fn longest_chain(&self) -> usize {
        let length = |chain| {
            let mut at = self.head(chain);
            let mut cells = 0;
            while at != NONE {
                let (page, offset) = self.cell(at).expect("a cell");
                at = u32_at(page, offset + NEXT);
                cells += 1;
            }
            cells
        };
        (0..self.chains).map(length).max().unwrap_or(0)
    }
}

/// The chain that a chain is split from: itself without its highest bit. The first has none.
fn parent(chain: u32) -> Option<u32> {
    Some(chain & !(1 << chain.checked_ilog2()?))
}

#[inline]
fn holds(page: &Page, offset: usize, key: &Key) -> bool {
    u64_at(page, offset) == key.a && u64_at(page, offset + 8) == key.b && page[offset + KIND] == key.kind
}

fn key_at(page: &Page, offset: usize) -> Key {
    Key { kind: page[offset + KIND], a: u64_at(page, offset), b: u64_at(page, offset + 8) }
}
