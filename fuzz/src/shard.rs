//! The shard machine under any sequence of payloads, inputs and waits. Debug builds check its invariants after each.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rateway::base::Secret;
use rateway::gateway::envelope::scan;
use rateway::gateway::shard::{Cause, Input, Options, Output, Shard};

const TEXTS: [&str; 12] = [
    r#"{"t":null,"s":null,"op":10,"d":{"heartbeat_interval":41250}}"#,
    r#"{"t":"READY","s":1,"op":0,"d":{"session_id":"a","resume_gateway_url":"wss://r.example"}}"#,
    r#"{"t":"RESUMED","s":9,"op":0,"d":{}}"#,
    r#"{"op":9,"d":false}"#,
    r#"{"op":9,"d":true}"#,
    r#"{"op":7,"d":null}"#,
    r#"{"op":1,"d":null}"#,
    r#"{"op":11}"#,
    r#"{"t":"X","s":2,"op":0,"d":{}}"#,
    r#"{"t":"X","s":3,"op":0,"d":{}}"#,
    r#"{"t":"X","s":18446744073709551615,"op":0,"d":{}}"#,
    r#"{"t":"READY","s":1,"op":0,"d":{"session_id":"b"}}"#,
];

/// One run.
pub fn run(bytes: &[u8]) {
    let mut now = Instant::now();
    let options = Options::new(Secret::new("t"), 1, 1, "wss://g.example");
    let mut shard = Shard::new(Arc::new(options), 0, 7, now, None);
    let (mut link, mut tickets, mut id, mut answered) = (false, vec![], 0u64, 0u64);
    let mut sent = std::collections::VecDeque::new();
    let mut bytes = bytes.iter().copied();
    while let Some(step) = bytes.next() {
        let argument = bytes.next().unwrap_or(0);
        match step % 10 {
            0..=2 if link => {
                let text = TEXTS[usize::from(argument) % TEXTS.len()].as_bytes();
                let envelope = scan(text).expect("these are good");
                if let Err(error) = shard.handle_payload(now, &envelope, text) {
                    shard.handle_input(now, Input::LinkLost { cause: Cause::Payload(error) });
                }
            }
            3 if link => shard.handle_input(now, Input::Opened),
            4 if link => {
                shard.handle_input(now, Input::PeerClosed { code: Some(3998 + u16::from(argument % 20)) })
            }
            5 if link => shard.handle_input(now, Input::LinkLost { cause: Cause::Ended }),
            6 => {
                if let Some(ticket) = tickets.pop() {
                    shard.handle_input(now, Input::Permit { ticket });
                }
            }
            7 => {
                id += 1;
                let json = format!(r#"{{"op":{},"d":{{}}}}"#, argument % 12);
                shard.handle_input(now, Input::Command { id, json: json.into_bytes().into() });
            }
            8 if argument < 4 => shard.handle_input(now, Input::ReadPaused(argument % 2 == 0)),
            8 if argument == 255 => shard.handle_input(now, Input::Stop { end_session: false }),
            8 => {
                let session = shard.session().map_or(0, |session| session.hash());
                shard.handle_input(now, Input::Confirmed { session, seq: u64::from(argument) });
            }
            _ => {
                now = match shard.poll_timeout() {
                    Some(at) if argument % 2 == 0 => now.max(at),
                    _ => now + Duration::from_millis(u64::from(argument) * 100),
                };
                shard.handle_deadline(now);
            }
        }
        while let Some(output) = shard.poll_output() {
            match output {
                Output::Open { .. } => {
                    assert!(!std::mem::replace(&mut link, true), "a second link");
                    sent.clear();
                }
                Output::DropLink => assert!(std::mem::replace(&mut link, false), "no link to drop"),
                Output::WantPermit { ticket } => tickets.push(ticket),
                Output::Send(_) => {
                    sent.push_back(now);
                    while sent.front().is_some_and(|at| now.duration_since(*at) > Duration::from_secs(60)) {
                        sent.pop_front();
                    }
                    assert!(sent.len() <= 120, "a 121st payload in a minute");
                }
                Output::CommandDone { .. } => answered += 1,
                _ => {}
            }
        }
        assert!(
            answered + shard.commands_waiting() as u64 == id,
            "a command was forgotten or answered twice"
        );
    }
}
