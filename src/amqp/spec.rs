//! Numbers of the specification: frame types, method ids, reply codes.
//!
//! Reply codes are two enums, those that end a channel and those that end a connection (section 1.2 of the
//! protocol reference). Which of the two a code belongs to decides what survives it.

/// Frame type of a method.
pub const FRAME_METHOD: u8 = 1;
/// Frame type of a content header.
pub const FRAME_HEADER: u8 = 2;
/// Frame type of a piece of a content body.
pub const FRAME_BODY: u8 = 3;
/// Frame type of a heartbeat.
pub const FRAME_HEARTBEAT: u8 = 8;
/// The octet that ends each frame.
pub const FRAME_END: u8 = 0xCE;
/// Octets of a frame besides its payload: type, channel, size and end.
pub const FRAME_OVERHEAD: u32 = 8;
/// The smallest frame_max that a peer may ask for (section 4.2.3).
pub const FRAME_MIN_SIZE: u32 = 4096;
/// What a client says first.
pub const PROTOCOL_HEADER: [u8; 8] = *b"AMQP\x00\x00\x09\x01";
/// The reply code of a close without a fault.
pub const REPLY_SUCCESS: u16 = 200;
/// The class of everything that has content.
pub const CLASS_BASIC: u16 = 60;

/// Class id and method id, as they stand at the head of a method's payload.
pub type MethodId = (u16, u16);

/// connection.start
pub const CONNECTION_START: MethodId = (10, 10);
/// connection.secure
pub const CONNECTION_SECURE: MethodId = (10, 20);
/// connection.tune
pub const CONNECTION_TUNE: MethodId = (10, 30);
/// connection.open-ok
pub const CONNECTION_OPEN_OK: MethodId = (10, 41);
/// connection.close
pub const CONNECTION_CLOSE: MethodId = (10, 50);
/// connection.close-ok
pub const CONNECTION_CLOSE_OK: MethodId = (10, 51);
/// connection.blocked, an extension of RabbitMQ
pub const CONNECTION_BLOCKED: MethodId = (10, 60);
/// connection.unblocked, an extension of RabbitMQ
pub const CONNECTION_UNBLOCKED: MethodId = (10, 61);
/// channel.open-ok
pub const CHANNEL_OPEN_OK: MethodId = (20, 11);
/// channel.flow
pub const CHANNEL_FLOW: MethodId = (20, 20);
/// channel.close
pub const CHANNEL_CLOSE: MethodId = (20, 40);
/// channel.close-ok
pub const CHANNEL_CLOSE_OK: MethodId = (20, 41);
/// exchange.declare-ok
pub const EXCHANGE_DECLARE_OK: MethodId = (40, 11);
/// queue.declare
pub const QUEUE_DECLARE: MethodId = (50, 10);
/// queue.declare-ok
pub const QUEUE_DECLARE_OK: MethodId = (50, 11);
/// queue.bind-ok
pub const QUEUE_BIND_OK: MethodId = (50, 21);
/// basic.qos-ok
pub const BASIC_QOS_OK: MethodId = (60, 11);
/// basic.consume-ok
pub const BASIC_CONSUME_OK: MethodId = (60, 21);
/// basic.cancel
pub const BASIC_CANCEL: MethodId = (60, 30);
/// basic.cancel-ok
pub const BASIC_CANCEL_OK: MethodId = (60, 31);
/// basic.publish
pub const BASIC_PUBLISH: MethodId = (60, 40);
/// basic.return
pub const BASIC_RETURN: MethodId = (60, 50);
/// basic.deliver
pub const BASIC_DELIVER: MethodId = (60, 60);
/// basic.ack
pub const BASIC_ACK: MethodId = (60, 80);
/// basic.nack, an extension of RabbitMQ
pub const BASIC_NACK: MethodId = (60, 120);
/// confirm.select-ok
pub const CONFIRM_SELECT_OK: MethodId = (85, 11);

// What a client asks of a broker.

