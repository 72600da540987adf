//! Exchanges and bindings: who gets a message (section 3.1.3).
//!
//! What a routing key leads to is found once and remembered for each exchange until a binding changes. Ways through a
//! headers exchange are found anew each time.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::matching;
use super::names::{Names, SeededState};
use super::options::{ROUTES_BYTES_MAX, ROUTES_MAX, WEIGHT_PER_UNIT};
use super::slots::{Key, Slots};

/// What decides at an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ExchangeKind {
    Direct,
    Fanout,
    Topic,
    Headers,
}

impl ExchangeKind {
    pub(super) fn from_name(name: &[u8]) -> Option<ExchangeKind> {
        Some(match name {
            b"direct" => ExchangeKind::Direct,
            b"fanout" => ExchangeKind::Fanout,
            b"topic" => ExchangeKind::Topic,
            b"headers" => ExchangeKind::Headers,
            _ => return None,
        })
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            ExchangeKind::Direct => "direct",
            ExchangeKind::Fanout => "fanout",
            ExchangeKind::Topic => "topic",
            ExchangeKind::Headers => "headers",
        }
    }
}

#[derive(Debug)]
pub(super) struct Exchange {
    pub(super) name: Arc<[u8]>,
    pub(super) kind: ExchangeKind,
    pub(super) durable: bool,
    pub(super) auto_delete: bool,
    pub(super) internal: bool,
    /// Where messages go that nothing here takes.
    pub(super) alternate: Option<Arc<[u8]>>,
    routes: HashMap<Box<[u8]>, Box<[Key]>, SeededState>,
    /// The bindings' generation that `routes` are of.
    routes_of: u64,
    /// What `routes` take.
    routes_bytes: usize,
}

impl Exchange {
    pub(super) fn new(
        name: Arc<[u8]>,
        kind: ExchangeKind,
        (durable, auto_delete, internal): (bool, bool, bool),
        alternate: Option<Arc<[u8]>>,
        state: &SeededState,
    ) -> Exchange {
        let routes = HashMap::with_hasher(state.clone());
        let (routes_of, routes_bytes) = (0, 0);
        Exchange { name, kind, durable, auto_delete, internal, alternate, routes, routes_of, routes_bytes }
    }

    /// Forgets its routes; returns what they took.
    fn forget_routes(&mut self) -> usize {
        // Not cleared, since that would keep the room.
        self.routes = HashMap::with_hasher(self.routes.hasher().clone());
        std::mem::take(&mut self.routes_bytes)
    }
}

/// What a binding leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Destination {
    Queue(Key),
    Exchange(Key),
}

impl Destination {
    /// Sorts before every other.
    const FIRST: Destination = Destination::Queue(Key::NONE);
}

/// Source, routing key, destination, arguments: sorted so that what an exchange needs stands together.
type Outgoing = (Key, Arc<[u8]>, Destination, Arc<[u8]>);
/// The same, for whoever is bound.
type Incoming = (Destination, Key, Arc<[u8]>, Arc<[u8]>);

#[derive(Debug)]
pub(super) struct Exchanges {
    slots: Slots<Exchange>,
    names: Names,
    outgoing: BTreeSet<Outgoing>,
    incoming: BTreeSet<Incoming>,
    /// Counts changes of bindings.
    generation: u64,
    /// What all bindings weigh, see [`weight`].
    weight: usize,
    /// What the remembered routes of all exchanges take.
    routes_bytes: usize,
    empty: Arc<[u8]>,
}

/// What a binding weighs: what it takes, in octets, and what it costs a message that has to look at it. Between two `#`
/// of a pattern each word is tried at each place of a key, of which there may be 256.
pub(super) fn weight(routing_key: &[u8], arguments: &[u8]) -> usize {
    let words = || routing_key.split(|&octet| octet == b'.');
    let tries = if words().filter(|word| *word == b"#").count() > 1 { words().count() * 256 } else { 0 };
    64 + routing_key.len() + arguments.len() + tries
}

