//! An ordered map from keys of 17 bytes to values of up to 16 MiB: a B+tree on the pages of one owner.
//!
//! What enters: keys, bytes. What leaves: bytes, borrowed from a page where they are one piece; keys in order.
//! What never happens: an allocation (but in a caller's scratch), work that grows with the number of entries, a page
//! without entries, a change after which "full" is answered.
//!
//! ```text
//! node.rs    separator -> child                          levels of inner nodes, fixed records
//!   leaf.rs  prefix | records: rest of key, offset | bodies
//!     body.rs  a value, or where its pieces are: entries of the reserved kind 0xff
//! ```
//!
//! Cost of an entry: 3 bytes (4 from 128 bytes of value on) and the bytes of its key that the keys of its page do not
//! all begin with.
//!
//! Fullness (grow.rs, shrink.rs): a leaf without room shares what it has with up to four neighbours before a page is
//! added among them ([`WINDOW_MAX`](items::WINDOW_MAX) in all), and leaves a sixteenth of each page free, as dealing out
//! costs some microseconds; so random insertion leaves almost 0.9 of a page in use, and runs (ascending or descending)
//! leave full pages behind. A leaf that shrinks past an eighth of a page looks whether any 2 to 5 neighbours around it
//! fit into one page less, each at most 7/8 full.
//!
//! Bound: of any five leaves side by side under one parent the mean share in use is above 7/8 * 4/5 - 1/8 = 0.57, so
//! pages have less than 1.75 times the bytes that entries need (and the nodes, 0.3 %). An entry of a share `e` of a page
//! can leave as much over at the end of each page, and so can keys whose common prefix ends where leaves would be
//! joined: the bound is then 0.57 - 4/5 `e`. A parent with fewer than five leaves is held to fewer, and where two nodes
//! were joined leaves meet that have not looked yet. Churn in the tests stays below 1.4.
//!
//! Depth: at most [`LEVELS_MAX`] inner levels. A node is split when full and joined below half, so nodes have more
//! than an eighth of [`CHILDREN_MAX`](node::CHILDREN_MAX) children in the mean, at least 24: all 2^24 pages that a
//! region may have are reached with 6 levels.
//!
//! Damaged pages give wrong answers, `None` or [`Full`], but neither a panic nor an endless loop: every page is
//! checked against its owner, every offset against its page, and a descent has as many steps as there are levels.

mod body;
mod grow;
mod items;
mod key;
mod leaf;
mod long;
mod node;
mod range;
mod restore;
mod shrink;
mod spread;

#[cfg(test)]
mod check;

use std::sync::Arc;

use super::Full;
use super::pages::Pages;
use super::region::{NO_PAGE, PAGE_BYTES, PageId, Region};
use body::{Body, Held};
use key::Raw;
use leaf::{LEAF, Leaf};
use node::{NODE, Node};

#[cfg(test)]
pub(super) use body::INLINE_MAX;
pub use body::VALUE_BYTES_MAX;
pub use key::Key;
pub use range::{Range, Value};
pub use restore::{Damage, Root, restore};

/// The most inner levels.
pub(super) const LEVELS_MAX: usize = 8;

/// The kind of keys under which the tree keeps pieces of long values. No other entry may have it.
pub const RESERVED_KIND: u8 = 0xff;

/// The map; see the head of this file.
pub struct Tree {
    pages: Pages,
    /// A leaf when there are no levels; [`NO_PAGE`] while the tree is empty.
    root: PageId,
    levels: usize,
    /// The number of the last long value.
    serial: u64,
    usage: TreeUsage,
}

/// What a tree holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TreeUsage {
    /// Entries.
    pub entries: u64,
    /// Bytes of their values, as given.
    pub value_bytes: u64,
    /// Pages of entries.
    pub leaf_pages: u32,
    /// Pages that lead to them.
    pub node_pages: u32,
    /// Bytes of leaves that entries need, keys and pieces included.
    pub live_bytes: u64,
}

impl TreeUsage {
    /// Bytes of its pages.
    pub fn page_bytes(&self) -> u64 {
        (u64::from(self.leaf_pages) + u64::from(self.node_pages)) * PAGE_BYTES as u64
    }
}

/// The way from the root to a leaf: nodes, and which child was taken in each.
#[derive(Clone, Copy, Default)]
struct Path {
    steps: [(PageId, usize); LEVELS_MAX],
    levels: usize,
}

impl Path {
    fn steps(&self) -> &[(PageId, usize)] {
        &self.steps[..self.levels]
    }
}

impl Tree {
    /// A tree without pages yet.
    pub fn new(region: &Arc<Region>) -> Tree {
        Tree { pages: region.owner(), root: NO_PAGE, levels: 0, serial: 0, usage: TreeUsage::default() }
    }

    /// The value of `key`: borrowed when it is one piece, otherwise copied to `scratch`, whose contents go.
    #[inline]
    pub fn get<'a>(&'a self, key: Key, scratch: &'a mut Vec<u8>) -> Option<&'a [u8]> {
        match self.find(key.into())? {
            Body::Inline(value) => Some(value),
            Body::Long { serial, total } => {
                scratch.clear();
                self.read_pieces(serial, total, scratch)?;
                Some(scratch)
            }
        }
    }

