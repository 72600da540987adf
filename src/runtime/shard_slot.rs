//! A shard on its home thread: its socket, its window, what waits for its task while that is away, and the task
//! when it is not.

use std::io::IoSlice;
use std::time::{Duration, Instant};

use crate::base::Buf;
use crate::gateway::Session;
use crate::gateway::shard::{Cause, Input, State, Stats};
use crate::reactor::{Fill, Socket};
use crate::relay::{ShardTask, TaskInput, flow};
use crate::state::Kept;
use crate::stream::transport::Endpoint;

use super::dial::Dial;

/// How much of one shard is read before others have their turn; compressed, so several times that in events.
pub const WINDOW_BYTES: usize = 16 * 1024;

/// How much may wait for a shard's socket. Commands are 4 KiB at most and 120 a minute, so this is reached only
/// by a peer that does not read while it makes the transport answer (pings, say): the link is given up.
const OUTGOING_BYTES_MAX: usize = 1024 * 1024;

/// Where a shard's connection stands.
#[derive(Debug)]
pub enum Link {
    /// There is none.
    Closed,
    /// Resolving or connecting to the endpoint.
    Dialing(Dial, Endpoint),
    /// Connected.
    Open(Socket),
}

/// What is shown of a shard and only its task knows.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Payloads and what became of them.
    pub flow: flow::Stats,
    /// What the machine has counted.
    pub machine: Stats,
    /// The last heartbeat's round trip.
    pub heartbeat_rtt: Option<Duration>,
    /// The session's last seq that arrived.
    pub received: Option<u64>,
    /// Commands that wait.
    pub commands_waiting: usize,
    /// When its state changed; `None` before it ever did.
    pub changed_at: Option<Instant>,
}

/// A shard at home.
pub struct ShardSlot {
    /// The shard's id.
    pub shard_id: u32,
    /// Its cluster's place on this thread.
    pub cluster: usize,
    /// Its task, unless it is in a deque or running.
    pub task: Option<Box<ShardTask>>,
    /// What the task is to be told when it is back.
    pub inputs: Vec<TaskInput>,
    /// The newest progress that the task has not been told: session hash and seq.
    pub confirmed: Option<(u64, u64)>,
    /// The connection.
    pub link: Link,
    /// Counts the connections.
    pub generation: u32,
    /// Bytes read while the task was away or stopped.
    pub window: Option<Buf>,
    /// When they were read.
    pub read_at: Option<Instant>,
    /// The socket will bring no more than what is in the windows.
    pub ended: Option<Cause>,
    /// Whether the slot stands in the list of readable ones.
    pub queued: bool,
    /// The machine's state when the task was last at home.
    pub state: State,
    /// Whether the task can use bytes, as it said when it was last at home.
    pub wants_bytes: bool,
    /// The last event of it that went into the outbox: session hash and seq.
    pub published: Option<(u64, u64)>,
    /// The session as it was when the task was last at home, without how far it is confirmed, and its hash.
    pub session: Option<(u64, Kept)>,
    /// The last event behind that which is not published, because nobody wants it: session hash and seq.
    pub skipped: Option<(u64, u64)>,
    /// How far its events are with the broker or on disk: session hash and seq.
    safe: Option<(u64, u64)>,
    /// How far the broker has confirmed them.
    pub confirmed_up_to: Option<(u64, u64)>,
    /// Whether what outlives the process has to be written.
    pub unkept: bool,
    /// The session that an earlier process left, until the shard is started.
    pub inherited: Option<Kept>,
    /// How often its task panicked.
    pub panics: u32,
    /// Whether it waits for outbox memory.
    pub deferred: bool,
    /// Outbox memory that its task was promised, while it is away.
    pub reserved_bytes: usize,
    /// Why the task gave its last connection up, in words.
    pub last_error: Option<String>,
    /// What is shown of it, as of when the task was last at home.
    pub seen: Seen,
    outgoing: Vec<u8>,
    written: usize,
}

