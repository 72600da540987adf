//! Entities made from entities, against a map of their fields.

use super::*;

const OWN: u64 = 761_014_731_138_494_465;
const CONTEXT: Context = Context { own: OWN, parent: 2_048 };
const NAMES: [&str; 4] = ["id", "user", "flags", "key"];

fn picks() -> [Pick<'static>; 3] {
    [Pick::All, Pick::Without(&NAMES), Pick::Only(&NAMES)]
}

/// The fields of `json` that `pick` takes.
fn picked(json: &[u8], pick: Pick<'_>) -> BTreeMap<Vec<u16>, Value> {
    let mut fields = object(read(json));
    let is_named = |key: &Vec<u16>, names: &[&str]| names.iter().any(|name| utf16(name) == *key);
    match pick {
        Pick::All => {}
        Pick::Without(names) => fields.retain(|key, _| !is_named(key, names)),
        Pick::Only(names) => fields.retain(|key, _| is_named(key, names)),
    }
    fields
}

fn fields_of(bench: &Bench, bytes: &[u8], context: Context) -> BTreeMap<Vec<u16>, Value> {
    object(read(&bench.text(bytes, context)))
}

#[test]
fn merging_replaces_what_the_patch_has() {
    let seed = seed();
    for capacity in [4_096, 20, 1] {
        let mut bench = Bench::new(capacity);
        for case in 0..1_000 {
            let mut nasty = Nasty::new(seed + case);
            let before = nasty.object(3);
            let mut old = bench.encode(&before, CONTEXT);
            let mut model = object(read(&before));
            for _ in 0..3 {
                let patch = nasty.object(3);
                for pick in picks() {
                    let Bench { parser, encoder, shapes } = &mut bench;
                    let entity = Entity { bytes: &old, context: CONTEXT, shapes };
                    let mut new = vec![9];
                    let same = parser
                        .read(&patch, |patch| {
                            let same = encoder.matches(entity, patch, pick);
                            encoder.merge(entity, patch, pick, &mut new).unwrap();
                            same
                        })
                        .unwrap();
                    assert_eq!(new.remove(0), 9);
                    let before = model.clone();
                    model.extend(picked(&patch, pick));
                    assert!(fields_of(&bench, &new, CONTEXT) == model, "case {case}");
                    assert!(!same || before == model, "case {case}");
                    old = new;
                }
            }
            let mut seen = BTreeMap::new();
            let mut text = Vec::new();
            for field in bench.entity(&old, CONTEXT).fields().unwrap() {
                let field = field.unwrap();
                text.clear();
                field.write(&mut text).unwrap();
                let Value::String(key) = read(&[b"\"", field.key(), b"\""].concat()) else { panic!() };
                seen.insert(key, read(&text));
            }
            assert!(seen == model, "case {case}");
        }
    }
}

#[test]
fn wide_objects_merge() {
    let mut bench = Bench::new(64);
    let wide = |from: usize, value: usize| {
        let fields: Vec<String> = (from..from + 300).map(|at| format!("\"k{at}\":{value}")).collect();
        format!("{{{}}}", fields.join(","))
    };
    let old = bench.encode(wide(0, 1).as_bytes(), NOBODY);
    let Bench { parser, encoder, shapes } = &mut bench;
    let mut new = Vec::new();
    let entity = Entity { bytes: &old, context: NOBODY, shapes };
    parser
        .read(wide(150, 2).as_bytes(), |patch| encoder.merge(entity, patch, Pick::All, &mut new))
        .unwrap()
        .unwrap();
    let mut model = object(read(wide(0, 1).as_bytes()));
    model.extend(object(read(wide(150, 2).as_bytes())));
    assert!(fields_of(&bench, &new, NOBODY) == model);
}

