//! Deliveries, acknowledgements, confirms, and what time and limits do to messages.

use amq_protocol::protocol::basic::AMQPMethod as Basic;

use super::*;

fn worker_with_queue(world: &mut World, declared: Declare) -> Peer {
    let mut peer = world.worker();
    world.ask(&mut peer, declare(1, "q", declared));
    peer
}

fn bodies(deliveries: &[(u64, bool, String)]) -> Vec<&str> {
    deliveries.iter().map(|(_, _, body)| body.as_str()).collect()
}

#[test]
fn messages_come_in_order_and_what_is_put_back_goes_where_it_was() {
    let mut world = World::new(Options::default());
    let mut peer = worker_with_queue(&mut world, Declare::default());
    for body in ["a", "b", "c", "d"] {
        world.publish(&mut peer, "q", body);
    }
    world.ask(&mut peer, qos(1, 3, false));
    world.send(&mut peer, [consume(1, "q", "t", false)]);
    let first = world.delivered(&peer);
    assert_eq!(first, [(1, false, "a".into()), (2, false, "b".into()), (3, false, "c".into())]);
    // The last first: order is by place, not by when it was put back.
    world.send(&mut peer, [nack(1, 2, false, true)]);
    assert_eq!(world.delivered(&peer), [(4, true, "b".into())]);
    world.send(&mut peer, [ack(1, 3, true)]);
    assert_eq!(world.delivered(&peer), [(5, false, "d".into())]);
    // Everything that was not settled goes back when the channel ends.
    world.hang_up(peer);
    let mut other = world.worker();
    world.send(&mut other, [consume(1, "q", "t", true)]);
    assert_eq!(world.delivered(&other), [(1, true, "b".into()), (2, true, "d".into())]);
    assert_eq!(world.broker.stats().message_bytes, 0);
}

#[test]
fn consumers_have_their_turns_and_their_own_limits() {
    let mut world = World::new(Options::default());
    let mut peer = worker_with_queue(&mut world, Declare::default());
    world.ask(&mut peer, qos(1, 2, false));
    world.send(&mut peer, [consume(1, "q", "two", false)]);
    world.send(&mut peer, [qos(1, 0, false), consume(1, "q", "all", true)]);
    for body in ["a", "b", "c", "d", "e", "f"] {
        world.publish(&mut peer, "q", body);
    }
    let frames = world.read(&peer);
    let tags: Vec<&str> = frames
        .iter()
        .filter_map(|frame| match frame {
            AMQPFrame::Method(1, AMQPClass::Basic(Basic::Deliver(deliver))) => {
                Some(deliver.consumer_tag.as_str())
            }
            _ => None,
        })
        .collect();
    assert_eq!(tags, ["two", "all", "two", "all", "all", "all"]);
    assert_eq!(bodies(&deliveries(&frames)), ["a", "b", "c", "d", "e", "f"]);
    // With `global` both count together.
    let mut other = world.worker();
    world.ask(&mut other, qos(1, 1, true));
    world.declare(&mut other, "r");
    world.send(&mut other, [consume(1, "r", "x", false), consume(1, "r", "y", false)]);
    world.publish(&mut other, "r", "1");
    world.publish(&mut other, "r", "2");
    assert_eq!(bodies(&world.delivered(&other)), ["1"]);
    world.send(&mut other, [ack(1, 1, false)]);
    assert_eq!(bodies(&world.delivered(&other)), ["2"]);
}

#[test]
fn higher_priorities_and_single_active_consumers_come_first() {
    let mut world = World::new(Options::default());
    let single = table(&[("x-single-active-consumer", AMQPValue::Boolean(true))]);
    let mut peer = worker_with_queue(&mut world, Declare { arguments: single, ..Declare::default() });
    world.send(&mut peer, [consume(1, "q", "first", true), consume(1, "q", "second", true)]);
    let tags = |frames: &[AMQPFrame]| -> Vec<String> {
        frames
            .iter()
            .filter_map(|frame| match frame {
                AMQPFrame::Method(1, AMQPClass::Basic(Basic::Deliver(deliver))) => {
                    Some(deliver.consumer_tag.to_string())
                }
                _ => None,
            })
            .collect()
    };
    world.publish(&mut peer, "q", "a");
    world.publish(&mut peer, "q", "b");
    assert_eq!(tags(&world.read(&peer)), ["first", "first"]);
    let cancel = basic::Cancel { consumer_tag: "first".into(), nowait: true };
    world.send(&mut peer, [m(1, AMQPClass::Basic(Basic::Cancel(cancel)))]);
    world.publish(&mut peer, "q", "c");
    assert_eq!(tags(&world.read(&peer)), ["second"]);
    world.declare(&mut peer, "p");
    let low = table(&[("x-priority", AMQPValue::LongInt(-1))]);
    world.send(&mut peer, [consume_with(1, "p", "low", true, false, low), consume(1, "p", "high", true)]);
    world.publish(&mut peer, "p", "a");
    world.publish(&mut peer, "p", "b");
    assert_eq!(tags(&world.read(&peer)), ["high", "high"]);
}

