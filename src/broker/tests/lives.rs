//! Lives of connections: handshakes, heartbeats, ends. And this crate's own client as a peer.

use super::*;
use crate::amqp::{Client, Event, EventPublish, client, frame_event};

#[test]
fn a_handshake_goes_as_the_specification_says() {
    let mut world = World::new(Options::default());
    let mut peer = world.connect_from(HERE);
    for octet in b"AMQP\x00\x00\x09\x01" {
        world.send_bytes(&mut peer, &[*octet]);
    }
    let got = world.read(&peer);
    let [AMQPFrame::Method(0, AMQPClass::Connection(connection::AMQPMethod::Start(start)))] = &got[..] else {
        panic!("{got:?}")
    };
    assert_eq!(start.mechanisms.to_string(), "PLAIN AMQPLAIN");
    let capabilities = format!("{:?}", start.server_properties);
    for name in ["publisher_confirms", "exchange_exchange_bindings", "basic.nack", "consumer_cancel_notify"] {
        assert!(capabilities.contains(name), "{capabilities}");
    }
    let tune = world.ask(&mut peer, start_ok("PLAIN", "\0guest\0guest"));
    let want = connection::Tune { channel_max: 2047, frame_max: 131_072, heartbeat: 60 };
    assert_eq!(tune, m(0, AMQPClass::Connection(connection::AMQPMethod::Tune(want))));
    world.send(&mut peer, [tune_ok(0, 0, 0)]);
    let opened = world.ask(&mut peer, open_vhost("/"));
    assert_eq!(opened, m(0, AMQPClass::Connection(connection::AMQPMethod::OpenOk(connection::OpenOk {}))));
    let close = connection::Close { reply_code: 200, ..connection::Close::default() };
    let done = world.ask(&mut peer, m(0, AMQPClass::Connection(connection::AMQPMethod::Close(close))));
    assert_eq!(done, m(0, AMQPClass::Connection(connection::AMQPMethod::CloseOk(connection::CloseOk {}))));
    assert_eq!(world.broker.fate(peer.id), Fate::Ending);
}

#[test]
fn what_the_handshake_does_not_allow_is_refused_with_its_code() {
    let login = |address: &str, options: Options, frames: &[AMQPFrame]| {
        let mut world = World::new(options);
        let mut peer = world.connect_from(address);
        world.send_bytes(&mut peer, b"AMQP\x00\x00\x09\x01");
        world.send_bytes(&mut peer, &bytes(frames));
        world.closed(&peer)
    };
    let good = start_ok("PLAIN", "\0guest\0guest");
    let refused = "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. For details see the broker logfile.";
    for (address, frames, code, words) in [
        (HERE, vec![start_ok("PLAIN", "\0guest\0wrong")], 403, refused),
        (ELSEWHERE, vec![good.clone()], 403, refused),
        (
            HERE,
            vec![start_ok("EXTERNAL", "")],
            503,
            "COMMAND_INVALID - unknown authentication mechanism 'EXTERNAL'",
        ),
        (
            HERE,
            vec![good.clone(), tune_ok(2048, 0, 0)],
            530,
            "NOT_ALLOWED - negotiated channel_max = 2048 is higher than the maximum allowed value (2047)",
        ),
        (
            HERE,
            vec![good.clone(), tune_ok(0, 131_073, 0)],
            530,
            "NOT_ALLOWED - negotiated frame_max = 131073 is higher than the maximum allowed value (131072)",
        ),
        (
            HERE,
            vec![good.clone(), tune_ok(0, 100, 0)],
            530,
            "NOT_ALLOWED - negotiated frame_max = 100 is lower than the minimum allowed value (4096)",
        ),
        (
            HERE,
            vec![good.clone(), tune_ok(0, 0, 0), open_vhost("other")],
            530,
            "NOT_ALLOWED - vhost other not found",
        ),
        (HERE, vec![good.clone(), open_vhost("/")], 503, "COMMAND_INVALID - the method does not belong here"),
        (
            HERE,
            vec![good.clone(), tune_ok(0, 0, 0), open(1)],
            503,
            "COMMAND_INVALID - the method does not belong here",
        ),
    ] {
        assert_eq!(login(address, Options::default(), &frames), (code, words.to_owned()));
    }
    // Another user may come from anywhere.
    let users = vec![super::super::User { name: "w".into(), password: crate::base::Secret::new("p") }];
    let mut world = World::new(Options { users, ..Options::default() });
    let mut peer = world.connect_from(ELSEWHERE);
    world.send_bytes(&mut peer, b"AMQP\x00\x00\x09\x01");
    world.send(&mut peer, [start_ok("PLAIN", "\0w\0p")]);
    assert_eq!(world.read(&peer).len(), 2);
}

