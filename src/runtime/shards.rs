//! What a home does for its shards: sends their tasks out, takes them back, carries out what they want, dials for
//! them, and asks for their permits.

use std::io;

use crate::gateway::shard::{Cause, Input, Output, State};
use crate::reactor::Resolver;
use crate::relay::{ShardTask, TaskInput};
use crate::status::Subject;
use crate::stream::transport::Endpoint;

use super::clusters::note_spooled;
use super::dial::Dial;
use super::home::{Home, Message, Reactor, TIMER_PERMITS, WINDOWS_PER_TURN};
use super::key::{Key, Owner, next_generation};
use super::permits::{Permits, Wish, shard_of};
use super::shard_slot::{Link, WINDOW_BYTES};

impl Home {
    /// The slot of a shard of this thread.
    pub(super) fn slot_of(&self, shard_id: u32) -> Option<usize> {
        let cluster = self.clusters.iter().find(|cluster| cluster.shards.contains(&shard_id))?;
        Some(cluster.slots.start + (shard_id - cluster.shards.start) as usize)
    }

    /// Tells a shard something and lets its task run.
    pub(super) fn tell(&mut self, reactor: &mut Reactor, slot: usize, input: TaskInput) {
        self.shards[slot].inputs.push(input);
        self.spawn(reactor, slot);
    }

    /// Sends a shard's task to the deque if it is at home and has something to do.
    pub(super) fn spawn(&mut self, reactor: &mut Reactor, index: usize) {
        let slot = &mut self.shards[index];
        let cluster = &mut self.clusters[slot.cluster];
        if !cluster.started {
            return;
        }
        if let Some(task) = &mut slot.task {
            task.may_publish = !cluster.paused;
            task.framing.frame_max = cluster.frame_max;
        }
        if !slot.load(reactor.turn.now) {
            return;
        }
        if !cluster.paused {
            let Some(bytes) = cluster.publisher.reserve() else {
                if !std::mem::replace(&mut slot.deferred, true) {
                    cluster.deferred.push(index);
                }
                return;
            };
            slot.reserved_bytes = bytes;
        }
        if let Some(mut task) = slot.task.take() {
            // While paused nothing is promised, and what may be read then publishes nothing.
            task.batch_bytes_max = slot.reserved_bytes.max(1);
            if task.batch.bytes.capacity() == 0 {
                let own = || cluster.publisher.outbox.take_spare();
                task.batch = self.spares.pop().unwrap_or_else(own);
            }
            reactor.spawn(task);
        }
    }

    pub(super) fn task_returned(&mut self, reactor: &mut Reactor, mut task: Box<ShardTask>) {
        let index = task.slot;
        let slot = &mut self.shards[index];
        let cluster = &mut self.clusters[slot.cluster];
        let mut batch = std::mem::take(&mut task.batch);
        let skipped = batch.skipped.take();
        batch.received_at = task.received_at;
        let (cluster_index, publishes) = (slot.cluster, !batch.records.is_empty());
        if let Some(record) = batch.records.iter().rev().find(|record| record.seq > 0) {
            slot.published = Some((record.session, record.seq));
        }
        if let Some((session, seq)) = skipped {
            slot.note_skipped(session, seq);
        }
        let promised = std::mem::take(&mut slot.reserved_bytes);
        let shards = &mut self.shards;
        let report = &mut |progress| note_spooled(shards, progress);
        cluster.publisher.accept(reactor.turn, index as u32, batch, promised, report);
        let slot = &mut self.shards[index];
        if !slot.queue_outgoing(&mut task.outgoing) {
            slot.ended = Some(Cause::Io(io::ErrorKind::WriteZero));
        }
        if slot.has_outgoing() {
            self.dirty_shards.push(index);
        }
        if publishes {
            self.dirty_cluster(cluster_index);
        }
        let slot = &mut self.shards[index];
        if task.window.is_empty() {
            let window = std::mem::take(&mut task.window);
            if window.capacity() == WINDOW_BYTES && self.windows.len() < WINDOWS_PER_TURN {
                self.windows.push(window);
            }
        }
        slot.note_session(task.shard.session());
        self.unkept |= slot.unkept;
        if let Some(took) = slot.note_seen(reactor.turn.now, &task) {
            self.figures.heartbeats.note(took, 1);
        }
        slot.state = task.shard.state();
        slot.wants_bytes = task.wants_bytes();
        reactor.timers.set(Key::timer(Owner::Shard, index), task.shard.poll_timeout());
        let mut effects = std::mem::take(&mut task.effects);
        slot.last_error = task.last_error.take();
        // The task counts as away until all is carried out: an effect that leads to an input (a permit that is
        // granted at once) must not load it for a run between two effects.
        for effect in effects.drain(..) {
            self.carry_out(reactor, index, effect);
        }
        task.effects = effects;
        self.shards[index].task = Some(task);
        if let Some(warning) = self.shared.cache.as_ref().and_then(|cache| cache.take_sizing_warning()) {
            log::warn!("{warning}");
        }
        self.pause_or_go_on(reactor, self.shards[index].cluster);
        self.queue_readable(index);
        // Those that waited for memory come first, or a busy shard would take it again and again.
        self.spawn_deferred(reactor, cluster_index);
        self.spawn(reactor, index);
    }

