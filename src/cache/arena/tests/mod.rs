//! Models, exhaustion, threads and churn. Seeded tests print their seed and replay with RATEWAY_SEED.

mod churn;
mod region;
mod tree;
mod tree_damage;

use super::{PAGE_BYTES, Region};
use std::sync::Arc;

/// A region of `pages` pages.
fn region(pages: usize) -> Arc<Region> {
    Region::with_capacity(pages * PAGE_BYTES).expect("memory")
}

/// Runs `test` with each seed: the one in RATEWAY_SEED, or `count` from 0 on.
fn seeds(count: u64, test: impl Fn(u64)) {
    struct Tell(u64);
    impl Drop for Tell {
        fn drop(&mut self) {
            if std::thread::panicking() {
                eprintln!("replay with RATEWAY_SEED={}", self.0);
            }
        }
    }
    let chosen = std::env::var("RATEWAY_SEED").ok().and_then(|seed| seed.parse().ok());
    let range = chosen.map_or(0..count, |seed: u64| seed..seed + 1);
    for seed in range {
        let _tell = Tell(seed);
        test(seed);
    }
}
