//! What goes when memory is short: messages first, then presences, then members, private channels and users not needed
//! elsewhere, and a guild as a whole only when nothing else is left in any partition.
//!
//! Whoever needs a page and finds none makes room: in all partitions by turns, its own among them, as much as a few
//! pages at a time. Partitions that are at work just then are passed over. An entity never drives out what is worth
//! more than itself: a message that finds only presences is not kept.

use crate::cache::kind::Kind;

use super::Step;
use super::keys::{self, key, span};

/// Pages to be free before whoever makes room is content: an insertion needs one for each level of the tree and one
/// more, and the work of finding victims is shared by many insertions.
const PAGES_WANTED: u32 = 8;
/// But not more than this part of a small region.
const PAGES_SHARE: u32 = 8;
/// The part of the region that is kept for guilds, channels and roles.
const RESERVE_SHARE: u32 = 32;
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
            keys::MEMBER | keys::USER | keys::PRIVATE => Class::Member,
            _ => Class::Guild,
        }
    }

    /// What is evicted of it, in this order.
    fn kinds(self) -> &'static [Kind] {
        match self {
            Class::Message => &[Kind::Message],
            Class::Presence => &[Kind::Presence],
            Class::Member => &[Kind::Member, Kind::PrivateChannel],
            Class::Guild => &[Kind::Guild],
        }
    }
}

/// What became of a round through the partitions.
#[derive(Clone, Copy, Debug, Default)]
struct Visit {
    /// Something was given.
    given: bool,
    /// Some were at work and could not be asked.
    skipped: bool,
}

/// Where the search for victims goes on, so that none is spared.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Cursors {
    ring: u64,
    presence: (u64, u64),
    member: (u64, u64),
    private: u64,
    guild: u64,
}

impl Step<'_> {
    /// Pages that only guilds, channels and roles may take, so that there is room for these while others give theirs
    /// back.
    fn reserve(&self) -> u32 {
        self.common.region.page_count() / RESERVE_SHARE
    }

    fn has_room(&self, class: Class) -> bool {
        let wanted = PAGES_WANTED.min(self.common.region.page_count() / PAGES_SHARE).max(1);
        let reserve = if class == Class::Guild { 0 } else { self.reserve() };
        self.common.region.free_pages() >= wanted + reserve
    }

    /// Whether a row has to make room before it may take some.
    pub(super) fn is_short(&self, row: u8) -> bool {
        Class::of(row) != Class::Guild && self.common.region.free_pages() < self.reserve()
    }

    /// Makes room for an insertion into `row`; false when there is nothing that it may drive out.
    pub(super) fn relieve(&mut self, row: u8) -> bool {
        // Making room needs none, and a note of what is to be swept is not worth anything else.
        if self.relieving || matches!(row, keys::DOOMED | keys::STRIP) {
            return false;
        }
        self.relieving = true;
        self.rounds += 1;
        let freed = self.rounds <= ROUNDS_MAX && self.make_room(Class::of(row));
        self.relieving = false;
        freed
    }

    fn make_room(&mut self, most: Class) -> bool {
        let mut visit = Visit::default();
        if self.common.totals.has_waste() || self.p.has_waste() {
            visit = self.visit_all(most, |step| step.sweep(ENTRIES_PER_VISIT as usize) as u64);
        }
        for class in CLASSES.into_iter().filter(|class| *class <= most) {
            if visit.given {
                return true;
            }
            if class == Class::Guild && visit.skipped {
                // A partition at work may have what is worth less: one entity is not kept rather than a guild lost.
                return false;
            }
            if class.kinds().iter().all(|kind| self.common.totals.held(*kind) + self.p.counts.get(*kind) == 0)
            {
                continue;
            }
            let skipped = visit.skipped;
            visit = self.visit_all(most, |step| step.evict(class));
            visit.skipped |= skipped;
            if visit.given && class == Class::Guild {
                self.common.note_sizing();
            }
        }
        visit.given
    }

    /// Lets each partition give something until there is room.
    fn visit_all(&mut self, most: Class, give: impl Fn(&mut Step<'_>) -> u64) -> Visit {
        let mut visit = Visit::default();
        loop {
            let mut given = 0;
            for _ in 0..self.all.len().max(1) {
                let turn = self.common.next_victim(self.all.len());
                let this = if turn == usize::from(self.p.index) {
                    give(self)
                } else {
                    let other = self.all.get(turn).and_then(|other| other.try_lock());
                    // One whose last change broke off is seen to by its own next event.
                    let Some(mut other) = other.filter(|other| !other.changing) else {
                        visit.skipped = true;
                        continue;
                    };
                    let (common, all) = (self.common, self.all);
                    other.begin(common);
                    let mut step = Step::new(common, all, &mut other, self.tools);
                    step.relieving = true;
                    let given = give(&mut step);
                    other.end(common);
                    given
                };
                given += this;
                if this > 0 && self.has_room(most) {
                    visit.given = true;
                    return visit;
                }
            }
            visit.given |= given > 0;
            if given == 0 {
                return visit;
            }
        }
    }

    /// Evicts some of a class; how many entries.
    fn evict(&mut self, class: Class) -> u64 {
        let mut sum = 0;
        for kind in class.kinds() {
            if sum > 0 || self.p.counts.get(*kind) == 0 {
                continue;
            }
            let evicted = match kind {
                Kind::Message => self.evict_messages(),
                Kind::Presence => self.evict_presences(),
                Kind::Member => self.evict_members(),
                Kind::PrivateChannel => self.evict_private_channels(),
                _ => self.evict_guild(),
            };
            self.common.totals.evict(*kind, evicted);
            sum += evicted;
        }
        sum
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

    /// Private channels, which nobody ever says the end of, with users that nothing else refers to.
    fn evict_private_channels(&mut self) -> u64 {
        let mut evicted = 0;
        let mut wrapped = false;
        let (_, to) = span(keys::PRIVATE, 0);
        while evicted < ENTRIES_PER_VISIT {
            match self.p.tree.first(key(keys::PRIVATE, 0, self.p.cursors.private), to) {
                Some(next) => {
                    self.p.cursors.private = next.b.saturating_add(1);
                    if self.channel != Some(next.b) {
                        self.drop_thread(next.b);
                        evicted += 1;
                    }
                    if next.b == u64::MAX {
                        break;
                    }
                }
                None if std::mem::replace(&mut wrapped, true) => break,
                None => self.p.cursors.private = 0,
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
