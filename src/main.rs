//! The program: arguments -> configuration -> gateway -> exit status.
//!
//! 0: stopped as asked. 1: could not go on. 2: arguments or configuration are wrong, said before anything connects.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::SystemTime;

use lexopt::prelude::*;
use rateway::config::{BrokerConfig, Config, InEffect, QueueConfig, settings};
use rateway::tools::{self, Tool};
use rateway::{broker_server, demo, logging, runtime, service, sim};

#[cfg(not(panic = "unwind"))]
compile_error!("a task that panics is caught and dropped alone: rateway needs panic = \"unwind\"");

/// What the arguments ask for.
#[derive(Debug, PartialEq, Eq)]
enum Command {
    Gateway { file: Option<PathBuf>, end_sessions: bool },
    Check { file: Option<PathBuf> },
    Queue { file: Option<PathBuf>, check: bool },
    QueueHelp,
    Broker { file: Option<PathBuf>, check: bool },
    BrokerHelp,
    Sim(Vec<OsString>),
    Demo(Vec<OsString>),
    Tool(Tool, Vec<OsString>),
    Help,
    Version,
}

fn main() -> ExitCode {
    match parse(lexopt::Parser::from_env()) {
        Ok(Command::Gateway { file, end_sessions }) => gateway(file, end_sessions),
        Ok(Command::Check { file }) => check(file),
        Ok(Command::Queue { file, check }) => queue(file, check),
        Ok(Command::QueueHelp) => print(&queue_help()),
        Ok(Command::Broker { file, check }) => broker(file, check),
        Ok(Command::BrokerHelp) => print(&broker_help()),
        Ok(Command::Demo(arguments)) => demo::run(arguments.into_iter(), wall_clock),
        Ok(Command::Sim(arguments)) => sim::run(arguments.into_iter()),
        Ok(Command::Tool(tool, arguments)) => tools::run(tool, arguments),
        Ok(Command::Help) => print(&help()),
        Ok(Command::Version) => print(concat!("rateway ", env!("CARGO_PKG_VERSION"), "\n")),
        Err(error) => wrong(&format!("{error}\n`rateway --help` shows how it is called")),
    }
}

fn parse(mut parser: lexopt::Parser) -> Result<Command, lexopt::Error> {
    let (mut file, mut check, mut end_sessions, mut first) = (None, false, false, true);
    while let Some(argument) = parser.next()? {
        match argument {
            Short('h') | Long("help") => return Ok(Command::Help),
            Short('V') | Long("version") => return Ok(Command::Version),
            Short('c') | Long("config") if file.is_none() => file = Some(parser.value()?.into()),
            Long("end-sessions") => end_sessions = true,
            // A file that is called like a sub-command is given with -c or as ./check.
            Value(value) if first && value == "sim" => return Ok(Command::Sim(parser.raw_args()?.collect())),
            Value(value) if first && value == "demo" => {
                return Ok(Command::Demo(parser.raw_args()?.collect()));
            }
            Value(value) if first && value == "queue" => {
                let command = |file, check| Command::Queue { file, check };
                return parse_service(parser, command, Command::QueueHelp);
            }
            Value(value) if first && value == "broker" => {
                let command = |file, check| Command::Broker { file, check };
                return parse_service(parser, command, Command::BrokerHelp);
            }
            Value(value) if first && value == "check" => check = true,
            Value(value) if first && Tool::named(&value).is_some() => {
                let arguments = parser.raw_args()?.collect();
                return Tool::named(&value)
                    .map(|tool| Command::Tool(tool, arguments))
                    .ok_or("unknown tool".into());
            }
            Value(value) if file.is_none() => file = Some(value.into()),
            argument => return Err(argument.unexpected()),
        }
        first = false;
    }
    match (check, end_sessions) {
        (true, true) => Err("--end-sessions means nothing to check".into()),
        (true, false) => Ok(Command::Check { file }),
        (false, _) => Ok(Command::Gateway { file, end_sessions }),
    }
}

/// The arguments of a sub-command that takes a file or `--check`.
fn parse_service(
    mut parser: lexopt::Parser,
    command: fn(Option<PathBuf>, bool) -> Command,
    help: Command,
) -> Result<Command, lexopt::Error> {
    let (mut file, mut check) = (None, false);
    while let Some(argument) = parser.next()? {
        match argument {
            Short('h') | Long("help") => return Ok(help),
            Short('c') | Long("config") if file.is_none() => file = Some(parser.value()?.into()),
            Long("check") => check = true,
            Value(value) if file.is_none() => file = Some(value.into()),
            argument => return Err(argument.unexpected()),
        }
    }
    Ok(command(file, check))
}

