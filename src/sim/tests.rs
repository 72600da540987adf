//! The rules of the gateway, one by one, on the machine alone with a clock of its own.
#![allow(clippy::disallowed_methods)] // A starting point for arithmetic; nothing depends on its value.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::*;
use crate::base::Secret;

/// Everything that is not privileged.
const INTENTS: u64 = INTENTS_ALL & !INTENTS_PRIVILEGED;

/// A machine, its clock, and what it said.
struct Bench {
    discord: Discord,
    now: Instant,
    closes: Vec<(ConnectionId, Option<u16>)>,
    texts: Vec<(ConnectionId, Value)>,
}

impl Bench {
    fn new(options: Options) -> Bench {
        let now = Instant::now();
        Bench { discord: Discord::new(options, now), now, closes: Vec::new(), texts: Vec::new() }
    }

    fn drain(&mut self) {
        while let Some(output) = self.discord.poll_output() {
            match output {
                Output::Text { connection, payload } => {
                    self.texts.push((
                        connection,
                        serde_json::from_slice(&payload).expect("the machine speaks JSON"),
                    ));
                }
                Output::Close { connection, code } => self.closes.push((connection, code)),
                Output::Recorded { .. } => panic!("nothing is recorded here"),
            }
        }
    }

    fn accept(&mut self, id: ConnectionId) -> Vec<Value> {
        self.discord.accept(self.now, id, "v=10&encoding=json");
        self.said(id)
    }

    /// Takes what was said to `id`.
    fn said(&mut self, id: ConnectionId) -> Vec<Value> {
        self.drain();
        let (mine, rest) = std::mem::take(&mut self.texts).into_iter().partition(|(to, _)| *to == id);
        self.texts = rest;
        mine.into_iter().map(|(_, value)| value).collect()
    }

    fn send(&mut self, id: ConnectionId, payload: Value) -> Vec<Value> {
        self.discord.handle_text(self.now, id, payload.to_string().as_bytes());
        self.said(id)
    }

    fn identify(&mut self, id: ConnectionId, shard: (u32, u32), intents: u64) -> Vec<Value> {
        self.send(id, identify(shard, intents))
    }

    fn wait(&mut self, duration: Duration) {
        let until = self.now + duration;
        while let Some(at) = self.discord.poll_timeout().filter(|&at| at <= until) {
            self.now = self.now.max(at);
            self.discord.handle_deadline(self.now);
        }
        self.now = until;
        self.drain();
    }

    /// Accepts and identifies shard 0 of 1; says its session id.
    fn live(&mut self, id: ConnectionId) -> String {
        self.accept(id);
        let said = self.identify(id, (0, 1), INTENTS);
        said[0]["d"]["session_id"].as_str().expect("READY has a session id").to_owned()
    }

    fn last_close(&mut self) -> Option<(ConnectionId, Option<u16>)> {
        self.drain();
        self.closes.last().copied()
    }
}

fn identify(shard: (u32, u32), intents: u64) -> Value {
    json!({"op":2,"d":{"token":"t","properties":{"os":"","browser":"","device":""},"intents":intents,"shard":[shard.0,shard.1]}})
}

fn resume(session_id: &str, seq: u64) -> Value {
    json!({"op":6,"d":{"token":"t","session_id":session_id,"seq":seq}})
}

fn bench() -> Bench {
    Bench::new(Options::default())
}

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

#[test]
fn hello_comes_first_and_heartbeats_are_acked() {
    let mut b = bench();
    let hello = b.accept(1);
    assert_eq!(hello.len(), 1);
    assert_eq!((&hello[0]["op"], &hello[0]["d"]["heartbeat_interval"]), (&json!(10), &json!(41250)));
    let said = b.send(1, json!({"op":1,"d":null}));
    assert_eq!(said, [json!({"t":null,"s":null,"op":11,"d":null})]);
    b.live(2);
    assert!(b.discord.inject(b.now, Fault::HeartbeatRequest { shard: 0 }));
    assert_eq!(b.said(2)[0]["op"], 1);
    b.send(2, json!({"op":1,"d":99}));
    let kind = &b.discord.ledger().violations[0].kind;
    assert!(matches!(kind, ViolationKind::HeartbeatSeqAhead { sent: 99, .. }), "{kind:?}");
}

