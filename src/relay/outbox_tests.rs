//! The outbox against a broker that reads its bytes, confirms as it likes and dies when it likes.

use std::collections::BTreeMap;
use std::time::Duration;

use amq_protocol::frame::{AMQPFrame, parse_frame};
use amq_protocol::types::AMQPValue;

use super::*;
use crate::amqp::publish::{EventPublish, frame_event};
use crate::base::Rng;

const FRAME_MAX: u32 = 4096;

fn append(batch: &mut Batch, shard: u32, session: u64, seq: u64, body: &[u8]) {
    append_cut_by(FRAME_MAX, batch, shard, session, seq, body);
}

fn append_cut_by(frame_max: u32, batch: &mut Batch, shard: u32, session: u64, seq: u64, body: &[u8]) {
    batch.frame_max = frame_max;
    let message_id = format!("{shard}-{session}-{seq}");
    let event = EventPublish {
        exchange: b"rateway-1",
        routing_key: b"MESSAGE_CREATE",
        message_id: message_id.as_bytes(),
        timestamp_s: 1,
        shard_id: shard,
        seq,
        repeat: false,
        persistent: seq.is_multiple_of(2),
        body,
    };
    frame_event(&mut batch.bytes, 1, frame_max, &event).expect("short names");
    batch.records.push(Record::new(session, seq, batch.bytes.len()));
}

fn batch(shard: u32, seqs: std::ops::Range<u64>) -> Batch {
    let mut batch = Batch::default();
    for seq in seqs {
        append(&mut batch, shard, 7, seq, b"{}");
    }
    batch
}

/// A message as the broker reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Received {
    id: String,
    repeat: bool,
    body: usize,
}

/// Reads the bytes of one channel's life.
#[derive(Default)]
struct Broker {
    stream: Vec<u8>,
    parsed: usize,
    open: Option<(String, bool, usize, usize)>,
    messages: Vec<Received>,
}

impl Broker {
    fn read(&mut self, bytes: &[u8]) {
        self.stream.extend_from_slice(bytes);
        while let Ok((rest, frame)) = parse_frame(&self.stream[self.parsed..]) {
            self.parsed = self.stream.len() - rest.len();
            match frame {
                AMQPFrame::Method(1, _) => assert!(self.open.is_none(), "a method within a message"),
                AMQPFrame::Header(1, header) => {
                    let id = header.properties.message_id().as_ref().expect("a message id").to_string();
                    let headers = header.properties.headers().as_ref().expect("headers");
                    let repeat = headers.inner().get("repeat") == Some(&AMQPValue::Boolean(true));
                    self.open = Some((id, repeat, header.body_size as usize, 0));
                }
                AMQPFrame::Body(1, body) => {
                    let open = self.open.as_mut().expect("a body within a message");
                    open.3 += body.len();
                }
                other => panic!("unexpected {other:?}"),
            }
            if let Some((id, repeat, size, got)) = &self.open
                && size == got
            {
                self.messages.push(Received { id: id.clone(), repeat: *repeat, body: *size });
                self.open = None;
            }
        }
    }
}

fn write(outbox: &mut Outbox, broker: &mut Broker, mut count: usize) -> Vec<Progress> {
    outbox.prepare(FRAME_MAX, 8);
    let mut taken = 0;
    for slice in outbox.slices() {
        let part = slice.len().min(count);
        broker.read(&slice[..part]);
        taken += part;
        count -= part;
    }
    let mut progress = Vec::new();
    // As the runtime does: where there is nothing to write there is nothing to count.
    if taken > 0 {
        outbox.advance(taken, |step| progress.push(step));
    }
    progress
}

#[test]
fn confirms_of_any_form_free_memory_and_move_the_seq() {
    let mut outbox = Outbox::new(1 << 20);
    let mut broker = Broker::default();
    outbox.push(0, batch(0, 1..4));
    outbox.push(1, batch(1, 10..12));
    write(&mut outbox, &mut broker, usize::MAX);
    assert_eq!(broker.messages.len(), 5);
    let mut progress = Vec::new();
    outbox.confirm(2, false, |step| progress.push(step));
    assert_eq!(progress, [], "the first is not confirmed, so nothing after it counts");
    outbox.confirm(1, false, |step| progress.push(step));
    assert_eq!(progress.last().map(|step| step.seq), Some(2));
    outbox.confirm(4, true, |step| progress.push(step));
    assert_eq!(
        progress[1..],
        [
            Progress { shard: 0, session: 7, seq: 3, spooled: false },
            Progress { shard: 1, session: 7, seq: 10, spooled: false }
        ]
    );
    outbox.confirm(5, false, |step| progress.push(step));
    assert!(outbox.is_empty());
    assert_eq!(outbox.memory_bytes(), 0);
    assert_eq!(outbox.unconfirmed(), 0);
}

