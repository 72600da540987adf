//! Received payloads. Dispatches are the hot path: nothing here allocates for one, other than READY.

use super::{Cause, Dispatch, DispatchKind, LossReason, Output, Route, Shard, State, Timer};
use crate::base::Secret;
use crate::gateway::close_code::CLOSE_RESUMABLE;
use crate::gateway::envelope::Envelope;
use crate::gateway::error::Error;
use crate::gateway::opcode::Opcode;
use crate::gateway::session::{self, Ready, Session};
use serde::Deserialize;
use std::time::{Duration, Instant};

/// Shortest heartbeat interval that is obeyed; below it, heartbeats alone would press on the send limit.
const HEARTBEAT_INTERVAL_MIN: Duration = Duration::from_secs(1);
/// Longest one; a longer one is shortened to it, as heartbeats that come early do no harm.
const HEARTBEAT_INTERVAL_MAX: Duration = Duration::from_secs(600);

impl Shard {
    /// Takes a payload whose outside is `envelope`.
    ///
    /// # Errors
    /// When it breaks the protocol. The owner hands the error back as
    /// [`Input::LinkLost`](super::Input::LinkLost).
    pub fn handle_payload(
        &mut self,
        now: Instant,
        envelope: &Envelope,
        payload: &[u8],
    ) -> Result<Route, Error> {
        let now = self.advance(now);
        if !self.state.is_open() && self.state != State::Closing {
            self.stats.payloads_ignored += 1;
            return Ok(Route::Ignored);
        }
        self.link.alive = true;
        let route = match Opcode::from_number(envelope.op) {
            Some(Opcode::Dispatch) => self.dispatch(now, envelope, payload),
            Some(Opcode::Heartbeat) => {
                self.heartbeat_requested(now);
                Ok(Route::Control)
            }
            Some(Opcode::Reconnect) => {
                if self.state.is_open() {
                    self.begin_close(now, CLOSE_RESUMABLE, Cause::Reconnect);
                }
                Ok(Route::Control)
            }
            Some(Opcode::InvalidSession) => self.invalid_session(now, envelope.d(payload)),
            Some(Opcode::Hello) => self.hello(now, envelope.d(payload)),
            Some(Opcode::HeartbeatAck) => {
                if let Some(sent) = self.link.unanswered_since.take() {
                    self.latency = Some(now.saturating_duration_since(sent));
                }
                if let Some(session) = &mut self.session {
                    session.heartbeat_answered();
                }
                Ok(Route::Control)
            }
            // Opcodes that only this side sends, and those that this build does not know.
            Some(_) | None => Ok(Route::Ignored),
        };
        self.last_payload_at = now;
        match route {
            Ok(Route::Ignored) => self.stats.payloads_ignored += 1,
            Err(_) => self.stats.payloads_broken += 1,
            Ok(Route::Dispatch(_) | Route::Control) => {}
        }
        self.check_invariants();
        route
    }

    fn hello(&mut self, now: Instant, d: &[u8]) -> Result<Route, Error> {
        if self.state != State::AwaitingHello {
            return Ok(Route::Ignored);
        }
        let interval = heartbeat_interval(d)?;
        self.begin_heartbeats(now, interval);
        self.set(Timer::Hello, None);
        if self.session.is_some() {
            self.link.resume_due = true;
            self.enter(State::Resuming, None);
            self.pump(now);
        } else {
            self.enter(State::AwaitingPermit, None);
            self.want_permit();
        }
        Ok(Route::Control)
    }

    fn invalid_session(&mut self, now: Instant, d: &[u8]) -> Result<Route, Error> {
        let resumable: bool = serde_json::from_slice(d).map_err(|_| Error::InvalidSession)?;
        self.stats.sessions_invalidated += 1;
        if let Some(ticket) = self.identify_ticket.take() {
            self.outputs.push_back(Output::PermitAnswered { ticket });
        }
        if self.state == State::Resuming {
            self.stats.resumes_failed += 1;
        }
        if !resumable {
            self.lose_session(LossReason::Invalidated);
        }
        match self.state {
            State::Identifying | State::Resuming | State::Active => self.begin_renew(now),
            // Before HELLO the session was all there was to lose; in the others an IDENTIFY is coming anyway, or
            // nothing more is.
            _ => {}
        }
        Ok(Route::Control)
    }

