//! The machine: bytes of clients in, bytes for clients out.
//!
//! The owner's part, each turn: hand in what was read ([`Broker::receive`]) and the deadline, when it has passed; then
//! [`Broker::finish_turn`]; then write what [`Broker::poll_output`] names and tell how much was taken
//! ([`Broker::advance`]); then go back to those that [`Broker::poll_resumed`] names. Deliveries and confirms of a turn
//! are gathered, so a turn costs a client one write however much happened in it.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Instant;

use super::channel::{Consumer, Unacked};
use super::connection::{Connection, Hold, Phase};
use super::dead_letter::DeadLetter;
use super::exchanges::Exchanges;
use super::fault::Fault;
use super::message::Store;
use super::names::{Names, SeededState};
use super::notice::{Limit, Notice, Stats};
use super::options::{
    ALLOWANCE_BYTES_LEAST, CONSUMER_ALLOWANCE, DELIVERIES_OF_ALL_PER_TURN, NOTICES_MAX, OUTGOING_BYTES_LEAST,
    Options, UNBLOCK_TENTHS, WORK_PER_RECEIVE, WORK_PER_TURN,
};
use super::queue::Queue;
use super::room::Room;
use super::slots::{Key, Slots};
use super::write::{self, Method};
use crate::amqp::frame::{self, Cut};
use crate::amqp::spec::{self, PROTOCOL_HEADER};
use crate::base::{Buf, Rng, Timers};

/// Names a connection.
pub type ConnectionId = Key;

/// What a connection's bytes wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// More of them.
    Bytes,
    /// Others to have their turn: hand in the same window again, in the next turn.
    Turn,
    /// [`Broker::poll_resumed`] naming the connection: until then it is not read.
    Resumed,
}

/// What to do with a connection once it was written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Keep it.
    Open,
    /// Close it when all is written.
    Ending,
    /// Close it.
    Gone,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum TimerKey {
    Connection(Key),
    Queue(Key),
    Room,
}

/// What became of a frame.
pub(super) enum Taken {
    /// It is done, and cost so much.
    Yes(usize),
    /// It waits, for this.
    Held(Hold),
}

/// A broker with one virtual host, `/`.
#[derive(Debug)]
pub struct Broker {
    pub(super) options: Options,
    pub(super) connections: Slots<Connection>,
    pub(super) consumers: Slots<Consumer>,
    pub(super) exchanges: Exchanges,
    pub(super) queues: Slots<Queue>,
    pub(super) queue_names: Names,
    pub(super) store: Store,
    timers: Timers<TimerKey>,
    /// Queues with messages for consumers that may have room.
    pub(super) due_queues: VecDeque<Key>,
    /// Messages on their way to a dead letter exchange.
    pub(super) dead_letters: VecDeque<DeadLetter>,
    /// Channels with confirms to tell.
    pub(super) confirming: Vec<(ConnectionId, u16)>,
    outputs: VecDeque<ConnectionId>,
    resumed: VecDeque<ConnectionId>,
    notices: VecDeque<Notice>,
    /// Channels of all connections.
    pub(super) channels: usize,
    /// What may wait for a client's socket now, see `Options::outgoing_bytes_max`.
    pub(super) outgoing_max: usize,
    pub(super) room: Room,
    /// Units of work since the last turn ended.
    pub(super) turn_work: usize,
    is_short: bool,
    /// What connections that consume have published since memory is short.
    allowance_taken: usize,
    is_stopping: bool,
    pub(super) stats: Stats,
    pub(super) rng: Rng,
    pub(super) state: SeededState,
    started: Instant,
    started_wall_s: u64,
    /// Room for routes and acknowledgements, kept from one use to the next.
    pub(super) routed: Vec<Key>,
    pub(super) settled: Vec<Unacked>,
}

