//! Exchanges and bindings: who gets a message (section 3.1.3).
//!
//! What a routing key leads to is found once and remembered for each exchange until a binding changes. Ways through a
//! headers exchange are found anew each time.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::matching;
use super::names::{Names, SeededState};
use super::options::ROUTES_MAX;
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
        Exchange { name, kind, durable, auto_delete, internal, alternate, routes, routes_of: 0 }
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
    empty: Arc<[u8]>,
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
        self.drop_unused(vec![source]);
    }

    /// Removes whatever leads to `destination`.
    pub(super) fn forget(&mut self, destination: Destination) {
        let lower = (destination, Key::NONE, self.empty.clone(), self.empty.clone());
        let gone: Vec<Incoming> =
            self.incoming.range(lower..).take_while(|binding| binding.0 == destination).cloned().collect();
        let mut sources = Vec::new();
        for (destination, source, routing_key, arguments) in gone {
            self.remove(&(source, routing_key, destination, arguments));
            sources.push(source);
        }
        sources.dedup();
        self.drop_unused(sources);
    }

    /// Removes an exchange with all its bindings.
    pub(super) fn delete(&mut self, key: Key) {
        let Some(exchange) = self.slots.remove(key) else { return };
        self.names.remove(&exchange.name);
        let gone: Vec<Outgoing> = self.bindings_of(key, &[]).cloned().collect();
        for binding in gone {
            self.remove(&binding);
        }
        self.generation += 1;
        self.forget(Destination::Exchange(key));
    }

    fn remove(&mut self, binding: &Outgoing) {
        if self.outgoing.remove(binding) {
            let (source, routing_key, destination, arguments) = binding;
            self.incoming.remove(&(*destination, *source, routing_key.clone(), arguments.clone()));
            self.generation += 1;
        }
    }

    /// Deletes those of `sources` that are auto-delete and have lost their last binding.
    fn drop_unused(&mut self, sources: Vec<Key>) {
        for source in sources {
            if self.slots.get(source).is_some_and(|exchange| exchange.auto_delete) && !self.is_source(source)
            {
                self.delete(source);
            }
        }
    }

    /// The bindings of `source` whose routing key is `routing_key` or sorts behind it.
    fn bindings_of(&self, source: Key, routing_key: &[u8]) -> impl Iterator<Item = &Outgoing> {
        let lower = (source, Arc::from(routing_key), Destination::FIRST, self.empty.clone());
        self.outgoing.range(lower..).take_while(move |binding| binding.0 == source)
    }

    /// Puts the queues that a message goes to into `found`, each once.
    pub(super) fn route(
        &mut self,
        source: Key,
        routing_key: &[u8],
        headers: Option<&[u8]>,
        found: &mut Vec<Key>,
    ) {
        if let Some(exchange) = self.slots.get(source)
            && exchange.routes_of == self.generation
            && let Some(route) = exchange.routes.get(routing_key)
        {
            found.extend_from_slice(route);
            return;
        }
        let by_key = self.walk(source, routing_key, headers.unwrap_or_default(), found);
        if by_key && let Some(exchange) = self.slots.get_mut(source) {
            if exchange.routes_of != self.generation || exchange.routes.len() >= ROUTES_MAX {
                exchange.routes.clear();
                exchange.routes_of = self.generation;
            }
            exchange.routes.insert(routing_key.into(), found.as_slice().into());
        }
    }

    /// Returns whether the routing key alone decided.
    fn walk(&self, start: Key, routing_key: &[u8], headers: &[u8], found: &mut Vec<Key>) -> bool {
        let words = matching::words(routing_key);
        let mut by_key = true;
        // Exchanges may be bound in a circle: each is passed once.
        let mut passed = BTreeSet::from([start]);
        let mut ahead = vec![start];
        while let Some(source) = ahead.pop() {
            let Some(exchange) = self.slots.get(source) else { continue };
            let before = (found.len(), ahead.len());
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
            match exchange.kind {
                ExchangeKind::Direct => self
                    .bindings_of(source, routing_key)
                    .take_while(|binding| *binding.1 == *routing_key)
                    .for_each(|binding| take(binding.2)),
                ExchangeKind::Fanout => self.bindings_of(source, &[]).for_each(|binding| take(binding.2)),
                ExchangeKind::Topic => self
                    .bindings_of(source, &[])
                    .filter(|binding| matching::topic(&matching::words(&binding.1), &words))
                    .for_each(|binding| take(binding.2)),
                ExchangeKind::Headers => {
                    by_key = false;
                    self.bindings_of(source, &[])
                        .filter(|binding| matching::headers(&binding.3, headers))
                        .for_each(|binding| take(binding.2));
                }
            }
            debug_assert!(is_taken || before == (found.len(), ahead.len()));
            if !is_taken
                && let Some(next) = exchange.alternate.as_ref().and_then(|name| self.names.get(name))
                && passed.insert(next)
            {
                ahead.push(next);
            }
        }
        found.sort_unstable();
        found.dedup();
        by_key
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
}
