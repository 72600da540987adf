//! The directory against a map that counts, alone and with several threads.

use std::collections::BTreeMap;

use super::*;
use crate::base::Rng;

const SEED: [u64; 2] = [0x0123_4567_89ab_cdef, 42];

/// (kind, id, shard) -> how often it was added and not removed.
type Model = BTreeMap<(u8, u64, u16), u32>;

fn misses(directory: &Directory, model: &Model) -> usize {
    let missed = |&&(kind, id, shard): &&(u8, u64, u16)| {
        let found = directory.candidates(kind, id);
        !found.everybody && !found.shards().contains(&shard)
    };
    model.keys().filter(missed).count()
}

/// Random adds and removals in a table of `bytes`; `ids` and `shards` say how much they collide.
fn run(seed: u64, bytes: usize, ids: u64, shards: u64) {
    let directory = Directory::with_capacity(bytes, [seed, 1]);
    let mut random = Rng::new(seed);
    let mut model = Model::new();
    let mut live: Vec<(u8, u64, u16)> = Vec::new();
    for step in 0..3000 {
        // Grows and shrinks by turns.
        let growing = if step / 700 % 2 == 0 { 3 } else { 1 };
        if live.is_empty() || random.chance(growing, 4) {
            let entry = (random.below(2) as u8, random.below(ids), random.below(shards) as u16);
            directory.add(entry.0, entry.1, entry.2);
            *model.entry(entry).or_default() += 1;
            live.push(entry);
        } else {
            let entry = live.swap_remove(random.below(live.len() as u64) as usize);
            directory.remove(entry.0, entry.1, entry.2);
            let count = model.get_mut(&entry).expect("it was added");
            *count -= 1;
            if *count == 0 {
                model.remove(&entry);
            }
        }
        if step % 50 == 0 {
            assert_eq!(misses(&directory, &model), 0, "seed {seed} step {step}");
        }
        let usage = directory.usage();
        assert_eq!(usage.used + usage.overflowed, live.len(), "seed {seed} step {step}");
        assert!(usage.used <= usage.slots);
    }
    for (kind, id, shard) in live.drain(..) {
        directory.remove(kind, id, shard);
    }
    let usage = directory.usage();
    assert_eq!((usage.used, usage.overflowed), (0, 0), "seed {seed}");
    for id in 0..ids {
        assert_eq!(directory.candidates(0, id), Candidates::default(), "seed {seed}: all is forgotten");
    }
}

#[test]
fn it_never_answers_one_shard_too_few() {
    for seed in 0..60 {
        // One bucket, a few that overflow, and plenty; many ids in few shards, and few ids in many.
        run(seed, 0, 40, 4);
        run(seed, 2_000, 500, 8);
        run(seed, 2_000, 3, 200);
        run(seed, 200_000, 2_000, 1_000);
    }
}

#[test]
fn answers_are_ascending_and_each_shard_is_there_once() {
    let directory = Directory::with_capacity(1 << 16, SEED);
    for shard in [9, 3, 0, 65_535, 3, 700] {
        directory.add(1, 5, shard);
    }
    let found = directory.candidates(1, 5);
    assert_eq!((found.shards(), found.everybody), (&[0, 3, 9, 700, 65_535][..], false));
    directory.remove(1, 5, 3);
    assert_eq!(directory.candidates(1, 5).shards(), [0, 3, 9, 700, 65_535], "it was added twice");
    directory.remove(1, 5, 3);
    assert_eq!(directory.candidates(1, 5).shards(), [0, 9, 700, 65_535]);
    assert_eq!(directory.candidates(2, 5), Candidates::default(), "another kind");
}

/// The bot is known to every shard: its id alone must make no other id slow.
#[test]
fn an_id_in_all_shards_costs_the_others_nothing() {
    let directory = Directory::with_capacity(1 << 20, SEED);
    let hot = 500;
    for shard in 0..1000 {
        for id in 0..hot {
            directory.add(0, id, shard);
        }
    }
    for id in hot..100_000 {
        directory.add(0, id, (id % 1000) as u16);
    }
    for id in 0..hot {
        let found = directory.candidates(0, id);
        assert!(found.everybody && found.shards().len() == CANDIDATES_MAX, "{id}: {found:?}");
    }
    let asked = (hot..100_000).filter(|&id| directory.candidates(0, id).everybody).count();
    println!("{asked} of {} ids share a cell with one of {hot} that every shard knows", 100_000 - hot);
    assert!(asked < 4_000, "{asked}");
    for shard in 0..1000 {
        for id in 0..hot {
            directory.remove(0, id, shard);
        }
    }
    assert_eq!(directory.usage().overflowed, 0);
    assert!((hot..100_000).all(|id| !directory.candidates(0, id).everybody));
}

