//! A session: what is needed to take it up again on another connection ("Gateway", "Resuming").
//!
//! Two sequence numbers are kept. `received` is the highest that arrived; heartbeats carry it, as Discord
//! wants. `confirmed` is the highest up to which the broker has everything; RESUME asks from it, so that what
//! was read but never reached the broker is sent again.

use crate::base::Secret;
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::fmt;
use std::ops::Range;

/// Longest `resume_gateway_url` that is used; the live ones have some 40 characters.
pub const RESUME_URL_BYTES_MAX: usize = 512;

/// A session of one shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    id: Secret,
    hash: u64,
    resume_url: Option<String>,
    shard_count: u32,
    // The seq of READY, or the one that the session was restored with.
    first_seq: u64,
    received: u64,
    // Invariant: never above `received`.
    confirmed: Option<u64>,
    // What `received` was before the last event, if that one skipped numbers.
    jumped_from: Option<u64>,
    inherited: Inherited,
}

/// Whether events that arrive may have been published by an earlier process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Inherited {
    /// No: none has had the session, or the replay is over for sure.
    No,
    /// Yes: Discord has not answered the RESUME to its end.
    Replaying,
    /// RESUMED came. It may be an earlier process' own, in the middle of the replay.
    Resumed,
    /// A heartbeat was sent since. Its answer comes behind whatever was still on the way.
    Probed,
}

impl Session {
    /// A session whose READY carried `seq`. `resume_url` has passed [`resume_url`].
    pub fn new(id: Secret, resume_url: Option<String>, shard_count: u32, seq: u64) -> Session {
        let hash = session_hash(id.expose());
        Session {
            id,
            hash,
            resume_url,
            shard_count,
            first_seq: seq,
            received: seq,
            confirmed: None,
            jumped_from: None,
            inherited: Inherited::No,
        }
    }

    /// A session of an earlier process, which confirmed everything up to `seq`.
    pub fn restore(id: Secret, resume_url: Option<String>, shard_count: u32, seq: u64) -> Session {
        Session { confirmed: Some(seq), ..Session::new(id, resume_url, shard_count, seq) }
    }

    /// As [`Session::restore`], where nobody knows what that process has published beyond `seq`: what Discord replays
    /// may have been published before.
    pub fn inherit(id: Secret, resume_url: Option<String>, shard_count: u32, seq: u64) -> Session {
        Session { inherited: Inherited::Replaying, ..Session::restore(id, resume_url, shard_count, seq) }
    }

    /// Whether an event that arrives now may have been published by an earlier process.
    pub fn is_inherited(&self) -> bool {
        self.inherited != Inherited::No
    }

    /// A RESUME goes out.
    pub(super) fn resuming(&mut self) {
        self.inherit_on(Inherited::Replaying, &[Inherited::Resumed, Inherited::Probed]);
    }

    /// RESUMED came.
    pub(super) fn resumed(&mut self) {
        self.inherit_on(Inherited::Resumed, &[Inherited::Replaying]);
    }

    /// A heartbeat goes out.
    pub(super) fn heartbeat_sent(&mut self) {
        self.inherit_on(Inherited::Probed, &[Inherited::Resumed]);
    }

    /// A heartbeat was answered: what comes now is new.
    pub(super) fn heartbeat_answered(&mut self) {
        self.inherit_on(Inherited::No, &[Inherited::Probed]);
    }

    fn inherit_on(&mut self, next: Inherited, from: &[Inherited]) {
        if from.contains(&self.inherited) {
            self.inherited = next;
        }
    }

    /// Its id: with the token enough to take it over.
    pub fn id(&self) -> &Secret {
        &self.id
    }

    /// The public stand-in for the id, see [`session_hash`].
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// Where to RESUME; `None` when Discord gave no usable address, or connecting to it failed.
    pub fn resume_url(&self) -> Option<&str> {
        self.resume_url.as_deref()
    }

    /// The shard count it was started with; it cannot be resumed with another.
    pub fn shard_count(&self) -> u32 {
        self.shard_count
    }

    /// The highest seq that arrived.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// The highest seq up to which the broker has everything; `None` before the first confirm.
    pub fn confirmed(&self) -> Option<u64> {
        self.confirmed
    }

    /// The seq that RESUME carries. Before the first confirm it is READY's own: READY itself is not sent
    /// again, it waits in the outbox.
    pub fn resume_seq(&self) -> u64 {
        self.confirmed.unwrap_or(self.first_seq)
    }

