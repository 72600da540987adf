//! Room for unfinished messages: a client may announce 64 MiB on each of its channels, and send the last octet never.
//!
//! The first octets of each connection are let in unasked, so that ordinary messages never wait. A larger one takes what
//! it announces out of a common room, all of it before its first octet is read: whoever was let in can come to its end,
//! so that nobody waits for somebody who waits. Whoever finds no room is not read until there is some, in the order of
//! coming; meanwhile those who have room must use it.

use std::collections::VecDeque;
use std::time::Instant;

use super::broker::{Broker, ConnectionId, TimerKey};
use super::channel::Incoming;
use super::connection::Hold;
use super::fault::Fault;
use super::notice::Limit;
use super::options::{UNFINISHED_BYTES_FREE, UNFINISHED_BYTES_LEAST, UNFINISHED_PERIOD};
use crate::amqp::spec::BASIC_PUBLISH;

#[derive(Debug, Default)]
pub(super) struct Room {
    taken: usize,
    // Invariant: each stands here once, is connected, and has no room.
    waiting: VecDeque<ConnectionId>,
}

impl Room {
    pub(super) fn taken(&self) -> usize {
        self.taken
    }

    pub(super) fn waiting(&self) -> &VecDeque<ConnectionId> {
        &self.waiting
    }
}

impl Broker {
    /// What all may have together, so much at least that any message fits.
    fn room_max(&self) -> usize {
        let options = &self.options;
        // A message has names and a header, which fits in a frame.
        let largest = options.message_bytes_max as usize + options.frame_max as usize + 512;
        options.unfinished_bytes_max.max(largest)
    }

    /// Lets a message of `size` octets in, and says how many of them it took from the common room. `None`: the
    /// connection has to wait.
    pub(super) fn let_in(
        &mut self,
        now: Instant,
        id: ConnectionId,
        size: usize,
    ) -> Result<Option<usize>, Fault> {
        let room_max = self.room_max();
        let content_bytes_max = self.options.content_bytes_max;
        let Some(connection) = self.connections.get_mut(id) else { return Ok(None) };
        if connection.content_bytes + size > content_bytes_max {
            self.meet(Limit::Unfinished);
            return Err(Fault::ContentLimit(content_bytes_max));
        }
        let unasked = connection.content_bytes - connection.reserved_bytes;
        let reserved = if unasked + size > UNFINISHED_BYTES_FREE { size } else { 0 };
        if reserved > 0 {
            let is_turn = self.room.waiting.front().is_none_or(|first| *first == id);
            // Who has room may not wait: not read, it would never give back what it has.
            let may_wait = connection.reserved_bytes == 0;
            let fits = self.room.taken + reserved <= room_max;
            match (fits, may_wait) {
                (false, false) => {
                    self.meet(Limit::Unfinished);
                    return Err(Fault::ContentCrowded);
                }
                (_, true) if !fits || !is_turn => {
                    self.wait_for_room(now, id);
                    return Ok(None);
                }
                _ => {}
            }
            if may_wait {
                self.room.waiting.pop_front();
            }
            self.room.taken += reserved;
            connection.content_mark = None;
        }
        connection.content_bytes += size;
        connection.reserved_bytes += reserved;
        if reserved > 0 {
            self.call_next();
        }
        Ok(Some(reserved))
    }

    /// A message has come to its end, whichever.
    pub(super) fn let_out(&mut self, id: ConnectionId, incoming: &Incoming) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        connection.content_bytes = connection.content_bytes.saturating_sub(incoming.size);
        if incoming.reserved > 0 {
            connection.reserved_bytes = connection.reserved_bytes.saturating_sub(incoming.reserved);
            self.room.taken = self.room.taken.saturating_sub(incoming.reserved);
            self.call_next();
        }
    }

    /// A connection waits no longer.
    pub(super) fn leave_room(&mut self, id: ConnectionId) {
        let before = self.room.waiting.len();
        self.room.waiting.retain(|other| *other != id);
        if self.room.waiting.len() < before {
            self.call_next();
        }
    }

    fn wait_for_room(&mut self, now: Instant, id: ConnectionId) {
        if self.room.waiting.is_empty() {
            for connection in self.connections.iter_mut() {
                connection.content_mark = Some(connection.content_received);
            }
            self.set_timer(TimerKey::Room, now + UNFINISHED_PERIOD);
        }
        if !self.room.waiting.contains(&id) {
            self.room.waiting.push_back(id);
        }
    }

    /// Lets the first who waits try again.
    fn call_next(&mut self) {
        if let Some(&first) = self.room.waiting.front() {
            self.resume(first, Hold::Room);
        }
    }

    /// Ends those who keep room from others and do not use it.
    pub(super) fn on_room_deadline(&mut self, now: Instant) {
        if self.room.waiting.is_empty() {
            return;
        }
        // Whoever was called and did not come must not keep the others waiting.
        if let Some(first) = self.room.waiting.front().copied()
            && self.connections.get(first).is_none_or(|connection| connection.hold != Hold::Room)
        {
            self.room.waiting.rotate_left(1);
            self.call_next();
        }
        let mut stalled = Vec::new();
        for (id, connection) in self.connections.iter() {
            let since = connection.content_mark.map(|mark| connection.content_received - mark);
            // One that waits for memory is not read, and can do nothing about it.
            if connection.reserved_bytes > 0
                && connection.hold != Hold::Memory
                && since.is_some_and(|bytes| bytes < UNFINISHED_BYTES_LEAST)
            {
                stalled.push(id);
            }
        }
        for id in stalled {
            self.meet(Limit::Unfinished);
            self.fail(now, id, 0, BASIC_PUBLISH, &Fault::ContentStalled);
        }
        for connection in self.connections.iter_mut() {
            connection.content_mark = Some(connection.content_received);
        }
        if !self.room.waiting.is_empty() {
            self.set_timer(TimerKey::Room, now + UNFINISHED_PERIOD);
        }
    }
}
