//! Bodies of gateway commands.

use rateway::gateway::command::{PAYLOAD_BYTES_MAX, check_worker_command};

/// One run.
pub fn run(bytes: &[u8]) {
    if let Ok(op) = check_worker_command(bytes) {
        assert!(bytes.len() <= PAYLOAD_BYTES_MAX && ![0, 1, 2, 6, 7, 9, 10, 11].contains(&op));
        assert!(serde_json::from_slice::<serde_json::Value>(bytes).is_ok(), "passed what is not JSON");
    }
}
