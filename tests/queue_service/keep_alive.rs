//! Clients with a pool use one connection for many permits.

use std::process::Command;

use crate::service::Service;
use crate::shard::PERMIT;
use crate::support::PATIENCE;

/// Debian's own Python, as the packages are Debian's.
const PYTHON: &str = "/usr/bin/python3";
const CLIENTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/queue_service/clients.py");

fn python(client: &str, service: &Service) {
    let output = Command::new(PYTHON)
        .args([CLIENTS, client, &service.queue, &PATIENCE.as_secs().to_string()])
        .output()
        .expect("Python; `make test` installs it");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{client}: {}\n{errors}", output.status);
}

#[test]
fn requests_session() {
    let service = Service::start(&[("CONCURRENCY", "10")]);
    python("requests", &service);
    assert_eq!((service.count("answered_total"), service.count("accepted_total")), (6, 1));
}

#[test]
fn http_client() {
    let service = Service::start(&[("CONCURRENCY", "10")]);
    python("http.client", &service);
    assert_eq!((service.count("answered_total"), service.count("accepted_total")), (5, 1));
}

#[test]
fn ureq_pool() {
    let service = Service::start(&[("CONCURRENCY", "10")]);
    let config = ureq::Agent::config_builder().timeout_global(Some(PATIENCE)).proxy(None).build();
    let agent = ureq::Agent::new_with_config(config);
    for shard in 0..4 {
        let url = format!("http://{}/?shard={shard}", service.queue);
        let mut response = agent.get(&url).call().expect("a permit");
        assert_eq!(response.status(), 200);
        assert_eq!(response.body_mut().read_to_string().expect("a body"), PERMIT);
    }
    assert_eq!((service.count("answered_total"), service.count("accepted_total")), (4, 1));
}
