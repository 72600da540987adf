//! How many IDENTIFYs are left today, counted so that Discord never counts more.
//!
//! Discord's day begins when the first IDENTIFY arrives there and lasts 24 h. `GET /gateway/bot` tells when it ends;
//! until somebody asked, nobody here knows when it began, as a permit need not lead to an IDENTIFY. So what Discord
//! told counts until the end that it told, and permits count for 24 h each: never more than a day's number in any
//! 24 h. Obeys "Session start limit object".

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::Snapshot;

/// The window of the daily number.
const DAY: Duration = Duration::from_secs(24 * 3600);
/// How much later than the window its end is taken for true, and around that end each permit counts for both days.
/// Discord's day begins when the first IDENTIFY arrives there, and an IDENTIFY counts for the day in which it
/// arrives; both are later than the permit by a queue, a connection's retransmissions, a stalled network. A
/// minute, since one session start beyond the number costs the token, and a minute a day costs nothing.
pub(super) const DAY_MARGIN: Duration = Duration::from_secs(60);
/// How long a permit may be unknown to Discord after it was granted: what Discord tells in that time does not count
/// it for sure. As long as the margin of the day, for the same reason.
pub(super) const ARRIVAL_MARGIN: Duration = DAY_MARGIN;
/// Longest `reset_after` that is believed: twice the documented window.
const RESET_AFTER_MAX: Duration = Duration::from_secs(48 * 3600);
/// Shortest, where the number is used up already.
const RESET_AFTER_MIN: Duration = Duration::from_secs(1);

/// The longest rest of a day that a snapshot can tell.
const TOLD_MAX: Duration = Duration::from_secs(50 * 3600);
/// How long the span is whose permits a snapshot tells together, where they are many: a day has 145 of them, and at
/// most so much longer does one count.
const SLOT: Duration = Duration::from_secs(600);
/// How many permits are told one by one, and spans read from a snapshot: two days of them.
const SLOTS_MAX: usize = 300;

/// `session_start_limit` of `GET /gateway/bot`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionStartLimit {
    /// IDENTIFYs per day.
    pub total: u32,
    /// IDENTIFYs left today.
    pub remaining: u32,
    /// When today ends; zero where none was used yet.
    pub reset_after: Duration,
    /// How many buckets there are.
    pub max_concurrency: u32,
}

/// A permit that counts.
#[derive(Clone, Copy, Debug)]
struct Spent {
    ticket: Option<u64>,
    at: Instant,
    /// When Discord had answered its IDENTIFY.
    arrived: Option<Instant>,
}

#[derive(Debug)]
pub(super) struct Budget {
    total: u32,
    reserve: u32,
    /// What Discord had counted when it was last asked, and when that is over.
    told: Option<(u32, Instant)>,
    /// Permits that this does not include, the oldest first. As many as a day has.
    spent: VecDeque<Spent>,
}

impl Budget {
    /// A day as `GET /gateway/bot` tells of it.
    pub(super) fn new(now: Instant, limit: &SessionStartLimit, reserve: u32) -> Budget {
        let mut budget = Budget { total: 0, reserve, told: None, spent: VecDeque::new() };
        budget.hear(now, limit);
        budget
    }

    /// A day as it was at `then`.
    pub(super) fn restored(then: Instant, snapshot: &Snapshot, reserve: u32) -> Budget {
        let told = snapshot.told.map(|(used, left)| (used, then + left.min(TOLD_MAX)));
        let mut budget = Budget { total: snapshot.total, reserve, told, spent: VecDeque::new() };
        for &(age, count) in snapshot.spent.iter().take(SLOTS_MAX) {
            // An age that reaches further back than the clock has no meaning, and counts as none.
            let at = then.checked_sub(age).unwrap_or(then);
            // No more than a day has, whatever a damaged snapshot says.
            let room = (budget.total as usize).saturating_sub(budget.spent.len());
            let permits =
                std::iter::repeat_n(Spent { ticket: None, at, arrived: None }, room.min(count as usize));
            budget.spent.extend(permits);
        }
        budget
    }

