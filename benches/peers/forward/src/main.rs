//! The program that one would write without rateway: twilight-gateway's shards, a task each, lapin's publisher, and
//! twilight-cache-inmemory if a cache is wanted. Same exchanges, routing keys, bodies and confirms as rateway's.
//!
//!     forward --sim 127.0.0.1:7443 --amqp amqp://127.0.0.1:5672 --shards 16 [--threads 1] [--cache true] [--typed true]
//!             [--window 128]
//!
//! `d` is forwarded as it came, or, with `--typed`, parsed to twilight's types and written out again, as the original
//! rateway did. Ten times a second it prints how many events it has published.

use std::collections::VecDeque;
use std::error::Error;
use std::pin::Pin;
use std::process::exit;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, ExchangeKind};
use serde::Deserialize;
use serde_json::value::RawValue;
use twilight_cache_inmemory::{DefaultInMemoryCache, ResourceType};
use twilight_gateway::queue::InMemoryQueue;
use twilight_gateway::{ConfigBuilder, Event, EventTypeFlags, Intents, Message, Shard, ShardId};
use twilight_model::gateway::event::{DispatchEvent, GatewayEvent};

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const SHARDS_PER_CLUSTER: u32 = 8;

struct Options {
    sim: String,
    amqp: String,
    shards: u32,
    threads: usize,
    cache: bool,
    typed: bool,
    /// Publishes of a shard that may wait for their confirm.
    window: usize,
}

fn main() {
    let mut options = Options {
        sim: "127.0.0.1:7443".into(),
        amqp: "amqp://127.0.0.1:5672".into(),
        shards: 1,
        threads: 1,
        cache: false,
        typed: false,
        window: 128,
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments.next().unwrap_or_default();
        match name.as_str() {
            "--sim" => options.sim = value,
            "--amqp" => options.amqp = value,
            "--shards" => options.shards = value.parse().expect("a number of shards"),
            "--threads" => options.threads = value.parse().expect("a number of threads"),
            "--cache" => options.cache = value == "true",
            "--window" => options.window = value.parse().expect("a number of publishes"),
            "--typed" => options.typed = value == "true",
            _ => panic!("unknown argument {name}"),
        }
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(options.threads)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(run(&options)).unwrap_or_else(|error| {
        eprintln!("forward: {error}");
        exit(1);
    });
}

async fn run(options: &Options) -> Result<(), Box<dyn Error>> {
    let published = Arc::new(AtomicU64::new(0));
    let cache = options.cache.then(|| {
        // No messages, as is rateway's default.
        let kinds = ResourceType::all() - ResourceType::MESSAGE;
        Arc::new(DefaultInMemoryCache::builder().resource_types(kinds).message_cache_size(0).build())
    });
    let queue = InMemoryQueue::new(1000, 1_000_000, Duration::from_secs(86_400), 1_000_000);
    let config = ConfigBuilder::new("bench".into(), Intents::from_bits_truncate(53_608_447))
        .large_threshold(250)
        .proxy_url(format!("ws://{}", options.sim))
        .queue(queue)
        .build();
    // lapin has a thread per connection, so there is one connection.
    let connection = Connection::connect(&options.amqp, ConnectionProperties::default()).await?;
    for number in 0..options.shards {
        let exchange = ShortString::from(format!("rateway-{}", number / SHARDS_PER_CLUSTER + 1));
        let channel = connection.create_channel().await?;
        let durable = ExchangeDeclareOptions { durable: true, ..Default::default() };
        channel
            .exchange_declare(exchange.clone(), ExchangeKind::Direct, durable, FieldTable::default())
            .await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        let forwarder = Forwarder {
            shard_id: number,
            exchange,
            channel: Arc::new(channel),
            unconfirmed: VecDeque::new(),
            published: published.clone(),
            cache: cache.clone(),
            typed: options.typed,
            window: options.window,
        };
        let shard = Shard::with_config(ShardId::new(number, options.shards), config.clone());
        tokio::spawn(forwarder.run(shard));
    }
    loop {
        tokio::time::sleep(Duration::from_millis(100)).await;
        println!("{}", published.load(Ordering::Relaxed));
    }
}

/// What of a payload a forwarder needs.
#[derive(Deserialize)]
struct Payload<'a> {
    t: Option<&'a str>,
    s: Option<u64>,
    #[serde(borrow)]
    d: &'a RawValue,
}

/// A publish on its way to its confirm.
type Publish = Pin<Box<dyn Future<Output = lapin::Result<Confirmation>> + Send>>;

/// One shard's task.
struct Forwarder {
    shard_id: u32,
    exchange: ShortString,
    channel: Arc<Channel>,
    unconfirmed: VecDeque<Publish>,
    published: Arc<AtomicU64>,
    cache: Option<Arc<DefaultInMemoryCache>>,
    typed: bool,
    window: usize,
}

impl Forwarder {
    async fn run(mut self, mut shard: Shard<InMemoryQueue>) {
        while let Some(item) = shard.next().await {
            let text = match item {
                Ok(Message::Text(text)) => text,
                Ok(Message::Close(_)) => continue,
                Err(error) => {
                    eprintln!("shard {}: {error}", self.shard_id);
                    continue;
                }
            };
            let result = if self.typed { self.typed(text).await } else { self.raw(text).await };
            match result {
                Ok(()) => {}
                // An event that the types do not fit is lost to whoever wants them, and the shard goes on.
                Err(Failure::Unreadable(error)) => eprintln!("shard {}: {error}", self.shard_id),
                Err(Failure::Broker(error)) => {
                    eprintln!("shard {}: {error}", self.shard_id);
                    exit(1);
                }
            }
        }
    }

