//! Configuration as operators write it.

use super::*;
use crate::cache::{KINDS, Kind};

/// A configuration from `settings` and, for what they leave out, a token, intents and a broker.
pub(crate) fn config(settings: &[(&str, &str)]) -> Result<Config, Problems> {
    let base = [("DISCORD_TOKEN", "token"), ("INTENTS", "37377"), ("AMQP_URI", "amqp://localhost")];
    Config::load(None, |name| {
        settings.iter().chain(&base).find(|(known, _)| *known == name).map(|(_, value)| value.into())
    })
}

/// A file of its own, gone when dropped.
struct TempFile(PathBuf);

impl TempFile {
    fn new(name: &str, text: &str) -> TempFile {
        let path = std::env::temp_dir().join(format!("rateway-{}-{name}", std::process::id()));
        std::fs::write(&path, text).unwrap();
        TempFile(path)
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn from_file(name: &str, text: &str, variables: &[(&str, &str)]) -> Result<Config, Problems> {
    let file = TempFile::new(name, text);
    Config::load(Some(&file.0), |name| {
        variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into())
    })
}

fn problems(result: Result<Config, Problems>) -> String {
    result.map(|_| ()).unwrap_err().to_string()
}

/// The file in the original's README, 2021.
const ORIGINAL_FILE: &str = r#"
token = "token"
intents = 19553
amqp = "amqp://guest:guest@localhost"
cache_enabled = true

[shards]
per_cluster = 8
extra = 8
"#;

#[test]
fn the_file_of_the_original_loads() {
    let config = from_file("original.toml", ORIGINAL_FILE, &[]).unwrap();
    assert_eq!(config.token.expose(), "token");
    assert_eq!(config.intents, 19553);
    assert_eq!((config.amqp[0].host.as_str(), config.amqp[0].user.as_str()), ("localhost", "guest"));
    assert_eq!((config.shards_per_cluster, config.extra_shards), (8, 8));
    assert!(config.cache_enabled);
    assert_eq!(config.message_cache_size, 0);
    let with_size = format!("message_cache_size = 100\n{ORIGINAL_FILE}");
    assert_eq!(from_file("sized.toml", &with_size, &[]).unwrap().message_cache_size, 100);
}

#[test]
fn the_variables_of_the_original_load() {
    let config = config(&[
        ("DISCORD_TOKEN", "token"),
        ("INTENTS", "19553"),
        ("AMQP_URI", "amqp://guest:guest@localhost/"),
        ("SHARDS_PER_CLUSTER", "4"),
        ("EXTRA_SHARDS", "0"),
        ("CACHE_ENABLED", "false"),
    ])
    .unwrap();
    assert_eq!((config.shards_per_cluster, config.extra_shards), (4, 0));
    assert!(!config.cache_enabled);
}

#[test]
fn the_required_three_are_enough_and_the_rest_has_its_default() {
    let config = config(&[]).unwrap();
    assert_eq!((config.shards_per_cluster, config.extra_shards, config.shard_count), (8, 8, None));
    assert_eq!(config.discord_api_url, "https://discord.com/api/v10");
    assert_eq!(config.compression, Compression::Zlib);
    assert_eq!(config.outbox_memory_bytes, 64 << 20);
    assert_eq!((config.cache_memory_bytes, config.cache_kinds), (256 << 20, KindSet::all()));
    assert_eq!((config.message_bytes_max, config.inflated_bytes_max), (32 << 20, 32 << 20));
    assert_eq!((config.large_threshold, config.ready_secrets, config.presence), (250, false, None));
    assert!(config.threads >= 1 && config.cache_enabled && config.warnings.is_empty());
    assert_eq!(config.in_effect.len(), settings::GATEWAY.len());
}

#[test]
fn a_variable_wins_over_the_file() {
    let config =
        from_file("wins.toml", ORIGINAL_FILE, &[("INTENTS", "GUILDS"), ("EXTRA_SHARDS", "")]).unwrap();
    assert_eq!(config.intents, 1);
    assert_eq!(config.extra_shards, 8, "an empty variable counts as not set");
}

#[test]
fn all_problems_come_together() {
    let result = Config::load(None, |name| match name {
        "INTENTS" => Some("GUILDS,MESSAGES".into()),
        "SHARDS_PER_CLUSTER" => Some("0".into()),
        "CLUSTERS" => Some("7..3".into()),
        "LARGE_THRESHOLD" => Some("300".into()),
        "OUTBOX_MEMORY" => Some("64 parsecs".into()),
        "COMPRESSION" => Some("lz4".into()),
        "PRESENCE" => Some("{".into()),
        "CACHE_ENABLED" => Some("maybe".into()),
        "LOG_LEVEL" => Some("loud".into()),
        "LOG_FORMAT" => Some("xml".into()),
        "DISCORD_API_URL" => Some("ftp://x".into()),
        "DISCORD_CA_FILE" => Some("/nonexistent/ca.pem".into()),
        "STOP_TIMEOUT_MS" => Some("-1".into()),
        "AMQP_URI" => Some("http://x".into()),
        _ => None,
    });
    let text = problems(result);
    assert!(text.starts_with("15 problems"), "{text}");
    for line in [
        "DISCORD_TOKEN (or DISCORD_TOKEN_FILE): found nothing; expected the bot token",
        "AMQP_URI: found a value that cannot be used: a broker address has to begin with amqp://",
        "INTENTS: found \"GUILDS,MESSAGES\" (",
        "SHARDS_PER_CLUSTER: found \"0\" (too small); expected a whole number, 1 to 10000",
        "CLUSTERS: found \"7..3\" (the range ends before it starts)",
        "LARGE_THRESHOLD: found \"300\" (too large); expected a whole number, 50 to 250",
        "OUTBOX_MEMORY: found \"64 parsecs\" (unknown unit",
        "STOP_TIMEOUT_MS: found \"-1\" (not a whole number)",
        "DISCORD_CA_FILE: found \"/nonexistent/ca.pem\" (No such file",
    ] {
        assert!(text.contains(line), "{line}\nmissing in\n{text}");
    }
}

#[test]
fn unknown_keys_are_problems_with_the_nearest_known_one() {
    let text = problems(from_file(
        "typo.toml",
        "tokn = \"x\"\ncolour = 1\n[shards]\nper_clusters = 3\n[presence]\nstatus = \"idle\"\n",
        &[("DISCORD_TOKEN", "t"), ("INTENTS", "1"), ("AMQP_URI", "amqp://h")],
    ));
    assert!(text.contains("`token` is near"), "{text}");
    assert!(text.contains("`shards.per_cluster` is near"), "{text}");
    assert!(text.contains("\"colour\"") && text.contains("rateway --help"), "{text}");
    assert!(text.starts_with("3 problems"), "{text}");
}

#[test]
fn toml_types_are_taken_as_they_are_meant() {
    let config = from_file(
        "types.toml",
        "token = \"t\"\nintents = [\"GUILDS\", \"GUILD_MEMBERS\"]\namqp = [\"amqp://a\", \"amqps://b:5671/v\"]\n\
         outbox_memory = 2097152\n[presence]\nstatus = \"dnd\"\nafk = false\n[shards]\nclusters = 3\n",
        &[],
    )
    .unwrap();
    assert_eq!(config.intents, 3);
    assert_eq!(
        config.amqp.iter().map(|uri| (uri.tls, uri.host.as_str(), uri.vhost.as_str())).collect::<Vec<_>>(),
        [(false, "a", "/"), (true, "b", "v")]
    );
    assert_eq!(config.outbox_memory_bytes, 2 << 20);
    assert_eq!(config.clusters, Some(3..=3));
    assert_eq!(config.presence.as_deref(), Some(r#"{"afk":false,"status":"dnd"}"#));
    let text =
        problems(from_file("date.toml", "token = 2021-04-20\nintents = 1.5\n", &[("AMQP_URI", "amqp://h")]));
    assert!(text.contains("token in ") && text.contains("found a date"), "{text}");
    assert!(text.contains("found a number with a fraction"), "{text}");
}

#[test]
fn secrets_can_be_read_from_files() {
    let token = TempFile::new("secret-token", "abc.def\n");
    let amqp = TempFile::new("secret-amqp", "amqp://u:p@h,amqp://h2\n");
    let paths = [token.0.to_str().unwrap(), amqp.0.to_str().unwrap()];
    let load = |extra: Option<(&str, &str)>| {
        Config::load(None, |name| match name {
            "DISCORD_TOKEN_FILE" => Some(paths[0].into()),
            "AMQP_URI_FILE" => Some(paths[1].into()),
            "INTENTS" => Some("1".into()),
            _ => extra.filter(|(known, _)| *known == name).map(|(_, value)| value.into()),
        })
    };
    let config = load(None).unwrap();
    assert_eq!(config.token.expose(), "abc.def");
    assert_eq!(config.amqp.len(), 2);
    let text = problems(load(Some(("DISCORD_TOKEN", "other"))));
    assert!(text.contains("DISCORD_TOKEN and DISCORD_TOKEN_FILE both set"), "{text}");
    let toml = format!("token_file = {:?}\nintents = 1\namqp_file = {:?}\n", paths[0], paths[1]);
    assert_eq!(from_file("files.toml", &toml, &[]).unwrap().token.expose(), "abc.def");
}

#[test]
fn no_secret_reaches_any_text() {
    const SECRET: &str = "hunter2secret";
    let uris = [
        format!("user:{SECRET}@host"),
        format!("http://user:{SECRET}@host"),
        format!("{SECRET}://host"),
        format!("amqp://user:{SECRET}@host:port"),
        format!("amqp://host,amqp://user:{SECRET}@ho st"),
    ];
    for uri in &uris {
        let text = problems(config(&[("AMQP_URI", uri)]));
        assert!(text.contains("AMQP_URI") && !text.contains(SECRET), "{text}");
    }
    for token in [format!("{SECRET} {SECRET}"), format!("{SECRET}\u{7}"), format!("ü{SECRET}")] {
        let text = problems(config(&[("DISCORD_TOKEN", &token)]));
        assert!(text.contains("DISCORD_TOKEN") && !text.contains(SECRET), "{text}");
    }
    let text = problems(config(&[("DISCORD_API_URL", &format!("https://u:{SECRET}@proxy/api"))]));
    assert!(text.contains("user or password") && !text.contains(SECRET), "{text}");
    // Mistakes on the very line of the token.
    for (i, line) in [
        format!("token = {SECRET}"),
        format!("token = \"{SECRET}"),
        format!("token = '{SECRET}\""),
        format!("token = \"{SECRET}\\q\""),
        format!("token \"{SECRET}\""),
        format!("token = \"{SECRET}\"\ntoken = \"{SECRET}\""),
        format!("token = \"{SECRET}\" trailing"),
        format!("token = {{ a = \"{SECRET}\" }}"),
        format!("token = [\"{SECRET}\", \"b c\"]"),
    ]
    .iter()
    .enumerate()
    {
        let variables = [("INTENTS", "1"), ("AMQP_URI", "amqp://h")];
        let result = from_file(&format!("leak{i}.toml"), line, &variables);
        let text = match result {
            Ok(config) => format!("{config:?}"),
            Err(problems) => problems.to_string(),
        };
        assert!(!text.contains(SECRET), "{line}: {text}");
    }
    let amqp = format!("amqp://user:{SECRET}@host");
    let good = config(&[("DISCORD_TOKEN", SECRET), ("AMQP_URI", &amqp)]).unwrap();
    assert!(!format!("{good:?}").contains(SECRET));
}

#[test]
fn values_at_their_edges() {
    let ok = |name, value| config(&[(name, value)]).unwrap();
    let bad = |name, value| problems(config(&[(name, value)]));
    assert_eq!(ok("CLUSTERS", "3").clusters, Some(3..=3));
    assert_eq!(ok("CLUSTERS", "3..7").clusters, Some(3..=7));
    assert_eq!(ok("CLUSTERS", "3..=7").clusters, Some(3..=7));
    for value in ["0", "0..3", "..", "3..", "a", "3-7"] {
        bad("CLUSTERS", value);
    }
    for (value, bytes) in [
        ("64MiB", 64 << 20),
        ("64 MiB", 64 << 20),
        ("67108864", 64 << 20),
        ("2mb", 2_000_000),
        ("1GiB", 1 << 30),
    ] {
        assert_eq!(ok("OUTBOX_MEMORY", value).outbox_memory_bytes, bytes);
    }
    for value in ["64M", "1023KiB", "MiB", "99999999999999999999", "20000000000GiB", "-1", "1.5MiB"] {
        bad("OUTBOX_MEMORY", value);
    }
    for (value, url) in [
        ("http://127.0.0.1:8080/api/v10/", "http://127.0.0.1:8080/api/v10"),
        ("https://[::1]:1/x", "https://[::1]:1/x"),
        ("http://proxy", "http://proxy"),
    ] {
        assert_eq!(ok("DISCORD_API_URL", value).discord_api_url, url);
    }
    for value in ["https://", "https://h:0", "https://h:99999", "https://h?x", "https://h/#x", "discord.com"]
    {
        bad("DISCORD_API_URL", value);
    }
    assert_eq!(ok("AMQP_URI", "amqp://[::1]:5672/%2f,amqps://b").amqp.len(), 2);
    for value in [",", "amqp://h:0", "localhost:5672", "amqp://[::1", "amqp://a b"] {
        bad("AMQP_URI", value);
    }
    assert_eq!(ok("DISCORD_TOKEN", "Bot abc").token.expose(), "abc");
    for value in
        ["[]", "1", "{\"status\":\"gone\"}", "{\"activities\":{}}", "{\"since\":\"x\"}", "{\"afk\":1}"]
    {
        bad("PRESENCE", value);
    }
    assert_eq!(ok("INTENTS", "guilds | GUILD_MESSAGES").intents, 513);
    assert_eq!(ok("CAPABILITIES", "18446744073709551615").capabilities, Some(u64::MAX));
    bad("CAPABILITIES", "18446744073709551616");
    assert_eq!(ok("LARGE_THRESHOLD", "50").large_threshold, 50);
    bad("LARGE_THRESHOLD", "49");
}

#[test]
fn kinds_are_a_list_of_names() {
    let of = |value| config(&[("CACHE_KINDS", value)]).unwrap().cache_kinds;
    assert_eq!((of("all"), of("ALL"), of("")), (KindSet::all(), KindSet::all(), KindSet::all()));
    let two: KindSet = [Kind::Guild, Kind::VoiceState].into_iter().collect();
    assert_eq!((of("guilds,voice_states"), of("Voice_States, guilds,")), (two, two));
    assert_eq!(KINDS.into_iter().map(|kind| of(kind.name()).iter().count()).sum::<usize>(), KINDS.len());
    let required = [("DISCORD_TOKEN", "t"), ("INTENTS", "1"), ("AMQP_URI", "amqp://h")];
    for text in ["cache_kinds = [\"guilds\", \"voice_states\"]", "cache_kinds = \"guilds,voice_states\""] {
        assert_eq!(from_file("kinds.toml", text, &required).unwrap().cache_kinds, two);
    }
    // What is unknown is answered with all that is known.
    let text = problems(config(&[("CACHE_KINDS", "guilds,guild")]));
    assert!(
        text.contains("CACHE_KINDS: found \"guilds,guild\" (name 2 is unknown); expected `all`, or"),
        "{text}"
    );
    assert!(KINDS.into_iter().all(|kind| text.contains(&format!("`{}`", kind.name()))), "{text}");
    let text = problems(from_file("nothing.toml", "cache_kinds = []", &required));
    assert!(text.contains("cache_kinds in") && text.contains("CACHE_ENABLED=false"), "{text}");
    problems(config(&[("CACHE_KINDS", "all,guilds")]));
}

#[test]
fn a_found_value_cannot_forge_lines() {
    let text = problems(config(&[("COMPRESSION", "x\nDISCORD_TOKEN: found\u{1b}[2J")]));
    assert_eq!(text.lines().count(), 2, "{text}");
    assert!(!text.contains('\u{1b}'));
    let long = problems(config(&[("COMPRESSION", &"x".repeat(10_000))]));
    assert!(long.len() < 300);
}

#[test]
fn warnings_where_nothing_is_wrong_but_something_is_odd() {
    let quiet = |intents| config(&[("INTENTS", intents)]).unwrap().warnings;
    assert!(quiet("513")[0].contains("MESSAGE_CONTENT"));
    assert!(quiet("GUILDS,DIRECT_MESSAGES").is_empty());
    assert!(quiet("GUILD_MESSAGES,MESSAGE_CONTENT").is_empty());
    let api = |url| config(&[("DISCORD_API_URL", url)]).unwrap().warnings;
    assert!(api("http://proxy:80/api")[0].contains("unencrypted"));
    assert!(api("http://127.0.0.1:80/api").is_empty() && api("https://proxy/api").is_empty());
}

#[test]
fn a_missing_or_broken_file_is_a_problem_like_any_other() {
    let text = problems(Config::load(Some(Path::new("/nonexistent/rateway.toml")), |_| None));
    assert!(text.contains("/nonexistent/rateway.toml: found No such file"), "{text}");
    assert!(text.contains("DISCORD_TOKEN"), "{text}");
    let text = problems(from_file("broken.toml", "intents = 1\n\n[shards\n", &[]));
    assert!(text.contains("a mistake in line 3"), "{text}");
    let not_pem = TempFile::new("not.pem", "no certificate");
    let text = problems(config(&[("AMQP_CA_FILE", not_pem.0.to_str().unwrap())]));
    assert!(text.contains("without a certificate"), "{text}");
}

#[test]
fn what_follows_a_url_is_not_shown() {
    let config = config(&[("QUEUE_URL", "http://queue:80/k/a?secret=hunter2")]).unwrap();
    assert!(
        config.in_effect.iter().any(|line| line.value == "http://queue:80/k/a?***"),
        "{:?}",
        config.in_effect
    );
}

/// README.md's tables are those of `settings`; `RATEWAY_BLESS=1` writes them there.
#[test]
fn readme_has_the_tables_of_settings() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    for (name, settings) in [("settings", settings::GATEWAY), ("queue settings", settings::QUEUE_ONLY)] {
        let begin = format!("<!-- {name}: begin -->\n");
        let end = format!("<!-- {name}: end -->");
        let readme = std::fs::read_to_string(&path).unwrap();
        let (before, rest) = readme.split_once(&begin).unwrap();
        let (table, after) = rest.split_once(&end).unwrap();
        let current = settings::markdown_table(settings);
        if std::env::var_os("RATEWAY_BLESS").is_some() {
            std::fs::write(&path, format!("{before}{begin}{current}{end}{after}")).unwrap();
        } else {
            assert_eq!(table, current, "run `RATEWAY_BLESS=1 cargo test --lib readme`");
        }
    }
}

#[test]
fn the_status_page_is_this_machines_unless_said_otherwise() {
    let http = |variables: &[(&str, &str)]| {
        config(variables).unwrap().http.map(|(address, is_set)| (address.to_string(), is_set))
    };
    assert_eq!(http(&[]), Some(("127.0.0.1:9980".to_owned(), false)));
    assert_eq!(http(&[("HTTP_ADDR", "[::]:80")]), Some(("[::]:80".to_owned(), true)));
    assert_eq!(http(&[("HTTP_ADDR", "none")]), None);
    assert!(config(&[("HTTP_ADDR", "9980")]).is_err());
}

#[test]
fn an_admin_token_is_long_enough_and_never_shown() {
    let token = "0123456789abcdef";
    let good = config(&[("ADMIN_TOKEN", token)]).unwrap();
    assert!(good.admin_token.is_some_and(|secret| secret.matches(token)));
    let shown = format!("{:?}", good.in_effect);
    assert!(shown.contains("ADMIN_TOKEN") && !shown.contains(token), "{shown}");
    for wrong in ["short-and-easy", "with a blank 0123456789", "0123456789abcde\u{e9}"] {
        let problems = config(&[("ADMIN_TOKEN", wrong)]).unwrap_err().to_string();
        assert!(problems.contains("ADMIN_TOKEN") && !problems.contains(wrong), "{problems}");
    }
}
