//! The encoding against a judge of its own: the corpus, seeded nasty values, damaged bytes.

mod generator;
mod judge;

use std::path::PathBuf;

use self::generator::{Nasty, seed};
use self::judge::{Value, read};
use super::shapes::VARIANTS_MAX;
use super::*;
use crate::base::Rng;

/// Encodes and decodes `json`, compares, gives back the bytes.
fn round(encoder: &mut Encoder, shapes: &mut Shapes, json: &[u8]) -> Vec<u8> {
    let (mut bytes, mut text) = (Vec::new(), Vec::new());
    encoder.encode(json, shapes, &mut bytes).expect("encodes");
    decode(&bytes, shapes, &mut text).expect("decodes");
    // No assert_eq: values of a megabyte do not help anybody.
    let shown = |text: &[u8]| String::from_utf8_lossy(&text[..text.len().min(2_000)]).into_owned();
    assert!(
        read(&text) == read(json),
        "in:  {}
out: {}",
        shown(json),
        shown(&text)
    );
    bytes
}

fn corpus(folder: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(folder);
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|it| it.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
}

#[test]
fn every_file_of_the_corpus_comes_back_equal() {
    let (mut encoder, mut shapes) = (Encoder::new(), Shapes::default());
    for folder in ["", "edge", "control"] {
        for (path, json) in corpus(folder) {
            println!("{}", path.display());
            round(&mut encoder, &mut shapes, &json);
        }
    }
    let copy = Shapes::from_bytes(shapes.as_bytes()).expect("a table reads its own bytes");
    assert!(copy.as_bytes() == shapes.as_bytes());
}

#[test]
fn bad_files_are_refused_by_those_who_refuse_json() {
    let (mut encoder, mut shapes, mut out) = (Encoder::new(), Shapes::default(), Vec::new());
    for (path, json) in corpus("bad") {
        let serde = serde_json::from_slice::<&serde_json::value::RawValue>(&json).is_ok();
        let ours = encoder.encode(&json, &mut shapes, &mut out);
        // Its raw values have no limit of depth.
        let expected = serde && ours != Err(Error::TooDeep);
        assert_eq!(ours.is_ok(), expected, "{}: {ours:?}", path.display());
        assert_eq!(out.is_empty(), ours.is_err());
    }
}

#[test]
fn scalars_take_their_packed_form_only_when_it_comes_back() {
    let (mut encoder, mut shapes) = (Encoder::new(), Shapes::default());
    // Text of the value, bytes it may take.
    let cases = [
        ("\"761014731138494465\"", 9),
        ("\"0761014731138494465\"", 32),
        ("\"18446744073709551615\"", 9),
        ("\"18446744073709551616\"", 22),
        ("\"2048\"", 3),
        ("\"-1\"", 4),
        ("\"6d868833d8c2796f789d183c59c6b2a5\"", 17),
        ("\"a_6d868833d8c2796f789d183c59c6b2a5\"", 17),
        ("\"6D868833d8c2796f789d183c59c6b2a5\"", 34),
        ("\"2020-01-06T22:18:42.451647+00:00\"", 8),
        ("\"2020-02-30T22:18:42.451647+00:00\"", 34),
        ("\"2020-02-29T23:59:59+00:00\"", 6),
        ("\"2021-02-29T23:59:59+00:00\"", 34),
        ("\"2020-01-06T22:18:42.451Z\"", 7),
        ("\"2020-01-06T22:18:42Z\"", 6),
        ("\"1970-01-01T00:00:00+00:00\"", 6),
        ("\"3999-12-31T23:59:59.999999+00:00\"", 8),
        ("\"4000-01-01T00:00:00.000000+00:00\"", 40),
        ("\"2020-01-06T24:00:00Z\"", 22),
        ("\"2020-01-06T22:18:60Z\"", 22),
        ("\"online\"", 2),
        ("\"tomasz.rook\"", 11),
        ("0", 2),
        ("-1", 2),
        ("-9223372036854775808", 11),
        ("18446744073709551615", 11),
        ("18446744073709551616", 22),
        ("1.5", 5),
        ("0.1234567890123", 9),
        ("1e400", 8),
        ("-0.0", 6),
        ("5e-324", 9),
        ("1.7976931348623157e308", 9),
        ("\"\\ud800\"", 8),
        ("\"\\udc00\\ud800\"", 14),
        ("\"\\u0000\\u001f\\\"\\\\\\/\\b\\f\\n\\r\\t\"", 40),
    ];
    for (json, most) in cases {
        let bytes = round(&mut encoder, &mut shapes, json.as_bytes());
        assert!(bytes.len() <= most, "{json} takes {}", bytes.len());
    }
    for day in 0..366 * 5 {
        let (month, day_of_month) = (day / 31 % 12 + 1, day % 31 + 1);
        for year in [1970, 1999, 2000, 2023, 2024, 2100, 2400] {
            let json = format!("\"{year}-{month:02}-{day_of_month:02}T12:34:56.000001+00:00\"");
            round(&mut encoder, &mut shapes, json.as_bytes());
        }
    }
}

