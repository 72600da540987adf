//! Words of the command line -> what to do. What is wrong is named, with the nearest word that would be right.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use lexopt::prelude::*;

use super::Tool;
use super::events::EVENTS;
use crate::cache::Question;
use crate::config::settings::edit_distance;

/// How long to wait for an answer unless told.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Above an hour it is a mistake.
const TIMEOUT_MS_MAX: u64 = 3_600_000;

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Parsed {
    Help,
    Tap(Tap),
    Cache(Cache),
    Send(Send),
}

/// `rateway tap`
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Tap {
    pub(super) clusters: Clusters,
    /// Empty for all that are known.
    pub(super) events: Vec<String>,
    /// Empty for all.
    pub(super) shards: Vec<u32>,
    pub(super) count: Option<u64>,
    pub(super) form: Form,
    pub(super) config: Option<PathBuf>,
}

/// Which clusters.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) enum Clusters {
    /// Those of the shards asked for, else the first.
    #[default]
    Unsaid,
    All,
    These(Vec<u32>),
}

/// How an event is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Form {
    /// Short lines on a terminal, JSON elsewhere.
    #[default]
    Fitting,
    Json,
    Raw,
}

/// `rateway cache`
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Cache {
    pub(super) kind: String,
    pub(super) ids: Vec<u64>,
    pub(super) cluster: u32,
    pub(super) timeout: Duration,
    pub(super) config: Option<PathBuf>,
}

/// `rateway send`
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Send {
    pub(super) target: Target,
    /// `None` for standard input.
    pub(super) payload: Option<String>,
    pub(super) cluster: Option<u32>,
    pub(super) timeout: Duration,
    pub(super) config: Option<PathBuf>,
}

/// Who sends a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Shard(u32),
    Guild(u64),
}

/// Reads the arguments of `tool`.
pub(super) fn parse(tool: Tool, arguments: Vec<OsString>) -> Result<Parsed, String> {
    let mut parser = lexopt::Parser::from_args(arguments);
    match tool {
        Tool::Tap => tap(&mut parser),
        Tool::Cache => cache(&mut parser),
        Tool::Send => send(&mut parser),
    }
}

fn tap(parser: &mut lexopt::Parser) -> Result<Parsed, String> {
    const OPTIONS: &[&str] = &["cluster", "event", "shard", "count", "json", "raw", "config", "help"];
    let mut asked = Tap::default();
    while let Some(argument) = next(parser)? {
        match argument {
            Word::Short('h') => return Ok(Parsed::Help),
            Word::Short('c') => asked.config = Some(value(parser, "--config")?.into()),
            Word::Long(name) => match name.as_str() {
                "help" => return Ok(Parsed::Help),
                "config" => asked.config = Some(value(parser, "--config")?.into()),
                "cluster" => {
                    let text = text(parser, "--cluster")?;
                    if text == "all" {
                        asked.clusters = Clusters::All;
                        continue;
                    }
                    let number = cluster(&text).map_err(|fault| format!("{fault}, or all"))?;
                    match &mut asked.clusters {
                        Clusters::These(numbers) => {
                            numbers.push(number);
                            numbers.sort_unstable();
                            numbers.dedup();
                        }
                        Clusters::Unsaid => asked.clusters = Clusters::These(vec![number]),
                        Clusters::All => {}
                    }
                }
                "event" => {
                    for name in text(parser, "--event")?.split(',').filter(|name| !name.is_empty()) {
                        let name = event(name)?;
                        if !asked.events.contains(&name) {
                            asked.events.push(name);
                        }
                    }
                }
                "shard" => asked.shards.push(number(parser, "--shard", 0, u32::MAX)?),
                "count" => asked.count = Some(number(parser, "--count", 1, u64::MAX)?),
                "json" => asked.form = Form::Json,
                "raw" => asked.form = Form::Raw,
                _ => return Err(unknown(&name, OPTIONS)),
            },
            Word::Short(letter) => return Err(format!("unknown option -{letter}")),
            Word::Value(word) => return Err(format!("{word:?} is no option")),
        }
    }
    Ok(Parsed::Tap(asked))
}

