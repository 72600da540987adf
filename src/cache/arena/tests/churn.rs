//! A week of a partition's life: members and presences that change, messages that pass, guilds that come and go.

use super::super::{Key, PAGE_BYTES, Tree};
use super::{region, seeds};
use crate::base::Rng;

/// The least share of five neighbouring leaves that entries need, when none is larger than an eighth of a page: the
/// bound of tree/mod.rs.
const SHARE_MIN: f64 = 15.0 / 16.0 * 0.8 - 1.0 / 16.0 - 0.8 / 8.0;
/// Pages' bytes to live bytes in all.
const RATIO_MAX: f64 = 1.4;

struct Figures {
    worst: f64,
    mean: f64,
    sparsest: f64,
}

fn week(seed: u64, steps: u64) -> Figures {
    let mut random = Rng::new(seed);
    let region = region((64 << 20) / PAGE_BYTES);
    let mut tree = Tree::new(&region);
    let mut live: Vec<Key> = Vec::new();
    let content = [0x5a; 8_000];
    let mut target = 20_000;
    let mut scratch = Vec::new();
    let mut figures = Figures { worst: 0.0, mean: 0.0, sparsest: 1.0 };
    let mut samples = 0.0;
    for step in 0..steps {
        if step % 60_000 == 0 {
            // The population grows and shrinks.
            target = 5_000 + random.below(25_000) as usize;
        }
        let largest = PAGE_BYTES as u64 / 8;
        let len = match random.below(100) {
            0..60 => 40 + random.below(120),
            60..98 => 100 + random.below(largest / 4),
            _ => 100 + random.below(largest - 150),
        } as usize;
        let pick = random.below(live.len().max(1) as u64) as usize;
        let new = Key { kind: random.below(3) as u8, a: random.below(40) << 30, b: random.next_u64() >> 4 };
        if live.len() < target && random.chance(1, 3) {
            tree.put(new, &content[..len]).expect("room");
            live.push(new);
        } else if live.len() > target && random.chance(1, 2) {
            assert!(tree.remove(live.swap_remove(pick)));
        } else if !live.is_empty() && random.chance(1, 4) {
            assert!(tree.remove(live.swap_remove(pick)));
            tree.put(new, &content[..len]).expect("room");
            live.push(new);
        } else if let Some(&key) = live.get(pick) {
            // An update mostly changes the length a little.
            let now = tree.get(key, &mut scratch).expect("alive").len() as u64;
            let len = (now + random.below(17)).saturating_sub(8).clamp(1, largest - 50) as usize;
            tree.put(key, &content[..len]).expect("room");
        }
        if step % 1_000 == 999 && step > 20_000 {
            let usage = tree.usage();
            let ratio = usage.page_bytes() as f64 / usage.live_bytes as f64;
            figures.worst = figures.worst.max(ratio);
            figures.mean += ratio;
            samples += 1.0;
            if step % 20_000 == 19_999 {
                tree.check();
                figures.sparsest = figures.sparsest.min(tree.sparsest());
            }
        }
    }
    figures.mean /= samples;
    figures
}

#[test]
fn a_week_of_churn_stays_within_the_bound() {
    if cfg!(miri) {
        return;
    }
    seeds(4, |seed| {
        let Figures { worst, mean, sparsest } = week(seed, 1_000_000);
        println!("seed {seed}: pages/live worst {worst:.3}, mean {mean:.3}; sparsest five {sparsest:.3}");
        assert!(worst < RATIO_MAX && sparsest > SHARE_MIN, "{worst} {sparsest}");
    });
}

#[test]
fn what_a_mass_deletion_leaves_is_gathered() {
    let region = region((16 << 20) / PAGE_BYTES);
    let mut tree = Tree::new(&region);
    let mut random = Rng::new(9);
    let count = if cfg!(miri) { 300 } else { 50_000 };
    let mut live: Vec<Key> = (0..count).map(|_| Key { kind: 1, a: 5, b: random.next_u64() }).collect();
    live.iter().for_each(|&key| assert_eq!(tree.put(key, &[1; 150]), Ok(false)));
    let full = tree.usage();
    let (mut worst, mut sparsest) = (0f64, 1f64);
    for step in 0..count * 39 / 40 {
        assert!(tree.remove(live.swap_remove(random.below(live.len() as u64) as usize)));
        if step % 500 == 0 {
            let usage = tree.usage();
            worst = worst.max(usage.page_bytes() as f64 / usage.live_bytes as f64);
            sparsest = sparsest.min(tree.sparsest());
        }
    }
    tree.check();
    println!("{full:?} -> {:?}: worst {worst:.3}, sparsest five {sparsest:.3}", tree.usage());
    assert!(cfg!(miri) || (worst < 1.6 && sparsest > SHARE_MIN), "{worst} {sparsest}");
    assert!(live.iter().all(|&key| tree.get(key, &mut Vec::new()) == Some(&[1; 150][..])));
}