impl Broker {
    /// A broker without clients. `seed` decides over names that it makes up and must not be guessable; `wall_s` is the
    /// time in seconds since 1970, for the times in x-death.
    pub fn new(options: Options, seed: u64, now: Instant, wall_s: u64) -> Broker {
        let mut rng = Rng::new(seed);
        let state = SeededState::new(rng.next_u64());
        Broker {
            connections: Slots::default(),
            consumers: Slots::default(),
            exchanges: Exchanges::new(&state),
            queues: Slots::default(),
            queue_names: Names::new(state.clone()),
            store: Store::default(),
            timers: Timers::default(),
            due_queues: VecDeque::new(),
            dead_letters: VecDeque::new(),
            confirming: Vec::new(),
            outputs: VecDeque::new(),
            resumed: VecDeque::new(),
            notices: VecDeque::new(),
            channels: 0,
            outgoing_max: options.outgoing_bytes_max,
            room: Room::default(),
            turn_work: 0,
            is_short: false,
            allowance_taken: 0,
            is_stopping: false,
            stats: Stats::default(),
            rng,
            state,
            started: now,
            started_wall_s: wall_s,
            routed: Vec::new(),
            settled: Vec::new(),
            options,
        }
    }

    /// A client has connected. `None`: there are as many as may be, or the broker is stopping; close it.
    pub fn connect(&mut self, now: Instant, peer: SocketAddr) -> Option<ConnectionId> {
        if self.is_stopping || self.connections.len() >= self.options.connections_max {
            self.stats.refused_connections += 1;
            self.meet(Limit::Connections);
            return None;
        }
        let Options { frame_max, handshake_timeout, .. } = self.options;
        let is_loopback = peer.ip().to_canonical().is_loopback();
        let connection = Connection::new(now, is_loopback, frame_max, handshake_timeout);
        let timeout = connection.poll_timeout();
        let id = self.connections.insert(connection);
        self.set_connection_timer(id, timeout);
        self.share_output();
        Some(id)
    }

    /// Takes a client's bytes, as far as they hold whole frames and there is time for them.
    pub fn receive(&mut self, now: Instant, id: ConnectionId, window: &mut Buf) -> Next {
        if let Some(connection) = self.connections.get_mut(id) {
            connection.last_received = now;
            connection.hold = Hold::None;
        }
        let mut work = 0;
        loop {
            let is_turn_over = self.is_turn_over();
            let Some(connection) = self.connections.get_mut(id) else {
                window.consume(window.len());
                return Next::Bytes;
            };
            match connection.phase {
                Phase::Deaf | Phase::Over => {
                    window.consume(window.len());
                    return Next::Bytes;
                }
                Phase::AwaitHeader => {
                    if !self.on_header(now, id, window) {
                        return Next::Bytes;
                    }
                    continue;
                }
                _ => {}
            }
            if connection.out.len() > self.outgoing_max {
                connection.hold = Hold::Output;
                return Next::Resumed;
            }
            if work >= WORK_PER_RECEIVE || work > 0 && is_turn_over {
                return Next::Turn;
            }
            match frame::cut(window.filled(), connection.frame_max) {
                Err(error) => self.fail(now, id, 0, (0, 0), &Fault::Frame(error)),
                Ok(Cut::Missing(_)) => return Next::Bytes,
                Ok(Cut::Frame(frame)) => {
                    let (channel, length) = (frame.channel, frame.wire_len());
                    match self.on_frame(now, id, frame) {
                        Ok(Taken::Yes(units)) => {
                            work += 1 + units;
                            self.turn_work += 1 + units;
                        }
                        Ok(Taken::Held(hold)) => {
                            if let Some(connection) = self.connections.get_mut(id) {
                                connection.hold = hold;
                            }
                            return Next::Resumed;
                        }
                        Err((method, fault)) => self.fail(now, id, channel, method, &fault),
                    }
                    window.consume(length);
                }
            }
        }
    }

