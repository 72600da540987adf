//! Where a setting's text comes from: variable, file named by a variable, TOML key, file named by a TOML key, default,
//! in this order. Collects the problems on the way.
//!
//! Every value is text until its parser has seen it, also one that TOML has a type for: one parser, one message.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::settings::{self, Preset, Setting};
use super::{InEffect, Problem, Problems, shown};

/// The longest configuration or secret file taken: more is a mistake in the path.
const FILE_BYTES_MAX: u64 = 1 << 20;

type Env<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// The text of a TOML value, or what it was instead of something that has one.
type FileValue = Result<String, &'static str>;

pub(super) struct Sources<'a> {
    env: Env<'a>,
    file_name: String,
    file: BTreeMap<String, FileValue>,
    problems: Vec<Problem>,
    in_effect: Vec<InEffect>,
}

/// A setting's text and where it was found.
struct Found {
    text: String,
    /// For the name of a problem: `INTENTS`, `intents in rateway.toml`.
    name: String,
    origin: String,
}

impl<'a> Sources<'a> {
    /// Reads the file, if one is given, and looks for keys that mean nothing.
    pub(super) fn open(file: Option<&Path>, env: Env<'a>) -> Sources<'a> {
        let file_name = file.map(|path| path.display().to_string()).unwrap_or_default();
        let mut sources =
            Sources { env, file_name, file: BTreeMap::new(), problems: Vec::new(), in_effect: Vec::new() };
        if let Some(path) = file {
            sources.read_toml(path);
        }
        sources
    }

    /// The problems and, where there are none, what is in effect.
    pub(super) fn finish(self) -> (Problems, Vec<InEffect>) {
        (Problems(self.problems), self.in_effect)
    }

    /// The value of a setting that has a default or has to be set; `None` after a problem was noted.
    pub(super) fn required<T>(
        &mut self,
        setting: &'static Setting,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let problems = self.problems.len();
        let value = self.optional(setting, parse);
        if value.is_none() && self.problems.len() == problems {
            let name = match setting.file_name() {
                Some(file_name) => format!("{} (or {file_name})", setting.name),
                None => setting.name.to_owned(),
            };
            self.problem(name, "nothing".to_owned(), setting);
        }
        value
    }

    /// The value of a setting that may be left alone; `None` then, or after a problem was noted.
    pub(super) fn optional<T>(
        &mut self,
        setting: &'static Setting,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let Some(found) = self.find(setting) else {
            if let Preset::Unset(means) = setting.preset {
                let (value, origin) = (means.to_owned(), "default".to_owned());
                self.in_effect.push(InEffect { name: setting.name, value, origin });
            }
            return None;
        };
        match parse(&found.text) {
            Ok(value) => {
                // What stands behind the `?` of a URL may be a secret of whoever answers there.
                let text = match found.text.split_once('?') {
                    Some((url, _)) if url.contains("://") => format!("{url}?***"),
                    _ => found.text.clone(),
                };
                let value_shown =
                    if setting.secret { "***".to_owned() } else { text.escape_debug().to_string() };
                self.in_effect.push(InEffect {
                    name: setting.name,
                    value: value_shown,
                    origin: found.origin,
                });
                Some(value)
            }
            Err(fault) => {
                let text = if setting.secret {
                    fault
                } else if may_hold_password(&found.text) {
                    format!("a value that {fault}")
                } else {
                    format!("{} ({fault})", shown(&found.text))
                };
                self.problem(found.name, text, setting);
                None
            }
        }
    }

    /// Whether somebody has set it.
    pub(super) fn is_set(&self, setting: &Setting) -> bool {
        self.in_effect.iter().any(|line| line.name == setting.name && line.origin != "default")
    }