#[test]
fn op7_instead_of_hello_then_closes() {
    let mut b = bench();
    b.discord.inject(b.now, Fault::HelloIsOp7 { count: 1 });
    assert_eq!(b.accept(1)[0]["op"], 7);
    b.wait(secs(6));
    assert_eq!(b.last_close(), Some((1, Some(4000))));
    assert_eq!(b.accept(2)[0]["op"], 10);
}

#[test]
fn ready_lists_the_guilds_of_the_shard_and_guild_creates_follow() {
    let mut b = Bench::new(Options { guilds: 10, ..Options::default() });
    b.accept(1);
    let said = b.identify(1, (1, 3), INTENTS);
    let ready = &said[0];
    assert_eq!(
        (&ready["t"], &ready["s"], &ready["d"]["shard"]),
        (&json!("READY"), &json!(1), &json!([1, 3]))
    );
    let listed: Vec<&Value> = ready["d"]["guilds"].as_array().unwrap().iter().map(|g| &g["id"]).collect();
    let created: Vec<&Value> =
        said.iter().filter(|e| e["t"] == "GUILD_CREATE").map(|e| &e["d"]["id"]).collect();
    assert_eq!(listed, created);
    assert!((3..=4).contains(&listed.len()));
    for id in listed {
        assert_eq!((id.as_str().unwrap().parse::<u64>().unwrap() >> 22) % 3, 1);
    }
    let seqs: Vec<u64> = said.iter().map(|e| e["s"].as_u64().unwrap()).collect();
    assert_eq!(seqs, (1..=seqs.len() as u64).collect::<Vec<_>>());
    b.accept(2);
    b.wait(secs(5));
    let without_guilds = b.identify(2, (1, 3), 512);
    assert_eq!(without_guilds.len(), 1);
}

#[test]
fn the_identify_gate_is_per_bucket() {
    let mut b = Bench::new(Options { max_concurrency: 2, ..Options::default() });
    for id in 0..4 {
        b.accept(id);
    }
    assert_eq!(b.identify(0, (0, 4), 0)[0]["t"], "READY");
    assert_eq!(b.identify(1, (1, 4), 0)[0]["t"], "READY");
    b.wait(Duration::from_millis(4999));
    assert_eq!(b.identify(2, (2, 4), 0), [json!({"t":null,"s":null,"op":9,"d":false})]);
    assert_eq!(
        b.discord.ledger().violations[0].kind,
        ViolationKind::IdentifyTooEarly { bucket: 0, early_us: 1000 }
    );
    b.wait(Duration::from_millis(1));
    // The socket that got op 9 is still good.
    assert_eq!(b.identify(2, (2, 4), 0)[0]["t"], "READY");
    assert_eq!(b.discord.ledger().identify_times(0).len(), 3);
}

#[test]
fn session_starts_are_counted_and_come_back() {
    let mut b =
        Bench::new(Options { session_starts_remaining: 1, reset_after: secs(60), ..Options::default() });
    let limit = |b: &mut Bench| -> Value {
        let response = b.discord.rest(b.now, "GET", "/api/v10/gateway/bot", Some("Bot x"));
        serde_json::from_slice::<Value>(&response.body).unwrap()["session_start_limit"].clone()
    };
    assert_eq!(limit(&mut b), json!({"total":1000,"remaining":1,"reset_after":60000,"max_concurrency":1}));
    b.live(1);
    b.wait(secs(20));
    assert_eq!(limit(&mut b), json!({"total":1000,"remaining":0,"reset_after":40000,"max_concurrency":1}));
    b.wait(secs(40));
    assert_eq!(limit(&mut b), json!({"total":1000,"remaining":1000,"reset_after":0,"max_concurrency":1}));
    b.discord.starts_remaining = 0;
    b.accept(2);
    b.identify(2, (0, 1), 0);
    assert_eq!(b.last_close(), Some((2, Some(4004))));
    let kinds: Vec<_> = b.discord.ledger().violations.iter().map(|v| v.kind.clone()).collect();
    assert!(kinds.contains(&ViolationKind::SessionStartBeyondBudget));
    assert_eq!(b.discord.session_count(), 0);
    assert_eq!(b.discord.rest(b.now, "GET", "/gateway/bot", Some("Bot t")).status, 401);
}

