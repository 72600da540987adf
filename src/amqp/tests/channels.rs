//! Topology, confirms, deliveries, and what a refusal on a channel leads to.

use super::*;
use crate::amqp::{Answer, BadDelivery, Header, Recovery};

#[track_caller]
fn notice(script: &mut Script, part: &str) {
    match script.client.poll_event() {
        Some(Event::Notice(text)) => assert!(text.contains(part), "{text}"),
        other => panic!("expected a notice with {part:?}, got {other:?}"),
    }
}

const FEATURE: &str =
    "INTERNAL_ERROR - Feature `transient_nonexcl_queues` is deprecated.\nBy default, not permitted";

#[test]
fn confirms_are_passed_on_as_they_come() {
    let mut script = Script::ready(options());
    script.try_say(&[ack(C1, 1, false), ack(C1, 7, true), nack(8)]).unwrap();
    script.expect_events(&[
        Event::Confirm { delivery_tag: 1, multiple: false },
        Event::Confirm { delivery_tag: 7, multiple: true },
        Event::Nack { delivery_tag: 8, multiple: false },
    ]);
}

#[test]
fn after_a_nack_stale_confirms_never_surface() {
    let mut script = Script::ready(options());
    script.say(nack(3));
    script.expect_events(&[Event::Nack { delivery_tag: 3, multiple: false }]);
    script.try_say(&[ack(C1, 4, false)]).unwrap();
    script.client.reopen_publish_channel();
    assert!(!script.client.is_publish_ready());
    script.client.reopen_publish_channel();
    script.expect(&[close_channel(C1, 200, "reopening")]);
    script.try_say(&[ack(C1, 9, true), nack(10)]).unwrap();
    script.expect_events(&[]);
    script.say(close_ok(C1));
    script.expect(&[]);
    script.deadline().unwrap();
    script.expect(&[open(C1)]);
    script.say(open_ok(C1));
    script.expect(&[declare_exchange(C1, false)]);
    script.say(exchange_ok(C1));
    script.expect(&[select()]);
    script.say(select_ok());
    script.say(ack(C1, 1, false));
    script.expect_events(&[
        Event::PublishReady { frame_max: 131_072 },
        Event::Confirm { delivery_tag: 1, multiple: false },
    ]);
    assert_eq!(script.client.stats().publish_reopened, 1);
}

#[test]
fn a_close_that_is_never_answered_is_noticed_though_no_time_was_given() {
    let mut script = Script::ready(options());
    script.now += 29 * SECOND;
    script.client.reopen_publish_channel();
    script.deadline().unwrap();
    let begin = script.now;
    script.say(AMQPFrame::Heartbeat);
    script.deadline().unwrap();
    assert!(matches!(script.pass(30 * SECOND), Err(Error::Timeout { .. })));
    assert!(script.now - begin >= 30 * SECOND);
}

#[test]
fn a_lost_publish_channel_comes_back_with_a_doubling_backoff() {
    let mut script = Script::ready(options());
    let lost = |code, text: &str| Event::PublishChannelLost { code, text: text.into() };
    script.say(close_channel(C1, 406, "PRECONDITION_FAILED - why"));
    script.expect(&[close_ok(C1)]);
    script.expect_events(&[lost(406, "PRECONDITION_FAILED - why")]);
    for wait_ms in [100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 30_000, 30_000] {
        let begin = script.now;
        script.say(AMQPFrame::Heartbeat);
        while script.written() != reference(&[open(C1)]) {
            script.deadline().unwrap();
        }
        assert_eq!(script.now - begin, Duration::from_millis(wait_ms));
        script.say(close_channel(C1, 500, "no"));
        script.expect(&[close_ok(C1)]);
    }
    notice(&mut script, "channel 1");
    script.expect_events(&[]);
    // The consumer was untouched all the while.
    script.try_say(&deliver(1, BasicProperties::default(), b"{}")).unwrap();
    assert!(matches!(script.client.poll_event(), Some(Event::Delivery(_))));
}

