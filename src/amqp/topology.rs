//! Channels 1 and 2: what is declared on them, in which order, and what a broker's refusal leads to.
//!
//! ```text
//! channel 2   open > exchange > queue > bindings > qos > consume > Running
//! channel 1   open > exchange > confirm.select > Running          opened first when channel 2 runs
//!             any > (closed by the broker) > Backoff > open ...   and Running > close > close-ok > Backoff
//! ```
//!
//! Both declare the exchange: after a 404 either of them makes it anew. A refusal before the topology stood for the
//! first time ends the connection with a plain reason, unless another way of declaring is left to try; afterwards
//! it is tried again with a backoff, since the events on the other channel go on.

use std::time::Instant;

use amq_protocol::protocol::{AMQPClass, basic, channel, confirm, exchange, queue};
use amq_protocol::types::{FieldTable, ShortString};

use super::channel::Step;
use super::client::{CONSUME_CHANNEL, Client, Event, PUBLISH_CHANNEL};
use super::error::{Error, clean};
use super::method::{self, Method};
use super::options::Options;
use super::spec::{ChannelReplyCode, ConnectionReplyCode, QUEUE_DECLARE};

/// How the queue is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum QueueMode {
    /// Neither durable nor exclusive, as workers know it.
    Transient,
    /// For brokers that refuse the former.
    Durable,
    /// As it is, whatever its flags.
    Passive,
}

/// What has been learned about the broker's objections.
#[derive(Debug)]
pub(super) struct Topology {
    exchange_passive: bool,
    queue_mode: QueueMode,
    /// How a fresh round begins: with what the broker is known to accept.
    queue_mode_first: QueueMode,
    /// Ways that were refused in this round; none is tried twice.
    refused: [bool; 3],
}

impl Topology {
    pub(super) fn new(durable: bool) -> Topology {
        let mode = if durable { QueueMode::Durable } else { QueueMode::Transient };
        Topology { exchange_passive: false, queue_mode: mode, queue_mode_first: mode, refused: [false; 3] }
    }

    fn begin_round(&mut self) {
        self.queue_mode = self.queue_mode_first;
        self.refused = [false; 3];
    }

    /// The next way to ask for the queue after a refusal with `code`, if one is left.
    fn next_queue_mode(&mut self, code: u16, text: &str) -> Option<QueueMode> {
        let mode = self.queue_mode;
        if let Some(refused) = self.refused.get_mut(mode as usize) {
            *refused = true;
        }
        let next = match (mode, ChannelReplyCode::from_code(code)) {
            (QueueMode::Transient, _) if names_the_feature(text) => QueueMode::Durable,
            // It exists with other flags. (A broker may also mean the request itself: then the passive declare
            // finds nothing.)
            (QueueMode::Transient | QueueMode::Durable, Some(ChannelReplyCode::PreconditionFailed)) => {
                QueueMode::Passive
            }
            (QueueMode::Passive, Some(ChannelReplyCode::NotFound)) => QueueMode::Durable,
            (
                QueueMode::Transient,
                Some(ChannelReplyCode::AccessRefused | ChannelReplyCode::ResourceLocked),
            ) => {
                return None;
            }
            (QueueMode::Transient, _) => QueueMode::Durable,
            _ => return None,
        };
        if self.refused.get(next as usize).copied().unwrap_or(true) {
            return None;
        }
        self.queue_mode = next;
        Some(next)
    }
}

