//! Frames of a client: whose channel, and what is asked for.

use std::time::Instant;

use super::broker::{Broker, ConnectionId, Taken};
use super::channel::{Channel, Content, Incoming};
use super::command::{self, Command};
use super::connection::{Hold, Phase};
use super::fault::Fault;
use super::message::cost_of;
use super::notice::Limit;
use super::properties;
use super::write::{self, Method};
use crate::amqp::frame::{Frame, FrameKind};
use crate::amqp::spec::{self, MethodId};

/// A fault, and the method that it is about.
type Blamed = (MethodId, Fault);

/// How much of a message is made room for before it has come: a client may announce more than it ever sends.
const BODY_BYTES_AT_ONCE: u64 = 256 << 10;

impl Broker {
    pub(super) fn on_frame(
        &mut self,
        now: Instant,
        id: ConnectionId,
        frame: Frame<'_>,
    ) -> Result<Taken, Blamed> {
        let nobody = |fault| ((0, 0), fault);
        let Some(connection) = self.connections.get_mut(id) else { return Ok(Taken::Yes(0)) };
        let phase = connection.phase;
        if frame.kind == FrameKind::Heartbeat {
            let is_right = frame.channel == 0 || phase == Phase::Closing;
            return if is_right {
                Ok(Taken::Yes(0))
            } else {
                Err(nobody(Fault::UnexpectedFrame("a heartbeat on a channel")))
            };
        }
        if frame.channel == 0 {
            if phase == Phase::Closing {
                // What cannot be read any more does not matter any more.
                if let Ok(command) = command::parse(frame.payload) {
                    self.on_connection_method(now, id, command).map_err(nobody)?;
                }
                return Ok(Taken::Yes(0));
            }
            if frame.kind != FrameKind::Method {
                return Err(nobody(Fault::UnexpectedFrame("content on channel 0")));
            }
            let method = command::id(frame.payload).unwrap_or_default();
            let blame = |fault| (method, fault);
            let command = command::parse(frame.payload).map_err(blame)?;
            self.on_connection_method(now, id, command).map_err(blame)?;
            return Ok(Taken::Yes(0));
        }
        match phase {
            Phase::Open => {}
            Phase::Closing => return Ok(Taken::Yes(0)),
            _ => return Err(nobody(Fault::OutOfTurn)),
        }
        match frame.kind {
            FrameKind::Method => self.on_method(now, id, frame.channel, frame.payload),
            FrameKind::Header => self.on_header_frame(now, id, frame.channel, frame.payload),
            FrameKind::Body => self.on_body_frame(now, id, frame.channel, frame.payload),
            FrameKind::Heartbeat => Ok(Taken::Yes(0)),
        }
    }

    fn on_method(
        &mut self,
        now: Instant,
        id: ConnectionId,
        number: u16,
        payload: &[u8],
    ) -> Result<Taken, Blamed> {
        let method = command::id(payload).ok_or(((0, 0), Fault::Syntax))?;
        let blame = |fault| (method, fault);
        let is_publish = method == spec::BASIC_PUBLISH;
        // How much it will be is not known yet.
        if is_publish && self.must_hold(id, 1) {
            self.note_publisher(id);
            return Ok(Taken::Held(Hold::Memory));
        }
        let Some(connection) = self.connections.get_mut(id) else { return Ok(Taken::Yes(0)) };
        if number > connection.channel_max {
            return Err(blame(Fault::ChannelLimit(connection.channel_max)));
        }
        let Some(channel) = connection.channel(number) else {
            if method != spec::CHANNEL_OPEN {
                // The answer to a close that both sides sent at a time.
                let is_late = method == spec::CHANNEL_CLOSE_OK;
                return if is_late { Ok(Taken::Yes(0)) } else { Err(blame(Fault::ChannelNotOpen)) };
            }
            command::parse(payload).map_err(blame)?;
            self.open_channel(id, number).map_err(blame)?;
            return Ok(Taken::Yes(0));
        };
        if channel.is_closing {
            return self.on_closing_channel(id, number, method);
        }
        if !matches!(channel.content, Content::Idle) {
            let what = "a method came in the middle of a message";
            return Err(blame(Fault::UnexpectedFrame(what)));
        }
        match command::parse(payload).map_err(blame)? {
            Command::Publish { is_immediate: true, .. } => {
                Err(blame(Fault::NotImplemented("immediate=true")))
            }
            Command::Publish { names, is_mandatory, .. } => {
                channel.names.clear();
                channel.names.extend_from_slice(names);
                channel.content = Content::Header { is_mandatory };
                self.note_publisher(id);
                Ok(Taken::Yes(0))
            }
            command => self.on_command(now, id, number, command).map_err(blame),
        }
    }

