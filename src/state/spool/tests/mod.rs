//! Tests of the spool: in a simulated folder with faults and crashes, with damaged files, and in a real folder.

mod damage;
mod disk;
mod kill;
mod model;
pub(crate) mod sim;

use super::files::Files;
use super::{Appended, Block, Entry, Error, Loss, Next, Options, Record, Spool};

/// The class of a test's publish stands before its first colon.
fn class(publish: &[u8]) -> Option<&[u8]> {
    publish.split(|&byte| byte == b':').next()
}

/// A publish as tests know it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Event {
    shard: u32,
    session: u64,
    seq: u64,
    text: Vec<u8>,
}

impl Event {
    fn new(shard: u32, session: u64, seq: u64, text: &str) -> Event {
        Event { shard, session, seq, text: text.as_bytes().to_vec() }
    }
}

/// Appends events of one shard.
fn append<F: Files>(
    spool: &mut Spool<F>,
    events: &[Event],
    maybe_published: bool,
) -> Result<Appended, Error> {
    let bytes: Vec<u8> = events.iter().flat_map(|event| event.text.clone()).collect();
    let mut end = 0;
    let records = events.iter().map(|event| {
        end += event.text.len();
        Record { seq: event.seq, session: event.session, end }
    });
    let shard = events.first().map_or(0, |event| event.shard);
    spool.append(Entry { shard, frame_max: 4096, maybe_published, records, bytes: &bytes }, class)
}

/// A block's events.
fn events(block: &Block) -> Vec<Event> {
    let mut start = 0;
    let event = |record: &Record| {
        let text = block.bytes[start..record.end].to_vec();
        start = record.end;
        Event { shard: block.shard, session: record.session, seq: record.seq, text }
    };
    block.records.iter().map(event).collect()
}

/// Reads to the end: the blocks' events, each with its mark, and the losses.
fn drain<F: Files>(spool: &mut Spool<F>) -> (Vec<(Event, bool)>, Vec<Loss>) {
    let (mut out, mut losses) = (Vec::new(), Vec::new());
    let mut block = Block::default();
    loop {
        match spool.next(&mut block).expect("a read") {
            Next::Block => {
                let marked = block.maybe_published;
                out.extend(events(&block).into_iter().map(|event| (event, marked)));
            }
            Next::Lost(loss) => losses.push(loss),
            Next::End => return (out, losses),
        }
    }
}

fn options() -> Options {
    Options { bytes_max: 1 << 20, segment_bytes: 4096, shed_from_percent: 100, ..Options::default() }
}
