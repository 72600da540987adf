//! Random clients against a naive reading of the model: a list of bindings, a list of messages for each queue.
//!
//! `RATEWAY_SEEDS=1000` runs more seeds, `RATEWAY_SEED=7` one of them.

use std::collections::BTreeMap;

use amq_protocol::protocol::basic::AMQPMethod as Basic;
use amq_protocol::protocol::queue::AMQPMethod as Queue;

use super::*;
use crate::base::Rng;

const CLIENTS: u64 = 3;
const QUEUES: u64 = 4;
const STEPS: usize = 300;

/// A message in a queue of the model: when it came there, which it is, and whether it was delivered before.
type Held = (u64, u64, bool);

struct Consumer {
    queue: String,
    no_ack: bool,
    prefetch: u16,
}

struct Delivered {
    queue: String,
    /// `None` for what basic.get brought.
    consumer: Option<String>,
    held: Held,
    is_queue_there: bool,
}

#[derive(Default)]
struct Client {
    consumers: BTreeMap<String, Consumer>,
    unacked: BTreeMap<u64, Delivered>,
    prefetch: u16,
    published: u64,
    confirmed: u64,
}

#[derive(Default)]
struct Model {
    /// Sorted by when they came.
    queues: BTreeMap<String, Vec<Held>>,
    /// Exchange, routing key, queue.
    bindings: Vec<(String, String, String)>,
    clients: Vec<Client>,
    next_message: u64,
    next_place: u64,
    next_tag: u64,
    /// The queue that was last asked with basic.get; one is asked at a time.
    asked: String,
}

fn fits(exchange: &str, pattern: &str, key: &str) -> bool {
    fn words(pattern: &[&str], key: &[&str]) -> bool {
        match (pattern, key) {
            ([], []) => true,
            (["#", rest @ ..], _) => words(rest, key) || !key.is_empty() && words(pattern, &key[1..]),
            ([word, rest @ ..], [first, tail @ ..]) => (*word == "*" || word == first) && words(rest, tail),
            _ => false,
        }
    }
    match exchange {
        "amq.fanout" => true,
        "amq.direct" => pattern == key,
        _ => words(&pattern.split('.').collect::<Vec<_>>(), &key.split('.').collect::<Vec<_>>()),
    }
}

impl Model {
    fn publish(&mut self, exchange: &str, key: &str) -> u64 {
        self.next_message += 1;
        let message = self.next_message;
        let takers: Vec<String> = self
            .queues
            .keys()
            .filter(|queue| match exchange {
                "" => *queue == key,
                _ => self.bindings.iter().any(|(e, k, q)| e == exchange && q == *queue && fits(e, k, key)),
            })
            .cloned()
            .collect();
        for queue in takers {
            self.next_place += 1;
            let held = (self.next_place, message, false);
            self.queues.get_mut(&queue).expect("a queue of the model").push(held);
        }
        message
    }

    fn put_back(&mut self, delivered: Delivered) {
        if delivered.is_queue_there
            && let Some(queue) = self.queues.get_mut(&delivered.queue)
        {
            let (place, message, _) = delivered.held;
            let at = queue.partition_point(|held| held.0 < place);
            queue.insert(at, (place, message, true));
        }
    }

    fn delete(&mut self, name: &str) {
        self.queues.remove(name);
        self.bindings.retain(|(_, _, queue)| queue != name);
        for client in &mut self.clients {
            client.consumers.retain(|_, consumer| consumer.queue != name);
            for delivered in client.unacked.values_mut().filter(|delivered| delivered.queue == name) {
                delivered.is_queue_there = false;
            }
        }
    }
}

