//! From nothing to Active, RESUME, INVALID SESSION, RECONNECT.

use super::*;

const WANTED: u64 = 2 << 32 | 1;
const DISCONNECTED: State = State::Disconnected { attempt: 0 };

#[test]
fn the_road_to_active() {
    let mut rig = Rig::new();
    let (waited, out) = rig.next();
    assert_eq!(waited, Duration::ZERO);
    assert_eq!(
        out,
        [
            Output::Open { url: "wss://gateway.discord.gg/?v=10&encoding=json".to_owned() },
            changed(DISCONNECTED, State::Connecting)
        ]
    );
    assert_eq!(rig.input(Input::Opened), [changed(State::Connecting, State::AwaitingHello)]);
    assert_eq!(
        rig.hello(),
        [changed(State::AwaitingHello, State::AwaitingPermit), Output::WantPermit { ticket: WANTED }]
    );
    // Heartbeats run while the shard waits for its turn.
    let (waited, out) = rig.next();
    assert!(waited < INTERVAL);
    assert_eq!(out, [heartbeat(None)]);
    // Somebody else's permit, and one of an earlier request.
    assert_eq!(rig.input(Input::Permit { ticket: 7 }), []);
    assert_eq!(
        rig.input(Input::Permit { ticket: WANTED }),
        [
            Output::Send(Command::Identify),
            Output::PermitUsed { ticket: WANTED },
            changed(State::AwaitingPermit, State::Identifying)
        ]
    );
    assert_eq!(rig.input(Input::Permit { ticket: WANTED }), []);
    let hash = crate::gateway::session::session_hash("abc");
    assert_eq!(
        rig.route(&ready("abc")),
        Ok(Route::Dispatch(Dispatch {
            seq: Some(1),
            session_hash: hash,
            kind: DispatchKind::Ready,
            seen: false,
            repeat: false
        }))
    );
    assert_eq!(
        rig.out(),
        [Output::PermitAnswered { ticket: WANTED }, changed(State::Identifying, State::Active)]
    );
    assert_eq!(
        rig.event(2),
        Dispatch { seq: Some(2), session_hash: hash, kind: DispatchKind::Other, seen: false, repeat: false }
    );
    assert_eq!(rig.shard.session().unwrap().resume_url(), Some(RESUME));
    assert_eq!((rig.shard.stats().identifies, rig.shard.stats().readies), (1, 1));
}

#[test]
fn the_first_link_waits_for_its_time() {
    let mut rig = Rig::new();
    let start = rig.now + secs(7);
    rig.shard = Shard::new(Arc::new(options()), 0, 1, start, None);
    assert_eq!(rig.shard.poll_timeout(), Some(start));
    assert_eq!(rig.next().0, secs(7));
}