    /// Lets the shards run that waited for outbox memory, as far as there is some.
    pub(super) fn spawn_deferred(&mut self, reactor: &mut Reactor, cluster: usize) {
        if self.clusters[cluster].deferred.is_empty() {
            return;
        }
        for waiting in std::mem::take(&mut self.clusters[cluster].deferred) {
            self.shards[waiting].deferred = false;
            self.spawn(reactor, waiting);
        }
    }

    pub(super) fn queue_readable(&mut self, index: usize) {
        let slot = &mut self.shards[index];
        if !slot.queued && slot.is_readable() {
            slot.queued = true;
            self.readable.push_back(index);
        }
    }

    pub(super) fn carry_out(&mut self, reactor: &mut Reactor, index: usize, effect: Output) {
        let shard_id = self.shards[index].shard_id;
        match effect {
            // The task has sent these two through its transport.
            Output::Send(_) | Output::Close { .. } => {}
            Output::Open { url } => self.open(reactor, index, &url),
            Output::DropLink => {
                self.shards[index].drop_link(reactor.registry());
                reactor.timers.set(Key::timer(Owner::ShardDial, index), None);
            }
            Output::WantPermit { ticket } => self.tell_permits(reactor, Wish::Want(ticket)),
            Output::CancelPermit { ticket } => self.tell_permits(reactor, Wish::Cancel(ticket)),
            Output::PermitUsed { ticket } => self.tell_permits(reactor, Wish::Used(ticket)),
            Output::PermitAnswered { ticket } => self.tell_permits(reactor, Wish::Answered(ticket)),
            Output::CommandDone { id, result } => {
                self.command_done(reactor.turn.now, self.shards[index].cluster, id, result);
            }
            Output::Changed { from, to, cause } => self.log_change(reactor, index, from, to, cause),
            Output::SessionLost(lost) => {
                let text = format!("{}: what Discord sent after seq {} is lost", lost.reason, lost.received);
                self.incident(reactor.turn.wall_ms, "gap", Subject::Shard(shard_id), &text);
                log::warn!(
                    shard = shard_id;
                    "{}: the shard starts a new session, what Discord sent meanwhile is lost (last seq {})",
                    lost.reason, lost.received
                );
            }
            Output::Fatal(fatal) => {
                log::error!(shard = shard_id; "{fatal}");
                self.shared.fail(fatal.to_string());
            }
            Output::Stopped => {}
        }
    }

    pub(super) fn log_change(
        &mut self,
        reactor: &Reactor,
        index: usize,
        from: State,
        to: State,
        cause: Option<Cause>,
    ) {
        let slot = &mut self.shards[index];
        // A change without a cause may come first in the same run; the words belong to the one that has a cause.
        let detail =
            cause.and_then(|cause| slot.last_error.take().filter(|words| *words != cause.to_string()));
        let detail = detail.unwrap_or_default();
        let shard = slot.shard_id;
        let separator = if detail.is_empty() { "" } else { ": " };
        // Why a dial failed was noted there.
        if let (State::Disconnected { .. }, Some(cause)) = (to, cause)
            && (cause != Cause::ConnectFailed || !detail.is_empty())
        {
            let text = format!("{cause}{separator}{detail}");
            self.incident(reactor.turn.wall_ms, "disconnected", Subject::Shard(shard), &text);
        }
        match (to, cause) {
            (State::Active, _) => log::info!(shard; "active"),
            (State::Disconnected { .. }, Some(cause @ (Cause::Reconnect | Cause::Ended | Cause::Io(_)))) => {
                log::info!(shard; "disconnected: {cause}");
            }
            (State::Disconnected { attempt }, Some(cause)) => {
                log::warn!(shard; "disconnected (attempt {attempt}): {cause}{separator}{detail}");
            }
            (_, Some(cause)) => log::debug!(shard; "{from} -> {to}: {cause}{separator}{detail}"),
            (_, None) => log::debug!(shard; "{from} -> {to}"),
        }
    }