    /// Notes that `seq` arrived; answers whether it had before.
    pub(super) fn receive(&mut self, seq: u64) -> bool {
        let seen = seq <= self.received;
        if !seen {
            self.jumped_from = (seq != self.received.wrapping_add(1)).then_some(self.received);
            self.received = seq;
        }
        seen
    }

    /// As [`Session::receive`], of an event that is no replay. One false number far ahead would make everything after
    /// it look like something seen; numbers that go on from before the jump take it back.
    pub(super) fn receive_live(&mut self, seq: u64) -> bool {
        if let Some(from) = self.jumped_from.filter(|from| seq == from.wrapping_add(1) && seq < self.received)
        {
            self.jumped_from = None;
            self.received = seq;
            self.confirmed = self.confirmed.map(|confirmed| confirmed.min(from));
            return false;
        }
        self.receive(seq)
    }

    /// Notes that the broker has everything up to `seq`. What never arrived cannot be confirmed.
    pub(super) fn confirm(&mut self, seq: u64) {
        let seq = seq.min(self.received);
        if self.confirmed.is_none_or(|confirmed| confirmed < seq) {
            self.confirmed = Some(seq);
        }
    }

    pub(super) fn set_resume_url(&mut self, url: Option<String>) {
        self.resume_url = url;
    }
}

/// A 64-bit name for a session that may be shown and published: FNV-1a over the bytes of the id, offset basis
/// `cbf29ce484222325`, prime `100000001b3`. It is part of message ids, so it must stay the same in every version.
pub fn session_hash(session_id: &str) -> u64 {
    session_id.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// An address to RESUME at, if `url` is one: `wss`, or `ws` where the configured API is plain too, with a host
/// and nothing that would make the joined address mean something else.
pub fn resume_url(url: &str, allow_plain: bool) -> Option<String> {
    let rest = url.strip_prefix("wss://").or_else(|| url.strip_prefix("ws://").filter(|_| allow_plain))?;
    let plain = rest.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'?' | b'#' | b'@' | b'\\'));
    let host = !rest.is_empty() && !rest.starts_with(['/', ':']);
    (plain && host && url.len() <= RESUME_URL_BYTES_MAX).then(|| url.to_owned())
}

/// What is kept of READY.
#[derive(Deserialize)]
pub(super) struct Ready {
    pub(super) session_id: String,
    pub(super) resume_gateway_url: String,
}

impl Ready {
    /// Reads READY's `d`; `None` when it lacks one of the two or the id is empty.
    pub(super) fn parse(d: &[u8]) -> Option<Ready> {
        if d.first() != Some(&b'{') {
            return None;
        }
        serde_json::from_slice::<Ready>(d).ok().filter(|ready| !ready.session_id.is_empty())
    }
}

/// READY's `d` cannot be read as a JSON object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAnObject;

impl fmt::Display for NotAnObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("READY is no JSON object")
    }
}

impl std::error::Error for NotAnObject {}

/// Appends READY's `d` to `out`, with the values of the top-level keys `session_id` and `resume_gateway_url`
/// replaced by `""` and everything else byte for byte: with the token, the two are enough to take the session
/// over, so workers do not get them.
///
/// # Errors
/// When `d` is no JSON object; nothing is appended then.
pub fn redact_ready(d: &[u8], out: &mut Vec<u8>) -> Result<(), NotAnObject> {
    let text = std::str::from_utf8(d).map_err(|_| NotAnObject)?;
    let SecretValues(spans) = serde_json::from_str(text).map_err(|_| NotAnObject)?;
    let mut copied = 0;
    let begin = out.len();
    for span in spans {
        // The raw values are slices of `text`, so their distance from its start is their offset.
        let start = span.start.wrapping_sub(text.as_ptr() as usize);
        let end = span.end.wrapping_sub(text.as_ptr() as usize);
        let Some(between) = d.get(copied..start) else {
            out.truncate(begin);
            return Err(NotAnObject);
        };
        out.extend_from_slice(between);
        out.extend_from_slice(b"\"\"");
        copied = end;
    }
    out.extend_from_slice(d.get(copied..).unwrap_or_default());
    Ok(())
}

/// The addresses of the values to blank, in order.
struct SecretValues(Vec<Range<usize>>);

