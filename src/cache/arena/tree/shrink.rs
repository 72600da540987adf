//! Entries that go or shrink. Nothing here needs a page.

use super::body::Held;
use super::items::WINDOW_MAX;
use super::key::Raw;
use super::leaf::{self, LEAF, Leaf};
use super::node::{self, CHILDREN_MAX, NODE, Node};
use super::spread::{Aim, JOINED_MAX};
use super::{Path, Tree};
use crate::cache::arena::region::{NO_PAGE, PAGE_BYTES, PageId};

/// A leaf looks for leaves to join with when its bytes fall below a multiple of this.
const STEP_BYTES: usize = PAGE_BYTES / 8;
/// A node with fewer children looks for nodes to join with.
const CHILDREN_FEW: usize = CHILDREN_MAX / 2;

impl Tree {
    /// Takes an entry out and says what it was.
    pub(super) fn remove_raw(&mut self, key: Raw) -> Option<Held> {
        let (path, number) = self.descend(key)?;
        let page = self.pages.get_mut(number, LEAF)?;
        let leaf = Leaf::open(page)?;
        let at = leaf.search(key).ok()?;
        let (before, last, old) = (leaf.live(), leaf.count() == 1, leaf.body(at)?.held());
        leaf::remove(page, at);
        let after = if last { 0 } else { Leaf::open(page).map_or(0, |leaf| leaf.live()) };
        self.note_live(before, after);
        if !last {
            self.shrunk(key, &path, before, after);
            return Some(old);
        }
        self.give_page(number, LEAF);
        match path.steps().last() {
            None => self.root = NO_PAGE,
            Some(&(parent, index)) => {
                node::remove(self.pages.get_mut(parent, NODE)?, index, 1);
                self.tidy_node(&path, path.levels - 1);
                // Others stand side by side now.
                self.join_around(key);
            }
        }
        Some(old)
    }

    /// Joins a leaf with its neighbours when it has become smaller than it was by a step.
    #[inline]
    pub(super) fn shrunk(&mut self, key: Raw, path: &Path, before: usize, after: usize) {
        if after / STEP_BYTES < before / STEP_BYTES
            && after < JOINED_MAX
            && path.levels > 0
            && self.join(path)
        {
            self.join_around(key);
        }
    }

    /// Joins what now stands next to each other around `key`. Each turn gives a page back.
    fn join_around(&mut self, key: Raw) {
        for _ in 0..WINDOW_MAX {
            let Some((path, _)) = self.descend(key) else { return };
            if !self.join(&path) {
                return;
            }
        }
    }

    /// Looks for the fewest leaves around the one of `path` that fit into one page less.
    #[inline(never)]
    fn join(&mut self, path: &Path) -> bool {
        const AROUND: usize = WINDOW_MAX - 1;
        let Some(&(_, index)) = path.steps().last() else { return false };
        let base = index.saturating_sub(AROUND);
        let mut used = [None; 2 * AROUND + 1];
        for (at, used) in used.iter_mut().enumerate().take(index + AROUND + 1 - base) {
            *used = self.neighbour(path, base + at).and_then(|page| self.used(page));
        }
        for count in 2..=WINDOW_MAX {
            let windows = (index + 1).saturating_sub(count).max(base)..=index;
            let sum = |first: usize| {
                used.get(first - base..first - base + count)?.iter().copied().sum::<Option<usize>>()
            };
            let best = windows.filter_map(|first| Some((sum(first)?, first))).min();
            if let Some((bytes, first)) = best
                && bytes <= (count - 1) * JOINED_MAX
                && self.spread_some(count, path, first, None, Aim::Fewer) == Ok(true)
            {
                return true;
            }
        }
        false
    }

    /// Looks after a node that has lost children: an empty one goes, a sparse one is joined, a root with a single
    /// child gives way to that.
    pub(super) fn tidy_node(&mut self, path: &Path, level: usize) {
        let (number, _) = path.steps[level];
        let Some(count) = self.children(number) else { return };
        if level == 0 {
            if count == 0 {
                self.give_page(number, NODE);
                (self.root, self.levels) = (NO_PAGE, 0);
            }
            while self.levels > 0 && self.children(self.root) == Some(1) {
                let root = self.root;
                let child = self.pages.get(root, NODE).and_then(Node::open).and_then(|node| node.child(0));
                let Some(child) = child else { return };
                self.give_page(root, NODE);
                self.root = child;
                self.levels -= 1;
            }
            return;
        }
        let (parent, index) = path.steps[level - 1];
        if count == 0 {
            self.give_page(number, NODE);
            if let Some(parent) = self.pages.get_mut(parent, NODE) {
                node::remove(parent, index, 1);
            }
            self.tidy_node(path, level - 1);
        } else if count < CHILDREN_FEW && self.join_nodes(parent, index) {
            self.tidy_node(path, level - 1);
        }
    }

    fn children(&self, node: PageId) -> Option<usize> {
        Some(Node::open(self.pages.get(node, NODE)?)?.count())
    }

    /// Joins a node with a neighbour, or with both into two, when that leaves a tenth free.
    fn join_nodes(&mut self, parent: PageId, index: usize) -> bool {
        for (before, count) in [(1, 2), (0, 2), (1, 3)] {
            let Some(first) = index.checked_sub(before) else { continue };
            if let Some(true) = self.join_some_nodes(parent, first, count) {
                return true;
            }
        }
        false
    }

    /// Deals the records of `count` (2 or 3) nodes out to one node less.
    fn join_some_nodes(&mut self, parent: PageId, first: usize, count: usize) -> Option<bool> {
        let mut rows = [0; 3 * CHILDREN_MAX * node::RECORD];
        let mut end = 0;
        for at in first..first + count {
            let above = Node::open(self.pages.get(parent, NODE)?)?;
            let records = Node::open(self.pages.get(above.child(at)?, NODE)?)?.records();
            let row = &mut rows[end..end + records.len()];
            row.copy_from_slice(records);
            // The first separator counts as below everything only where it stands; between others it is the parent's.
            if let Some(row) = row.first_chunk_mut::<{ node::RECORD }>() {
                let child = u32::from_le_bytes(*row.last_chunk()?);
                *row = node::record(above.key(at), child);
            }
            end += records.len();
        }
        let children = end / node::RECORD;
        if children * 10 > (count - 1) * CHILDREN_MAX * 9 {
            return Some(false);
        }
        let share = children.div_ceil(count - 1) * node::RECORD;
        for number in 0..count - 1 {
            let row = &rows[(number * share).min(end)..((number + 1) * share).min(end)];
            let child = Node::open(self.pages.get(parent, NODE)?)?.child(first + number)?;
            node::fill(self.pages.get_mut(child, NODE)?, row);
            if number > 0 {
                node::set_key(self.pages.get_mut(parent, NODE)?, first + number, Raw::read(row, 0));
            }
        }
        let gone = Node::open(self.pages.get(parent, NODE)?)?.child(first + count - 1)?;
        node::remove(self.pages.get_mut(parent, NODE)?, first + count - 1, 1);
        self.give_page(gone, NODE);
        Some(true)
    }
}
