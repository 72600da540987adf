//! Cache queries, with the cache switched off: every good one is a miss, no bad one ends the reader.

use serde_json::{Value, json};

use crate::support::{Setup, wait_until};

#[test]
fn a_miss_is_zero_bytes_on_both_ways_back() {
    let mut stage = Setup::new("queries", 3, 2).env("CACHE_ENABLED", "false").start();
    let types = [
        ("CurrentUser", 0),
        ("GuildChannel", 1),
        ("Emoji", 1),
        ("Group", 1),
        ("Guild", 1),
        ("Member", 2),
        ("Message", 2),
        ("Presence", 2),
        ("PrivateChannel", 1),
        ("Role", 1),
        ("User", 1),
        ("VoiceChannelStates", 1),
        ("VoiceState", 2),
        ("GuildChannels", 1),
        ("GuildRoles", 1),
        ("GuildEmojis", 1),
        ("GuildMembers", 3),
        ("Thread", 1),
        ("Sticker", 1),
        ("StageInstance", 1),
        ("ScheduledEvent", 1),
        ("Stats", 0),
    ];
    for cluster in [1, 2] {
        for (kind, arguments) in types {
            let id = format!("{kind}-{cluster}");
            // Integers and strings, a surplus argument, an unknown key.
            let ids: Vec<Value> =
                (0..=arguments).map(|n| if n % 2 == 0 { json!(n) } else { json!("7") }).collect();
            let query =
                json!({"type": kind, "arguments": ids, "return_routing_key": "cache-answer", "more": {}});
            let before = stage.worker.find(|message| message.key == "cache-answer").len();
            stage.worker.query(cluster, query.to_string().as_bytes(), Some(&id));
            let answer = stage.worker.wait_answer(&id);
            assert_eq!((answer.body.len(), answer.header("found")), (0, Some(("t", &json!(false)))), "{id}");
            wait_until("the answer on the exchange", || {
                stage.worker.find(|message| message.key == "cache-answer").len() == before + 1
            });
        }
    }
    let answers = stage.worker.find(|message| message.key == "cache-answer");
    let on = |cluster| answers.iter().filter(|answer| answer.cluster == cluster).count();
    assert_eq!((on(1), on(2)), (types.len(), types.len()), "each on the exchange where it was asked");
    for answer in &answers {
        assert_eq!((answer.body.len(), answer.header("found")), (0, Some(("t", &json!(false)))));
    }
    stage.judge();
}

#[test]
fn bad_queries_are_answered_in_words_and_end_nothing() {
    let mut stage = Setup::new("badqueries", 1, 1).env("CACHE_ENABLED", "false").start();
    let long = json!({"type": "Guild", "arguments": [1], "return_routing_key": "k".repeat(256)}).to_string();
    let cases: &[(&str, &[u8])] = &[
        ("empty", b""),
        ("garbage", b"\xff\x00{"),
        ("array", b"[]"),
        ("unknown", br#"{"type":"Planet","arguments":[1],"return_routing_key":"cache-answer"}"#),
        ("case", br#"{"type":"guild","arguments":[1],"return_routing_key":"cache-answer"}"#),
        ("few", br#"{"type":"Member","arguments":[1],"return_routing_key":"cache-answer"}"#),
        ("negative", br#"{"type":"Guild","arguments":[-1],"return_routing_key":"cache-answer"}"#),
        (
            "over",
            br#"{"type":"Guild","arguments":[18446744073709551616],"return_routing_key":"cache-answer"}"#,
        ),
        ("fraction", br#"{"type":"Guild","arguments":[1.5],"return_routing_key":"cache-answer"}"#),
        ("keyless", br#"{"type":"Guild","arguments":[1]}"#),
        ("long", long.as_bytes()),
    ];
    for (id, body) in cases {
        stage.worker.query(1, body, Some(id));
        let answer: Value = serde_json::from_str(&stage.worker.wait_answer(id).text()).expect("JSON");
        assert_eq!(answer["ok"], false, "{id}: {answer}");
        assert!(answer["error"].as_str().is_some_and(|error| !error.is_empty()), "{id}: {answer}");
        stage.worker.query(1, body, None);
    }
    let good = br#"{"type":"CurrentUser","arguments":[],"return_routing_key":"cache-answer"}"#;
    stage.worker.query(1, good, Some("good"));
    assert_eq!(stage.worker.wait_answer("good").body.len(), 0);
    wait_until("the one answer", || !stage.worker.find(|message| message.key == "cache-answer").is_empty());
    assert_eq!(stage.worker.find(|message| message.key == "cache-answer").len(), 1, "bad ones have none");
    // Told, but a flood of bad queries is no flood of lines.
    let told = stage.gateway.count("ignored a cache query");
    assert!((1..2 * cases.len()).contains(&told), "{told} lines for {} bad queries", 2 * cases.len());
    stage.judge();
}
