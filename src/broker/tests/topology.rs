//! Exchanges, queues and bindings, and what is said when they are asked for wrongly.

use amq_protocol::protocol::{basic, exchange, queue};

use super::*;

fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(value.into())
}

fn delete_queue(name: &str, if_unused: bool, if_empty: bool) -> AMQPFrame {
    let delete = queue::Delete { queue: name.into(), if_unused, if_empty, nowait: false };
    m(1, AMQPClass::Queue(queue::AMQPMethod::Delete(delete)))
}

fn delete_ok(message_count: u32) -> AMQPFrame {
    m(1, AMQPClass::Queue(queue::AMQPMethod::DeleteOk(queue::DeleteOk { message_count })))
}

/// The names of queues that hold `body` as their only message.
fn holders(world: &mut World, peer: &mut Peer, names: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for name in names {
        world.send(peer, [get(name, true)]);
        let is_empty = matches!(
            world.read(peer).first(),
            Some(AMQPFrame::Method(1, AMQPClass::Basic(basic::AMQPMethod::GetEmpty(_))))
        );
        if !is_empty {
            found.push((*name).to_owned());
        }
    }
    found
}

#[test]
fn a_queue_is_declared_once_and_found_again() {
    let mut world = World::new(Options::default());
    let mut peer = world.worker();
    assert_eq!(world.ask(&mut peer, declare(1, "q", Declare::default())), declare_ok("q", 0, 0));
    world.publish(&mut peer, "q", "m");
    let passive = || Declare { passive: true, ..Declare::default() };
    assert_eq!(world.ask(&mut peer, declare(1, "q", passive())), declare_ok("q", 1, 0));
    // The last one declared stands for an empty name, also for binds.
    world.ask(&mut peer, bind("", "amq.direct", "", FieldTable::default()));
    world.send_bytes(
        &mut peer,
        &bytes(&publish(1, "amq.direct", "q", false, BasicProperties::default(), "n")),
    );
    assert_eq!(world.ask(&mut peer, declare(1, "q", passive())), declare_ok("q", 2, 0));
    assert_eq!(world.ask(&mut peer, delete_queue("q", false, false)), delete_ok(2));
    assert_eq!(world.ask(&mut peer, delete_queue("q", false, false)), delete_ok(0));
    let stats = world.broker.stats();
    assert_eq!((stats.messages, stats.message_bytes, stats.bindings, stats.queues), (0, 0, 0, 0));
}

#[test]
fn names_made_up_by_the_broker_differ() {
    let mut world = World::new(Options::default());
    let mut peer = world.worker();
    let mut name = || match world.ask(&mut peer, declare(1, "", Declare::default())) {
        AMQPFrame::Method(1, AMQPClass::Queue(queue::AMQPMethod::DeclareOk(ok))) => ok.queue.to_string(),
        other => panic!("{other}"),
    };
    let (a, b) = (name(), name());
    assert!(a.starts_with("amq.gen-") && a.len() == 30 && a != b, "{a} {b}");
}

