//! Payloads that a shard sends: what workers may ask for, and how each becomes JSON.
//!
//! This is the one place where the token and the session id are spelled out.

use super::opcode::{Opcode, Sender};
use super::session::Session;
use super::shard::Options;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::fmt;
use std::io::Write;

/// Largest payload that Discord takes; a larger one is answered with close 4002.
pub const PAYLOAD_BYTES_MAX: usize = 4096;

/// A payload to be sent.
#[derive(Clone, PartialEq, Eq)]
pub enum Command {
    /// Start a session.
    Identify,
    /// Take the session up after `seq`.
    Resume {
        /// The last seq that need not be sent again.
        seq: u64,
    },
    /// Sign of life.
    Heartbeat {
        /// The last seq received in this session, if any.
        seq: Option<u64>,
    },
    /// A worker's command, byte for byte.
    Forward(Box<[u8]>),
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Command::Identify => f.write_str("Identify"),
            Command::Resume { seq } => write!(f, "Resume {{ seq: {seq} }}"),
            Command::Heartbeat { seq } => write!(f, "Heartbeat {{ seq: {seq:?} }}"),
            // A worker's text is not for logs.
            Command::Forward(json) => write!(f, "Forward({} bytes)", json.len()),
        }
    }
}

/// Why a worker's command is not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Above [`PAYLOAD_BYTES_MAX`].
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// No JSON object in UTF-8.
    NotJson,
    /// No integer `op`, or `op` or `d` given twice.
    NoOpcode,
    /// An opcode that only rateway or only Discord may send.
    ForbiddenOpcode {
        /// The opcode.
        op: u64,
    },
    /// An opcode that this build does not know, after Discord closed a connection over one (4001). Each such close
    /// costs the session and a session start, so there is one and no second.
    UnknownOpcode {
        /// The opcode.
        op: u64,
    },
    /// A known opcode whose `d` is no object; Discord would close with 4001 and end the session.
    BadBody {
        /// The opcode.
        op: u64,
    },
    /// As many commands wait for this shard as may.
    Full,
    /// The shard stops, or has stopped for good.
    Stopped,
}

impl Refusal {
    /// A short name for metrics.
    pub const fn label(self) -> &'static str {
        match self {
            Refusal::TooLarge { .. } => "too_large",
            Refusal::NotJson => "not_json",
            Refusal::NoOpcode => "no_opcode",
            Refusal::ForbiddenOpcode { .. } => "forbidden_opcode",
            Refusal::UnknownOpcode { .. } => "unknown_opcode",
            Refusal::BadBody { .. } => "bad_body",
            Refusal::Full => "full",
            Refusal::Stopped => "stopped",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::TooLarge { bytes } => {
                write!(f, "{bytes} bytes, Discord takes {PAYLOAD_BYTES_MAX} at most")
            }
            Refusal::NotJson => f.write_str("not a JSON object"),
            Refusal::NoOpcode => f.write_str("needs one integer \"op\" and one \"d\""),
            Refusal::ForbiddenOpcode { op } => write!(f, "op {op} is not for workers to send"),
            Refusal::UnknownOpcode { op } => {
                write!(
                    f,
                    "op {op} is unknown here, and Discord has closed this shard over an unknown opcode (4001)"
                )
            }
            Refusal::BadBody { op } => write!(f, "op {op} needs an object in \"d\""),
            Refusal::Full => f.write_str("too many commands are waiting for this shard"),
            Refusal::Stopped => f.write_str("the shard is stopping"),
        }
    }
}

impl std::error::Error for Refusal {}

