//! The tree against the standard library's map, and its promises one by one.

use super::super::region::PAGES_MAX;
use super::super::{Full, Key, PAGE_BYTES, Region, Tree, VALUE_BYTES_MAX};
use super::{region, seeds};
use crate::base::Rng;
use std::collections::BTreeMap;
use std::sync::Arc;

type Model = BTreeMap<Key, Vec<u8>>;

const LOWEST: Key = Key { kind: 0, a: 0, b: 0 };
const HIGHEST: Key = Key { kind: 0xff, a: u64::MAX, b: u64::MAX };

/// Bytes that follow from a number, so that a mixed-up value is seen.
fn bytes(seed: u64, len: usize) -> Vec<u8> {
    (0..len as u64).map(|i| (seed.wrapping_mul(31).wrapping_add(i * 7) >> 2) as u8).collect()
}

/// Every entry, in order, as the tree's iterator has them.
fn entries(tree: &Tree) -> Vec<(Key, Vec<u8>)> {
    tree.range(LOWEST, HIGHEST)
        .map(|(key, value)| {
            let mut out = Vec::new();
            value.read_into(&mut out);
            assert_eq!((out.len(), out.is_empty()), (value.len(), value.is_empty()));
            assert!(value.as_slice().is_none_or(|slice| slice == out));
            (key, out)
        })
        .collect()
}

fn same(tree: &Tree, model: &Model) {
    tree.check();
    assert_eq!(tree.len(), model.len() as u64);
    assert_eq!(tree.is_empty(), model.is_empty());
    assert_eq!(tree.usage().value_bytes, model.values().map(|value| value.len() as u64).sum::<u64>());
    assert!(entries(tree).iter().map(|(key, value)| (key, value)).eq(model));
}

/// How a round chooses keys.
#[derive(Clone, Copy, Debug)]
enum Keys {
    Any,
    Ascending,
    Descending,
    /// A few kinds and guilds, many members.
    Clustered,
    /// So close that most exist.
    Dense,
}

struct Chooser {
    keys: Keys,
    next: u64,
}

impl Chooser {
    fn key(&mut self, random: &mut Rng) -> Key {
        self.next += 1 + random.below(3);
        let id = |number: u64| 81_384_788_765_712_384 + (number << 22);
        match self.keys {
            Keys::Any => Key { kind: random.below(255) as u8, a: random.next_u64(), b: random.next_u64() },
            Keys::Ascending => Key { kind: 3, a: 7, b: id(self.next) },
            Keys::Descending => Key { kind: 3, a: 7, b: id(1 << 30) - id(self.next) },
            Keys::Clustered => Key {
                kind: random.below(4) as u8,
                a: id(random.below(5)),
                b: if random.chance(1, 9) { 0 } else { id(random.below(1 << 40)) },
            },
            Keys::Dense => Key { kind: 0xfe, a: random.below(2), b: random.below(700) },
        }
    }
}

fn length(random: &mut Rng, longest: usize) -> usize {
    let bound = match random.below(40) {
        0 => longest,
        1 => PAGE_BYTES,
        2..6 => PAGE_BYTES / 3,
        6..12 => 1,
        _ => 160,
    };
    random.below(bound as u64) as usize
}

