//! Clients that keep to the protocol and want the broker's memory, its time, or what is not theirs.

use super::*;

fn text(text: &str) -> AMQPValue {
    AMQPValue::LongString(text.into())
}

fn bare() -> BasicProperties {
    BasicProperties::default()
}

fn declare_with(world: &mut World, peer: &mut Peer, name: &str, arguments: &[(&str, AMQPValue)]) {
    let declare_it = Declare { arguments: table(arguments), ..Declare::default() };
    world.ask(peer, declare(1, name, declare_it));
}

#[test]
fn exchanges_in_a_row_do_not_cost_the_stack() {
    let options = Options { exchanges_max: 30_000, ..Options::default() };
    let mut world = World::new(options);
    let mut peer = world.worker();
    let name = |n: u32| format!("row-{n}");
    let mut frames = vec![declare_exchange(&name(0), "fanout", true, FieldTable::default())];
    for n in 1..20_000 {
        frames.push(declare_exchange(&name(n), "fanout", true, FieldTable::default()));
        frames.push(bind_exchange(&name(n), &name(n - 1), ""));
    }
    peer.window.extend(&bytes(&frames));
    while world.broker.receive(world.now, peer.id, &mut peer.window) != Next::Bytes {
        world.read(&peer);
    }
    world.read(&peer);
    let last = exchange::Delete { exchange: name(19_999).into(), ..exchange::Delete::default() };
    world.ask(&mut peer, m(1, AMQPClass::Exchange(exchange::AMQPMethod::Delete(last))));
    assert_eq!(world.broker.stats().exchanges, 5, "each lost its last binding");
}

#[test]
fn what_only_describes_is_bounded_in_octets() {
    let mut world = World::new(Options::default());
    let mut peer = world.worker();
    let long = "x".repeat(100_000);
    // A name that is copied for each message that dies.
    let arguments = table(&[("x-dead-letter-exchange", text(&long))]);
    let wrong = [declare(1, "q", Declare { arguments, ..Declare::default() })];
    assert_eq!(world.ask_wrong(&mut peer, &wrong).0, 406);
    let wrong = [declare_exchange("e", "fanout", false, table(&[("alternate-exchange", text(&long))]))];
    assert_eq!(world.ask_wrong(&mut peer, &wrong).0, 406);
    world.declare(&mut peer, "q");
    let mut bound = 0;
    loop {
        let frame = bind("q", "amq.direct", &format!("{bound}"), table(&[("a", text(&long))]));
        world.send(&mut peer, [frame]);
        if world.broker.stats().bindings == bound {
            break;
        }
        bound += 1;
        assert!(bound < 400, "{bound} bindings of 100 KB are too much");
    }
    world.read(&peer);
    world.send(&mut peer, [close_ok(1), open(1)]);
    world.read(&peer);
    // Whoever is at the limit can still say again what is there.
    world.ask(&mut peer, bind("q", "amq.direct", "0", table(&[("a", text(&long))])));
}

#[test]
fn channels_of_all_connections_are_bounded() {
    let mut world = World::new(Options::default());
    for n in 0..34 {
        let mut peer = world.client();
        let frames: Vec<AMQPFrame> = (1..=2047).map(open).collect();
        peer.window.extend(&bytes(&frames));
        while world.broker.receive(world.now, peer.id, &mut peer.window) != Next::Bytes {}
        assert!(world.broker.stats().channels <= 65_536);
        if n == 33 {
            assert_eq!(world.closed(&peer).0, 530);
        }
    }
    world.broker.audit();
}

