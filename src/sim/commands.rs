//! What a client may send, and what it gets for it. Table: gateway opcodes; limits: "Rate Limiting".

use std::fmt::Write;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::events::{GUILD_MEMBERS, GUILD_PRESENCES};
use super::ledger::{Command, Identify, SessionEnd, ViolationKind};
use super::options::{INTENTS_ALL, INTENTS_PRIVILEGED};
use super::session::Identity;
use super::world::CHANNELS;
use super::{ConnectionId, Discord};

/// The window of the 120 payloads.
const PAYLOAD_WINDOW: Duration = Duration::from_secs(60);
/// Five presence updates in 20 s.
const PRESENCES_MAX: usize = 5;
const PRESENCE_WINDOW: Duration = Duration::from_secs(20);
/// One full member list per guild and bot in 30 s.
const MEMBER_LIST_SPACING: Duration = Duration::from_secs(30);
/// Members in one GUILD_MEMBERS_CHUNK.
const CHUNK_MEMBERS: usize = 1000;
/// Bytes of a nonce; a longer one is ignored.
const NONCE_BYTES_MAX: usize = 32;

/// What a payload ends in.
enum Verdict {
    Fine,
    Close(u16, &'static str),
}

const MALFORMED: Verdict = Verdict::Close(4001, "malformed body");

impl Discord {
    /// One WebSocket message of a client.
    pub fn handle_text(&mut self, now: Instant, id: ConnectionId, payload: &[u8]) {
        let Some(connection) = self.connections.get_mut(&id).filter(|c| c.reads) else { return };
        while connection
            .payloads
            .front()
            .is_some_and(|&at| now.saturating_duration_since(at) >= PAYLOAD_WINDOW)
        {
            connection.payloads.pop_front();
        }
        let over = connection.payloads.len() >= self.options.payloads_per_minute;
        connection.payloads.push_back(now);
        let in_window = connection.payloads.len();
        self.ledger.payloads_in_60_s_max = self.ledger.payloads_in_60_s_max.max(in_window);
        if over {
            self.violate(now, id, ViolationKind::TooManyPayloads);
            return self.close(now, id, Some(4008));
        }
        if payload.len() > self.options.payload_bytes_max {
            self.violate(now, id, ViolationKind::PayloadTooLarge { bytes: payload.len() });
            return self.close(now, id, Some(4002));
        }
        if let Verdict::Close(code, reason) = self.command(now, id, payload) {
            self.close_by_rule(now, id, code, reason);
        }
    }

    fn command(&mut self, now: Instant, id: ConnectionId, payload: &[u8]) -> Verdict {
        let Ok(Value::Object(mut envelope)) = serde_json::from_slice::<Value>(payload) else {
            return Verdict::Close(4002, "no JSON object");
        };
        let Some(op) = envelope.get("op").and_then(Value::as_u64) else {
            return Verdict::Close(4002, "no op");
        };
        let d = envelope.remove("d").unwrap_or(Value::Null);
        // Ops that no one defines are counted as one, so that a client cannot grow the table.
        *self.ledger.commands.entry(op.min(255)).or_default() += 1;
        if !matches!(op, 2 | 6) {
            let shard_id = self.connections.get(&id).and_then(|c| c.shard_id);
            self.ledger.command(Command { at: now, connection: id, shard_id, op, d: d.to_string() });
        }
        let live = self.connections.get(&id).is_some_and(|c| c.session.is_some());
        match op {
            1 => self.heartbeat(now, id, &d),
            2 | 6 if live => Verdict::Close(4005, "already authenticated"),
            2 => self.identify(now, id, &d),
            6 => self.resume(now, id, &d),
            3 | 4 | 8 | 31 | 43 if !live => Verdict::Close(4003, "not authenticated"),
            3 => self.update_presence(now, id, &d),
            4 => self.update_voice_state(id, &d),
            8 => self.request_guild_members(now, id, &d),
            31 => self.request_soundboard_sounds(id, &d),
            43 => self.request_channel_info(id, &d),
            _ => Verdict::Close(4001, "unknown opcode"),
        }
    }

