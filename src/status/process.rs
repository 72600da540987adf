//! What Linux tells of this process. What it does not tell is left out.

use std::fs;

/// Ticks of the CPU time in /proc: the same on every Linux that user space sees (proc_pid_stat(5), USER_HZ).
const TICKS_PER_SECOND: f64 = 100.0;

/// Memory, CPU time and files of this process.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Process {
    /// Memory that is there, in bytes.
    pub resident_bytes: Option<u64>,
    /// CPU time of all threads, in seconds.
    pub cpu_seconds: Option<f64>,
    /// Files, sockets and the like that are open.
    pub open_fds: Option<u64>,
    /// How many may be.
    pub max_fds: Option<u64>,
}

/// Reads them.
pub fn read() -> Process {
    let text = |name: &str| fs::read_to_string(format!("/proc/self/{name}")).ok();
    Process {
        resident_bytes: text("status").and_then(|status| resident_bytes(&status)),
        cpu_seconds: text("stat").and_then(|stat| cpu_seconds(&stat)),
        // The folder is open while it is read.
        open_fds: fs::read_dir("/proc/self/fd").ok().map(|files| files.count().saturating_sub(1) as u64),
        max_fds: text("limits").and_then(|limits| max_fds(&limits)),
    }
}

fn resident_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib * 1024)
}

fn cpu_seconds(stat: &str) -> Option<f64> {
    // The second field is the name, in brackets, and may hold anything; user and system time are the 14th and 15th.
    let mut fields = stat.get(stat.rfind(')')? + 1..)?.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some((user + system) as f64 / TICKS_PER_SECOND)
}

fn max_fds(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_them_all() {
        let own = read();
        assert!(own.resident_bytes.is_some_and(|bytes| bytes > 1 << 20), "{own:?}");
        assert!(own.cpu_seconds.is_some() && own.open_fds.is_some_and(|count| count > 2), "{own:?}");
    }

    #[test]
    fn odd_texts() {
        let stat = "12 (a ) b) S 1 2 3 4 5 6 7 8 9 10 150 50 0 0";
        assert_eq!(cpu_seconds(stat), Some(2.0));
        for text in ["", ")", "12 (x) S", "12 (x) S 1 2 3 4 5 6 7 8 9 10 x y"] {
            assert_eq!((cpu_seconds(text), resident_bytes(text), max_fds(text)), (None, None, None));
        }
        assert_eq!(max_fds("Max open files            1024                 4096  files"), Some(1024));
    }
}
