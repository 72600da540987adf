//! What can go wrong with a broker, and the one table that says what happens next.
//!
//! Faults of the peer are values. Each ends the connection: a fault that ends only a channel is mended inside
//! [`super::Client`] and never becomes an `Error` once the topology stands. Text that a broker sent is cleaned of
//! control characters before it is kept, since it goes to a log.

use std::fmt;

use super::spec::{ConnectionReplyCode, MethodId};

/// Why a connection ended, or why bytes could not be framed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// A frame began with an octet that is no frame type. The peer may not be a broker at all.
    FrameType {
        /// The octet.
        octet: u8,
    },
    /// A frame ended with another octet than 0xCE.
    FrameEnd {
        /// The octet.
        octet: u8,
    },
    /// A frame announced a payload that does not fit.
    FrameTooLarge {
        /// The payload that was announced.
        size: u32,
        /// The limit, frame head and end included.
        frame_max: u32,
    },
    /// A method or content header could not be read.
    Syntax {
        /// What it was.
        what: &'static str,
    },
    /// A method came that this client does not know, or not at this point.
    UnexpectedMethod {
        /// The channel it came on.
        channel: u16,
        /// Its class and method id.
        method: MethodId,
    },
    /// A frame came that does not fit what came before it, such as a body without a header.
    UnexpectedFrame {
        /// The channel it came on.
        channel: u16,
        /// What was wrong.
        what: &'static str,
    },
    /// A frame came on a channel that is not open.
    UnknownChannel {
        /// The channel.
        channel: u16,
    },
    /// The broker speaks another version of the protocol.
    Version {
        /// The eight octets it answered with.
        header: [u8; 8],
    },
    /// The broker does not offer PLAIN.
    NoPlain {
        /// The mechanisms that it offers.
        offered: String,
    },
    /// The broker refused user and password.
    AccessRefused {
        /// The broker's words; empty when it just hung up.
        text: String,
    },
    /// The broker's limits are too low to work with.
    Tune {
        /// Which limit.
        what: &'static str,
    },
    /// The broker closed the connection.
    ClosedByBroker {
        /// The reply code.
        code: u16,
        /// The broker's words.
        text: String,
        /// The method it blames; (0, 0) for none.
        method: MethodId,
    },
    /// The broker closed the connection because it forbids queues that are neither durable nor exclusive.
    TransientQueueRefused {
        /// The reply code.
        code: u16,
        /// The broker's words.
        text: String,
    },
    /// The broker refused an exchange, queue, binding or consumer.
    TopologyRefused {
        /// What was asked for.
        what: String,
        /// The reply code.
        code: u16,
        /// The broker's words.
        text: String,
    },
    /// Nothing came from the broker for two heartbeat intervals.
    HeartbeatMissed,
    /// The broker did not answer in time.
    Timeout {
        /// What was waited for.
        waiting_for: &'static str,
    },
    /// The transport ended without a word from the broker.
    LinkLost,
    /// One of the client's own options can't be sent to a broker.
    Options {
        /// Which one.
        name: &'static str,
    },
    /// A short string to be sent is longer than 255 octets.
    ShortString {
        /// Which one.
        name: &'static str,
    },
    /// Bytes that should be framed publishes are not.
    NotPublishes {
        /// Where the publish that can't be read begins.
        offset: usize,
    },
    /// The connection has ended; the reason was given before.
    Over,
}

/// What to do after an [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Consequence {
    /// With which reply code the client closes the connection. `None`: without a word, because the broker closed
    /// it already, would not understand, or is gone.
    pub tell: Option<ConnectionReplyCode>,
    /// What the owner of the client does next.
    pub recovery: Recovery,
}

/// What the owner of a client does after its connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recovery {
    /// Connect again, with a backoff.
    Reconnect,
    /// Connect again with `Options::queue_durable` set.
    ReconnectDurable,
    /// Connect again slowly and log at the level of an error: only a person can change the outcome.
    Operator,
    /// Nothing is wrong with a connection: drop what could not be framed.
    Drop,
}

