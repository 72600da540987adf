//! The spool against a plain queue, over thousands of seeds: short writes, full disks, reads and writes that fail, and the
//! end of the process between any two steps and within a write. RATEWAY_SEED runs one seed again, RATEWAY_SEEDS says how
//! many there are.

use std::collections::VecDeque;

use super::sim::Sim;
use super::{Event, append, drain, events, options};
use crate::base::Rng;
use crate::state::spool::{Block, Error, Next, Note, Options, Spool};

const SEEDS: u64 = 3000;

#[derive(Clone, Debug)]
struct Held {
    event: Event,
    /// It was said on appending that it may have been published.
    marked: bool,
    /// For sure: the cursor was written.
    handed: bool,
    confirmed: bool,
    /// In this process, and the cursor is not written yet.
    handed_now: bool,
    confirmed_now: bool,
    /// Neither a yes nor a no: a process ended over it.
    handed_perhaps: bool,
    confirmed_perhaps: bool,
}

/// What the queue is known to hold, in order. Confirmed events leave it when the next process has shown what it knows.
struct Oracle {
    held: VecDeque<Held>,
    /// How many of `held` the present process has handed out or found confirmed.
    read: usize,
    /// Numbers that were told, and how many of `held` are before each.
    ends: VecDeque<(u64, usize)>,
}

struct Run {
    rng: Rng,
    sim: Sim,
    options: Options,
    oracle: Oracle,
    seq: Vec<u64>,
    spool: Option<Spool<Sim>>,
    shed: u64,
    processes: u64,
    died: u64,
}

#[test]
fn a_spool_is_a_queue_whatever_happens() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seeds = match number("RATEWAY_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("RATEWAY_SEEDS").unwrap_or(SEEDS),
    };
    let mut totals = [0u64; 6];
    for seed in seeds {
        let _tell = Tell(seed);
        let mut run = Run::new(seed);
        for _ in 0..run.rng.below(120) {
            run.step();
        }
        run.finish(&mut totals);
    }
    println!(
        "appended {}, processes {}, died {}, shed {}, full {}, system errors {}",
        totals[0], totals[1], totals[2], totals[3], totals[4], totals[5]
    );
}

struct Tell(u64);

impl Drop for Tell {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("replay with RATEWAY_SEED={}", self.0);
        }
    }
}

impl Run {
    fn new(seed: u64) -> Run {
        let mut rng = Rng::new(seed);
        let options = Options {
            bytes_max: 1000 + rng.below(20_000),
            segment_bytes: 64 + rng.below(4000),
            shed_from_percent: rng.below(101) as u8,
            shed: if rng.chance(1, 2) { vec!["TYPING".into()] } else { Vec::new() },
            boot: 1,
        };
        let sim = Sim::new(rng.next_u64());
        {
            let mut faults = sim.faults.borrow_mut();
            // Whole kinds of faults are off in most runs, so that the others get far.
            if rng.chance(1, 3) {
                faults.eio_in = 2 + rng.below(40);
            }
            if rng.chance(1, 2) {
                faults.short_in = 1 + rng.below(8);
            }
            if rng.chance(1, 3) {
                faults.disk_max = rng.below(options.bytes_max);
            }
        }
        let oracle = Oracle { held: VecDeque::new(), read: 0, ends: VecDeque::new() };
        Run { rng, sim, options, oracle, seq: vec![0; 3], spool: None, shed: 0, processes: 0, died: 0 }
    }