#[test]
fn faults_have_rabbitmqs_codes_and_words() {
    let mut world = World::new(Options::default());
    let mut peer = world.worker();
    world.declare(&mut peer, "q");
    world.publish(&mut peer, "q", "m");
    let ttl =
        |ms| Declare { arguments: table(&[("x-message-ttl", AMQPValue::LongInt(ms))]), ..Declare::default() };
    world.ask(&mut peer, declare(1, "t", ttl(1000)));
    let passive = |name| {
        let declare = exchange::Declare { exchange: name, passive: true, ..exchange::Declare::default() };
        m(1, AMQPClass::Exchange(exchange::AMQPMethod::Declare(declare)))
    };
    let plain = FieldTable::default;
    for (frames, code, words) in [
        (
            vec![declare(1, "x", Declare { passive: true, ..Declare::default() })],
            404,
            "NOT_FOUND - no queue 'x' in vhost '/'",
        ),
        (vec![passive("x".into())], 404, "NOT_FOUND - no exchange 'x' in vhost '/'"),
        (vec![bind("q", "x", "", plain())], 404, "NOT_FOUND - no exchange 'x' in vhost '/'"),
        (vec![bind("x", "amq.topic", "", plain())], 404, "NOT_FOUND - no queue 'x' in vhost '/'"),
        (vec![bind("", "amq.topic", "", plain())], 404, "NOT_FOUND - no previously declared queue"),
        (vec![get("x", true)], 404, "NOT_FOUND - no queue 'x' in vhost '/'"),
        (vec![consume(1, "x", "", true)], 404, "NOT_FOUND - no queue 'x' in vhost '/'"),
        (
            publish(1, "x", "", false, BasicProperties::default(), "body"),
            404,
            "NOT_FOUND - no exchange 'x' in vhost '/'",
        ),
        (
            vec![declare(1, "amq.mine", Declare::default())],
            403,
            "ACCESS_REFUSED - queue name 'amq.mine' contains reserved prefix 'amq.*'",
        ),
        (
            vec![declare_exchange("amq.mine", "direct", false, plain())],
            403,
            "ACCESS_REFUSED - exchange name 'amq.mine' contains reserved prefix 'amq.*'",
        ),
        (
            vec![bind("q", "", "k", plain())],
            403,
            "ACCESS_REFUSED - operation not permitted on the default exchange",
        ),
        (
            vec![declare(1, "q", Declare { durable: true, ..Declare::default() })],
            406,
            "PRECONDITION_FAILED - inequivalent arg 'durable' for queue 'q' in vhost '/': received 'true' but current is 'false'",
        ),
        (
            vec![declare(1, "t", ttl(2000))],
            406,
            "PRECONDITION_FAILED - inequivalent arg 'x-message-ttl' for queue 't' in vhost '/': received the value '2000' but current is the value '1000'",
        ),
        (
            vec![declare(1, "t", Declare::default())],
            406,
            "PRECONDITION_FAILED - inequivalent arg 'x-message-ttl' for queue 't' in vhost '/': received none but current is the value '1000'",
        ),
        (
            vec![declare_exchange("amq.topic", "direct", false, plain())],
            406,
            "PRECONDITION_FAILED - inequivalent arg 'type' for exchange 'amq.topic' in vhost '/': received 'direct' but current is 'topic'",
        ),
        (
            vec![delete_queue("q", false, true)],
            406,
            "PRECONDITION_FAILED - queue 'q' in vhost '/' is not empty",
        ),
        (vec![ack(1, 7, false)], 406, "PRECONDITION_FAILED - unknown delivery tag 7"),
        (vec![nack(1, 7, true, true)], 406, "PRECONDITION_FAILED - unknown delivery tag 7"),
        (
            publish(1, "", "q", false, BasicProperties::default().with_expiration("soon".into()), ""),
            406,
            "PRECONDITION_FAILED - invalid expiration 'soon'",
        ),
        (
            publish(1, "", "q", false, BasicProperties::default().with_user_id("root".into()), ""),
            406,
            "PRECONDITION_FAILED - user_id property set to 'root' but authenticated user was 'guest'",
        ),
    ] {
        assert_eq!(world.ask_wrong(&mut peer, &frames), (code, words.to_owned()));
    }
    assert!(world.is_open(&peer));
}

#[test]
fn an_exclusive_queue_is_its_connections_own_and_goes_with_it() {
    let mut world = World::new(Options::default());
    let (mut owner, mut other) = (world.worker(), world.worker());
    let exclusive = || Declare { exclusive: true, ..Declare::default() };
    world.ask(&mut owner, declare(1, "q", exclusive()));
    world.ask(&mut owner, declare(1, "q", exclusive()));
    for frame in [
        declare(1, "q", exclusive()),
        declare(1, "q", Declare { passive: true, ..Declare::default() }),
        consume(1, "q", "", true),
        get("q", true),
        bind("q", "amq.topic", "", FieldTable::default()),
        delete_queue("q", false, false),
    ] {
        let (code, words) = world.ask_wrong(&mut other, &[frame]);
        assert_eq!(code, 405);
        assert!(words.starts_with("RESOURCE_LOCKED - cannot obtain exclusive access to locked queue 'q'"));
    }
    // Anybody may publish to it.
    world.publish(&mut other, "q", "m");
    world.ask(&mut owner, bind("q", "amq.fanout", "", FieldTable::default()));
    world.hang_up(owner);
    let stats = world.broker.stats();
    assert_eq!((stats.queues, stats.messages, stats.message_bytes, stats.bindings), (0, 0, 0, 0));
    world.declare(&mut other, "q");
}

