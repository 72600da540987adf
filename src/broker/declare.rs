//! exchange.* and queue.*: what there is, and what is bound to what.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::arguments::{self, QueueArguments};
use super::broker::{Broker, ConnectionId};
use super::command::{Bind, ExchangeDeclare, QueueDeclare};
use super::exchanges::{self, Destination, Exchange, ExchangeKind};
use super::fault::{Fault, Kind, text};
use super::matching;
use super::notice::{Limit, Notice};
use super::queue::Queue;
use super::slots::Key;
use super::write::{self, Method};
use crate::amqp::spec;
use crate::amqp::table::{self, Value};

/// Names that clients may not give.
const RESERVED: &[u8] = b"amq.";

/// What is not there counts as unbound, as with RabbitMQ.
fn found(key: Result<Key, Fault>) -> Result<Option<Key>, Fault> {
    match key {
        Err(Fault::NotFound(..)) => Ok(None),
        key => key.map(Some),
    }
}

impl Broker {
    fn find_exchange(&self, name: &[u8]) -> Result<Key, Fault> {
        if name.is_empty() {
            return Err(Fault::DefaultExchange);
        }
        self.exchanges.find(name).ok_or_else(|| Fault::NotFound(Kind::Exchange, text(name)))
    }

    /// The queue that a method names, which with an empty name is the last one declared on its channel. Refuses one
    /// that belongs to another connection.
    pub(super) fn find_queue(&mut self, id: ConnectionId, number: u16, name: &[u8]) -> Result<Key, Fault> {
        let last = self.connections.get_mut(id).and_then(|connection| connection.channel(number));
        let last = last.and_then(|channel| channel.last_queue.as_deref());
        let name = if name.is_empty() { last.ok_or(Fault::NoLastQueue)? } else { name };
        let found = self.queue_names.get(name).and_then(|key| Some((key, self.queues.get(key)?)));
        match found {
            None => Err(Fault::NotFound(Kind::Queue, text(name))),
            Some((_, queue)) if queue.exclusive_to.is_some_and(|owner| owner != id) => {
                Err(Fault::Locked(text(name)))
            }
            Some((key, _)) => Ok(key),
        }
    }

    pub(super) fn declare_exchange(
        &mut self,
        id: ConnectionId,
        number: u16,
        declare: &ExchangeDeclare<'_>,
    ) -> Result<(), Fault> {
        let name = declare.exchange;
        if declare.passive {
            if !name.is_empty() {
                self.find_exchange(name)?;
            }
        } else {
            self.make_exchange(declare)?;
        }
        if !declare.no_wait {
            self.say(id, |out| write::bare(out, number, spec::EXCHANGE_DECLARE_OK));
        }
        Ok(())
    }

    fn make_exchange(&mut self, declare: &ExchangeDeclare<'_>) -> Result<(), Fault> {
        let &ExchangeDeclare { exchange: name, kind, durable, auto_delete, internal, .. } = declare;
        let kind = ExchangeKind::from_name(kind).ok_or_else(|| Fault::UnknownExchangeType(text(kind)))?;
        if name.is_empty() {
            return Err(Fault::DefaultExchange);
        }
        let alternate = table::find(declare.arguments, b"alternate-exchange").and_then(Value::text);
        if alternate.is_some_and(|name| name.len() > usize::from(u8::MAX)) {
            let (argument, kind) = ("alternate-exchange", Kind::Exchange);
            return Err(Fault::InvalidArgument { name: argument, kind, entity: text(name) });
        }
        if let Some(key) = self.exchanges.find(name) {
            let Some(exchange) = self.exchanges.get(key) else { return Ok(()) };
            let quoted = |value: &str| format!("'{value}'");
            let flag = |value: bool| quoted(if value { "true" } else { "false" });
            let name_of = |value: Option<&[u8]>| {
                value.map_or_else(|| "none".to_owned(), |value| format!("the value '{}'", text(value)))
            };
            let rows = [
                ("type", quoted(kind.name()), quoted(exchange.kind.name())),
                ("durable", flag(durable), flag(exchange.durable)),
                ("auto_delete", flag(auto_delete), flag(exchange.auto_delete)),
                ("internal", flag(internal), flag(exchange.internal)),
                ("alternate-exchange", name_of(alternate), name_of(exchange.alternate.as_deref())),
            ];
            return match rows.into_iter().find(|(_, received, current)| received != current) {
                None => Ok(()),
                Some((what, received, current)) => {
                    let (kind, name) = (Kind::Exchange, text(name));
                    Err(Fault::Inequivalent { what, kind, name, received, current })
                }
            };
        }
        if name.starts_with(RESERVED) {
            return Err(Fault::ReservedName(Kind::Exchange, text(name)));
        }
        let count_max = self.options.exchanges_max;
        if self.exchanges.len() >= count_max {
            self.meet(Limit::Exchanges);
            return Err(Fault::EntityLimit { kind: Kind::Exchange, name: text(name), count_max });
        }
        let flags = (durable, auto_delete, internal);
        let exchange = Exchange::new(name.into(), kind, flags, alternate.map(Arc::from), &self.state);
        self.exchanges.insert(exchange);
        Ok(())
    }

