//! The encoding against a judge of its own: the corpus, seeded nasty values, damaged bytes.

mod changes;
mod contexts;
mod generator;
mod judge;
mod table;
mod values;

use std::collections::BTreeMap;
use std::path::PathBuf;

use self::generator::{Nasty, seed};
use self::judge::{Value, read};
use super::{
    Context, DEPTH_MAX, ENTITY_MAX, Encoder, Entity, Error, Parser, Pick, Shapes, TEXT_MAX, id_payload,
};
use crate::base::Rng;

/// What a test writes with.
struct Bench {
    parser: Parser,
    encoder: Encoder,
    shapes: Shapes,
}

impl Bench {
    fn new(capacity: usize) -> Bench {
        let shapes = Shapes::with_capacity(capacity);
        Bench { parser: Parser::new(), encoder: Encoder::new(), shapes }
    }

    fn entity<'a>(&'a self, bytes: &'a [u8], context: Context) -> Entity<'a> {
        Entity { bytes, context, shapes: &self.shapes }
    }

    /// Encodes `json` behind a byte that must stay.
    fn try_encode(&mut self, json: &[u8], pick: Pick<'_>, context: Context) -> Result<Vec<u8>, Error> {
        let Bench { parser, encoder, shapes } = self;
        let mut out = vec![7];
        let done = parser
            .read(json, |value| encoder.encode(value, pick, context, shapes, &mut out))
            .and_then(|done| done);
        assert_eq!(out.remove(0), 7);
        assert!(done.is_ok() || out.is_empty());
        done.map(|()| out)
    }

    fn encode(&mut self, json: &[u8], context: Context) -> Vec<u8> {
        self.try_encode(json, Pick::All, context).expect("encodes")
    }

    fn text(&self, bytes: &[u8], context: Context) -> Vec<u8> {
        let mut text = b"x".to_vec();
        self.entity(bytes, context).write(&mut text).expect("decodes");
        assert_eq!(text.remove(0), b'x');
        text
    }

    /// Encodes and decodes `json`, compares, gives back the bytes.
    fn round(&mut self, json: &[u8]) -> Vec<u8> {
        let bytes = self.encode(json, NOBODY);
        let text = self.text(&bytes, NOBODY);
        // No assert_eq: values of a megabyte do not help anybody.
        let shown = |text: &[u8]| String::from_utf8_lossy(&text[..text.len().min(2_000)]).into_owned();
        assert!(read(&text) == read(json), "in:  {}\nout: {}", shown(json), shown(&text));
        assert!(self.encode(json, NOBODY) == bytes, "two forms: {}", shown(json));
        bytes
    }
}

const NOBODY: Context = Context { own: 0, parent: 0 };

/// The last of equal keys, by key.
fn object(value: Value) -> BTreeMap<Vec<u16>, Value> {
    match value {
        Value::Object(map) => map,
        other => panic!("{other:?}"),
    }
}

/// A key as the judge has it.
fn utf16(key: &str) -> Vec<u16> {
    key.encode_utf16().collect()
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
    let mut bench = Bench::new(4_096);
    for folder in ["", "edge", "control"] {
        for (path, json) in corpus(folder) {
            println!("{}", path.display());
            bench.round(&json);
        }
    }
    let table = bench.shapes.to_bytes();
    let copy = Shapes::from_bytes(&table).expect("a table reads its own bytes");
    assert!(copy.to_bytes() == table);
}

#[test]
fn bad_files_are_refused_by_those_who_refuse_json() {
    let mut bench = Bench::new(4_096);
    for (path, json) in corpus("bad") {
        let serde = serde_json::from_slice::<&serde_json::value::RawValue>(&json).is_ok();
        let ours = bench.try_encode(&json, Pick::All, NOBODY).map(drop);
        // Its raw values have no limit of depth.
        let expected = serde && ours != Err(Error::TooDeep);
        assert_eq!(ours.is_ok(), expected, "{}: {ours:?}", path.display());
    }
}

#[test]
fn scalars_take_their_packed_form_only_when_it_comes_back() {
    let mut bench = Bench::new(4_096);
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
        let bytes = bench.round(json.as_bytes());
        // One byte says that this is no object.
        assert!(bytes.len() <= most + 1, "{json} takes {}", bytes.len());
    }
    for day in 0..366 * 5 {
        let (month, day_of_month) = (day / 31 % 12 + 1, day % 31 + 1);
        for year in [1970, 1999, 2000, 2023, 2024, 2100, 2400] {
            let json = format!("\"{year}-{month:02}-{day_of_month:02}T12:34:56.000001+00:00\"");
            bench.round(json.as_bytes());
        }
    }
}

