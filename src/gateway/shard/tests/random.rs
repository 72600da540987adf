//! Random input: nothing panics, no limit is broken, no IDENTIFY goes out without a permit, every command is
//! answered once, links are opened and dropped in turn, and an orderly peer brings the shard back to Active.

use super::*;
use crate::base::Rng;
use std::collections::{BTreeSet, VecDeque};

/// What the world knows of the shard.
#[derive(Default)]
struct World {
    linked: bool,
    open: bool,
    wanted: Option<u64>,
    granted: BTreeSet<u64>,
    sent: VecDeque<Instant>,
    presences: VecDeque<Instant>,
    unanswered: BTreeSet<u64>,
    commands: u64,
    fatal: bool,
    stopped: bool,
    seq: u64,
    sessions: u64,
}

impl World {
    fn drain(&mut self, rig: &mut Rig) {
        let mut encoded = Vec::new();
        while let Some(output) = rig.shard.poll_output() {
            assert!(
                !self.fatal
                    || matches!(
                        output,
                        Output::Changed { to: State::Fatal, .. } | Output::CommandDone { .. }
                    )
            );
            match output {
                Output::Open { url } => {
                    assert!(!self.linked, "two links");
                    assert!(url.starts_with("wss://") && url.ends_with("/?v=10&encoding=json"));
                    self.linked = true;
                    self.sent.clear();
                    self.presences.clear();
                }
                Output::Send(command) => {
                    assert!(self.linked && self.open, "{command:?} without a link");
                    encoded.clear();
                    rig.shard.encode(&command, &mut encoded);
                    assert!(serde_json::from_slice::<serde_json::Value>(&encoded).is_ok());
                    if command == Command::Identify {
                        let ticket = self.wanted.take().expect("IDENTIFY that was not asked for");
                        assert!(self.granted.remove(&ticket), "IDENTIFY without a permit");
                    }
                    count(&mut self.sent, rig.now, secs(60), 120);
                    if let Command::Forward(json) = &command
                        && json.starts_with(b"{\"op\":3,")
                    {
                        count(&mut self.presences, rig.now, secs(20), 5);
                    }
                }
                Output::WantPermit { ticket } => {
                    assert!(self.wanted.replace(ticket).is_none(), "two permits asked for");
                }
                Output::CancelPermit { ticket } => assert_eq!(self.wanted.take(), Some(ticket)),
                Output::PermitUsed { .. } | Output::PermitAnswered { .. } | Output::Changed { .. } => {}
                Output::Close { code } => {
                    assert!(self.linked);
                    assert!((4000..5000).contains(&code) || rig.shard.stop == Some(true));
                }
                Output::DropLink => {
                    assert!(self.linked, "a link dropped twice");
                    self.linked = false;
                    self.open = false;
                }
                Output::CommandDone { id, .. } => assert!(self.unanswered.remove(&id), "answered twice"),
                Output::SessionLost(_) => {}
                Output::Fatal(_) => self.fatal = true,
                Output::Stopped => self.stopped = true,
            }
        }
        assert_eq!(self.linked, rig.shard.state().has_link());
        assert_eq!(
            rig.shard.poll_timeout().is_none(),
            rig.shard.state().is_final()
                || rig.shard.read_paused && rig.shard.timers.iter().all(Option::is_none)
        );
    }

    fn payload(&mut self, rig: &mut Rig, json: &str) {
        if let Err(error) = rig.route(json) {
            self.drain(rig);
            rig.shard.handle_input(rig.now, Input::LinkLost { cause: Cause::Payload(error) });
        }
        self.drain(rig);
    }

    fn input(&mut self, rig: &mut Rig, input: Input) {
        rig.shard.handle_input(rig.now, input);
        self.drain(rig);
    }

