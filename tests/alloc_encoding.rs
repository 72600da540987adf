//! Encoding, merging and decoding entities whose shapes are known takes no memory from the heap.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use rateway::cache::encoding::{Encoder, Shapes, decode, field};

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
    let (mut encoder, mut shapes) = (Encoder::new(), Shapes::default());
    let (mut bytes, mut merged, mut text) = (Vec::new(), Vec::new(), Vec::new());
    let mut round = || {
        for entity in &entities {
            encoder.encode(entity, &mut shapes, &mut bytes).unwrap();
            decode(&bytes, &shapes, &mut text).unwrap();
            field(&bytes, &shapes, "id").unwrap();
            encoder.merge(&bytes, br#"{"name":"otter","flags":7}"#, &mut shapes, &mut merged).unwrap();
        }
    };
    round();
    let before = TAKEN.with(Cell::get);
    round();
    assert_eq!(TAKEN.with(Cell::get) - before, 0);
}
