//! What lives on one thread: its clusters, the sockets of their shards, and on thread 0 the identify queue.
//!
//! ```text
//! shard socket -> window -> task (here or on a thief) -> batch -> cluster outbox -> broker socket
//! broker socket -> client -> confirms -> outbox; deliveries -> commands -> task -> shard socket
//! ```

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::base::{Buf, Rng};
use crate::gateway::shard::{Input, Shard, State};
use crate::http::{self, GatewayBot};
use crate::reactor::{self, Outcome, Readiness, Resolver, Turn};
use crate::relay::outbox::Batch;
use crate::relay::{Framing, ShardTask, TaskInput};

use super::cluster::{self, Cluster, LinkError};
use super::clusters::note_confirmed;
use super::figures::Figures;
use super::key::{Key, Owner};
use super::permits::{Permits, Wish};
use super::queries::Queries;
use super::shard_slot::{self, ShardSlot, WINDOW_BYTES};
use super::shared::Shared;
use super::spooling;
use super::workers::Workers;

/// What threads tell each other.
pub enum Message {
    /// The resolver's answer for the dial with this token.
    Resolved(usize, io::Result<Vec<SocketAddr>>),
    /// To the thread of the identify queue.
    Permits(Wish),
    /// To a shard's thread: the shard of this ticket may identify.
    Permit(u64),
    /// To the thread of the identify queue: what Discord says of session starts now.
    SessionStarts(Result<GatewayBot, http::Error>),
    /// To a shard's thread: the operator wants a new connection for it.
    Reconnect(u32),
    /// Stop; with `end_sessions` the sessions are given up.
    Stop {
        /// Close with 1000 rather than 4000.
        end_sessions: bool,
    },
}

pub(super) type Reactor = reactor::Reactor<ShardTask, Message>;

/// How many windows a thread reads per turn: bounds its memory and the length of a turn.
pub(super) const WINDOWS_PER_TURN: usize = 32;

/// How many spare batches a thread keeps, of [`outbox::BATCH_BYTES_MAX`] mostly and rarely more: as many as the windows of a
/// turn may fill. Further ones stay with their cluster.
const SPARES_MAX: usize = WINDOWS_PER_TURN;

/// How often the state of things is logged.
const STATUS_INTERVAL: Duration = Duration::from_secs(60);

/// The shortest stop: close frames go out in its first turn, and shards that are away come home for it.
const GOODBYE_TIMEOUT: Duration = Duration::from_millis(500);

/// Timers of the thread itself.
const TIMER_STATUS: usize = 0;
pub(super) const TIMER_PERMITS: usize = 1;
const TIMER_STOP: usize = 2;
pub(super) const TIMER_KEEPING: usize = 3;

/// Who finds addresses.
#[derive(Clone)]
pub struct Resolvers {
    /// Of Discord's gateway.
    pub discord: Resolver,
    /// Of brokers.
    pub brokers: Resolver,
}

/// One thread's share of the process.
pub struct Home {
    pub(super) thread: usize,
    pub(super) shared: Arc<Shared>,
    pub(super) resolvers: Resolvers,
    pub(super) clusters: Vec<Cluster>,
    pub(super) shards: Vec<ShardSlot>,
    pub(super) permits: Option<Permits>,
    pub(super) workers: Workers,
    pub(super) queries: Queries,
    pub(super) readable: VecDeque<usize>,
    pub(super) windows: Vec<Buf>,
    /// Memory of confirmed batches for the next ones, whichever cluster they are of: what was used last is in the
    /// processor's cache.
    pub(super) spares: Vec<Batch>,
    pub(super) dirty_shards: Vec<usize>,
    readable_clusters: Vec<usize>,
    dirty_clusters: Vec<usize>,
    /// Whether the threads are stopping, and if so, whether sessions are to end.
    pub(super) stopping: Option<bool>,
    gave_up: bool,
    reported: u64,
    /// When sessions may be written again, and how often that has failed.
    pub(super) keep_at: Instant,
    pub(super) keep_errors: u64,
    /// Something may have to be kept: looked at where confirms come in and tasks come back.
    pub(super) unkept: bool,
    /// A cluster's outbox is being copied to the disk, in pieces.
    pub(super) copying: bool,
    pub(super) figures: Figures,
    pub(super) rng: Rng,
}

