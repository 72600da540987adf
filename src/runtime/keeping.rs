//! What a thread keeps for the next process: the sessions of its shards.
//!
//! Written together, at most every few milliseconds, so that it costs no system call per event. A process that is
//! killed loses at most that much of what was confirmed; Discord then sends it again, and it is published as a repeat.

use std::collections::HashMap;
use std::time::Duration;

use super::home::{Home, Reactor, TIMER_KEEPING};
use super::key::{Key, Owner};
use crate::base::sha256_hex;
use crate::gateway::session::session_hash;
use crate::reactor::Turn;
use crate::relay::gap::Gap;
use crate::state::{Folder, Found, Sessions, Stamp};

/// How often sessions are written while events flow.
const KEEP_INTERVAL: Duration = Duration::from_millis(5);

/// How old a session may be to be tried. Discord keeps one for some minutes; trying one that is gone costs a connection,
/// not trying one that is there costs a session start and every event since.
const SESSION_AGE_MAX: Duration = Duration::from_secs(3600);

impl Home {
    /// Opens what an earlier process left for the clusters of this thread.
    ///
    /// `reach` says how far the events of a session are on disk, by its hash.
    pub(super) fn recall_sessions(&mut self, turn: Turn, reach: &HashMap<u64, u64>) {
        let Some(folder) = self.shared.state.clone() else { return };
        for index in 0..self.clusters.len() {
            let number = self.clusters[index].number;
            let opened = Sessions::open(
                &folder,
                &format!("sessions-{number}"),
                self.clusters[index].shards.clone(),
                self.shared.identity,
                turn.wall_ms,
            );
            match opened {
                Ok((sessions, found)) => {
                    self.clusters[index].sessions = Some(sessions);
                    for (slot, found) in self.clusters[index].slots.clone().zip(found) {
                        if let Some(found) = found {
                            self.recall_session(turn, slot, found, reach);
                        }
                    }
                }
                Err(error) => log::warn!(
                    cluster = number;
                    "sessions are not kept over a restart: STATE_DIR {}: {error}", folder.path().display()
                ),
            }
        }
        if let Some(cache) = &self.shared.cache {
            // A shard that begins anew is told everything; until then nothing is better than what is out of date.
            for slot in self.shards.iter().filter(|slot| slot.inherited.is_none()) {
                cache.forget(slot.shard_id);
            }
        }
        for cluster in &self.clusters {
            let count =
                self.shards[cluster.slots.clone()].iter().filter(|slot| slot.inherited.is_some()).count();
            if count > 0 {
                log::info!(cluster = cluster.number; "{count} sessions of an earlier process are resumed");
            }
        }
    }

    fn recall_session(&mut self, turn: Turn, index: usize, found: Found, reach: &HashMap<u64, u64>) {
        let Found { mut kept, age, same_settings } = found;
        let slot = &mut self.shards[index];
        let shard = slot.shard_id;
        let session_hash = session_hash(kept.id.expose());
        // How far the broker had them; what is on disk besides goes out first, and RESUME asks for what follows. Only the
        // former is written again, as a power cut may take the disk's end and leave this.
        slot.confirmed_up_to = (kept.seq > 0).then_some((session_hash, kept.seq));
        kept.seq = kept.seq.max(reach.get(&session_hash).copied().unwrap_or(0));
        let cached = self.shared.cached.get(&shard).filter(|position| position.session == session_hash);
        let why = if age > SESSION_AGE_MAX {
            return log::debug!(shard; "a session of long ago is left alone");
        } else if kept.shard_count != self.shared.shard_count {
            "the bot has another number of shards now"
        } else if !same_settings {
            "INTENTS or COMPRESSION are others now"
        } else if kept.seq == 0 {
            "nothing of it had reached the broker"
        } else if self.shared.cache.is_some() && cached.is_none() {
            // Discord does not tell again what the cache has forgotten.
            "the cache begins anew"
        } else {
            // An event is cached before the broker confirms it, so this changes nothing, unless files were exchanged.
            kept.seq = cached.map_or(kept.seq, |position| position.seq.min(kept.seq));
            slot.inherit(session_hash, kept);
            return;
        };
        log::info!(shard; "the session of an earlier process is not resumed: {why}");
        let gap = Gap {
            session_hash,
            last_seq: kept.seq,
            from_ms: turn.wall_ms.saturating_sub(age.as_millis() as u64),
            reason: format!("restarted, and {why}"),
        };
        if let Some(task) = &mut slot.task {
            task.put_gap(Some(gap));
        }
    }

    /// Writes what has changed, if that is some time ago; `at_once` at the end.
    pub(super) fn keep_sessions(&mut self, reactor: &mut Reactor, at_once: bool) {
        let now = reactor.turn.now;
        if self.shared.state.is_none() {
            return;
        }
        if !at_once && now < self.keep_at {
            reactor.timers.set(Key::timer(Owner::Thread, TIMER_KEEPING), Some(self.keep_at));
            return;
        }
        self.keep_at = now + KEEP_INTERVAL;
        self.unkept = false;
        let mut stamp = None;
        for cluster in &mut self.clusters {
            let Some(sessions) = &mut cluster.sessions else { continue };
            for slot in &mut self.shards[cluster.slots.clone()] {
                if std::mem::take(&mut slot.unkept) {
                    let stamp = stamp.get_or_insert_with(|| Stamp::read(reactor.turn.wall_ms));
                    sessions.set(slot.shard_id, slot.kept().as_ref(), stamp);
                }
            }
            if let Err(error) = sessions.write() {
                self.keep_errors += 1;
                if self.keep_errors.is_power_of_two() {
                    log::error!(cluster = cluster.number; "sessions cannot be written to STATE_DIR: {error}; a restart may have to identify");
                }
            }
        }
    }

    /// Forgets all sessions of this thread: they were ended.
    pub(super) fn forget_sessions(&mut self) {
        for cluster in &mut self.clusters {
            let Some(sessions) = &mut cluster.sessions else { continue };
            for shard in cluster.shards.clone() {
                sessions.set(shard, None, &Stamp::default());
            }
            // What stays is refused by Discord, which costs a connection each.
            let _ = sessions.write();
        }
    }
}

/// What tells one bot's sessions from another's, in the first half, and those that cannot be taken up with other settings.
pub fn identity(token: &str, intents: u64, query: &str) -> [u8; 32] {
    let (bot, settings) = (sha256_hex(token), sha256_hex(&format!("{intents}|{query}")));
    let mut out = [0; 32];
    // 64 bits of each, already text. The token's own hash is one that others know too, so it is hashed again.
    out[..16].copy_from_slice(&sha256_hex(&bot).as_bytes()[..16]);
    out[16..].copy_from_slice(&settings.as_bytes()[..16]);
    out
}

/// The folder, if it is there.
pub type State = Option<std::sync::Arc<Folder>>;
