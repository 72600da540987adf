//! The cache's memory: nanoseconds of each operation on a partition of 100,000 blobs or entries.
//!
//! Picks are spread over everything, so that the processor's caches help no more than in production.

use rateway::base::Rng;
use rateway::cache::arena::{Handle, Heap, Index, Key, Region};
use std::sync::Arc;

fn main() {
    divan::main();
}

const COUNT: usize = 100_000;
/// Bytes of a blob: a presence, a member with its user, a channel.
const LENGTHS: [usize; 3] = [60, 150, 600];
/// Operations per sample.
const BATCH: usize = 1_000;

fn region() -> Arc<Region> {
    Region::with_capacity(256 << 20).expect("memory")
}

fn filled(len: usize) -> (Heap, Vec<Handle>) {
    let mut heap = Heap::new(&region());
    let content = vec![7; len];
    let mut handles: Vec<_> = (0..COUNT).map(|_| heap.insert(&content).expect("room")).collect();
    let mut random = Rng::new(1);
    for i in (1..handles.len()).rev() {
        handles.swap(i, random.below(i as u64 + 1) as usize);
    }
    (heap, handles)
}

fn per_operation(bencher: divan::Bencher, mut operations: impl FnMut()) {
    bencher.counter(divan::counter::ItemsCount::new(BATCH)).bench_local(&mut operations);
}

#[divan::bench(args = LENGTHS)]
fn heap_get(bencher: divan::Bencher, len: usize) {
    let (heap, handles) = filled(len);
    let mut at = 0;
    per_operation(bencher, || {
        for _ in 0..BATCH {
            at = (at + 1) % handles.len();
            divan::black_box(heap.get(handles[at]).map(|bytes| bytes[0]));
        }
    });
}

/// A blob goes and another of another length comes, all over the heap: pages are pushed together as they fill.
#[divan::bench(args = LENGTHS)]
fn heap_free_and_insert(bencher: divan::Bencher, len: usize) {
    let (mut heap, mut handles) = filled(len);
    let content = vec![7; len * 2];
    let (mut at, mut random) = (0, Rng::new(2));
    per_operation(bencher, || {
        for _ in 0..BATCH {
            at = (at + 1) % handles.len();
            assert!(heap.free(handles[at]));
            let len = len / 2 + random.below(len as u64) as usize;
            handles[at] = heap.insert(&content[..len]).expect("room");
        }
    });
}

/// The same with the compaction that an owner would do after each.
#[divan::bench(args = LENGTHS)]
fn heap_free_and_insert_and_compact(bencher: divan::Bencher, len: usize) {
    let (mut heap, mut handles) = filled(len);
    let content = vec![7; len * 2];
    let (mut at, mut random) = (0, Rng::new(2));
    per_operation(bencher, || {
        for _ in 0..BATCH {
            at = (at + 1) % handles.len();
            assert!(heap.free(handles[at]));
            let len = len / 2 + random.below(len as u64) as usize;
            handles[at] = heap.insert(&content[..len]).expect("room");
            heap.compact(2_048);
        }
    });
}

#[divan::bench(args = LENGTHS)]
fn heap_replace(bencher: divan::Bencher, len: usize) {
    let (mut heap, handles) = filled(len);
    let content = vec![7; len * 2];
    let (mut at, mut random) = (0, Rng::new(2));
    per_operation(bencher, || {
        for _ in 0..BATCH {
            at = (at + 1) % handles.len();
            let len = len - 8 + random.below(17) as usize;
            heap.replace(handles[at], &content[..len]).expect("room");
        }
    });
}

/// Fills and empties, so that nothing is reused.
#[divan::bench(args = LENGTHS)]
fn heap_insert(bencher: divan::Bencher, len: usize) {
    let content = vec![7; len];
    let mut heap = Heap::new(&region());
    let mut handles = Vec::with_capacity(BATCH);
    per_operation(bencher, || {
        if heap.usage().blobs as usize >= COUNT {
            heap = Heap::new(heap.region());
        }
        handles.clear();
        handles.extend((0..BATCH).map(|_| heap.insert(&content).expect("room")));
    });
}

fn key(number: usize) -> Key {
    Key { kind: 2, a: 81_384_788_765_712_384 + ((number as u64) << 22), b: 613_425_648_685_547_541 }
}

fn index() -> Index {
    let mut index = Index::new(&region(), [3, 4]);
    (0..COUNT).for_each(|number| assert_eq!(index.insert(&key(number), 1), Ok(None)));
    index
}

#[divan::bench]
fn index_get(bencher: divan::Bencher) {
    let (index, mut random) = (index(), Rng::new(1));
    per_operation(bencher, || {
        for _ in 0..BATCH {
            divan::black_box(index.get(&key(random.below(COUNT as u64) as usize)));
        }
    });
}

#[divan::bench]
fn index_miss(bencher: divan::Bencher) {
    let (index, mut random) = (index(), Rng::new(1));
    per_operation(bencher, || {
        for _ in 0..BATCH {
            divan::black_box(index.get(&key(COUNT + random.below(COUNT as u64) as usize)));
        }
    });
}

#[divan::bench]
fn index_remove_and_insert(bencher: divan::Bencher) {
    let (mut index, mut random) = (index(), Rng::new(1));
    per_operation(bencher, || {
        for _ in 0..BATCH {
            let key = key(random.below(COUNT as u64) as usize);
            index.remove(&key);
            index.insert(&key, 5).expect("room");
        }
    });
}

/// Growth included: chains are split as entries come.
#[divan::bench]
fn index_insert(bencher: divan::Bencher) {
    let region = region();
    let mut index = Index::new(&region, [3, 4]);
    per_operation(bencher, || {
        if index.len() >= COUNT {
            index = Index::new(&region, [3, 4]);
        }
        let len = index.len();
        for number in len..len + BATCH {
            index.insert(&key(number), 1).expect("room");
        }
    });
}