impl Home {
    /// The home of `thread` with the clusters that fall to it.
    pub fn new(
        thread: usize,
        shared: Arc<Shared>,
        resolvers: Resolvers,
        permits: Option<Permits>,
        turn: Turn,
        seed: u64,
    ) -> Home {
        let mut rng = Rng::new(seed);
        let mut clusters = Vec::new();
        let mut next_slot = 0;
        for (_, plan) in shared.clusters_of(thread) {
            let slots = next_slot..next_slot + plan.shards.len();
            next_slot = slots.end;
            let publisher = spooling::publisher(&shared, plan, slots.start);
            let uris = shared.uris.clone();
            clusters.push(Cluster::new(
                plan.number,
                plan.shards.clone(),
                slots,
                publisher,
                uris,
                turn.now,
                rng.next_u64(),
            ));
        }
        let figures = Figures::new(&shared, clusters.len());
        Home {
            thread,
            figures,
            shared,
            resolvers,
            clusters,
            shards: Vec::new(),
            permits,
            workers: Workers::default(),
            queries: Queries::default(),
            readable: VecDeque::new(),
            windows: Vec::new(),
            spares: Vec::new(),
            dirty_shards: Vec::new(),
            readable_clusters: Vec::new(),
            dirty_clusters: Vec::new(),
            stopping: None,
            gave_up: false,
            reported: 0,
            keep_at: turn.now,
            keep_errors: 0,
            unkept: false,
            copying: false,
            rng,
        }
    }

    /// Sets the first timers and makes the slots. Shards begin when their cluster's exchange stands.
    pub fn start(&mut self, reactor: &mut Reactor) {
        let now = reactor.turn.now;
        for index in 0..self.clusters.len() {
            let (ids, number) = (self.clusters[index].shards.clone(), self.clusters[index].number);
            let exchange: Arc<str> = crate::relay::topology::exchange(number).into();
            for shard_id in ids {
                let framing = Framing {
                    exchange: exchange.clone(),
                    frame_max: cluster::FRAME_MAX_DEFAULT,
                    ready_secrets: self.shared.ready_secrets,
                    persistent: self.shared.persistent,
                    events: self.shared.events.clone(),
                };
                // A placeholder until the cluster starts, see `start_shards`; it can be told to stop.
                let options = self.shared.shard_options.clone();
                let shard = Shard::new(options, shard_id, self.rng.next_u64(), now, None);
                let task = ShardTask::new(
                    self.thread,
                    self.shards.len(),
                    shard,
                    framing,
                    self.shared.task_options.clone(),
                    reactor.turn,
                );
                self.shards.push(ShardSlot::new(shard_id, index, Box::new(task)));
            }
            self.arm_cluster(reactor, index);
        }
        let reach = self.open_spools(reactor.turn);
        self.recall_sessions(reactor.turn, &reach);
        reactor.timers.set(Key::timer(Owner::Thread, TIMER_STATUS), Some(now + STATUS_INTERVAL));
    }

    /// Remembers to read a cluster's link.
    pub(super) fn readable_cluster(&mut self, index: usize) {
        if !std::mem::replace(&mut self.clusters[index].readable, true) {
            self.readable_clusters.push(index);
        }
    }

    /// Remembers to write what a cluster's link has when the turn ends.
    pub(super) fn dirty_cluster(&mut self, index: usize) {
        if !std::mem::replace(&mut self.clusters[index].dirty, true) {
            self.dirty_clusters.push(index);
        }
    }

