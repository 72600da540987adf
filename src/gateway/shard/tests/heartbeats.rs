//! HELLO, heartbeats, the zombie rule, paused reading.

use super::*;

const HEARTBEAT_ACK: &str = r#"{"t":null,"s":null,"op":11,"d":null}"#;

#[test]
fn the_first_heartbeat_is_jittered_and_the_rest_are_regular() {
    let first = |seed| {
        let mut rig = Rig::with(options(), seed, None);
        rig.connect();
        rig.hello();
        let (first, out) = rig.next();
        assert_eq!(out, [heartbeat(None)]);
        for _ in 0..3 {
            rig.payload(HEARTBEAT_ACK);
            assert_eq!(rig.next(), (INTERVAL, vec![heartbeat(None)]));
        }
        first
    };
    let firsts: Vec<_> = (0..200).map(first).collect();
    assert!(firsts.iter().all(|&at| at < INTERVAL));
    assert!(firsts.iter().any(|&at| at < INTERVAL / 10) && firsts.iter().any(|&at| at > INTERVAL / 10 * 9));
    assert_eq!(first(5), firsts[5]);
}

#[test]
fn hello_intervals() {
    for (d, interval) in [
        (r#"{"heartbeat_interval":41250.0}"#, INTERVAL),
        (r#"{"heartbeat_interval":1000}"#, secs(1)),
        (r#"{"heartbeat_interval":86400000}"#, secs(600)),
        (r#"{"heartbeat_interval":1e300}"#, secs(600)),
    ] {
        let mut rig = Rig::new();
        rig.connect();
        rig.payload(&format!(r#"{{"op":10,"d":{d}}}"#));
        rig.next();
        rig.payload(HEARTBEAT_ACK);
        assert_eq!(rig.next().0, interval, "{d}");
    }
    for (d, error) in [
        ("null", Error::Hello),
        ("{}", Error::Hello),
        ("[41250]", Error::Hello),
        (r#"{"heartbeat_interval":"41250"}"#, Error::Hello),
        (r#"{"heartbeat_interval":null}"#, Error::Hello),
        (r#"{"heartbeat_interval":0}"#, Error::Hello),
        (r#"{"heartbeat_interval":-41250}"#, Error::Hello),
        (r#"{"heartbeat_interval":41250.5}"#, Error::Hello),
        (r#"{"heartbeat_interval":1,"heartbeat_interval":41250}"#, Error::Hello),
        (r#"{"heartbeat_interval":999}"#, Error::HelloInterval { interval_ms: 999 }),
    ] {
        let mut rig = Rig::new();
        rig.connect();
        assert_eq!(rig.route(&format!(r#"{{"op":10,"d":{d}}}"#)), Err(error), "{d}");
        assert_eq!(
            rig.input(Input::LinkLost { cause: Cause::Payload(error) }),
            [
                Output::Close { code: 4000 },
                Output::DropLink,
                ended(State::AwaitingHello, State::Disconnected { attempt: 1 }, Cause::Payload(error))
            ]
        );
    }
}

#[test]
fn a_silent_link_is_dropped_and_resumed() {
    let mut rig = Rig::new();
    rig.settled();
    rig.event(2);
    let (_, out) = rig.next();
    assert_eq!(out, [heartbeat(Some(2))]);
    let (waited, out) = rig.next();
    assert_eq!(waited, INTERVAL);
    assert_eq!(
        out,
        [
            Output::Close { code: 4000 },
            Output::DropLink,
            ended(State::Active, State::Disconnected { attempt: 0 }, Cause::Zombie)
        ]
    );
    assert_eq!(rig.resuming(), 1);
}

#[test]
fn any_payload_is_life() {
    let mut rig = Rig::new();
    rig.active();
    for seq in 2..6 {
        rig.next();
        rig.event(seq);
    }
    assert_eq!(rig.shard.state(), State::Active);
    assert_eq!(rig.shard.stats().heartbeats, 4);
}

#[test]
fn zombies_are_found_in_every_open_state() {
    let mut rig = Rig::new();
    rig.connect();
    rig.hello();
    rig.next();
    let (_, out) = rig.next();
    assert_eq!(
        out,
        [
            Output::CancelPermit { ticket: 2 << 32 | 1 },
            Output::Close { code: 4000 },
            Output::DropLink,
            ended(State::AwaitingPermit, State::Disconnected { attempt: 1 }, Cause::Zombie)
        ]
    );
}

#[test]
fn a_requested_heartbeat_is_sent_at_once_and_moves_nothing() {
    let mut rig = Rig::new();
    rig.connect();
    assert_eq!(rig.payload(r#"{"op":1,"d":null}"#), [heartbeat(None)]);
    let out = rig.hello();
    rig.permit(&out);
    rig.ready("abc");
    rig.next();
    rig.now += secs(10);
    assert_eq!(rig.payload(r#"{"op":1,"d":7}"#), [heartbeat(Some(1))]);
    let (waited, out) = rig.next();
    assert_eq!((waited, out), (INTERVAL - secs(10), vec![heartbeat(Some(1))]));
}

#[test]
fn a_flood_of_requests_is_coalesced_and_stops_no_schedule() {
    let mut rig = Rig::new();
    rig.active();
    let mut sent = 0;
    for _ in 0..1000 {
        sent += rig.payload(r#"{"op":1}"#).len();
    }
    // Room is kept for the heartbeats of this interval, and for five payloads more.
    assert_eq!(sent, 113);
    let start = rig.now;
    let mut heartbeats = 0;
    while rig.now < start + secs(62) {
        heartbeats += rig.next().1.len();
        rig.payload(HEARTBEAT_ACK);
    }
    // One or two by schedule, and one for all the requests that waited.
    assert!((1..=3).contains(&heartbeats), "{heartbeats}");
}

#[test]
fn latency_is_that_of_the_oldest_unanswered_heartbeat() {
    let mut rig = Rig::new();
    rig.active();
    assert_eq!(rig.shard.latency(), None);
    rig.next();
    rig.now += Duration::from_millis(120);
    rig.payload(HEARTBEAT_ACK);
    assert_eq!(rig.shard.latency(), Some(Duration::from_millis(120)));
    rig.now += secs(1);
    rig.payload(HEARTBEAT_ACK);
    assert_eq!(rig.shard.latency(), Some(Duration::from_millis(120)));
}

#[test]
fn while_reading_is_paused_nobody_is_a_zombie() {
    let mut rig = Rig::new();
    rig.active();
    rig.next();
    rig.input(Input::ReadPaused(true));
    for _ in 0..5 {
        assert_eq!(rig.next(), (INTERVAL, vec![heartbeat(Some(1))]));
    }
    rig.pass(INTERVAL - secs(1));
    assert_eq!(rig.input(Input::ReadPaused(false)), []);
    // The tick right after is excused, the next one is not.
    assert_eq!(rig.next(), (secs(1), vec![heartbeat(Some(1))]));
    let (waited, out) = rig.next();
    assert_eq!(waited, INTERVAL);
    assert_eq!(out[0], Output::Close { code: 4000 });
}

#[test]
fn while_reading_is_paused_no_step_times_out_and_no_link_is_opened() {
    let mut rig = Rig::new();
    rig.settled();
    rig.input(Input::LinkLost { cause: Cause::Ended });
    rig.input(Input::ReadPaused(true));
    assert_eq!(rig.next().1, []);
    assert_eq!(rig.shard.poll_timeout(), None);
    rig.now += secs(1000);
    let out = rig.input(Input::ReadPaused(false));
    assert!(matches!(out[0], Output::Open { .. }), "{out:?}");
    rig.input(Input::Opened);
    rig.input(Input::ReadPaused(true));
    assert_eq!(rig.pass(secs(21)), []);
    assert_eq!(rig.pass(secs(21)), []);
    rig.now += secs(15);
    rig.input(Input::ReadPaused(false));
    assert_eq!(rig.next().0, secs(20));
    assert_eq!(rig.shard.state(), State::Disconnected { attempt: 1 });
}

#[test]
fn a_machine_that_slept_judges_nobody_at_once() {
    let mut rig = Rig::new();
    rig.active();
    rig.next();
    // The answer lies unread in the socket.
    assert_eq!(rig.pass(INTERVAL + secs(10)), [heartbeat(Some(1))]);
    rig.payload(HEARTBEAT_ACK);
    assert_eq!(rig.next(), (INTERVAL, vec![heartbeat(Some(1))]));
    // One that is always late still finds out.
    rig.pass(INTERVAL + secs(10));
    rig.pass(INTERVAL + secs(10));
    rig.pass(INTERVAL + secs(10));
    assert_eq!(rig.shard.stats().links_lost[Cause::Zombie.index()], 1);
}

#[test]
fn time_that_runs_backwards_does_no_harm() {
    let mut rig = Rig::new();
    rig.settled();
    rig.now -= secs(30);
    rig.event(2);
    rig.pass(Duration::ZERO);
    assert_eq!(rig.shard.state(), State::Active);
}