#[test]
fn repeats_take_the_memory_of_their_marks_and_no_more() {
    let mut outbox = Outbox::new(1 << 20);
    let mut broker = Broker::default();
    let mut large = batch(0, 1..1000);
    large.bytes.shrink_to_fit();
    large.records.shrink_to_fit();
    outbox.push(0, large);
    write(&mut outbox, &mut broker, usize::MAX);
    let before = outbox.memory_bytes();
    outbox.rewind();
    outbox.prepare(FRAME_MAX, 8);
    assert_eq!(outbox.memory_bytes(), before + 999 * REPEAT_BYTES);
}

#[test]
fn confirms_for_nothing_are_counted_and_change_nothing() {
    let mut outbox = Outbox::new(1 << 20);
    outbox.confirm(1, true, |_| panic!("no progress"));
    outbox.push(0, batch(0, 1..2));
    outbox.confirm(0, false, |_| panic!("no progress"));
    outbox.confirm(99, false, |_| panic!("no progress"));
    assert_eq!(outbox.stats.confirms_unknown, 3);
    assert_eq!(outbox.unconfirmed(), 1);
}

#[test]
fn what_was_on_the_wire_goes_out_again_marked_and_first() {
    let mut outbox = Outbox::new(1 << 20);
    let mut broker = Broker::default();
    outbox.push(0, batch(0, 1..4));
    write(&mut outbox, &mut broker, usize::MAX);
    outbox.confirm(2, false, |_| {});
    outbox.push(0, batch(0, 4..5));
    outbox.rewind();
    let mut next = Broker::default();
    write(&mut outbox, &mut next, usize::MAX);
    let seen: Vec<_> = next.messages.iter().map(|message| (message.id.as_str(), message.repeat)).collect();
    assert_eq!(seen, [("0-7-1", true), ("0-7-3", true), ("0-7-4", false)]);
    outbox.confirm(3, true, |_| {});
    assert!(outbox.is_empty());
}

#[test]
fn a_smaller_frame_max_cuts_anew_without_the_mark() {
    let mut outbox = Outbox::new(1 << 20);
    let mut batch = Batch::default();
    append_cut_by(131_072, &mut batch, 0, 7, 1, &[b'x'; 9000]);
    outbox.push(0, batch);
    outbox.prepare(FRAME_MAX, 8);
    let mut rest: &[u8] = &outbox.slices().flatten().copied().collect::<Vec<u8>>();
    while let Ok((tail, frame)) = parse_frame(rest) {
        assert!(
            rest.len() - tail.len() <= FRAME_MAX as usize,
            "a frame on channel {} is too large",
            frame.channel_id()
        );
        rest = tail;
    }
    assert!(rest.is_empty());
    let mut broker = Broker::default();
    write(&mut outbox, &mut broker, usize::MAX);
    assert_eq!(broker.messages, [Received { id: "0-7-1".into(), repeat: false, body: 9000 }]);
    assert_eq!(outbox.stats.repeated, 0);
}

#[test]
fn one_event_in_a_large_buffer_does_not_fill_a_small_outbox() {
    let mut outbox = Outbox::new(64 << 10);
    let mut batch = batch(0, 1..2);
    batch.bytes.reserve(256 << 10);
    outbox.push(0, batch);
    assert!(!outbox.is_full(), "{} bytes", outbox.memory_bytes());
}

#[test]
fn confirms_around_a_refused_publish_do_not_stop_the_rest() {
    // The broker confirms 2 and 3 at once, is slow with 1, and closes the channel over 4.
    let mut outbox = Outbox::new(1 << 20);
    for seq in 1..7 {
        outbox.push(0, batch(0, seq..seq + 1));
    }
    let mut broker = Broker::default();
    write(&mut outbox, &mut broker, usize::MAX);
    outbox.confirm(2, false, |_| {});
    outbox.confirm(3, false, |_| {});
    let mut seen = vec![];
    for _ in 0..50 {
        if let Some(at) = broker.messages.iter().position(|message| message.id == "0-7-4") {
            let _ = outbox.refused();
            seen.extend(broker.messages.drain(..at).map(|message| message.id));
            broker = Broker::default();
            outbox.rewind();
        }
        let before = broker.messages.len();
        write(&mut outbox, &mut broker, usize::MAX);
        for tag in before..broker.messages.len() {
            if broker.messages[tag].id != "0-7-4" {
                outbox.confirm(tag as u64 + 1, false, |_| {});
            }
        }
    }
    seen.extend(broker.messages.drain(..).map(|message| message.id));
    assert!(outbox.is_empty(), "{} bytes wait for ever", outbox.memory_bytes());
    for seq in [1, 2, 3, 5, 6] {
        assert!(seen.contains(&format!("0-7-{seq}")), "{seq} is missing: {seen:?}");
    }
    assert_eq!(outbox.stats.refused, 1);
}

