//! A thousand shards at full speed before a broker that stops reading: memory stays below the sum of the ceilings
//! that README states, the shards keep their connections, and everything goes on when the broker does.

#[path = "../benches/support/sink.rs"]
mod sink;

use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::Ordering;
use std::time::Duration;

const SHARDS: u64 = 1000;
const OUTBOX_MIB: u64 = 32;

/// Per shard: 120 KiB for an idle one, and two windows of 16 KiB that wait while its broker is away.
const SHARD_KIB: u64 = 120 + 2 * 16;
/// Per cluster: buffers of the broker connection, and one event for each of its shards that was begun when the
/// outbox was nearly full (the stand-in's largest guild is below 100 KiB).
const CLUSTER_KIB: u64 = 2 * 64 + 8 * 100;
/// The program, its threads' buffers and what the allocator keeps.
const REST_KIB: u64 = 48 * 1024;

struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Process {
    fn status_kib(&self, name: &str) -> u64 {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.0.id())).expect("the process lives");
        let line = status.lines().find(|line| line.starts_with(name)).expect("a line of that name");
        line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("KiB")
    }
}

fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    for _ in 0..6000 {
        if condition() {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("waited for two minutes in vain: {what}");
}

#[test]
fn memory_stays_below_the_stated_ceilings() {
    let port =
        TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a free port").port();
    let discord = format!("127.0.0.1:{port}");
    let sim = Command::new(env!("CARGO_BIN_EXE_rateway"))
        .args(["sim", "--full-speed", "--rate", "50000", "--max-concurrency", "1000", "--guilds", "1000"])
        .args(["--members", "20", "--session-starts", "100000", "--shards", &SHARDS.to_string()])
        .args(["--addr", &discord])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let _sim = Process(sim.expect("the stand-in starts"));
    wait_for("the stand-in", || TcpStream::connect(&discord).is_ok());

    let (broker, counts) = sink::start().expect("a free port");
    let gateway = Command::new(env!("CARGO_BIN_EXE_rateway"))
        .env_clear()
        .envs([
            ("DISCORD_TOKEN", "memory".to_owned()),
            ("INTENTS", "53608447".to_owned()),
            ("DISCORD_API_URL", format!("http://{discord}/api/v10")),
            ("AMQP_URI", format!("amqp://{broker}?heartbeat=0")),
            ("SHARD_COUNT", SHARDS.to_string()),
            ("OUTBOX_MEMORY", format!("{OUTBOX_MIB}MiB")),
            ("LOG_LEVEL", "warn".to_owned()),
        ])
        .stdout(Stdio::null())
        .spawn();
    let gateway = Process(gateway.expect("rateway starts"));
    let published = || counts.publishes.load(Ordering::Relaxed);
    wait_for("READY and a guild of every shard, and events", || published() > 10 * SHARDS);
    counts.stalled.store(true, Ordering::Relaxed);
    // Until the outboxes are full: the stand-in goes on, so memory would go on growing if nothing stopped it.
    let mut last = 0;
    wait_for("memory stands still", || {
        std::thread::sleep(Duration::from_secs(2));
        let now = gateway.status_kib("VmRSS");
        std::mem::replace(&mut last, now) + 256 > now
    });
    let (peak, ceiling) = (
        gateway.status_kib("VmHWM"),
        OUTBOX_MIB * 1024 + SHARDS * SHARD_KIB + SHARDS / 8 * CLUSTER_KIB + REST_KIB,
    );
    println!("peak {peak} KiB, ceiling {ceiling} KiB");
    assert!(peak < ceiling, "peak {peak} KiB is above {ceiling} KiB");

    let before = published();
    counts.stalled.store(false, Ordering::Relaxed);
    wait_for("events flow again", || published() > before + 20 * SHARDS);
}