    fn open_channel(&mut self, id: ConnectionId, number: u16) -> Result<(), Fault> {
        if self.channels >= self.options.channels_max {
            self.meet(Limit::Channels);
            return Err(Fault::ChannelsOfAll(self.options.channels_max));
        }
        let Some(connection) = self.connections.get_mut(id) else { return Ok(()) };
        let at = usize::from(number);
        if connection.channels.len() <= at {
            connection.channels.resize_with(at + 1, || None);
        }
        if let Some(place) = connection.channels.get_mut(at) {
            *place = Some(Box::default());
            self.channels += 1;
        }
        self.say(id, |out| Method::new(out, number, spec::CHANNEL_OPEN_OK).long(b"").end());
        Ok(())
    }

    /// A channel that we closed: everything but the answer is passed over.
    fn on_closing_channel(
        &mut self,
        id: ConnectionId,
        number: u16,
        method: MethodId,
    ) -> Result<Taken, Blamed> {
        if matches!(method, spec::CHANNEL_CLOSE_OK | spec::CHANNEL_CLOSE) {
            if method == spec::CHANNEL_CLOSE {
                self.say(id, |out| write::bare(out, number, spec::CHANNEL_CLOSE_OK));
            }
            self.forget_channel(id, number);
        }
        Ok(Taken::Yes(0))
    }

    fn forget_channel(&mut self, id: ConnectionId, number: u16) {
        if let Some(connection) = self.connections.get_mut(id)
            && let Some(place) = connection.channels.get_mut(usize::from(number))
        {
            self.channels -= usize::from(place.take().is_some());
        }
    }

    fn on_command(
        &mut self,
        now: Instant,
        id: ConnectionId,
        number: u16,
        command: Command<'_>,
    ) -> Result<Taken, Fault> {
        match command {
            Command::ChannelOpen => return Err(Fault::ChannelOpenTwice),
            Command::ChannelFlow { is_active } => {
                return Ok(Taken::Yes(self.flow(id, number, is_active)));
            }
            Command::ChannelFlowOk | Command::CancelOk => {}
            Command::ChannelClose => {
                self.release_channels(now, id, number..=number);
                self.forget_channel(id, number);
                self.say(id, |out| write::bare(out, number, spec::CHANNEL_CLOSE_OK));
            }
            // One that nobody waits for any more.
            Command::ChannelCloseOk => {}
            Command::ExchangeDeclare(declare) => self.declare_exchange(id, number, &declare)?,
            Command::ExchangeDelete { exchange, if_unused, no_wait } => {
                self.delete_exchange(id, number, exchange, if_unused, no_wait)?;
            }
            Command::ExchangeBind(bind) => self.bind_exchange(id, number, &bind)?,
            Command::ExchangeUnbind(bind) => self.unbind_exchange(id, number, &bind)?,
            Command::QueueDeclare(declare) => self.declare_queue(now, id, number, &declare)?,
            Command::QueueBind(bind) => self.bind_queue(id, number, &bind)?,
            Command::QueueUnbind(bind) => self.unbind_queue(id, number, &bind)?,
            Command::QueuePurge { queue, no_wait } => {
                return self.purge_queue(id, number, queue, no_wait).map(Taken::Yes);
            }
            Command::QueueDelete { queue, if_unused, if_empty, no_wait } => {
                return self
                    .delete_queue(now, id, number, queue, (if_unused, if_empty), no_wait)
                    .map(Taken::Yes);
            }
            Command::Qos { prefetch_bytes, prefetch_count, is_global } => {
                return self.qos(id, number, prefetch_bytes, prefetch_count, is_global).map(Taken::Yes);
            }
            Command::Consume(consume) => self.consume(now, id, number, &consume)?,
            Command::Cancel { consumer_tag, no_wait } => {
                return Ok(Taken::Yes(self.cancel(now, id, number, consumer_tag, no_wait)));
            }
            Command::Get { queue, no_ack } => self.get(now, id, number, queue, no_ack)?,
            Command::Ack { delivery_tag, multiple } => {
                return self.ack(id, number, delivery_tag, multiple).map(Taken::Yes);
            }
            Command::Nack { delivery_tag, multiple, requeue } => {
                return self.nack(id, number, delivery_tag, multiple, requeue).map(Taken::Yes);
            }
            Command::Recover { requeue, is_async } => {
                return self.recover(id, number, requeue, is_async).map(Taken::Yes);
            }
            Command::ConfirmSelect { no_wait } => self.select_confirms(id, number, no_wait),
            Command::Publish { .. } => {}
            // Methods of channel 0.
            Command::StartOk { .. }
            | Command::TuneOk { .. }
            | Command::Open { .. }
            | Command::UpdateSecret
            | Command::ConnectionClose
            | Command::ConnectionCloseOk => return Err(Fault::OutOfTurn),
        }
        Ok(Taken::Yes(0))
    }

    /// Ends a channel for a fault, and tells the client.
    pub(super) fn fail_channel(
        &mut self,
        now: Instant,
        id: ConnectionId,
        number: u16,
        (class, method): MethodId,
        fault: &Fault,
    ) {
        self.release_channels(now, id, number..=number);
        let Some(connection) = self.connections.get_mut(id) else { return };
        let Some(channel) = connection.channel(number) else { return };
        *channel = Channel { is_closing: true, ..Channel::default() };
        let (code, text) = (fault.code(), fault.to_string());
        self.say(id, |out| {
            Method::new(out, number, spec::CHANNEL_CLOSE)
                .u16(code)
                .short(text.as_bytes())
                .u16(class)
                .u16(method)
                .end();
        });
    }