impl Error {
    /// The one table of errors and what happens next.
    pub fn consequence(&self) -> Consequence {
        use ConnectionReplyCode as Code;
        let (tell, recovery) = match self {
            Error::FrameType { .. } | Error::FrameEnd { .. } | Error::FrameTooLarge { .. } => {
                (Some(Code::FrameError), Recovery::Reconnect)
            }
            Error::Syntax { .. } => (Some(Code::SyntaxError), Recovery::Reconnect),
            Error::UnexpectedMethod { .. } => (Some(Code::CommandInvalid), Recovery::Reconnect),
            Error::UnexpectedFrame { .. } => (Some(Code::UnexpectedFrame), Recovery::Reconnect),
            Error::UnknownChannel { .. } => (Some(Code::ChannelError), Recovery::Reconnect),
            Error::Version { .. } | Error::NoPlain { .. } => (None, Recovery::Operator),
            Error::AccessRefused { .. } => (None, Recovery::Operator),
            Error::Tune { .. } => (Some(Code::NotAllowed), Recovery::Operator),
            Error::ClosedByBroker { code, .. } => (
                None,
                match Code::from_code(*code) {
                    // The virtual host is wrong or forbidden.
                    Some(Code::InvalidPath | Code::NotAllowed) => Recovery::Operator,
                    _ => Recovery::Reconnect,
                },
            ),
            Error::TransientQueueRefused { .. } => (None, Recovery::ReconnectDurable),
            // An orderly close: the broker did nothing that a code of a fault would describe.
            Error::TopologyRefused { .. } => (Some(Code::ConnectionForced), Recovery::Operator),
            // The peer may be alive but stuck; a close costs nothing and tells its log why.
            Error::HeartbeatMissed | Error::Timeout { .. } => {
                (Some(Code::ConnectionForced), Recovery::Reconnect)
            }
            Error::LinkLost | Error::Over => (None, Recovery::Reconnect),
            Error::Options { .. } => (None, Recovery::Operator),
            Error::ShortString { .. } | Error::NotPublishes { .. } => (None, Recovery::Drop),
        };
        Consequence { tell, recovery }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::FrameType { octet } => {
                write!(
                    f,
                    "a frame began with octet {octet}, which is no frame type: is the peer an AMQP 0-9-1 broker, and is TLS set as it expects?"
                )
            }
            Error::FrameEnd { octet } => write!(f, "a frame ended with octet {octet}, expected 206"),
            Error::FrameTooLarge { size, frame_max } => {
                write!(f, "a frame announced {size} octets, more than frame_max {frame_max} allows")
            }
            Error::Syntax { what } => write!(f, "{what} could not be read"),
            Error::UnexpectedMethod { channel, method: (class, method) } => {
                write!(f, "method {class}.{method} came on channel {channel} where it does not belong")
            }
            Error::UnexpectedFrame { channel, what } => write!(f, "{what} on channel {channel}"),
            Error::UnknownChannel { channel } => {
                write!(f, "a frame came on channel {channel}, which is not open")
            }
            Error::Version { header } => {
                write!(
                    f,
                    "the broker does not speak AMQP 0-9-1; it offers {:?}",
                    String::from_utf8_lossy(header)
                )
            }
            Error::NoPlain { offered } => {
                write!(f, "the broker does not accept the mechanism PLAIN; it offers: {offered}")
            }
            Error::AccessRefused { text } if text.is_empty() => {
                f.write_str("the broker hung up during the login: user or password are probably wrong")
            }
            Error::AccessRefused { text } => write!(f, "the broker refused user and password: {text}"),
            Error::Tune { what } => write!(f, "the broker's limits are too low: {what}"),
            Error::ClosedByBroker { code, text, .. } => {
                write!(f, "the broker closed the connection: {code} {text}")
            }
            Error::TransientQueueRefused { code, text } => {
                write!(f, "the broker refuses a queue that is not durable: {code} {text}")
            }
            Error::TopologyRefused { what, code, text } => {
                write!(f, "the broker refused {what}: {code} {text}")
            }
            Error::HeartbeatMissed => f.write_str("nothing came from the broker for two heartbeat intervals"),
            Error::Timeout { waiting_for } => {
                write!(f, "the broker did not answer in time with {waiting_for}")
            }
            Error::LinkLost => f.write_str("the connection to the broker was lost"),
            Error::Options { name } => write!(f, "the option {name} is longer than 255 octets"),
            Error::ShortString { name } => write!(f, "{name} is longer than 255 octets"),
            Error::NotPublishes { offset } => write!(f, "no publish can be read at offset {offset}"),
            Error::Over => f.write_str("the connection is over"),
        }
    }
}

impl std::error::Error for Error {}

/// A broker's words on one line, for a log.
pub(super) fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn closed(code: u16) -> Error {
        Error::ClosedByBroker { code, text: String::new(), method: (0, 0) }
    }

    #[test]
    fn each_fault_has_the_reply_code_of_the_specification() {
        let tell = |error: Error| error.consequence().tell.map(ConnectionReplyCode::code);
        assert_eq!(tell(Error::FrameEnd { octet: 0 }), Some(501));
        assert_eq!(tell(Error::FrameType { octet: 0 }), Some(501));
        assert_eq!(tell(Error::Syntax { what: "" }), Some(502));
        assert_eq!(tell(Error::UnexpectedMethod { channel: 0, method: (0, 0) }), Some(503));
        assert_eq!(tell(Error::UnknownChannel { channel: 9 }), Some(504));
        assert_eq!(tell(Error::UnexpectedFrame { channel: 1, what: "" }), Some(505));
        assert_eq!(tell(closed(320)), None);
    }

    #[test]
    fn only_what_a_person_must_change_goes_to_the_operator() {
        for code in [311, 320, 501, 506, 541, 999] {
            assert_eq!(closed(code).consequence().recovery, Recovery::Reconnect, "{code}");
        }
        for code in [402, 530] {
            assert_eq!(closed(code).consequence().recovery, Recovery::Operator, "{code}");
        }
        let refused = Error::TransientQueueRefused { code: 541, text: String::new() };
        assert_eq!(refused.consequence().recovery, Recovery::ReconnectDurable);
    }
}