#[test]
fn publishes_are_confirmed_after_what_nobody_took_came_back() {
    let mut world = World::new(Options::default());
    let mut peer = worker_with_queue(&mut world, Declare::default());
    world.ask(&mut peer, select());
    let mut frames = publish(1, "", "q", true, BasicProperties::default(), "a");
    frames.extend(publish(1, "", "nobody", true, BasicProperties::default(), "b"));
    frames.extend(publish(1, "", "nobody", false, BasicProperties::default(), ""));
    world.send_bytes(&mut peer, &bytes(&frames));
    let got = world.read(&peer);
    let AMQPFrame::Method(1, AMQPClass::Basic(Basic::Return(returned))) = &got[0] else { panic!("{got:?}") };
    assert_eq!((returned.reply_code, returned.routing_key.as_str()), (312, "nobody"));
    assert_eq!(got[2], AMQPFrame::Body(1, b"b".to_vec()));
    assert_eq!(got[3..], [ack(1, 3, true)]);
    // A full queue that refuses is told as a nack.
    let arguments = table(&[
        ("x-max-length", AMQPValue::LongInt(1)),
        ("x-overflow", AMQPValue::LongString("reject-publish".into())),
    ]);
    world.ask(&mut peer, declare(1, "full", Declare { arguments, ..Declare::default() }));
    world.publish(&mut peer, "full", "a");
    world.publish(&mut peer, "full", "b");
    world.publish(&mut peer, "q", "c");
    let refused = m(1, AMQPClass::Basic(Basic::Nack(basic::Nack { delivery_tag: 5, ..Default::default() })));
    assert_eq!(world.read(&peer), [ack(1, 4, false), refused, ack(1, 6, false)]);
}

#[test]
fn limits_drop_the_oldest_and_time_drops_the_old() {
    let mut world = World::new(Options::default());
    let arguments = table(&[
        ("x-max-length", AMQPValue::LongInt(2)),
        ("x-message-ttl", AMQPValue::LongInt(5000)),
        ("x-dead-letter-exchange", AMQPValue::LongString("".into())),
        ("x-dead-letter-routing-key", AMQPValue::LongString("dead".into())),
    ]);
    let mut peer = worker_with_queue(&mut world, Declare { arguments, ..Declare::default() });
    world.declare(&mut peer, "dead");
    for body in ["a", "b", "c"] {
        world.publish(&mut peer, "q", body);
    }
    world.turn();
    let short = BasicProperties::default().with_expiration("100".into());
    world.send_bytes(&mut peer, &bytes(&publish(1, "", "q", false, short, "d")));
    world.turn();
    assert_eq!(world.broker.stats().overflowed, 2);
    // d is older than it may be, but stands behind c.
    world.pass(SECOND);
    assert_eq!(world.broker.stats().expired, 0);
    world.pass(4 * SECOND);
    assert_eq!(world.broker.stats().expired, 2);
    world.send(&mut peer, [consume(1, "dead", "t", true)]);
    let frames = world.read(&peer);
    assert_eq!(bodies(&deliveries(&frames)), ["a", "b", "c", "d"]);
    let last = frames.iter().rev().find_map(|frame| match frame {
        AMQPFrame::Header(1, header) => Some(&header.properties),
        _ => None,
    });
    let properties = last.expect("a header");
    assert_eq!(properties.expiration(), &None);
    let headers = format!("{:?}", properties.headers());
    for wanted in ["x-death", "x-first-death-queue", "LongLongInt(1)"] {
        assert!(headers.contains(wanted), "{headers}");
    }
    let stats = world.broker.stats();
    assert_eq!((stats.dead_lettered, stats.message_bytes), (4, 0));
}

#[test]
fn a_queue_that_is_its_own_dead_letter_exchange_comes_to_rest() {
    let mut world = World::new(Options::default());
    let arguments = table(&[
        ("x-max-length", AMQPValue::LongInt(0)),
        ("x-dead-letter-exchange", AMQPValue::LongString("".into())),
    ]);
    let mut peer = worker_with_queue(&mut world, Declare { arguments, ..Declare::default() });
    world.publish(&mut peer, "q", "a");
    world.turn();
    assert_eq!(world.broker.stats().message_bytes, 0);
    // Rejecting in a circle is what retries are made of.
    let arguments = table(&[("x-dead-letter-exchange", AMQPValue::LongString("".into()))]);
    world.ask(&mut peer, declare(1, "r", Declare { arguments, ..Declare::default() }));
    world.send(&mut peer, [consume(1, "r", "t", false)]);
    world.publish(&mut peer, "r", "a");
    for tag in 1..=3 {
        assert_eq!(world.delivered(&peer), [(tag, false, "a".into())]);
        world.send(&mut peer, [nack(1, tag, false, false)]);
    }
}

