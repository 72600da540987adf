//! What goes when memory is short: messages first, then presences, then members and users not needed elsewhere, and a
//! guild as a whole only when nothing else is left in any partition.
//!
//! Whoever needs a page and finds none makes room: in all partitions by turns, its own among them, as much as a few
//! pages at a time. Partitions that are at work just then are passed over. An entity never drives out what is worth
//! more than itself: a message that finds only presences is not kept.

use crate::cache::kind::Kind;

use super::Step;
use super::keys::{self, key, span};

/// Pages to be free before whoever makes room is content: an insertion needs one for each level of the tree and one
/// more, and the work of finding victims is shared by many insertions.
const PAGES_WANTED: usize = 8;
/// But not more than this part of a small region.
const PAGES_SHARE: usize = 8;
/// Entries that one partition gives at a time.
const ENTRIES_PER_VISIT: u64 = 256;
/// Times that room is made for one insertion, before it is given up: others may take what one frees.
const ROUNDS_MAX: usize = 64;

/// What is evicted together, the least worth first.
const CLASSES: [Class; 4] = [Class::Message, Class::Presence, Class::Member, Class::Guild];

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    Message,
    Presence,
    Member,
    Guild,
}

impl Class {
    fn of(row: u8) -> Class {
        match row {
            keys::MESSAGE | keys::RING | keys::RING_OF => Class::Message,
            keys::PRESENCE => Class::Presence,
            keys::MEMBER | keys::USER => Class::Member,
            _ => Class::Guild,
        }
    }
}

/// Where the search for victims goes on, so that none is spared.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Cursors {
    ring: u64,
    presence: (u64, u64),
    member: (u64, u64),
    guild: u64,
}

impl Step<'_> {
    fn has_room(&self) -> bool {
        let usage = self.common.region.usage();
        let wanted = PAGES_WANTED.min(usage.pages as usize / PAGES_SHARE).max(1);
        (usage.pages - usage.used) as usize >= wanted
    }

    /// Makes room for an insertion into `row`; false when there is nothing that it may drive out.
    pub(super) fn relieve(&mut self, row: u8) -> bool {
        if std::mem::replace(&mut self.relieving, true) {
            // Making room needs none.
            return false;
        }
        self.rounds += 1;
        let freed = self.rounds <= ROUNDS_MAX && self.make_room(Class::of(row));
        self.relieving = false;
        freed
    }

    fn make_room(&mut self, most: Class) -> bool {
        if self.visit_all(|step| step.sweep(ENTRIES_PER_VISIT as usize) as u64) {
            return true;
        }
        for class in CLASSES.into_iter().filter(|class| *class <= most) {
            if self.visit_all(|step| step.evict(class)) {
                if class == Class::Guild {
                    self.common.note_sizing();
                }
                return true;
            }
        }
        false
    }

    /// Lets each partition give something until there is room; whether any has given.
    fn visit_all(&mut self, give: impl Fn(&mut Step<'_>) -> u64) -> bool {
        let mut any = false;
        loop {
            let mut given = 0;
            for _ in 0..self.all.len().max(1) {
                let turn = self.common.next_victim(self.all.len());
                given += if turn == usize::from(self.p.index) {
                    give(self)
                } else if let Some(mut other) = self.all.get(turn).and_then(|other| other.try_lock()) {
                    if other.changing {
                        // Its last change broke off; its own next event sees to it.
                        continue;
                    }
                    let (common, all) = (self.common, self.all);
                    let mut step = Step::new(common, all, &mut other, self.tools);
                    step.relieving = true;
                    let given = give(&mut step);
                    other.tell(common);
                    given
                } else {
                    0
                };
                if given > 0 && self.has_room() {
                    return true;
                }
            }
            any |= given > 0;
            if given == 0 {
                return any;
            }
        }
    }

    /// Evicts some of a class; how many entries.
    fn evict(&mut self, class: Class) -> u64 {
        let kind = match class {
            Class::Message => Kind::Message,
            Class::Presence => Kind::Presence,
            Class::Member => Kind::Member,
            Class::Guild => Kind::Guild,
        };
        if self.p.counts.get(kind) == 0 {
            return 0;
        }
        let evicted = match class {
            Class::Message => self.evict_messages(),
            Class::Presence => self.evict_presences(),
            Class::Member => self.evict_members(),
            Class::Guild => self.evict_guild(),
        };
        self.common.totals.evict(kind, evicted);
        evicted
    }

    /// The older half of some channels' messages.
    fn evict_messages(&mut self) -> u64 {
        let mut evicted = 0;
        let mut wrapped = false;
        while evicted < ENTRIES_PER_VISIT {
            let (_, to) = span(keys::RING, 0);
            let next = self.p.tree.first(key(keys::RING, 0, self.p.cursors.ring), to);
            let Some(channel) = next.map(|key| key.b) else {
                if std::mem::replace(&mut wrapped, true) {
                    break;
                }
                self.p.cursors.ring = 0;
                continue;
            };
            self.p.cursors.ring = channel.saturating_add(1);
            let messages = self.p.ring(channel).map_or(0, |head| head.messages);
            evicted += self.drop_oldest(channel, messages.div_ceil(2).max(1));
        }
        evicted
    }

    fn evict_presences(&mut self) -> u64 {
        let mut evicted = 0;
        let mut wrapped = false;
        while evicted < ENTRIES_PER_VISIT {
            let (people, user) = self.p.cursors.presence;
            let to = key(keys::PRESENCE, u64::MAX, u64::MAX);
            match self.p.tree.first(key(keys::PRESENCE, people, user), to) {
                Some(next) => {
                    self.p.cursors.presence = (next.a, next.b);
                    self.erase(next);
                    evicted += 1;
                }
                None if std::mem::replace(&mut wrapped, true) => break,
                None => self.p.cursors.presence = (0, 0),
            }
        }
        evicted
    }

    /// Members, and with them the users that nothing else refers to. The bot itself stays.
    fn evict_members(&mut self) -> u64 {
        let mut evicted = 0;
        let mut wrapped = false;
        while evicted < ENTRIES_PER_VISIT {
            let (people, user) = self.p.cursors.member;
            let to = key(keys::MEMBER, u64::MAX, u64::MAX);
            match self.p.tree.first(key(keys::MEMBER, people, user), to) {
                Some(next) => {
                    self.p.cursors.member =
                        if next.b == u64::MAX { (next.a + 1, 0) } else { (next.a, next.b + 1) };
                    if self.p.me != Some(next.b) {
                        self.forget_member(next.a, next.b);
                        evicted += 1;
                    }
                }
                None if std::mem::replace(&mut wrapped, true) => break,
                None => self.p.cursors.member = (0, 0),
            }
        }
        evicted
    }

    /// One guild with all that is in it, but not the one that the event is about.
    fn evict_guild(&mut self) -> u64 {
        for _ in 0..2 {
            let (_, to) = span(keys::GUILD, 0);
            let mut next = self.p.tree.first(key(keys::GUILD, 0, self.p.cursors.guild), to);
            if next.is_some_and(|key| Some(key.b) == self.guild) {
                let after = next.and_then(|key| key.b.checked_add(1));
                next = after.and_then(|after| self.p.tree.first(key(keys::GUILD, 0, after), to));
            }
            if let Some(guild) = next.map(|key| key.b) {
                self.p.cursors.guild = guild.saturating_add(1);
                self.drop_guild(guild);
                return 1;
            }
            self.p.cursors.guild = 0;
        }
        0
    }
}