    fn heartbeat(&mut self, now: Instant, id: ConnectionId, d: &Value) -> Verdict {
        let sent = match d {
            Value::Null => None,
            Value::Number(n) => match n.as_u64() {
                Some(n) => Some(n),
                None => return MALFORMED,
            },
            _ => return MALFORMED,
        };
        let Some(connection) = self.connections.get(&id) else { return Verdict::Fine };
        let (acks, session) = (connection.acks, connection.session);
        if let (Some(sent), Some(last)) = (sent, session.and_then(|i| self.sessions.get(&i)).map(|s| s.seq))
            && sent > last
        {
            self.violate(now, id, ViolationKind::HeartbeatSeqAhead { sent, last });
        }
        self.expect_heartbeat(now, id);
        if acks {
            self.ledger.acks += 1;
            self.text(id, r#"{"t":null,"s":null,"op":11,"d":null}"#);
        }
        Verdict::Fine
    }

    fn identify(&mut self, now: Instant, id: ConnectionId, d: &Value) -> Verdict {
        let (Some(token), Some(properties)) = (d.get("token").and_then(Value::as_str), d.get("properties"))
        else {
            return MALFORMED;
        };
        if !properties.is_object() {
            return MALFORMED;
        }
        if !self.token_fits(token) {
            return Verdict::Close(4004, "authentication failed");
        }
        let (shard_id, shard_count) = match d.get("shard") {
            None | Some(Value::Null) => (0, 1),
            Some(shard) => {
                let number =
                    |n: usize| shard.get(n).and_then(Value::as_u64).and_then(|n| u32::try_from(n).ok());
                match (number(0), number(1), shard.as_array().map(Vec::len)) {
                    (Some(id), Some(count), Some(2)) => (id, count),
                    (.., Some(_)) => return Verdict::Close(4010, "invalid shard"),
                    _ => return MALFORMED,
                }
            }
        };
        let multiple = self.options.shard_count_multiple.unwrap_or(1).max(1);
        if shard_id >= shard_count || shard_count % multiple != 0 {
            return Verdict::Close(4010, "invalid shard");
        }
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.shard_id = Some(shard_id);
            connection.compress_payloads = d.get("compress").and_then(Value::as_bool).unwrap_or(false);
        }
        let Some(intents) = d.get("intents").and_then(Value::as_u64).filter(|i| i & !INTENTS_ALL == 0) else {
            return Verdict::Close(4013, "invalid intents");
        };
        if intents & INTENTS_PRIVILEGED & !self.options.privileged_intents != 0 {
            return Verdict::Close(4014, "disallowed intents");
        }
        if self.world.guilds_of(shard_id, shard_count).count() > self.options.guilds_per_shard_max as usize {
            return Verdict::Close(4011, "sharding required");
        }
        let large_threshold =
            d.get("large_threshold").and_then(Value::as_u64).unwrap_or(50).clamp(50, 250) as u32;
        let identity = Identity { shard_id, shard_count, intents, large_threshold };
        let summary = format!("{{\"shard\":[{shard_id},{shard_count}],\"intents\":{intents}}}");
        self.ledger.command(Command { at: now, connection: id, shard_id: Some(shard_id), op: 2, d: summary });

        let bucket = shard_id % self.options.max_concurrency.max(1);
        let not_before = self.bucket_last.get(&bucket).map(|&at| at + self.options.identify_spacing);
        let early = not_before.map(|at| at.saturating_duration_since(now)).filter(|early| !early.is_zero());
        let refused = self.pending.take_refuse_identify();
        let accepted = early.is_none() && !refused;
        self.ledger.identify(Identify { at: now, connection: id, shard_id, shard_count, bucket, accepted });
        if let Some(early) = early {
            self.violate(
                now,
                id,
                ViolationKind::IdentifyTooEarly { bucket, early_us: early.as_micros() as u64 },
            );
        }
        // A refused try eats a session start as well.
        if !self.take_start(now) {
            self.violate(now, id, ViolationKind::SessionStartBeyondBudget);
            self.reset_token(now);
            return Verdict::Fine;
        }
        if !accepted {
            self.invalid_session(id, false);
            return Verdict::Fine;
        }
        self.bucket_last.insert(bucket, now);
        if self.routes.contains_key(&(shard_count, shard_id)) {
            self.ledger.identifies_on_live_session += 1;
        }
        self.start_session(id, identity, d.get("shard").is_some_and(|s| !s.is_null()));
        Verdict::Fine
    }

