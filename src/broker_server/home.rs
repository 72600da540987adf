//! What lives on the broker's thread: the listener, clients' sockets, the broker.
//!
//! ```text
//! socket -> shared window -> broker -> output -> socket       what is left of the window waits with its client
//! ```

use std::collections::{HashMap, VecDeque};
use std::io::IoSlice;
use std::time::{Duration, Instant};

use super::Figures;
use super::words::Words;
use crate::base::Buf;
use crate::broker::{Broker, ConnectionId, Fate, Next};
use crate::reactor::listener::Accepted;
use crate::reactor::{self, Fill, Listener, NoTask, Outcome, Readiness, Socket};

/// What other threads tell the broker.
#[derive(Debug)]
pub(super) enum Message {
    /// Stop.
    Stop,
}

type Reactor = reactor::Reactor<NoTask, Message>;

/// Keys of timers besides clients' tokens, which have none.
const TIMER_BROKER: usize = 1;
const TIMER_ACCEPT: usize = 2;
const TIMER_STATUS: usize = 3;
const FIRST_CLIENT: usize = 16;

/// The token of the listening socket.
pub(super) const LISTENER: usize = 0;

/// How much is read at once: what a socket has at most, as Linux sets it up.
const READ_BYTES: usize = 256 << 10;
/// What is read and not taken, of all clients together; but each may have `READ_BYTES_LEAST`, and part of a frame.
const UNREAD_BYTES: usize = 64 << 20;
const READ_BYTES_LEAST: usize = 16 << 10;
/// How long the system may try to bring bytes to a client that does not say that it got them, before the connection is
/// broken. A publisher that waits for memory is not read, so its silence says nothing; our heartbeats do. As long as
/// the broker waits for one that takes nothing.
const GIVE_UP_AFTER: Duration = Duration::from_secs(120);
/// How often figures are left for others at most.
const FIGURES_INTERVAL: Duration = Duration::from_millis(250);
/// How many reads are done in a turn.
const READS_PER_TURN: usize = 64;
/// How many connections are accepted in a turn, so that those that are there are served meanwhile.
const ACCEPTS_PER_TURN: usize = 64;
/// How long accepting rests when there is no descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How often the state of things is logged, when something has happened.
const STATUS_INTERVAL: Duration = Duration::from_secs(60);

/// A client's socket.
struct Client {
    socket: Socket,
    id: ConnectionId,
    /// What was read and not taken: part of a frame, or what waits for its turn.
    rest: Buf,
    /// Whether the broker wants nothing of it now.
    is_held: bool,
    /// Whether `rest` is to be handed in again without a read.
    is_again: bool,
    /// Whether it stands in `readable`.
    is_queued: bool,
    /// Whether our side is ended, and its end is waited for.
    is_ended: bool,
    /// Whether its side is ended, or the connection is broken. What it sent before may still be read.
    is_ending: bool,
}

/// The broker's thread.
pub(super) struct Home {
    listener: Listener,
    broker: Broker,
    clients: HashMap<usize, Client>,
    tokens: HashMap<ConnectionId, usize>,
    next_token: usize,
    readable: VecDeque<usize>,
    writable: Vec<usize>,
    window: Buf,
    /// Clients whose side has ended.
    ended: Vec<usize>,
    figures: Figures,
    figures_from: Option<Instant>,
    words: Words,
    accept_errors: u64,
    has_more: bool,
    is_stopping: bool,
}

impl Home {
    pub(super) fn new(listener: Listener, broker: Broker, figures: Figures) -> Home {
        Home {
            listener,
            broker,
            clients: HashMap::new(),
            tokens: HashMap::new(),
            next_token: FIRST_CLIENT,
            readable: VecDeque::new(),
            writable: Vec::new(),
            window: Buf::with_capacity(READ_BYTES),
            ended: Vec::new(),
            figures,
            figures_from: None,
            words: Words::default(),
            accept_errors: 0,
            has_more: false,
            is_stopping: false,
        }
    }

    pub(super) fn start(&mut self, reactor: &mut Reactor) {
        reactor.timers.set(TIMER_STATUS, Some(reactor.turn.now + STATUS_INTERVAL));
    }