    fn step(&mut self) {
        if self.spool.is_none() {
            return self.open();
        }
        match self.rng.below(20) {
            0 => {
                // The end, at a call that is still to come.
                let calls = self.rng.below(12);
                self.sim.faults.borrow_mut().calls_left = Some(calls);
            }
            // The end, between two calls.
            1 => self.spool = None,
            2..=9 => self.append(),
            10..=15 => self.next(),
            _ => self.confirm(),
        }
        let written = self.sim.disk.borrow().bytes_peak;
        assert!(written <= self.options.bytes_max, "{written} bytes on disk");
        if self.sim.is_dead() {
            self.died += u64::from(self.spool.take().is_some());
        } else if let Some(spool) = &self.spool {
            let on_disk: usize = self.sim.disk.borrow().files.values().map(Vec::len).sum();
            // A cursor may not be there yet, or half.
            assert!(spool.bytes() + 256 >= on_disk as u64, "{} < {on_disk}", spool.bytes());
        }
    }

    /// After each call that wrote the cursor well, what is known is known for sure.
    fn settle_oracle(&mut self) {
        let unsure = self.sim.is_dead() || self.sim.faults.borrow().cursor_failed;
        if !unsure {
            for held in &mut self.oracle.held {
                held.handed |= std::mem::take(&mut held.handed_now);
                held.confirmed |= std::mem::take(&mut held.confirmed_now);
            }
        }
    }

    fn open(&mut self) {
        self.sim.restart();
        if self.rng.chance(1, 4) {
            let calls = self.rng.below(20);
            self.sim.faults.borrow_mut().calls_left = Some(calls);
        }
        self.processes += 1;
        self.sim.faults.borrow_mut().cursor_failed = false;
        let eio_in = self.sim.faults.borrow().eio_in;
        // Damage by reads that fail is not what is looked at here: a segment that cannot be scanned has losses.
        self.sim.faults.borrow_mut().eio_in = 0;
        let opened = Spool::open_in(self.sim.clone(), self.options.clone());
        self.sim.faults.borrow_mut().eio_in = eio_in;
        if self.sim.is_dead() {
            return;
        }
        let (spool, recovered) = opened.expect("a spool");
        for held in &mut self.oracle.held {
            held.handed_perhaps |= std::mem::take(&mut held.handed_now);
            held.confirmed_perhaps |= std::mem::take(&mut held.confirmed_now);
        }
        // What is confirmed for sure never comes again.
        while self.oracle.held.front().is_some_and(|held| held.confirmed) {
            self.oracle.held.pop_front();
        }
        self.oracle.read = 0;
        self.oracle.ends.clear();
        for reach in &recovered.reach {
            assert!(reach.seq <= self.seq[reach.shard as usize], "{reach:?} was never written");
        }
        // The last of each shard that waits is within reach.
        for shard in 0..self.seq.len() as u32 {
            let last = self
                .oracle
                .held
                .iter()
                .rev()
                .find(|held| held.event.shard == shard && !held.confirmed_perhaps && held.event.seq > 0);
            if let Some(last) = last {
                let reach = recovered.reach.iter().find(|reach| reach.shard == shard);
                assert!(reach.is_some_and(|reach| reach.seq >= last.event.seq), "{reach:?} but {last:?}");
            }
        }
        self.spool = Some(spool);
    }

