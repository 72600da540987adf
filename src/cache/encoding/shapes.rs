//! The table of shapes: what objects that differ in values alone have in common, kept once.
//!
//! Enters: an object's text with its small constants in place and a tag (a byte below 0x20, which JSON text never
//! has) where a value varies. Leaves: a number from 1 on, and the text again. Never here: values that vary.
//!
//! ```text
//! {"premium_since":null,"pending":false,"nick":<STRING>,"mute":false,"roles":<ARRAY>}
//! ```
//!
//! All threads share one table. It only grows: a shape is set once, then its number is shown to readers, who take no
//! lock; those who add one do, and look again first. Shapes are never freed: Discord's objects have a few hundred, and
//! a table that only grows needs no care for entities that still name a shape. What could grow without end is held by
//! three limits, each with the same answer, a larger form of the object: one key sequence gets [`VARIANTS_MAX`] shapes
//! and then a general one, whose holes are tagged in the object; the last quarter of the table takes general ones
//! alone; with the table full, objects carry their keys themselves. Each limit, once reached, stays so, which keeps an
//! object's form the same for ever.
//!
//! Shapes with constants are numbered from 1 up and general ones from the end down: nearly all objects have the former,
//! and the first 127 numbers take one byte.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::Error;
use super::coded;
use super::constants::CONSTANTS;
use super::shape::{Shape, check, generalise, keys_are_data};
use crate::cache::arena::words::{self, WORD, Words};

/// Shapes of a table unless told otherwise. The three guilds of the corpus have 256 (`benches/encoding.rs`).
pub const SHAPES_DEFAULT: usize = 4_096;
/// Bytes of texts and slots per shape, on average, beyond which a table is full; the corpus's need 218.
pub const SHAPE_BYTES: usize = 384;
/// Longest text of a shape; longer objects (a guild is about 1,500) carry their keys themselves.
pub const SHAPE_TEXT_MAX: usize = 4_096;
/// Most that one shape takes: a text of empty keys has a slot for each five bytes.
const SHAPE_BYTES_MAX: usize = 3 * SHAPE_TEXT_MAX;
/// Shapes with constants in place per key sequence.
pub const VARIANTS_MAX: u16 = 256;
/// Keys beyond which an object only gets a general shape: nearly every guild has a set of constants of its own.
pub const SPECIFIC_KEYS_MAX: usize = 32;
/// Shapes a table can have; their numbers then take three bytes at most.
const SHAPES_LIMIT: usize = 1 << 20;

/// What stands before a shape's text where shapes are kept.
const KEPT_HEAD: usize = 3;

const MAGIC: u32 = u32::from_le_bytes(*b"RWSH");
/// Raised with any change of tags, words or layout.
const VERSION: u32 = 2;

/// What became of objects in this table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Shapes held.
    pub shapes: usize,
    /// Bytes that they take.
    pub bytes: usize,
    /// Objects that got a general shape because their key sequence has many, or the table is nearly full.
    pub generalised: u64,
    /// Objects that had to carry their keys: the table is full, or they are too large for it.
    pub refused: u64,
}

/// A place of the table.
#[derive(Default)]
struct Record {
    shape: OnceLock<Shape>,
    /// How many shapes with constants a general one has.
    variants: AtomicU16,
}

/// The table.
pub struct Shapes {
    /// Places by the text's hash: half of the hash above the number, 0 while free. Twice as many as records.
    index: Box<[AtomicU64]>,
    records: Box<[Record]>,
    /// Of `records`, how many at the front are set: shapes with constants.
    own: AtomicU32,
    /// And at the end: general ones.
    general: AtomicU32,
    /// Bytes that shapes take.
    used: AtomicUsize,
    generalised: AtomicU64,
    refused: AtomicU64,
    /// Held by whoever adds.
    adding: Mutex<()>,
    /// Where shapes are written before anybody is told of them: bytes written, then for each general u8 | length u16 |
    /// text.
    kept: Option<Words>,
}

impl Default for Shapes {
    fn default() -> Shapes {
        Shapes::with_capacity(SHAPES_DEFAULT)
    }
}

