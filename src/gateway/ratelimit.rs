//! How many payloads may still be sent on a connection: Discord allows 120 in 60 s and closes with 4008 at the
//! 121st; presence updates have a limit of their own, 5 in 20 s ("Gateway", "Rate limiting").
//!
//! The count is a log of send times per connection. Windows are a little longer than Discord's, because what
//! is counted there is the arrival: a payload that was delayed on its way falls into a later window.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Payloads in one window.
pub const PAYLOADS_MAX: usize = 120;
/// Discord's 60 s, and 2 s for payloads that travel at different speeds.
pub const WINDOW: Duration = Duration::from_secs(62);
/// Payloads kept back from workers' commands for heartbeats, IDENTIFY and RESUME.
pub const RESERVED: usize = 10;
/// Payloads kept back from heartbeats that Discord asks for, so that a flood of requests cannot stop the
/// scheduled ones.
pub const RESERVED_FROM_REQUESTED: usize = 3;
/// Presence updates in one window of theirs.
pub const PRESENCES_MAX: usize = 5;
/// Discord's 20 s, and 1 s as above.
pub const PRESENCE_WINDOW: Duration = Duration::from_secs(21);

/// Who wants to send, the least important last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// A scheduled heartbeat, IDENTIFY or RESUME.
    Protocol,
    /// A heartbeat that Discord asked for.
    RequestedHeartbeat,
    /// A worker's command.
    Command,
    /// A worker's presence update.
    Presence,
}

/// What was sent lately on one connection.
#[derive(Debug)]
pub struct Budget {
    // Invariant: both in order of time; `sent` holds at most PAYLOADS_MAX, `presences` PRESENCES_MAX.
    sent: VecDeque<Instant>,
    presences: VecDeque<Instant>,
    reserved: usize,
}

impl Default for Budget {
    fn default() -> Budget {
        Budget { sent: VecDeque::new(), presences: VecDeque::new(), reserved: RESERVED }
    }
}

impl Budget {
    /// Starts over: the limits are per connection.
    pub fn reset(&mut self) {
        self.sent.clear();
        self.presences.clear();
        self.reserved = RESERVED;
    }

    /// Keeps room for heartbeats of this interval: ten are plenty for Discord's usual 41 s, but not for 1 s.
    pub fn reserve_for(&mut self, heartbeat_interval: Duration) {
        let heartbeats = WINDOW.as_millis().div_ceil(heartbeat_interval.as_millis().max(1));
        let heartbeats = usize::try_from(heartbeats).unwrap_or(PAYLOADS_MAX);
        self.reserved = heartbeats.saturating_add(5).clamp(RESERVED, PAYLOADS_MAX);
    }

    /// Takes room for one payload.
    ///
    /// # Errors
    /// When there is none: the time at which there will be.
    pub fn take(&mut self, now: Instant, class: Class) -> Result<(), Instant> {
        expire(&mut self.sent, now, WINDOW);
        let limit = match class {
            Class::Protocol => PAYLOADS_MAX,
            Class::RequestedHeartbeat => PAYLOADS_MAX - RESERVED_FROM_REQUESTED,
            Class::Command | Class::Presence => PAYLOADS_MAX - self.reserved,
        };
        // The entry whose end of window brings the count below the limit.
        if let Some(surplus) = (self.sent.len() + 1).checked_sub(limit)
            && surplus > 0
        {
            let frees = self.sent.get(surplus - 1).copied().unwrap_or(now);
            return Err(frees + WINDOW);
        }
        if class == Class::Presence {
            expire(&mut self.presences, now, PRESENCE_WINDOW);
            if self.presences.len() >= PRESENCES_MAX
                && let Some(&first) = self.presences.front()
            {
                return Err(first + PRESENCE_WINDOW);
            }
            self.presences.push_back(now);
        }
        self.sent.push_back(now);
        Ok(())
    }

    /// How many payloads stand in the window.
    pub fn spent(&self) -> usize {
        self.sent.len()
    }
}

fn expire(sent: &mut VecDeque<Instant>, now: Instant, window: Duration) {
    while sent.front().is_some_and(|&at| now.saturating_duration_since(at) >= window) {
        sent.pop_front();
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)] // A starting point for arithmetic; nothing depends on its value.
mod tests {
    use super::*;

    #[test]
    fn commands_leave_room_for_heartbeats() {
        let start = Instant::now();
        let mut budget = Budget::default();
        for _ in 0..110 {
            assert_eq!(budget.take(start, Class::Command), Ok(()));
        }
        assert_eq!(budget.take(start, Class::Command), Err(start + WINDOW));
        for _ in 0..7 {
            assert_eq!(budget.take(start, Class::RequestedHeartbeat), Ok(()));
        }
        assert_eq!(budget.take(start, Class::RequestedHeartbeat), Err(start + WINDOW));
        for _ in 0..3 {
            assert_eq!(budget.take(start, Class::Protocol), Ok(()));
        }
        assert_eq!(budget.take(start, Class::Protocol), Err(start + WINDOW));
        assert_eq!(budget.spent(), 120);
        assert_eq!(budget.take(start + WINDOW, Class::Command), Ok(()));
        budget.reset();
        assert_eq!(budget.spent(), 0);
    }

    #[test]
    fn the_answer_is_the_time_at_which_a_retry_succeeds() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let mut budget = Budget::default();
        for i in 0..120 {
            assert_eq!(budget.take(at(i), Class::Protocol), Ok(()));
        }
        // 110 are a command's limit: eleven entries have to leave first.
        assert_eq!(budget.take(at(200), Class::Command), Err(at(10) + WINDOW));
        assert_eq!(budget.take(at(9) + WINDOW, Class::Command), Err(at(10) + WINDOW));
        assert_eq!(budget.take(at(10) + WINDOW, Class::Command), Ok(()));
    }

    #[test]
    fn presences_have_a_limit_of_their_own() {
        let start = Instant::now();
        let mut budget = Budget::default();
        for _ in 0..5 {
            assert_eq!(budget.take(start, Class::Presence), Ok(()));
        }
        assert_eq!(budget.take(start, Class::Presence), Err(start + PRESENCE_WINDOW));
        assert_eq!(budget.spent(), 5);
        assert_eq!(budget.take(start, Class::Command), Ok(()));
        assert_eq!(budget.take(start + PRESENCE_WINDOW, Class::Presence), Ok(()));
    }

    #[test]
    fn a_short_interval_reserves_more() {
        let start = Instant::now();
        let mut budget = Budget::default();
        budget.reserve_for(Duration::from_secs(1));
        let commands = (0..200).filter(|_| budget.take(start, Class::Command).is_ok()).count();
        assert_eq!(commands, 120 - 67);
    }
}