fn cache(parser: &mut lexopt::Parser) -> Result<Parsed, String> {
    const OPTIONS: &[&str] = &["cluster", "timeout-ms", "config", "help"];
    let (mut kind, mut ids) = (None, Vec::new());
    let (mut cluster_asked, mut timeout, mut config) = (1, TIMEOUT, None);
    while let Some(argument) = next(parser)? {
        match argument {
            Word::Short('h') => return Ok(Parsed::Help),
            Word::Short('c') => config = Some(value(parser, "--config")?.into()),
            Word::Long(name) => match name.as_str() {
                "help" => return Ok(Parsed::Help),
                "config" => config = Some(value(parser, "--config")?.into()),
                "cluster" => cluster_asked = cluster(&text(parser, "--cluster")?)?,
                "timeout-ms" => timeout = timeout_ms(parser)?,
                _ => return Err(unknown(&name, OPTIONS)),
            },
            Word::Short(letter) => return Err(format!("unknown option -{letter}")),
            Word::Value(word) if kind.is_none() => kind = Some(word),
            Word::Value(word) => match digits::<u64>(&word) {
                Some(id) => ids.push(id),
                None => return Err(format!("{word:?} is no id: ids are whole numbers")),
            },
        }
    }
    let Some(kind) = kind else { return Err("the type is missing, such as Guild".to_owned()) };
    if let Err(error) = Question::new(&kind, &ids) {
        let near = nearest(&kind, Question::types()).filter(|near| *near != kind);
        let hint = near.map_or(String::new(), |near| format!("; did you mean {near}?"));
        return Err(format!("{error}{hint}"));
    }
    Ok(Parsed::Cache(Cache { kind, ids, cluster: cluster_asked, timeout, config }))
}

fn send(parser: &mut lexopt::Parser) -> Result<Parsed, String> {
    const OPTIONS: &[&str] = &["shard", "guild", "cluster", "timeout-ms", "config", "help"];
    let (mut target, mut payload) = (None, None);
    let (mut cluster_asked, mut timeout, mut config) = (None, TIMEOUT, None);
    while let Some(argument) = next(parser)? {
        match argument {
            Word::Short('h') => return Ok(Parsed::Help),
            Word::Short('c') => config = Some(value(parser, "--config")?.into()),
            Word::Long(name) => match name.as_str() {
                "help" => return Ok(Parsed::Help),
                "config" => config = Some(value(parser, "--config")?.into()),
                "shard" | "guild" if target.is_some() => {
                    return Err("one shard or one guild sends a command, not several".to_owned());
                }
                "shard" => target = Some(Target::Shard(number(parser, "--shard", 0, u32::MAX)?)),
                "guild" => target = Some(Target::Guild(number(parser, "--guild", 0, u64::MAX)?)),
                "cluster" => cluster_asked = Some(cluster(&text(parser, "--cluster")?)?),
                "timeout-ms" => timeout = timeout_ms(parser)?,
                _ => return Err(unknown(&name, OPTIONS)),
            },
            Word::Short(letter) => return Err(format!("unknown option -{letter}")),
            Word::Value(word) if payload.is_none() => payload = Some(word),
            Word::Value(_) => {
                return Err("one payload at a time; it has to be quoted for the shell".to_owned());
            }
        }
    }
    let Some(target) = target else { return Err("--shard or --guild is missing".to_owned()) };
    let Some(payload) = payload else {
        return Err(
            "the payload is missing, such as '{\"op\":3,\"d\":{...}}', or - for standard input".to_owned()
        );
    };
    let payload = Some(payload).filter(|payload| payload != "-");
    Ok(Parsed::Send(Send { target, payload, cluster: cluster_asked, timeout, config }))
}

/// A word of the command line, owned, so that its value can be asked for.
enum Word {
    Short(char),
    Long(String),
    Value(String),
}

