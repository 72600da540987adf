//! The program as a process of its own: started, listened to, signalled, and searched for secrets at its end.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread::JoinHandle;

use parking_lot::Mutex;

use super::{AMQP_PASSWORD, TOKEN, wait_for};

/// A running rateway. Dropping it kills it, and fails the test when it has shown a secret or a panic.
pub struct Gateway {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
    readers: Vec<JoinHandle<()>>,
    /// What must not be in its output, besides the token and the broker's password.
    pub secrets: Vec<String>,
}

impl Gateway {
    /// Starts it with these variables and no others.
    pub fn start(variables: &[(String, String)], arguments: &[&str]) -> Gateway {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rateway"));
        command.env_clear().envs(variables.iter().map(|(name, value)| (name, value))).args(arguments);
        Gateway::watch(command)
    }

    /// Starts any program, such as a worker, and watches it in the same way.
    pub fn watch(mut command: Command) -> Gateway {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let lines = Arc::new(Mutex::new(Vec::new()));
        let mut readers = Vec::new();
        let out: Box<dyn std::io::Read + Send> = Box::new(child.stdout.take().expect("piped"));
        let err: Box<dyn std::io::Read + Send> = Box::new(child.stderr.take().expect("piped"));
        for stream in [out, err] {
            let lines = lines.clone();
            readers.push(std::thread::spawn(move || {
                let mut stream = BufReader::new(stream);
                let mut line = Vec::new();
                while stream.read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
                    lines.lock().push(String::from_utf8_lossy(&line).trim_end().to_owned());
                    line.clear();
                }
            }));
        }
        Gateway { child, lines, readers, secrets: Vec::new() }
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// All that it has said so far.
    pub fn lines(&self) -> Vec<String> {
        self.lines.lock().clone()
    }

    /// How many lines hold `part`.
    pub fn count(&self, part: &str) -> usize {
        self.lines.lock().iter().filter(|line| line.contains(part)).count()
    }

    /// Waits for a line that holds `part`.
    pub fn wait_line(&self, part: &str) -> String {
        wait_for(&format!("a log line with {part:?}"), || {
            self.lines.lock().iter().find(|line| line.contains(part)).cloned()
        })
    }

    /// Whether it runs.
    pub fn is_alive(&mut self) -> bool {
        self.child.try_wait().expect("our own child").is_none()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: i32) {
        let pid = i32::try_from(self.child.id()).expect("a process id");
        // SAFETY: kill has no memory effects here; the child is ours and not reaped before `wait`, so the id is its.
        assert_eq!(unsafe { libc::kill(pid, signal) }, 0, "the process is there to be signalled");
    }

    /// Waits for its end; says the exit status.
    pub fn wait(&mut self) -> i32 {
        let status = wait_for("the end of the program", || self.child.try_wait().expect("our own child"));
        self.join_readers();
        status.code().unwrap_or_else(|| panic!("the program was killed: {status}"))
    }

    /// Asks it to stop and waits for that.
    pub fn stop(&mut self) -> i32 {
        self.signal(libc::SIGTERM);
        self.wait()
    }

    /// Resident memory in KiB.
    pub fn resident_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("Linux");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("VmRSS");
        line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a number of KiB")
    }

    fn join_readers(&mut self) {
        for reader in self.readers.drain(..) {
            let _ = reader.join(); // A reader that panicked has printed itself.
        }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.join_readers();
        let lines = self.lines.lock();
        if std::thread::panicking() {
            let tail = &lines[lines.len().saturating_sub(60)..];
            eprintln!("rateway's last lines:\n{}", tail.join("\n"));
            return;
        }
        for line in lines.iter() {
            for secret in [TOKEN, AMQP_PASSWORD].into_iter().chain(self.secrets.iter().map(String::as_str)) {
                assert!(!line.contains(secret), "a secret was shown: {line}");
            }
            assert!(!line.contains("panicked") && !line.contains("a bug in rateway"), "a bug: {line}");
        }
    }
}
