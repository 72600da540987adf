//! Lines an operator can act on: the backend of the `log` crate, on standard error.
//!
//! A record becomes one line, as text for people or as a JSON object for programs, and one write. What a peer sent may
//! be part of a message, so control characters are escaped and a line has a longest length: nobody else's bytes start
//! a line or steer a terminal. A closed pipe is no reason to panic; the line is lost, the gateway goes on.
//!
//! ```text
//! 2026-11-21T10:16:54.123Z INFO  gateway::shard: resumed shard=3 cluster=1
//! {"time":"2026-11-21T10:16:54.123Z","level":"info","target":"gateway::shard","message":"resumed","shard":3,"cluster":1}
//! ```
//!
//! The clock is handed in ([`Options::now`]): it is read in one place of the program, which is not here.

use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, SystemTime};

use log::kv::{self, VisitSource};
use log::{Level, LevelFilter, Log, Metadata, Record};

/// How a record becomes a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// What is logged: a level, and exceptions by module path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    rest: LevelFilter,
    /// (module path, level), the longest path first.
    modules: Vec<(String, LevelFilter)>,
}

impl Default for Filter {
    fn default() -> Filter {
        Filter { rest: LevelFilter::Info, modules: Vec::new() }
    }
}

impl Filter {
    /// Reads `info`, `debug,rustls=warn`, `rateway::amqp=trace`. Libraries stay at info at most, see
    /// `FOREIGN_LEVEL_MAX`. Without a bare level the rest is at info.
    ///
    /// # Errors
    /// With what is wrong, in words that may follow the text in brackets.
    pub fn parse(text: &str) -> Result<Filter, String> {
        let mut filter = Filter::default();
        let level = |text: &str| {
            text.trim()
                .parse::<LevelFilter>()
                .map_err(|_| format!("{:?} is no level", text.trim().chars().take(40).collect::<String>()))
        };
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            match part.split_once('=') {
                None => filter.rest = level(part)?,
                Some((module, text)) => {
                    filter.modules.push((module.trim().to_owned(), level(text)?));
                }
            }
        }
        filter.modules.sort_by_key(|(module, _)| std::cmp::Reverse(module.len()));
        Ok(filter)
    }

    /// The level up to which records of `target` are logged.
    fn level_of(&self, target: &str) -> LevelFilter {
        let inside = |module: &str| {
            target.strip_prefix(module).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
        };
        let level =
            self.modules.iter().find(|(module, _)| inside(module)).map_or(self.rest, |(_, level)| *level);
        let own = target == "rateway" || target.starts_with("rateway::");
        if own { level } else { level.min(FOREIGN_LEVEL_MAX) }
    }

    /// The highest level any module logs at.
    fn max(&self) -> LevelFilter {
        self.modules.iter().map(|(_, level)| *level).fold(self.rest, Ord::max)
    }
}

/// What logging has to know.
#[derive(Clone, Debug)]
pub struct Options {
    /// What is logged.
    pub filter: Filter,
    /// How it looks.
    pub format: Format,
    /// The wall clock.
    pub now: fn() -> SystemTime,
}

/// The longest line; the rest of a longer one is cut. Long enough for a payload of Discord's largest command.
const LINE_BYTES_MAX: usize = 8 << 10;

/// Libraries log no lower than this, whatever the filter says: at trace, ureq's writes out the bytes of a request and
/// tungstenite the frames it sends, and the token is in both.
const FOREIGN_LEVEL_MAX: LevelFilter = LevelFilter::Info;

struct Logger {
    options: Options,
    colours: bool,
}

/// Starts logging. A second call changes nothing.
pub fn start(options: Options) {
    let terminal =
        std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
    let colours = terminal && options.format == Format::Text;
    let max = options.filter.max();
    // One logger for the life of the process; it is never freed.
    let logger = Box::leak(Box::new(Logger { options, colours }));
    if log::set_logger(logger).is_ok() {
        log::set_max_level(max);
        std::panic::set_hook(Box::new(|panic| {
            let place = panic.location().map(ToString::to_string).unwrap_or_default();
            log::error!(target: "rateway::panic", place = place.as_str(); "{}", panic_text(panic.payload()));
        }));
    }
}

fn panic_text(payload: &(dyn std::any::Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("panic")
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= self.options.filter.level_of(metadata.target())
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let line = line(record, (self.options.now)(), self.options.format, self.colours);
        // With the reader of the pipe gone there is nobody left to tell.
        let _ = std::io::stderr().lock().write_all(line.as_bytes());
    }

    fn flush(&self) {}
}

