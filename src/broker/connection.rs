//! Channel 0, the server role: the handshake, what it negotiates, heartbeats, blocking, and the end.
//!
//! ```text
//! AwaitHeader > AwaitStartOk > AwaitTuneOk > AwaitOpen > Open > Closing > Over
//!               (start)        (tune)                    (close)
//! ```
//!
//! A client whose frames can't be cut any more is told why and then not listened to: `Deaf` instead of `Closing`.
//! Section 2.2.4 has the handshake, 4.2.7 the heartbeats.

use std::time::{Duration, Instant};

use super::broker::{Broker, ConnectionId};
use super::channel::Channel;
use super::command::Command;
use super::fault::{self, Fault, Reply};
use super::notice::Notice;
use super::options::{CLOSE_TIMEOUT, STALL_TIMEOUT};
use super::sasl;
use super::slots::Key;
use super::write::{self, Method, Outgoing};
use crate::amqp::spec::{self, FRAME_MIN_SIZE, MethodId};
use crate::amqp::table::{self, Value};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    AwaitHeader,
    AwaitStartOk,
    AwaitTuneOk,
    AwaitOpen,
    Open,
    Closing,
    Deaf,
    Over,
}

/// Why a connection's bytes are left where they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hold {
    /// They are not.
    None,
    /// It does not read what it is sent.
    Output,
    /// It publishes, and memory is short.
    Memory,
    /// It has begun a large message, and there are too many such.
    Room,
    /// They may be handed in again, and have not been yet.
    Resumed,
}

/// What a client said that it understands.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Capabilities {
    pub(super) consumer_cancel_notify: bool,
    pub(super) connection_blocked: bool,
    authentication_failure_close: bool,
}

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) phase: Phase,
    is_loopback: bool,
    pub(super) user: String,
    pub(super) frame_max: u32,
    pub(super) channel_max: u16,
    /// Zero: no heartbeats.
    heartbeat: Duration,
    pub(super) out: Outgoing,
    /// Whether the owner will look at it in this turn.
    pub(super) is_listed: bool,
    /// By number. Most clients count from 1.
    pub(super) channels: Vec<Option<Box<Channel>>>,
    pub(super) capabilities: Capabilities,
    /// Those that go with it.
    pub(super) exclusive_queues: Vec<Key>,
    /// Consumers that wait for room in `out`.
    pub(super) full_consumers: Vec<Key>,
    pub(super) consumers: usize,
    /// Octets of messages that have not come to their end.
    pub(super) content_bytes: usize,
    /// How many of them were taken from the common room.
    pub(super) reserved_bytes: usize,
    /// Octets of messages that have come, and how many they were when it was last looked; `None`: it was let in since.
    pub(super) content_received: u64,
    pub(super) content_mark: Option<u64>,
    pub(super) hold: Hold,
    pub(super) has_published: bool,
    /// Its part of `Broker::allowance_taken`.
    pub(super) allowance_taken: usize,
    pub(super) is_told_blocked: bool,
    pub(super) last_received: Instant,
    /// When something was last sent, or it was seen that it need not be.
    beat_from: Instant,
    sent_bytes: u64,
    /// When it was first seen that bytes wait, and how many were sent by then.
    stalled_from: Option<(Instant, u64)>,
    /// When the handshake, the wait for close-ok or the last flush ends.
    deadline: Instant,
    /// Whether what it was still to be told is not worth waiting for.
    pub(super) is_expired: bool,
}

impl Connection {
    pub(super) fn new(now: Instant, is_loopback: bool, frame_max: u32, handshake: Duration) -> Connection {
        Connection {
            phase: Phase::AwaitHeader,
            is_loopback,
            user: String::new(),
            frame_max,
            channel_max: 0,
            heartbeat: Duration::ZERO,
            out: Outgoing::default(),
            is_listed: false,
            channels: Vec::new(),
            capabilities: Capabilities::default(),
            exclusive_queues: Vec::new(),
            full_consumers: Vec::new(),
            consumers: 0,
            content_bytes: 0,
            reserved_bytes: 0,
            content_received: 0,
            content_mark: None,
            hold: Hold::None,
            has_published: false,
            allowance_taken: 0,
            is_told_blocked: false,
            last_received: now,
            beat_from: now,
            sent_bytes: 0,
            stalled_from: None,
            deadline: now + handshake,
            is_expired: false,
        }
    }

