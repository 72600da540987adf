//! `rateway tap`: events as they pass.
//!
//! The queue is the tap's own and has an end, so that a slow terminal fills no broker. Two threads: this one talks to
//! the broker, heartbeats included, for as long as a terminal may be stopped; the other one prints, and what it has
//! printed is acknowledged. So at most [`PREFETCH`] events wait in between.

use std::collections::HashMap;
use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use super::arguments::{Clusters, Form, Tap};
use super::events::EVENTS;
use super::session::{CHANNEL, Session};
use super::{Failure, Tool, note, output};
use crate::amqp::worker::{Event, Message, Queue};
use crate::config::ToolsConfig;
use crate::reactor::clock;
use crate::relay::{gap, topology};

/// Events that wait in the broker for a slow reader.
const QUEUE_LENGTH_MAX: u32 = 10_000;
const QUEUE_BYTES_MAX: u32 = 64 << 20;
/// Events that the broker sends ahead of what is printed.
const PREFETCH: u16 = 500;
/// Printed events that are acknowledged together while more come.
const ACK_EVERY: u64 = 100;
/// How soon what is printed is acknowledged, and a closed pipe seen, while nothing comes.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How often it is told that events are missing, and the queue looked at while the reader is slow.
const TELL_EVERY: Duration = Duration::from_secs(5);
/// What the printer writes at once.
const WRITE_BYTES: usize = 64 * 1024;

pub(super) fn run(asked: &Tap, config: &ToolsConfig) -> Result<(), Failure> {
    // Whatever it is doing, also when standard output takes nothing: Ctrl-C ends it, and the broker drops the queue.
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        let always = Arc::new(AtomicBool::new(true));
        signal_hook::flag::register_conditional_shutdown(signal, 0, always)
            .map_err(|error| Failure::Failed(format!("signals cannot be handled: {error}")))?;
    }
    let mut session = Session::connect(config, "tap")?;
    let clusters = clusters(&mut session, asked, config.shards_per_cluster)?;
    let queue = session.own_queue(QUEUE_LENGTH_MAX, QUEUE_BYTES_MAX)?;
    let all: Vec<String> = EVENTS.iter().map(|&name| name.to_owned()).collect();
    let events = if asked.events.is_empty() { &all } else { &asked.events };
    for cluster in &clusters {
        for event in events {
            session
                .worker()
                .bind(CHANNEL, &queue, &topology::exchange(*cluster), event)
                .map_err(|error| Failure::Failed(format!("{event}: {error}")))?;
        }
    }
    session.consume(&queue, PREFETCH)?;
    let exchanges: Vec<String> = clusters.iter().map(|&cluster| topology::exchange(cluster)).collect();
    note(Tool::Tap, format_args!("listening to {}", exchanges.join(", ")));
    let result = follow(&mut session, asked, &queue);
    session.close();
    result
}

/// The clusters whose exchanges are there.
fn clusters(session: &mut Session, asked: &Tap, per_cluster: u32) -> Result<Vec<u32>, Failure> {
    let mut wanted: Vec<u32> = match &asked.clusters {
        Clusters::All => {
            let mut found = Vec::new();
            for cluster in 1..u32::MAX {
                if !session.has_exchange(&topology::exchange(cluster))? {
                    break;
                }
                found.push(cluster);
            }
            if found.is_empty() {
                return Err(absent(1));
            }
            return Ok(found);
        }
        Clusters::These(numbers) => numbers.clone(),
        Clusters::Unsaid if asked.shards.is_empty() => vec![1],
        Clusters::Unsaid => {
            asked.shards.iter().map(|shard| (shard / per_cluster.max(1)).saturating_add(1)).collect()
        }
    };
    wanted.sort_unstable();
    wanted.dedup();
    for &cluster in &wanted {
        if !session.has_exchange(&topology::exchange(cluster))? {
            return Err(absent(cluster));
        }
    }
    Ok(wanted)
}

