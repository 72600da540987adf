//! What the stand-in sends has to be what twilight's types expect of Discord, else the typed forwarder has less to do.

use std::collections::BTreeMap;
use std::time::Instant;

use rateway::sim::{Discord, INTENTS_ALL, Options, Output};

use crate::parse::Parser;

#[test]
fn twilight_knows_every_event_of_the_stand_in() {
    let now = Instant::now();
    let options = Options { shards: 2, guilds: 8, members: 50, ..Options::default() };
    let mut discord = Discord::new(options, now);
    let mut texts = Vec::new();
    discord.accept(now, 1, "v=10&encoding=json");
    let identify = format!(
        r#"{{"op":2,"d":{{"token":"t","intents":{INTENTS_ALL},"large_threshold":250,"properties":{{}},"shard":[0,2]}}}}"#
    );
    discord.handle_text(now, 1, identify.as_bytes());
    while let Some(output) = discord.poll_output() {
        if let Output::Text { payload, .. } = output {
            texts.push(String::from_utf8(payload.to_vec()).unwrap());
        }
    }
    for (seq, (name, d)) in discord.recorded_events((0, 2, INTENTS_ALL), 5000).into_iter().enumerate() {
        texts.push(format!(r#"{{"t":"{name}","s":{},"op":0,"d":{d}}}"#, seq + 100));
    }
    let mut refused: BTreeMap<String, (u32, String)> = BTreeMap::new();
    // One event is there because nobody knows it.
    for text in texts.iter().filter(|text| !text.contains("\"GUILD_NOVELTY_UPDATE\"")) {
        if let Err(error) = Parser::Serde.parse(text.clone()) {
            let name = text.split('"').nth(3).unwrap_or_default().to_owned();
            refused.entry(name).or_insert((0, error)).0 += 1;
        }
    }
    assert!(texts.len() > 5000 && refused.is_empty(), "of {} texts: {refused:#?}", texts.len());
}
