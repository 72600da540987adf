//! Leaves that stand side by side under one parent get their entries dealt out anew: the one way in which leaves are
//! rebuilt, split, evened out and joined.
//!
//! Nothing is written before it is certain that all of it can be: the leaves are copied to the stack, the cuts are
//! found, the pages that may be needed are taken; then everything is written.

use super::items::{Cuts, Items, Pending};
use super::key::Raw;
use super::leaf::{self, LEAF, Leaf};
use super::node::{self, NODE, Node};
use super::{LEVELS_MAX, Path, Tree};
use crate::cache::arena::Full;
use crate::cache::arena::region::{NO_PAGE, PAGE_BYTES, PageId};

/// Room that leaves should have after they were dealt out, so that it is not done again at once.
pub(super) const SLACK_BYTES: usize = PAGE_BYTES / 16;
/// How full leaves may be that were joined, for the same reason.
pub(super) const JOINED_MAX: usize = PAGE_BYTES / 8 * 7;

/// What leaves are dealt out for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Aim {
    /// Into no more pages than they have, each of so many bytes at most.
    Keep(usize),
    /// The same, or into a page more.
    Grow,
    /// Into fewer pages.
    Fewer,
    /// One leaf into two, cut where a run goes on.
    Run,
    /// Two leaves as they are, the entry that is to come in front of the second.
    Over,
}

/// Pages that were taken before anything is changed.
pub(super) struct Spare {
    leaf: PageId,
    nodes: [PageId; LEVELS_MAX + 1],
    count: usize,
}

impl Spare {
    pub(super) fn node(&mut self) -> Option<PageId> {
        self.count = self.count.checked_sub(1)?;
        Some(self.nodes[self.count])
    }
}

impl Tree {
    /// The leaf at `index` next to the one that `path` leads to.
    pub(super) fn neighbour(&self, path: &Path, index: usize) -> Option<PageId> {
        match path.steps().last() {
            None => Some(self.root),
            Some(&(parent, _)) => Node::open(self.pages.get(parent, NODE)?)?.child(index),
        }
    }

    /// Bytes of a leaf's page that are needed.
    pub(super) fn used(&self, page: PageId) -> Option<usize> {
        Some(leaf::HEAD + Leaf::open(self.pages.get(page, LEAF)?)?.live())
    }

    /// [`spread`](Tree::spread) for `count` leaves.
    pub(super) fn spread_some(
        &mut self,
        count: usize,
        path: &Path,
        first: usize,
        pending: Option<Pending<'_>>,
        aim: Aim,
    ) -> Result<bool, Full> {
        match count {
            1 => self.spread::<1>(path, first, pending, aim),
            2 => self.spread::<2>(path, first, pending, aim),
            3 => self.spread::<3>(path, first, pending, aim),
            4 => self.spread::<4>(path, first, pending, aim),
            _ => self.spread::<5>(path, first, pending, aim),
        }
    }

    /// Deals out the leaves `first..first + K` of the parent that `path` ends at, with `pending` among them. False when
    /// the aim cannot be reached; then nothing has changed, as on `Full`.
    #[inline(never)]
    pub(super) fn spread<const K: usize>(
        &mut self,
        path: &Path,
        first: usize,
        pending: Option<Pending<'_>>,
        aim: Aim,
    ) -> Result<bool, Full> {
        let mut pages = [NO_PAGE; K];
        let mut copies = [[0; PAGE_BYTES]; K];
        for (number, (page, copy)) in pages.iter_mut().zip(&mut copies).enumerate() {
            *page = self.neighbour(path, first + number).ok_or(Full)?;
            *copy = *self.pages.get(*page, LEAF).ok_or(Full)?;
        }
        let mut leaves = [Leaf::open(&copies[0]).ok_or(Full)?; K];
        for (leaf, copy) in leaves.iter_mut().zip(&copies) {
            *leaf = Leaf::open(copy).ok_or(Full)?;
        }
        let mut sums = [[0; Items::SUMS]; K];
        let items = Items::new(&leaves, pending, sums.as_flattened_mut()).ok_or(Full)?;
        let Some(mut cuts) = choose::<K>(&items, aim) else { return Ok(false) };
        let mut spare = None;
        if cuts.pages > K {
            match self.reserve(path) {
                Ok(taken) => spare = Some(taken),
                Err(Full) if aim == Aim::Grow => cuts = items.cuts(K, PAGE_BYTES).ok_or(Full)?,
                Err(Full) => return Err(Full),
            }
        }
        let streak = pending.map_or(0, |pending| leaf::streak_with(&copies[pending.leaf], &pending));
        let (before, mut after) = (leaves.iter().map(Leaf::live).sum(), 0);
        for number in 0..cuts.pages {
            let range = cuts.of(number);
            let page = pages.get(number).copied().or(spare.as_ref().map(|spare| spare.leaf)).ok_or(Full)?;
            let page = self.pages.get_mut(page, LEAF).ok_or(Full)?;
            items.write(range.clone(), page);
            if let Some(place) = items.place().filter(|place| range.contains(place)) {
                leaf::set_run(page, place - range.start, streak);
            }
            after += Leaf::open(page).map_or(0, |leaf| leaf.live());
        }
        self.note_live(before, after);
        let Some(&(parent, _)) = path.steps().last() else {
            if let Some(spare) = &mut spare {
                self.adopt(path, 1, items.key(cuts.of(1).start), spare);
            }
            return Ok(true);
        };
        let node = self.pages.get_mut(parent, NODE).ok_or(Full)?;
        for number in 1..cuts.pages.min(K) {
            node::set_key(node, first + number, items.key(cuts.of(number).start));
        }
        if let Some(spare) = &mut spare {
            self.adopt(path, first + K, items.key(cuts.of(K).start), spare);
        } else if cuts.pages < K {
            node::remove(node, first + cuts.pages, K - cuts.pages);
            pages[cuts.pages..].iter().for_each(|&page| self.give_page(page, LEAF));
            self.tidy_node(path, path.levels - 1);
        }
        Ok(true)
    }