#[test]
fn resume_asks_from_what_the_broker_confirmed() {
    let mut rig = Rig::new();
    rig.settled();
    for seq in 2..=5 {
        rig.event(seq);
    }
    let session = rig.shard.session().unwrap().hash();
    rig.input(Input::Confirmed { session: session ^ 1, seq: 5 });
    rig.input(Input::Confirmed { session, seq: 3 });
    assert_eq!(
        rig.input(Input::PeerClosed { code: Some(1001) }),
        [Output::DropLink, ended(State::Active, DISCONNECTED, Cause::PeerClosed { code: Some(1001) })]
    );
    assert_eq!(rig.connect(), format!("{RESUME}/?v=10&encoding=json"));
    assert_eq!(
        rig.hello(),
        [changed(State::AwaitingHello, State::Resuming), Output::Send(Command::Resume { seq: 3 })]
    );
    // Heartbeats of a resumed session carry what was received.
    assert_eq!(rig.payload(r#"{"op":1,"d":null}"#), [heartbeat(Some(5))]);
    assert!(rig.event(4).seen);
    assert!(rig.event(5).seen);
    assert!(!rig.event(6).seen);
    assert_eq!(rig.resumed(7), [changed(State::Resuming, State::Active)]);
    assert_eq!(rig.shard.session().unwrap().received(), 7);
    let stats = rig.shard.stats();
    assert_eq!(
        (stats.resumes, stats.resumes_succeeded, stats.dispatches_seen, stats.seq_jumps),
        (1, 1, 2, 0)
    );
}

#[test]
fn without_a_confirm_resume_asks_from_ready() {
    let mut rig = Rig::new();
    rig.settled();
    rig.event(2);
    rig.input(Input::LinkLost { cause: Cause::Ended });
    assert_eq!(rig.resuming(), 1);
}

#[test]
fn a_session_of_an_earlier_process_is_resumed() {
    let session = Session::restore(Secret::new("abc"), Some(RESUME.to_owned()), 4, 99);
    let mut rig = Rig::with(options(), 1, Some(session));
    assert_eq!(rig.resuming(), 99);
    assert!(!rig.event(100).seen);
}

/// Found by kill -9 in a loop: Discord's replay may hold the RESUMED of an earlier process, and what follows it was
/// published by that process too.
#[test]
fn what_an_earlier_process_may_have_published_is_marked_until_a_heartbeat_is_answered() {
    let session = Session::inherit(Secret::new("abc"), Some(RESUME.to_owned()), 4, 99);
    let mut rig = Rig::with(options(), 1, Some(session));
    assert_eq!(rig.resuming(), 99);
    assert!(rig.event(100).repeat);
    rig.resumed(101);
    assert!(rig.event(102).repeat, "the RESUMED was perhaps one that was replayed");
    // An answer to a heartbeat that was sent before says nothing.
    rig.payload(r#"{"op":11}"#);
    assert!(rig.event(103).repeat);
    rig.live(secs(60));
    assert!(!rig.event(104).repeat);
}

#[test]
fn a_session_of_another_shard_count_is_not_resumed() {
    let session = Session::restore(Secret::new("abc"), Some(RESUME.to_owned()), 3, 99);
    let mut rig = Rig::with(options(), 1, Some(session));
    let out = rig.out();
    assert!(
        matches!(&out[..], [Output::SessionLost(l)] if l.reason == LossReason::OtherShardCount && l.received == 99)
    );
    assert_eq!(rig.connect(), "wss://gateway.discord.gg/?v=10&encoding=json");
}

#[test]
fn a_resume_url_that_fails_is_dropped_and_the_session_kept() {
    for lose in [
        |rig: &mut Rig| rig.input(Input::LinkLost { cause: Cause::ConnectFailed }),
        |rig: &mut Rig| rig.pass(secs(20)),
        |rig: &mut Rig| {
            rig.input(Input::Opened);
            rig.pass(secs(20))
        },
    ] {
        let mut rig = Rig::new();
        rig.settled();
        rig.input(Input::LinkLost { cause: Cause::Ended });
        rig.next();
        assert_eq!(rig.shard.state(), State::Connecting);
        lose(&mut rig);
        assert_eq!(rig.shard.state(), State::Disconnected { attempt: 1 });
        assert_eq!(rig.connect(), "wss://gateway.discord.gg/?v=10&encoding=json");
        rig.hello();
        assert_eq!(rig.shard.state(), State::Resuming);
    }
}

#[test]
fn a_plain_resume_url_is_followed_only_where_the_api_is_plain() {
    for (allow_plain, expected) in [(false, "wss://gateway.discord.gg/?"), (true, "ws://10.0.0.1/?")] {
        let mut rig = Rig::with(Options { allow_plain, ..options() }, 1, None);
        rig.connect();
        let out = rig.hello();
        rig.permit(&out);
        rig.payload(
            r#"{"op":0,"s":1,"t":"READY","d":{"session_id":"abc","resume_gateway_url":"ws://10.0.0.1"}}"#,
        );
        rig.input(Input::LinkLost { cause: Cause::Ended });
        assert!(rig.connect().starts_with(expected));
    }
}

#[test]
fn reconnect_closes_and_resumes_at_once() {
    let mut rig = Rig::new();
    rig.settled();
    assert_eq!(
        rig.payload(r#"{"op":7,"d":null}"#),
        [Output::Close { code: 4000 }, ended(State::Active, State::Closing, Cause::Reconnect)]
    );
    // What still arrives is valid, and answers nothing.
    assert!(!rig.event(2).seen);
    assert_eq!(rig.payload(r#"{"op":1,"d":null}"#), []);
    assert_eq!(rig.payload(r#"{"op":7,"d":null}"#), []);
    assert_eq!(
        rig.input(Input::PeerClosed { code: Some(4000) }),
        [Output::DropLink, ended(State::Closing, DISCONNECTED, Cause::Reconnect)]
    );
    let (waited, _) = rig.next();
    assert!(waited < Duration::from_millis(250));
    assert_eq!(rig.shard.stats().links_lost[Cause::Reconnect.index()], 1);
}

#[test]
fn an_operator_may_ask_for_a_new_link() {
    let mut rig = Rig::new();
    rig.settled();
    assert!(rig.input(Input::Renew).contains(&Output::Close { code: 4000 }));
    // Once is enough.
    assert_eq!(rig.input(Input::Renew), []);
    assert_eq!(
        rig.input(Input::PeerClosed { code: Some(4000) }),
        [Output::DropLink, ended(State::Closing, DISCONNECTED, Cause::Asked)]
    );
    // No link is opened any sooner by asking again, and the session is kept.
    assert_eq!(rig.input(Input::Renew), []);
    assert!(rig.shard.session().is_some());
}

#[test]
fn reconnect_does_not_wait_long_for_the_peer() {
    let mut rig = Rig::new();
    rig.settled();
    rig.payload(r#"{"op":7}"#);
    let (waited, out) = rig.next();
    assert_eq!(waited, secs(5));
    assert_eq!(out, [Output::DropLink, ended(State::Closing, DISCONNECTED, Cause::Reconnect)]);
}

#[test]
fn reconnect_in_any_state() {
    // Instead of HELLO: the resume URL is not at fault.
    let mut rig = Rig::new();
    rig.settled();
    rig.input(Input::LinkLost { cause: Cause::Ended });
    rig.connect();
    assert_eq!(
        rig.payload(r#"{"op":7,"d":null}"#),
        [Output::Close { code: 4000 }, ended(State::AwaitingHello, State::Closing, Cause::Reconnect)]
    );
    rig.input(Input::PeerClosed { code: None });
    assert_eq!(rig.connect(), format!("{RESUME}/?v=10&encoding=json"));
    rig.hello();
    rig.payload(r#"{"op":7}"#);
    assert_eq!(rig.shard.state(), State::Closing);

    // While waiting for a permit, which is given back.
    let mut rig = Rig::new();
    rig.connect();
    rig.hello();
    assert_eq!(
        rig.payload(r#"{"op":7}"#),
        [
            Output::CancelPermit { ticket: WANTED },
            Output::Close { code: 4000 },
            ended(State::AwaitingPermit, State::Closing, Cause::Reconnect)
        ]
    );
    assert_eq!(rig.input(Input::Permit { ticket: WANTED }), []);

    // While identifying: a READY that was on its way can still be resumed.
    let mut rig = Rig::new();
    rig.connect();
    let out = rig.hello();
    rig.permit(&out);
    rig.payload(r#"{"op":7}"#);
    assert_eq!(rig.ready("abc"), [Output::PermitAnswered { ticket: WANTED }]);
    rig.input(Input::PeerClosed { code: Some(4000) });
    assert_eq!(rig.resuming(), 1);
}

#[test]
fn an_invalid_session_identifies_again_on_the_same_link() {
    let mut rig = Rig::new();
    rig.settled();
    rig.event(2);
    let since = rig.now;
    assert_eq!(
        rig.payload(r#"{"op":9,"d":false}"#),
        [lost(&rig, 2, since, LossReason::Invalidated), changed(State::Active, State::AwaitingPermit)]
    );
    // No session, no seq in heartbeats; and what arrives belongs to nothing.
    assert_eq!(rig.payload(r#"{"op":1}"#), [heartbeat(None)]);
    assert_eq!(rig.route(r#"{"op":0,"s":3,"t":"X","d":{}}"#), Ok(Route::Ignored));
    let (waited, out) = wait_for(&mut rig, |output| matches!(output, Output::WantPermit { .. }));
    assert!((secs(1)..secs(5)).contains(&waited), "{waited:?}");
    rig.permit(&out);
    assert_eq!(rig.shard.state(), State::Identifying);
    rig.ready("def");
    assert_eq!(rig.shard.session().unwrap().received(), 1);
    assert_eq!(rig.shard.stats().connects, 1);
}

#[test]
fn a_refused_resume_identifies_again_on_the_same_link() {
    let mut rig = Rig::new();
    rig.settled();
    rig.input(Input::LinkLost { cause: Cause::Ended });
    rig.resuming();
    rig.payload(r#"{"op":9,"d":false}"#);
    assert_eq!((rig.shard.state(), rig.has_session()), (State::AwaitingPermit, false));
    assert_eq!(rig.shard.stats().resumes_failed, 1);
}

#[test]
fn a_resumable_invalid_session_resumes_again_on_the_same_link() {
    let mut rig = Rig::new();
    rig.settled();
    rig.event(2);
    rig.input(Input::LinkLost { cause: Cause::Ended });
    rig.resuming();
    assert_eq!(rig.payload(r#"{"op":9,"d":true}"#), []);
    let (waited, _) = wait_for(&mut rig, |output| *output == Output::Send(Command::Resume { seq: 1 }));
    assert!((secs(1)..secs(5)).contains(&waited), "{waited:?}");
    assert_eq!(rig.resumed(3), [changed(State::Resuming, State::Active)]);
    assert_eq!(rig.shard.stats().connects, 2);
}

#[test]
fn refused_identifies_come_slower_and_slower() {
    let mut rig = Rig::new();
    rig.connect();
    let mut out = rig.hello();
    let mut waits = Vec::new();
    for _ in 0..14 {
        rig.permit(&out);
        rig.payload(r#"{"op":9,"d":false}"#);
        let waited;
        (waited, out) = wait_for(&mut rig, |output| matches!(output, Output::WantPermit { .. }));
        waits.push(waited);
    }
    assert!(waits[0] < secs(6));
    assert!(waits[5] > secs(16), "{waits:?}");
    assert!(waits[12..].iter().all(|&wait| wait >= link::IDENTIFY_BACKOFF_MAX / 2), "{waits:?}");
    assert!(waits.iter().all(|&wait| wait < link::IDENTIFY_BACKOFF_MAX + secs(5)));
}

#[test]
fn ready_for_another_session_replaces_the_old_one() {
    let mut rig = Rig::new();
    rig.settled();
    rig.event(2);
    let since = rig.now;
    rig.input(Input::LinkLost { cause: Cause::Ended });
    rig.resuming();
    let out = rig.ready("def");
    let hello_at = rig.now;
    let expected = Output::SessionLost(SessionLost {
        since: hello_at,
        ..match lost(&rig, 2, since, LossReason::Replaced) {
            Output::SessionLost(lost) => lost,
            _ => unreachable!(),
        }
    });
    assert_eq!(out, [expected, changed(State::Resuming, State::Active)]);
    assert_eq!(rig.shard.session().unwrap().received(), 1);
}

#[test]
fn a_replay_from_the_beginning_keeps_the_session() {
    let mut rig = Rig::new();
    rig.settled();
    rig.event(2);
    rig.input(Input::LinkLost { cause: Cause::Ended });
    rig.resuming();
    let route = rig.route(&ready("abc"));
    assert!(matches!(route, Ok(Route::Dispatch(Dispatch { kind: DispatchKind::Ready, seen: true, .. }))));
    assert_eq!(rig.shard.session().unwrap().received(), 2);
}

#[test]
fn what_is_unknown_is_ignored_and_counted() {
    let mut rig = Rig::new();
    assert_eq!(rig.route(r#"{"op":10,"d":{"heartbeat_interval":41250}}"#), Ok(Route::Ignored));
    rig.active();
    let before = rig.shard.stats().payloads_ignored;
    for json in [
        r#"{"op":99,"d":null}"#,
        r#"{"op":2,"d":null}"#,
        r#"{"op":10,"d":{"heartbeat_interval":1}}"#,
        r#"{"op":0,"s":2,"t":null,"d":{}}"#,
        r#"{"op":18446744073709551615}"#,
    ] {
        assert_eq!(rig.route(json), Ok(Route::Ignored), "{json}");
    }
    assert_eq!(rig.shard.stats().payloads_ignored - before, 5);
    // The number of an event without a name counts all the same.
    assert_eq!(rig.shard.session().unwrap().received(), 2);
    // An unknown event is published, with or without a number.
    assert!(
        matches!(rig.route(r#"{"op":0,"t":"NEVER_SEEN","d":[]}"#), Ok(Route::Dispatch(d)) if d.seq.is_none())
    );
    // A name in escapes is still the same name.
    rig.input(Input::LinkLost { cause: Cause::Ended });
    rig.resuming();
    rig.payload(r#"{"op":0,"s":3,"t":"RESUM\u0045D","d":null}"#);
    assert_eq!(rig.shard.state(), State::Active);
}

/// Answers heartbeats until an output comes up; answers how long that took.
pub(super) fn wait_for(rig: &mut Rig, wanted: impl Fn(&Output) -> bool) -> (Duration, Vec<Output>) {
    let start = rig.now;
    loop {
        let (_, out) = rig.next();
        if out.iter().any(&wanted) {
            return (rig.now - start, out);
        }
        if out.iter().any(|output| matches!(output, Output::Send(Command::Heartbeat { .. }))) {
            rig.payload(r#"{"op":11}"#);
        }
    }
}

#[test]
fn a_link_that_is_being_closed_still_brings_events() {
    let mut rig = Rig::new();
    rig.active();
    rig.input(Input::Stop { end_session: false });
    assert_eq!(rig.shard.state(), State::Closing);
    assert!(rig.shard.state().brings_events(), "without room for events it is not to be read");
    assert_eq!(rig.event(2).seq, Some(2));
}
