//! The process: asks Discord how to start, plans the clusters, starts the threads, waits for the end.
//!
//! This is the one place that sees [`Config`]; every module below gets the options that it needs. Which machine
//! owns which socket is in [`home`].

mod backoff;
mod broker;
mod cluster;
mod clusters;
mod dial;
mod figures;
mod home;
mod keeping;
mod key;
mod permits;
mod queries;
mod quiet;
mod recovery;
mod shard_slot;
mod shards;
mod shared;
mod spooling;
mod workers;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::amqp::Uri;
use crate::base::sha256_hex;
use crate::broker_server;
use crate::cache::{self, Cache};
use crate::config::{Config, Plan, plan};
use crate::gateway::{intents, shard};
use crate::http::{self, Asker, GatewayBot, fetch_gateway_bot};
use crate::queue;
use crate::reactor::{self, Coalesce, Mesh, Resolver, clock, open_files};
use crate::relay::task::TaskOptions;
use crate::relay::{EventFilter, ShardTask};
use crate::state::{Folder, OpenError};
use crate::status::{self, Board};
use crate::stream::{self, transport};

use home::{Home, Message, Resolvers};
use keeping::State;
use permits::{Own, Permits, Remote, RemoteOptions};
use shared::{ClusterPlan, Shared};

/// Discord's spacing of identifies in one bucket.
const IDENTIFY_SPACING: Duration = Duration::from_secs(5);

/// Files of a cluster in STATE_DIR that are open at a time: its sessions, and of its spool the cursor, a segment to write and
/// one to read.
const FILES_PER_CLUSTER: u64 = 4;

/// How often a folder that another process has is tried again.
const LOCK_POLL: Duration = Duration::from_millis(20);

/// Why the process ends with an error.
#[derive(Debug)]
pub enum Error {
    /// Discord did not say how to start.
    Http(http::Error),
    /// The settings and Discord's answer make no plan.
    Plan(crate::config::PlanError),
    /// Certificates that could not be used.
    Tls(String),
    /// The system refused something that the process cannot do without.
    Io(&'static str, io::Error),
    /// HTTP_ADDR cannot be listened on.
    Listen(SocketAddr, io::Error),
    /// The cache's memory, of that many bytes, was not to be had.
    Cache(usize, cache::arena::ReserveError),
    /// The broker within the process could not start.
    Broker(broker_server::Error),
    /// Discord refused the bot for good.
    Fatal(String),
}

impl std::error::Error for Error {}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Http(error) => write!(f, "{error}"),
            Error::Plan(error) => write!(f, "{error}"),
            Error::Tls(error) => write!(f, "TLS: {error}"),
            Error::Io(what, error) => write!(f, "{what}: {error}"),
            Error::Listen(address, error) => write!(f, "HTTP_ADDR {address}: cannot listen there: {error}"),
            Error::Cache(bytes, error) => write!(f, "CACHE_MEMORY of {bytes} bytes: {error}"),
            Error::Broker(error) => write!(f, "the broker of this process (no AMQP_URI is set): {error}"),
            Error::Fatal(why) => f.write_str(why),
        }
    }
}

/// Whom a signal has to reach: threads, once they run.
type StopTarget = Arc<Mutex<Option<Arc<Mesh<ShardTask, Message>>>>>;

fn tell_all(mesh: &Mesh<ShardTask, Message>, end_sessions: bool) {
    for thread in 0..mesh.threads() {
        mesh.post(thread, Message::Stop { end_sessions });
    }
}

/// The first signal stops in order, a second one at once.
fn watch_signals(stop: Arc<AtomicBool>, target: StopTarget, end_sessions: bool) -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    thread::Builder::new().name("signals".into()).spawn(move || {
        for _ in &mut signals {
            if stop.swap(true, Ordering::SeqCst) {
                log::warn!("stopped at once by a second signal");
                std::process::exit(1);
            }
            log::info!("stopping; a second signal stops at once");
            match &*target.lock() {
                Some(mesh) => tell_all(mesh, end_sessions),
                // Discord has not even said how to start: nothing is held, and a request may hang for long.
                None => std::process::exit(0),
            }
        }
    })?;
    Ok(())
}

/// What the command line asks for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Flags {
    /// A stop gives the sessions up: the bot goes offline at once.
    pub end_sessions: bool,
}

/// Runs the gateway until a signal or a fatal refusal.
///
/// # Errors
/// When it could not start, or Discord refuses the bot for good.
pub fn run(config: Config, flags: Flags) -> Result<(), Error> {
    run_with(config, flags, Arc::new(Board::new(clock::read().now)))
}

