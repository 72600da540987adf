//! A broker that breaks the rules: each breach has its reply code, and no bytes make the client panic.

use super::*;
use crate::base::Rng;

#[track_caller]
fn breach(bytes: &[u8], code: u16) {
    let mut script = Script::ready(options());
    script.input.extend(bytes);
    let error = script.client.receive(script.now, &mut script.input).expect_err("the breach was not seen");
    script.expect(&[close_connection(code, &error.to_string(), (0, 0))]);
    assert_eq!(script.client.receive(script.now, &mut script.input), Err(Error::Over));
}

#[test]
fn each_breach_is_answered_with_its_reply_code() {
    // Frames: an unknown type, a wrong end, a size over frame_max.
    breach(&[9, 0, 0, 0, 0, 0, 0, 0xCE], 501);
    breach(&[8, 0, 0, 0, 0, 0, 0, 0], 501);
    breach(&[3, 0, 1, 0, 2, 0, 0], 501);
    // Arguments: cut short, too long, not UTF-8; a delivery tag of zero.
    breach(&[1, 0, 1, 0, 0, 0, 5, 0, 60, 0, 80, 1, 0xCE], 502);
    breach(&[1, 0, 1, 0, 0, 0, 1, 0, 0xCE], 502);
    breach(&[1, 0, 1, 0, 0, 0, 6, 0, 20, 0, 40, 0, 0, 0xCE], 502);
    breach(&reference(&deliver(0, BasicProperties::default(), b"")), 502);
    // Methods: unknown, only for servers, out of turn, on the wrong channel.
    breach(&[1, 0, 1, 0, 0, 0, 4, 0, 77, 0, 1, 0xCE], 503);
    breach(&reference(&[declare_queue(false, false)]), 503);
    breach(&reference(&[select_ok()]), 503);
    breach(&reference(&[ack(C2, 1, false)]), 503);
    breach(&reference(&[start("PLAIN")]), 503);
    breach(&reference(&[m(0, AMQPClass::Channel(channel::AMQPMethod::OpenOk(channel::OpenOk {})))]), 503);
    // Channels: never opened.
    breach(&reference(&[ack(3, 1, false)]), 504);
    breach(&reference(&[AMQPFrame::Body(65_535, vec![])]), 504);
    // Content: without a method, twice, amid a message, on channel 0; a heartbeat on a channel.
    let message = deliver(1, BasicProperties::default(), b"body");
    breach(&reference(&message[1..]), 505);
    breach(&reference(&message[2..]), 505);
    breach(&reference(&[message[0].clone(), message[0].clone()]), 505);
    breach(&reference(&[message[0].clone(), message[2].clone()]), 505);
    breach(&reference(&[message[0].clone(), message[1].clone(), message[1].clone()]), 505);
    breach(&reference(&[message[0].clone(), message[1].clone(), AMQPFrame::Body(C2, vec![0; 5])]), 505);
    breach(&reference(&[AMQPFrame::Body(0, vec![])]), 505);
    breach(&reference(&[AMQPFrame::InvalidHeartbeat(1)]), 505);
}

#[test]
fn frames_on_a_channel_that_the_broker_closed_are_a_breach() {
    let mut script = Script::ready(options());
    script.say(close_channel(C1, 404, "gone"));
    script.written();
    assert_eq!(script.try_say(&[ack(C1, 1, false)]), Err(Error::UnknownChannel { channel: 1 }));
}

#[test]
fn nested_tables_do_not_end_the_stack() {
    let mut nested = Vec::new();
    for inner in (0..20_000u32).rev() {
        nested.push(b'A');
        nested.extend_from_slice(&(inner * 5).to_be_bytes());
    }
    let mut payload = vec![0, 10, 0, 10, 0, 9];
    let table_len = nested.len() as u32 + 2;
    payload.extend_from_slice(&table_len.to_be_bytes());
    payload.extend_from_slice(b"\x01x");
    payload.extend_from_slice(&nested);
    payload.extend_from_slice(b"\0\0\0\x05PLAIN\0\0\0\0");
    let mut script = Script::new(options());
    script.input.extend(&[1, 0, 0]);
    script.input.extend(&(payload.len() as u32).to_be_bytes());
    script.input.extend(&payload);
    script.input.extend(&[0xCE]);
    script.client.receive(script.now, &mut script.input).unwrap();
    assert!(!script.written().is_empty());
}

/// All that a polite broker says from the start to two deliveries, a cancel, a nack and a close.
fn polite() -> Vec<u8> {
    let mut table = FieldTable::default();
    table.insert("shard_id".into(), AMQPValue::LongInt(3));
    let mut frames = vec![
        start("PLAIN"),
        tune(2047, 131_072, 60),
        m(0, AMQPClass::Connection(connection::AMQPMethod::OpenOk(connection::OpenOk {}))),
        open_ok(C2),
        exchange_ok(C2),
        queue_ok(),
        bind_ok(),
        bind_ok(),
        m(C2, AMQPClass::Basic(basic::AMQPMethod::QosOk(basic::QosOk {}))),
        m(
            C2,
            AMQPClass::Basic(basic::AMQPMethod::ConsumeOk(basic::ConsumeOk {
                consumer_tag: "rateway".into(),
            })),
        ),
        open_ok(C1),
        exchange_ok(C1),
        select_ok(),
        ack(C1, 1, false),
        AMQPFrame::Heartbeat,
    ];
    frames.extend(deliver(
        1,
        BasicProperties::default().with_headers(table).with_reply_to("r".into()),
        b"{\"op\":3}",
    ));
    frames.extend([
        nack(2),
        m(0, AMQPClass::Connection(connection::AMQPMethod::Unblocked(connection::Unblocked {}))),
    ]);
    frames.extend(deliver(2, BasicProperties::default(), &[b'x'; 5000]));
    frames.push(close_channel(C1, 404, "gone"));
    frames.push(close_connection(320, "bye", (0, 0)));
    reference(&frames)
}

