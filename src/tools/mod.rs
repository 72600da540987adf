//! Tools for people at a shell, who have the broker and no worker at hand: `rateway tap` shows events, `rateway cache`
//! asks the cache, `rateway send` sends a gateway command.
//!
//! ```text
//! arguments > config > session (a socket, TLS, amqp::worker) > tap | cache | send > output
//! ```
//!
//! Each is a short-lived program with one connection and blocking sockets, and a worker like any other: it does what
//! README.md tells workers to do, and nothing that they could not. Results go to standard output, everything else to
//! standard error. No token is needed, and no password is shown.

mod arguments;
mod cache;
pub mod events;
mod help;
mod listener;
mod output;
mod send;
mod session;
mod tap;

pub use listener::Listener;

use std::ffi::OsString;
use std::fmt;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use crate::config::ToolsConfig;
use arguments::Parsed;
pub use help::{EXIT_STATUS, help};

/// Which tool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tool {
    /// `rateway tap`
    Tap,
    /// `rateway cache`
    Cache,
    /// `rateway send`
    Send,
}

impl Tool {
    /// The tool of a sub-command's name.
    pub fn named(name: &OsString) -> Option<Tool> {
        [Tool::Tap, Tool::Cache, Tool::Send].into_iter().find(|tool| name == tool.name())
    }

    fn name(self) -> &'static str {
        match self {
            Tool::Tap => "tap",
            Tool::Cache => "cache",
            Tool::Send => "send",
        }
    }
}

/// Why a tool did not do what it was asked for: its exit status and its words.
#[derive(Debug, PartialEq, Eq)]
enum Failure {
    /// It could not, or was refused.
    Failed(String),
    /// It was called wrongly.
    Usage(String),
    /// The cache does not hold it.
    NotHeld(String),
    /// The words are out already, on standard output.
    Told,
}

impl Failure {
    fn status(&self) -> u8 {
        match self {
            Failure::Failed(_) | Failure::Told => 1,
            Failure::Usage(_) => 2,
            Failure::NotHeld(_) => 3,
        }
    }
}

impl From<session::Error> for Failure {
    fn from(error: session::Error) -> Failure {
        Failure::Failed(error.to_string())
    }
}

/// Runs a tool with the arguments behind its name.
pub fn run(tool: Tool, arguments: Vec<OsString>) -> ExitCode {
    match try_run(tool, arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            match &failure {
                Failure::Usage(text) => {
                    let name = tool.name();
                    note(tool, format_args!("{text}\n`rateway {name} --help` shows how it is called"));
                }
                Failure::Failed(text) | Failure::NotHeld(text) => note(tool, format_args!("{text}")),
                Failure::Told => {}
            }
            ExitCode::from(failure.status())
        }
    }
}

fn try_run(tool: Tool, arguments: Vec<OsString>) -> Result<(), Failure> {
    match arguments::parse(tool, arguments).map_err(Failure::Usage)? {
        Parsed::Help => {
            // A pipe that is closed early is fine.
            let _ = std::io::stdout().lock().write_all(help(tool).as_bytes());
            Ok(())
        }
        Parsed::Tap(asked) => tap::run(&asked, &config(asked.config.as_deref())?),
        Parsed::Cache(asked) => cache::run(&asked, &config(asked.config.as_deref())?),
        Parsed::Send(asked) => send::run(&asked, &config(asked.config.as_deref())?),
    }
}

fn config(file: Option<&Path>) -> Result<ToolsConfig, Failure> {
    let loaded = ToolsConfig::load(file, |name| std::env::var_os(name));
    loaded.map_err(|problems| Failure::Usage(problems.to_string()))
}

/// A line for the person who runs the tool.
fn note(tool: Tool, text: fmt::Arguments<'_>) {
    // Nobody is told when even standard error is closed.
    let _ = std::io::stderr().lock().write_all(format!("rateway {}: {text}\n", tool.name()).as_bytes());
}
