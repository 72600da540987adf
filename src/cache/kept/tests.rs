//! A process that ends at any instant, and files that are not what they should be; more in `tests/cache_model`.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::Value;

use super::header::Header;
use super::*;
use crate::cache::arena::Key;
use crate::cache::arena::pages::instants::watch;
use crate::cache::arena::words::put_word;
use crate::cache::{Applied, Cache, Holding, KindSet, Opened as CacheOpened, Options, Position, Scratch};

const MEMORY: usize = 1 << 20;

/// A file of its own, which is gone at the end.
struct Place(PathBuf);

impl Place {
    fn new() -> Place {
        static LAST: AtomicU64 = AtomicU64::new(0);
        let number = LAST.fetch_add(1, Ordering::Relaxed);
        let name = format!("rateway-kept-lib-{}-{number}", std::process::id());
        Place(std::env::temp_dir().join(name))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn options() -> Options {
    Options {
        memory_bytes: MEMORY,
        holding: Holding { kinds: KindSet::all(), message_cache_size: 10, members_are_told: false },
        shards: vec![0],
        shard_count: 1,
        seed: [1, 2],
    }
}

fn open(path: &Path) -> CacheOpened {
    Cache::open(options(), path, [7; 32]).unwrap_or_else(|error| panic!("{error}"))
}

fn corpus(file: &str) -> Value {
    let path = format!("{}/tests/corpus/{file}", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_slice(&std::fs::read(path).expect("part of the repository")).expect("JSON")
}

/// The corpus' story: names and bodies.
fn story() -> Vec<(String, Vec<u8>)> {
    let expected = corpus("story_expected.json");
    let steps = expected["steps"].as_array().expect("steps").iter();
    let payloads = steps.map(|step| corpus(step["file"].as_str().expect("a file")));
    payloads
        .map(|payload| {
            (payload["t"].as_str().expect("a name").to_owned(), payload["d"].to_string().into_bytes())
        })
        .collect()
}

fn rows(cache: &Cache) -> Vec<(Key, Vec<u8>)> {
    cache.partitions[0].lock().rows()
}

/// The file is looked at between any two changes of a page and between the words of a record: it holds what was there
/// before the event, or what is there after it, or says that it is torn.
#[test]
fn a_process_may_end_at_any_instant() {
    /// How often the file is looked at, at most: each time costs a millisecond.
    const LOOKS: u64 = 1_200;
    #[derive(Default)]
    struct Seen {
        /// By position.
        rows: Vec<Vec<(Key, Vec<u8>)>>,
        instants: u64,
        whole: u64,
        torn: u64,
    }
    let events = story();
    let run = |every: u64| {
        let (file, copy) = (Place::new(), Place::new());
        let seen = Rc::new(RefCell::new(Seen::default()));
        let CacheOpened { cache, .. } = open(&file.0);
        let mut scratch = Scratch::default();
        seen.borrow_mut().rows.push(rows(&cache));
        for (number, (name, d)) in events.iter().enumerate() {
            let seq = number as u64 + 1;
            let (from, to, all) = (file.0.clone(), copy.0.clone(), Rc::clone(&seen));
            let look = move || {
                let mut seen = all.borrow_mut();
                seen.instants += 1;
                if !seen.instants.is_multiple_of(every) {
                    return;
                }
                std::fs::copy(&from, &to).expect("a copy");
                let CacheOpened { cache, kept, told } = open(&to);
                assert_eq!(cache.audit(), Vec::<String>::new());
                let Some(kept) = kept.first() else {
                    let torn = told.len() == 1 && told[0].contains("broke off");
                    assert!(torn || seq == 1, "event {seq}: {told:?}");
                    seen.torn += 1;
                    return;
                };
                assert!(told.is_empty(), "event {seq}: {told:?}");
                assert_eq!(kept.position.session, 5);
                seen.whole += 1;
                // What comes after is known once it is there.
                match kept.position.seq {
                    before if before + 1 == seq => assert!(rows(&cache) == seen.rows[before as usize]),
                    after => assert_eq!(after, seq),
                }
            };
            watch(Some(Box::new(look)));
            let position = Position { session: 5, seq };
            let applied = cache.apply_at(0, position, name, d, &mut scratch);
            watch(None);
            assert_eq!(applied, Applied::Done, "{name}");
            seen.borrow_mut().rows.push(rows(&cache));
        }
        let shapes = cache.common.shapes.to_bytes();
        drop(cache);
        let CacheOpened { cache, told, .. } = open(&file.0);
        assert!(cache.common.shapes.to_bytes() == shapes, "shapes come back with all that belongs to them");
        assert!(told.is_empty() && Some(&rows(&cache)) == seen.borrow().rows.last());
        Rc::into_inner(seen).expect("nobody else has it").into_inner()
    };
    let instants = run(u64::MAX).instants;
    let seen = run((instants / LOOKS).max(1));
    eprintln!("{instants} instants: {} whole, {} torn", seen.whole, seen.torn);
    assert!(seen.torn > 100 && seen.whole > 20);
}

#[test]
fn a_file_that_was_not_made_to_the_end_is_none() {
    let file = Place::new();
    drop(open(&file.0));
    let whole = std::fs::read(&file.0).expect("the file");
    // Its magic is written last.
    let mut half = whole.clone();
    half[..8].fill(0);
    std::fs::write(&file.0, half).expect("a file");
    let CacheOpened { told, kept, .. } = open(&file.0);
    assert!(kept.is_empty() && told.len() == 1 && told[0].contains("not made to the end"), "{told:?}");
    assert!(std::fs::read(&file.0).expect("the file") == whole);
}

#[test]
fn another_boot_takes_only_what_was_closed() {
    let words: Vec<AtomicU64> = (0..header::WORDS).map(|_| AtomicU64::new(0)).collect();
    let bytes = |words: &[AtomicU64]| -> Vec<u8> {
        words.iter().flat_map(|word| word.load(Ordering::Relaxed).to_ne_bytes()).collect()
    };
    let now = Header::new(&options(), 100, 4096, 10, [1; 32]);
    let of_boot = |boot: [u64; 2]| now.with_boot(boot);
    of_boot([1, 2]).write(&words);
    assert_eq!(of_boot([1, 2]).compare(&bytes(&words)), Ok(()));
    let why = of_boot([3, 4]).compare(&bytes(&words)).expect_err("another boot");
    assert!(why.contains("not closed"), "{why}");
    Header::set_closed(&words, true);
    assert_eq!(of_boot([3, 4]).compare(&bytes(&words)), Ok(()));
    // Where the machine does not tell, nothing is known.
    of_boot([0, 0]).write(&words);
    assert!(!Header::is_closed(&words) && of_boot([0, 0]).compare(&bytes(&words)).is_err());
    put_word(&words, 4, 11);
    assert!(now.compare(&bytes(&words)).expect_err("other pages").contains("CACHE_MEMORY"));
}

#[test]
fn the_bots_own_user_survives_a_write_that_broke_off() {
    let file = Place::new();
    let CacheOpened { cache, .. } = open(&file.0);
    let front = Front::new(1, 10);
    let user = || front.user_words(&cache.common.region);
    assert_eq!(user().read(), None);
    for number in 1..5u8 {
        user().write(number.into(), &[number; 100]);
        assert_eq!(user().read(), Some((number.into(), vec![number; 100])));
    }
    // The next one would stand where the last but one does.
    let words = Words::new(&cache.common.region, front.user()..front.user() + user::WORDS);
    put_word(words.all(), user::WORDS / 2 + 5, 99);
    assert_eq!(user().read(), Some((4, vec![4; 100])));
    // What is too long is not kept, and takes the place of the other one.
    user().write(9, &[0; user::WORDS * WORD]);
    assert_eq!(user().read(), Some((4, vec![4; 100])));
    user().clear();
    assert_eq!(user().read(), None);
}

#[test]
fn the_layout_has_a_version() {
    const SUM: u64 = 0x0502_c4fd_5dce_f786;
    let file = Place::new();
    let CacheOpened { cache, .. } = open(&file.0);
    let mut scratch = Scratch::default();
    for (number, file) in ["READY.json", "GUILD_CREATE.small.json"].into_iter().enumerate() {
        let payload = corpus(file);
        let (name, d) = (payload["t"].as_str().expect("a name"), payload["d"].to_string().into_bytes());
        let position = Position { session: 1, seq: number as u64 + 1 };
        assert_eq!(cache.apply_at(0, position, name, &d, &mut scratch), Applied::Done);
    }
    let bytes = std::fs::read(&file.0).expect("the file");
    // How many pages there are depends on the machine.
    let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1).next_multiple_of(WORD);
    let words = bytes[header::WORDS * WORD..end].as_chunks::<WORD>().0;
    let found = super::super::arena::words::sum(words.iter().map(|word| u64::from_le_bytes(*word)));
    assert_eq!(
        found, SUM,
        "what lies in a cache's file has changed: if files of before would be read as something else, raise VERSION in \
         kept/header.rs; then put the new sum here"
    );
}
