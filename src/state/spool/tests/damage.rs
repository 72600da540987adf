//! Damaged and strange files: what is read is what was written, and what is not read is told, or is asked for again.

use std::collections::BTreeMap;

use super::sim::Sim;
use super::{Event, append, drain, options};
use crate::state::spool::format::{CURSOR, SLOT, segment_name};
use crate::state::spool::{Block, Loss, Next, Note, Recovered, Spool};

/// Shard, session and texts of a few small blocks, by the order in which they go in.
fn story() -> Vec<Vec<Event>> {
    vec![
        vec![Event::new(0, 7, 1, "A:one"), Event::new(0, 7, 2, "A:two"), Event::new(0, 7, 3, "B:three")],
        vec![Event::new(1, 8, 41, "A:other")],
        vec![Event::new(0, 7, 4, "C:four"), Event::new(0, 9, 1, "READY:new session")],
        vec![Event::new(1, 8, 42, ""), Event::new(1, 8, 0, "GAP:without a seq")],
        vec![Event::new(0, 9, 2, "A:last of 0")],
        vec![Event::new(1, 8, 43, "A:last of 1")],
    ]
}

/// A disk with the story on it, in segments of up to `segment_bytes`.
fn told(segment_bytes: u64) -> (Sim, Vec<Event>) {
    let sim = Sim::new(1);
    let (mut spool, _) =
        Spool::open_in(sim.clone(), super::Options { segment_bytes, ..options() }).expect("a spool");
    for batch in story() {
        append(&mut spool, &batch, false).expect("room");
    }
    (sim, story().concat())
}

/// Whether a shard's `event` is among those that `loss` tells of.
fn covers(all: &[Event], loss: &Loss, event: &Event) -> bool {
    if event.shard != loss.shard {
        return false;
    }
    let of_shard: Vec<&Event> = all.iter().filter(|other| other.shard == loss.shard).collect();
    let place = |known: (u64, u64)| of_shard.iter().position(|other| (other.session, other.seq) == known);
    let from = loss.after.map_or(0, |after| place(after).expect("an event of the shard") + 1);
    let mut to = place(loss.last).unwrap_or(0);
    // Those without a seq go with what is before them.
    while of_shard.get(to + 1).is_some_and(|next| next.seq == 0) {
        to += 1;
    }
    let at = of_shard.iter().position(|other| *other == event).expect("an event of the shard");
    (from..=to).contains(&at)
}

/// Opens what is on the disk and holds what comes of it to the story.
///
/// Gives how many events were read besides.
fn check(sim: &Sim, all: &[Event], what: &str) -> (Recovered, Vec<Loss>, usize) {
    let (mut spool, recovered) = Spool::open_in(sim.clone(), options()).expect("a spool");
    let (read, losses) = drain(&mut spool);
    // Nothing is invented, and order holds.
    let mut rest = all.iter();
    for (event, _) in &read {
        assert!(rest.any(|other| other == event), "{what}: {event:?} is new or late");
    }
    let reach: BTreeMap<u32, (u64, u64)> =
        recovered.reach.iter().map(|reach| (reach.shard, (reach.session, reach.seq))).collect();
    for (at, event) in all.iter().enumerate() {
        if read.iter().any(|(other, _)| other == event) {
            continue;
        }
        let is_told = losses.iter().any(|loss| covers(all, loss, event));
        // What is behind the shard's reach RESUME brings again.
        let reached = reach.get(&event.shard).and_then(|&(session, seq)| {
            all.iter().position(|e| e.shard == event.shard && (e.session, e.seq) == (session, seq))
        });
        let is_behind = reached.is_none_or(|reached| at > reached);
        assert!(is_told || is_behind, "{what}: {event:?} is lost and not told: {losses:?} {recovered:?}");
    }
    for loss in &losses {
        assert!(
            all.iter()
                .any(|event| { covers(all, loss, event) && !read.iter().any(|(other, _)| other == event) }),
            "{what}: {loss:?} is none"
        );
    }
    // The spool goes on.
    let more = [Event::new(0, 9, 3, "A:more")];
    append(&mut spool, &more, false).expect("room");
    assert_eq!(drain(&mut spool).0, [(more[0].clone(), false)], "{what}");
    spool.confirmed(u64::MAX).expect("a write");
    assert!(spool.is_empty(), "{what}");
    (recovered, losses, read.len())
}

