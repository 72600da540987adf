//! Many clients at once: thousands who all want the one slot, and ten thousand who wait.

use std::process::{Command, Stdio};
use std::time::Instant;

use crate::service::{OWN, Service};
use crate::shard::Shard;
use crate::support::{PATIENCE, wait_until};

/// Lets this process, and what it starts, open as many files as the system allows it; says how many.
fn files() -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: getrlimit and setrlimit read and write the one structure that they are given, which lives here.
    let result = unsafe {
        let result = libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit);
        limit.rlim_cur = limit.rlim_max;
        result | libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit)
    };
    assert_eq!(result, 0, "the limit of open files can be asked for, and be raised to its own maximum");
    limit.rlim_max
}

/// Like `wanted`, or fewer where not so many files may be open.
fn fitting(wanted: usize) -> usize {
    // Other tests of this process, and the programs themselves, open some too.
    let room = usize::try_from(files().saturating_sub(1000)).unwrap_or(wanted);
    if room < wanted {
        println!("only {room} connections instead of {wanted}: no more files may be open here");
    }
    room.min(wanted)
}

#[test]
fn wrk_gets_what_is_allowed_and_no_more() {
    let connections = fitting(2000);
    let service = Service::start(&[("LOG_LEVEL", "info")]);
    let began = Instant::now();
    let output = Command::new("wrk")
        .args([
            "-t1",
            "-c",
            &connections.to_string(),
            "-d",
            "3s",
            &format!("http://{}/?shard=0", service.queue),
        ])
        .stdin(Stdio::null())
        .output()
        .expect("wrk; `make test` installs it");
    let report = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{report}{}", String::from_utf8_lossy(&output.stderr));
    service.wait_connections(0);
    let metrics = service.metrics();
    let allowed = 1 + began.elapsed().as_secs() / 5;
    let granted = metrics.of_gate("granted_total", OWN);
    assert!((1..=allowed).contains(&granted), "{granted} permits, {allowed} allowed");
    assert_eq!(metrics.of_gate("waiting", OWN), 0);
    let (requests, abandoned) =
        (metrics.get("rateway_queue_requests_total"), metrics.of_gate("abandoned_total", OWN));
    println!(
        "wrk: {requests} requests of {connections} connections, {granted} permits, {abandoned} abandoned"
    );
    assert!(abandoned >= connections as u64 / 2, "{abandoned} abandoned");
    assert_eq!(metrics.get("rateway_queue_ended_total{reason=\"malformed\"}"), 0);
    service.ask("/?shard=0").permit();
}

/// With as many buckets as shards nobody waits, and wrk comes and goes as fast as it can.
#[test]
fn wrk_against_many_gates() {
    let connections = fitting(100);
    let service = Service::start(&[("LOG_LEVEL", "info")]);
    let output = Command::new("wrk")
        .args([
            "-t1",
            "-c",
            &connections.to_string(),
            "-d",
            "1s",
            &format!("http://{}/k/a?feedback=true", service.queue),
        ])
        .args(["-H", "Connection: close"])
        .stdin(Stdio::null())
        .output()
        .expect("wrk; `make test` installs it");
    assert!(output.status.success());
    service.wait_connections(0);
    assert!(service.gate("a")["granted"].as_u64().is_some_and(|granted| granted >= 1));
    service.ask("/k/b").permit();
}

#[test]
fn ten_thousand_who_wait() {
    // What a connection may cost here. The kernel's own buffers come on top, and are not the service's to choose.
    const BYTES_MAX: u64 = 16 * 1024;
    let count = fitting(10_000);
    let service = Service::start(&[("LOG_LEVEL", "info")]);
    // Buffers that are made once are there before the first look.
    for key in 0..100 {
        service.ask(&format!("/k/bot-{key}?shard=0")).permit();
    }
    service.wait_connections(0);
    let before = service.process.resident_kib();
    // At a hundred gates, as the checks that debug builds make of a gate take time with its length.
    let mut waiting: Vec<Shard> = (0..count)
        .map(|number| service.ask(&format!("/k/bot-{}?shard={}", number % 100, number / 100)))
        .collect();
    wait_until("all of them wait", || service.count("requests_total") == (count + 100) as u64);
    let after = service.process.resident_kib();
    let bytes = (after.saturating_sub(before)) * 1024 / count as u64;
    println!("{count} waiting connections: {before} KiB before, {after} KiB with them, {bytes} bytes each");
    assert!(bytes < BYTES_MAX, "{bytes} bytes each");
    // They leave all at once, and nobody is kept from asking.
    waiting.clear();
    service.wait_connections(0);
    service.ask("/?shard=0").permit();
    assert_eq!(service.gate("bot-0")["waiting"], 0);
}

/// A whole fleet asks within the moment in which the service is busy with something else: the system takes all of their
/// connections, as one that it does not take is tried again only a second later, and then two.
#[test]
fn a_fleet_that_asks_at_once() {
    let allowed = std::fs::read_to_string("/proc/sys/net/core/somaxconn").expect("Linux");
    let allowed: usize = allowed.trim().parse().expect("a number");
    let count = fitting(2000).min(allowed);
    let service = Service::start(&[("LOG_LEVEL", "info")]);
    service.process.signal(libc::SIGSTOP);
    // One that does not fit would wait in vain, as nothing is accepted meanwhile.
    let address = service.queue.parse().expect("an address");
    let connect = |_| std::net::TcpStream::connect_timeout(&address, PATIENCE);
    let fleet: Result<Vec<_>, _> = (0..count).map(connect).collect();
    service.process.signal(libc::SIGCONT);
    assert_eq!(fleet.map(|fleet| fleet.len()).expect("all of them are taken"), count);
}