fn absent(cluster: u32) -> Failure {
    let exchange = topology::exchange(cluster);
    Failure::Failed(format!(
        "there is no exchange {exchange}: no rateway with that cluster has used this broker"
    ))
}

/// What the printer has told.
#[derive(Default)]
struct Progress {
    /// The delivery tag of the last event that was printed.
    printed: AtomicU64,
    /// Standard output takes no more, or enough was printed.
    ended: AtomicBool,
}

fn follow(session: &mut Session, asked: &Tap, queue: &str) -> Result<(), Failure> {
    let (sender, receiver) = channel();
    let progress = Arc::new(Progress::default());
    let printer = std::thread::spawn({
        let (progress, count, style) =
            (progress.clone(), asked.count.unwrap_or(u64::MAX), Style::of(asked.form));
        move || print(&receiver, &progress, count, style)
    });
    let mut missed = Missed::new(asked.events.is_empty());
    let (mut received, mut acked) = (0u64, 0u64);
    loop {
        let now = clock::read().now;
        // Ordering: a plain count and a flag, nothing else is read by their leave.
        let printed = progress.printed.load(Ordering::Relaxed);
        if progress.ended.load(Ordering::Relaxed) {
            break;
        }
        let idle = printed == received;
        if printed >= acked + ACK_EVERY || (idle && printed > acked) {
            session.worker().ack_through(CHANNEL, printed);
            acked = printed;
        }
        if !idle && missed.wants_look(now) {
            // The answer comes as an event and says how full the queue is.
            session
                .worker()
                .declare_queue(CHANNEL, Queue::Existing(queue))
                .map_err(|error| Failure::Failed(error.to_string()))?;
        }
        missed.tell(now);
        match session.next(now + LOOK_EVERY)? {
            None => {}
            Some(Event::Message(message)) => {
                received = message.delivery_tag;
                missed.count(&message);
                let wanted = asked.shards.is_empty()
                    || message
                        .shard_id
                        .is_some_and(|id| asked.shards.iter().any(|&shard| i64::from(shard) == id));
                if sender.send((message, wanted)).is_err() {
                    break;
                }
            }
            Some(Event::Queue { messages, .. }) => missed.full |= messages >= QUEUE_LENGTH_MAX,
            Some(event) => session.must_go_on(event)?,
        }
    }
    drop(sender);
    let _ = printer.join();
    missed.tell_rest();
    Ok(())
}

/// How lines look.
#[derive(Clone, Copy)]
enum Style {
    Json,
    Raw,
    Short { colours: bool },
}

impl Style {
    fn of(form: Form) -> Style {
        match form {
            Form::Json => Style::Json,
            Form::Raw => Style::Raw,
            Form::Fitting if io::stdout().is_terminal() => {
                // no-color.org: set and not empty.
                let colours = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
                Style::Short { colours }
            }
            Form::Fitting => Style::Json,
        }
    }
}

/// Prints what comes until `count` lines are out or nobody reads them.
fn print(receiver: &Receiver<(Message, bool)>, progress: &Progress, count: u64, style: Style) {
    let mut stdout = io::stdout().lock();
    let (mut out, mut left) = (Vec::new(), count);
    while let Ok(first) = receiver.recv() {
        let mut next = Some(first);
        let mut last_tag = 0;
        while let Some((message, wanted)) = next {
            last_tag = message.delivery_tag;
            if wanted && left > 0 {
                left -= 1;
                line(&mut out, &message, style);
            }
            next = if out.len() < WRITE_BYTES { receiver.try_recv().ok() } else { None };
        }
        let written = stdout.write_all(&out).and_then(|()| stdout.flush());
        out.clear();
        progress.printed.store(last_tag, Ordering::Relaxed);
        // A closed pipe is how `head` says that it has enough.
        if written.is_err() || left == 0 {
            break;
        }
    }
    progress.ended.store(true, Ordering::Relaxed);
}

