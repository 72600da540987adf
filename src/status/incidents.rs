//! What went wrong lately, for people: the last hundred incidents.
//!
//! The same thing happening to many shards at once is one incident with a number, so that an outage does not push out
//! everything that led to it.

use std::collections::VecDeque;
use std::fmt;

use parking_lot::Mutex;

/// How many are kept: what a person reads, not an archive; the log has all.
const INCIDENTS_MAX: usize = 100;

/// Characters of a text.
const TEXT_CHARS_MAX: usize = 300;

/// How long after the last one the same incident is counted and not told again.
const SAME_WITHIN_MS: u64 = 10_000;

/// Whom it happened to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A shard.
    Shard(u32),
    /// A cluster.
    Cluster(u32),
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Subject::Shard(id) => write!(f, "shard {id}"),
            Subject::Cluster(number) => write!(f, "cluster {number}"),
        }
    }
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incident {
    /// When it happened first and last, in Unix milliseconds.
    pub first_ms: u64,
    /// See [`Incident::first_ms`].
    pub last_ms: u64,
    /// Of what kind it is, in a word or two.
    pub kind: &'static str,
    /// Whom it happened to first.
    pub subject: Subject,
    /// What happened.
    pub text: String,
    /// How many times, to whomever.
    pub times: u64,
}

/// The last incidents.
#[derive(Debug, Default)]
pub struct Incidents(Mutex<VecDeque<Incident>>);

impl Incidents {
    /// Notes an incident. `text` must hold no secret.
    pub fn note(&self, wall_ms: u64, kind: &'static str, subject: Subject, text: &str) {
        let text: String = text.chars().take(TEXT_CHARS_MAX).collect();
        let mut ring = self.0.lock();
        let recent = |incident: &&mut Incident| wall_ms.saturating_sub(incident.last_ms) < SAME_WITHIN_MS;
        // The last few are looked at, as two clusters may take turns.
        let same = ring.iter_mut().rev().take(4).take_while(recent);
        for incident in same {
            if incident.kind == kind && incident.text == text {
                incident.times += 1;
                incident.last_ms = wall_ms;
                return;
            }
        }
        if ring.len() == INCIDENTS_MAX {
            ring.pop_front();
        }
        ring.push_back(Incident { first_ms: wall_ms, last_ms: wall_ms, kind, subject, text, times: 1 });
    }

    /// All, the latest first.
    pub fn latest_first(&self) -> Vec<Incident> {
        self.0.lock().iter().rev().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_hundred_are_kept() {
        let incidents = Incidents::default();
        for at in 0..150 {
            incidents.note(at * 20_000, "disconnect", Subject::Shard(at as u32), "it ended");
        }
        let all = incidents.latest_first();
        assert_eq!(all.len(), INCIDENTS_MAX);
        assert_eq!((all[0].subject, all[99].subject), (Subject::Shard(149), Subject::Shard(50)));
    }

    #[test]
    fn the_same_to_many_is_one() {
        let incidents = Incidents::default();
        for shard in 0..1000 {
            incidents.note(u64::from(shard), "disconnect", Subject::Shard(shard), "it ended");
            incidents.note(u64::from(shard), "broker", Subject::Cluster(1), "it is away");
        }
        incidents.note(99_000, "disconnect", Subject::Shard(5), "it ended");
        let all = incidents.latest_first();
        let told: Vec<_> = all.iter().map(|i| (i.kind, i.subject, i.times, i.first_ms, i.last_ms)).collect();
        assert_eq!(
            told,
            [
                ("disconnect", Subject::Shard(5), 1, 99_000, 99_000),
                ("broker", Subject::Cluster(1), 1000, 0, 999),
                ("disconnect", Subject::Shard(0), 1000, 0, 999),
            ]
        );
    }

    #[test]
    fn texts_are_cut() {
        let incidents = Incidents::default();
        incidents.note(0, "disconnect", Subject::Shard(0), &"\u{e9}".repeat(1000));
        assert_eq!(incidents.latest_first()[0].text.chars().count(), TEXT_CHARS_MAX);
    }
}