#[test]
fn resume_replays_what_was_missed_then_resumed() {
    let mut b = bench();
    let session_id = b.live(1);
    let seen = b.discord.last_seq(0).unwrap();
    b.discord.handle_close(b.now, 1, Some(4000));
    assert_eq!(b.discord.emit(b.now, 0, "A", "{\"n\":1}"), Some(seen + 1));
    assert_eq!(b.discord.emit(b.now, 0, "B", "{\"n\":2}"), Some(seen + 2));
    b.wait(secs(119));
    b.accept(2);
    let said = b.send(2, resume(&session_id, seen - 1));
    let got: Vec<_> =
        said.iter().map(|e| (e["s"].as_u64().unwrap() - seen, e["t"].as_str().unwrap())).skip(1).collect();
    assert_eq!(said[0]["s"], json!(seen));
    assert_eq!(got, [(1, "A"), (2, "B"), (3, "RESUMED")]);
    assert_eq!(b.discord.emit(b.now, 0, "C", "{}"), Some(seen + 4));
    assert_eq!(b.said(2)[0]["t"], "C");
    assert_eq!(b.discord.ledger().resumes, 1);
}

#[test]
fn resume_takes_a_session_over_from_a_connection_believed_alive() {
    let mut b = bench();
    let session_id = b.live(1);
    b.accept(2);
    assert_eq!(b.send(2, resume(&session_id, 1)).last().unwrap()["t"], "RESUMED");
    assert_eq!(b.last_close(), Some((1, None)));
    assert_eq!(b.discord.connection_of(0), Some(2));
}

#[test]
fn resume_is_refused_for_unknown_expired_overrun_and_ahead() {
    let mut b = Bench::new(Options { replay_buffer: 3, ..Options::default() });
    let op9 = [json!({"t":null,"s":null,"op":9,"d":false})];
    let session_id = b.live(1);
    let last = b.discord.last_seq(0).unwrap();
    b.discord.handle_close(b.now, 1, None);
    b.accept(2);
    assert_eq!(b.send(2, resume("nonsense", 1)), op9);
    assert_eq!(b.send(2, resume(&session_id, last - 3)).last().unwrap()["t"], "RESUMED", "three are kept");
    b.discord.handle_close(b.now, 2, None);
    b.accept(3);
    assert_eq!(b.send(3, resume(&session_id, last - 3)), op9, "RESUMED took a place");
    b.wait(secs(5));
    let session_id = b.identify(3, (0, 1), 0)[0]["d"]["session_id"].as_str().unwrap().to_owned();
    b.discord.handle_close(b.now, 3, None);
    b.accept(4);
    b.send(4, resume(&session_id, 2));
    assert_eq!(b.last_close(), Some((4, Some(4007))));
    let session_id = {
        b.wait(secs(5));
        b.live(5)
    };
    b.discord.handle_close(b.now, 5, Some(4900));
    b.wait(secs(121));
    b.accept(6);
    assert_eq!(b.send(6, resume(&session_id, 1)), op9);
    assert_eq!(b.discord.ledger().resumes_refused, 4);
}

#[test]
fn only_1000_and_1001_of_the_client_end_the_session() {
    for (code, ends) in
        [(Some(1000), true), (Some(1001), true), (Some(4000), false), (Some(1006), false), (None, false)]
    {
        let mut b = bench();
        b.live(1);
        b.discord.handle_close(b.now, 1, code);
        assert_eq!(b.discord.session_count() == 0, ends, "{code:?}");
    }
}

