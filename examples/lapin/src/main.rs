//! A worker with lapin: handles events in order, sends a command, asks the cache, comes back.
//!
//! ```sh
//! AMQP_URI=amqp://127.0.0.1:5672 cargo run --manifest-path examples/lapin/Cargo.toml [CLUSTER]
//! ```
//!
//! docs/guide.md says why it does what it does.

use std::collections::{HashSet, VecDeque};
use std::time::{Duration, Instant};

use futures_lite::StreamExt;
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, BasicRejectOptions,
    ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, ExchangeKind};
use serde_json::{Value, json};

const EVENTS: [&str; 4] = ["READY", "GUILD_CREATE", "MESSAGE_CREATE", "RATEWAY_GAP"];
const PREFETCH: u16 = 100;
const SEEN_MAX: usize = 10_000;
const BACKOFF_MAX: Duration = Duration::from_secs(30);

/// Ids of events that were handled, the newest ones. Several workers on a queue share such a set, in Redis say.
#[derive(Default)]
struct Seen {
    ids: HashSet<String>,
    order: VecDeque<String>,
}

impl Seen {
    fn add(&mut self, id: String) {
        if self.ids.insert(id.clone()) {
            self.order.push_back(id);
        }
        if self.order.len() > SEEN_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.ids.remove(&oldest);
        }
    }
}

/// What outlives a connection.
#[derive(Default)]
struct Worker {
    cluster: u32,
    seen: Seen,
    greeted: bool,
    asked: bool,
}

/// What a request needs.
struct Link {
    channel: Channel,
    exchange: String,
    replies: String,
}

