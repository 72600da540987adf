//! How it begins and ends: addresses, users, signals.

use std::net::TcpListener;

use crate::service::{Service, start_ok};
use crate::support::Gateway;

fn begin(variables: &[(&str, &str)]) -> Gateway {
    let variables: Vec<_> =
        variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Gateway::start(&variables, &["broker"])
}

#[test]
fn a_port_that_somebody_chose_is_not_moved() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("bound").to_string();
    let mut process = begin(&[("BROKER_ADDR", &address)]);
    process.wait_line("cannot listen on");
    assert_eq!(process.wait(), 1);
}

#[test]
fn the_usual_port_is_moved_when_it_is_taken() {
    // Whoever has them, they are taken.
    let usual: Vec<_> = (5672..=5682).map(|port| TcpListener::bind(("127.0.0.1", port))).collect();
    let mut process = begin(&[]);
    process.wait_line("cannot listen on 127.0.0.1:5672");
    assert_eq!(process.wait(), 1);
    // All but the first are given back: some other program may have taken any of them since.
    let first = usual.into_iter().next();
    let process = begin(&[("LOG_LEVEL", "info")]);
    let line = process.wait_line("listens on amqp://");
    let address = line.split("amqp://").nth(1).expect("an address").trim().to_owned();
    let port: u16 = address.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port");
    assert!((5673..=5682).contains(&port), "{line}");
    process.wait_line("port 5672 is taken by another program");
    Service { process, address }.assert_serves();
    drop(first);
}

#[test]
fn mistakes_are_told_before_anything_listens() {
    let mut process = begin(&[("BROKER_USERS", "worker"), ("BROKER_MEMORY", "much")]);
    process.wait_line("BROKER_USERS: ");
    process.wait_line("BROKER_MEMORY: ");
    assert_eq!(process.wait(), 2);
}

#[test]
fn users_are_those_that_were_set_and_their_passwords_stay_secret() {
    let mut service = Service::start(&[("BROKER_USERS", "worker:hunter2")]);
    service.process.secrets.push("hunter2".to_owned());
    for (response, is_in) in
        [("\0worker\0hunter2", true), ("\0worker\0guess", false), ("\0guest\0guest", false)]
    {
        let mut peer = service.socket();
        peer.send(b"AMQP\x00\x00\x09\x01");
        peer.read().expect("connection.start");
        peer.say(start_ok(response));
        // A client that does not know of authentication_failure_close is hung up on.
        assert_eq!(peer.read().is_some(), is_in, "{response:?}");
    }
}

#[test]
fn a_stop_tells_clients_and_a_second_signal_does_not_wait() {
    let mut service = Service::start(&[]);
    let mut peer = service.client();
    service.process.signal(libc::SIGTERM);
    assert_eq!(peer.closed(), 320);
    // It does not answer, so the broker would give it its time.
    service.process.signal(libc::SIGINT);
    assert_eq!(service.process.wait(), 1);
}

#[test]
fn a_stop_waits_for_those_who_say_goodbye() {
    let mut service = Service::start(&[]);
    let mut peer = service.client();
    service.process.signal(libc::SIGTERM);
    assert_eq!(peer.closed(), 320);
    peer.send(&[1, 0, 0, 0, 0, 0, 4, 0, 10, 0, 51, 0xCE]);
    assert_eq!(peer.read(), None);
    drop(peer);
    assert_eq!(service.process.wait(), 0);
}
