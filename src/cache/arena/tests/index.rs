use super::super::{Full, Index, Key};
use super::{region, seeds};
use crate::base::Rng;
use std::collections::HashMap;

fn key(number: u64) -> Key {
    Key { kind: (number % 5) as u8, a: number << 22, b: number / 7 }
}

fn model(seed: u64, steps: u64) {
    let mut random = Rng::new(seed);
    let region = region(2 + random.below(6) as usize);
    let mut index = Index::new(&region, [seed, !seed]);
    let mut map: HashMap<Key, u64> = HashMap::new();
    let span = [10, 200, 4_000][random.below(3) as usize];
    // Phases of growing and of shrinking.
    let mut growing = 7;
    for step in 0..steps {
        if step % 500 == 0 {
            growing = if random.chance(1, 2) { 8 } else { 2 };
        }
        let key = key(random.below(span));
        if random.below(10) < growing {
            match index.insert(&key, step) {
                Ok(old) => assert_eq!(old, map.insert(key, step)),
                Err(Full) => {
                    assert!(!map.contains_key(&key));
                    assert_eq!(region.usage().used, region.page_count());
                }
            }
        } else {
            assert_eq!(index.remove(&key), map.remove(&key));
        }
        let key = self::key(random.below(span));
        assert_eq!(index.get(&key), map.get(&key).copied(), "step {step}");
        assert_eq!(index.len(), map.len());
    }
    for (key, value) in &map {
        assert_eq!(index.get(key), Some(*value));
    }
    for (key, value) in map {
        assert_eq!(index.remove(&key), Some(value));
    }
    assert!(index.is_empty());
    assert_eq!(region.usage().used, 0);
}

#[test]
fn it_agrees_with_a_map() {
    if cfg!(miri) { seeds(1, |seed| model(seed, 300)) } else { seeds(2_000, |seed| model(seed, 1_500)) }
}

#[test]
fn it_grows_past_its_directories_and_back() {
    if cfg!(miri) {
        return;
    }
    let region = region(500);
    let mut index = Index::new(&region, [1, 2]);
    let mut count = 0u64;
    while index.insert(&key(count), count).is_ok() {
        count += 1;
    }
    assert_eq!(region.usage().used, 500);
    assert!(count > 240_000, "{count} entries");
    assert!(index.longest_chain() < 14, "{}", index.longest_chain());
    assert!((0..count).all(|number| index.get(&key(number)) == Some(number)));
    assert!((0..count).all(|number| index.remove(&key(number)) == Some(number)));
    assert_eq!(region.usage().used, 0);
}

#[test]
fn an_entry_costs_what_is_said() {
    let region = region(1000);
    let mut index = Index::new(&region, [1, 2]);
    let count = if cfg!(miri) { 3_000 } else { 400_000 };
    (0..count).for_each(|number| assert_eq!(index.insert(&key(number), number), Ok(None)));
    let bytes = f64::from(index.page_count()) * super::PAGE_BYTES as f64 / count as f64;
    println!("{bytes:.2} bytes per entry");
    assert!(cfg!(miri) || bytes < 33.5, "{bytes}");
}

#[test]
fn ids_chosen_to_fall_together_do_not() {
    // Equal low bits, equal high bits, one bit set: shapes that break weak hashes.
    let shapes: [fn(u64) -> u64; 4] =
        [|i| i << 48, |i| i, |i| i.rotate_right(8), |i| i.wrapping_mul(1 << 32)];
    for shape in shapes {
        let region = region(60);
        let mut index = Index::new(&region, [7, 8]);
        for number in 0..if cfg!(miri) { 100 } else { 20_000 } {
            let key = Key { kind: 0, a: shape(number), b: 0 };
            index.insert(&key, number).expect("room");
        }
        assert!(index.longest_chain() < 14, "{}", index.longest_chain());
    }
}
