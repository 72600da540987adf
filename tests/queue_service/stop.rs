//! A stop is quick and clean, and gives nobody a permit.

use crate::service::{OWN, Scratch, Service};

fn stopped_by(signal: i32) {
    let mut service = Service::start(&[("CONCURRENCY", "10")]);
    let mut kept = service.ask("/?shard=0");
    kept.answer().assert_permit();
    let mut waiting: Vec<_> =
        (1..6).map(|number| service.ask_and_wait(OWN, &format!("/?shard={}", number * 10))).collect();
    let mut asking = service.connect();
    asking.say("GET / HTT");
    let mut silent = service.connect();
    service.wait_connections(8);
    service.process.signal(signal);
    assert_eq!(service.process.wait(), 0, "exit status");
    for shard in waiting.iter_mut().chain([&mut kept, &mut asking, &mut silent]) {
        shard.assert_closed();
    }
    service.process.wait_line("5 who waited are not answered");
    // Nobody listens there any more.
    assert!(std::net::TcpStream::connect(&service.queue).is_err());
}

#[test]
fn sigterm() {
    stopped_by(libc::SIGTERM);
}

#[test]
fn sigint() {
    stopped_by(libc::SIGINT);
}

/// The port is free for the next one, though connections of the last one still linger in the system.
#[test]
fn the_same_port_again() {
    let scratch = Scratch::quiet("port");
    let mut service = Service::start(&[]);
    service.ask("/").answer().assert_permit();
    let _open = service.connect();
    service.wait_connections(1);
    assert_eq!(service.process.stop(), 0);
    let port = service.queue.rsplit(':').next().expect("a port");
    let again = Service::start(&[("PORT", port), ("STATE_DIR", scratch.path())]);
    again.ask("/").answer().assert_permit();
}
