//! The gates' state in files: read when a gate is first asked for, written before a permit leaves.

use std::time::{Duration, Instant, UNIX_EPOCH};

use super::gates::{Gates, OWN};
use crate::queue::Snapshot;
use crate::state::Folder;

/// How many bots' files there may be; beyond, the gates in memory stay where they are and no others come. 10,000 take
/// 40 MB on most disks.
const FILES_MAX: usize = 10_000;

/// How long a file is kept that nobody writes: what it says does not count any more, a day and its margins later.
const FILE_LIFETIME: Duration = Duration::from_secs(3 * 24 * 3600);

/// Where gates are kept, if anywhere.
#[derive(Debug)]
pub struct Memory {
    folder: Option<Folder>,
    own_hash: Option<String>,
    files: usize,
    errors: u64,
}

impl Memory {
    /// Without a folder nothing outlives the process. `own_hash` names the service's own bot, where it has a token.
    /// The wall clock says `wall_ms`.
    pub fn new(folder: Option<Folder>, own_hash: Option<String>, wall_ms: u64) -> Memory {
        let mut memory = Memory { folder, own_hash, files: 0, errors: 0 };
        memory.sweep(wall_ms);
        memory
    }

    /// Removes what does not count any more, and counts the rest.
    fn sweep(&mut self, wall_ms: u64) {
        let now = UNIX_EPOCH + Duration::from_millis(wall_ms);
        if let Some(folder) = &self.folder {
            self.files = folder.sweep("queue-", FILE_LIFETIME, now).unwrap_or(self.files);
        }
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
        if self.folder.is_none() {
            while gates.poll_unsaved().is_some() {}
            return;
        }
        if self.files >= FILES_MAX && gates.keeps() {
            self.sweep(wall_ms);
            if self.files >= FILES_MAX {
                log::warn!("{FILES_MAX} bots have asked within three days: no others are served");
                gates.keep_no_others();
            }
        }
        let Some(folder) = &self.folder else { return };
        let mut failed = Vec::new();
        while let Some((key, snapshot)) = gates.poll_unsaved() {
            let name = self.file_name(&key);
            self.files += usize::from(!folder.has(&name));
            if let Err(error) = folder.write_identify(&name, &snapshot, wall_ms) {
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