/// The same, with a board that somebody else looks at too.
///
/// # Errors
/// As [`run`].
pub fn run_with(config: Config, flags: Flags, board: Arc<Board>) -> Result<(), Error> {
    let end_sessions = flags.end_sessions;
    let stop = Arc::new(AtomicBool::new(false));
    let target = StopTarget::default();
    watch_signals(stop.clone(), target.clone(), end_sessions).map_err(|error| Error::Io("signals", error))?;

    // First of all: once the process that hands over has let go of it, its ports are free too.
    let state = state_folder(&config).map(Arc::new);
    if let Some((address, is_asked_for)) = config.http {
        let options = status::Options { address, is_asked_for, admin_token: config.admin_token.clone() };
        status::start(options, board.clone()).map_err(|error| Error::Listen(address, error))?;
    }
    let seed = seed()?;
    let asked_at = clock::read().now;
    let bot = match fetch_gateway_bot(&http_options(&config), seed, &stop) {
        Ok(bot) => bot,
        Err(http::Error::Stopped) => return Ok(()),
        Err(error) => return Err(Error::Http(error)),
    };
    let limit = &bot.session_start_limit;
    let plan = plan(bot.shards, limit.max_concurrency, &config).map_err(Error::Plan)?;
    for notice in &plan.notices {
        log::info!("{notice}");
    }
    log_plan(&plan, &bot);

    // A shard that waits for a shared queue has a connection there besides.
    let per_shard = if config.queue_url.is_some() { 2 } else { 1 };
    let per_cluster = 1 + if state.is_some() { FILES_PER_CLUSTER } else { 0 };
    let sockets = u64::from(plan.shards_here()) * per_shard
        + plan.clusters.len() as u64 * per_cluster
        + broker::sockets(&config)
        + if config.http.is_some() { status::CONNECTIONS_MAX as u64 } else { 0 };
    match open_files::raise_limit(sockets) {
        Ok(None) => {}
        Ok(Some(advice)) => log::warn!("{advice}"),
        Err(error) => log::warn!("cannot tell how many files may be open: {error}"),
    }
    if plan.clusters.len() < plan.clusters_total as usize && config.queue_url.is_none() {
        log::warn!(
            "this process runs {} of {} clusters and keeps to the identify limit by itself: let the processes of a bot \
             share a queue (QUEUE_URL), or start them one after another",
            plan.clusters.len(),
            plan.clusters_total
        );
    }
    let broker = broker::start(&config)?;
    let uris = broker.as_ref().map_or_else(|| config.amqp.clone(), |broker| vec![broker.uri().clone()]);
    let reactors = Mesh::with_threads(config.threads).map_err(|error| Error::Io("epoll", error))?;
    let mesh = reactors[0].mesh().clone();
    let mut permits = Some(permits(&config, &plan, &bot, asked_at, seed, &stop, &mesh, state.clone())?);
    let shared = Arc::new(shared(&config, &plan, &bot, uris.into(), mesh.clone(), state, board.clone())?);
    let process = figures::Process { shared: shared.clone(), mesh: mesh.clone() };
    board.begin(Box::new(process), config.threads, plan.shards_here() as usize, plan.clusters.len());
    // One for Discord and one for brokers: a dead name server of the one must not keep the other waiting.
    let resolver = || Resolver::start().map_err(|error| Error::Io("resolver threads", error));
    let resolvers = Resolvers { discord: resolver()?, brokers: resolver()? };

    let mut threads = Vec::new();
    for (index, mut reactor) in reactors.into_iter().enumerate() {
        reactor.coalesce = Coalesce::new(config.coalesce, reactor.turn.now);
        let (shared, resolvers, permits) = (shared.clone(), resolvers.clone(), permits.take());
        let seed = seed.wrapping_add(index as u64 + 1);
        let body = move || {
            let failed = shared.clone();
            let ran = catch_unwind(AssertUnwindSafe(|| {
                let mut home = Home::new(index, shared, resolvers, permits, reactor.turn, seed);
                home.start(&mut reactor);
                reactor::run(reactor, home)
            }));
            // A thread that ends early takes its clusters with it: the process stops, and whoever watches over it
            // starts it again.
            match ran {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => failed.fail(format!("epoll: {error}")),
                Err(_) => failed.fail("a thread ended by a bug in rateway".into()),
            }
        };
        let thread = thread::Builder::new().name(format!("reactor-{index}")).spawn(body);
        threads.push(thread.map_err(|error| Error::Io("reactor threads", error))?);
    }
    *target.lock() = Some(mesh.clone());
    for thread in threads {
        if thread.join().is_err() {
            shared.fail("a thread ended by a bug in rateway".into());
        }
    }
    if let Some(cache) = &shared.cache
        && let Err(error) = cache.close()
    {
        log::warn!("what is cached will be of no use after a start of the machine: {error}");
    }
    if let Some(broker) = broker {
        broker.stop();
    }
    match shared.failure.lock().take() {
        Some(why) => Err(Error::Fatal(why)),
        None => Ok(()),
    }
}