#[test]
fn bad_identifies_end_in_their_codes() {
    let options = Options {
        token: Some(Secret::new("t")),
        privileged_intents: 2,
        guilds: 30,
        guilds_per_shard_max: 20,
        shard_count_multiple: Some(2),
        ..Options::default()
    };
    let mut b = Bench::new(options);
    let with = |name: &str, value: Value| {
        let mut payload = identify((0, 2), 0);
        payload["d"][name] = value;
        payload
    };
    let mut unsharded = identify((0, 2), 0);
    unsharded["d"].as_object_mut().unwrap().remove("intents");
    let cases = [
        (with("token", json!("wrong")), 4004),
        (with("token", json!(5)), 4001),
        (with("shard", json!([2, 2])), 4010),
        (with("shard", json!([0, 0])), 4010),
        (with("shard", json!([0, 3])), 4010),
        (with("intents", json!(1 << 17)), 4013),
        (with("intents", json!(-1)), 4013),
        (with("intents", json!("1")), 4013),
        (unsharded, 4013),
        (with("intents", json!(1 << 8)), 4014),
        (with("properties", json!(null)), 4001),
        (json!({"op":2,"d":null}), 4001),
    ];
    for (n, (payload, code)) in cases.into_iter().enumerate() {
        b.accept(n as u64);
        b.send(n as u64, payload.clone());
        assert_eq!(b.last_close(), Some((n as u64, Some(code))), "{payload}");
    }
    assert_eq!(b.discord.ledger().identifies.len(), 0);
    b.accept(100);
    assert_eq!(b.send(100, with("token", json!("Bot t")))[0]["t"], "READY", "the prefix is accepted");
    let mut b = Bench::new(Options { guilds: 30, guilds_per_shard_max: 20, ..Options::default() });
    b.accept(0);
    b.identify(0, (0, 1), 0);
    assert_eq!(b.last_close(), Some((0, Some(4011))));
}

#[test]
fn versions_and_encodings() {
    for (query, code) in [
        ("v=8&encoding=json", Some(4012)),
        ("encoding=json", Some(4012)),
        ("v=10&encoding=etf", Some(4012)),
        ("v=9", None),
    ] {
        let mut b = bench();
        b.discord.accept(b.now, 1, query);
        assert_eq!(b.last_close(), code.map(|c| (1, Some(c))), "{query}");
    }
}

#[test]
fn payloads_out_of_place_end_in_their_codes() {
    let cases: [(bool, Vec<u8>, u16); 8] = [
        (false, b"{\"op\":3,\"d\":{}}".to_vec(), 4003),
        (false, b"{\"op\":8,\"d\":{}}".to_vec(), 4003),
        (true, identify((0, 1), 0).to_string().into_bytes(), 4005),
        (true, resume("x", 1).to_string().into_bytes(), 4005),
        (true, b"{\"op\":5,\"d\":{}}".to_vec(), 4001),
        (true, b"{\"op\":3,\"d\":{}}".to_vec(), 4001),
        (true, b"not json".to_vec(), 4002),
        (true, b"{\"d\":1}".to_vec(), 4002),
    ];
    for (live, payload, code) in cases {
        let mut b = bench();
        if live {
            b.live(1);
        } else {
            b.accept(1);
        }
        b.discord.handle_text(b.now, 1, &payload);
        assert_eq!(b.last_close(), Some((1, Some(code))), "{}", String::from_utf8_lossy(&payload));
        let resumable = code == 4002;
        assert_eq!(b.discord.session_count(), usize::from(live && resumable));
    }
}

#[test]
fn the_size_limit_is_4096_bytes() {
    let mut b = bench();
    b.live(1);
    let mut payload = json!({"op":1,"d":1,"x":""}).to_string();
    payload.insert_str(payload.len() - 2, &"a".repeat(4096 - payload.len()));
    b.discord.handle_text(b.now, 1, payload.as_bytes());
    assert_eq!(b.said(1).last().unwrap()["op"], 11);
    payload.insert(payload.len() - 2, 'a');
    b.discord.handle_text(b.now, 1, payload.as_bytes());
    assert_eq!(b.last_close(), Some((1, Some(4002))));
}

#[test]
fn the_121st_payload_within_60_s_ends_in_4008() {
    let mut b = bench();
    b.live(1); // The first of 120.
    for _ in 1..120 {
        b.wait(Duration::from_millis(100));
        b.send(1, json!({"op":1,"d":1}));
    }
    assert_eq!(b.last_close(), None);
    b.wait(secs(60) - Duration::from_millis(11_901));
    b.send(1, json!({"op":1,"d":1}));
    assert_eq!(b.last_close(), Some((1, Some(4008))));
    assert_eq!(b.discord.session_count(), 1, "RESUME is possible after 4008");
    let mut b = bench();
    b.live(1);
    for _ in 1..400 {
        b.wait(Duration::from_millis(505));
        b.send(1, json!({"op":1,"d":1}));
    }
    assert_eq!(b.last_close(), None);
    assert_eq!(b.discord.ledger().payloads_in_60_s_max, 119);
}

