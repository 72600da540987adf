//! Patterns of topic exchanges, next to a matcher that tries everything.

/// One run.
pub fn run(bytes: &[u8]) {
    rateway::broker::fuzz::pattern(bytes);
}
