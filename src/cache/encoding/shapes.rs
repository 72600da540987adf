//! The table of shapes: what objects that differ in values alone have in common, kept once.
//!
//! Enters: an object's text with its small constants in place and a tag (a byte below 0x20, which JSON text never
//! has) where a value varies. Leaves: a number from 1 on, and the text again. Never here: values that vary.
//!
//! ```text
//! {"premium_since":null,"pending":false,"nick":<STRING>,"mute":false,"roles":<ARRAY>}
//! ```
//!
//! The table is one run of bytes of fixed length with offsets inside, so that it can live in a mapped region:
//!
//! ```text
//! magic u32 | version u32 | shapes_max u32 | count u32 | used u32 | index u32 * slots | offset u32 * shapes_max | records
//! record    variants u16 | length u16 | holes u16 | position u16 * holes | text
//! ```
//!
//! Shapes are never freed: Discord's objects have a few hundred, a count per entity would cost a write to shared
//! memory with each change, and a table that only grows needs no care for entities that still name a shape. What
//! could grow without end is held by three limits, each with the same answer, a larger form of the object:
//! one key sequence gets [`VARIANTS_MAX`] shapes and then a general one, whose holes are tagged in the object; the
//! last quarter of the table takes general ones alone; with the table full, objects carry their keys themselves.

use super::{CONSTANTS, Error, scalars, tag};

/// Shapes of a table unless told otherwise. The three guilds of the corpus have 199 (`benches/encoding.rs`).
pub const SHAPES_DEFAULT: usize = 4_096;
/// Bytes of records per shape, on average; the corpus's need 161.
const RECORD_BYTES: usize = 256;
/// Longest text of a shape; longer objects (a guild is about 1,500) carry their keys themselves.
pub const SHAPE_TEXT_MAX: usize = 4_096;
/// Shapes with constants in place per key sequence.
pub const VARIANTS_MAX: u16 = 256;
/// Keys beyond which an object only gets a general shape: nearly every guild has a set of constants of its own.
pub const SPECIFIC_KEYS_MAX: usize = 32;
/// Shapes a table can have; their numbers then take three bytes at most.
const SHAPES_LIMIT: usize = 1 << 20;

const MAGIC: u32 = u32::from_le_bytes(*b"RWSH");
/// Raised with any change of tags, words or layout.
const VERSION: u32 = 1;
const HEADER: usize = 20;
const RECORD_HEADER: usize = 6;

/// What became of objects in this table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Shapes held.
    pub shapes: usize,
    /// Bytes of records used, of those there are.
    pub bytes: usize,
    /// Objects that got a general shape because their key sequence has many, or the table is nearly full.
    pub generalised: u64,
    /// Objects that had to carry their keys: the table is full, or they are too large for it.
    pub refused: u64,
}

/// The table.
pub struct Shapes {
    region: Vec<u8>,
    shapes_max: usize,
    generalised: u64,
    refused: u64,
}

/// One shape, for reading.
#[derive(Clone, Copy)]
pub(super) struct Shape<'a> {
    pub text: &'a [u8],
    /// Where the holes are, as u16.
    positions: &'a [u8],
}

impl<'a> Shape<'a> {
    /// Offsets of the holes in the text, rising.
    #[inline]
    pub fn holes(&self) -> impl Iterator<Item = usize> + use<'a> {
        self.positions.chunks_exact(2).map(|pair| usize::from(u16::from_le_bytes([pair[0], pair[1]])))
    }
}

impl Default for Shapes {
    fn default() -> Shapes {
        Shapes::with_capacity(SHAPES_DEFAULT)
    }
}

fn index_slots(shapes_max: usize) -> usize {
    (2 * shapes_max).next_power_of_two()
}

fn heap_start(shapes_max: usize) -> usize {
    HEADER + 4 * index_slots(shapes_max) + 4 * shapes_max
}

impl Shapes {
    /// An empty table for `shapes_max` shapes (1 to a million); its memory is taken here, once.
    pub fn with_capacity(shapes_max: usize) -> Shapes {
        let shapes_max = shapes_max.clamp(1, SHAPES_LIMIT);
        let bytes = heap_start(shapes_max) + (shapes_max * RECORD_BYTES).max(2 * SHAPE_TEXT_MAX);
        let mut shapes = Shapes { region: vec![0; bytes], shapes_max, generalised: 0, refused: 0 };
        shapes.set(0, MAGIC);
        shapes.set(4, VERSION);
        shapes.set(8, shapes_max as u32);
        shapes
    }

    /// The table as bytes, for [`Shapes::from_bytes`].
    pub fn as_bytes(&self) -> &[u8] {
        &self.region
    }

