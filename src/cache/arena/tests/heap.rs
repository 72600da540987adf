use super::super::heap::{BLOB_BYTES_MAX, HEAD_BYTES, PIECE_BYTES_MAX};
use super::super::{Full, Handle, Heap, List};
use super::{region, seeds};
use crate::base::Rng;

/// Bytes that follow from a number, so that a mixed-up blob is seen.
fn bytes(seed: u64, len: usize) -> Vec<u8> {
    (0..len as u64).map(|i| (seed.wrapping_mul(31).wrapping_add(i * 7) >> 2) as u8).collect()
}

fn whole(heap: &Heap, handle: Handle) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    heap.read_into(handle, &mut out).then_some(out)
}

#[test]
fn a_blob_of_any_length_comes_back() {
    let region = region(200);
    let mut heap = Heap::new(&region);
    let lengths = [
        0,
        1,
        7,
        PIECE_BYTES_MAX - 1,
        PIECE_BYTES_MAX,
        PIECE_BYTES_MAX + 1,
        HEAD_BYTES,
        HEAD_BYTES + 2030,
        HEAD_BYTES + 2031,
        16_384,
        100_000,
        if cfg!(miri) { 20_000 } else { 2_000_000 },
    ];
    let handles: Vec<_> =
        lengths.iter().map(|&len| heap.insert(&bytes(len as u64, len)).expect("room")).collect();
    let mut scratch = Vec::new();
    for (&len, &handle) in lengths.iter().zip(&handles) {
        let expected = bytes(len as u64, len);
        assert_eq!(heap.len(handle), Some(len));
        assert_eq!(whole(&heap, handle).as_ref(), Some(&expected));
        assert_eq!(heap.view(handle, &mut scratch), Some(&expected[..]));
        assert_eq!(heap.get(handle).is_some(), len <= PIECE_BYTES_MAX);
        let head = heap.head(handle).expect("alive");
        assert!(expected.starts_with(head) && head.len() == len.min(head.len().max(HEAD_BYTES)));
    }
    let usage = heap.usage();
    assert_eq!((usage.blobs, usage.blob_bytes), (12, lengths.iter().map(|&l| l as u64).sum()));
    for handle in handles {
        assert!(heap.free(handle) && !heap.free(handle));
        assert!(heap.get(handle).is_none() && whole(&heap, handle).is_none() && heap.len(handle).is_none());
        assert!(heap.pieces(handle).next().is_none());
        assert_eq!(heap.replace(handle, b"x"), Ok(false));
        assert_eq!(heap.resize(handle, 1, &mut scratch), Ok(false));
    }
    assert_eq!(region.usage().used, 0, "every page went back");
    assert_eq!(heap.usage().data_bytes, 0);
}

#[test]
fn limits_are_answered_and_change_nothing() {
    let region = region(3);
    let mut heap = Heap::new(&region);
    assert_eq!(heap.alloc(BLOB_BYTES_MAX + 1), Err(Full));
    assert_eq!(heap.insert(&bytes(1, 40_000)), Err(Full));
    assert_eq!(region.usage().used, 0, "half a chain is taken back");
    let handle = heap.insert(&bytes(1, 20_000)).expect("room");
    assert_eq!(heap.replace(handle, &bytes(2, 40_000)), Err(Full));
    assert_eq!(heap.resize(handle, 40_000, &mut Vec::new()), Err(Full));
    assert_eq!(heap.resize(handle, BLOB_BYTES_MAX + 1, &mut Vec::new()), Err(Full));
    assert_eq!(whole(&heap, handle), Some(bytes(1, 20_000)));
    assert_eq!(heap.alloc(5).map(|handle| heap.get(handle).map(<[u8]>::to_vec)), Ok(Some(vec![0; 5])));
    let head = heap.head_mut(handle).expect("alive");
    head[3] = 77;
    assert_eq!(whole(&heap, handle).expect("alive")[3], 77);
}

