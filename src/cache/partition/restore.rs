//! Whether the rows that an earlier process left agree: what `audit.rs` says of them, in one pass and a few sorts, for
//! bytes that are not trusted.
//!
//! Rows that stand for each other (a channel and where it is found, members and the references of their users) are
//! compared by two sums of keyed hashes: what the ones ask for, what the others are. Whoever made the file does not know
//! the seed. That takes no memory, however many rows a file claims to have. The few rows that all others refer to
//! are read first.

use crate::cache::arena::{Damage, Key, PAGE_BYTES, Tree, sip};
use crate::cache::common::Common;
use crate::cache::counts::Counts;
use crate::cache::encoding::{Context, Entity};
use crate::cache::kept::Saved;
use crate::cache::kind::Kind;

use super::Partition;
use super::keys::{self, AT, GuildHead, RingHead, at_row, take_number, take_u64};
use super::pressure::Cursors;
use super::rows::{Memo, head_len, kind_of};

/// More than a partition ever counts to: what is beyond is damage, and what is below never overflows.
const NUMBER_MAX: u64 = 1 << 60;

/// Bytes that a guild, a ring or a note of what is doomed takes at least, with the rows that go with it.
const HEAD_BYTES: usize = 16;

/// A guild as its rows know it.
#[derive(Clone, Copy)]
struct Guild {
    number: u64,
    people: u64,
    id: u64,
}

#[derive(Clone, Copy)]
struct Ring {
    ring: u64,
    channel: u64,
    messages: u64,
}

struct Check<'a> {
    common: &'a Common,
    last_number: u64,
    guilds: Vec<Guild>,
    /// The same by their people.
    people: Vec<(u64, u64)>,
    rings: Vec<Ring>,
    doomed: Vec<(u8, u64)>,
    /// Sums of rows that others ask for, less those that are there. 0 in the end.
    asked: u64,
    /// The same of references to users, as often as they are made, and of messages by ring.
    references: i128,
    messages: i128,
    counts: Counts,
    notes: u64,
    strips: u64,
    scratch: Vec<u8>,
    ids: Vec<u64>,
}

const HEAD: Damage = Damage("a row that says what it never would");
const OBJECT: Damage = Damage("an entity that cannot be read");
const RELATION: Damage = Damage("rows that do not agree");
const NUMBER: Damage = Damage("a number that was never given");

impl Partition {
    /// A partition from a tree that was left behind and what was saved beside it. Everything is checked.
    pub fn restore(
        index: u16,
        tree: Tree,
        saved: &Saved,
        common: &Common,
    ) -> Result<Partition, (Damage, Tree)> {
        let mut tree = tree;
        match Check::new(common, saved).run(&mut tree, saved) {
            Ok((counts, doomed, strips)) => Ok(Partition {
                index,
                tree,
                me: saved.me,
                own_reference: saved.own_reference,
                last_number: saved.last_number,
                counts,
                told: Counts::default(),
                doomed,
                strips,
                cursors: Cursors::default(),
                memo: Memo::default(),
                changing: false,
                position: saved.position,
                record: None,
            }),
            Err(damage) => Err((damage, tree)),
        }
    }
}

/// The guild of such a number or people: the last one looked up, mostly.
fn find<T: Copy>(sorted: &[T], wanted: u64, number: impl Fn(T) -> u64) -> Option<T> {
    sorted.binary_search_by_key(&wanted, |one| number(*one)).ok().map(|at| sorted[at])
}

/// Takes a number that is there.
fn number(value: &mut &[u8]) -> Result<u64, Damage> {
    // A number ends with a byte below 0x80; without one it would be read as 0.
    if !value.iter().take(10).any(|byte| *byte < 0x80) {
        return Err(HEAD);
    }
    Ok(take_number(value))
}

/// A number that is all there is.
fn whole_number(mut value: &[u8]) -> Result<u64, Damage> {
    let found = number(&mut value)?;
    if value.is_empty() { Ok(found) } else { Err(HEAD) }
}

