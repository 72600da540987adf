//! The broker as a part of another process: its figures, and what it does with sockets whose end nobody reads.

use std::io::{Read, Write};
use std::thread;

use amq_protocol::protocol::{AMQPClass, basic, connection};
use rateway::broker::{self, Limit};
use rateway::broker_server::{Options, Server};

use crate::service::{Service, consume, declare, m, open, open_vhost, publish, start_ok, written};
use crate::support::{wait_for, wait_until};

#[test]
fn figures_can_be_read_from_any_thread() {
    let address = ([127, 0, 0, 1], 0).into();
    let broker = broker::Options { queues_max: 1, ..broker::Options::default() };
    let server = Server::bind(Options { address, may_move: false, broker }).expect("a free port");
    let (figures, stopper, address) = (server.figures(), server.stopper(), server.address());
    assert_eq!(figures.read(), broker::Stats::default());
    let running = thread::spawn(move || server.run());
    let mut peer = crate::service::client(&address.to_string());
    peer.say(declare("q", false));
    peer.read().expect("queue.declare-ok");
    for frame in
        [publish("q", b"one"), publish("q", b"two"), publish("nobody", b"three")].into_iter().flatten()
    {
        peer.say(frame);
    }
    let get = basic::Get { queue: "q".into(), no_ack: false };
    peer.say(m(1, AMQPClass::Basic(basic::AMQPMethod::Get(get))));
    peer.say(declare("r", false));
    assert_eq!(peer.closed(), 406);
    // Its channel is gone, so what it got is in the queue again.
    let stats = wait_for("figures", || Some(figures.read()).filter(|stats| stats.met(Limit::Queues) == 1));
    assert_eq!((stats.connections, stats.channels, stats.queues), (1, 1, 1));
    assert_eq!((stats.messages, stats.ready, stats.unacked), (2, 2, 0));
    assert_eq!((stats.published, stats.delivered, stats.unrouted), (3, 1, 1));
    assert!(stats.message_bytes > 0);
    drop(peer);
    wait_until("the client is gone", || figures.read().connections == 0);
    stopper.stop();
    running.join().expect("no panic").expect("a broker that ran");
}

#[test]
fn who_is_gone_while_it_waits_gives_back_what_it_has() {
    let service = Service::start(&[("BROKER_MEMORY", "4MiB")]);
    // It takes all of the memory and holds it, and wants to publish more: nobody reads it any more.
    let mut peer = service.socket();
    peer.send(b"AMQP\x00\x00\x09\x01");
    peer.say(start_ok("\0guest\0guest"));
    let tune_ok = connection::TuneOk { channel_max: 0, frame_max: 0, heartbeat: 2 };
    peer.say(m(0, AMQPClass::Connection(connection::AMQPMethod::TuneOk(tune_ok))));
    for frame in [open_vhost(), open(1), declare("q", false)] {
        peer.say(frame);
    }
    (0..5).for_each(|_| drop(peer.read().expect("an answer")));
    let all = basic::Consume { queue: "q".into(), ..basic::Consume::default() };
    peer.say(m(1, AMQPClass::Basic(basic::AMQPMethod::Consume(all))));
    peer.read().expect("basic.consume-ok");
    let one: Vec<u8> = publish("q", &[b'x'; 900]).iter().flat_map(written).collect();
    let mut reader = peer.stream.try_clone().expect("a socket");
    let reading = thread::spawn(move || {
        let mut bytes = vec![0; 65_536];
        while reader.read(&mut bytes).is_ok_and(|count| count > 0) {}
    });
    while peer.stream.write_all(&one.repeat(100)).is_ok() {}
    service.process.wait_line("publishers wait");
    peer.stream.shutdown(std::net::Shutdown::Both).expect("a socket");
    reading.join().expect("no panic");
    drop(peer);
    // Somebody else gets them.
    let mut other = service.client();
    other.say(consume("q"));
    other.read().expect("basic.consume-ok");
    other.read().expect("a delivery that was somebody else's");
}
