//! Misbehaviour on demand, and its spelling for the command line and the admin route.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::discord::Timer;
use super::ledger::SessionEnd;
use super::{ConnectionId, Discord};

/// Something that Discord does and a client has to live with. A shard's fault hits its session's connection.
#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    /// Op 7; the server closes by itself after `Options::reconnect_grace`.
    Op7 {
        /// The shard.
        shard: u32,
    },
    /// Op 9. Not resumable: the session is gone.
    Op9 {
        /// The shard.
        shard: u32,
        /// `d`.
        resumable: bool,
    },
    /// A close frame. Codes of table 12 that end sessions do so.
    Close {
        /// The shard.
        shard: u32,
        /// The close code.
        code: u16,
    },
    /// The transport ends without a close frame.
    Drop {
        /// The shard.
        shard: u32,
    },
    /// Heartbeats are no longer acked, until `Heal` or a new connection.
    StopAcks {
        /// The shard.
        shard: u32,
    },
    /// Half-open: nothing at all arrives at the client any more.
    StopSending {
        /// The shard.
        shard: u32,
    },
    /// Half-open the other way: nothing of the client's is read any more.
    StopReading {
        /// The shard.
        shard: u32,
    },
    /// Ends `StopAcks`, `StopSending` and `StopReading`.
    Heal {
        /// The shard.
        shard: u32,
    },
    /// Op 1.
    HeartbeatRequest {
        /// The shard.
        shard: u32,
    },
    /// The session is forgotten without a word: a later RESUME gets op 9 false.
    InvalidateSession {
        /// The shard.
        shard: u32,
    },
    /// Any bytes as one payload; not numbered, not kept.
    Payload {
        /// The shard.
        shard: u32,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// The last dispatch once more, with its old `s`.
    Duplicate {
        /// The shard.
        shard: u32,
    },
    /// A dispatch with a name in no table.
    UnknownEvent {
        /// The shard.
        shard: u32,
    },
    /// The shard's first guild goes down and comes back after five seconds.
    GuildOutage {
        /// The shard.
        shard: u32,
    },
    /// The next `count` REST requests fail.
    RestStatus {
        /// The status.
        status: u16,
        /// For 429: seconds; `None` with 429 is a block without JSON.
        retry_after: Option<f64>,
        /// For 429: the global limit.
        global: bool,
        /// How many.
        count: u32,
    },
    /// The next `count` connections get op 7 instead of HELLO.
    HelloIsOp7 {
        /// How many.
        count: u32,
    },
    /// The next `count` IDENTIFYs get op 9 although they were in time.
    RefuseIdentify {
        /// How many.
        count: u32,
    },
}

#[derive(Clone, Debug)]
pub(super) struct RestFault {
    pub status: u16,
    pub retry_after: Option<f64>,
    pub global: bool,
}

/// Faults that wait for a client to come.
#[derive(Debug, Default)]
pub(super) struct Pending {
    hello_op7: u32,
    refuse_identify: u32,
    rest: VecDeque<(RestFault, u32)>,
}

fn take(count: &mut u32) -> bool {
    let some = *count > 0;
    *count = count.saturating_sub(1);
    some
}

impl Pending {
    pub fn take_hello_op7(&mut self) -> bool {
        take(&mut self.hello_op7)
    }

    pub fn take_refuse_identify(&mut self) -> bool {
        take(&mut self.refuse_identify)
    }

    pub fn take_rest(&mut self) -> Option<RestFault> {
        let (fault, count) = self.rest.front_mut()?;
        let fault = fault.clone();
        *count = count.saturating_sub(1);
        if *count == 0 {
            self.rest.pop_front();
        }
        Some(fault)
    }
}