    pub(super) fn delete_exchange(
        &mut self,
        id: ConnectionId,
        number: u16,
        name: &[u8],
        if_unused: bool,
        no_wait: bool,
    ) -> Result<(), Fault> {
        if name.is_empty() {
            return Err(Fault::DefaultExchange);
        }
        if name.starts_with(RESERVED) {
            return Err(Fault::ReservedName(Kind::Exchange, text(name)));
        }
        // As with RabbitMQ, what is not there counts as deleted.
        if let Some(key) = self.exchanges.find(name) {
            if if_unused && self.exchanges.is_source(key) {
                return Err(Fault::InUse(Kind::Exchange, text(name)));
            }
            self.exchanges.delete(key);
        }
        if !no_wait {
            self.say(id, |out| write::bare(out, number, spec::EXCHANGE_DELETE_OK));
        }
        Ok(())
    }

    fn bind(
        &mut self,
        source: &[u8],
        destination: Destination,
        routing_key: &[u8],
        arguments: &[u8],
    ) -> Result<(), Fault> {
        let key = self.find_exchange(source)?;
        let is_headers =
            self.exchanges.get(key).is_some_and(|exchange| exchange.kind == ExchangeKind::Headers);
        if is_headers && !matching::is_known_mode(arguments) {
            let (name, kind) = ("x-match", Kind::Exchange);
            return Err(Fault::InvalidArgument { name, kind, entity: text(source) });
        }
        if self.exchanges.is_bound(key, destination, routing_key, arguments) {
            return Ok(());
        }
        let weight = self.exchanges.weight() + exchanges::weight(routing_key, arguments);
        if self.exchanges.bindings() >= self.options.bindings_max || weight > self.options.bindings_weight_max
        {
            self.meet(Limit::Bindings);
            return Err(Fault::BindingLimit(self.options.bindings_max));
        }
        self.exchanges.bind(key, destination, routing_key, arguments);
        Ok(())
    }

    pub(super) fn bind_exchange(
        &mut self,
        id: ConnectionId,
        number: u16,
        bind: &Bind<'_>,
    ) -> Result<(), Fault> {
        let destination = Destination::Exchange(self.find_exchange(bind.destination)?);
        self.bind(bind.source, destination, bind.routing_key, bind.arguments)?;
        if !bind.no_wait {
            self.say(id, |out| write::bare(out, number, spec::EXCHANGE_BIND_OK));
        }
        Ok(())
    }

    pub(super) fn unbind_exchange(
        &mut self,
        id: ConnectionId,
        number: u16,
        bind: &Bind<'_>,
    ) -> Result<(), Fault> {
        let destination = found(self.find_exchange(bind.destination))?.map(Destination::Exchange);
        let source = found(self.find_exchange(bind.source))?;
        if let (Some(source), Some(destination)) = (source, destination) {
            self.exchanges.unbind(source, destination, bind.routing_key, bind.arguments);
        }
        if !bind.no_wait {
            self.say(id, |out| write::bare(out, number, spec::EXCHANGE_UNBIND_OK));
        }
        Ok(())
    }

