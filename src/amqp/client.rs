//! The client role: one connection to a broker, with a channel that publishes and one that consumes.
//!
//! What enters: the broker's bytes, the time, acknowledgements and answers. What leaves: control bytes and
//! [`Event`]s. Events of shards do not pass through here: the caller frames them with
//! [`super::frame_event`] for [`PUBLISH_CHANNEL`] and counts delivery tags from 1 after each
//! [`Event::PublishReady`].
//!
//! The caller's duties: after each [`Client::receive`] or [`Client::handle_deadline`] first drain
//! [`Client::poll_event`], then [`Client::transmit`] behind the bytes that already wait for the socket, and only
//! then frame publishes behind those. All bytes are written in that order and to the last, so a publish never
//! reaches a channel that is not open, and no frame is cut short. After an `Err` the events that came before it
//! still wait (confirms among them), and `transmit` may hold a last connection.close; then the client is over.

use std::collections::VecDeque;
use std::fmt;
use std::time::{Duration, Instant};

use super::channel::{Channel, Step};
use super::connection::{Connection, Phase, Progress};
use super::content::{BadDelivery, Delivery, Gathered};
use super::error::Error;
use super::frame::{self, Cut, Frame, FrameKind};
use super::method;
use super::options::Options;
use super::publish::{self, Answer};
use super::topology::Topology;
use crate::base::Buf;

/// The channel that events are published on.
pub const PUBLISH_CHANNEL: u16 = 1;
/// The channel that consumes, acknowledges and answers.
pub const CONSUME_CHANNEL: u16 = 2;
/// From the first byte to the first [`Event::PublishReady`], and from a request on a channel to its answer. A
/// broker under load takes seconds; one that takes longer helps nobody.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Answers that wait in [`Client::transmit`]; above it an answer is dropped and counted. The caller empties it each
/// turn, so only a burst of huge answers meets this.
pub const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;
/// What the buffer of control bytes keeps for the next turn.
const TRANSMIT_BYTES_KEPT: usize = 64 * 1024;

/// What the owner of a client has to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Channel 1 takes publishes; delivery tags start at 1. The first time, exchange, queue, bindings and consumer
    /// stand too.
    PublishReady {
        /// What to frame with.
        frame_max: u32,
    },
    /// The broker closed channel 1. What was not confirmed on it is lost; another [`Event::PublishReady`] follows.
    PublishChannelLost {
        /// The reply code.
        code: u16,
        /// The broker's words.
        text: String,
    },
    /// The broker has taken a publish, or all up to it.
    Confirm {
        /// The publish on this incarnation of channel 1.
        delivery_tag: u64,
        /// Whether all before it are meant too.
        multiple: bool,
    },
    /// The broker could not take a publish, or all up to it.
    Nack {
        /// The publish on this incarnation of channel 1.
        delivery_tag: u64,
        /// Whether all before it are meant too.
        multiple: bool,
    },
    /// A worker sent something.
    Delivery(Delivery),
    /// A worker sent something unusable. It has been acknowledged.
    BadDelivery(BadDelivery),
    /// The broker does not read what is published until [`Event::Unblocked`].
    Blocked {
        /// The broker's words.
        reason: String,
    },
    /// The broker reads again.
    Unblocked,
    /// Something that an operator should read once.
    Notice(String),
    /// The close that was asked for is complete.
    Closed,
}

/// What happened on this connection so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Messages of workers that were passed on.
    pub deliveries: u64,
    /// Messages of workers over the size limit.
    pub deliveries_oversize: u64,
    /// Messages of workers that could not be read.
    pub deliveries_malformed: u64,
    /// Messages that the broker sent back.
    pub returned: u64,
    /// Acknowledgements for a consumer that is gone; its messages come again.
    pub acks_stale: u64,
    /// Answers that were handed to the broker.
    pub answers: u64,
    /// Answers dropped: no channel, too many waiting, or a name over 255 octets.
    pub answers_dropped: u64,
    /// Times that channel 1 had to be opened again.
    pub publish_reopened: u64,
    /// Times that channel 2 had to be opened again.
    pub consume_reopened: u64,
}