impl Shapes {
    /// An empty table for `shapes_max` shapes (1 to a million).
    pub fn with_capacity(shapes_max: usize) -> Shapes {
        let shapes_max = shapes_max.clamp(1, SHAPES_LIMIT);
        let slots = (2 * shapes_max).next_power_of_two();
        Shapes {
            index: (0..slots).map(|_| AtomicU64::new(0)).collect(),
            records: (0..shapes_max).map(|_| Record::default()).collect(),
            own: AtomicU32::new(0),
            general: AtomicU32::new(0),
            used: AtomicUsize::new(0),
            generalised: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            adding: Mutex::new(()),
            kept: None,
        }
    }

    /// Bytes that its shapes may take together.
    fn bytes_max(&self) -> usize {
        (self.records.len() * SHAPE_BYTES).max(3 * SHAPE_BYTES_MAX)
    }

    /// Bytes it takes when it is full.
    pub fn memory_bytes_max(&self) -> usize {
        size_of_val(&*self.index) + size_of_val(&*self.records) + self.bytes_max()
    }

    /// Bytes it takes now.
    pub fn memory_bytes(&self) -> usize {
        size_of_val(&*self.index) + size_of_val(&*self.records) + self.used.load(Ordering::Relaxed)
    }

    /// The table as bytes, for [`Shapes::from_bytes`]: a head, then for each shape variants u16 | length u16 | text.
    pub fn to_bytes(&self) -> Vec<u8> {
        let _guard = self.adding.lock();
        let (own, general) = (self.own.load(Ordering::Relaxed), self.general.load(Ordering::Relaxed));
        let mut out = Vec::new();
        for word in [MAGIC, VERSION, self.records.len() as u32, own, general] {
            out.extend_from_slice(&word.to_le_bytes());
        }
        let end = self.records.len() as u32;
        for id in (1..=own).chain((end - general + 1..=end).rev()) {
            if let Some(shape) = self.get(id.into()) {
                out.extend_from_slice(&self.variants(id).to_le_bytes());
                out.extend_from_slice(&(shape.text.len() as u16).to_le_bytes());
                out.extend_from_slice(&shape.text);
            }
        }
        out
    }

    /// A table from what [`Shapes::to_bytes`] gave. Everything is checked.
    ///
    /// # Errors
    /// [`Error::Damaged`] when this build did not write it.
    pub fn from_bytes(bytes: &[u8]) -> Result<Shapes, Error> {
        let (head, mut rest) = bytes.split_at_checked(20).ok_or(Error::Damaged)?;
        let word = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let (shapes_max, own, general) = (word(8) as usize, word(12), word(16));
        let sound = word(0) == MAGIC && word(4) == VERSION && (1..=SHAPES_LIMIT).contains(&shapes_max);
        if !sound || u64::from(own) + u64::from(general) > shapes_max as u64 {
            return Err(Error::Damaged);
        }
        let shapes = Shapes::with_capacity(shapes_max);
        for number in 0..own + general {
            let (&[a, b, c, d], after) = rest.split_first_chunk().ok_or(Error::Damaged)?;
            let length = usize::from(u16::from_le_bytes([c, d]));
            let (text, after) = after.split_at_checked(length).ok_or(Error::Damaged)?;
            check(text)?;
            if shapes.find(hash(text), text).is_some() {
                return Err(Error::Damaged);
            }
            let id = shapes.add(text, number >= own).ok_or(Error::Damaged)?;
            shapes.records[id as usize - 1].variants.store(u16::from_le_bytes([a, b]), Ordering::Relaxed);
            rest = after;
        }
        if rest.is_empty() { Ok(shapes) } else { Err(Error::Damaged) }
    }

    /// Words that it needs to be kept.
    pub fn kept_words(&self) -> usize {
        1 + (self.bytes_max() + self.records.len() * KEPT_HEAD).div_ceil(WORD)
    }