    /// Takes a leaf and as many nodes as will be split above it.
    fn reserve(&mut self, path: &Path) -> Result<Spare, Full> {
        let full = |&&(node, _): &&(PageId, usize)| {
            let node = self.pages.get(node, NODE).and_then(Node::open);
            node.is_none_or(|node| node.count() == node::CHILDREN_MAX)
        };
        let splits = path.steps().iter().rev().take_while(full).count();
        let nodes = splits + usize::from(splits == path.levels);
        if splits == path.levels && path.levels == LEVELS_MAX {
            return Err(Full);
        }
        let mut spare = Spare { leaf: self.take_page(LEAF)?, nodes: [NO_PAGE; LEVELS_MAX + 1], count: 0 };
        while spare.count < nodes {
            let Ok(page) = self.take_page(NODE) else {
                while let Some(node) = spare.node() {
                    self.give_page(node, NODE);
                }
                self.give_page(spare.leaf, LEAF);
                return Err(Full);
            };
            spare.nodes[spare.count] = page;
            spare.count += 1;
        }
        Ok(spare)
    }

    /// Makes the spare leaf a child at `index` of the lowest node of `path`, and splits nodes that are full.
    fn adopt(&mut self, path: &Path, index: usize, key: Raw, spare: &mut Spare) {
        let (mut index, mut key, mut child) = (index, key, spare.leaf);
        for level in (0..path.levels).rev() {
            let (page, _) = path.steps[level];
            let Some(node) = self.pages.get_mut(page, NODE) else { return };
            if node::insert(node, index, key, child) {
                return;
            }
            let Some(new) = spare.node() else { return };
            key = self.split_node(page, new, index, node::record(key, child));
            child = new;
            index = if level == 0 { 0 } else { path.steps[level - 1].1 + 1 };
        }
        let Some(root) = spare.node() else { return };
        let Some(page) = self.pages.get_mut(root, NODE) else { return };
        node::fill(page, [node::record(Raw::MIN, self.root), node::record(key, child)].as_flattened());
        self.root = root;
        self.levels += 1;
    }

    /// Divides a full node and one record more between it and the empty `right`, whose first key it says.
    fn split_node(&mut self, left: PageId, right: PageId, index: usize, more: [u8; node::RECORD]) -> Raw {
        let mut rows = [0; (node::CHILDREN_MAX + 1) * node::RECORD];
        let Some(node) = self.pages.get(left, NODE).and_then(Node::open) else { return Raw::MIN };
        let (records, at) = (node.records(), index * node::RECORD);
        rows[..at].copy_from_slice(&records[..at]);
        rows[at..at + node::RECORD].copy_from_slice(&more);
        rows[at + node::RECORD..].copy_from_slice(&records[at..]);
        // Whoever comes last comes again: an ascending run leaves nodes behind that are nearly full.
        let last = index == node::CHILDREN_MAX;
        let cut = if last { node::CHILDREN_MAX / 16 * 15 } else { node::CHILDREN_MAX / 2 } * node::RECORD;
        if let Some(page) = self.pages.get_mut(left, NODE) {
            node::fill(page, &rows[..cut]);
        }
        if let Some(page) = self.pages.get_mut(right, NODE) {
            node::fill(page, &rows[cut..]);
        }
        Raw::read(&rows, cut)
    }
}

fn choose<const K: usize>(items: &Items<'_>, aim: Aim) -> Option<Cuts> {
    match aim {
        Aim::Keep(limit) => items.cuts(K, limit),
        Aim::Grow => items.cuts(K, PAGE_BYTES - SLACK_BYTES).or_else(|| items.cuts(K + 1, PAGE_BYTES)),
        Aim::Fewer => items.cuts(K - 1, JOINED_MAX),
        Aim::Run => {
            // Everything up to the new entry, when that fits and leaves something over.
            let place = items.place()?;
            let with = place + 1;
            let fits = with < items.len() && items.cost(0, with) <= PAGE_BYTES;
            let cuts = Cuts::at(if fits { with } else { place }, items.len());
            all_fit(items, cuts)
        }
        Aim::Over => all_fit(items, Cuts::at(items.place()?, items.len())),
    }
}

fn all_fit(items: &Items<'_>, cuts: Cuts) -> Option<Cuts> {
    let fits = |page| {
        let range = cuts.of(page);
        !range.is_empty() && items.cost(range.start, range.end) <= PAGE_BYTES
    };
    (0..cuts.pages).all(fits).then_some(cuts)
}
