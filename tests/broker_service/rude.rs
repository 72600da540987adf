//! Bare sockets that break every rule: each is told its code, the broker stays up and small, and others are served. The
//! machine's own tests have a longer list of rules; here it is sockets, time and numbers.

use amq_protocol::protocol::{AMQPClass, queue};

use crate::service::{Service, consume, declare, m, open, open_vhost, publish, start_ok, tune_ok, written};
use crate::support::wait_for;

fn raw(kind: u8, channel: u16, size: u32, payload: &[u8], end: u8) -> Vec<u8> {
    let mut out = vec![kind];
    out.extend_from_slice(&channel.to_be_bytes());
    out.extend_from_slice(&size.to_be_bytes());
    out.extend_from_slice(payload);
    out.push(end);
    out
}

fn method(channel: u16, payload: &[u8]) -> Vec<u8> {
    raw(1, channel, payload.len() as u32, payload, 0xCE)
}

#[test]
fn each_rule_has_its_code() {
    let service = Service::start(&[]);
    let mut nested = Vec::new();
    for depth in (0..10_000u32).rev() {
        nested.push(b'A');
        nested.extend_from_slice(&(depth * 5).to_be_bytes());
    }
    let mut deep = vec![0, 50, 0, 10, 0, 0, 1, b'q', 0];
    deep.extend_from_slice(&(nested.len() as u32 + 2).to_be_bytes());
    deep.extend_from_slice(b"\x01a");
    deep.extend_from_slice(&nested);
    let [head, header, _] = publish("q", b"body").map(|frame| written(&frame));
    for (name, bytes, code) in [
        ("a wrong end", raw(1, 1, 4, &[0, 20, 0, 10], 0), 501),
        ("a giant", raw(1, 1, u32::MAX, b"", 0), 501),
        ("an unknown type", raw(4, 1, 0, b"", 0xCE), 501),
        ("a body without header", raw(3, 1, 4, b"body", 0xCE), 505),
        ("a closed channel", method(7, &[0, 60, 0, 10, 0, 0, 0, 0, 0, 1, 0]), 504),
        ("a method in the middle", [head.clone(), header, method(1, &[0, 20, 0, 41])].concat(), 505),
        ("two methods in a row", [head.clone(), head].concat(), 505),
        ("a publish on channel 0", method(0, &[0, 60, 0, 40, 0, 0, 0, 0, 0]), 503),
        ("deep tables", method(1, &deep), 502),
        ("an unknown method", method(1, &[0, 60, 0, 99]), 503),
        ("tx.select", method(1, &[0, 90, 0, 10]), 540),
    ] {
        let mut peer = service.client();
        peer.send(&bytes);
        assert_eq!(peer.closed(), code, "{name}");
    }
    for (channel_max, frame_max) in [(2048, 0), (0, 131_073), (0, 1)] {
        let mut peer = service.socket();
        peer.send(b"AMQP\x00\x00\x09\x01");
        peer.say(start_ok("\0guest\0guest"));
        peer.say(tune_ok(channel_max, frame_max));
        peer.say(open_vhost());
        assert_eq!(peer.closed(), 530);
    }
    service.assert_serves();
}

#[test]
fn another_protocol_is_told_which_one_would_do() {
    use std::io::Read;
    let service = Service::start(&[]);
    for hello in [b"GET / HTTP/1.1\r\n\r\n".as_slice(), b"AMQP\x00\x01\x00\x00", b"\x16\x03\x01\x02\x00"] {
        let mut peer = service.socket();
        peer.send(hello);
        let mut answer = Vec::new();
        // A reset after the answer is as good an end as any.
        let _ = peer.stream.read_to_end(&mut answer);
        assert_eq!(answer, b"AMQP\x00\x00\x09\x01");
    }
    service.assert_serves();
}

#[test]
fn handshakes_that_stall_are_dropped_and_disturb_nobody() {
    let service = Service::start(&[]);
    let mut stalled = Vec::new();
    for octets in 0..8 {
        let mut peer = service.socket();
        peer.send(&b"AMQP\x00\x00\x09\x01"[..octets]);
        stalled.push(peer);
    }
    let mut silent = service.socket();
    silent.send(b"AMQP\x00\x00\x09\x01");
    silent.read().expect("connection.start");
    stalled.push(silent);
    service.assert_serves();
    for mut peer in stalled {
        assert_eq!(peer.read(), None);
    }
}

#[test]
fn who_does_not_read_costs_no_more_than_its_share() {
    const MESSAGES: usize = 1_000_000;
    let service = Service::start(&[("BROKER_MEMORY", "32MiB")]);
    let before = service.process.resident_kib();
    let mut slow = service.client();
    slow.say(declare("q", false));
    slow.read().expect("queue.declare-ok");
    slow.say(consume("q"));
    slow.read().expect("basic.consume-ok");
    // Nobody else takes them, so the publisher stops at the ceiling, long before a million.
    let mut publisher = service.client();
    publisher.stream.set_write_timeout(Some(std::time::Duration::from_secs(2))).expect("a socket");
    let one: Vec<u8> = publish("q", &[b'x'; 900]).iter().flat_map(written).collect();
    let portion = one.repeat(1000);
    let mut portions = 0;
    while std::io::Write::write_all(&mut publisher.stream, &portion).is_ok() {
        portions += 1;
        assert!(portions < MESSAGES / 1000, "a million messages went nowhere");
    }
    service.process.wait_line("publishers wait");
    // Somebody else is served meanwhile, as long as it does not publish.
    let mut other = service.client();
    other.say(declare("q", false));
    other.read().expect("queue.declare-ok");
    let grown = service.process.resident_kib() - before;
    assert!(grown < 96 << 10, "{grown} KiB for 32 MiB of messages");
    // Nobody takes them any more: with their queue they go, and so does what the publisher still had on its way.
    drop((slow, publisher));
    let delete = queue::Delete { queue: "q".into(), ..queue::Delete::default() };
    other.say(m(1, AMQPClass::Queue(queue::AMQPMethod::Delete(delete))));
    other.read().expect("queue.delete-ok");
    service.process.wait_line("publishers go on");
    drop(other);
    service.assert_serves();
}

#[test]
fn thousands_of_channels_queues_and_consumers_are_as_many_as_may_be() {
    let service = Service::start(&[]);
    let mut peer = service.client();
    for number in 2..=2047 {
        peer.say(open(number));
        peer.read().expect("channel.open-ok");
    }
    // One by one, so that the broker's own output is read too.
    for n in 0..2000 {
        peer.say(declare(&format!("many-{n}"), true));
        peer.read().expect("queue.declare-ok");
        peer.say(consume(&format!("many-{n}")));
        peer.read().expect("basic.consume-ok");
    }
    service.assert_serves();
    peer.say(open(2048));
    assert_eq!(peer.closed(), 530);
    drop(peer);
    // All of its queues went with it.
    let mut other = service.client();
    other.say(declare("many-0", false));
    other.read().expect("queue.declare-ok");
    let others: Vec<_> = (0..1100).map(|_| service.socket()).collect();
    drop(others);
    wait_for("room for a client again", || {
        let mut peer = service.socket();
        peer.send(b"AMQP\x00\x00\x09\x01");
        peer.read().map(drop)
    });
    service.assert_serves();
}
