//! kill -9 of a process that fills and drains a spool in a real folder, again and again.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use super::disk::Scratch;
use super::{Event, append, options};
use crate::base::Rng;
use crate::state::spool::{Block, Next, Options, Spool};

/// Says to this test's own program that it is the process to be killed, and where its folder is.
const FOLDER: &str = "RATEWAY_TEST_SPOOL";
/// The last seq that an earlier process told of.
const SEQ: &str = "RATEWAY_TEST_SEQ";
const ROUNDS: u64 = 25;
const BATCH: u64 = 3;

fn told() -> Options {
    Options { segment_bytes: 16 << 10, ..options() }
}

/// Fills and drains until it is killed, and says before and after what it does.
#[test]
fn the_process_to_be_killed() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let (mut spool, recovered) = Spool::open(Path::new(&folder), told()).expect("a spool");
    // What is drained the spool has forgotten.
    let told = std::env::var(SEQ).ok().and_then(|seq| seq.parse().ok()).unwrap_or(0);
    let mut seq = recovered.reach.first().map_or(0, |reach| reach.seq).max(told);
    let mut rng = Rng::new(seq);
    let mut block = Block::default();
    loop {
        if rng.chance(1, 2) {
            let batch: Vec<Event> = (1..=BATCH)
                .map(|more| Event::new(0, 7, seq + more, &format!("MESSAGE:{}", seq + more)))
                .collect();
            if append(&mut spool, &batch, false).is_ok() {
                seq += BATCH;
                println!("spool appended {seq}");
            }
        } else {
            println!("spool handing 0");
            if spool.next(&mut block).expect("a read") == Next::Block {
                let last = block.records.last().map_or(0, |record| record.seq);
                println!("spool handed {last}");
                if rng.chance(1, 2) {
                    println!("spool confirming {last}");
                    spool.confirmed(block.end).expect("a write");
                    println!("spool confirmed {last}");
                }
            }
        }
    }
}

#[test]
fn a_process_that_is_killed_loses_nothing() {
    let scratch = Scratch::new("killed");
    let folder = scratch.0.join("spool");
    let mut rng = Rng::new(3);
    // Over all processes: the highest seq for each word.
    let mut words: BTreeMap<String, u64> = BTreeMap::new();
    for round in 0..ROUNDS {
        let program = std::env::current_exe().expect("this test's program");
        let this = module_path!().split_once("::").map_or("", |(_, path)| path);
        let mut child = Command::new(program)
            .args([
                "--exact",
                &format!("{this}::the_process_to_be_killed"),
                "--nocapture",
                "--test-threads=1",
            ])
            .env(FOLDER, &folder)
            .env(SEQ, words.values().max().unwrap_or(&0).to_string())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("a process");
        let mut lines = 1 + rng.below(2000);
        for line in BufReader::new(child.stdout.take().expect("a pipe")).lines() {
            let line = line.expect("text");
            lines -= u64::from(lines > 0);
            if lines == 0 {
                // SIGKILL. What it has said until then is still read.
                child.kill().expect("a process of ours");
            }
            // A last line may be half: only whole ones have two words behind the first.
            let mut parts = line.split(' ').skip_while(|part| *part != "spool").skip(1);
            if let (Some(word), Some(seq)) =
                (parts.next(), parts.next().and_then(|seq| seq.parse::<u64>().ok()))
            {
                let known = words.entry(word.to_owned()).or_default();
                *known = seq.max(*known);
            }
        }
        child.wait().expect("a process of ours");
        check(&scratch, &words, round);
    }
    assert!(words["confirmed"] > 100, "{words:?}");
}

/// Looks at a copy, so that the next process finds what this one left.
fn check(scratch: &Scratch, words: &BTreeMap<String, u64>, round: u64) {
    let copy = scratch.0.join("copy");
    let _ = fs::remove_dir_all(&copy);
    fs::create_dir_all(&copy).expect("a folder");
    for entry in fs::read_dir(scratch.0.join("spool")).expect("the folder") {
        let entry = entry.expect("an entry");
        fs::copy(entry.path(), copy.join(entry.file_name())).expect("a copy");
    }
    let word = |word: &str| words.get(word).copied().unwrap_or(0);
    let (mut spool, recovered) = Spool::open(&copy, told()).expect("a spool");
    assert!(recovered.notes.iter().all(|note| matches!(note, super::super::Note::TornTail { .. })));
    let (read, losses) = super::drain(&mut spool);
    assert!(losses.is_empty(), "round {round}: {losses:?}");
    let seqs: Vec<u64> = read.iter().map(|(event, _)| event.seq).collect();
    assert!(seqs.windows(2).all(|two| two[1] == two[0] + 1), "round {round}");
    let first = seqs.first().copied().unwrap_or(word("appended") + 1);
    let last = seqs.last().copied().unwrap_or(first - 1);
    let what = format!("round {round}: {first}..={last} of {words:?}");
    // The last word of a process that was killed may not have come through: what it told next may be done too.
    assert!(
        first > word("confirmed") && first <= word("handed").max(word("confirming")) + BATCH + 1,
        "{what}"
    );
    assert!(last >= word("appended") && last <= word("appended") + BATCH, "{what}");
    for (event, marked) in &read {
        assert!(
            *marked || event.seq > word("handed"),
            "{what}: {} goes out again without the mark",
            event.seq
        );
        assert!(
            !*marked || event.seq <= word("handed") + BATCH,
            "{what}: {} was never handed out",
            event.seq
        );
    }
}
