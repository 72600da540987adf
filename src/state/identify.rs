//! An identify queue's snapshot as text: one JSON object with the moment at which it was taken.

use std::io;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Folder, Read, Stamp};
use crate::queue::Snapshot;

/// Files of another version are not read.
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    version: u32,
    at: Stamp,
    max_concurrency: u32,
    total: u32,
    told: Option<(u32, u64)>,
    spent: Vec<(u64, u32)>,
    busy: bool,
}

impl Folder {
    /// The snapshot in the file `name` and how long ago it was taken at least, where the wall clock says `wall_ms`. A
    /// file that cannot be used is told of and not used.
    pub fn read_identify(&self, name: &str, wall_ms: u64) -> Option<(Snapshot, Duration)> {
        let why = match self.read(name) {
            Ok(Read::Nothing) => return None,
            Ok(Read::Content(text)) => match decode_identify(&text) {
                Some((snapshot, at)) => return Some((snapshot, Stamp::read(wall_ms).since(&at))),
                None => "it is of another version".to_owned(),
            },
            Ok(Read::Damaged(why)) => why.to_owned(),
            Err(error) => error.to_string(),
        };
        log::error!(
            "{name} in {} is not used: {why}; session starts of today are not known",
            self.path().display()
        );
        None
    }

    /// Writes a snapshot taken now, where the wall clock says `wall_ms`, to the file `name`.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn write_identify(&self, name: &str, snapshot: &Snapshot, wall_ms: u64) -> io::Result<()> {
        self.replace(name, &encode_identify(snapshot, Stamp::read(wall_ms)))
    }
}

/// The text of a snapshot taken `at`.
fn encode_identify(snapshot: &Snapshot, at: Stamp) -> Vec<u8> {
    let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let written = Written {
        version: VERSION,
        at,
        max_concurrency: snapshot.max_concurrency,
        total: snapshot.total,
        // Rounded so that a day ends later and a permit counts longer.
        told: snapshot.told.map(|(used, left)| (used, ms(left).saturating_add(1))),
        spent: snapshot.spent.iter().map(|&(age, count)| (ms(age), count)).collect(),
        busy: snapshot.busy,
    };
    // Numbers, strings and lists of them: nothing that JSON cannot say.
    serde_json::to_vec(&written).unwrap_or_default()
}

/// The snapshot in a text and when it was taken; `None` when the text is none of this version.
pub fn decode_identify(text: &[u8]) -> Option<(Snapshot, Stamp)> {
    let written: Written = serde_json::from_slice(text).ok()?;
    let ms = Duration::from_millis;
    (written.version == VERSION).then(|| {
        let snapshot = Snapshot {
            max_concurrency: written.max_concurrency,
            total: written.total,
            told: written.told.map(|(used, left)| (used, ms(left))),
            spent: written.spent.iter().map(|&(age, count)| (ms(age), count)).collect(),
            busy: written.busy,
        };
        (snapshot, written.at)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let at = Stamp { boot: "b".into(), uptime_ms: 5, wall_ms: 6 };
        for told in [None, Some((3, Duration::from_secs(100)))] {
            let spent = vec![(Duration::from_millis(1500), 4), (Duration::ZERO, 1)];
            let snapshot = Snapshot { max_concurrency: 16, total: 2000, told, spent, busy: true };
            let (read, read_at) =
                decode_identify(&encode_identify(&snapshot, at.clone())).expect("a snapshot");
            let told = told.map(|(used, left)| (used, left + Duration::from_millis(1)));
            assert_eq!((read, read_at), (Snapshot { told, ..snapshot }, at.clone()));
        }
    }

    #[test]
    fn anything_else_is_nothing() {
        let at = Stamp::default();
        let snapshot = Snapshot { max_concurrency: 1, total: 1, told: None, spent: Vec::new(), busy: false };
        let text = String::from_utf8(encode_identify(&snapshot, at)).expect("JSON");
        assert!(decode_identify(text.as_bytes()).is_some());
        for (old, new) in [("\"version\":1", "\"version\":2"), ("true", "1"), ("\"total\":1", "\"total\":-1")]
        {
            let text = text.replace("false", "true").replace(old, new);
            assert_eq!(decode_identify(text.as_bytes()).is_some(), old == "nothing");
        }
        assert!(decode_identify(b"").is_none() && decode_identify(b"{}").is_none());
    }
}