/// The whole line, newline included.
fn line(record: &Record<'_>, at: SystemTime, format: Format, colours: bool) -> String {
    let mut out = String::with_capacity(256);
    match format {
        Format::Text => text_line(&mut out, record, at, colours),
        Format::Json => json_line(&mut out, record, at),
    }
    out.push('\n');
    out
}

// Writing to a String cannot fail: the results of write! are let go of below.

fn text_line(out: &mut String, record: &Record<'_>, at: SystemTime, colours: bool) {
    write_time(out, at);
    let (on, off) = match (colours, record.level()) {
        (false, _) | (true, Level::Info) => ("", ""),
        (true, Level::Error) => ("\x1b[31m", "\x1b[0m"),
        (true, Level::Warn) => ("\x1b[33m", "\x1b[0m"),
        (true, Level::Debug | Level::Trace) => ("\x1b[2m", "\x1b[0m"),
    };
    let _ = write!(out, " {on}{:<5}{off} {}: ", record.level(), short(record.target()));
    push_escaped(out, &record.args().to_string());
    let mut fields = TextFields { out };
    let _ = record.key_values().visit(&mut fields);
    cut(out, LINE_BYTES_MAX);
}

struct TextFields<'a> {
    out: &'a mut String,
}

impl<'kvs> VisitSource<'kvs> for TextFields<'_> {
    fn visit_pair(&mut self, key: kv::Key<'kvs>, value: kv::Value<'kvs>) -> Result<(), kv::Error> {
        let value = value.to_string();
        self.out.push(' ');
        push_escaped(self.out, key.as_str());
        self.out.push('=');
        if value.is_empty() || value.contains([' ', '=', '"']) {
            let _ = write!(self.out, "{value:?}");
        } else {
            push_escaped(self.out, &value);
        }
        Ok(())
    }
}

fn json_line(out: &mut String, record: &Record<'_>, at: SystemTime) {
    out.push_str("{\"time\":\"");
    write_time(out, at);
    let level = record.level().as_str().to_ascii_lowercase();
    let _ = write!(out, "\",\"level\":\"{level}\",\"target\":");
    push_json(out, short(record.target()));
    out.push_str(",\"message\":");
    let mut message = record.args().to_string();
    // Cut before encoding, so that a line stays JSON whatever its length; escapes grow it sixfold at most.
    cut(&mut message, LINE_BYTES_MAX);
    push_json(out, &message);
    let mut fields = JsonFields { out };
    let _ = record.key_values().visit(&mut fields);
    out.push('}');
}

struct JsonFields<'a> {
    out: &'a mut String,
}

impl<'kvs> VisitSource<'kvs> for JsonFields<'_> {
    fn visit_pair(&mut self, key: kv::Key<'kvs>, value: kv::Value<'kvs>) -> Result<(), kv::Error> {
        self.out.push(',');
        push_json(self.out, key.as_str());
        self.out.push(':');
        if let Some(number) = value.to_u64() {
            let _ = write!(self.out, "{number}");
        } else if let Some(number) = value.to_i64() {
            let _ = write!(self.out, "{number}");
        } else if let Some(truth) = value.to_bool() {
            let _ = write!(self.out, "{truth}");
        } else {
            let mut text = value.to_string();
            cut(&mut text, LINE_BYTES_MAX);
            push_json(self.out, &text);
        }
        Ok(())
    }
}

fn push_json(out: &mut String, text: &str) {
    // A str always encodes; control characters come out escaped.
    out.push_str(&serde_json::to_string(text).unwrap_or_default());
}

/// The target without the crate's name, which is the same on nearly every line.
fn short(target: &str) -> &str {
    target.strip_prefix("rateway::").unwrap_or(target)
}

/// Appends `text` with everything escaped that could start a line, move the cursor or turn the reading direction.
fn push_escaped(out: &mut String, text: &str) {
    for c in text.chars() {
        let steers = c.is_control()
            || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if steers {
            let _ = write!(out, "{}", c.escape_default());
        } else {
            out.push(c);
        }
    }
}

fn cut(text: &mut String, bytes_max: usize) {
    if text.len() > bytes_max {
        let end = (0..=bytes_max).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
        text.truncate(end);
        text.push_str("...");
    }
}