    /// Takes new clients. Returns whether there may be more.
    fn accept(&mut self, reactor: &mut Reactor) -> bool {
        for _ in 0..ACCEPTS_PER_TURN {
            let token = self.next_token;
            match self.listener.accept(reactor.registry(), token) {
                Accepted::Nobody => return false,
                Accepted::Exhausted(error) => {
                    self.accept_errors += 1;
                    if self.accept_errors.is_power_of_two() {
                        log::warn!("cannot accept a connection: {error}; clients wait");
                    }
                    reactor.timers.set(TIMER_ACCEPT, Some(reactor.turn.now + ACCEPT_PAUSE));
                    return false;
                }
                Accepted::Socket(mut socket, peer) => {
                    let Some(id) = self.broker.connect(reactor.turn.now, peer) else {
                        socket.deregister(reactor.registry());
                        continue;
                    };
                    // A client whose machine is gone without a word gives its place up too.
                    let _ = socket.keep_alive();
                    let _ = socket.give_up_after(GIVE_UP_AFTER);
                    self.next_token += 1;
                    let rest = Buf::default();
                    let (is_held, is_again, is_queued, is_ended, is_ending) =
                        (false, false, false, false, false);
                    let client =
                        Client { socket, id, rest, is_held, is_again, is_queued, is_ended, is_ending };
                    self.clients.insert(token, client);
                    self.tokens.insert(id, token);
                }
            }
        }
        true
    }

    fn queue_read(&mut self, token: usize) {
        if let Some(client) = self.clients.get_mut(&token)
            && !client.is_queued
            && !client.is_held
        {
            client.is_queued = true;
            self.readable.push_back(token);
        }
    }

    /// Reads once from a client and hands it to the broker, with what was left before.
    fn read(&mut self, reactor: &mut Reactor, token: usize) {
        let most = (UNREAD_BYTES / self.clients.len().max(1)).clamp(READ_BYTES_LEAST, READ_BYTES);
        let Some(client) = self.clients.get_mut(&token) else { return };
        client.is_queued = false;
        if client.is_held {
            return;
        }
        let window = &mut self.window;
        window.reset(READ_BYTES);
        window.extend(client.rest.filled());
        client.rest.reset(0);
        if client.socket.is_readable() && !client.is_again {
            // Whatever was left, a read has to bring something.
            window.reserve(READ_BYTES_LEAST);
            let spare = window.spare();
            let length = spare.len().min(most);
            match client.socket.fill(&mut spare[..length]) {
                Ok(Fill::Bytes(count)) => window.commit(count),
                Ok(Fill::Blocked) => {}
                Ok(Fill::Ended) | Err(_) => return self.drop_client(reactor, token),
            }
        }
        client.is_again = false;
        match self.broker.receive(reactor.turn.now, client.id, window) {
            Next::Bytes => {}
            Next::Turn => client.is_again = true,
            Next::Resumed => client.is_held = true,
        }
        client.rest.extend(window.filled());
        if client.is_held && client.is_ending {
            return self.drop_client(reactor, token);
        }
        if client.is_again || client.socket.is_readable() {
            self.queue_read(token);
        }
    }

    fn drop_client(&mut self, reactor: &mut Reactor, token: usize) {
        let Some(mut client) = self.clients.remove(&token) else { return };
        client.socket.deregister(reactor.registry());
        self.tokens.remove(&client.id);
        self.broker.disconnected(reactor.turn.now, client.id);
    }

    /// Writes what waits for a client, as far as its socket takes it.
    fn write(&mut self, reactor: &mut Reactor, token: usize) {
        let Some(client) = self.clients.get_mut(&token) else { return };
        let fate = self.broker.fate(client.id);
        if fate == Fate::Gone {
            return self.drop_client(reactor, token);
        }
        loop {
            let output = self.broker.output(client.id);
            if output.is_empty() || !client.socket.is_writable() {
                break;
            }
            match client.socket.write(&[IoSlice::new(output)]) {
                Err(_) => return self.drop_client(reactor, token),
                // There may be more then: large bodies come in pieces.
                Ok(count) => self.broker.advance(reactor.turn.now, client.id, count),
            }
        }
        if fate == Fate::Ending && self.broker.output(client.id).is_empty() && !client.is_ended {
            // What the client still sends is read, so that its end does not take our last words back.
            client.is_ended = true;
            client.socket.end_writing();
        }
    }

