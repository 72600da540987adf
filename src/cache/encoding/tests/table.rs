//! The table of shapes: its limits, and many threads at once.

use super::*;
use crate::cache::encoding::shapes::VARIANTS_MAX;

#[test]
fn the_table_stays_within_its_limits() {
    let mut bench = Bench::new(1_024);
    // One key sequence in very many variants: it gets its share and then the general shape.
    for variant in 0..2_000u32 {
        let values: Vec<String> = (0..11)
            .map(|bit| format!("\"k{bit}\":{}", if variant >> bit & 1 == 0 { "null" } else { "7" }))
            .collect();
        let json = format!("{{{}}}", values.join(","));
        let bytes = bench.encode(json.as_bytes(), NOBODY);
        assert_eq!(read(&bench.text(&bytes, NOBODY)), read(json.as_bytes()));
    }
    let stats = bench.shapes.stats();
    assert_eq!(stats.shapes, usize::from(VARIANTS_MAX) + 1);
    assert_eq!(stats.generalised, 2_000 - u64::from(VARIANTS_MAX));
    // Ids as keys never get one.
    bench.encode(br#"{"761014731138494465":1}"#, NOBODY);
    assert_eq!(bench.shapes.stats().refused, 1);
    for key in 0..2_000 {
        bench.round(format!("{{\"key{key}\":1}}").as_bytes());
    }
    assert_eq!(bench.shapes.stats().shapes, 1_024);
}

#[test]
fn the_bytes_of_a_table_have_a_limit() {
    let mut bench = Bench::new(1_000);
    let memory = bench.shapes.memory_bytes();
    let key = "long".repeat(900);
    for number in 0..400 {
        bench.round(format!("{{\"{key}{number}\":1}}").as_bytes());
    }
    let stats = bench.shapes.stats();
    assert!(stats.shapes < 400 && stats.refused > 0);
    assert!(stats.bytes <= 1_000 * crate::cache::encoding::shapes::SHAPE_BYTES);
    assert_eq!(bench.shapes.memory_bytes() - memory, stats.bytes);
    // A small one has no room either: what is full stays full.
    bench.round(br#"{"small":1}"#);
    assert_eq!(bench.shapes.stats().shapes, stats.shapes);
}

#[test]
fn threads_share_a_table() {
    const THREADS: u64 = 4;
    let seed = seed();
    for capacity in [4_096, 60] {
        let shapes = Shapes::with_capacity(capacity);
        let written: Vec<Vec<(Vec<u8>, Vec<u8>)>> = std::thread::scope(|scope| {
            let one = |thread: u64| {
                let shapes = &shapes;
                move || {
                    let (mut parser, mut encoder) = (Parser::new(), Encoder::new());
                    let mut rng = Rng::new(seed ^ thread);
                    let mut done = Vec::new();
                    for case in 0..1_500 {
                        // The same objects at nearly the same time, and some that no other thread has.
                        let own = if rng.chance(1, 4) { thread << 32 } else { 0 };
                        let json = Nasty::new(seed + case + own).object(3);
                        let mut out = Vec::new();
                        parser
                            .read(&json, |value| encoder.encode(value, Pick::All, NOBODY, shapes, &mut out))
                            .unwrap()
                            .unwrap();
                        let mut text = Vec::new();
                        Entity { bytes: &out, context: NOBODY, shapes }.write(&mut text).unwrap();
                        assert!(read(&text) == read(&json));
                        done.push((json, out));
                    }
                    done
                }
            };
            let threads: Vec<_> = (0..THREADS).map(|thread| scope.spawn(one(thread))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        // Equal objects have one form, and a copy of the table reads all.
        let copy = Shapes::from_bytes(&shapes.to_bytes()).unwrap();
        let mut forms = BTreeMap::new();
        for (json, bytes) in written.into_iter().flatten() {
            let mut text = Vec::new();
            Entity { bytes: &bytes, context: NOBODY, shapes: &copy }.write(&mut text).unwrap();
            assert!(read(&text) == read(&json));
            let first = forms.entry(json).or_insert_with(|| bytes.clone());
            assert!(*first == bytes);
        }
        assert!(shapes.stats().shapes > 30);
    }
}