    /// The client's first eight octets. Returns whether they were used up.
    fn on_header(&mut self, now: Instant, id: ConnectionId, window: &mut Buf) -> bool {
        let said = window.filled();
        let length = said.len().min(PROTOCOL_HEADER.len());
        if said.iter().zip(PROTOCOL_HEADER).any(|(said, wanted)| *said != wanted) {
            // Section 4.2.2: say which version would do, and hang up.
            self.say(id, |out| out.extend_from_slice(&PROTOCOL_HEADER));
            self.stats.connection_faults += 1;
            self.over(now, id);
            return true;
        }
        if length < PROTOCOL_HEADER.len() {
            return false;
        }
        window.consume(length);
        self.start(id);
        true
    }

    /// Does what the turn has gathered: deliveries, dead letters, confirms. Returns whether there is more to do, in a
    /// further turn.
    pub fn finish_turn(&mut self, now: Instant) -> bool {
        self.turn_work = 0;
        self.send_dead_letters(now);
        let enough = self.stats.delivered + DELIVERIES_OF_ALL_PER_TURN;
        for _ in 0..self.due_queues.len() {
            if self.stats.delivered >= enough {
                break;
            }
            let Some(queue) = self.due_queues.pop_front() else { break };
            self.serve(now, queue);
        }
        for (id, number) in std::mem::take(&mut self.confirming) {
            self.tell_confirms(id, number);
        }
        self.check_memory();
        self.has_work()
    }

    /// Whether enough was done since [`Broker::finish_turn`]: further windows are for the next turn, so that deliveries
    /// and confirms do not wait for all of them.
    pub fn is_turn_over(&self) -> bool {
        self.turn_work >= WORK_PER_TURN
    }

    /// Whether [`Broker::finish_turn`] would find something to do.
    pub fn has_work(&self) -> bool {
        !self.due_queues.is_empty() || !self.dead_letters.is_empty()
    }

    /// The next connection that has something to be written, or is over.
    pub fn poll_output(&mut self) -> Option<ConnectionId> {
        let id = self.outputs.pop_front()?;
        if let Some(connection) = self.connections.get_mut(id) {
            connection.is_listed = false;
        }
        Some(id)
    }

    /// What waits to be written to a client.
    pub fn output(&self, id: ConnectionId) -> &[u8] {
        self.connections.get(id).map(|connection| connection.out.waiting()).unwrap_or_default()
    }

