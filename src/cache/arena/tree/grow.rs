//! Entries that come or grow.

use super::body::{Body, Held};
use super::items::{Pending, WINDOW_MAX};
use super::key::Raw;
use super::leaf::{self, LEAF, Leaf};
use super::node::{NODE, Node};
use super::spread::{Aim, SLACK_BYTES};
use super::{Path, Tree};
use crate::cache::arena::Full;
use crate::cache::arena::region::{NO_PAGE, PAGE_BYTES, PageId};

impl Tree {
    /// Puts an entry and says what it replaced.
    pub(super) fn put_raw(&mut self, key: Raw, body: Body<'_>) -> Result<Option<Held>, Full> {
        if self.root == NO_PAGE {
            return self.plant(key, body);
        }
        let (path, number) = self.descend(key).ok_or(Full)?;
        let page = self.pages.get_mut(number, LEAF).ok_or(Full)?;
        let leaf = Leaf::open(page).ok_or(Full)?;
        let before = leaf.live();
        let (at, old) = match leaf.search(key) {
            Ok(at) => (at, Some(leaf.body(at).ok_or(Full)?.held())),
            Err(at) => (at, None),
        };
        let done =
            if old.is_some() { leaf::replace(page, at, body) } else { leaf::insert(page, at, key, body) };
        if done {
            let after = Leaf::open(page).map_or(0, |leaf| leaf.live());
            self.note_live(before, after);
            self.shrunk(key, &path, before, after);
        } else {
            let pending = Pending { leaf: 0, at, replaces: old.is_some(), key, body };
            self.make_room(&path, number, pending)?;
        }
        Ok(old)
    }

    /// The first entry.
    fn plant(&mut self, key: Raw, body: Body<'_>) -> Result<Option<Held>, Full> {
        let number = self.take_page(LEAF)?;
        let page = self.pages.get_mut(number, LEAF).ok_or(Full)?;
        leaf::create(page, 0, key);
        leaf::insert(page, 0, key, body);
        let after = Leaf::open(page).map_or(0, |leaf| leaf.live());
        self.note_live(0, after);
        self.root = number;
        self.levels = 0;
        Ok(None)
    }

    /// Puts an entry that does not fit in its leaf as that is.
    #[inline(never)]
    fn make_room(&mut self, path: &Path, page: PageId, pending: Pending<'_>) -> Result<(), Full> {
        let leaf = self.pages.get(page, LEAF).and_then(Leaf::open).ok_or(Full)?;
        let index = path.steps().last().map_or(0, |step| step.1);
        let rebuilt = leaf.rebuilt_with(&pending);
        let run = !pending.replaces && leaf.in_run(pending.at);
        let at_end = pending.at == leaf.count();
        let loose = leaf.is_loose();
        if (loose || rebuilt <= PAGE_BYTES - SLACK_BYTES)
            && self.spread::<1>(path, index, Some(pending), Aim::Keep(PAGE_BYTES - SLACK_BYTES))?
        {
            return Ok(());
        }
        if run && self.go_on(path, index, pending, at_end) {
            return Ok(());
        }
        match self.share(path, index, pending) {
            Err(Full) if loose || rebuilt <= PAGE_BYTES => {
                match self.spread::<1>(path, index, Some(pending), Aim::Keep(PAGE_BYTES))? {
                    true => Ok(()),
                    false => Err(Full),
                }
            }
            result => result,
        }
    }

    /// The next entry of a run: behind a full leaf, or where the leaf is cut. False when that cannot be.
    fn go_on(&mut self, path: &Path, index: usize, pending: Pending<'_>, at_end: bool) -> bool {
        let right = path.steps().last().and_then(|_| self.neighbour(path, index + 1));
        let room = right.filter(|_| at_end).and_then(|right| self.used(right));
        let need = pending.body.size() + leaf::RECORD_MAX;
        if room.is_some_and(|used| used + need <= PAGE_BYTES)
            && self.spread::<2>(path, index, Some(pending), Aim::Over) == Ok(true)
        {
            return true;
        }
        self.spread::<1>(path, index, Some(pending), Aim::Run) == Ok(true)
    }

    /// Makes room with the neighbours, those with the most room first; if there is not enough, with a page more.
    fn share(&mut self, path: &Path, index: usize, pending: Pending<'_>) -> Result<(), Full> {
        let used = |at: usize| self.neighbour(path, at).and_then(|page| self.used(page)).ok_or(Full);
        let (mut first, mut end) = (index, index + 1);
        if let Some(&(parent, _)) = path.steps().last() {
            let children = self.pages.get(parent, NODE).and_then(Node::open).map_or(0, |node| node.count());
            let mut total = used(index)? + pending.body.size() + leaf::RECORD_MAX;
            while end - first < WINDOW_MAX
                && (end - first == 1 || total + (end - first) * SLACK_BYTES > (end - first) * PAGE_BYTES)
            {
                let left = if first > 0 { used(first - 1)? } else { usize::MAX };
                let right = if end < children { used(end)? } else { usize::MAX };
                if left.min(right) == usize::MAX {
                    break;
                }
                total += left.min(right);
                if left < right { first -= 1 } else { end += 1 }
            }
        }
        let pending = Pending { leaf: index - first, ..pending };
        match self.spread_some(end - first, path, first, Some(pending), Aim::Grow)? {
            true => Ok(()),
            false => Err(Full),
        }
    }
}
