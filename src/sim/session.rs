//! A session: the numbered dispatches of one shard, kept so that RESUME can have them again; and what the machine
//! does with sessions, from READY to their end.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use super::discord::{Output, Timer};
use super::events::GUILD_PRESENCES;
use super::ledger::{Dispatch, SessionEnd, SessionRecord, hash};
use super::world::mix;
use super::{ConnectionId, Discord, SessionIndex};

/// The part of IDENTIFY that shapes a session.
#[derive(Clone, Copy, Debug)]
pub(super) struct Identity {
    pub shard_id: u32,
    pub shard_count: u32,
    pub intents: u64,
    pub large_threshold: u32,
}

#[derive(Debug)]
pub(super) struct Session {
    pub id: Box<str>,
    pub identity: Identity,
    pub connection: Option<ConnectionId>,
    /// The last `s` given out.
    pub seq: u64,
    /// Dispatches by `s`, ascending; a missing `s` is one that the shell plays from its recording.
    replay: VecDeque<(u64, Arc<[u8]>)>,
    replay_max: u64,
}

/// What RESUME gets to see again.
#[derive(Debug)]
pub(super) enum Replay {
    Stored(Arc<[u8]>),
    /// `count` dispatches from `first` on, out of the recording.
    Recorded {
        first: u64,
        count: u64,
    },
}

impl Session {
    pub fn new(id: Box<str>, identity: Identity, connection: ConnectionId, replay_max: usize) -> Session {
        let replay_max = replay_max as u64;
        Session { id, identity, connection: Some(connection), seq: 0, replay: VecDeque::new(), replay_max }
    }

    /// Numbers a dispatch and keeps it.
    pub fn push(&mut self, event: &str, d: &str) -> (u64, Arc<[u8]>) {
        self.seq += 1;
        let text = format!("{{\"t\":\"{event}\",\"s\":{},\"op\":0,\"d\":{d}}}", self.seq);
        let payload: Arc<[u8]> = Arc::from(text.into_bytes());
        self.replay.push_back((self.seq, payload.clone()));
        self.trim();
        (self.seq, payload)
    }

    /// Gives out up to `count` numbers to dispatches that the shell plays; says the first.
    pub fn allot(&mut self, count: u64) -> u64 {
        let first = self.seq + 1;
        self.seq += count;
        self.trim();
        first
    }

    fn trim(&mut self) {
        let oldest = self.oldest();
        while self.replay.front().is_some_and(|&(seq, _)| seq < oldest) {
            self.replay.pop_front();
        }
    }

    /// The first `s` that can be sent again.
    fn oldest(&self) -> u64 {
        self.seq.saturating_sub(self.replay_max) + 1
    }

    /// Everything after `seq`, or `None` when the buffer no longer reaches back to it.
    pub fn replay(&self, seq: u64) -> Option<Vec<Replay>> {
        if seq + 1 < self.oldest() {
            return None;
        }
        let mut out = Vec::new();
        let mut next = seq + 1;
        let start = self.replay.partition_point(|&(s, _)| s <= seq);
        for (s, payload) in self.replay.range(start..) {
            if *s > next {
                out.push(Replay::Recorded { first: next, count: *s - next });
            }
            out.push(Replay::Stored(payload.clone()));
            next = *s + 1;
        }
        if next <= self.seq {
            out.push(Replay::Recorded { first: next, count: self.seq - next + 1 });
        }
        Some(out)
    }

    /// The last stored dispatch, for the fault that says it twice.
    pub fn last(&self) -> Option<Arc<[u8]>> {
        self.replay.back().map(|(_, payload)| payload.clone())
    }
}