    fn stop(&mut self, reactor: &mut Reactor, end_sessions: bool) {
        if self.stopping.replace(end_sessions).is_some() {
            return;
        }
        let deadline = reactor.turn.now + self.shared.stop_timeout.max(GOODBYE_TIMEOUT);
        reactor.timers.set(Key::timer(Owner::Thread, TIMER_STOP), Some(deadline));
        for index in 0..self.clusters.len() {
            self.clusters[index].started = true;
            for slot in self.clusters[index].slots.clone() {
                self.tell(reactor, slot, TaskInput::Shard(Input::Stop { end_session: end_sessions }));
            }
        }
    }

    fn is_stopped(&self) -> bool {
        self.gave_up
            || (self.shards_are_stopped()
                && self.clusters.iter().all(|cluster| cluster.publisher.is_settled()))
    }

    /// Whether no shard has anything more to say, or to bring.
    pub(super) fn shards_are_stopped(&self) -> bool {
        self.shards.iter().all(|slot| {
            slot.task.is_some() && matches!(slot.state, State::Stopped | State::Fatal) && !slot.has_outgoing()
        })
    }

    fn log_status(&mut self) {
        let up = self.shards.iter().filter(|slot| slot.state == State::Active).count();
        let sum = |part: fn(&Cluster) -> u64| self.clusters.iter().map(part).sum::<u64>();
        let published = sum(|cluster| cluster.publisher.outbox.stats.published);
        let unconfirmed = sum(|cluster| cluster.publisher.waiting().0);
        let bytes = sum(|cluster| cluster.publisher.outbox.memory_bytes() as u64);
        let events = published - std::mem::replace(&mut self.reported, published);
        if !self.shards.is_empty() {
            log::info!(
                "{up} of {} shards up; {events} events in the last minute, {unconfirmed} unconfirmed ({} KiB)",
                self.shards.len(),
                bytes / 1024
            );
        }
        // What limits and faults have cost since the start, once there is anything to tell.
        let lost = sum(|cluster| {
            cluster.publisher.outbox.stats.refused + cluster.publisher.outbox.stats.unframeable
        });
        let repeated = sum(|cluster| cluster.publisher.outbox.stats.repeated);
        let links = sum(|cluster| cluster.links_lost);
        let (pauses, panics) = self.shared.trouble();
        let (refused, ignored) = (self.workers.refused, self.workers.ignored);
        if lost + repeated + links + pauses + panics + refused + ignored > 0 {
            log::info!(
                "since the start: {lost} events lost to the broker's refusal, {repeated} published again, {links} \
                 broker links lost, reading stopped {pauses} times by a full outbox, {panics} panics; of workers' \
                 messages {} forwarded, {refused} refused, {ignored} not understood",
                self.workers.forwarded
            );
        }
        self.log_spools();
        let (hits, misses) = (self.queries.hits, self.queries.misses);
        if hits + misses > 0 {
            log::info!("cache queries since the start: {hits} found what they asked for, {misses} did not");
        }
    }
}

impl reactor::Home for Home {
    type Task = ShardTask;
    type Message = Message;

    fn on_ready(&mut self, reactor: &mut Reactor, token: usize, ready: Readiness) {
        let Key { owner, generation, index } = Key::unpack(token);
        match owner {
            Owner::Shard => {
                let Some(slot) = self.shards.get_mut(index).filter(|slot| slot.generation == generation)
                else {
                    return;
                };
                match &mut slot.link {
                    shard_slot::Link::Closed => {}
                    shard_slot::Link::Dialing(dial, _) => {
                        dial.note(ready);
                        self.poll_shard_dial(reactor, index);
                    }
                    shard_slot::Link::Open(socket) => {
                        socket.note(ready);
                        if slot.has_outgoing() {
                            self.dirty_shards.push(index);
                        }
                        self.queue_readable(index);
                    }
                }
            }
            Owner::Cluster => {
                let Some(cluster) =
                    self.clusters.get_mut(index).filter(|cluster| cluster.generation == generation)
                else {
                    return;
                };
                match &mut cluster.link {
                    cluster::Link::Dialing(dial) => {
                        dial.note(ready);
                        self.poll_cluster_dial(reactor, index);
                    }
                    cluster::Link::Up(up) => {
                        up.socket().note(ready);
                        if ready.readable {
                            self.readable_cluster(index);
                        }
                        if ready.writable {
                            self.dirty_cluster(index);
                        }
                    }
                    cluster::Link::Down { .. } | cluster::Link::Closed => {}
                }
            }
            Owner::Asking => {
                if let Some(Permits::Remote(remote)) = &mut self.permits {
                    remote.on_ready(reactor, token, ready);
                    self.grant(reactor);
                }
            }
            Owner::ShardDial | Owner::Thread | Owner::Disk => {}
        }
    }