impl Worker {
    /// One connection, until it ends.
    async fn run(&mut self, uri: &str) -> lapin::Result<()> {
        let connection = Connection::connect(uri, ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        channel.basic_qos(PREFETCH, BasicQosOptions::default()).await?;
        // The same declaration as rateway's, so that it does not matter who comes first.
        let exchange = format!("rateway-{}", self.cluster);
        let durable = ExchangeDeclareOptions { durable: true, ..Default::default() };
        channel
            .exchange_declare(exchange.as_str().into(), ExchangeKind::Direct, durable, FieldTable::default())
            .await?;
        let queue = format!("worker-lapin-{}", self.cluster);
        let mut arguments = FieldTable::default();
        arguments.insert("x-max-length-bytes".into(), AMQPValue::LongLongInt(256 << 20));
        arguments.insert("x-overflow".into(), AMQPValue::LongString("drop-head".into()));
        let durable = QueueDeclareOptions { durable: true, ..Default::default() };
        channel.queue_declare(queue.as_str().into(), durable, arguments).await?;
        for event in EVENTS {
            let (queue, exchange) = (queue.as_str().into(), exchange.as_str().into());
            channel
                .queue_bind(queue, exchange, event.into(), QueueBindOptions::default(), FieldTable::default())
                .await?;
        }
        let own = QueueDeclareOptions { exclusive: true, ..Default::default() };
        let replies = channel.queue_declare("".into(), own, FieldTable::default()).await?;
        let replies = replies.name().as_str().to_owned();
        let no_ack = BasicConsumeOptions { no_ack: true, ..Default::default() };
        let mut answers = channel
            .basic_consume(replies.as_str().into(), "answers".into(), no_ack, FieldTable::default())
            .await?;
        let options = BasicConsumeOptions::default();
        let mut events = channel
            .basic_consume(queue.as_str().into(), "events".into(), options, FieldTable::default())
            .await?;
        println!("worker: listening to {exchange}");

        let link = Link { channel, exchange, replies };
        // One event after the other keeps the order of every shard. Requests do not hold it up: their answers come by
        // the other branch.
        loop {
            tokio::select! {
                event = events.next() => match event {
                    Some(event) => self.handle_once(&link, event?).await?,
                    None => return Ok(()),
                },
                answer = answers.next() => match answer {
                    Some(answer) => on_answer(&answer?),
                    None => return Ok(()),
                },
            }
        }
    }

    async fn handle_once(&mut self, link: &Link, event: Delivery) -> lapin::Result<()> {
        let id = event.properties.message_id().as_ref().map(|id| id.as_str().to_owned()).unwrap_or_default();
        let may_have_come = event.redelivered || header(&event, "repeat").is_some();
        if may_have_come && self.seen.ids.contains(&id) {
            println!("worker: dropped the repeat {id}");
        } else {
            let Ok(d) = serde_json::from_slice::<Value>(&event.data) else {
                eprintln!("worker: {} is no JSON", event.routing_key);
                event.reject(BasicRejectOptions { requeue: false }).await?;
                return Ok(());
            };
            self.handle(link, &event, &d).await?;
            self.seen.add(id);
        }
        // Only now: should the worker die before, the broker sends it again.
        event.ack(BasicAckOptions::default()).await?;
        Ok(())
    }

    async fn handle(&mut self, link: &Link, event: &Delivery, d: &Value) -> lapin::Result<()> {
        let shard = header(event, "shard_id").unwrap_or(-1);
        let name = event.routing_key.as_str();
        if name == "RATEWAY_GAP" {
            let reason = d["reason"].as_str().unwrap_or_default();
            println!("worker: shard {shard} lost events after seq {}: {reason}", d["last_seq"]);
            return Ok(());
        }
        println!("shard {shard} seq {} {name}", header(event, "seq").unwrap_or(-1));
        if !self.greeted {
            self.greeted = true;
            let presence =
                json!({"op": 3, "d": {"since": null, "activities": [], "status": "idle", "afk": false}});
            let mut headers = FieldTable::default();
            headers.insert("shard_id".into(), AMQPValue::LongLongInt(shard));
            link.request("gateway", "command", headers, &presence).await?;
        }
        if name == "GUILD_CREATE" && !self.asked {
            self.asked = true;
            let query = json!({"type": "Guild", "arguments": [d["id"]], "return_routing_key": "unused"});
            link.request("cache", "guild", FieldTable::default(), &query).await?;
        }
        Ok(())
    }
}

impl Link {
    /// Publishes a request. Its answer comes to our own queue with the same correlation id.
    async fn request(&self, key: &str, id: &str, headers: FieldTable, body: &Value) -> lapin::Result<()> {
        let properties = BasicProperties::default()
            .with_headers(headers)
            .with_reply_to(self.replies.as_str().into())
            .with_correlation_id(ShortString::from(id));
        let options = BasicPublishOptions::default();
        let (exchange, body) = (self.exchange.as_str().into(), body.to_string());
        self.channel.basic_publish(exchange, key.into(), options, body.as_bytes(), properties).await?;
        Ok(())
    }
}

fn on_answer(answer: &Delivery) {
    let id = answer.properties.correlation_id().as_ref().map(ShortString::as_str);
    match id {
        Some("command") => {
            println!("worker: answer to the command: {}", String::from_utf8_lossy(&answer.data));
        }
        // Zero bytes: not held.
        Some("guild") if answer.data.is_empty() => println!("worker: the cache has no such guild"),
        Some("guild") => {
            let guild: Value = serde_json::from_slice(&answer.data).unwrap_or_default();
            let (id, name) = (guild["id"].as_str(), guild["name"].as_str());
            println!("worker: the cache has guild {}: {}", id.unwrap_or_default(), name.unwrap_or_default());
        }
        _ => {}
    }
}

/// A header that is a number, or 1 for true.
fn header(event: &Delivery, name: &str) -> Option<i64> {
    match event.properties.headers().as_ref()?.inner().get(name)? {
        AMQPValue::LongInt(value) => Some(i64::from(*value)),
        AMQPValue::LongLongInt(value) => Some(*value),
        AMQPValue::Boolean(true) => Some(1),
        _ => None,
    }
}

#[tokio::main]
async fn main() {
    let cluster = std::env::args().nth(1).and_then(|number| number.parse().ok()).unwrap_or(1);
    let mut worker = Worker { cluster, ..Worker::default() };
    let uris = std::env::var("AMQP_URI").unwrap_or_else(|_| "amqp://127.0.0.1:5672".to_owned());
    let mut backoff = Duration::from_secs(1);
    loop {
        for uri in uris.split(',') {
            let started = Instant::now();
            if let Err(error) = worker.run(uri.trim()).await {
                eprintln!("worker: no connection: {error}");
            }
            if started.elapsed() > BACKOFF_MAX {
                backoff = Duration::from_secs(1);
            }
        }
        eprintln!("worker: trying again in {backoff:?}");
        // Not all workers at the same moment.
        let share = u32::from(std::process::id() as u16 % 50) + 50;
        tokio::time::sleep(backoff * share / 100).await;
        backoff = (backoff * 2).min(BACKOFF_MAX);
    }
}
