//! Channel 0: the handshake, what it negotiates, heartbeats, blocking, and the end.
//!
//! ```text
//! AwaitStart > AwaitTune > AwaitOpenOk > Open > AwaitCloseOk > Over
//!  (header)    (start-ok)  (tune-ok, open)      (close)
//! ```
//!
//! Frames of the other channels never come here. Time: an interval without a byte counts double before the broker
//! is given up (section 4.2.7); half an interval passes between our own heartbeats, so that one of them may be
//! late. They are sent whether or not other bytes flow, because the events that are written never pass by here.

use std::time::{Duration, Instant};

use amq_protocol::protocol::{AMQPClass, connection};
use amq_protocol::types::{AMQPValue, FieldTable, ShortString};

use super::error::{Error, clean};
use super::frame::HEARTBEAT;
use super::method::{self, Method, Start};
use super::options::Options;
use super::spec::{ConnectionReplyCode, FRAME_MIN_SIZE, PROTOCOL_HEADER, REPLY_SUCCESS};

/// Channels this client uses: one publishes, one consumes.
const CHANNEL_MAX: u16 = 2;
/// How long a close waits for its close-ok. A broker answers at once; this bounds a shutdown.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    AwaitStart,
    AwaitTune,
    AwaitOpenOk,
    Open,
    AwaitCloseOk,
    Over,
}

/// What a method on channel 0 led to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Progress {
    Nothing,
    Opened,
    Blocked(String),
    Unblocked,
    Closed,
}

#[derive(Debug)]
pub(super) struct Connection {
    phase: Phase,
    frame_max: u32,
    /// Zero: no heartbeats.
    heartbeat: Duration,
    last_received: Instant,
    next_heartbeat: Option<Instant>,
    /// When the wait for close-ok ends; stamped by the first call that knows the time.
    close_deadline: Option<Instant>,
}

impl Connection {
    pub(super) fn new(options: &Options, now: Instant, out: &mut Vec<u8>) -> Connection {
        out.extend_from_slice(&PROTOCOL_HEADER);
        Connection {
            phase: Phase::AwaitStart,
            frame_max: options.frame_max_wanted(),
            heartbeat: Duration::ZERO,
            last_received: now,
            next_heartbeat: None,
            close_deadline: None,
        }
    }

    pub(super) fn phase(&self) -> Phase {
        self.phase
    }

    /// What was negotiated; before that what we are going to ask for.
    pub(super) fn frame_max(&self) -> u32 {
        self.frame_max
    }

    pub(super) fn heartbeat(&self) -> Duration {
        self.heartbeat
    }

    /// Bytes came.
    pub(super) fn note_received(&mut self, now: Instant) {
        self.last_received = self.last_received.max(now);
    }

