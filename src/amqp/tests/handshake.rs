//! From the protocol header to an open connection, its heartbeats and its end.

use super::*;
use crate::amqp::Recovery;

fn start_ok() -> AMQPFrame {
    let mut capabilities = FieldTable::default();
    for name in [
        "publisher_confirms",
        "consumer_cancel_notify",
        "connection.blocked",
        "authentication_failure_close",
        "basic.nack",
    ] {
        capabilities.insert(name.into(), AMQPValue::Boolean(true));
    }
    let mut client_properties = FieldTable::default();
    for (name, value) in [
        ("product", "rateway"),
        ("version", env!("CARGO_PKG_VERSION")),
        ("platform", "Rust"),
        ("connection_name", "rateway-1 of test"),
    ] {
        client_properties.insert(name.into(), AMQPValue::LongString(value.into()));
    }
    client_properties.insert("capabilities".into(), AMQPValue::FieldTable(capabilities));
    let ok = connection::StartOk {
        client_properties,
        mechanism: "PLAIN".into(),
        response: "\0user\0hunter2".into(),
        locale: "en_US".into(),
    };
    m(0, AMQPClass::Connection(connection::AMQPMethod::StartOk(ok)))
}

fn tune_ok(frame_max: u32, heartbeat: u16) -> AMQPFrame {
    let ok = connection::TuneOk { channel_max: 2, frame_max, heartbeat };
    m(0, AMQPClass::Connection(connection::AMQPMethod::TuneOk(ok)))
}

fn open_vhost() -> AMQPFrame {
    m(0, AMQPClass::Connection(connection::AMQPMethod::Open(connection::Open { virtual_host: "v".into() })))
}

#[test]
fn the_whole_way_byte_for_byte_and_octet_by_octet() {
    let mut script = Script::new(options());
    assert_eq!(script.written(), b"AMQP\x00\x00\x09\x01");
    let bytes = reference(&[start("AMQPLAIN PLAIN")]);
    for (n, octet) in bytes.iter().enumerate() {
        assert!(script.written().is_empty(), "answered after {n} of {} octets", bytes.len());
        script.input.extend(&[*octet]);
        script.client.receive(script.now, &mut script.input).unwrap();
    }
    // The waiting bytes hold the password, in whatever form a vector of octets is printed.
    let debug = format!("{:?} {:?}", script.client, script.client.options);
    assert!(!debug.contains("hunter2") && !debug.contains("117, 110, 116, 101, 114"));
    script.expect(&[start_ok()]);
    script.say(tune(2047, 131_072, 60));
    script.expect(&[tune_ok(131_072, 60), open_vhost()]);
    let mut ready = Script::ready(options());
    assert_eq!(ready.client.frame_max(), 131_072);
    assert!(ready.client.is_publish_ready());
    ready.expect(&[]);
}

#[test]
fn tune_takes_the_lower_value_that_is_not_zero() {
    for (ours, theirs, want) in [
        ((0, 60), (0, 0), (131_072, 60)),
        ((131_072, 60), (0, 0), (131_072, 60)),
        ((131_072, 60), (8192, 10), (8192, 10)),
        ((16_384, 5), (131_072, 60), (16_384, 5)),
        ((100, 0), (131_072, 60), (8192, 60)),
        ((8192, 0), (4096, 0), (4096, 0)),
    ] {
        let mut script =
            Script::new(Options { frame_max: ours.0, heartbeat: Duration::from_secs(ours.1), ..options() });
        script.say(start("PLAIN"));
        script.written();
        script.say(tune(0, theirs.0, theirs.1));
        script.expect(&[tune_ok(want.0, want.1), open_vhost()]);
        assert_eq!(script.client.frame_max(), want.0);
        assert_eq!(script.client.heartbeat(), Duration::from_secs(u64::from(want.1)));
    }
    for bad in [tune(1, 0, 0), tune(0, 4095, 0)] {
        let mut script = Script::new(options());
        script.say(start("PLAIN"));
        script.written();
        let error = script.try_say(&[bad]).unwrap_err();
        assert!(matches!(error, Error::Tune { .. }));
        script.expect(&[close_connection(530, &error.to_string(), (0, 0))]);
        assert_eq!(script.client.receive(script.now, &mut script.input), Err(Error::Over));
        assert_eq!(script.client.poll_timeout(), None);
    }
}