fn gateway(file: Option<PathBuf>, end_sessions: bool) -> ExitCode {
    let config = match Config::load(file.as_deref(), |name| std::env::var_os(name)) {
        Ok(config) => config,
        Err(problems) => return wrong(&problems.to_string()),
    };
    begin_log(&config.log_level, config.log_format, &config.warnings);
    match runtime::run(config, runtime::Flags { end_sessions }) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::error!("{error}");
            // Settings that do not fit what Discord says are settings that are wrong.
            if matches!(error, runtime::Error::Plan(_)) { ExitCode::from(2) } else { ExitCode::FAILURE }
        }
    }
}

fn check(file: Option<PathBuf>) -> ExitCode {
    match Config::load(file.as_deref(), |name| std::env::var_os(name)) {
        Ok(config) => print(&in_effect(&config.in_effect, &config.warnings)),
        Err(problems) => wrong(&problems.to_string()),
    }
}

fn queue(file: Option<PathBuf>, check: bool) -> ExitCode {
    let config = match QueueConfig::load(file.as_deref(), |name| std::env::var_os(name)) {
        Ok(config) => config,
        Err(problems) => return wrong(&problems.to_string()),
    };
    if check {
        return print(&in_effect(&config.in_effect, &config.warnings));
    }
    begin_log(&config.log_level, config.log_format, &config.warnings);
    match service::run(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn broker(file: Option<PathBuf>, check: bool) -> ExitCode {
    let config = match BrokerConfig::load(file.as_deref(), |name| std::env::var_os(name)) {
        Ok(config) => config,
        Err(problems) => return wrong(&problems.to_string()),
    };
    if check {
        return print(&in_effect(&config.in_effect, &config.warnings));
    }
    begin_log(&config.log_level, config.log_format, &config.warnings);
    match broker_server::run(&config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// From here on there is a log, which begins with what is odd about the configuration.
fn begin_log(filter: &logging::Filter, format: logging::Format, warnings: &[String]) {
    logging::start(logging::Options { filter: filter.clone(), format, now: wall_clock });
    for warning in warnings {
        log::warn!("{warning}");
    }
}

fn in_effect(lines: &[InEffect], warnings: &[String]) -> String {
    let width = lines.iter().map(|line| line.name.len()).max().unwrap_or_default();
    let mut out = String::from("The configuration is good. In effect:\n");
    // Writing to a String cannot fail.
    for line in lines {
        let _ = writeln!(out, "  {:<width$}  {}  ({})", line.name, line.value, line.origin);
    }
    for warning in warnings {
        let _ = writeln!(out, "Warning: {warning}");
    }
    out
}

/// Prints to standard output, whoever reads it.
fn print(text: &str) -> ExitCode {
    use std::io::Write as _;
    // `rateway --help | head -1` closes the pipe early, and that is fine.
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
    ExitCode::SUCCESS
}

/// Says what is wrong with the way rateway was called.
fn wrong(text: &str) -> ExitCode {
    use std::io::Write as _;
    let _ = std::io::stderr().lock().write_all(format!("rateway: {text}\n").as_bytes());
    ExitCode::from(2)
}

#[expect(clippy::disallowed_methods, reason = "log lines carry the wall clock; no decision is taken by it")]
fn wall_clock() -> SystemTime {
    SystemTime::now()
}

fn help() -> String {
    let settings = settings::help_text(settings::GATEWAY);
    format!(
        "\
rateway holds the WebSocket shards of a Discord bot and hands every event to workers over AMQP 0-9-1.

Usage:
  rateway [FILE]           run the gateway with variables and, if given, a TOML file
  rateway -c FILE          the same
  rateway check [FILE]     only read the configuration: say what is wrong, or what is in effect
  rateway queue [FILE]     the identify queue for shards in other programs (rateway queue --help)
  rateway broker [FILE]    an AMQP broker in memory, for workers without a RabbitMQ (rateway broker --help)
  rateway tap [OPTIONS]    show events as they pass through the broker (rateway tap --help)
  rateway cache TYPE ID... ask the cache (rateway cache --help)
  rateway send PAYLOAD     send a gateway command by one of the shards (rateway send --help)
  rateway demo [OPTIONS]   all of it in one process, with a stand-in for Discord and a worker (rateway demo --help)
  rateway sim [OPTIONS]    a Discord stand-in for development and load (rateway sim --help)

Options:
  --end-sessions           end the sessions on stop; without it the next start can resume them
  -h, --help               this text
  -V, --version            the version

Exit status: 0 stopped as asked, 1 could not go on, 2 arguments or configuration are wrong.

Examples:
  DISCORD_TOKEN_FILE=/run/secrets/token INTENTS=GUILDS,GUILD_MESSAGES AMQP_URI=amqp://localhost rateway
  rateway /etc/rateway.toml
  CLUSTERS=1..4 LOG_FORMAT=json rateway -c /etc/rateway.toml
  rateway check /etc/rateway.toml

Settings, each a variable or a key in the file; the variable wins:
{settings}"
    )
}

fn queue_help() -> String {
    let own = settings::help_text(settings::QUEUE_ONLY);
    let shared = settings::help_text(settings::QUEUE_SHARED);
    format!(
        "\
rateway queue says over HTTP when a shard may identify, so that shards in any number of programs share Discord's limits.

A shard asks with any request, and is answered when it may identify. It runs where twilight-rs/gateway-queue or
PluralKit/gateway-queue ran.

Usage:
  rateway queue [FILE]     run with variables and, if given, a TOML file
  rateway queue -c FILE    the same
  rateway queue --check    only read the configuration: say what is wrong, or what is in effect

Exit status: 0 stopped as asked, 1 could not go on, 2 arguments or configuration are wrong.

Examples:
  PORT=5000 rateway queue                              a bot with one bucket
  PORT=5000 DISCORD_TOKEN_FILE=token rateway queue     any bot: buckets and session starts as Discord says
  curl 'localhost:5000/?shard=3'                       wait for shard 3's turn
  curl 'localhost:5000/k/KEY?shard=3&max_concurrency=16'   the same for another bot, whom KEY names
  curl localhost:9980/metrics                          how it goes

Settings, each a variable or a key in the file; the variable wins:
{own}
Settings that the gateway has too (DISCORD_TOKEN is not required here):
{shared}"
    )
}

fn broker_help() -> String {
    let settings = settings::help_text(settings::BROKER);
    format!(
        "\
rateway broker is an AMQP 0-9-1 broker for the gateway and its workers, where there is no RabbitMQ.

Messages are kept in memory: none of them outlives the broker, whatever is declared durable.

Usage:
  rateway broker [FILE]    run with variables and, if given, a TOML file
  rateway broker -c FILE   the same
  rateway broker --check   only read the configuration: say what is wrong, or what is in effect

Exit status: 0 stopped as asked, 1 could not go on, 2 arguments or configuration are wrong.

Examples:
  rateway broker                                                  for this machine, as guest:guest
  BROKER_ADDR=:5672 BROKER_USERS=gateway:secret,worker:hush rateway broker    for others too

Settings, each a variable or a key in the file; the variable wins:
{settings}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(arguments: &[&str]) -> Result<Command, String> {
        parse(lexopt::Parser::from_args(arguments)).map_err(|error| error.to_string())
    }

    fn gateway(file: Option<&str>, end_sessions: bool) -> Result<Command, String> {
        Ok(Command::Gateway { file: file.map(Into::into), end_sessions })
    }

    #[test]
    fn arguments() {
        assert_eq!(parsed(&[]), gateway(None, false));
        assert_eq!(parsed(&["x.toml"]), gateway(Some("x.toml"), false));
        assert_eq!(parsed(&["-c", "x.toml", "--end-sessions"]), gateway(Some("x.toml"), true));
        assert_eq!(parsed(&["--end-sessions", "x.toml"]), gateway(Some("x.toml"), true));
        assert_eq!(parsed(&["-c", "sim"]), gateway(Some("sim"), false));
        assert_eq!(parsed(&["check"]), Ok(Command::Check { file: None }));
        assert_eq!(parsed(&["check", "-c", "x"]), Ok(Command::Check { file: Some("x".into()) }));
        assert_eq!(
            parsed(&["sim", "--shards", "4", "-h"]),
            Ok(Command::Sim(["--shards", "4", "-h"].map(OsString::from).to_vec()))
        );
        assert_eq!(
            parsed(&["tap", "--count", "3"]),
            Ok(Command::Tool(Tool::Tap, ["--count", "3"].map(OsString::from).to_vec()))
        );
        assert_eq!(parsed(&["-c", "tap"]), gateway(Some("tap"), false));
        assert_eq!(parsed(&["demo", "--once"]), Ok(Command::Demo(vec![OsString::from("--once")])));
        assert_eq!(parsed(&["queue"]), Ok(Command::Queue { file: None, check: false }));
        let file = Some("x.toml".into());
        assert_eq!(parsed(&["queue", "-c", "x.toml", "--check"]), Ok(Command::Queue { file, check: true }));
        assert_eq!(parsed(&["queue", "--help"]), Ok(Command::QueueHelp));
        let file = Some("x.toml".into());
        assert_eq!(parsed(&["broker", "x.toml", "--check"]), Ok(Command::Broker { file, check: true }));
        assert_eq!(parsed(&["broker", "-h"]), Ok(Command::BrokerHelp));
        assert_eq!(parsed(&["--help"]), Ok(Command::Help));
        assert_eq!(parsed(&["-V"]), Ok(Command::Version));
    }

    #[test]
    fn wrong_arguments() {
        for arguments in [
            &["a", "b"][..],
            &["-c"],
            &["-c", "a", "-c", "b"],
            &["--nope"],
            &["check", "--end-sessions"],
            &["queue", "a", "b"],
            &["queue", "--end-sessions"],
        ] {
            assert!(parsed(arguments).is_err(), "{arguments:?}");
        }
    }

    #[test]
    fn help_names_every_setting() {
        let help = help();
        assert!(settings::GATEWAY.iter().all(|setting| help.contains(setting.name)));
    }
}