    fn write_all(&mut self, reactor: &mut Reactor) {
        for token in std::mem::take(&mut self.writable) {
            self.write(reactor, token);
        }
        while let Some(id) = self.broker.poll_output() {
            if let Some(&token) = self.tokens.get(&id) {
                self.write(reactor, token);
            }
        }
    }

    fn resume(&mut self) {
        while let Some(id) = self.broker.poll_resumed() {
            let Some(&token) = self.tokens.get(&id) else { continue };
            if let Some(client) = self.clients.get_mut(&token) {
                client.is_held = false;
                client.is_again = !client.rest.is_empty();
            }
            self.queue_read(token);
        }
    }

    fn log(&mut self, now: Instant) {
        while let Some(notice) = self.broker.poll_notice() {
            self.words.log(now, &notice);
        }
    }
}

impl reactor::Home for Home {
    type Task = NoTask;
    type Message = Message;

    fn on_ready(&mut self, _: &mut Reactor, token: usize, ready: Readiness) {
        if token == LISTENER {
            return self.listener.note();
        }
        let Some(client) = self.clients.get_mut(&token) else { return };
        client.socket.note(ready);
        if ready.ending {
            client.is_ending = true;
            self.ended.push(token);
        }
        if ready.writable {
            self.writable.push(token);
        }
        if ready.readable {
            self.queue_read(token);
        }
    }

    fn on_message(&mut self, reactor: &mut Reactor, Message::Stop: Message) {
        if !std::mem::replace(&mut self.is_stopping, true) {
            log::info!("stopping: {} clients are told", self.clients.len());
            self.broker.shut_down(reactor.turn.now);
        }
    }

    fn on_deadline(&mut self, reactor: &mut Reactor, key: usize) {
        let now = reactor.turn.now;
        match key {
            TIMER_BROKER => self.broker.handle_deadline(now),
            TIMER_STATUS => {
                self.words.status(&self.broker.stats());
                reactor.timers.set(TIMER_STATUS, Some(now + STATUS_INTERVAL));
            }
            // `fill` looks again.
            _ => {}
        }
    }

    fn fill(&mut self, reactor: &mut Reactor) -> bool {
        let more = self.listener.is_ready() && self.accept(reactor);
        for token in std::mem::take(&mut self.ended) {
            // Nobody reads it, so nobody else would notice. What it holds others may be waiting for.
            if self.clients.get(&token).is_some_and(|client| client.is_held) {
                self.drop_client(reactor, token);
            }
        }
        for _ in 0..self.readable.len().min(READS_PER_TURN) {
            // Whoever is left is first in the next turn.
            if self.broker.is_turn_over() {
                break;
            }
            let Some(token) = self.readable.pop_front() else { break };
            self.read(reactor, token);
        }
        more || !self.readable.is_empty()
    }

    fn on_task(&mut self, _: &mut Reactor, task: Box<NoTask>, _: Outcome) {
        match *task {}
    }

    fn has_unread(&self) -> bool {
        self.has_more || !self.readable.is_empty()
    }

    fn flush(&mut self, reactor: &mut Reactor) -> bool {
        let now = reactor.turn.now;
        self.has_more = self.broker.finish_turn(now);
        self.write_all(reactor);
        // What was written made room: what that lets go on is gathered for the next turn.
        self.has_more |= self.broker.has_work();
        self.resume();
        self.log(now);
        if self.figures_from.is_none_or(|from| now >= from + FIGURES_INTERVAL) {
            self.figures_from = Some(now);
            self.figures.leave(self.broker.stats());
        }
        reactor.timers.set(TIMER_BROKER, self.broker.poll_timeout());
        if self.is_stopping && self.clients.is_empty() {
            self.figures.leave(self.broker.stats());
            log::info!("stopped; {} messages are gone with it", self.broker.stats().messages);
            return false;
        }
        true
    }
}