#[test]
fn false_names_are_rare_and_it_fills_well_before_it_overflows() {
    for (bytes, loads) in [(68 << 10, 0.85), (4 << 20, 0.85), (16 << 20, 0.85)] {
        let directory = Directory::with_capacity(bytes, SEED);
        assert_eq!(directory.memory_bytes(), bytes / 68 * 68);
        let mut next = 0;
        while directory.usage().overflowed == 0 {
            directory.add(3, next, (next % 1000) as u16);
            next += 1;
        }
        let usage = directory.usage();
        let load = usage.used as f64 / usage.slots as f64;
        // At this load: ids that nobody knows, and how many shards are named for them.
        let named: usize = (0..200_000).map(|n| directory.candidates(4, n).shards().len()).sum();
        println!(
            "{bytes} bytes: full to {load:.3} before the first overflow, {named} false names in 200,000"
        );
        assert!(load > loads, "{load}");
        assert!(named < 200, "{named}");
    }
}

#[test]
fn a_full_table_stays_right_and_recovers() {
    let directory = Directory::with_capacity(10_000, SEED);
    let slots = directory.usage().slots as u64;
    let mut model = Model::new();
    for id in 0..2 * slots {
        directory.add(0, id, (id % 7) as u16);
        model.insert((0, id, (id % 7) as u16), 1);
    }
    let usage = directory.usage();
    assert!(usage.overflowed as u64 >= slots, "{usage:?}");
    assert_eq!(misses(&directory, &model), 0);
    // Half of them go; which of two twins left its entry does not matter.
    for id in 0..slots {
        directory.remove(0, id, (id % 7) as u16);
        model.remove(&(0, id, (id % 7) as u16));
    }
    assert_eq!(misses(&directory, &model), 0);
    for id in slots..2 * slots {
        directory.remove(0, id, (id % 7) as u16);
    }
    let usage = directory.usage();
    assert_eq!((usage.used, usage.overflowed), (0, 0));
    assert!((0..2 * slots).all(|id| directory.candidates(0, id) == Candidates::default()));
}

#[test]
fn a_purged_shard_is_named_no_more() {
    let directory = Directory::with_capacity(1 << 18, SEED);
    for id in 0..10_000 {
        directory.add(0, id, (id % 5) as u16);
        directory.add(0, id, ((id + 1) % 5) as u16);
    }
    directory.purge(3);
    for id in 0..10_000 {
        let found = directory.candidates(0, id);
        assert!(!found.shards().contains(&3) && !found.everybody);
        let left = [id % 5, (id + 1) % 5].into_iter().filter(|&shard| shard != 3);
        assert!(left.into_iter().all(|shard| found.shards().contains(&(shard as u16))));
    }
    assert_eq!(directory.usage().used, 16_000);
    // It begins anew, and nothing of the others was lost.
    directory.add(0, 1, 3);
    assert!(directory.candidates(0, 1).shards().contains(&3));
    for id in 0..10_000u64 {
        for shard in [id % 5, (id + 1) % 5].into_iter().filter(|&shard| shard != 3) {
            directory.remove(0, id, shard as u16);
        }
    }
    assert_eq!(directory.usage().used, 1);
}

/// Ids with the same fingerprint and the same two buckets, in a table of few.
fn twins(directory: &Directory, count: usize) -> Vec<u64> {
    let places = (0..).map(|id| directory.place(0, id));
    let first = places.into_iter().find(|place| place.buckets[0] != place.buckets[1]).expect("most are so");
    let same = |id: &u64| {
        let place = directory.place(0, *id);
        place.buckets == first.buckets && place.fingerprint == first.fingerprint
    };
    (0..).filter(same).take(count).collect()
}

