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
    /// Channels of all connections; more are refused with 530. Each takes about a KiB.
    pub channels_max: usize,
    /// Queues; one more is refused with 406.
    pub queues_max: usize,
    /// Exchanges; one more is refused with 406.
    pub exchanges_max: usize,
    /// Bindings of all exchanges; one more is refused with 406.
    pub bindings_max: usize,
    /// What all bindings weigh: octets of keys and arguments, and more for a pattern with several `#`. It bounds their
    /// memory and what one message can cost; one more is refused with 406. 16 MiB: 65,536 bindings with some 200 octets
    /// each, or 20,000 of the form `#.word.#`.
    pub bindings_weight_max: usize,
    /// Consumers of all connections; one more is refused with 530.
    pub consumers_max: usize,
    /// The body of a message; a longer one is refused with 406. 64 MiB: twice what the gateway takes from Discord
    /// unless told otherwise.
    pub message_bytes_max: u64,
    /// What may wait for a client's socket before its consumers get nothing more and its own methods wait. 256 KiB:
    /// above what a socket takes at once. With many connections each has less, so that all of them come to a quarter
    /// of `memory_bytes` (and 32 KiB each). A message may go beyond it; a body over 128 KiB stays where it is and is
    /// framed as the socket takes it.
    pub outgoing_bytes_max: usize,
    /// Deliveries of a channel that wait for an acknowledgement; at this number the channel gets no more. A little
    /// above what the smallest messages come to in `memory_bytes`.
    pub unacked_max: usize,
    /// Unfinished messages of a connection, in bytes; beyond it the connection ends with 506.
    pub content_bytes_max: usize,
    /// Unfinished messages of all connections, in bytes, beyond the first 64 KiB of each: further publishers are not
    /// read until one is finished or given up. It is never less than `message_bytes_max`, so that each message can come
    /// to its end.
    pub unfinished_bytes_max: usize,
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
            channels_max: 65_536,
            queues_max: 16_384,
            exchanges_max: 4096,
            bindings_max: 65_536,
            bindings_weight_max: 16 << 20,
            consumers_max: 65_536,
            message_bytes_max: 64 << 20,
            outgoing_bytes_max: 256 << 10,
            unacked_max: 2 << 20,
            content_bytes_max: 128 << 20,
            unfinished_bytes_max: 64 << 20,
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
/// While memory is short, connections that consume may publish so much more: their acknowledgements come on the same
/// socket, and without them nothing would ever become free. In parts of the ceiling, for all together; each has an equal
/// share, or one of them that floods would leave the others nothing to get to their acknowledgements with.
pub(super) const CONSUMER_ALLOWANCE: usize = 8;
/// No share is less: some requests of workers.
pub(super) const ALLOWANCE_BYTES_LEAST: usize = 4096;
/// How many octets of a connection's unfinished messages are let in unasked.
pub(super) const UNFINISHED_BYTES_FREE: usize = 64 << 10;
/// While publishers wait for the room of unfinished messages, those who have it must send `UNFINISHED_BYTES_LEAST` in
/// each of these periods, or end with 506: 6.4 KB/s.
pub(super) const UNFINISHED_PERIOD: Duration = Duration::from_secs(10);
/// See `UNFINISHED_PERIOD`.
pub(super) const UNFINISHED_BYTES_LEAST: u64 = 64 << 10;
/// Deaths that a message remembers; with one more it is dropped. They are part of what is sent.
pub(super) const DEATHS_MAX: usize = 64;
/// Publishers are read again below this many tenths of the ceiling, so that blocking does not flicker.
pub(super) const UNBLOCK_TENTHS: usize = 9;
/// Units of work, frames and copies into queues, that one call does for a connection before others have their turn.
pub(super) const WORK_PER_RECEIVE: usize = 8192;
/// Units of work that all connections together cost a turn; the others have the next one.
pub(super) const WORK_PER_TURN: usize = 8 * WORK_PER_RECEIVE;
/// How much of bindings' weight is a unit of work.
pub(super) const WEIGHT_PER_UNIT: usize = 256;
/// Deliveries of a queue before the next queue has its turn.
pub(super) const DELIVERIES_PER_TURN: usize = 1024;
/// What may wait for a client's socket however many there are.
pub(super) const OUTGOING_BYTES_LEAST: usize = 32 << 10;
/// Deliveries of all queues before clients are written to and read again: some 30 ms.
pub(super) const DELIVERIES_OF_ALL_PER_TURN: u64 = 65_536;
/// What a connection's buffer keeps once it is empty.
pub(super) const OUTGOING_BYTES_KEPT: usize = 64 << 10;
/// Routes remembered for an exchange; beyond it they are forgotten and looked up anew.
pub(super) const ROUTES_MAX: usize = 4096;
/// What the remembered routes of all exchanges take; beyond it they are forgotten.
pub(super) const ROUTES_BYTES_MAX: usize = 8 << 20;
/// Notices that wait for somebody to log them; further ones are counted.
pub(super) const NOTICES_MAX: usize = 64;