#[test]
fn a_connection_without_heartbeats_is_closed_with_4009() {
    let mut b = bench();
    b.live(1);
    b.wait(secs(61));
    b.send(1, json!({"op":1,"d":1}));
    b.wait(secs(61));
    assert_eq!(b.last_close(), None);
    b.wait(secs(1));
    assert_eq!(b.last_close(), Some((1, Some(4009))));
    assert_eq!(b.discord.ledger().violations[0].kind, ViolationKind::HeartbeatMissing);
}

#[test]
fn half_open_connections() {
    let mut b = bench();
    b.live(1);
    b.discord.inject(b.now, Fault::StopAcks { shard: 0 });
    assert!(b.send(1, json!({"op":1,"d":1})).is_empty());
    b.discord.emit(b.now, 0, "STILL", "{}");
    assert_eq!(b.said(1)[0]["t"], "STILL");
    b.discord.inject(b.now, Fault::StopSending { shard: 0 });
    b.discord.emit(b.now, 0, "LOST", "{}");
    assert!(b.said(1).is_empty());
    b.discord.inject(b.now, Fault::Heal { shard: 0 });
    assert_eq!(b.send(1, json!({"op":1,"d":1}))[0]["op"], 11);
    b.discord.inject(b.now, Fault::StopReading { shard: 0 });
    assert!(b.send(1, json!({"op":1,"d":1})).is_empty());
    assert!(!b.discord.reads(1));
    b.wait(secs(62));
    assert_eq!(b.last_close(), Some((1, Some(4009))));
}

#[test]
fn op7_op9_and_closes_on_demand() {
    let mut b = bench();
    let session_id = b.live(1);
    b.discord.inject(b.now, Fault::Op7 { shard: 0 });
    assert_eq!(b.said(1)[0]["op"], 7);
    b.wait(secs(5));
    assert_eq!(b.last_close(), Some((1, Some(4000))));
    b.accept(2);
    b.send(2, resume(&session_id, 1));
    b.discord.inject(b.now, Fault::Op9 { shard: 0, resumable: true });
    assert_eq!(b.said(2).last().unwrap(), &json!({"t":null,"s":null,"op":9,"d":true}));
    assert_eq!(b.send(2, resume(&session_id, 1)).last().unwrap()["t"], "RESUMED", "on the same socket");
    b.discord.inject(b.now, Fault::Op9 { shard: 0, resumable: false });
    b.said(2);
    assert_eq!(b.send(2, resume(&session_id, 1))[0]["d"], false);
    b.send(2, json!({"op":3,"d":{}}));
    assert_eq!(b.last_close(), Some((2, Some(4003))), "what races with op 9 closes the socket");
    b.wait(secs(5));
    b.live(3);
    b.discord.inject(b.now, Fault::Close { shard: 0, code: 1001 });
    assert_eq!((b.last_close(), b.discord.session_count()), (Some((3, Some(1001))), 1));
    assert!(!b.discord.inject(b.now, Fault::Drop { shard: 0 }), "nothing is connected");
    b.wait(secs(125));
    b.live(4);
    b.discord.inject(b.now, Fault::InvalidateSession { shard: 0 });
    assert_eq!((b.discord.connection_count(), b.discord.session_count()), (1, 0));
}

