//! One owner's pages of the region.
//!
//! What enters: a wish for a page, a page's number. What leaves: its bytes, under the borrow of the owner.
//! What never happens: bytes of a page that the owner does not have, or has as another kind; two mutable
//! references to one page.
//!
//! A `Pages` is the proof of ownership. It cannot be cloned; the numbers it gives out are plain and may be kept in
//! pages as bytes, since each use is checked against the region's table (one load, one comparison).

use std::sync::Arc;

use super::region::{Page, PageId, Region};

/// The owner of some pages; dropping it gives them all back.
pub struct Pages {
    region: Arc<Region>,
    /// The owner's number << 8. Invariant: no other `Pages` of this region has it.
    mark: u64,
    owned: u32,
}

impl Pages {
    /// The owner with that mark, which has `owned` pages. One for each mark.
    pub(super) fn new(region: Arc<Region>, mark: u64, owned: u32) -> Pages {
        Pages { region, mark, owned }
    }

    /// Takes a page, to be reached as `kind`. Its bytes are whatever the last owner left.
    pub fn acquire(&mut self, kind: u8) -> Option<PageId> {
        instant();
        let page = self.region.take(self.mark | u64::from(kind))?;
        self.owned += 1;
        Some(page)
    }

    /// Gives a page back; false when it is not of this owner.
    pub fn release(&mut self, page: PageId) -> bool {
        instant();
        // The lowest byte is the kind. A free page has mark 0, an owner's number is at least 1.
        if self.region.mark(page) & !0xff != self.mark {
            return false;
        }
        self.region.give(page);
        self.owned -= 1;
        true
    }

    /// The bytes of a page of this owner and `kind`.
    #[inline]
    pub fn get(&self, page: PageId, kind: u8) -> Option<&Page> {
        if !self.has(page, kind) {
            return None;
        }
        // SAFETY: `has` says that the page exists and is ours, so nobody else reaches its bytes; they are
        // initialised (zeroed at first), have alignment 1, and `&self` keeps `get_mut` and `release` away.
        Some(unsafe { self.region.at(page).as_ref() })
    }

    /// The bytes of a page of this owner and `kind`, to write.
    #[inline]
    pub fn get_mut(&mut self, page: PageId, kind: u8) -> Option<&mut Page> {
        instant();
        if !self.has(page, kind) {
            return None;
        }
        // SAFETY: as in `get`; `&mut self` makes this the only reference into any page of ours.
        Some(unsafe { self.region.at(page).as_mut() })
    }

    /// The bytes of one page to read and of another to write; `None` when they are one.
    pub fn pair(&mut self, from: PageId, to: PageId, kind: u8) -> Option<(&Page, &mut Page)> {
        if from == to || !self.has(from, kind) || !self.has(to, kind) {
            return None;
        }
        // SAFETY: as in `get_mut`, for two pages that differ and so do not overlap.
        Some(unsafe { (self.region.at(from).as_ref(), self.region.at(to).as_mut()) })
    }

    /// How many pages it has.
    pub fn owned(&self) -> u32 {
        self.owned
    }

    /// The region that the pages are of.
    pub fn region(&self) -> &Arc<Region> {
        &self.region
    }

    #[inline]
    fn has(&self, page: PageId, kind: u8) -> bool {
        self.region.mark(page) == self.mark | u64::from(kind)
    }
}

/// An instant at which a process may end, for tests: between changes of pages.
#[cfg(not(test))]
#[inline]
pub(in crate::cache) fn instant() {}

#[cfg(test)]
pub(in crate::cache) use instants::instant;

impl Drop for Pages {
    /// Looks through the whole table, once in a partition's life: no list of one's pages need be kept for it.
    fn drop(&mut self) {
        for page in 0..self.region.page_count() {
            if self.owned == 0 {
                break;
            }
            self.release(page);
        }
    }
}

#[cfg(test)]
pub(in crate::cache) mod instants {
    use std::cell::RefCell;

    type Watch = Option<Box<dyn FnMut()>>;

    thread_local! {
        static WATCH: RefCell<Watch> = const { RefCell::new(None) };
    }

    /// What is called at each instant of this thread, but not while it is at work itself.
    pub(in crate::cache) fn watch(watch: Watch) {
        WATCH.with(|held| *held.borrow_mut() = watch);
    }

    pub(in crate::cache) fn instant() {
        let Ok(Some(mut watch)) = WATCH.try_with(|held| held.borrow_mut().take()) else { return };
        watch();
        WATCH.with(|held| *held.borrow_mut() = Some(watch));
    }
}