    fn dispatch(&mut self, now: Instant, envelope: &Envelope, payload: &[u8]) -> Result<Route, Error> {
        let mut unescaped = String::new();
        let kind = match envelope.event_name(payload, &mut unescaped) {
            Some("READY") => DispatchKind::Ready,
            Some("RESUMED") => DispatchKind::Resumed,
            Some(_) => DispatchKind::Other,
            None => {
                // Without a name there is no routing key, but the number counts.
                if let (Some(session), Some(seq)) = (&mut self.session, envelope.seq) {
                    session.receive(seq);
                }
                return Ok(Route::Ignored);
            }
        };
        if kind == DispatchKind::Ready {
            return self.ready(now, envelope, payload);
        }
        if self.state == State::AwaitingHello {
            return Ok(Route::Ignored);
        }
        let Some(session) = &mut self.session else { return Ok(Route::Ignored) };
        let mut seen = false;
        if let Some(seq) = envelope.seq {
            let expected = session.received().wrapping_add(1);
            // What goes on below a jump shows that the jump was false; but a replay begins below it rightly.
            seen =
                if self.state == State::Resuming { session.receive(seq) } else { session.receive_live(seq) };
            if !seen && seq != expected {
                self.stats.seq_jumps += 1;
            }
        }
        if kind == DispatchKind::Resumed && self.state == State::Resuming {
            session.resumed();
        }
        let (session_hash, repeat) = (session.hash(), session.is_inherited());
        self.stats.dispatches += 1;
        self.stats.dispatches_seen += u64::from(seen);
        if self.state == State::Resuming {
            if kind == DispatchKind::Resumed {
                self.stats.resumes_succeeded += 1;
                self.activate(now);
            } else if self.timer(Timer::Ready).is_some() {
                self.set(Timer::Ready, Some(now + self.options.timeouts.resumed));
            }
        }
        Ok(Route::Dispatch(Dispatch { seq: envelope.seq, session_hash, kind, seen, repeat }))
    }

    fn ready(&mut self, now: Instant, envelope: &Envelope, payload: &[u8]) -> Result<Route, Error> {
        // AwaitingHello, AwaitingPermit: nothing was sent that this could answer.
        if matches!(self.state, State::AwaitingHello | State::AwaitingPermit) {
            return Ok(Route::Ignored);
        }
        let Some(ready) = Ready::parse(envelope.d(payload)) else {
            return Err(if self.session.is_some() { Error::ReadyAgain } else { Error::Ready });
        };
        let resume_url = session::resume_url(&ready.resume_gateway_url, self.options.allow_plain);
        let session_hash = session::session_hash(&ready.session_id);
        let mut seen = false;
        match &mut self.session {
            Some(session) if session.id().expose() == ready.session_id => {
                // A replay from the very beginning.
                seen = envelope.seq.is_some_and(|seq| session.receive(seq));
                session.set_resume_url(resume_url);
            }
            _ => {
                self.lose_session(LossReason::Replaced);
                let id = Secret::new(ready.session_id);
                let seq = envelope.seq.unwrap_or(0);
                self.session = Some(Session::new(id, resume_url, self.options.shard_count, seq));
            }
        }
        self.stats.readies += 1;
        self.stats.dispatches += 1;
        self.stats.dispatches_seen += u64::from(seen);
        if let Some(ticket) = self.identify_ticket.take() {
            self.outputs.push_back(Output::PermitAnswered { ticket });
        }
        if matches!(self.state, State::Identifying | State::Resuming) {
            self.activate(now);
        }
        Ok(Route::Dispatch(Dispatch {
            seq: envelope.seq,
            session_hash,
            kind: DispatchKind::Ready,
            seen,
            repeat: false,
        }))
    }

    fn activate(&mut self, now: Instant) {
        self.set(Timer::Ready, None);
        self.set(Timer::Renew, None);
        self.link.resume_due = false;
        self.resumes_stuck = 0;
        self.resumes_stuck_at = 0;
        self.active_since = Some(now);
        self.enter(State::Active, None);
        self.pump(now);
    }
}

fn heartbeat_interval(d: &[u8]) -> Result<Duration, Error> {
    #[derive(Deserialize)]
    struct Hello {
        heartbeat_interval: f64,
    }
    // An array of one would pass for the struct as well.
    if d.first() != Some(&b'{') {
        return Err(Error::Hello);
    }
    let Hello { heartbeat_interval: ms } = serde_json::from_slice(d).map_err(|_| Error::Hello)?;
    // Some encoders write whole numbers as 41250.0.
    if ms < 1.0 || ms.fract() != 0.0 {
        return Err(Error::Hello);
    }
    // A float beyond the range of the integer becomes its largest value.
    let interval = Duration::from_millis(ms as u64);
    if interval < HEARTBEAT_INTERVAL_MIN {
        return Err(Error::HelloInterval { interval_ms: ms as u64 });
    }
    Ok(interval.min(HEARTBEAT_INTERVAL_MAX))
}