#[test]
fn a_queue_that_nobody_uses_goes() {
    let mut world = World::new(Options::default());
    let expires =
        || Declare { arguments: table(&[("x-expires", AMQPValue::LongInt(2000))]), ..Declare::default() };
    let mut peer = worker_with_queue(&mut world, expires());
    world.pass(SECOND);
    world.ask(&mut peer, declare(1, "q", expires()));
    world.pass(SECOND);
    world.send(&mut peer, [consume(1, "q", "t", true)]);
    world.pass(10 * SECOND);
    assert_eq!(world.broker.stats().queues, 1);
    let cancel = basic::Cancel { consumer_tag: "t".into(), nowait: true };
    world.send(&mut peer, [m(1, AMQPClass::Basic(Basic::Cancel(cancel)))]);
    world.pass(SECOND);
    assert_eq!(world.broker.stats().queues, 1);
    world.pass(SECOND);
    assert_eq!(world.broker.stats().queues, 0);
}

#[test]
fn a_consumer_whose_queue_goes_is_told_and_an_auto_delete_queue_goes_with_its_consumer() {
    let mut world = World::new(Options::default());
    let mut peer = worker_with_queue(&mut world, Declare { auto_delete: true, ..Declare::default() });
    let mut other = world.worker();
    world.ask(&mut peer, consume(1, "q", "t", true));
    let delete = queue::Delete { queue: "q".into(), ..queue::Delete::default() };
    world.ask(&mut other, m(1, AMQPClass::Queue(queue::AMQPMethod::Delete(delete))));
    let cancel = basic::Cancel { consumer_tag: "t".into(), nowait: true };
    assert_eq!(world.read(&peer), [m(1, AMQPClass::Basic(Basic::Cancel(cancel.clone())))]);
    world.ask(&mut peer, declare(1, "q", Declare { auto_delete: true, ..Declare::default() }));
    world.ask(&mut peer, consume(1, "q", "t", true));
    world.send(&mut peer, [m(1, AMQPClass::Basic(Basic::Cancel(cancel)))]);
    assert_eq!(world.broker.stats().queues, 0);
}

#[test]
fn an_exclusive_consumer_is_alone() {
    let mut world = World::new(Options::default());
    let mut peer = worker_with_queue(&mut world, Declare::default());
    world.ask(&mut peer, consume_with(1, "q", "t", true, true, FieldTable::default()));
    let mut other = world.worker();
    let (code, words) = world.ask_wrong(&mut other, &[consume(1, "q", "", true)]);
    assert_eq!((code, words.as_str()), (403, "ACCESS_REFUSED - queue 'q' in vhost '/' in exclusive use"));
}

#[test]
fn replies_come_straight_back() {
    let mut world = World::new(Options::default());
    let (mut asker, mut answerer) = (world.worker(), world.worker());
    world.declare(&mut answerer, "rpc");
    world.ask(&mut asker, consume(1, "amq.rabbitmq.reply-to", "", true));
    let properties = BasicProperties::default().with_reply_to("amq.rabbitmq.reply-to".into());
    world.send_bytes(&mut asker, &bytes(&publish(1, "", "rpc", false, properties.clone(), "ask")));
    world.send(&mut answerer, [get("rpc", true)]);
    let got = world.read(&answerer);
    let AMQPFrame::Header(1, header) = &got[1] else { panic!("{got:?}") };
    let reply_to = header.properties.reply_to().clone().expect("a place").to_string();
    assert!(reply_to.starts_with("amq.rabbitmq.reply-to."), "{reply_to}");
    world.publish(&mut answerer, &reply_to, "answer");
    assert_eq!(bodies(&world.delivered(&asker)), ["answer"]);
    let (code, _) = world.ask_wrong(&mut answerer, &publish(1, "", "rpc", false, properties, "ask"));
    assert_eq!(code, 406);
    world.hang_up(asker);
    assert_eq!(world.broker.stats().queues, 1);
}