    /// The socket took the first `n` octets of [`Broker::output`].
    pub fn advance(&mut self, now: Instant, id: ConnectionId, n: usize) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        connection.sent(now, n);
        while let Some(message) = connection.out.frame_more(&self.store) {
            self.store.release(message);
        }
        if connection.out.len() > self.outgoing_max / 2 {
            return;
        }
        let waiting = std::mem::take(&mut connection.full_consumers);
        self.resume(id, Hold::Output);
        for key in waiting {
            if let Some(consumer) = self.consumers.get_mut(key) {
                consumer.is_waiting = false;
            }
            self.wake_consumer(key);
        }
    }

    /// What is to become of a connection.
    pub fn fate(&self, id: ConnectionId) -> Fate {
        match self.connections.get(id) {
            None => Fate::Gone,
            Some(connection) if connection.is_expired => Fate::Gone,
            Some(connection) if connection.phase == Phase::Over => Fate::Ending,
            Some(_) => Fate::Open,
        }
    }

    /// The next connection whose bytes may be handed in again.
    pub fn poll_resumed(&mut self) -> Option<ConnectionId> {
        self.resumed.pop_front()
    }

    /// A client's connection is closed, by whomever.
    pub fn disconnected(&mut self, now: Instant, id: ConnectionId) {
        self.release(now, id);
        self.timers.set(TimerKey::Connection(id), None);
        if let Some(connection) = self.connections.remove(id) {
            connection.out.messages().for_each(|message| self.store.release(message));
        }
        self.share_output();
    }

    fn share_output(&mut self) {
        let share = self.options.memory_bytes / 4 / self.connections.len().max(1);
        self.outgoing_max = share.max(OUTGOING_BYTES_LEAST).min(self.options.outgoing_bytes_max);
    }

    /// When [`Broker::handle_deadline`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// Does what is due.
    pub fn handle_deadline(&mut self, now: Instant) {
        while let Some(key) = self.timers.pop_due(now) {
            match key {
                TimerKey::Connection(id) => self.on_connection_deadline(now, id),
                TimerKey::Queue(queue) => self.on_queue_deadline(now, queue),
                TimerKey::Room => self.on_room_deadline(now),
            }
        }
    }

    /// Tells every client that the broker stops; further ones are refused. Once each has answered or run out of time,
    /// [`Broker::is_empty`].
    pub fn shut_down(&mut self, now: Instant) {
        self.is_stopping = true;
        let ids: Vec<ConnectionId> = self.connections.iter().map(|(id, _)| id).collect();
        for id in ids {
            self.close_connection(now, id, (0, 0), &Fault::Shutdown, false);
        }
    }

    /// Whether no client is connected.
    pub fn is_empty(&self) -> bool {
        self.connections.len() == 0
    }

    /// The next thing worth a line in the log.
    pub fn poll_notice(&mut self) -> Option<Notice> {
        self.notices.pop_front()
    }

    /// Counters and sizes.
    pub fn stats(&self) -> Stats {
        Stats {
            connections: self.connections.len(),
            channels: self.channels,
            ready: self.queues.iter().map(|(_, queue)| queue.ready.len()).sum(),
            unacked: self.store.waiting(),
            unfinished_bytes: self.room.taken(),
            is_blocking: self.is_short,
            queues: self.queues.len(),
            consumers: self.consumers.len(),
            exchanges: self.exchanges.len(),
            bindings: self.exchanges.bindings(),
            messages: self.store.len(),
            message_bytes: self.store.bytes(),
            ..self.stats
        }
    }

    /// Writes to a client, unless it is over.
    pub(super) fn say(&mut self, id: ConnectionId, write: impl FnOnce(&mut Vec<u8>)) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        if connection.phase != Phase::Over {
            write(connection.out.bytes());
            self.list(id);
        }
    }

    /// Lets the owner look at a connection.
    pub(super) fn list(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.get_mut(id)
            && !connection.is_listed
        {
            connection.is_listed = true;
            self.outputs.push_back(id);
        }
    }

    pub(super) fn note(&mut self, notice: Notice) {
        if self.notices.len() < NOTICES_MAX {
            self.notices.push_back(notice);
        } else {
            self.stats.lost_notices += 1;
        }
    }

    /// Counts that a limit was met, and tells of it, ever more rarely.
    pub(super) fn meet(&mut self, what: Limit) {
        let Some(count) = self.stats.limits.get_mut(what as usize) else { return };
        *count += 1;
        let count = *count;
        if count.is_power_of_two() {
            self.note(Notice::Limit { what, count });
        }
    }

    pub(super) fn set_timer(&mut self, key: TimerKey, at: Instant) {
        self.timers.set(key, Some(at));
    }

    /// Lets the owner read a connection again that waits for `hold`.
    pub(super) fn resume(&mut self, id: ConnectionId, hold: Hold) {
        if let Some(connection) = self.connections.get_mut(id)
            && connection.hold == hold
        {
            connection.hold = Hold::Resumed;
            self.resumed.push_back(id);
        }
    }

    pub(super) fn set_connection_timer(&mut self, id: ConnectionId, at: Instant) {
        self.timers.set(TimerKey::Connection(id), Some(at));
    }

    pub(super) fn set_queue_timer(&mut self, queue: Key, at: Option<Instant>) {
        self.timers.set(TimerKey::Queue(queue), at);
    }

    /// Milliseconds since the broker's start, the clock of messages.
    pub(super) fn age_ms(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.started).as_millis() as u64
    }

    /// The reverse; `None` for never.
    pub(super) fn at_ms(&self, age_ms: u64) -> Option<Instant> {
        self.started.checked_add(std::time::Duration::from_millis(age_ms)).filter(|_| age_ms != u64::MAX)
    }

    pub(super) fn wall_s(&self, now: Instant) -> u64 {
        self.started_wall_s + now.saturating_duration_since(self.started).as_secs()
    }

    /// A name that nobody can guess: 132 bits in the alphabet of URLs.
    pub(super) fn made_up_name(&mut self, prefix: &str) -> Vec<u8> {
        const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let mut name = prefix.as_bytes().to_vec();
        name.extend((0..22).map(|_| LETTERS[(self.rng.next_u64() >> 58) as usize]));
        name
    }

    /// Whether `id` may not publish `size` octets now. A connection that consumes has some room more, see
    /// `CONSUMER_ALLOWANCE`.
    pub(super) fn must_hold(&self, id: ConnectionId, size: usize) -> bool {
        let most = self.options.memory_bytes;
        if !self.is_short || self.store.bytes() <= most {
            return false;
        }
        let all = most / CONSUMER_ALLOWANCE;
        let share = (all / self.connections.len().max(1)).max(ALLOWANCE_BYTES_LEAST).min(all);
        self.connections.get(id).is_none_or(|connection| {
            connection.consumers == 0
                || connection.allowance_taken.saturating_add(size) > share
                || self.allowance_taken.saturating_add(size) > all
        })
    }

    /// Counts what was let in although memory is short.
    pub(super) fn take_allowance(&mut self, id: ConnectionId, size: usize) {
        if self.is_short && self.store.bytes() > self.options.memory_bytes {
            self.allowance_taken += size;
            if let Some(connection) = self.connections.get_mut(id) {
                connection.allowance_taken += size;
            }
        }
    }

    /// Blocks publishers when messages take too much, and lets them go on when they don't any more.
    pub(super) fn check_memory(&mut self) {
        let (bytes, bytes_max) = (self.store.bytes(), self.options.memory_bytes);
        if !self.is_short && bytes > bytes_max {
            self.is_short = true;
            self.allowance_taken = 0;
            self.connections.iter_mut().for_each(|connection| connection.allowance_taken = 0);
            self.stats.blocked += 1;
            self.note(Notice::MemoryShort { bytes, bytes_max });
            let publishers: Vec<ConnectionId> = self
                .connections
                .iter()
                .filter(|(_, connection)| connection.has_published)
                .map(|(id, _)| id)
                .collect();
            for id in publishers {
                self.tell_blocked(id);
            }
        } else if self.is_short && bytes < bytes_max / 10 * UNBLOCK_TENTHS {
            self.is_short = false;
            self.note(Notice::MemoryFree);
            let ids: Vec<ConnectionId> = self.connections.iter().map(|(id, _)| id).collect();
            for id in ids {
                self.tell_unblocked(id);
            }
        }
    }

    /// A publisher, told that it is blocked while it is. Called for each publish, so the first look has to be cheap.
    pub(super) fn note_publisher(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.get_mut(id) {
            connection.has_published = true;
        }
        if self.is_short {
            self.tell_blocked(id);
        }
    }

    fn tell_blocked(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        if connection.phase == Phase::Open
            && connection.capabilities.connection_blocked
            && !connection.is_told_blocked
        {
            connection.is_told_blocked = true;
            self.say(id, |out| {
                Method::new(out, 0, spec::CONNECTION_BLOCKED).short(b"low on memory").end();
            });
        }
    }

    fn tell_unblocked(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        if std::mem::take(&mut connection.is_told_blocked) && connection.phase == Phase::Open {
            self.say(id, |out| write::bare(out, 0, spec::CONNECTION_UNBLOCKED));
        }
        self.resume(id, Hold::Memory);
    }
}
