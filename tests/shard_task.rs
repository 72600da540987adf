//! A shard's task with its real transport, in memory: bursts, stale news of old connections, a full outbox, gaps.

#[path = "../benches/support/trace.rs"]
mod trace;

use std::time::Instant;

use rateway::base::Buf;
use rateway::gateway::shard::{Cause, Input, Output, State};
use rateway::reactor::Task;
use rateway::relay::task::Scratch;
use rateway::relay::{Outbox, ShardTask, TaskInput};
use rateway::stream::{Compression, Endpoint};
use trace::Trace;

struct Rig {
    task: ShardTask,
    scratch: Scratch,
    trace: Trace,
    start: Instant,
    ms: u64,
}

impl Rig {
    /// A shard that is about to be told READY.
    fn new() -> Rig {
        let trace = Trace::record(200, Compression::None);
        assert!(trace.json_bytes > trace.count);
        let start = trace::start_of_time();
        let mut scratch = Scratch::default();
        let mut task = trace::connect(&trace, 0, 0, 0, trace::turn(start, 0), &mut scratch);
        task.batch_bytes_max = usize::MAX;
        Rig { task, scratch, trace, start, ms: 1 }
    }

    fn run(&mut self) {
        self.task.run(trace::turn(self.start, self.ms), &mut self.scratch);
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.task.window.extend(bytes);
        self.run();
    }

    /// A text frame.
    fn text(&mut self, json: &str) {
        let mut frame = vec![0x81, 126];
        frame.extend((json.len() as u16).to_be_bytes());
        frame.extend(json.as_bytes());
        self.bytes(&frame);
    }

    fn tell(&mut self, input: Input) {
        self.task.inputs.push(TaskInput::Shard(input));
        self.run();
    }

    fn active(&mut self) {
        let events = std::mem::take(&mut self.trace.events);
        self.bytes(&events);
        assert_eq!(self.task.shard.state(), State::Active);
        assert_eq!(self.task.batch.records.len() as u64, self.trace.count);
        self.task.effects.clear();
        self.task.outgoing.clear();
    }
}

