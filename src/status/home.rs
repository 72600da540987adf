//! What lives on the page's thread: a listener and its clients.
//!
//! Everything has a limit: connections, readers of /events, bytes that wait for clients. Whoever does not read is told
//! less, and in the end nothing.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::board::Board;
use super::client::{Client, Heard, Timed};
use super::counts::Counts;
use super::history::History;
use super::routes::{self, Context, Settings};
use crate::http::server::Response;
use crate::reactor::listener::Accepted;
use crate::reactor::{self, Listener, NoTask, Outcome, Readiness};

type Reactor = reactor::Reactor<NoTask, ()>;

/// Tokens of sockets and keys of timers: the listener, the thread's own timers, then clients.
pub(super) const LISTENER: usize = 0;
const TIMER_TICK: usize = 1;
const TIMER_ACCEPT: usize = 2;
const FIRST_CLIENT: usize = 16;

/// Connections at a time: scrapers, probes, some people.
pub const CONNECTIONS_MAX: usize = 64;

/// Of them readers of /events: people who leave the page open.
pub const STREAMS_MAX: usize = 16;

/// Bytes that may wait for clients, all together, when another answer is made. One of 10,000 shards has 2 MB.
const WAITING_BYTES_MAX: usize = 8 << 20;

/// How often a reader of /events is told.
const TICK: Duration = Duration::from_secs(1);

/// How long accepting rests when there is no descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How many connections are accepted in a turn.
const ACCEPTS_PER_TURN: usize = 64;

/// How many reads are done in a turn.
const READS_PER_TURN: usize = 256;

/// How much is read at once.
const READ_BYTES: usize = 8 << 10;

/// The page's thread.
pub struct Home {
    listener: Listener,
    settings: Settings,
    board: Arc<Board>,
    history: History,
    clients: HashMap<usize, Client>,
    next_token: usize,
    readable: VecDeque<usize>,
    dirty: Vec<usize>,
    buffer: Box<[u8]>,
    counts: Counts,
}

impl Home {
    /// A page at `listener`.
    pub fn new(listener: Listener, settings: Settings, board: Arc<Board>) -> Home {
        Home {
            listener,
            settings,
            board,
            history: History::default(),
            clients: HashMap::new(),
            next_token: FIRST_CLIENT,
            readable: VecDeque::new(),
            dirty: Vec::new(),
            buffer: vec![0; READ_BYTES].into(),
            counts: Counts::default(),
        }
    }

    /// Sets the first timer.
    pub fn start(&mut self, reactor: &mut Reactor) {
        self.history.sample(reactor.turn.now, &self.board);
        reactor.timers.set(TIMER_TICK, Some(reactor.turn.now + TICK));
    }

    /// Takes new connections. Returns whether there may be more.
    fn accept(&mut self, reactor: &mut Reactor) -> bool {
        for _ in 0..ACCEPTS_PER_TURN {
            let token = self.next_token;
            match self.listener.accept(reactor.registry(), token) {
                Accepted::Nobody => return false,
                Accepted::Exhausted(error) => {
                    log::debug!("status page: cannot accept a connection: {error}");
                    reactor.timers.set(TIMER_ACCEPT, Some(reactor.turn.now + ACCEPT_PAUSE));
                    return false;
                }
                Accepted::Socket(socket, _) => {
                    if self.clients.len() >= CONNECTIONS_MAX && !self.make_room(reactor) {
                        // Dropping it closes it.
                        self.counts.closed += 1;
                        continue;
                    }
                    // A client that is gone without a word gives its place up.
                    let _ = socket.keep_alive();
                    self.next_token += 1;
                    self.clients.insert(token, Client::new(socket));
                    self.set_timeout(reactor, token);
                }
            }
        }
        true
    }

    /// Closes the oldest connection on which no answer is under way, so that those who open connections and say nothing
    /// keep no probe out.
    fn make_room(&mut self, reactor: &mut Reactor) -> bool {
        let waits =
            |client: &Client| matches!(client.waits_for(), Timed::Idle | Timed::Request | Timed::Lingering);
        let oldest = self.clients.iter().filter(|(_, client)| waits(client)).map(|(token, _)| *token).min();
        let Some(token) = oldest else { return false };
        self.counts.closed += 1;
        self.drop_client(reactor, token);
        true
    }

    /// Reads from a client and answers. Returns whether more is left to read.
    fn read(&mut self, reactor: &mut Reactor, token: usize) -> bool {
        let Some(client) = self.clients.get_mut(&token) else { return false };
        match client.read(&mut self.buffer) {
            Heard::Nothing => return false,
            // A client that has said its last word may still read, unless it has nothing to wait for.
            Heard::End if client.wants_to_write() && !client.streams => {
                client.ended = true;
                return false;
            }
            Heard::End => {
                self.drop_client(reactor, token);
                return false;
            }
            Heard::Fault => {
                self.counts.closed += 1;
                self.drop_client(reactor, token);
                return false;
            }
            Heard::Bytes => {}
        }
        let more = client.socket.is_readable();
        if client.wants_to_write() {
            self.dirty.push(token);
        }
        self.serve(reactor, token);
        more
    }

