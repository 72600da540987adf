//! The worker of the demo: hears all events, sends a command, asks the cache.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;

use crate::config::ToolsConfig;
use crate::reactor::clock;
use crate::relay::topology::{COMMAND_KEY, QUERY_KEY};
use crate::tools::Listener;

/// How long the broker and its exchanges are waited for between two tries.
const RETRY: Duration = Duration::from_millis(200);
/// How often it sends a command and a query.
const ASK_INTERVAL: Duration = Duration::from_secs(3);
/// How soon it sees that the demo ends.
const LOOK: Duration = Duration::from_millis(200);

/// What the worker has seen.
#[derive(Debug, Default)]
pub(super) struct Seen {
    events: AtomicU64,
    repeats: AtomicU64,
    bytes: AtomicU64,
    asked: AtomicU64,
    answered: AtomicU64,
    /// Shards of which an event came, the last event's name, the last answers to a command and to a query.
    rest: Mutex<Rest>,
}

#[derive(Debug, Default)]
struct Rest {
    shards: BTreeSet<i64>,
    last: String,
    command: Option<String>,
    query: Option<String>,
}

impl Seen {
    pub(super) fn events(&self) -> u64 {
        self.events.load(Ordering::Relaxed)
    }

    /// Whether every shard was heard, and a command and a query were answered.
    pub(super) fn saw_everything(&self, shards: u32) -> bool {
        let rest = self.rest.lock();
        rest.shards.len() == shards as usize && rest.command.is_some() && rest.query.is_some()
    }

    pub(super) fn words(&self) -> String {
        let number = |of: &AtomicU64| of.load(Ordering::Relaxed);
        format!(
            "{} events ({} MiB, {} repeats); {} of {} requests were answered",
            number(&self.events),
            number(&self.bytes) >> 20,
            number(&self.repeats),
            number(&self.answered),
            number(&self.asked)
        )
    }

    /// The last things that came.
    pub(super) fn last(&self) -> [String; 3] {
        let rest = self.rest.lock();
        [rest.last.clone(), rest.command.clone().unwrap_or_default(), rest.query.clone().unwrap_or_default()]
    }
}

pub(super) fn run(config: &ToolsConfig, clusters: u32, shards: u32, seen: &Seen, ends: &AtomicBool) {
    while !ends.load(Ordering::Relaxed) {
        // There is no broker before rateway runs, and no exchange before a cluster stands. Afterwards: it went away.
        let Ok(mut listener) = Listener::connect(config, clusters, "demo worker") else {
            thread::sleep(RETRY);
            continue;
        };
        if let Err(why) = listen(&mut listener, shards, seen, ends)
            && !ends.load(Ordering::Relaxed)
        {
            log::debug!("the demo's worker connects again: {why}");
        }
    }
}

fn listen(listener: &mut Listener, shards: u32, seen: &Seen, ends: &AtomicBool) -> Result<(), String> {
    let mut ask_at = clock::read().now;
    let mut turn = 0;
    while !ends.load(Ordering::Relaxed) {
        let now = clock::read().now;
        if now >= ask_at {
            ask_at = now + ASK_INTERVAL;
            ask(listener, turn % shards)?;
            seen.asked.fetch_add(2, Ordering::Relaxed);
            turn += 1;
        }
        let Some(message) = listener.next(now + LOOK)? else { continue };
        if message.exchange.is_empty() {
            seen.answered.fetch_add(1, Ordering::Relaxed);
            let text = String::from_utf8_lossy(&message.body).into_owned();
            let mut rest = seen.rest.lock();
            match message.correlation_id.as_deref() {
                Some(b"command") => rest.command = Some(text),
                _ => rest.query = Some(text),
            }
            continue;
        }
        seen.events.fetch_add(1, Ordering::Relaxed);
        seen.repeats.fetch_add(u64::from(message.repeat), Ordering::Relaxed);
        seen.bytes.fetch_add(message.body.len() as u64, Ordering::Relaxed);
        let mut rest = seen.rest.lock();
        rest.shards.extend(message.shard_id);
        rest.last = message.routing_key;
    }
    Ok(())
}

/// A presence for one shard, and a question to its cluster.
fn ask(listener: &mut Listener, shard: u32) -> Result<(), String> {
    let cluster = shard / super::SHARDS_PER_CLUSTER + 1;
    let presence =
        br#"{"op":3,"d":{"since":null,"activities":[{"name":"the demo","type":3}],"status":"online","afk":false}}"#;
    let header = shard.to_string();
    listener.send(cluster, COMMAND_KEY, Some(("shard_id", &header)), "command", presence)?;
    let query = br#"{"type":"CurrentUser","arguments":[],"return_routing_key":"demo"}"#;
    listener.send(cluster, QUERY_KEY, None, "query", query)
}
