//! What outlives the service: nobody may identify too early after a restart, and the day's number goes on.

use std::fs;

use crate::service::{OWN, Scratch, Service, begin};
use crate::shard::{SPACING_AND_SLACK, permits};

/// Two permits before the restart, the second at another bot's gate, and one of each after it.
fn restarted(label: &str, end: impl FnOnce(&mut Service)) {
    let scratch = Scratch::quiet(label);
    let variables = [("STATE_DIR", scratch.path()), ("CONCURRENCY", "2")];
    let mut service = Service::start(&variables);
    let own_before = service.ask("/?shard=1").permit();
    let key_before = service.ask("/k/other?shard=1").permit();
    let remaining = [OWN, "other"].map(|gate| service.gate(gate)["remaining"].as_u64().expect("a number"));
    assert_eq!(remaining, [1999, 999]);
    end(&mut service);
    drop(service);

    let service = Service::start(&variables);
    let mut own = service.ask_and_wait(OWN, "/?shard=1");
    let mut key = service.ask_and_wait("other", "/k/other?shard=1");
    // The day goes on where it was, from the start.
    let remaining = [OWN, "other"].map(|gate| service.gate(gate)["remaining"].as_u64().expect("a number"));
    assert_eq!(remaining, [1999, 999]);
    let [own, key] = permits([&mut own, &mut key]);
    own.assert_after(own_before, SPACING_AND_SLACK);
    key.assert_after(key_before, SPACING_AND_SLACK);
    let remaining = [OWN, "other"].map(|gate| service.gate(gate)["remaining"].as_u64().expect("a number"));
    assert_eq!(remaining, [1998, 998]);
    assert_eq!(service.process.count("queue"), 0, "a file was complained of: {:?}", service.process.lines());
    assert_eq!(service.count("state_errors_total"), 0);
}

#[test]
fn a_stop_and_a_start() {
    restarted("stop", |service| assert_eq!(service.process.stop(), 0));
}

/// No time to write anything at the end: it was written before the permit left.
#[test]
fn a_kill_and_a_start() {
    restarted("kill", |service| service.process.signal(libc::SIGKILL));
}

/// Does the same with each at the same time: each waits for a spacing, and a service of its own.
fn side_by_side<T: Sync>(of: &[T], test: impl Fn(&T) + Sync) {
    std::thread::scope(|scope| of.iter().for_each(|one| drop(scope.spawn(|| test(one)))));
}

/// What cannot be read is told of, and does not keep the service from its work.
#[test]
fn damaged_state() {
    let scratch = Scratch::quiet("good");
    let good = fs::read(scratch.0.join("queue.json")).expect("the state");
    let changed = String::from_utf8(good.clone()).expect("text").replace("1000", "9000");
    let cut = &good[..good.len() / 2];
    side_by_side(&[changed.as_bytes(), cut, b"", b"\0\xff", b"{}"], |bad| {
        assert_ne!(*bad, good);
        let scratch = Scratch::new("damaged");
        fs::create_dir_all(&scratch.0).expect("a folder");
        fs::write(scratch.0.join("queue.json"), bad).expect("a write");
        let service = Service::start(&[("STATE_DIR", scratch.path())]);
        let line = service.process.wait_line("queue.json");
        assert!(
            line.contains("ERROR") && line.contains("is not used") && line.contains(scratch.path()),
            "{line}"
        );
        // Nobody knows when the last permit was: this one keeps its distance from the start, and is waited for.
        service.ask("/").permit();
        // Written anew, it is good again.
        assert_eq!(service.gate(OWN)["remaining"], 999);
    });
}

#[test]
fn a_folder_has_one_service() {
    let scratch = Scratch::quiet("taken");
    let variables = [("STATE_DIR", scratch.path())];
    let first = Service::start(&variables);
    let (mut second, _state) = begin(&variables);
    assert_eq!(second.wait(), 1);
    let lines = second.lines();
    let last = lines.iter().rfind(|line| line.contains("ERROR")).expect("an error line");
    assert!(last.contains(scratch.path()) && last.contains("STATE_DIR"), "{last}");
    first.ask("/").permit();
}

/// For root no folder is read-only, so a file stands in its place: all that is tried there fails.
#[test]
fn a_folder_that_cannot_be_written() {
    let scratch = Scratch::new("unwritable");
    fs::create_dir_all(&scratch.0).expect("a folder");
    let file = scratch.0.join("file");
    fs::write(&file, "in the way").expect("a file");
    side_by_side(&[file.clone(), file.join("below")], |path| {
        let service = Service::start(&[("STATE_DIR", path.to_str().expect("text"))]);
        let line = service.process.wait_line("not kept over a restart");
        assert!(line.contains("WARN") && line.contains(path.to_str().expect("text")), "{line}");
        service.ask("/").permit();
    });
    assert_eq!(fs::read_to_string(&file).expect("the file"), "in the way");
}

/// The folder goes away while the service runs: it goes on, says so, and counts it.
#[test]
fn a_folder_that_is_lost() {
    let scratch = Scratch::quiet("lost");
    let service = Service::start(&[("STATE_DIR", scratch.path()), ("CONCURRENCY", "10")]);
    service.ask("/?shard=0").permit();
    assert_eq!(service.count("state_errors_total"), 0);
    fs::remove_dir_all(&scratch.0).expect("it is there");
    service.ask("/?shard=1").permit();
    let line = service.process.wait_line("cannot be written");
    assert!(line.contains("ERROR") && line.contains(scratch.path()), "{line}");
    assert!(service.count("state_errors_total") > 0);
}

/// Without a folder, the operator is told what that costs.
#[test]
fn no_folder() {
    let service = Service::start(&[("STATE_DIR", "none")]);
    let line = service.process.wait_line("not kept over a restart");
    assert!(line.contains("WARN") && line.contains("STATE_DIR"), "{line}");
}
