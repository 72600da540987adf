//! Messages that a queue lets go of, on their way to its dead letter exchange, with RabbitMQ's header `x-death`.
//!
//! They are gathered and sent on at the end of a turn, so that a queue which is its own dead letter exchange costs
//! turns and not the stack. One that comes round to a queue again without a consumer having rejected it on the way is
//! dropped, as with RabbitMQ.

use std::sync::Arc;
use std::time::Instant;

use super::broker::Broker;
use super::message::Message;
use super::notice::Limit;
use super::options::{CONSUMER_ALLOWANCE, DEATHS_MAX, WORK_PER_RECEIVE};
use super::properties;
use super::publish::Sent;
use super::slots::Key;
use super::write;
use crate::amqp::table::{self, Value};

/// Why a queue lets go of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    Rejected,
    Expired,
    MaxLength,
}

impl Reason {
    fn name(self) -> &'static str {
        match self {
            Reason::Rejected => "rejected",
            Reason::Expired => "expired",
            Reason::MaxLength => "maxlen",
        }
    }
}

/// A message on its way.
#[derive(Debug)]
pub(super) struct DeadLetter {
    queue: Arc<[u8]>,
    exchange: Arc<str>,
    routing_key: Option<Arc<str>>,
    /// The place that it had in the queue, which it keeps.
    message: Key,
    reason: Reason,
}

impl DeadLetter {
    pub(super) fn message(&self) -> Key {
        self.message
    }
}

impl Broker {
    /// A queue gives up its place of `message`.
    pub(super) fn let_go(&mut self, queue: Key, message: Key, reason: Reason) {
        let found = self.queues.get(queue);
        let exchange = found.and_then(|queue| queue.arguments.dead_letter_exchange.clone());
        let (Some(queue), Some(exchange)) = (found, exchange) else {
            self.store.release(message);
            return;
        };
        let routing_key = queue.arguments.dead_letter_routing_key.clone();
        let queue = queue.name.clone();
        self.dead_letters.push_back(DeadLetter { queue, exchange, routing_key, message, reason });
    }

    /// Sends on what was let go of.
    pub(super) fn send_dead_letters(&mut self, now: Instant) {
        let mut work = 0;
        while work < WORK_PER_RECEIVE
            && let Some(letter) = self.dead_letters.pop_front()
        {
            work += 8;
            let sent = self.store.get(letter.message).and_then(|message| {
                let made = make(message, &letter, self.wall_s(now));
                made.map(|(bytes, names_len, header_len)| {
                    (bytes, names_len, header_len, message.body().len())
                })
            });
            if let Some((bytes, names_len, header_len, body_len)) = sent {
                let message = Message::new(bytes, names_len, header_len);
                work += self.send_dead_letter(now, letter.message, message, body_len as u32);
            }
            self.store.release(letter.message);
        }
    }

    /// Puts a dead letter where it goes, in place of `old`. Returns the units of work that it took.
    fn send_dead_letter(&mut self, now: Instant, old: Key, message: Message, body_bytes: u32) -> usize {
        let mut routed = std::mem::take(&mut self.routed);
        routed.clear();
        let (exchange, routing_key) = message.split_names();
        let headers = properties::parse(message.header()).and_then(|properties| properties.headers);
        // An exchange that is not there, or takes nothing from outside, takes no dead letters either.
        let work = self.route(exchange, routing_key, headers, &mut routed).ok().flatten().unwrap_or_default();
        let deaths = headers.and_then(|headers| table::find(headers, b"x-death")).and_then(Value::array);
        routed.retain(|queue| {
            let name = self.queues.get(*queue).map(|queue| queue.name.as_ref()).unwrap_or_default();
            !is_circle(deaths.unwrap_or_default(), name)
        });
        self.routed = routed;
        // Nobody can be kept from dying, so what becomes more by it has to end somewhere.
        let is_more = self.routed.len() > 1 || !self.store.is_single(old);
        if is_more
            && self.store.bytes() > self.options.memory_bytes / CONSUMER_ALLOWANCE * (CONSUMER_ALLOWANCE + 1)
        {
            self.meet(Limit::DeadLetters);
            return work;
        }
        let key = self.store.insert(message);
        self.stats.dead_lettered += 1;
        self.distribute(now, key, Sent { body_bytes, expiration_ms: None });
        self.store.sweep(key);
        work + self.routed.len()
    }
}

/// Whether a message that died so often has been in `queue`, and no consumer has rejected it since. The last death is
/// the first of the list. One that has died in too many places has gone round too, whatever they are called.
fn is_circle(deaths: &[u8], queue: &[u8]) -> bool {
    if table::items(deaths).count() > DEATHS_MAX {
        return true;
    }
    for death in table::items(deaths).filter_map(Value::table) {
        let text = |name: &[u8]| table::find(death, name).and_then(Value::text).unwrap_or_default();
        if text(b"reason") == b"rejected" {
            return false;
        }
        if text(b"queue") == queue {
            return true;
        }
    }
    false
}

