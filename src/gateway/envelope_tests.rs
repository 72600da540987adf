use super::*;
use crate::base::Rng;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// What serde_json and the type rules of this module make of a payload; duplicates: the last one wins.
#[derive(Debug, Default, PartialEq)]
struct Oracle {
    op: Option<u64>,
    seq: Option<u64>,
    event: Option<String>,
    d: Option<String>,
}

impl<'de> serde::Deserialize<'de> for Oracle {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Oracle, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Oracle;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Oracle, A::Error> {
                let mut oracle = Oracle::default();
                while let Some(key) = map.next_key::<KeyText>()? {
                    let value: &RawValue = map.next_value()?;
                    let text = value.get();
                    let integer = || match text.bytes().all(|b| b.is_ascii_digit()) {
                        true => text.parse().map_err(|_| serde::de::Error::custom("too large")),
                        false => Err(serde::de::Error::custom("not an integer")),
                    };
                    match key.0.as_str() {
                        "op" => oracle.op = Some(integer()?),
                        "s" if text == "null" => oracle.seq = None,
                        "s" => oracle.seq = Some(integer()?),
                        "t" if text == "null" => oracle.event = None,
                        "t" if !text.starts_with('"') => return Err(serde::de::Error::custom("no name")),
                        "t" => oracle.event = Some(lossy_string(text)),
                        "d" => oracle.d = Some(text.to_owned()),
                        _ => {}
                    }
                }
                match oracle.op {
                    Some(_) => Ok(oracle),
                    None => Err(serde::de::Error::custom("no op")),
                }
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

/// A key of which lone surrogates are no error: serde_json refuses them in `String`, RFC 8259 does not.
struct KeyText(String);

impl<'de> serde::Deserialize<'de> for KeyText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<KeyText, D::Error> {
        struct Bytes;
        impl<'de> Visitor<'de> for Bytes {
            type Value = KeyText;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }
            fn visit_str<E>(self, text: &str) -> Result<KeyText, E> {
                Ok(KeyText(text.to_owned()))
            }
        }
        deserializer.deserialize_str(Bytes)
    }
}

fn lossy_string(json: &str) -> String {
    serde_json::from_str(json).unwrap_or_else(|_| "(surrogate)".to_owned())
}

/// Compares the two readers. Which way they may differ: a fault inside a nested value is the scan's to overlook.
fn compare(payload: &[u8]) {
    let oracle = serde_json::from_slice::<Oracle>(payload);
    let scanned = scan(payload);
    match (&oracle, &scanned) {
        (Ok(oracle), Ok(envelope)) => {
            let mut unescaped = String::new();
            assert_eq!(Some(envelope.op), oracle.op);
            assert_eq!(envelope.seq, oracle.seq);
            assert_eq!(envelope.d.map(|d| d.of(payload)), oracle.d.as_ref().map(|d| d.as_bytes()));
            let name = envelope.event_name(payload, &mut unescaped);
            if oracle.event.as_deref() != Some("(surrogate)") {
                assert_eq!(name, oracle.event.as_deref());
            }
        }
        (Ok(_), Err(e)) if e.problem == Problem::Value(Fault::TooDeep) => {}
        (Ok(_), Err(e)) => panic!("refused what serde_json reads: {e}: {}", payload.escape_ascii()),
        (Err(_), _) => {}
    }
    // The usual order and any order are one reading.
    if let Some(envelope) = usual(payload)
        && simdutf8::basic::from_utf8(payload).is_ok()
    {
        assert_eq!(Reader { payload, at: 0 }.envelope(), Ok(envelope));
    }
}

fn good(text: &str) -> (u64, Option<u64>, Option<String>, Option<String>) {
    let payload = text.as_bytes();
    let envelope = scan(payload).unwrap_or_else(|e| panic!("{e}: {text}"));
    compare(payload);
    let mut unescaped = String::new();
    let name = envelope.event_name(payload, &mut unescaped).map(str::to_owned);
    let d = envelope.d.map(|d| String::from_utf8(d.of(payload).to_vec()).unwrap());
    (envelope.op, envelope.seq, name, d)
}

fn bad(text: &[u8]) -> (usize, Problem) {
    let error = scan(text).expect_err(&text.escape_ascii().to_string());
    compare(text);
    (error.offset, error.problem)
}

fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