#[test]
fn what_is_full_has_no_room_however_small_it_is() {
    for bytes_max in [0, 4096, 20_000, 64 << 10, 1 << 20] {
        let mut outbox = Outbox::new(bytes_max);
        for seq in 1..2000 {
            assert!(!(outbox.is_full() && outbox.has_room()), "{bytes_max}: {} bytes", outbox.memory_bytes());
            outbox.push(0, batch(0, seq..seq + 1));
        }
    }
}

#[test]
fn promises_keep_the_limit_and_are_given_back() {
    let mut outbox = Outbox::new(64 << 10);
    let mut promises = vec![];
    while let Some(bytes) = outbox.reserve() {
        promises.push(bytes);
    }
    assert_eq!(promises.iter().sum::<usize>(), 64 << 10);
    outbox.release(promises[0]);
    assert_eq!(outbox.reserve(), Some(promises[0]));
}

#[test]
fn a_publish_that_the_broker_refuses_for_good_is_found_and_dropped() {
    // This broker closes the channel over seq 5, and takes everything else.
    let mut outbox = Outbox::new(1 << 20);
    outbox.push(0, batch(0, 1..4));
    outbox.push(0, batch(0, 4..9));
    outbox.push(1, batch(1, 1..3));
    let (mut seen, mut refused, mut reported) = (vec![], vec![], vec![]);
    let mut broker = Broker::default();
    for _ in 0..100 {
        let before = broker.messages.len();
        write(&mut outbox, &mut broker, usize::MAX);
        if let Some(at) = broker.messages.iter().position(|message| message.id == "0-7-5") {
            // Confirms of what came just before it are lost with the channel.
            refused.extend(outbox.refused());
            seen.extend(broker.messages.drain(..at));
            broker = Broker::default();
            outbox.rewind();
            continue;
        }
        for tag in before..broker.messages.len() {
            outbox.confirm(tag as u64 + 1, false, |step| reported.push((step.shard, step.seq)));
        }
    }
    seen.append(&mut broker.messages);
    assert!(outbox.is_empty());
    assert_eq!(outbox.memory_bytes(), 0);
    assert_eq!(refused.iter().map(|(shard, record)| (*shard, record.seq)).collect::<Vec<_>>(), [(0, 5)]);
    assert_eq!((outbox.stats.refused, outbox.unconfirmed()), (1, 0));
    for (shard, seq) in [(0, 1), (0, 2), (0, 3), (0, 4), (0, 6), (0, 7), (0, 8), (1, 1), (1, 2)] {
        assert!(
            seen.iter().any(|message| message.id == format!("{shard}-7-{seq}")),
            "{shard}-{seq} is missing"
        );
    }
    assert_eq!(reported.iter().rfind(|(shard, _)| *shard == 0), Some(&(0, 8)));
}

#[test]
fn full_and_roomy_are_apart() {
    let mut outbox = Outbox::new(64 << 10);
    assert!(!outbox.is_full() && outbox.has_room());
    let mut seq = 1;
    while !outbox.is_full() {
        outbox.push(0, batch(0, seq..seq + 1));
        seq += 1;
    }
    assert!(!outbox.has_room());
    let mut broker = Broker::default();
    while !outbox.is_empty() {
        write(&mut outbox, &mut broker, usize::MAX);
        outbox.confirm(u64::MAX, true, |_| {});
    }
    assert!(outbox.has_room());
    assert_eq!(broker.messages.len() as u64, seq - 1);
}

