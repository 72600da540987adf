//! Names of exchanges and queues -> keys, hashed with a seed that clients do not know, so that nobody can choose names
//! that all fall into one bucket.

use std::collections::HashMap;
use std::hash::{BuildHasher, DefaultHasher, Hasher};
use std::sync::Arc;

use super::slots::Key;

/// Hashes with SipHash, after the seed.
#[derive(Clone, Debug)]
pub(super) struct SeededState {
    seed: u64,
}

impl SeededState {
    pub(super) fn new(seed: u64) -> SeededState {
        SeededState { seed }
    }
}

impl BuildHasher for SeededState {
    type Hasher = DefaultHasher;

    fn build_hasher(&self) -> DefaultHasher {
        let mut hasher = DefaultHasher::new();
        hasher.write_u64(self.seed);
        hasher
    }
}

#[derive(Debug)]
pub(super) struct Names {
    by_name: HashMap<Arc<[u8]>, Key, SeededState>,
}

impl Names {
    pub(super) fn new(state: SeededState) -> Names {
        Names { by_name: HashMap::with_hasher(state) }
    }

    pub(super) fn get(&self, name: &[u8]) -> Option<Key> {
        self.by_name.get(name).copied()
    }

    pub(super) fn insert(&mut self, name: Arc<[u8]>, key: Key) {
        self.by_name.insert(name, key);
    }

    pub(super) fn remove(&mut self, name: &[u8]) {
        self.by_name.remove(name);
    }
}
