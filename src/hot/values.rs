//! The values of keys of a shard: sets of slots, of which a key can be in one.
//!
//! Which goes first is found with a hand that goes around: what was read since it came by last stays once more. That is
//! nearly the order in which they were read last, and a read changes nothing but a mark in the slot that it looks
//! at anyhow. (The idea is the CLOCK of page caches: Corbato, 1968.)
//!
//! # Invariants
//!
//! 1. A key is in the set that its hash says, at most once, or nowhere. There are no traces of what is gone, so that
//!    the table does not wear out.
//! 2. The key is compared on every read.
//! 3. A slot's generation is its epoch, counted from `base_epoch`. When there are more epochs than that counts,
//!    everything goes.

use super::SharedBytes;
use super::shard::Key;

/// Slots of a set: two lines of the processor's cache.
const WAYS: usize = 8;

/// The table grows when more than so many of eight slots are full: else sets would overflow.
const FULL_OF_EIGHT: usize = 5;

/// The table begins with a set for so many bytes of the limit, which is a sixteenth of what it grows to with
/// values of 150 bytes: in a small table a few values that are read all the time would share a set.
const BYTES_PER_SET: usize = 8 << 10;

#[derive(Debug, Default)]
struct Slot {
    value: Option<SharedBytes>,
    /// The part of its hash that the shards' choice does not use.
    part: u32,
    /// Invariant 3.
    generation: u16,
    is_read: bool,
}

#[derive(Debug, Default)]
#[repr(align(128))]
struct Set([Slot; WAYS]);

#[derive(Debug, Default)]
pub(super) struct Values {
    /// A power of two of them, or none.
    sets: Vec<Set>,
    len: usize,
    /// What the values take.
    value_bytes: usize,
    /// The slot that the hand is at.
    hand: usize,
    base_epoch: u64,
    /// Of the table when it is made, with the first value.
    first_sets: usize,
}

fn part_of(hash: u64) -> u32 {
    hash as u32
}

impl Values {
    pub(super) fn new(limit_bytes: usize) -> Self {
        Values {
            first_sets: (limit_bytes / BYTES_PER_SET).next_power_of_two(),
            ..Values::default()
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn bytes(&self) -> usize {
        self.table_bytes() + self.value_bytes
    }

    fn table_bytes(&self) -> usize {
        self.sets.len() * size_of::<Set>()
    }

    /// What the table takes more when it has [grown](Self::grow).
    pub(super) fn growth_bytes(&self) -> usize {
        self.table_bytes().max(self.first_sets * size_of::<Set>())
    }

    #[inline]
    fn set_of(&mut self, part: u32) -> Option<&mut Set> {
        let mask = self.sets.len().wrapping_sub(1);
        self.sets.get_mut(part as usize & mask)
    }

    #[inline]
    pub(super) fn get(&mut self, key: &Key<'_>) -> Option<SharedBytes> {
        let generation = key.epoch.wrapping_sub(self.base_epoch);
        let part = part_of(key.hash);
        for slot in &mut self.set_of(part)?.0 {
            if slot.part == part
                && u64::from(slot.generation) == generation
                && let Some(value) = &slot.value
                && value.key() == key.bytes
            {
                if !slot.is_read {
                    slot.is_read = true; // else the line stays as it is
                }
                return Some(value.clone());
            }
        }
        None
    }

    pub(super) fn has_table(&self) -> bool {
        !self.sets.is_empty()
    }

    /// Whether sets would overflow with more, or there is no table yet.
    pub(super) fn is_crowded(&self) -> bool {
        self.len * 8 >= self.sets.len() * WAYS * FULL_OF_EIGHT
    }

    /// Makes the table twice as large.
    pub(super) fn grow(&mut self) {
        let count = (self.sets.len() * 2).max(self.first_sets);
        let before = std::mem::take(&mut self.sets);
        self.sets.resize_with(count, Set::default);
        self.hand = 0;
        for slot in before.into_iter().flat_map(|set| set.0) {
            // A set's slots go to two: there is room for each.
            let mut set = self.set_of(slot.part).map(|set| set.0.iter_mut());
            let free = set
                .as_mut()
                .and_then(|set| set.find(|slot| slot.value.is_none()));
            if let Some(free) = free {
                *free = slot;
            }
        }
    }

    /// Stores the value of a key that is not there, if [there is a table](Self::has_table). If its set is full, another one goes. Says whether one did.
    pub(super) fn put(&mut self, key: &Key<'_>, value: SharedBytes) -> bool {
        let Ok(generation) = u16::try_from(key.epoch.wrapping_sub(self.base_epoch)) else {
            // Invariant 3.
            self.clear();
            self.base_epoch = key.epoch;
            return self.put(key, value);
        };
        let new = Slot {
            part: part_of(key.hash),
            generation,
            is_read: false,
            value: Some(value),
        };
        let bytes = new.bytes();
        let Some(set) = self.set_of(new.part) else {
            return false;
        };
        let free = set.0.iter().position(|slot| slot.value.is_none());
        let unread = || set.0.iter().position(|slot| !slot.is_read);
        let at = free.or_else(unread).unwrap_or_else(|| {
            set.0.iter_mut().for_each(|slot| slot.is_read = false);
            0
        });
        let old = std::mem::replace(&mut set.0[at], new);
        self.len += 1;
        self.value_bytes += bytes;
        self.gone(old)
    }

    /// Says whether something was there.
    fn gone(&mut self, old: Slot) -> bool {
        let bytes = old.bytes();
        self.value_bytes -= bytes;
        self.len -= usize::from(bytes > 0);
        bytes > 0
    }

    /// The table stays as large as it is.
    fn clear(&mut self) {
        for slot in self.sets.iter_mut().flat_map(|set| &mut set.0) {
            *slot = Slot::default();
        }
        (self.len, self.value_bytes) = (0, 0);
    }

    /// Takes what has this hash.
    pub(super) fn remove(&mut self, hash: u64) -> Option<SharedBytes> {
        let part = part_of(hash);
        let mut slots = self.set_of(part)?.0.iter_mut();
        let slot = slots.find(|slot| slot.part == part && slot.value.is_some())?;
        let old = std::mem::take(slot);
        let value = old.value.clone();
        self.gone(old);
        value
    }

    /// Moves the hand on to one that was not read lately, which goes. Says whether there was one.
    pub(super) fn evict(&mut self) -> bool {
        // Twice around: the first time takes the marks.
        for _ in 0..2 * self.sets.len() * WAYS {
            self.hand = (self.hand + 1) % (self.sets.len() * WAYS);
            let set = self.sets.get_mut(self.hand / WAYS);
            let Some(slot) = set.and_then(|set| set.0.get_mut(self.hand % WAYS)) else {
                continue;
            };
            if slot.value.is_some() && !std::mem::take(&mut slot.is_read) {
                let old = std::mem::take(slot);
                return self.gone(old);
            }
        }
        false
    }
}

impl Slot {
    fn bytes(&self) -> usize {
        self.value.as_ref().map_or(0, SharedBytes::memory_bytes)
    }
}