/// Judges a worker's command; answers its opcode.
///
/// Opcodes that this build does not know pass: Discord adds some. Those that only Discord sends do not, as
/// they would end the session with close 4001.
///
/// # Errors
/// Why it must not be sent.
pub fn check_worker_command(body: &[u8]) -> Result<u64, Refusal> {
    #[derive(Deserialize)]
    struct Payload {
        op: u64,
        #[serde(default)]
        d: serde_json::Value,
    }
    if body.len() > PAYLOAD_BYTES_MAX {
        return Err(Refusal::TooLarge { bytes: body.len() });
    }
    let text = std::str::from_utf8(body).map_err(|_| Refusal::NotJson)?;
    // An array of two would pass for the struct as well.
    if !text.trim_start_matches([' ', '\t', '\n', '\r']).starts_with('{') {
        return Err(Refusal::NotJson);
    }
    let Payload { op, d } = serde_json::from_str(text)
        .map_err(|error| if error.is_data() { Refusal::NoOpcode } else { Refusal::NotJson })?;
    match Opcode::from_number(op).map(Opcode::sender) {
        Some(Sender::Discord | Sender::Shard) => Err(Refusal::ForbiddenOpcode { op }),
        Some(Sender::Worker) if !d.is_object() => Err(Refusal::BadBody { op }),
        Some(Sender::Worker) | None => Ok(op),
    }
}

#[derive(Serialize)]
struct Payload<T> {
    op: u64,
    d: T,
}

#[derive(Serialize)]
struct Identify<'a> {
    token: &'a str,
    intents: u64,
    shard: [u32; 2],
    properties: Properties,
    #[serde(skip_serializing_if = "Option::is_none")]
    large_threshold: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    presence: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    capabilities: Option<u64>,
}

#[derive(Serialize)]
struct Properties {
    os: &'static str,
    browser: &'static str,
    device: &'static str,
}

#[derive(Serialize)]
struct Resume<'a> {
    token: &'a str,
    session_id: &'a str,
    seq: u64,
}

