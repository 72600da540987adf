//! One thread of the server: its connections, and what it does in a turn.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use rustls::ServerConnection;

use super::clock::{now, unix_ns};
use super::connection::{Arrival, Connection, Item, OUT_HIGH, Tools};
use super::recording::{Compression, Player};
use super::server::{Credit, LISTENER, Mail, Shared, WAKER};
use super::{ConnectionId, FaultSpec, Output, When, admin};
use crate::base::Rng;

/// How long a closed connection may take to end by itself.
const LINGER: Duration = Duration::from_secs(2);
/// A turn's sleep at most: other threads may have set nearer deadlines.
const SLEEP_MAX: Duration = Duration::from_millis(50);
/// A turn's sleep at most while recordings are played at a rate.
const SLEEP_PACED_MAX: Duration = Duration::from_millis(2);

pub(super) struct EventLoop {
    index: usize,
    shared: Arc<Shared>,
    poll: Poll,
    listener: Option<TcpListener>,
    faults: Vec<(Instant, FaultSpec)>,
    tools: Tools,
    split_rng: Rng,
    connections: HashMap<ConnectionId, Connection>,
    compressions: HashMap<ConnectionId, Compression>,
    playing: Vec<ConnectionId>,
    /// Whose turn it is in `playing` when playing at a rate.
    turn: usize,
    credit: Credit,
    next_id: ConnectionId,
    next_thread: usize,
    buffer: Vec<u8>,
    arrivals: Vec<Arrival>,
    mail: Vec<Mail>,
    /// Connections to look after in this turn.
    touched: Vec<ConnectionId>,
}

impl EventLoop {
    pub fn new(
        index: usize,
        shared: Arc<Shared>,
        poll: Poll,
        listener: Option<TcpListener>,
        faults: Vec<FaultSpec>,
        tools: Tools,
        seed: u64,
    ) -> EventLoop {
        let start = shared.started;
        let due = |spec: &FaultSpec| match spec.when {
            When::Now => start,
            When::At(after) | When::Every(after) => start + after,
        };
        let threads = shared.inboxes.len() as u64;
        let rate = shared.record_rate.unwrap_or(0.0);
        EventLoop {
            index,
            poll,
            listener,
            faults: faults.into_iter().map(|spec| (due(&spec), spec)).collect(),
            tools,
            split_rng: Rng::new(seed),
            connections: HashMap::new(),
            compressions: HashMap::new(),
            playing: Vec::new(),
            turn: 0,
            credit: Credit::new(rate, start),
            next_id: threads + index as u64,
            next_thread: 0,
            buffer: vec![0; 64 * 1024],
            arrivals: Vec::new(),
            mail: Vec::new(),
            touched: Vec::new(),
            shared,
        }
    }

    pub fn run(mut self) {
        let mut events = Events::with_capacity(1024);
        let mut idle = true;
        while !self.shared.stop.load(Ordering::SeqCst) {
            let timeout = if idle { self.sleep() } else { Duration::ZERO };
            match self.poll.poll(&mut events, Some(timeout)) {
                Err(e) if e.kind() != io::ErrorKind::Interrupted => {
                    log::error!("the stand-in's poll failed: {e}");
                    return;
                }
                _ => {}
            }
            for event in &events {
                match event.token() {
                    LISTENER => self.accept(),
                    WAKER => {}
                    Token(token) => {
                        let id = token as ConnectionId;
                        if let Some(connection) = self.connections.get_mut(&id) {
                            connection.readable |= event.is_readable();
                            connection.writable |= event.is_writable();
                            self.touched.push(id);
                        }
                    }
                }
            }
            idle = self.turn();
        }
    }

