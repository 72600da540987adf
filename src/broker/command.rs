//! Payloads of method frames that a client sends -> [`Command`], borrowed from the window.
//!
//! All by hand: what a client sends holds field tables, which must be read without recursion. Tables are checked here,
//! so whoever walks them later meets no surprise.

use crate::amqp::reader::Reader;
use crate::amqp::spec::{self, CLASS_TX, MethodId};
use crate::amqp::table;

use super::fault::Fault;

#[derive(Debug, PartialEq)]
pub(super) enum Command<'a> {
    StartOk {
        properties: &'a [u8],
        mechanism: &'a [u8],
        response: &'a [u8],
    },
    TuneOk {
        channel_max: u16,
        frame_max: u32,
        heartbeat_s: u16,
    },
    Open {
        vhost: &'a [u8],
    },
    UpdateSecret,
    ConnectionClose,
    ConnectionCloseOk,
    ChannelOpen,
    ChannelFlow {
        is_active: bool,
    },
    ChannelFlowOk,
    ChannelClose,
    ChannelCloseOk,
    ExchangeDeclare(ExchangeDeclare<'a>),
    ExchangeDelete {
        exchange: &'a [u8],
        if_unused: bool,
        no_wait: bool,
    },
    ExchangeBind(Bind<'a>),
    ExchangeUnbind(Bind<'a>),
    QueueDeclare(QueueDeclare<'a>),
    QueueBind(Bind<'a>),
    QueueUnbind(Bind<'a>),
    QueuePurge {
        queue: &'a [u8],
        no_wait: bool,
    },
    QueueDelete {
        queue: &'a [u8],
        if_unused: bool,
        if_empty: bool,
        no_wait: bool,
    },
    Qos {
        prefetch_bytes: u32,
        prefetch_count: u16,
        is_global: bool,
    },
    Consume(Consume<'a>),
    Cancel {
        consumer_tag: &'a [u8],
        no_wait: bool,
    },
    CancelOk,
    /// `names` is `exchange short | routing key short`, as messages keep it.
    Publish {
        names: &'a [u8],
        is_mandatory: bool,
        is_immediate: bool,
    },
    Get {
        queue: &'a [u8],
        no_ack: bool,
    },
    Ack {
        delivery_tag: u64,
        multiple: bool,
    },
    Nack {
        delivery_tag: u64,
        multiple: bool,
        requeue: bool,
    },
    Recover {
        requeue: bool,
        is_async: bool,
    },
    ConfirmSelect {
        no_wait: bool,
    },
}

#[derive(Debug, PartialEq)]
pub(super) struct ExchangeDeclare<'a> {
    pub(super) exchange: &'a [u8],
    pub(super) kind: &'a [u8],
    pub(super) passive: bool,
    pub(super) durable: bool,
    pub(super) auto_delete: bool,
    pub(super) internal: bool,
    pub(super) no_wait: bool,
    pub(super) arguments: &'a [u8],
}

#[derive(Debug, PartialEq)]
pub(super) struct QueueDeclare<'a> {
    pub(super) queue: &'a [u8],
    pub(super) passive: bool,
    pub(super) durable: bool,
    pub(super) exclusive: bool,
    pub(super) auto_delete: bool,
    pub(super) no_wait: bool,
    pub(super) arguments: &'a [u8],
}

/// Ties `destination`, a queue or an exchange, to `source`.
#[derive(Debug, PartialEq)]
pub(super) struct Bind<'a> {
    pub(super) destination: &'a [u8],
    pub(super) source: &'a [u8],
    pub(super) routing_key: &'a [u8],
    pub(super) no_wait: bool,
    pub(super) arguments: &'a [u8],
}

#[derive(Debug, PartialEq)]
pub(super) struct Consume<'a> {
    pub(super) queue: &'a [u8],
    pub(super) consumer_tag: &'a [u8],
    pub(super) no_ack: bool,
    pub(super) exclusive: bool,
    pub(super) no_wait: bool,
    pub(super) arguments: &'a [u8],
}

/// The class and method at the head of a payload.
pub(super) fn id(payload: &[u8]) -> Option<MethodId> {
    let mut reader = Reader::new(payload);
    reader.u16().zip(reader.u16())
}

/// Reads the payload of a method frame.
pub(super) fn parse(payload: &[u8]) -> Result<Command<'_>, Fault> {
    let mut reader = Reader::new(payload);
    let id = reader.u16().zip(reader.u16()).ok_or(Fault::Syntax)?;
    arguments(id, &mut reader).and_then(|command| match command {
        Some(command) if reader.is_empty() => Ok(command),
        _ => Err(Fault::Syntax),
    })
}

/// basic.publish without its class and method: `ticket u16 | exchange short | routing key short | bits u8`.
pub(super) fn publish<'a>(reader: &mut Reader<'a>) -> Option<Command<'a>> {
    reader.u16()?;
    let whole = reader.rest();
    reader.short()?;
    reader.short()?;
    let names = whole.get(..whole.len() - reader.rest().len())?;
    let bits = reader.u8()?;
    Some(Command::Publish { names, is_mandatory: bits & 1 != 0, is_immediate: bits & 2 != 0 })
}

