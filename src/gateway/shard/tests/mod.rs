//! The shard against the protocol's rules, row by row, and against random input.

mod commands;
mod heartbeats;
mod random;
mod recovery;
mod sessions;

use super::*;
use crate::base::Secret;
use crate::gateway::envelope::scan;
use crate::gateway::error::Error;

pub(super) const GATEWAY: &str = "wss://gateway.discord.gg/";
pub(super) const RESUME: &str = "wss://resume.discord.gg";
pub(super) const INTERVAL: Duration = Duration::from_millis(41_250);

pub(super) fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

pub(super) fn options() -> Options {
    Options::new(Secret::new("token"), 513, 4, GATEWAY)
}

/// A shard and a clock of its own.
pub(super) struct Rig {
    pub(super) shard: Shard,
    pub(super) now: Instant,
}

impl Rig {
    pub(super) fn new() -> Rig {
        Rig::with(options(), 1, None)
    }

    #[allow(clippy::disallowed_methods)] // A starting point for arithmetic; nothing depends on its value.
    pub(super) fn with(options: Options, seed: u64, session: Option<Session>) -> Rig {
        let now = Instant::now();
        Rig { shard: Shard::new(Arc::new(options), 2, seed, now, session), now }
    }

    pub(super) fn out(&mut self) -> Vec<Output> {
        std::iter::from_fn(|| self.shard.poll_output()).collect()
    }

    pub(super) fn input(&mut self, input: Input) -> Vec<Output> {
        self.shard.handle_input(self.now, input);
        self.out()
    }

    pub(super) fn route(&mut self, json: &str) -> Result<Route, Error> {
        let envelope = scan(json.as_bytes()).map_err(Error::from)?;
        let before = self.shard.state();
        let route = self.shard.handle_payload(self.now, &envelope, json.as_bytes());
        // Who holds back what may have to be published goes by this.
        assert!(!matches!(route, Ok(Route::Dispatch(_))) || before.brings_events(), "{before}");
        route
    }

    pub(super) fn payload(&mut self, json: &str) -> Vec<Output> {
        self.route(json).unwrap();
        self.out()
    }

    pub(super) fn event(&mut self, seq: u64) -> Dispatch {
        match self.route(&format!(r#"{{"t":"MESSAGE_CREATE","s":{seq},"op":0,"d":{{}}}}"#)) {
            Ok(Route::Dispatch(dispatch)) => dispatch,
            other => panic!("{other:?}"),
        }
    }

    /// Runs until the next deadline and through it; answers how long that took and what came of it.
    pub(super) fn next(&mut self) -> (Duration, Vec<Output>) {
        let at = self.shard.poll_timeout().expect("a deadline");
        let waited = at.saturating_duration_since(self.now);
        self.now = self.now.max(at);
        self.shard.handle_deadline(self.now);
        (waited, self.out())
    }

    pub(super) fn pass(&mut self, duration: Duration) -> Vec<Output> {
        self.now += duration;
        self.shard.handle_deadline(self.now);
        self.out()
    }

    /// Lets time pass with every deadline in order and each heartbeat answered.
    pub(super) fn live(&mut self, duration: Duration) {
        let end = self.now + duration;
        while let Some(at) = self.shard.poll_timeout().filter(|&at| at <= end) {
            self.now = self.now.max(at);
            self.shard.handle_deadline(self.now);
            for output in self.out() {
                if let Output::Send(Command::Heartbeat { .. }) = output {
                    self.payload(r#"{"op":11}"#);
                }
            }
        }
        self.now = end;
    }

    /// From Disconnected to an open link without HELLO.
    pub(super) fn connect(&mut self) -> String {
        let (_, out) = self.next();
        let Some(Output::Open { url }) = out.first().cloned() else { panic!("{out:?}") };
        assert_eq!(self.input(Input::Opened), [changed(State::Connecting, State::AwaitingHello)]);
        url
    }

    pub(super) fn hello(&mut self) -> Vec<Output> {
        self.payload(r#"{"t":null,"s":null,"op":10,"d":{"heartbeat_interval":41250,"_trace":["x"]}}"#)
    }

    /// From HELLO or the wait for a permit to IDENTIFY.
    pub(super) fn permit(&mut self, out: &[Output]) -> Vec<Output> {
        let ticket = ticket(out);
        self.input(Input::Permit { ticket })
    }

    pub(super) fn ready(&mut self, session_id: &str) -> Vec<Output> {
        self.payload(&ready(session_id))
    }

    /// From nothing to Active, with a session `abc` whose READY had seq 1.
    pub(super) fn active(&mut self) {
        self.connect();
        let out = self.hello();
        self.permit(&out);
        self.ready("abc");
        assert_eq!(self.shard.state(), State::Active);
    }

    /// As [`Rig::active`], for so long that earlier failures are forgotten.
    pub(super) fn settled(&mut self) {
        self.active();
        self.live(link::SETTLED_AFTER);
    }

    /// From Disconnected with a session to RESUME.
    pub(super) fn resuming(&mut self) -> u64 {
        self.connect();
        let out = self.hello();
        assert_eq!(self.shard.state(), State::Resuming);
        out.iter()
            .find_map(|output| match output {
                Output::Send(Command::Resume { seq }) => Some(*seq),
                _ => None,
            })
            .expect("RESUME")
    }

    pub(super) fn resumed(&mut self, seq: u64) -> Vec<Output> {
        self.payload(&format!(r#"{{"t":"RESUMED","s":{seq},"op":0,"d":{{}}}}"#))
    }

    pub(super) fn has_session(&self) -> bool {
        self.shard.session().is_some()
    }
}

pub(super) fn ready(session_id: &str) -> String {
    format!(
        r#"{{"t":"READY","s":1,"op":0,"d":{{"v":10,"session_id":"{session_id}","resume_gateway_url":"{RESUME}","guilds":[]}}}}"#
    )
}

pub(super) fn ticket(out: &[Output]) -> u64 {
    out.iter()
        .find_map(|output| match output {
            Output::WantPermit { ticket } => Some(*ticket),
            _ => None,
        })
        .unwrap_or_else(|| panic!("no permit asked for: {out:?}"))
}

pub(super) fn changed(from: State, to: State) -> Output {
    Output::Changed { from, to, cause: None }
}

pub(super) fn ended(from: State, to: State, cause: Cause) -> Output {
    Output::Changed { from, to, cause: Some(cause) }
}

pub(super) fn heartbeat(seq: Option<u64>) -> Output {
    Output::Send(Command::Heartbeat { seq })
}

pub(super) fn lost(rig: &Rig, received: u64, since: Instant, reason: LossReason) -> Output {
    let _ = rig;
    Output::SessionLost(SessionLost {
        session_hash: crate::gateway::session::session_hash("abc"),
        received,
        confirmed: None,
        since,
        reason,
    })
}

/// Seeds to run: the one in RATEWAY_SEED, or `count` from 0 on.
pub(super) fn seeds(count: u64) -> std::ops::Range<u64> {
    match std::env::var("RATEWAY_SEED").ok().and_then(|seed| seed.parse::<u64>().ok()) {
        Some(seed) => seed..seed + 1,
        None => 0..count,
    }
}