    pub(super) fn channel(&mut self, number: u16) -> Option<&mut Channel> {
        self.channels.get_mut(usize::from(number))?.as_deref_mut()
    }

    /// The socket took `n` octets.
    pub(super) fn sent(&mut self, now: Instant, n: usize) {
        if n > 0 {
            self.out.advance(n);
            self.sent_bytes += n as u64;
            self.beat_from = now;
        }
    }

    pub(super) fn poll_timeout(&self) -> Instant {
        match self.phase {
            Phase::Open if self.heartbeat.is_zero() => {
                self.last_received.max(self.beat_from) + STALL_TIMEOUT / 2
            }
            Phase::Open => {
                let beat = self.beat_from + self.heartbeat / 2;
                self.silent_at().map_or(beat, |silent| silent.min(beat))
            }
            _ => self.deadline,
        }
    }

    /// When it is given up for its silence. Not while its bytes are left unread: it may have said much.
    fn silent_at(&self) -> Option<Instant> {
        (!self.heartbeat.is_zero() && self.hold == Hold::None)
            .then(|| self.last_received + self.heartbeat * 2)
    }

    /// Looks whether bytes have waited for too long without one of them being taken.
    fn is_stalled(&mut self, now: Instant) -> bool {
        if self.out.len() == 0 {
            self.stalled_from = None;
            return false;
        }
        match self.stalled_from {
            Some((from, sent_bytes)) if sent_bytes == self.sent_bytes => {
                now >= from + STALL_TIMEOUT.max(self.heartbeat * 2)
            }
            _ => {
                self.stalled_from = Some((now, self.sent_bytes));
                false
            }
        }
    }
}

impl Broker {
    /// A method on channel 0.
    pub(super) fn on_connection_method(
        &mut self,
        now: Instant,
        id: ConnectionId,
        command: Command<'_>,
    ) -> Result<(), Fault> {
        let Some(connection) = self.connections.get_mut(id) else { return Ok(()) };
        match (connection.phase, command) {
            (Phase::Closing, Command::ConnectionCloseOk) => self.over(now, id),
            (Phase::Closing, Command::ConnectionClose) => {
                self.say(id, |out| write::bare(out, 0, spec::CONNECTION_CLOSE_OK));
                self.over(now, id);
            }
            (Phase::Closing, _) => {}
            (_, Command::ConnectionClose) => {
                self.release(now, id);
                self.say(id, |out| write::bare(out, 0, spec::CONNECTION_CLOSE_OK));
                self.over(now, id);
            }
            (Phase::AwaitStartOk, Command::StartOk { properties, mechanism, response }) => {
                self.start_ok(id, properties, mechanism, response)?;
            }
            (Phase::AwaitTuneOk, Command::TuneOk { channel_max, frame_max, heartbeat_s }) => {
                self.tune_ok(now, id, channel_max, frame_max, heartbeat_s)?;
            }
            (Phase::AwaitOpen, Command::Open { vhost }) => {
                if vhost != b"/" {
                    return Err(Fault::UnknownVhost(fault::text(vhost)));
                }
                connection.phase = Phase::Open;
                let (timeout, text) = (connection.poll_timeout(), connection.user.clone());
                self.set_connection_timer(id, timeout);
                self.say(id, |out| Method::new(out, 0, spec::CONNECTION_OPEN_OK).short(b"").end());
                self.stats.logins += 1;
                self.note(Notice::Opened { user: text });
            }
            (Phase::Open, Command::UpdateSecret) => {
                return Err(Fault::NotImplemented("connection.update-secret: passwords do not run out here"));
            }
            _ => return Err(Fault::OutOfTurn),
        }
        Ok(())
    }

    /// Says what the broker is, after the client's protocol header.
    pub(super) fn start(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.get_mut(id) {
            connection.phase = Phase::AwaitStartOk;
        }
        let properties = server_properties();
        self.say(id, |out| {
            Method::new(out, 0, spec::CONNECTION_START)
                .u8(0)
                .u8(9)
                .long(&properties)
                .long(b"PLAIN AMQPLAIN")
                .long(b"en_US")
                .end();
        });
    }