fn next(parser: &mut lexopt::Parser) -> Result<Option<Word>, String> {
    Ok(match parser.next().map_err(|error| error.to_string())? {
        None => None,
        Some(Short(letter)) => Some(Word::Short(letter)),
        Some(Long(name)) => Some(Word::Long(name.to_owned())),
        Some(Value(value)) => Some(Word::Value(value.to_string_lossy().into_owned())),
    })
}

fn value(parser: &mut lexopt::Parser, name: &str) -> Result<OsString, String> {
    parser.value().map_err(|_| format!("{name} wants a value"))
}

fn text(parser: &mut lexopt::Parser, name: &str) -> Result<String, String> {
    value(parser, name).map(|value| value.to_string_lossy().into_owned())
}

/// A number of plain digits: `parse` alone would take a sign.
fn digits<T: std::str::FromStr>(text: &str) -> Option<T> {
    text.parse().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()))
}

fn number<T>(parser: &mut lexopt::Parser, name: &str, least: T, most: T) -> Result<T, String>
where
    T: std::str::FromStr + PartialOrd + std::fmt::Display,
{
    let text = text(parser, name)?;
    digits::<T>(&text)
        .filter(|number| *number >= least && *number <= most)
        .ok_or_else(|| format!("{name} {text:?}: expected a whole number, {least} to {most}"))
}

fn timeout_ms(parser: &mut lexopt::Parser) -> Result<Duration, String> {
    number(parser, "--timeout-ms", 1, TIMEOUT_MS_MAX).map(Duration::from_millis)
}

fn cluster(text: &str) -> Result<u32, String> {
    digits(text)
        .filter(|number| *number > 0)
        .ok_or_else(|| format!("--cluster {text:?}: expected a number from 1 up"))
}

/// An event's name in its own case. One that Discord does not document is taken, as it may be new; one that looks
/// like a slip is not.
fn event(name: &str) -> Result<String, String> {
    let name = name.trim().to_ascii_uppercase();
    if EVENTS.contains(&name.as_str()) {
        return Ok(name);
    }
    match nearest(&name, EVENTS.iter().copied()) {
        Some(near) => Err(format!("no event is called {name}; did you mean {near}?")),
        None if name.len() > usize::from(u8::MAX) => Err("an event's name is that long?".to_owned()),
        None => Ok(name),
    }
}

fn unknown(name: &str, options: &[&str]) -> String {
    match nearest(name, options.iter().copied()) {
        Some(near) => format!("unknown option --{name}; did you mean --{near}?"),
        None => {
            let all: Vec<String> = options.iter().map(|option| format!("--{option}")).collect();
            format!("unknown option --{name}; there are {}", all.join(", "))
        }
    }
}

