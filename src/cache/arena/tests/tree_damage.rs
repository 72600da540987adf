//! Damaged pages: answers may be wrong, but there are answers.

use super::super::{Key, PAGE_BYTES, Tree};
use super::{region, seeds};
use crate::base::Rng;

fn key(random: &mut Rng) -> Key {
    Key { kind: random.below(3) as u8, a: random.below(3), b: random.below(3_000) }
}

#[test]
fn damage_is_survived() {
    seeds(if cfg!(miri) { 2 } else { 300 }, |seed| {
        let mut random = Rng::new(seed);
        let pages = 40;
        let region = region(pages);
        let mut tree = Tree::new(&region);
        let content = [5; 3 * PAGE_BYTES];
        let len = |random: &mut Rng| {
            let bound = if random.chance(1, 60) { 2 * PAGE_BYTES as u64 } else { 150 };
            random.below(bound)
        };
        for _ in 0..if cfg!(miri) { 100 } else { 2_500 } {
            let len = len(&mut random) as usize;
            let _ = tree.put(key(&mut random), &content[..len]);
        }
        let mut scratch = Vec::new();
        for _ in 0..10 {
            for _ in 0..random.below(5) {
                let page = random.below(pages as u64) as u32;
                for kind in [1, 2] {
                    let Some(bytes) = tree.pages_mut().get_mut(page, kind) else { continue };
                    match random.below(4) {
                        // Headers are hit as often as all the rest.
                        0 => bytes[random.below(27) as usize] = random.next_u64() as u8,
                        1 => bytes[random.below(PAGE_BYTES as u64) as usize] ^= 1 << random.below(8),
                        2 => bytes[random.below(400) as usize..][..500].fill(random.next_u64() as u8),
                        _ => bytes.iter_mut().for_each(|byte| *byte = random.next_u64() as u8),
                    }
                }
            }
            for _ in 0..if cfg!(miri) { 10 } else { 150 } {
                let (key, other) = (key(&mut random), key(&mut random));
                let len = len(&mut random) as usize;
                let _ = tree.put(key, &content[..len]);
                tree.remove(other);
                tree.get(other, &mut scratch);
                tree.get_mut(key);
                tree.first(key, other);
            }
            let (from, to) = (Key { kind: 0, a: 0, b: 0 }, Key { kind: 9, a: 0, b: 0 });
            for (_, value) in tree.range(from, to) {
                scratch.clear();
                value.read_into(&mut scratch);
            }
        }
        if seed % 2 == 0 {
            tree.clear();
            assert_eq!(region.usage().used, 0);
            assert_eq!(tree.put(key(&mut random), b"new"), Ok(false));
            tree.check();
        }
        drop(tree);
        assert_eq!(region.usage().used, 0, "pages come back all the same");
    });
}