/// Random operations; returns how often it was full.
fn story(seed: u64, steps: u64, pages: usize) -> u64 {
    let mut random = Rng::new(seed);
    let region = region(pages);
    let mut tree = Tree::new(&region);
    let mut model = Model::new();
    let mut scratch = Vec::new();
    let (mut full, mut chooser) = (0, Chooser { keys: Keys::Any, next: 0 });
    let mut growing = true;
    for step in 0..steps {
        if step % 500 == 0 {
            let all = [Keys::Any, Keys::Ascending, Keys::Descending, Keys::Clustered, Keys::Dense];
            chooser.keys = all[random.below(5) as usize];
            growing = random.chance(2, 3);
        }
        // Half of the time a key that is known, or next to a known one.
        let mut key = chooser.key(&mut random);
        if random.chance(1, 2)
            && let Some((&known, _)) = model.range(key..).next()
        {
            key = Key { b: known.b.wrapping_add(u64::from(random.chance(1, 8))), ..known };
        }
        match random.below(10) {
            0..5 if growing || random.chance(1, 4) => {
                let value = bytes(step, length(&mut random, 3 * PAGE_BYTES));
                let before = (full % 16 == 0).then(|| entries(&tree));
                match tree.put(key, &value) {
                    Ok(replaced) => assert_eq!(replaced, model.insert(key, value).is_some(), "{key:?}"),
                    Err(Full) => {
                        full += 1;
                        assert!(before.is_none_or(|before| before == entries(&tree)), "changed on full");
                        tree.check();
                        let gone: Vec<Key> = model
                            .range(key..)
                            .chain(model.range(..key))
                            .map(|(&key, _)| key)
                            .take(5)
                            .collect();
                        for key in gone {
                            model.remove(&key);
                            assert!(tree.remove(key));
                        }
                    }
                }
            }
            0..7 => assert_eq!(tree.remove(key), model.remove(&key).is_some(), "{key:?}"),
            7 => {
                let limit = random.below(60) as usize;
                let (from, to) = (
                    key,
                    Key { kind: key.kind.saturating_add(random.below(2) as u8), ..chooser.key(&mut random) },
                );
                let expected: Vec<Key> = if from > to {
                    Vec::new()
                } else {
                    model.range(from..=to).map(|(&key, _)| key).take(limit).collect()
                };
                assert!(tree.range(from, to).map(|(key, _)| key).take(limit).eq(expected.iter().copied()));
                if limit > 0 {
                    assert_eq!(tree.first(from, to), expected.first().copied());
                }
            }
            8 => {
                let expected = model.get_mut(&key);
                if let Some(value) = tree.get_mut(key) {
                    let expected = expected.expect("known");
                    assert_eq!(value, expected);
                    value.iter_mut().chain(expected).for_each(|byte| *byte ^= step as u8);
                } else {
                    assert!(expected.is_none_or(|value| value.len() > PAGE_BYTES / 5));
                }
            }
            _ => {
                assert_eq!(tree.get(key, &mut scratch), model.get(&key).map(Vec::as_slice));
                assert_eq!(tree.contains(key), model.contains_key(&key));
            }
        }
        if step % 200 == 0 {
            tree.check();
        }
        if step % 2_000 == 0 {
            same(&tree, &model);
        }
    }
    same(&tree, &model);
    // In a random order, so that joining is done at all places.
    let mut keys: Vec<Key> = model.keys().copied().collect();
    while !keys.is_empty() {
        let key = keys.swap_remove(random.below(keys.len() as u64) as usize);
        assert!(tree.remove(key));
        if keys.len().is_multiple_of(50) {
            tree.check();
        }
    }
    assert_eq!(tree.usage(), Default::default());
    assert_eq!(region.usage().used, 0, "every page went back");
    full
}

#[test]
fn it_is_the_standard_librarys_map() {
    let full = std::cell::Cell::new(0);
    seeds(if cfg!(miri) { 1 } else { 40 }, |seed| {
        let pages = [3, 12, 60, 400][seed as usize % 4];
        full.set(full.get() + story(seed, if cfg!(miri) { 300 } else { 12_000 }, pages));
    });
    assert!(cfg!(miri) || std::env::var("RATEWAY_SEED").is_ok() || full.get() > 1_000, "{}", full.get());
}

#[test]
fn values_of_any_length_come_back() {
    let region = region((4 << 20) / PAGE_BYTES);
    let mut tree = Tree::new(&region);
    let edge = super::super::tree::INLINE_MAX;
    let mut lengths =
        vec![0, 1, 126, 127, 128, 129, edge - 1, edge, edge + 1, 2 * edge, 2 * edge + 1, 100_000];
    lengths.push(if cfg!(miri) { 20_000 } else { 1_500_000 });
    let key = |number: usize| Key { kind: 1, a: number as u64, b: 9 };
    let mut scratch = vec![1; 3];
    for (number, &len) in lengths.iter().enumerate() {
        assert_eq!(tree.put(key(number), &bytes(len as u64, len)), Ok(false));
    }
    tree.check();
    let usage = tree.usage();
    assert!(cfg!(miri) || usage.page_bytes() < usage.value_bytes * 21 / 20, "pieces lie close: {usage:?}");
    for (number, &len) in lengths.iter().enumerate() {
        assert_eq!(tree.get(key(number), &mut scratch), Some(&bytes(len as u64, len)[..]));
        assert_eq!(tree.get_mut(key(number)).is_some(), len <= edge);
    }
    // Each length in the place of each other.
    for (number, _) in lengths.iter().enumerate() {
        let len = lengths[(number + 7) % lengths.len()];
        assert_eq!(tree.put(key(number), &bytes(5, len)), Ok(true));
        assert_eq!(tree.get(key(number), &mut scratch), Some(&bytes(5, len)[..]));
        tree.check();
    }
    assert_eq!(tree.first(Key { kind: 2, ..LOWEST }, HIGHEST), None, "pieces are not seen");
    assert!(
        !tree.remove(Key { kind: 0xff, a: 1, b: 0 })
            && tree.put(key(0), &vec![0; VALUE_BYTES_MAX + 1]) == Err(Full)
    );
    tree.clear();
    assert_eq!((region.usage().used, tree.usage()), (0, Default::default()));
    assert_eq!(tree.put(key(1), b"again"), Ok(false));
    drop(tree);
    assert_eq!(region.usage().used, 0);
}

