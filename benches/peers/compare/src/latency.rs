//! How long events take from the stand-in's write to the read at the other end.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use crate::sink::Observer;

/// p50, p99 and p99.9 in microseconds.
pub type Percentiles = [f64; 3];

struct Arrival {
    shard_id: u32,
    seq: u64,
    unix_ns: u64,
}

/// What arrives while a program is measured.
#[derive(Clone, Default)]
pub struct Arrivals(Arc<Mutex<Vec<Arrival>>>);

impl Arrivals {
    pub fn observer(&self) -> Observer {
        let list = self.0.clone();
        Arc::new(move |message| {
            let (shard_id, seq, unix_ns) = (message.shard_id, message.seq, message.unix_ns);
            list.lock().expect("nobody panics here").push(Arrival { shard_id, seq, unix_ns });
        })
    }
}

/// A run of dispatches that was sent in one piece.
#[derive(Clone, Copy)]
struct Run {
    shard_id: u32,
    count: u64,
    first: u64,
    unix_ns: u64,
}

/// When the stand-in sent what: `shard_id u32 | count u32 | first s u64 | Unix ns u64`.
pub struct Sends(Vec<Run>);

impl Sends {
    pub fn read(path: &Path) -> Result<Sends, String> {
        let bytes = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let number = |bytes: &[u8]| bytes.iter().rev().fold(0, |sum, &byte| sum << 8 | u64::from(byte));
        let runs = bytes.chunks_exact(24).map(|record| Run {
            shard_id: number(&record[..4]) as u32,
            count: number(&record[4..8]),
            first: number(&record[8..16]),
            unix_ns: number(&record[16..]),
        });
        Ok(Sends(runs.collect()))
    }

    /// Of what was sent from `from_ns` to `until_ns`, while one program alone was connected.
    pub fn latencies(&self, arrivals: &Arrivals, from_ns: u64, until_ns: u64) -> Result<Percentiles, String> {
        let mut shards: BTreeMap<u32, Vec<Run>> = BTreeMap::new();
        for run in self.0.iter().filter(|run| (from_ns..until_ns).contains(&run.unix_ns)) {
            shards.entry(run.shard_id).or_default().push(*run);
        }
        let mut all = Vec::new();
        for arrival in arrivals.0.lock().expect("nobody panics here").iter() {
            let Some(runs) = shards.get(&arrival.shard_id) else { continue };
            let after = runs.partition_point(|run| run.first <= arrival.seq);
            let Some(run) = after.checked_sub(1).map(|at| runs[at]) else { continue };
            if arrival.seq < run.first + run.count {
                all.push(arrival.unix_ns.saturating_sub(run.unix_ns));
            }
        }
        let sent: u64 = shards.values().flatten().map(|run| run.count).sum();
        // What is sent last arrives after the last look.
        if (all.len() as u64) < sent * 9 / 10 {
            return Err(format!("{} of {sent} events arrived: the program does not keep up", all.len()));
        }
        all.sort_unstable();
        let at = |part: f64| all.get((all.len() as f64 * part) as usize).map_or(0.0, |&ns| ns as f64 / 1e3);
        Ok([at(0.5), at(0.99), at(0.999)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::Message;

    #[test]
    fn arrivals_are_matched_with_the_run_that_they_were_sent_in() {
        let sends = Sends(
            (0..1000)
                .map(|n| Run {
                    shard_id: n % 2,
                    count: 10,
                    first: 5 + u64::from(n / 2) * 10,
                    unix_ns: 1000 + u64::from(n) * 100,
                })
                .collect(),
        );
        let arrivals = Arrivals::default();
        let observer = arrivals.observer();
        for run in &sends.0 {
            for seq in run.first..run.first + run.count {
                // One in a hundred events takes 7 us, the others 2.
                let takes = if seq % 100 == 0 { 7000 } else { 2000 };
                let unix_ns = run.unix_ns + takes;
                observer(&Message { shard_id: run.shard_id, seq, routing_key: b"", body: b"", unix_ns });
            }
        }
        assert_eq!(sends.latencies(&arrivals, 0, u64::MAX).unwrap(), [2.0, 7.0, 7.0]);
        assert!(sends.latencies(&Arrivals::default(), 0, u64::MAX).is_err());
    }
}