/// Appends the time as RFC 3339 in UTC with milliseconds. A clock before 1970 shows 1970.
fn write_time(out: &mut String, at: SystemTime) {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (year, month, day) = civil_date(days);
    let (hour, minute) = (second / 3600, second / 60 % 60);
    let (second, millis) = (second % 60, since.subsec_millis());
    let _ = write!(out, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z");
}

/// (year, month, day) of the Gregorian calendar, `days` after 1970-01-01.
fn civil_date(days: u64) -> (u64, u64, u64) {
    // Counted from 1 March of year 0, so that the leap day ends a year, a century and an era of 400 years.
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // Months from March have 31, 30, 31, 30, 31 days, twice and a bit: 153 days in five of them.
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64, millis: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds) + Duration::from_millis(millis)
    }

    fn logged(format: Format, message: &str, fields: &[(&str, kv::Value<'_>)]) -> String {
        let args = format_args!("{message}");
        let record = Record::builder()
            .level(Level::Warn)
            .target("rateway::gateway::shard")
            .args(args)
            .key_values(&fields)
            .build();
        line(&record, at(1_792_577_814, 7), format, false)
    }

    #[test]
    fn a_line_of_text() {
        let fields = [("shard", kv::Value::from(3)), ("why", kv::Value::from("went away"))];
        assert_eq!(
            logged(Format::Text, "link lost", &fields),
            "2026-10-21T10:16:54.007Z WARN  gateway::shard: link lost shard=3 why=\"went away\"\n"
        );
    }

    #[test]
    fn a_line_of_json() {
        let fields =
            [("shard", kv::Value::from(3)), ("delta", kv::Value::from(-1)), ("why", kv::Value::from("a\"b"))];
        let line = logged(Format::Json, "link\nlost", &fields);
        assert_eq!(line.matches('\n').count(), 1);
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(
            value,
            serde_json::json!({
                "time": "2026-10-21T10:16:54.007Z", "level": "warn", "target": "gateway::shard",
                "message": "link\nlost", "shard": 3, "delta": -1, "why": "a\"b"
            })
        );
    }

    #[test]
    fn hostile_text_stays_inside_its_line() {
        let hostile = "x\r\n2026-01-01T00:00:00.000Z ERROR forged\u{1b}[2J\u{0}\u{85}\u{2028}\u{202e}";
        for format in [Format::Text, Format::Json] {
            let line = logged(format, hostile, &[("name", kv::Value::from(hostile))]);
            assert_eq!(line.chars().filter(|&c| c == '\n').count(), 1, "{line:?}");
            assert!(!line.contains(['\r', '\u{1b}', '\u{0}']), "{line:?}");
        }
        let text = logged(Format::Text, hostile, &[]);
        assert!(!text.contains(['\u{85}', '\u{2028}', '\u{202e}']), "{text:?}");
    }

    #[test]
    fn long_lines_are_cut_and_json_stays_json() {
        let long = "ü".repeat(LINE_BYTES_MAX);
        assert!(logged(Format::Text, &long, &[]).len() <= LINE_BYTES_MAX + 4);
        let line = logged(Format::Json, &long, &[("k", kv::Value::from(long.as_str()))]);
        assert!(line.len() < 3 * LINE_BYTES_MAX);
        serde_json::from_str::<serde_json::Value>(&line).unwrap();
    }

    #[test]
    fn filters_by_module_and_level() {
        let filter = Filter::parse("warn, rateway::amqp=debug,rateway::amqp::frame=off").unwrap();
        assert_eq!(filter.level_of("rateway::amqp"), LevelFilter::Debug);
        assert_eq!(filter.level_of("rateway::amqp::client"), LevelFilter::Debug);
        assert_eq!(filter.level_of("rateway::amqp::frame"), LevelFilter::Off);
        assert_eq!(filter.level_of("rateway::amqpx"), LevelFilter::Warn);
        assert_eq!(filter.level_of("rustls"), LevelFilter::Warn);
        assert_eq!(filter.max(), LevelFilter::Debug);
        assert_eq!(Filter::parse("").unwrap(), Filter::default());
        assert_eq!(Filter::parse("rateway=debug").unwrap().level_of("rustls"), LevelFilter::Info);
        let all = Filter::parse("trace,tungstenite=trace").unwrap();
        assert_eq!(all.level_of("rateway"), LevelFilter::Trace);
        for library in ["tungstenite::protocol", "ureq_proto::util", "ratewayx", "rustls"] {
            assert_eq!(all.level_of(library), LevelFilter::Info, "{library}");
        }
        assert!(Filter::parse("loud").is_err() && Filter::parse("rateway=").is_err());
    }

    #[test]
    fn dates() {
        for (days, date) in [
            (0, (1970, 1, 1)),
            (58, (1970, 2, 28)),
            (59, (1970, 3, 1)),
            (11_016, (2000, 2, 29)),
            (11_017, (2000, 3, 1)),
            (20_454, (2026, 1, 1)),
            (47_540, (2100, 2, 28)),
            (47_541, (2100, 3, 1)),
        ] {
            assert_eq!(civil_date(days), date, "{days}");
        }
        let mut out = String::new();
        write_time(&mut out, SystemTime::UNIX_EPOCH - Duration::from_secs(1));
        assert_eq!(out, "1970-01-01T00:00:00.000Z");
    }
}
