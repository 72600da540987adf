//! One channel's life: opened, stepped through its topology, closed by either side, opened again with a backoff.
//!
//! Which step follows which is [`super::topology`]'s business. Here are the waits, their limits, and the delivery
//! tags, which the wire counts from 1 on each incarnation of a channel.

use std::time::{Duration, Instant};

use amq_protocol::protocol::{AMQPClass, channel};
use amq_protocol::types::ShortString;

use super::client::ANSWER_TIMEOUT;
use super::content::Content;
use super::error::Error;
use super::method;
use super::spec::REPLY_SUCCESS;

/// The first wait before a channel is opened again; it doubles.
const BACKOFF_MIN: Duration = Duration::from_millis(100);
/// The longest wait before a channel is opened again. A channel that ran for this long starts over at the shortest.
const BACKOFF_MAX: Duration = Duration::from_secs(30);

/// What a channel waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Not opened so far.
    Closed,
    /// Closed after a fault, to be opened again.
    Backoff(Instant),
    AwaitOpenOk,
    AwaitExchange,
    AwaitQueue,
    /// The binding with this index has been asked for.
    AwaitBind(usize),
    AwaitQos,
    AwaitConsume,
    AwaitSelect,
    Running,
    AwaitCloseOk,
}

#[derive(Debug)]
pub(super) struct Channel {
    number: u16,
    step: Step,
    pub(super) content: Content,
    attempts: u32,
    /// Since when the present step has been waited for. Unknown when the caller gave no time with its request: the
    /// next call that has the time stamps it.
    since: Option<Instant>,
    /// Since when it runs, kept through a close of ours.
    running_since: Option<Instant>,
    /// Tags given out are those on the wire plus this, so that a tag of an earlier incarnation of the channel is
    /// recognised by being no larger.
    tag_base: u64,
    tag_last: u64,
}

impl Channel {
    pub(super) fn new(number: u16) -> Channel {
        Channel {
            number,
            step: Step::Closed,
            content: Content::Idle,
            attempts: 0,
            since: None,
            running_since: None,
            tag_base: 0,
            tag_last: 0,
        }
    }

    pub(super) fn step(&self) -> Step {
        self.step
    }

    pub(super) fn is_running(&self) -> bool {
        self.step == Step::Running
    }

    pub(super) fn open(&mut self, now: Instant, out: &mut Vec<u8>) {
        method::write(out, self.number, AMQPClass::Channel(channel::AMQPMethod::Open(channel::Open {})));
        self.content = Content::Idle;
        self.tag_base = self.tag_last;
        self.go(Step::AwaitOpenOk, now);
    }

    /// Closes the channel from our side; it is opened again after close-ok.
    pub(super) fn close(&mut self, now: Option<Instant>, out: &mut Vec<u8>) {
        let close = channel::Close {
            reply_code: REPLY_SUCCESS,
            reply_text: ShortString::from("reopening"),
            class_id: 0,
            method_id: 0,
        };
        method::write(out, self.number, AMQPClass::Channel(channel::AMQPMethod::Close(close)));
        self.content = Content::Idle;
        self.step = Step::AwaitCloseOk;
        self.since = now;
    }

    /// The tag to give out for one on the wire; `None` for one that no broker sends.
    pub(super) fn own_tag(&mut self, delivery_tag: u64) -> Option<u64> {
        let tag = self.tag_base.checked_add(delivery_tag).filter(|_| delivery_tag > 0)?;
        self.tag_last = self.tag_last.max(tag);
        Some(tag)
    }

    /// The tag on the wire for a tag that was given out, if its consumer still lives.
    pub(super) fn wire_tag(&self, delivery_tag: u64) -> Option<u64> {
        let tag = delivery_tag.checked_sub(self.tag_base)?;
        (self.is_running() && tag > 0).then_some(tag)
    }

    pub(super) fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        match self.step {
            Step::Closed | Step::Running => None,
            Step::Backoff(at) => Some(at),
            _ => Some(self.since.map_or(now, |since| since + ANSWER_TIMEOUT)),
        }
    }

    pub(super) fn handle_deadline(&mut self, now: Instant, out: &mut Vec<u8>) -> Result<(), Error> {
        match self.step {
            Step::Closed | Step::Running => {}
            Step::Backoff(at) if now >= at => self.open(now, out),
            Step::Backoff(_) => {}
            _ => {
                let since = *self.since.get_or_insert(now);
                if now >= since + ANSWER_TIMEOUT {
                    return Err(Error::Timeout { waiting_for: "an answer on a channel" });
                }
            }
        }
        Ok(())
    }

    /// How often it was closed since it last ran for long.
    pub(super) fn attempts(&self) -> u32 {
        self.attempts
    }

    pub(super) fn go(&mut self, step: Step, now: Instant) {
        self.step = step;
        self.since = Some(now);
        if step == Step::Running {
            self.running_since = Some(now);
        }
    }

    /// Waits before it is opened again.
    pub(super) fn back_off(&mut self, now: Instant) {
        let running_since = self.running_since.take();
        if running_since.is_some_and(|since| now.saturating_duration_since(since) >= BACKOFF_MAX) {
            self.attempts = 0;
        }
        let wait = BACKOFF_MIN.saturating_mul(1 << self.attempts.min(16)).min(BACKOFF_MAX);
        self.attempts = self.attempts.saturating_add(1);
        self.content = Content::Idle;
        self.go(Step::Backoff(now + wait), now);
    }
}
