//! The identify queue that several processes share: a connection per shard that waits.
//!
//! ```text
//! Want ---> dial ---> request sent ---> permit: the shard may identify ---> reports, if the service wants them
//!             ^            |                                                  identified, answered | returned
//!             +-- pause <--+ no answer, or one that is no permit: ask again
//! ```
//!
//! What never happens here: a permit that the service has not given.

use std::collections::{HashMap, VecDeque};
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::super::backoff::Backoff;
use super::super::dial::Dial;
use super::super::home::{Message, Reactor};
use super::super::key::{Key, Owner, next_generation};
use super::{Wish, shard_of};
use crate::base::Rng;
use crate::http::Asker;
use crate::queue::{Answer, Ask, Endpoint, Refresh, Report, SessionStartLimit, ToldLimit, Whom};
use crate::reactor::{Fill, Readiness, Resolver, Socket};
use crate::status::figures::Identify;

/// The first pause after a failure. As many may ask again at a time as there are shards, so there is jitter in it.
const RETRY_MIN: Duration = Duration::from_secs(1);

/// The longest pause: a service that is back is noticed within this.
const RETRY_MAX: Duration = Duration::from_secs(30);

/// How long finding and reaching the service may take, all its addresses together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a connection stays for reports after its permit came. An IDENTIFY is sent at once and answered within
/// seconds; the service waits no longer either.
const REPORT_TIMEOUT: Duration = Duration::from_secs(15);

/// Between two lines about a service that does not answer.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(60);

/// What the requests say.
#[derive(Clone, Debug)]
pub struct RemoteOptions {
    /// Where the service is.
    pub endpoint: Endpoint,
    /// Shards of the bot.
    pub shard_count: u32,
    /// Its buckets.
    pub max_concurrency: u32,
    /// SHA-256 of its token, in hexadecimal digits.
    pub token_hash: String,
}

/// What Discord said of session starts, and when it was asked.
struct Told {
    limit: SessionStartLimit,
    asked_at: Instant,
}

enum Stage {
    /// The service is being found and reached.
    Dialing(Dial),
    /// The request is on its way, or waits there.
    Waiting { socket: Socket, ask: Box<Ask>, sent: usize, since: Instant },
    /// The permit is here; what became of it is reported.
    Reporting { socket: Socket, permit: u64, out: Vec<u8>, is_last: bool },
    /// Until the deadline.
    Pausing,
}

struct Asking {
    ticket: u64,
    stage: Stage,
    backoff: Backoff,
    /// When the connection must stand.
    connect_by: Instant,
}

/// Asks for permits.
pub struct Remote {
    options: RemoteOptions,
    told: Told,
    refresh: Refresh,
    asker: Asker,
    /// Permits that were used here: after one, Discord has something new to say.
    used: u64,
    resolver: Resolver,
    askings: Vec<Option<Asking>>,
    generation: u32,
    by_ticket: HashMap<u64, usize>,
    granted: VecDeque<u64>,
    rng: Rng,
    complained: Option<Instant>,
    failures: u64,
}

impl Remote {
    /// Asks the queue that `options` name. Discord said `limit` when it was asked at `asked_at`, and is asked again
    /// through `asker`: the queue may have no token of its own to ask with.
    pub fn new(
        options: RemoteOptions,
        limit: SessionStartLimit,
        asked_at: Instant,
        asker: Asker,
        resolver: Resolver,
        seed: u64,
    ) -> Remote {
        let mut refresh = Refresh::default();
        refresh.asked(asked_at, 0);
        refresh.told(asked_at, true);
        Remote {
            options,
            told: Told { limit, asked_at },
            refresh,
            asker,
            used: 0,
            resolver,
            askings: Vec::new(),
            generation: 0,
            by_ticket: HashMap::new(),
            granted: VecDeque::new(),
            rng: Rng::new(seed),
            complained: None,
            failures: 0,
        }
    }

