//! The worker: `consumer.py` as a process, and what it wrote down.

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::thread::JoinHandle;

use parking_lot::Mutex;
use serde_json::{Value, json};

use super::wait_for;

/// Routing keys that the workers of these tests listen to. The exchange is direct: what is not named does not come.
pub const KEYS: &[&str] = &[
    "READY",
    "RESUMED",
    "GUILD_CREATE",
    "GUILD_DELETE",
    "GUILD_MEMBER_UPDATE",
    "GUILD_MEMBERS_CHUNK",
    "MESSAGE_CREATE",
    "MESSAGE_UPDATE",
    "MESSAGE_DELETE",
    "TYPING_START",
    "PRESENCE_UPDATE",
    "VOICE_STATE_UPDATE",
    "VOICE_SERVER_UPDATE",
    "MESSAGE_REACTION_ADD",
    "MESSAGE_REACTION_REMOVE",
    "CHANNEL_UPDATE",
    // In no table of Discord's.
    "GUILD_NOVELTY_UPDATE",
    "SOMETHING_NEW_CREATE",
    "RATEWAY_GAP",
    // Where the tests want answers of the cache.
    "cache-answer",
];

/// One message as the worker got it.
#[derive(Clone, Debug)]
pub struct Message {
    /// The cluster whose exchange it came from; 0 for the reply queue.
    pub cluster: u32,
    pub key: String,
    pub body: Vec<u8>,
    /// Everything else.
    pub json: Value,
}

impl Message {
    /// A header's AMQP type and value.
    pub fn header(&self, name: &str) -> Option<(&str, &Value)> {
        let header = self.json["headers"].get(name)?;
        Some((header[0].as_str()?, &header[1]))
    }

    pub fn shard_id(&self) -> u32 {
        let id = self.header("shard_id").and_then(|(_, id)| id.as_u64());
        u32::try_from(id.expect("a shard_id header")).expect("a small number")
    }

    pub fn seq(&self) -> u64 {
        self.header("seq").and_then(|(_, seq)| seq.as_u64()).expect("a seq header")
    }

    pub fn message_id(&self) -> &str {
        self.json["message_id"].as_str().expect("a message_id")
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Whether it is an event of Discord's, not an answer or a word of rateway's own.
    pub fn is_event(&self) -> bool {
        self.cluster > 0 && self.key != "cache-answer" && self.key != "RATEWAY_GAP"
    }

    fn parse(mut json: Value) -> Message {
        let body = json["body"].take();
        // Each character stands for one byte.
        let body = body.as_str().expect("a body").chars().map(|c| c as u8).collect();
        let cluster = json["cluster"].as_u64().and_then(|cluster| u32::try_from(cluster).ok());
        let key = json["key"].as_str().expect("a key").to_owned();
        Message { cluster: cluster.expect("a cluster"), key, body, json }
    }
}

#[derive(Default)]
struct Seen {
    messages: Vec<Message>,
    /// Ids of events.
    ids: HashSet<String>,
    ready: usize,
    declared: usize,
    other: Vec<String>,
}

/// A running worker. Dropping it ends it.
pub struct Worker {
    child: Child,
    stdin: Option<ChildStdin>,
    seen: Arc<Mutex<Seen>>,
    reader: Option<JoinHandle<()>>,
}

/// A Python that has pika: Debian's package belongs to Debian's Python, which need not be the first one in PATH.
fn python() -> &'static str {
    for python in ["/usr/bin/python3", "python3"] {
        let found = Command::new(python).args(["-c", "import pika"]).stderr(Stdio::null()).status();
        if found.is_ok_and(|status| status.success()) {
            return python;
        }
    }
    panic!("no python3 here has pika: `make test` installs python3-pika")
}

impl Worker {
    /// Starts a worker with one durable queue per cluster, bound to [`KEYS`], and waits until it listens.
    pub fn start(uri: &str, ca: Option<&str>, clusters: &[u32]) -> Worker {
        Worker::start_for(uri, ca, clusters, KEYS)
    }

