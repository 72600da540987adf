//! The identify queue under any sequence of requests, cancels, reports and waits: spacing, order and budget hold.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use rateway::queue::{Machine, Options};

/// One run.
pub fn run(bytes: &[u8]) {
    let [concurrency, remaining, rest @ ..] = bytes else { return };
    let concurrency = u32::from(concurrency % 4) + 1;
    let mut now = Instant::now();
    let options = Options::new(concurrency, 1000, u32::from(*remaining), Duration::from_secs(3600));
    let mut queue = Machine::new(options, now);
    let mut identified: HashMap<u32, Instant> = HashMap::new();
    let mut granted = Vec::new();
    let mut rest = rest.iter().copied();
    while let Some(step) = rest.next() {
        let argument = rest.next().unwrap_or(0);
        let shard_id = u32::from(argument % 8);
        let ticket = u64::from(shard_id) << 32 | u64::from(argument / 8);
        match step % 5 {
            0 => {
                let _ = queue.request(now, ticket, shard_id);
            }
            1 => {
                queue.cancel(now, ticket);
                granted.retain(|(known, _)| *known != ticket);
            }
            2 => {
                if let Some((ticket, shard_id)) = granted.pop() {
                    queue.identified(now, ticket, shard_id);
                    let last = identified.insert(shard_id % concurrency, now);
                    assert!(
                        last.is_none_or(|last| now.duration_since(last) >= Duration::from_secs(5)),
                        "two identifies of a bucket within 5 s"
                    );
                }
            }
            3 => queue.answered(now, ticket, shard_id),
            _ => {
                now = match queue.poll_timeout() {
                    Some(at) if argument % 2 == 0 => now.max(at),
                    _ => now + Duration::from_millis(u64::from(argument) * 20),
                };
                queue.handle_deadline(now);
                // A permit that is not used in time lapses; this caller then does not use it any more.
                granted.clear();
            }
        }
        while let Some(permit) = queue.poll_permit() {
            granted.push((permit.ticket, permit.shard_id));
        }
    }
}
