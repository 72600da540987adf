//! What a home does for its clusters: dials their brokers, passes on what the AMQP machine reports, and stops and
//! starts the reading of their shards.

use std::time::Duration;

use crate::amqp::{self, Client, Event};
use crate::gateway::Session;
use crate::gateway::shard::{Input, Shard};
use crate::relay::gap::Gap;
use crate::relay::topology::exchange;
use crate::relay::{Batch, Framing, Progress, TaskInput};
use crate::status::Subject;
use crate::stream::tls::TlsSession;

use super::cluster::{Cluster, Link, LinkError, Up, client_options};
use super::dial::Dial;
use super::home::{Home, Reactor};
use super::key::{Key, Owner, next_generation};
use super::shard_slot::ShardSlot;

/// The shortest wait after a refusal that only an operator can mend, a wrong password say.
const OPERATOR_WAIT: Duration = Duration::from_secs(30);

impl Home {
    pub(super) fn arm_cluster(&self, reactor: &mut Reactor, index: usize) {
        reactor.timers.set(Key::timer(Owner::Cluster, index), self.clusters[index].deadline());
    }

    pub(super) fn link_lost(&mut self, reactor: &mut Reactor, index: usize, error: &LinkError) {
        let cluster = &mut self.clusters[index];
        if matches!(error, LinkError::Amqp(_) | LinkError::Tls(_)) {
            // A last word (connection.close, a TLS alert) may wait; the link is over whether it gets through or not.
            cluster.publish_ready = false;
            let shards = &mut self.shards;
            let _ = cluster.flush(|progress| note_confirmed(shards, progress));
        }
        if let LinkError::Amqp(error) = error
            && error.consequence().recovery == amqp::Recovery::ReconnectDurable
        {
            cluster.queue_durable = true;
        }
        let uri = cluster.uri().to_string();
        // What only the operator can mend is tried again slowly, and said loudly.
        let hopeless = matches!(error, LinkError::Amqp(error) if error.consequence().recovery == amqp::Recovery::Operator);
        let level = match cluster.tells_loss(reactor.turn.now, hopeless) {
            true if hopeless => log::Level::Error,
            true => log::Level::Warn,
            false => log::Level::Debug,
        };
        let wait = cluster.lose_link(reactor.turn.now, if hopeless { OPERATOR_WAIT } else { Duration::ZERO });
        let waiting = waiting(cluster);
        log::log!(
            level,
            cluster = cluster.number;
            "broker {uri}: {error}; {waiting} wait for it, trying again in {} ms and from then on",
            wait.as_millis()
        );
        if level != log::Level::Debug {
            let (text, subject) = (format!("{uri}: {error}"), Subject::Cluster(self.clusters[index].number));
            self.incident(reactor.turn.wall_ms, "broker lost", subject, &text);
        }
        self.arm_cluster(reactor, index);
    }

    pub(super) fn cluster_deadline(&mut self, reactor: &mut Reactor, index: usize) {
        let now = reactor.turn.now;
        let cluster = &mut self.clusters[index];
        match &mut cluster.link {
            Link::Down { retry_at } if *retry_at <= now => {
                cluster.generation = next_generation(cluster.generation);
                let token = Key { owner: Owner::Cluster, generation: cluster.generation, index }.pack();
                let (host, port) = (cluster.uri().host.clone(), cluster.uri().port);
                cluster.link = Link::Dialing(Dial::new(token));
                self.resolve(reactor, &self.resolvers.brokers, &host, port, token);
            }
            Link::Dialing(dial) => {
                if dial.deadline.is_some_and(|at| at <= now)
                    && let Err(error) = dial.attempt_timed_out(reactor.registry(), now)
                {
                    return self.link_lost(reactor, index, &LinkError::Io(error));
                }
            }
            Link::Up(up) => {
                if let Err(error) = up.client.handle_deadline(now) {
                    return self.link_lost(reactor, index, &LinkError::Amqp(error));
                }
                return self.client_events(reactor, index);
            }
            Link::Down { .. } | Link::Closed => {}
        }
        self.arm_cluster(reactor, index);
    }