#[test]
fn one_page_is_filled_to_the_last_blob() {
    let region = region(2);
    let mut heap = Heap::new(&region);
    let handles: Vec<_> = std::iter::from_fn(|| heap.insert(&[7; PIECE_BYTES_MAX]).ok()).collect();
    assert_eq!(handles.len(), 8);
    // Growing where nothing is free uses what the blob itself had, and what its neighbours left.
    assert_eq!(heap.replace(handles[3], &[1; 5]), Ok(true));
    assert_eq!(heap.replace(handles[3], &[2; PIECE_BYTES_MAX]), Ok(true));
    assert_eq!(heap.replace(handles[0], &[3; 1000]), Ok(true));
    assert_eq!(heap.replace(handles[5], &[4; 1000]), Ok(true));
    let small = heap.insert(&[9; 2000]).expect("both gaps together");
    assert_eq!(heap.get(small), Some(&[9; 2000][..]));
    assert_eq!(heap.get(handles[3]), Some(&[2; PIECE_BYTES_MAX][..]));
    assert_eq!(heap.get(handles[0]), Some(&[3; 1000][..]));
    assert_eq!(heap.get(handles[7]), Some(&[7; PIECE_BYTES_MAX][..]));
}

#[test]
fn any_number_is_safe_to_ask_with() {
    let region = region(8);
    let mut heap = Heap::new(&region);
    let mut random = Rng::new(3);
    let handles: Vec<_> = (0..500).map(|i| heap.insert(&bytes(i, 40)).expect("room")).collect();
    let mut scratch = Vec::new();
    for _ in 0..if cfg!(miri) { 200 } else { 100_000 } {
        let near = handles[random.below(500) as usize].to_bits() ^ (1 << random.below(64));
        for bits in [random.next_u64(), near] {
            let Some(handle) = Handle::from_bits(bits) else { continue };
            if heap.contains(handle) {
                assert!(handles.contains(&handle));
                continue;
            }
            assert!(heap.view(handle, &mut scratch).is_none() && heap.head_mut(handle).is_none());
            assert!(heap.get_mut(handle).is_none() && !heap.free(handle));
        }
    }
    assert_eq!(heap.usage().blobs, 500);
}

/// Random operations next to a plain vector, in regions so small that they fill up.
fn model(seed: u64, steps: u64) {
    let mut random = Rng::new(seed);
    let pages = 2 + random.below(7) as usize;
    let region = region(pages);
    let mut heap = Heap::new(&region);
    let mut live: Vec<(Handle, Vec<u8>)> = Vec::new();
    let mut dead: Vec<Handle> = Vec::new();
    let mut scratch = Vec::new();
    let longest = [40, 300, 2_100, 9_000][random.below(4) as usize];
    for step in 0..steps {
        let len = random.below(longest + 1) as usize;
        let pick = random.below(live.len().max(1) as u64) as usize;
        match random.below(10) {
            0..=3 => match heap.insert(&bytes(step, len)) {
                Ok(handle) => live.push((handle, bytes(step, len))),
                Err(Full) => assert!(
                    region.usage().used as usize >= pages.saturating_sub(len / 16_000 + 1),
                    "full with {} of {pages} pages for {len}",
                    region.usage().used
                ),
            },
            4 if !live.is_empty() => {
                let (handle, _) = live.swap_remove(pick);
                assert!(heap.free(handle));
                dead.push(handle);
            }
            5 | 6 if !live.is_empty() => {
                let done = heap.replace(live[pick].0, &bytes(step, len));
                if done == Ok(true) {
                    live[pick].1 = bytes(step, len);
                }
            }
            7 if !live.is_empty() => {
                let done = heap.resize(live[pick].0, len, &mut scratch);
                if done == Ok(true) {
                    live[pick].1.resize(len, 0);
                }
            }
            8 => {
                heap.compact(random.below(6_000) as usize);
            }
            _ if random.chance(1, 20) => {
                for (handle, _) in live.drain(live.len() / 3..) {
                    assert!(heap.free(handle));
                    dead.push(handle);
                }
            }
            _ if !live.is_empty() && !live[pick].1.is_empty() => {
                heap.head_mut(live[pick].0).expect("alive")[0] ^= 0x55;
                live[pick].1[0] ^= 0x55;
            }
            _ => {}
        }
        if let Some((handle, expected)) = live.get(pick) {
            assert_eq!(heap.view(*handle, &mut scratch), Some(&expected[..]), "step {step}");
        }
        if let Some(handle) = dead.last() {
            assert!(!heap.contains(*handle));
        }
    }
    for (handle, expected) in &live {
        assert_eq!(whole(&heap, *handle).as_ref(), Some(expected));
    }
    assert!(dead.iter().all(|handle| !heap.contains(*handle)));
    let usage = heap.usage();
    assert_eq!(usage.blobs, live.len() as u64);
    assert_eq!(usage.blob_bytes, live.iter().map(|(_, bytes)| bytes.len() as u64).sum::<u64>());
    assert_eq!(usage.data_pages + usage.slot_pages, region.usage().used);
    live.iter().for_each(|(handle, _)| assert!(heap.free(*handle)));
    assert_eq!((region.usage().used, heap.usage().data_bytes), (0, 0));
}

