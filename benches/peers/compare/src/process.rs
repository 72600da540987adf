//! Processes under measurement: what they have used, and their end.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A child that is ended when it goes out of scope.
pub struct Process(Child);

impl Process {
    pub fn start(command: &mut Command) -> Result<Process, String> {
        let name = command.get_program().to_string_lossy().into_owned();
        command.stdin(Stdio::null());
        Ok(Process(command.spawn().map_err(|error| format!("{name}: {error}"))?))
    }

    /// Nanoseconds of CPU time so far, user and system, of all threads that it has or had.
    pub fn cpu_ns(&self) -> u64 {
        let mut clock = 0;
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: both write to where they are pointed, and check the number of the process.
        let failed = unsafe {
            libc::clock_getcpuclockid(self.0.id() as libc::pid_t, &mut clock) != 0
                || libc::clock_gettime(clock, &mut time) != 0
        };
        assert!(!failed, "process {} has ended", self.0.id());
        time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
    }

    pub fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap_or_default();
        let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap_or_default();
        line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) * 1024
    }

    pub fn stdout(&mut self) -> Option<ChildStdout> {
        self.0.stdout.take()
    }

    /// Asks it to end, and waits until it has.
    pub fn stop(mut self) {
        // SAFETY: a signal to a child that has not been waited for, so its number is its own.
        unsafe { libc::kill(self.0.id() as libc::pid_t, libc::SIGTERM) };
        let until = Instant::now() + Duration::from_secs(10);
        while Instant::now() < until && matches!(self.0.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The last number that a program printed on a line of its own.
pub fn last_number(output: impl Read + Send + 'static) -> Arc<AtomicU64> {
    let number = Arc::new(AtomicU64::new(0));
    let shared = number.clone();
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            if let Ok(number) = line.parse() {
                shared.store(number, Ordering::Release);
            }
        }
    });
    number
}

/// Waits until `condition`, at most `seconds`.
pub fn wait_for(what: &str, seconds: u64, mut condition: impl FnMut() -> bool) -> Result<(), String> {
    let until = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < until {
        if condition() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Err(format!("waited {seconds} s in vain until {what}"))
}