fn damaged(sim: &Sim, name: &str, change: impl FnOnce(&mut Vec<u8>)) -> Sim {
    let copy = Sim::new(1);
    copy.disk.borrow_mut().files = sim.disk.borrow().files.clone();
    change(copy.disk.borrow_mut().files.get_mut(name).expect("the file"));
    copy
}

#[test]
fn an_octet_that_changed_costs_what_it_is_in() {
    for segment_bytes in [1 << 20, 16, 400] {
        let (sim, all) = told(segment_bytes);
        let files = sim.disk.borrow().files.clone();
        for (name, bytes) in &files {
            for at in 0..bytes.len() {
                for change in [1, 0x80, 0xff] {
                    let sim = damaged(&sim, name, |bytes| bytes[at] ^= change);
                    let (_, losses, read) = check(&sim, &all, &format!("{name}, octet {at} by {change}"));
                    // The largest block has three.
                    assert!(
                        read + 3 >= all.len() && losses.len() <= 1,
                        "{name}, octet {at} by {change}: {read}"
                    );
                }
            }
        }
    }
}

#[test]
fn a_damaged_record_costs_itself_alone() {
    let (sim, all) = told(1 << 20);
    let name = segment_name(0);
    for (text, after, last) in [("A:two", Some((7, 1)), (7, 2)), ("READY", Some((7, 4)), (9, 1))] {
        let sim = damaged(&sim, &name, |bytes| {
            let at = bytes.windows(5).position(|five| five == text.as_bytes()).expect("the text");
            bytes[at + 2] ^= 1;
        });
        let (recovered, losses, read) = check(&sim, &all, text);
        assert_eq!(losses, [Loss { shard: 0, after, last }]);
        assert_eq!((read, recovered.notes.len()), (all.len() - 1, 0));
    }
}

#[test]
fn an_end_without_its_content_is_cut_and_asked_for_again() {
    let (sim, all) = told(1 << 20);
    let name = segment_name(0);
    let sim = damaged(&sim, &name, |bytes| {
        let len = bytes.len();
        bytes[len - 3..].fill(0);
    });
    let (recovered, losses, read) = check(&sim, &all, "no content");
    assert!(losses.is_empty() && read == all.len() - 1);
    assert!(matches!(&recovered.notes[..], [Note::TornTail { bytes: 99, .. }]), "{recovered:?}");
    let reach: Vec<_> = recovered.reach.iter().map(|reach| (reach.shard, reach.session, reach.seq)).collect();
    assert_eq!(reach, [(0, 9, 2), (1, 8, 42)]);
}

#[test]
fn the_next_block_is_found_wherever_it_begins() {
    // Around the pieces in which it is looked for.
    for filling in 3990..4030 {
        let sim = Sim::new(1);
        let (mut spool, _) = Spool::open_in(sim.clone(), options()).expect("a spool");
        let all = [Event::new(0, 7, 1, &"x".repeat(filling)), Event::new(0, 7, 2, "found")];
        spool.options.segment_bytes = 1 << 20;
        for event in &all {
            append(&mut spool, std::slice::from_ref(event), false).expect("room");
        }
        let sim = damaged(&sim, &segment_name(0), |bytes| bytes[20] ^= 1);
        let (_, losses, read) = check(&sim, &all, &format!("after {filling}"));
        assert_eq!((read, losses), (1, vec![Loss { shard: 0, after: None, last: (7, 1) }]));
    }
}

#[test]
fn a_file_that_is_shorter_costs_its_end() {
    for segment_bytes in [1 << 20, 16, 400] {
        let (sim, all) = told(segment_bytes);
        let files = sim.disk.borrow().files.clone();
        for (name, bytes) in &files {
            for len in 0..bytes.len() {
                check(
                    &damaged(&sim, name, |bytes| bytes.truncate(len)),
                    &all,
                    &format!("{name} cut to {len}"),
                );
                // As after a power cut: the length is there, the content is not.
                let zeros = damaged(&sim, name, |bytes| bytes[len..].fill(0));
                check(&zeros, &all, &format!("{name} zero from {len} on"));
            }
        }
    }
}

#[test]
fn a_segment_that_is_gone_is_told() {
    let (sim, all) = told(16);
    let names: Vec<String> = sim.disk.borrow().files.keys().cloned().collect();
    for name in names {
        let sim = damaged(&sim, &name, |_| {});
        sim.disk.borrow_mut().files.remove(&name);
        let (_, losses, _) = check(&sim, &all, &name);
        if name == segment_name(2) {
            let last = (9, 1);
            assert_eq!(losses, [Loss { shard: 0, after: Some((7, 3)), last }]);
        }
    }
}