#[test]
fn a_refused_login_is_named() {
    let mut script = Script::new(options());
    let error = script.try_say(&[start("AMQPLAIN EXTERNAL")]).unwrap_err();
    assert_eq!(error, Error::NoPlain { offered: "AMQPLAIN EXTERNAL".into() });
    assert!(error.to_string().contains("AMQPLAIN EXTERNAL"));

    let mut script = Script::new(options());
    assert_eq!(script.client.link_lost(), Error::LinkLost);
    script.say(start("PLAIN"));
    assert_eq!(script.client.link_lost(), Error::AccessRefused { text: String::new() });
    script.written();
    let refusal = "ACCESS_REFUSED - Login was refused\nusing mechanism PLAIN";
    let error = script.try_say(&[close_connection(403, refusal, (0, 0))]).unwrap_err();
    assert_eq!(error, Error::AccessRefused { text: refusal.replace('\n', " ") });
    assert_eq!(error.consequence().recovery, Recovery::Operator);
    script.expect(&[connection_close_ok()]);

    // The vhost is refused after tune, with another code.
    let mut script = Script::new(options());
    script.say(start("PLAIN"));
    script.say(tune(0, 0, 0));
    let error =
        script.try_say(&[close_connection(530, "NOT_ALLOWED - vhost v not found", (10, 40))]).unwrap_err();
    assert_eq!(error.consequence().recovery, Recovery::Operator);
    assert!(!format!("{error} {error:?} {:?}", script.client).contains("hunter2"));
}

#[test]
fn another_protocol_is_named() {
    for n in 1..8 {
        let mut script = Script::new(options());
        script.input.extend(&b"AMQP\x03\x01\x00\x00"[..n]);
        assert_eq!(script.client.receive(script.now, &mut script.input), Ok(()), "{n} octets");
    }
    let mut script = Script::new(options());
    script.input.extend(b"AMQP\x03\x01\x00\x00");
    let error = script.client.receive(script.now, &mut script.input).unwrap_err();
    assert_eq!(error, Error::Version { header: *b"AMQP\x03\x01\x00\x00" });
    let mut script = Script::new(options());
    script.written();
    script.input.extend(b"HTTP/1.1 400 Bad Request\r\n");
    assert_eq!(script.client.receive(script.now, &mut script.input), Err(Error::FrameType { octet: b'H' }));
    assert!(script.written().is_empty(), "nothing is said to what does not speak AMQP");
}

#[test]
fn heartbeats_in_virtual_time() {
    let mut script = Script::ready(options());
    let begin = script.now;
    // With 60 s negotiated: one each 30 s, and the broker's silence is noticed after 120 s.
    for n in 1..=3 {
        script.deadline().unwrap();
        assert_eq!(script.now - begin, 30 * SECOND * n);
        script.expect(&[AMQPFrame::Heartbeat]);
    }
    // Half a frame is a sign of life; the same half seen again is none.
    script.input.extend(&[8, 0, 0]);
    script.client.receive(script.now, &mut script.input).unwrap();
    for _ in 0..3 {
        script.deadline().unwrap();
        script.expect(&[AMQPFrame::Heartbeat]);
        script.client.receive(script.now, &mut script.input).unwrap();
    }
    assert_eq!(script.deadline(), Err(Error::HeartbeatMissed));
    assert_eq!(script.now - begin, 210 * SECOND);
    assert_eq!(script.client.poll_timeout(), None);

    // A clock that jumps backwards harms nothing.
    let mut script = Script::ready(options());
    script.now -= 5 * SECOND;
    script.say(AMQPFrame::Heartbeat);
    script.pass(Duration::ZERO).unwrap();
    script.expect(&[]);

    // Without heartbeats nothing is due.
    let mut script = Script::new(Options { heartbeat: Duration::ZERO, ..options() });
    script.say(start("PLAIN"));
    script.say(tune(0, 0, 0));
    assert_eq!(script.deadline(), Err(Error::Timeout { waiting_for: "connection.open-ok" }));
}