/// A value that has one field changed, or another order, or nothing.
fn nearly(nasty: &mut Nasty, rng: &mut Rng, json: &[u8]) -> Vec<u8> {
    let Ok(serde_json::Value::Object(map)) = serde_json::from_slice(json) else { return json.to_vec() };
    let mut fields: Vec<(String, String)> =
        map.iter().map(|(key, value)| (serde_json::json!(key).to_string(), value.to_string())).collect();
    if rng.chance(1, 4) {
        fields.reverse();
    }
    if rng.chance(1, 2) && !fields.is_empty() {
        let at = rng.below(fields.len() as u64) as usize;
        fields[at].1 = String::from_utf8(nasty.object(2)).unwrap();
    }
    if rng.chance(1, 4) {
        fields.pop();
    }
    let fields: Vec<String> = fields.iter().map(|(key, value)| format!("{key}:{value}")).collect();
    format!("{{{}}}", fields.join(",")).into_bytes()
}

#[test]
fn a_patch_that_matches_changes_nothing() {
    let seed = seed();
    let mut rng = Rng::new(seed);
    for capacity in [4_096, 20, 1] {
        let mut bench = Bench::new(capacity);
        let (mut matched, mut equal) = (0, 0);
        for case in 0..3_000 {
            let mut nasty = Nasty::new(seed + case);
            let json = nasty.object(4);
            let patch = if rng.chance(1, 3) { json.clone() } else { nearly(&mut nasty, &mut rng, &json) };
            let old = bench.encode(&json, CONTEXT);
            let Bench { parser, encoder, shapes } = &mut bench;
            let entity = Entity { bytes: &old, context: CONTEXT, shapes };
            let mut new = Vec::new();
            let same = parser
                .read(&patch, |patch| {
                    encoder.merge(entity, patch, Pick::All, &mut new).unwrap();
                    encoder.matches(entity, patch, Pick::All)
                })
                .unwrap();
            let unchanged = fields_of(&bench, &old, CONTEXT) == fields_of(&bench, &new, CONTEXT);
            assert!(unchanged || !same, "case {case}");
            matched += u32::from(same);
            equal += u32::from(unchanged);
        }
        // Most of what is equal is seen to be: what is not has fields of one name.
        assert!(matched > 500 && matched * 3 > equal * 2, "{matched} of {equal}");
    }
}

#[test]
fn patches_of_the_corpus_match_what_they_made() {
    let mut bench = Bench::new(4_096);
    for (path, json) in corpus("") {
        let payload: serde_json::Value = serde_json::from_slice(&json).unwrap();
        let data = payload["d"].to_string().into_bytes();
        if !payload["d"].is_object() {
            continue;
        }
        let bytes = bench.encode(&data, CONTEXT);
        let Bench { parser, encoder, shapes } = &mut bench;
        let entity = Entity { bytes: &bytes, context: CONTEXT, shapes };
        let same = parser.read(&data, |patch| encoder.matches(entity, patch, Pick::All)).unwrap();
        assert!(same, "{}", path.display());
    }
}

#[test]
fn named_fields_are_kept() {
    let seed = seed();
    for capacity in [4_096, 20, 1] {
        let mut bench = Bench::new(capacity);
        let other = Shapes::with_capacity(30);
        for case in 0..1_000 {
            let mut nasty = Nasty::new(seed + case);
            let (before, value) = (nasty.object(3), nasty.object(3));
            let kept = ["id", "name", "key", "a"];
            for pick in picks() {
                let mut model: BTreeMap<_, _> = picked(&before, Pick::Only(&kept));
                model.extend(picked(&value, pick));
                // The old one under the same ids, under others, and in another table.
                for (context, elsewhere) in
                    [(CONTEXT, false), (Context { own: 2_048, parent: OWN }, false), (CONTEXT, true)]
                {
                    let Bench { parser, encoder, shapes } = &mut bench;
                    let table = if elsewhere { &other } else { &*shapes };
                    let (mut old, mut new) = (Vec::new(), vec![3]);
                    parser
                        .read(&before, |before| encoder.encode(before, Pick::All, context, table, &mut old))
                        .unwrap()
                        .unwrap();
                    let old = Entity { bytes: &old, context, shapes: table };
                    parser
                        .read(&value, |value| {
                            encoder.encode_keeping(value, pick, old, &kept, CONTEXT, shapes, &mut new)
                        })
                        .unwrap()
                        .unwrap();
                    assert_eq!(new.remove(0), 3);
                    assert!(fields_of(&bench, &new, CONTEXT) == model, "case {case}");
                }
            }
        }
    }
}