/// `Ok(None)`: shorter than what it claims to hold.
fn arguments<'a>(id: MethodId, reader: &mut Reader<'a>) -> Result<Option<Command<'a>>, Fault> {
    Ok(match id {
        spec::BASIC_PUBLISH => publish(reader),
        spec::BASIC_ACK => tag_and_bits(reader)
            .map(|(delivery_tag, bits)| Command::Ack { delivery_tag, multiple: bits & 1 != 0 }),
        spec::BASIC_NACK => tag_and_bits(reader).map(|(delivery_tag, bits)| Command::Nack {
            delivery_tag,
            multiple: bits & 1 != 0,
            requeue: bits & 2 != 0,
        }),
        spec::BASIC_REJECT => tag_and_bits(reader).map(|(delivery_tag, bits)| Command::Nack {
            delivery_tag,
            multiple: false,
            requeue: bits & 1 != 0,
        }),
        _ => match id.0 {
            10 => connection(id, reader)?,
            20 => channel(id, reader)?,
            40 => exchange(id, reader)?,
            50 => queue(id, reader)?,
            60 => basic(id, reader)?,
            85 if id == spec::CONFIRM_SELECT => {
                reader.u8().map(|bits| Command::ConfirmSelect { no_wait: bits & 1 != 0 })
            }
            CLASS_TX => return Err(Fault::NotImplemented("transactions")),
            _ => return Err(Fault::UnknownMethod(id)),
        },
    })
}

fn tag_and_bits(reader: &mut Reader<'_>) -> Option<(u64, u8)> {
    reader.u64().zip(reader.u8())
}

fn checked_table<'a>(reader: &mut Reader<'a>) -> Option<&'a [u8]> {
    reader.long().filter(|bytes| table::check(bytes))
}

fn connection<'a>(id: MethodId, reader: &mut Reader<'a>) -> Result<Option<Command<'a>>, Fault> {
    let mut read = || {
        Some(match id {
            spec::CONNECTION_START_OK => {
                let properties = checked_table(reader)?;
                let mechanism = reader.short()?;
                let response = reader.long()?;
                let _locale = reader.short()?;
                Command::StartOk { properties, mechanism, response }
            }
            spec::CONNECTION_TUNE_OK => Command::TuneOk {
                channel_max: reader.u16()?,
                frame_max: reader.u32()?,
                heartbeat_s: reader.u16()?,
            },
            spec::CONNECTION_OPEN => {
                let vhost = reader.short()?;
                // Two fields of an earlier version.
                reader.short()?;
                reader.u8()?;
                Command::Open { vhost }
            }
            spec::CONNECTION_UPDATE_SECRET => {
                reader.long()?;
                reader.short()?;
                Command::UpdateSecret
            }
            spec::CONNECTION_CLOSE => {
                close(reader)?;
                Command::ConnectionClose
            }
            _ => Command::ConnectionCloseOk,
        })
    };
    match id {
        spec::CONNECTION_START_OK
        | spec::CONNECTION_TUNE_OK
        | spec::CONNECTION_OPEN
        | spec::CONNECTION_UPDATE_SECRET
        | spec::CONNECTION_CLOSE
        | spec::CONNECTION_CLOSE_OK => Ok(read()),
        _ => Err(Fault::UnknownMethod(id)),
    }
}

/// `reply code u16 | reply text short | class u16 | method u16`
fn close(reader: &mut Reader<'_>) -> Option<()> {
    reader.u16()?;
    reader.short()?;
    reader.u32()?;
    Some(())
}

fn channel<'a>(id: MethodId, reader: &mut Reader<'a>) -> Result<Option<Command<'a>>, Fault> {
    Ok(match id {
        spec::CHANNEL_OPEN => reader.short().map(|_| Command::ChannelOpen),
        spec::CHANNEL_FLOW => reader.u8().map(|bits| Command::ChannelFlow { is_active: bits & 1 != 0 }),
        spec::CHANNEL_FLOW_OK => reader.u8().map(|_| Command::ChannelFlowOk),
        spec::CHANNEL_CLOSE => close(reader).map(|()| Command::ChannelClose),
        spec::CHANNEL_CLOSE_OK => Some(Command::ChannelCloseOk),
        _ => return Err(Fault::UnknownMethod(id)),
    })
}

/// `ticket u16 | destination short | source short | routing key short | no-wait u8 | arguments table`, for all but
/// queue.unbind, which has no no-wait.
fn bind<'a>(reader: &mut Reader<'a>, has_no_wait: bool) -> Option<Bind<'a>> {
    reader.u16()?;
    let (destination, source, routing_key) = (reader.short()?, reader.short()?, reader.short()?);
    let no_wait = has_no_wait && reader.u8()? & 1 != 0;
    Some(Bind { destination, source, routing_key, no_wait, arguments: checked_table(reader)? })
}

