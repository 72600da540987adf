//! Clients that tell what became of their permit: the spacing counts from their IDENTIFY, and what was not used is given
//! back.

use crate::service::{OWN, Service};
use crate::shard::{SPACING, SPACING_AND_SLACK, Seen, Shard, permits};

const KEY: &str = "feedback";

fn target(shard: u32) -> String {
    format!("/k/{KEY}?shard={shard}&max_concurrency=4&feedback=true")
}

/// Tells, and reads that it was heard. Says when the telling was sent, which is no later than when it was heard.
fn tell(shard: &mut Shard, what: &str) -> Seen {
    let at = std::time::Instant::now();
    let permit = shard.permit.expect("a permit with a number");
    shard.post(&format!("/k/{KEY}/{what}?permit={permit}"));
    let answer = shard.answer();
    assert_eq!((answer.status_line.as_str(), answer.body.as_str()), ("HTTP/1.1 204 No Content", ""));
    Seen { not_before: at, at }
}

/// In one bucket the IDENTIFY is reported, in the other Discord's answer as well. The next one of either is held until
/// then, and for the spacing after it; an answer proves that no slack is needed.
#[test]
fn the_spacing_counts_from_the_identify() {
    let service = Service::start(&[]);
    let mut first = [0, 1].map(|shard| service.ask(&target(shard)));
    for shard in &mut first {
        shard.permit();
    }
    let [mut after_identified, mut after_answered] =
        [4, 5].map(|shard| service.ask_and_wait(KEY, &target(shard)));
    // The permit is out, and its time has not begun to run.
    after_identified.assert_unanswered(1.0);
    assert_eq!(service.gate(KEY)["next_permit_in_ms"], serde_json::Value::Null);
    let identified = tell(&mut first[0], "identified");
    tell(&mut first[1], "identified");
    // Later than the report: the spacing counts from here, and without slack.
    std::thread::sleep(std::time::Duration::from_millis(100));
    let answered = tell(&mut first[1], "answered");
    let [after_identified, after_answered] = permits([&mut after_identified, &mut after_answered]);
    after_identified.assert_after(identified, SPACING_AND_SLACK);
    after_answered.assert_after(answered, SPACING);
    let gate = service.gate(KEY);
    assert_eq!(
        (&gate["granted"], &gate["lapsed"], &gate["returned"]),
        (&4.into(), &0.into(), &0.into()),
        "{gate}"
    );
}

#[test]
fn what_is_not_used_is_given_back() {
    let service = Service::start(&[]);
    let mut first = service.ask(&target(0));
    first.permit();
    assert_eq!(service.gate(KEY)["remaining"], 1999);
    let mut next = service.ask_and_wait(KEY, &target(4));
    next.assert_unanswered(0.2);
    let returned = tell(&mut first, "returned");
    // The session start is there again, the time is not: it may have been used by a client that errs.
    assert_eq!(service.gate(KEY)["remaining"], 2000);
    next.permit().assert_after(returned, SPACING);
    let gate = service.gate(KEY);
    let figures = ["granted", "returned", "remaining", "lapsed"].map(|name| gate[name].as_u64());
    assert_eq!(figures, [Some(2), Some(1), Some(1999), Some(0)], "{gate}");
    // Given back twice is given back once.
    tell(&mut first, "returned");
    assert_eq!(service.gate(KEY)["returned"], 1);
}

/// A permit after its IDENTIFY is spent, whatever is told then.
#[test]
fn what_is_used_is_not_given_back() {
    let service = Service::start(&[]);
    let mut first = service.ask(&target(0));
    first.permit();
    tell(&mut first, "identified");
    tell(&mut first, "returned");
    let mut next = service.ask_and_wait(KEY, &target(4));
    next.assert_unanswered(0.3);
    let gate = service.gate(KEY);
    assert_eq!((&gate["returned"], &gate["remaining"]), (&0.into(), &1999.into()), "{gate}");
}

/// A client that has gone tells nothing more: its permit counts as used, from the moment at which it is known to be gone.
#[test]
fn who_is_gone_has_used_it() {
    let service = Service::start(&[]);
    let mut first = service.ask(&target(0));
    first.permit();
    drop(first);
    service.wait_connections(0);
    let mut next = service.ask_and_wait(KEY, &target(4));
    next.assert_unanswered(0.2);
    let gate = service.gate(KEY);
    assert_eq!((&gate["remaining"], &gate["returned"]), (&1999.into(), &0.into()), "{gate}");
    assert!(gate["next_permit_in_ms"].as_u64().is_some(), "its time runs: {gate}");
}

/// On the service's own gate too, with any path before the word; and the next request is a request again.
#[test]
fn one_connection_many_permits() {
    let service = Service::start(&[("CONCURRENCY", "10")]);
    let mut shard = service.connect();
    for number in 0..3 {
        shard.ask(&format!("/any?shard={number}&feedback=true"));
        shard.permit();
        let permit = shard.permit.expect("a number");
        for word in ["/identified?", "/x/y/answered?z&"] {
            shard.post(&format!("{word}permit={permit}"));
            assert_eq!(shard.answer().status_line, "HTTP/1.1 204 No Content");
        }
    }
    // Without a word on the last one, it counts as used.
    shard.ask("/?shard=3&feedback=true");
    shard.permit();
    shard.ask("/?shard=4");
    shard.permit();
    let gate = service.gate(OWN);
    assert_eq!((&gate["granted"], &gate["waiting"]), (&5.into(), &0.into()), "{gate}");
    assert_eq!((service.count("answered_total"), service.count("accepted_total")), (5, 1));
}

/// Through a proxy a report may come on another connection. What names a permit is no wish for another one, whatever
/// becomes of it.
#[test]
fn a_report_on_another_connection() {
    let service = Service::start(&[]);
    let mut first = service.ask(&target(0));
    first.permit();
    let mut other = service.connect();
    other.permit = first.permit;
    tell(&mut other, "identified");
    tell(&mut other, "identified");
    tell(&mut other, "answered");
    let gate = service.gate(KEY);
    assert_eq!(
        (&gate["granted"], &gate["waiting"], &gate["lapsed"]),
        (&1.into(), &0.into(), &0.into()),
        "{gate}"
    );
    assert!(gate["next_permit_in_ms"].is_null(), "nobody waits: {gate}");
    // A permit that never was.
    other.permit = Some(999);
    tell(&mut other, "returned");
    assert_eq!(service.gate(KEY)["remaining"], 1999);
    // And what says nothing of it ends there.
    other.post(&format!("/k/{KEY}?permit=1"));
    other.assert_closed();
}

/// Telling the same thing again keeps nobody waiting.
#[test]
fn who_repeats_himself_changes_nothing() {
    let service = Service::start(&[]);
    let mut first = service.ask(&target(0));
    first.permit();
    let mut next = service.ask_and_wait(KEY, &target(4));
    tell(&mut first, "identified");
    let left = service.gate(KEY)["next_permit_in_ms"].as_u64().expect("its time runs");
    std::thread::sleep(std::time::Duration::from_millis(200));
    tell(&mut first, "identified");
    let left_then = service.gate(KEY)["next_permit_in_ms"].as_u64().expect("its time runs");
    assert!(left_then < left, "{left_then} ms after {left} ms");
    next.assert_unanswered(0.1);
}
