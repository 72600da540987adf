//! What `rateway demo` is asked for.

use std::ffi::OsString;

use lexopt::prelude::*;

/// What is shown for `--help`.
pub(super) const HELP: &str = "\
rateway demo shows rateway at work: a stand-in for Discord, the gateway with its broker, and a worker, in one process.

Usage:
  rateway demo [OPTIONS]

Options:
  --shards N       shards of the bot, 1 to 64 (4)
  --guilds N       guilds of the bot (40)
  --rate N         events per second, 0 to 100000 (50)
  --once           end when everything was seen once; the exit status says whether
  -h, --help       this text

The page is at http://127.0.0.1:9980, the broker at amqp://guest:guest@127.0.0.1:5672, or at the next ports that are free.
While it runs, in another terminal:
  rateway tap                      events as they pass
  rateway cache Stats              what the cache holds
Other settings of the gateway (COMPRESSION, CACHE_MEMORY, LOG_LEVEL and so on) are taken from the environment.

Exit status: 0 stopped as asked, 1 something did not work, 2 arguments are wrong.
";

/// How to play.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Options {
    pub(super) shards: u32,
    pub(super) guilds: u32,
    pub(super) rate: f64,
    pub(super) once: bool,
}

/// What the arguments ask for.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Asked {
    Help,
    Run(Options),
}

pub(super) fn parse(arguments: impl Iterator<Item = OsString>) -> Result<Asked, lexopt::Error> {
    let mut options = Options { shards: 4, guilds: 40, rate: 50.0, once: false };
    let mut parser = lexopt::Parser::from_args(arguments);
    while let Some(argument) = parser.next()? {
        match argument {
            Short('h') | Long("help") => return Ok(Asked::Help),
            Long("once") => options.once = true,
            Long("shards") => options.shards = number(&mut parser, "--shards", 1, 64)?,
            Long("guilds") => options.guilds = number(&mut parser, "--guilds", 1, 10_000)?,
            Long("rate") => options.rate = f64::from(number(&mut parser, "--rate", 0, 100_000)?),
            argument => return Err(argument.unexpected()),
        }
    }
    Ok(Asked::Run(options))
}

fn number(parser: &mut lexopt::Parser, name: &str, least: u32, most: u32) -> Result<u32, lexopt::Error> {
    let value: u32 = parser.value()?.parse()?;
    if (least..=most).contains(&value) {
        Ok(value)
    } else {
        Err(format!("{name}: {value} is not within {least} to {most}").into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(arguments: &[&str]) -> Result<Asked, String> {
        parse(arguments.iter().map(OsString::from)).map_err(|error| error.to_string())
    }

    #[test]
    fn arguments() {
        let preset = Options { shards: 4, guilds: 40, rate: 50.0, once: false };
        assert_eq!(parsed(&[]), Ok(Asked::Run(preset.clone())));
        let asked = Options { shards: 8, rate: 0.0, once: true, ..preset };
        assert_eq!(parsed(&["--shards", "8", "--rate=0", "--once"]), Ok(Asked::Run(asked)));
        assert_eq!(parsed(&["-h"]), Ok(Asked::Help));
        for wrong in [&["--shards", "0"][..], &["--shards"], &["--rate", "fast"], &["now"]] {
            assert!(parsed(wrong).is_err(), "{wrong:?}");
        }
    }
}