impl Client {
    pub(super) fn handle_channel_method(
        &mut self,
        now: Instant,
        number: u16,
        payload: &[u8],
    ) -> Result<(), Error> {
        use basic::AMQPMethod as Basic;
        use channel::AMQPMethod as Chan;
        let method = method::parse(number, payload)?;
        let step = self.channel_mut(number).step();
        if step == Step::AwaitCloseOk {
            match method {
                Method::Slow(_, AMQPClass::Channel(Chan::CloseOk(_))) => {
                    self.channel_mut(number).back_off(now)
                }
                // Both sides closed at once: each answers the other.
                Method::Slow(_, AMQPClass::Channel(Chan::Close(_))) => write_close_ok(&mut self.out, number),
                _ => {}
            }
            return Ok(());
        }
        if !self.channel_mut(number).content.is_idle() {
            return Err(Error::UnexpectedFrame { channel: number, what: "a method came amid a message" });
        }
        let running = step == Step::Running;
        match method {
            Method::Ack { delivery_tag, multiple } if running && number == PUBLISH_CHANNEL => {
                self.events.push_back(Event::Confirm { delivery_tag, multiple });
            }
            Method::Nack { delivery_tag, multiple } if running && number == PUBLISH_CHANNEL => {
                self.events.push_back(Event::Nack { delivery_tag, multiple });
            }
            Method::Deliver { delivery_tag, routing_key, .. } if running && number == CONSUME_CHANNEL => {
                let tag =
                    self.consume.own_tag(delivery_tag).ok_or(Error::Syntax { what: "a delivery tag" })?;
                self.consume.content.begin_deliver(tag, routing_key);
            }
            // Nothing is published mandatory, so this should not come; it is read past all the same.
            Method::Return => self.channel_mut(number).content.begin_return(),
            Method::Slow(_, AMQPClass::Channel(Chan::Close(close))) => {
                write_close_ok(&mut self.out, number);
                return self.channel_closed(now, number, close.reply_code, clean(close.reply_text.as_str()));
            }
            Method::Slow(_, AMQPClass::Channel(Chan::Flow(flow))) => {
                let ok = Chan::FlowOk(channel::FlowOk { active: flow.active });
                method::write(&mut self.out, number, AMQPClass::Channel(ok));
                if number == PUBLISH_CHANNEL {
                    self.events.push_back(if flow.active {
                        Event::Unblocked
                    } else {
                        Event::Blocked { reason: "channel.flow".to_owned() }
                    });
                }
            }
            Method::Slow(_, AMQPClass::Basic(Basic::Cancel(cancel)))
                if running && number == CONSUME_CHANNEL =>
            {
                if !cancel.nowait {
                    let ok = Basic::CancelOk(basic::CancelOk { consumer_tag: cancel.consumer_tag });
                    method::write(&mut self.out, number, AMQPClass::Basic(ok));
                }
                let queue = &self.options.queue;
                self.events.push_back(Event::Notice(format!(
                    "the broker cancelled the consumer of {queue}, perhaps because the queue was deleted; it is declared anew"
                )));
                self.redo_consumer(now);
            }
            Method::Slow(id, class) => self.advance(now, number, id, class)?,
            other => return Err(Error::UnexpectedMethod { channel: number, method: other.id() }),
        }
        Ok(())
    }

    /// The answer that `step` waits for has come, or something else: asks for the next thing.
    fn advance(&mut self, now: Instant, number: u16, id: (u16, u16), class: AMQPClass) -> Result<(), Error> {
        use AMQPClass as Class;
        let step = self.channel_mut(number).step();
        let next = match (step, class) {
            (Step::AwaitOpenOk, Class::Channel(channel::AMQPMethod::OpenOk(_))) => Step::AwaitExchange,
            (Step::AwaitExchange, Class::Exchange(exchange::AMQPMethod::DeclareOk(_))) => {
                if number == PUBLISH_CHANNEL { Step::AwaitSelect } else { Step::AwaitQueue }
            }
            (Step::AwaitQueue, Class::Queue(queue::AMQPMethod::DeclareOk(_))) => {
                if self.topology.queue_mode == QueueMode::Durable {
                    self.topology.queue_mode_first = QueueMode::Durable;
                }
                self.after_bindings(0)
            }
            (Step::AwaitBind(index), Class::Queue(queue::AMQPMethod::BindOk(_))) => {
                self.after_bindings(index + 1)
            }
            (Step::AwaitQos, Class::Basic(basic::AMQPMethod::QosOk(_))) => Step::AwaitConsume,
            (Step::AwaitConsume, Class::Basic(basic::AMQPMethod::ConsumeOk(_)))
            | (Step::AwaitSelect, Class::Confirm(confirm::AMQPMethod::SelectOk(_))) => Step::Running,
            _ => return Err(Error::UnexpectedMethod { channel: number, method: id }),
        };
        if next == Step::Running {
            self.running(now, number);
        } else {
            request(&self.options, &self.topology, number, next, &mut self.out);
            self.channel_mut(number).go(next, now);
        }
        Ok(())
    }

