//! The table of settings: what each is called, what it takes, what it is without a word from the operator, and why.
//!
//! Reading, `rateway --help`, `rateway check`, the problems that are reported and the table in README.md all print
//! from here; a test holds README.md to it. Values are parsed elsewhere (`parse`), defaults run through the same
//! parsers as anything an operator writes.

use std::fmt::Write as _;

/// What a setting is when nobody sets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    /// It has to be set.
    Required,
    /// It stays out of the way; the words say what that means.
    Unset(&'static str),
    /// The value, written as an operator would write it.
    Value(&'static str),
}

/// One setting.
#[derive(Debug)]
pub struct Setting {
    /// The environment variable.
    pub name: &'static str,
    /// The key in the TOML file, dotted where it is inside a table.
    pub key: &'static str,
    /// The value without a word from the operator.
    pub preset: Preset,
    /// What may be written, ready to follow "expected".
    pub expected: &'static str,
    /// What it is for, and why the default is what it is.
    pub reason: &'static str,
    /// Whether the value must never be shown. Such a setting can also be read from a file, see [`Setting::file_name`].
    pub secret: bool,
}

impl Setting {
    /// The variable that names a file holding the secret: `DISCORD_TOKEN_FILE` for `DISCORD_TOKEN`.
    pub fn file_name(&self) -> Option<String> {
        self.secret.then(|| format!("{}_FILE", self.name))
    }

    /// The TOML key that names a file holding the secret: `token_file` for `token`.
    pub fn file_key(&self) -> Option<String> {
        self.secret.then(|| format!("{}_file", self.key))
    }

    const fn new(
        name: &'static str,
        key: &'static str,
        preset: Preset,
        expected: &'static str,
        reason: &'static str,
    ) -> Setting {
        Setting { name, key, preset, expected, reason, secret: false }
    }

    const fn secret(
        name: &'static str,
        key: &'static str,
        preset: Preset,
        expected: &'static str,
        reason: &'static str,
    ) -> Setting {
        Setting { name, key, preset, expected, reason, secret: true }
    }
}

use Preset::{Required, Unset, Value};

macro_rules! settings {
    ($(#[$doc:meta])* $all:ident: $($ident:ident = $setting:expr;)*) => {
        $(
            #[doc = concat!("The setting `", stringify!($ident), "`.")]
            pub static $ident: Setting = $setting;
        )*
        $(#[$doc])*
        pub static $all: &[&Setting] = &[$(&$ident),*];
    };
}

settings! {
    /// The gateway's settings, in the order in which people are shown them.
    GATEWAY:
    DISCORD_TOKEN = Setting::secret("DISCORD_TOKEN", "token", Required,
        "the bot token from Discord's developer portal",
        "Who the bot is. `DISCORD_TOKEN_FILE` (`token_file`) reads it from a file.");
    INTENTS = Setting::new("INTENTS", "intents", Required,
        "a number such as `37377`, or names such as `GUILDS,GUILD_MESSAGES,MESSAGE_CONTENT`",
        "Which events Discord sends. There is no good guess.");
    AMQP_URI = Setting::secret("AMQP_URI", "amqp", Unset("a broker within rateway"),
        "`amqp://user:password@host:5672/vhost` or `amqps://...`; several, separated by commas, are tried in turn",
        "The broker. `AMQP_URI_FILE` (`amqp_file`) reads it from a file.");
    BROKER_ADDR = Setting::new("BROKER_ADDR", "broker.addr", Value("127.0.0.1:5672"),
        "`address:port` or `:port`",
        "Where workers connect to the broker within rateway, which runs unless AMQP_URI is set. Unless it is set, one of the next ten ports is taken where the port is not free.");
    BROKER_MEMORY = Setting::new("BROKER_MEMORY", "broker.memory", Value("256MiB"),
        "a size from `4MiB` up: `256MiB`, `1GiB` or bytes, `268435456`",
        "What all messages together may take. Above it publishers wait; consumers do not.");
    BROKER_USERS = Setting::secret("BROKER_USERS", "broker.users", Unset("guest:guest, from this machine only"),
        "`user:password`, several separated by commas",
        "Who may connect. `BROKER_USERS_FILE` (`broker.users_file`) reads it from a file.");
    SHARDS_PER_CLUSTER = Setting::new("SHARDS_PER_CLUSTER", "shards.per_cluster", Value("8"),
        "a whole number, 1 to 10000",
        "Shards that share an exchange and an AMQP connection. Workers written for the original count on 8.");
    EXTRA_SHARDS = Setting::new("EXTRA_SHARDS", "shards.extra", Value("8"),
        "a whole number, 0 to 10000",
        "Room to grow beyond the count that Discord recommends. Left out for large bots, see SHARD_COUNT.");
    SHARD_COUNT = Setting::new("SHARD_COUNT", "shards.count", Unset("Discord's recommended count + EXTRA_SHARDS"),
        "a whole number, 1 to 100000",
        "The total by hand. A large bot's total must be a multiple of a number that Discord assigns, else close code 4010.");
    CLUSTERS = Setting::new("CLUSTERS", "shards.clusters", Unset("every cluster"),
        "one cluster number such as `3`, or a range with both ends such as `3..7`; the first cluster is 1",
        "Which clusters this process runs, when several processes share a bot.");
    THREADS = Setting::new("THREADS", "threads", Unset("the number of cores"),
        "a whole number, 1 to 1024",
        "Threads that run shards.");
    DISCORD_API_URL = Setting::new("DISCORD_API_URL", "discord_api_url", Value("https://discord.com/api/v10"),
        "an `https://` or `http://` URL without user, query or fragment",
        "Point it at a proxy or at `rateway sim`. Plain `http` sends the token in the clear: own machine only.");
    DISCORD_CA_FILE = Setting::new("DISCORD_CA_FILE", "discord_ca_file", Unset("bundled roots only"),
        "a file with certificates in PEM form",
        "Roots trusted besides the bundled ones for REST and gateway, such as a proxy's.");
    AMQP_CA_FILE = Setting::new("AMQP_CA_FILE", "amqp_ca_file", Unset("bundled roots only"),
        "a file with certificates in PEM form",
        "Roots trusted besides the bundled ones for `amqps://`.");
    COMPRESSION = Setting::new("COMPRESSION", "compression", Value("zlib"),
        "`zlib`, `zstd` or `none`",
        "How Discord compresses what it sends: a fifth of the traffic.");
    PRESENCE = Setting::new("PRESENCE", "presence", Unset("online, no activity"),
        "a JSON object as in the `d` of opcode 3: `{\"status\":\"idle\",\"activities\":[],\"since\":null,\"afk\":false}`",
        "The presence that the bot starts with.");
    LARGE_THRESHOLD = Setting::new("LARGE_THRESHOLD", "large_threshold", Value("250"),
        "a whole number, 50 to 250",
        "Guilds with more members come without the offline ones. The original asks for 250.");
    CAPABILITIES = Setting::new("CAPABILITIES", "capabilities", Unset("not sent"),
        "a whole number",
        "Sent with Identify as it is.");
    READY_SECRETS = Setting::new("READY_SECRETS", "ready_secrets", Value("false"),
        "`true` or `false`",
        "With the token, session_id and resume_gateway_url are enough to take a session over: blanked in READY unless true.");
    EVENTS = Setting::new("EVENTS", "events", Unset("all"),
        "event names separated by commas: `READY,MESSAGE_CREATE`",
        "What is published. The cache follows all events, whatever is published.");
    EVENTS_EXCLUDE = Setting::new("EVENTS_EXCLUDE", "events_exclude", Unset("none"),
        "event names separated by commas, or `none`",
        "What is not published, of the above.");
    OUTBOX_MEMORY = Setting::new("OUTBOX_MEMORY", "outbox_memory", Value("64MiB"),
        "a size from `1MiB` up: `64MiB`, `1GiB` or bytes, `67108864`",
        "Events that the broker has not confirmed yet, all clusters together. When full, Discord waits.");
    PERSISTENT_EVENTS = Setting::new("PERSISTENT_EVENTS", "persistent_events", Value("true"),
        "`true` or `false`",
        "Events survive a broker restart in queues that are durable (delivery_mode 2). Costs nothing in other queues.");
    CACHE_ENABLED = Setting::new("CACHE_ENABLED", "cache_enabled", Value("true"),
        "`true` or `false`",
        "Whether entities are remembered. If not, every cache query is answered as a miss: zero bytes.");
    CACHE_KINDS = Setting::new("CACHE_KINDS", "cache_kinds", Value("all"),
        "`all`, or some of `current_user`, `guilds`, `channels`, `threads`, `private_channels`, `roles`, `emojis`, \
         `stickers`, `sounds`, `members`, `users`, `presences`, `voice_states`, `messages`, `stage_instances`, \
         `scheduled_events`, `integrations`, separated by commas",
        "What is remembered; queries for the rest are misses. Members bring their users along.");
    CACHE_MEMORY = Setting::new("CACHE_MEMORY", "cache_memory", Value("256MiB"),
        "a size from `4MiB` up: `256MiB`, `1GiB` or bytes, `268435456`",
        "Taken at start and never exceeded. When full, messages go first, then presences, then members and users.");
    MESSAGE_CACHE_SIZE = Setting::new("MESSAGE_CACHE_SIZE", "message_cache_size", Value("0"),
        "a whole number, 0 to 1000000 (messages per channel)",
        "Messages remembered in each channel, the newest ones; 0 remembers none.");
    MESSAGE_BYTES_MAX = Setting::new("MESSAGE_BYTES_MAX", "message_bytes_max", Value("32MiB"),
        "a size from `64KiB` to `1GiB`",
        "The longest WebSocket message taken. The longest reported is 17 MB; a bot that refuses one reconnects for ever.");
    INFLATED_BYTES_MAX = Setting::new("INFLATED_BYTES_MAX", "inflated_bytes_max", Value("32MiB"),
        "a size from `64KiB` to `1GiB`",
        "The longest payload once inflated: the guard against a few bytes that inflate to gigabytes.");
    LOG_LEVEL = Setting::new("LOG_LEVEL", "log_level", Value("info"),
        "`off`, `error`, `warn`, `info`, `debug`, `trace`, and exceptions by module: `info,rateway::amqp=debug`",
        "How much is logged. Libraries log at info at most: below, some print what they send, the token too.");
    LOG_FORMAT = Setting::new("LOG_FORMAT", "log_format", Value("text"),
        "`text` or `json`",
        "Text for people, one JSON object per line for programs.");
    IDENTIFY_SLACK_MS = Setting::new("IDENTIFY_SLACK_MS", "identify_slack_ms", Value("250"),
        "a whole number, 0 to 60000 (milliseconds)",
        "Added to Discord's 5 s between identifies: Discord counts arrivals, and the way there is not always equally long.");
    IDENTIFY_RESERVE = Setting::new("IDENTIFY_RESERVE", "identify_reserve", Value("0"),
        "a whole number, 0 to 1000000",
        "Session starts of the day that are never used up: for what starts sessions outside this queue.");
    QUEUE_URL = Setting::new("QUEUE_URL", "queue_url", Unset("the queue of this process"),
        "an `http://` URL; `{token_hash}`, `{shard_id}`, `{shard_count}` and `{max_concurrency}` are filled in",
        "The identify queue that all processes of the bot share: `rateway queue` or twilight's gateway-queue. IDENTIFY_RESERVE and IDENTIFY_SLACK_MS are then that queue's.");
    STATE_DIR = Setting::new("STATE_DIR", "state_dir", Unset("systemd's STATE_DIRECTORY, else $XDG_STATE_HOME/rateway, else ~/.local/state/rateway"),
        "a folder, or `none`",
        "What outlives a restart: sessions, the cache (its file takes CACHE_MEMORY), events that the broker has not taken (SPOOL_SIZE at most), session starts of today. One rateway at a time has it.");
    LOCK_WAIT_MS = Setting::new("LOCK_WAIT_MS", "lock_wait_ms", Value("10000"),
        "a whole number, 0 to 600000 (milliseconds)",
        "How long a start waits for another rateway to let go of STATE_DIR. Longer than STOP_TIMEOUT_MS, so that the new one may be started before the old one is stopped.");
    SPOOL_SIZE = Setting::new("SPOOL_SIZE", "spool_size", Value("1GiB"),
        "a size from `16MiB` up: `1GiB`, `512MiB` or bytes, or `0` for none",
        "Disk in STATE_DIR for events that a full outbox does not take, all clusters together: a GiB is some million events. They go out first when the broker is back, also after a restart. When that is full too, Discord waits.");
    SHED = Setting::new("SHED", "shed", Value("TYPING_START,PRESENCE_UPDATE"),
        "event names separated by commas, or `none`",
        "What is left out, and counted, when SPOOL_SIZE is nearly used up: those that say nothing a minute later.");
    SHED_FROM_PERCENT = Setting::new("SHED_FROM_PERCENT", "shed_from_percent", Value("75"),
        "a whole number, 1 to 100 (percent of SPOOL_SIZE)",
        "From how full on. A quarter is then left for what matters.");
    COALESCE_US = Setting::new("COALESCE_US", "coalesce_us", Value("500"),
        "a whole number, 0 to 100000 (microseconds)",
        "How long an event may wait for others on a thread that is woken often, so that one wake-up and one write serve several. The system may add some 60 us. `0` is the least delay, at half as much CPU time again for an event that comes alone.");
    STOP_TIMEOUT_MS = Setting::new("STOP_TIMEOUT_MS", "stop_timeout_ms", Value("5000"),
        "a whole number, 0 to 600000 (milliseconds)",
        "How long a stop may wait for confirms and closes. Below the 10 s after which container runtimes kill.");
    HTTP_ADDR = Setting::new("HTTP_ADDR", "http_addr", Value("127.0.0.1:9980"),
        "`address:port`, or `none`",
        "The status page, metrics and health. Whoever reaches it may read it, so it is this machine's alone unless set. If nobody has set it and the port is taken, the next free one of ten is.");
    ADMIN_TOKEN = Setting::secret("ADMIN_TOKEN", "admin_token", Unset("nothing can be changed over HTTP"),
        "a secret of your own choice, from 16 printable characters without blanks",
        "What `POST /shards/N/reconnect` has to bring. `ADMIN_TOKEN_FILE` (`admin_token_file`) reads it from a file.");
}

settings! {
    /// What only `rateway queue` takes.
    QUEUE_ONLY:
    HOST = Setting::new("HOST", "queue.host", Value("0.0.0.0"),
        "an IP address",
        "Where shards ask.");
    PORT = Setting::new("PORT", "queue.port", Value("80"),
        "a port, 0 to 65535",
        "Where shards ask; 0 takes a free one.");
    ADDR = Setting::new("ADDR", "queue.addr", Unset("HOST and PORT"),
        "`address:port` or `:port`",
        "PluralKit's way to say HOST and PORT, which win over it.");
    CONCURRENCY = Setting::new("CONCURRENCY", "queue.concurrency", Unset("1, or Discord's max_concurrency with a token"),
        "a whole number, 1 to 1000",
        "How many buckets identify side by side, where there is no token to ask Discord with.");
    ADMIN_PORT = Setting::new("ADMIN_PORT", "queue.admin_port", Value("9980"),
        "a port of this machine alone, `address:port`, or `none`",
        "Metrics and health. No shard asks there; anybody who reaches it may read it.");
    CONNECTIONS_MAX = Setting::new("CONNECTIONS_MAX", "queue.connections_max", Value("50000"),
        "a whole number, 1 to 1000000",
        "Shards that may wait at a time; further ones are closed. A waiting shard takes about 1 KiB here.");
}

/// What `rateway broker` takes, all of which the gateway has too.
pub static BROKER: &[&Setting] = &[&BROKER_ADDR, &BROKER_MEMORY, &BROKER_USERS, &LOG_LEVEL, &LOG_FORMAT];

/// What `rateway queue` shares with the gateway.
pub static QUEUE_SHARED: &[&Setting] = &[
    &DISCORD_TOKEN,
    &IDENTIFY_RESERVE,
    &IDENTIFY_SLACK_MS,
    &STATE_DIR,
    &DISCORD_API_URL,
    &DISCORD_CA_FILE,
    &LOG_LEVEL,
    &LOG_FORMAT,
];

/// Every setting there is: what a file may hold.
pub fn all() -> impl Iterator<Item = &'static Setting> {
    GATEWAY.iter().chain(QUEUE_ONLY).copied()
}

/// The settings as a table in Markdown, for README.md.
pub fn markdown_table(settings: &[&Setting]) -> String {
    let mut out =
        String::from("| variable | TOML key | default | takes | what for |\n|---|---|---|---|---|\n");
    for setting in settings {
        let default = match setting.preset {
            Required => "**required**".to_owned(),
            Unset(means) => means.to_owned(),
            Value(value) => format!("`{value}`"),
        };
        let Setting { name, key, expected, reason, .. } = setting;
        // Writing to a String cannot fail.
        let _ = writeln!(out, "| `{name}` | `{key}` | {default} | {expected} | {reason} |");
    }
    out
}

/// The settings as text for a terminal, for `rateway --help` and `rateway queue --help`.
pub fn help_text(settings: &[&Setting]) -> String {
    let mut out = String::new();
    for setting in settings {
        let default = match setting.preset {
            Required => "required".to_owned(),
            Unset(means) => format!("default: {means}"),
            Value(value) => format!("default: {value}"),
        };
        let Setting { name, key, expected, reason, .. } = setting;
        let _ = write!(out, "  {name}  ({key} in the file; {default})\n      {expected}\n      {reason}\n");
    }
    out.replace('`', "")
}

/// The TOML key nearest to `key`, when one is near enough to be what was meant.
///
/// Somebody who writes the variable's name into the file is understood as well.
pub fn nearest_key(key: &str) -> Option<String> {
    let key = key.to_ascii_lowercase();
    let candidates = all().flat_map(|setting| {
        let own = setting.key.to_owned();
        let variable = setting.name.to_ascii_lowercase();
        let leaf = setting.key.rsplit('.').next().unwrap_or(setting.key).to_owned();
        let mut forms = vec![(own.clone(), own.clone()), (variable, own.clone()), (leaf, own)];
        if let Some(file_key) = setting.file_key() {
            forms.push((file_key.clone(), file_key));
        }
        forms
    });
    candidates
        .map(|(form, meant)| (edit_distance(&key, &form), meant))
        .filter(|(distance, meant)| *distance <= 2.max(meant.len() / 4))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, meant)| meant)
}