    pub(super) fn poll_cluster_dial(&mut self, reactor: &mut Reactor, index: usize) {
        let cluster = &mut self.clusters[index];
        let Link::Dialing(dial) = &mut cluster.link else { return };
        match dial.poll(reactor.registry(), reactor.turn.now) {
            Ok(None) => {}
            Ok(Some(socket)) => {
                let tls = match cluster
                    .uri()
                    .tls
                    .then(|| TlsSession::new(&self.shared.amqp_tls, &cluster.uri().host))
                {
                    None => None,
                    Some(Ok(tls)) => Some(tls),
                    Some(Err(error)) => {
                        return self.link_lost(reactor, index, &LinkError::Tls(error.to_string()));
                    }
                };
                let client = Client::new(client_options(cluster), reactor.turn.now);
                cluster.link = Link::Up(Box::new(Up::new(socket, client, tls)));
                // The protocol header, or the client hello, waits to be written.
                self.dirty_cluster(index);
                self.readable_cluster(index);
            }
            Err(error) => return self.link_lost(reactor, index, &LinkError::Io(error)),
        }
        self.arm_cluster(reactor, index);
    }

    /// Reads from a broker. Returns whether more is to be read at once.
    pub(super) fn read_cluster(&mut self, reactor: &mut Reactor, index: usize) -> bool {
        let cluster = &mut self.clusters[index];
        let Link::Up(up) = &mut cluster.link else { return false };
        cluster.publisher.outbox.timing.now = Some(reactor.turn.now);
        match up.read(reactor.turn.now) {
            Ok(more) => {
                self.client_events(reactor, index);
                more
            }
            Err(error) => {
                // What was understood before the fault counts, confirms above all.
                self.client_events(reactor, index);
                self.link_lost(reactor, index, &error);
                false
            }
        }
    }

    pub(super) fn client_events(&mut self, reactor: &mut Reactor, index: usize) {
        loop {
            let cluster = &mut self.clusters[index];
            let Link::Up(up) = &mut cluster.link else { return };
            let Some(event) = up.client.poll_event() else { break };
            let number = cluster.number;
            match event {
                Event::Confirm { delivery_tag, multiple } => {
                    let shards = &mut self.shards;
                    cluster
                        .publisher
                        .outbox
                        .confirm(delivery_tag, multiple, |progress| note_confirmed(shards, progress));
                    self.unkept = true;
                }
                Event::Nack { .. } => {
                    // The broker could not take a message. Only a new life of the channel keeps the order: all
                    // that is unconfirmed goes out again.
                    log::warn!(cluster = number; "the broker refused a publish (nack); publishing again from there");
                    cluster.publish_ready = false;
                    up.client.reopen_publish_channel();
                }
                Event::PublishReady { frame_max } => {
                    let waiting = waiting(cluster);
                    cluster.open_publishing(frame_max);
                    let broker = cluster.uri().to_string();
                    log::info!(cluster = number; "publishing to {broker}, {waiting} waiting");
                    self.start_shards(reactor, index);
                }
                Event::PublishChannelLost { code, text } => {
                    cluster.publish_ready = false;
                    log::warn!(cluster = number; "the broker closed the publish channel: {code} {text}");
                    let (why, subject) = (format!("{code} {text}"), Subject::Cluster(number));
                    self.shared.board.incidents.note(reactor.turn.wall_ms, "channel closed", subject, &why);
                    // 406: larger than the broker's max_message_size, say. 311: AMQP's own word for too large.
                    if matches!(code, 311 | 406)
                        && let Some((shard, record)) = cluster.publisher.outbox.refused()
                    {
                        self.event_refused(reactor, index, shard as usize, record, &text);
                    }
                }
                Event::Blocked { reason } => {
                    cluster.blocked = true;
                    cluster.blocked_by_flow = reason == "channel.flow";
                    let subject = Subject::Cluster(number);
                    self.shared.board.incidents.note(
                        reactor.turn.wall_ms,
                        "broker blocked",
                        subject,
                        &reason,
                    );
                    log::warn!(cluster = number; "the broker takes no publishes for now: {reason}");
                }
                Event::Unblocked => {
                    cluster.blocked = false;
                    log::info!(cluster = number; "the broker takes publishes again");
                }
                Event::Delivery(delivery) => cluster.deliveries.push_back(delivery),
                Event::BadDelivery(why) => {
                    self.workers.ignored += 1;
                    let what = format_args!("ignored a worker's message: {why}");
                    self.workers.complain(reactor.turn.now, number, what);
                }
                Event::Notice(text) => log::warn!(cluster = number; "{text}"),
                Event::Closed => cluster.drop_link(Link::Closed),
            }
        }
        if self.work_deliveries(reactor, index) {
            self.readable_cluster(index);
        }
        self.dirty_cluster(index);
        self.pause_or_go_on(reactor, index);
        self.spawn_deferred(reactor, index);
        self.arm_cluster(reactor, index);
    }