impl ShardSlot {
    /// Remembers the shard's session as it is now, for whoever keeps it.
    ///
    /// One that is lost is kept until there is another: should the process end before, the next one asks for it in vain,
    /// and so learns what workers have not been told of.
    pub fn note_session(&mut self, session: Option<&Session>) {
        let Some(session) = session else { return };
        if self.session.as_ref().is_some_and(|(hash, _)| *hash == session.hash()) {
            return;
        }
        // A session that was taken over is confirmed as far as it was then.
        if let Some(seq) = session.confirmed() {
            let hash = session.hash();
            self.confirmed_up_to = self.confirmed_up_to.filter(|(of, _)| *of == hash).or(Some((hash, seq)));
        }
        let kept = Kept {
            id: session.id().clone(),
            resume_url: session.resume_url().map(str::to_owned),
            shard_count: session.shard_count(),
            seq: session.resume_seq(),
        };
        self.session = Some((session.hash(), kept));
        self.unkept = true;
    }

    /// Takes over the session of an earlier process, whose events up to `kept.seq` are with the broker or on disk.
    pub fn inherit(&mut self, session: u64, kept: Kept) {
        self.published = Some((session, kept.seq));
        self.safe = self.published;
        self.inherited = Some(kept);
    }

    /// Remembers how far its events are safe in this process; the task is told when it runs next.
    pub fn note_safe(&mut self, session: u64, seq: u64) {
        self.safe = Some((session, self.with_skipped(session, seq)));
        self.confirmed = self.safe;
    }

    /// Remembers how far the broker has confirmed its events. With `is_news` the task has not been told before.
    pub fn note_confirmed(&mut self, session: u64, seq: u64, is_news: bool) {
        if is_news {
            self.note_safe(session, seq);
        }
        self.confirmed_up_to = Some((session, self.with_skipped(session, seq)));
        self.unkept = true;
    }

    /// Remembers that events up to `seq` are not to be published. They count as soon as all before them do: else RESUME
    /// would go back ever further for the sake of events that nobody wants.
    pub fn note_skipped(&mut self, session: u64, seq: u64) {
        self.skipped = Some((session, seq));
        let last = self.published.filter(|(of, _)| *of == session).map(|(_, seq)| seq);
        let is_behind_all = |reached: Option<(u64, u64)>| {
            last.is_none_or(|last| reached.is_some_and(|(of, seq)| of == session && seq >= last))
        };
        if is_behind_all(self.safe) {
            self.safe = Some((session, seq));
            self.confirmed = self.safe;
        }
        if is_behind_all(self.confirmed_up_to) {
            self.confirmed_up_to = Some((session, seq));
            self.unkept = true;
        }
    }

    /// `seq`, or the last event behind it that is not published if all before that one are.
    fn with_skipped(&self, session: u64, seq: u64) -> u64 {
        match self.skipped {
            Some((of, skipped)) if of == session && self.published == Some((session, seq)) => {
                seq.max(skipped)
            }
            _ => seq,
        }
    }

    /// Remembers what is shown of the shard, from its task, which is at home. Returns a heartbeat's round trip that is new.
    pub fn note_seen(&mut self, now: Instant, task: &ShardTask) -> Option<Duration> {
        let (shard, seen) = (&task.shard, &mut self.seen);
        if self.state != shard.state() || seen.changed_at.is_none() {
            seen.changed_at = Some(now);
        }
        seen.flow = task.stats;
        seen.machine.clone_from(shard.stats());
        seen.received = shard.session().map(Session::received);
        seen.commands_waiting = shard.commands_waiting();
        // The time of two turns, in nanoseconds: no two heartbeats have the same.
        let is_new = shard.latency().is_some() && shard.latency() != seen.heartbeat_rtt;
        seen.heartbeat_rtt = shard.latency();
        seen.heartbeat_rtt.filter(|_| is_new)
    }

    /// The session as a later process may resume it: from what the broker has. Seq 0 while nothing of it is confirmed:
    /// such a one cannot be resumed, as READY would be lost, but it can be told of.
    pub fn kept(&self) -> Option<Kept> {
        let (hash, kept) = self.session.as_ref()?;
        let seq = self.confirmed_up_to.filter(|(session, _)| session == hash).map_or(0, |(_, seq)| seq);
        Some(Kept { seq, ..kept.clone() })
    }

    /// A slot with its task at home.
    pub fn new(shard_id: u32, cluster: usize, task: Box<ShardTask>) -> ShardSlot {
        let state = task.shard.state();
        ShardSlot {
            shard_id,
            cluster,
            task: Some(task),
            inputs: Vec::new(),
            confirmed: None,
            link: Link::Closed,
            generation: 0,
            window: None,
            read_at: None,
            ended: None,
            queued: false,
            state,
            wants_bytes: false,
            published: None,
            session: None,
            skipped: None,
            safe: None,
            confirmed_up_to: None,
            unkept: false,
            inherited: None,
            panics: 0,
            deferred: false,
            reserved_bytes: 0,
            last_error: None,
            seen: Seen::default(),
            outgoing: Vec::new(),
            written: 0,
        }
    }

