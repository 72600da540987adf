//! The files of a spool with any content.

/// One run.
pub fn run(bytes: &[u8]) {
    rateway::state::spool::fuzz::files(bytes);
}