#[test]
fn member_requests_are_chunked_with_their_nonce_and_limited() {
    let mut b = Bench::new(Options { guilds: 1, members: 2500, ..Options::default() });
    b.accept(1);
    let said = b.identify(1, (0, 1), INTENTS_ALL);
    let guild_id = said[0]["d"]["guilds"][0]["id"].clone();
    let request =
        json!({"op":8,"d":{"guild_id":guild_id,"query":"","limit":0,"presences":true,"nonce":"n-1"}});
    let chunks = b.send(1, request.clone());
    let sizes: Vec<usize> = chunks.iter().map(|c| c["d"]["members"].as_array().unwrap().len()).collect();
    assert_eq!(sizes, [1000, 1000, 500]);
    for (n, chunk) in chunks.iter().enumerate() {
        assert_eq!(chunk["t"], "GUILD_MEMBERS_CHUNK");
        assert_eq!((&chunk["d"]["chunk_index"], &chunk["d"]["chunk_count"]), (&json!(n), &json!(3)));
        assert_eq!(chunk["d"]["nonce"], "n-1");
        assert!(!chunk["d"]["presences"].as_array().unwrap().is_empty());
    }
    b.wait(Duration::from_millis(29_000));
    let limited = &b.send(1, request.clone())[0];
    assert_eq!((&limited["t"], &limited["d"]["retry_after"]), (&json!("RATE_LIMITED"), &json!(1.0)));
    assert_eq!(limited["d"]["meta"]["nonce"], "n-1");
    b.wait(secs(1));
    assert_eq!(b.send(1, request)[0]["t"], "GUILD_MEMBERS_CHUNK");

    let user = chunks[0]["d"]["members"][5]["user"]["id"].clone();
    let nonce = "n".repeat(33);
    let by_id =
        b.send(1, json!({"op":8,"d":{"guild_id":guild_id,"user_ids":[user,"77",1u64 << 40],"nonce":nonce}}));
    assert_eq!(by_id[0]["d"]["members"][0]["user"]["id"], user);
    assert_eq!(by_id[0]["d"]["not_found"], json!([77, "1099511627776"]));
    assert!(by_id[0]["d"].get("nonce").is_none());
    let none = b.send(1, json!({"op":8,"d":{"guild_id":guild_id,"query":"nobody-is-called-that","limit":5}}));
    assert_eq!((none.len(), &none[0]["d"]["members"]), (1, &json!([])));
}

#[test]
fn a_full_member_list_without_the_intent_is_not_answered() {
    let mut b = bench();
    b.accept(1);
    let said = b.identify(1, (0, 1), INTENTS);
    let guild_id = &said[0]["d"]["guilds"][0]["id"];
    assert!(b.send(1, json!({"op":8,"d":{"guild_id":guild_id,"query":"","limit":0}})).is_empty());
}

#[test]
fn the_other_commands() {
    let mut b = bench();
    b.accept(1);
    let said = b.identify(1, (0, 1), INTENTS);
    let guild = &said.iter().find(|e| e["t"] == "GUILD_CREATE").unwrap()["d"];
    let (guild_id, voice) = (&guild["id"], &guild["channels"][5]["id"]);
    let presence = json!({"op":3,"d":{"since":null,"activities":[],"status":"idle","afk":false}});
    for _ in 0..6 {
        assert!(b.send(1, presence.clone()).is_empty());
    }
    assert_eq!(b.discord.ledger().violations[0].kind, ViolationKind::TooManyPresenceUpdates);
    let join =
        json!({"op":4,"d":{"guild_id":guild_id,"channel_id":voice,"self_mute":false,"self_deaf":false}});
    let names: Vec<Value> = b.send(1, join).iter().map(|e| e["t"].clone()).collect();
    assert_eq!(names, ["VOICE_STATE_UPDATE", "VOICE_SERVER_UPDATE"]);
    assert_eq!(b.send(1, json!({"op":31,"d":{"guild_ids":[guild_id]}}))[0]["t"], "SOUNDBOARD_SOUNDS");
    assert_eq!(
        b.send(1, json!({"op":43,"d":{"guild_id":guild_id,"fields":["status"]}}))[0]["t"],
        "CHANNEL_INFO"
    );
    assert_eq!(b.last_close(), None);
    assert_eq!(b.discord.ledger().commands[&3], 6);
    assert_eq!(b.discord.ledger().recent.back().unwrap().op, 43);
}