    fn on_message(&mut self, reactor: &mut Reactor, message: Message) {
        match message {
            Message::Resolved(token, found) => {
                let (registry, now) = (reactor.registry(), reactor.turn.now);
                let Key { owner, index, .. } = Key::unpack(token);
                if owner == Owner::Asking {
                    if let Some(Permits::Remote(remote)) = &mut self.permits {
                        remote.resolved(reactor, token, found);
                    }
                } else if owner == Owner::Cluster {
                    if let cluster::Link::Dialing(dial) = &mut self.clusters[index].link
                        && dial.token() == token
                    {
                        match dial.resolved(registry, now, found) {
                            Ok(()) => self.arm_cluster(reactor, index),
                            Err(error) => self.link_lost(reactor, index, &LinkError::Io(error)),
                        }
                    }
                } else if let shard_slot::Link::Dialing(dial, _) = &mut self.shards[index].link
                    && dial.token() == token
                {
                    match dial.resolved(registry, now, found) {
                        Ok(()) => reactor.timers.set(Key::timer(Owner::ShardDial, index), dial.deadline),
                        Err(error) => self.dial_failed(reactor, index, &error.to_string()),
                    }
                }
            }
            Message::Permit(ticket) => self.permitted(reactor, ticket),
            Message::Permits(wish) => self.tell_permits(reactor, wish),
            Message::SessionStarts(told) => {
                if let Some(permits) = &mut self.permits {
                    permits.told(reactor.turn.now, &told);
                    self.grant(reactor);
                }
            }
            Message::Reconnect(shard) => {
                if let Some(slot) = self.slot_of(shard) {
                    self.tell(reactor, slot, TaskInput::Shard(Input::Renew));
                }
            }
            Message::Stop { end_sessions } => self.stop(reactor, end_sessions),
        }
    }

    fn on_deadline(&mut self, reactor: &mut Reactor, key: usize) {
        let Key { owner, index, .. } = Key::unpack(key);
        match owner {
            // The task looks at its deadline itself whenever it runs; while it is away it will when it is back.
            Owner::Shard => self.spawn(reactor, index),
            Owner::Cluster => self.cluster_deadline(reactor, index),
            Owner::ShardDial => {
                let (registry, now) = (reactor.registry(), reactor.turn.now);
                if let shard_slot::Link::Dialing(dial, _) = &mut self.shards[index].link {
                    match dial.attempt_timed_out(registry, now) {
                        Ok(()) => reactor.timers.set(key, dial.deadline),
                        Err(error) => self.dial_failed(reactor, index, &error.to_string()),
                    }
                }
            }
            Owner::Asking => {
                if let Some(Permits::Remote(remote)) = &mut self.permits {
                    remote.on_deadline(reactor, index);
                }
            }
            Owner::Disk => self.dirty_cluster(index),
            Owner::Thread => match index {
                TIMER_STATUS => {
                    self.log_status();
                    reactor.timers.set(key, Some(reactor.turn.now + STATUS_INTERVAL));
                }
                TIMER_PERMITS => {
                    if let Some(permits) = &mut self.permits {
                        permits.handle_deadline(reactor.turn.now);
                    }
                    self.grant(reactor);
                }
                // `flush` keeps.
                TIMER_KEEPING => {}
                _ => {
                    self.put_away(reactor, true);
                    self.gave_up = true;
                }
            },
        }
    }

