//! The gates' state in files: read when a gate is first asked for, written before a permit leaves.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::gates::{Gates, OWN};
use crate::queue::Snapshot;
use crate::state::Folder;

/// How many keys are remembered as looked for, so that a key without a gate costs one look at the disk. As many as
/// there may be gates, and some that were forgotten.
const LOOKED_FOR_MAX: usize = 4096;

/// Where gates are kept, if anywhere.
#[derive(Debug)]
pub struct Memory {
    folder: Option<Folder>,
    looked_for: BTreeSet<String>,
    errors: u64,
}

impl Memory {
    /// With `None`, nothing outlives the process.
    pub fn new(folder: Option<Folder>) -> Memory {
        Memory { folder, looked_for: BTreeSet::new(), errors: 0 }
    }

    /// How often the state could not be written.
    pub fn errors(&self) -> u64 {
        self.errors
    }

    /// The gate of `key` as it was, and how long ago that was at least.
    pub fn read(&self, wall_ms: u64, key: &str) -> Option<(Snapshot, Duration)> {
        self.folder.as_ref()?.read_identify(&file_name(key), wall_ms)
    }

    /// Brings back the gate of `key`, unless it is there.
    pub fn recall(&mut self, now: Instant, wall_ms: u64, key: &str, gates: &mut Gates) {
        if self.folder.is_none() || gates.knows(key) || self.looked_for.contains(key) {
            return;
        }
        if self.looked_for.len() >= LOOKED_FOR_MAX {
            self.looked_for.clear();
        }
        self.looked_for.insert(key.to_owned());
        if let Some((snapshot, elapsed)) = self.read(wall_ms, key)
            && !gates.restore(now, key, &snapshot, elapsed)
        {
            // Its request is refused now, and the next one has to find it.
            self.looked_for.remove(key);
        }
    }

    /// Writes what has changed.
    pub fn save(&mut self, wall_ms: u64, gates: &mut Gates) {
        while let Some((key, snapshot)) = gates.poll_unsaved() {
            let Some(folder) = &self.folder else { continue };
            // A gate that was forgotten is looked for again.
            self.looked_for.remove(&key);
            if let Err(error) = folder.write_identify(&file_name(&key), &snapshot, wall_ms) {
                self.errors += 1;
                if self.errors.is_power_of_two() {
                    log::error!("session starts cannot be written to {}: {error}", folder.path().display());
                }
            }
        }
    }
}

fn file_name(key: &str) -> String {
    if key == OWN { "queue.json".to_owned() } else { format!("queue-{key}.json") }
}
