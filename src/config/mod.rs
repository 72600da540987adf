//! What the operator sets: environment variables and a TOML file -> [`Config`].
//!
//! A variable wins over the file, key by key; the rest comes from the table in [`settings`]. Everything that is wrong
//! is reported together in one [`Problems`], each with its name, what was found and what is expected. Secrets are
//! [`Secret`] from the first moment, and no text of theirs is ever part of a problem.
//!
//! Nothing here connects anywhere. The environment is handed in as a function; files named by settings are read once,
//! here, so that a wrong path is a problem at start and not in the middle of the night.

mod broker;
mod parse;
pub mod plan;
mod queue;
pub mod settings;
mod sources;
mod tools;

use std::ffi::OsString;
use std::fmt;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::amqp::Uri;
use crate::base::Secret;
use crate::cache::KindSet;
use crate::http;
use crate::logging::{Filter, Format};
use crate::queue::Endpoint;
pub use crate::stream::Compression;
pub use broker::{BrokerConfig, BrokerSettings};
pub use plan::{Cluster, Plan, PlanError, plan};
pub use queue::QueueConfig;
use sources::Sources;
pub use tools::ToolsConfig;

/// Certificates read from a file that the operator named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaFile {
    /// Where they were read from.
    pub path: PathBuf,
    /// The file's content: one certificate or more in PEM form, checked to parse.
    pub pem: Vec<u8>,
}

/// The configuration, complete and checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// DISCORD_TOKEN, without `Bot ` in front.
    pub token: Secret,
    /// INTENTS.
    pub intents: u64,
    /// AMQP_URI: one URI or more, in the order to try them.
    pub amqp: Vec<Uri>,
    /// The broker within the process, where AMQP_URI is not set.
    pub broker: Option<BrokerSettings>,
    /// SHARDS_PER_CLUSTER, at least 1.
    pub shards_per_cluster: u32,
    /// EXTRA_SHARDS.
    pub extra_shards: u32,
    /// SHARD_COUNT.
    pub shard_count: Option<u32>,
    /// CLUSTERS, both ends included.
    pub clusters: Option<RangeInclusive<u32>>,
    /// THREADS; the number of cores unless set.
    pub threads: usize,
    /// DISCORD_API_URL, without a slash at the end.
    pub discord_api_url: String,
    /// DISCORD_CA_FILE.
    pub discord_ca: Option<CaFile>,
    /// AMQP_CA_FILE.
    pub amqp_ca: Option<CaFile>,
    /// COMPRESSION.
    pub compression: Compression,
    /// PRESENCE: a JSON object.
    pub presence: Option<String>,
    /// LARGE_THRESHOLD.
    pub large_threshold: u32,
    /// CAPABILITIES.
    pub capabilities: Option<u64>,
    /// READY_SECRETS.
    pub ready_secrets: bool,
    /// EVENTS; `None` for all.
    pub events: Option<Vec<String>>,
    /// EVENTS_EXCLUDE.
    pub events_exclude: Option<Vec<String>>,
    /// OUTBOX_MEMORY.
    pub outbox_memory_bytes: usize,
    /// PERSISTENT_EVENTS.
    pub persistent_events: bool,
    /// CACHE_ENABLED.
    pub cache_enabled: bool,
    /// CACHE_KINDS: what is held.
    pub cache_kinds: KindSet,
    /// CACHE_MEMORY.
    pub cache_memory_bytes: usize,
    /// MESSAGE_CACHE_SIZE: messages per channel.
    pub message_cache_size: u32,
    /// MESSAGE_BYTES_MAX.
    pub message_bytes_max: usize,
    /// INFLATED_BYTES_MAX.
    pub inflated_bytes_max: usize,
    /// LOG_LEVEL.
    pub log_level: Filter,
    /// LOG_FORMAT.
    pub log_format: Format,
    /// IDENTIFY_SLACK_MS.
    pub identify_slack: Duration,
    /// IDENTIFY_RESERVE.
    pub identify_reserve: u32,
    /// QUEUE_URL.
    pub queue_url: Option<Endpoint>,
    /// STATE_DIR, or what stands for it; `None` keeps nothing.
    pub state_dir: Option<PathBuf>,
    /// LOCK_WAIT_MS.
    pub lock_wait: Duration,
    /// SPOOL_SIZE; 0 for none.
    pub spool_bytes: u64,
    /// SHED.
    pub shed: Vec<String>,
    /// SHED_FROM_PERCENT.
    pub shed_from_percent: u8,
    /// COALESCE_US.
    pub coalesce: Duration,
    /// STOP_TIMEOUT_MS.
    pub stop_timeout: Duration,
    /// HTTP_ADDR, and whether somebody has set it.
    pub http: Option<(SocketAddr, bool)>,
    /// ADMIN_TOKEN.
    pub admin_token: Option<Secret>,
    /// What is not wrong but worth a line in the log at start.
    pub warnings: Vec<String>,
    /// Every setting as it is in effect and where it came from, secrets as `***`; for `rateway check`.
    pub in_effect: Vec<InEffect>,
}

