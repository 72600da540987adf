//! A gate per bot: requests by key in, permits by ticket out.
//!
//! ```text
//! Ask { key, shard } ---> gate of the key: queue::Machine ---> ticket granted ---> reported or given back
//! ```
//!
//! Gates know nothing of each other. One that is not the service's own begins with the first request for its key. How
//! many there may be is bounded: when another one is needed, the one goes that was asked for longest ago, if nobody
//! waits at it and it remembers nothing, or what it remembers is kept elsewhere.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use super::asked::Ask;
use crate::queue::{Full, Machine, Options, Report, SessionStartLimit, Snapshot, Stats};

/// How many buckets a client may claim for its bot. The largest number known of is 64; each may hold memory.
const MAX_CONCURRENCY_MAX: u32 = 1000;

/// How many session starts a day a client may claim for its bot: what a bot of a million shards would need.
const TOTAL_MAX: u32 = 1_000_000;

/// What Discord gives a bot with one bucket, where nobody told.
const TOTAL_SMALL: u32 = 1000;

/// What Discord gives at least to a bot with more.
const TOTAL_LARGE: u32 = 2000;

/// How long a permit is held for those who do not tell what becomes of it: the service does so itself within seconds,
/// so this is for a bug.
const HELD_MAX: Duration = Duration::from_secs(3600);

/// What all gates have in common.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Added to the 5 s between IDENTIFYs.
    pub slack: Duration,
    /// IDENTIFYs of the day that are never spent.
    pub reserve: u32,
    /// How many requests may wait at each gate.
    pub requests_max: usize,
    /// How many gates there may be, the service's own not counted. 1,000: a host of many bots; each key may be sent
    /// by anybody who reaches the port.
    pub gates_max: usize,
    /// Whether what [`Gates::poll_unsaved`] gives is kept, so that a gate may go and come back.
    pub is_kept: bool,
}

/// Why a request is not taken. It is not answered either.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// As many wait at the gate as may.
    Full,
    /// There are as many gates as there may be.
    TooManyGates,
}

impl From<Full> for Refusal {
    fn from(_: Full) -> Refusal {
        Refusal::Full
    }
}

/// The name of the service's own gate.
pub const OWN: &str = "";

#[derive(Debug)]
struct Gate {
    machine: Machine,
    /// Whether buckets and number are Discord's word; else clients tell.
    is_set: bool,
    saved_busy: bool,
    /// When somebody last asked.
    asked_at: Instant,
    /// When Discord said what a client told of it.
    told_at: Option<Instant>,
}

/// A gate as it stands, for metrics.
#[derive(Clone, Debug)]
pub struct Status {
    /// The key; empty for the service's own.
    pub key: String,
    /// Who waits.
    pub waiting: usize,
    /// Permits left today.
    pub remaining: u32,
    /// Permits a day has.
    pub total: u32,
    /// Buckets.
    pub max_concurrency: u32,
    /// How long until the next permit, if somebody waits and it depends on time alone.
    pub next_permit_in: Option<Duration>,
    /// How long until there are more, where some are spent.
    pub reset_in: Option<Duration>,
    /// What was counted.
    pub stats: Stats,
}

/// All gates of a service.
#[derive(Debug)]
pub struct Gates {
    settings: Settings,
    gates: BTreeMap<String, Gate>,
    /// The key that is the service's own bot under another name.
    own_hash: Option<String>,
    /// Whose request it is, and for which shard.
    tickets: BTreeMap<u64, (String, u32)>,
    granted: VecDeque<u64>,
    unsaved: BTreeSet<String>,
    remembers: bool,
    forgotten: Vec<String>,
    /// New gates keep their distance until then: nobody knows what was granted before the start.
    not_before: Instant,
    /// Requests refused for want of a gate.
    pub refused_gates: u64,
}

