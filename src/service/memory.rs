//! The gates' state in files: read when a gate is first asked for, written before a permit leaves.

use std::time::{Duration, Instant};

use super::gates::{Gates, OWN};
use crate::queue::Snapshot;
use crate::state::Folder;

/// Where gates are kept, if anywhere.
#[derive(Debug)]
pub struct Memory {
    folder: Option<Folder>,
    own_hash: Option<String>,
    errors: u64,
}

impl Memory {
    /// Without a folder nothing outlives the process. `own_hash` names the service's own bot, where it has a token.
    pub fn new(folder: Option<Folder>, own_hash: Option<String>) -> Memory {
        Memory { folder, own_hash, errors: 0 }
    }

    /// How often the state could not be written.
    pub fn errors(&self) -> u64 {
        self.errors
    }

    /// The gate of `key` as it was, and how long ago that was at least.
    pub fn read(&self, wall_ms: u64, key: &str) -> Option<(Snapshot, Duration)> {
        self.folder.as_ref()?.read_identify(&self.file_name(key), wall_ms)
    }

    /// Brings back the gate of `key`, unless it is there.
    pub fn recall(&mut self, now: Instant, wall_ms: u64, key: &str, gates: &mut Gates) {
        if !gates.knows(key)
            && let Some((snapshot, elapsed)) = self.read(wall_ms, key)
        {
            // Where there is no room for it there is none for a new one either, and the request is refused.
            gates.restore(now, key, &snapshot, elapsed);
        }
    }

    /// Whether anything is kept.
    pub fn keeps(&self) -> bool {
        self.folder.is_some()
    }

    /// Writes what has changed.
    pub fn save(&mut self, wall_ms: u64, gates: &mut Gates) {
        let Some(folder) = &self.folder else {
            while gates.poll_unsaved().is_some() {}
            return;
        };
        let mut failed = Vec::new();
        while let Some((key, snapshot)) = gates.poll_unsaved() {
            if let Err(error) = folder.write_identify(&self.file_name(&key), &snapshot, wall_ms) {
                self.errors += 1;
                if self.errors.is_power_of_two() {
                    log::error!("session starts cannot be written to {}: {error}", folder.path().display());
                }
                failed.push(key);
            }
        }
        failed.iter().for_each(|key| gates.not_saved(key));
        while let Some(key) = gates.poll_forgotten() {
            folder.remove(&self.file_name(&key));
        }
    }

    /// A bot with a token has the same file under all its names.
    fn file_name(&self, key: &str) -> String {
        let key = if key == OWN { self.own_hash.as_deref().unwrap_or_default() } else { key };
        if key.is_empty() { "queue.json".to_owned() } else { format!("queue-{key}.json") }
    }
}