#[test]
fn a_reply_queue_is_its_owners_and_goes_with_a_failed_consume() {
    let mut world = World::new(Options { consumers_max: 2, ..Options::default() });
    let mut thief = world.worker();
    let mut peer = world.worker();
    world.ask(&mut peer, consume(1, "amq.rabbitmq.reply-to", "t", true));
    world.declare(&mut thief, "q");
    let ask = publish(1, "", "q", false, bare().with_reply_to("amq.rabbitmq.reply-to".into()), "?");
    world.send_bytes(&mut peer, &bytes(&ask));
    world.send(&mut thief, [get("q", true)]);
    let got = world.read(&thief);
    let [_, AMQPFrame::Header(_, header), _] = &got[..] else { panic!("{got:?}") };
    let name = header.properties.reply_to().clone().expect("where to answer").to_string();
    // Who is asked knows the name, and may answer. Nothing else.
    assert_eq!(world.ask_wrong(&mut thief, &[get(&name, true)]).0, 405);
    world.publish(&mut thief, &name, "!");
    assert_eq!(world.delivered(&peer).len(), 1);
    // One that fails leaves nothing behind.
    let queues = world.broker.stats().queues;
    world.send(&mut peer, [consume(1, "amq.rabbitmq.reply-to", "t", true)]);
    assert_eq!(world.closed(&peer).0, 530);
    assert_eq!(world.broker.stats().queues, queues - 1);
}

#[test]
fn a_circle_of_expiry_behind_a_rejection_ends() {
    let mut world = World::new(Options::default());
    let mut peer = world.worker();
    let to = |name: &str| [("x-dead-letter-exchange", text("")), ("x-dead-letter-routing-key", text(name))];
    declare_with(&mut world, &mut peer, "work", &to("later"));
    let mut arguments = to("later").to_vec();
    arguments.push(("x-message-ttl", AMQPValue::LongInt(0)));
    declare_with(&mut world, &mut peer, "later", &arguments);
    world.publish(&mut peer, "work", "m");
    world.send(&mut peer, [get("work", false), nack(1, 1, false, false)]);
    world.turn();
    world.pass(SECOND);
    assert_eq!(world.broker.stats().messages, 0, "it died twice in the same place by itself");
}

#[test]
fn dead_letters_do_not_multiply_beyond_the_ceiling() {
    let mut world = World::new(Options { memory_bytes: 1 << 20, ..Options::default() });
    let mut peer = world.worker();
    // Each of 100 queues has the message; each death makes it a message of its own.
    for n in 0..100 {
        declare_with(&mut world, &mut peer, &format!("q{n}"), &[("x-dead-letter-exchange", text("dead"))]);
        world.ask(&mut peer, bind(&format!("q{n}"), "amq.fanout", "", FieldTable::default()));
    }
    world.ask(&mut peer, declare_exchange("dead", "fanout", false, FieldTable::default()));
    world.declare(&mut peer, "a");
    world.declare(&mut peer, "b");
    world.ask(&mut peer, bind("a", "dead", "", FieldTable::default()));
    world.ask(&mut peer, bind("b", "dead", "", FieldTable::default()));
    let large = "x".repeat(500_000);
    let frames = publish(1, "amq.fanout", "", false, bare().with_expiration("10".into()), &large);
    world.send_bytes(&mut peer, &bytes(&frames));
    world.turn();
    world.pass(SECOND);
    let stats = world.broker.stats();
    assert!(stats.message_bytes < 2 << 20, "{} octets", stats.message_bytes);
    assert!(stats.dead_lettered > 0);
}

#[test]
fn consumers_that_wait_for_room_wait_once() {
    let mut world = World::new(Options { outgoing_bytes_max: 10_000, ..Options::default() });
    let mut publisher = world.worker();
    let mut peer = world.worker();
    world.declare(&mut peer, "q");
    world.ask(&mut peer, consume(1, "q", "t", false));
    for _ in 0..1000 {
        world.publish(&mut publisher, "q", &"x".repeat(200));
    }
    world.turn();
    // It reads just so much that it is heard, never so much that it counts as read.
    for _ in 0..500 {
        let waiting = world.broker.output(peer.id).len();
        world.broker.advance(world.now, peer.id, waiting.saturating_sub(9900));
        assert_eq!(world.send(&mut peer, [qos(1, 0, false)]), Next::Bytes);
        world.broker.finish_turn(world.now);
    }
    world.broker.audit();
    let waiting = world.broker.connections.iter().map(|(_, it)| it.full_consumers.len()).max();
    assert!(waiting <= Some(1), "{waiting:?}");
}

