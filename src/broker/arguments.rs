//! The arguments of queue.declare that have an effect, as values.
//!
//! Numbers are equal whatever their width. Arguments that are not known have no effect and are not compared, as with
//! RabbitMQ.

use std::sync::Arc;

use super::fault::{self, Fault, Kind};
use crate::amqp::table;

/// What happens to a queue that has its limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Overflow {
    #[default]
    DropHead,
    RejectPublish,
    RejectPublishDlx,
}

impl Overflow {
    fn name(self) -> &'static str {
        match self {
            Overflow::DropHead => "drop-head",
            Overflow::RejectPublish => "reject-publish",
            Overflow::RejectPublishDlx => "reject-publish-dlx",
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct QueueArguments {
    pub(super) length_max: Option<u64>,
    pub(super) length_bytes_max: Option<u64>,
    pub(super) message_ttl_ms: Option<u64>,
    pub(super) expires_ms: Option<u64>,
    pub(super) overflow: Option<Overflow>,
    pub(super) dead_letter_exchange: Option<Arc<str>>,
    pub(super) dead_letter_routing_key: Option<Arc<str>>,
    pub(super) single_active_consumer: bool,
    /// Not `classic`: accepted, and no more than a classic queue here.
    pub(super) is_quorum: bool,
    /// Asked for, and without effect here.
    pub(super) max_priority: Option<u64>,
}

/// What queue.declare was given: the first argument that cannot be taken.
pub(super) fn queue(arguments: &[u8], queue: &[u8]) -> Result<QueueArguments, Fault> {
    let mut found = QueueArguments::default();
    for (name, value) in table::entries(arguments) {
        let number = |least: i64, most: i64| {
            value.integer().filter(|number| (least..=most).contains(number)).map(|number| number as u64)
        };
        // As long as a name can be; each message that dies refers to it.
        let words = || {
            let text = value.text().filter(|text| text.len() <= usize::from(u8::MAX))?;
            std::str::from_utf8(text).ok().map(Arc::from)
        };
        let timer_max = i64::from(u32::MAX);
        // Each arm: the name for a text, and whether the value could be taken.
        let (name, is_taken) = match name {
            b"x-max-length" => ("x-max-length", set(&mut found.length_max, number(0, i64::MAX))),
            b"x-max-length-bytes" => {
                ("x-max-length-bytes", set(&mut found.length_bytes_max, number(0, i64::MAX)))
            }
            b"x-message-ttl" => ("x-message-ttl", set(&mut found.message_ttl_ms, number(0, timer_max))),
            b"x-expires" => ("x-expires", set(&mut found.expires_ms, number(1, timer_max))),
            b"x-max-priority" => ("x-max-priority", set(&mut found.max_priority, number(0, 255))),
            b"x-overflow" => {
                let overflow = match value.text() {
                    Some(b"drop-head") => Some(Overflow::DropHead),
                    Some(b"reject-publish") => Some(Overflow::RejectPublish),
                    Some(b"reject-publish-dlx") => Some(Overflow::RejectPublishDlx),
                    _ => None,
                };
                ("x-overflow", set(&mut found.overflow, overflow))
            }
            b"x-dead-letter-exchange" => {
                ("x-dead-letter-exchange", set(&mut found.dead_letter_exchange, words()))
            }
            b"x-dead-letter-routing-key" => {
                ("x-dead-letter-routing-key", set(&mut found.dead_letter_routing_key, words()))
            }
            b"x-single-active-consumer" => {
                found.single_active_consumer = value.boolean().unwrap_or_default();
                ("x-single-active-consumer", value.boolean().is_some())
            }
            b"x-queue-type" => {
                found.is_quorum = value.text() == Some(b"quorum");
                let is_known = matches!(value.text(), Some(b"classic" | b"quorum")) || value.kind == b'V';
                ("x-queue-type", is_known)
            }
            _ => continue,
        };
        if !is_taken {
            return Err(Fault::InvalidArgument { name, kind: Kind::Queue, entity: fault::text(queue) });
        }
    }
    if found.dead_letter_routing_key.is_some() && found.dead_letter_exchange.is_none() {
        let name = "x-dead-letter-routing-key";
        return Err(Fault::InvalidArgument { name, kind: Kind::Queue, entity: fault::text(queue) });
    }
    Ok(found)
}

fn set<T>(place: &mut Option<T>, value: Option<T>) -> bool {
    *place = value;
    place.is_some()
}

impl QueueArguments {
    /// The first argument in which `received` differs: its name, and both values for a text.
    pub(super) fn difference(&self, received: &QueueArguments) -> Option<(&'static str, String, String)> {
        let number = |value: Option<u64>| value.map(|number| number.to_string());
        let name = |value: &Option<Arc<str>>| value.as_ref().map(ToString::to_string);
        let rows = |arguments: &QueueArguments| {
            [
                ("x-expires", number(arguments.expires_ms)),
                ("x-message-ttl", number(arguments.message_ttl_ms)),
                ("x-dead-letter-exchange", name(&arguments.dead_letter_exchange)),
                ("x-dead-letter-routing-key", name(&arguments.dead_letter_routing_key)),
                ("x-max-length", number(arguments.length_max)),
                ("x-max-length-bytes", number(arguments.length_bytes_max)),
                ("x-max-priority", number(arguments.max_priority)),
                ("x-overflow", arguments.overflow.map(|overflow| overflow.name().to_owned())),
                ("x-single-active-consumer", arguments.single_active_consumer.then(|| "true".to_owned())),
                ("x-queue-type", arguments.is_quorum.then(|| "quorum".to_owned())),
            ]
        };
        let words = |value: Option<String>| match value {
            Some(value) => format!("the value '{value}'"),
            None => "none".to_owned(),
        };
        rows(self)
            .into_iter()
            .zip(rows(received))
            .find(|(current, received)| current.1 != received.1)
            .map(|((name, current), (_, received))| (name, words(received), words(current)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::write::text_entry;

    fn ttl(kind: u8, bytes: &[u8]) -> Vec<u8> {
        let mut out = b"\x0dx-message-ttl".to_vec();
        out.push(kind);
        out.extend_from_slice(bytes);
        out
    }

    #[test]
    fn widths_do_not_matter_and_values_do() {
        let narrow = queue(&ttl(b's', &[0, 9]), b"q").expect("a number");
        let wide = queue(&ttl(b'l', &[0, 0, 0, 0, 0, 0, 0, 9]), b"q").expect("a number");
        assert_eq!((narrow.message_ttl_ms, narrow.difference(&wide)), (Some(9), None));
        let other = queue(&ttl(b'b', &[8]), b"q").expect("a number");
        let (name, received, current) = wide.difference(&other).expect("9 is not 8");
        assert_eq!((name, received.as_str()), ("x-message-ttl", "the value '8'"));
        assert_eq!(
            (current.as_str(), wide.difference(&QueueArguments::default()).is_some()),
            ("the value '9'", true)
        );
    }

    #[test]
    fn what_cannot_be_taken_is_named() {
        for (name, value) in [
            ("x-max-length", "ten"),
            ("x-overflow", "explode"),
            ("x-queue-type", "stream"),
            ("x-dead-letter-routing-key", "k"),
        ] {
            let mut arguments = Vec::new();
            text_entry(&mut arguments, name, value.as_bytes());
            let fault = queue(&arguments, b"q").expect_err(name);
            assert!(matches!(fault, Fault::InvalidArgument { name: named, .. } if named == name), "{fault}");
        }
        assert!(queue(&ttl(b'b', &[0xFF]), b"q").is_err(), "less than nothing");
        let mut unknown = Vec::new();
        text_entry(&mut unknown, "x-new", b"1");
        assert_eq!(queue(&unknown, b"q"), Ok(QueueArguments::default()));
    }
}
