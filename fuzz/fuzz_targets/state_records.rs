//! A record of the sessions' file, and the file of the identify queue, with any content.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    rateway::state::sessions::fuzz(bytes);
    // Nothing but a snapshot or none; what it means is the queue's to check, see the target `queue`.
    let _ = rateway::state::decode_identify(bytes);
});
