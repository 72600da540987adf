//! Workers' commands: waiting, limits, answers.

use super::*;
use crate::gateway::ratelimit::{PRESENCE_WINDOW, WINDOW};

fn json(op: u64) -> Box<[u8]> {
    format!(r#"{{"op":{op},"d":{{}}}}"#).into_bytes().into()
}

fn command(id: u64, op: u64) -> Input {
    Input::Command { id, json: json(op) }
}

fn sent(id: u64, op: u64) -> [Output; 2] {
    [Output::Send(Command::Forward(json(op))), Output::CommandDone { id, result: Ok(()) }]
}

fn refused(id: u64, refusal: Refusal) -> Output {
    Output::CommandDone { id, result: Err(refusal) }
}

fn done(out: &[Output]) -> usize {
    out.iter().filter(|output| matches!(output, Output::CommandDone { result: Ok(()), .. })).count()
}

#[test]
fn commands_wait_for_active_and_outlive_links() {
    let mut rig = Rig::new();
    assert_eq!(rig.input(command(1, 8)), []);
    rig.connect();
    let out = rig.hello();
    assert_eq!(rig.input(command(2, 4)), []);
    rig.permit(&out);
    let out = rig.ready("abc");
    assert_eq!(out[2..], [sent(1, 8), sent(2, 4)].concat());
    assert_eq!(rig.input(command(3, 31)), sent(3, 31));
    rig.input(Input::LinkLost { cause: Cause::Ended });
    assert_eq!(rig.input(command(4, 43)), []);
    rig.resuming();
    rig.payload(r#"{"op":9,"d":false}"#);
    let (_, out) = sessions::wait_for(&mut rig, |output| matches!(output, Output::WantPermit { .. }));
    rig.permit(&out);
    assert_eq!(rig.ready("def")[2..], sent(4, 43));
    assert_eq!(rig.shard.commands_waiting(), 0);
}

#[test]
fn the_newest_is_refused_when_the_list_is_full() {
    let mut rig = Rig::with(Options { commands_waiting_max: 2, ..options() }, 1, None);
    assert_eq!(rig.input(command(1, 8)), []);
    assert_eq!(rig.input(command(2, 3)), []);
    assert_eq!(rig.input(command(3, 8)), [refused(3, Refusal::Full)]);
    let mut rig = Rig::with(Options { command_bytes_waiting_max: 30, ..options() }, 1, None);
    assert_eq!(rig.input(command(1, 8)), []);
    assert_eq!(rig.input(command(2, 8)), []);
    assert_eq!(rig.input(command(3, 8)), [refused(3, Refusal::Full)]);
    assert_eq!(rig.shard.stats().commands_refused, 1);
}

#[test]
fn what_must_not_be_sent_is_refused_in_any_state() {
    let mut rig = Rig::new();
    let refusal = refused(1, Refusal::ForbiddenOpcode { op: 2 });
    assert_eq!(rig.input(command(1, 2)), std::slice::from_ref(&refusal));
    rig.active();
    assert_eq!(rig.input(command(1, 2)), [refusal]);
}

#[test]
fn a_burst_leaves_room_for_heartbeats() {
    let mut rig = Rig::new();
    rig.active();
    let first = rig.now;
    let mut count = 0;
    for id in 0..200 {
        count += done(&rig.input(command(id, 8)));
    }
    assert_eq!(count, 110);
    let mut heartbeats = 0;
    while count < 200 {
        let (_, out) = rig.next();
        heartbeats += out.iter().filter(|output| **output == heartbeat(Some(1))).count();
        count += done(&out);
        rig.payload(r#"{"op":11}"#);
    }
    assert!(heartbeats >= 1);
    assert_eq!(rig.now, first + WINDOW);
}

#[test]
fn presences_wait_apart() {
    let mut rig = Rig::new();
    rig.active();
    let mut count = 0;
    for id in 0..8 {
        count += done(&rig.input(command(id, 3)));
    }
    assert_eq!(count, 5);
    assert_eq!(rig.input(command(9, 8)), sent(9, 8));
    let (waited, out) = sessions::wait_for(&mut rig, |output| matches!(output, Output::CommandDone { .. }));
    assert_eq!((waited, done(&out)), (PRESENCE_WINDOW, 3));
}

#[test]
fn limits_start_over_with_a_new_link() {
    let mut rig = Rig::new();
    rig.settled();
    for id in 0..130 {
        rig.input(command(id, 8));
    }
    let waiting = rig.shard.commands_waiting();
    assert!(waiting >= 20, "{waiting}");
    rig.input(Input::LinkLost { cause: Cause::Ended });
    rig.resuming();
    assert_eq!(done(&rig.resumed(2)), waiting);
}

#[test]
fn waiting_commands_are_answered_at_the_end() {
    let mut rig = Rig::new();
    rig.input(command(1, 8));
    rig.input(command(2, 3));
    assert_eq!(
        rig.input(Input::Stop { end_session: false }),
        [
            refused(1, Refusal::Stopped),
            refused(2, Refusal::Stopped),
            ended(State::Disconnected { attempt: 0 }, State::Stopped, Cause::Stop),
            Output::Stopped
        ]
    );
    assert_eq!(rig.input(command(3, 8)), [refused(3, Refusal::Stopped)]);
    assert_eq!(rig.shard.poll_timeout(), None);
}

#[test]
fn one_close_over_an_unknown_opcode_is_enough() {
    let mut rig = Rig::new();
    rig.active();
    assert_eq!(rig.input(command(1, 99)), sent(1, 99));
    rig.input(Input::PeerClosed { code: Some(4001) });
    assert_eq!(rig.input(command(2, 99)), [refused(2, Refusal::UnknownOpcode { op: 99 })]);
    assert_eq!(rig.input(command(3, 8)), [], "a known one waits for the next session");
}
