//! The envelope against a full JSON parse: what is JSON with the right types is read, and read alike.

use rateway::gateway::envelope::scan;
use serde_json::Value;

/// One run.
pub fn run(bytes: &[u8]) {
    let scanned = scan(bytes);
    // serde_json stops at a depth of 128 and takes lone surrogates for errors: then there is nothing to compare.
    let Ok(Value::Object(object)) = serde_json::from_slice(bytes) else { return };
    let fits = |key: &str, check: fn(&Value) -> bool| object.get(key).is_none_or(check);
    let is_sound = object.get("op").is_some_and(Value::is_u64)
        && fits("s", |s| s.is_u64() || s.is_null())
        && fits("t", |t| t.is_string() || t.is_null());
    let Ok(envelope) = scanned else {
        // A key that stands twice may have a bad value first, which serde_json forgets and the scan refuses.
        let twice = ["\"op\"", "\"s\"", "\"t\"", "\\u"]
            .iter()
            .any(|key| String::from_utf8_lossy(bytes).matches(key).count() > usize::from(*key != "\\u"));
        // So may numbers that are whole but not written so (`0e0`), which a reader may refuse.
        assert!(
            !is_sound || twice || bytes.iter().any(|byte| matches!(byte, b'e' | b'E' | b'.')),
            "refused what is good"
        );
        return;
    };
    assert!(is_sound, "took what has a wrong type");
    assert_eq!(Some(envelope.op), object["op"].as_u64());
    assert_eq!(envelope.seq, object.get("s").and_then(Value::as_u64));
    let mut name = String::new();
    assert_eq!(envelope.event_name(bytes, &mut name), object.get("t").and_then(Value::as_str));
    let d: Value = serde_json::from_slice(envelope.d(bytes)).expect("the span of d is a JSON value");
    assert_eq!(Some(&d), object.get("d").or(Some(&Value::Null)));
}