/// The queue that lets shards identify: the process' own, or the one of QUEUE_URL.
#[allow(clippy::too_many_arguments)] // Called once, with what `run` has found out.
fn permits(
    config: &Config,
    plan: &Plan,
    bot: &GatewayBot,
    asked_at: Instant,
    seed: u64,
    stop: &Arc<AtomicBool>,
    mesh: &Arc<Mesh<ShardTask, Message>>,
    state: State,
) -> Result<Permits, Error> {
    let limit = permits::limit_of(bot);
    let replies = mesh.clone();
    let asker = Asker::start(http_options(config), seed, stop.clone(), move |told| {
        replies.post(0, Message::SessionStarts(told));
    })
    .map_err(|error| Error::Io("threads", error))?;
    if let Some(endpoint) = &config.queue_url {
        let options = RemoteOptions {
            endpoint: endpoint.clone(),
            shard_count: plan.total,
            max_concurrency: limit.max_concurrency,
            token_hash: sha256_hex(config.token.expose()),
        };
        log::info!(
            "shards ask the identify queue at {endpoint}; IDENTIFY_RESERVE and IDENTIFY_SLACK_MS are that queue's"
        );
        let resolver = Resolver::start().map_err(|error| Error::Io("resolver threads", error))?;
        let remote = Remote::new(options, limit, asked_at, asker, resolver, seed);
        return Ok(Permits::Remote(Box::new(remote)));
    }
    if config.identify_reserve >= limit.total {
        log::warn!(
            "IDENTIFY_RESERVE keeps back all of the {} session starts a day: no shard will identify",
            limit.total
        );
    }
    let options = queue::Options {
        spacing: IDENTIFY_SPACING,
        slack: config.identify_slack,
        reserve: config.identify_reserve,
        requests_max: plan.shards_here() as usize,
        ..queue::Options::new(limit.max_concurrency, limit.total, limit.remaining, limit.reset_after)
    };
    Ok(Permits::Own(Box::new(Own::new(options, state, &limit, asked_at, asker))))
}

/// What REST needs to know.
fn http_options(config: &Config) -> http::Options {
    http::Options {
        api_url: config.discord_api_url.clone(),
        token: config.token.clone(),
        ca_pem: config.discord_ca.as_ref().map(|file| file.pem.clone()),
    }
}

/// The folder with what outlives the process. One that cannot be used is told of, and the process does without.
fn state_folder(config: &Config) -> Option<Folder> {
    let path = config.state_dir.as_ref()?;
    let deadline = clock::read().now + config.lock_wait;
    let mut is_told = false;
    loop {
        match Folder::open(path, "gateway") {
            Ok(folder) => return Some(folder),
            // It may be about to stop, to hand over what it has.
            Err(OpenError::Taken) if clock::read().now < deadline => {
                if !std::mem::replace(&mut is_told, true) {
                    log::info!("waiting for the rateway that has STATE_DIR {}", path.display());
                }
                thread::sleep(LOCK_POLL);
            }
            Err(OpenError::Taken) => {
                log::warn!(
                    "another rateway has STATE_DIR {}: this one keeps nothing over a restart",
                    path.display()
                );
                return None;
            }
            Err(OpenError::Io(error)) => {
                log::warn!("nothing is kept over a restart: STATE_DIR {}: {error}", path.display());
                return None;
            }
        }
    }
}