    /// Reads the shapes that an earlier process has kept in `kept` and goes on there. The table is empty before.
    ///
    /// # Errors
    /// [`Error::Damaged`] when this build did not write them.
    pub fn keep_in(&mut self, kept: Words) -> Result<(), Error> {
        let length = usize::try_from(words::word(kept.all(), 0)).map_err(|_| Error::Damaged)?;
        let bytes = words::read_bytes(kept.all(), WORD, length);
        if bytes.len() != length {
            return Err(Error::Damaged);
        }
        let (mut rest, mut text_general) = (bytes.as_slice(), Vec::new());
        while let Some((&[general, a, b], after)) = rest.split_first_chunk() {
            let length = usize::from(u16::from_le_bytes([a, b]));
            let (text, after) = after.split_at_checked(length).ok_or(Error::Damaged)?;
            check(text)?;
            generalise(text, &mut text_general);
            let is_general = general == 1;
            let sound = general <= 1 && is_general == (*text == *text_general);
            if !sound || self.find(hash(text), text).is_some() {
                return Err(Error::Damaged);
            }
            self.add(text, is_general).ok_or(Error::Damaged)?;
            if !is_general {
                // The general one comes first, and counts those that have constants.
                let id = self.find(hash(&text_general), &text_general).ok_or(Error::Damaged)?;
                let variants = self.records[id as usize - 1].variants.get_mut();
                *variants =
                    variants.checked_add(1).filter(|count| *count <= VARIANTS_MAX).ok_or(Error::Damaged)?;
            }
            rest = after;
        }
        self.kept = Some(kept);
        if rest.is_empty() { Ok(()) } else { Err(Error::Damaged) }
    }

    /// Writes a shape behind those that are kept; false when there is no room.
    fn keep(&self, text: &[u8], general: bool) -> bool {
        let Some(kept) = &self.kept else { return true };
        let all = kept.all();
        let used = words::word(all, 0) as usize;
        let [a, b] = (text.len() as u16).to_le_bytes();
        let head = [u8::from(general), a, b];
        let start = WORD.saturating_add(used);
        let done = words::put_bytes(all, start, &head) && words::put_bytes(all, start + KEPT_HEAD, text);
        if done {
            words::in_order();
            words::put_word(all, 0, (used + KEPT_HEAD + text.len()) as u64);
            words::in_order();
        }
        done
    }

    /// What the table holds and what it could not take.
    pub fn stats(&self) -> Stats {
        Stats {
            shapes: self.count(),
            bytes: self.used.load(Ordering::Relaxed),
            generalised: self.generalised.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
        }
    }

    /// The shape of that number.
    #[inline]
    pub(super) fn get(&self, id: u64) -> Option<&Shape> {
        let place = usize::try_from(id.checked_sub(1)?).ok()?;
        self.records.get(place)?.shape.get()
    }

    /// How many there are.
    fn count(&self) -> usize {
        self.own.load(Ordering::Acquire) as usize + self.general.load(Ordering::Acquire) as usize
    }

    fn variants(&self, id: u32) -> u16 {
        self.records[id as usize - 1].variants.load(Ordering::Acquire)
    }

    /// The number of the shape with this text.
    #[inline]
    fn find(&self, hash: u64, text: &[u8]) -> Option<u32> {
        let mask = self.index.len() - 1;
        let mut slot = hash as usize & mask;
        // Ends: at most half of the slots are taken.
        loop {
            // Whoever sees a number also sees what it stands for.
            let entry = self.index[slot].load(Ordering::Acquire);
            if entry == 0 {
                return None;
            }
            let id = entry as u32;
            if entry >> 32 == hash >> 32 && self.get(id.into()).is_some_and(|shape| *shape.text == *text) {
                return Some(id);
            }
            slot = (slot + 1) & mask;
        }
    }

    /// Whether the part of the table that shapes with constants may have is taken.
    fn is_nearly_full(&self) -> bool {
        let (count, used) = (self.count(), self.used.load(Ordering::Acquire));
        let (shapes_max, bytes_max) = (self.records.len(), self.bytes_max());
        count >= shapes_max - shapes_max / 4 || used >= bytes_max - bytes_max / 4
    }