    fn start_ok(
        &mut self,
        id: ConnectionId,
        properties: &[u8],
        mechanism: &[u8],
        response: &[u8],
    ) -> Result<(), Fault> {
        let Some(connection) = self.connections.get_mut(id) else { return Ok(()) };
        let capabilities =
            table::find(properties, b"capabilities").and_then(Value::table).unwrap_or_default();
        let can = |name: &[u8]| table::find(capabilities, name).and_then(Value::boolean).unwrap_or_default();
        connection.capabilities = Capabilities {
            consumer_cancel_notify: can(b"consumer_cancel_notify"),
            connection_blocked: can(b"connection.blocked"),
            authentication_failure_close: can(b"authentication_failure_close"),
        };
        let Some(login) = sasl::read(mechanism, response) else {
            return Err(match mechanism {
                b"PLAIN" | b"AMQPLAIN" => Fault::Syntax,
                _ => Fault::Mechanism(fault::text(mechanism)),
            });
        };
        let found = login.user_among(&self.options.users);
        match found {
            Some(user) if connection.is_loopback || !user.is_default() => connection.user = user.name.clone(),
            found => {
                self.stats.refused_logins += 1;
                let user = fault::text(login.name);
                self.note(Notice::LoginRefused { user, not_from_here: found.is_some() });
                return Err(Fault::Login(fault::text(mechanism)));
            }
        }
        connection.phase = Phase::AwaitTuneOk;
        let (channel_max, frame_max, heartbeat_s) =
            (self.options.channel_max, self.options.frame_max, self.options.heartbeat_s);
        self.say(id, |out| {
            Method::new(out, 0, spec::CONNECTION_TUNE).u16(channel_max).u32(frame_max).u16(heartbeat_s).end();
        });
        Ok(())
    }

    /// Zero means "no limit of mine", so ours counts then (connection.tune-ok in the reference).
    fn tune_ok(
        &mut self,
        now: Instant,
        id: ConnectionId,
        channel_max: u16,
        frame_max: u32,
        heartbeat_s: u16,
    ) -> Result<(), Fault> {
        let ours = &self.options;
        if channel_max > ours.channel_max {
            let (asked, limit) = (u64::from(channel_max), u64::from(ours.channel_max));
            return Err(Fault::Tune { what: "channel_max", asked, limit });
        }
        if frame_max != 0 && frame_max < FRAME_MIN_SIZE || frame_max > ours.frame_max {
            let limit = if frame_max < FRAME_MIN_SIZE { FRAME_MIN_SIZE } else { ours.frame_max };
            let (asked, limit) = (u64::from(frame_max), u64::from(limit));
            return Err(Fault::Tune { what: "frame_max", asked, limit });
        }
        let Some(connection) = self.connections.get_mut(id) else { return Ok(()) };
        connection.channel_max = if channel_max == 0 { ours.channel_max } else { channel_max };
        connection.frame_max = if frame_max == 0 { ours.frame_max } else { frame_max };
        connection.heartbeat = Duration::from_secs(u64::from(heartbeat_s));
        connection.last_received = now;
        connection.phase = Phase::AwaitOpen;
        Ok(())
    }

