//! Cache queries of workers: asked of the cache on the thread that has the worker's cluster, answered at once.
//!
//! Two things can stand in the way of an answer, and the deliveries of that cluster wait for both: an event is being
//! applied just where the answer is (for microseconds, or milliseconds with a large guild), or the worker's broker does
//! not read what it was answered. At most `prefetch` deliveries wait, as the broker sends no more.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use crate::amqp::Delivery;
use crate::cache::{ANSWER_BYTES_MAX, Answer, Scratch};
use crate::relay::query::{self, Query};
use crate::relay::topology::{QUERY_KEY, exchange};

use super::cluster::Link;
use super::home::{Home, Reactor};

/// Deliveries of one cluster handled before others have their turn: some 200 us of queries for single entities.
const DELIVERIES_PER_TURN: usize = 64;

/// A thread's means to answer.
#[derive(Default)]
pub struct Queries {
    scratch: Scratch,
    body: Vec<u8>,
    /// Queries that found what they asked for.
    pub hits: u64,
    /// Those that did not.
    pub misses: u64,
}

/// Memory that is kept for the next answer.
const BODY_BYTES_KEPT: usize = 64 * 1024;

impl Home {
    /// Handles deliveries of a cluster that wait. Returns whether more of them could be handled right away.
    pub(super) fn work_deliveries(&mut self, reactor: &mut Reactor, index: usize) -> bool {
        for _ in 0..DELIVERIES_PER_TURN {
            let cluster = &mut self.clusters[index];
            if !cluster.has_work() {
                // If it is for the backlog: goes on when something has been written.
                return false;
            }
            let Some(delivery) = cluster.deliveries.pop_front() else { return false };
            // The consumer has begun anew since: it comes again, and a command must not go out twice.
            if !matches!(&cluster.link, Link::Up(up) if up.client.is_current(delivery.delivery_tag)) {
                continue;
            }
            if let Some(delivery) = self.delivery(reactor, index, delivery) {
                // Others need not wait with it.
                self.clusters[index].deliveries.push_back(delivery);
            }
        }
        self.clusters[index].has_work()
    }

    /// Answers a query; gives it back when it has to be asked again.
    pub(super) fn query(&mut self, now: Instant, cluster: usize, delivery: Delivery) -> Option<Delivery> {
        let query = match Query::parse(&delivery.body) {
            Ok(query) => query,
            Err(error) => {
                self.refuse_query(now, cluster, &delivery, &error);
                return None;
            }
        };
        let mut body = std::mem::take(&mut self.queries.body);
        body.clear();
        let answer = match &self.shared.cache {
            Some(cache) => {
                let scratch = &mut self.queries.scratch;
                // A bug in there costs this answer, and no worker the reader.
                let asked = catch_unwind(AssertUnwindSafe(|| cache.ask(query.question, scratch, &mut body)));
                asked.unwrap_or_else(|_| {
                    log::error!("a bug in rateway broke the answer to {:?}", query.question);
                    self.queries.scratch = Scratch::default();
                    body.clear();
                    Answer::Missing
                })
            }
            None => Answer::Missing,
        };
        let found = match answer {
            Answer::Found => true,
            Answer::Missing => false,
            Answer::Busy => {
                self.queries.body = body;
                return Some(delivery);
            }
            Answer::TooLarge => {
                let error = format!("the answer would have more than {ANSWER_BYTES_MAX} bytes");
                self.refuse_query(now, cluster, &delivery, &error);
                self.queries.body = body;
                return None;
            }
        };
        *if found { &mut self.queries.hits } else { &mut self.queries.misses } += 1;
        let (key, correlation_id) = (query.return_routing_key, delivery.correlation_id.as_deref());
        let exchange = exchange(self.clusters[cluster].number);
        self.answer(cluster, &exchange, key.as_bytes(), correlation_id, Some(found), &body);
        if let Some(reply_to) = &delivery.reply_to {
            self.answer(cluster, "", reply_to, correlation_id, Some(found), &body);
        }
        body.clear();
        body.shrink_to(BODY_BYTES_KEPT);
        self.queries.body = body;
        None
    }

    fn refuse_query(
        &mut self,
        now: Instant,
        cluster: usize,
        delivery: &Delivery,
        error: &dyn std::fmt::Display,
    ) {
        self.workers.ignored += 1;
        let number = self.clusters[cluster].number;
        self.workers.complain(now, number, format_args!("ignored a {QUERY_KEY} query: {error}"));
        if let Some(reply_to) = &delivery.reply_to {
            let correlation_id = delivery.correlation_id.as_deref();
            self.answer(cluster, "", reply_to, correlation_id, Some(false), &query::error_body(error));
        }
    }
}
