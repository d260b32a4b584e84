//! The values of keys of a shard: sets of slots, of which a key can be in one.
//!
//! Which goes first is found with a hand that goes around: what was read since it came by last stays once more. That is
//! nearly the order in which they were read last, and a read changes nothing but a mark in the slot that it looks
//! at anyhow. (The idea is the CLOCK of page caches: Corbato, 1968.)
//!
//! # Invariants
//!
//! 1. A value is in the set that its hash says. There are no traces of what is gone, so that the table does not
//!    wear out.
//! 2. Values are told apart by half of the hash: there is at most one of a half, if whoever stores one
//!    [removes](Values::remove) what has that half first. The key is compared on every read.
//! 3. A slot's generation is its epoch, counted from `base_epoch`. When there are more epochs than that counts,
//!    everything goes. What is not of the newest generation cannot be found any more, and goes before all else.

use super::SharedBytes;
use super::shard::Key;

/// Slots of a set: two lines of the processor's cache.
const WAYS: usize = 8;

/// The table grows when more than so many of eight slots are full: else sets would overflow.
const FULL_OF_EIGHT: usize = 5;

/// It becomes smaller when less than one of so many slots is full.
const SPARSE_SHARE: usize = 8;

/// The table begins with a set for so many bytes of the limit, which is an eighth of what it grows to with
/// values of 150 bytes: in a small table a few values that are read all the time would share a set.
const BYTES_PER_SET: usize = 8 << 10;

/// But with no more than so many, 2 MiB, however large the limit: it grows soon enough where much comes in.
const MOST_FIRST_SETS: usize = 1 << 14;

#[derive(Debug, Default)]
struct Slot {
    value: Option<SharedBytes>,
    /// The half of its hash that the choice of the shard does not use.
    half: u32,
    /// Invariant 3.
    generation: u16,
    is_read: bool,
}

impl Slot {
    fn bytes(&self) -> usize {
        self.value.as_ref().map_or(0, SharedBytes::memory_bytes)
    }
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
    /// The newest generation that was stored.
    newest: u16,
    /// Of the table when it is made, with the first value.
    first_sets: usize,
}

fn half_of(hash: u64) -> u32 {
    hash as u32
}

impl Values {
    pub(super) fn new(limit_bytes: usize) -> Self {
        Values {
            first_sets: (limit_bytes / BYTES_PER_SET)
                .min(MOST_FIRST_SETS)
                .next_power_of_two(),
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

    fn slots(&self) -> usize {
        self.sets.len() * WAYS
    }

    #[inline]
    fn set_of(&mut self, half: u32) -> Option<&mut Set> {
        let mask = self.sets.len().wrapping_sub(1);
        self.sets.get_mut(half as usize & mask)
    }

    #[inline]
    pub(super) fn get(&mut self, key: &Key<'_>) -> Option<SharedBytes> {
        let generation = key.epoch.wrapping_sub(self.base_epoch);
        let half = half_of(key.hash);
        for slot in &mut self.set_of(half)?.0 {
            if slot.half == half
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
        self.len * 8 >= self.slots() * FULL_OF_EIGHT
    }

    /// What the table takes more when it has [grown](Self::grow).
    pub(super) fn growth_bytes(&self) -> usize {
        self.table_bytes().max(self.first_sets * size_of::<Set>())
    }

    /// Makes the table, or makes it twice as large.
    pub(super) fn grow(&mut self) {
        let count = (self.sets.len() * 2).max(self.first_sets);
        self.resize(count); // a set's slots go to two: there is room for each
    }

    /// Gives half of the table back if nearly all of it is empty. Returns how many values are gone: where two sets
    /// become one, not all may fit.
    pub(super) fn shrink(&mut self) -> u64 {
        if self.len * SPARSE_SHARE >= self.slots() || self.sets.len() <= self.first_sets {
            return 0;
        }
        let before = self.len;
        self.resize(self.sets.len() / 2);
        (before - self.len) as u64
    }

    fn resize(&mut self, count: usize) {
        let before = std::mem::take(&mut self.sets);
        self.sets.resize_with(count, Set::default);
        self.hand = 0;
        for slot in before.into_iter().flat_map(|set| set.0) {
            let mut set = self.set_of(slot.half).map(|set| set.0.iter_mut());
            let free = set
                .as_mut()
                .and_then(|set| set.find(|slot| slot.value.is_none()));
            match free {
                Some(free) => *free = slot,
                None => _ = self.gone(slot),
            }
        }
    }

    /// Stores a value, if [there is a table](Self::has_table). If its set is full, another one goes. Returns how many
    /// are gone.
    pub(super) fn put(&mut self, key: &Key<'_>, value: SharedBytes) -> u64 {
        let mut gone = 0;
        let generation = key.epoch.wrapping_sub(self.base_epoch);
        let generation = u16::try_from(generation).unwrap_or_else(|_| {
            gone = self.begin_generations(key.epoch);
            0
        });
        self.newest = generation;
        let new = Slot {
            half: half_of(key.hash),
            generation,
            is_read: false,
            value: Some(value),
        };
        let bytes = new.bytes();
        let Some(set) = self.set_of(new.half) else {
            return gone;
        };
        let free = |slot: &Slot| slot.value.is_none();
        let dead = |slot: &Slot| slot.generation != generation;
        let unread = |slot: &Slot| !slot.is_read;
        let find = |of: &dyn Fn(&Slot) -> bool| set.0.iter().position(of);
        let at = find(&free)
            .or_else(|| find(&dead))
            .or_else(|| find(&unread));
        let at = at.unwrap_or_else(|| {
            set.0.iter_mut().for_each(|slot| slot.is_read = false);
            0
        });
        let Some(place) = set.0.get_mut(at) else {
            return gone;
        };
        let old = std::mem::replace(place, new);
        self.len += 1;
        self.value_bytes += bytes;
        gone + u64::from(self.gone(old))
    }

    /// Says whether something was there.
    fn gone(&mut self, old: Slot) -> bool {
        let bytes = old.bytes();
        self.value_bytes -= bytes;
        self.len -= usize::from(bytes > 0);
        bytes > 0
    }

    /// Invariant 3. Returns how many are gone. The table stays as large as it is.
    fn begin_generations(&mut self, epoch: u64) -> u64 {
        for slot in self.sets.iter_mut().flat_map(|set| &mut set.0) {
            *slot = Slot::default();
        }
        self.base_epoch = epoch;
        self.value_bytes = 0;
        std::mem::take(&mut self.len) as u64
    }

    /// Takes what has this half of a hash.
    pub(super) fn remove(&mut self, hash: u64) -> Option<SharedBytes> {
        let half = half_of(hash);
        let mut slots = self.set_of(half)?.0.iter_mut();
        let slot = slots.find(|slot| slot.half == half && slot.value.is_some())?;
        let old = std::mem::take(slot);
        let value = old.value.clone();
        self.gone(old);
        value
    }

    /// Moves the hand on to one that was not read lately, which goes. Says whether there was one.
    pub(super) fn evict(&mut self) -> bool {
        if self.len == 0 {
            return false;
        }
        // Twice around: the first time takes the marks.
        for _ in 0..2 * self.slots() {
            self.hand = (self.hand + 1) % self.slots();
            let set = self.sets.get_mut(self.hand / WAYS);
            let Some(slot) = set.and_then(|set| set.0.get_mut(self.hand % WAYS)) else {
                continue;
            };
            let was_read = std::mem::take(&mut slot.is_read) && slot.generation == self.newest;
            if slot.value.is_some() && !was_read {
                let old = std::mem::take(slot);
                return self.gone(old);
            }
        }
        false
    }
}
