//! In a real folder.

use std::fs;
use std::path::PathBuf;

use super::{Event, append, class, drain, events, options};
use crate::state::spool::format::segment_name;
use crate::state::spool::{
    BUFFER_BYTES, Block, Entry, Error, Next, Options, Reach, Record, Spool, WINDOW_BYTES,
};

/// A folder that is gone at the end.
pub struct Scratch(pub PathBuf);

impl Scratch {
    pub fn new(name: &str) -> Scratch {
        let path = std::env::temp_dir().join(format!("rateway-spool-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        Scratch(path)
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(&self.0)
            .expect("the folder")
            .map(|entry| entry.expect("an entry").file_name().into_string().expect("a name"))
            .collect();
        names.sort();
        names
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn message(shard: u32, seq: u64) -> Event {
    Event::new(shard, 7, seq, &format!("MESSAGE:{seq}"))
}

#[test]
fn what_was_spooled_comes_back_after_a_restart() {
    let scratch = Scratch::new("restart");
    let (mut spool, recovered) = Spool::open(&scratch.0.join("cluster-1"), options()).expect("a spool");
    assert!(spool.is_empty() && recovered.notes.is_empty() && recovered.reach.is_empty());
    let all: Vec<Event> = (1..200).map(|seq| message((seq % 3) as u32, seq)).collect();
    for event in &all {
        append(&mut spool, std::slice::from_ref(event), false).expect("room");
    }
    let mut block = Block::default();
    for event in &all[..50] {
        assert_eq!(spool.next(&mut block).expect("a read"), Next::Block);
        assert_eq!(events(&block), std::slice::from_ref(event));
        assert!(!block.maybe_published && block.frame_max == 4096);
    }
    spool.confirmed(30).expect("a write");
    assert_eq!(spool.waiting(), 169);
    drop(spool);

    let (mut spool, recovered) = Spool::open(&scratch.0.join("cluster-1"), options()).expect("a spool");
    assert_eq!((recovered.records, recovered.notes.len()), (169, 0));
    let reach = |shard, seq| Reach { shard, session: 7, seq };
    assert_eq!(recovered.reach, [reach(0, 198), reach(1, 199), reach(2, 197)]);
    // Newer ones go behind while the older ones drain.
    append(&mut spool, &[message(0, 200)], false).expect("room");
    let (read, losses) = drain(&mut spool);
    assert!(losses.is_empty());
    let expected = all[30..].iter().cloned().chain([message(0, 200)]);
    assert_eq!(read, expected.enumerate().map(|(at, event)| (event, at < 20)).collect::<Vec<_>>());
    assert_eq!((spool.stats().drained, spool.stats().repeated), (170, 20));
}

#[test]
fn a_segment_goes_when_all_of_it_is_confirmed() {
    let scratch = Scratch::new("segments");
    let (mut spool, _) = Spool::open(&scratch.0, options()).expect("a spool");
    let mut ends = Vec::new();
    for seq in 1..=100 {
        ends.push(append(&mut spool, &[message(0, seq)], false).expect("room").end);
    }
    let segments = scratch.names().len() - 1;
    assert!(segments >= 3, "{segments}");
    assert_eq!(drain(&mut spool).0.len(), 100);
    assert_eq!(scratch.names().len() - 1, segments, "handed out is not confirmed");
    let mut before = segments;
    for end in ends {
        spool.confirmed(end).expect("a write");
        let now = scratch.names().len() - 1;
        assert!(now == before || now + 1 == before);
        let on_disk: u64 = scratch
            .names()
            .iter()
            .map(|name| fs::metadata(scratch.0.join(name)).expect("a file").len())
            .sum();
        assert_eq!(on_disk, spool.bytes());
        before = now;
    }
    assert_eq!(scratch.names(), ["cursor"]);
    assert!(spool.is_empty());
    append(&mut spool, &[message(0, 101)], false).expect("room");
    assert_eq!(drain(&mut spool).0, [(message(0, 101), false)]);
}

#[test]
fn a_full_spool_sheds_first_and_then_refuses() {
    let scratch = Scratch::new("full");
    let options = Options { bytes_max: 8192, shed_from_percent: 50, ..options() };
    let (mut spool, _) = Spool::open(&scratch.0, options).expect("a spool");
    let mut seq = 0;
    let mut kept = Vec::new();
    loop {
        let batch = [
            Event::new(4, 7, seq + 1, "TYPING_START:a"),
            Event::new(4, 7, seq + 2, "MESSAGE:b"),
            Event::new(4, 7, seq + 3, "PRESENCE_UPDATE:c"),
        ];
        let shedding = spool.is_shedding();
        match append(&mut spool, &batch, false) {
            Ok(appended) => {
                assert_eq!(appended.shed, if shedding { 2 } else { 0 });
                kept.extend(if shedding { batch[1..2].to_vec() } else { batch.to_vec() });
            }
            Err(Error::Full) => break,
            Err(error) => panic!("{error}"),
        }
        seq += 3;
    }
    let stats = spool.stats().clone();
    assert_eq!(stats.full, 1);
    assert!(
        stats.shed.iter().all(|(_, count)| *count > 5) && stats.shed[0].1 == stats.shed[1].1,
        "{stats:?}"
    );
    // Only what can be shed is no reason to write, nor to refuse.
    let typing = [Event::new(4, 7, seq + 1, "TYPING_START:a")];
    assert_eq!(append(&mut spool, &typing, false).expect("nothing to do").shed, 1);
    let (read, losses) = drain(&mut spool);
    assert!(losses.is_empty(), "what was shed is no loss");
    assert_eq!(read.into_iter().map(|(event, _)| event).collect::<Vec<_>>(), kept);
}

#[test]
fn a_large_message_passes_and_leaves_no_memory_behind() {
    let scratch = Scratch::new("large");
    let (mut spool, _) = Spool::open(&scratch.0, Options::default()).expect("a spool");
    let large = Event { text: vec![b'x'; 40 << 20], ..message(1, 1) };
    let all = [large, message(1, 2)];
    for event in &all {
        append(&mut spool, std::slice::from_ref(event), false).expect("room");
    }
    let (read, _) = drain(&mut spool);
    assert!(read.into_iter().map(|(event, _)| event).eq(all));
    let bound = WINDOW_BYTES + BUFFER_BYTES + 4096;
    assert!(spool.memory_bytes() <= bound, "{}", spool.memory_bytes());
    assert!(Spool::open(&scratch.0, Options::default()).expect("a spool").1.notes.is_empty());
}

#[test]
fn entries_that_are_none_are_refused() {
    let scratch = Scratch::new("entries");
    let (mut spool, _) = Spool::open(&scratch.0, options()).expect("a spool");
    for ends in [&[3, 2, 4][..], &[5], &[2], &[]] {
        let records = ends.iter().map(|&end| Record { seq: 1, session: 1, end });
        let entry = Entry { shard: 0, frame_max: 4096, maybe_published: false, records, bytes: b"four" };
        assert!(matches!(spool.append(entry, class), Err(Error::Entry(_))), "{ends:?}");
    }
    let nothing =
        Entry { shard: 0, frame_max: 4096, maybe_published: false, records: [].into_iter(), bytes: b"" };
    assert_eq!(spool.append(nothing, class).expect("nothing to do").records, 0);
    assert!(spool.is_empty() && scratch.names() == ["cursor"]);
}

#[test]
fn what_was_published_before_it_was_spooled_says_so() {
    let scratch = Scratch::new("marks");
    let (mut spool, _) = Spool::open(&scratch.0, options()).expect("a spool");
    append(&mut spool, &[message(0, 1)], true).expect("room");
    append(&mut spool, &[message(0, 2)], false).expect("room");
    assert_eq!(drain(&mut spool).0, [(message(0, 1), true), (message(0, 2), false)]);
}

#[test]
fn a_segment_that_vanishes_is_passed_over_and_told() {
    let scratch = Scratch::new("vanishes");
    let (mut spool, _) =
        Spool::open(&scratch.0, Options { segment_bytes: 16, ..options() }).expect("a spool");
    for seq in 1..=3 {
        append(&mut spool, &[message(0, seq)], false).expect("room");
        append(&mut spool, &[message(1, seq)], false).expect("room");
    }
    fs::remove_file(scratch.0.join(segment_name(2))).expect("the file");
    fs::remove_file(scratch.0.join(segment_name(5))).expect("the file");
    let (read, losses) = drain(&mut spool);
    assert_eq!(read.len(), 4);
    let told: Vec<_> = losses.iter().map(|loss| (loss.shard, loss.after, loss.last)).collect();
    assert_eq!(told, [(0, Some((7, 1)), (7, 2)), (1, Some((7, 2)), (7, 3))]);
    spool.confirmed(u64::MAX).expect("a write");
    assert!(spool.is_empty() && scratch.names() == ["cursor"]);
}

/// With a file system of a few MiB: `mount -t tmpfs -o size=4m none FOLDER`.
#[test]
#[ignore = "needs a small file system in RATEWAY_SMALL_DISK"]
fn a_full_disk_is_an_error_and_no_end() {
    let folder =
        PathBuf::from(std::env::var_os("RATEWAY_SMALL_DISK").expect("RATEWAY_SMALL_DISK")).join("spool");
    let _ = fs::remove_dir_all(&folder);
    let open =
        || Spool::open(&folder, Options { segment_bytes: 300_000, ..Options::default() }).expect("a spool");
    let (mut spool, _) = open();
    let large = |seq| Event { text: vec![b'x'; 10_000], ..message(0, seq) };
    let (mut written, mut drained) = (Vec::new(), Vec::new());
    for seq in 1..5000 {
        match append(&mut spool, &[large(seq)], false) {
            Ok(_) => written.push(seq),
            Err(Error::Io(error)) => {
                assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
                // What a broker takes makes room again, a segment at a time.
                let mut block = Block::default();
                let half = spool.waiting() / 2;
                while spool.waiting() > half && spool.next(&mut block).expect("a read") == Next::Block {
                    drained.push(block.records[0].seq);
                    spool.confirmed(block.end).expect("a write in place");
                }
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert!(spool.stats().io_errors > 3 && written.len() > 1000, "{:?}", spool.stats());
    drop(spool);
    let (mut spool, recovered) = open();
    assert!(recovered.notes.is_empty(), "{recovered:?}");
    drained.extend(drain(&mut spool).0.iter().map(|(event, _)| event.seq));
    assert_eq!(drained, written);
}
