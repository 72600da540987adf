//! The generated data is what Discord sends, as far as that can be checked: twilight reads all of it, and everything
//! has the keys of the corpus in the corpus' order.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use serde_json::value::RawValue;
use twilight_gateway::Event;
use twilight_model::gateway::payload::incoming::GuildCreate;

use crate::guilds::{Guild, MIX, Sizes, Stream, payload};
use crate::parse::Parser;
use crate::{CORPUS, corpus};

const SEED: u64 = 7;

fn generated(count: u64) -> Vec<Guild> {
    (0..count).map(|number| Guild::new(SEED, number, Sizes { presences: 300, ..Sizes::of(400) })).collect()
}

/// An object's keys as they come.
fn keys(object: &str) -> Vec<String> {
    // A map would sort them.
    struct Keys(Vec<String>);
    impl<'de> serde::Deserialize<'de> for Keys {
        fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct Visitor;
            impl<'de> serde::de::Visitor<'de> for Visitor {
                type Value = Keys;
                fn expecting(&self, out: &mut std::fmt::Formatter) -> std::fmt::Result {
                    out.write_str("an object")
                }
                fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Keys, A::Error> {
                    let mut keys = Vec::new();
                    while let Some((key, _)) = map.next_entry::<String, serde::de::IgnoredAny>()? {
                        keys.push(key);
                    }
                    Ok(Keys(keys))
                }
            }
            deserializer.deserialize_map(Visitor)
        }
    }
    serde_json::from_str::<Keys>(object).unwrap().0
}

fn part<'a>(object: &'a str, key: &str) -> &'a str {
    let fields: BTreeMap<String, &RawValue> = serde_json::from_str(object).unwrap();
    fields[key].get()
}

/// The sequences of keys that things of one kind have. Channels are told apart by their type, as are activities.
fn shapes(guild: &str, kind: &str) -> BTreeSet<(String, Vec<String>)> {
    let (list, inner) = match kind {
        "users" => ("members", Some("user")),
        "activities" => ("presences", None),
        "colors" => ("roles", Some("colors")),
        "overwrites" => ("channels", None),
        _ => (kind, None),
    };
    let mut out = BTreeSet::new();
    for thing in corpus::elements(guild, list) {
        let things = match (kind, inner) {
            ("activities", _) => corpus::elements(&thing, "activities"),
            ("overwrites", _) => corpus::elements(&thing, "permission_overwrites"),
            (_, Some(inner)) => vec![part(&thing, inner).to_owned()],
            _ => vec![thing],
        };
        for thing in things {
            let typed = matches!(kind, "channels" | "activities" | "threads");
            out.insert((if typed { part(&thing, "type") } else { "" }.to_owned(), keys(&thing)));
        }
    }
    out
}

#[test]
fn keys_are_those_of_the_corpus_in_its_order() {
    let recorded: Vec<String> =
        ["small", "medium", "large"].iter().map(|size| corpus::guild(CORPUS, size)).collect();
    let made: Vec<String> = generated(5).iter().map(Guild::create).collect();
    assert!(made.iter().all(|guild| keys(guild) == keys(&recorded[2])));
    for kind in [
        "members",
        "users",
        "roles",
        "colors",
        "channels",
        "overwrites",
        "presences",
        "emojis",
        "stickers",
        "voice_states",
    ] {
        let all = |guilds: &[String]| guilds.iter().flat_map(|it| shapes(it, kind)).collect::<BTreeSet<_>>();
        let (recorded, mut made) = (all(&recorded), all(&made));
        // The corpus has no channel of type 5; one has the keys of type 0.
        made.retain(|(of, keys)| of != "5" || !recorded.contains(&("0".to_owned(), keys.clone())));
        let odd: Vec<_> = made.difference(&recorded).collect();
        assert!(odd.is_empty(), "{kind}: {odd:?} is not in the corpus");
        assert!(made.len() > recorded.len() / 2, "{kind}: {made:?} is less than {recorded:?}");
    }
    for kind in ["activities", "threads"] {
        // Some keys are left out of a simple game, and threads of forums have tags: only the order counts.
        for (_, keys) in made.iter().flat_map(|it| shapes(it, kind)) {
            assert!(keys.is_sorted_by(|a, b| a > b), "{kind}: {keys:?}");
        }
    }
}

