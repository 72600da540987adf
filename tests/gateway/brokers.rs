//! Several brokers, and one that breaks the connection.

use crate::support::{Forward, Setup, dead_port, wait_until};

#[test]
fn the_second_uri_is_taken_when_the_first_is_dead() {
    let prepared = Setup::new("failover", 3, 2).prepare();
    let uris = format!("{},{}", prepared.vhost.uri_at(dead_port()), prepared.vhost.uri());
    let stage = prepared.env("AMQP_URI", &uris).start();
    stage.wait_up();
    stage.set_rate(500.0);
    stage.wait_dispatches(300);
    assert_eq!(stage.judge(), 0);
    stage.gateway.wait_line("trying again in");
}

/// The way to the broker breaks under load, again and again: everything arrives, in order, and what came twice says so.
#[test]
fn a_broken_way_to_the_broker_loses_nothing() {
    let port = dead_port();
    let prepared = Setup::new("broken", 3, 2).prepare();
    let forward = Forward::start(port, &prepared.vhost.address());
    let uri = prepared.vhost.uri_at(port);
    let stage = prepared.env("AMQP_URI", &uri).start();
    stage.wait_up();
    stage.set_rate(3000.0);
    for round in 1..=5 {
        stage.wait_dispatches(2000 * round);
        let before = stage.gateway.count("publishing to");
        forward.cut();
        wait_until("the brokers' return", || stage.gateway.count("publishing to") >= before + 2);
    }
    stage.judge();
    assert_eq!(stage.sim.ledger().connections, 3, "the shards did not notice");
}

/// Wrong credentials are the broker's to fix or the operator's: told plainly, without the password.
#[test]
fn a_refused_login_is_told() {
    let prepared = Setup::new("login", 1, 1).without_worker_queues().prepare();
    let uri = prepared.vhost.uri().replace("rateway-test", "nobody");
    let mut stage = prepared.env("AMQP_URI", &uri).start();
    let line = stage.gateway.wait_line("ACCESS_REFUSED");
    assert!(line.contains("nobody") && line.contains("trying again"), "{line}");
    assert!(stage.gateway.is_alive());
    assert_eq!(stage.sim.ledger().connections, 0);
    assert_eq!(stage.gateway.stop(), 0);
}
