//! twilight-gateway's shards behind rateway's identify queue: starts some, says which became READY, and ends when all
//! have.
//!
//!     rateway sim --shards 3 &
//!     cargo run
//!     QUEUE_URL=http://127.0.0.1:8080 cargo run
//!
//! | variable | default | |
//! |---|---|---|
//! | `GATEWAY_URL` | `ws://127.0.0.1:7443` | where the shards connect |
//! | `QUEUE_URL` | | the queue service to ask; without it the process has a queue of its own |
//! | `SHARDS` | `2` | how many |
//! | `DISCORD_TOKEN` | `token` | the stand-in takes any |

use std::env;
use std::error::Error;
use std::sync::Arc;

use rateway::queue::{LocalQueue, RemoteQueue};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use twilight_gateway::{ConfigBuilder, Event, EventTypeFlags, Intents, Shard, ShardId, StreamExt as _};

/// A queue of rateway as one of twilight-gateway.
#[derive(Clone, Debug)]
struct Adapter {
    queue: Arc<dyn rateway::queue::Queue>,
    shards: u32,
}

impl twilight_gateway::queue::Queue for Adapter {
    fn enqueue(&self, id: u32) -> oneshot::Receiver<()> {
        let (mut sender, receiver) = oneshot::channel();
        let Adapter { queue, shards } = self.clone();
        tokio::spawn(async move {
            tokio::select! {
                // First, so that a permit is not taken for a shard that has gone away.
                biased;
                () = sender.closed() => return,
                () = queue.request([id.into(), shards.into()]) => {}
            }
            let _ = sender.send(());
        });
        receiver
    }
}

fn variable(name: &str, default: &str) -> String {
    env::var(name).unwrap_or_else(|_| default.to_owned())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let shards: u32 = variable("SHARDS", "2").parse()?;
    let queue: Arc<dyn rateway::queue::Queue> = match env::var("QUEUE_URL") {
        Ok(url) => Arc::new(RemoteQueue::new(&url)?),
        Err(_) => Arc::new(LocalQueue::new()),
    };
    let config = ConfigBuilder::new(variable("DISCORD_TOKEN", "token"), Intents::GUILDS)
        .proxy_url(variable("GATEWAY_URL", "ws://127.0.0.1:7443"))
        .queue(Adapter { queue, shards })
        .build();
    let mut starts = JoinSet::new();
    for id in 0..shards {
        let shard =
            Shard::with_config(ShardId::new_checked(id, shards).ok_or("too many shards")?, config.clone());
        starts.spawn(until_ready(shard));
    }
    // Shards that are READY stay so until the last one is.
    let mut ready = Vec::new();
    while let Some(shard) = starts.join_next().await {
        let shard = shard??;
        println!("shard {} is READY", shard.id().number());
        ready.push(shard);
    }
    println!("all {shards} are READY");
    Ok(())
}

async fn until_ready(mut shard: Shard<Adapter>) -> Result<Shard<Adapter>, String> {
    while let Some(event) = shard.next_event(EventTypeFlags::READY).await {
        match event {
            Ok(Event::Ready(_)) => return Ok(shard),
            Ok(_) => {}
            // twilight-gateway tries again by itself.
            Err(error) => eprintln!("shard {}: {error}", shard.id().number()),
        }
    }
    Err(format!("shard {} is closed for good", shard.id().number()))
}
