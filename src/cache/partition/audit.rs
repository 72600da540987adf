//! Whether what stands in several rows agrees: for tests and fuzzing, and slow.

use std::collections::{BTreeMap, BTreeSet};

use crate::cache::arena::Key;
use crate::cache::common::Common;
use crate::cache::encoding::{Context, Entity};
use crate::cache::kind::{KINDS, Kind};

use super::Partition;
use super::keys::{self, AT, GuildHead, RingHead, at_row, take_number, take_u64};
use super::rows::{head_len, kind_of};

/// All rows of a partition, and what is wrong with them.
struct Audit<'a> {
    common: &'a Common,
    rows: BTreeMap<(u8, u64, u64), Vec<u8>>,
    /// number -> guild
    guilds: BTreeMap<u64, u64>,
    people: BTreeSet<u64>,
    /// How often each user ought to be referred to.
    references: BTreeMap<u64, u64>,
    /// What the directory ought to have.
    listed: BTreeSet<(u8, u64)>,
    faults: Vec<String>,
}

fn number(mut value: &[u8]) -> u64 {
    take_number(&mut value)
}

impl Partition {
    /// All that it holds.
    #[cfg(test)]
    pub fn rows(&self) -> Vec<(Key, Vec<u8>)> {
        let (from, to) = (Key { kind: 0, a: 0, b: 0 }, Key { kind: 0xfe, a: u64::MAX, b: u64::MAX });
        let rows = self.tree.range(from, to).map(|(key, value)| {
            let mut bytes = Vec::new();
            value.read_into(&mut bytes);
            (key, bytes)
        });
        rows.collect()
    }

    /// What does not agree, in words, and how many entries the directory ought to have of this partition.
    pub fn audit(&self, common: &Common) -> (Vec<String>, usize) {
        let (from, to) = (Key { kind: 0, a: 0, b: 0 }, Key { kind: 0xfe, a: u64::MAX, b: u64::MAX });
        let mut rows = BTreeMap::new();
        for (key, value) in self.tree.range(from, to) {
            let mut bytes = Vec::new();
            value.read_into(&mut bytes);
            rows.insert((key.kind, key.a, key.b), bytes);
        }
        let mut audit = Audit {
            common,
            rows,
            guilds: BTreeMap::new(),
            people: BTreeSet::new(),
            references: self.own_reference.into_iter().map(|user| (user, 1)).collect(),
            listed: BTreeSet::new(),
            faults: Vec::new(),
        };
        audit.guilds();
        let rows = std::mem::take(&mut audit.rows);
        audit.rows = rows.clone();
        rows.iter().for_each(|(key, value)| audit.row(*key, value));
        audit.rings();
        audit.users();
        audit.counts(self);
        for (row, id) in &audit.listed {
            let candidates = common.directory.candidates(*row, *id);
            if !candidates.everybody && !candidates.shards().contains(&self.index) {
                audit.faults.push(format!("the directory does not name row {row} {id}"));
            }
        }
        (audit.faults, audit.listed.len())
    }
}