fn shared(
    config: &Config,
    plan: &Plan,
    bot: &GatewayBot,
    uris: Arc<[Uri]>,
    mesh: Arc<Mesh<ShardTask, Message>>,
    state: State,
    board: Arc<Board>,
) -> Result<Shared, Error> {
    let pem = |file: &Option<crate::config::CaFile>| file.as_ref().map(|file| file.pem.clone());
    let tls = |pem: Option<Vec<u8>>| {
        stream::tls::client_config(pem.as_deref()).map_err(|error| Error::Tls(error.to_string()))
    };
    let compression = config.compression;
    let mut query = "v=10&encoding=json".to_owned();
    if let Some(value) = compression.query_value() {
        query.push_str("&compress=");
        query.push_str(value);
    }
    let identity = keeping::identity(config.token.expose(), config.intents, &query);
    let shard_options = Arc::new(shard::Options {
        large_threshold: Some(config.large_threshold as u8),
        presence: config.presence.clone(),
        capabilities: config.capabilities,
        query,
        allow_plain: config.discord_api_url.starts_with("http://"),
        ..shard::Options::new(config.token.clone(), config.intents, plan.total, bot.url.clone())
    });
    let (cache, cached) = match config.cache_enabled {
        true => {
            let (cache, kept) = new_cache(config, plan, &state, identity)?;
            (Some(Arc::new(cache)), kept)
        }
        false => (None, Vec::new()),
    };
    let task_options = Arc::new(TaskOptions {
        transport: transport::Options {
            tls: tls(pem(&config.discord_ca))?,
            compression,
            limits: stream::Limits {
                message_bytes_max: config.message_bytes_max,
                inflated_bytes_max: config.inflated_bytes_max,
            },
            user_agent: http::USER_AGENT.to_owned(),
        },
        cache: cache.clone(),
    });
    let clusters = plan
        .clusters
        .iter()
        .map(|cluster| ClusterPlan { number: cluster.number, shards: cluster.shards.clone() })
        .collect();
    Ok(Shared {
        clusters,
        threads: config.threads,
        shard_count: plan.total,
        max_concurrency: bot.session_start_limit.max_concurrency,
        identify_spacing: IDENTIFY_SPACING,
        uris,
        amqp_tls: tls(pem(&config.amqp_ca))?,
        shard_options,
        task_options,
        cache,
        state,
        cached: cached.into_iter().map(|kept| (kept.shard, kept.position)).collect(),
        identity,
        ready_secrets: config.ready_secrets,
        persistent: config.persistent_events,
        events: EventFilter::new(config.events.clone(), config.events_exclude.clone()),
        outbox_memory_bytes: config.outbox_memory_bytes,
        spool: spooling::options(config),
        bot: String::from_utf8_lossy(&identity[..16]).into_owned(),
        stop_timeout: config.stop_timeout,
        board,
        on_failure: Box::new(move || tell_all(&mesh, false)),
        failure: Mutex::new(None),
        pauses: AtomicU64::new(0),
        panics: AtomicU64::new(0),
    })
}

/// The cache with all its memory: in a file that outlives the process where there is a place for it, and with it the
/// shards whose entities an earlier process left.
fn new_cache(
    config: &Config,
    plan: &Plan,
    state: &State,
    identity: [u8; 32],
) -> Result<(Cache, Vec<cache::Kept>), Error> {
    let options = cache::Options {
        memory_bytes: config.cache_memory_bytes,
        holding: cache::Holding {
            kinds: config.cache_kinds,
            message_cache_size: config.message_cache_size,
            members_are_told: config.intents & intents::GUILD_MEMBERS != 0,
        },
        shards: plan.clusters.iter().flat_map(|cluster| cluster.shards.clone()).collect(),
        shard_count: plan.total,
        seed: [seed()?, seed()?],
    };
    if let Some(folder) = state {
        let path = folder.path().join("cache");
        match Cache::open(options.clone(), &path, identity) {
            Ok(opened) => {
                for told in &opened.told {
                    log::info!("cache {}: {told}", path.display());
                }
                return Ok((opened.cache, opened.kept));
            }
            Err(error) => log::warn!("the cache is not kept over a restart: {}: {error}", path.display()),
        }
    }
    let bytes = config.cache_memory_bytes;
    Cache::new(options).map(|cache| (cache, Vec::new())).map_err(|error| Error::Cache(bytes, error))
}

fn log_plan(plan: &Plan, bot: &GatewayBot) {
    let limit = &bot.session_start_limit;
    let here = plan.shards_here();
    log::info!(
        "{} shards in all, {here} of them in {} clusters here; {} of {} session starts left today",
        plan.total,
        plan.clusters.len(),
        limit.remaining,
        limit.total
    );
    if limit.remaining < here {
        log::warn!(
            "only {} session starts are left and {here} shards have to identify: the others wait {} minutes for the reset",
            limit.remaining,
            limit.reset_after_ms.div_ceil(60_000)
        );
    }
}

/// A seed from the system's randomness; everything below draws from it.
fn seed() -> Result<u64, Error> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(|error| Error::Io("randomness", io::Error::other(error)))?;
    Ok(u64::from_le_bytes(bytes))
}