    pub(super) fn handle_method(
        &mut self,
        now: Instant,
        method: Method<'_>,
        options: &Options,
        out: &mut Vec<u8>,
    ) -> Result<Progress, Error> {
        use amq_protocol::protocol::connection::AMQPMethod as Connection;
        let id = method.id();
        match (self.phase, method) {
            // After our own close everything but its end is to be ignored (connection.close in the reference).
            (Phase::AwaitCloseOk, Method::Slow(_, AMQPClass::Connection(Connection::CloseOk(_)))) => {
                self.phase = Phase::Over;
                Ok(Progress::Closed)
            }
            (Phase::AwaitCloseOk, Method::Slow(_, AMQPClass::Connection(Connection::Close(_)))) => {
                write(out, Connection::CloseOk(connection::CloseOk {}));
                self.phase = Phase::Over;
                Ok(Progress::Closed)
            }
            (Phase::AwaitCloseOk, _) => Ok(Progress::Nothing),
            (_, Method::Slow(_, AMQPClass::Connection(Connection::Close(close)))) => {
                write(out, Connection::CloseOk(connection::CloseOk {}));
                let authenticating = self.phase == Phase::AwaitTune;
                self.phase = Phase::Over;
                let text = clean(close.reply_text.as_str());
                if authenticating && close.reply_code == super::spec::ChannelReplyCode::AccessRefused.code() {
                    return Err(Error::AccessRefused { text });
                }
                let method = (close.class_id, close.method_id);
                Err(Error::ClosedByBroker { code: close.reply_code, text, method })
            }
            (Phase::AwaitStart, Method::Start(start)) => {
                self.start_ok(&start, options, out)?;
                self.phase = Phase::AwaitTune;
                Ok(Progress::Nothing)
            }
            (Phase::AwaitTune, Method::Slow(_, AMQPClass::Connection(Connection::Tune(tune)))) => {
                self.tune_ok(now, &tune, options, out)?;
                self.phase = Phase::AwaitOpenOk;
                Ok(Progress::Nothing)
            }
            (Phase::AwaitOpenOk, Method::Slow(_, AMQPClass::Connection(Connection::OpenOk(_)))) => {
                self.phase = Phase::Open;
                Ok(Progress::Opened)
            }
            (Phase::Open, Method::Slow(_, AMQPClass::Connection(Connection::Blocked(blocked)))) => {
                Ok(Progress::Blocked(clean(blocked.reason.as_str())))
            }
            (Phase::Open, Method::Slow(_, AMQPClass::Connection(Connection::Unblocked(_)))) => {
                Ok(Progress::Unblocked)
            }
            _ => Err(Error::UnexpectedMethod { channel: 0, method: id }),
        }
    }

    /// Begins a polite close. Returns whether there is something to wait for.
    pub(super) fn close(&mut self, out: &mut Vec<u8>) -> bool {
        match self.phase {
            Phase::Open => {
                write_close(out, REPLY_SUCCESS, "goodbye");
                self.phase = Phase::AwaitCloseOk;
                true
            }
            Phase::AwaitCloseOk => true,
            _ => {
                self.phase = Phase::Over;
                false
            }
        }
    }

    /// Ends after a fault, telling the broker which where it would understand.
    pub(super) fn fail(&mut self, tell: Option<ConnectionReplyCode>, error: &Error, out: &mut Vec<u8>) {
        let understands = matches!(self.phase, Phase::AwaitTune | Phase::AwaitOpenOk | Phase::Open);
        if let Some(code) = tell
            && understands
        {
            write_close(out, code.code(), &error.to_string());
        }
        self.phase = Phase::Over;
    }