    /// The value of `key` to be written over; `None` also when it is more than one piece.
    pub fn get_mut(&mut self, key: Key) -> Option<&mut [u8]> {
        let key = Raw::from(key);
        let page = self.leaf_of(key)?;
        let page = self.pages.get_mut(page, LEAF)?;
        let at = Leaf::open(page)?.search(key).ok()?;
        leaf::value_mut(page, at)
    }

    /// Whether `key` has a value.
    pub fn contains(&self, key: Key) -> bool {
        self.find(key.into()).is_some()
    }

    /// Gives `key` a value and says whether it replaced one.
    ///
    /// # Errors
    /// [`Full`] when no page is free, or when the value is longer than [`VALUE_BYTES_MAX`]; then every entry is as
    /// before.
    pub fn put(&mut self, key: Key, value: &[u8]) -> Result<bool, Full> {
        debug_assert!(key.kind != RESERVED_KIND, "the tree's own kind");
        if value.len() > VALUE_BYTES_MAX || key.kind == RESERVED_KIND {
            return Err(Full);
        }
        let old = if value.len() <= body::INLINE_MAX {
            self.put_raw(key.into(), Body::Inline(value))?
        } else {
            self.put_long(key.into(), value)?
        };
        self.usage.value_bytes = self.usage.value_bytes.wrapping_add(value.len() as u64);
        match old {
            Some(old) => self.forget(old),
            None => self.usage.entries += 1,
        }
        Ok(old.is_some())
    }

    /// Ends an entry; false when there is none. Never needs a page.
    pub fn remove(&mut self, key: Key) -> bool {
        if key.kind == RESERVED_KIND {
            return false;
        }
        let Some(old) = self.remove_raw(key.into()) else { return false };
        self.usage.entries = self.usage.entries.saturating_sub(1);
        self.forget(old);
        true
    }

    /// The smallest key in `from..=to`.
    pub fn first(&self, from: Key, to: Key) -> Option<Key> {
        self.range(from, to).next().map(|(key, _)| key)
    }

    /// All entries with keys in `from..=to`, in order.
    pub fn range(&self, from: Key, to: Key) -> Range<'_> {
        Range::new(self, from.into(), to.into())
    }

    /// How many entries there are.
    pub fn len(&self) -> u64 {
        self.usage.entries
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.usage.entries == 0
    }

    /// What it holds.
    pub fn usage(&self) -> TreeUsage {
        self.usage
    }

    /// Ends all entries and gives all pages back.
    pub fn clear(&mut self) {
        self.give_back(self.root, self.levels);
        if self.pages.owned() != 0 {
            // Only after damage: what cannot be reached any more goes back with its owner.
            self.pages = self.pages.region().owner();
        }
        (self.root, self.levels, self.usage) = (NO_PAGE, 0, TreeUsage::default());
    }

    /// The region that its pages are of.
    pub fn region(&self) -> &Arc<Region> {
        self.pages.region()
    }

    /// Which leaf has the keys around `key`.
    #[inline]
    fn leaf_of(&self, key: Raw) -> Option<PageId> {
        let mut page = self.root;
        for _ in 0..self.levels {
            let node = Node::open(self.pages.get(page, NODE)?)?;
            page = node.child(node.find(key))?;
        }
        Some(page)
    }

    /// The same, with the way there.
    #[inline]
    fn descend(&self, key: Raw) -> Option<(Path, PageId)> {
        let mut path = Path { levels: self.levels, ..Path::default() };
        let mut page = self.root;
        for step in &mut path.steps[..self.levels] {
            let node = Node::open(self.pages.get(page, NODE)?)?;
            *step = (page, node.find(key));
            page = node.child(step.1)?;
        }
        Some((path, page))
    }

    #[inline]
    fn find(&self, key: Raw) -> Option<Body<'_>> {
        let leaf = Leaf::open(self.pages.get(self.leaf_of(key)?, LEAF)?)?;
        leaf.body(leaf.search(key).ok()?)
    }

    /// Gives a page back and all that it leads to, `levels` levels below.
    fn give_back(&mut self, page: PageId, levels: usize) {
        for at in 0..if levels == 0 { 0 } else { node::CHILDREN_MAX } {
            let node = self.pages.get(page, NODE).and_then(Node::open);
            let Some(child) = node.and_then(|node| node.child(at)) else { break };
            self.give_back(child, levels - 1);
        }
        self.pages.release(page);
    }

    /// Ends what a value that is no more still has.
    fn forget(&mut self, old: Held) {
        self.usage.value_bytes = self.usage.value_bytes.wrapping_sub(old.len as u64);
        if let Some(serial) = old.long {
            self.remove_pieces(serial, old.len);
        }
    }

    fn take_page(&mut self, kind: u8) -> Result<PageId, Full> {
        let page = self.pages.acquire(kind).ok_or(Full)?;
        let count = if kind == LEAF { &mut self.usage.leaf_pages } else { &mut self.usage.node_pages };
        *count += 1;
        Ok(page)
    }

    fn give_page(&mut self, page: PageId, kind: u8) {
        if self.pages.release(page) {
            let count = if kind == LEAF { &mut self.usage.leaf_pages } else { &mut self.usage.node_pages };
            *count = count.saturating_sub(1);
        }
    }

    /// Notes that leaves with `before` bytes in use now have `after`.
    fn note_live(&mut self, before: usize, after: usize) {
        self.usage.live_bytes = self.usage.live_bytes.wrapping_sub(before as u64).wrapping_add(after as u64);
    }
}
