//! A shard as a task: what enters its socket's window leaves as framed publishes, and what its machine wants
//! done leaves as effects for the home thread.
//!
//! ```text
//! window -> transport (TLS, WebSocket, inflate) -> flow (envelope, shard, publish) -> batch
//!                                                        \--> cache
//! inputs -> shard -> effects; commands -> transport -> outgoing
//! ```
//!
//! Exactly one thread has the task. It does CPU work only; sockets, timers and the outbox stay at home.

use std::sync::Arc;
use std::time::Instant;

use crate::base::Buf;
use crate::cache::{self, Cache, Position};
use crate::gateway::shard::{Cause, Input, Output, SessionLost, Shard, State};
use crate::reactor::{Task, Turn};
use crate::stream::transport::{self, Endpoint, Incoming, Transport};
use crate::stream::{self, ErrorKind};

use super::flow::{self, FlowScratch, Framing};
use super::gap::Gap;
use super::outbox::{BATCH_BYTES_MAX, Batch};

/// How many payloads a run takes at most, for shards whose payloads publish nothing.
pub const PAYLOADS_BUDGET: u32 = 1024;

/// What the home thread tells a task.
#[derive(Debug)]
pub enum TaskInput {
    /// For the shard's machine.
    Shard(Input),
    /// TCP is connected to this endpoint.
    Connected(Endpoint),
}

/// What a shard's task shares with all others of its cluster.
pub struct TaskOptions {
    /// How connections are made.
    pub transport: transport::Options,
    /// Where events go after the broker's buffer, unless nothing is cached.
    pub cache: Option<Arc<Cache>>,
}

/// A shard with its connection.
pub struct ShardTask {
    /// The thread that has the socket.
    pub home: usize,
    /// The shard's place on that thread.
    pub slot: usize,
    /// The machine.
    pub shard: Shard,
    /// How its publishes are framed.
    pub framing: Framing,
    /// Whether the outbox takes more: if not, nothing is read that may publish.
    pub may_publish: bool,
    /// How much a run may append to its batch before it ends; a message that was begun is finished.
    pub batch_bytes_max: usize,
    /// What the home wants told, in order.
    pub inputs: Vec<TaskInput>,
    /// Bytes from the socket.
    pub window: Buf,
    /// When they were read.
    pub received_at: Option<Instant>,
    /// Set when the socket will bring no more bytes than those in the window.
    pub ended: Option<Cause>,
    /// Out: framed publishes.
    pub batch: Batch,
    /// Out: bytes for the socket.
    pub outgoing: Vec<u8>,
    /// Out: what the machine wants done, in order.
    pub effects: Vec<Output>,
    /// Out: the budget ended before the input did.
    pub more: bool,
    /// What has happened to payloads.
    pub stats: flow::Stats,
    /// Why the last connection was given up, in words for the log.
    pub last_error: Option<String>,
    options: Arc<TaskOptions>,
    transport: Option<Transport>,
    encoded: Vec<u8>,
    /// The time of the run.
    turn: Turn,
    /// Events of an earlier session that are lost, until workers are told.
    gap: Option<Gap>,
    /// The shard's place in the cache.
    partition: Option<usize>,
}

/// Buffers that a thread lends to each task.
#[derive(Default)]
pub struct Scratch {
    stream: transport::Scratch,
    flow: FlowScratch,
    cache: cache::Scratch,
}

impl ShardTask {
    /// A task that is not connected.
    pub fn new(
        home: usize,
        slot: usize,
        shard: Shard,
        framing: Framing,
        options: Arc<TaskOptions>,
        turn: Turn,
    ) -> ShardTask {
        let partition = options.cache.as_ref().and_then(|cache| cache.partition_of(shard.shard_id()));
        ShardTask {
            home,
            slot,
            shard,
            framing,
            may_publish: true,
            batch_bytes_max: BATCH_BYTES_MAX,
            inputs: Vec::new(),
            window: Buf::default(),
            received_at: None,
            ended: None,
            batch: Batch::default(),
            outgoing: Vec::new(),
            effects: Vec::new(),
            more: false,
            stats: flow::Stats::default(),
            last_error: None,
            options,
            transport: None,
            encoded: Vec::new(),
            turn,
            gap: None,
            partition,
        }
    }

