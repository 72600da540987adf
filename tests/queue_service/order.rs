//! First come, first served, 5 s apart, and no bucket knows of another.

use crate::service::{OWN, Service};
use crate::shard::{SPACING, SPACING_AND_SLACK};

#[test]
fn permits_of_a_bucket_come_in_order_and_apart() {
    let service = Service::start(&[("CONCURRENCY", "2")]);
    // Ids that are not in order, so that it is the order of asking that counts.
    let mut first = service.ask("/?shard=4");
    let mut seen = vec![first.permit()];
    // On the same connection it waits as anybody else does.
    first.ask("/?shard=8");
    service.wait_waiting(OWN, 1);
    let mut waiting = [first, service.ask_and_wait(OWN, "/?shard=2")];
    for turn in 0..waiting.len() {
        let (now, later) = waiting[turn..].split_first_mut().expect("one is left");
        seen.push(now.permit());
        for shard in later {
            shard.assert_unanswered(0.05);
        }
    }
    for pair in seen.windows(2) {
        pair[1].assert_after(pair[0], SPACING);
        // What the service promises of its own accord.
        pair[1].assert_after(pair[0], SPACING_AND_SLACK);
    }
    assert_eq!(service.gate(OWN)["granted"], 3);
}

#[test]
fn buckets_know_nothing_of_each_other() {
    let service = Service::start(&[("CONCURRENCY", "16")]);
    // Sixteen at once, each in its own bucket, whatever number its shard has.
    for shard in (0..16).map(|bucket| bucket + 16 * (bucket % 3)) {
        service.ask(&format!("/?shard={shard}")).answer().assert_permit();
    }
    // A second one in each has to wait, and who waits in one bucket holds up nobody in another.
    let mut behind: Vec<_> =
        (0..16).map(|bucket| service.ask_and_wait(OWN, &format!("/?shard={}", 64 + bucket))).collect();
    behind[15].assert_unanswered(0.2);
    let gate = service.gate(OWN);
    assert_eq!(
        (&gate["granted"], &gate["waiting"], &gate["max_concurrency"]),
        (&16.into(), &16.into(), &16.into())
    );
    assert!(gate["next_permit_in_ms"].as_u64().is_some_and(|ms| ms <= 5250), "{gate}");
}

/// With one bucket the shard's number means nothing, and a service without a token and CONCURRENCY has one.
#[test]
fn without_a_word_there_is_one_bucket() {
    let service = Service::start(&[]);
    service.ask("/?shard=0").answer().assert_permit();
    let mut other = service.ask_and_wait(OWN, "/?shard=1");
    other.assert_unanswered(0.3);
    assert_eq!(service.gate(OWN)["max_concurrency"], 1);
    assert_eq!(service.count("requests_without_shard_total"), 0);
}

/// With several, a request without a shard's number counts as shard 0, and the operator is told.
#[test]
fn a_request_without_a_number_is_told_of() {
    let service = Service::start(&[("CONCURRENCY", "2")]);
    service.ask("/").answer().assert_permit();
    service.process.wait_line("there is no shard in the query");
    let mut behind = service.ask_and_wait(OWN, "/?shard=2");
    let _also = service.ask_and_wait(OWN, "/?shard=x");
    behind.assert_unanswered(0.1);
    service.ask("/?shard=1").answer().assert_permit();
    assert_eq!(service.count("requests_without_shard_total"), 2);
    assert_eq!(service.process.count("counts as shard 0"), 2);
}
