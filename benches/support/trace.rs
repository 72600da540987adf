//! A shard's connection in memory: bytes as Discord's servers would send them, recorded from the stand-in, and a
//! production task that is fed with them. Used by benches and by tests that count allocations.
#![allow(dead_code)] // Each of those that include this uses a part of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rateway::base::{Buf, Secret};
use rateway::gateway::shard::{self, Input, Output, Shard, State};
use rateway::reactor::{Task, Turn};
use rateway::relay::task::{Scratch, TaskOptions};
use rateway::relay::{Framing, Outbox, ShardTask, TaskInput};
use rateway::sim;
use rateway::stream::deflate::Encoder;
use rateway::stream::{Compression, Endpoint, Limits, Options, tls};

/// How many bytes a socket gives at a time: the window of production.
pub const WINDOW_BYTES: usize = 64 * 1024;

/// WebSocket frames of one connection, from HELLO on, out of one compression context.
pub struct Trace {
    /// HELLO.
    pub hello: Vec<u8>,
    /// READY, guilds and events.
    pub events: Vec<u8>,
    /// How many dispatches those are.
    pub count: u64,
    /// Their bytes before compression.
    pub json_bytes: u64,
    compression: Compression,
}

#[allow(clippy::disallowed_methods)] // A starting point for virtual time.
pub fn start_of_time() -> Instant {
    Instant::now()
}

impl Trace {
    /// Records `count` dispatches of one shard, with the stand-in's mix of events.
    pub fn record(count: u64, compression: Compression) -> Trace {
        let mut now = start_of_time();
        let options = sim::Options { guilds: 8, members: 50, rate: 1000.0, ..sim::Options::default() };
        let mut discord = sim::Discord::new(options, now);
        let mut encoder = Encoder::new(compression, 6).expect("memory for a compressor");
        let mut trace = Trace { hello: vec![], events: vec![], count, json_bytes: 0, compression };
        discord.accept(now, 1, "v=10&encoding=json");
        let identify = r#"{"op":2,"d":{"token":"t","intents":53608447,"shard":[0,1],
            "properties":{"os":"linux","browser":"b","device":"d"}}}"#;
        discord.handle_text(now, 1, identify.as_bytes());
        let mut beat_at = now;
        let mut dispatches = 0;
        loop {
            while let Some(output) = discord.poll_output() {
                let sim::Output::Text { payload, .. } = output else { panic!("only text comes") };
                let part = if trace.hello.is_empty() { &mut trace.hello } else { &mut trace.events };
                push_frame(part, &mut encoder, &payload);
                // HELLO and the answers to heartbeats have no event name; they stand first, as Discord writes it.
                if !payload.starts_with(br#"{"t":null"#) {
                    trace.json_bytes += payload.len() as u64;
                    dispatches += 1;
                }
                if dispatches == count {
                    return trace;
                }
            }
            now = discord.poll_timeout().expect("events go on");
            discord.handle_deadline(now);
            if now - beat_at > Duration::from_secs(30) {
                beat_at = now;
                discord.handle_text(now, 1, br#"{"op":1,"d":null}"#);
            }
        }
    }
}

fn push_frame(out: &mut Vec<u8>, encoder: &mut Encoder, payload: &[u8]) {
    let mut message = vec![];
    encoder.encode(payload, &mut message).expect("memory for a message");
    out.push(0x82);
    match message.len() {
        length @ 0..=125 => out.push(length as u8),
        length @ 126..=0xffff => {
            out.push(126);
            out.extend((length as u16).to_be_bytes());
        }
        length => {
            out.push(127);
            out.extend((length as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&message);
}

/// A task whose connection is open and which has said hello: READY comes next.
pub fn connect(
    trace: &Trace,
    home: usize,
    slot: usize,
    shard_id: u32,
    turn: Turn,
    scratch: &mut Scratch,
) -> ShardTask {
    let mut query = "v=10&encoding=json".to_owned();
    if let Some(value) = trace.compression.query_value() {
        query.push_str(&format!("&compress={value}"));
    }
    let options = shard::Options {
        query,
        allow_plain: true,
        ..shard::Options::new(Secret::new("token"), 53_608_447, 1000, "ws://localhost:1")
    };
    let shard = Shard::new(Arc::new(options), shard_id, 1, turn.now, None);
    let framing = Framing {
        exchange: "rateway-1".into(),
        frame_max: 131_072,
        ready_secrets: false,
        persistent: true,
        events: Default::default(),
    };
    let task_options = TaskOptions {
        transport: Options {
            tls: tls::client_config(None).expect("bundled roots"),
            compression: trace.compression,
            limits: Limits::default(),
            user_agent: "bench".into(),
        },
        cache: None,
    };
    let mut task = ShardTask::new(home, slot, shard, framing, Arc::new(task_options), turn);
    task.run(turn, scratch);
    let Some(Output::Open { url }) = task.effects.iter().find(|effect| matches!(effect, Output::Open { .. }))
    else {
        panic!("a new shard connects");
    };
    let endpoint = Endpoint::parse(url).expect("a URL");
    task.inputs.push(TaskInput::Connected(endpoint));
    task.run(turn, scratch);
    let request = String::from_utf8(std::mem::take(&mut task.outgoing)).expect("an HTTP request");
    let key = request.split("Key: ").nth(1).and_then(|rest| rest.split("\r\n").next()).expect("a key");
    let accept = tungstenite::handshake::derive_accept_key(key.as_bytes());
    task.window = Buf::with_capacity(WINDOW_BYTES);
    let answer = format!(
        "HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
    );
    task.window.extend(answer.as_bytes());
    task.window.extend(&trace.hello);
    task.run(turn, scratch);
    let ticket = task.effects.drain(..).find_map(|effect| match effect {
        Output::WantPermit { ticket } => Some(ticket),
        _ => None,
    });
    let ticket = ticket.expect("a shard without a session wants to identify");
    task.inputs.push(TaskInput::Shard(Input::Permit { ticket }));
    task.run(turn, scratch);
    assert_eq!(task.shard.state(), State::Identifying);
    task.effects.clear();
    task.outgoing.clear();
    task
}

/// A turn at `ms` after `start`.
pub fn turn(start: Instant, ms: u64) -> Turn {
    Turn { now: start + Duration::from_millis(ms), wall_ms: 1_767_225_600_000 + ms }
}

/// Moves what a run published through the outbox.
pub fn settle(task: &mut ShardTask, outbox: &mut Outbox) {
    let slot = task.slot as u32;
    outbox.push(slot, std::mem::take(&mut task.batch));
    outbox.prepare(131_072, 64);
    let written = outbox.slices().map(<[u8]>::len).sum();
    outbox.advance(written, |_| {});
    let published = outbox.stats.published;
    outbox.confirm(published, true, |_| {});
    task.effects.clear();
    task.outgoing.clear();
}
