//! A large event on an otherwise silent connection: no other event, no confirm and no timer helps it along, so every
//! byte has to be read because it is there.

#[path = "../benches/support/sink.rs"]
mod sink;

use std::process::{Command, Stdio};
use std::sync::atomic::Ordering;
use std::time::Duration;

use rateway::sim::{Options, Server, ServerOptions};

const EVENT_BYTES: usize = 8 << 20;

#[test]
fn a_large_event_is_read_to_its_end() {
    let discord = Options { guilds: 1, rate: 0.0, gateway_url: String::new(), ..Options::default() };
    let server = Server::start(ServerOptions { discord, ..ServerOptions::default() }).expect("a free port");
    let (broker, counts) = sink::start().expect("a free port");
    let mut gateway = Command::new(env!("CARGO_BIN_EXE_rateway"))
        .env_clear()
        .envs([
            ("DISCORD_TOKEN", "large".to_owned()),
            ("INTENTS", "53608447".to_owned()),
            ("DISCORD_API_URL", server.api_url()),
            ("AMQP_URI", format!("amqp://{broker}")),
            ("SHARD_COUNT", "1".to_owned()),
            ("THREADS", "1".to_owned()),
            ("COMPRESSION", "none".to_owned()),
            ("LOG_LEVEL", "warn".to_owned()),
        ])
        .stdout(Stdio::null())
        .spawn()
        .expect("rateway starts");
    let wait_for = |condition: &dyn Fn() -> bool| {
        // A reader that sleeps between windows takes minutes for what takes milliseconds.
        (0..1500).any(|_| {
            std::thread::sleep(Duration::from_millis(20));
            condition()
        })
    };
    let ready = wait_for(&|| counts.publishes.load(Ordering::Relaxed) >= 2);
    let body = format!(r#"{{"content":"{}"}}"#, "x".repeat(EVENT_BYTES));
    let seq = server.act(|discord, now| discord.emit(now, 0, "MESSAGE_CREATE", &body));
    let arrived = wait_for(&|| counts.bytes.load(Ordering::Relaxed) > EVENT_BYTES as u64);
    // It is killed before anything is judged, so that a failure leaves nothing behind.
    let _ = gateway.kill();
    let _ = gateway.wait();
    assert!(ready && seq.is_some(), "the shard came up");
    assert!(arrived, "{} bytes arrived", counts.bytes.load(Ordering::Relaxed));
}