    /// STATE_DIR: what is set, else what systemd or the desktop's convention say; `None` keeps nothing.
    pub(super) fn state_dir(&mut self) -> Option<PathBuf> {
        if let Some(text) = self.optional(&settings::STATE_DIR, |text| Ok(text.to_owned())) {
            return (text != "none").then(|| PathBuf::from(text));
        }
        let path = |name: &str| (self.env)(name).map(PathBuf::from).filter(|path| path.is_absolute());
        // systemd.exec(5): several folders are separated by colons.
        let systemd = path("STATE_DIRECTORY")
            .and_then(|path| path.to_str().and_then(|text| text.split(':').next()).map(PathBuf::from));
        let found = systemd
            .map(|path| (path, "STATE_DIRECTORY"))
            .or_else(|| path("XDG_STATE_HOME").map(|state| (state.join("rateway"), "XDG_STATE_HOME")))
            .or_else(|| path("HOME").map(|home| (home.join(".local/state/rateway"), "HOME")));
        if let Some(line) = self.in_effect.iter_mut().find(|line| line.name == settings::STATE_DIR.name)
            && line.origin == "default"
        {
            line.value = match &found {
                Some((path, from)) => format!("{}, from {from}", shown(&path.to_string_lossy())),
                None => "none: neither HOME nor another variable says where".to_owned(),
            };
        }
        found.map(|(path, _)| path)
    }

    fn problem(&mut self, name: String, found: String, setting: &Setting) {
        self.problems.push(Problem { name, found, expected: setting.expected.to_owned() });
    }

    fn find(&mut self, setting: &'static Setting) -> Option<Found> {
        let direct = self.variable(setting.name);
        let by_file = setting.file_name().and_then(|name| Some((self.variable(&name)?, name)));
        match (direct, by_file) {
            (Some(_), Some((_, name))) => {
                let found = format!("{} and {name} both set", setting.name);
                let expected = "one of the two".to_owned();
                self.problems.push(Problem { name: setting.name.to_owned(), found, expected });
                return None;
            }
            (Some(text), None) => {
                let name = setting.name.to_owned();
                return Some(Found { text, name, origin: "variable".to_owned() });
            }
            (None, Some((path, name))) => return self.secret_file(&path, name, setting),
            (None, None) => {}
        }
        let in_file = |key: &str| format!("{key} in {}", self.file_name);
        if let Some(value) = self.file.get(setting.key) {
            let name = in_file(setting.key);
            match value.clone() {
                Ok(text) => return Some(Found { text, name, origin: self.file_name.clone() }),
                Err(kind) => self.problem(name, kind.to_owned(), setting),
            }
            return None;
        }
        if let Some(key) = setting.file_key()
            && let Some(value) = self.file.get(&key)
        {
            let name = in_file(&key);
            match value.clone() {
                Ok(path) => return self.secret_file(&path, name, setting),
                Err(kind) => self.problem(name, kind.to_owned(), setting),
            }
            return None;
        }
        match setting.preset {
            Preset::Value(value) => Some(Found {
                text: value.to_owned(),
                name: setting.name.to_owned(),
                origin: "default".to_owned(),
            }),
            Preset::Required | Preset::Unset(_) => None,
        }
    }

    /// A variable's text without whitespace around it. An empty one counts as not set, since that is how compose files
    /// write "not set".
    fn variable(&mut self, name: &str) -> Option<String> {
        let value = (self.env)(name)?;
        match value.into_string() {
            Ok(text) => Some(text.trim().to_owned()).filter(|text| !text.is_empty()),
            Err(_) => {
                let (found, expected) = ("bytes that are not UTF-8".to_owned(), "text".to_owned());
                self.problems.push(Problem { name: name.to_owned(), found, expected });
                None
            }
        }
    }

    fn secret_file(&mut self, path: &str, name: String, setting: &'static Setting) -> Option<Found> {
        let read = read_bounded(Path::new(path), FILE_BYTES_MAX)
            .and_then(|bytes| String::from_utf8(bytes).map_err(|_| "bytes that are not UTF-8".to_owned()));
        match read {
            // An editor's newline at the end is no part of a secret.
            Ok(text) => {
                let origin = format!("file {}", path.escape_debug());
                Some(Found { text: text.trim().to_owned(), name, origin })
            }
            Err(fault) => {
                let found = format!("{} ({fault})", shown(path));
                let expected = format!("a file that holds {}", setting.expected);
                self.problems.push(Problem { name, found, expected });
                None
            }
        }
    }

