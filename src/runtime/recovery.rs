//! What a home does when a shard's task has panicked: a bug of ours costs that shard a reconnect, no event and no
//! other shard anything.

use std::time::Duration;

use crate::gateway::shard::{Input, Output, Shard};
use crate::gateway::{Refusal, Session};
use crate::relay::gap::Gap;
use crate::relay::{Batch, ShardTask, TaskInput};
use crate::status::Subject;

use super::home::{Home, Reactor};
use super::permits::Wish;

/// How long a spoilt shard waits before it connects again: a panic that repeats must not become a reconnect storm.
const RESTART_WAIT: Duration = Duration::from_secs(5);

/// How many times a session is taken over after a panic. If the same replay panics again and again, the session is
/// what has to go.
const SESSIONS_SAVED_MAX: u32 = 3;

impl Home {
    /// A fresh task in place of one whose state cannot be trusted any more.
    ///
    /// What it had framed whole goes out, and its session is resumed behind the last event that did.
    pub(super) fn replace_spoilt(&mut self, reactor: &mut Reactor, mut spoilt: ShardTask) -> Box<ShardTask> {
        let index = spoilt.slot;
        self.shared.panicked();
        let slot = &mut self.shards[index];
        let shard_id = slot.shard_id;
        log::error!(shard = shard_id; "a bug in rateway broke this shard's state; it connects again");
        slot.panics += 1;
        let text = "a bug in rateway broke this shard's state; it connects again";
        self.shared.board.incidents.note(reactor.turn.wall_ms, "bug", Subject::Shard(shard_id), text);
        let batch = whole_publishes(std::mem::take(&mut spoilt.batch));
        if let Some(record) = batch.records.iter().rev().find(|record| record.seq > 0) {
            slot.published = Some((record.session, record.seq));
        }
        let session = spoilt.shard.session().zip(slot.published).and_then(|(session, (hash, seq))| {
            let url = session.resume_url().map(str::to_owned);
            let same = session.hash() == hash && slot.panics <= SESSIONS_SAVED_MAX;
            same.then(|| Session::restore(session.id().clone(), url, session.shard_count(), seq))
        });
        let mut gap = spoilt.take_gap();
        if let (None, Some(lost), None) = (&session, spoilt.shard.session(), &gap) {
            gap = Some(Gap {
                session_hash: lost.hash(),
                last_seq: slot.published.filter(|(hash, _)| *hash == lost.hash()).map_or(0, |(_, seq)| seq),
                from_ms: reactor.turn.wall_ms,
                reason: "a bug in rateway broke the session's state".to_owned(),
            });
        }
        slot.inputs.clear();
        slot.drop_link(reactor.registry());
        if self.clusters[slot.cluster].paused {
            slot.inputs.push(TaskInput::Shard(Input::ReadPaused(true)));
        }
        if let Some(end_session) = self.stopping {
            slot.inputs.push(TaskInput::Shard(Input::Stop { end_session }));
        }
        // The queue may hold a wish of the old machine, or be waiting for word of its IDENTIFY.
        for effect in &spoilt.effects {
            match effect {
                Output::WantPermit { ticket } => self.tell_permits(reactor, Wish::Cancel(*ticket)),
                // An IDENTIFY may have gone out: its slot is spent.
                Output::PermitUsed { ticket } => self.tell_permits(reactor, Wish::Used(*ticket)),
                _ => {}
            }
        }
        if let Some(ticket) = spoilt.shard.permit() {
            self.tell_permits(reactor, Wish::Cancel(ticket));
        }
        self.give_up_commands(reactor.turn.now, shard_id, Refusal::Stopped);

        let options = self.shared.shard_options.clone();
        let start_at = reactor.turn.now + RESTART_WAIT;
        let shard = Shard::new(options, shard_id, self.rng.next_u64(), start_at, session);
        let task_options = self.shared.task_options.clone();
        let mut task =
            ShardTask::new(self.thread, index, shard, spoilt.framing.clone(), task_options, reactor.turn);
        task.batch = batch;
        task.put_gap(gap);
        Box::new(task)
    }
}

/// Cuts off a publish that was being framed.
fn whole_publishes(mut batch: Batch) -> Batch {
    batch.bytes.truncate(batch.records.last().map_or(0, |record| record.end));
    batch
}
