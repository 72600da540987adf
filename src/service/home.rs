//! What lives on the service's thread: listeners, clients, gates.
//!
//! ```text
//! client's bytes -> request -> Ask -> gates ----> ticket granted -> state saved -> answer -> the socket took it
//!        |                              ^  ^                                                       |
//!        +---- the client is gone ------+  +------------------- from here the spacing counts -----+
//! ```

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use super::admin;
use super::asked::{self, Ask, Form};
use super::client::{Client, Heard, MESSAGE, SUCCESS, Stage};
use super::counts::{Counts, End};
use super::gates::{Gates, Refusal};
use super::listeners::Listeners;
use super::memory::Memory;
use crate::http::server::Response;
use crate::http::{self, Asker, GatewayBot};
use crate::queue::{FEEDBACK_HEADER, Refresh, Report, SessionStartLimit};
use crate::reactor::{self, Listener, NoTask, Outcome, Readiness, clock};

/// What other threads tell the service.
#[derive(Debug)]
pub enum Message {
    /// Discord's answer to the question about session starts.
    Told(Result<GatewayBot, http::Error>),
    /// Stop.
    Stop,
}

pub(super) type Reactor = reactor::Reactor<NoTask, Message>;

/// Tokens of sockets and keys of timers: the listeners, the thread's own timers, then clients.
pub(super) const QUEUE_LISTENER: usize = 0;
pub(super) const ADMIN_LISTENER: usize = 1;
const TIMER_GATES: usize = 2;
pub(super) const TIMER_ACCEPT: usize = 3;
const TIMER_STATUS: usize = 4;
const TIMER_REFRESH: usize = 5;
const TIMER_PATIENCE: usize = 6;
const FIRST_CLIENT: usize = 16;

/// How many reads are done in a turn.
const READS_PER_TURN: usize = 1024;

/// How often the state of things is logged, when something has happened.
const STATUS_INTERVAL: Duration = Duration::from_secs(60);

/// How long Discord's first word is waited for before the service goes by what it remembers. A question takes less
/// than a second, unless Discord is in trouble or makes us wait.
const PATIENCE: Duration = Duration::from_secs(30);

/// How much is read at once.
const READ_BYTES: usize = 16 << 10;

/// The service's thread.
pub struct Home {
    pub(super) listeners: Listeners,
    pub(super) clients: HashMap<usize, Client>,
    pub(super) clients_max: usize,
    pub(super) admins: usize,
    pub(super) next_token: usize,
    tickets: HashMap<u64, usize>,
    next_ticket: u64,
    gates: Gates,
    memory: Memory,
    discord: Option<(Refresh, Asker)>,
    readable: VecDeque<usize>,
    dirty: Vec<usize>,
    buffer: Box<[u8]>,
    pub(super) counts: Counts,
    reported: u64,
    remembers: bool,
    failure: Option<String>,
    stopping: bool,
}

impl Home {
    /// A service that serves at most `clients_max` connections at a time. `remembers` says whether its own gate knows
    /// from before what it may give.
    pub fn new(
        listeners: Listeners,
        gates: Gates,
        memory: Memory,
        discord: Option<(Refresh, Asker)>,
        clients_max: usize,
        remembers: bool,
    ) -> Home {
        Home {
            listeners,
            clients: HashMap::new(),
            clients_max,
            admins: 0,
            next_token: FIRST_CLIENT,
            tickets: HashMap::new(),
            next_ticket: 1,
            gates,
            memory,
            discord,
            readable: VecDeque::new(),
            dirty: Vec::new(),
            buffer: vec![0; READ_BYTES].into(),
            counts: Counts::default(),
            reported: 0,
            remembers,
            failure: None,
            stopping: false,
        }
    }

    /// Sets the first timers and asks Discord for the first time.
    pub fn start(&mut self, reactor: &mut Reactor) {
        let now = reactor.turn.now;
        reactor.timers.set(TIMER_STATUS, Some(now + STATUS_INTERVAL));
        self.ask_discord(now);
        if self.remembers {
            reactor.timers.set(TIMER_PATIENCE, Some(now + PATIENCE));
        }
    }

    fn ask_discord(&mut self, now: Instant) {
        if let Some((refresh, asker)) = &mut self.discord {
            refresh.asked(now, self.gates.own().stats().granted);
            asker.ask();
        }
    }

    /// Why it ended, if not because it was told to.
    pub fn failure(self) -> Option<String> {
        self.failure
    }