    /// Passes a shard's wish on.
    pub fn handle(&mut self, reactor: &mut Reactor, wish: Wish) {
        match (wish, wish.report()) {
            (Wish::Want(ticket), _) if !self.by_ticket.contains_key(&ticket) => {
                let asking = Asking {
                    ticket,
                    stage: Stage::Pausing,
                    backoff: Backoff::new(RETRY_MIN, RETRY_MAX, self.rng.next_u64()),
                    connect_by: reactor.turn.now,
                };
                let free = self.askings.iter().position(Option::is_none);
                let index = free.unwrap_or_else(|| {
                    self.askings.push(None);
                    self.askings.len() - 1
                });
                self.askings[index] = Some(asking);
                self.by_ticket.insert(ticket, index);
                self.dial(reactor, index);
            }
            (_, Some((ticket, report))) => {
                if let Some(&index) = self.by_ticket.get(&ticket) {
                    self.report(reactor, index, report);
                }
            }
            _ => {}
        }
    }

    /// The next ticket that is let through.
    pub fn poll_permit(&mut self) -> Option<u64> {
        self.granted.pop_front()
    }

    /// What is shown of it. The day's rest is what Discord last said, as the queue is somebody else's.
    pub fn figures(&self) -> Identify {
        let limit = &self.told.limit;
        let waits = |asking: &Asking| !matches!(asking.stage, Stage::Reporting { .. });
        Identify {
            remaining: limit.remaining,
            total: limit.total,
            max_concurrency: limit.max_concurrency,
            waiting: self.askings.iter().flatten().filter(|asking| waits(asking)).count() as u64,
            granted: self.used,
            reset_at: (limit.remaining < limit.total).then(|| self.told.asked_at + limit.reset_after),
            is_remote: true,
        }
    }