/// Four entries to a leaf and hundreds of leaves to a node, so that nodes are split, joined and lose their first
/// children; keys come again below those that are left.
#[test]
fn nodes_are_split_and_joined() {
    if cfg!(miri) {
        return;
    }
    seeds(6, |seed| {
        let mut random = Rng::new(seed);
        let region = region((24 << 20) / PAGE_BYTES);
        let mut tree = Tree::new(&region);
        let value = bytes(3, super::super::tree::INLINE_MAX - 40);
        let mut model = std::collections::BTreeSet::new();
        let key = |b: u64| Key { kind: 1, a: 0, b };
        let bound = 3 * (24 << 20) / value.len() as u64;
        let mut nodes = 0;
        for round in 0..60 {
            let (start, length) = (random.below(bound), random.below(bound / 2));
            for number in start..(start + length).min(bound) {
                let number = if random.chance(1, 20) { random.below(bound) } else { number };
                if random.chance(1, 3) {
                    continue;
                }
                if round % 3 == 1 {
                    assert_eq!(tree.remove(key(number)), model.remove(&number));
                } else if let Ok(replaced) = tree.put(key(number), &value) {
                    assert_eq!(replaced, !model.insert(number));
                }
                if random.chance(1, 50) {
                    tree.check();
                }
            }
            nodes = nodes.max(tree.usage().node_pages);
            assert!(tree.range(LOWEST, HIGHEST).map(|(key, _)| key.b).eq(model.iter().copied()));
        }
        assert!(nodes > 4, "{nodes}");
        model.iter().for_each(|&number| assert!(tree.remove(key(number))));
        assert_eq!((region.usage().used, tree.usage()), (0, Default::default()));
    });
}

#[test]
fn one_page_is_enough_for_a_small_tree() {
    let region = region(1);
    let mut tree = Tree::new(&region);
    let mut count = 0;
    while tree.put(Key { kind: 1, a: 5, b: count }, &[7; 20]).is_ok() {
        count += 1;
    }
    assert!(count as usize >= (PAGE_BYTES - 27) / (20 + 1 + 2 + 2) && region.usage().used == 1, "{count}");
    assert_eq!(tree.put(Key { kind: 9, a: 5, b: 0 }, &[]), Err(Full));
    assert_eq!(tree.put(Key { kind: 1, a: 5, b: 3 }, &[8; 20]), Ok(true));
    assert_eq!(tree.put(Key { kind: 1, a: 5, b: 3 }, &[8; 120]), Err(Full));
    tree.check();
    assert!((0..count).all(|b| tree.remove(Key { kind: 1, a: 5, b })));
    assert_eq!(region.usage().used, 0);
}

/// Fills a tree by `key` and gives back how full its leaves are.
fn fullness(count: u64, key: impl Fn(u64) -> Key) -> f64 {
    let region = region((64 << 20) / PAGE_BYTES);
    let mut tree = Tree::new(&region);
    for number in 0..count {
        assert_eq!(tree.put(key(number), &[3; 80]), Ok(false));
    }
    tree.check();
    let usage = tree.usage();
    usage.live_bytes as f64 / (f64::from(usage.leaf_pages) * PAGE_BYTES as f64)
}

#[test]
fn runs_leave_full_pages_behind_and_anything_else_nearly_full_ones() {
    if cfg!(miri) {
        return;
    }
    let id = |number: u64| 81_384_788_765_712_384 + (number << 22) + number % 4_000;
    let spread = |number: u64| id(number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 24);
    let all = [
        ("ascending", 0.96, fullness(100_000, |n| Key { kind: 2, a: 4, b: id(n) })),
        ("descending", 0.96, fullness(100_000, |n| Key { kind: 2, a: 4, b: id(100_000 - n) })),
        // Two entities of each event, in turns, and the runs of many guilds in any order.
        ("in turns", 0.96, fullness(100_000, |n| Key { kind: (n % 2) as u8, a: 4, b: id(n) })),
        ("guilds", 0.90, fullness(100_000, |n| Key { kind: 2, a: spread(n / 1_000), b: id(n % 1_000) })),
        ("random", 0.87, fullness(100_000, |n| Key { kind: 2, a: 4, b: spread(n) })),
    ];
    println!("{all:.3?}");
    all.iter().for_each(|(name, least, full)| assert!(full > least, "{name}: {full}"));
}

#[test]
fn all_pages_of_a_region_are_within_reach() {
    // Nodes with an eighth of the children that they may have.
    let least = (PAGE_BYTES / 21 / 8) as u64;
    assert!(least.pow(super::super::tree::LEVELS_MAX as u32 - 2) as usize > PAGES_MAX);
}

#[test]
fn threads_share_a_region_and_nothing_else() {
    let (threads, steps, pages) = if cfg!(miri) { (2, 100, 8) } else { (4, 30_000, 40) };
    let region: Arc<Region> = region(pages);
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let region = &region;
            scope.spawn(move || {
                let mut random = Rng::new(thread);
                let mut tree = Tree::new(region);
                let mut model = Model::new();
                for step in 0..steps {
                    let key = Key { kind: 1, a: random.below(3), b: random.below(500) };
                    let value = bytes(step ^ thread, length(&mut random, PAGE_BYTES));
                    if random.chance(1, 2) {
                        if tree.put(key, &value).is_ok() {
                            model.insert(key, value);
                        }
                    } else {
                        assert_eq!(tree.remove(key), model.remove(&key).is_some());
                    }
                }
                same(&tree, &model);
            });
        }
    });
    assert_eq!(region.usage().used, 0);
}
