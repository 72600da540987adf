//! What workers send over the broker: gateway commands and cache queries, and what they are answered.

use std::collections::HashMap;
use std::time::Instant;

use crate::amqp::Answer;
use crate::amqp::Delivery;
use crate::gateway::command::Refusal;
use crate::gateway::shard::Input;
use crate::reactor;
use crate::relay::command::{answer_body, route};
use crate::relay::topology::{COMMAND_KEY, QUERY_KEY};
use crate::relay::{ShardTask, TaskInput};

use super::cluster::Link;
use super::home::{Home, Message};
use super::quiet::Quiet;

type Reactor = reactor::Reactor<ShardTask, Message>;

/// Who waits for the outcome of a command.
#[derive(Debug)]
struct Asker {
    shard_id: u32,
    cluster: usize,
    reply_to: Vec<u8>,
    correlation_id: Option<Vec<u8>>,
}

/// Commands under way whose senders want an answer. Bounded by the waiting lists of the shards, as every command
/// that leaves such a list, by whatever way, is answered and forgotten.
#[derive(Debug, Default)]
pub struct Workers {
    next_id: u64,
    askers: HashMap<u64, Asker>,
    /// Messages that were neither a command nor a query that could be understood.
    pub ignored: u64,
    /// Commands that were forwarded to Discord.
    pub forwarded: u64,
    /// Commands that were refused.
    pub refused: u64,
    quiet: Quiet,
}

impl Workers {
    /// Logs what was wrong with a worker's message, unless there are too many such lines.
    pub fn complain(&mut self, now: Instant, cluster: u32, what: std::fmt::Arguments<'_>) {
        match self.quiet.allow(now) {
            None => {}
            Some(0) => log::warn!(cluster; "{what}"),
            Some(suppressed) => log::warn!(cluster; "{what} (and {suppressed} more like this before)"),
        }
    }
}

impl Home {
    /// Handles one message of a worker. It is acknowledged in every case: a message that cannot be used will not
    /// be better for being delivered again.
    /// Given back is a query that has to wait.
    pub(super) fn delivery(
        &mut self,
        reactor: &mut Reactor,
        cluster: usize,
        delivery: Delivery,
    ) -> Option<Delivery> {
        let delivery_tag = delivery.delivery_tag;
        match delivery.routing_key.as_str() {
            COMMAND_KEY => self.command(reactor, cluster, delivery),
            QUERY_KEY => {
                if let Some(waiting) = self.query(reactor.turn.now, cluster, delivery) {
                    return Some(waiting);
                }
            }
            other => {
                self.workers.ignored += 1;
                let number = self.clusters[cluster].number;
                self.workers.complain(
                    reactor.turn.now,
                    number,
                    format_args!("ignored a message with routing key {other:?}: neither gateway nor cache"),
                );
            }
        }
        if let Link::Up(up) = &mut self.clusters[cluster].link {
            up.client.ack(delivery_tag);
        }
        None
    }

    fn command(&mut self, reactor: &mut Reactor, cluster: usize, delivery: Delivery) {
        let shards = &self.clusters[cluster].shards;
        let found = route(&delivery, shards, self.shared.shard_count);
        let asker = delivery.reply_to.map(|reply_to| Asker {
            shard_id: *found.as_ref().unwrap_or(&0),
            cluster,
            reply_to,
            correlation_id: delivery.correlation_id,
        });
        let shard_id = match found {
            Ok(shard_id) => shard_id,
            Err(error) => {
                self.workers.refused += 1;
                let number = self.clusters[cluster].number;
                let what = format_args!("ignored a gateway command: {error}");
                self.workers.complain(reactor.turn.now, number, what);
                if let Some(asker) = asker {
                    self.answer_command(&asker, Err(&error));
                }
                return;
            }
        };
        let Some(slot) = self.slot_of(shard_id) else { return };
        let id = self.workers.next_id;
        self.workers.next_id += 1;
        if let Some(asker) = asker {
            self.workers.askers.insert(id, asker);
        }
        let input = Input::Command { id, json: delivery.body.into_boxed_slice() };
        self.tell(reactor, slot, TaskInput::Shard(input));
    }

    /// A shard is done with a command: it went out or was refused.
    pub(super) fn command_done(
        &mut self,
        now: Instant,
        cluster: usize,
        id: u64,
        result: Result<(), Refusal>,
    ) {
        match &result {
            Ok(()) => self.workers.forwarded += 1,
            Err(refusal) => {
                self.workers.refused += 1;
                let number = self.clusters[cluster].number;
                self.workers.complain(now, number, format_args!("refused a gateway command: {refusal}"));
            }
        }
        if let Some(asker) = self.workers.askers.remove(&id) {
            self.answer_command(&asker, result.as_ref().copied().map_err(|error| error as _));
        }
    }

    /// Answers all who wait for commands of a shard that cannot be told any more.
    pub(super) fn give_up_commands(&mut self, now: Instant, shard_id: u32, refusal: Refusal) {
        let theirs = |asker: &Asker| asker.shard_id == shard_id;
        let ids: Vec<(u64, usize)> = self
            .workers
            .askers
            .iter()
            .filter(|(_, asker)| theirs(asker))
            .map(|(id, asker)| (*id, asker.cluster))
            .collect();
        for (id, cluster) in ids {
            self.command_done(now, cluster, id, Err(refusal));
        }
    }

    fn answer_command(&mut self, asker: &Asker, result: Result<(), &dyn std::fmt::Display>) {
        let body = answer_body(result);
        self.answer(asker.cluster, "", &asker.reply_to, asker.correlation_id.as_deref(), None, &body);
    }

    pub(super) fn answer(
        &mut self,
        cluster: usize,
        exchange: &str,
        routing_key: &[u8],
        correlation_id: Option<&[u8]>,
        found: Option<bool>,
        body: &[u8],
    ) {
        // A link that is down has nobody to answer to: exclusive reply queues died with the worker's own link.
        if let Link::Up(up) = &mut self.clusters[cluster].link {
            up.client.answer(&Answer {
                exchange: exchange.as_bytes(),
                routing_key,
                correlation_id,
                found,
                body,
            });
            self.dirty_cluster(cluster);
        }
    }
}