    fn append(&mut self) {
        let Some(spool) = &mut self.spool else { return };
        let shard = self.rng.below(self.seq.len() as u64) as u32;
        let mut batch = Vec::new();
        for _ in 0..1 + self.rng.below(4) {
            self.seq[shard as usize] += 1;
            let class = if self.rng.chance(1, 3) { "TYPING" } else { "MESSAGE" };
            let filling = self.rng.below(120) as usize;
            let seq = self.seq[shard as usize];
            let text = format!("{class}:{shard}.{seq}.{}", "x".repeat(filling));
            let seq = if self.rng.chance(1, 10) { 0 } else { seq };
            batch.push(Event::new(shard, 5, seq, &text));
        }
        let marked = self.rng.chance(1, 10);
        let shedding = spool.is_shedding();
        let before = spool.bytes();
        let result = append(spool, &batch, marked);
        let is_shed =
            |event: &Event| shedding && !self.options.shed.is_empty() && event.text.starts_with(b"TYPING");
        let held = |event: Event| Held {
            event,
            marked,
            handed: false,
            confirmed: false,
            handed_now: false,
            confirmed_now: false,
            handed_perhaps: false,
            confirmed_perhaps: false,
        };
        let kept: Vec<Held> = batch.iter().filter(|event| !is_shed(event)).cloned().map(held).collect();
        match result {
            Ok(appended) => {
                assert_eq!(appended.records, kept.len());
                assert_eq!(appended.shed, batch.len() - kept.len());
                assert!(spool.bytes() <= self.options.bytes_max);
                self.shed += appended.shed as u64;
                self.oracle.held.extend(kept);
                if appended.records > 0 {
                    self.oracle.ends.push_back((appended.end, self.oracle.held.len()));
                }
            }
            Err(Error::Full) => {
                assert!(before + 500 + 4 * 180 > self.options.bytes_max, "full at {before} bytes");
            }
            Err(Error::Io(error)) => {
                if self.sim.is_dead() {
                    // It may be there as a whole, if the very last octet came through.
                    self.oracle.ends.clear();
                    self.recount(kept);
                } else {
                    let faults = self.sim.faults.borrow();
                    assert!(faults.eio_in > 0 || faults.disk_max < u64::MAX, "{error}");
                }
            }
            Err(error) => panic!("{error}"),
        }
    }

    /// Looks with a process of its own, which leaves no trace, whether a write that the process died in counts.
    fn recount(&mut self, kept: Vec<Held>) {
        let copy = Sim::new(0);
        copy.disk.borrow_mut().files = self.sim.disk.borrow().files.clone();
        let (mut spool, _) = Spool::open_in(copy, self.options.clone()).expect("a spool");
        let (read, losses) = super::drain(&mut spool);
        assert!(losses.is_empty(), "{losses:?}");
        let last = kept.last().map(|held| &held.event);
        if !kept.is_empty() && read.last().map(|(event, _)| event) == last {
            self.oracle.held.extend(kept);
        }
    }

    fn next(&mut self) {
        let Some(spool) = &mut self.spool else { return };
        let mut block = Block::default();
        match spool.next(&mut block) {
            Ok(Next::Block) => {
                let read = events(&block);
                // Perhaps confirmed is perhaps not there.
                while let Some(held) = self.oracle.held.get_mut(self.oracle.read)
                    && held.confirmed_perhaps
                    && held.event != read[0]
                {
                    held.confirmed = true;
                    self.oracle.read += 1;
                }
                for event in read {
                    let at = self.oracle.read;
                    let held = self.oracle.held.get_mut(at).expect("nothing is invented");
                    assert_eq!(event, held.event, "in order");
                    // A block is marked as a whole.
                    let must = held.marked || held.handed;
                    assert!(block.maybe_published || !must, "a repeat without the mark: {held:?}");
                    assert!(
                        !block.maybe_published || must || held.handed_perhaps,
                        "a mark without a reason: {held:?}"
                    );
                    held.handed_now = true;
                    held.confirmed_perhaps = false;
                    self.oracle.read += 1;
                }
                self.oracle.ends.retain(|&(_, count)| count > self.oracle.read);
                self.oracle.ends.push_front((block.end, self.oracle.read));
            }
            Ok(Next::Lost(loss)) => panic!("{loss:?}"),
            Ok(Next::End) => {
                if !self.sim.is_dead() {
                    for held in self.oracle.held.range_mut(self.oracle.read..) {
                        assert!(held.confirmed_perhaps, "lost: {held:?}");
                        held.confirmed = true;
                    }
                    self.oracle.read = self.oracle.held.len();
                }
            }
            Err(Error::Io(error)) => {
                assert!(self.sim.is_dead() || self.sim.faults.borrow().eio_in > 0, "{error}");
                // A block may have been on its way out; the cursor says so or not.
                if self.sim.is_dead() {
                    self.may_be_handed();
                }
            }
            Err(error) => panic!("{error}"),
        }
        if self.sim.is_dead() {
            self.may_be_handed();
        }
        self.settle_oracle();
    }

