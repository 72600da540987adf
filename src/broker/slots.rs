//! Values with a name that is never used twice: an index and the generation of its slot. A key that outlives its value
//! finds nothing.

/// Names a value in a [`Slots`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    index: u32,
    generation: u32,
}

impl Key {
    /// Names nothing, and sorts before every other key.
    pub(super) const NONE: Key = Key { index: 0, generation: 0 };
}

/// Slots that are kept when all are free.
const SLOTS_KEPT: usize = 4096;

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    value: Option<T>,
}

#[derive(Debug)]
pub(super) struct Slots<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
    /// The generation of new slots: above all that there were.
    generation: u32,
    /// The highest generation that was given to a key.
    last_generation: u32,
}

impl<T> Default for Slots<T> {
    fn default() -> Slots<T> {
        Slots { slots: Vec::new(), free: Vec::new(), generation: 1, last_generation: 1 }
    }
}

impl<T> Slots<T> {
    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(super) fn insert(&mut self, value: T) -> Key {
        if let Some(index) = self.free.pop()
            && let Some(slot) = self.slots.get_mut(index as usize)
        {
            slot.value = Some(value);
            return Key { index, generation: slot.generation };
        }
        // Each caller has a limit far below 2^32.
        let index = self.slots.len() as u32;
        self.slots.push(Slot { generation: self.generation, value: Some(value) });
        Key { index, generation: self.generation }
    }

    pub(super) fn get(&self, key: Key) -> Option<&T> {
        let slot = self.slots.get(key.index as usize)?;
        if slot.generation == key.generation { slot.value.as_ref() } else { None }
    }

    pub(super) fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        let slot = self.slots.get_mut(key.index as usize)?;
        if slot.generation == key.generation { slot.value.as_mut() } else { None }
    }

    pub(super) fn remove(&mut self, key: Key) -> Option<T> {
        let slot = self.slots.get_mut(key.index as usize)?;
        if slot.generation != key.generation {
            return None;
        }
        let value = slot.value.take()?;
        // Generation 0 is NONE's; a slot that has seen them all begins again at 1.
        slot.generation = slot.generation.checked_add(1).unwrap_or(1);
        self.last_generation = self.last_generation.max(slot.generation);
        self.free.push(key.index);
        if self.len() == 0 && self.slots.len() > SLOTS_KEPT {
            // A burst's room is given back.
            let generation = self.last_generation;
            *self = Slots { generation, last_generation: generation, ..Slots::default() };
        }
        Some(value)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.slots.iter_mut().filter_map(|slot| slot.value.as_mut())
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Key, &T)> {
        self.slots.iter().enumerate().filter_map(|(index, slot)| {
            let key = Key { index: index as u32, generation: slot.generation };
            slot.value.as_ref().map(|value| (key, value))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_key_finds_nothing() {
        let mut slots = Slots::default();
        let a = slots.insert("a");
        assert_eq!((slots.get(a), slots.len()), (Some(&"a"), 1));
        assert_eq!(slots.remove(a), Some("a"));
        let b = slots.insert("b");
        assert_eq!((slots.remove(a), slots.get(a), slots.get(b)), (None, None, Some(&"b")));
        assert_eq!(slots.get(Key::NONE), None);
        assert_eq!(slots.iter().map(|(key, _)| key).collect::<Vec<_>>(), [b]);
    }

    #[test]
    fn a_bursts_room_is_given_back_and_its_keys_stay_stale() {
        let mut slots = Slots::default();
        let keys: Vec<Key> = (0..SLOTS_KEPT + 1).map(|n| slots.insert(n)).collect();
        keys.iter().for_each(|key| assert!(slots.remove(*key).is_some()));
        assert_eq!((slots.slots.capacity(), slots.len()), (0, 0));
        let again = slots.insert(7);
        assert!(keys.iter().all(|key| slots.get(*key).is_none()));
        assert_eq!(slots.get(again), Some(&7));
    }
}