/// connection.start-ok
pub const CONNECTION_START_OK: MethodId = (10, 11);
/// connection.secure-ok
pub const CONNECTION_SECURE_OK: MethodId = (10, 21);
/// connection.tune-ok
pub const CONNECTION_TUNE_OK: MethodId = (10, 31);
/// connection.open
pub const CONNECTION_OPEN: MethodId = (10, 40);
/// connection.update-secret, an extension of RabbitMQ
pub const CONNECTION_UPDATE_SECRET: MethodId = (10, 70);
/// channel.open
pub const CHANNEL_OPEN: MethodId = (20, 10);
/// channel.flow-ok
pub const CHANNEL_FLOW_OK: MethodId = (20, 21);
/// exchange.declare
pub const EXCHANGE_DECLARE: MethodId = (40, 10);
/// exchange.delete
pub const EXCHANGE_DELETE: MethodId = (40, 20);
/// exchange.delete-ok
pub const EXCHANGE_DELETE_OK: MethodId = (40, 21);
/// exchange.bind, an extension of RabbitMQ
pub const EXCHANGE_BIND: MethodId = (40, 30);
/// exchange.bind-ok
pub const EXCHANGE_BIND_OK: MethodId = (40, 31);
/// exchange.unbind, an extension of RabbitMQ
pub const EXCHANGE_UNBIND: MethodId = (40, 40);
/// exchange.unbind-ok; RabbitMQ's number breaks the row
pub const EXCHANGE_UNBIND_OK: MethodId = (40, 51);
/// queue.bind
pub const QUEUE_BIND: MethodId = (50, 20);
/// queue.purge
pub const QUEUE_PURGE: MethodId = (50, 30);
/// queue.purge-ok
pub const QUEUE_PURGE_OK: MethodId = (50, 31);
/// queue.delete
pub const QUEUE_DELETE: MethodId = (50, 40);
/// queue.delete-ok
pub const QUEUE_DELETE_OK: MethodId = (50, 41);
/// queue.unbind
pub const QUEUE_UNBIND: MethodId = (50, 50);
/// queue.unbind-ok
pub const QUEUE_UNBIND_OK: MethodId = (50, 51);
/// basic.qos
pub const BASIC_QOS: MethodId = (60, 10);
/// basic.consume
pub const BASIC_CONSUME: MethodId = (60, 20);
/// basic.get
pub const BASIC_GET: MethodId = (60, 70);
/// basic.get-ok
pub const BASIC_GET_OK: MethodId = (60, 71);
/// basic.get-empty
pub const BASIC_GET_EMPTY: MethodId = (60, 72);
/// basic.reject
pub const BASIC_REJECT: MethodId = (60, 90);
/// basic.recover-async
pub const BASIC_RECOVER_ASYNC: MethodId = (60, 100);
/// basic.recover
pub const BASIC_RECOVER: MethodId = (60, 110);
/// basic.recover-ok
pub const BASIC_RECOVER_OK: MethodId = (60, 111);
/// confirm.select, an extension of RabbitMQ
pub const CONFIRM_SELECT: MethodId = (85, 10);
/// The class of transactions, which are not for us.
pub const CLASS_TX: u16 = 90;

macro_rules! reply_codes {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $code:literal,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u16)]
        pub enum $name { $($(#[$doc])* $variant = $code,)* }

        impl $name {
            /// The code on the wire.
            pub fn code(self) -> u16 {
                self as u16
            }

            /// The reason that `code` names, if it is of this kind.
            pub fn from_code(code: u16) -> Option<$name> {
                match code {
                    $($code => Some($name::$variant),)*
                    _ => None,
                }
            }
        }
    };
}

reply_codes! {
    /// Reasons that end one channel. The connection and its other channels live on.
    ChannelReplyCode {
        /// The content does not fit at this moment.
        ContentTooLarge = 311,
        /// A mandatory message found no queue.
        NoRoute = 312,
        /// An immediate message found no consumer.
        NoConsumers = 313,
        /// The user has no permission for this.
        AccessRefused = 403,
        /// The exchange or queue does not exist.
        NotFound = 404,
        /// Another connection owns the entity.
        ResourceLocked = 405,
        /// The entity exists with other flags, or a delivery tag is unknown.
        PreconditionFailed = 406,
    }
}

reply_codes! {
    /// Reasons that end the connection with all its channels.
    ConnectionReplyCode {
        /// An operator closed the connection.
        ConnectionForced = 320,
        /// The virtual host is unknown.
        InvalidPath = 402,
        /// A frame could not be cut.
        FrameError = 501,
        /// A frame held values that can't be read.
        SyntaxError = 502,
        /// A method came out of turn or is unknown.
        CommandInvalid = 503,
        /// A frame came on a channel that is not open.
        ChannelError = 504,
        /// A frame came that was not expected, such as a body without a header.
        UnexpectedFrame = 505,
        /// The peer lacks resources.
        ResourceError = 506,
        /// What was asked for is forbidden.
        NotAllowed = 530,
        /// What was asked for does not exist in the peer.
        NotImplemented = 540,
        /// The peer failed.
        InternalError = 541,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use amq_protocol::protocol::{AMQPHardError, AMQPSoftError};

    #[test]
    fn reply_codes_are_split_as_the_published_tables_split_them() {
        for code in 0..=u16::MAX {
            assert_eq!(ChannelReplyCode::from_code(code).is_some(), AMQPSoftError::from_id(code).is_some());
            assert_eq!(
                ConnectionReplyCode::from_code(code).is_some(),
                AMQPHardError::from_id(code).is_some()
            );
            assert_eq!(ChannelReplyCode::from_code(code).map_or(code, ChannelReplyCode::code), code);
            assert_eq!(ConnectionReplyCode::from_code(code).map_or(code, ConnectionReplyCode::code), code);
        }
    }
}