    fn sleep(&self) -> Duration {
        if !self.playing.is_empty() && self.shared.record_rate.is_some() {
            // epoll waits in whole milliseconds, in which many events may be due: each is to come at its own time.
            std::thread::sleep(self.credit.wait(self.playing_share()).min(SLEEP_PACED_MAX));
            return Duration::ZERO;
        }
        if self.index > 0 {
            return SLEEP_MAX;
        }
        let deadline = self.shared.discord.lock().poll_timeout();
        let next = deadline.into_iter().chain(self.faults.iter().map(|(at, _)| *at)).min();
        next.map_or(SLEEP_MAX, |at| at.saturating_duration_since(now()).min(SLEEP_MAX))
    }

    /// One turn after the events were noted; false when there is more to do at once.
    fn turn(&mut self) -> bool {
        let at = now();
        if self.index == 0 {
            self.keep_time(at);
        }
        self.collect();
        let mut again = false;
        let mut ids = std::mem::take(&mut self.touched);
        ids.sort_unstable();
        ids.dedup();
        for id in ids.drain(..) {
            again |= self.attend(id, at);
        }
        // Attending may have given work to connections of this thread.
        self.collect();
        std::mem::swap(&mut ids, &mut self.touched);
        ids.sort_unstable();
        ids.dedup();
        for id in ids.drain(..) {
            again |= self.write(id, at);
        }
        again |= self.play(at);
        self.bury(at);
        !again && self.touched.is_empty()
    }

    fn keep_time(&mut self, at: Instant) {
        let mut due = Vec::new();
        self.faults.retain_mut(|(when, spec)| {
            if *when > at {
                return true;
            }
            due.push(spec.clone());
            match spec.when {
                When::Every(interval) => {
                    *when = (*when + interval).max(at);
                    true
                }
                When::Now | When::At(_) => false,
            }
        });
        self.shared.act(Some(self.index), |discord, now| {
            for spec in &due {
                let hit = discord.inject_spec(now, spec);
                log::info!("fault {:?} hit {hit}", spec.fault);
            }
            discord.handle_deadline(now);
        });
    }

    /// Takes sockets and outputs out of the inbox.
    fn collect(&mut self) {
        std::mem::swap(&mut self.mail, &mut *self.shared.inboxes[self.index].lock());
        let mut mail = std::mem::take(&mut self.mail);
        for item in mail.drain(..) {
            self.open(item);
        }
        self.mail = mail;
    }

    fn open(&mut self, mail: Mail) {
        match mail {
            Mail::Socket(socket) => self.adopt(socket),
            Mail::Output(output) => {
                let (id, item) = match output {
                    Output::Text { connection, payload } => (connection, Some(Item::Text(payload))),
                    Output::Recorded { connection, first, count } => {
                        (connection, Some(Item::Recorded { first, count }))
                    }
                    Output::Close { connection, code } => (connection, code.map(Item::Close)),
                };
                let Some(connection) = self.connections.get_mut(&id) else { return };
                match item {
                    Some(item @ Item::Recorded { .. }) => {
                        self.start_playing(id);
                        if let Some(connection) = self.connections.get_mut(&id) {
                            connection.push(item);
                        }
                    }
                    Some(item) => connection.push(item),
                    None => connection.dead = true,
                }
                self.touched.push(id);
            }
        }
    }

