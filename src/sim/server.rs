//! The machine on real sockets: REST, WebSocket and admin routes on one port, a few threads with an epoll each.
//!
//! All threads share the machine behind a lock and own their connections. Outputs are handed out while the lock is
//! held, into the inbox of the thread that owns the connection, so that a connection's order is the machine's.
//! Thread 0 accepts and keeps the time.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mio::net::{TcpListener, TcpStream};
use mio::{Poll, Token, Waker};
use parking_lot::Mutex;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::clock::now;
use super::connection::Tools;
use super::event_loop::EventLoop;
use super::recording::{Compression, Recording};
use super::sends::Sends;
use super::{ConnectionId, Discord, Fault, FaultSpec, Ledger, Options, Output};

pub(super) const LISTENER: Token = Token(usize::MAX);
pub(super) const WAKER: Token = Token(usize::MAX - 1);
/// Messages in a recording: well above the 32 KiB window, and what a bot sees in some seconds.
const RECORDING_EVENTS: usize = 2000;
/// Recordings that are made, one per identity and compression; further identities share them, and then see guilds
/// of other shards. Each costs about 1 MiB and 50 ms.
const RECORDINGS_MAX: usize = 64;

/// How the server is set up.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// Where to listen; port 0 picks one.
    pub addr: SocketAddr,
    /// Certificate chain and key, both PEM; without them plain `http` and `ws`.
    pub tls: Option<(Vec<u8>, Vec<u8>)>,
    /// Threads, each with a share of the connections.
    pub threads: usize,
    /// What the machine is like. With `recorded` its `rate` is played from recordings (0: as fast as the sockets
    /// take it); an empty `gateway_url` becomes the server's own.
    pub discord: Options,
    /// Faults with their times.
    pub faults: Vec<FaultSpec>,
    /// Split zlib messages over several WebSocket messages, also within the suffix.
    pub split: bool,
    /// A file to be made of when recorded dispatches were sent.
    pub sends: Option<PathBuf>,
}

impl Default for ServerOptions {
    fn default() -> ServerOptions {
        ServerOptions {
            addr: SocketAddr::from(([127, 0, 0, 1], 0)),
            tls: None,
            threads: 1,
            discord: Options { gateway_url: String::new(), ..Options::default() },
            faults: Vec::new(),
            split: false,
            sends: None,
        }
    }
}

/// Compression and (shard_id, shard_count, intents).
type RecordingKey = (Compression, (u32, u32, u64));

pub(super) enum Mail {
    Socket(TcpStream),
    Output(Output),
}

/// What the threads share.
pub(super) struct Shared {
    pub discord: Mutex<Discord>,
    pub inboxes: Vec<Mutex<Vec<Mail>>>,
    wakers: Vec<Waker>,
    pub stop: AtomicBool,
    pub split: AtomicBool,
    pub recorded: bool,
    pub record_rate: Option<f64>,
    /// Connections that play, over all threads.
    pub playing: AtomicU64,
    pub bytes_out: AtomicU64,
    pub frames_out: AtomicU64,
    pub tls: Option<Arc<rustls::ServerConfig>>,
    pub sends: Option<Sends>,
    recordings: Mutex<HashMap<RecordingKey, Arc<Recording>>>,
    pub started: Instant,
}

impl Shared {
    pub fn wake(&self, thread: usize) {
        if let Some(waker) = self.wakers.get(thread) {
            let _ = waker.wake(); // Fails only when the thread's epoll is gone, and then no one is there to wake.
        }
    }

    /// The thread that owns a connection.
    pub fn owner(&self, id: ConnectionId) -> usize {
        (id % self.inboxes.len() as u64) as usize
    }

    /// Hands the machine's outputs to the threads of their connections.
    pub fn distribute(&self, discord: &mut Discord, here: Option<usize>) {
        while let Some(output) = discord.poll_output() {
            let (Output::Text { connection, .. }
            | Output::Recorded { connection, .. }
            | Output::Close { connection, .. }) = output;
            let owner = self.owner(connection);
            let mut inbox = self.inboxes[owner].lock();
            let was_empty = inbox.is_empty();
            inbox.push(Mail::Output(output));
            drop(inbox);
            if was_empty && here != Some(owner) {
                self.wake(owner);
            }
        }
    }

    /// Locks the machine, acts, and sends what came of it.
    pub fn act<R>(&self, here: Option<usize>, act: impl FnOnce(&mut Discord, Instant) -> R) -> R {
        let mut discord = self.discord.lock();
        let result = act(&mut discord, now());
        self.distribute(&mut discord, here);
        result
    }

    /// The recording for an identity, made now if there is none.
    pub fn recording(
        &self,
        compression: Compression,
        identity: (u32, u32, u64),
    ) -> io::Result<Arc<Recording>> {
        let mut recordings = self.recordings.lock();
        if let Some(recording) = recordings.get(&(compression, identity)) {
            return Ok(recording.clone());
        }
        if recordings.len() >= RECORDINGS_MAX {
            let near = recordings.iter().filter(|((c, i), _)| *c == compression && i.2 == identity.2);
            if let Some((_, recording)) =
                near.min_by_key(|((_, i), _)| i.0.abs_diff(identity.0 % RECORDINGS_MAX as u32))
            {
                return Ok(recording.clone());
            }
        }
        let events = self.discord.lock().recorded_events(identity, RECORDING_EVENTS);
        let recording = Arc::new(Recording::new(compression, &events)?);
        recordings.insert((compression, identity), recording.clone());
        Ok(recording)
    }
}

/// A running stand-in. Dropping it stops it.
pub struct Server {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    addr: SocketAddr,
    tls: bool,
}

