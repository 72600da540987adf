//! Workers' commands that wait for the shard to be active and for room in the send limit.

use super::options::Options;
use std::collections::VecDeque;

#[derive(Debug)]
pub(super) struct Waiting {
    commands: VecDeque<(u64, Box<[u8]>)>,
    // Apart, so that their tighter limit delays nothing else.
    presences: VecDeque<(u64, Box<[u8]>)>,
    // Invariant: the sum over both.
    bytes: usize,
}

impl Waiting {
    pub(super) fn new() -> Waiting {
        Waiting { commands: VecDeque::new(), presences: VecDeque::new(), bytes: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.commands.len() + self.presences.len()
    }

    /// Takes a command in, or gives it back when there is no room.
    pub(super) fn push(
        &mut self,
        options: &Options,
        id: u64,
        json: Box<[u8]>,
        is_presence: bool,
    ) -> Result<(), u64> {
        if self.len() >= options.commands_waiting_max
            || self.bytes.saturating_add(json.len()) > options.command_bytes_waiting_max
        {
            return Err(id);
        }
        self.bytes += json.len();
        if is_presence { &mut self.presences } else { &mut self.commands }.push_back((id, json));
        Ok(())
    }

    pub(super) fn has(&self, is_presence: bool) -> bool {
        if is_presence { !self.presences.is_empty() } else { !self.commands.is_empty() }
    }

    pub(super) fn pop(&mut self, is_presence: bool) -> Option<(u64, Box<[u8]>)> {
        let popped = if is_presence { &mut self.presences } else { &mut self.commands }.pop_front();
        if let Some((_, json)) = &popped {
            self.bytes -= json.len();
        }
        popped
    }

    pub(super) fn check_invariants(&self, options: &Options) {
        let sum: usize = self.commands.iter().chain(&self.presences).map(|(_, json)| json.len()).sum();
        debug_assert_eq!(self.bytes, sum);
        debug_assert!(self.len() <= options.commands_waiting_max);
        debug_assert!(self.bytes <= options.command_bytes_waiting_max);
    }
}
