//! Clients that break every rule: each gets its reply code, and nobody else is concerned.

use super::*;
use crate::broker::notice::Stats;

/// What a rude client does, and the code that it is told.
fn rude(bytes: &[u8]) -> (u16, Stats) {
    let mut world = World::new(Options::default());
    let mut bystander = world.worker();
    world.declare(&mut bystander, "q");
    let mut peer = world.worker();
    world.send_bytes(&mut peer, bytes);
    let (code, words) = world.closed(&peer);
    assert!(!words.is_empty() && !world.is_open(&peer) || code > 0);
    // Whatever it says now is not listened to, and at last it is dropped.
    world.send_bytes(&mut peer, &[0xFF; 100]);
    world.pass(6 * SECOND);
    assert_ne!(world.broker.fate(peer.id), Fate::Open);
    world.publish(&mut bystander, "q", "m");
    world.send(&mut bystander, [get("q", true)]);
    assert_eq!(world.read(&bystander).len(), 3);
    (code, world.broker.stats())
}

fn raw(kind: u8, channel: u16, payload: &[u8]) -> Vec<u8> {
    let mut out = crate::amqp::frame::head(kind, channel, payload.len() as u32).to_vec();
    out.extend_from_slice(payload);
    out.push(0xCE);
    out
}

#[test]
fn each_rule_has_its_code() {
    let whole = bytes(&publish(1, "", "q", false, BasicProperties::default(), "body"));
    let cut = |count| bytes(&publish(1, "", "q", false, BasicProperties::default(), "body")[..count]);
    let mut wrong_end = cut(1);
    *wrong_end.last_mut().expect("an octet") = 0;
    let mut nested = Vec::new();
    for depth in (0..5000u32).rev() {
        nested.push(b'A');
        nested.extend_from_slice(&(depth * 5).to_be_bytes());
    }
    let mut deep = vec![0, 50, 0, 10, 0, 0, 1, b'q', 0];
    deep.extend_from_slice(&(nested.len() as u32 + 2).to_be_bytes());
    deep.extend_from_slice(b"\x01a");
    deep.extend_from_slice(&nested);
    let longer = [cut(2), raw(3, 1, b"more than announced")].concat();
    for (name, bytes, code) in [
        ("an unknown frame type", vec![9, 0, 0, 0, 0, 0, 0, 0xCE], 501),
        ("a wrong end", wrong_end, 501),
        ("a giant", vec![1, 0, 1, 0xFF, 0xFF, 0xFF, 0xFF], 501),
        ("a body without header", raw(3, 1, b"body"), 505),
        ("a header without method", raw(2, 1, &[0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0]), 505),
        ("a closed channel", bytes(&publish(2, "", "q", false, BasicProperties::default(), "body")), 504),
        ("a body on a closed channel", raw(3, 9, b"body"), 504),
        ("a second open", bytes(&[open(1)]), 504),
        ("a method in the middle", [cut(1), whole.clone()].concat(), 505),
        ("a method in the body", [cut(2), whole].concat(), 505),
        ("more than announced", longer, 505),
        ("a publish on channel 0", raw(1, 0, &[0, 60, 0, 40, 0, 0, 0, 0, 0]), 503),
        ("content on channel 0", raw(3, 0, b"body"), 505),
        ("a heartbeat on a channel", raw(8, 1, b""), 505),
        ("an unknown class", raw(1, 1, &[0, 99, 0, 1]), 503),
        ("an unknown method", raw(1, 1, &[0, 60, 0, 99]), 503),
        ("half a method id", raw(1, 1, &[0, 60]), 502),
        ("a short argument", raw(1, 1, &[0, 60, 0, 80, 1]), 502),
        ("a surplus argument", raw(1, 1, &[0, 60, 0, 80, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0]), 502),
        ("deep tables", raw(1, 1, &deep), 502),
        ("transactions", raw(1, 1, &[0, 90, 0, 10]), 540),
        (
            "a header of another class",
            [cut(1), raw(2, 1, &[0, 50, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0])].concat(),
            502,
        ),
        (
            "properties that end early",
            [cut(1), raw(2, 1, &[0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x80, 0, 9])].concat(),
            502,
        ),
        (
            "an unknown exchange type",
            bytes(&[declare_exchange("x", "odd", false, FieldTable::default())]),
            503,
        ),
        ("a tag used twice", bytes(&[consume(1, "q", "t", true), consume(1, "q", "t", true)]), 530),
        ("a second handshake", bytes(&[start_ok("PLAIN", "\0guest\0guest")]), 503),
        ("a channel number too high", bytes(&[open(3000)]), 530),
    ] {
        let (told, stats) = rude(&bytes);
        assert_eq!(told, code, "{name}");
        assert_eq!((stats.messages, stats.message_bytes), (0, 0), "{name}");
    }
}