    /// What Discord does to a bot that starts more sessions than it may: everything ends, the token is void.
    fn reset_token(&mut self, now: Instant) {
        self.token_reset = true;
        let connections: Vec<ConnectionId> = self.connections.keys().copied().collect();
        for id in connections {
            self.close(now, id, Some(4004));
        }
        let sessions: Vec<_> = self.sessions.keys().copied().collect();
        for index in sessions {
            self.end_session(index, SessionEnd::Invalidated);
        }
    }

    fn resume(&mut self, now: Instant, id: ConnectionId, d: &Value) -> Verdict {
        let field = |name| d.get(name).and_then(Value::as_str);
        let (Some(token), Some(session_id), Some(seq)) =
            (field("token"), field("session_id"), d.get("seq").and_then(Value::as_u64))
        else {
            return MALFORMED;
        };
        if !self.token_fits(token) {
            self.ledger.resumes_refused += 1;
            return Verdict::Close(4004, "authentication failed");
        }
        let Some(index) = self.find_session(session_id) else {
            self.ledger.resumes_refused += 1;
            self.invalid_session(id, false);
            return Verdict::Fine;
        };
        let Some((shard_id, last)) = self.sessions.get(&index).map(|s| (s.identity.shard_id, s.seq)) else {
            return Verdict::Fine; // Not reached: `find_session` only knows living sessions.
        };
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.shard_id = Some(shard_id);
        }
        let d = format!("{{\"seq\":{seq}}}");
        self.ledger.command(Command { at: now, connection: id, shard_id: Some(shard_id), op: 6, d });
        if seq > last {
            self.ledger.resumes_refused += 1;
            self.end_session(index, SessionEnd::Invalidated);
            return Verdict::Close(4007, "invalid seq");
        }
        if !self.resume_session(now, id, index, seq) {
            self.ledger.resumes_refused += 1;
            self.end_session(index, SessionEnd::Overrun);
            self.invalid_session(id, false);
        }
        Verdict::Fine
    }

    fn update_presence(&mut self, now: Instant, id: ConnectionId, d: &Value) -> Verdict {
        let status = d.get("status").and_then(Value::as_str);
        let known = matches!(status, Some("online" | "dnd" | "idle" | "invisible" | "offline"));
        let activities = d.get("activities").is_some_and(|a| a.is_array() || a.is_null());
        if !known || !activities || !d.get("afk").is_some_and(Value::is_boolean) {
            return MALFORMED;
        }
        let Some(connection) = self.connections.get_mut(&id) else { return Verdict::Fine };
        while connection
            .presences
            .front()
            .is_some_and(|&at| now.saturating_duration_since(at) >= PRESENCE_WINDOW)
        {
            connection.presences.pop_front();
        }
        if connection.presences.len() < PRESENCES_MAX {
            connection.presences.push_back(now);
        } else {
            self.violate(now, id, ViolationKind::TooManyPresenceUpdates); // Dropped, nothing else.
        }
        Verdict::Fine
    }

    /// The guild of a command: `Err` for a malformed id, `Ok(None)` for a guild that is not on this shard.
    fn guild(&self, id: ConnectionId, value: Option<&Value>) -> Result<Option<u32>, Verdict> {
        let value = match value {
            Some(Value::Array(list)) if list.len() == 1 => list.first(),
            other => other,
        };
        let Some(guild_id) = value.and_then(snowflake) else { return Err(MALFORMED) };
        let session = self.connections.get(&id).and_then(|c| c.session).and_then(|i| self.sessions.get(&i));
        let Some(identity) = session.map(|s| s.identity) else { return Ok(None) };
        let guild = self.world.guild_of(guild_id);
        Ok(guild.filter(|&g| self.world.shard_of(g, identity.shard_count) == identity.shard_id))
    }

    fn answer_to(&mut self, id: ConnectionId, event: &str, d: &str) {
        if let Some(index) = self.connections.get(&id).and_then(|c| c.session) {
            self.dispatch(index, event, d);
        }
    }