    /// Whether bytes from the socket can be used now. Until a session is asked for nothing can be published, so
    /// a full outbox does not stand in the way of a shard that has to resume before Discord forgets it.
    pub fn wants_bytes(&self) -> bool {
        self.transport.is_some() && (self.may_publish || !self.shard.state().brings_events())
    }

    fn tell(&mut self, turn: Turn, input: Input) {
        self.shard.handle_input(turn.now, input);
        self.drain();
    }

    /// Passes on what the machine wants: bytes to the transport, the rest to the home thread.
    fn drain(&mut self) {
        while let Some(output) = self.shard.poll_output() {
            match output {
                Output::Send(command) => {
                    self.encoded.clear();
                    self.shard.encode(&command, &mut self.encoded);
                    if let Some(transport) = &mut self.transport
                        && let Err(error) = transport.send_text(&self.encoded)
                    {
                        self.last_error = Some(error.to_string());
                        self.ended = Some(Cause::Stream);
                    }
                    // A hundred commands may go out in one run; the transport holds a few dozen.
                    self.collect_outgoing();
                    // Identify and Resume carry the token: it must not stay in a buffer for longer than needed.
                    self.encoded.fill(0);
                }
                Output::Close { code } => {
                    if let Some(transport) = &mut self.transport {
                        transport.close(code);
                    }
                }
                Output::DropLink => {
                    // What the transport still has to say (a close frame, say) goes out before the socket closes.
                    self.collect_outgoing();
                    self.transport = None;
                    self.ended = None;
                    self.window.reset(0);
                    self.more = false;
                    self.effects.push(Output::DropLink);
                }
                Output::SessionLost(lost) => {
                    self.begin_gap(&lost);
                    self.effects.push(Output::SessionLost(lost));
                }
                Output::Fatal(_) | Output::Stopped => {
                    // No READY will end it.
                    self.publish_gap();
                    self.effects.push(output);
                }
                other => self.effects.push(other),
            }
        }
    }

    /// The gap that workers have not been told of, for a task that takes this one's place.
    pub fn take_gap(&mut self) -> Option<Gap> {
        self.gap.take()
    }

    /// Takes a gap over, to be told behind the next READY.
    pub fn put_gap(&mut self, gap: Option<Gap>) {
        self.gap = gap;
    }

    /// Remembers that events are being lost. Of several sessions in a row the first tells where it began.
    fn begin_gap(&mut self, lost: &SessionLost) {
        if self.gap.is_none() {
            let ago = self.turn.now.saturating_duration_since(lost.since).as_millis();
            self.gap = Some(Gap {
                session_hash: lost.session_hash,
                last_seq: lost.received,
                from_ms: self.turn.wall_ms.saturating_sub(u64::try_from(ago).unwrap_or(u64::MAX)),
                reason: lost.reason.to_string(),
            });
        }
    }

    fn publish_gap(&mut self) {
        if let Some(gap) = self.gap.take()
            && let Err(error) =
                gap.publish(self.shard.shard_id(), self.turn.wall_ms, &self.framing, &mut self.batch)
        {
            self.last_error = Some(error.to_string());
        }
    }

    fn collect_outgoing(&mut self) {
        if let Some(transport) = &mut self.transport {
            transport.transmit(&mut self.outgoing);
        }
    }

    fn connect(&mut self, turn: Turn, endpoint: &Endpoint) {
        if self.shard.state() != State::Connecting {
            // The machine gave this connection up while it was being made.
            return;
        }
        self.window.reset(0);
        match Transport::new(&self.options.transport, endpoint) {
            Ok(transport) => {
                self.transport = Some(transport);
                self.ended = None;
            }
            Err(error) => self.fail(turn, Cause::Stream, error.to_string()),
        }
    }

