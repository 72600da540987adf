//! Close codes, errors, timeouts, backoff, stopping.

use super::*;
use crate::gateway::close_code::CloseCode;

/// What became of the shard: state, and whether the session is still there.
fn after(rig: &Rig) -> (State, bool) {
    (rig.shard.state(), rig.has_session())
}

fn close(rig: &mut Rig, code: Option<u16>) -> Vec<Output> {
    rig.input(Input::PeerClosed { code })
}

#[test]
fn every_close_code_of_a_session_that_ran_well() {
    let prompt = State::Disconnected { attempt: 0 };
    let later = State::Disconnected { attempt: 1 };
    for (code, expected) in [
        (None, (prompt, true)),
        (Some(1000), (prompt, true)),
        (Some(1001), (prompt, true)),
        (Some(1005), (prompt, true)),
        (Some(1006), (prompt, true)),
        (Some(1011), (prompt, true)),
        (Some(4000), (prompt, true)),
        (Some(4001), (later, false)),
        (Some(4002), (later, true)),
        (Some(4003), (later, false)),
        (Some(4004), (State::Fatal, false)),
        (Some(4005), (later, false)),
        (Some(4006), (later, false)),
        (Some(4007), (later, false)),
        (Some(4008), (later, true)),
        (Some(4009), (prompt, true)),
        (Some(4010), (State::Fatal, false)),
        (Some(4011), (State::Fatal, false)),
        (Some(4012), (State::Fatal, false)),
        (Some(4013), (State::Fatal, false)),
        (Some(4014), (State::Fatal, false)),
        (Some(4015), (prompt, true)),
    ] {
        let mut rig = Rig::new();
        rig.settled();
        let out = close(&mut rig, code);
        assert_eq!(after(&rig), expected, "{code:?}");
        assert_eq!(out[0], Output::DropLink);
        let is_lost = out.iter().any(|output| matches!(output, Output::SessionLost(_)));
        assert_eq!(is_lost, !expected.1, "{code:?}");
        if expected.0 == State::Fatal {
            let code = CloseCode::from_number(code.unwrap()).unwrap();
            assert!(out.contains(&Output::Fatal(Fatal { code })));
            assert_eq!(rig.shard.poll_timeout(), None);
        }
    }
}

#[test]
fn codes_that_allow_one_resume_only() {
    for code in [1000, 4009] {
        let mut rig = Rig::new();
        rig.settled();
        close(&mut rig, Some(code));
        rig.resuming();
        close(&mut rig, Some(code));
        assert_eq!(after(&rig), (State::Disconnected { attempt: 1 }, false), "{code}");
    }
}

