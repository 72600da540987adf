//! Trees that an earlier process has left in a mapped file. Nothing there is trusted.
//!
//! Two steps. [`restore`] finds out whose each page is: it follows the nodes from every root and claims what they lead
//! to; trees that lead to one page are both lost, as nobody can tell whose it is. [`Tree::verify`] then reads one tree
//! from end to end and holds it to everything that is true of a tree that was built here; it ends, as each page was
//! claimed once.

use std::sync::Arc;

use super::body::{Body, INLINE_MAX};
use super::key::{KEY_BYTES, Key, Raw};
use super::leaf::{LEAF, Leaf};
use super::node::{NODE, Node};
use super::{LEVELS_MAX, RESERVED_KIND, Tree, TreeUsage, VALUE_BYTES_MAX};
use crate::cache::arena::block::Block;
use crate::cache::arena::region::{NO_PAGE, PageId, Region, Unshared};

/// What has to be known of a tree beside its pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Root {
    /// The uppermost page; [`Root::EMPTY`]'s stands for none.
    pub page: PageId,
    /// Levels of nodes above the leaves.
    pub levels: usize,
    /// The number of the last long value.
    pub serial: u64,
}

impl Root {
    /// Of a tree without entries.
    pub const EMPTY: Root = Root { page: NO_PAGE, levels: 0, serial: 0 };
    /// More long values than there ever are: what is beyond is damage.
    pub const SERIAL_MAX: u64 = 1 << 62;
}

/// Why a tree is not what this program leaves behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damage(pub &'static str);

/// A region over a block that trees were left in, and the trees, in the order of their roots. What is in them is still
/// to be verified.
pub fn restore(block: Block, roots: &[Root]) -> (Arc<Region>, Vec<Result<Tree, Damage>>) {
    let mut unshared = Unshared::new(block, roots.len() as u64);
    let mut faults: Vec<Option<Damage>> = vec![None; roots.len()];
    for (index, root) in roots.iter().enumerate() {
        let Err((damage, other)) = claim(&mut unshared, index as u64 + 1, *root) else { continue };
        faults[index] = Some(damage);
        if let Some(other) = (other as usize).checked_sub(1).and_then(|other| faults.get_mut(other)) {
            other.get_or_insert(damage);
        }
    }
    let lost = |owner: u64| {
        (owner as usize).checked_sub(1).and_then(|owner| faults.get(owner)).is_some_and(Option::is_some)
    };
    unshared.disclaim(lost);
    let (region, pages) = unshared.share();
    let trees = pages.into_iter().zip(roots).zip(faults).map(|((pages, root), fault)| match fault {
        Some(fault) => Err(fault),
        None => Ok(Tree {
            pages,
            root: root.page,
            levels: root.levels,
            serial: root.serial,
            usage: TreeUsage::default(),
        }),
    });
    let trees = trees.collect();
    (region, trees)
}

/// Claims a tree's pages; if not, why, and who else has one of them.
fn claim(unshared: &mut Unshared, owner: u64, root: Root) -> Result<(), (Damage, u64)> {
    if root.levels > LEVELS_MAX || root.serial > Root::SERIAL_MAX {
        return Err((Damage("no tree is so high"), 0));
    }
    if root.page == NO_PAGE {
        return if root.levels == 0 { Ok(()) } else { Err((Damage("levels without a root"), 0)) };
    }
    claim_below(unshared, owner, root.page, root.levels)
}

fn claim_below(
    unshared: &mut Unshared,
    owner: u64,
    page: PageId,
    levels: usize,
) -> Result<(), (Damage, u64)> {
    let kind = if levels == 0 { LEAF } else { NODE };
    unshared
        .claim(page, owner, kind)
        .map_err(|other| (Damage("a page that is another's, or none"), other))?;
    if levels == 0 {
        return Ok(());
    }
    let node = unshared.page(page).and_then(Node::open).ok_or((Damage("a node that is none"), 0))?;
    let children: Vec<PageId> = (0..node.count()).filter_map(|at| node.child(at)).collect();
    children.into_iter().try_for_each(|child| claim_below(unshared, owner, child, levels - 1))
}

/// What a walk has seen so far.
#[derive(Default)]
struct Seen {
    usage: TreeUsage,
    last: Option<Raw>,
    /// Long values: serial and length, and whose they are.
    longs: Vec<(u64, usize, Raw)>,
    longs_max: usize,
    /// The long value whose pieces come, and the next of them.
    pieces: (usize, usize),
}

const ODD_NODE: Damage = Damage("a node that leads astray");
const ODD_LEAF: Damage = Damage("a leaf whose entries overlap or are not where they should be");
const ODD_KEYS: Damage = Damage("keys out of order");
const ODD_LONG: Damage = Damage("pieces of long values that belong together badly");

impl Tree {
    /// Where it begins, to be kept for [`restore`].
    pub fn root(&self) -> Root {
        Root { page: self.root, levels: self.levels, serial: self.serial }
    }

    /// Pages that it has.
    pub fn owned_pages(&self) -> u32 {
        self.pages.owned()
    }