    fn update_voice_state(&mut self, id: ConnectionId, d: &Value) -> Verdict {
        let guild = match self.guild(id, d.get("guild_id")) {
            Ok(guild) => guild,
            Err(verdict) => return verdict,
        };
        let channel_id = match d.get("channel_id") {
            Some(Value::Null) => None,
            Some(value) => match snowflake(value) {
                Some(channel) => Some(channel),
                None => return MALFORMED,
            },
            None => return MALFORMED,
        };
        let Some(guild) = guild else { return Verdict::Fine };
        let channel = channel_id.and_then(|c| (0..CHANNELS).find(|&n| self.world.channel_id(guild, n) == c));
        if channel_id.is_some() && channel.is_none() {
            return Verdict::Fine; // No such channel there: Discord says nothing.
        }
        let guild_id = self.world.guild_id(guild);
        let mut state = "{".to_owned();
        self.world.voice_state(&mut state, guild, 0, channel);
        state.push_str(",\"member\":");
        self.world.member(&mut state, guild, 0);
        let _ = write!(state, ",\"guild_id\":\"{guild_id}\"}}");
        self.answer_to(id, "VOICE_STATE_UPDATE", &state);
        if channel.is_some() {
            let server = format!(
                "{{\"token\":\"{:016x}\",\"guild_id\":\"{guild_id}\",\"endpoint\":\"stand-in.discord.media:2087\"}}",
                guild_id.rotate_left(7)
            );
            self.answer_to(id, "VOICE_SERVER_UPDATE", &server);
        }
        Verdict::Fine
    }

    fn request_guild_members(&mut self, now: Instant, id: ConnectionId, d: &Value) -> Verdict {
        let guild = match self.guild(id, d.get("guild_id")) {
            Ok(guild) => guild,
            Err(verdict) => return verdict,
        };
        let query = d.get("query").and_then(Value::as_str);
        let user_ids = d.get("user_ids");
        let limit = d.get("limit").and_then(Value::as_u64);
        if query.is_some() == user_ids.is_some() || (query.is_some() && limit.is_none()) {
            return MALFORMED;
        }
        let Some(guild) = guild else { return Verdict::Fine };
        let session = self.connections.get(&id).and_then(|c| c.session).and_then(|i| self.sessions.get(&i));
        let Some(intents) = session.map(|s| s.identity.intents) else { return Verdict::Fine };
        let nonce = d.get("nonce").and_then(Value::as_str).filter(|n| n.len() <= NONCE_BYTES_MAX);
        let nonce = nonce.map(|n| Value::from(n).to_string());
        let guild_id = self.world.guild_id(guild);

        let mut not_found = Vec::new();
        let members: Vec<u32> = match (query, user_ids) {
            (Some(""), _) if limit == Some(0) => {
                if intents & GUILD_MEMBERS == 0 {
                    return Verdict::Fine; // No answer at all without the intent.
                }
                let free_at = self.member_lists.get(&guild).map(|&at| at + MEMBER_LIST_SPACING);
                if let Some(wait) =
                    free_at.map(|at| at.saturating_duration_since(now)).filter(|w| !w.is_zero())
                {
                    let nonce = nonce.map_or(String::new(), |n| format!("\"nonce\":{n},"));
                    let limited = format!(
                        "{{\"retry_after\":{:?},\"opcode\":8,\"meta\":{{{nonce}\"guild_id\":\"{guild_id}\"}}}}",
                        wait.as_secs_f64()
                    );
                    self.answer_to(id, "RATE_LIMITED", &limited);
                    return Verdict::Fine;
                }
                self.member_lists.insert(guild, now);
                (0..self.world.members).collect()
            }
            (Some(prefix), _) => {
                let prefix = prefix.to_lowercase();
                let limit = limit.unwrap_or(0).clamp(1, 100) as usize;
                let hits =
                    (0..self.world.members).filter(|&m| self.world.username(guild, m).starts_with(&prefix));
                hits.take(limit).collect()
            }
            (None, ids) => {
                let one;
                let ids: &[Value] = match ids {
                    Some(Value::Array(ids)) if ids.len() <= 100 => ids,
                    Some(single @ (Value::String(_) | Value::Number(_))) => {
                        one = [single.clone()];
                        &one
                    }
                    _ => return MALFORMED,
                };
                let mut found = Vec::new();
                for value in ids {
                    let Some(user_id) = snowflake(value) else { return MALFORMED };
                    match self.world.member_of(guild, user_id) {
                        Some(member) => found.push(member),
                        // Ids that are not of snowflake size come back as integers.
                        None if user_id < 1 << 22 => not_found.push(user_id.to_string()),
                        None => not_found.push(format!("\"{user_id}\"")),
                    }
                }
                found
            }
        };
        let presences =
            intents & GUILD_PRESENCES != 0 && d.get("presences").and_then(Value::as_bool) == Some(true);
        let chunks: Vec<&[u32]> =
            if members.is_empty() { vec![&[]] } else { members.chunks(CHUNK_MEMBERS).collect() };
        let chunk_count = chunks.len();
        for (chunk_index, chunk) in chunks.into_iter().enumerate() {
            let mut out = String::from("{");
            if presences {
                out.push_str("\"presences\":[");
                for (n, &m) in chunk.iter().filter(|&&m| m != 0 && self.world.online(guild, m)).enumerate() {
                    out.push_str(if n > 0 { "," } else { "" });
                    self.world.presence(&mut out, guild, m);
                }
                out.push_str("],");
            }
            if user_ids.is_some() {
                let _ = write!(out, "\"not_found\":[{}],", not_found.join(","));
            }
            if let Some(nonce) = &nonce {
                let _ = write!(out, "\"nonce\":{nonce},");
            }
            out.push_str("\"members\":[");
            for (n, &m) in chunk.iter().enumerate() {
                out.push_str(if n > 0 { "," } else { "" });
                self.world.member(&mut out, guild, m);
            }
            let _ = write!(
                out,
                "],\"guild_id\":\"{guild_id}\",\"chunk_index\":{chunk_index},\"chunk_count\":{chunk_count}}}"
            );
            self.answer_to(id, "GUILD_MEMBERS_CHUNK", &out);
        }
        Verdict::Fine
    }