#[test]
fn stalled_handshakes_and_silent_clients_are_dropped() {
    let mut world = World::new(Options::default());
    let stalled = world.connect_from(HERE);
    let mut half = world.connect_from(HERE);
    world.send_bytes(&mut half, b"AMQP\x00\x00");
    let mut polite = world.connect_from(HERE);
    world.send_bytes(&mut polite, b"AMQP\x00\x00\x09\x01");
    world.send(&mut polite, [start_ok("PLAIN", "\0guest\0guest"), tune_ok(0, 0, 4), open_vhost("/")]);
    world.read(&polite);
    for second in 1..=10 {
        world.pass(SECOND);
        world.send_bytes(&mut polite, &crate::amqp::frame::HEARTBEAT);
        let beats = world.read(&polite);
        assert_eq!(beats.len(), usize::from(second % 2 == 0), "one each half interval");
    }
    assert_eq!([stalled.id, half.id].map(|id| world.broker.fate(id)), [Fate::Gone, Fate::Gone]);
    assert!(world.is_open(&polite));
    world.pass(7 * SECOND);
    assert!(world.is_open(&polite));
    world.pass(SECOND);
    assert_eq!(world.broker.fate(polite.id), Fate::Gone);
    assert_eq!((world.broker.stats().slow_handshakes, world.broker.stats().lost), (2, 1));
}

#[test]
fn a_stop_tells_everybody() {
    let mut world = World::new(Options::default());
    let mut peer = world.worker();
    world.broker.shut_down(world.now);
    assert_eq!(world.closed(&peer).0, 320);
    assert_eq!(world.broker.connect(world.now, HERE.parse().expect("an address")), None);
    world.send(
        &mut peer,
        [m(0, AMQPClass::Connection(connection::AMQPMethod::CloseOk(connection::CloseOk {})))],
    );
    assert_eq!(world.broker.fate(peer.id), Fate::Ending);
    world.hang_up(peer);
    assert!(world.broker.is_empty());
}

#[test]
fn connections_have_a_limit() {
    let mut world = World::new(Options { connections_max: 2, ..Options::default() });
    let first = world.client();
    world.client();
    assert_eq!(world.broker.connect(world.now, HERE.parse().expect("an address")), None);
    world.hang_up(first);
    world.client();
    assert_eq!(world.broker.stats().refused_connections, 1);
}

/// Carries bytes between the crate's own client and the broker until both are quiet.
fn carry(world: &mut World, peer: &mut Peer, client: &mut Client, input: &mut Buf, events: &mut Vec<Event>) {
    for _ in 0..100 {
        let mut out = Vec::new();
        client.transmit(&mut out);
        world.send_bytes(peer, &out);
        world.turn();
        let waiting = world.broker.output(peer.id).to_vec();
        world.broker.advance(world.now, peer.id, waiting.len());
        if waiting.is_empty() && out.is_empty() {
            return;
        }
        input.extend(&waiting);
        client.receive(world.now, input).expect("a polite broker");
        events.extend(std::iter::from_fn(|| client.poll_event()));
    }
    panic!("they never stop talking");
}

