//! Opening, closing and losing links; when to try again, and with which session.

use super::{Cause, Fatal, LossReason, Output, SessionLost, Shard, State, Timer};
use crate::gateway::close_code::{self, CLOSE_END_SESSION, CLOSE_RESUMABLE, CloseCode};
use crate::gateway::error::Recovery;
use std::time::{Duration, Instant};

/// How long a shard has to be active before its earlier failures are forgotten. One minute: a shard that is
/// thrown out sooner again and again keeps backing off.
pub(super) const SETTLED_AFTER: Duration = Duration::from_secs(60);
/// A first retry comes within this time: at once for a person, but a thousand shards that fall together do not
/// all shake hands in the same millisecond.
const FIRST_RETRY_SPREAD: Duration = Duration::from_millis(250);
/// The delay of the second retry; doubles from there. Half of it is jitter.
const BACKOFF_BASE: Duration = Duration::from_secs(1);
/// Longest delay between two links.
pub(super) const BACKOFF_MAX: Duration = Duration::from_secs(120);
/// Longest delay where the next link has to IDENTIFY: at this pace a shard that fails all day uses some 200 of the
/// bot's 1000 session starts.
pub(super) const IDENTIFY_BACKOFF_MAX: Duration = Duration::from_secs(600);
/// RESUMEs that may fail in a row without one new event arriving, before the session is given up: a replay that
/// holds something unreadable would otherwise be asked for forever. Eight take about two minutes, which
/// is as long as Discord keeps a session.
pub(super) const RESUMES_STUCK_MAX: u32 = 8;
/// Discord asks for a random wait of one to five seconds after INVALID SESSION.
const RENEW_WAIT: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(5));

impl Shard {
    pub(super) fn open(&mut self, now: Instant) {
        if self.read_paused {
            // Nothing would read HELLO. The link is opened when reading goes on.
            return;
        }
        let base = self.session.as_ref().and_then(|s| s.resume_url()).unwrap_or(&self.options.gateway_url);
        let url = format!("{}/?{}", base.trim_end_matches('/'), self.options.query);
        self.stats.connects += 1;
        self.link.reset();
        self.outputs.push_back(Output::Open { url });
        self.set(Timer::Connect, Some(now + self.options.timeouts.connect));
        self.enter(State::Connecting, None);
    }

    pub(super) fn opened(&mut self, now: Instant) {
        if self.state != State::Connecting {
            return;
        }
        self.set(Timer::Connect, None);
        self.set(Timer::Hello, Some(now + self.options.timeouts.hello));
        self.enter(State::AwaitingHello, None);
    }

    pub(super) fn peer_closed(&mut self, now: Instant, code: Option<u16>) {
        if !self.state.has_link() {
            return;
        }
        let own = Cause::PeerClosed { code };
        self.unknown_opcodes_refused |= code == Some(CloseCode::UnknownOpcode.number());
        // While closing, the reason stands; but a code that is worse than an echo still counts.
        let cause = match close_code::recovery(code) {
            Recovery::Resume | Recovery::ResumeOnce => self.closing.unwrap_or(own),
            Recovery::Identify | Recovery::Stop => own,
        };
        self.lose_link(now, cause, cause.recovery());
    }

    pub(super) fn step_timed_out(&mut self, now: Instant, timer: Timer, cause: Cause) {
        if self.read_paused {
            let timeout =
                if timer == Timer::Hello { self.options.timeouts.hello } else { self.ready_timeout() };
            self.set(timer, Some(now + timeout));
        } else {
            self.lose_link(now, cause, cause.recovery());
        }
    }

    pub(super) fn ready_timeout(&self) -> Duration {
        match self.state {
            State::Resuming => self.options.timeouts.resumed,
            _ => self.options.timeouts.ready,
        }
    }

    /// Sends a close frame and waits for the peer's.
    pub(super) fn begin_close(&mut self, now: Instant, code: u16, cause: Cause) {
        self.forget_sends();
        self.give_permit_back();
        self.timers = Default::default();
        self.set(Timer::Close, Some(now + self.options.timeouts.close));
        self.outputs.push_back(Output::Close { code });
        self.closing = Some(cause);
        self.enter(State::Closing, Some(cause));
    }

    pub(super) fn stop(&mut self, now: Instant, end_session: bool) {
        if self.state.is_final() {
            return;
        }
        self.refuse_waiting();
        let again = self.stop.replace(end_session).is_some();
        if self.state.is_open() {
            let code = if end_session { CLOSE_END_SESSION } else { CLOSE_RESUMABLE };
            self.begin_close(now, code, Cause::Stop);
        } else if self.state == State::Closing {
            // A close frame is on its way; there is no second one. An impatient second stop does not wait.
            if again {
                self.lose_link(now, Cause::Stop, Recovery::Resume);
            }
        } else {
            self.lose_link(now, Cause::Stop, Recovery::Resume);
        }
    }