    /// Reads all of it and calls `each` for the entries: in order, except that those whose values are in pieces come
    /// last. `scratch` is for these.
    ///
    /// # Errors
    /// The first damage, its own or what `each` says. The tree is then to be [`clear`](Tree::clear)ed.
    pub fn verify(
        &mut self,
        scratch: &mut Vec<u8>,
        mut each: impl FnMut(Key, &[u8]) -> Result<(), Damage>,
    ) -> Result<(), Damage> {
        let mut seen = Seen { longs_max: 4 * self.pages.owned() as usize, ..Seen::default() };
        if self.root != NO_PAGE {
            self.verify_below(self.root, self.levels, Raw::MIN, None, &mut seen, &mut each)?;
        }
        let owned = u64::from(self.pages.owned());
        if u64::from(seen.usage.leaf_pages + seen.usage.node_pages) != owned {
            return Err(ODD_NODE);
        }
        seen.end_pieces()?;
        if seen.longs.last().is_some_and(|&(serial, ..)| serial > self.serial) {
            return Err(ODD_LONG);
        }
        for &(serial, total, key) in &seen.longs {
            scratch.clear();
            self.read_pieces(serial, total, scratch).ok_or(ODD_LONG)?;
            each(key.into(), scratch)?;
        }
        self.usage = seen.usage;
        Ok(())
    }

    fn verify_below(
        &self,
        page: PageId,
        levels: usize,
        from: Raw,
        to: Option<Raw>,
        seen: &mut Seen,
        each: &mut impl FnMut(Key, &[u8]) -> Result<(), Damage>,
    ) -> Result<(), Damage> {
        if levels == 0 {
            seen.usage.leaf_pages += 1;
            let leaf = self.pages.get(page, LEAF).and_then(Leaf::open).ok_or(ODD_LEAF)?;
            return seen.leaf(&leaf, from, to, each);
        }
        seen.usage.node_pages += 1;
        let node = self.pages.get(page, NODE).and_then(Node::open).ok_or(ODD_NODE)?;
        // A root with a single child gives way to it.
        if node.count() <= usize::from(levels == self.levels) {
            return Err(ODD_NODE);
        }
        for at in 0..node.count() {
            let from = if at == 0 { from } else { node.key(at) };
            let to = if at + 1 < node.count() { Some(node.key(at + 1)) } else { to };
            if to.is_some_and(|to| from >= to) {
                return Err(ODD_NODE);
            }
            self.verify_below(node.child(at).ok_or(ODD_NODE)?, levels - 1, from, to, seen, each)?;
        }
        Ok(())
    }
}

impl Seen {
    fn leaf(
        &mut self,
        leaf: &Leaf<'_>,
        from: Raw,
        to: Option<Raw>,
        each: &mut impl FnMut(Key, &[u8]) -> Result<(), Damage>,
    ) -> Result<(), Damage> {
        if leaf.count() == 0 {
            return Err(ODD_LEAF);
        }
        let bodies = leaf.verify_bodies().ok_or(ODD_LEAF)?;
        if leaf.live() != bodies + leaf.count() * (KEY_BYTES - leaf.prefix() + 2) {
            return Err(ODD_LEAF);
        }
        self.usage.live_bytes += leaf.live() as u64;
        for at in 0..leaf.count() {
            let key = leaf.key(at);
            if self.last.is_some_and(|last| last >= key) || key < from || to.is_some_and(|to| key >= to) {
                return Err(ODD_KEYS);
            }
            self.last = Some(key);
            let body = leaf.body(at).ok_or(ODD_LEAF)?;
            if key.kind == RESERVED_KIND {
                self.piece(key, body)?;
                continue;
            }
            self.usage.entries += 1;
            self.usage.value_bytes += body.len() as u64;
            match body {
                Body::Inline(value) => each(key.into(), value)?,
                // Each piece takes a quarter of a page: more of them than fit are none.
                Body::Long { .. } if self.longs.len() >= self.longs_max => return Err(ODD_LONG),
                Body::Long { serial, total } => self.longs.push((serial, total, key)),
            }
        }
        Ok(())
    }

    /// Pieces come in the order of serials, behind all else.
    fn piece(&mut self, key: Raw, body: Body<'_>) -> Result<(), Damage> {
        if self.pieces == (0, 0) {
            self.longs.sort_unstable();
        }
        let (long, piece) = self.pieces;
        let &(serial, total, _) = self.longs.get(long).ok_or(ODD_LONG)?;
        let count = total.div_ceil(INLINE_MAX);
        let is_last = piece + 1 == count;
        let length = if is_last { total - piece * INLINE_MAX } else { INLINE_MAX };
        let Body::Inline(bytes) = body else { return Err(ODD_LONG) };
        let wanted = (u128::from(serial) << 64) | piece as u128;
        let sound = (INLINE_MAX + 1..=VALUE_BYTES_MAX).contains(&total) && bytes.len() == length;
        if key.low != wanted || !sound {
            return Err(ODD_LONG);
        }
        self.pieces = if is_last { (long + 1, 0) } else { (long, piece + 1) };
        Ok(())
    }

    /// Whether all pieces were there.
    fn end_pieces(&self) -> Result<(), Damage> {
        if self.pieces == (self.longs.len(), 0) { Ok(()) } else { Err(ODD_LONG) }
    }
}