#[test]
fn the_gateways_client_lives_its_life_here() {
    let mut world = World::new(Options::default());
    let options = crate::amqp::Options {
        exchange: "rateway-1".into(),
        queue: "rateway-incoming-1".into(),
        binding_keys: vec!["cache".into(), "gateway".into()],
        ..crate::amqp::Options::default()
    };
    let mut client = Client::new(options, world.now);
    let mut peer = world.connect_from(HERE);
    let (mut input, mut events) = (Buf::with_capacity(1024), Vec::new());
    carry(&mut world, &mut peer, &mut client, &mut input, &mut events);
    assert_eq!(events, [Event::PublishReady { frame_max: 131_072 }]);
    // A worker binds a queue of its own and asks for something.
    let mut worker = world.worker();
    world.declare(&mut worker, "events");
    world.ask(&mut worker, bind("events", "rateway-1", "MESSAGE_CREATE", FieldTable::default()));
    world.send(&mut worker, [consume(1, "events", "t", false)]);
    world.turn();
    let mut framed = Vec::new();
    for seq in 0..3 {
        let event = EventPublish {
            exchange: b"rateway-1",
            routing_key: b"MESSAGE_CREATE",
            message_id: b"0-session-1",
            timestamp_s: 1,
            shard_id: 0,
            seq,
            repeat: false,
            persistent: true,
            body: b"{}",
        };
        frame_event(&mut framed, client::PUBLISH_CHANNEL, 131_072, &event).expect("short names");
    }
    world.send_bytes(&mut peer, &framed);
    assert_eq!(world.delivered(&worker).len(), 1 + 2);
    let ask = publish(1, "rateway-1", "gateway", false, BasicProperties::default(), "{}");
    world.send_bytes(&mut worker, &bytes(&ask));
    events.clear();
    carry(&mut world, &mut peer, &mut client, &mut input, &mut events);
    assert_eq!(events[0], Event::Confirm { delivery_tag: 3, multiple: true });
    let Event::Delivery(delivery) = &events[1] else { panic!("{events:?}") };
    assert_eq!((delivery.routing_key.as_str(), delivery.body.as_slice()), ("gateway", b"{}".as_slice()));
    client.ack(delivery.delivery_tag);
    carry(&mut world, &mut peer, &mut client, &mut input, &mut events);
    world.send(&mut worker, [ack(1, 3, true)]);
    assert_eq!((world.broker.stats().messages, world.broker.stats().message_bytes), (0, 0));
}

#[test]
fn a_publisher_that_is_not_read_is_not_taken_for_silent() {
    let mut world = World::new(Options { memory_bytes: 5000, ..Options::default() });
    let mut publisher = world.connect_from(HERE);
    world.send_bytes(&mut publisher, b"AMQP\x00\x00\x09\x01");
    world.send(&mut publisher, [start_ok("PLAIN", "\0guest\0guest"), tune_ok(0, 0, 4), open_vhost("/")]);
    world.send(&mut publisher, [open(1), declare(1, "q", Declare::default())]);
    world.read(&publisher);
    let mut worker = world.worker();
    while world.send_bytes(
        &mut publisher,
        &bytes(&publish(1, "", "q", false, BasicProperties::default(), &"x".repeat(900))),
    ) == Next::Bytes
    {}
    for _ in 0..100 {
        world.pass(SECOND);
        world.read(&publisher);
    }
    world.send(&mut worker, [consume(1, "q", "t", true)]);
    world.read(&worker);
    // It may go on, but nobody has read it yet.
    world.pass(SECOND);
    assert!(world.is_open(&publisher));
    assert_eq!(world.broker.poll_resumed(), Some(publisher.id));
    assert_eq!(world.send(&mut publisher, []), Next::Bytes);
    world.pass(9 * SECOND);
    assert_eq!(world.broker.fate(publisher.id), Fate::Gone, "now its silence counts");
}