    /// Adds a shape that is not there; its number, if there is room. Whoever calls it holds `adding`, or has the
    /// table alone.
    fn add(&self, text: &[u8], general: bool) -> Option<u32> {
        let used = self.used.load(Ordering::Relaxed);
        // What is full stays full, even if a smaller shape had room: an object must not get another form later.
        let full = self.count() == self.records.len() || self.bytes_max() - used < SHAPE_BYTES_MAX;
        if text.len() > SHAPE_TEXT_MAX || full {
            return None;
        }
        let counter = if general { &self.general } else { &self.own };
        let count = counter.load(Ordering::Relaxed);
        let id = if general { self.records.len() as u32 - count } else { count + 1 };
        let shape = Shape::new(text).ok()?;
        let bytes = shape.bytes();
        // Before any value can use it.
        if !self.keep(text, general) {
            return None;
        }
        self.records[id as usize - 1].shape.set(shape).ok()?;
        let (hash, mask) = (hash(text), self.index.len() - 1);
        let mut slot = hash as usize & mask;
        while self.index[slot].load(Ordering::Relaxed) != 0 {
            slot = (slot + 1) & mask;
        }
        self.index[slot].store(hash >> 32 << 32 | u64::from(id), Ordering::Release);
        // Behind the index: whoever sees a limit reached also sees all that was added before.
        counter.store(count + 1, Ordering::Release);
        self.used.store(used + bytes, Ordering::Release);
        Some(id)
    }

    /// The number for an object with `keys` keys and this text; the second is true when it is the general one.
    /// `general` is scratch.
    #[inline]
    pub(super) fn intern(&self, text: &[u8], keys: usize, general: &mut Vec<u8>) -> Option<(u32, bool)> {
        let specific = keys <= SPECIFIC_KEYS_MAX;
        if specific && let Some(id) = self.find(hash(text), text) {
            return Some((id, false));
        }
        self.intern_rare(text, specific, general)
    }

    /// For shapes that are new, and for objects that get no shape of their own.
    #[cold]
    fn intern_rare(&self, text: &[u8], specific: bool, general: &mut Vec<u8>) -> Option<(u32, bool)> {
        let found = if text.len() > SHAPE_TEXT_MAX || keys_are_data(text) {
            None
        } else {
            generalise(text, general);
            self.intern_either(text, specific, general)
        };
        match found {
            None => self.refused.fetch_add(1, Ordering::Relaxed),
            Some((_, true)) => self.generalised.fetch_add(1, Ordering::Relaxed),
            Some((_, false)) => 0,
        };
        found
    }

    fn intern_either(&self, text: &[u8], specific: bool, general: &[u8]) -> Option<(u32, bool)> {
        let general_hash = hash(general);
        if let Some(id) = self.find(general_hash, general)
            && (!specific || self.variants(id) >= VARIANTS_MAX || self.is_nearly_full())
        {
            // Another thread may have added the last one since the first look.
            let own = if specific { self.find(hash(text), text) } else { None };
            return Some(own.map_or((id, true), |own| (own, false)));
        }
        let _guard = self.adding.lock();
        // Another thread may have been faster.
        if specific && let Some(id) = self.find(hash(text), text) {
            return Some((id, false));
        }
        let id = self.find(general_hash, general).or_else(|| self.add(general, true))?;
        let variants = self.variants(id);
        if specific
            && variants < VARIANTS_MAX
            && !self.is_nearly_full()
            && let Some(own) = self.add(text, false)
        {
            self.records[id as usize - 1].variants.store(variants + 1, Ordering::Release);
            return Some((own, false));
        }
        Some((id, true))
    }
}

/// Tells builds whose encoded bytes mean something else from this one: a sum of what they refer to by number.
pub fn layout() -> u64 {
    let texts = CONSTANTS.iter().map(|constant| constant.text.as_bytes()).chain(coded::table());
    words::sum(std::iter::once(u64::from(VERSION)).chain(texts.map(hash)))
}

/// Folds eight bytes at a time. Not against enemies: keys come from Discord, and a full table stays correct.
#[inline]
fn hash(text: &[u8]) -> u64 {
    const K: u64 = 0x9e37_79b9_7f4a_7c15;
    let (words, tail) = text.as_chunks::<8>();
    let fold = |hash: u64, word: u64| (hash.rotate_left(5) ^ word).wrapping_mul(K);
    let hash = words.iter().fold(text.len() as u64, |hash, word| fold(hash, u64::from_le_bytes(*word)));
    let mut last = [0; 8];
    last[..tail.len()].copy_from_slice(tail);
    let hash = fold(hash, u64::from_le_bytes(last));
    hash ^ (hash >> 32)
}
