//! What outlives the process: sessions are resumed by the next one, and what the broker had not confirmed comes again.

#![allow(clippy::disallowed_methods, reason = "a restart is measured in real time")]

use std::path::PathBuf;

use crate::support::{Setup, Stage, dead_port, let_pass, wait_until};

/// A folder that is gone at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(label: &str) -> Scratch {
        let path = std::env::temp_dir().join(format!("rateway-restart-{label}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        Scratch(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn setup(label: &'static str, scratch: &Scratch, cache: bool) -> Setup {
    Setup::new(label, 6, 3)
        .env("STATE_DIR", &scratch.0.display().to_string())
        .env("CACHE_MEMORY", "16MiB")
        .env("CACHE_ENABLED", if cache { "true" } else { "false" })
}

/// Fails when a session was lost or a session start spent since the first start of all six shards.
fn assert_resumed(stage: &Stage) {
    let ledger = stage.sim.ledger();
    let ends: Vec<_> = ledger.sessions.values().filter_map(|session| session.end.as_ref()).collect();
    assert_eq!(
        ledger.identifies.len(),
        6,
        "a session start was wasted; {} resumes refused, ends of sessions: {ends:?}",
        ledger.resumes_refused
    );
    assert!(ledger.sessions.values().all(|session| session.end.is_none()), "a session was lost");
}

#[test]
fn a_stop_and_a_start_cost_nothing() {
    stopped_and_started("restart", false);
}

#[test]
fn nor_with_a_cache() {
    stopped_and_started("restart-cache", true);
}

fn stopped_and_started(label: &'static str, cache: bool) {
    let scratch = Scratch::new(label);
    let mut stage = setup(label, &scratch, cache).start();
    stage.set_rate(3000.0);
    for _ in 0..3 {
        let sent = stage.sim.ledger().dispatches;
        stage.wait_dispatches(sent + 2000);
        assert_eq!(stage.gateway.stop(), 0);
        stage.restart();
        stage.gateway.wait_line("3 sessions of an earlier process are resumed");
        stage.wait_up();
    }
    assert_resumed(&stage);
    stage.judge();
}

#[test]
fn kills_cost_nothing_but_repeats() {
    killed("kill", false);
}

/// What is torn by a kill costs its shard a session, and is told; nothing else is lost. See `cache_model` for what the
/// cache holds then.
#[test]
fn kills_with_a_cache() {
    killed("kill-cache", true);
}

fn killed(label: &'static str, cache: bool) {
    let scratch = Scratch::new(label);
    let mut stage = setup(label, &scratch, cache).start();
    // A session of which nothing has reached the broker cannot be resumed.
    stage.settle();
    let_pass(0.3);
    stage.set_rate(3000.0);
    let rounds = std::env::var("RATEWAY_KILLS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(8);
    for round in 0..rounds {
        let sent = stage.sim.ledger().dispatches;
        // Not always after the same number of events, and not always when all is calm.
        stage.wait_dispatches(sent + 300 + 517 * (round % 5));
        stage.gateway.signal(libc::SIGKILL);
        stage.restart();
        if round % 3 != 2 {
            stage.wait_up();
        }
        if round % 10 == 9 && !cache {
            // A machine that is slow falls behind a little with each kill, and Discord holds 10,000 events of a session.
            stage.wait_up();
            stage.settle();
            stage.set_rate(3000.0);
        }
    }
    stage.wait_up();
    if cache {
        // A shard whose part of the cache was torn begins a new session, and says what that has cost.
        stage.set_rate(0.0);
        let lost = stage.sim.ledger().sessions.len() - 6;
        wait_until("every lost session is told of", || {
            stage.worker.find(|message| message.key == "RATEWAY_GAP").len() >= lost
        });
        println!("{label}: {rounds} kills, {lost} of 6 sessions lost");
        stage.assert_well_behaved_but_for(lost as u64);
        return;
    }
    assert_resumed(&stage);
    let repeats = stage.judge();
    println!("{label}: {rounds} kills, {repeats} events came again");
}

#[test]
fn other_settings_and_ended_sessions_begin_anew() {
    let scratch = Scratch::new("anew");
    let mut stage = setup("anew", &scratch, true).arg("--end-sessions").start();
    stage.settle();
    assert_eq!(stage.gateway.stop(), 0);
    stage.restart();
    wait_until("all identify again", || stage.sim.ledger().identifies.len() == 12);
    stage.wait_up();
    let_pass(0.2);
    assert_eq!(stage.gateway.count("sessions of an earlier process"), 0);
    // What was ended on purpose is no gap.
    assert_eq!(stage.worker.find(|message| message.key == "RATEWAY_GAP").len(), 0);
}

/// A session cannot be taken up with other intents: it is left, and what that may have cost is told.
#[test]
fn other_intents_leave_the_sessions_and_say_so() {
    let scratch = Scratch::new("intents");
    let mut stage = setup("intents", &scratch, true).start();
    stage.settle();
    let_pass(0.3);
    assert_eq!(stage.gateway.stop(), 0);
    stage.restart_with("INTENTS", "GUILDS");
    wait_until("all identify again", || stage.sim.ledger().identifies.len() == 12);
    wait_until("a gap for each shard", || {
        stage.worker.find(|message| message.key == "RATEWAY_GAP").len() == 6
    });
    let gaps = stage.worker.find(|message| message.key == "RATEWAY_GAP");
    assert!(gaps.iter().all(|gap| gap.text().contains("INTENTS or COMPRESSION are others now")), "{gaps:?}");
}

/// An upgrade: the new one is started, then the old one stopped. Both have the same folder and the same port.
#[test]
fn a_new_one_takes_over_with_folder_and_port() {
    let scratch = Scratch::new("upgrade");
    let address = format!("127.0.0.1:{}", dead_port());
    let mut stage =
        setup("upgrade", &scratch, true).env("HTTP_ADDR", &address).env("LOCK_WAIT_MS", "60000").start();
    stage.settle();
    stage.set_rate(2000.0);
    let_pass(0.3);
    let mut old = stage.start_beside();
    stage.gateway.wait_line("waiting for the rateway that has STATE_DIR");
    assert_eq!(old.stop(), 0);
    stage.gateway.wait_line(&format!("status page on http://{address}"));
    stage.gateway.wait_line("3 sessions of an earlier process are resumed");
    stage.wait_up();
    assert_resumed(&stage);
    stage.judge();
}

/// Prints how long it took from the start of the process; 64 shards are to be resumed within a second.
#[test]
fn sixty_four_shards_are_resumed_at_once() {
    let scratch = Scratch::new("many");
    let mut stage = Setup::new("many", 64, 32)
        .env("STATE_DIR", &scratch.0.display().to_string())
        .env("CACHE_MEMORY", "64MiB")
        .start();
    stage.settle();
    stage.set_rate(2000.0);
    let sent = stage.sim.ledger().dispatches;
    stage.wait_dispatches(sent + 4000);
    assert_eq!(stage.gateway.stop(), 0);
    let resumes = stage.sim.ledger().resumes;
    #[allow(clippy::disallowed_methods)] // Printed, and nothing depends on it.
    let before = std::time::Instant::now();
    stage.restart();
    wait_until("all are resumed", || stage.sim.act(|discord, _| discord.ledger().resumes) == resumes + 64);
    println!("64 shards resumed {} ms after the start of the process", before.elapsed().as_millis());
    stage.judge();
    assert_eq!(stage.sim.ledger().identifies.len(), 64, "a session start was wasted");
}