    fn after_bindings(&self, index: usize) -> Step {
        if index < self.options.binding_keys.len() { Step::AwaitBind(index) } else { Step::AwaitQos }
    }

    fn running(&mut self, now: Instant, number: u16) {
        self.channel_mut(number).go(Step::Running, now);
        if number == CONSUME_CHANNEL {
            self.topology.begin_round();
            if self.publish.step() == Step::Closed {
                self.publish.open(now, &mut self.out);
            }
            return;
        }
        self.ready = true;
        self.events.push_back(Event::PublishReady { frame_max: self.connection.frame_max() });
    }

    /// The broker closed a channel. Its close-ok is written.
    fn channel_closed(&mut self, now: Instant, number: u16, code: u16, text: String) -> Result<(), Error> {
        let step = self.channel_mut(number).step();
        let reply = ChannelReplyCode::from_code(code);
        match step {
            Step::AwaitExchange
                if reply == Some(ChannelReplyCode::PreconditionFailed)
                    && !self.topology.exchange_passive
                    && !routes_otherwise(&text) =>
            {
                self.topology.exchange_passive = true;
                self.notice_other_flags("exchange", &text);
                self.reopen(now, number);
                return Ok(());
            }
            // It was there with other flags and is gone: the next attempt creates it.
            Step::AwaitExchange if reply == Some(ChannelReplyCode::NotFound) => {
                self.topology.exchange_passive = false;
            }
            Step::AwaitQueue => {
                if let Some(mode) = self.topology.next_queue_mode(code, &text) {
                    match mode {
                        QueueMode::Durable => {
                            let queue = &self.options.queue;
                            self.events.push_back(Event::Notice(format!(
                                "the broker refuses a transient queue, so {queue} is declared durable: {code} {text}"
                            )));
                        }
                        _ => self.notice_other_flags("queue", &text),
                    }
                    self.reopen(now, number);
                    return Ok(());
                }
            }
            _ => {}
        }
        if !self.ready {
            return Err(Error::TopologyRefused { what: self.describe(number, step), code, text });
        }
        if number == PUBLISH_CHANNEL {
            self.stats.publish_reopened += 1;
            if step == Step::Running {
                self.events.push_back(Event::PublishChannelLost { code, text });
            } else if self.publish.attempts() == 1 {
                self.notice_retry(number, step, code, &text);
            }
            self.publish.back_off(now);
            // With the exchange its bindings went, and the consumer would starve unnoticed.
            if step == Step::Running && reply == Some(ChannelReplyCode::NotFound) && self.consume.is_running()
            {
                self.redo_consumer(now);
            }
        } else {
            self.stats.consume_reopened += 1;
            if self.consume.attempts() <= 1 {
                self.notice_retry(number, step, code, &text);
            }
            self.consume.back_off(now);
            self.topology.begin_round();
        }
        Ok(())
    }

    fn reopen(&mut self, now: Instant, number: u16) {
        let channel = if number == PUBLISH_CHANNEL { &mut self.publish } else { &mut self.consume };
        channel.open(now, &mut self.out);
    }

    /// Begins channel 2 anew. What was delivered and not acknowledged comes again.
    fn redo_consumer(&mut self, now: Instant) {
        self.stats.consume_reopened += 1;
        self.topology.begin_round();
        self.consume.close(Some(now), &mut self.out);
    }

    /// A close of the connection in answer to the declare of a transient queue means that such queues are refused:
    /// RabbitMQ 4.3 does it with 541 (and names the feature), others may use a code of their own.
    pub(super) fn blame_topology(&self, error: Error) -> Error {
        let asked =
            self.consume.step() == Step::AwaitQueue && self.topology.queue_mode == QueueMode::Transient;
        match error {
            Error::ClosedByBroker { code, text, method } if asked => {
                use ConnectionReplyCode as Code;
                let declare_blamed = method == QUEUE_DECLARE;
                let refused = names_the_feature(&text)
                    || match Code::from_code(code) {
                        Some(Code::NotImplemented | Code::InternalError) => true,
                        Some(Code::NotAllowed | Code::CommandInvalid | Code::SyntaxError) => declare_blamed,
                        _ => false,
                    };
                if refused {
                    Error::TransientQueueRefused { code, text }
                } else {
                    Error::ClosedByBroker { code, text, method }
                }
            }
            other => other,
        }
    }

