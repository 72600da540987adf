//! Changes to a file that a cache left, then questions and events: no panic, what is taken from the file agrees with
//! itself, and answers are JSON.
//!
//! The input is a list of: offset u24 | what u8 | byte. `what` 0 puts the byte there, 1 flips its bits, 2 copies the 8
//! bytes that stand so many times 8 before, 3 cuts the file off. The sums of the header and of records are made right
//! again where `what` has its highest bit set, so that what is behind them is reached.

use rateway::cache::{
    Answer, Applied, Cache, Holding, KindSet, Opened, Options, Position, Question, Scratch,
};
use rateway::gateway::envelope::scan;
use std::path::PathBuf;
use std::sync::OnceLock;

const EVENTS: [&[u8]; 2] = [
    include_bytes!("../../tests/corpus/READY.json"),
    include_bytes!("../../tests/corpus/GUILD_CREATE.small.json"),
];
const ONE: [&str; 12] = [
    "GuildChannel",
    "Emoji",
    "Guild",
    "PrivateChannel",
    "Role",
    "User",
    "GuildChannels",
    "GuildRoles",
    "GuildEmojis",
    "GuildMembers",
    "Thread",
    "Sticker",
];

fn path() -> PathBuf {
    // Memory rather than a disk, where there is such a folder.
    let folder = PathBuf::from("/dev/shm");
    let folder = if folder.is_dir() { folder } else { std::env::temp_dir() };
    folder.join(format!("rateway-fuzz-{}.cache", std::process::id()))
}

fn options() -> Options {
    Options {
        memory_bytes: 192 * 1024,
        holding: Holding { kinds: KindSet::all(), message_cache_size: 3, members_are_told: false },
        shards: vec![0],
        shard_count: 1,
        seed: [3, 4],
    }
}

fn open() -> Opened {
    Cache::open(options(), &path(), [1; 32]).unwrap_or_else(|error| panic!("{error}"))
}

fn apply(cache: &Cache, scratch: &mut Scratch, session: u64) {
    for (number, payload) in EVENTS.iter().enumerate() {
        let envelope = scan(payload).expect("a payload");
        let mut name = String::new();
        let name = envelope.event_name(payload, &mut name).expect("a name");
        let position = Position { session, seq: number as u64 + 1 };
        let applied = cache.apply_at(0, position, name, envelope.d(payload), scratch);
        assert_ne!(applied, Applied::Broken);
    }
}

/// The file as a cache leaves it, and ids that are in it.
fn scene() -> &'static (Vec<u8>, Vec<u64>) {
    static SCENE: OnceLock<(Vec<u8>, Vec<u64>)> = OnceLock::new();
    SCENE.get_or_init(|| {
        let _ = std::fs::remove_file(path());
        let (Opened { cache, .. }, mut scratch) = (open(), Scratch::default());
        apply(&cache, &mut scratch, 1);
        drop(cache);
        let text = String::from_utf8_lossy(EVENTS[1]);
        let digits =
            text.split(|c: char| !c.is_ascii_digit()).filter_map(|digits| digits.parse::<u64>().ok());
        let mut ids: Vec<u64> = digits.filter(|id| *id > 1 << 40).collect();
        ids.sort_unstable();
        ids.dedup();
        (std::fs::read(path()).expect("the file"), ids.into_iter().step_by(3).take(24).collect())
    })
}

/// As `arena::words::sum`.
fn sum(bytes: &[u8]) -> u64 {
    const K: u64 = 0x9e37_79b9_7f4a_7c15;
    let words = bytes.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word));
    let sum = words.fold(K, |sum, word| (sum.rotate_left(23) ^ word).wrapping_mul(K));
    sum ^ (sum >> 32)
}

/// One run.
pub fn run(input: &[u8]) {
    let (whole, ids) = scene();
    let mut bytes = whole.clone();
    let mut right = false;
    for &[a, b, c, what, value] in input.as_chunks::<5>().0.iter().take(64) {
        let at = (usize::from(a) | usize::from(b) << 8 | usize::from(c) << 16) % bytes.len().max(1);
        right |= what & 0x80 != 0;
        match what & 3 {
            _ if bytes.is_empty() => {}
            0 => bytes[at] = value,
            1 => bytes[at] ^= value,
            2 => {
                let from = at.saturating_sub((usize::from(value) + 1) * 8);
                let length = 8.min(bytes.len() - at);
                bytes.copy_within(from..from + length, at);
            }
            _ => bytes.truncate(at.max(1)),
        }
    }
    if right && bytes.len() > 80 * 8 {
        let header = sum(&bytes[..19 * 8]);
        bytes[19 * 8..20 * 8].copy_from_slice(&header.to_le_bytes());
        let record = sum(&bytes[65 * 8..75 * 8]);
        bytes[75 * 8..76 * 8].copy_from_slice(&record.to_le_bytes());
    }
    std::fs::write(path(), &bytes).expect("a file");
    let (Opened { cache, .. }, mut scratch) = (open(), Scratch::default());
    assert_eq!(cache.audit(), Vec::<String>::new());
    let mut out = Vec::new();
    for (kind, id) in ONE.iter().flat_map(|kind| ids.iter().map(move |id| (kind, id))) {
        out.clear();
        let answer = cache.ask(Question::new(kind, &[*id]).expect("a question"), &mut scratch, &mut out);
        if answer == Answer::Found {
            // Lone surrogates are JSON, too.
            let read = serde_json::from_slice::<serde_json::Value>(&out);
            assert!(
                read.is_ok() || out.windows(2).any(|two| two == b"\\u"),
                "{}",
                String::from_utf8_lossy(&out)
            );
        }
    }
    apply(&cache, &mut scratch, 2);
    cache.settle(&mut scratch);
    assert_eq!(cache.audit(), Vec::<String>::new());
}