/// The machine. See the module's head for how it is driven.
pub struct Client {
    pub(super) options: Options,
    pub(super) connection: Connection,
    pub(super) publish: Channel,
    pub(super) consume: Channel,
    pub(super) topology: Topology,
    pub(super) out: Vec<u8>,
    pub(super) events: VecDeque<Event>,
    pub(super) stats: Stats,
    /// The latest time that a caller told.
    now: Instant,
    started: Instant,
    /// Whether the first PublishReady was given.
    pub(super) ready: bool,
    /// Octets of a partial frame left by the last receive: they are no news when seen again.
    partial_len: usize,
    /// An option that can't be sent. Returned by the first call that can.
    unusable: Option<Error>,
}

impl Client {
    /// A client whose transport is up. The protocol header waits in [`Client::transmit`].
    pub fn new(options: Options, now: Instant) -> Client {
        let mut out = Vec::with_capacity(1024);
        Client {
            connection: Connection::new(&options, now, &mut out),
            publish: Channel::new(PUBLISH_CHANNEL),
            consume: Channel::new(CONSUME_CHANNEL),
            topology: Topology::new(options.queue_durable),
            out,
            events: VecDeque::new(),
            stats: Stats::default(),
            now,
            started: now,
            ready: false,
            partial_len: 0,
            unusable: options.check(),
            options,
        }
    }

    /// Takes the broker's bytes: whole frames are consumed, a partial one stays, with room made for its rest.
    ///
    /// # Errors
    /// What ended the connection. Its [`Error::consequence`] says what to do.
    pub fn receive(&mut self, now: Instant, input: &mut Buf) -> Result<(), Error> {
        self.alive(now)?;
        if input.len() != self.partial_len {
            self.connection.note_received(now);
        }
        let result = self.receive_frames(now, input);
        self.partial_len = input.len();
        result.map_err(|error| self.fail(error))
    }

    /// The next thing that happened. Bounded by the bytes of one [`Client::receive`].
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When [`Client::handle_deadline`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.connection.phase() == Phase::Over {
            return None;
        }
        if self.unusable.is_some() {
            return Some(self.now);
        }
        let mut earliest = self.connection.poll_timeout(self.now);
        if self.connection.phase() != Phase::AwaitCloseOk {
            let start = (!self.ready).then(|| self.started + ANSWER_TIMEOUT);
            for at in [start, self.publish.poll_timeout(self.now), self.consume.poll_timeout(self.now)] {
                earliest = earliest.into_iter().chain(at).min();
            }
        }
        earliest
    }

    /// Does what is due: heartbeats, reopening of channels, giving up on a broker that is silent.
    ///
    /// # Errors
    /// As [`Client::receive`].
    pub fn handle_deadline(&mut self, now: Instant) -> Result<(), Error> {
        self.alive(now)?;
        self.check_deadlines(now).map_err(|error| self.fail(error))
    }

