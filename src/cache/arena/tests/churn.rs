//! A week of a partition's life: members and presences that change, messages that pass, guilds that come and go.

use super::super::{Handle, Heap, PAGE_BYTES};
use super::{region, seeds};
use crate::base::Rng;

/// Pages' bytes to live bytes with headers and slots, besides [`FIXED_PAGES`].
const RATIO_MAX: f64 = 1.20;
/// Pages that are being filled or emptied, and the last page of slots.
const FIXED_PAGES: f64 = 4.0;

fn week(seed: u64, steps: u64, budget: usize) -> (f64, f64, u64) {
    let mut random = Rng::new(seed);
    let region = region(4_000);
    let mut heap = Heap::new(&region);
    let mut live: Vec<Handle> = Vec::new();
    let content = [0x5a; 8_000];
    let mut target = 20_000;
    let (mut worst, mut sum, mut samples) = (0f64, 0f64, 0u64);
    for step in 0..steps {
        if step % 60_000 == 0 {
            // The population doubles and halves.
            target = 5_000 + random.below(25_000) as usize;
        }
        let len = match random.below(100) {
            0..60 => 40 + random.below(120),
            60..90 => 100 + random.below(500),
            90..99 => 500 + random.below(1_500),
            _ => random.below(8_000),
        } as usize;
        let pick = random.below(live.len().max(1) as u64) as usize;
        if live.len() < target && random.chance(1, 3) {
            live.push(heap.insert(&content[..len]).expect("room"));
        } else if live.len() > target && random.chance(1, 2) {
            heap.free(live.swap_remove(pick));
        } else if !live.is_empty() && random.chance(1, 4) {
            heap.free(live.swap_remove(pick));
            live.push(heap.insert(&content[..len]).expect("room"));
        } else if let Some(&handle) = live.get(pick) {
            // An update mostly changes the length a little.
            let now = heap.len(handle).expect("alive") as u64;
            let len = (now + random.below(17)).saturating_sub(8).clamp(1, 8_000) as usize;
            heap.replace(handle, &content[..len]).expect("room");
        }
        heap.compact(budget);
        if step % 1_000 == 999 && step > 20_000 {
            let usage = heap.usage();
            let needed = usage.data_bytes + usage.blobs * 8;
            let ratio = (usage.page_bytes() as f64 - FIXED_PAGES * PAGE_BYTES as f64) / needed as f64;
            (worst, sum, samples) = (worst.max(ratio), sum + ratio, samples + 1);
        }
    }
    (worst, sum / samples as f64, heap.usage().moves)
}

#[test]
fn a_week_of_churn_stays_within_the_bound() {
    if cfg!(miri) {
        return;
    }
    seeds(3, |seed| {
        let (worst, mean, moves) = week(seed, 500_000, 2_048);
        println!("seed {seed}: used/needed worst {worst:.3}, mean {mean:.3}, {moves} moves in 500,000 steps");
        assert!(worst < RATIO_MAX, "{worst}");
    });
}

#[test]
fn what_a_mass_deletion_leaves_is_gathered() {
    let region = region(600);
    let mut heap = Heap::new(&region);
    let mut random = Rng::new(9);
    let count = if cfg!(miri) { 300 } else { 30_000 };
    let mut live: Vec<Handle> = (0..count).map(|_| heap.insert(&[1; 150]).expect("room")).collect();
    let full = heap.usage();
    for _ in 0..count * 9 / 10 {
        heap.free(live.swap_remove(random.below(live.len() as u64) as usize));
    }
    let mut spent = 0;
    loop {
        let now = heap.compact(4_096);
        assert!(now <= 4_096 + 2_048, "the budget");
        spent += now;
        if now == 0 {
            break;
        }
    }
    let usage = heap.usage();
    println!("{full:?} -> {usage:?}, {spent} bytes of work");
    assert!(f64::from(usage.data_pages) <= usage.data_bytes as f64 / PAGE_BYTES as f64 * 8.0 / 7.0 + 2.0);
    assert!(live.iter().all(|&handle| heap.get(handle) == Some(&[1; 150][..])));
}
