//! Parsing, encoding, changing and writing entities whose shapes are known takes no memory from the heap.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use rateway::cache::encoding::{Context, Encoder, Entity, Parser, Pick, Shapes};

thread_local! {
    static TAKEN: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call goes to the system's allocator as it came; the counter is a plain cell of the thread.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        TAKEN.with(|taken| taken.set(taken.get() + 1));
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        TAKEN.with(|taken| taken.set(taken.get() + 1));
        // SAFETY: the caller keeps the contract of `realloc`.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn known_shapes_take_nothing_from_the_heap() {
    let path = format!("{}/tests/corpus/GUILD_CREATE.medium.json", env!("CARGO_MANIFEST_DIR"));
    let payload: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let mut entities = Vec::new();
    for kind in ["members", "roles", "channels", "presences", "emojis", "voice_states"] {
        entities.extend(payload["d"][kind].as_array().unwrap().iter().map(|it| it.to_string().into_bytes()));
    }
    // More than 32 keys, which get no shape of their own, and keys that get none at all.
    let mut guild = payload["d"].clone();
    guild.as_object_mut().unwrap().retain(|_, value| !value.is_array());
    entities.push(guild.to_string().into_bytes());
    entities.push(br#"{"761014731138494465":{"id":"761014731138494465"},"roles":[1,"7"]}"#.to_vec());
    // A text that takes the slow way.
    entities.push(br#"{"name":"\ud800","n":123456789012345678901234567890,"roles":["7"]}"#.to_vec());
    let context = Context { own: 761_014_731_138_494_465, parent: 2_048 };
    let (mut parser, mut encoder, shapes) = (Parser::new(), Encoder::new(), Shapes::default());
    let (mut bytes, mut changed, mut text) = (Vec::new(), Vec::new(), Vec::new());
    let mut round = || {
        for json in &entities {
            bytes.clear();
            changed.clear();
            text.clear();
            parser
                .read(json, |value| {
                    encoder.encode(value, Pick::Without(&["user"]), context, &shapes, &mut bytes).unwrap();
                    let old = Entity { bytes: &bytes, context, shapes: &shapes };
                    assert!(encoder.matches(old, value, Pick::Without(&["user"])));
                    old.write(&mut text).unwrap();
                    value.write(&mut text);
                    encoder.merge(old, value, Pick::All, &mut changed).unwrap();
                    let kept = ["name", "roles", "joined_at", "activities"];
                    let only = Pick::Only(&["id"]);
                    encoder.encode_keeping(value, only, old, &kept, context, &shapes, &mut changed).unwrap();
                    let other = Context { own: 1, parent: 0 };
                    encoder.encode_keeping(value, only, old, &kept, other, &shapes, &mut changed).unwrap();
                })
                .unwrap();
            let old = Entity { bytes: &bytes, context, shapes: &shapes };
            encoder.without(old, &["id", "roles"], &mut changed).unwrap();
            encoder.without_element(old, "roles", 7, &mut changed).unwrap();
            old.field("id").unwrap();
            old.id_place("id");
            parser
                .read(br#"{"name":"otter","flags":7}"#, |patch| {
                    encoder.merge(old, patch, Pick::All, &mut changed).unwrap();
                    encoder.matches(old, patch, Pick::All)
                })
                .unwrap();
        }
    };
    round();
    let before = TAKEN.with(Cell::get);
    round();
    assert_eq!(TAKEN.with(Cell::get) - before, 0);
}