#[test]
fn generated_events_respect_intents_and_shards_and_repeat_by_seed() {
    let run = || {
        let mut b = Bench::new(Options { guilds: 12, rate: 200.0, max_concurrency: 4, ..Options::default() });
        for shard in 0..3 {
            b.accept(shard.into());
            b.identify(shard.into(), (shard, 3), if shard == 2 { 1 << 9 } else { INTENTS_ALL });
        }
        b.wait(secs(20));
        b
    };
    let b = run();
    let total = b.discord.ledger().dispatch_log.len();
    assert!((2500..4500).contains(&total), "{total} events in 20 s at 200/s");
    for (id, event) in &b.texts {
        assert_eq!(event["op"], 0);
        match event["d"]["guild_id"].as_str() {
            Some(guild) => assert_eq!((guild.parse::<u64>().unwrap() >> 22) % 3, *id),
            None => assert_eq!(*id, 0, "what has no guild goes to shard 0: {event}"),
        }
        if *id == 2 {
            assert!(event["t"].as_str().unwrap().starts_with("MESSAGE_"), "{event}");
            assert!(event["d"].get("content").is_none_or(|c| c == ""), "no MESSAGE_CONTENT: {event}");
        }
    }
    for shard in 0..3 {
        let seqs: Vec<u64> = b.discord.ledger().dispatches_of(shard).map(|d| d.seq).collect();
        assert_eq!(seqs, (1..=seqs.len() as u64).collect::<Vec<_>>());
    }
    assert_eq!(b.discord.ledger().dispatch_log, run().discord.ledger().dispatch_log);
}

#[test]
fn several_sessions_of_one_shard_get_a_copy_each() {
    let mut b = Bench::new(Options { max_concurrency: 1, rate: 50.0, ..Options::default() });
    b.live(1);
    b.wait(secs(5));
    b.accept(2);
    b.identify(2, (0, 1), INTENTS);
    assert_eq!(b.discord.ledger().identifies_on_live_session, 1);
    b.texts.clear();
    b.wait(secs(5));
    let of = |id| b.texts.iter().filter(|(to, _)| *to == id).map(|(_, e)| e["d"].clone()).collect::<Vec<_>>();
    assert!(of(1).len() > 50);
    assert_eq!(of(1), of(2));
}

#[test]
fn rest_answers_and_fails_on_demand() {
    let mut b = Bench::new(Options { token: Some(Secret::new("t")), shards: 7, ..Options::default() });
    let mut get = |path: &str, token: Option<&str>| b.discord.rest(b.now, "GET", path, token);
    assert_eq!(get("/api/v10/gateway", None).status, 200);
    assert_eq!(get("/gateway/bot", None).status, 401);
    assert_eq!(get("/gateway/bot", Some("Bot wrong")).status, 401);
    assert_eq!(get("/nothing", None).status, 404);
    let body: Value = serde_json::from_slice(&get("/gateway/bot", Some("Bot t")).body).unwrap();
    assert_eq!(body["shards"], 7);
    b.discord
        .inject(b.now, Fault::RestStatus { status: 429, retry_after: Some(1.5), global: false, count: 1 });
    b.discord.inject(b.now, Fault::RestStatus { status: 502, retry_after: None, global: false, count: 2 });
    let limited = b.discord.rest(b.now, "GET", "/gateway/bot", Some("Bot t"));
    assert!(limited.headers.contains(&("retry-after".to_owned(), "2".to_owned())));
    assert_eq!(serde_json::from_slice::<Value>(&limited.body).unwrap()["retry_after"], 1.5);
    let statuses: Vec<u16> =
        (0..3).map(|_| b.discord.rest(b.now, "GET", "/gateway/bot", Some("Bot t")).status).collect();
    assert_eq!(statuses, [502, 502, 200]);
    assert_eq!(b.discord.ledger().rest[&401], 2);
}

#[test]
fn odd_events_on_demand() {
    let mut b = bench();
    b.live(1);
    b.discord.emit(b.now, 0, "ONE", "{}");
    let one = b.said(1);
    b.discord.inject(b.now, Fault::Duplicate { shard: 0 });
    assert_eq!(b.said(1), one);
    b.discord.inject(b.now, Fault::UnknownEvent { shard: 0 });
    b.discord.inject(b.now, Fault::GuildOutage { shard: 0 });
    b.discord.inject(b.now, Fault::Payload { shard: 0, bytes: b"[1]".to_vec() });
    let said = b.said(1);
    assert_eq!((&said[1]["t"], &said[1]["d"]["unavailable"]), (&json!("GUILD_DELETE"), &json!(true)));
    assert_eq!(said[2], json!([1]));
    b.wait(secs(5));
    assert_eq!(b.said(1)[0]["t"], "GUILD_CREATE");
}