    /// An empty queue name with an empty routing key means the last queue's name for both (queue.bind in the
    /// reference).
    fn routing_key(&self, queue: Key, bind: &Bind<'_>) -> Vec<u8> {
        match self.queues.get(queue) {
            Some(queue) if bind.destination.is_empty() && bind.routing_key.is_empty() => queue.name.to_vec(),
            _ => bind.routing_key.to_vec(),
        }
    }

    pub(super) fn bind_queue(&mut self, id: ConnectionId, number: u16, bind: &Bind<'_>) -> Result<(), Fault> {
        let queue = self.find_queue(id, number, bind.destination)?;
        let routing_key = self.routing_key(queue, bind);
        self.bind(bind.source, Destination::Queue(queue), &routing_key, bind.arguments)?;
        if !bind.no_wait {
            self.say(id, |out| write::bare(out, number, spec::QUEUE_BIND_OK));
        }
        Ok(())
    }

    pub(super) fn unbind_queue(
        &mut self,
        id: ConnectionId,
        number: u16,
        bind: &Bind<'_>,
    ) -> Result<(), Fault> {
        let queue = found(self.find_queue(id, number, bind.destination))?;
        let source = found(self.find_exchange(bind.source))?;
        if let (Some(source), Some(queue)) = (source, queue) {
            let routing_key = self.routing_key(queue, bind);
            self.exchanges.unbind(source, Destination::Queue(queue), &routing_key, bind.arguments);
        }
        self.say(id, |out| write::bare(out, number, spec::QUEUE_UNBIND_OK));
        Ok(())
    }

    pub(super) fn declare_queue(
        &mut self,
        now: Instant,
        id: ConnectionId,
        number: u16,
        declare: &QueueDeclare<'_>,
    ) -> Result<(), Fault> {
        let exists = !declare.queue.is_empty() && self.queue_names.get(declare.queue).is_some();
        let key = if declare.passive || exists {
            let key = self.find_queue(id, number, declare.queue)?;
            if !declare.passive {
                self.compare_queue(key, declare)?;
            }
            key
        } else {
            self.make_queue(now, id, declare)?
        };
        let Some(queue) = self.queues.get_mut(key) else { return Ok(()) };
        queue.last_used = now;
        let (name, messages, consumers) = (queue.name.clone(), queue.ready.len(), queue.consumers.len());
        if let Some(channel) = self.connections.get_mut(id).and_then(|connection| connection.channel(number))
        {
            channel.last_queue = Some(name.to_vec());
        }
        if !declare.no_wait {
            self.say(id, |out| {
                Method::new(out, number, spec::QUEUE_DECLARE_OK)
                    .short(&name)
                    .u32(messages as u32)
                    .u32(consumers as u32)
                    .end();
            });
        }
        Ok(())
    }

    fn compare_queue(&self, key: Key, declare: &QueueDeclare<'_>) -> Result<(), Fault> {
        let Some(queue) = self.queues.get(key) else { return Ok(()) };
        let name = || text(&queue.name);
        let flag = |value: bool| format!("'{value}'");
        if declare.exclusive != queue.exclusive_to.is_some() {
            return Err(Fault::Locked(name()));
        }
        for (what, received, current) in [
            ("durable", declare.durable, queue.durable),
            ("auto_delete", declare.auto_delete, queue.auto_delete),
        ] {
            if received != current {
                let (received, current) = (flag(received), flag(current));
                return Err(Fault::Inequivalent { what, kind: Kind::Queue, name: name(), received, current });
            }
        }
        let received = arguments::queue(declare.arguments, &queue.name)?;
        match queue.arguments.difference(&received) {
            None => Ok(()),
            Some((what, received, current)) => {
                Err(Fault::Inequivalent { what, kind: Kind::Queue, name: name(), received, current })
            }
        }
    }

