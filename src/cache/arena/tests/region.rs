use super::super::region::{Region, ReserveError};
use super::super::{PAGE_BYTES, Pages};
use super::region;
use crate::base::Rng;

#[test]
fn capacity_is_whole_pages_and_exact() {
    assert_eq!(Region::with_capacity(PAGE_BYTES - 1).err(), Some(ReserveError::TooSmall));
    assert_eq!(Region::with_capacity(usize::MAX).err(), Some(ReserveError::TooLarge));
    let region = Region::with_capacity(3 * PAGE_BYTES + 5).expect("memory");
    let mut owner = region.owner();
    let all: Vec<_> = (0..3).map(|_| owner.acquire(7).expect("a page")).collect();
    assert_eq!(owner.acquire(7), None);
    assert_eq!((region.usage().used, region.usage().high_water, region.usage().refused), (3, 3, 1));
    assert!(owner.release(all[1]));
    assert!(!owner.release(all[1]), "twice");
    assert_eq!(owner.acquire(8), Some(all[1]));
    assert_eq!(region.usage().high_water, 3);
    assert!(region.memory_bytes() <= 3 * (PAGE_BYTES + 12) + 64);
    drop(owner);
    assert_eq!(region.usage().used, 0);
}

#[test]
fn only_the_owner_reaches_a_page_and_only_as_its_kind() {
    let region = region(4);
    let (mut a, mut b) = (region.owner(), region.owner());
    let page = a.acquire(1).expect("a page");
    let other = a.acquire(1).expect("a page");
    assert!(a.get(page, 1).expect("mine").iter().all(|&byte| byte == 0), "zeroed");
    a.get_mut(page, 1).expect("mine")[5] = 9;
    {
        let (from, to) = a.pair(page, other, 1).expect("two");
        to[6] = from[5];
    }
    assert_eq!(a.get(other, 1).expect("mine")[6], 9);
    assert!(a.pair(page, page, 1).is_none());
    assert!(a.get(page, 2).is_none());
    assert!(b.get(page, 1).is_none() && b.get_mut(page, 1).is_none() && !b.release(page));
    assert!(a.get(1000, 1).is_none() && a.get(u32::MAX, 1).is_none() && !a.release(u32::MAX));
    assert!(a.release(page));
    assert!(a.get(page, 1).is_none());
    let again = b.acquire(3).expect("a page");
    assert_eq!(again, page, "the last page that was given back comes first");
    assert_eq!(b.get(page, 3).expect("mine")[5], 9, "its bytes are what was left");
    // Free pages belong to nobody, not even as kind 0.
    assert!(a.get(3, 0).is_none());
}

#[test]
fn owners_of_other_regions_are_strangers_too() {
    let (one, two) = (region(2), region(2));
    let (mut a, mut b) = (one.owner(), two.owner());
    let (p, q) = (a.acquire(1).expect("a page"), b.acquire(1).expect("a page"));
    assert_eq!(p, q);
    a.get_mut(p, 1).expect("mine").fill(1);
    assert!(b.get(q, 1).expect("mine").iter().all(|&byte| byte == 0));
}

/// Threads take pages, sign them all over, look whether the signature holds, and give them back.
fn stampede(threads: u64, rounds: u64, pages: usize) {
    let region = region(pages);
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let mut owner: Pages = region.owner();
            scope.spawn(move || {
                let mut random = Rng::new(thread);
                let mut mine: Vec<(u32, u8)> = Vec::new();
                for _ in 0..rounds {
                    if random.chance(1, 2) {
                        if let Some(page) = owner.acquire(1) {
                            let sign = random.next_u64() as u8;
                            owner.get_mut(page, 1).expect("mine").fill(sign);
                            mine.push((page, sign));
                        }
                    } else if !mine.is_empty() {
                        let (page, sign) = mine.swap_remove(random.below(mine.len() as u64) as usize);
                        let bytes = owner.get(page, 1).expect("mine");
                        assert!(bytes.iter().all(|&byte| byte == sign), "somebody else wrote");
                        assert!(owner.release(page));
                    }
                    assert_eq!(owner.owned() as usize, mine.len());
                }
            });
        }
    });
    let usage = region.usage();
    assert_eq!(usage.used, 0);
    assert!(usage.high_water as usize <= pages);
    let mut owner = region.owner();
    let mut all: Vec<_> = std::iter::from_fn(|| owner.acquire(1)).collect();
    all.sort_unstable();
    assert!(all.iter().copied().eq(0..pages as u32), "each page once");
}

#[test]
fn threads_never_share_a_page() {
    if cfg!(miri) {
        stampede(2, 20, 3);
    } else {
        stampede(4, 20_000, 9);
    }
}

#[test]
fn pages_move_with_their_owner_between_threads() {
    let region = region(2);
    let mut owner = region.owner();
    let page = owner.acquire(1).expect("a page");
    owner.get_mut(page, 1).expect("mine")[0] = 1;
    let owner = std::thread::spawn(move || {
        owner.get_mut(page, 1).expect("mine")[0] += 1;
        owner
    });
    let owner = owner.join().expect("a thread");
    assert_eq!(owner.get(page, 1).expect("mine")[0], 2);
}