#[test]
fn faults_can_be_spelled() {
    let parsed = |text| FaultSpec::parse(text).unwrap_or_else(|e| panic!("{text}: {e}"));
    let spec = parsed("close:4000#3@30s");
    assert_eq!((spec.target, spec.when), (Target::Shard(3), When::At(secs(30))));
    assert_eq!(spec.fault, Fault::Close { shard: 0, code: 4000 });
    assert_eq!(parsed("op7@every:5m").when, When::Every(secs(300)));
    assert_eq!(parsed("op9:true#all").target, Target::All);
    assert_eq!(parsed("drop@250ms").when, When::At(Duration::from_millis(250)));
    for bad in ["", "close:x", "op7@later", "op7#x", "close:99999", "op7@every:0s", "rest:429:x"] {
        assert!(FaultSpec::parse(bad).is_err(), "{bad}");
    }
    let mut b = Bench::new(Options { max_concurrency: 9, ..Options::default() });
    for shard in 0..3 {
        b.accept(shard.into());
        b.identify(shard.into(), (shard, 3), 0);
    }
    assert_eq!(b.discord.inject_spec(b.now, &parsed("heartbeat#all")), 3);
    assert_eq!(b.discord.inject_spec(b.now, &parsed("drop#any")), 1);
    assert_eq!(b.discord.connected_shards().len(), 2);
}

#[test]
fn the_corpus_of_client_payloads_is_accepted() {
    for (name, text) in [
        ("IDENTIFY", include_str!("../../tests/corpus/client/IDENTIFY.json")),
        ("IDENTIFY.minimal", include_str!("../../tests/corpus/client/IDENTIFY.minimal.json")),
    ] {
        let mut b = bench();
        b.accept(1);
        b.discord.handle_text(b.now, 1, text.as_bytes());
        assert_eq!(b.said(1)[0]["t"], "READY", "{name}");
        for text in [
            include_str!("../../tests/corpus/client/PRESENCE_UPDATE.json"),
            include_str!("../../tests/corpus/client/REQUEST_CHANNEL_INFO.json"),
            include_str!("../../tests/corpus/client/REQUEST_GUILD_MEMBERS.json"),
            include_str!("../../tests/corpus/client/REQUEST_GUILD_MEMBERS.ids.json"),
            include_str!("../../tests/corpus/client/REQUEST_SOUNDBOARD_SOUNDS.json"),
            include_str!("../../tests/corpus/client/VOICE_STATE_UPDATE.json"),
            include_str!("../../tests/corpus/client/VOICE_STATE_UPDATE.leave.json"),
            include_str!("../../tests/corpus/client/HEARTBEAT.null.json"),
        ] {
            b.discord.handle_text(b.now, 1, text.as_bytes());
            assert_eq!(b.last_close(), None, "{text}");
        }
    }
}

#[test]
fn recorded_dispatches_are_numbered_by_the_machine_and_replayed_by_range() {
    let now = Instant::now();
    let mut discord = Discord::new(Options { recorded: true, guilds: 0, ..Options::default() }, now);
    discord.accept(now, 1, "v=10");
    discord.handle_text(now, 1, identify((0, 1), INTENTS).to_string().as_bytes());
    assert_eq!(discord.play(1, 10), Some(2));
    discord.emit(now, 0, "OWN", "{}");
    assert_eq!(discord.play(1, 5), Some(13));
    let session_id = discord.ledger().sessions[&1].session_id.clone();
    discord.handle_close(now, 1, None);
    assert_eq!(discord.play(1, 5), None);
    while discord.poll_output().is_some() {}
    discord.accept(now, 2, "v=10");
    discord.poll_output();
    discord.handle_text(now, 2, resume(&session_id, 4).to_string().as_bytes());
    let outputs: Vec<Output> = std::iter::from_fn(|| discord.poll_output()).collect();
    assert_eq!(outputs[0], Output::Recorded { connection: 2, first: 5, count: 7 });
    assert!(
        matches!(&outputs[1], Output::Text { payload, .. } if payload.starts_with(b"{\"t\":\"OWN\",\"s\":12"))
    );
    assert_eq!(outputs[2], Output::Recorded { connection: 2, first: 13, count: 5 });
    assert!(
        matches!(&outputs[3], Output::Text { payload, .. } if payload.starts_with(b"{\"t\":\"RESUMED\",\"s\":18"))
    );
}
