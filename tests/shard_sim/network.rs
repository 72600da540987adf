//! Connections between shards and the stand-in: payloads with latency, in order, until something breaks.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rateway::base::Rng;
use rateway::gateway::shard::Cause;
use rateway::sim::ConnectionId;

/// What reaches a shard.
#[derive(Clone, Debug)]
pub enum Down {
    Opened,
    Text(Arc<[u8]>),
    /// A close frame.
    Closed(Option<u16>),
    /// The end of the bytes.
    Ended(Cause),
}

/// What reaches the stand-in.
#[derive(Clone, Debug)]
pub enum Up {
    /// The WebSocket upgrade with this query.
    Accept(String),
    Text(Vec<u8>),
    Close(u16),
    End,
}

/// One connection. What was sent later never overtakes.
#[derive(Debug)]
pub struct Link {
    pub shard: usize,
    /// Under way to the shard.
    pub down: VecDeque<(Instant, Down)>,
    /// Arrived, not read.
    pub unread: VecDeque<Down>,
    pub unread_bytes: usize,
    pub up: VecDeque<(Instant, Up)>,
    latency: Duration,
    jitter: Duration,
    down_last: Instant,
    up_last: Instant,
    /// Nothing arrives at the shard any more.
    pub down_lost: bool,
    /// Nothing arrives at the stand-in any more.
    pub up_lost: bool,
    /// When a half-open connection is found out by the network.
    pub breaks_at: Option<Instant>,
    /// The network or Discord has done something that keeps heartbeats from arriving.
    pub tainted: bool,
    /// The shard has dropped it.
    pub client_gone: bool,
    /// The stand-in has dropped it.
    pub server_gone: bool,
}

fn size(item: &Down) -> usize {
    match item {
        Down::Text(payload) => payload.len() + 100,
        _ => 0,
    }
}

impl Link {
    pub fn new(now: Instant, shard: usize, latency: Duration, jitter: Duration) -> Link {
        Link {
            shard,
            down: VecDeque::new(),
            unread: VecDeque::new(),
            unread_bytes: 0,
            up: VecDeque::new(),
            latency,
            jitter,
            down_last: now,
            up_last: now,
            down_lost: false,
            up_lost: false,
            breaks_at: None,
            tainted: false,
            client_gone: false,
            server_gone: false,
        }
    }

    fn arrival(&self, now: Instant, rng: &mut Rng) -> Instant {
        now + self.latency + rng.duration(Duration::ZERO, self.jitter)
    }

    pub fn send_down(&mut self, now: Instant, rng: &mut Rng, item: Down) {
        if self.down_lost || self.client_gone {
            return;
        }
        self.down_last = self.down_last.max(self.arrival(now, rng));
        self.down.push_back((self.down_last, item));
    }

    pub fn send_up(&mut self, now: Instant, rng: &mut Rng, delay: Duration, item: Up) {
        if self.up_lost {
            return;
        }
        self.up_last = self.up_last.max(self.arrival(now + delay, rng));
        self.up.push_back((self.up_last, item));
    }

    /// It is there, to be read.
    pub fn arrive(&mut self, item: Down) {
        self.unread_bytes += size(&item);
        self.unread.push_back(item);
    }

    /// What the shard reads next.
    pub fn read(&mut self) -> Option<Down> {
        let item = self.unread.pop_front()?;
        self.unread_bytes -= size(&item);
        Some(item)
    }

    /// Nothing moves for `duration`.
    pub fn stall(&mut self, now: Instant, duration: Duration) {
        let until = now + duration;
        self.tainted = true;
        self.down_last = self.down_last.max(until);
        self.up_last = self.up_last.max(until);
        for at in self.down.iter_mut().map(|(at, _)| at).chain(self.up.iter_mut().map(|(at, _)| at)) {
            *at = (*at).max(until);
        }
    }

    /// Nothing more arrives at the shard, and it is not told.
    pub fn lose_down(&mut self) {
        self.down.clear();
        self.down_lost = true;
    }

    /// What is under way is lost; the shard learns of the end after what it has.
    pub fn break_down(&mut self, cause: Cause) {
        self.lose_down();
        if !self.client_gone {
            self.unread.push_back(Down::Ended(cause));
        }
        self.tainted = true;
    }

    /// When something happens on it by itself.
    pub fn next(&self) -> Option<Instant> {
        let down = self.down.front().map(|(at, _)| *at);
        let up = self.up.front().map(|(at, _)| *at);
        down.into_iter().chain(up).chain(self.breaks_at).min()
    }

    pub fn is_over(&self) -> bool {
        self.client_gone && self.server_gone && self.up.is_empty()
    }
}

/// All connections, and the moods of the network.
#[derive(Debug, Default)]
pub struct Network {
    pub links: BTreeMap<ConnectionId, Link>,
    pub next_id: ConnectionId,
    /// No connection can be made before this.
    pub down_until: Option<Instant>,
    /// None to the host of the resume URL.
    pub resume_host_down_until: Option<Instant>,
    /// How many of the next connections fail, and how many are slow.
    pub failures: u32,
    pub slow: u32,
}