    /// A table from what [`Shapes::as_bytes`] gave. Everything is checked, the index is built anew.
    ///
    /// # Errors
    /// [`Error::Damaged`] when this build did not write it.
    pub fn from_bytes(bytes: &[u8]) -> Result<Shapes, Error> {
        let word = |at: usize| bytes.get(at..at + 4).map(|four| le(four) as usize).ok_or(Error::Damaged);
        let (shapes_max, count, used) = (word(8)?, word(12)?, word(16)?);
        let sound = word(0)? == MAGIC as usize && word(4)? == VERSION as usize;
        if !sound || !(1..=SHAPES_LIMIT).contains(&shapes_max) || count > shapes_max {
            return Err(Error::Damaged);
        }
        let mut shapes = Shapes::with_capacity(shapes_max);
        if bytes.len() != shapes.region.len() || used > bytes.len() - heap_start(shapes_max) {
            return Err(Error::Damaged);
        }
        let offsets = HEADER + 4 * index_slots(shapes_max);
        for number in 0..count {
            let at = heap_start(shapes_max) + word(offsets + 4 * number)?;
            let half = |at: usize| bytes.get(at..at + 2).map(|two| u16::from_le_bytes([two[0], two[1]]));
            let (variants, length, holes) =
                (half(at), half(at + 2).ok_or(Error::Damaged)?, half(at + 4).ok_or(Error::Damaged)?);
            let from = at + RECORD_HEADER + 2 * usize::from(holes);
            let text = bytes.get(from..from + usize::from(length)).ok_or(Error::Damaged)?;
            check(text)?;
            if shapes.insert(text) != Some(number as u32 + 1) {
                return Err(Error::Damaged);
            }
            shapes.set_variants(number as u32 + 1, variants.unwrap_or(0));
        }
        Ok(shapes)
    }

    /// What the table holds and what it could not take.
    pub fn stats(&self) -> Stats {
        Stats {
            shapes: self.get_word(12) as usize,
            bytes: self.get_word(16) as usize,
            generalised: self.generalised,
            refused: self.refused,
        }
    }

    #[inline]
    fn get_word(&self, at: usize) -> u32 {
        le(&self.region[at..at + 4])
    }

    fn set(&mut self, at: usize, value: u32) {
        self.region[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }

    /// Where the record of shape `id` starts.
    #[inline]
    fn record(&self, id: u32) -> Option<usize> {
        if id == 0 || id > self.get_word(12) {
            return None;
        }
        let offsets = HEADER + 4 * index_slots(self.shapes_max);
        Some(heap_start(self.shapes_max) + self.get_word(offsets + 4 * (id as usize - 1)) as usize)
    }

    /// The shape of that number.
    #[inline]
    pub(super) fn get(&self, id: u64) -> Option<Shape<'_>> {
        let at = self.record(u32::try_from(id).ok()?)?;
        let half = |at: usize| usize::from(u16::from_le_bytes([self.region[at], self.region[at + 1]]));
        let (length, holes) = (half(at + 2), half(at + 4));
        let from = at + RECORD_HEADER;
        let (positions, rest) = self.region[from..].split_at(2 * holes);
        Some(Shape { text: &rest[..length], positions })
    }

    fn variants(&self, id: u32) -> u16 {
        self.record(id).map_or(0, |at| u16::from_le_bytes([self.region[at], self.region[at + 1]]))
    }

    fn set_variants(&mut self, id: u32, variants: u16) {
        if let Some(at) = self.record(id) {
            self.region[at..at + 2].copy_from_slice(&variants.to_le_bytes());
        }
    }

    /// The number of the shape with this text.
    #[inline]
    fn find(&self, text: &[u8]) -> Option<u32> {
        let mask = index_slots(self.shapes_max) - 1;
        let mut slot = hash(text) as usize & mask;
        // Ends: at most half of the slots are taken.
        loop {
            match self.get_word(HEADER + 4 * slot) {
                0 => return None,
                id if self.get(id.into()).is_some_and(|shape| shape.text == text) => return Some(id),
                _ => slot = (slot + 1) & mask,
            }
        }
    }

    /// Adds a shape that is not there; its number, if there is room.
    fn insert(&mut self, text: &[u8]) -> Option<u32> {
        let (count, used) = (self.get_word(12) as usize, self.get_word(16) as usize);
        let holes = text.iter().filter(|&&byte| byte < 0x20).count();
        let at = heap_start(self.shapes_max) + used;
        let length = RECORD_HEADER + 2 * holes + text.len();
        if count == self.shapes_max || text.len() > SHAPE_TEXT_MAX || self.region.len() - at < length {
            return None;
        }
        let record = &mut self.region[at..at + length];
        record[2..4].copy_from_slice(&(text.len() as u16).to_le_bytes());
        record[4..6].copy_from_slice(&(holes as u16).to_le_bytes());
        let (positions, to) = record[RECORD_HEADER..].split_at_mut(2 * holes);
        let places = text.iter().enumerate().filter(|(_, byte)| **byte < 0x20);
        for (pair, (place, _)) in positions.chunks_exact_mut(2).zip(places) {
            pair.copy_from_slice(&(place as u16).to_le_bytes());
        }
        to.copy_from_slice(text);
        let id = count as u32 + 1;
        self.set(HEADER + 4 * index_slots(self.shapes_max) + 4 * count, used as u32);
        self.set(12, id);
        self.set(16, (used + length) as u32);
        let mask = index_slots(self.shapes_max) - 1;
        let mut slot = hash(text) as usize & mask;
        while self.get_word(HEADER + 4 * slot) != 0 {
            slot = (slot + 1) & mask;
        }
        self.set(HEADER + 4 * slot, id);
        Some(id)
    }