#[test]
fn it_agrees_with_a_vector() {
    if cfg!(miri) { seeds(2, |seed| model(seed, 150)) } else { seeds(3_000, |seed| model(seed, 300)) }
}

#[test]
fn heaps_of_one_region_do_not_meet() {
    let region = region(6);
    let mut heaps: Vec<Heap> = (0..3).map(|_| Heap::new(&region)).collect();
    let handles: Vec<_> =
        heaps.iter_mut().enumerate().map(|(i, heap)| heap.insert(&[i as u8; 100]).expect("room")).collect();
    for (i, heap) in heaps.iter().enumerate() {
        for (j, &handle) in handles.iter().enumerate() {
            assert_eq!(heap.get(handle).is_some(), i == j);
        }
    }
    assert_eq!(Heap::new(&region).insert(b"x"), Err(Full));
    heaps.remove(1);
    assert!(Heap::new(&region).insert(b"x").is_ok(), "a dropped heap gives its pages back");
}

#[test]
fn lists_agree_with_a_vector_and_hold_through_compaction() {
    const LIST: List = List { first_at: 4, link_at: 1 };
    seeds(if cfg!(miri) { 1 } else { 200 }, |seed| {
        let mut random = Rng::new(seed);
        let region = region(12);
        let mut heap = Heap::new(&region);
        let owner = heap.alloc(12).expect("room");
        let stranger = heap.alloc(12).expect("room");
        let mut members: Vec<Handle> = Vec::new();
        for _ in 0..300 {
            let pick = random.below(members.len().max(1) as u64) as usize;
            match random.below(5) {
                0..=2 => {
                    let len = 17 + random.below(300) as usize;
                    let Ok(member) = heap.alloc(len) else { continue };
                    LIST.push(&mut heap, owner, member).expect("both live");
                    members.insert(0, member);
                }
                3 if !members.is_empty() => {
                    let member = members.remove(pick);
                    LIST.remove(&mut heap, owner, member).expect("both live");
                    assert_eq!(LIST.remove(&mut heap, owner, member), None, "twice");
                    assert!(heap.free(member));
                }
                _ => {
                    heap.compact(4_000);
                }
            }
            let walk = std::iter::successors(LIST.first(&heap, owner), |&at| LIST.next(&heap, at));
            assert!(walk.eq(members.iter().copied()));
        }
        let short = heap.alloc(3).expect("room");
        assert_eq!(LIST.push(&mut heap, owner, short), None);
        assert_eq!(LIST.push(&mut heap, short, owner), None);
        if let Some(&first) = members.first() {
            assert_eq!(LIST.remove(&mut heap, stranger, first), None);
        }
        for member in members {
            assert_eq!(LIST.pop(&mut heap, owner), Some(member));
        }
        assert_eq!(LIST.pop(&mut heap, owner), None);
    });
}