impl Discord {
    /// READY and the GUILD_CREATEs of a new session.
    pub(super) fn start_session(&mut self, id: ConnectionId, identity: Identity, sharded: bool) {
        let index = self.next_session;
        self.next_session += 1;
        let seed = self.options.seed;
        let session_id: Box<str> =
            format!("{:016x}{:016x}", mix(seed, 20, index), mix(seed, 21, index)).into();
        let session = Session::new(session_id.clone(), identity, id, self.options.replay_buffer);
        self.sessions.insert(index, session);
        self.by_id.insert(session_id.clone(), index);
        self.routes.entry((identity.shard_count, identity.shard_id)).or_default().push(index);
        let record = SessionRecord {
            session_id: session_id.clone(),
            shard_id: identity.shard_id,
            shard_count: identity.shard_count,
            last_seq: 0,
            resumes: 0,
            end: None,
        };
        self.ledger.session(index, record);
        let mut version = 10;
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.session = Some(index);
            version = connection.version;
        }
        self.ledger.readies += 1;
        let url = self.options.resume_gateway_url.as_ref().unwrap_or(&self.options.gateway_url);
        let shard = sharded.then_some((identity.shard_id, identity.shard_count));
        let ready = self.world.ready(version, &session_id, url, shard);
        self.dispatch(index, "READY", &ready);
        if identity.intents & 1 == 1 {
            let guilds: Vec<u32> = self.world.guilds_of(identity.shard_id, identity.shard_count).collect();
            for (n, &guild) in guilds.iter().enumerate() {
                if n == 0 {
                    // Events of a guild may precede its GUILD_CREATE; the bot's own member update does.
                    let d = self.own_member_update(guild);
                    self.dispatch(index, "GUILD_MEMBER_UPDATE", &d);
                }
                self.guild_create(guild, Some(index));
            }
        }
    }

    pub(super) fn own_member_update(&self, guild: u32) -> String {
        let mut d = "{\"user\":".to_owned();
        self.world.user(&mut d, guild, 0);
        d.push(',');
        self.world.member_fields(&mut d, guild, 0, false);
        d.push_str(&format!(",\"guild_id\":\"{}\"}}", self.world.guild_id(guild)));
        d
    }

    /// Sends GUILD_CREATE to one session, or to all that have the guild.
    pub(super) fn guild_create(&mut self, guild: u32, only: Option<SessionIndex>) {
        for index in only.map_or_else(|| self.owners(Some(guild)), |index| vec![index]) {
            let Some(session) = self.sessions.get(&index) else { continue };
            let identity = session.identity;
            if identity.intents & 1 == 0 {
                continue;
            }
            let presences = identity.intents & GUILD_PRESENCES != 0 && self.world.members <= 75_000;
            let d = self.world.guild_create(guild, presences, identity.large_threshold);
            self.dispatch(index, "GUILD_CREATE", &d);
        }
    }

    /// The sessions that get an event of `guild`, or of no guild.
    pub(super) fn owners(&self, guild: Option<u32>) -> Vec<SessionIndex> {
        let mut out = Vec::new();
        let mut last_count = None;
        for &(count, _) in self.routes.keys() {
            if last_count.replace(count) == Some(count) {
                continue;
            }
            let shard = guild.map_or(0, |guild| self.world.shard_of(guild, count));
            out.extend(self.routes.get(&(count, shard)).into_iter().flatten());
        }
        out
    }

    /// Numbers a dispatch, buffers it, and sends it if the session is connected.
    pub(super) fn dispatch(&mut self, index: SessionIndex, event: &str, d: &str) -> Option<u64> {
        let session = self.sessions.get_mut(&index)?;
        let (seq, payload) = session.push(event, d);
        self.ledger.dispatches += 1;
        if let Some(record) = self.ledger.sessions.get_mut(&index) {
            record.last_seq = seq;
        }
        if self.ledger.dispatch_log.len() < self.options.ledger_dispatches_max {
            let shard_id = session.identity.shard_id;
            let d_hash = hash(d.as_bytes());
            self.ledger.dispatch_log.push(Dispatch {
                session: index,
                shard_id,
                seq,
                event: event.into(),
                d_hash,
            });
        }
        if let Some(connection) = session.connection {
            self.send(connection, payload);
        }
        Some(seq)
    }

    pub(super) fn find_session(&self, session_id: &str) -> Option<SessionIndex> {
        self.by_id.get(session_id).copied()
    }

    /// Continues a session on `id`: everything after `seq`, then RESUMED. False when the buffer no longer has it.
    pub(super) fn resume_session(
        &mut self,
        now: Instant,
        id: ConnectionId,
        index: SessionIndex,
        seq: u64,
    ) -> bool {
        let Some(session) = self.sessions.get_mut(&index) else { return false };
        let Some(replay) = session.replay(seq) else { return false };
        if let Some(old) = session.connection.replace(id)
            && old != id
        {
            // The client came back before the old connection was seen to be dead.
            if let Some(connection) = self.connections.get_mut(&old) {
                connection.session = None;
            }
            self.close(now, old, None);
        }
        self.timers.set(Timer::Expire(index), None);
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.session = Some(index);
        }
        for item in replay {
            match item {
                Replay::Stored(payload) => {
                    self.ledger.replayed += 1;
                    self.send(id, payload);
                }
                Replay::Recorded { first, count } => {
                    self.ledger.replayed += count;
                    self.outputs.push_back(Output::Recorded { connection: id, first, count });
                }
            }
        }
        self.ledger.resumes += 1;
        if let Some(record) = self.ledger.sessions.get_mut(&index) {
            record.resumes += 1;
        }
        self.dispatch(index, "RESUMED", r#"{"_trace":["[\"gateway-stand-in\",{\"micros\":1}]"]}"#);
        true
    }

    /// Ends a session; a connection that it has stays, without one.
    pub(super) fn end_session(&mut self, index: SessionIndex, end: SessionEnd) {
        let Some(session) = self.sessions.remove(&index) else { return };
        self.timers.set(Timer::Expire(index), None);
        self.by_id.remove(&session.id);
        let key = (session.identity.shard_count, session.identity.shard_id);
        if let Some(list) = self.routes.get_mut(&key) {
            list.retain(|&other| other != index);
            if list.is_empty() {
                self.routes.remove(&key);
            }
        }
        if let Some(connection) = session.connection.and_then(|id| self.connections.get_mut(&id)) {
            connection.session = None;
        }
        if let Some(record) = self.ledger.sessions.get_mut(&index) {
            record.end = Some(end);
        }
    }
}