#[test]
fn a_vanished_exchange_is_made_anew_with_its_bindings() {
    let mut script = Script::ready(options());
    script.say(close_channel(C1, 404, "NOT_FOUND - no exchange"));
    script.expect(&[close_ok(C1), close_channel(C2, 200, "reopening")]);
    script.say(close_ok(C2));
    script.deadline().unwrap();
    script.expect(&[open(C1), open(C2)]);
    script.consumer_up();
    script.say(open_ok(C1));
    script.expect(&[declare_exchange(C1, false)]);
}

#[test]
fn a_cancelled_consumer_is_declared_anew_and_old_tags_are_dead() {
    let mut script = Script::ready(options());
    script.try_say(&deliver(1, BasicProperties::default(), b"a")).unwrap();
    script.try_say(&deliver(2, BasicProperties::default(), b"b")).unwrap();
    let tags: Vec<u64> = std::iter::from_fn(|| script.client.poll_event())
        .map(|event| match event {
            Event::Delivery(delivery) => delivery.delivery_tag,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(tags, [1, 2]);
    let cancel = basic::Cancel { consumer_tag: "rateway".into(), nowait: true };
    script.say(m(C2, AMQPClass::Basic(basic::AMQPMethod::Cancel(cancel))));
    script.expect(&[close_channel(C2, 200, "reopening")]);
    notice(&mut script, "cancelled");
    script.client.ack(1);
    assert!(!script.client.answer(&Answer {
        exchange: b"",
        routing_key: b"k",
        correlation_id: None,
        found: None,
        body: b""
    }));
    script.expect(&[]);
    // Events go on meanwhile.
    script.say(ack(C1, 5, true));
    script.expect_events(&[Event::Confirm { delivery_tag: 5, multiple: true }]);
    // The broker's own close may cross ours.
    script.say(close_channel(C2, 404, "gone"));
    script.expect(&[close_ok(C2)]);
    script.say(close_ok(C2));
    script.deadline().unwrap();
    script.expect(&[open(C2)]);
    script.consumer_up();
    script.try_say(&deliver(1, BasicProperties::default(), b"a")).unwrap();
    let Some(Event::Delivery(delivery)) = script.client.poll_event() else { panic!("no delivery") };
    assert!(delivery.delivery_tag > 2);
    assert!(!script.client.is_current(2) && script.client.is_current(delivery.delivery_tag));
    script.client.ack(2);
    script.expect(&[]);
    script.client.ack(delivery.delivery_tag);
    script.expect(&[ack(C2, 1, false)]);
    let stats = script.client.stats();
    assert_eq!((stats.acks_stale, stats.answers_dropped, stats.consume_reopened), (2, 1, 1));
}

#[test]
fn an_answer_to_nowhere_costs_only_channel_2() {
    let mut script = Script::ready(options());
    let answer = Answer {
        exchange: b"gone",
        routing_key: b"k",
        correlation_id: Some(b"c"),
        found: Some(true),
        body: b"{}",
    };
    assert!(script.client.answer(&answer));
    let mut want = Vec::new();
    crate::amqp::publish::frame_answer(&mut want, C2, 131_072, &answer).unwrap();
    assert_eq!(script.written(), want);
    script.say(close_channel(C2, 404, "NOT_FOUND - no exchange gone"));
    script.expect(&[close_ok(C2)]);
    notice(&mut script, "no exchange gone");
    assert!(script.client.is_publish_ready());
    script.deadline().unwrap();
    script.expect(&[open(C2)]);
    script.consumer_up();
    // Even a refusal of the queue only delays it once events flow.
    script.say(close_channel(C2, 404, "again"));
    script.written();
    script.deadline().unwrap();
    script.expect(&[open(C2)]);
    script.say(open_ok(C2));
    script.say(exchange_ok(C2));
    script.say(close_channel(C2, 405, "RESOURCE_LOCKED"));
    assert!(script.client.is_publish_ready());
}

#[test]
fn an_oversize_or_malformed_message_is_acknowledged_and_reported() {
    let mut script = Script::ready(options());
    script.try_say(&deliver(1, BasicProperties::default(), &[b'x'; 9000])).unwrap();
    script.expect(&[ack(C2, 1, false)]);
    script.expect_events(&[Event::BadDelivery(BadDelivery::Oversize { body_bytes: 9000 })]);
    let mut table = FieldTable::default();
    table.insert("shard_id".into(), AMQPValue::LongInt(3));
    let frames = deliver(2, BasicProperties::default().with_headers(table), b"{}");
    let mut bytes = reference(&frames);
    let at = bytes.windows(8).position(|w| w == b"shard_id").unwrap();
    bytes[at + 8] = b'?';
    script.input.extend(&bytes);
    script.client.receive(script.now, &mut script.input).unwrap();
    script.expect(&[ack(C2, 2, false)]);
    script.expect_events(&[Event::BadDelivery(BadDelivery::Properties)]);
    script.try_say(&frames).unwrap();
    let Some(Event::Delivery(delivery)) = script.client.poll_event() else { panic!("no delivery") };
    assert_eq!(delivery.shard_id, Some(Header::Integer(3)));
    let stats = script.client.stats();
    assert_eq!((stats.deliveries, stats.deliveries_oversize, stats.deliveries_malformed), (1, 1, 1));
}

#[test]
fn a_transient_queue_refused_on_the_channel_is_declared_durable() {
    for (code, text) in [(540, "NOT_IMPLEMENTED - transient queues"), (541, FEATURE), (406, FEATURE)] {
        let mut script = Script::connected(options());
        script.say(open_ok(C2));
        script.say(exchange_ok(C2));
        script.written();
        script.say(close_channel(C2, code, text));
        script.expect(&[close_ok(C2), open(C2)]);
        notice(&mut script, "durable");
        script.say(open_ok(C2));
        script.expect(&[declare_exchange(C2, false)]);
        script.say(exchange_ok(C2));
        script.expect(&[declare_queue(false, true)]);
        script.queue_declared();
    }
}

#[test]
fn a_transient_queue_refused_on_the_connection_is_told_to_the_owner() {
    let refuse = |code, text: &str, blamed, options| {
        let mut script = Script::connected(options);
        script.say(open_ok(C2));
        script.say(exchange_ok(C2));
        script.written();
        let error = script.try_say(&[close_connection(code, text, blamed)]).unwrap_err();
        script.expect(&[connection_close_ok()]);
        error
    };
    let error = refuse(541, FEATURE, (50, 10), options());
    assert_eq!(error, Error::TransientQueueRefused { code: 541, text: FEATURE.replace('\n', " ") });
    assert_eq!(error.consequence().recovery, Recovery::ReconnectDurable);
    for (code, text, blamed, is_refusal) in [
        (540, "no", (0, 0), true),
        (530, "no", (50, 10), true),
        (530, "no", (10, 40), false),
        (320, "shutdown", (0, 0), false),
    ] {
        let error = refuse(code, text, blamed, options());
        assert_eq!(matches!(error, Error::TransientQueueRefused { .. }), is_refusal, "{code} {text}");
    }
    // With queue_durable the same close has another meaning, so there is no endless loop of two settings.
    let mut script = Script::connected(Options { queue_durable: true, ..options() });
    script.say(open_ok(C2));
    script.say(exchange_ok(C2));
    script.expect(&[declare_exchange(C2, false), declare_queue(false, true)]);
    let error = script.try_say(&[close_connection(541, FEATURE, (50, 10))]).unwrap_err();
    assert!(matches!(error, Error::ClosedByBroker { code: 541, .. }));
}

#[test]
fn what_exists_with_other_flags_is_used_as_it_is() {
    let mut script = Script::connected(options());
    script.say(open_ok(C2));
    script.written();
    script.say(close_channel(C2, 406, "PRECONDITION_FAILED - inequivalent arg 'type' for exchange"));
    script.expect(&[close_ok(C2), open(C2)]);
    notice(&mut script, "exchange");
    script.say(open_ok(C2));
    script.expect(&[declare_exchange(C2, true)]);
    script.say(exchange_ok(C2));
    script.expect(&[declare_queue(false, false)]);
    script.say(close_channel(C2, 406, "PRECONDITION_FAILED - inequivalent arg 'durable' for queue"));
    script.expect(&[close_ok(C2), open(C2)]);
    notice(&mut script, "queue");
    script.say(open_ok(C2));
    script.say(exchange_ok(C2));
    script.expect(&[declare_exchange(C2, true), declare_queue(true, false)]);
    script.queue_declared();
    script.say(open_ok(C1));
    script.expect(&[declare_exchange(C1, true)]);
}

#[test]
fn an_exchange_that_routes_otherwise_is_not_used() {
    let close = |kind: &str| {
        let mut script = Script::connected(options());
        script.say(open_ok(C2));
        script.written();
        let text = format!(
            "PRECONDITION_FAILED - inequivalent arg 'type' for exchange 'rateway-1' in vhost '/': received 'direct' \
             but current is '{kind}'"
        );
        script.try_say(&[close_channel(C2, 406, &text)])
    };
    assert!(close("topic").is_ok());
    for kind in ["fanout", "headers", "x-consistent-hash"] {
        let error = close(kind).unwrap_err();
        assert!(matches!(error, Error::TopologyRefused { code: 406, .. }));
        assert_eq!(error.consequence().recovery, Recovery::Operator);
        assert!(error.to_string().contains(kind), "{error}");
    }
}

#[test]
fn no_way_of_declaring_is_tried_twice() {
    // 406, then not found: it vanished, or the 406 meant the request itself. Durable is left to try, then nothing.
    let mut script = Script::connected(options());
    let mut round = |code, text: &str, want: AMQPFrame| {
        script.say(open_ok(C2));
        script.say(exchange_ok(C2));
        let frames = parse_frames(&script.written());
        assert_eq!(frames.last(), Some(&want));
        let result = script.try_say(&[close_channel(C2, code, text)]);
        let frames = parse_frames(&script.written());
        assert_eq!(frames.first(), Some(&close_ok(C2)));
        result
    };
    round(406, "inequivalent", declare_queue(false, false)).unwrap();
    round(404, "no queue", declare_queue(true, false)).unwrap();
    let error = round(406, "inequivalent", declare_queue(false, true)).unwrap_err();
    assert!(matches!(error, Error::TopologyRefused { code: 406, .. }));
    assert!(error.to_string().contains("rateway-incoming-1"));
    assert_eq!(error.consequence().recovery, Recovery::Operator);
}

#[test]
fn a_refusal_for_want_of_rights_is_plain() {
    for code in [403, 405] {
        let mut script = Script::connected(options());
        script.say(open_ok(C2));
        script.say(exchange_ok(C2));
        let error = script.try_say(&[close_channel(C2, code, "ACCESS_REFUSED")]).unwrap_err();
        assert!(matches!(&error, Error::TopologyRefused { what, .. } if what.contains("rateway-incoming-1")));
    }
    let mut script = Script::connected(options());
    script.say(open_ok(C2));
    let error = script.try_say(&[close_channel(C2, 403, "ACCESS_REFUSED")]).unwrap_err();
    assert_eq!(error.to_string(), "the broker refused the exchange rateway-1: 403 ACCESS_REFUSED");
}

#[test]
fn a_returned_message_harms_nothing() {
    let mut script = Script::ready(options());
    let back = basic::Return {
        reply_code: 312,
        reply_text: "NO_ROUTE".into(),
        exchange: "rateway-1".into(),
        routing_key: "X".into(),
    };
    let mut frames = deliver(1, BasicProperties::default(), b"body");
    frames[0] = m(C2, AMQPClass::Basic(basic::AMQPMethod::Return(back)));
    script.try_say(&frames).unwrap();
    script.expect_events(&[]);
    assert_eq!(script.client.stats().returned, 1);
}