impl Discord {
    /// Makes `fault` happen. False when the shard has nothing that it could hit.
    pub fn inject(&mut self, now: Instant, fault: Fault) -> bool {
        match fault {
            Fault::Op7 { shard } => {
                let grace = self.options.reconnect_grace;
                self.on(shard, |discord, id| {
                    discord.text(id, r#"{"t":null,"s":null,"op":7,"d":null}"#);
                    discord.timers.set(Timer::ReconnectGrace(id), Some(now + grace));
                })
            }
            Fault::Op9 { shard, resumable } => self.on(shard, |discord, id| {
                discord.invalid_session(id, resumable);
                let session = discord.connections.get_mut(&id).and_then(|c| c.session);
                if let Some(index) = session {
                    if resumable {
                        // The session waits, apart from its connection, until RESUME joins them again.
                        if let Some(connection) = discord.connections.get_mut(&id) {
                            connection.session = None;
                        }
                        if let Some(session) = discord.sessions.get_mut(&index) {
                            session.connection = None;
                        }
                        let lifetime = discord.options.session_lifetime;
                        discord.timers.set(Timer::Expire(index), Some(now + lifetime));
                    } else {
                        discord.end_session(index, SessionEnd::Invalidated);
                    }
                }
            }),
            Fault::Close { shard, code } => {
                let session = self.session_of(shard);
                let hit = self.on(shard, |discord, id| discord.close(now, id, Some(code)));
                if let (true, Some(index)) = (hit, session)
                    && matches!(code, 4001 | 4003..=4007 | 4009..=4014)
                {
                    self.end_session(index, SessionEnd::Invalidated);
                }
                hit
            }
            Fault::Drop { shard } => self.on(shard, |discord, id| discord.close(now, id, None)),
            Fault::StopAcks { shard } => self.on_connection(shard, |c| c.acks = false),
            Fault::StopSending { shard } => self.on_connection(shard, |c| c.sends = false),
            Fault::StopReading { shard } => self.on_connection(shard, |c| c.reads = false),
            Fault::Heal { shard } => {
                self.on_connection(shard, |c| (c.acks, c.sends, c.reads) = (true, true, true))
            }
            Fault::HeartbeatRequest { shard } => {
                self.on(shard, |discord, id| discord.text(id, r#"{"t":null,"s":null,"op":1,"d":null}"#))
            }
            Fault::InvalidateSession { shard } => match self.session_of(shard) {
                Some(index) => {
                    self.end_session(index, SessionEnd::Invalidated);
                    true
                }
                None => false,
            },
            Fault::Payload { shard, bytes } => {
                self.on(shard, |discord, id| discord.send(id, Arc::from(bytes)))
            }
            Fault::Duplicate { shard } => {
                let last = self.session_of(shard).and_then(|index| self.sessions.get(&index)?.last());
                last.is_some_and(|payload| self.on(shard, |discord, id| discord.send(id, payload)))
            }
            Fault::UnknownEvent { shard } => {
                self.emit(now, shard, "SOMETHING_NEW_CREATE", r#"{"op":7,"s":999999,"t":"READY"}"#).is_some()
            }
            Fault::GuildOutage { shard } => {
                let session = self.session_of(shard).and_then(|index| self.sessions.get(&index));
                let identity = session.map(|s| s.identity);
                let guild = identity.and_then(|i| self.world.guilds_of(i.shard_id, i.shard_count).next());
                guild.is_some_and(|guild| {
                    self.guild_outage(now, guild, Duration::from_secs(5));
                    true
                })
            }
            Fault::RestStatus { status, retry_after, global, count } => {
                let room = count > 0 && self.pending.rest.len() < 1024;
                if room {
                    self.pending.rest.push_back((RestFault { status, retry_after, global }, count));
                }
                room
            }
            Fault::HelloIsOp7 { count } => {
                self.pending.hello_op7 = self.pending.hello_op7.saturating_add(count);
                true
            }
            Fault::RefuseIdentify { count } => {
                self.pending.refuse_identify = self.pending.refuse_identify.saturating_add(count);
                true
            }
        }
    }

    fn on(&mut self, shard: u32, act: impl FnOnce(&mut Discord, ConnectionId)) -> bool {
        let id = self.connection_of(shard);
        id.is_some_and(|id| {
            act(self, id);
            true
        })
    }

    fn on_connection(&mut self, shard: u32, act: impl FnOnce(&mut super::discord::Connection)) -> bool {
        let id = self.connection_of(shard);
        id.and_then(|id| self.connections.get_mut(&id)).map(act).is_some()
    }

    /// Injects a spelled-out fault into its targets; says how many it hit.
    pub fn inject_spec(&mut self, now: Instant, spec: &FaultSpec) -> usize {
        let shards = match spec.target {
            Target::Shard(shard) => vec![shard],
            Target::All => self.connected_shards(),
            Target::Any => {
                let shards = self.connected_shards();
                let pick = self.generator.rng().below(shards.len() as u64) as usize;
                shards.get(pick).copied().into_iter().collect()
            }
        };
        if spec.fault.shard().is_none() {
            return usize::from(self.inject(now, spec.fault.clone()));
        }
        shards.into_iter().filter(|&shard| self.inject(now, spec.fault.clone().at(shard))).count()
    }
}

/// Which shards a spelled-out fault hits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// One connected shard, chosen by the seed.
    Any,
    /// Every connected shard.
    All,
    /// This one.
    Shard(u32),
}

/// When a spelled-out fault happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// At once.
    Now,
    /// Once, so long after the start.
    At(Duration),
    /// Again and again.
    Every(Duration),
}

/// A fault as written on the command line: `KIND[:ARGUMENT...][#SHARD|#all|#any][@TIME|@every:TIME]`.
#[derive(Clone, Debug, PartialEq)]
pub struct FaultSpec {
    /// What; its shard is filled in from `target`.
    pub fault: Fault,
    /// Whom.
    pub target: Target,
    /// When.
    pub when: When,
}

impl FaultSpec {
    /// Reads a spelled-out fault.
    ///
    /// # Errors
    /// Says what is wrong, for a person.
    pub fn parse(text: &str) -> Result<FaultSpec, String> {
        let (rest, when) = match text.split_once('@') {
            None => (text, When::Now),
            Some((rest, time)) => match time.strip_prefix("every:") {
                Some(time) => (rest, When::Every(time_of(time)?)),
                None => (rest, When::At(time_of(time)?)),
            },
        };
        if when == When::Every(Duration::ZERO) {
            return Err("`every` needs a time above 0".to_owned());
        }
        let (rest, target) = match rest.split_once('#') {
            None | Some((_, "any")) => (rest.split('#').next().unwrap_or(rest), Target::Any),
            Some((rest, "all")) => (rest, Target::All),
            Some((rest, shard)) => {
                let shard =
                    shard.parse().map_err(|_| format!("`{shard}` is no shard: a number, `all` or `any`"))?;
                (rest, Target::Shard(shard))
            }
        };
        let mut parts = rest.split(':');
        let kind = parts.next().unwrap_or_default();
        let first = parts.next();
        let number = |default: u32| -> Result<u32, String> {
            first.map_or(Ok(default), |text| {
                text.parse().map_err(|_| format!("`{text}` is no number in `{rest}`"))
            })
        };
        let code = |default: u16| {
            u16::try_from(number(default.into())?).map_err(|_| format!("number too large in `{rest}`"))
        };
        let shard = 0;
        let fault = match kind {
            "op7" => Fault::Op7 { shard },
            "op9" => Fault::Op9 { shard, resumable: first == Some("true") },
            "close" => Fault::Close { shard, code: code(4000)? },
            "drop" => Fault::Drop { shard },
            "stop-acks" => Fault::StopAcks { shard },
            "stop-sending" => Fault::StopSending { shard },
            "stop-reading" => Fault::StopReading { shard },
            "heal" => Fault::Heal { shard },
            "heartbeat" => Fault::HeartbeatRequest { shard },
            "invalidate" => Fault::InvalidateSession { shard },
            "payload" => {
                let bytes = rest.split_once(':').map_or("", |(_, text)| text).as_bytes().to_vec();
                Fault::Payload { shard, bytes }
            }
            "duplicate" => Fault::Duplicate { shard },
            "unknown-event" => Fault::UnknownEvent { shard },
            "guild-outage" => Fault::GuildOutage { shard },
            "rest" => {
                let retry_after = parts
                    .next()
                    .map(|t| t.parse::<f64>().map_err(|_| format!("`{t}` is no number of seconds")));
                let retry_after = retry_after.transpose()?.filter(|s| s.is_finite() && *s >= 0.0);
                Fault::RestStatus { status: code(503)?.clamp(200, 599), retry_after, global: false, count: 1 }
            }
            "hello-op7" => Fault::HelloIsOp7 { count: number(1)? },
            "refuse-identify" => Fault::RefuseIdentify { count: number(1)? },
            _ => return Err(format!("`{kind}` is no fault; see --help")),
        };
        Ok(FaultSpec { fault, target, when })
    }
}

fn time_of(text: &str) -> Result<Duration, String> {
    let bad = || format!("`{text}` is no time: 500ms, 30s, 5m");
    let (number, unit) = match text.strip_suffix("ms") {
        Some(number) => (number, 0.001),
        None if text.ends_with('m') => (text.trim_end_matches('m'), 60.0),
        None => (text.strip_suffix('s').unwrap_or(text), 1.0),
    };
    let seconds = number.parse::<f64>().map_err(|_| bad())? * unit;
    Duration::try_from_secs_f64(seconds).map_err(|_| bad())
}

impl Fault {
    /// The shard that it hits, if it is of that kind.
    pub fn shard(&self) -> Option<u32> {
        self.clone().shard_mut().map(|shard| *shard)
    }

    fn at(mut self, to: u32) -> Fault {
        if let Some(shard) = self.shard_mut() {
            *shard = to;
        }
        self
    }

    fn shard_mut(&mut self) -> Option<&mut u32> {
        match self {
            Fault::Op7 { shard }
            | Fault::Op9 { shard, .. }
            | Fault::Close { shard, .. }
            | Fault::Drop { shard }
            | Fault::StopAcks { shard }
            | Fault::StopSending { shard }
            | Fault::StopReading { shard }
            | Fault::Heal { shard }
            | Fault::HeartbeatRequest { shard }
            | Fault::InvalidateSession { shard }
            | Fault::Payload { shard, .. }
            | Fault::Duplicate { shard }
            | Fault::UnknownEvent { shard }
            | Fault::GuildOutage { shard } => Some(shard),
            Fault::RestStatus { .. } | Fault::HelloIsOp7 { .. } | Fault::RefuseIdentify { .. } => None,
        }
    }
}