    fn command(&mut self, rig: &mut Rig, rng: &mut Rng) {
        self.commands += 1;
        let id = self.commands;
        self.unanswered.insert(id);
        let op = [3, 4, 8, 31, 43, 2][rng.below(6) as usize];
        let json = format!(r#"{{"op":{op},"d":{{}}}}"#).into_bytes().into();
        self.input(rig, Input::Command { id, json });
    }

    /// A peer and an owner that do as they should.
    fn orderly(&mut self, rig: &mut Rig) {
        if let Some(ticket) = self.wanted
            && self.granted.insert(ticket)
        {
            return self.input(rig, Input::Permit { ticket });
        }
        match rig.shard.state() {
            State::Connecting => {
                self.open = true;
                self.input(rig, Input::Opened);
            }
            State::AwaitingHello => self.payload(rig, r#"{"op":10,"d":{"heartbeat_interval":41250}}"#),
            State::Identifying => {
                self.sessions += 1;
                self.seq = 1;
                let json = ready(&format!("s{}", self.sessions));
                self.payload(rig, &json);
            }
            State::Resuming => {
                self.seq += 1;
                let json = format!(r#"{{"op":0,"s":{},"t":"RESUMED","d":{{}}}}"#, self.seq);
                self.payload(rig, &json);
            }
            State::Active => {
                self.payload(rig, r#"{"op":11}"#);
                self.seq += 1;
                let json = format!(r#"{{"op":0,"s":{},"t":"X","d":{{}}}}"#, self.seq);
                self.payload(rig, &json);
            }
            State::Closing => self.input(rig, Input::PeerClosed { code: Some(4000) }),
            _ => {}
        }
    }

    fn disorderly(&mut self, rig: &mut Rig, rng: &mut Rng) {
        const PAYLOADS: [&str; 12] = [
            r#"{"op":7}"#,
            r#"{"op":9,"d":true}"#,
            r#"{"op":9,"d":false}"#,
            r#"{"op":9,"d":null}"#,
            r#"{"op":10,"d":{"heartbeat_interval":1000}}"#,
            r#"{"op":10,"d":{"heartbeat_interval":5}}"#,
            r#"{"op":0,"s":18446744073709551615,"t":"X","d":{}}"#,
            r#"{"op":0,"t":null,"d":{}}"#,
            r#"{"op":0,"s":1,"t":"READY","d":{}}"#,
            r#"{"op":0,"s":2,"t":"RESUMED"}"#,
            r#"{"op":77}"#,
            "}",
        ];
        const CODES: [u16; 12] = [1000, 1001, 1006, 4000, 4001, 4002, 4003, 4005, 4007, 4008, 4009, 4015];
        match rng.below(12) {
            0..=3 => self.payload(rig, PAYLOADS[rng.below(PAYLOADS.len() as u64) as usize]),
            4 => {
                let code = rng.chance(4, 5).then(|| CODES[rng.below(CODES.len() as u64) as usize]);
                self.input(rig, Input::PeerClosed { code });
            }
            5 => {
                let causes = [Cause::ConnectFailed, Cause::Ended, Cause::Stream];
                let cause = causes[rng.below(3) as usize];
                self.input(rig, Input::LinkLost { cause });
            }
            6 => {
                let paused = rng.chance(1, 2);
                self.input(rig, Input::ReadPaused(paused));
            }
            7 => {
                let session = rig.shard.session().map_or(0, Session::hash);
                let seq = rng.below(self.seq + 10);
                self.input(rig, Input::Confirmed { session, seq });
            }
            8 => self.input(rig, Input::Permit { ticket: rng.next_u64() }),
            9 if self.linked => {
                self.open |= rig.shard.state() == State::Connecting;
                self.input(rig, Input::Opened);
            }
            10 => {
                for _ in 0..rng.below(150) {
                    self.payload(rig, r#"{"op":1}"#);
                }
            }
            _ => {
                for _ in 0..rng.below(150) {
                    self.command(rig, rng);
                }
            }
        }
    }
}

fn count(window: &mut VecDeque<Instant>, now: Instant, span: Duration, max: usize) {
    window.push_back(now);
    while window.front().is_some_and(|&at| now - at > span) {
        window.pop_front();
    }
    assert!(window.len() <= max, "{} payloads in {span:?}", window.len());
}

fn run(seed: u64) {
    let mut rng = Rng::new(seed ^ 0x5eed);
    let mut rig = Rig::with(options(), seed, None);
    let mut world = World::default();
    for _ in 0..400 {
        match rng.below(10) {
            0..=1 => {
                rig.now += rng.duration(Duration::ZERO, secs(2));
            }
            2..=4 => {
                if let Some(at) = rig.shard.poll_timeout() {
                    rig.now = rig.now.max(at);
                    if rng.chance(1, 20) {
                        rig.now += rng.duration(Duration::ZERO, secs(100));
                    }
                }
            }
            5..=7 => world.orderly(&mut rig),
            _ => world.disorderly(&mut rig, &mut rng),
        }
        rig.shard.handle_deadline(rig.now);
        world.drain(&mut rig);
    }
    // Faults end: the shard comes back to Active, and what waits is sent.
    world.input(&mut rig, Input::ReadPaused(false));
    for _ in 0..2000 {
        if rig.shard.state() == State::Active && rig.shard.commands_waiting() == 0 {
            break;
        }
        world.orderly(&mut rig);
        // Time passes where the shard waits for it, not where it waits for the peer.
        let waits =
            matches!(rig.shard.state(), State::Disconnected { .. } | State::AwaitingPermit | State::Active);
        if let Some(at) = rig.shard.poll_timeout()
            && waits
            && world.wanted.is_none()
        {
            rig.now = rig.now.max(at);
        }
        rig.shard.handle_deadline(rig.now);
        world.drain(&mut rig);
    }
    assert_eq!((rig.shard.state(), rig.shard.commands_waiting()), (State::Active, 0));
    assert!(world.unanswered.is_empty());
    if rng.chance(1, 2) {
        world.input(&mut rig, Input::PeerClosed { code: Some(4004) });
        assert!(world.fatal);
    } else {
        world.input(&mut rig, Input::Stop { end_session: rng.chance(1, 2) });
        world.orderly(&mut rig);
        assert!(world.stopped);
    }
    for _ in 0..20 {
        world.disorderly(&mut rig, &mut rng);
    }
    assert!(world.unanswered.is_empty());
}

#[test]
fn random_input_breaks_no_rule() {
    for seed in seeds(1500) {
        let result = std::panic::catch_unwind(|| run(seed));
        if let Err(panic) = result {
            eprintln!("replay with RATEWAY_SEED={seed}");
            std::panic::resume_unwind(panic);
        }
    }
}