    fn request_soundboard_sounds(&mut self, id: ConnectionId, d: &Value) -> Verdict {
        let Some(guilds) = d.get("guild_ids").and_then(Value::as_array) else { return MALFORMED };
        for value in guilds {
            match self.guild(id, Some(value)) {
                Err(verdict) => return verdict,
                Ok(None) => {}
                Ok(Some(guild)) => {
                    let guild_id = self.world.guild_id(guild);
                    let d = format!(
                        "{{\"soundboard_sounds\":[{{\"volume\":1.0,\"user_id\":\"0\",\"sound_id\":\"{}\",\"name\":\"Yay\",\
                         \"guild_id\":\"{guild_id}\",\"emoji_name\":\"🔥\",\"emoji_id\":null,\"available\":true}}],\
                         \"guild_id\":\"{guild_id}\"}}",
                        guild_id ^ 3
                    );
                    self.answer_to(id, "SOUNDBOARD_SOUNDS", &d);
                }
            }
        }
        Verdict::Fine
    }

    fn request_channel_info(&mut self, id: ConnectionId, d: &Value) -> Verdict {
        if !d.get("fields").is_some_and(Value::is_array) {
            return MALFORMED;
        }
        match self.guild(id, d.get("guild_id")) {
            Err(verdict) => verdict,
            Ok(None) => Verdict::Fine,
            Ok(Some(guild)) => {
                let d = format!(
                    "{{\"guild_id\":\"{}\",\"channels\":[{{\"voice_start_time\":1785555555,\"status\":\"lo-fi 🎧\",\"id\":\"{}\"}}]}}",
                    self.world.guild_id(guild),
                    self.world.channel_id(guild, CHANNELS - 1)
                );
                self.answer_to(id, "CHANNEL_INFO", &d);
                Verdict::Fine
            }
        }
    }
}

/// An id as a string or an integer.
fn snowflake(value: &Value) -> Option<u64> {
    match value {
        Value::String(text) => text.parse().ok(),
        other => other.as_u64(),
    }
}
