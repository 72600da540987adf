//! Deadlines by key, at most one per key: what is due, and when to wake next.

use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasherDefault, DefaultHasher};
use std::time::Instant;

/// A table of deadlines. Setting a key again replaces its deadline, so the table never holds more entries than
/// there are keys. Equal deadlines fire in key order, which keeps a simulation repeatable.
#[derive(Debug)]
pub struct Timers<K> {
    by_time: BTreeSet<(Instant, K)>,
    by_key: HashMap<K, Instant, BuildHasherDefault<DefaultHasher>>,
}

impl<K> Default for Timers<K> {
    fn default() -> Self {
        Timers { by_time: BTreeSet::new(), by_key: HashMap::default() }
    }
}

impl<K: Copy + Ord + std::hash::Hash> Timers<K> {
    /// Sets, moves or (with `None`) clears the deadline of `key`. Does nothing when it stands already.
    pub fn set(&mut self, key: K, deadline: Option<Instant>) {
        let old = self.by_key.get(&key).copied();
        if old == deadline {
            return;
        }
        if let Some(old) = old {
            self.by_time.remove(&(old, key));
        }
        match deadline {
            Some(at) => {
                self.by_key.insert(key, at);
                self.by_time.insert((at, key));
            }
            None => {
                self.by_key.remove(&key);
            }
        }
    }

    /// The earliest deadline.
    pub fn next(&self) -> Option<Instant> {
        self.by_time.first().map(|&(at, _)| at)
    }

    /// Takes one key whose deadline is not after `now`.
    pub fn pop_due(&mut self, now: Instant) -> Option<K> {
        let &(at, key) = self.by_time.first()?;
        if at > now {
            return None;
        }
        self.by_time.pop_first();
        self.by_key.remove(&key);
        Some(key)
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)] // A starting point for arithmetic; nothing depends on its value.
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn one_deadline_per_key_in_order() {
        let start = Instant::now();
        let at = |ms| Some(start + Duration::from_millis(ms));
        let mut timers = Timers::default();
        timers.set(1, at(30));
        timers.set(2, at(10));
        timers.set(1, at(20));
        timers.set(3, at(5));
        timers.set(3, None);
        assert_eq!(timers.next(), at(10));
        assert_eq!(timers.pop_due(start), None);
        let late = start + Duration::from_secs(1);
        assert_eq!(timers.pop_due(late), Some(2));
        assert_eq!(timers.pop_due(late), Some(1));
        assert_eq!(timers.pop_due(late), None);
        assert_eq!(timers.next(), None);
    }
}