    /// When to call [`Remote::ask_discord`].
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.refresh.due(self.used, false)
    }

    /// Asks Discord how many session starts are left, if it is time.
    pub fn ask_discord(&mut self, now: Instant) {
        if self.poll_timeout().is_some_and(|at| at <= now) {
            self.refresh.asked(now, self.used);
            self.asker.ask();
        }
    }

    /// Discord has said again how many session starts are left.
    pub fn told(&mut self, now: Instant, limit: Option<SessionStartLimit>) {
        let asked_at = self.refresh.told(now, limit.is_some());
        if let Some(limit) = limit {
            self.options.max_concurrency = limit.max_concurrency;
            self.told = Told { limit, asked_at };
        }
    }

    /// The resolver's answer for the dial with this token.
    pub fn resolved(&mut self, reactor: &mut Reactor, token: usize, found: io::Result<Vec<SocketAddr>>) {
        let Key { index, .. } = Key::unpack(token);
        let now = reactor.turn.now;
        let Some(Some(Asking { stage: Stage::Dialing(dial), .. })) = self.askings.get_mut(index) else {
            return;
        };
        if dial.token() != token {
            return;
        }
        match dial.resolved(reactor.registry(), now, found) {
            Ok(()) => self.arm(reactor, index),
            Err(error) => self.failed(reactor, index, &error.to_string()),
        }
    }

    /// The socket with this token became ready.
    pub fn on_ready(&mut self, reactor: &mut Reactor, token: usize, ready: Readiness) {
        let Key { index, .. } = Key::unpack(token);
        let Some(Some(asking)) = self.askings.get_mut(index) else { return };
        match &mut asking.stage {
            Stage::Dialing(dial) if dial.token() == token => {
                dial.note(ready);
                self.poll_dial(reactor, index);
            }
            // Their token is not kept: an event of an earlier connection leads to one read in vain.
            Stage::Waiting { socket, .. } | Stage::Reporting { socket, .. } => {
                socket.note(ready);
                self.go_on(reactor, index);
            }
            Stage::Dialing(_) | Stage::Pausing => {}
        }
    }

    /// The deadline of a request has passed.
    pub fn on_deadline(&mut self, reactor: &mut Reactor, index: usize) {
        let now = reactor.turn.now;
        let Some(Some(asking)) = self.askings.get_mut(index) else { return };
        match &mut asking.stage {
            Stage::Pausing => self.dial(reactor, index),
            Stage::Dialing(_) if asking.connect_by <= now => {
                self.failed(reactor, index, "it cannot be reached in time");
            }
            Stage::Dialing(dial) => match dial.attempt_timed_out(reactor.registry(), now) {
                Ok(()) => self.arm(reactor, index),
                Err(error) => self.failed(reactor, index, &error.to_string()),
            },
            Stage::Reporting { .. } => self.remove(reactor, index),
            Stage::Waiting { .. } => {}
        }
    }

    fn dial(&mut self, reactor: &mut Reactor, index: usize) {
        let Some(Some(asking)) = self.askings.get_mut(index) else { return };
        self.generation = next_generation(self.generation);
        let token = Key { owner: Owner::Asking, generation: self.generation, index }.pack();
        asking.stage = Stage::Dialing(Dial::new(token));
        asking.connect_by = reactor.turn.now + CONNECT_TIMEOUT;
        let (mesh, thread) = (reactor.mesh().clone(), reactor.thread);
        let (host, port) = (self.options.endpoint.host(), self.options.endpoint.port());
        self.resolver.resolve(host, port, move |found| mesh.post(thread, Message::Resolved(token, found)));
        self.arm(reactor, index);
    }

    /// Sets the timer of a dial.
    fn arm(&self, reactor: &mut Reactor, index: usize) {
        let Some(Some(asking)) = self.askings.get(index) else { return };
        if let Stage::Dialing(dial) = &asking.stage {
            let deadline = dial.deadline.map_or(asking.connect_by, |at| at.min(asking.connect_by));
            reactor.timers.set(Key::timer(Owner::Asking, index), Some(deadline));
        }
    }

    fn poll_dial(&mut self, reactor: &mut Reactor, index: usize) {
        let now = reactor.turn.now;
        let Some(Some(asking)) = self.askings.get_mut(index) else { return };
        let Stage::Dialing(dial) = &mut asking.stage else { return };
        match dial.poll(reactor.registry(), now) {
            Ok(None) => self.arm(reactor, index),
            Ok(Some(socket)) => {
                // Silence of hours is normal here; a service that is gone must not look like it.
                let _ = socket.keep_alive();
                let ask = match Ask::with_feedback(
                    &self.options.endpoint,
                    &whom(&self.options, &self.told, asking.ticket, now),
                ) {
                    Ok(ask) => Box::new(ask),
                    // Every placeholder has a value here.
                    Err(error) => return self.failed(reactor, index, &error.to_string()),
                };
                asking.stage = Stage::Waiting { socket, ask, sent: 0, since: now };
                reactor.timers.set(Key::timer(Owner::Asking, index), None);
                self.go_on(reactor, index);
            }
            Err(error) => self.failed(reactor, index, &error.to_string()),
        }
    }

    /// Writes and reads as far as the socket lets.
    fn go_on(&mut self, reactor: &mut Reactor, index: usize) {
        let Some(Some(asking)) = self.askings.get_mut(index) else { return };
        match &mut asking.stage {
            Stage::Waiting { socket, ask, sent, .. } => match wait(socket, ask, sent) {
                Ok(Answer::Waiting) => {}
                Ok(Answer::Permit) => self.permitted(reactor, index),
                Ok(Answer::Refused(refusal)) => self.failed(reactor, index, &refusal.to_string()),
                Err(error) => self.failed(reactor, index, &error.to_string()),
            },
            Stage::Reporting { socket, out, is_last, .. } => {
                // The answers say nothing; their end says that the reports have arrived.
                if !matches!(report(socket, out, *is_last), Ok(true)) {
                    self.remove(reactor, index);
                }
            }
            Stage::Dialing(_) | Stage::Pausing => {}
        }
    }

    fn permitted(&mut self, reactor: &mut Reactor, index: usize) {
        let Some(Some(asking)) = self.askings.get_mut(index) else { return };
        if self.complained.take().is_some() {
            log::info!("the identify queue at {} answers again", self.options.endpoint);
        }
        self.granted.push_back(asking.ticket);
        self.used += 1;
        match std::mem::replace(&mut asking.stage, Stage::Pausing) {
            Stage::Waiting { socket, ask, .. } if ask.permit_number().is_some() => {
                let permit = ask.permit_number().unwrap_or_default();
                asking.stage = Stage::Reporting { socket, permit, out: Vec::new(), is_last: false };
                let deadline = reactor.turn.now + REPORT_TIMEOUT;
                reactor.timers.set(Key::timer(Owner::Asking, index), Some(deadline));
            }
            _ => self.remove(reactor, index),
        }
    }

    fn report(&mut self, reactor: &mut Reactor, index: usize, report: Report) {
        let Some(Some(asking)) = self.askings.get_mut(index) else { return };
        let Stage::Reporting { permit, out, is_last, .. } = &mut asking.stage else {
            // It waits, or was not even asked for: the place is given up by closing.
            return self.remove(reactor, index);
        };
        let whom = whom(&self.options, &self.told, asking.ticket, reactor.turn.now);
        if let Ok(request) = report.request(&self.options.endpoint, &whom, *permit) {
            out.extend_from_slice(&request);
        }
        *is_last |= report != Report::Identified;
        self.go_on(reactor, index);
    }

    fn failed(&mut self, reactor: &mut Reactor, index: usize, why: &str) {
        let now = reactor.turn.now;
        let waiting = self.by_ticket.len();
        let Some(Some(asking)) = self.askings.get_mut(index) else { return };
        if let Stage::Waiting { since, .. } = asking.stage
            && since + RETRY_MAX < now
        {
            // It was there for long: this is no failure like those before.
            asking.backoff.reset();
        }
        let pause = asking.backoff.next_wait();
        asking.stage = Stage::Pausing;
        reactor.timers.set(Key::timer(Owner::Asking, index), Some(now + pause));
        self.failures += 1;
        if self.complained.is_none_or(|at| at + COMPLAINT_INTERVAL <= now) {
            self.complained = Some(now);
            log::warn!(
                shard = shard_of(asking.ticket);
                "no permit from the identify queue at {}: {why}; asking again ({waiting} shards wait, {} failures so far)",
                self.options.endpoint,
                self.failures
            );
        }
    }

    fn remove(&mut self, reactor: &mut Reactor, index: usize) {
        reactor.timers.set(Key::timer(Owner::Asking, index), None);
        if let Some(asking) = self.askings.get_mut(index).and_then(Option::take) {
            self.by_ticket.remove(&asking.ticket);
        }
    }
}