impl Gates {
    /// No gates but the service's own, with `machine`. `own_hash` is the key by which its bot is also known, where
    /// Discord is asked for it; else clients tell what Discord said. Where the service does not remember what it did
    /// before (`remembers`), nothing is known of a new gate.
    pub fn new(
        settings: Settings,
        machine: Machine,
        own_hash: Option<String>,
        remembers: bool,
        now: Instant,
    ) -> Gates {
        let distance = Gates::options(&settings, None, None).spacing + settings.slack;
        let not_before = if remembers { now } else { now + distance };
        let own =
            Gate { machine, is_set: own_hash.is_some(), saved_busy: false, asked_at: now, told_at: None };
        Gates {
            settings,
            gates: BTreeMap::from([(OWN.to_owned(), own)]),
            own_hash,
            tickets: BTreeMap::new(),
            granted: VecDeque::new(),
            // Whoever finds a file knows that the service remembers.
            unsaved: BTreeSet::from([OWN.to_owned()]),
            remembers,
            forgotten: Vec::new(),
            not_before,
            refused_gates: 0,
        }
    }

    /// The options of a gate with so many buckets and session starts, where they are known.
    pub fn options(settings: &Settings, max_concurrency: Option<u32>, total: Option<u32>) -> Options {
        let max_concurrency = max_concurrency.unwrap_or(1).clamp(1, MAX_CONCURRENCY_MAX);
        let usual = if max_concurrency > 1 { TOTAL_LARGE } else { TOTAL_SMALL };
        let total = total.unwrap_or(usual).clamp(1, TOTAL_MAX);
        Options {
            slack: settings.slack,
            reserve: settings.reserve,
            requests_max: settings.requests_max,
            feedback_wait: Some(HELD_MAX),
            ..Options::new(max_concurrency, total, total, Duration::ZERO)
        }
    }

    /// Adds the gate of a key as it was before a restart. Says whether there was room for it; where not, it must not
    /// begin anew either when there is.
    pub fn restore(&mut self, now: Instant, key: &str, snapshot: &Snapshot, elapsed: Duration) -> bool {
        if !self.make_room(now) {
            return false;
        }
        let options = Gates::options(&self.settings, Some(snapshot.max_concurrency), Some(snapshot.total));
        let machine = Machine::restore(options, snapshot, elapsed, now);
        let gate = Gate { machine, is_set: false, saved_busy: snapshot.busy, asked_at: now, told_at: None };
        self.gates.entry(key.to_owned()).or_insert(gate);
        true
    }

    /// Asks for a permit, to be named by `ticket`.
    ///
    /// # Errors
    /// When there is no room for the request.
    pub fn request(&mut self, now: Instant, ticket: u64, ask: &Ask) -> Result<(), Refusal> {
        let key = self.name(ask);
        self.make_gate(now, &key, ask)?;
        // It was just made, or was there.
        let Some(gate) = self.gates.get_mut(&key) else { return Err(Refusal::TooManyGates) };
        gate.asked_at = now;
        if !gate.is_set {
            gate.claim(now, &key, ask);
        }
        gate.machine.request(now, ticket, ask.shard_id)?;
        self.tickets.insert(ticket, (key.clone(), ask.shard_id));
        self.drain(&key);
        Ok(())
    }

    /// Whoever had this ticket is gone, or does not want a permit any more. Costs nothing before the IDENTIFY.
    pub fn cancel(&mut self, now: Instant, ticket: u64) {
        self.with(ticket, true, |machine, _| machine.cancel(now, ticket));
    }

    /// What became of a permit.
    pub fn report(&mut self, now: Instant, ticket: u64, report: Report) {
        let is_last = report != Report::Identified;
        self.with(ticket, is_last, |machine, shard_id| match report {
            Report::Identified => machine.identified(now, ticket, shard_id),
            Report::Answered => {
                // Its IDENTIFY was sent, then, whether that was told or not.
                if machine.holds(ticket) {
                    machine.identified(now, ticket, shard_id);
                }
                machine.answered(now, ticket, shard_id);
            }
            Report::Returned => machine.returned(now, ticket),
        });
    }

    /// The permit of this ticket has been used as far as anybody can tell, and nothing more will be told of it.
    pub fn used(&mut self, now: Instant, ticket: u64) {
        self.with(ticket, true, |machine, shard_id| machine.identified(now, ticket, shard_id));
    }