/// Twins come and go between any two looks of a reader who asks for one that stays.
#[test]
fn readers_miss_nobody_while_twins_come_and_go() {
    let ids = twins(&Directory::with_capacity(2 * 68, SEED), 4);
    let mut counted = 0;
    for seed in 0..20_000 {
        let mut random = Rng::new(seed);
        let directory = Directory::with_capacity(2 * 68, SEED);
        // Room for few entries or many, so that some adds are only counted.
        let others = random.below(CANDIDATES_MAX as u64) as u16;
        (1..=others).for_each(|shard| directory.add(0, ids[0], shard));
        let mut live = Vec::new();
        let act = |live: &mut Vec<u64>, random: &mut Rng| {
            if live.is_empty() || (live.len() < 4 && random.chance(1, 2)) {
                live.push(ids[1 + random.below(3) as usize]);
                directory.add(0, *live.last().expect("pushed"), 0);
            } else {
                directory.remove(0, live.swap_remove(random.below(live.len() as u64) as usize), 0);
            }
        };
        (0..random.below(4)).for_each(|_| act(&mut live, &mut random));
        directory.add(0, ids[0], 0);
        (0..random.below(4)).for_each(|_| act(&mut live, &mut random));
        let found = directory.look(0, ids[0], || {
            if random.chance(1, 4) {
                (0..random.below(5)).for_each(|_| act(&mut live, &mut random));
            }
        });
        assert!(found.everybody || found.shards().contains(&0), "seed {seed}: {found:?}");
        counted += usize::from(found.everybody);
    }
    assert!((1_000..19_000).contains(&counted), "{counted} of 20000 went by a count");
}

/// Each thread has shards of its own, all of them the same ids.
#[test]
fn threads_with_shards_of_their_own_need_no_lock() {
    let directory = Directory::with_capacity(64 << 10, SEED);
    std::thread::scope(|scope| {
        for thread in 0..4u16 {
            let directory = &directory;
            scope.spawn(move || {
                let mut random = Rng::new(thread.into());
                let mut live: Vec<(u64, u16)> = Vec::new();
                for _ in 0..100_000 {
                    if live.len() < 2_500 && (live.is_empty() || random.chance(3, 5)) {
                        let entry = (random.below(3_000), thread * 8 + random.below(8) as u16);
                        directory.add(0, entry.0, entry.1);
                        live.push(entry);
                    } else {
                        let (id, shard) = live.swap_remove(random.below(live.len() as u64) as usize);
                        let found = directory.candidates(0, id);
                        assert!(found.everybody || found.shards().contains(&shard), "{id} of {shard}");
                        directory.remove(0, id, shard);
                    }
                }
                live.into_iter().for_each(|(id, shard)| directory.remove(0, id, shard));
            });
        }
    });
    let usage = directory.usage();
    assert_eq!((usage.used, usage.overflowed), (0, 0));
    assert!(directory.cells.iter().all(|cell| cell.load(Ordering::Relaxed) == 0));
}

/// `cargo test --release --lib directory_speed -- --ignored --nocapture`
#[test]
#[ignore = "prints times"]
#[allow(clippy::disallowed_methods, reason = "measures")]
fn directory_speed() {
    for bytes in [1 << 20, 16 << 20, 64 << 20] {
        let directory = Directory::with_capacity(bytes, SEED);
        let count = directory.usage().slots as u64 / 2;
        let each = |what: &str, work: &dyn Fn(u64)| {
            let start = std::time::Instant::now();
            // A step that shares no factor with the count: every id once, in no order that a cache likes.
            (0..count).for_each(|n| work(n.wrapping_mul(2_654_435_761) % count));
            println!(
                "{} MiB: {what} {:.0} ns",
                bytes >> 20,
                start.elapsed().as_nanos() as f64 / count as f64
            );
        };
        let ask = |kind, id| assert!(!directory.candidates(kind, id).everybody);
        each("add", &|id| directory.add(1, id, (id % 1000) as u16));
        each("candidates (hit)", &|id| ask(1, id));
        each("candidates (miss)", &|id| ask(2, id));
        each("remove", &|id| directory.remove(1, id, (id % 1000) as u16));
    }
}

#[test]
fn many_at_once_are_added_as_one_by_one() {
    let (one, all) = (Directory::with_capacity(1 << 12, [1, 2]), Directory::with_capacity(1 << 12, [1, 2]));
    let ids: Vec<(u8, u64)> = (0..701).map(|id| (5, id * 7)).collect();
    ids.iter().for_each(|(kind, id)| one.add(*kind, *id, 3));
    all.add_all(&ids, 3);
    assert_eq!(one.usage(), all.usage());
    assert!(ids.iter().all(|(kind, id)| one.candidates(*kind, *id) == all.candidates(*kind, *id)));
}
