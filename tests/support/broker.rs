//! The RabbitMQ that `make test` starts, and virtual hosts in it: each test has its own, so that exchanges of fixed
//! names do not meet.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};

const USER: &str = "rateway-test";
/// Must never be seen in any output.
pub const AMQP_PASSWORD: &str = "a-password-never-to-be-shown";

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| {
        panic!("{name} is not set: these tests need a RabbitMQ with a TLS listener; `make test` brings one")
    })
}

/// The CA of the broker's TLS listener.
pub fn ca_file() -> String {
    variable("RATEWAY_TEST_AMQP_CA")
}

/// Runs rabbitmqctl; says what it printed.
pub fn rabbitmqctl(arguments: &[&str]) -> String {
    let program = PathBuf::from(variable("RATEWAY_TEST_RABBITMQCTL"));
    let output = Command::new(&program).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("{}: {error}", program.display()));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "rabbitmqctl {arguments:?}: {text} {errors}");
    text
}

/// Runs Erlang in the broker: one start of rabbitmqctl for several steps.
pub fn eval(erlang: &str) -> String {
    rabbitmqctl(&["eval", erlang])
}

/// A virtual host of its own.
pub struct Vhost {
    pub name: String,
}

impl Vhost {
    pub fn new(label: &str) -> Vhost {
        static USER_MADE: Once = Once::new();
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        USER_MADE.call_once(|| {
            // It may be there from another test binary.
            eval(&format!(
                "catch rabbit_auth_backend_internal:add_user(<<\"{USER}\">>, <<\"{AMQP_PASSWORD}\">>, <<\"test\">>)."
            ));
        });
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("{label}-{}-{number}", std::process::id());
        eval(&format!(
            "ok = rabbit_vhost:add(<<\"{name}\">>, <<\"test\">>), \
             ok = rabbit_auth_backend_internal:set_permissions(<<\"{USER}\">>, <<\"{name}\">>, <<\".*\">>, <<\".*\">>, \
             <<\".*\">>, <<\"test\">>)."
        ));
        Vhost { name }
    }

    fn with_authority(&self, uri: &str) -> String {
        let (scheme, rest) = uri.split_once("://").expect("a URI");
        let authority = rest.split('/').next().expect("an authority");
        let host = authority.rsplit('@').next().expect("a host");
        format!("{scheme}://{USER}:{AMQP_PASSWORD}@{host}/{}", self.name)
    }

    /// `amqp://`
    pub fn uri(&self) -> String {
        self.with_authority(&variable("RATEWAY_TEST_AMQP_URI"))
    }

    /// `amqps://`
    pub fn tls_uri(&self) -> String {
        self.with_authority(&variable("RATEWAY_TEST_AMQPS_URI"))
    }

    /// The plain URI by way of another port of this machine.
    pub fn uri_at(&self, port: u16) -> String {
        self.with_authority(&format!("amqp://127.0.0.1:{port}"))
    }

    /// Where the plain listener is.
    pub fn address(&self) -> String {
        let uri = self.uri();
        uri.rsplit('@').next().and_then(|rest| rest.split('/').next()).expect("a host").to_owned()
    }

    /// What rabbitmqctl lists, as rows of JSON.
    pub fn list(&self, what: &str, columns: &[&str]) -> Vec<serde_json::Value> {
        let mut arguments = vec!["-q", "-p", &self.name, "--formatter", "json", what];
        arguments.extend(columns);
        serde_json::from_str(&rabbitmqctl(&arguments)).expect("rabbitmqctl prints JSON")
    }
}

impl Drop for Vhost {
    fn drop(&mut self) {
        let erlang = format!("rabbit_vhost:delete(<<\"{}\">>, <<\"test\">>).", self.name);
        // Not worth a failure: the next start of the test broker begins empty.
        let _ = Command::new(variable("RATEWAY_TEST_RABBITMQCTL")).args(["eval", &erlang]).output();
    }
}