    async fn raw(&mut self, text: String) -> Result<(), Failure> {
        let payload: Payload<'_> = serde_json::from_str(&text).map_err(Failure::unreadable)?;
        let (Some(name), Some(seq)) = (payload.t, payload.s) else { return Ok(()) };
        self.publish(name, seq, payload.d.get().into()).await?;
        if let Some(cache) = &self.cache
            && let Some(event) = parse(text, cached_events())?
        {
            cache.update(&Event::from(event));
        }
        Ok(())
    }

    async fn typed(&mut self, text: String) -> Result<(), Failure> {
        let Some(GatewayEvent::Dispatch(seq, mut dispatch)) = parse(text, EventTypeFlags::all())? else {
            return Ok(());
        };
        if let Some(cache) = &self.cache {
            let event = Event::from(dispatch);
            cache.update(&event);
            dispatch = DispatchEvent::try_from(event).map_err(Failure::unreadable)?;
        }
        let name = dispatch.kind().name().unwrap_or_default();
        let body = serde_json::to_vec(&dispatch).map_err(Failure::unreadable)?;
        self.publish(name, seq, body).await?;
        Ok(())
    }

    /// Queues an event. Waits only if too many wait for their confirms.
    async fn publish(&mut self, name: &str, seq: u64, body: Vec<u8>) -> lapin::Result<()> {
        let mut headers = FieldTable::default();
        headers.insert("shard_id".into(), AMQPValue::LongInt(self.shard_id as i32));
        headers.insert("seq".into(), AMQPValue::LongLongInt(seq as i64));
        let properties = BasicProperties::default().with_headers(headers);
        let (channel, exchange, key) = (self.channel.clone(), self.exchange.clone(), name.into());
        let mut publish: Publish = Box::pin(async move {
            let options = BasicPublishOptions::default();
            let confirm = channel.basic_publish(exchange, key, options, &body, properties).await?;
            drop(body);
            confirm.await
        });
        // The first poll hands lapin the frames, in order. That they are written is not waited for one by one.
        match (&mut publish).now_or_never() {
            Some(result) => confirmed(result?),
            None => self.unconfirmed.push_back(publish),
        }
        self.published.fetch_add(1, Ordering::Relaxed);
        if self.unconfirmed.len() >= self.window
            && let Some(oldest) = self.unconfirmed.pop_front()
        {
            confirmed(oldest.await?);
        }
        Ok(())
    }
}

fn confirmed(confirmation: Confirmation) {
    if !confirmation.is_ack() {
        eprintln!("the broker refused an event");
        exit(1);
    }
}

/// Why an event did not get through.
enum Failure {
    Unreadable(String),
    Broker(lapin::Error),
}

impl Failure {
    fn unreadable(error: impl std::error::Error) -> Failure {
        Failure::Unreadable(error.to_string())
    }
}

impl From<lapin::Error> for Failure {
    fn from(error: lapin::Error) -> Failure {
        Failure::Broker(error)
    }
}

/// The error's own text is the whole event; what is wrong is in its source.
fn parse(text: String, wanted: EventTypeFlags) -> Result<Option<GatewayEvent>, Failure> {
    twilight_gateway::parse(text, wanted).map_err(|error| {
        Failure::Unreadable(error.source().map_or("not understood".to_owned(), ToString::to_string))
    })
}

/// What changes something in twilight's cache when it keeps no messages. Nothing else is parsed.
fn cached_events() -> EventTypeFlags {
    EventTypeFlags::CHANNEL_CREATE
        | EventTypeFlags::CHANNEL_DELETE
        | EventTypeFlags::CHANNEL_PINS_UPDATE
        | EventTypeFlags::CHANNEL_UPDATE
        | EventTypeFlags::GUILD_CREATE
        | EventTypeFlags::GUILD_DELETE
        | EventTypeFlags::GUILD_EMOJIS_UPDATE
        | EventTypeFlags::GUILD_SCHEDULED_EVENT_CREATE
        | EventTypeFlags::GUILD_SCHEDULED_EVENT_DELETE
        | EventTypeFlags::GUILD_SCHEDULED_EVENT_UPDATE
        | EventTypeFlags::GUILD_SCHEDULED_EVENT_USER_ADD
        | EventTypeFlags::GUILD_SCHEDULED_EVENT_USER_REMOVE
        | EventTypeFlags::GUILD_STICKERS_UPDATE
        | EventTypeFlags::GUILD_UPDATE
        | EventTypeFlags::INTEGRATION_CREATE
        | EventTypeFlags::INTEGRATION_DELETE
        | EventTypeFlags::INTEGRATION_UPDATE
        | EventTypeFlags::INTERACTION_CREATE
        | EventTypeFlags::MEMBER_ADD
        | EventTypeFlags::MEMBER_CHUNK
        | EventTypeFlags::MEMBER_REMOVE
        | EventTypeFlags::MEMBER_UPDATE
        | EventTypeFlags::MESSAGE_CREATE
        | EventTypeFlags::MESSAGE_UPDATE
        | EventTypeFlags::PRESENCE_UPDATE
        | EventTypeFlags::READY
        | EventTypeFlags::ROLE_CREATE
        | EventTypeFlags::ROLE_DELETE
        | EventTypeFlags::ROLE_UPDATE
        | EventTypeFlags::STAGE_INSTANCE_CREATE
        | EventTypeFlags::STAGE_INSTANCE_DELETE
        | EventTypeFlags::STAGE_INSTANCE_UPDATE
        | EventTypeFlags::THREAD_CREATE
        | EventTypeFlags::THREAD_DELETE
        | EventTypeFlags::THREAD_LIST_SYNC
        | EventTypeFlags::THREAD_UPDATE
        | EventTypeFlags::UNAVAILABLE_GUILD
        | EventTypeFlags::USER_UPDATE
        | EventTypeFlags::VOICE_STATE_UPDATE
}