    fn describe(&self, number: u16, step: Step) -> String {
        let Options { exchange, queue, .. } = &self.options;
        match step {
            Step::AwaitExchange => format!("the exchange {exchange}"),
            Step::AwaitQueue => format!("the queue {queue}"),
            Step::AwaitBind(_) => format!("a binding of {queue} to {exchange}"),
            Step::AwaitQos | Step::AwaitConsume => format!("a consumer of {queue}"),
            Step::AwaitSelect => "publisher confirms".to_owned(),
            _ => format!("channel {number}"),
        }
    }

    fn notice_other_flags(&mut self, what: &str, text: &str) {
        self.events.push_back(Event::Notice(format!(
            "the {what} exists with other flags and is used as it is: {text}"
        )));
    }

    fn notice_retry(&mut self, number: u16, step: Step, code: u16, text: &str) {
        let what = self.describe(number, step);
        self.events.push_back(Event::Notice(format!(
            "the broker closed {what}, which is tried again: {code} {text}"
        )));
    }
}

/// RabbitMQ's name for what 4.3 refuses; it stands in the reply text whatever the code.
fn names_the_feature(text: &str) -> bool {
    text.contains("transient_nonexcl_queues")
}

/// Writes the request whose answer `step` waits for.
fn request(options: &Options, topology: &Topology, number: u16, step: Step, out: &mut Vec<u8>) {
    // `Options::check` has seen these; a longer one would have ended the client before.
    let short = |text: &str| ShortString::try_new(text).unwrap_or_default();
    let class = match step {
        Step::AwaitExchange => AMQPClass::Exchange(exchange::AMQPMethod::Declare(exchange::Declare {
            exchange: short(&options.exchange),
            kind: ShortString::from("direct"),
            passive: topology.exchange_passive,
            durable: true,
            auto_delete: false,
            internal: false,
            nowait: false,
            arguments: FieldTable::default(),
        })),
        Step::AwaitQueue => AMQPClass::Queue(queue::AMQPMethod::Declare(queue::Declare {
            queue: short(&options.queue),
            passive: topology.queue_mode == QueueMode::Passive,
            durable: topology.queue_mode == QueueMode::Durable,
            exclusive: false,
            auto_delete: false,
            nowait: false,
            arguments: FieldTable::default(),
        })),
        Step::AwaitBind(index) => AMQPClass::Queue(queue::AMQPMethod::Bind(queue::Bind {
            queue: short(&options.queue),
            exchange: short(&options.exchange),
            routing_key: short(options.binding_keys.get(index).map_or("", String::as_str)),
            nowait: false,
            arguments: FieldTable::default(),
        })),
        Step::AwaitQos => AMQPClass::Basic(basic::AMQPMethod::Qos(basic::Qos {
            prefetch_count: options.prefetch,
            global: false,
        })),
        Step::AwaitConsume => AMQPClass::Basic(basic::AMQPMethod::Consume(basic::Consume {
            queue: short(&options.queue),
            consumer_tag: ShortString::from("rateway"),
            no_local: false,
            no_ack: false,
            exclusive: false,
            nowait: false,
            arguments: FieldTable::default(),
        })),
        Step::AwaitSelect => {
            AMQPClass::Confirm(confirm::AMQPMethod::Select(confirm::Select { nowait: false }))
        }
        Step::Closed | Step::Backoff(_) | Step::AwaitOpenOk | Step::Running | Step::AwaitCloseOk => return,
    };
    method::write(out, number, class);
}

fn write_close_ok(out: &mut Vec<u8>, number: u16) {
    method::write(out, number, AMQPClass::Channel(channel::AMQPMethod::CloseOk(channel::CloseOk {})));
}

/// Whether an exchange that exists is of a type that does not route by the event's name: a fanout, say, would bring
/// every event back on the consumer's queue. A topic exchange takes the same keys to the same queues.
fn routes_otherwise(text: &str) -> bool {
    text.contains("'type'") && text.contains("current is") && !text.contains("current is 'topic'")
}