fn whom<'a>(options: &'a RemoteOptions, told: &Told, ticket: u64, now: Instant) -> Whom<'a> {
    let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    Whom {
        shard_id: shard_of(ticket).into(),
        shard_count: options.shard_count.into(),
        max_concurrency: Some(options.max_concurrency),
        token_hash: Some(&options.token_hash),
        limit: Some(ToldLimit {
            total: told.limit.total,
            remaining: told.limit.remaining,
            reset_after_ms: ms(told.limit.reset_after),
            age_ms: ms(now.saturating_duration_since(told.asked_at)),
        }),
    }
}

/// Sends what is left of the request and reads what there is of the answer.
fn wait(socket: &mut Socket, ask: &mut Ask, sent: &mut usize) -> io::Result<Answer> {
    while *sent < ask.request().len() && socket.is_writable() {
        *sent += socket.write(&[IoSlice::new(&ask.request()[*sent..])])?;
    }
    let mut buffer = [0; 1024];
    while socket.is_readable() {
        let answer = match socket.fill(&mut buffer)? {
            Fill::Bytes(count) => ask.receive(&buffer[..count]),
            Fill::Blocked => break,
            Fill::Ended => ask.ended(),
        };
        if answer != Answer::Waiting {
            return Ok(answer);
        }
    }
    Ok(Answer::Waiting)
}

/// Sends what is left of the reports and reads past their answers. False once the service has ended the connection.
fn report(socket: &mut Socket, out: &mut Vec<u8>, is_last: bool) -> io::Result<bool> {
    while !out.is_empty() && socket.is_writable() {
        let count = socket.write(&[IoSlice::new(out)])?;
        out.drain(..count);
    }
    if is_last && out.is_empty() {
        socket.end_writing();
    }
    let mut buffer = [0; 1024];
    while socket.is_readable() {
        match socket.fill(&mut buffer)? {
            Fill::Bytes(_) => {}
            Fill::Blocked => break,
            Fill::Ended => return Ok(false),
        }
    }
    Ok(true)
}
