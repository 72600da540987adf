//! What the owner of a broker decides, and every limit with its default, its reason and its one answer.

use std::time::Duration;

use crate::base::Secret;

/// A user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Who.
    pub name: String,
    /// What proves it.
    pub password: Secret,
}

impl User {
    /// guest with the password guest, who may only come from this machine, as with RabbitMQ.
    pub fn guest() -> User {
        User { name: "guest".to_owned(), password: Secret::new("guest") }
    }

    /// Whether everybody knows the password.
    pub(super) fn is_default(&self) -> bool {
        self.name == "guest" && self.password.expose() == "guest"
    }
}

/// What a broker needs to know.
#[derive(Clone, Debug)]
pub struct Options {
    /// Who may connect.
    pub users: Vec<User>,
    /// What messages may take, in bytes, held once however many queues they are in. Above it publishers are not read
    /// and are told so; consumers are served. 256 MiB: a quarter of the smallest machine that people rent.
    pub memory_bytes: usize,
    /// Connections at a time; a further one is closed at once. 1,024: the usual limit of open files.
    pub connections_max: usize,
    /// Channels of a connection; more are refused with 530. RabbitMQ's number.
    pub channel_max: u16,
    /// Queues; one more is refused with 406.
    pub queues_max: usize,
    /// Exchanges; one more is refused with 406.
    pub exchanges_max: usize,
    /// Bindings of all exchanges; one more is refused with 406.
    pub bindings_max: usize,
    /// Consumers of all connections; one more is refused with 530.
    pub consumers_max: usize,
    /// The body of a message; a longer one is refused with 406. 64 MiB: twice what the gateway takes from Discord
    /// unless told otherwise.
    pub message_bytes_max: u64,
    /// What may wait for a client's socket before its consumers get nothing more and its own methods wait. A message
    /// may go beyond it. 256 KiB: above what a socket takes at once, and times `connections_max` still a quarter GiB.
    pub outgoing_bytes_max: usize,
    /// Deliveries of a channel that wait for an acknowledgement; at this number the channel gets no more. A little
    /// above what the smallest messages come to in `memory_bytes`.
    pub unacked_max: usize,
    /// Unfinished messages of a connection, in bytes; beyond it the connection ends with 506.
    pub content_bytes_max: usize,
    /// From the connection to connection.open; RabbitMQ's number. Then it is dropped.
    pub handshake_timeout: Duration,
    /// What is proposed. The client's answer counts.
    pub heartbeat_s: u16,
    /// The largest frame, head and end included; a larger one ends the connection with 501.
    pub frame_max: u32,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            users: vec![User::guest()],
            memory_bytes: 256 << 20,
            connections_max: 1024,
            channel_max: 2047,
            queues_max: 16_384,
            exchanges_max: 4096,
            bindings_max: 65_536,
            consumers_max: 65_536,
            message_bytes_max: 64 << 20,
            outgoing_bytes_max: 256 << 10,
            unacked_max: 2 << 20,
            content_bytes_max: 128 << 20,
            handshake_timeout: Duration::from_secs(10),
            heartbeat_s: 60,
            frame_max: 131_072,
        }
    }
}

/// How long a close waits for its close-ok, and how long the last words have to leave.
pub(super) const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a client may leave its socket unread before it is dropped, when its heartbeat does not say. Longer than a
/// garbage collection or a debugger's stop.
pub(super) const STALL_TIMEOUT: Duration = Duration::from_secs(120);
/// A connection that consumes may publish until this much more than the ceiling is taken: its acknowledgements come
/// on the same socket, and without them nothing would ever become free. In parts of the ceiling.
pub(super) const CONSUMER_ALLOWANCE: usize = 8;
/// Publishers are read again below this many tenths of the ceiling, so that blocking does not flicker.
pub(super) const UNBLOCK_TENTHS: usize = 9;
/// Units of work, frames and copies into queues, that one call does for a connection before others have their turn.
pub(super) const WORK_PER_RECEIVE: usize = 8192;
/// Deliveries of a queue before the next queue has its turn.
pub(super) const DELIVERIES_PER_TURN: usize = 1024;
/// What a connection's buffer keeps once it is empty.
pub(super) const OUTGOING_BYTES_KEPT: usize = 64 << 10;
/// Routes remembered for an exchange; beyond it they are forgotten and looked up anew.
pub(super) const ROUTES_MAX: usize = 4096;
/// Notices that wait for somebody to log them; further ones are counted.
pub(super) const NOTICES_MAX: usize = 64;
