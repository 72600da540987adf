//! What a thread tells the status page: filled in once a second, four times while somebody looks, at the end of a turn.
//!
//! Everything is read from what machines and clusters count anyway. Between two fillings this costs a comparison a turn.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::cluster::{Cluster, Link};
use super::home::{Home, Reactor};
use super::shard_slot::ShardSlot;
use super::shared::Shared;
use crate::base::Histogram;
use crate::cache;
use crate::gateway::shard::Cause;
use crate::reactor::Mesh;
use crate::relay::ShardTask;
use crate::status::figures as told;
use crate::status::{Board, Source, Subject};

use super::home::Message;

/// A thread's means to tell.
pub struct Figures {
    board: Arc<Board>,
    /// Brokers as they may be shown, in the order of their URIs.
    brokers: Box<[Arc<str>]>,
    told_at: Option<Instant>,
    /// What was told before the last time, for its memory.
    thread: told::Thread,
    /// What each cluster had counted when it was last told.
    before: Vec<Counted>,
    /// Heartbeats' round trips.
    pub heartbeats: Histogram,
    /// Clusters that have written something in the turn before.
    pub written: Vec<usize>,
}

/// Counters whose change is an incident.
#[derive(Clone, Copy, Default)]
struct Counted {
    is_paused: bool,
    overflows: u64,
    refusals: u64,
    shed: u64,
    losses: u64,
    damaged: u64,
    unframeable: u64,
}

impl Figures {
    /// For a thread with so many clusters.
    pub fn new(shared: &Shared, clusters: usize) -> Figures {
        Figures {
            board: shared.board.clone(),
            brokers: shared.uris.iter().map(|uri| uri.to_string().into()).collect(),
            told_at: None,
            thread: told::Thread::default(),
            before: vec![Counted::default(); clusters],
            heartbeats: Histogram::default(),
            written: Vec::new(),
        }
    }

    /// Whether it is time to tell again.
    fn is_due(&self, now: Instant) -> bool {
        let Some(told_at) = self.told_at else { return true };
        let passed = now.saturating_duration_since(told_at);
        passed >= crate::status::board::INTERVAL_WATCHED && passed >= self.board.interval(now)
    }
}

impl Home {
    /// Says when the writes of the turn before were over, which nobody knew then. At the beginning of a turn.
    pub(super) fn time_writes(&mut self, reactor: &Reactor) {
        for index in self.figures.written.drain(..) {
            self.clusters[index].publisher.outbox.written(reactor.ended);
        }
    }

    /// Notes an incident.
    pub(super) fn incident(&self, wall_ms: u64, kind: &'static str, subject: Subject, text: &str) {
        self.shared.board.incidents.note(wall_ms, kind, subject, text);
    }

    /// Tells, if it is time.
    pub(super) fn tell_figures(&mut self, reactor: &mut Reactor) {
        let now = reactor.turn.now;
        if !self.figures.is_due(now) {
            return;
        }
        self.figures.told_at = Some(now);
        let mut thread = std::mem::take(&mut self.figures.thread);
        thread.shards.clear();
        thread.clusters.clear();
        thread.totals = self.totals();
        thread.losses = self.losses();
        thread.identify = self.permits.as_ref().map(|permits| permits.figures());
        thread.timings = told::Timings { heartbeat: self.figures.heartbeats, ..told::Timings::default() };
        for slot in &self.shards {
            thread.shards.push(shard(slot, self.clusters[slot.cluster].number));
        }
        let limit = self.shared.spool_options().map_or(0, |options| options.bytes_max);
        for cluster in &self.clusters {
            let timing = &cluster.publisher.outbox.timing;
            thread.timings.receive_to_publish.add(&timing.receive_to_publish);
            thread.timings.publish_to_confirm.add(&timing.publish_to_confirm);
            let broker = self.figures.brokers.get(cluster.uri_index()).cloned().unwrap_or_default();
            thread.clusters.push(of_cluster(cluster, broker, limit));
        }
        self.note_changes(reactor.turn.wall_ms, &thread.clusters);
        if !self.figures.board.put(self.thread, &mut thread) {
            // Somebody reads just now: the next turn tries again.
            self.figures.told_at = None;
        }
        self.figures.thread = thread;
    }

    fn totals(&self) -> told::Totals {
        let mut totals = told::Totals {
            commands_forwarded: self.workers.forwarded,
            commands_refused: self.workers.refused,
            messages_ignored: self.workers.ignored,
            query_hits: self.queries.hits,
            query_misses: self.queries.misses,
            keep_errors: self.keep_errors,
            ..told::Totals::default()
        };
        for slot in &self.shards {
            let (flow, machine) = (&slot.seen.flow, &slot.seen.machine);
            totals.add(&told::Totals {
                payloads: flow.payloads,
                events: flow.published,
                replayed: flow.replayed,
                nameless: flow.nameless,
                filtered: flow.filtered,
                names_cut: flow.names_cut,
                payloads_broken: machine.payloads_broken,
                seq_jumps: machine.seq_jumps,
                heartbeats: machine.heartbeats,
                identifies: machine.identifies,
                resumes: machine.resumes,
                resumes_succeeded: machine.resumes_succeeded,
                resumes_failed: machine.resumes_failed,
                sessions_invalidated: machine.sessions_invalidated,
                sessions_lost: machine.sessions_lost,
                commands_waiting: slot.seen.commands_waiting as u64,
                ..told::Totals::default()
            });
        }
        totals
    }

    fn losses(&self) -> Vec<(&'static str, u64)> {
        let sum = |cause: usize| self.shards.iter().map(|slot| slot.seen.machine.links_lost[cause]).sum();
        Cause::LABELS.iter().enumerate().map(|(cause, label)| (*label, sum(cause))).collect()
    }