    fn fail(&mut self, turn: Turn, cause: Cause, error: String) {
        self.last_error = Some(error);
        self.tell(turn, Input::LinkLost { cause });
    }

    /// Takes payloads out of the window until it is empty or the budget is spent.
    fn pump(&mut self, turn: Turn, scratch: &mut Scratch) {
        if !self.wants_bytes() {
            return;
        }
        self.more = false;
        let mut payloads = 0;
        while self.wants_bytes() {
            if payloads == PAYLOADS_BUDGET || self.batch.bytes.len() >= self.batch_bytes_max {
                self.more = true;
                return;
            }
            // `wants_bytes` says that there is one; written so that no unwrap is needed.
            let Some(transport) = &mut self.transport else { return };
            match transport.next(&mut self.window, &mut scratch.stream) {
                Ok(None) => return,
                Ok(Some(Incoming::Opened)) => self.tell(turn, Input::Opened),
                Ok(Some(Incoming::Payload(payload))) => {
                    payloads += 1;
                    let accepted = flow::accept(
                        payload,
                        &mut self.shard,
                        turn.now,
                        turn.wall_ms,
                        &self.framing,
                        &mut scratch.flow,
                        &mut self.batch,
                        &mut self.stats,
                    );
                    match accepted {
                        Ok(accepted) => {
                            if let (Some(event), Some(cache)) = (accepted, &self.options.cache)
                                && let Some(partition) = self.partition
                            {
                                let position = Position { session: event.session_hash, seq: event.seq };
                                let applied = cache.apply_at(
                                    partition,
                                    position,
                                    event.name,
                                    event.d,
                                    &mut scratch.cache,
                                );
                                if applied == cache::Applied::Broken {
                                    log::error!(
                                        shard = self.shard.shard_id();
                                        "a bug in rateway broke what the cache holds of this shard; it is forgotten \
                                         and comes back with the shard's next session"
                                    );
                                }
                            }
                            self.drain();
                            if self.gap.is_some() && self.shard.state() == State::Active {
                                self.publish_gap();
                            }
                        }
                        Err(error) => return self.fail(turn, error.cause(), error.to_string()),
                    }
                }
                Ok(Some(Incoming::Closed { code, .. })) => self.tell(turn, Input::PeerClosed { code }),
                Err(error) => return self.fail(turn, cause_of(&error), error.to_string()),
            }
        }
    }
}

/// What a broken stream means to the shard.
fn cause_of(error: &stream::Error) -> Cause {
    match error.kind() {
        ErrorKind::Refused => Cause::ConnectFailed,
        ErrorKind::Ended => Cause::Ended,
        ErrorKind::Tls | ErrorKind::Protocol | ErrorKind::Limit | ErrorKind::Decode | ErrorKind::Misuse => {
            Cause::Stream
        }
    }
}

impl Task for ShardTask {
    type Scratch = Scratch;

    fn run(&mut self, turn: Turn, scratch: &mut Scratch) {
        self.turn = turn;
        let mut inputs = std::mem::take(&mut self.inputs);
        for input in inputs.drain(..) {
            match input {
                TaskInput::Shard(input) => self.tell(turn, input),
                TaskInput::Connected(endpoint) => self.connect(turn, &endpoint),
            }
        }
        self.inputs = inputs;
        if self.shard.poll_timeout().is_some_and(|at| at <= turn.now) {
            self.shard.handle_deadline(turn.now);
            self.drain();
        }
        self.pump(turn, scratch);
        // The end of a socket counts once everything before it has been read. While publishing is stopped that
        // may be later: what was received waits in the window, and the shard goes on to resume afterwards.
        let unread = self.more || (!self.window.is_empty() && self.transport.is_some());
        if !unread && let Some(cause) = self.ended.take() {
            self.tell(turn, Input::LinkLost { cause });
        }
        self.collect_outgoing();
    }

    fn home(&self) -> usize {
        self.home
    }
}