    fn on_header_frame(
        &mut self,
        now: Instant,
        id: ConnectionId,
        number: u16,
        payload: &[u8],
    ) -> Result<Taken, Blamed> {
        let blame = |fault| (spec::BASIC_PUBLISH, fault);
        let bytes_max = self.options.message_bytes_max;
        let Some(connection) = self.connections.get_mut(id) else { return Ok(Taken::Yes(0)) };
        let Some(channel) = connection.channel(number) else { return Err(blame(Fault::ChannelNotOpen)) };
        if channel.is_closing {
            return Ok(Taken::Yes(0));
        }
        let Content::Header { is_mandatory } = channel.content else {
            return Err(blame(Fault::UnexpectedFrame("a content header came without its method")));
        };
        let Some(bytes_announced) = properties::body_size(payload) else { return Err(blame(Fault::Syntax)) };
        let (names_len, header_len) = (channel.names.len(), payload.len());
        if bytes_announced > bytes_max {
            self.meet(Limit::MessageBytes);
            return Err(blame(Fault::MessageTooLarge { bytes: bytes_announced, bytes_max }));
        }
        let mut size = names_len + header_len + bytes_announced as usize;
        let cost = cost_of(size);
        if self.must_hold(id, cost) {
            // Memory became short after its method, which many channels may have sent by then.
            self.note_publisher(id);
            return Ok(Taken::Held(Hold::Memory));
        }
        let mut reserved = 0;
        if bytes_announced > 0 {
            match self.let_in(now, id, size).map_err(blame)? {
                Some(taken) => reserved = taken,
                None => return Ok(Taken::Held(Hold::Room)),
            }
        } else {
            size = 0;
        }
        self.take_allowance(id, cost);
        let Some(channel) = self.channel(id, number) else { return Ok(Taken::Yes(0)) };
        let room = names_len + header_len + bytes_announced.min(BODY_BYTES_AT_ONCE) as usize;
        let mut bytes = Vec::with_capacity(room);
        bytes.extend_from_slice(&channel.names);
        bytes.extend_from_slice(payload);
        let incoming = Incoming { is_mandatory, bytes, names_len, header_len, size, reserved };
        if bytes_announced == 0 {
            channel.content = Content::Idle;
            return self.publish_and_count(now, id, number, incoming).map_err(blame);
        }
        channel.content = Content::Body { incoming, remaining: bytes_announced };
        Ok(Taken::Yes(0))
    }

    fn on_body_frame(
        &mut self,
        now: Instant,
        id: ConnectionId,
        number: u16,
        payload: &[u8],
    ) -> Result<Taken, Blamed> {
        let blame = |fault| (spec::BASIC_PUBLISH, fault);
        let Some(connection) = self.connections.get_mut(id) else { return Ok(Taken::Yes(0)) };
        let Some(channel) = connection.channel(number) else { return Err(blame(Fault::ChannelNotOpen)) };
        if channel.is_closing {
            return Ok(Taken::Yes(0));
        }
        let Content::Body { incoming, remaining } = &mut channel.content else {
            return Err(blame(Fault::UnexpectedFrame("a body came without its header")));
        };
        let Some(left) = remaining.checked_sub(payload.len() as u64) else {
            return Err(blame(Fault::UnexpectedFrame("a body is longer than its header says")));
        };
        *remaining = left;
        let bytes = &mut incoming.bytes;
        if bytes.capacity() - bytes.len() < payload.len() {
            // Doubled as usual, but never beyond what was announced and counted.
            bytes.reserve_exact((payload.len() + left as usize).min(bytes.len().max(payload.len())));
        }
        bytes.extend_from_slice(payload);
        connection.content_received += payload.len() as u64;
        if left > 0 {
            return Ok(Taken::Yes(0));
        }
        let Some(channel) = connection.channel(number) else { return Ok(Taken::Yes(0)) };
        let Content::Body { incoming, .. } = std::mem::take(&mut channel.content) else {
            return Ok(Taken::Yes(0));
        };
        self.let_out(id, &incoming);
        self.publish_and_count(now, id, number, incoming).map_err(blame)
    }

    /// What it takes in one queue was counted with its header; here what it takes in further ones.
    fn publish_and_count(
        &mut self,
        now: Instant,
        id: ConnectionId,
        number: u16,
        incoming: Incoming,
    ) -> Result<Taken, Fault> {
        let (before, counted) = (self.store.bytes(), cost_of(incoming.bytes.len()));
        let units = self.publish(now, id, number, incoming)?;
        self.take_allowance(id, self.store.bytes().saturating_sub(before + counted));
        Ok(Taken::Yes(units))
    }
}