/// The one of `all` that is so near to `word` that it may have been meant.
fn nearest<'a>(word: &str, all: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // Distances cost length by length; nobody mistypes a name of that size.
    const WORD_LEN_MAX: usize = 64;
    if word.len() > WORD_LEN_MAX {
        return None;
    }
    let lower = word.to_ascii_lowercase();
    all.map(|known| (edit_distance(&lower, &known.to_ascii_lowercase()), known))
        .filter(|(distance, known)| *distance <= (known.len() / 4).clamp(1, 2))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(tool: Tool, words: &[&str]) -> Result<Parsed, String> {
        parse(tool, words.iter().map(OsString::from).collect())
    }

    #[test]
    fn tap_takes_what_its_help_says() {
        assert_eq!(parsed(Tool::Tap, &[]), Ok(Parsed::Tap(Tap::default())));
        let words = "--cluster 3 --cluster 1 --cluster 3 --event message_create,READY --event READY --shard 0 --shard=9 \
                     --count 5 --raw -c x.toml";
        let want = Tap {
            clusters: Clusters::These(vec![1, 3]),
            events: vec!["MESSAGE_CREATE".into(), "READY".into()],
            shards: vec![0, 9],
            count: Some(5),
            form: Form::Raw,
            config: Some("x.toml".into()),
        };
        assert_eq!(parsed(Tool::Tap, &words.split_whitespace().collect::<Vec<_>>()), Ok(Parsed::Tap(want)));
        let Ok(Parsed::Tap(all)) = parsed(Tool::Tap, &["--cluster", "all", "--json"]) else { panic!() };
        assert_eq!((all.clusters, all.form), (Clusters::All, Form::Json));
        // Discord may have added it.
        let Ok(Parsed::Tap(new)) = parsed(Tool::Tap, &["--event", "SOMETHING_NEW"]) else { panic!() };
        assert_eq!(new.events, ["SOMETHING_NEW"]);
    }

    #[test]
    fn cache_and_send_take_what_their_help_says() {
        let want = Cache {
            kind: "Member".into(),
            ids: vec![1, 2],
            cluster: 4,
            timeout: Duration::from_millis(10),
            config: None,
        };
        let words = ["Member", "1", "--cluster", "4", "2", "--timeout-ms", "10"];
        assert_eq!(parsed(Tool::Cache, &words), Ok(Parsed::Cache(want)));
        let want = Send {
            target: Target::Shard(3),
            payload: Some("{}".into()),
            cluster: None,
            timeout: TIMEOUT,
            config: None,
        };
        assert_eq!(parsed(Tool::Send, &["--shard", "3", "{}"]), Ok(Parsed::Send(want)));
        let Ok(Parsed::Send(send)) = parsed(Tool::Send, &["-", "--guild", "7", "--cluster", "2"]) else {
            panic!()
        };
        assert_eq!((send.target, send.payload, send.cluster), (Target::Guild(7), None, Some(2)));
    }

    #[test]
    fn help_wins_over_what_follows() {
        for tool in [Tool::Tap, Tool::Cache, Tool::Send] {
            assert_eq!(parsed(tool, &["--help", "--nonsense"]), Ok(Parsed::Help));
            assert_eq!(parsed(tool, &["-h"]), Ok(Parsed::Help));
        }
    }

    #[test]
    fn slips_are_named_with_what_was_meant() {
        for (tool, words, part) in [
            (Tool::Tap, "--evnt READY", "did you mean --event?"),
            (Tool::Tap, "--shards 1", "did you mean --shard?"),
            (Tool::Tap, "--nothing-like-it", "there are --cluster"),
            (Tool::Tap, "READY", "is no option"),
            (Tool::Tap, "-x", "-x"),
            (Tool::Tap, "--event MESAGE_CREATE", "did you mean MESSAGE_CREATE?"),
            (Tool::Tap, "--cluster 0", "from 1 up, or all"),
            (Tool::Tap, "--count 0", "1 to"),
            (Tool::Tap, "--shard +1", "whole number"),
            (Tool::Tap, "--shard", "wants a value"),
            (Tool::Cache, "", "the type is missing"),
            (Tool::Cache, "guild 1", "did you mean Guild?"),
            (Tool::Cache, "Planet 1", "unknown type \"Planet\""),
            (Tool::Cache, "Member 1", "Member takes 2 ids"),
            (Tool::Cache, "Guild x", "is no id"),
            (Tool::Cache, "Guild 18446744073709551616", "is no id"),
            (Tool::Cache, "Guild 1 --timeout 5", "there are --cluster"),
            (Tool::Send, "{}", "--shard or --guild is missing"),
            (Tool::Send, "--shard 1", "the payload is missing"),
            (Tool::Send, "--shard 1 --guild 2 {}", "not several"),
            (Tool::Send, "--shard 1 {} {}", "quoted"),
            (Tool::Send, "--shard 1 {} --timeout-ms 0", "1 to 3600000"),
        ] {
            let error = parsed(tool, &words.split_whitespace().collect::<Vec<_>>()).unwrap_err();
            assert!(error.contains(part), "{words}: {error}");
        }
    }
}
