//! Feeds a task from memory on the thread that has it, and settles what it publishes at once.

use rateway::reactor::{Task, Turn};
use rateway::relay::task::Scratch;
use rateway::relay::{Outbox, ShardTask};

use crate::trace::settle;

/// Feeds `task` the next window of `bytes` and lets it run until that is used up; every batch goes through
/// `outbox`, whose broker confirms at once. Returns how many bytes were fed.
pub fn feed(
    task: &mut ShardTask,
    bytes: &[u8],
    turn: Turn,
    scratch: &mut Scratch,
    outbox: &mut Outbox,
) -> usize {
    let fed = bytes.len().min(task.window.spare().len());
    task.window.spare()[..fed].copy_from_slice(&bytes[..fed]);
    task.window.commit(fed);
    loop {
        if task.batch.bytes.capacity() == 0 {
            task.batch = outbox.take_spare();
        }
        task.run(turn, scratch);
        settle(task, outbox);
        if !task.more {
            return fed;
        }
    }
}