/// Letters to insert, drop, replace or swap with a neighbour to turn `a` into `b` (optimal string alignment).
pub fn edit_distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let width = b.len() + 1;
    let mut cost = vec![0usize; (a.len() + 1) * width];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            // All indices lie within the (a.len() + 1) * (b.len() + 1) cells allocated above.
            cost[i * width + j] = if i == 0 || j == 0 {
                i + j
            } else {
                let replaced = cost[(i - 1) * width + j - 1] + usize::from(a[i - 1] != b[j - 1]);
                let mut best = replaced.min(cost[(i - 1) * width + j] + 1).min(cost[i * width + j - 1] + 1);
                if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                    best = best.min(cost[(i - 2) * width + j - 2] + 1);
                }
                best
            };
        }
    }
    cost[a.len() * width + b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_keys_are_unique_and_well_formed() {
        let all: Vec<&Setting> = all().collect();
        for (i, a) in all.iter().enumerate() {
            assert!(a.name.bytes().all(|b| b.is_ascii_uppercase() || b == b'_'), "{}", a.name);
            assert!(a.key.bytes().all(|b| b.is_ascii_lowercase() || b"_.".contains(&b)), "{}", a.key);
            assert!(!a.expected.contains('|') && !a.reason.contains('|'), "{} breaks the table", a.name);
            for b in &all[i + 1..] {
                assert_ne!(a.name, b.name);
                assert_ne!(a.key, b.key);
            }
        }
    }

    #[test]
    fn typing_errors_find_what_was_meant() {
        for (typed, meant) in [
            ("tokn", Some("token")),
            ("intnets", Some("intents")),
            ("cache_enable", Some("cache_enabled")),
            ("shards.percluster", Some("shards.per_cluster")),
            ("per_cluster", Some("shards.per_cluster")),
            ("DISCORD_TOKEN", Some("token")),
            ("AMQP_URI", Some("amqp")),
            ("tokenfile", Some("token_file")),
            ("something_else_entirely", None),
        ] {
            assert_eq!(nearest_key(typed).as_deref(), meant, "{typed}");
        }
    }

    #[test]
    fn distances() {
        assert_eq!(edit_distance("", "abc"), 3);
        assert_eq!(edit_distance("abc", "abc"), 0);
        assert_eq!(edit_distance("abc", "acb"), 1);
        assert_eq!(edit_distance("kitten", "sitting"), 3);
    }
}
