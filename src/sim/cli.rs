//! The command `rateway sim`.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lexopt::prelude::*;

use super::{FaultSpec, Options, Server, ServerOptions};
use crate::base::Secret;

const HELP: &str = "\
A stand-in for Discord: REST and gateway on one port.

Usage: rateway sim [OPTIONS]

  --addr ADDR                  where to listen [127.0.0.1:7443]
  --shards N                   recommended shard count [1]
  --max-concurrency N          shards that may identify within 5 s [1]
  --identify-spacing-ms N      instead of those 5 s [5000]
  --guilds N, --members N      guilds in all, members of each [4, 20]
  --rate N                     events per second over all shards [5]
  --full-speed                 play recorded events as fast as the sockets take them
                               (with --rate: play recorded events at that rate)
  --seed N                     what all made-up content follows from [1]
  --token TOKEN                accept only this token [any]
  --url URL                    gateway URL to hand out [ws://ADDR]
  --tls-cert FILE, --tls-key FILE    PEM files; serve https and wss
  --heartbeat-interval-ms N    [41250]
  --session-starts N           session starts left today [1000]
  --threads N                  [1]
  --sends FILE                 with --full-speed: write down when which events were sent
                               (shard_id u32, count u32, first s u64, Unix ns u64)
  --fault SPEC                 repeatable: KIND[:ARGUMENT][#SHARD|#all|#any][@TIME|@every:TIME]
  -h, --help

Faults: op7, op9[:true], close:CODE, drop, stop-acks, stop-sending, stop-reading, heal, heartbeat,
  invalidate, payload:TEXT, duplicate, unknown-event, guild-outage, rest:STATUS[:RETRY_AFTER],
  hello-op7[:COUNT], refuse-identify[:COUNT], split

While it runs:
  curl ADDR/_sim/stats
  curl ADDR/_sim/commands
  curl -X POST 'ADDR/_sim/fault?fault=op9&shard=0'

Examples:
  rateway sim --shards 4 --guilds 40 --rate 100
  rateway sim --shards 16 --max-concurrency 16 --full-speed
  rateway sim --fault close:4000#0@30s --fault op7@every:60s --fault split
";

enum Parsed {
    Help,
    Run(Box<ServerOptions>),
}

fn parse(args: impl Iterator<Item = OsString>) -> Result<Parsed, lexopt::Error> {
    let discord = Options {
        rate: 5.0,
        gateway_url: String::new(),
        ledger_dispatches_max: 0, // Nobody asks a running server for each dispatch.
        ..Options::default()
    };
    let addr = SocketAddr::from(([127, 0, 0, 1], 7443));
    let mut options = ServerOptions { addr, discord, ..ServerOptions::default() };
    let (mut cert, mut key, mut rate) = (None, None, None);
    let mut parser = lexopt::Parser::from_args(args);
    let file = |path: OsString| {
        std::fs::read(&path).map_err(|e| lexopt::Error::from(format!("{}: {e}", path.to_string_lossy())))
    };
    while let Some(arg) = parser.next()? {
        match arg {
            Long("addr") => options.addr = parser.value()?.parse()?,
            Long("shards") => options.discord.shards = parser.value()?.parse()?,
            Long("max-concurrency") => options.discord.max_concurrency = parser.value()?.parse()?,
            Long("identify-spacing-ms") => {
                options.discord.identify_spacing = Duration::from_millis(parser.value()?.parse()?);
            }
            Long("guilds") => options.discord.guilds = parser.value()?.parse()?,
            Long("members") => options.discord.members = parser.value()?.parse()?,
            Long("rate") => rate = Some(parser.value()?.parse()?),
            Long("full-speed") => options.discord.recorded = true,
            Long("seed") => options.discord.seed = parser.value()?.parse()?,
            Long("token") => options.discord.token = Some(Secret::new(parser.value()?.string()?)),
            Long("url") => options.discord.gateway_url = parser.value()?.string()?,
            Long("tls-cert") => cert = Some(file(parser.value()?)?),
            Long("tls-key") => key = Some(file(parser.value()?)?),
            Long("heartbeat-interval-ms") => {
                let ms: u64 = parser.value()?.parse()?;
                options.discord.heartbeat_interval = Duration::from_millis(ms.max(1));
            }
            Long("session-starts") => {
                let starts = parser.value()?.parse()?;
                options.discord.session_starts_remaining = starts;
                options.discord.session_starts_total = options.discord.session_starts_total.max(starts);
            }
            Long("threads") => options.threads = parser.value()?.parse()?,
            Long("sends") => options.sends = Some(parser.value()?.into()),
            Long("fault") => {
                let text = parser.value()?.string()?;
                if text == "split" {
                    options.split = true;
                } else {
                    options.faults.push(FaultSpec::parse(&text).map_err(|e| format!("--fault {text}: {e}"))?);
                }
            }
            Short('h') | Long("help") => return Ok(Parsed::Help),
            other => return Err(other.unexpected()),
        }
    }
    options.tls = match (cert, key) {
        (Some(cert), Some(key)) => Some((cert, key)),
        (None, None) => None,
        _ => return Err("--tls-cert and --tls-key go together".into()),
    };
    if options.discord.recorded {
        // What is played from a recording costs nothing to keep: a resume may go back far.
        options.discord.replay_buffer = usize::MAX / 2;
        options.discord.rate = rate.unwrap_or(0.0);
    } else if let Some(rate) = rate {
        options.discord.rate = rate;
    }
    Ok(Parsed::Run(Box::new(options)))
}

/// Runs `rateway sim` with the arguments after its name, until SIGINT or SIGTERM.
pub fn run(args: impl Iterator<Item = OsString>) -> ExitCode {
    let options = match parse(args) {
        Ok(Parsed::Run(options)) => *options,
        Ok(Parsed::Help) => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Err(e) => {
            eprintln!("rateway sim: {e}\nTry `rateway sim --help`.");
            return ExitCode::from(2);
        }
    };
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        if let Err(e) = signal_hook::flag::register(signal, stop.clone()) {
            eprintln!("rateway sim: no handler for signal {signal}: {e}");
            return ExitCode::FAILURE;
        }
    }
    let addr = options.addr;
    let server = match Server::start(options) {
        Ok(server) => server,
        Err(e) => {
            eprintln!("rateway sim: cannot start on {addr}: {e}");
            return ExitCode::FAILURE;
        }
    };
    println!("A stand-in for Discord listens on {}.", server.addr());
    println!("Point a gateway at it with DISCORD_API_URL={}", server.api_url());
    println!("Numbers: GET /_sim/stats, faults: POST /_sim/fault, on the same port.");
    report(&server, &stop);
    server.stop();
    ExitCode::SUCCESS
}

/// Prints a line every few seconds until `stop`.
fn report(server: &Server, stop: &AtomicBool) {
    const TICK: Duration = Duration::from_millis(100);
    const TICKS_PER_LINE: u32 = 50;
    let (mut ticks, mut before) = (0, 0);
    while !stop.load(Ordering::Relaxed) {
        std::thread::sleep(TICK);
        ticks += 1;
        if ticks % TICKS_PER_LINE != 0 {
            continue;
        }
        let line = server.act(|discord, _| {
            let ledger = discord.ledger();
            let per_second = (ledger.dispatches - before) as f64 / (TICK * TICKS_PER_LINE).as_secs_f64();
            before = ledger.dispatches;
            let commands: Vec<String> = ledger.commands.iter().map(|(op, n)| format!("op{op}={n}")).collect();
            format!(
                "connections={} sessions={} events_per_second={per_second:.0} events={} violations={} commands: {}",
                discord.connection_count(),
                discord.session_count(),
                ledger.dispatches,
                ledger.violations.len(),
                commands.join(" ")
            )
        });
        println!("{line}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(args: &[&str]) -> Result<ServerOptions, String> {
        match parse(args.iter().map(OsString::from)) {
            Ok(Parsed::Run(options)) => Ok(*options),
            Ok(Parsed::Help) => Err("help".to_owned()),
            Err(e) => Err(e.to_string()),
        }
    }

    #[test]
    fn options_are_read_and_mistakes_named() {
        let options =
            parsed(&["--shards", "7", "--rate=2.5", "--fault", "op7@every:60s", "--fault", "split"]).unwrap();
        assert_eq!((options.discord.shards, options.discord.rate, options.split), (7, 2.5, true));
        assert_eq!(options.faults.len(), 1);
        let options = parsed(&["--full-speed", "--sends", "f", "--identify-spacing-ms", "70"]).unwrap();
        assert!(options.discord.recorded && options.discord.rate == 0.0);
        assert_eq!(options.discord.identify_spacing, Duration::from_millis(70));
        assert_eq!(options.sends, Some("f".into()));
        for (args, part) in [
            (&["--shards", "x"][..], "x"),
            (&["--nonsense"], "nonsense"),
            (&["--fault", "boom"], "boom"),
            (&["--tls-cert", "/dev/null"], "together"),
            (&["-h"], "help"),
        ] {
            let error = parsed(args).unwrap_err();
            assert!(error.contains(part), "{args:?}: {error}");
        }
    }
}