impl Exchanges {
    /// Those that every broker has. The default one has no entry: it leads to the queue that the key names.
    pub(super) fn new(state: &SeededState) -> Exchanges {
        let mut this = Exchanges {
            slots: Slots::default(),
            names: Names::new(state.clone()),
            outgoing: BTreeSet::new(),
            incoming: BTreeSet::new(),
            generation: 1,
            weight: 0,
            routes_bytes: 0,
            empty: Arc::from(Vec::new()),
        };
        for (name, kind) in [
            ("amq.direct", ExchangeKind::Direct),
            ("amq.fanout", ExchangeKind::Fanout),
            ("amq.topic", ExchangeKind::Topic),
            ("amq.headers", ExchangeKind::Headers),
            ("amq.match", ExchangeKind::Headers),
        ] {
            this.insert(Exchange::new(name.as_bytes().into(), kind, (true, false, false), None, state));
        }
        this
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn bindings(&self) -> usize {
        self.outgoing.len()
    }

    /// What all bindings weigh.
    pub(super) fn weight(&self) -> usize {
        self.weight
    }

    pub(super) fn find(&self, name: &[u8]) -> Option<Key> {
        self.names.get(name)
    }

    pub(super) fn get(&self, key: Key) -> Option<&Exchange> {
        self.slots.get(key)
    }

    pub(super) fn insert(&mut self, exchange: Exchange) -> Key {
        let name = exchange.name.clone();
        let key = self.slots.insert(exchange);
        self.names.insert(name, key);
        self.generation += 1;
        key
    }

    pub(super) fn is_source(&self, key: Key) -> bool {
        self.bindings_of(key, &[]).next().is_some()
    }

    pub(super) fn is_bound(
        &self,
        source: Key,
        destination: Destination,
        routing_key: &[u8],
        arguments: &[u8],
    ) -> bool {
        self.outgoing.contains(&(source, routing_key.into(), destination, arguments.into()))
    }

    /// Adds a binding, or finds that it is there.
    pub(super) fn bind(
        &mut self,
        source: Key,
        destination: Destination,
        routing_key: &[u8],
        arguments: &[u8],
    ) {
        let (routing_key, arguments): (Arc<[u8]>, Arc<[u8]>) = (routing_key.into(), arguments.into());
        if self.outgoing.insert((source, routing_key.clone(), destination, arguments.clone())) {
            self.weight += weight(&routing_key, &arguments);
            self.incoming.insert((destination, source, routing_key, arguments));
            self.generation += 1;
        }
    }

    /// Removes a binding, if it is there, and its source if that was to go with its last binding.
    pub(super) fn unbind(
        &mut self,
        source: Key,
        destination: Destination,
        routing_key: &[u8],
        arguments: &[u8],
    ) {
        self.remove(&(source, routing_key.into(), destination, arguments.into()));
        if self.is_unused(source) {
            self.delete(source);
        }
    }

    /// Removes whatever leads to `destination`, and sources that were to go with their last binding.
    pub(super) fn forget(&mut self, destination: Destination) {
        for source in self.cut_off(destination) {
            self.delete(source);
        }
    }

    /// Removes whatever leads to `destination`. Returns the sources that are to go.
    fn cut_off(&mut self, destination: Destination) -> Vec<Key> {
        let lower = (destination, Key::NONE, self.empty.clone(), self.empty.clone());
        let gone: Vec<Incoming> =
            self.incoming.range(lower..).take_while(|binding| binding.0 == destination).cloned().collect();
        let mut sources = Vec::new();
        for (destination, source, routing_key, arguments) in gone {
            self.remove(&(source, routing_key, destination, arguments));
            sources.push(source);
        }
        sources.dedup();
        sources.retain(|source| self.is_unused(*source));
        sources
    }

    /// Removes an exchange with all its bindings, and those that have lost their last binding by that. A client may
    /// have made a row of thousands, so the stack is no place for them.
    pub(super) fn delete(&mut self, key: Key) {
        let mut ahead = vec![key];
        while let Some(key) = ahead.pop() {
            let Some(mut exchange) = self.slots.remove(key) else { continue };
            self.names.remove(&exchange.name);
            self.routes_bytes -= exchange.forget_routes();
            let gone: Vec<Outgoing> = self.bindings_of(key, &[]).cloned().collect();
            for binding in gone {
                self.remove(&binding);
            }
            self.generation += 1;
            ahead.extend(self.cut_off(Destination::Exchange(key)));
        }
    }

    fn remove(&mut self, binding: &Outgoing) {
        if self.outgoing.remove(binding) {
            let (source, routing_key, destination, arguments) = binding;
            self.weight -= weight(routing_key, arguments);
            self.incoming.remove(&(*destination, *source, routing_key.clone(), arguments.clone()));
            self.generation += 1;
        }
    }

    /// Whether `source` is auto-delete and has no binding.
    fn is_unused(&self, source: Key) -> bool {
        self.slots.get(source).is_some_and(|exchange| exchange.auto_delete) && !self.is_source(source)
    }

    /// The bindings of `source` whose routing key is `routing_key` or sorts behind it.
    fn bindings_of(&self, source: Key, routing_key: &[u8]) -> impl Iterator<Item = &Outgoing> {
        let lower = (source, Arc::from(routing_key), Destination::FIRST, self.empty.clone());
        self.outgoing.range(lower..).take_while(move |binding| binding.0 == source)
    }

    /// Puts the queues that a message goes to into `found`, each once. Returns the units of work that it took to find
    /// them.
    pub(super) fn route(
        &mut self,
        source: Key,
        routing_key: &[u8],
        headers: Option<&[u8]>,
        found: &mut Vec<Key>,
    ) -> usize {
        if let Some(exchange) = self.slots.get(source)
            && exchange.routes_of == self.generation
            && let Some(route) = exchange.routes.get(routing_key)
        {
            found.extend_from_slice(route);
            return 0;
        }
        let (by_key, weight) = self.walk(source, routing_key, headers.unwrap_or_default(), found);
        if by_key {
            self.remember(source, routing_key, found);
        }
        weight / WEIGHT_PER_UNIT
    }

    /// Remembers a route, as far as there is room for it.
    fn remember(&mut self, source: Key, routing_key: &[u8], found: &[Key]) {
        // The entry and its two allocations.
        let bytes = 128 + routing_key.len() + size_of_val(found);
        if bytes > ROUTES_BYTES_MAX / 16 {
            return;
        }
        if self.routes_bytes + bytes > ROUTES_BYTES_MAX {
            for exchange in self.slots.iter_mut() {
                self.routes_bytes -= exchange.forget_routes();
            }
        }
        let Some(exchange) = self.slots.get_mut(source) else { return };
        if exchange.routes_of != self.generation || exchange.routes.len() >= ROUTES_MAX {
            self.routes_bytes -= exchange.forget_routes();
            exchange.routes_of = self.generation;
        }
        exchange.routes.insert(routing_key.into(), found.into());
        exchange.routes_bytes += bytes;
        self.routes_bytes += bytes;
    }

    /// Returns whether the routing key alone decided, and what was looked at.
    fn walk(&self, start: Key, routing_key: &[u8], table: &[u8], found: &mut Vec<Key>) -> (bool, usize) {
        let key = matching::words(routing_key);
        let mut pattern = Vec::new();
        let mut headers = None;
        let (mut by_key, mut looked_at) = (true, 0);
        // Exchanges may be bound in a circle: each is passed once.
        let mut passed = BTreeSet::from([start]);
        let mut ahead = vec![start];
        while let Some(source) = ahead.pop() {
            let Some(exchange) = self.slots.get(source) else { continue };
            let mut is_taken = false;
            let mut take = |destination: Destination| {
                is_taken = true;
                match destination {
                    Destination::Queue(queue) => found.push(queue),
                    Destination::Exchange(next) => {
                        if passed.insert(next) {
                            ahead.push(next);
                        }
                    }
                }
            };
            let first = if exchange.kind == ExchangeKind::Direct { routing_key } else { &[] };
            looked_at += WEIGHT_PER_UNIT;
            for binding in self.bindings_of(source, first) {
                let (_, binding_key, destination, arguments) = binding;
                looked_at += match exchange.kind {
                    ExchangeKind::Direct | ExchangeKind::Fanout => WEIGHT_PER_UNIT / 8,
                    ExchangeKind::Topic | ExchangeKind::Headers => weight(binding_key, arguments),
                };
                let fits = match exchange.kind {
                    ExchangeKind::Direct if **binding_key != *routing_key => break,
                    ExchangeKind::Direct | ExchangeKind::Fanout => true,
                    ExchangeKind::Topic => {
                        matching::words_into(binding_key, &mut pattern);
                        matching::topic(&pattern, &key)
                    }
                    ExchangeKind::Headers => {
                        by_key = false;
                        let headers = headers.get_or_insert_with(|| {
                            looked_at += table.len();
                            matching::Headers::new(table)
                        });
                        matching::headers(arguments, headers)
                    }
                };
                if fits {
                    take(*destination);
                }
            }
            by_key &= exchange.kind != ExchangeKind::Headers;
            if !is_taken
                && let Some(next) = exchange.alternate.as_ref().and_then(|name| self.names.get(name))
                && passed.insert(next)
            {
                ahead.push(next);
            }
        }
        found.sort_unstable();
        found.dedup();
        (by_key, looked_at)
    }

    /// Panics if something is miscounted.
    pub(super) fn audit(&self) {
        let weights = self.outgoing.iter().map(|(_, key, _, arguments)| weight(key, arguments));
        assert_eq!(self.weight, weights.sum::<usize>(), "bindings are misweighed");
        let routes = self.slots.iter().map(|(_, exchange)| exchange.routes_bytes);
        assert_eq!(self.routes_bytes, routes.sum::<usize>(), "remembered routes are miscounted");
        assert!(self.routes_bytes <= ROUTES_BYTES_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exchanges() -> (Exchanges, SeededState) {
        let state = SeededState::new(1);
        (Exchanges::new(&state), state)
    }

    fn queues(count: usize) -> Vec<Key> {
        let mut slots = Slots::default();
        (0..count).map(|_| slots.insert(())).collect()
    }

    fn routed(exchanges: &mut Exchanges, source: Key, key: &[u8]) -> Vec<Key> {
        let mut found = Vec::new();
        exchanges.route(source, key, None, &mut found);
        let mut again = Vec::new();
        exchanges.route(source, key, None, &mut again);
        assert_eq!(found, again, "what is remembered is what was found");
        found
    }

    #[test]
    fn a_change_of_bindings_is_seen_at_once() {
        let (mut exchanges, _) = exchanges();
        let queue = queues(2);
        let direct = exchanges.find(b"amq.direct").expect("pre-declared");
        assert!(routed(&mut exchanges, direct, b"k").is_empty());
        for queue in &queue {
            exchanges.bind(direct, Destination::Queue(*queue), b"k", b"");
            exchanges.bind(direct, Destination::Queue(*queue), b"k", b"");
        }
        exchanges.bind(direct, Destination::Queue(queue[0]), b"other", b"");
        assert_eq!((routed(&mut exchanges, direct, b"k"), exchanges.bindings()), (queue.clone(), 3));
        exchanges.unbind(direct, Destination::Queue(queue[0]), b"k", b"");
        assert_eq!(routed(&mut exchanges, direct, b"k"), [queue[1]]);
        exchanges.forget(Destination::Queue(queue[1]));
        assert!(routed(&mut exchanges, direct, b"k").is_empty());
        assert_eq!((exchanges.bindings(), exchanges.incoming.len()), (1, 1));
    }

    #[test]
    fn exchanges_bound_in_a_circle_deliver_once_and_unused_ones_go_in_a_row() {
        let (mut exchanges, state) = exchanges();
        let queue = queues(1)[0];
        let mut add = |name: &str, auto_delete| {
            let name: Arc<[u8]> = name.as_bytes().into();
            let flags = (false, auto_delete, false);
            exchanges.insert(Exchange::new(name, ExchangeKind::Fanout, flags, None, &state))
        };
        let (a, b) = (add("a", true), add("b", true));
        exchanges.bind(a, Destination::Exchange(b), b"", b"");
        exchanges.bind(b, Destination::Exchange(a), b"", b"");
        exchanges.bind(b, Destination::Queue(queue), b"", b"");
        assert_eq!(routed(&mut exchanges, a, b"x"), [queue]);
        exchanges.unbind(b, Destination::Exchange(a), b"", b"");
        exchanges.forget(Destination::Queue(queue));
        // b lost its last binding and went; so a lost its own.
        assert_eq!((exchanges.get(a).is_some(), exchanges.get(b).is_some()), (false, false));
        assert_eq!(exchanges.bindings(), 0);
    }

    #[test]
    fn what_nobody_takes_goes_to_the_alternate_exchange() {
        let (mut exchanges, state) = exchanges();
        let queue = queues(2);
        let fanout = exchanges.find(b"amq.fanout").expect("pre-declared");
        exchanges.bind(fanout, Destination::Queue(queue[1]), b"", b"");
        let alternate: Option<Arc<[u8]>> = Some(b"amq.fanout".as_slice().into());
        let name: Arc<[u8]> = b"t".as_slice().into();
        let flags = (true, false, false);
        let topic = exchanges.insert(Exchange::new(name, ExchangeKind::Topic, flags, alternate, &state));
        exchanges.bind(topic, Destination::Queue(queue[0]), b"a.*", b"");
        assert_eq!(routed(&mut exchanges, topic, b"a.b"), [queue[0]]);
        assert_eq!(routed(&mut exchanges, topic, b"b"), [queue[1]]);
    }

    #[test]
    fn a_row_of_exchanges_goes_without_the_stack() {
        let (mut exchanges, state) = exchanges();
        let row: Vec<Key> = (0..100_000u32)
            .map(|n| {
                let name: Arc<[u8]> = n.to_be_bytes().as_slice().into();
                let flags = (false, true, false);
                exchanges.insert(Exchange::new(name, ExchangeKind::Fanout, flags, None, &state))
            })
            .collect();
        for pair in row.windows(2) {
            exchanges.bind(pair[0], Destination::Exchange(pair[1]), b"", b"");
        }
        let before = exchanges.len();
        exchanges.delete(row[row.len() - 1]);
        assert_eq!((before - exchanges.len(), exchanges.bindings()), (row.len(), 0));
        exchanges.audit();
    }

    #[test]
    fn what_is_remembered_has_a_limit_in_octets() {
        let (mut exchanges, _) = exchanges();
        let fanout = exchanges.find(b"amq.fanout").expect("pre-declared");
        for queue in queues(10_000) {
            exchanges.bind(fanout, Destination::Queue(queue), b"", b"");
        }
        // 80 KB each.
        for n in 0..1000u32 {
            let mut found = Vec::new();
            exchanges.route(fanout, &n.to_be_bytes(), None, &mut found);
            assert_eq!(found.len(), 10_000);
        }
        exchanges.audit();
    }

    #[test]
    fn looking_at_bindings_is_work() {
        let (mut exchanges, _) = exchanges();
        let topic = exchanges.find(b"amq.topic").expect("pre-declared");
        let queue = queues(1)[0];
        for n in 0..10_000 {
            let key = format!("some.words.{n}.#");
            exchanges.bind(topic, Destination::Queue(queue), key.as_bytes(), b"");
        }
        let mut work = |key: &[u8]| exchanges.route(topic, key, None, &mut Vec::new());
        assert!(work(b"some.words.7.x") > 1000, "it is not free");
        assert_eq!(work(b"some.words.7.x"), 0, "the second time it is");
    }
}
