//! basic.publish: from a whole message to places in queues.

use std::time::Instant;

use super::broker::{Broker, ConnectionId};
use super::channel::Incoming;
use super::dead_letter::Reason;
use super::fault::{Fault, Kind, text};
use super::message::{Message, split_names};
use super::properties::{self, Properties};
use super::slots::Key;
use super::write;

/// The name that stands for a channel's own reply queue.
pub(super) const REPLY_TO: &[u8] = b"amq.rabbitmq.reply-to";

/// What of a message's properties and its place in the world decides over its way.
#[derive(Clone, Copy)]
pub(super) struct Sent {
    pub(super) body_bytes: u32,
    /// The property `expiration`.
    pub(super) expiration_ms: Option<u64>,
}

impl Broker {
    /// Takes a message in. Returns the units of work that it took.
    pub(super) fn publish(
        &mut self,
        now: Instant,
        id: ConnectionId,
        number: u16,
        incoming: Incoming,
    ) -> Result<usize, Fault> {
        let Incoming { is_mandatory, mut bytes, names_len, mut header_len, .. } = incoming;
        let header = bytes.get(names_len..names_len + header_len).unwrap_or_default();
        let properties = properties::parse(header).ok_or(Fault::Syntax)?;
        let sent = Sent {
            // Within `message_bytes_max`, which is far below 4 GiB.
            body_bytes: (bytes.len() - names_len - header_len) as u32,
            expiration_ms: self.check_properties(id, &properties)?,
        };
        let names = bytes.get(..names_len).unwrap_or_default();
        let (exchange, routing_key) = split_names(names);
        let mut routed = std::mem::take(&mut self.routed);
        routed.clear();
        let found = self.route(exchange, routing_key, properties.headers, &mut routed);
        self.routed = routed;
        let work = found?.ok_or_else(|| Fault::InternalExchange(text(exchange)))?;
        if properties.reply_to == Some(REPLY_TO) {
            let own = self.channel(id, number).and_then(|channel| channel.reply_queue.clone());
            let own = own.ok_or(Fault::NoReplyConsumer)?;
            let header = properties::with_reply_to(header, &properties, &own);
            bytes.splice(names_len..names_len + header_len, header.iter().copied());
            header_len = header.len();
        }
        self.stats.published += 1;
        let message = self.store.insert(Message::new(bytes, names_len, header_len));
        let is_taken = self.distribute(now, message, sent);
        let count = self.routed.len();
        if count == 0 {
            self.stats.unrouted += 1;
            if is_mandatory {
                self.give_back(id, number, message);
            }
        }
        self.store.sweep(message);
        let confirms = self.channel(id, number).and_then(|channel| channel.confirms.as_mut());
        if let Some(is_first) = confirms.map(|confirms| confirms.count(is_taken)) {
            self.stats.confirmed += u64::from(is_taken);
            if is_first {
                self.confirming.push((id, number));
            }
        }
        self.check_memory();
        Ok(count + work)
    }

    fn check_properties(&self, id: ConnectionId, properties: &Properties<'_>) -> Result<Option<u64>, Fault> {
        if let Some(claimed) = properties.user_id
            && let Some(connection) = self.connections.get(id)
            && claimed != connection.user.as_bytes()
        {
            return Err(Fault::UserId { claimed: text(claimed), user: connection.user.clone() });
        }
        let Some(expiration) = properties.expiration else { return Ok(None) };
        match properties::expiration_ms(expiration) {
            Some(expiration_ms) => Ok(Some(expiration_ms)),
            None => Err(Fault::InvalidExpiration(text(expiration))),
        }
    }

    /// Finds the queues for a message, and says what work it was. `Ok(None)`: the exchange takes messages from exchanges
    /// only.
    pub(super) fn route(
        &mut self,
        exchange: &[u8],
        routing_key: &[u8],
        headers: Option<&[u8]>,
        found: &mut Vec<Key>,
    ) -> Result<Option<usize>, Fault> {
        if exchange.is_empty() {
            found.extend(self.queue_names.get(routing_key));
            return Ok(Some(0));
        }
        let key =
            self.exchanges.find(exchange).ok_or_else(|| Fault::NotFound(Kind::Exchange, text(exchange)))?;
        if self.exchanges.get(key).is_some_and(|exchange| exchange.internal) {
            return Ok(None);
        }
        Ok(Some(self.exchanges.route(key, routing_key, headers, found)))
    }

    /// Puts a message into the queues in `self.routed`. Returns whether each took it.
    pub(super) fn distribute(&mut self, now: Instant, message: Key, sent: Sent) -> bool {
        let mut is_taken = true;
        for at in 0..self.routed.len() {
            let Some(&queue) = self.routed.get(at) else { break };
            is_taken &= self.enqueue(now, queue, message, sent);
        }
        is_taken
    }

    fn enqueue(&mut self, now: Instant, key: Key, message: Key, sent: Sent) -> bool {
        let Some(queue) = self.queues.get(key) else { return true };
        let has_limit = queue.has_limit();
        // Whoever has room gets what is there first, so that only what nobody takes counts.
        if has_limit && queue.has_turns() && !queue.ready.is_empty() {
            self.serve(now, key);
        }
        let ttl_ms = self.queues.get(key).and_then(|queue| queue.arguments.message_ttl_ms);
        let expires_ms = match (ttl_ms, sent.expiration_ms) {
            (None, None) => u64::MAX,
            (a, b) => self.age_ms(now) + a.unwrap_or(u64::MAX).min(b.unwrap_or(u64::MAX)),
        };
        let Some(queue) = self.queues.get_mut(key) else { return true };
        if has_limit && queue.refuses(sent.body_bytes) {
            self.stats.rejected += 1;
            if queue.arguments.overflow == Some(super::arguments::Overflow::RejectPublishDlx) {
                self.store.hold(message);
                self.let_go(key, message, Reason::MaxLength);
            }
            return false;
        }
        queue.push(message, sent.body_bytes, expires_ms);
        self.store.hold(message);
        if expires_ms != u64::MAX {
            self.set_expiry(now, key);
        }
        if has_limit {
            self.drop_overflow(now, key);
        }
        self.make_due(key);
        true
    }

    /// Drops from the head what a queue holds above its limit. A consumer with room comes first.
    fn drop_overflow(&mut self, now: Instant, key: Key) {
        if self.queues.get(key).is_some_and(|queue| queue.is_over() && queue.has_turns()) {
            self.serve(now, key);
        }
        while let Some(queue) = self.queues.get_mut(key)
            && queue.is_over()
            && let Some(place) = queue.pop()
        {
            self.stats.overflowed += 1;
            self.let_go(key, place.message, Reason::MaxLength);
        }
    }

    /// Gives a message that no queue took back to its publisher.
    fn give_back(&mut self, id: ConnectionId, number: u16, key: Key) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let frame_max = connection.frame_max;
        let Some(message) = self.store.get(key) else { return };
        let sent = write::Sent { key, message, channel: number, frame_max };
        if write::no_route(&mut connection.out, sent) {
            self.store.hold(key);
        }
        self.stats.returned += 1;
        self.list(id);
    }
}
