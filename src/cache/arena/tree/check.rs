//! Walks a whole tree and holds it to everything that should be true of it.

use super::items::WINDOW_MAX;
use super::key::{KEY_BYTES, Raw};
use super::leaf::{HEAD, LEAF, Leaf};
use super::node::{NODE, Node};
use super::{RESERVED_KIND, Tree, TreeUsage};
use crate::cache::arena::PAGE_BYTES;
use crate::cache::arena::region::PageId;

#[derive(Default)]
struct Seen {
    usage: TreeUsage,
    pages: Vec<PageId>,
    last: Option<Raw>,
    pieces: u64,
    pieces_expected: u64,
}

impl Tree {
    /// Panics when something is wrong.
    pub(in crate::cache::arena) fn check(&self) {
        let mut seen = Seen::default();
        if self.usage.leaf_pages > 0 {
            self.walk(self.root, self.levels, Raw::MIN, None, &mut seen);
        }
        assert_eq!(seen.usage, self.usage);
        assert_eq!(seen.pieces, seen.pieces_expected, "pieces of long values");
        assert_eq!(seen.pages.len() as u32, self.pages.owned(), "pages that nobody reaches");
        seen.pages.sort_unstable();
        assert!(seen.pages.windows(2).all(|two| two[0] != two[1]), "a page has two parents");
    }

    fn walk(&self, page: PageId, levels: usize, from: Raw, to: Option<Raw>, seen: &mut Seen) {
        seen.pages.push(page);
        if levels > 0 {
            seen.usage.node_pages += 1;
            let node = Node::open(self.pages.get(page, NODE).expect("a node")).expect("sound");
            assert!(
                node.count() > usize::from(levels == self.levels),
                "a root with one child, or an empty node"
            );
            for at in 0..node.count() {
                let from = if at == 0 { from } else { node.key(at) };
                let to = if at + 1 < node.count() { Some(node.key(at + 1)) } else { to };
                assert!(to.is_none_or(|to| from < to), "separators are in order");
                self.walk(node.child(at).expect("a child"), levels - 1, from, to, seen);
            }
            return;
        }
        seen.usage.leaf_pages += 1;
        let leaf = Leaf::open(self.pages.get(page, LEAF).expect("a leaf")).expect("sound");
        assert!(leaf.count() > 0, "an empty leaf");
        let mut bodies = 0;
        for at in 0..leaf.count() {
            let key = leaf.key(at);
            assert!(seen.last.is_none_or(|last| last < key), "keys are in order");
            assert!(from <= key && to.is_none_or(|to| key < to), "a key between its separators");
            assert_eq!(leaf.search(key), Ok(at));
            seen.last = Some(key);
            let body = leaf.body(at).expect("a body");
            bodies += body.size();
            if key.kind == RESERVED_KIND {
                seen.pieces += 1;
            } else {
                seen.usage.entries += 1;
                seen.usage.value_bytes += body.len() as u64;
                if body.held().long.is_some() {
                    seen.pieces_expected += body.len().div_ceil(super::body::INLINE_MAX) as u64;
                }
            }
        }
        assert_eq!(leaf.live(), bodies + leaf.count() * (KEY_BYTES - leaf.prefix() + 2), "dead bytes");
        seen.usage.live_bytes += leaf.live() as u64;
    }

    /// Live bytes and pages of the sparsest run of [`WINDOW_MAX`] leaves under one parent, as a share of their pages.
    pub(in crate::cache::arena) fn sparsest(&self) -> f64 {
        let mut worst = 1.0;
        self.sparsest_below(self.root, self.levels, &mut worst);
        worst
    }

    fn sparsest_below(&self, page: PageId, levels: usize, worst: &mut f64) {
        let Some(node) = self.pages.get(page, NODE).and_then(Node::open).filter(|_| levels > 0) else {
            return;
        };
        let children: Vec<_> = (0..node.count()).filter_map(|at| node.child(at)).collect();
        if levels > 1 {
            children.iter().for_each(|&child| self.sparsest_below(child, levels - 1, worst));
            return;
        }
        let used: Vec<_> = children.iter().filter_map(|&child| self.used(child)).collect();
        for window in used.windows(WINDOW_MAX) {
            let live: usize = window.iter().map(|used| used - HEAD).sum();
            *worst = worst.min(live as f64 / (WINDOW_MAX * PAGE_BYTES) as f64);
        }
    }

    /// All pages, for tests that damage them.
    pub(in crate::cache::arena) fn pages_mut(&mut self) -> &mut crate::cache::arena::Pages {
        &mut self.pages
    }
}