#[test]
fn coded_text_comes_back_and_nothing_else_is_read() {
    use super::coded::{coded_length, put_coded, write_coded};
    let mut rng = Rng::new(seed());
    let (mut coded, mut text) = (Vec::new(), Vec::new());
    for _ in 0..5_000 {
        let mut from = Vec::new();
        for _ in 0..rng.below(20) {
            from.push((if rng.chance(1, 20) { 0 } else { 32 }) + rng.below(96) as u8);
        }
        let plain = from.iter().all(|byte| (b' '..=b'~').contains(byte) && !matches!(byte, b'"' | b'\\'));
        assert_eq!(coded_length(&from).is_some(), plain);
        coded.clear();
        text.clear();
        if plain {
            put_coded(&mut coded, &from);
            assert_eq!(coded_length(&from), Some(coded.len()));
            write_coded(&mut text, &coded).unwrap();
            assert_eq!(text, from);
        }
        // Any bytes are one text's, or damage.
        let bytes: Vec<u8> = (0..rng.below(6)).map(|_| rng.next_u64() as u8).collect();
        text.clear();
        if write_coded(&mut text, &bytes).is_ok() {
            coded.clear();
            put_coded(&mut coded, &text);
            assert_eq!(coded, bytes);
        }
    }
}

#[test]
fn nasty_values_come_back_equal() {
    let seed = seed();
    // A table that holds them, one that soon takes general shapes alone, one that is full at once.
    for capacity in [4_096, 40, 1] {
        let mut bench = Bench::new(capacity);
        for case in 0..1_500 {
            let mut nasty = Nasty::new(seed + case);
            let json = nasty.value();
            bench.round(&json);
        }
        assert!(capacity > 1 || bench.shapes.stats().refused > 0);
        Shapes::from_bytes(&bench.shapes.to_bytes()).expect("a table reads its own bytes");
    }
}

#[test]
fn depth_ends_at_its_limit() {
    let mut bench = Bench::new(4_096);
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        let nested = |depth: usize| format!("{}1{}", open.repeat(depth), close.repeat(depth));
        bench.round(nested(DEPTH_MAX).as_bytes());
        for depth in [DEPTH_MAX + 1, 5_000] {
            let refused = bench.try_encode(nested(depth).as_bytes(), Pick::All, NOBODY);
            assert_eq!(refused, Err(Error::TooDeep));
        }
    }
    let long = vec![b' '; TEXT_MAX + 1];
    assert_eq!(bench.try_encode(&long, Pick::All, NOBODY), Err(Error::TooLarge));
    let long = format!("\"{}\"", "-".repeat(ENTITY_MAX));
    assert_eq!(bench.try_encode(long.as_bytes(), Pick::All, NOBODY), Err(Error::TooLarge));
}

#[test]
fn damaged_bytes_give_an_error_or_json() {
    let seed = seed();
    let mut rng = Rng::new(seed);
    let mut bench = Bench::new(64);
    let (mut bytes, mut text, mut scratch) = (Vec::new(), Vec::new(), Vec::new());
    let mut whole = 0;
    let context = Context { own: 761014731138494465, parent: 2048 };
    for case in 0..20_000 {
        if case % 20 == 0 {
            let json = Nasty::new(seed + case).value();
            bytes = bench.encode(&json, context);
        }
        let mut damaged = bytes.clone();
        if case % 3 == 0 {
            damaged =
                (0..rng.below(40)).map(|_| rng.below(if case % 2 == 0 { 256 } else { 26 }) as u8).collect();
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
        let Bench { parser, encoder, shapes } = &mut bench;
        let entity = Entity { bytes: &damaged, context, shapes };
        text.clear();
        let written = entity.write(&mut text);
        assert_eq!(entity.verify(&mut scratch), matches!(written, Ok(()) | Err(Error::TooLarge)));
        if written.is_ok() {
            read(&text);
            whole += 1;
        }
        if let Ok(fields) = entity.fields() {
            fields.flatten().for_each(|field| {
                let _ =
                    (field.as_id(), field.is_text("online"), field.get("a").is_ok(), field.write(&mut text));
                field.elements().for_each(|element| _ = element.as_id());
            });
        }
        let _ = (entity.id_place("id"), entity.field("name").is_ok());
        text.clear();
        let _ = encoder.without(entity, &["name"], &mut text);
        let _ = encoder.without_element(entity, "roles", 2048, &mut text);
        let patch = br#"{"id":"1","name":[{"a":1}],"user":{"id":"2048"}}"#;
        parser
            .read(patch, |patch| {
                let _ = encoder.merge(entity, patch, Pick::All, &mut text);
                encoder.matches(entity, patch, Pick::All)
            })
            .unwrap();
    }
    assert!(whole > 0);
    for _ in 0..500 {
        let mut table = bench.shapes.to_bytes();
        let at = rng.below(table.len() as u64) as usize;
        table[at] ^= 1 << rng.below(8);
        if let Ok(shapes) = Shapes::from_bytes(&table) {
            text.clear();
            if (Entity { bytes: &bytes, context, shapes: &shapes }).write(&mut text).is_ok() {
                read(&text);
            }
        }
    }
}