    /// What a cluster's counters say happened since they were last told.
    fn note_changes(&mut self, wall_ms: u64, clusters: &[told::Cluster]) {
        for (before, cluster) in self.figures.before.iter_mut().zip(clusters) {
            let spool = cluster.spool.as_ref();
            let now = Counted {
                is_paused: cluster.is_paused,
                overflows: cluster.overflows,
                refusals: cluster.disk_refusals,
                shed: spool.map_or(0, |spool| spool.shed.iter().map(|(_, count)| count).sum()),
                losses: spool.map_or(0, |spool| spool.losses),
                damaged: spool.map_or(0, |spool| spool.damaged),
                unframeable: cluster.unframeable,
            };
            let was = std::mem::replace(before, now);
            let subject = Subject::Cluster(cluster.number);
            let note = |kind, text: &str| self.shared.board.incidents.note(wall_ms, kind, subject, text);
            if now.is_paused && !was.is_paused {
                note("reading stopped", "the outbox is full, and nothing more can be kept");
            }
            if now.overflows > was.overflows {
                note("to disk", "the outbox is full: events go to the disk");
            }
            if now.refusals > was.refusals {
                note("disk", "the disk takes no more events");
            }
            if now.shed > was.shed {
                let text = "the disk is nearly full: events of the classes in SHED are left out";
                note("shed", text);
            }
            if now.losses > was.losses {
                note("gap", "events on disk could not be read back; workers were told (RATEWAY_GAP)");
            } else if now.damaged > was.damaged {
                note("disk", "something on disk is not what was written");
            }
            if now.unframeable > was.unframeable {
                note("event lost", "a bug in rateway: an event could not be framed again");
            }
        }
    }
}

fn shard(slot: &ShardSlot, cluster: u32) -> told::Shard {
    // What is confirmed is known here before the task hears of it.
    let session = slot.session.as_ref().map(|(hash, _)| *hash);
    let confirmed = slot.confirmed_up_to.filter(|(hash, _)| Some(*hash) == session).map(|(_, seq)| seq);
    told::Shard {
        id: slot.shard_id,
        cluster,
        state: slot.state.label(),
        changed_at: slot.seen.changed_at,
        heartbeat_rtt: slot.seen.heartbeat_rtt,
        seqs: slot.seen.received.map(|received| (received, confirmed)),
        events: slot.seen.flow.published,
        reconnects: slot.seen.machine.links_lost.iter().sum(),
    }
}

fn of_cluster(cluster: &Cluster, broker: Arc<str>, spool_bytes_max: u64) -> told::Cluster {
    let (publisher, stats) = (&cluster.publisher, &cluster.publisher.outbox.stats);
    let (unconfirmed, on_disk) = publisher.waiting();
    told::Cluster {
        number: cluster.number,
        broker,
        link: match &cluster.link {
            Link::Up(_) if cluster.publish_ready && cluster.blocked => "blocked",
            Link::Up(_) if cluster.publish_ready => told::PUBLISHING,
            Link::Up(_) => "opening",
            Link::Dialing(_) => "connecting",
            Link::Down { .. } => "down",
            Link::Closed => "closed",
        },
        is_paused: cluster.paused,
        is_spooling: publisher.is_spooling(),
        outbox_bytes: publisher.outbox.memory_bytes() as u64,
        outbox_bytes_max: publisher.outbox.memory_bytes_max() as u64,
        unconfirmed,
        on_disk,
        published: stats.published,
        confirmed: stats.confirmed,
        repeated: stats.repeated,
        refused: stats.refused,
        unframeable: stats.unframeable,
        confirms_unknown: stats.confirms_unknown,
        links_lost: cluster.links_lost,
        overflows: publisher.overflows,
        disk_refusals: publisher.refusals,
        deliveries: cluster.deliveries.len() as u64,
        spool: publisher.spool().map(|spool| {
            let stats = spool.stats();
            told::Spool {
                bytes: spool.bytes(),
                bytes_max: spool_bytes_max,
                appended: stats.appended,
                appended_bytes: stats.appended_bytes,
                drained: stats.drained,
                full: stats.full,
                damaged: stats.damaged,
                losses: stats.losses,
                io_errors: stats.io_errors,
                shed: stats.shed.clone(),
            }
        }),
    }
}

/// The process, as the page sees it.
pub struct Process {
    /// What all threads share.
    pub shared: Arc<Shared>,
    /// The threads.
    pub mesh: Arc<Mesh<ShardTask, Message>>,
}

impl Source for Process {
    fn idle(&self, now: Instant) -> Vec<Duration> {
        self.mesh.idle(now)
    }

    fn trouble(&self) -> (u64, u64) {
        self.shared.trouble()
    }

    fn cache(&self) -> Option<told::Cache> {
        let figures = self.shared.cache.as_ref()?.figures();
        let kind = |kind: &cache::KindFigures| told::CacheKind {
            kind: kind.name,
            held: kind.held,
            evicted: kind.evicted,
            refused: kind.refused,
        };
        Some(told::Cache {
            kinds: figures.kinds.iter().map(kind).collect(),
            unavailable_guilds: figures.unavailable_guilds,
            misfits: figures.misfits,
            broken: figures.broken,
            capacity_bytes: figures.capacity_bytes,
            used_bytes: figures.used_bytes,
            peak_bytes: figures.peak_bytes,
        })
    }

    fn reconnect(&self, shard: u32) {
        if let Some(thread) = self.shared.thread_of(shard) {
            self.mesh.post(thread, Message::Reconnect(shard));
        }
    }
}