#[test]
fn the_usual_order_and_every_other() {
    assert_eq!(
        good(r#"{"t":"A","s":7,"op":0,"d":{"x":[1]}}"#),
        (0, Some(7), some("A"), some(r#"{"x":[1]}"#))
    );
    assert_eq!(good(r#"{"t":null,"s":null,"op":11,"d":null}"#), (11, None, None, some("null")));
    assert_eq!(good(r#"{"op":11}"#), (11, None, None, None));
    assert_eq!(good(r#"{"d":{"op":7},"op":0,"s":3,"t":"B"}"#), (0, Some(3), some("B"), some(r#"{"op":7}"#)));
    assert_eq!(good(" {\n\"op\" : 1 ,\t\"d\" : [ ] \r}\n "), (1, None, None, some("[ ]")));
    assert_eq!(good(r#"{"op":9,"d":false}"#).3, some("false"));
    assert_eq!(good(r#"{"op":1,"d":-1.5e+3}"#).3, some("-1.5e+3"));
    assert_eq!(good(r#"{"op":0,"d":"a\"}"}"#).3, some(r#""a\"}""#));
    assert_eq!(scan(br#"{"op":11}"#).unwrap().d(b"{}"), b"null");
}

#[test]
fn keys_match_whole_by_case_and_after_unescaping() {
    let text = r#"{"O":1,"OP":2,"opx":3,"o":4,"":5,"\u006fp":6,"\u0064":7,"\u0073":8,"\u0074":"\u0041\ud83d\ude00\n\/"}"#;
    assert_eq!(good(text), (6, Some(8), some("A😀\n/"), some("7")));
    assert_eq!(good(r#"{"op":1,"o\u0070\u0070":9,"\u00e4":3,"\n":4,"\u0000":1}"#).0, 1);
    // A lone surrogate reads as the replacement character and does not swallow what follows.
    assert_eq!(good(r#"{"op":0,"t":"\ud83dx\ude00\ud83d\u0041"}"#).2, some("\u{fffd}x\u{fffd}\u{fffd}A"));
}

#[test]
fn the_last_of_several_equal_keys_wins() {
    let text = r#"{"t":"A","s":1,"op":7,"d":1,"t":"B","s":2,"op":0,"d":2}"#;
    assert_eq!(good(text), (0, Some(2), some("B"), some("2")));
    assert_eq!(good(r#"{"t":"A","s":1,"op":0,"t":null,"s":null}"#), (0, None, None, None));
    assert_eq!(good(r#"{"t":"\n","op":0,"t":"B"}"#).2, some("B"));
}

#[test]
fn numbers_are_exact_or_refused() {
    assert_eq!(
        good(r#"{"op":4294967306,"s":18446744073709551615}"#),
        (4294967306, Some(u64::MAX), None, None)
    );
    assert_eq!(good(r#"{"op":0,"s":9007199254740993}"#).1, Some(9007199254740993));
    for op in [
        "-1",
        "0.0",
        "0e0",
        "00",
        "01",
        "18446744073709551616",
        "\"0\"",
        "null",
        "true",
        "[]",
        "{}",
        "+1",
        "",
    ] {
        assert_eq!(bad(format!("{{\"op\":{op}}}").as_bytes()), (6, Problem::Op), "{op}");
        if op != "null" {
            assert_eq!(bad(format!("{{\"op\":0,\"s\":{op}}}").as_bytes()), (12, Problem::Seq), "{op}");
        }
    }
    assert_eq!(bad(br#"{"op":0,"s":nul}"#), (12, Problem::Seq));
    assert_eq!(bad(br#"{"op":0,"t":5}"#), (12, Problem::Event));
    for number in ["-", "1.", ".5", "1e", "1e+", "01", "--1", "0x1"] {
        bad(format!("{{\"op\":0,\"d\":{number}}}").as_bytes());
    }
}

#[test]
fn what_is_no_envelope_is_refused() {
    assert_eq!(bad(b""), (0, Problem::Expected("an object")));
    assert_eq!(bad(b"[]"), (0, Problem::Expected("an object")));
    assert_eq!(bad(b"{}"), (2, Problem::OpMissing));
    assert_eq!(bad(b"{\"op\":0}x"), (8, Problem::Expected("the end of the payload")));
    assert_eq!(bad(b"{\"op\":0}{\"op\":0}").0, 8);
    assert_eq!(bad(b"{\"op\":0,}").0, 8);
    assert_eq!(bad(b"{,\"op\":0}").0, 1);
    assert_eq!(bad(b"{\"op\" 0}").0, 6);
    assert_eq!(bad(b"{\"op\":0,\"d\":[1,{\"a\":2]}").1, Problem::Value(Fault::Mismatched));
    assert_eq!(bad(b"{\"op\":0,\"t\":\"\xff\"}"), (13, Problem::Utf8));
    assert_eq!(bad(b"\xef\xbb\xbf{\"op\":0}").0, 0);
    let deep = format!("{{\"op\":0,\"x\":{}", "[".repeat(10_000));
    assert_eq!(bad(deep.as_bytes()).1, Problem::Value(Fault::TooDeep));
    assert!(scan(b"{\"op\":}").unwrap_err().to_string().contains("at byte 6"));
}

#[test]
fn a_span_of_another_payload_reads_as_nothing() {
    assert_eq!(Span { start: 5, end: 9 }.of(b"abc"), b"");
}

#[test]
fn mutations_of_the_corpus_never_differ_from_a_full_parse() {
    let seed = std::env::var("RATEWAY_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(42);
    println!("RATEWAY_SEED={seed}");
    let mut rng = Rng::new(seed);
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus");
    let mut files = vec![];
    for folder in ["", "edge", "bad", "control"] {
        for entry in std::fs::read_dir(format!("{root}/{folder}")).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|e| e == "json") && path.metadata().unwrap().len() < 20_000 {
                files.push(path);
            }
        }
    }
    files.sort();
    assert!(files.len() > 200);
    let alphabet = b"{}[]\",:\\ ntsopd0u1e.-\x00\x1f\x80\xff";
    for path in &files {
        let original = std::fs::read(path).unwrap();
        compare(&original);
        for _ in 0..60 {
            let mut payload = original.clone();
            for _ in 0..=rng.below(2) {
                if payload.is_empty() {
                    continue;
                }
                // Half of the mutations hit the envelope itself, which is at the front.
                let bound = if rng.chance(1, 2) { payload.len().min(80) } else { payload.len() };
                let at = rng.below(bound as u64) as usize;
                let byte = alphabet[rng.below(alphabet.len() as u64) as usize];
                match rng.below(5) {
                    0 => payload.truncate(at),
                    1 => drop(payload.remove(at)),
                    2 => payload.insert(at, byte),
                    3 => payload[at] = byte,
                    _ => payload.swap(at, bound - 1),
                }
            }
            compare(&payload);
        }
    }
}
