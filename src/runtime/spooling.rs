//! What a home does for the disks of its clusters' publishers.

use std::collections::HashMap;
use std::fmt;

use super::clusters::note_spooled;
use super::home::{Home, Reactor};
use super::key::{Key, Owner};
use super::shared::{ClusterPlan, Shared};
use crate::config::Config;
use crate::publisher::{self, Publisher};
use crate::reactor::Turn;
use crate::relay::topology::exchange;
use crate::state::spool::{self, Spool};
use crate::state::{Stamp, boot_number};

/// What the settings say of spools, all clusters together.
pub(super) fn options(config: &Config) -> Option<spool::Options> {
    (config.spool_bytes > 0).then(|| spool::Options {
        bytes_max: config.spool_bytes,
        shed_from_percent: config.shed_from_percent,
        shed: config.shed.clone(),
        ..spool::Options::default()
    })
}

/// A cluster's publisher, without a disk yet.
pub(super) fn publisher(shared: &Shared, plan: &ClusterPlan, first_slot: usize) -> Publisher {
    Publisher::new(publisher::Options {
        cluster: plan.number,
        exchange: exchange(plan.number).into(),
        persistent: shared.persistent,
        shards: plan.shards.clone(),
        first_slot: first_slot as u32,
        outbox_bytes_max: shared.outbox_bytes_max(),
    })
}

/// Events that were left, and of which clusters.
#[derive(Default)]
struct Left {
    events: u64,
    clusters: usize,
    first: u32,
}

impl Left {
    fn note(&mut self, cluster: u32, events: u64) {
        if self.clusters == 0 {
            self.first = cluster;
        }
        self.events += events;
        self.clusters += 1;
    }
}

impl fmt::Display for Left {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.clusters {
            1 => write!(f, "{} events of cluster {}", self.events, self.first),
            clusters => write!(f, "{} events of {clusters} clusters", self.events),
        }
    }
}

impl Home {
    /// Opens the disks of this thread's clusters. Returns how far the events of sessions are there, by session hash.
    pub(super) fn open_spools(&mut self, turn: Turn) -> HashMap<u64, u64> {
        let mut reach = HashMap::new();
        let (Some(folder), Some(options)) = (self.shared.state.clone(), self.shared.spool_options()) else {
            return reach;
        };
        let boot = boot_number(&Stamp::read(turn.wall_ms));
        for cluster in &mut self.clusters {
            let number = cluster.number;
            // Another bot's events must not go to this one's workers.
            let path = folder.path().join(format!("spool-{}-{number}", self.shared.bot));
            let (spool, recovered) = match Spool::open(&path, spool::Options { boot, ..options.clone() }) {
                Ok(opened) => opened,
                Err(error) => {
                    log::warn!(
                        cluster = number;
                        "events do not go to the disk when the outbox is full: STATE_DIR {}: {error}", path.display()
                    );
                    continue;
                }
            };
            for note in &recovered.notes {
                log::warn!(cluster = number; "spooled events: {note}");
            }
            if recovered.notes_left_out > 0 {
                log::warn!(cluster = number; "spooled events: {} more notes like these", recovered.notes_left_out);
            }
            if recovered.records > 0 {
                log::info!(
                    cluster = number;
                    "{} events ({} KiB) of an earlier process wait on disk for the broker",
                    recovered.records, recovered.bytes / 1024
                );
            }
            reach.extend(recovered.reach.iter().map(|reach| (reach.session, reach.seq)));
            cluster.publisher.attach(spool);
        }
        reach
    }

    /// Lets a cluster's publisher move what has to be moved between memory and disk.
    pub(super) fn turn_publisher(&mut self, reactor: &mut Reactor, index: usize) {
        let cluster = &mut self.clusters[index];
        let mut link = cluster.wire();
        // What is on disk waits for the next process then.
        link.drains &= self.stopping.is_none();
        let shards = &mut self.shards;
        cluster.publisher.turn(reactor.turn, link, &mut |progress| note_spooled(shards, progress));
        if let Some(at) = cluster.publisher.deadline() {
            reactor.timers.set(Key::timer(Owner::Disk, index), Some(at));
        }
        if cluster.publisher.has_more() {
            self.copying = true;
            self.dirty_cluster(index);
        }
    }

    /// Puts what a broker that is away has not confirmed on disk, for the next process; `at_last` what any broker has not.
    pub(super) fn put_away(&mut self, reactor: &mut Reactor, at_last: bool) {
        if !at_last && !self.shards_are_stopped() {
            return;
        }
        // A line for all clusters: there may be a hundred, of one broker.
        let (mut kept, mut lost) = (Left::default(), Left::default());
        for cluster in &mut self.clusters {
            let link = cluster.wire();
            if cluster.publisher.is_settled() || (link.drains && !at_last) {
                continue;
            }
            let (memory, before) = cluster.publisher.waiting();
            let shards = &mut self.shards;
            let report = &mut |progress| note_spooled(shards, progress);
            if cluster.publisher.put_away(reactor.turn, link.frame_max, report) {
                kept.note(cluster.number, memory + before);
                cluster.publisher.outbox.forget();
            } else if at_last {
                lost.note(cluster.number, memory);
            }
        }
        if kept.clusters > 0 {
            log::info!("{kept} that the broker did not confirm are on disk, for the next start");
        }
        if lost.clusters > 0 {
            log::error!(
                "stopped with {lost} that the broker did not confirm; the next start asks Discord for them"
            );
        }
    }

    /// What has been to the disk since the start, once there is anything to tell.
    pub(super) fn log_spools(&self) {
        for cluster in &self.clusters {
            let Some(spool) = cluster.publisher.spool() else { continue };
            let (stats, (_, waiting)) = (spool.stats(), cluster.publisher.waiting());
            if stats.appended == 0 && stats.drained == 0 {
                continue;
            }
            let shed: Vec<String> = stats
                .shed
                .iter()
                .filter(|(_, count)| *count > 0)
                .map(|(class, count)| format!(", {count} {class} left out"))
                .collect();
            log::info!(
                cluster = cluster.number;
                "disk: {waiting} events wait ({} KiB); since the start {} written, {} read back{}, {} refusals",
                spool.bytes() / 1024, stats.appended, stats.drained, shed.concat(), stats.io_errors + stats.full
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_stop_leaves_is_summed_up_over_clusters() {
        let mut left = Left::default();
        left.note(3, 10);
        assert_eq!(left.to_string(), "10 events of cluster 3");
        left.note(4, 5);
        assert_eq!(left.to_string(), "15 events of 2 clusters");
    }
}
