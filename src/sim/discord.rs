//! The machine: connections, sessions, time. What clients send is in `commands`, misbehaviour in `faults`.
//!
//! ```text
//! accept ──HELLO──▶ Greeted ──IDENTIFY, READY──▶ Live(session) ──close 1000/1001──▶ session ends
//!                     │  ▲                          │
//!                     │  └── op 9 ── RESUME refused │ any other end
//!                     └── RESUME, RESUMED ──▶ Live  └──▶ session waits, buffers, expires
//! ```
//!
//! Contract: one call that changes something, then [`Discord::poll_output`] until `None`, then
//! [`Discord::poll_timeout`]. A connection that the machine closed is unknown to it from then on, and input for
//! unknown connections is ignored.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::events::{Event, Generator};
use super::faults::Pending;
use super::ledger::{Ledger, SessionEnd, Violation, ViolationKind};
use super::options::Options;
use super::session::Session;
use super::world::{World, mix};
use super::{ConnectionId, SessionIndex};
use crate::base::Timers;

/// What the shell has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send one gateway payload.
    Text {
        /// To whom.
        connection: ConnectionId,
        /// JSON text, unless a fault made it something else.
        payload: Arc<[u8]>,
    },
    /// Send `count` dispatches from `first` on out of the recording. Only with [`Options::recorded`].
    Recorded {
        /// To whom.
        connection: ConnectionId,
        /// The first `s`.
        first: u64,
        /// How many.
        count: u64,
    },
    /// End the connection: with a close frame, or abruptly.
    Close {
        /// Which.
        connection: ConnectionId,
        /// The close code; `None` drops the transport without a close frame.
        code: Option<u16>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Timer {
    Heartbeat(ConnectionId),
    ReconnectGrace(ConnectionId),
    Expire(SessionIndex),
    Recover(u32),
    Event,
}

#[derive(Debug)]
pub(super) struct Connection {
    pub session: Option<SessionIndex>,
    pub version: u32,
    /// Arrival of client payloads within the last 60 s.
    pub payloads: VecDeque<Instant>,
    /// Arrival of presence updates within the last 20 s.
    pub presences: VecDeque<Instant>,
    /// The shard that last tried to identify or resume here.
    pub shard_id: Option<u32>,
    pub acks: bool,
    pub sends: bool,
    pub reads: bool,
    pub compress_payloads: bool,
}

/// Discord, as far as a gateway client can tell.
#[derive(Debug)]
pub struct Discord {
    pub(super) options: Options,
    pub(super) world: World,
    pub(super) generator: Generator,
    pub(super) connections: BTreeMap<ConnectionId, Connection>,
    pub(super) sessions: BTreeMap<SessionIndex, Session>,
    pub(super) by_id: HashMap<Box<str>, SessionIndex>,
    /// Living sessions by (shard_count, shard_id): every one gets its copy of an event.
    pub(super) routes: BTreeMap<(u32, u32), Vec<SessionIndex>>,
    pub(super) next_session: SessionIndex,
    start: Instant,
    next_event: Option<Instant>,
    pub(super) bucket_last: BTreeMap<u32, Instant>,
    pub(super) starts_remaining: u32,
    pub(super) starts_reset_at: Option<Instant>,
    pub(super) token_reset: bool,
    /// Last full member list per guild, for its 30 s rule.
    pub(super) member_lists: BTreeMap<u32, Instant>,
    pub(super) pending: Pending,
    pub(super) timers: Timers<Timer>,
    pub(super) outputs: VecDeque<Output>,
    pub(super) ledger: Ledger,
}

impl Discord {
    /// A Discord that starts at `now` with no connections.
    pub fn new(options: Options, now: Instant) -> Discord {
        let mut discord = Discord {
            world: World::new(options.seed, options.guilds, options.members),
            generator: Generator::new(options.seed),
            connections: BTreeMap::new(),
            sessions: BTreeMap::new(),
            by_id: HashMap::new(),
            routes: BTreeMap::new(),
            next_session: 1,
            start: now,
            next_event: None,
            bucket_last: BTreeMap::new(),
            starts_remaining: options.session_starts_remaining,
            starts_reset_at: None,
            token_reset: false,
            member_lists: BTreeMap::new(),
            pending: Pending::default(),
            timers: Timers::default(),
            outputs: VecDeque::new(),
            ledger: Ledger::default(),
            options,
        };
        if discord.starts_remaining < discord.options.session_starts_total {
            discord.starts_reset_at = Some(now + discord.options.reset_after);
        }
        let rate = discord.options.rate;
        discord.set_rate(now, rate);
        discord
    }

    /// The options it was made with, [`Options::rate`] as last set.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// What was seen and done so far.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Changes how many dispatches per second are generated over the whole bot.
    pub fn set_rate(&mut self, now: Instant, rate: f64) {
        self.options.rate = if rate.is_finite() { rate.clamp(0.0, 1e7) } else { 0.0 };
        self.next_event = (self.options.rate > 0.0 && !self.options.recorded).then_some(now);
        self.schedule_event();
    }

    /// Connections that are open.
    pub fn connection_count(&self) -> usize {
        self.connections.len()
    }

    /// Sessions that live, connected or not.
    pub fn session_count(&self) -> usize {
        self.sessions.len()
    }

    /// Shards with a live connection, ascending.
    pub fn connected_shards(&self) -> Vec<u32> {
        let connected =
            |index: &&SessionIndex| self.sessions.get(index).is_some_and(|s| s.connection.is_some());
        let mut shards: Vec<u32> = self
            .routes
            .iter()
            .filter(|(_, list)| list.iter().any(|index| connected(&index)))
            .map(|(&(_, shard), _)| shard)
            .collect();
        shards.sort_unstable();
        shards.dedup();
        shards
    }

    /// The connection of a shard, if it has one.
    pub fn connection_of(&self, shard_id: u32) -> Option<ConnectionId> {
        self.session_of(shard_id).and_then(|index| self.sessions.get(&index)?.connection)
    }

    /// The session of a shard: the newest that is connected, else the newest.
    pub(super) fn session_of(&self, shard_id: u32) -> Option<SessionIndex> {
        let of_shard = self.sessions.iter().filter(|(_, s)| s.identity.shard_id == shard_id);
        of_shard.max_by_key(|&(&index, s)| (s.connection.is_some(), index)).map(|(&index, _)| index)
    }

    /// The last `s` of a shard's session.
    pub fn last_seq(&self, shard_id: u32) -> Option<u64> {
        self.session_of(shard_id).and_then(|index| Some(self.sessions.get(&index)?.seq))
    }

    /// Whether the shell should read from this connection: false once a fault stopped it.
    pub fn reads(&self, connection: ConnectionId) -> bool {
        self.connections.get(&connection).is_none_or(|c| c.reads)
    }

    /// Whether the client asked for payload compression in IDENTIFY.
    pub fn compresses_payloads(&self, connection: ConnectionId) -> bool {
        self.connections.get(&connection).is_some_and(|c| c.compress_payloads)
    }

    /// A new connection whose WebSocket handshake carried `query`, such as `v=10&encoding=json`.
    pub fn accept(&mut self, now: Instant, id: ConnectionId, query: &str) {
        self.ledger.connections += 1;
        let parameter = |name| {
            query.split('&').filter_map(|pair| pair.split_once('=')).find(|&(k, _)| k == name).map(|(_, v)| v)
        };
        let version = parameter("v").and_then(|v| v.parse().ok()).unwrap_or(6);
        let connection = Connection {
            session: None,
            version,
            payloads: VecDeque::new(),
            presences: VecDeque::new(),
            shard_id: None,
            acks: true,
            sends: true,
            reads: true,
            compress_payloads: false,
        };
        self.connections.insert(id, connection);
        if !matches!(version, 9 | 10) {
            return self.close_by_rule(now, id, 4012, "unsupported version");
        }
        if parameter("encoding").is_some_and(|e| e != "json") {
            return self.close_by_rule(now, id, 4012, "only JSON is spoken here");
        }
        if self.pending.take_hello_op7() {
            self.text(id, r#"{"t":null,"s":null,"op":7,"d":null}"#);
            self.timers.set(Timer::ReconnectGrace(id), Some(now + self.options.reconnect_grace));
            return;
        }
        self.expect_heartbeat(now, id);
        let interval_ms = self.options.heartbeat_interval.as_millis();
        let trace = r#"["[\"gateway-stand-in\",{\"micros\":0.0}]"]"#;
        let hello = format!(
            r#"{{"t":null,"s":null,"op":10,"d":{{"heartbeat_interval":{interval_ms},"_trace":{trace}}}}}"#
        );
        self.text(id, &hello);
    }

    pub(super) fn expect_heartbeat(&mut self, now: Instant, id: ConnectionId) {
        let patience = self.options.heartbeat_interval.mul_f64(self.options.heartbeat_tolerance.max(0.1));
        self.timers.set(Timer::Heartbeat(id), Some(now + patience));
    }

    /// The client ended the connection: with a close code, or (`None`) without.
    pub fn handle_close(&mut self, now: Instant, id: ConnectionId, code: Option<u16>) {
        let Some(connection) = self.connections.get(&id) else { return };
        *self.ledger.client_closes.entry(code).or_default() += 1;
        let session = connection.session;
        self.forget(now, id);
        if let (Some(index), Some(1000 | 1001)) = (session, code) {
            self.end_session(index, SessionEnd::ClosedByClient);
        }
    }

    /// Fires what is due.
    pub fn handle_deadline(&mut self, now: Instant) {
        while let Some(timer) = self.timers.pop_due(now) {
            match timer {
                Timer::Heartbeat(id) => {
                    self.violate(now, id, ViolationKind::HeartbeatMissing);
                    self.close(now, id, Some(4009));
                }
                Timer::ReconnectGrace(id) => self.close(now, id, Some(4000)),
                Timer::Expire(index) => self.end_session(index, SessionEnd::Expired),
                Timer::Recover(guild) => self.guild_create(guild, None),
                Timer::Event => self.generate(now),
            }
        }
    }

    /// When [`Discord::handle_deadline`] has to be called next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Pushes a dispatch of the caller's own to a shard's session; says its `s`, or `None` without a session.
    pub fn emit(&mut self, _now: Instant, shard_id: u32, event: &str, d: &str) -> Option<u64> {
        let index = self.session_of(shard_id)?;
        self.dispatch(index, event, d)
    }

    /// With [`Options::recorded`]: gives the numbers of the next `count` recorded dispatches to a connection, of
    /// which the first is returned. `None` when it has no session or must not be sent to. The shell then sends
    /// them: the body of `s` is a function of `s` alone, so that a RESUME can have it again.
    pub fn play(&mut self, id: ConnectionId, count: u64) -> Option<u64> {
        let connection = self.connections.get(&id)?;
        if !connection.sends || !self.options.recorded {
            return None;
        }
        let index = connection.session?;
        let session = self.sessions.get_mut(&index)?;
        let first = session.allot(count);
        self.ledger.dispatches += count;
        if let Some(record) = self.ledger.sessions.get_mut(&index) {
            record.last_seq = session.seq;
        }
        Some(first)
    }

    /// The identity that a recording for this connection depends on: (shard_id, shard_count, intents).
    pub fn identity_of(&self, id: ConnectionId) -> Option<(u32, u32, u64)> {
        let identity = self.sessions.get(&self.connections.get(&id)?.session?)?.identity;
        Some((identity.shard_id, identity.shard_count, identity.intents))
    }

    /// The events of a recording: (name, `d`), always the same for the same arguments.
    pub fn recorded_events(&self, identity: (u32, u32, u64), count: usize) -> Vec<(&'static str, String)> {
        let (shard_id, shard_count, intents) = identity;
        let guilds: Vec<u32> = self.world.guilds_of(shard_id, shard_count).collect();
        let mut generator = Generator::new(mix(self.options.seed, shard_id.into(), shard_count.into()));
        let mut out = Vec::with_capacity(count);
        // Hardly any intents leave hardly any events: stop looking after a while and take what there is.
        for n in 0..count as u64 * 20 {
            let now_ms = self.options.epoch_ms + n;
            let event = match guilds.len() {
                0 => generator.next(&World { guilds: 0, ..self.world.clone() }, now_ms),
                len => {
                    let guild = guilds[generator.rng().below(len as u64) as usize];
                    Some(generator.in_guild(&self.world, guild, now_ms))
                }
            };
            if let Some(event) = event
                && let Some(d) = event.body(intents)
            {
                out.push((event.name, d.to_owned()));
            }
            if out.len() >= count {
                break;
            }
        }
        if out.is_empty() {
            out.push(("USER_UPDATE", format!("{{\"id\":\"{}\"}}", self.world.bot_id)));
        }
        out
    }

    // Connections.

    /// Forgets a connection; its session waits to be resumed.
    fn forget(&mut self, now: Instant, id: ConnectionId) {
        let Some(connection) = self.connections.remove(&id) else { return };
        self.timers.set(Timer::Heartbeat(id), None);
        self.timers.set(Timer::ReconnectGrace(id), None);
        if let Some(index) = connection.session
            && let Some(session) = self.sessions.get_mut(&index)
            && session.connection == Some(id)
        {
            session.connection = None;
            self.timers.set(Timer::Expire(index), Some(now + self.options.session_lifetime));
        }
    }

    /// Ends a connection from this side; its session waits to be resumed.
    pub(super) fn close(&mut self, now: Instant, id: ConnectionId, code: Option<u16>) {
        let Some(connection) = self.connections.get(&id) else { return };
        *self.ledger.closes.entry(code).or_default() += 1;
        // A half-open connection stays silent to the end: the client has to find out by itself.
        if connection.sends {
            self.outputs.push_back(Output::Close { connection: id, code });
        }
        self.forget(now, id);
    }

    /// Closes because of what the client did. Codes after which RESUME is refused end the session.
    pub(super) fn close_by_rule(&mut self, now: Instant, id: ConnectionId, code: u16, reason: &'static str) {
        self.violate(now, id, ViolationKind::Closed { code, reason });
        let session = self.connections.get(&id).and_then(|c| c.session);
        self.close(now, id, Some(code));
        if let Some(index) = session
            && !matches!(code, 4000 | 4002 | 4008)
        {
            self.end_session(index, SessionEnd::Invalidated);
        }
    }

    pub(super) fn violate(&mut self, at: Instant, connection: ConnectionId, kind: ViolationKind) {
        let shard_id = self.connections.get(&connection).and_then(|c| c.shard_id);
        self.ledger.violate(Violation { at, connection, shard_id, kind });
    }

    pub(super) fn text(&mut self, id: ConnectionId, payload: &str) {
        self.send(id, Arc::from(payload.as_bytes()));
    }

    pub(super) fn send(&mut self, id: ConnectionId, payload: Arc<[u8]>) {
        if self.connections.get(&id).is_some_and(|c| c.sends) {
            self.outputs.push_back(Output::Text { connection: id, payload });
        }
    }

    pub(super) fn invalid_session(&mut self, id: ConnectionId, resumable: bool) {
        self.ledger.invalid_sessions += 1;
        self.text(id, &format!(r#"{{"t":null,"s":null,"op":9,"d":{resumable}}}"#));
    }

    // Generated events.

    fn schedule_event(&mut self) {
        self.timers.set(Timer::Event, self.next_event);
    }

    fn generate(&mut self, now: Instant) {
        // Bounded per call, so that a jump of time does not stall the caller.
        const BURST_MAX: usize = 10_000;
        for _ in 0..BURST_MAX {
            let Some(due) = self.next_event.filter(|&due| due <= now) else { break };
            let now_ms = self.now_ms(due);
            if let Some(event) = self.generator.next(&self.world, now_ms) {
                self.spread(&event);
            }
            // Exponential gaps: arrivals of many independent people.
            let unit = 1.0 - self.generator.rng().unit();
            self.next_event =
                Some(due + Duration::from_secs_f64((-unit.ln() / self.options.rate).min(3600.0)));
        }
        if self.next_event.is_some_and(|due| due <= now) {
            self.next_event = Some(now);
        }
        self.schedule_event();
    }

    pub(super) fn now_ms(&self, now: Instant) -> u64 {
        self.options.epoch_ms + now.saturating_duration_since(self.start).as_millis() as u64
    }

    /// Gives an event to every session whose shard and intents it fits.
    pub(super) fn spread(&mut self, event: &Event) {
        for index in self.owners(event.guild) {
            let Some(intents) = self.sessions.get(&index).map(|s| s.identity.intents) else { continue };
            if let Some(d) = event.body(intents) {
                self.dispatch(index, event.name, d);
            }
        }
    }

    /// A guild of a shard goes down: GUILD_DELETE now, GUILD_CREATE after `down_for`.
    pub(super) fn guild_outage(&mut self, now: Instant, guild: u32, down_for: Duration) {
        let d = format!("{{\"unavailable\":true,\"id\":\"{}\"}}", self.world.guild_id(guild));
        let event = Event { name: "GUILD_DELETE", intents: 1, guild: Some(guild), d, d_bare: None };
        self.spread(&event);
        self.timers.set(Timer::Recover(guild), Some(now + down_for));
    }
}