    /// Nothing more will be told of this ticket, whose IDENTIFY was reported.
    pub fn forget(&mut self, ticket: u64) {
        self.tickets.remove(&ticket);
    }

    fn with(&mut self, ticket: u64, is_last: bool, change: impl FnOnce(&mut Machine, u32)) {
        let Some((key, shard_id)) = self.tickets.get(&ticket).cloned() else { return };
        if is_last {
            self.tickets.remove(&ticket);
            self.granted.retain(|&granted| granted != ticket);
        }
        if let Some(gate) = self.gates.get_mut(&key) {
            change(&mut gate.machine, shard_id);
        }
        self.drain(&key);
    }

    /// Whether a permit is granted to this ticket and nothing was told of it yet.
    pub fn holds(&self, ticket: u64) -> bool {
        let Some((key, _)) = self.tickets.get(&ticket) else { return false };
        self.gates.get(key).is_some_and(|gate| gate.machine.holds(ticket))
    }

    /// Takes over what Discord said of the service's own bot, and opens its gate.
    pub fn refresh(&mut self, now: Instant, asked_at: Instant, limit: &SessionStartLimit) {
        if let Some(own) = self.gates.get_mut(OWN) {
            if own.machine.is_closed() && !self.remembers && limit.remaining < limit.total {
                // Some session was started today, and nobody knows how long ago.
                own.machine.keep_distance(now);
            }
            own.machine.refresh(now, asked_at, limit);
            own.machine.set_closed(now, false);
        }
        self.unsaved.insert(OWN.to_owned());
        self.drain(OWN);
    }

    /// Opens the service's own gate, though Discord has not said anything yet.
    pub fn open_own(&mut self, now: Instant) {
        if let Some(own) = self.gates.get_mut(OWN) {
            own.machine.set_closed(now, false);
        }
        self.drain(OWN);
    }

    /// The next ticket whose permit is granted. Before it is answered, save what [`Gates::poll_unsaved`] tells.
    pub fn poll_granted(&mut self) -> Option<u64> {
        self.granted.pop_front()
    }

    /// A gate whose state has changed in a way that has to outlive the process.
    pub fn poll_unsaved(&mut self) -> Option<(String, Snapshot)> {
        let key = self.unsaved.pop_first()?;
        let gate = self.gates.get_mut(&key)?;
        let snapshot = gate.machine.snapshot();
        gate.saved_busy = snapshot.busy;
        Some((key, snapshot))
    }

    /// What [`Gates::poll_unsaved`] gave could not be kept: it is given again.
    pub fn not_saved(&mut self, key: &str) {
        self.unsaved.insert(key.to_owned());
    }

    /// Whether a gate may go because its state is kept.
    pub fn keeps(&self) -> bool {
        self.settings.is_kept
    }

    /// From now on a gate goes only if it has nothing to remember.
    pub fn keep_no_others(&mut self) {
        self.settings.is_kept = false;
    }

    /// A gate that was forgotten and had nothing to remember: what is kept of it can go.
    pub fn poll_forgotten(&mut self) -> Option<String> {
        self.forgotten.pop()
    }