    /// Moves the control bytes that wait behind the bytes of `out`.
    pub fn transmit(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.out);
        self.out.clear();
        self.out.shrink_to(TRANSMIT_BYTES_KEPT);
    }

    /// Control bytes that wait for [`Client::transmit`].
    pub fn outgoing_bytes(&self) -> usize {
        self.out.len()
    }

    /// Whether a delivery can still be acknowledged: if not, the broker sends that message again.
    pub fn is_current(&self, delivery_tag: u64) -> bool {
        self.consume.wire_tag(delivery_tag).is_some()
    }

    /// Acknowledges a delivery. One of a consumer that is gone is ignored: the broker sends that message again.
    pub fn ack(&mut self, delivery_tag: u64) {
        match self.consume.wire_tag(delivery_tag) {
            Some(tag) if self.connection.phase() == Phase::Open => {
                method::write_ack(&mut self.out, CONSUME_CHANNEL, tag);
            }
            _ => self.stats.acks_stale += 1,
        }
    }

    /// Publishes an answer on channel 2, without confirm. Returns whether it was taken; an answer that was not is
    /// counted.
    pub fn answer(&mut self, answer: &Answer<'_>) -> bool {
        let open = self.connection.phase() == Phase::Open && self.consume.is_running();
        let fits = self.out.len().saturating_add(answer.body.len()) <= ANSWER_BYTES_MAX;
        let frame_max = self.connection.frame_max();
        let taken =
            open && fits && publish::frame_answer(&mut self.out, CONSUME_CHANNEL, frame_max, answer).is_ok();
        if taken {
            self.stats.answers += 1;
        } else {
            self.stats.answers_dropped += 1;
        }
        taken
    }

    /// Closes channel 1 and opens it again, after a nack. Confirms of the old incarnation are not passed on; an
    /// [`Event::PublishReady`] follows. Does nothing while the channel is not open.
    pub fn reopen_publish_channel(&mut self) {
        if self.connection.phase() == Phase::Open && self.publish.is_running() {
            self.stats.publish_reopened += 1;
            self.events.retain(|event| !matches!(event, Event::Confirm { .. } | Event::Nack { .. }));
            self.publish.close(None, &mut self.out);
        }
    }

    /// Begins a polite close. [`Event::Closed`] comes with the broker's close-ok, or at once when there is none to
    /// wait for.
    pub fn close(&mut self) {
        if self.connection.phase() != Phase::Over && !self.connection.close(&mut self.out) {
            self.events.push_back(Event::Closed);
        }
    }

    /// What the end of the transport means at this point: brokers without `authentication_failure_close` just hang
    /// up on a wrong password.
    pub fn link_lost(&self) -> Error {
        match self.connection.phase() {
            Phase::AwaitTune => Error::AccessRefused { text: String::new() },
            _ => Error::LinkLost,
        }
    }

    /// What to frame with: negotiated, or what we ask for before that.
    pub fn frame_max(&self) -> u32 {
        self.connection.frame_max()
    }

    /// The heartbeat that was negotiated; zero for none.
    pub fn heartbeat(&self) -> Duration {
        self.connection.heartbeat()
    }

    /// Whether publishes may be framed now.
    pub fn is_publish_ready(&self) -> bool {
        self.ready && self.connection.phase() == Phase::Open && self.publish.is_running()
    }

    /// Counters.
    pub fn stats(&self) -> Stats {
        self.stats
    }

    fn alive(&mut self, now: Instant) -> Result<(), Error> {
        self.now = self.now.max(now);
        if let Some(error) = self.unusable.take() {
            return Err(self.fail(error));
        }
        if self.connection.phase() == Phase::Over { Err(Error::Over) } else { Ok(()) }
    }

    fn fail(&mut self, error: Error) -> Error {
        self.connection.fail(error.consequence().tell, &error, &mut self.out);
        error
    }

    fn receive_frames(&mut self, now: Instant, input: &mut Buf) -> Result<(), Error> {
        loop {
            // Read per frame: the answer to tune changes it. Before that our own wish is the bound.
            let frame_max = self.connection.frame_max();
            let bytes = input.filled();
            if self.connection.phase() == Phase::AwaitStart {
                match greeting(bytes) {
                    Greeting::Frames => {}
                    Greeting::PartOfHeader => return Ok(()),
                    Greeting::Header(header) => return Err(Error::Version { header }),
                }
            }
            match frame::cut(bytes, frame_max) {
                Ok(Cut::Frame(frame)) => {
                    let wire_len = frame.wire_len();
                    let result = self.handle_frame(now, frame);
                    input.consume(wire_len);
                    result?;
                    if self.connection.phase() == Phase::Over {
                        return Ok(());
                    }
                }
                Ok(Cut::Missing(missing)) => {
                    input.reserve(missing);
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn handle_frame(&mut self, now: Instant, frame: Frame<'_>) -> Result<(), Error> {
        let closing = self.connection.phase() == Phase::AwaitCloseOk;
        match (frame.kind, frame.channel) {
            (FrameKind::Heartbeat, 0) => Ok(()),
            (FrameKind::Method, 0) => self.handle_connection_method(now, frame.payload),
            (_, _) if closing => Ok(()),
            (FrameKind::Heartbeat, channel) => {
                Err(Error::UnexpectedFrame { channel, what: "a heartbeat came" })
            }
            (_, 0) => Err(Error::UnexpectedFrame { channel: 0, what: "content came" }),
            (kind, channel @ (PUBLISH_CHANNEL | CONSUME_CHANNEL)) => match self.channel_mut(channel).step() {
                Step::Closed | Step::Backoff(_) => Err(Error::UnknownChannel { channel }),
                // All but the end of the channel is ignored after our own close.
                Step::AwaitCloseOk if kind != FrameKind::Method => Ok(()),
                _ => match kind {
                    FrameKind::Method => self.handle_channel_method(now, channel, frame.payload),
                    FrameKind::Header => {
                        let body_bytes_max = self.options.delivery_bytes_max;
                        let content = &mut self.channel_mut(channel).content;
                        let gathered = content.header(channel, frame.payload, body_bytes_max)?;
                        self.handle_gathered(gathered)
                    }
                    FrameKind::Body | FrameKind::Heartbeat => {
                        let gathered = self.channel_mut(channel).content.body(channel, frame.payload)?;
                        self.handle_gathered(gathered)
                    }
                },
            },
            (_, channel) => Err(Error::UnknownChannel { channel }),
        }
    }

    fn handle_connection_method(&mut self, now: Instant, payload: &[u8]) -> Result<(), Error> {
        let method = method::parse(0, payload)?;
        let progress = self
            .connection
            .handle_method(now, method, &self.options, &mut self.out)
            .map_err(|error| self.blame_topology(error))?;
        match progress {
            Progress::Nothing => {}
            Progress::Opened => self.consume.open(now, &mut self.out),
            Progress::Blocked(reason) => self.events.push_back(Event::Blocked { reason }),
            Progress::Unblocked => self.events.push_back(Event::Unblocked),
            Progress::Closed => self.events.push_back(Event::Closed),
        }
        Ok(())
    }

    fn handle_gathered(&mut self, gathered: Gathered) -> Result<(), Error> {
        match gathered {
            Gathered::Pending => {}
            Gathered::Returned => self.stats.returned += 1,
            Gathered::Delivery(delivery) => {
                self.stats.deliveries += 1;
                self.events.push_back(Event::Delivery(delivery));
            }
            Gathered::Bad { delivery_tag, why } => {
                match why {
                    BadDelivery::Oversize { .. } => self.stats.deliveries_oversize += 1,
                    BadDelivery::Properties => self.stats.deliveries_malformed += 1,
                }
                self.ack(delivery_tag);
                self.events.push_back(Event::BadDelivery(why));
            }
        }
        Ok(())
    }

    fn check_deadlines(&mut self, now: Instant) -> Result<(), Error> {
        self.connection.handle_deadline(now, &mut self.out)?;
        if self.connection.phase() == Phase::AwaitCloseOk {
            return Ok(());
        }
        if !self.ready && now >= self.started + ANSWER_TIMEOUT {
            let waiting_for = match self.connection.phase() {
                Phase::AwaitStart => "connection.start",
                Phase::AwaitTune => "connection.tune",
                Phase::AwaitOpenOk => "connection.open-ok",
                _ => "the exchange, queue or consumer",
            };
            return Err(Error::Timeout { waiting_for });
        }
        self.publish.handle_deadline(now, &mut self.out)?;
        self.consume.handle_deadline(now, &mut self.out)
    }

    pub(super) fn channel_mut(&mut self, channel: u16) -> &mut Channel {
        if channel == PUBLISH_CHANNEL { &mut self.publish } else { &mut self.consume }
    }
}

// By hand: the bytes that wait to be sent hold the password for a moment.
impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("phase", &self.connection.phase())
            .field("publish", &self.publish.step())
            .field("consume", &self.consume.step())
            .field("transmit_bytes", &self.out.len())
            .field("stats", &self.stats)
            .finish_non_exhaustive()
    }
}

/// A broker that does not speak 0-9-1 answers with the header of what it speaks (section 4.2.2).
enum Greeting {
    Frames,
    PartOfHeader,
    Header([u8; 8]),
}

fn greeting(bytes: &[u8]) -> Greeting {
    let name = b"AMQP";
    let seen = bytes.len().min(name.len());
    if seen == 0 || bytes.get(..seen) != name.get(..seen) {
        return Greeting::Frames;
    }
    bytes.first_chunk::<8>().map_or(Greeting::PartOfHeader, |header| Greeting::Header(*header))
}