    /// An event that the broker refuses whatever is done is lost: workers are told.
    fn event_refused(
        &mut self,
        reactor: &mut Reactor,
        index: usize,
        slot: usize,
        record: crate::relay::outbox::Record,
        why: &str,
    ) {
        let (cluster, shard_id) = (&mut self.clusters[index], self.shards[slot].shard_id);
        log::error!(
            cluster = cluster.number, shard = shard_id;
            "event {} is lost, the broker refuses it for good: {why}", record.seq
        );
        let text = format!("event {} is lost, the broker refuses it for good: {why}", record.seq);
        let subject = Subject::Shard(shard_id);
        self.shared.board.incidents.note(reactor.turn.wall_ms, "event lost", subject, &text);
        let framing = Framing {
            exchange: exchange(cluster.number).into(),
            frame_max: cluster.frame_max,
            ready_secrets: false,
            persistent: self.shared.persistent,
            events: Default::default(),
        };
        let gap = Gap {
            session_hash: record.session,
            last_seq: record.seq.saturating_sub(1),
            from_ms: reactor.turn.wall_ms,
            reason: format!("the broker refused the event with seq {}: {why}", record.seq),
        };
        let mut batch = Batch::default();
        if gap.publish(shard_id, reactor.turn.wall_ms, &framing, &mut batch).is_ok() {
            let shards = &mut self.shards;
            let report = &mut |progress| note_spooled(shards, progress);
            cluster.publisher.accept(reactor.turn, slot as u32, batch, 0, report);
        }
    }

    /// The exchange, the queue and its bindings stand: the cluster's shards may begin.
    pub(super) fn start_shards(&mut self, reactor: &mut Reactor, index: usize) {
        if std::mem::replace(&mut self.clusters[index].started, true) {
            return;
        }
        for slot in self.clusters[index].slots.clone() {
            // Their order counts from here: a broker that came late must not make them all connect at once.
            let (options, seed) = (self.shared.shard_options.clone(), self.rng.next_u64());
            let shard_id = self.shards[slot].shard_id;
            let session = self.shards[slot]
                .inherited
                .take()
                .map(|kept| Session::inherit(kept.id, kept.resume_url, kept.shard_count, kept.seq));
            // Resuming needs no permit, so nobody's turn is waited for.
            let delay = if session.is_some() { Duration::ZERO } else { self.shared.start_delay(shard_id) };
            let start_at = reactor.turn.now + delay;
            if let Some(task) = &mut self.shards[slot].task {
                task.shard = Shard::new(options, shard_id, seed, start_at, session);
            }
            let deadline = self.shards[slot].task.as_ref().and_then(|task| task.shard.poll_timeout());
            reactor.timers.set(Key::timer(Owner::Shard, slot), deadline);
            self.spawn(reactor, slot);
        }
    }

    /// Stops or starts the reading of a cluster's shards as its outbox fills and drains.
    pub(super) fn pause_or_go_on(&mut self, reactor: &mut Reactor, index: usize) {
        let cluster = &mut self.clusters[index];
        let paused = cluster.publisher.pauses(cluster.paused);
        if paused == cluster.paused {
            return;
        }
        cluster.paused = paused;
        self.shared.pauses(paused);
        let (number, bytes) = (cluster.number, cluster.publisher.outbox.memory_bytes());
        log::debug!(cluster = number; "outbox at {bytes} bytes: reading is {}", if paused { "stopped" } else { "on" });
        for slot in cluster.slots.clone() {
            self.shards[slot].inputs.push(TaskInput::Shard(Input::ReadPaused(paused)));
            if let Some(task) = &mut self.shards[slot].task {
                task.may_publish = !paused;
                self.shards[slot].wants_bytes =
                    self.shards[slot].task.as_ref().is_some_and(|task| task.wants_bytes());
            }
            self.queue_readable(slot);
            self.spawn(reactor, slot);
        }
    }
}

/// What waits for a broker, in words.
fn waiting(cluster: &Cluster) -> String {
    match cluster.publisher.waiting() {
        (memory, 0) => format!("{memory} events"),
        (memory, disk) => format!("{memory} events in memory and {disk} on disk"),
    }
}

/// Remembers how far the broker has confirmed a shard's events; its task is told when it runs next.
pub(super) fn note_confirmed(shards: &mut [ShardSlot], progress: Progress) {
    if let Some(slot) = shards.get_mut(progress.shard as usize) {
        slot.note_confirmed(progress.session, progress.seq, !progress.spooled);
    }
}

/// Remembers how far a shard's events are on disk: enough for this process. The next one looks there itself.
pub(super) fn note_spooled(shards: &mut [ShardSlot], progress: Progress) {
    if let Some(slot) = shards.get_mut(progress.shard as usize) {
        slot.note_safe(progress.session, progress.seq);
    }
}