#[test]
fn events_have_the_keys_of_the_corpus() {
    let mut seen = BTreeSet::new();
    for (name, d) in Stream::new(SEED, generated(5)).take(30_000) {
        let variants = std::fs::read_dir(CORPUS).unwrap().filter_map(|entry| {
            let path = entry.unwrap().path();
            let file = path.file_name()?.to_str()?.to_owned();
            (file.split('.').next() == Some(name)).then(|| std::fs::read_to_string(path).unwrap())
        });
        if !seen.insert((name, keys(&d))) {
            continue;
        }
        let of_corpus: Vec<Vec<String>> = variants.map(|text| keys(part(&text, "d"))).collect();
        // Which channels, threads and messages have which keys depends on their kind (a bot's message has no nonce,
        // say), so those may leave some out; their order stays.
        let partly = matches!(name, "CHANNEL_UPDATE" | "THREAD_CREATE" | "MESSAGE_CREATE" | "MESSAGE_UPDATE");
        let fits = |theirs: &Vec<String>| {
            let mut rest = theirs.iter();
            *theirs == keys(&d) || partly && keys(&d).iter().all(|key| rest.any(|it| it == key))
        };
        assert!(of_corpus.iter().any(fits), "{name}: {:?} is not in the corpus", keys(&d));
    }
    assert_eq!(seen.iter().map(|(name, _)| name).collect::<BTreeSet<_>>().len(), MIX.len());
}

#[test]
fn twilight_reads_everything_whole() {
    for guild in generated(5) {
        for parser in Parser::ALL {
            let event = parser.parse(payload("GUILD_CREATE", 1, &guild.create())).unwrap();
            let Event::GuildCreate(event) = event else { panic!("another event") };
            let GuildCreate::Available(read) = *event else { panic!("unavailable") };
            assert_eq!((read.members.len(), read.presences.len()), (400, 300));
            let sizes = guild.sizes;
            assert_eq!((read.channels.len(), read.roles.len()), (sizes.channels, sizes.roles));
            assert_eq!((read.emojis.len(), read.threads.len()), (sizes.emojis, sizes.threads));
            assert_eq!((read.stickers.len(), read.voice_states.len()), (sizes.stickers, sizes.voice_states));
        }
    }
    for (seq, (name, d)) in (1..).zip(Stream::new(SEED, generated(5)).take(30_000)) {
        let text = payload(name, seq, &d);
        for parser in Parser::ALL {
            let event = parser.parse(text.clone()).unwrap_or_else(|error| panic!("{error}: {text}"));
            assert_eq!(event.kind().name(), Some(name));
        }
    }
}

#[test]
fn the_mix_is_as_said_and_the_same_every_time() {
    assert_eq!(MIX.iter().map(|(_, share)| share).sum::<u32>(), 1000);
    let stream = || Stream::new(SEED, generated(3)).take(20_000).collect::<Vec<_>>();
    let (events, again) = (stream(), stream());
    assert!(events == again, "the same seed gave something else");
    for (name, share) in MIX {
        let count = events.iter().filter(|it| it.0 == name).count() as f64 / 20.0;
        assert!((count - f64::from(share)).abs() < 12.0, "{name}: {count} of 1,000");
    }
    let mut contents: Vec<usize> = events
        .iter()
        .filter(|it| it.0 == "MESSAGE_CREATE")
        .map(|it| serde_json::from_str::<Value>(&it.1).unwrap()["content"].as_str().unwrap().chars().count())
        .collect();
    contents.sort_unstable();
    let (median, last) = (contents[contents.len() / 2], contents[contents.len() - 1]);
    assert!((20..60).contains(&median) && last > 300 && last <= 2000, "{median} {last}");
}

#[test]
fn more_of_one_thing_leaves_the_others_as_they_are() {
    let (few, many) = (Sizes::of(50), Sizes { members: 90, emojis: 60, ..Sizes::of(50) });
    let (few, many) = (Guild::new(SEED, 1, few).create(), Guild::new(SEED, 1, many).create());
    for list in ["roles", "presences", "stickers"] {
        assert!(part(&few, list) == part(&many, list), "{list}");
    }
    assert!(many.contains(part(&few, "emojis").trim_end_matches(']')));
    let members = corpus::elements(&few, "members");
    assert!(members == corpus::elements(&many, "members")[..50]);
    assert!(part(&few, "members") != part(&Guild::new(SEED, 2, Sizes::of(50)).create(), "members"));
}