/// What clients were sent in a turn, checked against the model and taken over into it.
fn check_turn(world: &mut World, peers: &[Peer], model: &mut Model) {
    world.turn();
    // For each queue: what went out, and to whom.
    let mut taken: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for (at, peer) in peers.iter().enumerate() {
        let frames = world.read(peer);
        let mut last: BTreeMap<String, u64> = BTreeMap::new();
        let mut head: Option<(Option<String>, String, u64, bool)> = None;
        for frame in frames {
            match frame {
                AMQPFrame::Method(1, AMQPClass::Basic(Basic::Deliver(deliver))) => {
                    let tag = deliver.consumer_tag.to_string();
                    let queue = tag.split('-').next().expect("a tag of ours").to_owned();
                    head = Some((Some(tag), queue, deliver.delivery_tag, deliver.redelivered));
                }
                AMQPFrame::Method(1, AMQPClass::Basic(Basic::GetOk(got))) => {
                    let queue = model.asked.clone();
                    head = Some((None, queue, got.delivery_tag, got.redelivered));
                }
                AMQPFrame::Method(1, AMQPClass::Basic(Basic::Ack(ack))) => {
                    assert!(ack.delivery_tag > model.clients[at].confirmed);
                    model.clients[at].confirmed = ack.delivery_tag;
                }
                AMQPFrame::Method(1, AMQPClass::Channel(_) | AMQPClass::Connection(_)) => {
                    panic!("a polite client was thrown out")
                }
                AMQPFrame::Body(1, body) => {
                    let (consumer, queue, tag, redelivered) = head.take().expect("a head before its body");
                    let message: u64 =
                        std::str::from_utf8(&body).expect("text").parse().expect("the number of a message");
                    let ready = model.queues.get(&queue).expect("a queue that is there");
                    let held = *ready.iter().find(|held| held.1 == message).expect("a message of this queue");
                    assert_eq!(held.2, redelivered, "message {message} has the wrong mark");
                    assert!(last.insert(queue.clone(), held.0) < Some(held.0), "out of order");
                    taken.entry(queue.clone()).or_default().push(held.0);
                    let client = &mut model.clients[at];
                    let no_ack = consumer.as_ref().is_some_and(|tag| {
                        client.consumers.get(tag).expect("a consumer that is there").no_ack
                    });
                    if !no_ack {
                        let delivered = Delivered { queue, consumer, held, is_queue_there: true };
                        assert!(client.unacked.insert(tag, delivered).is_none(), "a delivery tag came twice");
                    }
                }
                _ => {}
            }
        }
        assert_eq!(model.clients[at].confirmed, model.clients[at].published, "each publish is confirmed");
    }
    for (queue, mut places) in taken {
        places.sort_unstable();
        let ready = model.queues.get_mut(&queue).expect("a queue that is there");
        let first: Vec<u64> = ready.drain(..places.len()).map(|held| held.0).collect();
        assert_eq!(places, first, "{queue} did not deliver its first messages");
    }
    // Nobody who has room waits while there is something.
    for client in &model.clients {
        for (tag, consumer) in &client.consumers {
            let unacked =
                client.unacked.values().filter(|delivered| delivered.consumer.as_ref() == Some(tag)).count();
            let has_room =
                consumer.no_ack || consumer.prefetch == 0 || unacked < usize::from(consumer.prefetch);
            assert!(!has_room || model.queues[&consumer.queue].is_empty(), "{tag} waits in vain");
        }
    }
    let unacked = model.clients.iter().map(|client| client.unacked.len()).sum::<usize>();
    let ready = model.queues.values().map(Vec::len).sum::<usize>();
    assert!(world.broker.stats().messages <= unacked + ready, "a message is held that nobody has");
}

