//! What a client can do wrong, and the one table that says what it is told: a reply code that ends its channel or its
//! connection, and RabbitMQ's words, which people search for and some libraries match.

use std::fmt;

use crate::amqp::Error;
use crate::amqp::spec::{ChannelReplyCode, ConnectionReplyCode, MethodId};

/// Exchange or queue, for texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Exchange,
    Queue,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Exchange => "exchange",
            Kind::Queue => "queue",
        })
    }
}

/// A name on one line, for a text of at most 255 octets.
pub(super) fn text(name: &[u8]) -> String {
    String::from_utf8_lossy(name).chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// What a client did wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    NotFound(Kind, String),
    /// A method with an empty queue name before anything was declared on the channel.
    NoLastQueue,
    ReservedName(Kind, String),
    DefaultExchange,
    InternalExchange(String),
    Locked(String),
    ExclusiveUse(String),
    Inequivalent {
        what: &'static str,
        kind: Kind,
        name: String,
        received: String,
        current: String,
    },
    InUse(Kind, String),
    NotEmpty(String),
    UnknownDeliveryTag(u64),
    InvalidArgument {
        name: &'static str,
        kind: Kind,
        entity: String,
    },
    InvalidExpiration(String),
    UserId {
        claimed: String,
        user: String,
    },
    MessageTooLarge {
        bytes: u64,
        bytes_max: u64,
    },
    EntityLimit {
        kind: Kind,
        name: String,
        count_max: usize,
    },
    BindingLimit(usize),
    ReplyConsumerAck,
    NoReplyConsumer,

    Frame(Error),
    Syntax,
    UnknownMethod(MethodId),
    /// Known, but not at this point.
    OutOfTurn,
    UnknownExchangeType(String),
    ChannelNotOpen,
    ChannelOpenTwice,
    UnexpectedFrame(&'static str),
    Mechanism(String),
    Login(String),
    Tune {
        what: &'static str,
        asked: u64,
        limit: u64,
    },
    UnknownVhost(String),
    ConsumerTagTaken(String),
    ChannelLimit(u16),
    ConsumerLimit(usize),
    ChannelsOfAll(usize),
    ContentLimit(usize),
    ContentStalled,
    ContentCrowded,
    NotImplemented(&'static str),
    Shutdown,
}

/// How far a fault reaches, and the code that says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    Channel(ChannelReplyCode),
    Connection(ConnectionReplyCode),
    /// 403 with the connection, which the published table has for channels only; RabbitMQ's extension
    /// authentication_failure_close.
    Login,
}

impl Fault {
    /// The one table.
    pub(super) fn reply(&self) -> Reply {
        use ChannelReplyCode as Ch;
        use ConnectionReplyCode as Co;
        match self {
            Fault::NotFound(..) | Fault::NoLastQueue => Reply::Channel(Ch::NotFound),
            Fault::ReservedName(..)
            | Fault::DefaultExchange
            | Fault::InternalExchange(_)
            | Fault::ExclusiveUse(_) => Reply::Channel(Ch::AccessRefused),
            Fault::Locked(_) => Reply::Channel(Ch::ResourceLocked),
            Fault::Inequivalent { .. }
            | Fault::InUse(..)
            | Fault::NotEmpty(_)
            | Fault::UnknownDeliveryTag(_)
            | Fault::InvalidArgument { .. }
            | Fault::InvalidExpiration(_)
            | Fault::UserId { .. }
            | Fault::MessageTooLarge { .. }
            | Fault::EntityLimit { .. }
            | Fault::BindingLimit(_)
            | Fault::ReplyConsumerAck
            | Fault::NoReplyConsumer => Reply::Channel(Ch::PreconditionFailed),
            Fault::Frame(_) => Reply::Connection(Co::FrameError),
            Fault::Syntax => Reply::Connection(Co::SyntaxError),
            Fault::UnknownMethod(_)
            | Fault::OutOfTurn
            | Fault::UnknownExchangeType(_)
            | Fault::Mechanism(_) => Reply::Connection(Co::CommandInvalid),
            Fault::ChannelNotOpen | Fault::ChannelOpenTwice => Reply::Connection(Co::ChannelError),
            Fault::UnexpectedFrame(_) => Reply::Connection(Co::UnexpectedFrame),
            Fault::Login(_) => Reply::Login,
            Fault::Tune { .. }
            | Fault::UnknownVhost(_)
            | Fault::ConsumerTagTaken(_)
            | Fault::ChannelLimit(_)
            | Fault::ChannelsOfAll(_)
            | Fault::ConsumerLimit(_) => Reply::Connection(Co::NotAllowed),
            Fault::ContentLimit(_) | Fault::ContentStalled | Fault::ContentCrowded => {
                Reply::Connection(Co::ResourceError)
            }
            Fault::NotImplemented(_) => Reply::Connection(Co::NotImplemented),
            Fault::Shutdown => Reply::Connection(Co::ConnectionForced),
        }
    }

    /// The code on the wire.
    pub(super) fn code(&self) -> u16 {
        match self.reply() {
            Reply::Channel(code) => code.code(),
            Reply::Connection(code) => code.code(),
            Reply::Login => ChannelReplyCode::AccessRefused.code(),
        }
    }

    /// The name of the code, as it stands in front of RabbitMQ's texts.
    fn code_name(&self) -> &'static str {
        use ChannelReplyCode as Ch;
        use ConnectionReplyCode as Co;
        match self.reply() {
            Reply::Channel(code) => match code {
                Ch::ContentTooLarge => "CONTENT_TOO_LARGE",
                Ch::NoRoute => "NO_ROUTE",
                Ch::NoConsumers => "NO_CONSUMERS",
                Ch::AccessRefused => "ACCESS_REFUSED",
                Ch::NotFound => "NOT_FOUND",
                Ch::ResourceLocked => "RESOURCE_LOCKED",
                Ch::PreconditionFailed => "PRECONDITION_FAILED",
            },
            Reply::Login => "ACCESS_REFUSED",
            Reply::Connection(code) => match code {
                Co::ConnectionForced => "CONNECTION_FORCED",
                Co::InvalidPath => "INVALID_PATH",
                Co::FrameError => "FRAME_ERROR",
                Co::SyntaxError => "SYNTAX_ERROR",
                Co::CommandInvalid => "COMMAND_INVALID",
                Co::ChannelError => "CHANNEL_ERROR",
                Co::UnexpectedFrame => "UNEXPECTED_FRAME",
                Co::ResourceError => "RESOURCE_ERROR",
                Co::NotAllowed => "NOT_ALLOWED",
                Co::NotImplemented => "NOT_IMPLEMENTED",
                Co::InternalError => "INTERNAL_ERROR",
            },
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} - ", self.code_name())?;
        match self {
            Fault::NotFound(kind, name) => write!(f, "no {kind} '{name}' in vhost '/'"),
            Fault::NoLastQueue => f.write_str("no previously declared queue"),
            Fault::ReservedName(kind, name) => {
                write!(f, "{kind} name '{name}' contains reserved prefix 'amq.*'")
            }
            Fault::DefaultExchange => f.write_str("operation not permitted on the default exchange"),
            Fault::InternalExchange(name) => {
                write!(f, "cannot publish to internal exchange '{name}' in vhost '/'")
            }
            Fault::Locked(name) => write!(
                f,
                "cannot obtain exclusive access to locked queue '{name}' in vhost '/'. It could be originally declared on another connection or the exclusive property value does not match that of the original declaration."
            ),
            Fault::ExclusiveUse(name) => write!(f, "queue '{name}' in vhost '/' in exclusive use"),
            Fault::Inequivalent { what, kind, name, received, current } => write!(
                f,
                "inequivalent arg '{what}' for {kind} '{name}' in vhost '/': received {received} but current is {current}"
            ),
            Fault::InUse(kind, name) => write!(f, "{kind} '{name}' in vhost '/' in use"),
            Fault::NotEmpty(name) => write!(f, "queue '{name}' in vhost '/' is not empty"),
            Fault::UnknownDeliveryTag(tag) => write!(f, "unknown delivery tag {tag}"),
            Fault::InvalidArgument { name, kind, entity } => {
                write!(f, "invalid arg '{name}' for {kind} '{entity}' in vhost '/'")
            }
            Fault::InvalidExpiration(value) => write!(f, "invalid expiration '{value}'"),
            Fault::UserId { claimed, user } => {
                write!(f, "user_id property set to '{claimed}' but authenticated user was '{user}'")
            }
            Fault::MessageTooLarge { bytes, bytes_max } => {
                write!(f, "message size {bytes} is larger than configured max size {bytes_max}")
            }
            Fault::EntityLimit { kind, name, count_max } => {
                write!(
                    f,
                    "cannot declare {kind} '{name}': {kind} limit in vhost '/' ({count_max}) is reached"
                )
            }
            Fault::BindingLimit(count_max) => {
                write!(f, "cannot bind: binding limit in vhost '/' ({count_max}) is reached")
            }
            Fault::ReplyConsumerAck => f.write_str("reply consumer cannot acknowledge"),
            Fault::NoReplyConsumer => f.write_str("fast reply consumer does not exist"),
            Fault::Frame(error) => write!(f, "{error}"),
            Fault::Syntax => f.write_str("the arguments cannot be read"),
            Fault::UnknownMethod((class, method)) => write!(f, "unknown method {class}.{method}"),
            Fault::OutOfTurn => f.write_str("the method does not belong here"),
            Fault::UnknownExchangeType(name) => write!(f, "unknown exchange type '{name}'"),
            Fault::ChannelNotOpen => f.write_str("expected 'channel.open'"),
            Fault::ChannelOpenTwice => f.write_str("second 'channel.open' seen"),
            Fault::UnexpectedFrame(what) => f.write_str(what),
            Fault::Mechanism(name) => write!(f, "unknown authentication mechanism '{name}'"),
            Fault::Login(mechanism) => write!(
                f,
                "Login was refused using authentication mechanism {mechanism}. For details see the broker logfile."
            ),
            Fault::Tune { what, asked, limit } if asked > limit => {
                write!(f, "negotiated {what} = {asked} is higher than the maximum allowed value ({limit})")
            }
            Fault::Tune { what, asked, limit } => {
                write!(f, "negotiated {what} = {asked} is lower than the minimum allowed value ({limit})")
            }
            Fault::UnknownVhost(name) => write!(f, "vhost {name} not found"),
            Fault::ConsumerTagTaken(tag) => write!(f, "attempt to reuse consumer tag '{tag}'"),
            Fault::ChannelLimit(count_max) => {
                write!(f, "channel number is larger than negotiated channel_max ({count_max})")
            }
            Fault::ConsumerLimit(count_max) => {
                write!(f, "reached maximum ({count_max}) of consumers per channel")
            }
            Fault::ContentLimit(bytes_max) => {
                write!(f, "unfinished messages of this connection exceed {bytes_max} bytes")
            }
            Fault::ChannelsOfAll(count_max) => {
                write!(f, "number of channels has reached the maximum allowed limit of ({count_max})")
            }
            Fault::ContentStalled => {
                f.write_str("unfinished messages got no further, and others wait for their room")
            }
            Fault::ContentCrowded => {
                f.write_str("there is no room for another unfinished message of this connection")
            }
            Fault::NotImplemented(what) => f.write_str(what),
            Fault::Shutdown => f.write_str("broker forced connection closure with reason 'shutdown'"),
        }
    }
}