    fn read_toml(&mut self, path: &Path) {
        let problem = |found| Problem {
            name: path.display().to_string(),
            found,
            expected: "a configuration file in TOML".to_owned(),
        };
        let table = read_bounded(path, FILE_BYTES_MAX)
            .and_then(|bytes| String::from_utf8(bytes).map_err(|_| "bytes that are not UTF-8".to_owned()))
            .and_then(|text| text.parse::<toml::Table>().map_err(|error| toml_fault(&text, &error)));
        match table {
            Ok(table) => self.flatten("", table),
            Err(fault) => self.problems.push(problem(fault)),
        }
    }

    /// Puts `table` into `file` under dotted keys, as far as they are known.
    fn flatten(&mut self, prefix: &str, table: toml::Table) {
        for (key, value) in table {
            let key = format!("{prefix}{key}");
            let known = settings::all()
                .any(|setting| setting.key == key || setting.file_key().as_deref() == Some(&key));
            let inner = format!("{key}.");
            let is_prefix = settings::all().any(|setting| setting.key.starts_with(&inner));
            match value {
                value if known => {
                    self.file.insert(key, value_text(value));
                }
                toml::Value::Table(table) if is_prefix => self.flatten(&inner, table),
                _ => {
                    let expected = match settings::nearest_key(&key) {
                        Some(near) => format!("a known key; `{near}` is near"),
                        None => "a known key; `rateway --help` lists them".to_owned(),
                    };
                    self.problems.push(Problem {
                        name: format!("{} in {}", shown(&key), self.file_name),
                        found: "a key that rateway does not know".to_owned(),
                        expected,
                    });
                }
            }
        }
    }
}

/// A TOML value as its variable would be written; arrays become lists with commas, tables JSON.
fn value_text(value: toml::Value) -> FileValue {
    match value {
        toml::Value::String(text) => Ok(text.trim().to_owned()),
        toml::Value::Integer(number) => Ok(number.to_string()),
        toml::Value::Boolean(value) => Ok(value.to_string()),
        toml::Value::Float(_) => Err("a number with a fraction"),
        toml::Value::Datetime(_) => Err("a date"),
        toml::Value::Array(values) => {
            let texts: Result<Vec<String>, _> = values.into_iter().map(value_text).collect();
            Ok(texts?.join(","))
        }
        table @ toml::Value::Table(_) => {
            serde_json::to_string(&table).map_err(|_| "a table that is no JSON object")
        }
    }
}

/// What is wrong with the file and where. The message is TOML's own; the line itself, which it would print too, may
/// hold a token.
fn toml_fault(text: &str, error: &toml::de::Error) -> String {
    let line = error
        .span()
        .and_then(|span| text.get(..span.start))
        .map_or(1, |before| before.bytes().filter(|&b| b == b'\n').count() + 1);
    let message = error.message().lines().next().unwrap_or("unreadable");
    format!("a mistake in line {line}: {}", message.escape_debug())
}

/// Whether a value that should be no secret looks as if it held one.
fn may_hold_password(text: &str) -> bool {
    text.contains("://") && text.contains('@')
}

/// The content of a file of at most `bytes_max`.
pub(super) fn read_bounded(path: &Path, bytes_max: u64) -> Result<Vec<u8>, String> {
    let file = std::fs::File::open(path).map_err(|error| error.to_string())?;
    let mut out = Vec::new();
    file.take(bytes_max + 1).read_to_end(&mut out).map_err(|error| error.to_string())?;
    if out.len() as u64 > bytes_max { Err(format!("longer than {bytes_max} bytes")) } else { Ok(out) }
}
