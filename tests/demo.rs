//! `rateway demo`: all parts in one process, as a newcomer starts them.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Output, Stdio};

use parking_lot::Mutex;

/// They look for free ports before they take them, so one at a time.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn demo(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rateway"));
    command.env_clear().arg("demo").args(arguments).stdin(Stdio::null());
    command
}

fn words(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

#[test]
fn once_shows_everything_and_ends() {
    let _alone = ONE_AT_A_TIME.lock();
    let output = demo(&["--once", "--shards", "6"]).output().expect("it starts");
    let text = words(&output);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("the worker heard") && text.contains("requests were answered"), "{text}");
    assert!(!text.contains("ERROR") && !text.contains("panicked"), "{text}");
}

/// Kills what a failed test leaves.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_signal_stops_it_cleanly() {
    let _alone = ONE_AT_A_TIME.lock();
    let child = demo(&["--rate", "500"]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
    let mut running = Running(child.expect("it starts"));
    let mut lines = BufReader::new(running.0.stdout.take().expect("piped")).lines().map_while(Result::ok);
    // A line comes every few seconds; the second one tells of a worker that hears.
    let heard = lines.by_ref().find(|line| line.contains("4 of 4 shards up") && !line.contains(" 0 heard"));
    assert!(heard.is_some());
    let pid = i32::try_from(running.0.id()).expect("a process id");
    // SAFETY: kill has no memory effects here; the child is ours and not waited for, so the id is its.
    assert_eq!(unsafe { libc::kill(pid, libc::SIGINT) }, 0);
    assert!(running.0.wait().expect("our own child").success());
    let last = lines.last().expect("a summary");
    assert!(last.starts_with("demo: Discord sent"), "{last}");
}

#[test]
fn wrong_arguments_are_told() {
    let output = demo(&["--shards", "0"]).output().expect("it starts");
    assert_eq!(output.status.code(), Some(2));
    assert!(words(&output).contains("--shards: 0 is not within 1 to 64"));
}