#[test]
fn a_burst_of_commands_leaves_whole_and_keeps_the_link() {
    let mut rig = Rig::new();
    rig.active();
    let padding = "x".repeat(2000);
    for id in 0..60 {
        let json = format!(r#"{{"op":8,"d":{{"guild_id":"1","query":"{padding}","limit":0}}}}"#);
        rig.task.inputs.push(TaskInput::Shard(Input::Command { id, json: json.into_bytes().into() }));
    }
    rig.run();
    let done =
        rig.task.effects.iter().filter(|effect| matches!(effect, Output::CommandDone { result: Ok(()), .. }));
    assert_eq!(done.count(), 60);
    assert!(rig.task.outgoing.len() > 60 * 2000, "{} bytes", rig.task.outgoing.len());
    assert_eq!(rig.task.shard.state(), State::Active);
}

#[test]
fn news_of_a_connection_that_was_given_up_is_ignored() {
    let mut rig = Rig::new();
    rig.active();
    rig.tell(Input::LinkLost { cause: Cause::Ended });
    assert!(matches!(rig.task.shard.state(), State::Disconnected { .. }));
    rig.task.outgoing.clear();
    let endpoint = Endpoint::parse("ws://localhost:1/").expect("a URL");
    rig.task.inputs.push(TaskInput::Connected(endpoint));
    rig.run();
    assert!(rig.task.outgoing.is_empty(), "an upgrade request for nobody");
    assert!(!rig.task.wants_bytes());
}

#[test]
fn with_a_full_outbox_nothing_is_taken_but_hellos_and_heartbeats_go_out() {
    let mut rig = Rig::new();
    rig.task.may_publish = false;
    rig.tell(Input::ReadPaused(true));
    let events = rig.trace.events.clone();
    rig.bytes(&events);
    assert!(rig.task.batch.records.is_empty());
    assert_eq!(rig.task.window.len(), events.len(), "what was read waits");
    rig.task.outgoing.clear();
    rig.ms += 45_000;
    rig.run();
    assert!(!rig.task.outgoing.is_empty(), "a heartbeat is due");
    // Stopping is no reason to take them either.
    rig.tell(Input::Stop { end_session: false });
    assert_eq!(rig.task.window.len(), events.len());
    assert!(rig.task.batch.records.is_empty());
}

#[test]
fn a_run_ends_with_its_budget_and_goes_on_where_it_was() {
    let mut rig = Rig::new();
    rig.task.batch_bytes_max = 20_000;
    let events = std::mem::take(&mut rig.trace.events);
    rig.task.window.extend(&events);
    let mut outbox = Outbox::new(64 << 20);
    let mut runs = 0;
    loop {
        rig.run();
        trace::settle(&mut rig.task, &mut outbox);
        runs += 1;
        if !rig.task.more {
            break;
        }
    }
    assert!(runs > 3, "{runs} runs");
    assert_eq!(outbox.stats.confirmed, rig.trace.count);
}

#[test]
fn garbage_costs_the_connection_and_what_came_before_is_kept() {
    let mut rig = Rig::new();
    rig.active();
    let records = rig.task.batch.records.len();
    rig.text(r#"{"t":"MESSAGE_CREATE","s":201,"op":0,"d":{"#);
    assert!(matches!(rig.task.shard.state(), State::Disconnected { .. }));
    assert!(rig.task.effects.contains(&Output::DropLink));
    assert_eq!(rig.task.batch.records.len(), records);
    assert!(rig.task.last_error.is_some());
    assert!(rig.task.window.is_empty() && !rig.task.wants_bytes());
}

#[test]
fn a_lost_session_is_announced_behind_the_next_ready() {
    let mut rig = Rig::new();
    rig.active();
    rig.task.batch.clear();
    rig.ms += 1000;
    rig.text(r#"{"t":null,"s":null,"op":9,"d":false}"#);
    assert!(rig.task.effects.iter().any(|effect| matches!(effect, Output::SessionLost(_))));
    rig.ms += 10_000;
    rig.run();
    let ticket = rig.task.effects.iter().find_map(|effect| match effect {
        Output::WantPermit { ticket } => Some(*ticket),
        _ => None,
    });
    rig.tell(Input::Permit { ticket: ticket.expect("it wants to identify") });
    rig.ms += 500;
    rig.text(
        r#"{"t":"READY","s":1,"op":0,"d":{"session_id":"new","resume_gateway_url":"ws://localhost:1","v":10}}"#,
    );
    let text = String::from_utf8_lossy(&rig.task.batch.bytes).into_owned();
    let (ready, gap) = (text.find("READY").expect("READY"), text.find("RATEWAY_GAP").expect("the gap"));
    assert!(ready < gap);
    let body = &text[text.find("{\"from_ms\"").expect("a body")..];
    let body = &body[..=body.find('}').expect("its end")];
    let body: serde_json::Value = serde_json::from_str(body).expect("JSON");
    assert_eq!((&body["shard_id"], &body["last_seq"]), (&0.into(), &200.into()));
    let (from, until) = (body["from_ms"].as_u64().expect("ms"), body["until_ms"].as_u64().expect("ms"));
    assert_eq!(until - from, 11_500, "from the last event of the old session to the READY of the new");
    assert!(!text.contains("\"new\""), "the session id is blanked");
    assert_eq!(rig.task.batch.records.len(), 2);
    assert_eq!(rig.task.batch.records[1].seq, 0);
}

#[test]
fn a_window_of_the_old_connection_does_not_reach_the_next() {
    let mut rig = Rig::new();
    rig.active();
    rig.tell(Input::LinkLost { cause: Cause::Ended });
    rig.task.window = Buf::with_capacity(64);
    rig.task.window.extend(b"left over");
    rig.ms += 5000;
    rig.run();
    assert_eq!(rig.task.shard.state(), State::Connecting);
    let endpoint = Endpoint::parse("ws://localhost:1/").expect("a URL");
    rig.task.inputs.push(TaskInput::Connected(endpoint));
    rig.run();
    assert!(rig.task.window.is_empty());
    assert_eq!(rig.task.shard.state(), State::Connecting, "it waits for the upgrade");
}
