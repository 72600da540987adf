//! Heartbeats, and the order in which waiting payloads take the room that the send limit leaves.

use super::{Cause, HeartbeatDue, Output, Shard, State, Timer};
use crate::gateway::command::Command;
use crate::gateway::ratelimit::Class;
use std::time::{Duration, Instant};

/// A deadline that is handled this much too late says more about this machine (suspended, overloaded) than
/// about the peer, whose answers may lie unread: such a zombie check needs three silent intervals.
const TOO_LATE_TO_JUDGE: Duration = Duration::from_secs(5);

impl Shard {
    /// The first heartbeat is jittered, so that a thousand shards do not beat together.
    pub(super) fn begin_heartbeats(&mut self, now: Instant, interval: Duration) {
        self.link.interval = Some(interval);
        self.link.budget.reserve_for(interval);
        let jittered = interval.mul_f64(self.rng.unit());
        self.set(Timer::Heartbeat, Some(now + jittered));
    }

    /// A scheduled heartbeat is due. The check is bound to the last one that was sent, so it always covers one
    /// full interval, and any payload since then counts as life: acks queue behind bursts of events.
    pub(super) fn heartbeat_tick(&mut self, now: Instant, due: Instant) {
        let excused = std::mem::take(&mut self.link.excused);
        let silent = self.link.heartbeat_sent && !self.link.alive;
        if silent && !excused && !self.read_paused {
            let in_time = now.saturating_duration_since(due) < TOO_LATE_TO_JUDGE;
            // A machine that is always late still finds its dead links.
            let silence = now.saturating_duration_since(self.last_payload_at);
            if in_time || self.link.interval.is_some_and(|interval| silence >= interval * 3) {
                return self.lose_link(now, Cause::Zombie, Cause::Zombie.recovery());
            }
        }
        self.link.heartbeat_due = HeartbeatDue::Scheduled;
        self.pump(now);
    }

    /// Discord asks for a heartbeat. Several such requests that wait for room become one heartbeat.
    pub(super) fn heartbeat_requested(&mut self, now: Instant) {
        if self.link.heartbeat_due == HeartbeatDue::No {
            self.link.heartbeat_due = HeartbeatDue::Requested;
        }
        self.pump(now);
    }

    /// Sends what waits, the most important first, as far as there is room, and wakes when there is more.
    pub(super) fn pump(&mut self, now: Instant) {
        if !self.state.is_open() {
            return;
        }
        self.set(Timer::SendBudget, None);
        self.pump_protocol(now);
        if self.state == State::Active {
            for (class, is_presence) in [(Class::Command, false), (Class::Presence, true)] {
                while self.waiting.has(is_presence) && self.take_room(now, class) {
                    // `has` just said so.
                    let Some((id, json)) = self.waiting.pop(is_presence) else { break };
                    self.stats.commands_sent += 1;
                    self.outputs.push_back(Output::Send(Command::Forward(json)));
                    self.outputs.push_back(Output::CommandDone { id, result: Ok(()) });
                }
            }
        }
    }

    fn pump_protocol(&mut self, now: Instant) {
        if self.link.heartbeat_due == HeartbeatDue::Scheduled && self.take_room(now, Class::Protocol) {
            self.send_heartbeat(now);
            self.link.heartbeat_sent = true;
            self.link.alive = false;
            self.set(Timer::Heartbeat, self.link.interval.map(|interval| now + interval));
        }
        if self.link.resume_due
            && let Some(seq) = self.session.as_ref().map(|session| session.resume_seq())
            && self.take_room(now, Class::Protocol)
        {
            self.link.resume_due = false;
            if let Some(session) = &mut self.session {
                session.resuming();
            }
            self.stats.resumes += 1;
            self.outputs.push_back(Output::Send(Command::Resume { seq }));
            self.set(Timer::Ready, Some(now + self.options.timeouts.resumed));
        }
        if self.link.identify_due
            && let Some(ticket) = self.permit
            && self.take_room(now, Class::Protocol)
        {
            self.link.identify_due = false;
            self.permit = None;
            self.identify_ticket = Some(ticket);
            self.identifies_unsettled = self.identifies_unsettled.saturating_add(1);
            self.stats.identifies += 1;
            self.outputs.push_back(Output::Send(Command::Identify));
            self.outputs.push_back(Output::PermitUsed { ticket });
            self.set(Timer::Ready, Some(now + self.options.timeouts.ready));
            self.enter(State::Identifying, None);
        }
        if self.link.heartbeat_due == HeartbeatDue::Requested
            && self.take_room(now, Class::RequestedHeartbeat)
        {
            self.send_heartbeat(now);
            self.stats.heartbeats_requested += 1;
        }
    }

    fn send_heartbeat(&mut self, now: Instant) {
        self.link.heartbeat_due = HeartbeatDue::No;
        self.link.unanswered_since.get_or_insert(now);
        self.stats.heartbeats += 1;
        let seq = self.session.as_mut().map(|session| {
            session.heartbeat_sent();
            session.received()
        });
        self.outputs.push_back(Output::Send(Command::Heartbeat { seq }));
    }

    fn take_room(&mut self, now: Instant, class: Class) -> bool {
        match self.link.budget.take(now, class) {
            Ok(()) => true,
            Err(at) => {
                let at = self.timer(Timer::SendBudget).map_or(at, |other| other.min(at));
                self.set(Timer::SendBudget, Some(at));
                false
            }
        }
    }
}