    fn make_queue(
        &mut self,
        now: Instant,
        id: ConnectionId,
        declare: &QueueDeclare<'_>,
    ) -> Result<Key, Fault> {
        if declare.queue.starts_with(RESERVED) {
            return Err(Fault::ReservedName(Kind::Queue, text(declare.queue)));
        }
        let arguments = arguments::queue(declare.arguments, declare.queue)?;
        let count_max = self.options.queues_max;
        if self.queues.len() >= count_max {
            self.meet(Limit::Queues);
            return Err(Fault::EntityLimit { kind: Kind::Queue, name: text(declare.queue), count_max });
        }
        let name: Arc<[u8]> = if declare.queue.is_empty() {
            self.made_up_name("amq.gen-").into()
        } else {
            declare.queue.into()
        };
        self.note_effects(&name, &arguments);
        let expires_ms = arguments.expires_ms;
        let queue = Queue {
            durable: declare.durable,
            auto_delete: declare.auto_delete,
            exclusive_to: declare.exclusive.then_some(id),
            ..Queue::new(name.clone(), arguments, now)
        };
        let key = self.queues.insert(queue);
        self.queue_names.insert(name, key);
        if declare.exclusive
            && let Some(connection) = self.connections.get_mut(id)
        {
            connection.exclusive_queues.push(key);
        }
        if let Some(expires_ms) = expires_ms {
            self.set_queue_timer(key, Some(now + Duration::from_millis(expires_ms)));
        }
        Ok(key)
    }

    /// Tells of what a queue was declared with and does not get.
    fn note_effects(&mut self, name: &[u8], arguments: &QueueArguments) {
        for (is_asked, what) in [
            (arguments.is_quorum, "x-queue-type quorum: it is a classic queue in memory"),
            (arguments.max_priority.is_some(), "x-max-priority: messages stay in their order"),
        ] {
            if is_asked {
                self.note(Notice::NoEffect { queue: text(name), what });
            }
        }
    }

    pub(super) fn purge_queue(
        &mut self,
        id: ConnectionId,
        number: u16,
        name: &[u8],
        no_wait: bool,
    ) -> Result<usize, Fault> {
        let key = self.find_queue(id, number, name)?;
        let count = self.drop_ready(key);
        if !no_wait {
            self.say(id, |out| Method::new(out, number, spec::QUEUE_PURGE_OK).u32(count as u32).end());
        }
        Ok(count)
    }

    /// Drops the messages of a queue that are not with a consumer.
    fn drop_ready(&mut self, key: Key) -> usize {
        let Some(queue) = self.queues.get_mut(key) else { return 0 };
        queue.ready_bytes = 0;
        let ready = std::mem::take(&mut queue.ready);
        for place in &ready {
            self.store.release(place.message);
        }
        ready.len()
    }

    pub(super) fn delete_queue(
        &mut self,
        now: Instant,
        id: ConnectionId,
        number: u16,
        name: &[u8],
        (if_unused, if_empty): (bool, bool),
        no_wait: bool,
    ) -> Result<usize, Fault> {
        let mut count = 0;
        match self.find_queue(id, number, name) {
            // As with RabbitMQ, what is not there counts as deleted.
            Err(Fault::NotFound(..)) => {}
            Err(fault) => return Err(fault),
            Ok(key) => {
                if let Some(queue) = self.queues.get(key) {
                    if if_unused && !queue.consumers.is_empty() {
                        return Err(Fault::InUse(Kind::Queue, text(&queue.name)));
                    }
                    if if_empty && !queue.ready.is_empty() {
                        return Err(Fault::NotEmpty(text(&queue.name)));
                    }
                }
                count = self.remove_queue(now, key);
            }
        }
        if !no_wait {
            self.say(id, |out| Method::new(out, number, spec::QUEUE_DELETE_OK).u32(count as u32).end());
        }
        Ok(count)
    }

    /// Removes a queue with its bindings and messages, and tells its consumers. Returns how many messages it held.
    pub(super) fn remove_queue(&mut self, now: Instant, key: Key) -> usize {
        let count = self.drop_ready(key);
        let Some(queue) = self.queues.remove(key) else { return 0 };
        self.queue_names.remove(&queue.name);
        self.exchanges.forget(Destination::Queue(key));
        self.set_queue_timer(key, None);
        if let Some(owner) = queue.exclusive_to.and_then(|owner| self.connections.get_mut(owner)) {
            owner.exclusive_queues.retain(|other| *other != key);
        }
        self.drop_consumers(now, &queue.consumers, true);
        count
    }
}