#[test]
fn patterns_and_headers_cost_turns() {
    let mut world = World::new(Options::default());
    let mut peer = world.worker();
    world.declare(&mut peer, "q");
    for n in 0..10_000 {
        let frame = bind("q", "amq.topic", &format!("*.x.{n}.#"), FieldTable::default());
        world.send(&mut peer, [frame]);
        if n % 1000 == 0 {
            world.read(&peer);
        }
    }
    world.read(&peer);
    let mut frames = Vec::new();
    for n in 0..100 {
        frames.extend(publish(1, "amq.topic", &format!("key.{n}"), false, bare(), ""));
    }
    assert_eq!(world.send_bytes(&mut peer, &bytes(&frames)), Next::Turn);
    let done = world.broker.stats().published;
    assert!((1..20).contains(&done), "{done} publishes in one turn, each of which looks at 10,000 bindings");
}

#[test]
fn what_many_channels_announce_is_counted_with_its_properties() {
    let mut world = World::new(Options { content_bytes_max: 1_000_000, ..Options::default() });
    let mut peer = world.worker();
    let headers = table(&[("a", text(&"x".repeat(100_000)))]);
    for number in 1..=20 {
        if number > 1 {
            world.send(&mut peer, [open(number)]);
        }
        let frames = publish(number, "", "q", false, bare().with_headers(headers.clone()), "body");
        world.send_bytes(&mut peer, &bytes(&frames[..2]));
    }
    assert_eq!(world.closed(&peer).0, 506, "2 MB of properties wait for their bodies");
}

#[test]
fn large_messages_wait_for_slow_readers_once() {
    const READERS: usize = 50;
    let mut world = World::new(Options::default());
    let mut publisher = world.worker();
    let mut readers = Vec::new();
    for n in 0..READERS {
        let mut peer = world.worker();
        world.declare(&mut peer, &format!("q{n}"));
        world.ask(&mut peer, bind(&format!("q{n}"), "amq.fanout", "", FieldTable::default()));
        world.ask(&mut peer, consume(1, &format!("q{n}"), "t", n % 2 == 0));
        readers.push(peer);
    }
    let body = "0123456789".repeat(300_000);
    world.send_bytes(&mut publisher, &bytes(&publish(1, "amq.fanout", "", false, bare(), &body)));
    world.turn();
    let waiting: usize = readers.iter().map(|peer| world.broker.output(peer.id).len()).sum();
    assert!(waiting < READERS * (300 << 10), "{waiting} octets for 3 MB of message");
    for (n, peer) in readers.iter_mut().enumerate() {
        // What is said meanwhile does not come in the middle.
        let delete = queue::Delete { queue: format!("q{n}").into(), ..queue::Delete::default() };
        world.ask(&mut publisher, m(1, AMQPClass::Queue(queue::AMQPMethod::Delete(delete))));
        let mut got = world.read(peer);
        let last = got.pop();
        assert!(matches!(last, Some(AMQPFrame::Method(1, AMQPClass::Basic(basic::AMQPMethod::Cancel(_))))));
        assert_eq!(deliveries(&got), [(1, false, body.clone())], "reader {n}");
    }
    for peer in readers {
        world.hang_up(peer);
    }
    world.broker.audit();
}

/// The first frames of a message: its method, its header, and so much of its body.
fn begun(number: u16, announced: usize, sent: usize) -> Vec<u8> {
    let frames = publish(number, "", "q", false, bare(), &"x".repeat(announced));
    bytes(&frames[..2 + sent / 4088])
}

#[test]
fn unfinished_messages_of_all_share_a_room() {
    const SIZE: usize = 1_000_000;
    let options =
        Options { unfinished_bytes_max: 5 * SIZE, message_bytes_max: SIZE as u64, ..Options::default() };
    let mut world = World::new(options);
    let mut owner = world.worker();
    world.declare(&mut owner, "q");
    let mut peers: Vec<Peer> = (0..20).map(|_| world.worker()).collect();
    let mut let_in = 0;
    for peer in &mut peers {
        let_in += usize::from(world.send_bytes(peer, &begun(1, SIZE, SIZE / 2)) == Next::Bytes);
    }
    assert_eq!(let_in, 4, "with its names and its header a message is more than a fifth");
    // Ordinary messages do not wait for any of that.
    world.publish(&mut owner, "q", "small");
    assert_eq!(world.broker.stats().messages, 1);
    // Those who send nothing any more lose their place to those who wait.
    world.pass(11 * SECOND);
    let rest = bytes(&publish(1, "", "q", false, bare(), &"x".repeat(SIZE))[2 + SIZE / 2 / 4088..]);
    while let Some(id) = world.broker.poll_resumed() {
        let peer = peers.iter_mut().find(|peer| peer.id == id).expect("one of them");
        assert_eq!(world.send_bytes(peer, &rest), Next::Bytes);
    }
    let stats = world.broker.stats();
    assert_eq!((stats.messages, stats.unfinished_bytes), (1 + 16, 0));
    for (n, peer) in peers.iter().enumerate() {
        let is_told = world.read(peer).iter().any(|frame| matches!(frame, AMQPFrame::Method(0, _)));
        assert_eq!(is_told, n < 4, "peer {n}");
    }
}