#[test]
fn nasty_values_come_back_equal() {
    let seed = seed();
    // A table that holds them, one that soon takes general shapes alone, one that is full at once.
    for capacity in [4_096, 40, 1] {
        let (mut encoder, mut shapes) = (Encoder::new(), Shapes::with_capacity(capacity));
        for case in 0..1_500 {
            let mut nasty = Nasty::new(seed + case);
            let json = nasty.value();
            round(&mut encoder, &mut shapes, &json);
        }
        assert!(capacity > 1 || shapes.stats().refused > 0);
        Shapes::from_bytes(shapes.as_bytes()).expect("a table reads its own bytes");
    }
}

#[test]
fn depth_ends_at_its_limit() {
    let (mut encoder, mut shapes, mut out) = (Encoder::new(), Shapes::default(), Vec::new());
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        let nested = |depth: usize| format!("{}1{}", open.repeat(depth), close.repeat(depth));
        round(&mut encoder, &mut shapes, nested(DEPTH_MAX).as_bytes());
        for depth in [DEPTH_MAX + 1, 5_000] {
            let refused = encoder.encode(nested(depth).as_bytes(), &mut shapes, &mut out);
            assert_eq!(refused, Err(Error::TooDeep));
        }
    }
    assert_eq!(encoder.encode(&vec![b' '; ENTITY_MAX + 1], &mut shapes, &mut out), Err(Error::TooLarge));
}

#[test]
fn damaged_bytes_give_an_error_or_json() {
    let seed = seed();
    let mut rng = Rng::new(seed);
    let (mut encoder, mut shapes) = (Encoder::new(), Shapes::with_capacity(64));
    let (mut bytes, mut text) = (Vec::new(), Vec::new());
    let mut whole = 0;
    for case in 0..20_000 {
        if case % 20 == 0 {
            let json = Nasty::new(seed + case).value();
            encoder.encode(&json, &mut shapes, &mut bytes).unwrap();
        }
        let mut damaged = bytes.clone();
        if case % 3 == 0 {
            damaged =
                (0..rng.below(40)).map(|_| rng.below(if case % 2 == 0 { 256 } else { 24 }) as u8).collect();
        }
        for _ in 0..rng.below(4) {
            if !damaged.is_empty() {
                let at = rng.below(damaged.len() as u64) as usize;
                damaged[at] = rng.next_u64() as u8;
            }
        }
        if rng.chance(1, 4) {
            damaged.truncate(rng.below(damaged.len() as u64 + 1) as usize);
        }
        if decode(&damaged, &shapes, &mut text).is_ok() {
            read(&text);
            whole += 1;
        }
        if let Ok(fields) = fields(&damaged, &shapes) {
            fields.for_each(|field| {
                text.clear();
                if let Ok(field) = field {
                    let _ = (field.as_u64(), field.write(&shapes, &mut text));
                }
            });
        }
    }
    assert!(whole > 0);
    for _ in 0..500 {
        let mut table = shapes.as_bytes().to_vec();
        let used = table.len() / 2;
        table[rng.below(used as u64) as usize] ^= 1 << rng.below(8);
        if let Ok(shapes) = Shapes::from_bytes(&table)
            && decode(&bytes, &shapes, &mut text).is_ok()
        {
            read(&text);
        }
    }
}