fn exchange<'a>(id: MethodId, reader: &mut Reader<'a>) -> Result<Option<Command<'a>>, Fault> {
    Ok(match id {
        spec::EXCHANGE_DECLARE => exchange_declare(reader).map(Command::ExchangeDeclare),
        spec::EXCHANGE_DELETE => {
            let mut read = || {
                reader.u16()?;
                let exchange = reader.short()?;
                let bits = reader.u8()?;
                Some(Command::ExchangeDelete { exchange, if_unused: bits & 1 != 0, no_wait: bits & 2 != 0 })
            };
            read()
        }
        spec::EXCHANGE_BIND => bind(reader, true).map(Command::ExchangeBind),
        spec::EXCHANGE_UNBIND => bind(reader, true).map(Command::ExchangeUnbind),
        _ => return Err(Fault::UnknownMethod(id)),
    })
}

fn exchange_declare<'a>(reader: &mut Reader<'a>) -> Option<ExchangeDeclare<'a>> {
    reader.u16()?;
    let (exchange, kind, bits) = (reader.short()?, reader.short()?, reader.u8()?);
    Some(ExchangeDeclare {
        exchange,
        kind,
        passive: bits & 1 != 0,
        durable: bits & 2 != 0,
        auto_delete: bits & 4 != 0,
        internal: bits & 8 != 0,
        no_wait: bits & 16 != 0,
        arguments: checked_table(reader)?,
    })
}

fn queue<'a>(id: MethodId, reader: &mut Reader<'a>) -> Result<Option<Command<'a>>, Fault> {
    let mut named = || {
        reader.u16()?;
        Some((reader.short()?, reader.u8()?))
    };
    Ok(match id {
        spec::QUEUE_DECLARE => queue_declare(reader).map(Command::QueueDeclare),
        spec::QUEUE_BIND => bind(reader, true).map(Command::QueueBind),
        spec::QUEUE_UNBIND => bind(reader, false).map(Command::QueueUnbind),
        spec::QUEUE_PURGE => {
            named().map(|(queue, bits)| Command::QueuePurge { queue, no_wait: bits & 1 != 0 })
        }
        spec::QUEUE_DELETE => named().map(|(queue, bits)| Command::QueueDelete {
            queue,
            if_unused: bits & 1 != 0,
            if_empty: bits & 2 != 0,
            no_wait: bits & 4 != 0,
        }),
        _ => return Err(Fault::UnknownMethod(id)),
    })
}

fn queue_declare<'a>(reader: &mut Reader<'a>) -> Option<QueueDeclare<'a>> {
    reader.u16()?;
    let (queue, bits) = (reader.short()?, reader.u8()?);
    Some(QueueDeclare {
        queue,
        passive: bits & 1 != 0,
        durable: bits & 2 != 0,
        exclusive: bits & 4 != 0,
        auto_delete: bits & 8 != 0,
        no_wait: bits & 16 != 0,
        arguments: checked_table(reader)?,
    })
}

fn basic<'a>(id: MethodId, reader: &mut Reader<'a>) -> Result<Option<Command<'a>>, Fault> {
    let mut bits = || reader.u8();
    Ok(match id {
        spec::BASIC_QOS => qos(reader),
        spec::BASIC_CONSUME => consume(reader).map(Command::Consume),
        spec::BASIC_CANCEL => reader
            .short()
            .zip(reader.u8())
            .map(|(consumer_tag, bits)| Command::Cancel { consumer_tag, no_wait: bits & 1 != 0 }),
        spec::BASIC_CANCEL_OK => reader.short().map(|_| Command::CancelOk),
        spec::BASIC_GET => {
            let mut read = || {
                reader.u16()?;
                Some(Command::Get { queue: reader.short()?, no_ack: reader.u8()? & 1 != 0 })
            };
            read()
        }
        spec::BASIC_RECOVER_ASYNC => {
            bits().map(|bits| Command::Recover { requeue: bits & 1 != 0, is_async: true })
        }
        spec::BASIC_RECOVER => {
            bits().map(|bits| Command::Recover { requeue: bits & 1 != 0, is_async: false })
        }
        _ => return Err(Fault::UnknownMethod(id)),
    })
}

fn qos<'a>(reader: &mut Reader<'a>) -> Option<Command<'a>> {
    let (prefetch_bytes, prefetch_count) = (reader.u32()?, reader.u16()?);
    Some(Command::Qos { prefetch_bytes, prefetch_count, is_global: reader.u8()? & 1 != 0 })
}

fn consume<'a>(reader: &mut Reader<'a>) -> Option<Consume<'a>> {
    reader.u16()?;
    let (queue, consumer_tag, bits) = (reader.short()?, reader.short()?, reader.u8()?);
    // The first bit is no-local, which RabbitMQ does not know either.
    Some(Consume {
        queue,
        consumer_tag,
        no_ack: bits & 2 != 0,
        exclusive: bits & 4 != 0,
        no_wait: bits & 8 != 0,
        arguments: checked_table(reader)?,
    })
}