impl Audit<'_> {
    fn expect(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.faults.push(what());
        }
    }

    fn of(&self, row: u8, a: u64, b: u64) -> Option<&[u8]> {
        self.rows.get(&(row, a, b)).map(Vec::as_slice)
    }

    fn is_number(&self, row: u8, a: u64, b: u64, wanted: u64) -> bool {
        self.of(row, a, b).is_some_and(|value| number(value) == wanted)
    }

    fn is_doomed(&self, row: u8, number: u64) -> bool {
        self.of(keys::DOOMED, row.into(), number).is_some()
    }

    fn guilds(&mut self) {
        let all: Vec<(u64, GuildHead)> = (self.rows.iter())
            .filter(|((row, ..), _)| *row == keys::GUILD)
            .map(|((_, _, guild), value)| (*guild, GuildHead::take(&mut value.as_slice())))
            .collect();
        for (guild, head) in all {
            self.guilds.insert(head.number, guild);
            self.people.insert(head.people);
            let of = self.of(keys::GUILD_OF, 0, head.number).map(|mut value| take_u64(&mut value));
            self.expect(of == Some(guild), || format!("guild {guild} is not found by its number: {of:?}"));
        }
    }

    fn row(&mut self, (row, a, b): (u8, u64, u64), value: &[u8]) {
        let guild = self.guilds.get(&a).copied();
        let what = || format!("row {row} {a} {b}");
        match row {
            keys::GUILD | keys::USER | keys::MESSAGE | keys::DOOMED => {}
            keys::GUILD_OF => self.expect(self.guilds.contains_key(&b), what),
            keys::CHANNEL | keys::THREAD => {
                let place = a << 1 | u64::from(row == keys::THREAD);
                self.expect(guild.is_some() && self.is_number(keys::CHANNEL_AT, 0, b, place), what);
                if row == keys::THREAD
                    && let Some(parent) = self.parent(a, b)
                {
                    self.expect(self.of(keys::THREAD_OF, parent, b).is_some(), what);
                }
            }
            keys::CHANNEL_AT => {
                self.listed.insert((row, b));
                let place = number(value);
                let at = if place & 1 == 1 { keys::THREAD } else { keys::CHANNEL };
                self.expect(self.of(at, place >> 1, b).is_some(), what);
            }
            keys::PRIVATE => {
                self.listed.insert((keys::CHANNEL_AT, b));
                let context = Context { own: b, parent: 0 };
                let entity = Entity { bytes: value, context, shapes: &self.common.shapes };
                let list = entity.field("recipients").ok().flatten();
                let users = list.iter().flat_map(|list| list.elements());
                let users: BTreeSet<u64> = users.filter_map(|user| user.get("id").ok()??.as_id()).collect();
                users.into_iter().for_each(|user| *self.references.entry(user).or_default() += 1);
            }
            keys::THREAD_OF => {
                let place = self.of(keys::CHANNEL_AT, 0, b).map(number);
                let parent =
                    place.filter(|place| place & 1 == 1).and_then(|place| self.parent(place >> 1, b));
                self.expect(parent == Some(a), what);
            }
            keys::ROLE..=keys::INTEGRATION => {
                self.expect(guild.is_some() && self.is_number(at_row(row), 0, b, a), what);
            }
            15..=21 => {
                self.listed.insert((row, b));
                self.expect(self.of(row - AT, number(value), b).is_some(), what);
            }
            keys::MEMBER | keys::PRESENCE => {
                if row == keys::MEMBER {
                    *self.references.entry(b).or_default() += 1;
                }
                self.expect(self.people.contains(&a) || self.is_doomed(row, a), what);
            }
            keys::VOICE => {
                let channel = take_u64(&mut &*value);
                self.expect(guild.is_some() && self.is_number(keys::VOICE_IN, channel, b, a), what);
            }
            keys::VOICE_IN => {
                self.listed.insert((row, a));
                let of = self.of(keys::VOICE, number(value), b).map(|mut value| take_u64(&mut value));
                self.expect(of == Some(a), what);
            }
            keys::RING => {
                self.listed.insert((row, b));
                let of = RingHead::take(value).number;
                let sound = of.is_none_or(|of| {
                    self.guilds.contains_key(&of) && self.of(keys::RING_OF, of, b).is_some()
                });
                self.expect(sound, what);
            }
            keys::RING_OF => {
                let of = self.of(keys::RING, 0, b).and_then(|value| RingHead::take(value).number);
                self.expect(of == Some(a), what);
            }
            keys::STRIP => self.expect(self.people.contains(&a), what),
            _ => self.faults.push(what()),
        }
    }

    /// The parent of a thread, by its object.
    fn parent(&self, number: u64, thread: u64) -> Option<u64> {
        let bytes = self.of(keys::THREAD, number, thread)?;
        let context = Context { own: thread, parent: self.guilds.get(&number).copied().unwrap_or(0) };
        let entity = Entity { bytes, context, shapes: &self.common.shapes };
        entity.field("parent_id").ok()??.as_id()
    }

    fn rings(&mut self) {
        let mut messages: BTreeMap<u64, u64> = BTreeMap::new();
        for (_, ring, _) in self.rows.keys().filter(|(row, ..)| *row == keys::MESSAGE) {
            *messages.entry(*ring).or_default() += 1;
        }
        let heads: Vec<RingHead> = (self.rows.iter())
            .filter(|((row, ..), _)| *row == keys::RING)
            .map(|(_, value)| RingHead::take(value))
            .collect();
        for head in heads {
            let there = messages.remove(&head.ring).unwrap_or(0);
            self.expect(there == head.messages && there > 0, || format!("{there} messages in {head:?}"));
        }
        for ring in messages.into_keys() {
            self.expect(self.is_doomed(keys::MESSAGE, ring), || {
                format!("messages of ring {ring}, which is gone")
            });
        }
    }

    fn users(&mut self) {
        let mut wanted = std::mem::take(&mut self.references);
        let users: Vec<(u64, u64, bool)> = (self.rows.iter())
            .filter(|((row, ..), _)| *row == keys::USER)
            .map(|((_, _, user), value)| (*user, number(value), value.len() > head_len(keys::USER, value)))
            .collect();
        for (user, references, known) in users {
            let wanted = wanted.remove(&user).unwrap_or(0);
            self.expect(references == wanted, || {
                format!("user {user} has {references} references for {wanted}")
            });
            if known {
                self.listed.insert((keys::USER, user));
            }
        }
        for (user, count) in wanted {
            self.faults.push(format!("user {user} is gone, though {count} refer to him"));
        }
    }

    fn counts(&mut self, p: &Partition) {
        let rows = |row: u8| self.rows.keys().filter(|(of, ..)| *of == row).count() as u64;
        let mut wrong = Vec::new();
        for kind in KINDS.into_iter().filter(|kind| *kind != Kind::CurrentUser) {
            let there = match kind {
                Kind::User => self.listed.iter().filter(|(row, _)| *row == keys::USER).count() as u64,
                _ => (0..=u8::MAX).filter(|row| kind_of(*row) == Some(kind)).map(rows).sum(),
            };
            if p.counts.get(kind) != there {
                wrong.push(format!("{kind:?} is counted {} times for {there}", p.counts.get(kind)));
            }
        }
        let flagged = (self.rows.iter())
            .filter(|((row, ..), value)| {
                *row == keys::GUILD && GuildHead::take(&mut value.as_slice()).unavailable
            })
            .count() as u64;
        for (name, counted, there) in [
            ("unavailable", p.counts.unavailable(), flagged),
            ("doomed", p.doomed, rows(keys::DOOMED)),
            ("strips", p.strips, rows(keys::STRIP)),
        ] {
            if counted != there {
                wrong.push(format!("{name} is counted {counted} times for {there}"));
            }
        }
        self.faults.append(&mut wrong);
    }
}
