//! The cache's memory: bytes that an entry costs, and nanoseconds of each operation, on partitions of 100,000 and of
//! 1,000,000 members with values of 80 bytes.
//!
//! Picks are spread over everything, so that the processor's caches help no more than in production.

use rateway::base::Rng;
use rateway::cache::arena::{Key, PAGE_BYTES, Region, Tree};
use std::sync::Arc;

fn main() {
    println!(
        "pages of {PAGE_BYTES} bytes; bytes per entry of 80 bytes (and share of its value), leaves' fullness"
    );
    for (name, order) in [("ascending", ascending as fn(u64) -> u64), ("random", random)] {
        let tree = filled(COUNTS[0], order);
        tell(name, &tree);
        tell(&format!("{name}, then churn"), &churned(tree));
    }
    tell("members of 100 bytes, 200 to a guild", &guilds(1_000, 200));
    divan::main();
}

const COUNTS: [u64; 2] = [100_000, 1_000_000];
const LEN: usize = 80;
/// Operations per sample.
const BATCH: usize = 1_000;

fn region() -> Arc<Region> {
    Region::with_capacity(256 << 20).expect("memory")
}

fn ascending(number: u64) -> u64 {
    81_384_788_765_712_384 + (number << 22)
}

/// The same ids in an order without order.
fn random(number: u64) -> u64 {
    ascending(number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 26)
}

fn member(user: u64) -> Key {
    Key { kind: 2, a: 613_425_648_685_547_541, b: user }
}

fn filled(count: u64, order: fn(u64) -> u64) -> Tree {
    let mut tree = Tree::new(&region());
    (0..count).for_each(|number| assert_eq!(tree.put(member(order(number)), &[7; LEN]), Ok(false)));
    tree
}

/// Each entry leaves once and another comes, and lengths drift.
fn churned(mut tree: Tree) -> Tree {
    let keys: Vec<Key> = tree.range(member(0), member(u64::MAX)).map(|(key, _)| key).collect();
    let mut random = Rng::new(4);
    for number in 0..3 * keys.len() as u64 {
        let key = keys[random.below(keys.len() as u64) as usize];
        if tree.remove(key) {
            let key = member(self::random(1_000_000 + number));
            tree.put(key, &[7; LEN + 8][..LEN - 8 + random.below(17) as usize]).expect("room");
        } else {
            let first = tree.first(key, member(u64::MAX)).unwrap_or(key);
            tree.put(first, &[7; LEN + 8][..LEN - 8 + random.below(17) as usize]).expect("room");
        }
    }
    tree
}

/// Guilds that come one by one, their members in any order.
fn guilds(guilds: u64, members: u64) -> Tree {
    let (mut tree, mut rng) = (Tree::new(&region()), Rng::new(3));
    for guild in 0..guilds {
        for _ in 0..members {
            let key = Key { kind: 2, a: random(guild), b: ascending(rng.below(1 << 37)) };
            let _ = tree.put(key, &[7; 100]).expect("room");
        }
    }
    tree
}

fn tell(name: &str, tree: &Tree) {
    let usage = tree.usage();
    let (pages, values) = (usage.page_bytes() as f64, usage.value_bytes as f64);
    println!(
        "  {name:40} {:6.1} ({:.3}), {:.3}",
        pages / usage.entries as f64,
        pages / values,
        usage.live_bytes as f64 / (f64::from(usage.leaf_pages) * PAGE_BYTES as f64)
    );
}

fn per_operation(bencher: divan::Bencher, mut operations: impl FnMut()) {
    bencher.counter(divan::counter::ItemsCount::new(BATCH)).bench_local(&mut operations);
}

#[divan::bench(args = COUNTS)]
fn get(bencher: divan::Bencher, count: u64) {
    let (tree, mut rng, mut scratch) = (filled(count, random), Rng::new(1), Vec::new());
    per_operation(bencher, || {
        for _ in 0..BATCH {
            let key = member(random(rng.below(count)));
            divan::black_box(tree.get(key, &mut scratch).map(|bytes| bytes[0]));
        }
    });
}

#[divan::bench(args = COUNTS)]
fn miss(bencher: divan::Bencher, count: u64) {
    let (tree, mut rng, mut scratch) = (filled(count, random), Rng::new(1), Vec::new());
    per_operation(bencher, || {
        for _ in 0..BATCH {
            divan::black_box(tree.get(member(random(rng.below(count)) + 1), &mut scratch));
        }
    });
}

/// A value of the same length, as a presence that changes its status.
#[divan::bench(args = COUNTS)]
fn replace(bencher: divan::Bencher, count: u64) {
    let (mut tree, mut rng) = (filled(count, random), Rng::new(1));
    per_operation(bencher, || {
        for _ in 0..BATCH {
            assert_eq!(tree.put(member(random(rng.below(count))), &[9; LEN]), Ok(true));
        }
    });
}

/// Values whose lengths change.
#[divan::bench(args = COUNTS)]
fn replace_by_another_length(bencher: divan::Bencher, count: u64) {
    let (mut tree, mut rng) = (filled(count, random), Rng::new(1));
    per_operation(bencher, || {
        for _ in 0..BATCH {
            let len = LEN - 8 + rng.below(17) as usize;
            assert_eq!(tree.put(member(random(rng.below(count))), &[9; LEN + 8][..len]), Ok(true));
        }
    });
}

/// An entry goes and another comes, all over the tree: leaves are shared out, split and joined.
#[divan::bench(args = COUNTS)]
fn remove_and_insert(bencher: divan::Bencher, count: u64) {
    let (mut tree, mut oldest) = (filled(count, random), 0);
    per_operation(bencher, || {
        for _ in 0..BATCH {
            assert!(tree.remove(member(random(oldest))));
            tree.put(member(random(oldest + count)), &[7; LEN]).expect("room");
            oldest += 1;
        }
    });
}

/// Growth from nothing, in order and not.
#[divan::bench(args = [true, false])]
fn insert(bencher: divan::Bencher, in_order: bool) {
    let (mut tree, mut next) = (Tree::new(&region()), 0);
    let order = if in_order { ascending } else { random };
    per_operation(bencher, || {
        if tree.len() >= COUNTS[0] {
            tree.clear();
        }
        for _ in 0..BATCH {
            tree.put(member(order(next)), &[7; LEN]).expect("room");
            next += 1;
        }
    });
}

/// A thousand entries in order.
#[divan::bench(args = COUNTS)]
fn range_of_1000(bencher: divan::Bencher, count: u64) {
    let (tree, mut rng) = (filled(count, random), Rng::new(1));
    per_operation(bencher, || {
        let from = member(random(rng.below(count)));
        let range = tree.range(from, member(u64::MAX)).take(BATCH);
        divan::black_box(range.fold(0, |sum, (_, value)| sum + value.len()));
    });
}