    pub(super) fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        match self.phase {
            Phase::Over => None,
            Phase::AwaitCloseOk => Some(self.close_deadline.unwrap_or(now)),
            _ => {
                let silent = (!self.heartbeat.is_zero()).then(|| self.last_received + self.heartbeat * 2);
                [self.next_heartbeat, silent].into_iter().flatten().min()
            }
        }
    }

    pub(super) fn handle_deadline(&mut self, now: Instant, out: &mut Vec<u8>) -> Result<(), Error> {
        if self.phase == Phase::AwaitCloseOk {
            let deadline = *self.close_deadline.get_or_insert(now + CLOSE_TIMEOUT);
            return if now >= deadline {
                Err(Error::Timeout { waiting_for: "connection.close-ok" })
            } else {
                Ok(())
            };
        }
        if self.heartbeat.is_zero() || self.phase == Phase::Over {
            return Ok(());
        }
        if now >= self.last_received + self.heartbeat * 2 {
            return Err(Error::HeartbeatMissed);
        }
        if self.next_heartbeat.is_some_and(|at| now >= at) {
            out.extend_from_slice(&HEARTBEAT);
            self.next_heartbeat = Some(now + self.heartbeat / 2);
        }
        Ok(())
    }

    fn start_ok(&self, start: &Start<'_>, options: &Options, out: &mut Vec<u8>) -> Result<(), Error> {
        if start.version != (0, 9) {
            let (major, minor) = start.version;
            return Err(Error::Version { header: [b'A', b'M', b'Q', b'P', 0, major, minor, 0] });
        }
        if !start.mechanisms.split(|&octet| octet == b' ').any(|name| name == b"PLAIN") {
            let offered = clean(&String::from_utf8_lossy(start.mechanisms));
            return Err(Error::NoPlain { offered });
        }
        // RFC 4616: authorization identity (none), user, password, with NUL before each of the latter.
        let response = format!("\0{}\0{}", options.user, options.password.expose());
        write(
            out,
            connection::AMQPMethod::StartOk(connection::StartOk {
                client_properties: client_properties(&options.connection_name),
                mechanism: ShortString::from("PLAIN"),
                response: response.into(),
                locale: ShortString::from("en_US"),
            }),
        );
        Ok(())
    }

    fn tune_ok(
        &mut self,
        now: Instant,
        tune: &connection::Tune,
        options: &Options,
        out: &mut Vec<u8>,
    ) -> Result<(), Error> {
        // Zero means "no limit" for each of the three, so the other side's value counts then.
        if tune.channel_max != 0 && tune.channel_max < CHANNEL_MAX {
            return Err(Error::Tune { what: "channel_max below 2" });
        }
        if tune.frame_max != 0 && tune.frame_max < FRAME_MIN_SIZE {
            return Err(Error::Tune { what: "frame_max below 4096" });
        }
        if tune.frame_max != 0 {
            self.frame_max = self.frame_max.min(tune.frame_max);
        }
        let ours_s = u16::try_from(options.heartbeat.as_secs()).unwrap_or(u16::MAX);
        let heartbeat_s = match (ours_s, tune.heartbeat) {
            (0, theirs) => theirs,
            (ours, 0) => ours,
            (ours, theirs) => ours.min(theirs),
        };
        self.heartbeat = Duration::from_secs(u64::from(heartbeat_s));
        self.next_heartbeat = (heartbeat_s > 0).then(|| now + self.heartbeat / 2);
        self.last_received = now;
        write(
            out,
            connection::AMQPMethod::TuneOk(connection::TuneOk {
                channel_max: CHANNEL_MAX,
                frame_max: self.frame_max,
                heartbeat: heartbeat_s,
            }),
        );
        let virtual_host =
            ShortString::try_new(options.vhost.as_str()).map_err(|_| Error::Options { name: "vhost" })?;
        write(out, connection::AMQPMethod::Open(connection::Open { virtual_host }));
        Ok(())
    }
}

fn client_properties(connection_name: &str) -> FieldTable {
    let mut capabilities = FieldTable::default();
    for name in [
        "publisher_confirms",
        "consumer_cancel_notify",
        "connection.blocked",
        "authentication_failure_close",
        "basic.nack",
    ] {
        capabilities.insert(name.into(), AMQPValue::Boolean(true));
    }
    let mut properties = FieldTable::default();
    for (name, value) in [
        ("product", "rateway"),
        ("version", env!("CARGO_PKG_VERSION")),
        ("platform", "Rust"),
        ("connection_name", connection_name),
    ] {
        properties.insert(name.into(), AMQPValue::LongString(value.into()));
    }
    properties.insert("capabilities".into(), AMQPValue::FieldTable(capabilities));
    properties
}

fn write(out: &mut Vec<u8>, method: connection::AMQPMethod) {
    method::write(out, 0, AMQPClass::Connection(method));
}

fn write_close(out: &mut Vec<u8>, reply_code: u16, text: &str) {
    // A fault's text may be longer than a short string takes; its beginning says enough.
    let mut end = text.len().min(200);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let reply_text = ShortString::try_new(text.get(..end).unwrap_or_default()).unwrap_or_default();
    write(
        out,
        connection::AMQPMethod::Close(connection::Close {
            reply_code,
            reply_text,
            class_id: 0,
            method_id: 0,
        }),
    );
}