    /// Reads from a client and handles its requests. Returns whether more is left to read.
    fn read(&mut self, reactor: &mut Reactor, token: usize) -> bool {
        let Some(client) = self.clients.get_mut(&token) else { return false };
        match client.read(&mut self.buffer) {
            Heard::Nothing => return false,
            Heard::End(fault) => {
                if let Some(fault) = fault {
                    log::debug!("a connection is closed: {fault}");
                }
                let end = match fault {
                    None => End::Gone,
                    Some(_) if client.http.closes() => End::Malformed,
                    Some(_) => End::Gone,
                };
                self.drop_client(reactor, token, end);
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

    /// What became of a permit, told on whatever connection: a proxy may have several.
    fn report(&mut self, ticket: u64, report: Report) {
        let Some(client) = self.tickets.get(&ticket).and_then(|token| self.clients.get_mut(token)) else {
            return;
        };
        let Stage::Told { ticket: own, identified } = client.stage else { return };
        if own != ticket || (identified && report == Report::Identified) {
            return;
        }
        if report == Report::Identified {
            client.stage = Stage::Told { ticket, identified: true };
        } else {
            client.stage = Stage::Open;
            self.tickets.remove(&ticket);
        }
        // Now, not when the turn began: what is told has happened before.
        self.gates.report(clock::read().now, ticket, report);
    }

    /// Takes a client's requests as far as they can be answered now.
    fn serve(&mut self, reactor: &mut Reactor, token: usize) {
        loop {
            let Some(client) = self.clients.get_mut(&token) else { return };
            // Who does not take an answer gets no other: answers take memory.
            if client.stage == Stage::Lingering || client.wants_to_write() {
                break;
            }
            let request = match client.poll_request() {
                Ok(Some(request)) => request,
                Ok(None) => break,
                Err(error) => {
                    log::debug!("a connection is closed: {error}");
                    return self.drop_client(reactor, token, End::Malformed);
                }
            };
            if client.is_admin {
                let turn = reactor.turn;
                let facts = admin::Facts {
                    status: self.gates.status(turn.now),
                    counts: &self.counts,
                    connections: self.clients.len() - self.admins,
                    save_errors: self.memory.errors(),
                    refused_gates: self.gates.refused_gates,
                };
                let page = admin::answer(&request, &facts);
                // It was there a moment ago.
                if let Some(client) = self.clients.get_mut(&token) {
                    let response = Response::new(page.status, page.content_type, page.body.as_bytes());
                    client.respond(&Response { headers: page.headers, ..response }, turn.wall_ms);
                }
                self.dirty.push(token);
                continue;
            }
            self.counts.requests += 1;
            let handled = match asked::report(&request) {
                Ok(Some((report, ticket))) => {
                    client.respond(&Response::empty(204), reactor.turn.wall_ms);
                    self.dirty.push(token);
                    self.report(ticket, report);
                    Ok(())
                }
                Ok(None) => Ask::read(&request).map(|ask| self.ask(reactor, token, &ask)),
                Err(why) => Err(why),
            };
            if let Err(why) = handled {
                self.counts.senseless += 1;
                if self.counts.senseless.is_power_of_two() {
                    log::warn!("a request is dropped: {why}");
                }
                return self.drop_client(reactor, token, End::Malformed);
            }
        }
        self.set_timeout(reactor, token);
    }

    fn ask(&mut self, reactor: &mut Reactor, token: usize, ask: &Ask) {
        let now = reactor.turn.now;
        if let Some(key) = &ask.key {
            self.memory.recall(now, clock::read().wall_ms, key, &mut self.gates);
        }
        if let Some(warning) = ask.warning
            && self.gates.buckets(ask) > 1
        {
            self.counts.without_shard += 1;
            if self.counts.without_shard.is_power_of_two() {
                log::warn!("{warning}: with several buckets that is too slow or too early for another shard");
            }
        }
        let Some(client) = self.clients.get_mut(&token) else { return };
        if let Stage::Told { ticket, identified } = client.stage {
            client.stage = Stage::Open;
            self.let_go(now, ticket, identified);
        }
        let Some(client) = self.clients.get_mut(&token) else { return };
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        client.stage = Stage::Waiting { ticket, form: ask.form, feedback: ask.feedback };
        self.tickets.insert(ticket, token);
        match self.gates.request(now, ticket, ask) {
            Ok(()) => log::debug!(shard = ask.shard_id; "a shard waits to identify"),
            Err(refusal) => {
                let why = match refusal {
                    Refusal::Full => "as many wait as may",
                    Refusal::TooManyGates => "there are as many gates as there may be",
                };
                self.counts.refused_requests += 1;
                if self.counts.refused_requests.is_power_of_two() {
                    log::warn!("a request is dropped: {why}");
                }
                self.drop_client(reactor, token, End::Refused);
            }
        }
    }

    /// A client will tell nothing more of its permit.
    fn let_go(&mut self, now: Instant, ticket: u64, identified: bool) {
        self.tickets.remove(&ticket);
        if identified {
            self.gates.forget(ticket);
        } else {
            self.gates.used(now, ticket);
        }
    }

    fn drop_client(&mut self, reactor: &mut Reactor, token: usize, end: End) {
        let Some(mut client) = self.clients.remove(&token) else { return };
        client.socket.deregister(reactor.registry());
        reactor.timers.set(token, None);
        if client.is_admin {
            self.admins -= 1;
        } else {
            self.counts.end(end);
        }
        match client.stage {
            Stage::Waiting { ticket, .. } => {
                self.tickets.remove(&ticket);
                self.gates.cancel(reactor.turn.now, ticket);
            }
            Stage::Told { ticket, identified } => self.let_go(reactor.turn.now, ticket, identified),
            Stage::Open | Stage::Lingering => {}
        }
    }

    pub(super) fn set_timeout(&mut self, reactor: &mut Reactor, token: usize) {
        let Some(timeout) = self.clients.get_mut(&token).and_then(Client::poll_timeout) else { return };
        reactor.timers.set(token, timeout.map(|timeout| reactor.turn.now + timeout));
    }

    /// Answers whoever may identify. What has to outlive the process is written before anybody hears of it.
    fn grant(&mut self, reactor: &mut Reactor) {
        loop {
            let granted: Vec<u64> = std::iter::from_fn(|| self.gates.poll_granted()).collect();
            // A client that is gone by now gives its place up, and the next one is granted at once.
            for ticket in &granted {
                if let Some(&token) = self.tickets.get(ticket) {
                    self.read(reactor, token);
                }
            }
            self.memory.save(clock::read().wall_ms, &mut self.gates);
            if granted.is_empty() {
                return;
            }
            for ticket in granted {
                if let Some(&token) = self.tickets.get(&ticket) {
                    self.answer(reactor, token, ticket);
                }
            }
        }
    }

    fn answer(&mut self, reactor: &mut Reactor, token: usize, ticket: u64) {
        let Some(client) = self.clients.get_mut(&token) else { return };
        let Stage::Waiting { form, feedback, .. } = client.stage else { return };
        if !self.gates.holds(ticket) {
            // A bug: it would wait for ever. Closed, it asks again.
            log::error!("a permit was lost; its client is told to ask again by closing");
            return self.drop_client(reactor, token, End::Gone);
        }
        let body = match form {
            Form::Message => MESSAGE,
            Form::Success => SUCCESS,
        };
        let number = ticket.to_string();
        let number = [(FEEDBACK_HEADER, number.as_str())];
        let told: &[(&str, &str)] = if feedback { &number } else { &[] };
        let response = Response { headers: told, ..Response::new(200, "application/json", body) };
        client.respond(&response, reactor.turn.wall_ms);
        if client.write().is_err() {
            return self.drop_client(reactor, token, End::Gone);
        }
        // The spacing counts from the moment at which the system took the answer, which may be long after the turn
        // began.
        let now = clock::read().now;
        self.counts.answered += 1;
        if feedback {
            client.stage = Stage::Told { ticket, identified: false };
        } else {
            client.stage = Stage::Open;
            self.tickets.remove(&ticket);
            self.gates.used(now, ticket);
        }
        log::debug!("a shard may identify, {} wait", self.gates.waiting());
        self.dirty.push(token);
        self.serve(reactor, token);
    }

    fn write(&mut self, reactor: &mut Reactor, token: usize) {
        let Some(client) = self.clients.get_mut(&token) else { return };
        match client.write() {
            Err(_) => self.drop_client(reactor, token, End::Gone),
            Ok(true) if !client.http.closes() => self.serve(reactor, token),
            Ok(true) if client.stage != Stage::Lingering => {
                let stage = std::mem::replace(&mut client.stage, Stage::Lingering);
                client.socket.end_writing();
                if let Stage::Told { ticket, identified } = stage {
                    self.let_go(reactor.turn.now, ticket, identified);
                }
                self.set_timeout(reactor, token);
            }
            Ok(_) => {}
        }
    }

    fn told(&mut self, reactor: &mut Reactor, told: Result<GatewayBot, http::Error>) {
        let Some((refresh, _)) = &mut self.discord else { return };
        let now = reactor.turn.now;
        let is_first = refresh.is_first();
        let asked_at = refresh.told(now, told.is_ok());
        match told {
            Ok(bot) => {
                let limit = &bot.session_start_limit;
                let limit = SessionStartLimit {
                    total: limit.total,
                    remaining: limit.remaining,
                    reset_after: Duration::from_millis(limit.reset_after_ms),
                    max_concurrency: limit.max_concurrency,
                };
                if is_first || limit.max_concurrency != self.gates.own().max_concurrency() {
                    log::info!(
                        "{} of {} session starts left today, {} buckets",
                        limit.remaining,
                        limit.total,
                        limit.max_concurrency
                    );
                }
                self.gates.refresh(now, asked_at, &limit);
            }
            Err(http::Error::Stopped) => {}
            Err(http::Error::Fatal(why)) if is_first => {
                self.failure = Some(why);
                self.stopping = true;
            }
            Err(http::Error::Fatal(why)) => {
                log::error!("session starts are counted without Discord from here on: {why}");
            }
        }
    }

    fn log_status(&mut self) {
        if self.counts.answered != self.reported || self.gates.waiting() > 0 {
            log::info!(
                "{} permits given in the last minute, {} shards wait",
                self.counts.answered - self.reported,
                self.gates.waiting()
            );
            self.reported = self.counts.answered;
        }
    }
}

impl reactor::Home for Home {
    type Task = NoTask;
    type Message = Message;

    fn on_ready(&mut self, _: &mut Reactor, token: usize, ready: Readiness) {
        match token {
            QUEUE_LISTENER => self.listeners.queue.note(),
            ADMIN_LISTENER => {
                if let Some(listener) = &mut self.listeners.admin {
                    listener.note();
                }
            }
            _ => {
                let Some(client) = self.clients.get_mut(&token) else { return };
                client.socket.note(ready);
                if ready.readable {
                    self.readable.push_back(token);
                }
                if ready.writable && client.wants_to_write() {
                    self.dirty.push(token);
                }
            }
        }
    }

    fn on_message(&mut self, reactor: &mut Reactor, message: Message) {
        match message {
            Message::Told(told) => self.told(reactor, told),
            Message::Stop => self.stopping = true,
        }
    }

    fn on_deadline(&mut self, reactor: &mut Reactor, key: usize) {
        let now = reactor.turn.now;
        match key {
            TIMER_GATES => self.gates.handle_deadline(now),
            TIMER_PATIENCE => {
                if self.gates.own().is_closed() {
                    log::warn!(
                        "Discord has not said yet how many session starts are left: going by what is remembered"
                    );
                    self.gates.open_own(now);
                }
            }
            // `fill` looks again.
            TIMER_ACCEPT => {}
            TIMER_STATUS => {
                self.log_status();
                reactor.timers.set(TIMER_STATUS, Some(now + STATUS_INTERVAL));
            }
            TIMER_REFRESH => self.ask_discord(now),
            token => {
                let Some(client) = self.clients.get(&token) else { return };
                if let Stage::Told { ticket, identified: false } = client.stage {
                    // Whether it was used is not known: it counts as used, now. The connection stays.
                    if let Some(client) = self.clients.get_mut(&token) {
                        client.stage = Stage::Open;
                    }
                    self.let_go(now, ticket, false);
                    return self.set_timeout(reactor, token);
                }
                let end = match client.stage {
                    Stage::Lingering => End::Gone,
                    _ if client.http.is_idle() => End::Idle,
                    _ => End::Slow,
                };
                self.drop_client(reactor, token, end);
            }
        }
    }

    fn fill(&mut self, reactor: &mut Reactor) -> bool {
        let mut more = false;
        for is_admin in [false, true] {
            let listener = if is_admin { self.listeners.admin.as_ref() } else { Some(&self.listeners.queue) };
            if listener.is_some_and(Listener::is_ready) {
                more |= self.accept(reactor, is_admin);
            }
        }
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
        self.grant(reactor);
        for token in std::mem::take(&mut self.dirty) {
            self.write(reactor, token);
        }
        // What writing gave back may have gone to somebody else.
        self.grant(reactor);
        reactor.timers.set(TIMER_GATES, self.gates.poll_timeout());
        let refresh = self.discord.as_ref().and_then(|(refresh, _)| refresh.due_for(self.gates.own()));
        reactor.timers.set(TIMER_REFRESH, refresh);
        if self.stopping && self.failure.is_none() {
            log::info!("stopped; {} who waited are not answered", self.gates.waiting());
        }
        !self.stopping
    }
}
