//! What the end-to-end tests have in common: the program as a process, the stand-in for Discord, a broker that
//! others wrote with a worker that others wrote, and the judgement over what arrived.
//!
//! ```text
//! sim::Server <── rateway (its own process) ──> RabbitMQ, a virtual host per test <── consumer.py (pika)
//! ```

#![allow(dead_code, unused_imports, reason = "each test binary uses its own part")]
#![allow(clippy::disallowed_methods, reason = "these tests wait for processes, in real time")]

mod broker;
mod gateway;
mod judge;
mod net;
mod stage;
mod worker;

use std::time::{Duration, Instant};

pub use broker::{AMQP_PASSWORD, Vhost, ca_file, eval, rabbitmqctl};
pub use gateway::Gateway;
pub use judge::judge;
pub use net::{Forward, certificate, dead_port};
pub use stage::{Setup, Stage};
pub use worker::{KEYS, Message, Worker};

/// The bot's token: must never be seen in any output.
pub const TOKEN: &str = "MTE5NTk4NjUyNzY4MTIzNDU2.Gx9QbL.never-to-be-shown-in-any-output";

/// How long anything may take. Far above what it does take: a test fails because of what it sees, not because the
/// machine is busy.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// Asks until there is an answer. What is asked may say in its error what is still missing.
pub fn wait_for<T, L: Look<T>>(what: &str, mut look: impl FnMut() -> L) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let missing = match look().seen() {
            Ok(found) => return found,
            Err(missing) => missing,
        };
        assert!(Instant::now() < deadline, "waited {} s in vain: {what} {missing}", PATIENCE.as_secs());
        std::thread::sleep(Duration::from_millis(30));
    }
}

/// What a look brings.
pub trait Look<T> {
    /// What was waited for, or what is missing.
    fn seen(self) -> Result<T, String>;
}

impl<T> Look<T> for Option<T> {
    fn seen(self) -> Result<T, String> {
        self.ok_or_else(String::new)
    }
}

impl<T> Look<T> for Result<T, String> {
    fn seen(self) -> Result<T, String> {
        self
    }
}

/// Waits until it is so.
pub fn wait_until(what: &str, mut look: impl FnMut() -> bool) {
    wait_for(what, || look().then_some(()));
}

/// For what must not happen: there is nothing to wait for but time.
pub fn let_pass(seconds: f64) {
    std::thread::sleep(Duration::from_secs_f64(seconds));
}