#[test]
fn messages_go_where_bindings_lead() {
    let mut world = World::new(Options::default());
    let mut peer = world.worker();
    let names = ["direct", "fanout", "topic", "headers", "chain"];
    for name in names {
        world.declare(&mut peer, name);
    }
    let plain = FieldTable::default;
    world.ask(&mut peer, declare_exchange("tail", "topic", false, plain()));
    for frame in [
        bind("direct", "amq.direct", "a.b", plain()),
        bind("fanout", "amq.fanout", "whatever", plain()),
        bind("topic", "amq.topic", "a.*", plain()),
        bind("headers", "amq.headers", "", table(&[("x-match", text("any")), ("kind", text("x"))])),
        bind("chain", "tail", "#.b", plain()),
        bind_exchange("tail", "amq.direct", "a.b"),
        bind_exchange("tail", "amq.topic", "#"),
    ] {
        world.ask(&mut peer, frame);
    }
    let headers = BasicProperties::default().with_headers(table(&[("kind", text("x"))]));
    for (exchange, key, properties, want) in [
        ("", "chain", BasicProperties::default(), vec!["chain"]),
        ("", "nobody", BasicProperties::default(), vec![]),
        ("amq.direct", "a.b", BasicProperties::default(), vec!["direct", "chain"]),
        ("amq.direct", "a", BasicProperties::default(), vec![]),
        ("amq.fanout", "", BasicProperties::default(), vec!["fanout"]),
        ("amq.topic", "a.b", BasicProperties::default(), vec!["topic", "chain"]),
        ("amq.topic", "a.c", BasicProperties::default(), vec!["topic"]),
        ("amq.headers", "a.b", headers.clone(), vec!["headers"]),
        ("amq.match", "a.b", headers, vec![]),
        ("amq.headers", "a.b", BasicProperties::default(), vec![]),
    ] {
        world.send_bytes(&mut peer, &bytes(&publish(1, exchange, key, false, properties, "m")));
        assert_eq!(holders(&mut world, &mut peer, &names), want, "{exchange} {key}");
    }
    assert_eq!(world.broker.stats().message_bytes, 0);
}

#[test]
fn an_exchange_may_be_in_use_internal_or_gone_with_its_last_binding() {
    let mut world = World::new(Options::default());
    let mut peer = world.worker();
    world.declare(&mut peer, "q");
    let plain = FieldTable::default;
    world.ask(&mut peer, declare_exchange("auto", "direct", true, plain()));
    world.ask(&mut peer, bind("q", "auto", "k", plain()));
    let delete = exchange::Delete { exchange: "auto".into(), if_unused: true, nowait: false };
    let delete = m(1, AMQPClass::Exchange(exchange::AMQPMethod::Delete(delete)));
    let (code, words) = world.ask_wrong(&mut peer, &[delete]);
    assert_eq!((code, words.as_str()), (406, "PRECONDITION_FAILED - exchange 'auto' in vhost '/' in use"));
    let unbind = queue::Unbind {
        queue: "q".into(),
        exchange: "auto".into(),
        routing_key: "k".into(),
        arguments: plain(),
    };
    world.ask(&mut peer, m(1, AMQPClass::Queue(queue::AMQPMethod::Unbind(unbind))));
    let (code, _) = world.ask_wrong(&mut peer, &[bind("q", "auto", "k", plain())]);
    assert_eq!(code, 404, "it went with its last binding");
    let internal = exchange::Declare {
        exchange: "inner".into(),
        kind: "fanout".into(),
        internal: true,
        ..exchange::Declare::default()
    };
    world.ask(&mut peer, m(1, AMQPClass::Exchange(exchange::AMQPMethod::Declare(internal))));
    let (code, words) =
        world.ask_wrong(&mut peer, &publish(1, "inner", "", false, BasicProperties::default(), "m"));
    assert_eq!(code, 403);
    assert_eq!(words, "ACCESS_REFUSED - cannot publish to internal exchange 'inner' in vhost '/'");
}