#[test]
fn who_goes_leaves_the_room() {
    const SIZE: usize = 1_000_000;
    let options =
        Options { unfinished_bytes_max: SIZE, message_bytes_max: SIZE as u64, ..Options::default() };
    let mut world = World::new(options);
    let [mut a, mut b, mut c] = std::array::from_fn(|_| world.worker());
    assert_eq!(world.send_bytes(&mut a, &begun(1, SIZE, 0)), Next::Bytes);
    assert_eq!(world.send_bytes(&mut b, &begun(1, SIZE, 0)), Next::Resumed);
    assert_eq!(world.send_bytes(&mut c, &begun(1, SIZE, 0)), Next::Resumed);
    world.hang_up(b);
    assert_eq!(world.broker.poll_resumed(), Some(c.id), "called, since somebody before it went");
    assert_eq!(world.send_bytes(&mut c, &[]), Next::Resumed, "and there is still no room");
    world.hang_up(a);
    assert_eq!(world.broker.poll_resumed(), Some(c.id));
    assert_eq!(world.send_bytes(&mut c, &[]), Next::Bytes);
    // On one connection a second large message would wait for the first for ever.
    world.send(&mut c, [open(2)]);
    world.read(&c);
    world.send_bytes(&mut c, &begun(2, SIZE, 0));
    assert_eq!(world.closed(&c).0, 506);
}

#[test]
fn memory_that_is_short_also_stops_those_whose_method_was_taken() {
    let mut world = World::new(Options { memory_bytes: 100_000, ..Options::default() });
    let mut owner = world.worker();
    world.declare(&mut owner, "q");
    let mut peers: Vec<Peer> = (0..50).map(|_| world.worker()).collect();
    let frames = publish(1, "", "q", false, bare(), &"x".repeat(20_000));
    for peer in &mut peers {
        world.send_bytes(peer, &bytes(&frames[..1]));
    }
    for peer in &mut peers {
        world.send_bytes(peer, &bytes(&frames[1..]));
    }
    let bytes = world.broker.stats().message_bytes;
    assert!(bytes < 130_000, "{bytes} octets");
    // All of them come through once somebody takes them.
    world.send(&mut owner, [consume(1, "q", "t", true)]);
    let mut taken = 0;
    for _ in 0..100 {
        taken += world.delivered(&owner).len();
        while let Some(id) = world.broker.poll_resumed() {
            let peer = peers.iter_mut().find(|peer| peer.id == id).expect("one of them");
            world.send_bytes(peer, &[]);
        }
    }
    assert_eq!(taken, 50);
}

#[test]
fn thousands_of_consumers_of_a_queue_go_at_once() {
    let mut world = World::new(Options::default());
    let mut owner = world.worker();
    world.declare(&mut owner, "q");
    let mut peer = world.worker();
    let frames: Vec<AMQPFrame> = (0..30_000).map(|n| consume(1, "q", &format!("t{n}"), false)).collect();
    peer.window.extend(&bytes(&frames));
    while world.broker.receive(world.now, peer.id, &mut peer.window) != Next::Bytes {
        world.read(&peer);
    }
    world.read(&peer);
    assert_eq!(world.broker.stats().consumers, 30_000);
    // Each of these looks at all of them, so it counts for more than one.
    assert_eq!(world.send_bytes(&mut peer, &bytes(&[qos(1, 1, false)]).repeat(100)), Next::Turn);
    world.hang_up(peer);
    assert_eq!(world.broker.stats().consumers, 0);
}