impl<'a> Check<'a> {
    fn new(common: &'a Common, saved: &Saved) -> Check<'a> {
        Check {
            common,
            last_number: saved.last_number,
            guilds: Vec::new(),
            people: Vec::new(),
            rings: Vec::new(),
            doomed: Vec::new(),
            asked: 0,
            references: 0,
            messages: 0,
            counts: Counts::default(),
            notes: 0,
            strips: 0,
            scratch: Vec::new(),
            ids: Vec::new(),
        }
    }

    fn run(mut self, tree: &mut Tree, saved: &Saved) -> Result<(Counts, u64, u64), Damage> {
        if self.last_number > NUMBER_MAX {
            return Err(NUMBER);
        }
        saved.own_reference.into_iter().for_each(|user| self.refer(user, 1));
        self.heads(tree)?;
        let mut pieces = Vec::new();
        tree.verify(&mut pieces, |key, value| self.row(key, value))?;
        self.end()
    }

    /// Reads what others refer to. The tree is not verified yet, so this may be nonsense, but not endless.
    fn heads(&mut self, tree: &Tree) -> Result<(), Damage> {
        let mut bytes = Vec::new();
        let mut left = tree.owned_pages() as usize * (PAGE_BYTES / HEAD_BYTES);
        let mut one_less = || {
            left = left.checked_sub(1).ok_or(RELATION)?;
            Ok(())
        };
        let (from, to) = keys::span(keys::GUILD, 0);
        for (key, value) in tree.range(from, to) {
            one_less()?;
            bytes.clear();
            value.read_into(&mut bytes);
            let GuildHead { number, people, .. } = GuildHead::take(&mut bytes.as_slice());
            self.guilds.push(Guild { number, people, id: key.b });
        }
        let (from, to) = keys::span(keys::RING, 0);
        for (key, value) in tree.range(from, to) {
            one_less()?;
            let head = RingHead::take(value.as_slice().ok_or(HEAD)?);
            self.rings.push(Ring { ring: head.ring, channel: key.b, messages: head.messages });
        }
        let (from, to) = (keys::key(keys::DOOMED, 0, 0), keys::key(keys::DOOMED, u64::MAX, u64::MAX));
        for (key, _) in tree.range(from, to) {
            one_less()?;
            self.doomed.push((u8::try_from(key.a).map_err(|_| HEAD)?, key.b));
        }
        self.doomed.sort_unstable();
        self.people.extend(self.guilds.iter().map(|guild| (guild.people, guild.id)));
        self.people.sort_unstable();
        self.guilds.sort_unstable_by_key(|guild| guild.number);
        self.rings.sort_unstable_by_key(|ring| ring.ring);
        let distinct = self.guilds.windows(2).all(|two| two[0].number < two[1].number)
            && self.people.windows(2).all(|two| two[0].0 < two[1].0)
            && self.rings.windows(2).all(|two| two[0].ring < two[1].ring);
        if distinct { Ok(()) } else { Err(RELATION) }
    }

    fn given(&self, number: u64) -> Result<u64, Damage> {
        if (1..=self.last_number).contains(&number) { Ok(number) } else { Err(NUMBER) }
    }

    /// The guild with that number.
    fn guild(&self, number: u64) -> Result<u64, Damage> {
        find(&self.guilds, number, |guild| guild.number).map(|guild| guild.id).ok_or(RELATION)
    }

    fn object(&mut self, bytes: &[u8], own: u64, parent: u64) -> Result<(), Damage> {
        let context = Context { own, parent };
        let entity = Entity { bytes, context, shapes: &self.common.shapes };
        if entity.verify(&mut self.scratch) { Ok(()) } else { Err(OBJECT) }
    }

    fn entity<'b>(&'b self, bytes: &'b [u8], own: u64, parent: u64) -> Entity<'b> {
        Entity { bytes, context: Context { own, parent }, shapes: &self.common.shapes }
    }

    fn hash(&self, row: u8, a: u64, b: u64, says: u64) -> u64 {
        let seed = self.common.directory.seed();
        sip::hash(seed, row, sip::hash(seed, u8::MAX, a, b), says)
    }

    /// A row that has to be there.
    fn ask(&mut self, row: u8, a: u64, b: u64, says: u64) {
        self.asked = self.asked.wrapping_add(self.hash(row, a, b, says));
    }

    /// A row that is there, and has to be asked for: as no key is there twice, no row is asked for twice.
    fn answer(&mut self, row: u8, a: u64, b: u64, says: u64) {
        self.asked = self.asked.wrapping_sub(self.hash(row, a, b, says));
    }

    fn times(&self, row: u8, id: u64, times: i64) -> i128 {
        i128::from(sip::hash(self.common.directory.seed(), row, id, 0)) * i128::from(times)
    }

    fn refer(&mut self, user: u64, times: i64) {
        // Far from overflow: a tree has less than 2^38 entries, and counts stay below NUMBER_MAX.
        self.references = self.references.wrapping_add(self.times(keys::USER, user, times));
    }

    /// What nothing is known of any more has to be doomed.
    fn orphan(&mut self, row: u8, number: u64) -> Result<(), Damage> {
        self.doomed.binary_search(&(row, number)).map(drop).map_err(|_| RELATION)
    }

    /// A count that cannot overflow anything.
    fn count(&self, count: u64) -> Result<i64, Damage> {
        i64::try_from(count).ok().filter(|count| (1..=NUMBER_MAX as i64).contains(count)).ok_or(HEAD)
    }

    fn row(&mut self, Key { kind: row, a, b }: Key, value: &[u8]) -> Result<(), Damage> {
        if let Some(kind) = kind_of(row) {
            self.counts.add(kind, 1);
        }
        // Rows of one id have nothing else.
        let one_id = matches!(
            row,
            keys::GUILD | keys::GUILD_OF | keys::CHANNEL_AT | keys::PRIVATE | 15
                ..=21 | keys::USER | keys::RING
        );
        if one_id && a != 0 {
            return Err(HEAD);
        }
        let is_empty = || if value.is_empty() { Ok(()) } else { Err(HEAD) };
        match row {
            keys::GUILD => self.guild_row(b, value)?,
            keys::GUILD_OF | keys::VOICE_IN | keys::CHANNEL_AT | 15..=21 => {
                let says = match row {
                    keys::GUILD_OF => value.try_into().map(u64::from_le_bytes).map_err(|_| HEAD)?,
                    _ => whole_number(value)?,
                };
                self.answer(row, a, b, says);
            }
            keys::CHANNEL | keys::THREAD => {
                let guild = self.guild(a)?;
                self.object(value, b, guild)?;
                let is_thread = row == keys::THREAD;
                self.ask(keys::CHANNEL_AT, 0, b, a << 1 | u64::from(is_thread));
                if is_thread {
                    let parent = self.entity(value, b, guild).field("parent_id").map_err(|_| OBJECT)?;
                    let parent = parent.and_then(|field| field.as_id());
                    parent.into_iter().for_each(|parent| self.ask(keys::THREAD_OF, parent, b, 0));
                }
            }
            keys::PRIVATE => {
                self.object(value, b, 0)?;
                let mut ids = std::mem::take(&mut self.ids);
                ids.clear();
                let list = self.entity(value, b, 0).field("recipients").map_err(|_| OBJECT)?;
                let users = list.iter().flat_map(|list| list.elements());
                ids.extend(users.filter_map(|user| user.get("id").ok()??.as_id()));
                ids.sort_unstable();
                ids.dedup();
                ids.iter().for_each(|user| self.refer(*user, 1));
                self.ids = ids;
            }
            keys::THREAD_OF | keys::RING_OF => {
                is_empty()?;
                self.answer(row, a, b, 0);
            }
            keys::ROLE..=keys::INTEGRATION => {
                let guild = self.guild(a)?;
                self.object(value, b, guild)?;
                self.ask(at_row(row), 0, b, a);
            }
            keys::MEMBER | keys::PRESENCE => {
                let guild = find(&self.people, a, |people| people.0).map(|people| people.1);
                self.object(value, b, guild.unwrap_or(u64::MAX))?;
                if guild.is_none() {
                    self.orphan(row, a)?;
                }
                if row == keys::MEMBER {
                    self.refer(b, 1);
                }
            }
            keys::VOICE => {
                let guild = self.guild(a)?;
                let (mut rest, channel) = (value, value.first_chunk::<8>().ok_or(HEAD)?);
                take_u64(&mut rest);
                self.object(rest, b, guild)?;
                self.ask(keys::VOICE_IN, u64::from_le_bytes(*channel), b, a);
            }
            keys::USER => {
                let mut rest = value;
                let references = number(&mut rest)?;
                self.refer(b, -self.count(references)?);
                if !rest.is_empty() {
                    self.object(rest, b, 0)?;
                    self.counts.add(Kind::User, 1);
                }
            }
            keys::RING => {
                let mut rest = value;
                let (ring, messages) = (self.given(number(&mut rest)?)?, number(&mut rest)?);
                whole_number(rest)?;
                let known = find(&self.rings, ring, |ring| ring.ring).ok_or(RELATION)?;
                if known.channel != b || known.messages != messages {
                    return Err(RELATION);
                }
                self.messages += self.times(keys::RING, ring, -self.count(messages)?);
                if let Some(of) = RingHead::take(value).number {
                    self.guild(of)?;
                    self.ask(keys::RING_OF, of, b, 0);
                }
            }
            keys::MESSAGE => {
                let ring = find(&self.rings, a, |ring| ring.ring);
                self.object(value, b, ring.map_or(u64::MAX, |ring| ring.channel))?;
                match ring {
                    Some(_) => self.messages += self.times(keys::RING, a, 1),
                    None => self.orphan(row, a)?,
                }
            }
            keys::DOOMED => {
                is_empty()?;
                let row = u8::try_from(a).map_err(|_| HEAD)?;
                let alive = match row {
                    keys::MEMBER | keys::PRESENCE => find(&self.people, b, |people| people.0).is_some(),
                    keys::MESSAGE => find(&self.rings, b, |ring| ring.ring).is_some(),
                    _ => true,
                };
                if alive {
                    return Err(RELATION);
                }
                self.given(b)?;
                self.orphan(row, b)?;
                self.notes += 1;
            }
            keys::STRIP => {
                let guild = find(&self.people, a, |people| people.0).ok_or(RELATION)?.1;
                let sound = value.len() == 16 && value[8..] == guild.to_le_bytes();
                if !sound {
                    return Err(HEAD);
                }
                self.strips += 1;
            }
            _ => return Err(HEAD),
        }
        Ok(())
    }

    fn guild_row(&mut self, guild: u64, value: &[u8]) -> Result<(), Damage> {
        let mut rest = value;
        let (of, people) = (number(&mut rest)?, number(&mut rest)?);
        self.given(of)?;
        self.given(people)?;
        let (&flag, rest) = rest.split_first().ok_or(HEAD)?;
        // What was read before the tree was known to be sound has to be this.
        let same = find(&self.guilds, of, |guild| guild.number);
        if flag > 1 || !same.is_some_and(|same| same.people == people && same.id == guild) {
            return Err(HEAD);
        }
        debug_assert_eq!(head_len(keys::GUILD, value), value.len() - rest.len());
        self.object(rest, guild, 0)?;
        self.counts.flag_unavailable(false, flag == 1);
        self.ask(keys::GUILD_OF, 0, of, guild);
        Ok(())
    }

    fn end(self) -> Result<(Counts, u64, u64), Damage> {
        // What was read first has to be all that came.
        let guilds = self.counts.get(Kind::Guild) == self.guilds.len() as u64;
        let sums = self.asked == 0 && self.references == 0 && self.messages == 0;
        if guilds && sums && self.notes == self.doomed.len() as u64 {
            Ok((self.counts, self.notes, self.strips))
        } else {
            Err(RELATION)
        }
    }
}

impl Partition {
    /// Calls `each` for what the directory has of this partition.
    pub fn each_listed(&self, mut each: impl FnMut(u8, u64)) {
        let mut rows = |from: u8, to: u8, id_of: fn(Key, &[u8]) -> Option<u64>| {
            let (from, to) = (keys::key(from, 0, 0), keys::key(to, u64::MAX, u64::MAX));
            for (key, value) in self.tree.range(from, to) {
                // A value in pieces is an object's, and that is all that is asked of it.
                if let Some(id) = id_of(key, value.as_slice().unwrap_or(&[0; 64])) {
                    // Private channels are listed among the others.
                    each(if key.kind == keys::PRIVATE { keys::CHANNEL_AT } else { key.kind }, id);
                }
            }
        };
        rows(keys::CHANNEL_AT, keys::PRIVATE, |key, _| Some(key.b));
        rows(keys::ROLE + AT, keys::INTEGRATION + AT, |key, _| Some(key.b));
        rows(keys::USER, keys::USER, |key, value| {
            (value.len() > head_len(keys::USER, value)).then_some(key.b)
        });
        rows(keys::RING, keys::RING, |key, _| Some(key.b));
        // A channel once, however many are in it.
        let (mut from, to) = (keys::key(keys::VOICE_IN, 0, 0), keys::key(keys::VOICE_IN, u64::MAX, u64::MAX));
        while let Some(first) = self.tree.first(from, to) {
            each(keys::VOICE_IN, first.a);
            let Some(next) = first.a.checked_add(1) else { return };
            from = keys::key(keys::VOICE_IN, next, 0);
        }
    }
}