/// Appends `command` as JSON to `out`. `session` is the one that RESUME is for.
pub fn encode(
    command: &Command,
    options: &Options,
    shard_id: u32,
    session: Option<&Session>,
    out: &mut Vec<u8>,
) {
    let token = options.token.expose();
    // Writing JSON of these types into a vector cannot fail: no map with odd keys, no IO. The results are
    // dropped for that reason.
    let _ = match command {
        Command::Identify => {
            // Configuration has judged the presence; one that is no JSON is left out rather than sent.
            let presence = options.presence.as_deref().and_then(|json| serde_json::from_str(json).ok());
            let d = Identify {
                token,
                intents: options.intents,
                shard: [shard_id, options.shard_count],
                properties: Properties { os: std::env::consts::OS, browser: "rateway", device: "rateway" },
                large_threshold: options.large_threshold,
                presence,
                capabilities: options.capabilities,
            };
            serde_json::to_writer(out, &Payload { op: Opcode::Identify.number(), d })
        }
        Command::Resume { seq } => {
            debug_assert!(session.is_some(), "RESUME without a session");
            let session_id = session.map_or("", |session| session.id().expose());
            let d = Resume { token, session_id, seq: *seq };
            serde_json::to_writer(out, &Payload { op: Opcode::Resume.number(), d })
        }
        Command::Heartbeat { seq: Some(seq) } => {
            write!(out, r#"{{"op":1,"d":{seq}}}"#).map_err(serde_json::Error::io)
        }
        Command::Heartbeat { seq: None } => {
            out.extend_from_slice(br#"{"op":1,"d":null}"#);
            Ok(())
        }
        Command::Forward(json) => {
            out.extend_from_slice(json);
            Ok(())
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Secret;

    fn json(command: &Command, options: &Options, session: Option<&Session>) -> String {
        let mut out = Vec::new();
        encode(command, options, 3, session, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn what_goes_on_the_wire() {
        let mut options = Options::new(Secret::new("to\"ken"), 513, 8, "wss://gateway.discord.gg");
        let os = std::env::consts::OS;
        assert_eq!(
            json(&Command::Identify, &options, None),
            format!(
                r#"{{"op":2,"d":{{"token":"to\"ken","intents":513,"shard":[3,8],"properties":{{"os":"{os}","browser":"rateway","device":"rateway"}}}}}}"#
            )
        );
        options.large_threshold = Some(250);
        options.presence = Some(r#"{"status": "idle", "afk":false}"#.to_owned());
        options.capabilities = Some(1 << 15);
        assert!(json(&Command::Identify, &options, None).ends_with(
            r#","large_threshold":250,"presence":{"status": "idle", "afk":false},"capabilities":32768}}"#
        ));
        options.presence = Some("{".to_owned());
        assert!(!json(&Command::Identify, &options, None).contains("presence"));

        let session = Session::restore(Secret::new("a\\b"), None, 8, 7);
        assert_eq!(
            json(&Command::Resume { seq: 7 }, &options, Some(&session)),
            r#"{"op":6,"d":{"token":"to\"ken","session_id":"a\\b","seq":7}}"#
        );
        assert_eq!(json(&Command::Heartbeat { seq: Some(251) }, &options, None), r#"{"op":1,"d":251}"#);
        assert_eq!(json(&Command::Heartbeat { seq: None }, &options, None), r#"{"op":1,"d":null}"#);
        assert_eq!(json(&Command::Forward(b"{ }"[..].into()), &options, None), "{ }");
        assert!(!format!("{options:?} {session:?}").contains("ken\""));
    }

    #[test]
    fn what_workers_may_send() {
        for (body, op) in [
            (r#"{"op":3,"d":{}}"#, 3),
            (r#" {"d":{"guild_id":"1"},"op":8}"#, 8),
            (r#"{"op":4,"d":{},"s":null,"t":null}"#, 4),
            (r#"{"op":31,"d":{}}"#, 31),
            (r#"{"op":43,"d":{}}"#, 43),
            (r#"{"op":44,"d":null}"#, 44),
            (r#"{"\u006fp":3,"d":{}}"#, 3),
        ] {
            assert_eq!(check_worker_command(body.as_bytes()), Ok(op), "{body}");
        }
    }

    #[test]
    fn what_workers_may_not_send() {
        for (body, refusal) in [
            ("", Refusal::NotJson),
            ("x", Refusal::NotJson),
            ("[3,{}]", Refusal::NotJson),
            ("{", Refusal::NotJson),
            (r#"{"op":3,"d":{}} x"#, Refusal::NotJson),
            (r#"{"d":{}}"#, Refusal::NoOpcode),
            (r#"{"op":"3","d":{}}"#, Refusal::NoOpcode),
            (r#"{"op":3.0,"d":{}}"#, Refusal::NoOpcode),
            (r#"{"op":-3,"d":{}}"#, Refusal::NoOpcode),
            (r#"{"op":3,"op":2,"d":{}}"#, Refusal::NoOpcode),
            (r#"{"op":1,"d":5}"#, Refusal::ForbiddenOpcode { op: 1 }),
            (r#"{"op":2,"d":{}}"#, Refusal::ForbiddenOpcode { op: 2 }),
            (r#"{"\u006fp":6,"d":{}}"#, Refusal::ForbiddenOpcode { op: 6 }),
            (r#"{"op":11}"#, Refusal::ForbiddenOpcode { op: 11 }),
            (r#"{"op":8,"d":[]}"#, Refusal::BadBody { op: 8 }),
            (r#"{"op":3}"#, Refusal::BadBody { op: 3 }),
        ] {
            assert_eq!(check_worker_command(body.as_bytes()), Err(refusal), "{body}");
        }
        assert_eq!(check_worker_command(b"{\"op\":3,\"d\":{\"a\":\"\xff\"}}"), Err(Refusal::NotJson));
        let fits = format!(r#"{{"op":3,"d":{{"a":"{}"}}}}"#, "x".repeat(PAYLOAD_BYTES_MAX - 21));
        assert_eq!((fits.len(), check_worker_command(fits.as_bytes())), (4096, Ok(3)));
        let large = format!("{fits} ");
        assert_eq!(check_worker_command(large.as_bytes()), Err(Refusal::TooLarge { bytes: 4097 }));
        let deep = format!(r#"{{"op":3,"d":{}"#, "[".repeat(4000));
        assert_eq!(check_worker_command(deep.as_bytes()), Err(Refusal::NotJson));
    }
}