#[test]
fn fatal_codes_count_in_every_state_even_while_closing() {
    let mut rig = Rig::new();
    rig.connect();
    let out = rig.hello();
    rig.permit(&out);
    let out = close(&mut rig, Some(4014));
    let cause = Cause::PeerClosed { code: Some(4014) };
    assert_eq!(
        out,
        [
            Output::DropLink,
            Output::Fatal(Fatal { code: CloseCode::DisallowedIntents }),
            ended(State::Identifying, State::Fatal, cause)
        ]
    );
    assert!(Fatal { code: CloseCode::DisallowedIntents }.to_string().contains("developer portal"));

    let mut rig = Rig::new();
    rig.settled();
    rig.payload(r#"{"op":7}"#);
    close(&mut rig, Some(4004));
    assert_eq!(rig.shard.state(), State::Fatal);
    // Nothing moves it any more.
    for input in [
        Input::Opened,
        Input::PeerClosed { code: None },
        Input::LinkLost { cause: Cause::Ended },
        Input::ReadPaused(true),
        Input::ReadPaused(false),
        Input::Stop { end_session: true },
    ] {
        assert_eq!(rig.input(input), []);
    }
}

#[test]
fn broken_payloads_close_resume_and_back_off_when_they_repeat() {
    let mut rig = Rig::new();
    rig.settled();
    let mut delays = Vec::new();
    for round in 0..link::RESUMES_STUCK_MAX + 1 {
        assert_eq!(rig.route("{"), Err(Error::Envelope));
        let out = rig.input(Input::LinkLost { cause: Cause::Payload(Error::Envelope) });
        assert_eq!(out[..2], [Output::Close { code: 4000 }, Output::DropLink]);
        if round == link::RESUMES_STUCK_MAX {
            // The replay holds something unreadable: it is asked for no more.
            assert!(matches!(out[2], Output::SessionLost(l) if l.reason == LossReason::ResumeFailed));
            break;
        }
        delays.push(rig.shard.poll_timeout().unwrap() - rig.now);
        rig.resuming();
    }
    assert!(!rig.has_session());
    assert!(
        delays.windows(2).all(|pair| pair[0] <= pair[1] || pair[1] >= link::BACKOFF_MAX / 2),
        "{delays:?}"
    );
    assert!(delays[0] < secs(1) && delays[7] >= secs(60));
}

#[test]
fn resumes_that_get_somewhere_are_not_given_up() {
    let mut rig = Rig::new();
    rig.settled();
    for seq in 2..40 {
        rig.input(Input::LinkLost { cause: Cause::Ended });
        rig.resuming();
        rig.event(seq);
    }
    assert!(rig.has_session());
}

#[test]
fn bad_control_payloads_are_errors() {
    let mut rig = Rig::new();
    rig.settled();
    for d in ["null", "0", "\"true\"", "{}"] {
        assert_eq!(rig.route(&format!(r#"{{"op":9,"d":{d}}}"#)), Err(Error::InvalidSession));
    }
    assert_eq!(rig.route(r#"{"op":9}"#), Err(Error::InvalidSession));
    assert_eq!(rig.shard.stats().payloads_broken, 5);
    rig.input(Input::LinkLost { cause: Cause::Payload(Error::InvalidSession) });
    assert_eq!(after(&rig), (State::Disconnected { attempt: 1 }, true));

    let mut rig = Rig::new();
    rig.connect();
    let out = rig.hello();
    rig.permit(&out);
    assert_eq!(rig.route(r#"{"op":0,"s":1,"t":"READY","d":{"session_id":"x"}}"#), Err(Error::Ready));
    rig.input(Input::LinkLost { cause: Cause::Payload(Error::Ready) });
    assert_eq!(after(&rig), (State::Disconnected { attempt: 1 }, false));

    // Where a session lives, nobody asked for a READY: a broken one is no reason to give the session up.
    let mut rig = Rig::new();
    rig.settled();
    assert_eq!(rig.route(r#"{"op":0,"s":2,"t":"READY","d":{"session_id":null}}"#), Err(Error::ReadyAgain));
    rig.input(Input::LinkLost { cause: Cause::Payload(Error::ReadyAgain) });
    assert_eq!(after(&rig), (State::Disconnected { attempt: 1 }, true));
}

#[test]
fn timeouts_of_each_step() {
    let disconnected = State::Disconnected { attempt: 1 };
    let mut rig = Rig::new();
    rig.next();
    assert_eq!(
        rig.next(),
        (secs(20), vec![Output::DropLink, ended(State::Connecting, disconnected, Cause::ConnectTimeout)])
    );
    let mut rig = Rig::new();
    rig.connect();
    assert_eq!(
        rig.next(),
        (
            secs(20),
            vec![
                Output::Close { code: 4000 },
                Output::DropLink,
                ended(State::AwaitingHello, disconnected, Cause::HelloTimeout)
            ]
        )
    );
    let mut rig = Rig::new();
    rig.connect();
    let out = rig.hello();
    rig.permit(&out);
    let start = rig.now;
    rig.live(secs(299));
    assert_eq!(rig.shard.state(), State::Identifying);
    rig.live(secs(1));
    assert_eq!(rig.shard.state(), State::Disconnected { attempt: 1 });
    assert_eq!(rig.now - start, secs(300));

    // Each replayed event gives RESUMED more time.
    let mut rig = Rig::new();
    rig.settled();
    rig.input(Input::LinkLost { cause: Cause::Ended });
    rig.resuming();
    for seq in 2..5 {
        rig.live(secs(59));
        rig.event(seq);
    }
    assert_eq!(rig.shard.state(), State::Resuming);
    rig.live(secs(60));
    assert_eq!(rig.shard.stats().links_lost[Cause::ReadyTimeout.index()], 1);
    assert!(rig.has_session());
}

#[test]
fn a_lost_link_gives_the_permit_back() {
    let mut rig = Rig::new();
    rig.connect();
    let wanted = ticket(&rig.hello());
    let out = rig.input(Input::LinkLost { cause: Cause::Io(std::io::ErrorKind::ConnectionReset) });
    assert_eq!(out[..2], [Output::CancelPermit { ticket: wanted }, Output::DropLink]);
    rig.connect();
    let out = rig.hello();
    // The old permit was on its way when it was given back.
    assert_eq!(rig.input(Input::Permit { ticket: wanted }), []);
    assert_ne!(ticket(&out), wanted);
    rig.permit(&out);
    assert_eq!(rig.shard.state(), State::Identifying);
}

#[test]
fn backoff_doubles_to_a_cap_with_jitter() {
    let delays = |seed| {
        let mut rig = Rig::with(options(), seed, None);
        (0..12)
            .map(|_| {
                rig.next();
                rig.input(Input::LinkLost { cause: Cause::ConnectFailed });
                rig.shard.poll_timeout().unwrap() - rig.now
            })
            .collect::<Vec<_>>()
    };
    for seed in 0..50 {
        for (i, delay) in delays(seed).into_iter().enumerate() {
            let full = secs(1 << i.min(7)).min(secs(120));
            assert!((full / 2..full).contains(&delay), "seed {seed}, try {i}: {delay:?}");
        }
    }
    assert_eq!(delays(3), delays(3));
    assert_ne!(delays(3), delays(4));
}

#[test]
fn a_flapping_shard_keeps_backing_off() {
    let mut rig = Rig::new();
    rig.settled();
    let start = rig.now;
    let mut links = 0;
    while rig.now < start + secs(3600) {
        rig.input(Input::LinkLost { cause: Cause::Ended });
        let seq = rig.resuming();
        rig.resumed(seq + 1);
        links += 1;
    }
    assert!(links < 60, "{links} links in an hour");
    // Once it ran well for a while, the next loss is the first again.
    rig.live(secs(60));
    rig.input(Input::LinkLost { cause: Cause::Ended });
    assert_eq!(rig.shard.state(), State::Disconnected { attempt: 0 });
}

#[test]
fn sessions_that_die_at_once_cannot_eat_the_session_starts() {
    let mut rig = Rig::new();
    let start = rig.now;
    while rig.now < start + secs(24 * 3600) {
        rig.active();
        rig.input(Input::PeerClosed { code: Some(4003) });
    }
    assert!(rig.shard.stats().identifies < 250, "{}", rig.shard.stats().identifies);
}

#[test]
fn stop_keeps_the_session_or_ends_it() {
    for (end_session, code) in [(false, 4000), (true, 1000)] {
        let mut rig = Rig::new();
        rig.settled();
        assert_eq!(
            rig.input(Input::Stop { end_session }),
            [Output::Close { code }, ended(State::Active, State::Closing, Cause::Stop)]
        );
        // The last events are not lost.
        assert!(!rig.event(2).seen);
        assert_eq!(
            rig.input(Input::PeerClosed { code: Some(code) }),
            [Output::DropLink, ended(State::Closing, State::Stopped, Cause::Stop), Output::Stopped]
        );
        assert_eq!(rig.has_session(), !end_session);
        assert_eq!(rig.shard.poll_timeout(), None);
        assert_eq!(rig.input(Input::Stop { end_session }), []);
    }
}

#[test]
fn stop_in_every_other_state() {
    let stop = Input::Stop { end_session: false };
    let mut rig = Rig::new();
    rig.next();
    assert_eq!(
        rig.input(stop.clone()),
        [Output::DropLink, ended(State::Connecting, State::Stopped, Cause::Stop), Output::Stopped]
    );
    let mut rig = Rig::new();
    rig.connect();
    let wanted = ticket(&rig.hello());
    assert_eq!(
        rig.input(stop.clone()),
        [
            Output::CancelPermit { ticket: wanted },
            Output::Close { code: 4000 },
            ended(State::AwaitingPermit, State::Closing, Cause::Stop)
        ]
    );
    // A peer that does not answer is not waited for.
    assert_eq!(
        rig.next(),
        (
            secs(5),
            vec![Output::DropLink, ended(State::Closing, State::Stopped, Cause::Stop), Output::Stopped]
        )
    );
    // A reconnect that is under way becomes a stop; a second stop does not wait.
    let mut rig = Rig::new();
    rig.settled();
    rig.payload(r#"{"op":7}"#);
    assert_eq!(rig.input(stop.clone()), []);
    assert_eq!(
        rig.input(stop),
        [Output::DropLink, ended(State::Closing, State::Stopped, Cause::Stop), Output::Stopped]
    );
    assert!(rig.has_session());
}

#[test]
fn what_is_told_of_a_link_that_is_gone_changes_nothing() {
    let mut rig = Rig::new();
    rig.settled();
    rig.input(Input::LinkLost { cause: Cause::Ended });
    for input in
        [Input::Opened, Input::PeerClosed { code: Some(4004) }, Input::LinkLost { cause: Cause::Stream }]
    {
        assert_eq!(rig.input(input), []);
    }
    assert_eq!(rig.route(r#"{"op":9,"d":false}"#), Ok(Route::Ignored));
    assert_eq!(after(&rig), (State::Disconnected { attempt: 0 }, true));
}