    /// When to call [`Gates::handle_deadline`].
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.gates.values().filter_map(|gate| gate.machine.poll_timeout()).min()
    }

    /// Lets every gate know the time: one that nobody asks has no deadline, but permits that count no more.
    fn look(&mut self, now: Instant) {
        let keys: Vec<String> = self.gates.keys().cloned().collect();
        for key in keys {
            if let Some(gate) = self.gates.get_mut(&key) {
                gate.machine.handle_deadline(now);
            }
            self.drain(&key);
        }
    }

    /// Time has passed.
    pub fn handle_deadline(&mut self, now: Instant) {
        let due = |gate: &Gate| gate.machine.poll_timeout().is_some_and(|at| at <= now);
        let keys: Vec<String> =
            self.gates.iter().filter(|(_, gate)| due(gate)).map(|(key, _)| key.clone()).collect();
        for key in keys {
            if let Some(gate) = self.gates.get_mut(&key) {
                gate.machine.handle_deadline(now);
            }
            self.drain(&key);
        }
    }

    /// Whether there is a gate of this key, or it is the service's own bot's.
    pub fn knows(&self, key: &str) -> bool {
        self.gates.contains_key(key) || self.own_hash.as_deref() == Some(key)
    }

    /// The service's own gate.
    pub fn own(&self) -> &Machine {
        // Made by `new` and never removed.
        &self.gates[OWN].machine
    }

    /// Every gate as it stands.
    pub fn status(&mut self, now: Instant) -> Vec<Status> {
        self.look(now);
        let status = |(key, gate): (&String, &Gate)| Status {
            key: key.clone(),
            waiting: gate.machine.waiting(),
            remaining: gate.machine.remaining(),
            total: gate.machine.total(),
            max_concurrency: gate.machine.max_concurrency(),
            next_permit_in: gate.machine.next_permit_at().map(|at| at.saturating_duration_since(now)),
            reset_in: gate.machine.reset_at().map(|at| at.saturating_duration_since(now)),
            stats: gate.machine.stats(),
        };
        self.gates.iter().map(status).collect()
    }

    /// How many buckets the gate of an ask has.
    pub fn buckets(&self, ask: &Ask) -> u32 {
        self.gates.get(&self.name(ask)).map_or(1, |gate| gate.machine.max_concurrency())
    }

    /// How many requests wait at all gates.
    pub fn waiting(&self) -> usize {
        self.gates.values().map(|gate| gate.machine.waiting()).sum()
    }

    /// The gate that an ask is for.
    fn name(&self, ask: &Ask) -> String {
        match &ask.key {
            Some(key) if self.own_hash.as_ref() != Some(key) => key.clone(),
            _ => OWN.to_owned(),
        }
    }

    fn make_gate(&mut self, now: Instant, key: &str, ask: &Ask) -> Result<(), Refusal> {
        if self.gates.contains_key(key) {
            return Ok(());
        }
        if !self.make_room(now) {
            self.refused_gates += 1;
            return Err(Refusal::TooManyGates);
        }
        let options = Gates::options(&self.settings, ask.max_concurrency, ask.total);
        let mut machine = Machine::new(options, now);
        if now < self.not_before {
            machine.keep_distance(now);
        }
        let gate = Gate { machine, is_set: false, saved_busy: false, asked_at: now, told_at: None };
        self.gates.insert(key.to_owned(), gate);
        Ok(())
    }

    /// Whether there is room for a gate, if need be that of another one.
    fn make_room(&mut self, now: Instant) -> bool {
        // The service's own is not counted.
        if self.gates.len() <= self.settings.gates_max {
            return true;
        }
        self.look(now);
        let is_blank = |gate: &Gate| gate.machine.remaining() == gate.machine.total();
        let may_go = |(key, gate): &(&String, &Gate)| {
            key.as_str() != OWN
                && gate.machine.is_quiet()
                && (is_blank(gate) || (self.settings.is_kept && !self.unsaved.contains(*key)))
        };
        let candidates = self.gates.iter().filter(may_go);
        let Some((key, blank)) = candidates
            .min_by_key(|(_, gate)| (!is_blank(gate), gate.asked_at))
            .map(|(key, gate)| (key.clone(), is_blank(gate)))
        else {
            return false;
        };
        self.gates.remove(&key);
        self.unsaved.remove(&key);
        if blank {
            self.forgotten.push(key);
        }
        true
    }

    /// Takes a gate's permits out and notes whether its state has to be saved.
    fn drain(&mut self, key: &str) {
        let Some(gate) = self.gates.get_mut(key) else { return };
        let before = self.granted.len();
        while let Some(permit) = gate.machine.poll_permit() {
            self.granted.push_back(permit.ticket);
        }
        // What is written says whether the gate is busy; a permit makes it so, and time ends it.
        if self.granted.len() > before || gate.machine.is_quiet() == gate.saved_busy {
            self.unsaved.insert(key.to_owned());
        }
    }
}