    fn fill(&mut self, reactor: &mut Reactor) -> bool {
        self.time_writes(reactor);
        let mut clusters = std::mem::take(&mut self.readable_clusters);
        for index in clusters.drain(..) {
            self.clusters[index].readable = false;
            if self.read_cluster(reactor, index) {
                self.readable_cluster(index);
            }
            self.collect_spares(index);
        }
        if self.readable_clusters.is_empty() {
            self.readable_clusters = clusters;
        }
        for _ in 0..WINDOWS_PER_TURN {
            let Some(index) = self.readable.pop_front() else { break };
            self.shards[index].queued = false;
            if !self.shards[index].is_readable() {
                continue;
            }
            let window = self.windows.pop().unwrap_or_else(|| Buf::with_capacity(WINDOW_BYTES));
            self.shards[index].fill(reactor.turn.now, window);
            self.spawn(reactor, index);
            self.queue_readable(index);
        }
        !self.readable_clusters.is_empty() || !self.readable.is_empty()
    }

    fn has_unread(&self) -> bool {
        !self.readable.is_empty() || !self.readable_clusters.is_empty() || self.copying
    }

    fn on_task(&mut self, reactor: &mut Reactor, mut task: Box<ShardTask>, outcome: Outcome) {
        if outcome == Outcome::Panicked {
            task = self.replace_spoilt(reactor, *task);
        }
        self.task_returned(reactor, task);
    }

    fn flush(&mut self, reactor: &mut Reactor) -> bool {
        let mut dirty = std::mem::take(&mut self.dirty_shards);
        for index in dirty.drain(..) {
            self.shards[index].flush();
        }
        self.dirty_shards = dirty;
        let mut dirty = std::mem::take(&mut self.dirty_clusters);
        self.copying = false;
        for index in dirty.drain(..) {
            self.clusters[index].dirty = false;
            self.turn_publisher(reactor, index);
            let shards = &mut self.shards;
            if let Err(error) = self.clusters[index].flush(|progress| note_confirmed(shards, progress)) {
                self.link_lost(reactor, index, &LinkError::Io(error));
            }
            if self.clusters[index].publisher.outbox.has_unstamped() {
                self.figures.written.push(index);
            }
            // Marks of repeats may have filled the outbox, and what was confirmed may have made room.
            self.pause_or_go_on(reactor, index);
            self.spawn_deferred(reactor, index);
            // It was not read, nor were its workers answered, while too much waited to be written to it.
            let waits = self.clusters[index].has_work();
            if matches!(&self.clusters[index].link, cluster::Link::Up(up) if waits || up.wants_read()) {
                self.readable_cluster(index);
            }
        }
        self.dirty_clusters.append(&mut dirty);
        if self.stopping.is_some() && !self.gave_up {
            self.put_away(reactor, false);
        }
        if self.stopping.is_some() && self.is_stopped() {
            match self.stopping {
                Some(true) => self.forget_sessions(),
                _ => self.keep_sessions(reactor, true),
            }
            self.say_goodbye();
            return false;
        }
        if self.unkept {
            self.keep_sessions(reactor, false);
        }
        self.tell_figures(reactor);
        true
    }
}

impl Home {
    /// Takes the memory of what a cluster's broker has confirmed, as far as this thread has use for it.
    fn collect_spares(&mut self, index: usize) {
        let outbox = &mut self.clusters[index].publisher.outbox;
        while self.spares.len() < SPARES_MAX && outbox.has_spare() {
            self.spares.push(outbox.take_spare());
        }
    }

    /// Closes the broker connections politely, as far as one write goes.
    fn say_goodbye(&mut self) {
        for cluster in &mut self.clusters {
            if let cluster::Link::Up(up) = &mut cluster.link {
                up.client.close();
                // The process ends; a broker that does not take this sees the socket close.
                let _ = cluster.flush(|_| {});
            }
        }
    }
}
