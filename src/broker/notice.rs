//! What the owner of a broker may want to log, and what is counted.

/// Something that happened. Names in here came from clients and are on one line; no password is ever part of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A client logged in.
    Opened {
        /// As whom.
        user: String,
    },
    /// A client gave a wrong name or password.
    LoginRefused {
        /// As whom it wanted to log in.
        user: String,
        /// The password was right, but it is the one that everybody knows and the client is on another machine.
        not_from_here: bool,
    },
    /// A client's channel was closed.
    ChannelFault(String),
    /// A client's connection was closed.
    ConnectionFault(String),
    /// A client did not finish its handshake.
    SlowHandshake,
    /// A client sent nothing for two heartbeats.
    Silent,
    /// A client did not read what it was sent.
    Stalled,
    /// Messages take more than they may: publishers wait.
    MemoryShort {
        /// What they take.
        bytes: usize,
        /// What they may take.
        bytes_max: usize,
    },
    /// Publishers go on.
    MemoryFree,
    /// A queue was declared with something that has no effect here.
    NoEffect {
        /// The queue.
        queue: String,
        /// What, and what it is instead.
        what: &'static str,
    },
    /// A limit was met for the first time, or as often as a power of two.
    Limit {
        /// Which.
        what: Limit,
        /// How often.
        count: u64,
    },
}

/// What there may be only so much of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Connections at a time.
    Connections,
    /// Channels of all connections, or of one.
    Channels,
    /// Queues.
    Queues,
    /// Exchanges.
    Exchanges,
    /// Bindings, or what they weigh.
    Bindings,
    /// Consumers.
    Consumers,
    /// The body of a message.
    MessageBytes,
    /// Unfinished messages of a connection, and time for them.
    Unfinished,
    /// Memory, for dead letters that became more on their way, and deaths of a message.
    DeadLetters,
}

impl Limit {
    /// All of them.
    pub const ALL: [Limit; 9] = [
        Limit::Connections,
        Limit::Channels,
        Limit::Queues,
        Limit::Exchanges,
        Limit::Bindings,
        Limit::Consumers,
        Limit::MessageBytes,
        Limit::Unfinished,
        Limit::DeadLetters,
    ];

    /// One word, or two, for logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Limit::Connections => "connections",
            Limit::Channels => "channels",
            Limit::Queues => "queues",
            Limit::Exchanges => "exchanges",
            Limit::Bindings => "bindings",
            Limit::Consumers => "consumers",
            Limit::MessageBytes => "message_bytes",
            Limit::Unfinished => "unfinished_messages",
            Limit::DeadLetters => "dead_letters",
        }
    }
}

/// What a broker has counted since its start, and how much there is now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Connections now.
    pub connections: usize,
    /// Channels now.
    pub channels: usize,
    /// Queues now.
    pub queues: usize,
    /// Consumers now.
    pub consumers: usize,
    /// Exchanges now, pre-declared ones included.
    pub exchanges: usize,
    /// Bindings now.
    pub bindings: usize,
    /// Messages now.
    pub messages: usize,
    /// Places of messages in queues now; a message may have several.
    pub ready: usize,
    /// Deliveries that wait for an acknowledgement now.
    pub unacked: usize,
    /// What the messages take, which is what `memory_bytes` is about.
    pub message_bytes: usize,
    /// What unfinished messages may come to at once: the large ones that were let in.
    pub unfinished_bytes: usize,
    /// Whether publishers wait for memory.
    pub is_blocking: bool,
    /// Clients that logged in.
    pub logins: u64,
    /// Logins refused.
    pub refused_logins: u64,
    /// Connections closed at once, since there were as many as may be.
    pub refused_connections: u64,
    /// Connections dropped in the middle of their handshake.
    pub slow_handshakes: u64,
    /// Connections dropped for their silence or for not reading.
    pub lost: u64,
    /// Channels closed for a fault.
    pub channel_faults: u64,
    /// Connections closed for a fault.
    pub connection_faults: u64,
    /// Messages published.
    pub published: u64,
    /// Messages confirmed to their publishers.
    pub confirmed: u64,
    /// Messages that no queue took.
    pub unrouted: u64,
    /// Messages given back to their publishers.
    pub returned: u64,
    /// Messages refused by a full queue, and their publishers told so.
    pub rejected: u64,
    /// Deliveries, gets included.
    pub delivered: u64,
    /// Deliveries that were not the first of their message.
    pub redelivered: u64,
    /// Deliveries acknowledged, or sent without the wish for it.
    pub acknowledged: u64,
    /// Messages dropped from the head of a queue that had its limit.
    pub overflowed: u64,
    /// Messages dropped for their age.
    pub expired: u64,
    /// Messages dropped at the wish of a consumer.
    pub discarded: u64,
    /// Messages sent on to a dead letter exchange; part of the three above.
    pub dead_lettered: u64,
    /// Times that memory ran short.
    pub blocked: u64,
    /// How often each limit was met, in the order of [`Limit::ALL`].
    pub limits: [u64; Limit::ALL.len()],
    /// Notices that nobody took in time.
    pub lost_notices: u64,
}

impl Stats {
    /// How often a limit was met.
    pub fn met(&self, limit: Limit) -> u64 {
        self.limits.get(limit as usize).copied().unwrap_or_default()
    }
}
