//! What all partitions share: options, the region, shapes, the directory, totals, the bot's own user.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::arena::{PAGE_BYTES, Region};
use super::counts::Totals;
use super::directory::Directory;
use super::encoding::{Context, Entity, Pick, Shapes, Value};
use super::kept::User;
use super::kind::{Kind, KindSet};
use super::partition::Tools;

/// What the cache is to hold.
#[derive(Clone, Debug)]
pub struct Holding {
    /// Kinds that are held.
    pub kinds: KindSet,
    /// Messages kept per channel.
    pub message_cache_size: u32,
    /// Whether Discord tells of each change of a member (the intent GUILD_MEMBERS): what other events say of one that
    /// is held is then no news and is passed over.
    pub members_are_told: bool,
}

/// The bot's own user, the same for all shards.
struct Own {
    id: u64,
    bytes: Vec<u8>,
}

/// What all partitions share.
pub struct Common {
    pub options: Holding,
    pub region: Arc<Region>,
    pub shapes: Shapes,
    pub directory: Directory,
    pub totals: Totals,
    current_user: Mutex<Option<Own>>,
    /// Where he is written as well, if there is a file.
    kept_user: Option<User>,
    victim: AtomicUsize,
    sizing_problem: AtomicBool,
    sizing_told: AtomicBool,
}

impl Common {
    /// With nothing held yet.
    pub fn new(options: Holding, region: Arc<Region>, shapes: Shapes, directory: Directory) -> Common {
        Common {
            options,
            region,
            shapes,
            directory,
            totals: Totals::default(),
            current_user: Mutex::new(None),
            kept_user: None,
            victim: AtomicUsize::new(0),
            sizing_problem: AtomicBool::new(false),
            sizing_told: AtomicBool::new(false),
        }
    }

    /// Keeps the bot's own user in a file from now on, and takes who is there. False: there is one, and he is damaged.
    pub fn keep_user_in(&mut self, kept: User) -> bool {
        let found = kept.read().map(|(id, bytes)| Own { id, bytes });
        let sound = found.as_ref().is_none_or(|own| {
            let context = Context { own: own.id, parent: 0 };
            Entity { bytes: &own.bytes, context, shapes: &self.shapes }.verify(&mut Vec::new())
        });
        if sound {
            *self.current_user.get_mut() = found;
        } else {
            kept.clear();
        }
        self.kept_user = Some(kept);
        sound
    }

    /// Whether the cache lives in a file.
    pub fn is_kept(&self) -> bool {
        self.kept_user.is_some()
    }

    fn keep_user(&self, own: &Own) {
        if let Some(kept) = &self.kept_user {
            kept.write(own.id, &own.bytes);
        }
    }

    /// Bytes of the region.
    pub fn region_bytes(&self) -> usize {
        self.region.page_count() as usize * PAGE_BYTES
    }

    /// Whose turn it is to give memory back.
    pub fn next_victim(&self, partitions: usize) -> usize {
        // Ordering: any turn will do.
        self.victim.fetch_add(1, Ordering::Relaxed) % partitions.max(1)
    }

    /// A guild had to go because nothing else was left.
    pub fn note_sizing(&self) {
        self.sizing_problem.store(true, Ordering::Relaxed);
    }

    /// Whether that has happened for the first time since the start.
    pub fn take_sizing_problem(&self) -> bool {
        // Nearly always there is none, and then this writes nothing.
        self.sizing_problem.load(Ordering::Relaxed) && !self.sizing_told.swap(true, Ordering::Relaxed)
    }

    /// READY tells who the bot is.
    pub fn set_current_user(&self, id: u64, user: Value<'_>, tools: &mut Tools) {
        let mut bytes = Vec::new();
        let context = Context { own: id, parent: 0 };
        if tools.encoder.encode(user, Pick::All, context, &self.shapes, &mut bytes).is_ok() {
            let own = Own { id, bytes };
            let mut current = self.current_user.lock();
            self.keep_user(&own);
            *current = Some(own);
        }
    }

    /// USER_UPDATE; false if it is about somebody else.
    pub fn merge_current_user(&self, id: u64, user: Value<'_>, tools: &mut Tools) -> bool {
        let mut current = self.current_user.lock();
        let Some(own) = &mut *current else {
            drop(current);
            self.set_current_user(id, user, tools);
            return true;
        };
        if own.id != id {
            return false;
        }
        let old = Entity { bytes: &own.bytes, context: Context { own: id, parent: 0 }, shapes: &self.shapes };
        let mut bytes = Vec::new();
        if tools.encoder.merge(old, user, Pick::All, &mut bytes).is_ok() {
            own.bytes = bytes;
            self.keep_user(own);
        }
        true
    }

    /// Appends the bot's own user; false if nothing is known.
    pub fn write_current_user(&self, out: &mut Vec<u8>) -> bool {
        if !self.options.kinds.contains(Kind::CurrentUser) {
            return false;
        }
        let current = self.current_user.lock();
        let Some(own) = &*current else { return false };
        let context = Context { own: own.id, parent: 0 };
        Entity { bytes: &own.bytes, context, shapes: &self.shapes }.write(out).is_ok()
    }
}