    /// Answers a client's requests, one after the other.
    fn serve(&mut self, reactor: &mut Reactor, token: usize) {
        loop {
            let waiting: usize = self.clients.values().map(Client::waiting_bytes).sum();
            let streams = self.clients.values().filter(|client| client.streams).count();
            let counts = self.counts();
            let Some(client) = self.clients.get_mut(&token) else { return };
            // Who does not take an answer gets no other.
            if client.lingers || client.streams || client.wants_to_write() {
                break;
            }
            let request = match client.poll_request() {
                Ok(Some(request)) => request,
                Ok(None) => break,
                Err(_) => {
                    self.counts.closed += 1;
                    return self.drop_client(reactor, token);
                }
            };
            self.counts.requests += 1;
            self.board.look(reactor.turn.now);
            let wall_ms = reactor.turn.wall_ms;
            if waiting > WAITING_BYTES_MAX {
                client.respond(&Response { close: true, ..Response::empty(503) }, wall_ms);
            } else {
                let context = Context {
                    settings: &self.settings,
                    board: &self.board,
                    history: &self.history,
                    counts,
                    may_stream: streams < STREAMS_MAX,
                    turn: reactor.turn,
                };
                let answer = routes::answer(&request, &context);
                let response = if answer.streams {
                    Response::stream(answer.status, answer.content_type)
                } else {
                    Response::new(answer.status, answer.content_type, &[])
                };
                let response = Response { headers: &answer.headers, body: &answer.body, ..response };
                client.respond(&response, wall_ms);
                client.streams = answer.streams;
            }
            self.dirty.push(token);
        }
        self.set_timeout(reactor, token);
    }

    fn counts(&self) -> Counts {
        let streams = self.clients.values().filter(|client| client.streams).count();
        Counts { connections: self.clients.len() as u64, streams: streams as u64, ..self.counts }
    }

    fn write(&mut self, reactor: &mut Reactor, token: usize) {
        let Some(client) = self.clients.get_mut(&token) else { return };
        match client.write() {
            Err(_) => self.drop_client(reactor, token),
            Ok(true) if client.ended => self.drop_client(reactor, token),
            Ok(true) if client.streams => self.set_timeout(reactor, token),
            Ok(true) if !client.http.closes() => self.serve(reactor, token),
            Ok(true) if !client.lingers => {
                client.lingers = true;
                client.socket.end_writing();
                self.set_timeout(reactor, token);
            }
            Ok(_) => self.set_timeout(reactor, token),
        }
    }

    /// A second has passed: whoever reads /events is told, if the last word was taken.
    fn tick(&mut self, reactor: &mut Reactor) {
        self.history.sample(reactor.turn.now, &self.board);
        reactor.timers.set(TIMER_TICK, Some(reactor.turn.now + TICK));
        if !self.clients.values().any(|client| client.streams) {
            return;
        }
        self.board.look(reactor.turn.now);
        let context = Context {
            settings: &self.settings,
            board: &self.board,
            history: &self.history,
            counts: self.counts,
            may_stream: false,
            turn: reactor.turn,
        };
        let update = routes::update(&context);
        for (token, client) in self.clients.iter_mut().filter(|(_, client)| client.streams) {
            if client.update(&update) {
                self.dirty.push(*token);
            } else {
                self.counts.updates_dropped += 1;
            }
        }
    }

    fn drop_client(&mut self, reactor: &mut Reactor, token: usize) {
        if let Some(mut client) = self.clients.remove(&token) {
            client.socket.deregister(reactor.registry());
            reactor.timers.set(token, None);
        }
    }

    fn set_timeout(&mut self, reactor: &mut Reactor, token: usize) {
        let Some(timeout) = self.clients.get_mut(&token).and_then(Client::poll_timeout) else { return };
        reactor.timers.set(token, timeout.map(|timeout| reactor.turn.now + timeout));
    }
}

impl reactor::Home for Home {
    type Task = NoTask;
    type Message = ();

    fn on_ready(&mut self, _: &mut Reactor, token: usize, ready: Readiness) {
        if token == LISTENER {
            return self.listener.note();
        }
        let Some(client) = self.clients.get_mut(&token) else { return };
        client.socket.note(ready);
        if ready.readable {
            self.readable.push_back(token);
        }
        if ready.writable && client.wants_to_write() {
            self.dirty.push(token);
        }
    }

    fn on_message(&mut self, _: &mut Reactor, (): ()) {}

    fn on_deadline(&mut self, reactor: &mut Reactor, key: usize) {
        match key {
            TIMER_TICK => self.tick(reactor),
            // `fill` looks again.
            TIMER_ACCEPT => {}
            token => {
                let is_done = |client: &Client| matches!(client.waits_for(), Timed::Idle | Timed::Lingering);
                if self.clients.get(&token).is_some_and(|client| !is_done(client)) {
                    self.counts.closed += 1;
                }
                self.drop_client(reactor, token);
            }
        }
    }

    fn fill(&mut self, reactor: &mut Reactor) -> bool {
        let more = self.listener.is_ready() && self.accept(reactor);
        for _ in 0..READS_PER_TURN {
            let Some(token) = self.readable.pop_front() else { break };
            if self.read(reactor, token) {
                self.readable.push_back(token);
            }
        }
        more || !self.readable.is_empty()
    }

    fn on_task(&mut self, _: &mut Reactor, task: Box<NoTask>, _: Outcome) {
        match *task {}
    }

    fn has_unread(&self) -> bool {
        !self.readable.is_empty()
    }

    fn flush(&mut self, reactor: &mut Reactor) -> bool {
        // An answer that is taken leads to the next one, as long as requests have arrived: nothing is read meanwhile.
        while let Some(token) = self.dirty.pop() {
            self.write(reactor, token);
        }
        true
    }
}