    fn accept(&mut self) {
        while let Some(listener) = &self.listener {
            match listener.accept() {
                Ok((socket, _)) => {
                    let thread = self.next_thread;
                    self.next_thread = (thread + 1) % self.shared.inboxes.len();
                    if thread == self.index {
                        self.adopt(socket);
                    } else {
                        self.shared.inboxes[thread].lock().push(Mail::Socket(socket));
                        self.shared.wake(thread);
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return, // Would block, or out of descriptors: the next event tries again.
            }
        }
    }

    fn adopt(&mut self, mut socket: TcpStream) {
        let tls = match self.shared.tls.clone().map(ServerConnection::new).transpose() {
            Ok(tls) => tls,
            Err(e) => return log::error!("no TLS for a connection: {e}"),
        };
        let id = self.next_id;
        self.next_id += self.shared.inboxes.len() as u64;
        let _ = socket.set_nodelay(true);
        let both = Interest::READABLE | Interest::WRITABLE;
        if self.poll.registry().register(&mut socket, Token(id as usize), both).is_ok() {
            self.connections.insert(id, Connection::new(socket, tls));
            self.touched.push(id);
        }
    }

    /// Reads a connection and acts on what arrived; true when more is left to read.
    fn attend(&mut self, id: ConnectionId, at: Instant) -> bool {
        let Some(mut connection) = self.connections.remove(&id) else { return false };
        if connection.readable && (!connection.is_websocket() || self.shared.discord.lock().reads(id)) {
            let mut arrivals = std::mem::take(&mut self.arrivals);
            connection.read(&mut self.buffer, &mut arrivals);
            // An answer can uncover the next request, so the list may grow while it is worked off.
            while !arrivals.is_empty() {
                for arrival in std::mem::take(&mut arrivals) {
                    self.arrive(id, &mut connection, arrival, &mut arrivals);
                }
            }
            self.arrivals = arrivals;
        }
        let again = connection.readable && !connection.dead && self.shared.discord.lock().reads(id);
        self.connections.insert(id, connection);
        if again {
            self.touched.push(id);
        }
        self.write(id, at) || again
    }

    fn arrive(
        &mut self,
        id: ConnectionId,
        connection: &mut Connection,
        arrival: Arrival,
        more: &mut Vec<Arrival>,
    ) {
        match arrival {
            Arrival::Payload(payload) => {
                self.shared.act(Some(self.index), |discord, now| {
                    discord.handle_text(now, id, &payload);
                    connection.compress_payloads = discord.compresses_payloads(id);
                });
                if self.shared.recorded {
                    self.begin_player(id, connection);
                }
            }
            Arrival::Closed(code) => {
                self.shared.act(Some(self.index), |discord, now| discord.handle_close(now, id, code))
            }
            Arrival::Request { method, path, websocket_key: Some(key), .. } if method == "GET" => {
                let query = path.split_once('?').map_or("", |(_, query)| query).to_owned();
                let compression = if query.contains("compress=zlib-stream") {
                    Compression::Zlib
                } else if query.contains("compress=zstd-stream") {
                    Compression::Zstd
                } else {
                    Compression::None
                };
                if connection.upgrade(&key, compression, self.shared.recorded).is_err() {
                    connection.dead = true;
                    return;
                }
                self.compressions.insert(id, compression);
                self.shared.act(Some(self.index), |discord, now| discord.accept(now, id, &query));
                connection.take_early(more);
            }
            Arrival::Request { method, path, authorization, body, .. } => {
                let response = match path.strip_prefix("/_sim") {
                    Some(rest) => admin::answer(&self.shared, &method, rest, &body),
                    None => self.shared.act(Some(self.index), |discord, now| {
                        discord.rest(now, &method, &path, authorization.as_deref())
                    }),
                };
                connection.respond(&response, more);
            }
        }
    }

    /// Gives a connection that has a session now the recording that it will hear.
    fn begin_player(&mut self, id: ConnectionId, connection: &mut Connection) {
        if connection.player.is_some() {
            return;
        }
        let identity = self.shared.discord.lock().identity_of(id);
        let Some(identity) = identity else { return };
        let compression = self.compressions.get(&id).copied().unwrap_or(Compression::None);
        match self.shared.recording(compression, identity) {
            Ok(recording) => {
                connection.player = Some(Player::new(recording));
                self.start_playing(id);
            }
            Err(e) => log::error!("no recording: {e}"),
        }
    }

    fn start_playing(&mut self, id: ConnectionId) {
        if !self.playing.contains(&id) {
            self.playing.push(id);
            self.shared.playing.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Fills and flushes a connection; true when it could write more at once.
    fn write(&mut self, id: ConnectionId, at: Instant) -> bool {
        self.set_split();
        let Some(connection) = self.connections.get_mut(&id) else { return false };
        connection.fill(&mut self.tools);
        connection.flush();
        if connection.closing && connection.linger_until.is_none() {
            connection.linger_until = Some(at + LINGER);
        }
        let again = connection.wants_to_write() && connection.writable;
        if again {
            self.touched.push(id);
        }
        again
    }

    fn set_split(&mut self) {
        let split = self.shared.split.load(Ordering::Relaxed);
        if split != self.tools.split.is_some() {
            self.tools.split = split.then(|| self.split_rng.clone());
        }
    }

    /// This thread's part of all connections that play.
    fn playing_share(&self) -> f64 {
        let all = self.shared.playing.load(Ordering::Relaxed).max(1);
        self.playing.len() as f64 / all as f64
    }

    /// Plays recordings; true when a connection could take more at once.
    fn play(&mut self, at: Instant) -> bool {
        if self.playing.is_empty() {
            return false;
        }
        let share = self.playing_share();
        let mut quota = self.shared.record_rate.map(|_| self.credit.take(at, share));
        if quota == Some(0) {
            return false;
        }
        let count = self.playing.len();
        // At a rate each gets its share of the quota, beginning with whose turn it is.
        let each = quota.map_or(u64::MAX, |quota| quota.div_ceil(count as u64));
        let mut parts = Vec::new();
        {
            let shared = self.shared.clone();
            let mut discord = shared.discord.lock();
            // What the machine said before has lower numbers, so it goes first.
            self.collect();
            for n in 0..count {
                let id = self.playing[(self.turn + n) % count];
                let Some(connection) = self.connections.get_mut(&id) else { continue };
                let Some(player) = &connection.player else { continue };
                let room =
                    OUT_HIGH.saturating_sub(connection.backlog()) / player.recording().frame_bytes().max(1);
                if room == 0 || !connection.pending.is_empty() || !connection.writable || connection.closing {
                    continue;
                }
                let take = each.min(room as u64).min(quota.unwrap_or(u64::MAX));
                if take == 0 {
                    self.turn = (self.turn + n) % count;
                    break;
                }
                if let Some(first) = discord.play(id, take) {
                    let shard = shared.sends.as_ref().and_then(|_| discord.identity_of(id));
                    parts.push((id, first, take, shard.map(|identity| identity.0)));
                    quota = quota.map(|quota| quota - take);
                }
            }
        }
        let mut again = false;
        for (id, first, take, shard) in parts {
            let Some(connection) = self.connections.get_mut(&id) else { continue };
            for seq in first..first + take {
                connection.play(seq, &mut self.tools);
            }
            if let (Some(sends), Some(shard)) = (&self.shared.sends, shard) {
                sends.note(shard, take, first, unix_ns());
            }
            connection.flush();
            again |= quota.is_none() && connection.writable && !connection.dead;
        }
        again
    }

    /// Removes connections that have ended.
    fn bury(&mut self, at: Instant) {
        let (mut bytes, mut frames) = (0, 0);
        let mut ended = Vec::new();
        for (&id, connection) in &mut self.connections {
            bytes += std::mem::take(&mut connection.bytes_out);
            frames += std::mem::take(&mut connection.frames_out);
            if connection.dead || connection.linger_until.is_some_and(|until| until <= at) {
                ended.push(id);
            }
        }
        self.shared.bytes_out.fetch_add(bytes, Ordering::Relaxed);
        self.shared.frames_out.fetch_add(frames, Ordering::Relaxed);
        for id in ended {
            let Some(mut connection) = self.connections.remove(&id) else { continue };
            let _ = self.poll.registry().deregister(connection.socket());
            self.compressions.remove(&id);
            if let Some(n) = self.playing.iter().position(|&other| other == id) {
                self.playing.swap_remove(n);
                self.turn = 0;
                self.shared.playing.fetch_sub(1, Ordering::Relaxed);
            }
            self.shared.act(Some(self.index), |discord, now| discord.handle_close(now, id, None));
        }
    }
}