    /// The number for an object with `keys` keys and this text; the second is true when it is the general one.
    #[inline]
    pub(super) fn intern(&mut self, text: &[u8], keys: usize) -> Option<(u32, bool)> {
        let specific = keys <= SPECIFIC_KEYS_MAX;
        if specific && let Some(id) = self.find(text) {
            return Some((id, false));
        }
        let found = self.intern_new(text, specific);
        match found {
            None => self.refused += 1,
            Some((_, true)) => self.generalised += 1,
            Some((_, false)) => {}
        }
        found
    }

    /// Allocates a text; for shapes that are new, and for objects that get no shape of their own.
    #[cold]
    fn intern_new(&mut self, text: &[u8], specific: bool) -> Option<(u32, bool)> {
        if text.len() > SHAPE_TEXT_MAX || keys_are_data(text) {
            return None;
        }
        let mut general = Vec::with_capacity(text.len());
        generalise(text, &mut general);
        let id = self.find(&general).or_else(|| self.insert(&general))?;
        let variants = self.variants(id);
        let (count, used) = (self.get_word(12) as usize, self.get_word(16) as usize);
        let heap = self.region.len() - heap_start(self.shapes_max);
        let room = count < self.shapes_max - self.shapes_max / 4 && used < heap - heap / 4;
        if specific
            && room
            && variants < VARIANTS_MAX
            && let Some(own) = self.insert(text)
        {
            self.set_variants(id, variants + 1);
            return Some((own, false));
        }
        Some((id, true))
    }
}

#[inline]
fn le(four: &[u8]) -> u32 {
    u32::from_le_bytes([four[0], four[1], four[2], four[3]])
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

/// What stands behind a key in a shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hole {
    /// A value with this tag, or any, with its tag in the object.
    Tag(u8),
    /// One of [`CONSTANTS`].
    Constant(usize),
}

/// The keys of a shape's text in order, as they stand between the quotes.
pub(super) struct Keys<'a>(pub &'a [u8]);

impl<'a> Keys<'a> {
    /// The next key and what is behind it; `None` at the end.
    pub fn next(&mut self) -> Result<Option<(&'a [u8], Hole)>, Error> {
        let rest = match self.0 {
            [b'}'] => return Ok(None),
            [b'{' | b',', b'"', rest @ ..] => rest,
            _ => return Err(Error::Damaged),
        };
        let end = key_end(rest).ok_or(Error::Damaged)?;
        let (key, rest) = (&rest[..end], rest[end + 1..].strip_prefix(b":").ok_or(Error::Damaged)?);
        if let [tag @ 0..0x20, rest @ ..] = rest {
            self.0 = rest;
            return Ok(Some((key, Hole::Tag(*tag))));
        }
        for (at, (text, ..)) in CONSTANTS.iter().enumerate() {
            if let Some(rest) = rest.strip_prefix(text.as_bytes()) {
                self.0 = rest;
                return Ok(Some((key, Hole::Constant(at))));
            }
        }
        Err(Error::Damaged)
    }
}

/// The closing quote of a key.
fn key_end(text: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        match text.get(at)? {
            b'"' => return Some(at),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

/// Whether `text` is a shape's: every key a JSON string, every hole a tag.
fn check(text: &[u8]) -> Result<(), Error> {
    let mut keys = Keys(text);
    if text.first() != Some(&b'{') {
        return Err(Error::Damaged);
    }
    let mut count = 0;
    while let Some((key, hole)) = keys.next()? {
        let known = match hole {
            Hole::Tag(tag) => (tag::ANY..=tag::LAST).contains(&tag),
            Hole::Constant(_) => true,
        };
        if !known || !scalars::is_string_text(key) {
            return Err(Error::Damaged);
        }
        count += 1;
    }
    if count == 0 { Err(Error::Damaged) } else { Ok(()) }
}

/// Writes `text` with a hole for any value behind each key.
fn generalise(text: &[u8], out: &mut Vec<u8>) {
    let mut keys = Keys(text);
    let mut first = true;
    while let Ok(Some((key, _))) = keys.next() {
        out.extend_from_slice(if first { b"{\"" } else { b",\"" });
        out.extend_from_slice(key);
        out.extend_from_slice(&[b'"', b':', tag::ANY]);
        first = false;
    }
    out.push(b'}');
}

/// Whether a key is an id: objects that map ids to things would each be a shape of their own.
fn keys_are_data(text: &[u8]) -> bool {
    let mut keys = Keys(text);
    while let Ok(Some((key, _))) = keys.next() {
        if key.len() > 5 && key.iter().all(u8::is_ascii_digit) {
            return true;
        }
    }
    false
}