#[test]
fn fields_are_left_out() {
    let seed = seed();
    for capacity in [4_096, 20, 1] {
        let mut bench = Bench::new(capacity);
        for case in 0..1_000 {
            let json = Nasty::new(seed + case).object(3);
            let old = bench.encode(&json, CONTEXT);
            let mut new = vec![3];
            let entity = Entity { bytes: &old, context: CONTEXT, shapes: &bench.shapes };
            bench.encoder.without(entity, &NAMES, &mut new).unwrap();
            assert_eq!(new.remove(0), 3);
            assert!(fields_of(&bench, &new, CONTEXT) == picked(&json, Pick::Without(&NAMES)));
            assert!(new == bench.try_encode(&json, Pick::Without(&NAMES), CONTEXT).unwrap());
        }
    }
}

#[test]
fn elements_are_left_out() {
    let seed = seed();
    let mut rng = Rng::new(seed);
    let pieces = [
        "\"761014731138494465\"",
        "761014731138494465",
        "\"0761014731138494465\"",
        "\"7\"",
        "null",
        "{}",
        "\"x\"",
    ];
    for capacity in [64, 1] {
        let mut bench = Bench::new(capacity);
        for _ in 0..2_000 {
            let list: Vec<&str> = (0..rng.below(5)).map(|_| pieces[rng.below(7) as usize]).collect();
            let text = |list: &[&str]| format!("{{\"a\":\"b\",\"roles\":[{}],\"z\":[1]}}", list.join(","));
            let old = bench.encode(text(&list).as_bytes(), CONTEXT);
            let mut new = vec![3];
            let entity = Entity { bytes: &old, context: CONTEXT, shapes: &bench.shapes };
            let done = bench.encoder.without_element(entity, "roles", OWN, &mut new).unwrap();
            assert_eq!(new.remove(0), 3);
            let left: Vec<&str> =
                list.iter().copied().filter(|it| !it.contains("761014731138494465")).collect();
            assert_eq!(done, left.len() < list.len());
            assert!(done || new.is_empty());
            if done {
                assert!(new == bench.encode(text(&left).as_bytes(), CONTEXT), "{list:?}");
            }
            let entity = Entity { bytes: &old, context: CONTEXT, shapes: &bench.shapes };
            assert_eq!(bench.encoder.without_element(entity, "a", OWN, &mut new), Ok(false));
            assert_eq!(bench.encoder.without_element(entity, "none", OWN, &mut new), Ok(false));
        }
    }
}

#[test]
fn what_is_no_object_is_refused() {
    let mut bench = Bench::new(64);
    let (list, empty) = (bench.encode(b"[1]", NOBODY), bench.encode(b"{}", NOBODY));
    let Bench { parser, encoder, shapes } = &mut bench;
    let old = |bytes| Entity { bytes, context: NOBODY, shapes };
    let mut out = vec![1, 2];
    for (entity, patch) in [(old(&list), "{}"), (old(&empty), "[]"), (old(&empty), "7")] {
        parser
            .read(patch.as_bytes(), |patch| {
                assert_eq!(encoder.merge(entity, patch, Pick::All, &mut out), Err(Error::NotAnObject));
                assert!(!encoder.matches(entity, patch, Pick::All));
                let kept = encoder.encode_keeping(patch, Pick::All, entity, &[], NOBODY, shapes, &mut out);
                assert_eq!(kept, Err(Error::NotAnObject));
            })
            .unwrap();
    }
    assert_eq!(encoder.without(old(&list), &[], &mut out), Err(Error::NotAnObject));
    assert_eq!(encoder.without_element(old(&list), "a", 1, &mut out), Err(Error::NotAnObject));
    assert_eq!(out, [1, 2]);
    parser
        .read(b"{}", |patch| {
            assert!(encoder.matches(old(&empty), patch, Pick::All));
            encoder.merge(old(&empty), patch, Pick::All, &mut out)
        })
        .unwrap()
        .unwrap();
    assert_eq!(out[2..], empty);
}