impl<'de> Deserialize<'de> for SecretValues {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Values;
        impl<'de> Visitor<'de> for Values {
            type Value = SecretValues;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<SecretValues, A::Error> {
                let mut spans = Vec::new();
                while let Some(key) = map.next_key::<String>()? {
                    let value: &RawValue = map.next_value()?;
                    if key == "session_id" || key == "resume_gateway_url" {
                        let start = value.get().as_ptr() as usize;
                        spans.push(start..start + value.get().len());
                    }
                }
                Ok(SecretValues(spans))
            }
        }
        deserializer.deserialize_map(Values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_sequence_numbers() {
        let mut session = Session::new(Secret::new("abc"), None, 1, 1);
        assert_eq!((session.received(), session.confirmed(), session.resume_seq()), (1, None, 1));
        assert!(session.receive(1));
        assert!(!session.receive(2));
        assert!(!session.receive(5));
        assert!(session.receive(4));
        assert_eq!((session.received(), session.resume_seq()), (5, 1));
        session.confirm(3);
        session.confirm(2);
        assert_eq!((session.confirmed(), session.resume_seq()), (Some(3), 3));
        session.confirm(99);
        assert_eq!(session.confirmed(), Some(5));
        let restored = Session::restore(Secret::new("abc"), None, 1, 9);
        assert_eq!((restored.received(), restored.resume_seq()), (9, 9));
        assert_eq!(restored.hash(), session.hash());
    }

    #[test]
    fn a_false_jump_is_taken_back_and_a_true_one_stands() {
        let mut session = Session::new(Secret::new("abc"), None, 1, 1);
        assert!(!session.receive_live(1_000_000));
        assert!(!session.receive_live(2), "numbers go on from before the jump");
        assert_eq!(session.received(), 2);
        assert!(!session.receive_live(3));
        assert!(session.receive_live(3), "a duplicate");
        assert!(!session.receive_live(5));
        assert!(!session.receive_live(6));
        assert!(session.receive_live(4), "too late: the jump stood");
        assert_eq!(session.received(), 6);
    }

    #[test]
    fn the_hash_is_fnv_1a() {
        // Test vectors of the FNV specification.
        assert_eq!(session_hash(""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(session_hash("a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(session_hash("foobar"), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn resume_urls() {
        for url in ["wss://gateway-us-east1-c.discord.gg", "wss://gateway.discord.gg/", "wss://[::1]:443"] {
            assert_eq!(resume_url(url, false).as_deref(), Some(url));
        }
        assert_eq!(resume_url("ws://127.0.0.1:80", true).as_deref(), Some("ws://127.0.0.1:80"));
        for url in [
            "ws://127.0.0.1:80",
            "https://discord.gg",
            "wss://",
            "wss:///x",
            "wss://:443",
            "wss://a b",
            "wss://a\r\nHost: b",
            "wss://a?v=6",
            "wss://a#",
            "wss://user@a",
            "gateway.discord.gg",
            "",
        ] {
            assert_eq!(resume_url(url, false), None, "{url:?}");
        }
        assert_eq!(resume_url(&format!("wss://{}", "a".repeat(600)), false), None);
    }

    #[test]
    fn ready_needs_both() {
        assert!(Ready::parse(br#"{"v":10,"session_id":"s","resume_gateway_url":"wss://x"}"#).is_some());
        for d in [
            &br#"{"session_id":"s"}"#[..],
            br#"{"resume_gateway_url":"wss://x"}"#,
            br#"{"session_id":"","resume_gateway_url":"wss://x"}"#,
            br#"{"session_id":7,"resume_gateway_url":"wss://x"}"#,
            br#"{"session_id":"s","resume_gateway_url":null}"#,
            br#"["s","wss://x"]"#,
            b"null",
            b"",
        ] {
            assert!(Ready::parse(d).is_none(), "{}", String::from_utf8_lossy(d));
        }
    }

    #[test]
    fn redaction_changes_the_two_values_and_nothing_else() {
        let cases = [
            (
                r#"{ "v":10, "session_id" : "abc\"def" ,"user":{"session_id":"kept"},"resume_gateway_url":"wss://x"}"#,
                r#"{ "v":10, "session_id" : "" ,"user":{"session_id":"kept"},"resume_gateway_url":""}"#,
            ),
            (r#"{"session_\u0069d":{"a":[1]},"x":1.50}"#, r#"{"session_\u0069d":"","x":1.50}"#),
            (r#"{"session_id":"a","session_id":"b"}"#, r#"{"session_id":"","session_id":""}"#),
            (r#" {"v":10} "#, r#" {"v":10} "#),
        ];
        for (d, expected) in cases {
            let mut out = b"before".to_vec();
            assert_eq!(redact_ready(d.as_bytes(), &mut out), Ok(()));
            assert_eq!(String::from_utf8(out).unwrap(), format!("before{expected}"));
        }
        for d in [&b"null"[..], b"[]", b"{", b"", b"{\"a\":\"\xff\"}"] {
            let mut out = Vec::new();
            assert_eq!(redact_ready(d, &mut out), Err(NotAnObject));
            assert!(out.is_empty());
        }
    }
}