    /// What counts, as a snapshot of a queue that is otherwise as the arguments say.
    pub(super) fn save(&self, now: Instant, max_concurrency: u32, busy: bool) -> Snapshot {
        let told = self.told.map(|(used, until)| (used, until.saturating_duration_since(now)));
        let mut slots: Vec<(Duration, u32)> = Vec::new();
        // As long as they are few each keeps its own age: merging makes them younger with every restart.
        let span = if self.spent.len() <= SLOTS_MAX { Duration::ZERO } else { SLOT };
        // From the newest: each slot has the age of its newest permit, so that none counts too short.
        for permit in self.spent.iter().rev() {
            let age = now.saturating_duration_since(permit.at);
            match slots.last_mut() {
                Some((newest, count)) if age <= *newest + span => *count += 1,
                _ => slots.push((age, 1)),
            }
        }
        slots.reverse();
        Snapshot { max_concurrency, total: self.total, told, spent: slots, busy }
    }

    /// Another number of IDENTIFYs per day.
    pub(super) fn set_total(&mut self, total: u32) {
        self.total = total;
    }

    pub(super) fn total(&self) -> u32 {
        self.total
    }

    pub(super) fn remaining(&self) -> u32 {
        let told = self.told.map_or(0, |(used, _)| used);
        let spent = u32::try_from(self.spent.len()).unwrap_or(u32::MAX);
        self.total.saturating_sub(told).saturating_sub(spent)
    }

    /// When there will be more than now: when the day that Discord told of ends, else when the oldest permit does not
    /// count any more. `None` where all are there.
    pub(super) fn reset_at(&self) -> Option<Instant> {
        let oldest = self.spent.front().map(|permit| permit.at + DAY + DAY_MARGIN);
        self.told.map(|(_, until)| until).or(oldest)
    }

    /// How many permits may go out.
    pub(super) fn spendable(&self) -> u32 {
        self.remaining().saturating_sub(self.reserve)
    }

    /// When there will be more, where nothing may be spent.
    pub(super) fn blocked_until(&self) -> Option<Instant> {
        self.reset_at().filter(|_| self.spendable() == 0)
    }

    fn hear(&mut self, now: Instant, limit: &SessionStartLimit) {
        self.total = limit.total;
        let used = limit.total.saturating_sub(limit.remaining);
        let left = limit.reset_after.clamp(RESET_AFTER_MIN, RESET_AFTER_MAX);
        // Where nothing was used, no day has begun yet, whatever `reset_after` says.
        self.told = (used > 0).then(|| (used, now + left + DAY_MARGIN));
    }

    /// Takes over what Discord said to a question of `asked_at`. Permits that Discord may not have known then are
    /// counted on top.
    pub(super) fn refresh(&mut self, now: Instant, asked_at: Instant, limit: &SessionStartLimit) {
        self.spent.retain(|permit| {
            permit.at + ARRIVAL_MARGIN >= asked_at && permit.arrived.is_none_or(|at| at >= asked_at)
        });
        self.hear(now, limit);
    }

    pub(super) fn spend(&mut self, now: Instant, ticket: u64) {
        self.spent.push_back(Spent { ticket: Some(ticket), at: now, arrived: None });
    }

    /// The permit was not used.
    pub(super) fn give_back(&mut self, ticket: u64) {
        // From the newest, where it is.
        if let Some(at) = self.spent.iter().rposition(|permit| permit.ticket == Some(ticket)) {
            self.spent.remove(at);
        }
    }

    /// Discord has answered the IDENTIFY of a permit.
    pub(super) fn arrived(&mut self, now: Instant, ticket: u64) {
        if let Some(permit) = self.spent.iter_mut().rev().find(|permit| permit.ticket == Some(ticket)) {
            permit.arrived = Some(now);
        }
    }

    /// Forgets what does not count any more.
    pub(super) fn turn_over(&mut self, now: Instant) {
        let kept_for = match self.told {
            // They are of the day that Discord told of.
            Some((_, until)) if until > now => return,
            // That is over, but a late permit of it may count for the next one.
            Some(_) => DAY_MARGIN * 2,
            None => DAY + DAY_MARGIN,
        };
        self.told = None;
        while self.spent.front().is_some_and(|permit| permit.at + kept_for <= now) {
            self.spent.pop_front();
        }
    }
}