/// A setting as it is in effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InEffect {
    /// The variable's name.
    pub name: &'static str,
    /// The value as written, `***` for a secret.
    pub value: String,
    /// Where it came from: `variable`, the file's name, `default`.
    pub origin: String,
}

/// One thing that is wrong with the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The setting, and where it was found.
    pub name: String,
    /// What was found.
    pub found: String,
    /// What is expected.
    pub expected: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: found {}; expected {}", self.name, self.found, self.expected)
    }
}

/// Everything that is wrong with the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.0.len();
        let noun = if count == 1 { "problem" } else { "problems" };
        write!(f, "{count} {noun} in the configuration:")?;
        self.0.iter().try_for_each(|problem| write!(f, "\n  {problem}"))
    }
}

impl std::error::Error for Problems {}

/// A value from outside, fit to stand in a message: quoted, control characters escaped, cut when long.
fn shown(text: &str) -> String {
    const CHARS_MAX: usize = 80;
    let mut out: String = text.chars().take(CHARS_MAX).collect();
    if out.len() < text.len() {
        out.push_str("...");
    }
    format!("{out:?}")
}

impl Config {
    /// Reads variables through `env` and settings from the TOML file at `file`.
    ///
    /// # Errors
    /// With everything that is wrong, at once.
    pub fn load(file: Option<&Path>, env: impl Fn(&str) -> Option<OsString>) -> Result<Config, Problems> {
        use settings as s;
        let mut from = Sources::open(file, &env);
        let token = from.required(&s::DISCORD_TOKEN, parse::token);
        let intents = from.required(&s::INTENTS, parse::intents);
        let amqp = from.optional(&s::AMQP_URI, parse::amqp_uris);
        let broker = BrokerSettings::read(&mut from);
        let is_broker_set =
            [&s::BROKER_ADDR, &s::BROKER_MEMORY, &s::BROKER_USERS].iter().any(|setting| from.is_set(setting));
        let shards_per_cluster =
            from.required(&s::SHARDS_PER_CLUSTER, |text| parse::whole_u32(text, 1..=10_000));
        let extra_shards = from.required(&s::EXTRA_SHARDS, |text| parse::whole_u32(text, 0..=10_000));
        let shard_count = from.optional(&s::SHARD_COUNT, |text| parse::whole_u32(text, 1..=plan::SHARDS_MAX));
        let clusters = from.optional(&s::CLUSTERS, parse::clusters);
        let threads = from.optional(&s::THREADS, |text| parse::whole_u32(text, 1..=1024));
        let discord_api_url = from.required(&s::DISCORD_API_URL, parse::api_url);
        let discord_ca = from.optional(&s::DISCORD_CA_FILE, ca_file);
        let amqp_ca = from.optional(&s::AMQP_CA_FILE, ca_file);
        let compression = from.required(&s::COMPRESSION, parse::compression);
        let presence = from.optional(&s::PRESENCE, parse::presence);
        let large_threshold = from.required(&s::LARGE_THRESHOLD, |text| parse::whole_u32(text, 50..=250));
        let capabilities = from.optional(&s::CAPABILITIES, |text| parse::whole(text, 0..=u64::MAX));
        let ready_secrets = from.required(&s::READY_SECRETS, parse::boolean);
        let events = from.optional(&s::EVENTS, parse::event_names);
        let events_exclude = from.optional(&s::EVENTS_EXCLUDE, parse::event_names);
        let outbox_memory_bytes = from.required(&s::OUTBOX_MEMORY, size(MIB, u64::MAX));
        let persistent_events = from.required(&s::PERSISTENT_EVENTS, parse::boolean);
        let cache_enabled = from.required(&s::CACHE_ENABLED, parse::boolean);
        let cache_kinds = from.required(&s::CACHE_KINDS, parse::kinds);
        let cache_memory_bytes = from.required(&s::CACHE_MEMORY, size(4 * MIB, u64::MAX));
        let message_cache_size =
            from.required(&s::MESSAGE_CACHE_SIZE, |text| parse::whole_u32(text, 0..=1_000_000));
        let message_bytes_max = from.required(&s::MESSAGE_BYTES_MAX, size(64 * KIB, GIB));
        let inflated_bytes_max = from.required(&s::INFLATED_BYTES_MAX, size(64 * KIB, GIB));
        let log_level = from.required(&s::LOG_LEVEL, Filter::parse);
        let log_format = from.required(&s::LOG_FORMAT, parse::log_format);
        let identify_slack = from.required(&s::IDENTIFY_SLACK_MS, duration_ms(60_000));
        let identify_reserve =
            from.required(&s::IDENTIFY_RESERVE, |text| parse::whole_u32(text, 0..=1_000_000));
        let queue_url = from.optional(&s::QUEUE_URL, |text| {
            Endpoint::parse(text).map_err(|error| format!("a URL that cannot be used: {error}"))
        });
        let state_dir = from.state_dir();
        let lock_wait = from.required(&s::LOCK_WAIT_MS, duration_ms(600_000));
        let spool_bytes = from.required(&s::SPOOL_SIZE, |text| match text {
            "0" => Ok(0),
            _ => parse::size_bytes(text, 16 * MIB..=u64::MAX),
        });
        let shed = from.required(&s::SHED, parse::event_names);
        let shed_from_percent = from.required(&s::SHED_FROM_PERCENT, |text| parse::whole_u32(text, 1..=100));
        let coalesce =
            from.required(&s::COALESCE_US, |text| parse::whole(text, 0..=100_000).map(Duration::from_micros));
        let stop_timeout = from.required(&s::STOP_TIMEOUT_MS, duration_ms(600_000));
        let http = from.required(&s::HTTP_ADDR, parse::http_address);
        let http_set = from.is_set(&s::HTTP_ADDR);
        let admin_token = from.optional(&s::ADMIN_TOKEN, parse::admin_token);
        let (problems, in_effect) = from.finish();
        let broker = broker.filter(|_| amqp.is_none());
        let broker_warning = match &broker {
            Some(broker) => broker.warning(),
            None if is_broker_set => Some("AMQP_URI is set, so the BROKER_ settings mean nothing".to_owned()),
            None => None,
        };

        // A required value that is missing is a problem, and so is an optional one that is wrong.
        let complete = || {
            let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
            let (intents, discord_api_url) = (intents?, discord_api_url?);
            Some(Config {
                warnings: warnings(intents, &discord_api_url).into_iter().chain(broker_warning).collect(),
                token: token?,
                intents,
                amqp: amqp.unwrap_or_default(),
                broker,
                shards_per_cluster: shards_per_cluster?,
                extra_shards: extra_shards?,
                shard_count,
                clusters,
                threads: threads.map_or(cores, |threads| threads as usize),
                discord_api_url,
                discord_ca,
                amqp_ca,
                compression: compression?,
                presence,
                large_threshold: large_threshold?,
                capabilities,
                ready_secrets: ready_secrets?,
                events,
                events_exclude,
                outbox_memory_bytes: outbox_memory_bytes?,
                persistent_events: persistent_events?,
                cache_enabled: cache_enabled?,
                cache_kinds: cache_kinds?,
                cache_memory_bytes: cache_memory_bytes?,
                message_cache_size: message_cache_size?,
                message_bytes_max: message_bytes_max?,
                inflated_bytes_max: inflated_bytes_max?,
                log_level: log_level?,
                log_format: log_format?,
                identify_slack: identify_slack?,
                identify_reserve: identify_reserve?,
                queue_url,
                state_dir,
                lock_wait: lock_wait?,
                spool_bytes: spool_bytes?,
                shed: shed?,
                // At most 100.
                shed_from_percent: shed_from_percent? as u8,
                coalesce: coalesce?,
                stop_timeout: stop_timeout?,
                http: http?.map(|address| (address, http_set)),
                admin_token,
                in_effect,
            })
        };
        if problems.0.is_empty() { complete().ok_or(problems) } else { Err(problems) }
    }
}

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