#[test]
fn a_client_that_does_not_read_gets_no_more_and_is_not_read() {
    let options = Options { outgoing_bytes_max: 2000, ..Options::default() };
    let mut world = World::new(options);
    let mut slow = worker_with_queue(&mut world, Declare::default());
    let mut quick = world.worker();
    world.send(&mut slow, [consume(1, "q", "t", true)]);
    world.turn();
    for _ in 0..100 {
        world.publish(&mut quick, "q", &"x".repeat(400));
        world.turn();
    }
    let waiting = world.broker.output(slow.id).len();
    assert!((2000..3000).contains(&waiting), "{waiting}");
    assert_eq!(world.send(&mut slow, [qos(1, 1, false)]), Next::Resumed);
    // The other one is not concerned.
    world.send(&mut quick, [consume(1, "q", "t", true)]);
    let taken = world.delivered(&quick).len();
    let left = world.delivered(&slow).len();
    assert_eq!((taken + left, world.broker.stats().messages), (100, 0));
    assert_eq!(world.broker.poll_resumed(), Some(slow.id));
    assert_eq!(world.send(&mut slow, []), Next::Bytes);
}

#[test]
fn publishers_wait_while_memory_is_short() {
    let mut world = World::new(Options { memory_bytes: 10_000, ..Options::default() });
    let mut worker = worker_with_queue(&mut world, Declare::default());
    let mut publisher = world.worker();
    let mut sent = 0;
    let next = loop {
        let frames = bytes(&publish(1, "", "q", false, BasicProperties::default(), &"x".repeat(800)));
        sent += 1;
        match world.send_bytes(&mut publisher, &frames) {
            Next::Bytes => assert!(sent < 100),
            next => break next,
        }
    };
    assert_eq!(next, Next::Resumed);
    let told = world.read(&publisher);
    assert!(
        matches!(told[..], [AMQPFrame::Method(0, AMQPClass::Connection(connection::AMQPMethod::Blocked(_)))]),
        "{told:?}"
    );
    let stats = world.broker.stats();
    assert_eq!((stats.published, stats.blocked), (sent - 1, 1));
    assert!((10_000..11_500).contains(&stats.message_bytes), "{}", stats.message_bytes);
    // Whoever consumes is served, and lets the publisher go on.
    world.send(&mut worker, [consume(1, "q", "t", true)]);
    assert_eq!(world.delivered(&worker).len() as u64, sent - 1);
    assert_eq!(world.broker.poll_resumed(), Some(publisher.id));
    let told = world.read(&publisher);
    assert!(
        matches!(
            told[..],
            [AMQPFrame::Method(0, AMQPClass::Connection(connection::AMQPMethod::Unblocked(_)))]
        ),
        "{told:?}"
    );
    assert_eq!(world.send(&mut publisher, []), Next::Bytes);
    assert_eq!(world.delivered(&worker).len(), 1);
}

#[test]
fn one_consumer_that_floods_leaves_the_others_room_for_their_acknowledgements() {
    let mut world = World::new(Options { memory_bytes: 100_000, ..Options::default() });
    let mut worker = worker_with_queue(&mut world, Declare::default());
    world.ask(&mut worker, consume(1, "q", "t", false));
    // It consumes, too, as the client of a cluster does.
    let mut cluster = world.worker();
    world.declare(&mut cluster, "requests");
    world.ask(&mut cluster, consume(1, "requests", "c", true));
    let event = bytes(&publish(1, "", "q", false, BasicProperties::default(), &"x".repeat(800)));
    let mut sent = 0;
    while world.send_bytes(&mut cluster, &event) == Next::Bytes {
        sent += 1;
        assert!(sent < 1000);
    }
    assert!(!world.delivered(&worker).is_empty());
    // What a worker asks for stands in front of its acknowledgements.
    let asks = publish(1, "", "requests", false, BasicProperties::default(), "which guild?");
    let both = [&asks[..], &[ack(1, 0, true)]].concat();
    assert_eq!(world.send_bytes(&mut worker, &bytes(&both)), Next::Bytes);
    world.turn();
    assert_eq!(bodies(&world.delivered(&cluster)), ["which guild?"]);
    for _ in 0..10 {
        world.delivered(&worker);
        world.send(&mut worker, [ack(1, 0, true)]);
    }
    assert_eq!(world.broker.poll_resumed(), Some(cluster.id));
}

#[test]
fn what_consumers_publish_while_memory_is_short_has_an_end() {
    let mut world = World::new(Options { memory_bytes: 100_000, ..Options::default() });
    let mut owner = world.worker();
    world.declare(&mut owner, "q");
    let event = bytes(&publish(1, "", "q", false, BasicProperties::default(), &"x".repeat(800)));
    // Whoever has had its share comes back as somebody else.
    for n in 0..50 {
        let mut peer = world.worker();
        world.declare(&mut peer, &format!("q{n}"));
        world.ask(&mut peer, consume(1, &format!("q{n}"), "t", true));
        for _ in 0..200 {
            if world.send_bytes(&mut peer, &event) != Next::Bytes {
                break;
            }
        }
        world.hang_up(peer);
    }
    let bytes = world.broker.stats().message_bytes;
    assert!((100_000..114_000).contains(&bytes), "{bytes} octets");
}
