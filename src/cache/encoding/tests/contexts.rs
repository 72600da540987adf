//! Ids that the place of an entity says, and parts of it.

use super::*;
use crate::cache::encoding::overwrite_number;

const OWN: u64 = 761_014_731_138_494_465;
const PARENT: u64 = 41_771_983_423_143_937;

/// Values as nasty as usual, with the two ids in many places.
fn with_ids(seed: u64) -> Vec<u8> {
    let mut rng = Rng::new(seed);
    let mut nasty = Nasty::new(seed);
    let mut fields = Vec::new();
    for _ in 0..rng.below(8) {
        let key = ["id", "user_id", "guild_id", "roles", "user", "a\\n"][rng.below(6) as usize];
        let id = if rng.chance(1, 2) { OWN } else { PARENT };
        let value = match rng.below(8) {
            0 => format!("\"{id}\""),
            1 => format!("{id}"),
            2 => format!("\"0{id}\""),
            3 => format!("[\"{id}\",\"{id}\",\"7\"]"),
            4 => format!("{{\"id\":\"{id}\",\"of\":{{\"id\":\"{id}\"}}}}"),
            5 => format!("[{{\"id\":\"{id}\"}},{{\"id\":\"{id}\",\"x\":[[{id}]]}}]"),
            6 => format!("\"{id}0\""),
            _ => String::from_utf8(nasty.object(3)).unwrap(),
        };
        fields.push(format!("\"{key}\":{value}"));
    }
    format!("{{{}}}", fields.join(",")).into_bytes()
}

#[test]
fn ids_of_the_place_come_back() {
    let seed = seed();
    for capacity in [4_096, 20, 1] {
        let mut bench = Bench::new(capacity);
        let mut saved = 0;
        for case in 0..1_500 {
            let json = with_ids(seed + case);
            let plain = bench.encode(&json, NOBODY);
            for (own, parent) in [(OWN, PARENT), (PARENT, OWN), (OWN, OWN), (0, OWN), (7, 0)] {
                let context = Context { own, parent };
                let bytes = bench.encode(&json, context);
                assert!(read(&bench.text(&bytes, context)) == read(&json));
                assert!(bytes == bench.encode(&json, context));
                saved += plain.len().saturating_sub(bytes.len());
            }
        }
        assert!(saved > 1_000);
    }
}

#[test]
fn an_id_of_the_place_takes_nothing() {
    let mut bench = Bench::new(64);
    let json = format!(r#"{{"user":{{"id":"{OWN}"}},"guild_id":"{PARENT}","roles":[],"mute":false}}"#);
    let bytes = bench.encode(json.as_bytes(), Context { own: OWN, parent: PARENT });
    // Two numbers of shapes.
    assert_eq!(bytes.len(), 2);
    // Whoever lacks the ids is told, not misled.
    let mut text = Vec::new();
    assert_eq!(bench.entity(&bytes, NOBODY).write(&mut text), Err(Error::Damaged));
    assert!(text.is_empty());
}

#[test]
fn a_pick_takes_fields_of_the_object_alone() {
    let seed = seed();
    let mut bench = Bench::new(4_096);
    let names = ["id", "user", "flags", "a"];
    for case in 0..1_000 {
        let json = Nasty::new(seed + case).object(3);
        let model = object(read(&json));
        let is_named = |key: &Vec<u16>| names.iter().any(|name| utf16(name) == *key);
        for (pick, taken) in [(Pick::Without(&names), false), (Pick::Only(&names), true)] {
            let bytes = bench.try_encode(&json, pick, NOBODY).unwrap();
            let mut expected = model.clone();
            expected.retain(|key, _| is_named(key) == taken);
            assert!(object(read(&bench.text(&bytes, NOBODY))) == expected);
        }
    }
    // What is no object has no fields to pick.
    let bytes = bench.try_encode(b"[1,2]", Pick::Only(&["id"]), NOBODY).unwrap();
    assert_eq!(bench.text(&bytes, NOBODY), b"[1,2]");
}

#[test]
fn a_number_is_written_over_in_place_if_it_takes_as_many_bytes() {
    let mut bench = Bench::new(64);
    let json = |count: u64| format!(r#"{{"a":"text","count":{count},"list":[1,2],"z":0.5}}"#);
    for (old, new, fits) in [
        (1, 127, true),
        (127, 128, false),
        (128, 16_383, true),
        (16_384, 16_383, false),
        (300, 200, true),
        (1 << 63, u64::MAX, true),
    ] {
        let mut bytes = bench.encode(json(old).as_bytes(), NOBODY);
        let place = bench.entity(&bytes, NOBODY).number_place("count").expect("a number");
        assert_eq!(overwrite_number(&mut bytes[place], new), fits, "{old} -> {new}");
        let now = if fits { new } else { old };
        assert_eq!(read(&bench.text(&bytes, NOBODY)), read(json(now).as_bytes()));
    }
    // Nothing stands in the shape as a constant, which is not to be written over.
    let bytes = bench.encode(json(0).as_bytes(), NOBODY);
    assert!(bench.entity(&bytes, NOBODY).number_place("count").is_none());
    let bytes = bench.encode(json(5).as_bytes(), NOBODY);
    let entity = bench.entity(&bytes, NOBODY);
    assert!(entity.number_place("a").is_none() && entity.number_place("list").is_none());
}

#[test]
fn an_id_is_written_over_in_place() {
    let mut bench = Bench::new(64);
    let json = |id: u64| {
        format!(r#"{{"a":"text","parent_id":"{id}","list":[1,2],"b":{{"parent_id":"1"}},"z":0.5}}"#)
    };
    let new = OWN + 77;
    let mut bytes = bench.encode(json(OWN).as_bytes(), NOBODY);
    let place = bench.entity(&bytes, NOBODY).id_place("parent_id").expect("an id");
    bytes[place].copy_from_slice(&id_payload(new).expect("a long id"));
    assert!(bytes == bench.encode(json(new).as_bytes(), NOBODY));
    assert_eq!(read(&bench.text(&bytes, NOBODY)), read(json(new).as_bytes()));
    // Short ones have another form.
    assert_eq!(id_payload(2_048), None);
    assert_eq!(id_payload(1 << 56), Some((1u64 << 56).to_le_bytes()));
    assert_eq!(id_payload((1 << 56) - 1), None);
    let entity = bench.entity(&bytes, NOBODY);
    assert!(entity.id_place("a").is_none() && entity.id_place("none").is_none());
    let short = bench.encode(json(2_048).as_bytes(), NOBODY);
    assert!(bench.entity(&short, NOBODY).id_place("parent_id").is_none());
    // In an object without a shape, too.
    let mut small = Bench::new(1);
    small.encode(br#"{"k":1}"#, NOBODY);
    let mut bytes = small.encode(json(OWN).as_bytes(), NOBODY);
    let place = small.entity(&bytes, NOBODY).id_place("parent_id").expect("an id");
    bytes[place].copy_from_slice(&new.to_le_bytes());
    assert_eq!(read(&small.text(&bytes, NOBODY)), read(json(new).as_bytes()));
}