fn size(min: u64, max: u64) -> impl Fn(&str) -> Result<usize, String> {
    move |text| {
        let bytes = parse::size_bytes(text, min..=max)?;
        usize::try_from(bytes).map_err(|_| "too large".to_owned())
    }
}

fn duration_ms(max: u64) -> impl Fn(&str) -> Result<Duration, String> {
    move |text| parse::whole(text, 0..=max).map(Duration::from_millis)
}

/// The longest CA file taken; all public roots together are a quarter of it.
const CA_BYTES_MAX: u64 = 1 << 20;

fn ca_file(text: &str) -> Result<CaFile, String> {
    let pem = sources::read_bounded(Path::new(text), CA_BYTES_MAX)?;
    match http::count_certificates(&pem) {
        Some(0) => Err("a file without a certificate in it".to_owned()),
        Some(_) => Ok(CaFile { path: PathBuf::from(text), pem }),
        None => Err("a file with a certificate that can't be read".to_owned()),
    }
}

const TOKEN_LEAKS: &str =
    "DISCORD_API_URL is plain http to another machine: the bot token travels unencrypted";

fn warnings(intents: u64, discord_api_url: &str) -> Vec<String> {
    let mut out = Vec::new();
    if intents & parse::GUILD_MESSAGES != 0 && intents & parse::MESSAGE_CONTENT == 0 {
        out.push(
            "INTENTS ask for GUILD_MESSAGES without MESSAGE_CONTENT: since 2022 content, embeds, attachments and components \
             come empty, except where the bot is mentioned or written to. Add MESSAGE_CONTENT (32768) if they are needed"
                .to_owned(),
        );
    }
    if parse::leaks_token(discord_api_url) {
        out.push(TOKEN_LEAKS.to_owned());
    }
    out
}

#[cfg(test)]
pub(crate) mod tests;
