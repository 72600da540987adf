//! Counts allocations of the cache's memory: some when the region is reserved, none afterwards.

use rateway::base::Rng;
use rateway::cache::arena::{Handle, Heap, Index, Key, List, PAGE_BYTES, Region};
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
    Key { kind: 1, a: number << 22, b: 3 }
}

#[test]
fn nothing_is_allocated_after_the_region() {
    const PAGES: usize = 600;
    const LIST: List = List { first_at: 0, link_at: 0 };
    let before = BYTES.get();
    let region = Region::with_capacity(PAGES * PAGE_BYTES).expect("memory");
    let reserved = (BYTES.get() - before) as usize;
    assert!(reserved <= PAGES * (PAGE_BYTES + 12) + 64 + size_of::<Region>() + 16, "{reserved} bytes");
    assert!(region.memory_bytes() <= reserved);

    let mut random = Rng::new(5);
    let content = [7u8; 30_000];
    let mut live: Vec<(u64, Handle)> = Vec::with_capacity(100_000);
    let mut scratch = Vec::with_capacity(content.len());
    let before = ALLOCATIONS.get();
    let mut heap = Heap::new(&region);
    let mut index = Index::new(&region, [1, 2]);
    let owner = heap.alloc(8).expect("room");
    let (mut full, mut read) = (0, 0);
    for step in 0..300_000u64 {
        let long = random.chance(1, 100);
        let len = 16 + random.below(if long { 29_000 } else { 400 }) as usize;
        let pick = random.below(live.len().max(1) as u64) as usize;
        match random.below(8) {
            0..=3 => match heap.insert(&content[..len]) {
                Ok(handle) if index.insert(&key(step), handle.to_bits()).is_ok() => {
                    LIST.push(&mut heap, owner, handle).expect("both live");
                    live.push((step, handle));
                }
                Ok(handle) => assert!(heap.free(handle)),
                // The owner's part: evict.
                Err(_) => {
                    full += 1;
                    for _ in 0..live.len() / 4 {
                        let (number, handle) = live.swap_remove(random.below(live.len() as u64) as usize);
                        assert_eq!(index.remove(&key(number)), Some(handle.to_bits()));
                        LIST.remove(&mut heap, owner, handle).expect("both live");
                        assert!(heap.free(handle));
                    }
                }
            },
            4 if !live.is_empty() => {
                let handle = live[pick].1;
                let len = heap.len(handle).expect("alive") + random.below(9) as usize;
                let _ = heap.resize(handle, len.clamp(16, content.len()), &mut scratch);
            }
            5 if !live.is_empty() => {
                let found = index.get(&key(live[pick].0)).and_then(Handle::from_bits).expect("known");
                read += heap.view(found, &mut scratch).expect("alive").len();
            }
            _ => {
                heap.compact(2_048);
            }
        }
    }
    assert_eq!(ALLOCATIONS.get() - before, 0);
    assert!(full > 0 && read > 0, "{full} times full, {read} bytes read");
    let usage = region.usage();
    assert!(usage.high_water as usize == PAGES && usage.refused > 0, "{usage:?}");
}