#[test]
fn another_protocol_is_told_which_one_would_do() {
    for hello in [b"AMQP\x00\x01\x00\x00".as_slice(), b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01", b"AMQP\x01"]
    {
        let mut world = World::new(Options::default());
        let mut peer = world.connect_from(HERE);
        world.send_bytes(&mut peer, hello);
        assert_eq!(world.broker.output(peer.id), b"AMQP\x00\x00\x09\x01");
        assert_eq!(world.broker.fate(peer.id), Fate::Ending);
    }
}

#[test]
fn numbers_have_limits() {
    let options = Options {
        queues_max: 3,
        exchanges_max: 6,
        bindings_max: 2,
        consumers_max: 2,
        message_bytes_max: 1000,
        content_bytes_max: 1500,
        ..Options::default()
    };
    let mut world = World::new(options);
    let mut peer = world.worker();
    for name in ["a", "b", "c"] {
        world.declare(&mut peer, name);
    }
    assert_eq!(world.ask_wrong(&mut peer, &[declare(1, "d", Declare::default())]).0, 406);
    let plain = FieldTable::default;
    world.ask(&mut peer, declare_exchange("e", "fanout", false, plain()));
    assert_eq!(world.ask_wrong(&mut peer, &[declare_exchange("f", "fanout", false, plain())]).0, 406);
    world.ask(&mut peer, bind("a", "e", "", plain()));
    world.ask(&mut peer, bind("b", "e", "", plain()));
    assert_eq!(world.ask_wrong(&mut peer, &[bind("c", "e", "", plain())]).0, 406);
    let large = publish(1, "", "a", false, BasicProperties::default(), &"x".repeat(1001));
    let (code, words) = world.ask_wrong(&mut peer, &large);
    assert_eq!(code, 406);
    assert_eq!(words, "PRECONDITION_FAILED - message size 1001 is larger than configured max size 1000");
    world.ask(&mut peer, consume(1, "a", "1", true));
    world.ask(&mut peer, consume(1, "a", "2", true));
    world.send(&mut peer, [consume(1, "a", "3", true)]);
    assert_eq!(world.closed(&peer).0, 530);
    // Many messages that never end.
    let mut peer = world.worker();
    world.ask(&mut peer, open(2));
    for number in [1, 2] {
        let frames = publish(number, "", "a", false, BasicProperties::default(), &"x".repeat(900));
        world.send_bytes(&mut peer, &bytes(&frames[..2]));
    }
    assert_eq!(world.closed(&peer).0, 506);
    assert_eq!(world.broker.stats().message_bytes, 0);
}

#[test]
fn work_is_done_in_portions() {
    let mut world = World::new(Options::default());
    let mut peer = world.worker();
    let many = bytes(&[qos(1, 1, false)]).repeat(20_000);
    let mut next = world.send_bytes(&mut peer, &many);
    let mut turns = 1;
    while next != Next::Bytes {
        world.read(&peer);
        next = world.send_bytes(&mut peer, &[]);
        turns += 1;
    }
    assert!((3..10).contains(&turns), "{turns}");
}