    /// Ends a channel or a connection for a fault, telling the client what it did wrong.
    pub(super) fn fail(
        &mut self,
        now: Instant,
        id: ConnectionId,
        channel: u16,
        method: MethodId,
        fault: &Fault,
    ) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        match fault.reply() {
            Reply::Channel(_) if connection.phase == Phase::Open && channel != 0 => {
                self.stats.channel_faults += 1;
                self.note(Notice::ChannelFault(fault.to_string()));
                self.fail_channel(now, id, channel, method, fault);
            }
            Reply::Login if !connection.capabilities.authentication_failure_close => self.over(now, id),
            _ => {
                self.stats.connection_faults += 1;
                self.note(Notice::ConnectionFault(fault.to_string()));
                let is_deaf = matches!(fault, Fault::Frame(_));
                self.close_connection(now, id, method, fault, is_deaf);
            }
        }
    }

    /// Tells a client that its connection ends, and waits for its answer for a while.
    pub(super) fn close_connection(
        &mut self,
        now: Instant,
        id: ConnectionId,
        (class, method): MethodId,
        fault: &Fault,
        is_deaf: bool,
    ) {
        self.release(now, id);
        let Some(connection) = self.connections.get_mut(id) else { return };
        if matches!(connection.phase, Phase::Over | Phase::Deaf) {
            return;
        }
        let can_listen = !matches!(connection.phase, Phase::AwaitHeader | Phase::Closing);
        connection.phase = if is_deaf { Phase::Deaf } else { Phase::Closing };
        connection.hold = Hold::None;
        connection.deadline = now + CLOSE_TIMEOUT;
        let deadline = connection.deadline;
        self.set_connection_timer(id, deadline);
        if !can_listen {
            return self.over(now, id);
        }
        let (code, text) = (fault.code(), fault.to_string());
        self.say(id, |out| {
            Method::new(out, 0, spec::CONNECTION_CLOSE)
                .u16(code)
                .short(text.as_bytes())
                .u16(class)
                .u16(method)
                .end();
        });
    }

    /// Nothing more is said on a connection; what waits may still be written.
    pub(super) fn over(&mut self, now: Instant, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        connection.phase = Phase::Over;
        connection.hold = Hold::None;
        connection.deadline = now + CLOSE_TIMEOUT;
        let deadline = connection.deadline;
        self.set_connection_timer(id, deadline);
        self.list(id);
    }

    /// A connection's time has come: for a heartbeat, or for its end.
    pub(super) fn on_connection_deadline(&mut self, now: Instant, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        match connection.phase {
            Phase::Open => {
                let silent = connection.silent_at().is_some_and(|at| now >= at);
                let is_stalled = connection.is_stalled(now);
                if silent || is_stalled {
                    self.stats.lost += 1;
                    self.note(if silent { Notice::Silent } else { Notice::Stalled });
                    self.release(now, id);
                    return self.expire(id);
                }
                let is_beat_due = now >= connection.beat_from + connection.heartbeat / 2;
                if is_beat_due {
                    connection.beat_from = now;
                }
                // What waits to be written is a sign of life too.
                if is_beat_due && !connection.heartbeat.is_zero() && connection.out.len() == 0 {
                    self.say(id, |out| out.extend_from_slice(&crate::amqp::frame::HEARTBEAT));
                }
                if let Some(connection) = self.connections.get(id) {
                    let timeout = connection.poll_timeout();
                    self.set_connection_timer(id, timeout);
                }
            }
            phase => {
                if matches!(
                    phase,
                    Phase::AwaitHeader | Phase::AwaitStartOk | Phase::AwaitTuneOk | Phase::AwaitOpen
                ) {
                    self.stats.slow_handshakes += 1;
                    self.note(Notice::SlowHandshake);
                }
                self.expire(id);
            }
        }
    }

    /// A connection is to be dropped at once.
    fn expire(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.get_mut(id) {
            connection.phase = Phase::Over;
            connection.is_expired = true;
            self.list(id);
        }
    }
}

/// What a client may know of the broker.
fn server_properties() -> Vec<u8> {
    let mut capabilities = Vec::new();
    for name in [
        "publisher_confirms",
        "exchange_exchange_bindings",
        "basic.nack",
        "consumer_cancel_notify",
        "connection.blocked",
        "consumer_priorities",
        "authentication_failure_close",
        "per_consumer_qos",
        "direct_reply_to",
    ] {
        write::short(&mut capabilities, name.as_bytes());
        capabilities.extend_from_slice(b"t\x01");
    }
    let mut out = Vec::new();
    write::short(&mut out, b"capabilities");
    out.push(b'F');
    out.extend_from_slice(&(capabilities.len() as u32).to_be_bytes());
    out.extend_from_slice(&capabilities);
    write::text_entry(&mut out, "product", b"rateway");
    write::text_entry(&mut out, "version", env!("CARGO_PKG_VERSION").as_bytes());
    write::text_entry(&mut out, "platform", b"Rust");
    write::text_entry(&mut out, "information", b"Messages are kept in memory and do not outlive the broker");
    out
}
