//! The service as a process, and what its admin port says.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;

use crate::prometheus::Metrics;
use rateway::base::sha256_hex;
use rateway::queue::Snapshot;
use rateway::state::Folder;

use crate::shard::Shard;
use crate::support::{Gateway, PATIENCE, TOKEN, wait_for};

/// The gate of whoever names no key, as the admin port calls it.
pub const OWN: &str = "default";

/// Added by the service to Discord's 5 s; set here, so that a changed default changes no test.
const SLACK_MS: &str = "250";

/// A running service.
pub struct Service {
    pub process: Gateway,
    /// Where shards ask, as `address:port`.
    pub queue: String,
    /// Where the operator asks.
    pub admin: String,
    /// Goes last.
    pub _state: Option<Scratch>,
}

/// Starts the program on free ports, and waits for nothing. The last one of several variables of a name counts.
pub fn begin(variables: &[(&str, &str)]) -> (Gateway, Scratch) {
    let state = Scratch::quiet("usual");
    let usual = [
        ("HOST", "127.0.0.1"),
        ("PORT", "0"),
        ("ADMIN_PORT", "0"),
        ("STATE_DIR", state.path()),
        ("IDENTIFY_SLACK_MS", SLACK_MS),
        // The more is said the more there is to search for the token.
        ("LOG_LEVEL", "trace"),
    ];
    let owned = |&(name, value): &(&str, &str)| (name.to_owned(), value.to_owned());
    let variables: Vec<_> = usual.iter().chain(variables).map(owned).collect();
    (Gateway::start(&variables, &["queue"]), state)
}

impl Service {
    /// Starts it and waits until both ports are told.
    pub fn start(variables: &[(&str, &str)]) -> Service {
        let (process, state) = begin(variables);
        let told = |before: &str| {
            let line = process.wait_line(before);
            let rest = line.split(before).nth(1).expect("the line was found by these words");
            // Up to a blank, or a quote in JSON.
            rest.split([' ', '"']).next().expect("an address").to_owned()
        };
        let (queue, admin) = (told("shards ask on http://"), told("metrics on http://"));
        Service { process, queue, admin, _state: Some(state) }
    }

    /// Starts it for the bot of [`TOKEN`], with Discord at `api_url`.
    pub fn with_token(api_url: &str, variables: &[(&str, &str)]) -> Service {
        let own = [("DISCORD_TOKEN", TOKEN), ("DISCORD_API_URL", api_url)];
        Service::start(&[&own, variables].concat())
    }

    /// A connection of a shard.
    pub fn connect(&self) -> Shard {
        Shard::connect(&self.queue)
    }

    /// A shard that has asked.
    pub fn ask(&self, target: &str) -> Shard {
        let mut shard = self.connect();
        shard.ask(target);
        shard
    }

    /// A shard that has asked and is known to wait, so that who asks next is behind it.
    pub fn ask_and_wait(&self, gate: &str, target: &str) -> Shard {
        let before = self.gate(gate)["waiting"].as_u64().unwrap_or(0);
        let shard = self.ask(target);
        self.wait_waiting(gate, before + 1);
        shard
    }

    /// Asks the admin port; says status, head and body.
    pub fn admin(&self, method: &str, path: &str) -> (u16, String, String) {
        let mut stream = TcpStream::connect(&self.admin).expect("the admin port is open");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        write!(stream, "{method} {path} HTTP/1.1\r\nHost: q\r\nConnection: close\r\n\r\n")
            .expect("it takes it");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("an answer");
        let (head, body) = text.split_once("\r\n\r\n").expect("a head and a body");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        (status, head.to_owned(), body.to_owned())
    }

    /// `/metrics`, strictly read.
    pub fn metrics(&self) -> Metrics {
        let (status, _, text) = self.admin("GET", "/metrics");
        assert_eq!(status, 200);
        Metrics::parse(&text).unwrap_or_else(|fault| panic!("{fault} in\n{text}"))
    }

    /// A count that has no labels: `rateway_queue_{name}`.
    pub fn count(&self, name: &str) -> u64 {
        self.metrics().get(&format!("rateway_queue_{name}"))
    }

    /// How many connections ended for this reason.
    pub fn ended(&self, reason: &str) -> u64 {
        self.metrics().get(&format!("rateway_queue_ended_total{{reason=\"{reason}\"}}"))
    }

    /// A gate in `/gates`; null when there is none of that name.
    pub fn gate(&self, name: &str) -> Value {
        let (status, _, text) = self.admin("GET", "/gates");
        assert_eq!(status, 200);
        let gates: Vec<Value> = serde_json::from_str(&text).expect("an array");
        gates.into_iter().find(|gate| gate["gate"] == name).unwrap_or_default()
    }

    /// Waits until a figure of a gate is so.
    pub fn wait_gate(&self, gate: &str, figure: &str, wanted: u64) {
        wait_for(&format!("{figure} of gate {gate} to be {wanted}"), || {
            let found = &self.gate(gate)[figure];
            if *found == wanted { Ok(()) } else { Err(format!("(it is {found})")) }
        });
    }

    /// Waits until so many shards wait at a gate.
    pub fn wait_waiting(&self, gate: &str, count: u64) {
        self.wait_gate(gate, "waiting", count);
    }

    /// Waits until so many connections are open.
    pub fn wait_connections(&self, count: u64) {
        wait_for(&format!("{count} open connections"), || (self.count("connections") == count).then_some(()));
    }

    /// Waits until so many connections have ended for this reason.
    pub fn wait_ended(&self, reason: &str, count: u64) {
        wait_for(&format!("{count} connections ended as {reason}"), || {
            let found = self.ended(reason);
            if found == count { Ok(()) } else { Err(format!("(there are {found})")) }
        });
    }
}

/// A folder that is gone at the end.
pub struct Scratch(pub PathBuf);

impl Scratch {
    /// A path of a folder that does not exist yet.
    pub fn new(label: &str) -> Scratch {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("queue-{label}-{}-{number}", std::process::id());
        Scratch(PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name))
    }

    /// A folder of a service that knows of nothing granted just before its start; one without any memory begins with a
    /// pause.
    pub fn quiet(label: &str) -> Scratch {
        let scratch = Scratch::new(label);
        let quiet = Snapshot { max_concurrency: 1, total: 1000, told: None, spent: Vec::new(), busy: false };
        let folder = Folder::open(&scratch.0, "queue").expect("a folder");
        for name in ["queue.json".to_owned(), format!("queue-{}.json", sha256_hex(TOKEN))] {
            folder.write_identify(&name, &quiet, 0).expect("a write");
        }
        drop(folder);
        scratch
    }

    pub fn path(&self) -> &str {
        self.0.to_str().expect("a path of plain letters")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // One that was never made is gone as well.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
