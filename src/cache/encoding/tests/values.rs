//! The parts of parsed texts against the judge and serde_json.

use super::*;
use crate::cache::encoding::Value as Parsed;

/// Compares `value` with what serde_json makes of the same text, all the way down.
fn compare(value: Parsed<'_>, expected: &serde_json::Value) {
    use serde_json::Value as Json;
    assert_eq!(value.is_null(), expected.is_null());
    assert_eq!(value.as_bool(), expected.as_bool());
    assert_eq!(value.is_string(), expected.is_string());
    assert_eq!(value.is_array(), expected.is_array());
    assert_eq!(value.is_object(), expected.is_object());
    if let Json::Number(number) = expected
        && !number.to_string().contains("-0")
    {
        assert_eq!(value.as_u64(), number.as_u64(), "{number}");
        assert_eq!(value.as_id(), number.as_u64());
    }
    match expected {
        Json::String(text) => {
            assert!(value.is_text(text));
            assert!(!value.is_text(&format!("{text}x")));
            let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            assert_eq!(value.as_id(), if digits { text.parse().ok() } else { None });
            assert_eq!(value.as_u64(), None);
        }
        Json::Array(list) => {
            assert_eq!(value.len(), list.len());
            assert_eq!(value.elements().count(), list.len());
            value.elements().zip(list).for_each(|(value, expected)| compare(value, expected));
        }
        Json::Object(map) => {
            // serde_json keeps the last of equal keys as well.
            assert!(value.len() >= map.len());
            assert_eq!(value.fields().count(), value.len());
            assert!(value.get("no such key").is_none());
            // Each looks through all fields; of wide objects some do.
            for (key, expected) in map.iter().take(20) {
                let last = value.fields().filter(|(name, _)| name.is(key)).last();
                let (name, last) = last.expect("a field");
                assert_eq!(
                    name.as_id().is_some(),
                    !key.is_empty() && key.bytes().all(|it| it.is_ascii_digit())
                );
                if key.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"') {
                    compare(value.get(key).expect("a field"), expected);
                } else {
                    compare(last, expected);
                }
            }
            return;
        }
        _ => {}
    }
    assert!(value.get("id").is_none());
    assert_eq!(value.fields().count(), 0);
}

#[test]
fn accessors_agree_with_serde_json() {
    let seed = seed();
    let mut parser = Parser::new();
    let mut compared = 0;
    for case in 0..3_000 {
        let json = Nasty::new(seed + case).value();
        let expected = serde_json::from_slice::<serde_json::Value>(&json);
        parser
            .read(&json, |value| {
                let mut text = b"x".to_vec();
                value.write(&mut text);
                assert!(read(&text[1..]) == read(&json));
                if let Ok(expected) = &expected {
                    compare(value, expected);
                    compared += 1;
                }
            })
            .unwrap();
        // The other tape, for the same text.
        if let Ok(expected) = &expected {
            let mixed = [b"[1e400,", json.as_slice(), b"]"].concat();
            parser
                .read(&mixed, |value| {
                    let mut text = Vec::new();
                    value.write(&mut text);
                    assert!(read(&text) == read(&mixed));
                    compare(value.elements().nth(1).unwrap(), expected);
                })
                .unwrap();
        }
    }
    assert!(compared > 500 && parser.stats().plain > 100);
}

#[test]
fn ids_are_read_from_numbers_and_digits() {
    let cases = [
        ("7", Some(7)),
        ("\"7\"", Some(7)),
        ("\"0007\"", Some(7)),
        ("\"\"", None),
        ("\"-7\"", None),
        ("-7", None),
        ("7.0", None),
        ("\"7 \"", None),
        ("18446744073709551615", Some(u64::MAX)),
        ("18446744073709551616", None),
        ("\"18446744073709551615\"", Some(u64::MAX)),
        ("\"18446744073709551616\"", None),
        ("\"00000000000000018446744073709551615\"", Some(u64::MAX)),
        ("\"00000000000000000000000000000123\"", Some(123)),
        ("\"000000000123\"", Some(123)),
        ("null", None),
        ("[7]", None),
    ];
    let mut bench = Bench::new(64);
    for (json, id) in cases {
        bench.parser.read(json.as_bytes(), |value| assert_eq!(value.as_id(), id, "{json}")).unwrap();
        // Encoded they say the same, also as the entity's own.
        for own in [0, 7, u64::MAX] {
            let context = Context { own, parent: 0 };
            let bytes = bench.encode(format!("{{\"k\":{json},\"l\":[{json}]}}").as_bytes(), context);
            let entity = bench.entity(&bytes, context);
            assert_eq!(entity.field("k").unwrap().unwrap().as_id(), id, "{json}");
            let list = entity.field("l").unwrap().unwrap();
            assert_eq!(list.elements().next().unwrap().as_id(), id, "{json}");
        }
    }
}

#[test]
fn single_fields_are_read() {
    let mut bench = Bench::new(64);
    let json = br#"{"id":"761014731138494465","n":null,"x":1,"t":true,"m":{"a":[1,2],"b":"online"},"q\"":"0","x":7,"e":{}}"#;
    let bytes = bench.encode(json, NOBODY);
    let entity = bench.entity(&bytes, NOBODY);
    let get = |key: &str| entity.field(key).unwrap();
    assert_eq!(get("id").unwrap().as_id(), Some(761_014_731_138_494_465));
    assert_eq!(get("id").unwrap().as_u64(), None);
    assert!(get("id").unwrap().is_text("761014731138494465"));
    assert!(get("n").unwrap().is_null());
    assert_eq!(get("x").unwrap().as_u64(), Some(7));
    assert_eq!(get("t").unwrap().as_bool(), Some(true));
    assert_eq!(get("q\"").unwrap().as_id(), Some(0));
    assert!(get("none").is_none());
    let inner = get("m").unwrap();
    assert!(inner.get("b").unwrap().unwrap().is_text("online"));
    assert!(inner.get("c").unwrap().is_none());
    assert!(get("x").unwrap().get("b").unwrap().is_none());
    let list: Vec<_> = inner.get("a").unwrap().unwrap().elements().map(|it| it.as_u64()).collect();
    assert_eq!(list, [Some(1), Some(2)]);
    let mut text = b"m=".to_vec();
    inner.write(&mut text).unwrap();
    assert_eq!(text, br#"m={"a":[1,2],"b":"online"}"#);
    let bytes = bench.encode(b"[1]", NOBODY);
    assert_eq!(bench.entity(&bytes, NOBODY).field("id").err(), Some(Error::NotAnObject));
}

#[test]
fn strings_of_each_form_are_recognised() {
    let mut bench = Bench::new(256);
    let texts = [
        "",
        "0",
        "7",
        "007",
        "761014731138494465",
        "online",
        "tomasz.rook",
        "say \"hi\"\n",
        "Привет",
        "6d868833d8c2796f789d183c59c6b2a5",
        "a_6d868833d8c2796f789d183c59c6b2a5",
        "deadbeef01",
        "2020-01-06T22:18:42.451647+00:00",
        "2020-01-06T22:18:42Z",
        "\\n",
        "n",
    ];
    let context = Context { own: 7, parent: 0 };
    for text in texts {
        let json = serde_json::json!({ "k": text }).to_string();
        let bytes = bench.encode(json.as_bytes(), context);
        let field = bench.entity(&bytes, context).field("k").unwrap().unwrap();
        for other in texts {
            assert_eq!(field.is_text(other), text == other, "{text:?} {other:?}");
        }
    }
}