/// One seeded run: pushes, partial writes, confirms in any order, lost channels. At the end the broker lives long
/// enough to take everything.
fn run(seed: u64) {
    let mut rng = Rng::new(seed);
    let mut outbox = Outbox::new(64 << 10);
    let mut broker = Broker::default();
    let mut confirmed_here: Vec<u64> = Vec::new();
    // Every complete message that any broker has seen, in order, and the last seq that was reported confirmed.
    let mut seen: Vec<Received> = Vec::new();
    let mut acknowledged = std::collections::HashSet::new();
    let mut reported: BTreeMap<u32, u64> = BTreeMap::new();
    let mut next_seq = [1u64; 3];
    let steps = 200;
    for step in 0..steps + 50 {
        let ending = step >= steps;
        let mut progress = Vec::new();
        match if ending { 1 + rng.below(2) } else { rng.below(4) } {
            0 => {
                let shard = rng.below(3) as usize;
                let mut batch = outbox.take_spare();
                for _ in 0..rng.below(5) {
                    let body = vec![b' '; rng.below(9000) as usize];
                    append(&mut batch, shard as u32, 7, next_seq[shard], &body);
                    next_seq[shard] += 1;
                }
                outbox.push(shard as u32, batch);
            }
            1 => {
                let count = if ending { usize::MAX } else { rng.below(6000) as usize };
                progress = write(&mut outbox, &mut broker, count);
            }
            2 => {
                let known = broker.messages.len() as u64;
                if known > 0 {
                    let tag = if ending { known } else { 1 + rng.below(known) };
                    let multiple = ending || rng.chance(1, 3);
                    for covered in if multiple { 1..=tag } else { tag..=tag } {
                        acknowledged.insert(broker.messages[covered as usize - 1].id.clone());
                    }
                    confirmed_here.push(tag);
                    outbox.confirm(tag, multiple, |step| progress.push(step));
                }
            }
            _ => {
                if rng.chance(1, 6) {
                    seen.append(&mut broker.messages);
                    broker = Broker::default();
                    outbox.rewind();
                }
            }
        }
        for step in progress {
            let last = reported.entry(step.shard).or_default();
            assert!(step.seq > *last, "progress went back");
            for seq in *last + 1..=step.seq {
                let id = format!("{}-7-{seq}", step.shard);
                assert!(acknowledged.contains(&id), "{id} was reported and never confirmed");
            }
            *last = step.seq;
        }
    }
    seen.append(&mut broker.messages);
    assert!(outbox.is_empty(), "{} bytes are left", outbox.memory_bytes());
    assert_eq!(outbox.memory_bytes(), 0);
    for shard in 0..3u32 {
        let mut expected = 1;
        let prefix = format!("{shard}-7-");
        for message in seen.iter().filter(|message| message.id.starts_with(&prefix)) {
            let seq: u64 = message.id[prefix.len()..].parse().expect("a seq");
            assert!(seq <= expected, "{} came before its turn", message.id);
            if seq == expected {
                expected += 1;
            } else {
                assert!(message.repeat, "{} came again without the mark", message.id);
            }
        }
        assert_eq!(expected, next_seq[shard as usize], "shard {shard} lost something");
        assert_eq!(reported.get(&shard).copied().unwrap_or(0), next_seq[shard as usize] - 1);
    }
}

#[test]
fn nothing_is_lost_and_order_holds_under_any_broker() {
    let seeds = match std::env::var("RATEWAY_SEED") {
        Ok(seed) => {
            let seed: u64 = seed.parse().expect("RATEWAY_SEED is a number");
            seed..seed + 1
        }
        Err(_) => 0..1000,
    };
    for seed in seeds {
        if let Err(panic) = std::panic::catch_unwind(|| run(seed)) {
            eprintln!("seed {seed}: replay with RATEWAY_SEED={seed}");
            std::panic::resume_unwind(panic);
        }
    }
}

/// Each batch counts once on its way out, whatever happens to the channel, and from its last write on its way back.
#[test]
fn times_are_of_batches() {
    let start = crate::reactor::clock::read().now;
    let ms = |ms: u64| start + Duration::from_millis(ms);
    let mut outbox = Outbox::new(1 << 20);
    for (shard, at) in [(0, 0), (1, 2)] {
        outbox.push(shard, Batch { received_at: Some(ms(at)), ..batch(shard, 1..4) });
    }
    outbox.push(2, batch(2, 1..2));
    let write = |outbox: &mut Outbox| {
        outbox.prepare(4096, 64);
        let count = outbox.slices().map(<[u8]>::len).sum();
        outbox.advance(count, |_| {});
    };
    write(&mut outbox);
    assert!(outbox.has_unstamped());
    outbox.written(ms(4));
    assert!(!outbox.has_unstamped());
    // Three events of 4 ms, three of 2 ms; of the last batch nobody knows when it was read.
    assert_eq!(
        (outbox.timing.receive_to_publish.count(), outbox.timing.receive_to_publish.sum_us),
        (6, 18_000)
    );
    outbox.rewind();
    write(&mut outbox);
    outbox.written(ms(100));
    assert_eq!(outbox.timing.receive_to_publish.count(), 6);
    outbox.timing.now = Some(ms(107));
    outbox.confirm(4, true, |_| {});
    assert_eq!(
        (outbox.timing.publish_to_confirm.count(), outbox.timing.publish_to_confirm.sum_us),
        (3, 21_000)
    );
    outbox.confirm(7, true, |_| {});
    assert_eq!((outbox.timing.publish_to_confirm.count(), outbox.is_empty()), (7, true));
}