fn step(rng: &mut Rng, world: &mut World, peers: &mut [Peer], model: &mut Model) {
    let at = rng.below(CLIENTS) as usize;
    let name = format!("q{}", rng.below(QUEUES));
    let exchange = ["amq.direct", "amq.fanout", "amq.topic"][rng.below(3) as usize];
    let patterns = ["a", "a.b", "*.b", "a.#", "#", "b.*.a"];
    let pattern = patterns[rng.below(6) as usize];
    let is_there = model.queues.contains_key(&name);
    let client = &mut model.clients[at];
    let frames = match rng.below(16) {
        0 => {
            model.queues.entry(name.clone()).or_default();
            vec![declare(1, &name, Declare::default())]
        }
        1 if rng.chance(1, 4) => {
            model.delete(&name);
            let delete = queue::Delete { queue: name.into(), nowait: true, ..queue::Delete::default() };
            vec![m(1, AMQPClass::Queue(Queue::Delete(delete)))]
        }
        2 if is_there => {
            let binding = (exchange.to_owned(), pattern.to_owned(), name.clone());
            if !model.bindings.contains(&binding) {
                model.bindings.push(binding);
            }
            vec![bind(&name, exchange, pattern, FieldTable::default())]
        }
        3 => {
            model.bindings.retain(|(e, k, q)| (e.as_str(), k.as_str(), q) != (exchange, pattern, &name));
            let unbind = queue::Unbind {
                queue: name.into(),
                exchange: exchange.into(),
                routing_key: pattern.into(),
                arguments: FieldTable::default(),
            };
            vec![m(1, AMQPClass::Queue(Queue::Unbind(unbind)))]
        }
        4..=7 => {
            let mut frames = Vec::new();
            for _ in 0..=rng.below(4) {
                model.clients[at].published += 1;
                let (exchange, key) = match rng.below(3) {
                    0 => ("", name.as_str()),
                    _ => (exchange, ["a", "a.b", "b.a", "b.b.a"][rng.below(4) as usize]),
                };
                let message = model.publish(exchange, key).to_string();
                frames.extend(publish(1, exchange, key, false, BasicProperties::default(), &message));
            }
            frames
        }
        8 if is_there => {
            model.next_tag += 1;
            let tag = format!("{name}-{}", model.next_tag);
            let (no_ack, prefetch) = (rng.chance(1, 4), client.prefetch);
            client.consumers.insert(tag.clone(), Consumer { queue: name.clone(), no_ack, prefetch });
            vec![consume(1, &name, &tag, no_ack)]
        }
        9 => {
            let Some(tag) = client.consumers.keys().nth(rng.below(3) as usize).cloned() else { return };
            client.consumers.remove(&tag);
            let cancel = basic::Cancel { consumer_tag: tag.into(), nowait: true };
            vec![m(1, AMQPClass::Basic(Basic::Cancel(cancel)))]
        }
        10 => {
            client.prefetch = rng.below(4) as u16;
            vec![qos(1, client.prefetch, false)]
        }
        11..=13 => {
            let count = client.unacked.len() as u64;
            let Some(tag) = client.unacked.keys().nth(rng.below(count) as usize).copied() else { return };
            let multiple = rng.chance(1, 3);
            let settled: Vec<u64> = client
                .unacked
                .keys()
                .copied()
                .filter(|other| *other == tag || multiple && *other < tag)
                .collect();
            let settled: Vec<Delivered> =
                settled.into_iter().filter_map(|tag| client.unacked.remove(&tag)).collect();
            match rng.below(3) {
                0 => vec![ack(1, tag, multiple)],
                1 => vec![nack(1, tag, multiple, false)],
                _ => {
                    settled.into_iter().for_each(|delivered| model.put_back(delivered));
                    vec![nack(1, tag, multiple, true)]
                }
            }
        }
        14 if is_there => {
            model.asked = name.clone();
            vec![get(&name, false)]
        }
        15 if rng.chance(1, 6) => {
            // The client's end: what it has goes back, and another one comes.
            let gone = std::mem::take(&mut model.clients[at]);
            gone.unacked.into_values().for_each(|delivered| model.put_back(delivered));
            world.broker.disconnected(world.now, peers[at].id);
            let new = world.worker();
            peers[at] = new;
            vec![select()]
        }
        _ => return,
    };
    world.send_bytes(&mut peers[at], &bytes(&frames));
    check_turn(world, peers, model);
}

fn run(seed: u64) {
    let mut rng = Rng::new(seed);
    let mut world = World::new(Options::default());
    let mut peers: Vec<Peer> = (0..CLIENTS).map(|_| world.worker()).collect();
    for peer in &mut peers {
        world.ask(peer, select());
    }
    let mut model = Model { clients: (0..CLIENTS).map(|_| Client::default()).collect(), ..Model::default() };
    for _ in 0..STEPS {
        step(&mut rng, &mut world, &mut peers, &mut model);
    }
    for peer in peers {
        world.broker.disconnected(world.now, peer.id);
    }
    for client in std::mem::take(&mut model.clients) {
        client.unacked.into_values().for_each(|delivered| model.put_back(delivered));
    }
    // What is left comes in order, marked as it should be, and then nothing is left.
    let mut last = world.worker();
    for (name, held) in &model.queues {
        world.send(&mut last, [consume(1, name, name, true)]);
        let got: Vec<(bool, String)> =
            world.delivered(&last).into_iter().map(|(_, redelivered, body)| (redelivered, body)).collect();
        let want: Vec<(bool, String)> = held.iter().map(|held| (held.2, held.1.to_string())).collect();
        assert_eq!(got, want, "{name}");
    }
    let stats = world.broker.stats();
    assert_eq!((stats.messages, stats.message_bytes), (0, 0));
}

#[test]
fn clients_see_what_the_model_says() {
    if let Some(seed) = std::env::var("RATEWAY_SEED").ok().and_then(|text| text.parse().ok()) {
        return run(seed);
    }
    let seeds: u64 = std::env::var("RATEWAY_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(100);
    for seed in 0..seeds {
        if let Err(panic) = std::panic::catch_unwind(|| run(seed)) {
            eprintln!("RATEWAY_SEED={seed}");
            std::panic::resume_unwind(panic);
        }
    }
}
