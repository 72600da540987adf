//! The limit of open files: a socket per shard and per cluster has to fit below it.

use std::io;

/// Files that a process has besides its sockets: epoll, wakers, standard streams, resolver, log.
const OTHER_FILES: u64 = 64;

/// Raises the soft limit of open files to what `sockets` need, as far as the hard limit lets it. Returns what to
/// tell the operator if that is not enough.
///
/// # Errors
/// When the system does not tell the limit.
pub fn raise_limit(sockets: u64) -> io::Result<Option<String>> {
    let wanted = sockets + OTHER_FILES;
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid rlimit for the call to write into.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    if limit.rlim_cur >= wanted {
        return Ok(None);
    }
    limit.rlim_cur = wanted.min(limit.rlim_max);
    // SAFETY: `limit` is a valid rlimit that the call only reads.
    let raised = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) } == 0;
    Ok((!raised || limit.rlim_cur < wanted).then(|| {
        format!(
            "this process may open {} files and needs {wanted}: raise the limit (ulimit -n)",
            limit.rlim_max
        )
    }))
}

/// How many sockets fit below the limit; `None` where the system does not tell it.
pub fn room() -> Option<usize> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid rlimit for the call to write into.
    let read = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) } == 0;
    read.then(|| usize::try_from(limit.rlim_cur.saturating_sub(OTHER_FILES)).unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_does_not_fit() {
        assert_eq!(raise_limit(1).expect("a limit"), None);
        let told = raise_limit(u64::MAX / 2).expect("a limit").expect("nobody may open so many");
        assert!(told.contains("raise the limit"), "{told}");
    }
}