    /// The one road from a link, or from none, to the next attempt or the end.
    pub(super) fn lose_link(&mut self, now: Instant, cause: Cause, recovery: Recovery) {
        let from = self.state;
        self.forget_sends();
        self.give_permit_back();
        if from.has_link() {
            self.stats.links_lost[cause.index()] += 1;
            if from.is_open() && cause.may_send_close() {
                self.outputs.push_back(Output::Close { code: CLOSE_RESUMABLE });
            }
            self.outputs.push_back(Output::DropLink);
        }
        self.timers = Default::default();
        self.closing = None;
        self.identify_ticket = None;
        let settled = self.settle(now);
        if from == State::Resuming {
            self.stats.resumes_failed += 1;
        }
        if recovery == Recovery::Stop
            && let Cause::PeerClosed { code: Some(number) } = cause
            && let Some(code) = CloseCode::from_number(number)
        {
            self.lose_session(LossReason::Closed(number));
            self.refuse_waiting();
            self.outputs.push_back(Output::Fatal(Fatal { code }));
            return self.enter(State::Fatal, Some(cause));
        }
        self.judge_session(from, cause, recovery);
        if let Some(end_session) = self.stop {
            if end_session {
                self.session = None;
            }
            self.enter(State::Stopped, Some(cause));
            return self.outputs.push_back(Output::Stopped);
        }
        if matches!(from, State::Connecting | State::AwaitingHello)
            && cause != Cause::Reconnect
            && let Some(session) = &mut self.session
        {
            session.set_resume_url(None);
        }
        if !settled || !cause.is_prompt() {
            self.attempt = self.attempt.saturating_add(1);
        }
        let delay = match self.retry_delay() {
            Duration::ZERO => self.rng.duration(Duration::ZERO, FIRST_RETRY_SPREAD),
            delay => delay,
        };
        self.set(Timer::Backoff, Some(now + delay));
        self.enter(State::Disconnected { attempt: self.attempt }, Some(cause));
    }

    /// Whether the session outlives this end of a link.
    fn judge_session(&mut self, from: State, cause: Cause, recovery: Recovery) {
        let Some(session) = &self.session else { return };
        let code = match cause {
            Cause::PeerClosed { code } => code,
            _ => None,
        };
        let reason = code.map_or(LossReason::ResumeFailed, LossReason::Closed);
        match recovery {
            Recovery::Identify | Recovery::Stop => self.lose_session(reason),
            Recovery::ResumeOnce if from == State::Resuming => self.lose_session(reason),
            Recovery::Resume | Recovery::ResumeOnce if from == State::Resuming => {
                if session.received() != self.resumes_stuck_at {
                    self.resumes_stuck_at = session.received();
                    self.resumes_stuck = 0;
                }
                self.resumes_stuck += 1;
                if self.resumes_stuck >= RESUMES_STUCK_MAX {
                    self.lose_session(LossReason::ResumeFailed);
                }
            }
            Recovery::Resume | Recovery::ResumeOnce => {}
        }
    }

    pub(super) fn lose_session(&mut self, reason: LossReason) {
        let Some(session) = self.session.take() else { return };
        self.stats.sessions_lost += 1;
        self.resumes_stuck = 0;
        self.resumes_stuck_at = 0;
        self.outputs.push_back(Output::SessionLost(SessionLost {
            session_hash: session.hash(),
            received: session.received(),
            confirmed: session.confirmed(),
            since: self.last_payload_at,
            reason,
        }));
    }

    /// Forgets earlier failures when the shard was active for long enough; answers whether it was.
    fn settle(&mut self, now: Instant) -> bool {
        let settled =
            self.active_since.take().is_some_and(|at| now.saturating_duration_since(at) >= SETTLED_AFTER);
        if settled {
            self.attempt = 0;
            self.identifies_unsettled = 0;
        }
        settled
    }

    /// How long to wait before the next link or IDENTIFY; zero after no failure.
    fn retry_delay(&mut self) -> Duration {
        let delay = self.backoff(self.attempt, BACKOFF_MAX);
        if self.session.is_some() {
            return delay;
        }
        delay.max(self.backoff(self.identifies_unsettled, IDENTIFY_BACKOFF_MAX))
    }

    fn backoff(&mut self, failures: u32, max: Duration) -> Duration {
        let Some(doublings) = failures.checked_sub(1) else { return Duration::ZERO };
        let full = BACKOFF_BASE.saturating_mul(1 << doublings.min(16)).min(max);
        self.rng.duration(full / 2, full)
    }

    /// INVALID SESSION: wait, then RESUME or IDENTIFY on the same link.
    pub(super) fn begin_renew(&mut self, now: Instant) {
        self.forget_sends();
        self.settle(now);
        let (low, high) = RENEW_WAIT;
        let wait = self.rng.duration(low, high) + self.retry_delay();
        self.attempt = self.attempt.saturating_add(1);
        self.set(Timer::Ready, None);
        self.set(Timer::Renew, Some(now + wait));
        self.link.resume_due = false;
        self.enter(if self.session.is_some() { State::Resuming } else { State::AwaitingPermit }, None);
    }

    pub(super) fn renew(&mut self, now: Instant) {
        if self.session.is_some() {
            self.link.resume_due = true;
            self.pump(now);
        } else {
            self.want_permit();
        }
    }

    pub(super) fn want_permit(&mut self) {
        self.tickets = self.tickets.wrapping_add(1);
        let ticket = u64::from(self.shard_id) << 32 | u64::from(self.tickets);
        self.permit = Some(ticket);
        self.outputs.push_back(Output::WantPermit { ticket });
    }

    fn give_permit_back(&mut self) {
        self.link.identify_due = false;
        if let Some(ticket) = self.permit.take() {
            self.outputs.push_back(Output::CancelPermit { ticket });
        }
    }

    // Payloads that were not handed out yet belong to the link or session that just ended.
    fn forget_sends(&mut self) {
        self.outputs.retain(|output| !matches!(output, Output::Send(_)));
    }
}