impl Server {
    /// Listens and starts the threads.
    ///
    /// # Errors
    /// When the address cannot be bound, the certificate or key is unusable, the file of [`ServerOptions::sends`] cannot
    /// be made, or the system is out of resources.
    pub fn start(options: ServerOptions) -> io::Result<Server> {
        let tls = options.tls.as_ref().map(|(cert, key)| tls_config(cert, key)).transpose()?;
        let mut listener = TcpListener::bind(options.addr)?;
        let addr = listener.local_addr()?;
        let mut discord = options.discord;
        if discord.gateway_url.is_empty() {
            discord.gateway_url = format!("{}://{addr}", if tls.is_some() { "wss" } else { "ws" });
        }
        let recorded = discord.recorded;
        let record_rate = (discord.rate > 0.0).then_some(discord.rate);
        let threads = options.threads.clamp(1, 64);
        let mut polls = Vec::new();
        let mut wakers = Vec::new();
        for _ in 0..threads {
            let poll = Poll::new()?;
            wakers.push(Waker::new(poll.registry(), WAKER)?);
            polls.push(poll);
        }
        polls[0].registry().register(&mut listener, LISTENER, mio::Interest::READABLE)?;
        let started = now();
        let seed = discord.seed;
        let shared = Arc::new(Shared {
            discord: Mutex::new(Discord::new(discord, started)),
            inboxes: (0..threads).map(|_| Mutex::new(Vec::new())).collect(),
            wakers,
            stop: AtomicBool::new(false),
            split: AtomicBool::new(options.split),
            recorded,
            record_rate,
            playing: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
            frames_out: AtomicU64::new(0),
            tls: tls.clone(),
            sends: options.sends.as_deref().map(Sends::create).transpose()?,
            recordings: Mutex::new(HashMap::new()),
            started,
        });
        let mut server = Server { shared, threads: Vec::new(), addr, tls: tls.is_some() };
        let mut listener = Some(listener);
        for (index, poll) in polls.into_iter().enumerate() {
            let faults = if index == 0 { options.faults.clone() } else { Vec::new() };
            let event_loop = EventLoop::new(
                index,
                server.shared.clone(),
                poll,
                listener.take(),
                faults,
                Tools::new()?,
                seed.wrapping_add(index as u64),
            );
            let thread = std::thread::Builder::new().name(format!("sim-{index}"));
            server.threads.push(thread.spawn(move || event_loop.run())?);
        }
        Ok(server)
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// What `DISCORD_API_URL` has to be.
    pub fn api_url(&self) -> String {
        format!("{}://{}/api/v10", if self.tls { "https" } else { "http" }, self.addr)
    }

    /// Makes a fault happen now; false when the shard has nothing that it could hit.
    pub fn inject(&self, fault: Fault) -> bool {
        self.act(|discord, now| discord.inject(now, fault))
    }

    /// Whether zlib messages are split over several WebSocket messages from now on.
    pub fn set_split(&self, split: bool) {
        self.shared.split.store(split, Ordering::Relaxed);
    }

    /// A copy of what was seen so far.
    pub fn ledger(&self) -> Ledger {
        self.shared.discord.lock().ledger().clone()
    }

    /// Does anything with the machine; what it then has to say is sent.
    pub fn act<R>(&self, act: impl FnOnce(&mut Discord, Instant) -> R) -> R {
        let result = self.shared.act(None, act);
        self.shared.wake(0); // A deadline may have come nearer.
        result
    }

    /// Frames and bytes written so far.
    pub fn sent(&self) -> (u64, u64) {
        (self.shared.frames_out.load(Ordering::Relaxed), self.shared.bytes_out.load(Ordering::Relaxed))
    }

    /// Stops the threads and drops all connections without a close frame.
    pub fn stop(mut self) {
        self.shut_down();
    }

    fn shut_down(&mut self) {
        // Ordering: the wake-up that follows orders this store before the thread's load.
        self.shared.stop.store(true, Ordering::SeqCst);
        for index in 0..self.threads.len() {
            self.shared.wake(index);
        }
        for thread in self.threads.drain(..) {
            let _ = thread.join(); // A panic has printed itself.
        }
        if let Some(sends) = &self.shared.sends {
            sends.flush();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shut_down();
    }
}

fn tls_config(cert: &[u8], key: &[u8]) -> io::Result<Arc<rustls::ServerConfig>> {
    let certs =
        CertificateDer::pem_slice_iter(cert).collect::<Result<Vec<_>, _>>().map_err(io::Error::other)?;
    let key = PrivateKeyDer::from_pem_slice(key).map_err(io::Error::other)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_no_client_auth()
        .with_single_cert(certs, key)
        .map_err(io::Error::other)?;
    Ok(Arc::new(config))
}

/// Spreads a rate over time in whole events.
#[derive(Debug)]
pub(super) struct Credit {
    rate: f64,
    credit: f64,
    last: Instant,
}

impl Credit {
    pub fn new(rate: f64, now: Instant) -> Credit {
        Credit { rate, credit: 0.0, last: now }
    }

    /// Events due at `now` for a share of the whole rate; at most a tenth of a second's worth is caught up.
    pub fn take(&mut self, now: Instant, share: f64) -> u64 {
        let elapsed = now.saturating_duration_since(self.last).min(Duration::from_millis(100));
        self.last = now;
        self.credit += self.rate * share * elapsed.as_secs_f64();
        let whole = self.credit.floor().max(0.0);
        self.credit -= whole;
        whole as u64
    }

    /// How long after the last [`Credit::take`] the next event is due.
    pub fn wait(&self, share: f64) -> Duration {
        let due_s = (1.0 - self.credit).max(0.0) / (self.rate * share).max(1e-3);
        Duration::from_secs_f64(due_s)
    }
}