impl Gate {
    /// What a client says of its bot. Of buckets the smaller number counts, as it is the safe one; a larger one from
    /// the moment at which nobody waits and no permit is young. Of session starts the latest word of Discord counts.
    fn claim(&mut self, now: Instant, key: &str, ask: &Ask) {
        let gate = if key == OWN { "the service's own" } else { key };
        if key != OWN
            && let Some(claimed) = ask.max_concurrency.map(|number| number.clamp(1, MAX_CONCURRENCY_MAX))
        {
            let buckets = self.machine.max_concurrency();
            if claimed < buckets || (claimed > buckets && self.machine.is_quiet()) {
                log::info!(gate; "{claimed} buckets, not {buckets}: a client says so");
                self.machine.set_max_concurrency(now, claimed);
            }
        }
        if let Some(told) = ask.limit {
            let age = Duration::from_millis(told.age_ms).min(TOLD_AGE_MAX);
            let told_at = now.checked_sub(age).unwrap_or(now);
            if self.told_at.is_none_or(|before| before < told_at) {
                self.told_at = Some(told_at);
                let limit = SessionStartLimit {
                    total: told.total.clamp(1, TOTAL_MAX),
                    remaining: told.remaining,
                    reset_after: Duration::from_millis(told.reset_after_ms).saturating_sub(age),
                    max_concurrency: self.machine.max_concurrency(),
                };
                self.machine.refresh(now, told_at, &limit);
            }
        } else if let Some(claimed) = ask.total.map(|total| total.clamp(1, TOTAL_MAX))
            && key != OWN
        {
            // A number below what is spent cannot be true, and would close the gate for a day.
            let (total, spent) = (self.machine.total(), self.machine.total() - self.machine.remaining());
            if claimed != total && claimed > spent && self.told_at.is_none() {
                log::info!(gate; "{claimed} session starts a day, not {total}: a client says so");
                self.machine.set_total(now, claimed);
            }
        }
    }
}

/// The oldest word of Discord that a client may tell; older ones count as this old.
const TOLD_AGE_MAX: Duration = Duration::from_secs(24 * 3600);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::asked::Form;

    fn ask(key: &str) -> Ask {
        Ask {
            key: Some(key.to_owned()),
            shard_id: 0,
            max_concurrency: None,
            total: None,
            limit: None,
            form: Form::Message,
            feedback: false,
            warning: None,
        }
    }

    fn gates(gates_max: usize, now: Instant) -> Gates {
        let settings =
            Settings { slack: Duration::ZERO, reserve: 0, requests_max: 10, gates_max, is_kept: false };
        Gates::new(settings, Machine::new(Gates::options(&settings, None, None), now), None, true, now)
    }

    /// A gate that comes back when there are as many as may be takes the room of one that remembers nothing, and is not
    /// taken for a new one, which would grant at once.
    #[test]
    fn a_gate_that_comes_back_finds_room() {
        let now = crate::reactor::clock::read().now;
        let mut gates = gates(1, now);
        let spent = Snapshot {
            max_concurrency: 1,
            total: 1,
            told: None,
            spent: vec![(Duration::ZERO, 1)],
            busy: true,
        };
        let blank = Snapshot { spent: Vec::new(), busy: false, ..spent.clone() };
        assert!(gates.restore(now, "blank", &blank, Duration::ZERO));
        assert!(gates.restore(now, "spent", &spent, Duration::ZERO));
        assert!(!gates.knows("blank"));
        gates.request(now, 1, &ask("spent")).expect("there is room");
        assert_eq!(gates.poll_granted(), None);
        // This one remembers something, so neither a gate that comes back nor a new one takes its room.
        assert!(!gates.restore(now, "other", &spent, Duration::ZERO));
        assert_eq!(gates.request(now, 2, &ask("other")), Err(Refusal::TooManyGates));
        assert_eq!(gates.refused_gates, 1);
    }
}