    /// Whether reading the socket now would bring the shard on.
    pub fn is_readable(&self) -> bool {
        match &self.link {
            Link::Open(socket) => {
                socket.is_readable() && self.wants_bytes && self.window.is_none() && self.ended.is_none()
            }
            _ => false,
        }
    }

    /// Reads into `window` until it is full or the socket is empty.
    pub fn fill(&mut self, now: Instant, mut window: Buf) {
        self.read_at = Some(now);
        if let Link::Open(socket) = &mut self.link {
            while socket.is_readable() && !window.spare().is_empty() {
                match socket.fill(window.spare()) {
                    Ok(Fill::Bytes(count)) => window.commit(count),
                    Ok(Fill::Blocked) => break,
                    Ok(Fill::Ended) => {
                        self.ended = Some(Cause::Ended);
                        break;
                    }
                    Err(error) => {
                        self.ended = Some(Cause::Io(error.kind()));
                        break;
                    }
                }
            }
        }
        self.window = Some(window);
    }

    /// Moves what waits into the task, which is at home. Returns whether there is anything for it to do.
    pub fn load(&mut self, now: Instant) -> bool {
        let Some(task) = &mut self.task else { return false };
        if let Some((session, seq)) = self.confirmed.take() {
            // Told first: a RESUME in the same run has to ask from here.
            task.inputs.push(TaskInput::Shard(Input::Confirmed { session, seq }));
        }
        task.inputs.append(&mut self.inputs);
        if task.window.is_empty()
            && let Some(window) = self.window.take()
        {
            task.window = window;
            task.received_at = self.read_at;
        }
        if self.window.is_none()
            && let Some(cause) = self.ended.take()
        {
            task.ended = Some(cause);
        }
        let usable = task.more || !task.window.is_empty();
        !task.inputs.is_empty()
            || (usable && task.wants_bytes())
            || task.ended.is_some() && !usable
            || task.shard.poll_timeout().is_some_and(|at| at <= now)
    }

    /// Takes bytes for the socket from the task. False when more waits than a living peer would leave unread.
    pub fn queue_outgoing(&mut self, bytes: &mut Vec<u8>) -> bool {
        if bytes.is_empty() {
            return true;
        }
        if !matches!(self.link, Link::Open(_)) {
            // The connection that these were for is gone.
            bytes.clear();
            return true;
        }
        if self.outgoing.len() == self.written {
            self.outgoing.clear();
            self.written = 0;
            std::mem::swap(&mut self.outgoing, bytes);
        } else {
            self.outgoing.append(bytes);
        }
        self.outgoing.len() - self.written <= OUTGOING_BYTES_MAX
    }

    /// Whether bytes wait for the socket.
    pub fn has_outgoing(&self) -> bool {
        self.written < self.outgoing.len()
    }

    /// Writes what waits, as far as the socket takes it.
    pub fn flush(&mut self) {
        let Link::Open(socket) = &mut self.link else { return };
        while self.written < self.outgoing.len() && socket.is_writable() {
            match socket.write(&[IoSlice::new(&self.outgoing[self.written..])]) {
                Ok(count) => self.written += count,
                // Nothing more can be said. What the peer said before, a close code perhaps, is still to be read,
                // and the read side is what tells of the end.
                Err(_) => self.written = self.outgoing.len(),
            }
        }
        if self.written == self.outgoing.len() {
            // IDENTIFY and RESUME carry the token.
            self.outgoing.fill(0);
            self.outgoing.clear();
            self.written = 0;
        }
    }

    /// Closes the connection after a last try to write what waits.
    pub fn drop_link(&mut self, registry: &mio::Registry) {
        self.flush();
        if let Link::Open(socket) = &mut self.link {
            socket.deregister(registry);
        }
        self.link = Link::Closed;
        self.generation = super::key::next_generation(self.generation);
        self.window = None;
        self.ended = None;
        self.wants_bytes = false;
        // What was waiting to be told about the old connection says nothing of the next.
        self.inputs.retain(|input| {
            !matches!(input, TaskInput::Connected(_) | TaskInput::Shard(Input::LinkLost { .. }))
        });
        self.outgoing = Vec::new();
        self.written = 0;
    }
}