#[test]
fn the_outcome_does_not_depend_on_how_the_bytes_are_cut() {
    let bytes = polite();
    let run = |cuts: &mut dyn FnMut() -> usize| {
        let mut script = Script::new(options());
        let (mut at, mut events, mut out) = (0, Vec::new(), Vec::new());
        let mut last = Ok(());
        while at < bytes.len() && last.is_ok() {
            let end = (at + cuts().max(1)).min(bytes.len());
            script.input.extend(&bytes[at..end]);
            at = end;
            last = script.client.receive(script.now, &mut script.input);
            events.extend(std::iter::from_fn(|| script.client.poll_event()));
            script.client.transmit(&mut out);
        }
        assert!(script.input.capacity() < 64 * 1024, "the window grew to {}", script.input.capacity());
        (events, out, last)
    };
    let whole = run(&mut || usize::MAX / 2);
    assert!(matches!(whole.2, Err(Error::ClosedByBroker { code: 320, .. })));
    assert!(whole.0.iter().any(|event| matches!(event, Event::PublishChannelLost { code: 404, .. })));
    assert_eq!(run(&mut || 1), whole);
    let mut rng = Rng::new(seed());
    for _ in 0..50 {
        assert_eq!(run(&mut || rng.below(40) as usize), whole);
    }
    // Cut once at each offset.
    for first in 1..bytes.len().min(1500) {
        let mut sizes = [first, usize::MAX / 2].into_iter();
        assert_eq!(run(&mut || sizes.next().unwrap_or(usize::MAX / 2)), whole);
    }
}

#[test]
fn mutated_streams_never_panic() {
    let bytes = polite();
    let mut rng = Rng::new(seed());
    for round in 0..6000 {
        let mut bad = bytes.clone();
        for _ in 0..=rng.below(4) {
            let at = rng.below(bad.len() as u64) as usize;
            match rng.below(5) {
                0 => bad[at] = rng.next_u64() as u8,
                1 => bad[at] ^= 1 << rng.below(8),
                2 => drop(bad.remove(at)),
                3 => bad.insert(at, rng.next_u64() as u8),
                _ => {
                    let from = rng.below(bad.len() as u64) as usize;
                    let piece: Vec<u8> = bad[from..].iter().copied().take(rng.below(60) as usize).collect();
                    let _ = bad.splice(at..at, piece);
                }
            }
        }
        let mut script = Script::new(options());
        let mut out = Vec::new();
        for piece in bad.chunks(1 + rng.below(3000) as usize) {
            script.input.extend(piece);
            let received = script.client.receive(script.now, &mut script.input);
            while let Some(event) = script.client.poll_event() {
                match event {
                    Event::Delivery(delivery) if rng.chance(1, 2) => script.client.ack(delivery.delivery_tag),
                    Event::Nack { .. } if rng.chance(1, 2) => script.client.reopen_publish_channel(),
                    _ => {}
                }
            }
            script.client.transmit(&mut out);
            if received.is_err() {
                break;
            }
            if rng.chance(1, 4) && script.client.poll_timeout().is_some() && script.deadline().is_err() {
                break;
            }
        }
        // Whatever the broker said, what we said are whole frames.
        assert_eq!(&out[..8], b"AMQP\x00\x00\x09\x01", "round {round}");
        parse_frames(&out[8..]);
        assert!(script.input.capacity() < 1 << 20);
    }
}

#[test]
fn a_partial_frame_never_makes_the_window_exceed_frame_max() {
    let mut script = Script::new(Options { frame_max: 8192, ..options() });
    let mut largest = vec![1, 0, 0];
    largest.extend_from_slice(&8184u32.to_be_bytes());
    script.input.extend(&largest);
    script.client.receive(script.now, &mut script.input).unwrap();
    assert!(script.input.capacity() >= 8192 && script.input.capacity() <= 2 * 8192);
    let mut script = Script::new(Options { frame_max: 8192, ..options() });
    script.input.extend(&[1, 0, 0, 0, 0, 0x1f, 0xf9]);
    assert!(matches!(script.client.receive(script.now, &mut script.input), Err(Error::FrameTooLarge { .. })));
}

#[test]
fn the_fuzz_bodies_hold_on_mutated_input() {
    let mut rng = Rng::new(seed());
    let polite = polite();
    let mut publishes = Vec::new();
    for seq in 0..3 {
        let event = crate::amqp::EventPublish {
            exchange: b"rateway-1",
            routing_key: b"MESSAGE_CREATE",
            message_id: b"0-aa-1",
            timestamp_s: 1,
            shard_id: 0,
            seq,
            repeat: seq == 1,
            persistent: true,
            body: &[b'x'; 5000],
        };
        crate::amqp::frame_event(&mut publishes, 1, 4096, &event).unwrap();
    }
    for _ in 0..1000 {
        for source in [&polite, &publishes] {
            let mut bad = source.clone();
            for _ in 0..rng.below(4) {
                let at = rng.below(bad.len() as u64) as usize;
                bad[at] = rng.next_u64() as u8;
            }
            crate::amqp::fuzz::client(Instant::now(), &bad, 1 + rng.below(5000) as usize);
            crate::amqp::fuzz::repeat(&bad, rng.below(20_000) as u32);
        }
    }
}