fn object(value: Value) -> std::collections::BTreeMap<Vec<u16>, Value> {
    match value {
        Value::Object(map) => map,
        other => panic!("{other:?}"),
    }
}

#[test]
fn merging_replaces_what_the_patch_has() {
    let seed = seed();
    for capacity in [4_096, 20, 1] {
        let (mut encoder, mut shapes) = (Encoder::new(), Shapes::with_capacity(capacity));
        let (mut old, mut new, mut text) = (Vec::new(), Vec::new(), Vec::new());
        for case in 0..1_000 {
            let mut nasty = Nasty::new(seed + case);
            let before = nasty.object(3);
            encoder.encode(&before, &mut shapes, &mut old).unwrap();
            let mut model = object(read(&before));
            for _ in 0..3 {
                let patch = nasty.object(3);
                encoder.merge(&old, &patch, &mut shapes, &mut new).unwrap();
                model.extend(object(read(&patch)));
                decode(&new, &shapes, &mut text).unwrap();
                assert!(object(read(&text)) == model, "case {case}");
                std::mem::swap(&mut old, &mut new);
            }
            let mut seen = std::collections::BTreeMap::new();
            for field in fields(&old, &shapes).unwrap() {
                let field = field.unwrap();
                text.clear();
                field.write(&shapes, &mut text).unwrap();
                let key = [b"\"", field.key(), b"\""].concat();
                let Value::String(key) = read(&key) else { panic!() };
                seen.insert(key, read(&text));
            }
            assert!(seen == model, "case {case}");
        }
    }
}

#[test]
fn single_fields_are_read() {
    let (mut encoder, mut shapes, mut out) = (Encoder::new(), Shapes::default(), Vec::new());
    let json =
        br#"{"id":"761014731138494465","n":null,"x":1,"t":true,"m":{"a":[1,2]},"q\"":"0","x":7,"e":{}}"#;
    encoder.encode(json, &mut shapes, &mut out).unwrap();
    let get = |key: &str| field(&out, &shapes, key).unwrap();
    assert_eq!(get("id").unwrap().as_u64(), Some(761_014_731_138_494_465));
    assert!(get("n").unwrap().is_null());
    assert_eq!(get("x").unwrap().as_u64(), Some(7));
    assert_eq!(get("t").unwrap().as_bool(), Some(true));
    assert_eq!(get("q\"").unwrap().as_u64(), Some(0));
    assert!(get("none").is_none());
    let mut text = b"m=".to_vec();
    get("m").unwrap().write(&shapes, &mut text).unwrap();
    assert_eq!(text, br#"m={"a":[1,2]}"#);
    encoder.encode(b"[1]", &mut shapes, &mut out).unwrap();
    assert_eq!(field(&out, &shapes, "id").err(), Some(Error::NotAnObject));
}

#[test]
fn the_table_stays_within_its_limits() {
    let (mut encoder, mut shapes, mut out) = (Encoder::new(), Shapes::with_capacity(1_024), Vec::new());
    let bytes = shapes.as_bytes().len();
    // One key sequence in very many variants: it gets its share and then the general shape.
    for variant in 0..2_000u32 {
        let values: Vec<String> = (0..11)
            .map(|bit| format!("\"k{bit}\":{}", if variant >> bit & 1 == 0 { "null" } else { "7" }))
            .collect();
        round(&mut encoder, &mut shapes, format!("{{{}}}", values.join(",")).as_bytes());
    }
    assert_eq!(shapes.stats().shapes, usize::from(VARIANTS_MAX) + 1);
    assert_eq!(shapes.stats().generalised, 2_000 - u64::from(VARIANTS_MAX));
    // Ids as keys never get one.
    encoder.encode(br#"{"761014731138494465":1}"#, &mut shapes, &mut out).unwrap();
    assert_eq!(shapes.stats().refused, 1);
    for key in 0..2_000 {
        round(&mut encoder, &mut shapes, format!("{{\"key{key}\":1}}").as_bytes());
    }
    assert_eq!(shapes.stats().shapes, 1_024);
    assert_eq!(shapes.as_bytes().len(), bytes);
}