    /// The process died while it handed out the next block.
    fn may_be_handed(&mut self) {
        let from = self.oracle.read.min(self.oracle.held.len());
        for held in self.oracle.held.range_mut(from..) {
            held.handed_perhaps = true;
        }
    }

    fn confirm(&mut self) {
        let Some(spool) = &mut self.spool else { return };
        // A number of a block that was handed out, or one within it.
        let handed: Vec<(u64, usize)> =
            self.oracle.ends.iter().copied().filter(|&(_, count)| count <= self.oracle.read).collect();
        let Some(&(end, count)) = handed.last() else { return };
        let back = self.rng.below(4).min(count as u64).min(end);
        // Numbers run with the events as long as nothing was lost between.
        let confirmed = count - back as usize;
        let result = spool.confirmed(end - back);
        for held in self.oracle.held.range_mut(..confirmed) {
            held.confirmed_now = true;
        }
        if let Err(error) = result {
            let faults = self.sim.faults.borrow();
            let expected = faults.dead || faults.eio_in > 0 || faults.disk_max < u64::MAX;
            assert!(expected, "{error}");
        }
        self.settle_oracle();
    }

    /// Without faults everything comes out, and the folder is empty.
    fn finish(mut self, totals: &mut [u64; 6]) {
        if let Some(spool) = self.spool.take() {
            let stats = spool.stats();
            totals[4] += stats.full;
            totals[5] += stats.io_errors;
        }
        totals[2] += self.died;
        {
            let mut faults = self.sim.faults.borrow_mut();
            (faults.eio_in, faults.short_in, faults.disk_max) = (0, 0, u64::MAX);
        }
        totals[1] += self.processes;
        while self.spool.is_none() {
            self.open();
        }
        self.sim.faults.borrow_mut().calls_left = None;
        while self.oracle.read < self.oracle.held.len() {
            self.next();
        }
        if let Some(mut spool) = self.spool.take() {
            assert!(matches!(spool.next(&mut Block::default()), Ok(Next::End)));
            spool.confirmed(u64::MAX).expect("a write");
            assert!(spool.is_empty() && spool.waiting() == 0);
            let disk = self.sim.disk.borrow();
            assert_eq!(disk.files.keys().collect::<Vec<_>>(), ["cursor"]);
        }
        totals[0] += self.seq.iter().sum::<u64>();
        totals[3] += self.shed;
    }
}

#[test]
fn what_cannot_be_read_at_a_start_is_not_taken_for_done() {
    let mut hidden = 0;
    for seed in 0..5000 {
        let sim = Sim::new(seed);
        let all: Vec<Event> = (1..30).map(|seq| Event::new(1, 7, seq, &"x".repeat(200))).collect();
        let (mut spool, _) = Spool::open_in(sim.clone(), options()).expect("a spool");
        for event in &all {
            append(&mut spool, std::slice::from_ref(event), false).expect("room");
        }
        drop(spool);
        // The cursor and the first segment may both be out of reach.
        sim.faults.borrow_mut().eio_in = 4;
        let opened = Spool::open_in(sim.clone(), options());
        sim.faults.borrow_mut().eio_in = 0;
        let Ok((spool, recovered)) = opened else { continue };
        hidden += u64::from(recovered.notes.contains(&Note::NoCursor));
        drop(spool);
        let (mut spool, _) = Spool::open_in(sim.clone(), options()).expect("a spool");
        let (out, losses) = drain(&mut spool);
        assert_eq!(out.into_iter().map(|(event, _)| event).collect::<Vec<_>>(), all, "seed {seed}");
        assert_eq!(losses, [], "seed {seed}");
    }
    assert!(hidden > 5, "{hidden} starts without a cursor");
}
