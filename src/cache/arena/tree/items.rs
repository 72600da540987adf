//! The entries of a few neighbouring leaves and one that is to come, as one row: where to cut it into pages, and how
//! to write them.

use super::body::Body;
use super::key::{KEY_BYTES, Raw};
use super::leaf::{self, COUNT_MAX, HEAD, Leaf, RECORD_MAX};
use crate::cache::arena::region::{PAGE_BYTES, Page};

/// The most leaves that are looked at together.
pub(super) const WINDOW_MAX: usize = 5;

/// How near to the best the evenness of cuts must be.
const EVEN_BYTES: usize = PAGE_BYTES / 64;

/// An entry that is to be in the row: instead of entry `at` of leaf `leaf`, or before it.
#[derive(Clone, Copy)]
pub(super) struct Pending<'a> {
    pub(super) leaf: usize,
    pub(super) at: usize,
    pub(super) replaces: bool,
    pub(super) key: Raw,
    pub(super) body: Body<'a>,
}

/// Where pages end in the row.
#[derive(Clone, Copy, Default)]
pub(super) struct Cuts {
    ends: [usize; WINDOW_MAX + 1],
    pub(super) pages: usize,
}

impl Cuts {
    /// Two pages, or one when that holds everything.
    pub(super) fn at(first: usize, len: usize) -> Cuts {
        let mut cuts = Cuts::default();
        cuts.ends[0] = first;
        cuts.ends[1] = len;
        cuts.pages = if first == len { 1 } else { 2 };
        cuts
    }

    /// The entries of page `page`.
    pub(super) fn of(&self, page: usize) -> std::ops::Range<usize> {
        (if page == 0 { 0 } else { self.ends[page - 1] })..self.ends[page]
    }
}

/// The row.
pub(super) struct Items<'a> {
    leaves: &'a [Leaf<'a>],
    /// Its place in the row.
    pending: Option<(usize, Pending<'a>)>,
    /// `sums[i]`: bytes of all bodies before entry `i`.
    sums: &'a [u32],
}

impl<'a> Items<'a> {
    /// Room that [`new`](Items::new) needs for the sums of a leaf.
    pub(super) const SUMS: usize = COUNT_MAX + 2;

    /// `None` when a leaf is damaged.
    pub(super) fn new(
        leaves: &'a [Leaf<'a>],
        pending: Option<Pending<'a>>,
        sums: &'a mut [u32],
    ) -> Option<Items<'a>> {
        let (mut len, mut sum, mut place) = (0, 0, None);
        let mut note = |size: usize, len: &mut usize| {
            sum += size as u32;
            *len += 1;
            *sums.get_mut(*len)? = sum;
            Some(())
        };
        for (number, leaf) in leaves.iter().enumerate() {
            let pending = pending.filter(|pending| pending.leaf == number);
            for at in 0..=leaf.count() {
                let mut gone = false;
                if let Some(pending) = pending.filter(|pending| pending.at == at) {
                    place = Some((len, pending));
                    gone = pending.replaces;
                    note(pending.body.size(), &mut len)?;
                }
                if at < leaf.count() && !gone {
                    note(leaf.body(at)?.size(), &mut len)?;
                }
            }
        }
        let sums: &'a [u32] = sums;
        Some(Items { leaves, pending: place, sums: sums.get(..=len)? })
    }

    pub(super) fn len(&self) -> usize {
        self.sums.len() - 1
    }

    /// Where the pending entry is.
    pub(super) fn place(&self) -> Option<usize> {
        self.pending.map(|(place, _)| place)
    }

    /// The leaf and the place in it of an entry; `None` for the pending one.
    #[inline]
    fn source(&self, item: usize) -> Option<(&Leaf<'a>, usize)> {
        let mut at = item;
        if let Some((place, pending)) = self.pending {
            if item == place {
                return None;
            }
            if item > place && !pending.replaces {
                at -= 1;
            }
        }
        for leaf in self.leaves {
            if at < leaf.count() {
                return Some((leaf, at));
            }
            at -= leaf.count();
        }
        None
    }

    /// The key of entry `item < len`.
    #[inline]
    pub(super) fn key(&self, item: usize) -> Raw {
        match (self.source(item), self.pending) {
            (Some((leaf, at)), _) => leaf.key(at),
            (None, Some((_, pending))) => pending.key,
            (None, None) => Raw::MIN,
        }
    }

    #[inline]
    fn prefix(&self, first: usize, end: usize) -> usize {
        // A single entry keeps a byte, so that a leaf's room for further ones is not misjudged.
        self.key(first).common(self.key(end - 1)).min(KEY_BYTES - 1)
    }

    /// Bytes of a page that has the entries `first..end`.
    #[inline]
    pub(super) fn cost(&self, first: usize, end: usize) -> usize {
        let width = RECORD_MAX - self.prefix(first, end);
        HEAD + (end - first) * width + (self.sums[end] - self.sums[first]) as usize
    }

    /// The end of the longest page from `first` on that costs no more than `limit`.
    fn reach(&self, first: usize, limit: usize) -> usize {
        let (mut low, mut high) = (first, self.len());
        while low < high {
            let middle = (low + high).div_ceil(2);
            if self.cost(first, middle) <= limit && middle - first <= COUNT_MAX {
                low = middle;
            } else {
                high = middle - 1;
            }
        }
        low
    }

    fn greedy(&self, pages: usize, limit: usize) -> Option<Cuts> {
        let mut cuts = Cuts::default();
        let mut first = 0;
        while first < self.len() {
            let end = self.reach(first, limit);
            if end == first || cuts.pages == pages {
                return None;
            }
            cuts.ends[cuts.pages] = end;
            cuts.pages += 1;
            first = end;
        }
        Some(cuts)
    }

    /// Cuts into at most `pages` pages of at most `limit` bytes, as even as may be.
    pub(super) fn cuts(&self, pages: usize, limit: usize) -> Option<Cuts> {
        let mut best = self.greedy(pages, limit)?;
        if pages > 1 {
            let bodies = self.sums.last().map_or(0, |&sum| sum as usize);
            let (mut low, mut high) = ((bodies / pages).min(limit), limit);
            while high - low > EVEN_BYTES {
                let middle = (low + high) / 2;
                match self.greedy(pages, middle) {
                    Some(cuts) => (best, high) = (cuts, middle),
                    None => low = middle,
                }
            }
        }
        Some(best)
    }

    /// Writes the entries of `range` as a whole page; nothing for an empty one, which no caller asks for.
    pub(super) fn write(&self, range: std::ops::Range<usize>, page: &mut Page) {
        if range.is_empty() {
            return;
        }
        let prefix = self.prefix(range.start, range.end);
        leaf::create(page, prefix, self.key(range.start));
        let (mut count, mut heap) = (0, PAGE_BYTES);
        for item in range {
            let (key, body) = match (self.source(item), self.pending) {
                (Some((leaf, at)), _) => (leaf.key(at), leaf.body(at)),
                (None, Some((_, pending))) => (pending.key, Some(pending.body)),
                (None, None) => return,
            };
            // A cut that fits makes room for all of them.
            let Some(start) = body.and_then(|body| leaf::push(page, count, heap, prefix, key, body)) else {
                break;
            };
            (count, heap) = (count + 1, start);
        }
        leaf::finish(page, count, heap);
    }
}
