//! Entries in order. Leaves do not know each other: at the end of one the way to the next is searched from the root.

use super::body::Body;
use super::key::{Key, Raw};
use super::leaf::{LEAF, Leaf};
use super::node::{NODE, Node};
use super::{RESERVED_KIND, Tree};

/// The iterator of [`Tree::range`].
pub struct Range<'a> {
    tree: &'a Tree,
    leaf: Option<Leaf<'a>>,
    at: usize,
    /// Where the keys of the next leaf begin.
    next: Option<Raw>,
    to: Raw,
}

/// A value in its place.
#[derive(Clone, Copy)]
pub struct Value<'a> {
    tree: &'a Tree,
    body: Body<'a>,
}

impl<'a> Range<'a> {
    pub(super) fn new(tree: &'a Tree, from: Raw, to: Raw) -> Range<'a> {
        let last = Raw { kind: RESERVED_KIND - 1, low: u128::MAX };
        let mut range = Range { tree, leaf: None, at: 0, next: None, to: to.min(last) };
        if from <= range.to {
            range.seek(from);
        }
        range
    }

    /// Goes to the first entry of a leaf that is not below `from`.
    fn seek(&mut self, from: Raw) {
        (self.leaf, self.next) = (None, None);
        let mut page = self.tree.root;
        for _ in 0..self.tree.levels {
            let Some(node) = self.tree.pages.get(page, NODE).and_then(Node::open) else { return };
            let at = node.find(from);
            if at + 1 < node.count() {
                self.next = Some(node.key(at + 1));
            }
            let Some(child) = node.child(at) else { return };
            page = child;
        }
        self.leaf = self.tree.pages.get(page, LEAF).and_then(Leaf::open);
        self.at = self.leaf.map_or(0, |leaf| leaf.search(from).unwrap_or_else(|at| at));
        // A separator that does not lead on is damaged.
        self.next = self.next.filter(|&next| next > from);
    }
}

impl<'a> Iterator for Range<'a> {
    type Item = (Key, Value<'a>);

    #[inline]
    fn next(&mut self) -> Option<(Key, Value<'a>)> {
        loop {
            let leaf = self.leaf?;
            if self.at < leaf.count() {
                let key = leaf.key(self.at);
                if key > self.to {
                    self.leaf = None;
                    return None;
                }
                let body = leaf.body(self.at)?;
                self.at += 1;
                return Some((key.into(), Value { tree: self.tree, body }));
            }
            match self.next.filter(|&next| next <= self.to) {
                Some(next) => self.seek(next),
                None => self.leaf = None,
            }
        }
    }
}

impl<'a> Value<'a> {
    /// How long it is.
    pub fn len(&self) -> usize {
        self.body.len()
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Its bytes, when they are one piece.
    #[inline]
    pub fn as_slice(&self) -> Option<&'a [u8]> {
        match self.body {
            Body::Inline(value) => Some(value),
            Body::Long { .. } => None,
        }
    }

    /// Puts its bytes at the end of `out`.
    pub fn read_into(&self, out: &mut Vec<u8>) {
        match self.body {
            Body::Inline(value) => out.extend_from_slice(value),
            Body::Long { serial, total } => {
                let start = out.len();
                if self.tree.read_pieces(serial, total, out).is_none() {
                    out.truncate(start);
                }
            }
        }
    }
}
