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
/// Payloads kept back from heartbeats that Discord asks for and from commands, so that a flood of requests cannot
/// stop the scheduled ones.
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

impl Class {
    const fn is_command(self) -> bool {
        matches!(self, Class::Command | Class::Presence)
    }
}

/// What was sent lately on one connection.
#[derive(Debug)]
pub struct Budget {
    // Invariant: in order of time, at most PAYLOADS_MAX.
    sent: VecDeque<(Instant, Class)>,
    // Invariant: the workers' commands in `sent`.
    commands: usize,
    // Invariant: the requested heartbeats in `sent`.
    requested: usize,
    // Invariant: in order of time, at most PRESENCES_MAX.
    presences: VecDeque<Instant>,
    commands_max: usize,
    // Of commands and requested heartbeats together.
    unscheduled_max: usize,
}

impl Default for Budget {
    fn default() -> Budget {
        Budget {
            sent: VecDeque::new(),
            commands: 0,
            requested: 0,
            presences: VecDeque::new(),
            commands_max: PAYLOADS_MAX - RESERVED,
            unscheduled_max: PAYLOADS_MAX - RESERVED_FROM_REQUESTED,
        }
    }
}

impl Budget {
    /// Starts over: the limits are per connection.
    pub fn reset(&mut self) {
        self.sent.clear();
        self.commands = 0;
        self.requested = 0;
        self.presences.clear();
        self.commands_max = PAYLOADS_MAX - RESERVED;
        self.unscheduled_max = PAYLOADS_MAX - RESERVED_FROM_REQUESTED;
    }

    /// Keeps room for heartbeats of this interval: ten are plenty for Discord's usual 41 s, but not for 1 s.
    pub fn reserve_for(&mut self, heartbeat_interval: Duration) {
        let heartbeats = WINDOW.as_millis().div_ceil(heartbeat_interval.as_millis().max(1));
        let heartbeats = usize::try_from(heartbeats).unwrap_or(PAYLOADS_MAX);
        let reserved = heartbeats.saturating_add(5).max(RESERVED);
        self.commands_max = PAYLOADS_MAX.saturating_sub(reserved).max(1);
        // The five are for IDENTIFY and RESUME, which INVALID SESSION may ask for again and again.
        let reserved = heartbeats.saturating_add(5).max(RESERVED_FROM_REQUESTED);
        self.unscheduled_max = PAYLOADS_MAX.saturating_sub(reserved).max(1);
    }

    /// Takes room for one payload.
    ///
    /// # Errors
    /// When there is none: the time at which it is worth asking again.
    pub fn take(&mut self, now: Instant, class: Class) -> Result<(), Instant> {
        self.expire(now);
        let is_command = class.is_command();
        let limit = match class {
            Class::Protocol => PAYLOADS_MAX,
            Class::RequestedHeartbeat | Class::Command | Class::Presence => {
                PAYLOADS_MAX - RESERVED_FROM_REQUESTED
            }
        };
        // The entry that has to leave the window before the count is below the limit.
        if let Some(index) = self.sent.len().checked_sub(limit)
            && let Some(&(at, _)) = self.sent.get(index)
        {
            return Err(at + WINDOW);
        }
        if is_command
            && self.commands >= self.commands_max
            && let Some(&(at, _)) = self.sent.iter().find(|(_, class)| class.is_command())
        {
            return Err(at + WINDOW);
        }
        if class != Class::Protocol
            && self.commands + self.requested >= self.unscheduled_max
            && let Some(&(at, _)) = self.sent.iter().find(|(_, class)| *class != Class::Protocol)
        {
            return Err(at + WINDOW);
        }
        if class == Class::Presence {
            if self.presences.len() >= PRESENCES_MAX
                && let Some(&at) = self.presences.front()
            {
                return Err(at + PRESENCE_WINDOW);
            }
            self.presences.push_back(now);
        }
        self.commands += usize::from(is_command);
        self.requested += usize::from(class == Class::RequestedHeartbeat);
        self.sent.push_back((now, class));
        Ok(())
    }

    fn expire(&mut self, now: Instant) {
        while let Some(&(at, class)) = self.sent.front()
            && now.saturating_duration_since(at) >= WINDOW
        {
            self.sent.pop_front();
            self.commands -= usize::from(class.is_command());
            self.requested -= usize::from(class == Class::RequestedHeartbeat);
        }
        while let Some(&at) = self.presences.front()
            && now.saturating_duration_since(at) >= PRESENCE_WINDOW
        {
            self.presences.pop_front();
        }
    }

    /// How many payloads stand in the window.
    pub fn spent(&self) -> usize {
        self.sent.len()
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
        // Three places are never a command's: four entries have to leave first.
        assert_eq!(budget.take(at(200), Class::Command), Err(at(3) + WINDOW));
        assert_eq!(budget.take(at(2) + WINDOW, Class::Command), Err(at(3) + WINDOW));
        assert_eq!(budget.take(at(3) + WINDOW, Class::Command), Ok(()));
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
    fn a_flood_of_requested_heartbeats_leaves_room_for_the_scheduled_ones() {
        let start = Instant::now();
        for interval in [1, 2, 15, 41] {
            let mut budget = Budget::default();
            budget.reserve_for(Duration::from_secs(interval));
            for second in 0..500 {
                let now = start + Duration::from_secs(second);
                if second % interval == 0 {
                    assert_eq!(
                        budget.take(now, Class::Protocol),
                        Ok(()),
                        "every {interval} s, at {second} s"
                    );
                }
                while budget.take(now, Class::RequestedHeartbeat).is_ok() {}
            }
        }
    }

    #[test]
    fn a_short_interval_reserves_more() {
        let start = Instant::now();
        let mut budget = Budget::default();
        budget.reserve_for(Duration::from_secs(1));
        let commands = (0..200).filter(|_| budget.take(start, Class::Command).is_ok()).count();
        assert_eq!(commands, 120 - 67);
        // Heartbeats at that pace find room, and commands are not starved by them.
        for second in 0..500 {
            let now = start + Duration::from_secs(second);
            assert_eq!(budget.take(now, Class::Protocol), Ok(()));
            assert_eq!(budget.take(now, Class::Command).is_ok(), second >= 62 && second % 62 < 53);
        }
    }
}
