//! A session: the numbered dispatches of one shard, kept so that RESUME can have them again.

use std::collections::VecDeque;
use std::sync::Arc;

use super::ConnectionId;

/// The part of IDENTIFY that shapes a session.
#[derive(Clone, Copy, Debug)]
pub(super) struct Identity {
    pub shard_id: u32,
    pub shard_count: u32,
    pub intents: u64,
    pub large_threshold: u32,
}

#[derive(Debug)]
pub(super) struct Session {
    pub id: Box<str>,
    pub identity: Identity,
    pub connection: Option<ConnectionId>,
    /// The last `s` given out.
    pub seq: u64,
    /// Dispatches by `s`, ascending; a missing `s` is one that the shell plays from its recording.
    replay: VecDeque<(u64, Arc<[u8]>)>,
    replay_max: u64,
}

/// What RESUME gets to see again.
#[derive(Debug)]
pub(super) enum Replay {
    Stored(Arc<[u8]>),
    /// `count` dispatches from `first` on, out of the recording.
    Recorded {
        first: u64,
        count: u64,
    },
}

impl Session {
    pub fn new(id: Box<str>, identity: Identity, connection: ConnectionId, replay_max: usize) -> Session {
        let replay_max = replay_max as u64;
        Session { id, identity, connection: Some(connection), seq: 0, replay: VecDeque::new(), replay_max }
    }

    /// Numbers a dispatch and keeps it.
    pub fn push(&mut self, event: &str, d: &str) -> (u64, Arc<[u8]>) {
        self.seq += 1;
        let text = format!("{{\"t\":\"{event}\",\"s\":{},\"op\":0,\"d\":{d}}}", self.seq);
        let payload: Arc<[u8]> = Arc::from(text.into_bytes());
        self.replay.push_back((self.seq, payload.clone()));
        self.trim();
        (self.seq, payload)
    }

    /// Gives out up to `count` numbers to dispatches that the shell plays; says the first.
    pub fn allot(&mut self, count: u64) -> u64 {
        let first = self.seq + 1;
        self.seq += count;
        self.trim();
        first
    }

    fn trim(&mut self) {
        let oldest = self.oldest();
        while self.replay.front().is_some_and(|&(seq, _)| seq < oldest) {
            self.replay.pop_front();
        }
    }

    /// The first `s` that can be sent again.
    fn oldest(&self) -> u64 {
        self.seq.saturating_sub(self.replay_max) + 1
    }

    /// Everything after `seq`, or `None` when the buffer no longer reaches back to it.
    pub fn replay(&self, seq: u64) -> Option<Vec<Replay>> {
        if seq + 1 < self.oldest() {
            return None;
        }
        let mut out = Vec::new();
        let mut next = seq + 1;
        let start = self.replay.partition_point(|&(s, _)| s <= seq);
        for (s, payload) in self.replay.range(start..) {
            if *s > next {
                out.push(Replay::Recorded { first: next, count: *s - next });
            }
            out.push(Replay::Stored(payload.clone()));
            next = *s + 1;
        }
        if next <= self.seq {
            out.push(Replay::Recorded { first: next, count: self.seq - next + 1 });
        }
        Some(out)
    }

    /// The last stored dispatch, for the fault that says it twice.
    pub fn last(&self) -> Option<Arc<[u8]>> {
        self.replay.back().map(|(_, payload)| payload.clone())
    }
}