#[test]
fn a_silent_broker_is_given_up() {
    let mut script = Script::new(options());
    let begin = script.now;
    assert_eq!(script.deadline(), Err(Error::Timeout { waiting_for: "connection.start" }));
    assert_eq!(script.now - begin, 30 * SECOND);
    let mut script = Script::connected(options());
    script.pass(15 * SECOND).unwrap();
    script.say(AMQPFrame::Heartbeat);
    assert!(matches!(script.pass(15 * SECOND), Err(Error::Timeout { .. })));
}

#[test]
fn blocked_and_unblocked() {
    let mut script = Script::ready(options());
    let blocked = connection::Blocked { reason: "low on memory\x1b[31m".into() };
    script.say(m(0, AMQPClass::Connection(connection::AMQPMethod::Blocked(blocked))));
    script.expect_events(&[Event::Blocked { reason: "low on memory [31m".into() }]);
    script.say(m(0, AMQPClass::Connection(connection::AMQPMethod::Unblocked(connection::Unblocked {}))));
    script.expect_events(&[Event::Unblocked]);
    let flow = |active| m(C1, AMQPClass::Channel(channel::AMQPMethod::Flow(channel::Flow { active })));
    let flow_ok = |active| m(C1, AMQPClass::Channel(channel::AMQPMethod::FlowOk(channel::FlowOk { active })));
    script.say(flow(false));
    script.expect(&[flow_ok(false)]);
    script.expect_events(&[Event::Blocked { reason: "channel.flow".into() }]);
    script.say(flow(true));
    script.expect(&[flow_ok(true)]);
    script.expect_events(&[Event::Unblocked]);
}

#[test]
fn both_ways_to_end() {
    let mut script = Script::ready(options());
    script.client.close();
    script.client.close();
    script.expect(&[close_connection(200, "goodbye", (0, 0))]);
    script.say(ack(C1, 1, false));
    script.expect_events(&[]);
    script.say(connection_close_ok());
    script.expect_events(&[Event::Closed]);
    assert_eq!(script.client.poll_timeout(), None);

    // A broker that never answers does not hold up a shutdown.
    let mut script = Script::ready(options());
    script.client.close();
    let begin = script.now;
    script.deadline().unwrap();
    assert_eq!(script.deadline(), Err(Error::Timeout { waiting_for: "connection.close-ok" }));
    assert_eq!(script.now - begin, 5 * SECOND);

    // Before the connection is open there is nothing to wait for.
    let mut script = Script::new(options());
    script.client.close();
    script.expect_events(&[Event::Closed]);

    // What was confirmed before the broker's close counts.
    let mut script = Script::ready(options());
    let close = close_connection(320, "CONNECTION_FORCED - broker forced", (0, 0));
    let error = script.try_say(&[ack(C1, 8, true), close]).unwrap_err();
    script.expect_events(&[Event::Confirm { delivery_tag: 8, multiple: true }]);
    assert_eq!(error.consequence().recovery, Recovery::Reconnect);
    script.expect(&[connection_close_ok()]);
    assert_eq!(script.client.handle_deadline(script.now), Err(Error::Over));
}

#[test]
fn an_option_that_can_not_be_sent_ends_the_client_at_once() {
    let mut script = Script::new(Options { queue: "q".repeat(256), ..options() });
    assert_eq!(script.client.poll_timeout(), Some(script.now));
    assert_eq!(script.deadline(), Err(Error::Options { name: "queue" }));
}