    pub(super) fn open(&mut self, reactor: &mut Reactor, index: usize, url: &str) {
        let endpoint = match Endpoint::parse(url) {
            Ok(endpoint) => endpoint,
            Err(error) => {
                return self.dial_failed(reactor, index, &format!("Discord's gateway URL: {error}"));
            }
        };
        let slot = &mut self.shards[index];
        slot.generation = next_generation(slot.generation);
        let token = Key { owner: Owner::Shard, generation: slot.generation, index }.pack();
        let (host, port) = (endpoint.host.clone(), endpoint.port);
        slot.link = Link::Dialing(Dial::new(token), endpoint);
        self.resolve(reactor, &self.resolvers.discord, &host, port, token);
    }

    pub(super) fn resolve(
        &self,
        reactor: &Reactor,
        resolver: &Resolver,
        host: &str,
        port: u16,
        token: usize,
    ) {
        let (mesh, thread) = (reactor.mesh().clone(), self.thread);
        resolver.resolve(host, port, move |found| mesh.post(thread, Message::Resolved(token, found)));
    }

    pub(super) fn dial_failed(&mut self, reactor: &mut Reactor, index: usize, why: &str) {
        reactor.timers.set(Key::timer(Owner::ShardDial, index), None);
        let slot = &mut self.shards[index];
        slot.link = Link::Closed;
        let shard = slot.shard_id;
        log::warn!(shard; "cannot connect: {why}");
        self.incident(reactor.turn.wall_ms, "cannot connect", Subject::Shard(shard), why);
        self.tell(reactor, index, TaskInput::Shard(Input::LinkLost { cause: Cause::ConnectFailed }));
    }

    /// Looks whether a shard's connection attempt has ended.
    pub(super) fn poll_shard_dial(&mut self, reactor: &mut Reactor, index: usize) {
        let Link::Dialing(dial, endpoint) = &mut self.shards[index].link else { return };
        match dial.poll(reactor.registry(), reactor.turn.now) {
            Ok(None) => {
                let deadline = dial.deadline;
                reactor.timers.set(Key::timer(Owner::ShardDial, index), deadline);
            }
            Ok(Some(socket)) => {
                let endpoint = endpoint.clone();
                reactor.timers.set(Key::timer(Owner::ShardDial, index), None);
                self.shards[index].link = Link::Open(socket);
                self.tell(reactor, index, TaskInput::Connected(endpoint));
            }
            Err(error) => self.dial_failed(reactor, index, &error.to_string()),
        }
    }

    pub(super) fn tell_permits(&mut self, reactor: &mut Reactor, wish: Wish) {
        match &mut self.permits {
            Some(Permits::Own(own)) => own.handle(wish),
            Some(Permits::Remote(remote)) => remote.handle(reactor, wish),
            None => return reactor.mesh().post(0, Message::Permits(wish)),
        }
        self.grant(reactor);
    }

    pub(super) fn grant(&mut self, reactor: &mut Reactor) {
        while let Some(ticket) = self.permits.as_mut().and_then(Permits::poll_permit) {
            match self.shared.thread_of(shard_of(ticket)) {
                Some(thread) if thread == self.thread => self.permitted(reactor, ticket),
                Some(thread) => reactor.mesh().post(thread, Message::Permit(ticket)),
                None => {}
            }
        }
        let deadline = self.permits.as_ref().and_then(Permits::poll_timeout);
        reactor.timers.set(Key::timer(Owner::Thread, TIMER_PERMITS), deadline);
    }

    pub(super) fn permitted(&mut self, reactor: &mut Reactor, ticket: u64) {
        if let Some(slot) = self.slot_of(shard_of(ticket)) {
            self.tell(reactor, slot, TaskInput::Shard(Input::Permit { ticket }));
        }
    }
}