#[test]
fn pieces_of_files_that_change_places_are_not_taken_for_others() {
    let (sim, all) = told(1 << 20);
    let name = segment_name(0);
    let len = sim.disk.borrow().files[&name].len();
    for at in (0..len).step_by(7) {
        let doubled = damaged(&sim, &name, |bytes| {
            let piece = bytes[at..].to_vec();
            bytes.extend(piece);
        });
        check(&doubled, &all, &format!("again from {at}"));
        check(&damaged(&sim, &name, |bytes| bytes.rotate_left(at)), &all, &format!("rotated by {at}"));
    }
    // A whole segment under another name is none there.
    let copy = damaged(&sim, &name, |_| {});
    let bytes = copy.disk.borrow().files[&name].clone();
    copy.disk.borrow_mut().files.insert(segment_name(9), bytes);
    check(&copy, &all, "a copy");
}

#[test]
fn what_is_not_ours_is_left_alone() {
    let (sim, all) = told(1 << 20);
    let mut other = crate::state::spool::format::segment_head().to_vec();
    other[11] += 1;
    let crc = crc32fast::hash(&other[..12]).to_be_bytes();
    other[12..16].copy_from_slice(&crc);
    other.extend_from_slice(b"who knows");
    let strange = [
        ("notes.txt", b"mine".to_vec()),
        ("00.spool", b"mine".to_vec()),
        (&segment_name(77), b"something else altogether".to_vec()),
        (&segment_name(78), other),
    ];
    for (name, bytes) in &strange {
        sim.disk.borrow_mut().files.insert((*name).to_owned(), bytes.clone());
    }
    let (recovered, losses, _) = check(&sim, &all, "strangers");
    assert!(losses.is_empty());
    assert_eq!(
        recovered.notes,
        [
            Note::NoSegment { file: segment_name(77), bytes: 25 },
            Note::OtherVersion { file: segment_name(78), version: 2, bytes: 25 }
        ]
    );
    for (name, bytes) in &strange {
        assert_eq!(sim.disk.borrow().files.get(*name), Some(bytes), "{name}");
    }
}

#[test]
fn a_lost_cursor_marks_everything() {
    let (sim, all) = told(400);
    sim.disk.borrow_mut().files.remove("cursor");
    let (mut spool, recovered) = Spool::open_in(sim.clone(), options()).expect("a spool");
    assert_eq!(recovered.notes, [Note::NoCursor]);
    let (read, losses) = drain(&mut spool);
    assert_eq!((read.len(), losses.len()), (all.len(), 0));
    assert!(read.iter().all(|(_, marked)| *marked));
    drop(spool);

    // Another boot: the cursor may be older than what happened.
    let (sim, _) = told(400);
    let other = super::Options { boot: 5, ..options() };
    let (mut spool, _) = Spool::open_in(sim.clone(), other.clone()).expect("a spool");
    assert!(drain(&mut spool).0.iter().all(|(_, marked)| *marked));
    // The next process of that boot trusts it again, and all was handed out.
    let (mut spool, _) = Spool::open_in(sim, other).expect("a spool");
    assert!(drain(&mut spool).0.iter().all(|(_, marked)| *marked));
}

#[test]
fn one_torn_slot_of_the_cursor_is_not_all_of_it() {
    let (sim, _) = told(1 << 20);
    let (mut spool, _) = Spool::open_in(sim.clone(), options()).expect("a spool");
    let mut block = Block::default();
    assert!(matches!(spool.next(&mut block), Ok(Next::Block)));
    spool.confirmed(1).expect("a write");
    assert!(matches!(spool.next(&mut block), Ok(Next::Block)));
    drop(spool);
    for slot in [0, CURSOR / 2] {
        for at in 0..SLOT {
            let sim = damaged(&sim, "cursor", |bytes| bytes[slot + at] ^= 0x10);
            let (mut spool, recovered) = Spool::open_in(sim, options()).expect("a spool");
            assert!(recovered.notes.is_empty());
            let (read, losses) = drain(&mut spool);
            assert!(losses.is_empty());
            // Both slots know that the first was confirmed; one that the second block was handed out.
            assert_eq!(read.len(), 9, "octet {at} of {slot}");
            assert!(read[..2].iter().all(|(_, marked)| *marked));
        }
    }
}