    /// As above, bound to `keys`.
    pub fn start_for(uri: &str, ca: Option<&str>, clusters: &[u32], keys: &[&str]) -> Worker {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/consumer.py");
        let mut command = Command::new(python());
        command.arg(script).args(["--keys", &keys.join(",")]).env("RATEWAY_WORKER_URI", uri);
        if let Some(ca) = ca {
            command.args(["--ca", ca]);
        }
        command.arg("--clusters").args(clusters.iter().map(u32::to_string));
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("python3 starts");
        let stdin = child.stdin.take();
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        let seen = Arc::new(Mutex::new(Seen::default()));
        let reader = std::thread::spawn({
            let seen = seen.clone();
            move || {
                for line in stdout.lines().map_while(Result::ok) {
                    let Ok(json) = serde_json::from_str::<Value>(&line) else { continue };
                    let mut seen = seen.lock();
                    if json.get("key").is_some() {
                        let message = Message::parse(json);
                        if message.is_event() {
                            seen.ids.insert(message.message_id().to_owned());
                        }
                        seen.messages.push(message);
                    } else if json.get("ready").is_some() {
                        seen.ready += 1;
                    } else if json.get("declared").is_some() {
                        seen.declared += 1;
                    } else {
                        seen.other.push(line);
                    }
                }
            }
        });
        let worker = Worker { child, stdin, seen, reader: Some(reader) };
        worker.wait_ready(1);
        worker
    }

    /// Waits until it has connected `times` times in all.
    pub fn wait_ready(&self, times: usize) {
        wait_for("the worker's connection", || (self.seen.lock().ready >= times).then_some(()));
    }

    /// Everything received so far, in order.
    pub fn messages(&self) -> Vec<Message> {
        self.seen.lock().messages.clone()
    }

    /// How many of everything received fit.
    pub fn count(&self, fits: impl Fn(&Message) -> bool) -> usize {
        self.seen.lock().messages.iter().filter(|message| fits(message)).count()
    }

    /// Those of everything received that fit.
    pub fn find(&self, fits: impl Fn(&Message) -> bool) -> Vec<Message> {
        self.seen.lock().messages.iter().filter(|message| fits(message)).cloned().collect()
    }

    /// How many different events came.
    pub fn unique_events(&self) -> usize {
        self.seen.lock().ids.len()
    }

    fn order(&mut self, order: &Value) {
        let stdin = self.stdin.as_mut().expect("open until the drop");
        writeln!(stdin, "{order}").expect("the worker lives");
    }

    /// Declares a queue, waits for that.
    pub fn declare(&mut self, queue: &str, durable: bool, arguments: &Value) {
        let before = self.seen.lock().declared;
        self.order(&json!({"declare": {"queue": queue, "durable": durable, "arguments": arguments}}));
        wait_for("the queue", || (self.seen.lock().declared > before).then_some(()));
    }

    /// Publishes; `headers` are `{name: [AMQP type, value]}`, `reply` is the correlation id of the answer.
    pub fn publish(&mut self, exchange: &str, key: &str, headers: &Value, body: &[u8], reply: Option<&str>) {
        let body: String = body.iter().map(|&byte| char::from(byte)).collect();
        let publish =
            json!({"exchange": exchange, "key": key, "headers": headers, "body": body, "reply": reply});
        self.order(&json!({ "publish": publish }));
    }

    /// Publishes an event once more, marked as rateway marks one that may have come before.
    pub fn publish_again(&mut self, event: &Message) {
        let mut headers = event.json["headers"].clone();
        headers["repeat"] = json!(["t", true]);
        let body: String = event.body.iter().map(|&byte| char::from(byte)).collect();
        let publish = json!({
            "exchange": format!("rateway-{}", event.cluster), "key": event.key, "headers": headers, "body": body,
            "id": event.message_id()
        });
        self.order(&json!({ "publish": publish }));
    }

    /// Sends a gateway command to a cluster.
    pub fn command(&mut self, cluster: u32, headers: &Value, body: &[u8], reply: Option<&str>) {
        self.publish(&format!("rateway-{cluster}"), "gateway", headers, body, reply);
    }

    /// Sends a cache query to a cluster.
    pub fn query(&mut self, cluster: u32, body: &[u8], reply: Option<&str>) {
        self.publish(&format!("rateway-{cluster}"), "cache", &json!({}), body, reply);
    }

    /// The answer on the reply queue, if it has come.
    pub fn answer(&self, correlation_id: &str) -> Option<Message> {
        self.find(|message| message.cluster == 0 && message.json["correlation_id"] == correlation_id).pop()
    }

    /// Waits for the answer on the reply queue.
    pub fn wait_answer(&self, correlation_id: &str) -> Message {
        wait_for(&format!("the answer to {correlation_id}"), || self.answer(correlation_id))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        drop(self.stdin.take());
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
        if std::thread::panicking() {
            let seen = self.seen.lock();
            let other = seen.other.join("\n");
            eprintln!("the worker had {} messages, and said:\n{other}", seen.messages.len());
        }
    }
}
