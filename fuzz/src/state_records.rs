//! A record of the sessions' file, and the file of the identify queue, with any content.

/// One run.
pub fn run(bytes: &[u8]) {
    rateway::state::sessions::fuzz(bytes);
    // Nothing but a snapshot or none; what it means is the queue's to check, see the target `queue`.
    let _ = rateway::state::decode_identify(bytes);
}
