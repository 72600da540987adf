//! The broker is away for longer than the outbox has room: events go to the disk and come back, in order, over restarts
//! too; and what happens when the disk is full, read-only or damaged.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use rateway::base::Rng;

use crate::support::{Forward, Setup, Stage, dead_port, let_pass, wait_until};

/// A folder that is gone at the end, with whatever is mounted there.
struct Scratch {
    path: PathBuf,
    mounted: bool,
}

impl Scratch {
    fn new(label: &str) -> Scratch {
        let path = std::env::temp_dir().join(format!("rateway-outage-{label}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).expect("a folder");
        Scratch { path, mounted: false }
    }

    /// A file system of its own, of `bytes`. What may not mount anything says so and goes without.
    fn small(label: &str, bytes: u64) -> Option<Scratch> {
        let mut scratch = Scratch::new(label);
        let target = CString::new(scratch.path.to_str().expect("UTF-8")).expect("no NUL");
        let size = CString::new(format!("size={bytes}")).expect("no NUL");
        // SAFETY: all four are strings that end with NUL and outlive the call.
        let result = unsafe {
            libc::mount(c"tmpfs".as_ptr(), target.as_ptr(), c"tmpfs".as_ptr(), 0, size.as_ptr().cast())
        };
        scratch.mounted = result == 0;
        if !scratch.mounted {
            // Past the test runner, which shows what a test prints only when it fails.
            let words =
                format!("NOT TESTED here, mount(2) is not allowed: a small file system for {label}\n");
            std::io::stderr().write_all(words.as_bytes()).expect("stderr");
        }
        scratch.mounted.then_some(scratch)
    }

    fn make_read_only(&self) {
        let target = CString::new(self.path.to_str().expect("UTF-8")).expect("no NUL");
        let flags = libc::MS_REMOUNT | libc::MS_RDONLY;
        // SAFETY: strings that end with NUL and outlive the call; no data.
        let result = unsafe {
            libc::mount(c"tmpfs".as_ptr(), target.as_ptr(), c"tmpfs".as_ptr(), flags, std::ptr::null())
        };
        assert_eq!(result, 0, "remounting what was just mounted");
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if self.mounted {
            let target = CString::new(self.path.to_str().expect("UTF-8")).expect("no NUL");
            // SAFETY: a string that ends with NUL.
            unsafe { libc::umount2(target.as_ptr(), libc::MNT_DETACH) };
        }
        let _ = fs::remove_dir_all(&self.path);
    }
}

const SHARDS: u32 = 4;

/// A stage whose way to the broker can be cut.
fn scene(label: &'static str, state: &Path, variables: &[(&str, &str)]) -> (Stage, Forward) {
    let port = dead_port();
    let mut setup = Setup::new(label, SHARDS, 2)
        .env("STATE_DIR", &state.display().to_string())
        .env("OUTBOX_MEMORY", "1MiB")
        .env("CACHE_MEMORY", "8MiB");
    for (name, value) in variables {
        setup = setup.env(name, value);
    }
    let prepared = setup.prepare();
    let forward = Forward::start(port, &prepared.vhost.address());
    let uri = prepared.vhost.uri_at(port);
    let stage = prepared.env("AMQP_URI", &uri).start();
    stage.wait_up();
    stage.settle();
    (stage, forward)
}

fn wait_more(stage: &Stage, count: u64) {
    let now = stage.sim.ledger().dispatches;
    stage.wait_dispatches(now + count);
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// `RATEWAY_OUTAGE_S` makes it longer: 60 takes some minutes, most of it the worker's.
#[test]
fn an_outage_goes_to_the_disk_and_comes_back_in_order() {
    let scratch = Scratch::new("long");
    let (stage, forward) = scene("outage", &scratch.path, &[]);
    let before_kib = stage.gateway.resident_kib();
    stage.set_rate(5000.0);
    wait_more(&stage, 2000);
    forward.leave();
    let mut most_kib = 0;
    for _ in 0..number("RATEWAY_OUTAGE_S").unwrap_or(8) {
        wait_more(&stage, 5000);
        most_kib = most_kib.max(stage.gateway.resident_kib());
    }
    stage.gateway.wait_line("events go to the disk");
    forward.come_back();
    wait_more(&stage, 5000);
    stage.set_rate(0.0);
    let repeats = stage.judge();
    let ledger = stage.sim.ledger();
    assert_eq!((ledger.identifies.len(), ledger.resumes), (SHARDS as usize, 0), "the shards did not notice");
    // The outboxes, what two clusters' spools may hold of buffers, and 8 MiB for what else grows in a process.
    let allowed_kib = before_kib + 1024 + 2 * 2048 + 8192;
    assert!(most_kib < allowed_kib, "{most_kib} KiB resident, {before_kib} KiB before the outage");
    wait_until("the disk is given back", || spool_bytes(&scratch.path) < 4096);
    println!(
        "{} events, {repeats} twice; {before_kib} KiB before, {most_kib} KiB at most",
        ledger.dispatches
    );
}

fn spool_bytes(state: &Path) -> u64 {
    let spools = fs::read_dir(state).expect("STATE_DIR").filter_map(Result::ok);
    let spools = spools.filter(|entry| entry.file_name().to_string_lossy().starts_with("spool-"));
    let files = spools.flat_map(|spool| fs::read_dir(spool.path()).expect("a spool").filter_map(Result::ok));
    // A file may go between the two calls.
    files.filter_map(|file| file.metadata().ok()).map(|metadata| metadata.len()).sum()
}

#[test]
fn what_is_on_disk_outlives_stops_and_kills() {
    let scratch = Scratch::new("lives");
    let (mut stage, forward) = scene("outlives", &scratch.path, &[]);
    stage.set_rate(3000.0);
    for round in 0..4 {
        wait_more(&stage, 1000);
        forward.leave();
        wait_more(&stage, 6000);
        wait_until("events on disk", || spool_bytes(&scratch.path) > 1 << 20);
        if round % 2 == 0 {
            assert_eq!(stage.gateway.stop(), 0);
            assert!(
                stage.gateway.count("are on disk, for the next start") > 0,
                "{:#?}",
                stage.gateway.lines()
            );
        } else {
            stage.gateway.signal(libc::SIGKILL);
        }
        stage.restart();
        stage.gateway.wait_line("wait on disk for the broker");
        forward.come_back();
        stage.wait_up();
    }
    let repeats = stage.judge();
    let ledger = stage.sim.ledger();
    assert_eq!(ledger.identifies.len(), SHARDS as usize, "a session start was wasted");
    println!("{} events, {repeats} twice", ledger.dispatches);
}

#[test]
fn when_the_disk_is_full_too_discord_waits() {
    let scratch = Scratch::new("full");
    let variables = [("SPOOL_SIZE", "16MiB"), ("SHED", "none")];
    let (stage, forward) = scene("full", &scratch.path, &variables);
    stage.set_rate(8000.0);
    forward.leave();
    stage.gateway.wait_line("the spool is full; Discord waits");
    assert!(spool_bytes(&scratch.path) <= 16 << 20);
    let_pass(1.0);
    assert!(spool_bytes(&scratch.path) <= 16 << 20);
    stage.set_rate(500.0);
    forward.come_back();
    stage.judge();
}

/// A small file system behaves the same, although SPOOL_SIZE promises more.
#[test]
fn a_full_file_system_is_survived() {
    let Some(scratch) = Scratch::small("tmpfs", 16 << 20) else { return };
    let (stage, forward) = scene("tmpfs", &scratch.path, &[]);
    stage.set_rate(8000.0);
    forward.leave();
    let line = stage.gateway.wait_line("cannot go to STATE_DIR");
    assert!(line.contains("No space left"), "{line}");
    wait_more(&stage, 500);
    stage.set_rate(500.0);
    forward.come_back();
    stage.judge();
}

/// From the first byte on: neither sessions nor the cache nor events can be kept, and the service goes on.
#[test]
fn a_state_dir_without_room_or_rights_is_told_and_done_without() {
    let Some(scratch) = Scratch::small("read-only", 4096) else { return };
    for lines in [&["is not kept over a restart", "are not kept"][..], &["nothing is kept over a restart"]] {
        let (stage, forward) = scene("read-only", &scratch.path, &[]);
        assert!(lines.iter().any(|line| stage.gateway.count(line) > 0), "{:#?}", stage.gateway.lines());
        stage.set_rate(2000.0);
        wait_more(&stage, 1000);
        forward.leave();
        wait_more(&stage, 1500);
        forward.come_back();
        wait_more(&stage, 500);
        stage.judge();
        drop(stage);
        scratch.make_read_only();
    }
}

#[test]
fn what_can_be_done_without_goes_first_and_is_told() {
    let scratch = Scratch::new("shed");
    let variables = [("SPOOL_SIZE", "64MiB"), ("SHED_FROM_PERCENT", "10")];
    let (stage, forward) = scene("shed", &scratch.path, &variables);
    stage.set_rate(8000.0);
    forward.leave();
    wait_more(&stage, 40_000);
    stage.set_rate(0.0);
    forward.come_back();
    wait_until("a gap for each shard", || {
        stage.worker.find(|message| message.key == "RATEWAY_GAP").len() == SHARDS as usize
    });
    let ledger = stage.sim.ledger();
    let mut arrived: BTreeMap<u32, Vec<u64>> = BTreeMap::new();
    for message in stage.worker.find(|message| message.is_event()) {
        let seqs = arrived.entry(message.shard_id()).or_default();
        if message.seq() > seqs.last().copied().unwrap_or(0) {
            seqs.push(message.seq());
        }
    }
    let gaps = stage.worker.find(|message| message.key == "RATEWAY_GAP");
    let mut left_out = 0;
    for shard in 0..SHARDS {
        let gap = gaps.iter().find(|gap| gap.shard_id() == shard).expect("each has one");
        let told: serde_json::Value = serde_json::from_slice(&gap.body).expect("JSON");
        let sent: Vec<_> = ledger.dispatches_of(shard).collect();
        let got = &arrived[&shard];
        for dispatch in &sent {
            if got.binary_search(&dispatch.seq).is_err() {
                assert!(
                    ["TYPING_START", "PRESENCE_UPDATE"].contains(&&*dispatch.event),
                    "{dispatch:?} is lost"
                );
                assert!(dispatch.seq > told["last_seq"].as_u64().expect("a seq"), "{told} and {dispatch:?}");
                left_out += 1;
            }
        }
    }
    assert!(left_out > 100, "{left_out} were left out");
}

/// Every file of STATE_DIR is cut short and changed at random places: a clear line, never a crash, and what is not
/// trusted costs a session start at most.
#[test]
fn damaged_files_are_told_and_never_trusted() {
    let seed = number("RATEWAY_SEED").unwrap_or(1);
    println!("RATEWAY_SEED={seed}");
    let mut rng = Rng::new(seed);
    let scratch = Scratch::new("damage");
    let (mut stage, forward) = scene("damage", &scratch.path, &[]);
    for round in 0..number("RATEWAY_DAMAGES").unwrap_or(3) {
        stage.set_rate(4000.0);
        forward.leave();
        wait_more(&stage, 5000);
        stage.set_rate(0.0);
        assert_eq!(stage.gateway.stop(), 0);
        let files = files_under(&scratch.path);
        assert!(files.len() >= 5, "{files:?}");
        for file in &files {
            let mut bytes = fs::read(file).expect("a file of ours");
            if bytes.is_empty() || rng.chance(1, 3) {
                continue;
            }
            match round % 2 {
                0 => bytes.truncate(rng.below(bytes.len() as u64) as usize),
                _ => {
                    for _ in 0..1 + rng.below(8) {
                        let at = rng.below(bytes.len() as u64) as usize;
                        bytes[at] ^= 1 << rng.below(8);
                    }
                }
            }
            fs::write(file, bytes).expect("a file of ours");
        }
        stage.restart();
        forward.come_back();
        stage.wait_up();
        // It serves: a new event of each shard comes through.
        for shard in 0..SHARDS {
            let d = format!(r#"{{"guild_id":"1","channel_id":"{round}","mark":"after {round}"}}"#);
            stage.emit(shard, "TYPING_START", &d);
        }
        let mark = format!("after {round}");
        wait_until("events after the damage", || {
            stage.worker.find(|message| message.text().contains(&mark)).len() >= SHARDS as usize
        });
        assert!(stage.gateway.is_alive());
    }
    // A session that is not to be trusted is left alone, and lives on at Discord until it forgets it.
    let violations = stage.sim.ledger().violations;
    assert!(violations.is_empty(), "{violations:?}");
}

fn files_under(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder").filter_map(Result::ok) {
        match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => files.extend(files_under(&entry.path())),
            _ => files.push(entry.path()),
        }
    }
    files.sort();
    files
}
