//! A client that goes away gives its place up and costs nothing.

use crate::service::{OWN, Service};
use crate::shard::SPACING_AND_SLACK;

/// By end, by reset, by half an end: the places before the last one become free, and the slot is the last one's.
#[test]
fn who_leaves_while_it_waits_spends_nothing() {
    let service = Service::start(&[]);
    let before = service.ask("/").permit();
    let remaining = service.gate(OWN)["remaining"].as_u64().expect("a number");

    let plain = service.ask_and_wait(OWN, "/");
    let reset = service.ask_and_wait(OWN, "/");
    let mut half = service.ask_and_wait(OWN, "/");
    // One that has already sent its next request leaves its place as well.
    let mut ahead = service.ask_and_wait(OWN, "/");
    ahead.ask("/");
    let mut last = service.ask_and_wait(OWN, "/");
    assert_eq!(service.count("connections"), 5);
    drop(plain);
    reset.reset();
    half.end_writing();
    drop(ahead);
    service.wait_waiting(OWN, 1);
    half.assert_closed();

    let gate = service.gate(OWN);
    assert_eq!(
        (gate["abandoned"].as_u64(), gate["remaining"].as_u64()),
        (Some(4), Some(remaining)),
        "{gate}"
    );
    assert_eq!((service.ended("gone"), service.count("connections")), (5, 1));
    last.permit().assert_after(before, SPACING_AND_SLACK);
    let gate = service.gate(OWN);
    assert_eq!((&gate["granted"], &gate["remaining"]), (&2.into(), &(remaining - 1).into()), "{gate}");
}

/// In the midst of its request there is no place yet to give up.
#[test]
fn who_leaves_while_it_asks_was_never_there() {
    let service = Service::start(&[]);
    let mut halves = ["GET / HT", "POST / HTTP/1.1\r\nContent-Length: 10\r\n\r\n12345", ""].map(|text| {
        let mut shard = service.connect();
        shard.say(text);
        shard
    });
    service.wait_connections(3);
    halves.iter_mut().for_each(|half| half.end_writing());
    halves.iter_mut().for_each(|half| half.assert_closed());
    service.wait_ended("gone", 3);
    let gate = service.gate(OWN);
    assert_eq!((&gate["granted"], &gate["abandoned"]), (&0.into(), &0.into()), "{gate}");
}

/// A permit that was answered is spent: nobody knows whether its shard identified.
#[test]
fn who_leaves_with_a_permit_has_spent_it() {
    let service = Service::start(&[]);
    let remaining = service.gate(OWN)["remaining"].as_u64().expect("a number");
    let mut shard = service.ask("/");
    shard.permit();
    drop(shard);
    service.wait_connections(0);
    let mut next = service.ask_and_wait(OWN, "/");
    next.assert_unanswered(0.3);
    let gate = service.gate(OWN);
    assert_eq!((&gate["granted"], &gate["returned"]), (&1.into(), &0.into()), "{gate}");
    assert_eq!(gate["remaining"], remaining - 1);
}
