//! Counts allocations of the cache's memory: some when the region is reserved, none afterwards.

use rateway::base::Rng;
use rateway::cache::arena::{Key, PAGE_BYTES, Region, Tree};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

struct Counting;

thread_local! {
    // Per thread, so that the test harness does not disturb the count.
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
    static BYTES: Cell<u64> = const { Cell::new(0) };
}

fn count(bytes: usize) {
    let _ = ALLOCATIONS.try_with(|cell| cell.set(cell.get() + 1));
    let _ = BYTES.try_with(|cell| cell.set(cell.get() + bytes as u64));
}

// SAFETY: every call is handed to the system's allocator unchanged; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller's promise is the same.
        unsafe { System.alloc(layout) }
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller's promise is the same.
        unsafe { System.alloc_zeroed(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is the same.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn key(number: u64) -> Key {
    Key { kind: 1 + (number % 3) as u8, a: number << 22, b: 3 }
}

#[test]
fn nothing_is_allocated_after_the_region() {
    const PAGES: usize = (8 << 20) / PAGE_BYTES;
    let before = BYTES.get();
    let region = Region::with_capacity(PAGES * PAGE_BYTES).expect("memory");
    let reserved = (BYTES.get() - before) as usize;
    assert!(reserved <= PAGES * (PAGE_BYTES + 12) + 64 + size_of::<Region>() + 16, "{reserved} bytes");
    assert!(region.memory_bytes() <= reserved);

    let mut random = Rng::new(5);
    let content = [7u8; 60_000];
    let mut live: Vec<u64> = Vec::with_capacity(200_000);
    let mut scratch = Vec::with_capacity(content.len());
    let before = ALLOCATIONS.get();
    let mut tree = Tree::new(&region);
    let (mut full, mut read, mut seen) = (0, 0, 0);
    for step in 0..300_000u64 {
        let long = random.chance(1, 100);
        let len = random.below(if long { content.len() as u64 } else { 400 }) as usize;
        let pick = random.below(live.len().max(1) as u64) as usize;
        match random.below(8) {
            0..=3 => match tree.put(key(step), &content[..len]) {
                Ok(_) => live.push(step),
                // The owner's part: evict.
                Err(_) => {
                    full += 1;
                    for _ in 0..live.len() / 4 {
                        let number = live.swap_remove(random.below(live.len() as u64) as usize);
                        assert!(tree.remove(key(number)));
                    }
                }
            },
            4..=5 if !live.is_empty() => {
                let _ = tree.put(key(live[pick]), &content[..len]);
            }
            6 if !live.is_empty() => {
                read += tree.get(key(live[pick]), &mut scratch).expect("alive").len();
            }
            _ => seen += tree.range(key(step / 2), key(step)).take(20).count(),
        }
    }
    assert_eq!(ALLOCATIONS.get() - before, 0);
    assert!(full > 0 && read > 0 && seen > 0, "{full} times full, {read} bytes read, {seen} seen");
    let usage = region.usage();
    assert!(usage.high_water as usize == PAGES && usage.refused > 0, "{usage:?}");
    tree.clear();
    assert_eq!((region.usage().used, ALLOCATIONS.get() - before), (0, 0));
}