fn line(out: &mut Vec<u8>, message: &Message, style: Style) {
    let cluster = message.exchange.strip_prefix("rateway-").and_then(|number| number.parse().ok());
    match style {
        Style::Json => output::json_line(out, cluster, message),
        Style::Raw => output::raw_line(out, message),
        Style::Short { colours } => output::short_line(out, cluster, message, colours),
    }
}

/// Counts what did not come, where that can be known: with all events bound, seqs have no holes.
struct Missed {
    by_seq: bool,
    /// Shard -> its session and the last seq of it.
    last: HashMap<i64, (String, i64)>,
    count: i64,
    told: i64,
    /// Whether the queue was seen full: then the broker leaves the oldest out.
    full: bool,
    next_tell: Option<Instant>,
    next_look: Option<Instant>,
}

impl Missed {
    fn new(by_seq: bool) -> Missed {
        let last = HashMap::new();
        Missed { by_seq, last, count: 0, told: 0, full: false, next_tell: None, next_look: None }
    }

    fn count(&mut self, message: &Message) {
        let (Some(id), Some(shard), Some(seq)) = (&message.message_id, message.shard_id, message.seq) else {
            return;
        };
        if !self.by_seq || message.routing_key == gap::ROUTING_KEY {
            return;
        }
        let Some((session, _)) = id.rsplit_once('-') else { return };
        match self.last.get_mut(&shard) {
            Some((known, last)) if known == session => {
                // What Discord or the broker sends again is behind.
                self.count = self.count.saturating_add(seq.saturating_sub(*last).saturating_sub(1).max(0));
                *last = seq.max(*last);
            }
            _ => _ = self.last.insert(shard, (session.to_owned(), seq)),
        }
    }

    fn wants_look(&mut self, now: Instant) -> bool {
        let due = !self.by_seq && self.next_look.is_none_or(|at| now >= at);
        if due {
            self.next_look = Some(now + TELL_EVERY);
        }
        due
    }

    fn tell(&mut self, now: Instant) {
        if self.next_tell.is_none_or(|at| now >= at) && (self.count > self.told || self.full) {
            self.next_tell = Some(now + TELL_EVERY);
            self.tell_rest();
        }
    }

    fn tell_rest(&mut self) {
        if self.count > self.told {
            let count = self.count;
            note(
                Tool::Tap,
                format_args!(
                    "{count} events are missing so far: the reader is too slow, or their names are new"
                ),
            );
        } else if self.full {
            note(Tool::Tap, format_args!("the reader is too slow: the oldest events are left out"));
        }
        (self.told, self.full) = (self.count, false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(shard: i64, session: &str, seq: i64, event: &str) -> Message {
        Message {
            delivery_tag: 1,
            exchange: "rateway-1".into(),
            routing_key: event.into(),
            correlation_id: None,
            message_id: Some(format!("{shard}-{session}-{seq}")),
            timestamp_s: None,
            shard_id: Some(shard),
            seq: Some(seq),
            repeat: false,
            body: Vec::new(),
        }
    }

    #[test]
    fn holes_are_counted_by_shard_and_session() {
        let mut missed = Missed::new(true);
        let seen =
            [(0, "a", 5), (1, "b", 9), (0, "a", 6), (1, "b", 10), (0, "a", 6), (0, "a", 9), (1, "c", 1)];
        seen.iter().for_each(|&(shard, session, seq)| missed.count(&message(shard, session, seq, "READY")));
        assert_eq!(missed.count, 2, "7 and 8 of shard 0");
        missed.count(&message(0, "a", 90, "RATEWAY_GAP"));
        assert_eq!(missed.count, 2, "a gap's seq is no progress");
        let mut filtered = Missed::new(false);
        [1, 100].iter().for_each(|&seq| filtered.count(&message(0, "a", seq, "READY")));
        assert_eq!(filtered.count, 0, "holes are what a filter makes");
    }
}