/// The message as it is sent on: new names, new headers, the same body.
fn make(message: &Message, letter: &DeadLetter, wall_s: u64) -> Option<(Vec<u8>, usize, usize)> {
    let properties = properties::parse(message.header())?;
    let (exchange, routing_key) = message.split_names();
    let headers = headers(properties.headers.unwrap_or_default(), letter, (exchange, routing_key), wall_s);
    let header = properties::dead_lettered(message.header(), &properties, &headers);
    let mut bytes = Vec::with_capacity(message.body().len() + header.len() + 64);
    write::short(&mut bytes, letter.exchange.as_bytes());
    write::short(&mut bytes, letter.routing_key.as_ref().map_or(routing_key, |key| key.as_bytes()));
    let names_len = bytes.len();
    bytes.extend_from_slice(&header);
    bytes.extend_from_slice(message.body());
    Some((bytes, names_len, header.len()))
}

/// The headers with another death in `x-death`: the one before with the same queue and reason is counted up and comes
/// first.
fn headers(old: &[u8], letter: &DeadLetter, (exchange, routing_key): (&[u8], &[u8]), wall_s: u64) -> Vec<u8> {
    let reason = letter.reason.name().as_bytes();
    let before = table::find(old, b"x-death").and_then(Value::array).unwrap_or_default();
    let is_same = |death: &[u8]| {
        let text = |name: &[u8]| table::find(death, name).and_then(Value::text);
        text(b"queue") == Some(&letter.queue) && text(b"reason") == Some(reason)
    };
    let count = table::items(before)
        .filter_map(Value::table)
        .find(|death| is_same(death))
        .and_then(|death| table::find(death, b"count").and_then(Value::integer))
        .unwrap_or_default()
        .saturating_add(1);
    let mut death = Vec::new();
    write::short(&mut death, b"count");
    death.push(b'l');
    death.extend_from_slice(&count.to_be_bytes());
    write::text_entry(&mut death, "reason", reason);
    write::text_entry(&mut death, "queue", &letter.queue);
    write::short(&mut death, b"time");
    death.push(b'T');
    death.extend_from_slice(&wall_s.to_be_bytes());
    write::text_entry(&mut death, "exchange", exchange);
    let mut keys = vec![b'S'];
    keys.extend_from_slice(&(routing_key.len() as u32).to_be_bytes());
    keys.extend_from_slice(routing_key);
    nested(&mut death, "routing-keys", b'A', &keys);

    let mut deaths = Vec::new();
    let mut push = |death: &[u8]| {
        deaths.push(b'F');
        deaths.extend_from_slice(&(death.len() as u32).to_be_bytes());
        deaths.extend_from_slice(death);
    };
    push(&death);
    table::items(before).filter_map(Value::table).filter(|death| !is_same(death)).for_each(push);

    let mut out = Vec::new();
    let first = ["x-first-death-reason", "x-first-death-queue", "x-first-death-exchange"];
    let is_first = table::find(old, first[0].as_bytes()).is_none();
    for (name, value) in table::entries(old).filter(|(name, _)| *name != b"x-death") {
        write::short(&mut out, name);
        out.push(value.kind);
        if matches!(value.kind, b'S' | b'x' | b'A' | b'F') {
            out.extend_from_slice(&(value.bytes.len() as u32).to_be_bytes());
        }
        out.extend_from_slice(value.bytes);
    }
    nested(&mut out, "x-death", b'A', &deaths);
    if is_first {
        for (name, value) in first.into_iter().zip([reason, &letter.queue, exchange]) {
            write::text_entry(&mut out, name, value);
        }
    }
    out
}

fn nested(out: &mut Vec<u8>, name: &str, kind: u8, bytes: &[u8]) {
    write::short(out, name.as_bytes());
    out.push(kind);
    out.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter(queue: &str, reason: Reason) -> DeadLetter {
        let (queue, exchange) = (queue.as_bytes().into(), "dlx".into());
        DeadLetter { queue, exchange, routing_key: None, message: Key::NONE, reason }
    }

    #[test]
    fn deaths_are_counted_by_queue_and_reason() {
        let names = (b"e".as_slice(), b"k".as_slice());
        let once = headers(b"\x01at\x01", &letter("q", Reason::Expired), names, 9);
        let twice = headers(&once, &letter("r", Reason::Rejected), names, 10);
        let thrice = headers(&twice, &letter("q", Reason::Expired), names, 11);
        assert!(table::check(&thrice));
        assert_eq!(table::find(&thrice, b"a").and_then(Value::boolean), Some(true));
        let first = table::find(&thrice, b"x-first-death-queue").and_then(Value::text);
        assert_eq!(first, Some(b"q".as_slice()));
        let deaths = table::find(&thrice, b"x-death").and_then(Value::array).expect("deaths");
        let counts: Vec<_> = table::items(deaths)
            .filter_map(Value::table)
            .map(|death| {
                let count = table::find(death, b"count").and_then(Value::integer);
                (table::find(death, b"queue").and_then(Value::text).map(<[u8]>::to_vec), count)
            })
            .collect();
        assert_eq!(counts, [(Some(b"q".to_vec()), Some(2)), (Some(b"r".to_vec()), Some(1))]);
        assert!(is_circle(deaths, b"q"), "it expired there last");
        assert!(!is_circle(deaths, b"r"), "a consumer rejected it there");
        let rejected = headers(&thrice, &letter("r", Reason::Rejected), names, 12);
        let deaths = table::find(&rejected, b"x-death").and_then(Value::array).expect("deaths");
        assert!(!is_circle(deaths, b"q"), "a consumer rejected it on the way");
        let deaths = table::find(&once, b"x-death").and_then(Value::array).expect("deaths");
        assert!(is_circle(deaths, b"q") && !is_circle(deaths, b"z"));
    }
}
