//! With a token, Discord says how many buckets and session starts there are.

use rateway::base::{Secret, sha256_hex};
use rateway::sim::{Fault, Options, Server, ServerOptions};

use crate::service::{OWN, Service, begin};
use crate::support::{TOKEN, wait_until};

/// A stand-in whose bot has [`TOKEN`].
fn discord(change: impl FnOnce(&mut Options)) -> Server {
    let mut options = ServerOptions::default();
    options.discord.token = Some(Secret::new(TOKEN.to_owned()));
    change(&mut options.discord);
    Server::start(options).expect("the stand-in starts")
}

/// Waits until Discord's answer is taken over.
fn heard(service: &Service) {
    service.process.wait_line("session starts left today");
}

#[test]
fn buckets_are_discords() {
    let sim = discord(|d| {
        (d.max_concurrency, d.session_starts_total, d.session_starts_remaining) = (4, 2000, 1900)
    });
    // Another number by hand counts for less.
    let service = Service::with_token(&sim.api_url(), &[("CONCURRENCY", "2")]);
    for shard in [5, 0, 2, 7] {
        service.ask(&format!("/?shard={shard}")).answer().assert_permit();
    }
    let mut behind = service.ask_and_wait(OWN, "/?shard=9");
    behind.assert_unanswered(0.3);
    let gate = service.gate(OWN);
    let figures = ["max_concurrency", "total", "remaining", "granted"].map(|name| gate[name].as_u64());
    assert_eq!(figures, [Some(4), Some(2000), Some(1896), Some(4)], "{gate}");
    // The bot's own key is another name of the same gate, and what clients say of its buckets counts for nothing.
    let key = sha256_hex(TOKEN).to_ascii_uppercase();
    let mut by_key = service.ask_and_wait(OWN, &format!("/k/{key}?shard=13&max_concurrency=64"));
    by_key.assert_unanswered(0.3);
    assert_eq!(service.gate(OWN)["max_concurrency"], 4);
    let ledger = sim.ledger();
    assert_eq!(ledger.rest.get(&200), Some(&1), "asked once: {:?}", ledger.rest);
}

/// One session start is left: it is given, and from then on everybody waits for tomorrow, in every bucket.
#[test]
fn a_spent_day_is_waited_out() {
    let sim = discord(|d| (d.max_concurrency, d.session_starts_remaining) = (4, 1));
    let service = Service::with_token(&sim.api_url(), &[]);
    service.ask("/?shard=0").answer().assert_permit();
    let mut waiting: Vec<_> =
        (1..4).map(|shard| service.ask_and_wait(OWN, &format!("/?shard={shard}"))).collect();
    waiting.iter_mut().for_each(|shard| shard.assert_unanswered(0.3));
    let gate = service.gate(OWN);
    assert_eq!(
        (&gate["remaining"], &gate["waiting"], &gate["granted"]),
        (&0.into(), &3.into(), &1.into()),
        "{gate}"
    );
    let reset = gate["reset_in_ms"].as_u64().expect("when there are more");
    let next = gate["next_permit_in_ms"].as_u64().expect("when the next one is due");
    // The stand-in's day has just begun; nothing is due before it ends.
    assert!(reset > 23 * 3_600_000 && next > 23 * 3_600_000, "{gate}");
    let metrics = service.metrics();
    assert!(
        metrics
            .find("rateway_queue_reset_seconds{gate=\"default\"}")
            .is_some_and(|left| left > 23.0 * 3600.0)
    );
    // Waiting for tomorrow is waiting as well: who leaves is taken out.
    waiting.pop();
    service.wait_waiting(OWN, 2);
}

#[test]
fn the_reserve_is_not_spent() {
    let sim = discord(|d| (d.max_concurrency, d.session_starts_remaining) = (8, 7));
    let service = Service::with_token(&sim.api_url(), &[("IDENTIFY_RESERVE", "5")]);
    for shard in 0..2 {
        service.ask(&format!("/?shard={shard}")).answer().assert_permit();
    }
    let mut third = service.ask_and_wait(OWN, "/?shard=2");
    third.assert_unanswered(0.5);
    assert_eq!(service.gate(OWN)["remaining"], 5);
}

/// Nothing is known before Discord has answered, so nobody is.
#[test]
fn troubles_at_the_start_are_waited_out() {
    let sim = discord(|d| d.max_concurrency = 2);
    assert!(sim.inject(Fault::RestStatus { status: 503, retry_after: None, global: false, count: 1 }));
    let service = Service::with_token(&sim.api_url(), &[]);
    let mut early = [service.ask("/?shard=0"), service.ask("/?shard=1")];
    wait_until("the first refusal", || sim.ledger().rest.contains_key(&503));
    early.iter_mut().for_each(|shard| shard.answer().assert_permit());
    let rest = sim.ledger().rest;
    assert_eq!((rest.get(&503), rest.get(&200)), (Some(&1), Some(&1)));
    assert!(service.process.count("503") > 0, "it was told");
}

#[test]
fn nobody_is_answered_while_discord_is_silent() {
    // Somebody listens there and never says a word.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}", silent.local_addr().expect("bound"));
    let mut service = Service::with_token(&url, &[]);
    let mut shard = service.ask_and_wait(OWN, "/?shard=0");
    shard.assert_unanswered(1.0);
    assert_eq!(service.gate(OWN)["granted"], 0);
    // The question that is under way holds up no stop.
    assert_eq!(service.process.stop(), 0);
    shard.assert_closed();
}

#[test]
fn a_wrong_token_ends_at_the_start() {
    let sim = discord(|d| d.token = Some(Secret::new("another".to_owned())));
    let (mut process, _state) = begin(&[("DISCORD_TOKEN", TOKEN), ("DISCORD_API_URL", &sim.api_url())]);
    assert_eq!(process.wait(), 1, "exit status");
    let lines = process.lines();
    let last = lines.iter().rfind(|line| line.contains("ERROR")).expect("an error line");
    assert!(last.contains("token") && last.contains("401"), "{last}");
    assert_eq!(sim.ledger().rest.get(&401), Some(&1), "asked once");
}

/// Every other test searches the output for the token as well; here is what is said on purpose.
#[test]
fn the_token_is_not_shown() {
    let sim = discord(|_| {});
    let service = Service::with_token(&sim.api_url(), &[("LOG_FORMAT", "json")]);
    heard(&service);
    service.ask("/").answer().assert_permit();
    for path in ["/", "/metrics", "/gates", "/healthz"] {
        let (_, head, body) = service.admin("GET", path);
        let shown = format!("{head}{body}");
        assert!(!shown.contains(TOKEN) && !shown.contains(&sha256_hex(TOKEN)), "{shown}");
    }
    let mut check = crate::support::Gateway::start(
        &[("DISCORD_TOKEN".to_owned(), TOKEN.to_owned())],
        &["queue", "--check"],
    );
    assert_eq!(check.wait(), 0);
    assert!(check.count("DISCORD_TOKEN") > 0);
}
